# HTTP/1.1 for ASGI apps, where the app's environment has no server for them.

from collections import deque

HEAD_LIMIT = 64 * 1024
BUFFER_LIMIT = 256 * 1024
DISCARD_LIMIT = 64 * 1024
DISCARD_WITHIN = 5.0
LINGER_WITHIN = 2.0
OWN_HEADERS = (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade")


class Ended(Exception):
    """The connection ended where more was to come."""


class Malformed(Exception):
    """What came is no request."""


class Connection:
    """One connection, as a protocol of asyncio: bytes are kept until they are asked for."""

    def __init__(self, server):
        self.server, self.loop = server, server.loop
        self.transport = self.task = None
        self.buffer = bytearray()
        self.waiting = deque()
        # `eof`: nothing more comes; `gone`: nothing can be sent either.
        self.eof = self.gone = self.lost = self.clogged = self.reading_paused = False
        # Between requests.
        self.idle = True
        # How an open WebSocket is ended when the worker leaves.
        self.on_stop = None

    def connection_made(self, transport):
        self.transport = transport
        self.server.connections.add(self)
        self.task = self.loop.create_task(self.run())

    def data_received(self, data):
        self.buffer += data
        if len(self.buffer) > BUFFER_LIMIT and not self.reading_paused:
            self.reading_paused = True
            self.transport.pause_reading()
        self.wake()

    def eof_received(self):
        from select import POLLHUP, poll

        self.eof = True
        socket = self.transport.get_extra_info("socket")
        if socket is not None and socket.fileno() >= 0:
            look = poll()
            look.register(socket.fileno(), 0)
            # A client that has only ended its request still wants the answer.
            self.gone = any(what & POLLHUP for _, what in look.poll(0))
        self.wake()
        return True

    def connection_lost(self, error):
        self.eof = self.gone = self.lost = True
        self.wake()

    def pause_writing(self):
        self.clogged = True

    def resume_writing(self):
        self.clogged = False
        self.wake()

    def wake(self):
        while self.waiting:
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(None)

    async def change(self):
        future = self.loop.create_future()
        self.waiting.append(future)
        await future

    async def more(self):
        if self.eof:
            raise Ended
        if self.reading_paused:
            self.reading_paused = False
            self.transport.resume_reading()
        await self.change()

    async def line(self, end=b"\n", limit=HEAD_LIMIT):
        """All up to and with `end`."""
        start = 0
        while True:
            at = self.buffer.find(end, start)
            if at >= 0:
                return self.take(at + len(end))
            if len(self.buffer) > limit:
                raise Malformed("it has more than %d bytes without an end" % limit)
            start = max(0, len(self.buffer) - len(end) + 1)
            await self.more()

    async def exactly(self, count):
        while len(self.buffer) < count:
            await self.more()
        return self.take(count)

    async def some(self, limit):
        while not self.buffer:
            await self.more()
        return self.take(min(limit, len(self.buffer)))

    def take(self, count):
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def write(self, data):
        if not self.gone and not self.transport.is_closing():
            self.transport.write(data)

    async def drain(self):
        while self.clogged and not self.gone:
            await self.change()

    async def linger(self):
        """Takes what still comes after the last answer. Were the connection closed instead, the front end would fail
        to write, and perhaps not look for the answer that is there already."""
        import asyncio

        async def read():
            while True:
                self.buffer.clear()
                await self.more()

        if self.gone or self.transport.is_closing():
            return
        self.transport.write_eof()
        try:
            await asyncio.wait_for(read(), LINGER_WITHIN)
        except (Ended, asyncio.TimeoutError):
            pass

    async def run(self):
        try:
            while await self.request():
                self.idle = True
                if self.server.stopping:
                    break
        except Ended:
            pass  # a client may leave whenever it likes
        except Malformed as error:
            text = b"This is no request: %s.\n" % str(error).encode()
            self.write(
                b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (len(text), text)
            )
        except BaseException as error:
            show(error)
        finally:
            self.transport.close()
            while not self.lost:
                await self.change()  # until all is sent
            self.server.forget(self)

    async def request(self):
        """Serves one; whether another may follow."""
        while self.buffer[:2] == b"\r\n":
            del self.buffer[:2]
        head = await self.line(b"\r\n\r\n")
        self.idle = False
        scope, keep = parsed(head)
        headers = scope["headers"]
        values = {name: value for name, value in headers}
        scope["state"] = self.server.state.copy()
        if values.get(b"upgrade", b"").lower() == b"websocket" and scope["method"] == "GET":
            await WebSocket(self, scope, values).run(self.server.app)
            return False
        body = Body(self, headers)
        return await Exchange(self, scope, body, keep).run(self.server.app)


def parsed(head):
    from urllib.parse import unquote_to_bytes

    first, *lines = head[:-4].split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0") or not words[0].isalpha():
        raise Malformed("its first line is not like `GET / HTTP/1.1`")
    method, target, protocol = words
    headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip() or b"\0" in value or b"\n" in value:
            raise Malformed("a line of it is no header")
        headers.append((name.lower(), value.strip(b" \t")))
    said = b",".join(value.lower() for name, value in headers if name == b"connection")
    said = [word.strip() for word in said.split(b",")]
    keep = b"close" not in said if protocol == b"HTTP/1.1" else b"keep-alive" in said
    if target[:1] not in (b"/", b"*"):
        _, _, rest = target.partition(b"://")
        target = b"/" + rest.partition(b"/")[2]
    raw, _, query = target.partition(b"?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": protocol[5:].decode(),
        "method": method.decode().upper(),
        "scheme": "http",
        "path": unquote_to_bytes(raw).decode("utf-8", "replace"),
        "raw_path": raw,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": None,
        "server": None,
    }
    return scope, keep


class Body:
    """A request's body: `left` bytes of it, or of this chunk, are known to come; -1 before a chunk's size."""

    def __init__(self, connection, headers):
        self.connection = connection
        encodings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
        lengths = {value for name, value in headers if name == b"content-length"}
        self.chunked = bool(encodings)
        if encodings not in ([], [b"chunked"]):
            raise Malformed("its transfer encoding is not `chunked`")
        if len(lengths) > 1 or any(not value.isdigit() or len(value) > 18 for value in lengths):
            raise Malformed("its length is none")
        self.left = -1 if self.chunked else int(lengths.pop()) if lengths else 0

    async def piece(self, limit=64 * 1024):
        """The next bytes; none at the end."""
        if self.left < 0:
            size = (await self.connection.line()).split(b";", 1)[0].strip()
            if not 0 < len(size) <= 16 or size.strip(b"0123456789abcdefABCDEF"):
                raise Malformed("a chunk of its body has no size")
            self.left = int(size, 16)
            while not self.left and (await self.connection.line()).strip():
                pass  # trailers
        if not self.left:
            return b""
        data = await self.connection.some(min(limit, self.left))
        self.left -= len(data)
        if self.chunked and not self.left:
            if (await self.connection.line()).strip():
                raise Malformed("a chunk of its body is longer than its size")
            self.left = -1
        return data

    async def discard(self):
        """Whether the rest could be read."""
        import asyncio

        async def read():
            room = DISCARD_LIMIT
            while room > 0 and self.left:
                room -= len(await self.piece())
            return not self.left

        if not self.left:
            return True
        try:
            return await asyncio.wait_for(read(), DISCARD_WITHIN)
        except asyncio.TimeoutError:
            return False


class Exchange:
    """A request and its answer."""

    def __init__(self, connection, scope, body, keep):
        self.connection, self.scope, self.body, self.keep = connection, scope, body, keep
        self.asked = False  # the app has had the end of the body
        self.status = None  # what the app has started its answer with, which is not sent yet
        self.headers, self.length = [], None
        self.sent = self.done = self.chunked = False
        self.bare = scope["method"] == "HEAD"

    async def run(self, app):
        try:
            await app(self.scope, self.receive, self.send)
            if not self.done and not self.connection.gone:
                raise RuntimeError("the app returned before its answer was complete")
        except (Ended, Malformed):
            return False
        except BaseException as error:
            show(error)
            if self.sent:
                return False
            self.status, self.headers, self.length = 500, [(b"content-type", b"text/plain")], None
            await self.write(b"The application failed. Its log says why.\n", False)
        if self.keep and not self.connection.gone and await self.body.discard():
            return True
        if self.body.left:
            await self.connection.linger()
        return False

    async def receive(self):
        connection = self.connection
        if not self.asked and not self.done:
            try:
                data = await self.body.piece()
            except Ended:
                connection.gone = True
            else:
                self.asked = not self.body.left or not data
                return {"type": "http.request", "body": data, "more_body": not self.asked}
        while not self.done and not connection.gone:
            await connection.change()
        return {"type": "http.disconnect"}

    async def send(self, message):
        kind = message["type"]
        if kind == "http.response.start" and self.status is None:
            self.status = message["status"]
            self.take_headers(message.get("headers", ()))
        elif kind == "http.response.body" and self.status is not None and not self.done:
            await self.write(message.get("body", b""), message.get("more_body", False))
        elif not self.connection.gone:
            raise RuntimeError("%s is not to be sent now" % kind)

    def take_headers(self, headers):
        self.headers, self.length = [], None
        for name, value in headers:
            name, value = bytes(name).lower(), bytes(value)
            if any(letter in name + value for letter in (b"\r", b"\n", b"\0")) or not name:
                raise ValueError("the header %r has a control character, or no name" % name)
            if name == b"content-length":
                if not value.isdigit():
                    raise ValueError("Content-Length is %r, which is no length" % value)
                self.length = int(value)
            elif name == b"connection" and b"close" in value.lower():
                self.keep = False
            elif name not in OWN_HEADERS:
                self.headers.append((name, value))

    async def write(self, data, more):
        head = b"" if self.sent else self.head(len(data), more)
        if self.bare:
            data = b""
        elif self.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            if not more:
                data += b"0\r\n\r\n"
        elif self.length is not None:
            if len(data) > self.length:
                self.keep = False
                raise RuntimeError("the answer is longer than its Content-Length")
            self.length -= len(data)
        self.sent = True
        if head or data:
            self.connection.write(head + data)
        if not more:
            self.done = True
            if self.length and not self.bare:
                self.keep = False
                say("the answer is %d bytes shorter than its Content-Length" % self.length)
            self.connection.wake()
        await self.connection.drain()

    def head(self, known, more):
        from http import HTTPStatus

        try:
            reason = HTTPStatus(self.status).phrase
        except ValueError:
            reason = ""
        lines = [b"HTTP/1.1 %d %b" % (self.status, reason.encode())]
        lines += [name + b": " + value for name, value in self.headers]
        if self.status < 200 or self.status in (204, 304):
            self.bare = True
            if self.status != 304:
                self.length = None
        elif self.length is None and not self.bare:
            if not more:
                self.length = known
            elif self.scope["http_version"] == "1.1":
                self.chunked = True
                lines.append(b"transfer-encoding: chunked")
            else:
                self.keep = False
        if self.length is not None:
            lines.append(b"content-length: %d" % self.length)
        if self.body.left > DISCARD_LIMIT or self.connection.server.stopping:
            self.keep = False
        if not self.keep:
            lines.append(b"connection: close")
        elif self.scope["http_version"] == "1.0":
            lines.append(b"connection: keep-alive")
        return b"\r\n".join(lines) + b"\r\n\r\n"


