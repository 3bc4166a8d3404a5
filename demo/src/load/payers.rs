//! Payers for a load test: each with money, a budget and a session key that signs its intents.

use std::{
    sync::{PoisonError, RwLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use sluice_intent::{LaneTerms, Scope, UNLIMITED};
use sluice_sdk::{
    Address, DEVNET_USDC, UnsignedIntent,
    accounts::{NonceAccount, Service, SluiceAccount},
    address, instructions, token,
    transaction::{Budget, Version, build, wire},
    x402::{EXACT, ExactPayload, ExactTransfer, Network, SCHEME, SplitExtra, SplitPayload},
};
use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;

/// Units that each payer holds and approves.
const UNITS: u64 = 1_000_000_000;
/// Units of each payment.
pub const AMOUNT: u64 = 1_000;
/// Accounts that one question may name.
const MAX_ACCOUNTS: usize = 100;

/// The chain, as far as a load test asks it.
#[derive(Clone)]
pub struct Rpc {
    http: reqwest::Client,
    url: String,
}

impl Rpc {
    /// The node at `url`.
    pub fn new(url: &str) -> Self {
        Self {
            http: reqwest::Client::new(),
            url: url.to_owned(),
        }
    }

    async fn call(&self, method: &str, params: Value) -> Result<Value> {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = self.http.post(&self.url).body(body.to_string());
        let answer = answer
            .header("content-type", "application/json")
            .send()
            .await?;
        let mut value: Value = serde_json::from_slice(&answer.bytes().await?)?;
        if !value["error"].is_null() {
            bail!("{method}: {}", value["error"]);
        }
        Ok(value["result"].take())
    }

    /// The cluster's genesis hash.
    pub async fn genesis_hash(&self) -> Result<[u8; 32]> {
        let text = self.call("getGenesisHash", json!([])).await?;
        let hash: Hash = text.as_str().context("a hash")?.parse()?;
        Ok(hash.to_bytes())
    }

    async fn blockhash(&self) -> Result<Hash> {
        let answer = self
            .call("getLatestBlockhash", json!([{"commitment": "confirmed"}]))
            .await?;
        let text = answer["value"]["blockhash"].as_str().context("a hash")?;
        Ok(text.parse()?)
    }

    async fn send(&self, instructions: &[Instruction], signers: &[&Keypair]) -> Result<()> {
        let budget = Budget {
            compute_units: 400_000,
            unit_price: 0,
            loaded_bytes: 4 << 20,
        };
        let payer = signers[0].pubkey();
        let built = build(
            Version::V0,
            &payer,
            instructions,
            &budget,
            self.blockhash().await?,
            &signers.to_vec(),
        )?;
        let options = json!({"encoding": "base64", "skipPreflight": false, "preflightCommitment": "confirmed"});
        let params = json!([STANDARD.encode(wire(&built)?), options]);
        self.call("sendTransaction", params).await?;
        Ok(())
    }

    /// Accounts, at `confirmed`: owner and data.
    pub async fn accounts(&self, keys: &[Address]) -> Result<Vec<Option<(Address, Vec<u8>)>>> {
        let mut all = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(MAX_ACCOUNTS) {
            let names: Vec<String> = chunk.iter().map(Address::to_string).collect();
            let params = json!([names, {"encoding": "base64", "commitment": "confirmed"}]);
            let answer = self.call("getMultipleAccounts", params).await?;
            for account in answer["value"].as_array().context("accounts")? {
                all.push(match account {
                    Value::Null => None,
                    account => Some((
                        account["owner"].as_str().context("an owner")?.parse()?,
                        STANDARD.decode(account["data"][0].as_str().context("data")?)?,
                    )),
                });
            }
        }
        Ok(all)
    }

    /// Lamports of an account.
    pub async fn lamports(&self, key: &Address) -> Result<u64> {
        let params = json!([key.to_string(), {"commitment": "confirmed"}]);
        let answer = self.call("getBalance", params).await?;
        answer["value"].as_u64().context("a balance")
    }

    /// A service.
    pub async fn service(&self, key: &Address) -> Result<Service> {
        let found = self.accounts(&[*key]).await?.remove(0);
        let (owner, data) = found.context("the service")?;
        Ok(Service::decode(&owner, &data)?)
    }
}

/// The two schemes that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Intents, which share transactions.
    Split,
    /// Transfers, each a transaction of its own.
    Exact,
}

impl Scheme {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Split => SCHEME,
            Self::Exact => EXACT,
        }
    }
}

