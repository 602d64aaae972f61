# How a Python app is loaded. The program is these files, one after the other:
#   wsgi: contract.py entry.py preloader.py session.py wsgi.py worker.py
#   asgi: contract.py entry.py preloader.py asgi.py http.py websocket.py server.py
# and `main(WSGI)` or `main(ASGI)` as the last line. It runs on Python 3.8 and newer with the standard library
# alone. Its text is compiled at each start, and what it imports is imported before the app: both are kept small,
# which is why `_socket` and `_signal` are used (all that `socket` and `signal` are made of, without their enums),
# and why rare imports are made in place.
#
# Descriptors: 3 the listener (not in a preloader), 4 this text, 5 control.

import _signal as signal
import _socket
import os
import sys

LISTENER, TEXT, CONTROL = 3, 4, 5
FIELD_LIMIT = 8 * 1024
# Seconds. One would do if the clocks of files were exact.
SETTLED = 2
OWN_FILE = (lambda: 0).__code__.co_filename


class Channel:
    """A connection to the spawner: control, or the announcement of a forked worker."""

    def __init__(self, descriptor):
        os.set_inheritable(descriptor, False)
        self.socket = _socket.socket(fileno=descriptor)

    def send(self, *fields):
        texts = [field.replace("\0", " ").encode("utf-8", "replace")[:FIELD_LIMIT] for field in fields]
        # What was cut in the middle of a character is no UTF-8 any more.
        texts = [text.decode("utf-8", "ignore").encode() for text in texts]
        self.socket.send(b"\0".join(texts), _socket.MSG_NOSIGNAL)

    def close(self):
        self.socket.close()


class Failure(Exception):
    """The app can't be started: the code of the contract, and one sentence each on what is wrong and what helps."""

    def __init__(self, code, problem, remedy, cause=None):
        super().__init__(problem)
        self.code, self.problem, self.remedy, self.cause = code, problem, remedy, cause


class Hooks:
    """What the app wants to be called for, as the module `hatchery` takes it."""

    def __init__(self, preloading):
        self.before_fork, self.on_start, self.on_stop = [], [], []
        self.module = type(sys)("hatchery", "What the pool that runs this app calls, and when.")
        self.module.preloading = preloading
        for name in ("before_fork", "on_start", "on_stop"):
            setattr(self.module, name, self.taker(getattr(self, name)))

    def taker(self, functions):
        def take(function):
            if not callable(function):
                raise TypeError("a hook must be callable, and %r isn't" % (function,))
            functions.append(function)
            return function

        return take

    def offer(self):
        # An app that has a module of this name means its own.
        if not any(os.path.exists(name) for name in ("hatchery.py", "hatchery")):
            sys.modules["hatchery"] = self.module

    def run(self, name, *arguments):
        for function in getattr(self, name):
            try:
                function(*arguments)
            except BaseException as error:
                label = getattr(function, "__qualname__", None) or repr(function)
                problem = "the hook %s `%s` failed: %s" % (name, label, described(error))
                raise Failure("hook", problem, "Correct what the traceback in the app's log shows.", error) from None

    def stop(self):
        """At the end nobody can be told but the log, and each hook has its turn."""
        for function in self.on_stop:
            try:
                function()
            except BaseException as error:
                show(error)


class State:
    """What a loader knows about its own process."""

    def __init__(self, arguments):
        kind, self.entry, *options = arguments
        self.kind = kind
        self.preloading = "--preload" in options
        threads = [option.partition("=")[2] for option in options if option.startswith("--threads=")]
        self.threads = int(threads[0]) if threads else 1
        self.root = os.getcwd()
        self.channel = Channel(CONTROL)
        self.hooks = Hooks(self.preloading)

    def fail(self, failure):
        """Tells the log and the spawner, and ends this process whatever the app left running in it."""
        if failure.cause is not None:
            show(failure.cause)
        else:
            say("%s. %s" % (failure.problem, failure.remedy))
        try:
            self.channel.send("failed", failure.code, failure.problem, failure.remedy)
        except OSError as error:
            say("why this app can't be started could not be told: %s" % error)
        leave_at_once(1)


