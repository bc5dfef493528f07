//! The one binary: daemon and commands.
//!
//! Each command is one file under `commands`. Data goes to stdout and all else to stderr; the exit status is 0 for yes, 1 for
//! no, 2 for "could not run". A closed pipe is success.

mod cli;
mod commands;
mod connect;
mod failure;
mod keys;
mod map;
mod out;
mod stop;
mod target;

use std::io::IsTerminal;
use std::process::ExitCode;

use byway_daemon::config::LogLevel;
use clap::Parser;

use crate::cli::{Cli, Color, Command, Global};
use crate::commands::Context;
use crate::failure::Failure;
use crate::out::Out;
use crate::stop::Stop;

fn main() -> ExitCode {
    // Helpers of the demo are this program again, before it has threads.
    if let Some(status) = commands::demo::helper() {
        return status;
    }
    let cli = Cli::parse();
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    let mut out = Out::new(&mut stdout, &mut stderr);
    out.json = cli.global.json;
    out.quiet = cli.global.quiet;
    out.color = match cli.global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
    };
    let failure = match run(&cli, &mut out) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    let (status, text) = failure.status();
    if let Some(text) = text {
        // Faults of a configuration have a line each, which editors and scripts can read as they are.
        if text.contains('\n') { eprintln!("{text}") } else { eprintln!("byway: {text}") }
    }
    ExitCode::from(status)
}

fn run(cli: &Cli, out: &mut Out<'_>) -> Result<(), Failure> {
    match &cli.command {
        Command::Up(args) => commands::up::run(args, &cli.global),
        Command::Keygen(args) => commands::keygen::run(args, out),
        Command::Addr(args) => commands::addr::run(args, out),
        Command::Ip6(args) => commands::ip6::run(args, out),
        Command::Completions(args) => commands::completions::run(args, out),
        Command::Man(args) => commands::man::run(args, out),
        Command::Config(args) if !args.needs_daemon() => commands::config::run(args, out),
        command => {
            log(&cli.global);
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            let outcome = runtime.block_on(with_daemon(command, &cli.global, out));
            // A read of stdin that never ends must not keep the process.
            runtime.shutdown_background();
            outcome
        }
    }
}

async fn with_daemon(command: &Command, global: &Global, out: &mut Out<'_>) -> Result<(), Failure> {
    // Only the demo has something to clean up when its terminal goes; other commands leave that to `nohup` and the system.
    let stop = Stop::on_signal(matches!(command, Command::Demo(_)))?;
    if let Command::Demo(args) = command {
        return commands::demo::run(args, out, stop).await;
    }
    let daemon = connect::connect(global.api.as_deref()).await?;
    let mut context = Context { service: &daemon, out, level: global.mancon, stop };
    let outcome = dispatch(command, &mut context).await;
    // What was sent last must be with the daemon before this process ends.
    daemon.settle().await;
    outcome
}

async fn dispatch(command: &Command, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let (stdin, stdout) = (tokio::io::stdin(), tokio::io::stdout());
    match command {
        // These end by themselves when the user wants it, some with a summary.
        Command::Status(args) => commands::status::run(args, context).await,
        Command::Peers(args) => commands::peers::run(args, context).await,
        Command::Links(args) => commands::links::run(args, context).await,
        Command::Routes(args) => commands::routes::run(args, context).await,
        Command::Nodes(args) => commands::nodes::run(args, context).await,
        Command::Sessions(args) => commands::sessions::run(args, context).await,
        Command::Ping(args) => commands::ping::run(args, context).await,
        Command::Echo(args) => commands::echo::run(args, context).await,
        Command::Nc(args) => commands::nc::run(args, context, stdin).await,
        Command::Dial(args) => commands::dial::run(args, context, stdin, stdout).await,
        Command::Listen(args) => commands::listen::run(args, context).await,
        command => {
            let mut stop = context.stop.clone();
            tokio::select! {
                outcome = once(command, context) => outcome,
                () = stop.wait() => Err(Failure::no("")),
            }
        }
    }
}

/// Commands that ask once.
async fn once(command: &Command, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    match command {
        Command::Down(args) => commands::down::run(args, context).await,
        Command::Config(_) => commands::config::reload(context).await,
        Command::Peer(args) => commands::peer::run(args, context).await,
        Command::Trace(args) => commands::trace::run(args, context).await,
        Command::Find(args) => commands::find::run(args, context).await,
        Command::Lookup(args) => commands::lookup::run(args, context).await,
        other => Err(Failure::could_not(format!("{other:?} is run elsewhere"))),
    }
}

/// The log of a command: silent unless the user wants it, since commands tell what went wrong themselves.
fn log(global: &Global) {
    match global.verbose {
        0 => {}
        1 => byway_daemon::log_at(LogLevel::Debug),
        _ => byway_daemon::log_at(LogLevel::Trace),
    }
}
