//! A context is installed and removed.

use drystone_appcontext::{Connectivity, ResourceStatus, State, contract::Synchroniser as _};
use drystone_synchroniser::{Change, Identity, Presence};

use crate::world::{World, config, context, deployment, hook, job, manifest, name, part};

#[tokio::test]
async fn a_context_is_installed_told_ready_and_removed_without_a_trace() {
    let world = World::of(2).await;
    let mut web = part(&[config("settings"), deployment("web", 2), manifest("v1", "Namespace", "apps", "")]);
    hook(&mut web, |hooks| &mut hooks.pre_install, job("migrate"));
    hook(&mut web, |hooks| &mut hooks.post_install, job("check"));
    hook(&mut web, |hooks| &mut hooks.pre_delete, job("backup"));
    let context = context(7, &[("web", &[0, 1], web)]);
    world.contexts.create(&context).await.unwrap();
    let mut changes = world.sync.changes();
    world.sync.install(context.id).await.unwrap();
    world.until(context.id, State::Instantiated).await;
    for index in 0..2 {
        assert_eq!(
            world.cluster(index).objects(),
            [
                "apps/v1/deployments/apps/web",
                "batch/v1/jobs/apps/check",
                "batch/v1/jobs/apps/migrate",
                "v1/configmaps/apps/settings",
                "v1/namespaces//apps",
            ]
        );
        let web = world.cluster(index).get("apps/v1/deployments", "apps", "web").unwrap();
        assert_eq!(web["metadata"]["labels"]["emco/deployment-id"], "7-web");
        assert_eq!(web["spec"]["template"]["metadata"]["labels"]["emco/deployment-id"], "7-web");
    }
    let mut ready = 0;
    while ready < 2 {
        if let Change::Ready { ready: true, status_context, .. } = changes.recv().await.unwrap() {
            assert_eq!(status_context, context.id);
            ready += 1;
        }
    }
    let view = world.sync.view(context.id).unwrap();
    assert!(view.parts.iter().all(|part| part.ready && part.connectivity == Connectivity::Available));
    let all = view.parts.iter().flat_map(|part| &part.resources).filter(|resource| !resource.is_hook);
    assert!(all.into_iter().all(|resource| resource.presence == Presence::Ready), "{view:#?}");

    world.idle().await;
    world.sync.uninstall(context.id).await.unwrap();
    world.until(context.id, State::Terminated).await;
    for index in 0..2 {
        assert_eq!(world.cluster(index).objects(), Vec::<String>::new());
        let written = world.cluster(index).written();
        assert!(written.values().all(|times| *times == 1), "each object once: {written:?}");
    }
    let part = world.part(context.id, "web", 1).await;
    assert!(part.resources.values().all(|resource| resource.status == Some(ResourceStatus::Deleted)));
}

#[tokio::test]
async fn what_clusters_say_is_in_the_context() {
    let world = World::of(1).await;
    world.cluster(0).set_ready(false);
    let context = context(8, &[("web", &[0], part(&[deployment("web", 1), config("c")]))]);
    world.contexts.create(&context).await.unwrap();
    world.sync.install(context.id).await.unwrap();
    world.until(context.id, State::Instantiated).await;
    let view = || world.sync.view(context.id).unwrap().parts.remove(0);
    world
        .eventually("the part is seen", || view().resources.iter().any(|r| r.presence == Presence::NotReady))
        .await;
    assert!(!view().ready);
    world.cluster(0).set_ready(true);
    world.eventually("the part is ready", || view().ready).await;
    let told = |part: &drystone_appcontext::Part| {
        part.resources_ready == Some(true)
            && part.connectivity == Some(Connectivity::Available)
            && part.status.as_ref().is_some_and(|status| {
                let status: serde_json::Value = serde_json::from_str(status).unwrap();
                status["ready"] == true && status["deploymentStatuses"][0]["metadata"]["name"] == "web"
            })
    };
    let mut found = world.part(context.id, "web", 0).await;
    for _ in 0..2000 {
        if told(&found) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        found = world.part(context.id, "web", 0).await;
    }
    assert!(told(&found), "{found:#?}");
    assert_eq!(world.sync.objects(context.id, "web", &name(0)).len(), 1);
    assert!(world.cluster(0).lose("apps/v1/deployments", "apps", "web"));
    world
        .eventually("its loss is seen", || {
            view().resources.iter().any(|r| r.presence == Presence::NotPresent)
        })
        .await;
}

