//! What the guard is told.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{address::TrustedProxies, egress, keys::SecretSource};
use crate::config::SecretUrl;

/// How callers are kept within bounds. Everything that refuses somebody is off or generous if nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardSettings {
    /// Networks of the proxies whose `X-Forwarded-For` is believed: CIDR blocks or single addresses.
    pub trusted_proxies: Vec<String>,
    /// The callers that are let in; everybody if there is none.
    pub api_keys: Vec<ApiKeySettings>,
    /// How much of everything a minute.
    pub rates: Rates,
    /// How often payments may fail on chain.
    pub failures: FailureSettings,
    /// Whom nobody settles for.
    pub screening: ScreeningSettings,
    /// Which web pages may ask.
    pub cors: CorsSettings,
}

/// How often, and how much of it at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rate {
    /// How many a minute. 0 for no limit.
    pub per_minute: u32,
    /// How many at once; a second's worth, and at least one, if 0.
    pub burst: u32,
}

/// A caller with a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiKeySettings {
    /// What logs and the ledger call it.
    pub name: String,
    /// A file that holds the key.
    pub file: Option<PathBuf>,
    /// The name of an environment variable that holds it.
    pub env: Option<String>,
    /// Its requests; those of [`Rates::api_key`] if it is not given.
    pub rate: Option<Rate>,
}

impl ApiKeySettings {
    pub(super) fn source(&self) -> SecretSource {
        SecretSource {
            file: self.file.clone(),
            env: self.env.clone(),
        }
    }
}

/// Limits a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Requests from one address (one /64 of version 6).
    pub ip: Rate,
    /// Requests with one API key that has no rate of its own.
    pub api_key: Rate,
    /// Payments of one payer that are judged good: so many at `/verify`, and so many at `/settle`.
    pub payer: Rate,
    /// Payments to one service that are judged good, likewise.
    pub service: Rate,
}

/// How many payments may fail on chain in a window before the next are refused for a while. 0 for any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FailureSettings {
    /// Of one payer.
    pub payer: u32,
    /// To one service.
    pub service: u32,
    /// With one API key.
    pub api_key: u32,
    /// Seconds that a failure counts.
    pub window_secs: u32,
    /// Seconds that nothing is taken on.
    pub cool_down_secs: u32,
}

impl Default for FailureSettings {
    fn default() -> Self {
        Self {
            payer: 20,
            service: 0,
            api_key: 0,
            window_secs: 600,
            cool_down_secs: 600,
        }
    }
}

/// Whom nobody settles for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScreeningSettings {
    /// A file of addresses, one a line. It is read again when it changes.
    pub deny_list: Option<PathBuf>,
    /// Who is asked about each payment.
    pub hook: Option<HookSettings>,
}

/// Who is asked about each payment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookSettings {
    /// Where it is asked.
    pub url: SecretUrl,
    /// The bearer token that it is asked with.
    #[serde(default)]
    pub token: Option<SecretSource>,
    /// Milliseconds for an answer.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Without an answer: nothing is taken on if true, everything if false.
    #[serde(default = "default_fail_closed")]
    pub fail_closed: bool,
    /// Seconds that an answer holds for the same payment.
    #[serde(default = "default_cache_secs")]
    pub cache_secs: u64,
    /// Whether it may be on a private network.
    #[serde(default)]
    pub allow_private: bool,
}

fn default_timeout_ms() -> u64 {
    1_000
}

fn default_fail_closed() -> bool {
    true
}

fn default_cache_secs() -> u64 {
    60
}

impl HookSettings {
    /// See [`HookSettings::timeout_ms`].
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// Which web pages may ask.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorsSettings {
    /// Their origins, or `*` for all; none if it is empty.
    pub origins: Vec<String>,
}

impl GuardSettings {
    /// The environment variables that hold secrets.
    pub fn secret_variables(&self) -> Vec<String> {
        let keys = self.api_keys.iter().filter_map(|key| key.env.clone());
        let hook = self.screening.hook.as_ref();
        let token = hook.and_then(|hook| hook.token.as_ref()?.env.clone());
        keys.chain(token).collect()
    }

    /// What is wrong with the values, one line each, beginning with the field.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if let Err(problem) = TrustedProxies::parse(&self.trusted_proxies) {
            found.push(format!("guard.trusted_proxies: {problem}"));
        }
        for (place, key) in self.api_keys.iter().enumerate() {
            let mut names = self.api_keys[..place].iter().map(|key| &key.name);
            if key.name.is_empty() || names.any(|name| *name == key.name) {
                found.push("guard.api_keys: each needs a name of its own".to_owned());
            }
            if !key.source().is_one() {
                found.push(format!(
                    "guard.api_keys: {:?} needs exactly one of `file` and `env` (a variable's name)",
                    key.name
                ));
            }
        }
        let failures = &self.failures;
        for (name, seconds) in [
            ("window_secs", failures.window_secs),
            ("cool_down_secs", failures.cool_down_secs),
        ] {
            if !(1..=86_400).contains(&seconds) {
                found.push(format!("guard.failures.{name}: must be 1 to 86400"));
            }
        }
        for (name, budget) in [
            ("payer", failures.payer),
            ("service", failures.service),
            ("api_key", failures.api_key),
        ] {
            if budget > 10_000 {
                found.push(format!("guard.failures.{name}: must be at most 10000"));
            }
        }
        if let Some(hook) = &self.screening.hook {
            let at = "guard.screening.hook";
            if let Err(problem) = egress::check_url(hook.url.expose(), hook.allow_private) {
                found.push(format!("{at}.url: {problem}"));
            }
            if hook.token.as_ref().is_some_and(|token| !token.is_one()) {
                found.push(format!(
                    "{at}.token: needs exactly one of `file` and `env` (a variable's name)"
                ));
            }
            if !(10..=30_000).contains(&hook.timeout_ms) {
                found.push(format!("{at}.timeout_ms: must be 10 to 30000"));
            }
            if hook.cache_secs > 3_600 {
                found.push(format!("{at}.cache_secs: must be at most 3600"));
            }
        }
        let origins = &self.cors.origins;
        let origin = |text: &String| {
            url::Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == *text)
        };
        if !(origins.iter().all(origin) || origins[..] == ["*"]) {
            found.push(
                "guard.cors.origins: each must be an origin (https://shop.example.com, nothing after it), or the \
                 only one \"*\""
                    .to_owned(),
            );
        }
        found
    }
}
