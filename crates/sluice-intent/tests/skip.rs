//! The result codes: they are on the wire, so each keeps its number and its name for ever.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use sluice_intent::Skip;

/// Written out once more, so that a code cannot change without a change here.
const PUBLISHED: [(u8, &str); 27] = [
    (1, "account_missing"),
    (2, "account_foreign"),
    (3, "account_version"),
    (4, "mint_mismatch"),
    (5, "unknown_flag"),
    (6, "lane_closed"),
    (7, "lane_expired"),
    (8, "scope"),
    (9, "expired"),
    (10, "expiry_too_far"),
    (11, "nonce_used"),
    (12, "nonce_too_old"),
    (13, "nonce_too_far"),
    (14, "over_max"),
    (15, "over_period"),
    (16, "over_total"),
    (17, "below_minimum"),
    (18, "above_maximum"),
    (19, "bad_signature"),
    (20, "source_mismatch"),
    (21, "source_unusable"),
    (22, "owner_changed"),
    (23, "source_frozen"),
    (24, "delegate_gone"),
    (25, "delegated_short"),
    (26, "balance_short"),
    (27, "self_payment"),
];

#[test]
fn every_published_code_keeps_its_number_and_its_name() {
    for (code, name) in PUBLISHED {
        let skip = Skip::from_code(code).expect(name);
        assert_eq!((skip.code(), skip.name()), (code, name));
        assert_eq!(skip.to_string(), name);
    }
}

#[test]
fn settled_and_codes_of_later_versions_are_no_reason() {
    for code in 0..=u8::MAX {
        let published = PUBLISHED.iter().any(|(known, _)| *known == code);
        assert_eq!(Skip::from_code(code).is_some(), published, "code {code}");
    }
}

#[test]
fn the_list_of_reasons_is_complete_and_rises() {
    let codes: Vec<u8> = Skip::ALL.iter().map(|skip| skip.code()).collect();
    assert_eq!(codes, PUBLISHED.map(|(code, _)| code));
}
