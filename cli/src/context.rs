//! What every command works with: the settings, the chain behind the RPC, and keys.

use std::{
    io::{IsTerminal, Write},
    path::Path,
    str::FromStr,
};

use sluice_migrations::{
    Chain, ChainError, RpcChain,
    chain::{AccountData, Progress},
};
use sluice_sdk::{
    Address, DEVNET_USDC, PROGRAM_ID,
    accounts::{AcceptedMint, Config, Facilitator, SluiceAccount},
    address, token,
};
use solana_cli_config::{CONFIG_FILE, Config as SolanaConfig, ConfigInput};
use solana_commitment_config::CommitmentConfig;
use solana_keypair::{Keypair, read_keypair};
use solana_rpc_client_api::{
    config::{RpcAccountInfoConfig, RpcProgramAccountsConfig, UiAccountEncoding},
    filter::{Memcmp, RpcFilterType},
};
use solana_signer::Signer;

use crate::{amount::Unit, args::Globals, errors::CliError, output::Output};

/// The mints whose names everybody knows.
const SYMBOLS: [(Address, &str); 3] = [
    (DEVNET_USDC, "USDC"),
    (
        Address::from_str_const("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"),
        "USDC",
    ),
    (
        Address::from_str_const("Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB"),
        "USDT",
    ),
];

/// Where things are, after flags, environment, file and defaults were weighed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The RPC.
    pub url: String,
    /// The keypair file of the signer.
    pub keypair: String,
    /// How settled a state must be before it counts.
    pub commitment: CommitmentConfig,
}

impl Settings {
    /// A flag wins over the environment (clap sees to that), both over the Solana CLI's file, and that over
    /// the Solana CLI's defaults.
    pub fn resolve(globals: &Globals) -> Result<Self, CliError> {
        let file = match (&globals.config, CONFIG_FILE.as_ref()) {
            (Some(path), _) => Some(load_config(path)?),
            (None, Some(path)) if Path::new(path).exists() => Some(load_config(path)?),
            _ => None,
        };
        let setting = |read: fn(&SolanaConfig) -> &String| {
            file.as_ref().map(read).cloned().unwrap_or_default()
        };
        let flag = |value: &Option<String>| value.clone().unwrap_or_default();
        let (_, url) = ConfigInput::compute_json_rpc_url_setting(
            &flag(&globals.url),
            &setting(|file| &file.json_rpc_url),
        );
        let (_, keypair) = ConfigInput::compute_keypair_path_setting(
            &flag(&globals.keypair),
            &setting(|file| &file.keypair_path),
        );
        let commitment = match &globals.commitment {
            Some(level) => level.config(),
            None => CommitmentConfig::from_str(&setting(|file| &file.commitment))
                .unwrap_or_else(|_| CommitmentConfig::confirmed()),
        };
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(CliError::usage(
                format!("{url:?} is not the URL of an RPC"),
                "give --url as http(s)://… or one of localhost, devnet, testnet, mainnet-beta",
            ));
        }
        Ok(Self {
            url,
            keypair,
            commitment,
        })
    }
}

fn load_config(path: &str) -> Result<SolanaConfig, CliError> {
    SolanaConfig::load(path).map_err(|error| {
        CliError::error(
            format!("the Solana CLI config {path} cannot be read: {error}"),
            "correct it with `solana config set`, or name another with --config",
        )
    })
}

/// A mint as the command line needs it.
#[derive(Clone, Debug)]
pub struct MintInfo {
    /// Its address.
    pub address: Address,
    /// The program that owns it and its accounts.
    pub token_program: Address,
    /// How its amounts are written.
    pub unit: Unit,
}

/// The wallets behind the first two legs of a payment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Payees {
    /// The treasury's.
    pub treasury: Option<Address>,
    /// The facilitator's.
    pub facilitator: Option<Address>,
}

impl Payees {
    /// The treasury's wallet as text.
    pub fn treasury_text(&self) -> String {
        self.treasury
            .map_or_else(String::new, |wallet| wallet.to_string())
    }

    /// The facilitator's wallet as text, or its account.
    pub fn facilitator_text(&self, account: &str) -> String {
        self.facilitator
            .map_or_else(|| format!("account {account}"), |wallet| wallet.to_string())
    }
}

/// What every command works with.
pub struct Context {
    /// Where things are.
    pub settings: Settings,
    /// What is printed.
    pub output: Output,
    /// Ask nothing.
    pub yes: bool,
    /// Change nothing.
    pub dry_run: bool,
    /// The chain.
    pub chain: RpcChain,
}

