use std::{fmt, str::FromStr};

use http::{HeaderMap, Method};
use serde_json::{Value, json};
use sluice_intent::{Resource, Shares};
use sluice_sdk::{
    Address, PROGRAM_ID, SignedIntent,
    x402::{
        Network, REQUIRED_HEADER, Requirements, RequirementsV1, RequirementsV2, SCHEME, SplitExtra,
        SplitPayload, Version, WireError, from_header,
    },
};
use url::Url;

use super::{Answer, Error, Payer};

/// A payment that was checked and not yet signed.
#[derive(Clone)]
pub struct Plan {
    pub(super) request: Request,
    pub(super) offer: Offer,
}

/// The request that is paid for.
#[derive(Clone)]
pub(super) struct Request {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// What the server asks, checked.
#[derive(Clone)]
pub(super) struct Offer {
    pub version: Version,
    /// The requirement as the server wrote it: it must be sent back unchanged.
    accepted: Value,
    resource: Option<Value>,
    extensions: Option<Value>,
    pub network: Network,
    pub service: Address,
    pub mint: Address,
    pub amount: u64,
    pub max_timeout_seconds: u64,
    pub terms: SplitExtra,
    pub terms_hash: [u8; 32],
    pub shares: Shares,
}

impl Plan {
    /// The URL that is paid for, as it is signed.
    pub fn url(&self) -> String {
        self.request.signed_url()
    }

    /// The method of the request.
    pub fn method(&self) -> &Method {
        &self.request.method
    }

    /// The protocol's version that the server speaks.
    pub fn version(&self) -> Version {
        self.offer.version
    }

    /// What is asked, in atomic units of the mint.
    pub fn amount(&self) -> u64 {
        self.offer.amount
    }

    /// The mint.
    pub fn mint(&self) -> Address {
        self.offer.mint
    }

    /// The network.
    pub fn network(&self) -> Network {
        self.offer.network
    }

    /// The service that is paid.
    pub fn service(&self) -> Address {
        self.offer.service
    }

    /// The terms: who receives which share. Their hash was recomputed.
    pub fn terms(&self) -> &SplitExtra {
        &self.offer.terms
    }

    /// The hash of the terms, which the payer signs.
    pub fn terms_hash(&self) -> [u8; 32] {
        self.offer.terms_hash
    }

    /// How the amount is divided when it is settled alone; recipients in the order of the terms.
    pub fn shares(&self) -> &Shares {
        &self.offer.shares
    }

    /// Seconds that the server waits for settlement.
    pub fn max_timeout_seconds(&self) -> u64 {
        self.offer.max_timeout_seconds
    }

    /// The tag that ties the payment to method, URL and body.
    pub fn resource(&self) -> Resource {
        let Request { method, body, .. } = &self.request;
        crate::request_tag(method.as_str(), &self.url(), body)
    }
}

impl fmt::Debug for Plan {
    // Without headers and body: they may hold the caller's secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("method", &self.request.method)
            .field("url", &self.request.signed_url())
            .field("amount", &self.offer.amount)
            .field("mint", &self.offer.mint)
            .field("service", &self.offer.service)
            .finish_non_exhaustive()
    }
}

impl Request {
    pub(super) fn new(
        method: Method,
        url: &str,
        mut headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Self, Error> {
        // Two payments in one request would leave the choice to the server.
        for version in [Version::V1, Version::V2] {
            headers.remove(version.payment_header());
        }
        let bad = |problem: String| Error::BadRequest { problem };
        let mut parsed = Url::parse(url).map_err(|error| bad(format!("{url:?}: {error}")))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(bad(format!("{url:?} is not an http or https URL")));
        }
        parsed.set_fragment(None);
        Ok(Self {
            method,
            url: parsed,
            headers,
            body,
        })
    }

    /// The URL as the server sees it.
    pub(super) fn signed_url(&self) -> String {
        let mut url = self.url.clone();
        // Both fail only for URLs that cannot hold credentials.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.into()
    }
}

