//! One site: connects, keeps the connection, waits when there is none.

use std::{sync::Arc, time::Duration};

use drystone_api::{ConnectionState, Site, SiteController};
use drystone_engine::reference::{ObjectKey, describe_kube_error};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    GlobalConfig,
    courier::Lost,
    declared::Declared,
    report::Reporter,
    session::{Session, deliver},
    there::Known,
};

/// Key of a kubeconfig in its Secret.
const KUBECONFIG: &str = "value";

/// The link to one site.
pub(super) struct Link {
    client: Client,
    config: GlobalConfig,
    declared: Arc<Declared>,
    site: watch::Receiver<Arc<Site>>,
    key: ObjectKey,
    bell: Arc<Notify>,
    known: Known,
    reporter: Reporter,
}

/// What decides how a site is reached. With another one a try is worth while at once.
#[derive(Debug, PartialEq, Eq)]
struct Way {
    controller: SiteController,
    secret: Option<String>,
}

impl Link {
    pub(super) fn new(
        client: Client,
        config: GlobalConfig,
        declared: Arc<Declared>,
        site: watch::Receiver<Arc<Site>>,
    ) -> Self {
        let key = ObjectKey::of(site.borrow().as_ref());
        let bell = declared.bell(&key);
        let reporter = Reporter::new(client.clone(), config.report_interval);
        Self { client, config, declared, site, key, bell, known: Known::default(), reporter }
    }

    /// Until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let working = async {
            // Many sites do not come all at once.
            tokio::time::sleep(self.config.report_interval.mul_f64(rand::random::<f64>())).await;
            loop {
                self.look();
                let way = self.way();
                let Err(lost) = self.connected(&way).await;
                let state = match lost {
                    Lost::Unreachable(_) => ConnectionState::Disconnected,
                    Lost::Refused(_) => ConnectionState::Refused,
                };
                tracing::info!(site = %self.key, %lost, "site not connected");
                self.reporter.connection(state, &lost.to_string());
                let pause = self.config.backoff.random_delay(self.reporter.failures());
                self.wait(Instant::now() + pause, &way).await;
            }
        };
        stop.run_until_cancelled(working).await;
    }

    fn way(&self) -> Way {
        let controller = self.site.borrow().spec.controller.clone().unwrap_or_default();
        let secret = self.declared.secret_version(&self.key.namespace, &controller.kubeconfig_secret_name);
        Way { controller, secret }
    }

    /// Sees what is declared now.
    fn look(&mut self) {
        let name = self.way().controller.kubeconfig_secret_name;
        let wanted = self.declared.wanted(&self.key, &name);
        // A Site that is not declared any more is forgotten, not emptied; this link is about to end.
        if wanted.has_site {
            self.known.wanted = wanted;
        }
        let site = self.site.borrow().clone();
        self.reporter.note(&site, &self.known);
    }

    async fn report(&mut self) {
        let site = self.site.borrow().clone();
        self.reporter.write(&site, &self.known).await;
    }

    /// Waits for the next try, or for another way; tells meanwhile what is pending.
    async fn wait(&mut self, until: Instant, way: &Way) {
        loop {
            let due = self.reporter.due_at();
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                () = self.bell.notified() => {
                    self.look();
                    self.reporter.is_due = true;
                }
                _ = self.site.changed() => self.reporter.is_due = true,
                () = tokio::time::sleep_until(due), if self.reporter.is_due => self.report().await,
            }
            if self.way() != *way {
                return;
            }
        }
    }

    /// Connects and stays connected as long as that lasts.
    async fn connected(&mut self, way: &Way) -> Result<std::convert::Infallible, Lost> {
        let client = self.dial(&way.controller).await?;
        // Two sites behind one local controller would each take away what the other brings.
        let owner = format!("{}/{}", self.declared.owner(), self.key);
        let mut session =
            Session::open(client, self.config.deadline, &owner, way.controller.take_over).await?;
        self.known.reconnect();
        session.follow(&mut self.known).await?;
        tracing::info!(site = %self.key, "site connected");
        self.reporter.connection(ConnectionState::Connected, "");
        let poll = way
            .controller
            .poll_interval
            .map_or(self.config.poll_interval, |span| Duration::from_secs(span.0.max(1)));
        let mut next_check = Instant::now() + poll.mul_f64(0.8 + 0.4 * rand::random::<f64>());
        loop {
            if session.is_current(&self.known) {
                let rounds = self.known.rounds();
                if rounds.iter().flatten().any(|task| !session.serves(task)) {
                    // What was refused because its kind was not known: the site's Drystone may be a newer one by now.
                    if session.ask_again(&mut self.known).await? {
                        continue;
                    }
                }
                if !rounds.is_empty() {
                    // What has changed there may be the work of who has taken the site over: the two must not write in turns.
                    session.courier.check(&owner).await?;
                    let policy = way.controller.conflict_policy;
                    deliver(&session.courier, &mut self.known, rounds, policy).await?;
                }
            }
            let due = self.reporter.due_at();
            let again = self.known.next_try();
            tokio::select! {
                () = session.next(&mut self.known) => self.reporter.is_due = true,
                () = self.bell.notified() => {
                    self.look();
                    session.follow_wanted(&mut self.known).await?;
                    self.reporter.is_due = true;
                }
                _ = self.site.changed() => self.reporter.is_due = true,
                () = tokio::time::sleep_until(next_check) => {
                    session.courier.check(&owner).await?;
                    next_check = Instant::now() + poll.mul_f64(0.8 + 0.4 * rand::random::<f64>());
                }
                () = tokio::time::sleep_until(again.unwrap_or(next_check)), if again.is_some() => {}
                () = tokio::time::sleep_until(due), if self.reporter.is_due => self.report().await,
            }
            if self.way() != *way {
                return Err(Lost::Unreachable("the way to the site has changed".to_owned()));
            }
        }
    }

    async fn dial(&self, controller: &SiteController) -> Result<Client, Lost> {
        let name = &controller.kubeconfig_secret_name;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.key.namespace);
        let secret = secrets.get_opt(name).await.map_err(|error| {
            Lost::Unreachable(format!("reading Secret {name}: {}", describe_kube_error(&error)))
        })?;
        let missing =
            || Lost::Refused(format!("Secret {}/{name} with a kubeconfig is missing", self.key.namespace));
        let data = secret.ok_or_else(missing)?.data.unwrap_or_default();
        let text =
            data.get(KUBECONFIG).and_then(|bytes| std::str::from_utf8(&bytes.0).ok()).ok_or_else(|| {
                Lost::Refused(format!(
                    "Secret {}/{name} has no kubeconfig under the key `{KUBECONFIG}`",
                    self.key.namespace
                ))
            })?;
        let dialled = tokio::time::timeout(self.config.deadline, self.config.dial.dial(text)).await;
        match dialled {
            Ok(client) => client.map_err(|unusable| Lost::Refused(unusable.to_string())),
            Err(_) => Err(Lost::Unreachable("no connection in time".to_owned())),
        }
    }
}
