use anchor_lang::{prelude::*, solana_program::program::set_return_data};
use sluice_intent::{
    Flags, Intent, MAX_RECIPIENTS, Shares, Skip, Spend,
    entry::ENTRY_ACCOUNTS,
    signature,
    split::{Fees, split},
};

use crate::{
    SluiceError,
    error::strict as strict_error,
    events::Settled,
    state::{AcceptedMint, Config, Facilitator, NonceAccount, Service, VERSION, seeds},
    token::{MintRef, Transfers},
};

/// Bit of the treasury in [`Settled::held`]; the recipients' are below.
const HELD_TREASURY: u16 = 1 << 8;
/// Bit of the facilitator.
const HELD_FACILITATOR: u16 = 1 << 9;

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

/// Remaining accounts: the recipients' token accounts in the order of the terms (writable), then two for
/// each entry, source token account and nonce account (both writable).
///
/// The relayer pays the fee and is handed to no other program.
#[derive(Accounts)]
pub struct Settle<'info> {
    #[account(mut)]
    pub relayer: Signer<'info>,
    pub config: AccountLoader<'info, Config>,
    pub accepted_mint: AccountLoader<'info, AcceptedMint>,
    pub facilitator: AccountLoader<'info, Facilitator>,
    #[account(mut)]
    pub service: AccountLoader<'info, Service>,
    /// CHECK: compared with the service's.
    pub mint: UncheckedAccount<'info>,
    /// CHECK: compared with the service's.
    #[account(mut)]
    pub vault: UncheckedAccount<'info>,
    /// CHECK: compared with the accepted mint's; what it cannot take is held.
    #[account(mut)]
    pub treasury_token: UncheckedAccount<'info>,
    /// CHECK: any token account of the facilitator's wallet; what it cannot take is held.
    #[account(mut)]
    pub facilitator_token: UncheckedAccount<'info>,
    /// CHECK: compared with the accepted mint's.
    pub token_program: UncheckedAccount<'info>,
}

/// Pulls what each entry allows into the vault, then divides the sum once: the split is as atomic as the
/// transaction. An entry that cannot be pulled is skipped and changes nothing; with `strict` it fails the
/// transaction instead.
pub(crate) fn handle<'info>(
    ctx: Context<'info, Settle<'info>>,
    strict: bool,
    entries: Vec<SettleEntry>,
) -> Result<()> {
    let accounts: &'info Settle<'info> = ctx.accounts;
    let now = Clock::get()?.unix_timestamp;
    let config = accounts.config.load()?;
    let accepted = accounts.accepted_mint.load()?;
    let service = accounts.service.load()?;
    let wallet = check_scene(accounts, &config, &accepted, &service)?;

    let legs = usize::from(service.recipient_count);
    let expected = legs + ENTRY_ACCOUNTS * entries.len();
    require!(
        !entries.is_empty() && ctx.remaining_accounts.len() == expected,
        SluiceError::EntryAccounts
    );
    let (recipients, sources) = ctx.remaining_accounts.split_at(legs);
    for (account, share) in recipients.iter().zip(service.shares()) {
        require!(
            *account.key == share.token_account,
            SluiceError::WrongDestination
        );
    }

    let mint = MintRef {
        mint: accounts.mint.key,
        token_program: accounts.token_program.key,
    };
    let scene = Scene {
        config: &config,
        accepted: &accepted,
        service: &service,
        service_key: accounts.service.as_ref().key,
        mint,
        accounts,
        recipients,
        now,
    };
    let mut transfers = Transfers::new(
        *accounts.token_program.key,
        &accounts.mint,
        accepted.decimals,
    );
    let mut codes = Vec::with_capacity(entries.len());
    let (mut total, mut payments) = (0u64, 0u64);
    for (entry, pair) in entries.iter().zip(sources.chunks_exact(ENTRY_ACCOUNTS)) {
        let (source, nonce) = (&pair[0], &pair[1]);
        match scene.admit(entry, source, nonce) {
            Ok(pull) => {
                transfers.set_source(source, nonce);
                transfers.send(
                    &accounts.vault,
                    entry.amount,
                    &[
                        seeds::NONCE,
                        pull.payer.as_ref(),
                        mint.mint.as_ref(),
                        &[pull.bump],
                    ],
                )?;
                // Tokens of one mint never add up to more than its supply, a u64.
                total = total
                    .checked_add(entry.amount)
                    .ok_or(SluiceError::Overflow)?;
                payments += 1;
                codes.push(0);
            }
            Err(skip) if strict => return Err(strict_error(skip)),
            Err(skip) => codes.push(skip.code()),
        }
    }

    let mut division = Division {
        total,
        ..Division::default()
    };
    if payments > 0 {
        division.shares = divide(&service, total, payments)?;
        let treasury = config.treasury;
        drop((service, config, accepted));
        division.held = pay_legs(
            accounts,
            recipients,
            &mut transfers,
            &division.shares,
            &treasury,
            &wallet,
        )?;
        record(accounts, &division, payments, now)?;
    }
    set_return_data(&codes);
    emit!(Settled {
        service: accounts.service.key(),
        total: division.total,
        treasury: division.shares.treasury,
        facilitator: division.shares.facilitator,
        held: division.held,
        recipients: division.shares.recipients[..legs].to_vec(),
        codes,
    });
    Ok(())
}