def main(kind):
    """`kind` knows how an app of its kind is found fit (`check`), prepared before forks, and served."""
    state = State(sys.argv[1:])
    try:
        begin(state)
        kind.app = load(state, kind)
        kind.prepare(state)
        if state.preloading:
            preload(state)  # comes back in each worker, with its own channel
        state.hooks.run("on_start", state.preloading)
    except Failure as failure:
        state.fail(failure)
    kind.serve(state)


def begin(state):
    if sys.version_info < (3, 8):
        raise Failure(
            "runtime",
            "%s is Python %s, and Python 3.8 is the oldest that apps are run with" % (sys.executable, version()),
            "Name a newer interpreter, or install one.",
        )
    # Tracebacks and `inspect` read the file that a frame names, which is this descriptor: never anything that blocks.
    os.dup2(0, TEXT, inheritable=False)
    if state.preloading:
        # What the app opens while it is imported must not be where workers have their listener.
        os.dup2(0, LISTENER, inheritable=False)
    else:
        os.set_inheritable(LISTENER, False)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)
    pretend(state)
    cache_settled_files_only()
    state.hooks.offer()


def pretend(state):
    """Makes the process look as if the app had been started in its root by itself."""
    flags = sys.flags
    if sys.path and not (flags.isolated or getattr(flags, "safe_path", False)):
        sys.path[0] = state.root
    else:
        sys.path.insert(0, state.root)
    sys.argv[:] = [state.entry]
    # `multiprocessing` runs the file of `__main__` again in what it spawns, and must not run this one. The module
    # that is replaced is kept, since its end would be the end of all names here.
    globals()["own_module"] = sys.modules["__main__"]
    sys.modules["__main__"] = type(sys)("__main__")


def cache_settled_files_only():
    """Python knows the file of a cached module by its size and its time in whole seconds. Were a file cached that was
    written just now, another edit in the same second would go unseen, and a restart would bring old code back."""
    from time import time

    loader = sys.modules["_frozen_importlib_external"].SourceFileLoader
    cache = getattr(loader, "_cache_bytecode", None)

    def cache_if_settled(self, source, cached, data):
        # A number, flags (if there are any, the file is known by its content), the time.
        if any(data[4:8]) or time() - int.from_bytes(data[8:12], "little") >= SETTLED:
            return cache(self, source, cached, data)

    if cache is not None:
        loader._cache_bytecode = cache_if_settled


def version():
    return "%d.%d.%d" % tuple(sys.version_info[:3])


def say(line):
    print("hatchery: " + line, file=sys.stderr, flush=True)


def show(error):
    """The traceback of `error` on standard error, of the app's lines alone."""
    each, seen = error, set()
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        each.__traceback__ = of_app(each.__traceback__)
        each = each.__cause__ or each.__context__
    try:
        sys.excepthook(type(error), error, error.__traceback__)
        sys.stderr.flush()
    except Exception:  # a hook of the app's that fails itself
        sys.__excepthook__(type(error), error, error.__traceback__)


def of_app(traceback):
    """Without the frames of this loader, and of the import that it made."""
    first = last = None
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file != OWN_FILE and not file.startswith("<frozen importlib"):
            if first is None:
                first = traceback
            elif last.tb_next is not traceback:
                last.tb_next = traceback
            last = traceback
        traceback = traceback.tb_next
    if last is not None and last.tb_next is not None:
        last.tb_next = None
    return first


def described(error):
    """`error` in some words: its kind, and the first line of what it says."""
    try:
        lines = str(error).strip().splitlines()
    except Exception as other:  # its own `__str__` fails
        lines = ["(its description fails: %s)" % type(other).__name__]
    name = type(error).__name__
    return "%s: %s" % (name, lines[0][:500]) if lines else name


def leave_at_once(status):
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass  # the log is gone, or the app has closed it; there is nobody to tell
    os._exit(status)


def on_leave(handler):
    """Makes TERM and INT call `handler`, whatever the app had them do while it was imported."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


