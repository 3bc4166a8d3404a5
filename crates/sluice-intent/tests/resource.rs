//! The resource tag: two different things that are bought never share their bytes before hashing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;
use sluice_intent::resource::{of_identifier, of_request};
use support::{config, sha256};

/// The tag by the specification: kind, then each field behind its length in four bytes.
fn reference(kind: u8, fields: &[&[u8]]) -> [u8; 16] {
    let mut bytes = vec![kind];
    for field in fields {
        bytes.extend(u32::try_from(field.len()).unwrap().to_le_bytes());
        bytes.extend(*field);
    }
    sha256(&[b"sluice/resource/1", &bytes])[..16]
        .try_into()
        .unwrap()
}

proptest! {
    #![proptest_config(config(4_000))]

    #[test]
    fn the_tag_of_a_request_is_that_of_the_reference(
        method in ".{0,12}", url in ".{0,200}", body_hash in any::<[u8; 32]>(),
    ) {
        let expect = reference(0, &[method.as_bytes(), url.as_bytes(), &body_hash]);
        prop_assert_eq!(of_request(&method, &url, &body_hash), expect);
    }

    #[test]
    fn the_tag_of_an_identifier_is_that_of_the_reference(identifier in vec(any::<u8>(), 0..600)) {
        prop_assert_eq!(of_identifier(&identifier), reference(1, &[&identifier]));
    }

    #[test]
    fn a_character_cannot_move_from_the_method_to_the_url(
        text in "[a-z/]{1,20}", one in 0usize..=20, two in 0usize..=20, body_hash in any::<[u8; 32]>(),
    ) {
        let (one, two) = (one.min(text.len()), two.min(text.len()));
        prop_assume!(one != two);
        prop_assert_ne!(
            of_request(&text[..one], &text[one..], &body_hash),
            of_request(&text[..two], &text[two..], &body_hash)
        );
    }

    #[test]
    fn another_method_url_or_body_is_another_resource(
        a in ("[A-Z]{1,4}", "[a-b]{0,3}", 0u8..3), b in ("[A-Z]{1,4}", "[a-b]{0,3}", 0u8..3),
    ) {
        let tag = |(method, url, body): &(String, String, u8)| of_request(method, url, &[*body; 32]);
        prop_assert_eq!(a == b, tag(&a) == tag(&b));
    }

    #[test]
    fn another_identifier_is_another_resource(
        a in vec(0u8..2, 0..6), b in vec(0u8..2, 0..6),
    ) {
        prop_assert_eq!(a == b, of_identifier(&a) == of_identifier(&b));
    }

    #[test]
    fn an_identifier_cannot_stand_for_a_request(
        method in "[A-Z]{0,6}", url in "[a-z:/.]{0,40}", body_hash in any::<[u8; 32]>(),
    ) {
        let request = of_request(&method, &url, &body_hash);
        // The three fields as one identifier, with their lengths and without.
        let mut framed = Vec::new();
        for field in [method.as_bytes(), url.as_bytes(), &body_hash[..]] {
            framed.extend((field.len() as u32).to_le_bytes());
            framed.extend(field);
        }
        prop_assert_ne!(of_identifier(&framed), request);
        prop_assert_ne!(of_identifier(&framed[4..]), request);
        let plain = [method.as_bytes(), url.as_bytes(), &body_hash[..]].concat();
        prop_assert_ne!(of_identifier(&plain), request);
    }
}

#[test]
fn fields_that_read_alike_when_joined_have_different_tags() {
    let body = [0; 32];
    let pairs = [("a", "bc"), ("ab", "c"), ("", "abc"), ("abc", "")];
    let tags: HashSet<_> = pairs
        .iter()
        .map(|(method, url)| of_request(method, url, &body))
        .collect();
    assert_eq!(tags.len(), pairs.len());
}

#[test]
fn a_url_that_contains_a_length_prefix_is_not_taken_apart() {
    let body = [0; 32];
    assert_ne!(
        of_request("GET", "a\u{1}\0\0\0b", &body),
        of_request("GET\u{1}\0\0\0a", "b", &body)
    );
}

#[test]
fn the_case_of_the_method_matters() {
    assert_ne!(
        of_request("GET", "https://a.example/", &[0; 32]),
        of_request("get", "https://a.example/", &[0; 32])
    );
}
