//! The pool of fee payers: how each of them is, and which one pays for the next transaction.
//!
//! A key rests while its balance is below the low-water mark, and while it does not sign; the others work. A balance that
//! could not be read is not a balance of zero: the last one counts, less what was spent since, and its age is told.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use sluice_sdk::Address;

use super::{
    SignError, Signer,
    alert::{Alerts, Event},
};
use crate::{chain::cache::Accounts, config::Fees, engine::Unavailable};

/// How old a balance may be that decides who pays.
const BALANCE_AGE: Duration = Duration::from_secs(2);
/// How long after it failed a key is tried again; it doubles with each failure, to the longest.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// How often a key is tried that signs well, so that one that does not is known before a payment needs it.
const WELL: Duration = Duration::from_secs(30);

/// Whether a key pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It pays.
    Active,
    /// It fell below the low-water mark, and rests until it is above the high one.
    Low,
    /// It does not sign, and rests until it does.
    Failed(SignError),
}

/// A fee payer as it was last seen. A balance that could not be read is not a balance of zero: the last one stays, with
/// its age.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Its address.
    pub address: Address,
    /// Where it is: one word.
    pub kind: &'static str,
    /// Lamports, when they were last read.
    pub lamports: Option<u64>,
    /// How long ago that was.
    pub age: Option<Duration>,
    /// Reads that failed since.
    pub failed_reads: u64,
    /// Reads that failed since the start.
    pub read_errors: u64,
    /// Transactions that it signed since the start.
    pub signed: u64,
    /// Signatures that failed since the start, trials included.
    pub sign_errors: u64,
    /// Whether it pays.
    pub standing: Standing,
}

/// A failure to sign, and when the key is tried again.
struct Fault {
    error: SignError,
    rest: Duration,
    again: Instant,
}

#[derive(Default)]
struct Seen {
    lamports: Option<(u64, Instant)>,
    /// What it was to pay since that was read.
    spent: u64,
    failed_reads: u64,
    read_errors: u64,
    signed: u64,
    sign_errors: u64,
    low: bool,
    stale: bool,
    fault: Option<Fault>,
    /// When it last signed, or was tried.
    tried: Option<Instant>,
    /// How far it is behind its share of the turns.
    turn: i128,
}

impl Seen {
    fn rests(&self) -> bool {
        self.low || self.fault.is_some()
    }

    /// What it holds, as far as is known.
    fn left(&self) -> Option<u64> {
        let (lamports, _) = self.lamports?;
        Some(lamports.saturating_sub(self.spent))
    }
}

/// The keys that pay and sign.
pub struct Signers {
    keys: Vec<Arc<dyn Signer>>,
    seen: Mutex<Vec<Seen>>,
    fees: Fees,
    alerts: Alerts,
    stale_after: Duration,
    /// Whether no key could pay when it was last looked at.
    none_pays: AtomicBool,
    /// Whose turn it is with [`Signers::turn`].
    next: AtomicUsize,
    begun: Instant,
}

