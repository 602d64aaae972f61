//! The loader for Ruby: Rack applications.

mod answers;
mod preloading;

use crate::harness::{App, Failure, Launch, Worker, interpreter, text};
use crate::session::{Session, block, request};
use nix::sys::signal::Signal;
use std::path::PathBuf;

/// The loader's files, in the order of its README.md.
const FILES: [&str; 8] = [
    "ruby/contract.rb",
    "ruby/load.rb",
    "ruby/request.rb",
    "ruby/answer.rb",
    "ruby/exchange.rb",
    "ruby/server.rb",
    "ruby/preloader.rb",
    "ruby/main.rb",
];

fn ruby(test: &str) -> Option<PathBuf> {
    interpreter("HATCHERY_TEST_RUBY", &["ruby"], test)
}

fn launch(program: PathBuf, app: &App, options: &[&str]) -> Launch {
    let mut arguments: Vec<String> = ["/proc/self/fd/4", "rack", "config.ru"].map(String::from).into();
    arguments.extend(options.iter().map(ToString::to_string));
    if options.is_empty() {
        arguments.push("--threads=1".into());
    }
    Launch { program, arguments, text: text(&FILES), environment: Vec::new(), root: app.root() }
}

/// A folder with this config.ru, and a worker of it.
fn serving(test: &str, config: &str) -> Option<(App, Worker)> {
    let app = App::new(&[("config.ru", config)]);
    let worker = launch(ruby(test)?, &app, &[]).direct();
    Some((app, worker))
}

fn failure_of(test: &str, files: &[(&str, &str)]) -> Option<(App, Failure, String)> {
    let app = App::new(files);
    let mut worker = launch(ruby(test)?, &app, &[]).direct();
    let failure = worker.channel.failure();
    assert_eq!(worker.process.wait(), 1);
    Some((app, failure, worker.process.error.whole()))
}

#[test]
fn a_rack_app_answers_one_request_after_another_on_one_connection() {
    let Some((_app, worker)) = serving(
        "rack",
        "run ->(env) { [200, { 'Content-Type' => 'text/plain' }, [env['PATH_INFO'], '?', env['QUERY_STRING']]] }",
    ) else {
        return;
    };
    let mut session = Session::new(&worker);
    for number in 0..3 {
        let answer = session.get(&format!("/a%20b?n={number}"));
        assert_eq!((answer.status, answer.reason.as_str()), (200, "OK"));
        assert_eq!(answer.text(), format!("/a%20b?n={number}"));
        assert_eq!(answer.header("content-length"), Some("10"));
        assert_eq!(answer.header("connection"), None);
    }
}

#[test]
fn rack_lint_finds_nothing() {
    let config = "
        use Rack::Lint
        use Rack::ContentType, 'text/plain'
        run(lambda do |env|
          body = env['rack.input'].read
          env['rack.input'].rewind
          again = env['rack.input'].gets
          env['rack.errors'].puts 'seen'
          [200, {}, [body.to_s, again.to_s]]
        end)";
    let Some((_app, worker)) = serving("Rack::Lint", config) else { return };
    let mut session = Session::new(&worker);
    let answer = session.get("/");
    assert_eq!((answer.status, answer.text().as_str()), (200, ""), "{}", worker.process.error.so_far());
    let answer = session.post("/x?y=%20", b"one\ntwo\n");
    assert_eq!((answer.status, answer.text().as_str()), (200, "one\ntwo\none\n"));
    let chunked = [("HTTP_TRANSFER_ENCODING", "chunked"), ("HTTPS", "on"), ("HTTP_COOKIE", "a=\u{e4}")];
    session.send(&request("POST", "/", &chunked));
    session.send(b"3;x=y\r\na\nb\r\n2\r\nc\n\r\n0\r\nTrailer: 1\r\n\r\n");
    assert_eq!(session.answer("POST").text(), "a\nbc\na\n");
    assert_eq!(session.get("/").status, 200);
}

