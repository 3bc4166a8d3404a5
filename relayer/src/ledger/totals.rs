//! What was earned and what it cost, added up.
//!
//! A landing writes one row, in its own commit, and waits for nobody ([`record`](super::record)). Now and then those
//! rows are added to totals by hour, by day and for ever, and go away. A question is answered by a few hundred totals
//! and the rows that are left, however many payments the ledger holds.

use std::collections::BTreeMap;

use sluice_sdk::Address;
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{
    Backend, Ledger, LedgerError,
    row::{column, from_sql, small, to_sql},
    unix_millis, values,
};

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;
/// The span of the totals that begin with the ledger.
const EVER: i64 = 0;
/// Totals by hour are kept for so long; what is asked for from further back begins with a day.
const HOURS_KEPT: i64 = 8 * DAY;
/// Rows that are added up at once.
const FOLDED: i64 = 1_000;
/// Rows a statement.
const CHUNK: usize = 200;
/// The lower part of a wide sum is below this.
const WIDE: u64 = 1_000_000_000;

/// The columns that are added up.
const SUMS: [&str; 14] = [
    "transactions",
    "failed",
    "carried",
    "paid",
    "refused",
    "cost",
    "subsidy",
    "unpriced",
    "volume_hi",
    "volume_lo",
    "earned_hi",
    "earned_lo",
    "worth_hi",
    "worth_lo",
];

/// Sums over transactions and their payments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Transactions that landed.
    pub transactions: u64,
    /// Of those, how many failed as a whole.
    pub failed: u64,
    /// Payments that they carried.
    pub carried: u64,
    /// Payments that were made.
    pub paid: u64,
    /// Payments that were refused for good.
    pub refused: u64,
    /// Lamports that the transactions cost, failed ones and skipped entries included.
    pub cost: u64,
    /// Lamports of the days' subsidies that went into the payments made.
    pub subsidy: u64,
    /// Payments made whose worth is not known.
    pub unpriced: u64,
    /// Atomic units that were paid.
    pub volume: u128,
    /// The facilitator's shares of them, each rounded down.
    pub earned: u128,
    /// What the shares were worth in lamports when the payments were taken on, where that is known.
    pub worth: u128,
}

impl Sums {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        let sums = [
            (&mut self.transactions, other.transactions),
            (&mut self.failed, other.failed),
            (&mut self.carried, other.carried),
            (&mut self.paid, other.paid),
            (&mut self.refused, other.refused),
            (&mut self.cost, other.cost),
            (&mut self.subsidy, other.subsidy),
            (&mut self.unpriced, other.unpriced),
        ];
        for (sum, more) in sums {
            *sum = sum.saturating_add(more);
        }
        self.volume = self.volume.saturating_add(other.volume);
        self.earned = self.earned.saturating_add(other.earned);
        self.worth = self.worth.saturating_add(other.worth);
    }

    /// In the order of [`SUMS`].
    fn columns(&self) -> [i64; SUMS.len()] {
        let hi = |sum: u128| i64::try_from(sum / u128::from(WIDE)).unwrap_or(i64::MAX);
        let lo = |sum: u128| i64::try_from(sum % u128::from(WIDE)).unwrap_or(0);
        [
            to_sql(self.transactions),
            to_sql(self.failed),
            to_sql(self.carried),
            to_sql(self.paid),
            to_sql(self.refused),
            to_sql(self.cost),
            to_sql(self.subsidy),
            to_sql(self.unpriced),
            hi(self.volume),
            lo(self.volume),
            hi(self.earned),
            lo(self.earned),
            hi(self.worth),
            lo(self.worth),
        ]
    }

    fn read(row: &AnyRow) -> Result<Self, LedgerError> {
        let sum = |name: &'static str| from_sql(row.try_get(name)?, name);
        let wide = |hi: &'static str, lo: &'static str| {
            Ok::<_, LedgerError>(u128::from(sum(hi)?) * u128::from(WIDE) + u128::from(sum(lo)?))
        };
        Ok(Self {
            transactions: sum("transactions")?,
            failed: sum("failed")?,
            carried: sum("carried")?,
            paid: sum("paid")?,
            refused: sum("refused")?,
            cost: sum("cost")?,
            subsidy: sum("subsidy")?,
            unpriced: sum("unpriced")?,
            volume: wide("volume_hi", "volume_lo")?,
            earned: wide("earned_hi", "earned_lo")?,
            worth: wide("worth_hi", "worth_lo")?,
        })
    }
}

/// A stretch of time up to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Unix seconds where it begins: not later than was asked for, at the beginning of an hour or a day. 0 for ever.
    pub since: i64,
    /// The totals of this span from here on.
    long: (i64, i64),
    /// Totals by hour from here up to there.
    hours: (i64, i64),
}

