use super::*;
use std::time::Duration;

fn parse(text: &str) -> Result<OperatorsFile, Problems> {
    OperatorsFile::parse(text, Path::new("/etc/hatchery")).map_err(|list| Problems::new(Path::new("pool.toml"), list))
}

fn wrong(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn a_whole_file_is_read() {
    let file = parse(
        "[pool]\nmax = 40\nlisten = [\":80\", \"unix:web.sock\"]\nlog_file = \"../log\"\nfair_wait = 1.5\n\
         [defaults]\nmax_idle = \"10m\"\nno_new_privs = true\nenv = { A = \"b\" }\n\
         [[app]]\nhost = \"Shop.Example\"\npath = \"/a/\"\nroot = \"shop\"\nname = \"shop\"\nmax_memory = 1_048_576\numask = 0o027\n\
         cpu_max = 1.5\nrequired = [\"umask\"]\nnice = -5\n[app.env]\nC = \"d\"\n[[app]]\nroot = \"/srv/site/\"\n",
    )
    .unwrap();
    assert_eq!((file.pool.max, file.pool.fair_wait), (Some(40), Some(Duration::from_millis(1500))));
    assert_eq!(file.pool.listen.unwrap(), [":80", "unix:/etc/hatchery/web.sock"]);
    assert_eq!(file.pool.log_file.as_deref(), Some("/etc/log"));
    assert_eq!((file.defaults.max_idle, file.defaults.no_new_privs), (Some(Duration::from_secs(600)), Some(true)));
    assert_eq!(file.defaults.env, [("A".to_owned(), "b".to_owned())]);
    let [shop, site] = &file.apps[..] else { panic!("two apps") };
    assert_eq!(
        (shop.host.as_deref(), &*shop.prefix, &*shop.root),
        (Some("shop.example"), "/a", Path::new("/etc/hatchery/shop"))
    );
    assert_eq!(
        (shop.options.max_memory, shop.options.umask, shop.options.cpu_max),
        (Some(1 << 20), Some(0o27), Some(1500))
    );
    assert_eq!((shop.options.nice, shop.options.env.len(), shop.name.as_deref()), (Some(-5), 1, Some("shop")));
    assert_eq!((&site.host, &*site.prefix, &*site.root), (&None, "", Path::new("/srv/site")));
}

#[test]
fn an_unknown_key_is_told_where_it_is_and_what_was_meant() {
    for (text, said) in [
        ("[defaults]\n\n  max_ilde = \"5m\"", "pool.toml:3:3: unknown key `max_ilde`; did you mean `max_idle`?"),
        ("[pool]\nmax-queue-totl = 5", "pool.toml:2:1: unknown key `max-queue-totl`; did you mean `max_queue_total`?"),
        ("[[app]]\nrot = \"/srv\"", "pool.toml:2:1: unknown key `rot`; did you mean `root`?"),
        ("[pools]\nmax = 5", "pool.toml:1:2: unknown key `pools`; did you mean `pool`?"),
        ("[pool]\nmin_uld = 5", "pool.toml:2:1: unknown key `min_uld`; did you mean `min_uid`?"),
        (
            "[pool]\nmax_lifetme = 5",
            "pool.toml:2:1: unknown key `max_lifetme`; did you mean `max_lifetime`, in [defaults]?",
        ),
        (
            "[pool]\nsomething_else = 5",
            "pool.toml:2:1: unknown key `something_else`; docs/configuration.md lists those that there are",
        ),
    ] {
        let problems = wrong(text);
        assert!(problems.lines().any(|line| line == said), "{said} is not in {problems}");
    }
}

#[test]
fn a_key_in_the_wrong_place_is_told_its_own() {
    for (text, said) in [
        ("[defaults]\nmax = 5", "pool.toml:2:1: `max` belongs into [pool], not into [defaults]"),
        (
            "[[app]]\nroot = \"/s\"\nlisten = \":80\"",
            "pool.toml:3:1: `listen` belongs into [pool], not into an [[app]]",
        ),
        ("[pool]\nmin = 5", "pool.toml:2:1: `min` belongs into [defaults] or an [[app]], not into [pool]"),
        (
            "max_idle = 5",
            "pool.toml:1:1: `max_idle` belongs into [defaults] or an [[app]], not into the top of the file",
        ),
        ("[defaults]\nroot = \"/s\"", "pool.toml:2:1: `root` belongs into an [[app]], not into [defaults]"),
        (
            "[[app]]\nroot = \"/s\"\ncommand = \"x\"",
            "pool.toml:3:1: `command` belongs into the application's hatchery.toml, not into an [[app]]",
        ),
    ] {
        assert_eq!(wrong(text), said);
    }
}

#[test]
fn a_value_of_another_type_is_told_what_it_has_to_be() {
    for (text, said) in [
        ("[pool]\nmax = \"6\"", "pool.toml:2:7: `max` must be a whole number, such as 6, and is a text"),
        (
            "[defaults]\nmax_memory = true",
            "`max_memory` must be a size, such as \"512M\" or a number of bytes, and is true or false",
        ),
        ("[defaults]\nno_new_privs = \"yes\"", "`no_new_privs` must be true or false, without quotes, and is a text"),
        ("[defaults]\numask = 22", "`umask` must be a mask, such as \"022\", and is a whole number"),
        ("[pool]\napps_under = [1]", "and is an array of something else"),
        ("[defaults]\nenv = { A = 1 }", "`env.A` must be a text in quotes, and is a whole number"),
        ("[defaults]\nmax_idle = [1]", "and is an array"),
        ("[app]\nroot = \"/s\"", "`app` must be written [[app]], in double brackets, and is a table"),
        ("pool = 1", "`pool` must be a table, in brackets, and is a whole number"),
        ("[[app]]\nroot = 1", "`root` must be a text in quotes, and is a whole number"),
        ("[pool]\nlog_file = 1979-05-27", "and is a date"),
    ] {
        let problems = wrong(text);
        assert!(problems.contains(said), "{problems}");
    }
}

#[test]
fn a_value_that_makes_no_sense_is_told_why_where_it_stands() {
    for (text, said) in [
        ("[defaults]\nmax_idle = \"soon\"", "pool.toml:2:12: `max_idle`: `soon` is no length of time"),
        ("[pool]\nmax = 0", "pool.toml:2:7: max is 0: a pool without workers serves nobody"),
        ("[pool]\nmax = -1", "pool.toml:2:7: `max`: `-1` is no whole number"),
        ("[pool]\nlisten = \"example.org:80\"", "pool.toml:2:10: `example.org:80` is no place to listen"),
        ("[pool]\nlog_format = \"xml\"", "pool.toml:2:14: log_format can be text or json"),
        ("[defaults]\nnice = 50", "pool.toml:2:1: nice is out of range"),
        ("[defaults]\nmin = 1\nmax_queue = 0", "pool.toml:3:1: max_queue is 0"),
        ("[defaults]\nenvironment = \"\"", "pool.toml:2:1: environment has to be a word"),
        (
            "[[app]]\nroot = \"/s\"\nrequired = [\"memory_max\"]",
            "pool.toml:3:1: required names memory_max, which is not set",
        ),
        ("[[app]]\npath = \"blog\"\nroot = \"/s\"", "pool.toml:2:8: `blog` is no path prefix"),
        ("[[app]]\nhost = \"a:80\"\nroot = \"/s\"", "pool.toml:2:8: `a:80` has a port"),
        ("[[app]]\nhost = \"a\"", "pool.toml:1:1: an [[app]] needs a `root`"),
        ("[[app]]\nroot = \"/s\"\nname = \"\"", "pool.toml:3:8: `name` is empty"),
    ] {
        let problems = wrong(text);
        assert!(problems.starts_with(said), "{problems}");
        assert_eq!(problems.lines().count(), 1, "{problems}");
    }
}

#[test]
fn what_an_app_requires_may_be_set_by_the_defaults_wherever_they_stand() {
    parse("[[app]]\nroot = \"/s\"\nrequired = [\"memory_max\"]\n[defaults]\nmemory_max = \"1G\"").unwrap();
}

#[test]
fn all_mistakes_are_told_in_the_order_of_the_file() {
    let problems = wrong("[defaults]\nmin = \"x\"\nnonsense = 1\n[pool]\nmax = 0\n[[app]]\npath = \"x\"\n[zebra]\n");
    let places: Vec<&str> = problems.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        places,
        ["pool.toml:2:7", "pool.toml:3:1", "pool.toml:5:7", "pool.toml:7:8", "pool.toml:8:2"],
        "{problems}"
    );
}

