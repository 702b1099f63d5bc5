//! Requests that have come before, byte for byte. What they seek is the same as long as the rules are, and is not found out
//! again: to parse a request, to judge it and to make its key is most of what an answer from the cache costs here.
//!
//! Nothing is answered from here: whether there is a result is asked each time.

use std::hash::{Hash, Hasher};
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, Equivalent, OptionsBuilder, Weighter};

use crate::cache::Wanted;
use crate::domain::key::RequestKey;
use crate::domain::request::Arrival;
use crate::domain::rules::Rules;

/// For all of them, in bytes: some thousands of the usual size.
const ROOM: u64 = 4 << 20;
/// What one takes beside its texts.
const OVERHEAD: u64 = 1024;
/// In bytes. To keep a body that is larger costs more than is saved.
const LARGEST: usize = 64 << 10;

/// What a request seeks in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sought {
    pub(super) key: RequestKey,
    pub(super) max_age: Option<Duration>,
    pub(super) deadline: Option<Timestamp>,
    pub(super) template: Arc<str>,
    /// The request's id, where its body says it.
    pub(super) named: Option<Arc<str>>,
}

impl Sought {
    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted { key: &self.key, max_age: self.max_age }
    }
}

/// What is known of the requests that came last, and most often.
pub struct Familiar(Cache<Kept, Known, Weight>);

#[derive(Clone)]
struct Known {
    sought: Sought,
    /// Under which that was found out. As long as this is here no other rules can have their address.
    rules: Weak<Rules>,
}

/// All of a message that decides what it seeks.
#[derive(PartialEq, Eq, Hash)]
struct Message<'a> {
    body: &'a [u8],
    texts: [Option<&'a str>; 4],
    has_id: bool,
}

/// Likewise, kept.
struct Kept {
    body: Box<[u8]>,
    texts: [Option<Box<str>>; 4],
    has_id: bool,
}

#[derive(Clone)]
struct Weight;

impl Default for Familiar {
    fn default() -> Self {
        let options = OptionsBuilder::new()
            // Each has its part of the room, which must hold the largest.
            .shards(16)
            .weight_capacity(ROOM)
            .estimated_items_capacity(4096)
            .build()
            .expect("both capacities are given");
        Self(Cache::with_options(options, Weight, DefaultHashBuilder::default(), DefaultLifecycle::default()))
    }
}

impl Familiar {
    pub(super) fn sought(&self, arrival: &Arrival, rules: &Arc<Rules>) -> Option<Sought> {
        let known = self.0.get(&Message::of(arrival)?)?;
        (known.rules.as_ptr() == Arc::as_ptr(rules)).then_some(known.sought)
    }

    /// Only for what does not depend on the request's id, unless its body says that.
    pub(super) fn learn(&self, arrival: &Arrival, rules: &Arc<Rules>, sought: &Sought) {
        if let Some(message) = Message::of(arrival) {
            self.0.insert(message.kept(), Known { sought: sought.clone(), rules: Arc::downgrade(rules) });
        }
    }
}

impl<'a> Message<'a> {
    /// `None` for what is not to be known again.
    fn of(arrival: &'a Arrival) -> Option<Self> {
        // A template may put the id into a pod, where NUL is refused: with such a request it is not as with others.
        if arrival.body.len() > LARGEST || arrival.id.as_str().contains('\0') {
            return None;
        }
        let texts = [&arrival.content_type, &arrival.content_encoding, &arrival.reply_to, &arrival.user_id];
        let texts = texts.map(|text| text.as_deref());
        Some(Self { body: &arrival.body, texts, has_id: arrival.id.given().is_some() })
    }

    fn kept(&self) -> Kept {
        Kept { body: self.body.into(), texts: self.texts.map(|text| text.map(Into::into)), has_id: self.has_id }
    }
}

impl Kept {
    fn message(&self) -> Message<'_> {
        let texts = self.texts.each_ref().map(|text| text.as_deref());
        Message { body: &self.body, texts, has_id: self.has_id }
    }
}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.message().hash(state);
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.message() == other.message()
    }
}

