use anchor_lang::{prelude::*, solana_program::program::set_return_data};
use sluice_intent::{Flags, Intent, Skip, Spend, entry::ENTRY_ACCOUNTS, signature};

use super::{OnService, Owners, recipients};
use crate::{
    SluiceError,
    error::{ensure, fail, strict as strict_error},
    events::Settled,
    legs::{self, Amounts, FACILITATOR, LegSet, TREASURY},
    state::{
        AcceptedMint, Config, Facilitator, NonceAccount, Service, VERSION, read, seeds, write,
    },
    token::{MOST_WAITING, TOKEN_PROGRAM, Transfers, can_be_pulled, decimals},
};

/// `sluice_intent::Entry`, spelt out for the IDL: the same 101 bytes.
#[derive(AnchorSerialize, AnchorDeserialize, Clone, Copy)]
pub struct SettleEntry {
    pub signature: [u8; 64],
    pub amount: u64,
    pub nonce: u64,
    /// Unix seconds.
    pub expires_at: u32,
    pub resource: [u8; 16],
    /// Bits 0 and 1: lane. The rest is zero.
    pub flags: u8,
}

/// Pulls what each entry allows into the vault, then divides the sum once: the split is as atomic as the
/// transaction. An entry that cannot be pulled is skipped and changes nothing; with `strict` it fails the
/// transaction instead.
///
/// The caller is a relayer key of the service's facilitator and pays the fee. Remaining accounts after the
/// recipients': two for each entry, source token account and nonce account (both writable).
pub(crate) fn handle<'info>(
    accounts: &'info OnService<'info>,
    remaining: &'info [AccountInfo<'info>],
    strict: bool,
    entries: Vec<SettleEntry>,
) -> Result<()> {
    let now = Clock::get()?.unix_timestamp;
    let config = read::<Config>(&accounts.config)?;
    let accepted = read::<AcceptedMint>(&accounts.accepted_mint)?;
    let service = read::<Service>(&accounts.service)?;
    let owners = check_scene(accounts, &config, &accepted, &service)?;
    let (recipients, sources) = recipients(&service, remaining)?;
    let fit = !entries.is_empty() && sources.len() == ENTRY_ACCOUNTS * entries.len();
    ensure(fit, SluiceError::EntryAccounts)?;

    let scene = Scene {
        config: &config,
        accepted: &accepted,
        service: &service,
        accounts,
        recipients,
        now,
    };
    let payable = scene.payable(&owners);
    if entries.len() > 1 {
        scene.require_vault()?;
    }
    let mut pulls = Pulls::new(accounts, accepted.decimals);
    let mut codes = Vec::with_capacity(entries.len());
    let mut division = Division::default();
    for (entry, pair) in entries.iter().zip(sources.chunks_exact(ENTRY_ACCOUNTS)) {
        let (source, nonce) = (&pair[0], &pair[1]);
        // What waits may be from this very account: it leaves before the account is looked at again.
        pulls.make_way(source.key)?;
        match scene.admit(entry, source, nonce) {
            Ok(signer) => {
                division.add(entry.amount)?;
                if entries.len() == 1 {
                    division.amounts = legs::amounts(&service.divide(entry.amount, 1)?);
                    division.direct = division.held(payable) == LegSet::default();
                }
                if division.direct {
                    let from = (source, nonce, &signer.seeds()[..]);
                    division.pay(accounts, recipients, payable, from, &mut pulls.transfers)?;
                } else {
                    if entries.len() == 1 {
                        scene.require_vault()?;
                    }
                    pulls.push(source, nonce, entry.amount, signer)?;
                }
                codes.push(0);
            }
            Err(skip) if strict => return Err(strict_error(skip)),
            Err(skip) => codes.push(skip.code()),
        }
    }
    pulls.send()?;

    let legs = recipients.len();
    if division.payments > 0 {
        if entries.len() > 1 {
            division.amounts = legs::amounts(&service.divide(division.total, division.payments)?);
        }
        let signer = service.signer();
        // The service signs for the vault, so it must not be borrowed while money moves.
        drop((service, config, accepted));
        if !division.direct {
            let (vault, authority) = (&*accounts.vault, &*accounts.service);
            let from = (vault, authority, &signer.seeds()[..]);
            division.pay(accounts, recipients, payable, from, &mut pulls.transfers)?;
        }
        record(accounts, &division, division.held(payable), now)?;
    }
    set_return_data(&codes);
    emit!(Settled {
        service: *accounts.service.key,
        total: division.total,
        treasury: division.amounts[TREASURY],
        facilitator: division.amounts[FACILITATOR],
        held: division.held(payable).0,
        recipients: division.amounts[..legs].to_vec(),
        codes,
    });
    Ok(())
}

