//! Attack 30: the relayer dies between any two steps of a payment's life. The real process is killed by SIGKILL there,
//! starts again on the same ledger, and each payment is on chain once and answered truly.
//!
//! Four payers pay at once: the first alone in its transaction, the others together in another.

use std::{collections::HashSet, io::Write, net::TcpStream, sync::Arc, time::Duration};

use serde_json::Value;
use sluice_intent::Skip;
use sluice_relayer::proof::Proof;
use sluice_sdk::{Address, x402::SettleResponse};
use solana_signature::Signature;
use tokio::task::JoinHandle;

use crate::{
    fake::{Fate, read},
    halt::{Change, Halt},
    http::reason,
    load::crowd,
    node::{Gate, When, asked, sent},
    postgres::{Store, on_both},
    process::{Process, Site, until},
    scene::{Scene, nonce_account_of},
};

on_both! {
    killed_after_admit
    killed_after_sign
    killed_while_it_stores
    killed_after_store
    killed_after_send
    killed_after_landing
    killed_after_the_status
    killed_after_the_codes
    killed_before_the_landing_is_stored
    killed_while_the_landing_is_stored
    killed_before_the_answer
    killed_after_a_refusal_on_chain
    killed_at_any_moment_under_load
}

/// Long enough for a commit that hangs, and for a lease to run out.
pub const LIMITS: &str =
    "limits = { confirm_timeout_secs = 60, request_timeout_secs = 60, drain_secs = 20 }";
const PAYERS: u8 = 4;

/// What callers of a killed process heard.
type Calls = Vec<JoinHandle<Option<(u16, Value)>>>;

async fn site(store: Store) -> Site {
    let scene = Scene {
        others: PAYERS - 1,
        ..Scene::default()
    };
    let batch = format!(
        "batch = {{ max_payments = {}, linger_ms = 1000 }}",
        PAYERS - 1
    );
    Site::new(store, scene, &format!("{LIMITS}\n{batch}")).await
}

/// Starts a relayer and has it admit every payment. It signs none before the gate is lifted.
async fn admitted(site: &Site) -> (Process, Calls, Gate) {
    let gate = site.node.hold("getLatestBlockhash", When::Before);
    let relayer = site.start("one").await;
    let mut calls = Vec::new();
    for payer in 0..PAYERS {
        calls.push(relayer.settling(&site.body(payer, 1)));
        // The next ones find it under way, and gather.
        let batched = payer == 0 || payer == PAYERS - 1;
        let state = if batched { "batched" } else { "admitted" };
        relayer
            .until(&site.digest(payer, 1), |view| view.state == state)
            .await;
    }
    (relayer, calls, gate)
}

/// Kills the relayer. Its callers learn nothing.
async fn kill(relayer: Process, calls: Calls) {
    relayer.kill();
    for call in calls {
        assert_eq!(call.await.unwrap(), None);
    }
}

/// Waits until the calls that a gate holds are about every payment.
async fn all_held(gate: &Gate, payments: impl Fn(&Value) -> Vec<(Address, u64)>) {
    gate.until(|calls| {
        let about: HashSet<_> = calls.iter().flat_map(&payments).collect();
        about.len() == usize::from(PAYERS)
    })
    .await;
}

async fn all_sent(site: &Site) {
    until("every payment sent", || async {
        let state = site.node.chain.state();
        let payments = state.wires.values().map(|wire| wire.payments.len());
        payments.sum::<usize>() == usize::from(PAYERS)
    })
    .await;
}

fn payments_of(site: &Site, signatures: Vec<Signature>) -> Vec<(Address, u64)> {
    let state = site.node.chain.state();
    signatures
        .iter()
        .filter_map(|signature| state.wires.get(signature))
        .flat_map(|wire| wire.payments.clone())
        .collect()
}

/// Starts again on a ledger that knows nothing of the payments: nothing was promised, and each can be settled.
async fn never_heard_of(site: &Site) {
    assert_eq!(site.store.count("SELECT count(*) FROM payments").await, 0);
    assert_eq!(site.node.chain.state().sent, []);
    let relayer = site.start("one").await;
    for payer in 0..PAYERS {
        assert_eq!(relayer.intent(&site.digest(payer, 1)).await, None);
        assert!(relayer.settle(&site.body(payer, 1)).await.success);
    }
    settled(site, &relayer).await;
}

