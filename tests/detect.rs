//! `hatchery detect` tells how a folder would be started, and the manifest that says the same.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use support::{HATCHERY, front};

/// What `detect` said.
struct Said {
    status: Option<i32>,
    output: String,
    errors: String,
}

/// With an environment in which only these programs are on the PATH.
fn detect(folder: &Path, arguments: &[&str]) -> Said {
    let output = std::process::Command::new(HATCHERY)
        .arg("detect")
        .args(arguments)
        .current_dir(folder)
        .env("PATH", folder.join("path"))
        .output()
        .expect("hatchery runs");
    Said {
        status: output.status.code(),
        output: String::from_utf8_lossy(&output.stdout).into_owned(),
        errors: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A folder with these files, and a folder `path` with an interpreter of each kind.
fn app(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let folder = front::folder();
    let root = folder.path().canonicalize().expect("a folder").join("shop");
    let programs = ["python3", "ruby", "node", "npm", "php-cgi", "gunicorn"];
    let program = |name| (format!("../path/{name}"), "#!/bin/sh\n");
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), *text)).chain(programs.map(program));
    for (name, text) in files {
        let path = root.join(&name);
        std::fs::create_dir_all(&root).expect("the app's folder");
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(&path, text).expect("a file");
        if text.starts_with("#!") {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("its mode");
        }
    }
    (folder, root)
}

fn json(folder: &Path, arguments: &[&str]) -> serde_json::Value {
    let said = detect(folder, arguments);
    serde_json::from_str(&said.output).unwrap_or_else(|error| panic!("{error}: {}{}", said.output, said.errors))
}

#[test]
fn the_manifest_that_is_printed_starts_the_same() {
    let manage = "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')";
    for files in [
        &[("Procfile", "web: A='x y' gunicorn shop.wsgi --bind 0.0.0.0:$PORT")][..],
        &[("Procfile", "web: ./migrate && gunicorn \"$APP\"")],
        &[("config.ru", ""), ("Gemfile", "")],
        &[("manage.py", manage), ("shop/wsgi.py", "")],
        &[("app.py", "app = FastAPI()"), (".venv/pyvenv.cfg", ""), (".venv/bin/python3", "#!/bin/sh\n")],
        &[("wsgi.py", "def create_app(): pass")],
        &[("package.json", "{\"scripts\": {\"start\": \"A=1 node --no-warnings server.js\"}}"), ("server.js", "")],
        &[("package.json", "{\"scripts\": {\"start\": \"next start\"}}")],
        &[("public/index.php", "")],
        &[("server", "#!/bin/sh\n")],
        &[("hatchery.toml", "concurrency = 3\n[env]\nA = \"1\"\n"), ("config.ru", "")],
        &[("hatchery.toml", "type = \"rack\"\npreload = false\n"), ("config.ru", "")],
    ] {
        let (folder, root) = app(files);
        let before = json(folder.path(), &["shop", "--json"]);
        assert_eq!(before["recognised"], true, "{before:#}");
        let text = detect(folder.path(), &["shop"]).output;
        let (_, manifest) = text.split_once("# A hatchery.toml that says the same:\n").expect("a manifest");
        assert_eq!(manifest, before["manifest"].as_str().expect("a manifest"));
        std::fs::write(root.join("hatchery.toml"), manifest).expect("hatchery.toml");
        let after = json(folder.path(), &["shop", "--json"]);
        assert_eq!(after["by"]["file"], "hatchery.toml");
        for key in ["type", "entry", "command", "listen", "protocol", "interpreter", "manifest"] {
            assert_eq!(before[key], after[key], "{key} of {files:?}");
        }
    }
}

#[test]
fn what_was_found_is_told_with_its_place_and_what_else_there_is() {
    let (folder, root) = app(&[
        ("app.py", "from flask import Flask\n\napp = Flask(__name__)\n"),
        ("venv/pyvenv.cfg", ""),
        ("venv/bin/python3", "#!/bin/sh\n"),
        (
            "package.json",
            "{\"main\": \"x.js\",\n\"scripts\": {\n\"start\": \"vite\"}, \"dependencies\": {\"vite\": \"1\"}}",
        ),
    ]);
    let said = detect(&root, &[]);
    assert_eq!(said.status, Some(0));
    let lines: Vec<&str> = said.output.lines().collect();
    assert_eq!(lines[0], format!("{}: Python, WSGI (WSGI, app.py:app)", root.display()));
    assert_eq!(lines[1], "  because    app.py, line 3, has `app` at its top level");
    let python = format!("{}/venv/bin/python3 (of the virtual environment in its folder)", root.display());
    assert_eq!(lines[2], format!("  run by     {python}"));
    assert!(
        said.output.contains("also found package.json, line 3, has the start script `vite` (npm start)"),
        "{}",
        said.output
    );
    assert!(said.output.ends_with("type = \"wsgi\"\nentry = \"app.py:app\"\n"), "{}", said.output);
    drop(folder);
}