/// What one settle divides.
#[derive(Default)]
struct Division {
    /// Atomic units that were pulled, and the payments they were.
    total: u64,
    payments: u64,
    amounts: Amounts,
    /// One payment whose legs can all be paid goes to them straight from the payer, past the vault.
    direct: bool,
}

impl Division {
    fn add(&mut self, amount: u64) -> Result<()> {
        // Tokens of one mint never add up to more than its supply, a u64.
        let total = self.total.checked_add(amount);
        self.total = total.ok_or_else(|| fail(SluiceError::Overflow))?;
        self.payments += 1;
        Ok(())
    }

    /// Sends every leg that has money coming and can take it, from a source with its authority and that one's seeds.
    fn pay<'info>(
        &self,
        accounts: &'info OnService<'info>,
        recipients: &'info [AccountInfo<'info>],
        payable: LegSet,
        (source, authority, seeds): (&AccountInfo<'info>, &AccountInfo<'info>, &[&[u8]]),
        transfers: &mut Transfers<'info>,
    ) -> Result<()> {
        for (leg, amount) in self.amounts.iter().enumerate() {
            if *amount == 0 || !payable.contains(leg) {
                continue;
            }
            if transfers.is_full() {
                transfers.send(&[seeds])?;
            }
            if let Some(account) = legs::account(accounts, recipients, leg) {
                transfers.push(source, account, authority, *amount);
            }
        }
        transfers.send(&[seeds])
    }

    /// The legs that have money coming and cannot take it.
    fn held(&self, payable: LegSet) -> LegSet {
        let mut held = LegSet::default();
        for (leg, amount) in self.amounts.iter().enumerate() {
            if *amount > 0 && !payable.contains(leg) {
                held.insert(leg);
            }
        }
        held
    }
}

/// Pulls into the vault that wait to leave together.
struct Pulls<'info> {
    accounts: &'info OnService<'info>,
    transfers: Transfers<'info>,
    waiting: Vec<(&'info Pubkey, Pull)>,
}

impl<'info> Pulls<'info> {
    fn new(accounts: &'info OnService<'info>, decimals: u8) -> Self {
        let program = accounts.token_program.key;
        Self {
            accounts,
            transfers: Transfers::new(program, &accounts.mint, decimals),
            waiting: Vec::with_capacity(MOST_WAITING),
        }
    }

    /// Lets leave what waits if it is from `source`, which is about to be looked at: an inspection always sees what
    /// the earlier entries left.
    fn make_way(&mut self, source: &Pubkey) -> Result<()> {
        if self.waiting.iter().any(|(key, _)| *key == source) {
            self.send()?;
        }
        Ok(())
    }

    fn push(
        &mut self,
        source: &'info AccountInfo<'info>,
        nonce: &AccountInfo<'info>,
        amount: u64,
        pull: Pull,
    ) -> Result<()> {
        if self.transfers.is_full() {
            self.send()?;
        }
        self.transfers
            .push(source, &self.accounts.vault, nonce, amount);
        self.waiting.push((source.key, pull));
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        let seeds: Vec<[&[u8]; 4]> = self.waiting.iter().map(|(_, pull)| pull.seeds()).collect();
        let signers: Vec<&[&[u8]]> = seeds.iter().map(|seeds| &seeds[..]).collect();
        self.transfers.send(&signers)?;
        self.waiting.clear();
        Ok(())
    }
}