impl Eq for Kept {}

impl Equivalent<Kept> for Message<'_> {
    fn equivalent(&self, kept: &Kept) -> bool {
        *self == kept.message()
    }
}

impl Weighter<Kept, Known> for Weight {
    fn weight(&self, kept: &Kept, _: &Known) -> u64 {
        let Message { body, texts, .. } = kept.message();
        let texts: usize = texts.iter().flatten().map(|text| text.len()).sum();
        (body.len() + texts) as u64 + OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layered;
    use crate::domain::policy::Policies;
    use crate::domain::request::MessageId;
    use crate::files::empty_catalog;

    fn arrival(body: &str) -> Arrival {
        Arrival::bare(body.into(), "minted".into(), Timestamp::UNIX_EPOCH)
    }

    fn rules() -> Arc<Rules> {
        let config = Layered::load(None, [], &[]).unwrap().config().unwrap();
        let catalog = empty_catalog(&config, &config.kubernetes.configured_namespaces());
        Arc::new(Rules { catalog, policies: Arc::new(Policies::templates_only()) })
    }

    fn sought(template: &str) -> Sought {
        let key = RequestKey::from_hex(&"ab".repeat(32)).unwrap();
        Sought { key, max_age: None, deadline: None, template: template.into(), named: None }
    }

    #[test]
    fn a_message_is_known_by_all_that_decides_what_it_seeks_and_by_nothing_else() {
        let (familiar, rules, text) = (Familiar::default(), rules(), || Some("x".to_owned()));
        let plain = arrival("{}");
        let alike = Arrival {
            correlation_id: text(),
            traceparent: text(),
            id: MessageId::Minted("m2".into()),
            ..arrival("{}")
        };
        let others = [
            arrival("{} "),
            Arrival { content_type: text(), ..arrival("{}") },
            Arrival { content_encoding: text(), ..arrival("{}") },
            Arrival { reply_to: text(), ..arrival("{}") },
            Arrival { user_id: text(), ..arrival("{}") },
            Arrival { id: MessageId::Given("minted".into()), ..arrival("{}") },
        ];
        let with_nul = Arrival { id: MessageId::Minted("\0".into()), ..arrival("{}") };
        familiar.learn(&plain, &rules, &sought("plain"));
        assert_eq!(
            [&plain, &alike].map(|arrival| familiar.sought(arrival, &rules)),
            [Some(sought("plain")), Some(sought("plain"))]
        );
        for (place, other) in others.iter().enumerate() {
            assert_eq!(familiar.sought(other, &rules), None, "{place}");
            familiar.learn(other, &rules, &sought(&place.to_string()));
        }
        for (place, other) in others.iter().enumerate() {
            assert_eq!(familiar.sought(other, &rules), Some(sought(&place.to_string())), "{place}");
        }
        assert_eq!(familiar.sought(&plain, &rules), Some(sought("plain")));
        assert_eq!(familiar.sought(&with_nul, &rules), None);
    }

    #[test]
    fn other_rules_make_every_request_a_new_one() {
        let (familiar, before, arrival) = (Familiar::default(), rules(), arrival("{}"));
        familiar.learn(&arrival, &before, &sought("before"));
        drop(before);
        let after = rules();
        assert_eq!(familiar.sought(&arrival, &after), None);
        familiar.learn(&arrival, &after, &sought("after"));
        assert_eq!(familiar.sought(&arrival, &after), Some(sought("after")));
    }

    #[test]
    fn it_stays_within_its_room_and_keeps_nothing_that_is_large() {
        let (familiar, rules) = (Familiar::default(), rules());
        let large = arrival(&"x".repeat(LARGEST + 1));
        familiar.learn(&large, &rules, &sought("large"));
        assert_eq!(familiar.sought(&large, &rules), None);
        for number in 0..1000 {
            familiar.learn(&arrival(&format!("{number:8192}")), &rules, &sought("t"));
        }
        assert!(
            familiar.0.weight() <= ROOM && familiar.0.len() > 300,
            "{} of {}",
            familiar.0.weight(),
            familiar.0.len()
        );
    }
}
