//! What a person is shown of a pool: the core's admin socket and the `hatchery` command draw with the same hand.
//!
//! | file | draws |
//! | --- | --- |
//! | `status.rs` | what runs, and how busy it is |
//! | `lists.rs` | applications, sessions, figures |
//! | `streams.rs` | events and what applications print, a line each |
//! | `table.rs` | columns, colours, what fits into a terminal |
//! | `text.rs` | figures, times, and texts that may be hostile |

mod lists;
mod status;
mod streams;
mod table;
mod text;

pub use lists::{Listed, list, metrics, sessions};
pub use status::status;
pub use streams::{event, output};
pub use table::Look;
pub(crate) use text::push_printable;
pub use text::{memory, moment, printable, span};

use hatchery_protocol::status::Status;

/// The figures for a person, a line each, with the last of what went wrong.
#[must_use]
pub fn lines(of: &Status) -> Vec<String> {
    status(of, Look::PLAIN)
}
