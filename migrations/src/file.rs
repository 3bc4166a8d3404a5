//! The TOML file: what a cluster should hold. Unknown keys are errors, so that a typing mistake cannot pass
//! for "leave it as it is".

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, de::Error as _};
use sluice_intent::{
    BPS, MAX_FACILITATOR_BPS, MAX_INTENT_TTL_SECS, MAX_RECIPIENTS, MAX_RELAYERS, MAX_TREASURY_BPS,
};
use sluice_sdk::{Address, address};
use solana_keypair::{Keypair, read_keypair_file};
use solana_signer::Signer;

/// A file of migrations.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// 001: the config.
    pub config: Config,
    /// 002: the mints.
    #[serde(default, rename = "mint")]
    pub mints: Vec<Mint>,
    /// 003: the facilitators.
    #[serde(default, rename = "facilitator")]
    pub facilitators: Vec<Facilitator>,
    /// 004: the services.
    #[serde(default, rename = "service")]
    pub services: Vec<Service>,
    /// Where relative paths start; set by [`File::load`].
    #[serde(skip)]
    pub folder: PathBuf,
}

/// The config of the deployment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The admin.
    #[serde(deserialize_with = "address_text")]
    pub admin: Address,
    /// The admin's keypair file.
    pub keypair: Option<PathBuf>,
    /// The keypair file of the program's upgrade authority, where that is not the admin. Signs once, when the
    /// config is created.
    pub upgrade_authority_keypair: Option<PathBuf>,
    /// May pause; nobody when it is missing.
    #[serde(default, deserialize_with = "optional_address_text")]
    pub guardian: Option<Address>,
    /// The treasury's wallet.
    #[serde(deserialize_with = "address_text")]
    pub treasury: Address,
    /// The treasury's share, in basis points.
    pub treasury_bps: u16,
    /// Most that a service may grant its facilitator, in basis points.
    pub max_facilitator_bps: u16,
    /// Most seconds between landing and an intent's expiry.
    pub max_intent_ttl: u32,
}

/// A mint that services may be paid in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mint {
    /// The mint.
    #[serde(deserialize_with = "address_text")]
    pub address: Address,
    /// Least atomic units a payment; 1 when it is missing.
    #[serde(default = "one")]
    pub min: u64,
    /// Most atomic units a payment; unlimited when it is missing.
    #[serde(default = "unlimited")]
    pub max: u64,
    /// Whether payments are taken; yes when it is missing.
    #[serde(default = "yes")]
    pub settle: bool,
    /// Numbers of the Token-2022 extensions that it may carry; none when it is missing.
    #[serde(default)]
    pub extensions: Vec<u8>,
}

impl Mint {
    /// The extensions as the program takes them.
    pub fn extension_set(&self) -> u64 {
        let bits = self.extensions.iter();
        bits.fold(0, |set, kind| {
            set | 1u64.checked_shl((*kind).into()).unwrap_or(0)
        })
    }
}

/// A facilitator.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facilitator {
    /// What services in this file call it.
    pub name: String,
    /// Registers it, and may change it. Its address decides the facilitator account's.
    #[serde(deserialize_with = "address_text")]
    pub authority: Address,
    /// The authority's keypair file.
    pub keypair: Option<PathBuf>,
    /// Owns the token accounts that its fees go to.
    #[serde(deserialize_with = "address_text")]
    pub wallet: Address,
    /// 1 to 8 keys that pay for and sign settlements.
    #[serde(deserialize_with = "addresses_text")]
    pub relayers: Vec<Address>,
    /// Least proportional share that a service must grant, in basis points.
    #[serde(default)]
    pub min_fee_bps: u16,
    /// Least fixed share of each payment, in atomic units.
    #[serde(default)]
    pub min_fee_fixed: u64,
}

impl Facilitator {
    /// The facilitator account.
    pub fn address(&self) -> Address {
        address::facilitator(&self.authority).0
    }
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Tells the creator's services apart.
    pub id: u64,
    /// Creates it, and may change it. With the id its address decides the service's.
    #[serde(deserialize_with = "address_text")]
    pub creator: Address,
    /// The creator's keypair file.
    pub keypair: Option<PathBuf>,
    /// The mint it is paid in.
    #[serde(deserialize_with = "address_text")]
    pub mint: Address,
    /// A facilitator's name in this file, or the address of a facilitator account.
    pub facilitator: String,
    /// The facilitator's proportional share, in basis points.
    #[serde(default)]
    pub facilitator_bps: u16,
    /// The facilitator's fixed share of each payment, in atomic units.
    #[serde(default)]
    pub facilitator_fixed: u64,
    /// Least atomic units a payment; 1 when it is missing.
    #[serde(default = "one")]
    pub min_payment: u64,
    /// 1 to 8 recipients, whose shares add up to 10,000.
    pub recipients: Vec<Recipient>,
}

