//! What the cluster says by itself: a subscription to the log of every transaction that names one of our fee payers, all
//! over one connection.
//!
//! A notice tells that a transaction is confirmed and what it did with each entry, so nobody has to ask. It is a
//! hint for speed: notices get lost, with the connection and without, and whatever is open is asked about all the same,
//! only less often.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use sluice_sdk::Address;
use solana_signature::Signature;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    connect_async_with_config,
    tungstenite::{Message, protocol::WebSocketConfig},
};
use tokio_util::sync::CancellationToken;

use super::{TransactionError, codes_in_logs};
use crate::config::SecretUrl;

/// Bytes of the largest message. Logs of a transaction are cut off far below.
const MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// How patient a subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between the first two tries to connect; it doubles with each that fails.
    pub first_pause: Duration,
    /// The longest pause between two tries.
    pub longest_pause: Duration,
    /// A connection on which nothing comes for this long is asked whether it lives, and then given up. So is one on which
    /// the subscription is not answered.
    pub silence: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            silence: Duration::from_secs(20),
        }
    }
}

/// A transaction that the cluster has voted for.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Its signature.
    pub signature: Signature,
    /// The slot of its block.
    pub slot: u64,
    /// Why it failed, if it did.
    pub error: Option<TransactionError>,
    /// Whether its log bears that out. Not every node says that a transaction failed: one that is to be called paid has
    /// a log without a failure that ends with a success, and whatever else is asked about.
    pub sure: bool,
    /// The result codes of its settlement, if its log has them.
    pub codes: Option<Vec<u8>>,
}

/// A subscription that is kept up.
#[derive(Debug)]
pub struct Notices {
    /// What comes.
    pub queue: mpsc::UnboundedReceiver<Notice>,
    connected: Arc<AtomicBool>,
    _open: Option<mpsc::UnboundedSender<Notice>>,
}

impl Notices {
    /// Subscribes at `url` to what names one of `fee_payers`, until `stop`.
    pub fn start(url: SecretUrl, fee_payers: Vec<Address>, stop: CancellationToken) -> Self {
        Self::start_at(Pace::default(), url, fee_payers, stop)
    }

    /// The same at another pace.
    pub fn start_at(
        pace: Pace,
        url: SecretUrl,
        fee_payers: Vec<Address>,
        stop: CancellationToken,
    ) -> Self {
        let (sender, queue) = mpsc::unbounded_channel();
        let connected = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&connected);
        tokio::spawn(async move {
            let mut pause = pace.first_pause;
            loop {
                let heard = tokio::select! {
                    () = stop.cancelled() => return,
                    heard = listen(&pace, &url, &fee_payers, &sender, &flag) => heard,
                };
                if flag.swap(false, Ordering::Relaxed) {
                    pause = pace.first_pause;
                }
                // The error may hold the URL, and that a key: only its kind is told.
                tracing::warn!(url = %url, reason = heard.unwrap_or_else(|problem| problem), "no notices from the cluster; it is asked instead");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = sleep(pause) => pause = (pause * 2).min(pace.longest_pause),
                }
            }
        });
        Self {
            queue,
            connected,
            _open: None,
        }
    }

    /// No subscription: nothing ever comes.
    pub fn none() -> Self {
        let (sender, queue) = mpsc::unbounded_channel();
        Self {
            queue,
            connected: Arc::default(),
            // Waiting for a notice then waits, and does not end.
            _open: Some(sender),
        }
    }

    /// Whether notices come now.
    pub fn connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }
}

