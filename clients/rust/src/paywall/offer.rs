//! The answers that a paywall gives itself.

use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sluice_sdk::x402::{
    REQUIRED_HEADER, RequirementsV1, RequirementsV2, SCHEME, SettleResponse, Version, to_header,
};

use super::gate::Gate;
use super::{Terms, Wall};

/// The reason for a payment that was signed for another method, URL or body.
pub const RESOURCE_MISMATCH: &str = "invalid_sluice_split_resource_mismatch";

/// Why a request is not served: the field's word, and a sentence.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub reason: String,
    pub message: String,
}

impl Refusal {
    pub fn new(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            message: message.into(),
        }
    }
}

/// What a version 2 client is asked for.
pub(super) fn requirement_v2(wall: &Wall, terms: &Terms, amount: u64) -> RequirementsV2 {
    RequirementsV2 {
        scheme: SCHEME.into(),
        network: terms.network.caip2().into(),
        amount: amount.to_string(),
        asset: terms.info.asset.clone(),
        pay_to: terms.info.pay_to.clone(),
        max_timeout_seconds: wall.max_timeout_seconds(terms),
        extra: Some(terms.extra.clone()),
    }
}

/// What a version 1 client is asked for.
pub(super) fn requirement_v1(gate: &Gate, terms: &Terms, url: &str) -> RequirementsV1 {
    RequirementsV1 {
        scheme: SCHEME.into(),
        network: terms.network.v1_name().into(),
        max_amount_required: gate.amount.to_string(),
        resource: url.to_owned(),
        description: gate.description.to_string(),
        mime_type: gate.mime_type.to_string(),
        output_schema: None,
        pay_to: terms.info.pay_to.clone(),
        max_timeout_seconds: gate.wall.max_timeout_seconds(terms),
        asset: terms.info.asset.clone(),
        extra: Some(terms.extra.clone()),
    }
}

/// 402, for clients of both versions.
pub(super) fn payment_required(
    gate: &Gate,
    terms: &Terms,
    url: &str,
    refusal: &Refusal,
) -> Response {
    let mut resource = json!({ "url": url });
    for (name, text) in [
        ("description", &gate.description),
        ("mimeType", &gate.mime_type),
    ] {
        if !text.is_empty() {
            resource[name] = Value::from(&**text);
        }
    }
    let mut v2 = json!({
        "x402Version": 2,
        "error": refusal.reason,
        "resource": resource,
        "accepts": [requirement_v2(&gate.wall, terms, gate.amount)],
    });
    let mut v1 = json!({
        "x402Version": 1,
        "error": refusal.reason,
        "accepts": [requirement_v1(gate, terms, url)],
    });
    // Neither version has a field for the sentence; clients ignore what they do not know.
    if !refusal.message.is_empty() {
        v2["errorMessage"] = Value::from(&*refusal.message);
        v1["errorMessage"] = Value::from(&*refusal.message);
    }
    let header = to_header(&v2).ok().and_then(|text| text.parse().ok());
    let Some(header): Option<HeaderValue> = header else {
        return plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            &Refusal::new(
                "unwritable_requirement",
                "the price cannot be written as a header",
            ),
        );
    };
    let mut response = (StatusCode::PAYMENT_REQUIRED, Json(v1)).into_response();
    let headers = response.headers_mut();
    headers.insert(REQUIRED_HEADER, header);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 503: nothing is released, and the client may send the same again.
pub(super) fn unavailable(retry_after: u64, refusal: &Refusal, digest: Option<&str>) -> Response {
    let mut body = json!({ "error": refusal.reason, "errorMessage": refusal.message });
    if let Some(digest) = digest {
        body["digest"] = Value::from(digest);
    }
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Any other refusal.
pub(super) fn plain(status: StatusCode, refusal: &Refusal) -> Response {
    let body = json!({ "error": refusal.reason, "errorMessage": refusal.message });
    (status, Json(body)).into_response()
}

/// Adds the settlement to an answer, where a client of this version looks for it.
pub(super) fn with_settlement(
    mut response: Response<Body>,
    version: Version,
    settled: &SettleResponse,
) -> Response {
    let text = to_header(settled).ok().and_then(|text| text.parse().ok());
    // Base64 always parses. Were it not so, the client would look the payment up by its digest.
    if let Some(value) = text {
        response
            .headers_mut()
            .insert(version.response_header(), value);
    }
    response
}
