import asyncio
import os
import sys
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import BaseModel


@asynccontextmanager
async def lifespan(app):
    app.state.word = "begun"
    yield
    with open("ended", "w") as file:
        file.write(app.state.word)


app = FastAPI(lifespan=lifespan)


class Order(BaseModel):
    article: str
    count: int = 1


@app.get("/")
async def hello():
    server = next((name for name in ("uvicorn", "hypercorn") if name in sys.modules), "none")
    return {"hello": "FastAPI", "lifespan": app.state.word, "server": server}


@app.get("/articles/{number}")
async def article(number: int, q: str | None = None):
    return {"number": number, "q": q}


@app.post("/orders", status_code=201)
async def order(order: Order, later: BackgroundTasks):
    later.add_task(note, order.article)
    return order


def note(article):
    with open("noted", "w") as file:
        file.write(article)


@app.get("/stream/{file}")
async def stream(file: str):
    async def pieces():
        yield "first\n"
        while not os.path.exists(file):
            await asyncio.sleep(0.005)
        yield "second\n"

    return StreamingResponse(pieces(), media_type="text/plain")


@app.websocket("/echo")
async def echo(socket: WebSocket):
    await socket.accept(subprotocol="shout")
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                break
            if message.get("text") == "leave":
                await socket.close(4001, "as you like")
                break
            if message.get("text") is not None:
                await socket.send_text(message["text"].upper())
            else:
                await socket.send_bytes(message["bytes"][::-1])
    except WebSocketDisconnect:
        pass


@app.get("/boom")
async def boom():
    raise RuntimeError("the kettle is empty")
