//! What only the environment can give to a process, and only from its start.
//!
//! Room for what a message's headers nest: the AMQP client reads them by recursion, on a thread with the
//! standard library's default stack of 2 MiB. A header of 3 KiB that nests arrays 500 deep ends an
//! unoptimised process, again at each redelivery. The room is address space; memory is taken as it is used.
//!
//! And memory that goes back: once a body of megabytes was freed, glibc keeps blocks of that size.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

const MIN_STACK: &str = "RUST_MIN_STACK";
/// A frame of 128 KiB nests 26 000 arrays of 5 bytes, and each takes 10 KiB of stack in an unoptimised
/// build: 260 MiB, twice.
const STACK_BYTES: usize = 512 << 20;
/// The runtime's threads only drop what was read: 26 000 times well below 1 KiB.
pub(super) const WORKER_STACK_BYTES: usize = 64 << 20;
const MMAP_THRESHOLD: &str = "MALLOC_MMAP_THRESHOLD_";
/// Four times the usual limit of a body: what is larger is rare, and given back as soon as it is freed.
const MMAP_BYTES: usize = 1 << 20;

/// Starts this program over in the same process with these, unless it has them. Returns where that
/// cannot be done, and then it goes on as it is.
pub(super) fn complete() {
    if std::env::var_os(MIN_STACK).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut again = Command::new(program);
        again.args(std::env::args_os().skip(1)).env(MIN_STACK, STACK_BYTES.to_string());
        if std::env::var_os(MMAP_THRESHOLD).is_none() {
            again.env(MMAP_THRESHOLD, MMAP_BYTES.to_string());
        }
        let error = again.exec();
        eprintln!("warning: cannot start over with deep stacks ({error}); set {MIN_STACK}={STACK_BYTES}");
    }
}
