//! The loader for Node.

use crate::harness::{App, Failure, Launch, PATIENCE, Worker, interpreter, text};
use crate::session::{Answer, Session};
use nix::sys::signal::Signal;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

/// The loader's files, in the order of its README.md.
const FILES: [&str; 4] = ["node/contract.js", "node/explain.js", "node/listen.js", "node/main.js"];

fn node(test: &str) -> Option<PathBuf> {
    interpreter("HATCHERY_TEST_NODE", &["node", "nodejs"], test)
}

fn launch(program: PathBuf, app: &App, entry: &str) -> Launch {
    let bootstrap = String::from_utf8(text(&["node/bootstrap.js"])).unwrap();
    let arguments = ["-e", bootstrap.trim_end(), "node", entry].map(String::from).into();
    Launch { program, arguments, text: text(&FILES), environment: Vec::new(), root: app.root() }
}

/// A folder with this entry, and a worker of it.
fn serving(test: &str, entry: &str, content: &str) -> Option<(App, Worker)> {
    let app = App::new(&[(entry, content)]);
    let worker = launch(node(test)?, &app, entry).direct();
    Some((app, worker))
}

/// Asks over a new connection.
fn get(worker: &Worker, target: &str) -> Answer {
    let mut session = Session::new(worker);
    session.send(format!("GET {target} HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n").as_bytes());
    session.answer("GET")
}

fn failure_of(test: &str, files: &[(&str, &str)], entry: &str) -> Option<(App, Failure, String)> {
    let app = App::new(files);
    let mut worker = launch(node(test)?, &app, entry).direct();
    let failure = worker.channel.failure();
    assert_eq!(worker.process.wait(), 1);
    Some((app, failure, worker.process.error.whole()))
}

#[test]
fn the_first_server_listens_at_the_descriptor_whatever_it_asked_for() {
    let forms = [
        ("listen(3456, said)", "{\"address\":\"::\",\"family\":\"IPv6\",\"port\":3456}"),
        ("listen('3456', '127.0.0.1', said)", "{\"address\":\"127.0.0.1\",\"family\":\"IPv4\",\"port\":3456}"),
        ("listen(3456, 'localhost', 10, said)", "{\"address\":\"127.0.0.1\",\"family\":\"IPv4\",\"port\":3456}"),
        ("listen({ port: 3456, host: '::1' }, said)", "{\"address\":\"::1\",\"family\":\"IPv6\",\"port\":3456}"),
        (
            "listen({ port: '3456', host: 'all.example', exclusive: true }).on('listening', said)",
            "{\"address\":\"0.0.0.0\",\"family\":\"IPv4\",\"port\":3456}",
        ),
        ("listen(said)", "{\"address\":\"::\",\"family\":\"IPv6\",\"port\":0}"),
        ("listen('/run/somewhere.sock', said)", "\"/run/somewhere.sock\""),
        ("listen({ path: '/run/somewhere.sock' }, said)", "\"/run/somewhere.sock\""),
        ("listen({ fd: 3 }, said)", "{\"address\":\"::\",\"family\":\"IPv6\",\"port\":0}"),
    ];
    for (form, address) in forms {
        let content = format!(
            "const server = require('http').createServer((request, response) => response.end('at ' + request.url));
             function said() {{ console.log(JSON.stringify(server.address()), server.listening); }}
             server.{form};"
        );
        let Some((_app, worker)) = serving("listening", "server.js", &content) else { return };
        assert_eq!(get(&worker, "/x").text(), "at /x", "{form}");
        assert_eq!(worker.process.output.until("\n"), format!("{address} true\n"), "{form}");
        assert_eq!(worker.channel.receive(), None, "control is closed");
        assert!(!Path::new("/run/somewhere.sock").exists());
    }
    TcpStream::connect("127.0.0.1:3456").expect_err("nobody listens there");
}

