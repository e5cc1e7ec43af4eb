//! Queries: filters, selectors, paging, and how long they take.

use std::time::Instant;

use drystone_api::{
    SYSTEM_NAMESPACE,
    nfv::{VnfInstance, VnfInstanceSpec, VnfInstanceStatus},
};
use drystone_sol003::types::InstantiationState;
use futures::StreamExt as _;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use crate::world::World;

/// Makes instances as somebody with `kubectl` would: `vnf-0`, `vnf-1`, …; every tenth is instantiated.
async fn make(world: &World, count: usize) {
    let api: Api<VnfInstance> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    futures::stream::iter(0..count)
        .for_each_concurrent(16, |number| {
            let api = api.clone();
            async move {
                let spec = VnfInstanceSpec {
                    vnfd_id: format!("vnfd-{}", number % 100),
                    vnf_instance_name: Some(format!("vnf-{number}")),
                    metadata: json!({"number": number}).as_object().unwrap().clone(),
                    ..VnfInstanceSpec::default()
                };
                let name = format!("vnf-{number}");
                let mut made = api.create(&PostParams::default(), &VnfInstance::new(&name, spec)).await.unwrap();
                if number % 10 != 0 {
                    return;
                }
                let info = json!({"flavourId": "f", "vnfState": "STARTED", "vnfcResourceInfo": [
                    {"id": format!("res-{number}-a"), "vduId": "VDU1", "computeResource": {"resourceId": "x"}},
                    {"id": format!("res-{number}-b"), "vduId": "VDU2", "computeResource": {"resourceId": "y"}}]});
                made.status = Some(VnfInstanceStatus {
                    instantiation_state: InstantiationState::Instantiated,
                    instantiated_vnf_info: Some(serde_json::from_value(info).unwrap()),
                    ..VnfInstanceStatus::default()
                });
                loop {
                    match api.replace_status(&name, &PostParams::default(), &made).await {
                        Ok(_) => return,
                        Err(kube::Error::Api(status)) if status.code == 409 => {
                            let fresh = api.get(&name).await.unwrap();
                            made.metadata.resource_version = fresh.metadata.resource_version;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        })
        .await;
    let expected = count.div_ceil(10);
    world
        .eventually("all are shown", async || {
            let listed =
                world.get("/vnflcm/v2/vnf_instances?filter=(eq,instantiationState,INSTANTIATED)").await;
            (listed.body.as_array().unwrap().len() == expected).then_some(())
        })
        .await;
    world
        .eventually("the last is shown", async || {
            let path = format!("/vnflcm/v2/vnf_instances?filter=(eq,vnfInstanceName,vnf-{})", count - 1);
            (world.get(&path).await.body.as_array().unwrap().len() == 1).then_some(())
        })
        .await;
}

fn names(body: &Value) -> Vec<String> {
    let mut names: Vec<String> = body
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["vnfInstanceName"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_filtered_selected_and_paged() {
    let world = World::start().await;
    make(&world, 250).await;
    let list = async |query: &str| world.get(&format!("/vnflcm/v2/vnf_instances?{query}")).await;
    let found = async |filter: &str| names(&list(&format!("filter={filter}")).await.body);
    assert_eq!(found("(eq,vnfInstanceName,vnf-17)").await, ["vnf-17"]);
    assert_eq!(found("(in,vnfInstanceName,vnf-17,vnf-20,nobody)").await, ["vnf-17", "vnf-20"]);
    assert_eq!(
        found("(eq,vnfInstanceName,vnf-17);(eq,instantiationState,INSTANTIATED)").await,
        Vec::<String>::new()
    );
    assert_eq!(found("(eq,instantiatedVnfInfo/vnfcResourceInfo/id,res-30-b)").await, ["vnf-30"]);
    assert_eq!(found("(gte,metadata/number,248)").await, ["vnf-248", "vnf-249"]);
    assert_eq!(found("(cont,vnfInstanceName,24);(neq,instantiationState,INSTANTIATED)").await.len(), 12);
    assert_eq!(found("(eq,unknown,1)").await, Vec::<String>::new());
    assert_eq!(list("filter=(like,id,a)").await.status, 400);
    assert_eq!(list("filter=eq,id,a").await.status, 400);
    assert_eq!(list("fields=id&exclude_fields=id").await.status, 400);
    let one = |body: &Value| body[0].clone();
    let plain = one(&list("filter=(eq,vnfInstanceName,vnf-30)").await.body);
    assert!(
        plain["metadata"].is_null() && plain["instantiatedVnfInfo"].is_null() && plain["_links"].is_object()
    );
    let all = one(&list("filter=(eq,vnfInstanceName,vnf-30)&all_fields").await.body);
    assert_eq!(all["metadata"]["number"], 30);
    let some =
        one(&list("filter=(eq,vnfInstanceName,vnf-30)&fields=instantiatedVnfInfo/flavourId").await.body);
    assert_eq!(some["instantiatedVnfInfo"], json!({"flavourId": "f"}));
    let id = all["id"].as_str().unwrap();
    assert_eq!(names(&list(&format!("filter=(eq,id,{id})")).await.body), ["vnf-30"]);
    // Version 1 has pages, and its client follows them by the query of the link.
    let mut path = "/vnflcm/v1/vnf_instances?filter=(cont,vnfInstanceName,vnf)".to_owned();
    let (mut seen, mut pages) = (Vec::new(), 0);
    loop {
        let page = world.get(&path).await;
        pages += 1;
        seen.extend(names(&page.body));
        let link = page.header("link").to_owned();
        let Some(rest) = link.strip_prefix("<http://drystone:6443") else { break };
        let (next, rest) = rest.split_once('>').unwrap();
        assert_eq!(rest, ";rel=\"next\"");
        path = next.to_owned();
    }
    assert_eq!(pages, 3);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 250);
    let whole = world.get("/vnflcm/v1/vnf_instances?all_records=yes").await;
    assert_eq!((whole.body.as_array().unwrap().len(), whole.header("link")), (250, ""));
    assert_eq!(list("").await.body.as_array().unwrap().len(), 250);
}

/// Not a test that can fail for slowness: it prints what the list of 10,000 takes. Run it with `--run-ignored only --no-capture`, released.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn how_long_a_list_of_ten_thousand_takes() {
    let world = World::start().await;
    make(&world, 10_000).await;
    for query in [
        "filter=(eq,vnfInstanceName,vnf-7777)",
        "filter=(eq,instantiationState,INSTANTIATED)",
        "filter=(cont,vnfInstanceName,777)",
        "filter=(eq,instantiatedVnfInfo/vnfcResourceInfo/id,res-30-b)",
        "filter=(gte,metadata/number,9990)",
        "",
    ] {
        let path = format!("/vnflcm/v2/vnf_instances?{query}");
        let first = Instant::now();
        let count = world.get(&path).await.body.as_array().unwrap().len();
        let first = first.elapsed();
        let mut times = Vec::new();
        for _ in 0..20 {
            let begun = Instant::now();
            world.ask("GET", &path, &[crate::world::BASIC, "Version: 2.0.0"], "").await;
            times.push(begun.elapsed());
        }
        times.sort();
        println!(
            "{query:62} {count:5} found, first {first:?}, then median {:?}, longest {:?}",
            times[10], times[19]
        );
    }
}
