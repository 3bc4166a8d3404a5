//! The terms hash and what terms a service may have.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;
use sluice_intent::split::{Fees, split};
use sluice_intent::{Recipient, TermsError};
use support::{TermsFields, config, edgy_u64, key, recipient, terms_fields, valid_terms};

/// One field of terms replaced by another value.
#[derive(Clone, Debug)]
enum Change {
    Service([u8; 32]),
    Mint([u8; 32]),
    Facilitator([u8; 32]),
    FacilitatorBps(u16),
    FacilitatorFixed(u64),
    TreasuryBps(u16),
    Owner(usize, [u8; 32]),
    TokenAccount(usize, [u8; 32]),
    Bps(usize, u16),
    Swap(usize, usize),
    Add(Recipient),
    Remove(usize),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        key().prop_map(Change::Service),
        key().prop_map(Change::Mint),
        key().prop_map(Change::Facilitator),
        any::<u16>().prop_map(Change::FacilitatorBps),
        edgy_u64().prop_map(Change::FacilitatorFixed),
        any::<u16>().prop_map(Change::TreasuryBps),
        (0usize..8, key()).prop_map(|(i, key)| Change::Owner(i, key)),
        (0usize..8, key()).prop_map(|(i, key)| Change::TokenAccount(i, key)),
        (0usize..8, any::<u16>()).prop_map(|(i, bps)| Change::Bps(i, bps)),
        (0usize..8, 0usize..8).prop_map(|(i, k)| Change::Swap(i, k)),
        recipient().prop_map(Change::Add),
        (0usize..8).prop_map(Change::Remove),
    ]
}

fn changed(fields: &TermsFields, change: &Change) -> TermsFields {
    let mut new = fields.clone();
    let rows = &mut new.recipients;
    let count = rows.len();
    match change {
        Change::Service(key) => new.service = *key,
        Change::Mint(key) => new.mint = *key,
        Change::Facilitator(key) => new.facilitator = *key,
        Change::FacilitatorBps(bps) => new.facilitator_bps = *bps,
        Change::FacilitatorFixed(fixed) => new.facilitator_fixed = *fixed,
        Change::TreasuryBps(bps) => new.treasury_bps = *bps,
        Change::Owner(i, key) => rows[i % count].owner = *key,
        Change::TokenAccount(i, key) => rows[i % count].token_account = *key,
        Change::Bps(i, bps) => rows[i % count].bps = *bps,
        Change::Swap(i, k) => rows.swap(i % count, k % count),
        Change::Add(row) if count < 8 => rows.push(*row),
        Change::Add(_) => {}
        Change::Remove(i) if count > 1 => drop(rows.remove(i % count)),
        Change::Remove(_) => {}
    }
    new
}

proptest! {
    #![proptest_config(config(4_000))]

    #[test]
    fn the_hash_is_that_of_the_reference(fields in terms_fields()) {
        prop_assert_eq!(fields.as_terms().hash(), Ok(fields.reference_hash()));
    }

    #[test]
    fn a_change_of_any_one_field_changes_the_hash(fields in terms_fields(), change in change()) {
        let other = changed(&fields, &change);
        prop_assume!(other != fields);
        prop_assert_ne!(other.as_terms().hash().unwrap(), fields.as_terms().hash().unwrap());
    }

    #[test]
    fn terms_within_the_caps_are_accepted(fields in valid_terms()) {
        prop_assert_eq!(fields.as_terms().validate(), Ok(()));
    }

    #[test]
    fn whatever_terms_are_accepted_divide_every_sum(
        fields in valid_terms(), change in change(), sum in edgy_u64(), payments in edgy_u64(),
    ) {
        for fields in [changed(&fields, &change), fields] {
            if fields.as_terms().validate().is_err() {
                continue;
            }
            let fees = Fees {
                treasury_bps: fields.treasury_bps,
                facilitator_bps: fields.facilitator_bps,
                facilitator_fixed: fields.facilitator_fixed,
            };
            let shares: Vec<u16> = fields.recipients.iter().map(|row| row.bps).collect();
            prop_assert!(split(sum, payments, &fees, &shares).is_ok());
        }
    }

    #[test]
    fn shares_that_do_not_add_up_are_refused(fields in valid_terms(), i in 0usize..8, bps in any::<u16>()) {
        let mut fields = fields;
        let row = i % fields.recipients.len();
        prop_assume!(fields.recipients[row].bps != bps);
        fields.recipients[row].bps = bps;
        prop_assert_eq!(fields.as_terms().validate(), Err(TermsError::RecipientShares));
    }

    #[test]
    fn a_share_of_nothing_is_refused(fields in valid_terms(), i in 0usize..8, to in 0usize..8) {
        let count = fields.recipients.len();
        prop_assume!(count > 1 && i % count != to % count);
        let mut fields = fields;
        // The whole still adds up: only the zero is wrong.
        fields.recipients[to % count].bps += fields.recipients[i % count].bps;
        fields.recipients[i % count].bps = 0;
        prop_assert_eq!(fields.as_terms().validate(), Err(TermsError::RecipientShares));
    }

    #[test]
    fn an_owner_that_stands_twice_is_refused(fields in valid_terms(), i in 0usize..8, to in 0usize..8) {
        let count = fields.recipients.len();
        prop_assume!(i % count != to % count);
        let mut fields = fields;
        fields.recipients[to % count].owner = fields.recipients[i % count].owner;
        prop_assert_eq!(fields.as_terms().validate(), Err(TermsError::DuplicateRecipient));
    }

    #[test]
    fn a_treasury_over_its_cap_is_refused(fields in valid_terms(), bps in 1_001u16..) {
        let fields = TermsFields { treasury_bps: bps, ..fields };
        prop_assert_eq!(fields.as_terms().validate(), Err(TermsError::TreasuryShare));
    }

    #[test]
    fn a_facilitator_over_its_cap_is_refused(fields in valid_terms(), bps in 5_001u16..) {
        let fields = TermsFields { facilitator_bps: bps, ..fields };
        prop_assert_eq!(fields.as_terms().validate(), Err(TermsError::FacilitatorShare));
    }

    #[test]
    fn none_or_more_than_eight_recipients_are_neither_hashed_nor_accepted(
        fields in terms_fields(), many in vec(recipient(), 9..300), none in any::<bool>(),
    ) {
        let recipients = if none { Vec::new() } else { many };
        let fields = TermsFields { recipients, ..fields };
        prop_assert_eq!(fields.as_terms().hash(), Err(TermsError::RecipientCount));
        prop_assert_eq!(fields.as_terms().validate(), Err(TermsError::RecipientCount));
    }
}

