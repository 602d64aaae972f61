//! What looking costs, and what it sees.

use super::{sessions, status};
use crate::core::metrics::metrics;
use crate::core::played::{Played, own_pid};
use hatchery_pool::{ClientId, Event};
use hatchery_protocol::config::{PoolConfig, TenantConfig, TenantOptions};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::report::Exit;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::time::{Duration, Instant};
use tokio::task::LocalSet;

const RUNNING: u32 = 200;

#[tokio::test]
async fn a_thousand_apps_are_looked_at_in_no_time() {
    // A worker costs a handful of descriptors here, where nobody takes those that are sent.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    LocalSet::new()
        .run_until(async {
            let max = RUNNING;
            let mut played = Played::begin(PoolConfig { max, max_starting: Some(max), ..PoolConfig::default() });
            let roots: Vec<String> = (0..1_000).map(|number| format!("/srv/customers/{number}/app")).collect();
            let began = Instant::now();
            roots.iter().for_each(|root| {
                played.register(root);
            });
            let registered = began.elapsed();
            for root in &roots[..RUNNING as usize] {
                played.get(root);
                played.inspected(root, 1);
                played.serves(root);
                tokio::task::yield_now().await;
            }
            type Look = fn(&crate::core::shell::State) -> usize;
            let looks: [(&str, Look); 3] = [
                ("status", |state| status(state).apps.len()),
                ("metrics", |state| metrics(state).apps.len()),
                ("sessions", |state| sessions(state, None).len()),
            ];
            println!("registered in {registered:?}");
            for (name, look) in looks {
                let began = Instant::now();
                let seen = look(&played.shell.state());
                let took = began.elapsed();
                println!("{name} in {took:?}");
                assert_eq!(seen, if name == "sessions" { RUNNING as usize } else { 1_000 });
                assert!(took < Duration::from_secs(2), "{name} took {took:?}");
            }
            let status = status(&played.shell.state());
            assert_eq!((status.count, status.active, &*status.apps[999].name), (RUNNING, RUNNING, "999/app"));
        })
        .await;
}

#[tokio::test]
async fn memory_processor_time_and_sessions_are_those_of_the_processes() {
    LocalSet::new()
        .run_until(async {
            let options = TenantOptions { max: Some(3), ..TenantOptions::default() };
            let tenant = TenantConfig { name: "ada".into(), options };
            let mut played = Played::begin(PoolConfig { tenants: vec![tenant], ..PoolConfig::default() });
            let options = AppOptions { tenant: Some("ada".into()), ..AppOptions::default() };
            played.shell.register(b"/srv/shop", options);
            let app = played.register("/srv/blog");
            let shop = played.app("/srv/shop");
            played.get("/srv/shop");
            played.inspected("/srv/shop", 0);
            let first = played.serves("/srv/shop");
            let seen = status(&played.shell.state());
            let (cpu, memory) = (seen.apps[0].cpu_s, seen.apps[0].memory_bytes);
            assert_eq!(seen.apps[0].workers[0].memory_bytes, Some(memory));
            assert!(memory > 1 << 20 && seen.apps[1].memory_bytes == 0);
            let ada = &seen.tenants[0];
            assert_eq!((&*ada.name, ada.max, ada.apps, ada.count, ada.served), ("ada", Some(3), 1, 1, 1));
            assert_eq!(ada.memory_bytes, memory);

            let open = sessions(&played.shell.state(), Some(shop));
            assert_eq!((open.len(), open[0].worker, open[0].pid), (1, first.0, own_pid()));
            assert_eq!((&*open[0].app, open[0].client, open[0].client_pid), ("shop", 7, None));
            assert!(sessions(&played.shell.state(), Some(app)).is_empty());

            // What a process has used is not lost with it.
            played.exits(first, Exit::Signal(9));
            let gone = status(&played.shell.state());
            assert!((gone.apps[0].cpu_s - 2.0).abs() < 1e-9 && cpu > 0.0, "{}", gone.apps[0].cpu_s);
            let told = metrics(&played.shell.state());
            assert_eq!((told.apps[0].exits["died"], told.apps[0].sessions_ended["worker_gone"]), (1, 1));
            assert_eq!(told.apps[0].session.counts.iter().sum::<u64>(), 1);
            assert_eq!(told.apps[0].workers.len(), 5);
            // What was never observed costs nothing.
            assert!(told.apps[1].wait.counts.is_empty() && told.bounds_s.len() + 1 == told.apps[0].wait.counts.len());
            assert_eq!((told.tenants[0].sessions, told.tenants[0].cpu_s > 1.9), (1, true));
            let core = told.processes.iter().find(|process| process.role == "core").unwrap();
            assert!(core.pid == own_pid() && core.memory_bytes.is_some() && core.cpu_s.is_some());
            played.shell.tell(Event::ClientGone { client: ClientId(7) });
        })
        .await;
}
