//! PHP, and whatever else speaks FastCGI: through real php-cgi, and through a worker that answers oddly.

mod support;

use std::path::{Path, PathBuf};
use support::apps::{self, App, give, open_to_all};
use support::front::Front;
use support::http::{Answer, Browser};
use support::{has, until_blocking};

/// An application of these scripts, with its front controller.
fn php(files: &[(&str, &str)]) -> Option<App> {
    has("php-cgi", "PHP through FastCGI").then(|| {
        let app = apps::with_manifest("type = \"php\"\nentry = \"public/index.php\"\n");
        put(&app, "public/index.php", "<?php echo \"front $_SERVER[PATH_INFO]\";");
        for (name, content) in files {
            put(&app, name, content);
        }
        app
    })
}

fn put(app: &App, name: &str, content: &str) -> PathBuf {
    let path = app.root().join(name);
    let folder = path.parent().unwrap();
    if !folder.exists() {
        std::fs::create_dir_all(folder).unwrap();
        for folder in folder.ancestors().take_while(|folder| *folder != app.root()) {
            open_to_all(folder);
            give(folder, apps::NOBODY);
        }
    }
    app.write(name, content)
}

const SHOW: &str = r#"<?php
header('Content-Type: application/json');
echo json_encode($_SERVER + ['php://input' => file_get_contents('php://input')]);
"#;

fn shown(answer: Answer) -> serde_json::Value {
    serde_json::from_str(&answer.ok()).expect("what PHP was told")
}

