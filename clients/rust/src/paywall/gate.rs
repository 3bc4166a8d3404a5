//! What happens to one request.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::{OriginalUri, Request},
    response::Response,
};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use serde_json::Value;
use sluice_sdk::x402::{
    FacilitatorRequest, SCHEME, SettleResponse, SplitPayload, Version, from_header,
};
use tower::{Service, ServiceExt as _};

use super::{
    Terms, Wall,
    offer::{
        RESOURCE_MISMATCH, Refusal, payment_required, plain, requirement_v1, requirement_v2,
        unavailable, with_settlement,
    },
};
use crate::facilitator::FacilitatorError;

/// A price at a paywall.
#[derive(Clone)]
pub(super) struct Gate {
    pub wall: Arc<Wall>,
    pub amount: u64,
    pub description: Arc<str>,
    pub mime_type: Arc<str>,
}

/// In the extensions of a request whose payment the facilitator has verified. It has not landed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Paid {
    /// Hex of the digest: the payment's name everywhere, and a key for idempotence.
    pub digest: String,
    /// Who pays, as the facilitator says.
    pub payer: Option<String>,
    /// Atomic units.
    pub amount: u64,
}

/// A payment that came with a request, read but not checked.
struct Payment {
    version: Version,
    raw: Value,
    payload: SplitPayload,
}

/// A payment that is for this request and answers what is asked.
struct Checked {
    version: Version,
    request: FacilitatorRequest,
    digest: String,
    body: Bytes,
}

/// What ends a request before its handler.
enum Stop {
    /// 402, with the reason.
    Refuse(Refusal),
    /// Something else.
    Answer(Box<Response>),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

impl Gate {
    pub(super) async fn pass<S>(self, request: Request, inner: S) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        let (parts, body) = request.into_parts();
        let url = self.url(&parts);
        let payment = match find_payment(&parts.headers) {
            Ok(Some(payment)) => payment,
            Ok(None) => {
                let terms = self.wall.fresh_terms(false).await;
                let refusal = Refusal::new("payment_required", "");
                return payment_required(&self, &terms, &url, &refusal);
            }
            Err(refusal) => return self.refuse(&url, &refusal).await,
        };
        // The terms that are known, without loading: the payment answers a 402 that was made from them.
        let terms = self.wall.known_terms();
        let checked = match self.check(payment, &terms, &parts, body, &url).await {
            Ok(checked) => checked,
            Err(Stop::Refuse(refusal)) => return self.refuse(&url, &refusal).await,
            Err(Stop::Answer(response)) => return *response,
        };
        let Checked {
            version,
            request,
            digest,
            body,
        } = checked;

        let payer = match self.wall.facilitator.verify(&request).await {
            Ok(answer) if answer.is_valid => answer.payer,
            Ok(answer) => {
                let reason = answer.invalid_reason;
                let refusal = Refusal::new(
                    reason.unwrap_or_else(|| "unexpected_verify_error".into()),
                    answer.invalid_message.unwrap_or_default(),
                );
                return self.refuse(&url, &refusal).await;
            }
            Err(error) => {
                tracing::warn!(%digest, %error, "payment not verified");
                let message = "the payment could not be verified and was not charged: try again";
                return unavailable(
                    error.retry_after(),
                    &Refusal::new("facilitator_unavailable", message),
                    Some(&digest),
                );
            }
        };

        let mut request_in = Request::from_parts(parts, Body::from(body));
        request_in.extensions_mut().insert(Paid {
            digest: digest.clone(),
            payer,
            amount: self.amount,
        });
        let Ok(response) = inner.oneshot(request_in).await;
        if response.status().is_client_error() || response.status().is_server_error() {
            return response;
        }

