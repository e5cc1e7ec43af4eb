//! Container network functions: VNFs whose VIM is a Kubernetes cluster.
