//! The live page, in a real Chromium; and what keeps everybody else from what it shows and does.

mod support;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use support::apps::{self, App};
use support::front::{self, Front};
use support::http::{Answer, Browser};
use support::live_page::LivePage;
use support::{has, processes, runtimes, until_blocking};
use tempfile::TempDir;

/// A tab of a headless Chromium.
struct Tab {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    _profile: TempDir,
}

impl Tab {
    /// `None`: the test is to be skipped.
    fn new() -> Option<Self> {
        let test = "the live page in a browser";
        if !has("chromium", test) || !has("node", test) {
            return None;
        }
        let packages = runtimes::node(test, &["playwright-core@1"])?;
        let profile = tempfile::tempdir().expect("a temporary folder");
        let mut child = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/drive.mjs"))
            .env("PACKAGES", packages)
            .env("PROFILE", profile.path())
            .env("CHROMIUM", "/usr/bin/chromium")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node");
        let (orders, answers) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Some(Self { child, orders, answers: BufReader::new(answers), _profile: profile })
    }

    fn order(&mut self, order: &str, argument: impl Into<Value>) -> Value {
        writeln!(self.orders, "{}", json!([order, argument.into()])).expect("the browser listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        assert!(answer["error"].is_null(), "{order}: {}", answer["error"].as_str().unwrap_or_default());
        answer["value"].clone()
    }

    fn open(&mut self, page: &LivePage) {
        self.order("open", page.url());
        self.until("document.getElementById('link').textContent === 'live'");
    }

    fn until(&mut self, script: &str) {
        self.order("until", script);
    }

    fn until_text(&mut self, selector: &str, text: &str) {
        self.until(&format!("(document.querySelector({selector:?})?.innerText ?? '').includes({text:?})"));
    }

    fn tell(&mut self, script: &str) -> Value {
        self.order("tell", script)
    }

    fn press(&mut self, key: &str) {
        self.order("press", key);
    }

    /// Nothing went wrong, and nobody else was asked for anything.
    fn close(mut self, page: &LivePage) {
        assert_eq!(self.order("problems", Value::Null), json!([]));
        assert_eq!(self.order("asked", Value::Null), json!([format!("http://{}", page.address)]));
        drop(self.orders);
        self.child.wait().expect("node");
    }
}

fn serve(app: &App, further: &[&str]) -> (Front, LivePage) {
    let mut front = Front::of(app.root(), &[&["--admin-http", "0"], further].concat());
    let page = LivePage::of(&mut front);
    (front, page)
}

fn workers(front: &Front) -> Vec<(u64, i32)> {
    let status = front.status();
    let workers = status["apps"][0]["workers"].as_array().cloned().unwrap_or_default();
    workers.iter().map(|w| (w["id"].as_u64().unwrap(), w["pid"].as_i64().unwrap().try_into().unwrap())).collect()
}

fn name(app: &App) -> String {
    app.root().file_name().unwrap().to_str().unwrap().to_owned()
}

/// A worker's cell in the list of an opened application.
fn worker_shown(id: u64) -> String {
    format!(
        "[...document.querySelectorAll('#detail table[aria-label=\"Workers\"] tbody tr')].some(r => r.cells[0].textContent === '{id}')"
    )
}

#[test]
fn a_restart_and_a_killed_worker_are_seen_as_they_happen() {
    let Some(mut tab) = Tab::new() else { return };
    let app = apps::worker();
    let (front, page) = serve(&app, &["--max", "2", "--admin-http-actions"]);
    assert_eq!(front.get("/").status, 200);
    tab.open(&page);
    tab.order("click", "#rows button");
    let (old, _) = workers(&front)[0];
    tab.until(&worker_shown(old));
    tab.order("click", "#detail .tools button:nth-child(1)");
    tab.until_text("#done", "done");
    let new = until_blocking("a new worker", || workers(&front).into_iter().find(|(id, _)| *id != old));
    tab.until(&format!("{} && !{}", worker_shown(new.0), worker_shown(old)));
    tab.until_text("#events", "restart_done");
    processes::kill(new.1, Signal::SIGKILL);
    tab.until_text("#records summary", &format!("worker {}", new.0));
    tab.until_text("#events", "worker_died");
    tab.until(&format!("!{}", worker_shown(new.0)));
    tab.close(&page);
    assert!(front.end().success());
}

#[test]
fn a_queue_grows_and_shrinks_and_the_stuck_request_is_found_and_ended() {
    let Some(mut tab) = Tab::new() else { return };
    let app = apps::worker();
    let (front, page) = serve(&app, &["--max", "1", "--admin-http-actions"]);
    tab.open(&page);
    let never = app.root().join("never");
    let mut stuck = front.browser();
    stuck.ask("GET", &format!("/until?{}", never.display()), "");
    front.until("active", 1);
    let mut queue: Vec<Browser> = (0..3).map(|_| front.browser()).collect();
    queue.iter_mut().for_each(|browser| browser.ask("GET", "/pid", ""));
    tab.until("document.querySelector('#rows tr')?.cells[3].innerText.startsWith('3 (oldest')");
    // Two clicks: the application, and there it is.
    tab.order("click", "#rows button");
    let sessions = "#detail table[aria-label^=\"Sessions\"] tbody tr";
    tab.until_text(sessions, &format!("GET /until?{} from 127.0.0.1", never.display()));
    tab.order("click", format!("{sessions} button"));
    tab.until_text(&format!("{sessions} button"), "Sure?");
    tab.order("click", format!("{sessions} button"));
    assert_eq!(stuck.answer().status, 503);
    // Its worker never looks up, and is not waited for.
    queue.iter_mut().for_each(|browser| assert_eq!(browser.answer().status, 200));
    tab.until("document.querySelector('#rows tr')?.cells[3].innerText === '0'");
    tab.until_text("#detail", "No session is open.");
    tab.close(&page);
    assert!(front.end().success());
}

/// What would run if it were taken for anything but text.
const HOSTILE: &str = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>";

#[test]
fn a_failed_start_is_shown_with_its_output_and_what_apps_say_is_text() {
    let Some(mut tab) = Tab::new() else { return };
    let folder = tempfile::Builder::new().prefix("<b onclick=alert(1)>").tempdir().unwrap();
    apps::open_to_all(folder.path());
    apps::give(folder.path(), apps::NOBODY);
    for (file, content) in [
        ("hatchery.toml", "command = [\"sh\", \"start.sh\"]\n".to_owned()),
        ("start.sh", format!("echo \"{HOSTILE}\" >&2\nexit 3\n")),
    ] {
        std::fs::write(folder.path().join(file), content).unwrap();
        apps::give(&folder.path().join(file), apps::NOBODY);
    }
    let mut front = Front::of(folder.path(), &["--admin-http", "0", "--max", "1"]);
    let page = LivePage::of(&mut front);
    assert_eq!(front.get(&format!("/{}", "%3Cimg%20src=x%20onerror=alert(1)%3E")).status, 502);
    tab.open(&page);
    tab.until_text("#attention summary", "<b onclick=alert(1)>");
    tab.order("click", "#attention summary");
    tab.until_text("#attention pre", HOSTILE);
    tab.order("click", "#rows button");
    tab.until_text("#detail div > pre", HOSTILE);
    tab.until_text("#events", "spawn_failed");
    assert_eq!(tab.tell("document.title"), "Hatchery");
    assert_eq!(tab.tell("document.querySelectorAll('main img, main script, main b[onclick]').length"), 0);
    assert_eq!(tab.tell("document.querySelectorAll('#detail .tools button').length"), 0, "no actions are allowed");
    tab.close(&page);
    assert!(front.end().success());
}

#[test]
fn everything_is_reached_by_keys_and_light_and_dark_can_be_read() {
    let Some(mut tab) = Tab::new() else { return };
    let others: Vec<App> = (0..3).map(|_| apps::worker()).collect();
    let hosts = others.iter().enumerate().map(|(n, app)| format!("--app=app{n}.test={}", app.root().display()));
    let mut front = Front::serve(hosts.chain(["--admin-http".to_owned(), "0".to_owned()]));
    let page = LivePage::of(&mut front);
    for number in 0..2 {
        let mut browser = front.browser();
        browser.send(format!("GET / HTTP/1.1\r\nHost: app{number}.test\r\n\r\n"));
        assert_eq!(browser.answer().status, 200);
    }
    tab.open(&page);
    tab.until("document.querySelectorAll('#rows tr').length === 2");
    let focused = "document.activeElement";
    tab.press("/");
    assert_eq!(tab.tell(&format!("{focused}.id")), "filter");
    tab.order("type", name(&others[2]));
    tab.until("document.querySelectorAll('#rows tr').length === 1");
    tab.press("Escape");
    tab.until("document.querySelectorAll('#rows tr').length === 2");
    tab.press("Tab");
    assert_eq!(tab.tell(&format!("{focused}.id")), "idle");
    tab.until("document.activeElement.textContent === 'show idle (1)'");
    tab.press("Enter");
    tab.until("document.querySelectorAll('#rows tr').length === 3");
    tab.press("Tab");
    assert_eq!(tab.tell(&format!("{focused}.closest('tr').rowIndex")), 1);
    assert_ne!(tab.tell(&format!("getComputedStyle({focused}).outlineStyle")), "none", "the focus is seen");
    tab.press("ArrowDown");
    assert_eq!(tab.tell(&format!("{focused}.closest('tr').rowIndex")), 2);
    tab.press("Enter");
    tab.until("!document.getElementById('detail').hidden && document.activeElement.id === 'detail-title'");
    tab.press("Escape");
    tab.until("document.getElementById('detail').hidden && document.activeElement.closest('tr')?.rowIndex === 2");
    let mut reached = Vec::new();
    while reached.len() < 12 && reached.last().is_none_or(|id: &String| id != "events") {
        tab.press("Tab");
        reached.push(tab.tell(&format!("{focused}.id")).as_str().unwrap_or_default().to_owned());
    }
    assert!(reached.ends_with(&["event-filter".into(), "event-level".into(), "events".into()]), "{reached:?}");
    for scheme in ["light", "dark"] {
        tab.order("look", scheme);
        let low = tab.tell(CONTRAST);
        assert_eq!(low, json!([]), "{scheme}");
    }
    tab.close(&page);
    assert!(front.end().success());
}

/// Texts whose colour is too near to what is behind them (WCAG AA: 4.5).
const CONTRAST: &str = "(() => {
    const light = (colour) => {
        const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((part) => {
            const value = part / 255;
            return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            if (!colour.startsWith('rgba(0, 0, 0, 0')) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    return [...document.querySelectorAll('body *')].filter((element) =>
        [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()) && element.checkVisibility()
    ).map((element) => {
        const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
        return [(a + 0.05) / (b + 0.05), element.textContent];
    }).filter(([contrast]) => contrast < 4.5);
})()";

#[test]
fn many_applications_stay_smooth() {
    let Some(mut tab) = Tab::new() else { return };
    let app = apps::worker();
    let (front, page) = serve(&app, &["--max", "1"]);
    tab.open(&page);
    // The page's own functions, with what a large pool would say.
    let longest = tab.tell(
        "(() => {
            const app = (n) => ({ root: `/srv/app${n}`, name: `app${n}`, tenant: null, state: n < 200 ? 'running' : 'idle',
                limit: null, disabled: null, generation: 1, restart: null, waiting: 0, oldest_wait_s: null, served: n,
                memory_bytes: 1e7, cpu_s: 1, failure: null, preloaders: [],
                workers: n < 200 ? [{ id: n, state: 'ready', open: [], doing: [] }] : [] });
            const whole = { ...status, apps: Array.from({ length: 1000 }, (_, n) => app(n)) };
            const times = [];
            for (let round = 0; round < 10; round++) {
                status = structuredClone(whole);
                for (let n = round; n < 200; n += 10) status.apps[n].served += 1000 * (round + 1);
                const begun = performance.now();
                showStatus();
                document.body.offsetHeight;
                times.push(performance.now() - begun);
            }
            return { rows: document.querySelectorAll('#rows tr').length, idle: document.getElementById('idle').textContent,
                later: Math.max(...times.slice(1)) };
        })()",
    );
    assert_eq!((&longest["rows"], &longest["idle"]), (&json!(200), &json!("show idle (800)")));
    // A frame of a loaded machine that draws without a graphics card; what it takes elsewhere is a tenth of it.
    assert!(longest["later"].as_f64().unwrap() < 250.0, "{longest}");
    tab.close(&page);
    assert!(front.end().success());
}

