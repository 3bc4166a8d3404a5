//! The configuration: one TOML file, overridden by environment variables, without secrets in it.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use figment::{
    Figment,
    error::Kind,
    providers::{Env, Format, Toml},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sluice_sdk::{Address, x402::Network};

use crate::{
    budget,
    chores::settings::{DistributeSettings, OnboardSettings, ReclaimSettings},
    economics::EconomicsSettings,
    guard::settings::GuardSettings,
    ledger::Backend,
    signers::{alert::AlertSettings, vault::VaultKey},
    verify::MAX_MARGIN_SECS,
};

/// What environment variables that override the file begin with.
pub const ENV_PREFIX: &str = "SLUICE_RELAYER_";

/// Everything the relayer is told. See `relayer.example.toml` for what each key means.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where HTTP is served.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The network, as x402 names it.
    pub network: Network,
    /// The cluster's JSON-RPC.
    pub rpc_url: SecretUrl,
    /// Further nodes of the same cluster: asked when the first fails, and sent every transaction.
    #[serde(default)]
    pub more_rpc_urls: Vec<SecretUrl>,
    /// The first node's websocket: it tells of what landed, so that it is known sooner and asked about less.
    #[serde(default)]
    pub ws_url: Option<SecretUrl>,
    /// The ledger.
    #[serde(default = "default_database_url")]
    pub database_url: SecretUrl,
    /// The facilitator account that the relayer settles for.
    #[serde(deserialize_with = "address")]
    pub facilitator: Address,
    /// Where the fee payer's key is.
    #[serde(default)]
    pub fee_payer: KeySource,
    /// Where further fee payers' keys are: they take turns.
    #[serde(default)]
    pub more_fee_payers: Vec<KeySource>,
    /// This relayer's name among those that share a ledger; made up at the start if it is not given.
    #[serde(default)]
    pub replica: Option<String>,
    /// Milliseconds that a relayer of a shared ledger keeps its transactions without being heard of.
    #[serde(default = "default_lease_ms")]
    pub lease_ms: u64,
    /// How logs are written.
    #[serde(default)]
    pub log_format: LogFormat,
    /// Bounds on requests.
    #[serde(default)]
    pub limits: Limits,
    /// Bounds on what a transaction costs.
    #[serde(default)]
    pub fees: Fees,
    /// How the chain is asked.
    #[serde(default)]
    pub chain: ChainSettings,
    /// How payments share transactions.
    #[serde(default)]
    pub batch: BatchSettings,
    /// The scheme `exact`.
    #[serde(default)]
    pub exact: ExactSettings,
    /// How vaults are distributed.
    #[serde(default)]
    pub distribute: DistributeSettings,
    /// How sponsored accounts are reclaimed.
    #[serde(default)]
    pub reclaim: ReclaimSettings,
    /// How accounts are sponsored.
    #[serde(default)]
    pub onboard: OnboardSettings,
    /// What payments must bring in.
    #[serde(default)]
    pub economics: EconomicsSettings,
    /// How payments are known by an id of their payer's.
    #[serde(default)]
    pub payment_identifier: IdentifierSettings,
    /// How callers are kept within bounds.
    #[serde(default)]
    pub guard: GuardSettings,
    /// Whom to tell when a key cannot pay.
    #[serde(default)]
    pub alerts: AlertSettings,
}

/// How payments are known by an id of their payer's: the extension `payment-identifier` of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentifierSettings {
    /// Whether ids are heeded. If not, they are ignored.
    pub enabled: bool,
    /// Whether they are heeded only where the server says in its requirement that it knows them (`paymentIdentifier:
    /// true` in `extra`): the id itself is the client's to add.
    pub declared_only: bool,
    /// Seconds that an id is kept after its intent has expired, by the chain's clock.
    pub keep_secs: u64,
}

impl IdentifierSettings {
    /// Whether the id of a payment for this requirement is heeded.
    pub fn heeds(&self, requirements: &serde_json::Value) -> bool {
        let declared = || requirements["extra"]["paymentIdentifier"] == true;
        self.enabled && (!self.declared_only || declared())
    }
}

impl Default for IdentifierSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            declared_only: false,
            keep_secs: 86_400,
        }
    }
}

