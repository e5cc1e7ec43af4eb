//! Matching, binding step by step, and the phases of volumes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::{matching::BindingMode, *};

fn volume(name: &str, size: &str, extra: &serde_json::Value) -> PersistentVolume {
    let mut spec = json!({"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"]});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": name, "uid": format!("uid-{name}")}, "spec": spec}))
        .unwrap()
}

fn claim(name: &str, size: &str, extra: &serde_json::Value) -> PersistentVolumeClaim {
    let mut spec = json!({"resources": {"requests": {"storage": size}}, "accessModes": ["ReadWriteOnce"], "storageClassName": ""});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(
        json!({"metadata": {"name": name, "namespace": "d", "uid": format!("uid-{name}")}, "spec": spec}),
    )
    .unwrap()
}

fn class(mode: &str, provisioner: &str) -> Class {
    Class::of(
        &serde_json::from_value(
            json!({"metadata": {"name": "c"}, "provisioner": provisioner, "volumeBindingMode": mode}),
        )
        .unwrap(),
    )
}

fn step(claim: &PersistentVolumeClaim, volumes: &[PersistentVolume], class: Option<&Class>) -> ClaimStep {
    let volumes: Vec<_> = volumes.iter().cloned().map(Arc::new).collect();
    plan::claim_step(claim, &volumes, class, None, &|_| true)
}

#[test]
fn the_smallest_that_suits_is_chosen_unless_one_is_reserved() {
    let wish = claim("c", "5Gi", &json!({}));
    let volumes = [
        volume("small", "1Gi", &json!({})),
        volume("large", "20Gi", &json!({})),
        volume("right", "8Gi", &json!({})),
        volume("classy", "6Gi", &json!({"storageClassName": "fast"})),
        volume("block", "6Gi", &json!({"volumeMode": "Block"})),
        volume("readonly", "6Gi", &json!({"accessModes": ["ReadOnlyMany"]})),
        volume("taken", "6Gi", &json!({"claimRef": {"namespace": "d", "name": "other", "uid": "u"}})),
    ];
    let ClaimStep::Promise(chosen) = step(&wish, &volumes, None) else { panic!("a volume suits") };
    assert_eq!(kind::name(chosen.as_ref()), "right");
    let mut reserved = volumes.to_vec();
    reserved[1].spec.as_mut().unwrap().claim_ref =
        serde_json::from_value(json!({"namespace": "d", "name": "c"})).unwrap();
    let ClaimStep::Promise(chosen) = step(&wish, &reserved, None) else { panic!("a volume is reserved") };
    assert_eq!(kind::name(chosen.as_ref()), "large");
    let selective = claim("c", "5Gi", &json!({"selector": {"matchLabels": {"disk": "ssd"}}}));
    assert!(matches!(step(&selective, &volumes, None), ClaimStep::Wait(Some(("FailedBinding", _)))));
}

#[test]
fn binding_goes_step_by_step_and_survives_a_crash_after_each() {
    let mut wish = claim("c", "5Gi", &json!({}));
    let mut offer = volume("v", "5Gi", &json!({}));
    assert_eq!(plan::volume_step(&offer, None), VolumeStep::Show("Available", None));
    assert!(matches!(step(&wish, std::slice::from_ref(&offer), None), ClaimStep::Promise(_)));
    offer = plan::promised(&offer, &wish);
    assert_eq!(
        plan::volume_step(&offer, Some(&wish)),
        VolumeStep::Nothing,
        "not bound before the claim agrees"
    );
    assert!(matches!(step(&wish, std::slice::from_ref(&offer), None), ClaimStep::Complete(_)));
    wish = plan::completed(&wish, &offer);
    assert_eq!(plan::volume_step(&offer, Some(&wish)), VolumeStep::Show("Bound", None));
    let ClaimStep::Show(status) = step(&wish, std::slice::from_ref(&offer), None) else {
        panic!("status must follow")
    };
    assert_eq!(status.phase.as_deref(), Some("Bound"));
    wish.status = Some(*status);
    assert_eq!(step(&wish, std::slice::from_ref(&offer), None), ClaimStep::Wait(None));
    assert_eq!(step(&wish, &[], None), ClaimStep::Lost);
}

