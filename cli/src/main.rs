//! The `sluice` command line. Reading order: `args` (what can be said), `context` (settings, RPC, keys),
//! `transact` (review, confirm, send), and a file for each group of commands.

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

mod amount;
mod args;
mod commands;
mod context;
mod errors;
mod output;
mod transact;
mod values;

use args::{Cli, Command};
use context::Context;
use errors::CliError;
use output::Output;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            Output::new(cli.globals.output).error(&error);
            error.exit_code()
        }
    }
}

fn run(cli: &Cli) -> Result<(), CliError> {
    // These two need neither settings nor a chain.
    match &cli.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "sluice", &mut script);
            // A reader that has gone away is not an error.
            let _ = std::io::Write::write_all(&mut std::io::stdout(), &script);
            return Ok(());
        }
        Command::Keygen(command) => return command.run(&Output::new(cli.globals.output)),
        _ => {}
    }
    let context = Context::new(&cli.globals)?;
    match &cli.command {
        Command::Config(command) => command.run(&context),
        Command::Mint(command) => command.run(&context),
        Command::Facilitator(command) => command.run(&context),
        Command::Service(command) => command.run(&context),
        Command::Payer(command) => command.run(&context),
        Command::Pay(command) => command.run(context),
        Command::Intent(command) => command.run(&context),
        Command::Migrate(command) => command.run(&context),
        Command::Keygen(_) | Command::Completions { .. } => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.get_subcommands().next().is_none() {
                let help = command
                    .get_after_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(help.contains("Example"), "{path} has no example");
            }
            command.get_subcommands().for_each(|one| check(one, &path));
        }
        check(&Cli::command(), "");
    }

    #[test]
    fn global_flags_stand_anywhere() {
        let cli = Cli::parse_from([
            "sluice", "config", "show", "-u", "devnet", "--output", "json",
        ]);
        assert_eq!(cli.globals.url.as_deref(), Some("devnet"));
        assert!(Cli::try_parse_from(["sluice", "config", "pause", "--yes", "--dry-run"]).is_err());
        assert!(
            Cli::try_parse_from(["sluice", "config", "set-fees"]).is_err(),
            "nothing to set"
        );
    }
}
