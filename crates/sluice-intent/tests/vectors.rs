//! The test vectors for other languages: what is checked in is what the crate computes, and says what the
//! references and ed25519-dalek say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/edge_cases.rs"]
mod edge_cases;
#[path = "../examples/vectors/files.rs"]
mod files;
mod support;

use bytemuck::Zeroable;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use files::{
    EntryFile, IntentFile, LaneFile, LaneStep, ResourceFile, SignatureFile, SplitFile, TermsFile,
    WindowFile, WindowState, read, split_error_name, terms_error_name,
};
use sluice_intent::signature::{verify, verify_bytes};
use sluice_intent::{Entry, Flags, Lane, LaneTerms, Scope, Skip, Spend, intent, resource};
use support::{IntentFields, TermsFields, reference::reference_split, sha256};

#[test]
fn the_files_that_are_checked_in_are_what_the_crate_computes() {
    for (name, expect) in files::all() {
        let found = std::fs::read_to_string(files::folder().join(name)).unwrap_or_default();
        let differs = found.lines().zip(expect.lines()).position(|(a, b)| a != b);
        assert!(
            found == expect,
            "{name} differs from line {}: if the change is meant, regenerate with \
             `cargo run -p sluice-intent --example vectors`",
            differs.unwrap_or(found.lines().count().min(expect.lines().count())) + 1
        );
    }
}

#[test]
fn the_files_come_out_the_same_every_time() {
    assert_eq!(files::all(), files::all());
}

#[test]
fn every_file_and_every_field_is_explained() {
    let readme = std::fs::read_to_string(files::folder().join("README.md")).unwrap();
    for (name, text) in files::all() {
        assert!(readme.contains(&format!("## {name}")), "{name}");
        let section = readme.split(&format!("## {name}")).nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let mut fields = Vec::new();
        field_names(&serde_json::from_str(&text).unwrap(), &mut fields);
        for field in fields {
            assert!(
                section.contains(&format!("`{field}`")),
                "{field} of {name} is not explained"
            );
        }
    }
}

fn field_names(value: &serde_json::Value, into: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            for (name, value) in fields {
                into.push(name.clone());
                field_names(value, into);
            }
        }
        serde_json::Value::Array(values) => values.iter().for_each(|v| field_names(v, into)),
        _ => {}
    }
}

#[test]
fn intents_have_their_digest_message_and_signature() {
    let file: IntentFile = read("intent.json");
    let signer = SigningKey::from_bytes(&file.secret_seed.0);
    assert_eq!(signer.verifying_key().to_bytes(), file.public_key.0);
    let mut digests = std::collections::HashSet::new();
    for case in &file.cases {
        let fields = IntentFields {
            genesis_hash: case.genesis_hash.0,
            program_id: case.program_id.0,
            nonce_account: case.nonce_account.0,
            opened_slot: case.opened_slot.0,
            lane: case.lane,
            service: case.service.0,
            terms_hash: case.terms_hash.0,
            amount: case.amount.0,
            nonce: case.nonce.0,
            expires_at: case.expires_at.0,
            resource: case.resource.0,
        };
        assert_eq!(case.as_intent().digest(), case.digest.0, "{}", case.name);
        assert_eq!(fields.reference_digest(), case.digest.0, "{}", case.name);
        assert_eq!(intent::message(&case.digest.0), case.message.0);
        assert_eq!(
            [b"sluice1\n", &case.digest.0[..]].concat(),
            case.message.0.to_vec()
        );
        assert_eq!(
            signer.sign(&case.message.0).to_bytes(),
            case.signature.0,
            "{}",
            case.name
        );
        assert!(verify(
            &file.public_key.0,
            &case.digest.0,
            &case.signature.0
        ));
        assert!(digests.insert(case.digest.0), "{} is another", case.name);
    }
}

