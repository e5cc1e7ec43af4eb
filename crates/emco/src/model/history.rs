//! The append-only history of states that deployment intent groups, logical clouds and networks of clusters have.

use std::{fmt, str::FromStr};

use drystone_api::emco::StateEntry;
use drystone_appcontext::ContextId;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// A state of EMCO's life cycles. It says what was accepted, not what is done: that is the context's [`ContextPhase`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Declared.
    Created,
    /// A deployment intent group that may be instantiated.
    Approved,
    /// Networks of a cluster that are carried out.
    Applied,
    /// Being carried out, or carried out.
    Instantiated,
    /// The context of this entry has been replaced by that of the next one.
    Updated,
    /// Being taken back, or taken back.
    Terminated,
    /// Instantiation was stopped half-way.
    InstantiateStopped,
    /// Termination was stopped half-way.
    TerminateStopped,
}

impl State {
    const ALL: [(Self, &'static str); 8] = [
        (Self::Created, "Created"),
        (Self::Approved, "Approved"),
        (Self::Applied, "Applied"),
        (Self::Instantiated, "Instantiated"),
        (Self::Updated, "Updated"),
        (Self::Terminated, "Terminated"),
        (Self::InstantiateStopped, "InstantiateStopped"),
        (Self::TerminateStopped, "TerminateStopped"),
    ];

    /// As EMCO writes it.
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(state, _)| *state == self).map_or("", |(_, text)| text)
    }

    /// Whether something is, or may be, at clusters.
    pub fn is_deployed(self) -> bool {
        matches!(self, Self::Instantiated | Self::InstantiateStopped | Self::TerminateStopped | Self::Applied)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|(_, name)| *name == text);
        found.map(|(state, _)| state).ok_or_else(|| format!("{text:?} is no state of a life cycle"))
    }
}

/// Whether the removal of a context has come to an end.
pub fn is_removed(phase: drystone_appcontext::State) -> bool {
    matches!(phase, drystone_appcontext::State::Terminated | drystone_appcontext::State::TerminateFailed)
}

/// One entry of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The state that was entered.
    pub state: State,
    /// The context that it is about; none before the first instantiation.
    pub context: Option<ContextId>,
    /// Revision of a deployment: 1 for an instantiation, one more with each change of it; 0 for states without one.
    pub revision: u64,
    /// When.
    pub time: Timestamp,
}

/// A history, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History(pub Vec<Entry>);

impl History {
    /// The state of now; `Created` if nothing has been written yet.
    pub fn state(&self) -> State {
        self.0.last().map_or(State::Created, |entry| entry.state)
    }

    /// The context of now: of the last entry that has one.
    pub fn context(&self) -> Option<ContextId> {
        self.0.iter().rev().find_map(|entry| entry.context)
    }

    /// The context that carries the status: that of the first entry of the present life (since the last instantiation from nothing).
    pub fn status_context(&self) -> Option<ContextId> {
        self.life().iter().find(|entry| entry.state == State::Instantiated).and_then(|entry| entry.context)
    }

    /// The revision that is deployed, or was last.
    pub fn revision(&self) -> u64 {
        self.0.iter().rev().find(|entry| entry.revision > 0).map_or(0, |entry| entry.revision)
    }

    /// The entries of the present life, or of the last one: from the last instantiation that came out of nothing.
    ///
    /// Revisions begin anew with each life, and name one context each inside of it.
    fn life(&self) -> &[Entry] {
        let begins = |at: &usize| {
            let entry = &self.0[*at];
            let before = at.checked_sub(1).and_then(|before| self.0.get(before)).map(|before| before.state);
            entry.state == State::Instantiated && before != Some(State::Updated)
        };
        let start = (0..self.0.len()).rev().find(begins);
        &self.0[start.unwrap_or(self.0.len())..]
    }

    /// The context that revision `revision` of the present life deployed.
    pub fn context_of_revision(&self, revision: u64) -> Option<ContextId> {
        let of = |entry: &&Entry| entry.state == State::Instantiated && entry.revision == revision;
        self.life().iter().find(of).and_then(|entry| entry.context)
    }

    /// Revisions of the present life, lowest first.
    pub fn revisions(&self) -> Vec<u64> {
        self.life()
            .iter()
            .filter(|entry| entry.state == State::Instantiated)
            .map(|entry| entry.revision)
            .collect()
    }

    /// Every context that is mentioned, each once, oldest first.
    pub fn contexts(&self) -> Vec<ContextId> {
        let mut all = Vec::new();
        for context in self.0.iter().filter_map(|entry| entry.context) {
            if !all.contains(&context) {
                all.push(context);
            }
        }
        all
    }
}

impl From<&[StateEntry]> for History {
    /// As resources keep it. Entries that make no sense, which no controller writes, are left out.
    fn from(entries: &[StateEntry]) -> Self {
        let read = |entry: &StateEntry| {
            Some(Entry {
                state: entry.state.parse().ok()?,
                context: entry.context_id.parse().ok(),
                revision: u64::try_from(entry.revision).unwrap_or(0),
                time: entry.time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            })
        };
        Self(entries.iter().filter_map(read).collect())
    }
}

impl From<&Entry> for StateEntry {
    fn from(entry: &Entry) -> Self {
        Self {
            state: entry.state.to_string(),
            context_id: entry.context.map(|context| context.to_string()).unwrap_or_default(),
            time: Some(MicroTime(entry.time)),
            revision: i64::try_from(entry.revision).unwrap_or(i64::MAX),
        }
    }
}
