//! One batch on one channel: all of it is written, and then all of it is confirmed.
//!
//! The client hands a returned message to whichever confirm of the channel completes next, so a single confirm says
//! nothing about its own message. Every return comes before its own confirm, though: when all confirms of a batch are
//! there, so are all its returns, and these are told apart by message id. Where not all are, a confirm counts once those
//! that were handed out along with it have been read too. So a channel has one batch under way at a time.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Either, select, try_join_all};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection, PublisherConfirm};

use super::Receipt;
use super::under_way::Numbered;
use crate::crash;
use crate::queue::{CALL_TIMEOUT, Error, Message, call, short};

/// The client needs microseconds to hand out what one frame confirms.
const HANDED_OUT: Duration = Duration::from_millis(50);

pub(super) async fn open(connection: &Connection) -> Result<Channel, Error> {
    let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
    call("select confirms", CALL_TIMEOUT, channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok(channel)
}

/// A batch that is written, and what the broker has said of it.
pub(super) struct Batch {
    /// Without a receipt so far.
    open: Vec<Sent>,
    /// Why, by the id of the message.
    returned: HashMap<String, String>,
}

struct Sent {
    number: u64,
    message: Arc<Message>,
    /// `None` for a message that cannot be put into AMQP's types.
    confirm: Option<PublisherConfirm>,
    verdict: Option<Verdict>,
    /// Whether returns that belong to that verdict have been read by now.
    counts: bool,
}

impl Batch {
    pub(super) async fn write(channel: &Channel, messages: Vec<Numbered>) -> Result<Self, Error> {
        let confirms = try_join_all(messages.iter().map(|numbered| write(channel, &numbered.message))).await?;
        let sent = |(Numbered { number, message }, confirm): (Numbered, Option<PublisherConfirm>)| {
            let verdict = confirm.is_none().then_some(Verdict::Unsent);
            Sent { number, message, confirm, verdict, counts: false }
        };
        Ok(Self { open: messages.into_iter().zip(confirms).map(sent).collect(), returned: HashMap::new() })
    }

    /// Waits until something is said of each, or until `over`. What was said is there to be taken then.
    pub(super) async fn wait(&mut self, over: impl Future<Output = ()>) -> Result<(), Error> {
        let mut over = pin!(over);
        for sent in self.open.iter_mut().filter(|sent| sent.verdict.is_none()) {
            let Some(confirm) = &mut sent.confirm else { continue };
            match select(confirm, &mut over).await {
                Either::Left((said, _)) => sent.hear(said.map_err(failed)?, &mut self.returned),
                Either::Right(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// The receipts of those of which something was said.
    pub(super) async fn take_said(&mut self) -> Result<Vec<(u64, Receipt)>, Error> {
        self.read()?;
        let mut said = 0;
        for sent in &mut self.open {
            sent.counts = sent.verdict.is_some();
            said += usize::from(sent.counts);
        }
        if said > 0 && said < self.open.len() {
            tokio::time::sleep(HANDED_OUT).await;
            self.read()?;
        }
        let Self { open, returned } = self;
        let said = open.extract_if(.., |sent| sent.counts);
        Ok(said.filter_map(|sent| Some((sent.number, sent.verdict?.receipt(&sent.message, returned)))).collect())
    }

    /// What is there and was not waited for.
    fn read(&mut self) -> Result<(), Error> {
        for sent in self.open.iter_mut().filter(|sent| sent.verdict.is_none()) {
            if let Some(said) = sent.confirm.as_mut().and_then(FutureExt::now_or_never) {
                sent.hear(said.map_err(failed)?, &mut self.returned);
            }
        }
        Ok(())
    }

    pub(super) fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    /// The broker is not waited for any longer.
    pub(super) fn give_up(self) -> impl Iterator<Item = (u64, Receipt)> {
        self.open.into_iter().map(|sent| (sent.number, Receipt::Unconfirmed))
    }
}

impl Sent {
    /// Sets aside whatever message was returned along with the confirm.
    fn hear(&mut self, said: Confirmation, returned: &mut HashMap<String, String>) {
        self.verdict = Some(if said.is_ack() { Verdict::Confirmed } else { Verdict::Refused });
        if let Some(message) = said.take_message() {
            let id = message.delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
            returned.insert(id, message.reply_text.to_string());
        }
    }
}

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
    Unsent,
}

impl Verdict {
    fn receipt(self, message: &Message, returned: &HashMap<String, String>) -> Receipt {
        match (self, returned.get(&message.id).filter(|_| message.mandatory)) {
            (_, Some(reason)) => Receipt::Unroutable { reason: reason.clone() },
            (Self::Confirmed, None) => Receipt::Delivered,
            (Self::Refused, None) => Receipt::Refused,
            (Self::Unsent, None) => Receipt::Untakable,
        }
    }
}
