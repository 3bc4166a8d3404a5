//! The pieces together (I2, I7): over any sequence of opening, closing, reopening, changing keys and settling,
//! with entries that a hostile relayer edits or sends elsewhere, an intent settles at most once, only as it was
//! signed, and nothing that one payer does changes the outcome of another.
//!
//! The accounts and the order of the steps stand in for the program; digest, signature, lane and window are
//! the crate's.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::{HashMap, HashSet};

use bytemuck::Zeroable;
use ed25519_dalek::{Signer, SigningKey};
use proptest::collection::vec;
use proptest::prelude::*;
use sluice_intent::signature::verify;
use sluice_intent::{
    Digest, Entry, Flags, Intent, Key, LANES, Lane, LaneTerms, Scope, Skip, Spend, UNLIMITED,
    intent,
};
use support::config;

const NOW: i64 = 1_700_000_000;
const GENESIS: Key = [1; 32];
const PROGRAM: Key = [2; 32];
const SERVICE: Key = [3; 32];
const TERMS: Key = [4; 32];

#[derive(Clone, Debug)]
enum Op {
    Open {
        payer: usize,
    },
    Close {
        payer: usize,
    },
    SetLane {
        payer: usize,
        lane: usize,
        key: usize,
    },
    Sign {
        payer: usize,
        lane: u8,
        key: usize,
        amount: u64,
        nonce: u64,
    },
    Settle {
        payer: usize,
        which: prop::sample::Index,
        edit: Edit,
    },
    NextSlot,
}

/// What the relayer does to a signed entry before it sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edit {
    Nothing,
    Amount,
    Nonce,
    Expiry,
    Resource,
    Lane,
    Signature,
}

fn op() -> impl Strategy<Value = Op> {
    let edit = prop_oneof![
        8 => Just(Edit::Nothing),
        1 => Just(Edit::Amount),
        1 => Just(Edit::Nonce),
        1 => Just(Edit::Expiry),
        1 => Just(Edit::Resource),
        1 => Just(Edit::Lane),
        1 => Just(Edit::Signature),
    ];
    let payer = || 0usize..2;
    prop_oneof![
        1 => payer().prop_map(|payer| Op::Open { payer }),
        1 => payer().prop_map(|payer| Op::Close { payer }),
        3 => (payer(), 0..LANES, 0usize..=2).prop_map(|(payer, lane, key)| Op::SetLane { payer, lane, key }),
        8 => (payer(), 0u8..2, 1usize..=2, 1u64..=2, 0u64..=4).prop_map(
            |(payer, lane, key, amount, nonce)| Op::Sign { payer, lane, key, amount, nonce }
        ),
        14 => (payer(), any::<prop::sample::Index>(), edit)
            .prop_map(|(payer, which, edit)| Op::Settle { payer, which, edit }),
        2 => Just(Op::NextSlot),
    ]
}

struct Account {
    opened_slot: u64,
    lanes: [Lane; LANES],
}

/// A signed entry, and the payer it was signed for.
struct Signed {
    payer: usize,
    entry: Entry,
}

#[derive(Default)]
struct World {
    slot: u64,
    accounts: [Option<Account>; 2],
    pool: Vec<Signed>,
    /// Which key signed which digest.
    signers: HashMap<Digest, HashSet<Key>>,
    settled: HashSet<Digest>,
}

/// The keys are the same for both payers, so that only the digest keeps their intents apart.
fn signing_key(index: usize) -> SigningKey {
    SigningKey::from_bytes(&[index as u8; 32])
}

fn public_key(index: usize) -> Key {
    match index {
        0 => [0; 32],
        _ => signing_key(index).verifying_key().to_bytes(),
    }
}

fn digest(payer: usize, opened_slot: u64, entry: &Entry) -> Digest {
    Intent {
        genesis_hash: &GENESIS,
        program_id: &PROGRAM,
        nonce_account: &[0x80 + payer as u8; 32],
        opened_slot,
        lane: entry.flags,
        service: &SERVICE,
        terms_hash: &TERMS,
        amount: entry.amount,
        nonce: entry.nonce,
        expires_at: i64::from(entry.expires_at),
        resource: entry.resource,
    }
    .digest()
}

impl World {
    fn sign(&mut self, payer: usize, lane: u8, key: usize, amount: u64, nonce: u64) {
        let mut entry = Entry {
            signature: [0; 64],
            amount,
            nonce,
            expires_at: NOW as u32 + 60,
            resource: [5; 16],
            flags: lane,
        };
        let opened_slot = self.accounts[payer].as_ref().map_or(0, |a| a.opened_slot);
        let digest = digest(payer, opened_slot, &entry);
        entry.signature = signing_key(key).sign(&intent::message(&digest)).to_bytes();
        self.signers
            .entry(digest)
            .or_default()
            .insert(public_key(key));
        self.pool.push(Signed { payer, entry });
    }

