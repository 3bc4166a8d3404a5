//! The ledger on both databases.

use std::{sync::Arc, time::Duration};

use sluice_relayer::{
    ledger::{
        Candidate, Claim, Deal, IntentMeans, Ledger, LedgerError, Means, NewPayment, NonceKey,
        Sealed, State, Transaction, record::Landing,
    },
    proof::{Judgement, NonceWitness, Proof},
    reason::{Reason, Rejection},
    verify::judge,
};
use sluice_sdk::{
    UnsignedIntent,
    x402::{SplitShares, Version},
};
use solana_signature::Signature;

use crate::{
    postgres::{Store, on_both},
    scene::{NOW, Scene, relayer, settler},
};

pub async fn open(store: &Store) -> Ledger {
    Ledger::open(store.url(), "one").await.unwrap()
}

pub fn payment(change: impl FnOnce(&mut UnsignedIntent)) -> NewPayment {
    let scene = Scene::default();
    let mut intent = scene.intent(1);
    change(&mut intent);
    let admission = judge(&scene.snapshot(), &scene.payment(intent), &settler()).unwrap();
    NewPayment {
        digest: admission.digest,
        version: Version::V2,
        payer: admission.payer,
        service: intent.service,
        mint: admission.mint,
        amount: intent.amount,
        source: admission.item.source,
        expires_at: i64::from(intent.expires_at),
        means: Means::Intent(Box::new(IntentMeans {
            nonce: NonceKey {
                account: intent.nonce_account,
                opened_slot: intent.opened_slot,
                lane: intent.lane,
                nonce: intent.nonce,
            },
            entry: admission.item.entry,
            split: SplitShares::of_shares(&admission.shares, 1),
        })),
        deal: Deal::default(),
        api_key: None,
    }
}

pub fn nonce(nonce: u64) -> NewPayment {
    payment(|intent| intent.nonce = nonce)
}

pub fn new(payment: &NewPayment) -> Candidate {
    Candidate::New(Box::new(payment.clone()))
}

pub fn signature(seed: u8) -> Signature {
    Signature::from([seed; 64])
}

pub fn transaction(seed: u8) -> Transaction {
    Transaction {
        signature: signature(seed),
        wire: vec![seed; 300],
        last_valid_block_height: 1_150,
        signed_slot: 1_000,
        fee_payer: relayer(),
        fee_lamports: 5_000,
        service: crate::scene::service(),
    }
}

pub async fn seal(ledger: &Ledger, candidates: Vec<Candidate>, seed: u8) -> Sealed<()> {
    ledger
        .seal(candidates, move |_| Ok(transaction(seed)))
        .await
        .unwrap()
}

/// Seals a payment alone.
pub async fn signed(ledger: &Ledger, payment: &NewPayment, seed: u8) {
    let sealed = seal(ledger, vec![new(payment)], seed).await;
    assert_eq!(sealed.claims, [Claim::Sealed]);
    assert_eq!(sealed.transaction, Ok(Some(transaction(seed))));
}

async fn state(ledger: &Ledger, payment: &NewPayment) -> State {
    ledger
        .payment(&payment.digest)
        .await
        .unwrap()
        .unwrap()
        .state
}

pub fn paid(answered: bool) -> Landing {
    Landing::Paid { answered }
}

fn judged() -> Judgement {
    Judgement {
        chain_time: NOW + 61,
        nonce: NonceWitness::Unused,
    }
}

pub fn no() -> Rejection {
    Rejection::new(Reason::Payload, "no")
}

on_both! {
    a_payment_is_written_as_it_is
    numbers_of_64_bits_survive
    one_success_among_fifty
    one_payment_among_fifty_on_a_nonce
    a_batch_is_one_transaction_and_each_has_its_place
    what_others_hold_is_left_out_of_a_batch
    a_maker_that_fails_leaves_nothing_behind
    a_nonce_is_free_again_once_its_payment_is_final
    states_move_forward_only
    an_intent_expires_when_all_is_dead
    a_late_landing_beats_every_other_verdict
    a_start_finds_what_was_open
    what_landed_becomes_final
    a_replica_that_is_silent_loses_its_transactions
    what_a_failed_batch_left_is_taken_over_too
    a_replica_whose_lease_has_run_out_writes_nothing
    a_proof_has_what_was_seen
    a_change_that_fails_takes_no_other_with_it
    a_ledger_that_refuses_says_so_and_recovers
    pages_go_through_everything_once
}

