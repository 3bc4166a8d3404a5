//! The guard: who may ask, how often, and for whom nothing is settled.
//!
//! Addresses and API keys are counted with each request, before anything is read of it. Payers and services are counted
//! only once a payment is judged good: before that anybody can name them, and could use up what is theirs.
//!
//! Reading order: [`settings`], [`address`] and [`keys`] (who asks), [`rates`] (how often), [`failures`] (at what
//! cost), [`screening`] (for whom), [`egress`] (where the relayer itself may ask).

pub mod address;
pub mod egress;
pub mod failures;
pub mod keys;
pub mod rates;
pub mod screening;
pub mod settings;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use sluice_sdk::Address;

use crate::{
    engine::{Refusal, Unavailable},
    ledger::{Ledger, LedgerError, unix_millis},
    reason::{Reason, Rejection},
};

use address::{TrustedProxies, bucket};
use failures::{Failure, Failures};
use keys::{ApiKeys, KeyId};
use rates::Buckets;
use screening::{DenyList, Hook, Question};
use settings::GuardSettings;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// From where.
    pub address: IpAddr,
    /// With which API key.
    pub key: Option<KeyId>,
}

impl Default for Caller {
    /// Somebody in this very process.
    fn default() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            key: None,
        }
    }
}

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// `/verify`
    Verify,
    /// `/settle`
    Settle,
}

/// A limit that somebody is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Requests of an address.
    IpRate,
    /// Requests with an API key.
    ApiKeyRate,
    /// Payments of a payer.
    PayerRate,
    /// Payments to a service.
    ServiceRate,
    /// Payments of a payer that are being settled.
    PayerInFlight,
    /// Payments to a service that are being settled.
    ServiceInFlight,
    /// Failed payments with an API key.
    ApiKeyFailures,
}

impl Limit {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::IpRate => "ip_rate_limited",
            Self::ApiKeyRate => "api_key_rate_limited",
            Self::PayerRate => "payer_rate_limited",
            Self::ServiceRate => "service_rate_limited",
            Self::PayerInFlight => "payer_in_flight_limited",
            Self::ServiceInFlight => "service_in_flight_limited",
            Self::ApiKeyFailures => "api_key_cooling_down",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::IpRate => "too many requests from this address",
            Self::ApiKeyRate => "too many requests with this API key",
            Self::PayerRate => "too many payments of this payer",
            Self::ServiceRate => "too many payments to this service",
            Self::PayerInFlight => "too many payments of this payer are being settled",
            Self::ServiceInFlight => "too many payments to this service are being settled",
            Self::ApiKeyFailures => "too many payments with this API key failed on chain",
        }
    }
}

/// Somebody is over a limit. Nothing was decided and nothing was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: try again in {retry_after} s", .limit.what())]
pub struct Limited {
    /// Which.
    pub limit: Limit,
    /// Seconds.
    pub retry_after: u64,
}

impl Limited {
    pub(crate) fn new(limit: Limit, wait: Duration) -> Self {
        let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Self {
            limit,
            retry_after: millis.div_ceil(1_000).max(1),
        }
    }
}

/// What the guard needs cannot be had. Names the field, and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GuardError(pub(crate) String);

/// A payment that holds against the chain, its payer's signature included, of whatever scheme.
pub trait Parties: Sync {
    /// Who pays.
    fn payer(&self) -> Address;
    /// Who is paid.
    fn service(&self) -> Address;
    /// What a screening hook is asked.
    fn question(&self) -> Question;
    /// Everybody who has a part in it, by their own addresses and by their token accounts'.
    fn everybody(&self) -> Vec<Address>;
}

/// How far back the ledger is asked again, in milliseconds.
const OVERLAP_MS: i64 = 60_000;

/// Everything that keeps callers within bounds.
#[derive(Debug)]
pub struct Guard {
    pub(crate) proxies: TrustedProxies,
    pub(crate) keys: ApiKeys,
    ips: Buckets<IpAddr>,
    /// By [`Purpose`], so that what was let through at `/verify` is not refused at `/settle`.
    payers: [Buckets<Address>; 2],
    services: [Buckets<Address>; 2],
    failures: Failures,
    /// When the ledger was last asked what failed, unix milliseconds.
    recalled: AtomicI64,
    deny_list: Option<DenyList>,
    hook: Option<Hook>,
}

impl Guard {
    /// Reads keys and lists.
    pub fn new(settings: &GuardSettings) -> Result<Self, GuardError> {
        let rates = &settings.rates;
        let screening = &settings.screening;
        Ok(Self {
            proxies: TrustedProxies::parse(&settings.trusted_proxies)
                .map_err(|problem| GuardError(format!("guard.trusted_proxies: {problem}")))?,
            keys: ApiKeys::load(&settings.api_keys, rates.api_key)?,
            ips: Buckets::new(rates.ip),
            payers: [Buckets::new(rates.payer), Buckets::new(rates.payer)],
            services: [Buckets::new(rates.service), Buckets::new(rates.service)],
            failures: Failures::new(settings.failures),
            recalled: AtomicI64::new(0),
            deny_list: screening
                .deny_list
                .as_deref()
                .map(DenyList::open)
                .transpose()?,
            hook: screening.hook.as_ref().map(Hook::new).transpose()?,
        })
    }

