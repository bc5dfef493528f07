//! `byway man`.

use std::path::PathBuf;

use clap::CommandFactory;

use crate::failure::Failure;
use crate::out::Out;

/// Prints the manual page, or writes one for each command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Writes byway.1 and a page for each command into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Out<'_>) -> Result<(), Failure> {
    let command = crate::cli::Cli::command();
    match &args.out {
        Some(directory) => clap_mangen::generate_to(command, directory)
            .map_err(|error| Failure::could_not(format!("{}: {error}", directory.display()))),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(command).render(&mut page)?;
            out.bytes(&page)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_a_manual_page_and_each_command_has_one() {
        let (mut data, mut notes) = (Vec::new(), Vec::new());
        run(&Args { out: None }, &mut Out::new(&mut data, &mut notes)).expect("a vector takes everything");
        assert!(String::from_utf8_lossy(&data).contains(".TH byway 1"));

        let directory = tempfile::tempdir().expect("a directory");
        let args = Args { out: Some(directory.path().into()) };
        run(&args, &mut Out::new(&mut Vec::new(), &mut Vec::new())).expect("the directory is there");
        assert!(directory.path().join("byway-ping.1").exists());
    }
}