#[test]
fn what_is_no_toml_is_told_and_nothing_else() {
    let problems = wrong("[pool\nmax = 1\nmax = 2\nnonsense = 1");
    assert!(problems.starts_with("pool.toml:1:"), "{problems}");
    assert!(!problems.contains("nonsense"), "{problems}");
    assert!(wrong("[pool]\nmax = 1\nmax = 2").starts_with("pool.toml:3:1: duplicate key"));
}

#[test]
fn applications_do_not_share_what_tells_them_apart() {
    let two = |first: &str, second: &str| format!("[[app]]\nroot = \"/a\"\n{first}\n[[app]]\n{second}\n");
    for (text, said) in [
        (
            two("host = \"a\"", "root = \"/b\"\nhost = \"A\""),
            "pool.toml:4:1: another [[app]] is served at a/ already, in line 1",
        ),
        (
            two("name = \"x\"", "root = \"/b\"\npath = \"/b\"\nname = \"x\""),
            "another [[app]] is called x already, in line 1",
        ),
        (two("path = \"/1\"", "root = \"/a\"\nmin = 1"), "/a is an application of this file since line 1"),
    ] {
        let problems = wrong(&text);
        assert!(problems.contains(said), "{problems}");
    }
    assert_eq!(parse(&two("min = 1", "root = \"/a/\"\nhost = \"b\"")).unwrap().apps.len(), 2);
}

