//! Payments that their payer gave an id: the extension `payment-identifier`.

use std::sync::Arc;

use reqwest::StatusCode;
use serde_json::{Value, json};
use sluice_intent::Skip;
use sluice_relayer::ledger::{Binding, Claim, NewPayment};
use sluice_sdk::x402::{SettleResponse, SupportedResponse};

use crate::{
    exact::body_to,
    fake::Fate,
    http::{PATIENT, QUICK, World, invalid, reason},
    ledger::{new, nonce, open, transaction},
    load::crowd,
    postgres::{Store, on_both},
    replicas::two,
    scene::{NOW, Scene, merchant, nonce_account},
};

const ID: &str = "pay_7d5d747be160e280504c099d984bcfe0";

on_both! {
    the_same_call_gets_the_same_answer_for_good
    another_payload_with_the_id_is_a_conflict
    twenty_calls_with_one_id_get_one_answer
    two_payloads_at_once_on_one_id_are_one_payment
    a_caller_who_hangs_up_takes_nobody_with_him
    what_failed_is_answered_again_too
    what_was_pending_is_asked_again
    an_id_is_a_payers_own
    an_id_makes_no_second_success_of_a_payment_without_it
    ids_are_bound_with_the_payment_or_not_at_all
    an_id_is_free_again_some_time_after_its_intent
    a_transfer_has_an_id_too
}

/// The body with an id, as the stock client makes it.
fn with_id(mut body: Value, id: &str) -> Value {
    body["paymentPayload"]["extensions"] = json!({
        "payment-identifier": {
            "info": {"required": false, "id": id},
            "schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"},
        },
    });
    body
}

fn body(world: &World, nonce: u64) -> Value {
    with_id(world.body(nonce), ID)
}

/// An answer as it is on the wire: status, whether it is said to be an earlier one, and text.
async fn call(world: &World, path: &str, body: &Value) -> (StatusCode, bool, String) {
    let answer = world.post(path, body.to_string()).await;
    let replayed = answer.headers().contains_key("idempotent-replayed");
    (answer.status(), replayed, answer.text().await.unwrap())
}

async fn conflict(world: &World, body: &Value) {
    for (path, verdict, word) in [
        ("/verify", "isValid", "invalidReason"),
        ("/settle", "success", "errorReason"),
    ] {
        let (status, replayed, text) = call(world, path, body).await;
        assert_eq!(
            (status, replayed),
            (StatusCode::CONFLICT, false),
            "{path}: {text}"
        );
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["error"], "payment_identifier_conflict");
        assert_eq!(answer["retriable"], false);
        assert!(answer["message"].is_string());
        // In the words of the route as well, for stock clients.
        assert_eq!(
            (&answer[verdict], &answer[word]),
            (&json!(false), &answer["error"])
        );
    }
}

async fn the_same_call_gets_the_same_answer_for_good(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    let body = body(&world, 1);
    assert!(world.verify(&body).await.is_valid);
    let (status, replayed, first) = call(&world, "/settle", &body).await;
    assert_eq!((status, replayed), (StatusCode::OK, false));
    let answer: SettleResponse = serde_json::from_str(&first).unwrap();
    assert!(answer.success, "{first}");
    let again = call(&world, "/settle", &body).await;
    assert_eq!(again, (StatusCode::OK, true, first.clone()));
    // The server may write its JSON in another order.
    let text = body.to_string();
    let requirements = text.find("\"paymentRequirements\"").unwrap();
    let payload = text.find("\"paymentPayload\"").unwrap();
    assert_ne!(requirements, payload);
    let turned = format!(
        "{{\"paymentRequirements\":{},\"x402Version\":2,\"paymentPayload\":{}}}",
        body["paymentRequirements"], body["paymentPayload"]
    );
    let answer = world.post("/settle", turned).await;
    assert_eq!(answer.text().await.unwrap(), first);
    // What is settled is not valid for another sale.
    assert_eq!(invalid(&world.verify(&body).await), "duplicate_settlement");

    let world = world.restart().await;
    let again = call(&world, "/settle", &body).await;
    assert_eq!(again, (StatusCode::OK, true, first.clone()));
    // After its intent has expired as well.
    let clock = crate::scene::clock(NOW + 1_000);
    world
        .chain
        .state()
        .accounts
        .insert(sluice_relayer::chain::CLOCK, clock);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let again = call(&world, "/settle", &body).await;
    assert_eq!(again, (StatusCode::OK, true, first));
    assert_eq!(world.chain.state().transactions().len(), 1);
    world.stop().await;
}

