//! `/health` and `/ready`.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sluice_sdk::{
    Address,
    accounts::{Config, Facilitator},
};

use crate::{
    chain::Depth,
    engine::Engine,
    signers::{Health, Standing},
    snapshot::{Lookup, config_address, exists, genesis_mismatch, lookup},
};

/// Whether the process lives. Says nothing about what it depends on.
pub(super) async fn health() -> Json<Value> {
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}

/// Whether payments can be settled, and if not, what fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyView {
    /// Whether every check holds.
    pub ready: bool,
    /// The checks.
    pub checks: Vec<Check>,
}

/// One thing that settling depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `ledger`, `signers`, `rpc`, `config`, `facilitator`, `relayer_key` or `balance`.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was found, and what mends it.
    pub message: String,
}

impl Check {
    fn new(name: &str, result: Result<String, String>) -> Self {
        Self {
            name: name.to_owned(),
            ok: result.is_ok(),
            message: result.unwrap_or_else(|problem| problem),
        }
    }
}

/// Seconds until it is worth asking again.
const RETRY: &str = "5";

pub(super) async fn ready(State(engine): State<Arc<Engine>>) -> Response {
    let view = engine.readiness().await;
    if view.ready {
        return Json(view).into_response();
    }
    let status = StatusCode::SERVICE_UNAVAILABLE;
    (status, [(RETRY_AFTER, RETRY)], Json(view)).into_response()
}

impl Engine {
    /// Checks everything that settling depends on. What could not be asked counts as failed.
    pub async fn readiness(&self) -> ReadyView {
        let mut checks = vec![Check::new(
            "ledger",
            match self.ledger.ping().await {
                Err(_) => Err("does not answer: see the log, and the disk".to_owned()),
                Ok(()) if self.ledger.is_refusing() => {
                    Err("refuses changes: see the log, and the disk".to_owned())
                }
                Ok(()) => Ok("answers".to_owned()),
            },
        )];
        checks.push(Check::new("signers", self.check_signers()));
        checks.extend(self.chain_checks().await);
        ReadyView {
            ready: checks.iter().all(|check| check.ok),
            checks,
        }
    }

    async fn chain_checks(&self) -> Vec<Check> {
        let settings = &self.settings;
        let payers = self.signers.addresses();
        let mut keys = vec![config_address(), settings.facilitator];
        keys.extend(&payers);
        let accounts = match self.chain.accounts(&keys, Depth::Confirmed).await {
            Ok(accounts) => accounts,
            Err(error) => return vec![Check::new("rpc", Err(error.to_string()))],
        };
        if let Err(problem) = self.check_cluster() {
            return vec![Check::new("rpc", Err(problem.to_string()))];
        }
        let mut accounts = accounts
            .iter()
            .map(|account| account.as_ref().filter(|account| exists(account)));
        let mut next = || accounts.next().flatten();
        let config = match lookup::<Config>(next()) {
            Lookup::Found(config) if config.genesis_hash != settings.genesis_hash => Err(
                genesis_mismatch(&config.genesis_hash, &settings.genesis_hash),
            ),
            Lookup::Found(config) if config.paused != 0 => {
                Err("settlement is paused by the program's admin".to_owned())
            }
            Lookup::Found(_) => Ok("initialised, not paused".to_owned()),
            Lookup::Missing => Err("the program's config does not exist: initialise it".to_owned()),
            Lookup::Wrong(error) => Err(error.to_string()),
        };
        let facilitator = lookup::<Facilitator>(next());
        let (found, registered) = match &facilitator {
            Lookup::Found(account) => (
                if account.suspended == 0 {
                    Ok("registered, not suspended".to_owned())
                } else {
                    Err("suspended by the program's admin".to_owned())
                },
                self.check_key(account),
            ),
            Lookup::Missing => (
                Err(format!(
                    "the facilitator account {} does not exist: register it",
                    settings.facilitator
                )),
                Err("the facilitator is not known".to_owned()),
            ),
            Lookup::Wrong(error) => (
                Err(error.to_string()),
                Err("the facilitator is not known".to_owned()),
            ),
        };
        let least = settings.fees.min_balance_lamports;
        let balances: Vec<(Address, u64)> = payers
            .iter()
            .map(|payer| (*payer, next().map_or(0, |account| account.lamports)))
            .collect();
        let low = |(payer, lamports): &(Address, u64)| {
            format!(
                "{payer} holds {lamports} lamports, below its low-water mark of {least}: fund it"
            )
        };
        // One that can pay is enough; the others are named.
        let lacking: Vec<String> = balances
            .iter()
            .filter(|(_, lamports)| *lamports < least)
            .map(low)
            .collect();
        let balance = if lacking.len() == balances.len() {
            Err(lacking.join("; "))
        } else if lacking.is_empty() {
            let sum: u64 = balances.iter().map(|(_, lamports)| lamports).sum();
            Ok(format!("{sum} lamports"))
        } else {
            Ok(lacking.join("; "))
        };
        vec![
            Check::new("rpc", Ok("answers".to_owned())),
            Check::new("config", config),
            Check::new("facilitator", found),
            Check::new("relayer_key", registered),
            Check::new("balance", balance),
        ]
    }

    /// Whether a key can pay, and what those that rest need. From what was last seen, so it tells while the RPC is down.
    fn check_signers(&self) -> Result<String, String> {
        let all = self.signers.health();
        let tell = |health: &Health| {
            let balance = match (health.lamports, health.age) {
                (Some(lamports), Some(age)) => {
                    format!("{lamports} lamports {} s ago", age.as_secs())
                }
                _ => "balance not known".to_owned(),
            };
            let standing = match &health.standing {
                Standing::Active => "pays".to_owned(),
                Standing::Low => "rests until it is funded".to_owned(),
                Standing::Failed(error) => format!("does not sign: {error}"),
            };
            format!("{} ({}) {standing}, {balance}", health.address, health.kind)
        };
        let told = all.iter().map(tell).collect::<Vec<_>>().join("; ");
        if all.iter().any(|health| health.standing == Standing::Active) {
            Ok(told)
        } else {
            Err(told)
        }
    }

    fn check_key(&self, facilitator: &Facilitator) -> Result<String, String> {
        let mut registered = Vec::new();
        let mut problems = Vec::new();
        for key in self.signers.addresses() {
            let bytes = key.to_bytes();
            if facilitator.authority == bytes || facilitator.wallet == bytes {
                problems.push(format!(
                    "{key} is the facilitator's authority or wallet: use a key that can do nothing but pay fees"
                ));
            } else if facilitator.relayer_keys().contains(&bytes) {
                registered.push(key.to_string());
            } else {
                problems.push(format!(
                    "{key} is not one of the facilitator's relayer keys: register it"
                ));
            }
        }
        if problems.is_empty() {
            Ok(format!("{} is registered", registered.join(", ")))
        } else {
            Err(problems.join("; "))
        }
    }
}
