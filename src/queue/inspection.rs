//! Looks at queues for people, each over a connection of its own that ends with it.

use lapin::Connection;
use schemars::JsonSchema;
use serde::Serialize;

use super::aside::{Shelf, Summary};
use super::pending::own_user;
use super::{Aside, AsideReader, Error, Purpose, Receipt, connect, goodbye, topology};
use crate::config::Amqp;

/// How much stands in a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Depth {
    pub queue: String,
    /// That nobody has in hand.
    pub messages: u32,
    pub consumers: u32,
}

/// What was found of a message that is to go back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SentBack {
    To(String),
    NotFound,
    /// It does not say where it belongs.
    NoAddress,
    /// It stays where it was.
    Not(Receipt),
}

/// By what the broker is reached, and the name by which its operator sees that.
#[derive(Debug, Clone)]
pub struct Inspection {
    pub config: Amqp,
    pub name: String,
}

impl Inspection {
    /// Of each of these queues that is there.
    pub async fn depths(&self, queues: &[String]) -> Result<Vec<Depth>, Error> {
        let connection = self.connect().await?;
        let look = async {
            let mut depths = Vec::new();
            for queue in queues {
                match topology::look(&connection, queue).await {
                    Ok((messages, consumers)) => depths.push(Depth { queue: queue.clone(), messages, consumers }),
                    Err(error) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(depths)
        };
        close(&connection, look).await
    }

    /// At most so many of the messages that were set aside, the oldest first; and whether there are more.
    pub async fn set_aside(&self, shelf: Shelf, most: usize) -> Result<(Vec<Summary>, bool), Error> {
        let connection = self.connect().await?;
        let look = async {
            let mut reader = AsideReader::open(&connection, shelf.queue()).await?;
            let mut found = Vec::new();
            while found.len() < most
                && let Some(message) = reader.next().await?
            {
                found.push(Summary::of(&message));
            }
            let is_more = reader.left() > 0;
            reader.close().await?;
            Ok((found, is_more))
        };
        close(&connection, look).await
    }

    /// Publishes the messages of this id again, where they belong.
    pub async fn send_back(&self, shelf: Shelf, id: &str) -> Result<SentBack, Error> {
        let connection = self.connect().await?;
        let send = async {
            let mut reader = AsideReader::open(&connection, shelf.queue()).await?;
            let mut sent = SentBack::NotFound;
            while let Some(message) = reader.next().await? {
                if message.id() == Some(id) {
                    sent = self.send_one_back(&mut reader, shelf, &message).await?;
                }
            }
            reader.close().await?;
            Ok(sent)
        };
        close(&connection, send).await
    }

    async fn send_one_back(&self, reader: &mut AsideReader, shelf: Shelf, message: &Aside) -> Result<SentBack, Error> {
        let Some(to) = shelf.destination(message) else { return Ok(SentBack::NoAddress) };
        Ok(match reader.send_back(message, &to, &own_user(&self.config)).await? {
            Receipt::Delivered => SentBack::To(to),
            receipt => SentBack::Not(receipt),
        })
    }

    async fn connect(&self) -> Result<Connection, Error> {
        connect(&self.config.url, Purpose::Consume, &self.name, self.config.connect_timeout).await
    }
}

/// Does `work` over a connection, which ends with it. What the broker says to the goodbye changes nothing.
async fn close<T>(connection: &Connection, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let done = work.await;
    goodbye(connection).await;
    done
}
