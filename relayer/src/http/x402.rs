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
    budget::SIGNATURE_LAMPORTS,
    engine::{Engine, Refusal},
    ledger::PaymentRow,
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
        Outcome::Success(row) => SettleResponse {
            success: true,
            payer: Some(row.payer.to_string()),
            transaction: transaction(row.signature),
            network,
            amount: Some(row.amount.to_string()),
            extra: Some(extra(&row)?),
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

/// A payment on its own has index 0 in a batch of one, and bears the whole fee.
fn extra(row: &PaymentRow) -> Result<Value, ApiError> {
    let extra = SettleExtra {
        digest: hex::encode(row.digest),
        index: 0,
        split: row.split.clone(),
        batch: Batch {
            size: 1,
            lamports_per_payment: row.fee_lamports.unwrap_or(SIGNATURE_LAMPORTS),
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
    let relayer = engine.key.address().to_string();
    let extra = json!({
        "program": PROGRAM_ID.to_string(),
        "facilitator": settings.facilitator.to_string(),
        "genesisHash": Address::new_from_array(settings.genesis_hash).to_string(),
        "feePayer": relayer,
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
        signers: BTreeMap::from([("solana:*".to_owned(), vec![relayer])]),
    })
}
