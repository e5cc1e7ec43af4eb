//! What goes wrong with a Redfish service: from the site file, or set at run time by an OEM action of its manager.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Privilege, Properties, RequestBody, Route},
};
use serde_json::{Map, Value, json};

use crate::site::{FaultKind, FaultSpec, REFUSED_STATUS, REFUSED_STATUSES, default_fault_delay};

/// The service's manager, which has the actions.
pub(crate) const MANAGER: &str = "/redfish/v1/Managers/1";
const SET: &str = "DrystoneManager.SetFault";
const CLEAR: &str = "DrystoneManager.ClearFaults";
const OEM_TYPE: &str = "#DrystoneManager.v1_0_0.Manager";

/// Kinds as the action names them.
const KINDS: [(&str, FaultKind); 12] = [
    ("Timeout", FaultKind::Timeout),
    ("Unavailable503", FaultKind::Unavailable503),
    ("WrongPassword", FaultKind::WrongPassword),
    ("PowerStuck", FaultKind::PowerStuck),
    ("Slow", FaultKind::Slow),
    ("DiesBefore", FaultKind::DiesBefore),
    ("DiesAfter", FaultKind::DiesAfter),
    ("TableRefused", FaultKind::TableRefused),
    ("TableIgnored", FaultKind::TableIgnored),
    ("LinkDown", FaultKind::LinkDown),
    ("Unplugged", FaultKind::Unplugged),
    ("SwitchDown", FaultKind::SwitchDown),
];

/// A fault that has not passed.
#[derive(Debug, Clone, PartialEq)]
struct Active {
    spec: FaultSpec,
    left: Option<u32>,
    ends: Option<Instant>,
}

/// What a request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effect {
    /// What goes wrong.
    pub(crate) kind: FaultKind,
    /// For how long.
    pub(crate) delay: Duration,
    /// HTTP status of a refused table.
    pub(crate) status: u16,
}

/// Of whose faults this is the list; that decides which kinds there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A host's BMC.
    #[default]
    Bmc,
    /// A service of a fabric.
    Fabric,
}

impl Subject {
    /// The names of the kinds that it can have.
    fn kinds(self) -> Vec<&'static str> {
        let has = |kind: FaultKind| match self {
            Self::Bmc => !kind.is_of_fabrics(),
            Self::Fabric => kind != FaultKind::PowerStuck,
        };
        KINDS.iter().filter(|(_, kind)| has(*kind)).map(|(name, _)| *name).collect()
    }
}

/// The faults of one service.
#[derive(Debug, Default)]
pub struct Faults {
    subject: Subject,
    active: Mutex<Vec<Active>>,
    /// When a service that died comes back.
    back: Mutex<Option<Instant>>,
}

impl Faults {
    /// The faults that a service has from the start.
    pub(crate) fn new(subject: Subject, specs: &[FaultSpec], now: Instant) -> Self {
        let active = specs.iter().map(|spec| Active::new(spec.clone(), now)).collect();
        Self { subject, active: Mutex::new(active), back: Mutex::default() }
    }

    /// Adds a fault.
    pub fn set(&self, spec: &FaultSpec, now: Instant) {
        self.lock().push(Active::new(spec.clone(), now));
    }

    /// What a request meets on its way in, if anything. `writes` tells whether it would change something, `roll` gives a
    /// number in 0..1 for each fault that is asked.
    pub(crate) fn meet(&self, now: Instant, writes: bool, roll: impl FnMut() -> f64) -> Option<Effect> {
        let wanted = |spec: &FaultSpec| match spec.kind {
            FaultKind::Timeout | FaultKind::Unavailable503 | FaultKind::WrongPassword | FaultKind::Slow => {
                true
            }
            FaultKind::DiesBefore | FaultKind::DiesAfter => writes,
            _ => false,
        };
        self.take(now, wanted, roll)
    }

    /// Whether a power action has no effect.
    pub(crate) fn power_stuck(&self, now: Instant, roll: impl FnMut() -> f64) -> bool {
        self.take(now, |spec| spec.kind == FaultKind::PowerStuck, roll).is_some()
    }

