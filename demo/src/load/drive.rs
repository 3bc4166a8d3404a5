//! Driving a relayer: every payer asks again as soon as it is answered.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::task::JoinSet;

use super::payers::{Payer, Scheme, Till};

/// What came of a phase.
#[derive(Debug, Default)]
pub struct Phase {
    /// Payers at once.
    pub callers: usize,
    /// Wall time.
    pub elapsed: Duration,
    /// Time of every answer that was hoped for, the shortest first.
    pub good: Vec<Duration>,
    /// Other answers, by what they said, and how often.
    pub bad: std::collections::BTreeMap<String, u64>,
    /// Batch sizes, one for each payment.
    pub batches: Vec<u64>,
    /// Lamports of each payment.
    pub lamports: Vec<u64>,
    /// CPU time of the relayer.
    pub cpu: Duration,
}

impl Phase {
    /// Good answers a second.
    pub fn rate(&self) -> f64 {
        self.good.len() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// A percentile of the good answers' times, in milliseconds.
    pub fn millis(&self, percentile: f64) -> f64 {
        let at = ((self.good.len() as f64 - 1.0).max(0.0) * percentile).round() as usize;
        self.good
            .get(at)
            .map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }

    /// CPU milliseconds of the relayer for each good answer.
    pub fn cpu_each(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e3 / (self.good.len() as f64).max(1.0)
    }

    /// Lines about the answers that were not hoped for.
    pub fn bad_lines(&self) -> Vec<String> {
        let line = |(what, count)| format!("         not good: {what}, {count} times");
        self.bad.iter().map(line).collect()
    }

    fn merge(&mut self, other: Self) {
        self.good.extend(other.good);
        self.batches.extend(other.batches);
        self.lamports.extend(other.lamports);
        for (what, count) in other.bad {
            *self.bad.entry(what).or_default() += count;
        }
    }
}

/// Which route is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The same payment of each payer, judged again and again.
    Verify,
    /// Another payment each time.
    Settle,
}

/// How long a client signs with one blockhash.
const BLOCKHASH: Duration = Duration::from_millis(500);

/// The relayer that is driven.
pub struct Target<'a> {
    /// Where it listens.
    pub url: &'a str,
    /// Its process.
    pub pid: Option<u32>,
}

/// Lets every payer call a route until `time` is over. Gives the payers back.
pub async fn drive(
    route: Route,
    scheme: Scheme,
    target: &Target<'_>,
    till: &Arc<Till>,
    payers: Vec<Payer>,
    time: Duration,
) -> Result<(Phase, Vec<Payer>)> {
    let (url, pid) = (target.url, target.pid);
    till.refresh().await?;
    let refreshing = tokio::spawn({
        let till = Arc::clone(till);
        async move {
            loop {
                tokio::time::sleep(BLOCKHASH).await;
                if till.refresh().await.is_err() {
                    return;
                }
            }
        }
    });
    let http = reqwest::Client::builder()
        .pool_max_idle_per_host(payers.len())
        .timeout(Duration::from_secs(60))
        .build()?;
    let (path, good) = match route {
        Route::Verify => ("verify", "isValid"),
        Route::Settle => ("settle", "success"),
    };
    let url = format!("{url}/{path}");
    let cpu = cpu_time(pid)?;
    let start = Instant::now();
    let end = start + time;
    let count = payers.len();
    let mut callers = JoinSet::new();
    for mut payer in payers {
        let (http, url, till) = (http.clone(), url.clone(), Arc::clone(till));
        callers.spawn(async move {
            let mut phase = Phase::default();
            let mut body = payer.next_body(&till, scheme)?;
            while Instant::now() < end {
                let asked = Instant::now();
                let answer = http
                    .post(&url)
                    .header("content-type", "application/json")
                    .body(body.clone())
                    .send()
                    .await;
                let answer = match answer {
                    Ok(answer) => answer.bytes().await,
                    Err(error) => Err(error),
                };
                match answer {
                    Ok(bytes) => {
                        let value: Value = serde_json::from_slice(&bytes)?;
                        if value[good] == true {
                            phase.good.push(asked.elapsed());
                            let batch = &value["extra"]["batch"];
                            phase.batches.extend(batch["size"].as_u64());
                            phase.lamports.extend(batch["lamportsPerPayment"].as_u64());
                        } else {
                            *phase.bad.entry(said(&value)).or_default() += 1;
                        }
                    }
                    Err(error) => *phase.bad.entry(error.to_string()).or_default() += 1,
                }
                if route == Route::Settle {
                    body = payer.next_body(&till, scheme)?;
                }
            }
            anyhow::Ok((phase, payer))
        });
    }
    let mut all = Phase::default();
    let mut back = Vec::new();
    while let Some(caller) = callers.join_next().await {
        let (phase, payer) = caller??;
        all.merge(phase);
        back.push(payer);
    }
    refreshing.abort();
    all.good.sort_unstable();
    all.batches.sort_unstable();
    all.callers = count;
    all.elapsed = start.elapsed();
    all.cpu = cpu_time(pid)?.saturating_sub(cpu);
    Ok((all, back))
}

fn said(value: &Value) -> String {
    for field in ["errorReason", "invalidReason", "error"] {
        if let Some(text) = value[field].as_str() {
            return text.to_owned();
        }
    }
    "an answer without a reason".to_owned()
}

/// CPU time that a process has used, its threads included.
fn cpu_time(pid: Option<u32>) -> Result<Duration> {
    let pid = pid.context("the relayer's process")?;
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The command's name, in brackets, may hold spaces; user and system time are the 12th and 13th field after it.
    let fields: Vec<&str> = text
        .rsplit_once(") ")
        .context("a process's figures")?
        .1
        .split(' ')
        .collect();
    let ticks = |i: usize| -> Result<u64> { Ok(fields.get(i).context("a figure")?.parse()?) };
    // A hundred ticks a second, on every Linux.
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
}
