//! What goes wrong with a cloud: from the site file, or set at run time.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde_json::{Value, json};

use crate::site::{CloudFaultKind, CloudFaultSpec};

#[derive(Debug)]
struct Active {
    spec: CloudFaultSpec,
    /// How often it is still met.
    left: Option<u32>,
    /// How often it is passed by first.
    spared: u32,
    ends: Option<Instant>,
}

/// The faults of a cloud.
#[derive(Debug, Default)]
pub(super) struct CloudFaults(Mutex<Vec<Active>>);

impl CloudFaults {
    /// Those from the start.
    pub(super) fn new(specs: &[CloudFaultSpec], now: Instant) -> Self {
        let faults = Self::default();
        specs.iter().for_each(|spec| faults.set(spec.clone(), now));
        faults
    }

    /// Adds a fault.
    pub(super) fn set(&self, spec: CloudFaultSpec, now: Instant) {
        let ends = spec.until.map(|until| now + until);
        let active = Active { left: spec.count, spared: spec.after, ends, spec };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(active);
    }

    /// Ends all faults.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What a request meets, if anything.
    pub(super) fn meet_request(&self, now: Instant, roll: impl FnMut() -> f64) -> Option<CloudFaultSpec> {
        self.take(now, |spec| spec.kind.is_of_requests(), roll)
    }

    /// What the making (or the removal) of a resource meets, if anything.
    pub(super) fn meet_resource(
        &self,
        now: Instant,
        (stack, resource): (&str, &str),
        removal: bool,
        roll: impl FnMut() -> f64,
    ) -> Option<CloudFaultSpec> {
        let wanted = |spec: &CloudFaultSpec| {
            let kind = match spec.kind {
                CloudFaultKind::ResourceFails | CloudFaultKind::ResourceHangs => !removal,
                CloudFaultKind::DeletionFails => removal,
                _ => false,
            };
            kind && spec.stack.as_deref().is_none_or(|part| stack.contains(part))
                && spec.resource.as_deref().is_none_or(|name| name == resource)
        };
        self.take(now, wanted, roll)
    }

    fn take(
        &self,
        now: Instant,
        wanted: impl Fn(&CloudFaultSpec) -> bool,
        mut roll: impl FnMut() -> f64,
    ) -> Option<CloudFaultSpec> {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if faults.is_empty() {
            return None;
        }
        faults.retain(|fault| fault.left != Some(0) && fault.ends.is_none_or(|end| now < end));
        for fault in faults.iter_mut().filter(|fault| wanted(&fault.spec)) {
            if fault.spared > 0 {
                fault.spared -= 1;
            } else if roll() < fault.spec.probability {
                fault.left = fault.left.map(|left| left - 1);
                return Some(fault.spec.clone());
            }
        }
        None
    }

    /// Whether there are any about resources, which take time.
    pub(super) fn delays_resources(&self) -> bool {
        let faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults.iter().any(|fault| fault.spec.kind == CloudFaultKind::ResourceHangs)
    }

    /// What is shown of them.
    pub(super) fn shown(&self, now: Instant) -> Value {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults.retain(|fault| fault.left != Some(0) && fault.ends.is_none_or(|end| now < end));
        let shown = faults.iter().map(|fault| {
            json!({"kind": fault.spec.kind, "probability": fault.spec.probability, "left": fault.left, "stack": fault.spec.stack,
                "resource": fault.spec.resource})
        });
        shown.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: &str, more: &str) -> CloudFaultSpec {
        let text = format!("{{kind: {kind}{more}}}");
        serde_saphyr::from_str::<crate::site::CloudFaultDocument>(&text).unwrap().resolve().unwrap()
    }

    #[test]
    fn a_fault_concerns_what_it_names_and_passes() {
        let now = Instant::now();
        let specs = [
            spec("resourceFails", ", stack: vnf, resource: VDU1, count: 1, after: 1"),
            spec("unavailable503", ", probability: 0.5"),
        ];
        let faults = CloudFaults::new(&specs, now);
        let fails = |stack, resource| faults.meet_resource(now, (stack, resource), false, || 0.0).is_some();
        assert!(!fails("vnf-1", "VDU2") && !fails("other", "VDU1"));
        assert!(!fails("vnf-1", "VDU1"), "the first is spared");
        assert!(fails("vnf-1", "VDU1") && !fails("vnf-1", "VDU1"), "one is met");
        assert!(faults.meet_request(now, || 0.6).is_none());
        let met = faults.meet_request(now, || 0.4).unwrap();
        assert_eq!(met.kind, CloudFaultKind::Unavailable503);
        faults.clear();
        assert_eq!(faults.shown(now), json!([]));
    }
}
