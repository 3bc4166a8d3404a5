//! Sponsored opening: what is built, what is signed, who is refused, and what a caller is told.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sluice_sdk::{Address, DEVNET_USDC, accounts::NONCE_IDLE_SECS, address, transaction};
use solana_keypair::Keypair;
use solana_signer::Signer;

use crate::{
    chores::{RENT, World, fund, get, post, relayer_lamports, tokens_of},
    fake::{Fate, LIFE},
    postgres::{Store, on_both},
    scene::{NOW, Scene, agent, clock, key, keypair, relayer},
};

const FEE: u64 = 10_000;
const QUIET: &str = "distribute = { enabled = false }\nreclaim = { idle_secs = 2592000, scan_ms = 20 }\n\
     limits = { confirm_timeout_secs = 1, request_timeout_secs = 5, drain_secs = 5 }";

fn open(extra: &str) -> String {
    format!(
        "{QUIET}\n[onboard]\nenabled = true\nmax_per_ip_per_day = 20\n{extra}\n[[onboard.mints]]\n\
         mint = \"{DEVNET_USDC}\"\nmin_units = 1000\n"
    )
}

on_both! {
    a_payer_without_sol_is_opened_an_account
    attack_42_an_onboarding_transaction_edited_before_it_comes_back
    attack_3_nothing_is_opened_for_whoever_holds_nothing
    attack_4_one_account_a_payer_and_mint
    the_relayers_own_keys_are_no_payers
    the_day_has_a_budget
    one_address_has_a_quota
    rent_that_is_out_has_a_bound_and_is_given_back
    what_came_too_late_is_not_signed
    nobody_is_told_what_nobody_knows
    a_failure_is_a_failure_and_counts
    twenty_calls_one_transaction
    a_relayer_that_is_killed_has_signed_once
    another_programs_approval_is_not_ended_silently
}

fn request(payer: Address) -> Value {
    json!({
        "payer": payer.to_string(),
        "asset": DEVNET_USDC.to_string(),
        "approve": "500",
        "lane": { "lane": 1, "key": agent().pubkey().to_string(), "maxPerPayment": "100" },
    })
}

/// Asks for a transaction.
async fn build(world: &World, payer: Address) -> (u16, Value) {
    post(&format!("{}/v1/onboard", world.url()), &request(payer)).await
}

async fn built(world: &World, payer: Address) -> Value {
    let (status, view) = build(world, payer).await;
    assert_eq!((status, &view["state"]), (200, &json!("built")), "{view}");
    view
}

async fn refused(world: &World, payer: Address, status: u16, word: &str) {
    let (got, body) = build(world, payer).await;
    assert_eq!((got, &body["error"]), (status, &json!(word)), "{body}");
}

fn bytes(view: &Value) -> Vec<u8> {
    STANDARD
        .decode(view["transaction"].as_str().unwrap())
        .unwrap()
}

/// What the payer's wallet makes of it.
fn signed(view: &Value, payer: &Keypair) -> Vec<u8> {
    let mut transaction = transaction::from_wire(&bytes(view)).unwrap();
    let keys = transaction.message.static_account_keys();
    let place = keys.iter().position(|key| *key == payer.pubkey()).unwrap();
    transaction.signatures[place] = payer.sign_message(&transaction.message.serialize());
    transaction::wire(&transaction).unwrap()
}

async fn give_back(world: &World, view: &Value, wire: &[u8]) -> (u16, Value) {
    let id = view["id"].as_str().unwrap();
    let body = json!({ "transaction": STANDARD.encode(wire) });
    post(&format!("{}/v1/onboard/{id}", world.url()), &body).await
}

async fn status(world: &World, view: &Value) -> Value {
    let id = view["id"].as_str().unwrap();
    let (status, view) = get(&format!("{}/v1/onboard/{id}", world.url())).await;
    assert_eq!(status, 200, "{view}");
    view
}

async fn until_state(world: &World, view: &Value, state: &str) {
    let holds = || async { status(world, view).await["state"] == state };
    world.until(state, holds).await;
}

