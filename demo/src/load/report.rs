//! What a load test found out: a table, and JSON for machines.

use serde_json::{Value, json};

use super::drive::Phase;

/// The figures of a run.
pub struct Report {
    /// `/verify`.
    pub verify: Phase,
    /// `/settle`.
    pub settle: Phase,
    /// Payments that the chain counted while `/settle` was driven.
    pub landed: u64,
    /// Lamports that the fee payer lost meanwhile.
    pub spent: u64,
}

impl Report {
    /// For machines.
    pub fn json(&mut self) -> Value {
        let told = self.settle.good.len() as u64;
        json!({
            "verify": {
                "rps": self.verify.rate(),
                "p50_ms": self.verify.millis(0.5),
                "p99_ms": self.verify.millis(0.99),
                "cpu_ms": self.verify.cpu_each(),
            },
            "settle": {
                "per_s": self.settle.rate(),
                "p50_ms": self.settle.millis(0.5),
                "p99_ms": self.settle.millis(0.99),
                "cpu_ms": self.settle.cpu_each(),
            },
            "batch": {
                "mean": mean(&self.settle.batches),
                "p99": percentile(&mut self.settle.batches, 0.99),
            },
            "lamports_per_payment": self.spent as f64 / (self.landed.max(1)) as f64,
            "lost": told.saturating_sub(self.landed),
            "double": self.landed.saturating_sub(told),
        })
    }

    /// For people.
    pub fn print(&mut self) {
        let rows = [("/verify", &mut self.verify), ("/settle", &mut self.settle)];
        println!("             a second    p50 ms    p99 ms    relayer CPU ms");
        for (name, phase) in rows {
            println!(
                "  {name:<9} {:>9.0} {:>9.1} {:>9.1} {:>17.3}",
                phase.rate(),
                phase.millis(0.5),
                phase.millis(0.99),
                phase.cpu_each(),
            );
            for (what, count) in &phase.bad {
                println!("    not good: {what} {count} times");
            }
        }
        println!(
            "  payments a transaction: {:.1} on average, {} at the 99th percentile",
            mean(&self.settle.batches),
            percentile(&mut self.settle.batches, 0.99)
        );
        println!(
            "  lamports a payment: {:.0} ({} lamports for {} payments)",
            self.spent as f64 / self.landed.max(1) as f64,
            self.spent,
            self.landed
        );
    }
}

fn mean(values: &[u64]) -> f64 {
    // A batch of n is named n times: the mean over transactions is the harmonic one.
    let transactions: f64 = values.iter().map(|n| 1.0 / (*n).max(1) as f64).sum();
    if transactions == 0.0 {
        0.0
    } else {
        values.len() as f64 / transactions
    }
}

fn percentile(values: &mut [u64], percentile: f64) -> u64 {
    values.sort_unstable();
    let at = ((values.len() as f64 - 1.0).max(0.0) * percentile).round() as usize;
    values.get(at).copied().unwrap_or(0)
}
