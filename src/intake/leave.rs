//! The leave to begin a Job: at once, when it is the request's turn in its lane, or not, for a Job of its key is there.

use std::time::Duration;

use jiff::Timestamp;
use tracing::debug;

use super::quest::Quest;
use super::single_flight::{Follower, Leader, Outcome};
use super::{Intake, Unsettled};
use crate::domain::lanes::Ticket;
use crate::slots::{Slot, Turn};

/// What a request may do next.
pub(super) enum Leave<'a> {
    Begin(Slot, Leader<'a>),
    /// There is a Job of its key: joining needs no slot.
    Join,
    Park,
    LookAgain,
}

impl Intake {
    /// Whether the request may begin a Job at once, and otherwise what it does meanwhile. One that comes from
    /// its lane waits there for its turn.
    pub(super) async fn leave(&self, quest: &mut Quest<'_>) -> Result<Leave<'_>, Unsettled> {
        if let Some(slot) = quest.slot.take() {
            return match self.creating.lead(quest.plan.lock) {
                Ok(leader) => Ok(Leave::Begin(slot, leader)),
                Err(follower) => self.follow(quest, follower).await,
            };
        }
        let candidate = quest.candidate();
        let Quest { request, delivery, plan, .. } = quest;
        let ticket = Ticket { since: delivery.since, order: delivery.order };
        if self.slots.is_bounded(&candidate) {
            tokio::select! {
                () = self.slots.known() => {}
                held = quest.patience.over(&self.stop) => return Err(held),
            }
        }
        if self.slots.lives(&plan.name()) {
            return Ok(Leave::Join);
        }
        if !request.parked {
            return match self.creating.lead(plan.lock) {
                Ok(leader) => Ok(match self.slots.take(ticket, &candidate) {
                    Some(slot) => Leave::Begin(slot, leader),
                    None => Leave::Park,
                }),
                Err(follower) => self.follow(quest, follower).await,
            };
        }
        debug!(request.id = request.waiter.request_id, lane = plan.lane, since = %ticket.since, "waits for a slot");
        let late = async {
            match request.deadline {
                Some(deadline) => tokio::time::sleep(until(deadline)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            turn = self.slots.turn(ticket, candidate, &request.waiter.request_id) => Ok(match turn {
                // The lookup is as old as the wait; with the slot in hand it is made again.
                Turn::Begin(slot) => {
                    quest.slot = Some(slot);
                    Leave::LookAgain
                }
                Turn::LookAgain => Leave::LookAgain,
                Turn::MakeRoom => Leave::Park,
            }),
            () = late => Ok(Leave::LookAgain),
            held = quest.patience.over(&self.stop) => Err(held),
        }
    }

    /// Waits for what an equal request comes to, which is about to create.
    async fn follow(&self, quest: &Quest<'_>, follower: Follower) -> Result<Leave<'_>, Unsettled> {
        tokio::select! {
            outcome = follower.outcome() => Ok(match outcome {
                Outcome::Job => Leave::Join,
                Outcome::Nothing => Leave::LookAgain,
            }),
            held = quest.patience.over(&self.stop) => Err(held),
        }
    }
}

fn until(deadline: Timestamp) -> Duration {
    Duration::try_from(deadline.duration_since(Timestamp::now())).unwrap_or_default()
}
