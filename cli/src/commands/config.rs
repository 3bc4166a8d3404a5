//! `sluice config`.

use clap::{Args, Subcommand};
use serde_json::json;
use sluice_sdk::{
    Address,
    accounts::{self, AcceptedMint, upgrade_authority},
    address,
    instructions::{self, ConfigArgs, ConfigUpdate},
    token,
};
use solana_signer::Signer;

use super::{key, somebody};
use crate::{
    context::{Context, genesis_hash},
    errors::CliError,
    output::{Pairs, Style},
    transact::Proposal,
    values::{bps, date, duration},
};

/// The deployment's config.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create the config; signed by the program's upgrade authority, once
    #[command(
        after_help = "Examples:\n  sluice config init --treasury TREASURY --treasury-bps 100\n  sluice config init --admin ADMIN --guardian GUARDIAN --treasury TREASURY \\\n      --treasury-bps 50 --max-facilitator-bps 1000 --max-intent-ttl 600 \\\n      -k upgrade-authority.json --dry-run"
    )]
    Init(Init),
    /// Show the config, and whether it is of the cluster that is asked
    #[command(
        after_help = "Examples:\n  sluice config show\n  sluice config show -u mainnet-beta --output json"
    )]
    Show,
    /// Change fees and limits; a new treasury share is in force 24 hours later
    #[command(
        after_help = "Examples:\n  sluice config set-fees --treasury-bps 80\n  sluice config set-fees --max-facilitator-bps 500 --dry-run"
    )]
    SetFees(SetFees),
    /// Change the treasury's wallet, with its token accounts of every accepted mint
    #[command(
        after_help = "Examples:\n  sluice config set-treasury WALLET --dry-run\n  sluice config set-treasury WALLET"
    )]
    SetTreasury(SetTreasury),
    /// Stop all pulls from payers; payouts and exits go on (admin or guardian)
    #[command(after_help = "Example:\n  sluice config pause -k guardian.json")]
    Pause,
    /// Let pulls from payers go on (admin)
    #[command(after_help = "Example:\n  sluice config resume")]
    Resume,
}

/// `sluice config init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The admin [default: the signer]
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<Address>,
    /// May pause, and nothing else [default: nobody]
    #[arg(long, value_name = "ADDRESS")]
    guardian: Option<Address>,
    /// The treasury's wallet
    #[arg(long, value_name = "ADDRESS")]
    treasury: Address,
    /// The treasury's share of each payment, at most 1000 (10 %)
    #[arg(long, value_name = "BPS", default_value_t = 100, value_parser = clap::value_parser!(u16).range(..=1000))]
    treasury_bps: u16,
    /// Most that a service may grant its facilitator, at most 5000 (50 %)
    #[arg(long, value_name = "BPS", default_value_t = 2000, value_parser = clap::value_parser!(u16).range(..=5000))]
    max_facilitator_bps: u16,
    /// Most seconds between signing and landing of an intent, at most 3600
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=3600))]
    max_intent_ttl: u32,
}

/// `sluice config set-fees`.
#[derive(Debug, Args)]
#[group(id = "fees", required = true, multiple = true)]
pub struct SetFees {
    /// The treasury's share of each payment, at most 1000 (10 %)
    #[arg(long, value_name = "BPS", value_parser = clap::value_parser!(u16).range(..=1000))]
    treasury_bps: Option<u16>,
    /// Most that a service may grant its facilitator, at most 5000 (50 %)
    #[arg(long, value_name = "BPS", value_parser = clap::value_parser!(u16).range(..=5000))]
    max_facilitator_bps: Option<u16>,
    /// Most seconds between signing and landing of an intent, at most 3600
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=3600))]
    max_intent_ttl: Option<u32>,
    /// May pause, and nothing else; 11111111111111111111111111111111 for nobody
    #[arg(long, value_name = "ADDRESS")]
    guardian: Option<Address>,
}

/// `sluice config set-treasury`.
#[derive(Debug, Args)]
pub struct SetTreasury {
    /// The new wallet
    wallet: Address,
}

impl Command {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Init(args) => init(context, args),
            Self::Show => show(context),
            Self::SetFees(args) => set_fees(context, args),
            Self::SetTreasury(args) => set_treasury(context, args),
            Self::Pause => set_paused(context, true),
            Self::Resume => set_paused(context, false),
        }
    }
}

