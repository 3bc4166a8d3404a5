//! `sluice payer`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use sluice_intent::{LANES, Lane, LaneTerms, Scope, UNLIMITED};
use sluice_migrations::Chain;
use sluice_sdk::{
    Address,
    accounts::NonceAccount,
    address, instructions,
    token::{self, TokenAccount},
};
use solana_keypair::Keypair;
use solana_signer::Signer;

use super::key;
use crate::{
    amount::{Amount, Unit},
    context::{Context, MintInfo, load_keypair_path},
    errors::{CliError, Code},
    output::{Pairs, Style},
    transact::Proposal,
    values::{ScopeArg, Seconds, date, duration, scope},
};

/// A payer's budget and its keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Open the payer's nonce account, and with --session and --approve everything an agent needs
    #[command(
        after_help = "Examples:\n  sluice payer open\n  sluice payer open --approve 5 --session AGENT --max 0.10 \\\n      --per-period 1 --period 1d --expires-in 30d\n      one transaction: opens the account, lets AGENT spend within these limits,\n      approves 5 tokens\n  sluice payer open --session AGENT --max 0.01 --total 2 --approve 2 \\\n      --scope service:SERVICE --fee-payer sponsor.json\n  sluice payer open --approve 1 --own-key --max 0.05\n      the wallet itself signs payments"
    )]
    Open(Open),
    /// Set the budget: what may be pulled from the wallet in all, from now on
    #[command(
        after_help = "Examples:\n  sluice payer approve 5\n  sluice payer approve 2500000u --dry-run\n\nAn approval replaces the one before it, it does not add to it, and a token account has room for one only."
    )]
    Approve(Approve),
    /// Take the budget back: nothing can be pulled any more
    #[command(after_help = "Example:\n  sluice payer revoke")]
    Revoke(Revoke),
    /// Set the key and the limits of a lane, or close it
    #[command(
        after_help = "Examples:\n  sluice payer lane --session AGENT --max 0.10 --per-period 1 --period 1d\n  sluice payer lane --session AGENT --max 0.05 --scope facilitator:FACILITATOR\n  sluice payer lane --close\n      no session key can pay any more\n  sluice payer lane --lane 0 --close\n\nAll limits are set anew. What the same key has spent counts on; another key starts at nothing."
    )]
    Lane(LaneCommand),
    /// Show a payer's budget, lanes and what they may still spend
    #[command(
        after_help = "Examples:\n  sluice payer show\n  sluice payer show --payer PAYER --output json"
    )]
    Show(Show),
}

/// The mint, in every payer command.
#[derive(Debug, Args)]
pub struct MintArg {
    /// The mint that is spent [default: the only accepted one]
    #[arg(long, value_name = "ADDRESS")]
    mint: Option<Address>,
}

/// Another one who pays fee and rent.
#[derive(Debug, Args)]
pub struct FeePayer {
    /// Keypair file of another signer who pays fee and rent [default: the signer]
    #[arg(long, value_name = "FILE")]
    fee_payer: Option<PathBuf>,
}

/// What a lane's key may spend.
#[derive(Debug, Args)]
pub struct Limits {
    /// Most a payment, or unlimited
    #[arg(long, value_name = "AMOUNT", default_value = "unlimited")]
    max: Amount,
    /// Most a period, or unlimited
    #[arg(
        long,
        value_name = "AMOUNT",
        requires = "period",
        default_value = "unlimited"
    )]
    per_period: Amount,
    /// Length of a period: 90s, 15m, 12h, 1d, 4w
    #[arg(long, value_name = "DURATION")]
    period: Option<Seconds>,
    /// Most in all for this key, or unlimited
    #[arg(long, value_name = "AMOUNT", default_value = "unlimited")]
    total: Amount,
    /// How long from now the key may spend [default: for ever]
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<Seconds>,
    /// What the key may pay: any, service:ADDRESS, authority:ADDRESS or facilitator:ADDRESS
    #[arg(long, value_name = "SCOPE", default_value = "any")]
    scope: ScopeArg,
}

