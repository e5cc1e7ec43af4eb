//! Events: what changes in the tree is told to subscribers, who are remembered over restarts in a Secret.

use std::{sync::Arc, time::Duration};

use drystone_api::SYSTEM_NAMESPACE;
use drystone_engine::reference::describe_kube_error;
use drystone_redfish::{
    error::ServiceError,
    message::{
        self,
        events::{fabric, resource, task},
    },
    server::{EventService, Happening, Reply, SavedSubscription, WriteRequest},
    tree::{Change, ChangeKind, Tree},
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams},
};
use serde_json::Value;
use tokio::sync::{Mutex, broadcast};
use tokio_util::sync::CancellationToken;

/// Name of the Secret: what subscribers want to be told together with their events may be confidential.
const SECRET: &str = "redfish-subscriptions";
/// Its key.
const KEY: &str = "subscriptions";
/// Who writes it.
const MANAGER: &str = "drystone-ofmf";
/// How long to wait before the Secret is asked for again.
const RETRY: Duration = Duration::from_secs(1);

/// The subscriptions as they are kept.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    secrets: Api<Secret>,
    /// One change at a time: what is kept must be what was decided last. Locked until what was kept is known.
    turn: Arc<Mutex<()>>,
}

impl Subscriptions {
    /// Takes up what is kept, then tells what changes in the tree until `shutdown`.
    pub(crate) fn start(
        client: &Client,
        events: &Arc<EventService>,
        tree: &Arc<Tree>,
        shutdown: &CancellationToken,
    ) -> Self {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let turn = Arc::new(Mutex::new(()));
        let changes = tree.changes();
        let (kept, service) = (secrets.clone(), events.clone());
        let guard = turn.clone().try_lock_owned();
        let work = async move {
            service.restore(load(&kept).await);
            drop(guard);
            tell(changes, &service).await;
        };
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(work));
        Self { secrets, turn }
    }

    /// Carries out a write in the event service, durably: what cannot be kept is taken back.
    pub(crate) async fn write(
        &self,
        events: &EventService,
        request: WriteRequest<'_>,
    ) -> Result<Reply, ServiceError> {
        let _turn = self.turn.lock().await;
        let before = events.saved();
        let reply = events.write(request)?;
        let after = events.saved();
        if before == after {
            return Ok(reply);
        }
        if let Err(error) = self.keep(&after).await {
            events.restore(before);
            tracing::error!("subscriptions are not kept: {}", describe_kube_error(&error));
            return Err(ServiceError::unavailable(message::service_temporarily_unavailable(5), 5));
        }
        Ok(reply)
    }

    async fn keep(&self, saved: &[SavedSubscription]) -> Result<(), kube::Error> {
        let bytes = serde_json::to_vec(saved).map_err(kube::Error::SerdeError)?;
        let secret = Secret {
            metadata: ObjectMeta { name: Some(SECRET.to_owned()), ..Default::default() },
            data: Some([(KEY.to_owned(), ByteString(bytes))].into()),
            ..Default::default()
        };
        let parameters = PatchParams::apply(MANAGER).force();
        self.secrets.patch(SECRET, &parameters, &Patch::Apply(&secret)).await.map(drop)
    }
}

