//! The CNI plugin as a program of its own, for hosts without the whole of Drystone. Called as `loopback`, it is that plugin.

use std::process::ExitCode;

fn main() -> ExitCode {
    drystone_cni::plugin::plugin_main()
}
