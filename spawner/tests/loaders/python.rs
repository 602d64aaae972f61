//! The loader for Python, as its tests start it.

use crate::harness::{App, Launch, interpreter, text};

/// The order in which the spawner has them.
const WSGI: [&str; 6] = [
    "python/contract.py",
    "python/entry.py",
    "python/preloader.py",
    "python/session.py",
    "python/wsgi.py",
    "python/worker.py",
];
const ASGI: [&str; 7] = [
    "python/contract.py",
    "python/entry.py",
    "python/preloader.py",
    "python/asgi.py",
    "python/http.py",
    "python/websocket.py",
    "python/server.py",
];

/// The loader for `kind` with an app, started by the machine's Python without its environment's packages.
pub(crate) fn launch(test: &str, kind: &str, app: &App, entry: &str, threads: u32) -> Option<Launch> {
    let program = interpreter("HATCHERY_TEST_PYTHON", &["/usr/bin/python3", "python3"], test)?;
    let (files, call) = if kind == "wsgi" { (&WSGI[..], "main(WSGI)\n") } else { (&ASGI[..], "main(ASGI)\n") };
    let mut loader = text(files);
    loader.extend_from_slice(call.as_bytes());
    let arguments = ["/proc/self/fd/4", kind, entry, &format!("--threads={threads}")].map(String::from).to_vec();
    Some(Launch { program, arguments, text: loader, environment: Vec::new(), root: app.root() })
}
