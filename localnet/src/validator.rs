//! Starting the validator, waiting until it answers, and stopping it.

use std::{
    collections::BTreeMap,
    env,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use solana_account::Account;
use solana_address::Address;
use solana_hash::Hash;
use surfpool_core::{
    start_local_surfnet,
    surfnet::svm::{SurfnetSvm, SurfnetSvmConfig},
};
use surfpool_types::{
    BlockProductionMode, ClockCommand, RpcConfig, SimnetCommand, SimnetConfig, SimnetEvent,
    StartupPlanner, StudioConfig, SubgraphConfig, SurfpoolConfig,
};
use tokio::sync::{oneshot, watch};

use crate::{DemoKeys, Error, GENESIS_HASH, PAYER_UNITS, Role, USDC_MINT, accounts};

/// How often a port that was picked as free may turn out taken by somebody else before that is an error.
const PORT_ATTEMPTS: usize = 5;
/// How long the validator may take to stop. It takes a few milliseconds.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// surfpool's clock thread never ends. At the stop it is sent to sleep for this long, so that many starts in one
/// process do not add up to many threads that tick. (Not the longest sleep there is: surfpool adds slot times up.)
const PARKED: Duration = Duration::from_secs(365 * 24 * 3600);
const SLOT_TIMES: std::ops::RangeInclusive<Duration> =
    Duration::from_millis(10)..=Duration::from_secs(10);

/// Where the program is looked for unless told otherwise: the file that `SLUICE_PROGRAM` names, or else
/// `target/deploy/sluice.so` in the current folder or the nearest one above it that has one.
#[must_use]
pub fn default_program_path() -> PathBuf {
    if let Some(path) = env::var_os("SLUICE_PROGRAM") {
        return path.into();
    }
    let relative = Path::new("target/deploy/sluice.so");
    env::current_dir()
        .ok()
        .and_then(|dir| {
            dir.ancestors()
                .map(|dir| dir.join(relative))
                .find(|path| path.is_file())
        })
        .unwrap_or_else(|| relative.into())
}

/// What a local validator starts with. Made by [`Localnet::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing runs before `start`"]
pub struct Builder {
    program: Option<PathBuf>,
    program_id: Address,
    rpc_port: u16,
    ws_port: u16,
    slot_time: Duration,
    ready_within: Duration,
    sol: Vec<(Address, u64)>,
    tokens: Vec<(Address, u64)>,
    verbose: bool,
}

impl Builder {
    fn new() -> Self {
        Self {
            program: Some(default_program_path()),
            program_id: sluice_sdk::PROGRAM_ID,
            rpc_port: 0,
            ws_port: 0,
            slot_time: Duration::from_millis(400),
            ready_within: Duration::from_secs(30),
            sol: Vec::new(),
            tokens: Vec::new(),
            verbose: false,
        }
    }

    /// The program's `.so` file. Default: [`default_program_path`].
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Starts without the program, for what needs only a cluster and tokens.
    pub fn without_program(mut self) -> Self {
        self.program = None;
        self
    }

    /// The address the program is deployed at. Default: `sluice_sdk::PROGRAM_ID`.
    pub const fn program_id(mut self, id: Address) -> Self {
        self.program_id = id;
        self
    }

    /// The port of the RPC. Default: 0, which picks a free one.
    pub const fn rpc_port(mut self, port: u16) -> Self {
        self.rpc_port = port;
        self
    }

    /// The port of the websocket. Default: 0, which picks a free one.
    pub const fn ws_port(mut self, port: u16) -> Self {
        self.ws_port = port;
        self
    }

    /// The time from block to block, 10 ms to 10 s. Default: 400 ms, as on a real cluster; tests want 50 ms.
    pub const fn slot_time(mut self, slot_time: Duration) -> Self {
        self.slot_time = slot_time;
        self
    }

    /// How long [`start`](Self::start) waits for the RPC to answer. Default: 30 s; it takes well under one.
    pub const fn ready_within(mut self, within: Duration) -> Self {
        self.ready_within = within;
        self
    }

    /// Gives an address SOL, on top of what it has.
    pub fn fund(mut self, address: Address, lamports: u64) -> Self {
        self.sol.push((address, lamports));
        self
    }

    /// Gives an owner USDC in its associated token account, on top of what it has. With 0 units the account is opened.
    pub fn token(mut self, owner: Address, units: u64) -> Self {
        self.tokens.push((owner, units));
        self
    }

    /// Prints the validator's own messages on standard error.
    pub const fn verbose(mut self, verbose: bool) -> Self {
        self.verbose = verbose;
        self
    }

    /// Starts the validator and returns when its RPC answers `getHealth` and `getLatestBlockhash`.
    ///
    /// It blocks the calling thread for a fraction of a second, inside an async runtime too: the validator has threads
    /// and a runtime of its own.
    ///
    /// # Errors
    /// Each with its cause and what to do about it: see [`Error`].
    pub fn start(self) -> Result<Localnet, Error> {
        if !SLOT_TIMES.contains(&self.slot_time) {
            return Err(Error::SlotTime(self.slot_time));
        }
        let keys = DemoKeys::new();
        let genesis = Genesis::new(&self, &keys)?;
        let picked = self.rpc_port == 0 || self.ws_port == 0;
        let mut attempt = 1;
        loop {
            match self.launch(&genesis) {
                // Between picking a port and listening on it, another process can be given the same one.
                Err(Error::Ended(_) | Error::PortInUse { .. })
                    if picked && attempt < PORT_ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
                Ok(running) => {
                    return Ok(Localnet {
                        rpc_url: format!("http://127.0.0.1:{}", running.rpc_port),
                        ws_url: format!("ws://127.0.0.1:{}", running.ws_port),
                        program_id: self.program_id,
                        keys,
                        running: Some(running),
                    });
                }
            }
        }
    }

    fn launch(&self, genesis: &Genesis) -> Result<Running, Error> {
        let (rpc_port, ws_port) = ports(self.rpc_port, self.ws_port)?;
        let launch = Launch {
            rpc_port,
            ws_port,
            slot_ms: u64::try_from(self.slot_time.as_millis()).unwrap_or(u64::MAX),
            verbose: self.verbose,
            genesis: genesis.clone(),
        };
        let (commands, commands_rx) = crossbeam_channel::unbounded();
        let (progress, progress_rx) = mpsc::channel();
        let (ended, ended_rx) = watch::channel(None);
        let thread = thread::Builder::new()
            .name("sluice-localnet".to_owned())
            .spawn({
                let commands = commands.clone();
                move || {
                    let failed = progress.clone();
                    let outcome = launch.run(commands, commands_rx, progress);
                    let reason = match outcome {
                        Ok(()) => "it was told to stop".to_owned(),
                        Err(error) => {
                            let reason = error.to_string();
                            let _ = failed.send(Progress::Failed(error));
                            reason
                        }
                    };
                    ended.send_replace(Some(reason));
                }
            })
            .map_err(Error::Threads)?;
        let mut running = Running {
            rpc_port,
            ws_port,
            commands,
            ended: ended_rx,
            thread: Some(thread),
        };

        let deadline = Instant::now() + self.ready_within;
        let mut cause = "it is still starting".to_owned();
        loop {
            match progress_rx.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(Progress::Ready) => return Ok(running),
                Ok(Progress::Waiting(why)) => cause = why,
                Ok(Progress::Failed(error)) => return Err(error),
                // The thread panicked: it reports every other end.
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(Error::Ended(
                        "it crashed while starting; its message is on standard error".to_owned(),
                    ));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let _ = running.stop();
                    return Err(Error::NotReady {
                        within: self.ready_within,
                        cause,
                    });
                }
            }
        }
    }
}

