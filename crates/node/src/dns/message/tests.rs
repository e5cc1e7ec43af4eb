use std::{collections::BTreeSet, sync::Arc};

use hickory_proto::rr::RData;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::dns::zone::Domain;

/// A zone with a Service `web`, a headless one with so many endpoints, and names that lead elsewhere.
fn zone(endpoints: u8) -> Zone {
    let domain =
        Domain::new("cluster.local", "10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap());
    let service = |name: &str, spec: Value| {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec}))
                .unwrap(),
        )
    };
    let services = [
        service("web", json!({"clusterIP": "10.43.0.80"})),
        service("many", json!({"clusterIP": "None"})),
        service("alias", json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"})),
        service("away", json!({"type": "ExternalName", "externalName": "www.example.com"})),
        service("ping", json!({"type": "ExternalName", "externalName": "pong.shop.svc.cluster.local"})),
        service("pong", json!({"type": "ExternalName", "externalName": "ping.shop.svc.cluster.local"})),
    ];
    let endpoints: Vec<Value> =
        (0..endpoints).map(|n| json!({"addresses": [format!("10.42.1.{n}")]})).collect();
    let slice = json!({"metadata": {"namespace": "shop", "name": "many", "labels": {"kubernetes.io/service-name": "many"}},
        "addressType": "IPv4", "endpoints": endpoints});
    Zone::new(domain.unwrap(), &services, &[Arc::new(serde_json::from_value(slice).unwrap())])
}

