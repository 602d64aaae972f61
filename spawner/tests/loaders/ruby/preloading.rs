//! Workers that are forked from a preloader.

use super::{FILES, launch, ruby};
use crate::harness::{App, Worker, text};
use crate::session::Session;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::os::fd::AsFd;

/// What a preloaded app of these tests is: it tells what it knows of its process.
const FORKED: &str = "
    $loaded_by = Process.pid
    Hatchery.before_fork { puts 'before' }
    Hatchery.on_start do |forked|
      puts \"start #{forked} #{ENV['HATCHERY_WORKER']} #{ENV['LISTEN_PID'] == Process.pid.to_s}\"
    end
    Hatchery.on_stop { puts 'stop' }
    run(lambda do |env|
      puts \"asked #{env['PATH_INFO']}\"
      said = [$loaded_by, Process.pid, Process.ppid, Process.getsid, Hatchery.preloading?, rand(1 << 60)]
      [200, {}, [env['PATH_INFO'] == '/files' ? `ls /proc/self/fd` : said.join(' ')]]
    end)";

#[test]
fn workers_are_forked_from_a_preloader() {
    let app = App::new(&[("config.ru", FORKED)]);
    let Some(program) = ruby("preloading") else { return };
    let mut preloader = launch(program, &app, &[]).preload();
    preloader.ready();
    let mut drawn = Vec::new();
    for number in 0..3 {
        let mark = format!("pool.1.{number}");
        let mut worker = preloader.fork(&mark);
        let pid = worker.process.pid;
        let mut session = Session::new(&worker);
        let said = session.get("/").text();
        let words: Vec<&str> = said.split(' ').collect();
        let (keeper, own) = (std::process::id().to_string(), pid.to_string());
        let loaded_by = preloader.process.pid.to_string();
        assert_eq!(words[..5], [loaded_by.as_str(), &own, &keeper, &own, "true"]);
        drawn.push(words[5].to_string());
        assert_eq!(session.get("/files").text(), "0\n1\n2\n3\n");
        assert_eq!(worker.channel.receive(), None, "announce is closed before it serves");
        assert_eq!(
            worker.process.output.until("asked /files"),
            format!("start true {mark} true\nasked /\nasked /files\n")
        );
        worker.process.signal(Signal::SIGTERM);
        assert_eq!(worker.process.wait(), 0, "{}", worker.process.error.so_far());
        worker.process.output.until("stop");
    }
    drawn.dedup();
    assert_eq!(drawn.len(), 3, "the same random numbers: {drawn:?}");
    assert_eq!(preloader.process.output.until("before\nbefore\nbefore"), "before\nbefore\nbefore\n");
    assert!(preloader.process.is_running());
    drop(preloader.channel);
    assert_eq!(preloader.process.wait(), 0, "{}", preloader.process.error.so_far());
}

#[test]
fn a_preloader_leaves_when_it_is_told_to_and_a_worker_that_is_not_wanted_as_well() {
    let app = App::new(&[("config.ru", FORKED)]);
    let Some(program) = ruby("leaving preloaders") else { return };
    let mut preloader = launch(program, &app, &[]).preload();
    preloader.ready();
    let unwanted = preloader.order("pool.1.0");
    let Worker { mut process, channel, .. } = unwanted;
    drop(channel);
    assert_eq!(process.wait(), 0);
    preloader.process.signal(Signal::SIGTERM);
    assert_eq!(preloader.process.wait(), 0, "{}", preloader.process.error.so_far());
}

