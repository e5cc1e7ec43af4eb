//! What an order does to the parts of a context: all of them at the same time, each on its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use drystone_appcontext::{ClusterName, ResourceStatus};
use tokio::{sync::watch, task::JoinSet};

use super::tasks::{Failure, carry_out, read};
use crate::{
    live::{context::LiveContext, part::LivePart},
    plan::{self, GateFor, Stage},
    settings::Settings,
};

type Place = (String, ClusterName);
/// What became of a part.
pub(crate) type Outcome = Result<(), Vec<Failure>>;
/// The parts of an order, on their way.
pub(crate) type Parts = JoinSet<Outcome>;

/// What has become of the parts of an order so far.
#[derive(Default)]
struct Ended {
    parts: Mutex<BTreeMap<Place, bool>>,
    changed: watch::Sender<u64>,
}

impl Ended {
    fn note(&self, place: Place, good: bool) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(place, good);
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Whether a part has ended, and well.
    fn of(&self, place: &Place) -> Option<bool> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).get(place).copied()
    }
}

fn failure(part: &LivePart, why: impl Into<String>) -> Vec<Failure> {
    let (app, cluster) = (part.app.to_string(), part.cluster.clone());
    vec![Failure { app, cluster, resource: String::new(), why: why.into() }]
}

/// A failure that is not about a part.
pub(crate) fn of_context(why: String) -> Vec<Failure> {
    vec![Failure { app: String::new(), cluster: ClusterName::new("", ""), resource: String::new(), why }]
}

/// Waits for all parts.
pub(crate) async fn all(running: &mut Parts) -> Outcome {
    let mut failures = Vec::new();
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(more)) => failures.extend(more),
            Err(error) => failures.extend(of_context(format!("a part of the work broke down: {error}"))),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

/// Waits until the applications that one waits for are as far as it wants.
async fn gates(context: &LiveContext, part: &LivePart, ended: &Ended, passed: bool) -> Outcome {
    if passed {
        return Ok(());
    }
    for gate in context.gates.get(&*part.app).into_iter().flatten() {
        let mut changed = context.shared.changed.subscribe();
        let mut news = ended.changed.subscribe();
        loop {
            changed.mark_unchanged();
            news.mark_unchanged();
            let is_far = |other: &Arc<LivePart>| match gate.until {
                GateFor::Deployed => other.is_deployed(),
                GateFor::Ready => other.is_ready(),
            };
            if context.of_app(&gate.app).all(is_far) {
                break;
            }
            let lost = context
                .of_app(&gate.app)
                .find(|other| ended.of(&(other.app.to_string(), other.cluster.clone())) == Some(false));
            if let Some(lost) = lost {
                let why = format!("it waits for {}, which failed on {}", gate.app, lost.cluster);
                return Err(failure(part, why));
            }
            tokio::select! {
                _ = changed.changed() => {}
                _ = news.changed() => {}
            }
        }
        tokio::time::sleep(gate.wait).await;
    }
    Ok(())
}

/// Installs a context.
///
/// # Errors
/// Applications wait for each other.
pub(crate) fn install(context: &Arc<LiveContext>, settings: &Settings) -> Result<Parts, Vec<Failure>> {
    plan::depends(&context.gates).map_err(|error| of_context(error.to_string()))?;
    let ended = Arc::<Ended>::default();
    let mut running = JoinSet::new();
    for (place, part) in &context.parts {
        let (context, place, part) = (context.clone(), place.clone(), part.clone());
        let (ended, settings) = (ended.clone(), settings.clone());
        running.spawn(async move {
            let work = async {
                // What has begun has passed.
                gates(&context, &part, &ended, part.has_begun()).await?;
                carry_out(&part, &plan::install(&part.items()), &settings).await
            };
            let outcome = work.await;
            ended.note(place, outcome.is_ok());
            outcome
        });
    }
    Ok(running)
}

/// Removes a context: on each cluster an application goes when all that wait for it are gone there.
pub(crate) fn remove(context: &Arc<LiveContext>, settings: &Settings) -> Parts {
    // Whatever waits in a circle was never made; then the order does not matter.
    let dependents = plan::depends(&context.gates).unwrap_or_default();
    let ended = Arc::<Ended>::default();
    let mut running = JoinSet::new();
    for (place, part) in &context.parts {
        let (place, part, ended, settings) = (place.clone(), part.clone(), ended.clone(), settings.clone());
        let before: Vec<Place> = dependents
            .get(&place.0)
            .into_iter()
            .flatten()
            .map(|app| (app.clone(), place.1.clone()))
            .filter(|other| context.parts.contains_key(other))
            .collect();
        running.spawn(async move {
            let mut news = ended.changed.subscribe();
            loop {
                news.mark_unchanged();
                if before.iter().all(|other| ended.of(other).is_some()) {
                    break;
                }
                let _ = news.changed().await;
            }
            let outcome = carry_out(&part, &plan::remove(&part.items()), &settings).await;
            ended.note(place, outcome.is_ok());
            outcome
        });
    }
    running
}

