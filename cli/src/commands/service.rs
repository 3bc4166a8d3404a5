//! `sluice service`.

use clap::{Args, Subcommand};
use serde_json::json;
use sluice_sdk::{
    Address,
    accounts::{Facilitator, SERVICE_ACTIVE, Service},
    address,
    instructions::{self, ServiceArgs, TermsArgs},
    token,
};
use solana_signer::Signer;

use super::{key, somebody};
use crate::{
    amount::Amount,
    context::{Context, MintInfo},
    errors::CliError,
    output::{Pairs, Style, columns},
    transact::{Proposal, outcome_text},
    values::{Share, bps},
};

/// Recipients whose accounts fit into the transaction that creates the service.
const ACCOUNTS_WITH_CREATE: usize = 4;

/// Services: who receives which share of a payment.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a service; the signer becomes its authority
    #[command(
        after_help = "Examples:\n  sluice service create --facilitator FACILITATOR --recipient OWNER=10000\n  sluice service create --id 2 --facilitator FACILITATOR --min-payment 0.001 \\\n      --recipient SHOP=9000 --recipient AUTHOR=1000 --dry-run\n\nThe treasury's share is the config's at this moment. Recipients divide what treasury and facilitator leave; the first also receives rounding remainders."
    )]
    Create(Create),
    /// Show a service and its terms
    #[command(
        after_help = "Examples:\n  sluice service show SERVICE\n  sluice service show SERVICE --output json"
    )]
    Show(Show),
    /// List services
    #[command(
        after_help = "Examples:\n  sluice service list\n  sluice service list --creator CREATOR --output json"
    )]
    List(List),
    /// Show every leg of a payment, without making one
    #[command(
        after_help = "Examples:\n  sluice service quote SERVICE 1.50\n  sluice service quote SERVICE 250u --payments 10\n      250 units in all, in a batch of 10 payments"
    )]
    Quote(Quote),
}

/// `sluice service create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Tells the signer's services apart
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    id: u64,
    /// The mint it is paid in [default: the only accepted one]
    #[arg(long, value_name = "ADDRESS")]
    mint: Option<Address>,
    /// The facilitator account whose relayers may settle
    #[arg(long, value_name = "ADDRESS")]
    facilitator: Address,
    /// The facilitator's proportional share [default: its minimum]
    #[arg(long, value_name = "BPS", value_parser = clap::value_parser!(u16).range(..=5000))]
    facilitator_bps: Option<u16>,
    /// The facilitator's fixed share of each payment [default: its minimum]
    #[arg(long, value_name = "AMOUNT")]
    facilitator_fixed: Option<Amount>,
    /// Least amount a payment
    #[arg(long, value_name = "AMOUNT", default_value = "1u")]
    min_payment: Amount,
    /// A recipient and its share in basis points; 1 to 8, adding up to 10000
    #[arg(
        long = "recipient",
        value_name = "OWNER=BPS",
        required = true,
        num_args = 1
    )]
    recipients: Vec<Share>,
}

/// `sluice service show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The service
    service: Address,
}

/// `sluice service list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only this creator's
    #[arg(long, value_name = "ADDRESS")]
    creator: Option<Address>,
    /// Only this facilitator's
    #[arg(long, value_name = "ADDRESS")]
    facilitator: Option<Address>,
}

/// `sluice service quote`.
#[derive(Debug, Args)]
pub struct Quote {
    /// The service
    service: Address,
    /// What is paid in all
    amount: Amount,
    /// Payments that the amount is the sum of
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    payments: u64,
}

impl Command {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Create(args) => create(context, args),
            Self::Show(args) => show(context, args),
            Self::List(args) => list(context, args),
            Self::Quote(args) => quote(context, args),
        }
    }
}

