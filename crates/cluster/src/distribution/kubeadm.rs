//! What kubeadm is told, and the programs that run it. Pure.
//!
//! Configuration is of `kubeadm.k8s.io/v1beta4` (kubernetes.io/docs/reference/config-api/kubeadm-config.v1beta4). Each program bears being
//! run again, whatever came between: the host remembers whose it is and how far it got.

use std::net::IpAddr;

use drystone_api::{ClusterSpec, KubeadmSettings, Taint};
use drystone_identity::Secret;
use serde_json::{Value, json};

use super::STATE;

/// `apiVersion` of all documents.
const API_VERSION: &str = "kubeadm.k8s.io/v1beta4";

/// Where kubeadm leaves the administrator's kubeconfig.
pub const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";

/// How long a join token lives if nobody takes it back.
const TOKEN_LIFETIME: &str = "15m";

/// A host, as kubeadm is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts<'a> {
    /// Name of the node.
    pub name: &'a str,
    /// Its address.
    pub address: IpAddr,
    /// Labels of the node.
    pub labels: Vec<(String, String)>,
    /// Taints of the node; those of its role by default.
    pub taints: Vec<Taint>,
}

/// What a host needs to join; only in memory, and on the host that it is meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// `id.secret`.
    pub token: Secret,
    /// `host:port` of the API server.
    pub endpoint: String,
    /// `sha256:…` of the cluster authority's public key.
    pub authority: String,
    /// Key to the control plane's certificates, for a control plane.
    pub certificate_key: Option<Secret>,
}

fn settings(spec: &ClusterSpec) -> KubeadmSettings {
    spec.kubeadm.clone().unwrap_or_default()
}

fn registration(spec: &ClusterSpec, host: &HostFacts<'_>) -> Value {
    let settings = settings(spec);
    let labels: Vec<String> = host.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut arguments = vec![json!({"name": "node-ip", "value": host.address.to_string()})];
    if !labels.is_empty() {
        arguments.push(json!({"name": "node-labels", "value": labels.join(",")}));
    }
    let mut registration = json!({"name": host.name, "kubeletExtraArgs": arguments});
    if !settings.cri_socket.is_empty() {
        registration["criSocket"] = json!(settings.cri_socket);
    }
    if !settings.ignore_preflight_errors.is_empty() {
        registration["ignorePreflightErrors"] = json!(settings.ignore_preflight_errors);
    }
    if !host.taints.is_empty() {
        let taint = |taint: &Taint| json!({"key": taint.key, "value": taint.value, "effect": taint.effect});
        registration["taints"] = host.taints.iter().map(taint).collect();
    }
    registration
}

/// `host:port` by which a cluster's API is reached.
pub fn endpoint(spec: &ClusterSpec, first: IpAddr) -> String {
    match spec.control_plane.endpoint.as_str() {
        "" => std::net::SocketAddr::new(first, 6443).to_string(),
        endpoint => endpoint.to_owned(),
    }
}

/// Configuration of `kubeadm init`. `token` is one that lives for two minutes: without it kubeadm makes one for a day.
pub fn init_configuration(spec: &ClusterSpec, cluster: &str, host: &HostFacts<'_>, token: &Secret) -> Secret {
    let settings = settings(spec);
    let init = json!({
        "apiVersion": API_VERSION,
        "kind": "InitConfiguration",
        "bootstrapTokens": [{"token": token.expose(), "ttl": "2m0s", "usages": ["authentication", "signing"],
                             "groups": ["system:bootstrappers:kubeadm:default-node-token"]}],
        "nodeRegistration": registration(spec, host),
        "localAPIEndpoint": {"advertiseAddress": host.address, "bindPort": 6443},
    });
    let mut configuration = json!({
        "apiVersion": API_VERSION,
        "kind": "ClusterConfiguration",
        "clusterName": cluster,
        "controlPlaneEndpoint": endpoint(spec, host.address),
        "networking": {"podSubnet": spec.network.pod_cidr, "serviceSubnet": spec.network.service_cidr},
    });
    if !settings.version.is_empty() {
        configuration["kubernetesVersion"] = json!(settings.version);
    }
    merge(&mut configuration, &settings.cluster_configuration);
    // JSON is YAML, and needs no quoting rules of its own.
    Secret::new(format!("{configuration:#}\n---\n{init:#}\n"))
}

/// Merges as RFC 7396 does; what a document is must not change.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else { return };
    for (key, value) in patch {
        if key == "apiVersion" || key == "kind" {
            continue;
        }
        match (target.get_mut(key), value) {
            (Some(inner), Value::Object(_)) if inner.is_object() => merge(inner, value),
            _ => target[key.as_str()] = value.clone(),
        }
    }
}

