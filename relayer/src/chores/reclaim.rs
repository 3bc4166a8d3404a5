//! Reclaim: nonce accounts whose rent one of this relayer's keys paid are closed once they are idle, and the rent comes
//! back to that key.
//!
//! The program allows it to the rent payer after 30 days without a settlement, and only in a later slot than the one of
//! opening. Accounts are learned from the ledger's openings and, because a key may have sponsored others, from the
//! chain.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sluice_sdk::{
    Address,
    accounts::{AccountQuery, NONCE_IDLE_SECS, NonceAccount},
    instructions,
    transaction::Version,
};

use super::{Job, fits, slot};
use crate::{
    budget,
    chain::{CLOCK, Depth, RawAccount},
    engine::{Engine, Unavailable},
    ledger::{chores::Kind, unix_millis},
    snapshot::{exists, lookup, time},
};

/// Most accounts that one call may name, and the clock.
const MAX_ACCOUNTS: usize = 99;
/// Most accounts that are closed in one transaction.
const MOST: usize = 16;

/// Whether whoever paid for a nonce account may close it at `now` (unix seconds of the chain's clock) and in `slot`, and
/// wants to after `idle_secs` without a settlement.
pub fn is_idle(account: &NonceAccount, idle_secs: i64, now: i64, slot: u64) -> bool {
    let idle = now.saturating_sub(account.last_active);
    idle > idle_secs.max(NONCE_IDLE_SECS) && slot > account.opened_slot
}

/// Reclaims until no more requests come in.
pub(super) async fn work(engine: Arc<Engine>) {
    let pause = engine.settings.reclaim.scan();
    loop {
        let round = async {
            if let Err(error) = round(&engine).await {
                tracing::warn!(%error, "idle accounts could not be looked after; they will be");
            }
            tokio::time::sleep(pause).await;
        };
        tokio::select! {
            () = engine.draining.cancelled() => return,
            () = round => {}
        }
    }
}

async fn round(engine: &Engine) -> Result<(), Unavailable> {
    let sponsored: HashMap<Address, u64> = engine.ledger.sponsored().await?.into_iter().collect();
    let mut keys: HashSet<Address> = sponsored.keys().copied().collect();
    for sponsor in engine.signers.addresses() {
        match engine
            .chain
            .program_accounts(&AccountQuery::sponsored_by(sponsor))
            .await
        {
            Ok(found) => keys.extend(found),
            Err(error) => {
                tracing::warn!(%error, "the chain could not be asked for sponsored accounts");
            }
        }
    }
    let mut failed = HashSet::new();
    for target in engine.ledger.targets(Kind::Reclaim).await? {
        if target.failures > 0 {
            failed.insert(target.subject);
            if !target.rest.is_zero() {
                keys.remove(&target.subject);
            }
        }
    }
    for subject in engine.ledger.busy(Kind::Reclaim).await? {
        keys.remove(&subject);
    }
    let mut keys: Vec<Address> = keys.into_iter().collect();
    keys.sort();
    for chunk in keys.chunks(MAX_ACCOUNTS) {
        look(engine, chunk, &sponsored, &failed).await?;
    }
    Ok(())
}

/// Looks at accounts of one moment, and closes those that are idle.
async fn look(
    engine: &Engine,
    keys: &[Address],
    sponsored: &HashMap<Address, u64>,
    failed: &HashSet<Address>,
) -> Result<(), Unavailable> {
    let asked_ms = unix_millis();
    let mut asked = vec![CLOCK];
    asked.extend(keys);
    let accounts = engine.chain.accounts(&asked, Depth::Confirmed).await?;
    let mut accounts = accounts.iter().map(Option::as_ref);
    let clock = accounts.next().flatten();
    let (now, seen_slot) = (time(clock)?, slot(clock)?);
    let idle_secs = engine.settings.reclaim.idle_secs;
    let mut idle: HashMap<Address, Vec<(Address, NonceAccount)>> = HashMap::new();
    for (key, account) in keys.iter().zip(accounts) {
        let account: Option<&RawAccount> = account.filter(|account| exists(account));
        let nonce = lookup::<NonceAccount>(account);
        let sponsor = nonce
            .found()
            .map(|nonce| Address::new_from_array(nonce.rent_payer))
            .filter(|sponsor| engine.signers.key(sponsor).is_some());
        let (Some(nonce), Some(sponsor)) = (nonce.found(), sponsor) else {
            // Closed by its payer, and perhaps opened anew at somebody else's cost; unless this node lags behind.
            if sponsored.get(key).is_some_and(|opened| seen_slot > *opened) {
                engine.ledger.note_closed(*key).await?;
            }
            continue;
        };
        // Somebody is about to use it.
        let in_use = !engine.desk.in_flight(&[*key], asked_ms).is_empty();
        if !in_use && is_idle(nonce, idle_secs, now, seen_slot) {
            idle.entry(sponsor).or_default().push((*key, *nonce));
        }
    }
    for (sponsor, accounts) in idle {
        let mut rest = accounts.as_slice();
        while !rest.is_empty() {
            let count = most(&sponsor, rest, failed);
            let (now, later) = rest.split_at(count);
            close(engine, sponsor, now, seen_slot).await?;
            rest = later;
        }
    }
    Ok(())
}

/// How many of these, from the first on, one transaction closes. One whose transaction failed before travels alone.
fn most(
    sponsor: &Address,
    accounts: &[(Address, NonceAccount)],
    failed: &HashSet<Address>,
) -> usize {
    let good = accounts.iter().take_while(|(key, _)| !failed.contains(key));
    let mut count = good.count().clamp(1, MOST);
    while count > 1 && !fits(Version::V0, sponsor, &closing(sponsor, &accounts[..count])) {
        count -= 1;
    }
    count
}

fn closing(
    sponsor: &Address,
    accounts: &[(Address, NonceAccount)],
) -> Vec<solana_instruction::Instruction> {
    accounts
        .iter()
        .map(|(_, nonce)| {
            let payer = Address::new_from_array(nonce.payer);
            let mint = Address::new_from_array(nonce.mint);
            instructions::close_nonce(sponsor, &payer, &mint, sponsor)
        })
        .collect()
}

async fn close(
    engine: &Engine,
    sponsor: Address,
    accounts: &[(Address, NonceAccount)],
    seen_slot: u64,
) -> Result<(), Unavailable> {
    // The key that is owed, however little it holds: this is where more comes from.
    let Some(key) = engine.signers.key(&sponsor) else {
        return Ok(());
    };
    let Some((first, _)) = accounts.first() else {
        return Ok(());
    };
    let fees = engine.fees_now(*first, sponsor).await;
    let job = Job {
        kind: Kind::Reclaim,
        subjects: accounts.iter().map(|(key, _)| *key).collect(),
        instructions: closing(&sponsor, accounts),
        budget: budget::of_reclaim(accounts.len(), &fees),
        version: Version::V0,
        key,
        seen_slot,
        cap: None,
    };
    engine.run_chore(job).await?;
    Ok(())
}
