//! Reading the body of `/verify` and `/settle`: both versions of the protocol become one [`Payment`].

use serde::de::DeserializeOwned;
use serde_json::Value;
use sluice_intent::Digest;
use sluice_sdk::{
    Address, PROGRAM_ID, SignedIntent,
    x402::{
        FacilitatorRequest, Network, PaymentPayloadV1, PaymentPayloadV2, Requirements,
        RequirementsV1, RequirementsV2, SCHEME, SplitExtra, SplitPayload, Version,
    },
};

use crate::{
    ledger::Binding,
    reason::{Reason, Rejection},
};

/// A payment with the requirement it answers, decoded, before anything is asked of the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Payment {
    /// The version of the protocol.
    pub version: Version,
    /// The service (`payTo`).
    pub service: Address,
    /// The mint (`asset`).
    pub mint: Address,
    /// Atomic units of the mint.
    pub amount: u64,
    /// Seconds that the server waits for settlement.
    pub max_timeout_seconds: u64,
    /// The payer's nonce account.
    pub nonce_account: Address,
    /// The terms hash that the requirement shows, checked against the terms beside it.
    pub shown_terms: Option<[u8; 32]>,
    /// The id that the payer gave it, with the hash of the whole payload ([`crate::identifier::read`]). Left out by
    /// [`Payment::parse`].
    pub identifier: Option<Binding>,
    payload: SplitPayload,
    genesis_hash: [u8; 32],
}

/// Where a payment must belong to.
#[derive(Clone, Copy, Debug)]
pub struct Home {
    /// The relayer's network.
    pub network: Network,
    /// That cluster's genesis hash.
    pub genesis_hash: [u8; 32],
    /// The facilitator that the relayer settles for.
    pub facilitator: Address,
}

/// What both schemes ask for: who is to be paid how much of what.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The version of the protocol.
    pub version: Version,
    /// The scheme's name.
    pub scheme: String,
    /// `payTo`.
    pub pay_to: Address,
    /// The mint (`asset`).
    pub mint: Address,
    /// Atomic units.
    pub amount: u64,
    /// Seconds that the server waits for settlement.
    pub max_timeout_seconds: u64,
    /// What the scheme adds to the requirement.
    pub extra: Option<Value>,
    payload: Value,
}

impl Asked {
    /// Reads a request of one of `schemes`.
    pub fn read(
        request: &FacilitatorRequest,
        network: Network,
        schemes: &[&str],
    ) -> Result<Self, Rejection> {
        let version = version(&request.x402_version)?;
        let requirements = &request.payment_requirements;
        check_scheme(requirements, schemes)?;
        check_network(requirements, network)?;
        let (requirements, payload) = match version {
            Version::V2 => read_v2(request)?,
            Version::V1 => read_v1(request)?,
        };
        let amount_field = match version {
            Version::V1 => "maxAmountRequired",
            Version::V2 => "amount",
        };
        let amount = decimal(&requirements.amount).ok_or_else(|| {
            Rejection::new(
                Reason::Requirements,
                format!(
                    "{amount_field}: must be a decimal string of atomic units that fits 64 bits"
                ),
            )
        })?;
        Ok(Self {
            version,
            pay_to: address("payTo", &requirements.pay_to, Reason::Requirements)?,
            mint: address("asset", &requirements.asset, Reason::Requirements)?,
            scheme: requirements.scheme,
            amount,
            max_timeout_seconds: requirements.max_timeout_seconds,
            extra: requirements.extra.filter(|extra| !extra.is_null()),
            payload,
        })
    }

    /// The scheme's payload.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, Rejection> {
        read("payload", &self.payload, Reason::Payload)
    }
}

impl Payment {
    /// Reads a request. Needs nothing but the request and the relayer's own settings.
    pub fn parse(request: &FacilitatorRequest, home: &Home) -> Result<Self, Rejection> {
        Self::of(&Asked::read(request, home.network, &[SCHEME])?, home)
    }

