//! Numbered, idempotent steps that set a cluster up for Sluice: config, mints, facilitators, services.
//!
//! A TOML file says what should be ([`File`], documented in `migrations/example.toml`). [`plan`] reads the
//! chain and gives what is missing, as changes that a person can review; [`apply`] sends them and plans once
//! more to prove that nothing is left. Nothing is recorded anywhere but on the chain, so a step that was
//! interrupted is simply found half done the next time.
//!
//! What the chain holds differently, and no instruction can repair, is a [`Drift`]: it names both values and
//! stops [`apply`] before it sends anything.

pub mod chain;
pub mod file;

mod config;
mod facilitators;
mod mints;
mod services;
#[cfg(test)]
mod tests;
mod tokens;

use std::fmt;

use sluice_sdk::{Address, DecodeError, accounts::SluiceAccount};
use solana_instruction::Instruction;
use solana_signature::Signature;
use solana_signer::Signer;

pub use chain::{Chain, ChainError, RpcChain};
pub use file::{File, FileError};

/// A step, in the order in which they are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The config of the deployment.
    Config,
    /// The mints that services may be paid in.
    Mints,
    /// The facilitators.
    Facilitators,
    /// The services.
    Services,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 4] = [
        Self::Config,
        Self::Mints,
        Self::Facilitators,
        Self::Services,
    ];

    /// Its number and name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "001_config",
            Self::Mints => "002_mints",
            Self::Facilitators => "003_facilitators",
            Self::Services => "004_services",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One field that a change touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name, as in the file.
    pub name: String,
    /// What the chain holds; `None` where nothing is there yet.
    pub before: Option<String>,
    /// What it will hold.
    pub after: String,
}

/// One transaction of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The step that asks for it.
    pub step: Step,
    /// What it does, for a person.
    pub description: String,
    /// The account that it is about.
    pub address: Address,
    /// The fields, before and after.
    pub fields: Vec<Field>,
    /// The instructions, all or none of which take effect.
    pub instructions: Vec<Instruction>,
    /// Pays for the transaction, and for rent.
    pub fee_payer: Address,
}

impl Change {
    /// Every key that must sign, the fee payer first.
    pub fn signers(&self) -> Vec<Address> {
        let mut keys = vec![self.fee_payer];
        for meta in self.instructions.iter().flat_map(|one| &one.accounts) {
            if meta.is_signer && !keys.contains(&meta.pubkey) {
                keys.push(meta.pubkey);
            }
        }
        keys
    }
}

/// Something that the chain holds otherwise than the file, and that no instruction can repair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The step that found it.
    pub step: Step,
    /// What it is about, for a person.
    pub subject: String,
    /// The account.
    pub address: Address,
    /// The field.
    pub field: String,
    /// What the chain holds.
    pub chain: String,
    /// What the file says.
    pub file: String,
    /// What a person can do.
    pub mend: &'static str,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}: the chain has {}, the file says {}",
            self.subject, self.field, self.chain, self.file
        )
    }
}

/// What is missing between a file and a chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What would be sent, in order.
    pub changes: Vec<Change>,
    /// What cannot be repaired.
    pub drift: Vec<Drift>,
    /// What is worth knowing, and needs nothing.
    pub notes: Vec<String>,
}

impl Plan {
    /// Whether the chain is as the file says.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.drift.is_empty()
    }

    /// Every key that must sign, each once.
    pub fn signers(&self) -> Vec<Address> {
        let mut keys = Vec::new();
        for key in self.changes.iter().flat_map(Change::signers) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }
}

/// Why a plan could not be made or applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The chain could not be read or changed.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// An account could not be read.
    #[error("{address}: {error}")]
    Decode {
        /// The account.
        address: Address,
        /// Why.
        error: DecodeError,
    },
    /// The program is not on this cluster.
    #[error("the Sluice program {0} is not deployed on this cluster")]
    NotDeployed(Address),
    /// Something the file relies on does not exist.
    #[error(
        "{what} {address} does not exist on this cluster, or is of a kind that is not accepted"
    )]
    Missing {
        /// What it should be.
        what: &'static str,
        /// Its address.
        address: Address,
    },
    /// The chain holds something that no instruction can repair.
    #[error("{} that cannot be repaired; the first: {}", count(.0.len(), "difference", "differences"), first(.0))]
    Drift(Vec<Drift>),
    /// A key that must sign is not there.
    #[error("the key of {address} must sign to {purpose}, and no keypair of it was given")]
    SignerMissing {
        /// The key.
        address: Address,
        /// The change it is needed for.
        purpose: String,
    },
    /// A change went wrong; those before it have landed.
    #[error("{step}: to {description}: {error}")]
    Send {
        /// Its step.
        step: Step,
        /// What it should have done.
        description: String,
        /// How many changes landed before it.
        landed: usize,
        /// What happened.
        error: ChainError,
    },
    /// Everything was sent, and something is still missing.
    #[error("everything was sent, but {} still missing; the first: {first}", count(*.left, "change is", "changes are"))]
    Incomplete {
        /// How many changes.
        left: usize,
        /// The first one's description.
        first: String,
    },
}

impl Error {
    /// What a person can do about it.
    pub fn mend(&self) -> String {
        match self {
            Self::Chain(error) => error.mend(),
            Self::Send { error, .. } => format!(
                "{}; what landed before stays, and applying again continues from there",
                error.mend()
            ),
            Self::Decode { .. } => "upgrade this tool, or check the address".to_owned(),
            Self::NotDeployed(_) => "deploy the program first, or check --url".to_owned(),
            Self::Missing { .. } => {
                "check the address in the file and the cluster (--url)".to_owned()
            }
            Self::Drift(drift) => drift
                .first()
                .map(|one| one.mend.to_owned())
                .unwrap_or_default(),
            Self::SignerMissing { .. } => {
                "name its file in the TOML (keypair = \"…\") or pass it with --keypair".to_owned()
            }
            Self::Incomplete { .. } => {
                "somebody may be changing the same accounts: plan again and look".to_owned()
            }
        }
    }
}