/// What every payer pays for.
pub struct Till {
    /// The service.
    pub service: Address,
    /// Its terms.
    pub terms_hash: [u8; 32],
    /// The cluster.
    pub genesis_hash: [u8; 32],
    /// Who is paid by transfers.
    merchant: Address,
    /// The relayer's key.
    fee_payer: Address,
    split: Value,
    exact: Value,
    rpc: Rpc,
    /// For transfers.
    blockhash: RwLock<Hash>,
}

impl Till {
    /// Reads the service. Transfers pay its first recipient.
    pub async fn open(rpc: &Rpc, key: Address, fee_payer: Address) -> Result<Self> {
        let service = rpc.service(&key).await?;
        let genesis_hash = rpc.genesis_hash().await?;
        let merchant = Address::new_from_array(service.recipients[0].owner);
        let requirements = |scheme: Scheme, pay_to: Address, extra: Value| {
            json!({
                "scheme": scheme.name(),
                "network": Network::Devnet.caip2(),
                "amount": AMOUNT.to_string(),
                "asset": DEVNET_USDC.to_string(),
                "payTo": pay_to.to_string(),
                "maxTimeoutSeconds": 120,
                "extra": extra,
            })
        };
        let terms = SplitExtra::of_service(&key, &service, &genesis_hash);
        Ok(Self {
            service: key,
            terms_hash: service.terms_hash,
            genesis_hash,
            merchant,
            fee_payer,
            split: requirements(Scheme::Split, key, serde_json::to_value(terms)?),
            exact: requirements(
                Scheme::Exact,
                merchant,
                json!({ "feePayer": fee_payer.to_string() }),
            ),
            blockhash: RwLock::new(rpc.blockhash().await?),
            rpc: rpc.clone(),
        })
    }

    /// Payments of a scheme that the chain has seen: counted by the program, or by what the merchant holds.
    pub async fn landed(&self, scheme: Scheme) -> Result<u64> {
        if scheme == Scheme::Split {
            return Ok(self.rpc.service(&self.service).await?.payments);
        }
        let key = address::token_account(&self.merchant, &DEVNET_USDC, &token::TOKEN_PROGRAM);
        let found = self.rpc.accounts(&[key]).await?.remove(0);
        let (owner, data) = found.context("the merchant's token account")?;
        let account = token::decode_account(&owner, &data).context("a token account")?;
        Ok(account.amount / AMOUNT)
    }

    /// Lamports of the relayer's key.
    pub async fn lamports(&self) -> Result<u64> {
        self.rpc.lamports(&self.fee_payer).await
    }

    /// Takes a fresh blockhash, as a client does now and then.
    pub async fn refresh(&self) -> Result<()> {
        let hash = self.rpc.blockhash().await?;
        *self
            .blockhash
            .write()
            .unwrap_or_else(PoisonError::into_inner) = hash;
        Ok(())
    }

