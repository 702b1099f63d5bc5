//! Shards: who of several dispatchers completes which Jobs.
//!
//! Every Job belongs to one of 64 shards by its key, and every shard to one live member by rendezvous
//! hashing: when a member comes or goes, only the shards that it gets or had change hands.

use sha2::{Digest, Sha256};

/// How many shards the open Jobs are spread over. It is part of what stands on Jobs: every version agrees on it.
pub const SHARDS: u16 = 64;

/// A set of shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shards(u64);

impl Shards {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(u64::MAX);

    /// Those that fall to `own` among the live members, of which it is one.
    pub fn of(own: &str, others: &[&str]) -> Self {
        let is_ours = |shard: &u16| {
            let ours = rank(own, *shard);
            others.iter().all(|other| rank(other, *shard) < ours)
        };
        Self((0..SHARDS).filter(is_ours).fold(0, |set, shard| set | 1 << shard))
    }

    /// A shard out of range, which only a tampered label has, counts as the last: somebody must own it.
    pub fn contains(self, shard: u16) -> bool {
        self.0 >> shard.min(SHARDS - 1) & 1 == 1
    }

    pub fn count(self) -> u32 {
        self.0.count_ones()
    }

    /// Those that are in `self` and not in `other`.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The highest rank owns the shard. The name makes it unique where two hashes are equal.
fn rank(member: &str, shard: u16) -> ([u8; 8], &str) {
    let mut hash = Sha256::new();
    hash.update(shard.to_be_bytes());
    hash.update(member.as_bytes());
    let mut rank = [0; 8];
    rank.copy_from_slice(&hash.finalize()[..8]);
    (rank, member)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(members: &[&str]) -> Vec<Shards> {
        let others = |own: &str| members.iter().copied().filter(|member| *member != own).collect::<Vec<_>>();
        members.iter().map(|own| Shards::of(own, &others(own))).collect()
    }

    #[test]
    fn every_shard_has_exactly_one_owner() {
        for members in [&["a"][..], &["a", "b"], &["a", "b", "c"], &["m-1", "m-2", "m-3", "m-4", "m-5"]] {
            let shares = shares(members);
            for shard in 0..SHARDS {
                assert_eq!(shares.iter().filter(|share| share.contains(shard)).count(), 1, "{members:?} {shard}");
            }
            assert_eq!(shares.iter().map(|share| share.count()).sum::<u32>(), u32::from(SHARDS));
        }
        assert_eq!(shares(&["a"]), [Shards::ALL]);
    }

    #[test]
    fn nothing_moves_between_those_who_stay() {
        let (before, after) = (shares(&["a", "b", "c"]), shares(&["a", "b"]));
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.without(*after), Shards::NONE, "who stays keeps all that it had");
        }
        let moved: u32 = before.iter().zip(&after).map(|(before, after)| after.without(*before).count()).sum();
        assert_eq!(moved, before[2].count());
    }

    #[test]
    fn the_hash_is_pinned_since_two_versions_work_side_by_side() {
        let shares = shares(&["jobquay-0", "jobquay-1", "jobquay-2"]);
        let owners: String = (0..SHARDS)
            .map(|shard| shares.iter().position(|share| share.contains(shard)).unwrap().to_string())
            .collect();
        assert_eq!(owners, "2120022211201012010011021000201011111201002020222202212012001020");
    }

    #[test]
    fn a_shard_that_no_key_has_is_still_somebodys() {
        let shares = shares(&["a", "b"]);
        assert_eq!(shares.iter().filter(|share| share.contains(9999)).count(), 1);
    }
}
