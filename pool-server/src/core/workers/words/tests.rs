//! Outputs as the programs really print them.

use super::*;

fn last(output: &str, exit: Exit) -> Option<Cause> {
    said(output, exit, Listen::Fd, &Setup::default())
}

fn said(output: &str, exit: Exit, listen: Listen, setup: &Setup) -> Option<Cause> {
    // As it is kept: without empty lines.
    let output = output.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    cause(&Last { output: &output, exit, listen, setup })
}

/// What is said of a program that exits with 1.
fn problem(output: &str) -> String {
    let found = last(output, Exit::Status(1)).unwrap_or_else(|| panic!("nothing is said of:\n{output}"));
    for sentence in [&found.problem, &found.remedy] {
        assert!(!sentence.contains('\n') && !sentence.ends_with(' '), "{sentence}");
    }
    assert!(found.remedy.ends_with('.'), "{}", found.remedy);
    found.problem
}

#[test]
fn a_module_that_python_lacks_is_named_with_who_imports_it() {
    let output = "Traceback (most recent call last):\n  File \"/srv/shop/app.py\", line 1, in <module>\n    \
                  import flask\nModuleNotFoundError: No module named 'flask'";
    assert_eq!(problem(output), "Python has no module flask, which /srv/shop/app.py imports in line 1");
    let output = "Traceback (most recent call last):\n  File \"<frozen runpy>\", line 198, in _run_module_as_main\n\
                  ModuleNotFoundError: No module named 'a.b'";
    assert_eq!(problem(output), "Python has no module a.b");
    assert_eq!(problem("/usr/bin/python3: No module named gunicorn"), "Python has no module gunicorn");
    // A server that has something to say after it.
    let output = "[7] [ERROR] Exception in worker process\nTraceback (most recent call last):\n  File \"/a.py\", line 2\n\
                  ModuleNotFoundError: No module named 'shop'\n[7] [INFO] Worker exiting (pid: 7)\n\
                  [6] [ERROR] Worker (pid:7) exited with code 3\n[6] [ERROR] Shutting down: Master\n\
                  [6] [ERROR] Reason: Worker failed to boot.";
    assert_eq!(problem(output), "Python has no module shop, which /a.py imports in line 2");
}

#[test]
fn a_file_that_an_interpreter_does_not_find_is_named() {
    let output = "python3: can't open file '/srv/shop/sever.py': [Errno 2] No such file or directory";
    assert_eq!(problem(output), "Python finds no file /srv/shop/sever.py");
    assert_eq!(problem("ruby: No such file or directory -- sever.rb (LoadError)"), "Ruby finds no file sever.rb");
    let output = "node:internal/modules/cjs/loader:1210\n  throw err;\n  ^\n\nError: Cannot find module '/srv/shop/x.js'\n    \
                  at Module._resolveFilename (node:internal/modules/cjs/loader:1207:15) {\n  \
                  code: 'MODULE_NOT_FOUND',\n  requireStack: []\n}\n\nNode.js v20.20.2";
    assert_eq!(problem(output), "Node finds no file /srv/shop/x.js");
}