    fn blockhash(&self) -> Hash {
        *self
            .blockhash
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A payer.
pub struct Payer {
    wallet: Keypair,
    session: Keypair,
    nonce_account: Address,
    opened_slot: u64,
    next_nonce: u64,
    next: u64,
}

impl Payer {
    /// The body of `/verify` and `/settle` for its next payment.
    pub fn next_body(&mut self, till: &Till, scheme: Scheme) -> Result<String> {
        let payload = match scheme {
            Scheme::Split => serde_json::to_value(self.intent(till)?)?,
            Scheme::Exact => serde_json::to_value(self.transfer(till)?)?,
        };
        let requirements = match scheme {
            Scheme::Split => &till.split,
            Scheme::Exact => &till.exact,
        };
        let body = json!({
            "x402Version": 2,
            "paymentPayload": {
                "x402Version": 2,
                "accepted": requirements,
                "payload": payload,
            },
            "paymentRequirements": requirements,
        });
        Ok(body.to_string())
    }

    fn transfer(&mut self, till: &Till) -> Result<ExactPayload> {
        self.next += 1;
        let transfer = ExactTransfer {
            fee_payer: till.fee_payer,
            pay_to: till.merchant,
            mint: DEVNET_USDC,
            token_program: token::TOKEN_PROGRAM,
            decimals: 6,
            amount: AMOUNT,
            // As long as stock clients make it.
            memo: format!("{:032x}", self.next),
            blockhash: till.blockhash(),
        };
        Ok(transfer.sign(&self.wallet)?)
    }

    fn intent(&mut self, till: &Till) -> Result<SplitPayload> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let intent = UnsignedIntent {
            genesis_hash: till.genesis_hash,
            nonce_account: self.nonce_account,
            opened_slot: self.opened_slot,
            lane: 1,
            service: till.service,
            terms_hash: till.terms_hash,
            amount: AMOUNT,
            nonce: self.next_nonce,
            expires_at: u32::try_from(now)? + 100,
            resource: [7; 16],
        };
        self.next_nonce += 1;
        Ok(SplitPayload::of_intent(&intent.sign(&self.session)?))
    }
}

/// Opens payers at the cost of `admin`, who can mint.
pub async fn open(rpc: &Rpc, admin: &Keypair, count: usize) -> Result<Vec<Payer>> {
    let mut payers = Vec::with_capacity(count);
    for _ in 0..count {
        let (wallet, session) = (Keypair::new(), Keypair::new());
        let key = wallet.pubkey();
        let source = address::token_account(&key, &DEVNET_USDC, &token::TOKEN_PROGRAM);
        let mint = spl_token_interface::instruction::mint_to(
            &token::TOKEN_PROGRAM,
            &DEVNET_USDC,
            &source,
            &admin.pubkey(),
            &[],
            UNITS,
        )
        .map_err(|error| anyhow::anyhow!("minting: {error}"))?;
        let lane = LaneTerms {
            key: session.pubkey().to_bytes(),
            expires_at: i64::MAX,
            max_per_payment: UNLIMITED,
            period_limit: UNLIMITED,
            period_secs: 0,
            total_limit: UNLIMITED,
            scope: Scope::Any,
        };
        let all = [
            token::create_account(&admin.pubkey(), &key, &DEVNET_USDC, &token::TOKEN_PROGRAM),
            mint,
            instructions::open_nonce(&admin.pubkey(), &key, &DEVNET_USDC, &source),
            instructions::set_lane(&key, &DEVNET_USDC, 1, &lane),
            token::approve(&key, &DEVNET_USDC, &token::TOKEN_PROGRAM, UNITS, 6),
        ];
        rpc.send(&all, &[admin, &wallet]).await?;
        payers.push(Payer {
            wallet,
            session,
            nonce_account: address::nonce_account(&key, &DEVNET_USDC).0,
            opened_slot: 0,
            next_nonce: 0,
            next: 0,
        });
    }
    read_slots(rpc, &mut payers).await?;
    Ok(payers)
}

/// The slot of opening is in every digest.
async fn read_slots(rpc: &Rpc, payers: &mut [Payer]) -> Result<()> {
    let keys: Vec<Address> = payers.iter().map(|payer| payer.nonce_account).collect();
    for _ in 0..100 {
        let accounts = rpc.accounts(&keys).await?;
        if accounts.iter().all(Option::is_some) {
            for (payer, account) in payers.iter_mut().zip(accounts) {
                let (owner, data) = account.context("a nonce account")?;
                payer.opened_slot = NonceAccount::decode(&owner, &data)?.opened_slot;
            }
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(false, "some payers' accounts did not open");
    Ok(())
}
