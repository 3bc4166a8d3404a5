//! What the relayer counts, for Prometheus.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that the answers need, too.
#[derive(Debug, Default)]
pub struct Metrics {
    transactions: AtomicU64,
    payments: AtomicU64,
    lamports: AtomicU64,
}

impl Metrics {
    /// A transaction was signed.
    pub fn batch(&self, payments: usize, lamports: u64) {
        self.transactions.fetch_add(1, Ordering::Relaxed);
        self.payments.fetch_add(payments as u64, Ordering::Relaxed);
        self.lamports.fetch_add(lamports, Ordering::Relaxed);
    }

    /// Transactions signed, payments in them, lamports that they cost.
    pub fn totals(&self) -> (u64, u64, u64) {
        (
            self.transactions.load(Ordering::Relaxed),
            self.payments.load(Ordering::Relaxed),
            self.lamports.load(Ordering::Relaxed),
        )
    }
}
