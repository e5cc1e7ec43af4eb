//! `drystone site rotate-bmc-passwords`: new passwords for the management controllers of a site.

use std::time::Duration;

use comfy_table::{Table, presets::NOTHING};
use drystone_api::{BareMetalHost, SITE_LABEL, SYSTEM_NAMESPACE};
use drystone_metal::rotation::{ERROR_ANNOTATION, ROTATE_ANNOTATION, ROTATED_ANNOTATION};
use jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::command::Failure;

/// How often is looked.
const LOOK: Duration = Duration::from_millis(300);
/// How long is waited for controllers that do not answer; they get their passwords when they do.
const LIMIT: Duration = Duration::from_secs(300);

/// Asks for new passwords, waits, and tells what came of it.
pub(super) async fn run(client: &Client, site: &str) -> Result<(), Failure> {
    let hosts: Api<BareMetalHost> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let of_site = ListParams::default().labels(&format!("{SITE_LABEL}={site}"));
    let mut listed = hosts.list(&of_site).await?.items;
    if listed.is_empty() {
        return Err(format!("site {site} has no hosts").into());
    }
    let request = json!({"metadata": {"annotations": {
        ROTATE_ANNOTATION: Timestamp::now().to_string(), ERROR_ANNOTATION: null,
    }}});
    for host in &listed {
        hosts.patch(&host.name_any(), &PatchParams::default(), &Patch::Merge(&request)).await?;
    }
    let deadline = tokio::time::Instant::now() + LIMIT;
    let waits = |host: &BareMetalHost| host.annotations().contains_key(ROTATE_ANNOTATION);
    loop {
        listed = hosts.list(&of_site).await?.items;
        if !listed.iter().any(waits) || tokio::time::Instant::now() > deadline {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["HOST", "PASSWORD"]);
    let mut unchanged = 0;
    for host in &listed {
        let note = |key: &str| host.annotations().get(key).cloned();
        let shown = match note(ERROR_ANNOTATION) {
            _ if waits(host) => "not yet; see the events of the host".to_owned(),
            Some(error) => error,
            None => format!("changed at {}", note(ROTATED_ANNOTATION).unwrap_or_default()),
        };
        unchanged += usize::from(waits(host) || note(ERROR_ANNOTATION).is_some());
        table.add_row([host.name_any(), shown]);
    }
    println!("{table}");
    if unchanged > 0 {
        return Err(format!("{unchanged} of {} passwords were not changed", listed.len()).into());
    }
    Ok(())
}
