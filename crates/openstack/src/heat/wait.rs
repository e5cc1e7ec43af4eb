//! Waiting for a stack.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::{Action, Event, Heat, Stack, StackRef, State};
use crate::OpenStackError;

/// Shortest pause between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Longest pause between two looks.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is waited for is noticed late by at most this part of the time that it took, or by the shortest pause.
const PART: u32 = 16;

/// So long a failed stack may wait for its roll-back to begin.
const ROLL_BACK_BEGINS: Duration = Duration::from_secs(15);

/// Events are read only of what takes longer: it is for people that wait.
const WORTH_TELLING: Duration = Duration::from_secs(1);

/// What is new while a stack is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The stack's status; empty if Heat cannot be asked just now.
    pub status: String,
    /// What happened since the last report, in order.
    pub events: Vec<Event>,
    /// Why Heat could not be asked, if it could not.
    pub trouble: Option<String>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.trouble, self.events.last()) {
            (Some(trouble), _) => write!(f, "{trouble}; trying again"),
            (None, Some(event)) => write!(f, "{}: {} is {}", self.status, event.resource, event.status),
            (None, None) => f.write_str(&self.status),
        }
    }
}

/// The next pause after this much time.
fn pause(waited: Duration) -> Duration {
    (waited / PART).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

/// What the state of a stack means to whom waits for an action.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    Failed,
    /// It failed, and Heat is about to take it back.
    Failing,
    Later,
}

fn judge(stack: &Stack, action: &Action) -> Verdict {
    match (action, &stack.action, stack.state) {
        (_, Action::Delete, State::Complete) if *action == Action::Delete => Verdict::Done,
        (Action::Delete, Action::Delete, State::Failed) => Verdict::Failed,
        // Another action, under way or finished: Heat has not begun with the deletion.
        (Action::Delete, _, _) => Verdict::Later,
        // It was deleted under our hands.
        (_, Action::Delete, _) => Verdict::Failed,
        (_, _, State::InProgress | State::Init) => Verdict::Later,
        (_, Action::Create | Action::Update, State::Failed) if stack.rolls_back => Verdict::Failing,
        // Heat took back what failed: that is no success.
        (_, Action::Rollback, _) | (_, _, State::Failed) => Verdict::Failed,
        // What is there was changed since, successfully.
        (Action::Create, _, State::Complete) => Verdict::Done,
        (wanted, is, State::Complete) if wanted == is => Verdict::Done,
        (_, _, State::Complete) => Verdict::Later,
    }
}

impl Heat {
    /// Waits until an action that was begun is finished, and returns the stack; none after a deletion. Asks every 0.1 s at first,
    /// then less and less often, every 5 s at most. To give up earlier, drop the future.
    ///
    /// # Errors
    /// [`OpenStackError::StackFailed`] with what failed in the stack, [`OpenStackError::NotInTime`]; else see
    /// [`OpenStackError`]. What is transient is borne until the time is over.
    pub async fn wait(
        &self,
        stack: &StackRef,
        action: Action,
        within: Duration,
        progress: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Option<Stack>, OpenStackError> {
        let begun = Instant::now();
        let end = begun + within;
        let mut follower = Follower { heat: self, stack, seen: None, told: String::new() };
        let mut last = "nothing is known of it".to_owned();
        let mut failing_since = None;
        loop {
            // A request may take long; the deadline holds all the same.
            match tokio::time::timeout_at(end.max(Instant::now() + SHORTEST_PAUSE), self.stack(stack)).await {
                Ok(Ok(found)) => match judge(&found, &action) {
                    Verdict::Done if action == Action::Delete => {
                        // Its name is free a moment later, and is wanted for the next stack.
                        if self.named(&stack.name).await.is_ok_and(|other| other.as_ref() != Some(stack)) {
                            return Ok(None);
                        }
                        "it is deleted, but its name is not free yet".clone_into(&mut last);
                    }
                    Verdict::Done => return Ok(Some(found)),
                    Verdict::Failed => return Err(self.failed(&found).await),
                    Verdict::Failing
                        if failing_since.get_or_insert_with(Instant::now).elapsed() > ROLL_BACK_BEGINS =>
                    {
                        return Err(self.failed(&found).await);
                    }
                    Verdict::Failing | Verdict::Later => {
                        last = format!("it is {}", found.status);
                        follower.tell(&found, begun.elapsed(), progress).await;
                    }
                },
                Ok(Err(error)) if error.is_not_found() && action == Action::Delete => return Ok(None),
                Ok(Err(error)) if !error.is_transient() => return Err(error),
                Ok(Err(error)) => {
                    last = error.to_string();
                    progress(Progress {
                        status: String::new(),
                        events: Vec::new(),
                        trouble: Some(last.clone()),
                    });
                }
                Err(_) => {}
            }
            if Instant::now() >= end {
                return Err(OpenStackError::NotInTime { stack: stack.clone(), within, last });
            }
            let next = Instant::now() + pause(begun.elapsed());
            tokio::time::sleep_until(next.min(end)).await;
        }
    }

    async fn failed(&self, stack: &Stack) -> OpenStackError {
        // Without them the error still says what Heat says of the stack.
        let failures = self.failures(&stack.reference).await.unwrap_or_default();
        OpenStackError::StackFailed {
            stack: stack.reference.clone(),
            status: stack.status.clone(),
            reason: stack.reason.clone(),
            failures,
        }
    }
}

/// Tells what is new.
struct Follower<'a> {
    heat: &'a Heat,
    stack: &'a StackRef,
    seen: Option<String>,
    told: String,
}

