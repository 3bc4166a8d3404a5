//! Signatures that verifiers have disagreed about, with the verdict that ours must give.
//!
//! Every kind of point and scalar that RFC 8032 leaves room for is built here, as no signer would build it:
//! the private scalars are known, so each case solves the equation that it is meant to solve, and messages are
//! tried one after the other until the challenge falls as the case needs it. The verdict of each case follows
//! from its kind, and not from running a verifier. Nothing is random: the same cases come out every time.
//!
//! Added to these are the vectors that "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko, 2020)
//! published with the ed25519-speccheck tool, and the first of RFC 8032.
#![allow(dead_code)]

use std::collections::HashSet;

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{Identity, IsIdentity};
use sha2::{Digest as _, Sha256, Sha512};
use sluice_intent::intent;

/// The order of the base point, little-endian.
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// A key, a message and a signature, with the verdict that a strict verifier gives.
#[derive(Clone, Debug)]
pub struct EdgeCase {
    pub name: String,
    pub key: [u8; 32],
    pub message: Vec<u8>,
    pub signature: [u8; 64],
    pub valid: bool,
}

/// Which verification equation holds when every encoding is read as leniently as it can be.
///
/// A refused case that solves an equation has teeth: a verifier that left out the check would accept it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Equation {
    /// `sB = R + kA`, and so the cofactored one as well.
    Cofactorless,
    /// `8sB = 8R + 8kA` only.
    Cofactored,
    /// Neither, or a point is not on the curve.
    Neither,
}

impl Equation {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cofactorless => "cofactorless",
            Self::Cofactored => "cofactored",
            Self::Neither => "neither",
        }
    }
}

/// The challenge `k`, from the bytes as they are given.
fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
    let mut hasher = Sha512::new();
    hasher.update(r);
    hasher.update(key);
    hasher.update(message);
    Scalar::from_bytes_mod_order_wide(&hasher.finalize().into())
}

/// Reads a point leniently: `y` is reduced, and the sign of a zero `x` is ignored.
pub fn point(bytes: &[u8; 32]) -> Option<EdwardsPoint> {
    CompressedEdwardsY(*bytes).decompress()
}

/// Which equation a case solves, leniently read.
pub fn equation(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> Equation {
    let (r_bytes, s_bytes) = halves(signature);
    let (Some(a), Some(r)) = (point(key), point(&r_bytes)) else {
        return Equation::Neither;
    };
    let s = Scalar::from_bytes_mod_order(s_bytes);
    let difference = B * s - r - a * challenge(&r_bytes, key, message);
    if difference.is_identity() {
        Equation::Cofactorless
    } else if difference.is_small_order() {
        Equation::Cofactored
    } else {
        Equation::Neither
    }
}

/// `R` and `s` of a signature.
pub fn halves(signature: &[u8; 64]) -> ([u8; 32], [u8; 32]) {
    let (mut r, mut s) = ([0; 32], [0; 32]);
    r.copy_from_slice(&signature[..32]);
    s.copy_from_slice(&signature[32..]);
    (r, s)
}

fn join(r: [u8; 32], s: [u8; 32]) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&s);
    signature
}

/// A scalar with a known name.
fn scalar(name: &str) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&Sha512::digest(name.as_bytes()).into())
}

/// The `n`th message of a case: a Sluice message over a digest of its own.
fn message(name: &str, n: u32) -> Vec<u8> {
    let mut hasher = Sha256::new();
    hasher.update(name);
    hasher.update(n.to_le_bytes());
    intent::message(&hasher.finalize().into()).to_vec()
}

/// The rest of a challenge by 8, which is all that a point of small order sees of it.
fn eighth(k: &Scalar) -> u8 {
    k.as_bytes()[0] & 7
}

/// `2^255 - 19 + more`, the encoding of `more` that is not the canonical one.
fn p_plus(more: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xed + more;
    bytes[31] = 0x7f;
    bytes
}

fn with_sign(mut bytes: [u8; 32]) -> [u8; 32] {
    bytes[31] |= 0x80;
    bytes
}

