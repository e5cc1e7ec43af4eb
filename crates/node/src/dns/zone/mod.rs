//! The names of a cluster: Services and EndpointSlices → records, after the Kubernetes DNS specification 1.1.0. Pure.

mod service;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

use hickory_proto::{
    ProtoError,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, CNAME, PTR, SOA, TXT},
    },
};
use ipnet::Ipv4Net;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

use self::service::Entry;
use crate::networking::services::SlicesByService;

/// How long a record counts, in seconds; how long its absence does, too. Pods come and go.
pub const TTL: u32 = 5;
/// The version of the specification.
const SCHEMA_VERSION: &str = "1.1.0";

/// What all zones of a cluster have in common.
#[derive(Debug, Clone)]
pub struct Domain {
    /// The cluster's domain, `cluster.local.`.
    pub origin: Name,
    /// Addresses of pods.
    pub pods: Ipv4Net,
    /// Addresses of Services.
    pub services: Ipv4Net,
}

impl Domain {
    /// A domain of this name.
    ///
    /// # Errors
    /// [`ProtoError`] if it is no domain name.
    pub fn new(name: &str, pods: Ipv4Net, services: Ipv4Net) -> Result<Self, ProtoError> {
        let mut origin = Name::from_ascii(name)?.to_lowercase();
        origin.set_fqdn(true);
        Ok(Self { origin, pods, services })
    }
}

/// What a zone says to a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// These records.
    Records {
        /// Those asked for.
        answers: Vec<Record>,
        /// The addresses of what they name.
        additionals: Vec<Record>,
    },
    /// It is another name of this one, whose records count.
    Alias(Name),
    /// The name exists, without records of this type.
    NoData,
    /// The name does not exist.
    NoSuchName,
    /// The name would be here, but the API has not told the Services yet.
    NotKnownYet,
    /// Somebody else's name.
    Elsewhere,
}

/// The names at one moment.
#[derive(Debug)]
pub struct Zone {
    domain: Domain,
    records: Option<Records>,
}

#[derive(Debug, Default)]
struct Records {
    /// By namespace, then by name.
    services: HashMap<String, HashMap<String, Entry>>,
    /// Names of addresses.
    pointers: HashMap<Ipv4Addr, BTreeSet<Name>>,
}

impl Zone {
    /// A zone before anything is known.
    pub fn unknown(domain: Domain) -> Self {
        Self { domain, records: None }
    }

