//! `/v1/onboard`: opening a nonce account at the relayer's cost, in two steps.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::StatusCode,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sluice_intent::{LaneTerms, Scope, UNLIMITED};
use sluice_sdk::Address;

use super::{ApiError, unreadable};
use crate::{
    engine::Engine,
    guard,
    ledger::onboardings::{Onboarding, Quota, Stage},
    onboard::{Caller, Outcome, Refused, Wish, lane_fits},
};

/// Seconds after which a quota may have room again.
const QUOTA_RETRY_SECS: u64 = 3_600;

/// What is asked for.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct OnboardRequest {
    payer: String,
    asset: String,
    approve: Option<String>,
    #[serde(default)]
    replace_delegate: bool,
    lane: Option<LaneRequest>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LaneRequest {
    lane: u8,
    key: String,
    max_per_payment: Option<String>,
    period_limit: Option<String>,
    period_secs: Option<u64>,
    total_limit: Option<String>,
    expires_at: Option<i64>,
    scope: Option<String>,
    scope_key: Option<String>,
}

/// A transaction that comes back.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReturnRequest {
    transaction: String,
}

/// A sponsored opening as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OnboardView {
    /// What it is asked for by.
    pub id: String,
    /// `built`: sign `transaction` and post it back. `pending`: it was sent, and nobody knows yet whether it lands.
    /// `landed`: the account is open. `failed`: the transaction failed and opened nothing. `expired`: it can never land.
    /// `closed`: the payer has closed the account since. `reclaimed`: the relayer has, because it was idle.
    pub state: String,
    /// The payer.
    pub payer: String,
    /// The mint.
    pub asset: String,
    /// The account that is opened.
    pub nonce_account: String,
    /// The relayer's key that pays fee and rent, and to which the rent goes back.
    pub sponsor: String,
    /// The transaction to sign, base64, with zeros for signatures. Only while it is `built`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// The last block that may hold it.
    pub last_valid_block_height: u64,
    /// Rent of the account, in lamports.
    pub rent_lamports: u64,
    /// Fee of the transaction, in lamports.
    pub fee_lamports: u64,
    /// The transaction on chain, once it is signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// The slot it landed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Builds the transaction.
pub(super) async fn build(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<guard::Caller>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<OnboardView>, ApiError> {
    let request: OnboardRequest = parse(body)?;
    let wish = wish(request)?;
    let caller = Caller {
        client: client(caller.address),
        api_key: engine.guard.key_name(&caller).map(|name| name.to_string()),
    };
    Ok(Json(view(engine.onboard(&wish, caller).await?)?))
}

/// Takes the signed transaction back.
pub(super) async fn submit(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<OnboardView>, ApiError> {
    let request: ReturnRequest = parse(body)?;
    let returned = STANDARD
        .decode(request.transaction.trim())
        .map_err(|_| ApiError::bad_request("invalid_transaction", "transaction: must be base64"))?;
    Ok(Json(view(engine.submit_onboarding(&id, &returned).await?)?))
}

/// Tells how it stands.
pub(super) async fn status(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
) -> Result<Json<OnboardView>, ApiError> {
    let outcome = engine.onboarding(&id).await?;
    let expired = match &outcome {
        // Where the chain does not answer, whoever posts it back is told.
        Ok(onboarding) => engine.has_expired(onboarding).await.unwrap_or(false),
        Err(_) => false,
    };
    let mut view = view(outcome)?;
    if expired {
        "expired".clone_into(&mut view.state);
        view.transaction = None;
    }
    Ok(Json(view))
}

fn parse<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, ApiError> {
    let bytes = body.map_err(|_| unreadable())?;
    serde_json::from_slice(&bytes).map_err(|error| {
        ApiError::bad_request(
            "invalid_json",
            format!("the body is not the JSON that this route takes: {error}"),
        )
    })
}

fn wish(request: OnboardRequest) -> Result<Wish, ApiError> {
    let payer = address("payer", &request.payer)?;
    let approve = request
        .approve
        .map(|units| number("approve", &units))
        .transpose()?;
    let lane = request
        .lane
        .map(|lane| lane_terms(&payer, lane))
        .transpose()?;
    Ok(Wish {
        payer,
        mint: address("asset", &request.asset)?,
        approve,
        replace_delegate: request.replace_delegate,
        lane,
    })
}

fn lane_terms(payer: &Address, request: LaneRequest) -> Result<(u8, LaneTerms), ApiError> {
    let limit = |name: &str, units: Option<String>| -> Result<u64, ApiError> {
        units.map_or(Ok(UNLIMITED), |units| number(name, &units))
    };
    let key = |text: Option<String>| -> Result<[u8; 32], ApiError> {
        let text = text.ok_or_else(|| {
            ApiError::bad_request("invalid_lane", "lane.scopeKey: is missing for this scope")
        })?;
        Ok(address("lane.scopeKey", &text)?.to_bytes())
    };
    let scope = match request.scope.as_deref() {
        None | Some("any") => Scope::Any,
        Some("service") => Scope::Service(key(request.scope_key)?),
        Some("authority") => Scope::Authority(key(request.scope_key)?),
        Some("facilitator") => Scope::Facilitator(key(request.scope_key)?),
        Some(_) => {
            return Err(ApiError::bad_request(
                "invalid_lane",
                "lane.scope: must be any, service, authority or facilitator",
            ));
        }
    };
    let terms = LaneTerms {
        key: address("lane.key", &request.key)?.to_bytes(),
        expires_at: request.expires_at.unwrap_or(i64::MAX),
        max_per_payment: limit("lane.maxPerPayment", request.max_per_payment)?,
        period_limit: limit("lane.periodLimit", request.period_limit)?,
        period_secs: request.period_secs.unwrap_or(0),
        total_limit: limit("lane.totalLimit", request.total_limit)?,
        scope,
    };
    if !lane_fits(payer, request.lane, &terms) {
        return Err(ApiError::bad_request(
            "invalid_lane",
            "lane: must be 0 with the payer's own key, or 1 with a session key",
        ));
    }
    Ok((request.lane, terms))
}

fn address(field: &str, text: &str) -> Result<Address, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(
            "invalid_address",
            format!("{field}: {text:?} is not a base58 address"),
        )
    })
}

