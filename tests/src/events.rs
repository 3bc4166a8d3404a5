//! What a transaction's log says happened, decoded by the published IDL and nothing else.

use std::{path::PathBuf, sync::OnceLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use sluice_sdk::Address;

use crate::outcome::Outcome;

/// The IDL in the repository.
pub fn idl() -> &'static Value {
    static IDL: OnceLock<Value> = OnceLock::new();
    IDL.get_or_init(|| {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../idl/sluice.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    })
}

/// Tokens that left a vault outside a settle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paid {
    /// The service.
    pub service: Address,
    /// Atomic units that were divided.
    pub divided: u64,
    /// Token account and amount of each transfer.
    pub legs: Vec<(Address, u64)>,
}

impl Outcome {
    /// Every event in the log with its name, in order.
    pub fn events(&self) -> Vec<(String, Value)> {
        assert!(
            !self.logs.iter().any(|line| line == "Log truncated"),
            "the log was cut off: {:#?}",
            self.logs
        );
        self.logs
            .iter()
            .filter_map(|line| line.strip_prefix("Program data: "))
            .map(|text| decode("events", &STANDARD.decode(text).unwrap()))
            .collect()
    }

    /// The accounts that changed, with their data as it is after that change.
    pub fn changed(&self) -> Vec<(Address, Vec<u8>)> {
        let events = self.events().into_iter();
        let changed = events.filter(|(name, _)| name == "Changed");
        changed
            .map(|(_, event)| (address(&event["account"]), bytes(&event["data"])))
            .collect()
    }

    /// The money that left a vault outside a settle: at most one event, or none.
    pub fn paid(&self) -> Option<Paid> {
        let events = self.events().into_iter();
        let mut paid = events.filter(|(name, _)| name == "Paid");
        let (_, event) = paid.next()?;
        assert!(paid.next().is_none(), "one instruction, one event");
        let legs = event["legs"].as_array().unwrap().iter();
        Some(Paid {
            service: address(&event["service"]),
            divided: event["divided"].as_u64().unwrap(),
            legs: legs
                .map(|leg| {
                    let amount = leg["amount"].as_u64().unwrap();
                    (address(&leg["token_account"]), amount)
                })
                .collect(),
        })
    }
}

fn address(value: &Value) -> Address {
    value.as_str().unwrap().parse().unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    let bytes = value.as_array().unwrap().iter();
    bytes
        .map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap())
        .collect()
}

/// Reads data by the IDL's list of `kind` (`events` or `accounts`): the name of what it is, and its fields. No byte may
/// be left over.
pub fn decode(kind: &str, data: &[u8]) -> (String, Value) {
    let known = idl()[kind].as_array().unwrap().iter();
    let mut fitting = known.filter(|row| data.starts_with(&bytes(&row["discriminator"])));
    let name = fitting.next().expect("in the IDL")["name"]
        .as_str()
        .unwrap();
    let mut reader = Reader(&data[8..]);
    let value = reader.defined(name);
    assert!(
        reader.0.is_empty(),
        "{name}: bytes that the IDL knows nothing of"
    );
    (name.to_owned(), value)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, n: usize) -> Vec<u8> {
        let (head, rest) = self.0.split_at(n);
        self.0 = rest;
        head.to_vec()
    }

    fn number(&mut self, n: usize) -> u64 {
        let mut all = [0; 8];
        all[..n].copy_from_slice(&self.take(n));
        u64::from_le_bytes(all)
    }

    fn defined(&mut self, name: &str) -> Value {
        let types = idl()["types"].as_array().unwrap().iter();
        let mut named = types.filter(|ty| ty["name"] == name);
        let fields = named.next().expect("a type of the IDL")["type"]["fields"]
            .as_array()
            .unwrap();
        let mut object = Map::new();
        for field in fields {
            let value = self.value(&field["type"]);
            object.insert(field["name"].as_str().unwrap().to_owned(), value);
        }
        Value::Object(object)
    }

    fn value(&mut self, ty: &Value) -> Value {
        match ty.as_str() {
            Some("u8") => json!(self.number(1)),
            Some("u16") => json!(self.number(2)),
            Some("u32") => json!(self.number(4)),
            Some("u64") => json!(self.number(8)),
            Some("i64") => json!(self.number(8).cast_signed()),
            Some("pubkey") => {
                let key: [u8; 32] = self.take(32).try_into().unwrap();
                json!(Address::new_from_array(key).to_string())
            }
            Some("bytes") => {
                let n = self.number(4);
                json!(self.take(usize::try_from(n).unwrap()))
            }
            Some(other) => panic!("a type that this reader does not know: {other}"),
            None => self.composed(ty),
        }
    }

    fn composed(&mut self, ty: &Value) -> Value {
        if let Some(name) = ty["defined"]["name"].as_str() {
            return self.defined(name);
        }
        if let Some([inner, len]) = ty["array"].as_array().map(Vec::as_slice) {
            return (0..len.as_u64().unwrap())
                .map(|_| self.value(inner))
                .collect();
        }
        let inner = &ty["vec"];
        assert!(!inner.is_null(), "a type that this reader does not know");
        let n = self.number(4);
        (0..n).map(|_| self.value(inner)).collect()
    }
}
