//! Reads the body of a request property by property, and tells everything that is wrong with it at once.
//!
//! A body with a mistake changes nothing, even if other properties of it are right: what happened to half a request is
//! hard to tell from outside. (DSP0266 lets a service apply the right half of a PATCH.)

use http::StatusCode;
use serde_json::{Map, Value};

use crate::{
    error::ServiceError,
    message::{self, Message},
};

/// Properties that identify a resource; a PATCH may repeat them.
const IDENTITY: [&str; 4] = ["Id", "Name", "Description", "Oem"];

/// What the body belongs to: words for what is wrong differ.
#[derive(Debug, Clone)]
enum Purpose {
    /// A new resource.
    Create,
    /// A change of a resource.
    Update,
    /// Parameters of an action.
    Action(String),
}

/// The properties of a body, taken out one by one. What is left at the end is unknown.
#[derive(Debug)]
pub struct Properties {
    purpose: Purpose,
    /// Path of the object inside the body: `Boot/`; empty at the top.
    prefix: String,
    left: Map<String, Value>,
    /// Whether anything but annotations was sent.
    any: bool,
    /// How many properties were sent.
    sent: usize,
    wrong: Vec<Message>,
}

/// What a PATCH asked for and was passed over.
#[derive(Debug, Clone)]
pub struct Ignored(Vec<Message>);

impl Ignored {
    /// Tells about it in the body of the reply (DSP0266, "PATCH"): `"Prop@Message.ExtendedInfo": […]` beside each property, and all
    /// together for the resource.
    pub fn annotate(self, body: &mut Value) {
        let Value::Object(map) = body else { return };
        for message in self.0 {
            let property = message.message_args.first().cloned().unwrap_or_default();
            let name = format!("{}@Message.ExtendedInfo", property.split('/').next().unwrap_or_default());
            annotate(map, &name, &message);
            annotate(map, "@Message.ExtendedInfo", &message);
        }
    }
}

/// Adds a message to a list of messages in a body.
fn annotate(map: &mut Map<String, Value>, name: &str, message: &Message) {
    let Ok(message) = serde_json::to_value(message) else { return };
    match map.entry(name.to_owned()).or_insert_with(|| Value::Array(Vec::new())) {
        Value::Array(list) => list.push(message),
        other => *other = message,
    }
}

/// The parameters of an action.
pub type Parameters = Properties;

impl Properties {
    /// The body of a POST to a collection.
    pub fn create(body: Map<String, Value>) -> Self {
        Self::new(Purpose::Create, String::new(), body)
    }

    /// The body of a PATCH.
    pub fn update(body: Map<String, Value>) -> Self {
        Self::new(Purpose::Update, String::new(), body)
    }

    /// The body of a POST to an action, named as in `Actions`: `ComputerSystem.Reset`.
    pub fn action(action: &str, body: Map<String, Value>) -> Self {
        Self::new(Purpose::Action(action.to_owned()), String::new(), body)
    }

    fn new(purpose: Purpose, prefix: String, body: Map<String, Value>) -> Self {
        // Annotations are passed over (DSP0266, "PATCH").
        let left: Map<String, Value> = body.into_iter().filter(|(name, _)| !name.contains('@')).collect();
        Self { any: !left.is_empty(), sent: left.len(), purpose, prefix, left, wrong: Vec::new() }
    }

    /// Names of the properties that have not been taken out.
    pub fn names(&self) -> Vec<String> {
        self.left.keys().cloned().collect()
    }

    /// Whether a property is there and has not been taken out.
    pub fn has(&self, name: &str) -> bool {
        self.left.contains_key(name)
    }

    /// Takes a property out if it is `null`; whether it was.
    pub fn take_null(&mut self, name: &str) -> bool {
        let null = self.left.get(name).is_some_and(Value::is_null);
        if null {
            self.left.remove(name);
        }
        null
    }