/// What was kept. Asks until there is an answer: nobody may subscribe before.
async fn load(secrets: &Api<Secret>) -> Vec<SavedSubscription> {
    loop {
        match secrets.get_opt(SECRET).await {
            Ok(None) => return Vec::new(),
            Ok(Some(secret)) => {
                let bytes = secret.data.as_ref().and_then(|data| data.get(KEY));
                let read = bytes.map(|bytes| serde_json::from_slice(&bytes.0)).transpose();
                return read
                    .unwrap_or_else(|error| {
                        tracing::error!("Secret {SECRET} is damaged, subscriptions are lost: {error}");
                        None
                    })
                    .unwrap_or_default();
            }
            Err(error) => {
                tracing::warn!("subscriptions are not read yet: {}", describe_kube_error(&error));
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn tell(mut changes: broadcast::Receiver<Arc<[Change]>>, events: &EventService) {
    loop {
        match changes.recv().await {
            Ok(changes) => {
                let all: Vec<Happening> = changes.iter().flat_map(happenings).collect();
                events.publish_all(&all);
            }
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!("{missed} changes came too fast to be told as events");
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// What a change is in the words of the registries: one event of `ResourceEvent`, and those that say more where there are any.
fn happenings(change: &Change) -> Vec<Happening> {
    let schema = change.odata_type.schema().to_owned();
    let happening =
        |message| Happening { message, origin: change.uri.to_string(), resource_type: schema.clone().into() };
    let mut all = vec![happening(match change.kind {
        ChangeKind::Created => resource::resource_created(),
        ChangeKind::Changed => resource::resource_changed(),
        ChangeKind::Removed => resource::resource_removed(),
    })];
    let mut parts = change.uri.rsplit('/');
    let (id, _, fabric_id) =
        (parts.next().unwrap_or_default(), parts.next(), parts.next().unwrap_or_default());
    let in_fabric = |created: fn(&str, &str) -> message::Message,
                     modified: fn(&str, &str) -> message::Message,
                     removed: fn(&str, &str) -> message::Message| {
        match change.kind {
            ChangeKind::Created => created(id, fabric_id),
            ChangeKind::Changed => modified(id, fabric_id),
            ChangeKind::Removed => removed(id, fabric_id),
        }
    };
    let is_fabrics = change.uri.starts_with(crate::names::FABRICS);
    match schema.as_str() {
        "Zone" if is_fabrics => {
            all.push(happening(in_fabric(fabric::zone_created, fabric::zone_modified, fabric::zone_removed)));
        }
        "Endpoint" => all.push(happening(in_fabric(
            fabric::endpoint_created,
            fabric::endpoint_modified,
            fabric::endpoint_removed,
        ))),
        "Connection" => all.push(happening(in_fabric(
            fabric::connection_created,
            fabric::connection_modified,
            fabric::connection_removed,
        ))),
        "AddressPool" => all.push(happening(in_fabric(
            fabric::address_pool_created,
            fabric::address_pool_modified,
            fabric::address_pool_removed,
        ))),
        "ComputerSystem" | "Task" | "ResourceBlock" => {
            all.extend(difference(change, &schema, id).map(happening));
        }
        _ => {}
    }
    all
}

/// What is different about a system, a task or a block.
fn difference(change: &Change, schema: &str, id: &str) -> Option<message::Message> {
    let Some((before, after)) = &change.bodies else {
        return (schema == "Task" && change.kind == ChangeKind::Created).then(|| task::task_started(id));
    };
    let value = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap_or_default() };
    let (before, after) = (value(before), value(after));
    let uri = &change.uri;
    let became = |pointer: &str| {
        let now = after.pointer(pointer)?;
        (before.pointer(pointer) != Some(now)).then(|| now.clone())
    };
    match schema {
        "ComputerSystem" => match became("/PowerState")?.as_str()? {
            "On" => Some(resource::resource_powered_on(uri)),
            "Off" => Some(resource::resource_powered_off(uri)),
            _ => None,
        },
        "ResourceBlock" => {
            became("/CompositionStatus/CompositionState")?;
            Some(message::resource_block_composition_state_changed(id))
        }
        _ => match became("/TaskState") {
            Some(state) => match state.as_str()? {
                "Completed" => Some(task::task_completed_ok(id)),
                "Exception" | "Killed" => Some(task::task_aborted(id)),
                "Cancelled" => Some(task::task_cancelled(id)),
                _ => None,
            },
            None => {
                let percent = became("/PercentComplete")?;
                Some(task::task_progress_changed(id, &percent.to_string()))
            }
        },
    }
}
