//! Properties of reading logs.

use std::io::Cursor;

use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, PodSpec,
        PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use proptest::prelude::*;

use super::{entry::Stream, lines::Lines, options::Options, *};
use crate::pods::observed::{Exit, RunState};

/// Reads a whole file, in pieces.
fn read(file: &[u8], options: &Options, piece: usize) -> Vec<u8> {
    let start = match options.tail {
        Some(count) => tail::start(Cursor::new(file), count, options.stream).unwrap(),
        None => tail::Start { offset: 0, skip: 0 },
    };
    let mut lines = Lines::new(options, start.skip);
    let mut output = Vec::new();
    let rest = &file[usize::try_from(start.offset).unwrap()..];
    rest.chunks(piece.max(1)).for_each(|piece| lines.push(piece, &mut output));
    lines.finish(&mut output);
    output
}

const MIXED: &str = "2026-01-01T00:00:01Z stdout P one, \n2026-01-01T00:00:02Z stderr F error\n\
    2026-01-01T00:00:03Z stdout F two\nnot an entry\n2026-01-01T00:00:04Z stdout F three\n";

fn text(options: &Options) -> String {
    String::from_utf8(read(MIXED.as_bytes(), options, 7)).unwrap()
}

#[test]
fn split_lines_are_joined() {
    assert_eq!(text(&Options::default()), "error\none, two\nthree\n");
    let timestamps = Options { timestamps: true, ..Options::default() };
    let expected = "2026-01-01T00:00:02Z error\n2026-01-01T00:00:01Z one, two\n2026-01-01T00:00:04Z three\n";
    assert_eq!(text(&timestamps), expected);
    assert_eq!(text(&Options { tail: Some(2), ..Options::default() }), "one, two\nthree\n");
    assert_eq!(text(&Options { limit: Some(7), ..Options::default() }), "error\no");
    assert_eq!(text(&Options { stream: Some(Stream::Stderr), ..Options::default() }), "error\n");
    let since = Some("2026-01-01T00:00:02Z".parse().unwrap());
    assert_eq!(text(&Options { since, ..Options::default() }), "error\nthree\n");
}

#[test]
fn what_is_unfinished_comes_out_at_the_end() {
    let file =
        b"2026-01-01T00:00:01Z stdout F a\n2026-01-01T00:00:02Z stdout P b\n2026-01-01T00:00:02Z stdout P c";
    assert_eq!(read(file, &Options::default(), 3), b"a\nbc");
    assert_eq!(read(file, &Options { tail: Some(1), ..Options::default() }, 3), b"bc");
}

#[test]
fn a_line_without_end_does_not_fill_the_memory() {
    let mut lines = Lines::new(&Options { timestamps: true, ..Options::default() }, 0);
    let entry = format!("2026-01-01T00:00:01Z stdout P {}\n", "x".repeat(16 << 10));
    let mut output = Vec::new();
    (0..100).for_each(|_| lines.push(entry.as_bytes(), &mut output));
    assert!(output.len() > 1 << 20, "{}", output.len());
    lines.finish(&mut output);
    assert_eq!(output.len(), "2026-01-01T00:00:01Z ".len() + 100 * (16 << 10));
}

#[derive(Debug, Clone)]
struct Piece {
    stream: Stream,
    partial: bool,
    text: String,
    noise: bool,
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let text = prop_oneof![4 => "[a-z ]{0,12}".boxed(), 1 => Just("y".repeat(70_000)).boxed()];
    let piece = (any::<bool>(), prop::bool::weighted(0.3), text, prop::bool::weighted(0.1));
    let piece = piece.prop_map(|(out, partial, text, noise)| Piece {
        stream: if out { Stream::Stdout } else { Stream::Stderr },
        partial,
        text,
        noise,
    });
    prop::collection::vec(piece, 0..40)
}

