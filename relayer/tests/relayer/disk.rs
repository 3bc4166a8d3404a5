//! Bad days of the ledger: somebody holds its lock, its disk is full, its server crashes, its commits do not come back.
//! The relayer is a process of its own here, so that what holds or kills is another one.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use sluice_relayer::proof::Proof;
use sqlx::{Connection, Row};
use tempfile::TempDir;

use crate::{
    fake::{FakeChain, Fate},
    halt::{Change, Halt},
    http::reason,
    kill::{LIMITS, harmless},
    load::crowd,
    postgres::{Store, connect},
    process::{Process, Site, until},
    scene::Scene,
    server::{Line, Server},
};

/// A file system in memory that is small enough to be filled.
struct Small {
    folder: TempDir,
}

impl Small {
    /// `None`, said aloud, where this process may not mount one.
    fn new(size: &str) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},mode=0777"),
                "tmpfs",
            ])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { folder });
        }
        let _ = writeln!(
            std::io::stderr(),
            "\nSKIPPED: no full disk is tested here: mounting a tmpfs needs root\n"
        );
        None
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        for size in [65_536, 512] {
            while filler.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

async fn unavailable(relayer: &Process, body: &serde_json::Value) {
    let (status, answer) = relayer.try_settle(body).await.expect("an answer");
    assert_eq!(
        (status, &answer["error"]),
        (503, &"ledger_unavailable".into())
    );
    assert_eq!(answer["retriable"], true);
}

async fn landed(relayer: &Process, digest: &str) {
    let landed = |proof: &Option<Proof>| matches!(proof, Some(Proof::Landed { .. }));
    relayer.until(digest, |view| landed(&view.proof)).await;
}

/// What a caller is told while nothing can be written down: to come again, or that nobody knows yet.
#[track_caller]
fn is_patient(status: u16, answer: &serde_json::Value) {
    if status == 503 {
        assert_eq!(answer["error"], "ledger_unavailable", "{answer}");
        assert_eq!(answer["retriable"], true);
    } else {
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["errorReason"], "settlement_pending", "{answer}");
    }
}

/// What holds on every full disk: nothing leaves that is not on it, what was sent before is not called failed, and
/// everything goes on as soon as there is room.
async fn a_full_disk(site: Site, disk: &Small) {
    let relayer = site.start("one").await;
    assert!(relayer.settle(&site.body(0, 1)).await.success);
    // One that is on its way when the disk fills.
    site.node.chain.state().fate = Fate::Lost;
    let waiting = relayer.settling(&site.body(1, 1));
    let digest = site.digest(1, 1);
    relayer.until(&digest, |view| view.state == "sent").await;
    disk.fill();
    site.node.chain.state().fate = Fate::Confirmed;
    // There may be room for a little in what the database has already.
    let mut tried = vec![(0, 1), (1, 1)];
    let mut refused = 0;
    for nonce in 10.. {
        assert!(nonce < 120, "the disk was never full");
        tried.push((2, nonce));
        let (status, answer) = relayer.try_settle(&site.body(2, nonce)).await.unwrap();
        if answer["success"] != true {
            is_patient(status, &answer);
            refused += 1;
        }
        if refused == 4 {
            break;
        }
    }
    let ready = site.client.get(format!("{}/ready", relayer.url()));
    assert_eq!(ready.send().await.unwrap().status(), 503);
    // Nothing is on chain that is not in the ledger, and nothing is said to have failed.
    for (payer, nonce) in &tried {
        if let Some(view) = relayer.intent(&site.digest(*payer, *nonce)).await {
            assert!(matches!(
                view.proof,
                Some(Proof::Landed { .. } | Proof::Pending { .. })
            ));
        }
    }
    disk.free();
    let (status, answer) = waiting.await.unwrap().unwrap();
    if answer["success"] != true {
        is_patient(status, &answer);
    }
    // A server that crashed for want of room needs a moment.
    for (payer, nonce) in &tried {
        until("the ledger", || async {
            let body = site.body(*payer, *nonce);
            let (status, answer) = relayer.try_settle(&body).await.unwrap();
            let known =
                answer["success"] == true || answer["errorReason"] == "duplicate_settlement";
            if !known {
                is_patient(status, &answer);
            }
            known
        })
        .await;
        landed(&relayer, &site.digest(*payer, *nonce)).await;
    }
    let ready = site.client.get(format!("{}/ready", relayer.url()));
    assert_eq!(ready.send().await.unwrap().status(), 200);
    // And once more over a death.
    relayer.kill();
    let relayer = site.start("one").await;
    for (payer, nonce) in &tried {
        landed(&relayer, &site.digest(*payer, *nonce)).await;
        let answer = relayer.settle(&site.body(*payer, *nonce)).await;
        assert_eq!(reason(&answer), "duplicate_settlement");
    }
    assert_eq!(site.node.chain.state().paid(), tried.len());
    site.signed_once(tried.len());
    site.written_ahead();
}