fn create(context: &Context, args: &Create) -> Result<(), CliError> {
    let sum: u64 = args.recipients.iter().map(|one| u64::from(one.0.bps)).sum();
    if sum != 10_000 || args.recipients.len() > 8 {
        return Err(CliError::usage(
            format!(
                "{} recipients whose shares add up to {sum} bps",
                args.recipients.len()
            ),
            "1 to 8 recipients, adding up to 10000",
        ));
    }
    let signer = context.signer()?;
    let creator = signer.pubkey();
    let (address, _) = address::service(&creator, args.id);
    if context.find::<Service>(&address)?.is_some() {
        return Err(CliError::error(
            format!("{creator} has a service {} already: {address}", args.id),
            "give another --id, or look at it with `sluice service show`",
        ));
    }
    let config = context.config()?;
    let MintInfo {
        address: mint,
        token_program,
        unit,
    } = context.mint(args.mint)?;
    let facilitator = context
        .find::<Facilitator>(&args.facilitator)?
        .ok_or_else(|| {
            CliError::error(
                format!(
                    "{} is no facilitator on {}",
                    args.facilitator,
                    context.chain.place()
                ),
                "give the facilitator account's address, as `sluice facilitator show` prints it",
            )
        })?;
    let facilitator_fixed = match args.facilitator_fixed {
        Some(amount) => amount.units(unit.decimals)?,
        None => facilitator.min_fee_fixed,
    };
    let wire = ServiceArgs {
        id: args.id,
        terms: TermsArgs {
            facilitator_bps: args.facilitator_bps.unwrap_or(facilitator.min_fee_bps),
            facilitator_fixed,
            min_payment: args.min_payment.units(unit.decimals)?,
            recipients: args.recipients.iter().map(|one| one.0).collect(),
        },
    };
    let mut opens = Vec::new();
    for owner in args.recipients.iter().map(|one| key(one.0.owner)) {
        let account = address::token_account(&owner, &mint, &token_program);
        if context.account(&account)?.is_none() {
            let create = token::create_account(&creator, &owner, &mint, &token_program);
            opens.push(create);
        }
    }
    if opens.len() > ACCOUNTS_WITH_CREATE {
        let proposal = Proposal::new(
            "Open the recipients' token accounts, for which the next transaction has no room",
            opens.split_off(0),
        );
        let outcome = context.execute(proposal, None, &[&signer])?;
        context
            .output
            .note(outcome_text(&context.output, &outcome).trim_end());
    }
    opens.push(instructions::create_service(
        &creator,
        &mint,
        &token_program,
        &args.facilitator,
        &wire,
    ));
    let mut proposal = Proposal::new(format!("Create service {}", args.id), opens)
        .field("service", address)
        .field("authority", creator)
        .field("mint", format!("{mint} ({})", unit.symbol))
        .field("facilitator", args.facilitator)
        .field(
            "facilitator share",
            format!(
                "{} + {} a payment",
                bps(wire.terms.facilitator_bps),
                unit.both(facilitator_fixed)
            ),
        )
        .field("treasury share", bps(config.treasury_bps))
        .field("least payment", unit.both(wire.terms.min_payment));
    for one in &wire.terms.recipients {
        proposal = proposal.field(
            "recipient",
            format!("{} {} of the rest", key(one.owner), bps(one.bps)),
        );
    }
    context.run(proposal, Some(address), &[&signer])
}

fn load(context: &Context, address: &Address) -> Result<(Service, MintInfo), CliError> {
    let service = context.find::<Service>(address)?.ok_or_else(|| {
        CliError::error(
            format!("{address} is no service on {}", context.chain.place()),
            "`sluice service list` shows all, or check --url",
        )
    })?;
    let mint = context.mint_info(&key(service.mint))?;
    Ok((service, mint))
}

fn status(service: &Service) -> &'static str {
    if service.status == SERVICE_ACTIVE {
        "active"
    } else {
        "closed"
    }
}

fn show(context: &Context, args: &Show) -> Result<(), CliError> {
    let (service, mint) = load(context, &args.service)?;
    let sound = service
        .compute_terms_hash(&args.service)
        .is_ok_and(|hash| hash == service.terms_hash);
    let rows: Vec<_> = service
        .shares()
        .iter()
        .map(|share| {
            json!({
                "owner": key(share.owner).to_string(),
                "tokenAccount": key(share.token_account).to_string(),
                "bps": share.bps,
                "held": share.held.to_string(),
            })
        })
        .collect();
    let value = json!({
        "address": args.service.to_string(),
        "id": service.id,
        "status": status(&service),
        "creator": key(service.creator).to_string(),
        "authority": key(service.authority).to_string(),
        "mint": mint.address.to_string(),
        "decimals": mint.unit.decimals,
        "facilitator": key(service.facilitator).to_string(),
        "facilitatorBps": service.facilitator_bps,
        "facilitatorFixed": service.facilitator_fixed.to_string(),
        "treasuryBps": service.treasury_bps,
        "minPayment": service.min_payment.to_string(),
        "recipients": rows,
        "termsHash": hex::encode(service.terms_hash),
        "termsHashMatches": sound,
        "termsVersion": service.terms_version,
        "vault": key(service.vault).to_string(),
        "payments": service.payments,
        "settledTotal": service.settled_total.to_string(),
        "heldTotal": service.held_total.to_string(),
    });
    context.output.result(&value, |output| {
        let unit = &mint.unit;
        let mut pairs = Pairs::new();
        pairs.row("service", args.service);
        pairs.row("id", format!("{} of {}", service.id, key(service.creator)));
        let state = match status(&service) {
            "active" => output.paint(Style::Green, "active"),
            other => output.paint(Style::Red, other),
        };
        pairs.row("state", state);
        pairs.row("authority", key(service.authority));
        if service.pending_authority != [0; 32] {
            pairs.row("next authority", somebody(service.pending_authority));
        }
        pairs.row(
            "mint",
            format!(
                "{} ({}, {} decimals)",
                mint.address, unit.symbol, unit.decimals
            ),
        );
        pairs.row("least payment", unit.both(service.min_payment));
        pairs.row("treasury", bps(service.treasury_bps));
        let fixed = unit.both(service.facilitator_fixed);
        pairs.row(
            "facilitator",
            format!(
                "{} + {fixed} a payment\n{}",
                bps(service.facilitator_bps),
                key(service.facilitator)
            ),
        );
        for (index, share) in service.shares().iter().enumerate() {
            let name = if index == 0 { "recipients" } else { "" };
            pairs.row(
                name,
                format!("{} {} of the rest", key(share.owner), bps(share.bps)),
            );
        }
        let verdict = if sound {
            String::new()
        } else {
            output.paint(Style::Red, " (NOT the hash of these terms)")
        };
        pairs.row(
            "terms hash",
            format!("{}{verdict}", hex::encode(service.terms_hash)),
        );
        pairs.row("terms version", service.terms_version);
        pairs.row("vault", key(service.vault));
        pairs.row(
            "settled",
            format!(
                "{} in {} payments",
                unit.both(service.settled_total),
                service.payments
            ),
        );
        pairs.row("held", unit.both(service.held_total));
        pairs.render("")
    })
}

