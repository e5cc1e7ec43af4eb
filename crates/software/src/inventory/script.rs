//! The question: one shell script, so that a host is asked once.

use std::fmt::Write as _;

/// In single quotes, so that a POSIX shell takes it as it is.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Asks for everything but files. Each part begins with a line of its own; what a host has not is left out.
const QUESTION: &str = r#"export LC_ALL=C
echo '@@ os-release'; cat /etc/os-release 2>/dev/null || cat /usr/lib/os-release 2>/dev/null; echo
echo '@@ kernel'; uname -r; uname -m
echo '@@ boot'; echo "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)-$(sed 's/.*) //' /proc/1/stat 2>/dev/null | cut -d' ' -f20)"
if command -v dpkg-query >/dev/null 2>&1; then
  echo '@@ architecture'; dpkg --print-architecture
  echo '@@ dpkg'; dpkg-query -W -f '${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n'
elif command -v rpm >/dev/null 2>&1; then
  echo '@@ rpm'; rpm -qa --qf '%{NAME}\t%{EPOCHNUM}\t%{VERSION}-%{RELEASE}\t%{ARCH}\n'
  if command -v dnf >/dev/null 2>&1; then echo '@@ versionlock'; dnf -q versionlock list 2>/dev/null; fi
fi
if [ -S /run/containerd/containerd.sock ] && command -v ctr >/dev/null 2>&1; then echo '@@ images'; ctr --connect-timeout 3s -n k8s.io images ls 2>/dev/null; fi
if [ -e /run/reboot-required ] || [ -e /var/run/reboot-required ]; then echo '@@ reboot-required'; fi
"#;

/// The question, with these files.
pub fn script<'a>(files: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = QUESTION.to_owned();
    text.push_str("echo '@@ files'\n");
    for file in files {
        let file = quote(file);
        let _ = writeln!(text, "if [ -f {file} ]; then sha256sum -- {file}; fi");
    }
    text.push_str("echo '@@ end'\n");
    text
}
