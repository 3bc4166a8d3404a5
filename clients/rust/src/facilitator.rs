//! The HTTP client of a facilitator.

use std::{fmt, time::Duration};

use http::{StatusCode, header};
use reqwest::RequestBuilder;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;
use sluice_sdk::{
    Address,
    x402::{FacilitatorRequest, SettleResponse, SplitExtra, SupportedResponse, VerifyResponse},
};
use url::Url;

use crate::body::{self, reasons};

/// How long a settlement may take: what stock x402 servers wait.
pub const SETTLE_TIMEOUT: Duration = Duration::from_secs(90);
/// How long every other call may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(15);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_CAP: usize = 256 * 1024;
/// Seconds to wait when the facilitator does not say how long.
const RETRY_AFTER: u64 = 2;
const RETRY_AFTER_CAP: u64 = 300;

/// A facilitator, by its base URL.
///
/// ```no_run
/// # async fn run() -> Result<(), sluice_client::FacilitatorError> {
/// use sluice_client::Facilitator;
///
/// let facilitator = Facilitator::new("https://facilitator.example.com")?;
/// for kind in facilitator.supported().await?.kinds {
///     println!("{} on {}", kind.scheme, kind.network);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Facilitator {
    http: reqwest::Client,
    base: Url,
    settle_timeout: Duration,
}

impl fmt::Debug for Facilitator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The base may carry credentials.
        let host = self.base.host_str();
        f.debug_struct("Facilitator").field("host", &host).finish()
    }
}

/// Why a facilitator gave no usable answer. None of these says that a payment failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FacilitatorError {
    /// The base URL is none.
    #[error("the facilitator's URL {url:?} cannot be used: {problem}")]
    BadUrl {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No connection, or it broke, or the time was up.
    #[error("the facilitator's /{path} gave no answer: {problem}")]
    Unreachable {
        /// What was called.
        path: String,
        /// What happened.
        problem: String,
    },
    /// It is there and cannot serve now.
    #[error("the facilitator's /{path} is not available (status {status}): {problem}")]
    Unavailable {
        /// What was called.
        path: String,
        /// 429 or 5xx.
        status: u16,
        /// Seconds after which it asks to be called again.
        retry_after: Option<u64>,
        /// What it says.
        problem: String,
    },
    /// It will not answer this request.
    #[error("the facilitator's /{path} refused the request (status {status}): {problem}")]
    Refused {
        /// What was called.
        path: String,
        /// Neither 2xx nor 429 nor 5xx.
        status: u16,
        /// Its word for why, if it has one.
        reason: Option<String>,
        /// What it says.
        problem: String,
    },
    /// The answer is not what the protocol defines.
    #[error("the facilitator's /{path} gave an answer that cannot be used: {problem}")]
    BadAnswer {
        /// What was called.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl FacilitatorError {
    /// Seconds after which it makes sense to try again.
    pub fn retry_after(&self) -> u64 {
        match self {
            Self::Unavailable { retry_after, .. } => retry_after.unwrap_or(RETRY_AFTER),
            _ => RETRY_AFTER,
        }
    }
}

/// A service as a facilitator shows it at `GET /v1/services/{pda}`. Fields beyond these are ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceInfo {
    /// The service's address.
    pub service: String,
    /// Who is paid: the service.
    pub pay_to: String,
    /// The mint.
    pub asset: String,
    /// The network, by either of its names.
    pub network: String,
    /// The terms.
    pub extra: SplitExtra,
    /// Most seconds that an intent may live, by the program's config, if the facilitator says.
    #[serde(default, deserialize_with = "lenient_u64")]
    pub max_intent_ttl: Option<u64>,
    /// Least atomic units of a payment, if the facilitator says.
    #[serde(default, deserialize_with = "lenient_u64")]
    pub min_payment: Option<u64>,
    /// Whether this facilitator settles for the service, if it says.
    #[serde(default)]
    pub settles_here: Option<bool>,
}

/// A payer in one mint, as a facilitator shows it at `GET /v1/payers/{pubkey}?mint=`. Fields beyond these are
/// ignored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PayerState {
    /// The payer's nonce account.
    pub nonce_account: String,
    /// Whether it is open, where the facilitator says so. Others answer 404 for one that is not.
    #[serde(default = "yes")]
    pub opened: bool,
    /// Slot in which it was opened.
    #[serde(default, deserialize_with = "lenient_u64")]
    pub opened_slot: Option<u64>,
    /// Its lanes.
    #[serde(default)]
    pub lanes: Vec<LaneState>,
}

/// One lane in [`PayerState`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneState {
    /// Its number.
    pub lane: u8,
    /// The key that signs on it; nothing for a closed lane.
    #[serde(default)]
    pub key: Option<String>,
    /// Whether it is open, where the facilitator says so beside the key.
    #[serde(default = "yes")]
    pub open: bool,
    /// The next nonce that is free, counting what is in flight; nothing if none is left.
    #[serde(default, deserialize_with = "lenient_u64")]
    pub next_nonce: Option<u64>,
}

