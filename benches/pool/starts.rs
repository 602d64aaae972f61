//! How fast applications of real frameworks start, and what their workers weigh, beside bare Python doing the same.

use super::support::front::Front;
use super::support::runtimes;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const ROUNDS: usize = 9;
/// Workers whose memory is compared.
const WORKERS: usize = 8;

const FLASK: &str = "\
from flask import Flask
app = Flask(__name__)

@app.get('/')
def index():
    return 'hello'

@app.get('/hold')
def hold():
    import time
    def held():
        yield 'held'
        time.sleep(60)
    return app.response_class(held(), mimetype='text/plain')
";

const DJANGO: &str = "\
import sys, time
import django
from django.conf import settings
settings.configure(DEBUG=False, SECRET_KEY='bench', ALLOWED_HOSTS=['*'], ROOT_URLCONF=__name__,
    INSTALLED_APPS=['django.contrib.admin', 'django.contrib.auth', 'django.contrib.contenttypes',
                    'django.contrib.sessions', 'django.contrib.messages'],
    DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': ':memory:'}})
django.setup()
from django.contrib import admin
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

def held():
    yield b'held'
    time.sleep(60)

urlpatterns = [path('', lambda request: HttpResponse('hello')), path('admin/', admin.site.urls),
               path('hold', lambda request: StreamingHttpResponse(held()))]
application = get_wsgi_application()
application.load_middleware()
";

/// A fork of what has imported the app, up to the first byte of its answer.
const BARE_FORKS: &str = "\
import gc, os, sys, time
from wsgiref.util import setup_testing_defaults
import wsgi
app = getattr(wsgi, 'application', None) or wsgi.app
gc.collect()
gc.freeze()
environ = {'PATH_INFO': '/hold'}
setup_testing_defaults(environ)
for _ in range(int(sys.argv[1])):
    r, w = os.pipe()
    begun = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        said = []
        chunks = iter(app(environ, lambda *head: said.append(head)))
        os.write(w, next(chunks))
        os._exit(0)
    os.read(r, 1)
    print(time.perf_counter() - begun)
    os.waitpid(pid, 0)
";

pub(crate) fn compare() {
    for (name, package, source) in [("Flask", "flask~=3.1", FLASK), ("Django", "django~=5.2", DJANGO)] {
        let Some(venv) = runtimes::python("the measurement of starts", &[package]) else { continue };
        let python = venv.join("bin/python");
        first_request(name, &python, source);
        further_worker(name, &python, source);
        if name == "Django" {
            memory(&python, source);
        }
    }
}

fn app(folder: &Path, python: &Path, source: &str, more: &str) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("wsgi.py"), source).unwrap();
    let entry = if source == FLASK { "wsgi:app" } else { "wsgi:application" };
    let manifest = format!("type = \"wsgi\"\nentry = \"{entry}\"\ninterpreter = [{python:?}]\n{more}");
    std::fs::write(folder.join("hatchery.toml"), manifest).unwrap();
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

/// From the request to the first byte of the answer; the connection stays open.
fn first_byte(address: &str, host: &str, path: &str) -> (Duration, TcpStream) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let begun = Instant::now();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    let passed = begun.elapsed();
    assert_eq!(&head, b"HTTP/1.1 200", "{host}{path}");
    (passed, stream)
}

/// Apps that have never run, one after another, and Python that imports the same.
fn first_request(name: &str, python: &Path, source: &str) {
    let apps = tempfile::tempdir().unwrap();
    let of = |number: usize| apps.path().join(format!("app{number}"));
    (0..ROUNDS).for_each(|number| app(&of(number), python, source, ""));
    let folder = apps.path().to_str().unwrap();
    let max = ROUNDS.to_string();
    let front = Front::serve(["--apps", folder, "--max", &max, "--lower-privilege=false"]);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for number in 0..ROUNDS {
        ours.push(first_byte(front.address(), &format!("app{number}.localhost"), "/").0);
        let begun = Instant::now();
        let status = Command::new(python).args(["-c", "import wsgi"]).current_dir(of(number)).status().unwrap();
        bare.push(begun.elapsed());
        assert!(status.success());
    }
    let (ours, bare) = (median(ours), median(bare));
    println!(
        "{:<44} {ours:>7.1} ms  python3 importing it {bare:>7.1} ms  {:>5.2} times   aim 1.15",
        format!("first request of a {name} app"),
        ours / bare
    );
}

/// Workers forked from a preloader that is up, while all others are busy; and a bare fork that answers the same request
/// by the same app, without anything between.
fn further_worker(name: &str, python: &Path, source: &str) {
    let folder = tempfile::tempdir().unwrap();
    app(folder.path(), python, source, "");
    let max = (ROUNDS + 1).to_string();
    let front = Front::of(folder.path(), &["--max", &max, "--lower-privilege=false"]);
    let (_, first) = first_byte(front.address(), "localhost", "/hold");
    let mut held = vec![first];
    let ours = (0..ROUNDS)
        .map(|_| {
            let (passed, stream) = first_byte(front.address(), "localhost", "/hold");
            held.push(stream);
            passed
        })
        .collect();
    let ours = median(ours);
    let output =
        Command::new(python).args(["-c", BARE_FORKS, &ROUNDS.to_string()]).current_dir(folder.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let bare = median(text.lines().map(|line| Duration::from_secs_f64(line.parse().unwrap())).collect());
    println!(
        "{:<44} {ours:>7.2} ms  bare fork to the same {bare:>7.2} ms  {:>5.2} times   aim 2",
        format!("a further worker of a {name} app"),
        ours / bare
    );
}

/// The proportional set size of eight workers that have answered, forked and started one by one.
fn memory(python: &Path, source: &str) {
    let of = |preload: bool| {
        let folder = tempfile::tempdir().unwrap();
        app(folder.path(), python, source, &format!("preload = {preload}\n"));
        let max = WORKERS.to_string();
        let front = Front::of(folder.path(), &["--max", &max, "--lower-privilege=false"]);
        let held: Vec<_> = (0..WORKERS).map(|_| first_byte(front.address(), "localhost", "/hold")).collect();
        let status = front.status();
        let sum = |list: &str| -> f64 {
            let list = status["apps"][0][list].as_array().unwrap();
            list.iter().map(|process| pss(process["pid"].as_i64().unwrap())).sum()
        };
        assert_eq!(status["apps"][0]["workers"].as_array().unwrap().len(), WORKERS);
        let sums = (sum("workers"), sum("preloaders"));
        drop(held);
        sums
    };
    let ((forked, preloader), (direct, _)) = (of(true), of(false));
    println!(
        "{:<44} {forked:>7.1} MB  and {preloader:.1} of their preloader; started one by one {direct:.1} MB  {:>5.2} times, \
         {:.2} with it   aim 0.5",
        format!("{WORKERS} preloaded workers of a Django app, PSS"),
        forked / direct,
        (forked + preloader) / direct
    );
}

fn pss(pid: i64) -> f64 {
    let text = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/smaps_rollup"))).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