/// Callers are told soon how it stands.
const SHORT: &str =
    "limits = { confirm_timeout_secs = 3, request_timeout_secs = 30, drain_secs = 5 }";

fn four() -> Scene {
    Scene {
        others: 3,
        ..Scene::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_sqlite() {
    let Some(disk) = Small::new("4m") else { return };
    let store = Store::at(format!(
        "sqlite://{}",
        disk.path().join("ledger.db").display()
    ));
    let site = Site::new(store, four(), SHORT).await;
    let store = Arc::clone(&site.store);
    a_full_disk(site, &disk).await;
    let mut ledger = connect(store.url()).await;
    let row = sqlx::query("PRAGMA integrity_check")
        .fetch_one(&mut ledger)
        .await
        .unwrap();
    assert_eq!(row.get::<String, _>(0), "ok");
    ledger.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_postgres() {
    let Some(disk) = Small::new("80m") else {
        return;
    };
    let Some(server) = Server::start(disk.path()).await else {
        return;
    };
    let site = Site::new(server.store(), four(), SHORT).await;
    a_full_disk(site, &disk).await;
}

/// Another process has the file for longer than the relayer waits, in the middle of everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_sqlite_file_under_load() {
    let site = Arc::new(Site::new(Store::sqlite(), crowd(), LIMITS).await);
    let relayer = site.start("one").await;
    let wave = |nonce: u64| -> Vec<_> {
        let calls = (0..16u8).map(|payer| relayer.settling(&site.body(payer, nonce)));
        calls.collect()
    };
    let mut calls = wave(1);
    until("the first", || async { site.node.chain.state().paid() > 0 }).await;
    let mut other = connect(site.store.url()).await;
    sqlx::query("BEGIN EXCLUSIVE")
        .execute(&mut other)
        .await
        .unwrap();
    // What is on disk by now may leave, and nothing else.
    let written: i64 = sqlx::query("SELECT count(*) FROM transactions")
        .fetch_one(&mut other)
        .await
        .unwrap()
        .get(0);
    calls.extend(wave(2));
    // Refused, each of them, after the relayer has waited; and none has left.
    unavailable(&relayer, &site.body(3, 9)).await;
    let sent = site.node.chain.state().transactions().len();
    assert!(sent <= usize::try_from(written).unwrap());
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    let mut paid = 0;
    for call in calls {
        let (status, answer) = call.await.unwrap().unwrap();
        if status == 200 && answer["success"] == true {
            paid += 1;
        } else {
            harmless(status, &answer);
        }
    }
    assert!(paid > 0);
    for nonce in [1, 2] {
        for payer in 0..16 {
            let answer = relayer.settle(&site.body(payer, nonce)).await;
            if answer.success {
                paid += 1;
            } else {
                assert_eq!(reason(&answer), "duplicate_settlement");
            }
        }
    }
    assert_eq!(paid, 32, "one success for each");
    assert_eq!(site.node.chain.state().paid(), 32);
    site.signed_once(32);
    site.written_ahead();
}

/// Restarted by its operator, crashed, killed: while payments come in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_restarts_crashes_and_is_killed_under_load() {
    let folder = TempDir::new().unwrap();
    // The server runs as somebody else.
    let mut open = std::fs::metadata(folder.path()).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut open, 0o777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let Some(mut server) = Server::start(folder.path()).await else {
        return;
    };
    let store = Arc::new(server.store());
    let chain = Arc::new(FakeChain::new(&crowd()));
    chain.state().send_takes = Duration::from_millis(5);
    // The fake looks into the ledger at every send, which it cannot while there is none: not here.
    let url = store.url().to_owned();
    let site = Arc::new(Site::with(store, url, chain, crowd(), LIMITS).await);
    let relayer = Arc::new(site.start("one").await);
    let mut waves = Vec::new();
    for (round, word) in ["restart", "crash", "kill"].into_iter().enumerate() {
        let before = site.node.chain.state().paid();
        // Each caller comes back until it is told: how its payment ended, and how often it was told of a success.
        let calls = (0..96u64).map(|i| {
            let (site, relayer) = (Arc::clone(&site), Arc::clone(&relayer));
            let payer = u8::try_from(i % 16).unwrap();
            let nonce = u64::try_from(round).unwrap() * 6 + i / 16;
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(i * 4)).await;
                loop {
                    let (status, answer) =
                        relayer.try_settle(&site.body(payer, nonce)).await.unwrap();
                    if status == 200 && answer["success"] == true {
                        return (payer, nonce);
                    }
                    harmless(status, &answer);
                    let word = answer["errorReason"].as_str().unwrap_or_default();
                    assert_ne!(
                        word, "duplicate_settlement",
                        "its success was lost: {payer} {nonce}"
                    );
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            })
        });
        waves.extend(calls);
        until("some of the wave", || async {
            site.node.chain.state().paid() > before + 10
        })
        .await;
        server.obey(word);
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.obey("up");
        until("all of the wave", || async {
            site.node.chain.state().paid() == (round + 1) * 96
        })
        .await;
    }
    for wave in waves {
        let (payer, nonce) = wave.await.unwrap();
        landed(&relayer, &site.digest(payer, nonce)).await;
        let answer = relayer.settle(&site.body(payer, nonce)).await;
        assert_eq!(reason(&answer), "duplicate_settlement");
    }
    assert_eq!(site.node.chain.state().paid(), 288);
    site.signed_once(288);
}

