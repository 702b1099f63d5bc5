//! `jobquay man` and `jobquay completions`: what the command line says of itself, for others to read.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;

use super::{Exit, output};

#[derive(Args)]
pub(super) struct Man {
    /// Where to put `jobquay.1` and a page for each command.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn print(&self, command: Command) -> Exit {
        let made = match &self.dir {
            Some(dir) => {
                clap_mangen::generate_to(command, dir).with_context(|| format!("cannot write to {}", dir.display()))
            }
            None => page(command).map(|page| output::write(&page)),
        };
        match made {
            Ok(()) => Exit::Ok,
            Err(error) => {
                output::print_error(&error);
                Exit::Failed
            }
        }
    }
}

fn page(command: Command) -> anyhow::Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(String::from_utf8(page)?)
}

pub(super) fn completions(shell: Shell, mut command: Command) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "jobquay", &mut script);
    output::write(&String::from_utf8_lossy(&script));
    Exit::Ok
}