#[test]
fn a_script_is_told_who_asks_for_what() {
    let Some(app) = php(&[("public/show.php", SHOW)]) else { return };
    let front = Front::serve(["--app", &format!("/shop={}", app.root().display())]);
    let mut browser = front.browser();
    browser.ask(
        "POST",
        "/shop/show.php/a%20b/c?x=1&y",
        "Cookie: a=b\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n",
    );
    browser.send("hello");
    let read = shown(browser.answer());
    let public = app.root().join("public");
    for (name, value) in [
        ("SCRIPT_FILENAME", public.join("show.php").to_str().unwrap()),
        ("DOCUMENT_ROOT", public.to_str().unwrap()),
        ("SCRIPT_NAME", "/shop/show.php"),
        ("PATH_INFO", "/a b/c"),
        ("REQUEST_URI", "/shop/show.php/a%20b/c?x=1&y"),
        ("QUERY_STRING", "x=1&y"),
        ("REQUEST_METHOD", "POST"),
        ("CONTENT_LENGTH", "5"),
        ("CONTENT_TYPE", "text/plain"),
        ("HTTP_COOKIE", "a=b"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("php://input", "hello"),
    ] {
        assert_eq!(read[name], value, "{name}: {read}");
    }
    assert!(front.end().success());
}

#[test]
fn addresses_lead_to_scripts_files_or_the_front_controller() {
    let files = [
        ("public/admin/index.php", "<?php echo \"admin $_SERVER[SCRIPT_NAME]\";"),
        ("public/css/style.css", "p{}"),
        ("public/a.jpg", "<?php echo 'executed';"),
        ("public/.env", "SECRET"),
        ("public/.git/config", "SECRET"),
        ("public/.well-known/token", "token"),
        (".env", "SECRET"),
        ("secret.php", "<?php echo 'SECRET';"),
    ];
    let Some(app) = php(&files) else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    let mut browser = front.browser();
    for (path, answer) in [
        ("/", "front "),
        ("/index.php", "front "),
        ("/foo/bar?x", "front /foo/bar"),
        ("/index.php/foo", "front /foo"),
        ("/admin/", "admin /admin/index.php"),
        ("/css/style.css", "p{}"),
        ("/.well-known/token", "token"),
        ("/a.jpg/x.php", "front /a.jpg/x.php"),
        ("/css/%2e%2e/css/style.css", "p{}"),
    ] {
        assert_eq!(browser.get(path).ok(), answer, "{path}");
    }
    let moved = browser.get("/admin?x=1");
    assert_eq!((moved.status, moved.header("location")), (301, "/admin/?x=1"));
    let picture = browser.get("/a.jpg");
    assert_eq!((picture.header("content-type"), picture.body.as_str()), ("image/jpeg", "<?php echo 'executed';"));
    for path in [
        "/.env",
        "/.git/config",
        "/%2eenv",
        "/..%2f..%2fetc/passwd",
        "/%2e%2e/secret.php",
        "/../secret.php",
        "/css/..%2f..%2f.env",
        "/a%00.php",
        "/..%2fsecret.php",
    ] {
        let answer = browser.get(path);
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(!answer.body.contains("SECRET"), "{path}");
    }
    assert!(front.end().success());
}

#[test]
fn nothing_outside_the_folder_is_reached_by_a_link() {
    let Some(app) = php(&[("secret.txt", "SECRET"), ("secret.php", "<?php echo 'SECRET';")]) else { return };
    for name in ["secret.txt", "secret.php"] {
        std::os::unix::fs::symlink(app.root().join(name), app.root().join("public").join(name)).unwrap();
    }
    let front = Front::of(app.root(), &[]);
    assert_eq!(front.get("/secret.txt").ok(), "front /secret.txt");
    assert_eq!(front.get("/secret.php").ok(), "front /secret.php");
    assert!(front.end().success());
}

#[test]
fn files_are_sent_as_browsers_ask_for_them() {
    let text = "0123456789".repeat(30_000);
    let Some(app) = php(&[("public/long.txt", &text), ("public/empty.js", "")]) else { return };
    let front = Front::of(app.root(), &[]);
    let mut browser = front.browser();
    let answer = browser.get("/long.txt");
    let (tag, date) = (answer.header("etag").to_owned(), answer.header("last-modified").to_owned());
    assert_eq!(answer.header("content-type"), "text/plain");
    assert_eq!(answer.ok(), text);
    let head = browser.head("/long.txt");
    assert_eq!((head.status, head.header("content-length")), (200, "300000"));
    let mut asked = |headers: &str| {
        browser.ask("GET", "/long.txt", headers);
        browser.answer()
    };
    for known in [format!("If-None-Match: \"x\", {tag}\r\n"), format!("If-Modified-Since: {date}\r\n")] {
        let answer = asked(&known);
        assert_eq!((answer.status, answer.body.as_str()), (304, ""), "{known}");
    }
    assert_eq!(asked(&format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}\r\n")).status, 200);
    for (range, wanted, body) in [
        ("bytes=3-5", "bytes 3-5/300000", "345"),
        ("bytes=-2", "bytes 299998-299999/300000", "89"),
        ("bytes=299999-400000", "bytes 299999-299999/300000", "9"),
    ] {
        let answer = asked(&format!("Range: {range}\r\n"));
        assert_eq!((answer.status, answer.header("content-range"), answer.body.as_str()), (206, wanted, body));
    }
    let answer = asked("Range: bytes=300000-\r\n");
    assert_eq!((answer.status, answer.header("content-range")), (416, "bytes */300000"));
    assert_eq!(asked("Range: bytes=0-1,4-5\r\n").body.len(), 300_000);
    assert_eq!(asked(&format!("Range: bytes=0-1\r\nIf-Range: {tag}\r\n")).body, "01");
    assert_eq!(asked("Range: bytes=0-1\r\nIf-Range: \"other\"\r\n").body.len(), 300_000);
    let refused = browser.post("/long.txt", "x");
    assert_eq!((refused.status, refused.header("allow")), (405, "GET, HEAD"));
    assert_eq!(browser.get("/empty.js").ok(), "");
    assert!(front.end().success());
}

const UPLOAD: &str = r#"<?php
$body = file_get_contents('php://input');
echo strlen($body), ' ', md5($body), ' ', $_SERVER['CONTENT_LENGTH'] ?? 'none';
"#;

fn chunks(browser: &mut Browser, path: &str, body: &[u8]) -> Answer {
    browser.ask("POST", path, "Transfer-Encoding: chunked\r\n");
    for piece in body.chunks(60_000) {
        browser.send(format!("{:x}\r\n", piece.len()));
        browser.send(piece);
        browser.send("\r\n");
    }
    browser.send("0\r\n\r\n");
    browser.answer()
}

#[test]
fn uploads_arrive_whole_with_a_length_and_in_chunks() {
    let Some(app) = php(&[("public/upload.php", UPLOAD)]) else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    let mut browser = front.browser();
    for length in [0, 5, 65_528, 65_537, 10_000_000] {
        let body = "abcdefghijk".repeat(length / 11 + 1)[..length].to_owned();
        let said = browser.post("/upload.php", &body).ok();
        assert!(said.starts_with(&format!("{length} ")) && said.ends_with(&format!(" {length}")), "{said}");
        let chunked = chunks(&mut browser, "/upload.php", body.as_bytes()).ok();
        assert_eq!(chunked.replace("none", "0"), said);
    }
    assert!(front.end().success());
}

const ANSWERS: &str = r#"<?php
switch ($_GET['do']) {
    case 'status': header('Status: 418 Teapot'); echo 'short and stout'; break;
    case 'away': header('Location: /elsewhere'); break;
    case 'created': header('Location: /made', true, 201); break;
    case 'none': http_response_code(204); break;
    case 'length': header('Content-Length: 5'); echo 'hello'; break;
    case 'stderr': file_put_contents('php://stderr', "first\nsecond \x1b[31m\n"); echo 'said'; break;
    case 'pid': echo getmypid(); break;
    case 'long': echo str_repeat('x', 3000000); break;
    case 'slow': echo 'begun'; ob_flush(); flush(); while (!file_exists($_GET['until'])) { usleep(5000); clearstatcache(); } echo ' done'; break;
    case 'cookies': header('Set-Cookie: a=1'); header('Set-Cookie: b=2', false); echo 'eaten'; break;
    case 'fatal': undefined_function(); break;
}
"#;

#[test]
fn answers_of_all_kinds_come_through_over_one_kept_connection() {
    let Some(app) = php(&[("public/do.php", ANSWERS)]) else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    let mut browser = front.browser();
    let pid = browser.get("/do.php?do=pid").ok();
    for _ in 0..20 {
        let status = browser.get("/do.php?do=status");
        assert_eq!((status.status, status.body.as_str()), (418, "short and stout"));
        let away = browser.get("/do.php?do=away");
        assert_eq!((away.status, away.header("location")), (302, "/elsewhere"));
        assert_eq!(browser.get("/do.php?do=created").status, 201);
        assert_eq!(browser.get("/do.php?do=none").status, 204);
        let length = browser.get("/do.php?do=length");
        assert_eq!((length.header("content-length"), length.body.as_str()), ("5", "hello"));
        let head = browser.head("/do.php?do=length");
        assert_eq!((head.status, head.header("content-length")), (200, "5"));
        assert_eq!(browser.head("/do.php?do=long").status, 200);
        assert_eq!(browser.get("/do.php?do=long").ok().len(), 3_000_000);
        assert_eq!(browser.get("/do.php?do=pid").ok(), pid);
    }
    let log = front.log();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
    assert!(front.end().success());
}

#[test]
fn what_a_script_says_on_standard_error_is_in_the_log_and_a_fatal_error_is_an_answer() {
    let Some(app) = php(&[("public/do.php", ANSWERS)]) else { return };
    let front = Front::of(app.root(), &[]);
    assert_eq!(front.get("/do.php?do=stderr").ok(), "said");
    until_blocking("it is logged", || front.log().contains("first").then_some(()));
    assert!(!front.log().contains("\u{1b}[31m"), "{}", front.log());
    assert_eq!(front.get("/do.php?do=fatal").status, 500);
    until_blocking("it is logged", || front.log().contains("undefined_function").then_some(()));
    assert!(front.end().success());
}

#[test]
fn an_answer_flows_while_it_is_made_and_one_that_nobody_waits_for_frees_its_worker() {
    let Some(app) = php(&[("public/do.php", ANSWERS)]) else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    let until = put(&app, "later", "");
    std::fs::remove_file(&until).unwrap();
    let slow = format!("/do.php?do=slow&until={}", until.display());
    let mut browser = front.browser();
    browser.ask("GET", &slow, "");
    assert_eq!(browser.answer_head().status, 200);
    assert_eq!(browser.chunk().as_deref(), Some("begun"));
    put(&app, "later", "");
    assert_eq!(browser.chunk().as_deref(), Some(" done"));
    assert_eq!(browser.chunk(), None);

    std::fs::remove_file(&until).unwrap();
    browser.ask("GET", &slow, "");
    assert_eq!(browser.answer_head().status, 200);
    drop(browser);
    put(&app, "later", "");
    assert_eq!(front.get("/do.php?do=length").ok(), "hello");
    assert!(front.end().success());
}

/// Speaks FastCGI by hand, and not always well.
const ODD: &str = r#"
import os, signal, socket, struct, sys

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
connections = 0

def record(kind, content=b"", request=1):
    return struct.pack(">BBHHBB", 1, kind, request, len(content), 3, 0) + content + b"pad"

def end(status=0, verdict=0):
    return record(3, struct.pack(">IB3x", status, verdict))

def read(stream):
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError
    _, kind, _, length, padding, _ = struct.unpack(">BBHHBB", head)
    content = stream.read(length)
    stream.read(padding)
    return kind, content

def length(data):
    if data[0] < 128:
        return data[0], data[1:]
    return struct.unpack(">I", data[:4])[0] & 0x7FFFFFFF, data[4:]

def serve(wire):
    stream = wire.makefile("rb")
    while True:
        params, body = b"", b""
        while True:
            kind, content = read(stream)
            if kind == 9:
                wire.sendall(record(10, b"", 0))
            elif kind == 4:
                params += content
                if not content and b"/answer-first" in params:
                    wire.sendall(record(6, b"Content-Type: text/plain\r\n\r\n" + b"x" * 50000) + end())
            elif kind == 5:
                body += content
                if not content:
                    break
        env = {}
        while params:
            name, params = length(params)
            value, params = length(params)
            env[params[:name].decode()] = params[name:name + value].decode()
            params = params[name + value:]
        path = env["PATH_INFO"]
        if path == "/answer-first":
            continue
        plain = record(6, b"Content-Type: text/plain\r\n\r\n")
        if path == "/env":
            text = "".join(f"{name}={value}\n" for name, value in sorted(env.items()))
            text = text.encode()
            pieces = [text[at:at + 9999] for at in range(0, len(text), 9999)]
            wire.sendall(plain + b"".join(record(6, piece) for piece in pieces) + record(6) + end())
        elif path == "/connections":
            wire.sendall(plain + record(6, str(connections).encode()) + end())
        elif path == "/silent":
            wire.sendall(record(7, b"it went wrong\n") + end(7))
        elif path == "/no-head":
            wire.sendall(record(6, b"just text") + end())
        elif path == "/nonsense":
            wire.sendall(record(6, b"just text\r\n\r\nmore") + end())
        elif path == "/http":
            wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        elif path == "/half-record":
            wire.sendall((plain + record(6, b"x" * 1000))[:200])
            os._exit(1)
        elif path == "/die":
            os._exit(1)
        elif path == "/early":
            wire.sendall(record(6, b"Content-Length: 100\r\n\r\nfew") + end())
        elif path == "/later":
            # The end comes after an answer that is complete already.
            wire.sendall(record(6, b"Content-Length: 4\r\n\r\ndone"))
            wire.sendall(record(6, b"and more that nobody asked for"))
            wire.sendall(end())
        elif path == "/overloaded-once":
            first = not os.path.exists(env["QUERY_STRING"])
            open(env["QUERY_STRING"], "a").write("x")
            wire.sendall(end(0, 2) if first else plain + record(6, body or b"taken") + end())
        elif path == "/overloaded":
            wire.sendall(end(0, 2))
        elif path == "/empty":
            wire.sendall(record(6, b"Status: 204\r\n\r\nignored") + end())
        elif path == "/status":
            wire.sendall(plain + record(6, b"failed") + end(3))
        else:
            wire.sendall(record(6, b"Status: 404\r\n\r\n") + end())

listener = socket.socket(fileno=0)
while True:
    wire, _ = listener.accept()
    connections += 1
    with wire:
        try:
            serve(wire)
        except (OSError, EOFError):
            pass
"#;

fn odd() -> Option<App> {
    has("python3", "a FastCGI worker that answers oddly").then(|| {
        let app = apps::with_manifest("command = [\"python3\", \"worker.py\"]\nprotocol = \"fastcgi\"\n");
        app.write("worker.py", ODD);
        app
    })
}

fn log_has(front: &Front, text: &str) {
    until_blocking(text, || front.log().contains(text).then_some(()));
}

#[test]
fn a_program_without_files_gets_the_whole_address() {
    let Some(app) = odd() else { return };
    let front = Front::serve(["--app", &format!("/p={}", app.root().display())]);
    let mut browser = front.browser();
    browser.ask("GET", "/p/env?x", "Connection: upgrade\r\nUpgrade: websocket\r\n");
    let env = browser.answer().ok();
    let has = |line: &str| env.lines().any(|own| own == line);
    assert!(has("SCRIPT_NAME=/p") && has("PATH_INFO=/env") && has("QUERY_STRING=x"), "{env}");
    assert!(
        !env.contains("SCRIPT_FILENAME") && !env.contains("HTTP_UPGRADE") && !env.contains("CONTENT_LENGTH"),
        "{env}"
    );
    let long = "x".repeat(70_000);
    browser.ask("GET", "/p/env", &format!("X-Long: {long}\r\nX-Short: 1\r\n"));
    let env = browser.answer().ok();
    assert!(env.lines().any(|line| line == format!("HTTP_X_LONG={long}")));
    assert!(env.lines().any(|line| line == "HTTP_X_SHORT=1"));
    assert!(front.end().success());
}

#[test]
fn what_is_no_answer_is_a_page_and_a_line_that_says_why() {
    let Some(app) = odd() else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    for (path, status, why) in [
        ("/silent", 502, "ended with status 7 and wrote nothing"),
        ("/silent", 502, "it went wrong"),
        ("/no-head", 502, "it ended before its head did"),
        ("/nonsense", 502, "just text"),
        ("/http", 502, "does not speak FastCGI"),
        ("/overloaded", 503, "it is overloaded"),
        ("/die", 502, "no answer from a worker"),
    ] {
        let answer = front.get(path);
        assert_eq!(answer.status, status, "{path}: {answer:?}");
        log_has(&front, why);
    }
    assert_eq!(front.get("/status").ok(), "failed");
    log_has(&front, "ended with status 3");
    assert!(front.end().success());
}

#[test]
fn answers_that_break_off_are_seen_to() {
    let Some(app) = odd() else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    // Where the end is seen with the beginning, nothing at all may be left to be sent.
    for (path, beginning) in [("/early", "content-length: 100"), ("/half-record", "transfer-encoding: chunked")] {
        let mut browser = front.browser();
        browser.ask("GET", path, "");
        let rest = browser.rest();
        assert!(rest.is_empty() || rest.contains(beginning) && !rest.ends_with("0\r\n\r\n"), "{path}: {rest}");
    }
    log_has(&front, "97 bytes shorter than its Content-Length");
    log_has(&front, "in the middle of a request");
    assert_eq!(front.get("/connections").status, 200);
    assert!(front.end().success());
}

#[test]
fn a_connection_is_kept_once_the_worker_says_that_a_request_is_over() {
    let Some(app) = odd() else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    let mut browser = front.browser();
    let first = browser.get("/connections").ok();
    for _ in 0..30 {
        assert_eq!(browser.get("/later").ok(), "done");
        assert_eq!(browser.get("/empty").status, 204);
        assert_eq!(browser.get("/connections").ok(), first);
    }
    assert!(front.end().success());
}

#[test]
fn an_answer_that_comes_before_its_request_is_read_is_passed_on() {
    let Some(app) = odd() else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    let body = "y".repeat(5_000_000);
    for _ in 0..3 {
        let mut browser = front.browser();
        browser.ask("POST", "/answer-first", &format!("Content-Length: {}\r\n", body.len()));
        assert_eq!(browser.answer().ok().len(), 50_000);
    }
    assert_eq!(front.get("/connections").status, 200);
    assert!(front.end().success());
}

#[test]
fn files_wait_for_no_worker() {
    let Some(app) = php(&[("public/do.php", ANSWERS), ("public/a.txt", "text")]) else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    let until = app.root().join("later");
    let mut browser = front.browser();
    browser.ask("GET", &format!("/do.php?do=slow&until={}", until.display()), "");
    assert_eq!(browser.answer_head().status, 200);
    assert_eq!(front.get("/a.txt").ok(), "text");
    put(&app, "later", "");
    while browser.chunk().is_some() {}
    assert!(front.end().success());
}

#[test]
fn who_takes_no_request_is_asked_again_even_for_what_may_not_be_repeated() {
    let Some(app) = odd() else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    let file = app.root().join("asked");
    let said = front.browser().post(&format!("/overloaded-once?{}", file.display()), "once");
    assert_eq!(said.ok(), "once");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "xx");
    assert!(front.end().success());
}

#[test]
fn a_folder_that_the_web_server_may_not_enter_is_served_by_what_names_tell() {
    let Some(app) = php(&[("public/tool.php", "<?php echo \"tool $_SERVER[PATH_INFO]\";"), ("public/a.txt", "text")])
    else {
        return;
    };
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED a folder that the web server may not enter: only root has a web server of another user");
        return;
    }
    let only_owner = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(Path::new(&app.root().join("public")), only_owner).unwrap();
    let front = Front::of(app.root(), &[]);
    assert_eq!(front.get("/tool.php/x").ok(), "tool /x");
    assert_eq!(front.get("/a/b").ok(), "front /a/b");
    assert_eq!(front.get("/a.txt").ok(), "front /a.txt");
    assert!(front.end().success());
}
