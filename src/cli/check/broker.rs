//! The broker, its queues, and what the user may do there.

use super::Report;
use crate::config::{Config, Topology};
use crate::queue::{self, Purpose, topology};
use crate::telemetry::chain;

pub(super) async fn check(config: &Config, report: &mut Report) {
    let connection =
        match queue::connect(&config.amqp.url, Purpose::Consume, "jobquay check", config.amqp.connect_timeout).await {
            Ok(connection) => connection,
            Err(error) => {
                return report.wrong(
                    "rabbitmq",
                    chain(&error),
                    "start the broker, or set `amqp.url` to where it is and who you are there",
                );
            }
        };
    report.ok("rabbitmq", &config.amqp.url);
    let lanes: Vec<_> = config.lanes.keys().map(|lane| queue::pending_queue(lane)).collect();
    for name in topology::QUEUES.into_iter().chain([queue::POISON]).chain(lanes.iter().map(String::as_str)) {
        let what = format!("queue {name}");
        match topology::look(&connection, name).await {
            Ok((messages, consumers)) => {
                let state = format!("{messages} messages, {consumers} consumers");
                match topology::QUEUES.contains(&name) {
                    true => check_type(&connection, name, &state, report).await,
                    // Its type cannot be asked for without knowing its other arguments.
                    false => report.ok(&what, state),
                }
            }
            Err(error) if config.amqp.topology == Topology::Declare => {
                report.note(&what, format!("`serve` will declare it ({})", chain(&error)))
            }
            Err(error) => report.wrong(
                &what,
                chain(&error),
                "declare it as a durable quorum queue, or set `amqp.topology` to `declare`",
            ),
        }
    }
    if let Some(exchange) = &config.events.exchange {
        let what = format!("exchange {exchange}");
        match topology::look_at_exchange(&connection, exchange).await {
            Ok(()) => report.ok(&what, "there"),
            Err(error) if config.amqp.topology == Topology::Declare => {
                report.note(&what, format!("`serve` will declare it ({})", chain(&error)));
            }
            Err(error) => {
                report.wrong(&what, chain(&error), "declare it as a durable topic exchange, or empty `events.exchange`")
            }
        }
    }
    match topology::may_publish(&connection).await {
        Ok(()) => report.ok("publish to reply queues", "permitted"),
        Err(error) => report.wrong(
            "publish to reply queues",
            chain(&error),
            "give the user write permission on `^amq\\.default$`",
        ),
    }
}

async fn check_type(connection: &lapin::Connection, name: &str, state: &str, report: &mut Report) {
    let what = format!("queue {name}");
    match topology::is_quorum(connection, name).await {
        Ok(true) => report.ok(&what, format!("quorum, {state}")),
        Ok(false) => report.wrong(
            &what,
            "is no durable quorum queue",
            "a classic queue never parks a message that kills its consumer: declare it with x-queue-type=quorum",
        ),
        Err(error) => report.note(&what, format!("{state}; its type cannot be seen by this user ({})", chain(&error))),
    }
}
