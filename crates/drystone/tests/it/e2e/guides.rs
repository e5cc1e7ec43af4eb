//! The guides, run as they are written: every command of their `console` blocks in one shell, and what it prints compared with what
//! the guide shows. So a guide cannot say what is no longer true.
//!
//! In a guide, `$ ` begins a command and `> ` goes on with it; the rest is what it prints. `…` stands for anything, and alone on a line for
//! any lines. Times, ages, addresses of interfaces and names with digests differ from run to run and are not compared.
//! `$ cat FILE` of a file that is not there makes it.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use crate::stage::{Drystone, PATIENCE, has_helm, is_skipped, workspace};

/// Ends what a command has printed.
const END: &str = "-- end of command --";

/// A command and what it is said to print.
#[derive(Debug, Default)]
struct Example {
    line: usize,
    command: String,
    output: Vec<String>,
}

/// The commands of a guide, in order.
fn examples(text: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = line == "```console";
            continue;
        }
        if !inside {
            continue;
        }
        if let Some(command) = line.strip_prefix("$ ") {
            found.push(Example { line: number + 1, command: command.to_owned(), output: Vec::new() });
        } else if let Some(example) = found.last_mut() {
            match line.strip_prefix("> ") {
                Some(more) if example.output.is_empty() => {
                    let _ = write!(example.command, "\n{more}");
                }
                _ => example.output.push(line.to_owned()),
            }
        }
    }
    found
}

/// A line without what differs from run to run.
fn normalized(line: &str) -> String {
    let replacements = [
        (r"\d{4}-\d\d-\d\d(T| )\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
        (r"\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b", "MAC"),
        (r#""[0-9a-f]{16,}""#, "\"DIGEST\""),
        (r"-[0-9a-f]{8}\b", "-DIGEST"),
        (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
        (r"(^|\s)(\d+h)?(\d+m)?\d+m?s(\s|$)", "${1}AGE$4"),
        (r"\s+", " "),
    ];
    let mut text = line.trim_end().to_owned();
    for (pattern, by) in replacements {
        text = regex::Regex::new(pattern).unwrap().replace_all(&text, by).into_owned();
    }
    text
}

/// Whether a line is what the guide shows.
fn line_matches(shown: &str, printed: &str) -> bool {
    let parts: Vec<String> = normalized(shown).split('…').map(regex::escape).collect();
    regex::Regex::new(&format!("^{}$", parts.join(".*"))).unwrap().is_match(&normalized(printed))
}

/// Whether all lines are what the guide shows.
fn matches(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((first, rest)) if first.trim() == "…" => {
            (0..=printed.len()).any(|skipped| matches(rest, &printed[skipped..]))
        }
        Some((first, rest)) => printed
            .split_first()
            .is_some_and(|(line, others)| line_matches(first, line) && matches(rest, others)),
    }
}

/// Whether a command may be repeated until it shows what it should: it only looks.
fn only_looks(command: &str) -> bool {
    let changes = [
        "POST", "PATCH", "PUT", "DELETE", "apply", "delete", "create", "annotate", "scale", "patch",
        "site add",
    ];
    !changes.iter().any(|word| command.contains(word))
}

/// A shell that keeps its variables and functions from command to command.
struct Shell {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    directory: PathBuf,
}

impl Shell {
    fn start(directory: &Path) -> Self {
        let path = format!("{}/bin:{}", directory.display(), std::env::var("PATH").unwrap());
        let mut process = Command::new("bash")
            .args(["--noprofile", "--norc"])
            .current_dir(directory)
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = process.stdin.take().unwrap();
        writeln!(input, "exec 2>&1").unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Self { process, input, output, directory: directory.to_owned() }
    }

    fn run(&mut self, command: &str) -> Vec<String> {
        writeln!(self.input, "{command}\nprintf '%s\\n' '{END}'").unwrap();
        let mut text = String::new();
        while !text.ends_with(&format!("{END}\n")) {
            assert!(self.output.read_line(&mut text).unwrap() > 0, "the shell ended in: {command}");
        }
        let printed = text.trim_end_matches(&format!("{END}\n"));
        printed.lines().map(|line| line.trim_end_matches('\r').to_owned()).collect()
    }

    fn follow(&mut self, guide: &str, example: &Example) {
        if let Some(file) = example.command.strip_prefix("cat ").map(|name| self.directory.join(name.trim()))
            && !file.exists()
        {
            std::fs::write(file, example.output.join("\n") + "\n").unwrap();
        }
        let deadline = Instant::now() + PATIENCE / 5;
        loop {
            let printed = self.run(&example.command);
            if matches(&example.output, &printed) {
                println!("{guide}:{}: as shown", example.line);
                return;
            }
            assert!(
                only_looks(&example.command) && Instant::now() < deadline,
                "{guide}:{}: $ {}\nshown:\n{}\nprinted:\n{}",
                example.line,
                example.command,
                example.output.join("\n"),
                printed.join("\n")
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What `drystone up` is told in a guide beside what the stage tells it.
fn more_arguments(command: &str) -> Vec<String> {
    let words: Vec<&str> = command.split_whitespace().skip(2).collect();
    let own = ["--data", "--site", "--image-archive"];
    words.chunks(2).filter(|pair| !own.contains(&pair[0])).flatten().map(ToString::to_string).collect()
}

/// Follows a guide with a Drystone of its own on the example rack.
fn follow(guide: &str) {
    if is_skipped() {
        return;
    }
    let mut drystone = Drystone::new("netns", |site| site);
    let text = std::fs::read_to_string(workspace().join("docs").join(guide)).unwrap();
    let examples = examples(&drystone.adapted(&text));
    assert!(examples.len() > 20, "{guide} has only {} examples", examples.len());
    let ready = examples.iter().position(|example| example.command.starts_with("drystone up")).unwrap();
    drystone.arguments = more_arguments(&examples[ready].command);
    drystone.start();
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(workspace().join("examples"), directory.path().join("examples")).unwrap();
    let programs = directory.path().join("bin");
    std::fs::create_dir(&programs).unwrap();
    for name in ["drystone", "kubectl-destroy"] {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_drystone"), programs.join(name)).unwrap();
    }
    let mut shell = Shell::start(directory.path());
    // What comes before that, and itself, the stage has done.
    for example in &examples[ready + 1..] {
        shell.follow(guide, example);
    }
    drop(shell);
    drystone.stop();
    assert_eq!(drystone.namespaces(), [""; 0], "namespaces are left");
}

#[test]
fn the_guide_of_fabrics() {
    follow("fabric.md");
}

#[test]
fn the_guide_of_applications() {
    if has_helm() {
        follow("applications.md");
    }
}

#[test]
fn the_guide_of_getting_started() {
    follow("getting-started.md");
}

#[test]
fn what_differs_is_seen() {
    let shown = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(matches(&shown("a 12s\n…\nz"), &shown("a 3m1s\nb\nc\nz")));
    assert!(matches(&shown("{…,\"x\":1}"), &shown("{\"y\":2,\"x\":1}")));
    assert!(!matches(&shown("201"), &shown("400")));
    assert!(!matches(&shown("a\n…\nz"), &shown("a\nb")));
    assert!(!matches(&shown("a"), &shown("a\nb")));
    assert!(!matches(&[], &shown("surprise")));
    let found = examples("```console\n$ a \\\n> b\nc\n```\n$ not this\n```sh\n$ nor this\n```\n");
    assert_eq!((found.len(), found[0].command.as_str(), found[0].output.len()), (1, "a \\\nb", 1));
}
