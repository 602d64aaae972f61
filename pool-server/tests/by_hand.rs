//! The executable says what it is for when somebody starts it by hand.

use std::process::{Command, Stdio};

fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pool-server"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the executable runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn without_a_door_it_names_what_starts_it() {
    let (status, said) = run(&[]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("standard input is no door") && said.contains("hatchery serve"), "{said}");
}

#[test]
fn arguments_are_refused() {
    let (status, said) = run(&["--max", "3"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("takes no arguments"), "{said}");
}

#[test]
fn the_core_without_a_link_says_so() {
    let (status, said) = run(&["core"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("no link"), "{said}");
}
