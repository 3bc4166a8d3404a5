//! The chain as planning and applying see it: read some accounts, send one transaction and know its fate.

use std::{
    collections::HashSet,
    fmt,
    time::{Duration, Instant},
};

use sluice_sdk::{
    Address, PROGRAM_ID, SYSTEM_PROGRAM, program_error,
    token::{ASSOCIATED_TOKEN_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM},
    transaction::{self, Budget, BuildError, Version},
};
use solana_commitment_config::CommitmentConfig;
use solana_instruction::{Instruction, error::InstructionError};
use solana_rpc_client::rpc_client::RpcClient;
use solana_rpc_client_api::{
    client_error::{Error as ClientError, ErrorKind},
    config::{
        RpcSendTransactionConfig, RpcSimulateTransactionAccountsConfig,
        RpcSimulateTransactionConfig,
    },
    request::{RpcError, RpcResponseErrorData},
};
use solana_signature::Signature;
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_error::TransactionError;
use solana_transaction_status_client_types::UiTransactionEncoding;

/// Compute units and bytes that a simulation may use. What is sent asks for what the simulation used.
const SIMULATION: Budget = Budget {
    compute_units: 1_400_000,
    unit_price: 0,
    loaded_bytes: 64 << 20,
};
/// Accounts that one `getMultipleAccounts` may ask for.
const ACCOUNTS_PER_CALL: usize = 100;
/// Between two looks at a transaction that was sent.
const POLL: Duration = Duration::from_millis(300);
/// Between two sendings of the same bytes.
const RESEND: Duration = Duration::from_secs(2);
/// A blockhash lives about a minute and finality takes a quarter of one; past this nobody can tell.
const GIVE_UP: Duration = Duration::from_secs(150);

/// The network demotes its own accounts to read-only by itself.
const NO_RESERVED: Option<&HashSet<Address>> = None;

/// An account as the chain gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountData {
    /// The program that owns it.
    pub owner: Address,
    /// Its balance.
    pub lamports: u64,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// What migrations need of a chain.
pub trait Chain {
    /// The cluster's genesis hash.
    fn genesis_hash(&self) -> Result<[u8; 32], ChainError>;

    /// Reads accounts, in the order asked; `None` for one that does not exist.
    fn get_accounts(&self, addresses: &[Address]) -> Result<Vec<Option<AccountData>>, ChainError>;

    /// Sends one transaction that `fee_payer` pays for, and returns once it has landed. `signers` must hold
    /// the fee payer and every other required signer.
    fn send(
        &self,
        fee_payer: &Address,
        instructions: &[Instruction],
        signers: &[&dyn Signer],
    ) -> Result<Signature, ChainError>;
}

/// Why the chain could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Nobody answered, or what answered is no RPC.
    #[error("no answer from the RPC at {url}: {cause}")]
    Unreachable {
        /// Where.
        url: String,
        /// What happened.
        cause: String,
    },
    /// The RPC answered with an error.
    #[error("the RPC refused {what}: {message}")]
    Rpc {
        /// What was asked.
        what: &'static str,
        /// Its answer.
        message: String,
    },
    /// The transaction would fail; nothing was sent.
    #[error("the transaction would fail: {0}")]
    Refused(Box<Failure>),
    /// The transaction landed and failed; only its fee was spent.
    #[error("the transaction {signature} failed on chain: {failure}")]
    Failed {
        /// The transaction.
        signature: Signature,
        /// Why.
        failure: Box<Failure>,
    },
    /// The transaction can no longer land; nothing was changed or spent.
    #[error("the transaction {signature} expired before the cluster took it; nothing has changed")]
    Expired {
        /// The transaction.
        signature: Signature,
    },
    /// The transaction was sent, and nobody can say yet whether it landed.
    #[error("the transaction {signature} was sent, and whether it landed is not known: {cause}")]
    Unknown {
        /// The transaction.
        signature: Signature,
        /// Why it is not known.
        cause: String,
    },
    /// The transaction could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl ChainError {
    /// What a person can do about it.
    pub fn mend(&self) -> String {
        match self {
            Self::Unreachable { url, .. } => {
                format!("check that {url} is a Solana RPC and is up, or name another with --url")
            }
            Self::Rpc { .. } => "try again, or name another RPC with --url".to_owned(),
            Self::Refused(failure) | Self::Failed { failure, .. } => failure.mend(),
            Self::Expired { .. } => "run the command again".to_owned(),
            Self::Unknown { signature, .. } => {
                format!("do not repeat it before you know: solana confirm -v {signature}")
            }
            Self::Build(_) => {
                "report it: the command builds a transaction that cannot exist".to_owned()
            }
        }
    }
}

