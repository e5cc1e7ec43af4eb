//! The driver against controllers that do things their own way, each as the table or the retries expect it.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use drystone_api::BootMode;
use serde_json::{Value, json};

use super::*;
use crate::driver::Persistence;

const SYSTEM: &str = "/redfish/v1/Systems/1";

/// What a controller answers to a write: `None` lets it be carried out.
type Mood = dyn FnMut(&str, &str, &Value) -> Option<(StatusCode, Value)> + Send;

/// A controller in memory: resources by URI, and a mood.
#[derive(Clone)]
struct Controller {
    resources: Arc<Mutex<Map<String, Value>>>,
    writes: Arc<Mutex<Vec<(String, String, Value)>>>,
    mood: Arc<Mutex<Box<Mood>>>,
}

impl Controller {
    fn new(manufacturer: &str, slots: &[&str], under: &str) -> Self {
        let mut resources = Map::new();
        let mut put = |uri: &str, mut body: Value| {
            body["@odata.id"] = json!(uri);
            resources.insert(uri.to_owned(), body);
        };
        let media = format!("{under}/VirtualMedia");
        let mut system = json!({"Id": "1", "Manufacturer": manufacturer, "PowerState": "Off",
            "Links": {"ManagedBy": [{"@odata.id": "/redfish/v1/Managers/1"}]},
            "Boot": {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None", "BootSourceOverrideMode": "UEFI",
                "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "Pxe", "Cd", "UsbCd", "Hdd", "UefiHttp"]},
            "Actions": {"#ComputerSystem.Reset": {"target": format!("{SYSTEM}/Actions/ComputerSystem.Reset")}}});
        let mut manager = json!({"Id": "1"});
        let owner = if under == SYSTEM { &mut system } else { &mut manager };
        owner["VirtualMedia"] = json!({"@odata.id": media});
        put(SYSTEM, system);
        put("/redfish/v1/Managers/1", manager);
        put(SYSTEMS, json!({"Members": [{"@odata.id": SYSTEM}]}));
        let members: Vec<Value> =
            slots.iter().map(|slot| json!({"@odata.id": format!("{media}/{slot}")})).collect();
        put(&media, json!({"Members": members}));
        for slot in slots {
            let uri = format!("{media}/{slot}");
            let kind = slot.trim_end_matches(char::is_numeric);
            put(
                &uri,
                json!({"Id": slot, "MediaTypes": [kind], "Image": "", "Inserted": false, "Actions": {
                    "#VirtualMedia.InsertMedia": {"target": format!("{uri}/Actions/VirtualMedia.InsertMedia")},
                    "#VirtualMedia.EjectMedia": {"target": format!("{uri}/Actions/VirtualMedia.EjectMedia")}}}),
            );
        }
        Self {
            resources: Arc::new(Mutex::new(resources)),
            writes: Arc::default(),
            mood: Arc::new(Mutex::new(Box::new(|_, _, _| None))),
        }
    }

    fn with_mood(
        self,
        mood: impl FnMut(&str, &str, &Value) -> Option<(StatusCode, Value)> + Send + 'static,
    ) -> Self {
        *self.mood.lock().unwrap() = Box::new(mood);
        self
    }

    fn change(&self, uri: &str, change: impl FnOnce(&mut Value)) {
        change(self.resources.lock().unwrap().get_mut(uri).unwrap());
    }

    fn read(&self, uri: &str) -> Value {
        self.resources.lock().unwrap()[uri].clone()
    }

    fn writes_to(&self, part: &str) -> Vec<Value> {
        let writes = self.writes.lock().unwrap();
        writes.iter().filter(|(_, uri, _)| uri.contains(part)).map(|(_, _, body)| body.clone()).collect()
    }

    /// Starts it; returns a driver of its host.
    async fn start(&self) -> Box<dyn HostDriver> {
        self.start_as("redfish-virtualmedia").await
    }

    async fn start_as(&self, scheme: &str) -> Box<dyn HostDriver> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("{scheme}+http://{}/", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let pause = Duration::from_millis(5);
        let pauses = Pauses {
            power_limit: Duration::from_millis(300),
            conflict: pause,
            insertion: pause,
            busy: pause,
            mode: pause,
            mode_limit: Duration::from_millis(300),
        };
        let credentials = Credentials { username: "admin".to_owned(), password: "secret".to_owned() };
        let address = BmcAddress::parse(&address).unwrap();
        RedfishDrivers { pauses }.open(&address, &credentials, true).unwrap()
    }
}

async fn answer(State(controller): State<Controller>, method: Method, uri: Uri, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    let json_of = |status: StatusCode, body: Value| {
        (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
    };
    if method == Method::GET {
        let found = controller.resources.lock().unwrap().get(&path).cloned();
        return found.map_or(StatusCode::NOT_FOUND.into_response(), |body| json_of(StatusCode::OK, body));
    }
    if path.contains("SessionService") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    controller.writes.lock().unwrap().push((method.to_string(), path.clone(), body.clone()));
    if let Some((status, answer)) = (controller.mood.lock().unwrap())(method.as_str(), &path, &body) {
        return json_of(status, answer);
    }
    let mut resources = controller.resources.lock().unwrap();
    match path.split_once("/Actions/") {
        Some((resource, "ComputerSystem.Reset")) => {
            let on = body["ResetType"] == "On";
            resources[resource]["PowerState"] = json!(if on { "On" } else { "Off" });
        }
        Some((resource, "VirtualMedia.InsertMedia")) => {
            resources[resource]["Image"] = body["Image"].clone();
            resources[resource]["Inserted"] = json!(true);
        }
        Some((resource, "VirtualMedia.EjectMedia")) => {
            resources[resource]["Image"] = json!("");
            resources[resource]["Inserted"] = json!(false);
        }
        Some(_) => return StatusCode::NOT_FOUND.into_response(),
        None => {
            let Some(resource) = resources.get_mut(&path) else {
                return StatusCode::NOT_FOUND.into_response();
            };
            merge(resource, &body);
        }
    }
    StatusCode::NO_CONTENT.into_response()
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn refusal(key: &str, text: &str) -> Value {
    let message = json!({"MessageId": format!("Base.1.8.{key}"), "Message": text});
    json!({"error": {"code": "Base.1.8.GeneralError", "message": "no", "@Message.ExtendedInfo": [message]}})
}

fn image() -> Url {
    Url::parse("http://10.0.0.1:8069/boot/x/seed.iso").unwrap()
}

const ONCE: BootOrder = BootOrder { persistence: Persistence::Once, mode: BootMode::UEFI };
const ALWAYS: BootOrder = BootOrder { persistence: Persistence::EveryBoot, mode: BootMode::UEFI };

#[tokio::test]
async fn media_are_found_under_the_system_or_its_managers() {
    for under in [SYSTEM, "/redfish/v1/Managers/1"] {
        let controller = Controller::new("Contoso", &["Floppy1", "USBStick1", "CD1"], under);
        let host = controller.start().await;
        host.boot_medium(&image(), ONCE).await.unwrap();
        assert_eq!(
            controller.writes_to("Floppy").len() + controller.writes_to("USBStick").len(),
            0,
            "{under}"
        );
        assert_eq!(host.medium().await.unwrap().as_deref(), Some(image().as_str()));
        assert_eq!(controller.read(SYSTEM)["Boot"]["BootSourceOverrideTarget"], "Cd");
        assert_eq!(controller.read(SYSTEM)["Boot"]["BootSourceOverrideEnabled"], "Once");
        host.eject().await.unwrap();
        assert_eq!(host.medium().await.unwrap(), None);
    }
}

#[tokio::test]
async fn what_is_in_the_slot_is_ejected_even_if_it_is_the_same() {
    let controller = Controller::new("Contoso", &["CD1"], SYSTEM);
    let host = controller.start().await;
    host.boot_medium(&image(), ONCE).await.unwrap();
    host.boot_medium(&image(), ONCE).await.unwrap();
    assert_eq!(controller.writes_to("EjectMedia").len(), 1);
    assert_eq!(controller.writes_to("InsertMedia").len(), 2);
}

#[tokio::test]
async fn parameters_are_added_as_they_are_asked_for() {
    let controller = Controller::new("Contoso", &["CD1"], SYSTEM).with_mood(|_, path, body| {
        let missing = ["TransferProtocolType", "TransferMethod", "UserName", "Password"];
        let asked = missing.iter().find(|name| body.get(**name).is_none());
        asked.filter(|_| path.ends_with("InsertMedia")).map(|name| {
            let text = format!("The action requires the parameter {name} to be present.");
            (StatusCode::BAD_REQUEST, refusal("ActionParameterMissing", &text))
        })
    });
    // Three are added one by one, then the attempts are used up.
    let host = controller.start().await;
    let error = host.boot_medium(&image(), ONCE).await.unwrap_err();
    assert!(matches!(error, DriverError::Refused { .. }), "{error}");
    assert_eq!(controller.writes_to("InsertMedia").len(), 4);

    let _ = controller.clone().with_mood(|_, path, body| {
        let complete = body["TransferProtocolType"] == "HTTP"
            && body["UserName"] == "none"
            && body["Password"] == "none";
        (path.ends_with("InsertMedia") && !complete).then(|| {
            let text = "TransferProtocolType, UserName and Password are needed.";
            (StatusCode::BAD_REQUEST, refusal("ActionParameterMissing", text))
        })
    });
    host.boot_medium(&image(), ONCE).await.unwrap();
    assert_eq!(host.medium().await.unwrap().as_deref(), Some(image().as_str()));
}

#[tokio::test]
async fn the_next_slot_is_tried_and_failures_are_repeated() {
    let mut failures = 2;
    let controller = Controller::new("Contoso", &["CD1", "CD2"], SYSTEM).with_mood(move |_, path, _| {
        if path.contains("/CD1/") {
            return Some((StatusCode::BAD_REQUEST, refusal("GeneralError", "not here")));
        }
        (path.ends_with("InsertMedia") && failures > 0).then(|| {
            failures -= 1;
            (StatusCode::INTERNAL_SERVER_ERROR, refusal("InternalError", "again"))
        })
    });
    let host = controller.start().await;
    host.boot_medium(&image(), ONCE).await.unwrap();
    assert_eq!(controller.read(&format!("{SYSTEM}/VirtualMedia/CD2"))["Image"], image().as_str());
}

#[tokio::test]
async fn controllers_without_actions_are_changed() {
    let controller = Controller::new("Contoso", &["CD1"], SYSTEM);
    let slot = format!("{SYSTEM}/VirtualMedia/CD1");
    controller.change(&slot, |slot| slot["Actions"] = json!({}));
    let host = controller.start().await;
    host.boot_medium(&image(), ONCE).await.unwrap();
    let inserted = json!({"Image": image().as_str(), "Inserted": true, "WriteProtected": true});
    assert_eq!(controller.writes_to("CD1"), [inserted]);
    host.eject().await.unwrap();
    assert_eq!(controller.read(&slot)["Inserted"], false);
}

#[tokio::test]
async fn makers_get_what_they_want() {
    let controller = Controller::new("Supermicro", &["CD1"], SYSTEM);
    controller.change(SYSTEM, |system| system["Boot"]["BootSourceOverrideEnabled"] = json!("Once"));
    controller.start().await.boot_medium(&image(), ONCE).await.unwrap();
    let boot = json!({"Boot": {"BootSourceOverrideTarget": "UsbCd", "BootSourceOverrideEnabled": "Once"}});
    assert_eq!(controller.writes_to(SYSTEM).last(), Some(&boot));

    let controller = Controller::new("Contoso", &["CD1"], SYSTEM);
    controller.change(SYSTEM, |system| system["Boot"]["BootSourceOverrideEnabled"] = json!("Once"));
    controller.start().await.boot_medium(&image(), ONCE).await.unwrap();
    let boot = json!({"Boot": {"BootSourceOverrideTarget": "Cd"}});
    assert_eq!(controller.writes_to(SYSTEM).last(), Some(&boot), "what is so already is not sent");

    let controller = Controller::new("AMI", &["CD1"], SYSTEM);
    controller.start().await.boot_medium(&image(), ONCE).await.unwrap();
    let boot = json!({"Boot": {"BootSourceOverrideTarget": "Cd", "BootSourceOverrideEnabled": "Once", "BootSourceOverrideMode": "UEFI"}});
    assert_eq!(controller.writes_to(SYSTEM).last(), Some(&boot));
}

#[tokio::test]
async fn a_host_that_tests_itself_is_asked_again() {
    let mut refusals = 3;
    let controller = Controller::new("HPE", &["CD1"], SYSTEM).with_mood(move |method, path, _| {
        (method == "PATCH" && path == SYSTEM && refusals > 0).then(|| {
            refusals -= 1;
            (StatusCode::BAD_REQUEST, refusal("UnableToModifyDuringSystemPOST", "busy"))
        })
    });
    controller.start().await.boot_medium(&image(), ONCE).await.unwrap();
    assert_eq!(controller.read(SYSTEM)["Boot"]["BootSourceOverrideTarget"], "Cd");
}

#[tokio::test]
async fn lasting_overrides_are_replaced_where_there_are_none() {
    let controller = Controller::new("Contoso", &["CD1"], SYSTEM).with_mood(|_, path, body| {
        let lasting = body["Boot"]["BootSourceOverrideEnabled"] == "Continuous";
        (path == SYSTEM && lasting)
            .then(|| (StatusCode::BAD_REQUEST, refusal("PropertyValueNotInList", "Continuous")))
    });
    let host = controller.start().await;
    host.boot_medium(&image(), ALWAYS).await.unwrap();
    assert_eq!(controller.read(SYSTEM)["Boot"]["BootSourceOverrideEnabled"], "Once");
    controller.change(SYSTEM, |system| system["Boot"]["BootSourceOverrideEnabled"] = json!("Disabled"));
    host.boot_medium_again().await.unwrap();
    assert_eq!(controller.read(SYSTEM)["Boot"]["BootSourceOverrideEnabled"], "Once");
}

#[tokio::test]
async fn the_settings_resource_is_changed_where_it_holds_the_override() {
    let controller = Controller::new("Contoso", &["CD1"], SYSTEM);
    let settings = format!("{SYSTEM}/Settings");
    controller.change(SYSTEM, |system| {
        system["@Redfish.Settings"] = json!({"SettingsObject": {"@odata.id": settings}});
    });
    let body = json!({"@odata.id": settings, "Boot": {"BootSourceOverrideTarget": "None"}});
    controller.resources.lock().unwrap().insert(settings.clone(), body);
    controller.start().await.boot_medium(&image(), ONCE).await.unwrap();
    assert_eq!(controller.read(&settings)["Boot"]["BootSourceOverrideTarget"], "Cd");
    assert_eq!(controller.read(SYSTEM)["Boot"]["BootSourceOverrideTarget"], "None");
}

#[tokio::test]
async fn hosts_boot_over_http_and_in_the_wanted_mode() {
    let controller = Controller::new("Contoso", &["CD1"], SYSTEM);
    controller.change(SYSTEM, |system| system["Boot"]["BootSourceOverrideMode"] = json!("Legacy"));
    let host = controller.start_as("redfish-uefihttp").await;
    host.boot_medium(&image(), ONCE).await.unwrap();
    assert_eq!(host.medium().await.unwrap().as_deref(), Some(image().as_str()));
    assert_eq!(controller.read(SYSTEM)["Boot"]["BootSourceOverrideMode"], "UEFI");
    assert_eq!(controller.writes_to("VirtualMedia").len(), 0);
    host.eject().await.unwrap();
    assert_eq!(host.medium().await.unwrap(), None);
    let secure = BootOrder { mode: BootMode::UEFISecureBoot, ..ONCE };
    let error = host.boot_medium(&image(), secure).await.unwrap_err();
    assert!(error.to_string().contains("no secure boot"), "{error}");
    controller.change(SYSTEM, |system| system["SecureBoot"] = json!({"@odata.id": "/redfish/v1/secure"}));
    let body = json!({"@odata.id": "/redfish/v1/secure", "SecureBootEnable": false});
    controller.resources.lock().unwrap().insert("/redfish/v1/secure".to_owned(), body);
    host.boot_medium(&image(), secure).await.unwrap();
    assert_eq!(controller.read("/redfish/v1/secure")["SecureBootEnable"], true);
}

#[tokio::test]
async fn resets_that_are_refused_for_now_are_repeated() {
    let mut refusals = 3;
    let controller = Controller::new("Contoso", &["CD1"], SYSTEM).with_mood(move |_, path, _| {
        (path.ends_with("Reset") && refusals > 0).then(|| {
            refusals -= 1;
            (StatusCode::CONFLICT, refusal("ActionParameterValueConflict", "not now"))
        })
    });
    let host = controller.start().await;
    host.power_on().await.unwrap();
    assert_eq!(host.state().await.unwrap().powered_on, Some(true));
    assert_eq!(controller.writes_to("Reset").len(), 4);
}

#[tokio::test]
async fn a_refusal_in_the_wanted_state_is_a_success_and_elsewhere_none() {
    let controller = Controller::new("Contoso", &["CD1"], SYSTEM);
    let other = controller.clone();
    let controller = controller.with_mood(move |_, path, _| {
        path.ends_with("Reset").then(|| {
            // It switches and complains nevertheless.
            other.change(SYSTEM, |system| system["PowerState"] = json!("On"));
            (StatusCode::BAD_REQUEST, refusal("GeneralError", "is so already"))
        })
    });
    controller.start().await.power_on().await.unwrap();

    let controller = Controller::new("Contoso", &["CD1"], SYSTEM).with_mood(|_, path, _| {
        path.ends_with("Reset").then(|| (StatusCode::BAD_REQUEST, refusal("GeneralError", "never")))
    });
    let error = controller.start().await.power_on().await.unwrap_err();
    assert!(matches!(error, DriverError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn power_that_does_not_follow_is_noticed() {
    let controller = Controller::new("Contoso", &["CD1"], SYSTEM)
        .with_mood(|_, path, _| path.ends_with("Reset").then_some((StatusCode::NO_CONTENT, Value::Null)));
    let error = controller.start().await.power_on().await.unwrap_err();
    assert!(matches!(&error, DriverError::Stuck { what, .. } if what == "power stayed off"), "{error}");
}

#[tokio::test]
async fn firmware_settings_are_read_and_written_where_they_are_taken_from() {
    let controller = Controller::new("Contoso", &["CD1"], SYSTEM);
    let host = controller.start().await;
    assert_eq!(host.firmware().await.unwrap(), None);
    let bios = format!("{SYSTEM}/Bios");
    let put = |uri: &str, body: Value| controller.resources.lock().unwrap().insert(uri.to_owned(), body);
    put(
        &bios,
        json!({"@odata.id": bios, "AttributeRegistry": "BiosRegistry.v1_0_0", "Attributes": {"Boost": "On", "Delay": 5, "Fast": true},
            "@Redfish.Settings": {"SettingsObject": {"@odata.id": format!("{bios}/Settings")}}}),
    );
    put(&format!("{bios}/Settings"), json!({"@odata.id": format!("{bios}/Settings"), "Attributes": {}}));
    put("/redfish/v1/Registries", json!({"Members": [{"@odata.id": "/redfish/v1/Registries/BiosRegistry"}]}));
    put(
        "/redfish/v1/Registries/BiosRegistry",
        json!({"@odata.id": "/r", "Location": [{"Language": "en", "Uri": "/redfish/v1/bios.json"}]}),
    );
    let entry = json!({"AttributeName": "Delay", "Type": "Integer", "UpperBound": 10});
    put("/redfish/v1/bios.json", json!({"@odata.id": "/b", "RegistryEntries": {"Attributes": [entry]}}));
    controller.change(SYSTEM, |system| system["Bios"] = json!({"@odata.id": bios}));
    let reading = host.firmware().await.unwrap().expect("published");
    assert_eq!((reading.settings["Delay"].as_str(), reading.settings["Fast"].as_str()), ("5", "true"));
    assert_eq!(reading.limits["Delay"].upper_bound, Some(10));
    let wanted = Map::from_iter([("Delay".to_owned(), reading.typed("Delay", "7"))]);
    host.set_firmware(&wanted).await.unwrap();
    assert_eq!(controller.writes_to("Bios"), [json!({"Attributes": {"Delay": 7}})]);
    assert_eq!(controller.read(&format!("{bios}/Settings"))["Attributes"]["Delay"], 7);
}
