//! Sluice on chain: checks signed payment intents, burns their nonces and splits the tokens.
//!
//! Reading order: [`state`] (the accounts), [`instructions`] (a file each; `settle` is the reason for the
//! rest), [`legs`] and [`distribution`] (where money goes), [`token`] (what a token account must look like before
//! money moves), [`events`], [`error`]. Everything that the relayer must compute too (digest, window, limits, split)
//! lives in the `sluice-intent` crate.
#![allow(missing_docs, reason = "Anchor's macros generate undocumented items")]

use anchor_lang::prelude::*;

pub mod distribution;
pub mod error;
pub mod events;
pub mod instructions;
pub mod legs;
pub mod security;
pub mod state;
pub mod token;

pub use error::SluiceError;
pub use instructions::*;
pub use state::TermsArgs;

declare_id!("HRDPxHoikcwxEKixTK5uV9X9VcnpRwNZUsC6ZmHdLimi");

/// The program's instructions. Each is documented where it lives.
#[program]
pub mod sluice {
    use super::*;

    /// Creates the config. Only the program's upgrade authority can.
    pub fn initialize_config(
        ctx: Context<InitializeConfig>,
        args: InitializeConfigArgs,
    ) -> Result<()> {
        instructions::initialize_config::handle(ctx.accounts, ctx.bumps.config, args)
    }

    /// Changes fees (after a delay), limits and guardian. Only the admin can.
    pub fn update_config(ctx: Context<OnConfig>, args: UpdateConfigArgs) -> Result<()> {
        instructions::update_config::handle(ctx.accounts, args)
    }

    /// Stops or resumes pulls from payers. The admin can do both, the guardian can stop.
    pub fn set_paused(ctx: Context<OnConfig>, paused: bool) -> Result<()> {
        instructions::set_paused::handle(ctx.accounts, paused)
    }

