//! Parses the command line, calls it, prints the error chain, sets the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    jobquay::cli::main()
}