    /// What a change of a switch's forwarding table meets, if anything.
    pub(crate) fn meet_table(&self, now: Instant, switch: &str, roll: impl FnMut() -> f64) -> Option<Effect> {
        let here = |spec: &FaultSpec| spec.switch.as_deref().is_none_or(|name| name == switch);
        self.take(now, |spec| spec.kind.is_of_tables() && here(spec), roll)
    }

    /// Lets the service be away for a while, as a process that died.
    pub(crate) fn die(&self, now: Instant, away: Duration) {
        *self.back.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + away);
    }

    /// Whether the service is away because it died.
    pub(crate) fn is_away(&self, now: Instant) -> bool {
        self.back.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|back| now < back)
    }

    fn take(
        &self,
        now: Instant,
        wanted: impl Fn(&FaultSpec) -> bool,
        mut roll: impl FnMut() -> f64,
    ) -> Option<Effect> {
        let mut faults = self.lock();
        if faults.is_empty() {
            return None;
        }
        faults.retain(|fault| fault.left != Some(0) && fault.ends.is_none_or(|end| now < end));
        let met = faults.iter_mut().find(|fault| wanted(&fault.spec) && roll() < fault.spec.probability)?;
        met.left = met.left.map(|left| left - 1);
        Some(Effect { kind: met.spec.kind, delay: met.spec.delay, status: met.spec.status })
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Active>> {
        // A panic while holding it cannot leave the list half changed.
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
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
    pub(crate) fn actions(&self) -> Value {
        json!({
            format!("#{SET}"): {
                "target": format!("{MANAGER}/Actions/Oem/{SET}"),
                "Kind@Redfish.AllowableValues": self.subject.kinds()},
            format!("#{CLEAR}"): {"target": format!("{MANAGER}/Actions/Oem/{CLEAR}")}})
    }

    /// What the manager shows under `Oem.Drystone`.
    pub(crate) fn shown(&self, now: Instant) -> Value {
        let mut faults = self.lock();
        faults.retain(|fault| fault.left != Some(0) && fault.ends.is_none_or(|end| now < end));
        let list: Vec<Value> = faults
            .iter()
            .map(|fault| {
                let spec = &fault.spec;
                let mut shown = json!({"Kind": name_of(spec.kind), "Probability": spec.probability, "RequestsLeft": fault.left});
                if let Some(switch) = &spec.switch {
                    shown["Switch"] = json!(switch);
                }
                shown
            })
            .collect();
        json!({"@odata.type": OEM_TYPE, "Faults": list})
    }

    /// Carries out an action, named by the last part of its URI. A fault of switches and cables is for the caller to set.
    ///
    /// # Errors
    /// 400 for bad parameters.
    pub(crate) fn act(&self, action: &str, body: RequestBody, now: Instant) -> Result<Acted, ServiceError> {
        if action == CLEAR {
            let mut parameters = Properties::action(CLEAR, body.into_object());
            let kind = parameters.choice("Kind", &self.subject.kinds());
            let kind = kind.and_then(|name| kind_of(&name));
            let cleared =
                Cleared { kind, switch: parameters.string("Switch"), port: parameters.string("Port") };
            parameters.finish()?;
            self.lock().retain(|fault| !cleared.covers(&fault.spec));
            return Ok(Acted::Cleared(cleared));
        }
        let spec = read(self.subject, body.into_object())?;
        if spec.kind.is_of_cabling() {
            return Ok(Acted::Cabling(spec));
        }
        self.set(&spec, now);
        Ok(Acted::Set)
    }
}

/// What an action did.
#[derive(Debug, PartialEq)]
pub(crate) enum Acted {
    /// A fault was set.
    Set,
    /// Faults were ended.
    Cleared(Cleared),
    /// A fault of switches and cables is to be set.
    Cabling(FaultSpec),
}

/// Which faults are ended: all, or those of a kind, a switch, a port.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Cleared {
    pub(crate) kind: Option<FaultKind>,
    pub(crate) switch: Option<String>,
    pub(crate) port: Option<String>,
}

impl Cleared {
    /// Whether a fault is one of them.
    pub(crate) fn covers(&self, spec: &FaultSpec) -> bool {
        self.kind.is_none_or(|kind| kind == spec.kind)
            && (self.switch.is_none() || self.switch == spec.switch)
            && (self.port.is_none() || self.port == spec.port)
    }
}

