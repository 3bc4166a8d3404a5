//! The extension `payment-identifier`: a payment that its payer gave an id is answered again as it was answered before.
//!
//! Without an id a second identical call for a payment is told `duplicate_settlement`, so that nobody is served twice
//! for one payment by a server that does not look. An id says that the calls are repetitions: whoever lost the answer
//! gets it again. It is bound to the whole payload, so that another payload with the same id is a conflict and never the
//! wrong answer; and it is a payer's at a service, so that nobody else can take it or learn what it stands for.
//!
//! What was refused before anything was signed is not bound: the same call is judged anew, and may fare better.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sluice_intent::Digest;
use sluice_sdk::{Address, x402::Version};
use tokio::sync::watch;

use crate::{
    desk::{Joined, Seat},
    engine::{Engine, Refusal, Unavailable},
    ledger::Binding,
    reason::{Reason, Rejection},
    settle::{Outcome, paid_row, pending},
};

/// The extension's name.
pub const EXTENSION: &str = "payment-identifier";
/// Least characters of an id.
pub const MIN_LEN: usize = 16;
/// Most characters of an id.
pub const MAX_LEN: usize = 128;

/// Reads the id of a payload, if it has one. `owner` is whose it is. Version 1 of the protocol has no extensions.
pub fn read(
    payload: &Value,
    version: Version,
    owner: Address,
) -> Result<Option<Binding>, Rejection> {
    let extension = payload
        .get("extensions")
        .and_then(|extensions| extensions.get(EXTENSION));
    let Some(extension) = extension.filter(|extension| !extension.is_null()) else {
        return Ok(None);
    };
    if version != Version::V2 {
        return Ok(None);
    }
    let wrong = |problem: &str| {
        Rejection::new(
            Reason::Payload,
            format!("paymentPayload.extensions.{EXTENSION}.info{problem}"),
        )
    };
    let info = extension
        .get("info")
        .and_then(Value::as_object)
        .ok_or_else(|| wrong(": must be an object"))?;
    let id = match info.get("id") {
        None | Some(Value::Null) if info.get("required") == Some(&Value::Bool(true)) => {
            return Err(wrong(
                ".id: is missing, and the server requires one: give the payment an id of its own",
            ));
        }
        None | Some(Value::Null) => return Ok(None),
        Some(id) => id.as_str().ok_or_else(|| wrong(".id: must be a string"))?,
    };
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !(MIN_LEN..=MAX_LEN).contains(&id.len()) || !id.bytes().all(good) {
        return Err(wrong(
            ".id: must be 16 to 128 letters, digits, hyphens and underscores",
        ));
    }
    Ok(Some(Binding {
        owner,
        id: id.to_owned(),
        fingerprint: fingerprint(payload),
    }))
}

/// The hash of a JSON value, whatever order its objects' fields come in.
fn fingerprint(value: &Value) -> [u8; 32] {
    let mut hash = Sha256::new();
    absorb(value, &mut hash);
    hash.finalize().into()
}

/// Every value with its kind and length in front, so that no two values are the same bytes.
fn absorb(value: &Value, hash: &mut Sha256) {
    fn text(kind: u8, text: &str, hash: &mut Sha256) {
        hash.update([kind]);
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    match value {
        Value::Null => hash.update([0]),
        Value::Bool(value) => hash.update([1, u8::from(*value)]),
        Value::Number(number) => text(2, &number.to_string(), hash),
        Value::String(value) => text(3, value, hash),
        Value::Array(values) => {
            hash.update([4]);
            hash.update((values.len() as u64).to_le_bytes());
            for value in values {
                absorb(value, hash);
            }
        }
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            hash.update([5]);
            hash.update((sorted.len() as u64).to_le_bytes());
            for (name, value) in sorted {
                text(6, name, hash);
                absorb(value, hash);
            }
        }
    }
}

/// An answer to `/settle`, and whether it is one that was given before.
#[derive(Clone, Debug)]
pub struct Told {
    /// The answer.
    pub outcome: Outcome,
    /// Whether another call did the work.
    pub replayed: bool,
}

impl From<Outcome> for Told {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            replayed: false,
        }
    }
}

/// A call: who is paid, and everything that another must have in common with it to get the same answer.
type Call = (Address, Binding);
type Answer = watch::Receiver<Option<Result<Told, Unavailable>>>;

