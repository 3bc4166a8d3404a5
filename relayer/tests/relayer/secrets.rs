//! Keys stay where they are.

use std::{
    io::Write,
    path::Path,
    sync::{Arc, Mutex},
};

use sluice_relayer::{
    Config,
    config::KeySource,
    keys::{FeePayer, KeyError},
    signers::{self, Signer},
};
use solana_keypair::Keypair;

use crate::{
    fake::Fate,
    http::{QUICK, World},
    postgres::Store,
    scene::Scene,
    scene::{agent, keypair, relayer},
    vault::{Mood, SECRET_ID, TOKEN, Vault, world as vault_with},
};

fn json(keypair: &Keypair) -> String {
    serde_json::to_string(&keypair.to_bytes().to_vec()).unwrap()
}

fn from_file(path: &Path) -> Result<FeePayer, KeyError> {
    FeePayer::load(&KeySource {
        keypair: Some(path.to_owned()),
        ..KeySource::default()
    })
}

#[test]
fn a_key_is_read_and_not_shown() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{}", json(&keypair(1))).unwrap();
    let key = from_file(file.path()).unwrap();
    assert_eq!(key.address(), relayer());
    let shown = format!("{key:?} {key:#?}");
    assert!(shown.contains(&relayer().to_string()));
    let secret = keypair(1);
    let bytes = secret.secret_bytes();
    for form in [
        hex::encode(bytes),
        bs58::encode(bytes).into_string(),
        bs58::encode(secret.to_bytes()).into_string(),
        json(&secret),
        format!("{bytes:?}"),
    ] {
        assert!(!shown.contains(&form));
    }
}

#[test]
fn a_bad_key_is_not_repeated() {
    let bytes = keypair(1).to_bytes();
    for text in [
        "hush".to_owned(),
        format!("[{}]", &"104,".repeat(63)),
        // The public half does not belong to the secret one.
        json(&keypair(1)).replace(&bytes[63].to_string(), "3"),
        serde_json::to_string(&bytes[..32].to_vec()).unwrap(),
    ] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "{text}").unwrap();
        let error = from_file(file.path()).unwrap_err();
        assert!(matches!(error, KeyError::Content(_)));
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hush") && !shown.contains("104"), "{shown}");
    }
    let error = from_file(Path::new("/nowhere/key.json")).unwrap_err();
    assert!(error.to_string().contains("/nowhere/key.json"));
    let error = FeePayer::load(&KeySource {
        env: Some("SLUICE_TEST_NO_SUCH_VARIABLE".to_owned()),
        ..KeySource::default()
    })
    .unwrap_err();
    assert!(error.to_string().contains("SLUICE_TEST_NO_SUCH_VARIABLE"));
}

#[test]
fn a_configuration_shows_no_url_that_may_carry_a_key() {
    let config = Config::from_toml(
        r#"
        network = "solana"
        rpc_url = "https://rpc.example.com/v1/hush?api-key=hush"
        ws_url = "wss://user:hush@rpc.example.com/hush"
        database_url = "postgres://relayer:hush@db.example.com/ledger?password=hush"
        facilitator = "11111111111111111111111111111112"
        fee_payer = { keypair = "key.json" }
        "#,
    )
    .unwrap();
    let shown = format!(
        "{config:?} {} {:?} {}",
        config.rpc_url, config.ws_url, config.database_url
    );
    assert!(shown.contains("https://rpc.example.com"));
    assert!(!shown.contains("hush"), "{shown}");
}

async fn vault_world(signer: Arc<dyn Signer>) -> World {
    vault_with(Store::sqlite(), Scene::default(), QUICK, vec![signer]).await
}

