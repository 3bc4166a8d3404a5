//! `GET /v1/stats`: what was earned, what it cost, and what is left.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Query, State},
};
use serde::{Deserialize, Serialize};
use sluice_sdk::Address;

use super::{ApiError, native::path_address};
use crate::{
    economics::subsidy::day_of,
    engine::{Engine, Unavailable},
    ledger::{
        totals::{ServiceSums, Sums, Window},
        unix_millis,
    },
};

/// Services that are listed, at most: those with the most payments.
const MAX_SERVICES: usize = 200;

/// What the relayers of a ledger earned and paid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatsView {
    /// Unix seconds from which on it counts, at the beginning of an hour or, from more than a week ago, of a day (UTC);
    /// not later than was asked for. 0 for everything that the ledger has.
    pub since: i64,
    /// Unix seconds of the relayer's clock.
    pub now: i64,
    /// Payments that are being settled at this relayer.
    pub in_flight: u64,
    /// The day's subsidy.
    pub subsidy: SubsidyView,
    /// How payments shared transactions.
    pub batches: BatchesView,
    /// Everything together. Atomic units of different mints are not added up.
    pub total: Figures,
    /// By mint.
    pub mints: BTreeMap<String, Figures>,
    /// By service, those with the most payments first.
    pub services: Vec<ServiceFigures>,
    /// Services that are left out of the list.
    pub services_left_out: u64,
}

/// The day's subsidy in [`StatsView`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubsidyView {
    /// Days since 1970, UTC, by the chain's clock.
    pub day: i64,
    /// Lamports that may be used on it.
    pub lamports_per_day: u64,
    /// Lamports that are used, by all relayers that share the ledger.
    pub used_lamports: u64,
}

/// How payments shared transactions, in [`StatsView`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchesView {
    /// Payments in a transaction, on average; `null` if there was none.
    pub mean: Option<f64>,
    /// How many transactions carried how many payments.
    pub sizes: BTreeMap<u32, u64>,
}

/// Sums, and the same for one payment. Atomic units are decimal strings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Payments that were made.
    pub payments: u64,
    /// Payments that the program refused.
    pub refused: u64,
    /// Transactions that landed.
    pub transactions: u64,
    /// Of those, how many failed as a whole.
    pub failed_transactions: u64,
    /// Lamports that all of them cost.
    pub cost_lamports: u64,
    /// Atomic units that were paid. Of one mint only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// The facilitator's shares, each rounded down. Of one mint only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earned: Option<String>,
    /// What those shares were worth when the payments were taken on, as far as prices were known.
    pub earned_lamports: u64,
    /// Payments whose share had no known price then: they are missing above and below.
    pub unpriced_payments: u64,
    /// What is left of the worth after the cost: below 0 for a loss.
    pub margin_lamports: i64,
    /// Lamports that the days' subsidies gave towards these payments.
    pub subsidy_lamports: u64,
    /// The same for one payment; `null` if there was none.
    pub per_payment: Option<PerPayment>,
}

/// Figures for one payment, on average.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PerPayment {
    /// Lamports, rounded up. What failed and what was refused is in it.
    pub cost_lamports: u64,
    /// Atomic units, rounded down. Of one mint only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earned: Option<String>,
    /// Lamports, rounded down, of the payments whose share had a price.
    pub earned_lamports: u64,
    /// Lamports, rounded down.
    pub margin_lamports: i64,
}

/// The figures of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceFigures {
    /// The service.
    pub service: String,
    /// The mint that it is paid in.
    pub mint: String,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

