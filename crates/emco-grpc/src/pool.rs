//! Connections to controllers, by the controllers' names.
//!
//! Each has a keeper: a task that asks the controller now and then whether it is there, by gRPC's health protocol. A controller that does
//! not know that protocol, as EMCO's do not, says so, and thereby that it is there. After a failure the connection is made anew, with
//! growing pauses; whoever calls in the meantime has it tried at once. Addresses may change while calls are under way; those end where
//! they began.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drystone_appcontext::contract::ControllerError;
use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    Address, Controller, InvalidAddress, failure,
    messages::{HealthRequest, HealthResponse, ServingStatus},
    paths, wire,
};

/// Periods and limits. [`Options::default`] has the contract's.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long placement and action controllers may take to answer.
    pub controller_deadline: Duration,
    /// How long the synchroniser may take.
    pub synchroniser_deadline: Duration,
    /// How long a connection may take to come about.
    pub connect_deadline: Duration,
    /// Pause between checks of a controller that is there.
    pub check_every: Duration,
    /// How long a controller may take to answer a check.
    pub check_deadline: Duration,
    /// Pause after the first failure; it doubles with each further one.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            controller_deadline: Duration::from_secs(10),
            synchroniser_deadline: Duration::from_secs(600),
            connect_deadline: Duration::from_secs(5),
            check_every: Duration::from_secs(15),
            check_deadline: Duration::from_secs(5),
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// Whether a controller is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It has not answered yet, and has not failed to.
    Untried,
    /// It answers.
    Ready,
    /// It does not.
    Failing,
}

/// A failure of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// What is known of the connection to a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Where the controller is.
    pub address: Address,
    /// Whether it is there.
    pub health: Health,
    /// Since when it is as `health` says.
    pub since: Timestamp,
    /// The last failure, also when everything is good again.
    pub last_failure: Option<Failure>,
    /// Failed checks since the last good one.
    pub failures: u32,
    /// When it is checked again at the latest; `None` while a check is under way.
    pub next_check: Option<Timestamp>,
    /// Checks that have ended.
    checks: u64,
}

impl State {
    /// What is wrong with the connection now; nothing if it is good, or not tried yet.
    pub fn trouble(&self) -> Option<&str> {
        let failure = self.last_failure.as_ref().filter(|_| self.health == Health::Failing);
        failure.map(|failure| failure.message.as_str())
    }
}