/// Every encoding of the eight points of small order that a lenient reader accepts: the eight canonical ones,
/// and those with `y` not reduced or with the sign of a zero `x` set. 14 in all.
pub fn small_order_encodings() -> Vec<(String, [u8; 32])> {
    let mut found: Vec<(String, [u8; 32])> = EIGHT_TORSION
        .iter()
        .enumerate()
        .map(|(i, point)| (format!("T{i}"), point.compress().to_bytes()))
        .collect();
    let mut seen: HashSet<[u8; 32]> = found.iter().map(|(_, bytes)| *bytes).collect();
    let (mut zero, mut one, mut minus_one) = ([0; 32], [0; 32], p_plus(0));
    (zero[0], one[0], minus_one[0]) = (0, 1, 0xec);
    let odd = [
        ("0", zero),
        ("1", one),
        ("p-1", minus_one),
        ("p", p_plus(0)),
        ("p+1", p_plus(1)),
    ];
    for (name, plain) in odd {
        for (sign, bytes) in [("+", plain), ("-", with_sign(plain))] {
            assert!(point(&bytes).is_some_and(|point| point.is_small_order()));
            if seen.insert(bytes) {
                found.push((format!("y={name},sign={sign}"), bytes));
            }
        }
    }
    found
}

/// Encodings of points of large order whose `y` is not reduced. There are few, as only 19 values of `y` have a
/// second encoding.
pub fn unreduced_large_points() -> Vec<[u8; 32]> {
    (2..=18)
        .map(p_plus)
        .filter(|bytes| point(bytes).is_some())
        .flat_map(|bytes| [bytes, with_sign(bytes)])
        .collect()
}

/// Everything below, in a fixed order.
pub fn all() -> Vec<EdgeCase> {
    [
        plain(),
        small_key_and_small_r(),
        small_key(),
        small_r(),
        mixed_key(),
        mixed_r(),
        small_r_that_cancels(),
        scalar_not_reduced(),
        not_on_the_curve(),
        unreduced_large(),
        published(),
    ]
    .concat()
}

/// Honest signatures, so that a verifier that refuses everything fails too.
fn plain() -> Vec<EdgeCase> {
    (0..4)
        .map(|n| {
            let name = format!("honest {n}");
            let (a, r) = (scalar(&name), scalar(&format!("{name} r")));
            let key = (B * a).compress().to_bytes();
            let r_bytes = (B * r).compress().to_bytes();
            let message = message(&name, 0);
            let s = r + challenge(&r_bytes, &key, &message) * a;
            EdgeCase {
                key,
                signature: join(r_bytes, s.to_bytes()),
                message,
                valid: true,
                name,
            }
        })
        .collect()
}

/// `s = 0` and both points of small order: the cofactored equation holds for every message, the cofactorless
/// one for those whose challenge fits. This is the signature that is valid for many messages.
fn small_key_and_small_r() -> Vec<EdgeCase> {
    let encodings = small_order_encodings();
    let mut cases = Vec::new();
    for (key_name, key) in &encodings {
        for (r_name, r) in &encodings {
            let name = format!("small A {key_name}, small R {r_name}, s 0");
            let signature = join(*r, [0; 32]);
            // Where R is no multiple of A, no message helps, and the first is as good as another.
            let message = (0..64)
                .map(|n| message(&name, n))
                .find(|message| equation(key, message, &signature) == Equation::Cofactorless)
                .unwrap_or_else(|| message(&name, 0));
            cases.push(EdgeCase {
                name,
                key: *key,
                message,
                signature,
                valid: false,
            });
        }
    }
    cases
}

/// A key of small order signs anything: `R = sB - kA` is one of eight points, and trying finds the right one.
fn small_key() -> Vec<EdgeCase> {
    let mut cases = Vec::new();
    for (key_name, key) in small_order_encodings() {
        let name = format!("small A {key_name}");
        let s = scalar(&name);
        let a = point(&key).unwrap();
        let (r, message) = tries(&name)
            .find_map(|(n, message)| {
                let guess = n % 8;
                let r = (B * s - a * Scalar::from(guess)).compress().to_bytes();
                let k = challenge(&r, &key, &message);
                (a * k == a * Scalar::from(guess)).then_some((r, message))
            })
            .unwrap();
        cases.push(EdgeCase {
            name,
            key,
            message,
            signature: join(r, s.to_bytes()),
            valid: false,
        });
    }
    cases
}

/// `R` of small order and an honest key: `s = ka` solves the cofactored equation, and with the neutral `R` the
/// cofactorless one. It shows the private scalar to everyone, and is refused all the same.
fn small_r() -> Vec<EdgeCase> {
    let mut cases = Vec::new();
    for (r_name, r) in small_order_encodings() {
        let name = format!("small R {r_name}");
        let a = scalar(&name);
        let key = (B * a).compress().to_bytes();
        let message = message(&name, 0);
        let s = challenge(&r, &key, &message) * a;
        cases.push(EdgeCase {
            name,
            key,
            signature: join(r, s.to_bytes()),
            message,
            valid: false,
        });
    }
    cases
}

