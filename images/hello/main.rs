//! The workload of the demo and of tests: says which pod answers, where it runs and who asked. Standard library only, so that
//! `rustc -O -C target-feature=+crt-static` makes an image out of nothing but this program.
//!
//! - `hello [PORT]` serves HTTP (default 8080, or `$PORT`): `/` answers with one `KEY VALUE` per line, `/healthz` with `ok`.
//! - `hello pause` waits for ever: it holds a pod's namespaces.
//! - `hello sleep SECONDS`, `hello exit CODE`, `hello print TEXT…`, `hello cat FILE…`, `hello append FILE TEXT…`,
//!   `hello fetch HOST:PORT PATH` do what they say.
//!
//! It keeps no state and installs no signal handler: its image names SIGKILL as stop signal, and so it ends at once.

use std::{
    env,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::ExitCode,
    thread,
    time::Duration,
};

/// How long a client may take to ask.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest request line, in bytes.
const MAX_REQUEST: u64 = 8192;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["pause"] => pause(),
        ["sleep", seconds] => number(seconds).map(|seconds| thread::sleep(Duration::from_secs(seconds))),
        ["exit", code] => return number(code).map_or(ExitCode::FAILURE, |code: u8| ExitCode::from(code)),
        ["print", text @ ..] => print(&text.join(" ")),
        ["cat", files @ ..] => files.iter().try_for_each(|file| cat(file)),
        ["append", file, text @ ..] => append(file, &text.join(" ")),
        ["fetch", address, path] => fetch(address, path),
        [] => serve(&env::var("PORT").unwrap_or_else(|_| "8080".to_owned())),
        [port] => serve(port),
        _ => Err(format!("arguments not understood: {words:?}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("hello: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number in range"))
}

fn pause() -> ! {
    loop {
        thread::park();
    }
}

/// Adds a line, which is on the disk when this returns.
fn append(path: &str, text: &str) -> Result<(), String> {
    let write = || {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{text}")?;
        file.sync_all()
    };
    write().map_err(|error| format!("{path}: {error}"))
}

fn print(text: &str) -> Result<(), String> {
    println!("{text}");
    Ok(())
}

fn cat(file: &str) -> Result<(), String> {
    let contents = fs::read(file).map_err(|error| format!("{file}: {error}"))?;
    std::io::stdout().write_all(&contents).map_err(|error| error.to_string())
}

fn fetch(address: &str, path: &str) -> Result<(), String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| format!("{address}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    print!("{body}");
    if head.contains(" 200 ") { Ok(()) } else { Err(head.lines().next().unwrap_or_default().to_owned()) }
}

fn serve(port: &str) -> Result<(), String> {
    let port: u16 = number(port)?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(|error| format!("port {port}: {error}"))?;
    println!("serving on port {port}");
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            // A client that goes away has no one to tell.
            let _ = answer(stream);
        });
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let client = stream.peer_addr()?;
    let mut reader = BufReader::new(stream.try_clone()?.take(MAX_REQUEST));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    // The headers are of no interest, but a connection closed with unread data is reset.
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let path = request.split_whitespace().nth(1).unwrap_or("/");
    let (status, body) = match path.split('?').next().unwrap_or_default() {
        "/" => ("200 OK", describe(&client.ip().to_string(), &stream.local_addr()?.ip().to_string())),
        "/healthz" | "/readyz" => ("200 OK", "ok\n".to_owned()),
        _ => ("404 Not Found", "not found\n".to_owned()),
    };
    println!("{client} {} {status}", request.trim_end());
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Pod and node as the downward API tells them, else the host name.
fn describe(client: &str, address: &str) -> String {
    let variable = |names: &[&str]| names.iter().find_map(|name| env::var(name).ok());
    let host_name = || fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    let pod = variable(&["POD_NAME", "HOSTNAME"]).or_else(|| host_name().ok()).unwrap_or_default();
    let node = variable(&["NODE_NAME"]).unwrap_or_default();
    let greeting = variable(&["GREETING"]).unwrap_or_else(|| "hello".to_owned());
    format!("{greeting}\npod {pod}\nnode {node}\naddress {address}\nclient {client}\n")
}
