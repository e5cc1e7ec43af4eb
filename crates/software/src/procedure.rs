//! What is run on a host to change it: one script, which does nothing that is done already. Pure.

use std::fmt::Write as _;

use drystone_api::PackageManager;

use crate::{access::job::PLACE, inventory::quote};

/// A package that is to become another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PackageTask {
    /// Of this version, from the file that was brought or kept, else from the repositories.
    Install {
        /// Package.
        name: String,
        /// Version.
        version: String,
        /// Whether the one that is there is newer.
        older: bool,
    },
    /// Whatever version the repositories have.
    InstallAny {
        /// Package.
        name: String,
    },
    /// Gone.
    Remove {
        /// Package.
        name: String,
    },
    /// Kept at its version.
    Hold {
        /// Package.
        name: String,
    },
    /// No longer kept at its version.
    Release {
        /// Package.
        name: String,
    },
}

/// A file that is to become another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTask {
    /// Its place among the files of the host, by which its copy is found.
    pub number: usize,
    /// Path.
    pub path: String,
    /// Permissions in octal.
    pub mode: String,
    /// Where on the host the new content lies.
    pub source: String,
    /// What is run afterwards.
    pub after_change: String,
}

/// Everything that is to be done on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Work {
    /// Packages.
    pub packages: Vec<PackageTask>,
    /// Container images to pull.
    pub images: Vec<String>,
    /// Files.
    pub files: Vec<FileTask>,
    /// Files to be returned to what they were: number and path.
    pub restore: Vec<(usize, String)>,
    /// Name of the folder that files are copied to before.
    pub backup: String,
    /// Whether something is half installed.
    pub repair: bool,
}

/// Where on a host the file of a package is kept, so that it can be installed again.
pub fn package_path(manager: PackageManager, name: &str, version: &str) -> String {
    let ending = if manager == PackageManager::Rpm { "rpm" } else { "deb" };
    format!("{PLACE}/packages/{name}_{}.{ending}", version.replace(':', "%3a"))
}

/// Where on a host the content of a file is put first.
pub fn content_path(digest: &str) -> String {
    format!("{PLACE}/files/{}", digest.replace(':', "-"))
}

/// The script.
pub fn script(manager: PackageManager, work: &Work) -> String {
    let mut text = "set -u\nexport LC_ALL=C DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none NEEDRESTART_MODE=l\n".to_owned();
    text.push_str(
        "must() { \"$@\"; s=$?; [ $s -eq 0 ] || { echo \"$1 failed with status $s\" >&2; exit $s; }; }\n",
    );
    if !work.packages.is_empty() || work.repair {
        match manager {
            PackageManager::Rpm => rpm(work, &mut text),
            PackageManager::Debian => debian(work, &mut text),
            PackageManager::None => text.push_str("echo 'neither dpkg nor rpm is here' >&2; exit 1\n"),
        }
    }
    for image in &work.images {
        let _ = writeln!(text, "must ctr -n k8s.io images pull {}", quote(image));
    }
    files(work, &mut text);
    text
}

