//! `/verify`, `/settle`, `/supported`.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use serde_json::{Value, json};
use sluice_sdk::{
    Address, PROGRAM_ID,
    x402::{
        Batch, FacilitatorRequest, SCHEME, SettleExtra, SettleResponse, SupportedKind,
        SupportedResponse, VerifyResponse, Version,
    },
};

use super::{ApiError, JsonBody};
use crate::{
    desk::Paid,
    engine::{Engine, Refusal},
    request::{self, Payment},
    settle::Outcome,
};

pub(super) async fn verify(
    State(engine): State<Arc<Engine>>,
    JsonBody(body): JsonBody<FacilitatorRequest>,
) -> Result<Json<VerifyResponse>, ApiError> {
    let verdict = match Payment::parse(&body, &engine.home()) {
        Ok(payment) => engine.verify(&payment).await?,
        Err(rejection) => Err(Refusal::new(rejection, None)),
    };
    Ok(Json(match verdict {
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
                extra: None,
            }
        }
    }))
}

pub(super) async fn settle(
    State(engine): State<Arc<Engine>>,
    JsonBody(body): JsonBody<FacilitatorRequest>,
) -> Result<Json<SettleResponse>, ApiError> {
    let version = request::version(&body.x402_version).unwrap_or(Version::V2);
    let network = engine.settings.network.name(version).to_owned();
    let outcome = match Payment::parse(&body, &engine.home()) {
        Ok(payment) => engine.settle(&payment).await?,
        Err(rejection) => Outcome::Refused(Refusal::new(rejection, None)),
    };
    Ok(Json(match outcome {
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
                ..SettleResponse::default()
            }
        }
    }))
}

fn transaction(signature: Option<solana_signature::Signature>) -> String {
    signature.map(|s| s.to_string()).unwrap_or_default()
}

/// Where the payment stands in its transaction, and its part of the fee, rounded up.
fn extra(paid: &Paid) -> Result<Value, ApiError> {
    let attempt = &paid.attempt;
    let extra = SettleExtra {
        digest: hex::encode(paid.payment.digest),
        index: attempt.position,
        split: paid.payment.split.clone(),
        batch: Batch {
            size: attempt.payments,
            lamports_per_payment: attempt
                .fee_lamports
                .div_ceil(u64::from(attempt.payments.max(1))),
        },
    };
    serde_json::to_value(extra).map_err(|error| {
        ApiError::new(
            axum::http::StatusCode::INTERNAL_SERVER_ERROR,
            "unexpected_error",
            error.to_string(),
        )
    })
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
    let kind = |version: Version| SupportedKind {
        x402_version: version,
        scheme: SCHEME.to_owned(),
        network: settings.network.name(version).to_owned(),
        extra: Some(extra.clone()),
    };
    Json(SupportedResponse {
        kinds: vec![kind(Version::V2), kind(Version::V1)],
        extensions: Vec::new(),
        signers: BTreeMap::from([("solana:*".to_owned(), signers)]),
    })
}
