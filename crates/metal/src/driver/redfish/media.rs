//! Virtual media.

use drystone_redfish::{
    client::RedfishError,
    types::{Manager, VirtualMedia},
};
use serde_json::{Map, Value, json};
use url::Url;

use super::{DriverError, RedfishHost, System, action};

/// Where managers are, for systems that do not say which of them is theirs.
const MANAGERS: &str = "/redfish/v1/Managers";

/// How often an insertion is tried with more parameters, and how often with the same when the controller fails.
const INSERTIONS: u32 = 4;
const FAILURES: u32 = 3;

/// A slot for media.
pub(super) struct Slot {
    uri: String,
    pub(super) media: VirtualMedia,
}

impl Slot {
    fn takes_discs(&self) -> bool {
        self.media.media_types.iter().any(|kind| kind == "CD" || kind == "DVD")
    }
}

/// What came of a slot.
enum Insertion {
    Inserted,
    /// This slot takes no such media; another one may.
    NotHere(RedfishError),
}

impl RedfishHost {
    /// Slots of the system itself, else of its managers; those for discs first.
    pub(super) async fn slots(&self, system: &System) -> Result<Vec<Slot>, DriverError> {
        let mut slots = Vec::new();
        if let Some(link) = &system.value.virtual_media {
            slots = self.slots_in(&link.odata_id).await?;
        }
        if !slots.iter().any(Slot::takes_discs) {
            for collection in self.collections_of_managers(system).await? {
                slots.extend(self.slots_in(&collection).await?);
            }
        }
        slots.sort_by_key(|slot| !slot.takes_discs());
        Ok(slots)
    }

    async fn collections_of_managers(&self, system: &System) -> Result<Vec<String>, DriverError> {
        let doing = "reading the manager";
        let mut managers: Vec<String> =
            system.value.links.managed_by.iter().map(|link| link.odata_id.clone()).collect();
        if managers.is_empty() {
            managers = match self.client.members(MANAGERS).await {
                Err(error) if error.status() == Some(404) => Vec::new(),
                members => members.map_err(|error| self.error(doing, &error))?,
            };
        }
        let mut collections = Vec::new();
        for manager in managers {
            let manager = self.client.get_as::<Manager>(&manager).await;
            let manager = manager.map_err(|error| self.error(doing, &error))?.value;
            collections.extend(manager.virtual_media.map(|link| link.odata_id));
        }
        Ok(collections)
    }

    async fn slots_in(&self, collection: &str) -> Result<Vec<Slot>, DriverError> {
        let doing = "reading virtual media";
        let mut slots = Vec::new();
        let members = self.client.members(collection).await.map_err(|error| self.error(doing, &error))?;
        for uri in members {
            let media = self.client.get_as::<VirtualMedia>(&uri).await;
            slots.push(Slot { uri, media: media.map_err(|error| self.error(doing, &error))?.value });
        }
        Ok(slots)
    }

    /// Inserts a medium into the first slot that takes it. What is in a slot for discs is ejected even if it is the same:
    /// some controllers say that there is what is there no longer.
    pub(super) async fn insert(&self, system: &System, image: &Url) -> Result<(), DriverError> {
        let doing = "inserting the medium";
        let mut last = None;
        for slot in self.slots(system).await?.iter().filter(|slot| slot.takes_discs()) {
            let occupied = slot.media.image.as_deref().is_some_and(|present| !present.is_empty());
            if occupied || slot.media.inserted == Some(true) {
                self.eject_slot(slot).await?;
            }
            match self.insert_into(slot, image).await.map_err(|error| self.error(doing, &error))? {
                Insertion::Inserted => return Ok(()),
                Insertion::NotHere(error) => last = Some(error),
            }
        }
        Err(match last {
            Some(error) => self.error(doing, &error),
            None => self.refused(doing, "the controller has no virtual media for discs"),
        })
    }

    async fn insert_into(&self, slot: &Slot, image: &Url) -> Result<Insertion, RedfishError> {
        let Some(target) = action(&slot.media.actions, "VirtualMedia.InsertMedia") else {
            return self.insert_by_change(slot, image).await;
        };
        let mut parameters = Map::new();
        parameters.insert("Image".to_owned(), json!(image.as_str()));
        let (mut attempts, mut failures) = (1, 1);
        loop {
            let body = Value::Object(parameters.clone());
            let Err(error) = self.client.action(&target, &body).await else {
                return Ok(Insertion::Inserted);
            };
            let code = error.status().unwrap_or_default();
            if code >= 500 && failures < FAILURES {
                failures += 1;
                tokio::time::sleep(self.pauses.insertion).await;
            } else if attempts < INSERTIONS && add_what_is_asked(&mut parameters, &error, image) {
                attempts += 1;
            } else if code == 405 {
                // The action is published and not there: some of these change the resource.
                return self.insert_by_change(slot, image).await;
            } else if code == 400 {
                return Ok(Insertion::NotHere(error));
            } else {
                return Err(error);
            }
        }
    }

    /// For controllers without the action.
    async fn insert_by_change(&self, slot: &Slot, image: &Url) -> Result<Insertion, RedfishError> {
        let body = json!({"Image": image.as_str(), "Inserted": true, "WriteProtected": true});
        match self.client.modify(&slot.uri, |_| Some(body.clone())).await {
            Ok(_) => Ok(Insertion::Inserted),
            Err(error) if matches!(error.status(), Some(400 | 404 | 405)) => Ok(Insertion::NotHere(error)),
            Err(error) => Err(error),
        }
    }

    /// Ejects what is in a slot; that nothing is there is as good.
    pub(super) async fn eject_slot(&self, slot: &Slot) -> Result<(), DriverError> {
        let by_change = async || {
            let body = json!({"Image": null, "Inserted": false});
            self.client.modify(&slot.uri, |_| Some(body.clone())).await.map(drop)
        };
        let done = match action(&slot.media.actions, "VirtualMedia.EjectMedia") {
            Some(target) => match self.client.action(&target, &json!({})).await {
                Err(error) if matches!(error.status(), Some(404 | 405)) => by_change().await,
                other => other.map(drop),
            },
            None => by_change().await,
        };
        match done {
            Err(error) if matches!(error.status(), Some(400 | 409)) => {
                let media = self.client.get_as::<VirtualMedia>(&slot.uri).await;
                let empty = media.is_ok_and(|media| media.value.inserted == Some(false));
                if empty { Ok(()) } else { Err(self.error("ejecting the medium", &error)) }
            }
            done => done.map_err(|error| self.error("ejecting the medium", &error)),
        }
    }
}

/// Adds the parameters that a refusal asks for. False if it asks for none that are known and were not sent.
fn add_what_is_asked(parameters: &mut Map<String, Value>, error: &RedfishError, image: &Url) -> bool {
    let RedfishError::Status { messages, .. } = error else { return false };
    let mut text = String::new();
    for message in messages {
        text.push_str(&message.message);
        text.push_str(&message.message_args.join(" "));
        text.push_str(&message.related_properties.join(" "));
    }
    let protocol = image.scheme().to_ascii_uppercase();
    let known: [(&str, &str); 4] = [
        ("TransferProtocolType", &protocol),
        ("TransferMethod", "Stream"),
        ("UserName", "none"),
        ("Password", "none"),
    ];
    let mut added = false;
    for (name, value) in known {
        if text.contains(name) && !parameters.contains_key(name) {
            parameters.insert(name.to_owned(), json!(value));
            added = true;
        }
    }
    added
}
