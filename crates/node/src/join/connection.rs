//! The connection to the API server, whose credentials can be replaced while everybody uses it.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use http::{Request, Response};
use kube::client::Body;

/// A connection. Clients that it gave follow when it is replaced; streams that are under way go on over the old one until
/// they end.
#[derive(Clone)]
pub struct ApiConnection {
    current: Arc<RwLock<kube::Client>>,
}

impl fmt::Debug for ApiConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiConnection").finish_non_exhaustive()
    }
}

impl ApiConnection {
    /// Starts with this client.
    pub fn new(client: kube::Client) -> Self {
        Self { current: Arc::new(RwLock::new(client)) }
    }

    /// Uses another client from now on.
    pub fn replace(&self, client: kube::Client) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = client;
    }

    /// A client that follows replacements.
    pub fn client(&self) -> kube::Client {
        kube::Client::new(Following(self.clone()), "default")
    }
}

struct Following(ApiConnection);

impl tower::Service<Request<Body>> for Following {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move { client.send(request).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answering(status: u16) -> kube::Client {
        let service = tower::service_fn(move |_: Request<Body>| async move {
            Ok::<_, std::io::Error>(Response::builder().status(status).body(Body::empty()).unwrap())
        });
        kube::Client::new(service, "default")
    }

    #[tokio::test]
    async fn clients_follow_a_replacement() {
        let connection = ApiConnection::new(answering(401));
        let client = connection.client();
        let ask = async || client.send(Request::new(Body::empty())).await.unwrap().status().as_u16();
        assert_eq!(ask().await, 401);
        connection.replace(answering(200));
        assert_eq!(ask().await, 200);
    }
}
