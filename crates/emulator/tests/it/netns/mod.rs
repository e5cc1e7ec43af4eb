//! The network-namespace backend on this machine's kernel: real bridges, rules, processes and containers.

mod boot;
mod cloud;
mod containers;
mod gateway;
mod isolation;
mod kernel_nfs;
mod rack;
mod restart;
mod site;
mod virtual_machine;
