//! Keys in Vault. The stand-in speaks as Vault's transit engine does: paths, headers, fields, errors and their codes.

use std::{
    collections::{HashMap, HashSet},
    io::Write,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use sluice_relayer::{
    Config, Relayer, StartError,
    config::KeySource,
    http::{ReadyView, SignersView},
    signers::{self, KeyError, SignError, Signer},
};
use solana_keypair::Keypair;
use solana_signer::Signer as _;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    fake::FakeChain,
    http::{PATIENT, QUICK, World, config},
    postgres::{Store, on_both},
    scene::{Scene, key, keypair, relayer, second},
};

pub const TOKEN: &str = "hvs.CAESIJhush0rootT0ken";
pub const ROLE_ID: &str = "59d6d1ca-47bb-4e7e-a40b-8be3bc5a0ba8";
pub const SECRET_ID: &str = "84896a0c-1347-aa90-a4f6-hush-secret1d";
const NAME: &str = "sluice";

/// What is wrong with the stand-in.
#[derive(Clone, Debug, PartialEq)]
pub enum Mood {
    Well,
    Sealed,
    /// Takes every connection and answers none.
    Silent,
    /// A proxy in front of it has nothing behind it.
    BadGateway,
    /// A rate limit quota.
    Limited,
    /// The next so many calls fail.
    Flaky(u32),
    /// One bit of each signature is another.
    Corrupt,
    /// Signs with another key.
    OtherKey,
    /// Signs other bytes.
    OtherBytes,
    /// Signs with another version of the key.
    OtherVersion,
    /// Answers what is no signature.
    Nonsense,
    /// Sends to another host.
    Redirect(String),
    /// Repeats the token in its errors.
    Echo,
}

pub struct Inner {
    pub mood: Mood,
    pub tokens: HashSet<String>,
    /// Whether a token may sign, and read.
    pub may_sign: bool,
    pub may_read: bool,
    /// Versions of the key.
    pub keys: HashMap<u64, Keypair>,
    pub kind: &'static str,
    pub derived: bool,
    pub logins: u32,
    pub renewals: u32,
    /// Seconds that a token of a log-in lives.
    pub lease: u64,
    /// Every call: method and path, and the namespace.
    pub calls: Vec<(String, Option<String>)>,
    /// What was signed.
    pub signed: Vec<Vec<u8>>,
}

pub struct Vault {
    pub url: String,
    inner: Arc<Mutex<Inner>>,
    server: JoinHandle<()>,
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Vault {
    /// A Vault whose key is the relayer's, as version 1.
    pub async fn start() -> Self {
        let inner = Arc::new(Mutex::new(Inner {
            mood: Mood::Well,
            tokens: HashSet::from([TOKEN.to_owned()]),
            may_sign: true,
            may_read: true,
            keys: HashMap::from([(1, keypair(1))]),
            kind: "ed25519",
            derived: false,
            logins: 0,
            renewals: 0,
            lease: 3_600,
            calls: Vec::new(),
            signed: Vec::new(),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(serve).with_state(Arc::clone(&inner));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, inner, server }
    }

    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn mood(&self, mood: Mood) {
        self.inner().mood = mood;
    }

    /// The part of a configuration that names its key.
    fn source(&self, more: &str) -> KeySource {
        let text = format!(
            "[vault]\nurl = \"{}\"\nkey = \"{NAME}\"\nkey_version = 1\naddress = \"{}\"\n{more}",
            self.url,
            relayer()
        );
        parse(&text)
    }

    /// With the token in a file.
    pub fn with_token(&self, token: &str, more: &str) -> (KeySource, tempfile::NamedTempFile) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "{token}").unwrap();
        let path = file.path().display();
        let source = self.source(&format!("token_file = \"{path}\"\n{more}"));
        (source, file)
    }

    pub fn with_approle(&self) -> (KeySource, tempfile::NamedTempFile) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "{SECRET_ID}").unwrap();
        let path = file.path().display();
        let more =
            format!("[vault.approle]\nrole_id = \"{ROLE_ID}\"\nsecret_id_file = \"{path}\"\n");
        (self.source(&more), file)
    }

    pub fn signer(&self) -> (Arc<dyn Signer>, tempfile::NamedTempFile) {
        let (source, file) = self.with_token(TOKEN, "timeout_ms = 500");
        (signers::load(&source).unwrap(), file)
    }

    fn calls_of(&self, what: &str) -> usize {
        let inner = self.inner();
        inner
            .calls
            .iter()
            .filter(|(call, _)| call.contains(what))
            .count()
    }
}