/// `sluice payer open`.
#[derive(Debug, Args)]
pub struct Open {
    /// The mint.
    #[command(flatten)]
    mint: MintArg,
    /// Also approve a budget of this amount
    #[arg(long, value_name = "AMOUNT")]
    approve: Option<Amount>,
    /// Also let this session key spend (lane 1)
    #[arg(long, value_name = "ADDRESS")]
    session: Option<Address>,
    /// Also let the wallet's own key sign payments (lane 0)
    #[arg(long, conflicts_with = "session")]
    own_key: bool,
    /// The lane's limits.
    #[command(flatten)]
    limits: Limits,
    /// Let an approval replace another program's
    #[arg(long)]
    replace_delegate: bool,
    /// Who pays.
    #[command(flatten)]
    fee_payer: FeePayer,
}

/// `sluice payer approve`.
#[derive(Debug, Args)]
pub struct Approve {
    /// What may be pulled in all, from now on
    amount: Amount,
    /// The mint.
    #[command(flatten)]
    mint: MintArg,
    /// Let the approval replace another program's
    #[arg(long)]
    replace_delegate: bool,
    /// Who pays.
    #[command(flatten)]
    fee_payer: FeePayer,
}

/// `sluice payer revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The mint.
    #[command(flatten)]
    mint: MintArg,
    /// Who pays.
    #[command(flatten)]
    fee_payer: FeePayer,
}

/// `sluice payer lane`.
#[derive(Debug, Args)]
#[group(id = "lane_key", required = true, multiple = false, args = ["session", "own_key", "close"])]
pub struct LaneCommand {
    /// The mint.
    #[command(flatten)]
    mint: MintArg,
    /// The lane to close: 0 the wallet's own key, 1 a session key [default: 1]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(0..=1), requires = "close")]
    lane: Option<u8>,
    /// Let this session key spend (lane 1)
    #[arg(long, value_name = "ADDRESS")]
    session: Option<Address>,
    /// Let the wallet's own key sign payments (lane 0)
    #[arg(long)]
    own_key: bool,
    /// Close the lane: nothing can be signed on it
    #[arg(long)]
    close: bool,
    /// The lane's limits.
    #[command(flatten)]
    limits: Limits,
    /// Who pays.
    #[command(flatten)]
    fee_payer: FeePayer,
}

/// `sluice payer show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The mint.
    #[command(flatten)]
    mint: MintArg,
    /// The payer [default: the signer]
    #[arg(long, value_name = "ADDRESS")]
    payer: Option<Address>,
}

impl Command {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> Result<(), CliError> {
        match self {
            Self::Open(args) => open(context, args),
            Self::Approve(args) => approve(context, args),
            Self::Revoke(args) => revoke(context, args),
            Self::Lane(args) => lane(context, args),
            Self::Show(args) => show(context, args),
        }
    }
}

/// A payer with its accounts in one mint.
struct Wallet {
    mint: MintInfo,
    payer: Address,
    nonce_account: Address,
    source: Address,
    source_state: Option<TokenAccount>,
}

impl Wallet {
    fn load(context: &Context, payer: Address, mint: &MintArg) -> Result<Self, CliError> {
        let mint = context.mint(mint.mint)?;
        let source = address::token_account(&payer, &mint.address, &mint.token_program);
        let source_state = context
            .account(&source)?
            .and_then(|account| token::decode_account(&account.owner, &account.data));
        Ok(Self {
            payer,
            nonce_account: address::nonce_account(&payer, &mint.address).0,
            source,
            source_state,
            mint,
        })
    }

    fn unit(&self) -> &Unit {
        &self.mint.unit
    }

    /// What is approved now, for a person.
    fn approved(&self) -> String {
        match self.source_state.and_then(|state| state.delegate) {
            None => "nothing".to_owned(),
            Some((delegate, amount)) if delegate == self.nonce_account => self.unit().both(amount),
            Some((delegate, amount)) => {
                format!(
                    "{} to ANOTHER delegate, {delegate}",
                    self.unit().both(amount)
                )
            }
        }
    }

