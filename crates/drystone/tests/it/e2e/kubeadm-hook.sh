# The stand-in for kubeadm: checks by kubeadm.py, then does what makes a cluster of it. HOST, ADDRESS, PROGRAM, SHARED say where it is.
set -eu
umask 022
etc=/etc/kubernetes
now() { date +%s.%N; }
begun=$(now)
"$(dirname "$0")/bin/kubeadm.py" "$@"
export KUBECONFIG=$etc/admin.conf

node() {
  kubectl --kubeconfig "$SHARED/admin.conf" apply --validate=false -f - >/dev/null <<YAML
apiVersion: v1
kind: Node
metadata: {name: $HOST}
YAML
  # The status is a resource of its own.
  kubectl --kubeconfig "$SHARED/admin.conf" patch node "$HOST" --subresource=status --type=merge -p \
    '{"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Standin", "message": "",
      "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}' >/dev/null
}

case "$1 ${2:-}" in
"init --skip-token-print")
  mkdir -p $etc/pki
  for name in ca sa; do openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $etc/pki/$name.key 2>/dev/null; done
  openssl req -x509 -new -key $etc/pki/ca.key -subj /CN=kubernetes -days 30 -addext 'keyUsage=critical,keyCertSign,cRLSign' \
    -out $etc/pki/ca.crt
  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out $etc/admin.key 2>/dev/null
  openssl req -new -key $etc/admin.key -subj /O=system:masters/CN=kubernetes-admin -out $etc/admin.csr
  printf 'extendedKeyUsage=clientAuth\n' >$etc/admin.ext
  openssl x509 -req -extfile $etc/admin.ext -in $etc/admin.csr -CA $etc/pki/ca.crt -CAkey $etc/pki/ca.key -set_serial 7 -days 30 -out $etc/admin.crt 2>/dev/null
  echo "zzzzzz.zzzzzzzzzzzzzzzz" >$etc/token
  cat >$etc/admin.conf <<YAML
apiVersion: v1
kind: Config
clusters:
- name: kubernetes
  cluster:
    server: https://$ADDRESS:6443
    certificate-authority-data: $(base64 -w 0 $etc/pki/ca.crt)
users:
- name: kubernetes-admin
  user:
    client-certificate-data: $(base64 -w 0 $etc/admin.crt)
    client-key-data: $(base64 -w 0 $etc/admin.key)
contexts:
- name: kubernetes-admin@kubernetes
  context: {cluster: kubernetes, user: kubernetes-admin}
current-context: kubernetes-admin@kubernetes
YAML
  cp $etc/admin.conf "$SHARED/admin.conf"
  cat >$etc/control-plane.yaml <<YAML
{clusterName: metal, listen: "$ADDRESS:6443", advertiseAddress: $ADDRESS, dataDir: $etc/data, caCert: $etc/pki/ca.crt,
 caKey: $etc/pki/ca.key, serviceAccountKey: $etc/pki/sa.key, bootstrapTokenFile: $etc/token, podCIDR: 10.42.0.0/16,
 serviceCIDR: 10.43.0.0/16}
YAML
  setsid "$PROGRAM" control-plane --config $etc/control-plane.yaml </dev/null >"$SHARED/control-plane.log" 2>&1 &
  echo $! >"$SHARED/control-plane.pid"
  tries=0
  until kubectl get --raw /readyz >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { echo "the control plane does not come up" >&2; exit 1; }
    sleep 0.2
  done
  node
  ;;
"join --config")
  sleep 1
  node
  echo "{\"joined\": \"$HOST\", \"begun\": $begun, \"ended\": $(now)}" >>"$KUBEADM_LOG"
  ;;
"reset --force")
  if [ "$HOST" = cp1 ] && [ -e "$SHARED/control-plane.pid" ]; then
    kill -KILL "$(cat "$SHARED/control-plane.pid")" 2>/dev/null || :
    rm -rf "$SHARED/control-plane.pid" $etc/data $etc/pki
  fi
  ;;
esac