fn parse(text: &str) -> KeySource {
    let config = Config::from_toml(&format!(
        "network = \"solana-devnet\"\nrpc_url = \"http://127.0.0.1:9\"\n\
         facilitator = \"11111111111111111111111111111112\"\n[fee_payer]\n{}",
        text.replace("[vault", "[fee_payer.vault")
    ));
    config.unwrap().fee_payer
}

fn errors(code: u16, errors: &[&str]) -> Response {
    let status = StatusCode::from_u16(code).unwrap();
    (status, Json(json!({"errors": errors}))).into_response()
}

/// A secret's envelope, as every answer of Vault has it.
fn data(data: Value) -> Response {
    Json(json!({
        "request_id": "2f2e1b3c-0b7c-0b0a-6a0c-5f3d7f0c9a11",
        "lease_id": "",
        "renewable": false,
        "lease_duration": 0,
        "data": data,
        "wrap_info": null,
        "warnings": null,
        "auth": null,
        "mount_type": "transit",
    }))
    .into_response()
}

fn auth(token: &str, lease: u64) -> Response {
    Json(json!({
        "request_id": "8d3c2a1f-3a1e-9e4e-2f64-0f6f7a3d3c55",
        "lease_id": "",
        "renewable": false,
        "lease_duration": 0,
        "data": null,
        "wrap_info": null,
        "warnings": null,
        "auth": {
            "client_token": token,
            "accessor": "Yn6n2mJ3Y0mVbPqjT1k3lZ7M",
            "policies": ["default", "sluice"],
            "token_policies": ["default", "sluice"],
            "metadata": {"role_name": "sluice"},
            "lease_duration": lease,
            "renewable": true,
            "entity_id": "7d2e3179-f69b-450c-7179-ac8ee8bd8ca9",
            "token_type": "service",
            "orphan": true,
            "mfa_requirement": null,
            "num_uses": 0,
        },
    }))
    .into_response()
}

async fn serve(State(state): State<Arc<Mutex<Inner>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let path = parts.uri.path().to_owned();
    let mood = {
        let mut inner = state.lock().unwrap();
        let namespace = parts.headers.get("x-vault-namespace");
        let namespace = namespace.map(|name| name.to_str().unwrap().to_owned());
        inner
            .calls
            .push((format!("{} {path}", parts.method), namespace));
        if let Mood::Flaky(left) = inner.mood {
            inner.mood = if left <= 1 {
                Mood::Well
            } else {
                Mood::Flaky(left - 1)
            };
            return errors(500, &["internal error"]);
        }
        inner.mood.clone()
    };
    match mood {
        Mood::Silent => std::future::pending().await,
        Mood::Sealed => return errors(503, &["Vault is sealed"]),
        Mood::BadGateway => {
            return (StatusCode::BAD_GATEWAY, "<html>502 Bad Gateway</html>").into_response();
        }
        Mood::Limited => {
            let text = format!("request path \"{path}\": rate limit quota exceeded");
            return errors(429, &[&text]);
        }
        Mood::Redirect(to) => {
            let location = format!("{to}{path}");
            return (StatusCode::TEMPORARY_REDIRECT, [("location", location)], "").into_response();
        }
        _ => {}
    }
    let mut inner = state.lock().unwrap();
    answer(&mut inner, &parts.method, &path, &parts.headers, &body)
}