    /// The zone of these Services. What cannot be a name is left out.
    pub fn new(domain: Domain, services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]) -> Self {
        let slices = SlicesByService::new(slices);
        let mut records = Records::default();
        for service in services {
            let metadata = &service.metadata;
            let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else { continue };
            // The name of a namespace exists although none of its Services has records.
            let entries = records.services.entry(namespace.clone()).or_default();
            let Some(own) = service_name(&domain.origin, namespace, name) else { continue };
            if let Some(entry) = Entry::new(service, slices.of(service), &own) {
                for (address, name) in entry.pointers(&own) {
                    records.pointers.entry(address).or_default().insert(name);
                }
                entries.insert(name.clone(), entry);
            }
        }
        Self { domain, records: Some(records) }
    }

    /// Answers a question of class IN.
    pub fn answer(&self, name: &Name, kind: RecordType) -> Answer {
        if let Some(address) = reverse_address(name) {
            return self.answer_reverse(name, kind, address);
        }
        if !self.domain.origin.zone_of(name) {
            return Answer::Elsewhere;
        }
        let Some(records) = &self.records else { return Answer::NotKnownYet };
        let count =
            usize::from(name.num_labels()).saturating_sub(usize::from(self.domain.origin.num_labels()));
        let lower = name.to_lowercase();
        let labels: Option<Vec<&str>> =
            lower.iter().take(count).map(|label| std::str::from_utf8(label).ok()).collect();
        // Whatever is not text is nobody's name.
        let Some(labels) = labels else { return Answer::NoSuchName };
        self.answer_forward(records, name, kind, &labels)
    }

    /// The record that says how long absence counts (RFC 2308).
    pub fn authority(&self) -> Record {
        let origin = &self.domain.origin;
        let within = |label: &str| origin.prepend_label(label).unwrap_or_else(|_| origin.clone());
        let soa = SOA::new(within("ns"), within("hostmaster"), 1, 7200, 1800, 86_400, TTL);
        Record::from_rdata(origin.clone(), TTL, RData::SOA(soa))
    }

    fn answer_reverse(&self, name: &Name, kind: RecordType, address: Ipv4Addr) -> Answer {
        let is_own = self.domain.services.contains(&address) || self.domain.pods.contains(&address);
        if !is_own {
            return Answer::Elsewhere;
        }
        let Some(records) = &self.records else { return Answer::NotKnownYet };
        let Some(names) = records.pointers.get(&address) else { return Answer::NoSuchName };
        if !matches!(kind, RecordType::PTR | RecordType::ANY) {
            return Answer::NoData;
        }
        let record = |target: &Name| Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(target.clone())));
        Answer::Records { answers: names.iter().map(record).collect(), additionals: Vec::new() }
    }

    /// `labels` are those before the cluster's domain, in lower case.
    fn answer_forward(&self, records: &Records, name: &Name, kind: RecordType, labels: &[&str]) -> Answer {
        let find = |service: &str, namespace: &str| records.services.get(namespace)?.get(service);
        match labels {
            [] if kind == RecordType::SOA => {
                Answer::Records { answers: vec![self.authority()], additionals: Vec::new() }
            }
            [] | ["svc" | "pod"] | [_, "pod"] => Answer::NoData,
            ["dns-version"] => {
                let text = RData::TXT(TXT::new(vec![SCHEMA_VERSION.to_owned()]));
                of_type(kind, RecordType::TXT, vec![Record::from_rdata(name.clone(), TTL, text)])
            }
            [dashed, _, "pod"] => match self.pod_address(dashed) {
                Some(address) => addresses(name, kind, [address]),
                None => Answer::NoSuchName,
            },
            [namespace, "svc"] if records.services.contains_key(*namespace) => Answer::NoData,
            [service, namespace, "svc"] => match find(service, namespace) {
                Some(Entry::External(target)) if kind == RecordType::CNAME => {
                    Answer::Records { answers: vec![alias(name.clone(), target)], additionals: Vec::new() }
                }
                Some(Entry::External(target)) => Answer::Alias(target.clone()),
                Some(entry) => addresses(name, kind, entry.addresses()),
                None => Answer::NoSuchName,
            },
            [protocol, service, namespace, "svc"] if protocol.starts_with('_') => {
                let is_there = find(service, namespace).is_some_and(|entry| entry.has_protocol(protocol));
                if is_there { Answer::NoData } else { Answer::NoSuchName }
            }
            [host, service, namespace, "svc"] => {
                let found = find(service, namespace).and_then(|entry| entry.host(host));
                found.map_or(Answer::NoSuchName, |found| addresses(name, kind, found))
            }
            [port, protocol, service, namespace, "svc"] => {
                let own = service_name(&self.domain.origin, namespace, service);
                let entry = find(service, namespace).zip(own);
                let found = entry.and_then(|(entry, own)| entry.service_records(name, &own, port, protocol));
                match found {
                    None => Answer::NoSuchName,
                    Some((answers, additionals)) if matches!(kind, RecordType::SRV | RecordType::ANY) => {
                        Answer::Records { answers, additionals }
                    }
                    Some(_) => Answer::NoData,
                }
            }
            _ => Answer::NoSuchName,
        }
    }

    /// `10-42-0-7` as a pod's address.
    fn pod_address(&self, dashed: &str) -> Option<Ipv4Addr> {
        dashed.replace('-', ".").parse().ok().filter(|address| self.domain.pods.contains(address))
    }
}

fn service_name(origin: &Name, namespace: &str, service: &str) -> Option<Name> {
    Name::from_labels([service.as_bytes(), namespace.as_bytes(), b"svc"]).ok()?.append_domain(origin).ok()
}

/// The address that a name below `in-addr.arpa` stands for.
fn reverse_address(name: &Name) -> Option<Ipv4Addr> {
    let network = name.parse_arpa_name().ok()?;
    match network {
        ipnet::IpNet::V4(network) if network.prefix_len() == 32 => Some(network.addr()),
        _ => None,
    }
}

fn of_type(asked: RecordType, kind: RecordType, answers: Vec<Record>) -> Answer {
    if asked == kind || asked == RecordType::ANY {
        return Answer::Records { answers, additionals: Vec::new() };
    }
    Answer::NoData
}

fn addresses(name: &Name, kind: RecordType, addresses: impl IntoIterator<Item = Ipv4Addr>) -> Answer {
    of_type(kind, RecordType::A, addresses.into_iter().map(|address| address_record(name, address)).collect())
}

fn address_record(name: &Name, address: Ipv4Addr) -> Record {
    Record::from_rdata(name.clone(), TTL, RData::A(A(address)))
}

/// The record of an alias.
pub(super) fn alias(name: Name, target: &Name) -> Record {
    Record::from_rdata(name, TTL, RData::CNAME(CNAME(target.clone())))
}

/// Addresses by the name of a host.
type Hosts = BTreeMap<String, BTreeSet<Ipv4Addr>>;

#[cfg(test)]
mod tests;
