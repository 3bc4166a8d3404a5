//! A paywall for axum servers: a tower layer that sells a route for a fixed price.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, routing::get};
//! use sluice_client::paywall::Paywall;
//! # let service = sluice_sdk::PROGRAM_ID;
//!
//! let paywall = Paywall::connect(
//!     "https://facilitator.example.com",
//!     service,
//!     "https://api.example.com",
//! )
//! .await?;
//! let app: Router = Router::new()
//!     .route("/report", get(async || "worth a cent"))
//!     .route_layer(paywall.price(10_000))
//!     .route("/free", get(async || "worth nothing"));
//! # Ok(())
//! # }
//! ```
//!
//! # What happens to a request
//!
//! 1. Without a payment it is answered 402, for clients of both versions at once: header `PAYMENT-REQUIRED`
//!    (v2) and a JSON body (v1).
//! 2. With a payment (`PAYMENT-SIGNATURE` or `X-PAYMENT`): the payment must be for this method, this URL and
//!    this body, and answer what is asked now. The facilitator cannot check the first, so the layer does.
//! 3. The facilitator verifies it. The handler runs, and finds a [`Paid`] among the request's extensions.
//! 4. If the handler's status is 400 or above its answer goes out, and nothing is charged. Else the facilitator
//!    settles, and the answer goes out when the payment has landed, with the settlement in a header.
//!
//! Whenever the facilitator cannot be asked the answer is 503 with `Retry-After`, and nothing is released. The
//! client then sends the same payment again, which cannot be charged twice.
//!
//! A handler runs before its payment has landed. One whose effects outlive the request (an order, a message)
//! should wait for something better than [`Paid`]: it may run for several copies of one payment, of which one
//! alone is answered.
//!
//! Use [`route_layer`](axum::Router::route_layer), and CORS layers outside this one: a preflight pays nothing.

mod gate;
mod layer;
mod offer;

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use serde_json::Value;
use sluice_sdk::{
    Address, PROGRAM_ID,
    x402::{Network, WireError},
};
use url::Url;

use crate::facilitator::{Facilitator, FacilitatorError, ServiceInfo};

pub use gate::Paid;
pub use layer::{PriceLayer, Priced};
pub use offer::RESOURCE_MISMATCH;

const DEFAULT_MAX_TIMEOUT_SECONDS: u64 = 60;
const DEFAULT_BODY_CAP: usize = 1024 * 1024;
const DEFAULT_BODY_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_TERMS_AGE: Duration = Duration::from_secs(60);
/// After a refusal, which may mean that the terms have changed, they are loaded again this many times sooner.
const SOONER: u32 = 12;

/// Why a paywall cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PaywallError {
    /// The facilitator does not show the service.
    #[error(transparent)]
    Facilitator(#[from] FacilitatorError),
    /// The public base URL is none.
    #[error("the public base URL {url:?} cannot be used: {problem}")]
    BadBase {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// What the facilitator shows is of another service, or of none that can be paid.
    #[error("the facilitator shows a service that cannot be used: {0}")]
    BadService(WireError),
}

/// A service to be paid, at one facilitator. Cheap to clone; make one and price many routes with it.
#[derive(Clone, Debug)]
pub struct Paywall {
    wall: Arc<Wall>,
}

/// Sets a [`Paywall`] up.
#[derive(Clone, Debug)]
pub struct Builder {
    facilitator: Result<Facilitator, FacilitatorError>,
    service: Address,
    public_base: String,
    max_timeout_seconds: u64,
    body_cap: usize,
    body_timeout: Duration,
    terms_age: Duration,
}

impl Builder {
    /// Reaches the facilitator through a client that the caller has set up.
    #[must_use]
    pub fn facilitator(mut self, facilitator: Facilitator) -> Self {
        self.facilitator = Ok(facilitator);
        self
    }

    /// Lets intents live this many seconds instead of 60. The program's own limit holds where it is lower.
    #[must_use]
    pub fn max_timeout_seconds(mut self, seconds: u64) -> Self {
        self.max_timeout_seconds = seconds.max(1);
        self
    }

    /// Takes request bodies of up to `bytes` instead of 1 MiB. They are read whole: a payment is for the body
    /// as well.
    #[must_use]
    pub fn body_cap(mut self, bytes: usize) -> Self {
        self.body_cap = bytes;
        self
    }

    /// Waits this long for a request's body instead of 30 s.
    #[must_use]
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body_timeout = timeout;
        self
    }

    /// Loads the terms again when they are this old, instead of 60 s. A service's terms may change; until they
    /// are loaded again, payments for the old ones are refused, and none is charged.
    #[must_use]
    pub fn terms_age(mut self, age: Duration) -> Self {
        self.terms_age = age;
        self
    }

    /// Loads the service from the facilitator and checks it.
    pub async fn connect(self) -> Result<Paywall, PaywallError> {
        let base = public_base(&self.public_base)?;
        let facilitator = self.facilitator?;
        let terms = Terms::load(&facilitator, &self.service).await?;
        Ok(Paywall {
            wall: Arc::new(Wall {
                facilitator,
                service: self.service,
                base,
                max_timeout_seconds: self.max_timeout_seconds,
                body_cap: self.body_cap,
                body_timeout: self.body_timeout,
                terms: RwLock::new(Arc::new(terms)),
                terms_age: self.terms_age,
                tried: tokio::sync::Mutex::new(Instant::now()),
            }),
        })
    }
}

