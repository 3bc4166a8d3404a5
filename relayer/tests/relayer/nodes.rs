//! The relayer on nodes that are down, slow, behind, of another cluster, or lie: over JSON-RPC, as in the field.

use std::{io::Write, sync::Arc, time::Duration};

use reqwest::StatusCode;
use serde_json::json;
use sluice_relayer::{
    Relayer, StartError,
    config::{KeySource, SecretUrl},
    http::{IntentView, ReadyView},
};

use crate::{
    fake::{FakeChain, Fate, LIFE},
    http::{PATIENT, QUICK, World, config, reason},
    postgres::Store,
    rpc_node::{Mood, Node},
    scene::{Scene, keypair},
};

const CHAIN: &str = "chain = { rpc_timeout_secs = 1, poll_ms = 10, rebroadcast_ms = 100, cache_ms = 1, \
     blockhash_ms = 50 }";

/// Nodes of one made-up chain.
async fn nodes(count: usize) -> Vec<Node> {
    let chain = Arc::new(FakeChain::new(&Scene::default()));
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(Node::of(Arc::clone(&chain)).await);
    }
    nodes
}

/// A relayer that was told of these nodes and of nothing else.
async fn start(urls: &[String], chain: Arc<FakeChain>, extra: &str) -> Result<World, StartError> {
    let store = Store::sqlite();
    let mut key = tempfile::NamedTempFile::new().unwrap();
    let bytes = serde_json::to_string(&keypair(1).to_bytes().to_vec()).unwrap();
    writeln!(key, "{bytes}").unwrap();
    let mut config = config(store.url(), &format!("{extra}\n{CHAIN}"));
    config.fee_payer = KeySource {
        keypair: Some(key.path().to_owned()),
        ..KeySource::default()
    };
    let mut urls = urls.iter().map(|url| SecretUrl::from(url.as_str()));
    config.rpc_url = urls.next().unwrap();
    config.more_rpc_urls = urls.collect();
    chain.state().ledger = Some(store.url().to_owned());
    Ok(World {
        relayer: Relayer::start(config).await?,
        chain,
        client: reqwest::Client::new(),
        store: Arc::new(store),
        scene: Scene::default(),
    })
}

async fn world(nodes: &[Node], extra: &str) -> World {
    let urls: Vec<String> = nodes.iter().map(|node| node.url.clone()).collect();
    let chain = Arc::clone(nodes[0].behind());
    start(&urls, chain, extra).await.unwrap()
}

async fn ready(world: &World) -> (StatusCode, ReadyView) {
    let response = world.get("/ready").await;
    (response.status(), response.json().await.unwrap())
}