    /// SPL token accounts have one delegate: approving silently ends what another program was allowed.
    fn may_replace(&self, context: &Context, allowed: bool) -> Result<Option<String>, CliError> {
        let other = self
            .source_state
            .and_then(|state| state.other_delegate(&self.nonce_account));
        let Some((delegate, amount)) = other else {
            return Ok(None);
        };
        let warning = format!(
            "{delegate} may pull {} from this token account now; the approval ends that, because a token \
             account has one delegate only",
            self.unit().both(amount)
        );
        if context.yes && !allowed {
            return Err(CliError::new(
                Code::Refused,
                format!("not confirmed: {warning}"),
                "add --replace-delegate if that is what you want",
            ));
        }
        Ok(Some(warning))
    }
}

/// The wallet's key, and whoever pays fee and rent, first.
struct Keys {
    wallet: Keypair,
    sponsor: Option<Keypair>,
}

impl Keys {
    fn load(context: &Context, fee_payer: &FeePayer) -> Result<Self, CliError> {
        Ok(Self {
            wallet: context.signer()?,
            sponsor: fee_payer
                .fee_payer
                .as_deref()
                .map(load_keypair_path)
                .transpose()?,
        })
    }

    fn signers(&self) -> Vec<&Keypair> {
        self.sponsor.iter().chain([&self.wallet]).collect()
    }

    fn rent_payer(&self) -> Address {
        self.sponsor.as_ref().unwrap_or(&self.wallet).pubkey()
    }
}

fn terms(
    context: &Context,
    unit: &Unit,
    limits: &Limits,
    lane_key: Address,
) -> Result<LaneTerms, CliError> {
    let expires_at = match limits.expires_in {
        None => i64::MAX,
        Some(Seconds(seconds)) => {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            chain_time(context)?.saturating_add(seconds)
        }
    };
    Ok(LaneTerms {
        key: lane_key.to_bytes(),
        expires_at,
        max_per_payment: limits.max.limit(unit.decimals)?,
        period_limit: limits.per_period.limit(unit.decimals)?,
        period_secs: limits.period.map_or(0, |period| period.0),
        total_limit: limits.total.limit(unit.decimals)?,
        scope: limits.scope.0,
    })
}

/// The chain's clock, by which expiry is judged; it can differ from this machine's.
fn chain_time(context: &Context) -> Result<i64, CliError> {
    const CLOCK: Address = Address::from_str_const("SysvarC1ock11111111111111111111111111111111");
    let accounts = context.chain.get_accounts(&[CLOCK])?;
    let account = accounts.into_iter().flatten().next();
    // slot u64, epoch start i64, epoch u64, leader schedule epoch u64, unix timestamp i64
    account
        .and_then(|account| {
            account
                .data
                .get(32..40)?
                .try_into()
                .ok()
                .map(i64::from_le_bytes)
        })
        .ok_or_else(|| CliError::error("the chain's clock cannot be read", "try another --url"))
}

fn describe(
    mut proposal: Proposal,
    unit: &Unit,
    number: u8,
    old: Option<&Lane>,
    new: &LaneTerms,
) -> Proposal {
    let (kind, scope_key) = new.scope.to_parts();
    let period = |limit: u64, secs: u64| {
        if secs == 0 {
            "no limit".to_owned()
        } else {
            format!("{} each {}", unit.limit(limit), duration(secs))
        }
    };
    let after = [
        ("key", key(new.key).to_string()),
        ("a payment", unit.limit(new.max_per_payment)),
        ("a period", period(new.period_limit, new.period_secs)),
        ("in all", unit.limit(new.total_limit)),
        ("expires", date(new.expires_at)),
        ("may pay", scope(kind, scope_key)),
    ];
    let before = old.filter(|lane| lane.is_open()).map(|lane| {
        [
            key(lane.key).to_string(),
            unit.limit(lane.max_per_payment),
            period(lane.period_limit, lane.period_secs),
            unit.limit(lane.total_limit),
            date(lane.expires_at),
            scope(lane.scope_kind, lane.scope_key),
        ]
    });
    match before {
        None => {
            for (name, value) in after {
                proposal = proposal.field(&format!("lane {number} {name}"), value);
            }
        }
        Some(before) => {
            for ((name, value), before) in after.into_iter().zip(before) {
                proposal = proposal.change(&format!("lane {number} {name}"), before, value);
            }
        }
    }
    let unbounded = new.max_per_payment == UNLIMITED && new.total_limit == UNLIMITED;
    if number == 1 && unbounded && (new.period_secs == 0 || new.period_limit == UNLIMITED) {
        proposal.warnings.push(
            "this key has no limit but the approved budget: see --max, --per-period, --total"
                .to_owned(),
        );
    }
    if number == 1 && new.expires_at == i64::MAX {
        proposal
            .warnings
            .push("this key never expires: see --expires-in".to_owned());
    }
    proposal
}

