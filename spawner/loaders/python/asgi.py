# ASGI: the user's own server where there is one, else ours. They all serve HTTP on the listener.


class Asgi:
    title = "ASGI"

    def __init__(self):
        self.app = self.front = self.server = None

    def check(self, state, app):
        if is_wsgi(app):
            raise Failure("entry", "%s is a WSGI application" % state.entry, "Say `type = \"wsgi\"`.")

    def prepare(self, state):
        self.front = Front(state, self.app)
        for name, server in (("uvicorn", Uvicorn), ("hypercorn", Hypercorn)):
            try:
                __import__(name)
            except ImportError:
                continue
            self.server = server(self.front)
            return
        self.server = OwnServer(self.front)

    def serve(self, state):
        import socket

        # A copy, since servers close what they listen on before they have finished.
        try:
            self.server.run(socket.socket(fileno=os.dup(LISTENER)))
        except (Exception, SystemExit):
            # What servers do where the app's startup failed, which the front has noted.
            if self.front.failed is None:
                raise
        if self.front.failed is not None and not self.front.begun:
            if not self.server.logs_failed_startup:
                print(self.front.failed, file=sys.stderr)
            state.fail(self.front.failure())
        self.front.begin()
        state.hooks.stop()


class Front:
    """Around the app, whatever serves it: what the front end has told is put in the scope."""

    def __init__(self, state, app):
        self.state, self.app = state, app
        self.begun = False
        # What the app said of a startup that failed.
        self.failed = None

    def begin(self):
        """It can serve; nobody waits for word of failures any more."""
        if not self.begun:
            self.begun = True
            self.state.channel.close()

    def failure(self):
        lines = [line for line in self.failed.strip().splitlines() if line.strip()]
        what = lines[-1].strip()[:500] if lines else "it does not say why"
        problem = "the app's startup (lifespan) failed: %s" % what
        return Failure("exception", problem, "Correct what the app's log shows.")

    async def __call__(self, scope, receive, send):
        kind = scope["type"]
        if kind == "lifespan":
            await self.lifespan(scope, receive, send)
            return
        self.begin()
        if kind == "http" and scope["path"] == "*" and scope["method"] == "OPTIONS":
            # The pool's harmless question, which is not the app's business.
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        forwarded(scope)
        await self.app(scope, receive, send)

    async def lifespan(self, scope, receive, send):
        async def noted(message):
            if message["type"] == "lifespan.startup.complete":
                self.begin()
            elif message["type"] == "lifespan.startup.failed":
                self.failed = message.get("message", "")
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            # An app that knows no lifespan leaves it at once, and is served without.
            if self.failed is None:
                self.begin()


def forwarded(scope):
    """Only the front end can connect, so what it says is true. The last address of a list is the one it has added."""
    for name, value in scope["headers"]:
        if name == b"x-forwarded-for":
            address = value.decode("latin-1").rpartition(",")[2].strip()
            if address:
                scope["client"] = (address, 0)
        elif name == b"x-forwarded-proto":
            scheme = value.decode("latin-1").rpartition(",")[2].strip().lower()
            if scheme in ("http", "https"):
                secure = scheme == "https"
                plain = "ws" if scope["type"] == "websocket" else "http"
                scope["scheme"] = plain + "s" if secure else plain
        elif name == b"x-forwarded-prefix":
            scope["root_path"] = value.decode("latin-1").strip().rstrip("/")


class Uvicorn:
    logs_failed_startup = True

    def __init__(self, front):
        import uvicorn

        self.server_type = uvicorn.Server
        # The addresses of clients are the front's to tell, and so is what is logged of requests.
        self.config = uvicorn.Config(
            front, interface="asgi3", lifespan="auto", access_log=False, proxy_headers=False,
            server_header=False, date_header=False,
        )
        # Imports its protocols, which forks then share.
        self.config.load()

    def run(self, listener):
        server = self.server_type(self.config)

        def leave(number, frame):
            server.should_exit = True

        # It raises the signal again when it has finished, for handlers that were there before.
        on_leave(leave)
        server.run(sockets=[listener])


class Hypercorn:
    logs_failed_startup = False

    def __init__(self, front):
        from hypercorn.asyncio import serve
        from hypercorn.config import Config

        self.front, self.serve = front, serve
        self.config = Config()
        self.config.accesslog = None
        self.config.include_server_header = self.config.include_date_header = False

    def run(self, listener):
        import asyncio

        async def serve():
            stop = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            await self.serve(self.front, self.config, shutdown_trigger=stop.wait)

        self.config.bind = ["fd://%d" % listener.detach()]
        asyncio.run(serve())