    /// The program's steps: account, flags, lane, digest, signature, and only then the change.
    fn settle(&mut self, payer: usize, wire: &Entry) -> Result<Digest, Skip> {
        let entry = Entry::decode(&wire.encode());
        let account = self.accounts[payer].as_mut().ok_or(Skip::AccountMissing)?;
        let lane_index = Flags::parse(entry.flags)?.lane;
        let lane = &mut account.lanes[usize::from(lane_index)];
        let update = lane.check(&Spend {
            nonce: entry.nonce,
            amount: entry.amount,
            now: NOW,
            service: &SERVICE,
            authority: &[6; 32],
            facilitator: &[7; 32],
        })?;
        let digest = digest(payer, account.opened_slot, &entry);
        if !verify(&lane.key, &digest, &entry.signature) {
            return Err(Skip::BadSignature);
        }
        lane.apply(update);
        assert!(
            self.signers[&digest].contains(&lane.key),
            "settled what the lane's key never signed"
        );
        assert!(self.settled.insert(digest), "an intent settled twice");
        Ok(digest)
    }

    fn apply(&mut self, op: &Op) -> Option<(usize, Result<Digest, Skip>)> {
        match op {
            Op::Open { payer } => {
                let opened_slot = self.slot;
                self.accounts[*payer].get_or_insert(Account {
                    opened_slot,
                    lanes: [Lane::zeroed(); LANES],
                });
            }
            Op::Close { payer } => {
                // Only in a later slot than the opening; see the test of the reason below.
                let slot = self.slot;
                let _ = self.accounts[*payer].take_if(|account| slot > account.opened_slot);
            }
            Op::SetLane { payer, lane, key } => {
                if let Some(account) = &mut self.accounts[*payer] {
                    account.lanes[*lane].set(&lane_terms(public_key(*key)), NOW);
                }
            }
            Op::Sign {
                payer,
                lane,
                key,
                amount,
                nonce,
            } => self.sign(*payer, *lane, *key, *amount, *nonce),
            Op::Settle { payer, which, edit } if !self.pool.is_empty() => {
                let signed = &self.pool[which.index(self.pool.len())];
                let mut entry = signed.entry;
                match edit {
                    Edit::Nothing => {}
                    Edit::Amount => entry.amount += 1,
                    Edit::Nonce => entry.nonce += 1,
                    Edit::Expiry => entry.expires_at += 1,
                    Edit::Resource => entry.resource[0] ^= 1,
                    Edit::Lane => entry.flags ^= 1,
                    Edit::Signature => entry.signature[40] ^= 1,
                }
                let elsewhere = signed.payer != *payer;
                let outcome = self.settle(*payer, &entry);
                // Another account pins another digest. An edited one may be an intent that was signed as well
                // (with a deterministic signature of its own, hence not this one).
                assert!(outcome.is_err() || (!elsewhere && *edit == Edit::Nothing));
                return Some((*payer, outcome));
            }
            Op::Settle { .. } => {}
            Op::NextSlot => self.slot += 1,
        }
        None
    }
}

fn lane_terms(key: Key) -> LaneTerms {
    LaneTerms {
        key,
        expires_at: i64::MAX,
        max_per_payment: UNLIMITED,
        period_limit: UNLIMITED,
        period_secs: 0,
        total_limit: UNLIMITED,
        scope: Scope::Any,
    }
}

/// The sequence behind an opening of both accounts and both lanes, so that there is something to settle.
fn with_opening(ops: Vec<Op>) -> Vec<Op> {
    let mut all = Vec::new();
    for payer in 0..2 {
        all.push(Op::Open { payer });
        for lane in 0..LANES {
            let key = lane + 1;
            all.push(Op::SetLane { payer, lane, key });
        }
    }
    all.extend(ops);
    all
}

