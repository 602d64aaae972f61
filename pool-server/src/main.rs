use hatchery_pool_server::{Roles, Spawner};

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let roles = Roles { keeper: &["pool-server", "keeper"], core: &["pool-server", "core"], spawner: Spawner::Beside };
    hatchery_pool_server::main(roles, &arguments)
}
