//! A key that never leaves HashiCorp Vault: its transit engine signs.
//!
//! What Vault gives back is not believed but checked: the key is read and compared with the configuration before it is
//! used, and each signature is verified over the very bytes that were to be signed. Every call is bounded in time.

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sluice_sdk::Address;
use solana_signature::Signature;
use tokio::sync::Mutex;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};
use url::{Host, Url};
use vaultrs::{
    api::{
        AuthInfo,
        transit::{
            KeyType, MarshalingAlgorithm,
            requests::SignDataRequest,
            responses::{ReadKeyData, ReadKeyResponse},
        },
    },
    client::{Client as _, VaultClient, VaultClientSettingsBuilder},
    error::ClientError,
    transit,
};

use super::{KeyError, SignError, Signer};

/// What is signed to see whether signing works. No transaction begins with this byte, so it can be none.
const PROBE: &[u8] = b"\xffsluice-relayer: does this key sign?";
/// How often a call is repeated that Vault could not answer, within the time that it has.
const REPEATS: u32 = 2;
/// The pause before the first repetition; it doubles.
const PAUSE: Duration = Duration::from_millis(50);
/// The most of Vault's own words that is repeated.
const MOST_WORDS: usize = 200;

/// Where a key of Vault is, and how to be let in. Holds no secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultKey {
    /// Vault's address, without a path.
    pub url: String,
    /// The transit key's name.
    pub key: String,
    /// Which of its versions signs. A rotation in Vault changes nothing here before this does.
    pub key_version: u64,
    /// The public key of that version, as an address: what is registered for the facilitator.
    #[serde(deserialize_with = "crate::config::address")]
    pub address: Address,
    /// Where the transit engine is mounted.
    #[serde(default = "transit_mount")]
    pub mount: String,
    /// The namespace.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The variable that holds a token.
    #[serde(default)]
    pub token_env: Option<String>,
    /// The file that holds a token; read again when Vault no longer takes it.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Logging in with an AppRole instead of a token.
    #[serde(default)]
    pub approle: Option<AppRole>,
    /// A PEM file with the authorities that Vault's certificate may be of, instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Milliseconds for a signature, repetitions and log-in included.
    #[serde(default = "patience")]
    pub timeout_ms: u64,
}

/// An AppRole. Holds no secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRole {
    /// The role's id.
    pub role_id: String,
    /// The variable that holds the secret id.
    #[serde(default)]
    pub secret_id_env: Option<String>,
    /// The file that holds the secret id.
    #[serde(default)]
    pub secret_id_file: Option<PathBuf>,
    /// Where the AppRole method is mounted.
    #[serde(default = "approle_mount")]
    pub mount: String,
}

fn transit_mount() -> String {
    "transit".to_owned()
}

fn approle_mount() -> String {
    "approle".to_owned()
}

fn patience() -> u64 {
    2_000
}

impl VaultKey {
    /// What is wrong with it, each beginning with the field.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |holds: bool, problem: &str| {
            if !holds {
                found.push(problem.to_owned());
            }
        };
        check(
            self.base().is_some(),
            "vault.url: must be an https:// URL without a path; http:// is for this machine alone",
        );
        check(is_name(&self.key), "vault.key: must be a key's name");
        check(self.key_version > 0, "vault.key_version: must be above 0");
        check(is_path(&self.mount), "vault.mount: must be a path");
        check(
            self.namespace.as_deref().is_none_or(is_path),
            "vault.namespace: must be a path",
        );
        let ways = [
            self.token_env.is_some(),
            self.token_file.is_some(),
            self.approle.is_some(),
        ];
        check(
            ways.iter().filter(|way| **way).count() == 1,
            "vault: needs exactly one of `token_env`, `token_file` and `approle`",
        );
        if let Some(role) = &self.approle {
            check(
                !role.role_id.is_empty(),
                "vault.approle.role_id: must not be empty",
            );
            check(is_path(&role.mount), "vault.approle.mount: must be a path");
            check(
                role.secret_id_env.is_some() != role.secret_id_file.is_some(),
                "vault.approle: needs exactly one of `secret_id_env` and `secret_id_file`",
            );
        }
        check(
            (100..=30_000).contains(&self.timeout_ms),
            "vault.timeout_ms: must be 100 to 30000",
        );
        found
    }

    /// The environment variables that it names.
    pub(crate) fn variables(&self) -> impl Iterator<Item = String> {
        let secret_id = self
            .approle
            .as_ref()
            .and_then(|role| role.secret_id_env.clone());
        self.token_env.clone().into_iter().chain(secret_id)
    }

    /// The address, if it is one that a token may be sent to.
    fn base(&self) -> Option<Url> {
        let url = Url::parse(&self.url).ok()?;
        let here = match url.host()? {
            Host::Domain(name) => name == "localhost",
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        let plain = url.scheme() == "http" && here;
        let bare = url.path() == "/"
            && url.query().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        ((url.scheme() == "https" || plain) && bare).then_some(url)
    }
}