async fn another_payload_with_the_id_is_a_conflict(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    assert!(world.settle(&body(&world, 1)).await.success);
    // Another payment; and the same one with something else said about it.
    conflict(&world, &body(&world, 2)).await;
    let mut other = body(&world, 1);
    other["paymentPayload"]["resource"] = json!({"url": "http://localhost/other"});
    conflict(&world, &other).await;
    let world = world.restart().await;
    conflict(&world, &body(&world, 2)).await;
    assert_eq!(world.chain.state().transactions().len(), 1);
    // With an id of its own it is a payment like any other.
    let own = with_id(world.body(2), "another_id_of_17ch");
    assert!(world.settle(&own).await.success);
    world.stop().await;
}

async fn twenty_calls_with_one_id_get_one_answer(store: Store) {
    let world = Arc::new(World::on(store, Scene::default(), PATIENT).await);
    world.chain.state().fate = Fate::Processed;
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { call(&world, "/settle", &body(&world, 1)).await })
        })
        .collect();
    while world.chain.state().sent.is_empty() {
        tokio::task::yield_now().await;
    }
    world.chain.state().fate = Fate::Confirmed;
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    let (_, _, first) = &answers[0];
    assert!(first.contains("\"success\":true"), "{first}");
    assert!(
        answers
            .iter()
            .all(|(status, _, text)| *status == StatusCode::OK && text == first)
    );
    let workers = answers.iter().filter(|(_, replayed, _)| !replayed).count();
    assert_eq!(workers, 1);
    assert_eq!(world.chain.state().transactions().len(), 1);
}

async fn a_caller_who_hangs_up_takes_nobody_with_him(store: Store) {
    let world = Arc::new(World::on(store, Scene::default(), PATIENT).await);
    world.chain.state().fate = Fate::Processed;
    let begin = || {
        let world = Arc::clone(&world);
        tokio::spawn(async move { call(&world, "/settle", &body(&world, 1)).await })
    };
    let first = begin();
    while world.chain.state().sent.is_empty() {
        tokio::task::yield_now().await;
    }
    let second = begin();
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    world.chain.state().fate = Fate::Confirmed;
    let (status, _, text) = second.await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("\"success\":true"), "{text}");
    let again = call(&world, "/settle", &body(&world, 1)).await;
    assert_eq!(again, (StatusCode::OK, true, text));
    assert_eq!(world.chain.state().transactions().len(), 1);
}

async fn two_payloads_at_once_on_one_id_are_one_payment(store: Store) {
    let world = Arc::new(World::on(store, Scene::default(), PATIENT).await);
    for round in 0..10 {
        let id = format!("{ID}_{round}");
        let of = |nonce| with_id(world.body(nonce), &id);
        let (one, two) = (of(2 * round), of(2 * round + 1));
        let (one, two) = tokio::join!(call(&world, "/settle", &one), call(&world, "/settle", &two));
        let mut statuses = [one.0, two.0];
        statuses.sort();
        assert_eq!(
            statuses,
            [StatusCode::OK, StatusCode::CONFLICT],
            "{one:?} {two:?}"
        );
        let won = if one.0 == StatusCode::OK {
            &one.2
        } else {
            &two.2
        };
        assert!(won.contains("\"success\":true"), "{won}");
    }
    assert_eq!(world.chain.state().paid(), 10);
    // The nonces of those that lost are free, and nothing of them is in the ledger.
    assert_eq!(world.store.count("SELECT count(*) FROM payments").await, 10);
    assert_eq!(
        world.store.count("SELECT count(*) FROM identifiers").await,
        10
    );
}