/// Waits until a new transaction would have a new blockhash.
async fn until_fresh(world: &World) {
    let before = world.state().blockhashes;
    let fresh = || async { world.state().blockhashes > before + 1 };
    world.until("a blockhash", fresh).await;
}

/// Opens an account for a payer that holds enough.
async fn onboard(world: &World, payer: &Keypair) -> Value {
    fund(world, payer.pubkey(), 5_000);
    let view = built(world, payer.pubkey()).await;
    let (status, view) = give_back(world, &view, &signed(&view, payer)).await;
    assert_eq!((status, &view["state"]), (200, &json!("landed")), "{view}");
    view
}

fn nonce_key(payer: &Keypair) -> Address {
    address::nonce_account(&payer.pubkey(), &DEVNET_USDC).0
}

async fn a_payer_without_sol_is_opened_an_account(store: Store) {
    let world = World::new(store, Scene::default(), &open("")).await;
    let payer = keypair(50);
    let view = onboard(&world, &payer).await;
    assert_eq!(view["sponsor"], relayer().to_string());
    assert_eq!(view["rentLamports"], RENT);
    assert_eq!(view["feeLamports"], FEE);
    assert!(view["transaction"].is_null());
    {
        let state = world.state();
        let nonce = state.nonce(&nonce_key(&payer)).unwrap();
        assert_eq!(nonce.rent_payer, relayer().to_bytes());
        assert_eq!(nonce.payer, payer.pubkey().to_bytes());
        let sent = &state.wires[&state.sent[0]];
        let names: Vec<&str> = sent.instructions.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["open_nonce", "set_lane"]);
        assert_eq!(sent.signatures, 2);
    }
    assert_eq!(relayer_lamports(&world), 1_000_000_000 - RENT - FEE);
    assert_eq!(status(&world, &view).await["state"], "landed");
    let (unknown, body) = get(&format!("{}/v1/onboard/00", world.url())).await;
    assert_eq!(
        (unknown, &body["error"]),
        (404, &json!("onboarding_not_found"))
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_off_by_default() {
    let world = World::new(Store::sqlite(), Scene::default(), QUIET).await;
    fund(&world, key(50), 5_000);
    refused(&world, key(50), 403, "onboarding_off").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_named() {
    let world = World::new(Store::sqlite(), Scene::default(), &open("")).await;
    let url = format!("{}/v1/onboard", world.url());
    let bend = |field: &str, value: Value| {
        let mut body = request(key(50));
        *body.pointer_mut(field).unwrap() = value;
        body
    };
    for (body, word) in [
        (bend("/payer", json!("me")), "invalid_address"),
        (bend("/asset", json!("USDC")), "invalid_address"),
        (bend("/approve", json!("-1")), "invalid_amount"),
        (bend("/lane/lane", json!(2)), "invalid_lane"),
        // Lane 0 is the payer's own.
        (bend("/lane/lane", json!(0)), "invalid_lane"),
        (bend("/lane/key", json!("x")), "invalid_address"),
        (bend("/lane/maxPerPayment", json!("1.5")), "invalid_amount"),
        (json!({"payer": key(50).to_string()}), "invalid_json"),
        (json!([]), "invalid_json"),
    ] {
        let (status, answer) = post(&url, &body).await;
        assert_eq!((status, &answer["error"]), (400, &json!(word)), "{body}");
    }
    let mut other = request(key(50));
    other["asset"] = json!(key(77).to_string());
    let (status, answer) = post(&url, &other).await;
    assert_eq!(
        (status, &answer["error"]),
        (403, &json!("mint_not_sponsored"))
    );
    world.stop().await;
}

async fn attack_42_an_onboarding_transaction_edited_before_it_comes_back(store: Store) {
    let world = World::new(store, Scene::default(), &open("")).await;
    let payer = keypair(50);
    fund(&world, payer.pubkey(), 5_000);
    let view = built(&world, payer.pubkey()).await;
    let good = signed(&view, &payer);
    let message = 1 + 2 * 64;
    let expect = async |wire: &[u8], word: &str| {
        let (status, body) = give_back(&world, &view, wire).await;
        assert_eq!((status, &body["error"]), (400, &json!(word)), "{body}");
    };
    // Every byte of the message, signed by the payer as it then is.
    let keys = transaction::from_wire(&good).unwrap();
    let keys = keys.message.static_account_keys();
    let place = keys.iter().position(|key| *key == payer.pubkey()).unwrap();
    for at in (message..good.len()).step_by(7) {
        let mut wire = good.clone();
        wire[at] ^= 1;
        let signature = payer.sign_message(&wire[message..]);
        wire[1 + place * 64..1 + (place + 1) * 64].copy_from_slice(signature.as_ref());
        expect(&wire, "transaction_edited").await;
    }
    expect(&[good.clone(), vec![0]].concat(), "transaction_edited").await;
    expect(&good[..good.len() - 1], "transaction_edited").await;
    expect(&[], "transaction_edited").await;
    let mut count = good.clone();
    count[0] = 1;
    expect(&count, "transaction_edited").await;
    // The same bytes, without the payer's signature or with somebody else's.
    expect(&bytes(&view), "invalid_signature").await;
    expect(
        &signed_by_another(&view, &payer, &keypair(51)),
        "invalid_signature",
    )
    .await;
    let mut forged = good.clone();
    forged[1 + place * 64] ^= 1;
    expect(&forged, "invalid_signature").await;
    assert_eq!(world.state().sent, []);
    // What stands in the relayer's own place is not read: it signs last.
    let mut scribbled = good.clone();
    scribbled[1..65].fill(7);
    let (status, view) = give_back(&world, &view, &scribbled).await;
    assert_eq!((status, &view["state"]), (200, &json!("landed")), "{view}");
    world.stop().await;
}

fn signed_by_another(view: &Value, payer: &Keypair, other: &Keypair) -> Vec<u8> {
    let mut transaction = transaction::from_wire(&bytes(view)).unwrap();
    let keys = transaction.message.static_account_keys();
    let place = keys.iter().position(|key| *key == payer.pubkey()).unwrap();
    transaction.signatures[place] = other.sign_message(&transaction.message.serialize());
    transaction::wire(&transaction).unwrap()
}

async fn attack_3_nothing_is_opened_for_whoever_holds_nothing(store: Store) {
    let world = World::new(store, Scene::default(), &open("")).await;
    let payer = keypair(50);
    refused(&world, payer.pubkey(), 403, "no_token_account").await;
    fund(&world, payer.pubkey(), 999);
    refused(&world, payer.pubkey(), 403, "balance_too_low").await;
    // Held when it was built, and gone when it comes back: one balance does not pass through many wallets.
    fund(&world, payer.pubkey(), 1_000);
    let view = built(&world, payer.pubkey()).await;
    fund(&world, payer.pubkey(), 0);
    let (status, body) = give_back(&world, &view, &signed(&view, &payer)).await;
    assert_eq!((status, &body["error"]), (403, &json!("balance_too_low")));
    assert_eq!(world.state().sent, []);
    world.stop().await;
}

async fn attack_4_one_account_a_payer_and_mint(store: Store) {
    let world = World::new(store, Scene::default(), &open("max_per_payer_per_day = 9")).await;
    let payer = keypair(50);
    let view = onboard(&world, &payer).await;
    refused(&world, payer.pubkey(), 409, "already_open").await;
    // It closes the account, which gives the rent back, to have the relayer pay the fee again.
    {
        let mut state = world.state();
        state.accounts.remove(&nonce_key(&payer));
        state.accounts.get_mut(&relayer()).unwrap().lamports += RENT;
        state.slot += 1;
    }
    refused(&world, payer.pubkey(), 403, "sponsored_before").await;
    until_state(&world, &view, "closed").await;
    refused(&world, payer.pubkey(), 403, "sponsored_before").await;
    assert_eq!(relayer_lamports(&world), 1_000_000_000 - FEE);
    world.stop().await;
}

async fn the_relayers_own_keys_are_no_payers(store: Store) {
    let world = World::new(store, Scene::default(), &open("")).await;
    fund(&world, relayer(), 5_000);
    refused(&world, relayer(), 403, "payer_refused").await;
    world.stop().await;
}

async fn the_day_has_a_budget(store: Store) {
    let two = format!("max_lamports_per_day = {}", 2 * (RENT + FEE));
    let world = World::new(store, Scene::default(), &open(&two)).await;
    let late = keypair(52);
    fund(&world, late.pubkey(), 5_000);
    let view = built(&world, late.pubkey()).await;
    onboard(&world, &keypair(50)).await;
    onboard(&world, &keypair(51)).await;
    refused(&world, key(52), 429, "quota_exceeded").await;
    // What was built before the budget was used up is bound by it too.
    let (status, body) = give_back(&world, &view, &signed(&view, &late)).await;
    assert_eq!((status, &body["error"]), (429, &json!("quota_exceeded")));
    assert_eq!(body["retriable"], true);
    assert_eq!(world.state().transactions().len(), 2);
    world
        .store
        .execute("UPDATE onboardings SET signed_at = signed_at - 86400001")
        .await;
    onboard(&world, &keypair(53)).await;
    world.stop().await;
}

async fn one_address_has_a_quota(store: Store) {
    let few = open("").replace("max_per_ip_per_day = 20", "max_per_ip_per_day = 1");
    let world = World::new(store, Scene::default(), &few).await;
    onboard(&world, &keypair(50)).await;
    fund(&world, key(51), 5_000);
    refused(&world, key(51), 429, "quota_exceeded").await;
    // Another address has its own.
    world
        .store
        .execute("UPDATE onboardings SET client = '192.0.2.1'")
        .await;
    // Transactions that never come back have a bound too.
    for _ in 0..10 {
        built(&world, key(51)).await;
    }
    refused(&world, key(51), 429, "quota_exceeded").await;
    world.stop().await;
}

async fn rent_that_is_out_has_a_bound_and_is_given_back(store: Store) {
    let one = format!("max_lamports_outstanding = {RENT}");
    let world = World::new(store, Scene::default(), &open(&one)).await;
    let (first, second) = (keypair(50), keypair(51));
    let view = onboard(&world, &first).await;
    fund(&world, second.pubkey(), 5_000);
    refused(&world, second.pubkey(), 429, "quota_exceeded").await;
    // More than a month passes, and the relayer closes the account.
    {
        let mut state = world.state();
        let later = clock(NOW + NONCE_IDLE_SECS + 1);
        state.accounts.insert(sluice_relayer::chain::CLOCK, later);
        state.slot += 1;
    }
    until_state(&world, &view, "reclaimed").await;
    assert!(world.state().nonce(&nonce_key(&first)).is_none());
    assert_eq!(relayer_lamports(&world), 1_000_000_000 - FEE - 5_000);
    onboard(&world, &second).await;
    world.stop().await;
}

async fn what_came_too_late_is_not_signed(store: Store) {
    let world = World::new(store, Scene::default(), &open("")).await;
    let payer = keypair(50);
    fund(&world, payer.pubkey(), 5_000);
    let view = built(&world, payer.pubkey()).await;
    world.state().height += LIFE + 100;
    assert_eq!(status(&world, &view).await["state"], "expired");
    let (code, body) = give_back(&world, &view, &signed(&view, &payer)).await;
    assert_eq!((code, &body["error"]), (410, &json!("onboarding_expired")));
    assert_eq!(world.state().sent, []);
    until_fresh(&world).await;
    // A new one is as good as the first would have been.
    let view = built(&world, payer.pubkey()).await;
    let (_, view) = give_back(&world, &view, &signed(&view, &payer)).await;
    assert_eq!(view["state"], "landed");
    world.stop().await;
}

async fn nobody_is_told_what_nobody_knows(store: Store) {
    let world = World::new(store, Scene::default(), &open("")).await;
    let payer = keypair(50);
    fund(&world, payer.pubkey(), 5_000);
    world.state().fate = Fate::Lost;
    let view = built(&world, payer.pubkey()).await;
    let wire = signed(&view, &payer);
    let (code, pending) = give_back(&world, &view, &wire).await;
    assert_eq!((code, &pending["state"]), (200, &json!("pending")));
    assert!(pending["signature"].is_string());
    let (_, again) = give_back(&world, &view, &wire).await;
    assert_eq!(again, pending);
    assert_eq!(world.state().transactions().len(), 1);
    // Lost for good: nothing was spent, and the payer may ask again.
    let first = world.state().sent[0];
    world.state().fates.insert(first, Fate::Lost);
    world.state().height += LIFE + 100;
    until_state(&world, &view, "expired").await;
    until_fresh(&world).await;
    world.state().fate = Fate::Confirmed;
    let view = built(&world, payer.pubkey()).await;
    let (_, view) = give_back(&world, &view, &signed(&view, &payer)).await;
    assert_eq!(view["state"], "landed");
    assert_eq!(relayer_lamports(&world), 1_000_000_000 - RENT - FEE);
    world.stop().await;
}

async fn a_failure_is_a_failure_and_counts(store: Store) {
    let world = World::new(store, Scene::default(), &open("")).await;
    let payer = keypair(50);
    fund(&world, payer.pubkey(), 5_000);
    for _ in 0..2 {
        world.state().fate = Fate::Failed(json!({"InstructionError": [2, {"Custom": 6181}]}));
        let view = built(&world, payer.pubkey()).await;
        let (_, view) = give_back(&world, &view, &signed(&view, &payer)).await;
        assert_eq!(view["state"], "failed", "{view}");
        assert!(view["error"].as_str().unwrap().contains("6181"), "{view}");
    }
    // Failures cost fees, so they use the payer's quota up.
    refused(&world, payer.pubkey(), 429, "quota_exceeded").await;
    world.stop().await;
}

async fn twenty_calls_one_transaction(store: Store) {
    let world = World::new(store, Scene::default(), &open("")).await;
    let payer = keypair(50);
    fund(&world, payer.pubkey(), 5_000);
    // Two transactions for one payer, ten times each at once.
    let views = [
        built(&world, payer.pubkey()).await,
        built(&world, payer.pubkey()).await,
    ];
    let wires = [signed(&views[0], &payer), signed(&views[1], &payer)];
    let calls = (0..20).map(|i| give_back(&world, &views[i % 2], &wires[i % 2]));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().any(|(_, view)| view["state"] == "landed"));
    for (code, view) in answers {
        let landed = code == 200 && (view["state"] == "landed" || view["state"] == "pending");
        let other = ["sponsored_before", "already_open", "ledger_unavailable"];
        let told = other.iter().any(|word| view["error"] == *word);
        assert!(landed || told, "{code} {view}");
    }
    assert_eq!(world.state().transactions().len(), 1);
    assert_eq!(relayer_lamports(&world), 1_000_000_000 - RENT - FEE);
    world.stop().await;
}

async fn a_relayer_that_is_killed_has_signed_once(store: Store) {
    let world = World::new(store, Scene::default(), &open("")).await;
    let payer = keypair(50);
    fund(&world, payer.pubkey(), 5_000);
    world.state().fate = Fate::Lost;
    let view = built(&world, payer.pubkey()).await;
    let wire = signed(&view, &payer);
    assert_eq!(give_back(&world, &view, &wire).await.1["state"], "pending");
    let world = world.reborn(&open("")).await;
    assert_eq!(give_back(&world, &view, &wire).await.1["state"], "pending");
    world.state().fate = Fate::Confirmed;
    until_state(&world, &view, "landed").await;
    assert_eq!(world.state().transactions().len(), 1);
    world.stop().await;
}

async fn another_programs_approval_is_not_ended_silently(store: Store) {
    let world = World::new(store, Scene::default(), &open("")).await;
    let payer = keypair(50);
    fund(&world, payer.pubkey(), 5_000);
    {
        let mut state = world.state();
        let account = state.accounts.get_mut(&tokens_of(&payer.pubkey())).unwrap();
        // A delegate, and what it may move.
        account.data[72] = 1;
        account.data[76..108].copy_from_slice(key(90).as_ref());
        account.data[121..129].copy_from_slice(&700u64.to_le_bytes());
    }
    refused(&world, payer.pubkey(), 409, "other_delegate").await;
    let mut body = request(payer.pubkey());
    body["replaceDelegate"] = json!(true);
    let (status, view) = post(&format!("{}/v1/onboard", world.url()), &body).await;
    assert_eq!((status, &view["state"]), (200, &json!("built")), "{view}");
    world.stop().await;
}
