//! Searches files and processes for secrets, in the forms in which programs write them down.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

/// A secret, and what it is called.
#[derive(Debug, Clone)]
pub(crate) struct Marked {
    pub(crate) name: String,
    pub(crate) text: String,
}

impl Marked {
    /// A secret that is known already.
    pub(crate) fn new(name: &str, text: &str) -> Self {
        assert!(text.len() >= 16, "{name} is too short to be searched for");
        Self { name: name.to_owned(), text: text.to_owned() }
    }

    /// A new one.
    pub(crate) fn random(name: &str) -> Self {
        let digits: String = (0..24).map(|_| char::from(rand::random_range(b'a'..=b'z'))).collect();
        Self::new(name, &format!("marked{digits}"))
    }

    pub(crate) fn base64(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(&self.text)
    }

    /// In one line each, for grep: as it is, in base64 wherever it begins in what was encoded, and in hexadecimal digits. Of a text of several
    /// lines, one of its lines.
    fn forms(&self) -> Vec<String> {
        let line = self.text.lines().max_by_key(|line| line.len()).unwrap_or_default();
        let mut forms = vec![line.to_owned()];
        for offset in 0..3 {
            let bytes = [vec![b'x'; offset], line.as_bytes().to_vec()].concat();
            for encoded in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
                // Its first and last characters depend on what is around it.
                forms.push(encoded[(offset * 8).div_ceil(6)..encoded.len() - 1].to_owned());
            }
        }
        let hex: String = line.bytes().map(|byte| format!("{byte:02x}")).collect();
        forms.push(hex.to_uppercase());
        forms.push(hex);
        forms.sort();
        forms.dedup();
        forms
    }

    /// In UTF-16, as a Perl regular expression.
    fn utf16(&self) -> String {
        let line = self.text.lines().max_by_key(|line| line.len()).unwrap_or_default();
        line.bytes().map(|byte| format!(r"\x{byte:02x}\x00")).collect()
    }

    fn is_in(&self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        let line = self.text.lines().max_by_key(|line| line.len()).unwrap_or_default();
        // Without its zeros, UTF-16 is as ASCII.
        self.forms().iter().any(|form| text.contains(form)) || text.replace('\0', "").contains(line)
    }
}

/// Where secrets were found: name of the secret, and file.
pub(crate) fn files(directory: &Path, secrets: &[Marked]) -> Vec<(String, PathBuf)> {
    files_but("", directory, secrets)
}

/// The same, but for files whose names match a pattern: sparse ones would be read for minutes.
pub(crate) fn files_but(pattern: &str, directory: &Path, secrets: &[Marked]) -> Vec<(String, PathBuf)> {
    assert!(directory.is_dir(), "{} is no directory", directory.display());
    let mut found = Vec::new();
    for secret in secrets {
        let patterns = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(patterns.path(), secret.forms().join("\n")).unwrap();
        let mut plain = Command::new("grep");
        plain.args(["-rlaFZ", "--devices=skip", "-f"]).arg(patterns.path());
        let mut wide = Command::new("grep");
        wide.args(["-rlaPZ", "--devices=skip", "-e", &secret.utf16()]);
        for mut grep in [plain, wide] {
            if !pattern.is_empty() {
                grep.arg(format!("--exclude={pattern}"));
            }
            let output = grep.env("LC_ALL", "C").arg(directory).output().unwrap();
            // Files that go away meanwhile are complained about with 2.
            let paths = output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty());
            found.extend(paths.map(|path| (secret.name.clone(), OsString::from_vec(path.to_vec()).into())));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// Secrets in the arguments and the environment of processes that have to do with `directory`: name of the secret, and which process.
pub(crate) fn processes(directory: &Path, secrets: &[Marked]) -> Vec<(String, String)> {
    let (found, seen) = look_at_processes(Some(directory), secrets);
    assert!(seen > 0, "no process has to do with {}", directory.display());
    found
}

/// What was found, and how many times it was looked.
type Looked = (Vec<(String, String)>, usize);

/// Looks at the processes of the machine again and again, for as long as it lives.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Looked>>,
}

impl Watch {
    /// Begins. `secret` must be one that no other program of the machine has.
    pub(crate) fn start(secret: Marked) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut all, mut rounds) = (Vec::new(), 0);
            while !stopped.load(Ordering::Relaxed) {
                all.extend(look_at_processes(None, std::slice::from_ref(&secret)).0);
                rounds += 1;
                std::thread::sleep(Duration::from_millis(200));
            }
            (all, rounds)
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends; returns what was found and how many times it looked.
    pub(crate) fn end(mut self) -> Looked {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Secrets in arguments and environments of processes, of those that have to do with a directory or of all; and how many there were.
fn look_at_processes(directory: Option<&Path>, secrets: &[Marked]) -> (Vec<(String, String)>, usize) {
    let mut found = Vec::new();
    let mut seen = 0;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        if !entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let (arguments, environment) = (read("cmdline"), read("environ"));
        let name = directory.map(|directory| directory.as_os_str().as_bytes());
        let ours =
            |bytes: &[u8]| name.is_none_or(|name| bytes.windows(name.len()).any(|window| window == name));
        if !ours(&arguments) && !ours(&environment) {
            continue;
        }
        seen += 1;
        for secret in secrets {
            if secret.is_in(&arguments) || secret.is_in(&environment) {
                let text = String::from_utf8_lossy(&arguments).replace('\0', " ");
                found.push((secret.name.clone(), text));
            }
        }
    }
    (found, seen)
}

/// Shows that the search finds what is there, in every form: else it would show nothing.
pub(crate) fn assert_it_finds(directory: &Path, secret: &Marked) {
    let planted = directory.join("planted");
    let line = secret.text.lines().next().unwrap();
    let wide: Vec<u8> = line.bytes().flat_map(|byte| [byte, 0]).collect();
    let encode = |before: &str| {
        base64::engine::general_purpose::STANDARD.encode(format!("{before}{line} and more")).into_bytes()
    };
    let hex = line.bytes().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes();
    for form in [line.as_bytes().to_vec(), encode(""), encode("1"), encode("12"), hex, wide] {
        std::fs::write(&planted, [b"\0\xffbefore".as_slice(), &form, b"after\n"].concat()).unwrap();
        let found = files(directory, std::slice::from_ref(secret));
        assert!(
            found.contains(&(secret.name.clone(), planted.clone())),
            "{} in the form {form:?} is not found",
            secret.name
        );
        assert!(secret.is_in(&form));
    }
    std::fs::remove_file(planted).unwrap();
}
