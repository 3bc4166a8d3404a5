//! Holding a transfer against the chain: pure functions of what it said and of what is in flight.

use sluice_sdk::{
    Address,
    accounts::{Config, SERVICE_ACTIVE, Service},
    token::{ALLOWABLE_EXTENSIONS, Mint, TokenAccount},
};

use super::{payment::Transfer, rules::Order};
use crate::{
    guard::{Parties, screening::Question},
    ledger::{Deal, Means, NewPayment},
    reason::{ExactReason, Reason, Rejection},
    snapshot::Lookup,
    verify::{InFlight, balance_short},
};

/// Blocks that a transaction's blockhash must have left, so that it can land before it dies.
const MIN_BLOCKS: u64 = 10;
/// Seconds that the desk remembers a transfer after it ended: longer than any blockhash lives.
const REMEMBER_SECS: i64 = 300;

/// What the chain says about a transfer at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// The chain's clock, unix seconds.
    pub now: i64,
    /// The program's config, if it is set up.
    pub config: Option<Config>,
    /// The mint; `None` if it is none.
    pub mint: Option<Mint>,
    /// Where the money comes from; `None` if it is no token account.
    pub source: Option<TokenAccount>,
    /// Where it goes to.
    pub destination: Option<TokenAccount>,
    /// Whoever is paid, as a service.
    pub service: Lookup<Service>,
    /// The associated token account of whoever is paid.
    pub expected: Address,
    /// Blocks that the blockhash has left.
    pub blocks_left: u64,
}

/// Whose transfers are settled.
#[derive(Clone, Debug)]
pub struct Settler {
    /// This relayer's keys.
    pub fee_payers: Vec<Address>,
    /// The facilitator that it settles for.
    pub facilitator: Address,
}

/// A transfer that holds against the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// As the ledger will keep it.
    pub payment: NewPayment,
    /// The mint's decimals.
    pub decimals: u8,
    /// The chain's clock at the judgement, unix seconds.
    pub now: i64,
    balance: u64,
    /// Whose money it is, where it goes, and behind a service everybody whom the program pays.
    behind: Vec<Address>,
}

impl Parties for Admission {
    fn payer(&self) -> Address {
        self.payment.payer
    }

    fn service(&self) -> Address {
        self.payment.service
    }

    fn question(&self) -> Question {
        let payment = &self.payment;
        Question {
            payer: payment.payer.to_string(),
            service: payment.service.to_string(),
            mint: payment.mint.to_string(),
            amount: payment.amount.to_string(),
            // Stock clients sign for none.
            resource: String::new(),
        }
    }

    fn everybody(&self) -> Vec<Address> {
        let payment = &self.payment;
        [payment.payer, payment.service, payment.source]
            .iter()
            .chain(&self.behind)
            .copied()
            .collect()
    }
}

fn fails(message: impl Into<String>) -> Rejection {
    Rejection::new(Reason::Exact(ExactReason::SimulationFailed), message)
}

/// Judges a transfer by the chain alone. [`Admission::reserve`] then judges it beside what is in flight.
pub fn judge(
    scene: &Scene,
    transfer: &Transfer,
    settler: &Settler,
) -> Result<Admission, Rejection> {
    let order = &transfer.order;
    let to_vault = check_service(scene, transfer, settler)?;
    if order.destination != scene.expected {
        return Err(Rejection::new(
            Reason::Exact(ExactReason::RecipientMismatch),
            format!(
                "the money would go to {}, and the associated token account of payTo is {}",
                order.destination, scene.expected
            ),
        ));
    }
    check_mint(scene, transfer)?;
    check_destination(scene, transfer)?;
    let balance = check_source(scene, transfer, settler)?;
    if scene.blocks_left < MIN_BLOCKS {
        return Err(fails(
            "the transaction's blockhash is unknown, expired or about to: sign anew with a recent one",
        ));
    }
    Ok(Admission {
        payment: NewPayment {
            digest: transfer.digest,
            version: transfer.version,
            payer: order.payer,
            service: transfer.pay_to,
            mint: transfer.mint,
            amount: transfer.amount,
            source: order.source,
            expires_at: scene.now.saturating_add(REMEMBER_SECS),
            means: Means::Transfer { to_vault },
            deal: Deal {
                share: share(scene, transfer, to_vault),
                binding: transfer.identifier.clone(),
                ..Deal::default()
            },
            api_key: None,
        },
        decimals: scene.mint.as_ref().map_or(0, |mint| mint.decimals),
        now: scene.now,
        balance,
        behind: behind(scene, order),
    })
}

impl Admission {
    /// Judges the transfer beside whatever else leaves its token account, as if all of that lands.
    pub fn reserve(&self, in_flight: &[InFlight]) -> Result<(), Rejection> {
        let others = in_flight
            .iter()
            .filter(|other| other.digest != self.payment.digest);
        let reserved = others.fold(0u64, |sum, other| sum.saturating_add(other.amount));
        if self.balance < reserved.saturating_add(self.payment.amount) {
            return Err(Rejection {
                reason: Reason::InsufficientFunds,
                ..balance_short(self.balance, reserved, self.payment.amount)
            });
        }
        Ok(())
    }
}

