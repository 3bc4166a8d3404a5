//! `sluice mint`.

use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use sluice_sdk::{
    Address,
    accounts::AcceptedMint,
    address,
    instructions::{self, MintArgs},
    token::{self, ALLOWABLE_EXTENSIONS, Mint, extension_name},
};
use solana_signer::Signer;

use super::key;
use crate::{
    amount::Amount,
    context::{Context, unit},
    errors::CliError,
    output::columns,
    transact::Proposal,
};

/// The mints that services may be paid in.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Accept a mint, or change how it is accepted (admin)
    #[command(
        after_help = "Examples:\n  sluice mint set 4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU --min 100u --max 1000\n  sluice mint set MINT --settle off\n      stops pulls from payers in this mint; payouts go on"
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
    /// Token-2022 extensions that the mint may carry: their numbers, none, or carried for those that it has now
    /// [default: as it is, or none]
    #[arg(long, value_name = "LIST")]
    extensions: Option<Extensions>,
}

/// Extensions that a mint may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extensions {
    /// Those that it has now.
    Carried,
    /// These, a bit for each number.
    Set(u64),
}

impl FromStr for Extensions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "carried" => return Ok(Self::Carried),
            "none" => return Ok(Self::Set(0)),
            _ => {}
        }
        let mut set = 0u64;
        for number in text.split(',') {
            let bit = number
                .trim()
                .parse()
                .ok()
                .and_then(|number| 1u64.checked_shl(number))
                .filter(|bit| bit & ALLOWABLE_EXTENSIONS != 0);
            set |= bit.ok_or_else(|| {
                format!("{number:?} is no extension that can be allowed: write numbers, as in 1,14")
            })?;
        }
        Ok(Self::Set(set))
    }
}

impl Extensions {
    fn of(self, address: &Address, mint: &Mint) -> Result<u64, CliError> {
        match self {
            Self::Set(set) => Ok(set),
            Self::Carried => mint.extension_set().ok_or_else(|| {
                CliError::error(
                    format!(
                        "mint {address} carries an extension that no mint may be accepted with"
                    ),
                    "accept another mint",
                )
            }),
        }
    }
}

/// A set of extensions, for a person.
fn extensions_text(set: u64) -> String {
    let names: Vec<String> = (0..64u16)
        .filter(|kind| set >> kind & 1 == 1)
        .map(|kind| format!("{kind} ({})", extension_name(kind).unwrap_or("unknown")))
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
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
    let mint = context.mint_state(&args.mint)?;
    let unit = unit(&args.mint, mint.decimals);
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
    let allowed_extensions = match args.extensions {
        Some(extensions) => extensions.of(&args.mint, &mint)?,
        None => found.map_or(0, |one| one.allowed_extensions),
    };
    if let Some(obstacle) = mint.obstacle(allowed_extensions).filter(|_| settle) {
        return Err(CliError::error(
            format!("payments cannot be taken in mint {}: {obstacle}", args.mint),
            "see --extensions in `sluice mint set --help`; `--settle off` works whatever the mint is",
        ));
    }
    let treasury = key(config.treasury);
    let treasury_token = address::token_account(&treasury, &args.mint, &mint.token_program);
    let wire = MintArgs {
        settle,
        min_amount: min,
        max_amount: max,
        allowed_extensions,
    };
    let mut all = Vec::new();
    if context.account(&treasury_token)?.is_none() {
        let create = token::create_account(&admin, &treasury, &args.mint, &mint.token_program);
        all.push(create);
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
            .field("extensions", extensions_text(allowed_extensions))
            .field("treasury account", treasury_token),
        Some(one) => Proposal::new(format!("Change how mint {} is accepted", args.mint), all)
            .change("least payment", unit.limit(one.min_amount), unit.limit(min))
            .change(
                "most a payment",
                unit.limit(one.max_amount),
                unit.limit(max),
            )
            .change("payments", word(one.settles()), word(settle))
            .change(
                "extensions",
                extensions_text(one.allowed_extensions),
                extensions_text(allowed_extensions),
            )
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
                "allowedExtensions": one.allowed_extensions.to_string(),
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
                let unit = unit(&key(one.mint), one.decimals);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_named_by_number() {
        let parse = |text: &str| text.parse::<Extensions>();
        assert_eq!(parse("none"), Ok(Extensions::Set(0)));
        assert_eq!(parse("carried"), Ok(Extensions::Carried));
        assert_eq!(parse("18, 3"), Ok(Extensions::Set(1 << 18 | 1 << 3)));
        for wrong in ["", "9", "28", "64", "82", "-1", "x", "3,,18"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_set_is_written_with_names() {
        assert_eq!(extensions_text(0), "none");
        let text = extensions_text(1 << 3 | 1 << 18);
        assert_eq!(text, "3 (mint close authority), 18 (metadata pointer)");
    }
}
