//! The digest of an intent: it is what the specification says, it commits to every field, and what is signed
//! for it can be nothing but an intent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::HashSet;

use proptest::prelude::*;
use sluice_intent::{Entry, MESSAGE_LEN, MESSAGE_TAG, intent};
use support::{IntentFields, config, intent_fields, terms_fields};

/// Where each field lies in [`IntentFields::to_bytes`].
const FIELDS: [(&str, usize, usize); 11] = [
    ("genesis_hash", 0, 32),
    ("program_id", 32, 32),
    ("nonce_account", 64, 32),
    ("opened_slot", 96, 8),
    ("lane", 104, 1),
    ("service", 105, 32),
    ("terms_hash", 137, 32),
    ("amount", 169, 8),
    ("nonce", 177, 8),
    ("expires_at", 185, 8),
    ("resource", 193, 16),
];

proptest! {
    #![proptest_config(config(2_000))]

    #[test]
    fn the_digest_is_that_of_the_reference(fields in intent_fields()) {
        prop_assert_eq!(fields.as_intent().digest(), fields.reference_digest());
    }

    #[test]
    fn a_change_of_any_one_field_changes_the_digest(
        fields in intent_fields(), field in 0..FIELDS.len(), noise in any::<[u8; 32]>(),
    ) {
        let (name, at, len) = FIELDS[field];
        let mut bytes = fields.to_bytes();
        bytes[at..at + len].copy_from_slice(&noise[..len]);
        let other = IntentFields::from_bytes(&bytes);
        prop_assume!(other != fields);
        prop_assert_ne!(other.as_intent().digest(), fields.as_intent().digest(), "{}", name);
    }

    #[test]
    fn no_two_fields_of_one_length_can_be_exchanged(fields in intent_fields()) {
        for (i, (one, a, len)) in FIELDS.iter().enumerate() {
            for (two, b, _) in FIELDS[..i].iter().filter(|(_, _, other)| other == len) {
                let mut bytes = fields.to_bytes();
                for at in 0..*len {
                    bytes.swap(a + at, b + at);
                }
                let other = IntentFields::from_bytes(&bytes);
                let same = other.as_intent().digest() == fields.as_intent().digest();
                prop_assert_eq!(same, other == fields, "{} for {}", one, two);
            }
        }
    }

    /// I8: what a service charges is part of what is signed, so a change of it is another payment.
    #[test]
    fn a_change_of_terms_changes_the_digest_of_every_intent(
        mut fields in intent_fields(), shown in terms_fields(), charged in terms_fields(),
    ) {
        prop_assume!(shown != charged);
        fields.terms_hash = shown.as_terms().hash().unwrap();
        let signed = fields.as_intent().digest();
        fields.terms_hash = charged.as_terms().hash().unwrap();
        prop_assert_ne!(fields.as_intent().digest(), signed);
    }

    #[test]
    fn an_expiry_from_the_wire_is_extended_with_zeros(mut fields in intent_fields(), expires_at in any::<u32>()) {
        let entry = Entry {
            signature: [0; 64],
            amount: fields.amount,
            nonce: fields.nonce,
            expires_at,
            resource: fields.resource,
            flags: 0,
        };
        fields.expires_at = i64::from(Entry::decode(&entry.encode()).expires_at);
        let mut bytes = fields.to_bytes();
        bytes[185..189].copy_from_slice(&expires_at.to_le_bytes());
        bytes[189..193].fill(0);
        prop_assert_eq!(fields.as_intent().digest(), support::sha256(&[b"sluice/intent/1", &bytes]));
    }

    #[test]
    fn the_message_is_the_tag_and_the_digest(fields in intent_fields()) {
        let digest = fields.as_intent().digest();
        let message = intent::message(&digest);
        prop_assert_eq!(message.len(), 40);
        prop_assert_eq!(&message[..8], b"sluice1\n");
        prop_assert_eq!(&message[8..], &digest[..]);
    }

    #[test]
    fn no_digest_makes_a_message_that_is_a_transaction(digest in any::<[u8; 32]>()) {
        let message = intent::message(&digest);
        prop_assert_eq!(transaction_head(&message), Err("more keys than bytes"));
    }
}

#[test]
fn every_bit_of_every_field_is_in_the_digest() {
    let last = FIELDS[FIELDS.len() - 1];
    let len = last.1 + last.2;
    let bytes: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
    let mut digests = HashSet::from([IntentFields::from_bytes(&bytes).as_intent().digest()]);
    for bit in 0..len * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let digest = IntentFields::from_bytes(&flipped).as_intent().digest();
        assert!(digests.insert(digest), "bit {bit} is not in the digest");
    }
}

#[test]
fn the_tag_and_the_length_are_those_that_wallets_were_told() {
    assert_eq!(MESSAGE_TAG, b"sluice1\n");
    assert_eq!(MESSAGE_LEN, 40);
}

/// What a validator reads first of the bytes that the signers of a transaction sign, as far as it matters
/// here: the version, the header, and how many account keys follow.
///
/// A legacy message starts with its header: required signatures, read-only signed keys, read-only unsigned
/// keys (one byte each), then the number of account keys in the short variable form (seven bits a byte) and
/// 32 bytes for each of them. A versioned message starts with a byte that has its high bit set, and the
/// version in the others: 0x80 for v0, 0x81 for v1. Off-chain messages start with 0xff.
///
/// Ours start with 's' (0x73): the high bit is clear, so it is none of the versioned ones, and as a legacy
/// header it reads 115 required signatures, 108 and 117 read-only keys, and 'i' (0x69, no continuation bit),
/// 105 account keys. Those need 3,360 bytes and 36 are left, whatever the digest is. Were the bytes there, the
/// header would still be refused, as 115 signers are more than 105 keys. Read as a whole transaction the first
/// byte announces 115 signatures, 7,360 bytes, where 39 are left and 1,232 are the most that the network takes.
fn transaction_head(bytes: &[u8]) -> Result<(), &'static str> {
    let [first, _, _, keys, rest @ ..] = bytes else {
        return Err("too short");
    };
    if first & 0x80 != 0 {
        return Err("versioned");
    }
    if keys & 0x80 != 0 {
        return Err("more than 127 keys");
    }
    if usize::from(*keys) * 32 > rest.len() {
        return Err("more keys than bytes");
    }
    if first > keys {
        return Err("more signers than keys");
    }
    Ok(())
}

#[test]
fn the_reader_of_transaction_heads_accepts_a_transaction() {
    // One signer, itself and the system program as keys, a blockhash, no instruction: a legacy message.
    let mut message = vec![1, 0, 1, 2];
    message.extend([7; 32]);
    message.extend([0; 32]);
    message.extend([9; 32]);
    message.push(0);
    assert_eq!(transaction_head(&message), Ok(()));
    message.insert(0, 0x80);
    assert_eq!(transaction_head(&message), Err("versioned"));
}

#[test]
fn the_tag_alone_rules_out_every_kind_of_transaction() {
    let [signers, read_only_signed, read_only_unsigned, keys, ..] = *MESSAGE_TAG;
    assert_eq!(
        (signers, read_only_signed, read_only_unsigned, keys),
        (115, 108, 117, 105)
    );
    assert_eq!(
        signers & 0x80,
        0,
        "neither v0 (0x80) nor v1 (0x81) nor off-chain (0xff)"
    );
    assert!(
        signers > keys,
        "more signers than keys are refused at any length"
    );
    assert!(usize::from(keys) * 32 > MESSAGE_LEN);
    assert!(usize::from(signers) * 64 > 1_232, "nor a whole transaction");
}
