//! `byway completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::failure::Failure;
use crate::out::Out;

/// Prints completions for a shell.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which shell.
    shell: Shell,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Out<'_>) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut crate::cli::Cli::command(), "byway", &mut text);
    out.bytes(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_gets_completions_that_name_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let (mut data, mut notes) = (Vec::new(), Vec::new());
            run(&Args { shell }, &mut Out::new(&mut data, &mut notes)).expect("a vector takes everything");
            assert!(String::from_utf8_lossy(&data).contains("keygen"), "{shell}");
        }
    }
}