/// Starts again, and finds that every payment lands without anybody asking for it. `told` says whether the ledger gave
/// the one success away before, where that is the same for all.
async fn finished(site: &Site, told: Option<bool>) {
    let relayer = site.start("one").await;
    for payer in 0..PAYERS {
        let view = relayer
            .until(&site.digest(payer, 1), |view| {
                matches!(view.proof, Some(Proof::Landed { .. }))
            })
            .await;
        if let Some(told) = told {
            assert_eq!(view.answered, told);
        }
        let answer = relayer.settle(&site.body(payer, 1)).await;
        if view.answered {
            assert_eq!(reason(&answer), "duplicate_settlement");
        } else {
            assert!(answer.success, "{answer:?}");
        }
        assert_eq!(Some(answer.transaction), view.transaction);
    }
    settled(site, &relayer).await;
}

/// Every payment is on chain once, where the relayer says, and buys nothing more.
async fn settled(site: &Site, relayer: &Process) {
    for payer in 0..PAYERS {
        let again = relayer.settle(&site.body(payer, 1)).await;
        assert_eq!(reason(&again), "duplicate_settlement");
        let view = relayer.intent(&site.digest(payer, 1)).await.unwrap();
        assert!(view.answered);
        let Some(Proof::Landed {
            transaction, index, ..
        }) = view.proof
        else {
            panic!("{view:?}")
        };
        assert_eq!(again.transaction, transaction);
        let state = site.node.chain.state();
        let signature: Signature = transaction.parse().unwrap();
        let place = index as usize;
        assert_eq!(state.landed[&signature][place], 0);
        let paid = state.wires[&signature].payments[place];
        assert_eq!(paid, (nonce_account_of(payer), 1));
    }
    assert_eq!(site.node.chain.state().paid(), usize::from(PAYERS));
    site.signed_once(usize::from(PAYERS));
    site.written_ahead();
}

async fn killed_after_admit(store: Store) {
    let site = site(store).await;
    let (relayer, calls, gate) = admitted(&site).await;
    kill(relayer, calls).await;
    gate.lift();
    never_heard_of(&site).await;
}

/// Signed in the change of the ledger that writes it down, and not committed.
async fn killed_after_sign(store: Store) {
    let site = site(store).await;
    let (relayer, calls, gate) = admitted(&site).await;
    let halt = Halt::before(&site.store, Change::Signing).await;
    gate.lift();
    halt.reached().await;
    kill(relayer, calls).await;
    halt.release().await;
    never_heard_of(&site).await;
}

/// The commit was ordered, nobody heard how it ended, and it was made.
async fn killed_while_it_stores(store: Store) {
    if !store.is_postgres() {
        // SQLite commits in the process that dies: there is no such moment.
        return;
    }
    let site = site(store).await;
    let (relayer, calls, gate) = admitted(&site).await;
    let halt = Halt::in_commit(&site.store, Change::Signing).await;
    gate.lift();
    halt.reached().await;
    kill(relayer, calls).await;
    halt.release().await;
    assert_eq!(site.node.chain.state().sent, []);
    // What had not come that far is not there at all, and can be settled.
    let stored = site.store.count("SELECT count(*) FROM payments").await;
    assert!(stored > 0);
    let relayer = site.start("one").await;
    for payer in 0..PAYERS {
        assert!(relayer.settle(&site.body(payer, 1)).await.success);
    }
    settled(&site, &relayer).await;
}

/// On disk, and no byte has come to a node.
async fn killed_after_store(store: Store) {
    let site = site(store).await;
    let (relayer, calls, gate) = admitted(&site).await;
    let sends = site.node.hold("sendTransaction", When::Before);
    gate.lift();
    all_held(&sends, |call| read(&sent(call)).1.payments).await;
    kill(relayer, calls).await;
    sends.lift();
    let open = "SELECT count(*) FROM transactions WHERE outcome = 'open' AND sent_at IS NULL";
    assert!(site.store.count(open).await > 0);
    assert_eq!(site.node.chain.state().sent, []);
    finished(&site, Some(false)).await;
}

/// A node has it and says nothing; it lands when it suits the cluster.
async fn killed_after_send(store: Store) {
    let site = site(store).await;
    site.node.chain.state().fate = Fate::Lost;
    let (relayer, calls, gate) = admitted(&site).await;
    let sends = site.node.hold("sendTransaction", When::After);
    gate.lift();
    all_held(&sends, |call| read(&sent(call)).1.payments).await;
    kill(relayer, calls).await;
    sends.lift();
    site.node.chain.state().fate = Fate::Confirmed;
    finished(&site, Some(false)).await;
}

async fn land_all(site: &Site) {
    let mut state = site.node.chain.state();
    for signature in state.transactions() {
        state.land(&signature);
    }
    assert_eq!(state.paid(), usize::from(PAYERS));
}