impl Figures {
    /// Of sums, which are of one mint or of several.
    fn of(sums: &Sums, one_mint: bool) -> Self {
        let narrow = |sum: u128| u64::try_from(sum).unwrap_or(u64::MAX);
        let signed = |sum: u128| i64::try_from(sum).unwrap_or(i64::MAX);
        let earned_lamports = narrow(sums.worth);
        let margin_lamports = signed(sums.worth).saturating_sub(signed(sums.cost.into()));
        let priced = sums.paid.saturating_sub(sums.unpriced);
        let units = |units: u128| one_mint.then(|| units.to_string());
        Self {
            payments: sums.paid,
            refused: sums.refused,
            transactions: sums.transactions,
            failed_transactions: sums.failed,
            cost_lamports: sums.cost,
            volume: units(sums.volume),
            earned: units(sums.earned),
            earned_lamports,
            unpriced_payments: sums.unpriced,
            margin_lamports,
            subsidy_lamports: sums.subsidy,
            per_payment: (sums.paid > 0).then(|| PerPayment {
                cost_lamports: sums.cost.div_ceil(sums.paid),
                earned: units(sums.earned / u128::from(sums.paid)),
                earned_lamports: earned_lamports.checked_div(priced).unwrap_or(0),
                margin_lamports: margin_lamports
                    .div_euclid(i64::try_from(sums.paid).unwrap_or(i64::MAX)),
            }),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct StatsQuery {
    since: Option<String>,
    service: Option<String>,
    mint: Option<String>,
}

pub(super) async fn stats(
    State(engine): State<Arc<Engine>>,
    Query(query): Query<StatsQuery>,
) -> Result<Json<StatsView>, ApiError> {
    let key = |word, field, text: Option<String>| -> Result<Option<Address>, ApiError> {
        text.map(|text| path_address(word, field, &text))
            .transpose()
    };
    let service = key("invalid_service", "service", query.service)?;
    let mint = key("invalid_mint", "mint", query.mint)?;
    let now = unix_millis() / 1_000;
    let since = query.since.as_deref().map_or(Ok(0), str::parse);
    let since = since.map_err(|_| {
        ApiError::bad_request(
            "invalid_since",
            "since must be unix seconds: GET /v1/stats?since=1764547200",
        )
    })?;
    let window = Window::since(since, now);
    let unavailable = |error| ApiError::from(Unavailable::Ledger(error));
    let ledger = &engine.ledger;
    let (service, mint) = (service.as_ref(), mint.as_ref());
    let sums = ledger
        .sums(window, service, mint)
        .await
        .map_err(unavailable)?;
    let sizes = ledger
        .batch_sizes(window, service, mint)
        .await
        .map_err(unavailable)?;
    // The subsidy's day is the chain's; while nobody can be asked, it is this machine's.
    let day = day_of(engine.chain_time().await.unwrap_or(now));
    let used_lamports = ledger.subsidy_used(day).await.map_err(unavailable)?;
    Ok(Json(StatsView {
        since: window.since,
        now,
        in_flight: engine.desk.live() as u64,
        subsidy: SubsidyView {
            day,
            lamports_per_day: engine.economics.subsidy_per_day(),
            used_lamports,
        },
        ..view(sums, sizes)
    }))
}

/// Everything that comes from sums.
fn view(mut sums: Vec<ServiceSums>, sizes: BTreeMap<u32, u64>) -> StatsView {
    let mut total = Sums::default();
    let mut mints: BTreeMap<String, Sums> = BTreeMap::new();
    for of in &sums {
        total.add(&of.sums);
        mints.entry(of.mint.to_string()).or_default().add(&of.sums);
    }
    sums.sort_by(|a, b| {
        let order = b.sums.paid.cmp(&a.sums.paid);
        order.then_with(|| a.service.cmp(&b.service))
    });
    let left_out = sums.len().saturating_sub(MAX_SERVICES);
    let figures = |of: &ServiceSums| ServiceFigures {
        service: of.service.to_string(),
        mint: of.mint.to_string(),
        figures: Figures::of(&of.sums, true),
    };
    let mean = total.carried as f64 / total.transactions as f64;
    StatsView {
        since: 0,
        now: 0,
        in_flight: 0,
        subsidy: SubsidyView {
            day: 0,
            lamports_per_day: 0,
            used_lamports: 0,
        },
        batches: BatchesView {
            mean: (total.transactions > 0).then_some((mean * 100.0).round() / 100.0),
            sizes,
        },
        total: Figures::of(&total, mints.len() == 1),
        mints: mints
            .iter()
            .map(|(mint, sums)| (mint.clone(), Figures::of(sums, true)))
            .collect(),
        services: sums.iter().take(MAX_SERVICES).map(figures).collect(),
        services_left_out: left_out as u64,
    }
}
