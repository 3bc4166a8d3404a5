//! Signatures that no signer would make, over intents of this chain: every kind of point and scalar that verifiers have
//! disagreed about. The private scalars are known, so that each solves the equation it is meant to solve; a byte of the
//! resource is counted up until the challenge falls as the case needs it.

use curve25519_dalek::{
    constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION},
    edwards::EdwardsPoint,
    scalar::Scalar,
    traits::IsIdentity,
};
use sha2::{Digest as _, Sha512};
use sluice_intent::intent;
use sluice_sdk::{SignedIntent, UnsignedIntent};

use crate::edge_cases::{Equation, equation, point, small_order_encodings};

/// The order of the base point, little-endian.
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// A key with a signature over an intent, and the verdict that follows from how they were made.
pub struct Forgery {
    pub name: String,
    pub key: [u8; 32],
    pub signed: SignedIntent,
    pub valid: bool,
}

fn challenge(r: &[u8; 32], key: &[u8; 32], intent: &UnsignedIntent) -> Scalar {
    let mut hasher = Sha512::new();
    hasher.update(r);
    hasher.update(key);
    hasher.update(intent::message(&intent.digest()));
    Scalar::from_bytes_mod_order_wide(&hasher.finalize().into())
}

fn scalar(name: &str) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&Sha512::digest(name).into())
}

fn bytes(point: EdwardsPoint) -> [u8; 32] {
    point.compress().to_bytes()
}

fn join(r: [u8; 32], s: [u8; 32]) -> [u8; 64] {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(&s);
    signature
}

fn add(a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
    let (mut out, mut carry) = ([0; 32], 0u16);
    for i in 0..32 {
        let sum = u16::from(a[i]) + u16::from(b[i]) + carry;
        out[i] = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_eq!(carry, 0, "the sum must fit");
    out
}

/// The same intent for other resources, with their number.
fn tries(intent: UnsignedIntent) -> impl Iterator<Item = (u64, UnsignedIntent)> {
    (0u16..1_024).map(move |n| {
        let mut next = intent;
        next.resource[..2].copy_from_slice(&n.to_le_bytes());
        (u64::from(n), next)
    })
}

fn forgery(
    name: String,
    key: [u8; 32],
    intent: UnsignedIntent,
    signature: [u8; 64],
    valid: bool,
) -> Forgery {
    let signed = SignedIntent { intent, signature };
    Forgery {
        name,
        key,
        signed,
        valid,
    }
}

/// Every forgery over an intent that must be refused.
pub fn refused(base: UnsignedIntent) -> Vec<Forgery> {
    let mut all = Vec::new();
    honest(base, &mut all);
    small_order(base, &mut all);
    mixed_order(base, &mut all);
    all.retain(|case| !case.valid);
    all
}

/// Every signature over an intent that looks odd and must be accepted, and an honest one.
pub fn accepted(base: UnsignedIntent) -> Vec<Forgery> {
    let mut all = Vec::new();
    honest(base, &mut all);
    mixed_order(base, &mut all);
    all.retain(|case| case.valid);
    all
}

/// An honest signature, and the same one with multiples of the group's order in its scalar.
fn honest(intent: UnsignedIntent, all: &mut Vec<Forgery>) {
    let (a, r) = (scalar("honest"), scalar("honest r"));
    let (key, r_bytes) = (bytes(B * a), bytes(B * r));
    let s = (r + challenge(&r_bytes, &key, &intent) * a).to_bytes();
    let mut sum = s;
    for times in 1..=14 {
        sum = add(sum, L);
        let name = format!("s + {times} L");
        all.push(forgery(name, key, intent, join(r_bytes, sum), false));
    }
    for bit in 0..512 {
        let mut signature = join(r_bytes, s);
        signature[bit / 8] ^= 1 << (bit % 8);
        // Every third: all bytes and all places in a byte.
        if bit % 3 == 0 {
            all.push(forgery(
                format!("bit {bit} flipped"),
                key,
                intent,
                signature,
                false,
            ));
        }
    }
    // The sign of A is the top bit of the key: the negative key is another key.
    let mut negative = key;
    negative[31] ^= 0x80;
    all.push(forgery(
        "the negative key".into(),
        negative,
        intent,
        join(r_bytes, s),
        false,
    ));
    all.push(forgery(
        "honest".into(),
        key,
        intent,
        join(r_bytes, s),
        true,
    ));
}

/// Keys and R of small order, in all 14 encodings that a lenient reader takes, 6 of which are not canonical.
fn small_order(base: UnsignedIntent, all: &mut Vec<Forgery>) {
    let encodings = small_order_encodings();
    for (key_name, key) in &encodings {
        for (r_name, r) in &encodings {
            let signature = join(*r, [0; 32]);
            // Where R is no multiple of A, no intent helps, and the first is as good as another.
            let fits = |intent: &UnsignedIntent| {
                let message = intent::message(&intent.digest());
                equation(key, &message, &signature) == Equation::Cofactorless
            };
            let intent = tries(base)
                .take(64)
                .map(|(_, intent)| intent)
                .find(fits)
                .unwrap_or(base);
            let name = format!("small A {key_name}, small R {r_name}");
            all.push(forgery(name, *key, intent, signature, false));
        }
        // With R = sB - kA, of large order, a key of small order signs anything.
        let a = point(key).unwrap();
        let s = scalar(key_name);
        let (r, intent) = tries(base)
            .find_map(|(n, intent)| {
                let part = a * Scalar::from(n % 8);
                let r = bytes(B * s - part);
                (a * challenge(&r, key, &intent) == part).then_some((r, intent))
            })
            .unwrap();
        let name = format!("small A {key_name}");
        all.push(forgery(name, *key, intent, join(r, s.to_bytes()), false));
        // R of small order under an honest key.
        let honest = scalar(&format!("R {key_name}"));
        let own = bytes(B * honest);
        let s = challenge(key, &own, &base) * honest;
        let name = format!("small R {key_name}");
        all.push(forgery(name, own, base, join(*key, s.to_bytes()), false));
    }
    // s = L, where it would be read as 0: the neutral point as key and as R.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    all.push(forgery(
        "s = L for 0".into(),
        neutral,
        base,
        join(neutral, L),
        false,
    ));
}

