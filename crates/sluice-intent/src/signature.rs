//! The one verdict on a signature, on chain and off.
//!
//! Strict: canonical scalars and points, no small-order key or R, the cofactorless equation. On chain the
//! curve syscalls do the arithmetic and the hash is computed in the program (the sha512 syscall is not on
//! mainnet yet); on a host the same code computes both, so the two sides cannot differ.

use brine_ed25519::{Address, hasher, verify_prehashed, verify_with_hasher_strict};

use crate::{Digest, Key, sha512};

/// The `y` of the eight points of small order, little-endian words. A point and its negative share one.
const SMALL_ORDER: [[u64; 4]; 5] = [
    [0, 0, 0, 0],
    [1, 0, 0, 0],
    [
        0xffff_ffff_ffff_ffec,
        u64::MAX,
        u64::MAX,
        0x7fff_ffff_ffff_ffff,
    ],
    [
        0xb027_b2c2_8f95_e826,
        0xf098_eff2_89f4_c345,
        0x3933_c6d3_05ac_dfd5,
        0x05fc_536d_8802_38b1,
    ],
    [
        0x4fd8_4d3d_706a_17c7,
        0x0f67_100d_760b_3cba,
        0xc6cc_392c_fa53_202a,
        0x7a03_ac92_77fd_c74e,
    ],
];

/// Whether `signature` is `key`'s over the message of `digest`.
pub fn verify(key: &Key, digest: &Digest, signature: &[u8; 64]) -> bool {
    let Some(r) = signature.first_chunk() else {
        return false;
    };
    if small_order(key) || small_order(r) {
        return false;
    }
    // Refuses what is not canonical, so that each point has one encoding that `small_order` has to know.
    let challenge = sha512::challenge(r, key, digest);
    verify_prehashed(&Address::new_from_array(*key), signature, &challenge).is_ok()
}

/// Whether `signature` is `key`'s over any bytes, by the same strict criterion. The program has no use for
/// it, and its hash is not made for it.
pub fn verify_bytes(key: &Key, bytes: &[u8], signature: &[u8; 64]) -> bool {
    let key = Address::new_from_array(*key);
    verify_with_hasher_strict::<hasher::Sha512>(&key, signature, &[bytes]).is_ok()
}

/// Whether an encoded point is one of the eight whose multiples do not leave them.
#[inline(never)]
fn small_order(point: &Key) -> bool {
    let mut y = [0; 4];
    for (word, bytes) in y.iter_mut().zip(point.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    // The highest bit is the sign of `x`.
    y[3] &= u64::MAX >> 1;
    // Word by word: comparing the arrays would be a call for each.
    SMALL_ORDER
        .iter()
        .any(|small| small[0] == y[0] && small[1] == y[1] && small[2] == y[2] && small[3] == y[3])
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};

    use super::*;

    #[test]
    fn the_points_of_small_order_are_the_eight_that_there_are() {
        for point in EIGHT_TORSION {
            assert!(small_order(point.compress().as_bytes()));
        }
        for point in EIGHT_TORSION {
            let mixed = point + ED25519_BASEPOINT_POINT;
            assert!(!small_order(mixed.compress().as_bytes()));
        }
    }

    #[test]
    fn a_word_that_differs_makes_it_another_point() {
        for point in EIGHT_TORSION {
            for bit in 0..255 {
                let mut other = point.compress().to_bytes();
                other[bit / 8] ^= 1 << (bit % 8);
                let known = EIGHT_TORSION.map(|point| {
                    let mut y = point.compress().to_bytes();
                    y[31] &= 0x7f;
                    y
                });
                let mut y = other;
                y[31] &= 0x7f;
                assert_eq!(small_order(&other), known.contains(&y), "bit {bit}");
            }
        }
    }
}
