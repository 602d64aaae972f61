# What is served: the app that ENTRY names, and why it can't be had.


def load(state, kind):
    """The app: `module.sub:name`, `file.py`, `folder/file.py:name`; `name()` is called to make it."""
    where, _, name = state.entry.partition(":")
    module = imported(state, where)
    found = attribute(state, kind, module, name[:-2] if name.endswith("()") else name)
    if name.endswith("()"):
        try:
            found = found()
        except BaseException as error:
            raise explained(state, error) from None
    if not callable(found):
        raise Failure(
            "entry",
            "%s is no application: %s can't be called" % (state.entry, type(found).__name__),
            "Name what can be called as `entry`%s." % offered(module),
        )
    kind.check(state, found)
    return found


def imported(state, where):
    if where.endswith(".py") or "/" in where:
        path = os.path.join(state.root, where)
        if not os.path.isfile(path):
            raise Failure("entry", "there is no file %s" % path, "Name the app's file or module as `entry`.")
        name = os.path.relpath(path, state.root)[:-3].replace("/", ".")
    else:
        path, name = None, where
    try:
        if path is None or all(part.isidentifier() for part in name.split(".")):
            __import__(name)
            module = sys.modules[name]
            if path is None or same_file(getattr(module, "__file__", None), path):
                return module
        # Its name is no module's, or another module's that was there before.
        return imported_file(name.rpartition(".")[2], path)
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and path is None and is_entry(error, name):
            raise Failure(
                "entry",
                "there is no module %s in %s" % (error.name, state.root),
                "Name the app's module or file as `entry`.",
            ) from None
        raise explained(state, error) from None


def imported_file(name, path):
    from importlib.util import module_from_spec, spec_from_file_location

    name = "".join(letter if letter.isalnum() else "_" for letter in name)
    name = "app_" + name if name in sys.modules else name
    spec = spec_from_file_location(name, path)
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def same_file(one, other):
    return one is not None and os.path.exists(one) and os.path.samefile(one, other)


def is_entry(error, name):
    """Whether it is the entry that is missing, and nothing that it imports."""
    return (name + ".").startswith("%s." % error.name) and of_app(error.__traceback__) is None


def attribute(state, kind, module, name):
    names = [name] if name else ["application", "app"]
    for candidate in names:
        found = module
        for part in candidate.split("."):
            found = getattr(found, part, None)
            if found is None:
                break
        else:
            return found
    file = getattr(module, "__file__", None) or module.__name__
    raise Failure(
        "entry",
        "%s has no %s" % (file, " or ".join("`%s`" % candidate for candidate in names)),
        "Name the %s application as `entry = \"%s:NAME\"`%s."
        % (kind.title, state.entry.partition(":")[0], offered(module)),
    )


def offered(module):
    """The names in it that can be called, and were made there."""
    names = [
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and not isinstance(value, type)
        # What has the module's name was defined there; an object of a class from elsewhere was made there.
        and getattr(value, "__module__", None) in (module.__name__, type(value).__module__)
    ]
    return "; it has " + ", ".join(sorted(names)[:8]) if names else ""


def explained(state, error):
    """The failure that an exception of the app's is, while it is imported or made."""
    where = place(state, error)
    if isinstance(error, SyntaxError) and error.filename and os.path.exists(error.filename):
        return Failure(
            "syntax",
            "%s, line %s: %s" % (error.filename, error.lineno, error.msg),
            "Correct it; the interpreter is Python %s, and newer syntax needs a newer one." % version(),
            error,
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        return Failure("module", "%s needs the module %s" % (where, error.name), missing(error.name), error)
    if isinstance(error, SystemExit):
        status = 0 if error.code is None else error.code
        return Failure(
            "exit",
            "%s left while the app was imported, with %r" % (where, status),
            "Have it do so only where it is run by itself, under `if __name__ == \"__main__\":`.",
            error,
        )
    if isinstance(error, MemoryError):
        return Failure("exception", "%s: it got no more memory (%s)" % (where, described(error)), roomier(), error)
    remedy = "Correct what the traceback in the app's log shows."
    return Failure("exception", "%s: %s" % (where, described(error)), remedy, error)


def roomier():
    """What to do about want of memory."""
    try:
        from resource import RLIM_INFINITY, RLIMIT_AS, RLIMIT_DATA, getrlimit
    except (ImportError, MemoryError):
        return "Make it need less memory, or give it more."
    limits = [(name, getrlimit(limit)[0]) for name, limit in (("limit_as", RLIMIT_AS), ("limit_data", RLIMIT_DATA))]
    limits = ["%s (%dM)" % (name, size >> 20) for name, size in limits if size != RLIM_INFINITY]
    if limits:
        return "Raise its %s, or make it need less." % " or ".join(limits)
    return "Make it need less, or give the machine more memory: this process has no limit of its own."


def missing(name):
    package = name.partition(".")[0]
    if sys.prefix != sys.base_prefix:
        what = "the virtual environment %s" % sys.prefix
    else:
        what = "%s, which is in no virtual environment" % sys.executable
    return "Install what has it for %s (%s -m pip install %s), or name another interpreter." % (
        what,
        sys.executable,
        package,
    )


def place(state, error):
    """File and line where it came from: in the app's root if it passed there."""
    inside, traceback = None, of_app(error.__traceback__)
    last = None
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if not file.startswith("<frozen importlib"):
            last = (file, traceback.tb_lineno)
            # Packages that are installed below the root are not the app's own.
            if file.startswith(state.root + "/") and "/site-packages/" not in file:
                inside = last
        traceback = traceback.tb_next
    return "%s, line %d" % (inside or last) if last else state.entry


def code_of(app):
    """The code that runs when it is called, and whether its first parameter is taken already; None for a builtin."""
    app = getattr(app, "func", app)  # functools.partial
    bound = not hasattr(app, "__code__")
    function = getattr(type(app), "__call__", None) if bound and not hasattr(app, "__func__") else app
    function = getattr(function, "__func__", function)
    return getattr(function, "__code__", None), bound


def is_asgi(app):
    """Whether calling it makes a coroutine."""
    CO_COROUTINE = 0x80
    code, _ = code_of(app)
    return code is not None and bool(code.co_flags & CO_COROUTINE)


def is_wsgi(app):
    """Whether it takes two arguments and makes no coroutine."""
    code, bound = code_of(app)
    return code is not None and not is_asgi(app) and code.co_argcount - bound == 2 and not code.co_flags & 0x04