impl Context {
    /// Resolves the settings. Connects to nothing yet.
    pub fn new(globals: &Globals) -> Result<Self, CliError> {
        let settings = Settings::resolve(globals)?;
        let output = Output::new(globals.output);
        let mut chain = RpcChain::new(&settings.url, settings.commitment);
        if std::io::stderr().is_terminal() && !output.is_json() {
            chain = chain.with_progress(show_progress);
        }
        Ok(Self {
            settings,
            output,
            yes: globals.yes,
            dry_run: globals.dry_run,
            chain,
        })
    }

    /// The signer that --keypair, the environment or the Solana CLI's file names.
    pub fn signer(&self) -> Result<Keypair, CliError> {
        load_keypair(&self.settings.keypair)
    }

    /// The address asked for, or the signer's.
    pub fn address_or_signer(&self, asked: Option<Address>) -> Result<Address, CliError> {
        match asked {
            Some(address) => Ok(address),
            None => Ok(self.signer()?.pubkey()),
        }
    }

    /// Reads an account; `None` if it does not exist.
    pub fn account(&self, address: &Address) -> Result<Option<AccountData>, CliError> {
        let accounts = self.chain.get_accounts(&[*address])?;
        Ok(accounts.into_iter().flatten().next())
    }

    /// Reads one of the program's accounts; `None` if it does not exist.
    pub fn find<T: SluiceAccount>(&self, address: &Address) -> Result<Option<T>, CliError> {
        let Some(account) = self.account(address)? else {
            return Ok(None);
        };
        // Lamports that a stranger sent beforehand are not yet an account of the program.
        if account.owner == sluice_sdk::SYSTEM_PROGRAM && account.data.is_empty() {
            return Ok(None);
        }
        Ok(Some(T::decode(&account.owner, &account.data)?))
    }

    /// The config, which must exist.
    pub fn config(&self) -> Result<Config, CliError> {
        self.find::<Config>(&address::config().0)?.ok_or_else(|| {
            CliError::error(
                format!("Sluice has no config on {}", self.chain.place()),
                "create it with `sluice config init`, or check --url",
            )
        })
    }

    /// The wallets that treasury and facilitator are paid to: the terms name the facilitator's account only, and
    /// the treasury not at all. What cannot be read is left out, because the money does not depend on it.
    pub fn payees(&self, facilitator: &Address) -> Payees {
        let found = self
            .chain
            .get_accounts(&[address::config().0, *facilitator])
            .unwrap_or_default();
        let wallet = |index: usize| found.get(index).and_then(Option::as_ref);
        let treasury = wallet(0).and_then(|one| Config::decode(&one.owner, &one.data).ok());
        let facilitator = wallet(1).and_then(|one| Facilitator::decode(&one.owner, &one.data).ok());
        Payees {
            treasury: treasury.map(|one| Address::new_from_array(one.treasury)),
            facilitator: facilitator.map(|one| Address::new_from_array(one.wallet)),
        }
    }

    /// Every account of the program of one kind.
    pub fn list<T: SluiceAccount>(&self) -> Result<Vec<(Address, T)>, CliError> {
        let filters = vec![
            RpcFilterType::DataSize(u64::try_from(T::size()).unwrap_or(u64::MAX)),
            RpcFilterType::Memcmp(Memcmp::new_raw_bytes(0, T::discriminator().to_vec())),
        ];
        let config = RpcProgramAccountsConfig {
            filters: Some(filters),
            account_config: RpcAccountInfoConfig {
                encoding: Some(UiAccountEncoding::Base64),
                commitment: Some(self.settings.commitment),
                ..RpcAccountInfoConfig::default()
            },
            ..RpcProgramAccountsConfig::default()
        };
        let found = self
            .chain
            .rpc()
            .get_program_ui_accounts_with_config(&PROGRAM_ID, config)
            .map_err(|error| self.chain.error("the program's accounts", &error))?;
        let mut all = Vec::with_capacity(found.len());
        for (address, account) in found {
            let data = account.data.decode().ok_or_else(|| {
                CliError::error(
                    format!("the data of {address} cannot be read"),
                    "try another --url",
                )
            })?;
            all.push((address, T::decode_data(&data)?));
        }
        all.sort_by_key(|(address, _)| *address);
        Ok(all)
    }

    /// The mint that was asked for, or the only one that is accepted.
    pub fn mint(&self, asked: Option<Address>) -> Result<MintInfo, CliError> {
        if let Some(address) = asked {
            return self.mint_info(&address);
        }
        let accepted = self.list::<AcceptedMint>()?;
        match accepted.as_slice() {
            [(_, one)] => Ok(accepted_info(one)),
            [] => Err(CliError::error(
                "no mint is accepted on this cluster",
                "the admin accepts one with `sluice mint set`",
            )),
            many => Err(CliError::usage(
                format!("{} mints are accepted: which one?", many.len()),
                "name it with --mint; `sluice mint list` shows them",
            )),
        }
    }

