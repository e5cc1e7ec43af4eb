use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;

use super::*;

const ZONES: &str = "/redfish/v1/Fabrics/F/Zones";

fn zone(id: &str, name: &str) -> Item {
    Item::Resource(
        json!({"@odata.id": format!("{ZONES}/{id}"), "@odata.type": "#Zone.v1_6_3.Zone", "Id": id, "Name": name}),
    )
}

fn told(changes: &[Change]) -> Vec<(ChangeKind, &str)> {
    changes.iter().map(|change| (change.kind, change.uri.rsplit('/').next().unwrap())).collect()
}

#[test]
fn a_body_is_served_with_its_tag_and_changes_are_told_once() {
    let tree = Tree::default();
    let mut listener = tree.changes();
    let changes = tree.replace("zones", [Item::collection(ZONES, "Zone"), zone("b", "B"), zone("a", "A")]);
    assert_eq!(told(&changes), [(ChangeKind::Created, "a"), (ChangeKind::Created, "b")]);
    let ready = tree.get(&format!("{ZONES}/a")).unwrap();
    let value = ready.value().unwrap();
    assert_eq!(value["@odata.etag"], ready.etag().unwrap());
    assert_eq!(ready.kind.schema(), "Zone");
    assert!(ready.kind.described_by.as_ref().unwrap().to_str().unwrap().contains("Zone.v1_6_3.json"));
    let before = ready.etag();
    assert!(
        tree.replace("zones", [Item::collection(ZONES, "Zone"), zone("b", "B"), zone("a", "A")]).is_empty()
    );
    assert_eq!(tree.get(&format!("{ZONES}/a")).unwrap().etag(), before);
    let changes =
        tree.replace("zones", [Item::collection(ZONES, "Zone"), zone("a", "other"), zone("c", "C")]);
    assert_eq!(
        told(&changes),
        [(ChangeKind::Changed, "a"), (ChangeKind::Removed, "b"), (ChangeKind::Created, "c")]
    );
    assert_eq!(listener.try_recv().unwrap().len(), 2);
    assert_eq!(listener.try_recv().unwrap().len(), 3);
    assert!(listener.try_recv().is_err());
}

#[test]
fn collections_list_what_is_below_them() {
    let tree = Tree::default();
    tree.replace("early", [zone("z", "Z")]);
    assert!(tree.get(ZONES).is_none(), "nobody has declared it");
    tree.replace("fabric", [Item::collection(ZONES, "Zone")]);
    let body = || tree.get(ZONES).unwrap().value().unwrap();
    assert_eq!(body()["Members"], json!([{"@odata.id": format!("{ZONES}/z")}]));
    assert_eq!(body()["@odata.type"], "#ZoneCollection.ZoneCollection");
    tree.put("early", [zone("a", "A"), zone("a/b", "not a member")]);
    assert_eq!(body()["Members@odata.count"], 2);
    assert_eq!(body()["Members"][0]["@odata.id"], format!("{ZONES}/a"));
    tree.remove("early", &[format!("{ZONES}/a")]);
    tree.remove("somebody else", &[format!("{ZONES}/z")]);
    assert_eq!(body()["Members@odata.count"], 1);
    tree.replace("fabric", []);
    assert!(tree.get(ZONES).is_none());
}

#[test]
fn long_collections_come_in_pages() {
    let tree = Tree::default();
    let ids = (0..PAGE + 1).map(|number| format!("z{number:05}"));
    tree.replace("zones", ids.map(|id| zone(&id, "Z")).chain([Item::collection(ZONES, "Zone")]));
    let page = tree.get(ZONES).unwrap().value().unwrap();
    assert_eq!(page["Members"].as_array().unwrap().len(), PAGE);
    assert_eq!(page["Members@odata.count"], PAGE + 1);
    assert_eq!(page["Members@odata.nextLink"], format!("{ZONES}?$skip={PAGE}"));
    assert_eq!(tree.value(ZONES).unwrap()["Members"].as_array().unwrap().len(), PAGE + 1);
}

