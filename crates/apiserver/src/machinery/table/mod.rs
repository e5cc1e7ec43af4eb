//! Tables: what `kubectl get` prints, rendered by the server (`meta.k8s.io/v1` `Table`).
