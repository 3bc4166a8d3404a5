//! An x402 client for the split scheme.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use sluice_client::{Facilitator, pay, x402::Network};
//! # let (wallet, genesis_hash) = (sluice_sdk::PROGRAM_ID, [0; 32]);
//! # let key = std::fs::read("key")?;
//! # let keypair = solana_keypair::Keypair::try_from(key.as_slice())?;
//!
//! let payer = pay::Payer {
//!     address: wallet,
//!     network: Network::Devnet,
//!     genesis_hash,
//!     policy: pay::Policy::none().allow(sluice_sdk::DEVNET_USDC, 10_000),
//! };
//! let facilitator = Facilitator::new("https://facilitator.example.com")?;
//! let nonces = Arc::new(pay::FacilitatorNonces::new(facilitator));
//! let client = pay::Client::new(pay::http_client()?, payer, nonces, Arc::new(keypair));
//!
//! let plan = client.plan("GET".parse()?, "https://api.example.com/report", Default::default(), "").await?;
//! println!("{} units, {} of them to the first recipient", plan.amount(), plan.shares().recipients[0]);
//! let receipt = match client.pay(plan).await {
//!     // The same signed payment again: it cannot be charged twice.
//!     Err(pay::Error::Unknown { sent, .. }) => client.retry(&sent).await?,
//!     other => other?,
//! };
//! println!("{} in {}", receipt.digest, receipt.transaction);
//! # Ok(())
//! # }
//! ```
//!
//! # One call, one signature
//!
//! [`Client::pay`] signs once and sends once. When no proof of settlement comes back, whatever the cause, the
//! error is [`Error::Unknown`] and carries what was sent: [`Client::retry`] sends exactly that again. A caller
//! that must survive its own end uses [`Client::sign`], writes the digest down, and then [`Client::send`].

mod error;
mod nonce;
mod payer;
mod plan;
mod receipt;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use sluice_sdk::{
    Address, IntentSigner, SignedIntent, UnsignedIntent,
    x402::{SettleResponse, from_header, to_header},
};
use solana_signer::SignerError;

use crate::body::{self, reasons};

pub use error::{Answer, Error};
pub use nonce::{FacilitatorNonces, FnNonces, NonceError, NonceGrant, NonceRequest, NonceSource};
pub use payer::{Payer, Policy};
pub use plan::Plan;
pub use receipt::{Leg, Receipt, Role};

use plan::{Offer, Request};

/// Most seconds that an intent of this client lives.
const MAX_LIFE: u64 = 300;
/// Seconds that an intent ends before the server's `maxTimeoutSeconds`, for clocks that differ.
const MARGIN: u64 = 10;
/// A 402 larger than this is none.
const REQUIRED_CAP: usize = 256 * 1024;
const DEFAULT_BODY_CAP: usize = 16 * 1024 * 1024;
const ASK_TIMEOUT: Duration = Duration::from_secs(30);
/// A server may check (15 s), serve, settle (90 s) and settle once more before it answers.
const PAY_TIMEOUT: Duration = Duration::from_secs(240);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP client as [`Client`] wants it: without redirects, which would carry a payment to a URL that it was
/// not signed for.
pub fn http_client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
}

/// Pays for HTTP requests.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    payer: Payer,
    nonces: Arc<dyn NonceSource>,
    signer: Arc<dyn IntentSigner + Send + Sync>,
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    body_cap: usize,
    pay_timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("payer", &self.payer)
            .finish_non_exhaustive()
    }
}

/// A signed payment, with the request that it pays for.
#[derive(Clone)]
pub struct Sent {
    plan: Plan,
    payer: Address,
    intent: SignedIntent,
    digest: String,
    header: HeaderValue,
}

impl Sent {
    /// What was planned.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Who pays.
    pub fn payer(&self) -> Address {
        self.payer
    }

    /// Hex of the digest, by which everybody names the payment.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The last unix second in which it may land. After that, and only if it has not landed, it never will.
    pub fn expires_at(&self) -> u32 {
        self.intent.intent.expires_at
    }

    /// The intent and its signature.
    pub fn intent(&self) -> &SignedIntent {
        &self.intent
    }
}

impl fmt::Debug for Sent {
    // Without the signature: whoever has it can have the payment settled.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sent")
            .field("digest", &self.digest)
            .field("payer", &self.payer)
            .field("expires_at", &self.expires_at())
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client that pays for `payer`. `signer` is the payer's own key or a session key; `nonces` must know a
    /// lane of that key.
    pub fn new(
        http: reqwest::Client,
        payer: Payer,
        nonces: Arc<dyn NonceSource>,
        signer: Arc<dyn IntentSigner + Send + Sync>,
    ) -> Self {
        Self {
            http,
            payer,
            nonces,
            signer,
            clock: Arc::new(system_time),
            body_cap: DEFAULT_BODY_CAP,
            pay_timeout: PAY_TIMEOUT,
        }
    }