/// Why a transaction fails, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The network's error.
    pub error: TransactionError,
    /// The program that failed, where one did.
    pub program: Option<Address>,
    /// The program's log.
    pub logs: Vec<String>,
}

impl Failure {
    fn custom(&self) -> Option<u32> {
        match self.error {
            TransactionError::InstructionError(_, InstructionError::Custom(code)) => Some(code),
            _ => None,
        }
    }

    /// The program that was running when it failed: the last one that the log says failed first.
    fn failing_program(&self) -> Option<Address> {
        let named = self.logs.iter().find_map(|line| {
            let rest = line.strip_prefix("Program ")?;
            let (program, outcome) = rest.split_once(' ')?;
            outcome
                .starts_with("failed")
                .then(|| program.parse().ok())
                .flatten()
        });
        named.or(self.program)
    }

    fn mend(&self) -> String {
        let text = match (&self.error, self.failing_program(), self.custom()) {
            (TransactionError::AccountNotFound, ..) => "the fee payer holds no SOL: send it some",
            (TransactionError::InsufficientFundsForFee, ..)
            | (TransactionError::InsufficientFundsForRent { .. }, ..) => {
                "send the fee payer more SOL"
            }
            (_, Some(SYSTEM_PROGRAM), Some(1)) => "send the account that pays rent more SOL",
            (_, Some(PROGRAM_ID), Some(3_007 | 3_012)) => {
                "an account that this needs does not exist yet: see `sluice config show`, `sluice mint list`"
            }
            (TransactionError::ProgramAccountNotFound, ..) => {
                "is Sluice deployed on this cluster? Check --url"
            }
            (_, Some(PROGRAM_ID), Some(6_121..=6_122)) => {
                "sign with the right key (--keypair); `sluice config show` names it"
            }
            _ => "nothing was changed: correct the cause and run the command again",
        };
        text.to_owned()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.failing_program();
        let Some(code) = self.custom() else {
            return match &self.error {
                TransactionError::AccountNotFound => {
                    f.write_str("the fee payer's account does not exist")
                }
                error => error.fmt(f),
            };
        };
        let known = match program {
            Some(PROGRAM_ID) => program_error::message(code).or(match code {
                2_001..=2_999 => Some("an account is not the one that the program expects"),
                3_007 | 3_012 => Some("an account of the program does not exist on this cluster"),
                _ => None,
            }),
            Some(SYSTEM_PROGRAM) if code == 1 => Some("too few lamports"),
            Some(TOKEN_PROGRAM | TOKEN_2022_PROGRAM) => match code {
                1 => Some("the token account holds too little"),
                3 => Some("the token account is of another mint"),
                4 => Some("the signer does not own the token account"),
                17 => Some("the token account is frozen"),
                _ => None,
            },
            _ => None,
        };
        let program = match program {
            Some(PROGRAM_ID) => "Sluice".to_owned(),
            Some(TOKEN_PROGRAM) => "the token program".to_owned(),
            Some(TOKEN_2022_PROGRAM) => "the Token-2022 program".to_owned(),
            Some(ASSOCIATED_TOKEN_PROGRAM) => "the associated token account program".to_owned(),
            Some(SYSTEM_PROGRAM) => "the system program".to_owned(),
            Some(other) => format!("program {other}"),
            None => "a program".to_owned(),
        };
        match known {
            Some(text) => write!(f, "{text} ({program}, error {code})"),
            None => write!(f, "{program}, error {code}"),
        }
    }
}