/// Everything that does not depend on an entry.
fn check_scene(
    accounts: &OnService<'_>,
    config: &Config,
    accepted: &AcceptedMint,
    service: &Service,
) -> Result<Owners> {
    let facilitator = read::<Facilitator>(&accounts.facilitator)?;
    let owners = accounts.check(config, accepted, &facilitator, service)?;
    ensure(config.paused == 0, SluiceError::Paused)?;
    let active = service.status == Service::ACTIVE;
    ensure(active, SluiceError::ServiceInactive)?;
    ensure(accepted.settles(), SluiceError::MintDisabled)?;
    let free = facilitator.suspended == 0;
    ensure(free, SluiceError::FacilitatorSuspended)?;
    let known = facilitator.has_relayer(accounts.caller.key);
    ensure(known, SluiceError::RelayerNotRegistered)?;
    // No instruction of this transaction's can change the mint between here and the last pull: the token program
    // calls nothing, since hooks are refused.
    // A mint that was closed and made anew is another one.
    let fits = accepted.token_program == TOKEN_PROGRAM
        || (can_be_pulled(&accounts.mint, accepted.allowed_extensions)
            && decimals(&accounts.mint)? == accepted.decimals);
    ensure(fits, SluiceError::MintUnusable)?;
    Ok(owners)
}

/// What every entry of a settle is judged against.
struct Scene<'a, 'info> {
    config: &'a Config,
    accepted: &'a AcceptedMint,
    service: &'a Service,
    accounts: &'info OnService<'info>,
    recipients: &'info [AccountInfo<'info>],
    now: i64,
}

/// The seeds of an admitted entry's nonce account, which signs the pull.
struct Pull {
    payer: Pubkey,
    mint: Pubkey,
    bump: [u8; 1],
}

impl Pull {
    fn seeds(&self) -> [&[u8]; 4] {
        [
            seeds::NONCE,
            self.payer.as_ref(),
            self.mint.as_ref(),
            &self.bump,
        ]
    }
}

impl Scene<'_, '_> {
    /// The legs whose accounts can take money, looked at before any moves: no transfer of this instruction changes it.
    fn payable(&self, owners: &Owners) -> LegSet {
        let mut payable = LegSet::default();
        let legs = (0..self.recipients.len()).chain([TREASURY, FACILITATOR]);
        for leg in legs {
            let account = legs::account(self.accounts, self.recipients, leg);
            let owner = legs::owner(self.service, owners, leg);
            let (Some(account), Some(owner)) = (account, owner) else {
                continue;
            };
            let (mint, vault) = (self.accounts.mint_ref(), self.accounts.vault.key);
            if legs::is_payable(mint, vault, account, owner) {
                payable.insert(leg);
            }
        }
        payable
    }

    /// Fails unless the vault can take money. A frozen vault stops its own service and nobody else's.
    fn require_vault(&self) -> Result<()> {
        let accounts = self.accounts;
        let vault: &AccountInfo<'_> = &accounts.vault;
        let usable = accounts.mint_ref().can_receive(vault, accounts.service.key);
        ensure(usable, SluiceError::VaultUnusable)
    }

