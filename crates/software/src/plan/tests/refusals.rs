//! What makes no sense is refused, and where is said.

use drystone_api::{HostSelector, RolloutStrategy, RolloutWave};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::world::{hello, host};
use crate::{
    plan::{PlanInput, Timing, plan},
    validate::in_one_line,
};

fn refused(sets: &[drystone_api::PinnedSet], strategy: &RolloutStrategy) -> String {
    let hosts = [host("a", "edge", "1.0")];
    let input = PlanInput { sets, hosts: &hosts, strategy, timing: Timing::default() };
    in_one_line(&plan(&input).expect_err("refused"))
}

fn wave(name: &str, after: &[&str]) -> RolloutWave {
    let after = Some(after.iter().map(|name| (*name).to_owned()).collect());
    RolloutWave { name: name.to_owned(), after, ..RolloutWave::default() }
}

#[test]
fn a_selection_of_nothing() {
    let mut set = hello();
    set.selector = HostSelector { sites: vec!["moon".to_owned()], ..HostSelector::default() };
    assert_eq!(
        refused(&[set], &RolloutStrategy::default()),
        "spec.sets[0]: SoftwareSet base selects no host; see its spec.selector"
    );
}

#[test]
fn waves_that_wait_for_each_other() {
    let waves = vec![wave("a", &[]), wave("b", &["c"]), wave("c", &["b"])];
    let strategy = RolloutStrategy { waves, ..RolloutStrategy::default() };
    assert_eq!(
        refused(&[hello()], &strategy),
        "spec.strategy.waves[1].after: waves wait for each other in a circle: b → c → b"
    );
    let strategy = RolloutStrategy { waves: vec![wave("a", &["a"])], ..RolloutStrategy::default() };
    assert!(refused(&[hello()], &strategy).contains("a → a"));
}

#[test]
fn names_of_waves() {
    let strategy =
        RolloutStrategy { waves: vec![wave("a", &[]), wave("a", &[])], ..RolloutStrategy::default() };
    assert!(refused(&[hello()], &strategy).starts_with("spec.strategy.waves[1].name: `a`"));
    let strategy = RolloutStrategy { waves: vec![wave("a", &["b"])], ..RolloutStrategy::default() };
    assert!(
        refused(&[hello()], &strategy).starts_with("spec.strategy.waves[0].after[0]: there is no wave `b`")
    );
}

#[test]
fn amounts() {
    for (value, accepted) in [
        (IntOrString::Int(0), false),
        (IntOrString::Int(-1), false),
        (IntOrString::Int(1), true),
        (IntOrString::String("0%".to_owned()), false),
        (IntOrString::String("1%".to_owned()), true),
        (IntOrString::String("101%".to_owned()), false),
        (IntOrString::String("ten".to_owned()), false),
        (IntOrString::String("10".to_owned()), false),
    ] {
        let strategy = RolloutStrategy { max_unavailable: Some(value.clone()), ..RolloutStrategy::default() };
        let hosts = [host("a", "edge", "1.0")];
        let sets = [hello()];
        let input = PlanInput { sets: &sets, hosts: &hosts, strategy: &strategy, timing: Timing::default() };
        assert_eq!(plan(&input).is_ok(), accepted, "{value:?}");
    }
}

#[test]
fn sets_that_contradict_each_other() {
    let mut other = hello();
    other.name = "other".to_owned();
    other.packages[0].version = "2.0".to_owned();
    let text = refused(&[hello(), other.clone()], &RolloutStrategy::default());
    assert!(text.contains("spec.sets[1]") && text.contains("hello") && text.contains("host a"), "{text}");
    other.selector = HostSelector { hosts: vec!["b".to_owned()], ..HostSelector::default() };
    let hosts = [host("a", "edge", "1.0"), host("b", "edge", "1.0")];
    let (sets, strategy) = ([other], RolloutStrategy::default());
    let input = PlanInput { sets: &sets, hosts: &hosts, strategy: &strategy, timing: Timing::default() };
    assert!(plan(&input).is_ok());
}
