use serde_json::{Value, json};

use super::*;

fn object<K: serde::de::DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn zone() -> Zone {
    let service = |namespace: &str, name: &str, spec: Value| {
        object(json!({"metadata": {"namespace": namespace, "name": name}, "spec": spec}))
    };
    let services = [
        service(
            "default",
            "kubernetes",
            json!({"clusterIP": "10.43.0.1", "clusterIPs": ["10.43.0.1", "fd00::1"],
            "ports": [{"name": "https", "port": 443}]}),
        ),
        service(
            "shop",
            "web",
            json!({"clusterIP": "10.43.0.80", "ports": [{"port": 80}, {"name": "DNS", "port": 53, "protocol": "UDP"}]}),
        ),
        service(
            "shop",
            "db",
            json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "sql", "port": 5432}]}),
        ),
        service("shop", "empty", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]})),
        service("shop", "starting", json!({"clusterIP": "None", "publishNotReadyAddresses": true})),
        service("shop", "away", json!({"type": "ExternalName", "externalName": "www.Example.com"})),
        service(
            "shop",
            "alias",
            json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local."}),
        ),
        service(
            "shop",
            "self",
            json!({"type": "ExternalName", "externalName": "self.shop.svc.cluster.local"}),
        ),
        service("shop", "broken", json!({"type": "ExternalName", "externalName": "a..b"})),
        service("quiet", "empty", json!({"clusterIP": "None"})),
    ];
    let slice = |service: &str, endpoints: Value| {
        object(
            json!({"metadata": {"namespace": "shop", "name": service, "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": [{"name": "sql", "port": 5433}], "endpoints": endpoints}),
        )
    };
    let slices = [
        slice(
            "db",
            json!([{"addresses": ["10.42.1.7"], "hostname": "db-0"}, {"addresses": ["10.42.2.7"]},
            {"addresses": ["10.42.2.8"], "hostname": "db-1", "conditions": {"ready": false}}]),
        ),
        slice("db", json!([{"addresses": ["10.42.3.7"], "hostname": "db-0"}])),
        slice("empty", json!([{"addresses": ["10.42.9.9"], "conditions": {"ready": false}}])),
        slice("starting", json!([{"addresses": ["10.42.4.7"], "conditions": {"ready": false}}])),
    ];
    Zone::new(domain(), &services, &slices)
}