/// Listens until the connection ends. Says why it did.
async fn listen(
    pace: &Pace,
    url: &SecretUrl,
    fee_payers: &[Address],
    notices: &mpsc::UnboundedSender<Notice>,
    connected: &AtomicBool,
) -> Result<&'static str, &'static str> {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let connection = connect_async_with_config(url.expose(), Some(limits), false);
    let connection = timeout(pace.silence, connection);
    let (mut socket, _) = connection
        .await
        .map_err(|_| "no connection in time")?
        .map_err(|_| "no connection")?;
    // A node takes one address a subscription.
    for (id, fee_payer) in fee_payers.iter().enumerate() {
        let subscribe = json!({
            "jsonrpc": "2.0",
            "id": id,
            "method": "logsSubscribe",
            "params": [{"mentions": [fee_payer.to_string()]}, {"commitment": "confirmed"}],
        });
        let text = Message::text(subscribe.to_string());
        socket
            .send(text)
            .await
            .map_err(|_| "a subscription could not be sent")?;
    }
    let mut open: HashSet<u64> = (0..fee_payers.len() as u64).collect();
    let mut asked = false;
    let begun = Instant::now();
    loop {
        let subscribed = connected.load(Ordering::Relaxed);
        if !subscribed && begun.elapsed() >= pace.silence {
            return Ok("a subscription was not answered");
        }
        match timeout(pace.silence, socket.next()).await {
            Err(_) if asked => return Ok("the connection is dead"),
            Err(_) => {
                asked = true;
                let ping = socket.send(Message::Ping(Vec::new().into())).await;
                ping.map_err(|_| "the connection broke")?;
            }
            Ok(None) => return Ok("the connection was closed"),
            Ok(Some(Err(_))) => return Ok("the connection broke"),
            Ok(Some(Ok(message))) => {
                asked = false;
                let Message::Text(text) = message else {
                    continue;
                };
                let Ok(value) = serde_json::from_str::<Value>(&text) else {
                    continue;
                };
                if let Some(id) = value["id"].as_u64() {
                    // What was not asked for is not for us.
                    if !open.remove(&id) {
                        continue;
                    }
                    if !value["result"].is_u64() {
                        return Ok("a subscription was refused");
                    }
                    if open.is_empty() {
                        connected.store(true, Ordering::Relaxed);
                        tracing::info!(url = %url, "subscribed to the fee payers' transactions");
                    }
                } else if let Some(notice) = read(&value)
                    && notices.send(notice).is_err()
                {
                    return Ok("nobody listens");
                }
            }
        }
    }
}

/// Reads a notification; `None` for anything else.
fn read(value: &Value) -> Option<Notice> {
    let result = &value["params"]["result"];
    let about = &result["value"];
    let lines = about["logs"].as_array()?;
    let lines: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
    let of_program = |line: &str| line.starts_with("Program ");
    let failed = lines
        .iter()
        .any(|line| of_program(line) && line.contains(" failed"));
    let succeeded = lines
        .last()
        .is_some_and(|line| of_program(line) && line.ends_with(" success"));
    Some(Notice {
        sure: !about["err"].is_null() || (succeeded && !failed),
        signature: about["signature"].as_str()?.parse().ok()?,
        slot: result["context"]["slot"].as_u64()?,
        error: match &about["err"] {
            Value::Null => None,
            json => Some(TransactionError { json: json.clone() }),
        },
        codes: codes_in_logs(lines),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_failure_that_only_the_log_tells_is_not_called_a_success() {
        let sure = |err: Value, logs: Value| {
            let value = json!({"params": {"result": {"context": {"slot": 42}, "value": {
                "signature": Signature::from([7; 64]).to_string(), "err": err, "logs": logs,
            }}}});
            read(&value).unwrap().sure
        };
        let id = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
        let (success, failed) = (
            format!("Program {id} success"),
            format!("Program {id} failed: custom program error: 0x1"),
        );
        assert!(sure(Value::Null, json!([success])));
        assert!(sure(json!("AccountInUse"), json!([])));
        for logs in [
            json!([]),
            json!([failed]),
            json!([success, failed]),
            json!([failed, success]),
            json!([success, "Log truncated"]),
        ] {
            assert!(!sure(Value::Null, logs.clone()), "{logs}");
        }
    }

    #[test]
    fn a_notification_is_read() {
        let signature = Signature::from([7; 64]);
        let program = sluice_sdk::PROGRAM_ID;
        let mut value = json!({
            "method": "logsNotification",
            "params": {"subscription": 3, "result": {
                "context": {"slot": 42},
                "value": {
                    "signature": signature.to_string(),
                    "err": null,
                    "logs": [
                        "Program log: hello",
                        format!("Program return: {program} AAAD"),
                        format!("Program {program} success"),
                    ],
                },
            }},
        });
        let notice = read(&value).unwrap();
        assert_eq!((notice.signature, notice.slot), (signature, 42));
        assert!(notice.sure);
        assert_eq!((notice.error, notice.codes), (None, Some(vec![0, 0, 3])));
        value["params"]["result"]["value"]["err"] =
            json!({"InstructionError": [0, {"Custom": 6100}]});
        assert!(read(&value).unwrap().error.is_some());
        assert_eq!(read(&json!({"id": 1, "result": 3})), None);
    }
}
