//! A real Keystone and Heat, from the Python environment that `./dev test` makes.

use drystone_loopback::free_port;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use drystone_openstack::{Access, Heat, Keystone};
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// How long anything may take on the slowest machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(600);

/// The environment, or why there is none.
pub(crate) fn environment() -> Result<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join(".cache/openstack/venv");
    if !path.join("complete").is_file() {
        return Err("there is no Keystone and no Heat; `./dev test` fetches them".to_owned());
    }
    let postgresql = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    if !postgresql.into_iter().any(|version| version.path().join("bin/initdb").is_file()) {
        return Err("there is no PostgreSQL; `./dev test` installs it".to_owned());
    }
    Ok(path)
}

/// Keystone and Heat with a database of their own.
pub(crate) struct OpenStack {
    auth_url: String,
    process: Child,
    directory: TempDir,
}

impl Drop for OpenStack {
    fn drop(&mut self) {
        // All its processes end with it.
        if let Some(id) = self.process.id() {
            drop(std::process::Command::new("kill").args(["-KILL", &id.to_string()]).status());
        }
    }
}

impl OpenStack {
    /// Its tokens last so many seconds.
    pub(crate) async fn start(environment: &Path, token_seconds: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [keystone, heat] = [free_port(), free_port()].map(|port| port.to_string());
        let log = std::fs::File::create(directory.path().join("start.log")).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/start.py");
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(environment.join("bin/python3"))
            .arg(script)
            .arg(directory.path())
            .args([keystone.as_str(), heat.as_str(), &token_seconds.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut started = Self { auth_url: format!("http://127.0.0.1:{keystone}"), process, directory };
        let deadline = Instant::now() + DEADLINE;
        while !started.directory.path().join("ready").is_file() {
            let ended = started.process.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "no OpenStack: {}", started.log("start"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        started
    }

    pub(crate) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(format!("{name}.log"))).unwrap_or_default()
    }

    /// Who may make stacks.
    pub(crate) fn access(&self) -> Access {
        Access::new(&self.auth_url, "nfv_user", "devstack-secret".into(), "nfv")
    }

    pub(crate) fn heat(&self) -> Heat {
        Heat::new(Keystone::new(self.access()).unwrap())
    }

    /// How many tokens were asked for by anybody; Heat asks for some too.
    pub(crate) fn tokens_issued(&self) -> usize {
        self.log("keystone").lines().filter(|line| line.starts_with("POST /v3/auth/tokens 201")).count()
    }

    /// Takes all tokens of the user back, as an administrator does who suspects something.
    pub(crate) async fn revoke_tokens(&self) {
        let script = "import sys, requests
session = requests.Session(); session.trust_env = False
url = sys.argv[1] + '/v3'; default = {'id': 'default'}
user = {'name': 'admin', 'domain': default, 'password': 'admin-secret'}
scope = {'project': {'name': 'admin', 'domain': default}}
answer = session.post(url + '/auth/tokens', json={'auth': {'scope': scope, 'identity': {'methods': ['password'], 'password': {'user': user}}}})
session.headers['X-Auth-Token'] = answer.headers['X-Subject-Token']
user = session.get(url + '/users', params={'name': 'nfv_user'}).json()['users'][0]['id']
for enabled in (False, True):
    session.patch(f'{url}/users/{user}', json={'user': {'enabled': enabled}}).raise_for_status()
";
        let python = environment().unwrap().join("bin/python3");
        let output = Command::new(python).args(["-c", script, &self.auth_url]).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // Keystone's clock for this has seconds: a token of the same one would be taken back too.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
}

/// Names a peer that is missing, where it is.
#[macro_export]
macro_rules! openstack_or_skip {
    ($token_seconds:expr) => {
        match $crate::peers::environment() {
            Ok(environment) => $crate::peers::OpenStack::start(&environment, $token_seconds).await,
            Err(reason) => {
                println!("skipped: {reason}");
                assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
                return;
            }
        }
    };
}