fn open(context: &Context, args: &Open) -> Result<(), CliError> {
    let keys = Keys::load(context, &args.fee_payer)?;
    let payer = keys.wallet.pubkey();
    let wallet = Wallet::load(context, payer, &args.mint)?;
    let (mint, unit) = (wallet.mint.address, wallet.unit());
    let program = wallet.mint.token_program;
    let found = context.find::<NonceAccount>(&wallet.nonce_account)?;
    let mut all = Vec::new();
    let mut proposal = Proposal::new(
        match found {
            None => "Open an account for payments",
            Some(_) => "Change the account for payments",
        },
        Vec::new(),
    );
    if found.is_none() {
        if wallet.source_state.is_none() {
            all.push(token::create_account(
                &keys.rent_payer(),
                &payer,
                &mint,
                &program,
            ));
        }
        all.push(instructions::open_nonce(
            &keys.rent_payer(),
            &payer,
            &mint,
            &wallet.source,
        ));
        proposal = proposal
            .field("payer", payer)
            .field("mint", format!("{mint} ({})", unit.symbol))
            .field("nonce account", wallet.nonce_account)
            .field("pays from", wallet.source);
    }
    let lane_key = if args.own_key {
        Some((0, payer))
    } else {
        args.session.map(|session| (1, session))
    };
    if let Some((number, lane_key)) = lane_key {
        let terms = terms(context, unit, &args.limits, lane_key)?;
        all.push(instructions::set_lane(&payer, &mint, number, &terms));
        let old = found
            .as_ref()
            .and_then(|account| account.lanes.get(usize::from(number)));
        proposal = describe(proposal, unit, number, old, &terms);
    }
    if let Some(amount) = args.approve {
        let amount = amount.units(unit.decimals)?;
        all.push(token::approve(
            &payer,
            &mint,
            &program,
            amount,
            unit.decimals,
        ));
        proposal = proposal.change("budget", wallet.approved(), unit.both(amount));
        proposal
            .warnings
            .extend(wallet.may_replace(context, args.replace_delegate)?);
    }
    if all.is_empty() {
        return context.unchanged("the account for payments is open", wallet.nonce_account);
    }
    if found.is_none() && lane_key.is_none() {
        proposal
            .warnings
            .push("no key can pay yet: add one with `sluice payer lane`".to_owned());
    }
    proposal.instructions = all;
    context.run(proposal, Some(wallet.nonce_account), &keys.signers())
}

fn approve(context: &Context, args: &Approve) -> Result<(), CliError> {
    let keys = Keys::load(context, &args.fee_payer)?;
    let wallet = Wallet::load(context, keys.wallet.pubkey(), &args.mint)?;
    let unit = wallet.unit();
    let amount = args.amount.units(unit.decimals)?;
    let Some(source) = wallet.source_state else {
        return Err(no_tokens(&wallet));
    };
    let approve = token::approve(
        &wallet.payer,
        &wallet.mint.address,
        &wallet.mint.token_program,
        amount,
        unit.decimals,
    );
    let mut proposal = Proposal::new("Set the budget", vec![approve]).change(
        "budget",
        wallet.approved(),
        unit.both(amount),
    );
    proposal
        .warnings
        .extend(wallet.may_replace(context, args.replace_delegate)?);
    if context
        .find::<NonceAccount>(&wallet.nonce_account)?
        .is_none()
    {
        proposal
            .warnings
            .push("the account for payments is not open yet: `sluice payer open`".to_owned());
    }
    if amount > source.amount {
        proposal.warnings.push(format!(
            "more than the wallet holds, {}",
            unit.both(source.amount)
        ));
    }
    if proposal.fields.is_empty() {
        return context.unchanged("this is the budget", wallet.source);
    }
    context.run(proposal, Some(wallet.source), &keys.signers())
}

