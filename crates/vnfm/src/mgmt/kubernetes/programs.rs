//! What runs on nodes. Pure. Each program bears being run again, whatever came between: the node remembers whose it is and how far it got.

/// Where installers and what they are told are on a node.
pub const DIRECTORY: &str = "/var/lib/drystone/vnf";

/// The administrator's kubeconfig, as kubeadm leaves it; Drystone's own script does the same.
pub const ADMIN_CONF: &str = "/etc/kubernetes/admin.conf";

/// What the node remembers: whose it is, and what is done of what. `$DRYSTONE_VNF` is the VNF's uid.
const STATE: &str = r#"state=/var/lib/drystone/vnf.state
mkdir -p /var/lib/drystone
note() {
  printf '%s %s\n' "$DRYSTONE_VNF" "$1" >"$state.new"
  sync -- "$state.new" 2>/dev/null || sync
  mv -f -- "$state.new" "$state"
}
owner= phase=
if [ -e "$state" ]; then read -r owner phase <"$state" || :; fi
if [ -n "$owner" ] && [ "$owner" != "$DRYSTONE_VNF" ]; then
  echo "this server belongs to another VNF ($owner); if that is gone, remove $state" >&2
  exit 77
fi
"#;

/// Replaces the block of `/etc/hosts` that is ours by what is read: lines of an address and a name.
const HOSTS: &str = r##"new=$(mktemp /etc/hosts.XXXXXXXX)
trap 'rm -f -- "$new"' EXIT
trap 'exit 1' HUP INT TERM
[ -e /etc/hosts ] || : >/etc/hosts
sed '/^# BEGIN Drystone VNF$/,/^# END Drystone VNF$/d' /etc/hosts >"$new"
{ echo "# BEGIN Drystone VNF"; cat; echo "# END Drystone VNF"; } >>"$new"
chmod 644 "$new"
# Where the file is mounted it cannot be replaced, only written.
mv -f -- "$new" /etc/hosts 2>/dev/null || cat -- "$new" >/etc/hosts
"##;

/// Says whether the server is ours, lets it know the other nodes, which it reads, and tells what it is.
pub fn prepare() -> String {
    format!(
        "set -eu\nexport LC_ALL=C\n{STATE}{HOSTS}uname -sr\nif [ -e /etc/os-release ]; then . /etc/os-release; echo \"$PRETTY_NAME\"; fi\n"
    )
}

/// Lets a node know the others, which it reads.
pub fn update_hosts() -> String {
    format!("set -eu\nexport LC_ALL=C\n{STATE}{HOSTS}")
}

/// Replaces the servers of HAProxy's configuration, where there is one for the cluster's API, by `$DRYSTONE_MASTERS`: `name=address …`.
pub const UPDATE_PROXY: &str = r#"set -eu
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
file=/etc/haproxy/haproxy.cfg
if [ ! -e "$file" ] || ! grep -qE '^[ 	]*server[ 	]+[^ 	]+[ 	]+[^ 	]+:6443' "$file"; then exit 0; fi
awk -v masters="$DRYSTONE_MASTERS" '
  /^[ \t]*server[ \t]+[^ \t]+[ \t]+[^ \t]+:6443/ {
    if (!done) {
      count = split(masters, list, " ")
      for (i = 1; i <= count; i++) { split(list[i], part, "="); printf "    server  %s %s:6443 check\n", part[1], part[2] }
      done = 1
    }
    next
  }
  { print }' "$file" >"$file.new"
if cmp -s "$file.new" "$file"; then rm -f "$file.new"; exit 0; fi
if command -v haproxy >/dev/null; then haproxy -c -q -f "$file.new"; fi
chmod --reference="$file" "$file.new" 2>/dev/null || chmod 644 "$file.new"
mv -f "$file.new" "$file"
systemctl restart haproxy || service haproxy restart
"#;

/// Runs the installer once, with these arguments, each a word of the shell already. One that was cut short is begun anew, from a clean
/// node where that can be had.
pub fn install(arguments: &str) -> String {
    format!(
        r#"set -eu
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/sbin"
umask 022
{STATE}case $phase in
installed) echo "done before"; exit 0 ;;
begun)
  echo "begins anew after an interruption"
  if [ -e /etc/drystone/cluster.json ] && command -v drystone >/dev/null; then drystone kubernetes reset
  elif command -v kubeadm >/dev/null; then kubeadm reset --force
  fi
  ;;
