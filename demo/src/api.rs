//! The paid server: two routes behind a paywall, as an integrator would write them.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use axum::{Json, Router, routing::get};
use serde_json::{Value, json};
use sluice_client::paywall::Paywall;
use sluice_sdk::Address;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

/// A server that runs.
pub struct Api {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

/// Serves `/report` for 0.05 and `/archive` for 0.50.
pub async fn serve(relayer: &str, service: Address) -> Result<Api> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let paywall = Paywall::connect(relayer, service, &format!("http://{address}"))
        .await
        .context("setting the paywall up")?;
    let app = Router::new()
        .route("/report", get(report).route_layer(paywall.price(50_000)))
        .route("/archive", get(archive).route_layer(paywall.price(500_000)));
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let shutdown = async {
            stopped.await.ok();
        };
        if let Err(error) = axum::serve(listener, app)
            .with_graceful_shutdown(shutdown)
            .await
        {
            eprintln!("the paid server ended: {error}");
        }
    });
    Ok(Api {
        address,
        stop,
        server,
    })
}

impl Api {
    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Ends it.
    pub async fn stop(self) {
        self.stop.send(()).ok();
        self.server.await.ok();
    }
}

async fn report() -> Json<Value> {
    Json(json!({ "report": "river levels", "metres": [2.1, 2.3, 2.2] }))
}

async fn archive() -> Json<Value> {
    Json(json!({ "archive": "river levels since 1901" }))
}
