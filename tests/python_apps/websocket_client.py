# Talks to /echo at the address that is its argument.
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

with connect("ws://%s/echo" % sys.argv[1], subprotocols=["shout"], max_size=None) as socket:
    assert socket.subprotocol == "shout", socket.subprotocol
    for text in ("hello", "grüße", "x" * 100_000):
        socket.send(text)
        assert socket.recv(timeout=30) == text.upper(), text[:20]
    data = bytes(range(256)) * 300
    socket.send(data)
    assert socket.recv(timeout=30) == data[::-1]
    # A message in several frames.
    socket.send(["a", "b", "c"])
    assert socket.recv(timeout=30) == "ABC"
    assert socket.ping().wait(30), "a ping is answered"
    socket.send("leave")
    try:
        socket.recv(timeout=30)
        raise SystemExit("it is still open")
    except ConnectionClosed as closed:
        assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "as you like"), closed
print("all well")
