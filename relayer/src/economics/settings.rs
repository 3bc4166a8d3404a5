//! What the operator says about earning and losing.

use std::time::Duration;

use serde::Deserialize;

use super::price::{Price, TokenPrices};
use crate::config::SecretUrl;

/// Prices, the least margin, and what happens to a payment that does not bring it in.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EconomicsSettings {
    /// Whether payments must pay for themselves. If not, everything is settled, and prices serve the statistics alone.
    pub enforce: bool,
    /// USD for one SOL.
    pub sol_usd: Option<Price>,
    /// USD for one whole token, by mint.
    pub token_usd: TokenPrices,
    /// Where the prices are asked for that are not given here.
    pub price_url: Option<SecretUrl>,
    /// Seconds between two questions there.
    pub price_poll_secs: u64,
    /// Seconds that an answer is believed. An older price is not known.
    pub price_max_age_secs: u64,
    /// The least margin, in basis points of the cost.
    pub margin_bps: u32,
    /// And in lamports a payment, on top.
    pub margin_lamports: u64,
    /// Seconds that a transaction counts for what the next one is expected to cost.
    pub cost_window_secs: u64,
    /// Most milliseconds that a payment waits for others which make its transaction pay. 0 for none.
    pub wait_ms: u64,
    /// The largest batch that is waited for. 0 for whatever fits in a transaction.
    pub wait_batch: usize,
    /// Lamports that may be lost a day, UTC, on payments that do not pay.
    pub subsidy_lamports_per_day: u64,
}

impl Default for EconomicsSettings {
    fn default() -> Self {
        Self {
            enforce: false,
            sol_usd: None,
            token_usd: TokenPrices::default(),
            price_url: None,
            price_poll_secs: 30,
            price_max_age_secs: 300,
            margin_bps: 0,
            margin_lamports: 0,
            cost_window_secs: 300,
            wait_ms: 0,
            wait_batch: 0,
            subsidy_lamports_per_day: 0,
        }
    }
}

/// Most that may be asked for on top of the cost, in basis points: a hundred times the cost.
const MAX_MARGIN_BPS: u32 = 1_000_000;
/// The longest that a payment may be made to wait. Less than an intent usually lives.
const MAX_WAIT_MS: u64 = 30_000;

impl EconomicsSettings {
    /// See [`EconomicsSettings::price_max_age_secs`].
    pub fn max_age(&self) -> Duration {
        Duration::from_secs(self.price_max_age_secs)
    }

    /// See [`EconomicsSettings::price_poll_secs`].
    pub fn poll(&self) -> Duration {
        Duration::from_secs(self.price_poll_secs)
    }

    /// See [`EconomicsSettings::cost_window_secs`].
    pub fn cost_window(&self) -> Duration {
        Duration::from_secs(self.cost_window_secs)
    }

    /// What is wrong with the values, beginning with the field. Callers wait for `confirm_timeout` at most.
    pub fn problems(&self, confirm_timeout: Duration) -> Vec<String> {
        let scheme = |url: &SecretUrl| {
            let url = url::Url::parse(url.expose()).ok();
            url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        };
        let wait = Duration::from_millis(self.wait_ms);
        let priced =
            self.price_url.is_some() || (self.sol_usd.is_some() && !self.token_usd.0.is_empty());
        let rules = [
            (
                self.price_url.as_ref().is_none_or(scheme),
                "price_url: must be an http:// or https:// URL",
            ),
            (
                (1..=3_600).contains(&self.price_poll_secs),
                "price_poll_secs: must be 1 to 3600",
            ),
            (
                (1..=86_400).contains(&self.price_max_age_secs),
                "price_max_age_secs: must be 1 to 86400",
            ),
            (
                self.price_url.is_none() || self.price_max_age_secs > self.price_poll_secs,
                "price_max_age_secs: must be above price_poll_secs, or every price is too old before the next",
            ),
            (
                self.margin_bps <= MAX_MARGIN_BPS,
                "margin_bps: must be at most 1000000",
            ),
            (
                self.margin_lamports <= 1_000_000_000,
                "margin_lamports: must be at most 1000000000",
            ),
            (
                (1..=86_400).contains(&self.cost_window_secs),
                "cost_window_secs: must be 1 to 86400",
            ),
            (
                self.wait_ms <= MAX_WAIT_MS && wait < confirm_timeout,
                "wait_ms: must be at most 30000, and less than limits.confirm_timeout_secs",
            ),
            (
                self.wait_batch != 1 && self.wait_batch <= 80,
                "wait_batch: must be 0, or 2 to 80",
            ),
            (
                self.subsidy_lamports_per_day <= 1_000_000_000_000_000,
                "subsidy_lamports_per_day: must be at most 1000000000000000",
            ),
            (
                !self.enforce || priced || self.subsidy_lamports_per_day > 0,
                "enforce: without sol_usd and token_usd, a price_url or a subsidy nothing would ever be settled",
            ),
        ];
        rules
            .into_iter()
            .filter(|(holds, _)| !holds)
            .map(|(_, problem)| format!("economics.{problem}"))
            .collect()
    }
}
