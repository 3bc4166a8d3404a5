//! Judging a payment: pure functions of what the chain said and of what the relayer has in flight.
//!
//! The order is the program's, so that the reason given here is the one the program would give.

use sluice_intent::{Digest, Flags, LANES, Lane, Shares, Skip, Spend};
use sluice_sdk::{
    Address, SignedIntent,
    accounts::{AcceptedMint, NonceAccount, SERVICE_ACTIVE, Service},
    instructions::{ServiceAccounts, SettleItem},
    token::{Mint, TokenAccount},
};

use crate::{
    guard::{Parties, screening::Question},
    ledger::NonceKey,
    reason::{Reason, Rejection},
    request::Payment,
    snapshot::{Lookup, Snapshot},
};

/// Most seconds that the relayer may ask an intent to have left.
pub const MAX_MARGIN_SECS: u32 = 60;
/// Seconds by which the clocks of payer and chain may differ, when an intent's life is held against the
/// server's patience.
const CLOCK_SKEW_SECS: u64 = 10;

/// The relayer's own part in a judgement.
#[derive(Clone, Debug)]
pub struct Settler {
    /// The fee payers.
    pub relayers: Vec<Address>,
    /// The facilitator that it settles for.
    pub facilitator: Address,
    /// Seconds that an intent must have left, by the chain's clock.
    pub margin_secs: u32,
}

/// A payment that the relayer has taken on and that the snapshot may not show yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The payment.
    pub digest: Digest,
    /// Atomic units.
    pub amount: u64,
    /// The nonce that it burns, if it is an intent.
    pub nonce: Option<NonceKey>,
}

/// A payment that holds against the chain, with everything needed to settle it.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// The payment's identity.
    pub digest: Digest,
    /// The signed intent.
    pub signed: SignedIntent,
    /// Who pays.
    pub payer: Address,
    /// The mint.
    pub mint: Address,
    /// The mint's decimals.
    pub decimals: u8,
    /// The accounts of the instruction.
    pub accounts: ServiceAccounts,
    /// The entry with its accounts.
    pub item: SettleItem,
    /// How the payment is divided.
    pub shares: Shares,
    /// The chain's clock at the judgement.
    now: i64,
    authority: [u8; 32],
    lanes: [Lane; LANES],
    source: TokenAccount,
    registered: Vec<[u8; 32]>,
    /// Who signs, who may change the service, and who owns what its recipients are paid into.
    behind: Vec<Address>,
}

/// Judges a payment by the chain alone. [`Admission::reserve`] then judges it beside what is in flight.
pub fn judge(
    snapshot: &Snapshot,
    payment: &Payment,
    settler: &Settler,
) -> Result<Admission, Rejection> {
    check_facilitator(snapshot, settler)?;
    let (service, accepted) = check_service(snapshot, payment, settler)?;
    let signed = payment.intent(service.terms_hash)?;
    let intent = &signed.intent;

    Flags::parse(intent.lane).map_err(Rejection::skip)?;
    let nonce = check_nonce_account(snapshot, payment, intent.opened_slot)?;
    check_amount(payment.amount, service, accepted)?;
    check_life(snapshot, payment, intent.expires_at, settler)?;
    let lane = nonce
        .lanes
        .get(usize::from(intent.lane))
        .ok_or_else(|| Rejection::skip(Skip::UnknownFlag))?;
    let authority = service.authority;
    let spend = Spend {
        nonce: intent.nonce,
        amount: intent.amount,
        now: snapshot.now,
        service: payment.service.as_array(),
        authority: &authority,
        facilitator: &service.facilitator,
    };
    let _update = lane.check(&spend).map_err(Rejection::skip)?;

    let wallet = Address::new_from_array(snapshot.facilitator.wallet);
    let accounts = ServiceAccounts::new(payment.service, service, accepted, &wallet);
    let payer = Address::new_from_array(nonce.payer);
    let source_key = Address::new_from_array(nonce.source);
    check_self_payment(&source_key, &accounts)?;
    let source = check_source(snapshot, payment, &payer, &accounts.token_program)?;
    if source.amount < intent.amount {
        return Err(balance_short(source.amount, 0, intent.amount));
    }

    if !signed.is_signed_by(&lane.key) {
        return Err(Rejection::skip(Skip::BadSignature));
    }
    let shares = service.split(intent.amount, 1).map_err(|_| {
        Rejection::new(
            Reason::Requirements,
            "payTo: the service's shares cannot divide a payment",
        )
    })?;
    let recipients = usize::from(service.recipient_count);
    let recipients = service.recipients.iter().take(recipients);
    Ok(Admission {
        digest: intent.digest(),
        payer,
        mint: payment.mint,
        decimals: accepted.decimals,
        item: SettleItem {
            entry: signed.entry(),
            source: source_key,
            nonce_account: payment.nonce_account,
        },
        signed,
        accounts,
        shares,
        now: snapshot.now,
        authority,
        lanes: nonce.lanes,
        source,
        registered: snapshot.facilitator.relayer_keys().to_vec(),
        behind: [lane.key, service.authority]
            .into_iter()
            .chain(recipients.map(|share| share.owner))
            .map(Address::new_from_array)
            .collect(),
    })
}

