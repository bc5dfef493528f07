//! The command line, from which help, completions and the manual come, too.

use byway_api::ManCon;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::commands;

/// Keeps ordinary programs talking when networks are watched or blocked.
#[derive(Debug, Parser)]
#[command(
    name = "byway",
    version,
    max_term_width = 100,
    after_help = "Exit status: 0 yes, 1 no (no answer, not found, refused), 2 could not run (bad usage, no daemon).\n\
                  Try `byway demo` first; then `byway up`, and `byway status` beside it."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Stands above what every command understands, so that what is a command's own comes first.
const EVERYWHERE: &str = "Options of every command";

/// What every command understands.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Global {
    /// The daemon's API, like unix:/run/byway/api.sock or http://127.0.0.1:2560; without it the user's socket, else the
    /// system's.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "URL", env = "BYWAY_API", hide_env_values = true)]
    pub(crate) api: Option<String>,
    /// Prints data as JSON: one object, or one object a line where it goes on.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    /// How private the way of what is sent must be: its level; for `up`, that of requests that name none.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_name = "LEVEL", value_parser = level())]
    pub(crate) mancon: Option<ManCon>,
    /// Tells more on stderr; twice for everything.
    #[arg(short, long, global = true, help_heading = EVERYWHERE, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Tells nothing on stderr but failures.
    #[arg(short, long, global = true, help_heading = EVERYWHERE, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Whether to use colours.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_enum, default_value_t = Color::Auto)]
    pub(crate) color: Color,
}

/// Whether to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Yes.
    Always,
    /// No.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Up(commands::up::Args),
    Down(commands::down::Args),
    Demo(commands::demo::Args),
    Config(commands::config::Args),
    Keygen(commands::keygen::Args),
    Addr(commands::addr::Args),
    Ip6(commands::ip6::Args),
    Status(commands::status::Args),
    Peers(commands::peers::Args),
    Links(commands::links::Args),
    Routes(commands::routes::Args),
    Nodes(commands::nodes::Args),
    Sessions(commands::sessions::Args),
    Peer(commands::peer::Args),
    Ping(commands::ping::Args),
    Trace(commands::trace::Args),
    Echo(commands::echo::Args),
    Nc(commands::nc::Args),
    Dial(commands::dial::Args),
    Listen(commands::listen::Args),
    Find(commands::find::Args),
    Lookup(commands::lookup::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
}

fn level() -> impl TypedValueParser<Value = ManCon> {
    PossibleValuesParser::new(ManCon::ALL.map(ManCon::name)).try_map(|name| name.parse::<ManCon>())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound_and_every_command_has_help() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            assert!(sub.get_about().is_some(), "{} has no help", sub.get_name());
        }
    }

    #[test]
    fn addresses_that_start_like_options_are_addresses() {
        // The text form has dashes, and one address in 64 starts with one.
        for bytes in [[1; 32], [0; 32], [0x3f; 32]] {
            let addr = byway_identity::Addr::from_bytes(bytes).to_string();
            for args in [
                vec!["ping", "-c", "3", &addr, "-i", "1"],
                vec!["ping", &addr, "-c3", "--json"],
                vec!["trace", &addr],
                vec!["nc", "--raw", &addr],
                vec!["dial", &addr, "--service", "x"],
                vec!["find", &addr[..3]],
                vec!["lookup", &addr],
                vec!["ip6", &addr],
                vec!["peer", "add", &addr, "udp://h:1", "--save"],
                vec!["peer", "rm", &addr],
            ] {
                let parsed = Cli::try_parse_from(std::iter::once("byway").chain(args.iter().copied()));
                let shown = parsed.map(|cli| format!("{cli:?}"));
                let text = shown.unwrap_or_else(|error| panic!("{args:?}: {error}"));
                assert!(text.contains(&addr[..3]) || args[0] == "peer", "{args:?}: {text}");
            }
        }
        assert!(Cli::try_parse_from(["byway", "status", "--no-such-option"]).is_err());
    }

    #[test]
    fn help_shows_no_value_of_the_environment() {
        // The URL may hold the token of the API.
        for argument in Cli::command().get_arguments().filter(|argument| argument.get_env().is_some()) {
            assert!(argument.is_hide_env_values_set(), "{}", argument.get_id());
        }
    }

    #[test]
    fn levels_are_checked_and_global_flags_go_anywhere() {
        let cli = Cli::try_parse_from(["byway", "ping", "ADDR", "--mancon", "very-high", "--json"])
            .expect("good usage");
        assert_eq!((cli.global.mancon, cli.global.json), (Some(ManCon::VeryHigh), true));
        assert!(Cli::try_parse_from(["byway", "--mancon", "hihg", "status"]).is_err());
    }
}
