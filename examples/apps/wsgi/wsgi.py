"""An application of PEP 3333: hatchery serve examples/apps/wsgi"""

import os
import sys

try:
    import hatchery
except ImportError:  # served by something else
    hatchery = None

if hatchery is not None:
    # Once in each worker, before it serves; what was opened before a fork must be opened anew here.
    @hatchery.on_start
    def start(forked):
        print(f"process {os.getpid()} was {'forked' if forked else 'started'}", file=sys.stderr)


def application(environ, start_response):
    query = environ["QUERY_STRING"]
    at = environ["PATH_INFO"] + (f"?{query}" if query else "")
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"Hello from WSGI, process {os.getpid()}, at {at}\n".encode()]