/// One step of a path: it becomes part of a URL.
fn is_name(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.bytes().all(good) && !text.starts_with('.')
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_name)
}

/// A key of Vault's transit engine.
pub struct VaultSigner {
    settings: VaultKey,
    base: Url,
    /// One pool of connections, whoever is logged in.
    http: vaultrs_http::Client,
    session: Mutex<Option<Arc<Session>>>,
}

/// Being let in.
struct Session {
    client: VaultClient,
    token: SecretString,
    /// When the token is to be renewed, if it can be.
    renew_at: std::sync::Mutex<Option<Instant>>,
}

impl fmt::Debug for VaultSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultSigner")
            .field("address", &self.settings.address)
            .field("url", &self.base.origin().ascii_serialization())
            .field("key", &self.settings.key)
            .field("key_version", &self.settings.key_version)
            .finish_non_exhaustive()
    }
}

impl VaultSigner {
    /// A key that nobody was asked for yet.
    pub fn new(settings: &VaultKey) -> Result<Self, KeyError> {
        if let Some(problem) = settings.problems().into_iter().next() {
            return Err(KeyError::Vault(problem));
        }
        let wrong = |problem: &str| KeyError::Vault(problem.to_owned());
        let base = settings
            .base()
            .ok_or_else(|| wrong("vault.url: must be an https:// URL without a path"))?;
        // Whoever was first has chosen the same: nothing here is built with another.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = vaultrs_http::Client::builder()
            // A token is sent to the one host that is configured.
            .redirect(vaultrs_http::redirect::Policy::none())
            .timeout(Duration::from_millis(settings.timeout_ms));
        if base.scheme() == "http" {
            http = http.no_proxy().tls_certs_only(Vec::new());
        } else if let Some(path) = &settings.ca_file {
            let name = path.display();
            let bytes = std::fs::read(path)
                .map_err(|error| wrong(&format!("ca_file: {name} cannot be read: {error}")))?;
            let authorities = vaultrs_http::Certificate::from_pem_bundle(&bytes)
                .ok()
                .filter(|found| !found.is_empty())
                .ok_or_else(|| wrong(&format!("ca_file: {name} holds no PEM certificate")))?;
            http = http.tls_certs_only(authorities);
        }
        let http = http
            .build()
            .map_err(|error| wrong(&format!("no TLS: {}", error.without_url())))?;
        let this = Self {
            settings: settings.clone(),
            base,
            http,
            session: Mutex::default(),
        };
        // A variable that is not set is known now.
        match &this.settings.approle {
            Some(role) => secret(&role.secret_id_env, &role.secret_id_file, "secret_id"),
            None => secret(&this.settings.token_env, &this.settings.token_file, "token"),
        }
        .map_err(KeyError::Vault)?;
        Ok(this)
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.settings.timeout_ms)
    }

    /// A client with a token.
    fn client(&self, token: &SecretString) -> Result<VaultClient, SignError> {
        // Everything is set: what is not is read from variables that are none of ours.
        let mut settings = VaultClientSettingsBuilder::default();
        settings
            .address(&self.base)
            .ca_certs(Vec::new())
            .identity(None)
            .timeout(Some(self.timeout()))
            .token(token.expose_secret())
            .verify(true)
            .version(1)
            .namespace(self.settings.namespace.clone());
        let broken = |_| SignError::Unreachable("Vault's client could not be made".to_owned());
        let settings = settings.build().map_err(|_| {
            SignError::Unreachable("Vault's client could not be configured".to_owned())
        })?;
        let silent = NoSubscriber::default();
        let made = tracing::subscriber::with_default(silent, || VaultClient::new(settings));
        let mut client = made.map_err(broken)?;
        client.http.http = self.http.clone();
        Ok(client)
    }

    /// Whoever is logged in; logs in if nobody is. One logs in, and the others wait for that.
    async fn session(&self) -> Result<Arc<Session>, SignError> {
        let mut session = self.session.lock().await;
        if let Some(session) = &*session {
            return Ok(Arc::clone(session));
        }
        let (token, renew_at) = match &self.settings.approle {
            None => {
                let (env, file) = (&self.settings.token_env, &self.settings.token_file);
                let token = secret(env, file, "token").map_err(SignError::Refused)?;
                (token, Some(Instant::now()))
            }
            Some(role) => {
                let (env, file) = (&role.secret_id_env, &role.secret_id_file);
                let secret_id = secret(env, file, "secret_id").map_err(SignError::Refused)?;
                let client = self.client(&SecretString::from(String::new()))?;
                let answer = vaultrs::auth::approle::login(
                    &client,
                    &role.mount,
                    &role.role_id,
                    secret_id.expose_secret(),
                )
                .with_subscriber(NoSubscriber::default())
                .await;
                let info = answer.map_err(|error| explain(&error, &[&secret_id]).error)?;
                let token = checked(info.client_token.clone(), "the token of the log-in")
                    .map_err(SignError::Refused)?;
                (token, renewal(&info))
            }
        };
        let new = Arc::new(Session {
            client: self.client(&token)?,
            token,
            renew_at: std::sync::Mutex::new(renew_at),
        });
        *session = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Forgets a session that Vault no longer takes.
    async fn forget(&self, old: &Arc<Session>) {
        let mut session = self.session.lock().await;
        if session.as_ref().is_some_and(|now| Arc::ptr_eq(now, old)) {
            *session = None;
        }
    }

    /// Calls Vault: again when it could not answer, and after another log-in when it does not let in.
    async fn call<T, F>(&self, ask: impl Fn(Arc<Session>) -> F) -> Result<T, SignError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        let (mut repeats, mut logged_in) = (0, false);
        loop {
            let session = self.session().await?;
            // What went wrong is told below, in our words: Vault's own may hold anything.
            let answer = ask(Arc::clone(&session)).with_subscriber(NoSubscriber::default());
            let problem = match answer.await {
                Ok(answer) => return Ok(answer),
                Err(error) => explain(&error, &[&session.token]),
            };
            if problem.denied && !logged_in {
                // The token may have ended, and the file may hold another by now.
                logged_in = true;
                self.forget(&session).await;
            } else if problem.passing && repeats < REPEATS {
                tokio::time::sleep(PAUSE * 2u32.pow(repeats)).await;
                repeats += 1;
            } else {
                return Err(problem.error);
            }
        }
    }

    async fn sign_now(&self, message: &[u8]) -> Result<Signature, SignError> {
        let VaultKey {
            mount,
            key,
            key_version,
            address,
            ..
        } = &self.settings;
        let input = STANDARD.encode(message);
        let answer = self
            .call(|session| {
                let input = &input;
                async move {
                    // Ed25519 hashes by itself: Vault is to sign these bytes as they are.
                    let mut request = SignDataRequest::builder();
                    request
                        .key_version(*key_version)
                        .prehashed(false)
                        .marshaling_algorithm(MarshalingAlgorithm::Asn1);
                    transit::data::sign(&session.client, mount, key, input, Some(&mut request))
                        .await
                }
            })
            .await?;
        let signature = read(&answer.signature, *key_version).ok_or(SignError::Forged)?;
        if signature.verify(address.as_array(), message) {
            Ok(signature)
        } else {
            Err(SignError::Forged)
        }
    }

    /// Reads the key, and compares it with the configuration.
    async fn compare(&self) -> Result<(), SignError> {
        let VaultKey { mount, key, .. } = &self.settings;
        let read = self
            .call(|session| async move { transit::key::read(&session.client, mount, key).await })
            .await?;
        self.is_ours(&read)
    }

    fn is_ours(&self, read: &ReadKeyResponse) -> Result<(), SignError> {
        let VaultKey {
            key,
            key_version,
            address,
            ..
        } = &self.settings;
        let refused = |problem: String| Err(SignError::Refused(problem));
        if !matches!(read.key_type, KeyType::Ed25519) {
            return refused(format!(
                "Vault's key {key} is of another type: it must be ed25519"
            ));
        }
        if read.derived {
            return refused(format!(
                "Vault's key {key} is a derived one: make it without derivation"
            ));
        }
        let no_keys = HashMap::new();
        let keys = match &read.keys {
            ReadKeyData::Asymmetric(keys) => keys,
            ReadKeyData::Symmetric(_) => &no_keys,
        };
        let Some(entry) = keys.get(&key_version.to_string()) else {
            return refused(format!(
                "Vault's key {key} has no version {key_version}: correct key_version"
            ));
        };
        let found: Option<[u8; 32]> = STANDARD
            .decode(&entry.public_key)
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        match found {
            Some(found) if found == *address.as_array() => Ok(()),
            found => Err(SignError::OtherKey {
                expected: *address,
                found: found.map_or("none that can be read".to_owned(), |key| {
                    Address::new_from_array(key).to_string()
                }),
            }),
        }
    }

    /// Renews the token when that is due.
    async fn renew(&self) {
        let Ok(session) = self.session().await else {
            return;
        };
        let due = {
            let lock = session.renew_at.lock();
            let renew_at = *lock.unwrap_or_else(std::sync::PoisonError::into_inner);
            renew_at.is_some_and(|at| Instant::now() >= at)
        };
        if !due {
            return;
        }
        let renewed = session.client.renew(None);
        let next = match renewed.with_subscriber(NoSubscriber::default()).await {
            Ok(info) => renewal(&info),
            Err(error) => {
                let problem = explain(&error, &[&session.token]);
                tracing::debug!(fee_payer = %self.settings.address, error = %problem.error, "the token was not renewed");
                // One that cannot be renewed lives as long as it was given.
                problem.passing.then(Instant::now)
            }
        };
        let mut renew_at = session
            .renew_at
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        *renew_at = next;
    }
}