impl Window {
    /// Everything.
    pub const EVER: Self = Self {
        since: 0,
        long: (EVER, 0),
        hours: (0, 0),
    };

    /// From `since` on, unix seconds; `now` by the same clock.
    pub fn since(since: i64, now: i64) -> Self {
        if since <= 0 {
            return Self::EVER;
        }
        let day = since.div_euclid(DAY) * DAY;
        // A day of margin, because this machine's clock is not every relayer's.
        if since < now.saturating_sub(HOURS_KEPT - DAY) {
            return Self {
                since: day,
                long: (DAY, day),
                hours: (0, 0),
            };
        }
        let hour = since.div_euclid(HOUR) * HOUR;
        if hour == day {
            return Self {
                since: day,
                long: (DAY, day),
                hours: (0, 0),
            };
        }
        Self {
            since: hour,
            long: (DAY, day.saturating_add(DAY)),
            hours: (hour, day.saturating_add(DAY)),
        }
    }
}

/// The sums of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceSums {
    /// The service.
    pub service: Address,
    /// Its mint.
    pub mint: Address,
    /// The sums.
    pub sums: Sums,
}

/// A transaction of before a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastCost {
    /// The service.
    pub service: Address,
    /// What it cost.
    pub lamports: u64,
    /// Payments of intents that it made: a transfer's costs tell nothing about the next one's.
    pub paid: u32,
    /// When it was signed, unix milliseconds of the relayer's clock.
    pub at: i64,
}

/// What a landing adds, before it is known whether its transaction is counted already.
pub(super) fn paid(row: &AnyRow) -> Result<Sums, LedgerError> {
    let amount: u64 = column(row, "amount")?;
    let earned: u64 = column(row, "share")?;
    let worth = row.try_get::<Option<i64>, _>("worth")?;
    let worth = worth.map(|worth| from_sql(worth, "worth")).transpose()?;
    Ok(Sums {
        paid: 1,
        subsidy: from_sql(row.try_get("subsidy")?, "subsidy")?,
        unpriced: u64::from(worth.is_none()),
        volume: amount.into(),
        earned: earned.into(),
        worth: worth.unwrap_or(0).into(),
        ..Sums::default()
    })
}

/// Writes down what a transaction added, in the commit that lands it.
pub(super) async fn note(
    connection: &mut AnyConnection,
    signature: &str,
    sums: &Sums,
) -> Result<(), LedgerError> {
    if *sums == Sums::default() {
        return Ok(());
    }
    let columns = SUMS.join(", ");
    let places = super::placeholders(3, SUMS.len());
    let sql = format!(
        "INSERT INTO landings (landed_at, service, mint, {columns}) SELECT $1, t.service, coalesce((SELECT p.mint \
         FROM attempts a JOIN payments p ON p.digest = a.digest WHERE a.signature = t.signature LIMIT 1), ''), {places} \
         FROM transactions t WHERE t.signature = $2"
    );
    let mut query = sqlx::query(&sql)
        .bind(unix_millis())
        .bind(signature.to_owned());
    for value in sums.columns() {
        query = query.bind(value);
    }
    query.execute(connection).await?;
    Ok(())
}

type Key = (i64, i64, String, String);

impl Ledger {
    /// Adds what landed to the totals. Several relayers may do so at once: each takes other rows.
    pub async fn fold_totals(&self) -> Result<(), LedgerError> {
        loop {
            // Asked first: on an idle ledger there is nothing to write.
            let row = sqlx::query(
                "SELECT count(*) AS waiting FROM (SELECT id FROM landings LIMIT 1) AS one",
            )
            .fetch_one(&self.reader)
            .await?;
            if row.try_get::<i64, _>("waiting")? == 0 {
                return Ok(());
            }
            let backend = self.backend;
            let folded = self
                .write(move |connection| Box::pin(async move { fold(connection, backend).await }))
                .await?;
            if folded < FOLDED {
                return Ok(());
            }
        }
    }

