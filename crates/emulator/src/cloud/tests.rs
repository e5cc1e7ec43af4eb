//! Templates of every kind, good and bad, without HTTP.

use std::{collections::BTreeMap, sync::Arc};

use drystone_hostile::{damaged_text, distorted, text};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    Cloud, CloudSetup,
    bodies::SimBodies,
    hot::{Template, parse_text},
    http::{ROUTES, Route},
    model::{Inputs, Pending, Stack},
    operations::{Manner, StackBody},
    plan::{Addresses, Catalogue, Hosts, Realized, World, realize},
};
use crate::site::{CloudSpec, SiteFile};

const SITE: &str = "
name: hostile
cloud:
  users: [{name: u, password: p, project: q}]
  networks: [{name: net0, cidr: 10.10.0.0/24}]
  images: [{name: ubuntu}]
  flavors: [{name: small, cores: 1, memory: 512, disk: 5}]
";

const TEMPLATE: &str = "
heat_template_version: 2013-05-23
parameters:
  size: {type: number, default: 2, constraints: [{range: {min: 0, max: 5}}]}
  nfv: {type: json, default: {a: [{b: net0}]}}
  names: {type: comma_delimited_list, default: 'x, y'}
conditions:
  big: {or: [{equals: [{get_param: size}, 3]}, {not: small}]}
  small: {equals: [{get_param: size}, 2]}
resources:
  port: {type: OS::Neutron::Port, properties: {network: {get_param: [nfv, a, 0, b]}}}
  volume: {type: OS::Cinder::Volume, properties: {size: 1, name: {list_join: ['-', {get_param: names}]}}}
  more: {type: OS::Heat::None, condition: big}
  server:
    type: OS::Nova::Server
    depends_on: volume
    properties:
      flavor: small
      image: ubuntu
      networks: [{port: {get_resource: port}}]
      metadata: {str_replace: {template: '$a $aa', params: {$a: 1, $aa: {get_attr: [port, fixed_ips, 0, ip_address]}}}}
  group:
    type: OS::Heat::AutoScalingGroup
    properties: {min_size: 0, max_size: 5, desired_capacity: {get_param: size}, resource: {type: node.yaml, properties: {net: net0}}}
outputs:
  addresses: {value: {get_attr: [group, outputs_list, at]}}
  first: {value: {if: [big, 'large', 'little']}}
";

const NODE: &str = "
heat_template_version: 2013-05-23
parameters: {net: {type: string}}
resources:
  cp: {type: OS::Neutron::Port, properties: {network: {get_param: net}}}
outputs: {at: {value: {get_attr: [cp, fixed_ips, 0, ip_address]}}}
";

fn spec() -> CloudSpec {
    SiteFile::parse(SITE).unwrap().cloud.unwrap()
}

fn inputs(template: &str, parameters: &Value) -> Inputs {
    Inputs {
        template: parse_text(template).unwrap(),
        files: BTreeMap::from([("node.yaml".to_owned(), NODE.to_owned())]),
        parameters: parameters.as_object().cloned().unwrap(),
        environment: serde_json::Map::new(),
    }
}

/// Plans a stack after an earlier plan.
fn plan(
    addresses: &mut Addresses,
    previous: &BTreeMap<Uuid, Stack>,
    inputs: &Inputs,
) -> Result<Realized, String> {
    let mut number = previous.values().map(|stack| stack.resources.len() as u128).sum::<u128>() * 1000;
    let mut ids = || {
        number += 1;
        Uuid::from_u128(number << 64 | number)
    };
    let world = World {
        catalogue: &Catalogue::of(&spec()),
        addresses,
        hosts: &mut Hosts::default(),
        ids: &mut ids,
        now: jiff::Timestamp::UNIX_EPOCH,
        project: Uuid::nil(),
        previous,
        sizes: BTreeMap::new(),
    };
    realize(world, Uuid::max(), "stack", inputs).map_err(|error| error.to_string())
}

