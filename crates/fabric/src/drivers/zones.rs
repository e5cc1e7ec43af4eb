//! Zones into Redfish services: into the tables of switches, and into the trees of those who show zones.

use std::collections::BTreeSet;

use drystone_redfish::{client::RedfishError, etag::ETag};
use serde_json::{Value, json};

use super::{
    DriverError, Programmed, ZoneEntry, ZoneRecord,
    redfish::{FABRICS, RedfishService},
    tables::KnownTable,
};
use crate::model::{ForwardingTable, ForwardingZone};

/// How often a table is begun anew with because somebody else was quicker.
const ATTEMPTS: usize = 8;

/// What became of an attempt to write.
enum Attempt {
    /// Written, and read back: the entry that the switch shows then.
    ReadBack(Option<ForwardingZone>),
    /// The table is another one than was known.
    Outdated,
    /// The service has no resource for each zone.
    WholeOnly,
}

impl RedfishService {
    /// Brings a zone in a switch's table to what is wanted.
    ///
    /// What is known of the table is good as long as the table's entity tag is the one last seen: then a zone is written under
    /// that tag and read back by itself. Anything else, and the whole table is read again.
    pub(super) async fn bring_about(&self, wanted: ZoneEntry<'_>) -> Result<Programmed, DriverError> {
        let slot = self.tables.of(wanted.fabric, wanted.switch);
        // Of this process one at a time: several would only refuse each other's tags.
        let mut known = slot.lock().await;
        let done = self.attempt(&mut known, wanted).await;
        if done.is_err() {
            known.forget();
        }
        done
    }

    async fn attempt(
        &self,
        known: &mut KnownTable,
        wanted: ZoneEntry<'_>,
    ) -> Result<Programmed, DriverError> {
        let (mut changed, mut checked) = (false, false);
        for _ in 0..ATTEMPTS {
            let Some(etag) = known.etag() else {
                let (etag, table) = self.read_whole(wanted.fabric, wanted.switch).await?;
                known.learn(etag, table);
                checked = true;
                if known.etag().is_none() {
                    let reason = "the table has no entity tag";
                    return Err(self.refused("reading a forwarding table", reason));
                }
                continue;
            };
            if known.has(wanted.zone, wanted.entry) {
                if checked || self.is_current(&etag, wanted.fabric, wanted.switch).await? {
                    return Ok(Programmed { table: known.excerpt(wanted), changed });
                }
                known.forget();
                continue;
            }
            changed = true;
            let attempt = match self.write(&etag, known, wanted).await? {
                Attempt::WholeOnly => self.write_whole(&etag, known, wanted).await?,
                other => other,
            };
            match attempt {
                Attempt::ReadBack(shown) => {
                    if shown.as_ref() != wanted.entry {
                        let mut table = ForwardingTable::default();
                        table.zones.extend(shown.map(|entry| (wanted.zone.to_owned(), entry)));
                        known.forget();
                        return Ok(Programmed { table, changed });
                    }
                    // It was read back just now.
                    checked = true;
                }
                Attempt::Outdated | Attempt::WholeOnly => known.forget(),
            }
        }
        Err(self.refused("changing a forwarding table", "somebody else changes it all the time"))
    }

    /// Writes the zone's own resource, and reads it back.
    async fn write(
        &self,
        etag: &ETag,
        known: &mut KnownTable,
        wanted: ZoneEntry<'_>,
    ) -> Result<Attempt, DriverError> {
        let uri = format!("{}/Zones/{}", table_uri(wanted.fabric, wanted.switch), wanted.zone);
        let written = match wanted.entry {
            Some(entry) => self.client.put(&uri, &json!(entry), etag).await,
            None => self.client.delete_if(&uri, etag).await,
        };
        let after = match written {
            Ok(after) => after,
            Err(error) if error.status() == Some(412) => return Ok(Attempt::Outdated),
            Err(error) if matches!(error.status(), Some(404 | 405 | 501)) => return Ok(Attempt::WholeOnly),
            Err(error) => return Err(self.error("changing a forwarding table", &error)),
        };
        // What counts is what the switch says it has when it is asked, not what it says it will have.
        let shown = match self.client.get(&uri).await {
            Ok(resource) => Some(resource),
            Err(error) if error.status() == Some(404) => None,
            Err(error) => return Err(self.error("reading a forwarding table", &error)),
        };
        let seen = shown.as_ref().map_or_else(|| after.clone(), |resource| resource.etag.clone());
        let entry = shown.map(|resource| self.parse(resource.body)).transpose()?;
        if entry.as_ref() == wanted.entry {
            if after.is_none() || seen != after {
                return Ok(Attempt::Outdated);
            }
            known.change(after, wanted.zone, wanted.entry);
        }
        Ok(Attempt::ReadBack(entry))
    }