/// How payments share transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchSettings {
    /// Most payments in one transaction, where bytes and compute units allow more.
    pub max_payments: usize,
    /// Milliseconds that a batch waits for more while payments keep coming. An idle relayer never waits.
    pub linger_ms: u64,
    /// Which transactions carry batches.
    pub format: BatchFormat,
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self {
            max_payments: 64,
            linger_ms: 5,
            format: BatchFormat::Auto,
        }
    }
}

impl BatchSettings {
    /// See [`BatchSettings::linger_ms`].
    pub fn linger(&self) -> Duration {
        Duration::from_millis(self.linger_ms)
    }
}

/// The format of transactions that carry more than one payment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchFormat {
    /// Version 1 where the cluster takes it, found out at the start.
    #[default]
    Auto,
    /// Version 1: 4,096 bytes.
    V1,
    /// Version 0: 1,232 bytes.
    V0,
}

/// Where a key is. Never the key.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySource {
    /// A Solana keypair file.
    pub keypair: Option<PathBuf>,
    /// The name of an environment variable that holds the content of one.
    pub env: Option<String>,
    /// A key of HashiCorp Vault's transit engine.
    pub vault: Option<Box<VaultKey>>,
}

impl KeySource {
    /// The environment variables that it names: they may begin like ours, and are no fields.
    fn variables(&self) -> impl Iterator<Item = String> {
        let vault = self.vault.iter().flat_map(|vault| vault.variables());
        self.env.clone().into_iter().chain(vault)
    }

    fn is_one(&self) -> bool {
        let ways = [
            self.keypair.is_some(),
            self.env.is_some(),
            self.vault.is_some(),
        ];
        ways.iter().filter(|way| **way).count() == 1
    }
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Bounds on requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Seconds for a request, without the wait for a confirmation.
    pub request_timeout_secs: u64,
    /// Seconds that `/settle` waits for a confirmation.
    pub confirm_timeout_secs: u64,
    /// Payments that may be open at once.
    pub max_in_flight: u32,
    /// Of these, of one payer. 0 for any number.
    pub payer_in_flight: u32,
    /// Of these, to one service. 0 for any number.
    pub service_in_flight: u32,
    /// Requests that may be worked on at once.
    pub max_requests: usize,
    /// Connections that may be open at once.
    pub max_connections: usize,
    /// Of these, from one address that is no trusted proxy. 0 for any number.
    pub max_connections_per_ip: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Seconds in which a request's head must have come, and that a connection is kept without one.
    pub head_timeout_secs: u64,
    /// Seconds in which its body must have come, and in which a client must take some of an answer.
    pub body_timeout_secs: u64,
    /// Seconds that a stop waits for requests at work.
    pub drain_secs: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            request_timeout_secs: 20,
            confirm_timeout_secs: 60,
            max_in_flight: 10_000,
            payer_in_flight: 256,
            service_in_flight: 0,
            max_requests: 4_096,
            max_connections: 8_192,
            max_connections_per_ip: 0,
            head_bytes: 16 * 1024,
            head_timeout_secs: 20,
            body_timeout_secs: 10,
            drain_secs: 20,
        }
    }
}

/// The stock scheme `exact`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExactSettings {
    /// Whether it is settled at all.
    pub enabled: bool,
    /// Whether every transaction is simulated first, and not only those whose success the accounts do not show.
    pub always_simulate: bool,
}

impl Default for ExactSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            always_simulate: false,
        }
    }
}

/// Bounds on what a transaction costs, in lamports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fees {
    /// Priority fee, micro-lamports a compute unit: at least this.
    pub unit_price_micro_lamports: u64,
    /// And at most this: in between, what others paid lately for the same accounts. 0 to pay the least always.
    pub max_unit_price_micro_lamports: u64,
    /// Which of the prices that others paid, in percent of them that paid no more.
    pub price_percentile: u8,
    /// The most that a transaction may cost in all.
    pub max_lamports_per_transaction: u64,
    /// Below this balance a fee payer rests.
    pub min_balance_lamports: u64,
    /// Above this balance it pays again; twice the other if 0.
    pub resume_balance_lamports: u64,
}

impl Fees {
    /// These at the dearest that the price may become.
    pub fn dearest(&self) -> Self {
        Self {
            unit_price_micro_lamports: self
                .unit_price_micro_lamports
                .max(self.max_unit_price_micro_lamports),
            ..*self
        }
    }

