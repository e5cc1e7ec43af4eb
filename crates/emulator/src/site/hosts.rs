//! Hosts: templates applied, counts expanded, devices listed one by one, cables plugged in.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{
    AcceleratorSpec, BackendKind, Cable, DriveMedia, DriveSpec, HostSpec, MacAddress, NicSpec, ProcessorSpec,
    Watts,
    document::{DriveDocument, GpuDocument, HostDocument, NicDocument, PowerDocument, ProcessorDocument},
    fabrics::Cabling,
    faults,
    problem::Problems,
};

/// Most hosts of one site.
const MOST_HOSTS: usize = 65_536;

/// What all hosts of a site are made with.
pub(super) struct HostResolver<'a> {
    pub(super) site: Uuid,
    /// What gives hosts a body that do not say otherwise.
    pub(super) backend: BackendKind,
    pub(super) templates: &'a BTreeMap<String, HostDocument>,
    pub(super) cabling: &'a mut Cabling,
    pub(super) macs: &'a mut BTreeSet<MacAddress>,
    pub(super) problems: &'a mut Problems,
}

/// A cable whose port the file leaves open; it is plugged in after those that name theirs.
struct OpenCable {
    path: String,
    host: usize,
    nic: usize,
}

impl HostResolver<'_> {
    /// Expands and checks all hosts.
    pub(super) fn resolve(&mut self, documents: &[HostDocument]) -> Vec<HostSpec> {
        for (name, template) in self.templates {
            let path = format!("templates.{name}");
            let forbidden = [
                ("name", template.name.is_some()),
                ("count", template.count.is_some()),
                ("first", template.first.is_some()),
                ("template", template.template.is_some()),
            ];
            for (field, given) in forbidden {
                self.problems.check(!given, &format!("{path}.{field}"), || {
                    "a template cannot say this; a host can".to_owned()
                });
            }
        }
        let (mut hosts, mut open) = (Vec::new(), Vec::new());
        let mut names = BTreeSet::new();
        for (index, document) in documents.iter().enumerate() {
            self.expand(&format!("hosts[{index}]"), document, &mut hosts, &mut names, &mut open);
        }
        for OpenCable { path, host, nic } in open {
            self.plug_open(&path, &mut hosts, host, nic);
        }
        hosts
    }

    fn expand(
        &mut self,
        path: &str,
        document: &HostDocument,
        hosts: &mut Vec<HostSpec>,
        names: &mut BTreeSet<String>,
        open: &mut Vec<OpenCable>,
    ) {
        let Some(pattern) = &document.name else {
            return self.problems.add(format!("{path}.name"), "a host needs a name");
        };
        let template = match &document.template {
            None => None,
            Some(name) => match self.templates.get(name) {
                Some(template) => Some(template),
                None => {
                    let known = self.templates.keys().cloned().collect::<Vec<_>>().join(", ");
                    return self.problems.add(
                        format!("{path}.template"),
                        format!("there is no template {name:?}; there are: {known}"),
                    );
                }
            },
        };
        let count = document.count.unwrap_or(1);
        if count == 0 || hosts.len() + count as usize > MOST_HOSTS {
            return self.problems.add(format!("{path}.count"), format!("a site has 1 to {MOST_HOSTS} hosts"));
        }
        let numbered = number_width(pattern);
        if (document.count.is_some() || document.first.is_some()) && numbered.is_none() {
            return self.problems.add(
                format!("{path}.name"),
                format!(
                    "{pattern:?} must hold a number such as {{n}} or {{nn}} because the host has a count"
                ),
            );
        }
        let fields = Fields { own: document, template };
        for offset in 0..count {
            let number = document.first.unwrap_or(1).saturating_add(offset);
            let name = match &numbered {
                Some((run, width)) => pattern.replacen(run.as_str(), &format!("{number:0width$}"), 1),
                None => pattern.clone(),
            };
            self.problems.check_name(&format!("{path}.name"), &name, 40);
            if !names.insert(name.clone()) {
                self.problems.add(format!("{path}.name"), format!("another host is called {name:?} too"));
                continue;
            }
            let host = self.host(path, name, offset as usize, &fields, hosts.len(), open);
            hosts.push(host);
        }
    }

    fn host(
        &mut self,
        path: &str,
        name: String,
        offset: usize,
        fields: &Fields<'_>,
        index: usize,
        open: &mut Vec<OpenCable>,
    ) -> HostSpec {
        let uuid = Uuid::new_v5(&self.site, format!("host/{name}").as_bytes());
        let memory_mib = fields.get(|host| host.memory_mib.as_ref()).copied().unwrap_or(0);
        self.problems.check_range(&format!("{path}.memoryMiB"), memory_mib, 1, 1 << 30);
        let watts = fields
            .get(|host| host.watts.as_ref())
            .map_or(Watts { idle: 0, busy: 0 }, |watts| Watts { idle: watts.idle, busy: watts.busy });
        self.problems.check(watts.idle <= watts.busy, &format!("{path}.watts"), || {
            format!("idle {} is more than busy {}", watts.idle, watts.busy)
        });
        let processor = self.processor(path, fields.get(|host| host.processor.as_ref()));
        let gpus = gpus(&format!("{path}.gpus"), fields.list(|host| host.gpus.as_ref()), self.problems);
        let drives =
            drives(&format!("{path}.drives"), fields.list(|host| host.drives.as_ref()), self.problems);
        let mut nics: Vec<NicSpec> = Vec::new();
        for (number, nic) in fields.list(|host| host.nics.as_ref()).iter().enumerate() {
            let path = format!("{path}.nics[{number}]");
            self.problems.check(
                nics.iter().all(|other| other.name != nic.name),
                &format!("{path}.name"),
                || format!("another interface of the host is called {:?} too", nic.name),
            );
            let spec = self.nic(&path, &name, nic, offset);
            if nic.port.is_none() && !spec.switch.is_empty() {
                open.push(OpenCable { path, host: index, nic: nics.len() });
            }
            nics.push(spec);
        }
        let mut faults_found = Vec::new();
        for (number, fault) in fields.list(|host| host.faults.as_ref()).iter().enumerate() {
            faults_found.push(faults::resolve(&format!("{path}.faults[{number}]"), fault, self.problems));
        }
        let virtual_machine =
            self.is_virtual_machine(path, fields.get(|host| host.backend.as_ref()).copied());
        HostSpec {
            uuid,
            virtual_machine,
            rack: fields.get(|host| host.rack.as_ref()).cloned().unwrap_or_default(),
            processor,
            memory_mib,
            gpus,
            drives,
            nics,
            initially_on: fields.get(|host| host.power.as_ref()) == Some(&PowerDocument::On),
            watts,
            faults: faults_found,
            name,
        }
    }

    /// Only one mixture is possible: virtual machines on the switches that namespaces are on.
    fn is_virtual_machine(&mut self, path: &str, own: Option<BackendKind>) -> bool {
        let own = own.unwrap_or(self.backend);
        let mixed = self.backend == BackendKind::Netns && own == BackendKind::Qemu;
        self.problems.check(own == self.backend || mixed, &format!("{path}.backend"), || {
            "a host may only be `qemu` in a site that is `netns`; all others are as the site is".to_owned()
        });
        mixed
    }

    fn processor(&mut self, path: &str, document: Option<&ProcessorDocument>) -> ProcessorSpec {
        let path = format!("{path}.processor");
        let Some(document) = document else {
            self.problems.add(path, "a host needs a processor: {model, cores}");
            return ProcessorSpec {
                model: String::new(),
                sockets: 1,
                cores: 1,
                threads: 1,
                max_speed_mhz: 1,
            };
        };
        let sockets = document.sockets.unwrap_or(1);
        let threads = document.threads.unwrap_or(document.cores.saturating_mul(2));
        self.problems.check_range(&format!("{path}.cores"), document.cores, 1, 65_536);
        self.problems.check_range(&format!("{path}.sockets"), sockets, 1, 64);
        self.problems.check_range(
            &format!("{path}.threads"),
            threads,
            document.cores,
            document.cores.saturating_mul(8),
        );
        let divides = |value: u32| sockets != 0 && value.is_multiple_of(sockets);
        self.problems.check(divides(document.cores) && divides(threads), &format!("{path}.sockets"), || {
            format!("{} cores and {threads} threads do not divide among {sockets} sockets", document.cores)
        });
        ProcessorSpec {
            model: document.model.clone().unwrap_or_else(|| "Emulated x86-64".to_owned()),
            sockets: sockets.max(1),
            cores: document.cores,
            threads,
            max_speed_mhz: document.max_speed_mhz.unwrap_or(3000),
        }
    }

    /// A network interface; plugged in if the file names the port.
    fn nic(&mut self, path: &str, host: &str, document: &NicDocument, offset: usize) -> NicSpec {
        let allowed = |c: char| c.is_ascii_alphanumeric();
        let good = (1..=15).contains(&document.name.len()) && document.name.chars().all(allowed);
        self.problems.check(good, &format!("{path}.name"), || {
            format!("{:?} must be 1 to 15 letters and digits", document.name)
        });
        let switch = self.switch_of(path, document, offset);
        let mac = self.mac(path, document.mac, &["host", host, &document.name]);
        let mut speed = document.speed_gbps.unwrap_or(0);
        if let Some(given) = document.speed_gbps {
            self.problems.check_range(&format!("{path}.speedGbps"), given, 1, 10_000);
        }
        if let (Some(port), false) = (&document.port, switch.is_empty()) {
            let cable = Cable::Nic { host: host.to_owned(), nic: document.name.clone(), mac };
            if let Some(limit) = self.cabling.plug(path, &switch, port, cable, self.problems) {
                speed = slower(speed, limit);
            }
        }
        let port = document.port.clone().unwrap_or_default();
        NicSpec { name: document.name.clone(), mac, speed_gbps: speed, switch, port }
    }

    fn switch_of(&mut self, path: &str, document: &NicDocument, offset: usize) -> String {
        match (&document.switch, &document.switches) {
            (Some(switch), None) => switch.clone(),
            (None, Some(switches)) if !switches.is_empty() => switches[offset % switches.len()].clone(),
            _ => {
                self.problems.add(
                    path,
                    "an interface needs either a switch or a list of switches that hosts take in turn",
                );
                String::new()
            }
        }
    }

    /// The address given, or one derived from the names; in either case nobody else's.
    pub(super) fn mac(&mut self, path: &str, given: Option<MacAddress>, names: &[&str]) -> MacAddress {
        if let Some(mac) = given {
            if !self.macs.insert(mac) {
                self.problems.add(format!("{path}.mac"), format!("{mac} is in use already"));
            }
            return mac;
        }
        unused_mac(self.site, self.macs, names)
    }

    fn plug_open(&mut self, path: &str, hosts: &mut [HostSpec], host: usize, nic: usize) {
        let Some(host) = hosts.get_mut(host) else { return };
        let name = host.name.clone();
        let Some(nic) = host.nics.get_mut(nic) else { return };
        let cable = Cable::Nic { host: name, nic: nic.name.clone(), mac: nic.mac };
        if let Some((port, limit)) = self.cabling.plug_anywhere(path, &nic.switch, cable, self.problems) {
            nic.port = port;
            nic.speed_gbps = slower(nic.speed_gbps, limit);
        }
    }
}

