"""Requests that any HTTP client may send wrongly."""

from __future__ import annotations

from wrong_use.harness import Ask, Case

SQUARE = "/v1/apps/shop/functions/square"

CASES = {
    "http-body-too-large": Case(ask=Ask(path=f"{SQUARE}/call", body=b" " * 20_000_000)),
    "http-body-not-json": Case(ask=Ask(path=f"{SQUARE}/call", body=b"{x: 3}")),
    "http-body-of-the-wrong-shape": Case(ask=Ask(path=f"{SQUARE}/call", body=b"3")),
    "http-input-invalid": Case(ask=Ask(path=f"{SQUARE}/call", body=b'{"x": "three", "y": 1}')),
    "http-frame-malformed": Case(
        ask=Ask(path="/v1/calls", body=b"\xff\x00\x01", headers={"Content-Type": "application/x-relight"})
    ),
    "http-without-a-token": Case(ask=Ask(path=f"{SQUARE}/call", body=b'{"x": 3}', headers={"Authorization": ""})),
    "http-token-wrong": Case(ask=Ask(path=f"{SQUARE}/call", body=b'{"x": 3}', headers={"Authorization": "Bearer no"})),
    "http-path-unknown": Case(ask=Ask(method="GET", path="/v1/cals")),
    "http-method-wrong": Case(ask=Ask(method="PATCH", path="/v1/calls")),
    "http-result-is-python": Case(ask=Ask(path="/v1/apps/shop/functions/model/call", body=b"{}")),
    "http-foreign-host": Case(ask=Ask(method="GET", path="/v1/calls", headers={"Host": "evil.example"})),
}
