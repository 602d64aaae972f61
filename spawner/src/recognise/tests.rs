//! What is recognised, by folders with these files in them.

use super::*;
use hatchery_protocol::link::Listen;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A folder with these files: a name that ends with a star is executable, one that ends with a slash is a folder.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name.trim_end_matches(['*', '/']));
        if name.ends_with('/') {
            std::fs::create_dir_all(&path).unwrap();
            continue;
        }
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        let mode = if name.ends_with('*') { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }
    folder
}

fn found(files: &[(&str, &str)]) -> Found {
    recognise(&Files::of(folder(files).path()), true).unwrap()
}

/// The text of the manifest that says what was recognised, in one line.
fn recognised(files: &[(&str, &str)]) -> String {
    match found(files).signs.first() {
        Some(sign) => crate::manifest::written(&sign.start).trim().replace("\n\n", "\n").replace('\n', "; "),
        None => String::new(),
    }
}

fn typed(kind: &str, entry: &str) -> String {
    format!("type = {kind:?}; entry = {entry:?}")
}

const RUN: &str = "#!/bin/sh\n";

#[test]
fn a_procfile_says_what_serves() {
    for (line, expected) in [
        ("web: gunicorn shop.wsgi", r#"command = ["gunicorn", "shop.wsgi"]; listen = "port""#),
        ("worker: x\n web:  a -p $PORT ", r#"command = ["a", "-p", "{port}"]"#),
        ("web: a --bind fd://3", r#"command = ["a", "--bind", "fd://3"]; listen = "fd""#),
        ("web: a --uds {socket}", r#"command = ["a", "--uds", "{socket}"]"#),
        ("web: A=1 a", r#"command = ["a"]; listen = "port"; [env]; A = "1""#),
        ("web: a && b -p $PORT", r#"command = ["/bin/sh", "-c", "a && b -p $PORT"]; listen = "port""#),
        ("webs: a", ""),
        ("web:", ""),
    ] {
        assert_eq!(recognised(&[("Procfile", line)]), expected, "{line}");
    }
    let found = found(&[("Procfile", "\nweb: PORT=80 a"), ("config.ru", "")]);
    assert_eq!((found.signs[0].line, found.signs.len()), (Some(2), 2));
    assert_eq!(found.warnings, ["Procfile, line 2: PORT is left out: it is Hatchery's to set"]);
}

#[test]
fn a_procfile_means_the_apps_own_programs() {
    let venv = [(".venv/pyvenv.cfg", ""), (".venv/bin/gunicorn*", RUN), ("node_modules/.bin/next*", RUN)];
    let with = |line: &'static str| recognised(&[&venv[..], &[("Procfile", line)]].concat());
    let text = with("web: gunicorn shop.wsgi");
    assert!(
        text.starts_with(r#"command = [".venv/bin/gunicorn", "shop.wsgi"]; listen = "port"; [env]; VIRTUAL_ENV"#),
        "{text}"
    );
    assert_eq!(with("web: next start"), r#"command = ["node_modules/.bin/next", "start"]; listen = "port""#);
    assert_eq!(with("web: other"), r#"command = ["other"]; listen = "port""#);
    let text = with("web: a; b");
    assert!(text.contains("PATH=\"$PWD/.venv/bin:$PWD/node_modules/.bin:$PATH\"; a; b"), "{text}");
}

#[test]
fn rack_is_recognised_by_its_file() {
    assert_eq!(recognised(&[("config.ru", "")]), typed("rack", "config.ru"));
    assert!(found(&[("config.ru", ""), ("Gemfile", "")]).signs[0].why.contains("Gemfile"));
}

#[test]
fn django_is_recognised_by_its_settings() {
    let manage = "import os\nos.environ.setdefault(\"DJANGO_SETTINGS_MODULE\", \"shop.settings\")\n";
    assert_eq!(recognised(&[("manage.py", manage), ("shop/wsgi.py", "")]), typed("wsgi", "shop.wsgi:application"));
    assert_eq!(recognised(&[("manage.py", manage), ("shop/asgi.py", "")]), typed("asgi", "shop.asgi:application"));
    let both = [("manage.py", manage), ("shop/wsgi.py", "application = 1"), ("shop/asgi.py", "")];
    assert_eq!(recognised(&both), typed("wsgi", "shop.wsgi:application"));
    // The same, found in another way, is not told twice.
    assert_eq!(found(&both).signs.len(), 1);
    assert_eq!((found(&both).signs[0].line, found(&both).signs[0].what), (Some(2), "Django"));
    let nested = "x = DJANGO_SETTINGS_MODULE\nos.environ['DJANGO_SETTINGS_MODULE'] = 'config.settings.local'";
    assert_eq!(recognised(&[("manage.py", nested), ("config/wsgi.py", "")]), typed("wsgi", "config.wsgi:application"));
    assert_eq!(recognised(&[("manage.py", manage)]), "");
    assert!(found(&[("manage.py", manage)]).hints[0].contains("shop.settings"));
    assert_eq!(recognised(&[("manage.py", "from flask_script import Manager")]), "");
}

#[test]
fn python_is_recognised_by_what_its_files_define() {
    for (file, text, expected) in [
        (
            "passenger_wsgi.py",
            "def application(environ, start_response): pass",
            typed("wsgi", "passenger_wsgi.py:application"),
        ),
        ("wsgi.py", "try:\n    from a import application\nexcept: pass", typed("wsgi", "wsgi.py:application")),
        ("wsgi.py", "from shop import app", typed("wsgi", "wsgi.py:app")),
        ("asgi.py", "application = make()", typed("asgi", "asgi.py:application")),
        ("app.py", "from flask import Flask\napp = Flask(__name__)", typed("wsgi", "app.py:app")),
        ("app.py", "application = 1\napp = 2", typed("wsgi", "app.py:application")),
        ("main.py", "from fastapi import FastAPI\napp = FastAPI()", typed("asgi", "main.py:app")),
        ("main.py", "app = Starlette(routes=[])", typed("asgi", "main.py:app")),
        ("main.py", "from litestar import Litestar\napp = make()", typed("asgi", "main.py:app")),
        ("app.py", "import quart\napp = quart.Quart(__name__)", typed("asgi", "app.py:app")),
        ("app.py", "async def application(scope, receive, send): pass", typed("asgi", "app.py:application")),
        ("app.py", "async def app(scope, receive, send): pass", typed("asgi", "app.py:app")),
        ("app.py", "def app(environ, start_response): pass", typed("wsgi", "app.py:app")),
        ("app.py", "def create_app(config=None):\n    return Flask()", typed("wsgi", "app.py:create_app()")),
        ("app.py", "def create_app():\n    return FastAPI()", typed("asgi", "app.py:create_app()")),
        ("app.py", "def create_app():\n    return FastAPI()\napp = create_app()", typed("asgi", "app.py:app")),
        (
            "app.py",
            "from asgiref.wsgi import WsgiToAsgi\napp = Flask()\napp = WsgiToAsgi(app)",
            typed("asgi", "app.py:app"),
        ),
        ("app.py", "app: Flask = Flask()", typed("wsgi", "app.py:app")),
        ("app.py", "def create_app(config):\n    pass", String::new()),
        ("app.py", "app = typer.Typer()", String::new()),
        ("app.py", "if x:\n    app = 1", String::new()),
        ("app.py", "'''\napp = 1\n'''\n# app = 2", String::new()),
        ("main.py", "import app\napp.run()", String::new()),
        ("other.py", "app = 1", String::new()),
    ] {
        assert_eq!(recognised(&[(file, text)]), expected, "{file}: {text}");
    }
    assert_eq!(found(&[("app.py", "\n\napp = Flask()")]).signs[0].line, Some(3));
    assert!(found(&[("app.py", "x = 1")]).hints[0].starts_with("app.py has no `application`"));
}

#[test]
fn imports_are_followed_to_see_which_interface_it_is() {
    let fast = "from fastapi import FastAPI\ndef make():\n    return FastAPI()\nserver = make()\n";
    for (main, other, text) in [
        ("from web.app import server as app", "web/app.py", fast),
        ("from web import server as app", "web/__init__.py", fast),
        ("from web import make\napp = make()", "web.py", fast),
    ] {
        assert_eq!(recognised(&[("main.py", main), (other, text)]), typed("asgi", "main.py:app"), "{main}");
    }
    // Round in circles.
    assert_eq!(
        recognised(&[("main.py", "from app import app"), ("app/__init__.py", "from main import app")]),
        typed("wsgi", "main.py:app")
    );
    let package = [("shop/wsgi.py", "from .base import application"), ("shop/base.py", "application = Quart()")];
    assert_eq!(recognised(&package), typed("asgi", "shop.wsgi:application"));
}

#[test]
fn one_package_with_an_application_is_recognised_and_several_are_not() {
    let one = [("shop/wsgi.py", "application = 1"), ("static/", ""), (".venv/wsgi.py", "application = 1")];
    assert_eq!(recognised(&one), typed("wsgi", "shop.wsgi:application"));
    let two = [one[0], ("blog/wsgi.py", "application = 1")];
    assert_eq!(recognised(&two), "");
    assert!(found(&two).hints[0].contains("both blog and shop"), "{:?}", found(&two).hints);
    assert_eq!(recognised(&[("venv/pyvenv.cfg", ""), ("venv/wsgi.py", "application = 1")]), "");
    assert_eq!(recognised(&[("shop/asgi.py", "application = 1")]), typed("asgi", "shop.asgi:application"));
}

fn script(start: &str, more: &[(&str, &str)]) -> String {
    let package = format!("{{\n  \"scripts\": {{\n    \"start\": {start:?}\n  }}\n}}");
    recognised(&[&[("package.json", package.as_str()), ("server.js", ""), ("lib/index.js", "")], more].concat())
}

#[test]
fn a_start_script_of_node_is_loaded_and_others_are_run() {
    let npm = r#"command = ["npm", "start"]; listen = "port""#;
    for (start, expected) in [
        ("node server.js", typed("node", "server.js")),
        ("node ./server", typed("node", "server.js")),
        ("node lib", typed("node", "lib/index.js")),
        ("node .", String::from(npm)),
        (
            "node -r dotenv/config --no-warnings server.js",
            typed("node", "server.js") + r#"; interpreter = ["node", "-r", "dotenv/config", "--no-warnings"]"#,
        ),
        ("NODE_ENV=production node server.js", typed("node", "server.js") + r#"; [env]; NODE_ENV = "production""#),
        ("cross-env A=1 node server.js", typed("node", "server.js") + r#"; [env]; A = "1""#),
        ("node server.js --port $PORT", r#"command = ["node", "server.js", "--port", "{port}"]"#.into()),
        ("node server.js --quiet", r#"command = ["node", "server.js", "--quiet"]; listen = "port""#.into()),
        ("node missing.js", npm.into()),
        ("node --watch server.js", npm.into()),
        ("PORT=3000 node server.js", npm.into()),
        ("next start", npm.into()),
        ("npm run build && node server.js", npm.into()),
    ] {
        assert_eq!(script(start, &[]), expected, "{start}");
    }
    assert_eq!(script("next start", &[("yarn.lock", "")]), r#"command = ["yarn", "start"]; listen = "port""#);
    assert_eq!(script("next start", &[("pnpm-lock.yaml", "")]), r#"command = ["pnpm", "start"]; listen = "port""#);
    let prestart = r#"{"scripts": {"prestart": "x", "start": "node server.js"}}"#;
    assert_eq!(recognised(&[("package.json", prestart), ("server.js", "")]), npm);
}

#[test]
fn without_a_start_script_main_and_usual_names_are_nodes_entry() {
    let main = r#"{"main": "./lib/web"}"#;
    assert_eq!(recognised(&[("package.json", main), ("lib/web.mjs", "")]), typed("node", "lib/web.mjs"));
    assert_eq!(recognised(&[("package.json", main), ("index.js", "")]), typed("node", "index.js"));
    assert!(found(&[("package.json", main)]).hints[0].contains("`./lib/web`"));
    assert!(found(&[("package.json", "{")]).hints[0].starts_with("package.json is no JSON"));
    for entry in ["server.js", "server.mjs", "app.js", "app.mjs", "index.js"] {
        assert_eq!(recognised(&[(entry, "")]), typed("node", entry));
    }
    let depends = [("package.json", r#"{"dependencies": {"a": "1"}}"#), ("server.js", "")];
    assert!(found(&depends).warnings[0].contains("npm install"));
}

#[test]
fn php_is_recognised_by_its_front_controller() {
    for entry in ["public/index.php", "web/index.php", "index.php"] {
        assert_eq!(recognised(&[(entry, "")]), typed("php", entry));
    }
    assert_eq!(recognised(&[("index.php", ""), ("public/index.php", "")]), typed("php", "public/index.php"));
    let laravel = found(&[("public/index.php", ""), ("artisan", ""), ("composer.json", "{}")]);
    assert!(laravel.signs[0].why.contains("Laravel"), "{:?}", laravel.signs);
    assert!(laravel.warnings[0].contains("composer install"));
}

#[test]
fn a_program_is_given_a_port() {
    let command = |name: &str| format!("command = [\"./{name}\"]; listen = \"port\"");
    for name in ["server", "app", "run", "start", "bin/server", "bin/app"] {
        assert_eq!(recognised(&[(&format!("{name}*"), RUN), ("z*", RUN)]), command(name));
    }
    assert_eq!(recognised(&[("shop*", "\x7fELF"), ("notes", RUN), ("deploy.sh*", RUN)]), command("shop"));
    assert_eq!(recognised(&[("one*", RUN), ("two*", RUN)]), "");
    assert!(found(&[("one*", RUN)]).signs[0].guess && !found(&[("server*", RUN)]).signs[0].guess);
    // On some mounts all files can be executed.
    assert_eq!(recognised(&[("README.md*", "hello")]), "");
    assert_eq!(recognised(&[("server/", "")]), "");
    assert!(found(&[("one*", RUN), ("two*", RUN)]).hints[0].contains("one and two"));
}

#[test]
fn the_first_sign_holds_and_the_others_are_told() {
    let all = [
        ("Procfile", "web: a"),
        ("config.ru", ""),
        ("wsgi.py", "application = 1"),
        ("package.json", r#"{"main": "server.js"}"#),
        ("server.js", ""),
        ("index.php", ""),
        ("server*", RUN),
    ];
    for from in 0..all.len() {
        let found = found(&all[from..]);
        let files: Vec<_> = found.signs.iter().map(|sign| sign.file.as_str()).collect();
        // That `main` and the usual name are the same is not told.
        let expected: Vec<_> = all[from..].iter().map(|(name, _)| name.trim_end_matches('*')).collect();
        let expected: Vec<_> = expected.into_iter().filter(|name| *name != "server.js" || from > 3).collect();
        assert_eq!(files, expected);
    }
}

#[test]
fn nothing_is_waited_for_and_what_is_no_file_is_no_sign() {
    let folder = folder(&[("wsgi.py/", ""), ("index.php/", "")]);
    for name in ["Procfile", "package.json", "config.ru", "app.py"] {
        nix::unistd::mkfifo(&folder.path().join(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    }
    assert_eq!(recognise(&Files::of(folder.path()), true).unwrap().signs, []);
}

#[test]
fn long_files_are_read_up_to_a_bound() {
    let long = format!("app = Flask()\n{}", "#".repeat(files::MAX_LEN));
    assert_eq!(recognised(&[("app.py", &long)]), typed("wsgi", "app.py:app"));
    let long = format!("{{\"main\": \"{}\"}}", "x".repeat(files::MAX_LEN));
    assert!(found(&[("package.json", &long)]).hints[0].contains("longer than"));
}

/// With a home and a `bin` on the PATH that has these programs.
fn runs(
    files: &[(&str, &str)],
    programs: &[&str],
    kind: Kind,
    said: Option<&[&str]>,
) -> Result<Interpreter, InterpreterError> {
    let folder = folder(files);
    let root = folder.path().canonicalize().unwrap();
    for program in programs {
        std::fs::create_dir_all(root.join("path")).unwrap();
        std::fs::write(root.join("path").join(program), RUN).unwrap();
        std::fs::set_permissions(root.join("path").join(program), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let around = Surroundings { path: b"/nowhere:path".to_vec(), home: root.join("home"), virtual_env: None };
    let said: Option<Vec<String>> = said.map(|words| words.iter().map(|word| (*word).to_owned()).collect());
    let relative = |path: PathBuf| path.strip_prefix(&root).map(Path::to_path_buf).unwrap_or(path);
    interpreter(&Files::of(&root), &around, kind, "it", said.as_deref()).map(|found| Interpreter {
        found: relative(found.found),
        venv: found.venv.map(relative),
        ..found
    })
}

#[test]
fn python_is_that_of_the_apps_environment() {
    for name in [".venv", "venv", "env"] {
        let (config, program) = (format!("{name}/pyvenv.cfg"), format!("{name}/bin/python3*"));
        let found = runs(&[(&config, ""), (&program, RUN)], &["python3"], Kind::Wsgi, None).unwrap();
        assert_eq!(found.found, Path::new(name).join("bin/python3"));
        assert_eq!(found.venv.as_deref(), Some(Path::new(name)));
        // Only that says that it is one.
        let found = runs(&[(&program, RUN)], &["python3"], Kind::Wsgi, None).unwrap();
        assert_eq!((found.found.to_str().unwrap(), found.venv), ("path/python3", None));
    }
    let found = runs(&[(".venv/pyvenv.cfg", ""), (".venv/bin/python*", RUN)], &[], Kind::Asgi, None).unwrap();
    assert_eq!(found.found, Path::new(".venv/bin/python"));
}

#[test]
fn an_environment_of_pipenv_is_found_by_the_folder_it_names() {
    let folder = folder(&[
        ("app/Pipfile", ""),
        ("home/.local/share/virtualenvs/app-x/pyvenv.cfg", ""),
        ("home/.local/share/virtualenvs/app-x/bin/python*", RUN),
        ("home/.local/share/virtualenvs/app-w/.project", "/other"),
        ("named/.venv", "app-x\n"),
    ]);
    let base = folder.path().canonicalize().unwrap();
    let venv = base.join("home/.local/share/virtualenvs/app-x");
    std::fs::write(venv.join(".project"), base.join("app").to_str().unwrap()).unwrap();
    let around = Surroundings { path: Vec::new(), home: base.join("home"), virtual_env: None };
    for app in ["app", "named"] {
        let found = interpreter(&Files::of(&base.join(app)), &around, Kind::Wsgi, "it", None).unwrap();
        assert_eq!((found.found, found.venv), (venv.join("bin/python"), Some(venv.clone())), "{app}");
    }
}

#[test]
fn an_environment_of_poetry_is_found_by_the_digest_of_the_folder() {
    let folder = folder(&[("app/pyproject.toml", "[tool.poetry]\nname = \"shop\"\n")]);
    let base = folder.path().canonicalize().unwrap();
    let app = base.join("app");
    let cache = base.join("home/.cache/pypoetry/virtualenvs");
    for version in ["3.9", "3.11"] {
        let venv = cache.join(format!("shop-{}-py{version}", venv::digest(&app)));
        std::fs::create_dir_all(venv.join("bin")).unwrap();
        std::fs::write(venv.join("pyvenv.cfg"), "").unwrap();
        std::os::unix::fs::symlink("/bin/sh", venv.join("bin/python3")).unwrap();
    }
    let around = Surroundings { path: Vec::new(), home: base.join("home"), virtual_env: None };
    let found = interpreter(&Files::of(&app), &around, Kind::Wsgi, "it", None).unwrap();
    assert!(found.found.to_str().unwrap().contains("-py3.11/bin/python3"), "{found:?}");
}

#[test]
fn a_variable_says_which_environment_it_is() {
    let folder = folder(&[("mine/bin/python3*", RUN), (".venv/pyvenv.cfg", "")]);
    let around = Surroundings { virtual_env: Some("mine".into()), ..Surroundings::default() };
    let found = interpreter(&Files::of(folder.path()), &around, Kind::Wsgi, "it", None).unwrap();
    assert_eq!(found.found, folder.path().join("mine/bin/python3"));
}

#[test]
fn a_broken_environment_is_told_with_what_its_python_leads_to() {
    let folder = folder(&[(".venv/pyvenv.cfg", ""), (".venv/bin/", "")]);
    std::os::unix::fs::symlink("python3.9", folder.path().join(".venv/bin/python3")).unwrap();
    std::os::unix::fs::symlink("/usr/bin/python-of-old", folder.path().join(".venv/bin/python3.9")).unwrap();
    let error = interpreter(&Files::of(folder.path()), &Surroundings::default(), Kind::Wsgi, "it", None).unwrap_err();
    let venv = folder.path().join(".venv");
    let expected = "is broken: its bin/python3 leads to /usr/bin/python-of-old, which is not there";
    assert_eq!(error.to_string(), format!("the virtual environment {} {expected}", venv.display()));
    assert!(error.remedy().contains(&format!("python3 -m venv --clear {}", venv.display())));
}

#[test]
fn a_manifest_names_the_interpreter() {
    let found = runs(&[], &["python3.12"], Kind::Wsgi, Some(&["python3.12", "-O"])).unwrap();
    assert_eq!(
        (found.found.to_str().unwrap(), found.words),
        ("path/python3.12", vec![b"python3.12".to_vec(), b"-O".to_vec()])
    );
    // A name is that of the environment's own first.
    let venv = [(".venv/pyvenv.cfg", ""), (".venv/bin/python3*", RUN)];
    let found = runs(&venv, &["python3", "pypy"], Kind::Wsgi, Some(&["python3"])).unwrap();
    assert_eq!(found.venv.as_deref(), Some(Path::new(".venv")));
    assert_eq!(runs(&venv, &["python3", "pypy"], Kind::Wsgi, Some(&["pypy"])).unwrap().venv, None);
    let found = runs(&[("my/pyvenv.cfg", ""), ("my/bin/py*", RUN)], &[], Kind::Wsgi, Some(&["my/bin/py"])).unwrap();
    assert_eq!((found.found.to_str().unwrap(), found.venv.as_deref()), ("my/bin/py", Some(Path::new("my"))));
    let error = runs(&[], &[], Kind::Node, Some(&["bin/node"])).unwrap_err();
    assert!(error.to_string().ends_with("bin/node, which is not there"), "{error}");
}

#[test]
fn a_missing_interpreter_is_named_with_where_it_was_looked_for_and_how_to_get_it() {
    for (kind, program, package) in [
        (Kind::Wsgi, "python3", "apt install python3"),
        (Kind::Rack, "ruby", "apt install ruby"),
        (Kind::Node, "node", "apt install nodejs"),
        (Kind::Php, "php-cgi", "apt install php-cgi"),
    ] {
        let error = runs(&[], &[], kind, None).unwrap_err();
        assert_eq!(error.to_string(), format!("it needs {program}, and there is none on the PATH (/nowhere:path)"));
        assert!(error.remedy().contains(package), "{}", error.remedy());
    }
    for program in ["php-cgi", "php-cgi8.2", "php-cgi82"] {
        assert_eq!(runs(&[], &[program], Kind::Php, None).unwrap().words, [program.as_bytes()]);
    }
}

#[test]
fn commands_say_where_they_listen() {
    for sign in [found(&[("Procfile", "web: a")]), found(&[("server*", RUN)])] {
        assert_eq!(sign.signs[0].start.listen, Some(Listen::Port));
    }
}
