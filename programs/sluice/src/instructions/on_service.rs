use anchor_lang::prelude::*;

use crate::{
    SluiceError,
    error::ensure,
    state::{AcceptedMint, Config, Facilitator, Service, read},
    token::MintRef,
};

/// The accounts of whatever moves a service's money: `settle`, `distribute`, `update_service`,
/// `sync_service` and `close_service`.
///
/// One structure for all of them, since its code is copied for every other one. The caller is a relayer, the
/// service's authority or anyone, as the instruction says. Remaining accounts: the recipients' token accounts in
/// the order of the terms (writable), then the instruction's own.
#[derive(Accounts)]
pub struct OnService<'info> {
    /// Pays the fee. Handed to no other program but, for rent, the system program.
    #[account(mut)]
    pub caller: Signer<'info>,
    /// CHECK: read as the config.
    pub config: UncheckedAccount<'info>,
    /// CHECK: read as an accepted mint, whose mint is compared with the service's.
    pub accepted_mint: UncheckedAccount<'info>,
    /// CHECK: compared with the service's.
    pub facilitator: UncheckedAccount<'info>,
    /// CHECK: read as a service.
    #[account(mut)]
    pub service: UncheckedAccount<'info>,
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

/// The wallets that the fee legs belong to.
pub struct Owners {
    pub treasury: Pubkey,
    pub facilitator: Pubkey,
}

impl<'info> OnService<'info> {
    pub fn mint_ref(&self) -> MintRef<'_> {
        MintRef {
            mint: self.mint.key,
            token_program: self.token_program.key,
        }
    }

    /// Fails unless all accounts belong to each other.
    pub fn check(
        &self,
        config: &Config,
        accepted: &AcceptedMint,
        facilitator: &Facilitator,
        service: &Service,
    ) -> Result<Owners> {
        let mint = service.mint == *self.mint.key && accepted.mint == service.mint;
        ensure(mint, SluiceError::WrongMint)?;
        let same = service.facilitator == *self.facilitator.key;
        ensure(same, SluiceError::WrongFacilitator)?;
        ensure(service.vault == *self.vault.key, SluiceError::WrongVault)?;
        let same = accepted.token_program == *self.token_program.key;
        ensure(same, SluiceError::WrongTokenProgram)?;
        let same = accepted.treasury_token == *self.treasury_token.key;
        ensure(same, SluiceError::WrongTreasury)?;
        Ok(Owners {
            treasury: config.treasury,
            facilitator: facilitator.wallet,
        })
    }

    /// [`OnService::check`] for instructions that need nothing else of these accounts.
    pub fn owners(&self) -> Result<Owners> {
        let config = read::<Config>(&self.config)?;
        let accepted = read::<AcceptedMint>(&self.accepted_mint)?;
        let facilitator = read::<Facilitator>(&self.facilitator)?;
        let service = read::<Service>(&self.service)?;
        self.check(&config, &accepted, &facilitator, &service)
    }
}

/// Splits the recipients' token accounts off the remaining accounts, and fails unless they are the terms'.
pub fn recipients<'info>(
    service: &Service,
    remaining: &'info [AccountInfo<'info>],
) -> Result<(&'info [AccountInfo<'info>], &'info [AccountInfo<'info>])> {
    let shares = service.shares();
    let enough = remaining.len() >= shares.len();
    ensure(enough, SluiceError::EntryAccounts)?;
    let (recipients, rest) = remaining.split_at(shares.len());
    let mut pairs = recipients.iter().zip(shares);
    let same = pairs.all(|(account, share)| *account.key == share.token_account);
    ensure(same, SluiceError::WrongDestination)?;
    Ok((recipients, rest))
}
