//! Placement.

use std::collections::BTreeSet;

use drystone_api::emco::{
    ClusterConnectivity, LabelExpression, LabelOperator, PlacementChoice, PlacementIntent, PlacementItem,
    PlacementPreference, PlacementRules, PlacementSpread,
};
use drystone_appcontext::ClusterName;
use proptest::prelude::*;
use serde_json::json;

use super::{Clusters, Placement, Request, Verdict, groups, needs_of, place};
use crate::model::{Amounts, ClusterFacts};

fn name(cluster: &str) -> ClusterName {
    ClusterName::new("p", cluster)
}

fn clusters(names: &[&str]) -> Clusters {
    names.iter().map(|cluster| (name(cluster), ClusterFacts::named(name(cluster)))).collect()
}

fn with_labels(table: &[(&str, &[&str])]) -> Clusters {
    let mut all = clusters(&table.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (cluster, labels) in table {
        let facts = all.get_mut(&name(cluster)).expect("there");
        facts.labels = labels.iter().map(|label| (*label).to_owned()).collect();
    }
    all
}

fn item(cluster: &str, label: &str) -> PlacementItem {
    let choice = choice(cluster, label);
    PlacementItem {
        cluster_provider: choice.cluster_provider,
        cluster: choice.cluster,
        cluster_label: choice.cluster_label,
        any_of: Vec::new(),
    }
}

fn choice(cluster: &str, label: &str) -> PlacementChoice {
    PlacementChoice {
        cluster_provider: "p".to_owned(),
        cluster: cluster.to_owned(),
        cluster_label: label.to_owned(),
    }
}

fn one_of(clusters: &[&str]) -> PlacementItem {
    let any_of = clusters.iter().map(|cluster| choice(cluster, "")).collect();
    PlacementItem { any_of, ..PlacementItem::default() }
}

fn placed(intent: &PlacementIntent, rules: &PlacementRules, needs: Amounts, all: &Clusters) -> Placement {
    place(&[Request { app: "a", intent, rules, needs }], all, None).expect("placed")
}

fn chosen(placement: &Placement) -> Vec<String> {
    placement.apps[0].chosen().into_iter().map(|name| name.cluster).collect()
}

/// The example of the facts, section 6.
#[test]
fn groups_are_numbered_in_the_order_of_the_document() {
    let all = with_labels(&[("c1", &[]), ("c2", &["L"]), ("c3", &["L"]), ("c5", &[]), ("c6", &[])]);
    let intent = PlacementIntent {
        all_of: vec![item("c1", ""), item("", "L"), one_of(&["c5", "c6"])],
        any_of: vec![choice("c5", "")],
    };
    let plan = groups("a", &intent, &all).expect("fine");
    let told: Vec<(usize, bool, Vec<&str>)> = plan
        .groups
        .iter()
        .map(|group| {
            let names = group.candidates.iter().map(|it| it.cluster.cluster.as_str()).collect();
            (group.number, group.mandatory, names)
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, true, vec!["c1"]),
            (2, true, vec!["c2"]),
            (3, true, vec!["c3"]),
            (4, false, vec!["c5", "c6"]),
            (5, false, vec!["c5"])
        ]
    );
}

#[test]
fn without_rules_the_first_by_name_is_kept() {
    let intent = PlacementIntent { all_of: vec![one_of(&["c9", "c2", "c5"])], any_of: Vec::new() };
    let all = clusters(&["c2", "c5", "c9"]);
    let placement = placed(&intent, &PlacementRules::default(), Amounts::default(), &all);
    assert_eq!(chosen(&placement), ["c2"]);
    let verdicts: Vec<Verdict> =
        placement.apps[0].groups[0].candidates.iter().map(|candidate| candidate.verdict).collect();
    assert_eq!(verdicts, [Verdict::Chosen, Verdict::Passed, Verdict::Passed]);
}

#[test]
fn one_that_does_not_answer_is_passed_over() {
    let mut all = clusters(&["c1", "c2"]);
    all.get_mut(&name("c1")).expect("there").reachability = ClusterConnectivity::Retrying;
    let intent = PlacementIntent { any_of: vec![choice("c1", ""), choice("c2", "")], ..Default::default() };
    let placement = placed(&intent, &PlacementRules::default(), Amounts::default(), &all);
    assert_eq!(chosen(&placement), ["c2"]);
}