#[test]
fn a_syntax_error_is_told_with_its_place_in_every_language() {
    let python = "Traceback (most recent call last):\n  File \"/srv/shop/app.py\", line 1, in <module>\n    import s\n  \
                  File \"/srv/shop/s.py\", line 7\n    def f(:\n          ^\nSyntaxError: invalid syntax";
    assert_eq!(problem(python), "/srv/shop/s.py has a syntax error in line 7: invalid syntax");
    let python = "  File \"/srv/shop/s.py\", line 2\n    pass\n    ^\n\
                  IndentationError: expected an indented block after function definition on line 1";
    assert_eq!(
        problem(python),
        "/srv/shop/s.py has a syntax error in line 2: expected an indented block after function definition on line 1"
    );
    for place in ["/srv/s.js:12", "file:///srv/s.js:12"] {
        let node = format!(
            "{place}\nlet x = ;\n        ^\n\nSyntaxError: Unexpected token ';'\n    \
             at wrapSafe (node:internal/modules/cjs/loader:1464:18)\n\nNode.js v20.20.2"
        );
        assert_eq!(problem(&node), "/srv/s.js has a syntax error in line 12: Unexpected token ';'");
    }
    let node = "/srv/s.js:1\nimport x from 'y';\n^^^^^^\n\nSyntaxError: Cannot use import statement outside a module\n    \
                at wrapSafe (node:internal/modules/cjs/loader:1464:18)\n\nNode.js v20.20.2";
    assert_eq!(problem(node), "/srv/s.js uses `import` in line 1, and Node takes it for a CommonJS module");
    let ruby = "s.rb:1: syntax error, unexpected end-of-input\ndef f\n     ^";
    assert_eq!(problem(ruby), "s.rb has a syntax error in line 1: unexpected end-of-input");
    let ruby = "<internal:/usr/lib/ruby/vendor_ruby/rubygems/core_ext/kernel_require.rb>:85:in `require': \
                /srv/s.rb:3: syntax error, unexpected end-of-input (SyntaxError)\ndef f\n     ^\n\tfrom sr.rb:1:in `<main>'";
    assert_eq!(problem(ruby), "/srv/s.rb has a syntax error in line 3: unexpected end-of-input");
    let ruby = "/srv/s.rb:3: syntax errors found (SyntaxError)\n  2 | \n> 3 | def f\n    |      ^ expected an `end`";
    assert_eq!(problem(ruby), "/srv/s.rb has a syntax error in line 3: see its last output");
    let php = "PHP Parse error:  syntax error, unexpected token \";\" in /srv/p.php on line 2";
    assert_eq!(problem(php), "/srv/p.php has a syntax error in line 2: unexpected token \";\"");
    let php =
        "Parse error: Unclosed '{' in /srv/p.php on line 9\nStatus: 500 Internal Server Error\nContent-type: text/html";
    assert_eq!(problem(php), "/srv/p.php has a syntax error in line 9: Unclosed '{'");
}

#[test]
fn a_module_that_node_lacks_is_named_with_who_asks_for_it() {
    let required = "node:internal/modules/cjs/loader:1210\n  throw err;\n  ^\n\nError: Cannot find module 'express'\n\
                    Require stack:\n- /srv/shop/server.js\n    at Module._load (node:internal/modules/cjs/loader:1038:27) {\n  \
                    code: 'MODULE_NOT_FOUND',\n  requireStack: [ '/srv/shop/server.js' ]\n}\n\nNode.js v20.20.2";
    assert_eq!(problem(required), "Node finds no module express, which /srv/shop/server.js asks for");
    let imported = "node:internal/modules/esm/resolve:873\n  throw new ERR_MODULE_NOT_FOUND(packageName);\n        ^\n\n\
                    Error [ERR_MODULE_NOT_FOUND]: Cannot find package '@a/b' imported from /srv/shop/m.mjs\n    \
                    at packageResolve (node:internal/modules/esm/resolve:873:9) {\n  code: 'ERR_MODULE_NOT_FOUND'\n}\n\n\
                    Node.js v20.20.2\nnpm error code 1";
    assert_eq!(problem(imported), "Node finds no module @a/b, which /srv/shop/m.mjs asks for");
    let deep = last("Error: Cannot find module '@a/b/c/d'", Exit::Status(1)).unwrap();
    assert!(deep.remedy.contains("`npm install @a/b`"), "{}", deep.remedy);
    let deep = last("Error: Cannot find module 'lodash/fp'", Exit::Status(1)).unwrap();
    assert!(deep.remedy.contains("`npm install lodash`"), "{}", deep.remedy);
}

#[test]
fn a_gem_that_ruby_lacks_is_named() {
    let output = "<internal:/usr/lib/ruby/vendor_ruby/rubygems/core_ext/kernel_require.rb>:85:in `require': \
                  cannot load such file -- sinatra/base (LoadError)\n\tfrom m.rb:1:in `<main>'";
    assert_eq!(problem(output), "Ruby finds no file or gem that holds sinatra/base");
    assert_eq!(
        problem("m.rb:1:in `require_relative': cannot load such file -- /srv/x (LoadError)"),
        "Ruby finds no file /srv/x"
    );
    let output = "resolver.rb:269:in `block': Could not find gem 'puma' in locally installed gems. (Bundler::GemNotFound)\n\
                  \tfrom /usr/lib/ruby/3.1.0/bundler/resolver.rb:252:in `map!'";
    assert_eq!(problem(output), "the gem puma is not installed");
    let output =
        "Could not find rack-2.2.4, puma-6.0 in locally installed gems\nRun `bundle install` to install missing gems.";
    assert_eq!(problem(output), "the gem rack-2.2.4, puma-6.0 is not installed");
    assert_eq!(problem("bundler: command not found: puma\nInstall missing gems"), "the gem puma is not installed");
}

