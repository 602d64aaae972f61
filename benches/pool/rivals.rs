//! A WSGI hello through `hatchery serve`, side by side with what people use for it today. What is not installed is said
//! and left out.

use super::support::front::Front;
use super::support::runtimes;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const APP: &str = "\
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', '6')])
    return [b'hello\\n']
";
/// Each is measured so often, in turn; the best counts.
const ROUNDS: usize = 3;
const SECONDS: u32 = 4;

pub(crate) fn compare() {
    if let Err(why) = runtimes::for_all("wrk") {
        return println!("a WSGI hello is not compared: {why}");
    }
    let folder = tempfile::tempdir().unwrap();
    super::support::apps::open_to_all(folder.path());
    std::fs::write(folder.path().join("wsgi.py"), APP).unwrap();
    std::fs::write(folder.path().join("passenger_wsgi.py"), APP).unwrap();
    std::fs::create_dir(folder.path().join("public")).unwrap();
    let front = Front::of(folder.path(), &["--max", "2", "--min", "2"]);
    let rivals: Vec<Rival> = [
        Rival::start("Passenger in Apache", "2.5", passenger, folder.path()),
        Rival::start("nginx and gunicorn", "2.5", gunicorn, folder.path()),
        Rival::start("nginx and uWSGI", "1", uwsgi, folder.path()),
    ]
    .into_iter()
    .filter_map(|started| started.inspect_err(|why| println!("not compared: {why}")).ok())
    .collect();
    let mut best = vec![0.0_f64; rivals.len()];
    let mut ours = 0.0_f64;
    for _ in 0..ROUNDS {
        ours = ours.max(rate(front.address()));
        for (rival, best) in rivals.iter().zip(&mut best) {
            *best = best.max(rate(&rival.address));
        }
    }
    for (rival, best) in rivals.iter().zip(best) {
        println!(
            "{:<44} {ours:>9.0}/s  {:<20} {best:>8.0}/s  {:>5.2} times its rate   aim {}",
            "a WSGI hello, 2 workers, wrk -t1 -c16",
            rival.name,
            ours / best,
            rival.aim
        );
    }
}

fn rate(address: &str) -> f64 {
    let seconds = format!("-d{SECONDS}");
    let output = Command::new("wrk").args(["-t1", "-c16", &seconds, &format!("http://{address}/")]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!text.contains("Non-2xx"), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    line.unwrap_or_else(|| panic!("{text}")).trim().parse().unwrap()
}

struct Rival {
    name: &'static str,
    aim: &'static str,
    address: String,
    processes: Vec<Child>,
    _folder: tempfile::TempDir,
}

/// Where a rival's files are, the app, and the port it shall serve.
struct Place<'a> {
    own: &'a Path,
    app: &'a Path,
    port: u16,
}