/// Points with a part of small order. Strict verification is by the equation without the cofactor, so it accepts those
/// whose parts vanish or cancel; only a key's owner can make them.
fn mixed_order(base: UnsignedIntent, all: &mut Vec<Forgery>) {
    for (i, torsion) in EIGHT_TORSION.iter().enumerate().skip(1) {
        let (a, r) = (scalar(&format!("a {i}")), scalar(&format!("r {i}")));
        let key = bytes(B * a + torsion);
        for vanishes in [false, true] {
            let r_bytes = bytes(B * r);
            let (intent, k) = tries(base)
                .map(|(_, intent)| (intent, challenge(&r_bytes, &key, &intent)))
                .find(|(_, k)| (torsion * k).is_identity() == vanishes)
                .unwrap();
            let s = (r + k * a).to_bytes();
            let name = format!("mixed A {i}, its part vanishes: {vanishes}");
            all.push(forgery(name, key, intent, join(r_bytes, s), vanishes));
        }
        let (plain, r_bytes) = (bytes(B * a), bytes(B * r + torsion));
        let s = r + challenge(&r_bytes, &plain, &base) * a;
        let name = format!("mixed R {i}");
        all.push(forgery(
            name,
            plain,
            base,
            join(r_bytes, s.to_bytes()),
            false,
        ));

        let (intent, r_bytes, k) = tries(base)
            .find_map(|(n, intent)| {
                let part = torsion * Scalar::from(n % 8);
                let r_bytes = bytes(B * r - part);
                let k = challenge(&r_bytes, &key, &intent);
                (!part.is_identity() && torsion * k == part).then_some((intent, r_bytes, k))
            })
            .unwrap();
        let s = (r + k * a).to_bytes();
        let name = format!("mixed R and A {i}, their parts cancel");
        all.push(forgery(name, key, intent, join(r_bytes, s), true));

        // R of small order alone, made to cancel the key's part: it solves the equation, and is refused for R.
        let (intent, r_bytes, k) = tries(base)
            .find_map(|(n, intent)| {
                let part = torsion * Scalar::from(n % 8);
                let r_bytes = bytes(-part);
                let k = challenge(&r_bytes, &key, &intent);
                (!part.is_identity() && torsion * k == part).then_some((intent, r_bytes, k))
            })
            .unwrap();
        let name = format!("mixed A {i}, small R that cancels");
        let signature = join(r_bytes, (k * a).to_bytes());
        all.push(forgery(name, key, intent, signature, false));
    }
}
