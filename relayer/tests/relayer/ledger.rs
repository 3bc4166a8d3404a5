//! The ledger on a real file.

use std::sync::Arc;

use sluice_relayer::{
    ledger::{Attempt, Claim, Landing, Ledger, LedgerError, State, unix_millis},
    reason::{Reason, Rejection},
    verify::{Admission, judge},
};
use sluice_sdk::{UnsignedIntent, x402::Version};
use solana_signature::Signature;
use tempfile::TempDir;

use crate::scene::{Scene, settler};

async fn open() -> (Ledger, TempDir) {
    let dir = TempDir::new().unwrap();
    let ledger = Ledger::open(&url(&dir)).await.unwrap();
    (ledger, dir)
}

pub fn url(dir: &TempDir) -> String {
    format!("sqlite://{}", dir.path().join("ledger.db").display())
}

fn admission(change: impl FnOnce(&mut UnsignedIntent)) -> Admission {
    let scene = Scene::default();
    let mut intent = scene.intent(1);
    change(&mut intent);
    judge(&scene.snapshot(), &scene.payment(intent), &settler()).unwrap()
}

fn attempt(seed: u8) -> Attempt {
    Attempt {
        signature: Signature::from([seed; 64]),
        wire: vec![seed; 300],
        last_valid_block_height: 1_150,
        fee_lamports: 5_000,
    }
}

async fn claim(ledger: &Ledger, admission: &Admission) -> Claim {
    ledger
        .claim(admission, Version::V2, unix_millis(), 100)
        .await
        .unwrap()
}

async fn state(ledger: &Ledger, admission: &Admission) -> State {
    ledger
        .payment(&admission.digest)
        .await
        .unwrap()
        .unwrap()
        .state
}

async fn signed(ledger: &Ledger, admission: &Admission, seed: u8) {
    assert_eq!(claim(ledger, admission).await, Claim::New);
    ledger.admit(&admission.digest).await.unwrap();
    ledger
        .sign(&admission.digest, &attempt(seed))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_payment_is_written_as_it_is() {
    let (ledger, dir) = open().await;
    let admission = admission(|_| {});
    signed(&ledger, &admission, 1).await;
    ledger
        .mark_sent(&admission.digest, &attempt(1).signature)
        .await
        .unwrap();
    ledger.close().await;

    let ledger = Ledger::open(&url(&dir)).await.unwrap();
    let row = ledger.payment(&admission.digest).await.unwrap().unwrap();
    let intent = admission.signed.intent;
    assert_eq!(row.state, State::Sent);
    assert_eq!(row.entry, admission.signed.entry());
    assert_eq!(
        (row.payer, row.service, row.mint, row.nonce_account),
        (
            admission.payer,
            intent.service,
            admission.mint,
            intent.nonce_account
        )
    );
    assert_eq!(
        (
            row.amount,
            row.nonce,
            row.lane,
            row.opened_slot,
            row.expires_at
        ),
        (
            intent.amount,
            1,
            1,
            intent.opened_slot,
            i64::from(intent.expires_at)
        )
    );
    assert_eq!(row.split.recipients, ["9700"]);
    assert_eq!(row.signature, Some(attempt(1).signature));
    let open = ledger.open_attempts().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].attempt, attempt(1));
    assert_eq!(open[0].digest, admission.digest);
}