fn domain() -> Domain {
    Domain::new("cluster.local", "10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap()).unwrap()
}

fn show(record: &Record) -> String {
    assert_eq!(record.ttl, TTL);
    format!("{} {}", record.record_type(), record.data)
}

/// The answer in one line.
fn ask(zone: &Zone, name: &str, kind: RecordType) -> String {
    match zone.answer(&Name::from_ascii(name).unwrap(), kind) {
        Answer::Records { answers, additionals } => {
            let list = |records: &[Record]| records.iter().map(show).collect::<Vec<_>>().join(", ");
            if additionals.is_empty() {
                list(&answers)
            } else {
                format!("{} + {}", list(&answers), list(&additionals))
            }
        }
        Answer::Alias(target) => format!("-> {target}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn names_are_as_the_specification_says() {
    use RecordType::{A, AAAA, CNAME, MX, PTR, SOA, SRV, TXT};
    let zone = zone();
    for (name, kind, expected) in [
        ("dns-version.cluster.local.", TXT, "TXT 1.1.0"),
        ("dns-version.cluster.local.", A, "NoData"),
        // Services with an address.
        ("kubernetes.default.svc.cluster.local.", A, "A 10.43.0.1"),
        ("KuberNetes.Default.SVC.Cluster.LOCAL.", A, "A 10.43.0.1"),
        ("kubernetes.default.svc.cluster.local.", AAAA, "NoData"),
        ("kubernetes.default.svc.cluster.local.", MX, "NoData"),
        (
            "_https._tcp.kubernetes.default.svc.cluster.local.",
            SRV,
            "SRV 0 100 443 kubernetes.default.svc.cluster.local. + A 10.43.0.1",
        ),
        ("_https._tcp.kubernetes.default.svc.cluster.local.", A, "NoData"),
        ("_https._udp.kubernetes.default.svc.cluster.local.", SRV, "NoSuchName"),
        (
            "_dns._udp.web.shop.svc.cluster.local.",
            SRV,
            "SRV 0 100 53 web.shop.svc.cluster.local. + A 10.43.0.80",
        ),
        ("_tcp.kubernetes.default.svc.cluster.local.", SRV, "NoData"),
        ("_udp.kubernetes.default.svc.cluster.local.", SRV, "NoSuchName"),
        ("1.0.43.10.in-addr.arpa.", PTR, "PTR kubernetes.default.svc.cluster.local."),
        ("1.0.43.10.in-addr.arpa.", A, "NoData"),
        ("9.9.43.10.in-addr.arpa.", PTR, "NoSuchName"),
        // Headless ones: endpoints that are ready, under their own names.
        ("db.shop.svc.cluster.local.", A, "A 10.42.1.7, A 10.42.2.7, A 10.42.3.7"),
        ("db-0.db.shop.svc.cluster.local.", A, "A 10.42.1.7, A 10.42.3.7"),
        ("db-1.db.shop.svc.cluster.local.", A, "NoSuchName"),
        ("10-42-2-7.db.shop.svc.cluster.local.", A, "A 10.42.2.7"),
        (
            "_sql._tcp.db.shop.svc.cluster.local.",
            SRV,
            "SRV 0 100 5433 10-42-2-7.db.shop.svc.cluster.local., SRV 0 100 5433 db-0.db.shop.svc.cluster.local. + A 10.42.2.7, A 10.42.1.7, A 10.42.3.7",
        ),
        ("7.1.42.10.in-addr.arpa.", PTR, "PTR db-0.db.shop.svc.cluster.local."),
        ("8.2.42.10.in-addr.arpa.", PTR, "NoSuchName"),
        ("empty.shop.svc.cluster.local.", A, "NoSuchName"),
        ("starting.shop.svc.cluster.local.", A, "A 10.42.4.7"),
        // Other names for something outside, or inside.
        ("away.shop.svc.cluster.local.", A, "-> www.Example.com."),
        ("away.shop.svc.cluster.local.", CNAME, "CNAME www.Example.com."),
        ("alias.shop.svc.cluster.local.", A, "-> web.shop.svc.cluster.local."),
        ("self.shop.svc.cluster.local.", A, "NoSuchName"),
        ("broken.shop.svc.cluster.local.", A, "NoSuchName"),
        // Pods.
        ("10-42-1-7.shop.pod.cluster.local.", A, "A 10.42.1.7"),
        ("192-0-2-1.shop.pod.cluster.local.", A, "NoSuchName"),
        // Names on the way exist.
        ("cluster.local.", A, "NoData"),
        ("svc.cluster.local.", A, "NoData"),
        ("quiet.svc.cluster.local.", A, "NoData"),
        ("nowhere.svc.cluster.local.", A, "NoSuchName"),
        ("nobody.shop.svc.cluster.local.", A, "NoSuchName"),
        ("www.example.com.shop.svc.cluster.local.", A, "NoSuchName"),
        ("cluster.local.", SOA, "SOA ns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"),
        // Others' names.
        ("www.example.com.", A, "Elsewhere"),
        ("local.", A, "Elsewhere"),
        ("notcluster.local.", A, "Elsewhere"),
        (".", A, "Elsewhere"),
        ("1.2.0.192.in-addr.arpa.", PTR, "Elsewhere"),
        ("43.10.in-addr.arpa.", PTR, "Elsewhere"),
    ] {
        assert_eq!(ask(&zone, name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn before_the_first_list_nothing_is_denied() {
    let zone = Zone::unknown(domain());
    assert_eq!(ask(&zone, "kubernetes.default.svc.cluster.local.", RecordType::A), "NotKnownYet");
    assert_eq!(ask(&zone, "1.0.43.10.in-addr.arpa.", RecordType::PTR), "NotKnownYet");
    assert_eq!(ask(&zone, "www.example.com.", RecordType::A), "Elsewhere");
}

#[test]
fn names_that_are_no_text_are_nobodys() {
    let name = Name::from_labels([&[0xff, 0x00][..], b"cluster", b"local"]).unwrap();
    assert_eq!(zone().answer(&name, RecordType::A), Answer::NoSuchName);
}
