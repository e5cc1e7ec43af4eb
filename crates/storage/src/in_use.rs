//! Who uses PersistentVolumes. Pure.
//!
//! A storage server is taken away only when nobody uses what is on it:
//!
//! - a claim that is bound to one of its PersistentVolumes, whoever registered that: those of the package and any other that leads to the server;
//! - a pod that has not ended and mounts such a claim, even one that is being deleted;
//! - a pod that has not ended and mounts an export of the server without a PersistentVolume.
//!
//! A volume whose claim is gone is `Released`: nobody uses it, but what somebody wrote is still there. If the server's volumes are kept, it
//! stays there, and that does not count. If they are made anew, it would be lost, and so it counts unless the reclaim policy says that it is
//! not to be kept (`Delete`, `Recycle`).

use std::fmt;

use serde_json::Value;

/// Objects of a cluster, as its API has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// PersistentVolumes.
    pub volumes: Vec<Value>,
    /// PersistentVolumeClaims of all namespaces.
    pub claims: Vec<Value>,
    /// Pods of all namespaces.
    pub pods: Vec<Value>,
}

/// What would be taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Storage {
    /// Names of PersistentVolumes that belong to it whatever they say.
    pub names: Vec<String>,
    /// Addresses or names by which the server is known.
    pub servers: Vec<String>,
    /// Whether what is on it is kept.
    pub kept: bool,
}

/// Somebody who uses something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    /// What: a PersistentVolume, or `server:/path`.
    pub what: String,
    /// Who, and how.
    pub by: String,
}

/// All who use the storage; none if empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses(pub Vec<Use>);

impl fmt::Display for Uses {
    /// The beginning is what users of Tacker know from its refusals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        let first = self.0.first().map(|used| used.what.as_str()).unwrap_or_default();
        write!(f, "{first} Persistent volume is in use")?;
        for (index, used) in self.0.iter().take(SHOWN).enumerate() {
            f.write_str(if index == 0 { ": " } else { "; " })?;
            write!(f, "{} {}", used.what, used.by)?;
        }
        if self.0.len() > SHOWN {
            write!(f, "; and {} more", self.0.len() - SHOWN)?;
        }
        f.write_str(". End what uses it first")
    }
}