#[test]
fn an_entry_is_the_main_module_be_it_common_js_or_an_es_module() {
    let seen = "JSON.stringify([process.argv, process.execArgv, typeof fs, typeof module, typeof require,
         typeof crypto.subtle])";
    let common = format!(
        "const main = require.main === module;
         require('http').createServer((_, response) => response.end([main, __filename, {seen}].join(' ')))
         .listen(1234)"
    );
    let module = format!(
        "import http from 'node:http';
         await new Promise((resolve) => setTimeout(resolve, 1));
         http.createServer((_, response) => response.end([import.meta.url, {seen}].join(' '))).listen(1234)"
    );
    let package = "{ \"type\": \"module\" }";
    let cases = [
        ("app.js", common.as_str(), None, "true ROOT/app.js", "object\",\"function"),
        ("app.cjs", common.as_str(), Some(package), "true ROOT/app.cjs", "object\",\"function"),
        ("app.mjs", module.as_str(), None, "file://ROOT/app.mjs", "undefined\",\"undefined"),
        ("app.js", module.as_str(), Some(package), "file://ROOT/app.js", "undefined\",\"undefined"),
    ];
    for (entry, content, package, start, types) in cases {
        let mut files = vec![(entry, content)];
        files.extend(package.map(|package| ("package.json", package)));
        let app = App::new(&files);
        let Some(program) = node("modules") else { return };
        let mut launch = launch(program.clone(), &app, entry);
        launch.arguments.insert(0, "--no-warnings".into());
        let worker = launch.direct();
        let root = app.root().display().to_string();
        let program = program.canonicalize().unwrap();
        let expected = format!(
            "{} [[\"{}\",\"{root}/{entry}\"],[\"--no-warnings\"],\"undefined\",\"{types}\",\"object\"]",
            start.replace("ROOT", &root),
            program.display()
        );
        assert_eq!(get(&worker, "/").text(), expected, "{}", worker.process.error.so_far());
    }
}

#[test]
fn an_entry_may_be_named_without_its_ending_or_by_its_folder() {
    let app = App::new(&[(
        "server/index.js",
        "require('net').createServer((socket) => socket.end('HTTP/1.1 204 No Content\\r\\n\\r\\n')).listen(8)",
    )]);
    let Some(program) = node("names of entries") else { return };
    for entry in ["server/index", "server", "./server/index.js"] {
        let worker = launch(program.clone(), &app, entry).direct();
        assert_eq!(get(&worker, "/").status, 204, "{entry}");
    }
}

#[test]
fn a_second_server_listens_where_it_wants_and_one_at_the_same_port_nowhere() {
    let content = "
        const http = require('http');
        const answer = (text) => (_, response) => response.end(text);
        const first = http.createServer(answer('first')).listen(3457, () => {
          const second = http.createServer(answer('second')).listen(0, '127.0.0.1', () => {
            const same = http.createServer(answer('same')).listen({ port: 3457, host: '::1' }, () => {
              console.log(second.address().port, same.address().port, same.address().address);
              same.close(() => console.log('closed'));
            });
          });
        });";
    let Some((_app, worker)) = serving("two servers", "server.js", content) else { return };
    let said = worker.process.output.until("closed\n");
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words[1..], ["3457", "::1", "closed"]);
    let mut second = TcpStream::connect(("127.0.0.1", words[0].parse::<u16>().unwrap())).unwrap();
    second.set_read_timeout(Some(PATIENCE)).unwrap();
    std::io::Write::write_all(&mut second, b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut second, &mut answer).unwrap();
    assert!(answer.ends_with("second"), "{answer}");
    assert_eq!(get(&worker, "/").text(), "first");
}

#[test]
fn a_server_that_was_closed_may_listen_anew() {
    let content = "
        const http = require('http');
        let number = 0;
        function serve() {
          const own = ++number;
          const server = http.createServer((request, response) => {
            response.setHeader('connection', 'close');
            response.end(`server ${own}`);
            if (request.url === '/again') server.close(() => { console.log('closed'); setTimeout(serve, 50); });
          });
          server.listen(80, () => console.log('listens', server.address().port));
        }
        serve();";
    let Some((_app, worker)) = serving("listening anew", "server.js", content) else { return };
    for number in 1..4 {
        assert_eq!(get(&worker, "/").text(), format!("server {number}"));
        assert_eq!(get(&worker, "/again").text(), format!("server {number}"));
        // Asked while nobody listens: it waits for the next.
        assert_eq!(get(&worker, "/").text(), format!("server {}", number + 1));
    }
    assert!(worker.process.output.so_far().starts_with("listens 80\nclosed\nlistens 80\nclosed\n"));
}

#[test]
fn a_process_without_a_server_any_more_ends() {
    let content = "
        const server = require('http').createServer((_, response) => {
          response.end('last', () => server.close());
        });
        server.listen(80);";
    let Some((_app, mut worker)) = serving("the last answer", "server.js", content) else { return };
    assert_eq!(get(&worker, "/").text(), "last");
    assert_eq!(worker.process.wait(), 0);
}

