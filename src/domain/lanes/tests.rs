use super::*;

fn at(order: u64) -> Ticket {
    Ticket { since: Timestamp::UNIX_EPOCH, order }
}

fn now() -> Instant {
    Instant::now()
}

fn candidate(lane: &str, template: &str, producer: &str, job: &str) -> Candidate {
    let occupant = Occupant {
        lane: lane.into(),
        template: template.into(),
        producer: Some(producer.into()),
        namespace: "work".into(),
        job: job.into(),
    };
    Candidate { occupant, template_limit: None, producer_limit: None, rate: None }
}

fn lanes(limit: u32, weights: &[(&str, u32)]) -> Lanes {
    Lanes::new(Some(limit), weights.iter().map(|(lane, weight)| ((*lane).to_owned(), *weight)).collect())
}

/// Grants all there is room for.
fn granted(lanes: &mut Lanes) -> Vec<u64> {
    std::iter::from_fn(|| lanes.next(|_| true)).map(|ticket| ticket.order).collect()
}

#[test]
fn slots_are_taken_up_to_the_limit_and_freed_by_the_end_of_a_job() {
    let mut lanes = lanes(2, &[]);
    assert!(lanes.take(at(1), &candidate("a", "t", "p", "j1")) && lanes.take(at(2), &candidate("a", "t", "p", "j2")));
    assert!(!lanes.take(at(3), &candidate("a", "t", "p", "j3")));
    lanes.became(at(1), "u1");
    assert!(lanes.lives("j1") && !lanes.lives("j2"), "what begins does not live yet");
    assert!(!lanes.take(at(3), &candidate("a", "t", "p", "j3")), "a Job counts once, begun or alive");
    lanes.release(at(2));
    assert!(lanes.take(at(4), &candidate("a", "t", "p", "j4")));
    lanes.gone("u1");
    lanes.gone("u1");
    assert!(!lanes.lives("j1") && lanes.take(at(5), &candidate("a", "t", "p", "j5")));
}

#[test]
fn freed_slots_are_shared_by_weight_and_nobody_starves() {
    let mut lanes = lanes(8, &[("bulk", 1), ("quick", 3)]);
    for ticket in 0..100 {
        lanes.wait(at(ticket), candidate("bulk", "b", "flood", &format!("b{ticket}")));
    }
    for ticket in 100..200 {
        lanes.wait(at(ticket), candidate("quick", "q", "calm", &format!("q{ticket}")));
    }
    let first = granted(&mut lanes);
    assert_eq!(first.iter().filter(|ticket| **ticket < 100).count(), 2, "one quarter of eight: {first:?}");
    lanes.became(at(first[0]), "u");
    lanes.gone("u");
    let lane_of = |ticket: u64| if ticket < 100 { "bulk" } else { "quick" };
    assert_eq!(lane_of(granted(&mut lanes)[0]), lane_of(first[0]), "the lane that has lost a slot gets it");
}

#[test]
fn within_a_lane_the_first_goes_first_unless_a_limit_of_its_own_holds_it_up() {
    let mut lanes = lanes(10, &[]);
    let limited = |job: &str| Candidate { template_limit: Some(1), ..candidate("a", "narrow", "p", job) };
    lanes.wait(at(1), limited("n1"));
    lanes.wait(at(2), limited("n2"));
    lanes.wait(at(3), candidate("a", "wide", "p", "w"));
    assert_eq!(granted(&mut lanes), [1, 3]);
    let single = |job: &str| Candidate { producer_limit: Some(1), ..candidate("a", "x", "one", job) };
    assert!(lanes.take(at(4), &single("s1")));
    assert!(!lanes.take(at(5), &single("s2")));
    lanes.release(at(1));
    assert_eq!(granted(&mut lanes), [2]);
}

#[test]
fn who_comes_later_does_not_overtake_one_like_it_that_waits() {
    let mut lanes = lanes(1, &[]);
    assert!(lanes.take(at(1), &candidate("a", "t", "p", "j1")));
    lanes.wait(at(2), candidate("a", "t", "p", "j2"));
    lanes.release(at(1));
    assert!(!lanes.take(at(3), &candidate("a", "t", "p", "j3")));
    assert!(lanes.take(at(4), &candidate("b", "t", "p", "j4")), "another lane has its own order");
}

#[test]
fn a_request_that_is_refused_for_now_keeps_its_place_and_holds_up_nobody() {
    let mut lanes = lanes(5, &[]);
    lanes.wait(at(1), candidate("a", "t", "slow", "j1"));
    lanes.wait(at(2), candidate("a", "t", "fast", "j2"));
    let admits = |candidate: &Candidate| candidate.occupant.producer.as_deref() == Some("fast");
    assert_eq!((lanes.next(admits), lanes.next(admits)), (Some(at(2)), None));
    assert_eq!(lanes.next(|_| true), Some(at(1)));
}

#[test]
fn who_waits_for_what_lives_needs_no_slot() {
    let mut lanes = lanes(1, &[]);
    lanes.wait(at(1), candidate("a", "t", "p", "same"));
    lanes.wait(at(2), candidate("a", "t", "p", "same"));
    lanes.wait(at(3), candidate("a", "t", "p", "other"));
    assert_eq!(granted(&mut lanes), [1]);
    assert!(lanes.joiners().is_empty(), "it does not live yet");
    lanes.became(at(1), "u");
    assert_eq!(lanes.joiners(), [at(2)]);
    assert_eq!(lanes.load()["a"], (1, 1));
}

