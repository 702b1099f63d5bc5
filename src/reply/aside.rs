//! What reaches nobody, put where an operator finds it.

use std::sync::Arc;

use jiff::Timestamp;
use tracing::{error, warn};

use super::Replies;
use super::deliver::Undelivered;
use crate::backoff::Backoff;
use crate::domain::rejection::Rejection;
use crate::domain::request::Arrival;
use crate::queue::{DEAD, Error, Message, UNDELIVERABLE, aside};

impl Replies {
    /// Puts a request that can be neither answered nor run where an operator finds it. Returns only
    /// when it is there: the delivery is the last copy. Where the message has no id, it gets the request's, so that it is
    /// the same request when it is sent again.
    pub async fn bury(&self, arrival: &Arrival, request_id: &str, code: &str, why: &str) -> Result<(), Error> {
        let id = arrival.id.given().unwrap_or(request_id).to_owned();
        // Why may quote what was sent; it stands beside the message, in the dead queue.
        warn!(request.id = id, code, "the request goes to the dead queue");
        let message = Arc::new(Message {
            id,
            exchange: String::new(),
            routing_key: DEAD.to_owned(),
            body: Arc::new(arrival.body.clone()),
            content_type: arrival.content_type.clone().unwrap_or_default().into(),
            correlation_id: arrival.correlation_id.clone(),
            reply_to: arrival.reply_to.clone(),
            kind: None,
            user_id: None,
            headers: set_aside_headers(arrival, code, why),
            mandatory: true,
        });
        let mut backoff = Backoff::for_sessions();
        while let Err(reason) = self.deliver(&message, None).await? {
            error!(queue = DEAD, %reason, "the dead queue does not take messages; `jobquay check` says what is missing");
            backoff.wait().await;
        }
        self.metrics.dead.inc();
        Ok(())
    }

    /// As [`Self::bury`], for a request that was refused.
    pub async fn bury_rejected(&self, arrival: &Arrival, request_id: &str, rejection: &Rejection) -> Result<(), Error> {
        self.bury(arrival, request_id, rejection.code.as_str(), &rejection.message).await
    }

    /// Once, and then the answer counts as given: its requester cannot be reached. `false` when it cannot be put aside
    /// either, and may be taken later, here or there.
    pub(super) async fn set_aside(&self, message: &Message, why: &Undelivered) -> Result<bool, Error> {
        let (id, queue, reason) = (message.id.as_str(), message.routing_key.as_str(), why.to_string());
        let aside = Arc::new(Message {
            routing_key: UNDELIVERABLE.to_owned(),
            headers: [
                message.headers.clone(),
                vec![
                    (aside::REPLY_TO, queue.to_owned()),
                    (aside::REASON, reason.clone()),
                    (aside::TIME, Timestamp::now().to_string()),
                ],
            ]
            .concat(),
            mandatory: true,
            ..message.clone()
        });
        let put = self.deliver(&aside, None).await?;
        match &put {
            Ok(()) => warn!(event.id = id, reply_to = queue, reason, "undeliverable: set aside"),
            Err(why) => error!(
                event.id = id,
                reply_to = queue,
                reason,
                aside = %why,
                "undeliverable, and {UNDELIVERABLE} does not take it either"
            ),
        }
        // Where neither ever will there is nothing to wait for.
        let settled = put.is_ok() || why.is_final() && put.is_err_and(|why| why.is_final());
        if settled {
            self.metrics.undeliverable.inc();
        }
        Ok(settled)
    }
}

/// Why it was set aside, and what of the request fits into no property of the copy.
fn set_aside_headers(arrival: &Arrival, code: &str, why: &str) -> Vec<(&'static str, String)> {
    let kept =
        [(aside::USER_ID, arrival.user_id.as_ref()), (aside::CONTENT_ENCODING, arrival.content_encoding.as_ref())];
    let told =
        [(aside::CODE, code.to_owned()), (aside::REASON, why.to_owned()), (aside::TIME, Timestamp::now().to_string())];
    let kept = kept.into_iter().chain(arrival.trace()).filter_map(|(name, value)| Some((name, value?.clone())));
    told.into_iter().chain(kept).collect()
}