#[test]
fn listening_anew_too_late_is_a_clear_error() {
    let content = "
        const http = require('http');
        const server = http.createServer().listen(80, () => server.close(() => setTimeout(() => {
          http.createServer().on('error', (error) => { console.log(error.message); process.exit(3); }).listen(80);
        }, 1500)));";
    let Some((_app, mut worker)) = serving("too late", "server.js", content) else { return };
    assert_eq!(worker.process.wait(), 3);
    assert!(worker.process.output.whole().contains("listen anew sooner"));
}

const CLUSTER: &str = "
    const cluster = require('cluster');
    const http = require('http');
    POLICY
    if (cluster.isPrimary) {
      for (let n = 0; n < 2; n++) cluster.fork();
      cluster.on('exit', () => cluster.fork());
    } else {
      const server = http.createServer((request, response) => {
        response.setHeader('connection', 'close');
        response.end(String(process.pid));
        if (request.url === '/die') response.on('finish', () => process.exit());
      });
      server.listen(3458, () => console.log('child', JSON.stringify(server.address()), process.execArgv.length));
    }";

#[test]
fn a_cluster_listens_at_the_descriptor_in_turns_and_with_accepting_children() {
    for (policy, address) in [
        ("", "{\"address\":\"::\",\"family\":\"IPv6\",\"port\":3458}"),
        ("cluster.schedulingPolicy = cluster.SCHED_NONE;", "null"),
    ] {
        let content = CLUSTER.replace("POLICY", policy);
        let Some((_app, worker)) = serving("cluster", "server.js", &content) else { return };
        let said = worker.process.output.until(&format!("child {address} 0\nchild {address} 0\n"));
        assert_eq!(said.lines().count(), 2, "{said}");
        assert_eq!(worker.channel.receive(), None, "control is closed");
        let own = worker.process.pid.to_string();
        let first = get(&worker, "/die").text();
        assert_ne!(first, own);
        // A child that went is followed by another, which gets the socket as well.
        worker.process.output.until(&format!("child {address} 0\n").repeat(3));
        for _ in 0..4 {
            let pid = get(&worker, "/").text();
            assert!(pid != own && pid != first, "{policy}");
        }
        TcpStream::connect("127.0.0.1:3458").expect_err("nobody listens there");
    }
}

#[test]
fn a_word_for_a_process_manager_is_taken() {
    let content = "
        const server = require('http').createServer((_, response) => response.end('here'));
        server.listen(80, () => {
          process.send('ready', (error) => console.log('sent', error, process.connected));
        });";
    let Some((_app, worker)) = serving("process.send", "server.js", content) else { return };
    worker.process.output.until("sent null undefined\n");
    assert_eq!(get(&worker, "/").text(), "here");
}

#[test]
fn children_of_the_app_are_plain_and_get_none_of_the_loaders_descriptors() {
    let content = "
        const { fork, execFileSync } = require('child_process');
        const files = execFileSync('sh', ['-c', 'ls /proc/$$/fd']).toString().split('\\n').join(' ');
        const child = fork('./child.js');
        child.on('message', (said) => {
          require('http').createServer((_, response) => response.end(`${files}${said}`)).listen(80);
        });";
    let app = App::new(&[
        ("server.js", content),
        ("child.js", "process.send(process.argv.slice(1).join() + process.execArgv)"),
    ]);
    let Some(program) = node("children") else { return };
    let worker = launch(program, &app, "server.js").direct();
    assert_eq!(get(&worker, "/").text(), format!("0 1 2 {}", app.path("child.js").display()));
}

#[test]
fn a_worker_leaves_at_once_unless_the_app_has_an_end_of_its_own() {
    let plain = "require('http').createServer((_, response) => response.end('here')).listen(80);";
    let Some((_app, mut worker)) = serving("TERM", "server.js", plain) else { return };
    assert_eq!(get(&worker, "/").text(), "here");
    worker.process.signal(Signal::SIGTERM);
    assert_eq!(worker.process.wait(), -15);
    let own = "
        const server = require('http').createServer((_, response) => response.end('here')).listen(80);
        process.on('SIGTERM', () => server.close(() => { console.log('in order'); process.exit(0); }));";
    let Some((_app, mut worker)) = serving("TERM", "server.js", own) else { return };
    assert_eq!(get(&worker, "/").text(), "here");
    worker.process.signal(Signal::SIGTERM);
    assert_eq!((worker.process.wait(), worker.process.output.whole().as_str()), (0, "in order\n"));
}

