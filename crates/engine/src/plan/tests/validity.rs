//! What is a valid plan, and how a bad one is refused.

use std::time::Duration;

use drystone_api::{FailurePolicy, ObjectReference, OperationSpec};
use proptest::prelude::*;
use serde_json::json;

use crate::plan::{Plan, PlanBuilder, PlanError};

fn builder() -> PlanBuilder {
    PlanBuilder::new("Test", ObjectReference::default())
}

/// A plan whose steps are named by their number and depend on the given ones.
fn plan_of(dependencies: &[&[&str]]) -> Result<OperationSpec, PlanError> {
    let mut plan = builder();
    for (index, after) in dependencies.iter().enumerate() {
        plan.step(index.to_string(), "test.act", &()).after_all(after.iter().copied());
    }
    plan.build()
}

#[test]
fn a_builder_says_what_it_was_told() {
    let mut plan = builder();
    plan.on_failure(FailurePolicy::Stop).parallelism(3);
    plan.step("a", "test.act", &json!({"n": 1})).title("Act").estimate(Duration::from_millis(1_500));
    plan.step("b", "test.act", &()).after("a").after("a").timeout(Duration::from_secs(9)).max_attempts(0);
    let spec = plan.build().expect("valid");
    assert_eq!((spec.on_failure, spec.parallelism), (FailurePolicy::Stop, 3));
    assert_eq!((spec.steps[0].title.as_str(), spec.steps[0].estimate_seconds), ("Act", 2));
    assert_eq!(spec.steps[1].depends_on, ["a"]);
    assert_eq!((spec.steps[1].timeout_seconds, spec.steps[1].max_attempts), (9, 1));
}

#[test]
fn bad_plans_are_refused_with_the_place_and_the_reason() {
    let mut unserializable = builder();
    unserializable.step("a", "test.act", &std::collections::BTreeMap::from([((1, 2), 3)]));
    let mut list = builder();
    list.step("a", "test.act", &[1, 2]);
    let mut nameless = builder();
    nameless.step("a", "", &());
    let mut spaced = builder();
    spaced.step("a b", "test.act", &());
    let mut twice = builder();
    twice.step("a", "test.act", &());
    twice.step("b", "test.act", &());
    twice.step("a", "test.act", &());
    let mut large = builder();
    large.step("a", "test.act", &json!({"text": "x".repeat(800 * 1024)}));
    let table = [
        (builder().build(), "the operation has no steps"),
        (unserializable.build(), "parameters of step \"a\" cannot be written as JSON"),
        (list.build(), "steps[0].parameters: step \"a\" needs an object, not a list"),
        (nameless.build(), "steps[0].action: step \"a\" names no action"),
        (spaced.build(), "steps[0].id \"a b\": must be 1 to 253 characters without spaces"),
        (twice.build(), "steps[2].id \"a\": steps[0] has this id already"),
        (large.build(), "give steps references instead of contents"),
        (plan_of(&[&["7"]]), "steps[0].dependsOn: step \"0\" depends on \"7\", which is no step"),
        (plan_of(&[&["0"]]), "in a circle: 0 -> 0"),
        (plan_of(&[&["1"], &["2"], &["0"]]), "in a circle: 0 -> 1 -> 2 -> 0"),
        // A step that merely waits for a circle is not named as part of it.
        (plan_of(&[&["1"], &["2"], &["1"]]), "in a circle: 1 -> 2 -> 1"),
    ];
    for (result, expected) in table {
        let error = result.expect_err(expected).to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
    assert!(matches!(
        Plan::new(OperationSpec {
            steps: vec![drystone_api::StepSpec::default(); 4_001],
            ..OperationSpec::default()
        }),
        Err(PlanError::TooManySteps { steps: 4_001 })
    ));
}

#[test]
fn the_critical_path_is_the_longest_by_estimate() {
    let mut plan = builder();
    plan.step("start", "test.act", &()).estimate(Duration::from_secs(1));
    plan.step("quick", "test.act", &()).after("start").estimate(Duration::from_secs(2));
    plan.step("slow", "test.act", &()).after("start").estimate(Duration::from_secs(9));
    plan.step("end", "test.act", &()).after_all(["quick", "slow"]);
    let plan = Plan::new(plan.build().expect("valid")).expect("valid");
    assert_eq!(plan.graph().critical_path(), [0, 2, 3]);
    assert_eq!(plan.graph().tail_seconds(0), 11);
    assert_eq!(plan.graph().dependents(0), [1, 2]);
}

proptest! {
    /// Whatever the order in which steps are listed: a graph without circles gets an order that respects it.
    #[test]
    fn the_order_respects_the_dependencies(plan in super::model::plans()) {
        let graph = plan.graph();
        let mut position = vec![0; plan.len()];
        for (at, &step) in graph.order().iter().enumerate() {
            position[step] = at;
        }
        for step in 0..plan.len() {
            for &dependency in graph.dependencies(step) {
                prop_assert!(position[dependency] < position[step]);
                prop_assert!(graph.dependents(dependency).contains(&step));
            }
        }
    }

    /// Any edge that points back makes a circle, and the circle that is reported is one.
    #[test]
    fn a_circle_is_found_and_named(plan in super::model::plans(), from in any::<prop::sample::Index>()) {
        let mut spec = plan.spec().clone();
        let first = *plan.graph().order().first().expect("a plan has steps");
        let last = from.index(plan.len());
        let back = spec.steps[last].id.clone();
        spec.steps[first].depends_on.push(back);
        match Plan::new(spec.clone()) {
            Err(PlanError::Cycle { steps }) => {
                prop_assert_eq!(steps.first(), steps.last());
                for pair in steps.windows(2) {
                    let step = spec.steps.iter().find(|step| step.id == pair[0]).expect("named");
                    prop_assert!(step.depends_on.contains(&pair[1]));
                }
            }
            Err(other) => prop_assert!(false, "{}", other),
            // The edge does not close a circle when nothing leads from the first step to the last.
            Ok(_) => prop_assert!(!leads_to(&plan, first, last)),
        }
    }
}

fn leads_to(plan: &Plan, from: usize, to: usize) -> bool {
    from == to || plan.graph().dependents(from).iter().any(|&next| leads_to(plan, next, to))
}