/// How long a pool of this size may take is generous here; `cargo bench -- many` measures it.
#[test]
fn a_real_pool_of_a_thousand_applications_is_watched_while_two_hundred_run() {
    let Some(mut tab) = Tab::new() else { return };
    let (worker, folder) = (apps::worker(), tempfile::tempdir().unwrap());
    apps::open_to_all(folder.path());
    let manifest = std::fs::read_to_string(worker.root().join("hatchery.toml")).unwrap();
    let mut file = "[pool]\nmax = 200\n[defaults]\nmax_idle = \"never\"\n".to_owned();
    for number in 0..1_000 {
        let root = folder.path().join(format!("app-{number}"));
        std::fs::create_dir(&root).unwrap();
        apps::open_to_all(&root);
        let path = root.join("hatchery.toml");
        std::fs::write(&path, &manifest).unwrap();
        [&root, &path].into_iter().for_each(|path| apps::give(path, apps::NOBODY));
        file += &format!("[[app]]\nhost = \"app-{number}.localhost\"\nroot = {root:?}\n");
    }
    let config = folder.path().join("pool.toml");
    std::fs::write(&config, file).unwrap();
    let mut front = Front::serve(["--admin-http", "0", "--config", config.to_str().unwrap()]);
    let page = LivePage::of(&mut front);
    for number in 0..200 {
        let mut browser = front.browser();
        browser.send(format!("GET /pid HTTP/1.1\r\nHost: app-{number}.localhost\r\nConnection: close\r\n\r\n"));
        assert_eq!(browser.answer().status, 200, "application {number}");
    }
    assert_eq!(front.status()["count"], 200);
    tab.open(&page);
    tab.until("document.querySelectorAll('#rows tr').length === 200");
    // Frames while ten reports come in, and requests keep changing what they say.
    tab.tell("(() => { window.gaps = []; let last = performance.now(); const next = (now) => { gaps.push(now - last); last = now; requestAnimationFrame(next); }; requestAnimationFrame(next); })()");
    for number in 0..50 {
        let mut browser = front.browser();
        browser.send(format!("GET /pid HTTP/1.1\r\nHost: app-{}.localhost\r\nConnection: close\r\n\r\n", number * 4));
        assert_eq!(browser.answer().status, 200);
        tab.until(&format!("gaps.length > {}", number * 4));
    }
    let longest = tab.tell("Math.max(...gaps.slice(1))").as_f64().unwrap();
    assert!(longest < 1_000.0, "the page stood still for {longest} ms");
    assert_eq!(page.series()["hatchery_pool_max_workers"], 200.0);
    let pool = front.pool();
    let memory: u64 = processes::marked("HATCHERY_POOL", &pool).into_iter().map(own_memory).sum();
    assert!(memory < 30 << 10, "keeper, core and spawner have {memory} KiB of their own");
    tab.close(&page);
    assert!(front.end().success());
}