    /// Counts a request of an address.
    pub(crate) fn count_address(&self, address: IpAddr) -> Result<(), Limited> {
        self.ips
            .take(&bucket(address))
            .map_err(|wait| Limited::new(Limit::IpRate, wait))
    }

    /// Judges a payment that holds against the chain by who asks, who pays and who is paid.
    pub(crate) async fn admit(
        &self,
        caller: &Caller,
        purpose: Purpose,
        payment: &impl Parties,
    ) -> Result<Result<(), Refusal>, Unavailable> {
        let (payer, service) = (payment.payer(), payment.service());
        if let Err(refusal) = self.check_failures(caller, &payer, &service)? {
            return Ok(Err(refusal));
        }
        let of = purpose as usize;
        let over = |limit| move |wait| Limited::new(limit, wait);
        self.payers[of]
            .take(&payer)
            .map_err(over(Limit::PayerRate))?;
        self.services[of]
            .take(&service)
            .map_err(over(Limit::ServiceRate))?;
        self.screen(payment).await
    }

    /// Whether too many payments failed lately.
    fn check_failures(
        &self,
        caller: &Caller,
        payer: &Address,
        service: &Address,
    ) -> Result<Result<(), Refusal>, Unavailable> {
        let failures = &self.failures;
        if !failures.is_on() {
            return Ok(Ok(()));
        }
        let now = unix_millis();
        let key = caller.key.and_then(|key| self.keys.name(key));
        if let Some(cooling) = key.and_then(|key| failures.api_key(&key, now)) {
            let wait = Duration::from_secs(cooling.secs);
            return Err(Limited::new(Limit::ApiKeyFailures, wait).into());
        }
        let (reason, who, cooling) = if let Some(cooling) = failures.payer(payer, now) {
            (Reason::PayerCoolingDown, "of this payer", cooling)
        } else if let Some(cooling) = failures.service(service, now) {
            (Reason::ServiceCoolingDown, "to this service", cooling)
        } else {
            return Ok(Ok(()));
        };
        let message = format!(
            "too many payments {who} failed on chain lately: try again in {} s",
            cooling.secs
        );
        Ok(Err(Refusal {
            retry_after: Some(cooling.secs),
            ..Refusal::new(Rejection::new(reason, message), Some(*payer))
        }))
    }

    async fn screen(&self, payment: &impl Parties) -> Result<Result<(), Refusal>, Unavailable> {
        let refused = || {
            let message = "this facilitator does not settle for payer, service or one of its recipients: ask its \
                           operator";
            let rejection = Rejection::new(Reason::Screened, message);
            Ok(Err(Refusal::new(rejection, Some(payment.payer()))))
        };
        if let Some(list) = &self.deny_list
            && let Some(denied) = list.denied(|| payment.everybody())
        {
            tracing::info!(%denied, payer = %payment.payer(), "screened out by the deny list");
            return refused();
        }
        let Some(hook) = &self.hook else {
            return Ok(Ok(()));
        };
        match hook.allows(payment.question()).await {
            Ok(true) => Ok(Ok(())),
            Ok(false) => refused(),
            Err(screening::NoAnswer) => Err(Unavailable::Screening),
        }
    }

    /// What a caller's API key is called, for the ledger.
    pub(crate) fn key_name(&self, caller: &Caller) -> Option<Arc<str>> {
        self.keys.name(caller.key?)
    }

    /// Counts a payment that failed on chain.
    pub(crate) fn failed(&self, failure: &Failure) {
        self.failures.count(failure);
    }

    /// Counts what failed according to the ledger: before a start, and with other relayers on it.
    pub(crate) async fn recall(&self, ledger: &Ledger) -> Result<(), LedgerError> {
        if !self.failures.is_on() {
            return Ok(());
        }
        let now = unix_millis();
        // The others' clocks are not quite this one.
        let known = self.recalled.load(Ordering::Relaxed) - OVERLAP_MS;
        let since = known.max(now - self.failures.memory_ms());
        for failure in ledger.failed_since(since).await? {
            self.failures.count(&failure);
        }
        self.recalled.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// What is done now and then: forgets what matters no more, and reads again what has changed.
    pub(crate) fn sweep(&self) {
        self.ips.sweep();
        for buckets in self.payers.iter().chain(&self.services) {
            buckets.sweep();
        }
        self.failures.sweep(unix_millis());
        if let Some(list) = &self.deny_list {
            list.refresh();
        }
    }
}