#[test]
fn an_address_that_is_taken_is_told_with_where_it_should_listen() {
    for output in [
        "Traceback (most recent call last):\n  File \"/srv/app.py\", line 1, in <module>\nOSError: [Errno 98] Address already in use",
        "node:events:502\n      throw er; // Unhandled 'error' event\n      ^\n\nError: listen EADDRINUSE: address already in \
         use 127.0.0.1:3000\n    at listenInCluster (node:net:1965:12)\nEmitted 'error' event on Server instance at:\n    \
         at emitErrorNT (node:net:1944:8) {\n  code: 'EADDRINUSE',\n  port: 3000\n}\n\nNode.js v20.20.2",
        "a.rb:1:in `initialize': Address already in use - bind(2) for \"127.0.0.1\" port 18999 (Errno::EADDRINUSE)\n\tfrom a.rb:1",
        "2026/01/01 listen tcp :8080: bind: address already in use",
        "ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 8000): address already in use\nINFO:     done",
    ] {
        assert!(problem(output).contains("is taken: "), "{output}");
    }
    let remedy =
        |listen| said("bind: address already in use", Exit::Status(1), listen, &Setup::default()).unwrap().remedy;
    assert!(remedy(Listen::Fd).contains("descriptor 3") && remedy(Listen::Port).contains("PORT"));
    assert!(remedy(Listen::Stdin).contains("standard input") && remedy(Listen::Socket).contains("{socket}"));
}

#[test]
fn a_server_that_listens_elsewhere_is_believed() {
    for line in [
        "Server listening on port 3000",
        "Example app listening at http://localhost:3000",
        "Listening on 0.0.0.0:8080, CTRL+C to stop",
        "INFO:     Uvicorn running on http://127.0.0.1:8000 (Press CTRL+C to quit)",
        "Serving HTTP on 0.0.0.0 port 8000 (http://0.0.0.0:8000/) ...",
        "* Listening on http://[::1]:9292",
    ] {
        let output = format!("booting\n{line}\nready");
        assert_eq!(elsewhere(&output, None).as_deref(), Some(line.trim_start_matches("* ")));
    }
    for line in [
        "Listening at: unix:/run/shop.sock (7)",
        "INFO:     Uvicorn running on socket /run/shop.sock (Press CTRL+C to quit)",
        "fetching http://127.0.0.1:8000/config",
        "listening for events of http://example.org/",
        "",
    ] {
        assert_eq!(elsewhere(line, None), None, "{line}");
    }
    let own = "listening on 127.0.0.1:4711";
    assert_eq!(elsewhere(own, Some(&Place::Port(4711))), None);
    assert_eq!(elsewhere(own, Some(&Place::Port(4712))).as_deref(), Some(own));
}

#[test]
fn what_it_may_not_do_is_told_with_whom_it_runs_as() {
    let setup = Setup { user: "shop".into(), ..Setup::default() };
    for output in [
        "Error: EACCES: permission denied, open '/srv/secret'\n    at Object.openSync (node:fs:573:18) {\n  errno: -13\n}\nNode.js v20",
        "-e:1:in `read': Permission denied @ rb_sysopen - /srv/secret (Errno::EACCES)\n\tfrom -e:1:in `<main>'",
        "PermissionError: [Errno 13] Permission denied: '/srv/secret'",
        "cat: /srv/secret: Permission denied",
    ] {
        let found = said(output, Exit::Status(1), Listen::Fd, &setup).unwrap();
        assert!(found.problem.contains("/srv/secret") && found.remedy.contains("Let shop, as whom it runs, use it"));
    }
    let script = said("sh: 1: ./run: Permission denied", Exit::Status(126), Listen::Fd, &Setup::default()).unwrap();
    assert!(script.remedy.contains("Let the user that it runs as execute it"), "{}", script.remedy);
    let port = last("Error: listen EACCES: permission denied 0.0.0.0:80\n    at x", Exit::Status(1)).unwrap();
    assert!(port.remedy.contains("descriptor 3"), "{}", port.remedy);
}