/// What a process has that no file has, in KiB.
fn own_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
#[ignore = "writes the pictures of the docs; run it with HATCHERY_WRITE_DOCS=1"]
fn pictures_for_the_docs() {
    if std::env::var_os("HATCHERY_WRITE_DOCS").is_none() {
        return;
    }
    let Some(mut tab) = Tab::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    apps::open_to_all(folder.path());
    let worker = apps::worker_with("concurrency = 1", &[]);
    let mut words =
        vec!["--admin-http".to_owned(), "0".into(), "--max".into(), "6".into(), "--max-per-app".into(), "2".into()];
    for app in ["shop", "blog", "wiki", "reports"] {
        let root = folder.path().join(app);
        std::fs::create_dir(&root).unwrap();
        apps::open_to_all(&root);
        apps::give(&root, apps::NOBODY);
        let manifest = root.join("hatchery.toml");
        let broken = "command = [\"sh\", \"-c\", \"echo 'no database at db.internal:5432' >&2; exit 1\"]\n";
        let text = std::fs::read_to_string(worker.root().join("hatchery.toml")).unwrap();
        std::fs::write(&manifest, if app == "reports" { broken.to_owned() } else { text }).unwrap();
        apps::give(&manifest, apps::NOBODY);
        words.extend(["--app".into(), format!("{app}.test={}", root.display())]);
    }
    let mut front = Front::serve(words);
    let page = LivePage::of(&mut front);
    tab.open(&page);
    let ask = |host: &str, path: &str| {
        let mut browser = front.browser();
        browser.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        browser
    };
    assert_eq!(ask("reports.test", "/").answer().status, 502);
    let never = folder.path().join("never");
    let _open: Vec<Browser> = (0..3).map(|n| ask("shop.test", &format!("/until?{}#{n}", never.display()))).collect();
    let by = std::time::Instant::now() + std::time::Duration::from_secs(45);
    let mut round = 0_u64;
    while std::time::Instant::now() < by {
        round += 1;
        for host in ["blog.test", "wiki.test"] {
            let path = format!("/sleep?{}", 2 + (round * 7) % 23);
            assert_eq!(ask(host, &path).answer().status, 200);
        }
    }
    tab.tell("openApp(status.apps.find((app) => app.name === 'shop').root)");
    tab.until_text("#detail", "GET /until");
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    std::fs::create_dir_all(&images).unwrap();
    for scheme in ["light", "dark"] {
        tab.order("look", scheme);
        tab.tell("window.scrollTo(0, 0)");
        tab.order("shoot", images.join(format!("page-{scheme}.png")).to_str().unwrap());
    }
    front.signal(Signal::SIGKILL);
}

