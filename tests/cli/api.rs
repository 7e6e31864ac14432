//! Who the API lets in, asked with raw HTTP: nobody without the token, no web page, nothing too large.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Home, Plane};

/// Every route, with a method that it takes.
const ROUTES: [(&str, &str); 22] = [
    ("GET", "/api/v1/jobs"),
    ("POST", "/api/v1/jobs"),
    ("GET", "/api/v1/jobs/j1"),
    ("GET", "/api/v1/jobs/j1?after=0&wait_ms=10"),
    ("POST", "/api/v1/jobs/j1/stop"),
    ("GET", "/api/v1/jobs/j1/logs"),
    ("GET", "/api/v1/nodes"),
    ("POST", "/api/v1/nodes/n1/preempt"),
    ("GET", "/api/v1/explain/j1"),
    ("GET", "/api/v1/cost"),
    ("GET", "/api/v1/cost/parts?by=job"),
    ("GET", "/api/v1/forecast"),
    ("GET", "/api/v1/offers"),
    ("GET", "/api/v1/budgets"),
    ("GET", "/api/v1/budgets/organisation"),
    ("POST", "/api/v1/budgets/organisation"),
    ("GET", "/api/v1/artifacts/blake3:07"),
    ("PUT", "/api/v1/artifacts/blake3:07"),
    ("POST", "/api/v1/artifacts/blake3:07"),
    ("GET", "/api/v1/status"),
    ("POST", "/api/v1/shutdown"),
    ("GET", "/nothing/here"),
];

struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    #[track_caller]
    fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body));
        body["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends a request with these header lines, and reads the answer.
fn send(plane: &Plane, method: &str, path: &str, headers: &[String], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(&plane.http).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for header in headers {
        head.push_str(&format!("{header}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // A server that has refused the head need not read the body.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) =
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {method} {path}: {answer:?}"));
    Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), body: body.to_owned() }
}

fn host(plane: &Plane) -> String {
    format!("Host: {}", plane.http)
}

fn bearer(plane: &Plane) -> String {
    format!("Authorization: Bearer {}", plane.token)
}

const JSON: &str = "Content-Type: application/json";

#[test]
fn nobody_gets_in_without_the_token() {
    let home = Home::new();
    let plane = home.up();
    let half = &plane.token[..plane.token.len() - 1];
    let tokens = [
        None,
        Some("Authorization: Bearer x".to_owned()),
        Some(format!("Authorization: Bearer {half}")),
        Some("Authorization: Basic bmVhcA==".to_owned()),
    ];
    for (method, path) in ROUTES {
        for token in &tokens {
            let mut headers = vec![host(&plane), JSON.to_owned()];
            headers.extend(token.clone());
            let answer = send(&plane, method, path, &headers, b"{}");
            assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorised"), "{method} {path} {token:?}");
        }
    }
    let status = home.neap(&["status", "-o", "json"]).expect(0).json();
    assert_eq!(status["pid"].as_u64(), Some(plane.pid));
}

#[test]
fn health_and_version_need_no_token() {
    let home = Home::new();
    let plane = home.up();
    for path in ["/livez", "/readyz", "/healthz", "/version"] {
        assert_eq!(send(&plane, "GET", path, &[host(&plane)], b"").status, 200, "{path}");
    }
}

#[test]
fn a_wrong_token_is_exit_code_4() {
    let home = Home::new();
    home.up();
    let token = home.path().join("token");
    let right = std::fs::read_to_string(&token).unwrap();
    std::fs::write(&token, "neap_wrong").unwrap();
    home.neap(&["ps"]).expect(4);
    home.neap(&["down"]).expect(4);
    std::fs::write(&token, right).unwrap();
    home.neap(&["ps"]).expect(0);
}

#[test]
fn a_web_page_gets_nowhere_even_with_the_token() {
    let home = Home::new();
    let plane = home.up();
    let port = plane.http.rsplit_once(':').unwrap().1;
    for (method, path) in ROUTES {
        for foreign in ["evil.example".to_owned(), format!("evil.example:{port}"), "127.0.0.1:1".to_owned()] {
            let headers = [format!("Host: {foreign}"), bearer(&plane), JSON.to_owned()];
            let answer = send(&plane, method, path, &headers, b"{}");
            assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{method} {path} Host {foreign}");
        }
        for origin in ["http://evil.example", "null", &format!("http://localhost:{port}")] {
            let headers = [host(&plane), bearer(&plane), JSON.to_owned(), format!("Origin: {origin}")];
            let answer = send(&plane, method, path, &headers, b"{}");
            assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{method} {path} Origin {origin}");
        }
    }
    let answer = send(&plane, "GET", "/readyz", &["Host: evil.example".to_owned()], b"");
    assert_eq!(answer.status, 403);
}

#[test]
fn bodies_that_are_too_large_or_make_no_sense_are_refused() {
    let home = Home::new();
    let plane = home.up();
    let ok = [host(&plane), bearer(&plane), JSON.to_owned()];
    let submit = |headers: &[String], body: &[u8]| send(&plane, "POST", "/api/v1/jobs", headers, body);

    let answer = submit(&ok, &vec![b' '; (1 << 20) + 1]);
    assert_eq!((answer.status, answer.code().as_str()), (413, "too_large"));
    let answer = submit(&ok[..2], b"{}");
    assert_eq!((answer.status, answer.code().as_str()), (415, "not_json"));
    for body in
        ["", "{", "[]", "{}", "{\"source\": 1}", "{\"source\":\"\",\"base_dir\":\"/\",\"file_name\":\"a\",\"more\":1}"]
    {
        let answer = submit(&ok, body.as_bytes());
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"), "{body}");
    }
    let deep = format!("{{\"source\": {}", "[".repeat(100_000));
    assert_eq!(submit(&ok, deep.as_bytes()).status, 400);

    let long = serde_json::json!({ "source": "#".repeat(65 * 1024), "base_dir": "/", "file_name": "a" });
    let answer = submit(&ok, long.to_string().as_bytes());
    assert_eq!((answer.status, answer.code().as_str()), (422, "invalid_job"));
    assert!(answer.body.contains("E087"), "{}", answer.body);

    let answer = send(&plane, "DELETE", "/api/v1/jobs", &ok, b"");
    assert_eq!((answer.status, answer.code().as_str()), (405, "method_not_allowed"));
    let answer = send(&plane, "GET", "/api/v1/jobs?all=maybe", &ok, b"");
    assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"));
    let answer = send(&plane, "GET", "/api/v1/nothing", &ok, b"");
    assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
    for name in ["..%2F..%2Fetc%2Fpasswd", "%00", "j1%0d%0aX: y"] {
        let answer = send(&plane, "GET", &format!("/api/v1/jobs/{}", name.replace(' ', "%20")), &ok, b"");
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{name}");
    }
}

/// What is on disk of programs that were handed in.
fn artifacts(home: &Home) -> Vec<String> {
    let folder = std::fs::read_dir(home.path().join("artifacts")).unwrap();
    folder.map(|file| file.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_program_is_kept_only_if_it_is_what_it_was_said_to_be() {
    let home = Home::new();
    let plane = home.up();
    let ok = [host(&plane), bearer(&plane), JSON.to_owned()];
    let program = b"a program that is never run here";
    let digits = blake3::hash(program).to_hex();
    let path = format!("/api/v1/artifacts/blake3%3A{digits}");

    assert_eq!(send(&plane, "GET", &path, &ok, b"").status, 404);
    let answer = send(&plane, "PUT", "/api/v1/artifacts/..%2F..%2Ftoken", &ok, program);
    assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"));
    let answer = send(&plane, "PUT", &path, &ok, b"another program");
    assert_eq!((answer.status, answer.code().as_str()), (422, "bad_request"));
    assert!(answer.body.contains("send it again"), "{}", answer.body);
    let answer = send(&plane, "POST", &path, &ok, b"{\"neap\":\"0.1.0\",\"launch_version\":1,\"entries\":[]}");
    assert_eq!(answer.status, 404, "what is not there is not described");

    // Cut short: announced whole, sent half.
    let mut stream = TcpStream::connect(&plane.http).unwrap();
    let head = format!("PUT {path} HTTP/1.1\r\nContent-Length: {}\r\n{}\r\n{}\r\n\r\n", program.len(), ok[0], ok[1]);
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&program[..10]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    // The one that follows waits for nothing the first left.
    assert_eq!(send(&plane, "PUT", &path, &ok, program).status, 201);
    assert_eq!(send(&plane, "PUT", &path, &ok, program).status, 200, "it is there already");
    let answer = send(&plane, "POST", &path, &ok, b"{\"neap\":\"0.1.0\",\"launch_version\":1,\"entries\":[{}]}");
    assert_eq!((answer.status, answer.code().as_str()), (400, "bad_request"));
    let answer = send(&plane, "POST", &path, &ok, b"{\"neap\":\"0.1.0\",\"launch_version\":1,\"entries\":[]}");
    assert_eq!(answer.status, 200);
    let body: Value = serde_json::from_str(&send(&plane, "GET", &path, &ok, b"").body).unwrap();
    assert_eq!((body["bytes"].as_u64(), body["program"]["launch_version"].as_u64()), (Some(32), Some(1)));
    // The writer of the one that was cut short may take a moment to see it.
    let wanted = [digits.to_string(), format!("{digits}.json")];
    let started = std::time::Instant::now();
    while artifacts(&home).len() > wanted.len() && started.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut kept = artifacts(&home);
    kept.sort();
    assert_eq!(kept, wanted, "nothing half is left");
}
