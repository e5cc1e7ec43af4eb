//! An emulated site: BMCs, switches, fabric agents and hosts.