#[test]
fn a_command_that_is_not_there_is_named_with_the_path_it_was_looked_for_on() {
    let setup = Setup { environment: vec![("PATH".into(), "/usr/bin:/bin".into())], ..Setup::default() };
    for output in [
        "sh: 1: gunicorn: not found",
        "sh: 1: exec: gunicorn: not found",
        "bash: line 1: gunicorn: command not found",
        "zsh:1: command not found: gunicorn",
        "env: ‘gunicorn’: No such file or directory",
    ] {
        let found = said(output, Exit::Status(127), Listen::Fd, &setup).unwrap();
        assert_eq!(
            found.problem, "its start command runs gunicorn, which is not on its PATH (/usr/bin:/bin)",
            "{output}"
        );
    }
    let path = last("sh: 1: bin/run: not found", Exit::Status(127)).unwrap();
    assert_eq!(path.problem, "its start command runs bin/run, which is not there");
    assert_eq!(last("route: not found", Exit::Status(1)), None);
}

#[test]
fn want_of_memory_is_told_with_the_limits_that_there_are() {
    let abort = Exit::Signal(6);
    let setup = Setup {
        limits: vec![
            ("limit_as".into(), "512 MiB".into()),
            ("memory_max".into(), "1 GiB".into()),
            ("nice".into(), "5".into()),
        ],
        ..Setup::default()
    };
    for (output, exit) in [
        ("Traceback (most recent call last):\n  File \"<string>\", line 1, in <module>\nMemoryError", Exit::Status(1)),
        ("terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc", abort),
        ("-e: failed to allocate memory (NoMemoryError)", Exit::Status(1)),
        ("OSError: [Errno 12] Cannot allocate memory", Exit::Status(1)),
        (
            "<--- Last few GCs --->\nFATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n\
             ----- Native stack trace -----\n 1: 0xb78db3 node::OOMErrorHandler [node]",
            abort,
        ),
    ] {
        let found = said(output, exit, Listen::Fd, &setup).unwrap_or_else(|| panic!("{output}"));
        assert!(found.remedy.contains("Raise its limit_as (512 MiB) or memory_max (1 GiB)"), "{}", found.remedy);
        assert!(last(output, exit).unwrap().remedy.contains("no limit of its own"), "{output}");
    }
    let php = "PHP Fatal error:  Allowed memory size of 134217728 bytes exhausted (tried to allocate 8 bytes) in /a on line 1";
    assert_eq!(problem(php), "PHP needed more memory than its memory_limit of 134217728 bytes");
}

#[test]
fn nothing_is_said_of_what_is_not_sure() {
    let known = "ModuleNotFoundError: No module named 'flask'";
    for (output, exit) in [
        ("", Exit::Status(1)),
        ("no database", Exit::Status(7)),
        // It went well, or something else ended it.
        (known, Exit::Status(0)),
        (known, Exit::Signal(11)),
        // A warning that it went on after.
        ("cache: Permission denied\nstarting\nno database", Exit::Status(1)),
        ("warning: SyntaxError: in a template", Exit::Status(1)),
        ("SyntaxError: without a place", Exit::Status(1)),
        ("The docs say: No module named x", Exit::Status(1)),
        ("ZeroDivisionError: Address already there", Exit::Status(1)),
    ] {
        assert_eq!(last(output, exit), None, "{output}");
    }
    let long_ago = format!("{known}\n{}", "served\n".repeat(20));
    assert_eq!(last(&long_ago, Exit::Status(1)), None);
}

#[test]
fn a_quote_has_a_bound_and_odd_lines_are_no_danger() {
    let found = last(&format!("PermissionError: {}", "\u{e9}".repeat(5_000)), Exit::Status(1)).unwrap();
    assert!(found.problem.chars().count() < 400, "{}", found.problem.chars().count());
    for odd in [
        "",
        ":",
        ": ",
        "'",
        "Error: Cannot find module '",
        "Parse error:  on line ",
        ": syntax error",
        ":1: syntax error",
    ] {
        for exit in [Exit::Status(1), Exit::Status(126), Exit::Status(127), Exit::Signal(6)] {
            let _ = last(odd, exit);
        }
    }
}