/// The calls with an id that are being answered at this moment.
#[derive(Clone, Default)]
pub struct Bindings(Arc<Mutex<HashMap<Call, Answer>>>);

/// The place of a call that is being answered; dropping it lets the next one in.
struct Place {
    bindings: Bindings,
    call: Call,
}

impl Drop for Place {
    fn drop(&mut self) {
        let calls = &self.bindings.0;
        let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.remove(&self.call);
    }
}

impl Engine {
    /// Settles a payment to `service` by `settle`; one with an id that is known is answered as it was before.
    pub async fn settle_identified<F, S>(
        self: &Arc<Self>,
        service: Address,
        binding: Option<Binding>,
        settle: F,
    ) -> Result<Told, Unavailable>
    where
        F: FnOnce(Arc<Self>) -> S + Send + 'static,
        S: Future<Output = Result<Outcome, Unavailable>> + Send + 'static,
    {
        let Some(binding) = binding else {
            return settle(Arc::clone(self)).await.map(Told::from);
        };
        let (mut answer, follows) = self.answer_of((service, binding), settle);
        let told = match answer.wait_for(Option::is_some).await {
            Ok(told) => told.clone(),
            // Whoever did the work did not come to its end.
            Err(_) => None,
        };
        let mut told = told.unwrap_or(Err(Unavailable::Interrupted))?;
        told.replayed |= follows;
        Ok(told)
    }

    /// The answer of the call that is at work already; or this one begins to work. In a task of its own: the others are
    /// answered even if this caller hangs up.
    fn answer_of<F, S>(self: &Arc<Self>, call: Call, settle: F) -> (Answer, bool)
    where
        F: FnOnce(Arc<Self>) -> S + Send + 'static,
        S: Future<Output = Result<Outcome, Unavailable>> + Send + 'static,
    {
        let calls = &self.bindings.0;
        let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = calls.get(&call) {
            return (answer.clone(), true);
        }
        let (tell, answer) = watch::channel(None);
        calls.insert(call.clone(), answer.clone());
        let place = Place {
            bindings: self.bindings.clone(),
            call,
        };
        let engine = Arc::clone(self);
        self.tasks.spawn(async move {
            let told = engine.settle_or_replay(&place.call, settle).await;
            // First out of the way: who comes from here on asks the ledger.
            drop(place);
            let _ = tell.send(Some(told));
        });
        (answer, false)
    }

    async fn settle_or_replay<F, S>(
        self: &Arc<Self>,
        call: &Call,
        settle: F,
    ) -> Result<Told, Unavailable>
    where
        F: FnOnce(Arc<Self>) -> S + Send,
        S: Future<Output = Result<Outcome, Unavailable>> + Send,
    {
        // Asked before the payment is judged: what is settled or expired is not valid any more.
        if let Some(told) = self.replay_bound(call).await? {
            return Ok(told);
        }
        let outcome = settle(Arc::clone(self)).await?;
        // Another relayer may have taken the same call on meanwhile.
        if is_duplicate(&outcome)
            && let Some(told) = self.replay_bound(call).await?
        {
            return Ok(told);
        }
        Ok(outcome.into())
    }

    async fn replay_bound(
        self: &Arc<Self>,
        (service, binding): &Call,
    ) -> Result<Option<Told>, Unavailable> {
        let bound = self.ledger.bound(service, &binding.owner, &binding.id);
        let Some(bound) = bound.await? else {
            return Ok(None);
        };
        if bound.fingerprint != binding.fingerprint {
            return Ok(Some(Outcome::Bound.into()));
        }
        Ok(Some(Told {
            outcome: self.replay(&bound.digest).await?,
            replayed: true,
        }))
    }

    /// What became of a payment, as often as it is asked for.
    async fn replay(self: &Arc<Self>, digest: &Digest) -> Result<Outcome, Unavailable> {
        let deadline = tokio::time::Instant::now() + self.settings.limits.confirm_timeout();
        if let Joined::Waiting(waiting) = self.desk.join(digest) {
            let outcome = self.await_landing(digest, waiting).await?;
            if !is_duplicate(&outcome) {
                return Ok(outcome);
            }
        }
        loop {
            let Some(row) = self.ledger.payment(digest).await? else {
                return Err(Unavailable::Interrupted);
            };
            if row.state.is_paid() {
                // Told: a call without the id is not told once more.
                if !row.answered {
                    self.ledger.take_success(*digest).await?;
                }
                self.desk.answered(digest);
                let paid = paid_row(row).ok_or(Unavailable::Interrupted)?;
                return Ok(self.success(paid));
            }
            if !row.state.is_live() {
                let seat = Seat::of(&row);
                return Ok(Outcome::Refused(Refusal::of_seat(seat.rejection(), &seat)));
            }
            if tokio::time::Instant::now() >= deadline || self.closing.is_cancelled() {
                return Ok(Outcome::Refused(Refusal::of_row(pending(), &row)));
            }
            tokio::time::sleep(self.settings.chain.poll().max(Duration::from_millis(50))).await;
        }
    }

