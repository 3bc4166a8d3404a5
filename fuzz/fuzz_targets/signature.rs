//! The verdict on a signature, by the program's own hash and its own test for small orders, on what no signer would
//! make: key and R carry parts of small order, their scalars may be zero, and bytes are edited afterwards. The private
//! scalars are known, so whether the equation holds follows from the parts of small order alone.
#![no_main]

use curve25519_dalek::{
    EdwardsPoint, Scalar,
    constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION},
    traits::IsIdentity,
};
use libfuzzer_sys::{
    arbitrary::{self, Arbitrary},
    fuzz_target,
};
use sha2::{Digest as _, Sha512};
use sluice_intent::{
    Digest,
    intent::message,
    signature::{verify, verify_bytes},
};

#[derive(Arbitrary, Debug)]
struct Input {
    digest: Digest,
    key: Part,
    r: Part,
    edits: Vec<Edit>,
}

/// A point: a multiple of the base point, and one of the eight points of small order.
#[derive(Arbitrary, Debug)]
struct Part {
    /// `None` for zero, which leaves the point of small order alone.
    scalar: Option<[u8; 32]>,
    torsion: u8,
}

#[derive(Arbitrary, Debug)]
enum Edit {
    Key { at: u8, xor: u8 },
    Signature { at: u8, xor: u8 },
    Digest { at: u8, xor: u8 },
}

impl Part {
    fn scalar(&self) -> Scalar {
        self.scalar
            .map_or(Scalar::ZERO, Scalar::from_bytes_mod_order)
    }

    fn torsion(&self) -> EdwardsPoint {
        EIGHT_TORSION[usize::from(self.torsion) % 8]
    }

    fn point(&self) -> EdwardsPoint {
        B * self.scalar() + self.torsion()
    }
}

fuzz_target!(|input: Input| {
    let mut digest = input.digest;
    let mut key = input.key.point().compress().to_bytes();
    let r = input.r.point().compress().to_bytes();
    let hash = Sha512::new()
        .chain_update(r)
        .chain_update(key)
        .chain_update(message(&digest));
    let challenge = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
    let s = input.r.scalar() + challenge * input.key.scalar();
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(s.as_bytes());

    // `s·B = R + k·A` holds for the multiples of B by the choice of s, and is left to the rest.
    let holds = (input.r.torsion() + input.key.torsion() * challenge).is_identity();
    let small = |part: &Part| part.scalar() == Scalar::ZERO;
    let expect = holds && !small(&input.key) && !small(&input.r);
    assert_eq!(verify(&key, &digest, &signature), expect);

    let made = (key, digest, signature);
    for edit in &input.edits {
        match edit {
            Edit::Key { at, xor } => key[usize::from(*at) % 32] ^= xor,
            Edit::Signature { at, xor } => signature[usize::from(*at) % 64] ^= xor,
            Edit::Digest { at, xor } => digest[usize::from(*at) % 32] ^= xor,
        }
    }
    let verdict = verify(&key, &digest, &signature);
    assert_eq!(verdict, verify_bytes(&key, &message(&digest), &signature));
    // What is edited is no signature any more, whatever it was.
    assert_eq!(verdict, expect && (key, digest, signature) == made);
});
