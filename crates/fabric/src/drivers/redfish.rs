//! Fabric services that speak Redfish: switches with Drystone's forwarding table, and fabric agents.

use std::{collections::BTreeMap, time::Duration};

use drystone_api::{FabricRouting, SwitchStatus};
use drystone_redfish::client::{
    CertificateCheck, Client, CrawlOptions, CrawlReport, Found, Options, RawResource, RedfishError,
};
use serde_json::{Value, json};

use super::{
    Answer, CrawledService, Credentials, DriverError, Drivers, FabricService, TableChange, ZoneRecord,
    topology::TopologyBuilder,
};
use crate::model::ForwardingTable;

/// Where fabrics are.
const ROOT: &str = "/redfish/v1";
const FABRICS: &str = "/redfish/v1/Fabrics";

/// Requests at one time while crawling.
const CRAWL_CONCURRENCY: usize = 16;

/// Limits of a request: switches answer at once or not at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const REQUEST_LIMIT: Duration = Duration::from_secs(15);

/// Makes Redfish drivers.
#[derive(Debug, Clone, Copy, Default)]
pub struct RedfishDrivers;

impl Drivers for RedfishDrivers {
    fn open(
        &self,
        address: &str,
        credentials: Option<&Credentials>,
        verify_tls: bool,
    ) -> Result<Box<dyn FabricService>, DriverError> {
        let check = if verify_tls { CertificateCheck::Platform } else { CertificateCheck::Disabled };
        let mut options = Options::new(address).certificates(check).timeouts(CONNECT_LIMIT, REQUEST_LIMIT);
        if let Some(credentials) = credentials {
            options = options.credentials(&credentials.username, &credentials.password);
        }
        let client = Client::new(options).map_err(|error| DriverError::Refused {
            service: address.to_owned(),
            doing: "reading the address".to_owned(),
            reason: error.to_string(),
            lasting: true,
        })?;
        Ok(Box::new(RedfishService { client }))
    }
}

struct RedfishService {
    client: Client,
}

impl RedfishService {
    fn error(&self, doing: &str, error: &RedfishError) -> DriverError {
        let service = self.client.base().to_string();
        match error {
            RedfishError::Unauthorized { .. } => DriverError::Unauthorized { service },
            RedfishError::Timeout { .. } | RedfishError::Unreachable { .. } => {
                DriverError::Unreachable { service, reason: error.to_string() }
            }
            _ => DriverError::Refused {
                service,
                doing: doing.to_owned(),
                reason: error.to_string(),
                lasting: matches!(error.status(), Some(400 | 403 | 405 | 413 | 422 | 501 | 507)),
            },
        }
    }

    fn table_uri(fabric: &str, switch: &str) -> String {
        format!("{FABRICS}/{fabric}/Switches/{switch}/Oem/Drystone/ForwardingTable")
    }

    /// Crawls, and keeps what makes a topology; all resources where somebody wants them.
    async fn topology(
        &self,
        options: &CrawlOptions,
        mut keep: Option<&mut Vec<RawResource>>,
    ) -> Result<(TopologyBuilder, CrawlReport), DriverError> {
        let mut builder = TopologyBuilder::default();
        let mut sink = |found| {
            if let Found::Read(resource) = found {
                builder.add(&resource.uri, &resource.body);
                if let Some(keep) = &mut keep {
                    keep.push(resource);
                }
            }
        };
        let report = self.client.crawl_raw(options, &(), &mut sink).await;
        let report = report.map_err(|error| self.error("crawling fabrics", &error))?;
        Ok((builder, report))
    }

    fn parse_table(&self, body: &Value) -> Result<ForwardingTable, DriverError> {
        serde_json::from_value(body.clone()).map_err(|error| DriverError::Refused {
            service: self.client.base().to_string(),
            doing: "reading a forwarding table".to_owned(),
            reason: error.to_string(),
            lasting: false,
        })
    }

    async fn table(&self, fabric: &str, switch: &str) -> Result<ForwardingTable, DriverError> {
        let resource = self.client.get(&Self::table_uri(fabric, switch)).await;
        let resource = resource.map_err(|error| self.error("reading a forwarding table", &error))?;
        self.parse_table(&resource.body)
    }
}

impl FabricService for RedfishService {
    fn client(&self) -> &Client {
        &self.client
    }

