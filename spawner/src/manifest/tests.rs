//! What a manifest can say, and how mistakes in it are told.

use super::*;

fn mistake(text: &str) -> (String, String) {
    let error = parse(text).unwrap_err();
    (error.to_string(), error.what.remedy())
}

#[test]
fn a_manifest_can_say_everything() {
    let manifest = parse(
        "command = [\"python3\", \"a b.py\"]\nprotocol = \"session\"\nlisten = \"stdin\"\nready = \"notify\"\n\
         concurrency = 0\n[env]\nB = \"2\"\nA = \"1\"\n",
    )
    .unwrap();
    assert_eq!(manifest.command.unwrap(), ["python3", "a b.py"]);
    assert_eq!(manifest.protocol, Some(SessionProtocol::Session));
    assert_eq!(manifest.listen, Some(Listen::Stdin));
    assert_eq!(manifest.ready, Some(ReadyBy::Notify));
    assert_eq!(manifest.concurrency, Some(0));
    assert_eq!(manifest.env, [("B".into(), "2".into()), ("A".into(), "1".into())]);
    assert_eq!(parse("").unwrap(), Manifest::default());
}

#[test]
fn a_command_in_one_string_is_split_like_a_shell_does() {
    let manifest = parse("command = \"node 'my server.js' --flag=\\\"x y\\\" $HOME\"").unwrap();
    assert_eq!(manifest.command.unwrap(), ["node", "my server.js", "--flag=x y", "$HOME"]);
}

#[test]
fn an_unknown_key_is_told_with_its_place_and_the_nearest_key() {
    let (problem, remedy) = mistake("# hello\n\n  comand = \"x\"\n");
    assert_eq!(problem, "hatchery.toml, line 3, column 3: `comand` is no key of this file");
    assert!(remedy.starts_with("Did you mean `command`?"), "{remedy}");
    let (_, remedy) = mistake("frobnicate = 1");
    assert!(remedy.starts_with("Remove it; the keys are `command`, "), "{remedy}");
}

#[test]
fn the_operators_keys_are_refused_with_that_files_name() {
    for key in
        ["max", "user", "group", "max_idle", "host", "path", "root", "min", "memory", "memory_max", "limit_as", "nice"]
    {
        let (problem, _) = mistake(&format!("command = \"x\"\n{key} = 1"));
        let expected = format!("hatchery.toml, line 2, column 1: `{key}` belongs in pool.toml, the operator's file");
        assert_eq!(problem, expected);
    }
}

#[test]
fn a_type_can_come_with_entry_interpreter_and_preload() {
    let manifest = parse(
        "type = \"wsgi\"\nentry = \"shop.wsgi:application\"\ninterpreter = \"python3.12 -X dev\"\npreload = false\n\
         ready = \"notify\"\nconcurrency = 4\n",
    )
    .unwrap();
    assert_eq!((manifest.kind, manifest.entry.as_deref()), (Some(Kind::Wsgi), Some("shop.wsgi:application")));
    assert_eq!(manifest.interpreter.as_ref().unwrap(), &["python3.12", "-X", "dev"]);
    assert_eq!((manifest.preload, manifest.ready), (Some(false), Some(ReadyBy::Notify)));
    assert_eq!((manifest.concurrency, manifest.starts()), (Some(4), true));
    for kind in KINDS.values {
        assert_eq!(parse(&format!("type = {:?}", kind.name())).unwrap().kind, Some(*kind));
        assert!(!kind.title().is_empty());
    }
}

