//! In-cluster control plane: scheduler, workload controllers, services, node life cycle.