    fn crawl(&self) -> Answer<'_, CrawledService> {
        Box::pin(async {
            let options = CrawlOptions::new([FABRICS]).within(FABRICS).concurrency(CRAWL_CONCURRENCY);
            let (builder, report) = self.topology(&options, None).await?;
            let fabrics = builder.fabrics();
            let mut service = CrawledService {
                resources: report.read,
                complete: !report.truncated && report.failed.keys().all(|uri| !uri.starts_with(FABRICS)),
                tree: Vec::new(),
                fabrics,
            };
            if service.fabrics.iter().any(|fabric| fabric.routing == FabricRouting::Agent) {
                let options = CrawlOptions::new([ROOT]).concurrency(CRAWL_CONCURRENCY);
                let (_, report) = self.topology(&options, Some(&mut service.tree)).await?;
                service.resources = report.read;
                service.complete &= !report.truncated;
            }
            Ok(service)
        })
    }

    fn crawl_switches<'a>(&'a self, uris: &'a [String]) -> Answer<'a, BTreeMap<String, SwitchStatus>> {
        Box::pin(async move {
            let mut options = CrawlOptions::new(uris.iter().cloned()).concurrency(CRAWL_CONCURRENCY);
            for uri in uris {
                // The table is not looked at here, and may be large.
                options = options.within(uri.clone()).without(format!("{uri}/Oem"));
            }
            let (builder, report) = self.topology(&options, None).await?;
            if let Some((uri, error)) = report.failed.iter().find(|(_, error)| error.status() != Some(404)) {
                return Err(self.error(&format!("reading {uri}"), error));
            }
            Ok(builder.switches())
        })
    }

    fn read_table<'a>(&'a self, fabric: &'a str, switch: &'a str) -> Answer<'a, ForwardingTable> {
        Box::pin(self.table(fabric, switch))
    }

    fn change_table<'a>(
        &'a self,
        fabric: &'a str,
        switch: &'a str,
        change: &'a TableChange,
    ) -> Answer<'a, ForwardingTable> {
        Box::pin(async move {
            let body = json!({"Zones": change});
            let needed = |present: &Value| {
                let zones = present.get("Zones");
                let differs = change.iter().any(|(id, wanted)| {
                    let now = zones
                        .and_then(|zones| zones.get(id))
                        .and_then(|zone| serde_json::from_value(zone.clone()).ok());
                    now.as_ref() != wanted.as_ref()
                });
                differs.then(|| body.clone())
            };
            let changed = self.client.modify(&Self::table_uri(fabric, switch), needed).await;
            changed.map_err(|error| self.error("changing a forwarding table", &error))?;
            // Read back: what counts is what the switch says it has.
            self.table(fabric, switch).await
        })
    }

    fn record_zone<'a>(
        &'a self,
        fabric: &'a str,
        id: &'a str,
        zone: Option<&'a ZoneRecord>,
    ) -> Answer<'a, Option<String>> {
        Box::pin(async move {
            let collection = format!("{FABRICS}/{fabric}/Zones");
            let uri = format!("{collection}/{id}");
            let doing = "showing a zone";
            let Some(zone) = zone else {
                let deleted = self.client.delete(&uri).await;
                return match deleted {
                    Err(error) if !takes_no_zones(&error) => Err(self.error(doing, &error)),
                    _ => Ok(None),
                };
            };
            if self.client.get(&uri).await.is_ok() {
                self.client.delete(&uri).await.map_err(|error| self.error(doing, &error))?;
            }
            let links: Vec<Value> = zone
                .endpoints
                .iter()
                .map(|id| json!({"@odata.id": format!("{FABRICS}/{fabric}/Endpoints/{id}")}))
                .collect();
            let body = json!({
                "@odata.id": uri, "Id": zone.id, "Name": zone.id, "ZoneType": "ZoneOfEndpoints",
                "DefaultRoutingEnabled": true, "Links": {"Endpoints": links},
            });
            match self.client.create(&collection, &body).await {
                Ok(outcome) => Ok(Some(outcome.location().map_or(uri, str::to_owned))),
                Err(error) if takes_no_zones(&error) => Ok(None),
                Err(error) => Err(self.error(doing, &error)),
            }
        })
    }
}

/// A service that only forwards: it has no zones of its own to show, or knows only a part of the zone's endpoints.
fn takes_no_zones(error: &RedfishError) -> bool {
    matches!(error.status(), Some(400 | 404 | 405 | 501))
}
