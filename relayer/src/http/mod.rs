//! The relayer's HTTP.

mod guarded;
mod native;
mod onboard;
mod operations;
mod serve;
mod signers;
mod stats;
mod x402;

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::{HeaderValue, StatusCode, header::RETRY_AFTER},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    trace::TraceLayer,
};

use crate::{
    engine::{Engine, Unavailable},
    guard::{Limited, settings::CorsSettings},
    ledger::LedgerError,
};

pub use native::{IntentView, LaneView, PayerView, PaymentsView, ServiceView};
pub use onboard::OnboardView;
pub use operations::{Check, ReadyView};
pub(crate) use serve::serve;
pub use signers::{SignerView, SignersView};
pub use stats::{BatchesView, Figures, PerPayment, ServiceFigures, StatsView, SubsidyView};

/// The body of every answer that is no verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// One word for machines.
    pub error: String,
    /// The cause and the mend, for people.
    pub message: String,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retriable: bool,
}

/// An answer that is no verdict.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: ErrorBody,
    retry_after: Option<u64>,
}

impl ApiError {
    fn new(status: StatusCode, error: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            body: ErrorBody {
                error: error.to_owned(),
                message: message.into(),
                retriable: false,
            },
            retry_after: None,
        }
    }

    fn bad_request(error: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, message)
    }

    fn not_found(error: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error, message)
    }

    /// Nothing was decided; the same request may succeed in some seconds.
    fn retry(error: &str, message: impl Into<String>, seconds: u64) -> Self {
        let mut this = Self::new(StatusCode::SERVICE_UNAVAILABLE, error, message);
        this.body.retriable = true;
        this.retry_after = Some(seconds);
        this
    }
}

impl From<Unavailable> for ApiError {
    fn from(error: Unavailable) -> Self {
        // Whoever is over a limit says so as often as they like: that is not for the log.
        if let Unavailable::Limited(limited) = error {
            tracing::debug!(%limited, "refused");
            return limited.into();
        }
        let (word, seconds) = match &error {
            Unavailable::Limited(_) => ("limited", 1),
            Unavailable::Ledger(LedgerError::Busy) => ("overloaded", 1),
            Unavailable::Screening => ("screening_unavailable", 2),
            Unavailable::Rpc(_) => ("rpc_unavailable", 2),
            Unavailable::NotReady(_) => ("not_ready", 10),
            Unavailable::FeePayer { .. } => ("fee_payer_low", 30),
            Unavailable::Signer(_) => ("signer_unavailable", 2),
            Unavailable::Overloaded => ("overloaded", 1),
            Unavailable::Ledger(_) => ("ledger_unavailable", 2),
            Unavailable::Interrupted => ("interrupted", 1),
        };
        tracing::warn!(%error, "no verdict");
        // What a database says is for the operator's log alone.
        let message = match error {
            Unavailable::Ledger(LedgerError::Busy) => Unavailable::Overloaded.to_string(),
            Unavailable::Ledger(_) => "the ledger did not answer; nothing was sent".to_owned(),
            error => error.to_string(),
        };
        Self::retry(word, message, seconds)
    }
}

impl From<Limited> for ApiError {
    fn from(limited: Limited) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            ..Self::retry(
                limited.limit.as_str(),
                limited.to_string(),
                limited.retry_after,
            )
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some(seconds) = self.retry_after {
            response
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A JSON body, whatever the content type says: stock clients differ there.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Engine>> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, engine: &Arc<Engine>) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, engine)
            .await
            .map_err(|_| unreadable())?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            ApiError::bad_request(
                "invalid_json",
                format!(
                    "the body is not the JSON that this route takes: {error}; expected {{x402Version, \
                     paymentPayload, paymentRequirements}}"
                ),
            )
        })
    }
}

/// What is said where the body broke off.
fn unreadable() -> ApiError {
    ApiError::bad_request("invalid_body", "the body could not be read")
}

/// All routes.
pub(crate) fn router(engine: Arc<Engine>, cors: &CorsSettings) -> Router {
    let limits = engine.settings.limits;
    let slots = Arc::new(Semaphore::new(limits.max_requests));
    let quick = limits.request_timeout();
    let slow = quick + limits.confirm_timeout();
    let bounded = move |time: std::time::Duration| {
        middleware::from_fn(move |request: Request, next: Next| async move {
            match tokio::time::timeout(time, next.run(request)).await {
                Ok(response) => response,
                Err(_) => ApiError {
                    status: StatusCode::REQUEST_TIMEOUT,
                    ..ApiError::retry(
                        "request_timeout",
                        "the request took too long; ask GET /v1/intents/{digest} before paying again",
                        1,
                    )
                }
                .into_response(),
            }
        })
    };
    let settle = Router::new()
        .route("/settle", post(x402::settle))
        .route(
            "/v1/onboard/{id}",
            get(onboard::status).post(onboard::submit),
        )
        .layer(bounded(slow));
    let rest = Router::new()
        .route("/verify", post(x402::verify))
        .route("/supported", get(x402::supported))
        .route("/v1/onboard", post(onboard::build))
        .route("/v1/intents/{digest}", get(native::intent))
        .route("/v1/payments", get(native::payments))
        .route("/v1/stats", get(stats::stats))
        .route("/v1/signers", get(signers::signers))
        .route("/v1/payers/{payer}", get(native::payer))
        .route("/v1/services/{service}", get(native::service))
        .layer(bounded(quick));
    let work = settle
        .merge(rest)
        .layer(middleware::from_fn_with_state(slots, admit))
        // Before the slot: whoever sends a body slowly keeps nobody else from one.
        .layer(middleware::from_fn_with_state(limits, guarded::read_body))
        // Which has counted already.
        .layer(DefaultBodyLimit::disable());
    // Probes are answered however busy the rest is.
    let probes = Router::new()
        .route("/health", get(operations::health))
        .route("/ready", get(operations::ready))
        .layer(bounded(quick));
    let router = work
        .merge(probes)
        .fallback(|| async { ApiError::not_found("no_such_route", "there is no such route") })
        .method_not_allowed_fallback(|| async {
            ApiError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this route takes another method",
            )
        })
        .layer(middleware::from_fn_with_state(
            Arc::clone(&engine),
            guarded::identify,
        ))
        .layer(middleware::map_response(guarded::in_json))
        .layer(CatchPanicLayer::custom(
            |_: Box<dyn std::any::Any + Send>| {
                ApiError::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "unexpected_error",
                    "something went wrong here; ask GET /v1/intents/{digest} before paying again",
                )
                .into_response()
            },
        ));
    let router = match guarded::cors(cors) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router
        .layer(PropagateRequestIdLayer::x_request_id())
        .layer(
            TraceLayer::new_for_http().make_span_with(|request: &Request| {
                let id = request
                    .headers()
                    .get("x-request-id")
                    .and_then(|id| id.to_str().ok())
                    .unwrap_or_default();
                tracing::info_span!("request", method = %request.method(), path = request.uri().path(), id)
            }),
        )
        .layer(SetRequestIdLayer::x_request_id(MakeRequestUuid))
        .with_state(engine)
}

/// Takes a slot for a request, or answers at once that there is none.
async fn admit(State(slots): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match slots.try_acquire() {
        Ok(_slot) => next.run(request).await,
        Err(_) => ApiError::from(Unavailable::Overloaded).into_response(),
    }
}
