# WebSocket (RFC 6455) for ASGI apps.

MESSAGE_LIMIT = 16 * 1024 * 1024
CLOSE_WITHIN = 5.0
QUEUED = 16
CONTINUED, TEXT_FRAME, BINARY_FRAME, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Broken(Exception):
    """The client has broken the protocol: the close code that says how."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


class WebSocket:
    """One WebSocket, from its handshake to its end."""

    def __init__(self, connection, scope, headers):
        import asyncio

        self.connection, self.headers = connection, headers
        offered = headers.get(b"sec-websocket-protocol", b"").decode("latin-1")
        scope.pop("method")
        scope.update(type="websocket", scheme="ws")
        scope["subprotocols"] = [word.strip() for word in offered.split(",") if word.strip()]
        self.scope = scope
        # Messages for the app: a client that sends faster than the app takes them is made to wait.
        self.queue = asyncio.Queue(QUEUED)
        self.queue.put_nowait({"type": "websocket.connect"})
        self.accepted = self.close_sent = self.over = False
        self.reader = None

    async def run(self, app):
        import asyncio

        if self.headers.get(b"sec-websocket-version") != b"13":
            self.refuse(b"426 Upgrade Required", b"sec-websocket-version: 13\r\n")
            return
        if not self.headers.get(b"sec-websocket-key"):
            raise Malformed("it asks for a WebSocket without a key")
        self.reader = asyncio.ensure_future(self.read())
        self.connection.on_stop = lambda: self.close(1012, "")
        try:
            await app(self.scope, self.receive, self.send)
            self.close(1000, "")
        except (Ended, Malformed):
            pass  # the client has left
        except BaseException as error:
            show(error)
            if not self.accepted and not self.over:
                self.refuse(b"500 Internal Server Error")
            self.close(1011, "")
        finally:
            await self.part()

    async def part(self):
        """Lets the client say that it closes, too."""
        import asyncio

        if self.accepted and not self.connection.gone:
            # The rest is nobody's: it must not keep the reader from the end.
            self.over = True
            while not self.queue.empty():
                self.queue.get_nowait()
            await asyncio.wait([self.reader], timeout=CLOSE_WITHIN)
        self.reader.cancel()

    def refuse(self, status, more=b""):
        self.over = True
        self.connection.write(b"HTTP/1.1 %b\r\n%bcontent-length: 0\r\nconnection: close\r\n\r\n" % (status, more))

    async def receive(self):
        return await self.queue.get()

    async def send(self, message):
        kind = message["type"]
        if kind == "websocket.accept" and not self.accepted and not self.over:
            self.accept(message.get("subprotocol"), message.get("headers", ()))
        elif kind == "websocket.close":
            if self.accepted:
                self.close(message.get("code", 1000), message.get("reason") or "")
            elif not self.over:
                self.refuse(b"403 Forbidden")
        elif kind == "websocket.send" and self.accepted:
            if not self.close_sent:
                text = message.get("text")
                if text is not None:
                    self.frame(TEXT_FRAME, text.encode())
                else:
                    self.frame(BINARY_FRAME, message["bytes"])
        elif not (self.over or self.connection.gone):
            raise RuntimeError("%s is not to be sent now" % kind)
        await self.connection.drain()

    def accept(self, subprotocol, headers):
        from base64 import b64encode
        from hashlib import sha1

        key = b64encode(sha1(self.headers[b"sec-websocket-key"] + GUID).digest())
        lines = [b"HTTP/1.1 101 Switching Protocols", b"upgrade: websocket", b"connection: Upgrade"]
        lines.append(b"sec-websocket-accept: " + key)
        if subprotocol:
            lines.append(b"sec-websocket-protocol: " + subprotocol.encode("latin-1"))
        for name, value in headers:
            if any(letter in name + value for letter in (b"\r", b"\n", b"\0")) or not name:
                raise ValueError("the header %r has a control character, or no name" % name)
            lines.append(name + b": " + value)
        self.accepted = True
        self.connection.write(b"\r\n".join(lines) + b"\r\n\r\n")

    def frame(self, kind, payload):
        count = len(payload)
        if count < 126:
            head = bytes((0x80 | kind, count))
        elif count < 65536:
            head = bytes((0x80 | kind, 126)) + count.to_bytes(2, "big")
        else:
            head = bytes((0x80 | kind, 127)) + count.to_bytes(8, "big")
        self.connection.write(head + payload)

    def close(self, code, reason):
        if self.accepted and not self.close_sent:
            self.close_sent = True
            self.frame(CLOSE, code.to_bytes(2, "big") + reason.encode()[:123])

    async def read(self):
        """Until the end: messages go to the app, and the last tells it how it ended."""
        code, reason = 1006, ""
        try:
            code, reason = await self.messages()
            # The answer to the client's close; without effect where it is the answer.
            self.close(1000 if code == 1005 else code, "")
        except Broken as error:
            code = error.code
            self.close(code, "")
        except Ended:
            self.connection.gone = True
        self.connection.wake()
        await self.give({"type": "websocket.disconnect", "code": code, "reason": reason})

    async def give(self, message):
        if not self.over:
            await self.queue.put(message)

    async def messages(self):
        """Reads until the client closes: its code and reason."""
        kind, parts, size = None, [], 0
        while True:
            final, opcode, payload = await self.next_frame(size)
            if opcode == CLOSE:
                return closed(payload)
            if opcode == PING:
                if not self.close_sent:
                    self.frame(PONG, payload)
                    await self.connection.drain()
            elif opcode in (TEXT_FRAME, BINARY_FRAME, CONTINUED):
                if (opcode == CONTINUED) != (kind is not None):
                    raise Broken(1002)
                kind = opcode or kind
                parts.append(payload)
                size += len(payload)
                if final:
                    await self.give(message_of(kind, b"".join(parts)))
                    kind, parts, size = None, [], 0
            elif opcode != PONG:
                raise Broken(1002)

    async def next_frame(self, before):
        first, second = await self.connection.exactly(2)
        final, opcode, count = bool(first & 0x80), first & 0x0F, second & 0x7F
        if first & 0x70 or not second & 0x80 or (opcode >= CLOSE and (count > 125 or not final)):
            raise Broken(1002)
        if count == 126:
            count = int.from_bytes(await self.connection.exactly(2), "big")
        elif count == 127:
            count = int.from_bytes(await self.connection.exactly(8), "big")
        if count + before > MESSAGE_LIMIT:
            raise Broken(1009)
        mask = await self.connection.exactly(4)
        payload = await self.connection.exactly(count)
        key = int.from_bytes((mask * (count // 4 + 1))[:count], "little")
        return final, opcode, (int.from_bytes(payload, "little") ^ key).to_bytes(count, "little")


def message_of(kind, data):
    if kind == BINARY_FRAME:
        return {"type": "websocket.receive", "bytes": data}
    try:
        return {"type": "websocket.receive", "text": data.decode()}
    except UnicodeDecodeError:
        raise Broken(1007) from None


def closed(payload):
    if not payload:
        return 1005, ""
    code = int.from_bytes(payload[:2], "big")
    if len(payload) < 2 or not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise Broken(1002)
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise Broken(1007) from None


