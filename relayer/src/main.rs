//! The `sluice-relayer` program.

use std::{io::IsTerminal, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use sluice_relayer::{Config, Relayer, config::LogFormat, guard::Guard, signers};
use tracing_subscriber::EnvFilter;

/// Requests are many small allocations; a tenth of the CPU time of a verdict was the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "\
Examples:
  sluice-relayer check --config relayer.toml --rpc
  sluice-relayer run --config relayer.toml
  SLUICE_RELAYER_LISTEN=0.0.0.0:4020 RUST_LOG=debug sluice-relayer run --config relayer.toml

Every key of the file can be overridden: SLUICE_RELAYER_ and the key in capitals, with two underscores for a table
(SLUICE_RELAYER_LIMITS__BODY_BYTES). Logs go to standard error; RUST_LOG sets what is logged.";

#[derive(Parser)]
#[command(name = "sluice-relayer", version, about = "An x402 facilitator that settles Sluice payments on Solana", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT
    #[command(
        after_help = "Example:\n  sluice-relayer run --config relayer.toml\n\nPrints one line on standard output once it listens:\n  sluice-relayer listening on http://127.0.0.1:4020"
    )]
    Run {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = "relayer.toml")]
        config: PathBuf,
    },
    /// Check configuration and key, and with --rpc what the chain says about them; change nothing
    #[command(
        after_help = "Example:\n  sluice-relayer check --config relayer.toml --rpc\n\nExits with 1 if something does not hold."
    )]
    Check {
        /// The configuration file
        #[arg(long, value_name = "FILE", default_value = "relayer.toml")]
        config: PathBuf,
        /// Also ask the RPC: genesis hash, program config, facilitator, relayer key, balance
        #[arg(long)]
        rpc: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run { config } => run(&config).await,
        Command::Check { config, rpc } => check(&config, rpc).await,
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            // Its text holds its cause's already.
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(path: &std::path::Path) -> anyhow::Result<ExitCode> {
    let config = Config::load(path)?;
    log(config.log_format);
    // Before the start: a signal that comes meanwhile must not be lost.
    let mut signals = Signals::new()?;
    let running = tokio::select! {
        running = Relayer::start(config) => running?,
        name = signals.first() => {
            tracing::info!(signal = name, "stopped before the start was complete");
            return Ok(ExitCode::SUCCESS);
        }
    };
    println!("sluice-relayer listening on {}", running.url());
    let name = signals.first().await;
    tracing::info!(signal = name, "stopping");
    running.stop().await;
    Ok(ExitCode::SUCCESS)
}

async fn check(path: &std::path::Path, rpc: bool) -> anyhow::Result<ExitCode> {
    let config = Config::load(path)?;
    println!("ok    configuration: {}", path.display());
    for source in std::iter::once(&config.fee_payer).chain(&config.more_fee_payers) {
        println!("ok    key: {}", signers::load(source)?.address());
    }
    Guard::new(&config.guard)?;
    println!("ok    guard: {} API keys", config.guard.api_keys.len());
    if !rpc {
        return Ok(ExitCode::SUCCESS);
    }
    let view = Relayer::check(&config).await?;
    for check in &view.checks {
        let word = if check.ok { "ok  " } else { "FAIL" };
        println!("{word}  {}: {}", check.name, check.message);
    }
    Ok(if view.ready {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn,hyper=warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn first(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn first(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) | Err(_) => "CTRL-C",
        }
    }
}
