use anchor_lang::{prelude::*, solana_program::bpf_loader_upgradeable};
use sluice_intent::{MAX_FACILITATOR_BPS, MAX_INTENT_TTL_SECS, MAX_TREASURY_BPS};

use crate::{
    SluiceError,
    error::ensure,
    events::announce,
    state::{Config, create, seeds, write},
};

#[derive(AnchorSerialize, AnchorDeserialize)]
pub struct InitializeConfigArgs {
    pub admin: Pubkey,
    pub guardian: Pubkey,
    pub treasury: Pubkey,
    /// The cluster's genesis hash. The program cannot read it: clients compare it with their RPC's.
    pub genesis_hash: Pubkey,
    pub treasury_bps: u16,
    pub max_facilitator_bps: u16,
    pub max_intent_ttl: u32,
}

/// A fresh deployment belongs to whoever can upgrade it, not to whoever is first.
#[derive(Accounts)]
pub struct InitializeConfig<'info> {
    #[account(mut)]
    pub upgrade_authority: Signer<'info>,
    #[account(
        mut,
        seeds = [seeds::CONFIG],
        bump
    )]
    /// CHECK: created here.
    pub config: UncheckedAccount<'info>,
    /// CHECK: address and contents are checked by [`require_upgrade_authority`].
    pub program_data: UncheckedAccount<'info>,
    /// CHECK: only called to create the account.
    pub system_program: UncheckedAccount<'info>,
}

pub(crate) fn handle(
    accounts: &InitializeConfig<'_>,
    bump: u8,
    args: InitializeConfigArgs,
) -> Result<()> {
    require_upgrade_authority(&accounts.program_data, accounts.upgrade_authority.key)?;
    let zero = Pubkey::default();
    let named = args.admin != zero && args.treasury != zero && args.genesis_hash != zero;
    ensure(named, SluiceError::ZeroAddress)?;
    require_caps(
        args.treasury_bps,
        args.max_facilitator_bps,
        args.max_intent_ttl,
    )?;

    let account: &AccountInfo<'_> = &accounts.config;
    let seeds: [&[u8]; 2] = [seeds::CONFIG, &[bump]];
    create::<Config>(account, &accounts.upgrade_authority, &seeds)?;
    {
        let mut config = write::<Config>(account)?;
        config.admin = args.admin;
        config.guardian = args.guardian;
        config.treasury = args.treasury;
        config.genesis_hash = args.genesis_hash;
        config.treasury_bps = args.treasury_bps;
        config.max_facilitator_bps = args.max_facilitator_bps;
        config.max_intent_ttl = args.max_intent_ttl;
        config.bump = bump;
    }
    announce(account)
}

/// The caps that no admin can pass.
pub(crate) fn require_caps(treasury_bps: u16, facilitator_bps: u16, ttl: u32) -> Result<()> {
    let within = treasury_bps <= MAX_TREASURY_BPS
        && facilitator_bps <= MAX_FACILITATOR_BPS
        && ttl <= MAX_INTENT_TTL_SECS;
    ensure(within, SluiceError::OverCap)?;
    ensure(ttl > 0, SluiceError::ZeroTtl)
}

/// Fails unless `data_account` is the loader's data account of this program and names `key`.
///
/// Read by hand (u32 variant 3, u64 slot, u8 option, key): the loader's own decoder weighs 20 kB here.
fn require_upgrade_authority(data_account: &AccountInfo<'_>, key: &Pubkey) -> Result<()> {
    let (address, _) =
        Pubkey::find_program_address(&[crate::ID.as_ref()], &bpf_loader_upgradeable::ID);
    let is_data = *data_account.key == address && *data_account.owner == bpf_loader_upgradeable::ID;
    let data = data_account.try_borrow_data()?;
    let named = data.get(..4) == Some(&[3, 0, 0, 0])
        && data.get(12) == Some(&1)
        && data.get(13..45) == Some(key.as_ref());
    ensure(is_data && named, SluiceError::NotUpgradeAuthority)
}
