//! The one verdict on a signature, on chain and off.
//!
//! Strict: canonical scalars and points, no small-order key or R, the cofactorless equation. On chain the
//! curve syscalls do the arithmetic and the hash is computed in the program (the sha512 syscall is not on
//! mainnet yet). On a host the equation is computed in variable time, everything in it being public, at half the cost of
//! what the program's own code does there; tests hold the two against each other, on every edge that is known.

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
    equation_holds(key, signature, &challenge)
}

#[cfg(target_os = "solana")]
fn equation_holds(key: &Key, signature: &[u8; 64], challenge: &[u8; 64]) -> bool {
    let key = brine_ed25519::Address::new_from_array(*key);
    brine_ed25519::verify_prehashed(&key, signature, challenge).is_ok()
}

/// Whether `sB - kA` is R, for canonical encodings of all of them. R is compared as it is written, and what is computed is
/// written canonically.
#[cfg(not(target_os = "solana"))]
fn equation_holds(key: &Key, signature: &[u8; 64], challenge: &[u8; 64]) -> bool {
    use curve25519_dalek::{
        edwards::{CompressedEdwardsY, EdwardsPoint},
        scalar::Scalar,
    };
    let Some((r, s)) = signature.split_first_chunk::<32>() else {
        return false;
    };
    let Some(s) = s
        .first_chunk()
        .and_then(|s| Option::<Scalar>::from(Scalar::from_canonical_bytes(*s)))
    else {
        return false;
    };
    let Some(point) = CompressedEdwardsY(*key)
        .decompress()
        .filter(|_| reduced(key))
    else {
        return false;
    };
    let k = Scalar::from_bytes_mod_order_wide(challenge);
    let computed = EdwardsPoint::vartime_double_scalar_mul_basepoint(&k, &-point, &s);
    computed.compress().as_bytes() == r
}

/// Whether the `y` of an encoded point is below the field's prime, 2^255 - 19.
#[cfg(not(target_os = "solana"))]
fn reduced(point: &Key) -> bool {
    let [y0, y1, y2, y3] = y(point);
    (y3, y2, y1) != (u64::MAX >> 1, u64::MAX, u64::MAX) || y0 < 0xffff_ffff_ffff_ffed
}

/// Whether `signature` is `key`'s over any bytes, by the same strict criterion. The program has no use for
/// it, and its hash is not made for it.
pub fn verify_bytes(key: &Key, bytes: &[u8], signature: &[u8; 64]) -> bool {
    use brine_ed25519::hasher::{Hasher, Sha512};
    let Some(r) = signature.first_chunk() else {
        return false;
    };
    if small_order(key) || small_order(r) {
        return false;
    }
    let mut hash = Sha512::new();
    hash.update(r);
    hash.update(key);
    hash.update(bytes);
    equation_holds(key, signature, &hash.finalize())
}

/// Whether an encoded point is one of the eight whose multiples do not leave them.
#[inline(never)]
fn small_order(point: &Key) -> bool {
    let y = y(point);
    // Word by word: comparing the arrays would be a call for each.
    SMALL_ORDER
        .iter()
        .any(|small| small[0] == y[0] && small[1] == y[1] && small[2] == y[2] && small[3] == y[3])
}

/// The `y` of an encoded point, little-endian words.
#[inline(always)]
fn y(point: &Key) -> [u64; 4] {
    let mut y = [0; 4];
    for (word, bytes) in y.iter_mut().zip(point.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    // The highest bit is the sign of `x`.
    y[3] &= u64::MAX >> 1;
    y
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::{
        constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
        edwards::{CompressedEdwardsY, EdwardsPoint},
        scalar::Scalar,
    };

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

    /// The code that the program runs, on this host.
    fn on_chain(key: &Key, signature: &[u8; 64], challenge: &[u8; 64]) -> bool {
        let key = brine_ed25519::Address::new_from_array(*key);
        brine_ed25519::verify_prehashed(&key, signature, challenge).is_ok()
    }

    fn signature(r: EdwardsPoint, s: &[u8; 32]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(r.compress().as_bytes());
        signature[32..].copy_from_slice(s);
        signature
    }

    proptest::proptest! {
        /// Points with a part of small order, for which the equation holds or just not, and scalars that are reduced or
        /// not: whatever hash is claimed.
        #[test]
        fn the_equation_gets_the_programs_verdict(
            a in proptest::prelude::any::<[u8; 32]>(), s in proptest::prelude::any::<[u8; 32]>(),
            low in proptest::prelude::any::<[u8; 32]>(), high in proptest::prelude::any::<[u8; 32]>(),
            key_part in 0usize..8, r_part in 0usize..8, raw in proptest::prelude::any::<bool>(),
        ) {
            let mut challenge = [0; 64];
            challenge[..32].copy_from_slice(&low);
            challenge[32..].copy_from_slice(&high);
            let scalar = Scalar::from_bytes_mod_order(s);
            let k = Scalar::from_bytes_mod_order_wide(&challenge);
            let key = ED25519_BASEPOINT_POINT * Scalar::from_bytes_mod_order(a) + EIGHT_TORSION[key_part];
            let r = ED25519_BASEPOINT_POINT * scalar - key * k + EIGHT_TORSION[r_part];
            let s = if raw { s } else { scalar.to_bytes() };
            let signature = signature(r, &s);
            let key = key.compress().to_bytes();
            proptest::prop_assert_eq!(
                equation_holds(&key, &signature, &challenge),
                on_chain(&key, &signature, &challenge)
            );
        }
    }

    #[test]
    fn a_key_that_is_not_reduced_is_refused_whatever_the_equation_says() {
        // With a challenge of zero the key does not matter, and any R with its scalar holds.
        let (s, challenge) = (Scalar::from(9u8), [0; 64]);
        let signature = signature(ED25519_BASEPOINT_POINT * s, s.as_bytes());
        let key = ED25519_BASEPOINT_POINT.compress().to_bytes();
        assert!(equation_holds(&key, &signature, &challenge));
        let mut points = 0;
        for low in 0..=255 {
            for sign in [0, 0x80] {
                let mut key = [0xff; 32];
                key[0] = low;
                key[31] = 0x7f | sign;
                // Never asked about: `x` is zero, and brine knows what dalek does not, that zero has no sign.
                if small_order(&key) {
                    continue;
                }
                points += u32::from(CompressedEdwardsY(key).decompress().is_some());
                let ours = equation_holds(&key, &signature, &challenge);
                assert_eq!(ours, on_chain(&key, &signature, &challenge), "{low} {sign}");
                assert!(low < 0xed || !ours, "{low} {sign}");
            }
        }
        // Not because they are no points.
        assert!(points > 100);
    }
}
