use super::*;

const LEASE: Duration = Duration::from_secs(6);
const SETTLING: Duration = Duration::from_secs(2);

fn standing(now: Instant) -> Standing {
    Standing::new("b".into(), LEASE, SETTLING, now)
}

fn renewal(member: &str, second: i64) -> MemberSighted {
    MemberSighted::Renewed { member: member.into(), at: Some(Timestamp::from_second(second).unwrap()) }
}

/// The watch shows a renewal of this second that was begun at `begun`.
fn show_own(standing: &mut Standing, second: i64, begun: Instant) {
    standing.renews(Timestamp::from_second(second).unwrap(), begun);
    standing.saw(renewal("b", second), begun);
}

#[test]
fn who_is_alone_does_everything_once_it_knows_that_it_is() {
    let now = Instant::now();
    let mut standing = standing(now);
    assert_eq!(standing.share(now).shards, Shards::NONE);
    standing.renewed(now, Ok(()), now);
    assert_eq!(standing.share(now).shards, Shards::NONE, "the others are not known");
    standing.saw(renewal("b", 1), now);
    standing.saw(MemberSighted::Listed, now);
    assert_eq!(standing.share(now), Share { members: 1, shards: Shards::ALL, until: Some(now + LEASE) });
}

#[test]
fn who_comes_second_waits_until_the_first_has_let_go() {
    let now = Instant::now();
    let mut standing = standing(now);
    standing.renewed(now, Ok(()), now);
    standing.saw(renewal("a", 1), now);
    standing.saw(MemberSighted::Listed, now);
    assert_eq!(standing.share(now), Share { members: 2, shards: Shards::NONE, until: None });
    assert_eq!(standing.next_change(now), Some(now + SETTLING));
    let share = standing.share(now + SETTLING);
    assert_eq!((share.members, share.shards), (2, Shards::of("b", &["a"])));
    assert_eq!(standing.share(now + LEASE - Duration::from_millis(1)).shards, Shards::of("b", &["a"]));
}

#[test]
fn what_a_dead_member_had_is_taken_over_when_its_lease_is_over_and_of_one_that_left_at_once() {
    let now = Instant::now();
    let mut standing = standing(now);
    standing.saw(renewal("a", 1), now);
    standing.saw(MemberSighted::Listed, now);
    let later = now + Duration::from_secs(5);
    standing.renewed(later - SETTLING, Ok(()), now);
    standing.until = Some(later + LEASE);
    standing.renews(Timestamp::from_second(5).unwrap(), later);
    standing.saw(renewal("b", 5), later);
    assert_eq!(standing.share(later).members, 2);
    assert_eq!(standing.next_change(later), Some(now + LEASE));
    assert_eq!(standing.share(now + LEASE).shards, Shards::ALL);
    standing.saw(MemberSighted::Left { member: "a".into() }, later);
    assert_eq!(standing.share(later).shards, Shards::ALL);
}

#[test]
fn who_was_stopped_for_longer_than_its_lease_owns_nothing_until_it_has_come_back() {
    let now = Instant::now();
    let mut standing = standing(now);
    let long_ago = now.checked_sub(LEASE).unwrap();
    standing.saw(MemberSighted::Listed, now);
    standing.renewed(long_ago, Ok(()), now);
    assert_eq!(standing.share(now).shards, Shards::NONE);
    standing.saw(renewal("a", 1), now);
    standing.renewed(now, Ok(()), now);
    assert_eq!(standing.share(now).shards, Shards::NONE, "it settles as one that comes");
    assert_eq!(standing.share(now + SETTLING).shards, Shards::of("b", &["a"]));
}

#[test]
fn without_the_right_to_leases_it_works_as_if_alone() {
    let now = Instant::now();
    let mut standing = standing(now);
    standing.saw(renewal("a", 1), now);
    standing.saw(MemberSighted::Denied, now);
    assert_eq!(standing.share(now), Share { members: 1, shards: Shards::ALL, until: None });
    standing.renewed(now, Ok(()), now);
    assert_eq!(standing.share(now).shards, Shards::ALL, "the right to renew alone shows nobody");
    standing.saw(MemberSighted::Listed, now);
    assert_eq!(standing.share(now).shards, Shards::NONE, "until the others have let go of its share");
    assert_eq!(standing.share(now + SETTLING).shards, Shards::of("b", &["a"]));
}

#[test]
fn the_first_of_those_who_live_sweeps_up() {
    let now = Instant::now();
    let mut standing = standing(now);
    standing.saw(renewal("gone", 1), now);
    let later = now + LEASE * 10;
    show_own(&mut standing, 1, now);
    assert!(standing.to_sweep(later).is_empty(), "it may be alive where the watch shows nothing");
    show_own(&mut standing, 60, later);
    assert_eq!(standing.to_sweep(later), ["gone"]);
    standing.saw(renewal("a", 60), later);
    assert!(standing.to_sweep(later).is_empty());
}

#[test]
fn nobody_is_dead_because_the_watch_has_gone_silent() {
    let now = Instant::now();
    let mut standing = standing(now);
    standing.saw(MemberSighted::Relisting, now);
    standing.saw(renewal("a", 1), now);
    standing.saw(MemberSighted::Listed, now);
    let seconds = |seconds: i64| now + Duration::from_secs(seconds.unsigned_abs());
    show_own(&mut standing, 0, now);
    for second in [2, 4, 6, 8] {
        standing.renews(Timestamp::from_second(second).unwrap(), seconds(second));
        standing.renewed(seconds(second), Ok(()), seconds(second));
        assert_eq!(standing.share(seconds(second)).members, 2, "{second}");
        assert_eq!(standing.is_deaf(seconds(second)), second >= 6, "{second}");
    }
    standing.reopened(seconds(8));
    assert!(!standing.is_deaf(seconds(8)));
    // The list comes, and what it shows first says nothing of those behind it.
    standing.saw(MemberSighted::Relisting, seconds(9));
    standing.saw(renewal("b", 8), seconds(9));
    assert_eq!(standing.share(seconds(9)).members, 2);
    standing.saw(MemberSighted::Listed, seconds(9));
    assert_eq!(standing.share(seconds(9)).shards, Shards::ALL, "it was not in the list");
}

#[test]
fn nobody_is_dead_because_the_watch_is_late() {
    let now = Instant::now();
    let mut standing = standing(now);
    let at = |tenths: u64| now + Duration::from_millis(tenths * 100);
    show_own(&mut standing, 0, at(19));
    standing.saw(renewal("a", 1), at(1));
    standing.saw(MemberSighted::Listed, at(1));
    standing.renews(Timestamp::from_second(4).unwrap(), at(40));
    // Five seconds late, and so is what "a" has written.
    standing.saw(renewal("b", 4), at(90));
    assert_eq!(standing.share(at(90)).members, 2);
    assert_eq!(standing.share(at(99)).members, 2);
}

#[test]
fn a_renewal_counts_that_the_watch_has_shown_although_its_answer_was_lost() {
    let now = Instant::now();
    let mut standing = standing(now);
    standing.saw(MemberSighted::Listed, now);
    standing.renews(Timestamp::from_second(1).unwrap(), now);
    standing.saw(renewal("b", 7), now);
    assert_eq!(standing.share(now).shards, Shards::NONE, "that was another one");
    standing.saw(renewal("b", 1), now + SETTLING);
    assert_eq!(standing.share(now + SETTLING).until, Some(now + LEASE), "from when it was begun");
}