    /// Judges one entry and, only if all of it holds, burns its nonce and counts its amount. What it lets
    /// pass, the token program lets pass too.
    fn admit(
        &self,
        entry: &SettleEntry,
        source: &AccountInfo<'_>,
        nonce: &AccountInfo<'_>,
    ) -> core::result::Result<Pull, Skip> {
        let flags = Flags::parse(entry.flags)?;
        if nonce.owner != &crate::ID {
            let gone = nonce.data_is_empty() && *nonce.owner == System::id();
            return Err(if gone {
                Skip::AccountMissing
            } else {
                Skip::AccountForeign
            });
        }
        if !nonce.is_writable {
            return Err(Skip::AccountForeign);
        }
        let mut data = nonce
            .try_borrow_mut_data()
            .map_err(|_| Skip::AccountForeign)?;
        let state = nonce_state(&mut data)?;
        if state.version != VERSION {
            return Err(Skip::AccountVersion);
        }
        if state.mint != *self.accounts.mint.key {
            return Err(Skip::MintMismatch);
        }
        if entry.amount
            < self
                .service
                .min_payment
                .max(self.accepted.min_amount)
                .max(1)
        {
            return Err(Skip::BelowMinimum);
        }
        if entry.amount > self.accepted.max_amount {
            return Err(Skip::AboveMaximum);
        }
        let expires_at = i64::from(entry.expires_at);
        if self.now > expires_at {
            return Err(Skip::Expired);
        }
        if expires_at
            > self
                .now
                .saturating_add(i64::from(self.config.max_intent_ttl))
        {
            return Err(Skip::ExpiryTooFar);
        }
        let lane = state
            .lanes
            .get_mut(usize::from(flags.lane))
            .ok_or(Skip::UnknownFlag)?
            .logic_mut();
        let update = lane.check(&Spend {
            nonce: entry.nonce,
            amount: entry.amount,
            now: self.now,
            service: self.accounts.service.key.as_array(),
            authority: self.service.authority.as_array(),
            facilitator: self.service.facilitator.as_array(),
        })?;
        if state.source != *source.key {
            return Err(Skip::SourceMismatch);
        }
        if self.is_leg(source.key) {
            return Err(Skip::SelfPayment);
        }
        self.accounts
            .mint_ref()
            .can_pull(source, &state.payer, nonce.key, entry.amount)?;
        // Last, because it costs more than everything above.
        let digest = Intent {
            genesis_hash: self.config.genesis_hash.as_array(),
            program_id: crate::ID.as_array(),
            nonce_account: nonce.key.as_array(),
            opened_slot: state.opened_slot,
            lane: flags.lane,
            service: self.accounts.service.key.as_array(),
            terms_hash: self.service.terms_hash.as_array(),
            amount: entry.amount,
            nonce: entry.nonce,
            expires_at,
            resource: entry.resource,
        }
        .digest();
        if !signature::verify(&lane.key, &digest, &entry.signature) {
            return Err(Skip::BadSignature);
        }
        lane.apply(update);
        state.spent_total = state.spent_total.saturating_add(entry.amount);
        state.last_active = self.now;
        Ok(Pull {
            payer: state.payer,
            mint: state.mint,
            bump: [state.bump],
        })
    }

    /// Whether a token account is the vault or one that the split pays: a payment from it is a receipt for
    /// nothing.
    fn is_leg(&self, key: &Pubkey) -> bool {
        key == self.accounts.vault.key
            || key == self.accounts.treasury_token.key
            || key == self.accounts.facilitator_token.key
            || self.recipients.iter().any(|account| account.key == key)
    }
}

/// The nonce account in an account's data, if it is one.
fn nonce_state(data: &mut [u8]) -> core::result::Result<&mut NonceAccount, Skip> {
    let (discriminator, body) = data.split_at_mut_checked(8).ok_or(Skip::AccountForeign)?;
    if discriminator != NonceAccount::DISCRIMINATOR {
        return Err(Skip::AccountForeign);
    }
    let body = body
        .get_mut(..size_of::<NonceAccount>())
        .ok_or(Skip::AccountForeign)?;
    bytemuck::try_from_bytes_mut(body).map_err(|_| Skip::AccountForeign)
}

/// Counts what was settled, and what is held for whom.
fn record(accounts: &OnService<'_>, division: &Division, held: LegSet, now: i64) -> Result<()> {
    let overflow = || fail(SluiceError::Overflow);
    let mut service = write::<Service>(&accounts.service)?;
    service.settled_total = service.settled_total.saturating_add(division.total);
    service.payments = service.payments.saturating_add(division.payments);
    if held == LegSet::default() {
        return Ok(());
    }
    for (leg, amount) in division.amounts.iter().enumerate() {
        if held.contains(leg) {
            let sum = service.held(leg).checked_add(*amount);
            service.set_held(leg, sum.ok_or_else(overflow)?, now);
            let total = service.held_total.checked_add(*amount);
            service.held_total = total.ok_or_else(overflow)?;
        }
    }
    Ok(())
}