    /// Writes the zone by a PATCH of its table, for services whose zones are no resources; what is there then is read anew.
    async fn write_whole(
        &self,
        etag: &ETag,
        known: &mut KnownTable,
        wanted: ZoneEntry<'_>,
    ) -> Result<Attempt, DriverError> {
        let uri = table_uri(wanted.fabric, wanted.switch);
        let body = json!({"Zones": {wanted.zone: wanted.entry}});
        match self.client.patch(&uri, &body, Some(etag)).await {
            Ok(_) => {}
            Err(error) if error.status() == Some(412) => return Ok(Attempt::Outdated),
            Err(error) => return Err(self.error("changing a forwarding table", &error)),
        }
        let (etag, table) = self.read_whole(wanted.fabric, wanted.switch).await?;
        let entry = table.zones.get(wanted.zone).cloned();
        known.learn(etag, table);
        Ok(Attempt::ReadBack(entry))
    }

    /// Ids of the zones in a switch's table.
    pub(super) async fn ids(&self, fabric: &str, switch: &str) -> Result<BTreeSet<String>, DriverError> {
        let slot = self.tables.of(fabric, switch);
        let mut known = slot.lock().await;
        if let Some(etag) = known.etag()
            && self.is_current(&etag, fabric, switch).await?
        {
            return Ok(known.ids());
        }
        let (etag, table) = self.read_whole(fabric, switch).await?;
        let ids = table.zones.keys().cloned().collect();
        known.learn(etag, table);
        Ok(ids)
    }

    /// Whether the switch's table still has an entity tag.
    async fn is_current(&self, etag: &ETag, fabric: &str, switch: &str) -> Result<bool, DriverError> {
        let uri = table_uri(fabric, switch);
        let changed = self.client.get_if_changed(&uri, etag).await;
        let changed = changed.map_err(|error| self.error("reading a forwarding table", &error))?;
        Ok(changed.is_none_or(|resource| resource.etag.as_ref() == Some(etag)))
    }

    /// A whole table, and its entity tag.
    pub(super) async fn read_whole(
        &self,
        fabric: &str,
        switch: &str,
    ) -> Result<(Option<ETag>, ForwardingTable), DriverError> {
        let resource = self.client.get(&table_uri(fabric, switch)).await;
        let resource = resource.map_err(|error| self.error("reading a forwarding table", &error))?;
        Ok((resource.etag, self.parse(resource.body)?))
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, body: Value) -> Result<T, DriverError> {
        serde_json::from_value(body)
            .map_err(|error| self.refused("reading a forwarding table", &error.to_string()))
    }

    fn refused(&self, doing: &str, reason: &str) -> DriverError {
        DriverError::Refused {
            service: self.client.base().to_string(),
            doing: doing.to_owned(),
            reason: reason.to_owned(),
            lasting: false,
        }
    }

    /// Shows a zone in the service's tree, or takes it away.
    pub(super) async fn show_zone(
        &self,
        fabric: &str,
        id: &str,
        zone: Option<&ZoneRecord>,
    ) -> Result<Option<String>, DriverError> {
        let collection = format!("{FABRICS}/{fabric}/Zones");
        let uri = format!("{collection}/{id}");
        let failed = |error: RedfishError| self.error("showing a zone", &error);
        let Some(zone) = zone else {
            return match self.client.delete(&uri).await {
                Err(error) if !takes_no_zones(&error) => Err(failed(error)),
                _ => Ok(None),
            };
        };
        let link = |id: &String| json!({"@odata.id": format!("{FABRICS}/{fabric}/Endpoints/{id}")});
        let links = json!({"Endpoints": zone.endpoints.iter().map(link).collect::<Vec<_>>()});
        if zone.shown {
            match self.client.patch(&uri, &json!({"Links": links}), None).await {
                Ok(_) => return Ok(Some(uri)),
                // Gone, or not to be changed: it is made anew.
                Err(error) if matches!(error.status(), Some(404)) => {}
                Err(error) if takes_no_zones(&error) => {
                    self.client.delete(&uri).await.map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        let body = json!({
            "@odata.id": uri, "Id": zone.id, "Name": zone.id, "ZoneType": "ZoneOfEndpoints",
            "DefaultRoutingEnabled": true, "Links": links,
        });
        match self.client.create(&collection, &body).await {
            Ok(outcome) => Ok(Some(outcome.location().map_or(uri, str::to_owned))),
            Err(error) if takes_no_zones(&error) => Ok(None),
            // A zone of this id that nobody knew of any more: it becomes this one.
            Err(error) if error.status() == Some(409) && self.client.get(&uri).await.is_ok() => {
                self.client.delete(&uri).await.map_err(failed)?;
                let outcome = self.client.create(&collection, &body).await.map_err(failed)?;
                Ok(Some(outcome.location().map_or(uri, str::to_owned)))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

fn table_uri(fabric: &str, switch: &str) -> String {
    format!("{FABRICS}/{fabric}/Switches/{switch}/Oem/Drystone/ForwardingTable")
}

/// A service that only forwards: it has no zones of its own to show, or knows only a part of the zone's endpoints.
fn takes_no_zones(error: &RedfishError) -> bool {
    matches!(error.status(), Some(400 | 404 | 405 | 501))
}
