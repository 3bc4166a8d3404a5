//! `/v1`: what x402 has no words for.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::{Deserialize, Serialize};
use sluice_intent::{Digest, Scope, Skip, UNLIMITED};
use sluice_sdk::{
    Address,
    accounts::{AcceptedMint, NonceAccount, SERVICE_ACTIVE, Service},
    address, token,
    x402::{SCHEME, SplitExtra, SplitShares},
};

use super::ApiError;
use crate::{
    chain::{CLOCK, RawAccount},
    engine::{Engine, Unavailable},
    ledger::{NewPayment, PaymentRow, State as PaymentState},
    proof::Proof,
    snapshot::{Lookup, config_address, exists, lookup, time},
    verify::check_mint,
};

/// A payment as the ledger has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IntentView {
    /// Hex of the payment's identity: the intent's digest, or the SHA-256 of a transfer's message.
    pub digest: String,
    /// `sluice-split` or `exact`.
    pub scheme: String,
    /// `admitted`, `batched`, `signed`, `sent`, `confirmed`, `finalized`, `failed` or `expired`.
    pub state: String,
    /// Whether the state can no longer change by itself.
    pub is_final: bool,
    /// Whether `/settle` has told of the success.
    pub answered: bool,
    /// Who pays.
    pub payer: String,
    /// The service, or whoever else a transfer pays.
    pub service: String,
    /// The mint.
    pub asset: String,
    /// Atomic units.
    pub amount: String,
    /// The payer's nonce account; a transfer has none of this and the next four.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce_account: Option<String>,
    /// Slot in which it was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened_slot: Option<String>,
    /// The lane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<u8>,
    /// The nonce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// How the payment is divided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<SplitShares>,
    /// Unix seconds of the chain's clock.
    pub expires_at: i64,
    /// The transaction that landed; else the latest one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// Its place among that transaction's entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// The slot it landed in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u64>,
    /// Its part of the lamports that the relayer paid, rounded up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lamports: Option<u64>,
    /// Why it was rejected, failed or expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The cause and the mend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Every transaction ever signed for it, the first first. Left out where payments are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<String>,
    /// What is certain about it. Left out where payments are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// Unix milliseconds of the relayer's clock.
    pub created_at: i64,
    /// Unix milliseconds of the relayer's clock.
    pub updated_at: i64,
}

pub(super) async fn intent(
    State(engine): State<Arc<Engine>>,
    Path(digest): Path<String>,
) -> Result<Json<IntentView>, ApiError> {
    let mut key = Digest::default();
    hex::decode_to_slice(&digest, &mut key)
        .map_err(|_| ApiError::bad_request("invalid_digest", "the digest must be 64 hex digits"))?;
    let unavailable = |error| ApiError::from(Unavailable::Ledger(error));
    let mut row = engine.ledger.payment(&key).await.map_err(unavailable)?;
    if row.is_none()
        && let Some((payment, state)) = engine.desk.payment(&key)
    {
        // Between a good judgement and a signature it is in memory alone.
        if matches!(state, PaymentState::Admitted | PaymentState::Batched) {
            return Ok(Json(IntentView {
                proof: Some(Proof::none_yet()),
                ..view(&payment, state)
            }));
        }
        // Signed since the ledger was asked.
        row = engine.ledger.payment(&key).await.map_err(unavailable)?;
    }
    let row = row.ok_or_else(|| {
        ApiError::not_found(
            "intent_not_found",
            "unknown: this relayer has never signed a transaction for a payment with this digest, so it can neither \
             say that the payment landed nor that it never will; another relayer may have settled it",
        )
    })?;
    // After the row: whatever it says has ended is in there.
    let traces = engine.ledger.traces(&key).await.map_err(unavailable)?;
    let judgement = engine.ledger.judgement(&key).await.map_err(unavailable)?;
    Ok(Json(IntentView {
        attempts: traces
            .iter()
            .map(|trace| trace.signature.to_string())
            .collect(),
        proof: Some(Proof::of(&row, &traces, judgement)),
        ..row_view(row)
    }))
}

