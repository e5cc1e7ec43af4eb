#!/bin/sh
# A program for clusters of distribution Script: sets up Drystone's own control plane and node agents, as any installer would be run.
# The contract is in docs/distributions.md. Needs jq, openssl and kubectl on the hosts.
#
# Environment of the example's own: IMAGE_ARCHIVES, paths of image archives on the hosts, separated by spaces.
set -eu
umask 077
program=/usr/local/bin/drystone
etc=/etc/drystone

inventory() { jq -r "$1" "$DRYSTONE_INVENTORY"; }

service() {
  cat >"/etc/systemd/system/$1.service" <<UNIT
[Unit]
Description=$1
StartLimitIntervalSec=0
[Service]
ExecStart=$2
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
UNIT
  systemctl enable --now "$1.service"
}

# Whoever runs the program again finds what it made before.
authority() {
  [ -s $etc/pki/ca.crt ] && return
  for name in ca service-account; do
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $etc/pki/$name.key 2>/dev/null
  done
  openssl req -x509 -new -key $etc/pki/ca.key -subj "/CN=$DRYSTONE_CLUSTER" -days 3650 \
    -addext 'keyUsage=critical,keyCertSign,cRLSign' -out $etc/pki/ca.crt.new
  mv $etc/pki/ca.crt.new $etc/pki/ca.crt
}

random() { tr -dc 'a-z0-9' </dev/urandom | head -c "$1" || :; }

kubeconfig() {
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out admin.key 2>/dev/null
  openssl req -new -key admin.key -subj '/O=system:masters/CN=kubernetes-admin' -out admin.csr
  printf 'extendedKeyUsage=clientAuth\n' >admin.ext
  openssl x509 -req -in admin.csr -CA $etc/pki/ca.crt -CAkey $etc/pki/ca.key -set_serial "0x$(openssl rand -hex 15)" \
    -days 365 -extfile admin.ext -out admin.crt 2>/dev/null
  mkdir -p "$(dirname "$DRYSTONE_ADMIN_CONF")"
  cat >"$DRYSTONE_ADMIN_CONF" <<YAML
apiVersion: v1
kind: Config
clusters:
- name: $DRYSTONE_CLUSTER
  cluster:
    server: https://$DRYSTONE_ENDPOINT
    certificate-authority-data: $(base64 -w 0 $etc/pki/ca.crt)
users:
- name: admin
  user:
    client-certificate-data: $(base64 -w 0 admin.crt)
    client-key-data: $(base64 -w 0 admin.key)
contexts:
- name: admin
  context: {cluster: $DRYSTONE_CLUSTER, user: admin}
current-context: admin
YAML
  rm -f admin.*
}

control_plane() {
  cat >$etc/control-plane.yaml <<YAML
clusterName: $DRYSTONE_CLUSTER
listen: $DRYSTONE_ADDRESS:6443
advertiseAddress: $DRYSTONE_ADDRESS
dataDir: /var/lib/drystone/control-plane
caCert: $etc/pki/ca.crt
caKey: $etc/pki/ca.key
serviceAccountKey: $etc/pki/service-account.key
bootstrapTokenFile: $etc/bootstrap-token
podCIDR: $DRYSTONE_POD_CIDR
serviceCIDR: $DRYSTONE_SERVICE_CIDR
YAML
  service drystone-control-plane "$program control-plane --config $etc/control-plane.yaml"
}

node() {
  taints='[]'
  [ "$DRYSTONE_ROLE" = worker ] || taints='[{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]'
  images=$(jq -cn --arg images "${IMAGE_ARCHIVES:-}" '$images | split(" ")')
  jq --argjson taints "$taints" --argjson images "$images" '
    env as $e | (.hosts[] | select(.name == $e.DRYSTONE_HOST)) as $host | {
      nodeName: $host.name, clusterName: .cluster, nodeAddress: $host.address, interface: "eth0",
      apiServer: "https://\(.endpoint)", caFile: "/etc/drystone/pki/ca.crt",
      bootstrapTokenFile: "/etc/drystone/bootstrap-token", podCIDR: .podCIDR, serviceCIDR: .serviceCIDR,
      addressDaemon: .addressDaemon, labels: $host.labels, taints: $taints, images: $images
    }' "$DRYSTONE_INVENTORY" >$etc/node.yaml
  service drystone-node "$program node --config $etc/node.yaml"
}

mkdir -p $etc/pki
case $1 in
install)
  authority
  [ -s $etc/bootstrap-token ] || echo "$(random 6).$(random 16)" >$etc/bootstrap-token
  kubeconfig
  control_plane
  node
  ;;
invite)
  # A token that only the host it is for gets, and that ends soon.
  id=$(random 6) secret=$(random 16)
  kubectl --kubeconfig "$DRYSTONE_ADMIN_CONF" -n kube-system create -f - >&2 <<YAML
apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-$id}
type: bootstrap.kubernetes.io/token
stringData:
  description: "$DRYSTONE_FOR_HOST joins"
  token-id: "$id"
  token-secret: "$secret"
  expiration: "$(date -u -d '+15 minutes' +%Y-%m-%dT%H:%M:%SZ)"
  usage-bootstrap-authentication: "true"
YAML
  jq -n --rawfile ca $etc/pki/ca.crt --arg token "$id.$secret" '{ca: $ca, token: $token}'
  ;;
join)
  if [ "$DRYSTONE_ROLE" != worker ]; then
    echo "this program sets up one control plane" >&2
    exit 77
  fi
  jq -r .ca "$DRYSTONE_JOIN_FILE" >$etc/pki/ca.crt
  jq -r .token "$DRYSTONE_JOIN_FILE" >$etc/bootstrap-token
  node
  ;;
remove)
  for unit in drystone-node drystone-control-plane; do systemctl disable --now $unit.service || :; done
  rm -rf $etc/pki $etc/*.yaml $etc/bootstrap-token /var/lib/drystone/control-plane "$DRYSTONE_ADMIN_CONF"
  ;;
esac