fn members(stretch: &Stretch) -> Vec<String> {
    let list = stretch.body["Members"].as_array().unwrap().iter();
    list.map(|member| member["@odata.id"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
}

#[test]
fn a_stretch_of_a_collection_has_the_tag_of_the_whole() {
    let tree = Tree::default();
    let items = |ids: &[&str]| {
        let zones: Vec<Item> = ids.iter().map(|id| zone(id, "Z")).collect();
        zones.into_iter().chain([Item::collection(ZONES, "Zone")]).collect::<Vec<_>>()
    };
    tree.replace("zones", items(&["a", "b", "c", "d"]));
    let some = tree.stretch(ZONES, 1, 2).unwrap();
    assert_eq!((members(&some), some.total), (vec!["b".to_owned(), "c".to_owned()], 4));
    assert_eq!(some.body["Members@odata.count"], 4);
    let etag = tree.get(ZONES).unwrap().etag().unwrap();
    assert_eq!(some.body["@odata.etag"], etag);
    assert_eq!(tree.value(ZONES).unwrap()["@odata.etag"], etag);
    assert_eq!(members(&tree.stretch(ZONES, 3, 9).unwrap()), ["d"]);
    assert!(members(&tree.stretch(ZONES, 9, usize::MAX).unwrap()).is_empty());
    assert_eq!(tree.stretch(&format!("{ZONES}/a"), 0, 1), None, "no collection");
    // Another set of as many members, where the stretch does not look.
    tree.replace("zones", items(&["a", "b", "c", "e"]));
    let same = tree.stretch(ZONES, 1, 2).unwrap();
    assert_eq!(members(&same), members(&some));
    assert_ne!(same.body["@odata.etag"], etag);
    tree.replace("zones", items(&["d", "c", "b", "a"]));
    assert_eq!(tree.stretch(ZONES, 1, 2).unwrap().body["@odata.etag"], etag);
}

#[test]
fn a_stretch_costs_what_it_is_long() {
    let cost = |count: usize| {
        let tree = Tree::default();
        let ids = (0..count).map(|number| format!("z{number:05}"));
        tree.replace("zones", ids.map(|id| zone(&id, "Z")).chain([Item::collection(ZONES, "Zone")]));
        let once = || {
            let began = std::time::Instant::now();
            assert_eq!(members(&tree.stretch(ZONES, count / 2, 50).unwrap()).len(), 50);
            began.elapsed()
        };
        // The quickest of many: others may have the processor the rest of the time.
        (0..200).map(|_| once()).min().unwrap()
    };
    let (short, long) = (cost(200), cost(20_000));
    assert!(long < short * 10, "{short:?} of 200, {long:?} of 20,000");
}

#[test]
fn links_are_added_to_resources_of_others() {
    let tree = Tree::default();
    let endpoint = "/redfish/v1/Fabrics/F/Endpoints/e";
    let body = |tag: &str| {
        Item::Resource(
            json!({"@odata.id": endpoint, "@odata.type": "#Endpoint.v1_8_2.Endpoint", "Name": tag}),
        )
    };
    let zones = || tree.get(endpoint).unwrap().value().unwrap()["Links"]["Zones"].clone();
    tree.replace("zone 1", [Item::link(endpoint, "Links/Zones", "/z1")]);
    tree.replace("fabric", [body("one")]);
    assert_eq!(zones(), json!([{"@odata.id": "/z1"}]), "even before the resource comes");
    let changes = tree.replace("zone 2", [Item::link(endpoint, "Links/Zones", "/z2")]);
    assert_eq!(told(&changes), [(ChangeKind::Changed, "e")]);
    tree.replace("fabric", [body("two")]);
    assert_eq!(zones(), json!([{"@odata.id": "/z1"}, {"@odata.id": "/z2"}]));
    tree.replace("zone 1", []);
    tree.replace("zone 2", []);
    let plain = tree.get(endpoint).unwrap().value().unwrap();
    assert_eq!((plain.get("Links"), &plain["Name"]), (None, &json!("two")));
    tree.replace(
        "room",
        [Item::Link { from: endpoint.to_owned(), path: "Zones", to: ZONES.to_owned(), single: true }],
    );
    assert_eq!(tree.get(endpoint).unwrap().value().unwrap()["Zones"], json!({"@odata.id": ZONES}));
}

#[test]
fn what_two_owners_know_is_whose_put_it_last() {
    let tree = Tree::default();
    tree.replace("first", [zone("z", "first")]);
    tree.replace("second", [zone("z", "second")]);
    assert_eq!(told(&tree.replace("first", [])), []);
    assert_eq!(tree.get(&format!("{ZONES}/z")).unwrap().value().unwrap()["Name"], "second");
    assert_eq!(told(&tree.replace("second", [])), [(ChangeKind::Removed, "z")]);
}

proptest! {
    /// Whatever owners do, the tree shows the bodies put last, and collections and added links agree with what there is.
    #[test]
    fn the_tree_agrees_with_a_simple_model(steps in prop::collection::vec(
        (0_usize..3, prop::collection::btree_map(0_u8..6, 0_u8..3, 0..5), prop::collection::btree_set(0_u8..6, 0..4)), 1..20))
    {
        let tree = Tree::default();
        tree.replace("collection", [Item::collection(ZONES, "Zone")]);
        // Each owner has URIs of its own; links go to anybody's.
        let mut bodies: BTreeMap<(usize, u8), u8> = BTreeMap::new();
        let mut links: BTreeMap<usize, BTreeSet<u8>> = BTreeMap::new();
        for (owner, resources, linked) in steps {
            let items = resources.iter().map(|(id, name)| zone(&format!("{owner}-{id}"), &name.to_string()));
            let added = linked.iter().map(|id| Item::link(format!("{ZONES}/0-{id}"), "Links/Zones", format!("/{owner}")));
            tree.replace(&owner.to_string(), items.chain(added).collect::<Vec<_>>());
            bodies.retain(|(of, _), _| *of != owner);
            bodies.extend(resources.into_iter().map(|(id, name)| ((owner, id), name)));
            links.insert(owner, linked);
        }
        let members: Vec<String> = bodies.keys().map(|(owner, id)| format!("{ZONES}/{owner}-{id}")).collect();
        let listed: Vec<String> = tree.members(ZONES).iter().map(ToString::to_string).collect();
        prop_assert_eq!(&listed, &members);
        for ((owner, id), name) in bodies {
            let value = tree.get(&format!("{ZONES}/{owner}-{id}")).unwrap().value().unwrap();
            prop_assert_eq!(&value["Name"], &json!(name.to_string()));
            let wanted: Vec<Value> = links.iter().filter(|(_, ids)| owner == 0 && ids.contains(&id))
                .map(|(from, _)| json!({"@odata.id": format!("/{from}")})).collect();
            let found = value["Links"]["Zones"].as_array().cloned().unwrap_or_default();
            prop_assert_eq!(found, wanted);
        }
    }
}
