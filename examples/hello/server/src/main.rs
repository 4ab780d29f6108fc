//! A page over HTTP, for trying a development session: serves the files of the folder it is started in.
//!
//! Every file is read when it is asked for, so that an edit shows at the next request. It listens on loopback only.

#![forbid(unsafe_code)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use std::{env, fs, thread};

/// The longest request head that is read, in bytes.
const MAX_HEAD_BYTES: u64 = 16 * 1024;
/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(10);
const DEFAULT_PORT: u16 = 8080;

fn main() -> io::Result<()> {
    let port = match port_variable() {
        None => DEFAULT_PORT,
        Some(text) => text.parse().map_err(|_| io::Error::other(format!("PORT is no port: {text}")))?,
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on port {port}: {error}")))?;
    say(&format!("listening on http://{}", listener.local_addr()?));
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || match serve(&stream) {
            Ok(line) => say(&line),
            Err(error) => say(&format!("request failed: {error}")),
        });
    }
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program of its own, which knows nothing of the command line's variables"
)]
fn port_variable() -> Option<String> {
    env::var("PORT").ok()
}

/// Writes a line to standard output; a reader that is gone is no reason to end.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Answers one request. Returns what is told about it.
fn serve(stream: &TcpStream) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.take(MAX_HEAD_BYTES));
    let mut request = String::new();
    reader.read_line(&mut request)?;
    // The rest of the head is read, so that closing does not reset the connection.
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        line.clear();
    }
    let answer = answer(&request, Path::new("."));
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n",
        answer.status,
        answer.content_type,
        answer.body.len()
    );
    let mut writer = stream;
    writer.write_all(head.as_bytes())?;
    if !answer.head_only {
        writer.write_all(&answer.body)?;
    }
    Ok(format!("{} {}", request.trim_end().escape_debug(), answer.status))
}

#[derive(Debug)]
struct Answer {
    status: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    head_only: bool,
}

impl Answer {
    fn text(status: &'static str) -> Self {
        Self {
            status,
            content_type: "text/plain",
            body: format!("{status}\n").into_bytes(),
            head_only: false,
        }
    }
}

/// Works out the answer to a request line from a folder's files.
fn answer(request: &str, folder: &Path) -> Answer {
    let mut words = request.split_ascii_whitespace();
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Answer::text("400 Bad Request");
    };
    if !version.starts_with("HTTP/1.") {
        return Answer::text("400 Bad Request");
    }
    if !matches!(method, "GET" | "HEAD") {
        return Answer::text("405 Method Not Allowed");
    }
    let Some(path) = file_of(target) else { return Answer::text("404 Not Found") };
    match fs::read(folder.join(&path)) {
        Ok(body) => {
            Answer { status: "200 OK", content_type: content_type(&path), body, head_only: method == "HEAD" }
        }
        Err(_) => Answer::text("404 Not Found"),
    }
}

/// Returns the file that a request's target names; `None` for what leads out of the folder or is hidden.
fn file_of(target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next()?.strip_prefix('/')?;
    let path = Path::new(if path.is_empty() { "index.html" } else { path });
    let plain = path.components().all(|part| {
        matches!(part, Component::Normal(name) if name.to_str().is_some_and(|name| !name.starts_with('.')))
    });
    plain.then(|| path.to_owned())
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => "text/plain; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_folder_are_named() {
        let check = |target: &str, expected: Option<&str>| {
            assert_eq!(file_of(target), expected.map(PathBuf::from), "{target}");
        };
        check("/", Some("index.html"));
        check("/?a=b", Some("index.html"));
        check("/css/site.css", Some("css/site.css"));
        check("/../secret", None);
        check("/a/../../secret", None);
        check("//etc/passwd", None);
        check("/.env", None);
        check("index.html", None);
    }

    #[test]
    fn requests_that_are_none_are_refused() {
        let check = |request: &str, expected: &str| {
            assert_eq!(answer(request, Path::new("/nonexistent")).status, expected, "{request:?}");
        };
        check("GET / HTTP/1.1\r\n", "404 Not Found");
        check("POST / HTTP/1.1\r\n", "405 Method Not Allowed");
        check("GET /\r\n", "400 Bad Request");
        check("GET / SPDY/3\r\n", "400 Bad Request");
        check("", "400 Bad Request");
    }
}
