//! `/verify`, `/settle`, `/supported`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Extension, Json,
    extract::State,
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use sluice_sdk::{
    Address, PROGRAM_ID,
    x402::{
        Batch, EXACT, FacilitatorRequest, SCHEME, SettleExtra, SettleResponse, SupportedKind,
        SupportedResponse, VerifyResponse, Version,
    },
};

use super::{ApiError, JsonBody};
use crate::{
    desk::Paid,
    engine::{Engine, Refusal, Unavailable},
    exact::Transfer,
    guard::Caller,
    identifier,
    ledger::{Binding, Means},
    reason::Rejection,
    request::{self, Asked, Payment},
    settle::Outcome,
};

/// The word for an id that is bound to another payload.
const BOUND: &str = "payment_identifier_conflict";
const BOUND_MESSAGE: &str = "the payment-identifier of this payload was given to another payload before: send that one \
     again, or give this one an id of its own";
/// Says that an answer is an earlier one's.
const REPLAYED: &str = "idempotent-replayed";

/// The answer for an id that is bound to another payload: what `more` says in the words of the route, and in ours.
fn bound(more: Value) -> Response {
    let mut body = json!({"error": BOUND, "message": BOUND_MESSAGE, "retriable": false});
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    (StatusCode::CONFLICT, Json(body)).into_response()
}

pub(super) async fn verify(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody<FacilitatorRequest>,
) -> Result<Response, ApiError> {
    let verdict = match Order::read(&engine, &body) {
        Ok(order)
            if engine
                .is_bound_otherwise(order.service(), order.binding())
                .await? =>
        {
            return Ok(bound(json!({
                "isValid": false, "invalidReason": BOUND, "invalidMessage": BOUND_MESSAGE,
            })));
        }
        Ok(Order::Split(payment)) => engine.verify(&payment, &caller).await?,
        Ok(Order::Exact(transfer)) => engine.verify_transfer(&transfer, &caller).await?,
        Err(rejection) => Err(Refusal::new(rejection, None)),
    };
    let answer = match verdict {
        Ok(payer) => VerifyResponse {
            is_valid: true,
            payer: Some(payer.to_string()),
            ..VerifyResponse::default()
        },
        Err(refusal) => {
            tracing::info!(
                reason = %refusal.rejection.reason, payer = ?refusal.payer, "payment not valid"
            );
            VerifyResponse {
                is_valid: false,
                invalid_reason: Some(refusal.rejection.reason.as_str().into_owned()),
                invalid_message: Some(refusal.rejection.message),
                payer: refusal.payer.map(|payer| payer.to_string()),
                extra: retry(refusal.retry_after),
            }
        }
    };
    Ok(Json(answer).into_response())
}

