//! PersistentVolumes of a storage server in a cluster: registered, and taken back when nobody uses them.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{
    error::StorageError,
    in_use::{Observed, Storage, Use, Uses, uses},
    kubectl::{Cluster, Listed},
    manifest::NfsVolume,
};

/// Pauses between questions.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Asks a cluster who uses a storage server.
///
/// # Errors
/// When the cluster does not answer.
pub async fn who_uses(cluster: &impl Cluster, storage: &Storage) -> Result<Uses, StorageError> {
    Ok(uses(&observe(cluster).await?, storage))
}

async fn observe(cluster: &impl Cluster) -> Result<Observed, StorageError> {
    // Pods first: a claim that a later pod mounts is then seen, at least.
    Ok(Observed {
        pods: cluster.list(Listed::Pods).await?,
        claims: cluster.list(Listed::Claims).await?,
        volumes: cluster.list(Listed::Volumes).await?,
    })
}

/// Registers PersistentVolumes and waits until they can be claimed (or have been already). One of the same name on another server, or
/// with another path, is replaced if nobody uses it: where a PersistentVolume is cannot be changed.
///
/// # Errors
/// [`StorageError::InUse`] if one of the same name is used; [`StorageError::Deadline`] if they cannot be claimed in time.
pub async fn register(
    cluster: &impl Cluster,
    volumes: &[NfsVolume],
    limit: Duration,
) -> Result<(), StorageError> {
    let there = by_name(cluster).await?;
    let replaced: Vec<String> = volumes
        .iter()
        .filter(|wanted| {
            let source = |object: &Value| {
                object.pointer("/spec/nfs").map(|nfs| (nfs["server"].clone(), nfs["path"].clone()))
            };
            let leaving = |object: &Value| object.pointer("/metadata/deletionTimestamp").is_some();
            there
                .get(wanted.name())
                .is_some_and(|object| source(object) != source(wanted.object()) || leaving(object))
        })
        .map(|wanted| wanted.name().to_owned())
        .collect();
    if !replaced.is_empty() {
        let storage = Storage { names: replaced.clone(), kept: true, ..Storage::default() };
        let uses = who_uses(cluster, &storage).await?;
        if !uses.is_empty() {
            return Err(StorageError::InUse(uses));
        }
        unregister(cluster, &replaced, limit).await?;
    }
    for volume in volumes {
        cluster.apply(volume.object()).await?;
    }
    let names: Vec<String> = volumes.iter().map(|volume| volume.name().to_owned()).collect();
    await_goal(cluster, &Goal::Claimable(names), limit).await
}

fn phase(volume: &Value) -> &str {
    volume
        .pointer("/status/phase")
        .and_then(Value::as_str)
        .filter(|phase| !phase.is_empty())
        .unwrap_or("Pending")
}

/// Deletes PersistentVolumes and waits until they are gone. Does not ask who uses them.
///
/// # Errors
/// [`StorageError::Deadline`] if they do not go.
pub async fn unregister(
    cluster: &impl Cluster,
    names: &[String],
    limit: Duration,
) -> Result<(), StorageError> {
    let there = by_name(cluster).await?;
    // What comes under the same name later is not meant.
    let meant: Vec<(String, String)> =
        names.iter().filter_map(|name| Some((name.clone(), uid(there.get(name)?).to_owned()))).collect();
    for (name, uid) in &meant {
        cluster.delete(name, uid).await?;
    }
    await_goal(cluster, &Goal::Gone(meant), limit).await
}

/// Deletes PersistentVolumes if nobody uses the storage, and waits until they are gone.
///
/// # Errors
/// [`StorageError::InUse`] if somebody does; nothing has changed then.
pub async fn unregister_unused(
    cluster: &impl Cluster,
    storage: &Storage,
    limit: Duration,
) -> Result<(), StorageError> {
    let uses = who_uses(cluster, storage).await?;
    if !uses.is_empty() {
        return Err(StorageError::InUse(uses));
    }
    unregister(cluster, &storage.names, limit).await?;
    // A claim may have come between: its volume is deleted only when it goes, so whoever has it is found now.
    let others = Storage { names: Vec::new(), ..storage.clone() };
    let late: Vec<Use> = who_uses(cluster, &others).await?.0;
    if late.is_empty() { Ok(()) } else { Err(StorageError::InUse(Uses(late))) }
}