#[test]
fn where_nothing_is_recognised_it_says_what_was_looked_for() {
    let (folder, root) = app(&[("app.py", "x = 1")]);
    let said = detect(folder.path(), &["shop"]);
    assert_eq!(said.status, Some(1));
    assert!(said.errors.starts_with(&format!("hatchery: nothing in {} says how it is started", root.display())));
    for word in ["Procfile", "config.ru", "manage.py", "index.php", "app.py has no `application`", "command = ["] {
        assert!(said.errors.contains(word), "{word} is not in {}", said.errors);
    }
    let said = json(folder.path(), &["shop", "--json"]);
    assert_eq!((&said["recognised"], &said["manifest"]), (&false.into(), &serde_json::Value::Null));
    assert_eq!(detect(folder.path(), &["nowhere"]).status, Some(1));
}

#[test]
fn a_missing_interpreter_is_named_and_the_rest_is_told() {
    let (folder, _) = app(&[("config.ru", "")]);
    std::fs::remove_file(folder.path().join("path/ruby")).expect("it was there");
    let said = detect(folder.path(), &["shop"]);
    assert_eq!(said.status, Some(0));
    assert!(
        said.output.contains("lacks      config.ru needs ruby, and there is none on the PATH ("),
        "{}",
        said.output
    );
    assert!(said.output.contains("apt install ruby") && said.output.contains("type = \"rack\""), "{}", said.output);
    let said = json(folder.path(), &["shop", "--json"]);
    assert_eq!((&said["recognised"], said["problem"].is_string()), (&true.into(), true));
}

#[test]
fn a_mistake_in_the_manifest_is_told_with_its_line() {
    let (folder, _) = app(&[("hatchery.toml", "\ntipe = 1")]);
    let said = detect(folder.path(), &["shop"]);
    assert_eq!(said.status, Some(1));
    assert!(said.errors.starts_with("hatchery: hatchery.toml, line 2, column 1: `tipe` is no key"), "{}", said.errors);
}

#[test]
fn secrets_in_a_command_line_are_not_printed_but_where_they_must_be() {
    let (folder, _) = app(&[("Procfile", "web: gunicorn --password=hunter2")]);
    let said = detect(folder.path(), &["shop"]).output;
    let (head, manifest) = said.split_once("\n# A hatchery.toml").expect("a manifest");
    assert!(!head.contains("hunter2") && manifest.contains("hunter2"), "{said}");
}

#[test]
fn the_current_folder_is_served_as_it_was_recognised_and_the_first_line_tells_how() {
    let (folder, root) = app(&[("app.py", "app = Flask(__name__)\n")]);
    let mut command = front::hatchery(folder.path(), ["serve", "-p", "0"]);
    command.current_dir(&root).env("PATH", folder.path().join("path"));
    let front = front::Front::start(command, folder);
    let expected = format!("serving {} (WSGI, app.py:app, python3) on http://", root.display());
    assert!(front.first.contains(&expected), "{}", front.first);
    assert_eq!(front.status()["apps"][0]["root"], root.display().to_string());
}

#[test]
fn of_a_folder_of_applications_those_are_served_that_can_be() {
    let (folder, root) = app(&[("shop/config.ru", ""), ("notes/readme.txt", ""), (".git/config", "")]);
    let mut command = front::hatchery(folder.path(), ["serve", "-p", "0", "--apps"]);
    command.arg(&root);
    let front = front::Front::start(command, folder);
    let warned = format!("{} is not served: nothing in it says how it is started", root.join("notes").display());
    assert!(front.log().contains(&warned), "{}", front.log());
    assert!(!front.log().contains(".git"), "{}", front.log());
    let apps = front.status()["apps"].as_array().map(|apps| apps.iter().map(|app| app["name"].clone()).collect());
    assert_eq!(apps, Some(vec!["shop".into()]));
}

#[test]
fn a_program_that_merely_lies_in_the_current_folder_is_not_executed_unasked() {
    let (folder, root) = app(&[("whatever", "#!/bin/sh\n")]);
    assert_eq!(json(folder.path(), &["shop", "--json"])["by"]["guess"], true);
    let mut command = front::hatchery(folder.path(), ["serve", "-p", "0"]);
    command.current_dir(&root);
    let front = front::Front::start(command, folder);
    assert!(front.first.contains("the demo app"), "{}", front.first);
}