type Begin = fn(&Place<'_>) -> Result<Vec<Command>, String>;

impl Rival {
    fn start(name: &'static str, aim: &'static str, begin: Begin, app: &Path) -> Result<Self, String> {
        let folder = tempfile::tempdir().unwrap();
        super::support::apps::open_to_all(folder.path());
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let commands = begin(&Place { own: folder.path(), app, port }).map_err(|why| format!("{name}: {why}"))?;
        let processes = commands.into_iter().map(|mut command| {
            let log = std::fs::File::create(folder.path().join("log")).unwrap();
            command.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null()).spawn().unwrap()
        });
        let rival =
            Self { name, aim, address: format!("127.0.0.1:{port}"), processes: processes.collect(), _folder: folder };
        let until = Instant::now() + Duration::from_secs(20);
        while !rival.answers() {
            if Instant::now() > until {
                return Err(format!("{name} does not answer"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(rival)
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(&self.address) else { return false };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
        let mut answer = [0; 12];
        std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").is_ok()
            && std::io::Read::read_exact(&mut stream, &mut answer).is_ok()
            && answer.ends_with(b"200")
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        for child in &mut self.processes {
            let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}

fn installed(path: &str, package: &str) -> Result<(), String> {
    if Path::new(path).exists() { Ok(()) } else { Err(format!("{path} is not there (Debian: {package})")) }
}

/// nginx before a server at a Unix socket.
fn nginx(place: &Place<'_>, location: &str) -> Result<Command, String> {
    installed("/usr/sbin/nginx", "nginx")?;
    let (own, port) = (place.own.display(), place.port);
    let config = format!(
        "worker_processes 1;\ndaemon off;\nerror_log {own}/nginx.log;\npid {own}/nginx.pid;\n\
         events {{ worker_connections 256; }}\nhttp {{ access_log off; keepalive_requests 1000000000;\n\
         upstream app {{ server unix:{own}/app.sock; keepalive 16; }}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ {location} }} }} }}\n"
    );
    std::fs::write(place.own.join("nginx.conf"), config).unwrap();
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(place.own.join("nginx.conf"));
    Ok(command)
}

fn uwsgi(place: &Place<'_>) -> Result<Vec<Command>, String> {
    installed("/usr/bin/uwsgi", "uwsgi-core, uwsgi-plugin-python3")?;
    let socket = place.own.join("app.sock");
    let mut command = Command::new("/usr/bin/uwsgi");
    command.args(["--plugins", "python3", "--module", "wsgi:application", "--processes", "2", "--master"]);
    command.args(["--disable-logging", "--die-on-term", "--chmod-socket=666", "--chdir"]).arg(place.app);
    command.arg("--socket").arg(socket);
    Ok(vec![command, nginx(place, "include /etc/nginx/uwsgi_params; uwsgi_pass app;")?])
}

fn gunicorn(place: &Place<'_>) -> Result<Vec<Command>, String> {
    let venv = runtimes::python("the comparison with gunicorn", &["gunicorn~=23.0"]).ok_or("it can't be installed")?;
    let mut command = Command::new(venv.join("bin/gunicorn"));
    command.args(["-w", "2", "--umask", "0", "-b", &format!("unix:{}/app.sock", place.own.display())]);
    command.arg("wsgi:application").current_dir(place.app);
    let proxy = "proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection \"\";";
    Ok(vec![command, nginx(place, proxy)?])
}

fn passenger(place: &Place<'_>) -> Result<Vec<Command>, String> {
    installed("/usr/sbin/apache2", "apache2")?;
    installed("/usr/lib/apache2/modules/mod_passenger.so", "libapache2-mod-passenger")?;
    let (own, port, app) = (place.own.display(), place.port, place.app.display());
    let modules = "/usr/lib/apache2/modules";
    let config = format!(
        "ServerRoot {own}\nPidFile {own}/apache.pid\nListen 127.0.0.1:{port}\nServerName localhost\n\
         User www-data\nGroup www-data\n\
         LoadModule mpm_event_module {modules}/mod_mpm_event.so\n\
         LoadModule authz_core_module {modules}/mod_authz_core.so\n\
         LoadModule dir_module {modules}/mod_dir.so\n\
         LoadModule passenger_module {modules}/mod_passenger.so\n\
         PassengerRoot /usr/lib/ruby/vendor_ruby/phusion_passenger/locations.ini\n\
         PassengerDefaultRuby /usr/bin/ruby\nPassengerPython /usr/bin/python3\n\
         PassengerMaxPoolSize 2\nPassengerMinInstances 2\nPassengerDisableSecurityUpdateCheck on\n\
         ErrorLog {own}/apache.log\nDocumentRoot {app}/public\nKeepAlive On\nMaxKeepAliveRequests 0\n\
         <Directory {app}/public>\nRequire all granted\n</Directory>\n"
    );
    std::fs::write(place.own.join("apache.conf"), config).unwrap();
    let mut command = Command::new("/usr/sbin/apache2");
    command.arg("-f").arg(place.own.join("apache.conf")).arg("-DFOREGROUND");
    Ok(vec![command])
}