async fn until_ready(world: &World, status: StatusCode) -> ReadyView {
    loop {
        let (now, view) = ready(world).await;
        if now == status {
            return view;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// That a node has taken a transaction is written with whatever is written next.
fn is_open(view: &IntentView) -> bool {
    ["signed", "sent"].contains(&view.state.as_str())
}

#[tokio::test]
async fn payments_settle_whatever_is_wrong_with_the_first_node() {
    for mood in [
        Mood::Status(500),
        Mood::Status(429),
        Mood::Garbage,
        Mood::Silent,
        Mood::Error(-32_005, "Node is unhealthy"),
    ] {
        let nodes = nodes(2).await;
        let world = world(&nodes, PATIENT).await;
        assert!(world.settle(&world.body(1)).await.success);
        nodes[0].mood("*", mood.clone());
        for nonce in 2..5 {
            let answer = world.settle(&world.body(nonce)).await;
            assert!(answer.success, "{mood:?}: {answer:?}");
        }
        // A relayer that starts now does as well.
        world.written_ahead();
        world.stop().await;
        let chain = Arc::clone(nodes[0].behind());
        let urls: Vec<String> = nodes.iter().map(|node| node.url.clone()).collect();
        let world = start(&urls, chain, PATIENT).await.unwrap();
        assert!(world.settle(&world.body(9)).await.success, "{mood:?}");
        world.stop().await;
    }
}

#[tokio::test]
async fn payments_settle_while_one_node_says_that_nothing_ever_lands() {
    let nodes = nodes(2).await;
    let world = world(&nodes, PATIENT).await;
    nodes[0].mood(
        "getSignatureStatuses",
        Mood::Says(json!({"context": {"slot": 999_999}, "value": [null]})),
    );
    nodes[0].mood("getTransaction", Mood::Says(json!(null)));
    for nonce in 1..6 {
        let answer = world.settle(&world.body(nonce)).await;
        assert!(answer.success, "{answer:?}");
    }
    let transactions = world.chain.state().transactions().len();
    assert_eq!(transactions, 5, "nothing was signed twice");
    world.stop().await;
}

#[tokio::test]
async fn with_every_node_down_nothing_is_said_to_have_failed() {
    let mut nodes = nodes(2).await;
    let world = world(&nodes, QUICK).await;
    world.chain.state().fate = Fate::Lost;
    let pending = world.settle(&world.body(1)).await;
    assert_eq!(reason(&pending), "settlement_pending");
    for node in &nodes {
        node.mood("*", Mood::Status(503));
    }
    let word = world.unavailable("/settle", &world.body(2)).await;
    assert_eq!(word, "rpc_unavailable");
    until_ready(&world, StatusCode::SERVICE_UNAVAILABLE).await;
    // However dead it would be by a node that answered.
    world.chain.state().height += LIFE + 1;
    nodes[0].until_more("getGenesisHash", 5).await;
    assert!(is_open(&world.intent(1).await));
    // One comes back, and it landed.
    world.chain.state().fate = Fate::Confirmed;
    drop(nodes.remove(1));
    nodes[0].well();
    world.until_state(1, "confirmed").await;
    until_ready(&world, StatusCode::OK).await;
    let redeemed = world.settle(&world.body(1)).await;
    assert!(redeemed.success, "{redeemed:?}");
    assert_eq!(redeemed.transaction, pending.transaction);
    assert_eq!(world.chain.state().transactions().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn another_cluster_at_the_start_is_refused() {
    let nodes = nodes(1).await;
    nodes[0].behind().state().genesis = [3; 32];
    let chain = Arc::clone(nodes[0].behind());
    let started = start(&[nodes[0].url.clone()], chain, QUICK).await;
    let Err(StartError::Cluster(problem)) = started.map(|_| ()) else {
        panic!("it started");
    };
    assert!(problem.contains("genesis"), "{problem}");
}

/// ATTACKS.md, rows 24 and 31: another cluster knows nothing of what was sent here, at any height.
#[tokio::test]
async fn attack_24_another_cluster_at_run_time_proves_nothing_and_is_not_served() {
    let nodes = nodes(1).await;
    let world = world(&nodes, QUICK).await;
    world.chain.state().fate = Fate::Lost;
    let pending = world.settle(&world.body(1)).await;
    assert_eq!(reason(&pending), "settlement_pending");
    {
        let mut state = world.chain.state();
        state.genesis = [3; 32];
        state.height += 1_000_000;
    }
    let view = until_ready(&world, StatusCode::SERVICE_UNAVAILABLE).await;
    let rpc = view
        .checks
        .iter()
        .find(|check| check.name == "rpc")
        .unwrap();
    assert!(rpc.message.contains("another cluster"), "{view:?}");
    // Nothing is taken on, and what is open stays so.
    let response = world.post("/settle", world.body(2).to_string()).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    nodes[0].until_more("getGenesisHash", 10).await;
    let intent = world.intent(1).await;
    assert!(is_open(&intent));
    assert_eq!(intent.attempts.len(), 1);
    assert_eq!(world.chain.state().transactions().len(), 1);

    {
        let mut state = world.chain.state();
        state.genesis = crate::scene::GENESIS;
        state.height -= 1_000_000;
        state.fate = Fate::Confirmed;
    }
    world.until_state(1, "confirmed").await;
    until_ready(&world, StatusCode::OK).await;
    assert!(world.settle(&world.body(1)).await.success);
    assert!(world.settle(&world.body(2)).await.success);
    world.stop().await;
}

#[tokio::test]
async fn a_node_that_becomes_another_clusters_leaves_the_others_to_work() {
    let ours = nodes(1).await;
    let mut all = nodes(1).await;
    let strange = Arc::clone(all[0].behind());
    all.extend(ours);
    let chain = Arc::clone(all[1].behind());
    let urls: Vec<String> = all.iter().map(|node| node.url.clone()).collect();
    let world = start(&urls, chain, PATIENT).await.unwrap();
    strange.state().genesis = [3; 32];
    strange.state().height += 1_000_000;
    strange.state().accounts.clear();
    // Asked first until it is found out; and found out before anybody believes it for long.
    all[0].until_more("getGenesisHash", 2).await;
    for nonce in 1..5 {
        let answer = world.settle(&world.body(nonce)).await;
        assert!(answer.success, "{answer:?}");
    }
    assert_eq!(ready(&world).await.0, StatusCode::OK);
    world.stop().await;
}

/// RELAYER.md, step 6.
#[tokio::test]
async fn nothing_is_dead_by_the_word_of_a_node_that_is_behind() {
    let nodes = nodes(2).await;
    let world = world(&nodes, QUICK).await;
    world.chain.state().fate = Fate::Lost;
    let pending = world.settle(&world.body(1)).await;
    assert_eq!(reason(&pending), "settlement_pending");
    nodes[1].behaviour().lag = LIFE + 2;
    world.chain.state().height += LIFE + 1;
    nodes[1].until_more("getEpochInfo", 3).await;
    assert_eq!(world.intent(1).await.attempts.len(), 1);
    world.chain.state().fate = Fate::Confirmed;
    world.until_state(1, "confirmed").await;
    assert_eq!(world.intent(1).await.attempts.len(), 1);

    // Once it has caught up, what is lost is signed again.
    world.chain.state().fate = Fate::Lost;
    let pending = world.settle(&world.body(2)).await;
    assert_eq!(reason(&pending), "settlement_pending");
    world.chain.state().height += LIFE + 1;
    nodes[1].until_more("getEpochInfo", 3).await;
    assert_eq!(world.intent(2).await.attempts.len(), 1);
    nodes[1].well();
    let view = world.until(2, |view| view.attempts.len() == 2).await;
    assert!(is_open(&view));
    world.stop().await;
}

/// ATTACKS.md, row 31: whoever keeps no history does not find what landed before it begins.
#[tokio::test]
async fn attack_31_nothing_is_dead_by_the_word_of_a_node_whose_history_is_too_young() {
    let nodes = nodes(2).await;
    let world = world(&nodes, QUICK).await;
    world.chain.state().fate = Fate::Lost;
    let pending = world.settle(&world.body(1)).await;
    assert_eq!(reason(&pending), "settlement_pending");
    let signed_at = world.chain.state().height;
    {
        let mut state = world.chain.state();
        state.first_slot = signed_at + 1;
        state.height += LIFE + 1;
    }
    nodes[1].until_more("getFirstAvailableBlock", 3).await;
    let view = world.intent(1).await;
    assert!(is_open(&view));
    assert_eq!(view.attempts.len(), 1);
    // One whose history begins in time is enough.
    nodes[0].mood("getFirstAvailableBlock", Mood::Says(json!(signed_at)));
    world.until(1, |view| view.attempts.len() == 2).await;
    world.stop().await;
}
