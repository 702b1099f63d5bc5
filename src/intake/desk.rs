//! For those who ask over HTTP: a request goes into the queue like everybody's, and comes back here from there.

use jiff::Timestamp;

use super::Intake;
use super::cancel::Withdrawal;
use crate::domain::manifest::Plan;
use crate::domain::rejection::{Code, Rejection};
use crate::domain::request::{self, Arrival, MessageId, Request};
use crate::queue;

/// Why a request was not put into the queue.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Rejected(Rejection),
    #[error(transparent)]
    Queue(#[from] queue::Error),
}

impl Intake {
    /// Puts a request into the queue. One that would be rejected when it comes out is refused here.
    pub async fn submit(&self, id: String, content_type: Option<String>, body: Vec<u8>) -> Result<String, Refused> {
        let arrival = self.asked_here(id, content_type, body);
        let (request, plan) = self.try_out(&arrival).map_err(Refused::Rejected)?;
        plan.manifest(&request.waiter).map_err(Refused::Rejected)?;
        self.inlet.put(&arrival).await?;
        Ok(request.waiter.request_id)
    }

    /// What a request would come to, without any I/O.
    pub fn rehearse(&self, body: Vec<u8>) -> Result<(Request, Plan), Rejection> {
        self.try_out(&self.asked_here(uuid::Uuid::now_v7().to_string(), None, body))
    }

    fn asked_here(&self, id: String, content_type: Option<String>, body: Vec<u8>) -> Arrival {
        let user_id = Some(self.inlet.user().to_owned());
        let id = MessageId::Given(id);
        Arrival { id, content_type, user_id, ..Arrival::bare(body, String::new(), Timestamp::now()) }
    }

    fn try_out(&self, arrival: &Arrival) -> Result<(Request, Plan), Rejection> {
        let asked = request::parse(arrival, self.max_body).map_err(|unparsed| unparsed.rejection)?;
        let Some(request) = asked.run() else {
            let why = "a request is cancelled by a call of its own, POST /api/v1/requests/{id}/cancel";
            return Err(Rejection::at(Code::Malformed, "/cancel", why));
        };
        let plan = self.rules.borrow().plan(&request)?;
        Ok((request, plan))
    }

    /// Cancels a request of this producer; the word for what came of it.
    pub async fn cancel_of(&self, producer: Option<&str>, request_id: &str, reason: &str) -> Option<&'static str> {
        match self.withdraw_all(producer, request_id, reason).await {
            Ok(Withdrawal::Of(outcome)) => Some(outcome),
            Ok(Withdrawal::Anothers) | Err(_) => None,
        }
    }
}
