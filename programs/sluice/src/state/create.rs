use anchor_lang::{
    prelude::*,
    solana_program::{
        instruction::{AccountMeta, Instruction},
        program::invoke_signed_unchecked,
    },
};

use super::{Layout, VERSION, load::HEAD};
use crate::{SluiceError, error::ensure};

/// The system program's instructions, by their number on the wire.
const ASSIGN: u32 = 1;
const TRANSFER: u32 = 2;
const ALLOCATE: u32 = 8;

/// Creates the account of a derived address: its discriminator and version are written, all else is zero.
///
/// Lamports that a stranger sent to the address beforehand do not hinder it. This stands in for Anchor's
/// `init`, whose code is copied into every instruction and brings a serialisation library with it: together
/// a third of the program's bytes (`docs/decisions/002-own-account-creation.md`).
pub fn create<'info, T: Layout>(
    account: &AccountInfo<'info>,
    rent_payer: &AccountInfo<'info>,
    seeds: &[&[u8]],
) -> Result<()> {
    allocate(account, rent_payer, T::SIZE, seeds)?;
    let mut data = account.try_borrow_mut_data()?;
    data[..HEAD].copy_from_slice(T::DISCRIMINATOR);
    data[HEAD + T::VERSION_AT] = VERSION;
    Ok(())
}

fn allocate<'info>(
    account: &AccountInfo<'info>,
    rent_payer: &AccountInfo<'info>,
    space: usize,
    seeds: &[&[u8]],
) -> Result<()> {
    let unused = *account.owner == System::id() && account.data_is_empty();
    ensure(unused, SluiceError::AlreadyExists)?;
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
    let space = (space as u64).to_le_bytes();
    system_call(own(), ALLOCATE, &space, &parties, seeds)?;
    system_call(own(), ASSIGN, crate::ID.as_ref(), &parties, seeds)
}

/// Closes an account of this program: its lamports go to `to`, its data and owner are gone.
pub fn close(account: &AccountInfo<'_>, to: &AccountInfo<'_>) -> Result<()> {
    let sum = to.lamports().checked_add(account.lamports());
    ensure(sum.is_some(), SluiceError::Overflow)?;
    **to.try_borrow_mut_lamports()? = sum.unwrap_or_default();
    **account.try_borrow_mut_lamports()? = 0;
    account.assign(&System::id());
    account.resize(0)?;
    Ok(())
}

#[inline(never)]
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
    // Unchecked: nothing is borrowed here, and the runtime checks the rest.
    invoke_signed_unchecked(&instruction, infos, &[seeds])?;
    Ok(())
}
