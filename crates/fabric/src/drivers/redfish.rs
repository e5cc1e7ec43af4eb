//! Fabric services that speak Redfish: switches with Drystone's forwarding table, and fabric agents.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drystone_api::{FabricRouting, SwitchStatus};
use drystone_redfish::client::{
    CertificateCheck, Client, CrawlOptions, CrawlReport, Found, Options, RawResource, RedfishError,
};

use super::{
    Answer, CrawledService, Credentials, DriverError, Drivers, FabricService, Programmed, ZoneEntry,
    ZoneRecord, tables::KnownTables, topology::TopologyBuilder,
};
use crate::model::ForwardingTable;

/// Where fabrics are.
const ROOT: &str = "/redfish/v1";
pub(super) const FABRICS: &str = "/redfish/v1/Fabrics";

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
        Ok(Box::new(RedfishService { client, tables: KnownTables::default() }))
    }
}

pub(super) struct RedfishService {
    pub(super) client: Client,
    pub(super) tables: KnownTables,
}

impl RedfishService {
    pub(super) fn error(&self, doing: &str, error: &RedfishError) -> DriverError {
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
        Box::pin(async move { Ok(self.read_whole(fabric, switch).await?.1) })
    }

    fn zones_in<'a>(&'a self, fabric: &'a str, switch: &'a str) -> Answer<'a, BTreeSet<String>> {
        Box::pin(self.ids(fabric, switch))
    }

    fn program_zone<'a>(&'a self, wanted: ZoneEntry<'a>) -> Answer<'a, Programmed> {
        Box::pin(self.bring_about(wanted))
    }

    fn record_zone<'a>(
        &'a self,
        fabric: &'a str,
        id: &'a str,
        zone: Option<&'a ZoneRecord>,
    ) -> Answer<'a, Option<String>> {
        Box::pin(self.show_zone(fabric, id, zone))
    }
}