#[async_trait]
impl Signer for VaultSigner {
    fn address(&self) -> Address {
        self.settings.address
    }

    fn kind(&self) -> &'static str {
        "vault"
    }

    async fn sign(&self, message: &[u8]) -> Result<Signature, SignError> {
        match tokio::time::timeout(self.timeout(), self.sign_now(message)).await {
            Ok(signed) => signed,
            Err(_) => Err(self.silent()),
        }
    }

    async fn probe(&self) -> Result<(), SignError> {
        let all = async {
            self.compare().await?;
            self.sign_now(PROBE).await?;
            self.renew().await;
            Ok(())
        };
        match tokio::time::timeout(self.timeout(), all).await {
            Ok(probed) => probed,
            Err(_) => Err(self.silent()),
        }
    }

    fn is_remote(&self) -> bool {
        true
    }
}

impl VaultSigner {
    fn silent(&self) -> SignError {
        SignError::Unreachable(format!(
            "Vault did not answer in {} ms",
            self.settings.timeout_ms
        ))
    }
}

/// When a token is to be renewed: half way to its end.
fn renewal(info: &AuthInfo) -> Option<Instant> {
    let half = Duration::from_secs(info.lease_duration / 2);
    (info.renewable && !half.is_zero()).then(|| Instant::now() + half)
}

