//! A queueing network in place of what one machine cannot hold: requests that come at random, hits and misses, through the
//! broker, the dispatchers, the API server, the Job controller and the nodes, with service times as they were measured.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use hdrhistogram::Histogram;

/// The stations, in the order in which a miss meets them first.
const STATIONS: [&str; 5] = ["broker", "dispatchers", "API server", "Job controller", "nodes"];
const BROKER: usize = 0;
const DISPATCHERS: usize = 1;
const API_SERVER: usize = 2;
const CONTROLLER: usize = 3;
const NODES: usize = 4;

/// What is to be simulated. Times are milliseconds of a server's work, unless they are told as waited.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Simulation {
    /// Requests a second.
    #[arg(long)]
    pub(crate) rate: f64,
    /// The part of them that are hits.
    #[arg(long, default_value_t = 0.9)]
    pub(crate) hits: f64,
    #[arg(long, default_value_t = 200_000)]
    pub(crate) requests: usize,
    /// Brokers' processors, and what one message on its way through costs them.
    #[arg(long, default_value_t = 2)]
    pub(crate) broker_processors: usize,
    #[arg(long, default_value_t = 0.04)]
    pub(crate) broker_ms: f64,
    /// Waited for a message to be on disk; however many wait at once.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) sync_ms: f64,
    /// Dispatchers' processors, and what a request costs them. 0: those of the broker, on the same machine.
    #[arg(long, default_value_t = 2)]
    pub(crate) dispatcher_processors: usize,
    #[arg(long, default_value_t = 0.06)]
    pub(crate) dispatcher_ms: f64,
    /// Calls that the API servers carry out at once, and how long one takes.
    #[arg(long, default_value_t = 32)]
    pub(crate) api_calls: usize,
    #[arg(long, default_value_t = 28.0)]
    pub(crate) api_ms: f64,
    /// Jobs that the controllers of all clusters bring on their way at once, and how long one takes of its time; once on its
    /// way to the pod, and once from the pod's end to the Job's.
    #[arg(long, default_value_t = 1)]
    pub(crate) controllers: usize,
    #[arg(long, default_value_t = 5.0)]
    pub(crate) controller_ms: f64,
    /// Waited by a controller for more to write at once, before it says that a Job has ended.
    #[arg(long, default_value_t = 1000.0)]
    pub(crate) condition_ms: f64,
    /// Pods that run at once, and for how long.
    #[arg(long, default_value_t = 1000)]
    pub(crate) pods: usize,
    #[arg(long, default_value_t = 2000.0)]
    pub(crate) pod_ms: f64,
}

/// A step of a request, and how many milliseconds it takes.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A server's, in the mean.
    Work(usize, f64),
    /// Nobody's, in the mean.
    Wait(f64),
    /// Nobody's, always the same.
    Pause(f64),
}

/// What came of it.
pub(crate) struct Outcome {
    /// Microseconds.
    pub(crate) hits: Histogram<u64>,
    pub(crate) misses: Histogram<u64>,
    pub(crate) stations: Vec<Used>,
}

/// How a station fared.
pub(crate) struct Used {
    pub(crate) name: &'static str,
    /// The part of its time that it worked.
    pub(crate) part: f64,
    /// Its longest queue.
    pub(crate) longest: usize,
}

impl Simulation {
    /// The steps up to the answer, and those after it.
    fn steps(&self, is_hit: bool) -> (Vec<Step>, Vec<Step>) {
        let dispatchers = if self.dispatcher_processors == 0 { BROKER } else { DISPATCHERS };
        let (transit, stored) = (Step::Work(BROKER, self.broker_ms), Step::Wait(self.sync_ms));
        let work = Step::Work(dispatchers, self.dispatcher_ms);
        if is_hit {
            return (vec![transit, stored, work, transit, stored], Vec::new());
        }
        let (call, control) = (Step::Work(API_SERVER, self.api_ms), Step::Work(CONTROLLER, self.controller_ms));
        let run = [control, Step::Work(NODES, self.pod_ms), control, Step::Pause(self.condition_ms)];
        let ask = [transit, stored, work, call];
        let answer = [work, transit, stored];
        // The finalizers of the pod and of the Job.
        ([ask.as_slice(), &run, &answer].concat(), vec![call, call])
    }

    fn servers(&self) -> [usize; 5] {
        [self.broker_processors, self.dispatcher_processors, self.api_calls, self.controllers, self.pods]
    }

