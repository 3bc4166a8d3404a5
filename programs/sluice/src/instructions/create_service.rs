use anchor_lang::{
    prelude::*,
    solana_program::{
        instruction::{AccountMeta, Instruction},
        program::invoke_signed_unchecked,
    },
};

use crate::{
    SluiceError,
    error::ensure,
    events::announce,
    state::{AcceptedMint, Config, Facilitator, Service, TermsArgs, create, read, seeds, write},
    token::{ASSOCIATED_TOKEN_PROGRAM, MintRef, associated_token_account},
};

/// `CreateIdempotent` of the associated token account program: a vault that a stranger has opened already
/// does not stop the service.
const CREATE_IDEMPOTENT: u8 = 1;

#[derive(AnchorSerialize, AnchorDeserialize)]
pub struct CreateServiceArgs {
    /// Tells the creator's services apart.
    pub id: u64,
    pub terms: TermsArgs,
}

#[derive(Accounts)]
#[instruction(args: CreateServiceArgs)]
pub struct CreateService<'info> {
    #[account(mut)]
    pub creator: Signer<'info>,
    /// CHECK: read as the config.
    pub config: UncheckedAccount<'info>,
    /// CHECK: read as an accepted mint.
    pub accepted_mint: UncheckedAccount<'info>,
    /// CHECK: read as a facilitator.
    pub facilitator: UncheckedAccount<'info>,
    /// CHECK: compared with the accepted mint's.
    pub mint: UncheckedAccount<'info>,
    #[account(
        mut,
        seeds = [seeds::SERVICE, creator.key().as_ref(), &args.id.to_le_bytes()],
        bump
    )]
    /// CHECK: created here.
    pub service: UncheckedAccount<'info>,
    /// CHECK: compared with the derived address.
    #[account(mut)]
    pub vault: UncheckedAccount<'info>,
    /// CHECK: compared with the accepted mint's.
    pub token_program: UncheckedAccount<'info>,
    /// CHECK: fixed address, compared.
    pub associated_token_program: UncheckedAccount<'info>,
    /// CHECK: only called to create accounts.
    pub system_program: UncheckedAccount<'info>,
}

pub(crate) fn handle(
    accounts: &CreateService<'_>,
    bump: u8,
    args: CreateServiceArgs,
) -> Result<()> {
    let clock = Clock::get()?;
    let token_program = {
        let accepted = read::<AcceptedMint>(&accounts.accepted_mint)?;
        ensure(accepted.mint == *accounts.mint.key, SluiceError::WrongMint)?;
        accepted.token_program
    };
    let same = *accounts.token_program.key == token_program;
    ensure(same, SluiceError::WrongTokenProgram)?;
    let treasury_bps = {
        let config = read::<Config>(&accounts.config)?;
        let facilitator = read::<Facilitator>(&accounts.facilitator)?;
        let suspended = facilitator.suspended != 0;
        ensure(!suspended, SluiceError::FacilitatorSuspended)?;
        check_facilitator(&config, &facilitator, &args.terms)?;
        config.treasury_bps_at(clock.unix_timestamp)
    };
    let mint = MintRef {
        mint: accounts.mint.key,
        token_program: &token_program,
    };
    let (vault, vault_bump) = associated_token_account(accounts.service.key, mint);
    ensure(*accounts.vault.key == vault, SluiceError::WrongVault)?;
    create_vault(accounts, &token_program)?;

    let account: &AccountInfo<'_> = &accounts.service;
    let id = args.id.to_le_bytes();
    let creator = *accounts.creator.key;
    let seeds: [&[u8]; 4] = [seeds::SERVICE, creator.as_ref(), &id, &[bump]];
    create::<Service>(account, &accounts.creator, &seeds)?;
    {
        let mut service = write::<Service>(account)?;
        service.id = args.id;
        service.created_slot = clock.slot;
        service.creator = creator;
        service.authority = creator;
        service.mint = *accounts.mint.key;
        service.vault = vault;
        service.vault_bump = vault_bump;
        service.status = Service::ACTIVE;
        service.bump = bump;
        service.set_terms(
            account.key,
            &token_program,
            accounts.facilitator.key,
            treasury_bps,
            &args.terms,
        )?;
    }
    announce(account)
}

/// What a facilitator is granted lies between its minimums and the config's cap.
pub(crate) fn check_facilitator(
    config: &Config,
    facilitator: &Facilitator,
    terms: &TermsArgs,
) -> Result<()> {
    let enough = terms.facilitator_bps >= facilitator.min_fee_bps
        && terms.facilitator_fixed >= facilitator.min_fee_fixed;
    ensure(enough, SluiceError::BelowFacilitatorMinimum)?;
    let within = terms.facilitator_bps <= config.max_facilitator_bps;
    ensure(within, SluiceError::FacilitatorShare)
}

fn create_vault(accounts: &CreateService<'_>, token_program: &Pubkey) -> Result<()> {
    let program = *accounts.associated_token_program.key;
    let known = program == ASSOCIATED_TOKEN_PROGRAM;
    ensure(known, SluiceError::WrongAccount)?;
    let instruction = Instruction {
        program_id: program,
        accounts: vec![
            AccountMeta::new(*accounts.creator.key, true),
            AccountMeta::new(*accounts.vault.key, false),
            AccountMeta::new_readonly(*accounts.service.key, false),
            AccountMeta::new_readonly(*accounts.mint.key, false),
            AccountMeta::new_readonly(*accounts.system_program.key, false),
            AccountMeta::new_readonly(*token_program, false),
        ],
        data: vec![CREATE_IDEMPOTENT],
    };
    let infos = [
        accounts.creator.to_account_info(),
        accounts.vault.to_account_info(),
        accounts.service.to_account_info(),
        accounts.mint.to_account_info(),
        accounts.system_program.to_account_info(),
        accounts.token_program.to_account_info(),
    ];
    // Unchecked: nothing is borrowed here, and the runtime checks the rest.
    invoke_signed_unchecked(&instruction, &infos, &[])?;
    Ok(())
}
