//! One connection to a site: follows what is there, delivers what is missing, until the connection is lost.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use drystone_api::{ConflictPolicy, GLOBAL_LABEL};
use futures::{
    FutureExt as _, StreamExt as _,
    stream::{BoxStream, SelectAll},
};
use kube::{
    Api, Client,
    api::ListParams,
    core::DynamicObject,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};

use super::{
    courier::{Courier, Lost, Outcome},
    kinds::kinds,
    there::Known,
};
use crate::plan::{delivery::Task, object::Parcel};

/// Objects that are written at a site at the same time.
const AT_ONCE: usize = 8;

type Watched = (usize, Result<Event<DynamicObject>, watcher::Error>);

/// A connection.
pub(super) struct Session {
    pub(super) courier: Courier,
    watched: BTreeSet<usize>,
    events: SelectAll<BoxStream<'static, Watched>>,
}

impl Session {
    /// Connects.
    pub(super) async fn open(
        client: Client,
        deadline: Duration,
        owner: &str,
        take_over: bool,
    ) -> Result<Self, Lost> {
        let courier = Courier::new(client, deadline, owner, take_over).await?;
        Ok(Self { courier, watched: BTreeSet::new(), events: SelectAll::new() })
    }

    /// Watches the kinds of which something is wanted or there; of the others, one list says that there is nothing.
    pub(super) async fn follow(&mut self, known: &mut Known) -> Result<(), Lost> {
        let wanted = known.concerned();
        for kind in self.courier.served.clone() {
            if self.watched.contains(&kind) {
                continue;
            }
            let Some(resource) = kinds().get(kind) else { continue };
            let api: Api<DynamicObject> = Api::all_with(self.courier.client.clone(), resource);
            if !wanted.contains(&kind) {
                let one = ListParams::default().labels(GLOBAL_LABEL).limit(1);
                let found =
                    self.courier.in_time("listing what was delivered", api.list_metadata(&one)).await?;
                if found.items.is_empty() {
                    known.nothing_of(kind);
                    continue;
                }
            }
            self.watched.insert(kind);
            let watch = watcher::watcher(api, watcher::Config::default().labels(GLOBAL_LABEL));
            self.events.push(watch.default_backoff().map(move |event| (kind, event)).boxed());
        }
        Ok(())
    }

    /// Watches what has come to be wanted.
    pub(super) async fn follow_wanted(&mut self, known: &mut Known) -> Result<(), Lost> {
        if known
            .concerned()
            .iter()
            .all(|kind| self.watched.contains(kind) || !self.courier.served.contains(kind))
        {
            return Ok(());
        }
        self.follow(known).await
    }

    /// Whether the site knows objects of the kind.
    pub(super) fn serves(&self, task: &Task) -> bool {
        self.courier.served.contains(&task.key().kind)
    }

    /// Asks once more what the site serves, and watches what it did not; whether there is something.
    pub(super) async fn ask_again(&mut self, known: &mut Known) -> Result<bool, Lost> {
        let before = self.courier.served.len();
        self.courier.discover().await?;
        let more = self.courier.served.len() > before;
        if more {
            self.follow(known).await?;
        }
        Ok(more)
    }

    /// Whether everything that was delivered is known.
    pub(super) fn is_current(&self, known: &Known) -> bool {
        known.has_listed(&self.watched)
    }

    /// Waits for a change at the site and takes all that are there.
    pub(super) async fn next(&mut self, known: &mut Known) {
        let Some(first) = self.events.next().await else { return std::future::pending().await };
        Self::take(known, first);
        while let Some(Some(more)) = self.events.next().now_or_never() {
            Self::take(known, more);
        }
    }

    fn take(known: &mut Known, (kind, event): Watched) {
        match event {
            Ok(event) => known.take(kind, event),
            // The watch is taken up again by itself; that the site does not answer is found out by asking.
            Err(error) => tracing::debug!(%error, "watch at a site interrupted"),
        }
    }
}

/// Writes and deletes what is to be; once each.
pub(super) async fn deliver(
    courier: &Courier,
    known: &mut Known,
    rounds: Vec<Vec<Task>>,
    policy: ConflictPolicy,
) -> Result<(), Lost> {
    for round in rounds {
        let tasks: Vec<(Task, Option<Arc<Parcel>>)> =
            round.into_iter().map(|task| (task.clone(), known.parcel(task.key()))).collect();
        let mut done = futures::stream::iter(tasks)
            .map(|(task, parcel)| async move {
                let outcome = match (&task, &parcel) {
                    (Task::Write(key), Some(parcel)) => courier.write(key, parcel, policy).await,
                    (Task::Write(_), None) => Ok(Outcome::Removed),
                    (Task::Remove { key, uid }, _) => courier.remove(key, uid).await,
                };
                (task, parcel, outcome)
            })
            .buffer_unordered(AT_ONCE);
        while let Some((task, parcel, outcome)) = done.next().await {
            let key = task.key();
            match (outcome?, parcel) {
                (Outcome::Written { mark, conflict }, Some(parcel)) => {
                    known.written(key, &parcel, mark);
                    conflict.into_iter().for_each(|conflict| known.conflict(conflict));
                }
                (Outcome::Refused(why), _) => known.refuse(key, why),
                (Outcome::Removed | Outcome::Written { .. }, _) => known.removed(key),
            }
        }
    }
    Ok(())
}
