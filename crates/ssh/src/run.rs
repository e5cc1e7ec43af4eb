//! Running a command: start the wrapper, hand the command over, follow it to its end.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use drystone_identity::Secret;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf, client::Msg};
use tokio::{io::AsyncReadExt as _, sync::OwnedSemaphorePermit};

use crate::{
    command::{CommandLine, Exit, Input, Outcome, Privilege, script},
    connect::describe,
    error::SshError,
    output::{Captured, OutputStream},
    session::{Inner, Session},
    wrapper::{self, Listener, Said, Start},
};

/// Number of the standard error among extended data (RFC 4254, section 5.2).
const STDERR: u32 = 1;

/// How long output may stay away after the end of a command before it is taken to be over: something that the command left behind may
/// keep the output open for ever.
const LINGER: Duration = Duration::from_secs(2);

/// How long ending a command may take.
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// How much of the input is sent at a time.
const CHUNK: usize = 32 * 1024;

impl Session {
    /// Runs a command to its end. `on_output` gets all output as it comes; what is kept of it is bounded.
    ///
    /// If the deadline passes, or the future is dropped, the command and what it started is ended on the host (`TERM`, then `KILL`),
    /// other than what has made itself a process group of its own; the same if the connection is lost.
    ///
    /// # Errors
    /// [`SshError`] if it did not come to an end. A status other than 0 is an end.
    pub async fn run(
        &self,
        command: CommandLine,
        deadline: Duration,
        mut on_output: impl FnMut(OutputStream, &[u8]) + Send,
    ) -> Result<Outcome, SshError> {
        let run = self.inner.run(command, &mut on_output);
        match tokio::time::timeout(deadline, run).await {
            Ok(result) => result,
            Err(_) => {
                Err(SshError::Deadline { host: self.address(), doing: "running a command", limit: deadline })
            }
        }
    }
}

/// A command that runs on the host; ended there when this is dropped before [`Running::ended`].
struct Running {
    inner: Arc<Inner>,
    write: Arc<ChannelWriteHalf<Msg>>,
    privilege: Privilege,
    /// What `kill` takes to end it; unknown before it started.
    victim: Option<String>,
    place: Option<OwnedSemaphorePermit>,
    over: bool,
}

impl Running {
    fn ended(&mut self) {
        self.over = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let (inner, write) = (Arc::clone(&self.inner), Arc::clone(&self.write));
        let place = self.place.take();
        let victim = self.victim.take().filter(|victim| !self.over && !victim.is_empty());
        let privilege = self.privilege.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            // Before its input ends, for that might look to it like the end of its work. Without a victim it has not been told yet what
            // to run, and ends by itself with its input.
            if let Some(victim) = victim {
                inner.kill(&victim, privilege).await;
            }
            let _ = tokio::time::timeout(KILL_LIMIT, write.close()).await;
            drop(place);
        });
    }
}

type OnOutput<'a> = &'a mut (dyn FnMut(OutputStream, &[u8]) + Send);

impl Inner {
    async fn run(
        self: &Arc<Self>,
        command: CommandLine,
        on_output: OnOutput<'_>,
    ) -> Result<Outcome, SshError> {
        let place = self.place().await?;
        self.run_without_place(command, Some(place), on_output).await
    }