/// A running local validator. It stops when this is dropped.
#[derive(Debug)]
pub struct Localnet {
    rpc_url: String,
    ws_url: String,
    program_id: Address,
    keys: DemoKeys,
    running: Option<Running>,
}

impl Localnet {
    /// What to start with.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// The address of the RPC, `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn rpc_url(&self) -> &str {
        &self.rpc_url
    }

    /// The address of the websocket, `ws://127.0.0.1:PORT`.
    #[must_use]
    pub fn ws_url(&self) -> &str {
        &self.ws_url
    }

    /// Where the program is deployed (or would be, [without it](Builder::without_program)).
    #[must_use]
    pub const fn program_id(&self) -> Address {
        self.program_id
    }

    /// The demo keys.
    #[must_use]
    pub const fn keys(&self) -> &DemoKeys {
        &self.keys
    }

    /// Waits until the validator ends other than by [`stop`](Self::stop), and says why.
    pub async fn ended(&self) -> String {
        let Some(running) = &self.running else {
            return "it was stopped".to_owned();
        };
        let mut ended = running.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "it crashed; its message is on standard error".to_owned(),
        }
    }

    /// Stops the validator and returns when its ports are free.
    ///
    /// # Errors
    /// [`Error::NotStopped`] where it takes too long.
    pub fn stop(mut self) -> Result<(), Error> {
        self.running
            .take()
            .map_or(Ok(()), |mut running| running.stop())
    }
}

