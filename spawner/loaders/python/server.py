# Our own server for ASGI apps: the app's lifespan, and its connections.


class OwnServer:
    logs_failed_startup = False

    def __init__(self, front):
        # Forks share what is imported before them.
        import asyncio

        self.asyncio, self.app = asyncio, front
        self.connections = set()
        # What the app's startup leaves for requests.
        self.state = {}
        self.loop = self.stop_asked = None
        self.stopping = False

    def run(self, listener):
        self.asyncio.run(self.serve(listener))

    async def serve(self, listener):
        self.loop = self.asyncio.get_running_loop()
        self.stop_asked = self.asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self.stop_asked.set)
        lifespan = Lifespan(self)
        if await lifespan.start():
            self.app.begin()
            server = await self.loop.create_server(lambda: Connection(self), sock=listener)
            await self.stop_asked.wait()
            server.close()
            await self.finish()
            await lifespan.stop()
        # Another TERM must not find that nobody listens to it.
        on_leave(lambda number, frame: None)

    async def finish(self):
        """Requests that are worked on come to their end; idle connections and WebSockets are ended."""
        self.stopping = True
        for connection in list(self.connections):
            if connection.on_stop is not None:
                connection.on_stop()
            elif connection.idle:
                connection.transport.close()
        tasks = [connection.task for connection in self.connections]
        if tasks:
            await self.asyncio.wait(tasks)

    def forget(self, connection):
        self.connections.discard(connection)


class Lifespan:
    """The app's startup and shutdown, as it sees them: one call that lasts for all of its life."""

    def __init__(self, server):
        asyncio = server.asyncio
        self.server = server
        self.orders = asyncio.Queue()
        self.answers = asyncio.Queue()
        self.task = None

    async def start(self):
        """Whether it may serve. An app that knows no lifespan raises, or returns, and is served without."""
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.server.state,
        }
        self.task = self.server.loop.create_task(self.run(scope))
        self.orders.put_nowait({"type": "lifespan.startup"})
        return await self.answers.get() != "lifespan.startup.failed"

    async def stop(self):
        if not self.task.done():
            self.orders.put_nowait({"type": "lifespan.shutdown"})
            await self.answers.get()

    async def run(self, scope):
        started = False

        async def send(message):
            nonlocal started
            started = True
            if message["type"] == "lifespan.shutdown.failed":
                say("the app's shutdown (lifespan) failed: %s" % message.get("message", ""))
            self.answers.put_nowait(message["type"])

        try:
            await self.server.app(scope, self.orders.get, send)
        except BaseException as error:
            # Before it said anything, this is how an app says that it knows no lifespan.
            if started:
                show(error)
        self.answers.put_nowait("over")


ASGI = Asgi()


