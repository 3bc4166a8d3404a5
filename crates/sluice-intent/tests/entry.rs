//! The wire form of an entry: the same 101 bytes both ways, and no flag that is not understood.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use proptest::prelude::*;
use sluice_intent::{ENTRY_LEN, Entry, Flags, LANES, Skip, entry};
use support::{config, edgy_u64};

/// 101 random bytes; an array of this length has no strategy of its own.
fn wire() -> impl Strategy<Value = [u8; ENTRY_LEN]> {
    proptest::collection::vec(any::<u8>(), ENTRY_LEN).prop_map(|bytes| bytes.try_into().unwrap())
}

fn entries() -> impl Strategy<Value = Entry> {
    (
        (any::<[u8; 32]>(), any::<[u8; 32]>()),
        edgy_u64(),
        edgy_u64(),
        any::<u32>(),
        any::<[u8; 16]>(),
        any::<u8>(),
    )
        .prop_map(|((r, s), amount, nonce, expires_at, resource, flags)| {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(&r);
            signature[32..].copy_from_slice(&s);
            Entry {
                signature,
                amount,
                nonce,
                expires_at,
                resource,
                flags,
            }
        })
}

proptest! {
    #![proptest_config(config(4_000))]

    #[test]
    fn what_is_encoded_is_decoded_again(entry in entries()) {
        prop_assert_eq!(Entry::decode(&entry.encode()), entry);
    }

    #[test]
    fn every_pattern_of_bytes_is_an_entry_and_encodes_to_itself(bytes in wire()) {
        prop_assert_eq!(Entry::decode(&bytes).encode(), bytes);
    }

    #[test]
    fn the_fields_lie_one_after_the_other_in_little_endian(entry in entries()) {
        let mut bytes = Vec::new();
        bytes.extend(entry.signature);
        bytes.extend(entry.amount.to_le_bytes());
        bytes.extend(entry.nonce.to_le_bytes());
        bytes.extend(entry.expires_at.to_le_bytes());
        bytes.extend(entry.resource);
        bytes.push(entry.flags);
        prop_assert_eq!(entry.encode().to_vec(), bytes);
    }
}

#[test]
fn flags_are_a_lane_or_unknown_for_every_byte() {
    for byte in 0..=u8::MAX {
        // Bits 0 and 1 name the lane, of which there are two; every other bit is reserved.
        let expect = match byte {
            0 | 1 => Ok(Flags { lane: byte }),
            _ => Err(Skip::UnknownFlag),
        };
        assert_eq!(Flags::parse(byte), expect, "flags {byte:#04x}");
        if let Ok(flags) = Flags::parse(byte) {
            assert_eq!(flags.to_byte(), byte);
            assert!(usize::from(flags.lane) < LANES);
        }
    }
}

#[test]
fn the_sizes_are_those_of_the_instruction() {
    assert_eq!(ENTRY_LEN, 101);
    assert_eq!(entry::ENTRY_ACCOUNTS, 2);
    assert_eq!(entry::BATCH_HEAD_LEN, 5);
}