/// The validator's thread and how to reach it.
#[derive(Debug)]
struct Running {
    rpc_port: u16,
    ws_port: u16,
    commands: crossbeam_channel::Sender<SimnetCommand>,
    ended: watch::Receiver<Option<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn stop(&mut self) -> Result<(), Error> {
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let parked = u64::try_from(PARKED.as_millis()).unwrap_or(u64::MAX);
        for command in [
            SimnetCommand::CommandClock(None, ClockCommand::UpdateSlotInterval(parked)),
            SimnetCommand::Terminate(None),
        ] {
            // It fails where the validator has ended already.
            let _ = self.commands.send(command);
        }
        let deadline = Instant::now() + STOP_WITHIN;
        while !thread.is_finished() {
            if Instant::now() > deadline {
                return Err(Error::NotStopped(STOP_WITHIN));
            }
            thread::sleep(Duration::from_millis(2));
        }
        // A panic of that thread has been reported already.
        let _ = thread.join();
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Everything the chain starts with, worked out before anything is started.
#[derive(Clone, Debug)]
struct Genesis {
    admin: Address,
    program: Option<(Address, PathBuf, Vec<u8>)>,
    sol: BTreeMap<Address, u64>,
    tokens: BTreeMap<Address, u64>,
    supply: u64,
}

impl Genesis {
    fn new(builder: &Builder, keys: &DemoKeys) -> Result<Self, Error> {
        let program = match &builder.program {
            None => None,
            Some(path) => Some((builder.program_id, path.clone(), read_program(path)?)),
        };
        let admin = keys.address(Role::Admin);
        let demo = Role::ALL.map(|role| (keys.address(role), role.lamports()));
        let sol = sums(
            demo.into_iter()
                .filter(|(_, lamports)| *lamports > 0)
                .chain(builder.sol.iter().copied()),
        )?;
        let payer = (keys.address(Role::Payer), PAYER_UNITS);
        let tokens = sums([payer].into_iter().chain(builder.tokens.iter().copied()))?;
        let supply = tokens
            .values()
            .try_fold(0u64, |sum, units| sum.checked_add(*units))
            .ok_or(Error::BalanceOverflow(USDC_MINT))?;
        Ok(Self {
            admin,
            program,
            sol,
            tokens,
            supply,
        })
    }

    /// Puts all accounts in place.
    fn apply(&self, svm: &mut SurfnetSvm) -> Result<(), Error> {
        // Rent differs between clusters and falls over time, so it is asked for.
        let accounts = self.accounts(|len| svm.inner.minimum_balance_for_rent_exemption(len));
        for (address, account) in accounts {
            svm.set_account(&address, account)
                .map_err(|error| match &self.program {
                    // The validator loads the code when it sees this account.
                    Some((id, path, _)) if *id == address => Error::ProgramInvalid {
                        path: path.clone(),
                        cause: error.to_string(),
                    },
                    _ => Error::Account {
                        address,
                        cause: error.to_string(),
                    },
                })?;
        }
        Ok(())
    }

    /// All accounts, in the order in which they must be put in place.
    fn accounts(&self, rent: impl Fn(usize) -> u64) -> Vec<(Address, Account)> {
        let mut all = Vec::new();
        for (address, lamports) in &self.sol {
            all.push((*address, accounts::wallet(*lamports)));
        }
        all.push((USDC_MINT, accounts::mint(&self.admin, self.supply, &rent)));
        for (owner, units) in &self.tokens {
            let address = accounts::associated_token_address(owner);
            all.push((address, accounts::token(owner, *units, &rent)));
        }
        if let Some((id, _, code)) = &self.program {
            // The code first: the program's account is refused while what it points to is not there.
            let data = accounts::program_data(&self.admin, code, &rent);
            all.push((accounts::program_data_address(id), data));
            all.push((*id, accounts::program(id, &rent)));
        }
        all
    }
}

/// Adds up what each address is given.
fn sums(given: impl Iterator<Item = (Address, u64)>) -> Result<BTreeMap<Address, u64>, Error> {
    let mut sums = BTreeMap::<Address, u64>::new();
    for (address, amount) in given {
        let sum = sums.entry(address).or_default();
        *sum = sum
            .checked_add(amount)
            .ok_or(Error::BalanceOverflow(address))?;
    }
    Ok(sums)
}

fn read_program(path: &Path) -> Result<Vec<u8>, Error> {
    let code = std::fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::ProgramMissing(path.to_owned()),
        _ => Error::ProgramUnreadable {
            path: path.to_owned(),
            source,
        },
    })?;
    if code.starts_with(b"\x7fELF") {
        Ok(code)
    } else {
        Err(Error::ProgramInvalid {
            path: path.to_owned(),
            cause: "it is not an ELF file".to_owned(),
        })
    }
}