/// What the facilitator will have of it: of a wallet's payment nothing, of a vault's its share when that is distributed.
fn share(scene: &Scene, transfer: &Transfer, to_vault: bool) -> u64 {
    let service = scene.service.found().filter(|_| to_vault);
    let shares = service.and_then(|service| service.split(transfer.amount, 1).ok());
    shares.map_or(0, |shares| shares.facilitator)
}

fn behind(scene: &Scene, order: &Order) -> Vec<Address> {
    let owner = scene.source.as_ref().map(|source| source.owner);
    let mut behind: Vec<Address> = owner.into_iter().chain([order.destination]).collect();
    if let Some(service) = scene.service.found() {
        let recipients = usize::from(service.recipient_count);
        let recipients = service.recipients.iter().take(recipients);
        let keys = recipients.flat_map(|share| [share.owner, share.token_account]);
        let keys = keys.chain([service.authority]);
        behind.extend(keys.map(Address::new_from_array));
    }
    behind
}

/// Whether a service is paid. One that would not be distributed is not paid.
fn check_service(scene: &Scene, transfer: &Transfer, settler: &Settler) -> Result<bool, Rejection> {
    let wrong = |message: String| Rejection::new(Reason::Requirements, message);
    let service = match &scene.service {
        Lookup::Found(service) => service,
        Lookup::Missing => return Ok(false),
        Lookup::Wrong(error) => {
            return Err(wrong(format!("payTo: {}: {error}", transfer.pay_to)));
        }
    };
    if service.status != SERVICE_ACTIVE {
        return Err(wrong(
            "payTo: the service is closed: ask the server for new requirements".to_owned(),
        ));
    }
    let facilitator = Address::new_from_array(service.facilitator);
    if facilitator != settler.facilitator {
        return Err(wrong(format!(
            "payTo: the service is of facilitator {facilitator}, and this relayer settles for {}",
            settler.facilitator
        )));
    }
    let mint = Address::new_from_array(service.mint);
    if mint != transfer.mint {
        return Err(wrong(format!(
            "asset: {} is not the mint that the service is paid in, which is {mint}",
            transfer.mint
        )));
    }
    if scene
        .config
        .as_ref()
        .is_none_or(|config| config.paused != 0)
    {
        return Err(Rejection::new(
            Reason::Paused,
            "payments to services are paused by the program's admin: try again later",
        ));
    }
    Ok(true)
}

fn check_mint(scene: &Scene, transfer: &Transfer) -> Result<(), Rejection> {
    let order = &transfer.order;
    let Some(mint) = &scene.mint else {
        return Err(fails(format!("asset: {} is no mint", transfer.mint)));
    };
    if mint.token_program != order.token_program {
        return Err(fails(format!(
            "the transfer calls {}, and the mint is of {}",
            order.token_program, mint.token_program
        )));
    }
    if mint.decimals != order.decimals {
        return Err(fails(format!(
            "the transfer is signed for {} decimals, and the mint has {}",
            order.decimals, mint.decimals
        )));
    }
    // What would take a fee on the way, call a stranger's program or stand still is not what the server asked for.
    match mint.obstacle(ALLOWABLE_EXTENSIONS) {
        Some(obstacle) => Err(Rejection::new(
            Reason::MintUnusable,
            format!(
                "asset: nothing is settled in the mint {}: {obstacle}",
                transfer.mint
            ),
        )),
        None => Ok(()),
    }
}

fn check_destination(scene: &Scene, transfer: &Transfer) -> Result<(), Rejection> {
    let Some(destination) = &scene.destination else {
        return Err(fails(format!(
            "payTo has no token account for the mint: the server must open {} first",
            scene.expected
        )));
    };
    if destination.mint != transfer.mint || !destination.can_receive() {
        return Err(fails(format!(
            "payTo's token account {} takes no such transfer now: it is frozen, or wants what this one does not have",
            scene.expected
        )));
    }
    Ok(())
}

/// Gives what the payer may take from the source.
fn check_source(scene: &Scene, transfer: &Transfer, settler: &Settler) -> Result<u64, Rejection> {
    let order = &transfer.order;
    let Some(source) = &scene.source else {
        return Err(Rejection::new(
            Reason::InsufficientFunds,
            format!(
                "{} is no token account: the payer must open and fund it",
                order.source
            ),
        ));
    };
    if settler.fee_payers.contains(&source.owner) {
        return Err(Rejection::new(
            Reason::Exact(ExactReason::FeePayerTransfers),
            "the transfer is of this facilitator's own money",
        ));
    }
    if source.mint != transfer.mint {
        return Err(Rejection::new(
            Reason::Exact(ExactReason::MintMismatch),
            format!("{} holds another mint", order.source),
        ));
    }
    if !source.can_send() {
        return Err(fails("the payer's token account is frozen"));
    }
    let held = if source.owner == order.payer {
        source.amount
    } else {
        match source.delegate {
            Some((delegate, approved)) if delegate == order.payer => approved.min(source.amount),
            _ => {
                return Err(fails(format!(
                    "{} is neither owner nor delegate of the token account {}",
                    order.payer, order.source
                )));
            }
        }
    };
    if held < transfer.amount {
        return Err(Rejection {
            reason: Reason::InsufficientFunds,
            ..balance_short(held, 0, transfer.amount)
        });
    }
    Ok(held)
}
