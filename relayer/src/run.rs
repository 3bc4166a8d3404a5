//! Starting and stopping.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use sluice_sdk::{
    Address,
    accounts::{Config as ProgramConfig, SluiceAccount},
    address,
    x402::Network,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    chain::{Chain, ChainError, Depth, RpcChain},
    config::Config,
    engine::{Engine, Settings},
    follow::follow,
    http::{self, Check, ReadyView},
    keys::{FeePayer, KeyError},
    ledger::{Ledger, LedgerError},
    snapshot::genesis_mismatch,
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
    closing: CancellationToken,
    stop_following: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    follower: JoinHandle<()>,
}

impl Relayer {
    /// Starts a relayer: reads the key, opens the ledger, checks the cluster, recovers what was open, and
    /// listens. A facilitator that is not registered yet does not stop it: `/ready` says so.
    pub async fn start(config: Config) -> Result<RunningRelayer, StartError> {
        let chain = Arc::new(RpcChain::new(&config.rpc_url, config.chain.rpc_timeout()));
        let key = FeePayer::load(&config.fee_payer)?;
        Self::start_with(config, chain, key).await
    }

    /// Starts a relayer on a chain and with a key that the caller brings.
    pub async fn start_with(
        config: Config,
        chain: Arc<dyn Chain>,
        key: FeePayer,
    ) -> Result<RunningRelayer, StartError> {
        let engine = engine(&config, chain, key).await?;
        let closing = engine.closing.clone();
        let released = engine.ledger.release(i64::MAX).await?;
        let open = engine.ledger.open_attempts().await?.len() + engine.ledger.unsent().await?.len();
        if released > 0 || open > 0 {
            tracing::info!(released, open, "took up the payments of an earlier run");
        }
        let listen_error = |problem| StartError::Listen {
            address: config.listen,
            problem,
        };
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;

        let stop = CancellationToken::new();
        let stop_following = CancellationToken::new();
        let follower = tokio::spawn(follow(Arc::clone(&engine), stop_following.clone()));
        let router = http::router(Arc::clone(&engine));
        let stopped = stop.clone().cancelled_owned();
        let server = tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(stopped)
                .await
        });
        tracing::info!(
            listen = %address,
            network = %config.network,
            facilitator = %config.facilitator,
            fee_payer = %engine.key.address(),
            rpc = %config.rpc_url,
            "relayer listening"
        );
        Ok(RunningRelayer {
            address,
            engine,
            stop,
            closing,
            stop_following,
            server,
            follower,
        })
    }

    /// What `/ready` would say, without listening.
    pub async fn check(config: &Config) -> Result<ReadyView, StartError> {
        let chain = Arc::new(RpcChain::new(&config.rpc_url, config.chain.rpc_timeout()));
        let key = FeePayer::load(&config.fee_payer)?;
        // A start waits for an RPC that comes up late; a check says at once that it does not answer.
        chain.genesis_hash().await?;
        // The real ledger may be in use, or not exist yet; a check changes nothing.
        let mut config = config.clone();
        "sqlite::memory:".clone_into(&mut config.database_url);
        let engine = engine(&config, chain, key).await?;
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

    /// Stops it: takes no more requests, finishes those at work for at most `limits.drain_secs` (whoever
    /// waits longer is told `settlement_pending`), and closes the ledger. What is open then is taken up by
    /// the next start.
    pub async fn stop(self) {
        let drain = self.engine.settings.limits.drain();
        self.stop.cancel();
        let closing = self.closing.clone();
        let bell = tokio::spawn(async move {
            tokio::time::sleep(drain).await;
            closing.cancel();
        });
        let mut server = self.server;
        match tokio::time::timeout(drain + LAST_WORDS, &mut server).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::warn!(%error, "the server ended with an error"),
            Ok(Err(error)) => tracing::warn!(%error, "the server ended unexpectedly"),
            Err(_) => {
                tracing::warn!("some requests did not finish in time");
                server.abort();
            }
        }
        bell.abort();
        self.closing.cancel();
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

/// Opens the ledger and checks the cluster.
async fn engine(
    config: &Config,
    chain: Arc<dyn Chain>,
    key: FeePayer,
) -> Result<Arc<Engine>, StartError> {
    let genesis_hash = genesis_hash(chain.as_ref()).await?;
    check_network(config.network, &genesis_hash)?;
    let accounts = chain
        .accounts(&[address::config().0], Depth::Confirmed)
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
    let ledger = Ledger::open(&config.database_url).await?;
    let settings = Settings {
        network: config.network,
        genesis_hash,
        facilitator: config.facilitator,
        limits: config.limits,
        fees: config.fees,
        chain: config.chain,
    };
    Ok(Arc::new(Engine::new(
        settings,
        chain,
        ledger,
        key,
        CancellationToken::new(),
    )))
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
