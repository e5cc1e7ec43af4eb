//! How many hosts may be out of service at a time.

use std::collections::BTreeMap;

use drystone_api::RolloutStrategy;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::validate::percent;

/// Percent of the selected hosts that may be out of service unless something is said.
const DEFAULT_PERCENT: &str = "25%";

/// How many hosts may be out of service at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub in_all: usize,
    /// In each site.
    pub per_site: BTreeMap<String, usize>,
}

impl Limits {
    /// For so many selected hosts in each site. No limit is less than one, or nothing would ever be done.
    pub(super) fn new(strategy: &RolloutStrategy, selected: &BTreeMap<&str, usize>) -> Self {
        let default = IntOrString::String(DEFAULT_PERCENT.to_owned());
        let in_all = strategy.max_unavailable.as_ref().unwrap_or(&default);
        let one = IntOrString::Int(1);
        let of_site = strategy.max_unavailable_per_site.as_ref().unwrap_or(&one);
        let limit = |value, hosts| rounded_down(value, hosts).max(1);
        Self {
            in_all: limit(in_all, selected.values().sum()),
            per_site: selected
                .iter()
                .map(|(site, hosts)| ((*site).to_owned(), limit(of_site, *hosts)))
                .collect(),
        }
    }

    /// Of a site.
    pub fn of_site(&self, site: &str) -> usize {
        self.per_site.get(site).copied().unwrap_or(1)
    }
}

/// How many hosts may fail before the rollout stops.
pub(super) fn tolerated(strategy: &RolloutStrategy, hosts: usize) -> usize {
    strategy.roll_back.tolerated_failures.as_ref().map_or(0, |value| rounded_down(value, hosts))
}

/// A number as it is, or that percentage of `hosts`, rounded down. What makes no sense is nothing.
fn rounded_down(value: &IntOrString, hosts: usize) -> usize {
    match value {
        IntOrString::Int(number) => usize::try_from(*number).unwrap_or(0),
        IntOrString::String(text) => hosts * percent(text).unwrap_or(0) as usize / 100,
    }
}

/// A number as it is, or that percentage of `hosts`, rounded up.
pub(super) fn rounded_up(value: &IntOrString, hosts: usize) -> usize {
    match value {
        IntOrString::Int(number) => usize::try_from(*number).unwrap_or(0),
        IntOrString::String(text) => (hosts * percent(text).unwrap_or(0) as usize).div_ceil(100),
    }
}
