//! Our loaders: programs in the app's language that load the app and serve it, and how each is started. Their text
//! is inside this executable, and reaches the interpreter as a sealed file in memory, so that it needs no place on
//! disk that every app's user could read.

use hatchery_protocol::link::{Loader, Loading};
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};

/// Where its text is in a loader's process.
const TEXT_PATH: &str = "/proc/self/fd/4";

const WSGI: &[&str] = &[
    include_str!("../loaders/python/contract.py"),
    include_str!("../loaders/python/entry.py"),
    include_str!("../loaders/python/preloader.py"),
    include_str!("../loaders/python/session.py"),
    include_str!("../loaders/python/wsgi.py"),
    include_str!("../loaders/python/worker.py"),
    "\nmain(WSGI)\n",
];

const ASGI: &[&str] = &[
    include_str!("../loaders/python/contract.py"),
    include_str!("../loaders/python/entry.py"),
    include_str!("../loaders/python/preloader.py"),
    include_str!("../loaders/python/asgi.py"),
    include_str!("../loaders/python/http.py"),
    include_str!("../loaders/python/websocket.py"),
    include_str!("../loaders/python/server.py"),
    "\nmain(ASGI)\n",
];

const RACK: &[&str] = &[
    include_str!("../loaders/ruby/contract.rb"),
    include_str!("../loaders/ruby/load.rb"),
    include_str!("../loaders/ruby/request.rb"),
    include_str!("../loaders/ruby/answer.rb"),
    include_str!("../loaders/ruby/exchange.rb"),
    include_str!("../loaders/ruby/server.rb"),
    include_str!("../loaders/ruby/preloader.rb"),
    include_str!("../loaders/ruby/main.rb"),
];

const NODE: &[&str] = &[
    include_str!("../loaders/node/contract.js"),
    include_str!("../loaders/node/explain.js"),
    include_str!("../loaders/node/listen.js"),
    include_str!("../loaders/node/main.js"),
];

/// The one line that Node runs: it reads the loader from its descriptor, and runs it.
const NODE_BOOTSTRAP: &str = include_str!("../loaders/node/bootstrap.js");

/// The texts, each made when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct Texts {
    made: Vec<(Loader, OwnedFd)>,
}

impl Texts {
    /// A descriptor of its own to read this loader's text from. No user can change it, and none need own it.
    pub(crate) fn open(&mut self, loader: Loader) -> io::Result<OwnedFd> {
        let made = match self.made.iter().position(|(known, _)| *known == loader) {
            Some(index) => &self.made[index].1,
            None => {
                self.made.push((loader, sealed(loader)?));
                &self.made[self.made.len() - 1].1
            }
        };
        // Opened anew, since processes that share a descriptor share how far it was read.
        let path = format!("/proc/self/fd/{}", made.as_raw_fd());
        Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }
}

fn sealed(loader: Loader) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("hatchery-loader", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    for part in text(loader) {
        file.write_all(part.as_bytes())?;
    }
    // Whoever has a descriptor of it may open it.
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o444))?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file.into())
}

fn text(loader: Loader) -> &'static [&'static str] {
    match loader {
        Loader::Wsgi => WSGI,
        Loader::Asgi => ASGI,
        Loader::Rack => RACK,
        Loader::Node => NODE,
    }
}

/// The command that runs a loader. `threads`: requests at once in one worker; 0: no limit.
pub(crate) fn arguments(loading: &Loading, threads: u32, preload: bool) -> Vec<Vec<u8>> {
    let mut command = loading.interpreter.clone();
    match loading.loader {
        Loader::Node => {
            command.extend(
                [&b"-e"[..], NODE_BOOTSTRAP.trim_end().as_bytes(), b"node", &loading.entry].map(<[u8]>::to_vec),
            );
        }
        loader @ (Loader::Wsgi | Loader::Asgi | Loader::Rack) => {
            command.extend([TEXT_PATH.as_bytes(), loader.name().as_bytes(), &loading.entry].map(<[u8]>::to_vec));
            command.push(format!("--threads={threads}").into_bytes());
            command.extend(preload.then(|| b"--preload".to_vec()));
        }
    }
    command
}

/// Whether workers can be forked from a process that has loaded the app by this loader.
pub(crate) fn can_preload(loading: &Loading) -> bool {
    loading.preload && loading.loader != Loader::Node
}

/// What its interpreter is called, and what is to be installed where it is missing.
pub(crate) fn interpreter(loader: Loader) -> (&'static str, &'static str) {
    match loader {
        Loader::Wsgi | Loader::Asgi => ("Python 3", "the package `python3`"),
        Loader::Rack => ("Ruby", "the package `ruby`"),
        Loader::Node => ("Node.js", "the package `nodejs`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn loading(loader: Loader) -> Loading {
        Loading {
            loader,
            interpreter: vec![b"python3".to_vec(), b"-X".to_vec()],
            entry: b"shop:app".to_vec(),
            preload: true,
        }
    }

    fn shown(command: Vec<Vec<u8>>) -> Vec<String> {
        command.into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    }

    #[test]
    fn a_loader_is_started_as_agreed() {
        let expected = ["python3", "-X", "/proc/self/fd/4", "wsgi", "shop:app", "--threads=4"];
        assert_eq!(shown(arguments(&loading(Loader::Wsgi), 4, false)), expected);
        let expected = ["python3", "-X", "/proc/self/fd/4", "rack", "shop:app", "--threads=0", "--preload"];
        assert_eq!(shown(arguments(&loading(Loader::Rack), 0, true)), expected);
        let node = shown(arguments(&loading(Loader::Node), 0, false));
        assert_eq!((node[2].as_str(), &node[4..]), ("-e", &["node".to_owned(), "shop:app".to_owned()][..]));
    }

    #[test]
    fn every_reader_of_a_text_begins_at_its_beginning() {
        let mut texts = Texts::default();
        for _ in 0..2 {
            let mut read = String::new();
            File::from(texts.open(Loader::Wsgi).unwrap()).read_to_string(&mut read).unwrap();
            assert_eq!(read, WSGI.concat());
        }
        assert_eq!(texts.made.len(), 1);
    }

    #[test]
    fn nobody_can_change_a_text() {
        let mut texts = Texts::default();
        let text = texts.open(Loader::Wsgi).unwrap();
        let path = format!("/proc/self/fd/{}", text.as_raw_fd());
        match std::fs::OpenOptions::new().write(true).open(path) {
            Ok(mut writer) => assert_eq!(writer.write(b"x").unwrap_err().kind(), io::ErrorKind::PermissionDenied),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
