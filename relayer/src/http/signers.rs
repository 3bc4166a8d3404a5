//! `/v1/signers`: the fee payers, how each of them is. Addresses and balances, and no keys.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};

use crate::{
    engine::Engine,
    signers::{Health, Standing},
};

/// The fee payers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignersView {
    /// Each key, in the order of the configuration.
    pub signers: Vec<SignerView>,
    /// Lamports below which a key rests.
    pub low_lamports: String,
    /// Lamports above which it pays again.
    pub resume_lamports: String,
}

/// A fee payer as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignerView {
    /// Its address.
    pub address: String,
    /// `file`, `environment`, `vault` or `given`: where the key is.
    pub kind: String,
    /// `active`; or `low` or `failed`, and then it rests.
    pub standing: String,
    /// Why it does not sign.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Lamports, when they were last read; none before that.
    pub lamports: Option<String>,
    /// Milliseconds since then.
    pub balance_age_ms: Option<u64>,
    /// Reads of the balance that failed since then.
    pub failed_reads: u64,
    /// Reads of the balance that failed since the start.
    pub read_errors: u64,
    /// Transactions that it signed since the start.
    pub signed: u64,
    /// Signatures that failed since the start, trials included.
    pub sign_errors: u64,
}

impl From<Health> for SignerView {
    fn from(health: Health) -> Self {
        let (standing, problem) = match health.standing {
            Standing::Active => ("active", None),
            Standing::Low => ("low", None),
            Standing::Failed(error) => ("failed", Some(error.to_string())),
        };
        Self {
            address: health.address.to_string(),
            kind: health.kind.to_owned(),
            standing: standing.to_owned(),
            problem,
            lamports: health.lamports.map(|lamports| lamports.to_string()),
            balance_age_ms: health
                .age
                .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            failed_reads: health.failed_reads,
            read_errors: health.read_errors,
            signed: health.signed,
            sign_errors: health.sign_errors,
        }
    }
}

pub(super) async fn signers(State(engine): State<Arc<Engine>>) -> Json<SignersView> {
    let fees = &engine.settings.fees;
    Json(SignersView {
        signers: engine
            .signers
            .health()
            .into_iter()
            .map(Into::into)
            .collect(),
        low_lamports: fees.min_balance_lamports.to_string(),
        resume_lamports: fees.resume_lamports().to_string(),
    })
}