/// A page of payments, the newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentsView {
    /// The payments, without the transactions that did not land.
    pub payments: Vec<IntentView>,
    /// What to ask for as `cursor` to get the next page; `null` on the last one.
    pub next: Option<String>,
}

/// Payments on a page, at most and if nothing is said.
const MAX_PAGE: u32 = 200;
const PAGE: u32 = 50;

#[derive(Deserialize)]
pub(super) struct PaymentsQuery {
    service: Option<String>,
    cursor: Option<String>,
    limit: Option<u32>,
}

pub(super) async fn payments(
    State(engine): State<Arc<Engine>>,
    Query(query): Query<PaymentsQuery>,
) -> Result<Json<PaymentsView>, ApiError> {
    let service = query
        .service
        .map(|text| path_address("invalid_service", "service", &text))
        .transpose()?
        .map(|service| service.to_string());
    let limit = query.limit.unwrap_or(PAGE).clamp(1, MAX_PAGE);
    let cursor = query.cursor.as_deref().map(read_cursor).transpose()?;
    let rows = engine
        .ledger
        .page(service.as_deref(), cursor, limit)
        .await
        .map_err(|error| ApiError::from(Unavailable::Ledger(error)))?;
    let full = rows.len() == limit as usize;
    let next = rows.last().filter(|_| full).map(|last| {
        let digest = hex::encode(last.payment.digest);
        format!("{}-{digest}", last.created_at)
    });
    Ok(Json(PaymentsView {
        payments: rows.into_iter().map(row_view).collect(),
        next,
    }))
}

fn read_cursor(text: &str) -> Result<(i64, &str), ApiError> {
    let parts = text.split_once('-');
    parts
        .and_then(|(time, digest)| Some((time.parse().ok()?, digest)))
        .ok_or_else(|| {
            ApiError::bad_request(
                "invalid_cursor",
                "cursor must be the `next` of an earlier page",
            )
        })
}

/// A payment of the ledger.
fn row_view(row: PaymentRow) -> IntentView {
    let (state, answered) = (row.state, row.answered);
    let (created_at, updated_at) = (row.created_at, row.updated_at);
    let attempt = row.attempt.clone();
    let (reason, message) = row.verdict.clone().unzip();
    IntentView {
        is_final: matches!(
            state,
            PaymentState::Finalized | PaymentState::Failed | PaymentState::Expired
        ),
        answered,
        transaction: attempt
            .as_ref()
            .map(|attempt| attempt.signature.to_string()),
        index: attempt.as_ref().map(|attempt| attempt.position),
        slot: attempt.as_ref().and_then(|attempt| attempt.slot),
        lamports: attempt.as_ref().map(|attempt| {
            attempt
                .fee_lamports
                .div_ceil(u64::from(attempt.payments.max(1)))
        }),
        reason,
        message,
        created_at,
        updated_at,
        ..view(&row.payment, state)
    }
}

/// What is known of a payment before it is signed.
fn view(payment: &NewPayment, state: PaymentState) -> IntentView {
    let intent = payment.intent();
    let nonce = intent.map(|intent| intent.nonce);
    IntentView {
        digest: hex::encode(payment.digest),
        scheme: payment.scheme().to_owned(),
        state: state.as_str().to_owned(),
        is_final: false,
        answered: false,
        payer: payment.payer.to_string(),
        service: payment.service.to_string(),
        asset: payment.mint.to_string(),
        amount: payment.amount.to_string(),
        nonce_account: nonce.map(|nonce| nonce.account.to_string()),
        opened_slot: nonce.map(|nonce| nonce.opened_slot.to_string()),
        lane: nonce.map(|nonce| nonce.lane),
        nonce: nonce.map(|nonce| nonce.nonce.to_string()),
        split: intent.map(|intent| intent.split.clone()),
        expires_at: payment.expires_at,
        transaction: None,
        index: None,
        slot: None,
        lamports: None,
        reason: None,
        message: None,
        attempts: Vec::new(),
        proof: None,
        created_at: 0,
        updated_at: 0,
    }
}

