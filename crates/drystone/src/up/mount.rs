//! Where services are mounted whose port opens before the resources that they show are defined: until then they ask for patience.

use std::sync::{Arc, OnceLock};

use axum::{Router, extract::Request, response::Response, routing::any};

/// A service that is mounted.
pub(crate) trait Service: Send + Sync + 'static {
    /// The paths that it answers, as axum writes them.
    const PATHS: &'static [&'static str];

    /// Answers a request.
    fn answer(&self, request: Request) -> impl Future<Output = Response> + Send;

    /// What is answered while it is not there yet.
    fn starting() -> Response;
}

/// The place of a service.
pub(crate) struct Mount<S>(Arc<OnceLock<S>>);

impl<S> Clone for Mount<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Default for Mount<S> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<S: Service> Mount<S> {
    /// Routes to be served beside others.
    pub(crate) fn router(&self) -> Router {
        let mut router = Router::new();
        for path in S::PATHS {
            let mount = self.clone();
            let answer = move |request: Request| {
                let mount = mount.clone();
                async move {
                    match mount.0.get() {
                        Some(service) => service.answer(request).await,
                        None => S::starting(),
                    }
                }
            };
            router = router.route(path, any(answer));
        }
        router
    }

    /// Starts the service. The first one counts.
    pub(crate) fn start(&self, make: impl FnOnce() -> S) {
        self.0.get_or_init(make);
    }
}