fn yes() -> bool {
    true
}

impl Facilitator {
    /// The facilitator at a base URL, with a connection pool of its own.
    pub fn new(base: &str) -> Result<Self, FacilitatorError> {
        // A redirected POST would become a GET, or carry a payment to a host that nobody named.
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|error| bad_url(base, reasons(&error)))?;
        Self::with_http(http, base)
    }

    /// The facilitator at a base URL, over an HTTP client that the caller has set up.
    pub fn with_http(http: reqwest::Client, base: &str) -> Result<Self, FacilitatorError> {
        let mut url = Url::parse(base).map_err(|error| bad_url(base, error))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(bad_url(base, "it is not an http or https URL"));
        }
        url.set_query(None);
        url.set_fragment(None);
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self {
            http,
            base: url,
            settle_timeout: SETTLE_TIMEOUT,
        })
    }

    /// Waits this long for a settlement instead of [`SETTLE_TIMEOUT`].
    #[must_use]
    pub fn settle_timeout(mut self, timeout: Duration) -> Self {
        self.settle_timeout = timeout;
        self
    }

    /// `POST /verify`: whether a payment would settle now. A verdict of "no" is an answer, not an error.
    pub async fn verify(
        &self,
        request: &FacilitatorRequest,
    ) -> Result<VerifyResponse, FacilitatorError> {
        let (status, body) = self.post("verify", request, CALL_TIMEOUT).await?;
        verdict("verify", status, &body, |answer: &VerifyResponse| {
            answer.is_valid
        })
    }

    /// `POST /settle`: has a payment settled, and waits for it. A verdict of "no" is an answer, not an error.
    ///
    /// After an error nobody knows yet whether the payment lands: ask [`Facilitator::intent`], or call this
    /// again with the same request, which never pays twice.
    pub async fn settle(
        &self,
        request: &FacilitatorRequest,
    ) -> Result<SettleResponse, FacilitatorError> {
        let (status, body) = self.post("settle", request, self.settle_timeout).await?;
        verdict("settle", status, &body, |answer: &SettleResponse| {
            answer.success
        })
    }

    /// `GET /supported`: what the facilitator can settle.
    pub async fn supported(&self) -> Result<SupportedResponse, FacilitatorError> {
        self.get("supported", None).await
    }

    /// `GET /v1/services/{service}`: a service and its terms.
    pub async fn service(&self, service: &Address) -> Result<ServiceInfo, FacilitatorError> {
        self.get(&format!("v1/services/{service}"), None).await
    }

    /// `GET /v1/payers/{payer}?mint=`: a payer's nonce account.
    pub async fn payer(
        &self,
        payer: &Address,
        mint: &Address,
    ) -> Result<PayerState, FacilitatorError> {
        let path = format!("v1/payers/{payer}");
        self.get(&path, Some(("mint", &mint.to_string()))).await
    }

    /// `GET /v1/intents/{digest}`: what became of a payment, as the facilitator words it. `digest` is hex.
    pub async fn intent(&self, digest: &str) -> Result<Value, FacilitatorError> {
        if digest.is_empty() || !digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let path = "v1/intents".to_owned();
            let problem = format!("{digest:?} is not a digest in hex");
            return Err(FacilitatorError::BadAnswer { path, problem });
        }
        self.get(&format!("v1/intents/{digest}"), None).await
    }

    fn url(&self, path: &str) -> Result<Url, FacilitatorError> {
        self.base.join(path).map_err(|error| bad_url(path, error))
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: Option<(&str, &str)>,
    ) -> Result<T, FacilitatorError> {
        let mut url = self.url(path)?;
        if let Some((name, value)) = query {
            url.query_pairs_mut().append_pair(name, value);
        }
        let (status, body) = call(path, self.http.get(url), CALL_TIMEOUT).await?;
        if !status.is_success() {
            return Err(refused(path, status, &body));
        }
        parse(path, &body)
    }

    async fn post(
        &self,
        path: &str,
        request: &FacilitatorRequest,
        timeout: Duration,
    ) -> Result<(StatusCode, Vec<u8>), FacilitatorError> {
        let request = self.http.post(self.url(path)?).json(request);
        call(path, request, timeout).await
    }
}

async fn call(
    path: &str,
    request: RequestBuilder,
    timeout: Duration,
) -> Result<(StatusCode, Vec<u8>), FacilitatorError> {
    let unreachable = |problem: String| FacilitatorError::Unreachable {
        path: path.to_owned(),
        problem,
    };
    let response = request
        .timeout(timeout)
        .send()
        .await
        .map_err(|error| unreachable(reasons(&error.without_url())))?;
    let status = response.status();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse().ok())
        .map(|seconds: u64| seconds.min(RETRY_AFTER_CAP));
    let body = body::read(response, ANSWER_CAP)
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return Err(FacilitatorError::Unavailable {
            path: path.to_owned(),
            status: status.as_u16(),
            retry_after,
            problem: excerpt(&body),
        });
    }
    Ok((status, body))
}