fn init(context: &Context, args: &Init) -> Result<(), CliError> {
    let (address, _) = address::config();
    if let Some(config) = context.find::<accounts::Config>(&address)? {
        return Err(CliError::error(
            format!(
                "the config exists already; its admin is {}",
                key(config.admin)
            ),
            "`sluice config show` shows it, `sluice config set-fees` changes it",
        ));
    }
    let signer = context.signer()?;
    let (data_address, _) = address::program_data();
    let Some(data) = context.account(&data_address)? else {
        return Err(CliError::error(
            format!(
                "the Sluice program {} is not deployed on {}",
                sluice_sdk::PROGRAM_ID,
                context.chain.place()
            ),
            "deploy it first, or check --url",
        ));
    };
    match upgrade_authority(&data.owner, &data.data)? {
        Some(authority) if authority == signer.pubkey() => {}
        other => {
            let who = other.map_or_else(|| "nobody".to_owned(), |key| key.to_string());
            return Err(CliError::error(
                format!(
                    "only the program's upgrade authority may create the config: {who}, and the signer is {}",
                    signer.pubkey()
                ),
                "sign with its key: --keypair FILE",
            ));
        }
    }
    let genesis_hash = genesis_hash(&context.chain)?;
    let admin = args.admin.unwrap_or_else(|| signer.pubkey());
    let guardian = args.guardian.unwrap_or_default();
    let wire = ConfigArgs {
        admin: admin.to_bytes(),
        guardian: guardian.to_bytes(),
        treasury: args.treasury.to_bytes(),
        genesis_hash,
        treasury_bps: args.treasury_bps,
        max_facilitator_bps: args.max_facilitator_bps,
        max_intent_ttl: args.max_intent_ttl,
    };
    let proposal = Proposal::new(
        "Create the config",
        vec![instructions::initialize_config(&signer.pubkey(), &wire)],
    )
    .field("admin", admin)
    .field("guardian", somebody(guardian.to_bytes()))
    .field("treasury", args.treasury)
    .field("treasury share", bps(args.treasury_bps))
    .field("facilitator cap", bps(args.max_facilitator_bps))
    .field("intent life", duration(args.max_intent_ttl.into()))
    .field("genesis hash", key(genesis_hash));
    context.run(proposal, Some(address), &[&signer])
}

fn show(context: &Context) -> Result<(), CliError> {
    let config = context.config()?;
    let genesis = genesis_hash(&context.chain)?;
    let matches = genesis == config.genesis_hash;
    let pending = (config.fees_effective_at != 0)
        .then(|| json!({"treasuryBps": config.pending_treasury_bps, "effectiveAt": config.fees_effective_at}));
    let value = json!({
        "address": address::config().0.to_string(),
        "admin": key(config.admin).to_string(),
        "pendingAdmin": (config.pending_admin != [0; 32]).then(|| key(config.pending_admin).to_string()),
        "guardian": (config.guardian != [0; 32]).then(|| key(config.guardian).to_string()),
        "treasury": key(config.treasury).to_string(),
        "treasuryBps": config.treasury_bps,
        "pending": pending,
        "maxFacilitatorBps": config.max_facilitator_bps,
        "maxIntentTtlSeconds": config.max_intent_ttl,
        "paused": config.paused != 0,
        "genesisHash": key(config.genesis_hash).to_string(),
        "genesisHashMatches": matches,
    });
    context.output.result(&value, |output| {
        let mut pairs = Pairs::new();
        pairs.row("config", address::config().0);
        pairs.row("admin", key(config.admin));
        if config.pending_admin != [0; 32] {
            pairs.row("next admin", key(config.pending_admin));
        }
        pairs.row("guardian", somebody(config.guardian));
        pairs.row("treasury", key(config.treasury));
        pairs.row("treasury share", bps(config.treasury_bps));
        if config.fees_effective_at != 0 {
            let from = date(config.fees_effective_at);
            pairs.row(
                "",
                format!("{} from {from}", bps(config.pending_treasury_bps)),
            );
        }
        pairs.row("facilitator cap", bps(config.max_facilitator_bps));
        pairs.row(
            "intent life",
            format!("at most {}", duration(config.max_intent_ttl.into())),
        );
        let state = if config.paused == 0 {
            output.paint(Style::Green, "running")
        } else {
            output.paint(Style::Red, "paused")
        };
        pairs.row("state", state);
        let verdict = if matches {
            "this cluster's".to_owned()
        } else {
            output.paint(
                Style::Red,
                &format!("NOT this cluster's, which is {}", key(genesis)),
            )
        };
        pairs.row(
            "genesis hash",
            format!("{}\n{verdict}", key(config.genesis_hash)),
        );
        pairs.render("")
    })
}