    /// Reads what was asked.
    pub fn of(asked: &Asked, home: &Home) -> Result<Self, Rejection> {
        let payload: SplitPayload = asked.payload()?;
        let (service, mint) = (asked.pay_to, asked.mint);
        let shown_terms = shown_terms(asked.extra.as_ref(), &service, &mint, home)?;
        let payment = Self {
            version: asked.version,
            service,
            mint,
            amount: asked.amount,
            max_timeout_seconds: asked.max_timeout_seconds,
            nonce_account: address("nonceAccount", &payload.nonce_account, Reason::Payload)?,
            shown_terms,
            identifier: None,
            payload,
            genesis_hash: home.genesis_hash,
        };
        // Decodes every field of the payload, so that a wrong one is named before the chain is asked.
        payment.intent([0; 32])?;
        Ok(payment)
    }

    /// The signed intent under terms with this hash.
    pub fn intent(&self, terms_hash: [u8; 32]) -> Result<SignedIntent, Rejection> {
        self.payload
            .to_intent(self.genesis_hash, self.service, terms_hash, self.amount)
            .map_err(|error| Rejection::new(Reason::Payload, format!("payload.{error}")))
    }

    /// The digest, if the requirement shows the terms it was signed under.
    pub fn shown_digest(&self) -> Option<Digest> {
        let signed = self.intent(self.shown_terms?).ok()?;
        Some(signed.intent.digest())
    }
}

/// The version of a request; also used to answer requests that are wrong otherwise.
pub fn version(value: &Value) -> Result<Version, Rejection> {
    match value.as_u64() {
        Some(1) => Ok(Version::V1),
        Some(2) => Ok(Version::V2),
        _ => Err(Rejection::new(
            Reason::X402Version,
            format!("x402Version is {value}: this facilitator speaks 1 and 2"),
        )),
    }
}

fn check_scheme(requirements: &Value, schemes: &[&str]) -> Result<(), Rejection> {
    match requirements.get("scheme").and_then(Value::as_str) {
        Some(scheme) if schemes.contains(&scheme) => Ok(()),
        Some(other) => Err(Rejection::new(
            Reason::UnsupportedScheme,
            format!(
                "scheme {other:?}: this facilitator settles {}",
                schemes.join(" and ")
            ),
        )),
        None => Err(Rejection::new(
            Reason::Requirements,
            "paymentRequirements.scheme: must be a string",
        )),
    }
}

fn check_network(requirements: &Value, ours: Network) -> Result<(), Rejection> {
    let Some(name) = requirements.get("network").and_then(Value::as_str) else {
        return Err(Rejection::new(
            Reason::Requirements,
            "paymentRequirements.network: must be a string",
        ));
    };
    match name.parse::<Network>() {
        Ok(network) if network == ours => Ok(()),
        Ok(_) => Err(Rejection::new(
            Reason::Network,
            format!("network {name:?}: this facilitator settles on {ours}"),
        )),
        Err(error) => Err(Rejection::new(Reason::Network, error.to_string())),
    }
}

fn read_v2(request: &FacilitatorRequest) -> Result<(Requirements, Value), Rejection> {
    let wanted: RequirementsV2 = read(
        "paymentRequirements",
        &request.payment_requirements,
        Reason::Requirements,
    )?;
    check_payload_version(request, Version::V2)?;
    let payload: PaymentPayloadV2 =
        read("paymentPayload", &request.payment_payload, Reason::Payload)?;
    // As JSON, so that a field which this version does not know counts too.
    if request.payment_payload["accepted"] != request.payment_requirements {
        return Err(Rejection::new(
            Reason::Requirements,
            "paymentPayload.accepted differs from paymentRequirements: the client paid for something else than \
             the server asks for; it must take the requirements from a fresh 402",
        ));
    }
    Ok((wanted.into(), payload.payload))
}