fn packet(name: &str, kind: RecordType, payload: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

fn reply(packet: &[u8], zone: &Zone, transport: Transport) -> (Message, usize) {
    match first_step(packet, zone, transport) {
        Step::Reply(bytes) => (Message::from_vec(&bytes).unwrap(), bytes.len()),
        other => panic!("{other:?}"),
    }
}

fn addresses(message: &Message) -> BTreeSet<String> {
    message
        .answers
        .iter()
        .filter(|record| matches!(record.data, RData::A(_)))
        .map(|record| record.data.to_string())
        .collect()
}

#[test]
fn a_question_is_answered_with_its_own_name_and_identity() {
    let (answer, _) =
        reply(&packet("WEB.shop.svc.cluster.local.", RecordType::A, None), &zone(0), Transport::Udp);
    assert_eq!((answer.metadata.id, answer.metadata.response_code), (4711, ResponseCode::NoError));
    assert!(
        answer.metadata.authoritative
            && answer.metadata.recursion_desired
            && answer.metadata.recursion_available
    );
    // Clients that mix cases compare them.
    assert_eq!(answer.queries[0].name().to_string(), "WEB.shop.svc.cluster.local.");
    assert_eq!(answer.answers[0].name.to_string(), "WEB.shop.svc.cluster.local.");
    assert_eq!(addresses(&answer), ["10.43.0.80".to_owned()].into());
    assert!(answer.edns.is_none());
}

#[test]
fn absence_comes_with_its_authority() {
    for (name, kind, code) in [
        ("web.shop.svc.cluster.local.", RecordType::AAAA, ResponseCode::NoError),
        ("nobody.shop.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain),
    ] {
        let (answer, _) = reply(&packet(name, kind, Some(4096)), &zone(0), Transport::Udp);
        assert_eq!(answer.metadata.response_code, code);
        assert!(answer.answers.is_empty() && matches!(answer.authorities[0].data, RData::SOA(_)));
        assert!(answer.edns.is_some());
    }
}

#[test]
fn large_answers_are_cut_for_datagrams_only() {
    let zone = zone(200);
    for (payload, limit) in [(None, 512), (Some(100), 512), (Some(1000), 1000), (Some(65_535), 1232)] {
        let question = packet("many.shop.svc.cluster.local.", RecordType::A, payload);
        let (answer, length) = reply(&question, &zone, Transport::Udp);
        assert!(answer.metadata.truncation && length <= limit, "{payload:?}: {length}");
        assert!(answer.answers.len() > 20, "{payload:?}: {}", answer.answers.len());
        assert_eq!(answer.edns.is_some(), payload.is_some());
    }
    let (answer, _) =
        reply(&packet("many.shop.svc.cluster.local.", RecordType::A, None), &zone, Transport::Tcp);
    assert!(!answer.metadata.truncation);
    assert_eq!(addresses(&answer).len(), 200);
}

#[test]
fn clients_are_spread_over_the_endpoints() {
    let zone = zone(10);
    let question = packet("many.shop.svc.cluster.local.", RecordType::A, None);
    let firsts: BTreeSet<String> =
        (0..200).map(|_| reply(&question, &zone, Transport::Udp).0.answers[0].data.to_string()).collect();
    assert!(firsts.len() > 5, "{firsts:?}");
}

#[test]
fn aliases_are_followed() {
    let zone = zone(0);
    let (answer, _) =
        reply(&packet("alias.shop.svc.cluster.local.", RecordType::A, None), &zone, Transport::Udp);
    assert!(matches!(answer.answers[0].data, RData::CNAME(_)));
    assert_eq!(addresses(&answer), ["10.43.0.80".to_owned()].into());
    // In a circle, until it is enough.
    let (answer, _) =
        reply(&packet("ping.shop.svc.cluster.local.", RecordType::A, None), &zone, Transport::Udp);
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    // To the outside.
    let question = packet("away.shop.svc.cluster.local.", RecordType::A, None);
    let Step::Follow(draft, target) = first_step(&question, &zone, Transport::Udp) else {
        panic!("not followed")
    };
    assert_eq!(target.to_string(), "www.example.com.");
    let mut found = Message::new(1, MessageType::Response, OpCode::Query);
    found.add_answer(Record::from_rdata(target, 60, RData::A(std::net::Ipv4Addr::new(192, 0, 2, 1).into())));
    let answer = Message::from_vec(&draft.clone().complete(Some(found))).unwrap();
    assert!(matches!(answer.answers[0].data, RData::CNAME(_)) && !answer.metadata.authoritative);
    assert_eq!(addresses(&answer), ["192.0.2.1".to_owned()].into());
    let answer = Message::from_vec(&draft.complete(None)).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn other_names_are_passed_on() {
    let step = first_step(&packet("www.example.com.", RecordType::A, None), &zone(0), Transport::Udp);
    let Step::Forward(asked) = step else { panic!("{step:?}") };
    let failure = Message::from_vec(&asked.failure()).unwrap();
    assert_eq!((failure.metadata.id, failure.metadata.response_code), (4711, ResponseCode::ServFail));
}

#[test]
fn what_is_no_plain_question_is_refused_or_ignored() {
    let zone = zone(0);
    let change = |change: &dyn Fn(&mut Message)| {
        let mut message =
            Message::from_vec(&packet("web.shop.svc.cluster.local.", RecordType::A, Some(1232))).unwrap();
        change(&mut message);
        message.to_vec().unwrap()
    };
    for (packet, code) in [
        (change(&|message| message.metadata.op_code = OpCode::Notify), ResponseCode::NotImp),
        (change(&|message| message.queries.clear()), ResponseCode::FormErr),
        (change(&|message| message.queries.push(message.queries[0].clone())), ResponseCode::FormErr),
        (
            change(&|message| {
                message.queries[0].set_query_class(DNSClass::CH);
            }),
            ResponseCode::Refused,
        ),
        (
            change(&|message| {
                message.edns.as_mut().unwrap().set_version(1);
            }),
            ResponseCode::BADVERS,
        ),
        // Cut in the middle of the question.
        (change(&|_| {})[..20].to_vec(), ResponseCode::FormErr),
    ] {
        let (answer, _) = reply(&packet, &zone, Transport::Udp);
        // 16 has two names, BADVERS and BADSIG.
        let number = u16::from(answer.metadata.response_code);
        assert_eq!((answer.metadata.id, number), (4711, u16::from(code)));
    }
    for packet in
        [Vec::new(), vec![0; 11], change(&|message| message.metadata.message_type = MessageType::Response)]
    {
        assert!(matches!(first_step(&packet, &zone, Transport::Udp), Step::Ignore), "{packet:?}");
    }
}

#[test]
fn forged_answers_are_known() {
    let query = Query::query(Name::from_ascii("www.example.com.").unwrap(), RecordType::A);
    let answer = |change: &dyn Fn(&mut Message)| {
        let mut message = Message::response(7, OpCode::Query);
        message.add_query(query.clone());
        change(&mut message);
        message.to_vec().unwrap()
    };
    assert_eq!(answers(&answer(&|_| {}), 7, &query), Some(false));
    assert_eq!(answers(&answer(&|message| message.metadata.truncation = true), 7, &query), Some(true));
    for forged in [
        answer(&|message| message.metadata.id = 8),
        answer(&|message| message.metadata.message_type = MessageType::Query),
        answer(&|message| message.queries.clear()),
        answer(&|message| {
            message.queries[0].set_query_type(RecordType::AAAA);
        }),
        answer(&|message| {
            message.queries[0].set_name(Name::from_ascii("evil.example.com.").unwrap());
        }),
        Vec::new(),
        vec![0; 12],
    ] {
        assert_eq!(answers(&forged, 7, &query), None);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let zone = zone(3);
        for transport in [Transport::Udp, Transport::Tcp] {
            let _ = first_step(&bytes, &zone, transport);
        }
        let query = Query::query(Name::root(), RecordType::A);
        let _ = answers(&bytes, 0, &query);
    }

    #[test]
    fn damaged_questions_never_panic_and_are_never_outgrown(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6), cut in any::<prop::sample::Index>(),
    ) {
        let zone = zone(100);
        let mut bytes = packet("many.shop.svc.cluster.local.", RecordType::A, Some(1232));
        for (index, value) in &changes {
            let index = index.index(bytes.len());
            bytes[index] = *value;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        if let Step::Reply(answer) = first_step(&bytes, &zone, Transport::Udp) {
            prop_assert!(answer.len() <= 1232 && !answer.is_empty());
            prop_assert!(Message::from_vec(&answer).is_ok());
        }
    }
}
