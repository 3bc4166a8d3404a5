//! Screening: a list of addresses that nobody settles for, and somebody who is asked about each payment.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sluice_sdk::Address;
use tokio::sync::{OnceCell, Semaphore};

use super::{GuardError, egress, settings::HookSettings};
use crate::config::SecretUrl;

/// Addresses in a file, one a line; `#` begins a comment.
#[derive(Debug)]
pub struct DenyList {
    path: PathBuf,
    addresses: RwLock<Arc<HashSet<Address>>>,
    stamp: Mutex<Option<Stamp>>,
}

/// What changes when a file does.
type Stamp = (SystemTime, u64, u64);

impl DenyList {
    /// Reads a list.
    pub(super) fn open(path: &Path) -> Result<Self, GuardError> {
        let stamp = stamp(path).ok();
        let addresses = read(path)
            .map_err(|problem| GuardError(format!("guard.screening.deny_list: {problem}")))?;
        tracing::info!(addresses = addresses.len(), "deny list read");
        Ok(Self {
            path: path.to_owned(),
            addresses: RwLock::new(Arc::new(addresses)),
            stamp: Mutex::new(stamp),
        })
    }

    /// The first of these addresses that is on the list. They are not asked for while it is empty.
    pub fn denied(&self, parties: impl FnOnce() -> Vec<Address>) -> Option<Address> {
        let addresses = Arc::clone(
            &self
                .addresses
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        );
        if addresses.is_empty() {
            return None;
        }
        parties()
            .into_iter()
            .find(|party| addresses.contains(party))
    }

    /// Reads the list again if its file has changed. One that cannot be read leaves the last one in force.
    pub fn refresh(&self) {
        let now = stamp(&self.path).ok();
        let mut known = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        if *known == now && !now.is_some_and(is_fresh) {
            return;
        }
        match read(&self.path) {
            Ok(addresses) => {
                let mut current = self
                    .addresses
                    .write()
                    .unwrap_or_else(PoisonError::into_inner);
                if **current != addresses {
                    tracing::info!(addresses = addresses.len(), "deny list read anew");
                    *current = Arc::new(addresses);
                }
            }
            Err(problem) if *known != now => {
                tracing::error!(%problem, "the deny list cannot be read; the last one stays in force");
            }
            Err(_) => {}
        }
        *known = now;
    }
}

/// Whether a file was changed so lately that it may be once more without another stamp.
fn is_fresh((modified, ..): Stamp) -> bool {
    const TICK: Duration = Duration::from_secs(1);
    SystemTime::now()
        .duration_since(modified)
        .map_or(true, |age| age < TICK)
}

fn stamp(path: &Path) -> std::io::Result<Stamp> {
    let meta = std::fs::metadata(path)?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&meta);
    #[cfg(not(unix))]
    let inode = 0;
    Ok((meta.modified()?, meta.len(), inode))
}

fn read(path: &Path) -> Result<HashSet<Address>, String> {
    let name = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let mut addresses = HashSet::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let address = line
            .parse()
            .map_err(|_| format!("{name}, line {number}: {line:?} is not a base58 address"))?;
        addresses.insert(address);
    }
    Ok(addresses)
}

/// What the hook is asked about. Numbers are decimal strings.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Question {
    /// Who pays.
    pub payer: String,
    /// The service that is paid.
    pub service: String,
    /// The mint.
    pub mint: String,
    /// Atomic units.
    pub amount: String,
    /// Hex of the tag of what is paid for, as the payer signed it.
    pub resource: String,
}

/// What the hook says.
#[derive(Deserialize)]
struct Verdict {
    allow: bool,
    /// For the log.
    #[serde(default)]
    reason: Option<String>,
}

/// The hook gave no answer that can be read, and nothing may be taken on without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAnswer;

/// Bytes of an answer.
const MAX_ANSWER: usize = 16 * 1024;
/// Answers that are remembered.
const MAX_REMEMBERED: usize = 10_000;
/// Calls at once.
const MAX_CALLS: usize = 64;
/// After so many calls in a row without an answer,
const PATIENCE: u32 = 5;
/// nobody is asked for this long.
const REST: Duration = Duration::from_secs(1);

/// Who is asked about each payment.
#[derive(Debug)]
pub struct Hook {
    client: reqwest::Client,
    url: SecretUrl,
    token: Option<SecretString>,
    timeout: Duration,
    fail_closed: bool,
    remember: Duration,
    /// Whoever asks the same at the same time waits for the same call.
    answers: Mutex<HashMap<Question, Remembered>>,
    calls: Semaphore,
    silent: AtomicBool,
    failures: AtomicU32,
    rests_until: Mutex<Option<Instant>>,
}

#[derive(Clone, Debug)]
struct Remembered {
    since: Instant,
    allow: Arc<OnceCell<bool>>,
}