fn run(ops: &[Op]) -> Vec<(usize, Result<Digest, Skip>)> {
    let mut world = World::default();
    ops.iter().filter_map(|op| world.apply(op)).collect()
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn an_intent_settles_at_most_once_and_only_as_it_was_signed(ops in vec(op(), 40..120)) {
        run(&with_opening(ops));
    }

    #[test]
    fn what_one_payer_does_never_changes_the_outcome_of_another(ops in vec(op(), 40..120)) {
        let ops = with_opening(ops);
        let alone: Vec<Op> = ops
            .iter()
            .filter(|op| !matches!(
                op,
                Op::Open { payer: 1 } | Op::Close { payer: 1 } | Op::SetLane { payer: 1, .. } | Op::Settle { payer: 1, .. }
            ))
            .cloned()
            .collect();
        let of_first = |outcomes: Vec<(usize, Result<Digest, Skip>)>| -> Vec<Result<Digest, Skip>> {
            outcomes.into_iter().filter(|(payer, _)| *payer == 0).map(|(_, outcome)| outcome).collect()
        };
        prop_assert_eq!(of_first(run(&ops)), of_first(run(&alone)));
    }
}

/// An opened account whose first lane signs with key 1, and one entry for it.
fn opened() -> (World, Entry) {
    let mut world = World {
        slot: 10,
        ..World::default()
    };
    world.apply(&Op::Open { payer: 0 });
    world.apply(&Op::SetLane {
        payer: 0,
        lane: 0,
        key: 1,
    });
    world.sign(0, 0, 1, 5, 0);
    let entry = world.pool[0].entry;
    (world, entry)
}

#[test]
fn an_intent_settles_and_then_no_more() {
    let (mut world, entry) = opened();
    assert!(world.settle(0, &entry).is_ok());
    assert_eq!(world.settle(0, &entry), Err(Skip::NonceUsed));
}

#[test]
fn a_reopened_account_revives_nothing() {
    let (mut world, entry) = opened();
    assert!(world.settle(0, &entry).is_ok());
    for op in [
        Op::NextSlot,
        Op::Close { payer: 0 },
        Op::Open { payer: 0 },
        Op::SetLane {
            payer: 0,
            lane: 0,
            key: 1,
        },
    ] {
        world.apply(&op);
    }
    // The window is new, the slot in the digest is not the one that was signed.
    assert_eq!(world.settle(0, &entry), Err(Skip::BadSignature));
}

#[test]
fn closing_in_the_slot_of_the_opening_would_revive_an_intent() {
    // The reason for the rule: the same slot makes the same digest, and the window would be new.
    let (mut world, entry) = opened();
    let first = world.settle(0, &entry).unwrap();
    world.apply(&Op::Close { payer: 0 });
    assert_eq!(
        world.settle(0, &entry),
        Err(Skip::NonceUsed),
        "the close was refused"
    );
    let again = digest(0, world.slot, &entry);
    assert_eq!(again, first);
}

#[test]
fn a_used_nonce_stays_used_through_a_change_of_keys_and_back() {
    let (mut world, entry) = opened();
    assert!(world.settle(0, &entry).is_ok());
    for key in [2, 0, 1] {
        world.apply(&Op::SetLane {
            payer: 0,
            lane: 0,
            key,
        });
    }
    assert_eq!(world.settle(0, &entry), Err(Skip::NonceUsed));
}

#[test]
fn a_key_that_was_replaced_signs_nothing_any_more() {
    let (mut world, entry) = opened();
    world.apply(&Op::SetLane {
        payer: 0,
        lane: 0,
        key: 2,
    });
    assert_eq!(world.settle(0, &entry), Err(Skip::BadSignature));
    // And settles again when it is back, as nobody took its nonce.
    world.apply(&Op::SetLane {
        payer: 0,
        lane: 0,
        key: 1,
    });
    assert!(world.settle(0, &entry).is_ok());
}

#[test]
fn a_refused_signature_takes_no_nonce() {
    let (mut world, entry) = opened();
    let forged = Entry {
        signature: [9; 64],
        ..entry
    };
    assert_eq!(world.settle(0, &forged), Err(Skip::BadSignature));
    assert!(world.settle(0, &entry).is_ok());
}

#[test]
fn the_lanes_of_an_account_have_windows_of_their_own() {
    let (mut world, entry) = opened();
    world.apply(&Op::SetLane {
        payer: 0,
        lane: 1,
        key: 1,
    });
    world.sign(0, 1, 1, 5, 0);
    let other = world.pool[1].entry;
    assert!(world.settle(0, &entry).is_ok());
    assert!(world.settle(0, &other).is_ok());
}

#[test]
fn a_random_sequence_settles_something() {
    // Were nothing ever settled, the properties above would say nothing.
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::new(config(1));
    let mut settled = 0;
    for _ in 0..16 {
        let ops = vec(op(), 100..120).new_tree(&mut runner).unwrap().current();
        settled += run(&with_opening(ops))
            .iter()
            .filter(|(_, outcome)| outcome.is_ok())
            .count();
    }
    assert!(settled > 16, "only {settled} in 16 sequences");
}