    /// Arrivals are a Poisson process, and every service time is exponential: both are harder on queues than what is
    /// measured. Nothing is done in batches, which is harder still under load.
    pub(crate) fn run(&self) -> Outcome {
        let mut network = Network::new(self.servers());
        let mut at = 0.0;
        for _ in 0..self.requests {
            at += network.draw(1e3 / self.rate);
            let is_hit = network.chance.f64() < self.hits;
            let (before, after) = self.steps(is_hit);
            network.arrive(Customer::new(at, before, after, is_hit));
        }
        network.run()
    }

    /// In words.
    pub(crate) fn report(&self) {
        let outcome = self.run();
        for (name, of) in [("hits", &outcome.hits), ("misses", &outcome.misses)] {
            let ms = |quantile| of.value_at_quantile(quantile) as f64 / 1e3;
            println!("{name}: {} of them, p50 {:.1} ms, p99 {:.1} ms", of.len(), ms(0.5), ms(0.99));
        }
        for Used { name, part, longest } in &outcome.stations {
            println!("{name}: {:.0} % used, at most {longest} waiting", part * 100.0);
        }
    }
}

struct Station {
    servers: usize,
    busy: usize,
    waiting: VecDeque<usize>,
    /// Milliseconds of all servers.
    worked: f64,
    longest: usize,
}

struct Customer {
    came: f64,
    /// Those that are still to be taken, the next one last.
    steps: Vec<Step>,
    /// How many of them are left when it is answered.
    left_when_answered: usize,
    is_hit: bool,
}

impl Customer {
    fn new(came: f64, before: Vec<Step>, after: Vec<Step>, is_hit: bool) -> Self {
        let left_when_answered = after.len();
        let steps = before.into_iter().chain(after).rev().collect();
        Self { came, steps, left_when_answered, is_hit }
    }
}

/// Milliseconds from the start, in order.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Moment(f64);

impl Eq for Moment {}
impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

struct Network {
    stations: Vec<Station>,
    customers: Vec<Customer>,
    /// When a customer comes, or has been served at a station.
    events: BinaryHeap<Reverse<(Moment, usize, Option<usize>)>>,
    chance: fastrand::Rng,
}

impl Network {
    fn new(servers: [usize; 5]) -> Self {
        let station = |servers| Station { servers, busy: 0, waiting: VecDeque::new(), worked: 0.0, longest: 0 };
        Self {
            stations: servers.map(station).into(),
            customers: Vec::new(),
            events: BinaryHeap::new(),
            // The same network gives the same figures.
            chance: fastrand::Rng::with_seed(7),
        }
    }

    /// From the exponential distribution of this mean.
    fn draw(&mut self, mean: f64) -> f64 {
        -(1.0 - self.chance.f64()).ln() * mean
    }

    fn arrive(&mut self, customer: Customer) {
        self.events.push(Reverse((Moment(customer.came), self.customers.len(), None)));
        self.customers.push(customer);
    }

    fn run(mut self) -> Outcome {
        let histogram = || Histogram::new_with_bounds(1, 864_000_000_000, 3).expect("the bounds are in order");
        let (mut hits, mut misses, mut now) = (histogram(), histogram(), 0.0);
        while let Some(Reverse((moment, id, left))) = self.events.pop() {
            now = moment.0;
            if let Some(left) = left {
                self.stations[left].busy -= 1;
                if let Some(next) = self.stations[left].waiting.pop_front() {
                    self.proceed(next, now);
                }
            }
            let customer = &self.customers[id];
            if customer.steps.len() == customer.left_when_answered {
                let took = ((now - customer.came) * 1e3) as u64;
                if customer.is_hit { &mut hits } else { &mut misses }.saturating_record(took.max(1));
            }
            match customer.steps.last() {
                Some(Step::Work(at, _)) if self.stations[*at].busy >= self.stations[*at].servers => {
                    let station = &mut self.stations[*at];
                    station.waiting.push_back(id);
                    station.longest = station.longest.max(station.waiting.len());
                }
                _ => self.proceed(id, now),
            }
        }
        let used = |(name, station): (&&'static str, &Station)| Used {
            name,
            part: station.worked / (now * station.servers as f64),
            longest: station.longest,
        };
        let stations = STATIONS.iter().zip(&self.stations).filter(|(_, station)| station.servers > 0).map(used);
        Outcome { hits, misses, stations: stations.collect() }
    }

    /// Begins the customer's next step, if there is one.
    fn proceed(&mut self, id: usize, now: f64) {
        let Some(step) = self.customers[id].steps.pop() else { return };
        let (took, at) = match step {
            Step::Work(at, mean) => (self.draw(mean), Some(at)),
            Step::Wait(mean) => (self.draw(mean), None),
            Step::Pause(ms) => (ms, None),
        };
        if let Some(at) = at {
            self.stations[at].busy += 1;
            self.stations[at].worked += took;
        }
        self.events.push(Reverse((Moment(now + took), id, at)));
    }
}