/// A key with a part of small order. Its owner can sign so that the part vanishes (`k` a multiple of 8), which
/// is a valid signature to every strict verifier; otherwise only the cofactored equation holds.
fn mixed_key() -> Vec<EdgeCase> {
    let mut cases = Vec::new();
    for (i, torsion) in EIGHT_TORSION.iter().enumerate().skip(1) {
        for vanishes in [true, false] {
            let how = if vanishes { "vanishes" } else { "remains" };
            let name = format!("mixed A T{i}, its small part {how}");
            let (a, r) = (scalar(&name), scalar(&format!("{name} r")));
            let key = (B * a + torsion).compress().to_bytes();
            let r_bytes = (B * r).compress().to_bytes();
            let (message, k) = tries(&name)
                .map(|(_, message)| {
                    let k = challenge(&r_bytes, &key, &message);
                    (message, k)
                })
                .find(|(_, k)| (torsion * k).is_identity() == vanishes)
                .unwrap();
            cases.push(EdgeCase {
                name,
                key,
                message,
                signature: join(r_bytes, (r + k * a).to_bytes()),
                valid: vanishes,
            });
        }
    }
    cases
}

/// `R` of small order, made to cancel the small part of a mixed key: it solves the cofactorless equation, so nothing but
/// the check of `R` refuses it.
fn small_r_that_cancels() -> Vec<EdgeCase> {
    let mut cases = Vec::new();
    for (i, torsion) in EIGHT_TORSION.iter().enumerate().skip(1) {
        let name = format!("cancelling R of a mixed A T{i}");
        let a = scalar(&name);
        let key = (B * a + torsion).compress().to_bytes();
        let (r, message, k) = tries(&name)
            .find_map(|(n, message)| {
                let part = torsion * Scalar::from(n % 8);
                let r = (-part).compress().to_bytes();
                let k = challenge(&r, &key, &message);
                (torsion * k == part).then_some((r, message, k))
            })
            .unwrap();
        cases.push(EdgeCase {
            name,
            key,
            message,
            signature: join(r, (k * a).to_bytes()),
            valid: false,
        });
    }
    cases
}

/// `R` with a part of small order: alone it breaks the cofactorless equation, and with a mixed key the two
/// parts can cancel, which is valid again.
fn mixed_r() -> Vec<EdgeCase> {
    let mut cases = Vec::new();
    for (i, torsion) in EIGHT_TORSION.iter().enumerate().skip(1) {
        let name = format!("mixed R T{i}");
        let (a, r) = (scalar(&name), scalar(&format!("{name} r")));
        let key = (B * a).compress().to_bytes();
        let r_bytes = (B * r + torsion).compress().to_bytes();
        let message = message(&name, 0);
        let s = r + challenge(&r_bytes, &key, &message) * a;
        cases.push(EdgeCase {
            name,
            key,
            signature: join(r_bytes, s.to_bytes()),
            message,
            valid: false,
        });

        let name = format!("mixed R and A T{i}, their small parts cancel");
        let (a, r) = (scalar(&name), scalar(&format!("{name} r")));
        let key = (B * a + torsion).compress().to_bytes();
        let (r_bytes, message, k) = tries(&name)
            .find_map(|(n, message)| {
                // Any guess but those that leave R without its small part.
                let part = torsion * Scalar::from(n % 8);
                let r_bytes = (B * r - part).compress().to_bytes();
                let k = challenge(&r_bytes, &key, &message);
                (!part.is_identity() && torsion * k == part).then_some((r_bytes, message, k))
            })
            .unwrap();
        cases.push(EdgeCase {
            name,
            key,
            message,
            signature: join(r_bytes, (r + k * a).to_bytes()),
            valid: true,
        });
    }
    cases
}

/// `s` plus multiples of the group's order: the same scalar, and so a second signature for the same message.
fn scalar_not_reduced() -> Vec<EdgeCase> {
    let honest = plain().remove(0);
    let (r, s) = halves(&honest.signature);
    let mut cases = Vec::new();
    let mut sum = s;
    for times in 1..=14 {
        sum = add(sum, L);
        cases.push(EdgeCase {
            name: format!("s + {times} L"),
            signature: join(r, sum),
            valid: false,
            ..honest.clone()
        });
    }
    // s = 0 written as L, where it would be read as 0: with the neutral R, for a key of small order.
    let identity = EdwardsPoint::identity().compress().to_bytes();
    cases.push(EdgeCase {
        name: "s = L for 0".into(),
        key: identity,
        message: message("s = L for 0", 0),
        signature: join(identity, L),
        valid: false,
    });
    cases
}