pub(super) async fn settle(
    State(engine): State<Arc<Engine>>,
    Extension(caller): Extension<Caller>,
    JsonBody(body): JsonBody<FacilitatorRequest>,
) -> Result<Response, ApiError> {
    let version = request::version(&body.x402_version).unwrap_or(Version::V2);
    let network = engine.settings.network.name(version).to_owned();
    let told = match Order::read(&engine, &body) {
        Ok(order) => {
            let (service, binding) = (order.service(), order.binding().cloned());
            let settle = move |engine| async move { order.settle(engine, &caller).await };
            engine.settle_identified(service, binding, settle).await?
        }
        Err(rejection) => Outcome::Refused(Refusal::new(rejection, None)).into(),
    };
    let answer = match told.outcome {
        Outcome::Success(paid) => SettleResponse {
            success: true,
            payer: Some(paid.payment.payer.to_string()),
            transaction: paid.attempt.signature.to_string(),
            network,
            amount: Some(paid.payment.amount.to_string()),
            extra: Some(extra(&paid)?),
            ..SettleResponse::default()
        },
        Outcome::Refused(refusal) => {
            tracing::info!(
                reason = %refusal.rejection.reason, payer = ?refusal.payer, "payment not settled by this call"
            );
            SettleResponse {
                success: false,
                error_reason: Some(refusal.rejection.reason.as_str().into_owned()),
                error_message: Some(refusal.rejection.message),
                payer: refusal.payer.map(|payer| payer.to_string()),
                transaction: transaction(refusal.transaction),
                network,
                extra: retry(refusal.retry_after),
                ..SettleResponse::default()
            }
        }
        Outcome::Bound => {
            return Ok(bound(json!({
                "success": false, "errorReason": BOUND, "errorMessage": BOUND_MESSAGE, "transaction": "",
                "network": network,
            })));
        }
    };
    let mut response = Json(answer).into_response();
    if told.replayed {
        let headers = response.headers_mut();
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// A request of either scheme.
enum Order {
    Split(Box<Payment>),
    Exact(Box<Transfer>),
}

impl Order {
    fn read(engine: &Engine, body: &FacilitatorRequest) -> Result<Self, Rejection> {
        let schemes = if engine.settings.exact.enabled {
            &[SCHEME, EXACT][..]
        } else {
            &[SCHEME]
        };
        let asked = Asked::read(body, engine.settings.network, schemes)?;
        let mut order = if asked.scheme == EXACT {
            Self::Exact(Box::new(engine.read_transfer(&asked)?))
        } else {
            Self::Split(Box::new(Payment::of(&asked, &engine.home())?))
        };
        if engine.settings.identifier.heeds(&body.payment_requirements) {
            let (owner, place) = match &mut order {
                Self::Split(payment) => (payment.nonce_account, &mut payment.identifier),
                Self::Exact(transfer) => (transfer.order.payer, &mut transfer.identifier),
            };
            *place = identifier::read(&body.payment_payload, asked.version, owner)?;
        }
        Ok(order)
    }

    /// Who is paid.
    fn service(&self) -> Address {
        match self {
            Self::Split(payment) => payment.service,
            Self::Exact(transfer) => transfer.pay_to,
        }
    }

    /// The id that its payer gave it.
    fn binding(&self) -> Option<&Binding> {
        match self {
            Self::Split(payment) => payment.identifier.as_ref(),
            Self::Exact(transfer) => transfer.identifier.as_ref(),
        }
    }

    async fn settle(self, engine: Arc<Engine>, caller: &Caller) -> Result<Outcome, Unavailable> {
        match self {
            Self::Split(payment) => engine.settle(&payment, caller).await,
            Self::Exact(transfer) => engine.settle_transfer(&transfer, caller).await,
        }
    }
}

fn transaction(signature: Option<solana_signature::Signature>) -> String {
    signature.map(|s| s.to_string()).unwrap_or_default()
}

/// When to come back, for a refusal that ends by itself.
fn retry(seconds: Option<u64>) -> Option<Value> {
    seconds.map(|seconds| json!({"retryAfterSeconds": seconds}))
}

/// Where the payment stands in its transaction, and its part of the fee, rounded up.
fn extra(paid: &Paid) -> Result<Value, ApiError> {
    let attempt = &paid.attempt;
    let digest = hex::encode(paid.payment.digest);
    let batch = Batch {
        size: attempt.payments,
        lamports_per_payment: attempt
            .fee_lamports
            .div_ceil(u64::from(attempt.payments.max(1))),
    };
    let extra = match &paid.payment.means {
        Means::Intent(intent) => serde_json::to_value(SettleExtra {
            digest,
            index: attempt.position,
            split: intent.split.clone(),
            batch,
        }),
        Means::Transfer { to_vault } => serde_json::to_value(TransferExtra {
            digest,
            batch,
            distribution: to_vault.then_some(
                "the money is in the service's vault; the program divides it in a transaction of its own",
            ),
        }),
    };
    extra.map_err(|error| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "unexpected_error",
            error.to_string(),
        )
    })
}

/// What is said of a transfer beside its transaction.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TransferExtra {
    /// Hex of the SHA-256 of what the payer signed: `GET /v1/intents/{digest}` tells its state.
    digest: String,
    /// Always of one.
    batch: Batch,
    /// Where the payment was to a service.
    #[serde(skip_serializing_if = "Option::is_none")]
    distribution: Option<&'static str>,
}

pub(super) async fn supported(State(engine): State<Arc<Engine>>) -> Json<SupportedResponse> {
    let settings = &engine.settings;
    let signers: Vec<String> = engine
        .signers
        .addresses()
        .iter()
        .map(Address::to_string)
        .collect();
    let extra = json!({
        "program": PROGRAM_ID.to_string(),
        "facilitator": settings.facilitator.to_string(),
        "genesisHash": Address::new_from_array(settings.genesis_hash).to_string(),
        "feePayer": signers.first(),
    });
    let kind = |version: Version, scheme: &str, extra: &Value| SupportedKind {
        x402_version: version,
        scheme: scheme.to_owned(),
        network: settings.network.name(version).to_owned(),
        extra: Some(extra.clone()),
    };
    let versions = [Version::V2, Version::V1];
    let mut kinds: Vec<SupportedKind> = versions.map(|v| kind(v, SCHEME, &extra)).into();
    if settings.exact.enabled {
        let extra = json!({ "feePayer": engine.signers.turn().to_string() });
        kinds.extend(versions.map(|v| kind(v, EXACT, &extra)));
    }
    Json(SupportedResponse {
        kinds,
        extensions: if settings.identifier.enabled {
            vec![identifier::EXTENSION.to_owned()]
        } else {
            Vec::new()
        },
        signers: BTreeMap::from([("solana:*".to_owned(), signers)]),
    })
}
