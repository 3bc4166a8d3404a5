//! Several nodes as one chain, each of them a JSON-RPC server that is down, slow, behind, or lies.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use sluice_relayer::chain::{Chain, Depth, Status, pool::ChainPool};
use sluice_sdk::Address;
use solana_hash::Hash;
use solana_signature::Signature;

use crate::{
    fake::FakeChain,
    rpc_node::{Mood, Node},
    scene::{GENESIS, Scene, relayer},
};

/// So patient is a call. Longer than a pool waits before it asks the next.
const PATIENCE: Duration = Duration::from_secs(30);

fn fake() -> Arc<FakeChain> {
    Arc::new(FakeChain::new(&Scene::default()))
}

/// Nodes with a chain of its own each, and the pool of them.
async fn nodes(count: usize) -> (Vec<Node>, ChainPool) {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(Node::of(fake()).await);
    }
    let pool = ChainPool::new(nodes.iter().map(|node| node.chain(PATIENCE)).collect());
    (nodes, pool)
}

fn hold(node: &Node, lamports: u64) {
    let mut state = node.behind().state();
    let account = crate::scene::lamports_of(lamports);
    state.accounts.insert(relayer(), account);
}

async fn lamports(pool: &ChainPool) -> Option<u64> {
    let accounts = pool.accounts(&[relayer()], Depth::Confirmed).await.unwrap();
    accounts[0].as_ref().map(|account| account.lamports)
}

fn signature() -> Signature {
    Signature::from([7; 64])
}

/// A status as a node tells it.
fn landed(slot: u64, word: &str) -> Mood {
    Mood::Says(json!({"context": {"slot": 5_000}, "value": [
        {"slot": slot, "confirmations": null, "err": null, "confirmationStatus": word},
    ]}))
}

fn unknown() -> Mood {
    Mood::Says(json!({"context": {"slot": 5_000}, "value": [null]}))
}

#[tokio::test]
async fn the_first_node_is_asked_and_the_next_when_it_fails() {
    let (nodes, pool) = nodes(3).await;
    for (i, node) in nodes.iter().enumerate() {
        hold(node, i as u64 + 1);
    }
    assert_eq!(lamports(&pool).await, Some(1));
    assert_eq!(nodes[1].calls("getMultipleAccounts"), 0);
    for mood in [
        Mood::Error(-32_005, "Node is behind by 200 slots"),
        Mood::Garbage,
        Mood::Status(500),
        Mood::Status(403),
        Mood::Says(json!({"value": []})),
        Mood::Says(json!({"value": [{"owner": "?", "lamports": 1, "data": ["", "base64"]}]})),
        Mood::Says(json!("nonsense")),
    ] {
        nodes[0].mood("getMultipleAccounts", mood.clone());
        assert_eq!(lamports(&pool).await, Some(2), "{mood:?}");
    }
    // What failed a moment ago is not asked first.
    nodes[0].well();
    let before = nodes[0].calls("getMultipleAccounts");
    assert_eq!(lamports(&pool).await, Some(2));
    assert_eq!(nodes[0].calls("getMultipleAccounts"), before);
    // But it is, where the others fail.
    nodes[1].mood("*", Mood::Status(500));
    nodes[2].mood("*", Mood::Status(500));
    assert_eq!(lamports(&pool).await, Some(1));
    nodes[0].mood("*", Mood::Status(500));
    let error = pool.accounts(&[relayer()], Depth::Confirmed).await;
    assert_eq!(error.unwrap_err().method, "getMultipleAccounts");
}

#[tokio::test]
async fn a_node_that_is_gone_is_passed_over() {
    let (mut nodes, pool) = nodes(2).await;
    hold(&nodes[1], 2);
    drop(nodes.remove(0));
    assert_eq!(lamports(&pool).await, Some(2));
    assert!(pool.latest_blockhash().await.is_ok());
    assert!(pool.recent_prices(&[]).await.is_ok());
}

/// Nobody waits out a slow node's time.
#[tokio::test]
async fn a_slow_node_is_not_waited_for() {
    let (nodes, pool) = nodes(2).await;
    hold(&nodes[1], 2);
    nodes[0].mood("*", Mood::Silent);
    let asked = tokio::time::timeout(PATIENCE / 2, lamports(&pool));
    assert_eq!(asked.await.unwrap(), Some(2));
    // And it is not asked first the next time.
    let before = nodes[0].calls("getMultipleAccounts");
    assert_eq!(lamports(&pool).await, Some(2));
    assert_eq!(nodes[0].calls("getMultipleAccounts"), before);
    // Sending goes to all, and one that takes it is enough.
    let wire = vec![0];
    nodes[1].mood(
        "sendTransaction",
        Mood::Says(json!(signature().to_string())),
    );
    let sent = tokio::time::timeout(PATIENCE / 2, pool.send(&wire));
    assert_eq!(sent.await.unwrap(), Ok(()));
    nodes[0].until("sendTransaction", 1).await;
}