impl Follower<'_> {
    async fn tell(&mut self, found: &Stack, waited: Duration, progress: &mut (dyn FnMut(Progress) + Send)) {
        let mut events = Vec::new();
        if waited >= WORTH_TELLING {
            // For people only: that they cannot be read now is no reason to fail.
            events = self.heat.events(self.stack, self.seen.as_deref()).await.unwrap_or_default();
        }
        if let Some(last) = events.last() {
            self.seen = Some(last.id.clone());
        }
        if !events.is_empty() || self.told != found.status {
            self.told.clone_from(&found.status);
            progress(Progress { status: found.status.clone(), events, trouble: None });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(status: &str) -> Stack {
        let (action, state) = super::super::types::split(status).unwrap();
        Stack {
            reference: StackRef::new("a", "1"),
            status: status.into(),
            action,
            state,
            reason: String::new(),
            parameters: serde_json::Map::new(),
            rolls_back: false,
            tags: Vec::new(),
            creation_time: String::new(),
            updated_time: None,
        }
    }

    #[test]
    fn what_is_waited_for_is_told_from_what_was_before() {
        let judged = |status: &str, action: Action| judge(&stack(status), &action);
        assert_eq!(judged("CREATE_COMPLETE", Action::Create), Verdict::Done);
        assert_eq!(judged("CREATE_COMPLETE", Action::Update), Verdict::Later);
        assert_eq!(judged("UPDATE_COMPLETE", Action::Update), Verdict::Done);
        assert_eq!(judged("UPDATE_COMPLETE", Action::Create), Verdict::Done);
        assert_eq!(judged("UPDATE_FAILED", Action::Update), Verdict::Failed);
        let taken_back = Stack { rolls_back: true, ..stack("CREATE_FAILED") };
        assert_eq!(judge(&taken_back, &Action::Create), Verdict::Failing);
        assert_eq!(judged("ROLLBACK_IN_PROGRESS", Action::Update), Verdict::Later);
        assert_eq!(judged("ROLLBACK_COMPLETE", Action::Update), Verdict::Failed);
        assert_eq!(judged("DELETE_IN_PROGRESS", Action::Create), Verdict::Failed);
        assert_eq!(judged("DELETE_IN_PROGRESS", Action::Delete), Verdict::Later);
        assert_eq!(judged("CREATE_COMPLETE", Action::Delete), Verdict::Later);
        assert_eq!(judged("DELETE_COMPLETE", Action::Delete), Verdict::Done);
        assert_eq!(judged("DELETE_FAILED", Action::Delete), Verdict::Failed);
    }

    #[test]
    fn pauses_follow_the_time_it_takes() {
        assert_eq!(pause(Duration::ZERO), Duration::from_millis(100));
        assert_eq!(pause(Duration::from_secs(16)), Duration::from_secs(1));
        assert_eq!(pause(Duration::from_secs(3600)), Duration::from_secs(5));
    }
}