fn revoke(context: &Context, args: &Revoke) -> Result<(), CliError> {
    let keys = Keys::load(context, &args.fee_payer)?;
    let wallet = Wallet::load(context, keys.wallet.pubkey(), &args.mint)?;
    let Some(source) = wallet.source_state else {
        return Err(no_tokens(&wallet));
    };
    if source.delegate.is_none() {
        return context.unchanged("nothing is approved", wallet.source);
    }
    let revoke = token::revoke(
        &wallet.payer,
        &wallet.mint.address,
        &wallet.mint.token_program,
    );
    let proposal = Proposal::new("Take the budget back", vec![revoke]).change(
        "budget",
        wallet.approved(),
        "nothing",
    );
    context.run(proposal, Some(wallet.source), &keys.signers())
}

fn no_tokens(wallet: &Wallet) -> CliError {
    CliError::error(
        format!(
            "{} has no token account of {}",
            wallet.payer, wallet.mint.address
        ),
        "send it tokens, or open the account with `sluice payer open`",
    )
}

fn lane(context: &Context, args: &LaneCommand) -> Result<(), CliError> {
    let keys = Keys::load(context, &args.fee_payer)?;
    let wallet = Wallet::load(context, keys.wallet.pubkey(), &args.mint)?;
    let found = context
        .find::<NonceAccount>(&wallet.nonce_account)?
        .ok_or_else(|| not_open(&wallet))?;
    let number = match args.lane {
        Some(number) => number,
        None => u8::from(!args.own_key),
    };
    let old = found.lanes.get(usize::from(number));
    let (payer, mint) = (wallet.payer, wallet.mint.address);
    if args.close {
        if old.is_none_or(|lane| !lane.is_open()) {
            return context.unchanged(&format!("lane {number} is closed"), wallet.nonce_account);
        }
        let closed = LaneTerms {
            key: [0; 32],
            expires_at: 0,
            max_per_payment: 0,
            period_limit: 0,
            period_secs: 0,
            total_limit: 0,
            scope: Scope::Any,
        };
        let before = old.map_or_else(String::new, |lane| key(lane.key).to_string());
        let set = instructions::set_lane(&payer, &mint, number, &closed);
        let proposal = Proposal::new(format!("Close lane {number}"), vec![set])
            .change("key", before, "nobody");
        return context.run(proposal, Some(wallet.nonce_account), &keys.signers());
    }
    let lane_key = if args.own_key {
        payer
    } else {
        args.session.unwrap_or_default()
    };
    let terms = terms(context, wallet.unit(), &args.limits, lane_key)?;
    let set = instructions::set_lane(&payer, &mint, number, &terms);
    let proposal = Proposal::new(format!("Set lane {number}"), vec![set]);
    let proposal = describe(proposal, wallet.unit(), number, old, &terms);
    if proposal.fields.is_empty() {
        return context.unchanged(
            &format!("lane {number} is set like this"),
            wallet.nonce_account,
        );
    }
    context.run(proposal, Some(wallet.nonce_account), &keys.signers())
}

fn not_open(wallet: &Wallet) -> CliError {
    CliError::error(
        format!(
            "{} has opened no account for payments in {}",
            wallet.payer, wallet.mint.address
        ),
        "open it with `sluice payer open`",
    )
}

