//! Jobs: commands that go on when nobody listens. A package manager must not be cut off half-way because a connection was lost
//! or Drystone was restarted: the job runs apart from the connection, writes down what it says and how it ended, and whoever
//! comes back under the same key finds it running, or its result.

use std::time::Duration;

use super::{AccessError, HostAccess, Ran};
use crate::inventory::quote;

/// Where on a host everything of ours is.
pub const PLACE: &str = "/var/lib/drystone/software";

/// How long one look at a job waits for its end, in half seconds.
const LOOK: u32 = 20;

/// How long one look may take in all.
const LOOK_DEADLINE: Duration = Duration::from_secs(60);

/// Bytes from the end of what a job says that are kept.
const SAID: usize = 16 * 1024;

/// Runs a job to its end, or finds that it has ended. The same key must mean the same script.
///
/// # Errors
/// [`AccessError`]; the job may go on all the same.
pub async fn run(
    access: &dyn HostAccess,
    key: &str,
    script: &str,
    deadline: Duration,
    said: &(dyn Fn(&str) + Send + Sync),
) -> Result<Ran, AccessError> {
    let look = look(key, script);
    let waited = async {
        loop {
            let seen = access.run(&look, LOOK_DEADLINE).await?.succeeded("looking after a job")?;
            let (head, output) = seen.output.split_once('\n').unwrap_or((&seen.output, ""));
            match head.strip_prefix("@@ ended ").map(|status| status.trim().parse::<u32>()) {
                Some(Ok(status)) => {
                    return Ok(Ran { status, output: output.to_owned(), errors: String::new() });
                }
                _ if head.trim() == "@@ running" => said(&super::last_lines(output, 1)),
                _ => {
                    let text = super::last_lines(&seen.output, 2);
                    return Err(AccessError::Failed(format!("looking after a job, the host says: {text}")));
                }
            }
        }
    };
    tokio::time::timeout(deadline, waited).await.unwrap_or_else(|_| {
        let seconds = deadline.as_secs();
        Err(AccessError::Failed(format!("a job on the host has not ended within {seconds} s; it goes on")))
    })
}

/// Starts the job unless it was started, waits a while, and tells how it is. A job that was cut off by a reboot or a crash is
/// started anew.
fn look(key: &str, script: &str) -> String {
    let folder = quote(&format!("{PLACE}/jobs/{key}"));
    let script = quote(script);
    format!(
        r#"set -u
d={folder}
umask 077
mkdir -p {PLACE}/jobs {PLACE}/packages {PLACE}/files {PLACE}/backup || exit 1
boot=$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)
if [ ! -e "$d/ended" ]; then
  if [ -e "$d/pid" ] && [ "$(cat "$d/boot" 2>/dev/null)" = "$boot" ] && kill -0 "$(cat "$d/pid")" 2>/dev/null; then :; else
    find {PLACE}/jobs {PLACE}/backup -mindepth 1 -maxdepth 1 -mtime +30 -exec rm -rf -- {{}} + 2>/dev/null
    rm -rf -- "$d" && mkdir -- "$d" || exit 1
    printf '%s\n' "$boot" >"$d/boot"
    printf '%s\n' {script} >"$d/script" || exit 1
    setsid sh -c 'sh "$1/script" >"$1/said" 2>&1 </dev/null; echo $? >"$1/ended.new"; mv "$1/ended.new" "$1/ended"' sh "$d" >/dev/null 2>&1 </dev/null &
    echo $! >"$d/pid"
  fi
fi
i=0
while [ ! -e "$d/ended" ] && [ $i -lt {LOOK} ] && kill -0 "$(cat "$d/pid")" 2>/dev/null; do sleep 0.5; i=$((i+1)); done
[ -e "$d/ended" ] || sleep 0.2
if [ -e "$d/ended" ]; then echo "@@ ended $(cat "$d/ended")"; else echo '@@ running'; fi
tail -c {SAID} "$d/said" 2>/dev/null
exit 0
"#
    )
}