fn list(context: &Context, args: &List) -> Result<(), CliError> {
    let mut services = context.list::<Service>()?;
    services.retain(|(_, one)| {
        args.creator
            .is_none_or(|creator| key(one.creator) == creator)
            && args
                .facilitator
                .is_none_or(|facilitator| key(one.facilitator) == facilitator)
    });
    let mut mints: Vec<MintInfo> = Vec::new();
    for (_, one) in &services {
        let mint = key(one.mint);
        if mints.iter().all(|known| known.address != mint) {
            mints.push(context.mint_info(&mint)?);
        }
    }
    let value: Vec<_> = services
        .iter()
        .map(|(address, one)| {
            json!({
                "address": address.to_string(),
                "id": one.id,
                "creator": key(one.creator).to_string(),
                "mint": key(one.mint).to_string(),
                "facilitator": key(one.facilitator).to_string(),
                "status": status(one),
                "payments": one.payments,
                "settledTotal": one.settled_total.to_string(),
            })
        })
        .collect();
    context.output.result(&value, |_| {
        if services.is_empty() {
            return "no services".to_owned();
        }
        let rows: Vec<Vec<String>> = services
            .iter()
            .map(|(address, one)| {
                let mint = mints.iter().find(|known| known.address == key(one.mint));
                vec![
                    address.to_string(),
                    one.id.to_string(),
                    key(one.creator).to_string(),
                    status(one).to_owned(),
                    one.payments.to_string(),
                    mint.map_or_else(String::new, |mint| mint.unit.both(one.settled_total)),
                ]
            })
            .collect();
        columns(
            &["SERVICE", "ID", "CREATOR", "STATE", "PAYMENTS", "SETTLED"],
            &rows,
        )
    })
}

fn quote(context: &Context, args: &Quote) -> Result<(), CliError> {
    let (service, mint) = load(context, &args.service)?;
    let unit = &mint.unit;
    let amount = args.amount.units(unit.decimals)?;
    let shares = service.split(amount, args.payments).map_err(|_| {
        CliError::error(
            "the service's shares cannot divide a payment",
            "report it: the account is damaged",
        )
    })?;
    let payees = context.payees(&key(service.facilitator));
    let mut legs = vec![
        (
            "treasury",
            payees.treasury,
            bps(service.treasury_bps),
            shares.treasury,
        ),
        (
            "facilitator",
            payees.facilitator,
            format!(
                "{} + {}u a payment",
                bps(service.facilitator_bps),
                service.facilitator_fixed
            ),
            shares.facilitator,
        ),
    ];
    for (share, leg) in service.shares().iter().zip(shares.recipients) {
        legs.push((
            "recipient",
            Some(key(share.owner)),
            format!("{} of the rest", bps(share.bps)),
            leg,
        ));
    }
    let least = amount / args.payments;
    let below = least < service.min_payment;
    let rows: Vec<_> = legs
        .iter()
        .map(|(role, owner, share, units)| {
            json!({
                "role": role,
                "owner": owner.map(|key| key.to_string()),
                "share": share,
                "amount": units.to_string(),
            })
        })
        .collect();
    let value = json!({
        "service": args.service.to_string(),
        "mint": mint.address.to_string(),
        "amount": amount.to_string(),
        "payments": args.payments,
        "belowMinimum": below,
        "legs": rows,
    });
    context.output.result(&value, |output| {
        let mut rows: Vec<Vec<String>> = legs
            .iter()
            .map(|(role, owner, share, units)| {
                let owner = owner.map_or_else(String::new, |key| key.to_string());
                vec![(*role).to_owned(), unit.both(*units), share.clone(), owner]
            })
            .collect();
        rows.push(vec![
            "sum".to_owned(),
            unit.both(amount),
            String::new(),
            String::new(),
        ]);
        let mut text = columns(&["LEG", "AMOUNT", "SHARE", "OWNER"], &rows);
        if below {
            let warning = format!(
                "below the least payment of {}: it would be refused\n",
                unit.both(service.min_payment)
            );
            text.push_str(&output.paint(Style::Yellow, &warning));
        }
        text
    })
}
