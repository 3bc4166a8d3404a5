//! `make demo`: the whole of Sluice on one machine, with the real parts. A local validator and a relayer are
//! started as an operator would start them, the chain is set up by migrations, and an agent pays a small HTTP
//! server through `sluice pay`. Everything that is printed was done.

use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use sluice_demo::{
    api,
    balances::{self, Balances},
    processes::{Cli, Localnet, Relayer},
    setting::{self, Setting},
    show,
};

/// Watch payments happen: a local validator, a relayer, a paid server and an agent.
#[derive(Debug, Parser)]
#[command(
    name = "sluice-demo",
    version,
    after_help = "Examples:\n  make demo        from nothing to the receipts, leaves nothing running\n  make demo-up     the same, left running with its URLs printed"
)]
struct Args {
    /// Leave everything running until Ctrl-C, and print the URLs
    #[arg(long)]
    keep: bool,
    /// Milliseconds a slot
    #[arg(long, default_value_t = 400)]
    slot_ms: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    // Dropping the demo ends what it started: nothing is left running if it is asked to go early.
    let ended = tokio::select! {
        ended = run(&args) => ended,
        asked = terminated() => asked,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns when the demo is asked to end by SIGTERM.
async fn terminated() -> Result<()> {
    signal(SignalKind::terminate())
        .context("listening for SIGTERM")?
        .recv()
        .await;
    bail!("ended by SIGTERM")
}

async fn run(args: &Args) -> Result<()> {
    let setting = Setting::fresh("target/demo")?;

    show::step("A local validator, with the Sluice program and everybody's demo keys");
    let localnet = Localnet::start(&setting, args.slot_ms).await?;
    show::fact("rpc", localnet.rpc_url());
    show::fact("program", localnet.text("program_id")?);
    show::fact(
        "mint",
        &format!(
            "{} (test money at devnet USDC's address)",
            localnet.text("mint")?
        ),
    );

    show::step("The chain is set up by migrations: config, mint, facilitator, service");
    setting.write_migrations(&localnet)?;
    let cli = Cli::new(localnet.rpc_url());
    cli.run(&["migrate", "plan", "--file", &setting.migrations()])
        .await?;
    cli.run(&["migrate", "apply", "--file", &setting.migrations(), "--yes"])
        .await?;
    show::say("A second apply finds nothing to do:");
    cli.run(&["migrate", "apply", "--file", &setting.migrations(), "--yes"])
        .await?;

    show::step("The relayer: an x402 facilitator with a ledger");
    let relayer = Relayer::start(&setting, &localnet).await?;
    show::fact("listens at", relayer.url());
    show::fact(
        "log",
        setting.relayer_log().to_str().context("a path in UTF-8")?,
    );

    show::step("A paid HTTP server, one of whose routes costs 0.05");
    let service = setting::service_address(&localnet)?;
    let api = api::serve(relayer.url(), service).await?;
    show::fact("paid route", &api.url("/report"));
    cli.run(&["service", "quote", &service.to_string(), "0.05"])
        .await?;

    show::step("The payer gives an agent a budget: at most 0.10 a payment, 0.20 an hour");
    let (payer_file, agent_file) = (localnet.key_file("payer")?, localnet.key_file("agent")?);
    let (payer, agent) = (localnet.address("payer")?, localnet.address("agent")?);
    cli.run(&[
        "payer",
        "open",
        "-k",
        &payer_file,
        "--approve",
        "5",
        "--session",
        &agent,
        "--max",
        "0.10",
        "--per-period",
        "0.20",
        "--period",
        "1h",
        "--expires-in",
        "1d",
        "--yes",
    ])
    .await?;

    let parties = setting::parties(&localnet, service)?;
    let before = Balances::read(&localnet, &parties).await?;

    show::step("The agent pays, three times: it signs 40 bytes, and owns no SOL");
    let report = api.url("/report");
    let pay = payment(&report, &payer, &agent_file, relayer.url());
    for _ in 0..3 {
        cli.run(&pay).await?;
    }

    show::step("What the agent may not do is refused before anything is spent");
    show::say("A route for 0.50 is over its limit of 0.10 a payment:");
    let archive = api.url("/archive");
    let over = payment(&archive, &payer, &agent_file, relayer.url());
    ensure!(
        !cli.may_fail(&over).await?,
        "a payment over the limit went through"
    );

    show::step("What it all did");
    let after = Balances::read(&localnet, &parties).await?;
    balances::print(&before, &after)?;
    ensure!(
        after.lamports("payer")? == before.lamports("payer")?,
        "the payer lost SOL"
    );

    if args.keep {
        show::step("Left running until Ctrl-C");
        show::fact("rpc", localnet.rpc_url());
        show::fact("relayer", relayer.url());
        show::fact("paid route", &report);
        show::fact("keys", setting.keys().to_str().context("a path in UTF-8")?);
        show::say(&format!("Try: {}", cli.line(&pay)));
        tokio::signal::ctrl_c()
            .await
            .context("waiting for Ctrl-C")?;
    }
    api.stop().await;
    relayer.stop().await?;
    localnet.stop().await?;
    println!("\nDone. Nothing is left running.");
    Ok(())
}

/// The arguments of `sluice pay`, as the agent types them.
fn payment<'a>(url: &'a str, payer: &'a str, signer: &'a str, relayer: &'a str) -> [&'a str; 9] {
    [
        "pay",
        url,
        "--payer",
        payer,
        "--signer",
        signer,
        "--relayer",
        relayer,
        "--yes",
    ]
}
