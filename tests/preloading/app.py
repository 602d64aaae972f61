# Writes down what happens to it: imports, hooks, forks.
import os
import time

import hatchery


def note(*words):
    with open("notes", "a") as notes:
        print(*words, file=notes)


note("import", os.getpid())
from stock import VERSION


@hatchery.before_fork
def before():
    note("before", os.getpid())


@hatchery.on_start
def start(forked):
    note("start", os.getpid(), forked)


@hatchery.on_stop
def stop():
    note("stop", os.getpid())


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/version":
        text = str(VERSION)
    elif path == "/sleep":
        time.sleep(float(environ["QUERY_STRING"]))
        text = "slept"
    elif path == "/marks":
        text = " ".join(os.environ[name] for name in ("HATCHERY_WORKER", "LISTEN_FDS", "LISTEN_PID"))
    elif path == "/daemon":
        text = os.popen("setsid sh -c 'sleep 600 >/dev/null 2>&1 & echo $!' </dev/null").read()
    else:
        text = str(os.getpid())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [text.encode()]
