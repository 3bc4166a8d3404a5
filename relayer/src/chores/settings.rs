//! What the operator says about chores: the tables `distribute`, `reclaim` and `onboard` of the configuration.

use std::time::Duration;

use serde::Deserialize;
use sluice_sdk::{Address, accounts::NONCE_IDLE_SECS};

use crate::ledger::onboardings::Quotas;

/// Transactions that may be built for a client, for each that it may have signed.
const BUILDS_EACH: u32 = 10;
/// No pause of a worker is shorter.
const LEAST_PAUSE_MS: u64 = 20;

/// Dividing what arrived in the vaults of the facilitator's services.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DistributeSettings {
    /// Whether it is done.
    pub enabled: bool,
    /// Atomic units at which a vault is divided at once.
    pub threshold: u64,
    /// Atomic units below which it is not divided, however old.
    pub least: u64,
    /// Milliseconds after which less than the threshold is divided.
    pub age_ms: u64,
    /// The same for money that the relayer itself has just settled into the vault.
    pub soon_ms: u64,
    /// Milliseconds between two looks at all vaults.
    pub scan_ms: u64,
    /// Seconds between two searches for services that the relayer has not heard of; 0 never searches.
    pub discover_secs: u64,
    /// Services that are known from the start.
    #[serde(deserialize_with = "addresses")]
    pub services: Vec<Address>,
    /// Most vaults in one transaction, where bytes and compute units allow more.
    pub max_vaults: usize,
    /// The most that all distributions may cost in a day.
    pub max_lamports_per_day: u64,
    /// The most that a distribution may cost, in basis points of what the facilitator earns by it, where the mint's price
    /// is known (`economics`).
    pub max_cost_bps: u64,
    /// What differs for a mint.
    pub mints: Vec<DistributeMint>,
}

/// What differs for a mint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistributeMint {
    /// The mint.
    #[serde(deserialize_with = "address")]
    pub mint: Address,
    /// See [`DistributeSettings::threshold`].
    #[serde(default)]
    pub threshold: Option<u64>,
    /// See [`DistributeSettings::least`].
    #[serde(default)]
    pub least: Option<u64>,
}

impl Default for DistributeSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            threshold: 1_000_000,
            least: 10_000,
            age_ms: 60_000,
            soon_ms: 2_000,
            scan_ms: 15_000,
            discover_secs: 600,
            services: Vec::new(),
            max_vaults: 16,
            max_lamports_per_day: 20_000_000,
            max_cost_bps: 10_000,
            mints: Vec::new(),
        }
    }
}

impl DistributeSettings {
    /// Atomic units of a mint at which a vault is divided at once.
    pub fn threshold(&self, mint: &Address) -> u64 {
        self.of(mint)
            .and_then(|of| of.threshold)
            .unwrap_or(self.threshold)
    }

    /// Atomic units of a mint below which a vault is not divided.
    pub fn least(&self, mint: &Address) -> u64 {
        self.of(mint).and_then(|of| of.least).unwrap_or(self.least)
    }

    fn of(&self, mint: &Address) -> Option<&DistributeMint> {
        self.mints.iter().find(|of| of.mint == *mint)
    }

    pub(crate) fn age(&self) -> Duration {
        Duration::from_millis(self.age_ms)
    }

    pub(crate) fn soon(&self) -> Duration {
        Duration::from_millis(self.soon_ms)
    }

    pub(crate) fn scan(&self) -> Duration {
        Duration::from_millis(self.scan_ms)
    }

    pub(crate) fn discover(&self) -> Option<Duration> {
        (self.discover_secs > 0).then(|| Duration::from_secs(self.discover_secs))
    }

    /// What is wrong with the values, a line each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if !(LEAST_PAUSE_MS..=3_600_000).contains(&self.scan_ms) {
            found.push("distribute.scan_ms: must be 20 to 3600000".to_owned());
        }
        if !(1..=64).contains(&self.max_vaults) {
            found.push("distribute.max_vaults: must be 1 to 64".to_owned());
        }
        if twice(self.mints.iter().map(|of| of.mint)) {
            found.push("distribute.mints: the same mint stands twice".to_owned());
        }
        found
    }
}

