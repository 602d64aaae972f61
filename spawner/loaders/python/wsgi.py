# WSGI (PEP 3333): one request through the app.

from io import FileIO, BufferedRandom

NAME_CACHE_LIMIT = 500
PLAIN, LENGTH, CONNECTION, HOP = range(4)
# What a header's name means, for names that have been looked at.
NAMES = {"Content-Type": PLAIN, "Content-Length": LENGTH}
HOP_BY_HOP = "keep-alive proxy-authenticate proxy-authorization proxy-connection te trailers transfer-encoding upgrade"


class FileWrapper:
    """`wsgi.file_wrapper`: a file that is sent by the kernel where it can be."""

    def __init__(self, file, block_size=PIECE):
        self.file, self.block_size = file, block_size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self):
        return self

    def __next__(self):
        data = self.file.read(self.block_size)
        if not data:
            raise StopIteration
        return data

    def real(self):
        """The file's descriptor, where to begin, and how much there is; None if it is more than plain bytes on a
        disk (a `GzipFile` has a descriptor too)."""
        from stat import S_ISREG

        file = self.file
        if type(file) not in (BufferedReader, BufferedRandom, FileIO):
            file = getattr(file, "file", None)  # what `tempfile` wraps
        raw = getattr(file, "raw", file)
        if type(file) not in (BufferedReader, BufferedRandom, FileIO) or type(raw) is not FileIO:
            return None
        status = os.fstat(raw.fileno())
        if not S_ISREG(status.st_mode):
            return None
        begin = file.tell()
        return raw.fileno(), begin, max(status.st_size - begin, 0)


class Answer:
    """The answer to one request. `head` are the app's status line and headers until they are sent."""

    __slots__ = ("connection", "bare", "modern", "head", "code", "length", "left", "keep", "chunked", "sent", "body")

    def __init__(self, connection, variables, body, keep):
        self.connection, self.body, self.keep = connection, body, keep
        self.bare = variables.get("REQUEST_METHOD") == "HEAD"
        self.modern = variables.get("SERVER_PROTOCOL") != "HTTP/1.0"
        # `length` is what the app says, `left` how much of it is still to come.
        self.head = self.length = self.left = None
        self.code = 0
        self.chunked = self.sent = False
        if variables.get("HTTP_CONNECTION", "").lower() == "close":
            self.keep = False

    def start(self, status, headers, exc_info=None):
        """`start_response`."""
        if exc_info:
            try:
                if self.sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.head is not None:
            raise AssertionError("start_response was called again, without exc_info")
        if len(status) < 3 or not status[:3].isdigit() or status[3:4] not in ("", " ") or not status.isprintable():
            raise ValueError("the status %r is none: it is like '200 OK'" % (status,))
        code = int(status[:3])
        if code < 200:
            raise ValueError("the status %s is not the app's to send" % status)
        self.length = None
        lines = ["HTTP/1.1 ", status if len(status) > 3 else status + " ", "\r\n"]
        for name, value in headers:
            meaning = NAMES.get(name)
            if meaning is None:
                meaning = meant(name)
            if not value.isprintable():
                check_value(name, value)
            if meaning == PLAIN:
                lines += name, ": ", value, "\r\n"
            elif meaning == LENGTH:
                if not (value.isascii() and value.isdigit() and len(value) < 19):
                    raise ValueError("Content-Length is %r, which is no length" % value)
                self.length = int(value)
            elif meaning == CONNECTION and "close" in value.lower():
                self.keep = False
        self.code, self.head = code, "".join(lines).encode("latin-1")
        return self.write

    def write(self, data):
        """What `start_response` returns, and how each piece of the body goes."""
        if self.head is None:
            raise AssertionError("data came before start_response was called")
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError("a body is made of bytes, and this is %s" % type(data).__name__)
        first = b"" if self.sent else self.begin(None)
        if self.left is not None and len(data) > self.left:
            data = data[: self.left]
            say("the body is longer than its Content-Length of %d; it was cut" % self.length)
        if self.bare or not data:
            data = b""
        elif self.chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        elif self.left is not None:
            self.left -= len(data)
        if first or data:
            self.connection.send(first + data if first else data)

    def begin(self, known):
        """The head's bytes. `known` is the body's length, where all of it is at hand."""
        self.sent = True
        head, code, length = self.head, self.code, self.length
        if code == 204 or code == 304 or self.bare:
            if length is not None and code != 204:
                head += b"Content-Length: %d\r\n" % length
            # A body that has no place is not sent.
            self.bare, length = True, None
        else:
            if length is None:
                length = self.length = known
            if length is not None:
                head += b"Content-Length: %d\r\n" % length
            elif self.modern:
                self.chunked = True
                head += b"Transfer-Encoding: chunked\r\n"
            else:
                self.keep = False
        self.left = length
        if self.body is not None and self.body.left > DISCARD_LIMIT:
            self.keep = False
        return head + (b"\r\n" if self.keep else b"Connection: close\r\n\r\n")

    def whole(self, data):
        """The head and all of the body."""
        if self.head is None:
            raise AssertionError("the app returned without calling start_response")
        if self.sent:
            if data:
                self.write(data)
            return
        head = self.begin(len(data))
        if self.bare:
            data = b""
        elif self.left < len(data):
            say("the body is longer than its Content-Length of %d; it was cut" % self.length)
            data = data[: self.left]
        self.left = None if self.bare else self.left - len(data)
        self.connection.send(head + data)

    def file(self, descriptor, offset, count):
        if self.head is None:
            raise AssertionError("the app returned without calling start_response")
        head = self.begin(count)
        self.connection.send(head)
        if self.bare:
            return
        count = min(count, self.left)
        to = self.connection.descriptor
        while count:
            try:
                sent = os.sendfile(to, descriptor, offset, min(count, 1 << 30))
            except (BrokenPipeError, ConnectionError) as error:
                self.connection.failed = error
                raise Gone("the client has gone: %s" % error) from None
            if not sent:
                break  # the file has become shorter
            offset, count, self.left = offset + sent, count - sent, self.left - sent

    def end(self):
        """After the last piece. Whether the connection can be kept."""
        if not self.sent:
            self.whole(b"")
        if self.chunked:
            self.connection.send(b"0\r\n\r\n")
        if self.left:
            say("the body is %d bytes shorter than its Content-Length of %d" % (self.left, self.length))
            return False
        return self.keep

    def error(self):
        """After an exception: says so where nothing was said yet."""
        if not self.sent:
            self.keep = self.keep and self.connection.failed is None
            self.head = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\n"
            self.code, self.length = 500, None
            self.whole(b"The application failed. Its log says why.\n")
            return self.keep
        return False


