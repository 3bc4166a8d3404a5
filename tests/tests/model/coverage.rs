//! Counts what the sequences did, so that a suite that has stopped testing something says so.

use std::{collections::BTreeMap, sync::Mutex};

use crate::state::Refusal;

static SEEN: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());

fn add(what: String) {
    *SEEN.lock().unwrap().entry(what).or_default() += 1;
}

/// Counts an operation and what came of it.
pub fn count<T>(what: &str, expected: &Result<T, Refusal>) {
    match expected {
        Ok(_) => add(format!("{what} landed")),
        Err(Refusal::Program(code)) => add(format!("{what} refused with {code}")),
        Err(Refusal::Token) => add(format!("{what} refused by the token program")),
    }
}

/// Counts what came of an entry.
pub fn count_entry(code: &str) {
    add(format!("entry {code}"));
}

pub fn count_step() {
    add("steps".to_owned());
}

/// What was seen, and how often.
pub fn seen() -> BTreeMap<String, u64> {
    SEEN.lock().unwrap().clone()
}

/// Notes the most that was seen of something.
pub fn most(what: &str, amount: u64) {
    let mut seen = SEEN.lock().unwrap();
    let most = seen.entry(what.to_owned()).or_default();
    *most = amount.max(*most);
}
