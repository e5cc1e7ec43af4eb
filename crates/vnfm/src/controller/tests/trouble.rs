//! What goes wrong, and what people decide then.

use std::time::Duration;

use drystone_api::nfv::{
    Vim, VnfInstance, VnfInstanceSpec, VnfInstanceStatus, VnfLcmOperation, VnfLcmOperationSpec,
};
use drystone_sol003::types::{InstantiationState, LcmOperationState, LcmOperationType, VimConnectionInfo};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::sleep;

use super::world::{NAMESPACE, World, places, states, uid};
use crate::steps::VimError;

use LcmOperationState::{Completed, Failed, FailedTemp, Processing, RolledBack, RollingBack, Starting};

fn no_host() -> VimError {
    VimError::Permanent("no valid host".to_owned())
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_tried_again() {
    let world = World::new(&[]).await;
    let _process = world.process();
    world.cloud.state().troubles.push_back(no_host());
    let name = world.ask(LcmOperationType::Instantiate, json!({"flavourId": "simple"})).await;
    let failed = world.until(&name, FailedTemp).await;
    assert_eq!(failed.error.expect("has one").detail, "Make the stack (stack): no valid host");
    assert_eq!(world.instance().await.operation.as_deref(), Some(name.as_str()), "it holds the instance");
    world.order(&name, json!({"retries": 1})).await;
    let done = world.until(&name, Completed).await;
    assert_eq!(states(&done), [Starting, Processing, FailedTemp, Processing, Completed]);
    assert!(done.error.is_none());
    assert_eq!(world.instance().await.operation, None);
    assert_eq!(world.cloud.state().made, 1);
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_rolled_back() {
    let world = World::new(&["instantiate_end"]).await;
    let _process = world.process();
    *world.failures.lock().expect("not poisoned") = 1;
    let name = world.ask(LcmOperationType::Instantiate, json!({"flavourId": "simple"})).await;
    world.until(&name, FailedTemp).await;
    assert_eq!(world.cloud.ids("worker").len(), 2);
    world.order(&name, json!({"rollbacks": 1})).await;
    let done = world.until(&name, RolledBack).await;
    assert_eq!(states(&done), [Starting, Processing, FailedTemp, RollingBack, RolledBack]);
    assert_eq!(world.notes(), ["instantiate_end 4", "undo instantiate_end"]);
    assert!(world.cloud.state().stacks.is_empty());
    let instance = world.instance().await;
    assert_eq!(
        (instance.instantiation_state, instance.operation),
        (InstantiationState::NotInstantiated, None)
    );
}

#[tokio::test(start_paused = true)]
async fn a_roll_back_that_fails_is_told_again() {
    let world = World::new(&["instantiate_end"]).await;
    let _process = world.process();
    *world.failures.lock().expect("not poisoned") = 1;
    let name = world.ask(LcmOperationType::Instantiate, json!({"flavourId": "simple"})).await;
    world.until(&name, FailedTemp).await;
    world.cloud.state().troubles.push_back(no_host());
    world.order(&name, json!({"rollbacks": 1})).await;
    sleep(Duration::from_secs(60)).await;
    let failed = world.until(&name, FailedTemp).await;
    assert_eq!(states(&failed), [Starting, Processing, FailedTemp, RollingBack, FailedTemp]);
    world.order(&name, json!({"rollbacks": 2})).await;
    world.until(&name, RolledBack).await;
    assert!(world.cloud.state().stacks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn scaling_is_rolled_back_both_ways_and_the_instance_says_what_there_is() {
    for (kind, level) in [("SCALE_OUT", 0), ("SCALE_IN", 2)] {
        let world = World::new(&["scale_end"]).await;
        let _process = world.process();
        world.instantiated().await;
        if level > 0 {
            let out = json!({"type": "SCALE_OUT", "aspectId": "worker_instance", "numberOfSteps": level});
            world.done(LcmOperationType::Scale, out).await;
        }
        let before = places(&world.instance().await);
        *world.failures.lock().expect("not poisoned") = 1;
        let name =
            world.ask(LcmOperationType::Scale, json!({"type": kind, "aspectId": "worker_instance"})).await;
        world.until(&name, FailedTemp).await;
        world.order(&name, json!({"rollbacks": 1})).await;
        world.until(&name, RolledBack).await;
        let instance = world.instance().await;
        let after = places(&instance);
        assert_eq!(after.len(), before.len());
        if kind == "SCALE_OUT" {
            assert_eq!(after, before, "the new ones went, not the old ones");
        } else {
            let new: Vec<_> = after.iter().filter(|place| !before.contains(place)).collect();
            assert_eq!(new.len(), 1, "the one that went came again as another");
            assert!(new[0].starts_with("worker-3="), "in its place: {new:?}");
        }
        let info = instance.instantiated_vnf_info.expect("has one");
        assert_eq!((info.scale_status[0].scale_level, instance.operation), (level, None));
        let servers: Vec<&String> = info.vnfc_resource_info.iter().map(|it| &it.id).collect();
        assert!(world.cloud.ids("worker").iter().all(|id| servers.contains(&id)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_terminated_does_not_come_back() {
    let world = World::new(&["terminate_end"]).await;
    let _process = world.process();
    world.instantiated().await;
    *world.failures.lock().expect("not poisoned") = 1;
    let name = world.ask(LcmOperationType::Terminate, json!({"terminationType": "FORCEFUL"})).await;
    world.until(&name, FailedTemp).await;
    world.order(&name, json!({"rollbacks": 1})).await;
    sleep(Duration::from_secs(60)).await;
    let failed = world.until(&name, FailedTemp).await;
    let why = failed.error.expect("has one").detail;
    assert!(why.contains("cannot be taken back"), "{why}");
    world.order(&name, json!({"retries": 1})).await;
    world.until(&name, Completed).await;
    assert_eq!(world.instance().await.instantiation_state, InstantiationState::NotInstantiated);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_lets_the_instance_go() {
    let world = World::new(&[]).await;
    let _process = world.process();
    world.cloud.state().troubles.push_back(no_host());
    let name = world.ask(LcmOperationType::Instantiate, json!({"flavourId": "simple"})).await;
    world.until(&name, FailedTemp).await;
    world.order(&name, json!({"fail": true})).await;
    let failed = world.until(&name, Failed).await;
    assert!(failed.error.expect("has one").detail.contains("no valid host"));
    assert_eq!(world.instance().await.operation, None);
    // What it left is found again by the next attempt.
    world.instantiated().await;
    assert_eq!(world.cloud.state().made, 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_cancelled_gently_or_at_once_and_goes_on() {
    for (mode, marked) in [("GRACEFUL", "what ran was finished"), ("FORCEFUL", "it was interrupted")] {
        let world = World::new(&[]).await;
        let _process = world.process();
        let name = world.ask(LcmOperationType::Instantiate, json!({"flavourId": "simple"})).await;
        world.until(&name, Processing).await;
        sleep(Duration::from_secs(3)).await;
        world.order(&name, json!({"cancel": mode})).await;
        let stopped = world.until(&name, FailedTemp).await;
        assert_eq!(stopped.error.expect("has one").title.as_deref(), Some("Cancelled"));
        let complete = world.cloud.state().stacks.values().all(|stack| stack.complete);
        assert_eq!(complete, mode == "GRACEFUL", "{marked}");
        world.order(&name, json!({"retries": 1})).await;
        world.until(&name, Completed).await;
        assert_eq!(world.cloud.state().made, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_that_comes_when_it_has_failed_does_not_stop_the_next_attempt() {
    let world = World::new(&[]).await;
    let _process = world.process();
    world.cloud.state().troubles.push_back(no_host());
    let name = world.ask(LcmOperationType::Instantiate, json!({"flavourId": "simple"})).await;
    world.until(&name, FailedTemp).await;
    world.order(&name, json!({"cancel": "FORCEFUL"})).await;
    world.order(&name, json!({"retries": 1})).await;
    let done = world.until(&name, Completed).await;
    assert_eq!(states(&done), [Starting, Processing, FailedTemp, Processing, Completed]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_changes_nothing() {
    let world = World::new(&["heal_end"]).await;
    let _process = world.process();
    for (operation, parameters, why, status) in [
        (LcmOperationType::Instantiate, json!({"flavourId": "huge"}), "flavourId: no flavour \"huge\"", 400),
        (LcmOperationType::Instantiate, json!({}), "flavourId: is missing", 400),
        (LcmOperationType::Heal, json!({}), "the instance is not INSTANTIATED", 409),
        (
            LcmOperationType::Instantiate,
            json!({"flavourId": "simple", "vimConnectionInfo": {"v": {"vimType": "openstack", "vimId": "x"}}}),
            "vimConnectionInfo.v.vimId: no VIM with the id x is registered",
            404,
        ),
    ] {
        let name = world.ask(operation, parameters).await;
        let refused = world.until(&name, RolledBack).await;
        assert_eq!(states(&refused), [Starting, RolledBack]);
        let error = refused.error.expect("has one");
        assert_eq!((error.detail.as_str(), error.status), (why, status));
        assert_eq!(world.instance().await.operation, None);
    }
    assert!(world.cloud.state().calls.is_empty());
    world.instantiated().await;
    for (operation, parameters, why) in [
        (
            LcmOperationType::Scale,
            json!({"type": "SCALE_OUT", "aspectId": "worker_instance", "numberOfSteps": 4}),
            "numberOfSteps: worker_instance is at level 0 of 0 to 3: it cannot be scaled out by 4",
        ),
        (
            LcmOperationType::Scale,
            json!({"type": "SCALE_IN", "aspectId": "worker_instance"}),
            "numberOfSteps: worker_instance is at level 0 of 0 to 3: it cannot be scaled in by 1",
        ),
        (
            LcmOperationType::Heal,
            json!({"vnfcInstanceId": ["no"]}),
            "vnfcInstanceId[0]: the instance has no component \"no\"",
        ),
        (
            LcmOperationType::Heal,
            json!({"additionalParams": {"refuse": 1}}),
            "additionalParams.refuse: refused",
        ),
    ] {
        let name = world.ask(operation, parameters).await;
        let refused = world.until(&name, RolledBack).await;
        assert_eq!(refused.error.expect("has one").detail, why);
    }
    assert_eq!(world.cloud.state().calls.len(), 1, "only the stack was made");
}

#[tokio::test(start_paused = true)]
async fn another_operation_waits_for_nothing() {
    let world = World::new(&[]).await;
    let _process = world.process();
    let first = world.ask(LcmOperationType::Instantiate, json!({"flavourId": "simple"})).await;
    world.until(&first, Processing).await;
    // Made by hand, it did not take the instance.
    let spec = VnfLcmOperationSpec {
        instance: "vnf".to_owned(),
        operation: LcmOperationType::Terminate,
        parameters: json!({"terminationType": "FORCEFUL"}).as_object().cloned().expect("an object"),
        ..VnfLcmOperationSpec::default()
    };
    let by_hand = VnfLcmOperation::new("by-hand", spec.clone());
    world.occurrences().create(&PostParams::default(), &by_hand).await.expect("created");
    let refused = world.until("by-hand", RolledBack).await;
    assert_eq!(refused.error.expect("has one").status, 409);
    world.until(&first, Completed).await;
    // When nobody holds it, one made by hand does.
    let later = VnfLcmOperation::new("later", spec);
    world.occurrences().create(&PostParams::default(), &later).await.expect("created");
    world.until("later", Completed).await;
    assert!(world.cloud.state().stacks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_others_run_on_is_not_terminated() {
    let world = World::new(&[]).await;
    let _process = world.process();
    world.instantiated().await;
    let vim = world.put_vim("kubernetes-vim", false).await;
    let vims: Api<Vim> = Api::namespaced(world.api.client(), NAMESPACE);
    let made_by = Patch::Merge(json!({"spec": {"madeBy": "vnf", "type": "Kubernetes"}}));
    vims.patch("kubernetes-vim", &PatchParams::default(), &made_by).await.expect("changed");
    let spec = VnfInstanceSpec { vnfd_id: "vnfd-1".to_owned(), ..VnfInstanceSpec::default() };
    let other = world.instances().create(&PostParams::default(), &VnfInstance::new("cnf", spec)).await;
    let mut other = other.expect("created");
    let info = VimConnectionInfo { vim_id: Some(uid(&vim)), ..VimConnectionInfo::default() };
    other.status = Some(VnfInstanceStatus {
        instantiation_state: InstantiationState::Instantiated,
        vim_connection_info: [("vim1".to_owned(), info)].into(),
        ..VnfInstanceStatus::default()
    });
    let patch = Patch::Merge(json!({"status": other.status}));
    world.instances().patch_status("cnf", &PatchParams::default(), &patch).await.expect("written");
    let name = world.ask(LcmOperationType::Terminate, json!({"terminationType": "FORCEFUL"})).await;
    let refused = world.until(&name, RolledBack).await.error.expect("has one");
    assert_eq!(refused.status, 409);
    assert!(refused.detail.contains("the VNF cnf"), "{}", refused.detail);
    // Neither can the VIM be deleted under it.
    vims.delete("kubernetes-vim", &DeleteParams::default()).await.expect("marked");
    sleep(Duration::from_secs(30)).await;
    assert!(vims.get_opt("kubernetes-vim").await.expect("asked").is_some());
    let forced = json!({"terminationType": "FORCEFUL", "additionalParams": {"force": true}});
    world.done(LcmOperationType::Terminate, forced).await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_not_deleted_while_it_has_resources() {
    let world = World::new(&[]).await;
    let _process = world.process();
    world.instantiated().await;
    world.instances().delete("vnf", &DeleteParams::default()).await.expect("marked");
    sleep(Duration::from_secs(30)).await;
    assert!(world.instances().get_opt("vnf").await.expect("asked").is_some());
    world.done(LcmOperationType::Terminate, json!({"terminationType": "FORCEFUL"})).await;
    sleep(Duration::from_secs(30)).await;
    assert!(world.instances().get_opt("vnf").await.expect("asked").is_none());
    let vims: Api<Vim> = Api::namespaced(world.api.client(), NAMESPACE);
    assert_eq!(vims.get("openstack").await.expect("there").status.expect("asked").regions, ["RegionOne"]);
    assert_eq!(vims.get("openstack").await.expect("there").name_any(), "openstack");
}