/// What a transaction would do, found out without sending it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Simulation {
    /// The network fee in lamports, 5,000 a signature.
    pub fee: u64,
    /// Compute units.
    pub units: u64,
    /// What it does to the lamports of every account that it writes.
    pub accounts: Vec<AccountEffect>,
    /// Why it would fail, if it would.
    pub failure: Option<Failure>,
    /// Programs' log.
    pub logs: Vec<String>,
}

/// An account before and after a simulated transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountEffect {
    /// Its address.
    pub address: Address,
    /// Lamports before; `None` if it does not exist yet.
    pub before: Option<u64>,
    /// Lamports after; `None` if it will not exist.
    pub after: Option<u64>,
    /// Bytes after.
    pub bytes: usize,
}

/// What a sender is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It simulates.
    Simulating,
    /// It was sent and is waited for.
    Confirming(Signature),
    /// Whatever it was, it is over.
    Done,
}

type OnProgress = Box<dyn Fn(Progress) + Send + Sync>;

/// A chain behind an RPC.
pub struct RpcChain {
    rpc: RpcClient,
    progress: Option<OnProgress>,
}

impl RpcChain {
    /// A chain behind `url`, read and confirmed at `commitment`.
    pub fn new(url: &str, commitment: CommitmentConfig) -> Self {
        Self::from_client(RpcClient::new_with_timeout_and_commitment(
            url,
            Duration::from_secs(20),
            commitment,
        ))
    }

    /// A chain behind a client that is there already.
    pub fn from_client(rpc: RpcClient) -> Self {
        Self {
            rpc,
            progress: None,
        }
    }