fn number(field: &str, text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(
            "invalid_amount",
            format!("{field}: {text:?} is not a whole number of atomic units"),
        )
    })
}

/// Who counts as one client: an address of version 4, or the network of one of version 6, in which everybody has as many
/// addresses as there are.
fn client(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => {
            let network = ip.to_bits() & !u128::from(u64::MAX);
            format!("{}/64", Ipv6Addr::from_bits(network))
        }
    }
}

fn view(outcome: Outcome) -> Result<OnboardView, ApiError> {
    let onboarding: Onboarding = outcome?;
    let built = onboarding.stage == Stage::Built;
    Ok(OnboardView {
        state: match onboarding.stage {
            Stage::Signed => "pending",
            Stage::Dead => "expired",
            stage => stage.as_str(),
        }
        .to_owned(),
        id: onboarding.id,
        payer: onboarding.payer.to_string(),
        asset: onboarding.mint.to_string(),
        nonce_account: onboarding.nonce_account.to_string(),
        sponsor: onboarding.sponsor.to_string(),
        transaction: built.then(|| STANDARD.encode(&onboarding.unsigned)),
        last_valid_block_height: onboarding.last_valid_block_height,
        rent_lamports: onboarding.rent_lamports,
        fee_lamports: onboarding.fee_lamports,
        signature: onboarding.signature.map(|signature| signature.to_string()),
        slot: onboarding.slot,
        error: onboarding.error,
    })
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let (status, word) = match &refused {
            Refused::Off => (StatusCode::FORBIDDEN, "onboarding_off"),
            Refused::Mint(_) => (StatusCode::FORBIDDEN, "mint_not_sponsored"),
            Refused::MintUnusable(_) => (StatusCode::FORBIDDEN, "mint_unusable"),
            Refused::OwnKey => (StatusCode::FORBIDDEN, "payer_refused"),
            Refused::AlreadyOpen(_) => (StatusCode::CONFLICT, "already_open"),
            Refused::NoTokenAccount(_) => (StatusCode::FORBIDDEN, "no_token_account"),
            Refused::TooPoor { .. } => (StatusCode::FORBIDDEN, "balance_too_low"),
            Refused::OtherDelegate { .. } => (StatusCode::CONFLICT, "other_delegate"),
            Refused::Quota(Quota::Once) => (StatusCode::FORBIDDEN, "sponsored_before"),
            Refused::Quota(_) => (StatusCode::TOO_MANY_REQUESTS, "quota_exceeded"),
            Refused::Unknown => (StatusCode::NOT_FOUND, "onboarding_not_found"),
            Refused::Edited => (StatusCode::BAD_REQUEST, "transaction_edited"),
            Refused::Signature => (StatusCode::BAD_REQUEST, "invalid_signature"),
            Refused::Expired => (StatusCode::GONE, "onboarding_expired"),
            Refused::Sponsor(_) => (StatusCode::GONE, "sponsor_gone"),
        };
        let mut error = Self::new(status, word, refused.to_string());
        if status == StatusCode::TOO_MANY_REQUESTS {
            error.body.retriable = true;
            error.retry_after = Some(QUOTA_RETRY_SECS);
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_network_is_one_client() {
        let ip = |text: &str| client(text.parse().unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        assert_eq!(ip("192.0.2.7"), "192.0.2.7");
        assert_eq!(ip("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(ip("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(ip("2001:db8:1:2::1"), ip("2001:db8:1:2:ffff::9"));
    }
}
