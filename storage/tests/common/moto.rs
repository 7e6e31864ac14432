//! A real S3 server for tests: moto in server mode, on a free port of this machine, ended when dropped.
//!
//! `ops/test` installs it. Where it is absent tests say SKIPPED, and fail in CI.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What must never be shown.
pub(crate) const SECRET: &str = "not-so-secret";

/// The bucket that there is.
pub(crate) const BUCKET: &str = "neap-test";

pub(crate) struct Moto {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Moto {
    /// Starts the server and makes [`BUCKET`]; `None` where there is none to start.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let Some(program) = program() else {
            let ci = std::env::var("CI").is_ok_and(|value| value == "true");
            assert!(!ci, "{test}: moto_server is missing; ops/test installs it");
            println!("SKIPPED {test}: moto_server is missing; ops/test installs it");
            return None;
        };
        let mut child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .env("PYTHONUNBUFFERED", "1")
            .env("PYTHONWARNINGS", "ignore")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let addr = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let addr = line.split_once("http://")?.1.trim();
            addr.parse::<SocketAddr>().ok()
        });
        let addr = addr.expect("the server says where it listens");
        // What it says afterwards, one line a request, must go somewhere.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        let moto = Self { child, addr };
        let answer = request(addr, &format!("PUT /{BUCKET} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Some(moto)
    }

    /// The environment with which a program reaches the server at `addr`, this one or a [`Gate`] to it.
    pub(crate) fn environment(addr: SocketAddr) -> [(String, String); 4] {
        [
            ("AWS_ENDPOINT_URL", format!("http://{addr}")),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first there is: named by a variable, installed by `ops/test`, on the path.
fn program() -> Option<PathBuf> {
    // The package is the workspace itself, or a folder in it.
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let installed = ["target/moto/bin/moto_server", "../target/moto/bin/moto_server"].map(|path| package.join(path));
    let on_path =
        std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let named = std::env::var_os("NEAP_MOTO_SERVER").map(PathBuf::from);
    named.into_iter().chain(installed).chain(on_path.map(|dir| dir.join("moto_server"))).find(|path| path.is_file())
}

fn request(addr: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// What a [`Gate`] does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Weather {
    /// Passes it on.
    Fair = 0,
    /// Answers 500 to whatever is asked.
    Error = 1,
    /// Takes it and never answers.
    Silent = 2,
    /// Passes some bytes on, then ends both sides.
    Cut = 3,
    /// The same with the bytes that come back.
    CutAnswer = 4,
}

/// A gate before the server: the faults that the server itself cannot be made to show.
pub(crate) struct Gate {
    pub(crate) addr: SocketAddr,
    weather: Arc<AtomicU8>,
}

/// How much of a connection is let through before it is cut: the head of a transfer and a part of its body.
const CUT_BYTES: usize = 100_000;

impl Gate {
    pub(crate) fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let weather = Arc::new(AtomicU8::new(Weather::Fair as u8));
        let now = weather.clone();
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming().map_while(Result::ok) {
                let now = now.load(Ordering::SeqCst);
                if now == Weather::Silent as u8 {
                    silent.push(stream);
                } else if now == Weather::Error as u8 {
                    std::thread::spawn(move || refuse(stream));
                } else {
                    let limit = |weather| if now == weather as u8 { CUT_BYTES } else { usize::MAX };
                    pass(stream, server, limit(Weather::Cut), limit(Weather::CutAnswer));
                }
            }
        });
        Self { addr, weather }
    }

    /// How it is from the next connection on.
    pub(crate) fn turn(&self, weather: Weather) {
        self.weather.store(weather as u8, Ordering::SeqCst);
    }
}

/// Reads the head of a request and refuses it, without waiting for its body.
fn refuse(mut stream: TcpStream) {
    let mut head = [0; 4096];
    let _ = stream.read(&mut head);
    let body = "<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>";
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
}

fn pass(client: TcpStream, server: SocketAddr, limit: usize, answer_limit: usize) {
    let server = TcpStream::connect(server).unwrap();
    let (to_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || copy(client, to_server, limit));
    std::thread::spawn(move || copy(server, to_client, answer_limit));
}

fn copy(mut from: TcpStream, mut to: TcpStream, limit: usize) {
    let (mut buffer, mut left) = (vec![0; 16 << 10], limit);
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if length > left || to.write_all(&buffer[..length]).is_err() {
            break;
        }
        left -= length;
    }
    let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
}