/// As if everything had been done.
fn done(realized: Realized) -> BTreeMap<Uuid, Stack> {
    let mut stacks = realized.stacks;
    for resource in stacks.values_mut().flat_map(|stack| stack.resources.values_mut()) {
        resource.pending = None;
    }
    stacks
}

fn pending(realized: &Realized) -> Vec<(String, Pending)> {
    let resources = realized.stacks.values().flat_map(|stack| stack.resources.values());
    resources.filter_map(|resource| Some((resource.name.clone(), resource.pending?))).collect()
}

#[test]
fn a_plan_is_made_of_what_differs() {
    let mut addresses = Addresses::default();
    let first = plan(&mut addresses, &BTreeMap::new(), &inputs(TEMPLATE, &json!({}))).unwrap();
    assert_eq!(pending(&first).len(), 5, "{:?}", pending(&first));
    let top = &first.stacks[&Uuid::max()];
    assert_eq!(top.resources["volume"].properties["name"], "x-y");
    assert_eq!(
        top.resources["server"].properties["metadata"], "1 10.10.0.4",
        "members of the group come before it"
    );
    assert!(!top.resources.contains_key("more"));
    assert_eq!(top.outputs["first"].value, "little");
    assert_eq!(top.outputs["addresses"].value, json!(["10.10.0.2", "10.10.0.3"]));
    let levels: Vec<u32> = ["port", "server"].iter().map(|name| top.resources[*name].level).collect();
    assert!(levels[0] < levels[1]);

    let before = done(first);
    let same = plan(&mut addresses, &before, &inputs(TEMPLATE, &json!({}))).unwrap();
    assert_eq!((pending(&same), same.leaving.len()), (Vec::new(), 0), "the same again is nothing to do");
    let grown = plan(&mut addresses, &before, &inputs(TEMPLATE, &json!({"size": "3"}))).unwrap();
    assert_eq!(pending(&grown), [("cp".to_owned(), Pending::Create), ("more".to_owned(), Pending::Create)]);
    let renamed = plan(&mut addresses, &before, &inputs(&TEMPLATE.replace("x, y", "z"), &json!({}))).unwrap();
    assert_eq!(pending(&renamed), [("volume".to_owned(), Pending::Update)]);
    let shrunk = plan(&mut addresses, &before, &inputs(TEMPLATE, &json!({"size": 0}))).unwrap();
    let gone: Vec<&str> = shrunk.leaving.iter().map(|leaving| leaving.resource.kind.as_str()).collect();
    assert_eq!(gone.iter().filter(|kind| **kind == "OS::Neutron::Port").count(), 2, "{gone:?}");
}

#[test]
fn mistakes_are_told_with_their_place() {
    let refused = |from: &str, to: &str, wanted: &str| {
        assert!(TEMPLATE.contains(from), "{from}");
        let mut addresses = Addresses::default();
        let inputs = inputs(&TEMPLATE.replace(from, to), &json!({}));
        let error = plan(&mut addresses, &BTreeMap::new(), &inputs).unwrap_err();
        assert!(error.contains(wanted), "{to}: {error}");
        // Nothing stays taken.
        let good = plan(&mut addresses, &BTreeMap::new(), &self::inputs(TEMPLATE, &json!({}))).unwrap();
        assert_eq!(good.stacks[&Uuid::max()].outputs["addresses"].value[0], "10.10.0.2", "{to}");
    };
    for (from, to, wanted) in [
        ("flavor: small", "flavor: huge", "resources.server.properties.flavor: "),
        ("default: 2,", "default: 9,", "parameters.size: 9 is out of range"),
        ("default: 2,", "default: two,", "parameters.size: "),
        ("{not: small}", "{not: big}", "conditions.big: refers to itself"),
        ("{not: small}", "{not: none}", "\"none\""),
        ("[group, outputs_list, at]", "[group, colour]", "outputs.addresses"),
        ("[port, fixed_ips,", "[port, fixed,", "The Referenced Attribute (port fixed) is incorrect"),
        ("depends_on: volume", "depends_on: sea", "\"sea\""),
        ("size: 1,", "size: none,", "resources.volume.properties.size"),
        ("type: node.yaml", "type: other.yaml", "other.yaml"),
        ("properties: {net: net0}", "properties: {net: net0, colour: red}", "colour"),
        ("max_size: 5, desired", "max_size: 1, desired", "resources.group.properties.desired_capacity"),
        ("outputs:", "mappings:", "mappings"),
        ("{list_join: ['-', {get_param: names}]}", "{repeat: {}}", "repeat"),
    ] {
        refused(from, to, wanted);
    }
}