/// `R` or `A` that is no point at all.
fn not_on_the_curve() -> Vec<EdgeCase> {
    let mut bytes = [0; 32];
    bytes[0] = 2;
    while point(&bytes).is_some() {
        bytes[0] += 1;
    }
    let honest = plain().remove(0);
    let (_, s) = halves(&honest.signature);
    vec![
        EdgeCase {
            name: "A not on the curve".into(),
            key: bytes,
            valid: false,
            ..honest.clone()
        },
        EdgeCase {
            name: "R not on the curve".into(),
            signature: join(bytes, s),
            valid: false,
            ..honest
        },
    ]
}

/// Points of large order with `y` not reduced, as `A` and as `R`. Nobody knows their logarithms, so that no
/// signature solves the equation: these cases show that such bytes are refused, not which check does it.
fn unreduced_large() -> Vec<EdgeCase> {
    let honest = plain().remove(0);
    let (_, s) = halves(&honest.signature);
    let mut cases = Vec::new();
    for bytes in unreduced_large_points() {
        let (offset, sign) = (bytes[0] - 0xed, bytes[31] >> 7);
        cases.push(EdgeCase {
            name: format!("large A, y=p+{offset},sign={sign}"),
            key: bytes,
            valid: false,
            ..honest.clone()
        });
        cases.push(EdgeCase {
            name: format!("large R, y=p+{offset},sign={sign}"),
            signature: join(bytes, s),
            valid: false,
            ..honest.clone()
        });
    }
    cases
}

/// Messages to try, with their number.
fn tries(name: &str) -> impl Iterator<Item = (u64, Vec<u8>)> + '_ {
    (0u32..4_096).map(move |n| (u64::from(n), message(name, n)))
}

/// 256-bit addition of two little-endian numbers.
fn add(a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
    let (mut out, mut carry) = ([0; 32], 0u16);
    for i in 0..32 {
        let sum = u16::from(a[i]) + u16::from(b[i]) + carry;
        out[i] = sum as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0, "the sum must fit");
    out
}

/// Published vectors: name, key, message, signature, strict verdict.
type Published = (&'static str, &'static str, &'static str, &'static str, bool);

fn published() -> Vec<EdgeCase> {
    PUBLISHED
        .iter()
        .map(|(name, key, message, signature, valid)| EdgeCase {
            name: (*name).into(),
            key: hex::decode(key).unwrap().try_into().unwrap(),
            message: hex::decode(message).unwrap(),
            signature: hex::decode(signature).unwrap().try_into().unwrap(),
            valid: *valid,
        })
        .collect()
}

// The strict verdicts are those of the table in the paper's repository for libraries that refuse small order.
const PUBLISHED: &[Published] = &[
    (
        "RFC 8032 test 1",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        true,
    ),
    (
        "RFC 8032 test 2",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        true,
    ),
    (
        "RFC 8032 test 3",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        true,
    ),
    (
        "speccheck 0",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "2a66241a42a9ee12994d8068dcf1bb7dfc6637b45450acd43711f637fa5080fc",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a0000000000000000000000000000000000000000000000000000000000000000",
        false,
    ),
    (
        "speccheck 1",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a0000000000000000000000000000000000000000000000000000000000000000",
        false,
    ),
    (
        "speccheck 2",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        false,
    ),
    (
        "speccheck 3",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        false,
    ),
    (
        "speccheck 4",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa182ef1a5b928da07fec769cc8a12db6bcf70dab3f3227fa315e9d5e3e01a3405",
        false,
    ),
    (
        "speccheck 5",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e",
        false,
    ),
    (
        "speccheck 6",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
        "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
        true,
    ),
    (
        "speccheck 7",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed5125ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
        false,
    ),
    (
        "speccheck 8",
        "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
        "e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
        "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405",
        false,
    ),
    (
        "speccheck 9",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
        false,
    ),
    (
        "speccheck 10",
        "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
        "85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
        "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa19427e71f98a473474f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c22",
        false,
    ),
    (
        "speccheck 11",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f",
        false,
    ),
    (
        "speccheck 12",
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
        "9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908",
        false,
    ),
    (
        "speccheck 13",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dca5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        false,
    ),
    (
        "speccheck 14",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
        "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dca5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
        false,
    ),
];