#[test]
fn what_contradicts_or_means_nothing_is_told_where_it_stands() {
    for (text, problem) in [
        ("command = \"x\"\ntype = \"wsgi\"", "line 2, column 1: `command` and `type` both say how the app is started"),
        ("type = \"wsgi\"\ncommand = \"x\"", "line 2, column 1: `command` and `type` both say how the app is started"),
        ("entry = \"a\"", "line 1, column 1: `entry` means nothing without `type`"),
        ("command = \"x\"\ninterpreter = \"a\"", "line 2, column 1: `interpreter` means nothing without `type`"),
        ("preload = true", "line 1, column 1: `preload` means nothing without `type`"),
        (
            "type = \"rack\"\nprotocol = \"http\"",
            "line 2, column 1: `protocol` can't be said of an app of `type = \"rack\"`",
        ),
        ("listen = \"fd\"\ntype = \"php\"", "line 1, column 1: `listen` can't be said of an app of `type = \"php\"`"),
        ("type = \"node\"\npreload = true", "line 2, column 1: `preload` can't be said of an app of `type = \"node\"`"),
        ("type = \"wsig\"", "line 1, column 8: `wsig` is no `type`"),
        ("type = \"wsgi\"\nentry = 3", "line 2, column 9: `entry` must be a string, and is an integer"),
        ("type = \"wsgi\"\nentry = \"\"", "line 2, column 9: `entry` is empty"),
        ("type = \"wsgi\"\nentry = \"a\\u0000\"", "line 2, column 9: `entry` contains a null byte"),
        ("type = \"wsgi\"\ninterpreter = []", "line 2, column 15: `interpreter` is empty"),
        (
            "type = \"wsgi\"\npreload = \"no\"",
            "line 2, column 11: `preload` must be `true` or `false`, and is a string",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.to_string(), format!("hatchery.toml, {problem}"), "{text}");
        assert!(!error.what.remedy().is_empty());
    }
    assert!(mistake("type = \"wsig\"").1.starts_with("Did you mean `type = \"wsgi\"`?"));
    assert!(mistake("interpeter = \"x\"").1.starts_with("Did you mean `interpreter`?"));
}

#[test]
fn what_is_written_is_read_as_the_same() {
    let everything = Manifest {
        command: Some(vec!["a b".into(), "\"quoted\" \\ 'x'\n".into()]),
        protocol: Some(SessionProtocol::Fastcgi),
        listen: Some(Listen::Port),
        ready: Some(ReadyBy::Notify),
        concurrency: Some(0),
        env: vec![("A".into(), "1\t".into()), ("with blank.dot".into(), "é'\"".into())],
        ..Manifest::default()
    };
    let typed = Manifest {
        kind: Some(Kind::Asgi),
        entry: Some("a.py:create_app()".into()),
        interpreter: Some(vec!["python3".into(), "-O".into()]),
        preload: Some(true),
        ..Manifest::default()
    };
    for manifest in [everything, typed, Manifest::default()] {
        assert_eq!(parse(&written(&manifest)).unwrap(), manifest, "{}", written(&manifest));
    }
}

#[test]
fn mistakes_are_told_with_their_line() {
    for (text, problem) in [
        ("command = 3", "line 1, column 11: `command` must be a string or an array of strings, and is an integer"),
        ("command = [\"a\", 1]", "line 1, column 17: `command` must be an array of strings, and is an integer"),
        ("command = []", "line 1, column 11: `command` is empty"),
        ("command = \"\"", "line 1, column 11: `command` is empty"),
        ("command = [\"\", \"x\"]", "line 1, column 11: `command` is empty"),
        ("command = \"a 'b\"", "line 1, column 11: `command` has an opening quote without its end"),
        ("command = \"a\\u0000\"", "line 1, column 11: `command` contains a null byte"),
        ("protocol = \"htpp\"", "line 1, column 12: `htpp` is no `protocol`"),
        ("listen = 3", "line 1, column 10: `listen` must be a string, and is an integer"),
        ("ready = true", "line 1, column 9: `ready` must be a string, and is a boolean"),
        ("concurrency = \"1\"", "line 1, column 15: `concurrency` must be an integer, and is a string"),
        ("concurrency = 1.5", "line 1, column 15: `concurrency` must be an integer, and is a float"),
        ("concurrency = -1", "line 1, column 15: `concurrency` must be between 0 and 100000, and is -1"),
        ("concurrency = 100001", "line 1, column 15: `concurrency` must be between 0 and 100000, and is 100001"),
        ("env = []", "line 1, column 7: `env` must be a table of strings, and is an array"),
        ("[env]\nA = 1", "line 2, column 5: `env.A` must be a string, and is an integer"),
        ("[env]\nPORT = \"1\"", "line 2, column 1: `env.PORT`: the environment variable is Hatchery's own to set"),
        (
            "[env]\n\"A=B\" = \"1\"",
            "line 2, column 1: `env.A=B`: the name of an environment variable contains `=` or a null byte",
        ),
        ("[env]\n\"\" = \"1\"", "line 2, column 1: `env.`: an environment variable has an empty name"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.to_string(), format!("hatchery.toml, {problem}"), "{text}");
        assert!(!error.what.remedy().is_empty());
    }
}

#[test]
fn broken_toml_is_told_with_its_line() {
    let (problem, _) = mistake("command = \"x\"\nprotocol = \n");
    assert!(problem.starts_with("hatchery.toml, line 2, column "), "{problem}");
    assert!(mistake("command = 1\ncommand = 2").0.contains("duplicate key"));
    assert!(!mistake("\u{0}").0.is_empty());
}
