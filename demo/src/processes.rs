//! The programs that the demo starts: found beside it, stopped with it.

use std::{
    env, fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{setting::Setting, show};

const READY: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);

/// A program beside this one.
fn binary(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("finding the demo's own folder")?;
    let path = own.with_file_name(name);
    ensure!(
        path.exists(),
        "{} is missing: run `make binaries`",
        path.display()
    );
    Ok(path)
}

/// Ends a child as an operator would, and waits for it.
async fn stop(mut child: Child, name: &str) -> Result<()> {
    let Some(pid) = child.id() else {
        bail!("{name} ended before it was asked to");
    };
    let status = Command::new("kill")
        .args(["-TERM", &pid.to_string()])
        .status()
        .await;
    ensure!(
        status.is_ok_and(|status| status.success()),
        "{name} could not be asked to stop"
    );
    match timeout(STOP, child.wait()).await {
        Ok(status) => {
            let status = status.with_context(|| format!("waiting for {name}"))?;
            ensure!(status.success(), "{name} stopped with {status}");
            Ok(())
        }
        Err(_) => {
            child.start_kill().ok();
            bail!("{name} did not stop within {} s", STOP.as_secs())
        }
    }
}

/// The local validator.
pub struct Localnet {
    child: Child,
    ready: Value,
}

impl Localnet {
    /// Starts it on free ports and waits until it answers.
    pub async fn start(setting: &Setting, slot_ms: u64) -> Result<Self> {
        let log = fs::File::create(setting.folder().join("localnet.log"))?;
        let mut child = Command::new(binary("sluice-localnet")?)
            .args(["--rpc-port", "0", "--ws-port", "0", "--output", "json"])
            .args(["--slot-ms", &slot_ms.to_string()])
            .arg("--program")
            .arg(setting.program()?)
            .arg("--keys-dir")
            .arg(setting.keys())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("starting the local validator")?;
        let stdout = child.stdout.take().context("the validator's output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(READY, lines.next_line())
            .await
            .context("the local validator was not ready in time")??
            .with_context(|| {
                let log = setting.folder().join("localnet.log");
                format!("the local validator ended at once: see {}", log.display())
            })?;
        let ready = serde_json::from_str(&line).context("the validator's ready line")?;
        Ok(Self { child, ready })
    }

    /// A text in its ready line.
    pub fn text(&self, field: &str) -> Result<&str> {
        self.ready[field]
            .as_str()
            .with_context(|| format!("{field} in the validator's ready line"))
    }

    /// Its RPC.
    pub fn rpc_url(&self) -> &str {
        self.ready["rpc_url"].as_str().unwrap_or_default()
    }

    /// The address of a demo key.
    pub fn address(&self, role: &str) -> Result<String> {
        let text = self.ready["keys"][role]["address"].as_str();
        Ok(text
            .with_context(|| format!("a demo key {role}"))?
            .to_owned())
    }

    /// The file of a demo key.
    pub fn key_file(&self, role: &str) -> Result<String> {
        let text = self.ready["keys"][role]["file"].as_str();
        Ok(text
            .with_context(|| format!("a file of demo key {role}"))?
            .to_owned())
    }

    /// Ends it.
    pub async fn stop(self) -> Result<()> {
        stop(self.child, "the local validator").await
    }
}

/// The relayer.
pub struct Relayer {
    child: Child,
    url: String,
}

impl Relayer {
    /// Checks its configuration, starts it and waits until it is ready.
    pub async fn start(setting: &Setting, localnet: &Localnet) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = setting.write_relayer(localnet, address)?;
        let config = config.to_str().context("a path in UTF-8")?;
        let path = binary("sluice-relayer")?;
        let check = ["check", "--config", config, "--rpc"];
        run(
            &path,
            &check,
            &format!("sluice-relayer {}", check.join(" ")),
            false,
        )
        .await?;
        let log = fs::File::create(setting.relayer_log())?;
        let mut child = Command::new(&path)
            .args(["run", "--config", config])
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("starting the relayer")?;
        let url = format!("http://{address}");
        let deadline = Instant::now() + READY;
        loop {
            if let Some(status) = child.try_wait()? {
                bail!(
                    "the relayer ended with {status}: see {}",
                    setting.relayer_log().display()
                );
            }
            let answer = reqwest::get(format!("{url}/ready")).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(Self { child, url });
            }
            ensure!(
                Instant::now() < deadline,
                "the relayer was not ready in time: see {}",
                setting.relayer_log().display()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Its process.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it.
    pub async fn stop(self) -> Result<()> {
        stop(self.child, "the relayer").await
    }
}

/// The command line.
pub struct Cli {
    rpc_url: String,
}

impl Cli {
    /// For one cluster.
    pub fn new(rpc_url: &str) -> Self {
        Self {
            rpc_url: rpc_url.to_owned(),
        }
    }

    /// A command as a person would type it.
    pub fn line(&self, args: &[&str]) -> String {
        format!("target/debug/sluice -u {} {}", self.rpc_url, args.join(" "))
    }

    /// Runs a command that must work, and shows it.
    pub async fn run(&self, args: &[&str]) -> Result<()> {
        self.call(args, false).await.map(drop)
    }

    /// Runs a command and says whether it worked.
    pub async fn may_fail(&self, args: &[&str]) -> Result<bool> {
        self.call(args, true).await
    }

    async fn call(&self, args: &[&str], may_fail: bool) -> Result<bool> {
        let path = binary("sluice")?;
        let mut all = vec!["-u", self.rpc_url.as_str()];
        all.extend_from_slice(args);
        run(&path, &all, &format!("sluice {}", args.join(" ")), may_fail).await
    }
}

async fn run(path: &Path, args: &[&str], line: &str, may_fail: bool) -> Result<bool> {
    show::command(line);
    let output = Command::new(path)
        .args(args)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("running {line}"))?;
    // What a command will do, where that is worth reading twice: a payment's receipt says it again.
    let review = line.starts_with("sluice payer") && output.status.success();
    if review {
        show::output(&String::from_utf8_lossy(&output.stderr));
    }
    show::output(&String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        show::output(&String::from_utf8_lossy(&output.stderr));
        ensure!(may_fail, "`{line}` ended with {}", output.status);
    }
    Ok(output.status.success())
}
