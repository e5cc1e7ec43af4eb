//! Services of type LoadBalancer: external addresses out of configured pools, announced by one of the nodes.

pub mod pool;