/// A payer's nonce account in one mint, with what the relayer has in flight for it. Numbers that may pass
/// 2^53 are decimal strings; a limit that does not limit is `null`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PayerView {
    /// The payer.
    pub payer: String,
    /// The mint.
    pub mint: String,
    /// The nonce account, which is also the delegate to approve.
    pub nonce_account: String,
    /// Slot in which it was opened.
    pub opened_slot: String,
    /// The token account that it may pull from.
    pub source: String,
    /// Atomic units in that account; `null` if it is not usable.
    pub balance: Option<String>,
    /// Atomic units that the nonce account may still pull from it; 0 if it is not the delegate.
    pub delegated: String,
    /// Whether the token account is frozen.
    pub frozen: bool,
    /// Atomic units of payments that are being settled.
    pub in_flight: String,
    /// Atomic units ever pulled.
    pub spent_total: String,
    /// The chain's clock, unix seconds: expiries count by it.
    pub now: i64,
    /// The lanes.
    pub lanes: Vec<LaneView>,
}

/// A lane in [`PayerView`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneView {
    /// 0 the payer's own key, 1 a session key.
    pub lane: u8,
    /// The key that signs; `null` for a closed lane.
    pub key: Option<String>,
    /// The nonce to sign next, above everything that is used or in flight; `null` when there is none left.
    pub next_nonce: Option<String>,
    /// Unix seconds; `null` for never ending.
    pub expires_at: Option<i64>,
    /// Most atomic units a payment.
    pub max_per_payment: Option<String>,
    /// Most atomic units a period.
    pub period_limit: Option<String>,
    /// Seconds of a period; 0 for no period.
    pub period_secs: String,
    /// Atomic units spent in the period that holds `now`.
    pub period_spent: String,
    /// Most atomic units in all.
    pub total_limit: Option<String>,
    /// Atomic units that the key has spent.
    pub total_spent: String,
    /// The most that one more payment may take by the lane's limits, in-flight ones not counted.
    pub headroom: Option<String>,
    /// `any`, `service`, `authority` or `facilitator`.
    pub scope: String,
    /// The address of the scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope_key: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct PayerQuery {
    mint: Option<String>,
}

