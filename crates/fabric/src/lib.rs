//! Fabric manager: topology, zones, routes, address pools, agents.
