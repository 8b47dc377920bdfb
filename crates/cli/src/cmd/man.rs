//! `muster man DIR`: one page for `muster` and one for each command.

use clap::CommandFactory;

use crate::args::{Cli, ManArgs};
use crate::exit_code::{CommandResult, Failure, OK};

pub(crate) fn man(args: &ManArgs) -> CommandResult {
    clap_mangen::generate_to(Cli::command(), &args.dir)
        .map_err(|error| Failure::usage(format!("man pages cannot be written into {}: {error}", args.dir.display())))?;
    Ok(OK)
}
