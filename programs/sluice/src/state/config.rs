use anchor_lang::prelude::*;

use super::RESERVED;

/// Seconds between an announced treasury share and its effect.
pub const FEE_DELAY_SECS: i64 = 24 * 3_600;

/// The one config of a deployment, at `["config"]`.
#[account(zero_copy)]
pub struct Config {
    /// Unix second from which `pending_treasury_bps` holds; 0 when nothing is pending.
    pub fees_effective_at: i64,
    /// Changes what this struct holds.
    pub admin: Pubkey,
    /// Becomes admin by accepting; zero for nobody.
    pub pending_admin: Pubkey,
    /// May pause, and nothing else.
    pub guardian: Pubkey,
    /// The treasury's wallet.
    pub treasury: Pubkey,
    /// Genesis hash of the cluster, which every digest contains. Set once.
    pub genesis_hash: Pubkey,
    /// Most seconds between landing and an intent's expiry.
    pub max_intent_ttl: u32,
    /// The treasury's share that new services copy, in basis points.
    pub treasury_bps: u16,
    /// The announced share.
    pub pending_treasury_bps: u16,
    /// Most that a new service may grant its facilitator, in basis points.
    pub max_facilitator_bps: u16,
    /// 1 while pulls from payers are stopped.
    pub paused: u8,
    pub version: u8,
    pub bump: u8,
    /// Zero.
    pub flags: u8,
    pub padding: [u8; 2],
    pub reserved: [u8; RESERVED],
}

const _: () = assert!(size_of::<Config>() == 248);

impl Config {
    /// The treasury's share at `now`: the announced one once its time has come.
    pub fn treasury_bps_at(&self, now: i64) -> u16 {
        if self.announcement_is_due(now) {
            self.pending_treasury_bps
        } else {
            self.treasury_bps
        }
    }

    /// Makes a due announcement the current share.
    pub fn apply_due_fees(&mut self, now: i64) {
        if self.announcement_is_due(now) {
            self.treasury_bps = self.pending_treasury_bps;
            self.fees_effective_at = 0;
            self.pending_treasury_bps = 0;
        }
    }

    fn announcement_is_due(&self, now: i64) -> bool {
        self.fees_effective_at != 0 && now >= self.fees_effective_at
    }
}