/// Reads a secret. The problem never holds it.
fn secret(
    env: &Option<String>,
    file: &Option<PathBuf>,
    what: &str,
) -> Result<SecretString, String> {
    let (text, name) = match (env, file) {
        (Some(variable), _) => {
            let name = format!("the environment variable {variable}");
            let text = std::env::var(variable).map_err(|_| format!("{what}: {name} is not set"))?;
            (text, name)
        }
        (None, Some(path)) => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("{what}: {name} cannot be read: {error}"))?;
            (text, name)
        }
        (None, None) => return Err(format!("{what}: is nowhere")),
    };
    checked(text.trim().to_owned(), &name)
}

/// A secret that can be put in a header.
fn checked(text: String, name: &str) -> Result<SecretString, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{name} does not hold what Vault gives"));
    }
    Ok(SecretString::from(text))
}

/// The signature in `vault:v1:<base64>`; `None` for anything else, and for another version's.
fn read(text: &str, version: u64) -> Option<Signature> {
    let encoded = text.strip_prefix(&format!("vault:v{version}:"))?;
    let bytes: [u8; 64] = STANDARD.decode(encoded).ok()?.try_into().ok()?;
    Some(Signature::from(bytes))
}

/// What went wrong with a call.
struct Problem {
    error: SignError,
    /// Whether the same may be answered in a moment.
    passing: bool,
    /// Whether the token was not taken.
    denied: bool,
}