fn answer(
    inner: &mut Inner,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    if path == "/v1/auth/approle/login" {
        if body["role_id"] != ROLE_ID || body["secret_id"] != SECRET_ID {
            return errors(400, &["invalid role or secret ID"]);
        }
        inner.logins += 1;
        let token = format!("hvs.hush-of-login-{}", inner.logins);
        inner.tokens.insert(token.clone());
        return auth(&token, inner.lease);
    }
    let token = headers.get("x-vault-token");
    let token = token.map_or("", |token| token.to_str().unwrap());
    if inner.mood == Mood::Echo {
        let text = format!("1 error occurred:\n\t* bad token {token}\n\n");
        return errors(403, &[&text]);
    }
    let denied = || errors(403, &["1 error occurred:\n\t* permission denied\n\n"]);
    if token.is_empty() {
        return errors(400, &["missing client token"]);
    }
    if !inner.tokens.contains(token) {
        return errors(
            403,
            &["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"],
        );
    }
    if path == "/v1/auth/token/renew-self" {
        inner.renewals += 1;
        return auth(token, inner.lease);
    }
    if path == format!("/v1/transit/keys/{NAME}") && method == Method::GET {
        if !inner.may_read {
            return denied();
        }
        return read_key(inner);
    }
    if path == format!("/v1/transit/sign/{NAME}")
        && (method == Method::POST || method == Method::PUT)
    {
        if !inner.may_sign {
            return denied();
        }
        return sign(inner, &body);
    }
    if path.starts_with("/v1/transit/keys/") {
        return errors(404, &[]);
    }
    if path.starts_with("/v1/transit/sign/") {
        return errors(400, &["signing key not found"]);
    }
    let mount = path.trim_start_matches("/v1/");
    let text = format!("no handler for route \"{mount}\". route entry not found.");
    errors(404, &[&text])
}

fn read_key(inner: &Inner) -> Response {
    let keys: serde_json::Map<String, Value> = inner
        .keys
        .iter()
        .map(|(version, key)| {
            let entry = if inner.kind == "ed25519" {
                json!({
                    "certificate_chain": "",
                    "creation_time": "2026-03-01T10:11:12.131415161Z",
                    "hybrid_public_key": "",
                    "name": "ed25519",
                    "public_key": STANDARD.encode(key.pubkey().to_bytes()),
                })
            } else {
                json!(1_772_359_872)
            };
            (version.to_string(), entry)
        })
        .collect();
    let latest = inner.keys.keys().max().copied().unwrap_or(0);
    data(json!({
        "allow_plaintext_backup": false,
        "auto_rotate_period": 0,
        "deletion_allowed": false,
        "derived": inner.derived,
        "exportable": false,
        "imported_key": false,
        "keys": keys,
        "latest_version": latest,
        "min_available_version": 0,
        "min_decryption_version": 1,
        "min_encryption_version": 0,
        "name": NAME,
        "supports_decryption": inner.kind != "ed25519",
        "supports_derivation": true,
        "supports_encryption": inner.kind != "ed25519",
        "supports_signing": inner.kind == "ed25519",
        "type": inner.kind,
    }))
}

fn sign(inner: &mut Inner, body: &Value) -> Response {
    let Some(input) = body["input"].as_str() else {
        return errors(400, &["missing input"]);
    };
    let Ok(input) = STANDARD.decode(input) else {
        return errors(
            400,
            &["unable to decode input as base64: illegal base64 data at input byte 0"],
        );
    };
    // A field of null is its zero value there, and not its default.
    let marshaling = match &body["marshaling_algorithm"] {
        Value::String(name) => name.clone(),
        Value::Null if body.get("marshaling_algorithm").is_some() => String::new(),
        _ => "asn1".to_owned(),
    };
    let latest = inner.keys.keys().max().copied().unwrap_or(0);
    let version = body["key_version"].as_u64().unwrap_or(0);
    let version = if version == 0 { latest } else { version };
    if version > latest {
        return errors(
            400,
            &["requested version for signing is higher than the latest key version"],
        );
    }
    let Some(key) = inner.keys.get(&version) else {
        return errors(
            400,
            &["requested version for signing is less than the minimum encryption key version"],
        );
    };
    // Ed25519 is signed as it is, prehashed or not.
    let signed = match inner.mood {
        Mood::OtherKey => keypair(77).sign_message(&input),
        Mood::OtherBytes => key.sign_message(b"something else"),
        _ => key.sign_message(&input),
    };
    let mut bytes = *signed.as_array();
    if inner.mood == Mood::Corrupt {
        bytes[40] ^= 1;
    }
    let encoded = match (marshaling.as_str(), &inner.mood) {
        (_, Mood::Nonsense) => "!!!".to_owned(),
        ("asn1", _) => STANDARD.encode(bytes),
        ("jws", _) => URL_SAFE_NO_PAD.encode(bytes),
        (other, _) => {
            let text = format!("unknown marshaling type {other:?}");
            return errors(400, &[&text]);
        }
    };
    let told = match inner.mood {
        Mood::OtherVersion => version + 1,
        _ => version,
    };
    inner.signed.push(input);
    data(json!({
        "key_version": told,
        "signature": format!("vault:v{told}:{encoded}"),
    }))
}

