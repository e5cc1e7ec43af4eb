//! What actually runs on the host: a fixed shell program that tells what to kill, reads the command from its standard input, and takes
//! it down when the connection goes.

use drystone_identity::Secret;

/// The wrapper, one line, without single quotes and backslashes, so that every login shell passes it on as it is.
/// `$1` is the session's mark. SSH servers start a command as leader of a process group of its own, and `sudo` as its only child; where
/// neither is so, only the shell itself is killed, for the group may be somebody else's.
///
/// The loop in the background outlives nothing: it waits for the end of the command, or of the SSH server's process for this
/// connection, which means that nobody waits for the command any more.
const WRAPPER: &str = concat!(
    r#"IFS=" " read -r x x x p g x <"/proc/$$/stat" || exit 125; l=$p; "#,
    r#"if [ "$g" = "$$" ]; then :; elif [ "$g" = "$p" ]; then IFS=" " read -r x x x l x <"/proc/$p/stat" || exit 125; else g=; fi; "#,
    r#"if [ -n "$g" ]; then k="-$g"; else k=$$; fi; "#,
    r#"echo "$1 $k" >&2; IFS= read -r s || exit 125; "#,
    r#"( while kill -0 "$l" 2>/dev/null; do sleep 1; done; trap "" TERM; kill -s TERM -- "$k"; sleep 2; kill -s KILL -- "$k" ) "#,
    r#"</dev/null >/dev/null 2>&1 & w=$!; "#,
    r#"s=$(printf %s "$s" | base64 -d) || exit 125; (eval "$s"); c=$?; exec 2>/dev/null; kill "$w"; exit "$c""#,
);

/// A mark that no command prints by chance.
pub(crate) fn new_mark() -> String {
    format!("drystone-{}", uuid::Uuid::new_v4().simple())
}

/// How the wrapper is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// As the user that is logged in.
    Plain,
    /// By sudo, which must not ask for a password.
    Sudo,
    /// By sudo, which asks for a password by a prompt that is the mark and a question mark.
    SudoWithPassword,
}

/// The command that the SSH server is asked to execute.
pub(crate) fn command(start: Start, mark: &str) -> String {
    let run = format!("/bin/sh -c '{WRAPPER}' drystone {mark}");
    match start {
        Start::Plain => format!("exec {run}"),
        Start::Sudo => format!("exec sudo -n -- {run}"),
        Start::SudoWithPassword => format!("exec sudo -S -p '{mark}?' -- {run}"),
    }
}

/// The line by which the wrapper gets the script.
pub(crate) fn script_line(script: &Secret) -> zeroize::Zeroizing<Vec<u8>> {
    use base64::Engine as _;
    let mut line = base64::engine::general_purpose::STANDARD.encode(script.expose());
    line.push('\n');
    zeroize::Zeroizing::new(line.into_bytes())
}

/// The program that ends a command: politely, then not.
pub(crate) fn kill_program(victim: &str) -> String {
    format!(
        "kill -s TERM -- {victim} 2>/dev/null; i=0; \
         while [ $i -lt 30 ] && kill -s 0 -- {victim} 2>/dev/null; do sleep 0.1; i=$((i+1)); done; \
         kill -s KILL -- {victim} 2>/dev/null; :"
    )
}

/// What the wrapper, or sudo before it, has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// Nothing complete yet.
    Nothing,
    /// sudo wants a password.
    WantsPassword,
    /// It runs; this is what `kill` takes to end it.
    Started(String),
}

/// Finds the wrapper's words in a standard error that others write to as well.
#[derive(Debug)]
pub(crate) struct Listener {
    mark: String,
    heard: Vec<u8>,
}

/// Most that a login shell may write before the wrapper starts.
const MAX_NOISE_BYTES: usize = 64 * 1024;

impl Listener {
    pub(crate) fn new(mark: &str) -> Self {
        Self { mark: mark.to_owned(), heard: Vec::new() }
    }

    /// Takes more of the standard error in; says whether that is still bearable.
    pub(crate) fn hear(&mut self, bytes: &[u8]) -> bool {
        self.heard.extend_from_slice(bytes);
        self.heard.len() <= MAX_NOISE_BYTES
    }

    /// What is said; asked until it says nothing more. What was heard before a mark is kept as noise.
    pub(crate) fn next(&mut self) -> Said {
        let mark = self.mark.as_bytes();
        let Some(at) = self.heard.windows(mark.len()).position(|window| window == mark) else {
            return Said::Nothing;
        };
        let after = at + mark.len();
        match self.heard.get(after) {
            Some(b'?') => {
                self.heard.drain(at..=after);
                Said::WantsPassword
            }
            Some(b' ') => {
                let Some(length) = self.heard[after..].iter().position(|byte| *byte == b'\n') else {
                    return Said::Nothing;
                };
                let victim = String::from_utf8_lossy(&self.heard[after + 1..after + length]).into_owned();
                self.heard.drain(at..=after + length);
                let digits = victim.strip_prefix('-').unwrap_or(&victim);
                if digits.len() > 10 || digits.parse::<u32>().map_or(true, |id| id < 2) {
                    // Nobody may make us kill everything.
                    return Said::Started(String::new());
                }
                Said::Started(victim)
            }
            Some(_) => {
                self.heard.drain(..after);
                Said::Nothing
            }
            None => Said::Nothing,
        }
    }

    /// What was heard and not understood.
    pub(crate) fn noise(self) -> Vec<u8> {
        self.heard
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_wrapper_passes_through_every_shell() {
        assert!(!WRAPPER.contains(['\'', '\\', '\n']));
    }

    #[test]
    fn the_wrapper_is_found_among_noise() {
        let mut listener = Listener::new("mark");
        assert!(listener.hear(b"hello from .bashrc\nma"));
        assert_eq!(listener.next(), Said::Nothing);
        assert!(listener.hear(b"rk?"));
        assert_eq!(listener.next(), Said::WantsPassword);
        assert!(listener.hear(b"Sorry\nmark -4"));
        assert_eq!(listener.next(), Said::Nothing);
        assert!(listener.hear(b"711\nerror"));
        assert_eq!(listener.next(), Said::Started("-4711".into()));
        assert_eq!(listener.noise(), b"hello from .bashrc\nSorry\nerror");
    }

    #[test]
    fn a_host_cannot_name_a_victim_that_is_none() {
        for victim in ["-1", "1", "0", "-0", "; rm -rf /", "", "--5", "99999999999"] {
            let mut listener = Listener::new("mark");
            listener.hear(format!("mark {victim}\n").as_bytes());
            assert_eq!(listener.next(), Said::Started(String::new()), "{victim}");
        }
    }

    proptest! {
        #[test]
        fn any_noise_is_borne(pieces in proptest::collection::vec(drystone_hostile::damaged(["drystone-x -12\n", "drystone-x?"]), 0..8)) {
            let mut listener = Listener::new("drystone-x");
            for piece in pieces {
                listener.hear(&piece);
                while listener.next() != Said::Nothing {}
            }
        }
    }
}
