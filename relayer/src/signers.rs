//! The fee payers: which one pays for the next transaction.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sluice_sdk::Address;

use crate::{chain::cache::Accounts, config::Fees, engine::Unavailable, keys::FeePayer};

/// How old a balance may be that decides who pays.
const BALANCE_AGE: Duration = Duration::from_secs(2);

/// A fee payer as it was last seen. A balance that could not be read is not a balance of zero: the last one stays, with
/// its age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Health {
    /// Its address.
    pub address: Address,
    /// Lamports, when they were last read.
    pub lamports: Option<u64>,
    /// How long ago that was.
    pub age: Option<Duration>,
    /// Reads that failed since.
    pub failed_reads: u64,
    /// Whether it pays: a key that fell below the low-water mark rests until it is above the high one again.
    pub active: bool,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    lamports: Option<(u64, Instant)>,
    failed_reads: u64,
    resting: bool,
}

/// The keys that pay and sign.
pub struct Signers {
    keys: Vec<FeePayer>,
    seen: Mutex<Vec<Seen>>,
    next: AtomicUsize,
    fees: Fees,
}

impl Signers {
    /// A pool of keys. There must be one.
    pub fn new(keys: Vec<FeePayer>, fees: Fees) -> Self {
        Self {
            seen: Mutex::new(vec![Seen::default(); keys.len()]),
            keys,
            next: AtomicUsize::new(0),
            fees,
        }
    }

    /// The keys' addresses.
    pub fn addresses(&self) -> Vec<Address> {
        self.keys.iter().map(FeePayer::address).collect()
    }

    /// Every key as it was last seen.
    pub fn health(&self) -> Vec<Health> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys
            .iter()
            .zip(seen.iter())
            .map(|(key, seen)| Health {
                address: key.address(),
                lamports: seen.lamports.map(|(lamports, _)| lamports),
                age: seen.lamports.map(|(_, at)| at.elapsed()),
                failed_reads: seen.failed_reads,
                active: !seen.resting,
            })
            .collect()
    }

    /// Reads the balances, and lets keys rest or wake.
    pub async fn look(&self, accounts: &Accounts) {
        let addresses = self.addresses();
        let view = accounts.get(&addresses, BALANCE_AGE).await;
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for (i, seen) in all.iter_mut().enumerate() {
            let Ok(view) = &view else {
                seen.failed_reads += 1;
                continue;
            };
            let account = view.accounts.get(i).and_then(Option::as_ref);
            let lamports = account.map_or(0, |account| account.lamports);
            seen.lamports = Some((lamports, Instant::now()));
            seen.failed_reads = 0;
            let (low, high) = (self.fees.min_balance_lamports, self.fees.resume_lamports());
            let resting = lamports < low || (seen.resting && lamports < high);
            if resting != seen.resting {
                let address = addresses[i];
                if resting {
                    tracing::error!(fee_payer = %address, lamports, low, "fee payer below its low-water mark: it rests");
                } else {
                    tracing::info!(fee_payer = %address, lamports, "fee payer pays again");
                }
            }
            seen.resting = resting;
        }
    }

    /// Whether one of the keys that `registered` names can pay. Takes no turn.
    pub fn check(&self, registered: &[[u8; 32]]) -> Result<(), Unavailable> {
        self.able(self.next.load(Ordering::Relaxed), registered)
            .map(|_| ())
    }

    /// Whether this one key can pay.
    pub fn check_one(&self, address: &Address) -> Result<(), Unavailable> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let place = self.keys.iter().position(|key| key.address() == *address);
        match place.and_then(|place| seen.get(place)) {
            Some(seen) if seen.resting => Err(Unavailable::FeePayer {
                lamports: seen.lamports.map_or(0, |(lamports, _)| lamports),
                least: self.fees.min_balance_lamports,
            }),
            Some(_) => Ok(()),
            None => Err(Unavailable::NotReady(format!(
                "{address} is none of the relayer's keys"
            ))),
        }
    }

    /// A key that can pay, another one each time: for who asks which to name.
    pub fn turn(&self) -> Address {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.keys.len().max(1);
        let turn = || (0..count).map(|i| start.wrapping_add(i) % count);
        let awake = turn().find(|i| seen.get(*i).is_some_and(|seen| !seen.resting));
        let place = awake.unwrap_or(start % count);
        self.keys
            .get(place)
            .map_or_else(Address::default, FeePayer::address)
    }

    /// A key.
    pub fn key(&self, address: &Address) -> Option<&FeePayer> {
        self.keys.iter().find(|key| key.address() == *address)
    }

    /// The key that pays next: in turn, among those that do not rest and that `registered` names.
    pub fn pick(&self, registered: &[[u8; 32]]) -> Result<&FeePayer, Unavailable> {
        self.able(self.next.fetch_add(1, Ordering::Relaxed), registered)
    }

    fn able(&self, start: usize, registered: &[[u8; 32]]) -> Result<&FeePayer, Unavailable> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.keys.len();
        let turn = (0..count).map(|i| start.wrapping_add(i) % count.max(1));
        let known = |i: &usize| registered.contains(self.keys[*i].address().as_array());
        let able: Vec<usize> = turn.filter(known).collect();
        if let Some(i) = able.iter().find(|i| !seen[**i].resting) {
            return Ok(&self.keys[*i]);
        }
        match able.first() {
            None => Err(Unavailable::NotReady(
                "none of the relayer's keys is registered for the facilitator: register one"
                    .to_owned(),
            )),
            Some(i) => Err(Unavailable::FeePayer {
                lamports: seen[*i].lamports.map_or(0, |(lamports, _)| lamports),
                least: self.fees.min_balance_lamports,
            }),
        }
    }
}
