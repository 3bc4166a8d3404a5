//! Who has what, read from the chain.

use anyhow::{Context, Result, ensure};
use sluice_sdk::{
    Address, DEVNET_USDC, address,
    token::{self, TOKEN_PROGRAM},
};
use solana_commitment_config::CommitmentConfig;
use solana_rpc_client::nonblocking::rpc_client::RpcClient;

use crate::processes::Localnet;

/// What a party has.
struct Row {
    name: &'static str,
    lamports: u64,
    units: u64,
}

/// Everybody's balances at one moment.
pub struct Balances(Vec<Row>);

impl Balances {
    /// Reads them in one call, so that they are of one moment.
    pub async fn read(localnet: &Localnet, parties: &[(&'static str, Address)]) -> Result<Self> {
        let rpc = RpcClient::new_with_commitment(
            localnet.rpc_url().to_owned(),
            CommitmentConfig::confirmed(),
        );
        let keys: Vec<Address> = parties
            .iter()
            .flat_map(|(_, owner)| {
                [
                    *owner,
                    address::token_account(owner, &DEVNET_USDC, &TOKEN_PROGRAM),
                ]
            })
            .collect();
        let accounts = rpc
            .get_multiple_accounts(&keys)
            .await
            .context("reading balances")?;
        let rows = parties
            .iter()
            .zip(accounts.chunks_exact(2))
            .map(|((name, _), pair)| {
                let lamports = pair[0].as_ref().map_or(0, |account| account.lamports);
                let units = pair[1]
                    .as_ref()
                    .and_then(|account| token::decode_account(&account.owner, &account.data))
                    .map_or(0, |account| account.amount);
                Row {
                    name,
                    lamports,
                    units,
                }
            });
        Ok(Self(rows.collect()))
    }

    /// A party's lamports.
    pub fn lamports(&self, name: &str) -> Result<u64> {
        let row = self.0.iter().find(|row| row.name == name);
        Ok(row
            .with_context(|| format!("a balance of {name}"))?
            .lamports)
    }

    fn units(&self) -> u64 {
        self.0.iter().map(|row| row.units).sum()
    }
}

/// Prints before, after and the difference, and checks that not a unit came or went.
pub fn print(before: &Balances, after: &Balances) -> Result<()> {
    println!(
        "   {:<12} {:>14} {:>14} {:>12} {:>14}",
        "USDC", "before", "after", "change", "lamports"
    );
    for (old, new) in before.0.iter().zip(&after.0) {
        println!(
            "   {:<12} {:>14} {:>14} {:>12} {:>14}",
            old.name,
            amount(old.units),
            amount(new.units),
            change(old.units, new.units),
            lamports(old.lamports, new.lamports),
        );
    }
    let (old, new) = (before.units(), after.units());
    println!(
        "   {:<12} {:>14} {:>14} {:>12}",
        "sum",
        amount(old),
        amount(new),
        change(old, new)
    );
    ensure!(
        old == new,
        "{old} units before and {new} after: a unit was created or lost"
    );
    println!("   The balances add up to the unit.");
    Ok(())
}

fn amount(units: u64) -> String {
    format!("{}.{:06}", units / 1_000_000, units % 1_000_000)
}

fn change(old: u64, new: u64) -> String {
    match new.checked_sub(old) {
        Some(0) => "0".to_owned(),
        Some(more) => format!("+{}", amount(more)),
        None => format!("-{}", amount(old - new)),
    }
}

fn lamports(old: u64, new: u64) -> String {
    i128::from(new)
        .checked_sub(i128::from(old))
        .map_or_else(String::new, |change| {
            format!("{change:+}").replace("+0", "0")
        })
}
