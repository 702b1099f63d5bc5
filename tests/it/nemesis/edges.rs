//! What happens between the replicas of one run and the three parts that they use.

use std::time::Duration;

use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use super::pace::Pace;
use crate::support::api_proxy::{ApiProxy, Calls, Fault as Answer, Lie};
use crate::support::checker::Struck;
use crate::support::links::{Link, Links};
use crate::support::own_redis::OwnRedis;
use crate::support::{Load, World};

#[derive(Debug, Clone)]
enum Fault {
    ConnectionsClosed,
    RightsTaken,
    /// No reply queue takes anything.
    RepliesFull,
    /// No Job may be made.
    QuotaOut,
    BadLink(Link, &'static str, Value),
    RedisFrozen,
    RedisKilled,
    RedisFlushed,
    /// Every value has bytes in it that nobody has put there.
    RedisSpoilt,
    RedisReadOnly,
    RedisOutOfMemory,
    RedisPaused,
    /// So many calls to the API server.
    Calls(Calls, Answer, usize),
}

const LASTING: Duration = Duration::from_secs(4);
/// Messages in a reply queue: more than a run sends.
const ENOUGH: u32 = 1_000_000;
const SPOIL: &str = "for _, key in ipairs(redis.call('KEYS', 'jobquay:*')) do \
                       if redis.call('TYPE', key).ok == 'string' then redis.call('SETRANGE', key, 8, 'spoilt') end \
                     end return 'OK'";

impl Fault {
    fn struck(&self) -> Struck {
        match self {
            Self::ConnectionsClosed | Self::RightsTaken | Self::RepliesFull | Self::BadLink(Link::RabbitMq, ..) => {
                Struck::Broker
            }
            Self::BadLink(Link::Redis, ..)
            | Self::RedisFrozen
            | Self::RedisKilled
            | Self::RedisFlushed
            | Self::RedisSpoilt
            | Self::RedisReadOnly
            | Self::RedisOutOfMemory
            | Self::RedisPaused => Struck::Redis,
            Self::QuotaOut | Self::BadLink(Link::Kubernetes, ..) | Self::Calls(..) => Struck::Cluster,
        }
    }
}

fn faults() -> Vec<Fault> {
    let mut faults = vec![
        Fault::ConnectionsClosed,
        Fault::ConnectionsClosed,
        Fault::RightsTaken,
        Fault::RepliesFull,
        Fault::QuotaOut,
        Fault::RedisFrozen,
        Fault::RedisKilled,
        Fault::RedisFlushed,
        Fault::RedisFlushed,
        Fault::RedisSpoilt,
        Fault::RedisReadOnly,
        Fault::RedisOutOfMemory,
        Fault::RedisPaused,
    ];
    for link in [Link::RabbitMq, Link::Redis, Link::Kubernetes] {
        faults.extend([
            Fault::BadLink(link, "latency", json!({"latency": 200, "jitter": 100})),
            Fault::BadLink(link, "bandwidth", json!({"rate": 32})),
            Fault::BadLink(link, "slow_close", json!({"delay": 2000})),
            Fault::BadLink(link, "slicer", json!({"average_size": 64, "size_variation": 32, "delay": 100})),
            Fault::BadLink(link, "timeout", json!({"timeout": 1000})),
            Fault::BadLink(link, "timeout", json!({"timeout": 0})),
            Fault::BadLink(link, "reset_peer", json!({"timeout": 0})),
            Fault::BadLink(link, "limit_data", json!({"bytes": 4000})),
        ]);
    }
    faults.extend(
        [
            (Calls::Creates, Answer::CommitsAndSays(504), 3),
            (Calls::Creates, Answer::CommitsAndResets, 3),
            (Calls::Creates, Answer::CommitsAndHangs, 2),
            (Calls::JobPatches, Answer::CommitsAndSays(500), 4),
            (Calls::JobPatches, Answer::CommitsAndResets, 4),
            (Calls::JobPatches, Answer::CommitsAndHangs, 2),
            (Calls::PodPatches, Answer::CommitsAndResets, 4),
            (Calls::Deletes, Answer::CommitsAndSays(504), 2),
            // A token that is not taken any more, and a Role that was taken away.
            (Calls::Any, Answer::Says(401), 20),
            (Calls::Any, Answer::Says(403), 20),
            (Calls::Any, Answer::Says(429), 20),
            (Calls::Any, Answer::Says(500), 20),
            (Calls::Any, Answer::Says(503), 20),
            (Calls::Any, Answer::Resets, 20),
            (Calls::Any, Answer::Hangs, 6),
            (Calls::Any, Answer::Slow(Duration::from_secs(1)), 30),
            (Calls::Logs, Answer::Says(500), 3),
            (Calls::JobWatches, Answer::Says(500), 2),
            (Calls::JobWatches, Answer::Lies(Lie::Ends), 5),
            (Calls::JobWatches, Answer::Lies(Lie::Gone), 3),
            (Calls::JobWatches, Answer::Lies(Lie::Silent), 1),
            (Calls::JobWatches, Answer::Lies(Lie::Drops), 2),
            (Calls::JobWatches, Answer::Lies(Lie::Repeats), 2),
            (Calls::JobWatches, Answer::Lies(Lie::Late(Duration::from_millis(300))), 2),
            (Calls::JobWatches, Answer::Lies(Lie::Stale), 2),
            (Calls::JobWatches, Answer::Lies(Lie::Garbage), 2),
            (Calls::LeaseWatches, Answer::Lies(Lie::Silent), 3),
            (Calls::LeaseWatches, Answer::Lies(Lie::Late(Duration::from_secs(3))), 3),
            (Calls::LeaseWatches, Answer::Lies(Lie::Gone), 3),
            (Calls::LeaseWrites, Answer::CommitsAndSays(504), 4),
            (Calls::LeaseWrites, Answer::CommitsAndHangs, 3),
            (Calls::LeaseWrites, Answer::Says(503), 4),
        ]
        .map(|(calls, answer, times)| Fault::Calls(calls, answer, times)),
    );
    faults
}

pub(super) struct Edges<'a> {
    world: &'a World,
    user: String,
    proxy: ApiProxy,
    redis: OwnRedis,
    links: Links,
}

