//! What the suites share: how proptest is set up, the inputs it draws, and references that are written
//! from the specification alone and call nothing of the crate that they check.
// Each suite is its own binary and uses its part of this file.
#![allow(dead_code)]

pub mod reference;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, RngSeed};
use sha2::{Digest as _, Sha256};
use sluice_intent::{Intent, Key, Recipient, Resource, Terms};

/// Cases are drawn from this seed, so that a run that passed passes again. `PROPTEST_RNG_SEED` draws others,
/// `PROPTEST_CASES` draws more.
const SEED: u64 = 0x51_01CE;

/// The set-up of every property: a fixed seed, and failures kept in a file beside the suite.
pub fn config(cases: u32) -> ProptestConfig {
    // The default has read the environment by now; what was set there wins.
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(SEED);
    }
    // Some properties turn down a good part of what is drawn; only a strategy that hardly ever fits should fail.
    config.max_global_rejects = config.cases.saturating_mul(4).max(4_096);
    config.failure_persistence = Some(Box::new(FileFailurePersistence::WithSource(
        "proptest-regressions",
    )));
    config
}

/// A `u64` that is more often than not at an edge: small, large, near a multiple of 10,000 or a power of two.
pub fn edgy_u64() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => 0u64..=20,
        2 => (0u64..=20).prop_map(|below| u64::MAX - below),
        2 => (0u64..=u64::MAX / 10_000, 0u64..=2).prop_map(|(n, off)| (n * 10_000 + off).saturating_sub(1)),
        2 => (0u32..64, 0u64..=2).prop_map(|(bit, off)| (1u64 << bit).saturating_add(off) - 1),
        3 => any::<u64>(),
    ]
}

/// Keys of a small alphabet (so that they collide at times) and random ones.
pub fn key() -> impl Strategy<Value = Key> {
    prop_oneof![1 => (0u8..4).prop_map(|b| [b; 32]), 4 => any::<Key>()]
}

/// Shares of 1 to 8 recipients, each above 0, that add up to 10,000.
pub fn shares() -> impl Strategy<Value = Vec<u16>> {
    let cuts = (1usize..=8).prop_flat_map(|n| {
        proptest::collection::btree_set(1u16..10_000, n - 1)
            .prop_map(|cuts| cuts.into_iter().collect::<Vec<_>>())
    });
    // Uniform cuts rarely give tiny shares, and tiny shares are where floors show.
    let tiny = (1usize..=8).prop_map(|n| (1..n as u16).collect::<Vec<_>>());
    prop_oneof![4 => cuts, 1 => tiny].prop_flat_map(|cuts| {
        let mut rows = Vec::new();
        let mut from = 0;
        for cut in cuts.iter().copied().chain([10_000]) {
            rows.push(cut - from);
            from = cut;
        }
        Just(rows).prop_shuffle()
    })
}

/// The fields of an intent, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntentFields {
    pub genesis_hash: Key,
    pub program_id: Key,
    pub nonce_account: Key,
    pub opened_slot: u64,
    pub lane: u8,
    pub service: Key,
    pub terms_hash: Key,
    pub amount: u64,
    pub nonce: u64,
    pub expires_at: i64,
    pub resource: Resource,
}

impl IntentFields {
    pub fn as_intent(&self) -> Intent<'_> {
        Intent {
            genesis_hash: &self.genesis_hash,
            program_id: &self.program_id,
            nonce_account: &self.nonce_account,
            opened_slot: self.opened_slot,
            lane: self.lane,
            service: &self.service,
            terms_hash: &self.terms_hash,
            amount: self.amount,
            nonce: self.nonce,
            expires_at: self.expires_at,
            resource: self.resource,
        }
    }

    /// The bytes that are hashed, after the domain.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.genesis_hash);
        bytes.extend(self.program_id);
        bytes.extend(self.nonce_account);
        bytes.extend(self.opened_slot.to_le_bytes());
        bytes.push(self.lane);
        bytes.extend(self.service);
        bytes.extend(self.terms_hash);
        bytes.extend(self.amount.to_le_bytes());
        bytes.extend(self.nonce.to_le_bytes());
        bytes.extend(self.expires_at.to_le_bytes());
        bytes.extend(self.resource);
        bytes
    }

    /// The inverse of [`Self::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut at = 0;
        let mut next = |len: usize| {
            at += len;
            &bytes[at - len..at]
        };
        let fields = Self {
            genesis_hash: next(32).try_into().unwrap(),
            program_id: next(32).try_into().unwrap(),
            nonce_account: next(32).try_into().unwrap(),
            opened_slot: u64::from_le_bytes(next(8).try_into().unwrap()),
            lane: next(1)[0],
            service: next(32).try_into().unwrap(),
            terms_hash: next(32).try_into().unwrap(),
            amount: u64::from_le_bytes(next(8).try_into().unwrap()),
            nonce: u64::from_le_bytes(next(8).try_into().unwrap()),
            expires_at: i64::from_le_bytes(next(8).try_into().unwrap()),
            resource: next(16).try_into().unwrap(),
        };
        assert_eq!(at, bytes.len());
        fields
    }

    /// The digest by the specification: sha256 over the domain and every field in its order.
    pub fn reference_digest(&self) -> Key {
        sha256(&[b"sluice/intent/1", &self.to_bytes()])
    }
}

