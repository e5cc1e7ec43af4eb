//! A process that leads when it can.

use std::{future::Future, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Decision, LeaderConfig, decide, decide::released};
use crate::reference::is_conflict;

/// Runs `work` whenever this process leads, until `shutdown`. The token that `work` gets fires when leadership is lost or on
/// `shutdown`; work that has not ended shortly after the loss is dropped, and this process becomes a candidate again.
///
/// Returns what `work` returned when it ended while leading, or on `shutdown`; `None` when `shutdown` came before this process
/// led. The lease is released, so that somebody else can lead at once.
pub async fn lead<T, W, F>(
    client: Client,
    config: LeaderConfig,
    shutdown: CancellationToken,
    mut work: W,
) -> Option<T>
where
    W: FnMut(CancellationToken) -> F,
    F: Future<Output = T>,
{
    let mut candidate = Candidate::new(client, config);
    loop {
        if shutdown.run_until_cancelled(candidate.acquire()).await.is_none() {
            // The lease may have been taken just now, without this process having learnt of it.
            candidate.release().await;
            return None;
        }
        let term = shutdown.child_token();
        if let Some(result) = candidate.serve(work(term.clone()), &term).await {
            candidate.release().await;
            return Some(result);
        }
        if shutdown.is_cancelled() {
            return None;
        }
    }
}

struct Candidate {
    api: Api<Lease>,
    config: LeaderConfig,
    /// The lease as last seen, and since when it has looked like this.
    seen: Option<Lease>,
    seen_since: Instant,
}

impl Candidate {
    fn new(client: Client, config: LeaderConfig) -> Self {
        let api = Api::namespaced(client, &config.namespace);
        Self { api, config, seen: None, seen_since: Instant::now() }
    }

    /// Completes when this process leads.
    async fn acquire(&mut self) {
        let mut following = None;
        loop {
            match self.bounded_claim().await {
                Ok(None) => {
                    tracing::info!(lease = %self.config.name, identity = %self.config.identity, "leading");
                    return;
                }
                Ok(Some(leader)) if following.as_ref() != Some(&leader) => {
                    tracing::info!(lease = %self.config.name, %leader, "following");
                    following = Some(leader);
                }
                Ok(Some(_)) => {}
                Err(why) => {
                    tracing::warn!(lease = %self.config.name, why, "lease not acquired; trying again");
                }
            }
            // Up to 1.2 times more, so that candidates do not come at the same time for ever.
            let jitter = 1.0 + 1.2 * rand::random::<f64>();
            tokio::time::sleep(self.config.retry_period.mul_f64(jitter)).await;
        }
    }

    /// Runs `work` while renewing the lease; `None` if leadership was lost before it ended.
    async fn serve<T>(&mut self, work: impl Future<Output = T>, term: &CancellationToken) -> Option<T> {
        tokio::pin!(work);
        tokio::select! {
            result = &mut work => return Some(result),
            () = self.renew_until_lost() => {}
        }
        tracing::warn!(lease = %self.config.name, "leadership lost; stopping");
        term.cancel();
        // Nobody else begins before the lease has expired.
        let left = self.config.lease_duration.saturating_sub(self.config.renew_deadline).mul_f64(0.8);
        // What it returns now, it returns for having been stopped.
        let _ = tokio::time::timeout(left, work).await;
        None
    }

    async fn renew_until_lost(&mut self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.config.retry_period).await;
            let left = self.config.renew_deadline.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(left, self.claim()).await {
                Ok(Ok(None)) => renewed = Instant::now(),
                Ok(Ok(Some(leader))) => {
                    tracing::warn!(lease = %self.config.name, %leader, "somebody else has taken the lease");
                    return;
                }
                Ok(Err(why)) => {
                    tracing::warn!(lease = %self.config.name, why, "lease not renewed; trying again");
                }
                Err(_) => {}
            }
            if renewed.elapsed() >= self.config.renew_deadline {
                return;
            }
        }
    }

    async fn bounded_claim(&mut self) -> Result<Option<String>, String> {
        tokio::time::timeout(self.config.renew_deadline, self.claim())
            .await
            .unwrap_or_else(|_| Err("the API server does not answer".to_owned()))
    }

    /// Tries to take or renew the lease; `Some(leader)` if somebody else has it.
    async fn claim(&mut self) -> Result<Option<String>, String> {
        let text = |error: kube::Error| crate::reference::describe_kube_error(&error);
        let current = self.api.get_opt(&self.config.name).await.map_err(text)?;
        self.observe(current);
        let spec = self.seen.as_ref().and_then(|lease| lease.spec.as_ref());
        match decide(&self.config, spec, self.seen_since.elapsed(), Timestamp::now()) {
            Decision::Follow { leader } => Ok(Some(leader)),
            Decision::Claim(spec) => match self.write(*spec).await {
                Ok(lease) => {
                    self.observe(Some(lease));
                    Ok(None)
                }
                Err(error) if is_conflict(&error) => Err("somebody else was faster".to_owned()),
                Err(error) => Err(text(error)),
            },
        }
    }

    async fn write(&self, spec: LeaseSpec) -> Result<Lease, kube::Error> {
        let metadata = self.seen.as_ref().map(|lease| lease.metadata.clone());
        let exists = metadata.is_some();
        let metadata = metadata.unwrap_or_else(|| ObjectMeta {
            name: Some(self.config.name.clone()),
            namespace: Some(self.config.namespace.clone()),
            ..ObjectMeta::default()
        });
        let lease = Lease { metadata, spec: Some(spec) };
        if exists {
            self.api.replace(&self.config.name, &PostParams::default(), &lease).await
        } else {
            self.api.create(&PostParams::default(), &lease).await
        }
    }

    fn observe(&mut self, lease: Option<Lease>) {
        let spec = |lease: &Option<Lease>| lease.as_ref().and_then(|lease| lease.spec.clone());
        if spec(&lease) != spec(&self.seen) {
            self.seen_since = Instant::now();
        }
        self.seen = lease;
    }

    /// Gives the lease up, if it is still ours.
    async fn release(&mut self) {
        match tokio::time::timeout(self.config.renew_deadline / 2, self.try_release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(lease = %self.config.name, %error, "lease not released; it expires");
            }
            Err(_) => tracing::debug!(lease = %self.config.name, "lease not released in time; it expires"),
        }
    }

    async fn try_release(&mut self) -> Result<(), kube::Error> {
        loop {
            // Read anew: a renewal that was cut short may have come through.
            self.seen = self.api.get_opt(&self.config.name).await?;
            let spec = self.seen.as_ref().and_then(|lease| lease.spec.as_ref());
            let ours = |spec: &&LeaseSpec| spec.holder_identity.as_deref() == Some(&self.config.identity);
            let Some(spec) = spec.filter(ours) else { return Ok(()) };
            match self.write(released(spec, Timestamp::now())).await {
                Err(error) if is_conflict(&error) => tokio::time::sleep(Duration::from_millis(50)).await,
                result => return result.map(drop),
            }
        }
    }
}