/// The signal that a process gets at its parent's death can't be read from outside: a parent of its own has to die.
const KEEPER: &str = "
    require 'socket'
    require 'fiddle'
    types = [Fiddle::TYPE_INT] + [Fiddle::TYPE_LONG] * 4
    prctl = Fiddle::Function.new(Fiddle::Handle::DEFAULT['prctl'], types, Fiddle::TYPE_INT)
    prctl.call(36, 1, 0, 0, 0) # PR_SET_CHILD_SUBREAPER
    ours, theirs = UNIXSocket.pair(:SEQPACKET)
    more = ENV.to_h.slice('MISSING').transform_keys { 'RUBYLIB' }
    preloader = spawn(more, RbConfig.ruby, ARGV[0], 'rack', 'config.ru', '--threads=1', '--preload',
                      3 => '/dev/null', 4 => ARGV[0], 5 => theirs, close_others: true)
    theirs.close
    raise 'not ready' unless ours.recv(100) == 'ready'
    announce, their_announce = UNIXSocket.pair(:SEQPACKET)
    listener = UNIXServer.new('socket')
    reader, writer = IO.pipe
    rights = Socket::AncillaryData.unix_rights(listener, writer, STDERR, their_announce)
    ours.sendmsg(\"fork\\0pool.1.1\", 0, nil, rights)
    their_announce.close
    writer.close
    raise 'not here' unless announce.recv(100) == 'here'
    announce.send('go', 0)
    raise 'not started' unless announce.recv(100).to_s == ''
    client = UNIXSocket.new('socket')
    variables = %w[REQUEST_METHOD GET PATH_INFO / REQUEST_URI / SERVER_PROTOCOL HTTP/1.1]
    variables = variables.map { |word| word + \"\\0\" }.join
    client.write(\"#{variables.bytesize}:#{variables},\")
    puts client.recv(1000).lines.last
    STDOUT.flush
    Process.kill(:KILL, preloader)
    Process.wait(preloader)
    Process.kill(:KILL, Process.pid)
";

#[test]
fn a_forked_worker_dies_with_the_keeper_also_where_the_kernel_cannot_be_asked() {
    let Some(program) = ruby("a keeper's death") else { return };
    let app = App::new(&[
        ("config.ru", "run ->(env) { [200, {}, [\"#{Process.pid} #{ENV['LISTEN_FDS']}\"]] }"),
        ("keeper.rb", KEEPER),
        ("none/fiddle.rb", "raise LoadError, 'there is no fiddle here' if $0 == 'rackup'"),
    ]);
    std::fs::write(app.path("loader.rb"), text(&FILES)).unwrap();
    for without in [false, true] {
        let mut command = std::process::Command::new(&program);
        command.arg("keeper.rb").arg(app.path("loader.rb")).current_dir(app.root());
        command.env("LANG", "C.UTF-8");
        if without {
            command.env("MISSING", app.path("none"));
        }
        // Its standard error is the worker's as well: the end of it is the end of both.
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (pid, listens) = said.trim().split_once(' ').unwrap_or_else(|| panic!("{said}{error}"));
        assert_eq!(listens, "1", "3 was kept free for the listener");
        assert_eq!(error.contains("there is no fiddle here"), without, "{error}");
        // The keeper's end made it this process's child. By a signal, or by its own look at the pipe's other end.
        let pid = Pid::from_raw(pid.parse().unwrap());
        let by = if without { WaitStatus::Exited(pid, 0) } else { WaitStatus::Signaled(pid, Signal::SIGKILL, false) };
        assert_eq!(waitpid(pid, None).unwrap(), by);
        std::fs::remove_file(app.path("socket")).unwrap();
    }
}

#[test]
fn an_app_with_threads_is_not_fit_for_preloading_unless_they_are_known_to_begin_anew() {
    let Some(program) = ruby("threads at import") else { return };
    let app = App::new(&[("config.ru", "\nThread.new { sleep }\nrun ->(_env) { [200, {}, []] }")]);
    let mut preloader = launch(program.clone(), &app, &[]).preload();
    let said = preloader.channel.receive().unwrap();
    assert_eq!(said[0], "unfit");
    assert!(said[1].contains("a thread of its own") && said[1].contains("config.ru:2"), "{said:?}");
    assert_eq!(preloader.process.wait(), 0);

    let timeout = "
        require 'timeout'
        Timeout.timeout(5) { 1 }
        Thread.new { sleep }.thread_variable_set(:fork_safe, true)
        run ->(_env) { [200, {}, []] }";
    app.write("config.ru", timeout);
    launch(program, &app, &[]).preload().ready();
}

#[test]
fn what_goes_wrong_in_a_preloader_is_told_like_elsewhere() {
    let Some(program) = ruby("failures of preloaders") else { return };
    let app = App::new(&[("config.ru", "raise 'no luck'")]);
    let mut preloader = launch(program.clone(), &app, &[]).preload();
    assert_eq!(preloader.channel.failure().code, "exception");
    assert_eq!(preloader.process.wait(), 1);

    app.write("config.ru", "Hatchery.on_start { |_| raise 'pity' }\nrun ->(_env) { [200, {}, []] }");
    let mut preloader = launch(program.clone(), &app, &[]).preload();
    preloader.ready();
    let mut worker = preloader.fork("pool.1.1");
    let failure = worker.channel.failure();
    assert_eq!(failure.code, "hook", "{failure:?}");
    assert_eq!(worker.process.wait(), 1);
    assert!(worker.process.error.whole().contains("pity (RuntimeError)"));
    assert!(preloader.process.is_running());

    app.write("config.ru", "Hatchery.before_fork { raise 'pity' }\nrun ->(_env) { [200, {}, []] }");
    let mut preloader = launch(program, &app, &[]).preload();
    preloader.ready();
    let (first, second) = hatchery_protocol::packet::pair().unwrap();
    let given = [first.as_fd(), second.as_fd(), first.as_fd(), second.as_fd()];
    preloader.channel.send(&["fork", "pool.1.1"], &given);
    let failure = preloader.channel.failure();
    assert_eq!((failure.code.as_str(), failure.problem.contains("before_fork")), ("hook", true), "{failure:?}");
    assert_eq!(preloader.process.wait(), 1);
}