    /// Takes a property out as it is.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name)
    }

    /// A text; `null` is wrong.
    pub fn string(&mut self, name: &str) -> Option<String> {
        match self.left.remove(name)? {
            Value::String(text) => Some(text),
            other => self.type_error(name, &other),
        }
    }

    /// A text or `null`.
    pub fn nullable_string(&mut self, name: &str) -> Option<Option<String>> {
        match self.left.remove(name)? {
            Value::Null => Some(None),
            Value::String(text) => Some(Some(text)),
            other => self.type_error(name, &other),
        }
    }

    /// A text that must be there.
    pub fn required_string(&mut self, name: &str) -> Option<String> {
        self.require(name);
        self.string(name)
    }

    /// One of the values listed.
    pub fn choice(&mut self, name: &str, allowed: &[&str]) -> Option<String> {
        let text = self.string(name)?;
        if allowed.contains(&text.as_str()) {
            return Some(text);
        }
        let path = self.path(name);
        self.wrong.push(match &self.purpose {
            Purpose::Action(action) => message::action_parameter_value_not_in_list(&text, &path, action),
            Purpose::Create | Purpose::Update => message::property_value_not_in_list(&text, &path),
        });
        None
    }

    /// A truth value.
    pub fn boolean(&mut self, name: &str) -> Option<bool> {
        match self.left.remove(name)? {
            Value::Bool(value) => Some(value),
            other => self.type_error(name, &other),
        }
    }

    /// A whole number in a range.
    pub fn unsigned(&mut self, name: &str, least: u64, most: u64) -> Option<u64> {
        let value = self.left.remove(name)?;
        match value.as_u64() {
            Some(number) if (least..=most).contains(&number) => Some(number),
            None if !value.is_number() => self.type_error(name, &value),
            _ => self.range_error(name, &value),
        }
    }

    /// A number in a range.
    pub fn number(&mut self, name: &str, least: f64, most: f64) -> Option<f64> {
        let value = self.left.remove(name)?;
        match value.as_f64() {
            Some(number) if (least..=most).contains(&number) => Some(number),
            Some(_) => self.range_error(name, &value),
            None => self.type_error(name, &value),
        }
    }

    /// A list of texts.
    pub fn strings(&mut self, name: &str) -> Option<Vec<String>> {
        let value = self.left.remove(name)?;
        let list = value.as_array().and_then(|list| {
            list.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
        });
        list.or_else(|| self.type_error(name, &value))
    }

    /// A link: the URI in `{"@odata.id": "…"}`.
    pub fn link(&mut self, name: &str) -> Option<String> {
        let value = self.left.remove(name)?;
        link_uri(&value).or_else(|| self.type_error(name, &value))
    }

    /// A list of links.
    pub fn links(&mut self, name: &str) -> Option<Vec<String>> {
        let value = self.left.remove(name)?;
        let list =
            value.as_array().and_then(|list| list.iter().map(link_uri).collect::<Option<Vec<String>>>());
        list.or_else(|| self.type_error(name, &value))
    }

    /// A list of links as a PATCH changes it (DSP0266, "PATCH", arrays): `{}` keeps an element of the `old` list, `null` removes
    /// it, what is longer is added, what is shorter is cut off.
    pub fn changed_links(&mut self, name: &str, old: &[String]) -> Option<Vec<String>> {
        let value = self.left.remove(name)?;
        let Some(list) = value.as_array() else { return self.type_error(name, &value) };
        let mut new = Vec::with_capacity(list.len());
        for (index, element) in list.iter().enumerate() {
            match element {
                Value::Null => {}
                Value::Object(map) if map.is_empty() => new.extend(old.get(index).cloned()),
                other => match link_uri(other) {
                    Some(uri) => new.push(uri),
                    None => return self.type_error(&format!("{name}/{index}"), other),
                },
            }
        }
        Some(new)
    }

    /// An object, read by a closure. What is wrong inside is told with its path.
    pub fn object<T>(&mut self, name: &str, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        match self.left.remove(name)? {
            Value::Object(map) => {
                let mut inner = Self::new(self.purpose.clone(), format!("{}/", self.path(name)), map);
                let value = read(&mut inner);
                inner.tell_unknown();
                self.wrong.append(&mut inner.wrong);
                Some(value)
            }
            other => self.type_error(name, &other),
        }
    }

    /// Tells that a property is missing if it is.
    pub fn require(&mut self, name: &str) {
        if self.left.contains_key(name) {
            return;
        }
        let path = self.path(name);
        self.wrong.push(match &self.purpose {
            Purpose::Create => message::create_failed_missing_property(&path),
            Purpose::Update => message::property_missing(&path),
            Purpose::Action(action) => message::action_parameter_missing(action, &path),
        });
    }

    /// Tells that these cannot be written, if they were sent.
    pub fn read_only(&mut self, names: &[&str]) {
        for name in names {
            if self.left.remove(*name).is_some() {
                let path = self.path(name);
                self.wrong.push(message::property_not_writable(&path));
            }
        }
    }

    /// Tells that a value has the wrong form.
    pub fn format_error<T>(&mut self, name: &str, value: &str) -> Option<T> {
        let path = self.path(name);
        self.wrong.push(match &self.purpose {
            Purpose::Action(action) => message::action_parameter_value_format_error(value, &path, action),
            Purpose::Create | Purpose::Update => message::property_value_format_error(value, &path),
        });
        None
    }

    /// Path of a property inside the body: `Boot/BootSourceOverrideTarget`.
    pub fn path_of(&self, name: &str) -> String {
        self.path(name)
    }

    /// Tells something else that is wrong.
    pub fn reject(&mut self, message: Message) {
        self.wrong.push(message);
    }

    /// A truth value that can only be the one given.
    pub fn choice_of_boolean(&mut self, name: &str, only: bool) {
        if self.boolean(name).is_some_and(|value| value != only) {
            let path = self.path(name);
            self.wrong.push(message::property_value_not_in_list(&(!only).to_string(), &path));
        }
    }

    /// Ends the reading of a PATCH of which the right half may be carried out, as long as the other half is of properties that
    /// are unknown or cannot be written: nothing was meant to become of these.
    ///
    /// # Errors
    /// 400 if a value is wrong, if nothing is left to be done, or if there was nothing but annotations.
    pub fn finish_partly(mut self) -> Result<Ignored, ServiceError> {
        let sent = self.sent;
        self.tell_unknown();
        let harmless = |message: &Message| matches!(message.key(), "PropertyUnknown" | "PropertyNotWritable");
        if self.any && self.wrong.len() < sent && self.wrong.iter().all(harmless) {
            return Ok(Ignored(self.wrong));
        }
        self.finish().map(|()| Ignored(Vec::new()))
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// 400 with everything that was wrong; a PATCH with nothing but annotations is 400 `NoOperation`.
    pub fn finish(mut self) -> Result<(), ServiceError> {
        self.tell_unknown();
        if self.wrong.is_empty() && !self.any && matches!(self.purpose, Purpose::Update) {
            self.wrong.push(message::no_operation());
        }
        if self.wrong.is_empty() {
            Ok(())
        } else {
            Err(ServiceError::several(StatusCode::BAD_REQUEST, self.wrong))
        }
    }

    fn tell_unknown(&mut self) {
        for (name, _) in std::mem::take(&mut self.left) {
            let path = self.path(&name);
            self.wrong.push(match &self.purpose {
                Purpose::Action(action) => message::action_parameter_unknown(action, &path),
                Purpose::Update if self.prefix.is_empty() && IDENTITY.contains(&name.as_str()) => {
                    message::property_not_writable(&path)
                }
                Purpose::Create | Purpose::Update => message::property_unknown(&path),
            });
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn type_error<T>(&mut self, name: &str, value: &Value) -> Option<T> {
        let (path, text) = (self.path(name), value.to_string());
        self.wrong.push(match &self.purpose {
            Purpose::Action(action) => message::action_parameter_value_type_error(&text, &path, action),
            Purpose::Create | Purpose::Update => message::property_value_type_error(&text, &path),
        });
        None
    }

    fn range_error<T>(&mut self, name: &str, value: &Value) -> Option<T> {
        let (path, text) = (self.path(name), value.to_string());
        self.wrong.push(match &self.purpose {
            Purpose::Action(action) => message::action_parameter_value_out_of_range(&text, &path, action),
            Purpose::Create | Purpose::Update => message::property_value_out_of_range(&text, &path),
        });
        None
    }
}

/// The URI of a link, without a slash at the end.
fn link_uri(value: &Value) -> Option<String> {
    let uri = value.as_object()?.get("@odata.id")?.as_str()?;
    Some(uri.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    fn keys(result: Result<(), ServiceError>) -> Vec<String> {
        let messages = result.unwrap_err().messages;
        messages
            .iter()
            .map(|message| format!("{}({})", message.key(), message.message_args.join(",")))
            .collect()
    }

    #[test]
    fn everything_wrong_is_told_with_its_path() {
        let body = json!({"Boot": {"Target": "Tape", "Mode": 1, "Colour": "red"}, "Id": "2", "AssetTag": "x", "@odata.id": "/x"});
        let mut properties = Properties::update(object(&body));
        properties.object("Boot", |boot| {
            assert_eq!(boot.choice("Target", &["Cd", "Hdd"]), None);
            assert_eq!(boot.string("Mode"), None);
        });
        properties.read_only(&["AssetTag"]);
        assert_eq!(
            keys(properties.finish()),
            [
                "PropertyValueNotInList(Tape,Boot/Target)",
                "PropertyValueTypeError(1,Boot/Mode)",
                "PropertyUnknown(Boot/Colour)",
                "PropertyNotWritable(AssetTag)",
                "PropertyNotWritable(Id)"
            ]
        );
    }

    #[test]
    fn parameters_of_actions_have_words_of_their_own() {
        let mut parameters =
            Properties::action("VirtualMedia.InsertMedia", object(&json!({"Inserted": "yes", "Speed": 1})));
        assert_eq!(parameters.required_string("Image"), None);
        assert_eq!(parameters.boolean("Inserted"), None);
        assert_eq!(
            keys(parameters.finish()),
            [
                "ActionParameterMissing(VirtualMedia.InsertMedia,Image)",
                "ActionParameterValueTypeError(\"yes\",Inserted,VirtualMedia.InsertMedia)",
                "ActionParameterUnknown(VirtualMedia.InsertMedia,Speed)"
            ]
        );
    }

    #[test]
    fn numbers_links_and_lists_are_checked() {
        let body = json!({"A": 5, "B": 50, "C": -1, "D": {"@odata.id": "/x/"}, "E": [{"@odata.id": "/y"}], "F": ["a", 1]});
        let mut properties = Properties::create(object(&body));
        assert_eq!(properties.unsigned("A", 1, 10), Some(5));
        assert_eq!((properties.unsigned("B", 1, 10), properties.unsigned("C", 1, 10)), (None, None));
        assert_eq!(properties.link("D"), Some("/x".to_owned()));
        assert_eq!(properties.links("E"), Some(vec!["/y".to_owned()]));
        assert_eq!(properties.strings("F"), None);
        let told = keys(properties.finish());
        assert_eq!(told.len(), 3);
        assert!(told[0].starts_with("PropertyValueOutOfRange(50,B"));
    }

    #[test]
    fn the_right_half_of_a_patch_may_be_carried_out() {
        let read = |body: &Value| {
            let mut properties = Properties::update(object(body));
            properties.boolean("Enabled");
            properties.read_only(&["UserName"]);
            properties.finish_partly()
        };
        let mut body = json!({"Enabled": true});
        read(&json!({"Enabled": true, "Colour": "red", "UserName": "x"})).unwrap().annotate(&mut body);
        assert_eq!(body["@Message.ExtendedInfo"].as_array().unwrap().len(), 2);
        assert_eq!(body["Colour@Message.ExtendedInfo"][0]["MessageArgs"][0], "Colour");
        let refused = |body: Value| read(&body).unwrap_err().messages.first().unwrap().key().to_owned();
        assert_eq!(refused(json!({"Enabled": 1, "Colour": "red"})), "PropertyValueTypeError");
        assert_eq!(refused(json!({"Colour": "red"})), "PropertyUnknown");
        assert_eq!(refused(json!({"@odata.id": "/x"})), "NoOperation");
    }

    #[test]
    fn lists_of_links_are_changed_element_by_element() {
        let old = ["/a".to_owned(), "/b".to_owned(), "/c".to_owned()];
        let change = |list: Value| Properties::update(object(&json!({"L": list}))).changed_links("L", &old);
        assert_eq!(change(json!([{}, null, {}, {"@odata.id": "/d"}])).unwrap(), ["/a", "/c", "/d"]);
        assert_eq!(change(json!([{"@odata.id": "/x"}])).unwrap(), ["/x"]);
        assert_eq!(change(json!([])).unwrap(), [""; 0]);
        assert_eq!(change(json!([1])), None);
    }

    #[test]
    fn only_annotations_are_no_operation() {
        let told = keys(Properties::update(object(&json!({"@odata.id": "/x"}))).finish());
        assert_eq!(told, ["NoOperation()"]);
    }
}
