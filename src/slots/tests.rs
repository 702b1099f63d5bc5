use std::num::NonZeroU32;

use jiff::Timestamp;

use super::*;
use crate::domain::lanes::Occupant;
use crate::domain::lanes::Rate;

fn at(order: u64) -> Ticket {
    Ticket { since: Timestamp::UNIX_EPOCH, order }
}

fn candidate(producer: &str, job: &str) -> Candidate {
    let occupant = Occupant {
        lane: "default".into(),
        template: "t".into(),
        producer: Some(producer.into()),
        namespace: "work".into(),
        job: job.into(),
    };
    Candidate { occupant, template_limit: None, producer_limit: None, rate: None }
}

fn slots(limit: u32) -> Slots {
    slots_of_one_among(1, limit)
}

fn slots_of_one_among(members: u32, limit: u32) -> Slots {
    let slots = Slots::new(Lanes::new(Some(limit), BTreeMap::new()), Duty::of(members), Metrics::default());
    tokio::spawn(slots.clone().run(CancellationToken::new()));
    slots
}

async fn is_pending(turn: &mut (impl Future<Output = Turn> + Unpin)) -> bool {
    tokio::time::timeout(Duration::from_millis(20), turn).await.is_err()
}

/// A turn that has come; one that never does is a failure and no hang.
async fn come(turn: impl Future<Output = Turn>) -> Turn {
    tokio::time::timeout(Duration::from_secs(10), turn).await.expect("its turn comes")
}

#[tokio::test]
async fn a_slot_that_is_dropped_goes_to_the_next_in_line() {
    let slots = slots(1);
    let slot = slots.take(at(1), &candidate("p", "j1")).expect("the first is free");
    assert!(slots.take(at(2), &candidate("p", "j2")).is_none());
    let mut second = std::pin::pin!(slots.turn(at(2), candidate("p", "j2"), "r2"));
    let mut third = std::pin::pin!(slots.turn(at(3), candidate("p", "j3"), "r3"));
    assert!(is_pending(&mut second).await && is_pending(&mut third).await);
    drop(slot);
    let Turn::Begin(slot) = come(second).await else { panic!("it was its turn") };
    assert!(is_pending(&mut third).await);
    slot.became("u2");
    assert!(is_pending(&mut third).await, "a Job keeps the slot");
    slots.observe(&Sighted::Closed { uid: "u2".into() });
    assert!(matches!(come(third).await, Turn::Begin(_)));
}

#[tokio::test]
async fn who_stops_waiting_leaves_no_slot_behind() {
    let slots = slots(1);
    let slot = slots.take(at(1), &candidate("p", "j1")).expect("the first is free");
    let gone = tokio::time::timeout(Duration::from_millis(20), slots.turn(at(2), candidate("p", "j2"), "r2")).await;
    assert!(gone.is_err());
    drop(slot);
    assert!(slots.take(at(3), &candidate("p", "j3")).is_some(), "nobody is before it");
}

#[tokio::test]
async fn an_equal_request_looks_again_when_the_job_lives_and_a_cancelled_one_when_told() {
    let slots = slots(1);
    let slot = slots.take(at(1), &candidate("p", "same")).expect("the first is free");
    let mut equal = std::pin::pin!(slots.turn(at(2), candidate("p", "same"), "r2"));
    let mut other = std::pin::pin!(slots.turn(at(3), candidate("p", "other"), "r3"));
    assert!(is_pending(&mut equal).await && is_pending(&mut other).await);
    slot.became("u1");
    assert!(matches!(come(equal).await, Turn::LookAgain));
    assert!(is_pending(&mut other).await);
    slots.nudge("r3");
    assert!(matches!(come(other).await, Turn::LookAgain));
}

#[tokio::test]
async fn a_producer_begins_no_more_than_its_rate() {
    let slots = slots(100);
    let rate = Rate { count: NonZeroU32::new(2).expect("two"), per: Duration::from_millis(400) };
    let limited = |job: &str| Candidate { rate: Some(rate), ..candidate("p", job) };
    let begun = std::time::Instant::now();
    let first = slots.take(at(1), &limited("j1")).expect("within the burst");
    let second = slots.take(at(2), &limited("j2")).expect("within the burst");
    assert!(slots.take(at(3), &limited("j3")).is_none());
    assert!(slots.take(at(4), &candidate("q", "j4")).is_some(), "another producer has its own rate");
    assert!(matches!(come(slots.turn(at(3), limited("j3"), "r3")).await, Turn::Begin(_)));
    assert!(begun.elapsed() >= Duration::from_millis(190), "{:?}", begun.elapsed());
    drop((first, second));
}

#[tokio::test]
async fn a_rate_is_divided_among_the_members_even_where_it_is_lower_than_their_number() {
    for (count, members, burst) in [(6, 3, 2_u32), (2, 3, 1), (1, 1, 1)] {
        let slots = slots_of_one_among(members, 100);
        let rate = Rate { count: NonZeroU32::new(count).expect("not zero"), per: Duration::from_millis(300) };
        let limited = |job: &str| Candidate { rate: Some(rate), ..candidate("p", job) };
        let begun = std::time::Instant::now();
        for order in 0..u64::from(burst) {
            slots
                .take(at(order), &limited(&format!("j{order}")))
                .expect("within the burst")
                .became(&format!("u{order}"));
        }
        assert!(slots.take(at(50), &limited("j50")).is_none());
        assert!(matches!(come(slots.turn(at(50), limited("j50"), "r50")).await, Turn::Begin(_)));
        let each = Duration::from_millis(300) / count * members;
        assert!(begun.elapsed() + Duration::from_millis(10) >= each, "{count} among {members}: {:?}", begun.elapsed());
    }
}