async fn a_payment_is_written_as_it_is(store: Store) {
    let ledger = open(&store).await;
    let payment = payment(|_| {});
    signed(&ledger, &payment, 1).await;
    assert_eq!(state(&ledger, &payment).await, State::Signed);
    ledger.mark_sent(signature(1));
    ledger.flush().await.unwrap();
    ledger.close().await;

    let ledger = open(&store).await;
    let row = ledger.payment(&payment.digest).await.unwrap().unwrap();
    assert_eq!(row.state, State::Sent);
    assert_eq!(row.payment, payment);
    assert_eq!(row.payment.intent().unwrap().split.recipients, ["9700"]);
    assert_eq!((row.answered, row.verdict.clone()), (false, None));
    let attempt = row.attempt.unwrap();
    assert_eq!(
        (attempt.signature, attempt.position, attempt.payments),
        (signature(1), 0, 1)
    );
    assert_eq!((attempt.fee_lamports, attempt.slot), (5_000, None));
    let open = ledger.open_transactions().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].signature, signature(1));
    assert_eq!(open[0].wire, transaction(1).wire);
    assert_eq!(open[0].last_valid_block_height, 1_150);
    assert_eq!(open[0].digests, [payment.digest]);
}

async fn numbers_of_64_bits_survive(store: Store) {
    let ledger = open(&store).await;
    let mut payment = payment(|_| {});
    payment.amount = u64::MAX;
    let Means::Intent(intent) = &mut payment.means else {
        panic!("an intent");
    };
    intent.nonce.nonce = u64::MAX;
    intent.nonce.opened_slot = u64::MAX;
    let transaction = Transaction {
        last_valid_block_height: u64::MAX,
        ..transaction(1)
    };
    let sealed = ledger
        .seal(vec![new(&payment)], move |_| Ok::<_, ()>(transaction))
        .await
        .unwrap();
    assert_eq!(sealed.claims, [Claim::Sealed]);
    let row = ledger.payment(&payment.digest).await.unwrap().unwrap();
    let nonce = row.payment.intent().unwrap().nonce;
    assert_eq!(
        (row.payment.amount, nonce.nonce, nonce.opened_slot),
        (u64::MAX, u64::MAX, u64::MAX)
    );
    let open = ledger.open_transactions().await.unwrap();
    assert_eq!(open[0].last_valid_block_height, i64::MAX as u64);
}

async fn one_success_among_fifty(store: Store) {
    let ledger = open(&store).await;
    let payment = payment(|_| {});
    let digest = payment.digest;
    assert!(!ledger.take_success(digest).await.unwrap());
    signed(&ledger, &payment, 1).await;
    assert!(!ledger.take_success(digest).await.unwrap());
    let changed = ledger
        .land(signature(1), 9, false, vec![(digest, paid(false))])
        .await
        .unwrap();
    assert_eq!(changed, [digest]);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.take_success(digest).await.unwrap() })
        })
        .collect();
    let mut wins = 0;
    for task in tasks {
        wins += u32::from(task.await.unwrap());
    }
    assert_eq!(wins, 1);
    let row = ledger.payment(&digest).await.unwrap().unwrap();
    assert!(row.answered);
    assert_eq!(row.attempt.unwrap().slot, Some(9));
    // The caller who waits may get it with the landing itself.
    let other = nonce(2);
    signed(&ledger, &other, 2).await;
    let landing = vec![(other.digest, paid(true))];
    ledger.land(signature(2), 9, false, landing).await.unwrap();
    assert!(!ledger.take_success(other.digest).await.unwrap());
}