fn read_v1(request: &FacilitatorRequest) -> Result<(Requirements, Value), Rejection> {
    let wanted: RequirementsV1 = read(
        "paymentRequirements",
        &request.payment_requirements,
        Reason::Requirements,
    )?;
    check_payload_version(request, Version::V1)?;
    let payload: PaymentPayloadV1 =
        read("paymentPayload", &request.payment_payload, Reason::Payload)?;
    let differs = |field: &str| format!("paymentPayload.{field} differs from paymentRequirements");
    if payload.scheme != wanted.scheme {
        return Err(Rejection::new(Reason::Scheme, differs("scheme")));
    }
    if payload.network != wanted.network {
        return Err(Rejection::new(Reason::Network, differs("network")));
    }
    Ok((wanted.into(), payload.payload))
}

fn check_payload_version(request: &FacilitatorRequest, version: Version) -> Result<(), Rejection> {
    let inner = &request.payment_payload["x402Version"];
    if inner.as_u64() == Some(u64::from(version.number())) {
        return Ok(());
    }
    Err(Rejection::new(
        Reason::X402Version,
        format!(
            "paymentPayload.x402Version is {inner}, and the request's is {}",
            version.number()
        ),
    ))
}

/// What `extra` claims must hold: program, service, facilitator and cluster are ours, and the terms hash is
/// the hash of the terms beside it. A server may leave the terms out.
fn shown_terms(
    extra: Option<&Value>,
    service: &Address,
    mint: &Address,
    home: &Home,
) -> Result<Option<[u8; 32]>, Rejection> {
    let Some(extra) = extra else {
        return Ok(None);
    };
    let genesis = Address::new_from_array(home.genesis_hash);
    let claims = [
        ("program", PROGRAM_ID, "the Sluice program"),
        ("service", *service, "payTo"),
        ("facilitator", home.facilitator, "this facilitator"),
        ("genesisHash", genesis, "this cluster's genesis hash"),
    ];
    for (field, ours, what) in claims {
        let claimed = &extra[field];
        if !claimed.is_null() && claimed.as_str() != Some(ours.to_string().as_str()) {
            return Err(Rejection::new(
                Reason::Requirements,
                format!("extra.{field} is {claimed}, and {what} is {ours}"),
            ));
        }
    }
    if extra.get("termsHash").is_none() {
        return Ok(None);
    }
    let extra: SplitExtra = read("extra", extra, Reason::Requirements)?;
    let hash = extra
        .checked_terms_hash(mint)
        .map_err(|error| Rejection::new(Reason::Requirements, format!("extra.{error}")))?;
    Ok(Some(hash))
}

fn read<T: DeserializeOwned>(
    what: &'static str,
    value: &Value,
    reason: Reason,
) -> Result<T, Rejection> {
    T::deserialize(value).map_err(|error| {
        let problem = error.to_string();
        let field = wrong_field::<T>(value, &problem)
            .map(|field| format!(".{field}"))
            .unwrap_or_default();
        Rejection::new(reason, format!("{what}{field}: {problem}"))
    })
}

/// The field whose type is wrong, which the parser does not tell: the one without which the error is another.
fn wrong_field<T: DeserializeOwned>(value: &Value, problem: &str) -> Option<String> {
    // No object of the protocol has more fields; a body of thousands is not worth the search.
    const MOST: usize = 32;
    let fields = value.as_object().filter(|fields| fields.len() <= MOST)?;
    if problem.starts_with("missing field") {
        return None;
    }
    let culprit = |name: &&String| {
        let mut rest = fields.clone();
        rest.remove(name.as_str());
        T::deserialize(Value::Object(rest))
            .err()
            .is_none_or(|error| error.to_string() != problem)
    };
    fields.keys().find(culprit).cloned()
}

fn address(field: &str, text: &str, reason: Reason) -> Result<Address, Rejection> {
    text.parse()
        .map_err(|_| Rejection::new(reason, format!("{field}: {text:?} is not a base58 address")))
}

/// A decimal without sign or blanks.
fn decimal(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}
