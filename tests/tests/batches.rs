//! One bad entry among good ones, in every way that an entry can be bad: the others are paid as if it were not there,
//! its code says why, and it has changed nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeSet;

use sluice::SluiceError;
use sluice_intent::{LaneTerms, Scope, Skip, UNLIMITED};
use sluice_sdk::{
    Address, PROGRAM_ID, SYSTEM_PROGRAM, UnsignedIntent, address,
    instructions::{self, SettleItem},
    token::{self, TOKEN_2022_PROGRAM, TOKEN_PROGRAM},
    transaction::Version,
};
use sluice_tests::{Outcome, Payer, TokenState, World, lane_terms, row};
use solana_account::Account;
use solana_keypair::Keypair;
use solana_signer::Signer;
use support::refused;

const HOLDS: u64 = 10_000_000;

/// Four recipients.
fn world() -> World {
    World::with_recipients(&[3_900, 3_001, 2_999, 100])
}

/// How an entry is bad: its name, the code it gets, and what makes it so, for a fresh payer whose nonce account is
/// open, with both lanes unlimited and 10 million units approved.
type Kind = (&'static str, Skip, fn(&mut World, &Payer) -> SettleItem);

fn entry(world: &mut World, payer: &Payer, change: impl FnOnce(&mut SettleItem)) -> SettleItem {
    let mut item = world.item(payer, 1_000, 0);
    change(&mut item);
    item
}

fn intent(
    world: &mut World,
    payer: &Payer,
    change: impl FnOnce(&mut UnsignedIntent),
) -> SettleItem {
    let mut intent = world.intent(payer, 1_000, 0);
    change(&mut intent);
    payer.item(&payer.sign(intent))
}

fn lane(world: &mut World, payer: &Payer, change: impl FnOnce(&mut LaneTerms)) -> SettleItem {
    let mut terms = lane_terms(payer.session.pubkey());
    change(&mut terms);
    world.set_lane(payer, 1, &terms).unwrap();
    world.item(payer, 1_000, 0)
}

fn source(world: &mut World, payer: &Payer, change: impl FnOnce(&mut TokenState)) -> SettleItem {
    let item = world.item(payer, 1_000, 0);
    world.change_token(payer.source, change);
    item
}

fn nonce_account(world: &mut World, payer: &Payer, key: Address) -> SettleItem {
    entry(world, payer, |item| item.nonce_account = key)
}

/// A copy of an account's data at a new address, under another owner.
fn copy(world: &mut World, from: Address, owner: Address) -> Address {
    let key = Address::new_unique();
    let data = world.svm.get_account(&from).unwrap().data;
    world.put(key, data, owner);
    key
}

const KINDS: &[Kind] = &[
    ("a flipped bit of R", Skip::BadSignature, |world, payer| {
        entry(world, payer, |item| item.entry.signature[0] ^= 1)
    }),
    ("a flipped bit of s", Skip::BadSignature, |world, payer| {
        entry(world, payer, |item| item.entry.signature[63] ^= 1)
    }),
    ("no signature", Skip::BadSignature, |world, payer| {
        entry(world, payer, |item| item.entry.signature = [0; 64])
    }),
    (
        "the other lane's key",
        Skip::BadSignature,
        |world, payer| {
            let intent = world.intent(payer, 1_000, 0);
            payer.item(&intent.sign(&payer.wallet).unwrap())
        },
    ),
    ("a stranger's key", Skip::BadSignature, |world, payer| {
        let intent = world.intent(payer, 1_000, 0);
        payer.item(&intent.sign(&Keypair::new()).unwrap())
    }),
    ("another amount", Skip::BadSignature, |world, payer| {
        entry(world, payer, |item| item.entry.amount += 1)
    }),
    ("another nonce", Skip::BadSignature, |world, payer| {
        entry(world, payer, |item| item.entry.nonce += 1)
    }),
    ("another expiry", Skip::BadSignature, |world, payer| {
        entry(world, payer, |item| item.entry.expires_at -= 1)
    }),
    ("another resource", Skip::BadSignature, |world, payer| {
        entry(world, payer, |item| item.entry.resource[15] ^= 128)
    }),
    ("another lane", Skip::BadSignature, |world, payer| {
        entry(world, payer, |item| item.entry.flags = 0)
    }),
    ("other terms", Skip::BadSignature, |world, payer| {
        intent(world, payer, |intent| intent.terms_hash = [1; 32])
    }),
    ("another service", Skip::BadSignature, |world, payer| {
        intent(world, payer, |intent| {
            intent.service = Address::new_unique()
        })
    }),
    ("another cluster", Skip::BadSignature, |world, payer| {
        intent(world, payer, |intent| intent.genesis_hash = [8; 32])
    }),
    ("another opening", Skip::BadSignature, |world, payer| {
        intent(world, payer, |intent| intent.opened_slot += 1)
    }),
    ("a replay", Skip::NonceUsed, |world, payer| {
        let item = world.item(payer, 1_000, 0);
        world.settle(&[item], true).unwrap();
        item
    }),
    ("a used nonce", Skip::NonceUsed, |world, payer| {
        let item = world.item(payer, 1_000, 0);
        world.settle(&[item], true).unwrap();
        world.item(payer, 7, 0)
    }),
    (
        "a nonce below the window",
        Skip::NonceTooOld,
        |world, payer| {
            for nonce in [128, 256] {
                let item = world.item(payer, 10, nonce);
                world.settle(&[item], true).unwrap();
            }
            world.item(payer, 1_000, 0)
        },
    ),
    ("a nonce too far", Skip::NonceTooFar, |world, payer| {
        intent(world, payer, |intent| intent.nonce = 129)
    }),
    (
        "the last nonce of all",
        Skip::NonceTooFar,
        |world, payer| intent(world, payer, |intent| intent.nonce = u64::MAX),
    ),
    ("expired", Skip::Expired, |world, payer| {
        intent(world, payer, |intent| intent.expires_at -= 61)
    }),
    ("expired long ago", Skip::Expired, |world, payer| {
        intent(world, payer, |intent| intent.expires_at = 0)
    }),
    (
        "expires too far ahead",
        Skip::ExpiryTooFar,
        |world, payer| intent(world, payer, |intent| intent.expires_at += 541),
    ),
    ("never expires", Skip::ExpiryTooFar, |world, payer| {
        intent(world, payer, |intent| intent.expires_at = u32::MAX)
    }),
    ("a closed lane", Skip::LaneClosed, |world, payer| {
        lane(world, payer, |terms| terms.key = [0; 32])
    }),
    ("an expired lane", Skip::LaneExpired, |world, payer| {
        let now = world.time();
        lane(world, payer, |terms| terms.expires_at = now - 1)
    }),
    ("another service's scope", Skip::Scope, |world, payer| {
        lane(world, payer, |terms| terms.scope = Scope::Service([1; 32]))
    }),
    ("another authority's scope", Skip::Scope, |world, payer| {
        lane(world, payer, |terms| {
            terms.scope = Scope::Authority([1; 32])
        })
    }),
    (
        "another facilitator's scope",
        Skip::Scope,
        |world, payer| {
            lane(world, payer, |terms| {
                terms.scope = Scope::Facilitator([1; 32])
            })
        },
    ),
    ("over the limit a payment", Skip::OverMax, |world, payer| {
        lane(world, payer, |terms| terms.max_per_payment = 999)
    }),
    (
        "over the limit a period",
        Skip::OverPeriod,
        |world, payer| {
            lane(world, payer, |terms| {
                (terms.period_limit, terms.period_secs) = (999, 10);
            })
        },
    ),
    ("over the limit in all", Skip::OverTotal, |world, payer| {
        lane(world, payer, |terms| terms.total_limit = 999)
    }),
    ("nothing", Skip::BelowMinimum, |world, payer| {
        intent(world, payer, |intent| intent.amount = 0)
    }),
    ("above the maximum", Skip::AboveMaximum, |world, payer| {
        intent(world, payer, |intent| intent.amount = 1_000_000_000_001)
    }),
    ("everything there is", Skip::AboveMaximum, |world, payer| {
        intent(world, payer, |intent| intent.amount = UNLIMITED)
    }),
    ("an unknown lane", Skip::UnknownFlag, |world, payer| {
        entry(world, payer, |item| item.entry.flags = 2)
    }),
    ("an envelope", Skip::UnknownFlag, |world, payer| {
        entry(world, payer, |item| item.entry.flags |= 4)
    }),
    ("every flag", Skip::UnknownFlag, |world, payer| {
        entry(world, payer, |item| item.entry.flags = 255)
    }),
    (
        "another source of the payer",
        Skip::SourceMismatch,
        |world, payer| {
            let other = world.open_other_token(payer.key());
            entry(world, payer, |item| item.source = other)
        },
    ),
    (
        "the vault as source",
        Skip::SourceMismatch,
        |world, payer| {
            let vault = world.vault();
            entry(world, payer, |item| item.source = vault)
        },
    ),
    (
        "a recipient's account as source",
        Skip::SourceMismatch,
        |world, payer| {
            let other = world.token_of(&world.recipients[0]);
            entry(world, payer, |item| item.source = other)
        },
    ),
    (
        "the nonce account as source",
        Skip::SourceMismatch,
        |world, payer| entry(world, payer, |item| item.source = item.nonce_account),
    ),
    (
        "no account as source",
        Skip::SourceMismatch,
        |world, payer| entry(world, payer, |item| item.source = Address::new_unique()),
    ),
    ("a closed source", Skip::SourceUnusable, |world, payer| {
        let item = world.item(payer, 1_000, 0);
        world.remove(payer.source);
        item
    }),
    (
        "a source of another mint",
        Skip::SourceUnusable,
        |world, payer| source(world, payer, |state| state.mint = Address::new_unique()),
    ),
    (
        "a source of another program",
        Skip::SourceUnusable,
        |world, payer| {
            let item = world.item(payer, 1_000, 0);
            let account = world.svm.get_account(&payer.source).unwrap();
            let owner = TOKEN_2022_PROGRAM;
            world
                .svm
                .set_account(payer.source, Account { owner, ..account })
                .unwrap();
            item
        },
    ),
    (
        "an uninitialised source",
        Skip::SourceUnusable,
        |world, payer| {
            let item = world.item(payer, 1_000, 0);
            world.put(payer.source, vec![0; 165], TOKEN_PROGRAM);
            item
        },
    ),
    (
        "a source that is a mint",
        Skip::SourceUnusable,
        |world, payer| {
            let item = world.item(payer, 1_000, 0);
            let data = world.svm.get_account(&world.mint).unwrap().data;
            world.put(payer.source, data, TOKEN_PROGRAM);
            item
        },
    ),
    (
        "a source that changed hands",
        Skip::OwnerChanged,
        |world, payer| source(world, payer, |state| state.owner = Address::new_unique()),
    ),
    ("a frozen source", Skip::SourceFrozen, |world, payer| {
        let item = world.item(payer, 1_000, 0);
        world.freeze(&payer.source);
        item
    }),
    ("a revoked approval", Skip::DelegateGone, |world, payer| {
        let item = world.item(payer, 1_000, 0);
        let relayer = world.relayer.insecure_clone();
        let revoke = token::revoke(&payer.key(), &world.mint, &token::TOKEN_PROGRAM);
        world.send(&[revoke], &[&relayer, &payer.wallet]).unwrap();
        item
    }),
    ("another delegate", Skip::DelegateGone, |world, payer| {
        source(world, payer, |state| {
            state.delegate = Some((Address::new_unique(), HOLDS));
        })
    }),
    (
        "another payer's delegate",
        Skip::DelegateGone,
        |world, payer| {
            let other = world.payer(HOLDS);
            source(world, payer, |state| {
                state.delegate = Some((other.nonce_account, HOLDS));
            })
        },
    ),
    (
        "an approval that is short",
        Skip::DelegatedShort,
        |world, payer| {
            source(world, payer, |state| {
                state.delegate = state.delegate.map(|(key, _)| (key, 999));
            })
        },
    ),
    (
        "a balance that is short",
        Skip::BalanceShort,
        |world, payer| source(world, payer, |state| state.amount = 999),
    ),
    ("an empty source", Skip::BalanceShort, |world, payer| {
        source(world, payer, |state| state.amount = 0)
    }),
    (
        "a nonce account never opened",
        Skip::AccountMissing,
        |world, payer| nonce_account(world, payer, Address::new_unique()),
    ),
    (
        "a closed nonce account",
        Skip::AccountMissing,
        |world, payer| {
            let item = world.item(payer, 1_000, 0);
            world.pass_slots(1);
            let relayer = world.relayer.insecure_clone();
            let key = payer.key();
            let close = instructions::close_nonce(&key, &key, &world.mint, &relayer.pubkey());
            world.send(&[close], &[&relayer, &payer.wallet]).unwrap();
            item
        },
    ),
    (
        "a wallet as nonce account",
        Skip::AccountMissing,
        |world, payer| {
            let key = world.relayer.pubkey();
            nonce_account(world, payer, key)
        },
    ),
    (
        "another payer's nonce account",
        Skip::SourceMismatch,
        |world, payer| {
            let other = world.payer(HOLDS);
            nonce_account(world, payer, other.nonce_account)
        },
    ),
    (
        "another payer's accounts",
        Skip::BadSignature,
        |world, payer| {
            let other = world.payer(HOLDS);
            entry(world, payer, |item| {
                (item.source, item.nonce_account) = (other.source, other.nonce_account);
            })
        },
    ),
    (
        "a forged nonce account",
        Skip::AccountForeign,
        |world, payer| {
            let key = copy(world, payer.nonce_account, TOKEN_PROGRAM);
            nonce_account(world, payer, key)
        },
    ),
    (
        "a nonce account of the system program",
        Skip::AccountForeign,
        |world, payer| {
            let key = copy(world, payer.nonce_account, SYSTEM_PROGRAM);
            nonce_account(world, payer, key)
        },
    ),
    (
        "a nonce account that is cut short",
        Skip::AccountForeign,
        |world, payer| {
            let item = world.item(payer, 1_000, 0);
            let mut data = world.svm.get_account(&payer.nonce_account).unwrap().data;
            data.pop();
            world.put(payer.nonce_account, data, PROGRAM_ID);
            item
        },
    ),
    (
        "an empty account of the program",
        Skip::AccountForeign,
        |world, payer| {
            let key = Address::new_unique();
            world.put(key, vec![], PROGRAM_ID);
            nonce_account(world, payer, key)
        },
    ),
    (
        "a nonce account of another version",
        Skip::AccountVersion,
        |world, payer| {
            let item = world.item(payer, 1_000, 0);
            let mut account = world.svm.get_account(&payer.nonce_account).unwrap();
            // 8 discriminator, 24 counters, 128 keys, then the version.
            account.data[160] = 2;
            world.svm.set_account(payer.nonce_account, account).unwrap();
            item
        },
    ),
    (
        "a nonce account of another mint",
        Skip::MintMismatch,
        |world, payer| {
            let usual = world.mint;
            let other = copy(world, usual, TOKEN_PROGRAM);
            world.mint = other;
            world.open_token(world.treasury, 0);
            world.set_mint(true);
            let stranger = world.payer(HOLDS);
            world.mint = usual;
            let mut item = world.item(payer, 1_000, 0);
            (item.nonce_account, item.source) = (stranger.nonce_account, stranger.source);
            item
        },
    ),
    (
        "the source as nonce account",
        Skip::AccountForeign,
        |world, payer| nonce_account(world, payer, payer.source),
    ),
    (
        "the service as nonce account",
        Skip::AccountForeign,
        |world, payer| nonce_account(world, payer, world.service),
    ),
    (
        "the config as nonce account",
        Skip::AccountForeign,
        |world, payer| nonce_account(world, payer, address::config().0),
    ),
    (
        "the accepted mint as nonce account",
        Skip::AccountForeign,
        |world, payer| {
            let key = address::accepted_mint(&world.mint).0;
            nonce_account(world, payer, key)
        },
    ),
    (
        "the facilitator as nonce account",
        Skip::AccountForeign,
        |world, payer| {
            let key = world.facilitator();
            nonce_account(world, payer, key)
        },
    ),
    (
        "the vault as nonce account",
        Skip::AccountForeign,
        |world, payer| {
            let key = world.vault();
            nonce_account(world, payer, key)
        },
    ),
    (
        "the mint as nonce account",
        Skip::AccountForeign,
        |world, payer| {
            let key = world.mint;
            nonce_account(world, payer, key)
        },
    ),
    (
        "the treasury's account as nonce account",
        Skip::AccountForeign,
        |world, payer| {
            let key = world.token_of(&world.treasury);
            nonce_account(world, payer, key)
        },
    ),
    (
        "a recipient's account as nonce account",
        Skip::AccountForeign,
        |world, payer| {
            let key = world.token_of(&world.recipients[2]);
            nonce_account(world, payer, key)
        },
    ),
    (
        "another service as nonce account",
        Skip::AccountForeign,
        |world, payer| {
            let key = copy(world, world.service, PROGRAM_ID);
            nonce_account(world, payer, key)
        },
    ),
    (
        "the system program as nonce account",
        Skip::AccountForeign,
        |world, payer| nonce_account(world, payer, SYSTEM_PROGRAM),
    ),
    (
        "the token program as nonce account",
        Skip::AccountForeign,
        |world, payer| nonce_account(world, payer, TOKEN_PROGRAM),
    ),
    (
        "this program as nonce account",
        Skip::AccountForeign,
        |world, payer| nonce_account(world, payer, PROGRAM_ID),
    ),
    (
        "everything somebody else's",
        Skip::SourceMismatch,
        |world, payer| {
            let (a, b) = (world.payer(HOLDS), world.payer(HOLDS));
            entry(world, payer, |item| {
                (item.source, item.nonce_account) = (a.source, b.nonce_account);
            })
        },
    ),
];

/// Settles a batch of good payers with one bad entry in it, for each kind, and checks everything around it.
fn run(version: Version, good: usize) {
    let mut world = world();
    let payers: Vec<_> = (0..good).map(|_| world.payer(1_000_000_000)).collect();
    let mut reasons = BTreeSet::new();
    for (i, (name, reason, make)) in KINDS.iter().enumerate() {
        let bad = world.payer(HOLDS);
        let item = make(&mut world, &bad);
        let at = (i * 7) % (good + 1);
        let nonce = i as u64;
        let mut items: Vec<_> = payers
            .iter()
            .enumerate()
            .map(|(n, payer)| world.item(payer, 10_007 + n as u64, nonce))
            .collect();
        let sum: u64 = items.iter().map(|item| item.entry.amount).sum();
        items.insert(at, item);

        let mut all: Vec<_> = payers.iter().collect();
        all.push(&bad);
        let money = world.money(&all);
        let sources: Vec<_> = payers.iter().map(|p| world.balance(&p.source)).collect();
        let legs = legs(&world);
        let untouched = [bad.nonce_account, bad.source].map(|key| world.svm.get_account(&key));
        let service = world.current();

        let instruction = world.settle_instruction(&items, false);
        let relayer = world.relayer.insecure_clone();
        let outcome = world
            .send_version(version, &[instruction], &[&relayer])
            .unwrap_or_else(|failure| panic!("{name}: {:?} {:#?}", failure.error, failure.logs));

        let mut expected = vec![None; good];
        expected.insert(at, Some(*reason));
        assert_eq!(outcome.skips(), expected, "{name}");
        let event = outcome.event();
        assert_eq!(event.codes, outcome.codes, "{name}: return data and event");
        assert_eq!((event.total, event.held), (sum, 0), "{name}");
        let split = service.split(sum, good as u64).unwrap();
        assert_eq!(event.recipients, split.recipients[..4], "{name}");
        let due = [&split.recipients[..4], &[split.treasury, split.facilitator]].concat();
        for (n, before) in legs.into_iter().enumerate() {
            let (key, before) = before;
            assert_eq!(world.balance(&key), before + due[n], "{name}: leg {n}");
        }
        for (n, payer) in payers.iter().enumerate() {
            let left = sources[n] - 10_007 - n as u64;
            assert_eq!(world.balance(&payer.source), left, "{name}: payer {n}");
            let lane = world.nonce_account(&payer.nonce_account).lanes[1];
            assert!(lane.window().is_used(nonce), "{name}: payer {n}");
        }
        let after = [bad.nonce_account, bad.source].map(|key| world.svm.get_account(&key));
        assert_eq!(after, untouched, "{name} changed its payer's accounts");
        assert_eq!(world.money(&all), money, "{name}");
        let now = world.current();
        assert_eq!(now.payments, service.payments + good as u64, "{name}");
        assert_eq!(now.settled_total, service.settled_total + sum, "{name}");
        assert_eq!(world.balance(&world.vault()), 0, "{name}");

        // Alone and strict it fails with the same reason, and as cleanly.
        let failure = world.settle(&[item], true).unwrap_err();
        assert_eq!(failure.skip(), Some(*reason), "{name}: {:?}", failure.error);
        reasons.insert(*reason);
    }
    let missing: Vec<_> = Skip::ALL
        .iter()
        .filter(|skip| !reasons.contains(skip))
        .collect();
    // A test of its own, because the bad entry's account receives money there.
    assert_eq!(missing, [&Skip::SelfPayment]);
}

/// The token accounts of all legs with what they hold.
fn legs(world: &World) -> Vec<(Address, u64)> {
    let mut owners = world.recipients.clone();
    owners.extend([world.treasury, world.fee_wallet]);
    let keys = owners.iter().map(|owner| world.token_of(owner));
    keys.map(|key| (key, world.balance(&key))).collect()
}

#[test]
fn one_bad_entry_of_any_kind_costs_nineteen_others_nothing() {
    run(Version::V1, 19);
}

#[test]
fn one_bad_entry_of_any_kind_costs_two_others_nothing() {
    run(Version::V0, 2);
}

#[test]
fn twenty_bad_entries_at_a_time_settle_nothing() {
    let mut world = world();
    let before = world.current();
    for chunk in KINDS.chunks(20) {
        let payers: Vec<_> = chunk.iter().map(|_| world.payer(HOLDS)).collect();
        let items: Vec<_> = chunk
            .iter()
            .zip(&payers)
            .map(|((_, _, make), payer)| make(&mut world, payer))
            .collect();
        let counted = world.current();
        let outcome = world.settle(&items, false).unwrap();
        let reasons: Vec<_> = chunk.iter().map(|(_, reason, _)| Some(*reason)).collect();
        assert_eq!(outcome.skips(), reasons);
        assert_eq!(outcome.event().total, 0);
        assert_eq!(outcome.event().recipients, [0; 4]);
        assert_eq!(world.current(), counted, "the service is as it was");
    }
    assert_eq!(world.current().terms_hash, before.terms_hash);
}

#[test]
fn accounts_that_are_not_writable_are_skipped() {
    for (back, reason) in [(1, Skip::AccountForeign), (2, Skip::SourceUnusable)] {
        let mut world = world();
        let payers = [world.payer(HOLDS), world.payer(HOLDS), world.payer(HOLDS)];
        let items = payers.each_ref().map(|payer| world.item(payer, 1_000, 0));
        for bad in 0..3 {
            let items: Vec<_> = items
                .iter()
                .map(|item| {
                    let payer = payers.iter().find(|p| p.source == item.source).unwrap();
                    world.item(payer, 1_000, bad as u64)
                })
                .collect();
            let mut instruction = world.settle_instruction(&items, false);
            let at = instruction.accounts.len() - 2 * (2 - bad) - back;
            instruction.accounts[at].is_writable = false;
            let outcome = world.send_as_relayer(&[instruction]).unwrap();
            let mut expected = [None; 3];
            expected[bad] = Some(reason);
            assert_eq!(outcome.skips(), expected);
        }
    }
}

#[test]
fn self_payment_is_skipped_and_the_payer_still_gets_its_leg() {
    for good in [2, 19] {
        let mut world = world();
        let own = world.payer(HOLDS);
        let mut terms = world.terms();
        terms.recipients[3] = row(&own.key(), terms.recipients[3].bps);
        world.update(&terms).unwrap();
        let payers: Vec<_> = (0..good).map(|_| world.payer(HOLDS)).collect();
        let mut items: Vec<_> = payers
            .iter()
            .map(|payer| world.item(payer, 10_000, 0))
            .collect();
        items.insert(1, world.item(&own, 10_000, 0));
        let nonce = world.svm.get_account(&own.nonce_account);
        let outcome = world.settle(&items, false).unwrap();
        let mut expected = vec![None; good];
        expected.insert(1, Some(Skip::SelfPayment));
        assert_eq!(outcome.skips(), expected);
        assert_eq!(outcome.event().total, 10_000 * good as u64);
        assert_eq!(
            world.balance(&own.source),
            HOLDS + outcome.event().recipients[3]
        );
        assert_eq!(world.svm.get_account(&own.nonce_account), nonce);
    }
}

/// Settles 20 entries: those of `special` at these places, fresh payers' around them.
fn among_others(
    world: &mut World,
    special: &[(usize, SettleItem)],
) -> (Outcome, Vec<Option<Skip>>) {
    let items: Vec<_> = (0..20)
        .map(|place| {
            let own = special.iter().find(|(at, _)| *at == place);
            own.map_or_else(
                || {
                    let payer = world.payer(HOLDS);
                    world.item(&payer, 1_000, 0)
                },
                |(_, item)| *item,
            )
        })
        .collect();
    let outcome = world.settle(&items, false).unwrap();
    let skips = outcome.skips();
    for (place, skip) in skips.iter().enumerate() {
        if !special.iter().any(|(at, _)| *at == place) {
            assert_eq!(*skip, None, "place {place}");
        }
    }
    let own = special.iter().map(|(at, _)| skips[*at]).collect();
    (outcome, own)
}

/// Places next to each other, at both ends, and on both sides of 16, where calls of the token program may end.
const PAIRS: [(usize, usize); 5] = [(0, 1), (0, 19), (18, 19), (15, 16), (3, 17)];

#[test]
fn the_same_entry_twice_settles_once() {
    for (a, b) in PAIRS {
        let mut world = world();
        let payer = world.payer(HOLDS);
        let item = world.item(&payer, 1_000, 0);
        let (_, own) = among_others(&mut world, &[(a, item), (b, item)]);
        assert_eq!(own, [None, Some(Skip::NonceUsed)]);
        assert_eq!(world.balance(&payer.source), HOLDS - 1_000);
    }
}

#[test]
fn one_nonce_in_two_intents_settles_the_first() {
    for (a, b) in PAIRS {
        let mut world = world();
        let payer = world.payer(HOLDS);
        let items = [world.item(&payer, 1_000, 0), world.item(&payer, 2_000, 0)];
        let (_, own) = among_others(&mut world, &[(a, items[1]), (b, items[0])]);
        assert_eq!(own, [None, Some(Skip::NonceUsed)]);
        assert_eq!(world.balance(&payer.source), HOLDS - 2_000);
    }
}

#[test]
fn one_payer_twice_settles_twice_if_the_funds_allow() {
    for (a, b) in PAIRS {
        let mut world = world();
        let payer = world.payer(3_000);
        let items = [world.item(&payer, 1_000, 1), world.item(&payer, 2_000, 0)];
        let (outcome, own) = among_others(&mut world, &[(a, items[0]), (b, items[1])]);
        assert_eq!(own, [None, None]);
        assert_eq!(world.balance(&payer.source), 0);
        assert_eq!(outcome.event().total, 18 * 1_000 + 3_000);
    }
}

#[test]
fn one_payer_twice_settles_once_if_balance_approval_or_limit_are_short() {
    for (a, b) in PAIRS {
        for reason in [
            Skip::BalanceShort,
            Skip::DelegatedShort,
            Skip::DelegateGone,
            Skip::OverPeriod,
            Skip::OverTotal,
        ] {
            let mut world = world();
            let payer = world.payer(HOLDS);
            let mut terms = lane_terms(payer.session.pubkey());
            match reason {
                Skip::BalanceShort => {
                    world.change_token(payer.source, |state| state.amount = 2_999);
                }
                // Of the approved amount something is left, or nothing: the token program then drops the delegate.
                Skip::DelegatedShort | Skip::DelegateGone => {
                    let budget = if reason == Skip::DelegateGone {
                        2_000
                    } else {
                        2_999
                    };
                    world.change_token(payer.source, |state| {
                        state.delegate = state.delegate.map(|(key, _)| (key, budget));
                    });
                }
                Skip::OverPeriod => (terms.period_limit, terms.period_secs) = (2_999, 60),
                _ => terms.total_limit = 2_999,
            }
            world.set_lane(&payer, 1, &terms).unwrap();
            let before = world.balance(&payer.source);
            let items = [world.item(&payer, 2_000, 0), world.item(&payer, 1_000, 1)];
            let (outcome, own) = among_others(&mut world, &[(a, items[0]), (b, items[1])]);
            assert_eq!(own, [None, Some(reason)], "places {a} and {b}");
            assert_eq!(world.balance(&payer.source), before - 2_000);
            assert_eq!(outcome.event().total, 18 * 1_000 + 2_000);
            let lane = world.nonce_account(&payer.nonce_account).lanes[1];
            assert!(lane.window().is_used(0) && !lane.window().is_used(1));
        }
    }
}

#[test]
fn the_second_of_one_payer_settles_where_the_first_was_too_much() {
    for (a, b) in PAIRS {
        let mut world = world();
        let payer = world.payer(1_500);
        let items = [world.item(&payer, 2_000, 0), world.item(&payer, 1_500, 1)];
        let (_, own) = among_others(&mut world, &[(a, items[0]), (b, items[1])]);
        assert_eq!(own, [Some(Skip::DelegatedShort), None]);
        assert_eq!(world.balance(&payer.source), 0);
    }
}

#[test]
fn both_lanes_of_one_payer_settle_in_one_batch_with_one_nonce() {
    let mut world = world();
    let payer = world.payer(HOLDS);
    let session = world.item(&payer, 1_000, 0);
    let mut intent = world.intent(&payer, 1_000, 0);
    intent.lane = 0;
    let wallet = payer.item(&payer.sign(intent));
    let (_, own) = among_others(&mut world, &[(2, session), (9, wallet)]);
    assert_eq!(own, [None, None]);
    assert_eq!(world.balance(&payer.source), HOLDS - 2_000);
}

#[test]
fn one_payer_may_fill_a_batch() {
    let mut world = world();
    let payer = world.payer(20_000);
    let items: Vec<_> = (0..20)
        .map(|nonce| world.item(&payer, 1_001, nonce))
        .collect();
    let outcome = world.settle(&items, false).unwrap();
    let mut expected = vec![None; 19];
    expected.push(Some(Skip::DelegatedShort));
    assert_eq!(outcome.skips(), expected);
    assert_eq!(world.balance(&payer.source), 20_000 - 19 * 1_001);
}

#[test]
fn a_source_that_stands_in_two_entries_is_pulled_by_its_own_payer_only() {
    for (a, b) in PAIRS {
        let mut world = world();
        let (victim, thief) = (world.payer(HOLDS), world.payer(HOLDS));
        let honest = world.item(&victim, 1_000, 0);
        let mut theft = world.item(&thief, 5_000, 0);
        theft.source = victim.source;
        let (_, own) = among_others(&mut world, &[(a, honest), (b, theft)]);
        assert_eq!(own, [None, Some(Skip::SourceMismatch)]);
        let (_, own) = {
            let honest = world.item(&victim, 1_000, 1);
            among_others(&mut world, &[(a, theft), (b, honest)])
        };
        assert_eq!(own, [Some(Skip::SourceMismatch), None]);
        assert_eq!(world.balance(&victim.source), HOLDS - 2_000);
        assert_eq!(world.balance(&thief.source), HOLDS);
    }
}

#[test]
fn two_payers_who_share_a_token_account_cannot_take_it_twice() {
    // The second's nonce account still points to an account that the first owns by now.
    let mut world = world();
    let (first, second) = (world.payer(HOLDS), world.payer(HOLDS));
    let (shared, owner) = (second.source, first.key());
    let relayer = world.relayer.insecure_clone();
    world.change_token(shared, |state| state.owner = owner);
    let set = instructions::set_source(&first.key(), &world.mint, &shared);
    world.send(&[set], &[&relayer, &first.wallet]).unwrap();
    world.change_token(shared, |state| {
        state.amount = 1_000;
        state.delegate = Some((first.nonce_account, 1_000));
    });
    let mut honest = world.item(&first, 1_000, 0);
    honest.source = shared;
    let stale = world.item(&second, 1_000, 0);
    let (_, own) = among_others(&mut world, &[(4, stale), (5, honest), (6, stale)]);
    assert_eq!(
        own,
        [Some(Skip::OwnerChanged), None, Some(Skip::OwnerChanged)]
    );
    assert_eq!(world.balance(&shared), 0);
}

#[test]
fn strict_fails_the_whole_batch_and_changes_nothing() {
    let mut world = world();
    let payers = [world.payer(HOLDS), world.payer(HOLDS), world.payer(HOLDS)];
    let mut items = payers.each_ref().map(|payer| world.item(payer, 1_000, 0));
    items[2].entry.signature[5] ^= 1;
    let keys: Vec<_> = payers
        .iter()
        .flat_map(|payer| [payer.source, payer.nonce_account])
        .chain([world.service, world.vault()])
        .collect();
    let state =
        |world: &World| -> Vec<_> { keys.iter().map(|key| world.svm.get_account(key)).collect() };
    let before = state(&world);
    let failure = world.settle(&items, true).unwrap_err();
    assert_eq!(failure.skip(), Some(Skip::BadSignature));
    assert_eq!(state(&world), before);
    assert_eq!(world.settle(&items[..2], true).unwrap().codes, [0, 0]);
}

#[test]
fn legs_that_are_held_change_nothing_for_the_entries() {
    let mut world = world();
    let payers: Vec<_> = (0..5).map(|_| world.payer(HOLDS)).collect();
    let items: Vec<_> = payers
        .iter()
        .map(|payer| world.item(payer, 10_000, 0))
        .collect();
    for owner in [world.recipients[0], world.treasury, world.fee_wallet] {
        let key = world.token_of(&owner);
        world.freeze(&key);
    }
    let outcome = world.settle(&items, false).unwrap();
    assert_eq!(outcome.skips(), [None; 5]);
    let event = outcome.event();
    assert_eq!(event.held, 1 | 1 << 8 | 1 << 9);
    let held = event.recipients[0] + event.treasury + event.facilitator;
    assert_eq!(world.current().held_total, held);
    assert_eq!(world.balance(&world.vault()), held);
}

#[test]
fn a_batch_needs_its_two_accounts_for_each_entry() {
    let mut world = world();
    let payers = [world.payer(HOLDS), world.payer(HOLDS)];
    let items = payers.each_ref().map(|payer| world.item(payer, 1_000, 0));
    let usual = world.settle_instruction(&items, false);
    for missing in 1..=4 {
        let mut instruction = usual.clone();
        instruction
            .accounts
            .truncate(usual.accounts.len() - missing);
        refused(
            world.send_as_relayer(&[instruction]),
            SluiceError::EntryAccounts,
        );
    }
    let mut instruction = usual.clone();
    instruction
        .accounts
        .extend_from_slice(&usual.accounts[14..16]);
    refused(
        world.send_as_relayer(&[instruction]),
        SluiceError::EntryAccounts,
    );
    // Swapped, each entry meets the other's accounts.
    let mut swapped = usual.clone();
    swapped.accounts.swap(14, 16);
    swapped.accounts.swap(15, 17);
    let outcome = world.send_as_relayer(&[swapped]).unwrap();
    assert_eq!(outcome.skips(), [Some(Skip::BadSignature); 2]);
}