/// An action, said by somebody with these headers.
fn act(page: &LivePage, headers: &str, words: &Value) -> Answer {
    let body = words.to_string();
    let mut browser = Browser::to(&page.address);
    let token = &page.token;
    browser.ask(
        "POST",
        "/api/do",
        &format!("Authorization: Bearer {token}\r\nContent-Length: {}\r\n{headers}", body.len()),
    );
    browser.send(&body);
    browser.answer()
}

/// The random word of a page.
fn csrf(page: &LivePage) -> String {
    let text = page.get(&format!("/?token={}", page.token)).ok();
    let (_, rest) = text.split_once("name=\"hatchery-csrf\" content=\"").expect("a word");
    rest.split('"').next().unwrap().to_owned()
}

#[test]
fn an_action_needs_the_pages_own_word_and_no_other_sites_page_can_say_it() {
    let app = apps::worker();
    let (front, page) = serve(&app, &["--max", "1", "--admin-http-actions"]);
    let stop = json!({ "do": "stop", "root": app.root() });
    let own = format!("Content-Type: application/json\r\nX-Hatchery-CSRF: {}\r\n", csrf(&page));
    for (headers, status) in [
        ("Content-Type: application/json\r\n".to_owned(), 403),
        (own.replace("application/json", "text/plain"), 415),
        (format!("{own}Origin: http://evil.example\r\n"), 403),
        (format!("{own}Origin: null\r\n"), 403),
        (format!("{own}Sec-Fetch-Site: cross-site\r\n"), 403),
    ] {
        let answer = act(&page, &headers, &stop);
        assert_eq!(answer.status, status, "{headers}: {answer:?}");
        assert!(!answer.headers.keys().any(|name| name.starts_with("access-control-")), "{answer:?}");
    }
    assert_eq!(front.get("/").status, 200, "nothing was done");
    let answer = act(&page, &format!("{own}Origin: http://localhost\r\nSec-Fetch-Site: same-origin\r\n"), &stop);
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"ok\":true}"));
    assert_eq!(front.get("/").status, 503);
    assert_eq!(act(&page, &own, &json!({ "do": "end", "session": 4711 })).status, 409);
    assert_eq!(act(&page, &own, &json!({ "do": "shutdown" })).status, 400);
    assert_eq!(act(&page, &own, &json!({ "do": "x".repeat(70_000) })).status, 413);
    assert!(front.end().success());
}