/// The commit is made, and the line breaks before the relayer hears of it: what it held is neither done twice nor lost.
async fn a_commit_that_is_made_and_not_heard_of(change: Change) {
    let Some(store) = Store::postgres().await else {
        return;
    };
    let store = Arc::new(store);
    let line = Line::to(&store).await;
    let chain = Arc::new(FakeChain::new(&four()));
    chain.state().ledger = Some(store.url().to_owned());
    let site = Site::with(store, line.url(), chain, four(), LIMITS).await;
    let relayer = site.start("one").await;
    let halt = Halt::in_commit(&site.store, change).await;
    let call = relayer.settling(&site.body(0, 1));
    halt.reached().await;
    line.cut();
    halt.release().await;
    let (status, answer) = call.await.unwrap().unwrap();
    assert_eq!(
        (status, &answer["success"]),
        (200, &true.into()),
        "{answer}"
    );
    let again = relayer.settle(&site.body(0, 1)).await;
    assert_eq!(reason(&again), "duplicate_settlement");
    assert_eq!(again.transaction, answer["transaction"]);
    assert_eq!(site.node.chain.state().paid(), 1);
    site.signed_once(1);
    site.written_ahead();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_whose_commit_is_not_heard_of() {
    a_commit_that_is_made_and_not_heard_of(Change::Signing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_landing_whose_commit_is_not_heard_of() {
    a_commit_that_is_made_and_not_heard_of(Change::Landing).await;
}

/// Whoever redeems what they were told was pending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_success_whose_commit_is_not_heard_of() {
    let Some(store) = Store::postgres().await else {
        return;
    };
    let store = Arc::new(store);
    let line = Line::to(&store).await;
    let chain = Arc::new(FakeChain::new(&four()));
    let site = Site::with(
        store,
        line.url(),
        chain,
        four(),
        "limits = { confirm_timeout_secs = 1 }",
    )
    .await;
    let relayer = site.start("one").await;
    site.node.chain.state().fate = Fate::Lost;
    let answer = relayer.settle(&site.body(0, 1)).await;
    assert_eq!(reason(&answer), "settlement_pending");
    site.node.chain.state().fate = Fate::Confirmed;
    landed(&relayer, &site.digest(0, 1)).await;
    let halt = Halt::in_commit(&site.store, Change::Answer).await;
    let call = relayer.settling(&site.body(0, 1));
    halt.reached().await;
    line.cut();
    halt.release().await;
    let (status, answer) = call.await.unwrap().unwrap();
    assert_eq!(
        (status, &answer["success"]),
        (200, &true.into()),
        "{answer}"
    );
    let again = relayer.settle(&site.body(0, 1)).await;
    assert_eq!(reason(&again), "duplicate_settlement");
}
