//! The program in the containers of these tests. Standard library only: `rustc -C target-feature=+crt-static` builds it.
//!
//! - `main PORT`: writes a log, then answers on a TCP port: what comes in goes out in capitals; `stop` ends the program.
//! - `cat`: copies the input to the output until its end, says `done` on the error output, and exits with 3.
//! - `terminal`: says whether its output is a terminal.

use std::{
    env,
    io::{self, IsTerminal, Read, Write},
    net::TcpListener,
    process::exit,
};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["main", port] => serve(port),
        ["cat"] => {
            io::copy(&mut io::stdin(), &mut io::stdout())?;
            io::stdout().flush()?;
            eprintln!("done");
            exit(3)
        }
        ["terminal"] => {
            println!("terminal: {}", io::stdout().is_terminal());
            Ok(())
        }
        _ => {
            eprintln!("not understood: {words:?}");
            exit(2)
        }
    }
}

fn serve(port: &str) -> io::Result<()> {
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    for number in 1..=20 {
        println!("line {number}");
    }
    // Longer than what the runtime writes as one entry.
    println!("{}", "x".repeat(40_000));
    eprintln!("error line");
    println!("ready");
    for connection in listener.incoming() {
        let mut connection = connection?;
        let mut text = String::new();
        let mut byte = [0];
        while !text.ends_with('\n') && connection.read(&mut byte)? > 0 {
            text.push(char::from(byte[0]));
        }
        connection.write_all(text.to_uppercase().as_bytes())?;
        if text == "stop\n" {
            println!("bye");
            return Ok(());
        }
    }
    Ok(())
}
