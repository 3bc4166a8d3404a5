use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sluice_sdk::{Address, accounts::AccountQuery};
use solana_hash::Hash;
use solana_rpc_client::nonblocking::rpc_client::RpcClient;
use solana_rpc_client_api::{
    client_error::{Error as ClientError, ErrorKind},
    request::RpcRequest,
};
use solana_signature::Signature;

use super::{
    Blockhash, Chain, ChainError, Depth, RawAccount, Status, TransactionError, codes_in_logs,
};
use crate::config::SecretUrl;

/// Bytes of an account that are asked for. What payments need is far smaller, and whoever names accounts may name large
/// ones.
const MAX_DATA: usize = 64 * 1024;

/// The chain through a JSON-RPC node. Every call is bounded in time.
pub struct RpcChain {
    client: RpcClient,
    timeout: Duration,
    /// The newest finalized slot that was seen here. Behind one address may be several nodes, and one that is behind this
    /// cannot say that something never landed.
    finalized: AtomicU64,
}

#[derive(Deserialize)]
struct InContext<T> {
    /// Of which slot the answer is.
    context: Option<WireContext>,
    value: T,
}

#[derive(Deserialize)]
struct WireContext {
    slot: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireEpoch {
    absolute_slot: u64,
    block_height: u64,
}

#[derive(Deserialize)]
struct WireAccount {
    owner: String,
    lamports: u64,
    data: (String, String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireBlockhash {
    blockhash: String,
    last_valid_block_height: u64,
}

#[derive(Deserialize)]
struct WireTransaction {
    meta: Option<WireMeta>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMeta {
    #[serde(default)]
    log_messages: Option<Vec<String>>,
    #[serde(default)]
    return_data: Option<WireReturn>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReturn {
    program_id: String,
    data: (String, String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireStatus {
    slot: u64,
    confirmations: Option<u64>,
    err: Option<Value>,
    confirmation_status: Option<String>,
}

impl RpcChain {
    /// A client of the node at `url`; no call takes longer than `timeout`.
    pub fn new(url: &SecretUrl, timeout: Duration) -> Self {
        Self {
            client: RpcClient::new_with_timeout(url.expose().to_owned(), timeout),
            timeout,
            finalized: AtomicU64::new(0),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        request: RpcRequest,
        params: Value,
    ) -> Result<T, ChainError> {
        let fail = |problem: String| ChainError { method, problem };
        // The client waits and asks again when a node throttles it, so its own timeout does not bound a call.
        match tokio::time::timeout(self.timeout, self.client.send(request, params)).await {
            Ok(answer) => answer.map_err(|error| fail(without_url(error))),
            Err(_) => Err(fail(format!("no answer in {} s", self.timeout.as_secs()))),
        }
    }
}

/// An error's text. Transport errors name the URL, which may carry a key.
fn without_url(error: ClientError) -> String {
    match *error.kind {
        ErrorKind::Reqwest(error) if error.is_timeout() => "the request timed out".to_owned(),
        ErrorKind::Reqwest(error) if error.is_connect() => "no connection could be made".to_owned(),
        ErrorKind::Reqwest(error) => error.without_url().to_string(),
        ErrorKind::Middleware(_) => "the connection failed".to_owned(),
        kind => kind.to_string(),
    }
}

impl Depth {
    fn name(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Finalized => "finalized",
        }
    }
}

#[async_trait]
impl Chain for RpcChain {
    async fn genesis_hash(&self) -> Result<Hash, ChainError> {
        const METHOD: &str = "getGenesisHash";
        let text: String = self
            .call(METHOD, RpcRequest::GetGenesisHash, Value::Null)
            .await?;
        text.parse()
            .map_err(|_| unreadable(METHOD, "the hash is not base58"))
    }

    async fn accounts(
        &self,
        keys: &[Address],
        depth: Depth,
    ) -> Result<Vec<Option<RawAccount>>, ChainError> {
        const METHOD: &str = "getMultipleAccounts";
        let keys: Vec<String> = keys.iter().map(Address::to_string).collect();
        let params = json!([keys, {
            "encoding": "base64",
            "commitment": depth.name(),
            "dataSlice": {"offset": 0, "length": MAX_DATA},
        }]);
        let answer: InContext<Vec<Option<WireAccount>>> = self
            .call(METHOD, RpcRequest::GetMultipleAccounts, params)
            .await?;
        if answer.value.len() != keys.len() {
            return Err(unreadable(METHOD, "another number of accounts than asked"));
        }
        let read = |account: WireAccount| -> Result<RawAccount, ChainError> {
            Ok(RawAccount {
                owner: account
                    .owner
                    .parse()
                    .map_err(|_| unreadable(METHOD, "an owner is not an address"))?,
                lamports: account.lamports,
                data: STANDARD
                    .decode(&account.data.0)
                    .map_err(|_| unreadable(METHOD, "data is not base64"))?,
            })
        };
        answer
            .value
            .into_iter()
            .map(|account| account.map(read).transpose())
            .collect()
    }

    async fn latest_blockhash(&self) -> Result<Blockhash, ChainError> {
        const METHOD: &str = "getLatestBlockhash";
        let params = json!([{"commitment": Depth::Confirmed.name()}]);
        let answer: InContext<WireBlockhash> = self
            .call(METHOD, RpcRequest::GetLatestBlockhash, params)
            .await?;
        Ok(Blockhash {
            hash: answer
                .value
                .blockhash
                .parse()
                .map_err(|_| unreadable(METHOD, "the hash is not base58"))?,
            last_valid_block_height: answer.value.last_valid_block_height,
            slot: answer.context.map_or(0, |context| context.slot),
        })
    }

    async fn finalized_block_height(&self) -> Result<u64, ChainError> {
        // Height and slot of one and the same block.
        let params = json!([{"commitment": Depth::Finalized.name()}]);
        let epoch: WireEpoch = self
            .call("getEpochInfo", RpcRequest::GetEpochInfo, params)
            .await?;
        self.finalized
            .fetch_max(epoch.absolute_slot, Ordering::Relaxed);
        Ok(epoch.block_height)
    }

    async fn first_slot(&self) -> Result<u64, ChainError> {
        self.call(
            "getFirstAvailableBlock",
            RpcRequest::GetFirstAvailableBlock,
            Value::Null,
        )
        .await
    }

    async fn send(&self, wire: &[u8]) -> Result<(), ChainError> {
        // The relayer sends again by itself, so the node need not.
        let params = json!([STANDARD.encode(wire), {
            "encoding": "base64",
            "skipPreflight": true,
            "maxRetries": 0,
        }]);
        let _signature: String = self
            .call("sendTransaction", RpcRequest::SendTransaction, params)
            .await?;
        Ok(())
    }

    async fn statuses(
        &self,
        signatures: &[Signature],
        history: bool,
    ) -> Result<Vec<Option<Status>>, ChainError> {
        const METHOD: &str = "getSignatureStatuses";
        let texts: Vec<String> = signatures.iter().map(Signature::to_string).collect();
        let params = json!([texts, {"searchTransactionHistory": history}]);
        let answer: InContext<Vec<Option<WireStatus>>> = self
            .call(METHOD, RpcRequest::GetSignatureStatuses, params)
            .await?;
        if answer.value.len() != signatures.len() {
            return Err(unreadable(METHOD, "another number of statuses than asked"));
        }
        let least = self.finalized.load(Ordering::Relaxed);
        if history && answer.context.is_none_or(|context| context.slot < least) {
            return Err(unreadable(
                METHOD,
                "the node is behind what it has said before",
            ));
        }
        let read = |status: WireStatus| Status {
            slot: status.slot,
            confirmed: match status.confirmation_status.as_deref() {
                Some(name) => matches!(name, "confirmed" | "finalized"),
                // Old nodes tell it by the count alone: none left means rooted.
                None => status.confirmations.is_none(),
            },
            finalized: match status.confirmation_status.as_deref() {
                Some(name) => name == "finalized",
                None => status.confirmations.is_none(),
            },
            error: status.err.map(|json| TransactionError { json }),
        };
        Ok(answer.value.into_iter().map(|s| s.map(read)).collect())
    }

    async fn results(&self, signature: &Signature) -> Result<Option<Vec<u8>>, ChainError> {
        const METHOD: &str = "getTransaction";
        let params = json!([signature.to_string(), {
            "encoding": "base64",
            "commitment": Depth::Confirmed.name(),
            "maxSupportedTransactionVersion": 1,
        }]);
        let answer: Option<WireTransaction> = self
            .call(METHOD, RpcRequest::GetTransaction, params)
            .await?;
        let Some(meta) = answer.and_then(|transaction| transaction.meta) else {
            return Ok(None);
        };
        let program = sluice_sdk::PROGRAM_ID.to_string();
        let returned = meta.return_data.filter(|data| data.program_id == program);
        Ok(match returned {
            Some(data) => Some(
                STANDARD
                    .decode(&data.data.0)
                    .map_err(|_| unreadable(METHOD, "the return data is not base64"))?,
            ),
            // Some nodes keep the log and not the return data; a return of zeros alone is cut off by others.
            None => codes_in_logs(meta.log_messages.iter().flatten().map(String::as_str)),
        })
    }

    async fn program_accounts(&self, query: &AccountQuery) -> Result<Vec<Address>, ChainError> {
        const METHOD: &str = "getProgramAccounts";
        #[derive(Deserialize)]
        struct Keyed {
            pubkey: String,
        }
        let holds = |offset: usize, bytes: &[u8]| json!({"memcmp": {"offset": offset, "bytes": bs58::encode(bytes).into_string(), "encoding": "base58"}});
        // The addresses alone: what the accounts hold is asked for when it is needed.
        let params = json!([sluice_sdk::PROGRAM_ID.to_string(), {
            "encoding": "base64",
            "commitment": Depth::Confirmed.name(),
            "dataSlice": {"offset": 0, "length": 0},
            "filters": [holds(0, &query.discriminator), holds(query.offset, query.key.as_ref())],
        }]);
        let found: Vec<Keyed> = self
            .call(METHOD, RpcRequest::GetProgramAccounts, params)
            .await?;
        found
            .iter()
            .map(|keyed| {
                let key = keyed.pubkey.parse();
                key.map_err(|_| unreadable(METHOD, "an address is not base58"))
            })
            .collect()
    }

    async fn rent(&self, bytes: usize) -> Result<u64, ChainError> {
        self.call(
            "getMinimumBalanceForRentExemption",
            RpcRequest::GetMinimumBalanceForRentExemption,
            json!([bytes]),
        )
        .await
    }

    async fn recent_prices(&self, accounts: &[Address]) -> Result<Vec<u64>, ChainError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Price {
            prioritization_fee: u64,
        }
        let accounts: Vec<String> = accounts.iter().map(Address::to_string).collect();
        let prices: Vec<Price> = self
            .call(
                "getRecentPrioritizationFees",
                RpcRequest::GetRecentPrioritizationFees,
                json!([accounts]),
            )
            .await?;
        Ok(prices
            .iter()
            .map(|price| price.prioritization_fee)
            .collect())
    }

    async fn is_blockhash_valid(&self, hash: &Hash) -> Result<bool, ChainError> {
        // The client may have asked a node that is ahead of what is confirmed.
        let params = json!([hash.to_string(), {"commitment": "processed"}]);
        let answer: InContext<bool> = self
            .call("isBlockhashValid", RpcRequest::IsBlockhashValid, params)
            .await?;
        Ok(answer.value)
    }

    async fn simulate(&self, wire: &[u8]) -> Result<Option<TransactionError>, ChainError> {
        #[derive(Deserialize)]
        struct Simulated {
            err: Option<Value>,
        }
        let params = json!([STANDARD.encode(wire), {
            "encoding": "base64",
            "commitment": "processed",
            "sigVerify": false,
            "replaceRecentBlockhash": false,
        }]);
        let answer: InContext<Simulated> = self
            .call(
                "simulateTransaction",
                RpcRequest::SimulateTransaction,
                params,
            )
            .await?;
        Ok(answer.value.err.map(|json| TransactionError { json }))
    }

    async fn takes(&self, wire: &[u8]) -> bool {
        let params = json!([STANDARD.encode(wire), {
            "encoding": "base64",
            "commitment": Depth::Confirmed.name(),
            "sigVerify": false,
            "replaceRecentBlockhash": true,
        }]);
        // Whatever the transaction's own result: a node that simulates it can read it.
        self.call::<InContext<Value>>(
            "simulateTransaction",
            RpcRequest::SimulateTransaction,
            params,
        )
        .await
        .is_ok()
    }
}

fn unreadable(method: &'static str, problem: &str) -> ChainError {
    ChainError {
        method,
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn errors_do_not_name_the_url() {
        // Port 9 (discard) refuses; the query stands for a provider's key.
        let url = SecretUrl::from("http://127.0.0.1:9/?api-key=hush");
        let chain = RpcChain::new(&url, Duration::from_secs(2));
        let error = chain.genesis_hash().await.unwrap_err();
        assert_eq!(error.method, "getGenesisHash");
        assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
        assert!(!format!("{url} {url:?}").contains("hush"));
    }
}