impl<'a> Edges<'a> {
    pub(super) async fn start(world: &'a World) -> Self {
        let user = format!("dispatcher-{}", world.name);
        world.broker.set_user(&user, "secret", ".*");
        let broker = world.broker.url().replace("guest:guest", &format!("{user}:secret"));
        let redis = OwnRedis::start(&world.name).await;
        let proxy = ApiProxy::start(world).await;
        let cluster = format!("http://127.0.0.1:{}", proxy.port);
        let links = [(Link::RabbitMq, broker), (Link::Redis, redis.url()), (Link::Kubernetes, cluster)];
        Self { world, user, proxy, redis, links: Links::to(&links).await }
    }

    /// Where the replicas find the API server.
    pub(super) fn api_port(&self) -> u16 {
        let url: url::Url = self.links.url(Link::Kubernetes).parse().expect("a URL");
        url.port().expect("a port")
    }

    /// Of a replica that goes through them.
    pub(super) fn environment(&self) -> Vec<(&str, &str)> {
        self.links.environment().into_iter().chain(self.proxy.environment()).collect()
    }

    pub(super) async fn suffer(&self, mut pace: Pace, load: &Load<'_>) {
        let faults = faults();
        while let Some(fault) = pace.next(&faults).await {
            let number = load.fault(fault.struck(), format!("{fault:?}"));
            let lasting = pace.lasting(LASTING);
            self.strike(&fault).await;
            tokio::time::sleep(lasting).await;
            match self.heal(&fault).await {
                true => load.over(number),
                false => load.over_unmet(number),
            }
        }
        // A broker that was killed just after it gave them back may have forgotten.
        self.rights(".*").await;
        self.replies_full(false).await;
    }

    async fn strike(&self, fault: &Fault) {
        match fault {
            Fault::ConnectionsClosed => {
                let broker = self.world.broker.clone();
                // None, when the broker is away.
                let _ = tokio::task::spawn_blocking(move || broker.close_connections()).await;
            }
            Fault::RightsTaken => self.rights("^$").await,
            Fault::RepliesFull => self.replies_full(true).await,
            Fault::QuotaOut => self.quota(true).await,
            Fault::BadLink(link, kind, attributes) => self.links.poison(*link, kind, attributes),
            Fault::RedisFrozen => self.redis.signal("-STOP"),
            Fault::RedisKilled => self.redis.end(),
            Fault::RedisFlushed => self.redis.command(&["FLUSHALL"]).await,
            Fault::RedisSpoilt => self.redis.command(&["EVAL", SPOIL, "0"]).await,
            Fault::RedisReadOnly => self.redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await,
            Fault::RedisOutOfMemory => self.redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await,
            Fault::RedisPaused => self.redis.command(&["CLIENT", "PAUSE", "3000", "ALL"]).await,
            Fault::Calls(calls, answer, times) => self.proxy.fault(*calls, *answer, *times),
        }
    }

    /// Whether it has met anything.
    async fn heal(&self, fault: &Fault) -> bool {
        match fault {
            Fault::ConnectionsClosed | Fault::RedisFlushed | Fault::RedisSpoilt | Fault::RedisPaused => {}
            Fault::RightsTaken => self.rights(".*").await,
            Fault::RepliesFull => self.replies_full(false).await,
            Fault::QuotaOut => self.quota(false).await,
            Fault::BadLink(..) => self.links.heal(),
            Fault::RedisFrozen => self.redis.signal("-CONT"),
            Fault::RedisKilled => self.redis.start_empty(),
            Fault::RedisReadOnly => self.redis.command(&["REPLICAOF", "NO", "ONE"]).await,
            Fault::RedisOutOfMemory => self.redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await,
            Fault::Calls(..) => return self.proxy.heal() > 0,
        }
        true
    }

    /// Waits for a broker that is away just now: rights that were not given back would be no fault of ours.
    async fn rights(&self, rights: &'static str) {
        let (broker, user) = (self.world.broker.clone(), self.user.clone());
        self.of_the_broker(move || broker.permit(&user, rights)).await;
    }

    async fn replies_full(&self, full: bool) {
        let broker = self.world.broker.clone();
        let messages = if full { 0 } else { ENOUGH };
        self.of_the_broker(move || broker.limit("^replies", messages)).await;
    }

    async fn of_the_broker(&self, tell: impl Fn() -> bool + Clone + Send + 'static) {
        while !tokio::task::spawn_blocking(tell.clone()).await.expect("the broker is asked") {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits for an API server that is away just now.
    async fn quota(&self, out: bool) {
        let quotas: Api<ResourceQuota> = Api::namespaced(self.world.client.clone(), &self.world.name);
        let none = json!({"metadata": {"name": "none"}, "spec": {"hard": {"count/jobs.batch": "0"}}});
        let none = serde_json::from_value(none).expect("a quota");
        loop {
            let told = match out {
                true => quotas.create(&PostParams::default(), &none).await.map(drop),
                false => quotas.delete("none", &DeleteParams::default()).await.map(drop),
            };
            match told {
                Err(kube::Error::Api(status)) if status.code == if out { 409 } else { 404 } => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
                Ok(()) => return,
            }
        }
    }
}
