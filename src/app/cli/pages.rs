//! The manual and shell completions, made from the declarations of the commands.

use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::Shell;

/// Where the manual goes.
#[derive(Args)]
pub(super) struct ManOptions {
    /// Writes a page for each command into this directory; without it the main page is printed.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn man(options: ManOptions, command: Command) -> anyhow::Result<()> {
    match options.dir {
        Some(dir) => {
            std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
            clap_mangen::generate_to(command, &dir).with_context(|| format!("writing to {}", dir.display()))
        }
        None => Ok(clap_mangen::Man::new(command).render(&mut io::stdout())?),
    }
}

pub(super) fn completions(shell: Shell, mut command: Command) {
    clap_complete::generate(shell, &mut command, "barid", &mut io::stdout());
}