/// Whether an object of an old context is as one of the new one wants it: then it counts as applied.
pub(crate) fn kept(old: &LivePart, new: &LivePart) -> BTreeSet<usize> {
    let unchanged = |index: usize| {
        let object = new.objects.get(index)?;
        let before = old.position(object.name.as_str())?;
        let same = old.objects.get(before).is_some_and(|old| {
            let as_before = (old.digest, old.role, old.namespace());
            as_before == (object.digest, object.role, object.namespace())
        });
        let there = old.fate(before).is_some_and(|fate| fate.status == ResourceStatus::Applied);
        (same && there).then_some(index)
    };
    (0..new.objects.len()).filter_map(unchanged).collect()
}

/// The stages that change a part; one that is new is installed.
fn changes(old: Option<&Arc<LivePart>>, new: &LivePart) -> Vec<Stage> {
    match old {
        // What has been applied is left out by the status of each object.
        Some(old) => plan::change(&old.items(), &new.items(), |_| false),
        None => plan::install(&new.items()),
    }
}

/// Puts a context into the place of another one: what is new or different is applied; then, part by part, what is not there any more
/// goes. Parts that are not there any more go when those of their application that can be reached are made.
///
/// # Errors
/// Applications wait for each other.
pub(crate) fn update(
    old: &Arc<LiveContext>,
    new: &Arc<LiveContext>,
    settings: &Settings,
) -> Result<Parts, Vec<Failure>> {
    plan::depends(&new.gates).map_err(|error| of_context(error.to_string()))?;
    let ended = Arc::<Ended>::default();
    let mut running = JoinSet::new();
    for (place, part) in &new.parts {
        let (context, place, part) = (new.clone(), place.clone(), part.clone());
        let (ended, settings) = (ended.clone(), settings.clone());
        let before = old.parts.get(&place).cloned();
        running.spawn(async move {
            let work = async {
                // Whoever has nothing to change need not wait.
                gates(&context, &part, &ended, part.is_deployed()).await?;
                carry_out(&part, &changes(before.as_ref(), &part), &settings).await?;
                let Some(before) = before else { return Ok(()) };
                carry_out(&before, &plan::prune(&before.items(), &part.items()), &settings).await
            };
            let outcome = work.await;
            ended.note(place, outcome.is_ok());
            outcome
        });
    }
    for (place, part) in old.parts.iter().filter(|(place, _)| !new.parts.contains_key(*place)) {
        let (context, place, part) = (new.clone(), place.clone(), part.clone());
        let (ended, settings) = (ended.clone(), settings.clone());
        running.spawn(async move {
            successors(&context, &place.0, &ended).await;
            carry_out(&part, &plan::remove(&part.items()), &settings).await
        });
    }
    Ok(running)
}

/// Waits until the new parts of an application have ended, but for those whose clusters do not answer.
async fn successors(context: &LiveContext, app: &str, ended: &Ended) {
    let mut changed = context.shared.changed.subscribe();
    let mut news = ended.changed.subscribe();
    loop {
        changed.mark_unchanged();
        news.mark_unchanged();
        let is_settled = |part: &Arc<LivePart>| {
            ended.of(&(part.app.to_string(), part.cluster.clone())).is_some() || !part.channel.gate.is_open()
        };
        if context.of_app(app).all(is_settled) {
            return;
        }
        tokio::select! {
            _ = changed.changed() => {}
            _ = news.changed() => {}
        }
    }
}

/// Removes what is left of a context whose place another one has taken.
pub(crate) fn give_way(old: &Arc<LiveContext>, new: &Arc<LiveContext>, settings: &Settings) -> Parts {
    let mut running = JoinSet::new();
    for (place, part) in &old.parts {
        let stages = match new.parts.get(place) {
            Some(successor) => plan::prune(&part.items(), &successor.items()),
            None => plan::remove(&part.items()),
        };
        let (part, settings) = (part.clone(), settings.clone());
        running.spawn(async move { carry_out(&part, &stages, &settings).await });
    }
    running
}

/// Reads the objects of a context.
pub(crate) fn read_all(context: &Arc<LiveContext>, settings: &Settings) -> Parts {
    let mut running = JoinSet::new();
    for part in context.parts.values() {
        let (part, settings) = (part.clone(), settings.clone());
        running.spawn(async move { read(&part, &settings).await });
    }
    running
}
