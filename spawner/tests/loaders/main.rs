//! The loaders through real interpreters: this test plays the spawner, the keeper and the web server.

mod harness;
mod node;
mod python;
mod ruby;
mod session;
