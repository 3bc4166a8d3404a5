//! `sluice mint`.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use sluice_sdk::{
    Address,
    accounts::AcceptedMint,
    address,
    instructions::{self, MintArgs},
    token::{self, TOKEN_PROGRAM},
};
use solana_signer::Signer;

use super::key;
use crate::{
    amount::Amount,
    context::{Context, mint_info},
    errors::CliError,
    output::columns,
    transact::Proposal,
};

/// The mints that services may be paid in.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Accept a mint, or change how it is accepted (admin)
    #[command(
        after_help = "Examples:\n  sluice mint set 4zMMC9srt5Ri5X14GAgXhHii3GnPAEERYPZgZJDncDU --min 100u --max 1000\n  sluice mint set MINT --settle off\n      stops pulls from payers in this mint; payouts go on"
    )]
    Set(Set),
    /// List the accepted mints
    #[command(after_help = "Examples:\n  sluice mint list\n  sluice mint list --output json")]
    List,
}

/// `sluice mint set`.
#[derive(Debug, Args)]
pub struct Set {
    /// The mint
    mint: Address,
    /// Least amount a payment [default: as it is, or 1u]
    #[arg(long, value_name = "AMOUNT")]
    min: Option<Amount>,
    /// Most a payment, or unlimited [default: as it is, or unlimited]
    #[arg(long, value_name = "AMOUNT")]
    max: Option<Amount>,
    /// Whether payments are taken [default: as it is, or on]
    #[arg(long, value_enum)]
    settle: Option<Switch>,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Payments are taken
    On,
    /// They are not
    Off,
}

impl Command {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Set(args) => set(context, args),
            Self::List => list(context),
        }
    }
}

fn set(context: &Context, args: &Set) -> Result<(), CliError> {
    let config = context.config()?;
    let signer = context.signer()?;
    let admin = signer.pubkey();
    let unit = context.mint_info(&args.mint)?.unit;
    let (address, _) = address::accepted_mint(&args.mint);
    let found = context.find::<AcceptedMint>(&address)?;
    let min = match args.min {
        Some(amount) => amount.units(unit.decimals)?,
        None => found.map_or(1, |one| one.min_amount),
    };
    let max = match args.max {
        Some(amount) => amount.limit(unit.decimals)?,
        None => found.map_or(u64::MAX, |one| one.max_amount),
    };
    let settle = match args.settle {
        Some(switch) => switch == Switch::On,
        None => found.is_none_or(|one| one.settles()),
    };
    let treasury = key(config.treasury);
    let treasury_token = address::token_account(&treasury, &args.mint, &TOKEN_PROGRAM);
    let wire = MintArgs {
        settle,
        min_amount: min,
        max_amount: max,
        allowed_extensions: found.map_or(0, |one| one.allowed_extensions),
    };
    let mut all = Vec::new();
    if context.account(&treasury_token)?.is_none() {
        all.push(token::create_account(&admin, &treasury, &args.mint));
    }
    all.push(instructions::set_mint(
        &admin,
        &args.mint,
        &treasury_token,
        &wire,
    ));
    let word = |on: bool| if on { "on" } else { "off" };
    let proposal = match found {
        None => Proposal::new(format!("Accept mint {}", args.mint), all)
            .field("least payment", unit.limit(min))
            .field("most a payment", unit.limit(max))
            .field("payments", word(settle))
            .field("treasury account", treasury_token),
        Some(one) => Proposal::new(format!("Change how mint {} is accepted", args.mint), all)
            .change("least payment", unit.limit(one.min_amount), unit.limit(min))
            .change(
                "most a payment",
                unit.limit(one.max_amount),
                unit.limit(max),
            )
            .change("payments", word(one.settles()), word(settle))
            .change("treasury account", key(one.treasury_token), treasury_token),
    };
    if found.is_some() && proposal.fields.is_empty() {
        return context.unchanged("the mint is accepted like this", address);
    }
    context.run(proposal, Some(address), &[&signer])
}

fn list(context: &Context) -> Result<(), CliError> {
    let mints = context.list::<AcceptedMint>()?;
    let value: Vec<_> = mints
        .iter()
        .map(|(address, one)| {
            json!({
                "address": address.to_string(),
                "mint": key(one.mint).to_string(),
                "decimals": one.decimals,
                "minAmount": one.min_amount.to_string(),
                "maxAmount": one.max_amount.to_string(),
                "settle": one.settles(),
                "treasuryToken": key(one.treasury_token).to_string(),
                "tokenProgram": key(one.token_program).to_string(),
            })
        })
        .collect();
    context.output.result(&value, |_| {
        if mints.is_empty() {
            return "no mint is accepted yet: sluice mint set MINT".to_owned();
        }
        let rows: Vec<Vec<String>> = mints
            .iter()
            .map(|(_, one)| {
                let unit = mint_info(key(one.mint), one.decimals).unit;
                vec![
                    key(one.mint).to_string(),
                    one.decimals.to_string(),
                    unit.limit(one.min_amount),
                    unit.limit(one.max_amount),
                    if one.settles() { "on" } else { "off" }.to_owned(),
                    key(one.treasury_token).to_string(),
                ]
            })
            .collect();
        columns(
            &[
                "MINT",
                "DECIMALS",
                "LEAST",
                "MOST",
                "PAYMENTS",
                "TREASURY ACCOUNT",
            ],
            &rows,
        )
    })
}
