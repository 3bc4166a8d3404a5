//! What the fuzz targets share.

use libfuzzer_sys::arbitrary::{self, Arbitrary, Unstructured};

#[path = "../../crates/sluice-intent/tests/support/reference.rs"]
pub mod reference;

/// A `u64` that is mostly at an edge: small, large, near a multiple of 10,000 or a power of two.
#[derive(Clone, Copy, Debug)]
pub struct Edgy(pub u64);

impl<'a> Arbitrary<'a> for Edgy {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let kind = input.arbitrary::<u8>()?;
        let off = u64::from(input.arbitrary::<u8>()?);
        Ok(Self(match kind % 8 {
            0 | 1 => off,
            2 => u64::MAX - off,
            // Bits 0 to 63, and one below, at or above.
            3 => (1u64 << (off % 64)).wrapping_add(off / 64).wrapping_sub(1),
            4 | 5 => u64::from(input.arbitrary::<u32>()?)
                .wrapping_mul(10_000)
                .wrapping_add(off % 3)
                .wrapping_sub(1),
            6 => u64::from(input.arbitrary::<u32>()?),
            _ => input.arbitrary()?,
        }))
    }
}