/// What is logged, as bytes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that is logged while the guard lives, as loud as it gets.
fn listen() -> (Log, tracing::subscriber::DefaultGuard) {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    (log, tracing::subscriber::set_default(subscriber))
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

#[track_caller]
fn holds_no_key(text: &str) {
    for secret in [keypair(1), agent()] {
        for form in [
            hex::encode(secret.secret_bytes()),
            bs58::encode(secret.secret_bytes()).into_string(),
            bs58::encode(secret.to_bytes()).into_string(),
            json(&secret),
            format!("{:?}", secret.secret_bytes()),
        ] {
            assert!(!text.contains(&form));
        }
    }
}

#[tokio::test]
async fn an_api_key_is_in_no_log() {
    const KEY: &str = "hush-0123456789abcdef";
    let (log, _guard) = listen();
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("key");
    std::fs::write(&path, KEY).unwrap();
    let guard = format!(
        "guard = {{ api_keys = [{{ name = \"shop\", file = \"{}\" }}] }}",
        path.display()
    );
    let world = World::with(Default::default(), &format!("{QUICK}\n{guard}")).await;
    // In every place, right and wrong.
    for (name, value) in [
        ("x-api-key", KEY.to_owned()),
        ("authorization", format!("Bearer {KEY}")),
        ("authorization", format!("Basic {KEY}")),
        ("x-api-key", format!("{KEY}-not")),
    ] {
        let url = format!("{}/settle", world.relayer.url());
        let request = world.client.post(url).header(name, value);
        let answer = request
            .body(world.body(1).to_string())
            .send()
            .await
            .unwrap();
        assert!(!answer.text().await.unwrap().contains("hush"));
    }
    world.stop().await;
    let text = log.text();
    assert!(text.contains("payment settled"), "{text}");
    assert!(!text.contains("hush"), "{text}");
    let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(KEY));
    assert!(!text.contains(&hash));
}

#[tokio::test]
async fn logs_at_their_loudest_hold_no_key() {
    let (log, _guard) = listen();
    let world = World::new().await;
    assert!(world.settle(&world.body(1)).await.success);
    world.chain.state().fate = Fate::Failed(serde_json::json!("AccountInUse"));
    assert!(!world.settle(&world.body(2)).await.success);
    world.chain.state().down = true;
    world.post("/settle", world.body(3).to_string()).await;
    world.post("/settle", "{").await;
    let digest = hex::encode(world.scene.intent(1).digest());
    world.stop().await;

    let text = log.text();
    assert!(
        text.contains(&digest),
        "the digest is what one searches for"
    );
    holds_no_key(&text);
}

/// Logs, errors, answers and Debug, with a Vault that is well, sealed, forged, and one that repeats what it was sent.
#[tokio::test]
async fn nothing_that_is_said_holds_a_token() {
    let (log, _guard) = listen();
    let mut said = String::new();
    let vault = Vault::start().await;
    let (by_token, _file) = vault.with_token(TOKEN, "timeout_ms = 500");
    let (by_role, _secret) = vault.with_approle();
    let mut tokens = vec![TOKEN.to_owned(), SECRET_ID.to_owned()];
    for source in [by_token, by_role] {
        said += &format!("{source:?}");
        let signer = signers::load(&source).unwrap();
        signer.probe().await.unwrap();
        said += &format!("{signer:?} {signer:#?}");
        for mood in [
            Mood::Echo,
            Mood::Sealed,
            Mood::Silent,
            Mood::BadGateway,
            Mood::Corrupt,
            Mood::Nonsense,
            Mood::Redirect("http://127.0.0.1:9".to_owned()),
        ] {
            vault.mood(mood);
            for error in [
                signer.probe().await.unwrap_err(),
                signer.sign(b"message").await.unwrap_err(),
            ] {
                said += &format!("{error} {error:?} {error:#?}");
            }
        }
        vault.mood(Mood::Well);
        signer.probe().await.unwrap();

        // The same through a relayer: its log, its answers.
        let world = vault_world(signer).await;
        assert!(world.settle(&world.body(1)).await.success);
        vault.mood(Mood::Echo);
        for path in ["/v1/signers", "/ready", "/settle", "/v1/signers", "/ready"] {
            let answer = if path == "/settle" {
                world.post(path, world.body(2).to_string()).await
            } else {
                world.get(path).await
            };
            said += &answer.text().await.unwrap();
        }
        vault.mood(Mood::Well);
        world.stop().await;
    }
    tokens.extend(vault.inner().tokens.iter().cloned());
    let text = log.text();
    assert!(text.contains("signer_failed") && text.contains("does not sign"));
    assert!(said.contains("Vault denies it") && said.contains("bad token …"));
    for token in tokens {
        assert!(!text.contains(&token), "a token is in the log");
        assert!(!said.contains(&token), "a token was told");
    }
    holds_no_key(&text);
    holds_no_key(&said);
}