impl Parties for Admission {
    fn payer(&self) -> Address {
        self.payer
    }

    fn service(&self) -> Address {
        self.accounts.service
    }

    fn question(&self) -> Question {
        let intent = &self.signed.intent;
        Question {
            payer: self.payer.to_string(),
            service: self.accounts.service.to_string(),
            mint: self.mint.to_string(),
            amount: intent.amount.to_string(),
            resource: hex::encode(intent.resource),
        }
    }

    fn everybody(&self) -> Vec<Address> {
        let accounts = &self.accounts;
        [self.payer, self.item.source, accounts.service]
            .iter()
            .chain(&self.behind)
            .chain(&accounts.recipients)
            .copied()
            .collect()
    }
}

impl Admission {
    /// The relayer keys that the facilitator has registered.
    pub fn registered(&self) -> &[[u8; 32]] {
        &self.registered
    }

    /// The chain's clock at the judgement, unix seconds.
    pub fn chain_time(&self) -> i64 {
        self.now
    }

    /// Judges the payment beside the other payments of its nonce account and of its token account that are in flight,
    /// as if all of them land. What the snapshot shows as landed already is not counted twice.
    pub fn reserve(&self, in_flight: &[InFlight]) -> Result<(), Rejection> {
        let intent = &self.signed.intent;
        let mut lanes = self.lanes;
        let mut reserved = 0u64;
        // Of what is reserved, the part that does not go through the nonce account's approval.
        let mut direct = 0u64;
        for other in in_flight.iter().filter(|other| other.digest != self.digest) {
            let Some(key) = other
                .nonce
                .filter(|key| key.account == self.item.nonce_account)
            else {
                direct = direct.saturating_add(other.amount);
                reserved = reserved.saturating_add(other.amount);
                continue;
            };
            let Some(lane) = lanes
                .get_mut(usize::from(key.lane))
                .filter(|_| key.opened_slot == intent.opened_slot)
            else {
                continue;
            };
            if lane.window().is_used(key.nonce) {
                continue;
            }
            if key.lane == intent.lane && key.nonce == intent.nonce {
                return Err(nonce_conflict());
            }
            if let Ok(update) = lane.check(&self.spend(key.nonce, other.amount)) {
                lane.apply(update);
            }
            reserved = reserved.saturating_add(other.amount);
        }
        let Some(lane) = lanes.get(usize::from(intent.lane)).filter(|_| reserved > 0) else {
            return Ok(());
        };
        let _update = lane
            .check(&self.spend(intent.nonce, intent.amount))
            .map_err(Rejection::skip)?;
        let needed = reserved.saturating_add(intent.amount);
        let delegated = self.source.delegate.map_or(0, |(_, amount)| amount);
        let pulled = reserved.saturating_sub(direct);
        if delegated < needed.saturating_sub(direct) {
            return Err(Rejection::skip_because(
                Skip::DelegatedShort,
                format!(
                    "{delegated} units are approved, {pulled} of them for payments that are being settled"
                ),
            ));
        }
        if self.source.amount < needed {
            return Err(balance_short(self.source.amount, reserved, intent.amount));
        }
        Ok(())
    }

    fn spend(&self, nonce: u64, amount: u64) -> Spend<'_> {
        Spend {
            nonce,
            amount,
            now: self.now,
            service: self.accounts.service.as_array(),
            authority: &self.authority,
            facilitator: self.accounts.facilitator.as_array(),
        }
    }
}

/// The rejection of a second payment on a nonce that another one holds.
pub fn nonce_conflict() -> Rejection {
    Rejection::new(
        Reason::NonceConflict,
        "another payment with this nonce is being settled: sign a new intent with the next free nonce (GET \
         /v1/payers/{payer}?mint=)",
    )
}

