//! `make load`: what a relayer does under load, on the local validator, over HTTP.

use std::{fs, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use clap::Parser;
use sluice_demo::{
    load::{
        drive::{Route, drive},
        payers::{Rpc, Till, open},
        report::Report,
    },
    processes::{Cli, Localnet, Relayer},
    setting::{self, Setting},
    show,
};
use solana_keypair::Keypair;

/// Drive a relayer with hundreds of payers, and measure.
#[derive(Debug, Parser)]
#[command(name = "sluice-load", version)]
struct Args {
    /// Payers, each of which waits for one answer at a time
    #[arg(long, default_value_t = 512)]
    payers: usize,
    /// Payers that call /verify at once
    #[arg(long, default_value_t = 64)]
    verifiers: usize,
    /// Seconds for each route
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Milliseconds a slot
    #[arg(long, default_value_t = 100)]
    slot_ms: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<()> {
    let setting = Setting::fresh("target/load")?;
    show::step("A local validator, set up by migrations, and a relayer");
    let localnet = Localnet::start(&setting, args.slot_ms).await?;
    setting.write_migrations(&localnet)?;
    let cli = Cli::new(localnet.rpc_url());
    cli.run(&["migrate", "apply", "--file", &setting.migrations(), "--yes"])
        .await?;
    let relayer = Relayer::start(&setting, &localnet).await?;

    show::step(&format!("{} payers open their budgets", args.payers));
    let rpc = Rpc::new(localnet.rpc_url());
    let text = fs::read_to_string(localnet.key_file("admin")?)?;
    let bytes: Vec<u8> = serde_json::from_str(&text)?;
    let admin = Keypair::try_from(&bytes[..]).context("the admin's key")?;
    let mut payers = open(&rpc, &admin, args.payers).await?;
    let service = setting::service_address(&localnet)?;
    let till = Arc::new(Till::open(&rpc, service).await?);
    let time = Duration::from_secs(args.seconds);

    show::step("Every payer asks again as soon as it is answered");
    let (url, pid) = (relayer.url(), relayer.pid());
    let rest = payers.split_off(args.verifiers.min(payers.len()));
    let (verify, mut back) = drive(Route::Verify, url, pid, &till, payers, time).await?;
    back.extend(rest);
    let fee_payer = setting::parse(&localnet.address("relayer")?)?;
    let before = (
        rpc.service(&service).await?.payments,
        rpc.lamports(&fee_payer).await?,
    );
    let (settle, _) = drive(Route::Settle, url, pid, &till, back, time).await?;
    // What was told has landed; what was not may land for a moment more.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = (
        rpc.service(&service).await?.payments,
        rpc.lamports(&fee_payer).await?,
    );
    let mut report = Report {
        verify,
        settle,
        landed: after.0 - before.0,
        spent: before.1 - after.1,
    };
    report.print();
    fs::create_dir_all("target/bench")?;
    let text = serde_json::to_string_pretty(&report.json())? + "\n";
    fs::write("target/bench/relayer.json", text)?;
    show::say("Written to target/bench/relayer.json");
    relayer.stop().await?;
    localnet.stop().await
}
