//! A part's stages, and each task of them.

use std::{sync::Arc, time::Duration};

use drystone_appcontext::{ClusterName, ResourceStatus, contexts::StatusValue};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use serde_json::Value;

use crate::{
    cluster::{
        board::Look,
        channel::{Answer, NoWay},
    },
    live::{object::LiveObject, part::LivePart},
    manifest::{LABEL, Prepared},
    plan::{Action, Stage, Task, Until},
    readiness::{self, Readiness},
    settings::Settings,
};

/// An object that could not be made or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Its application; empty if it is not about a part at all.
    pub(crate) app: String,
    pub(crate) cluster: ClusterName,
    /// Its name in the context; empty if it is all of the part.
    pub(crate) resource: String,
    pub(crate) why: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { app, cluster, resource, why } = self;
        if app.is_empty() {
            return f.write_str(why);
        }
        write!(f, "{app} on {cluster}")?;
        if !resource.is_empty() {
            write!(f, ", {resource}")?;
        }
        write!(f, ": {why}")
    }
}

/// Carries a part's stages out, one after another. What fails in a stage does not keep the rest of it from being done, but those after it.
pub(crate) async fn carry_out(
    part: &Arc<LivePart>,
    stages: &[Stage],
    settings: &Settings,
) -> Result<(), Vec<Failure>> {
    for stage in stages {
        let tasks: Vec<BoxFuture<'_, Result<(), Failure>>> =
            stage.tasks.iter().map(|task| told(part, task, settings).boxed()).collect();
        let outcomes: Vec<Result<(), Failure>> =
            futures::stream::iter(tasks).buffer_unordered(settings.tasks_per_part.max(1)).collect().await;
        let failed: Vec<Failure> = outcomes.into_iter().filter_map(Result::err).collect();
        if !failed.is_empty() {
            return Err(failed);
        }
    }
    Ok(())
}

/// Marks an object as being worked on.
struct UnderWay<'a>(&'a LivePart, usize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.set_under_way(self.1, false);
    }
}

/// A task; if it fails, whose it was.
async fn told(part: &Arc<LivePart>, task: &Task, settings: &Settings) -> Result<(), Failure> {
    perform(part, task, settings).await.map_err(|why| {
        let (app, cluster) = (part.app.to_string(), part.cluster.clone());
        Failure { app, cluster, resource: task.name.clone(), why }
    })
}

async fn perform(part: &Arc<LivePart>, task: &Task, settings: &Settings) -> Result<(), String> {
    let Some(index) = part.position(&task.name) else { return Ok(()) };
    let Some(object) = part.objects.get(index) else { return Ok(()) };
    part.set_under_way(index, true);
    let _under_way = UnderWay(part, index);
    let outcome = match task.action {
        Action::Apply | Action::Provide => make(part, (index, object), task, settings).await,
        Action::Delete => delete(part, (index, object), settings).await,
    };
    if let Err(why) = &outcome {
        part.set_status(index, ResourceStatus::Failed, why);
    }
    outcome
}

/// Something that is tried again, for as long as there is patience. The time in which the cluster does not answer does not count.
struct Tries<'a> {
    settings: &'a Settings,
    failures: u32,
    waited: Duration,
}

impl<'a> Tries<'a> {
    fn new(settings: &'a Settings) -> Self {
        Self { settings, failures: 0, waited: Duration::ZERO }
    }

    /// Waits until it is tried again.
    async fn again(&mut self, why: String) -> Result<(), String> {
        if self.waited >= self.settings.patience {
            return Err(why);
        }
        self.failures = self.failures.saturating_add(1);
        let delay = self.settings.again.random_delay(self.failures);
        self.waited += delay;
        tokio::time::sleep(delay).await;
        Ok(())
    }
}

