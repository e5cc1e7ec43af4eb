//! Cluster life cycle: bootstrap, nodes, growth, deletion.