    /// See [`Fees::resume_balance_lamports`].
    pub fn resume_lamports(&self) -> u64 {
        if self.resume_balance_lamports == 0 {
            self.min_balance_lamports.saturating_mul(2)
        } else {
            self.resume_balance_lamports
        }
    }
}

impl Default for Fees {
    fn default() -> Self {
        Self {
            unit_price_micro_lamports: 0,
            max_unit_price_micro_lamports: 0,
            price_percentile: 75,
            max_lamports_per_transaction: 20_000,
            min_balance_lamports: 10_000_000,
            resume_balance_lamports: 0,
        }
    }
}

/// How the chain is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChainSettings {
    /// Seconds for one call.
    pub rpc_timeout_secs: u64,
    /// Milliseconds between two looks at open payments.
    pub poll_ms: u64,
    /// Milliseconds between two sends of a transaction that nobody has seen yet.
    pub rebroadcast_ms: u64,
    /// Seconds that an intent must have left, by the chain's clock.
    pub expiry_margin_secs: u32,
    /// Milliseconds that an account is believed without asking again.
    pub cache_ms: u64,
    /// Milliseconds between two blockhashes.
    pub blockhash_ms: u64,
}

impl Default for ChainSettings {
    fn default() -> Self {
        Self {
            rpc_timeout_secs: 10,
            poll_ms: 50,
            rebroadcast_ms: 2_000,
            expiry_margin_secs: 5,
            cache_ms: 400,
            blockhash_ms: 400,
        }
    }
}

impl Limits {
    /// See [`Limits::request_timeout_secs`].
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_secs)
    }
    /// See [`Limits::confirm_timeout_secs`].
    pub fn confirm_timeout(&self) -> Duration {
        Duration::from_secs(self.confirm_timeout_secs)
    }
    /// See [`Limits::head_timeout_secs`].
    pub fn head_timeout(&self) -> Duration {
        Duration::from_secs(self.head_timeout_secs)
    }
    /// See [`Limits::body_timeout_secs`].
    pub fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_secs)
    }
    /// See [`Limits::drain_secs`].
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_secs)
    }
}

impl ChainSettings {
    /// See [`ChainSettings::rpc_timeout_secs`].
    pub fn rpc_timeout(&self) -> Duration {
        Duration::from_secs(self.rpc_timeout_secs)
    }
    /// See [`ChainSettings::poll_ms`].
    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }
    /// See [`ChainSettings::cache_ms`].
    pub fn cache(&self) -> Duration {
        Duration::from_millis(self.cache_ms)
    }
    /// See [`ChainSettings::blockhash_ms`].
    pub fn blockhash(&self) -> Duration {
        Duration::from_millis(self.blockhash_ms)
    }
    /// See [`ChainSettings::rebroadcast_ms`].
    pub fn rebroadcast(&self) -> Duration {
        Duration::from_millis(self.rebroadcast_ms)
    }
}

/// A URL whose path and query may carry a key: shown by scheme, host and port alone.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct SecretUrl(SecretString);

impl PartialEq for SecretUrl {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for SecretUrl {}

impl SecretUrl {
    /// The whole URL.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    fn parse(&self) -> Result<url::Url, url::ParseError> {
        url::Url::parse(self.expose())
    }
}

impl From<String> for SecretUrl {
    fn from(url: String) -> Self {
        Self(SecretString::from(url))
    }
}

impl From<&str> for SecretUrl {
    fn from(url: &str) -> Self {
        Self(SecretString::from(url))
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parse() {
            Ok(url) => write!(f, "{}", url.origin().ascii_serialization()),
            Err(_) => f.write_str("(not a URL)"),
        }
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a configuration is not usable. Each line names the file or variable and the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(Vec<String>);

impl Config {
    /// Reads `path` and the environment, and checks every value that can be checked without the chain.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        if !path.is_file() {
            return Err(ConfigError(vec![format!(
                "{file}: there is no such file; copy relayer.example.toml and edit it"
            )]));
        }
        Self::extract(Figment::from(Toml::file_exact(path)), &file)
    }