async fn make(
    part: &Arc<LivePart>,
    (index, object): (usize, &LiveObject),
    task: &Task,
    settings: &Settings,
) -> Result<(), String> {
    let prepared = object.prepared.as_ref().map_err(ToString::to_string)?;
    let Some(fate) = part.fate(index) else { return Ok(()) };
    if fate.success && task.until == Until::Complete {
        return Ok(());
    }
    if fate.status != ResourceStatus::Applied {
        let reply = apply(part, prepared, task.action, settings).await?;
        if let Some(approval) = &object.approval {
            approve(part, prepared, approval, settings).await?;
        }
        let reply = Identity::of(&reply);
        part.set_identity(index, &reply.uid, reply.generation);
        part.set_status(index, ResourceStatus::Applied, "");
    }
    match task.until {
        Until::Taken | Until::Gone => Ok(()),
        Until::Usable => usable(part, prepared, settings).await,
        Until::Complete => {
            complete(part, index, prepared).await?;
            part.set_success(index);
            // It must not run twice because nobody remembers that it has.
            part.shared.writer.flush().await;
            Ok(())
        }
    }
}

/// Who an object is, as its metadata say.
struct Identity {
    uid: String,
    generation: i64,
    label: String,
}

impl Identity {
    fn of(reply: &[u8]) -> Self {
        let reply: Value = serde_json::from_slice(reply).unwrap_or_default();
        let metadata = &reply["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            uid: text(&metadata["uid"]),
            generation: metadata["generation"].as_i64().unwrap_or(0),
            label: text(&metadata["labels"][LABEL]),
        }
    }
}

async fn apply(
    part: &Arc<LivePart>,
    prepared: &Prepared,
    action: Action,
    settings: &Settings,
) -> Result<bytes::Bytes, String> {
    let mut tries = Tries::new(settings);
    loop {
        let answer = match action {
            Action::Provide => part.channel.provide(prepared).await,
            _ => part.channel.apply(prepared).await,
        };
        match answer.map_err(|NoWay(why)| why)? {
            Answer::Done(body) => return Ok(body),
            Answer::Later(why) => tries.again(why).await?,
            Answer::Refused(why) | Answer::NotFound(why) | Answer::Conflict(why) => return Err(why),
        }
    }
}

async fn approve(
    part: &Arc<LivePart>,
    prepared: &Prepared,
    condition: &str,
    settings: &Settings,
) -> Result<(), String> {
    let mut tries = Tries::new(settings);
    loop {
        match part.channel.approve(prepared, condition).await.map_err(|NoWay(why)| why)? {
            Answer::Done(_) => return Ok(()),
            Answer::Later(why) => tries.again(why).await?,
            Answer::Refused(why) | Answer::NotFound(why) | Answer::Conflict(why) => {
                return Err(format!("approving it: {why}"));
            }
        }
    }
}

/// Waits until others can use an object. That is a matter of moments, so it is asked; one that was there before need not be ours, and no
/// watch of ours would show it.
async fn usable(part: &Arc<LivePart>, prepared: &Prepared, settings: &Settings) -> Result<(), String> {
    let mut tries = Tries::new(settings);
    loop {
        let why = match part.channel.get(prepared).await.map_err(|NoWay(why)| why)? {
            Answer::Done(body) => {
                let object: Value = serde_json::from_slice(&body).unwrap_or_default();
                match readiness::judge(&object) {
                    Readiness::Ready => return Ok(()),
                    Readiness::Waiting(why) => why,
                    Readiness::Failed(why) => return Err(why),
                }
            }
            Answer::Later(why) | Answer::NotFound(why) | Answer::Conflict(why) => why,
            Answer::Refused(why) => return Err(why),
        };
        tries.again(why).await?;
    }
}

/// How often it is asked whether an object is there of which nothing is seen.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Waits until a hook has done what it is for.
async fn complete(part: &Arc<LivePart>, index: usize, prepared: &Prepared) -> Result<(), String> {
    part.watch(&prepared.kind);
    let uid = part.fate(index).map(|fate| fate.uid).unwrap_or_default();
    let board = &part.link.board;
    let mut version = board.version();
    loop {
        version.mark_unchanged();
        let look = board.look(&prepared.kind, &prepared.namespace, &prepared.name);
        match &look {
            Look::There(seen) if seen.label == part.label && (uid.is_empty() || uid == seen.uid) => {
                match &seen.run {
                    Readiness::Ready => return Ok(()),
                    Readiness::Failed(why) => return Err(why.clone()),
                    Readiness::Waiting(_) => {}
                }
            }
            _ => {}
        }
        if let Some(why) = board.blind(&prepared.kind) {
            return Err(format!("nobody can see what becomes of it: {why}"));
        }
        // The board keeps the sender for as long as we look at it.
        let changed = tokio::time::timeout(LOOK_AGAIN, version.changed()).await;
        if changed.is_err()
            && matches!(look, Look::Absent)
            && let Answer::NotFound(_) = part.channel.identify(prepared).await.map_err(|NoWay(why)| why)?
        {
            return Err("it is gone, and nobody has seen it complete".to_owned());
        }
    }
}