fn admin(
    context: &Context,
    config: &accounts::Config,
) -> Result<solana_keypair::Keypair, CliError> {
    let signer = context.signer()?;
    if signer.pubkey() == key(config.admin) {
        return Ok(signer);
    }
    Err(CliError::error(
        format!(
            "only the admin may do this: {}, and the signer is {}",
            key(config.admin),
            signer.pubkey()
        ),
        "sign with the admin's key: --keypair FILE",
    ))
}

fn set_fees(context: &Context, args: &SetFees) -> Result<(), CliError> {
    let config = context.config()?;
    let signer = admin(context, &config)?;
    let (coming, when) = if config.fees_effective_at == 0 {
        (config.treasury_bps, String::new())
    } else {
        let when = format!(" (announced, from {})", date(config.fees_effective_at));
        (config.pending_treasury_bps, when)
    };
    // What is the same already is left out: announcing it again would only start the 24 hours anew.
    let update = ConfigUpdate {
        treasury_bps: args.treasury_bps.filter(|new| *new != coming),
        max_facilitator_bps: args
            .max_facilitator_bps
            .filter(|new| *new != config.max_facilitator_bps),
        max_intent_ttl: args
            .max_intent_ttl
            .filter(|new| *new != config.max_intent_ttl),
        guardian: args
            .guardian
            .map(|new| new.to_bytes())
            .filter(|new| *new != config.guardian),
    };
    let (address, _) = address::config();
    if update == ConfigUpdate::default() {
        return context.unchanged("the config has these values", address);
    }
    let mut proposal = Proposal::new(
        "Change the config",
        vec![instructions::update_config(&signer.pubkey(), &update)],
    );
    if let Some(new) = update.treasury_bps {
        let before = format!("{}{when}", bps(coming));
        proposal = proposal.change(
            "treasury share",
            before,
            format!("{} (24 h after this lands)", bps(new)),
        );
    }
    if let Some(new) = update.max_facilitator_bps {
        proposal = proposal.change("facilitator cap", bps(config.max_facilitator_bps), bps(new));
    }
    if let Some(new) = update.max_intent_ttl {
        proposal = proposal.change(
            "intent life",
            duration(config.max_intent_ttl.into()),
            duration(new.into()),
        );
    }
    if let Some(new) = update.guardian {
        proposal = proposal.change("guardian", somebody(config.guardian), somebody(new));
    }
    context.run(proposal, Some(address), &[&signer])
}

fn set_treasury(context: &Context, args: &SetTreasury) -> Result<(), CliError> {
    let config = context.config()?;
    let signer = admin(context, &config)?;
    let (address, _) = address::config();
    if key(config.treasury) == args.wallet {
        return context.unchanged("this is the treasury's wallet", address);
    }
    let mut all = Vec::new();
    let mut pairs = Vec::new();
    let mut proposal = Proposal::new("Change the treasury", Vec::new()).change(
        "treasury",
        key(config.treasury),
        args.wallet,
    );
    for (_, accepted) in context.list::<AcceptedMint>()? {
        let mint = key(accepted.mint);
        let program = key(accepted.token_program);
        let account = address::token_account(&args.wallet, &mint, &program);
        proposal = proposal.change(
            &format!("account of {mint}"),
            key(accepted.treasury_token),
            account,
        );
        let funder = signer.pubkey();
        all.push(token::create_account(
            &funder,
            &args.wallet,
            &mint,
            &program,
        ));
        pairs.push((mint, account));
    }
    all.push(instructions::set_treasury(
        &signer.pubkey(),
        &args.wallet,
        &pairs,
    ));
    proposal.instructions = all;
    context.run(proposal, Some(address), &[&signer])
}

fn set_paused(context: &Context, paused: bool) -> Result<(), CliError> {
    let config = context.config()?;
    let (address, _) = address::config();
    let word = |paused: bool| if paused { "paused" } else { "running" };
    if (config.paused != 0) == paused {
        return context.unchanged(&format!("settlement is {} already", word(paused)), address);
    }
    let signer = context.signer()?;
    let title = if paused {
        "Stop all pulls from payers"
    } else {
        "Let pulls from payers go on"
    };
    let proposal = Proposal::new(
        title,
        vec![instructions::set_paused(&signer.pubkey(), paused)],
    )
    .change("state", word(!paused), word(paused));
    context.run(proposal, Some(address), &[&signer])
}
