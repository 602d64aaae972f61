# The app is imported once; workers are forked from here, and share its memory.

PR_SET_PDEATHSIG = 1
REPARENTED_WITHIN = 2.0


def preload(state):
    """Forks a worker at each order, and comes back in workers only."""
    import gc

    why = unfit(state)
    if why:
        state.channel.send("unfit", why)
        leave_at_once(0)
    keeper = os.getppid()
    tie = death_tie()
    # Pages that a worker's collector would write to are set aside. Whether it runs is the app's to say.
    gc.collect()
    gc.freeze()
    on_leave(lambda number, frame: sys.exit(0))
    state.channel.send("ready")
    orders = state.channel.socket
    while True:
        packet, descriptors = order(orders)
        if not packet:
            sys.exit(0)
        words = packet.decode("utf-8", "replace").split("\0")
        if words[0] != "fork" or len(words) != 2 or len(descriptors) != 4:
            raise Failure("runtime", "an order that is none came to the preloader: %r" % (words,), "Report this.")
        if forked(state, descriptors):
            become_worker(state, words[1], descriptors, keeper, tie)
            return


def unfit(state):
    """Why nothing may be forked from this process."""
    import _thread

    if _thread._count():
        import threading

        others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        named = " (%s)" % ", ".join(others) if others else ""
        return "importing it starts threads, which a fork would lose%s" % named
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return "an event loop runs once it is imported, which two processes can't share"
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.saved:
        return "it runs on gevent, whose loop two processes can't share"
    return None


def death_tie():
    """Ties a process to its parent's life. It is made before any fork, so that it costs nothing after it."""
    try:
        from ctypes import CDLL, c_int, c_ulong

        prctl = CDLL(None).prctl
        prctl.argtypes = [c_int] + [c_ulong] * 4
        return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0
    except (ImportError, AttributeError, OSError):
        return lambda: False


def order(orders):
    from struct import unpack

    packet, control, _, _ = orders.recvmsg(32 * 1024, _socket.CMSG_SPACE(4 * 8), _socket.MSG_CMSG_CLOEXEC)
    descriptors = []
    for level, kind, data in control:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            descriptors += unpack("%di" % (len(data) // 4), data[: len(data) // 4 * 4])
    return packet, descriptors


def forked(state, descriptors):
    """Whether this is the worker. Between it and the preloader is a process that ends at once, so that the keeper
    becomes the worker's parent."""
    worker = False
    try:
        state.hooks.run("before_fork")
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # or a worker would write it again
        between = os.fork()
        if between == 0:
            try:
                worker = os.fork() == 0
            except OSError as error:
                say("a worker can't be forked: %s" % error)
                os._exit(1)
            if not worker:
                os._exit(0)
            return True
        try:
            os.waitpid(between, 0)
        except ChildProcessError:
            pass  # the app has the kernel reap its children
    except OSError as error:
        say("a worker can't be forked: %s" % error)
    except Failure as failure:
        # The worker that was to be is told about; the preloader is still good for another try.
        show(failure.cause)
        announce = Channel(os.dup(descriptors[3]))
        announce.send("failed", failure.code, failure.problem, failure.remedy)
        announce.close()
    for descriptor in descriptors:
        os.close(descriptor)
    return False


def become_worker(state, mark, descriptors, keeper, tie):
    from time import monotonic, sleep

    listener, output, error, announce = descriptors
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    until = monotonic() + REPARENTED_WITHIN
    tries = 0
    while os.getppid() != keeper:
        tries += 1
        if monotonic() > until:
            os._exit(1)
        if tries < 20:
            os.sched_yield()
        else:
            sleep(0.001)
    tied = tie()
    if os.getppid() != keeper:
        os._exit(1)
    state.channel.close()
    state.channel = Channel(announce)
    state.channel.send("here")
    if state.channel.socket.recv(64) != b"go":
        os._exit(0)
    place_at(output, 1, True)
    place_at(error, 2, True)
    place_at(listener, LISTENER, False)
    if not tied:
        watch_output()
    os.environ.update(HATCHERY_WORKER=mark, LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
    # Python's own generator has taken care of itself.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def place_at(descriptor, number, inheritable):
    os.dup2(descriptor, number, inheritable)
    if descriptor != number:
        os.close(descriptor)


def watch_output():
    """Where the kernel can't be told to end this process with its parent: who reads the log is gone with it."""
    from _thread import start_new_thread
    from select import poll

    output = os.dup(1)

    def watch():
        gone = poll()
        gone.register(output, 0)
        gone.poll()
        os._exit(0)

    start_new_thread(watch, ())


