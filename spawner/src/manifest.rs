//! `hatchery.toml`: how the owner of an app says it is started. Nothing in it makes an app more powerful.
//!
//! | file | holds |
//! | --- | --- |
//! | `reader` | from the file's text to a [`Manifest`] |
//! | `mistake` | what can be wrong with it, and what to do about it |
//! | `written` | from a [`Manifest`] to the text that says it |

mod mistake;
mod reader;
#[cfg(test)]
mod tests;
mod written;

pub(crate) use mistake::ManifestError;
pub(crate) use reader::parse;
pub(crate) use written::written;

use hatchery_protocol::client::SessionProtocol;
use hatchery_protocol::link::{Listen, Loader, ReadyBy};

/// The file's name in the app root.
pub(crate) const NAME: &str = "hatchery.toml";
/// The longest that is read, in bytes.
pub(crate) const MAX_LEN: usize = 64 * 1024;
/// More sessions at once than any worker can have.
const MAX_CONCURRENCY: u32 = 100_000;

const KEYS: [&str; 10] =
    ["command", "type", "entry", "interpreter", "preload", "protocol", "listen", "ready", "concurrency", "env"];

/// What a manifest says; `None` and empty: nothing. It has no `entry`, `interpreter` or `preload` without `kind`, and
/// not both `kind` and `command`, `protocol` or `listen`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) command: Option<Vec<String>>,
    /// The key `type`.
    pub(crate) kind: Option<Kind>,
    pub(crate) entry: Option<String>,
    /// The program, and arguments for it.
    pub(crate) interpreter: Option<Vec<String>>,
    pub(crate) preload: Option<bool>,
    pub(crate) protocol: Option<SessionProtocol>,
    pub(crate) listen: Option<Listen>,
    pub(crate) ready: Option<ReadyBy>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) env: Vec<(String, String)>,
}

impl Manifest {
    /// Whether it says what is started.
    pub(crate) fn starts(&self) -> bool {
        self.command.is_some() || self.kind.is_some()
    }
}

/// Kinds of apps that Hatchery knows how to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Wsgi,
    Asgi,
    Rack,
    Node,
    Php,
}

impl Kind {
    /// As the manifest's `type` has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Php => "php",
            Self::Wsgi | Self::Asgi | Self::Rack | Self::Node => self.loader().map_or("", Loader::name),
        }
    }

    /// As people write it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Wsgi => "WSGI",
            Self::Asgi => "ASGI",
            Self::Rack => "Rack",
            Self::Node => "Node",
            Self::Php => "PHP",
        }
    }

    /// Which of our loaders loads it; `None`: its interpreter needs none.
    pub(crate) fn loader(self) -> Option<Loader> {
        match self {
            Self::Wsgi => Some(Loader::Wsgi),
            Self::Asgi => Some(Loader::Asgi),
            Self::Rack => Some(Loader::Rack),
            Self::Node => Some(Loader::Node),
            Self::Php => None,
        }
    }

    /// Whether workers can be forked from a process that has loaded the app.
    pub(crate) fn can_preload(self) -> bool {
        matches!(self, Self::Wsgi | Self::Asgi | Self::Rack)
    }
}

/// The words that a key can be, and what they mean.
struct Words<T: 'static> {
    names: &'static [&'static str],
    values: &'static [T],
}

static KINDS: Words<Kind> = Words {
    names: &["wsgi", "asgi", "rack", "node", "php"],
    values: &[Kind::Wsgi, Kind::Asgi, Kind::Rack, Kind::Node, Kind::Php],
};
static PROTOCOLS: Words<SessionProtocol> = Words {
    names: &["http", "fastcgi", "session"],
    values: &[SessionProtocol::Http, SessionProtocol::Fastcgi, SessionProtocol::Session],
};
static LISTENS: Words<Listen> = Words {
    names: &["fd", "stdin", "port", "socket"],
    values: &[Listen::Fd, Listen::Stdin, Listen::Port, Listen::Socket],
};
static READYS: Words<ReadyBy> = Words { names: &["probe", "notify"], values: &[ReadyBy::Probe, ReadyBy::Notify] };

impl<T: Copy + PartialEq> Words<T> {
    fn value(&self, word: &str) -> Option<T> {
        self.names.iter().position(|name| *name == word).map(|index| self.values[index])
    }

    fn name(&self, value: T) -> &'static str {
        self.values.iter().position(|known| *known == value).map_or("", |index| self.names[index])
    }
}

/// As the manifest's `listen` has it.
pub(crate) fn listen_name(listen: Listen) -> &'static str {
    LISTENS.name(listen)
}

/// As the manifest's `protocol` has it.
pub(crate) fn protocol_name(protocol: SessionProtocol) -> &'static str {
    PROTOCOLS.name(protocol)
}