#[tokio::test]
async fn every_node_is_sent_every_transaction() {
    let (nodes, pool) = nodes(3).await;
    nodes[0].mood("sendTransaction", Mood::Error(-32_002, "no"));
    nodes[1].mood("sendTransaction", Mood::Status(500));
    nodes[2].mood(
        "sendTransaction",
        Mood::Says(json!(signature().to_string())),
    );
    assert_eq!(pool.send(&[0]).await, Ok(()));
    for node in &nodes {
        node.until("sendTransaction", 1).await;
    }
    nodes[2].mood("sendTransaction", Mood::Garbage);
    assert_eq!(pool.send(&[0]).await.unwrap_err().method, "sendTransaction");
}

/// ATTACKS.md, row 31.
#[tokio::test]
async fn attack_31_an_error_is_never_not_found() {
    let (nodes, pool) = nodes(2).await;
    for mood in [
        Mood::Error(
            -32_011,
            "Transaction history is not available from this node",
        ),
        Mood::Garbage,
        Mood::Status(503),
        Mood::Says(json!({"value": []})),
        Mood::Says(json!({"context": {"slot": 9}})),
        Mood::Says(json!(null)),
    ] {
        nodes[0].well();
        nodes[1].mood("getSignatureStatuses", mood.clone());
        // Of the dead the other's word is not enough.
        let answer = pool.statuses(&[signature()], true).await;
        assert!(answer.is_err(), "{mood:?}: {answer:?}");
        // In passing it is.
        let answer = pool.statuses(&[signature()], false).await;
        assert_eq!(answer, Ok(vec![None]), "{mood:?}");
        nodes[0].mood("getSignatureStatuses", mood.clone());
        let answer = pool.statuses(&[signature()], false).await;
        assert!(answer.is_err(), "{mood:?}: {answer:?}");
        // The results of a batch: one that does not have them and one that fails is not known.
        nodes[0].mood("getTransaction", Mood::Says(json!(null)));
        nodes[1].mood("getTransaction", Mood::Status(500));
        assert!(pool.results(&signature()).await.is_err());
    }
    nodes[1].mood("getTransaction", Mood::Says(json!(null)));
    assert_eq!(pool.results(&signature()).await, Ok(None));
}

#[tokio::test]
async fn one_node_that_knows_a_transaction_outweighs_those_that_do_not() {
    let (nodes, pool) = nodes(3).await;
    let expected = |slot, confirmed, finalized| {
        Ok(vec![Some(Status {
            slot,
            confirmed,
            finalized,
            error: None,
        })])
    };
    nodes[0].mood("getSignatureStatuses", unknown());
    nodes[1].mood("getSignatureStatuses", landed(98, "processed"));
    nodes[2].mood("getSignatureStatuses", unknown());
    let found = pool.statuses(&[signature()], true).await;
    assert_eq!(found, expected(98, false, false));
    // And the one that knows it deepest outweighs the others.
    nodes[0].mood("getSignatureStatuses", landed(99, "finalized"));
    nodes[2].mood("getSignatureStatuses", landed(99, "confirmed"));
    let found = pool.statuses(&[signature()], true).await;
    assert_eq!(found, expected(99, true, true));
}

/// In passing each question goes to another node, so that one that lags does not hide what landed.
#[tokio::test]
async fn a_node_that_lags_does_not_hide_what_landed() {
    let (nodes, pool) = nodes(2).await;
    nodes[0].mood("getSignatureStatuses", unknown());
    nodes[1].mood("getSignatureStatuses", landed(99, "confirmed"));
    let mut seen = Vec::new();
    for _ in 0..2 {
        let found = pool.statuses(&[signature()], false).await.unwrap();
        seen.push(found[0].is_some());
    }
    seen.sort_unstable();
    assert_eq!(seen, [false, true]);
    // Results are asked for until one has them.
    nodes[0].mood("getTransaction", Mood::Says(json!(null)));
    let logs = json!({"meta": {"returnData": null, "logMessages": [
        format!("Program return: {} AAAD", sluice_sdk::PROGRAM_ID),
    ]}});
    nodes[1].mood("getTransaction", Mood::Says(logs));
    let codes = pool.results(&signature()).await;
    assert_eq!(codes, Ok(Some(vec![0, 0, 3])));
}

#[tokio::test]
async fn the_height_is_that_of_the_node_that_is_furthest_behind() {
    let (nodes, pool) = nodes(3).await;
    for (node, height) in nodes.iter().zip([5_000, 4_000, 6_000]) {
        node.behind().state().height = height;
    }
    assert_eq!(pool.finalized_block_height().await, Ok(4_000));
    // Without one of them nobody knows how far that one is.
    nodes[1].mood("getEpochInfo", Mood::Status(500));
    assert!(pool.finalized_block_height().await.is_err());
    // History begins where that of the one begins that keeps most.
    for (node, slot) in nodes.iter().zip([100, 7, 50]) {
        node.behind().state().first_slot = slot;
    }
    assert_eq!(pool.first_slot().await, Ok(7));
    nodes[1].mood("getFirstAvailableBlock", Mood::Garbage);
    assert_eq!(pool.first_slot().await, Ok(50));
    for node in &nodes {
        node.mood("getFirstAvailableBlock", Mood::Status(500));
    }
    assert!(pool.first_slot().await.is_err());
}

