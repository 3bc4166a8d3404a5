//! The one verdict on a signature, on chain and off.
//!
//! Strict: canonical scalars and points, no small-order key or R, the cofactorless equation. On chain the
//! curve syscalls do the arithmetic and the hash is computed in the program (the sha512 syscall is not on
//! mainnet yet); on a host the same crate computes both, so the two sides cannot differ.

use brine_ed25519::{Address, hasher, verify_with_hasher_strict};

use crate::{Digest, Key, intent::message};

#[cfg(target_os = "solana")]
type Sha512 = hasher::FastSha512;
#[cfg(not(target_os = "solana"))]
type Sha512 = hasher::Sha512;

/// Whether `signature` is `key`'s over the message of `digest`.
pub fn verify(key: &Key, digest: &Digest, signature: &[u8; 64]) -> bool {
    verify_bytes(key, &message(digest), signature)
}

/// Whether `signature` is `key`'s over any bytes, by the same strict criterion.
pub fn verify_bytes(key: &Key, bytes: &[u8], signature: &[u8; 64]) -> bool {
    let key = Address::new_from_array(*key);
    verify_with_hasher_strict::<Sha512>(&key, signature, &[bytes]).is_ok()
}
