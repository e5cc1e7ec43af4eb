//! `drystone up` as a process of a test.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long anything may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// The program.
pub(crate) fn drystone() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drystone"));
    command.env_remove("RUST_LOG").env_remove("KUBECONFIG").stdin(Stdio::null());
    command
}

/// Runs `drystone up` that is expected to end by itself; panics if it goes on.
pub(crate) fn up_that_fails(data: &Path, arguments: &[&str]) -> Output {
    let mut command = drystone();
    command.arg("up").arg("--data").arg(data).args(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    if !ended(|| child.try_wait().expect("waited for").is_some()) {
        child.kill().expect("ended");
        panic!("drystone up {arguments:?} did not end: {:?}", child.wait_with_output());
    }
    child.wait_with_output().expect("its output")
}

/// Waits for something that must come.
fn ended(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// A Drystone that runs. Dropping it without [`Up::stop`] ends it too.
pub(crate) struct Up {
    child: Child,
    output: BufReader<ChildStdout>,
    log: PathBuf,
    pub(crate) data: PathBuf,
    /// The line that it printed when it was ready.
    pub(crate) ready: String,
}

impl Up {
    /// Starts it on ports of its own choice and waits until it says that it is ready.
    pub(crate) fn start(directory: &Path, arguments: &[&str]) -> Self {
        Self::start_as(directory, &["up"], arguments)
    }

    /// The same by another command that ends in a running Drystone.
    pub(crate) fn start_as(directory: &Path, command_line: &[&str], arguments: &[&str]) -> Self {
        let (data, log) = (directory.join("data"), directory.join("log"));
        let mut command = drystone();
        command.args(command_line).arg("--data").arg(&data).args(["--listen", "127.0.0.1:0"]).args(arguments);
        command.stdout(Stdio::piped()).stderr(File::create(&log).expect("a log"));
        let mut child = command.spawn().expect("started");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let mut ready = String::new();
        output.read_line(&mut ready).expect("a line");
        let mut up = Self { child, output, log, data, ready };
        if !up.ready.contains("is ready at https://") {
            let status = up.child.wait();
            panic!("not ready: {status:?} {:?}\n{}", up.ready, up.log());
        }
        up
    }

    /// The next line that it prints.
    pub(crate) fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line
    }

    /// Where it says that it is, of a scheme.
    pub(crate) fn address(&self, scheme: &str) -> Option<SocketAddr> {
        let (_, rest) = self.ready.split_once(&format!(" {scheme}://"))?;
        rest.split_whitespace().next()?.parse().ok()
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log")
    }

    /// Kills it as nothing else does: without a chance to say anything.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("its status");
    }

    /// Stops it as if its machine had no more time for it: connections stay, and nothing comes through.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// It goes on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("signalled");
    }

    /// Password of the administrator.
    pub(crate) fn password(&self) -> String {
        std::fs::read_to_string(self.data.join("admin-password")).expect("a password")
    }

    /// Stops it as a service manager would, and returns what it printed after it was ready.
    pub(crate) fn stop(mut self) -> String {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("told to stop");
        assert!(
            ended(|| self.child.try_wait().expect("waited for").is_some()),
            "it does not stop: {}",
            self.log()
        );
        let status = self.child.wait().expect("its status");
        assert!(status.success(), "{status}: {}", self.log());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("its output");
        rest
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none())
            && let Ok(pid) = i32::try_from(self.child.id())
        {
            // Not by force: it would leave its emulated sites running.
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}
