//! What `GET /v1/intents/{digest}` says, and what is never said.

use serde_json::{Value, json};
use sluice_intent::Skip;
use sluice_relayer::{
    chain::CLOCK,
    http::IntentView,
    proof::{NonceWitness, Proof},
};
use sluice_sdk::{
    accounts::{NonceAccount, SluiceAccount},
    x402::SplitPayload,
};

use crate::{
    fake::{Fate, LIFE, SLOT, custom},
    http::{PATIENT, QUICK, World, invalid, reason},
    postgres::{Store, on_both},
    scene::{NOW, OPENED, Scene, agent, clock, nonce_account, raw},
};

on_both! {
    a_landing_is_proved_by_its_place_on_chain
    a_refusal_is_proved_by_the_transaction_that_refused
    what_is_under_way_is_pending
    impossible_needs_the_finalized_clock_and_every_signature_dead
    a_used_nonce_speaks_against_impossible
    a_nonce_account_that_was_opened_anew_says_nothing
    a_node_that_has_forgotten_proves_no_death
    an_error_proves_no_death
    what_was_never_signed_is_unknown
    a_program_that_pauses_in_the_middle_of_a_batch
}

fn proof(view: &IntentView) -> &Proof {
    view.proof.as_ref().expect("a proof")
}

async fn a_landing_is_proved_by_its_place_on_chain(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    let answer = world.settle(&world.body(1)).await;
    assert!(answer.success);
    let landed = |commitment: &str| Proof::Landed {
        transaction: answer.transaction.clone(),
        slot: SLOT,
        index: 0,
        commitment: commitment.to_owned(),
    };
    let view = world.intent(1).await;
    assert_eq!(proof(&view), &landed("confirmed"));
    // On the wire.
    let text = serde_json::to_value(&view).unwrap();
    assert_eq!(
        text["proof"],
        json!({"verdict": "landed", "transaction": answer.transaction, "slot": SLOT, "index": 0,
            "commitment": "confirmed"})
    );
    world.chain.state().finalized = true;
    let view = world.until_state(1, "finalized").await;
    assert_eq!(proof(&view), &landed("finalized"));
}

async fn a_refusal_is_proved_by_the_transaction_that_refused(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world
        .chain
        .state()
        .codes
        .insert(1, Skip::SourceFrozen.code());
    let answer = world.settle(&world.body(1)).await;
    assert_eq!(reason(&answer), "invalid_sluice_split_source_frozen");
    let view = world.intent(1).await;
    let refused = Proof::Refused {
        transaction: answer.transaction,
        slot: SLOT,
        index: 0,
        commitment: "confirmed".to_owned(),
    };
    assert_eq!(proof(&view), &refused);
}

async fn what_is_under_way_is_pending(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Lost;
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "settlement_pending"
    );
    let outcomes = |view: &IntentView| match proof(view) {
        Proof::Pending { transactions } => {
            let outcomes = transactions.iter().map(|open| open.outcome.clone());
            outcomes.collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(outcomes(&world.intent(1).await), ["open"]);
    // Its first transaction dies, and the intent lives: still nobody knows.
    world.chain.state().height += LIFE + 1;
    let view = world.until(1, |view| view.attempts.len() == 2).await;
    assert_eq!(outcomes(&view), ["dead", "open"]);
    // It dies with the second, but the chain's finalized clock has not passed it.
    {
        let mut state = world.chain.state();
        state.accounts.insert(CLOCK, clock(NOW + 60));
        state.height += LIFE + 1;
    }
    let view = world.until(1, |view| view.attempts.len() == 3).await;
    assert_eq!(outcomes(&view), ["dead", "dead", "open"]);
}

/// Has a payment's every transaction die, and its intent expire.
async fn dead(world: &World) -> IntentView {
    world.chain.state().fate = Fate::Lost;
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "settlement_pending"
    );
    world.chain.state().height += LIFE + 1;
    world.until(1, |view| view.attempts.len() == 2).await;
    {
        let mut state = world.chain.state();
        state.height += LIFE + 1;
        state.accounts.insert(CLOCK, clock(NOW + 61));
    }
    world.until_state(1, "expired").await
}

