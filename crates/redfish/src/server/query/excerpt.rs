//! `excerpt`: of resources whose schema marks what matters most, only that (schema annotation `Redfish.Excerpt`).

use serde_json::Value;

/// Schemas that mark properties, with these. Of all others the whole resource is an excerpt.
const EXCERPTS: [(&str, &[&str]); 4] = [
    (
        "Sensor",
        &[
            "Reading",
            "PhysicalContext",
            "PhysicalSubContext",
            "ApparentVA",
            "ReactiveVAR",
            "PowerFactor",
            "Thresholds",
            "SensorResetTime",
            "LowerCritical",
            "CrestFactor",
            "THDPercent",
            "LifetimeReading",
            "SpeedRPM",
            "DeviceName",
            "LowerCriticalUser",
            "ApparentkVAh",
            "ReactivekVARh",
            "PhaseAngleDegrees",
        ],
    ),
    (
        "Control",
        &[
            "ControlMode",
            "SetPoint",
            "SettingMin",
            "SettingMax",
            "AllowableNumericValues",
            "SetPointUnits",
            "AllowableMax",
            "AllowableMin",
            "ControlLoop",
            "ReadingUnits",
            "Proportional",
            "Integral",
            "Differential",
            "DefaultSetPoint",
        ],
    ),
    ("Job", &["JobState", "PercentComplete", "EstimatedCompletionTime"]),
    ("LeakDetector", &["DetectorState", "PhysicalContext", "PhysicalSubContext", "DeviceName"]),
];

/// Leaves of a resource, or of the expanded members of a collection, what their schemas mark.
pub(super) fn excerpt(body: &mut Value) {
    if let Some(members) = body.get_mut("Members").and_then(Value::as_array_mut) {
        return members.iter_mut().for_each(excerpt);
    }
    let schema = body.get("@odata.type").and_then(Value::as_str).map(|kind| kind.trim_start_matches('#'));
    let schema = schema.and_then(|kind| kind.split('.').next());
    let marked = EXCERPTS.iter().find(|(name, _)| Some(*name) == schema).map(|(_, marked)| *marked);
    if let (Some(marked), Value::Object(map)) = (marked, body) {
        map.retain(|name, _| name.starts_with("@odata.") || marked.contains(&name.as_str()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_schemas_mark_stays_and_other_resources_are_whole() {
        let sensor = json!({"@odata.id": "/s", "@odata.type": "#Sensor.v1_7_0.Sensor", "Id": "s", "Reading": 21.5,
            "PhysicalContext": "Intake", "ReadingUnits": "Cel"});
        let left = json!({"@odata.id": "/s", "@odata.type": "#Sensor.v1_7_0.Sensor", "Reading": 21.5,
            "PhysicalContext": "Intake"});
        let zone = json!({"@odata.id": "/z", "@odata.type": "#Zone.v1_6_3.Zone", "Id": "z"});
        let mut list = json!({"@odata.type": "#SensorCollection.SensorCollection", "Name": "all",
            "Members": [sensor, zone, {"@odata.id": "/x"}]});
        excerpt(&mut list);
        assert_eq!(list["Members"], json!([left, zone, {"@odata.id": "/x"}]));
        assert_eq!(list["Name"], "all");
    }
}