fn kind_of(name: &str) -> Option<FaultKind> {
    KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

/// The name of a kind in the action.
pub(crate) fn name_of(kind: FaultKind) -> Option<&'static str> {
    KINDS.iter().find(|(_, known)| *known == kind).map(|(name, _)| *name)
}

impl Active {
    fn new(spec: FaultSpec, now: Instant) -> Self {
        Self { left: spec.count, ends: spec.until.map(|until| now + until), spec }
    }
}

/// Parameters of `SetFault`: `Kind`, and as they are wanted `Probability`, `Count`, `Seconds` (how long it lasts),
/// `DelaySeconds`, `Status` (of a refused table), `Switch` and `Port`.
fn read(subject: Subject, body: Map<String, Value>) -> Result<FaultSpec, ServiceError> {
    let mut parameters = Properties::action(SET, body);
    parameters.require("Kind");
    let kind = parameters.choice("Kind", &subject.kinds());
    let kind = kind.and_then(|name| kind_of(&name));
    let kind = kind.unwrap_or(FaultKind::Timeout);
    let seconds = parameters.number("Seconds", 0.001, 86_400.0);
    let mut spec = FaultSpec { until: seconds.map(Duration::from_secs_f64), ..FaultSpec::new(kind) };
    if kind.is_of_fabrics() {
        spec.switch = parameters.string("Switch");
    }
    if matches!(kind, FaultKind::LinkDown | FaultKind::Unplugged) {
        parameters.require("Port");
        spec.port = parameters.string("Port");
    }
    if !kind.is_of_cabling() {
        spec.probability = parameters.number("Probability", f64::MIN_POSITIVE, 1.0).unwrap_or(1.0);
        let count = parameters.unsigned("Count", 1, 1_000_000);
        spec.count = count.and_then(|count| u32::try_from(count).ok());
        let delay = parameters.number("DelaySeconds", 0.0, 3600.0);
        spec.delay = delay.map_or(default_fault_delay(kind), Duration::from_secs_f64);
    }
    if kind == FaultKind::TableRefused {
        let status = parameters.unsigned("Status", 400, 599).and_then(|status| u16::try_from(status).ok());
        spec.status = status.unwrap_or(REFUSED_STATUS);
        if !REFUSED_STATUSES.contains(&spec.status) {
            let message = message::property_value_not_in_list(&spec.status.to_string(), "Status");
            parameters.reject(message);
        }
    }
    parameters.finish()?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: FaultKind) -> FaultSpec {
        FaultSpec { delay: Duration::ZERO, ..FaultSpec::new(kind) }
    }

    #[test]
    fn a_fault_passes_by_count_and_by_time() {
        let start = Instant::now();
        let counted = FaultSpec { count: Some(2), ..spec(FaultKind::Slow) };
        let faults = Faults::new(Subject::Bmc, &[counted], start);
        let met = |faults: &Faults, now| faults.meet(now, false, || 0.5).map(|effect| effect.kind);
        assert_eq!(
            [met(&faults, start), met(&faults, start), met(&faults, start)],
            [Some(FaultKind::Slow), Some(FaultKind::Slow), None]
        );
        let timed = FaultSpec { until: Some(Duration::from_secs(10)), ..spec(FaultKind::Timeout) };
        let faults = Faults::new(Subject::Bmc, &[timed], start);
        assert_eq!(met(&faults, start + Duration::from_secs(9)), Some(FaultKind::Timeout));
        assert_eq!(met(&faults, start + Duration::from_secs(10)), None);
    }

    #[test]
    fn chance_and_kind_decide_what_is_met() {
        let start = Instant::now();
        let rare = FaultSpec { probability: 0.25, ..spec(FaultKind::WrongPassword) };
        let faults = Faults::new(Subject::Bmc, &[rare, spec(FaultKind::PowerStuck)], start);
        assert!(faults.meet(start, false, || 0.3).is_none());
        assert!(faults.meet(start, false, || 0.2).is_some());
        assert!(faults.power_stuck(start, || 0.9));
        faults.act(CLEAR, RequestBody::Absent, start).unwrap();
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
        assert!(faults.meet(now, false, || 0.0).is_some());
        faults.act(CLEAR, RequestBody::Absent, now).unwrap();
        assert!(Faults::is_action(&format!("{MANAGER}/Actions/Oem/{SET}")) && !Faults::is_action(MANAGER));
    }
}