/// Closing idle nonce accounts whose rent the relayer's keys paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReclaimSettings {
    /// Whether it is done.
    pub enabled: bool,
    /// Seconds without a settlement after which an account is closed.
    pub idle_secs: i64,
    /// Milliseconds between two looks.
    pub scan_ms: u64,
}

impl Default for ReclaimSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            idle_secs: 3 * NONCE_IDLE_SECS,
            scan_ms: 3_600_000,
        }
    }
}

impl ReclaimSettings {
    pub(crate) fn scan(&self) -> Duration {
        Duration::from_millis(self.scan_ms)
    }

    /// What is wrong with the values, a line each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.idle_secs < NONCE_IDLE_SECS {
            found.push(format!(
                "reclaim.idle_secs: must be at least {NONCE_IDLE_SECS}: the program lets a sponsor close nothing sooner"
            ));
        }
        if !(LEAST_PAUSE_MS..=86_400_000).contains(&self.scan_ms) {
            found.push("reclaim.scan_ms: must be 20 to 86400000".to_owned());
        }
        found
    }
}

/// Opening nonce accounts for payers without SOL.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OnboardSettings {
    /// Whether it is done.
    pub enabled: bool,
    /// The most that may be spent in a day, rent and fees, in lamports.
    pub max_lamports_per_day: u64,
    /// The most rent that may be out at once, in lamports. What is reclaimed, or closed by its payer, is given back.
    pub max_lamports_outstanding: u64,
    /// Openings a day for one IP address.
    pub max_per_ip_per_day: u32,
    /// Openings a day for one payer, over all mints.
    pub max_per_payer_per_day: u32,
    /// Openings a day for one API key.
    pub max_per_api_key_per_day: u32,
    /// The mints that payers are sponsored in. None if none is named.
    pub mints: Vec<OnboardMint>,
}

/// A mint that payers are sponsored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnboardMint {
    /// The mint.
    #[serde(deserialize_with = "address")]
    pub mint: Address,
    /// Atomic units that a payer must hold.
    pub min_units: u64,
}

impl Default for OnboardSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            max_lamports_per_day: 100_000_000,
            max_lamports_outstanding: 1_000_000_000,
            max_per_ip_per_day: 3,
            max_per_payer_per_day: 2,
            max_per_api_key_per_day: 100,
            mints: Vec::new(),
        }
    }
}

impl OnboardSettings {
    /// What a payer must hold of a mint; `None` for a mint that nobody is sponsored in.
    pub fn min_units(&self, mint: &Address) -> Option<u64> {
        self.mints
            .iter()
            .find(|of| of.mint == *mint)
            .map(|of| of.min_units)
    }

    /// The bounds as the ledger keeps them.
    pub(crate) fn quotas(&self) -> Quotas {
        Quotas {
            lamports_per_day: self.max_lamports_per_day,
            lamports_outstanding: self.max_lamports_outstanding,
            per_client: self.max_per_ip_per_day,
            per_payer: self.max_per_payer_per_day,
            per_key: self.max_per_api_key_per_day,
            builds_per_client: self.max_per_ip_per_day.saturating_mul(BUILDS_EACH),
        }
    }

    /// What is wrong with the values, a line each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.enabled && self.mints.is_empty() {
            found.push(
                "onboard.mints: name a mint that payers are sponsored in, or set onboard.enabled to false"
                    .to_owned(),
            );
        }
        if self.mints.iter().any(|of| of.min_units == 0) {
            found.push(
                "onboard.mints: min_units must be above 0: a payer without money costs rent and pays nothing"
                    .to_owned(),
            );
        }
        if twice(self.mints.iter().map(|of| of.mint)) {
            found.push("onboard.mints: the same mint stands twice".to_owned());
        }
        found
    }
}

fn twice(mints: impl Iterator<Item = Address>) -> bool {
    let mut seen = std::collections::HashSet::new();
    let mut mints = mints;
    mints.any(|mint| !seen.insert(mint))
}

fn address<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Address, D::Error> {
    read(&String::deserialize(deserializer)?)
}

fn addresses<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Address>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| read(text)).collect()
}

fn read<E: serde::de::Error>(text: &str) -> Result<Address, E> {
    text.parse()
        .map_err(|_| E::custom(format!("{text:?} is not an address")))
}
