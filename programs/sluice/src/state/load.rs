use core::cell::{Ref, RefMut};

use anchor_lang::{ZeroCopy, prelude::*};

use super::VERSION;
use crate::{
    SluiceError,
    error::{ensure, fail},
};

/// Bytes of the discriminator before every account's struct.
pub const HEAD: usize = 8;

/// An account of this program: a discriminator, then the struct, in which one byte is the version.
pub trait Layout: ZeroCopy {
    /// Where the version byte lies in the struct.
    const VERSION_AT: usize;
    /// Bytes of the whole account.
    const SIZE: usize = HEAD + size_of::<Self>();
}

/// Reads an account of this program in place.
///
/// This and [`write`] stand in for Anchor's `AccountLoader`, whose code is copied for every type and every
/// instruction (`docs/decisions/006-one-way-to-fail.md`).
pub fn read<'a, T: Layout>(account: &'a AccountInfo<'_>) -> Result<Ref<'a, T>> {
    let data = account.try_borrow_data()?;
    check(account, &data, T::DISCRIMINATOR, T::SIZE, T::VERSION_AT)?;
    Ok(Ref::map(data, |data| {
        bytemuck::from_bytes(&data[HEAD..T::SIZE])
    }))
}

/// Opens an account of this program for change. The runtime refuses the change if the account is not writable.
pub fn write<'a, T: Layout>(account: &'a AccountInfo<'_>) -> Result<RefMut<'a, T>> {
    let data = account.try_borrow_mut_data()?;
    check(account, &data, T::DISCRIMINATOR, T::SIZE, T::VERSION_AT)?;
    Ok(RefMut::map(data, |data| {
        bytemuck::from_bytes_mut(&mut data[HEAD..T::SIZE])
    }))
}

/// Whether an account is one of this program's of type `T`, whatever its version.
pub fn is<T: Layout>(account: &AccountInfo<'_>) -> bool {
    let Ok(data) = account.try_borrow_data() else {
        return false;
    };
    *account.owner == crate::ID && data.starts_with(T::DISCRIMINATOR)
}

#[inline(never)]
fn check(
    account: &AccountInfo<'_>,
    data: &[u8],
    discriminator: &[u8],
    size: usize,
    version_at: usize,
) -> Result<()> {
    let ours = *account.owner == crate::ID && data.len() >= size && data.starts_with(discriminator);
    ensure(ours, SluiceError::WrongAccount)?;
    if data[HEAD + version_at] != VERSION {
        return Err(fail(SluiceError::WrongVersion));
    }
    Ok(())
}
