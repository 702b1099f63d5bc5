//! One batch on one channel: all of it is written, and then all of it is confirmed.
//!
//! The client hands a returned message to whichever confirm of the channel completes next, so a single confirm says
//! nothing about its own message. Every return comes before its own confirm, though: when all confirms of a batch are
//! there, so are all its returns, and these are told apart by message id. So a channel has one batch under way at a time.

use std::collections::HashMap;
use std::pin::pin;

use futures_util::FutureExt;
use futures_util::future::{Either, select, try_join_all};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection, PublisherConfirm};

use super::Receipt;
use crate::crash;
use crate::queue::{CALL_TIMEOUT, Error, Message, call, short};

pub(super) async fn open(connection: &Connection) -> Result<Channel, Error> {
    let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
    call("select confirms", CALL_TIMEOUT, channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(channel)
}

/// What became of each message, in their order. What is not confirmed when `over` resolves is [`Receipt::Unconfirmed`], and
/// the channel is of no more use then. (By the confirm of a message its own return is among those that were handed out, so
/// of the others the truth is known.) `None` where not even all was written by then.
pub(super) async fn publish<'a>(
    channel: &Channel,
    messages: impl Iterator<Item = &'a Message> + Clone,
    over: impl Future<Output = ()>,
) -> Result<Option<Vec<Receipt>>, Error> {
    let mut over = pin!(over);
    let writing = try_join_all(messages.clone().map(|message| write(channel, message)));
    let written = match select(pin!(writing), &mut over).await {
        Either::Left((written, _)) => written?,
        Either::Right(_) => return Ok(None),
    };
    let mut is_over = false;
    let mut returned = HashMap::new();
    let mut verdicts = Vec::with_capacity(written.len());
    for confirm in written {
        let Some(mut confirm) = confirm else {
            verdicts.push(Verdict::Unsent);
            continue;
        };
        let in_time = match is_over {
            true => None,
            false => match select(&mut confirm, &mut over).await {
                Either::Left((confirmation, _)) => Some(confirmation),
                Either::Right(_) => None,
            },
        };
        is_over |= in_time.is_none();
        verdicts.push(match in_time.or_else(|| confirm.now_or_never()) {
            Some(confirmation) => Verdict::of(confirmation.map_err(failed)?, &mut returned),
            None => Verdict::Unconfirmed,
        });
    }
    Ok(Some(verdicts.into_iter().zip(messages).map(|(verdict, message)| verdict.receipt(message, &returned)).collect()))
}

/// `None` for a message that cannot be put into AMQP's types.
async fn write(channel: &Channel, message: &Message) -> Result<Option<PublisherConfirm>, Error> {
    let (Ok(exchange), Ok(routing_key), Ok(properties)) =
        (short(&message.exchange), short(&message.routing_key), message.properties())
    else {
        return Ok(None);
    };
    let options = BasicPublishOptions { mandatory: message.mandatory, immediate: false };
    let confirm =
        channel.basic_publish(exchange, routing_key, options, &message.body, properties).await.map_err(failed)?;
    crash::point("event-sent");
    Ok(Some(confirm))
}

fn failed(source: lapin::Error) -> Error {
    Error::Amqp { action: "publish", source }
}

#[derive(Clone, Copy)]
enum Verdict {
    Confirmed,
    Refused,
    Unconfirmed,
    Unsent,
}

impl Verdict {
    /// Reads one confirm, and sets aside whatever message was returned along with it.
    fn of(confirmation: Confirmation, returned: &mut HashMap<String, String>) -> Self {
        let verdict = if confirmation.is_ack() { Self::Confirmed } else { Self::Refused };
        if let Some(message) = confirmation.take_message() {
            let id = message.delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
            returned.insert(id, message.reply_text.to_string());
        }
        verdict
    }

    fn receipt(self, message: &Message, returned: &HashMap<String, String>) -> Receipt {
        match (self, returned.get(&message.id).filter(|_| message.mandatory)) {
            (_, Some(reason)) => Receipt::Unroutable { reason: reason.clone() },
            (Self::Confirmed, None) => Receipt::Delivered,
            (Self::Refused, None) => Receipt::Refused,
            (Self::Unconfirmed, None) => Receipt::Unconfirmed,
            (Self::Unsent, None) => Receipt::Untakable,
        }
    }
}
