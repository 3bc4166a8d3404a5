//! What stands before the routes: who asks, a body that comes in time, and errors that machines can read.

use std::{net::IpAddr, sync::Arc};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{
        HeaderName, HeaderValue, Method, StatusCode,
        header::{
            AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
        },
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use tower_http_cors::cors::{AllowOrigin, CorsLayer};

use super::ApiError;
use crate::{
    config::Limits,
    engine::Engine,
    guard::{Caller, keys::Stranger, settings::CorsSettings},
};

/// Where a connection comes from, as the listener saw it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// What is answered without a key, even where one is needed.
const OPEN: [&str; 3] = ["/health", "/ready", "/supported"];

/// Counts a request against its address and its API key, and notes whose it is.
pub(super) async fn identify(
    State(engine): State<Arc<Engine>>,
    mut request: Request,
    next: Next,
) -> Response {
    match caller(&engine, &request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

fn caller(engine: &Engine, request: &Request) -> Result<Caller, ApiError> {
    let guard = &engine.guard;
    let peer = request.extensions().get::<Peer>();
    let peer = peer.map_or(Caller::default().address, |peer| peer.0);
    let mut caller = Caller {
        address: guard.proxies.client(peer, request.headers()),
        key: None,
    };
    let path = request.uri().path();
    // Whether the process lives is told to everybody, always.
    if path == "/health" {
        return Ok(caller);
    }
    guard.count_address(caller.address)?;
    if OPEN.contains(&path) {
        return Ok(caller);
    }
    caller.key = guard.keys.identify(request.headers())?;
    if let Some(key) = caller.key {
        guard.keys.count(key)?;
    }
    Ok(caller)
}

impl From<Stranger> for ApiError {
    fn from(stranger: Stranger) -> Self {
        let (word, message) = match stranger {
            Stranger::Nameless => (
                "api_key_missing",
                "this relayer wants an API key: send it as Authorization: Bearer, or as X-API-Key",
            ),
            Stranger::Unknown => (
                "api_key_unknown",
                "nobody here knows this API key: ask the operator for one",
            ),
        };
        Self::new(StatusCode::UNAUTHORIZED, word, message)
    }
}

/// Reads a body, as much of it as is allowed and for as long.
pub(super) async fn read_body(
    State(limits): State<Limits>,
    request: Request,
    next: Next,
) -> Response {
    let (head, body) = request.into_parts();
    let most = limits.body_bytes;
    let read = tokio::time::timeout(limits.body_timeout(), to_bytes(body, most)).await;
    let error = match read {
        Ok(Ok(bytes)) => {
            return next.run(Request::from_parts(head, Body::from(bytes))).await;
        }
        Ok(Err(error)) if is_too_large(&error) => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("the body has more than {most} bytes"),
        ),
        Ok(Err(_)) => super::unreadable(),
        Err(_) => {
            let late = format!(
                "the body did not come within {} s",
                limits.body_timeout_secs
            );
            ApiError {
                status: StatusCode::REQUEST_TIMEOUT,
                ..ApiError::retry("body_timeout", late, 1)
            }
        }
    };
    let mut response = error.into_response();
    // What is left of it is not read any more.
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

fn is_too_large(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Puts errors that a framework words in the form of the others.
pub(super) async fn in_json(response: Response) -> Response {
    let status = response.status();
    let json = HeaderValue::from_static("application/json");
    let is_json = response.headers().get(CONTENT_TYPE) == Some(&json);
    let mut response = if !status.is_client_error() || is_json {
        response
    } else {
        let (head, body) = response.into_parts();
        // Nothing of the kind is longer.
        let text = to_bytes(body, 4_096).await.unwrap_or_default();
        let text = match String::from_utf8_lossy(&text).into_owned() {
            text if text.is_empty() => status.to_string(),
            text => text,
        };
        let mut typed = ApiError::new(status, "bad_request", text).into_response();
        for (name, value) in head.headers {
            if let Some(name) = name.filter(|name| !typed.headers().contains_key(name))
                && name != CONTENT_LENGTH
            {
                typed.headers_mut().insert(name, value);
            }
        }
        typed
    };
    if status == StatusCode::UNAUTHORIZED {
        let bearer = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
    }
    response
}

/// Which web pages may read the answers; `None` for none.
pub(super) fn cors(settings: &CorsSettings) -> Option<CorsLayer> {
    let origins = match &settings.origins[..] {
        [] => return None,
        [all] if all == "*" => AllowOrigin::any(),
        origins => AllowOrigin::list(origins.iter().filter_map(|origin| origin.parse().ok())),
    };
    let named = HeaderName::from_static;
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([CONTENT_TYPE, AUTHORIZATION, named("x-api-key")])
            .expose_headers([RETRY_AFTER, named("x-request-id")]),
    )
}