/// An address derived from the names of what has it, which nobody else has.
pub(super) fn unused_mac(site: Uuid, macs: &mut BTreeSet<MacAddress>, names: &[&str]) -> MacAddress {
    let site = site.to_string();
    let names: Vec<&str> = [site.as_str()].into_iter().chain(names.iter().copied()).collect();
    let mut attempt = 0;
    loop {
        let mac = MacAddress::derived(&names, attempt);
        // Ends: a site has far fewer interfaces than there are addresses.
        if macs.insert(mac) {
            return mac;
        }
        attempt += 1;
    }
}

/// A host's own fields over those of its template.
struct Fields<'a> {
    own: &'a HostDocument,
    template: Option<&'a HostDocument>,
}

impl<'a> Fields<'a> {
    fn get<T>(&self, field: impl Fn(&'a HostDocument) -> Option<&'a T>) -> Option<&'a T> {
        field(self.own).or_else(|| self.template.and_then(field))
    }

    fn list<T>(&self, field: impl Fn(&'a HostDocument) -> Option<&'a Vec<T>>) -> &'a [T] {
        self.get(field).map_or(&[], Vec::as_slice)
    }
}

/// A link is as fast as its slower end; 0 means that the card adapts.
const fn slower(card: u32, port: u32) -> u32 {
    if card == 0 || card > port { port } else { card }
}

