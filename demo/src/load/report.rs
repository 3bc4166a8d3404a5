//! What a load test found out: a table, JSON for machines, and a plot.

use serde_json::{Value, json};

use super::{drive::Phase, payers::Scheme};

/// `/settle` under so many callers.
pub struct Run {
    /// Which scheme.
    pub scheme: Scheme,
    /// Payers, each of which waits for one answer at a time.
    pub callers: usize,
    /// What came of it.
    pub phase: Phase,
    /// Payments that the chain counted meanwhile.
    pub landed: u64,
    /// Lamports that the fee payer lost meanwhile.
    pub spent: u64,
}

impl Run {
    /// Lamports for each payment that landed.
    pub fn lamports(&self) -> f64 {
        self.spent as f64 / self.landed.max(1) as f64
    }

    /// Payments that were called settled and are not on chain.
    pub fn lost(&self) -> u64 {
        (self.phase.good.len() as u64).saturating_sub(self.landed)
    }

    /// Payments on chain that nobody was told of as settled.
    pub fn untold(&self) -> u64 {
        self.landed.saturating_sub(self.phase.good.len() as u64)
    }

    fn json(&self) -> Value {
        json!({
            "scheme": self.scheme.name(),
            "callers": self.callers,
            "per_s": self.phase.rate(),
            "p50_ms": self.phase.millis(0.5),
            "p99_ms": self.phase.millis(0.99),
            "cpu_ms": self.phase.cpu_each(),
            "batch_mean": mean(&self.phase.batches),
            "batch_p99": percentile(&self.phase.batches, 0.99),
            "lamports_per_payment": self.lamports(),
            "landed": self.landed,
        })
    }
}

/// The figures of a whole test.
pub struct Report {
    /// `/verify` of intents.
    pub verify: Phase,
    /// `/verify` of transfers.
    pub verify_exact: Phase,
    /// `/settle`, by scheme and callers.
    pub runs: Vec<Run>,
}

impl Report {
    /// For machines. What stands at the top is each scheme under its most callers, but `exact` under 128 if that was
    /// driven, which is what published figures are for.
    pub fn json(&self) -> Value {
        let sweep: Vec<Value> = self.runs.iter().map(Run::json).collect();
        let head = |scheme: Scheme| {
            let of = |run: &&Value| run["scheme"] == scheme.name();
            let published =
                |run: &&Value| scheme == Scheme::Exact && run["callers"] == PUBLISHED_CALLERS;
            let found = sweep.iter().filter(of).find(published);
            found
                .or(sweep.iter().rfind(of))
                .cloned()
                .unwrap_or_default()
        };
        let (settle, exact) = (head(Scheme::Split), head(Scheme::Exact));
        let verify = |phase: &Phase| {
            json!({
                "rps": phase.rate(),
                "p50_ms": phase.millis(0.5),
                "p99_ms": phase.millis(0.99),
                "cpu_ms": phase.cpu_each(),
            })
        };
        json!({
            "verify": verify(&self.verify),
            "settle": {
                "callers": settle["callers"],
                "per_s": settle["per_s"],
                "p50_ms": settle["p50_ms"],
                "p99_ms": settle["p99_ms"],
                "cpu_ms": settle["cpu_ms"],
            },
            "batch": { "mean": settle["batch_mean"], "p99": settle["batch_p99"] },
            "lamports_per_payment": settle["lamports_per_payment"],
            "exact": {
                "verify": verify(&self.verify_exact),
                "callers": exact["callers"],
                "per_s": exact["per_s"],
                "p50_ms": exact["p50_ms"],
                "p99_ms": exact["p99_ms"],
                "cpu_ms": exact["cpu_ms"],
                "lamports_per_payment": exact["lamports_per_payment"],
            },
            "lost": self.runs.iter().map(Run::lost).sum::<u64>(),
            "double": self.runs.iter().map(Run::untold).sum::<u64>(),
            "sweep": sweep,
        })
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut lines = vec![
            "route    scheme        callers  a second   p50 ms   p99 ms  CPU ms  payments/tx  lamports".to_owned(),
        ];
        for (scheme, phase) in [
            (Scheme::Split, &self.verify),
            (Scheme::Exact, &self.verify_exact),
        ] {
            lines.push(format!(
                "/verify  {:<13} {:>7} {:>9.0} {:>8.1} {:>8.1} {:>7.3}",
                scheme.name(),
                phase.callers,
                phase.rate(),
                phase.millis(0.5),
                phase.millis(0.99),
                phase.cpu_each(),
            ));
            lines.extend(phase.bad_lines());
        }
        for run in &self.runs {
            let lamports = run.lamports();
            let phase = &run.phase;
            lines.push(format!(
                "/settle  {:<13} {:>7} {:>9.0} {:>8.1} {:>8.1} {:>7.3} {:>12.1} {:>9.0}",
                run.scheme.name(),
                run.callers,
                phase.rate(),
                phase.millis(0.5),
                phase.millis(0.99),
                phase.cpu_each(),
                mean(&phase.batches),
                lamports,
            ));
            lines.extend(phase.bad_lines());
        }
        lines.join("\n")
    }

    /// What the plot shows of a scheme: callers, payments a second, median milliseconds, lamports.
    pub fn series(&self, scheme: Scheme) -> Vec<(f64, [f64; 3])> {
        self.runs
            .iter()
            .filter(|run| run.scheme == scheme)
            .map(|run| {
                let figures = [run.phase.rate(), run.phase.millis(0.5), run.lamports()];
                (run.callers as f64, figures)
            })
            .collect()
    }
}

/// The callers that published figures of other facilitators are for.
pub const PUBLISHED_CALLERS: usize = 128;

fn mean(values: &[u64]) -> f64 {
    // A batch of n is named n times: the mean over transactions is the harmonic one.
    let transactions: f64 = values.iter().map(|n| 1.0 / (*n).max(1) as f64).sum();
    if transactions == 0.0 {
        0.0
    } else {
        values.len() as f64 / transactions
    }
}

fn percentile(values: &[u64], percentile: f64) -> u64 {
    let at = ((values.len() as f64 - 1.0).max(0.0) * percentile).round() as usize;
    values.get(at).copied().unwrap_or(0)
}