esac
note begun
cd {DIRECTORY}
bash ./install.sh {arguments}
note installed
"#
    )
}

/// Runs the script that installs Helm once.
pub fn install_helm() -> String {
    format!(
        "set -eu\nexport LC_ALL=C PATH=\"$PATH:/usr/local/bin\"\n{STATE}cd {DIRECTORY}\n\
         if [ -e helm.installed ]; then echo \"done before\"; exit 0; fi\nbash ./install_helm.sh\n: >helm.installed\n"
    )
}

/// Invites a node, on a control plane: prints `token:`, `hash:` and, for a control plane, `key:`. `$DRYSTONE_NODE` is the node.
pub fn invite(control_plane: bool) -> String {
    let (embedded, keys) = if control_plane {
        (" --control-plane", "printf 'key: '\n  kubeadm init phase upload-certs --upload-certs | tail -n 1\n")
    } else {
        ("", "")
    };
    format!(
        r#"set -eu
export LC_ALL=C KUBECONFIG={ADMIN_CONF} PATH="$PATH:/usr/local/bin:/usr/sbin:/sbin"
if [ -e /etc/drystone/cluster.json ] && command -v drystone >/dev/null; then
  exec drystone kubernetes invite --node "$DRYSTONE_NODE"{embedded}
else
  {keys}  printf 'token: '
  kubeadm token create --ttl 1h --description "Drystone: $DRYSTONE_NODE joins"
  printf 'hash: '
  openssl x509 -pubkey -noout -in /etc/kubernetes/pki/ca.crt | openssl pkey -pubin -outform der | sha256sum | cut -d ' ' -f 1
fi
"#
    )
}

/// Takes an invitation back. `$DRYSTONE_TOKEN_ID` is the public part of its token.
pub fn withdraw() -> String {
    format!(
        "export LC_ALL=C KUBECONFIG={ADMIN_CONF} PATH=\"$PATH:/usr/local/bin:/usr/sbin:/sbin\"\n\
         kubectl -n kube-system delete secret \"bootstrap-token-$DRYSTONE_TOKEN_ID\" --ignore-not-found >/dev/null\n"
    )
}

/// Takes the member of etcd at `$DRYSTONE_GONE_ADDRESS` out, on another control plane. A success if there is none.
pub fn forget_member() -> String {
    format!(
        r#"set -eu
export LC_ALL=C KUBECONFIG={ADMIN_CONF} PATH="$PATH:/usr/local/bin:/usr/sbin:/sbin"
if [ -e /etc/drystone/cluster.json ]; then
  kubectl get --raw /control-plane/members >/dev/null 2>&1 || exit 0
  exec kubectl delete --raw "/control-plane/members/$DRYSTONE_GONE_ADDRESS"
fi
pki=/etc/kubernetes/pki/etcd
pod=$(kubectl -n kube-system get pods -l component=etcd --field-selector "spec.nodeName=$DRYSTONE_NODE" -o name | head -n 1)
[ -n "$pod" ] || exit 0
etcd() {{
  kubectl -n kube-system exec "${{pod#pod/}}" -- etcdctl --endpoints https://127.0.0.1:2379 \
    --cacert $pki/ca.crt --cert $pki/server.crt --key $pki/server.key "$@"
}}
id=$(etcd member list | awk -F ', ' -v url="https://$DRYSTONE_GONE_ADDRESS:2380" 'index($4, url) {{ print $1 }}')
if [ -n "$id" ]; then etcd member remove "$id"; fi
"#
    )
}

/// Empties the node `$DRYSTONE_NODE` and takes it out of the cluster. A success if it is not there.
pub fn remove_node() -> String {
    format!(
        r#"set -eu
export LC_ALL=C KUBECONFIG={ADMIN_CONF} PATH="$PATH:/usr/local/bin:/usr/sbin:/sbin"
found=$(kubectl get node "$DRYSTONE_NODE" --ignore-not-found -o name)
if [ -z "$found" ]; then echo "$DRYSTONE_NODE is no node of the cluster any more"; exit 0; fi
if [ -n "$DRYSTONE_DRAIN" ]; then
  kubectl drain "$DRYSTONE_NODE" --ignore-daemonsets --delete-emptydir-data --force --timeout="$DRYSTONE_DRAIN" ||
    echo "not all pods left $DRYSTONE_NODE in time; it is removed nevertheless, and they with it" >&2
fi
kubectl delete node "$DRYSTONE_NODE" --ignore-not-found
"#
    )
}

