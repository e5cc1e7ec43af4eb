#!/bin/bash
# Installs a node of a Kubernetes cluster. The management driver runs it on each node:
#
#   -m IP[,IP…]  addresses of the control-plane nodes; this is one of them
#   -w IP        address of this node, which is a worker
#   -i IP        address of the cluster
#   -p CIDR      addresses of pods          -a CIDR  addresses of services
#   -t TOKEN     token to join with         -s HASH  hash of the cluster's certificate
#   -k KEY       key of the certificates, for a further control-plane node
set -euo pipefail
echo "install_k8s_cluster.sh: nothing is installed by this script yet" >&2
exit 1
