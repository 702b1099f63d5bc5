//! Room for what a message's headers nest.
//!
//! The AMQP client reads nested headers by recursion, on a thread with the standard library's default
//! stack of 2 MiB: a header of 3 KiB that nests arrays 500 deep ends an unoptimised process, again at
//! each redelivery. Only the environment can give that thread more, and only from the start. The room
//! is address space; memory is taken as it is used.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

const VARIABLE: &str = "RUST_MIN_STACK";
/// A frame of 128 KiB nests 26 000 arrays of 5 bytes, and each takes 10 KiB of stack in an unoptimised
/// build: 260 MiB, twice.
const BYTES: usize = 512 << 20;
/// The runtime's threads only drop what was read: 26 000 times well below 1 KiB.
pub(super) const OF_WORKERS: usize = 64 << 20;

/// Starts this program over in the same process with deep stacks, unless it has them. Returns where that
/// cannot be done, and then it goes on as it is.
pub(super) fn deepen() {
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let error = Command::new(program).args(std::env::args_os().skip(1)).env(VARIABLE, BYTES.to_string()).exec();
        eprintln!("warning: cannot start over with deep stacks ({error}); set {VARIABLE}={BYTES}");
    }
}
