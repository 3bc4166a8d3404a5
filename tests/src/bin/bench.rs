//! `make bench`: what a payment costs on chain, measured in LiteSVM with mainnet's features on the built
//! program. Prints a table, writes `target/bench/program.json`, and compares with `docs/compute-units.md`: a figure
//! more than 3 % above the one written there is an error, a better one is written down. `--accept` writes down
//! whatever was measured.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot run must stop"
)]

use std::{collections::BTreeMap, fs, path::Path, process::ExitCode};

use serde_json::json;
use sluice_intent::Skip;
use sluice_sdk::{
    Address,
    instructions::{self, SettleItem},
    transaction::{Budget, BuildError, MAX_V0_LEN, MAX_V1_LEN, Version, build, wire},
};
use sluice_tests::{Outcome, Payer, World, lane_terms, program_path};
use solana_keypair::Keypair;
use solana_signer::Signer;

/// Recipients of the service whose batches are measured.
const BATCH_RECIPIENTS: usize = 4;

fn main() -> ExitCode {
    let accept = std::env::args().any(|arg| arg == "--accept");
    let so_bytes = fs::metadata(program_path()).unwrap().len();
    let by_recipients: BTreeMap<String, u64> = [1, 2, 4, 8]
        .into_iter()
        .map(|n| (n.to_string(), single(n).units))
        .collect();
    let by_batch: BTreeMap<String, u64> = [1, 5, 10, 20]
        .into_iter()
        .map(|n| (n.to_string(), batch(1, n, Version::V1).units))
        .collect();
    let settle_cu = by_recipients["1"];
    let ed25519_cu = signature();
    let (v0, v0_bytes) = largest(Version::V0);
    let (v1, v1_bytes) = largest(Version::V1);
    let exact = exact_fee();
    let by_distribution: BTreeMap<String, u64> = [1, 8]
        .into_iter()
        .map(|n| (n.to_string(), distribution(n).units))
        .collect();
    let lane_cu = lane().units;
    let each = |outcome: &Outcome, n: usize| outcome.fee as f64 / n as f64;
    let lone = each(&single(1), 1);
    let small = each(&batch(BATCH_RECIPIENTS, v0, Version::V0), v0);
    let large = each(&batch(BATCH_RECIPIENTS, v1, Version::V1), v1);

    let report = json!({
        "settle_cu": settle_cu,
        "settle_cu_by_recipients": by_recipients,
        "settle_batch_cu": by_batch,
        "ed25519_cu": ed25519_cu,
        "distribute_cu_by_recipients": by_distribution,
        "set_lane_cu": lane_cu,
        "so_bytes": so_bytes,
        "batch_max": { "v0": v0, "v1": v1 },
        "lamports_per_payment": { "exact": exact, "single": lone, "v0": small, "v1": large },
    });
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/program.json");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, serde_json::to_string_pretty(&report).unwrap() + "\n").unwrap();

    let per = |n: &str| by_batch[n] as f64 / n.parse::<f64>().unwrap();
    println!("The program: {so_bytes} bytes (bar 500,000)");
    println!("Compute units of a settle, one payment");
    println!("  three legs (1 recipient)   {settle_cu:>8}   (bar 26,500)");
    for n in ["2", "4", "8"] {
        println!("  {n} recipients               {:>8}", by_recipients[n]);
    }
    println!("  signature and digest       {ed25519_cu:>8}   of these");
    println!("Compute units of a settle with three legs, batches");
    for n in ["1", "5", "10", "20"] {
        let bar = 27_500 + 17_000 * (n.parse::<u64>().unwrap() - 1);
        println!(
            "  {n:>2} payments              {:>9}   (bar {bar}; {:.0} each)",
            by_batch[n],
            per(n)
        );
    }
    println!("Compute units of other instructions");
    for (n, units) in &by_distribution {
        println!("  distribute, {n} recipients   {units:>8}");
    }
    println!("  set_lane                   {lane_cu:>8}");
    println!("Largest batch with {BATCH_RECIPIENTS} recipients");
    println!("  transaction v0             {v0:>8}   ({v0_bytes} of {MAX_V0_LEN} bytes)");
    println!("  transaction v1             {v1:>8}   ({v1_bytes} of {MAX_V1_LEN} bytes)");
    println!("Lamports a payment");
    println!("  x402 exact                 {exact:>8}");
    println!("  Sluice, alone              {lone:>8.0}");
    println!("  Sluice, full v0 batch      {small:>8.0}");
    println!("  Sluice, full v1 batch      {large:>8.0}");
    println!("Written to target/bench/program.json");

    let mut figures = vec![("bytes of the program".to_owned(), so_bytes)];
    let one = |n: &String, units: &u64| (format!("settle, 1 payment, {n} recipients"), *units);
    figures.extend(by_recipients.iter().map(|(n, units)| one(n, units)));
    let mut sizes: Vec<_> = by_batch.iter().collect();
    sizes.sort_by_key(|(n, _)| n.parse::<u64>().unwrap());
    let many = |n: &String, units: u64| (format!("settle, {n} payments, 1 recipient"), units);
    figures.extend(sizes.iter().map(|(n, units)| many(n, **units)));
    figures.push(("signature and digest".to_owned(), ed25519_cu));
    let paid = |n: &String, units: &u64| (format!("distribute, {n} recipients"), *units);
    figures.extend(by_distribution.iter().map(|(n, units)| paid(n, units)));
    figures.push(("set_lane".to_owned(), lane_cu));
    record(&figures, accept)
}