/// What one settle divides, and which legs stayed in the vault.
#[derive(Default)]
struct Division {
    total: u64,
    shares: Shares,
    held: u16,
}

/// Everything that does not depend on an entry. Gives the facilitator's wallet.
fn check_scene(
    accounts: &Settle<'_>,
    config: &Config,
    accepted: &AcceptedMint,
    service: &Service,
) -> Result<Pubkey> {
    require!(config.paused == 0, SluiceError::Paused);
    require!(service.version == VERSION, SluiceError::WrongVersion);
    require!(
        service.status == Service::ACTIVE,
        SluiceError::ServiceInactive
    );
    require!(
        service.facilitator == *accounts.facilitator.as_ref().key,
        SluiceError::WrongFacilitator
    );
    require!(service.mint == *accounts.mint.key, SluiceError::WrongMint);
    require!(
        service.vault == *accounts.vault.key,
        SluiceError::WrongVault
    );
    require!(accepted.mint == service.mint, SluiceError::WrongMint);
    require!(accepted.settles(), SluiceError::MintDisabled);
    require!(
        accepted.token_program == *accounts.token_program.key,
        SluiceError::WrongTokenProgram
    );
    require!(
        accepted.treasury_token == *accounts.treasury_token.key,
        SluiceError::WrongTreasury
    );
    let facilitator = accounts.facilitator.load()?;
    require!(
        facilitator.suspended == 0,
        SluiceError::FacilitatorSuspended
    );
    require!(
        facilitator.has_relayer(accounts.relayer.key),
        SluiceError::RelayerNotRegistered
    );
    Ok(facilitator.wallet)
}

/// What every entry of a settle is judged against.
struct Scene<'a, 'info> {
    config: &'a Config,
    accepted: &'a AcceptedMint,
    service: &'a Service,
    service_key: &'a Pubkey,
    mint: MintRef<'a>,
    accounts: &'a Settle<'info>,
    recipients: &'a [AccountInfo<'info>],
    now: i64,
}

/// The seeds of an admitted entry's nonce account, which signs the pull.
struct Pull {
    payer: Pubkey,
    bump: u8,
}

