//! What an agent does from its start until the host is reset: asks for orders and carries them out.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::sync::{Mutex, watch};

use crate::{
    client::{AgentClient, ClientError, backoff},
    deploy::{Deployed, Deployer, Point},
    download::Detours,
    machine::{Machine, MachineError},
    medium::AgentConfig,
    protocol::{Deployment, Inventory, Order, Progress, Report, Stage},
};

/// How often an agent without work asks.
const IDLE: Duration = Duration::from_secs(1);
/// How often progress is told, at most and at least: silence would mean that the host is dead.
const TELL_AT_MOST: Duration = Duration::from_secs(1);
const TELL_AT_LEAST: Duration = Duration::from_secs(10);
/// Longest pause between two attempts to reach Drystone.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Why an agent cannot begin. Once it has begun it goes on until its host is reset.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The configuration is wrong.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The machine does not say what it is.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// An agent at work.
struct Agent {
    machine: Arc<dyn Machine>,
    client: AgentClient,
    detours: Detours,
    /// Held by whoever writes a disk.
    writing: Arc<Mutex<()>>,
}

/// Works for whoever the configuration names, until the host is reset (or the future is dropped).
///
/// # Errors
/// [`AgentError`].
pub async fn run(
    machine: Arc<dyn Machine>,
    config: &AgentConfig,
    detours: Detours,
) -> Result<Infallible, AgentError> {
    let client = AgentClient::new(config, &detours)?;
    let agent = Agent { machine, client, detours, writing: Arc::default() };
    let mut inventory = agent.machine.inventory().await?;
    agent.insist("telling what the host is made of", || agent.client.inventory(&inventory)).await;
    // An order that was carried out is not carried out again, only told again if Drystone seems not to know.
    let mut last: Option<Report> = None;
    loop {
        let Some(orders) = agent.insist("asking for orders", || agent.client.orders()).await else {
            tokio::time::sleep(IDLE).await;
            continue;
        };
        if matches!(orders.order, Order::Wait) {
            tokio::time::sleep(IDLE).await;
            continue;
        }
        let report = match last.take().filter(|report| report.order == orders.id) {
            Some(done) => {
                tokio::time::sleep(IDLE).await;
                done
            }
            None => {
                tracing::info!(order = orders.id, "an order");
                if matches!(orders.order, Order::Inspect) {
                    inventory = agent.machine.inventory().await?;
                }
                match agent.carry_out(&orders.id, &orders.order, &inventory).await {
                    Some(report) => report,
                    None => continue,
                }
            }
        };
        agent.insist("telling what came of it", || agent.client.report(&report)).await;
        last = Some(report);
    }
}

impl Agent {
    /// Asks until there is an answer; `None` if the order is no longer the present one.
    async fn insist<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        what: &'static str,
        ask: impl Fn() -> F,
    ) -> Option<T> {
        let mut failures = 0;
        loop {
            match ask().await {
                Ok(answer) => return Some(answer),
                Err(ClientError::Superseded) => return None,
                Err(error) => {
                    failures += 1;
                    // Even a refusal may pass: Drystone may just be starting.
                    if failures < 4 || failures % 16 == 0 {
                        tracing::warn!(%error, failures, what);
                    }
                    tokio::time::sleep(backoff(failures, LONGEST_PAUSE)).await;
                }
            }
        }
    }

    /// Carries out an order; `None` if another one came meanwhile.
    async fn carry_out(&self, id: &str, order: &Order, inventory: &Inventory) -> Option<Report> {
        let (point, watched) = watch::channel(Point::at(Stage::Taken));
        let work = async {
            match order {
                Order::Wait => Ok(None),
                Order::Inspect => {
                    self.insist("telling what the host is made of", || self.client.inventory(inventory))
                        .await;
                    Ok(None)
                }
                Order::Deploy(deployment) => self.deploy(deployment, inventory, point).await.map(Some),
                Order::Clean => {
                    point.send_replace(Point::at(Stage::Cleaning));
                    self.clean(inventory).await.map(|()| None)
                }
            }
        };
        let outcome = tokio::select! {
            outcome = work => outcome,
            () = self.tell(id, watched) => return None,
        };
        let mut report = Report { order: id.to_owned(), error: None, disk: None, bytes: 0 };
        match outcome {
            Ok(Some(Deployed { disk, bytes })) => {
                (report.disk, report.bytes) = (Some(disk), bytes);
                tracing::info!(bytes, "the order has been carried out");
            }
            Ok(None) => tracing::info!("the order has been carried out"),
            Err(error) => {
                tracing::error!(error, "the order could not be carried out");
                report.error = Some(error);
            }
        }
        Some(report)
    }

    async fn deploy(
        &self,
        deployment: &Deployment,
        inventory: &Inventory,
        point: watch::Sender<Point>,
    ) -> Result<Deployed, String> {
        let (machine, http) = (Arc::clone(&self.machine), self.client.http().clone());
        let (detours, writing) = (self.detours.clone(), Arc::clone(&self.writing));
        let deployer = Deployer { machine, http, detours, point, writing };
        deployer.deploy(deployment, inventory).await.map_err(|error| error.to_string())
    }

    async fn clean(&self, inventory: &Inventory) -> Result<(), String> {
        for disk in &inventory.disks {
            self.machine.wipe(disk).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Tells how far an order is, for as long as it is the present one.
    async fn tell(&self, id: &str, mut point: watch::Receiver<Point>) {
        loop {
            let Point { stage, done, total } = *point.borrow_and_update();
            match self.client.progress(&Progress { order: id.to_owned(), stage, done, total }).await {
                Err(ClientError::Superseded) => return,
                // The next one says more.
                Err(error) => tracing::debug!(%error, "progress was not told"),
                Ok(()) => {}
            }
            tokio::time::sleep(TELL_AT_MOST).await;
            // An error means that the work is at its end, which ends this too.
            let _ = tokio::time::timeout(TELL_AT_LEAST, point.changed()).await;
        }
    }
}