/// Behind one address several nodes may answer in turn: one that is behind what another has said cannot call a
/// transaction dead.
#[tokio::test]
async fn a_search_by_a_node_that_is_behind_proves_nothing() {
    let (nodes, pool) = nodes(1).await;
    nodes[0].behind().state().height = 5_000;
    assert_eq!(pool.finalized_block_height().await, Ok(5_000));
    assert_eq!(pool.statuses(&[signature()], true).await, Ok(vec![None]));
    nodes[0].behaviour().lag = 10;
    let error = pool.statuses(&[signature()], true).await.unwrap_err();
    assert!(error.problem.contains("behind"), "{error}");
    // In passing nothing is concluded from it.
    assert_eq!(pool.statuses(&[signature()], false).await, Ok(vec![None]));
    // One that does not say where it is neither.
    nodes[0].mood("getSignatureStatuses", Mood::Says(json!({"value": [null]})));
    assert!(pool.statuses(&[signature()], true).await.is_err());
}

#[tokio::test]
async fn nodes_of_different_clusters_are_refused_at_the_start() {
    let (nodes, pool) = nodes(3).await;
    nodes[1].behind().state().genesis = [3; 32];
    let error = pool.genesis_hash().await.unwrap_err();
    assert!(error.problem.contains("different clusters"), "{error}");
    // One that does not answer is no reason not to start.
    nodes[1].mood("*", Mood::Status(500));
    let ours = Hash::new_from_array(GENESIS);
    assert_eq!(pool.genesis_hash().await, Ok(ours));
    // It comes back as what it is, and is asked nothing.
    nodes[1].well();
    nodes[0].mood("*", Mood::Status(500));
    nodes[2].mood("*", Mood::Status(500));
    hold(&nodes[1], 5);
    let error = pool.accounts(&[relayer()], Depth::Confirmed).await;
    assert!(error.is_err(), "{error:?}");
    assert_eq!(nodes[1].calls("getMultipleAccounts"), 0);
}

/// ATTACKS.md, row 24, at run time.
#[tokio::test]
async fn attack_24_a_node_that_becomes_another_clusters_is_no_longer_asked() {
    let (nodes, pool) = nodes(2).await;
    let ours = Hash::new_from_array(GENESIS);
    assert_eq!(pool.genesis_hash().await, Ok(ours));
    hold(&nodes[0], 1);
    hold(&nodes[1], 2);
    assert_eq!(lamports(&pool).await, Some(1));
    for node in &nodes {
        node.behind().state().height = 5_000;
    }

    nodes[0].behind().state().genesis = [3; 32];
    nodes[0].behind().state().height = 900_000;
    // Whatever is proved by not finding asks for the cluster first, whenever that was seen last.
    assert_eq!(pool.finalized_block_height().await, Ok(5_000));
    nodes[0].mood("getSignatureStatuses", landed(99, "finalized"));
    assert_eq!(pool.statuses(&[signature()], true).await, Ok(vec![None]));
    assert_eq!(nodes[0].calls("getSignatureStatuses"), 0);
    // From then on nobody asks it for anything.
    assert_eq!(lamports(&pool).await, Some(2));
    assert_eq!(pool.genesis_hash().await, Ok(ours));

    // With the other gone as well the pool serves another cluster, and says so.
    nodes[1].behind().state().genesis = [4; 32];
    let hash = pool.genesis_hash().await.unwrap();
    assert_ne!(hash, ours);
    assert!(pool.accounts(&[relayer()], Depth::Confirmed).await.is_err());
    assert!(pool.finalized_block_height().await.is_err());
    assert!(pool.statuses(&[signature()], true).await.is_err());
    assert!(pool.statuses(&[signature()], false).await.is_err());
    assert!(pool.first_slot().await.is_err());
    assert!(pool.send(&[0]).await.is_err());

    // Mended.
    for node in &nodes {
        node.behind().state().genesis = GENESIS;
    }
    assert_eq!(pool.genesis_hash().await, Ok(ours));
    assert_eq!(lamports(&pool).await, Some(1));
}

#[tokio::test]
async fn a_format_is_used_that_every_node_reads() {
    let (nodes, pool) = nodes(2).await;
    let key = crate::scene::keypair(1);
    let payer = Address::new_from_array(*solana_signer::Signer::pubkey(&key).as_array());
    let budget = sluice_sdk::transaction::Budget {
        compute_units: 1_000,
        unit_price: 0,
        loaded_bytes: 1 << 20,
    };
    let version = sluice_sdk::transaction::Version::V1;
    let built =
        sluice_sdk::transaction::build(version, &payer, &[], &budget, Hash::default(), &[&key]);
    let wire = sluice_sdk::transaction::wire(&built.unwrap()).unwrap();
    assert!(pool.takes(&wire).await);
    nodes[1].behind().knows_no_v1();
    assert!(!pool.takes(&wire).await);
}
