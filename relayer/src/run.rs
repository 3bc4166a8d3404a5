//! Starting and stopping.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use sluice_sdk::{
    Address,
    accounts::{Config as ProgramConfig, SluiceAccount},
    transaction,
    x402::Network,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    chain::{Chain, ChainError, Depth, RpcChain, notices::Notices, pool::ChainPool},
    chores,
    config::{BatchFormat, Config, SecretUrl},
    engine::{Engine, Parts, Settings},
    follow::{beat, follow, heartbeat, housekeep},
    guard::{Guard, GuardError},
    http::{self, Check, ReadyView},
    ledger::{Backend, Ledger, LedgerError, unix_millis},
    signers::{self, KeyError, Signer, alert::Alerts},
    snapshot::{config_address, genesis_mismatch},
    watch::watch,
};

/// How often a start asks an RPC that does not answer.
const START_TRIES: u32 = 10;
/// How long it waits between two tries.
const START_PAUSE: Duration = Duration::from_secs(1);
/// What a stop allows beyond the drain for answers to be written.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why a relayer does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The fee payer's key could not be read.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key, a list or a network of the guard's could not be had.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The ledger could not be opened.
    #[error("database_url: {0}")]
    Ledger(#[from] LedgerError),
    /// The RPC does not answer.
    #[error("rpc_url: {0}")]
    Rpc(#[from] ChainError),
    /// The RPC serves another cluster than the configuration or the deployment names.
    #[error("{0}")]
    Cluster(String),
    /// The address cannot be listened on.
    #[error("listen: {address}: {problem}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        problem: std::io::Error,
    },
}

/// A relayer that can be started.
pub struct Relayer;

/// A relayer that runs in the background until [`RunningRelayer::stop`].
pub struct RunningRelayer {
    address: SocketAddr,
    engine: Arc<Engine>,
    stop: CancellationToken,
    stop_following: CancellationToken,
    server: JoinHandle<()>,
    follower: JoinHandle<()>,
}

impl Relayer {
    /// Starts a relayer: reads the keys, opens the ledger, checks the cluster, recovers what was open, and
    /// listens. A facilitator that is not registered yet does not stop it: `/ready` says so.
    pub async fn start(config: Config) -> Result<RunningRelayer, StartError> {
        let chain = nodes(&config);
        let keys = load_keys(&config)?;
        Self::start_with(config, chain, keys).await
    }

    /// Starts a relayer on a chain and with keys that the caller brings.
    pub async fn start_with<S: Into<Arc<dyn Signer>>>(
        config: Config,
        chain: Arc<dyn Chain>,
        keys: Vec<S>,
    ) -> Result<RunningRelayer, StartError> {
        let keys = keys.into_iter().map(Into::into).collect();
        let stop_following = CancellationToken::new();
        let engine = engine(&config, chain, keys, stop_following.clone()).await?;
        // A key that is not there yet rests until it is; another key than the configured one is a mistake.
        engine.signers.probe().await.map_err(KeyError::Other)?;
        find_format(&engine, config.batch.format).await;
        recover(&engine).await?;
        engine.open_books().await?;
        // Before anybody is served: this relayer is known to the others, and knows what its keys hold.
        heartbeat(&engine).await?;
        engine.signers.look(&engine.accounts).await;
        engine.start_feed(stop_following.clone()).await;
        let listen_error = |problem| StartError::Listen {
            address: config.listen,
            problem,
        };
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;

        let stop = CancellationToken::new();
        let notices = match &config.ws_url {
            Some(url) => Notices::start(
                url.clone(),
                engine.signers.addresses(),
                stop_following.clone(),
            ),
            None => Notices::none(),
        };
        let follower = tokio::spawn(follow(Arc::clone(&engine), notices, stop_following.clone()));
        tokio::spawn(beat(Arc::clone(&engine), stop_following.clone()));
        tokio::spawn(housekeep(Arc::clone(&engine), stop_following.clone()));
        chores::start(&engine, stop_following.clone());
        tokio::spawn(watch(Arc::clone(&engine), stop_following.clone()));
        let router = http::router(Arc::clone(&engine), &config.guard.cors);
        let server = tokio::spawn(http::serve(
            listener,
            router,
            config.limits,
            engine.guard.proxies.clone(),
            stop.clone(),
        ));
        let fee_payers: Vec<String> = engine
            .signers
            .addresses()
            .iter()
            .map(Address::to_string)
            .collect();
        tracing::info!(
            listen = %address,
            network = %config.network,
            facilitator = %config.facilitator,
            fee_payers = %fee_payers.join(", "),
            rpc = %config.rpc_url,
            replica = engine.ledger.replica(),
            large_transactions = engine.takes_v1(),
            "relayer listening"
        );
        Ok(RunningRelayer {
            address,
            engine,
            stop,
            stop_following,
            server,
            follower,
        })
    }

