//! What apps answer with, by the rules of rack 2 and 3.

use super::{launch, ruby, serving};
use crate::harness::{App, Worker};
use crate::session::{Session, request};
use std::io::Read;
use std::net::Shutdown;

/// What a client is told where the app raised.
const FAILED: &str = "The application failed to answer this.\n";

/// What stands in for a real rack 3 where only rack 2 is installed: what the loader uses of it, no more.
const RACK3: &str = r"
module Rack
  def self.release; '3.1.0'; end
  module Utils; HTTP_STATUS_CODES = { 200 => 'OK', 101 => 'Switching Protocols' }.freeze; end
  class Builder
    def self.parse_file(path, **_options)
      new.tap { |builder| builder.instance_eval(File.read(path), path) }.app
    end
    attr_reader :app
    def run(app = nil, &block); @app = app || block; end
  end
end
";

/// The same with a rack that follows the rules of release 3.
fn serving_rack3(test: &str, config: &str) -> Option<(App, Worker)> {
    let app = App::new(&[("config.ru", config), ("lib/rack.rb", RACK3)]);
    let mut launch = launch(ruby(test)?, &app, &[]);
    launch.environment.push(("RUBYLIB".into(), app.path("lib").to_str().unwrap().into()));
    Some((app, launch.direct()))
}