#[test]
fn without_leave_the_page_only_looks() {
    let app = apps::worker();
    let (front, page) = serve(&app, &["--max", "1"]);
    let own = format!("Content-Type: application/json\r\nX-Hatchery-CSRF: {}\r\n", csrf(&page));
    let answer = act(&page, &own, &json!({ "do": "stop", "root": app.root() }));
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("admin_http_actions"), "{answer:?}");
    assert_eq!(front.get("/").status, 200);
    assert!(front.end().success());
}

#[test]
fn who_has_no_token_or_asks_for_another_host_sees_nothing() {
    let app = apps::worker();
    let (front, page) = serve(&app, &["--max", "1", "--admin-http-hosts", "pool.example"]);
    for path in ["/", "/app.js", "/style.css", "/api/status", "/api/events/stream", "/api/do", "/nothing"] {
        let answer = page.get(path);
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.body.contains("printed when it started"), "{answer:?}");
        assert!(!answer.body.contains(&page.token));
    }
    assert_eq!(page.get(&format!("/api/status?token={}", page.token)).status, 401, "the API wants it in a header");
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(page.get(path).status, 200, "{path}");
    }
    let of = |hosts: &str, path: &str| {
        let mut browser = Browser::to(&page.address);
        browser.send(format!("GET {path} HTTP/1.1\r\n{hosts}\r\n"));
        browser.answer()
    };
    for host in ["pool.example:80", "127.0.0.1", "[::1]:9", "LOCALHOST"] {
        assert_eq!(of(&format!("Host: {host}\r\n"), "/healthz").status, 200, "{host}");
    }
    for host in ["evil.example", "shop.localhost", "127.0.0.1.evil.example"] {
        for path in ["/metrics", "/healthz", "/"] {
            assert_eq!(of(&format!("Host: {host}\r\n"), path).status, 421, "{host}{path}");
        }
    }
    assert_eq!((of("", "/healthz").status, of("Host: a b\r\n", "/healthz").status), (400, 400));
    let answer = page.get(&format!("/?token={}", page.token));
    for (header, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("x-frame-options", "DENY"),
    ] {
        assert_eq!(answer.header(header), value);
    }
    assert!(answer.header("content-security-policy").starts_with("default-src 'none'; script-src 'self';"));
    assert!(front.end().success());
}