impl Uses {
    /// Whether nobody uses anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// `namespace/name`.
fn full_name(object: &Value) -> String {
    format!("{}/{}", text(object, "/metadata/namespace"), text(object, "/metadata/name"))
}

/// Whether a PersistentVolume, or a pod's volume, is on the server.
fn is_ours(storage: &Storage, nfs: &Value) -> bool {
    let server = text(nfs, "/server");
    !server.is_empty() && storage.servers.iter().any(|own| own == server)
}

/// Finds all who use the storage.
pub fn uses(observed: &Observed, storage: &Storage) -> Uses {
    let mut found: Vec<Use> = Vec::new();
    let null = Value::Null;
    for volume in &observed.volumes {
        let name = text(volume, "/metadata/name");
        let listed = storage.names.iter().any(|own| own == name);
        if listed || is_ours(storage, volume.pointer("/spec/nfs").unwrap_or(&null)) {
            uses_of_volume(observed, storage, volume, &mut found);
        }
    }
    for pod in observed.pods.iter().filter(|pod| !has_ended(pod)) {
        for volume in volumes_of(pod) {
            if let Some(nfs) = volume.get("nfs").filter(|nfs| is_ours(storage, nfs)) {
                let what = format!("{}:{}", text(nfs, "/server"), text(nfs, "/path"));
                found.push(Use { what, by: format!("is mounted by pod {}", full_name(pod)) });
            }
        }
    }
    found.sort();
    found.dedup();
    Uses(found)
}

fn uses_of_volume(observed: &Observed, storage: &Storage, volume: &Value, found: &mut Vec<Use>) {
    let name = text(volume, "/metadata/name");
    let used = |by: String| Use { what: name.to_owned(), by };
    let reference = volume.pointer("/spec/claimRef");
    let referred = reference
        .map(|claim| format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")))
        .filter(|_| text(volume, "/status/phase") == "Bound");
    let mut claims: Vec<String> = observed
        .claims
        .iter()
        .filter(|claim| text(claim, "/spec/volumeName") == name)
        .map(full_name)
        .collect();
    claims.extend(referred);
    claims.sort();
    claims.dedup();
    for claim in &claims {
        found.push(used(format!("is bound to claim {claim}")));
        for pod in observed.pods.iter().filter(|pod| !has_ended(pod)) {
            let namespace = text(pod, "/metadata/namespace");
            let mounts = |volume: &Value| {
                let name = text(volume, "/persistentVolumeClaim/claimName");
                !name.is_empty() && format!("{namespace}/{name}") == *claim
            };
            if volumes_of(pod).any(mounts) {
                found.push(used(format!("is mounted by pod {} (claim {claim})", full_name(pod))));
            }
        }
    }
    let keeps = !matches!(text(volume, "/spec/persistentVolumeReclaimPolicy"), "Delete" | "Recycle");
    if claims.is_empty() && text(volume, "/status/phase") == "Released" && !storage.kept && keeps {
        found.push(used("is released but holds what a claim left, which would be lost".to_owned()));
    }
}

fn volumes_of(pod: &Value) -> impl Iterator<Item = &Value> {
    pod.pointer("/spec/volumes").and_then(Value::as_array).into_iter().flatten()
}

fn has_ended(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volume(name: &str, server: &str, phase: &str, claim: Option<&str>) -> Value {
        let mut volume = json!({
            "metadata": {"name": name},
            "spec": {"nfs": {"server": server, "path": "/volume/a"}, "persistentVolumeReclaimPolicy": "Retain"},
            "status": {"phase": phase},
        });
        if let Some(claim) = claim {
            volume["spec"]["claimRef"] = json!({"namespace": "app", "name": claim});
        }
        volume
    }

    fn claim(name: &str, volume: &str) -> Value {
        json!({"metadata": {"namespace": "app", "name": name}, "spec": {"volumeName": volume}})
    }

    fn pod(name: &str, phase: &str, volumes: &Value) -> Value {
        json!({"metadata": {"namespace": "app", "name": name}, "spec": {"volumes": volumes}, "status": {"phase": phase}})
    }

    fn storage() -> Storage {
        Storage { names: vec!["pv1".into()], servers: vec!["10.0.0.9".into()], kept: true }
    }

    fn found(volumes: Vec<Value>, claims: Vec<Value>, pods: Vec<Value>) -> Vec<String> {
        let uses = uses(&Observed { volumes, claims, pods }, &storage());
        uses.0.iter().map(|used| format!("{} {}", used.what, used.by)).collect()
    }

    #[test]
    fn claims_count_whatever_the_phase_says() {
        assert!(found(vec![volume("pv1", "10.0.0.9", "Available", None)], vec![], vec![]).is_empty());
        let bound = found(vec![volume("pv1", "10.0.0.9", "Bound", Some("data"))], vec![], vec![]);
        assert_eq!(bound, ["pv1 is bound to claim app/data"]);
        let early =
            found(vec![volume("pv1", "10.0.0.9", "Available", None)], vec![claim("data", "pv1")], vec![]);
        assert_eq!(early, ["pv1 is bound to claim app/data"]);
        let reserved = found(vec![volume("pv1", "10.0.0.9", "Available", Some("data"))], vec![], vec![]);
        assert!(reserved.is_empty(), "reserved for a claim that is not there");
    }

    #[test]
    fn foreign_volumes_on_the_server_count_and_others_do_not() {
        let volumes = vec![
            volume("theirs", "10.0.0.9", "Bound", Some("data")),
            volume("elsewhere", "10.0.0.8", "Bound", Some("other")),
        ];
        assert_eq!(found(volumes, vec![], vec![]), ["theirs is bound to claim app/data"]);
    }

    #[test]
    fn pods_count_until_they_have_ended() {
        let by_claim = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]);
        let direct = json!([{"name": "v", "nfs": {"server": "10.0.0.9", "path": "/volume/b"}}]);
        let other = json!([{"name": "v", "nfs": {"server": "10.0.0.8", "path": "/volume/b"}}, {"name": "w", "emptyDir": {}}]);
        let pods = vec![
            pod("a", "Running", &by_claim),
            pod("b", "Succeeded", &by_claim),
            pod("c", "Pending", &direct),
            pod("d", "Failed", &direct),
            pod("e", "Running", &other),
        ];
        let volumes = vec![volume("pv1", "10.0.0.9", "Bound", Some("data"))];
        let all = found(volumes, vec![claim("data", "pv1")], pods);
        assert_eq!(
            all,
            [
                "10.0.0.9:/volume/b is mounted by pod app/c",
                "pv1 is bound to claim app/data",
                "pv1 is mounted by pod app/a (claim app/data)",
            ]
        );
    }

    #[test]
    fn what_a_claim_left_counts_if_it_would_be_lost() {
        let released = |policy: &str, kept: bool| {
            let mut volume = volume("pv1", "10.0.0.9", "Released", Some("data"));
            volume["spec"]["persistentVolumeReclaimPolicy"] = json!(policy);
            let observed = Observed { volumes: vec![volume], ..Observed::default() };
            !uses(&observed, &Storage { kept, ..storage() }).is_empty()
        };
        assert!(!released("Retain", true));
        assert!(released("Retain", false));
        assert!(!released("Delete", false) && !released("Recycle", false));
    }

    #[test]
    fn the_refusal_says_who() {
        let observed = Observed {
            volumes: vec![volume("pv1", "10.0.0.9", "Bound", Some("data"))],
            ..Observed::default()
        };
        let text = uses(&observed, &storage()).to_string();
        assert_eq!(
            text,
            "pv1 Persistent volume is in use: pv1 is bound to claim app/data. End what uses it first"
        );
    }
}