fn uid(object: &Value) -> &str {
    object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default()
}

async fn by_name(cluster: &impl Cluster) -> Result<BTreeMap<String, Value>, StorageError> {
    let listed = cluster.list(Listed::Volumes).await?;
    let name = |object: &Value| object.pointer("/metadata/name").and_then(Value::as_str).map(str::to_owned);
    Ok(listed.into_iter().filter_map(|object| Some((name(&object)?, object))).collect())
}

/// What is waited for.
enum Goal {
    /// These can be claimed, or have been.
    Claimable(Vec<String>),
    /// These, by name and uid, are gone.
    Gone(Vec<(String, String)>),
}

impl Goal {
    /// What is still waited for.
    fn waiting(&self, there: &BTreeMap<String, Value>) -> Vec<String> {
        match self {
            Self::Claimable(names) => names
                .iter()
                .filter_map(|name| {
                    let phase = there.get(name).map_or("missing", phase);
                    // A released one was claimed, and is kept for whoever looks after its data.
                    (!matches!(phase, "Available" | "Bound" | "Released"))
                        .then(|| format!("{name} is {phase}"))
                })
                .collect(),
            Self::Gone(meant) => meant
                .iter()
                .filter(|(name, meant)| there.get(name).is_some_and(|object| uid(object) == meant))
                .map(|(name, _)| format!("{name} is still there"))
                .collect(),
        }
    }

    fn what(&self) -> String {
        match self {
            Self::Claimable(names) => format!("that {} can be claimed", names.join(", ")),
            Self::Gone(_) => "that PersistentVolumes are gone".to_owned(),
        }
    }
}

