//! What may no longer be as it was read: rung by events, answered by a crawl.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use drystone_engine::reference::ObjectKey;
use futures::Stream;
use tokio::sync::broadcast;

/// Bells that a slow listener may be behind; what is doubted is remembered all the same.
const BELLS: usize = 1_024;

/// Most origins that are remembered of one agent; beyond, everything of it is doubted.
const MOST_ORIGINS: usize = 256;

/// Agents of which something is doubted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Doubts {
    doubted: Arc<Mutex<BTreeMap<ObjectKey, Doubt>>>,
    bell: broadcast::Sender<ObjectKey>,
}

/// What is doubted of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// These resources and what is below them.
    Below(BTreeSet<String>),
    /// Everything.
    Everything,
}

impl Default for Doubts {
    fn default() -> Self {
        Self { doubted: Arc::default(), bell: broadcast::Sender::new(BELLS) }
    }
}

impl Doubts {
    /// Something at or below a URI of an agent may be different.
    pub fn raise(&self, agent: &ObjectKey, origin: &str) {
        let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        let doubt = doubted.entry(agent.clone()).or_insert_with(|| Doubt::Below(BTreeSet::new()));
        if let Doubt::Below(origins) = doubt {
            origins.insert(origin.to_owned());
            if origins.len() > MOST_ORIGINS {
                *doubt = Doubt::Everything;
            }
        }
        drop(doubted);
        // Nobody listening is no error: the next crawl by the clock finds it.
        let _ = self.bell.send(agent.clone());
    }

    /// Everything of an agent may be different.
    pub fn raise_all(&self, agent: &ObjectKey) {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner).insert(agent.clone(), Doubt::Everything);
        let _ = self.bell.send(agent.clone());
    }

    /// What is doubted of an agent; no longer, once it has been taken.
    pub fn take(&self, agent: &ObjectKey) -> Option<Doubt> {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner).remove(agent)
    }

    /// Whether anything of an agent is doubted.
    pub fn has(&self, agent: &ObjectKey) -> bool {
        self.doubted.lock().unwrap_or_else(PoisonError::into_inner).contains_key(agent)
    }

    /// What was taken is still doubted: the crawl came to nothing. No bell is rung.
    pub fn put_back(&self, agent: &ObjectKey, doubt: Doubt) {
        let mut doubted = self.doubted.lock().unwrap_or_else(PoisonError::into_inner);
        match (doubted.get_mut(agent), doubt) {
            (Some(Doubt::Everything), _) => {}
            (Some(Doubt::Below(origins)), Doubt::Below(more)) => origins.extend(more),
            (_, doubt) => drop(doubted.insert(agent.clone(), doubt)),
        }
    }

    /// The agents whose bells ring from now on.
    pub fn bells(&self) -> impl Stream<Item = ObjectKey> + Send + use<> {
        let bell = self.bell.subscribe();
        let doubted = self.doubted.clone();
        futures::stream::unfold((bell, doubted, Vec::new()), |(mut bell, doubted, mut missed)| async move {
            loop {
                if let Some(key) = missed.pop() {
                    return Some((key, (bell, doubted, missed)));
                }
                match bell.recv().await {
                    Ok(key) => return Some((key, (bell, doubted, missed))),
                    Err(broadcast::error::RecvError::Lagged(_)) => {
                        let doubted = doubted.lock().unwrap_or_else(PoisonError::into_inner);
                        missed = doubted.keys().cloned().collect();
                    }
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn doubts_are_remembered_until_taken() {
        let doubts = Doubts::default();
        let agent = ObjectKey::new("ns", "a");
        let mut bells = Box::pin(doubts.bells());
        doubts.raise(&agent, "/redfish/v1/Fabrics/F/Switches/s");
        doubts.raise(&agent, "/redfish/v1/Fabrics/F");
        assert_eq!(bells.next().await, Some(agent.clone()));
        let Some(Doubt::Below(origins)) = doubts.take(&agent) else { panic!("some origins") };
        assert_eq!(origins.len(), 2);
        assert_eq!(doubts.take(&agent), None);
    }

    #[tokio::test]
    async fn too_many_doubts_are_a_doubt_of_everything_and_no_bell_is_lost() {
        let doubts = Doubts::default();
        let (many, other) = (ObjectKey::new("ns", "many"), ObjectKey::new("ns", "other"));
        let mut bells = Box::pin(doubts.bells());
        doubts.raise(&other, "/x");
        for number in 0..2_000 {
            doubts.raise(&many, &format!("/redfish/v1/{number}"));
        }
        assert_eq!(doubts.take(&many), Some(Doubt::Everything));
        // More bells than are kept: those that are doubted now are rung for.
        assert_eq!(bells.next().await, Some(other));
    }
}