    /// Changes the treasury's wallet, and with it the treasury accounts of the mints that are passed.
    pub fn set_treasury<'info>(
        ctx: Context<'info, OnConfig<'info>>,
        treasury: Pubkey,
    ) -> Result<()> {
        instructions::set_treasury::handle(ctx.accounts, ctx.remaining_accounts, treasury)
    }

    /// Names the next admin. Only the admin can.
    pub fn propose_admin(ctx: Context<OnConfig>, admin: Pubkey) -> Result<()> {
        instructions::propose_admin::handle(ctx.accounts, admin)
    }

    /// Makes the proposed key, which signs, the admin.
    pub fn accept_admin(ctx: Context<OnConfig>) -> Result<()> {
        instructions::accept_admin::handle(ctx.accounts)
    }

    /// Accepts a mint, or changes how it is accepted.
    pub fn set_mint(ctx: Context<SetMint>, args: SetMintArgs) -> Result<()> {
        instructions::set_mint::handle(ctx.accounts, ctx.bumps.accepted_mint, args)
    }

    /// Stops a facilitator's settlements, or lets them go on. Only the admin can.
    pub fn suspend_facilitator(ctx: Context<SuspendFacilitator>, suspended: bool) -> Result<()> {
        instructions::suspend_facilitator::handle(ctx.accounts, suspended)
    }

    /// Registers a facilitator with its relayer keys.
    pub fn register_facilitator(
        ctx: Context<RegisterFacilitator>,
        args: FacilitatorArgs,
    ) -> Result<()> {
        instructions::register_facilitator::handle(ctx.accounts, ctx.bumps.facilitator, args)
    }

    /// Replaces a facilitator's wallet, minimums and relayer keys.
    pub fn update_facilitator(
        ctx: Context<UpdateFacilitator>,
        args: FacilitatorArgs,
    ) -> Result<()> {
        instructions::update_facilitator::handle(ctx.accounts, args)
    }

    /// Names the next authority of a facilitator or a service.
    pub fn propose_authority(ctx: Context<Handover>, authority: Pubkey) -> Result<()> {
        instructions::propose_authority::handle(ctx.accounts, authority)
    }

    /// Makes the proposed key, which signs, the authority of a facilitator or a service.
    pub fn accept_authority(ctx: Context<Handover>) -> Result<()> {
        instructions::accept_authority::handle(ctx.accounts)
    }

    /// Creates a service: its split, its terms hash and its vault.
    pub fn create_service(ctx: Context<CreateService>, args: CreateServiceArgs) -> Result<()> {
        instructions::create_service::handle(ctx.accounts, ctx.bumps.service, args)
    }

    /// Replaces a service's terms, after dividing what the vault holds under the old ones.
    pub fn update_service<'info>(
        ctx: Context<'info, OnService<'info>>,
        args: TermsArgs,
    ) -> Result<()> {
        instructions::update_service::handle(ctx.accounts, ctx.remaining_accounts, args)
    }

    /// Brings a service to the treasury share in force, after dividing what the vault holds under the old one.
    pub fn sync_service<'info>(ctx: Context<'info, OnService<'info>>) -> Result<()> {
        instructions::sync_service::handle(ctx.accounts, ctx.remaining_accounts)
    }

    /// Ends a service, after dividing what the vault holds.
    pub fn close_service<'info>(ctx: Context<'info, OnService<'info>>) -> Result<()> {
        instructions::close_service::handle(ctx.accounts, ctx.remaining_accounts)
    }

    /// Divides what arrived in a vault without an intent, and pays what is held and payable again.
    pub fn distribute<'info>(ctx: Context<'info, OnService<'info>>) -> Result<()> {
        instructions::distribute::handle(ctx.accounts, ctx.remaining_accounts)
    }

    /// Pays a replaced recipient or a former facilitator what is still owed.
    pub fn release_held<'info>(ctx: Context<'info, ReleaseHeld<'info>>) -> Result<()> {
        instructions::release_held::handle(ctx.accounts)
    }

    /// Opens a payer's nonce account for one mint.
    pub fn open_nonce(ctx: Context<OpenNonce>) -> Result<()> {
        instructions::open_nonce::handle(ctx.accounts, ctx.bumps.nonce_account)
    }

    /// Sets or closes a lane of a nonce account.
    pub fn set_lane(ctx: Context<SetLane>, lane: u8, args: LaneArgs) -> Result<()> {
        instructions::set_lane::handle(ctx.accounts, lane, args)
    }

    /// Pins another of the payer's token accounts as the one that may be pulled from.
    pub fn set_source(ctx: Context<SetSource>) -> Result<()> {
        instructions::set_source::handle(ctx.accounts)
    }

    /// Closes a nonce account and gives the rent back.
    pub fn close_nonce(ctx: Context<CloseNonce>) -> Result<()> {
        instructions::close_nonce::handle(ctx.accounts)
    }

    /// Settles intents of one service and splits their sum.
    pub fn settle<'info>(
        ctx: Context<'info, OnService<'info>>,
        strict: bool,
        entries: Vec<SettleEntry>,
    ) -> Result<()> {
        instructions::settle::handle(ctx.accounts, ctx.remaining_accounts, strict, entries)
    }

    /// Never built on chain: its accounts put the layouts into the IDL, which lists only what accounts of Anchor's
    /// own types name. `make idl` takes the instruction out again.
    #[cfg(feature = "idl-build")]
    pub fn layouts(_ctx: Context<Layouts>) -> Result<()> {
        Ok(())
    }
}

/// The accounts of [`sluice::layouts`].
#[cfg(feature = "idl-build")]
#[derive(Accounts)]
pub struct Layouts<'info> {
    pub config: AccountLoader<'info, state::Config>,
    pub accepted_mint: AccountLoader<'info, state::AcceptedMint>,
    pub facilitator: AccountLoader<'info, state::Facilitator>,
    pub service: AccountLoader<'info, state::Service>,
    pub held_balance: AccountLoader<'info, state::HeldBalance>,
    pub nonce_account: AccountLoader<'info, state::NonceAccount>,
}