pub(super) async fn payer(
    State(engine): State<Arc<Engine>>,
    Path(payer): Path<String>,
    Query(query): Query<PayerQuery>,
) -> Result<Json<PayerView>, ApiError> {
    let payer = path_address("invalid_payer", "the payer", &payer)?;
    let mint = query.mint.ok_or_else(|| {
        ApiError::bad_request(
            "invalid_mint",
            "say which mint: GET /v1/payers/{payer}?mint={mint}",
        )
    })?;
    let mint = path_address("invalid_mint", "mint", &mint)?;
    let nonce_account = address::nonce_account(&payer, &mint).0;
    let ([clock, nonce], asked_ms) = ask(&engine, &[CLOCK, nonce_account]).await?;
    let now = time(clock.as_deref()).map_err(Unavailable::Rpc)?;
    let nonce = match lookup::<NonceAccount>(nonce.as_deref()) {
        Lookup::Found(nonce) => nonce,
        Lookup::Missing => {
            return Err(ApiError::not_found(
                "nonce_account_not_found",
                format!(
                    "{payer} has no nonce account for mint {mint}: open it (it will be {nonce_account}) and \
                     approve it for a budget"
                ),
            ));
        }
        Lookup::Wrong(error) => {
            return Err(ApiError::not_found(
                "nonce_account_not_readable",
                format!("{nonce_account}: {error}"),
            ));
        }
    };
    let in_flight = engine.desk.in_flight(&[nonce_account], asked_ms);
    let source_key = Address::new_from_array(nonce.source);
    let ([source], _) = ask(&engine, &[source_key]).await?;
    let source = source.and_then(|account| token::decode_account(&account.owner, &account.data));
    let delegated = source
        .and_then(|source| source.delegate)
        .filter(|(delegate, _)| *delegate == nonce_account)
        .map_or(0, |(_, amount)| amount);

    let live = || {
        in_flight.iter().filter_map(|other| {
            let key = other.nonce?;
            (key.opened_slot == nonce.opened_slot).then_some((key, other.amount))
        })
    };
    let mut lanes = Vec::with_capacity(nonce.lanes.len());
    let mut reserved = 0u64;
    for (index, lane) in (0u8..).zip(nonce.lanes.iter()) {
        let mut window = lane.window();
        for (key, amount) in live().filter(|(key, _)| key.lane == index) {
            match window.take(key.nonce) {
                Ok(taken) => {
                    window = taken;
                    reserved = reserved.saturating_add(amount);
                }
                Err(Skip::NonceUsed) => {}
                Err(_) => reserved = reserved.saturating_add(amount),
            }
        }
        let limit = |value: u64| (value != UNLIMITED).then(|| value.to_string());
        let (_, period_spent) = lane.period_at(now);
        let (scope, scope_key) = match Scope::from_parts(lane.scope_kind, lane.scope_key) {
            Some(Scope::Any) => ("any", None),
            Some(Scope::Service(key)) => ("service", Some(key)),
            Some(Scope::Authority(key)) => ("authority", Some(key)),
            Some(Scope::Facilitator(key)) => ("facilitator", Some(key)),
            None => ("unknown", None),
        };
        let text = |key: [u8; 32]| Address::new_from_array(key).to_string();
        lanes.push(LaneView {
            lane: index,
            key: lane.is_open().then(|| text(lane.key)),
            next_nonce: window.next().map(|nonce| nonce.to_string()),
            expires_at: (lane.expires_at != i64::MAX).then_some(lane.expires_at),
            max_per_payment: limit(lane.max_per_payment),
            period_limit: limit(lane.period_limit),
            period_secs: lane.period_secs.to_string(),
            period_spent: period_spent.to_string(),
            total_limit: limit(lane.total_limit),
            total_spent: lane.total_spent.to_string(),
            headroom: limit(lane.headroom(now)),
            scope: scope.to_owned(),
            scope_key: scope_key.map(text),
        });
    }
    Ok(Json(PayerView {
        payer: payer.to_string(),
        mint: mint.to_string(),
        nonce_account: nonce_account.to_string(),
        opened_slot: nonce.opened_slot.to_string(),
        source: source_key.to_string(),
        balance: source.map(|source| source.amount.to_string()),
        delegated: delegated.to_string(),
        frozen: source.is_some_and(|source| source.frozen),
        in_flight: reserved.to_string(),
        spent_total: nonce.spent_total.to_string(),
        now,
        lanes,
    }))
}

/// A service, with everything that a server needs to ask for payments to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// The service's address.
    pub service: String,
    /// For the requirement.
    pub scheme: String,
    /// For the requirement, version 2.
    pub network: String,
    /// For the requirement, version 1.
    pub network_v1: String,
    /// For the requirement: the service.
    pub pay_to: String,
    /// For the requirement: the mint.
    pub asset: String,
    /// For the requirement.
    pub extra: SplitExtra,
    /// Most seconds that an intent may live, by the program's config: a good `maxTimeoutSeconds` is at most
    /// this.
    pub max_intent_ttl: u32,
    /// Decimals of the mint; `null` when the mint is not accepted.
    pub decimals: Option<u8>,
    /// Least atomic units a payment.
    pub min_payment: String,
    /// Most atomic units a payment; `null` when the mint is not accepted.
    pub max_payment: Option<String>,
    /// `active` or `closed`.
    pub status: String,
    /// Whether this relayer settles for it: active, its facilitator, its mint switched on.
    pub settles_here: bool,
    /// Who may change it.
    pub authority: String,
    /// Counts the changes of terms.
    pub terms_version: u32,
    /// Atomic units ever settled.
    pub settled_total: String,
    /// Payments ever settled.
    pub payments: String,
}