pub(crate) fn balance_short(balance: u64, reserved: u64, amount: u64) -> Rejection {
    let held = if reserved > 0 {
        format!(", {reserved} of them for payments that are being settled")
    } else {
        String::new()
    };
    Rejection::skip_because(
        Skip::BalanceShort,
        format!("the token account holds {balance} units{held}, and the payment is {amount}"),
    )
}

/// What stops every payment, whoever pays.
fn check_facilitator(snapshot: &Snapshot, settler: &Settler) -> Result<(), Rejection> {
    if snapshot.config.paused != 0 {
        return Err(Rejection::new(
            Reason::Paused,
            "settlement is paused by the program's admin: try again later",
        ));
    }
    if snapshot.facilitator.suspended != 0 {
        return Err(Rejection::new(
            Reason::FacilitatorSuspended,
            "the facilitator is suspended: use another one",
        ));
    }
    let registered = snapshot.facilitator.relayer_keys();
    if !settler
        .relayers
        .iter()
        .any(|key| registered.contains(key.as_array()))
    {
        let keys: Vec<String> = settler.relayers.iter().map(Address::to_string).collect();
        return Err(Rejection::new(
            Reason::RelayerNotRegistered,
            format!(
                "the relayer's key {} is not registered for facilitator {}: its operator must register it",
                keys.join(", "),
                settler.facilitator
            ),
        ));
    }
    Ok(())
}

fn check_service<'a>(
    snapshot: &'a Snapshot,
    payment: &Payment,
    settler: &Settler,
) -> Result<(&'a Service, &'a AcceptedMint), Rejection> {
    let wrong = |message: String| Rejection::new(Reason::Requirements, message);
    let service = match &snapshot.service {
        Lookup::Found(service) => service,
        Lookup::Missing => {
            return Err(wrong(format!(
                "payTo: there is no service at {}: the server must create it and pay to its address",
                payment.service
            )));
        }
        Lookup::Wrong(error) => return Err(wrong(format!("payTo: {}: {error}", payment.service))),
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
    if mint != payment.mint {
        return Err(wrong(format!(
            "asset: {} is not the mint that the service is paid in, which is {mint}",
            payment.mint
        )));
    }
    let accepted = match &snapshot.accepted {
        Lookup::Found(accepted) => accepted,
        Lookup::Missing => {
            return Err(wrong(format!(
                "asset: the mint {mint} is not accepted by the program: use an accepted one"
            )));
        }
        Lookup::Wrong(error) => return Err(wrong(format!("asset: {mint}: {error}"))),
    };
    if !accepted.settles() {
        return Err(Rejection::new(
            Reason::MintDisabled,
            format!("asset: settlement in the mint {mint} is switched off by the program's admin"),
        ));
    }
    check_mint(snapshot.mint.as_ref(), accepted)?;
    if payment
        .shown_terms
        .is_some_and(|hash| hash != service.terms_hash)
    {
        return Err(wrong(
            "extra.termsHash: the service has other terms by now: the server must read them anew (GET \
             /v1/services/{pda}), and the client must ask for a fresh 402"
                .to_owned(),
        ));
    }
    Ok((service, accepted))
}

/// The mint as it is now: its authorities can change it after it was accepted.
pub(crate) fn check_mint(mint: Option<&Mint>, accepted: &AcceptedMint) -> Result<(), Rejection> {
    let unusable = |why: &str| {
        Rejection::new(
            Reason::MintUnusable,
            format!(
                "asset: nothing can be pulled in the mint {} now: {why}",
                Address::new_from_array(accepted.mint)
            ),
        )
    };
    let Some(mint) = mint else {
        return Err(unusable("it is closed"));
    };
    // A mint that can be closed can be made anew, as another one at the same address.
    if mint.token_program.to_bytes() != accepted.token_program || mint.decimals != accepted.decimals
    {
        return Err(unusable("it is not the one that was accepted"));
    }
    match mint.obstacle(accepted.allowed_extensions) {
        Some(obstacle) => Err(unusable(&obstacle.to_string())),
        None => Ok(()),
    }
}

fn check_nonce_account<'a>(
    snapshot: &'a Snapshot,
    payment: &Payment,
    opened_slot: u64,
) -> Result<&'a NonceAccount, Rejection> {
    let nonce = match &snapshot.nonce {
        Lookup::Found(nonce) => nonce,
        Lookup::Missing => return Err(Rejection::skip(Skip::AccountMissing)),
        Lookup::Wrong(sluice_sdk::DecodeError::Version { .. }) => {
            return Err(Rejection::skip(Skip::AccountVersion));
        }
        Lookup::Wrong(_) => return Err(Rejection::skip(Skip::AccountForeign)),
    };
    if nonce.mint != payment.mint.to_bytes() {
        return Err(Rejection::skip(Skip::MintMismatch));
    }
    // The program would find this out as a bad signature, because the slot is in the digest.
    if nonce.opened_slot != opened_slot {
        return Err(Rejection::skip_because(
            Skip::BadSignature,
            format!(
                "openedSlot is {opened_slot}, and the nonce account was opened in slot {}",
                nonce.opened_slot
            ),
        ));
    }
    Ok(nonce)
}

