//! Sockets of another network namespace, for use in this process: a thread enters the namespace and makes them. A socket
//! belongs for life to the namespace it was made in, whoever uses it later.

use std::{fs::File, io, net::SocketAddr, time::Duration};

use nix::sched::{CloneFlags, setns};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::super::namespace;

/// Requests that may wait for the thread; more wait in their senders.
const QUEUE: usize = 256;
/// How long a connection may take to come about.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);

enum Request {
    Connect(SocketAddr, oneshot::Sender<io::Result<std::net::TcpStream>>),
    Listen(SocketAddr, oneshot::Sender<io::Result<std::net::TcpListener>>),
}

/// Makes sockets in a network namespace. The thread ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub(super) struct NamespaceSockets {
    requests: mpsc::Sender<Request>,
}

impl NamespaceSockets {
    /// Starts a thread in the named namespace.
    pub(super) async fn enter(name: &str) -> io::Result<Self> {
        let file = File::open(namespace::path(name))?;
        let (requests, receiver) = mpsc::channel(QUEUE);
        let (entered, outcome) = oneshot::channel();
        std::thread::Builder::new().name("netns sockets".to_owned()).spawn(move || {
            let started = setns(&file, CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
            drop(file);
            match started {
                Ok(runtime) => {
                    if entered.send(Ok(())).is_ok() {
                        runtime.block_on(serve(receiver));
                    }
                }
                // Whoever waited for it has gone.
                Err(error) => drop(entered.send(Err(error))),
            }
        })?;
        outcome.await.map_err(|_| thread_gone())??;
        Ok(Self { requests })
    }

    /// Connects to an address as seen from the namespace.
    pub(super) async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Connect(address, reply)).await.map_err(|_| thread_gone())?;
        TcpStream::from_std(answer.await.map_err(|_| thread_gone())??)
    }

    /// Listens on an address of the namespace.
    pub(super) async fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Listen(address, reply)).await.map_err(|_| thread_gone())?;
        TcpListener::from_std(answer.await.map_err(|_| thread_gone())??)
    }
}

fn thread_gone() -> io::Error {
    io::Error::other("the thread in the network namespace has ended")
}

async fn serve(mut requests: mpsc::Receiver<Request>) {
    while let Some(request) = requests.recv().await {
        // A reply that nobody waits for any more closes the socket again.
        match request {
            Request::Listen(address, reply) => drop(reply.send(listen(address).await)),
            Request::Connect(address, reply) => {
                tokio::spawn(async move { drop(reply.send(connect(address).await)) });
            }
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<std::net::TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    let refused = |_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", DIAL_DEADLINE.as_secs()))
    };
    let stream = timeout(DIAL_DEADLINE, socket.connect(address)).await.map_err(refused)??;
    stream.set_nodelay(true)?;
    stream.into_std()
}

async fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    TcpListener::bind(address).await?.into_std()
}