/// Deletes an object, if it is ours, and waits until it is gone.
///
/// What a watch has not told yet is there all the same: the cluster itself is asked, and the watch only says when to ask again.
async fn delete(
    part: &Arc<LivePart>,
    (index, object): (usize, &LiveObject),
    settings: &Settings,
) -> Result<(), String> {
    let is_deleted = part.fate(index).is_none_or(|fate| fate.status == ResourceStatus::Deleted);
    if is_deleted {
        return Ok(());
    }
    if let Ok(prepared) = &object.prepared {
        gone(part, prepared, settings).await?;
    }
    part.set_status(index, ResourceStatus::Deleted, "");
    Ok(())
}

async fn gone(part: &Arc<LivePart>, prepared: &Prepared, settings: &Settings) -> Result<(), String> {
    let mut version = part.link.board.version();
    let mut tries = Tries::new(settings);
    let mut asked = String::new();
    let mut waits: u32 = 0;
    loop {
        version.mark_unchanged();
        let found = match part.channel.identify(prepared).await.map_err(|NoWay(why)| why)? {
            Answer::Done(found) => Identity::of(&found),
            Answer::NotFound(_) => return Ok(()),
            Answer::Later(why) | Answer::Conflict(why) => {
                tries.again(why).await?;
                continue;
            }
            Answer::Refused(why) => return Err(why),
        };
        // Whoever has it now did not get it from us.
        if *found.label != *part.label {
            return Ok(());
        }
        if found.uid != asked {
            match part.channel.delete(prepared, &found.uid).await.map_err(|NoWay(why)| why)? {
                Answer::NotFound(_) => return Ok(()),
                Answer::Done(reply) if is_final(&reply) => return Ok(()),
                Answer::Done(_) => asked = found.uid,
                Answer::Later(why) | Answer::Conflict(why) => tries.again(why).await?,
                Answer::Refused(why) => return Err(why),
            }
            continue;
        }
        waits = waits.saturating_add(1);
        let _ = tokio::time::timeout(settings.again.random_delay(waits), version.changed()).await;
    }
}

/// Whether the reply to a deletion says that the object is gone, not that it is going.
fn is_final(reply: &[u8]) -> bool {
    let reply: Value = serde_json::from_slice(reply).unwrap_or_default();
    reply["kind"] == "Status"
}

/// Reads a part's objects into the context.
pub(crate) async fn read(part: &Arc<LivePart>, settings: &Settings) -> Result<(), Vec<Failure>> {
    let reads: Vec<BoxFuture<'_, Result<(), Failure>>> =
        part.objects.iter().map(|object| read_one(part, object).boxed()).collect();
    let outcomes: Vec<Result<(), Failure>> =
        futures::stream::iter(reads).buffer_unordered(settings.tasks_per_part.max(1)).collect().await;
    let failures: Vec<Failure> = outcomes.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

async fn read_one(part: &Arc<LivePart>, object: &LiveObject) -> Result<(), Failure> {
    let Ok(prepared) = &object.prepared else { return Ok(()) };
    let why = match part.channel.get(prepared).await {
        Ok(Answer::Done(body)) => {
            let text: Arc<str> = String::from_utf8_lossy(&body).into_owned().into();
            let value = StatusValue::Definition(object.name.clone(), text);
            part.shared.writer.put(&part.app, &part.cluster, value);
            return Ok(());
        }
        Ok(Answer::NotFound(_)) => return Ok(()),
        Ok(Answer::Conflict(why) | Answer::Refused(why) | Answer::Later(why)) | Err(NoWay(why)) => why,
    };
    let (app, cluster) = (part.app.to_string(), part.cluster.clone());
    Err(Failure { app, cluster, resource: object.name.to_string(), why })
}