/// Configuration of `kubeadm join`.
pub fn join_configuration(spec: &ClusterSpec, host: &HostFacts<'_>, invitation: &Invitation) -> Secret {
    let mut join = json!({
        "apiVersion": API_VERSION,
        "kind": "JoinConfiguration",
        "nodeRegistration": registration(spec, host),
        "discovery": {"bootstrapToken": {
            "token": invitation.token.expose(),
            "apiServerEndpoint": invitation.endpoint,
            "caCertHashes": [invitation.authority],
        }},
    });
    if let Some(key) = &invitation.certificate_key {
        join["controlPlane"] = json!({
            "certificateKey": key.expose(),
            "localAPIEndpoint": {"advertiseAddress": host.address, "bindPort": 6443},
        });
    }
    Secret::new(format!("{join:#}\n"))
}

/// Checks a host and makes it ready. That something is missing may pass: whoever brings it may be at work.
pub fn prepare() -> String {
    r#"set -eu
export LC_ALL=C
missing=
for program in kubeadm kubelet; do command -v "$program" >/dev/null || missing="$missing $program"; done
command -v containerd >/dev/null || command -v crio >/dev/null || [ -S /run/containerd/containerd.sock ] || missing="$missing containerd"
if [ -n "$missing" ]; then
  echo "the host lacks$missing; bring them by a SoftwareSet or by the hosts' image" >&2
  exit 1
fi
for module in overlay br_netfilter; do modprobe "$module" 2>/dev/null || :; done
mkdir -p /etc/sysctl.d
printf 'net.ipv4.ip_forward = 1\nnet.bridge.bridge-nf-call-iptables = 1\n' >/etc/sysctl.d/90-drystone-kubernetes.conf
sysctl -q -w net.ipv4.ip_forward=1 || :
sysctl -q -w net.bridge.bridge-nf-call-iptables=1 2>/dev/null || :
if [ "$(wc -l </proc/swaps)" -gt 1 ] && [ -n "$DRYSTONE_SWAP_OFF" ]; then
  echo "switching swap off"
  swapoff -a
fi
systemctl enable kubelet >/dev/null 2>&1 || :
kubeadm version -o short
"#
    .to_owned()
}

/// Part of a program that runs `kubeadm VERB` once with the configuration that it reads; `phase` is what the host remembers when done.
fn once(phase: &str, command: &str) -> String {
    format!(
        r#"set -eu
export LC_ALL=C
umask 077
{STATE}
if [ -n "$foreign" ]; then echo "$foreign" >&2; exit 77; fi
if [ "$phase" = {phase} ]; then echo "done before"; exit 0; fi
if [ -n "$owner" ]; then
  echo "begins anew after an interruption"
  kubeadm reset --force
elif [ -e /etc/kubernetes/kubelet.conf ] || [ -e /etc/kubernetes/admin.conf ]; then
  echo "the host belongs to a cluster that is not Drystone's; if it may be lost, run kubeadm reset there" >&2
  exit 77
fi
note begun
file=$(mktemp /run/drystone-kubeadm.XXXXXXXX)
trap 'rm -f -- "$file"' EXIT
trap 'exit 1' HUP INT TERM
cat >"$file"
{command} --config "$file"
note {phase}
"#
    )
}

/// Makes the first control plane; reads its configuration.
pub fn init() -> String {
    once("control-plane", "kubeadm init --skip-token-print --skip-certificate-key-print")
}

/// Makes a host join; reads its configuration.
pub fn join(control_plane: bool) -> String {
    once(if control_plane { "control-plane" } else { "worker" }, "kubeadm join")
}

/// Makes an invitation on a control plane. `$DRYSTONE_FOR_HOST` is the host that it is for.
pub fn invite(control_plane: bool) -> String {
    let certificates = if control_plane {
        "printf 'certificate-key '\nkubeadm init phase upload-certs --upload-certs | tail -n 1\n"
    } else {
        ""
    };
    format!(
        "set -eu\nexport LC_ALL=C KUBECONFIG={ADMIN_CONF}\n{certificates}\
         kubeadm token create --ttl {TOKEN_LIFETIME} --description \"Drystone: $DRYSTONE_FOR_HOST joins\" --print-join-command\n"
    )
}

