"""An application of ASGI 3: hatchery serve examples/apps/asgi"""

import os


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    query = scope["query_string"].decode()
    at = scope["path"] + (f"?{query}" if query else "")
    body = f"Hello from ASGI, process {os.getpid()}, at {at}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive, send):
    """What is opened at a worker's start is closed at its end."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
