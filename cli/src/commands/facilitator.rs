//! `sluice facilitator`.

use clap::{Args, Subcommand};
use serde_json::json;
use sluice_sdk::{
    Address,
    accounts::{AcceptedMint, Facilitator},
    address,
    instructions::{self, FacilitatorArgs},
    token,
};
use solana_signer::Signer;

use super::key;
use crate::{
    amount::{Amount, sol},
    context::{Context, MintInfo, accepted_info},
    errors::CliError,
    output::{Pairs, Style},
    transact::Proposal,
    values::bps,
};

/// Facilitators, who run relayers.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Register a facilitator; the signer becomes its authority
    #[command(
        after_help = "Examples:\n  sluice facilitator register --wallet WALLET --relayer KEY --min-fee-bps 50\n  sluice facilitator register --wallet WALLET --relayer KEY1 --relayer KEY2 \\\n      --min-fee-fixed 100u -k authority.json\n\nA relayer key lives on a server and pays for transactions; the authority must not. They are never the same."
    )]
    Register(Register),
    /// Show a facilitator, with its relayers' balances
    #[command(
        after_help = "Examples:\n  sluice facilitator show\n      the signer's\n  sluice facilitator show ADDRESS\n      the address of the account, or of its creator"
    )]
    Show(Show),
}

/// `sluice facilitator register`.
#[derive(Debug, Args)]
pub struct Register {
    /// The wallet whose token accounts receive the fees
    #[arg(long, value_name = "ADDRESS")]
    wallet: Address,
    /// A key that pays for and signs settlements; 1 to 8 of them
    #[arg(
        long = "relayer",
        value_name = "ADDRESS",
        required = true,
        num_args = 1
    )]
    relayers: Vec<Address>,
    /// Least proportional share that a service must grant
    #[arg(long, value_name = "BPS", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=5000))]
    min_fee_bps: u16,
    /// Least fixed share of each payment, in atomic units (100u): it counts in every mint
    #[arg(long, value_name = "UNITS", default_value = "0u")]
    min_fee_fixed: Amount,
    /// Open the fee wallet's account of this mint only [default: of every accepted mint]
    #[arg(long = "mint", value_name = "ADDRESS")]
    mints: Vec<Address>,
}

/// `sluice facilitator show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The facilitator account or its creator [default: the signer]
    address: Option<Address>,
}

impl Command {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Register(args) => register(context, args),
            Self::Show(args) => show(context, args),
        }
    }
}

fn register(context: &Context, args: &Register) -> Result<(), CliError> {
    let Amount::Units(min_fee_fixed) = args.min_fee_fixed else {
        return Err(CliError::usage(
            "--min-fee-fixed counts in every mint, so it is in atomic units",
            "write it with a u: 100u",
        ));
    };
    let signer = context.signer()?;
    let creator = signer.pubkey();
    let (address, _) = address::facilitator(&creator);
    if context.find::<Facilitator>(&address)?.is_some() {
        return Err(CliError::error(
            format!("{creator} has registered facilitator {address} already"),
            "`sluice facilitator show` shows it; another needs another authority (--keypair)",
        ));
    }
    let mints = if args.mints.is_empty() {
        let accepted = context.list::<AcceptedMint>()?;
        let info = |(_, one): &(Address, AcceptedMint)| accepted_info(one);
        accepted.iter().map(info).collect()
    } else {
        let mints = args.mints.iter().map(|mint| context.mint_info(mint));
        mints.collect::<Result<Vec<_>, _>>()?
    };
    let wire = FacilitatorArgs {
        wallet: args.wallet.to_bytes(),
        min_fee_bps: args.min_fee_bps,
        min_fee_fixed,
        relayers: args.relayers.iter().map(Address::to_bytes).collect(),
    };
    let mut all = vec![instructions::register_facilitator(&creator, &wire)];
    let mut proposal = Proposal::new("Register a facilitator", Vec::new())
        .field("authority", creator)
        .field("wallet", args.wallet)
        .field("least share", bps(args.min_fee_bps))
        .field("least fixed fee", format!("{min_fee_fixed}u a payment"));
    for relayer in &args.relayers {
        proposal = proposal.field("relayer", relayer);
    }
    for MintInfo {
        address: mint,
        token_program,
        ..
    } in &mints
    {
        let account = address::token_account(&args.wallet, mint, token_program);
        if context.account(&account)?.is_none() {
            let create = token::create_account(&creator, &args.wallet, mint, token_program);
            all.push(create);
            proposal = proposal.field("fee account", format!("{account} (mint {mint})"));
        }
    }
    proposal.instructions = all;
    context.run(proposal, Some(address), &[&signer])
}

fn show(context: &Context, args: &Show) -> Result<(), CliError> {
    let asked = context.address_or_signer(args.address)?;
    let (derived, _) = address::facilitator(&asked);
    let is_account = context
        .account(&asked)?
        .is_some_and(|account| account.owner == sluice_sdk::PROGRAM_ID);
    let address = if is_account { asked } else { derived };
    let one = context.find::<Facilitator>(&address)?.ok_or_else(|| {
        CliError::error(
            format!(
                "{asked} is no facilitator and has registered none on {}",
                context.chain.place()
            ),
            "register one with `sluice facilitator register`",
        )
    })?;
    let relayers: Vec<Address> = one.relayer_keys().iter().map(|bytes| key(*bytes)).collect();
    let balances = sluice_migrations::Chain::get_accounts(&context.chain, &relayers)?;
    let balances: Vec<u64> = balances
        .iter()
        .map(|account| account.as_ref().map_or(0, |account| account.lamports))
        .collect();
    let rows: Vec<_> = relayers
        .iter()
        .zip(&balances)
        .map(|(key, lamports)| json!({"key": key.to_string(), "lamports": lamports}))
        .collect();
    let value = json!({
        "address": address.to_string(),
        "creator": key(one.creator).to_string(),
        "authority": key(one.authority).to_string(),
        "wallet": key(one.wallet).to_string(),
        "relayers": rows,
        "minFeeBps": one.min_fee_bps,
        "minFeeFixed": one.min_fee_fixed.to_string(),
        "suspended": one.suspended != 0,
        "createdSlot": one.created_slot,
    });
    context.output.result(&value, |output| {
        let mut pairs = Pairs::new();
        pairs.row("facilitator", address);
        pairs.row("authority", key(one.authority));
        pairs.row("wallet", key(one.wallet));
        pairs.row("least share", bps(one.min_fee_bps));
        pairs.row(
            "least fixed fee",
            format!("{}u a payment", one.min_fee_fixed),
        );
        for (index, (relayer, lamports)) in relayers.iter().zip(&balances).enumerate() {
            let name = if index == 0 { "relayers" } else { "" };
            pairs.row(name, format!("{relayer}, {}", sol(*lamports)));
        }
        let state = if one.suspended == 0 {
            output.paint(Style::Green, "in use")
        } else {
            output.paint(Style::Red, "suspended by the admin")
        };
        pairs.row("state", state);
        pairs.row("registered", format!("in slot {}", one.created_slot));
        pairs.render("")
    })
}
