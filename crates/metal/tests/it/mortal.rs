//! Clients of processes that are killed at a write: they do not come back from it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use drystone_apiserver::ApiServer;
use drystone_identity::UserInfo;
use http::{Method, Request};
use kube::{Client, client::Body};
use tokio::sync::Notify;
use tower::{ServiceExt as _, service_fn};

/// A client that carries out `writes` requests which change something, and never comes back from the next one: it is carried out, if
/// `written`, or not. Who is told by the bell is to drop whatever uses the client.
pub(crate) fn mortal(
    server: &ApiServer,
    namespace: &str,
    writes: usize,
    written: bool,
) -> (Client, Arc<Notify>) {
    let service = server.service_as(UserInfo::new("system:admin", ["system:masters"]));
    let (dying, count) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let bell = dying.clone();
    let limited = service_fn(move |request: Request<Body>| {
        let (service, dying, count) = (service.clone(), dying.clone(), count.clone());
        async move {
            if request.method() == Method::GET {
                return service.oneshot(request).await;
            }
            let number = count.fetch_add(1, Ordering::SeqCst);
            if number < writes {
                return service.oneshot(request).await;
            }
            if number == writes && written {
                let _answer = service.oneshot(request).await;
            }
            dying.notify_one();
            std::future::pending().await
        }
    });
    (Client::new(limited, namespace), bell)
}
