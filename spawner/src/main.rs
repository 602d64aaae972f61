fn main() -> std::process::ExitCode {
    hatchery_spawner::main()
}