/// It is paid, and the relayer has asked and heard nothing.
async fn killed_after_landing(store: Store) {
    let site = site(store).await;
    let (relayer, calls, gate) = admitted(&site).await;
    let statuses = site.node.hold("getSignatureStatuses", When::Before);
    gate.lift();
    all_sent(&site).await;
    land_all(&site).await;
    statuses.held(1).await;
    kill(relayer, calls).await;
    statuses.lift();
    finished(&site, Some(false)).await;
}

/// The node has said that it landed, and the relayer has not read it.
async fn killed_after_the_status(store: Store) {
    let site = site(store).await;
    // Nothing is seen before everything is sent.
    site.node.chain.state().fate = Fate::Lost;
    let (relayer, calls, gate) = admitted(&site).await;
    gate.lift();
    all_sent(&site).await;
    let statuses = site.node.hold("getSignatureStatuses", When::After);
    site.node.chain.state().fate = Fate::Confirmed;
    all_held(&statuses, |call| payments_of(&site, asked(call))).await;
    assert_eq!(site.node.chain.state().paid(), usize::from(PAYERS));
    kill(relayer, calls).await;
    statuses.lift();
    finished(&site, Some(false)).await;
}

/// The batch is known to have landed, and what it did with each of its payments is not.
async fn killed_after_the_codes(store: Store) {
    let site = site(store).await;
    let (relayer, calls, gate) = admitted(&site).await;
    let codes = site.node.hold("getTransaction", When::After);
    gate.lift();
    codes.held(1).await;
    let dead = calls;
    relayer.kill();
    // The one that travelled alone may have been answered.
    let mut told = 0;
    for call in dead {
        told += i64::from(call.await.unwrap().is_some());
    }
    codes.lift();
    assert!(told <= 1);
    let answered = "SELECT count(*) FROM payments WHERE answered = 1";
    let answered = site.store.count(answered).await;
    assert!(answered <= 1 && told <= answered);
    let relayer = site.start("one").await;
    let mut successes = 0;
    for payer in 0..PAYERS {
        let digest = site.digest(payer, 1);
        let landed = |proof: &Option<Proof>| matches!(proof, Some(Proof::Landed { .. }));
        relayer.until(&digest, |view| landed(&view.proof)).await;
        successes += i64::from(relayer.settle(&site.body(payer, 1)).await.success);
    }
    assert_eq!(successes + answered, i64::from(PAYERS));
    settled(&site, &relayer).await;
}

/// What landed is in a change of the ledger that is not committed.
async fn killed_before_the_landing_is_stored(store: Store) {
    let site = site(store).await;
    let (relayer, calls, gate) = admitted(&site).await;
    let halt = Halt::before(&site.store, Change::Landing).await;
    gate.lift();
    halt.reached().await;
    kill(relayer, calls).await;
    halt.release().await;
    finished(&site, Some(false)).await;
}

/// The commit gives the success to the caller that waits, and is made; the relayer never says it.
async fn killed_while_the_landing_is_stored(store: Store) {
    if !store.is_postgres() {
        return;
    }
    let site = site(store).await;
    site.node.chain.state().fate = Fate::Lost;
    let (relayer, calls, gate) = admitted(&site).await;
    gate.lift();
    all_sent(&site).await;
    let halt = Halt::in_commit(&site.store, Change::Landing).await;
    site.node.chain.state().fate = Fate::Confirmed;
    halt.reached().await;
    kill(relayer, calls).await;
    halt.release().await;
    let answered = "SELECT count(*) FROM payments WHERE answered = 1";
    assert!(site.store.count(answered).await > 0);
    finished(&site, None).await;
}