#[test]
fn a_file_that_contains_itself_has_an_end() {
    let endless = "{heat_template_version: 2013-05-23, resources: {a: {type: node.yaml}}}";
    let mut inputs = inputs(endless, &json!({}));
    inputs.files.insert("node.yaml".to_owned(), endless.to_owned());
    let error = plan(&mut Addresses::default(), &BTreeMap::new(), &inputs).unwrap_err();
    assert!(error.contains("nested deeper"), "{error}");
    // Nor is there a way to make one grow without bounds.
    let wide = "{heat_template_version: 2013-05-23, resources: {a: {type: 'OS::Heat::ResourceGroup', properties: {count: 1000, resource_def: {type: node.yaml}}}}}";
    inputs.template = parse_text(wide).unwrap();
    let members = "{heat_template_version: 2013-05-23, resources: {a: {type: 'OS::Heat::None'}, b: {type: 'OS::Heat::None'}}}";
    inputs.files.insert("node.yaml".to_owned(), members.to_owned());
    assert!(
        plan(&mut Addresses::default(), &BTreeMap::new(), &inputs).unwrap_err().contains("2000 resources")
    );
}

/// A cloud without a listener.
fn cloud(directory: &std::path::Path) -> Arc<Cloud> {
    let site = SiteFile::parse(SITE).unwrap();
    let cloud = Cloud::open(CloudSetup {
        site: &site,
        spec: site.cloud.as_ref().unwrap(),
        directory,
        passwords: BTreeMap::from([("u".to_owned(), "p".to_owned())]),
        bodies: Arc::new(SimBodies),
        shutdown: CancellationToken::new(),
        tasks: TaskTracker::new(),
    });
    let cloud = cloud.unwrap();
    cloud.resume("http://127.0.0.1:1");
    cloud
}

/// A request for a route, with something in place of what is open in its path.
fn request_for(route: &Route, token: Option<&str>) -> http::request::Parts {
    let path: String =
        route.path().split('/').filter(|part| !part.is_empty()).fold(String::new(), |path, part| {
            path + "/" + if part.starts_with('{') { "7b1c0000000000000000000000000000" } else { part }
        });
    let mut request =
        http::Request::builder().method(route.method.clone()).uri(if path.is_empty() { "/" } else { &path });
    if let Some(token) = token {
        request = request.header("x-auth-token", token);
    }
    request.body(()).unwrap().into_parts().0
}

#[tokio::test]
async fn every_route_refuses_strangers() {
    let directory = tempfile::tempdir().unwrap();
    let cloud = cloud(directory.path());
    let (token, _) = cloud.authenticate(&login()).unwrap();
    let (mut closed, mut open) = (0, 0);
    for route in &ROUTES {
        for stranger in [None, Some(""), Some("gAAAAA"), Some(&token[1..])] {
            let answer = cloud.answer(&request_for(route, stranger), bytes::Bytes::new(), false).await;
            let status = answer.err().map(|refusal| refusal.status.as_u16());
            match (route.is_open(), status) {
                (true, status) => {
                    // No body is no login.
                    assert!(matches!(status, None | Some(400)), "{} {}", route.method, route.path());
                    open += 1;
                }
                (false, status) => {
                    assert_eq!(status, Some(401), "{} {}", route.method, route.path());
                    closed += 1;
                }
            }
        }
    }
    assert!(closed > 100 && open < 40, "{closed} {open}");
    // Whoever has a token is told apart only by the project in the path.
    let mine = cloud.answer(&request_for(&ROUTES[18], Some(&token)), bytes::Bytes::new(), false).await;
    assert_eq!(mine.err().map(|refusal| refusal.status.as_u16()), Some(403));
}