/// Makes sure of the ports, replacing 0 by free ones. surfpool checks them too, but says so on standard error only.
fn ports(rpc: u16, ws: u16) -> Result<(u16, u16), Error> {
    let listen = |server, port| {
        TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .and_then(|listener| Ok((listener.local_addr()?.port(), listener)))
            .map_err(|source| match source.kind() {
                std::io::ErrorKind::AddrInUse => Error::PortInUse { server, port },
                _ => Error::Port {
                    server,
                    port,
                    source,
                },
            })
    };
    // Both are held until both are known, so that they differ.
    let (rpc, _rpc_listener) = listen("RPC", rpc)?;
    let (ws, _ws_listener) = listen("websocket", ws)?;
    Ok((rpc, ws))
}

/// What the validator's thread reports while it starts.
enum Progress {
    Waiting(String),
    Ready,
    Failed(Error),
}

/// One start of the validator, as its thread sees it.
struct Launch {
    rpc_port: u16,
    ws_port: u16,
    slot_ms: u64,
    verbose: bool,
    genesis: Genesis,
}

impl Launch {
    /// Runs the validator until it is told to stop.
    fn run(
        self,
        commands: crossbeam_channel::Sender<SimnetCommand>,
        commands_rx: crossbeam_channel::Receiver<SimnetCommand>,
        progress: mpsc::Sender<Progress>,
    ) -> Result<(), Error> {
        let (mut svm, events, geyser) = SurfnetSvm::new(SurfnetSvmConfig {
            slot_time: self.slot_ms,
            instruction_profiling_enabled: false,
            ..SurfnetSvmConfig::default()
        })
        .map_err(|error| Error::Ended(error.to_string()))?;
        let (started, started_rx) = oneshot::channel();
        let watcher = Watcher::spawn(events, started, self.verbose)?;

        // What getGenesisHash answers. Only the offline mode leaves it alone.
        svm.cached_genesis_hash = GENESIS_HASH.parse::<Hash>().ok();
        self.genesis.apply(&mut svm)?;

        // The number of threads bounds what the validator's own tasks may use; the RPC servers bring theirs.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("sluice-localnet-io")
            .enable_all()
            .build()
            .map_err(Error::Threads)?;
        runtime.spawn(wait_until_ready(self.rpc_port, started_rx, progress));
        // It blocks the thread it runs on, which is why that is this one and no worker.
        let outcome = runtime
            .block_on(start_local_surfnet(
                svm,
                self.config(),
                commands,
                commands_rx,
                geyser,
            ))
            .map_err(|error| Error::Ended(error.to_string()));
        runtime.shutdown_timeout(Duration::from_secs(1));
        watcher.finish(outcome.is_ok());
        outcome
    }