/// Written down, and perhaps on its way to callers who never read it: the success is not told twice, and the transaction
/// is named to whoever asks.
async fn killed_before_the_answer(store: Store) {
    let site = site(store).await;
    let relayer = site.start("one").await;
    let host = relayer.url().strip_prefix("http://").unwrap();
    // Sockets that are written to and never read from.
    let callers: Vec<TcpStream> = (0..PAYERS)
        .map(|payer| {
            let body = site.body(payer, 1).to_string();
            let mut caller = TcpStream::connect(host).unwrap();
            write!(
                caller,
                "POST /settle HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            caller
        })
        .collect();
    let answered = "SELECT count(*) FROM payments WHERE answered = 1";
    until("every success given away", || async {
        site.store.count(answered).await == i64::from(PAYERS)
    })
    .await;
    relayer.kill();
    drop(callers);
    finished(&site, Some(true)).await;
}

/// No answer ever for one that failed on chain: seen in the field, and not here.
async fn killed_after_a_refusal_on_chain(store: Store) {
    let site = site(store).await;
    site.node.chain.state().fate = Fate::Lost;
    let (relayer, calls, gate) = admitted(&site).await;
    gate.lift();
    all_sent(&site).await;
    let statuses = site.node.hold("getSignatureStatuses", When::After);
    {
        let mut state = site.node.chain.state();
        state.codes.insert(1, Skip::SourceFrozen.code());
        state.fate = Fate::Confirmed;
    }
    all_held(&statuses, |call| payments_of(&site, asked(call))).await;
    kill(relayer, calls).await;
    statuses.lift();
    let relayer = site.start("one").await;
    for payer in 0..PAYERS {
        let view = relayer
            .until(&site.digest(payer, 1), |view| view.state == "failed")
            .await;
        let Some(Proof::Refused { transaction, .. }) = &view.proof else {
            panic!("{view:?}")
        };
        for _ in 0..2 {
            let answer = relayer.settle(&site.body(payer, 1)).await;
            assert_eq!(reason(&answer), "invalid_sluice_split_source_frozen");
            assert_eq!(&answer.transaction, transaction);
        }
    }
    assert_eq!(site.node.chain.state().paid(), 0);
    site.signed_once(usize::from(PAYERS));
    site.written_ahead();
}

/// A number from the environment, or another one.
pub fn from_env(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Small, and the same on every machine for a seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, most: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % most
    }
}

/// Whether an answer that is no success says nothing untrue of a payment that may have been paid.
#[track_caller]
pub fn harmless(status: u16, answer: &Value) {
    match status {
        200 => {
            let answer: SettleResponse = serde_json::from_value(answer.clone()).unwrap();
            let word = reason(&answer);
            assert!(
                matches!(word, "duplicate_settlement" | "settlement_pending"),
                "{answer:?}"
            );
        }
        503 => assert_eq!(answer["retriable"], true, "{answer}"),
        _ => panic!("{status}: {answer}"),
    }
}

/// SLUICE_KILL_SEED repeats a run, SLUICE_KILL_ROUNDS makes it longer.
async fn killed_at_any_moment_under_load(store: Store) {
    let seed = from_env("SLUICE_KILL_SEED", rand::random::<u32>().into());
    let rounds = from_env("SLUICE_KILL_ROUNDS", 6);
    println!("seed {seed}, {rounds} rounds");
    let mut dice = Dice::new(seed);
    let site = Arc::new(Site::new(store, crowd(), LIMITS).await);
    site.node.lose_one_in(4);
    site.node.chain.state().send_takes = Duration::from_millis(10);
    let per_round = 48u64;
    let mut payments: Vec<(u8, u64)> = Vec::new();
    let mut successes = vec![0u32; usize::try_from(rounds * per_round).unwrap()];
    for round in 0..rounds {
        let relayer = site.start("one").await;
        let new = (0..per_round).map(|i| (u8::try_from(i % 16).unwrap(), round * 3 + i / 16));
        let first = payments.len();
        payments.extend(new);
        // The new ones, and some of the earlier ones again.
        let mut calls = Vec::new();
        for (i, (payer, nonce)) in payments.iter().enumerate() {
            if i >= first || dice.below(4) == 0 {
                calls.push((i, relayer.settling(&site.body(*payer, *nonce))));
            }
        }
        tokio::time::sleep(Duration::from_millis(dice.below(700))).await;
        relayer.kill();
        for (i, call) in calls {
            if let Some((status, answer)) = call.await.unwrap() {
                if status == 200 && answer["success"] == true {
                    successes[i] += 1;
                } else {
                    harmless(status, &answer);
                }
            }
        }
    }
    let relayer = site.start("one").await;
    let mut silent = 0;
    for (i, (payer, nonce)) in payments.iter().enumerate() {
        let digest = site.digest(*payer, *nonce);
        let before = relayer.intent(&digest).await;
        let answer = relayer.settle(&site.body(*payer, *nonce)).await;
        if answer.success {
            successes[i] += 1;
        } else {
            assert_eq!(reason(&answer), "duplicate_settlement", "{before:?}");
        }
        let view = relayer.intent(&digest).await.unwrap();
        assert!(matches!(view.proof, Some(Proof::Landed { .. })), "{view:?}");
        assert!(view.answered);
        // Given away in the commit, and the process died before it was said.
        silent += u32::from(successes[i] == 0);
        assert!(successes[i] <= 1, "two successes for {digest}");
    }
    println!(
        "{silent} of {} successes died with the process",
        payments.len()
    );
    assert_eq!(site.node.chain.state().paid(), payments.len());
    site.signed_once(payments.len());
    site.written_ahead();
}