    /// What `/ready` would say, without listening.
    pub async fn check(config: &Config) -> Result<ReadyView, StartError> {
        let chain = nodes(config);
        let keys = load_keys(config)?;
        // A start waits for an RPC that comes up late; a check says at once that it does not answer.
        chain.genesis_hash().await?;
        // The real ledger may be in use, or not exist yet; a check changes nothing.
        let mut config = config.clone();
        config.database_url = SecretUrl::from("sqlite::memory:");
        let stop = CancellationToken::new();
        let engine = engine(&config, chain, keys, stop.clone()).await?;
        engine.signers.probe().await.map_err(KeyError::Other)?;
        engine.signers.look(&engine.accounts).await;
        let mut view = engine.readiness().await;
        view.checks.retain(|check| check.name != "ledger");
        view.checks.insert(
            0,
            Check {
                name: "cluster".to_owned(),
                ok: true,
                message: format!(
                    "{}, genesis hash {}",
                    config.network,
                    Address::new_from_array(engine.settings.genesis_hash)
                ),
            },
        );
        stop.cancel();
        engine.ledger.close().await;
        Ok(view)
    }
}

impl RunningRelayer {
    /// Where it listens; the port is the real one even if the configuration said 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it runs on.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Stops it: takes no more requests, finishes those at work for at most `limits.drain_secs` (whoever
    /// waits longer is told `settlement_pending`), and closes the ledger. What is open then is taken up by
    /// the next start.
    pub async fn stop(self) {
        let drain = self.engine.settings.limits.drain();
        self.stop.cancel();
        self.engine.draining.cancel();
        let closing = self.engine.closing.clone();
        let bell = tokio::spawn(async move {
            tokio::time::sleep(drain).await;
            closing.cancel();
        });
        let mut server = self.server;
        match tokio::time::timeout(drain + LAST_WORDS, &mut server).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the server ended unexpectedly"),
            Err(_) => {
                tracing::warn!("some requests did not finish in time");
                server.abort();
            }
        }
        bell.abort();
        self.engine.closing.cancel();
        self.engine.tasks.close();
        // Every step of a settlement is bounded by the RPC's timeout.
        let bound = self.engine.settings.chain.rpc_timeout() * 3 + LAST_WORDS;
        if tokio::time::timeout(bound, self.engine.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some settlements did not finish in time; the next start takes them up");
        }
        self.stop_following.cancel();
        if let Err(error) = self.follower.await {
            tracing::warn!(%error, "the follower ended unexpectedly");
        }
        if let Err(error) = self.engine.ledger.leave().await {
            tracing::debug!(%error, "the other relayers learn of the stop when the lease ends");
        }
        // What is written is on disk already; waiting longer for a connection saves nothing.
        if tokio::time::timeout(LAST_WORDS, self.engine.ledger.close())
            .await
            .is_err()
        {
            tracing::warn!("the ledger's connections did not close in time");
        }
        tracing::info!("relayer stopped");
    }
}

/// Every node of the configuration as one chain.
fn nodes(config: &Config) -> Arc<dyn Chain> {
    let node = |url| -> Arc<dyn Chain> { Arc::new(RpcChain::new(url, config.chain.rpc_timeout())) };
    // A single one as well: a pool notices when what it serves is another cluster.
    let urls = std::iter::once(&config.rpc_url).chain(&config.more_rpc_urls);
    Arc::new(ChainPool::new(urls.map(node).collect()))
}

fn load_keys(config: &Config) -> Result<Vec<Arc<dyn Signer>>, KeyError> {
    std::iter::once(&config.fee_payer)
        .chain(&config.more_fee_payers)
        .map(signers::load)
        .collect()
}