    /// Takes the time from `clock`, in unix seconds, instead of the system.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Takes answers of up to `bytes` instead of 16 MiB.
    #[must_use]
    pub fn with_body_cap(mut self, bytes: usize) -> Self {
        self.body_cap = bytes;
        self
    }

    /// Waits `timeout` for a paid answer instead of 240 s.
    #[must_use]
    pub fn with_pay_timeout(mut self, timeout: Duration) -> Self {
        self.pay_timeout = timeout;
        self
    }

    /// Who pays.
    pub fn payer(&self) -> &Payer {
        &self.payer
    }

    /// Asks for the price of a request and checks it. Nothing is signed.
    ///
    /// Of what the server offers, the first `sluice-split` requirement is taken that is on the payer's cluster,
    /// whose terms hash is that of the terms shown, and whose amount the policy allows. A server that answers
    /// without asking for payment gives [`Error::NotAsked`], with its answer.
    pub async fn plan(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: impl Into<Vec<u8>>,
    ) -> Result<Plan, Error> {
        let request = Request::new(method, url, headers, body.into())?;
        let unreachable = |problem: String| Error::Unreachable {
            url: request.signed_url(),
            problem,
        };
        let response = self
            .request(&request)
            .timeout(ASK_TIMEOUT)
            .send()
            .await
            .map_err(|error| unreachable(reasons(&error.without_url())))?;
        if response.url().as_str() != request.signed_url() {
            return Err(Error::BadServer {
                problem: format!("it redirects to {}: ask for that", response.url()),
            });
        }
        let status = response.status();
        let is_402 = status == StatusCode::PAYMENT_REQUIRED;
        let headers = response.headers().clone();
        let cap = if is_402 { REQUIRED_CAP } else { self.body_cap };
        let body = body::read(response, cap)
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        let answer = Answer {
            status: status.as_u16(),
            headers,
            body,
        };
        if !is_402 {
            return Err(Error::NotAsked(Box::new(answer)));
        }
        let offer = Offer::find(&answer, &self.payer)?;
        Ok(Plan { request, offer })
    }

    /// Pays as planned: [`Client::sign`] and [`Client::send`].
    pub async fn pay(&self, plan: Plan) -> Result<Receipt, Error> {
        let sent = self.sign(plan).await?;
        self.send(&sent).await
    }

    /// Signs the payment, and sends nothing.
    ///
    /// The intent expires `maxTimeoutSeconds` from now less 10 seconds (or less a third, where that is
    /// shorter), and 300 seconds from now at the latest: the facilitator refuses an intent that outlives
    /// `maxTimeoutSeconds` by its own clock, and a short life bounds how long an outcome can be unknown.
    pub async fn sign(&self, plan: Plan) -> Result<Sent, Error> {
        let offer = &plan.offer;
        let asked = NonceRequest {
            payer: self.payer.address,
            mint: offer.mint,
            key: self.signer.key(),
        };
        let grant = self
            .nonces
            .next(&asked)
            .await
            .map_err(|error| match error {
                NonceError::NotOpened => Error::NotOpened {
                    payer: asked.payer,
                    mint: asked.mint,
                },
                other => Error::Nonce(other),
            })?;
        let expected = sluice_sdk::address::nonce_account(&asked.payer, &asked.mint).0;
        if grant.nonce_account != expected {
            return Err(Error::Nonce(NonceError::ForeignAccount {
                given: grant.nonce_account.to_string(),
                expected,
            }));
        }
        let unsigned = UnsignedIntent {
            genesis_hash: self.payer.genesis_hash,
            nonce_account: grant.nonce_account,
            opened_slot: grant.opened_slot,
            lane: grant.lane,
            service: offer.service,
            terms_hash: offer.terms_hash,
            amount: offer.amount,
            nonce: grant.nonce,
            expires_at: expiry((self.clock)(), offer.max_timeout_seconds)?,
            resource: plan.resource(),
        };
        let intent = unsigned.sign(self.signer.as_ref()).map_err(Error::Signer)?;
        if !intent.is_signed_by(asked.key.as_array()) {
            let problem = "the signature is not the key's".to_owned();
            return Err(Error::Signer(SignerError::Custom(problem)));
        }
        let unwritable = |error: &dyn std::error::Error| Error::BadServer {
            problem: format!("the payment cannot be written as a header: {error}"),
        };
        let payment = offer.payment(&intent).map_err(|e| unwritable(&e))?;
        let header = to_header(&payment).map_err(|e| unwritable(&e))?;
        let mut header = HeaderValue::from_str(&header).map_err(|e| unwritable(&e))?;
        header.set_sensitive(true);
        Ok(Sent {
            payer: self.payer.address,
            digest: hex::encode(unsigned.digest()),
            intent,
            header,
            plan,
        })
    }