impl Paywall {
    /// Loads a service from a facilitator.
    ///
    /// `public_base` is what stands before the path in the URLs that clients ask for, like
    /// `https://api.example.com`. It is configured, and not taken from the request's `Host`, because a payment
    /// is for a URL and the sender of a request chooses its `Host`.
    pub async fn connect(
        facilitator_url: &str,
        service: Address,
        public_base: &str,
    ) -> Result<Self, PaywallError> {
        Self::builder(facilitator_url, service, public_base)
            .connect()
            .await
    }

    /// The same, with settings.
    pub fn builder(facilitator_url: &str, service: Address, public_base: &str) -> Builder {
        Builder {
            facilitator: Facilitator::new(facilitator_url),
            service,
            public_base: public_base.to_owned(),
            max_timeout_seconds: DEFAULT_MAX_TIMEOUT_SECONDS,
            body_cap: DEFAULT_BODY_CAP,
            body_timeout: DEFAULT_BODY_TIMEOUT,
            terms_age: DEFAULT_TERMS_AGE,
        }
    }

    /// A layer that asks `amount` atomic units for each request. It must be at least the service's minimum.
    pub fn price(&self, amount: u64) -> PriceLayer {
        let least = self.wall.known_terms().info.min_payment.unwrap_or(1);
        if amount < least {
            let service = self.wall.service;
            tracing::warn!(%service, amount, least, "a price below the service's minimum: nobody can pay it");
        }
        PriceLayer::new(self.wall.clone(), amount)
    }

    /// The facilitator.
    pub fn facilitator(&self) -> &Facilitator {
        &self.wall.facilitator
    }

    /// The service as it was loaded last.
    pub fn service(&self) -> ServiceInfo {
        self.wall.known_terms().info.clone()
    }
}

/// What every price of a paywall shares.
#[derive(Debug)]
struct Wall {
    facilitator: Facilitator,
    service: Address,
    /// Without a slash at its end.
    base: String,
    max_timeout_seconds: u64,
    body_cap: usize,
    body_timeout: Duration,
    terms_age: Duration,
    terms: RwLock<Arc<Terms>>,
    /// When the terms were asked for last. Held meanwhile, so that one request waits for them and the others use
    /// what is known; a facilitator that does not answer slows one request in every age, not all.
    tried: tokio::sync::Mutex<Instant>,
}

/// A service's terms, checked.
#[derive(Debug)]
struct Terms {
    info: ServiceInfo,
    extra: Value,
    network: Network,
    genesis_hash: [u8; 32],
    hash: [u8; 32],
}