async fn what_failed_is_answered_again_too(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world
        .chain
        .state()
        .codes
        .insert(1, Skip::SourceFrozen.code());
    let body = body(&world, 1);
    let (_, _, first) = call(&world, "/settle", &body).await;
    assert!(
        first.contains("invalid_sluice_split_source_frozen"),
        "{first}"
    );
    let world = world.restart().await;
    assert_eq!(
        call(&world, "/settle", &body).await,
        (StatusCode::OK, true, first)
    );
    assert_eq!(world.chain.state().transactions().len(), 1);
    world.stop().await;
}

async fn what_was_pending_is_asked_again(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    world.chain.state().fate = Fate::Processed;
    let body = body(&world, 1);
    for _ in 0..2 {
        assert_eq!(reason(&world.settle(&body).await), "settlement_pending");
    }
    world.chain.state().fate = Fate::Confirmed;
    let first = world.settle(&body).await;
    assert!(first.success, "{first:?}");
    assert_eq!(world.settle(&body).await, first);
    assert_eq!(world.chain.state().transactions().len(), 1);
    world.stop().await;
}

/// Rows 28 and 33: nobody takes an id that is another's, or learns what it stands for.
async fn an_id_is_a_payers_own(store: Store) {
    let world = World::on(store, crowd(), QUICK).await;
    // Somebody who cannot sign for the payer.
    let mut forged = body(&world, 7);
    let signature = world.body(8)["paymentPayload"]["payload"]["signature"].clone();
    forged["paymentPayload"]["payload"]["signature"] = signature;
    assert_eq!(
        reason(&world.settle(&forged).await),
        "invalid_sluice_split_bad_signature"
    );
    assert_eq!(
        world.store.count("SELECT count(*) FROM identifiers").await,
        0
    );
    let first = world.settle(&body(&world, 1)).await;
    assert!(first.success, "{first:?}");
    // Another payer's payment with the same id is another payment.
    let other = with_id(world.scene.body(world.scene.intent_of(1, 1)), ID);
    let second = world.settle(&other).await;
    assert!(second.success, "{second:?}");
    assert_ne!(first.payer, second.payer);
    assert_ne!(first.transaction, second.transaction);
    // The forger is told of a conflict, and nothing else.
    conflict(&world, &forged).await;
    world.stop().await;
}

async fn an_id_makes_no_second_success_of_a_payment_without_it(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    // Paid without an id: with one it is the same payment, told already.
    assert!(world.settle(&world.body(1)).await.success);
    assert_eq!(
        reason(&world.settle(&body(&world, 1)).await),
        "duplicate_settlement"
    );
    // Paid with an id: without it, or with another, it is told once.
    assert!(world.settle(&body(&world, 2)).await.success);
    assert_eq!(
        reason(&world.settle(&world.body(2)).await),
        "duplicate_settlement"
    );
    let other = with_id(world.body(2), "another_id_of_17ch");
    assert_eq!(reason(&world.settle(&other).await), "duplicate_settlement");
    assert!(world.settle(&body(&world, 2)).await.success);
    assert_eq!(world.chain.state().transactions().len(), 2);
    world.stop().await;
}