#[test]
fn a_sinatra_app_runs_unmodified() {
    let Some(program) = ruby("sinatra") else { return };
    let there = std::process::Command::new(&program).args(["-e", "require 'sinatra/base'"]).output().unwrap();
    if !there.status.success() {
        assert!(std::env::var_os("HATCHERY_CI").is_none(), "sinatra is missing, and CI demands its test");
        eprintln!("SKIPPED a_sinatra_app_runs_unmodified: sinatra is not installed");
        return;
    }
    let shop = "
        require 'sinatra'
        get('/hello/:name') { \"Hello #{params['name']}!\" }
        post('/form') { params['a'].to_s * 2 }";
    let app = App::new(&[("config.ru", "require './shop'\nrun Sinatra::Application"), ("shop.rb", shop)]);
    let mut worker = launch(program, &app, &[]).direct();
    let mut session = Session::new(&worker);
    assert_eq!(session.get("/hello/W%C3%B6rld").text(), "Hello Wörld!");
    assert_eq!(session.get("/none").status, 404);
    let form = [("CONTENT_LENGTH", "4"), ("CONTENT_TYPE", "application/x-www-form-urlencoded")];
    session.send(&request("POST", "/form", &form));
    session.send(b"a=xy");
    assert_eq!(session.answer("POST").text(), "xyxy");
    // Sinatra must not begin a server of its own at its end.
    worker.process.signal(Signal::SIGTERM);
    assert_eq!(worker.process.wait(), 0, "{}", worker.process.error.so_far());
}

#[test]
fn the_pools_question_never_reaches_the_app() {
    let Some((_app, worker)) = serving("question", "run ->(_env) { raise 'asked' }") else { return };
    let mut session = Session::new(&worker);
    session.send(b"0:,");
    let answer = session.answer("GET");
    assert_eq!((answer.status, answer.header("connection")), (204, Some("close")));
    assert!(session.is_closed());
    assert_eq!(Session::new(&worker).get("/").status, 500);
}

#[test]
fn a_block_may_come_in_any_pieces() {
    let Some((_app, worker)) = serving("pieces", "run ->(env) { [200, {}, [env['rack.input'].read]] }") else {
        return;
    };
    let mut session = Session::new(&worker);
    let mut bytes = request("POST", "/", &[("CONTENT_LENGTH", "3")]);
    bytes.extend(b"abc");
    for byte in &bytes {
        session.send(&[*byte]);
    }
    assert_eq!(session.answer("POST").text(), "abc");
    let twice = [request("GET", "/1", &[]), request("GET", "/2", &[])].concat();
    session.send(&twice);
    assert_eq!((session.answer("GET").status, session.answer("GET").status), (200, 200));
}

#[test]
fn what_is_no_request_is_answered_with_400_and_too_much_as_well() {
    let Some((_app, worker)) = serving("bad requests", "run ->(_env) { [200, {}, []] }") else { return };
    let bad: [&[u8]; 6] = [b"GET / HTTP/1.1\r\n\r\n", b"1048577:", b"3:abc;", b"4:a\0b\0x", b"3:a\0b,", b"99999999:"];
    for bytes in bad {
        let mut session = Session::new(&worker);
        session.send(bytes);
        assert_eq!(session.answer("GET").status, 400, "{:?}", String::from_utf8_lossy(bytes));
        assert!(session.is_closed());
    }
    let largest = "x".repeat(1_000_000);
    assert_eq!(Session::new(&worker).get("/").status, 200);
    let mut session = Session::new(&worker);
    session.send(&request("GET", "/", &[("HTTP_X_LARGE", &largest)]));
    assert_eq!(session.answer("GET").status, 200);
}

#[test]
fn a_parked_connection_and_half_a_request_block_nobody() {
    let Some((_app, worker)) = serving("parked", "run ->(_env) { [200, {}, ['here']] }") else { return };
    let mut parked = Session::new(&worker);
    assert_eq!(parked.get("/").text(), "here");
    let mut half = Session::new(&worker);
    half.send(b"200:REQUEST_METHOD\0");
    assert_eq!(Session::new(&worker).get("/").text(), "here");
    assert_eq!(parked.get("/").text(), "here");
}

#[test]
fn with_threads_requests_are_answered_at_once() {
    let config = "
        $met = Queue.new
        run(lambda do |env|
          case env['PATH_INFO']
          when '/wait' then [200, {}, [$met.pop]]
          else
            $met << 'met'
            [200, {}, [env['rack.multithread'].inspect]]
          end
        end)";
    let app = App::new(&[("config.ru", config)]);
    let Some(program) = ruby("threads") else { return };
    for threads in ["--threads=2", "--threads=0"] {
        let mut worker = launch(program.clone(), &app, &[threads]).direct();
        let mut waiting = Session::new(&worker);
        for _ in 0..3 {
            waiting.send(&request("GET", "/wait", &[]));
            let mut other = Session::new(&worker);
            assert_eq!(other.get("/").text(), "true");
            assert_eq!(waiting.answer("GET").text(), "met");
        }
        worker.process.signal(Signal::SIGTERM);
        assert_eq!(worker.process.wait(), 0, "{}", worker.process.error.so_far());
    }
}

#[test]
fn a_worker_that_is_told_to_leave_finishes_its_request_and_runs_its_hooks() {
    let config = "
        Hatchery.on_start { |forked| puts \"start #{forked}\" }
        Hatchery.on_stop { puts 'stop' }
        PhusionPassenger.on_event(:starting_worker_process) { |forked| puts \"event #{forked}\" }
        PhusionPassenger.on_event(:stopping_worker_process) { puts 'stopping' }
        run(lambda do |_env|
          puts 'in the middle'
          $stdin = nil
          # A signal may interrupt what waits in the kernel.
          sleep 0.01 until File.exist?('go')
          [200, {}, ['done']]
        end)";
    for options in [["--threads=1"], ["--threads=3"]] {
        let app = App::new(&[("config.ru", config)]);
        let Some(program) = ruby("leaving") else { return };
        let mut worker = launch(program, &app, &options).direct();
        let mut session = Session::new(&worker);
        session.send(&request("GET", "/", &[]));
        worker.process.output.until("in the middle");
        worker.process.signal(Signal::SIGTERM);
        std::fs::write(app.path("go"), "").unwrap();
        assert_eq!(session.answer("GET").text(), "done");
        assert!(session.is_closed());
        assert_eq!(worker.process.wait(), 0, "{}", worker.process.error.so_far());
        let said = worker.process.output.whole();
        assert_eq!(said, "start false\nevent false\nin the middle\nstop\nstopping\n");
    }
}

#[test]
fn what_keeps_an_app_from_starting_is_told_in_a_sentence() {
    let said = |test: &str, files: &[(&str, &str)], code: &str, problem: &[&str], remedy: &str| {
        let Some((app, failure, error)) = failure_of(test, files) else { return };
        assert_eq!(failure.code, code, "{failure:?} {error}");
        for part in problem {
            let part = part.replace("ROOT", app.root().to_str().unwrap());
            assert!(failure.problem.contains(&part), "{part}: {failure:?}");
        }
        let remedy = remedy.replace("ROOT", app.root().to_str().unwrap());
        assert!(failure.remedy.contains(&remedy), "{remedy}: {failure:?}");
        assert!(!error.contains("/proc/self/fd/4"), "the loader's own lines: {error}");
        assert!(error.contains("hatchery: "), "{error}");
    };
    let ru = |content: &'static str| [("config.ru", content)];
    said(
        "syntax",
        &ru("run ->(env) {\n  [200,\n"),
        "syntax",
        &["ROOT/config.ru has a syntax error in line"],
        "ruby -c",
    );
    said("nothing", &[], "entry", &["there is no config.ru in ROOT"], "`run APP`");
    said("no run", &ru("require 'rack'\n"), "entry", &["ROOT/config.ru runs no app"], "`run APP`");
    said("run 5", &ru("run 5"), "entry", &["Integer"], "call(env)");
    let gem = ["the gem no_such_gem is missing", "`require 'no_such_gem/all'`", "ROOT/config.ru:1"];
    said("gem", &ru("require 'no_such_gem/all'"), "module", &gem, "gem install no_such_gem");
    said("file", &ru("require './none'"), "module", &["the file", "none is missing"], "add the file");
    said("exit", &ru("\nexit 3"), "exit", &["status 3", "ROOT/config.ru:2"], "output");
    said("raise", &ru("raise 'no luck'"), "exception", &["RuntimeError: no luck (ROOT/config.ru:1)"], "backtrace");
    said(
        "hook",
        &ru("Hatchery.on_start { raise 'x' }\nrun 5.method(:+)"),
        "hook",
        &["on_start", "ROOT/config.ru:1"],
        "hook",
    );
    let bundle = [("Gemfile", "source 'https://gems.example'\ngem 'no_such_gem'\n"), ("config.ru", "run 1.method(:+)")];
    said("bundle", &bundle, "module", &["ROOT/Gemfile", "no_such_gem"], "`bundle install` in ROOT");
    let nested = [("config.ru", "require './app'"), ("app.rb", "x = 1\ndef (\n")];
    said("nested", &nested, "syntax", &["ROOT/app.rb has a syntax error in line 2"], "line");
}

#[test]
fn a_gemfile_is_respected() {
    let Some(program) = ruby("bundler") else { return };
    let there = std::process::Command::new(&program).args(["-e", "require 'bundler'"]).output().unwrap();
    if !there.status.success() {
        assert!(std::env::var_os("HATCHERY_CI").is_none(), "bundler is missing, and CI demands its test");
        eprintln!("SKIPPED a_gemfile_is_respected: bundler is not installed");
        return;
    }
    let config =
        "run ->(_env) { [200, {}, [ENV['BUNDLE_GEMFILE'], ' ', Bundler.definition.dependencies.map(&:name).join]] }";
    let app = App::new(&[("Gemfile", "source 'https://gems.example'\ngem 'rack'\n"), ("config.ru", config)]);
    let worker = launch(program, &app, &[]).direct();
    assert_eq!(Session::new(&worker).get("/").text(), format!("{} rack", app.path("Gemfile").display()));
}

#[test]
fn what_the_app_executes_gets_none_of_the_loaders_descriptors() {
    let config = "run ->(_env) { [200, {}, [`ls /proc/self/fd`]] }";
    let Some((_app, worker)) = serving("descriptors", config) else { return };
    // 3 is the folder that `ls` reads.
    assert_eq!(Session::new(&worker).get("/").text(), "0\n1\n2\n3\n");
}

#[test]
fn the_app_sees_nothing_of_how_it_was_started() {
    let config = "
        seen = [ARGV, $0, Dir.pwd, binding.local_variables, TOPLEVEL_BINDING.local_variables, __FILE__,
                File.read('/proc/self/cmdline').include?('/proc/self/fd/4')]
        run ->(_env) { [200, {}, [seen.inspect]] }";
    let Some((app, worker)) = serving("surroundings", config) else { return };
    let root = app.root().display().to_string();
    let seen = format!("[[], \"rackup\", \"{root}\", [:seen], [], \"{root}/config.ru\", true]");
    assert_eq!(Session::new(&worker).get("/").text(), seen);
}

#[test]
fn a_request_of_many_variables_and_none_is_understood() {
    let Some((_app, worker)) = serving("many variables", "run ->(env) { [200, {}, [env['X999'].to_s]] }") else {
        return;
    };
    let names: Vec<String> = (0..1000).map(|number| format!("X{number}")).collect();
    let mut variables: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "value")).collect();
    variables.extend([("REQUEST_METHOD", "GET"), ("SERVER_PROTOCOL", "HTTP/1.1")]);
    let mut session = Session::new(&worker);
    session.send(&block(&variables));
    assert_eq!(session.answer("GET").text(), "value");
}