/// Why a server does not serve, as its 402 says.
pub(super) fn complaint(answer: &Answer) -> Option<(String, String)> {
    let (_, required) = required(answer).ok()?;
    let text = |name: &str| {
        required
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let reason = text("error").filter(|reason| !reason.is_empty())?;
    Some((reason, text("errorMessage").unwrap_or_default()))
}

/// The 402 as JSON, and the version it is of. A server may send both; the later version wins.
fn required(answer: &Answer) -> Result<(Version, Value), Error> {
    let bad = |problem: String| Error::BadServer { problem };
    if let Some(header) = answer.headers.get(REQUIRED_HEADER) {
        let text = header
            .to_str()
            .map_err(|_| bad(format!("{REQUIRED_HEADER} is not text")))?;
        let value =
            from_header(text).map_err(|error| bad(format!("{REQUIRED_HEADER}: {error}")))?;
        return Ok((Version::V2, value));
    }
    let value = serde_json::from_slice(&answer.body).map_err(|error| {
        bad(format!(
            "the 402 has neither a header {REQUIRED_HEADER} nor a body of version 1: {error}"
        ))
    })?;
    Ok((Version::V1, value))
}

impl Offer {
    /// Finds the split scheme in a 402 and checks everything that can be checked before signing.
    pub(super) fn find(answer: &Answer, payer: &Payer) -> Result<Self, Error> {
        let (version, required) = required(answer)?;
        let says = required.get("x402Version").and_then(Value::as_u64);
        if says != Some(u64::from(version.number())) {
            let problem = format!("the 402 is not of x402 version {}", version.number());
            return Err(Error::BadServer { problem });
        }
        let accepts = required
            .get("accepts")
            .and_then(Value::as_array)
            .ok_or_else(|| Error::BadServer {
                problem: "the 402 has no list `accepts`".into(),
            })?;
        let scheme = |entry: &Value| {
            let scheme = entry.get("scheme").and_then(Value::as_str);
            scheme.unwrap_or("(unnamed)").to_owned()
        };
        let mut refusal = None;
        // A server may offer several mints or clusters: the first offer that passes is taken, and when none
        // does the first refusal is the one to tell.
        for entry in accepts.iter().filter(|entry| scheme(entry) == SCHEME) {
            match Self::check(version, entry, &required, payer) {
                Ok(offer) => return Ok(offer),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.unwrap_or_else(|| Error::NoSplitOffer {
            schemes: accepts.iter().map(scheme).collect(),
        }))
    }

    fn check(
        version: Version,
        entry: &Value,
        required: &Value,
        payer: &Payer,
    ) -> Result<Self, Error> {
        let asked = read(version, entry)?;
        let network = match Network::from_str(&asked.network) {
            Ok(network) if network == payer.network => network,
            _ => {
                return Err(Error::WrongCluster {
                    field: "network",
                    asked: asked.network,
                    expected: payer.network.to_string(),
                });
            }
        };
        let extra = asked.extra.ok_or_else(|| bad("extra", "is missing"))?;
        let terms: SplitExtra =
            serde_json::from_value(extra).map_err(|error| bad("extra", &error.to_string()))?;
        let genesis_hash = terms.genesis_hash().map_err(wire)?;
        if genesis_hash != payer.genesis_hash {
            return Err(Error::WrongCluster {
                field: "genesis hash",
                asked: terms.genesis_hash,
                expected: Address::new_from_array(payer.genesis_hash).to_string(),
            });
        }
        let mint = address("asset", &asked.asset)?;
        let service = address("payTo", &asked.pay_to)?;
        let terms_hash = terms
            .checked_terms_hash(&mint)
            .map_err(Error::TermsMismatch)?;
        let differs = |field, problem: String| Error::TermsMismatch(WireError { field, problem });
        if terms.service != asked.pay_to {
            let problem = format!("{} is not payTo, {}", terms.service, asked.pay_to);
            return Err(differs("service", problem));
        }
        if terms.program != PROGRAM_ID.to_string() {
            let problem = format!("{} is not the Sluice program, {PROGRAM_ID}", terms.program);
            return Err(differs("program", problem));
        }
        let digits = asked.amount.bytes().all(|byte| byte.is_ascii_digit());
        let amount = match asked.amount.parse() {
            Ok(amount) if digits && amount > 0 => amount,
            _ => return Err(bad("amount", &format!("{:?} is no amount", asked.amount))),
        };
        let limit = payer.policy.limit(&mint);
        if amount > limit {
            return Err(Error::OverPolicy {
                mint,
                amount,
                limit,
            });
        }
        if asked.max_timeout_seconds == 0 {
            return Err(bad("maxTimeoutSeconds", "leaves no time to settle in"));
        }
        let shares = terms.shares(amount).map_err(wire)?;
        Ok(Self {
            version,
            accepted: entry.clone(),
            resource: required.get("resource").cloned(),
            extensions: required.get("extensions").cloned(),
            network,
            service,
            mint,
            amount,
            max_timeout_seconds: asked.max_timeout_seconds,
            terms,
            terms_hash,
            shares,
        })
    }

    /// The payment, as the header carries it.
    pub(super) fn payment(&self, signed: &SignedIntent) -> Result<Value, serde_json::Error> {
        let payload = serde_json::to_value(SplitPayload::of_intent(signed))?;
        if self.version == Version::V1 {
            return Ok(json!({
                "x402Version": 1,
                "scheme": SCHEME,
                "network": self.network.v1_name(),
                "payload": payload,
            }));
        }
        let mut payment = json!({
            "x402Version": 2,
            "accepted": self.accepted,
            "payload": payload,
        });
        for (name, value) in [
            ("resource", &self.resource),
            ("extensions", &self.extensions),
        ] {
            if let Some(value) = value.as_ref().filter(|value| !value.is_null()) {
                payment[name] = value.clone();
            }
        }
        Ok(payment)
    }
}

fn read(version: Version, entry: &Value) -> Result<Requirements, Error> {
    let read = match version {
        Version::V1 => serde_json::from_value::<RequirementsV1>(entry.clone()).map(Into::into),
        Version::V2 => serde_json::from_value::<RequirementsV2>(entry.clone()).map(Into::into),
    };
    read.map_err(|error| bad("accepts", &error.to_string()))
}

fn address(field: &'static str, text: &str) -> Result<Address, Error> {
    Address::from_str(text).map_err(|_| bad(field, &format!("{text:?} is not an address")))
}

fn bad(field: &str, problem: &str) -> Error {
    Error::BadServer {
        problem: format!("{field}: {problem}"),
    }
}

fn wire(error: WireError) -> Error {
    bad(error.field, &error.problem)
}