#[test]
fn a_unix_socket_is_its_users_alone_and_needs_no_token() {
    let folder = front::folder();
    let path = folder.path().join("page.sock");
    let mut front = Front::serve(["--admin-http".to_owned(), format!("unix:{}", path.display())]);
    while !front.line().contains(&format!("live page at unix:{}", path.display())) {}
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(Browser::at(&path).get("/api/status").ok().starts_with("{\"ok\":true,"));
    assert!(Browser::at(&path).get("/").ok().contains("app.js"));
    assert!(front.end().success());
}

#[test]
fn so_many_may_follow_the_events_and_figures_are_had_all_the_same() {
    let app = apps::worker();
    let (front, page) = serve(&app, &[]);
    let follow = || {
        let mut browser = Browser::to(&page.address);
        browser.ask("GET", "/api/events/stream", &format!("Authorization: Bearer {}\r\n", page.token));
        let status = browser.answer_head().status;
        (status, browser)
    };
    let mut following: Vec<Browser> = (0..16)
        .map(|_| {
            let (status, browser) = follow();
            assert_eq!(status, 200);
            browser
        })
        .collect();
    assert_eq!(follow().0, 503);
    assert_eq!((page.get("/metrics").status, page.get("/healthz").status), (200, 200));
    following.pop();
    until_blocking("another may follow", || Some(follow()).filter(|(status, _)| *status == 200));
    assert!(front.end().success());
}

#[test]
fn a_place_that_can_not_be_had_is_a_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (place, why) in [(taken.as_str(), "--admin-http"), ("example.org:80", "unix:PATH or none")] {
        let folder = front::folder();
        let command = front::hatchery(folder.path(), ["serve", "-p", "0", "--admin-http", place]);
        let (status, said) = front::run(command);
        assert_eq!(status, Some(1), "{said}");
        assert!(said.contains(place) && said.contains(why), "{said}");
    }
}