#[test]
fn what_an_answer_has_of_a_body_and_whether_its_connection_is_kept() {
    let config = "
        class Pieces
          def initialize(*parts) = @parts = parts
          def each(&block) = @parts.each(&block)
        end
        run(lambda do |env|
          case env['PATH_INFO']
          when '/array' then [200, {}, ['a', 'bc']]
          when '/empty' then [200, {}, []]
          when '/each' then [200, {}, Pieces.new('a', '', 'bc')]
          when '/length' then [200, { 'Content-Length' => '3' }, Pieces.new('a', 'bc')]
          when '/short' then [200, { 'Content-Length' => '5' }, Pieces.new('a', 'bc')]
          when '/long' then [200, { 'Content-Length' => '2' }, Pieces.new('a', 'bc')]
          when '/204' then [204, {}, []]
          when '/204-body' then [204, { 'Content-Length' => '2' }, ['ab']]
          when '/304' then [304, { 'ETag' => 'x' }, []]
          when '/close' then [200, { 'Connection' => 'close' }, ['a']]
          when '/hop' then [200, { 'Keep-Alive' => 'x', 'Transfer-Encoding' => 'chunked', 'Upgrade' => 'h2' }, ['a']]
          when '/lines' then [200, { 'Set-Cookie' => \"a=1\\nb=2\" }, ['a']]
          when '/control' then [200, { 'X-A' => \"a\\rb\" }, ['a']]
          when '/name' then [200, { 'X A' => 'a' }, ['a']]
          when '/status' then [42, {}, []]
          when '/utf-8' then [200, { 'X-A' => \"\\u00e4\" }, [\"\\u00e4\", \"\\xff\".b]]
          end
        end)";
    let Some((_app, worker)) = serving("the matrix of answers", config) else { return };
    // method, path, protocol, status, body, Content-Length, chunked, kept, complete
    let length = Some;
    let cases = [
        ("GET", "/array", "HTTP/1.1", 200, "abc", length("3"), false, true, true),
        ("GET", "/array", "HTTP/1.0", 200, "abc", length("3"), false, true, true),
        ("GET", "/empty", "HTTP/1.1", 200, "", length("0"), false, true, true),
        ("GET", "/each", "HTTP/1.1", 200, "abc", None, true, true, true),
        ("GET", "/each", "HTTP/1.0", 200, "abc", None, false, false, true),
        ("GET", "/length", "HTTP/1.1", 200, "abc", length("3"), false, true, true),
        ("GET", "/short", "HTTP/1.1", 200, "abc", length("5"), false, false, false),
        ("GET", "/long", "HTTP/1.1", 200, "ab", length("2"), false, false, true),
        ("GET", "/204", "HTTP/1.1", 204, "", None, false, true, true),
        ("GET", "/204-body", "HTTP/1.1", 204, "", None, false, true, true),
        ("GET", "/304", "HTTP/1.1", 304, "", None, false, true, true),
        ("GET", "/close", "HTTP/1.1", 200, "a", length("1"), false, false, true),
        ("GET", "/hop", "HTTP/1.1", 200, "a", length("1"), false, true, true),
        ("GET", "/lines", "HTTP/1.1", 200, "a", length("1"), false, true, true),
        ("HEAD", "/array", "HTTP/1.1", 200, "", None, false, true, true),
        ("HEAD", "/each", "HTTP/1.1", 200, "", None, false, true, true),
        ("HEAD", "/each", "HTTP/1.0", 200, "", None, false, true, true),
        ("HEAD", "/length", "HTTP/1.1", 200, "", length("3"), false, true, true),
        ("HEAD", "/close", "HTTP/1.1", 200, "", None, false, false, true),
        ("GET", "/control", "HTTP/1.1", 500, FAILED, length("39"), false, false, true),
        ("GET", "/name", "HTTP/1.1", 500, FAILED, length("39"), false, false, true),
        ("GET", "/status", "HTTP/1.1", 500, FAILED, length("39"), false, false, true),
    ];
    for (method, path, protocol, status, body, length, chunked, kept, complete) in cases {
        let case = format!("{method} {path} {protocol}");
        let mut session = Session::new(&worker);
        session.send(&request(method, path, &[("SERVER_PROTOCOL", protocol)]));
        let answer = session.answer(method);
        assert_eq!((answer.status, answer.text().as_str()), (status, body), "{case}");
        assert_eq!(answer.header("content-length"), length, "{case}");
        assert_eq!(answer.header("transfer-encoding").is_some(), chunked, "{case}");
        assert_eq!(answer.complete, complete, "{case}");
        assert_eq!(answer.header("upgrade").or(answer.header("keep-alive")), None, "{case}");
        if kept {
            assert_eq!(answer.header("connection"), None, "{case}");
            assert_eq!(session.get("/array").text(), "abc", "{case}");
        } else {
            assert!(session.is_closed(), "{case}");
        }
    }
    let mut session = Session::new(&worker);
    let cookies = session.get("/lines").headers.into_iter().filter(|(name, _)| name == "Set-Cookie");
    assert_eq!(cookies.map(|(_, value)| value).collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!(session.get("/utf-8").body, [0xc3, 0xa4, 0xff]);
}

#[test]
fn a_body_that_is_not_read_is_discarded_up_to_64_kib() {
    let Some((_app, worker)) = serving("unread bodies", "run ->(_env) { [200, {}, ['a']] }") else { return };
    let mut session = Session::new(&worker);
    assert_eq!(session.post("/", &[b'x'; 65_536]).text(), "a");
    assert_eq!(session.post("/", b"x").text(), "a");
    session.send(&request("POST", "/", &[("CONTENT_LENGTH", "65537")]));
    assert_eq!(session.answer("POST").text(), "a");
    assert!(session.is_closed());
    let mut session = Session::new(&worker);
    session.send(&request("POST", "/", &[("HTTP_TRANSFER_ENCODING", "chunked")]));
    session.send(b"1\r\nx\r\n0\r\n\r\n");
    assert_eq!(session.answer("POST").text(), "a");
    session.send(&request("POST", "/", &[("HTTP_TRANSFER_ENCODING", "chunked")]));
    session.send(b"zz\r\n");
    assert_eq!(session.answer("POST").text(), "a");
    assert!(session.is_closed());
}

#[test]
fn a_large_body_goes_through_a_file_and_can_be_read_twice() {
    let config = "
        run(lambda do |env|
          first = env['rack.input'].read(7)
          rest = env['rack.input'].read
          env['rack.input'].rewind
          sum = 0
          env['rack.input'].each { |line| sum += line.bytesize }
          [200, {}, [[first.bytesize + rest.bytesize, sum, env['rack.input'].read(1).inspect].join(' ')]]
        end)";
    let Some((_app, worker)) = serving("large bodies", config) else { return };
    let mut session = Session::new(&worker);
    for size in [1_000_000, 10] {
        assert_eq!(session.post("/", &vec![b'\n'; size]).text(), format!("{size} {size} nil"));
    }
}

#[test]
fn files_are_sent_whole_and_a_body_is_closed_always() {
    let config = "
        class Document
          def initialize(path) = @path = path
          def to_path = @path
          def each = yield(File.binread(@path))
          def close = $stderr.puts(\"closed #{File.basename(@path)}\")
        end
        class Broken
          def each
            yield 'a'
            raise 'broken'
          end
          def close = $stderr.puts('closed broken')
        end
        run(lambda do |env|
          case env['PATH_INFO']
          when '/broken' then [200, {}, Broken.new]
          else [200, {}, Document.new(File.join(Dir.pwd, env['PATH_INFO']))]
          end
        end)";
    let Some((app, worker)) = serving("files", config) else { return };
    app.write("small", "small");
    app.write("large", &"large".repeat(1_000_000));
    app.write("empty", "");
    let mut session = Session::new(&worker);
    for (name, size) in [("small", 5), ("large", 5_000_000), ("empty", 0)] {
        let answer = session.get(&format!("/{name}"));
        assert_eq!((answer.body.len(), answer.header("content-length")), (size, Some(size.to_string().as_str())));
        worker.process.error.until(&format!("closed {name}"));
    }
    session.send(&request("HEAD", "/large", &[]));
    assert_eq!(session.answer("HEAD").status, 200);
    let broken = session.get("/broken");
    assert!(!broken.complete && broken.status == 200, "{broken:?}");
    assert!(worker.process.error.until("closed broken").contains("broken (RuntimeError)"));
    assert_eq!(Session::new(&worker).get("/nothing-there").status, 500);
    assert_eq!(Session::new(&worker).get("/small").text(), "small");
}

#[test]
fn an_app_that_raises_and_a_client_that_goes_leave_the_worker_alive() {
    let config = "
        run(lambda do |env|
          raise NoMethodError, 'what a pity' if env['PATH_INFO'] == '/raise'
          raise NotImplementedError, 'not yet' if env['PATH_INFO'] == '/not'
          env['rack.input'].read
          [200, {}, Array.new(100) { 'x' * 100_000 }]
        end)";
    let Some((app, mut worker)) = serving("exceptions", config) else { return };
    for path in ["/raise", "/not"] {
        let answer = Session::new(&worker).get(path);
        assert_eq!((answer.status, answer.text().as_str()), (500, FAILED));
    }
    let error = worker.process.error.until("not yet");
    assert!(error.contains(app.path("config.ru").to_str().unwrap()) && error.contains("what a pity"), "{error}");
    assert!(!error.contains("/proc/self/fd/4"), "the loader's own lines: {error}");

    let mut half = Session::new(&worker);
    half.send(&request("POST", "/", &[("CONTENT_LENGTH", "5")]));
    half.send(b"ab");
    half.stream.shutdown(Shutdown::Write).unwrap();
    assert!(half.is_closed());
    worker.process.error.until("POST / was given up");

    let mut gone = Session::new(&worker);
    gone.send(&request("GET", "/gone", &[]));
    gone.stream.read_exact(&mut [0; 1000]).unwrap();
    drop(gone);
    worker.process.error.until("GET /gone was given up");

    let mut closing = Session::new(&worker);
    closing.send(&request("GET", "/", &[]));
    closing.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(closing.answer("GET").body.len(), 10_000_000);
    assert!(worker.process.is_running());
}

#[test]
fn full_and_partial_hijack_give_the_app_the_connection() {
    let config = "
        use Rack::Lint
        run(lambda do |env|
          case env['PATH_INFO']
          when '/full'
            io = env['rack.hijack'].call
            io.write(\"HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n\")
            Thread.new { io.write(io.readpartial(100)); io.write(io.readpartial(100).upcase); io.close }
            [200, { 'Content-Type' => 'text/plain' }, []]
          when '/partial'
            taken = ->(io) { io.write('taken'); io.close }
            [200, { 'Content-Type' => 'text/plain', 'rack.hijack' => taken }, []]
          else [200, { 'Content-Type' => 'text/plain' }, ['a']]
          end
        end)";
    let Some((_app, worker)) = serving("hijack", config) else { return };
    let mut session = Session::new(&worker);
    session.send(&request("GET", "/full", &[("HTTP_UPGRADE", "echo")]));
    session.send(b"early ");
    assert_eq!(session.answer("GET").status, 101, "{}", worker.process.error.so_far());
    session.send(b"late");
    let rest = String::from_utf8(session.rest()).unwrap();
    assert!(rest.eq_ignore_ascii_case("early late"), "{rest}");

    let mut session = Session::new(&worker);
    let answer = session.get("/partial");
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("taken", Some("close")));
    assert_eq!(Session::new(&worker).get("/").text(), "a");
}

#[test]
fn rack_3_gets_arrays_of_headers_streaming_bodies_and_input_as_it_comes() {
    let config = "
        run(lambda do |env|
          case env['PATH_INFO']
          when '/env'
            has = %w[rack.version rack.multithread rack.response_finished].map { |key| env.key?(key) }
            [200, { 'set-cookie' => ['a=1', 'b=2'] }, [[*has, env['rack.input'].respond_to?(:rewind)].inspect]]
          when '/stream' then [200, {}, ->(stream) { stream << 'a'; stream.write('bc'); stream.close }]
          when '/echo' then [200, {}, ->(stream) { stream.write(stream.read(3).reverse); stream.close }]
          when '/fails' then [200, {}, ->(stream) { stream.write('a'); raise 'halfway' }]
          when '/later' then [200, {}, ->(stream) { Thread.new { stream.write('later'); stream.close } }]
          when '/upgrade'
            [101, { 'connection' => 'upgrade', 'upgrade' => 'raw' }, ->(io) { io.write(io.readpartial(9)); io.close }]
          when '/input'
            input = env['rack.input']
            [200, {}, [[input.gets, input.read(2), input.gets, input.gets, input.read, input.read(1)].inspect]]
          when '/finished'
            tell = ->(_env, status, _headers, error) { warn \"told #{status} #{error.inspect}\" }
            env['rack.response_finished'] << tell
            [200, {}, ['a']]
          end
        end)";
    let Some((_app, worker)) = serving_rack3("rack 3", config) else { return };
    let mut session = Session::new(&worker);
    let answer = session.get("/env");
    assert_eq!(answer.text(), "[false, false, true, false]");
    let cookies = answer.headers.iter().filter(|(name, _)| name == "set-cookie").count();
    assert_eq!(cookies, 2);
    assert_eq!(session.post("/input", b"one\ntwo\nthree").text(), r#"["one\n", "tw", "o\n", "three", "", nil]"#);
    assert_eq!(session.get("/finished").text(), "a");
    worker.process.error.until("told 200 nil");
    for (path, text, complete) in [("/stream", "abc", true), ("/fails", "a", false), ("/later", "later", true)] {
        let mut session = Session::new(&worker);
        let answer = session.get(path);
        assert_eq!((answer.text().as_str(), answer.complete), (text, complete), "{path}");
        assert!(session.is_closed(), "{path}");
    }
    assert_eq!(Session::new(&worker).post("/echo", b"abc").text(), "cba");
    let mut session = Session::new(&worker);
    session.send(&request("GET", "/upgrade", &[("HTTP_UPGRADE", "raw")]));
    let answer = session.answer("GET");
    assert_eq!((answer.status, answer.header("upgrade")), (101, Some("raw")));
    session.send(b"raw bytes");
    assert_eq!(session.rest(), b"raw bytes");
}
