"""What is wrong with an app that is being written, as a page for whoever has it open: it looks again by itself.

Shown for runs alone (`relight serve`), to what asks for a page; all others are told a problem, or the version before answers.
"""

from __future__ import annotations

import html

from relight.gateway.exchange import Answer, Ask
from relight.gateway.problems import HttpProblem
from relight.protocol.errors import RelightError

RUN = "run-"
"""The environments of runs begin so."""

LOOK_MS = 300
"""How often the page looks whether there is something else to show."""

_HEADERS = (
    ("cache-control", "no-store"),
    (
        "content-security-policy",
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'",
    ),
)


def wants_page(ask: Ask) -> bool:
    """Whether a browser asks, for what it shows by itself."""
    return ask.head.method == "GET" and "text/html" in ask.header(b"accept")


def page_of(title: str, text: str, status: int = 500) -> Answer:
    """A page with a text, which is what somebody's code raised."""
    said = _PAGE.format(title=html.escape(title), text=html.escape(text), ms=LOOK_MS)
    return Answer(status=status, body=said.encode(), type="text/html; charset=utf-8", headers=_HEADERS)


def page_of_error(app: str, error: RelightError | HttpProblem) -> Answer:
    """A page with an error of ours, and with what raised it where that is known."""
    status = error.status
    told = "\n".join((str(error), *getattr(error, "__notes__", ())))
    return page_of(f"{app} cannot answer", told, status)


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
:root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
body {{ max-width: 60rem; margin: 3rem auto; padding: 0 1rem }}
pre {{ padding: 1rem; border-left: 4px solid #d33; background: #8881; overflow: auto; font: .9rem/1.5 ui-monospace, monospace }}
small {{ opacity: .7 }}
</style>
<noscript><meta http-equiv="refresh" content="1"></noscript>
<h1>{title}</h1><pre>{text}</pre><small>This page looks again by itself: save the file.</small>
<script>
let shown = null;
async function look() {{
  try {{
    const answer = await fetch(location.href, {{ headers: {{ accept: "text/html" }} }});
    const text = await answer.text();
    if (shown === null && answer.status >= 500) shown = text;
    if (answer.status < 500 || text !== shown) return location.reload();
  }} catch {{}}
  setTimeout(look, {ms});
}}
look();
</script></html>
"""
