//! The controller's address inside the site: whatever connects there is connected, byte for byte, to Drystone's port on
//! the machine's loopback. There is no route between the two; only this copying joins them.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;
/// How long Drystone may take to accept a connection on loopback.
const DIAL_DEADLINE: Duration = Duration::from_secs(5);

/// Forwards until cancelled; then every connection is cut.
pub(super) async fn serve(listener: TcpListener, controller: SocketAddr, end: CancellationToken) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((from, _)) => {
                connections.spawn(async move {
                    forward(from, controller).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting on the controller's address in the site");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn forward(mut from: TcpStream, controller: SocketAddr) {
    match timeout(DIAL_DEADLINE, TcpStream::connect(controller)).await {
        Ok(Ok(mut to)) => {
            let _ = (from.set_nodelay(true), to.set_nodelay(true));
            // Either side may go at any time; that ends the connection and is nobody's fault.
            let _ = copy_bidirectional(&mut from, &mut to).await;
        }
        Ok(Err(error)) => tracing::debug!(%controller, %error, "controller not reachable"),
        Err(_) => tracing::debug!(%controller, "controller does not answer"),
    }
}