/// The run of `n` in braces and its width: `("{nn}", 2)`.
fn number_width(pattern: &str) -> Option<(String, usize)> {
    let (start, end) = (pattern.find('{')?, pattern.find('}')?);
    let inner = pattern.get(start + 1..end)?;
    let good = (1..=9).contains(&inner.len()) && inner.chars().all(|c| c == 'n');
    good.then(|| (format!("{{{inner}}}"), inner.len()))
}

/// Lists GPUs one by one.
pub(super) fn gpus(path: &str, documents: &[GpuDocument], problems: &mut Problems) -> Vec<AcceleratorSpec> {
    let mut list = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let path = format!("{path}[{index}]");
        problems
            .check(!document.model.is_empty(), &format!("{path}.model"), || "must not be empty".to_owned());
        problems.check_range(&format!("{path}.memoryMiB"), document.memory_mib, 1, 1 << 30);
        problems.check_range(&format!("{path}.count"), document.count, 1, 1024);
        let gpu = AcceleratorSpec { model: document.model.clone(), memory_mib: document.memory_mib };
        list.extend(std::iter::repeat_n(gpu, document.count.min(1024) as usize));
    }
    list
}

/// Lists drives one by one and names them: `nvme0`, `ssd0`, `hdd0` ….
pub(super) fn drives(path: &str, documents: &[DriveDocument], problems: &mut Problems) -> Vec<DriveSpec> {
    let mut list: Vec<DriveSpec> = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let path = format!("{path}[{index}]");
        problems.check_range(&format!("{path}.capacityGiB"), document.capacity_gib, 1, 1 << 30);
        problems.check_range(&format!("{path}.count"), document.count, 1, 1024);
        for _ in 0..document.count.min(1024) {
            let prefix = match document.media {
                DriveMedia::NVMe => "nvme",
                DriveMedia::Ssd => "ssd",
                DriveMedia::Hdd => "hdd",
            };
            let number = list.iter().filter(|drive| drive.media == document.media).count();
            let name = format!("{prefix}{number}");
            list.push(DriveSpec { name, capacity_gib: document.capacity_gib, media: document.media });
        }
    }
    list
}
