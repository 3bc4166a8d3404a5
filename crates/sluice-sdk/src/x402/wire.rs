use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use serde_json::Value;

/// The protocol's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// Version 1.
    V1,
    /// Version 2.
    V2,
}

impl Version {
    /// The number on the wire.
    pub fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// The request header that carries a payment.
    pub fn payment_header(self) -> &'static str {
        match self {
            Self::V1 => "X-PAYMENT",
            Self::V2 => "PAYMENT-SIGNATURE",
        }
    }

    /// The response header that carries the settlement.
    pub fn response_header(self) -> &'static str {
        match self {
            Self::V1 => "X-PAYMENT-RESPONSE",
            Self::V2 => "PAYMENT-RESPONSE",
        }
    }
}

/// The response header with a version 2 server's requirements, beside status 402.
pub const REQUIRED_HEADER: &str = "PAYMENT-REQUIRED";

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            1 => Ok(Self::V1),
            2 => Ok(Self::V2),
            other => Err(serde::de::Error::custom(format!(
                "x402Version {other} is not 1 or 2"
            ))),
        }
    }
}

/// What a server asks for, version 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequirementsV2 {
    /// The scheme's name.
    pub scheme: String,
    /// CAIP-2.
    pub network: String,
    /// Atomic units.
    pub amount: String,
    /// The mint.
    pub asset: String,
    /// Who is paid; for the split scheme the service.
    pub pay_to: String,
    /// Seconds that the server will wait for settlement.
    pub max_timeout_seconds: u64,
    /// What the scheme adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
}

/// What a server asks for, version 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequirementsV1 {
    /// The scheme's name.
    pub scheme: String,
    /// `solana`, `solana-devnet` or `solana-testnet`.
    pub network: String,
    /// Atomic units.
    pub max_amount_required: String,
    /// The URL that is paid for.
    pub resource: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Of the answer.
    #[serde(default)]
    pub mime_type: String,
    /// Shape of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    /// Who is paid; for the split scheme the service.
    pub pay_to: String,
    /// Seconds that the server will wait for settlement.
    pub max_timeout_seconds: u64,
    /// The mint.
    pub asset: String,
    /// What the scheme adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
}

/// A requirement of either version, as the rest of the code sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Requirements {
    /// The version it came in.
    pub version: Version,
    /// The scheme's name.
    pub scheme: String,
    /// The network's name, not yet parsed.
    pub network: String,
    /// Atomic units, not yet parsed.
    pub amount: String,
    /// The mint, not yet parsed.
    pub asset: String,
    /// Who is paid, not yet parsed.
    pub pay_to: String,
    /// Seconds that the server will wait for settlement.
    pub max_timeout_seconds: u64,
    /// What the scheme adds.
    pub extra: Option<Value>,
}

impl From<RequirementsV2> for Requirements {
    fn from(r: RequirementsV2) -> Self {
        Self {
            version: Version::V2,
            scheme: r.scheme,
            network: r.network,
            amount: r.amount,
            asset: r.asset,
            pay_to: r.pay_to,
            max_timeout_seconds: r.max_timeout_seconds,
            extra: r.extra,
        }
    }
}

impl From<RequirementsV1> for Requirements {
    fn from(r: RequirementsV1) -> Self {
        Self {
            version: Version::V1,
            scheme: r.scheme,
            network: r.network,
            amount: r.max_amount_required,
            asset: r.asset,
            pay_to: r.pay_to,
            max_timeout_seconds: r.max_timeout_seconds,
            extra: r.extra,
        }
    }
}

/// What is sold, version 2.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceInfo {
    /// Its URL.
    pub url: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub other: serde_json::Map<String, Value>,
}

/// The 402 of a version 2 server: header [`REQUIRED_HEADER`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequiredV2 {
    /// 2.
    pub x402_version: Version,
    /// Why the request was not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What is sold.
    pub resource: ResourceInfo,
    /// Ways to pay; one is enough.
    pub accepts: Vec<RequirementsV2>,
    /// Extensions of the protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Value>,
}

/// The 402 of a version 1 server: its body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequiredV1 {
    /// 1.
    pub x402_version: Version,
    /// Why the request was not served.
    #[serde(default)]
    pub error: String,
    /// Ways to pay; one is enough.
    pub accepts: Vec<RequirementsV1>,
}

/// A payment, version 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentPayloadV2 {
    /// 2.
    pub x402_version: Version,
    /// What is bought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<ResourceInfo>,
    /// The requirement that the client chose.
    pub accepted: RequirementsV2,
    /// What the scheme defines.
    pub payload: Value,
    /// Extensions of the protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Value>,
}

/// A payment, version 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentPayloadV1 {
    /// 1.
    pub x402_version: Version,
    /// The scheme's name.
    pub scheme: String,
    /// The network's name.
    pub network: String,
    /// What the scheme defines.
    pub payload: Value,
}

/// The body of `/verify` and `/settle`. The two inner parts are read by version later, so that a wrong field
/// in them can be answered with a reason instead of a refused request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FacilitatorRequest {
    /// 1 or 2.
    pub x402_version: Value,
    /// The payment.
    pub payment_payload: Value,
    /// What the server asks for.
    pub payment_requirements: Value,
}

/// The answer of `/verify`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerifyResponse {
    /// Whether the payment would settle now.
    pub is_valid: bool,
    /// Why not, in the field's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_reason: Option<String>,
    /// Why not, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid_message: Option<String>,
    /// Who pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// What the scheme adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
}

/// The answer of `/settle`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettleResponse {
    /// Whether the payment landed, answered once for each payment.
    pub success: bool,
    /// Why not, in the field's words; `settlement_pending` when nobody knows yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<String>,
    /// Why not, and what to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Who pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// The transaction's signature; empty for none.
    pub transaction: String,
    /// The network's name, in the version of the request.
    pub network: String,
    /// Atomic units that were settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// What the scheme adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
}

/// A way to pay that a facilitator knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SupportedKind {
    /// The version.
    pub x402_version: Version,
    /// The scheme's name.
    pub scheme: String,
    /// The network's name in that version.
    pub network: String,
    /// What the scheme adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
}

/// The answer of `/supported`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SupportedResponse {
    /// Ways to pay.
    pub kinds: Vec<SupportedKind>,
    /// Extensions of the protocol.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Fee payers by network pattern.
    #[serde(default)]
    pub signers: std::collections::BTreeMap<String, Vec<String>>,
}

/// Why a header could not be read.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// Not base64.
    #[error("the header is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// Not the JSON that was expected.
    #[error("the header's JSON is not what the protocol defines: {0}")]
    Json(#[from] serde_json::Error),
}

/// Writes a value as a header: base64 of its JSON.
pub fn to_header<T: Serialize>(value: &T) -> Result<String, HeaderError> {
    Ok(STANDARD.encode(serde_json::to_vec(value)?))
}

/// Reads what [`to_header`] wrote.
pub fn from_header<T: DeserializeOwned>(header: &str) -> Result<T, HeaderError> {
    Ok(serde_json::from_slice(&STANDARD.decode(header.trim())?)?)
}