/// Asks until nothing is waited for any more.
async fn await_goal(cluster: &impl Cluster, goal: &Goal, limit: Duration) -> Result<(), StorageError> {
    let end = tokio::time::Instant::now() + limit;
    let mut pause = PAUSE.0;
    loop {
        let waiting = goal.waiting(&by_name(cluster).await?);
        if waiting.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() + pause >= end {
            return Err(StorageError::Deadline {
                what: goal.what(),
                seconds: limit.as_secs(),
                state: waiting.join(", "),
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde_json::json;

    use super::*;
    use crate::manifest;

    /// A cluster of one kind, that takes a moment for everything.
    #[derive(Default)]
    struct Fake {
        volumes: Mutex<Vec<Value>>,
        claims: Mutex<Vec<Value>>,
        done: Mutex<Vec<String>>,
    }

    impl Cluster for Fake {
        async fn list(&self, what: Listed) -> Result<Vec<Value>, StorageError> {
            match what {
                Listed::Claims => Ok(self.claims.lock().unwrap().clone()),
                Listed::Pods => Ok(Vec::new()),
                Listed::Volumes => {
                    let mut volumes = self.volumes.lock().unwrap();
                    let seen = volumes.clone();
                    volumes.retain(|volume| volume.pointer("/metadata/deletionTimestamp").is_none());
                    for volume in volumes.iter_mut() {
                        if volume.pointer("/status/phase").is_none() {
                            volume["status"] = json!({"phase": "Available"});
                        }
                    }
                    Ok(seen)
                }
            }
        }

        async fn apply(&self, volume: &Value) -> Result<(), StorageError> {
            let name = volume["metadata"]["name"].as_str().unwrap();
            let mut volumes = self.volumes.lock().unwrap();
            let done = format!("apply {name} {}", volume["spec"]["nfs"]["server"].as_str().unwrap());
            if let Some(old) = volumes.iter().find(|old| old["metadata"]["name"] == name) {
                assert_eq!(old["spec"]["nfs"], volume["spec"]["nfs"], "the source of a volume is immutable");
            } else {
                let mut new = volume.clone();
                new["metadata"]["uid"] =
                    json!(format!("uid-{}", volumes.len() + self.done.lock().unwrap().len()));
                volumes.push(new);
            }
            self.done.lock().unwrap().push(done);
            Ok(())
        }

        async fn delete(&self, name: &str, uid: &str) -> Result<(), StorageError> {
            self.done.lock().unwrap().push(format!("delete {name}"));
            for volume in self.volumes.lock().unwrap().iter_mut() {
                if volume["metadata"]["name"] == name && volume["metadata"]["uid"] == uid {
                    volume["metadata"]["deletionTimestamp"] = json!("now");
                }
            }
            Ok(())
        }
    }

    fn volumes(server: [u8; 4]) -> Vec<NfsVolume> {
        let one = "apiVersion: v1\nkind: PersistentVolume\nmetadata: {name: pv1}\nspec: {nfs: {server: 0.0.0.0, path: /volume/pv1}}\n";
        let text = format!("{one}---\n{}", one.replace("pv1", "pv2"));
        manifest::parse(&text).unwrap().into_iter().map(|volume| volume.on_server(server.into())).collect()
    }

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn volumes_are_registered_once_and_moved_when_nobody_uses_them() {
        let cluster = Fake::default();
        register(&cluster, &volumes([10, 0, 0, 1]), LIMIT).await.unwrap();
        register(&cluster, &volumes([10, 0, 0, 1]), LIMIT).await.unwrap();
        assert_eq!(cluster.volumes.lock().unwrap().len(), 2);
        assert!(!cluster.done.lock().unwrap().iter().any(|done| done.starts_with("delete")));
        register(&cluster, &volumes([10, 0, 0, 2]), LIMIT).await.unwrap();
        let done = cluster.done.lock().unwrap().clone();
        assert_eq!(&done[4..], ["delete pv1", "delete pv2", "apply pv1 10.0.0.2", "apply pv2 10.0.0.2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_volume_that_is_used_is_neither_moved_nor_deleted() {
        let cluster = Fake::default();
        register(&cluster, &volumes([10, 0, 0, 1]), LIMIT).await.unwrap();
        cluster
            .claims
            .lock()
            .unwrap()
            .push(json!({"metadata": {"namespace": "a", "name": "c"}, "spec": {"volumeName": "pv2"}}));
        let before = cluster.volumes.lock().unwrap().clone();
        let error = register(&cluster, &volumes([10, 0, 0, 2]), LIMIT).await.unwrap_err();
        assert!(matches!(&error, StorageError::InUse(_)) && error.is_permanent(), "{error}");
        let storage =
            Storage { names: vec!["pv1".into(), "pv2".into()], servers: vec!["10.0.0.1".into()], kept: true };
        let error = unregister_unused(&cluster, &storage, LIMIT).await.unwrap_err();
        assert!(error.to_string().starts_with("pv2 Persistent volume is in use"), "{error}");
        assert_eq!(*cluster.volumes.lock().unwrap(), before);
        cluster.claims.lock().unwrap().clear();
        unregister_unused(&cluster, &storage, LIMIT).await.unwrap();
        assert!(cluster.volumes.lock().unwrap().is_empty());
        unregister_unused(&cluster, &storage, LIMIT).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_volume_that_was_given_back_is_not_waited_for() {
        let cluster = Fake::default();
        register(&cluster, &volumes([10, 0, 0, 1]), LIMIT).await.unwrap();
        cluster.volumes.lock().unwrap()[0]["status"] = json!({"phase": "Released"});
        register(&cluster, &volumes([10, 0, 0, 1]), LIMIT).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_comes_is_not_waited_for_for_ever() {
        let cluster = Fake::default();
        let mut stuck = volumes([10, 0, 0, 1]).remove(0).object().clone();
        stuck["status"] = json!({"phase": "Failed"});
        cluster.volumes.lock().unwrap().push(stuck);
        let error = register(&cluster, &volumes([10, 0, 0, 1]), LIMIT).await.unwrap_err();
        assert!(error.to_string().contains("pv1 is Failed"), "{error}");
        assert!(!error.is_permanent());
    }
}