    /// Whether the id of a payment to `service` is bound to another payload.
    pub async fn is_bound_otherwise(
        &self,
        service: Address,
        binding: Option<&Binding>,
    ) -> Result<bool, Unavailable> {
        let Some(binding) = binding else {
            return Ok(false);
        };
        let bound = self.ledger.bound(&service, &binding.owner, &binding.id);
        let bound = bound.await?;
        Ok(bound.is_some_and(|bound| bound.fingerprint != binding.fingerprint))
    }
}

fn is_duplicate(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(refusal) if refusal.rejection.reason == Reason::Duplicate)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    const OWNER: Address = Address::new_from_array([7; 32]);

    fn read_v2(payload: &Value) -> Result<Option<Binding>, Rejection> {
        read(payload, Version::V2, OWNER)
    }

    fn payload(info: Value) -> Value {
        json!({"x402Version": 2, "payload": {}, "extensions": {EXTENSION: {"info": info}}})
    }

    #[test]
    fn ids_are_16_to_128_plain_characters() {
        let id = |id: &str| read_v2(&payload(json!({"required": false, "id": id})));
        for good in [
            "pay_7d5d747be160e280504c099d984bcfe0",
            &"a".repeat(16),
            &"Z-_9".repeat(32),
        ] {
            assert_eq!(id(good).unwrap().unwrap().id, good);
        }
        for bad in [
            "",
            &"a".repeat(15),
            &"a".repeat(129),
            "sixteen letters ä",
            "sixteen letters!",
        ] {
            let rejection = id(bad).unwrap_err();
            assert_eq!(rejection.reason, Reason::Payload);
            assert!(rejection.message.contains("info.id"), "{rejection}");
        }
        for odd in [json!(1), json!(["x"]), json!({})] {
            assert!(read_v2(&payload(json!({"id": odd}))).is_err());
        }
    }

    #[test]
    fn an_id_is_missed_only_where_one_is_required() {
        let none = |payload: &Value| assert_eq!(read_v2(payload), Ok(None));
        none(&json!({}));
        none(&json!({"extensions": {}}));
        none(&json!({"extensions": {EXTENSION: null}}));
        none(&payload(json!({"required": false})));
        none(&payload(json!({})));
        assert!(read_v2(&payload(json!({"required": true}))).is_err());
        assert!(read_v2(&payload(json!(null))).is_err());
        let good = payload(json!({"id": "a".repeat(20)}));
        assert_eq!(read(&good, Version::V1, OWNER), Ok(None));
    }

    #[test]
    fn a_fingerprint_is_of_what_is_said_and_not_of_how() {
        let parse = |text: &str| fingerprint(&serde_json::from_str(text).unwrap());
        let one = parse(r#"{"a": [1, "x", null, true], "b": {"c": "d", "e": 1.5}}"#);
        assert_eq!(
            one,
            parse(r#"{"b":{"e":1.5,"c":"d"},"a":[1,"x",null,true]}"#)
        );
        for other in [
            r#"{"a": [1, "x", null, false], "b": {"c": "d", "e": 1.5}}"#,
            r#"{"a": [1, "x", null], "b": {"c": "d", "e": 1.5}}"#,
            r#"{"a": ["x", 1, null, true], "b": {"c": "d", "e": 1.5}}"#,
            r#"{"a": [1, "x", null, true], "b": {"c": "d", "e": "1.5"}}"#,
            r#"{"a": [1, "x", null, true], "b": {"c": "d"}, "e": 1.5}"#,
            r#"{"a": [1, "x", null, true, "b", {"c": "d", "e": 1.5}]}"#,
        ] {
            assert_ne!(one, parse(other), "{other}");
        }
    }
}