/// A log whose lines all end, and the lines.
fn file(pieces: &[Piece]) -> (Vec<u8>, Vec<(Stream, String)>) {
    let mut file = String::new();
    let mut lines = Vec::new();
    let mut open = [const { String::new() }; 2];
    let ends = [Stream::Stdout, Stream::Stderr].map(|stream| Piece {
        stream,
        partial: false,
        text: "end".into(),
        noise: false,
    });
    for piece in pieces.iter().chain(&ends) {
        if piece.noise {
            file.push_str("noise\n\n");
        }
        let name = if piece.stream == Stream::Stdout { "stdout" } else { "stderr" };
        let tag = if piece.partial { "P" } else { "F" };
        file.push_str(&format!("2026-01-01T00:00:01.5Z {name} {tag} {}\n", piece.text));
        let line = &mut open[piece.stream.index()];
        line.push_str(&piece.text);
        if !piece.partial {
            lines.push((piece.stream, std::mem::take(line) + "\n"));
        }
    }
    (file.into_bytes(), lines)
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_survived(file in prop::collection::vec(any::<u8>(), 0..2000), count in 0u64..5) {
        read(&file, &Options::default(), 64);
        read(&file, &Options { tail: Some(count), ..Options::default() }, 64);
    }

    #[test]
    fn almost_entries_are_survived(
        file in "((2026-01-01T00:00:0[0-9]Z|x) ?(stdout|stderr|)? ?(P|F|P:F|) ?[a-c\n]{0,3}\n?){0,20}",
        count in 0u64..5,
    ) {
        let all = read(file.as_bytes(), &Options { timestamps: true, ..Options::default() }, 5);
        let last = read(file.as_bytes(), &Options { tail: Some(count), timestamps: true, ..Options::default() }, 5);
        prop_assert!(last.len() <= all.len());
    }

    #[test]
    fn the_tail_is_the_end_of_all(pieces in pieces(), count in 0usize..30, which in 0usize..3, limit in 1usize..200) {
        let stream = [None, Some(Stream::Stdout), Some(Stream::Stderr)][which];
        let (file, lines) = file(&pieces);
        let wanted: Vec<&str> = lines
            .iter()
            .filter(|(of, _)| stream.is_none_or(|stream| stream == *of))
            .map(|(_, text)| text.as_str())
            .collect();
        let all = wanted.concat();
        let last = wanted[wanted.len().saturating_sub(count)..].concat();
        let options = Options { stream, ..Options::default() };
        prop_assert_eq!(read(&file, &options, 1000), all.as_bytes());
        let options = Options { tail: Some(count as u64), ..options };
        prop_assert_eq!(read(&file, &options, 1000), last.as_bytes());
        let options = Options { limit: Some(limit as u64), ..options };
        prop_assert_eq!(read(&file, &options, 1000), &last.as_bytes()[..limit.min(last.len())]);
    }
}

fn run(id: &str, state: RunState) -> Run {
    Run {
        id: id.into(),
        name: "c".into(),
        attempt: 0,
        sandbox: "s".into(),
        state,
        image: String::new(),
        image_id: String::new(),
        created: Timestamp::UNIX_EPOCH,
        spec_hash: String::new(),
        log_path: format!("/{id}.log"),
    }
}

fn exited() -> RunState {
    RunState::Exited(Exit {
        code: 1,
        started: None,
        finished: None,
        reason: "Error".into(),
        message: String::new(),
    })
}

fn pod(state: ContainerState, last_state: Option<ContainerState>) -> Pod {
    let status =
        ContainerStatus { name: "c".into(), state: Some(state), last_state, ..ContainerStatus::default() };
    Pod {
        metadata: ObjectMeta { name: Some("p".into()), ..ObjectMeta::default() },
        spec: Some(PodSpec {
            containers: vec![Container { name: "c".into(), ..Container::default() }],
            ..PodSpec::default()
        }),
        status: Some(PodStatus { container_statuses: Some(vec![status]), ..PodStatus::default() }),
    }
}

#[test]
fn the_run_that_is_meant_is_chosen() {
    let waiting = ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some("ImagePullBackOff".into()), message: None }),
        ..ContainerState::default()
    };
    let terminated =
        ContainerStateTerminated { container_id: Some("containerd://b".into()), ..Default::default() };
    let last = ContainerState { terminated: Some(terminated), ..ContainerState::default() };
    let none = Observed::default();
    let two = Observed { sandboxes: Vec::new(), runs: vec![run("b", exited()), run("a", exited())] };
    let fresh = pod(waiting.clone(), None);
    let message = choose(&fresh, &none, "c", false).unwrap_err();
    assert_eq!(message, r#"container "c" in pod "p" is waiting to start: ImagePullBackOff"#);
    let message = choose(&fresh, &none, "c", true).unwrap_err();
    assert_eq!(message, r#"previous terminated container "c" in pod "p" not found"#);
    assert_eq!(choose(&fresh, &two, "c", false).unwrap().id, "b");
    assert_eq!(choose(&fresh, &two, "c", true).unwrap().id, "a");
    // Waiting to be started again: the newest run is the last one.
    assert_eq!(choose(&pod(waiting, Some(last)), &two, "c", true).unwrap().id, "b");
}
