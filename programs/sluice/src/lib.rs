//! Sluice on chain: checks signed payment intents, burns their nonces and splits the tokens.
//!
//! Reading order: [`state`] (the accounts), [`instructions`] (a file each; `settle` is the reason for the
//! rest), [`token`] (what a token account must look like before money moves), [`error`]. Everything that
//! the relayer must compute too (digest, window, limits, split) lives in the `sluice-intent` crate.
#![allow(missing_docs, reason = "Anchor's macros generate undocumented items")]

use anchor_lang::prelude::*;

pub mod error;
pub mod events;
pub mod instructions;
pub mod state;
pub mod token;

pub use error::SluiceError;
pub use instructions::*;

declare_id!("HRDPxHoikcwxEKixTK5uV9X9VcnpRwNZUsC6ZmHdLimi");

/// The program's instructions. Each is documented where it lives.
#[program]
pub mod sluice {
    use super::*;

    /// Creates the config. Only the program's upgrade authority can.
    pub fn initialize_config<'info>(
        ctx: Context<'info, InitializeConfig<'info>>,
        args: InitializeConfigArgs,
    ) -> Result<()> {
        instructions::initialize_config::handle(ctx, args)
    }

    /// Changes fees (after a delay), limits and guardian. Only the admin can.
    pub fn update_config(ctx: Context<UpdateConfig>, args: UpdateConfigArgs) -> Result<()> {
        instructions::update_config::handle(ctx, args)
    }

    /// Stops or resumes pulls from payers. The admin can do both, the guardian can stop.
    pub fn set_paused(ctx: Context<SetPaused>, paused: bool) -> Result<()> {
        instructions::set_paused::handle(ctx, paused)
    }

    /// Changes the treasury's wallet, and with it the treasury accounts of the mints that are passed.
    pub fn set_treasury<'info>(
        ctx: Context<'info, SetTreasury<'info>>,
        treasury: Pubkey,
    ) -> Result<()> {
        instructions::set_treasury::handle(ctx, treasury)
    }

    /// Accepts a mint, or changes how it is accepted.
    pub fn set_mint<'info>(ctx: Context<'info, SetMint<'info>>, args: SetMintArgs) -> Result<()> {
        instructions::set_mint::handle(ctx, args)
    }

    /// Registers a facilitator with its relayer keys.
    pub fn register_facilitator<'info>(
        ctx: Context<'info, RegisterFacilitator<'info>>,
        args: RegisterFacilitatorArgs,
    ) -> Result<()> {
        instructions::register_facilitator::handle(ctx, args)
    }

    /// Creates a service: its split, its terms hash and its vault.
    pub fn create_service<'info>(
        ctx: Context<'info, CreateService<'info>>,
        args: CreateServiceArgs,
    ) -> Result<()> {
        instructions::create_service::handle(ctx, args)
    }

    /// Opens a payer's nonce account for one mint.
    pub fn open_nonce<'info>(ctx: Context<'info, OpenNonce<'info>>) -> Result<()> {
        instructions::open_nonce::handle(ctx)
    }

    /// Sets or closes a lane of a nonce account.
    pub fn set_lane(ctx: Context<SetLane>, lane: u8, args: LaneArgs) -> Result<()> {
        instructions::set_lane::handle(ctx, lane, args)
    }

    /// Settles intents of one service and splits their sum.
    pub fn settle<'info>(
        ctx: Context<'info, Settle<'info>>,
        strict: bool,
        entries: Vec<SettleEntry>,
    ) -> Result<()> {
        instructions::settle::handle(ctx, strict, entries)
    }
}
