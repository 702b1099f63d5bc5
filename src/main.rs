//! Parses the command line, calls it, prints the error chain, sets the exit code.

use std::process::ExitCode;

/// A request is some hundred small allocations on one thread that another frees: a quarter of the time that a hit took.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    jobquay::cli::main()
}
