//! Connections: how many, how slow, and how they end.
//!
//! A client that opens a connection and says nothing costs a place here and no more: a head that does not come in time
//! ends it, a place in the work is taken only by a request that is there in full, and an answer that nobody takes is
//! given up.

use std::{
    collections::HashMap,
    convert::Infallible,
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::Request};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::guarded::Peer;
use crate::{
    config::Limits,
    guard::address::{TrustedProxies, bucket},
};

/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// Files that are no connections of callers: the ledger's, the nodes', the log's.
const OTHER_FILES: u64 = 256;
/// How long the listener rests when the system has no more files.
const REST: Duration = Duration::from_millis(200);
/// Connections that are told that there is no place for them; beyond it they are just closed.
const MAX_REFUSALS: usize = 256;
/// How long one of them may take to hear it.
const REFUSAL: Duration = Duration::from_secs(1);
/// What an idle connection is left after a stop.
const LAST_CHANCE: Duration = Duration::from_millis(300);
/// An answer without the framework, which there is no place for either.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
content-type: application/json\r\n\
content-length: 100\r\n\
retry-after: 1\r\n\
connection: close\r\n\r\n\
{\"error\":\"overloaded\",\"message\":\"too many connections are open: try again shortly\",\"retriable\":true}";

/// Serves until `stop`, then finishes what is at work. Dropped, it ends everything at once.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    proxies: TrustedProxies,
    stop: CancellationToken,
) {
    let places = Arc::new(Places {
        all: Arc::new(Semaphore::new(room(limits.max_connections))),
        per_address: limits.max_connections_per_ip,
        by_address: Mutex::default(),
        proxies,
    });
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.cancelled() => break,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // One that hung up before it was taken is nothing; anything else may last.
                if !matches!(
                    error.kind(),
                    ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
                ) {
                    tracing::error!(%error, "no connection can be taken");
                    tokio::time::sleep(REST).await;
                }
                continue;
            }
        };
        match places.take(address) {
            Some(place) => {
                let router = router.clone();
                let stop = stop.clone();
                connections.spawn(async move {
                    let _place = place;
                    connection(stream, address, router, limits, stop).await;
                });
            }
            None => {
                if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                    connections.spawn(async move {
                        let _permit = permit;
                        let _ = tokio::time::timeout(REFUSAL, refuse(stream)).await;
                    });
                }
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// As many connections as the system lets there be files for, beside those that are needed for everything else.
fn room(wanted: usize) -> usize {
    let files = u64::try_from(wanted).unwrap_or(u64::MAX);
    let files = match rlimit::increase_nofile_limit(files.saturating_add(OTHER_FILES)) {
        Ok(files) => files,
        Err(error) => {
            tracing::warn!(%error, "how many files may be open is not known");
            return wanted;
        }
    };
    let most = usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX);
    if most < wanted {
        tracing::warn!(
            wanted,
            most,
            "limits.max_connections is more than the system has files for: raise its limit (LimitNOFILE=, ulimit -n)"
        );
    }
    wanted.min(most.max(1))
}

/// How many connections there are.
struct Places {
    all: Arc<Semaphore>,
    per_address: usize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    proxies: TrustedProxies,
}

/// A connection's place, while it is open.
struct Place {
    places: Arc<Places>,
    /// Where connections of one address are counted.
    address: Option<IpAddr>,
    _one: OwnedSemaphorePermit,
}

impl Places {
    fn take(self: &Arc<Self>, address: SocketAddr) -> Option<Place> {
        let one = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let mut place = Place {
            places: Arc::clone(self),
            address: None,
            _one: one,
        };
        let ip = address.ip();
        if self.per_address == 0 || self.proxies.contains(&ip) {
            return Some(place);
        }
        let ip = bucket(ip);
        let mut counts = self.counts();
        let count = counts.entry(ip).or_default();
        if *count >= self.per_address {
            return None;
        }
        *count += 1;
        drop(counts);
        place.address = Some(ip);
        Some(place)
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut counts = self.places.counts();
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    // Answers are small and waited for.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.body_timeout()));
    let peer = Peer(address.ip());
    let at_work = Arc::new(AtomicUsize::new(0));
    let service = service_fn(|request: Request<Incoming>| {
        let router = router.clone();
        let work = Work::begin(&at_work);
        async move {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            let response = router.oneshot(request).await?;
            // At work until the last of the answer is on its way.
            Ok::<_, Infallible>(response.map(|body| {
                body.map_frame(move |frame| {
                    let _at_work = &work;
                    frame
                })
            }))
        }
    });
    let mut http = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout())
            .max_buf_size(limits.head_bytes)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
    );
    tokio::select! {
        ended = http.as_mut() => return note(ended),
        () = stop.cancelled() => http.as_mut().graceful_shutdown(),
    }
    // What is at work is finished; whoever has only begun to ask has not been promised anything.
    loop {
        tokio::select! {
            ended = http.as_mut() => return note(ended),
            () = tokio::time::sleep(LAST_CHANCE) => {
                if at_work.load(Ordering::Relaxed) == 0 {
                    return;
                }
            }
        }
    }
}

/// A request whose answer is being made or sent.
struct Work(Arc<AtomicUsize>);

impl Work {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn note(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Says that there is no place, and hears the client out so that it gets to read it.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(FULL).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1_024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        let body: super::super::ErrorBody = serde_json::from_str(body).unwrap();
        assert!(body.retriable);
    }
}