/// Opens the ledger and checks the cluster.
async fn engine(
    config: &Config,
    chain: Arc<dyn Chain>,
    keys: Vec<Arc<dyn Signer>>,
    stop_following: CancellationToken,
) -> Result<Arc<Engine>, StartError> {
    let genesis_hash = genesis_hash(chain.as_ref()).await?;
    check_network(config.network, &genesis_hash)?;
    let accounts = chain
        .accounts(&[config_address()], Depth::Confirmed)
        .await?;
    match accounts.into_iter().next().flatten() {
        Some(account) => {
            let program = ProgramConfig::decode(&account.owner, &account.data)
                .map_err(|error| StartError::Cluster(error.to_string()))?;
            if program.genesis_hash != genesis_hash {
                return Err(StartError::Cluster(genesis_mismatch(
                    &program.genesis_hash,
                    &genesis_hash,
                )));
            }
        }
        None => tracing::warn!(
            "the program's config does not exist yet: nothing can be settled until it is initialised"
        ),
    }
    // Another name at every start: what an earlier run of this relayer left open is taken over like anybody's, and a
    // run that is thought dead and is not cannot be taken for this one.
    let replica = format!(
        "{}-{:08x}",
        config.replica.as_deref().unwrap_or("relayer"),
        rand::random::<u32>()
    );
    let guard = Guard::new(&config.guard)?;
    let ledger = Ledger::open(config.database_url.expose(), &replica).await?;
    let settings = Settings {
        network: config.network,
        genesis_hash,
        facilitator: config.facilitator,
        limits: config.limits,
        fees: config.fees,
        chain: config.chain,
        batch: config.batch,
        exact: config.exact,
        distribute: config.distribute.clone(),
        reclaim: config.reclaim,
        onboard: config.onboard.clone(),
        economics: config.economics.clone(),
        identifier: config.payment_identifier,
        lease: config.lease(),
    };
    let name = config.replica.as_deref().unwrap_or("relayer");
    Ok(Arc::new(Engine::new(Parts {
        settings,
        chain,
        ledger,
        keys,
        guard,
        alerts: Alerts::start(&config.alerts, name, stop_following.clone()),
        stale_balance: config.alerts.stale_balance(),
        stop_following,
    })))
}

/// Puts what an earlier run left on the desk. Its transactions are the follower's, once it has taken them over.
async fn recover(engine: &Arc<Engine>) -> Result<(), StartError> {
    engine.guard.recall(&engine.ledger).await?;
    // What others have in a shared ledger is theirs, and is asked for when somebody asks for it here.
    if engine.ledger.backend() == Backend::Postgres {
        return Ok(());
    }
    // A SQLite ledger is one relayer's: whoever has open transactions in it is gone.
    engine.ledger.forget_replicas().await?;
    // Everything whose intent may live by the chain's clock; where that cannot be asked now, by this machine's with an
    // hour to spare, the longest that an intent may live.
    let now = match engine.chain_time().await {
        Ok(now) => now,
        Err(_) => unix_millis() / 1_000 - 3_600,
    };
    let rows = engine.ledger.unexpired(now - 60).await?;
    let live = rows.iter().filter(|row| row.state.is_live()).count();
    for row in &rows {
        engine.desk.restore(row);
    }
    if live > 0 {
        tracing::info!(live, "took up the payments of an earlier run");
    }
    Ok(())
}

/// Finds out whether the cluster takes transactions of version 1.
async fn find_format(engine: &Arc<Engine>, format: BatchFormat) {
    let takes = match format {
        BatchFormat::V1 => true,
        BatchFormat::V0 => false,
        BatchFormat::Auto => match probe() {
            Some(wire) => engine.chain.takes(&wire).await,
            None => false,
        },
    };
    engine.set_takes_v1(takes);
}

/// The smallest transaction of version 1.
fn probe() -> Option<Vec<u8>> {
    let key = solana_keypair::Keypair::new();
    let payer = Address::new_from_array(*solana_signer::Signer::pubkey(&key).as_array());
    let budget = transaction::Budget {
        compute_units: 1_000,
        unit_price: 0,
        loaded_bytes: 1 << 20,
    };
    let blockhash = solana_hash::Hash::default();
    let built = transaction::build(
        transaction::Version::V1,
        &payer,
        &[],
        &budget,
        blockhash,
        &[&key],
    );
    transaction::wire(&built.ok()?).ok()
}

async fn genesis_hash(chain: &dyn Chain) -> Result<[u8; 32], ChainError> {
    let mut tries = 1;
    loop {
        match chain.genesis_hash().await {
            Ok(hash) => return Ok(hash.to_bytes()),
            Err(error) if tries >= START_TRIES => return Err(error),
            Err(error) => {
                tracing::warn!(%error, tries, "the RPC does not answer yet");
                tries += 1;
                tokio::time::sleep(START_PAUSE).await;
            }
        }
    }
}

/// A local validator has a genesis hash of its own and counts as devnet; but one of the three public
/// clusters under another one's name is a mistake that could cost money.
fn check_network(network: Network, genesis_hash: &[u8; 32]) -> Result<(), StartError> {
    let hash = Address::new_from_array(*genesis_hash).to_string();
    let is = |other: &Network| {
        other
            .caip2()
            .strip_prefix("solana:")
            .is_some_and(|head| hash.starts_with(head))
    };
    match Network::ALL.iter().find(|other| is(other)) {
        Some(actual) if *actual != network => Err(StartError::Cluster(format!(
            "network: the configuration says {network}, and the RPC serves {actual} (genesis hash {hash})"
        ))),
        None if network == Network::Mainnet => Err(StartError::Cluster(format!(
            "network: the configuration says mainnet, and the RPC's genesis hash is {hash}"
        ))),
        _ => Ok(()),
    }
}
