//! CNI plugin, address management and service data plane.