async fn impossible_needs_the_finalized_clock_and_every_signature_dead(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    let view = dead(&world).await;
    let Proof::Impossible {
        expires_at,
        chain_time,
        transactions,
        nonce,
    } = proof(&view)
    else {
        panic!("{view:?}")
    };
    assert_eq!((*expires_at, *chain_time), (NOW + 60, NOW + 61));
    assert_eq!(*nonce, NonceWitness::Unused);
    let signed: Vec<&str> = transactions
        .iter()
        .map(|dead| dead.signature.as_str())
        .collect();
    assert_eq!(signed, view.attempts);
    let heights: Vec<_> = transactions
        .iter()
        .map(|dead| (dead.last_valid_block_height, dead.finalized_block_height))
        .collect();
    let (first, second) = (1_000 + LIFE, 1_000 + LIFE + 1 + LIFE);
    assert_eq!(
        heights,
        [(first, Some(first + 1)), (second, Some(second + 1))]
    );
    // It survives a restart, because it is on disk.
    let before = view.proof.clone();
    let world = world.restart().await;
    assert_eq!(world.intent(1).await.proof, before);
    // And the same intent is not settled later either.
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "invalid_sluice_split_expired"
    );
    assert_eq!(world.chain.state().paid(), 0);
}

fn with_nonce_account(world: &World, change: impl FnOnce(&mut NonceAccount)) {
    let mut state = world.chain.state();
    let account = &state.accounts[&nonce_account()];
    let mut nonce = NonceAccount::decode(&account.owner, &account.data).unwrap();
    change(&mut nonce);
    state.accounts.insert(nonce_account(), raw(&nonce));
}

/// Somebody has used the nonce: perhaps for this payment, through a relayer with another ledger. Then nobody may tell
/// the payer to pay again.
async fn a_used_nonce_speaks_against_impossible(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Lost;
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "settlement_pending"
    );
    with_nonce_account(&world, |account| {
        let window = account.lanes[1].window().take(1).unwrap();
        account.lanes[1].top = window.top;
        account.lanes[1].window = window.bits;
    });
    {
        let mut state = world.chain.state();
        state.height += LIFE + 1;
        state.accounts.insert(CLOCK, clock(NOW + 61));
    }
    let view = world.until_state(1, "expired").await;
    assert!(
        matches!(
            proof(&view),
            Proof::Unknown {
                nonce: NonceWitness::Used,
                ..
            }
        ),
        "{view:?}"
    );
    assert!(view.message.unwrap().contains("another relayer"));
}

async fn a_nonce_account_that_was_opened_anew_says_nothing(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Lost;
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "settlement_pending"
    );
    with_nonce_account(&world, |account| account.opened_slot = OPENED + 1);
    {
        let mut state = world.chain.state();
        state.height += LIFE + 1;
        state.accounts.insert(CLOCK, clock(NOW + 61));
    }
    let view = world.until_state(1, "expired").await;
    assert!(
        matches!(
            proof(&view),
            Proof::Impossible {
                nonce: NonceWitness::Silent,
                ..
            }
        ),
        "{view:?}"
    );
}

/// "Not known" from a node whose memory does not go back that far: it may have landed.
async fn a_node_that_has_forgotten_proves_no_death(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Lost;
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "settlement_pending"
    );
    {
        let mut state = world.chain.state();
        state.first_slot = SLOT + 1;
        state.height += LIFE + 1;
        state.accounts.insert(CLOCK, clock(NOW + 61));
    }
    // It is asked, again and again.
    let asked = world.chain.state().searches;
    while world.chain.state().searches < asked + 5 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let view = world.intent(1).await;
    assert!(matches!(proof(&view), Proof::Pending { .. }), "{view:?}");
    assert_eq!(view.attempts.len(), 1);
    // Another one still knows, and it had landed.
    world.chain.state().fate = Fate::Confirmed;
    let view = world.until_state(1, "confirmed").await;
    assert!(matches!(proof(&view), Proof::Landed { .. }), "{view:?}");
    assert!(world.settle(&world.body(1)).await.success);
}

async fn an_error_proves_no_death(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Lost;
    assert_eq!(
        reason(&world.settle(&world.body(1)).await),
        "settlement_pending"
    );
    {
        let mut state = world.chain.state();
        state.height += LIFE + 1;
        state.accounts.insert(CLOCK, clock(NOW + 61));
        state.searches_fail = true;
    }
    let asked = world.chain.state().searches;
    while world.chain.state().searches < asked + 5 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let view = world.intent(1).await;
    assert!(matches!(proof(&view), Proof::Pending { .. }), "{view:?}");
    world.chain.state().searches_fail = false;
    let view = world.until_state(1, "expired").await;
    assert!(matches!(proof(&view), Proof::Impossible { .. }), "{view:?}");
}

async fn what_was_never_signed_is_unknown(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    // Judged good, and not settled; and refused before anything was signed.
    assert!(world.verify(&world.body(1)).await.is_valid);
    let mut poor = world.scene.intent(2);
    poor.amount = 99;
    let digests = [
        world.scene.intent(1).digest(),
        poor.digest(),
        [0xAB; 32],
        // Expired long ago, which this relayer cannot know of it.
        world.scene.intent(3).digest(),
    ];
    for later in [NOW, NOW + 3_600] {
        world.chain.state().accounts.insert(CLOCK, clock(later));
        for digest in &digests {
            let path = format!("/v1/intents/{}", hex::encode(digest));
            let response = world.get(&path).await;
            assert_eq!(response.status(), 404);
            let body: Value = response.json().await.unwrap();
            assert_eq!(body["error"], "intent_not_found");
            assert!(body["message"].as_str().unwrap().starts_with("unknown"));
            assert_eq!(body.get("proof"), None);
        }
    }
}

