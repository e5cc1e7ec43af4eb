//! What goes wrong with a Redfish service: from the site file, or set at run time by an OEM action of its manager.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use drystone_redfish::{
    error::ServiceError,
    server::{Privilege, Properties, Reply, RequestBody, Route},
};
use serde_json::{Map, Value, json};

use crate::site::{FaultKind, FaultSpec, default_fault_delay};

/// The service's manager, which has the actions.
pub(crate) const MANAGER: &str = "/redfish/v1/Managers/1";
const SET: &str = "DrystoneManager.SetFault";
const CLEAR: &str = "DrystoneManager.ClearFaults";
const OEM_TYPE: &str = "#DrystoneManager.v1_0_0.Manager";

/// Kinds as the action names them.
const KINDS: [(&str, FaultKind); 5] = [
    ("Timeout", FaultKind::Timeout),
    ("Unavailable503", FaultKind::Unavailable503),
    ("WrongPassword", FaultKind::WrongPassword),
    ("PowerStuck", FaultKind::PowerStuck),
    ("Slow", FaultKind::Slow),
];

/// A fault that has not passed.
#[derive(Debug, Clone, PartialEq)]
struct Active {
    kind: FaultKind,
    probability: f64,
    left: Option<u32>,
    ends: Option<Instant>,
    delay: Duration,
}

/// What a request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effect {
    /// What goes wrong.
    pub(crate) kind: FaultKind,
    /// For how long.
    pub(crate) delay: Duration,
}

/// The faults of one service.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<Active>>);

impl Faults {
    /// The faults that a service has from the start.
    pub fn new(specs: &[FaultSpec], now: Instant) -> Self {
        Self(Mutex::new(specs.iter().map(|spec| Active::new(spec, now)).collect()))
    }

    /// Adds a fault.
    pub fn set(&self, spec: &FaultSpec, now: Instant) {
        self.lock().push(Active::new(spec, now));
    }

    /// Ends all faults.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// What a request meets, if anything. `roll` gives a number in 0..1 for each fault that is asked.
    pub(crate) fn meet(&self, now: Instant, roll: impl FnMut() -> f64) -> Option<Effect> {
        self.take(now, |kind| kind != FaultKind::PowerStuck, roll)
    }

    /// Whether a power action has no effect.
    pub(crate) fn power_stuck(&self, now: Instant, roll: impl FnMut() -> f64) -> bool {
        self.take(now, |kind| kind == FaultKind::PowerStuck, roll).is_some()
    }