pub(super) async fn service(
    State(engine): State<Arc<Engine>>,
    Path(service): Path<String>,
) -> Result<Json<ServiceView>, ApiError> {
    let key = path_address("invalid_service", "the service", &service)?;
    let ([account, config], _) = ask(&engine, &[key, config_address()]).await?;
    let service = match lookup::<Service>(account.as_deref()) {
        Lookup::Found(service) => service,
        Lookup::Missing => {
            return Err(ApiError::not_found(
                "service_not_found",
                format!("there is no account at {key}: create the service first"),
            ));
        }
        Lookup::Wrong(error) => {
            return Err(ApiError::not_found(
                "not_a_service",
                format!("{key}: {error}"),
            ));
        }
    };
    let Lookup::Found(config) = lookup::<sluice_sdk::accounts::Config>(config.as_deref()) else {
        let problem = "the program's config cannot be read: initialise it";
        return Err(Unavailable::NotReady(problem.to_owned()).into());
    };
    let mint = Address::new_from_array(service.mint);
    let keys = [address::accepted_mint(&mint).0, mint];
    let ([accepted, state], _) = ask(&engine, &keys).await?;
    let accepted = lookup::<AcceptedMint>(accepted.as_deref());
    let accepted = accepted.found();
    let state = state.and_then(|account| token::decode_mint(&account.owner, &account.data));
    let settles = |accepted: &AcceptedMint| {
        let usable = check_mint(state.as_ref(), accepted).is_ok();
        accepted.settles() && usable
    };
    let settings = &engine.settings;
    let active = service.status == SERVICE_ACTIVE;
    let ours = service.facilitator == settings.facilitator.to_bytes();
    let least = accepted.map_or(0, |mint| mint.min_amount);
    Ok(Json(ServiceView {
        service: key.to_string(),
        scheme: SCHEME.to_owned(),
        network: settings.network.caip2().to_owned(),
        network_v1: settings.network.v1_name().to_owned(),
        pay_to: key.to_string(),
        asset: mint.to_string(),
        extra: SplitExtra::of_service(&key, &service, &settings.genesis_hash),
        max_intent_ttl: config.max_intent_ttl,
        decimals: accepted.map(|mint| mint.decimals),
        min_payment: service.min_payment.max(least).max(1).to_string(),
        max_payment: accepted.map(|mint| mint.max_amount.to_string()),
        status: if active { "active" } else { "closed" }.to_owned(),
        settles_here: active && ours && accepted.is_some_and(settles),
        authority: Address::new_from_array(service.authority).to_string(),
        terms_version: service.terms_version,
        settled_total: service.settled_total.to_string(),
        payments: service.payments.to_string(),
    }))
}

pub(super) fn path_address(error: &str, what: &str, text: &str) -> Result<Address, ApiError> {
    text.parse().map_err(|_| {
        ApiError::bad_request(error, format!("{what}: {text:?} is not a base58 address"))
    })
}

/// Accounts, and the unix millisecond of this machine that they are as young as.
async fn ask<const N: usize>(
    engine: &Engine,
    keys: &[Address; N],
) -> Result<([Option<Arc<RawAccount>>; N], i64), ApiError> {
    let max_age = engine.settings.chain.cache();
    let view = engine
        .accounts
        .get(keys, max_age)
        .await
        .map_err(Unavailable::Rpc)?;
    let mut found = view
        .accounts
        .into_iter()
        .map(|account| account.filter(|account| exists(account)));
    let accounts = std::array::from_fn(|_| found.next().flatten());
    Ok((accounts, view.asked_ms))
}