/// Bad day: every payment of the batch is told why, and none costs another fee.
async fn a_program_that_pauses_in_the_middle_of_a_batch(store: Store) {
    let world = World::on(store, crate::load::crowd(), PATIENT).await;
    let world = std::sync::Arc::new(world);
    world.chain.state().send_takes = std::time::Duration::from_millis(50);
    // Paused after all were admitted: 100 is the program's word for it.
    world.chain.state().fate = Fate::Failed(custom(100));
    let answers = crate::load::settle_all(&world, 2).await;
    for (nonce, answer) in &answers {
        assert_eq!(reason(answer), "invalid_sluice_split_paused", "{nonce}");
        assert!(!answer.transaction.is_empty());
    }
    {
        let state = world.chain.state();
        let carried: usize = state.wires.values().map(|wire| wire.payments.len()).sum();
        assert_eq!(carried, answers.len(), "a fee was paid twice for nothing");
        assert_eq!(state.paid(), 0);
    }
    for (nonce, answer) in &answers {
        let payer = u8::try_from(nonce % 16).unwrap();
        let view = world.intent_by(&world.scene.intent_of(payer, *nonce)).await;
        assert_eq!(view.state, "failed");
        let Proof::Refused { transaction, .. } = proof(&view) else {
            panic!("{view:?}")
        };
        assert_eq!(transaction, &answer.transaction);
    }
    // Goes on as soon as the program does.
    world.chain.state().fate = Fate::Confirmed;
    assert!(world.settle(&world.body(100)).await.success);
}

/// Seen in the field: called valid at `/verify`. Here every bit of it counts, before, while and after it is settled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupted_payer_signature_is_never_valid() {
    let world = World::with(Scene::default(), QUICK).await;
    let good = world.body(1);
    let signed = world.scene.intent(1).sign(&agent()).unwrap();
    let payload = serde_json::to_value(SplitPayload::of_intent(&signed)).unwrap();
    let text = payload["signature"].as_str().unwrap();
    let signature = bs58::decode(text).into_vec().unwrap();
    let with = |signature: &[u8], body: &Value| {
        let mut body = body.clone();
        let text = bs58::encode(signature).into_string();
        body["paymentPayload"]["payload"]["signature"] = json!(text);
        body
    };
    assert_eq!(with(&signature, &good), good);
    // Known to be good, so that a memory of that could mislead.
    assert!(world.verify(&good).await.is_valid);
    let mut corrupted: Vec<Vec<u8>> = (0..512)
        .map(|bit| {
            let mut bytes = signature.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        })
        .collect();
    corrupted.push(vec![0; 64]);
    corrupted.push(vec![255; 64]);
    // R and s the other way round, and somebody else's good signature over another intent.
    corrupted.push([&signature[32..], &signature[..32]].concat());
    let other = world.scene.intent(2).sign(&agent()).unwrap();
    corrupted.push(other.entry().signature.to_vec());
    for bytes in &corrupted {
        let answer = world.verify(&with(bytes, &good)).await;
        assert_eq!(invalid(&answer), "invalid_sluice_split_bad_signature");
    }
    let v1 = world.scene.body_v1(world.scene.intent(1));
    assert!(world.verify(&v1).await.is_valid);
    for bytes in corrupted.iter().step_by(37) {
        for body in [&good, &v1] {
            let answer = world.settle(&with(bytes, body)).await;
            assert_eq!(reason(&answer), "invalid_sluice_split_bad_signature");
            invalid(&world.verify(&with(bytes, body)).await);
        }
    }
    assert!(world.chain.state().sent.is_empty(), "a fee was paid for it");
    // While the real one is settling, and once it is settled.
    world.chain.state().fate = Fate::Processed;
    assert_eq!(reason(&world.settle(&good).await), "settlement_pending");
    for fate in [Fate::Processed, Fate::Confirmed] {
        world.chain.state().fate = fate.clone();
        if fate == Fate::Confirmed {
            world.until_state(1, "confirmed").await;
        }
        for bytes in corrupted.iter().step_by(101) {
            invalid(&world.verify(&with(bytes, &good)).await);
            let answer = world.settle(&with(bytes, &good)).await;
            assert_eq!(reason(&answer), "duplicate_settlement");
        }
    }
    assert!(world.settle(&good).await.success);
    assert_eq!(world.chain.state().transactions().len(), 1);
}
