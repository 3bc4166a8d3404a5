//! What the operator is told about the keys: a line of the log once per change, and the same to a webhook.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use sluice_sdk::Address;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    config::SecretUrl,
    ledger::unix_millis,
    outbound::{self, Reach},
};

/// Alerts that wait for the webhook; what comes beyond is counted and in the log.
const QUEUE: usize = 256;
/// Most alerts in one call.
const MOST: usize = 64;
/// How often a call is made that fails, and the pause before the second, which doubles.
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whom to tell, and how often.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlertSettings {
    /// Where alerts are posted; nowhere if it is not given.
    pub webhook_url: Option<SecretUrl>,
    /// Whether that may be in a private network, or on this machine, and without TLS.
    pub webhook_private: bool,
    /// Seconds between two calls of the webhook. What comes meanwhile is in the next.
    pub pause_secs: u64,
    /// A balance that was not read for so many seconds is worth an alert.
    pub stale_balance_secs: u64,
}

impl Default for AlertSettings {
    fn default() -> Self {
        Self {
            webhook_url: None,
            webhook_private: false,
            pause_secs: 10,
            stale_balance_secs: 60,
        }
    }
}

impl AlertSettings {
    /// What is wrong with it, each beginning with the field.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let Some(url) = &self.webhook_url
            && let Err(problem) = outbound::check(url.expose(), self.reach())
        {
            found.push(format!("alerts.webhook_url: {problem}"));
        }
        if !(1..=3_600).contains(&self.pause_secs) {
            found.push("alerts.pause_secs: must be 1 to 3600".to_owned());
        }
        if !(1..=86_400).contains(&self.stale_balance_secs) {
            found.push("alerts.stale_balance_secs: must be 1 to 86400".to_owned());
        }
        found
    }

    /// See [`AlertSettings::stale_balance_secs`].
    pub fn stale_balance(&self) -> Duration {
        Duration::from_secs(self.stale_balance_secs)
    }

    fn reach(&self) -> Reach {
        if self.webhook_private {
            Reach::Anywhere
        } else {
            Reach::Public
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is well again.
    Info,
    /// Something is worse, and payments are settled all the same.
    Warning,
    /// Payments are not settled, or will not be soon.
    Error,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Its balance fell below the low-water mark: it rests.
    FeePayerLow,
    /// Its balance is above the high-water mark again.
    FeePayerFunded,
    /// It does not sign: it rests.
    SignerFailed,
    /// It signs again.
    SignerHealed,
    /// Its balance could not be read for long.
    BalanceStale,
    /// Its balance is read again.
    BalanceRead,
    /// No key can pay: nothing is settled.
    NoFeePayer,
    /// A key can pay again.
    FeePayerBack,
}

/// One change that the operator wants to know of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// What happened.
    pub event: Event,
    /// How bad it is.
    pub severity: Severity,
    /// The key's address; none where it is about all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fee_payer: Option<String>,
    /// What was found, and what mends it.
    pub message: String,
    /// Unix milliseconds of the relayer's clock.
    pub at: i64,
}

/// The body of a call of the webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertBody {
    /// The relayer's name.
    pub relayer: String,
    /// What happened since the last call, the oldest first.
    pub alerts: Vec<Alert>,
    /// Alerts that found no place in the queue; the log has them.
    pub dropped: u64,
}

/// Where alerts go.
#[derive(Clone, Debug, Default)]
pub struct Alerts {
    queue: Option<mpsc::Sender<Alert>>,
    dropped: Arc<AtomicU64>,
}

impl Event {
    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::FeePayerLow | Self::SignerFailed | Self::NoFeePayer => Severity::Error,
            Self::BalanceStale => Severity::Warning,
            Self::FeePayerFunded | Self::SignerHealed | Self::BalanceRead | Self::FeePayerBack => {
                Severity::Info
            }
        }
    }
}

impl Alerts {
    /// Alerts of the relayer `name`; the webhook is called until `stop`.
    pub fn start(settings: &AlertSettings, name: &str, stop: CancellationToken) -> Self {
        let this = Self::default();
        let Some(url) = settings.webhook_url.clone() else {
            return this;
        };
        let client = match outbound::client(settings.reach(), PATIENCE) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, "the alert webhook cannot be called");
                return this;
            }
        };
        let (queue, waiting) = mpsc::channel(QUEUE);
        let hook = Webhook {
            url,
            client,
            relayer: name.to_owned(),
            pause: Duration::from_secs(settings.pause_secs),
            dropped: Arc::clone(&this.dropped),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = hook.run(waiting) => {}
            }
        });
        Self {
            queue: Some(queue),
            ..this
        }
    }

    /// Tells of a change.
    pub fn raise(&self, event: Event, fee_payer: Option<Address>, message: String) {
        let severity = event.severity();
        let fee_payer = fee_payer.map(|key| key.to_string());
        let (key, word) = (fee_payer.as_deref().unwrap_or("all"), event.word());
        match severity {
            Severity::Info => tracing::info!(event = word, fee_payer = key, "{message}"),
            Severity::Warning => tracing::warn!(event = word, fee_payer = key, "{message}"),
            Severity::Error => tracing::error!(event = word, fee_payer = key, "{message}"),
        }
        let Some(queue) = &self.queue else {
            return;
        };
        let alert = Alert {
            event,
            severity,
            fee_payer,
            message,
            at: unix_millis(),
        };
        if queue.try_send(alert).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Event {
    /// The word in the log and on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::FeePayerLow => "fee_payer_low",
            Self::FeePayerFunded => "fee_payer_funded",
            Self::SignerFailed => "signer_failed",
            Self::SignerHealed => "signer_healed",
            Self::BalanceStale => "balance_stale",
            Self::BalanceRead => "balance_read",
            Self::NoFeePayer => "no_fee_payer",
            Self::FeePayerBack => "fee_payer_back",
        }
    }
}

struct Webhook {
    url: SecretUrl,
    client: reqwest::Client,
    relayer: String,
    pause: Duration,
    dropped: Arc<AtomicU64>,
}

impl Webhook {
    async fn run(self, mut waiting: mpsc::Receiver<Alert>) {
        let mut alerts = Vec::new();
        while waiting.recv_many(&mut alerts, MOST).await > 0 {
            let body = AlertBody {
                relayer: self.relayer.clone(),
                alerts: std::mem::take(&mut alerts),
                dropped: self.dropped.swap(0, Ordering::Relaxed),
            };
            self.deliver(&body).await;
            tokio::time::sleep(self.pause).await;
        }
    }

    async fn deliver(&self, body: &AlertBody) {
        let mut pause = FIRST_PAUSE;
        for tries in 1..=TRIES {
            let problem = match self.post(body).await {
                Ok(()) => return,
                Err(problem) => problem,
            };
            // The URL may hold a key: its origin alone is told.
            tracing::warn!(webhook = %self.url, problem, tries, "an alert could not be delivered");
            if tries < TRIES {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }

    async fn post(&self, body: &AlertBody) -> Result<(), String> {
        let answer = self.client.post(self.url.expose()).json(body).send().await;
        let status = answer.map_err(outbound::without_url)?.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(format!("it answered {status}"))
        }
    }
}