#[test]
fn terms_have_their_hash_or_their_error() {
    let file: TermsFile = read("terms.json");
    for case in &file.cases {
        let rows = case.rows();
        let terms = case.as_terms(&rows);
        let fields = TermsFields {
            service: case.service.0,
            mint: case.mint.0,
            facilitator: case.facilitator.0,
            facilitator_bps: case.facilitator_bps,
            facilitator_fixed: case.facilitator_fixed.0,
            treasury_bps: case.treasury_bps,
            recipients: rows.clone(),
        };
        let hash = case.hash.as_ref().map(|hash| hash.0);
        assert_eq!(terms.hash().ok(), hash, "{}", case.name);
        if let Some(hash) = hash {
            assert_eq!(fields.reference_hash(), hash, "{}", case.name);
        }
        let error = terms.validate().err().map(terms_error_name);
        assert_eq!(error, case.error.as_deref(), "{}", case.name);
    }
    let errors: std::collections::HashSet<_> =
        file.cases.iter().filter_map(|c| c.error.as_ref()).collect();
    assert_eq!(errors.len(), 5, "every kind of refusal has a case");
}

#[test]
fn resources_have_their_tag() {
    let file: ResourceFile = read("resource.json");
    for case in &file.requests {
        assert_eq!(sha256(&[&case.body.0]), case.body_hash.0);
        let tag = resource::of_request(&case.method, &case.url, &case.body_hash.0);
        assert_eq!(tag, case.resource.0, "{} {}", case.method, case.url);
        let len = |text: &str| (text.len() as u32).to_le_bytes();
        let reference = sha256(&[
            b"sluice/resource/1\0",
            &len(&case.method),
            case.method.as_bytes(),
            &len(&case.url),
            case.url.as_bytes(),
            &[32, 0, 0, 0],
            &case.body_hash.0,
        ]);
        assert_eq!(reference[..16], case.resource.0);
    }
    for case in &file.identifiers {
        assert_eq!(resource::of_identifier(&case.identifier.0), case.resource.0);
        let len = (case.identifier.0.len() as u32).to_le_bytes();
        let reference = sha256(&[b"sluice/resource/1\x01", &len, &case.identifier.0]);
        assert_eq!(reference[..16], case.resource.0);
    }
}

#[test]
fn entries_and_flags_read_as_they_are_written() {
    let file: EntryFile = read("entry.json");
    for case in &file.cases {
        assert_eq!(case.as_entry().encode(), case.bytes.0, "{}", case.name);
        assert_eq!(
            Entry::decode(&case.bytes.0),
            case.as_entry(),
            "{}",
            case.name
        );
    }
    assert_eq!(file.flags.len(), 256);
    for (byte, case) in (0..=u8::MAX).zip(&file.flags) {
        assert_eq!(case.byte, byte);
        let flags = Flags::parse(byte);
        assert_eq!(flags.ok().map(|flags| flags.lane), case.lane);
        assert_eq!(flags.err().map(Skip::name), case.error.as_deref());
    }
}

#[test]
fn windows_take_and_refuse_as_they_are_written() {
    let file: WindowFile = read("window.json");
    let mut results = std::collections::HashSet::new();
    for sequence in &file.sequences {
        let mut window = sequence.start.as_window();
        assert_eq!(WindowState::of(&window), sequence.start);
        for step in &sequence.steps {
            let taken = window.take(step.nonce.0);
            window = taken.unwrap_or(window);
            let result = taken.map_or_else(Skip::name, |_| "taken");
            assert_eq!(result, step.result, "{}: {:?}", sequence.name, step);
            assert_eq!(
                WindowState::of(&window),
                step.state,
                "{}: {:?}",
                sequence.name,
                step
            );
            results.insert(step.result.as_str());
        }
    }
    assert_eq!(results.len(), 4, "every answer has a case");
}

