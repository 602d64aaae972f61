//! What the examples share: a pool with one application.

use hatchery_pool_client::{AppConfig, AppOptions, Builder, PoolServer, Start};
use std::env;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::Command;

/// A pool's settings, and the root of its application: the folder that is named, or else the demo app, which is
/// inside the `hatchery` executable.
pub(crate) fn pool_with(root: Option<String>) -> Result<(Builder, PathBuf), Box<dyn std::error::Error>> {
    build_hatchery()?;
    let start = root.is_none().then_some(Start::DemoApp);
    let root = std::path::absolute(root.unwrap_or_else(|| "/".into()))?;
    let options = AppOptions { start, ..AppOptions::default() };
    let app = AppConfig { root: root.clone().into_os_string().into_vec(), name: None, options };
    Ok((PoolServer::builder().app(app), root))
}

/// The pool runs in an executable of its own, which is found beside the `examples` folder of this one. But
/// `cargo run --example` builds nothing but the example; an installed program has no need of this.
fn build_hatchery() -> Result<(), Box<dyn std::error::Error>> {
    let (Some(cargo), None) = (env::var_os("CARGO"), env::var_os("HATCHERY_POOL_SERVER")) else { return Ok(()) };
    // TARGET/PROFILE/examples/NAME
    let own = env::current_exe()?;
    let mut above = own.ancestors().skip(2);
    let (Some(folder), Some(target)) = (above.next(), above.next()) else { return Ok(()) };
    let profile = folder.file_name().filter(|name| *name != "debug").unwrap_or("dev".as_ref());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--bin", "hatchery", "--manifest-path"]);
    build.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    build.arg("--profile").arg(profile).arg("--target-dir").arg(target);
    if build.status()?.success() { Ok(()) } else { Err("hatchery, in which the pool runs, could not be built".into()) }
}