#[tokio::test]
async fn numbers_of_64_bits_survive() {
    let (ledger, _dir) = open().await;
    let mut admission = admission(|_| {});
    admission.signed.intent.amount = u64::MAX;
    admission.signed.intent.nonce = u64::MAX;
    admission.signed.intent.opened_slot = u64::MAX;
    assert_eq!(claim(&ledger, &admission).await, Claim::New);
    let row = ledger.payment(&admission.digest).await.unwrap().unwrap();
    assert_eq!(
        (row.amount, row.nonce, row.opened_slot),
        (u64::MAX, u64::MAX, u64::MAX)
    );
    let open = ledger
        .in_flight(&row.nonce_account, unix_millis())
        .await
        .unwrap();
    assert_eq!(open[0].amount, u64::MAX);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_success_among_fifty() {
    let (ledger, _dir) = open().await;
    let admission = Arc::new(admission(|_| {}));
    assert!(!ledger.take_success(&admission.digest).await.unwrap());
    signed(&ledger, &admission, 1).await;
    assert!(!ledger.take_success(&admission.digest).await.unwrap());
    let landed = ledger
        .land(
            &admission.digest,
            &attempt(1).signature,
            &Landing::Confirmed { slot: 9 },
        )
        .await
        .unwrap();
    assert!(landed);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (ledger, admission) = (ledger.clone(), Arc::clone(&admission));
            tokio::spawn(async move { ledger.take_success(&admission.digest).await.unwrap() })
        })
        .collect();
    let mut wins = 0;
    for task in tasks {
        wins += u32::from(task.await.unwrap());
    }
    assert_eq!(wins, 1);
    let row = ledger.payment(&admission.digest).await.unwrap().unwrap();
    assert!(row.answered);
    assert_eq!((row.slot, row.fee_lamports), (Some(9), Some(5_000)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_claim_among_fifty() {
    let (ledger, _dir) = open().await;
    // Twenty-five callers each with two intents on one nonce: one of them all gets it.
    let one = Arc::new(admission(|_| {}));
    let two = Arc::new(admission(|intent| intent.resource = [6; 16]));
    let tasks: Vec<_> = (0..50)
        .map(|i| {
            let ledger = ledger.clone();
            let admission = Arc::clone(if i % 2 == 0 { &one } else { &two });
            tokio::spawn(async move { claim(&ledger, &admission).await })
        })
        .collect();
    let (mut new, mut known, mut conflicts) = (0, 0, 0);
    for task in tasks {
        match task.await.unwrap() {
            Claim::New => new += 1,
            Claim::Known(_) => known += 1,
            Claim::NonceConflict => conflicts += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((new, known, conflicts), (1, 24, 25));
}

#[tokio::test]
async fn a_nonce_is_free_again_once_its_payment_is_final() {
    let (ledger, _dir) = open().await;
    let one = admission(|_| {});
    let two = admission(|intent| intent.resource = [6; 16]);
    assert_eq!(claim(&ledger, &one).await, Claim::New);
    assert_eq!(claim(&ledger, &two).await, Claim::NonceConflict);
    let no = Rejection::new(Reason::Payload, "no");
    ledger.reject(&one.digest, &no).await.unwrap();
    assert_eq!(claim(&ledger, &two).await, Claim::New);
    // The rejected one may come back, but not onto a nonce that is taken by now.
    assert_eq!(claim(&ledger, &one).await, Claim::NonceConflict);
    ledger.reject(&two.digest, &no).await.unwrap();
    assert_eq!(claim(&ledger, &one).await, Claim::New);
    assert_eq!(state(&ledger, &one).await, State::Received);
}

#[tokio::test]
async fn states_move_forward_only() {
    let (ledger, _dir) = open().await;
    let admission = admission(|_| {});
    let digest = &admission.digest;
    let no = Rejection::new(Reason::Payload, "no");
    let moved = |result: Result<(), LedgerError>| matches!(result, Err(LedgerError::Moved { .. }));

    assert!(moved(ledger.admit(digest).await));
    assert_eq!(claim(&ledger, &admission).await, Claim::New);
    // Nothing is signed for what is not admitted.
    assert!(moved(ledger.sign(digest, &attempt(1)).await));
    assert!(ledger.signatures(digest).await.unwrap().is_empty());
    ledger.admit(digest).await.unwrap();
    ledger.sign(digest, &attempt(1)).await.unwrap();
    // What is signed can only land or die; and a second transaction has to wait for the first one's death.
    assert!(moved(ledger.reject(digest, &no).await));
    assert!(!ledger.expire(digest, &no).await.unwrap());
    assert!(moved(ledger.sign(digest, &attempt(2)).await));
    assert_eq!(ledger.release(i64::MAX).await.unwrap(), 0);

    ledger.bury(&attempt(1).signature).await.unwrap();
    assert!(ledger.open_attempts().await.unwrap().is_empty());
    assert_eq!(ledger.unsent().await.unwrap().len(), 1);
    ledger.sign(digest, &attempt(2)).await.unwrap();
    assert!(ledger.unsent().await.unwrap().is_empty());
    assert_eq!(
        ledger.signatures(digest).await.unwrap(),
        [attempt(1).signature, attempt(2).signature]
    );
    let failed = Landing::Failed {
        slot: 3,
        rejection: no.clone(),
    };
    assert!(
        ledger
            .land(digest, &attempt(2).signature, &failed)
            .await
            .unwrap()
    );
    // Final: nothing changes it.
    let confirmed = Landing::Confirmed { slot: 4 };
    assert!(
        !ledger
            .land(digest, &attempt(2).signature, &confirmed)
            .await
            .unwrap()
    );
    assert_eq!(state(&ledger, &admission).await, State::Failed);
    assert!(!ledger.take_success(digest).await.unwrap());
    assert!(matches!(claim(&ledger, &admission).await, Claim::Known(_)));
}

#[tokio::test]
async fn an_intent_expires_when_all_is_dead() {
    let (ledger, _dir) = open().await;
    let admission = admission(|_| {});
    signed(&ledger, &admission, 1).await;
    ledger.bury(&attempt(1).signature).await.unwrap();
    let late = Rejection::new(Reason::UnexpectedSettle, "late");
    assert!(ledger.expire(&admission.digest, &late).await.unwrap());
    let row = ledger.payment(&admission.digest).await.unwrap().unwrap();
    assert_eq!(row.state, State::Expired);
    assert_eq!(
        row.verdict,
        Some(("unexpected_settle_error".to_owned(), "late".to_owned()))
    );
}

#[tokio::test]
async fn a_start_finds_what_was_open() {
    let (ledger, dir) = open().await;
    let interrupted = admission(|_| {});
    let sent = admission(|intent| intent.nonce = 2);
    let dead = admission(|intent| intent.nonce = 3);
    assert_eq!(claim(&ledger, &interrupted).await, Claim::New);
    signed(&ledger, &sent, 2).await;
    signed(&ledger, &dead, 3).await;
    ledger.bury(&attempt(3).signature).await.unwrap();
    drop(ledger);

    let ledger = Ledger::open(&url(&dir)).await.unwrap();
    assert_eq!(ledger.release(i64::MAX).await.unwrap(), 1);
    assert_eq!(state(&ledger, &interrupted).await, State::Rejected);
    let open = ledger.open_attempts().await.unwrap();
    assert_eq!(open.len(), 1);
    assert_eq!(open[0].digest, sent.digest);
    let unsent = ledger.unsent().await.unwrap();
    assert_eq!(unsent.len(), 1);
    assert_eq!(unsent[0].digest, dead.digest);
}

#[tokio::test]
async fn the_number_of_open_payments_is_bounded() {
    let (ledger, _dir) = open().await;
    for nonce in 0..3 {
        let admission = admission(|intent| intent.nonce = nonce);
        let claim = ledger
            .claim(&admission, Version::V1, unix_millis(), 2)
            .await
            .unwrap();
        assert_eq!(claim, if nonce < 2 { Claim::New } else { Claim::Full });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_intents_cannot_pass_on_one_balance() {
    let (ledger, _dir) = open().await;
    // 500,000 are approved: 50 payments of 10,000.
    let tasks: Vec<_> = (0..60)
        .map(|nonce| {
            let ledger = ledger.clone();
            let admission = admission(|intent| intent.nonce = nonce);
            tokio::spawn(async move { claim(&ledger, &admission).await })
        })
        .collect();
    let mut taken = 0;
    for task in tasks {
        match task.await.unwrap() {
            Claim::New => taken += 1,
            Claim::Refused(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(taken, 50);
}
