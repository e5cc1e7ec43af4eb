//! `drystone app plan`: where the applications of a deployment intent group would go, and why, without doing anything.

use clap::Args;
use drystone_appcontext::ClusterName;
use drystone_emco::{
    clusters::{ClusterAccess, LiveRooms},
    library::Library,
    model::{Amounts, DeployedApp, Deployment, GroupPath},
    plan::placement::{Clusters, Request, place},
    seams::Rooms as _,
};
use drystone_engine::harness::Caches;
use kube::Client;
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::cli::Access;

/// What is said of applications with `mustHaveRoom`.
const NOT_LOOKED_AT: &str = "mustHaveRoom: charts are not rendered here, so it is not looked at whether there is room for what its pods ask for, but at instantiation";

/// Arguments.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Path of the deployment intent group below /v2: `projects/P/composite-apps/A/VERSION/deployment-intent-groups/G`
    path: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    access: Access,
}

/// Runs it.
pub(super) async fn run(args: PlanArgs) -> Result<(), Failure> {
    let path = GroupPath::parse(args.path.trim_matches('/')).ok_or_else(|| {
        format!("{}: expected projects/P/composite-apps/A/VERSION/deployment-intent-groups/G", args.path)
    })?;
    let client = Client::try_from(super::config(&args.access).await?)?;
    let stop = CancellationToken::new();
    let _stopping = stop.clone().drop_guard();
    let caches = Caches::new(client.clone(), stop);
    let library = Library::of(&caches);
    if !library.ready().await {
        return Err("the documents could not be read".into());
    }
    let deployment = library.deployment(&path).map_err(|refusal| refusal.message)?;
    let mut facts = library.facts();
    look(&deployment, &ClusterAccess::new(client, &caches), &mut facts).await;
    let allowed = library
        .references_of(&path.cloud(&deployment.cloud))
        .iter()
        .map(|reference| ClusterName::new(&reference.spec.cluster_provider, &reference.spec.cluster))
        .collect();
    let requests: Vec<Request<'_>> = deployment
        .apps
        .iter()
        .map(|app| Request {
            app: &app.name,
            intent: &app.intent,
            rules: &app.rules,
            needs: Amounts::default(),
        })
        .collect();
    let (mut placement, refusal) = match place(&requests, &facts, Some(&allowed)) {
        Ok(placement) => (placement, None),
        Err(unplaced) => (unplaced.placement, Some(unplaced.refusal)),
    };
    for plan in &mut placement.apps {
        let has_rule = |app: &&DeployedApp| app.name == plan.app && app.rules.must_have_room;
        if deployment.apps.iter().find(has_rule).is_some() {
            // Charts are rendered where the controllers are.
            plan.remarks.push(NOT_LOOKED_AT.to_owned());
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&placement)?);
    } else {
        print!("{}", placement.to_text());
    }
    refusal.map_or(Ok(()), |refusal| Err(refusal.message.into()))
}

/// Asks clusters for their room, where a rule wants to know.
async fn look(deployment: &Deployment, access: &ClusterAccess, facts: &mut Clusters) {
    if !deployment.apps.iter().any(|app| app.rules.must_have_room) {
        return;
    }
    let rooms = LiveRooms(access.clone());
    for (name, facts) in facts.iter_mut() {
        facts.learn_room(rooms.room(name).await);
    }
}