/// What a step writes its findings to.
struct Planner<'a, C: ?Sized> {
    chain: &'a C,
    file: &'a File,
    plan: Plan,
}

impl<C: Chain + ?Sized> Planner<'_, C> {
    /// Reads one of the program's accounts; `None` if nothing is there.
    fn read<T: SluiceAccount>(&self, address: &Address) -> Result<Option<T>, Error> {
        let account = self.chain.get_accounts(&[*address])?.into_iter().next();
        let Some(account) = account.flatten() else {
            return Ok(None);
        };
        // Lamports that a stranger sent beforehand do not hinder the program from creating the account.
        if account.owner == sluice_sdk::SYSTEM_PROGRAM && account.data.is_empty() {
            return Ok(None);
        }
        T::decode(&account.owner, &account.data)
            .map(Some)
            .map_err(|error| Error::Decode {
                address: *address,
                error,
            })
    }
}

/// Compares the file with the chain. Reads only.
pub fn plan<C: Chain + ?Sized>(chain: &C, file: &File) -> Result<Plan, Error> {
    let mut planner = Planner {
        chain,
        file,
        plan: Plan::default(),
    };
    for step in Step::ALL {
        match step {
            Step::Config => config::plan(&mut planner)?,
            Step::Mints => mints::plan(&mut planner)?,
            Step::Facilitators => facilitators::plan(&mut planner)?,
            Step::Services => services::plan(&mut planner)?,
        }
    }
    Ok(planner.plan)
}

/// A change that has landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What it did.
    pub change: Change,
    /// Its transaction.
    pub signature: Signature,
}

/// Sends what `plan` shows, in order, and plans once more: returns only when nothing is left.
///
/// All signers are looked for before anything is sent. `on_applied` is called after each change.
pub fn apply<C: Chain + ?Sized>(
    chain: &C,
    file: &File,
    plan: &Plan,
    signers: &[&dyn Signer],
    mut on_applied: impl FnMut(&Applied),
) -> Result<Vec<Applied>, Error> {
    if !plan.drift.is_empty() {
        return Err(Error::Drift(plan.drift.clone()));
    }
    let find = |key: &Address| {
        signers
            .iter()
            .find(|signer| signer.pubkey() == *key)
            .copied()
    };
    for change in &plan.changes {
        if let Some(address) = change.signers().into_iter().find(|key| find(key).is_none()) {
            let purpose = change.description.clone();
            return Err(Error::SignerMissing { address, purpose });
        }
    }
    let mut all = Vec::with_capacity(plan.changes.len());
    for change in &plan.changes {
        let keys: Vec<&dyn Signer> = change.signers().iter().filter_map(find).collect();
        let signature = chain
            .send(&change.fee_payer, &change.instructions, &keys)
            .map_err(|error| Error::Send {
                step: change.step,
                description: change.description.clone(),
                landed: all.len(),
                error,
            })?;
        let applied = Applied {
            change: change.clone(),
            signature,
        };
        on_applied(&applied);
        all.push(applied);
    }
    let left = self::plan(chain, file)?;
    if !left.drift.is_empty() {
        return Err(Error::Drift(left.drift));
    }
    match left.changes.first() {
        None => Ok(all),
        Some(first) => Err(Error::Incomplete {
            left: left.changes.len(),
            first: first.description.clone(),
        }),
    }
}

/// Collects the fields of a change or a drift by comparison.
#[derive(Default)]
struct Fields(Vec<Field>);

impl Fields {
    /// A field of something new.
    fn fresh(&mut self, name: &str, after: impl ToString) {
        self.0.push(Field {
            name: name.to_owned(),
            before: None,
            after: after.to_string(),
        });
    }

    /// A field that may differ; tells whether it does.
    fn compare<T: PartialEq + ToString>(&mut self, name: &str, before: T, after: T) -> bool {
        let differs = before != after;
        if differs {
            self.0.push(Field {
                name: name.to_owned(),
                before: Some(before.to_string()),
                after: after.to_string(),
            });
        }
        differs
    }

    /// What differs, as drift.
    fn into_drift(
        self,
        step: Step,
        subject: &str,
        address: Address,
        mend: &'static str,
    ) -> Vec<Drift> {
        let drift = |field: Field| Drift {
            step,
            subject: subject.to_owned(),
            address,
            field: field.name,
            chain: field.before.unwrap_or_else(|| "nothing".to_owned()),
            file: field.after,
            mend,
        };
        self.0.into_iter().map(drift).collect()
    }
}

fn key(bytes: [u8; 32]) -> Address {
    Address::new_from_array(bytes)
}

/// An address, or "nobody" for zero.
fn somebody(address: Address) -> String {
    if address == Address::default() {
        "nobody".to_owned()
    } else {
        address.to_string()
    }
}

/// Atomic units, or "unlimited".
fn limit(units: u64) -> String {
    if units == u64::MAX {
        "unlimited".to_owned()
    } else {
        format!("{units} units")
    }
}

fn bps(value: u16) -> String {
    format!("{value} bps")
}

fn list(addresses: &[Address]) -> String {
    let words: Vec<String> = addresses.iter().map(Address::to_string).collect();
    words.join(", ")
}

fn first(drift: &[Drift]) -> String {
    drift.first().map(Drift::to_string).unwrap_or_default()
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