#[test]
fn what_is_not_in_the_logical_cloud_is_refused_or_left_out() {
    let all = clusters(&["c1", "c2"]);
    let rules = PlacementRules::default();
    let allowed = BTreeSet::from([name("c2")]);
    let intent = PlacementIntent { all_of: vec![item("c1", "")], ..Default::default() };
    let request = Request { app: "a", intent: &intent, rules: &rules, needs: Amounts::default() };
    let refused = place(&[request], &all, Some(&allowed)).expect_err("refused");
    assert_eq!(refused.refusal.code, 400);
    assert!(refused.refusal.message.contains("p+c1"), "{refused}");

    let intent = PlacementIntent { any_of: vec![choice("c1", ""), choice("c2", "")], ..Default::default() };
    let request = Request { app: "a", intent: &intent, rules: &rules, needs: Amounts::default() };
    let placement = place(&[request], &all, Some(&allowed)).expect("placed");
    assert_eq!(chosen(&placement), ["c2"]);
}

#[test]
fn nothing_to_choose_from_has_emcos_words() {
    let rules = PlacementRules::default();
    let intent = PlacementIntent { all_of: vec![item("", "nobody")], ..Default::default() };
    let request = Request { app: "a", intent: &intent, rules: &rules, needs: Amounts::default() };
    let refused = place(&[request], &clusters(&["c1"]), None).expect_err("refused");
    assert!(refused.to_string().starts_with("No compatible clusters have been provided"), "{refused}");
    assert!(refused.to_string().contains("no cluster of provider p has the label nobody"), "{refused}");
}

#[test]
fn strangers_and_ambiguous_items_are_refused() {
    let all = clusters(&["c1"]);
    let stranger = PlacementIntent { all_of: vec![item("c7", "")], ..Default::default() };
    assert_eq!(groups("a", &stranger, &all).expect_err("refused").code, 404);
    let both = PlacementIntent { any_of: vec![choice("c1", "x")], ..Default::default() };
    assert_eq!(
        groups("a", &both, &all).expect_err("refused").message,
        "app a: anyOf[0]: name either a cluster or a clusterLabel"
    );
}

#[test]
fn expressions_and_preferences_count() {
    let all = with_labels(&[
        ("c1", &["zone=a", "cost=9"]),
        ("c2", &["zone=b", "cost=3"]),
        ("c3", &["zone=b", "cost=2"]),
    ]);
    let expression = |key: &str, operator, value: &str| LabelExpression {
        key: key.to_owned(),
        operator,
        values: vec![value.to_owned()],
    };
    let rules = PlacementRules {
        match_expressions: vec![expression("zone", LabelOperator::NotIn, "a")],
        preferences: vec![PlacementPreference {
            weight: 10,
            match_expressions: vec![expression("cost", LabelOperator::Lt, "3")],
        }],
        ..PlacementRules::default()
    };
    let any_of = ["c1", "c2", "c3"].map(|cluster| choice(cluster, "")).to_vec();
    let intent = PlacementIntent { any_of, ..Default::default() };
    let placement = placed(&intent, &rules, Amounts::default(), &all);
    assert_eq!(chosen(&placement), ["c3"]);
    assert_eq!(placement.apps[0].groups[0].candidates[0].reasons, ["its zone is one of a"]);
    assert!(placement.to_text().contains("x  p+c1  its zone is one of a"), "{}", placement.to_text());
}

#[test]
fn a_required_spread_keeps_groups_apart() {
    let all = with_labels(&[("c1", &["zone=a"]), ("c2", &["zone=a"]), ("c3", &["zone=b"])]);
    let rules = PlacementRules {
        spread: Some(PlacementSpread { over: "zone".to_owned(), required: true }),
        ..PlacementRules::default()
    };
    let intent = PlacementIntent {
        all_of: vec![one_of(&["c1", "c2", "c3"]), one_of(&["c1", "c2"])],
        any_of: Vec::new(),
    };
    let placement = placed(&intent, &rules, Amounts::default(), &all);
    assert_eq!(chosen(&placement), ["c1", "c3"]);

    let crowded = PlacementIntent { all_of: vec![one_of(&["c1"]), one_of(&["c2"])], any_of: Vec::new() };
    let request = Request { app: "a", intent: &crowded, rules: &rules, needs: Amounts::default() };
    let refused = place(&[request], &all, None).expect_err("refused");
    assert!(refused.to_string().contains("the application is at zone a already"), "{refused}");
    assert_eq!(refused.homeless, [("a".to_owned(), 2)]);
}