    /// Ends a command, as well as can be.
    async fn kill(self: &Arc<Self>, victim: &str, privilege: Privilege) {
        let command = CommandLine::new(wrapper::kill_program(victim)).privilege(privilege);
        let mut ignore = |_: OutputStream, _: &[u8]| {};
        let kill = Box::pin(self.run_without_place(command, None, &mut ignore));
        match tokio::time::timeout(KILL_LIMIT, kill).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!("ending a command: {error}"),
            Err(_) => tracing::debug!(host = %self.host(), "ending a command took too long"),
        }
    }

    async fn run_without_place(
        self: &Arc<Self>,
        command: CommandLine,
        place: Option<OwnedSemaphorePermit>,
        on_output: OnOutput<'_>,
    ) -> Result<Outcome, SshError> {
        let started = Instant::now();
        let script = script(&command)?;
        let (start, password) = self.start_of(&command.privilege);
        let mark = wrapper::new_mark();
        let channel = self.channel().await?;
        let (mut read, write) = channel.split();
        let mut running = Running {
            inner: Arc::clone(self),
            write: Arc::new(write),
            privilege: command.privilege.clone(),
            victim: None,
            place,
            over: false,
        };
        let text = wrapper::command(start, &mark);
        running.write.exec(true, text).await.map_err(|_| self.lost())?;
        let noise = self.await_start(&mut read, &mut running, &mark, password).await?;
        let mut follower = Follower::new(command.output_limit, on_output);
        follower.take(OutputStream::Stderr, &noise);
        let line = wrapper::script_line(&script);
        let feeding = feed(Arc::clone(&running.write), Bytes::from(line.to_vec()), command.input);
        let exit = self.follow(&mut read, feeding, &mut follower).await?;
        running.ended();
        let Follower { stdout, stderr, .. } = follower;
        Ok(Outcome { exit, stdout, stderr, elapsed: started.elapsed() })
    }

    /// How the wrapper is started, and the password that sudo would get.
    fn start_of(&self, privilege: &Privilege) -> (Start, Option<Secret>) {
        match privilege {
            Privilege::Root(password) if self.user() != "root" => {
                let password = password.clone().or_else(|| self.password().cloned());
                let start = if password.is_some() { Start::SudoWithPassword } else { Start::Sudo };
                (start, password)
            }
            _ => (Start::Plain, None),
        }
    }

    /// Waits until the wrapper runs, and gives sudo its password. Returns what else was written meanwhile.
    async fn await_start(
        &self,
        read: &mut ChannelReadHalf,
        running: &mut Running,
        mark: &str,
        mut password: Option<Secret>,
    ) -> Result<Vec<u8>, SshError> {
        let host = self.host();
        let mut listener = Listener::new(mark);
        let mut exit = None;
        while let Some(message) = read.wait().await {
            match message {
                ChannelMsg::Failure => {
                    return Err(SshError::NotStarted {
                        host,
                        reason: "the host refuses to execute commands".into(),
                    });
                }
                ChannelMsg::ExtendedData { data, ext: STDERR } => {
                    if !listener.hear(&data) {
                        let reason = "its login shell writes without end".to_owned();
                        return Err(SshError::NotStarted { host, reason });
                    }
                    match listener.next() {
                        Said::Nothing => {}
                        Said::Started(victim) => {
                            running.victim = Some(victim);
                            return Ok(listener.noise());
                        }
                        Said::WantsPassword => {
                            let Some(password) = password.take() else {
                                let reason = "the password is not accepted".to_owned();
                                return Err(self.sudo(reason));
                            };
                            let line = zeroize::Zeroizing::new(format!("{}\n", password.expose()));
                            let bytes = Bytes::copy_from_slice(line.as_bytes());
                            running.write.data_bytes(bytes).await.map_err(|_| self.lost())?;
                        }
                    }
                }
                ChannelMsg::ExitStatus { exit_status } => exit = Some(Exit::Status(exit_status)),
                ChannelMsg::ExitSignal { signal_name, .. } => exit = Some(signal(&signal_name)),
                _ => {}
            }
        }
        let Some(exit) = exit else { return Err(self.lost()) };
        let mut words = Captured::new(4096);
        words.push(&listener.noise());
        let words = words.last_lines(3);
        if matches!(running.privilege, Privilege::Root(_)) && self.user() != "root" {
            return Err(self.sudo(if words.is_empty() { exit.to_string() } else { words }));
        }
        Err(SshError::NotStarted { host, reason: format!("the login shell ended with {exit}: {words}") })
    }

    fn sudo(&self, reason: String) -> SshError {
        SshError::Sudo { host: self.host(), user: self.user().to_owned(), reason }
    }

    /// Follows a command to its end, while it is fed.
    async fn follow(
        &self,
        read: &mut ChannelReadHalf,
        feeding: impl Future<Output = Result<(), std::io::Error>>,
        follower: &mut Follower<'_>,
    ) -> Result<Exit, SshError> {
        let mut feeding = pin!(feeding);
        let mut hungry = true;
        let mut exit = None;
        loop {
            let linger = async {
                match exit {
                    Some(_) => tokio::time::sleep(LINGER).await,
                    None => std::future::pending().await,
                }
            };
            let message = tokio::select! {
                message = read.wait() => message,
                fed = &mut feeding, if hungry => {
                    hungry = false;
                    fed.map_err(|source| SshError::Input { host: self.host(), source })?;
                    continue;
                }
                () = linger => None,
            };
            match message {
                None | Some(ChannelMsg::Close) => break,
                Some(ChannelMsg::Data { data }) => follower.take(OutputStream::Stdout, &data),
                Some(ChannelMsg::ExtendedData { data, ext: STDERR }) => {
                    follower.take(OutputStream::Stderr, &data);
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => exit = Some(Exit::Status(exit_status)),
                Some(ChannelMsg::ExitSignal { signal_name, .. }) => exit = Some(signal(&signal_name)),
                Some(_) => {}
            }
        }
        exit.ok_or_else(|| self.lost())
    }
}

fn signal(signal: &russh::Sig) -> Exit {
    let name = match signal {
        russh::Sig::Custom(name) => name.chars().filter(char::is_ascii_alphanumeric).take(20).collect(),
        known => format!("{known:?}"),
    };
    Exit::Signal(name)
}

/// Sends the script and the input. That the host takes no more is no error: a command need not read its input.
async fn feed(write: Arc<ChannelWriteHalf<Msg>>, script: Bytes, input: Input) -> Result<(), std::io::Error> {
    if let Err(error) = write.data_bytes(script).await {
        tracing::debug!("handing a command over: {}", describe(&error));
        return Ok(());
    }
    let fed = match input {
        Input::Nothing => Ok(()),
        Input::Bytes(bytes) => write.data_bytes(bytes).await,
        Input::Reader(mut reader) => loop {
            let mut chunk = bytes::BytesMut::with_capacity(CHUNK);
            if reader.read_buf(&mut chunk).await? == 0 {
                break Ok(());
            }
            if let Err(error) = write.data_bytes(chunk.freeze()).await {
                break Err(error);
            }
        },
    };
    if fed.is_ok() {
        let _ = write.eof().await;
    }
    Ok(())
}

/// Hands output on and keeps what fits.
struct Follower<'a> {
    stdout: Captured,
    stderr: Captured,
    on_output: OnOutput<'a>,
}

impl<'a> Follower<'a> {
    fn new(limit: usize, on_output: OnOutput<'a>) -> Self {
        Self { stdout: Captured::new(limit), stderr: Captured::new(limit), on_output }
    }

    fn take(&mut self, stream: OutputStream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        (self.on_output)(stream, bytes);
        match stream {
            OutputStream::Stdout => self.stdout.push(bytes),
            OutputStream::Stderr => self.stderr.push(bytes),
        }
    }
}
