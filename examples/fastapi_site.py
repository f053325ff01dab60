"""A FastAPI site with a page, a typed route, a stream and a WebSocket; and one function that needs no framework.

    pip install 'relight[examples]'
    relight deploy examples/fastapi_site.py                    # prints the URLs; open http://hello.localhost:8700/

It costs nothing while nobody asks: its worker leaves after `scaledown_window` seconds, and the next request starts another,
forked from a template that has FastAPI imported and the app made.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import relight

if TYPE_CHECKING:
    from fastapi import FastAPI

app = relight.App()

PAGE = """<!doctype html><meta charset="utf-8"><title>relight</title>
<h1>Say something</h1><form><input autofocus><button>Send</button></form><pre></pre>
<script>
const base = location.href.replace(/^http/, "ws").replace(/[^/]*$/, ""), heard = document.querySelector("pre");
const socket = new WebSocket(base + "echo");
socket.onmessage = event => heard.textContent += event.data + "\\n";
document.querySelector("form").onsubmit = event => {
  event.preventDefault();
  socket.send(document.querySelector("input").value);
};
</script>"""


@app.function()
@relight.asgi_app(label="hello")
def site() -> "FastAPI":
    from fastapi import FastAPI, WebSocket, WebSocketDisconnect
    from fastapi.responses import HTMLResponse, StreamingResponse

    api = FastAPI()

    @api.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return PAGE

    @api.get("/hello/{name}")
    async def hello(name: str, times: int = 1) -> dict[str, str]:
        return {"said": " ".join([f"hello {name}"] * times)}

    @api.get("/count")
    async def count(to: int = 3) -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            for number in range(to):
                yield f"data: {number}\n\n"
                await asyncio.sleep(0.1)

        return StreamingResponse(events(), media_type="text/event-stream")

    @api.websocket("/echo")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_text(f"you said {await socket.receive_text()}")
        except WebSocketDisconnect:
            return

    return api


@app.function()
@relight.web_endpoint(method="POST")
def area(width: float, height: float) -> dict[str, float]:
    """The area of a rectangle; open /docs below its URL to try it."""
    return {"area": width * height}