#[test]
fn room_is_used_up_by_those_who_came_before() {
    let mut all = clusters(&["c1", "c2"]);
    let amounts = |cpu_milli| Amounts { cpu_milli, memory: 8 << 30, pods: 100, gpus: 0 };
    all.get_mut(&name("c1")).expect("there").free = Some(amounts(3_000));
    all.get_mut(&name("c2")).expect("there").free = Some(amounts(2_500));
    let rules = PlacementRules { must_have_room: true, ..PlacementRules::default() };
    let intent = PlacementIntent { any_of: vec![choice("c1", ""), choice("c2", "")], ..Default::default() };
    let needs = Amounts { cpu_milli: 2_000, memory: 1 << 30, pods: 2, gpus: 0 };
    let request = |app| Request { app, intent: &intent, rules: &rules, needs };
    let placement = place(&[request("a"), request("b")], &all, None).expect("placed");
    let where_to: Vec<String> = placement
        .apps
        .iter()
        .flat_map(|plan| plan.chosen().into_iter().map(|cluster| format!("{} {}", plan.app, cluster.cluster)))
        .collect();
    assert_eq!(where_to, ["a c1", "b c2"]);
    let refused = place(&[request("a"), request("b"), request("c")], &all, None).expect_err("refused");
    assert!(refused.to_string().contains("cpu: 2000m needed, 1000m free"), "{refused}");
    assert_eq!(refused.homeless, [("c".to_owned(), 1)]);
    // Why it is not known is told.
    for (cluster, why) in [("c1", "no answer within 10 s"), ("c2", "forbidden")] {
        let facts = all.get_mut(&name(cluster)).expect("there");
        facts.free = None;
        facts.learn_room(Err(why.to_owned()));
    }
    let refused = place(&[request("a")], &all, None).expect_err("refused").to_string();
    assert!(refused.contains("what room it has is not known: no answer within 10 s"), "{refused}");
    assert!(refused.contains("what room it has is not known: forbidden"), "{refused}");
}

#[test]
fn pods_are_counted_as_kubernetes_does() {
    let container = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}});
    let deployment = json!({"kind": "Deployment", "spec": {"replicas": 3, "template": {"spec": {
        "containers": [container("100m"), container("0.2")], "initContainers": [container("500m")]}}}});
    let needs = needs_of([&deployment, &json!({"kind": "ConfigMap"})]);
    assert_eq!(needs, Amounts { cpu_milli: 1_500, memory: 3 * (128 << 20), pods: 3, gpus: 0 });
}

proptest! {
    /// Every group has exactly one cluster in the end, one of its own; and the same comes out every time.
    #[test]
    fn each_group_keeps_exactly_one(
        sizes in prop::collection::vec(prop::collection::btree_set(0_usize..12, 1..6), 1..6),
        spread: bool,
        down in prop::collection::btree_set(0_usize..12, 0..6),
    ) {
        let names: Vec<String> = (0..12).map(|number| format!("c{number:02}")).collect();
        let mut all = clusters(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for number in down {
            all.get_mut(&name(&names[number])).expect("there").reachability = ClusterConnectivity::Retrying;
        }
        let all_of: Vec<PlacementItem> = sizes
            .iter()
            .map(|members| one_of(&members.iter().map(|at| names[*at].as_str()).collect::<Vec<_>>()))
            .collect();
        let intent = PlacementIntent { all_of, any_of: Vec::new() };
        let rules = PlacementRules {
            spread: spread.then(|| PlacementSpread { over: String::new(), required: false }),
            ..PlacementRules::default()
        };
        let first = placed(&intent, &rules, Amounts::default(), &all);
        for (group, members) in first.apps[0].groups.iter().zip(&sizes) {
            let kept: Vec<_> = group.candidates.iter().filter(|it| it.verdict == Verdict::Chosen).collect();
            prop_assert_eq!(kept.len(), 1);
            prop_assert!(members.iter().any(|at| names[*at] == kept[0].cluster.cluster));
        }
        prop_assert_eq!(first, placed(&intent, &rules, Amounts::default(), &all));
    }
}
