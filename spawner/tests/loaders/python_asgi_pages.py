# The app of the tests beside it: a page for each promise.
import asyncio, os
started = []

async def app(scope, receive, send):
    await globals()[scope["type"]](scope, receive, send)

async def lifespan(scope, receive, send):
    assert (await receive())["type"] == "lifespan.startup"
    scope["state"]["made"] = "at startup"
    started.append(os.getpid())
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    print("shutdown")
    await send({"type": "lifespan.shutdown.complete"})

async def http(scope, receive, send):
    await globals()["page_" + scope["path"].rpartition("/")[2]](scope, receive, send)

async def start(send, status=200, headers=()):
    await send({"type": "http.response.start", "status": status, "headers": headers})

async def end(send, body=b"", more_body=False):
    await send({"type": "http.response.body", "body": body, "more_body": more_body})

async def body_of(receive):
    body, more = b"", True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        body, more = body + message["body"], message["more_body"]
    return body

async def page_hello(scope, receive, send):
    await start(send)
    await end(send, b"hello")

async def page_echo(scope, receive, send):
    body = await body_of(receive)
    await start(send)
    await end(send, body)

async def page_stream(scope, receive, send):
    await start(send)
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await end(send, message["body"], True)
    await end(send)

async def page_scope(scope, receive, send):
    await start(send, headers=[(b"X-Kept", b"yes"), (b"Connection", b"keep-alive"), (b"Transfer-Encoding", b"chunked")])
    names = ["type", "http_version", "method", "scheme", "path", "query_string", "root_path", "client"]
    facts = ["%s=%r" % (name, scope[name]) for name in names]
    facts.append("host=%r" % dict(scope["headers"])[b"host"])
    facts.append("state=%r" % scope["state"]["made"])
    facts.append("started here=%r" % (started == [os.getpid()]))
    await end(send, "\n".join(facts).encode())

async def page_length(scope, receive, send):
    await start(send, headers=[(b"content-length", b"5")])
    await end(send, b"he", True)
    await end(send, b"llo")

async def page_status(scope, receive, send):
    await start(send, int(scope["query_string"]))
    await end(send, b"" if scope["query_string"] in (b"204", b"304") else b"body")

async def page_raise(scope, receive, send):
    raise ValueError("no such luck")

async def page_raise_late(scope, receive, send):
    await start(send)
    await end(send, b"one", True)
    raise ValueError("too late")

async def page_unfinished(scope, receive, send):
    await start(send)
    await end(send, b"one", True)

async def page_control(scope, receive, send):
    await start(send, headers=[(b"x-bad", b"a\r\nset-cookie: b")])
    await end(send, b"never")

async def page_wait(scope, receive, send):
    await body_of(receive)
    print("waiting", flush=True)
    print((await receive())["type"], flush=True)

async def page_flood(scope, receive, send):
    await start(send)
    for _ in range(400):
        await end(send, b"x" * 65536, True)
        print("sent", flush=True)
    await end(send)

async def page_slow(scope, receive, send):
    print("at work", flush=True)
    while not os.path.exists("go"):
        await asyncio.sleep(0.01)
    await start(send)
    await end(send, b"x" * 1000000)