async fn one_payment_among_fifty_on_a_nonce(store: Store) {
    // Two relayers where they can share; twenty-five callers each with two intents on one nonce: one of them all gets it.
    let mut ledgers = vec![open(&store).await];
    if store.is_postgres() {
        ledgers.push(Ledger::open(store.url(), "two").await.unwrap());
    }
    let one = Arc::new(payment(|_| {}));
    let two = Arc::new(payment(|intent| intent.resource = [6; 16]));
    let tasks: Vec<_> = (0..50u8)
        .map(|i| {
            let ledger = ledgers[usize::from(i / 2) % ledgers.len()].clone();
            let payment = Arc::clone(if i % 2 == 0 { &one } else { &two });
            tokio::spawn(async move {
                let sealed = seal(&ledger, vec![new(&payment)], i).await;
                sealed.claims.into_iter().next().unwrap()
            })
        })
        .collect();
    let (mut sealed, mut known, mut conflicts) = (0, 0, 0);
    for task in tasks {
        match task.await.unwrap() {
            Claim::Sealed => sealed += 1,
            Claim::Known(_) => known += 1,
            Claim::NonceConflict => conflicts += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((sealed, known, conflicts), (1, 24, 25));
    assert_eq!(store.count("SELECT count(*) FROM transactions").await, 1);
}

async fn a_batch_is_one_transaction_and_each_has_its_place(store: Store) {
    let ledger = open(&store).await;
    let payments: Vec<NewPayment> = (1..=60).map(nonce).collect();
    let candidates = payments.iter().map(new).collect();
    let sealed = seal(&ledger, candidates, 1).await;
    assert!(sealed.claims.iter().all(|claim| *claim == Claim::Sealed));
    let open = ledger.open_transactions().await.unwrap();
    assert_eq!(open.len(), 1);
    let digests: Vec<_> = payments.iter().map(|payment| payment.digest).collect();
    assert_eq!(open[0].digests, digests);
    let row = ledger.payment(&digests[17]).await.unwrap().unwrap();
    let attempt = row.attempt.unwrap();
    assert_eq!((attempt.position, attempt.payments), (17, 60));
    assert_eq!(ledger.payments(&digests).await.unwrap().len(), 60);

    // One is refused, the others are paid.
    let landings = digests
        .iter()
        .enumerate()
        .map(|(i, digest)| {
            let landing = if i == 17 {
                Landing::Refused(no())
            } else {
                paid(i % 2 == 0)
            };
            (*digest, landing)
        })
        .collect();
    let changed = ledger.land(signature(1), 7, false, landings).await.unwrap();
    assert_eq!(changed.len(), 60);
    assert!(ledger.open_transactions().await.unwrap().is_empty());
    for (i, payment) in payments.iter().enumerate() {
        let row = ledger.payment(&payment.digest).await.unwrap().unwrap();
        if i == 17 {
            assert_eq!(row.state, State::Failed);
            let verdict = Some(("invalid_payload".to_owned(), "no".to_owned()));
            assert_eq!(row.verdict, verdict);
        } else {
            assert_eq!((row.state, row.answered), (State::Confirmed, i % 2 == 0));
        }
    }
}

async fn what_others_hold_is_left_out_of_a_batch(store: Store) {
    let ledger = open(&store).await;
    let held = nonce(1);
    signed(&ledger, &held, 1).await;
    let conflict = payment(|intent| intent.resource = [6; 16]);
    let (first, second) = (nonce(2), nonce(3));
    let also_second = payment(|intent| {
        intent.nonce = 3;
        intent.resource = [6; 16];
    });
    let candidates = [
        &held,
        &first,
        &conflict,
        &second,
        &also_second,
        // The same once more.
        &first,
    ];
    let candidates: Vec<Candidate> = candidates
        .into_iter()
        .map(new)
        // What is open is not signed again.
        .chain([Candidate::Known(held.digest)])
        .collect();
    let sealed = ledger
        .seal(candidates, |places| {
            assert_eq!(places, [1, 3]);
            Ok::<_, ()>(transaction(2))
        })
        .await
        .unwrap();
    let words: Vec<&str> = sealed
        .claims
        .iter()
        .map(|claim| match claim {
            Claim::Sealed => "sealed",
            Claim::Known(_) => "known",
            Claim::NonceConflict => "conflict",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        words,
        [
            "known", "sealed", "conflict", "sealed", "conflict", "known", "known"
        ]
    );
    let open = ledger.open_transactions().await.unwrap();
    assert_eq!(open[1].digests, [first.digest, second.digest]);

    // Nothing left: no transaction.
    let sealed = ledger
        .seal(vec![new(&held)], |_| -> Result<Transaction, ()> {
            panic!("nothing is to be made")
        })
        .await
        .unwrap();
    assert_eq!(sealed.transaction, Ok(None));
}

async fn a_maker_that_fails_leaves_nothing_behind(store: Store) {
    let ledger = open(&store).await;
    let dead = nonce(1);
    signed(&ledger, &dead, 1).await;
    ledger.bury(signature(1), 1_151).await.unwrap();
    let fresh = nonce(2);
    let candidates = vec![Candidate::Known(dead.digest), new(&fresh)];
    let sealed = ledger
        .seal(candidates, |_| Err::<Transaction, _>("cannot sign"))
        .await
        .unwrap();
    assert_eq!(sealed.transaction, Err("cannot sign"));
    assert_eq!(ledger.payment(&fresh.digest).await.unwrap(), None);
    // What was there before stays, and can be signed again.
    assert_eq!(ledger.without_transaction().await.unwrap().len(), 1);
    signed(&ledger, &fresh, 2).await;
}

async fn a_nonce_is_free_again_once_its_payment_is_final(store: Store) {
    let ledger = open(&store).await;
    let one = payment(|_| {});
    let two = payment(|intent| intent.resource = [6; 16]);
    signed(&ledger, &one, 1).await;
    let sealed = seal(&ledger, vec![new(&two)], 2).await;
    assert_eq!(sealed.claims, [Claim::NonceConflict]);
    let landing = vec![(one.digest, Landing::Refused(no()))];
    ledger.land(signature(1), 3, true, landing).await.unwrap();
    signed(&ledger, &two, 3).await;
    // What failed stays failed.
    let sealed = seal(&ledger, vec![new(&one)], 4).await;
    assert!(matches!(&sealed.claims[0], Claim::Known(row) if row.state == State::Failed));
}

async fn states_move_forward_only(store: Store) {
    let ledger = open(&store).await;
    let payment = payment(|_| {});
    let digest = payment.digest;
    let again = || vec![Candidate::Known(digest)];

    // Nothing is signed again that never was signed.
    let sealed = seal(&ledger, again(), 1).await;
    assert_eq!(sealed.claims, [Claim::NonceConflict]);
    signed(&ledger, &payment, 1).await;
    // What is signed can only land or die; and a second transaction has to wait for the first one's death.
    assert!(!ledger.expire(digest, judged(), no()).await.unwrap());
    let sealed = seal(&ledger, again(), 2).await;
    assert!(matches!(sealed.claims[0], Claim::Known(_)));
    assert_eq!(ledger.signatures(&digest).await.unwrap(), [signature(1)]);

    ledger.bury(signature(1), 1_151).await.unwrap();
    assert!(ledger.open_transactions().await.unwrap().is_empty());
    assert_eq!(ledger.without_transaction().await.unwrap().len(), 1);
    let sealed = seal(&ledger, again(), 2).await;
    assert_eq!(sealed.claims, [Claim::Sealed]);
    assert!(ledger.without_transaction().await.unwrap().is_empty());
    assert_eq!(
        ledger.signatures(&digest).await.unwrap(),
        [signature(1), signature(2)]
    );
    let refused = || vec![(digest, Landing::Refused(no()))];
    let changed = ledger.land(signature(2), 3, true, refused()).await.unwrap();
    assert_eq!(changed, [digest]);
    // Said once.
    let changed = ledger.land(signature(2), 3, true, refused()).await.unwrap();
    assert!(changed.is_empty());
    assert_eq!(state(&ledger, &payment).await, State::Failed);
    assert!(!ledger.take_success(digest).await.unwrap());
    assert!(!ledger.expire(digest, judged(), no()).await.unwrap());
    assert!(ledger.without_transaction().await.unwrap().is_empty());
    // A send that comes back late changes nothing.
    ledger.mark_sent(signature(2));
    ledger.flush().await.unwrap();
    assert_eq!(state(&ledger, &payment).await, State::Failed);
}

async fn an_intent_expires_when_all_is_dead(store: Store) {
    let ledger = open(&store).await;
    let payment = payment(|_| {});
    signed(&ledger, &payment, 1).await;
    ledger.bury(signature(1), 1_151).await.unwrap();
    let late = Rejection::new(Reason::UnexpectedSettle, "late");
    assert!(ledger.expire(payment.digest, judged(), late).await.unwrap());
    let row = ledger.payment(&payment.digest).await.unwrap().unwrap();
    assert_eq!(row.state, State::Expired);
    assert_eq!(
        row.verdict,
        Some(("unexpected_settle_error".to_owned(), "late".to_owned()))
    );
}

async fn a_late_landing_beats_every_other_verdict(store: Store) {
    let ledger = open(&store).await;
    let (expired, failed) = (nonce(1), nonce(2));
    for (payment, seed) in [(&expired, 1), (&failed, 2)] {
        signed(&ledger, payment, seed).await;
        ledger.bury(signature(seed), 1_151).await.unwrap();
    }
    assert!(ledger.expire(expired.digest, judged(), no()).await.unwrap());
    let sealed = seal(&ledger, vec![Candidate::Known(failed.digest)], 3).await;
    assert_eq!(sealed.claims, [Claim::Sealed]);
    let landing = vec![(failed.digest, Landing::Refused(no()))];
    ledger.land(signature(3), 3, true, landing).await.unwrap();
    for (payment, seed) in [(&expired, 1), (&failed, 2)] {
        let landing = vec![(payment.digest, paid(false))];
        let changed = ledger
            .land(signature(seed), 9, false, landing)
            .await
            .unwrap();
        assert_eq!(changed, [payment.digest]);
        let row = ledger.payment(&payment.digest).await.unwrap().unwrap();
        assert_eq!((row.state, row.verdict), (State::Confirmed, None));
        assert_eq!(row.attempt.unwrap().signature, signature(seed));
        assert!(ledger.take_success(payment.digest).await.unwrap());
    }
}

async fn a_start_finds_what_was_open(store: Store) {
    let ledger = open(&store).await;
    let (sent, dead, done) = (nonce(2), nonce(3), nonce(4));
    signed(&ledger, &sent, 2).await;
    signed(&ledger, &dead, 3).await;
    signed(&ledger, &done, 4).await;
    ledger.bury(signature(3), 1_151).await.unwrap();
    let landing = vec![(done.digest, paid(false))];
    ledger.land(signature(4), 9, false, landing).await.unwrap();
    drop(ledger);

    let ledger = open(&store).await;
    let open = ledger.open_transactions().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].digests, [sent.digest]);
    let without = ledger.without_transaction().await.unwrap();
    assert_eq!(without.len(), 1);
    assert_eq!(without[0].payment.digest, dead.digest);
    assert_eq!(ledger.unexpired(NOW).await.unwrap().len(), 3);
    // Long after their expiry those that are open are still found.
    assert_eq!(ledger.unexpired(NOW + 1_000).await.unwrap().len(), 2);
}

async fn what_landed_becomes_final(store: Store) {
    let ledger = open(&store).await;
    let payment = payment(|_| {});
    signed(&ledger, &payment, 1).await;
    assert!(ledger.unfinal(10).await.unwrap().is_empty());
    let landing = vec![(payment.digest, paid(true))];
    ledger.land(signature(1), 9, false, landing).await.unwrap();
    assert_eq!(ledger.unfinal(10).await.unwrap(), [(signature(1), 9)]);
    ledger.finalize(vec![signature(1)]).await.unwrap();
    assert!(ledger.unfinal(10).await.unwrap().is_empty());
    assert_eq!(state(&ledger, &payment).await, State::Finalized);
}

async fn a_replica_that_is_silent_loses_its_transactions(store: Store) {
    let one = open(&store).await;
    let two = Ledger::open(store.url(), "two").await.unwrap();
    assert_eq!(one.heartbeat(60_000).await.unwrap(), 0);
    assert_eq!(two.heartbeat(60_000).await.unwrap(), 0);
    let (open, dead, done) = (nonce(1), nonce(2), nonce(3));
    signed(&one, &open, 1).await;
    signed(&one, &dead, 2).await;
    signed(&one, &done, 3).await;
    one.bury(signature(2), 1_151).await.unwrap();
    let landing = vec![(done.digest, paid(false))];
    one.land(signature(3), 9, false, landing).await.unwrap();
    // It lives.
    assert_eq!(two.heartbeat(60_000).await.unwrap(), 0);
    assert!(two.open_transactions().await.unwrap().is_empty());
    // Its lease runs out.
    one.heartbeat(1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(two.heartbeat(60_000).await.unwrap(), 2);
    assert_eq!(two.open_transactions().await.unwrap().len(), 1);
    assert_eq!(two.without_transaction().await.unwrap().len(), 1);
    // It comes back late and finds them gone.
    assert_eq!(one.heartbeat(60_000).await.unwrap(), 0);
    assert!(one.open_transactions().await.unwrap().is_empty());
    // Who says goodbye is succeeded at once.
    two.leave().await.unwrap();
    assert_eq!(one.heartbeat(60_000).await.unwrap(), 2);
}

async fn what_a_failed_batch_left_is_taken_over_too(store: Store) {
    let one = open(&store).await;
    one.heartbeat(60_000).await.unwrap();
    let payments = [nonce(1), nonce(2)];
    seal(&one, payments.iter().map(new).collect(), 1).await;
    let untouched = |payment: &NewPayment| (payment.digest, Landing::Untouched);
    let landings = payments.iter().map(untouched).collect();
    one.land(signature(1), 9, true, landings).await.unwrap();
    assert_eq!(one.without_transaction().await.unwrap().len(), 2);
    one.leave().await.unwrap();
    let two = Ledger::open(store.url(), "two").await.unwrap();
    assert_eq!(two.heartbeat(60_000).await.unwrap(), 1);
    assert_eq!(two.without_transaction().await.unwrap().len(), 2);
}

/// The fence: it slept, and does not know yet that it was given up.
async fn a_replica_whose_lease_has_run_out_writes_nothing(store: Store) {
    let one = open(&store).await;
    one.heartbeat(1).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let payment = payment(|_| {});
    let sealed = one.seal(vec![new(&payment)], |_| Ok::<_, ()>(transaction(1)));
    assert!(matches!(sealed.await, Err(LedgerError::Lapsed)));
    assert_eq!(one.payment(&payment.digest).await.unwrap(), None);
    assert_eq!(store.count("SELECT count(*) FROM transactions").await, 0);
    one.heartbeat(60_000).await.unwrap();
    signed(&one, &payment, 1).await;
}

async fn a_proof_has_what_was_seen(store: Store) {
    let ledger = open(&store).await;
    let payment = payment(|_| {});
    signed(&ledger, &payment, 1).await;
    let proof = async || {
        let row = ledger.payment(&payment.digest).await.unwrap().unwrap();
        let traces = ledger.traces(&payment.digest).await.unwrap();
        let judgement = ledger.judgement(&payment.digest).await.unwrap();
        Proof::of(&row, &traces, judgement)
    };
    let open = ledger.open_transactions().await.unwrap();
    assert_eq!(open[0].signed_slot, Some(1_000));
    let outcomes = |proof: Proof| match proof {
        Proof::Pending { transactions } => transactions
            .into_iter()
            .map(|open| open.outcome)
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(outcomes(proof().await), ["open"]);
    // One that fails as a whole, one that dies, and one that dies with the intent.
    let untouched = vec![(payment.digest, Landing::Untouched)];
    ledger.land(signature(1), 7, true, untouched).await.unwrap();
    for (seed, height) in [(2, 1_300), (3, 1_500)] {
        let sealed = seal(&ledger, vec![Candidate::Known(payment.digest)], seed).await;
        assert_eq!(sealed.claims, [Claim::Sealed]);
        ledger.bury(signature(seed), height).await.unwrap();
    }
    assert_eq!(outcomes(proof().await), ["failed", "dead", "dead"]);
    assert_eq!(ledger.judgement(&payment.digest).await.unwrap(), None);
    assert!(ledger.expire(payment.digest, judged(), no()).await.unwrap());
    let Proof::Impossible {
        expires_at,
        chain_time,
        transactions,
        nonce,
    } = proof().await
    else {
        panic!("{:?}", proof().await)
    };
    assert_eq!((expires_at, chain_time), (NOW + 60, NOW + 61));
    assert_eq!(nonce, NonceWitness::Unused);
    let seen: Vec<_> = transactions
        .iter()
        .map(|dead| (dead.failed_in_slot, dead.finalized_block_height))
        .collect();
    assert_eq!(
        seen,
        [(Some(7), None), (None, Some(1_300)), (None, Some(1_500))]
    );
    // A row that does not say why proves nothing.
    store
        .execute("UPDATE transactions SET dead_height = NULL WHERE dead_height = 1500")
        .await;
    assert_eq!(outcomes(proof().await), ["failed", "dead", "dead"]);
    // The chain is right, whatever was thought before.
    let landing = vec![(payment.digest, paid(false))];
    ledger.land(signature(2), 9, false, landing).await.unwrap();
    let landed = |commitment: &str| Proof::Landed {
        transaction: signature(2).to_string(),
        slot: 9,
        index: 0,
        commitment: commitment.to_owned(),
    };
    assert_eq!(proof().await, landed("confirmed"));
    ledger.finalize(vec![signature(2)]).await.unwrap();
    assert_eq!(proof().await, landed("finalized"));
}

async fn a_change_that_fails_takes_no_other_with_it(store: Store) {
    let ledger = open(&store).await;
    // The same signature twice is refused by the database: of each pair one fails, all in commits that others share.
    let tasks: Vec<_> = (0..40u8)
        .map(|i| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                let payment = nonce(u64::from(i));
                let sealed = ledger
                    .seal(vec![new(&payment)], move |_| {
                        Ok::<_, ()>(transaction(100 + i / 2))
                    })
                    .await;
                (payment, sealed)
            })
        })
        .collect();
    let mut good = 0;
    for task in tasks {
        let (payment, sealed) = task.await.unwrap();
        let row = ledger.payment(&payment.digest).await.unwrap();
        match sealed {
            Ok(_) => {
                assert_eq!(row.unwrap().state, State::Signed);
                good += 1;
            }
            Err(error) => {
                let told = matches!(error, LedgerError::Database(_) | LedgerError::Contended(_));
                assert!(told, "{error}");
                assert_eq!(row, None);
            }
        }
    }
    assert_eq!(good, 20);
    assert_eq!(store.count("SELECT count(*) FROM transactions").await, 20);
}

