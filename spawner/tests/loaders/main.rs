//! The loaders through real interpreters: this test plays the spawner, the keeper and the web server.

mod harness;
mod node;
mod output;
mod python;
mod python_asgi;
mod python_fork;
mod python_start;
mod python_websocket;
mod python_wsgi;
mod ruby;
mod session;
