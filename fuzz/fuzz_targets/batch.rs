//! The instruction data of `settle` as the program reads it: borsh, by the structs that Anchor generates. The
//! reference is the layout itself: 8 bytes of discriminator, `strict` u8, count u32, entries of 101 bytes, and
//! each of these is what `sluice_intent::Entry` makes of the same bytes.
//!
//! The input is what follows the discriminator: Anchor's dispatch has compared that, and would refuse nearly
//! everything that the fuzzer makes of it.
#![no_main]

use anchor_lang::{AnchorDeserialize, Discriminator, InstructionData};
use libfuzzer_sys::fuzz_target;
use sluice::{SettleEntry, instruction::Settle};
use sluice_intent::{ENTRY_LEN, Entry, entry::BATCH_HEAD_LEN};

fuzz_target!(|args: &[u8]| {
    let mut rest = args;
    let decoded = Settle::deserialize(&mut rest);
    let Some(layout) = Layout::of(args) else {
        assert!(decoded.is_err(), "read what is no batch");
        return;
    };
    let Ok(settle) = decoded else {
        panic!("refused a batch of {}", layout.entries.len());
    };
    assert_eq!(settle.strict, layout.strict);
    assert_eq!(settle.entries.len(), layout.entries.len());
    for (read, bytes) in settle.entries.iter().zip(layout.entries) {
        assert_eq!(to_entry(read), Entry::decode(bytes));
    }
    // What follows the last entry is nobody's: borsh leaves it, and Anchor does not look.
    let (batch, behind) = args.split_at(args.len() - layout.behind);
    assert_eq!(rest, behind);
    assert_eq!(settle.data(), [Settle::DISCRIMINATOR, batch].concat());
});

/// The batch by its layout alone.
struct Layout<'a> {
    strict: bool,
    entries: &'a [[u8; ENTRY_LEN]],
    /// Bytes behind the last entry.
    behind: usize,
}

impl<'a> Layout<'a> {
    fn of(args: &'a [u8]) -> Option<Self> {
        let (head, body) = args.split_first_chunk::<BATCH_HEAD_LEN>()?;
        let [strict @ (0 | 1), a, b, c, d] = *head else {
            return None;
        };
        let count = u32::from_le_bytes([a, b, c, d]) as usize;
        let (entries, _) = body.as_chunks::<ENTRY_LEN>();
        Some(Self {
            strict: strict == 1,
            entries: entries.get(..count)?,
            behind: body.len() - count * ENTRY_LEN,
        })
    }
}

fn to_entry(read: &SettleEntry) -> Entry {
    Entry {
        signature: read.signature,
        amount: read.amount,
        nonce: read.nonce,
        expires_at: read.expires_at,
        resource: read.resource,
        flags: read.flags,
    }
}