    /// The decimals and the name of a mint.
    pub fn mint_info(&self, mint: &Address) -> Result<MintInfo, CliError> {
        let state = self.mint_state(mint)?;
        Ok(MintInfo {
            address: *mint,
            token_program: state.token_program,
            unit: unit(mint, state.decimals),
        })
    }

    /// A mint as it is on the chain now.
    pub fn mint_state(&self, mint: &Address) -> Result<token::Mint, CliError> {
        self.account(mint)?
            .and_then(|account| token::decode_mint(&account.owner, &account.data))
            .ok_or_else(|| {
                CliError::error(
                    format!("{mint} is not a mint of a token program on this cluster"),
                    "check the address and --url",
                )
            })
    }

    /// Whether there is a person to ask.
    pub fn can_ask(&self) -> bool {
        std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// A question that is answered with y or n. Where nobody can answer, the answer is an error.
    pub fn confirm(&self, question: &str) -> Result<(), CliError> {
        if self.yes {
            return Ok(());
        }
        if !self.can_ask() {
            return Err(CliError::new(
                crate::errors::Code::Refused,
                "not confirmed: there is no terminal to ask on, and nothing was sent",
                "look at it with --dry-run, then run it again with --yes",
            ));
        }
        let mut stderr = std::io::stderr();
        let _ = write!(stderr, "{question} [y/N] ");
        let _ = stderr.flush();
        let mut answer = String::new();
        let _ = std::io::stdin().read_line(&mut answer);
        if matches!(answer.trim(), "y" | "Y" | "yes" | "Yes") {
            return Ok(());
        }
        Err(CliError::new(
            crate::errors::Code::Refused,
            "not confirmed: nothing was sent",
            "",
        ))
    }
}

/// A mint as its acceptance has it.
pub fn accepted_info(accepted: &AcceptedMint) -> MintInfo {
    let address = Address::new_from_array(accepted.mint);
    MintInfo {
        address,
        token_program: Address::new_from_array(accepted.token_program),
        unit: unit(&address, accepted.decimals),
    }
}

/// How a mint's amounts are written.
pub fn unit(mint: &Address, decimals: u8) -> Unit {
    let known = SYMBOLS.iter().find(|(known, _)| known == mint);
    let symbol = known.map_or_else(|| "tokens".to_owned(), |(_, symbol)| (*symbol).to_owned());
    Unit { decimals, symbol }
}

/// Reads a keypair file, or standard input for `-`.
pub fn load_keypair(path: &str) -> Result<Keypair, CliError> {
    let unusable = |problem: String| {
        CliError::error(
            format!("keypair {path}: {problem}"),
            format!(
                "name another with --keypair, or make one: `sluice keygen -o {path}` or `solana-keygen new -o {path}`"
            ),
        )
    };
    let read = if path == "-" {
        read_keypair(&mut std::io::stdin().lock())
    } else {
        let mut file = std::fs::File::open(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => unusable("there is no such file".to_owned()),
            _ => unusable(error.to_string()),
        })?;
        read_keypair(&mut file)
    };
    // What exactly is wrong with the contents is not said: it could quote them.
    read.map_err(|_| unusable("it is not a keypair as the Solana CLI writes them".to_owned()))
}

/// A path that a person gave, for messages.
pub fn path_text(path: &Path) -> String {
    path.display().to_string()
}

/// Loads the keypair of another signer than the main one.
pub fn load_keypair_path(path: &Path) -> Result<Keypair, CliError> {
    load_keypair(&path_text(path))
}

fn show_progress(progress: Progress) {
    let mut stderr = std::io::stderr();
    let _ = match progress {
        Progress::Simulating => write!(stderr, "\r\u{1b}[2Ksimulating…"),
        Progress::Confirming(signature) => {
            write!(stderr, "\r\u{1b}[2Kconfirming {signature}…")
        }
        Progress::Done => write!(stderr, "\r\u{1b}[2K"),
    };
    let _ = stderr.flush();
}

impl From<crate::amount::AmountError> for CliError {
    fn from(error: crate::amount::AmountError) -> Self {
        Self::usage(
            error,
            "write tokens like 1.50, or atomic units like 1500000u",
        )
    }
}

/// The genesis hash of the cluster behind the RPC.
pub fn genesis_hash(chain: &RpcChain) -> Result<[u8; 32], ChainError> {
    chain.genesis_hash()
}