        // In a task of its own: when the client hangs up, this future is dropped, and a settlement that is half
        // done would go unread.
        let wall = self.wall.clone();
        let settling = tokio::spawn(async move { wall.settle(&request, &digest).await });
        match settling.await {
            Ok(Ok(settled)) if settled.success => {
                let mut response = with_settlement(response, version, &settled);
                // What one client paid for is not for a shared cache to give away.
                let headers = response.headers_mut();
                headers
                    .entry(header::CACHE_CONTROL)
                    .or_insert(HeaderValue::from_static("private"));
                response
            }
            Ok(Ok(settled)) => {
                let refusal = Refusal::new(
                    settled
                        .error_reason
                        .clone()
                        .unwrap_or_else(|| "unexpected_settle_error".into()),
                    settled.error_message.clone().unwrap_or_default(),
                );
                let response = self.refuse(&url, &refusal).await;
                with_settlement(response, version, &settled)
            }
            Ok(Err(stop)) => stop.response(),
            Err(_) => Unsettled::default().response(),
        }
    }

    /// The URL as the client sees it, of the request line as it came: no dots resolved, no escapes changed.
    fn url(&self, parts: &Parts) -> String {
        // A nested router shortens the path; what the client asked for is kept beside it.
        let uri = parts.extensions.get::<OriginalUri>();
        let uri = uri.map_or(&parts.uri, |original| &original.0);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        format!("{}{path}", self.wall.base)
    }

    async fn refuse(&self, url: &str, refusal: &Refusal) -> Response {
        let terms = self.wall.fresh_terms(true).await;
        payment_required(self, &terms, url, refusal)
    }

    /// Everything that can be said without the facilitator.
    async fn check(
        &self,
        payment: Payment,
        terms: &Terms,
        parts: &Parts,
        body: Body,
        url: &str,
    ) -> Result<Checked, Stop> {
        let requirement = self.answered(&payment, terms, url)?;
        let signed = payment
            .payload
            .to_intent(
                terms.genesis_hash,
                self.wall.service,
                terms.hash,
                self.amount,
            )
            .map_err(|error| Refusal::new("invalid_payload", format!("payload.{error}")))?;
        let body = self.read_body(body).await?;
        let tag = crate::request_tag(parts.method.as_str(), url, &body);
        if signed.intent.resource != tag {
            let message = format!(
                "the payment was signed for another method, URL or body than {} {url}",
                parts.method
            );
            return Err(Refusal::new(RESOURCE_MISMATCH, message).into());
        }
        Ok(Checked {
            version: payment.version,
            request: FacilitatorRequest {
                x402_version: Value::from(payment.version.number()),
                payment_payload: payment.raw,
                payment_requirements: requirement,
            },
            digest: hex::encode(signed.intent.digest()),
            body,
        })
    }

    /// The requirement that a payment must be for, if it is.
    fn answered(&self, payment: &Payment, terms: &Terms, url: &str) -> Result<Value, Refusal> {
        let unwritable =
            |error: serde_json::Error| Refusal::new("unexpected_verify_error", error.to_string());
        let raw = &payment.raw;
        match payment.version {
            Version::V2 => {
                let asked = requirement_v2(&self.wall, terms, self.amount);
                let asked = serde_json::to_value(asked).map_err(unwritable)?;
                if raw.get("accepted") == Some(&asked) {
                    return Ok(asked);
                }
                Err(Refusal::new(
                    "invalid_payment_requirements",
                    "the payment is for other requirements than this server asks for now",
                ))
            }
            Version::V1 => {
                let asked = requirement_v1(self, terms, url);
                if raw.get("network").and_then(Value::as_str) != Some(&asked.network) {
                    return Err(Refusal::new(
                        "invalid_network",
                        format!("this server is paid on {}", asked.network),
                    ));
                }
                serde_json::to_value(asked).map_err(unwritable)
            }
        }
    }

    async fn read_body(&self, body: Body) -> Result<Bytes, Stop> {
        let Wall {
            body_cap,
            body_timeout,
            ..
        } = *self.wall;
        let stop = |status, reason: &str, message: String| {
            let refusal = Refusal::new(reason, message);
            Err(Stop::Answer(Box::new(plain(status, &refusal))))
        };
        let read = axum::body::to_bytes(body, body_cap);
        match tokio::time::timeout(body_timeout, read).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(_)) => stop(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                format!("a paid request's body may have {body_cap} bytes"),
            ),
            Err(_) => stop(
                StatusCode::REQUEST_TIMEOUT,
                "body_too_slow",
                format!("the body did not come in {} s", body_timeout.as_secs()),
            ),
        }
    }
}

