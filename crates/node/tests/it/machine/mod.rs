//! Tests that run containers: they need root, containerd and an OCI runtime.

mod kubelet_api;
