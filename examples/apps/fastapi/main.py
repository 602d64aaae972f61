"""`python3 -m venv .venv && .venv/bin/pip install -r requirements.txt` in this folder, then:
hatchery serve examples/apps/fastapi

With uvicorn or hypercorn installed too, that one serves it."""

import os

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse

app = FastAPI()


@app.websocket("/echo")
async def echo(socket: WebSocket):
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


@app.api_route("/{rest:path}", methods=["GET", "HEAD"], response_class=PlainTextResponse)
async def hello(request: Request):
    query = f"?{request.url.query}" if request.url.query else ""
    return f"Hello from FastAPI, process {os.getpid()}, at {request.url.path}{query}\n"