/// A settlement of which nobody knows the outcome yet.
#[derive(Debug, Default)]
struct Unsettled {
    retry_after: u64,
    digest: Option<String>,
}

impl Unsettled {
    fn response(&self) -> Response {
        let message = "the payment may or may not have settled: ask the facilitator for its digest, or send the \
                       same payment again";
        unavailable(
            self.retry_after.max(1),
            &Refusal::new("facilitator_unavailable", message),
            self.digest.as_deref(),
        )
    }
}

impl Wall {
    /// Settles, and once more if the first answer is that nobody knows yet.
    async fn settle(
        &self,
        request: &FacilitatorRequest,
        digest: &str,
    ) -> Result<SettleResponse, Unsettled> {
        let mut answer = self.settle_once(request, digest).await?;
        if !answer.success && answer.error_reason.as_deref() == Some("settlement_pending") {
            answer = self.settle_once(request, digest).await?;
        }
        let reason = answer.error_reason.as_deref().unwrap_or_default();
        tracing::info!(%digest, success = answer.success, reason, transaction = answer.transaction, "settled");
        Ok(answer)
    }

    async fn settle_once(
        &self,
        request: &FacilitatorRequest,
        digest: &str,
    ) -> Result<SettleResponse, Unsettled> {
        let answer = self.facilitator.settle(request).await.and_then(|answer| {
            let extra = answer.extra.as_ref();
            let named = extra.and_then(|extra| extra.get("digest")?.as_str());
            // Another payment's success must not release this one's answer.
            if answer.success && named.is_none_or(|named| !named.eq_ignore_ascii_case(digest)) {
                return Err(FacilitatorError::BadAnswer {
                    path: "settle".into(),
                    problem: format!("it is of the payment {}", named.unwrap_or("(unnamed)")),
                });
            }
            Ok(answer)
        });
        answer.map_err(|error| {
            tracing::error!(%digest, %error, "outcome of a settlement unknown");
            Unsettled {
                retry_after: error.retry_after(),
                digest: Some(digest.to_owned()),
            }
        })
    }
}

/// The payment of a request, of the later version if there are two.
fn find_payment(headers: &HeaderMap) -> Result<Option<Payment>, Refusal> {
    for version in [Version::V2, Version::V1] {
        let name = version.payment_header();
        if let Some(value) = headers.get(name) {
            return read_payment(version, value).map(Some).map_err(|refusal| {
                let message = format!("{name}: {}", refusal.message);
                Refusal { message, ..refusal }
            });
        }
    }
    Ok(None)
}

fn read_payment(version: Version, value: &HeaderValue) -> Result<Payment, Refusal> {
    let invalid = |message: String| Refusal::new("invalid_payload", message);
    let text = value.to_str().map_err(|error| invalid(error.to_string()))?;
    let raw: Value = from_header(text).map_err(|error| invalid(error.to_string()))?;
    if raw.get("x402Version").and_then(Value::as_u64) != Some(u64::from(version.number())) {
        return Err(Refusal::new(
            "invalid_x402_version",
            format!("x402Version must be {}", version.number()),
        ));
    }
    let scheme = match version {
        Version::V2 => raw
            .get("accepted")
            .and_then(|accepted| accepted.get("scheme")),
        Version::V1 => raw.get("scheme"),
    };
    if scheme.and_then(Value::as_str) != Some(SCHEME) {
        return Err(Refusal::new(
            "unsupported_scheme",
            format!("this server is paid by {SCHEME}"),
        ));
    }
    let payload = raw.get("payload").cloned().unwrap_or_default();
    let payload =
        serde_json::from_value(payload).map_err(|error| invalid(format!("payload: {error}")))?;
    Ok(Payment {
        version,
        raw,
        payload,
    })
}