impl Service {
    /// The service account.
    pub fn address(&self) -> Address {
        address::service(&self.creator, self.id).0
    }
}

/// A recipient of a service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    /// The wallet.
    #[serde(deserialize_with = "address_text")]
    pub owner: Address,
    /// Share of what treasury and facilitator leave, in basis points.
    pub bps: u16,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not the TOML that was expected.
    #[error("{path}: {error}")]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: Box<toml::de::Error>,
    },
    /// What it says cannot be.
    #[error("{subject}: {problem}")]
    Invalid {
        /// What is wrong.
        subject: String,
        /// How.
        problem: String,
    },
    /// A keypair file cannot be read.
    #[error("keypair {path} of {address}: {problem}")]
    Keypair {
        /// The file.
        path: PathBuf,
        /// Whose it should be.
        address: String,
        /// Why.
        problem: String,
    },
}

impl FileError {
    /// What a person can do about it.
    pub fn mend(&self) -> &'static str {
        match self {
            Self::Read { .. } => "check the path given with --file",
            Self::Toml { .. } => "migrations/example.toml shows every key",
            Self::Invalid { .. } => "correct the file; migrations/example.toml shows every key",
            Self::Keypair { .. } => {
                "paths are relative to the TOML file; `sluice keygen -o FILE` makes a new key"
            }
        }
    }
}