impl Hook {
    pub(super) fn new(settings: &HookSettings) -> Result<Self, GuardError> {
        let at = "guard.screening.hook";
        let token = settings.token.as_ref();
        Ok(Self {
            client: egress::client(settings.timeout(), settings.allow_private)
                .map_err(|problem| GuardError(format!("{at}: {problem}")))?,
            url: settings.url.clone(),
            token: token
                .map(|token| token.read(&format!("{at}.token")))
                .transpose()?,
            timeout: settings.timeout(),
            fail_closed: settings.fail_closed,
            remember: Duration::from_secs(settings.cache_secs),
            answers: Mutex::default(),
            calls: Semaphore::new(MAX_CALLS),
            silent: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            rests_until: Mutex::new(None),
        })
    }

    /// Whether a payment may be taken on.
    pub async fn allows(&self, question: Question) -> Result<bool, NoAnswer> {
        let cell = self.remembered(&question);
        let asked = cell.get_or_try_init(|| self.ask(&question));
        // Whoever waits for somebody else's call waits no longer than for an own one.
        let answer = match tokio::time::timeout(self.timeout, asked).await {
            Ok(answer) => answer.copied(),
            Err(_) => Err(self.failed("it took too long")),
        };
        match answer {
            Ok(allow) => Ok(allow),
            Err(NoAnswer) if self.fail_closed => Err(NoAnswer),
            Err(NoAnswer) => Ok(true),
        }
    }

    fn remembered(&self, question: &Question) -> Arc<OnceCell<bool>> {
        let now = Instant::now();
        let old = |answer: &Remembered| now.duration_since(answer.since) >= self.remember;
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answers.get(question).filter(|answer| !old(answer)) {
            return Arc::clone(&answer.allow);
        }
        if answers.len() >= MAX_REMEMBERED {
            answers.retain(|_, answer| !old(answer));
            if answers.len() >= MAX_REMEMBERED {
                answers.clear();
            }
        }
        let allow = Arc::new(OnceCell::new());
        let new = Remembered {
            since: now,
            allow: Arc::clone(&allow),
        };
        answers.insert(question.clone(), new);
        allow
    }

    async fn ask(&self, question: &Question) -> Result<bool, NoAnswer> {
        if self.rests() {
            return Err(NoAnswer);
        }
        let Ok(_call) = self.calls.acquire().await else {
            return Err(NoAnswer);
        };
        match self.call(question).await {
            Ok(verdict) => {
                self.failures.store(0, Ordering::Relaxed);
                if self.silent.swap(false, Ordering::Relaxed) {
                    tracing::info!("the screening hook answers again");
                }
                if !verdict.allow {
                    let reason = verdict.reason.unwrap_or_default();
                    tracing::info!(payer = %question.payer, service = %question.service, %reason, "screened out by the hook");
                }
                Ok(verdict.allow)
            }
            Err(problem) => Err(self.failed(&problem)),
        }
    }

    async fn call(&self, question: &Question) -> Result<Verdict, String> {
        // Without its URL, which may hold a key.
        let plain = |error: reqwest::Error| {
            let error = error.without_url();
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            format!("{error} {}", cause.unwrap_or_default())
        };
        let mut request = self.client.post(self.url.expose()).json(question);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        let mut response = request.send().await.map_err(plain)?;
        // A redirect is one as well: the URL is the operator's, and not its server's to change.
        if response.status() != reqwest::StatusCode::OK {
            return Err(format!("it answered {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(plain)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(format!("its answer is longer than {MAX_ANSWER} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| {
            format!("its answer is not {{\"allow\": true}} or {{\"allow\": false}}: {error}")
        })
    }

    fn rests(&self) -> bool {
        let until = self.rests_until.lock();
        let until = *until.unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn failed(&self, problem: &str) -> NoAnswer {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= PATIENCE {
            self.failures.store(0, Ordering::Relaxed);
            let mut until = self
                .rests_until
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            *until = Some(Instant::now() + REST);
        }
        if !self.silent.swap(true, Ordering::Relaxed) {
            let then = if self.fail_closed {
                "nothing is taken on until it does"
            } else {
                "everything is taken on until it does"
            };
            tracing::error!(hook = %self.url, problem, "the screening hook does not answer; {then}");
        }
        NoAnswer
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_comments_and_blanks_and_names_its_mistakes() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("deny.txt");
        let one = Address::new_from_array([1; 32]);
        std::fs::write(&path, format!("# nobody\n\n  {one}  # him\r\n")).unwrap();
        let list = DenyList::open(&path).unwrap();
        assert_eq!(list.denied(|| vec![one]), Some(one));
        assert_eq!(list.denied(|| vec![Address::new_from_array([2; 32])]), None);

        // A mistake leaves the last list in force.
        std::fs::write(&path, "somebody\n").unwrap();
        list.refresh();
        assert_eq!(list.denied(|| vec![one]), Some(one));
        let error = DenyList::open(&path).unwrap_err().to_string();
        assert!(
            error.contains("line 1") && error.contains("somebody"),
            "{error}"
        );
        std::fs::remove_file(&path).unwrap();
        list.refresh();
        assert_eq!(list.denied(|| vec![one]), Some(one));

        std::fs::write(&path, "").unwrap();
        list.refresh();
        assert_eq!(list.denied(|| vec![one]), None);
    }
}
