//! A fabric of two switches with three endpoints each, which keep what is written into them whatever becomes of the writer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use drystone_api::{FabricRouting, SwitchEndpoint, SwitchLink, SwitchSpec, SwitchStatus};
use drystone_fabric::{
    drivers::{
        Answer, CrawledFabric, CrawledService, Credentials, DriverError, Drivers, FabricService, Programmed,
        ZoneEntry, ZoneRecord,
    },
    model::ForwardingTable,
};
use drystone_redfish::client::{Client, Options};

/// What the switches have.
#[derive(Default)]
pub(crate) struct Hardware {
    pub(crate) tables: BTreeMap<String, ForwardingTable>,
    pub(crate) shown: BTreeSet<String>,
    /// Whoever writes into a table is never answered: it is killed before it can go on.
    pub(crate) silent: bool,
    /// Writes into tables that were carried out.
    pub(crate) written: usize,
    /// Whole tables that were read.
    pub(crate) read: usize,
}

/// The switches; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Switches(Arc<Mutex<Hardware>>);

impl Switches {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Hardware> {
        self.0.lock().unwrap()
    }

    /// Switches that have a zone, with the zone's tag there.
    pub(crate) fn having(&self, zone: &str) -> BTreeMap<String, u32> {
        let hardware = self.lock();
        let tag = |table: &ForwardingTable| table.zones.get(zone).map(|entry| entry.tag);
        hardware.tables.iter().filter_map(|(id, table)| Some((id.clone(), tag(table)?))).collect()
    }
}

impl Drivers for Switches {
    fn open(
        &self,
        address: &str,
        _: Option<&Credentials>,
        _: bool,
    ) -> Result<Box<dyn FabricService>, DriverError> {
        let client = Client::new(Options::new(address)).unwrap();
        Ok(Box::new(Service { switches: self.clone(), client }))
    }
}

struct Service {
    switches: Switches,
    client: Client,
}

fn switch(id: &str, peer: &str, first: u32) -> (SwitchSpec, SwitchStatus) {
    let spec = SwitchSpec {
        id: id.to_owned(),
        fabric: "F".to_owned(),
        fabric_type: "Ethernet".to_owned(),
        uri: format!("/redfish/v1/Fabrics/F/Switches/{id}"),
        ..SwitchSpec::default()
    };
    let endpoint = |number: u32| SwitchEndpoint {
        id: format!("e{number}"),
        mac: format!("02:00:00:00:00:0{number}"),
        port: format!("p{number}"),
        speed_gbps: 100,
        ..SwitchEndpoint::default()
    };
    let link = SwitchLink {
        port: "isl".to_owned(),
        peer_switch: peer.to_owned(),
        peer_port: "isl".to_owned(),
        speed_gbps: 400,
        down: false,
    };
    let status = SwitchStatus {
        endpoints: (first..first + 3).map(endpoint).collect(),
        links: vec![link],
        link_count: 1,
        endpoint_count: 3,
        ..SwitchStatus::default()
    };
    (spec, status)
}

impl FabricService for Service {
    fn client(&self) -> &Client {
        &self.client
    }

    fn crawl(&self) -> Answer<'_, CrawledService> {
        let fabric = CrawledFabric {
            id: "F".to_owned(),
            fabric_type: "Ethernet".to_owned(),
            uuid: String::new(),
            routing: FabricRouting::Drystone,
            switches: vec![switch("a", "b", 1), switch("b", "a", 4)],
            endpoint_count: 6,
        };
        Box::pin(async {
            Ok(CrawledService { fabrics: vec![fabric], resources: 20, complete: true, tree: Vec::new() })
        })
    }

    fn crawl_switches<'a>(&'a self, _: &'a [String]) -> Answer<'a, BTreeMap<String, SwitchStatus>> {
        Box::pin(async { Ok(BTreeMap::new()) })
    }

    fn read_table<'a>(&'a self, _: &'a str, switch: &'a str) -> Answer<'a, ForwardingTable> {
        Box::pin(async move {
            let mut hardware = self.switches.lock();
            hardware.read += 1;
            Ok(hardware.tables.get(switch).cloned().unwrap_or_default())
        })
    }

    fn zones_in<'a>(&'a self, _: &'a str, switch: &'a str) -> Answer<'a, BTreeSet<String>> {
        Box::pin(async move {
            let hardware = self.switches.lock();
            Ok(hardware.tables.get(switch).iter().flat_map(|table| table.zones.keys().cloned()).collect())
        })
    }

    fn program_zone<'a>(&'a self, wanted: ZoneEntry<'a>) -> Answer<'a, Programmed> {
        Box::pin(async move {
            let (programmed, silent) = {
                let mut hardware = self.switches.lock();
                let silent = hardware.silent;
                let table = hardware.tables.entry(wanted.switch.to_owned()).or_default();
                let changed = table.zones.get(wanted.zone) != wanted.entry;
                let taken = |(id, other): (&String, &drystone_fabric::model::ForwardingZone)| {
                    id != wanted.zone && wanted.entry.is_some_and(|entry| entry.tag == other.tag)
                };
                if table.zones.iter().any(taken) {
                    return Err(DriverError::Refused {
                        service: "switches".to_owned(),
                        doing: "changing a table".to_owned(),
                        reason: "another zone has the tag".to_owned(),
                        lasting: false,
                    });
                }
                match wanted.entry {
                    Some(entry) => drop(table.zones.insert(wanted.zone.to_owned(), entry.clone())),
                    None => drop(table.zones.remove(wanted.zone)),
                }
                let programmed = Programmed { table: table.clone(), changed };
                hardware.written += usize::from(changed);
                (programmed, silent && changed)
            };
            if silent {
                std::future::pending::<()>().await;
            }
            Ok(programmed)
        })
    }

    fn record_zone<'a>(
        &'a self,
        fabric: &'a str,
        id: &'a str,
        zone: Option<&'a ZoneRecord>,
    ) -> Answer<'a, Option<String>> {
        Box::pin(async move {
            let mut hardware = self.switches.lock();
            if zone.is_some() {
                hardware.shown.insert(id.to_owned());
            } else {
                hardware.shown.remove(id);
            }
            Ok(zone.map(|_| format!("/redfish/v1/Fabrics/{fabric}/Zones/{id}")))
        })
    }
}
