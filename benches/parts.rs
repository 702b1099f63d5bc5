//! What is measured, part by part.

mod cold;
mod completion;
mod creates;
mod grid;
mod hits;
mod identical;
mod idle;
mod instructions;
mod latency;
mod overload;
mod peers;
mod pod_end;
mod poison;
mod recovery;
mod simulated;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::broker::QueueType;
use crate::report::Part;
use crate::stack::Stack;

/// How much.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    pub(crate) backlog: usize,
    pub(crate) queues: QueueType,
    /// The most open Jobs.
    pub(crate) jobs: usize,
    /// How long an overload lasts.
    pub(crate) overload: Duration,
    /// Whether to measure what people use today, where it takes minutes.
    pub(crate) peers: bool,
    /// Whether the stack and the contenders have a processor each, where backlogs of hits are.
    pub(crate) apart: bool,
    /// Another build of jobquay, measured too.
    pub(crate) beside: Option<PathBuf>,
}

impl Scale {
    /// The numbers of open Jobs to look at.
    pub(crate) fn open_jobs(&self) -> [usize; 2] {
        [self.jobs / 10, self.jobs]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Name {
    /// A backlog of requests whose results are cached.
    Hits,
    /// The same at half of what can be done, one by one.
    Latency,
    /// A backlog of requests that need a Job each.
    Creates,
    /// One such request at a time.
    Idle,
    /// From a Job's condition to the answer.
    Completion,
    /// From a pod's end to the answer.
    PodEnd,
    /// Many at once that want the same.
    Identical,
    /// From the start of the process to its first answer.
    Cold,
    /// Many open Jobs, in memory and after a crash.
    Recovery,
    /// More requests than can be answered, for a while.
    Overload,
    /// Requests among the others that cannot be read.
    Poison,
    /// Kinds of queues, sizes, parts of hits, numbers of dispatchers.
    Grid,
    /// Beside KEDA, Argo Workflows and a Python dispatcher.
    Peers,
    /// The simulation beside what it stands for.
    Simulated,
    /// The pure steps of a hit.
    Instructions,
}

impl Name {
    pub(crate) async fn measure(self, stack: &Stack, scale: &Scale) -> Result<Part> {
        match self {
            Self::Hits => hits::measure(stack, scale).await,
            Self::PodEnd => pod_end::measure(stack, scale).await,
            Self::Overload => overload::measure(stack, scale).await,
            Self::Poison => poison::measure(stack, scale).await,
            Self::Grid => grid::measure(stack, scale).await,
            Self::Peers => peers::measure(stack, scale).await,
            Self::Simulated => simulated::measure(stack, scale).await,
            Self::Instructions => instructions::measure(),
            Self::Cold => cold::measure(stack, scale).await,
            Self::Identical => identical::measure(stack, scale).await,
            Self::Recovery => recovery::measure(stack, scale).await,
            Self::Completion => completion::measure(stack, scale).await,
            Self::Idle => idle::measure(stack, scale).await,
            Self::Creates => creates::measure(stack, scale).await,
            Self::Latency => latency::measure(stack, scale).await,
        }
    }
}

/// Those that tell in a few minutes whether a change has lost something.
pub(crate) const QUICK: [Name; 4] = [Name::Hits, Name::Creates, Name::Idle, Name::Instructions];

impl Scale {
    /// A few short rounds.
    pub(crate) fn quick() -> Self {
        let queues = QueueType::Quorum;
        let (jobs, overload) = (0, Duration::ZERO);
        Self { rounds: 3, backlog: 30_000, queues, jobs, overload, peers: false, apart: false, beside: None }
    }
}

/// The named ones, or all.
pub(crate) fn selected(names: &[Name]) -> Vec<Name> {
    use clap::ValueEnum as _;
    if names.is_empty() { Name::value_variants().to_vec() } else { names.to_vec() }
}

/// What the results are called: those of all parts are not overwritten by those of some.
pub(crate) fn file_of(names: &[Name]) -> String {
    let words = names.iter().map(|name| format!("-{}", format!("{name:?}").to_lowercase()));
    format!("results{}", words.collect::<String>())
}