    /// Reads TOML text, with the environment's overrides.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::extract(Figment::from(Toml::string(text)), "(text)")
    }

    fn extract(figment: Figment, file: &str) -> Result<Self, ConfigError> {
        // Keys may stand in variables that begin like ours; they are no fields.
        let first = std::env::var(format!("{ENV_PREFIX}FEE_PAYER__ENV"))
            .ok()
            .or_else(|| figment.extract_inner::<String>("fee_payer.env").ok());
        let guard = figment.extract_inner::<GuardSettings>("guard");
        let guard = guard.unwrap_or_default();
        let source = figment.extract_inner::<KeySource>("fee_payer").ok();
        let more = figment.extract_inner::<Vec<KeySource>>("more_fee_payers");
        let sources = source.into_iter().chain(more.unwrap_or_default());
        let key_variables: Vec<String> = first
            .into_iter()
            .chain(guard.secret_variables())
            .chain(sources.flat_map(|source| source.variables().collect::<Vec<_>>()))
            .collect();
        let env = Env::prefixed(ENV_PREFIX)
            .filter(move |key| {
                let name = format!("{ENV_PREFIX}{}", key.as_str());
                !key_variables
                    .iter()
                    .any(|variable| variable.eq_ignore_ascii_case(&name))
            })
            .split("__");
        let config: Self = figment
            .merge(env)
            .extract()
            .map_err(|error| ConfigError(error.into_iter().map(|e| line(&e, file)).collect()))?;
        let problems = config.problems();
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError(
                problems
                    .into_iter()
                    .map(|problem| format!("{file}: {problem}"))
                    .collect(),
            ))
        }
    }

    /// See [`Config::lease_ms`].
    pub fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// What is wrong with the values, one line each, beginning with the field.
    fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut check = |holds: bool, problem: &str| {
            if !holds {
                found.push(problem.to_owned());
            }
        };
        let scheme = |url: &SecretUrl| url.parse().map(|url| url.scheme().to_owned());
        check(
            matches!(scheme(&self.rpc_url).as_deref(), Ok("http" | "https")),
            "rpc_url: must be an http:// or https:// URL",
        );
        check(
            self.more_rpc_urls
                .iter()
                .all(|url| matches!(scheme(url).as_deref(), Ok("http" | "https"))),
            "more_rpc_urls: each must be an http:// or https:// URL",
        );
        check(
            self.fees.price_percentile <= 100,
            "fees.price_percentile: must be at most 100",
        );
        check(
            self.ws_url
                .as_ref()
                .is_none_or(|url| matches!(scheme(url).as_deref(), Ok("ws" | "wss"))),
            "ws_url: must be a ws:// or wss:// URL",
        );
        check(
            Backend::of_url(self.database_url.expose()).is_some(),
            "database_url: must begin with sqlite:// or postgres://",
        );
        check(
            (1_000..=300_000).contains(&self.lease_ms),
            "lease_ms: must be 1000 to 300000",
        );
        check(
            self.fee_payer.is_one(),
            "fee_payer: needs exactly one of `keypair` (a file), `env` (a variable's name) and `vault`",
        );
        check(
            self.more_fee_payers.iter().all(KeySource::is_one),
            "more_fee_payers: each needs exactly one of `keypair` (a file), `env` (a variable's name) and `vault`",
        );
        check(
            (1..=80).contains(&self.batch.max_payments),
            "batch.max_payments: must be 1 to 80",
        );
        check(
            self.batch.linger_ms <= 1_000,
            "batch.linger_ms: must be at most 1000",
        );
        check(
            self.chain.cache_ms <= 10_000,
            "chain.cache_ms: must be at most 10000",
        );
        check(
            (50..=10_000).contains(&self.chain.blockhash_ms),
            "chain.blockhash_ms: must be 50 to 10000",
        );
        let limits = &self.limits;
        check(
            (1_024..=16 * 1024 * 1024).contains(&limits.body_bytes),
            "limits.body_bytes: must be 1024 to 16777216",
        );
        let seconds = |value: u64| (1..=600).contains(&value);
        check(
            seconds(limits.request_timeout_secs),
            "limits.request_timeout_secs: must be 1 to 600",
        );
        check(
            seconds(limits.confirm_timeout_secs),
            "limits.confirm_timeout_secs: must be 1 to 600",
        );
        check(
            limits.drain_secs <= 600,
            "limits.drain_secs: must be at most 600",
        );
        check(
            limits.max_in_flight > 0,
            "limits.max_in_flight: must be above 0",
        );
        check(
            (1..=65_536).contains(&limits.max_requests),
            "limits.max_requests: must be 1 to 65536",
        );
        check(
            (1..=1_000_000).contains(&limits.max_connections),
            "limits.max_connections: must be 1 to 1000000",
        );
        check(
            (8_192..=1024 * 1024).contains(&limits.head_bytes),
            "limits.head_bytes: must be 8192 to 1048576",
        );
        check(
            seconds(limits.head_timeout_secs),
            "limits.head_timeout_secs: must be 1 to 600",
        );
        check(
            seconds(limits.body_timeout_secs),
            "limits.body_timeout_secs: must be 1 to 600",
        );
        check(
            seconds(self.chain.rpc_timeout_secs),
            "chain.rpc_timeout_secs: must be 1 to 600",
        );
        check(
            (10..=60_000).contains(&self.chain.poll_ms),
            "chain.poll_ms: must be 10 to 60000",
        );
        check(
            (100..=60_000).contains(&self.chain.rebroadcast_ms),
            "chain.rebroadcast_ms: must be 100 to 60000",
        );
        check(
            self.chain.expiry_margin_secs <= MAX_MARGIN_SECS,
            "chain.expiry_margin_secs: must be at most 60",
        );
        check(
            self.payment_identifier.keep_secs <= 31_536_000,
            "payment_identifier.keep_secs: must be at most 31536000",
        );
        found.extend(self.distribute.problems());
        found.extend(self.reclaim.problems());
        found.extend(self.onboard.problems());
        found.extend(self.economics.problems(limits.confirm_timeout()));
        found.extend(self.guard.problems());
        let first = self.fee_payer.vault.iter().map(|key| ("fee_payer", key));
        let more = self.more_fee_payers.iter();
        let more = more.filter_map(|source| Some(("more_fee_payers", source.vault.as_ref()?)));
        for (field, vault) in first.chain(more) {
            let problems = vault.problems().into_iter();
            found.extend(problems.map(|problem| format!("{field}.{problem}")));
        }
        found.extend(self.alerts.problems());
        let dearest = budget::dearest(&self.fees.dearest());
        if dearest > self.fees.max_lamports_per_transaction {
            found.push(format!(
                "fees.max_lamports_per_transaction: {} is below what a settlement with 8 recipients costs at \
                 this unit_price_micro_lamports ({dearest} lamports)",
                self.fees.max_lamports_per_transaction
            ));
        }
        found
    }
}

