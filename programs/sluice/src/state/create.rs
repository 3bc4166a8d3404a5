use anchor_lang::{
    Discriminator, Owner, ZeroCopy,
    prelude::*,
    solana_program::{
        instruction::{AccountMeta, Instruction},
        program::invoke_signed,
    },
};

use crate::SluiceError;

/// The system program's instructions, by their number on the wire.
const ASSIGN: u32 = 1;
const TRANSFER: u32 = 2;
const ALLOCATE: u32 = 8;

/// Creates the account of a derived address, with its discriminator written and everything else zero.
///
/// Lamports that a stranger sent to the address beforehand do not hinder it. This stands in for Anchor's
/// `init`, whose code is copied into every instruction and brings a serialisation library with it: together
/// a third of the program's bytes (`docs/decisions/002-own-account-creation.md`).
pub fn create<'info, T: ZeroCopy + Owner + Discriminator>(
    account: &'info AccountInfo<'info>,
    rent_payer: &AccountInfo<'info>,
    seeds: &[&[u8]],
) -> Result<AccountLoader<'info, T>> {
    let unused = *account.owner == System::id() && account.data_is_empty();
    require!(unused, SluiceError::AlreadyExists);
    let space = 8 + size_of::<T>();
    let missing = Rent::get()?
        .minimum_balance(space)
        .saturating_sub(account.lamports());
    let parties = [rent_payer.clone(), account.clone()];
    if missing > 0 {
        let metas = vec![
            AccountMeta::new(*rent_payer.key, true),
            AccountMeta::new(*account.key, false),
        ];
        system_call(metas, TRANSFER, &missing.to_le_bytes(), &parties, seeds)?;
    }
    let own = || vec![AccountMeta::new(*account.key, true)];
    system_call(
        own(),
        ALLOCATE,
        &(space as u64).to_le_bytes(),
        &parties,
        seeds,
    )?;
    system_call(own(), ASSIGN, T::owner().as_ref(), &parties, seeds)?;

    account.try_borrow_mut_data()?[..8].copy_from_slice(T::DISCRIMINATOR);
    AccountLoader::try_from(account)
}

fn system_call(
    accounts: Vec<AccountMeta>,
    number: u32,
    args: &[u8],
    infos: &[AccountInfo<'_>],
    seeds: &[&[u8]],
) -> Result<()> {
    let mut data = number.to_le_bytes().to_vec();
    data.extend_from_slice(args);
    let instruction = Instruction {
        program_id: System::id(),
        accounts,
        data,
    };
    invoke_signed(&instruction, infos, &[seeds])?;
    Ok(())
}