impl Terms {
    async fn load(facilitator: &Facilitator, service: &Address) -> Result<Self, PaywallError> {
        Self::check(facilitator.service(service).await?, service).map_err(PaywallError::BadService)
    }

    fn check(info: ServiceInfo, service: &Address) -> Result<Self, WireError> {
        let wrong = |field, problem: String| WireError { field, problem };
        let expected = service.to_string();
        let named = [
            ("service", &info.service, &expected),
            ("payTo", &info.pay_to, &expected),
            ("extra.service", &info.extra.service, &expected),
            (
                "extra.program",
                &info.extra.program,
                &PROGRAM_ID.to_string(),
            ),
        ];
        for (field, found, expected) in named {
            if found != expected {
                return Err(wrong(field, format!("{found} instead of {expected}")));
            }
        }
        if info.settles_here == Some(false) {
            let problem = "this facilitator does not settle for it: it is closed, of another \
                           facilitator, or its mint is switched off";
            return Err(wrong("service", problem.to_owned()));
        }
        let mint: Address = info
            .asset
            .parse()
            .map_err(|_| wrong("asset", format!("{:?} is not an address", info.asset)))?;
        let network = info
            .network
            .parse()
            .map_err(|error: sluice_sdk::x402::UnknownNetwork| {
                wrong("network", error.to_string())
            })?;
        let hash = info.extra.checked_terms_hash(&mint)?;
        let genesis_hash = info.extra.genesis_hash()?;
        let extra =
            serde_json::to_value(&info.extra).map_err(|error| wrong("extra", error.to_string()))?;
        Ok(Self {
            info,
            extra,
            network,
            genesis_hash,
            hash,
        })
    }
}

impl Wall {
    /// An intent that lived longer than the program allows would be refused.
    fn max_timeout_seconds(&self, terms: &Terms) -> u64 {
        let most = terms.info.max_intent_ttl.filter(|most| *most > 0);
        most.unwrap_or(u64::MAX).min(self.max_timeout_seconds)
    }

    fn known_terms(&self) -> Arc<Terms> {
        // The lock guards one assignment, so a poisoned one still holds a whole value.
        let terms = self.terms.read().unwrap_or_else(PoisonError::into_inner);
        terms.clone()
    }

    /// The terms, loaded again when they are old. When that fails the known ones serve on: if they have changed,
    /// the facilitator refuses the payment and nothing is charged.
    async fn fresh_terms(&self, refused: bool) -> Arc<Terms> {
        let age = if refused {
            self.terms_age / SOONER
        } else {
            self.terms_age
        };
        let known = self.known_terms();
        let Ok(mut tried) = self.tried.try_lock() else {
            return known;
        };
        if tried.elapsed() < age {
            return known;
        }
        *tried = Instant::now();
        match Terms::load(&self.facilitator, &self.service).await {
            Ok(terms) => {
                let terms = Arc::new(terms);
                let mut known = self.terms.write().unwrap_or_else(PoisonError::into_inner);
                *known = terms.clone();
                terms
            }
            Err(error) => {
                tracing::warn!(service = %self.service, %error, "terms not loaded again");
                known
            }
        }
    }
}

fn public_base(text: &str) -> Result<String, PaywallError> {
    let bad = |problem: String| PaywallError::BadBase {
        url: text.to_owned(),
        problem,
    };
    let url = Url::parse(text).map_err(|error| bad(error.to_string()))?;
    let web = matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    let bare = url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if !web || !bare {
        return Err(bad(
            "it must be an http or https URL without query, fragment and credentials".into(),
        ));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn a_base_is_written_as_clients_write_it() {
        let base = |text: &str| public_base(text).unwrap();
        assert_eq!(
            base("https://API.example.com:443/"),
            "https://api.example.com"
        );
        assert_eq!(base("http://127.0.0.1:8080"), "http://127.0.0.1:8080");
        assert_eq!(base("https://example.com/api/"), "https://example.com/api");
        for bad in [
            "example.com",
            "ftp://a",
            "https://a/?q",
            "https://u@a",
            "https://a/#f",
        ] {
            assert!(public_base(bad).is_err(), "{bad}");
        }
    }
}
