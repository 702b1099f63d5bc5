//! The queues that must be there.
//!
//! Each look has a channel of its own: a missing queue or a refused right closes the channel.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::protocol::AMQPSoftError;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ExchangeKind};
use tracing::warn;

use super::{CALL_TIMEOUT, DEAD, DELIVERY_LIMIT, Error, POISON, REQUESTS, UNDELIVERABLE, call, pending_queue, short};
use crate::config::Topology;
use crate::telemetry::chain;

/// The queues of a dispatcher, the first of which it cannot start without.
pub const QUEUES: [&str; 3] = [REQUESTS, DEAD, UNDELIVERABLE];

/// Deliveries of one poisoned request; the policy of deploy/rabbitmq says the same.
const POISON_LIMIT: i64 = 30;

/// Makes or checks what the consumer needs.
pub(super) async fn prepare(
    connection: &Connection,
    topology: Topology,
    exchange: Option<&str>,
    lanes: &[String],
) -> Result<(), Error> {
    match topology {
        Topology::Check => {
            for queue in [POISON, DEAD, UNDELIVERABLE] {
                if let Err(error) = look(connection, queue).await {
                    warn!(queue, error = chain(&error), "cannot see a queue; `jobquay check` says what is missing");
                }
            }
            if let Some(exchange) = exchange
                && let Err(error) = look_at_exchange(connection, exchange).await
            {
                warn!(exchange, error = chain(&error), "cannot see the exchange of `events.exchange`");
            }
            look(connection, REQUESTS).await.map(drop)
        }
        Topology::Declare => {
            for queue in QUEUES {
                declare(connection, queue).await?;
            }
            for lane in lanes {
                declare_pending(connection, &pending_queue(lane)).await?;
            }
            match exchange {
                Some(exchange) => declare_exchange(connection, exchange).await,
                None => Ok(()),
            }
        }
    }
}

/// Whether a queue is there, as far as this user may know: `(messages, consumers)`.
pub async fn look(connection: &Connection, queue: &str) -> Result<(u32, u32), Error> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
    let found =
        call("look at a queue", CALL_TIMEOUT, channel.queue_declare(short(queue)?, passive, FieldTable::default()))
            .await?;
    // Best effort: the answer is known, and an unclosed channel ends with its connection.
    let _ = call("close a channel", CALL_TIMEOUT, channel.close(200, short("looked")?)).await;
    Ok((found.message_count(), found.consumer_count()))
}

/// Whether the exchange is there.
pub async fn look_at_exchange(connection: &Connection, exchange: &str) -> Result<(), Error> {
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
    let looked = channel.exchange_declare(short(exchange)?, ExchangeKind::Topic, passive, FieldTable::default());
    call("look at an exchange", CALL_TIMEOUT, looked).await
}

/// A durable quorum queue. Limits and dead-lettering are left to policies, which can be changed.
async fn declare(connection: &Connection, queue: &str) -> Result<(), Error> {
    let mut arguments = FieldTable::default();
    arguments.insert(short("x-queue-type")?, AMQPValue::LongString("quorum".into()));
    declare_as(connection, queue, arguments).await
}

/// As the queue of requests, but what waits long in a lane is handed back and taken again.
async fn declare_pending(connection: &Connection, queue: &str) -> Result<(), Error> {
    let mut arguments = FieldTable::default();
    arguments.insert(short("x-queue-type")?, AMQPValue::LongString("quorum".into()));
    arguments.insert(short("x-delivery-limit")?, AMQPValue::LongLongInt(DELIVERY_LIMIT));
    declare_as(connection, queue, arguments).await
}

/// With its limit as arguments: without one, what the client cannot read would end every session of the
/// undertaker. RabbitMQ 4.3 counts on from the request queue, so the limit is well above that one's.
pub(super) async fn declare_poison(connection: &Connection) -> Result<(), Error> {
    let mut arguments = FieldTable::default();
    arguments.insert(short("x-queue-type")?, AMQPValue::LongString("quorum".into()));
    arguments.insert(short("x-delivery-limit")?, AMQPValue::LongLongInt(POISON_LIMIT));
    arguments.insert(short("x-dead-letter-exchange")?, AMQPValue::LongString("".into()));
    arguments.insert(short("x-dead-letter-routing-key")?, AMQPValue::LongString(DEAD.into()));
    match declare_as(connection, POISON, arguments).await {
        // It is there with a limit of somebody else's choice.
        Err(error) if error.is_soft(AMQPSoftError::PRECONDITIONFAILED) => {
            warn!(queue = POISON, wanted = POISON_LIMIT, error = chain(&error), "the queue has another limit");
            Ok(())
        }
        declared => declared,
    }
}

async fn declare_as(connection: &Connection, queue: &str, arguments: FieldTable) -> Result<(), Error> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
    call("declare a queue", CALL_TIMEOUT, channel.queue_declare(short(queue)?, durable, arguments)).await?;
    call("close a channel", CALL_TIMEOUT, channel.close(200, short("declared")?)).await
}

async fn declare_exchange(connection: &Connection, exchange: &str) -> Result<(), Error> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
    let declared = channel.exchange_declare(short(exchange)?, ExchangeKind::Topic, durable, FieldTable::default());
    call("declare an exchange", CALL_TIMEOUT, declared).await?;
    call("close a channel", CALL_TIMEOUT, channel.close(200, short("declared")?)).await
}

/// Whether `queue` is a quorum queue, found out by declaring it as one: the same declaration is
/// accepted, another type is refused with 406. Made only for a queue that is there.
pub async fn is_quorum(connection: &Connection, queue: &str) -> Result<bool, Error> {
    match declare(connection, queue).await {
        Ok(()) => Ok(true),
        Err(error) if error.is_soft(AMQPSoftError::PRECONDITIONFAILED) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether this user may publish through the default exchange, found out with a message that no
/// queue can take.
pub async fn may_publish(connection: &Connection) -> Result<(), Error> {
    let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
    call("select confirms", CALL_TIMEOUT, channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let mandatory = BasicPublishOptions { mandatory: true, immediate: false };
    let (exchange, nowhere) = (short("")?, short(&format!("jobquay.check.{}", uuid::Uuid::now_v7()))?);
    let published =
        async { channel.basic_publish(exchange, nowhere, mandatory, b"", BasicProperties::default()).await?.await };
    call("publish", CALL_TIMEOUT, published).await.map(drop)
}
