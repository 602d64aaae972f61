import os
import time
import zlib

from flask import Flask, Response, redirect, request, session, url_for

app = Flask(__name__)
app.secret_key = "of a test"


@app.get("/")
def hello():
    return "<h1>Hello from Flask</h1>"


@app.get("/pid")
def pid():
    return str(os.getpid())


@app.route("/form", methods=["GET", "POST"])
def form():
    if request.method == "POST":
        session["name"] = request.form["name"]
        return redirect(url_for("visits"), 303)
    return '<form method="post"><input name="name"></form>'


@app.get("/visits")
def visits():
    session["visits"] = session.get("visits", 0) + 1
    return {"name": session.get("name"), "visits": session["visits"]}


@app.post("/upload")
def upload():
    file = request.files["file"]
    content = file.read()
    return {"name": file.filename, "length": len(content), "adler32": zlib.adler32(content)}


@app.get("/stream/<file>")
def stream(file):
    def pieces():
        yield "first\n"
        while not os.path.exists(file):
            time.sleep(0.005)
        yield "second\n"

    return Response(pieces(), mimetype="text/plain")


@app.get("/boom")
def boom():
    raise RuntimeError("the kettle is empty")


@app.get("/about/<name>")
def about(name):
    return {"name": name, "root": request.script_root, "url": request.url, "q": request.args.getlist("q")}
