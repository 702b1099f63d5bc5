//! Where a request is: what is remembered of it, and what its Job shows at this moment.
//!
//! Nothing here is on the way of a request, and nobody there waits for it. Notes are written in batches by a task of their own;
//! those for which there is no room, or no Redis, are dropped and counted.

mod journal;
mod look;

pub use journal::{Journal, journal};
pub use look::{Lookout, Page, Sought};
