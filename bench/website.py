"""The site that is served: by relight, and by uvicorn as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

import relight

site = FastAPI()
app = relight.App("bench-web")


class Item(BaseModel):
    """What is posted."""

    text: str


@site.get("/")
async def noop() -> dict[str, bool]:
    """As little as there is."""
    return {"ok": True}


@site.post("/item")
async def item(item: Item) -> dict[str, int]:
    """A kilobyte in."""
    return {"length": len(item.text)}


@site.post("/large")
async def large(request: Request) -> Response:
    """A body back as it came."""
    return Response(await request.body(), media_type="application/octet-stream")


@site.get("/events")
async def events() -> StreamingResponse:
    """Ten a second, twenty of them."""

    async def said() -> AsyncIterator[str]:
        for number in range(20):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(said(), media_type="text/event-stream")


@site.websocket("/socket")
async def socket(socket: WebSocket) -> None:
    """Says what it hears."""
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        return


@app.function(max_workers=1)
@relight.asgi_app(max_inputs=2000)
def steady() -> FastAPI:
    """The site, on one worker that stays."""
    return site


@app.function(scaledown_window=0)
@relight.asgi_app()
def cold() -> FastAPI:
    """The site, on a worker that goes at once."""
    return site