    /// Forgets totals by hour that are too old to be asked for. `now` is unix seconds of the relayer's clock.
    pub async fn prune_totals(&self, now: i64) -> Result<(), LedgerError> {
        let before = now.saturating_sub(HOURS_KEPT);
        self.write(move |connection| {
            Box::pin(async move {
                for table in ["totals", "batch_sizes"] {
                    let sql = format!("DELETE FROM {table} WHERE span = $1 AND began < $2");
                    sqlx::query(&sql)
                        .bind(HOUR)
                        .bind(before)
                        .execute(&mut *connection)
                        .await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// The sums of every service in a window, or of one, or of those paid in a mint.
    pub async fn sums(
        &self,
        window: Window,
        service: Option<&Address>,
        mint: Option<&Address>,
    ) -> Result<Vec<ServiceSums>, LedgerError> {
        let columns = SUMS.join(", ");
        let sums: Vec<String> = SUMS
            .iter()
            .map(|name| format!("CAST(sum({name}) AS BIGINT) AS {name}"))
            .collect();
        // One statement, so that what is being added up meanwhile is in it once.
        let sql = format!(
            "SELECT service, mint, {} FROM (\
             SELECT service, mint, {columns} FROM totals WHERE span = $1 AND began >= $2 UNION ALL \
             SELECT service, mint, {columns} FROM totals WHERE span = $3 AND began >= $4 AND began < $5 UNION ALL \
             SELECT service, mint, {columns} FROM landings WHERE landed_at >= $6) AS parts \
             WHERE ($7 = '' OR service = $8) AND ($9 = '' OR mint = $10) GROUP BY service, mint",
            sums.join(", ")
        );
        let rows = select(&sql, window, service, mint)
            .fetch_all(&self.reader)
            .await?;
        let read = |row: &AnyRow| {
            Ok(ServiceSums {
                service: column(row, "service")?,
                mint: column(row, "mint")?,
                sums: Sums::read(row)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// How many transactions of a window carried how many payments, by the number of payments.
    pub async fn batch_sizes(
        &self,
        window: Window,
        service: Option<&Address>,
        mint: Option<&Address>,
    ) -> Result<BTreeMap<u32, u64>, LedgerError> {
        const COLUMNS: &str = "service, mint, carried, transactions";
        let sql = format!(
            "SELECT carried, CAST(sum(transactions) AS BIGINT) AS transactions FROM (\
             SELECT {COLUMNS} FROM batch_sizes WHERE span = $1 AND began >= $2 UNION ALL \
             SELECT {COLUMNS} FROM batch_sizes WHERE span = $3 AND began >= $4 AND began < $5 UNION ALL \
             SELECT {COLUMNS} FROM landings WHERE landed_at >= $6 AND transactions = 1) AS parts \
             WHERE ($7 = '' OR service = $8) AND ($9 = '' OR mint = $10) GROUP BY carried"
        );
        let rows = select(&sql, window, service, mint)
            .fetch_all(&self.reader)
            .await?;
        rows.iter()
            .map(|row| {
                let count = from_sql(row.try_get("transactions")?, "transactions")?;
                Ok((small(row, "carried")?, count))
            })
            .collect()
    }

    /// Transactions that landed and were signed at `since` (unix milliseconds) or later, the oldest first; of more than
    /// `most`, the newest.
    pub async fn recent_costs(&self, since: i64, most: u32) -> Result<Vec<PastCost>, LedgerError> {
        let rows = sqlx::query(
            "SELECT t.service, t.fee_lamports, t.signed_at, (SELECT count(*) FROM attempts a JOIN payments p \
             ON p.digest = a.digest AND p.signature = a.signature WHERE a.signature = t.signature \
             AND p.scheme = 'sluice-split' AND p.state IN ('confirmed', 'finalized')) AS paid FROM transactions t WHERE t.outcome = 'landed' \
             AND t.signed_at >= $1 ORDER BY t.signed_at DESC LIMIT $2",
        )
        .bind(since)
        .bind(i64::from(most))
        .fetch_all(&self.reader)
        .await?;
        let read = |row: &AnyRow| {
            Ok(PastCost {
                service: column(row, "service")?,
                lamports: from_sql(row.try_get("fee_lamports")?, "fee_lamports")?,
                paid: small(row, "paid")?,
                at: row.try_get("signed_at")?,
            })
        };
        rows.iter().rev().map(read).collect()
    }

    /// Lamports of subsidy used on a day (days since 1970).
    pub async fn subsidy_used(&self, day: i64) -> Result<u64, LedgerError> {
        let row = sqlx::query("SELECT used FROM subsidies WHERE day = $1")
            .bind(day)
            .fetch_optional(&self.reader)
            .await?;
        row.map_or(Ok(0), |row| from_sql(row.try_get("used")?, "used"))
    }
}

fn select<'q>(
    sql: &'q str,
    window: Window,
    service: Option<&Address>,
    mint: Option<&Address>,
) -> sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments<'q>> {
    let text = |key: Option<&Address>| key.map(Address::to_string).unwrap_or_default();
    let (service, mint) = (text(service), text(mint));
    sqlx::query(sql)
        .bind(window.long.0)
        .bind(window.long.1)
        .bind(HOUR)
        .bind(window.hours.0)
        .bind(window.hours.1)
        .bind(window.since.saturating_mul(1_000))
        .bind(service.clone())
        .bind(service)
        .bind(mint.clone())
        .bind(mint)
}

async fn fold(connection: &mut AnyConnection, backend: Backend) -> Result<i64, LedgerError> {
    // Rows that another relayer is adding up at this moment are its own.
    let skip = match backend {
        Backend::Sqlite => "",
        Backend::Postgres => "FOR UPDATE SKIP LOCKED",
    };
    let sql = format!(
        "DELETE FROM landings WHERE id IN (SELECT id FROM landings ORDER BY id LIMIT $1 {skip}) \
         RETURNING landed_at, service, mint, {}",
        SUMS.join(", ")
    );
    let rows = sqlx::query(&sql)
        .bind(FOLDED)
        .fetch_all(&mut *connection)
        .await?;
    let mut totals: BTreeMap<Key, Sums> = BTreeMap::new();
    let mut sizes: BTreeMap<(Key, u64), u64> = BTreeMap::new();
    for row in &rows {
        let at = row.try_get::<i64, _>("landed_at")?.div_euclid(1_000);
        let (service, mint): (String, String) = (row.try_get("service")?, row.try_get("mint")?);
        let sums = Sums::read(row)?;
        for span in [EVER, DAY, HOUR] {
            let began = if span == EVER {
                0
            } else {
                at.div_euclid(span) * span
            };
            let key = (span, began, service.clone(), mint.clone());
            if sums.transactions > 0 {
                let count = sizes.entry((key.clone(), sums.carried)).or_default();
                *count = count.saturating_add(1);
            }
            totals.entry(key).or_default().add(&sums);
        }
    }
    // In the order of their keys: two relayers that add to the same rows wait for each other in one direction.
    let totals: Vec<(Key, Vec<i64>)> = totals
        .into_iter()
        .map(|(key, sums)| (key, sums.columns().to_vec()))
        .collect();
    add(connection, "totals", "", &SUMS, &totals).await?;
    let sizes: Vec<(Key, Vec<i64>)> = sizes
        .into_iter()
        .map(|((key, carried), count)| (key, vec![to_sql(carried), to_sql(count)]))
        .collect();
    add(
        connection,
        "batch_sizes",
        ", carried",
        &["carried", "transactions"],
        &sizes,
    )
    .await?;
    i64::try_from(rows.len()).map_err(|error| LedgerError::Row(error.to_string()))
}

/// Adds rows to a table of totals. `key` is what its key has besides the usual, and `columns` what follows the usual key.
async fn add(
    connection: &mut AnyConnection,
    table: &str,
    key: &str,
    columns: &[&str],
    rows: &[(Key, Vec<i64>)],
) -> Result<(), LedgerError> {
    let sums: Vec<String> = columns
        .iter()
        .filter(|name| !key.ends_with(*name))
        .map(|name| format!("{name} = {table}.{name} + excluded.{name}"))
        .collect();
    for chunk in rows.chunks(CHUNK) {
        let sql = format!(
            "INSERT INTO {table} (span, began, service, mint, {}) VALUES {} \
             ON CONFLICT (span, began, service, mint{key}) DO UPDATE SET {}",
            columns.join(", "),
            values(chunk.len(), 4 + columns.len()),
            sums.join(", ")
        );
        let mut query = sqlx::query(&sql);
        for ((span, began, service, mint), sums) in chunk {
            query = query
                .bind(*span)
                .bind(*began)
                .bind(service.clone())
                .bind(mint.clone());
            for value in sums {
                query = query.bind(*value);
            }
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_at_an_hour_or_a_day() {
        let now = 100 * DAY + 5 * HOUR + 7;
        assert_eq!(Window::since(0, now), Window::EVER);
        assert_eq!(Window::since(-5, now), Window::EVER);
        let lately = Window::since(100 * DAY + 2 * HOUR + 1, now);
        assert_eq!(lately.since, 100 * DAY + 2 * HOUR);
        assert_eq!(lately.long, (DAY, 101 * DAY));
        assert_eq!(lately.hours, (100 * DAY + 2 * HOUR, 101 * DAY));
        let midnight = Window::since(99 * DAY, now);
        assert_eq!((midnight.since, midnight.long), (99 * DAY, (DAY, 99 * DAY)));
        assert_eq!(midnight.hours, (0, 0));
        let long_ago = Window::since(50 * DAY + 3 * HOUR, now);
        assert_eq!((long_ago.since, long_ago.hours), (50 * DAY, (0, 0)));
        assert!(Window::since(i64::MAX, now).since > now);
    }

    #[test]
    fn sums_survive_their_columns() {
        let sums = Sums {
            volume: u128::from(u64::MAX) * 1_000,
            earned: u128::from(WIDE) - 1,
            worth: 1,
            cost: 5_000,
            ..Sums::default()
        };
        let columns = sums.columns();
        let wide = |i: usize| columns[i] as u128 * u128::from(WIDE) + columns[i + 1] as u128;
        assert_eq!((wide(8), wide(10), wide(12)), (sums.volume, sums.earned, 1));
        assert_eq!(columns[5], 5_000);
    }
}