impl Signers {
    /// A pool of keys. There must be one.
    pub fn new(
        keys: Vec<Arc<dyn Signer>>,
        fees: Fees,
        alerts: Alerts,
        stale_after: Duration,
    ) -> Self {
        Self {
            seen: Mutex::new(keys.iter().map(|_| Seen::default()).collect()),
            keys,
            fees,
            alerts,
            stale_after,
            none_pays: AtomicBool::new(false),
            next: AtomicUsize::new(0),
            begun: Instant::now(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many keys there are.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// The keys' addresses.
    pub fn addresses(&self) -> Vec<Address> {
        self.keys.iter().map(|key| key.address()).collect()
    }

    /// Every key as it was last seen.
    pub fn health(&self) -> Vec<Health> {
        let seen = self.lock();
        self.keys
            .iter()
            .zip(seen.iter())
            .map(|(key, seen)| Health {
                address: key.address(),
                kind: key.kind(),
                lamports: seen.lamports.map(|(lamports, _)| lamports),
                age: seen.lamports.map(|(_, at)| at.elapsed()),
                failed_reads: seen.failed_reads,
                read_errors: seen.read_errors,
                signed: seen.signed,
                sign_errors: seen.sign_errors,
                standing: match &seen.fault {
                    Some(fault) => Standing::Failed(fault.error.clone()),
                    None if seen.low => Standing::Low,
                    None => Standing::Active,
                },
            })
            .collect()
    }

    /// Reads the balances, and lets keys rest or wake.
    pub async fn look(&self, accounts: &Accounts) {
        let addresses = self.addresses();
        let view = accounts.get(&addresses, BALANCE_AGE).await;
        let mut all = self.lock();
        for (i, seen) in all.iter_mut().enumerate() {
            let key = Some(addresses[i]);
            let Ok(view) = &view else {
                seen.failed_reads += 1;
                seen.read_errors += 1;
                let since = seen.lamports.map_or(self.begun, |(_, at)| at).elapsed();
                if since > self.stale_after && !seen.stale {
                    seen.stale = true;
                    let last = match seen.lamports {
                        Some((lamports, _)) => format!("it was {lamports} lamports then"),
                        None => "it is not known".to_owned(),
                    };
                    let message = format!(
                        "the fee payer's balance could not be read for {} s, {last}: see why the RPC does not answer",
                        since.as_secs()
                    );
                    self.alerts.raise(Event::BalanceStale, key, message);
                }
                continue;
            };
            let account = view.accounts.get(i).and_then(Option::as_ref);
            let lamports = account.map_or(0, |account| account.lamports);
            seen.lamports = Some((lamports, Instant::now()));
            seen.spent = 0;
            seen.failed_reads = 0;
            if std::mem::take(&mut seen.stale) {
                let message = format!("the fee payer's balance is read again: {lamports} lamports");
                self.alerts.raise(Event::BalanceRead, key, message);
            }
            let (low, high) = (self.fees.min_balance_lamports, self.fees.resume_lamports());
            let is_low = lamports < low || (seen.low && lamports < high);
            if is_low != seen.low {
                seen.low = is_low;
                if is_low {
                    let message = format!(
                        "the fee payer holds {lamports} lamports, below its low-water mark of {low}: it rests until it \
                         holds {high}; fund it"
                    );
                    self.alerts.raise(Event::FeePayerLow, key, message);
                } else {
                    let message = format!("the fee payer holds {lamports} lamports and pays again");
                    self.alerts.raise(Event::FeePayerFunded, key, message);
                }
            }
        }
        self.tell_of_all(&all);
    }

    /// Tries the keys that do not sign and are due, and those elsewhere that were not used for a while. Gives the first
    /// that is another key than it should be.
    pub async fn probe(&self) -> Result<(), SignError> {
        let now = Instant::now();
        let due: Vec<usize> = {
            let seen = self.lock();
            let due = |i: &usize| match &seen[*i].fault {
                Some(fault) => fault.again <= now,
                None => seen[*i].tried.is_none_or(|at| at + WELL <= now),
            };
            let remote = |i: &usize| self.keys[*i].is_remote();
            (0..self.keys.len()).filter(remote).filter(due).collect()
        };
        let probes = due.into_iter().map(|i| async move {
            let probed = self.keys[i].probe().await;
            self.note(i, probed.as_ref().err());
            probed
        });
        for probed in join_all(probes).await {
            if let Err(error @ SignError::OtherKey { .. }) = probed {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Notes how a key signed.
    pub fn signed(&self, address: &Address, error: Option<&SignError>) {
        let Some(i) = self.keys.iter().position(|key| key.address() == *address) else {
            return;
        };
        if error.is_none() {
            self.lock()[i].signed += 1;
        }
        self.note(i, error);
    }

    fn note(&self, i: usize, error: Option<&SignError>) {
        let mut all = self.lock();
        let (seen, key) = (&mut all[i], Some(self.keys[i].address()));
        let now = Instant::now();
        seen.tried = Some(now);
        let Some(error) = error else {
            if seen.fault.take().is_some() {
                let message = "the fee payer's key signs again".to_owned();
                self.alerts.raise(Event::SignerHealed, key, message);
            }
            self.tell_of_all(&all);
            return;
        };
        seen.sign_errors += 1;
        match &mut seen.fault {
            // Several calls may fail together: that is one failure.
            Some(fault) if fault.again > now => {}
            Some(fault) => {
                fault.rest = (fault.rest * 2).min(LONGEST_REST);
                fault.again = now + fault.rest;
                fault.error = error.clone();
            }
            None => {
                seen.fault = Some(Fault {
                    error: error.clone(),
                    rest: FIRST_REST,
                    again: now + FIRST_REST,
                });
                let message = format!("the fee payer's key does not sign and rests: {error}");
                self.alerts.raise(Event::SignerFailed, key, message);
            }
        }
        self.tell_of_all(&all);
    }

    /// Tells once when the last key rests, and when the first wakes.
    fn tell_of_all(&self, all: &[Seen]) {
        let none_pays = all.iter().all(Seen::rests);
        if self.none_pays.swap(none_pays, Ordering::Relaxed) == none_pays {
            return;
        }
        if none_pays {
            let message = "no fee payer can pay: nothing is settled until one can".to_owned();
            self.alerts.raise(Event::NoFeePayer, None, message);
        } else {
            let message = "a fee payer can pay again".to_owned();
            self.alerts.raise(Event::FeePayerBack, None, message);
        }
    }

    /// Whether one of the keys that `registered` names can pay. Takes no turn.
    pub fn check(&self, registered: &[[u8; 32]]) -> Result<(), Unavailable> {
        self.able(&self.lock(), registered, 0).map(|_| ())
    }

    /// Whether this one key can pay.
    pub fn check_one(&self, address: &Address) -> Result<(), Unavailable> {
        self.able(&self.lock(), &[address.to_bytes()], 0)
            .map(|_| ())
    }

    /// A key that can pay, another one each time: for who asks which to name.
    pub fn turn(&self) -> Address {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let seen = self.lock();
        let count = self.keys.len().max(1);
        let turn = || (0..count).map(|i| start.wrapping_add(i) % count);
        let awake = turn().find(|i| seen.get(*i).is_some_and(|seen| !seen.rests()));
        let place = awake.unwrap_or(start % count);
        self.keys
            .get(place)
            .map_or_else(Address::default, |key| key.address())
    }

    /// A key.
    pub fn key(&self, address: &Address) -> Option<Arc<dyn Signer>> {
        let found = self.keys.iter().find(|key| key.address() == *address);
        found.map(Arc::clone)
    }

    /// This one key, which is to pay `lamports`.
    pub fn take(&self, address: &Address, lamports: u64) -> Result<Arc<dyn Signer>, Unavailable> {
        let mut all = self.lock();
        let able = self.able(&all, &[address.to_bytes()], lamports)?;
        let i = able.into_iter().next().ok_or_else(nobody)?;
        all[i].spent = all[i].spent.saturating_add(lamports);
        Ok(Arc::clone(&self.keys[i]))
    }

    /// The key that pays next `lamports`, among those that do not rest and that `registered` names.
    ///
    /// Keys that hold plenty take turns. One that is between its marks takes fewer, the nearer it is to the low one, so
    /// that a key that is filled again while the others pay is what an operator meets, and not a dead relayer.
    pub fn pick(
        &self,
        registered: &[[u8; 32]],
        lamports: u64,
    ) -> Result<Arc<dyn Signer>, Unavailable> {
        let mut all = self.lock();
        let able = self.able(&all, registered, lamports)?;
        let mut total = 0;
        for i in &able {
            let weight = self.weight(&all[*i]);
            all[*i].turn += weight;
            total += weight;
        }
        // The first of those that wait longest.
        let next = able
            .into_iter()
            .reduce(|best, i| {
                if all[i].turn > all[best].turn {
                    i
                } else {
                    best
                }
            })
            .ok_or_else(nobody)?;
        all[next].turn -= total;
        all[next].spent = all[next].spent.saturating_add(lamports);
        Ok(Arc::clone(&self.keys[next]))
    }

    /// A key's share of the turns: what it holds above the low mark, as far as the high one.
    fn weight(&self, seen: &Seen) -> i128 {
        let (low, high) = (self.fees.min_balance_lamports, self.fees.resume_lamports());
        let plenty = high.saturating_sub(low).max(1);
        match seen.left() {
            Some(left) => i128::from(left.saturating_sub(low).clamp(1, plenty)),
            // Never read: whoever was is preferred.
            None => 1,
        }
    }

    fn able(
        &self,
        all: &[Seen],
        registered: &[[u8; 32]],
        lamports: u64,
    ) -> Result<Vec<usize>, Unavailable> {
        let known = |i: &usize| registered.contains(self.keys[*i].address().as_array());
        let known: Vec<usize> = (0..self.keys.len()).filter(known).collect();
        let least = self.fees.min_balance_lamports;
        // Below the mark as far as is known: read again in a moment.
        let pays = |i: &usize| {
            let seen = &all[*i];
            let enough = seen.left().is_none_or(|left| left >= least.max(lamports));
            !seen.rests() && enough
        };
        let able: Vec<usize> = known.iter().copied().filter(pays).collect();
        if !able.is_empty() {
            return Ok(able);
        }
        if known.is_empty() {
            return Err(Unavailable::NotReady(
                "none of the relayer's keys is registered for the facilitator: register one"
                    .to_owned(),
            ));
        }
        let fault = known.iter().find_map(|i| all[*i].fault.as_ref());
        Err(match fault {
            Some(fault) => Unavailable::Signer(fault.error.clone()),
            None => Unavailable::FeePayer {
                lamports: known.iter().filter_map(|i| all[*i].left()).max(),
                least,
            },
        })
    }
}

fn nobody() -> Unavailable {
    Unavailable::NotReady("there is no key".to_owned())
}