#[test]
fn what_keeps_an_app_from_starting_is_told_in_a_sentence() {
    let said = |files: &[(&str, &str)], code: &str, problem: &[&str], remedy: &str| {
        let entry = files.first().map_or("server.js", |(name, _)| name);
        let Some((app, failure, error)) = failure_of("failures", files, entry) else { return };
        let root = app.root().display().to_string();
        assert_eq!(failure.code, code, "{failure:?} {error}");
        for part in problem {
            assert!(failure.problem.contains(&part.replace("ROOT", &root)), "{part}: {failure:?}");
        }
        assert!(failure.remedy.contains(&remedy.replace("ROOT", &root)), "{remedy}: {failure:?}");
        assert!(error.contains("hatchery: ") && !error.contains("hatchery-loader"), "{error}");
    };
    let syntax = ["ROOT/x.js has a syntax error in line 2"];
    said(&[("x.js", "1;\nfoo bar\n")], "syntax", &syntax, "mend that line");
    said(&[("y.js", "require('./x.js')"), ("x.js", "1;\nfoo bar\n")], "syntax", &syntax, "mend");
    let module = ["ROOT/x.mjs has a syntax error in line 2"];
    said(&[("x.mjs", "1;\nfoo bar\n")], "syntax", &module, "mend");
    said(&[("y.mjs", "import './x.mjs'"), ("x.mjs", "1;\nfoo bar\n")], "syntax", &module, "mend");
    said(&[("x.js", "JSON.parse('{')")], "exception", &["SyntaxError", "ROOT/x.js:1"], "stack");
    let package = ["the package @a/none is missing", "ROOT/x.js"];
    said(&[("x.js", "require('@a/none/b')")], "module", &package, "`npm install @a/none` in ROOT");
    let listed = ("package.json", "{ \"dependencies\": { \"none\": \"1\" } }");
    said(&[("x.js", "require('none')"), listed], "module", &["the package none is missing"], "`npm install` in ROOT");
    said(&[("x.mjs", "import 'none'"), listed], "module", &["the package none", "ROOT/x.mjs"], "`npm install` in ROOT");
    said(&[("x.js", "require('./y')")], "module", &["the file ./y is missing", "ROOT/x.js"], "add the file");
    said(&[("x.mjs", "import './y.js'")], "module", &["the file ROOT/y.js is missing"], "add the file");
    said(&[], "entry", &["there is no server.js in ROOT"], "hatchery.toml");
    said(&[("x.js", "\nthrow new TypeError('no luck')")], "exception", &["TypeError: no luck (ROOT/x.js:2)"], "stack");
    said(&[("x.js", "throw { odd: 1 }")], "exception", &["{ odd: 1 }"], "stack");
    said(&[("x.js", "Promise.reject(new Error('no luck'))")], "exception", &["no luck (ROOT/x.js:1)"], "stack");
    said(&[("x.mjs", "throw new Error('no luck')")], "exception", &["no luck (ROOT/x.mjs:1)"], "stack");
    said(&[("x.js", "process.exit(0)")], "exit", &["process.exit(0)"], "output");
    said(&[("x.js", "setTimeout(() => {}, 1)")], "exit", &["without a server that listens"], "listen");
    said(&[("x.mjs", "await new Promise(() => {})")], "exit", &["without a server that listens"], "listen");
    let handled = "process.on('uncaughtException', () => process.exit(7)); throw new Error('seen')";
    said(&[("x.js", handled)], "exception", &["seen"], "stack");
}

#[test]
fn an_app_that_looks_after_its_own_exceptions_serves() {
    let content = "
        process.on('uncaughtException', (error) => console.log('looked after', error.message));
        setTimeout(() => { throw new Error('early'); }, 1);
        setTimeout(() => require('http').createServer((_, response) => response.end('here')).listen(80), 20);";
    let Some((_app, worker)) = serving("exceptions", "server.js", content) else { return };
    assert_eq!(get(&worker, "/").text(), "here");
    worker.process.output.until("looked after early");
    assert_eq!(worker.channel.receive(), None, "nothing was said of a failure");
}