#[test]
fn a_file_that_is_not_there_or_names_what_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool.toml");
    assert!(OperatorsFile::read(&path).unwrap_err().to_string().contains("pool.toml: can't be read: No such file"));
    assert!(OperatorsFile::read(folder.path()).unwrap_err().to_string().ends_with("is no file"));
    std::fs::write(&path, "[[app]]\nroot = \"shop\"\n").unwrap();
    let said = OperatorsFile::read(&path).unwrap_err().to_string();
    let root = folder.path().join("shop");
    assert_eq!(
        said,
        format!("{}:2:8: {} does not exist; correct `root`, or take this [[app]] out", path.display(), root.display())
    );
    std::fs::create_dir(&root).unwrap();
    assert_eq!(OperatorsFile::read(&path).unwrap().apps[0].root, root);
}

#[test]
fn tenants_are_read_wherever_they_stand() {
    let file = parse(
        "[[app]]\nroot = \"/srv/shop\"\ntenant = \"acme\"\n[defaults]\ntenant = \"blue\"\n\
         [[tenant]]\nname = \"acme\"\nmax = 4\nmax_memory = \"2G\"\nuser = \"acme-web\"\n[[tenant]]\nname = \"blue\"\n",
    )
    .unwrap();
    let [acme, blue] = &file.tenants[..] else { panic!("two tenants") };
    assert_eq!((acme.name.as_str(), acme.options.max, acme.options.max_memory), ("acme", Some(4), Some(2 << 30)));
    assert_eq!((blue.name.as_str(), &blue.options.user), ("blue", &None));
    assert_eq!(file.apps[0].options.tenant.as_deref(), Some("acme"));
}

#[test]
fn what_is_wrong_with_a_tenant_is_told_where_it_stands() {
    for (text, said) in [
        ("[[tenant]]\nmax = 4", "pool.toml:1:1: a [[tenant]] needs a `name`"),
        (
            "[tenant]\nname = \"a\"",
            "pool.toml:1:2: `tenant` must be written [[tenant]], in double brackets, and is a table",
        ),
        ("[[tenant]]\nname = \"a\"\nmx = 4", "pool.toml:3:1: unknown key `mx`; did you mean `max`?"),
        (
            "[[tenant]]\nname = \"a\"\nmin = 4",
            "pool.toml:3:1: `min` belongs into [defaults] or an [[app]], not into a [[tenant]]",
        ),
        ("[[tenant]]\nname = \"a b\"", "pool.toml:2:8: `name` of a [[tenant]] has to be one word"),
        (
            "[[tenant]]\nname = \"a\"\n[[tenant]]\nname = \"a\"",
            "pool.toml:3:1: another [[tenant]] is called a already, in line 1",
        ),
        (
            "[[tenant]]\nname = \"acme\"\n[[app]]\nroot = \"/s\"\ntenant = \"amce\"",
            "pool.toml:5:10: there is no [[tenant]] called `amce`; did you mean `acme`?",
        ),
        (
            "[defaults]\ntenant = \"acme\"",
            "pool.toml:2:10: there is no [[tenant]] called `acme`: write one into pool.toml",
        ),
    ] {
        assert_eq!(wrong(text), said);
    }
}