    fn take(
        &self,
        now: Instant,
        wanted: impl Fn(FaultKind) -> bool,
        mut roll: impl FnMut() -> f64,
    ) -> Option<Effect> {
        let mut faults = self.lock();
        if faults.is_empty() {
            return None;
        }
        faults.retain(|fault| fault.left != Some(0) && fault.ends.is_none_or(|end| now < end));
        let met = faults.iter_mut().find(|fault| wanted(fault.kind) && roll() < fault.probability)?;
        met.left = met.left.map(|left| left - 1);
        Some(Effect { kind: met.kind, delay: met.delay })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Active>> {
        // A panic while holding it cannot leave the list half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The routes of the actions.
    pub(crate) fn routes() -> [Route; 2] {
        const MANAGER: &[Privilege] = &[Privilege::ConfigureManager];
        [
            Route::new("/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.SetFault").post(MANAGER),
            Route::new("/redfish/v1/Managers/1/Actions/Oem/DrystoneManager.ClearFaults").post(MANAGER),
        ]
    }

    /// Whether this is a request for one of the actions, which no fault keeps from its service.
    pub(crate) fn is_action(path: &str) -> bool {
        path.strip_prefix(MANAGER).is_some_and(|rest| {
            rest == format!("/Actions/Oem/{SET}") || rest == format!("/Actions/Oem/{CLEAR}")
        })
    }

    /// What the manager shows under `Actions.Oem`.
    pub(crate) fn actions() -> Value {
        json!({
            format!("#{SET}"): {
                "target": format!("{MANAGER}/Actions/Oem/{SET}"),
                "Kind@Redfish.AllowableValues": KINDS.map(|(name, _)| name)},
            format!("#{CLEAR}"): {"target": format!("{MANAGER}/Actions/Oem/{CLEAR}")}})
    }

    /// What the manager shows under `Oem.Drystone`.
    pub(crate) fn shown(&self, now: Instant) -> Value {
        let mut faults = self.lock();
        faults.retain(|fault| fault.left != Some(0) && fault.ends.is_none_or(|end| now < end));
        let list: Vec<Value> = faults
            .iter()
            .map(|fault| {
                let name = KINDS.iter().find(|(_, kind)| *kind == fault.kind).map(|(name, _)| *name);
                json!({"Kind": name, "Probability": fault.probability, "RequestsLeft": fault.left})
            })
            .collect();
        json!({"@odata.type": OEM_TYPE, "Faults": list})
    }

    /// Carries out an action, named by the last part of its URI.
    ///
    /// # Errors
    /// 400 for bad parameters.
    pub(crate) fn act(&self, action: &str, body: RequestBody, now: Instant) -> Result<Reply, ServiceError> {
        if action == CLEAR {
            Properties::action(CLEAR, body.into_object()).finish()?;
            self.clear();
        } else {
            let spec = read(body.into_object())?;
            self.set(&spec, now);
        }
        Ok(Reply::no_content())
    }
}

impl Active {
    fn new(spec: &FaultSpec, now: Instant) -> Self {
        Self {
            kind: spec.kind,
            probability: spec.probability,
            left: spec.count,
            ends: spec.until.map(|until| now + until),
            delay: spec.delay,
        }
    }
}

/// Parameters of `SetFault`: `Kind`, and as they are wanted `Probability`, `Count`, `Seconds` (how long it lasts) and
/// `DelaySeconds`.
fn read(body: Map<String, Value>) -> Result<FaultSpec, ServiceError> {
    let mut parameters = Properties::action(SET, body);
    parameters.require("Kind");
    let kind = parameters.choice("Kind", &KINDS.map(|(name, _)| name));
    let kind = kind.and_then(|name| KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind));
    let probability = parameters.number("Probability", f64::MIN_POSITIVE, 1.0);
    let count = parameters.unsigned("Count", 1, 1_000_000);
    let seconds = parameters.number("Seconds", 0.001, 86_400.0);
    let delay = parameters.number("DelaySeconds", 0.0, 3600.0);
    parameters.finish()?;
    let kind = kind.unwrap_or(FaultKind::Timeout);
    Ok(FaultSpec {
        kind,
        probability: probability.unwrap_or(1.0),
        count: count.and_then(|count| u32::try_from(count).ok()),
        until: seconds.map(Duration::from_secs_f64),
        delay: delay.map_or(default_fault_delay(kind), Duration::from_secs_f64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: FaultKind) -> FaultSpec {
        FaultSpec { kind, probability: 1.0, count: None, until: None, delay: Duration::ZERO }
    }

    #[test]
    fn a_fault_passes_by_count_and_by_time() {
        let start = Instant::now();
        let counted = FaultSpec { count: Some(2), ..spec(FaultKind::Slow) };
        let faults = Faults::new(&[counted], start);
        let met = |faults: &Faults, now| faults.meet(now, || 0.5).map(|effect| effect.kind);
        assert_eq!(
            [met(&faults, start), met(&faults, start), met(&faults, start)],
            [Some(FaultKind::Slow), Some(FaultKind::Slow), None]
        );
        let timed = FaultSpec { until: Some(Duration::from_secs(10)), ..spec(FaultKind::Timeout) };
        let faults = Faults::new(&[timed], start);
        assert_eq!(met(&faults, start + Duration::from_secs(9)), Some(FaultKind::Timeout));
        assert_eq!(met(&faults, start + Duration::from_secs(10)), None);
    }

    #[test]
    fn chance_and_kind_decide_what_is_met() {
        let start = Instant::now();
        let rare = FaultSpec { probability: 0.25, ..spec(FaultKind::WrongPassword) };
        let faults = Faults::new(&[rare, spec(FaultKind::PowerStuck)], start);
        assert!(faults.meet(start, || 0.3).is_none());
        assert!(faults.meet(start, || 0.2).is_some());
        assert!(faults.power_stuck(start, || 0.9));
        faults.clear();
        assert!(!faults.power_stuck(start, || 0.0));
    }

    #[test]
    fn the_action_is_checked_like_any_other() {
        let faults = Faults::default();
        let body = |value: Value| RequestBody::Object(value.as_object().cloned().unwrap());
        let now = Instant::now();
        let error = faults.act(SET, body(json!({"Kind": "Fire", "Count": 0, "Colour": 1})), now).unwrap_err();
        assert_eq!(error.messages.len(), 3, "{error}");
        assert!(faults.act(SET, RequestBody::Absent, now).is_err());
        faults.act(SET, body(json!({"Kind": "Unavailable503", "Count": 1})), now).unwrap();
        assert_eq!(faults.shown(now)["Faults"][0]["Kind"], "Unavailable503");
        assert!(faults.meet(now, || 0.0).is_some());
        faults.act(CLEAR, RequestBody::Absent, now).unwrap();
        assert!(Faults::is_action(&format!("{MANAGER}/Actions/Oem/{SET}")) && !Faults::is_action(MANAGER));
    }
}