/// Connections to controllers, by name. Clones are the same pool; its connections close with the last one, and with the last
/// [`Controller`] from it.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    members: Mutex<BTreeMap<String, Arc<Member>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let members = self.members.get_mut().unwrap_or_else(PoisonError::into_inner);
        members.values().for_each(|member| member.gone.cancel());
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("controllers", &self.names()).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool without controllers.
    pub fn new(options: Options) -> Self {
        Self { inner: Arc::new(Inner { options, members: Mutex::default() }) }
    }

    /// A controller of this name is at this address from now on. Nothing happens if that is known already. To be called inside a tokio
    /// runtime.
    ///
    /// # Errors
    /// [`InvalidAddress`] if nothing can be at such an address; whatever was known under the name stays as it was.
    pub fn set(&self, name: &str, address: Address) -> Result<(), InvalidAddress> {
        let options = &self.inner.options;
        let mut members = self.members();
        if let Some(member) = members.get(name) {
            if member.state.borrow().address != address {
                member.move_to(address, options)?;
            }
            return Ok(());
        }
        let member = Arc::new(Member::new(name, address, options)?);
        members.insert(name.to_owned(), Arc::clone(&member));
        drop(members);
        tokio::spawn(keep(member, options.clone()));
        Ok(())
    }

    /// Forgets a controller; calls to it that are under way fail. Whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        let removed = self.members().remove(name);
        removed.inspect(|member| member.gone.cancel()).is_some()
    }

    /// Forgets every controller whose name is not among these.
    pub fn retain(&self, mut is_wanted: impl FnMut(&str) -> bool) {
        self.members().retain(|name, member| {
            let wanted = is_wanted(name);
            if !wanted {
                member.gone.cancel();
            }
            wanted
        });
    }

    /// Names of the controllers.
    pub fn names(&self) -> Vec<String> {
        self.members().keys().cloned().collect()
    }

    /// What is known of the connection to a controller.
    pub fn state(&self, name: &str) -> Option<State> {
        self.members().get(name).map(|member| member.state.borrow().clone())
    }

    /// The same, as it changes; the sender is dropped some time after the controller has been removed.
    pub fn watch(&self, name: &str) -> Option<watch::Receiver<State>> {
        self.members().get(name).map(|member| member.state.subscribe())
    }

    /// The controller of this name. It need not be known yet, its address may change: each call looks it up.
    pub fn controller(&self, name: &str) -> Controller {
        Controller::new(self.clone(), name)
    }

    pub(crate) fn options(&self) -> &Options {
        &self.inner.options
    }

    pub(crate) fn member(&self, name: &str) -> Result<Arc<Member>, ControllerError> {
        let member = self.members().get(name).cloned();
        member.ok_or_else(|| {
            ControllerError::Unreachable(format!(
                "there is no controller {name}: it has to be registered first"
            ))
        })
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Member>>> {
        self.inner.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A controller of the pool.
pub(crate) struct Member {
    name: String,
    connection: Mutex<Connection>,
    state: watch::Sender<State>,
    /// Somebody wants to know now whether it is there.
    wanted: Notify,
    /// It has been removed from the pool.
    pub(crate) gone: CancellationToken,
}

#[derive(Clone)]
struct Connection {
    channel: Channel,
    address: Address,
    /// Grows with each new connection: what is found out of an earlier one says nothing of this.
    number: u64,
}

impl Member {
    fn new(name: &str, address: Address, options: &Options) -> Result<Self, InvalidAddress> {
        let channel = address.channel(options.connect_deadline)?;
        Ok(Self {
            name: name.to_owned(),
            connection: Mutex::new(Connection { channel, address: address.clone(), number: 0 }),
            state: watch::Sender::new(State::untried(address)),
            wanted: Notify::new(),
            gone: CancellationToken::new(),
        })
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn move_to(&self, address: Address, options: &Options) -> Result<(), InvalidAddress> {
        let channel = address.channel(options.connect_deadline)?;
        let mut connection = self.connection();
        *connection = Connection { channel, address: address.clone(), number: connection.number + 1 };
        let checks = self.state.borrow().checks;
        self.state.send_replace(State { checks, ..State::untried(address) });
        drop(connection);
        self.wanted.notify_one();
        Ok(())
    }

    /// A connection for a call. If the controller did not answer of late, it is tried again first, and the call fails if it still does
    /// not.
    pub(crate) async fn channel(&self) -> Result<Channel, ControllerError> {
        let mut states = self.state.subscribe();
        let (health, seen) = {
            let state = states.borrow_and_update();
            (state.health, state.checks)
        };
        if health == Health::Failing {
            self.wanted.notify_one();
            let checked =
                states.wait_for(|state| state.checks > seen || state.health != Health::Failing).await;
            let state = checked.map(|state| state.clone()).ok();
            if let Some(State { health: Health::Failing, last_failure: Some(failure), .. }) = state {
                return Err(ControllerError::Unreachable(self.told(&failure.message)));
            }
        }
        Ok(self.connection().channel.clone())
    }

    /// Has it found out soon whether the controller is there.
    pub(crate) fn doubt(&self) {
        self.wanted.notify_one();
    }

    /// Whose problem it is, and where.
    pub(crate) fn told(&self, problem: &str) -> String {
        format!("{} at {}: {problem}", self.name, self.state.borrow().address)
    }

    /// Takes note of a check, and says when to make the next one.
    fn note(&self, number: u64, found: Result<(), String>, options: &Options) -> Duration {
        let mut connection = self.connection();
        if connection.number != number {
            return Duration::ZERO;
        }
        let now = Timestamp::now();
        let mut pause = options.check_every;
        self.state.send_modify(|state| {
            state.checks += 1;
            let health = if found.is_ok() { Health::Ready } else { Health::Failing };
            if state.health != health {
                state.health = health;
                state.since = now;
            }
            match found {
                Ok(()) => state.failures = 0,
                Err(message) => {
                    if state.failures == 0 {
                        tracing::warn!(controller = self.name, address = %state.address, message, "a controller does not answer");
                    }
                    state.failures = state.failures.saturating_add(1);
                    state.last_failure = Some(Failure { message, at: now });
                    pause = back_off(state.failures, options);
                    if let Ok(channel) = connection.address.channel(options.connect_deadline) {
                        connection.channel = channel;
                    }
                }
            }
            state.next_check = Some(now + pause);
        });
        pause
    }
}

impl State {
    fn untried(address: Address) -> Self {
        Self {
            address,
            health: Health::Untried,
            since: Timestamp::now(),
            last_failure: None,
            failures: 0,
            next_check: None,
            checks: 0,
        }
    }
}

/// The pause after so many failures, up to a quarter more or less: controllers that went together are not asked together.
fn back_off(failures: u32, options: &Options) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1).min(20));
    let pause = options.first_pause.saturating_mul(doubled).min(options.longest_pause);
    pause.mul_f64(rand::random_range(0.75..1.25))
}

/// Finds out again and again whether a controller is there, until it is removed.
async fn keep(member: Arc<Member>, options: Options) {
    loop {
        let (channel, number) = {
            let connection = member.connection();
            (connection.channel.clone(), connection.number)
        };
        member.state.send_if_modified(|state| {
            state.next_check = None;
            false
        });
        let found = tokio::select! {
            () = member.gone.cancelled() => return,
            found = check(channel, options.check_deadline) => found,
        };
        let pause = member.note(number, found, &options);
        tokio::select! {
            () = member.gone.cancelled() => return,
            () = member.wanted.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Asks a controller whether it is there; the error says what came instead of an answer.
async fn check(channel: Channel, limit: Duration) -> Result<(), String> {
    let asked = wire::ask::<_, HealthResponse>(channel, paths::HEALTH, HealthRequest::default(), limit);
    match timeout(limit, asked).await {
        Err(_) => Err(format!("no answer within {limit:?}")),
        Ok(Ok(answer)) if answer.status == i32::from(ServingStatus::NotServing) => {
            Err("it says that it is not serving".into())
        }
        Ok(Ok(_)) => Ok(()),
        // That it does not know the health protocol, or does not let us ask, or cannot say it well.
        Ok(Err(status)) if failure::is_an_answer(&status) => Ok(()),
        Ok(Err(status)) => Err(match failure::of_call(&status) {
            ControllerError::TimedOut => format!("no answer within {limit:?}"),
            ControllerError::Refused(why)
            | ControllerError::Unreachable(why)
            | ControllerError::Unimplemented(why) => why,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let options = Options::default();
        for (failures, seconds) in [(1, 0.25), (2, 0.5), (3, 1.0), (8, 30.0), (1_000, 30.0)] {
            let pause = back_off(failures, &options).as_secs_f64();
            assert!((seconds * 0.75..seconds * 1.25).contains(&pause), "{failures}: {pause}");
        }
    }
}