fn default_lease_ms() -> u64 {
    15_000
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4020))
}

fn default_database_url() -> SecretUrl {
    SecretUrl::from("sqlite://sluice-relayer.db")
}

pub(crate) fn address<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Address, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| serde::de::Error::custom(format!("{text:?} is not an address")))
}

/// One problem as `file: field: what`. Values of key sources are not repeated: somebody may have put a key.
fn line(error: &figment::Error, file: &str) -> String {
    let field = error.path.join(".");
    let from_env = error
        .metadata
        .as_ref()
        .is_some_and(|metadata| metadata.name.contains("environment"));
    let place = if from_env {
        format!("environment ({ENV_PREFIX}…)")
    } else {
        file.to_owned()
    };
    let secret = ["fee_payer", "guard.api_keys", "guard.screening.hook"]
        .iter()
        .any(|place| field.contains(place))
        || field.ends_with("_url");
    let what = match (&error.kind, secret) {
        (Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected), true) => {
            format!("expected {expected}")
        }
        (Kind::Message(_), true) => "not usable".to_owned(),
        (Kind::UnknownField(name, known), _) => {
            let known: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
            return format!(
                "{place}: unknown key `{}`: known here are {}",
                parent(&field, name),
                known.join(", ")
            );
        }
        (Kind::MissingField(name), _) => format!("`{name}` is missing"),
        (kind, _) => kind.to_string(),
    };
    if field.is_empty() {
        format!("{place}: {what}")
    } else {
        format!("{place}: {field}: {what}")
    }
}

/// An unknown key with the tables it stands in. The parser gives the path with or without the key.
fn parent(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else if path == key || path.ends_with(&format!(".{key}")) {
        path.to_owned()
    } else {
        format!("{path}.{key}")
    }
}