/// Eight recipients, and no two bytes of the fields alike by accident.
fn full_terms() -> TermsFields {
    let key = |tag: u8| -> [u8; 32] { core::array::from_fn(|i| (i as u8) ^ tag) };
    TermsFields {
        service: key(0x10),
        mint: key(0x40),
        facilitator: key(0x60),
        facilitator_bps: 250,
        facilitator_fixed: 1_000,
        treasury_bps: 100,
        recipients: (0..8)
            .map(|i| Recipient {
                owner: key(0x80 + i),
                token_account: key(0xc0 + i),
                bps: 1_250,
            })
            .collect(),
    }
}

#[test]
fn every_bit_of_every_recipient_is_in_the_hash() {
    let fields = full_terms();
    let mut hashes = HashSet::from([fields.as_terms().hash().unwrap()]);
    for row in 0..8 {
        for bit in 0..32 * 8 {
            let mut owner = fields.clone();
            owner.recipients[row].owner[bit / 8] ^= 1 << (bit % 8);
            assert!(hashes.insert(owner.as_terms().hash().unwrap()));
            let mut account = fields.clone();
            account.recipients[row].token_account[bit / 8] ^= 1 << (bit % 8);
            assert!(hashes.insert(account.as_terms().hash().unwrap()));
        }
        for bit in 0..16 {
            let mut share = fields.clone();
            share.recipients[row].bps ^= 1 << bit;
            assert!(hashes.insert(share.as_terms().hash().unwrap()));
        }
    }
}

#[test]
fn every_count_of_recipients_has_a_hash_of_its_own() {
    let mut hashes = HashSet::new();
    for count in 1..=8 {
        let mut fields = full_terms();
        fields.recipients.truncate(count);
        assert!(hashes.insert(fields.as_terms().hash().unwrap()));
    }
}

#[test]
fn the_order_of_recipients_is_in_the_hash() {
    // The first receives every remainder, so the order decides where money goes.
    let fields = full_terms();
    let mut turned = fields.clone();
    turned.recipients.rotate_left(1);
    assert_ne!(
        fields.as_terms().hash().unwrap(),
        turned.as_terms().hash().unwrap()
    );
}

#[test]
fn the_caps_themselves_are_accepted_and_one_more_is_not() {
    let fields = TermsFields {
        treasury_bps: 1_000,
        facilitator_bps: 5_000,
        facilitator_fixed: u64::MAX,
        ..full_terms()
    };
    assert_eq!(fields.as_terms().validate(), Ok(()));
    let treasury = TermsFields {
        treasury_bps: 1_001,
        ..fields.clone()
    };
    assert_eq!(
        treasury.as_terms().validate(),
        Err(TermsError::TreasuryShare)
    );
    let facilitator = TermsFields {
        facilitator_bps: 5_001,
        ..fields
    };
    assert_eq!(
        facilitator.as_terms().validate(),
        Err(TermsError::FacilitatorShare)
    );
}

#[test]
fn each_refusal_says_what_is_wrong() {
    let all = [
        TermsError::RecipientCount,
        TermsError::RecipientShares,
        TermsError::DuplicateRecipient,
        TermsError::TreasuryShare,
        TermsError::FacilitatorShare,
    ];
    let texts: HashSet<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), all.len());
}
