"""A room where everybody hears what anybody says: WebSockets of one worker, by ASGI itself, without a framework.

    relight deploy examples/websocket_room.py      # prints the URL; open it in two windows: http://room.localhost:8700/

All sockets are in one worker (`max_workers=1`), as it is that worker's memory which knows who is there.  It stays as long as anybody
is connected, and is gone when the last has left; nothing is kept.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import relight

app = relight.App()

UNHEARD = 100  # messages that somebody may still have to hear

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PAGE = b"""<!doctype html><meta charset="utf-8"><title>room</title>
<h1>A room</h1><form><input autofocus><button>Say</button></form><pre></pre>
<script>
const socket = new WebSocket(location.href.replace(/^http/, "ws")), heard = document.querySelector("pre");
socket.onmessage = event => heard.textContent += event.data + "\\n";
document.querySelector("form").onsubmit = event => {
  event.preventDefault();
  socket.send(document.querySelector("input").value);
};
</script>"""


class Room:
    """Who is there, each by what they are still to hear."""

    def __init__(self) -> None:
        self._people: dict[str, asyncio.Queue[str]] = {}
        self._count = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
            await send({"type": "http.response.body", "body": PAGE})
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await self.stay(receive, send)

    async def stay(self, receive: Receive, send: Send) -> None:
        """Somebody is there until their socket is closed."""
        self._count += 1
        name = f"guest {self._count}"
        heard = self._people[name] = asyncio.Queue(UNHEARD)
        hearing = asyncio.create_task(hear(heard, send))
        try:
            self.tell(f"{name} is here")
            while (message := await receive())["type"] == "websocket.receive":
                self.tell(f"{name}: {message.get('text')}")
        finally:
            hearing.cancel()
            del self._people[name]
            self.tell(f"{name} has left")

    def tell(self, text: str) -> None:
        """Everybody, but those who have not read what was said for long: nobody waits for them."""
        for heard in self._people.values():
            with suppress(asyncio.QueueFull):
                heard.put_nowait(text)


async def hear(heard: asyncio.Queue[str], send: Send) -> None:
    while True:
        await send({"type": "websocket.send", "text": await heard.get()})


@app.function(max_workers=1)
@relight.asgi_app(label="room", max_inputs=1000)
def room() -> Room:
    return Room()