impl File {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path).map_err(|error| FileError::Read {
            path: path.to_owned(),
            error,
        })?;
        let mut file = Self::parse(&text).map_err(|error| match error {
            FileError::Toml { error, .. } => FileError::Toml {
                path: path.to_owned(),
                error,
            },
            other => other,
        })?;
        file.folder = path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(file)
    }

    /// Reads and checks the text of a file.
    pub fn parse(text: &str) -> Result<Self, FileError> {
        let file: Self = toml::from_str(text).map_err(|error| FileError::Toml {
            path: PathBuf::from("the file"),
            error: Box::new(error),
        })?;
        file.check()?;
        Ok(file)
    }

    /// The facilitator account that a service names.
    pub fn facilitator_of(&self, service: &Service) -> Result<Address, FileError> {
        let named = self
            .facilitators
            .iter()
            .find(|one| one.name == service.facilitator)
            .map(Facilitator::address);
        named
            .or_else(|| service.facilitator.parse().ok())
            .ok_or_else(|| {
                let problem = format!(
                    "facilitator {:?} is neither the name of a [[facilitator]] in this file nor an address",
                    service.facilitator
                );
                invalid(format!("service {}", service.id), problem)
            })
    }

    /// Loads the keypair files that the file names, each once, and checks whose they are.
    pub fn load_signers(&self) -> Result<Vec<Keypair>, FileError> {
        let mut signers: Vec<Keypair> = Vec::new();
        let config = &self.config;
        let mut named = vec![
            (&config.keypair, Some(config.admin)),
            (&config.upgrade_authority_keypair, None),
        ];
        named.extend(
            self.facilitators
                .iter()
                .map(|one| (&one.keypair, Some(one.authority))),
        );
        named.extend(
            self.services
                .iter()
                .map(|one| (&one.keypair, Some(one.creator))),
        );
        for (path, expected) in named {
            let Some(path) = path else { continue };
            let path = self.folder.join(path);
            let fail = |problem: String| FileError::Keypair {
                path: path.clone(),
                address: expected.map_or_else(
                    || "the upgrade authority".to_owned(),
                    |address| address.to_string(),
                ),
                problem,
            };
            let keypair = read_keypair_file(&path).map_err(|error| fail(error.to_string()))?;
            let address = keypair.pubkey();
            if expected.is_some_and(|expected| expected != address) {
                return Err(fail(format!("it is the key of {address}")));
            }
            if signers.iter().all(|one| one.pubkey() != address) {
                signers.push(keypair);
            }
        }
        Ok(signers)
    }

    /// What the program would refuse anyhow is found here, where the file's line is near.
    fn check(&self) -> Result<(), FileError> {
        let config = &self.config;
        let cap = |name: &str, value: u32, most: u32| {
            let problem = format!("{name} is {value}, over the cap in the program, {most}");
            if value > most {
                Err(invalid("[config]", problem))
            } else {
                Ok(())
            }
        };
        cap(
            "treasury_bps",
            config.treasury_bps.into(),
            MAX_TREASURY_BPS.into(),
        )?;
        cap(
            "max_facilitator_bps",
            config.max_facilitator_bps.into(),
            MAX_FACILITATOR_BPS.into(),
        )?;
        cap("max_intent_ttl", config.max_intent_ttl, MAX_INTENT_TTL_SECS)?;
        if config.max_intent_ttl == 0 {
            return Err(invalid(
                "[config]",
                "max_intent_ttl is 0: nothing could ever settle",
            ));
        }
        for (index, mint) in self.mints.iter().enumerate() {
            let subject = || format!("mint {}", mint.address);
            if self
                .mints
                .iter()
                .take(index)
                .any(|one| one.address == mint.address)
            {
                return Err(invalid(subject(), "it stands twice"));
            }
            if mint.min > mint.max {
                return Err(invalid(subject(), "min is above max"));
            }
        }
        for (index, one) in self.facilitators.iter().enumerate() {
            let subject = || format!("facilitator {:?}", one.name);
            let earlier = || self.facilitators.iter().take(index);
            if earlier().any(|other| other.name == one.name || other.authority == one.authority) {
                return Err(invalid(subject(), "its name or its authority stands twice"));
            }
            let count = one.relayers.len();
            if count == 0 || count > MAX_RELAYERS {
                return Err(invalid(
                    subject(),
                    format!("{count} relayers; 1 to {MAX_RELAYERS} are allowed"),
                ));
            }
            let twice = |(at, key): (usize, &Address)| one.relayers[..at].contains(key);
            if one.relayers.iter().enumerate().any(twice) {
                return Err(invalid(subject(), "the same relayer stands twice"));
            }
            if one.relayers.contains(&one.authority) {
                let problem = "its authority cannot be a relayer: relayer keys live on servers";
                return Err(invalid(subject(), problem));
            }
        }
        for (index, service) in self.services.iter().enumerate() {
            let subject = || format!("service {}", service.id);
            let same = |one: &Service| one.id == service.id && one.creator == service.creator;
            if self.services.iter().take(index).any(same) {
                return Err(invalid(subject(), "its creator and id stand twice"));
            }
            let rows = &service.recipients;
            if rows.is_empty() || rows.len() > MAX_RECIPIENTS {
                let problem = format!(
                    "{} recipients; 1 to {MAX_RECIPIENTS} are allowed",
                    rows.len()
                );
                return Err(invalid(subject(), problem));
            }
            let sum: u64 = rows.iter().map(|row| u64::from(row.bps)).sum();
            if sum != BPS || rows.iter().any(|row| row.bps == 0) {
                let problem =
                    format!("the recipients' bps add up to {sum} instead of {BPS}, or one is 0");
                return Err(invalid(subject(), problem));
            }
            self.facilitator_of(service)?;
        }
        Ok(())
    }
}

fn invalid(subject: impl ToString, problem: impl ToString) -> FileError {
    FileError::Invalid {
        subject: subject.to_string(),
        problem: problem.to_string(),
    }
}

fn one() -> u64 {
    1
}
fn unlimited() -> u64 {
    u64::MAX
}
fn yes() -> bool {
    true
}

fn parse_address<E: serde::de::Error>(text: &str) -> Result<Address, E> {
    text.parse()
        .map_err(|_| E::custom(format!("{text:?} is not an address")))
}

fn address_text<'de, D: Deserializer<'de>>(from: D) -> Result<Address, D::Error> {
    parse_address(&String::deserialize(from)?)
}

fn optional_address_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Address>, D::Error> {
    address_text(from).map(Some)
}

fn addresses_text<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Address>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    if texts.is_empty() {
        return Err(D::Error::custom("at least one address is needed"));
    }
    texts.iter().map(|text| parse_address(text)).collect()
}