fn show(context: &Context, args: &Show) -> Result<(), CliError> {
    let payer = context.address_or_signer(args.payer)?;
    let wallet = Wallet::load(context, payer, &args.mint)?;
    let found = context.find::<NonceAccount>(&wallet.nonce_account)?;
    let now = chain_time(context)?;
    let unit = wallet.unit();
    let balance = wallet.source_state.map_or(0, |state| state.amount);
    let delegate = wallet.source_state.and_then(|state| state.delegate);
    let budget = delegate
        .filter(|(key, _)| *key == wallet.nonce_account)
        .map_or(0, |(_, amount)| amount);
    let lanes: Vec<Value> = found
        .iter()
        .flat_map(|account| account.lanes.iter().enumerate())
        .map(|(number, lane)| lane_json(number, lane, now, budget.min(balance)))
        .collect();
    let value = json!({
        "payer": payer.to_string(),
        "mint": wallet.mint.address.to_string(),
        "decimals": unit.decimals,
        "nonceAccount": wallet.nonce_account.to_string(),
        "opened": found.is_some(),
        "openedSlot": found.map(|account| account.opened_slot.to_string()),
        "source": wallet.source.to_string(),
        "balance": balance.to_string(),
        "delegate": delegate.map(|(key, _)| key.to_string()),
        "approved": budget.to_string(),
        "spentTotal": found.map(|account| account.spent_total.to_string()),
        "rentPayer": found.map(|account| key(account.rent_payer).to_string()),
        "lanes": lanes,
    });
    context.output.result(&value, |output| {
        let mut pairs = Pairs::new();
        pairs.row("payer", payer);
        pairs.row("mint", format!("{} ({})", wallet.mint.address, unit.symbol));
        pairs.row("holds", unit.both(balance));
        pairs.row("budget", wallet.approved());
        let Some(account) = found else {
            pairs.row(
                "account",
                output.paint(Style::Yellow, "not open: sluice payer open"),
            );
            return pairs.render("");
        };
        pairs.row("account", wallet.nonce_account);
        pairs.row(
            "opened",
            format!(
                "in slot {}, rent by {}",
                account.opened_slot,
                key(account.rent_payer)
            ),
        );
        pairs.row("pays from", key(account.source));
        pairs.row("spent", unit.both(account.spent_total));
        let mut text = pairs.render("");
        for (number, lane) in account.lanes.iter().enumerate() {
            let whose = if number == 0 {
                "own key"
            } else {
                "session key"
            };
            if !lane.is_open() {
                text.push_str(
                    &output.paint(Style::Dim, &format!("lane {number} ({whose})  closed\n")),
                );
                continue;
            }
            text.push_str(&format!("lane {number} ({whose})\n"));
            text.push_str(&lane_text(unit, lane, now, budget.min(balance)).render("  "));
        }
        text
    })
}

fn lane_text(unit: &Unit, lane: &Lane, now: i64, money: u64) -> Pairs {
    let mut pairs = Pairs::new();
    pairs.row("key", key(lane.key));
    pairs.row("a payment", unit.limit(lane.max_per_payment));
    let (_, spent) = lane.period_at(now);
    let period = if lane.period_secs == 0 {
        "no limit".to_owned()
    } else {
        let limit = unit.limit(lane.period_limit);
        format!(
            "{limit} each {}; {} spent",
            duration(lane.period_secs),
            unit.both(spent)
        )
    };
    pairs.row("a period", period);
    pairs.row(
        "in all",
        format!(
            "{}; {} spent",
            unit.limit(lane.total_limit),
            unit.both(lane.total_spent)
        ),
    );
    let expired = if now > lane.expires_at {
        " (expired)"
    } else {
        ""
    };
    pairs.row("expires", format!("{}{expired}", date(lane.expires_at)));
    pairs.row("may pay", scope(lane.scope_kind, lane.scope_key));
    pairs.row(
        "next payment",
        format!("at most {}", unit.both(lane.headroom(now).min(money))),
    );
    let nonce = lane.window().next();
    pairs.row(
        "next nonce",
        nonce.map_or_else(|| "none left".to_owned(), |nonce| nonce.to_string()),
    );
    pairs
}

fn lane_json(number: usize, lane: &Lane, now: i64, money: u64) -> Value {
    let limit = |units: u64| (units != UNLIMITED).then(|| units.to_string());
    let (_, period_spent) = lane.period_at(now);
    debug_assert!(number < LANES);
    json!({
        "lane": number,
        "open": lane.is_open(),
        "key": lane.is_open().then(|| key(lane.key).to_string()),
        "maxPerPayment": limit(lane.max_per_payment),
        "periodLimit": limit(lane.period_limit),
        "periodSeconds": lane.period_secs,
        "periodSpent": period_spent.to_string(),
        "totalLimit": limit(lane.total_limit),
        "totalSpent": lane.total_spent.to_string(),
        "expiresAt": (lane.expires_at != i64::MAX).then_some(lane.expires_at),
        "scope": scope(lane.scope_kind, lane.scope_key),
        "headroom": lane.headroom(now).min(money).to_string(),
        "nextNonce": lane.window().next().map(|nonce| nonce.to_string()),
    })
}