    /// Sends a payment that was sent before, unchanged. It cannot be charged twice: what it bought may be
    /// had now, or the answer is [`Error::AlreadySettled`].
    pub async fn retry(&self, sent: &Sent) -> Result<Receipt, Error> {
        self.send(sent).await
    }

    /// Sends the request with its payment.
    pub async fn send(&self, sent: &Sent) -> Result<Receipt, Error> {
        let Plan { request, offer } = &sent.plan;
        let unknown = |problem: String, answer: Option<Answer>| Error::Unknown {
            problem,
            sent: Box::new(sent.clone()),
            answer: answer.map(Box::new),
        };
        let response = self
            .request(request)
            .header(offer.version.payment_header(), sent.header.clone())
            .timeout(self.pay_timeout)
            .send()
            .await
            .map_err(|error| unknown(reasons(&error.without_url()), None))?;
        if response.url().as_str() != request.signed_url() {
            return Err(unknown("the server redirected it".into(), None));
        }
        let status = response.status();
        let headers = response.headers().clone();
        let settled: Option<Result<SettleResponse, String>> =
            headers.get(offer.version.response_header()).map(|value| {
                let text = value.to_str().map_err(|error| error.to_string())?;
                from_header(text).map_err(|error| error.to_string())
            });

        if let Some(Ok(settled)) = &settled
            && settled.success
        {
            let content_type = headers.get(header::CONTENT_TYPE);
            let content_type = content_type.and_then(|value| value.to_str().ok());
            let content_type = content_type.map(str::to_owned);
            let mut receipt = Receipt::read(sent, status.as_u16(), content_type, settled)
                .map_err(|problem| unknown(problem, None))?;
            match body::read(response, self.body_cap).await {
                Ok(body) => receipt.body = body,
                Err(error) => {
                    return Err(Error::AnswerLost {
                        problem: error.to_string(),
                        receipt: Box::new(receipt),
                        sent: Box::new(sent.clone()),
                    });
                }
            }
            return Ok(receipt);
        }

        let answer = Answer {
            status: status.as_u16(),
            headers,
            // Of an answer without proof the body only helps to explain it.
            body: body::read(response, REQUIRED_CAP).await.unwrap_or_default(),
        };
        let (reason, message) = match settled {
            Some(Ok(settled)) => (
                settled
                    .error_reason
                    .unwrap_or_else(|| "payment_rejected".into()),
                settled.error_message.unwrap_or_default(),
            ),
            Some(Err(problem)) => {
                let problem = format!("its settlement cannot be read: {problem}");
                return Err(unknown(problem, Some(answer)));
            }
            None if status == StatusCode::PAYMENT_REQUIRED => plan::complaint(&answer)
                .unwrap_or_else(|| ("payment_rejected".into(), String::new())),
            None => {
                let problem = format!("answered with {status} and no settlement");
                return Err(unknown(problem, Some(answer)));
            }
        };
        Err(match reason.as_str() {
            "settlement_pending" => unknown("is still settling".into(), Some(answer)),
            "duplicate_settlement" => Error::AlreadySettled {
                sent: Box::new(sent.clone()),
            },
            _ => Error::Rejected {
                reason,
                message: if message.is_empty() {
                    "no more is said".into()
                } else {
                    message
                },
                sent: Box::new(sent.clone()),
            },
        })
    }

    fn request(&self, request: &Request) -> reqwest::RequestBuilder {
        self.http
            .request(request.method.clone(), request.url.clone())
            .headers(request.headers.clone())
            .body(request.body.clone())
    }
}

fn system_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0))
}

fn expiry(now: i64, max_timeout_seconds: u64) -> Result<u32, Error> {
    let margin = MARGIN.min(max_timeout_seconds / 3);
    let life = (max_timeout_seconds - margin).min(MAX_LIFE);
    let at = u64::try_from(now).ok().filter(|now| *now > 0);
    at.and_then(|now| u32::try_from(now.checked_add(life)?).ok())
        .ok_or(Error::Clock { now })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_intent_ends_before_the_server_stops_waiting() {
        assert_eq!(expiry(1_000, 60).unwrap(), 1_050);
        assert_eq!(expiry(1_000, 9).unwrap(), 1_006);
        assert_eq!(expiry(1_000, 1).unwrap(), 1_001);
        assert_eq!(expiry(1_000, 86_400).unwrap(), 1_300);
    }

    #[test]
    fn a_clock_that_is_not_set_signs_nothing() {
        for now in [-1, 0, i64::MAX, i64::from(u32::MAX)] {
            assert!(matches!(expiry(now, 60), Err(Error::Clock { .. })), "{now}");
        }
    }
}
