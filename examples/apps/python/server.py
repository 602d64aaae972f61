"""An application in Python: the standard library's web server, on descriptor 3."""

import os
import socket
from http.server import BaseHTTPRequestHandler, HTTPServer


class Server(HTTPServer):
    def __init__(self):
        super().__init__(("localhost", 0), Handler, bind_and_activate=False)
        self.socket.close()
        # It listens already.
        self.socket = socket.socket(fileno=3)

    def get_request(self):
        connection, _ = self.socket.accept()
        return connection, ("hatchery", 0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"Hello from Python, process {os.getpid()}, at {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_request(self, code="-", size="-"):
        pass


if os.environ.get("LISTEN_PID") != str(os.getpid()):
    raise SystemExit("nothing listens here; try `hatchery serve` on this folder")
Server().serve_forever()