async fn ids_are_bound_with_the_payment_or_not_at_all(store: Store) {
    let ledger = open(&store).await;
    let bound = |of: u64, id: &str, fingerprint: u8| {
        let mut payment = nonce(of);
        payment.deal.binding = Some(Binding {
            owner: nonce_account(),
            id: id.to_owned(),
            fingerprint: [fingerprint; 32],
        });
        payment
    };
    let find = async |payment: &NewPayment, id: &str| {
        let found = ledger.bound(&payment.service, &nonce_account(), id).await;
        found
            .unwrap()
            .map(|bound| (bound.fingerprint[0], bound.digest))
    };
    let seal = async |payments: &[&NewPayment], seed| {
        let candidates = payments.iter().map(|payment| new(payment)).collect();
        let sealed = ledger.seal(candidates, move |_| Ok::<_, ()>(transaction(seed)));
        sealed.await.unwrap().claims
    };
    // A transaction that is not made binds nothing.
    let (one, two) = (bound(1, "a", 1), bound(2, "a", 2));
    let made = ledger
        .seal(vec![new(&one)], |_| Err::<_, &str>("no"))
        .await
        .unwrap();
    assert_eq!(made.transaction, Err("no"));
    assert_eq!(find(&one, "a").await, None);
    // Of two in one batch one has it, and the other is not there.
    let claims = seal(&[&one, &two], 1).await;
    let (won, lost) = if claims == [Claim::Sealed, Claim::Bound] {
        (&one, &two)
    } else {
        assert_eq!(claims, [Claim::Bound, Claim::Sealed]);
        (&two, &one)
    };
    let fingerprint = won.deal.binding.as_ref().unwrap().fingerprint[0];
    assert_eq!(find(won, "a").await, Some((fingerprint, won.digest)));
    assert!(ledger.payment(&lost.digest).await.unwrap().is_none());
    assert_eq!(seal(&[lost], 2).await, [Claim::Bound]);
    // The same again is known, and stays bound.
    assert!(matches!(seal(&[won], 3).await[..], [Claim::Known(_)]));
    assert_eq!(find(won, "a").await, Some((fingerprint, won.digest)));
    // A payment that is there without the id, or whose nonce is another's, does not take one.
    let plain = nonce(3);
    assert_eq!(seal(&[&plain], 4).await, [Claim::Sealed]);
    assert!(matches!(
        seal(&[&bound(3, "b", 3)], 5).await[..],
        [Claim::Known(_)]
    ));
    assert_eq!(find(&plain, "b").await, None);
    let mut rival = bound(3, "c", 3);
    rival.digest = [9; 32];
    assert_eq!(seal(&[&rival], 6).await, [Claim::NonceConflict]);
    assert_eq!(find(&plain, "c").await, None);
    // Kept until its intent has been expired for long enough.
    assert_eq!(ledger.forget_identifiers(won.expires_at).await.unwrap(), 0);
    assert_eq!(
        ledger.forget_identifiers(won.expires_at + 1).await.unwrap(),
        1
    );
    assert_eq!(find(won, "a").await, None);
}