impl Scene<'_, '_> {
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
        if state.mint != *self.mint.mint {
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
            service: self.service_key.as_array(),
            authority: self.service.authority.as_array(),
            facilitator: self.service.facilitator.as_array(),
        })?;
        if state.source != *source.key {
            return Err(Skip::SourceMismatch);
        }
        if self.is_leg(source.key) {
            return Err(Skip::SelfPayment);
        }
        self.mint
            .can_pull(source, &state.payer, nonce.key, entry.amount)?;
        // Last, because it costs more than everything above.
        let digest = Intent {
            genesis_hash: self.config.genesis_hash.as_array(),
            program_id: crate::ID.as_array(),
            nonce_account: nonce.key.as_array(),
            opened_slot: state.opened_slot,
            lane: flags.lane,
            service: self.service_key.as_array(),
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
            bump: state.bump,
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

fn divide(service: &Service, total: u64, payments: u64) -> Result<Shares> {
    let mut bps = [0u16; MAX_RECIPIENTS];
    let shares = service.shares();
    for (slot, share) in bps.iter_mut().zip(shares) {
        *slot = share.bps;
    }
    let fees = Fees {
        treasury_bps: service.treasury_bps,
        facilitator_bps: service.facilitator_bps,
        facilitator_fixed: service.facilitator_fixed,
    };
    split(total, payments, &fees, &bps[..shares.len()])
        .map_err(|_| SluiceError::RecipientShares.into())
}

/// Sends each leg from the vault. One that its account cannot take stays there, and its bit comes back.
fn pay_legs<'info>(
    accounts: &'info Settle<'info>,
    recipients: &'info [AccountInfo<'info>],
    transfers: &mut Transfers<'info>,
    shares: &Shares,
    treasury: &Pubkey,
    facilitator: &Pubkey,
) -> Result<u16> {
    let mint = MintRef {
        mint: accounts.mint.key,
        token_program: accounts.token_program.key,
    };
    // The service owns the vault and signs for it, so it must not be borrowed while money moves.
    let service = *accounts.service.load()?;
    transfers.set_source(&accounts.vault, accounts.service.as_ref());
    let (id, bump) = (service.id.to_le_bytes(), [service.bump]);
    let signer: [&[u8]; 4] = [seeds::SERVICE, service.creator.as_ref(), &id, &bump];

    let mut held = 0u16;
    let mut pay = |account: &AccountInfo<'info>, owner: &Pubkey, amount: u64, bit: u16| {
        if amount == 0 {
            return Ok(());
        }
        if account.key == accounts.vault.key || !mint.can_receive(account, owner) {
            held |= bit;
            return Ok(());
        }
        transfers.send(account, amount, &signer)
    };
    pay(
        &accounts.treasury_token,
        treasury,
        shares.treasury,
        HELD_TREASURY,
    )?;
    pay(
        &accounts.facilitator_token,
        facilitator,
        shares.facilitator,
        HELD_FACILITATOR,
    )?;
    let rows = recipients
        .iter()
        .zip(service.shares())
        .zip(shares.recipients);
    for (i, ((account, share), amount)) in rows.enumerate() {
        pay(account, &share.owner, amount, 1 << i)?;
    }
    Ok(held)
}

/// Counts what was settled, and what is held for whom.
fn record(accounts: &Settle<'_>, division: &Division, payments: u64, now: i64) -> Result<()> {
    let mut service = accounts.service.load_mut()?;
    service.settled_total = service.settled_total.saturating_add(division.total);
    service.payments = service.payments.saturating_add(payments);
    if division.held == 0 {
        return Ok(());
    }
    let shares = &division.shares;
    let add = |to: &mut u64, amount: u64| -> Result<()> {
        *to = to.checked_add(amount).ok_or(SluiceError::Overflow)?;
        Ok(())
    };
    let mut held = 0u64;
    if division.held & HELD_TREASURY != 0 {
        add(&mut service.held_treasury, shares.treasury)?;
        add(&mut held, shares.treasury)?;
    }
    if division.held & HELD_FACILITATOR != 0 {
        add(&mut service.held_facilitator, shares.facilitator)?;
        add(&mut held, shares.facilitator)?;
    }
    for (i, (row, amount)) in service
        .recipients
        .iter_mut()
        .zip(shares.recipients)
        .enumerate()
    {
        if division.held & (1 << i) != 0 {
            if row.held == 0 {
                row.held_since = now;
            }
            add(&mut row.held, amount)?;
            add(&mut held, amount)?;
        }
    }
    add(&mut service.held_total, held)
}
