//! SIGTERM to the process: it takes no more, finishes what is at work, says how the rest stands, and ends well.

use std::time::Duration;

use sluice_relayer::proof::Proof;

use crate::{
    fake::Fate,
    http::reason,
    kill::{LIMITS, harmless},
    load::crowd,
    postgres::{Store, on_both},
    process::{Process, Site, until},
};

on_both! {
    a_signal_under_load_loses_nothing
    a_signal_does_not_wait_for_what_never_lands
}

/// What a stop may take beyond its drain.
const GRACE: Duration = Duration::from_secs(20);

async fn ends_well(relayer: &mut Process, drain: Duration) {
    let status = tokio::time::timeout(drain + GRACE, relayer.ended()).await;
    let status = status.expect("it did not end in time");
    assert_eq!(status.code(), Some(0), "{}", relayer.log());
    assert!(relayer.log().contains("relayer stopped"));
}

async fn a_signal_under_load_loses_nothing(store: Store) {
    let site = Site::new(store, crowd(), LIMITS).await;
    site.node.chain.state().send_takes = Duration::from_millis(30);
    let mut relayer = site.start("one").await;
    let mut calls = Vec::new();
    let mut stopped = false;
    for i in 0..320u64 {
        let (payer, nonce) = (u8::try_from(i % 16).unwrap(), i / 16);
        calls.push(((payer, nonce), relayer.settling(&site.body(payer, nonce))));
        tokio::time::sleep(Duration::from_millis(2)).await;
        if !stopped && site.node.chain.state().paid() > 60 {
            relayer.signal("TERM");
            stopped = true;
        }
    }
    assert!(stopped);
    ends_well(&mut relayer, Duration::from_secs(20)).await;
    let mut told = Vec::new();
    for (payment, call) in calls {
        match call.await.unwrap() {
            Some((200, answer)) if answer["success"] == true => told.push(payment),
            Some((status, answer)) => harmless(status, &answer),
            // The door was shut.
            None => {}
        }
    }
    assert!(told.len() > 60 && told.len() < 320, "{}", told.len());
    // All that was signed has landed, was written down, and was told to its caller.
    assert_eq!(site.node.chain.state().paid(), told.len());
    let answered = "SELECT count(*) FROM payments WHERE state = 'confirmed' AND answered = 1";
    let all = "SELECT count(*) FROM payments";
    let count = i64::try_from(told.len()).unwrap();
    assert_eq!(site.store.count(answered).await, count);
    assert_eq!(site.store.count(all).await, count);
    // Nothing of it is open for the next one, and whoever was not told is settled then.
    let relayer = site.start("one").await;
    for i in 0..320u64 {
        let payment = (u8::try_from(i % 16).unwrap(), i / 16);
        let answer = relayer.settle(&site.body(payment.0, payment.1)).await;
        if told.contains(&payment) {
            assert_eq!(reason(&answer), "duplicate_settlement");
        } else {
            assert!(answer.success, "{answer:?}");
        }
    }
    assert_eq!(site.node.chain.state().paid(), 320);
    site.signed_once(320);
    site.written_ahead();
}

async fn a_signal_does_not_wait_for_what_never_lands(store: Store) {
    let limits =
        "limits = { confirm_timeout_secs = 600, request_timeout_secs = 60, drain_secs = 1 }";
    let site = Site::new(store, crowd(), limits).await;
    site.node.chain.state().fate = Fate::Lost;
    let mut relayer = site.start("one").await;
    let calls: Vec<_> = (0..16u8)
        .map(|payer| relayer.settling(&site.body(payer, 1)))
        .collect();
    until("everything sent", || async {
        let state = site.node.chain.state();
        let carried = state.wires.values().map(|wire| wire.payments.len());
        carried.sum::<usize>() == 16
    })
    .await;
    relayer.signal("TERM");
    ends_well(&mut relayer, Duration::from_secs(1)).await;
    for call in calls {
        let (status, answer) = call.await.unwrap().expect("an answer");
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["errorReason"], "settlement_pending");
        assert_ne!(answer["transaction"], "");
    }
    // The next one takes it up.
    site.node.chain.state().fate = Fate::Confirmed;
    let relayer = site.start("one").await;
    for payer in 0..16 {
        let landed = |proof: &Option<Proof>| matches!(proof, Some(Proof::Landed { .. }));
        relayer
            .until(&site.digest(payer, 1), |view| landed(&view.proof))
            .await;
        assert!(relayer.settle(&site.body(payer, 1)).await.success);
    }
    site.signed_once(16);
}