#[test]
fn a_released_volume_follows_its_policy() {
    let gone = json!({"claimRef": {"namespace": "d", "name": "gone", "uid": "u"}});
    let with = |policy: &str, phase: &str| {
        let mut volume = volume("v", "1Gi", &gone);
        volume.spec.as_mut().unwrap().persistent_volume_reclaim_policy = Some(policy.into());
        volume.status = serde_json::from_value(json!({"phase": phase})).unwrap();
        volume
    };
    assert_eq!(plan::volume_step(&with("Retain", "Bound"), None), VolumeStep::Show("Released", None));
    assert_eq!(plan::volume_step(&with("Retain", "Released"), None), VolumeStep::Nothing);
    assert_eq!(plan::volume_step(&with("Delete", "Bound"), None), VolumeStep::Show("Released", None));
    assert!(matches!(
        plan::volume_step(&with("Delete", "Released"), None),
        VolumeStep::Show("Failed", Some(_))
    ));
    let mut provisioned = with("Delete", "Released");
    provisioned.metadata.annotations = Some([(plan::PROVISIONED_BY.to_owned(), "csi".to_owned())].into());
    assert_eq!(plan::volume_step(&provisioned, None), VolumeStep::Nothing);
    let reborn = claim("gone", "1Gi", &json!({}));
    assert_eq!(
        plan::volume_step(&with("Retain", "Bound"), Some(&reborn)),
        VolumeStep::Show("Released", None)
    );
}

#[test]
fn a_promise_to_a_claim_that_went_elsewhere_is_taken_back() {
    let wish = claim("c", "1Gi", &json!({"volumeName": "other"}));
    let promised = plan::promised(&volume("v", "1Gi", &json!({})), &claim("c", "1Gi", &json!({})));
    assert_eq!(plan::volume_step(&promised, Some(&wish)), VolumeStep::Free);
    assert_eq!(plan::freed(&promised).spec.unwrap().claim_ref, None);
}

#[test]
fn classes_decide_when_and_by_whom() {
    let wish = claim("c", "1Gi", &json!({"storageClassName": "c"}));
    let offer = volume("v", "1Gi", &json!({"storageClassName": "c"}));
    let lazy = class("WaitForFirstConsumer", "kubernetes.io/no-provisioner");
    assert!(matches!(
        step(&wish, std::slice::from_ref(&offer), Some(&lazy)),
        ClaimStep::Wait(Some(("WaitForFirstConsumer", _)))
    ));
    let volumes = [Arc::new(offer)];
    let selected = plan::claim_step(&wish, &volumes, Some(&lazy), Some("n1"), &|_| true);
    assert!(matches!(selected, ClaimStep::Promise(_)));
    let unreachable = plan::claim_step(&wish, &volumes, Some(&lazy), Some("n1"), &|_| false);
    assert!(matches!(unreachable, ClaimStep::Wait(Some(("FailedBinding", _)))));
    assert_eq!(
        step(&wish, &[], Some(&class("Immediate", "csi.example.com"))),
        ClaimStep::Ask("csi.example.com".into())
    );
    assert!(matches!(step(&wish, &[], None), ClaimStep::Warn("ProvisioningFailed", _)));
    assert_eq!(class("Immediate", "x").mode, BindingMode::Immediate);
    assert!(!lazy.can_provision(&BTreeMap::new()));
}

#[test]
fn what_is_used_is_protected() {
    let mut claim = claim("c", "1Gi", &json!({}));
    let protected = protection::finalizers(&claim, protection::CLAIM_FINALIZER, false).unwrap();
    claim.metadata.finalizers = Some(protected);
    assert_eq!(protection::finalizers(&claim, protection::CLAIM_FINALIZER, false), None);
    claim.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    assert_eq!(protection::finalizers(&claim, protection::CLAIM_FINALIZER, true), None);
    assert_eq!(protection::finalizers(&claim, protection::CLAIM_FINALIZER, false), Some(vec![]));
}

proptest! {
    /// Claims in any order: no volume is ever promised to two, and a claim never gets less than it asked for.
    #[test]
    fn no_volume_is_given_twice(
        sizes in prop::collection::vec(1u8..20, 1..8),
        wishes in prop::collection::vec(1u8..20, 1..8),
        order in prop::collection::vec(0usize..8, 0..40),
    ) {
        let mut volumes: Vec<_> =
            sizes.iter().enumerate().map(|(n, size)| volume(&format!("v{n}"), &format!("{size}Gi"), &json!({}))).collect();
        let mut claims: Vec<_> =
            wishes.iter().enumerate().map(|(n, size)| claim(&format!("c{n}"), &format!("{size}Gi"), &json!({}))).collect();
        for n in order {
            let index = n % claims.len();
            let claim = claims[index].clone();
            match step(&claim, &volumes, None) {
                ClaimStep::Promise(chosen) => {
                    prop_assert!(chosen.spec.as_ref().unwrap().claim_ref.is_none(), "promised twice");
                    prop_assert!(matching::capacity(&chosen) >= matching::requested(&claim));
                    let place = volumes.iter_mut().find(|volume| volume.metadata.uid == chosen.metadata.uid).unwrap();
                    *place = plan::promised(&chosen, &claim);
                }
                ClaimStep::Complete(chosen) => claims[index] = plan::completed(&claim, &chosen),
                ClaimStep::Show(status) => claims[index].status = Some(*status),
                _ => {}
            }
        }
        let mut names: Vec<_> = claims.iter().filter_map(matching::volume_name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        prop_assert_eq!(names.len(), all);
    }
}