/// Lets a node that was taken out, and whose server is still there, come back: its agent registers it anew.
pub const COME_BACK: &str = r#"set -eu
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
if [ -e /etc/drystone/cluster.json ]; then systemctl restart drystone-node.service; else systemctl restart kubelet.service; fi
"#;

/// Takes all pods of the API's servers as the API that answers: waits until it does.
pub fn await_api() -> String {
    format!(
        r#"set -eu
export LC_ALL=C KUBECONFIG={ADMIN_CONF} PATH="$PATH:/usr/local/bin:/usr/sbin:/sbin"
if [ ! -e {ADMIN_CONF} ]; then
  echo "the installer left no {ADMIN_CONF}, by which the cluster is worked with" >&2
  exit 77
fi
i=0
while ! kubectl get --raw /readyz >/dev/null 2>"/tmp/.drystone-api.$$"; do
  i=$((i + 1))
  if [ "$i" -gt 300 ]; then cat "/tmp/.drystone-api.$$" >&2; rm -f "/tmp/.drystone-api.$$"; exit 1; fi
  sleep 1
done
rm -f "/tmp/.drystone-api.$$"
"#
    )
}

/// An administrator for whoever uses the cluster as VIM: prints `server:`, `sans:` and the authority, and the token between `token:` and the
/// line's end. Its standard output is a secret.
pub fn administrator() -> String {
    format!(
        r#"set -eu
export LC_ALL=C KUBECONFIG={ADMIN_CONF} PATH="$PATH:/usr/local/bin:/usr/sbin:/sbin"
kubectl apply -f - >/dev/null <<'END'
{{"apiVersion": "v1", "kind": "List", "items": [
  {{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {{"name": "drystone-vim", "namespace": "kube-system"}}}},
  {{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {{"name": "drystone-vim"}},
    "roleRef": {{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}},
    "subjects": [{{"kind": "ServiceAccount", "name": "drystone-vim", "namespace": "kube-system"}}]}}
]}}
END
# A token of the TokenRequest API, for ten years. Servers that give none for so long fill a Secret with one that does not end.
request='{{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {{"expirationSeconds": 315360000}}}}'
token=$(printf '%s' "$request" |
  kubectl create --raw /api/v1/namespaces/kube-system/serviceaccounts/drystone-vim/token -f - |
  tr -d ' \n' | sed -n 's/.*"expirationSeconds":315360000.*"token":"\([^"]*\)".*/\1/p')
if [ -z "$token" ]; then
  kubectl apply -f - >/dev/null <<'END'
{{"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
  "metadata": {{"name": "drystone-vim-token", "namespace": "kube-system",
               "annotations": {{"kubernetes.io/service-account.name": "drystone-vim"}}}}}}
END
  i=0
  while [ -z "$token" ] && [ "$i" -lt 60 ]; do
    token=$(kubectl -n kube-system get secret drystone-vim-token -o 'jsonpath={{.data.token}}' | base64 -d)
    i=$((i + 1))
    [ -n "$token" ] || sleep 0.5
  done
fi
if [ -z "$token" ]; then echo "the cluster gives no token for its administrator" >&2; exit 1; fi
printf 'token: %s\n' "$token"
printf 'server: %s\n' "$(kubectl config view --minify -o 'jsonpath={{.clusters[0].cluster.server}}')"
printf 'sans: %s\n' "$(openssl x509 -noout -text -in /etc/kubernetes/pki/apiserver.crt 2>/dev/null | grep -A1 'Subject Alternative Name' | tail -n 1 || :)"
cat /etc/kubernetes/pki/ca.crt
"#
    )
}

/// An invitation, as [`invite`] prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// `id.secret`.
    pub token: drystone_identity::Secret,
    /// SHA-256 of the public key of the cluster's authority, in hexadecimal.
    pub authority: String,
    /// Key to the control planes' certificates.
    pub certificate_key: Option<drystone_identity::Secret>,
}

