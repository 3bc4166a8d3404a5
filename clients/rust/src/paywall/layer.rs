use std::{
    convert::Infallible,
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{extract::Request, response::Response};
use tower::{Layer, Service};

use super::{Wall, gate::Gate};

/// A price, as a layer for axum routes. Made by [`Paywall::price`](super::Paywall::price).
#[derive(Clone)]
pub struct PriceLayer {
    gate: Gate,
}

impl PriceLayer {
    pub(super) fn new(wall: Arc<Wall>, amount: u64) -> Self {
        Self {
            gate: Gate {
                wall,
                amount,
                description: Arc::from(""),
                mime_type: Arc::from(""),
            },
        }
    }

    /// Tells people what is sold.
    #[must_use]
    pub fn description(mut self, text: &str) -> Self {
        self.gate.description = Arc::from(text);
        self
    }

    /// Tells clients the type of what is sold.
    #[must_use]
    pub fn mime_type(mut self, text: &str) -> Self {
        self.gate.mime_type = Arc::from(text);
        self
    }
}

impl fmt::Debug for PriceLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PriceLayer")
            .field("service", &self.gate.wall.service)
            .field("amount", &self.gate.amount)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for PriceLayer {
    type Service = Priced<S>;

    fn layer(&self, inner: S) -> Priced<S> {
        Priced {
            gate: self.gate.clone(),
            inner,
        }
    }
}

/// A service behind a [`PriceLayer`].
#[derive(Clone)]
pub struct Priced<S> {
    gate: Gate,
    inner: S,
}

impl<S> fmt::Debug for Priced<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Priced")
            .field("amount", &self.gate.amount)
            .finish_non_exhaustive()
    }
}

impl<S> Service<Request> for Priced<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The clone is not ready; the one that was polled is.
        let next = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, next);
        let gate = self.gate.clone();
        Box::pin(async move { Ok(gate.pass(request, ready).await) })
    }
}