#[tokio::test]
async fn a_damaged_journal_is_told_and_a_torn_line_is_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("stacks.jsonl");
    std::fs::write(&file, "{\"id\": \"4").unwrap();
    drop(cloud(directory.path()));
    std::fs::write(&file, "{\"id\": \"4\"}\n").unwrap();
    let site = SiteFile::parse(SITE).unwrap();
    let opened = Cloud::open(CloudSetup {
        site: &site,
        spec: site.cloud.as_ref().unwrap(),
        directory: directory.path(),
        passwords: BTreeMap::new(),
        bodies: Arc::new(SimBodies),
        shutdown: CancellationToken::new(),
        tasks: TaskTracker::new(),
    });
    assert!(opened.unwrap_err().to_string().contains("stacks.jsonl"));
}

const KEYS: &[&str] = &[
    "stack_name",
    "template",
    "files",
    "parameters",
    "environment",
    "nfv",
    "size",
    "type",
    "properties",
    "resources",
    "get_param",
    "get_attr",
    "get_resource",
    "if",
    "str_replace",
    "network",
    "networks",
    "port",
    "count",
    "resource_def",
    "condition",
    "depends_on",
    "fixed_ips",
    "scheduler_hints",
];

fn bodies() -> impl Strategy<Value = Value> {
    let sample = json!({"stack_name": "s", "template": parse_text(TEMPLATE).unwrap(), "files": {"node.yaml": NODE},
        "parameters": {"size": 1}, "environment": {"resource_registry": {"my": "node.yaml"}}, "timeout_mins": 5, "disable_rollback": false});
    prop_oneof![
        3 => distorted(sample, KEYS),
        1 => damaged_text([TEMPLATE]).prop_map(|text| json!({"stack_name": "s", "template": text, "files": {"node.yaml": NODE}})),
        1 => damaged_text([NODE]).prop_map(|text| json!({"stack_name": "s", "template": TEMPLATE, "files": {"node.yaml": text}})),
    ]
}

proptest! {
    #[test]
    fn any_text_is_a_template_or_none(text in prop_oneof![damaged_text([TEMPLATE, NODE]), text()]) {
        if let Ok(template) = Template::parse(&Value::String(text)) {
            let _ = template.order();
        }
    }

    #[test]
    fn any_body_makes_a_stack_or_is_refused(bodies in proptest::collection::vec(bodies(), 1..4)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        runtime.block_on(async {
            let cloud = cloud(directory.path());
            let caller = cloud.accounts.caller(&cloud.authenticate(&login()).unwrap().0).unwrap();
            let mut made = Vec::new();
            for body in &bodies {
                let Ok(read) = StackBody::read(body) else { continue };
                match made.last() {
                    Some(id) => drop(cloud.update(*id, read, Manner::Merge).await),
                    None => made.extend(cloud.create(&caller, read).await.ok()),
                }
            }
            for id in made {
                cloud.delete(id).await.unwrap();
            }
            let state = cloud.lock();
            prop_assert!(state.records.is_empty() && state.names.is_empty() && state.nested.is_empty());
            prop_assert!(state.addresses.is_empty(), "{:?}", state.addresses);
            Ok(())
        })?;
    }
}

fn login() -> Value {
    let domain = json!({"id": "default"});
    json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "u", "password": "p", "domain": domain}}}}})
}