/// Compares with the figures in `docs/compute-units.md`, and writes better ones down.
fn record(figures: &[(String, u64)], accept: bool) -> ExitCode {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/compute-units.md");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let written: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| ")?
                .strip_suffix(" |")?
                .split_once(" | ")
        })
        .filter_map(|(name, figure)| Some((name, figure.replace(',', "").parse().ok()?)))
        .collect();
    let over = |name: &str, now: u64, permille: u64| {
        written
            .get(name)
            .is_some_and(|before| now * 1_000 > before * (1_000 + permille))
    };
    let worse: Vec<_> = figures
        .iter()
        .filter(|(name, now)| over(name, *now, 30))
        .collect();
    if !worse.is_empty() && !accept {
        for (name, now) in worse {
            eprintln!(
                "{name}: {now}, more than 3 % above the {} of docs/compute-units.md",
                written[&**name]
            );
        }
        eprintln!(
            "find out why; if it is worth it, `make bench-accept` writes the new figures down"
        );
        return ExitCode::FAILURE;
    }
    // A few units depend on the keys, so only what is clearly better is news.
    let better = |name: &str, now: u64| {
        written
            .get(name)
            .is_none_or(|before| now * 1_000 < before * 995)
    };
    if accept || figures.iter().any(|(name, now)| better(name, *now)) {
        let mut text = String::from(HEAD);
        for (name, now) in figures {
            let keep = written
                .get(&**name)
                .filter(|before| !accept && *now > **before);
            text += &format!("| {name} | {} |\n", grouped(*keep.unwrap_or(now)));
        }
        fs::write(&path, text).unwrap();
        println!("docs/compute-units.md has the new figures");
    }
    ExitCode::SUCCESS
}

const HEAD: &str = "# What the program costs

Compute units, measured by `make bench` in LiteSVM with mainnet's features on the built program: SBPF v3, classic token program, every leg paid,
nonce accounts in use. A settle of one payment with one recipient has three legs: recipient, treasury, facilitator.

`make bench` fails when a figure is more than 3 % above the one here, and writes better ones down; `make bench-accept` writes down whatever it measures.

| what | compute units |
|---|---|
";

/// A number with commas.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The division of what arrived in a vault without an intent.
fn distribution(recipients: usize) -> Outcome {
    let mut world = World::with_recipients(&shares(recipients));
    let vault = Address::new_from_array(world.service_account(&world.service).vault);
    world.change_token(vault, |state| state.amount = 1_000_003);
    let accounts = world.settle_accounts(&world.service);
    let instruction = instructions::distribute(&world.relayer.pubkey(), &accounts, &[]);
    world.send_as_relayer(&[instruction]).unwrap()
}

/// A payer's change of a lane.
fn lane() -> Outcome {
    let mut world = World::new();
    let payer = warm(&mut world);
    let terms = lane_terms(payer.session.pubkey());
    world.set_lane(&payer, 1, &terms).unwrap()
}

/// Shares of `n` recipients.
fn shares(n: usize) -> Vec<u16> {
    let each = u16::try_from(10_000 / n).unwrap();
    let mut shares = vec![each; n];
    shares[0] += 10_000 - each * u16::try_from(n).unwrap();
    shares
}