/// A relayer whose keys are given.
pub async fn world(store: Store, scene: Scene, extra: &str, keys: Vec<Arc<dyn Signer>>) -> World {
    let chain = Arc::new(FakeChain::new(&scene));
    chain.state().ledger = Some(store.url().to_owned());
    let config = config(store.url(), extra);
    let running = Relayer::start_with(config, Arc::clone(&chain) as _, keys)
        .await
        .unwrap();
    World {
        chain,
        relayer: running,
        client: reqwest::Client::new(),
        store: Arc::new(store),
        scene,
    }
}

fn two_keys() -> Scene {
    let mut scene = Scene {
        second_lamports: Some(1_000_000_000),
        ..Scene::default()
    };
    scene.facilitator.relayers[1] = key(10).to_bytes();
    scene.facilitator.relayer_count = 2;
    scene
}

async fn signers_of(world: &World) -> SignersView {
    world.get("/v1/signers").await.json().await.unwrap()
}

/// Waits until a key stands as it should.
async fn until_standing(world: &World, index: usize, standing: &str) -> SignersView {
    for _ in 0..2_000 {
        let view = signers_of(world).await;
        if view.signers[index].standing == standing {
            return view;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came: {:?}", signers_of(world).await);
}

async fn ready(world: &World) -> ReadyView {
    world.get("/ready").await.json().await.unwrap()
}

on_both! {
    a_payment_is_settled_with_a_key_that_is_in_vault
    payments_at_once_share_transactions_that_vault_signs
    a_sealed_vault_makes_its_key_rest_and_the_others_work
}

async fn a_payment_is_settled_with_a_key_that_is_in_vault(store: Store) {
    let vault = Vault::start().await;
    let (source, _file) = vault.with_token(TOKEN, "namespace = \"team/payments\"");
    let signer = signers::load(&source).unwrap();
    assert_eq!(vault.inner().calls, [], "nobody is asked before the start");
    let world = world(store, Scene::default(), QUICK, vec![signer]).await;
    let probes = vault.inner().signed.len();
    let answer = world.settle(&world.body(1)).await;
    assert!(answer.success, "{answer:?}");
    {
        let state = world.chain.state();
        let sent = state.transactions();
        assert_eq!(answer.transaction, sent[0].to_string());
        assert_eq!(state.wires[&sent[0]].fee_payer, relayer());
        // One signature, over the message that was sent.
        let inner = vault.inner();
        assert_eq!(inner.signed.len(), probes + 1);
        assert!(sent[0].verify(relayer().as_array(), inner.signed.last().unwrap()));
        let namespaces: HashSet<Option<String>> =
            inner.calls.iter().map(|(_, name)| name.clone()).collect();
        assert_eq!(
            namespaces,
            HashSet::from([Some("team/payments".to_owned())])
        );
    }
    world.written_ahead();
    let view = signers_of(&world).await;
    let signer = &view.signers[0];
    assert_eq!(
        (
            signer.kind.as_str(),
            signer.standing.as_str(),
            signer.signed
        ),
        ("vault", "active", 1)
    );
    assert!(ready(&world).await.ready);
    world.stop().await;
}

async fn payments_at_once_share_transactions_that_vault_signs(store: Store) {
    let vault = Vault::start().await;
    let (signer, _file) = vault.signer();
    let world = world(store, crate::load::crowd(), PATIENT, vec![signer]).await;
    world.chain.state().send_takes = Duration::from_millis(50);
    let world = Arc::new(world);
    for (nonce, answer) in crate::load::settle_all(&world, 4).await {
        assert!(answer.success, "{nonce}: {answer:?}");
    }
    let state = world.chain.state();
    assert_eq!(state.paid(), 64);
    assert!(state.transactions().len() <= 32);
    drop(state);
    world.written_ahead();
}

async fn a_sealed_vault_makes_its_key_rest_and_the_others_work(store: Store) {
    let vault = Vault::start().await;
    let (signer, _file) = vault.signer();
    let keys = vec![
        signer,
        Arc::new(signers::FeePayer::new(second())) as Arc<dyn Signer>,
    ];
    let world = world(store, two_keys(), PATIENT, keys).await;
    vault.mood(Mood::Sealed);
    // Whoever's turn it is: every payment settles, in the same call.
    for nonce in 1..5 {
        let answer = world.settle(&world.body(nonce)).await;
        assert!(answer.success, "{answer:?}");
    }
    let payers: HashSet<_> = {
        let state = world.chain.state();
        state.wires.values().map(|wire| wire.fee_payer).collect()
    };
    assert_eq!(payers, HashSet::from([key(10)]));
    let view = until_standing(&world, 0, "failed").await;
    let problem = view.signers[0].problem.clone().unwrap();
    assert!(problem.contains("sealed"), "{problem}");
    // One that pays is enough, and the other is named.
    let told = ready(&world).await;
    assert!(told.ready, "{told:?}");
    let check = told.checks.iter().find(|check| check.name == "signers");
    assert!(check.unwrap().message.contains("sealed"));

    vault.mood(Mood::Well);
    until_standing(&world, 0, "active").await;
    for nonce in 5..9 {
        assert!(world.settle(&world.body(nonce)).await.success);
    }
    let by_vault = {
        let state = world.chain.state();
        let ours = |wire: &&crate::fake::Wire| wire.fee_payer == relayer();
        state.wires.values().filter(ours).count()
    };
    assert_eq!(by_vault, 2, "it takes its turns again");
    world.written_ahead();
    world.stop().await;
}

#[tokio::test]
async fn a_relayer_starts_while_its_vault_is_down_and_settles_when_it_is_back() {
    for mood in [Mood::Sealed, Mood::Silent, Mood::BadGateway, Mood::Limited] {
        let vault = Vault::start().await;
        vault.mood(mood.clone());
        let (signer, _file) = vault.signer();
        let world = world(Store::sqlite(), Scene::default(), QUICK, vec![signer]).await;
        let word = world.unavailable("/settle", &world.body(1)).await;
        assert_eq!(word, "signer_unavailable", "{mood:?}");
        assert!(!ready(&world).await.ready, "{mood:?}");
        assert!(world.chain.state().sent.is_empty());
        assert!(vault.inner().signed.is_empty());
        vault.mood(Mood::Well);
        until_standing(&world, 0, "active").await;
        assert!(world.settle(&world.body(1)).await.success);
        assert!(ready(&world).await.ready);
        world.stop().await;
    }
}

/// ATTACKS.md, row 2, seen from the other side: whoever answers in Vault's place signs what they like.
#[tokio::test]
async fn what_is_no_signature_over_this_message_is_refused() {
    for mood in [
        Mood::Corrupt,
        Mood::OtherKey,
        Mood::OtherBytes,
        Mood::OtherVersion,
        Mood::Nonsense,
    ] {
        let vault = Vault::start().await;
        let (signer, _file) = vault.signer();
        signer.probe().await.unwrap();
        vault.mood(mood.clone());
        assert_eq!(
            signer.sign(b"message").await,
            Err(SignError::Forged),
            "{mood:?}"
        );
        let world = world(
            Store::sqlite(),
            Scene::default(),
            QUICK,
            vec![Arc::clone(&signer)],
        )
        .await;
        let word = world.unavailable("/settle", &world.body(1)).await;
        assert_eq!(word, "signer_unavailable", "{mood:?}");
        assert!(world.chain.state().sent.is_empty());
        assert_eq!(world.store.count("SELECT count(*) FROM payments").await, 0);
        vault.mood(Mood::Well);
        until_standing(&world, 0, "active").await;
        assert!(world.settle(&world.body(1)).await.success);
        world.stop().await;
    }
}

#[tokio::test]
async fn another_key_than_the_configured_one_stops_the_start() {
    let vault = Vault::start().await;
    vault.inner().keys.insert(1, keypair(8));
    let (signer, _file) = vault.signer();
    let chain = Arc::new(FakeChain::new(&Scene::default()));
    let store = Store::sqlite();
    let started = Relayer::start_with(config(store.url(), QUICK), chain as _, vec![signer]).await;
    let Err(StartError::Key(KeyError::Other(error))) = started else {
        panic!("it started");
    };
    let text = error.to_string();
    for address in [relayer(), key(8)] {
        assert!(text.contains(&address.to_string()), "{text}");
    }
}

#[tokio::test]
async fn a_rotation_in_vault_changes_nothing_here() {
    let vault = Vault::start().await;
    let (signer, _file) = vault.signer();
    signer.probe().await.unwrap();
    vault.inner().keys.insert(2, keypair(8));
    signer.probe().await.unwrap();
    let signature = signer.sign(b"message").await.unwrap();
    assert!(signature.verify(relayer().as_array(), b"message"));
    // Until the old version is gone.
    vault.inner().keys.remove(&1);
    let error = signer.probe().await.unwrap_err().to_string();
    assert!(error.contains("no version 1"), "{error}");
    let error = signer.sign(b"message").await.unwrap_err().to_string();
    assert!(error.contains("minimum encryption key version"), "{error}");
}

#[tokio::test]
async fn what_vault_refuses_is_told_with_its_mend() {
    let vault = Vault::start().await;
    let (signer, _file) = vault.signer();
    let told = async || signer.probe().await.unwrap_err().to_string();
    vault.inner().may_sign = false;
    assert!(told().await.contains("Vault denies it"));
    vault.inner().may_sign = true;
    vault.inner().may_read = false;
    assert!(told().await.contains("read on the key"));
    vault.inner().may_read = true;
    vault.inner().derived = true;
    assert!(told().await.contains("derived"));
    vault.inner().derived = false;
    vault.inner().kind = "aes256-gcm96";
    assert!(told().await.contains("ed25519"));
    vault.inner().kind = "ed25519";
    vault.inner().tokens.clear();
    assert!(told().await.contains("invalid token"));

    let (mut source, _file) = vault.with_token(TOKEN, "");
    vault.inner().tokens.insert(TOKEN.to_owned());
    source.vault.as_mut().unwrap().key = "nobodys".to_owned();
    let other = signers::load(&source).unwrap();
    let error = other.probe().await.unwrap_err().to_string();
    assert!(error.contains("no such key"), "{error}");
    source.vault.as_mut().unwrap().mount = "elsewhere".to_owned();
    let other = signers::load(&source).unwrap();
    let error = other.sign(b"message").await.unwrap_err().to_string();
    assert!(error.contains("no handler for route"), "{error}");
}

#[tokio::test]
async fn a_call_that_fails_is_repeated_in_the_same_signature() {
    let vault = Vault::start().await;
    let (signer, _file) = vault.signer();
    vault.mood(Mood::Flaky(2));
    assert!(signer.sign(b"message").await.is_ok());
    assert_eq!(vault.calls_of("/sign/"), 3);
    // Not for ever.
    vault.mood(Mood::Flaky(100));
    let error = signer.sign(b"message").await.unwrap_err();
    assert!(matches!(error, SignError::Unreachable(_)), "{error}");
    assert_eq!(vault.calls_of("/sign/"), 6);
}

#[tokio::test]
async fn a_vault_that_is_silent_or_gone_is_given_up() {
    let vault = Vault::start().await;
    let (signer, _file) = vault.signer();
    vault.mood(Mood::Silent);
    let error = signer.sign(b"message").await.unwrap_err();
    assert!(matches!(error, SignError::Unreachable(_)), "{error}");
    assert!(error.to_string().contains("500 ms"), "{error}");

    let (source, _file) = vault.with_token(TOKEN, "");
    let signer = signers::load(&source).unwrap();
    drop(vault);
    let error = signer.sign(b"message").await.unwrap_err();
    assert!(matches!(error, SignError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn a_token_is_sent_to_nobody_else() {
    let (vault, other) = (Vault::start().await, Vault::start().await);
    let (signer, _file) = vault.signer();
    vault.mood(Mood::Redirect(other.url.clone()));
    let error = signer.sign(b"message").await.unwrap_err();
    assert!(matches!(error, SignError::Unreachable(_)), "{error}");
    assert_eq!(other.inner().calls, []);
}

#[tokio::test]
async fn a_token_that_was_replaced_in_its_file_is_read_again() {
    let vault = Vault::start().await;
    let (source, file) = vault.with_token("hvs.old", "");
    vault.inner().tokens.insert("hvs.old".to_owned());
    let signer = signers::load(&source).unwrap();
    signer.sign(b"message").await.unwrap();
    vault.inner().tokens.remove("hvs.old");
    std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
    // In the same call.
    signer.sign(b"message").await.unwrap();
    // A file that holds no token is no reason to panic.
    vault.inner().tokens.clear();
    std::fs::write(file.path(), "two\nlines").unwrap();
    let error = signer.sign(b"message").await.unwrap_err().to_string();
    assert!(error.contains("does not hold"), "{error}");
}

#[tokio::test]
async fn an_approle_logs_in_once_and_again_when_its_token_has_ended() {
    let vault = Vault::start().await;
    let (source, file) = vault.with_approle();
    let signer = signers::load(&source).unwrap();
    let calls: Vec<_> = (0..16)
        .map(|_| {
            let signer = Arc::clone(&signer);
            tokio::spawn(async move { signer.sign(b"message").await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(vault.inner().logins, 1);
    vault.inner().tokens.clear();
    signer.sign(b"message").await.unwrap();
    assert_eq!(vault.inner().logins, 2);
    // A secret id that is none is told as such.
    vault.inner().tokens.clear();
    std::fs::write(file.path(), "another").unwrap();
    let error = signer.sign(b"message").await.unwrap_err().to_string();
    assert!(error.contains("invalid role or secret ID"), "{error}");
}

#[tokio::test]
async fn a_token_is_renewed_when_half_of_its_life_is_over() {
    let vault = Vault::start().await;
    let (signer, _file) = vault.signer();
    // When it was given is not known, so it is renewed at once, and then not for long.
    signer.probe().await.unwrap();
    signer.probe().await.unwrap();
    assert_eq!(vault.inner().renewals, 1);

    let vault = Vault::start().await;
    vault.inner().lease = 2;
    let (source, _file) = vault.with_approle();
    let signer = signers::load(&source).unwrap();
    while vault.inner().renewals < 2 {
        signer.probe().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(vault.inner().logins, 1);
}

#[test]
fn a_configuration_of_vault_is_checked() {
    let good = "url = \"https://vault.example.com:8200\"\nkey = \"sluice\"\nkey_version = 3\n\
         address = \"11111111111111111111111111111112\"\n";
    let with = |lines: &str| {
        Config::from_toml(&format!(
            "network = \"solana\"\nrpc_url = \"http://127.0.0.1:9\"\n\
             facilitator = \"11111111111111111111111111111112\"\n[fee_payer.vault]\n{lines}"
        ))
    };
    let problem = |lines: &str| with(lines).unwrap_err().to_string();
    let token = "token_env = \"SLUICE_RELAYER_VAULT_TOKEN\"\n";
    assert!(with(&format!("{good}{token}")).is_ok());
    for (lines, expected) in [
        (good.to_owned(), "exactly one of `token_env`"),
        (
            format!("{good}{token}token_file = \"x\"\n"),
            "exactly one of `token_env`",
        ),
        (
            format!("{good}[fee_payer.vault.approle]\nrole_id = \"x\"\n"),
            "secret_id_env",
        ),
        (
            format!("{}{token}", good.replace("https:", "http:")),
            "vault.url",
        ),
        (
            format!("{}{token}", good.replace("8200", "8200/v1")),
            "vault.url",
        ),
        (
            format!("{}{token}", good.replace("\"sluice\"", "\"../sys/seal\"")),
            "vault.key",
        ),
        (format!("{good}{token}mount = \"a//b\"\n"), "vault.mount"),
        (
            format!("{good}{token}namespace = \"a\\nb\"\n"),
            "vault.namespace",
        ),
        (
            format!("{}{token}", good.replace("= 3", "= 0")),
            "vault.key_version",
        ),
        (format!("{good}{token}timeout_ms = 5\n"), "vault.timeout_ms"),
        (format!("{good}{token}tokn = 1\n"), "tokn"),
        (format!("{good}token = \"hush\"\n"), "token"),
    ] {
        let told = problem(&lines);
        assert!(told.contains(expected), "{told}");
        assert!(told.contains("fee_payer"), "{told}");
        assert!(!told.contains("hush"), "{told}");
    }
    let both = format!("{good}{token}[fee_payer]\nkeypair = \"x\"\n");
    assert!(with(&both).is_err());
    // A variable that is not set is known before anything starts.
    let config = with(&format!("{good}{token}")).unwrap();
    let error = signers::load(&config.fee_payer).unwrap_err().to_string();
    assert!(error.contains("SLUICE_RELAYER_VAULT_TOKEN"), "{error}");
}

/// What is signed to see whether signing works can be no transaction.
#[tokio::test]
async fn a_trial_is_no_transaction() {
    let vault = Vault::start().await;
    let (signer, _file) = vault.signer();
    signer.probe().await.unwrap();
    let trial = vault.inner().signed[0].clone();
    assert_eq!(trial[0], 0xff);
    let mut wire = vec![1];
    wire.extend([0; 64]);
    wire.extend(trial);
    assert!(sluice_sdk::transaction::from_wire(&wire).is_err());
}
