//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use solana_commitment_config::CommitmentConfig;

use crate::{commands, output::Format};

// Paragraphs are one line each: they are wrapped to the terminal's width.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  error; nothing is left open
  2  the command line is wrong
  3  not confirmed: nothing was sent
  4  unknown outcome: sent, not known yet whether it took effect
  5  the RPC or the server cannot be reached

After 4 the message says how to find out; it is never a reason to repeat the command blindly.

Settings: a flag wins over the environment (SLUICE_URL, SLUICE_KEYPAIR, SLUICE_COMMITMENT, SLUICE_CONFIG), that \
over the Solana CLI's file (~/.config/solana/cli/config.yml), that over the Solana CLI's defaults.

Amounts are tokens like 1.50, or atomic units with a u: 1500000u. Both are printed.

Examples:
  sluice -u localhost config show
  sluice -u devnet service quote SERVICE 1.50
  sluice payer open --approve 5 --session AGENT --max 0.10
  sluice pay https://api.example.com/report --max 0.05";

/// Split x402 payments on Solana, settled in one instruction.
///
/// For the admin (config, mint), the facilitator, the integrator (service) and the payer (payer, pay). Every
/// command that changes something shows what it will change, who signs and what it costs, and asks; --dry-run
/// stops there, --yes does not ask.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    /// Settings of every command.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Settings of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// The RPC: a URL, or localhost, devnet, testnet, mainnet-beta
    #[arg(
        short,
        long,
        global = true,
        env = "SLUICE_URL",
        hide_env_values = true,
        value_name = "URL_OR_MONIKER"
    )]
    pub url: Option<String>,

    /// Keypair file of the signer; - reads it from standard input
    #[arg(
        short,
        long,
        global = true,
        env = "SLUICE_KEYPAIR",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub keypair: Option<String>,

    /// The Solana CLI's config file [default: ~/.config/solana/cli/config.yml]
    #[arg(
        long,
        global = true,
        env = "SLUICE_CONFIG",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub config: Option<String>,

    /// How settled a state must be before it counts [default: the Solana CLI's, or confirmed]
    #[arg(
        long,
        global = true,
        env = "SLUICE_COMMITMENT",
        hide_env_values = true,
        value_enum
    )]
    pub commitment: Option<Commitment>,

    /// How results are written
    #[arg(long, global = true, value_enum, default_value_t)]
    pub output: Format,

    /// Do not ask before changing something
    #[arg(long, global = true)]
    pub yes: bool,

    /// Simulate, show accounts and cost, and change nothing
    #[arg(long, global = true, conflicts_with = "yes")]
    pub dry_run: bool,
}

/// How settled a state must be before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Commitment {
    /// Seen by the node that is asked
    Processed,
    /// Voted for by two thirds
    Confirmed,
    /// Never to be undone
    Finalized,
}

impl Commitment {
    /// As the RPC client wants it.
    pub fn config(self) -> CommitmentConfig {
        match self {
            Self::Processed => CommitmentConfig::processed(),
            Self::Confirmed => CommitmentConfig::confirmed(),
            Self::Finalized => CommitmentConfig::finalized(),
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The deployment's config: fees, treasury, pause (admin)
    #[command(subcommand)]
    Config(commands::config::Command),
    /// The mints that services may be paid in (admin)
    #[command(subcommand)]
    Mint(commands::mint::Command),
    /// Facilitators, who run relayers
    #[command(subcommand)]
    Facilitator(commands::facilitator::Command),
    /// Services: who receives which share of a payment
    #[command(subcommand)]
    Service(commands::service::Command),
    /// A payer's budget and its keys
    #[command(subcommand)]
    Payer(commands::payer::Command),
    /// Pay for an HTTP request and print the receipt
    Pay(commands::pay::Pay),
    /// Payment intents
    #[command(subcommand)]
    Intent(commands::intent::Command),
    /// Set a cluster up from a TOML file
    #[command(subcommand)]
    Migrate(commands::migrate::Command),
    /// Make a keypair file
    Keygen(commands::keygen::Keygen),
    /// Print a completion script for a shell
    #[command(
        after_help = "Examples:\n  sluice completions bash > ~/.local/share/bash-completion/completions/sluice\n  sluice completions zsh > ~/.zfunc/_sluice"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}