#[test]
fn lanes_pay_and_refuse_as_they_are_written() {
    let file: LaneFile = read("lane.json");
    let mut results = std::collections::HashSet::new();
    for sequence in &file.sequences {
        let mut lane = Lane::zeroed();
        for step in &sequence.steps {
            let expect = match step {
                LaneStep::Set {
                    now,
                    key,
                    expires_at,
                    max_per_payment,
                    period_limit,
                    period_secs,
                    total_limit,
                    scope_kind,
                    scope_key,
                    account,
                } => {
                    let terms = LaneTerms {
                        key: key.0,
                        expires_at: expires_at.0,
                        max_per_payment: max_per_payment.0,
                        period_limit: period_limit.0,
                        period_secs: period_secs.0,
                        total_limit: total_limit.0,
                        scope: Scope::from_parts(*scope_kind, scope_key.0).unwrap(),
                    };
                    lane.set(&terms, now.0);
                    account
                }
                LaneStep::Pay {
                    now,
                    nonce,
                    amount,
                    service,
                    authority,
                    facilitator,
                    headroom,
                    result,
                    account,
                } => {
                    assert_eq!(lane.headroom(now.0), headroom.0, "{}", sequence.name);
                    let update = lane.check(&Spend {
                        nonce: nonce.0,
                        amount: amount.0,
                        now: now.0,
                        service: &service.0,
                        authority: &authority.0,
                        facilitator: &facilitator.0,
                    });
                    let found = update.map_or_else(Skip::name, |_| "paid");
                    assert_eq!(found, result, "{}: {:?}", sequence.name, step);
                    if let Ok(update) = update {
                        lane.apply(update);
                    }
                    results.insert(result.as_str());
                    account
                }
            };
            assert_eq!(
                bytemuck::bytes_of(&lane),
                &expect.0[..],
                "{}: {:?}",
                sequence.name,
                step
            );
        }
    }
    let all = [
        "paid",
        "lane_closed",
        "lane_expired",
        "scope",
        "nonce_used",
        "nonce_too_old",
        "nonce_too_far",
        "over_max",
        "over_period",
        "over_total",
    ];
    for result in all {
        assert!(results.contains(result), "{result} has no case");
    }
}

#[test]
fn sums_are_divided_as_they_are_written() {
    let file: SplitFile = read("split.json");
    for case in &file.cases {
        let computed = case.compute();
        assert_eq!(
            computed.as_ref().ok(),
            case.shares.as_ref(),
            "{}",
            case.name
        );
        let error = computed.err().map(split_error_name);
        assert_eq!(error, case.error.as_deref(), "{}", case.name);
        let Some(shares) = &case.shares else { continue };
        // The reference knows no treasury above the caps of terms, which leaves the facilitator nothing.
        if case.treasury_bps > 1_000 {
            continue;
        }
        let (treasury, facilitator, recipients) = reference_split(
            case.sum.0,
            case.payments.0,
            case.treasury_bps,
            case.facilitator_bps,
            case.facilitator_fixed.0,
            &case.recipient_bps,
        );
        assert_eq!(u128::from(shares.treasury.0), treasury, "{}", case.name);
        assert_eq!(
            u128::from(shares.facilitator.0),
            facilitator,
            "{}",
            case.name
        );
        let found: Vec<u128> = shares.recipients.iter().map(|leg| leg.0.into()).collect();
        assert_eq!(found, recipients, "{}", case.name);
    }
}

#[test]
fn signatures_get_the_verdict_that_is_written() {
    let file: SignatureFile = read("ed25519.json");
    assert!(file.cases.iter().any(|case| case.valid));
    for case in &file.cases {
        let (key, message, signature) = (&case.key.0, &case.message.0, &case.signature.0);
        assert_eq!(
            verify_bytes(key, message, signature),
            case.valid,
            "{}",
            case.name
        );
        let dalek = VerifyingKey::from_bytes(key).is_ok_and(|key| {
            key.verify_strict(message, &Signature::from_bytes(signature))
                .is_ok()
        });
        assert_eq!(dalek, case.valid, "{}", case.name);
        let equation = edge_cases::equation(key, message, signature);
        assert_eq!(equation.name(), case.equation, "{}", case.name);
    }
}
