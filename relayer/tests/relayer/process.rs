//! The relayer as its operator runs it: the program itself, with a configuration file, ended by signals.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use sluice_relayer::http::IntentView;
use sluice_sdk::x402::SettleResponse;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{
    fake::FakeChain,
    node::Node,
    postgres::Store,
    scene::{Scene, facilitator, keypair},
};

/// A chain, a ledger and the files of a relayer; processes come and go.
pub struct Site {
    pub node: Node,
    pub store: Arc<Store>,
    pub scene: Scene,
    pub client: reqwest::Client,
    folder: TempDir,
    url: String,
    extra: String,
}

/// A relayer's process. It is killed when it is dropped.
pub struct Process {
    child: Child,
    url: String,
    log: PathBuf,
    client: reqwest::Client,
}

impl Site {
    pub async fn new(store: Store, scene: Scene, extra: &str) -> Self {
        let chain = Arc::new(FakeChain::new(&scene));
        chain.state().ledger = Some(store.url().to_owned());
        let url = store.url().to_owned();
        Self::with(Arc::new(store), url, chain, scene, extra).await
    }

    /// With a database at `url`, which `store` need not be.
    pub async fn with(
        store: Arc<Store>,
        url: String,
        chain: Arc<FakeChain>,
        scene: Scene,
        extra: &str,
    ) -> Self {
        let folder = TempDir::new().unwrap();
        let key = keypair(1).to_bytes().to_vec();
        std::fs::write(
            folder.path().join("key.json"),
            serde_json::to_string(&key).unwrap(),
        )
        .unwrap();
        Self {
            node: Node::start(chain).await,
            store,
            scene,
            client: reqwest::Client::new(),
            folder,
            url,
            extra: extra.to_owned(),
        }
    }

    /// Starts a relayer and waits until it listens.
    pub async fn start(&self, name: &str) -> Process {
        let path = |file: String| self.folder.path().join(file);
        let config = path(format!("{name}.toml"));
        let chain = if self.extra.contains("chain =") {
            ""
        } else {
            "chain = { rpc_timeout_secs = 60, poll_ms = 10, rebroadcast_ms = 100, blockhash_ms = 50, cache_ms = 50 }"
        };
        let text = format!(
            r#"
            listen = "127.0.0.1:0"
            network = "solana-devnet"
            rpc_url = "{rpc}"
            database_url = "{url}"
            facilitator = "{facilitator}"
            replica = "{name}"
            lease_ms = 1500
            fee_payer = {{ keypair = "{key}" }}
            {chain}
            {extra}
            "#,
            rpc = self.node.url(),
            url = self.url,
            facilitator = facilitator(),
            key = path("key.json".to_owned()).display(),
            extra = self.extra,
        );
        std::fs::write(&config, text).unwrap();
        let log = path(format!("{name}.log"));
        let errors = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluice-relayer"))
            .arg("run")
            .arg("--config")
            .arg(&config)
            .env("RUST_LOG", "info,sluice_relayer=debug,sqlx=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let mut process = Process {
            child,
            url: String::new(),
            log,
            client: self.client.clone(),
        };
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).unwrap();
            line
        });
        let line = line.await.unwrap();
        let url = line.trim().rsplit(' ').next().unwrap_or_default();
        assert!(url.starts_with("http://"), "it did not start: {line:?}");
        process.url = url.to_owned();
        process
    }

    /// The digest of a payer's payment, in hex.
    pub fn digest(&self, payer: u8, nonce: u64) -> String {
        hex::encode(self.scene.intent_of(payer, nonce).digest())
    }

    pub fn body(&self, payer: u8, nonce: u64) -> Value {
        self.scene.body(self.scene.intent_of(payer, nonce))
    }

    /// How many transactions carry each payment on chain or on the way: there is none with another number than one.
    #[track_caller]
    pub fn signed_once(&self, payments: usize) {
        let state = self.node.chain.state();
        let mut all: Vec<_> = state.wires.values().flat_map(|w| &w.payments).collect();
        all.sort();
        let signed = all.len();
        all.dedup();
        assert_eq!((all.len(), signed), (payments, payments));
    }

    #[track_caller]
    pub fn written_ahead(&self) {
        assert_eq!(self.node.chain.state().not_written_ahead, []);
    }
}

impl Process {
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it as the kernel does: no line of it runs any more when this returns.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by its name: STOP, CONT, TERM.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.unwrap().success());
    }

    /// Has it sleep, and waits until every thread of it does: the signal alone stops none at once.
    pub async fn sleep(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.child.id());
        let state = |task: std::io::Result<std::fs::DirEntry>| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            // After the name, which stands in parentheses.
            stat.rsplit_once(") ").unwrap().1.chars().next()
        };
        until("a process that sleeps", || async {
            let mut tasks = std::fs::read_dir(&tasks).unwrap();
            tasks.all(|task| state(task) == Some('T'))
        })
        .await;
    }

    /// Wakes it up.
    pub fn wake(&self) {
        self.signal("CONT");
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Calls `/settle`; `None` if the connection broke.
    pub async fn try_settle(&self, body: &Value) -> Option<(u16, Value)> {
        post(&self.client, &format!("{}/settle", self.url), body).await
    }

    /// The same in the background, for a process that dies meanwhile.
    pub fn settling(&self, body: &Value) -> JoinHandle<Option<(u16, Value)>> {
        let (client, url, body) = (
            self.client.clone(),
            format!("{}/settle", self.url),
            body.clone(),
        );
        tokio::spawn(async move { post(&client, &url, &body).await })
    }

    /// A verdict of `/settle`.
    pub async fn settle(&self, body: &Value) -> SettleResponse {
        let (status, answer) = self.try_settle(body).await.expect("an answer");
        assert_eq!(status, 200, "{answer}");
        serde_json::from_value(answer).unwrap()
    }

    /// What is known of a payment; `None` if nothing is.
    pub async fn intent(&self, digest: &str) -> Option<IntentView> {
        let url = format!("{}/v1/intents/{digest}", self.url);
        let response = self.client.get(url).send().await.unwrap();
        match response.status().as_u16() {
            200 => Some(response.json().await.unwrap()),
            404 => {
                let body: Value = response.json().await.unwrap();
                assert_eq!(body["error"], "intent_not_found");
                None
            }
            other => panic!("{other}: {}", response.text().await.unwrap()),
        }
    }

    /// Waits until what is known of a payment is as it should be.
    pub async fn until(&self, digest: &str, good: impl Fn(&IntentView) -> bool) -> IntentView {
        for _ in 0..3_000 {
            if let Some(view) = self.intent(digest).await.filter(|view| good(view)) {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came: {:?}", self.intent(digest).await);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            eprintln!("---- log of {}\n{}", self.url, self.log());
        }
    }
}

async fn post(client: &reqwest::Client, url: &str, body: &Value) -> Option<(u16, Value)> {
    let response = client.post(url).body(body.to_string()).send().await.ok()?;
    let status = response.status().as_u16();
    Some((status, response.json().await.ok()?))
}

/// Waits until something holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..3_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came: {what}");
}
