#!/usr/bin/env bash
# Installs Kubernetes on a node of a cluster that is a VNF: sets the first control plane up, or joins.
#
#   first control plane   install_k8s_cluster.sh -m IP[,IP...] -i CLUSTER_IP -p POD_CIDR -a SERVICE_CIDR
#   another one           the same with -s AUTHORITY_HASH (-t TOKEN -k CERTIFICATE_KEY)
#   worker                install_k8s_cluster.sh -w NODE_IP -i CLUSTER_IP -s AUTHORITY_HASH (-t TOKEN)
#
# Where the program `drystone` is installed, Kubernetes is Drystone's own, which needs containerd and nftables beside it. Elsewhere it is
# kubeadm's, which the image must have, with kubelet, kubectl and containerd. DRYSTONE_DISTRIBUTION=embedded|kubeadm chooses.
#
# Environment: DRYSTONE_JOIN_TOKEN and DRYSTONE_CERTIFICATE_KEY (better than -t and -k, which the list of processes shows),
# DRYSTONE_NODE_NAME, DRYSTONE_NODE_ADDRESS, DRYSTONE_API_SANS (further names of the API, joined by commas), CNI_MANIFEST (kubeadm: a file
# or URL with a network for pods), http_proxy, https_proxy, no_proxy.
#
# Prints `token:`, `server:`, `ssl_ca_cert_hash:` and the certificate of the cluster's authority on the first control plane. It leaves
# /etc/kubernetes/admin.conf and /etc/kubernetes/pki/ca.crt there. Any failure ends it with a status other than 0.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/local/bin:/usr/sbin:/sbin"

fail() {
  echo "$*" >&2
  exit 1
}

masters='' worker='' cluster='' pods=192.168.0.0/16 services=10.96.0.0/12 hash=''
token=${DRYSTONE_JOIN_TOKEN:-} key=${DRYSTONE_CERTIFICATE_KEY:-}
while getopts m:w:i:p:a:t:s:k: option; do
  case $option in
  m) masters=$OPTARG ;;
  w) worker=$OPTARG ;;
  i) cluster=$OPTARG ;;
  p) pods=$OPTARG ;;
  a) services=$OPTARG ;;
  t) token=$OPTARG ;;
  s) hash=${OPTARG#sha256:} ;;
  k) key=$OPTARG ;;
  *) fail "see the beginning of this script for its arguments" ;;
  esac
done
[ -n "$cluster" ] || fail "-i is missing: the address of the cluster's API"
[ -n "$masters$worker" ] || fail "one of -m (control planes) and -w (worker) is needed"

# Whether this machine has an address. (No `grep -q` and no `exit` of awk after a pipe here: who writes to one that has ended fails, and
# with it the pipe.)
here() { ip -o addr show | grep -wF "$1" >/dev/null; }