/// Puts an error of Vault's in words, without the secrets.
fn explain(error: &ClientError, secrets: &[&SecretString]) -> Problem {
    let (code, words) = match error {
        ClientError::APIError { code, errors } => (*code, clean(&errors.join("; "), secrets)),
        // Neither URL nor content: only what kind of failure it is.
        ClientError::RestClientError { source } => {
            let problem = format!("Vault did not answer as Vault does: {source}");
            return Problem {
                error: SignError::Unreachable(clean(&problem, secrets)),
                passing: true,
                denied: false,
            };
        }
        other => {
            return Problem {
                error: SignError::Unreachable(clean(&other.to_string(), secrets)),
                passing: false,
                denied: false,
            };
        }
    };
    let words = if words.is_empty() {
        String::new()
    } else {
        format!(" ({words})")
    };
    let (error, passing) = match code {
        403 => (
            SignError::Refused(format!(
                "Vault denies it{words}: its token needs read on the key and update on its sign path, and to be alive"
            )),
            false,
        ),
        404 => (
            SignError::Refused(format!("Vault knows no such key or mount{words}")),
            false,
        ),
        400..=411 | 413..=428 => (
            SignError::Refused(format!("Vault refuses the request with {code}{words}")),
            false,
        ),
        503 => (
            SignError::Unreachable(format!("Vault is sealed or in maintenance{words}")),
            true,
        ),
        429 => (
            SignError::Unreachable(format!("Vault limits the rate of calls{words}")),
            true,
        ),
        code => (
            SignError::Unreachable(format!("Vault answered {code}{words}")),
            true,
        ),
    };
    Problem {
        error,
        passing,
        denied: code == 403,
    }
}

/// Words from elsewhere: one line, short, and without the secrets.
fn clean(text: &str, secrets: &[&SecretString]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        text = text.replace(secret.expose_secret(), "…");
    }
    let line: Vec<&str> = text.split_whitespace().collect();
    let line: String = line.join(" ").chars().filter(|c| !c.is_control()).collect();
    line.chars().take(MOST_WORDS).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_of_the_pinned_version_alone_is_read() {
        let text = STANDARD.encode([7; 64]);
        assert_eq!(
            read(&format!("vault:v3:{text}"), 3),
            Some(Signature::from([7; 64]))
        );
        for wrong in [
            format!("vault:v4:{text}"),
            format!("vault:v33:{text}"),
            format!("vault:v3{text}"),
            text.clone(),
            "vault:v3:".to_owned(),
            format!("vault:v3:{}", STANDARD.encode([7; 63])),
            format!("vault:v3:{text}A"),
        ] {
            assert_eq!(read(&wrong, 3), None, "{wrong}");
        }
    }

    #[test]
    fn words_from_elsewhere_are_short_and_hold_no_secret() {
        let token = SecretString::from("hvs.hush".to_owned());
        let told = clean(
            "1 error occurred:\n\t* bad token hvs.hush\u{7}\n\n",
            &[&token],
        );
        assert_eq!(told, "1 error occurred: * bad token …");
        assert!(clean(&"x".repeat(5_000), &[]).len() <= MOST_WORDS);
    }
}