#[tokio::test]
async fn a_logical_cloud_gets_its_certificate() {
    let world = World::of(1).await;
    let (name, text) =
        manifest("certificates.k8s.io/v1", "CertificateSigningRequest", "lc-user-csr", "{request: eA==}");
    let mut cloud = part(&[(name.clone(), text)]);
    let approval = r#"{"lastUpdateTime":null,"message":"Approved for Logical Cloud authentication","reason":"LogicalCloud","type":"Approved"}"#;
    cloud.resources.get_mut(&name).unwrap().approval = Some(approval.into());
    let mut context = context(1, &[("logical-cloud", &[0], cloud)]);
    context.meta.level = "0".into();
    world.contexts.create(&context).await.unwrap();
    world.sync.install(context.id).await.unwrap();
    world.until(context.id, State::Instantiated).await;
    let view = || world.sync.view(context.id).unwrap().parts.remove(0);
    world.eventually("it is signed", || view().ready).await;
    let request =
        world.cluster(0).get("certificates.k8s.io/v1/certificatesigningrequests", "", "lc-user-csr").unwrap();
    assert_eq!(request["status"]["conditions"][0]["message"], "Approved for Logical Cloud authentication");
    assert_eq!(request["status"]["conditions"][0]["status"], "True");
}

#[tokio::test]
async fn an_approval_that_is_not_readable_approves_nothing() {
    for approval in ["", "no", "null", r#""Approved""#, r#"{"type":"Denied""#] {
        let world = World::of(1).await;
        let (name, text) =
            manifest("certificates.k8s.io/v1", "CertificateSigningRequest", "csr", "{request: eA==}");
        let mut cloud = part(&[(name.clone(), text)]);
        cloud.resources.get_mut(&name).unwrap().approval = Some(approval.into());
        let context = context(1, &[("logical-cloud", &[0], cloud)]);
        world.contexts.create(&context).await.unwrap();
        world.sync.install(context.id).await.unwrap();
        world.until(context.id, State::InstantiateFailed).await;
        assert_eq!(world.cluster(0).count(), 1);
        let request =
            world.cluster(0).get("certificates.k8s.io/v1/certificatesigningrequests", "", "csr").unwrap();
        assert!(request["status"]["conditions"].is_null(), "{approval:?}: {request}");
        let problems = world.sync.problems(context.id);
        assert!(problems[0].contains("no JSON object"), "{problems:?}");
    }
}

#[tokio::test]
async fn objects_are_written_as_the_user_of_their_cloud_and_seen_as_the_administrator() {
    let world = World::of(1).await;
    let mut context = context(1, &[("web", &[0], part(&[deployment("web", 1)]))]);
    (context.meta.level, context.meta.logical_cloud) = ("1".into(), "lc".into());
    context.meta.project = "p1".into();
    world.contexts.create(&context).await.unwrap();
    world.sync.install(context.id).await.unwrap();
    world.until(context.id, State::Instantiated).await;
    world.eventually("it is seen", || world.sync.view(context.id).unwrap().parts[0].ready).await;
    let identities = world.ways.identities();
    let user = Identity {
        level: "1".into(),
        project: "p1".into(),
        namespace: "apps".into(),
        logical_cloud: "lc".into(),
    };
    assert!(identities.contains(&user) && identities.contains(&Identity::administrator()), "{identities:?}");
}
