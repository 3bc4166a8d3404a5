//! `make load`: what a relayer does under load, on the local validator, over HTTP.

use std::{fs, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use clap::Parser;
use sluice_demo::{
    load::{
        drive::{Phase, Route, Target, drive},
        payers::{Payer, Rpc, Scheme, Till, open},
        plot,
        report::{Report, Run},
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
    /// Payers at once for /settle, one run each
    #[arg(long, value_delimiter = ',', default_value = "1,8,32,128,512")]
    callers: Vec<usize>,
    /// Payers that call /verify at once
    #[arg(long, default_value_t = 64)]
    verifiers: usize,
    /// Seconds for each run
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Milliseconds a slot
    #[arg(long, default_value_t = 100)]
    slot_ms: u64,
    /// Write table, figures and plot under docs/, too
    #[arg(long)]
    accept: bool,
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

    let count = args.callers.iter().copied().max().unwrap_or(1);
    let count = count.max(args.verifiers);
    show::step(&format!("{count} payers open their budgets"));
    let rpc = Rpc::new(localnet.rpc_url());
    let text = fs::read_to_string(localnet.key_file("admin")?)?;
    let bytes: Vec<u8> = serde_json::from_str(&text)?;
    let admin = Keypair::try_from(&bytes[..]).context("the admin's key")?;
    let payers = open(&rpc, &admin, count).await?;
    let service = setting::service_address(&localnet)?;
    let fee_payer = setting::parse(&localnet.address("relayer")?)?;
    let till = Arc::new(Till::open(&rpc, service, fee_payer).await?);
    let time = Duration::from_secs(args.seconds);

    show::step("Every payer asks again as soon as it is answered");
    let target = Target {
        url: relayer.url(),
        pid: relayer.pid(),
    };
    let mut crowd = Crowd { payers, till, time };
    let verifiers = args.verifiers;
    let verify = crowd
        .drive(Route::Verify, Scheme::Split, &target, verifiers)
        .await?;
    let verify_exact = crowd
        .drive(Route::Verify, Scheme::Exact, &target, verifiers)
        .await?;
    let mut runs = Vec::new();
    for scheme in [Scheme::Split, Scheme::Exact] {
        for callers in &args.callers {
            runs.push(crowd.settle(scheme, &target, *callers).await?);
        }
    }
    let report = Report {
        verify,
        verify_exact,
        runs,
    };
    let (table, json) = (report.table(), report.json());
    show::say(&table);
    let json = serde_json::to_string_pretty(&json)? + "\n";
    fs::create_dir_all("target/bench")?;
    fs::write("target/bench/relayer.json", &json)?;
    let svg = plot::svg(&report)?;
    fs::write("target/bench/relayer.svg", &svg)?;
    show::say("Written to target/bench/relayer.json and relayer.svg");
    if args.accept {
        fs::write("docs/load.json", json)?;
        fs::write("docs/load.svg", svg)?;
        accept(&table)?;
        show::say("and to docs/load.md, load.json and load.svg");
    }
    relayer.stop().await?;
    localnet.stop().await
}

/// The payers between runs.
struct Crowd {
    payers: Vec<Payer>,
    till: Arc<Till>,
    time: Duration,
}

impl Crowd {
    async fn drive(
        &mut self,
        route: Route,
        scheme: Scheme,
        target: &Target<'_>,
        callers: usize,
    ) -> Result<Phase> {
        let rest = self.payers.split_off(callers.min(self.payers.len()));
        let payers = std::mem::take(&mut self.payers);
        let (phase, back) = drive(route, scheme, target, &self.till, payers, self.time).await?;
        self.payers = back;
        self.payers.extend(rest);
        Ok(phase)
    }

    async fn settle(&mut self, scheme: Scheme, target: &Target<'_>, callers: usize) -> Result<Run> {
        let before = (self.till.landed(scheme).await?, self.till.lamports().await?);
        let phase = self.drive(Route::Settle, scheme, target, callers).await?;
        // What was told has landed; what was not may land for a moment more.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = (self.till.landed(scheme).await?, self.till.lamports().await?);
        Ok(Run {
            scheme,
            callers,
            phase,
            landed: after.0 - before.0,
            spent: before.1 - after.1,
        })
    }
}

/// Puts the table between the marks in its page.
fn accept(table: &str) -> Result<()> {
    const PAGE: &str = "docs/load.md";
    const MARK: &str = "```text\n";
    let page = fs::read_to_string(PAGE).with_context(|| PAGE.to_owned())?;
    let (head, rest) = page.split_once(MARK).context("a table in the page")?;
    let (_, tail) = rest.split_once("\n```").context("the table's end")?;
    fs::write(PAGE, format!("{head}{MARK}{table}\n```{tail}"))?;
    Ok(())
}