#[test]
fn a_list_that_lacks_a_job_frees_its_slot_and_until_then_it_counts() {
    let mut lanes = lanes(2, &[]);
    lanes.saw("u1", candidate("a", "t", "p", "j1").occupant, now());
    lanes.saw("u2", candidate("a", "t", "p", "j2").occupant, now());
    lanes.relisting("work");
    lanes.saw("u2", candidate("a", "t", "p", "j2").occupant, now());
    assert!(!lanes.take(at(1), &candidate("a", "t", "p", "j3")));
    lanes.listed("elsewhere");
    assert!(lanes.lives("j1"), "another namespace says nothing of it");
    lanes.listed("work");
    assert!(lanes.take(at(1), &candidate("a", "t", "p", "j3")) && !lanes.lives("j1"));
}

#[test]
fn a_job_that_ended_before_its_create_was_answered_takes_no_slot() {
    let mut lanes = lanes(1, &[]);
    assert!(lanes.take(at(1), &candidate("a", "t", "p", "j1")));
    lanes.gone("u1");
    lanes.became(at(1), "u1");
    assert!(!lanes.lives("j1") && lanes.take(at(2), &candidate("a", "t", "p", "j2")));
}

#[test]
fn members_together_overshoot_a_limit_by_fewer_than_there_are_of_them() {
    for (members, limit, live) in [(1, 4, 0), (2, 1, 0), (3, 4, 0), (3, 4, 3), (3, 10, 0), (5, 7, 2)] {
        // The worst case: all begin at the same moment, and nobody has seen what the others do.
        let mut begun = live;
        for member in 0..members {
            let mut lanes = lanes(limit, &[]);
            lanes.share_among(members, now());
            for uid in 0..live {
                lanes.saw(&format!("u{uid}"), candidate("a", "t", "p", &format!("live{uid}")).occupant, now());
            }
            let takes =
                |ticket: &u64| lanes.take(at(*ticket), &candidate("a", "t", "p", &format!("{member}-{ticket}")));
            begun += u32::try_from((0..100).take_while(takes).count()).unwrap();
        }
        assert!((limit..limit + members).contains(&begun), "{members} members, limit {limit}, {live} live: {begun}");
    }
}

#[test]
fn what_the_watch_has_shown_for_a_while_is_known_to_the_other_members_too() {
    let mut lanes = lanes(4, &[]);
    let (begun, job) = (now(), |name: &str| candidate("a", "t", "p", name));
    let later = begun + SETTLING;
    lanes.share_among(3, begun);
    assert!(lanes.take(at(1), &job("j1")) && lanes.take(at(2), &job("j2")));
    assert!(!lanes.take(at(3), &job("j3")), "2 here and perhaps 4 elsewhere");
    lanes.became(at(1), "u1");
    lanes.release(at(2));
    lanes.saw("u1", job("j1").occupant, begun);
    lanes.saw("u2", job("elsewhere").occupant, begun);
    lanes.share_among(3, later - Duration::from_millis(1));
    assert!(!lanes.take(at(3), &job("j3")), "2 are alive, and what the others begin is not shown yet");
    lanes.share_among(3, later);
    assert!(lanes.take(at(3), &job("j3")), "2 are alive, and nothing else begins");
    assert!(!lanes.take(at(4), &job("j4")));
    lanes.gone("u1");
    lanes.became(at(3), "u3");
    lanes.gone("u3");
    assert!(lanes.take(at(5), &job("j5")), "nobody counts what has gone before it was shown");
}

#[test]
fn a_job_that_the_watch_has_lost_sight_of_holds_neither_its_name_nor_a_slot() {
    let mut lanes = lanes(1, &[]);
    lanes.relisting("work");
    assert!(lanes.take(at(1), &candidate("a", "t", "p", "j1")));
    // It came and went before the list was made, and the watch begins after that.
    lanes.became(at(1), "u1");
    lanes.listed("work");
    assert!(lanes.lives("j1") && !lanes.take(at(2), &candidate("a", "t", "p", "j2")));
    lanes.none_is_called("j2");
    assert!(lanes.lives("j1"));
    lanes.none_is_called("j1");
    assert!(!lanes.lives("j1") && lanes.take(at(2), &candidate("a", "t", "p", "j1")));
}

#[test]
fn those_whose_own_limit_holds_them_up_make_room_where_they_are_all_there_is_and_a_slot_is_free() {
    let mut lanes = lanes(2, &[]);
    let limited = |job: u64| Candidate { template_limit: Some(1), ..candidate("a", "t", "p", &format!("j{job}")) };
    for ticket in 1..=5 {
        lanes.wait(at(ticket), limited(ticket));
    }
    assert_eq!(granted(&mut lanes), [1]);
    assert_eq!(lanes.crowd(6), [], "there may be none behind four");
    assert_eq!(lanes.crowd(5), [at(4), at(5)], "one of them looks again just now");
    lanes.wait(at(6), candidate("b", "u", "p", "j6"));
    assert_eq!(granted(&mut lanes), [6]);
    assert_eq!(lanes.crowd(4), [], "there is no slot for anybody");
}
