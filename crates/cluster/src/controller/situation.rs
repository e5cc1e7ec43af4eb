//! Conclusions from an operation's journal: which hosts are in, which one failed. Pure.

use std::collections::BTreeMap;

use drystone_api::{ClusterMember, CompositionMember, MemberRole, Operation, OperationPhase, StepState};
use ipnet::IpNet;

use crate::{plan::role_of, steps::addresses::LeaseOutput};

/// State of one step of an operation.
pub(super) fn step_state(operation: &Operation, id: &str) -> Option<StepState> {
    let steps = operation.status.iter().flat_map(|status| &status.steps);
    steps.into_iter().find(|step| step.id == id).map(|step| step.state)
}

/// Whether nothing more will happen in an operation.
pub(super) fn is_final(operation: &Operation) -> bool {
    operation.status.as_ref().is_some_and(|status| status.phase.is_final())
}

/// Phase of an operation.
pub(super) fn phase(operation: &Operation) -> OperationPhase {
    operation.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

/// Addresses that the operation leased, by host.
pub(super) fn addresses(operation: &Operation) -> LeaseOutput {
    let steps = operation.status.iter().flat_map(|status| &status.steps);
    let output = steps.into_iter().find(|step| step.id == "addresses").map(|step| step.output.clone());
    output.and_then(|output| serde_json::from_value(output).ok()).unwrap_or_default()
}

/// Steps by which a host leaves; a plan has those that apply.
const LEAVING_STEPS: [&str; 4] = ["remove-node", "member-remove", "reset", "power-off"];

/// Members after an operation: those wanted, with what the journal says of them.
pub(super) fn members_after(
    wanted: &[CompositionMember],
    before: &[ClusterMember],
    operation: &Operation,
) -> Vec<ClusterMember> {
    let known: BTreeMap<&str, &ClusterMember> =
        before.iter().map(|member| (member.host.as_str(), member)).collect();
    let leased = addresses(operation);
    let mut members: Vec<ClusterMember> = wanted
        .iter()
        .map(|member| {
            let before = known.get(member.host.as_str());
            let joined =
                step_state(operation, &format!("node/{}", member.host)) == Some(StepState::Succeeded);
            let address = leased.hosts.get(&member.host).map(|net: &IpNet| net.addr().to_string());
            ClusterMember {
                host: member.host.clone(),
                role: role_of(member),
                pool: if role_of(member) == MemberRole::Worker {
                    member.group.clone()
                } else {
                    String::new()
                },
                address: address.or_else(|| before.map(|member| member.address.clone())).unwrap_or_default(),
                ready: joined || before.is_some_and(|member| member.ready),
            }
        })
        .collect();
    // Hosts that were to leave and could not be switched off, or are members of etcd still, are still there.
    let still_on = before.iter().filter(|member| {
        let steps = LEAVING_STEPS.map(|step| step_state(operation, &format!("{step}/{}", member.host)));
        let planned: Vec<StepState> = steps.into_iter().flatten().collect();
        let has_left = !planned.is_empty() && planned.iter().all(|state| *state == StepState::Succeeded);
        wanted.iter().all(|wanted| wanted.host != member.host) && !has_left
    });
    members.extend(still_on.cloned());
    members.sort_by(|a, b| (a.role, &a.pool, &a.host).cmp(&(b.role, &b.pool, &b.host)));
    members
}

/// Hosts that could not be brought in, with the reason.
pub(super) fn failed_hosts(operation: &Operation) -> Vec<(String, String)> {
    let steps = operation.status.iter().flat_map(|status| &status.steps);
    steps
        .filter(|step| step.state == StepState::Failed)
        .filter_map(|step| {
            let host = ["provision/", "node/", "member-promote/", "prepare/", "join/"]
                .iter()
                .find_map(|prefix| step.id.strip_prefix(prefix))?;
            Some((host.to_owned(), step.message.clone()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use drystone_api::{OperationSpec, OperationStatus, StepStatus};
    use serde_json::json;

    use super::*;

    fn operation(steps: &[(&str, StepState)]) -> Operation {
        let mut operation = Operation::new("op", OperationSpec::default());
        let step = |(id, state): &(&str, StepState)| StepStatus {
            id: (*id).to_owned(),
            state: *state,
            message: "why".into(),
            output: if *id == "addresses" {
                json!({"hosts": {"b": "10.20.0.9/16"}, "gateway": null, "external": []})
            } else {
                json!(null)
            },
            ..Default::default()
        };
        operation.status =
            Some(OperationStatus { steps: steps.iter().map(step).collect(), ..Default::default() });
        operation
    }

    fn wanted(host: &str) -> CompositionMember {
        CompositionMember {
            group: "train".into(),
            host: host.into(),
            host_namespace: "drystone-system".into(),
        }
    }

    #[test]
    fn a_journal_tells_who_is_in() {
        let done = operation(&[
            ("addresses", StepState::Succeeded),
            ("node/b", StepState::Succeeded),
            ("node/c", StepState::Failed),
        ]);
        let before = [ClusterMember {
            host: "a".into(),
            ready: true,
            address: "10.20.0.2".into(),
            ..Default::default()
        }];
        let members = members_after(&[wanted("a"), wanted("b"), wanted("c")], &before, &done);
        let summary: Vec<_> =
            members.iter().map(|m| (m.host.as_str(), m.address.as_str(), m.ready)).collect();
        assert_eq!(summary, [("a", "10.20.0.2", true), ("b", "10.20.0.9", true), ("c", "", false)]);
        assert_eq!(failed_hosts(&done), [("c".to_owned(), "why".to_owned())]);
    }

    #[test]
    fn a_host_that_could_not_be_switched_off_stays_a_member() {
        let done = operation(&[("power-off/x", StepState::Failed)]);
        let before = [ClusterMember { host: "x".into(), ..Default::default() }];
        assert_eq!(members_after(&[], &before, &done).len(), 1);
        let done = operation(&[("power-off/x", StepState::Succeeded)]);
        assert!(members_after(&[], &before, &done).is_empty());
        let steps = [("power-off/x", StepState::Succeeded), ("member-remove/x", StepState::Skipped)];
        assert_eq!(members_after(&[], &before, &operation(&steps)).len(), 1, "it is a member of etcd still");
    }
}
