//! The external controllers of `examples/applications/controllers`, as processes of their own.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use crate::stage::{has_helm, workspace};

/// What the external controllers are run with.
pub(crate) struct Programs {
    python: PathBuf,
    replicas: PathBuf,
}

impl Programs {
    /// `None` where something is missing; says what.
    pub(crate) fn find() -> Option<Self> {
        let python = workspace().join(".cache/grpc/venv/bin/python");
        // Examples are built with all tests, beside them.
        let tests = std::env::current_exe().unwrap();
        let replicas = tests.parent().unwrap().with_file_name("examples").join("replicas");
        let missing = [
            (&python, "no gRPC for Python (`./dev test` installs it)"),
            (
                &replicas,
                "no example controller in Rust (`cargo build -p drystone-emco-grpc --example replicas`)",
            ),
        ];
        for (file, why) in missing {
            if !file.exists() {
                println!("skipped: {why}");
                assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI: {why}");
                return None;
            }
        }
        has_helm().then_some(Self { python, replicas })
    }

    /// `names.py`, which keeps clusters of those names.
    pub(crate) fn names(&self, etcd: &str, keep: &str) -> Process {
        self.python("names.py", etcd, &["--keep", keep])
    }

    /// `labels.py`, with a file of intents.
    pub(crate) fn labels(&self, etcd: &str, intents: &Path) -> Process {
        self.python("labels.py", etcd, &["--intents", intents.to_str().unwrap()])
    }

    /// `replicas.rs`, with a file of intents.
    pub(crate) fn replicas(&self, etcd: &str, intents: &Path) -> Process {
        let mut command = Command::new(&self.replicas);
        command.arg(format!("http://{etcd}")).arg(intents);
        Process::start(command)
    }

    fn python(&self, script: &str, etcd: &str, arguments: &[&str]) -> Process {
        let script = workspace().join("examples/applications/controllers/python").join(script);
        let mut command = Command::new(&self.python);
        command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("http_proxy");
        command.arg(script).args(["--etcd", etcd]).args(arguments);
        Process::start(command)
    }
}

/// A controller that runs until it is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) port: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = printed.next().expect("it says on which port it listens").unwrap();
        let port = line.strip_prefix("listening on port ").and_then(|port| port.parse().ok()).expect(&line);
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let kept = lines.clone();
        std::thread::spawn(move || {
            printed.map_while(Result::ok).for_each(|line| kept.lock().unwrap().push(line));
        });
        Self { child, port, lines }
    }

    /// What it has printed since.
    pub(crate) fn printed(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Ends it without a chance to say anything.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