/// Any intent, whether or not it makes sense.
pub fn intent_fields() -> impl Strategy<Value = IntentFields> {
    let context = (
        key(),
        key(),
        key(),
        edgy_u64(),
        prop_oneof![0u8..2, any::<u8>()],
    );
    let payment = (
        key(),
        key(),
        edgy_u64(),
        edgy_u64(),
        any::<i64>(),
        any::<Resource>(),
    );
    (context, payment).prop_map(|(context, payment)| {
        let (genesis_hash, program_id, nonce_account, opened_slot, lane) = context;
        let (service, terms_hash, amount, nonce, expires_at, resource) = payment;
        IntentFields {
            genesis_hash,
            program_id,
            nonce_account,
            opened_slot,
            lane,
            service,
            terms_hash,
            amount,
            nonce,
            expires_at,
            resource,
        }
    })
}

/// The fields of terms, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermsFields {
    pub service: Key,
    pub mint: Key,
    pub facilitator: Key,
    pub facilitator_bps: u16,
    pub facilitator_fixed: u64,
    pub treasury_bps: u16,
    pub recipients: Vec<Recipient>,
}

impl TermsFields {
    pub fn as_terms(&self) -> Terms<'_> {
        Terms {
            service: self.service,
            mint: self.mint,
            facilitator: self.facilitator,
            facilitator_bps: self.facilitator_bps,
            facilitator_fixed: self.facilitator_fixed,
            treasury_bps: self.treasury_bps,
            recipients: &self.recipients,
        }
    }

    /// The terms hash by the specification.
    pub fn reference_hash(&self) -> Key {
        let mut hasher = Sha256::new();
        hasher.update(b"sluice/terms/1");
        hasher.update(self.service);
        hasher.update(self.mint);
        hasher.update(self.facilitator);
        hasher.update(self.facilitator_bps.to_le_bytes());
        hasher.update(self.facilitator_fixed.to_le_bytes());
        hasher.update(self.treasury_bps.to_le_bytes());
        hasher.update([u8::try_from(self.recipients.len()).unwrap()]);
        for row in &self.recipients {
            hasher.update(row.owner);
            hasher.update(row.token_account);
            hasher.update(row.bps.to_le_bytes());
        }
        hasher.finalize().into()
    }
}

/// One recipient, whether or not it makes sense.
pub fn recipient() -> impl Strategy<Value = Recipient> {
    (key(), key(), any::<u16>()).prop_map(|(owner, token_account, bps)| Recipient {
        owner,
        token_account,
        bps,
    })
}

/// Any terms that can be hashed, whether or not they are acceptable.
pub fn terms_fields() -> impl Strategy<Value = TermsFields> {
    let head = (key(), key(), key(), any::<u16>(), edgy_u64(), any::<u16>());
    (head, vec(recipient(), 1..=8)).prop_map(|(head, recipients)| {
        let (service, mint, facilitator, facilitator_bps, facilitator_fixed, treasury_bps) = head;
        TermsFields {
            service,
            mint,
            facilitator,
            facilitator_bps,
            facilitator_fixed,
            treasury_bps,
            recipients,
        }
    })
}

/// Terms that a service may have.
pub fn valid_terms() -> impl Strategy<Value = TermsFields> {
    let head = (key(), key(), key(), 0u16..=5_000, edgy_u64(), 0u16..=1_000);
    (head, shares(), any::<Key>()).prop_map(|(head, shares, wallet)| {
        let (service, mint, facilitator, facilitator_bps, facilitator_fixed, treasury_bps) = head;
        let recipients = shares
            .iter()
            .enumerate()
            .map(|(i, bps)| {
                // Owners must differ, their accounts need not for the hash.
                let mut owner = wallet;
                owner[0] = owner[0].wrapping_add(i as u8);
                Recipient {
                    owner,
                    token_account: [i as u8; 32],
                    bps: *bps,
                }
            })
            .collect();
        TermsFields {
            service,
            mint,
            facilitator,
            facilitator_bps,
            facilitator_fixed,
            treasury_bps,
            recipients,
        }
    })
}

/// sha256 over the parts, one after the other.
pub fn sha256(parts: &[&[u8]]) -> Key {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}
