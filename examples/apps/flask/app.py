"""`python3 -m venv .venv && .venv/bin/pip install -r requirements.txt` in this folder, then:
hatchery serve examples/apps/flask"""

import os

from flask import Flask, request

app = Flask(__name__)


@app.route("/", defaults={"rest": ""})
@app.route("/<path:rest>")
def hello(rest):
    at = request.full_path.rstrip("?")
    return f"Hello from Flask, process {os.getpid()}, at {at}\n", {"Content-Type": "text/plain"}


# Hatchery never comes here: it calls `app` itself.
if __name__ == "__main__":
    app.run()
