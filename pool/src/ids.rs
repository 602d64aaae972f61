//! Names of things. All count upwards and are never reused, so what is stale is simply not found.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}"), self.0)
            }
        }
    };
}

id!(
    /// One app, for as long as it is known. Given by the pool.
    AppId,
    "a"
);
id!(
    /// One worker process. Given by the pool.
    WorkerId,
    "w"
);
id!(
    /// One channel of a front end. Given by the shell, counting upwards.
    ClientId,
    "c"
);
id!(
    /// One use of one slot by one client. Given by the pool.
    SessionId,
    "s"
);
id!(
    /// One connected socket between a client and a worker. It carries one session after another when it is
    /// parked in between. Given by the pool.
    ConnectionId,
    "k"
);
id!(
    /// A spawn report that the shell keeps; the pool only passes its number on. Given by the shell.
    ReportId,
    "r"
);

/// One version of an app's code. The first is 1; each restart begins the next, and so do `clear` and a start
/// after the last worker was gone: the root is looked into anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// One question of one client: the number is the client's own and unique among its open questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Request {
    pub client: ClientId,
    pub number: u64,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.client, self.number)
    }
}