async fn a_ledger_that_refuses_says_so_and_recovers(store: Store) {
    let ledger = open(&store).await;
    store.refuse_changes("transactions").await;
    let payment = payment(|_| {});
    let sealed = ledger
        .seal(vec![new(&payment)], |_| Ok::<_, ()>(transaction(1)))
        .await;
    assert!(matches!(sealed, Err(LedgerError::Database(_))));
    assert_eq!(ledger.payment(&payment.digest).await.unwrap(), None);
    store.allow_changes("transactions").await;
    signed(&ledger, &payment, 1).await;
    if store.is_postgres() {
        store.cut().await;
        assert!(ledger.ping().await.is_err());
        assert!(ledger.payment(&payment.digest).await.is_err());
        store.mend().await;
        ledger.ping().await.unwrap();
        // A server that only reads does not answer to writes.
        let name = store.url().split_once('?').unwrap().0;
        let name = name.rsplit_once('/').unwrap().1;
        store
            .execute(&format!(
                "ALTER DATABASE {name} SET default_transaction_read_only = on"
            ))
            .await;
        store.cut().await;
        store.mend().await;
        assert!(ledger.ping().await.is_err());
    }
}

async fn pages_go_through_everything_once(store: Store) {
    let ledger = open(&store).await;
    let payments: Vec<NewPayment> = (0..25).map(nonce).collect();
    seal(&ledger, payments.iter().map(new).collect(), 1).await;
    let mut seen = Vec::new();
    let mut cursor: Option<(i64, String)> = None;
    loop {
        let after = cursor.as_ref().map(|(at, digest)| (*at, digest.as_str()));
        let page = ledger.page(None, after, 10).await.unwrap();
        let Some(last) = page.last() else { break };
        cursor = Some((last.created_at, hex::encode(last.payment.digest)));
        seen.extend(page.iter().map(|row| row.payment.digest));
    }
    seen.sort();
    let mut all: Vec<_> = payments.iter().map(|payment| payment.digest).collect();
    all.sort();
    assert_eq!(seen, all);
    let nobody = ledger.page(Some("nobody"), None, 10).await.unwrap();
    assert!(nobody.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_relayers_open_one_postgres_at_once() {
    let Some(store) = Store::postgres().await else {
        return;
    };
    let url = Arc::new(store.url().to_owned());
    let tasks: Vec<_> = (0..4)
        .map(|i| {
            let url = Arc::clone(&url);
            tokio::spawn(async move { Ledger::open(&url, &i.to_string()).await })
        })
        .collect();
    for task in tasks {
        let ledger = task.await.unwrap().unwrap();
        ledger.ping().await.unwrap();
        ledger.close().await;
    }
}