fn check_amount(amount: u64, service: &Service, accepted: &AcceptedMint) -> Result<(), Rejection> {
    let least = service.min_payment.max(accepted.min_amount).max(1);
    if amount < least {
        return Err(Rejection::skip_because(
            Skip::BelowMinimum,
            format!("the payment is {amount} units, and the least is {least}"),
        ));
    }
    if amount > accepted.max_amount {
        return Err(Rejection::skip_because(
            Skip::AboveMaximum,
            format!(
                "the payment is {amount} units, and the most is {}",
                accepted.max_amount
            ),
        ));
    }
    Ok(())
}

/// The intent must live long enough to land, and no longer than the program allows or the server waits.
fn check_life(
    snapshot: &Snapshot,
    payment: &Payment,
    expires_at: u32,
    settler: &Settler,
) -> Result<(), Rejection> {
    let left = i64::from(expires_at).saturating_sub(snapshot.now);
    if left < i64::from(settler.margin_secs) {
        return Err(Rejection::skip_because(
            Skip::Expired,
            format!(
                "expiresAt leaves {left} s by the chain's clock, and settling needs {}",
                settler.margin_secs
            ),
        ));
    }
    let most = snapshot.config.max_intent_ttl;
    if left > i64::from(most) {
        return Err(Rejection::skip_because(
            Skip::ExpiryTooFar,
            format!("expiresAt is {left} s ahead of the chain's clock, and the most is {most}"),
        ));
    }
    let patience = payment.max_timeout_seconds.saturating_add(CLOCK_SKEW_SECS);
    if u64::try_from(left).is_ok_and(|left| left > patience) {
        return Err(Rejection::new(
            Reason::Payload,
            format!(
                "payload.expiresAt: the intent lives {left} s more, and the server waits maxTimeoutSeconds = {}: \
                 sign one that expires earlier",
                payment.max_timeout_seconds
            ),
        ));
    }
    Ok(())
}

/// A payment from the vault or from a leg buys nothing but a receipt.
fn check_self_payment(source: &Address, accounts: &ServiceAccounts) -> Result<(), Rejection> {
    let fixed = [
        accounts.vault,
        accounts.treasury_token,
        accounts.facilitator_token,
    ];
    if fixed.contains(source) || accounts.recipients.contains(source) {
        return Err(Rejection::skip(Skip::SelfPayment));
    }
    Ok(())
}

/// The token account, if the nonce account may pull the amount from it by everything but its balance.
fn check_source(
    snapshot: &Snapshot,
    payment: &Payment,
    payer: &Address,
    token_program: &Address,
) -> Result<TokenAccount, Rejection> {
    let Some(source) = snapshot.source else {
        return Err(Rejection::skip(Skip::SourceUnusable));
    };
    if source.token_program != *token_program || source.mint != payment.mint || !source.lets_out {
        return Err(Rejection::skip(Skip::SourceUnusable));
    }
    if source.frozen {
        return Err(Rejection::skip(Skip::SourceFrozen));
    }
    if source.owner != *payer {
        return Err(Rejection::skip(Skip::OwnerChanged));
    }
    match source.delegate {
        Some((delegate, amount)) if delegate == payment.nonce_account => {
            if amount < payment.amount {
                return Err(Rejection::skip_because(
                    Skip::DelegatedShort,
                    format!(
                        "{amount} units are approved, and the payment is {}",
                        payment.amount
                    ),
                ));
            }
            Ok(source)
        }
        _ => Err(Rejection::skip(Skip::DelegateGone)),
    }
}