/// Reads what [`invite`] printed.
///
/// # Errors
/// What is missing. Never quotes what was printed.
pub fn read_invitation(printed: &str, control_plane: bool) -> Result<Invitation, String> {
    let words: Vec<&str> = printed.split_whitespace().collect();
    let after = |name: &str| {
        let at = words.iter().position(|word| *word == name)?;
        words.get(at + 1).map(|word| (*word).to_owned())
    };
    let missing = |what: &str| format!("kubeadm did not print {what}; is its version at least 1.31?");
    let endpoint = after("join").ok_or_else(|| missing("how to join"))?;
    let token = after("--token").ok_or_else(|| missing("a token"))?;
    let authority =
        after("--discovery-token-ca-cert-hash").ok_or_else(|| missing("the authority's digest"))?;
    let key = after("certificate-key")
        .filter(|key| key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if control_plane && key.is_none() {
        return Err(missing("a certificate key"));
    }
    let certificate_key = key.filter(|_| control_plane).map(Secret::new);
    Ok(Invitation { token: Secret::new(token), endpoint, authority, certificate_key })
}

/// Takes an invitation back. `$DRYSTONE_TOKEN_ID` is the token's public part.
pub fn withdraw(control_plane: bool) -> String {
    let certificates = if control_plane {
        "kubectl -n kube-system delete secret kubeadm-certs --ignore-not-found >/dev/null || :\n"
    } else {
        ""
    };
    format!(
        "export LC_ALL=C KUBECONFIG={ADMIN_CONF}\n{certificates}kubeadm token delete \"$DRYSTONE_TOKEN_ID\" >/dev/null || :\n"
    )
}

/// Takes everything of the cluster off a host; on a control plane its member of etcd leaves as well.
pub fn reset() -> String {
    format!(
        r#"set -eu
export LC_ALL=C
{STATE}
if [ -n "$foreign" ] || [ -z "$owner" ]; then echo "nothing of this cluster is on the host"; exit 0; fi
note leaving
kubeadm reset --force
rm -rf -- /etc/cni/net.d "$state"
"#
    )
}

/// Takes a member of etcd out whose host is gone, on another control plane. `$DRYSTONE_GONE` is the host that is gone.
pub fn forget_member() -> String {
    format!(
        r#"set -eu
export LC_ALL=C KUBECONFIG={ADMIN_CONF}
pki=/etc/kubernetes/pki/etcd
etcd() {{
  kubectl -n kube-system exec "etcd-$DRYSTONE_HOST" -- etcdctl --endpoints https://127.0.0.1:2379 \
    --cacert $pki/ca.crt --cert $pki/server.crt --key $pki/server.key "$@"
}}
id=$(etcd member list | awk -F ', ' -v name="$DRYSTONE_GONE" '$3 == name {{ print $1 }}')
if [ -n "$id" ]; then etcd member remove "$id"; fi
"#
    )
}

/// Applies manifests that it reads.
pub fn apply_addons() -> String {
    format!("export LC_ALL=C KUBECONFIG={ADMIN_CONF}\nexec kubectl apply -f -\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> ClusterSpec {
        ClusterSpec {
            kubeadm: Some(KubeadmSettings {
                version: "v1.36.3".into(),
                cluster_configuration: json!({
                    "kind": "Other",
                    "networking": {"dnsDomain": "rack.local"},
                    "apiServer": {"extraArgs": [{"name": "audit-log-path", "value": "-"}]},
                }),
                ignore_preflight_errors: vec!["Swap".into()],
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn host() -> HostFacts<'static> {
        HostFacts {
            name: "cp1",
            address: [10, 0, 0, 1].into(),
            labels: vec![("drystone.dev/pool".into(), "train".into())],
            taints: vec![],
        }
    }

    #[test]
    fn configuration_of_init() {
        let text = init_configuration(&spec(), "mlops", &host(), &"abcdef.0123456789abcdef".into());
        insta::assert_snapshot!(text.expose());
    }

    #[test]
    fn configuration_of_join() {
        let invitation = Invitation {
            token: "abcdef.0123456789abcdef".into(),
            endpoint: "10.0.0.1:6443".into(),
            authority: "sha256:12".into(),
            certificate_key: Some("k".into()),
        };
        insta::assert_snapshot!(join_configuration(&spec(), &host(), &invitation).expose());
        assert!(!format!("{invitation:?}").contains("abcdef"));
    }

    #[test]
    fn an_invitation_is_read_from_what_kubeadm_prints() {
        let key = "ab".repeat(32);
        let printed = format!(
            "certificate-key {key}\nkubeadm join 10.0.0.1:6443 --token abcdef.0123456789abcdef --discovery-token-ca-cert-hash sha256:12 \n"
        );
        let invitation = read_invitation(&printed, true).expect("complete");
        assert_eq!(invitation.endpoint, "10.0.0.1:6443");
        assert_eq!(invitation.certificate_key, Some(key.into()));
        let worker = "kubeadm join 10.0.0.1:6443 --token a.b --discovery-token-ca-cert-hash sha256:12";
        assert_eq!(read_invitation(worker, false).expect("complete").certificate_key, None);
        let error = read_invitation(worker, true).expect_err("no key");
        assert!(error.contains("certificate key") && !error.contains("a.b"), "{error}");
        assert!(read_invitation("", false).is_err());
    }
}