def meant(name):
    """What a header of this name means here; its characters are checked."""
    if not name or not name.isascii() or not name.translate(TOKEN_EXTRA).isalnum():
        raise ValueError("a header's name can't be %r" % (name,))
    low = name.lower()
    meaning = LENGTH if low == "content-length" else CONNECTION if low == "connection" else PLAIN
    if low in HOP_BY_HOP.split():
        meaning = HOP
    if len(NAMES) < NAME_CACHE_LIMIT:
        NAMES[name] = meaning
    return meaning


TOKEN_EXTRA = dict.fromkeys(map(ord, "!#$%&'*+-.^_`|~"), "a")


def check_value(name, value):
    for letter in value:
        if (letter < " " and letter != "\t") or letter == "\x7f":
            raise ValueError("the header %s has a control character in its value: %r" % (name, value))


class Wsgi:
    title = "WSGI"

    def __init__(self):
        self.app = self.fixed = None

    def check(self, state, app):
        if is_asgi(app):
            raise Failure("entry", "%s is an ASGI application" % state.entry, "Say `type = \"asgi\"`.")

    def prepare(self, state):
        self.fixed = {
            "wsgi.version": (1, 0),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": state.threads != 1,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.input_terminated": True,
        }

    def serve(self, state):
        serve_sessions(state, self.request)

    def request(self, connection, environ, keep):
        """Answers a request; whether the connection can be kept."""
        body = body_of(connection, environ)
        environ.update(self.fixed)
        environ["wsgi.url_scheme"] = "https" if environ.get("HTTPS") == "on" else "http"
        environ["wsgi.input"] = BytesIO() if body is None else BufferedReader(body, 16 * 1024)
        answer = Answer(connection, environ, body, keep)
        result = None
        try:
            try:
                result = self.app(environ, answer.start)
                kept = respond(answer, result)
            finally:
                finish(result)
        except BaseException as error:
            if connection.failed is None or not isinstance(error, Gone):
                show(error)
            if connection.failed is not None and answer.sent:
                return False
            try:
                kept = answer.error()
            except Gone:
                return False  # said when the connection is closed
        if kept and connection.failed is None and read_to_end(connection, body):
            return True
        linger(connection, body)
        return False


def finish(result):
    if hasattr(result, "close"):
        try:
            result.close()
        except BaseException as error:
            show(error)  # the answer is what it is


def respond(answer, result):
    kind = type(result)
    if kind is list or kind is tuple:
        answer.whole(result[0] if len(result) == 1 and type(result[0]) is bytes else b"".join(result))
        return answer.end()
    if kind is FileWrapper and not answer.sent:
        real = result.real()
        if real is not None:
            answer.file(*real)
            return answer.end()
    try:
        single = len(result) == 1
    except TypeError:
        single = False  # it has no length
    for piece in result:
        if single:
            if not isinstance(piece, bytes):
                raise TypeError("a body is made of bytes, and this is %s" % type(piece).__name__)
            answer.whole(piece)
            single = False
        elif piece:
            answer.write(piece)
    return answer.end()


WSGI = Wsgi()


