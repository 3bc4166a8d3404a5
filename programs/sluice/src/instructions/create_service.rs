use anchor_lang::{
    prelude::*,
    solana_program::{
        instruction::{AccountMeta, Instruction},
        program::invoke,
    },
};
use sluice_intent::{MAX_RECIPIENTS, Recipient, Terms};

use crate::{
    SluiceError,
    state::{AcceptedMint, Config, Facilitator, RecipientShare, Service, VERSION, create, seeds},
    token::{ASSOCIATED_TOKEN_PROGRAM, MintRef, associated_token_account},
};

/// `CreateIdempotent` of the associated token account program: a vault that a stranger has opened already
/// does not stop the service.
const CREATE_IDEMPOTENT: u8 = 1;

#[derive(AnchorSerialize, AnchorDeserialize, Clone, Copy)]
pub struct RecipientArg {
    pub owner: Pubkey,
    pub bps: u16,
}

#[derive(AnchorSerialize, AnchorDeserialize)]
pub struct CreateServiceArgs {
    /// Tells the creator's services apart.
    pub id: u64,
    pub facilitator_bps: u16,
    pub facilitator_fixed: u64,
    pub min_payment: u64,
    /// 1 to 8; the first also receives rounding remainders.
    pub recipients: Vec<RecipientArg>,
}

#[derive(Accounts)]
#[instruction(args: CreateServiceArgs)]
pub struct CreateService<'info> {
    #[account(mut)]
    pub creator: Signer<'info>,
    pub config: AccountLoader<'info, Config>,
    #[account(has_one = mint @ SluiceError::WrongMint)]
    pub accepted_mint: AccountLoader<'info, AcceptedMint>,
    pub facilitator: AccountLoader<'info, Facilitator>,
    /// CHECK: the accepted mint names it.
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
    /// CHECK: fixed address.
    #[account(address = ASSOCIATED_TOKEN_PROGRAM)]
    pub associated_token_program: UncheckedAccount<'info>,
    pub system_program: Program<'info, System>,
}

pub(crate) fn handle<'info>(
    ctx: Context<'info, CreateService<'info>>,
    args: CreateServiceArgs,
) -> Result<()> {
    let accounts: &'info CreateService<'info> = ctx.accounts;
    let clock = Clock::get()?;
    let token_program = accounts.accepted_mint.load()?.token_program;
    require_keys_eq!(
        accounts.token_program.key(),
        token_program,
        SluiceError::WrongTokenProgram
    );
    let (treasury_bps, facilitator_cap) = {
        let config = accounts.config.load()?;
        (
            config.treasury_bps_at(clock.unix_timestamp),
            config.max_facilitator_bps,
        )
    };
    {
        let facilitator = accounts.facilitator.load()?;
        require!(
            facilitator.suspended == 0,
            SluiceError::FacilitatorSuspended
        );
        let enough = args.facilitator_bps >= facilitator.min_fee_bps
            && args.facilitator_fixed >= facilitator.min_fee_fixed;
        require!(enough, SluiceError::BelowFacilitatorMinimum);
    }
    require!(
        args.facilitator_bps <= facilitator_cap,
        SluiceError::FacilitatorShare
    );

    let (service_key, creator) = (accounts.service.key(), accounts.creator.key());
    let mint_key = accounts.mint.key();
    let mint = MintRef {
        mint: &mint_key,
        token_program: &token_program,
    };
    let (vault, vault_bump) = associated_token_account(&service_key, mint);
    require_keys_eq!(accounts.vault.key(), vault, SluiceError::WrongVault);
    create_vault(accounts, &token_program)?;

    let mut rows = [Recipient {
        owner: [0; 32],
        token_account: [0; 32],
        bps: 0,
    }; MAX_RECIPIENTS];
    require!(
        args.recipients.len() <= MAX_RECIPIENTS,
        SluiceError::RecipientCount
    );
    for (row, arg) in rows.iter_mut().zip(&args.recipients) {
        require_keys_neq!(arg.owner, Pubkey::default(), SluiceError::ZeroAddress);
        require_keys_neq!(arg.owner, service_key, SluiceError::RecipientIsService);
        row.owner = arg.owner.to_bytes();
        row.token_account = associated_token_account(&arg.owner, mint).0.to_bytes();
        row.bps = arg.bps;
    }
    let terms = Terms {
        service: service_key.to_bytes(),
        mint: mint_key.to_bytes(),
        facilitator: accounts.facilitator.key().to_bytes(),
        facilitator_bps: args.facilitator_bps,
        facilitator_fixed: args.facilitator_fixed,
        treasury_bps,
        recipients: &rows[..args.recipients.len()],
    };
    terms.validate().map_err(SluiceError::from)?;
    let terms_hash = terms.hash().map_err(SluiceError::from)?;

    let id = args.id.to_le_bytes();
    let created = create::<Service>(
        accounts.service.as_ref(),
        &accounts.creator,
        &[seeds::SERVICE, creator.as_ref(), &id, &[ctx.bumps.service]],
    )?;
    let mut service = created.load_mut()?;
    service.id = args.id;
    service.facilitator_fixed = args.facilitator_fixed;
    service.min_payment = args.min_payment;
    service.created_slot = clock.slot;
    service.creator = creator;
    service.authority = creator;
    service.mint = mint_key;
    service.facilitator = accounts.facilitator.key();
    service.vault = vault;
    service.terms_hash = Pubkey::new_from_array(terms_hash);
    for (share, row) in service.recipients.iter_mut().zip(terms.recipients) {
        *share = RecipientShare {
            held: 0,
            held_since: 0,
            owner: Pubkey::new_from_array(row.owner),
            token_account: Pubkey::new_from_array(row.token_account),
            bps: row.bps,
            padding: [0; 6],
        };
    }
    service.terms_version = 1;
    service.facilitator_bps = args.facilitator_bps;
    service.treasury_bps = treasury_bps;
    service.recipient_count =
        u8::try_from(args.recipients.len()).map_err(|_| SluiceError::RecipientCount)?;
    service.status = Service::ACTIVE;
    service.vault_bump = vault_bump;
    service.version = VERSION;
    service.bump = ctx.bumps.service;
    Ok(())
}

fn create_vault(accounts: &CreateService<'_>, token_program: &Pubkey) -> Result<()> {
    let instruction = Instruction {
        program_id: ASSOCIATED_TOKEN_PROGRAM,
        accounts: vec![
            AccountMeta::new(accounts.creator.key(), true),
            AccountMeta::new(accounts.vault.key(), false),
            AccountMeta::new_readonly(accounts.service.key(), false),
            AccountMeta::new_readonly(accounts.mint.key(), false),
            AccountMeta::new_readonly(accounts.system_program.key(), false),
            AccountMeta::new_readonly(*token_program, false),
        ],
        data: vec![CREATE_IDEMPOTENT],
    };
    invoke(
        &instruction,
        &[
            accounts.creator.to_account_info(),
            accounts.vault.to_account_info(),
            accounts.service.to_account_info(),
            accounts.mint.to_account_info(),
            accounts.system_program.to_account_info(),
            accounts.token_program.to_account_info(),
        ],
    )?;
    Ok(())
}