    fn config(&self) -> SurfpoolConfig {
        SurfpoolConfig {
            simnets: vec![SimnetConfig {
                offline_mode: true,
                remote_rpc_url: None,
                slot_time: self.slot_ms,
                // The transaction mode makes a block per transaction, which runs the chain's clock ahead of the world's
                // and expires blockhashes within seconds under load.
                block_production_mode: BlockProductionMode::Clock,
                instruction_profiling_enabled: false,
                ..SimnetConfig::default()
            }],
            rpc: RpcConfig {
                bind_host: Ipv4Addr::LOCALHOST.to_string(),
                bind_port: self.rpc_port,
                ws_port: self.ws_port,
                ..RpcConfig::default()
            },
            subgraph: SubgraphConfig {},
            studio: StudioConfig::default(),
            plugin_config_path: vec![],
            startup_planner: StartupPlanner::Runloop,
        }
    }
}

/// Reads surfpool's events. Their channel is bounded and parts of the validator wait for room in it, so somebody must.
struct Watcher {
    stop: crossbeam_channel::Sender<()>,
    servers_closed: mpsc::Receiver<()>,
    thread: JoinHandle<()>,
}

impl Watcher {
    fn spawn(
        events: crossbeam_channel::Receiver<SimnetEvent>,
        started: oneshot::Sender<()>,
        verbose: bool,
    ) -> Result<Self, Error> {
        let (stop, stop_rx) = crossbeam_channel::bounded::<()>(0);
        let (closed, servers_closed) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("sluice-localnet-events".to_owned())
            .spawn(move || {
                let mut started = Some(started);
                loop {
                    let event = crossbeam_channel::select! {
                        recv(events) -> event => event,
                        recv(stop_rx) -> _ => break,
                    };
                    match event {
                        Ok(SimnetEvent::CoreStarted(_)) => {
                            if let Some(started) = started.take() {
                                let _ = started.send(());
                            }
                        }
                        Ok(SimnetEvent::Shutdown) => {
                            let _ = closed.send(());
                        }
                        Ok(SimnetEvent::ErrorLog(_, text)) if verbose => {
                            eprintln!("validator: error: {text}")
                        }
                        Ok(SimnetEvent::WarnLog(_, text)) if verbose => {
                            eprintln!("validator: warning: {text}")
                        }
                        Ok(SimnetEvent::InfoLog(_, text)) if verbose => {
                            eprintln!("validator: {text}")
                        }
                        Ok(SimnetEvent::Aborted(text)) if verbose => {
                            eprintln!("validator: aborted: {text}")
                        }
                        Ok(_) => {}
                        Err(_) => break,
                    }
                }
            })
            .map_err(Error::Threads)?;
        Ok(Self {
            stop,
            servers_closed,
            thread,
        })
    }

    /// Waits for both servers to have closed, where they were running, and ends.
    fn finish(self, servers_ran: bool) {
        let deadline = Instant::now() + STOP_WITHIN;
        if servers_ran {
            for _server in ["RPC", "websocket"] {
                let left = deadline.saturating_duration_since(Instant::now());
                let _ = self.servers_closed.recv_timeout(left);
            }
        }
        // The events never end by themselves: surfpool's clock thread keeps a sender.
        drop(self.stop);
        let _ = self.thread.join();
    }
}

/// Reports when the RPC answers what every client asks first.
async fn wait_until_ready(
    rpc_port: u16,
    started: oneshot::Receiver<()>,
    progress: mpsc::Sender<Progress>,
) {
    // Before that, whoever answers on the port is somebody else.
    if started.await.is_err() {
        return;
    }
    let url = format!("http://127.0.0.1:{rpc_port}");
    // A proxy meant for the outside would not find this machine's own address.
    let client = match reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(2))
        .build()
    {
        Ok(client) => client,
        Err(error) => {
            let _ = progress.send(Progress::Failed(Error::Ended(error.to_string())));
            return;
        }
    };
    loop {
        let Err(why) = ask(&client, &url).await else {
            let _ = progress.send(Progress::Ready);
            return;
        };
        if progress.send(Progress::Waiting(why)).is_err() {
            // Nobody waits any more.
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn ask(client: &reqwest::Client, url: &str) -> Result<(), String> {
    for method in ["getHealth", "getLatestBlockhash"] {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method});
        let answer = client.post(url).json(&request).send().await;
        let answer: Value = match answer {
            Ok(answer) => answer
                .json()
                .await
                .map_err(|error| format!("{method}: {error}"))?,
            Err(error) => return Err(format!("{method}: {error}")),
        };
        if answer["result"].is_null() {
            return Err(format!("{method}: {}", answer["error"]));
        }
    }
    Ok(())
}