    /// Calls `on_progress` while a transaction is under way.
    #[must_use]
    pub fn with_progress(mut self, on_progress: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Box::new(on_progress));
        self
    }

    /// The client, for what [`Chain`] does not cover.
    pub fn rpc(&self) -> &RpcClient {
        &self.rpc
    }

    /// Where the RPC is, for people: without path, query and credentials, any of which may be a secret.
    pub fn place(&self) -> String {
        origin(&self.rpc.url())
    }

    /// Turns a client's error into one that says whether anybody answered.
    pub fn error(&self, what: &'static str, error: &ClientError) -> ChainError {
        let unreachable = |cause: String| ChainError::Unreachable {
            url: self.place(),
            // The client quotes the URL where the server answered with an error.
            cause: cause.replace(&self.rpc.url(), &self.place()),
        };
        match error.kind() {
            ErrorKind::RpcError(RpcError::RpcResponseError { data, message, .. }) => match data {
                RpcResponseErrorData::NodeUnhealthy { .. } => unreachable(message.clone()),
                _ => ChainError::Rpc {
                    what,
                    message: message.clone(),
                },
            },
            ErrorKind::Reqwest(error) => unreachable(root_cause(error)),
            other => unreachable(other.to_string()),
        }
    }

    fn report(&self, progress: Progress) {
        if let Some(on_progress) = &self.progress {
            on_progress(progress);
        }
    }

    /// What the transaction would do. Needs nobody's key.
    pub fn simulate(
        &self,
        fee_payer: &Address,
        instructions: &[Instruction],
    ) -> Result<Simulation, ChainError> {
        let message = transaction::compile(
            Version::V0,
            fee_payer,
            instructions,
            &SIMULATION,
            solana_hash::Hash::default(),
        )?;
        let keys = message.static_account_keys();
        let written: Vec<Address> = keys
            .iter()
            .enumerate()
            .filter(|(index, _)| {
                message.is_maybe_writable_with_reserved_addresses(*index, NO_RESERVED)
            })
            .map(|(_, key)| *key)
            .collect();
        let signatures = usize::from(message.header().num_required_signatures);
        let before = self.get_accounts(&written)?;
        let transaction = VersionedTransaction {
            signatures: vec![Signature::default(); signatures],
            message,
        };
        let config = RpcSimulateTransactionConfig {
            sig_verify: false,
            replace_recent_blockhash: true,
            commitment: Some(self.rpc.commitment()),
            encoding: Some(UiTransactionEncoding::Base64),
            accounts: Some(RpcSimulateTransactionAccountsConfig {
                encoding: None,
                addresses: written.iter().map(Address::to_string).collect(),
            }),
            ..RpcSimulateTransactionConfig::default()
        };
        let result = self
            .rpc
            .simulate_transaction_with_config(&transaction, config)
            .map_err(|error| self.error("to simulate the transaction", &error))?
            .value;
        let logs = result.logs.unwrap_or_default();
        let failure = result
            .err
            .map(|error| failure(error.into(), &transaction, logs.clone()));
        let after = result.accounts.unwrap_or_default();
        let accounts = written
            .iter()
            .zip(before)
            .enumerate()
            .map(|(index, (address, before))| {
                let after = after.get(index).and_then(Option::as_ref);
                let bytes = after.and_then(|account| account.space).unwrap_or_default();
                AccountEffect {
                    address: *address,
                    before: before.map(|account| account.lamports),
                    after: after
                        .map(|account| account.lamports)
                        .filter(|left| *left > 0),
                    bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
                }
            })
            .collect();
        Ok(Simulation {
            fee: result
                .fee
                .unwrap_or_else(|| 5_000 * u64::try_from(signatures).unwrap_or(u64::MAX / 5_000)),
            units: result.units_consumed.unwrap_or_default(),
            accounts,
            failure,
            logs,
        })
    }

    /// Sends the same bytes until they have landed or can no longer land.
    fn confirm(
        &self,
        transaction: &VersionedTransaction,
        last_valid: u64,
    ) -> Result<Signature, ChainError> {
        let Some(signature) = transaction.signatures.first().copied() else {
            return Err(BuildError::Serialize("it has no signature".to_owned()).into());
        };
        self.report(Progress::Confirming(signature));
        let config = RpcSendTransactionConfig {
            // It was simulated a moment ago, and a refusal here would have to be told from a refusal of a
            // copy that has landed already.
            skip_preflight: true,
            max_retries: Some(0),
            encoding: Some(UiTransactionEncoding::Base64),
            ..RpcSendTransactionConfig::default()
        };
        let start = Instant::now();
        let mut sent: Option<Instant> = None;
        let mut accepted = false;
        let mut trouble = None;
        loop {
            if sent.is_none_or(|at| at.elapsed() >= RESEND) {
                match self.rpc.send_transaction_with_config(transaction, config) {
                    Ok(_) => accepted = true,
                    Err(error) => {
                        let answered = matches!(
                            error.kind(),
                            ErrorKind::RpcError(RpcError::RpcResponseError { .. })
                        );
                        // Refused before anything was accepted: it went nowhere.
                        if answered && !accepted {
                            return Err(self.error("the transaction", &error));
                        }
                        trouble = Some(error.to_string());
                        accepted |= !answered;
                    }
                }
                sent = Some(Instant::now());
            }
            match self.rpc.get_signature_statuses(&[signature]) {
                Ok(answer) => {
                    if let Some(status) = answer.value.into_iter().flatten().next()
                        && status.satisfies_commitment(self.rpc.commitment())
                    {
                        return match status.err {
                            None => Ok(signature),
                            Some(error) => Err(ChainError::Failed {
                                signature,
                                failure: Box::new(failure(error, transaction, Vec::new())),
                            }),
                        };
                    }
                }
                Err(error) => trouble = Some(error.to_string()),
            }
            if self.is_dead(last_valid) && !self.is_known(&signature) {
                return Err(ChainError::Expired { signature });
            }
            if start.elapsed() > GIVE_UP {
                let cause = trouble.unwrap_or_else(|| "the cluster did not say in time".to_owned());
                return Err(ChainError::Unknown { signature, cause });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Whether a blockhash that was valid to `last_valid` is dead for good. An RPC error proves nothing.
    fn is_dead(&self, last_valid: u64) -> bool {
        self.rpc
            .get_block_height_with_commitment(CommitmentConfig::finalized())
            .is_ok_and(|height| height > last_valid)
    }

    fn is_known(&self, signature: &Signature) -> bool {
        match self.rpc.get_signature_statuses_with_history(&[*signature]) {
            Ok(answer) => answer.value.into_iter().flatten().next().is_some(),
            Err(_) => true,
        }
    }
}

impl Chain for RpcChain {
    fn genesis_hash(&self) -> Result<[u8; 32], ChainError> {
        self.rpc
            .get_genesis_hash()
            .map(|hash| hash.to_bytes())
            .map_err(|error| self.error("its genesis hash", &error))
    }

    fn get_accounts(&self, addresses: &[Address]) -> Result<Vec<Option<AccountData>>, ChainError> {
        let mut all = Vec::with_capacity(addresses.len());
        for part in addresses.chunks(ACCOUNTS_PER_CALL) {
            let accounts = self
                .rpc
                .get_multiple_accounts_with_commitment(part, self.rpc.commitment())
                .map_err(|error| self.error("accounts", &error))?
                .value;
            all.extend(accounts.into_iter().map(|account| {
                account.map(|account| AccountData {
                    owner: account.owner,
                    lamports: account.lamports,
                    data: account.data,
                })
            }));
        }
        Ok(all)
    }

    fn send(
        &self,
        fee_payer: &Address,
        instructions: &[Instruction],
        signers: &[&dyn Signer],
    ) -> Result<Signature, ChainError> {
        self.report(Progress::Simulating);
        let result = self.send_inner(fee_payer, instructions, signers);
        self.report(Progress::Done);
        result
    }
}

impl RpcChain {
    fn send_inner(
        &self,
        fee_payer: &Address,
        instructions: &[Instruction],
        signers: &[&dyn Signer],
    ) -> Result<Signature, ChainError> {
        let simulation = self.simulate(fee_payer, instructions)?;
        if let Some(failure) = simulation.failure {
            return Err(ChainError::Refused(Box::new(failure)));
        }
        // A little more than measured: derived addresses cost more or less by the slot they are derived in.
        let units = simulation.units + simulation.units / 5 + 5_000;
        let budget = Budget {
            compute_units: u32::try_from(units)
                .unwrap_or(u32::MAX)
                .min(SIMULATION.compute_units),
            ..SIMULATION
        };
        let (blockhash, last_valid) = self
            .rpc
            .get_latest_blockhash_with_commitment(self.rpc.commitment())
            .map_err(|error| self.error("a blockhash", &error))?;
        let signers: Vec<&dyn Signer> = signers.to_vec();
        let transaction = transaction::build(
            Version::V0,
            fee_payer,
            instructions,
            &budget,
            blockhash,
            &signers,
        )?;
        self.confirm(&transaction, last_valid)
    }
}

fn failure(
    error: TransactionError,
    transaction: &VersionedTransaction,
    logs: Vec<String>,
) -> Failure {
    let program = match error {
        TransactionError::InstructionError(index, _) => transaction
            .message
            .instructions()
            .get(usize::from(index))
            .and_then(|instruction| {
                let keys = transaction.message.static_account_keys();
                keys.get(usize::from(instruction.program_id_index)).copied()
            }),
        _ => None,
    };
    Failure {
        error,
        program,
        logs,
    }
}

/// The innermost message: "connection refused" says more than "error sending request".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

fn origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rpc_is_named_without_its_secrets() {
        assert_eq!(
            origin("https://me:pw@rpc.example.com:8899/v2/KEY?api-key=KEY"),
            "https://rpc.example.com:8899"
        );
        assert_eq!(origin("http://localhost:8899"), "http://localhost:8899");
        assert_eq!(
            origin("https://rpc.example.com?KEY"),
            "https://rpc.example.com"
        );
    }
}
