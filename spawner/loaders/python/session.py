# The session protocol: a block of CGI variables and a body in, an HTTP/1.1 answer out, on a kept connection.

from io import BufferedReader, BytesIO, RawIOBase

BLOCK_LIMIT = 1024 * 1024
DISCARD_LIMIT = 64 * 1024
DISCARD_WITHIN = 5.0
LINGER_WITHIN = 2.0
PIECE = 64 * 1024
NO_SIGNAL = _socket.MSG_NOSIGNAL
NO_WAIT = _socket.MSG_DONTWAIT
NO_CONTENT = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"


class BadRequest(Exception):
    """The front end sent what is no request; it is answered with this sentence, and the connection is closed."""


class Gone(ConnectionError):
    """The client is not there any more."""


class Connection:
    __slots__ = ("socket", "descriptor", "data", "failed")

    def __init__(self, socket):
        self.socket = socket
        self.descriptor = socket.fileno()
        # What was read and belongs to nothing yet.
        self.data = b""
        # Why it can't be used any more.
        self.failed = None

    def receive(self):
        """Reads what is there, without waiting; False at the end."""
        try:
            piece = self.socket.recv(PIECE, NO_WAIT)
        except BlockingIOError:
            return True
        except OSError as error:
            self.failed = error
            return False
        if not piece:
            if self.data:
                self.failed = Gone("it ended in the middle of a request's block")
            return False
        self.data = self.data + piece if self.data else piece
        return True

    def request(self):
        """The variables of the next request, if all of them are here. An empty block has none."""
        data = self.data
        colon = data.find(b":", 0, 8)
        if colon < 0:
            if len(data) < 8 and (not data or data.isdigit()):
                return None
            raise BadRequest("A request begins with its block's length and a colon.")
        length = data[:colon]
        if not length.isdigit():
            raise BadRequest("A request begins with its block's length and a colon.")
        end = colon + 1 + int(length)
        if end - colon - 1 > BLOCK_LIMIT:
            raise BadRequest("The request's block is longer than %d bytes." % BLOCK_LIMIT)
        if len(data) <= end:
            return None
        if data[end] != 44:
            raise BadRequest("The request's block does not end with a comma.")
        self.data = data[end + 1 :]
        fields = data[colon + 1 : end].decode("latin-1").split("\0")
        if fields.pop() or len(fields) % 2:
            raise BadRequest("The request's block is no list of names and values.")
        each = iter(fields)
        return dict(zip(each, each))

    def send(self, data):
        if self.failed is not None:
            raise Gone("the client has gone") from None
        try:
            self.socket.sendall(data, NO_SIGNAL)
        except OSError as error:
            self.failed = error
            raise Gone("the client has gone: %s" % error) from None

    def read_into(self, view):
        """What was read already, else what comes; never nothing."""
        if self.data:
            count = min(len(self.data), len(view))
            view[:count] = self.data[:count]
            self.data = self.data[count:]
            return count
        try:
            count = self.socket.recv_into(view)
        except OSError as error:
            self.failed = error
            raise Gone("the request's body can't be read: %s" % error) from None
        if not count:
            self.failed = Gone("the request's body ended too early")
            raise Gone("the request's body ended too early")
        return count


class SizedBody(RawIOBase):
    """A body of known length, as a raw stream: what is around it reads lines, and never beyond it."""

    def __init__(self, connection, length):
        self.connection, self.left = connection, length

    def readable(self):
        return True

    def readinto(self, view):
        if not self.left:
            return 0
        if len(view) > self.left:
            view = memoryview(view)[: self.left]
        count = self.connection.read_into(view)
        self.left -= count
        return count


class ChunkedBody(RawIOBase):
    """A body in chunks, of which `left` is known to come: -1 before the next chunk's size, 0 at the end of all."""

    def __init__(self, connection):
        self.connection, self.left = connection, -1

    def readable(self):
        return True

    def readinto(self, view):
        if self.left < 0:
            self.next_chunk()
        if not self.left:
            return 0
        if len(view) > self.left:
            view = memoryview(view)[: self.left]
        count = self.connection.read_into(view)
        self.left -= count
        if not self.left:
            if self.line():
                self.refuse("a chunk is longer than its size")
            self.left = -1
        return count

    def next_chunk(self):
        size = self.line().split(b";", 1)[0].strip()
        if not 0 < len(size) <= 16 or size.strip(b"0123456789abcdefABCDEF"):
            self.refuse("a chunk of the request's body has no size")
        self.left = int(size, 16)
        while not self.left and self.line():
            pass  # trailers

    def line(self):
        connection = self.connection
        while True:
            end = connection.data.find(b"\n")
            if end >= 0:
                line, connection.data = connection.data[:end], connection.data[end + 1 :]
                return line.rstrip(b"\r")
            if len(connection.data) > PIECE:
                self.refuse("a line between chunks is too long")
            before, connection.data = connection.data, b""
            piece = bytearray(PIECE)
            count = connection.read_into(piece)
            connection.data = before + piece[:count]

    def refuse(self, why):
        self.connection.failed = Gone(why)
        raise Gone(why)


def body_of(connection, variables):
    """The raw body, or None where there is none."""
    if variables.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked":
        # Chunks say where it ends, whatever else does.
        variables.pop("CONTENT_LENGTH", None)
        return ChunkedBody(connection)
    length = variables.get("CONTENT_LENGTH")
    if not length:
        return None
    if not (length.isascii() and length.isdigit() and len(length) < 19):
        raise BadRequest("CONTENT_LENGTH is no length.")
    length = int(length)
    return SizedBody(connection, length) if length else None


def read_to_end(connection, body):
    """Whether what the app left of a body could be read, so that the next request can be."""
    if body is None or body.left == 0:
        return True
    scratch, room = bytearray(8192), DISCARD_LIMIT
    connection.socket.settimeout(DISCARD_WITHIN)
    try:
        while room > 0:
            count = body.readinto(scratch)
            if not count:
                connection.socket.settimeout(None)
                return True
            room -= count
    except Gone:
        pass  # the answer is complete; there is nobody who wants more of this connection
    return False


def linger(connection, body):
    """Takes what still comes after the last answer. Were the connection closed instead, the front end would fail to
    write, and perhaps not look for the answer that is there already."""
    if body is None or body.left == 0 or connection.failed is not None:
        return
    from time import monotonic

    socket, scratch, until = connection.socket, bytearray(PIECE), monotonic() + LINGER_WITHIN
    try:
        socket.shutdown(_socket.SHUT_WR)
        while monotonic() < until:
            socket.settimeout(max(until - monotonic(), 0.001))
            if not socket.recv_into(scratch):
                return
    except OSError:
        pass  # it took too long, or there is nobody any more: the answer was sent all the same