address=${DRYSTONE_NODE_ADDRESS:-$worker}
if [ -z "$address" ]; then
  for candidate in ${masters//,/ }; do
    if here "$candidate"; then address=$candidate; fi
  done
fi
[ -n "$address" ] || fail "none of $masters is an address of this machine"
here "$address" || fail "$address is no address of this machine"

role=worker
[ -z "$masters" ] || role=master
name=${DRYSTONE_NODE_NAME:-$role${address##*[.:]}}
several=false
case $masters in *,*) several=true ;; esac
joins=false
[ -z "$hash" ] || joins=true
if $joins && [ -z "$token" ]; then fail "DRYSTONE_JOIN_TOKEN (or -t) is missing: by what this node joins"; fi
if $joins && [ -n "$masters" ] && [ -z "$key" ]; then
  fail "DRYSTONE_CERTIFICATE_KEY (or -k) is missing: by what a control plane joins"
fi

distribution=${DRYSTONE_DISTRIBUTION:-}
if [ -z "$distribution" ]; then
  if command -v drystone >/dev/null; then distribution=embedded; else distribution=kubeadm; fi
fi

# Installs packages for programs that are missing (program:package ...), whoever has the package manager's lock.
need() {
  local missing=() entry tries=0
  for entry in "$@"; do
    command -v "${entry%%:*}" >/dev/null || missing+=("${entry##*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  echo "installing ${missing[*]}"
  if command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a
    until apt-get -q update && apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=120 install "${missing[@]}"; do
      tries=$((tries + 1))
      [ "$tries" -lt 5 ] || fail "could not install ${missing[*]}"
      sleep 10
    done
  elif command -v dnf >/dev/null; then
    dnf -q -y --setopt=install_weak_deps=False install "${missing[@]}"
  else
    fail "this machine lacks ${missing[*]}, and has neither apt-get nor dnf"
  fi
}

set_name() {
  [ "$(hostname)" != "$name" ] || return 0
  hostnamectl set-hostname "$name" 2>/dev/null || { hostname "$name" && echo "$name" >/etc/hostname; }
}

# What is needed to join, and to use the cluster.
tell() {
  echo "token: $1"
  echo "server: $(sed -n 's/^ *server: *//p' /etc/kubernetes/admin.conf | sed -n 1p)"
  echo "ssl_ca_cert_hash: $(openssl x509 -pubkey -noout -in /etc/kubernetes/pki/ca.crt |
    openssl pkey -pubin -outform der | sha256sum | cut -d ' ' -f 1)"
  cat /etc/kubernetes/pki/ca.crt
}

# ---- Drystone's own Kubernetes

embedded() {
  need containerd:containerd crun:crun nft:nftables ip:iproute2 conntrack:conntrack
  set_name
  if [ -n "$masters" ]; then
    need kubectl:kubernetes-client openssl:openssl
    if $several; then need etcd:etcd-server; fi
  fi
  local arguments=(--node "$name" --address "$address" --endpoint "$cluster")
  if $joins; then
    export DRYSTONE_JOIN_TOKEN=$token DRYSTONE_CERTIFICATE_KEY=$key
    if [ -n "$masters" ]; then arguments+=(--control-plane); fi
    drystone kubernetes join "${arguments[@]}" --authority "sha256:$hash"
    return
  fi
  arguments+=(--pod-cidr "$pods" --service-cidr "$services")
  if $several; then arguments+=(--replicated); fi
  if [ -n "${DRYSTONE_API_SANS:-}" ]; then arguments+=(--sans "$DRYSTONE_API_SANS"); fi
  drystone kubernetes init "${arguments[@]}"
  echo "the control plane is up"
}

# ---- kubeadm

prepare_for_kubeadm() {
  set_name
  for program in kubeadm kubelet kubectl; do
    command -v "$program" >/dev/null || fail "this machine lacks $program; let its image have it"
  done
  need containerd:containerd conntrack:conntrack openssl:openssl
  swapoff -a || :
  sed -i -E '/^[^#].*[[:space:]]swap[[:space:]]/s/^/#/' /etc/fstab 2>/dev/null || :
  for module in overlay br_netfilter; do modprobe "$module" 2>/dev/null || :; done
  mkdir -p /etc/sysctl.d
  printf 'net.ipv4.ip_forward = 1\nnet.bridge.bridge-nf-call-iptables = 1\n' >/etc/sysctl.d/90-kubernetes.conf
  sysctl -q -w net.ipv4.ip_forward=1 || :
  sysctl -q -w net.bridge.bridge-nf-call-iptables=1 2>/dev/null || :
  if [ ! -s /etc/containerd/config.toml ]; then
    mkdir -p /etc/containerd
    containerd config default | sed 's/SystemdCgroup = false/SystemdCgroup = true/' >/etc/containerd/config.toml
    systemctl restart containerd || :
  fi
  systemctl enable kubelet >/dev/null 2>&1 || :
}

# HAProxy before all control planes, and the cluster's address with whichever of them works.
balance() {
  need haproxy:haproxy keepalived:keepalived
  local index=0 own=0 master interface
  for master in ${masters//,/ }; do
    if [ "$master" = "$address" ]; then own=$index; fi
    index=$((index + 1))
  done
  {
    printf 'global\n    maxconn 4000\ndefaults\n    mode tcp\n    timeout connect 10s\n    timeout client 1h\n    timeout server 1h\n'
    printf 'frontend kubernetes\n    bind *:16443\n    default_backend control-planes\n'
    printf 'backend control-planes\n    balance roundrobin\n    option tcp-check\n'
    for master in ${masters//,/ }; do printf '    server  master-%s %s:6443 check\n' "${master//[.:]/-}" "$master"; done
  } >/etc/haproxy/haproxy.cfg
  interface=$(ip -o addr show | awk -v a="$address" '{ split($4, p, "/"); if (p[1] == a) found = $2 } END { print found }')
  mkdir -p /etc/keepalived
  {
    printf 'vrrp_instance kubernetes {\n    state BACKUP\n    interface %s\n    virtual_router_id 51\n' "$interface"
    printf '    priority %s\n    advert_int 1\n    virtual_ipaddress {\n        %s\n    }\n}\n' "$((103 - own))" "$cluster"
  } >/etc/keepalived/keepalived.conf
  systemctl enable haproxy keepalived >/dev/null 2>&1 || :
  systemctl restart haproxy
  systemctl restart keepalived
}

by_kubeadm() {
  prepare_for_kubeadm
  local endpoint=$cluster:6443 file
  if [ -n "$masters" ] && $several; then
    balance
    endpoint=$cluster:16443
  elif [ "${ha_flag:-False}" = True ]; then
    endpoint=$cluster:16443
  fi
  # What is secret goes by a file that ends with this script.
  file=$(mktemp /run/kubeadm.XXXXXXXX)
  trap 'rm -f -- "$file"' EXIT
  trap 'exit 1' HUP INT TERM
  if $joins; then
    {
      printf 'apiVersion: kubeadm.k8s.io/v1beta3\nkind: JoinConfiguration\n'
      printf 'nodeRegistration: {name: %s, kubeletExtraArgs: {node-ip: "%s"}}\n' "$name" "$address"
      printf 'discovery: {bootstrapToken: {token: "%s", apiServerEndpoint: "%s", caCertHashes: ["sha256:%s"]}}\n' "$token" "$endpoint" "$hash"
      if [ -n "$masters" ]; then
        printf 'controlPlane: {certificateKey: "%s", localAPIEndpoint: {advertiseAddress: "%s"}}\n' "$key" "$address"
      fi
    } >"$file"
    kubeadm join --config "$file"
    return
  fi
  token=$(kubeadm token generate)
  {
    printf 'apiVersion: kubeadm.k8s.io/v1beta3\nkind: InitConfiguration\nlocalAPIEndpoint: {advertiseAddress: "%s"}\n' "$address"
    printf 'nodeRegistration: {name: %s, kubeletExtraArgs: {node-ip: "%s"}}\n' "$name" "$address"
    printf 'bootstrapTokens: [{token: "%s", ttl: 10m0s}]\n---\n' "$token"
    printf 'apiVersion: kubeadm.k8s.io/v1beta3\nkind: ClusterConfiguration\ncontrolPlaneEndpoint: "%s"\n' "$endpoint"
    printf 'kubernetesVersion: %s\n' "$(kubeadm version -o short)"
    printf 'networking: {podSubnet: "%s", serviceSubnet: "%s"}\n' "$pods" "$services"
    printf 'apiServer: {certSANs: ["%s"]}\n' "${cluster}${DRYSTONE_API_SANS:+\", \"${DRYSTONE_API_SANS//,/\", \"}}"
  } >"$file"
  kubeadm init --config "$file" --upload-certs --skip-token-print --skip-certificate-key-print
  export KUBECONFIG=/etc/kubernetes/admin.conf
  kubectl apply -f "${CNI_MANIFEST:-https://raw.githubusercontent.com/projectcalico/calico/v3.30.3/manifests/calico.yaml}"
  tell "$token"
}

case $distribution in
embedded) embedded ;;
kubeadm) by_kubeadm ;;
*) fail "DRYSTONE_DISTRIBUTION must be embedded or kubeadm, not $distribution" ;;
esac