async fn an_id_is_free_again_some_time_after_its_intent(store: Store) {
    let config = format!("{QUICK}\npayment_identifier = {{ keep_secs = 2000 }}");
    let world = World::on(store, Scene::default(), &config).await;
    let first = body(&world, 1);
    assert!(world.settle(&first).await.success);
    let at = |now: i64| {
        let clock = crate::scene::clock(now);
        let mut state = world.chain.state();
        state.accounts.insert(sluice_relayer::chain::CLOCK, clock);
    };
    let later = |nonce, now: i64| {
        let mut intent = world.scene.intent(nonce);
        intent.expires_at = u32::try_from(now + 60).unwrap();
        with_id(world.scene.body(intent), ID)
    };
    at(NOW + 1_900);
    conflict(&world, &later(2, NOW + 1_900)).await;
    at(NOW + 3_000);
    for _ in 0..1_000 {
        if world.store.count("SELECT count(*) FROM identifiers").await == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(world.settle(&later(2, NOW + 3_000)).await.success);
    // The earlier payment lost its name, and is told no second time for that.
    conflict(&world, &first).await;
    let plain = world.settle(&world.body(1)).await;
    assert_eq!(reason(&plain), "duplicate_settlement");
    world.stop().await;
}

async fn a_transfer_has_an_id_too(store: Store) {
    let world = World::on(store, Scene::default(), QUICK).await;
    let of = |memo| with_id(body_to(merchant(), memo), ID);
    let body = of("first");
    let (status, replayed, first) = call(&world, "/settle", &body).await;
    assert_eq!((status, replayed), (StatusCode::OK, false));
    assert!(first.contains("\"success\":true"), "{first}");
    let again = call(&world, "/settle", &body).await;
    assert_eq!(again, (StatusCode::OK, true, first.clone()));
    conflict(&world, &of("second")).await;
    let world = world.restart().await;
    let again = call(&world, "/settle", &body).await;
    assert_eq!(again, (StatusCode::OK, true, first));
    // Without the id it is told no second time.
    let plain = world.settle(&body_to(merchant(), "first")).await;
    assert_eq!(reason(&plain), "duplicate_settlement");
    // Two at once with one id are one payment.
    let of = |memo| with_id(body_to(merchant(), memo), "another_id_of_17ch");
    let (one, two) = (of("third"), of("fourth"));
    let (one, two) = tokio::join!(call(&world, "/settle", &one), call(&world, "/settle", &two));
    let mut statuses = [one.0, two.0];
    statuses.sort();
    assert_eq!(statuses, [StatusCode::OK, StatusCode::CONFLICT]);
    assert_eq!(world.chain.state().transactions().len(), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_call_to_two_relayers_gets_one_answer() {
    let Some((one, two)) = two(Scene::default(), PATIENT).await else {
        return;
    };
    for nonce in 1..10 {
        let body = with_id(one.body(nonce), &format!("{ID}_{nonce}"));
        let (first, second) =
            tokio::join!(call(&one, "/settle", &body), call(&two, "/settle", &body));
        assert!(first.2.contains("\"success\":true"), "{first:?}");
        assert_eq!((first.0, &first.2), (second.0, &second.2));
    }
    // And of two payloads to two relayers one is paid.
    for nonce in 10..15 {
        let of = |nonce| with_id(one.body(nonce), &format!("{ID}_{}", nonce % 10));
        let (a, b) = (of(nonce), of(nonce + 10));
        let (first, second) = tokio::join!(call(&one, "/settle", &a), call(&two, "/settle", &b));
        let mut statuses = [first.0, second.0];
        statuses.sort();
        let conflicts = statuses
            .iter()
            .filter(|s| **s == StatusCode::CONFLICT)
            .count();
        // Ids that end in 1 to 4 are bound above.
        let expected = if nonce == 10 { 1 } else { 2 };
        assert_eq!(conflicts, expected, "{nonce}: {first:?} {second:?}");
    }
    assert_eq!(one.chain.state().paid(), 10);
    one.written_ahead();
}

/// Row 33: a client that adds an id to a payment is not served twice by a server that does not know of ids.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_can_be_the_servers_to_allow() {
    let config = format!("{PATIENT}\npayment_identifier = {{ declared_only = true }}");
    let world = Arc::new(World::with(Scene::default(), &config).await);
    let successes = async |body: Value| {
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let (world, body) = (Arc::clone(&world), body.clone());
                tokio::spawn(async move { world.settle(&body).await.success })
            })
            .collect();
        let mut successes = 0;
        for call in calls {
            successes += u32::from(call.await.unwrap());
        }
        successes
    };
    assert_eq!(successes(body(&world, 1)).await, 1);
    let mut declared = body(&world, 2);
    for requirement in [
        "/paymentRequirements/extra",
        "/paymentPayload/accepted/extra",
    ] {
        declared.pointer_mut(requirement).unwrap()["paymentIdentifier"] = json!(true);
    }
    assert_eq!(successes(declared).await, 20);
    assert_eq!(world.chain.state().transactions().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_extension_is_advertised_and_can_be_switched_off() {
    let world = World::new().await;
    let supported = async |world: &World| -> SupportedResponse {
        world.get("/supported").await.json().await.unwrap()
    };
    assert_eq!(supported(&world).await.extensions, ["payment-identifier"]);
    for bad in ["short", "sixteen letters!!"] {
        let body = with_id(world.body(1), bad);
        assert_eq!(invalid(&world.verify(&body).await), "invalid_payload");
        assert_eq!(reason(&world.settle(&body).await), "invalid_payload");
    }
    let off = format!("{QUICK}\npayment_identifier = {{ enabled = false }}");
    let world = world.restart_with(&off).await;
    assert!(supported(&world).await.extensions.is_empty());
    assert!(world.settle(&body(&world, 1)).await.success);
    assert_eq!(
        reason(&world.settle(&body(&world, 1)).await),
        "duplicate_settlement"
    );
    world.stop().await;
}
