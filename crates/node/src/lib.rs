//! Node agent: pods through CRI, logs, exec, probes.