/// Reads what [`invite`] printed.
///
/// # Errors
/// What is missing; never quotes what was printed.
pub fn read_invitation(printed: &str, control_plane: bool) -> Result<Invitation, String> {
    let value = |name: &str| {
        let line = printed.lines().find_map(|line| line.trim().strip_prefix(name));
        line.map(str::trim).filter(|value| !value.is_empty() && !value.contains(char::is_whitespace))
    };
    let missing = |what: &str| format!("the control plane printed no {what}");
    let token = value("token:").filter(|token| token.contains('.')).ok_or_else(|| missing("token"))?;
    let hash = value("hash:").map(|hash| hash.strip_prefix("sha256:").unwrap_or(hash));
    let hash = hash.filter(|hash| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let authority = hash.ok_or_else(|| missing("digest of the authority"))?.to_owned();
    let key = value("key:").map(drystone_identity::Secret::from);
    if control_plane && key.is_none() {
        return Err(missing("key to its certificates"));
    }
    Ok(Invitation { token: token.into(), authority, certificate_key: key.filter(|_| control_plane) })
}

/// What [`administrator`] prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Administrator {
    /// Bearer token.
    pub token: drystone_identity::Secret,
    /// Port of the API.
    pub port: u16,
    /// Certificate authority, PEM.
    pub authority: String,
    /// What the certificate of the API is for, as openssl writes it; empty if it is not known.
    pub names: String,
}

/// Reads what [`administrator`] printed.
///
/// # Errors
/// What is missing; never quotes what was printed.
pub fn read_administrator(printed: &str) -> Result<Administrator, String> {
    let value = |name: &str| {
        printed.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default()
    };
    let token = value("token:");
    if token.is_empty() {
        return Err("the control plane printed no token".to_owned());
    }
    let server = value("server:");
    let port = server.rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok());
    let port = port.ok_or_else(|| format!("`{server}` in {ADMIN_CONF} has no port"))?;
    let begin =
        printed.find("-----BEGIN CERTIFICATE-----").ok_or("the control plane printed no certificate")?;
    Ok(Administrator {
        token: token.into(),
        port,
        authority: format!("{}\n", printed[begin..].trim_end()),
        names: value("sans:").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn invitations_are_read() {
        let hash = "ab".repeat(32);
        let printed = format!("key: {hash}\ntoken: abcdef.0123456789abcdef\nhash: sha256:{hash}\n");
        let invitation = read_invitation(&printed, true).unwrap();
        assert_eq!(
            (invitation.token.expose(), invitation.authority.as_str()),
            ("abcdef.0123456789abcdef", hash.as_str())
        );
        assert!(invitation.certificate_key.is_some());
        assert!(read_invitation(&printed, false).unwrap().certificate_key.is_none());
        let error = read_invitation("token: abcdef.0123456789abcdef\n", false).unwrap_err();
        assert!(error.contains("digest") && !error.contains("abcdef"), "{error}");
        assert!(read_invitation(&printed.replace("key:", "k:"), true).is_err());
        assert!(!format!("{invitation:?}").contains("abcdef."));
    }

    #[test]
    fn administrators_are_read() {
        let printed = "token: eyJ.x.y\nserver: https://10.10.0.5:16443\nsans: DNS:kubernetes, IP Address:10.10.0.5\n\
                       -----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n";
        let administrator = read_administrator(printed).unwrap();
        assert_eq!((administrator.port, administrator.token.expose()), (16443, "eyJ.x.y"));
        assert!(administrator.authority.ends_with("-----END CERTIFICATE-----\n"));
        assert!(administrator.names.contains("10.10.0.5"));
        for gone in ["token: eyJ.x.y", "https://10.10.0.5:16443", "-----BEGIN CERTIFICATE-----"] {
            let error = read_administrator(&printed.replace(gone, "")).unwrap_err();
            assert!(!error.contains("eyJ"), "{error}");
        }
    }

    #[test]
    fn programs_are_good_shell() {
        let programs = [
            prepare(),
            update_hosts(),
            UPDATE_PROXY.to_owned(),
            install("-m 10.0.0.1"),
            install_helm(),
            invite(true),
            invite(false),
            withdraw(),
            forget_member(),
            remove_node(),
            COME_BACK.to_owned(),
            await_api(),
            administrator(),
        ];
        for program in programs {
            let output = std::process::Command::new("sh").args(["-n", "-c", &program]).output().unwrap();
            assert!(output.status.success(), "{}\n{program}", String::from_utf8_lossy(&output.stderr));
        }
    }

    proptest! {
        #[test]
        fn whatever_a_node_prints_is_read_or_refused(text in drystone_hostile::text()) {
            let _ = (read_invitation(&text, true), read_administrator(&text));
        }
    }
}
