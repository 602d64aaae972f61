# The app of the tests beside it: a page for each promise.
import sys, io, os, threading

def application(environ, start_response):
    return globals()["page_" + environ["PATH_INFO"].strip("/")](environ, start_response)

def ok(start_response, *more):
    return start_response("200 OK", [("Content-Type", "text/plain"), *more])

def page_hello(environ, start_response):
    ok(start_response)
    return [b"hello"]

def page_echo(environ, start_response):
    data = environ["wsgi.input"].read()
    ok(start_response)
    return [data]

def page_stream(environ, start_response):
    ok(start_response)
    return iter(lambda: environ["wsgi.input"].read1(65536), b"")

def page_lines(environ, start_response):
    body = environ["wsgi.input"]
    ok(start_response)
    first, some, rest = body.readline(), body.readlines(1), list(body)
    return [repr((first, some, rest, body.read(), body.readline())).encode()]

def page_ignore(environ, start_response):
    ok(start_response)
    return [b"ignored"]

def page_variables(environ, start_response):
    ok(start_response)
    return ["".join("%s=%s\n" % (k, v) for k, v in sorted(environ.items()) if isinstance(v, (str, bool, tuple))).encode("latin-1")]

def page_empty(environ, start_response):
    ok(start_response)
    return []

def page_generator(environ, start_response):
    yield b""
    ok(start_response)
    yield b""
    yield b"one"
    yield b"two"

def page_early(environ, start_response):
    yield b"too early"

def page_pieces(environ, start_response):
    ok(start_response)
    return [b"one", b"two"]

def page_write(environ, start_response):
    write = ok(start_response)
    write(b"one")
    return [b"two"]

def page_length(environ, start_response):
    ok(start_response, ("Content-Length", "5"))
    return iter([b"hel", b"lo, and more"])

def page_short(environ, start_response):
    ok(start_response, ("Content-Length", "5"))
    return iter([b"hel"])

def page_status(environ, start_response):
    start_response(environ["QUERY_STRING"] + " Whatever", [("Content-Length", "4")])
    return [b"body"]

def page_hop(environ, start_response):
    ok(start_response, ("Transfer-Encoding", "gzip"), ("Keep-Alive", "x"), ("Upgrade", "x"), ("X-Kept", "yes"))
    return [b"hello"]

def page_close(environ, start_response):
    ok(start_response, ("Connection", "close"))
    return [b"hello"]

def page_control(environ, start_response):
    ok(start_response, ("X-Bad", "a\r\nSet-Cookie: b"))
    return [b"hello"]

def page_name(environ, start_response):
    ok(start_response, ("X Bad", "a"))
    return [b"hello"]

def page_text(environ, start_response):
    ok(start_response)
    return ["text"]

def page_raise(environ, start_response):
    raise ValueError("no such luck")

def page_leave(environ, start_response):
    sys.exit(3)

def page_raise_late(environ, start_response):
    ok(start_response)
    yield b"one"
    raise ValueError("too late")

def page_excinfo(environ, start_response):
    ok(start_response)
    try:
        raise ValueError("changed its mind")
    except ValueError:
        start_response("503 Later", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"sorry"]

def page_excinfo_late(environ, start_response):
    write = ok(start_response)
    write(b"one")
    try:
        raise ValueError("changed its mind too late")
    except ValueError:
        start_response("503 Later", [], sys.exc_info())
    return [b"never"]

def page_twice(environ, start_response):
    ok(start_response)
    ok(start_response)
    return [b"never"]

class Closing:
    def __init__(self, pieces):
        self.pieces = pieces
    def __iter__(self):
        for piece in self.pieces:
            if piece is None:
                raise ValueError("in the middle")
            yield piece
    def close(self):
        print("closed", len(self.pieces))

def page_closed(environ, start_response):
    ok(start_response)
    return Closing([b"one"])

def page_closed_anyway(environ, start_response):
    ok(start_response)
    return Closing([b"one", None])

def page_file(environ, start_response):
    file = open("file.bin", "rb")
    file.seek(3)
    ok(start_response)
    return environ["wsgi.file_wrapper"](file, 4096)

def page_file_in_memory(environ, start_response):
    ok(start_response)
    return environ["wsgi.file_wrapper"](io.BytesIO(b"x" * 10000), 4096)

def page_zipped_file(environ, start_response):
    import gzip
    with gzip.open("file.gz", "wb") as file:
        file.write(b"unzipped")
    ok(start_response)
    return environ["wsgi.file_wrapper"](gzip.open("file.gz", "rb"))

def page_flood(environ, start_response):
    ok(start_response)
    while True:
        yield b"x" * 65536

barrier = threading.Barrier(3)
def page_together(environ, start_response):
    barrier.wait(20)
    ok(start_response)
    return [b"together"]

def page_slow(environ, start_response):
    print("at work")
    while not os.path.exists("go"):
        pass
    ok(start_response)
    return [b"done"]
