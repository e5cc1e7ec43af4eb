//! The main job from end to end, on hosts that are namespaces of this machine. Needs root and a container runtime.

mod applications;
mod control_plane;
mod demo;
mod disk_image;
mod disk_member;
mod fabric;
mod guides;
mod kill;
mod kubeadm;
mod redfish;
mod replacement;
mod script;
mod secrets;
mod sites;
mod virtual_machine;
mod vnf;
mod volumes;
mod workloads;