/// apt resolves what the packages need, all of them at once or none; where there is no apt, dpkg installs the files.
const DEBIAN: &str = r#"kept() { for f in PLACE/packages/"$1"_"$2".deb /var/cache/apt/archives/"$1"_"$2"_*.deb; do if [ -f "$f" ]; then echo "$f"; return; fi; done; }
spec() { f=$(kept "$1" "$3"); if [ -n "$f" ]; then echo "$f"; else echo "$1=$2"; fi; }
release() { if command -v apt-mark >/dev/null 2>&1; then apt-mark unhold "$@" >/dev/null; else for p; do echo "$p install" | dpkg --set-selections; done; fi; }
hold() { if command -v apt-mark >/dev/null 2>&1; then apt-mark hold "$@" >/dev/null; else for p; do echo "$p hold" | dpkg --set-selections; done; fi; }
change() {
  if command -v apt-get >/dev/null 2>&1; then
    apt-get -y -q -o DPkg::Lock::Timeout=600 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o APT::Get::AutomaticRemove=false --allow-downgrades --allow-change-held-packages $keep install "$@" </dev/null
    return
  fi
  for p; do case "$p" in /*) dpkg --force-confdef --force-confold -i "$p" || return ;; *-) dpkg -r "${p%-}" || return ;; *) echo "$p: no file of it is here, and there is no apt-get" >&2; return 1 ;; esac; done
}
set --
"#;

fn debian(work: &Work, text: &mut String) {
    text.push_str(&DEBIAN.replace("PLACE", PLACE));
    if work.repair {
        text.push_str("dpkg --configure -a --force-confdef --force-confold </dev/null\n");
    }
    let (mut held, mut released, mut removes) = (String::new(), String::new(), false);
    for task in &work.packages {
        match task {
            PackageTask::Install { name, version, .. } => {
                let file_version = quote(&version.replace(':', "%3a"));
                let _ = writeln!(
                    text,
                    "set -- \"$@\" \"$(spec {} {} {file_version})\"",
                    quote(name),
                    quote(version)
                );
            }
            PackageTask::InstallAny { name } => {
                let _ = writeln!(text, "set -- \"$@\" {}", quote(name));
            }
            PackageTask::Remove { name } => {
                removes = true;
                let _ = writeln!(text, "set -- \"$@\" {}", quote(&format!("{name}-")));
            }
            PackageTask::Hold { name } => {
                let _ = write!(held, " {}", quote(name));
            }
            PackageTask::Release { name } => {
                let _ = write!(released, " {}", quote(name));
            }
        }
    }
    // Without a removal that is asked for, a change that would remove something is refused.
    let _ = writeln!(text, "keep={}", if removes { "" } else { "--no-remove" });
    text.push_str("[ $# -eq 0 ] || must change \"$@\"\n");
    for (verb, names) in [("hold", held), ("release", released)] {
        if !names.is_empty() {
            let _ = writeln!(text, "must {verb}{names}");
        }
    }
}

/// dnf resolves what the packages need; where there is no dnf, rpm installs the files.
const RPM: &str = r#"kept() { f=PLACE/packages/"$1"_"$2".rpm; if [ -f "$f" ]; then echo "$f"; fi; }
spec() { f=$(kept "$1" "$3"); if [ -n "$f" ]; then echo "$f"; else echo "$1-$2"; fi; }
change() {
  verb=$1; shift
  if command -v dnf >/dev/null 2>&1; then dnf -y "$verb" "$@" </dev/null; return; fi
  case "$verb" in
    remove) rpm -e -- "$@" ;;
    *) for p; do case "$p" in /*) ;; *) echo "$p: no file of it is here, and there is no dnf" >&2; return 1 ;; esac; done
       rpm -U --oldpackage --replacepkgs -- "$@" ;;
  esac
}
lock() { if command -v dnf >/dev/null 2>&1; then dnf -y versionlock "$@"; else echo 'holding packages needs dnf with its versionlock plugin' >&2; return 1; fi; }
"#;

fn rpm(work: &Work, text: &mut String) {
    text.push_str(&RPM.replace("PLACE", PLACE));
    let mut verbs: [(&str, String); 3] =
        [("install", String::new()), ("downgrade", String::new()), ("remove", String::new())];
    let mut locks = String::new();
    for task in &work.packages {
        match task {
            PackageTask::Install { name, version, older } => {
                let file_version = quote(&version.replace(':', "%3a"));
                let words = format!(" \"$(spec {} {} {file_version})\"", quote(name), quote(version));
                verbs[usize::from(*older)].1.push_str(&words);
            }
            PackageTask::InstallAny { name } => {
                let _ = write!(verbs[0].1, " {}", quote(name));
            }
            PackageTask::Remove { name } => {
                let _ = write!(verbs[2].1, " {}", quote(name));
            }
            PackageTask::Hold { name } => {
                let _ = writeln!(locks, "must lock add {}", quote(name));
            }
            PackageTask::Release { name } => {
                let _ = writeln!(locks, "must lock delete {}", quote(name));
            }
        }
    }
    for (verb, names) in verbs {
        if !names.is_empty() {
            let _ = writeln!(text, "must change {verb}{names}");
        }
    }
    text.push_str(&locks);
}

/// Each file is copied once before it is first changed, so that a script that was cut off does not copy its own work.
const FILES: &str = r#"mkdir -p "$b" || exit 1
put() {
  if [ ! -e "$b/$1" ] && [ ! -e "$b/$1.absent" ]; then
    if [ -e "$2" ]; then cp -a -- "$2" "$b/$1.new" && mv -- "$b/$1.new" "$b/$1" || return 1; else : >"$b/$1.absent" || return 1; fi
  fi
  mkdir -p -- "$(dirname -- "$2")" && cp -- "$4" "$2.drystone-new" && chmod "$3" "$2.drystone-new" && mv -f -- "$2.drystone-new" "$2"
}
restore() {
  if [ -e "$b/$1" ]; then cp -a -- "$b/$1" "$2.drystone-new" && mv -f -- "$2.drystone-new" "$2"
  elif [ -e "$b/$1.absent" ]; then rm -f -- "$2"; fi
}
"#;

fn files(work: &Work, text: &mut String) {
    if work.files.is_empty() && work.restore.is_empty() {
        return;
    }
    let _ = writeln!(text, "b={}", quote(&format!("{PLACE}/backup/{}", work.backup)));
    text.push_str(FILES);
    for file in &work.files {
        let (path, source) = (quote(&file.path), quote(&file.source));
        let _ = writeln!(text, "must put {} {path} {} {source}", file.number, quote(&file.mode));
    }
    for (number, path) in &work.restore {
        let _ = writeln!(text, "must restore {number} {}", quote(path));
    }
    for command in work.files.iter().map(|file| &file.after_change).filter(|command| !command.is_empty()) {
        let _ = writeln!(text, "must sh -c {}", quote(command));
    }
}

/// Asks which versions of some packages the repositories have.
pub fn candidates_script(manager: PackageManager, names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| quote(name)).collect();
    let names = names.join(" ");
    match manager {
        PackageManager::Rpm => {
            format!("dnf -q repoquery --qf '%{{name}} | %{{evr}} |\\n' {names} </dev/null; exit 0\n")
        }
        _ => format!(
            "export LC_ALL=C; apt-get -q update </dev/null >/dev/null 2>&1; apt-cache madison {names}; exit 0\n"
        ),
    }
}

/// Versions of one package in the answer: lines of `NAME | VERSION | …`.
pub fn candidates<'a>(answer: &'a str, name: &str) -> Vec<&'a str> {
    let version = |line: &'a str| {
        let mut fields = line.split('|').map(str::trim);
        (fields.next() == Some(name)).then(|| fields.next()).flatten()
    };
    answer.lines().filter_map(version).collect()
}

/// Asks what is in the file of a package: name and version.
pub fn identity_script(manager: PackageManager, path: &str) -> String {
    let path = quote(path);
    match manager {
        PackageManager::Rpm => {
            format!(
                "rpm -qp --nosignature --qf '%{{NAME}}\\n%|EPOCH?{{%{{EPOCH}}:}}|%{{VERSION}}-%{{RELEASE}}\\n' {path}\n"
            )
        }
        _ => format!("dpkg-deb -f {path} Package Version | sed 's/^[A-Za-z]*: //'\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(script: &str) -> bool {
        let checked = std::process::Command::new("sh").args(["-n", "-c", script]).status();
        checked.expect("a shell").success()
    }

    #[test]
    fn scripts_are_good_shell_whatever_the_names() {
        let odd = "it's; $(reboot) `x`".to_owned();
        let task = |name: &String| {
            [
                PackageTask::Install { name: name.clone(), version: "1:2".to_owned(), older: true },
                PackageTask::InstallAny { name: name.clone() },
                PackageTask::Remove { name: name.clone() },
                PackageTask::Hold { name: name.clone() },
                PackageTask::Release { name: name.clone() },
            ]
        };
        let file = FileTask {
            number: 0,
            path: format!("/etc/{odd}"),
            mode: "0644".to_owned(),
            source: content_path("sha256:ab"),
            after_change: odd.clone(),
        };
        let work = Work {
            packages: task(&odd).to_vec(),
            images: vec![odd.clone()],
            files: vec![file],
            restore: vec![(1, odd.clone())],
            backup: odd.clone(),
            repair: true,
        };
        for manager in [PackageManager::Debian, PackageManager::Rpm, PackageManager::None] {
            let text = script(manager, &work);
            assert!(runs(&text), "{text}");
            assert!(runs(&candidates_script(manager, std::slice::from_ref(&odd))));
            assert!(runs(&identity_script(manager, &odd)));
        }
    }

    #[test]
    fn nothing_is_removed_unless_asked_for() {
        let install = PackageTask::Install { name: "a".to_owned(), version: "1".to_owned(), older: false };
        let remove = PackageTask::Remove { name: "b".to_owned() };
        let with = |packages: Vec<PackageTask>| {
            script(PackageManager::Debian, &Work { packages, ..Work::default() })
        };
        assert!(with(vec![install.clone()]).contains("keep=--no-remove\n"));
        assert!(with(vec![install, remove]).contains("keep=\n"));
    }

    #[test]
    fn candidates_are_read() {
        let answer = " hello | 1.1 | http://deb.example.org/debian bookworm/main amd64 Packages\n hello | 1.0 | x\nhello-doc | 9 | x\n";
        assert_eq!(candidates(answer, "hello"), ["1.1", "1.0"]);
        assert!(candidates("N: Unable to locate", "hello").is_empty());
    }
}