/// A nonce account in use, so that windows and counters are not all zero.
fn warm(world: &mut World) -> Payer {
    let payer = world.payer(1_000_000_000);
    let first = world.item(&payer, 1_000_003, 0);
    world.settle(&[first], true).unwrap();
    payer
}

fn items(world: &mut World, n: usize) -> Vec<SettleItem> {
    (0..n)
        .map(|_| {
            let payer = warm(world);
            world.item(&payer, 1_000_003, 1)
        })
        .collect()
}

/// One payment to `recipients`.
fn single(recipients: usize) -> Outcome {
    let mut world = World::with_recipients(&shares(recipients));
    let items = items(&mut world, 1);
    let instruction = world.settle_instruction(&items, true);
    let relayer = world.relayer.insecure_clone();
    // Version 1 carries its limits in the header, so that the units are the settle's alone.
    let outcome = world
        .send_version(Version::V1, &[instruction], &[&relayer])
        .unwrap();
    assert_eq!(outcome.codes, [0]);
    outcome
}

/// `n` payments of `n` payers.
fn batch(recipients: usize, n: usize, version: Version) -> Outcome {
    let mut world = World::with_recipients(&shares(recipients));
    let items = items(&mut world, n);
    let instruction = world.settle_instruction(&items, false);
    let relayer = world.relayer.insecure_clone();
    let outcome = world
        .send_version(version, &[instruction], &[&relayer])
        .unwrap();
    assert_eq!(outcome.codes, vec![0; n]);
    outcome
}

/// The difference between an entry that fails just before its signature is looked at and one that fails by
/// its signature.
fn signature() -> u64 {
    let units = |bend: fn(&mut World, &Payer, &mut SettleItem), reason: Skip| {
        let mut world = World::new();
        let payer = warm(&mut world);
        let mut item = world.item(&payer, 1_000_003, 1);
        bend(&mut world, &payer, &mut item);
        let outcome = world.settle(&[item], false).unwrap();
        assert_eq!(outcome.skips(), [Some(reason)]);
        outcome.units
    };
    let before = units(
        |world, payer, _| world.change_token(payer.source, |state| state.amount = 1),
        Skip::BalanceShort,
    );
    let after = units(|_, _, item| item.entry.resource[0] ^= 1, Skip::BadSignature);
    after - before
}

/// The most payments that fit in a transaction, and its bytes.
fn largest(version: Version) -> (usize, usize) {
    let mut world = World::with_recipients(&shares(BATCH_RECIPIENTS));
    let all = items(&mut world, 30);
    let budget = Budget {
        compute_units: 1_400_000,
        unit_price: 1,
        loaded_bytes: 8 << 20,
    };
    let relayer = world.relayer.insecure_clone();
    let mut best = (0, 0);
    for n in 1..=all.len() {
        let instruction = world.settle_instruction(&all[..n], false);
        let blockhash = world.svm.latest_blockhash();
        match build(
            version,
            &relayer.pubkey(),
            &[instruction],
            &budget,
            blockhash,
            &[&relayer],
        ) {
            Ok(transaction) => best = (n, wire(&transaction).unwrap().len()),
            Err(BuildError::TooLarge { .. }) => return best,
            Err(error) => panic!("{error}"),
        }
    }
    best
}

/// What stock `exact` costs: a transfer that payer and fee payer sign, at the stock client's price.
fn exact_fee() -> u64 {
    let mut world = World::new();
    let payer = Keypair::new();
    let source = world.open_token(payer.pubkey(), 1_000_000);
    let target = world.token_of(&world.recipients[0]);
    let transfer = spl_token_interface::instruction::transfer_checked(
        &sluice_sdk::token::TOKEN_PROGRAM,
        &source,
        &world.mint,
        &target,
        &payer.pubkey(),
        &[],
        1_000,
        6,
    )
    .unwrap();
    let budget = Budget {
        compute_units: 20_000,
        unit_price: 1,
        loaded_bytes: 8 << 20,
    };
    let relayer = world.relayer.insecure_clone();
    let blockhash = world.svm.latest_blockhash();
    let transaction = build(
        Version::V0,
        &relayer.pubkey(),
        &[transfer],
        &budget,
        blockhash,
        &[&relayer, &payer],
    )
    .unwrap();
    world.svm.send_transaction(transaction).unwrap().fee
}