/// Reads a verdict. Some facilitators send a "no" with a 4xx status; a "yes" counts with a 2xx only.
fn verdict<T: DeserializeOwned>(
    path: &str,
    status: StatusCode,
    body: &[u8],
    is_yes: impl Fn(&T) -> bool,
) -> Result<T, FacilitatorError> {
    if status.is_success() {
        return parse(path, body);
    }
    match serde_json::from_slice(body) {
        Ok(answer) if status.is_client_error() && !is_yes(&answer) => Ok(answer),
        _ => Err(refused(path, status, body)),
    }
}

fn parse<T: DeserializeOwned>(path: &str, body: &[u8]) -> Result<T, FacilitatorError> {
    serde_json::from_slice(body).map_err(|error| FacilitatorError::BadAnswer {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}

fn refused(path: &str, status: StatusCode, body: &[u8]) -> FacilitatorError {
    FacilitatorError::Refused {
        path: path.to_owned(),
        status: status.as_u16(),
        reason: serde_json::from_slice::<Value>(body)
            .ok()
            .and_then(|body| body.get("error")?.as_str().map(str::to_owned)),
        problem: excerpt(body),
    }
}

fn bad_url(url: &str, problem: impl fmt::Display) -> FacilitatorError {
    FacilitatorError::BadUrl {
        url: url.to_owned(),
        problem: problem.to_string(),
    }
}

/// The message in an answer, or its head, fit for a log line.
fn excerpt(body: &[u8]) -> String {
    let message = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|body| body.get("message")?.as_str().map(str::to_owned));
    let text = message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(300)
        .collect();
    if line.trim().is_empty() {
        "no explanation".to_owned()
    } else {
        line
    }
}

/// A u64 as a decimal string, as the API writes it, or as a number, or null.
fn lenient_u64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
        Nothing(()),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(Some(number)),
        Either::Text(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
        Either::Nothing(()) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_base_with_a_path_keeps_it() {
        let with = Facilitator::new("https://example.com/x402?q#f").unwrap();
        assert_eq!(
            with.url("verify").unwrap().as_str(),
            "https://example.com/x402/verify"
        );
        let root = Facilitator::new("http://127.0.0.1:4020").unwrap();
        assert_eq!(
            root.url("v1/services/abc").unwrap().as_str(),
            "http://127.0.0.1:4020/v1/services/abc"
        );
    }

    #[test]
    fn a_base_that_is_no_http_url_is_refused() {
        for bad in ["", "example.com", "ftp://example.com", "file:///etc"] {
            let error = Facilitator::new(bad).unwrap_err();
            assert!(
                matches!(error, FacilitatorError::BadUrl { .. }),
                "{bad}: {error}"
            );
        }
    }

    #[test]
    fn a_yes_counts_with_a_2xx_only() {
        let yes = br#"{"success":true,"transaction":"t","network":"n"}"#;
        let no = br#"{"success":false,"errorReason":"r","transaction":"","network":"n"}"#;
        let read = |status: StatusCode, body: &[u8]| {
            verdict("settle", status, body, |answer: &SettleResponse| {
                answer.success
            })
        };
        assert!(read(StatusCode::OK, yes).unwrap().success);
        assert!(!read(StatusCode::CONFLICT, no).unwrap().success);
        assert!(read(StatusCode::CONFLICT, yes).is_err());
        assert!(read(StatusCode::FOUND, no).is_err());
    }

    #[test]
    fn a_payer_is_read_with_numbers_as_text_or_not() {
        let text = r#"{"payer":"p","mint":"m","nonceAccount":"n","openedSlot":"123",
            "lanes":[{"lane":0,"key":"k","nextNonce":"5","more":1},
                     {"lane":1,"key":null,"nextNonce":7},
                     {"lane":2,"open":false,"nextNonce":null}],"more":{}}"#;
        let state: PayerState = serde_json::from_str(text).unwrap();
        assert!(state.opened);
        assert_eq!(state.opened_slot, Some(123));
        let nonces: Vec<_> = state.lanes.iter().map(|lane| lane.next_nonce).collect();
        assert_eq!(nonces, [Some(5), Some(7), None]);
        assert_eq!(state.lanes[1].key, None);
        let closed = r#"{"nonceAccount":"n","opened":false,"openedSlot":null}"#;
        let state: PayerState = serde_json::from_str(closed).unwrap();
        assert!(!state.opened && state.lanes.is_empty());
    }

    #[test]
    fn a_refusal_keeps_the_facilitators_word() {
        let body = br#"{"error":"service_not_found","message":"create it","retriable":false}"#;
        let error = refused("v1/services/x", StatusCode::NOT_FOUND, body);
        let FacilitatorError::Refused {
            reason, problem, ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!(
            (reason.as_deref(), &*problem),
            (Some("service_not_found"), "create it")
        );
    }
}
