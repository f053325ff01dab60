"""What users' own apps answer: which host or path leads to which, who may ask, and what passes.

    http://<label>.localhost:PORT/…     an origin of its own
    http://HOST:PORT/w/<app>/<name>/…   a path of this server's origin: it carries no cookies, either way

A request is parsed once, here; what a worker hears of it is its head as fields, and its body as it comes.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote

from relight.control.exchanges import Exchange
from relight.control.web import Target
from relight.gateway import pages, tracebacks
from relight.gateway.exchange import Answer, Ask, ClientGone, RawAnswer
from relight.gateway.guard import Hosts, authenticate
from relight.gateway.platform import Platform
from relight.gateway.problems import HttpProblem
from relight.protocol.errors import Forbidden, InvalidRequest, NotFound, RelightError, TooLarge, Unavailable
from relight.protocol.views import Scope
from relight.protocol.web import Fields, RequestHead, pack_request

PREFIX = "/w/"
SUFFIX = ".localhost"
WORKSPACE = "default"
RETRY_SECONDS = 1

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
_FORWARDED = frozenset(
    {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded"}
)
_HOPS = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"),
        *(b"te", b"trailer", b"transfer-encoding", b"expect", b"x-relight-token", b"x-real-ip"),
    }
)
_DROPPED = {
    (False, False): _HOPS | _FORWARDED | {b"upgrade"},
    (False, True): _HOPS | _FORWARDED,
    (True, False): _HOPS | _FORWARDED | {b"upgrade", b"cookie"},
    (True, True): _HOPS | _FORWARDED | {b"cookie"},
}
"""What a worker is not told, by whether it is asked by a path, and whether for a WebSocket."""


class Place(NamedTuple):
    """Where a request leads.  `root` is the part of its path that says so, as it came; "" for a host's own."""

    app: str
    environment: str
    name: str
    root: bytes


@dataclass(frozen=True, slots=True)
class Proxies:
    """The networks whose word is taken for whom they ask for."""

    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]

    @classmethod
    def of(cls, texts: tuple[str, ...]) -> Proxies:
        """Of their addresses, or networks in CIDR.  Raises InvalidRequest."""
        try:
            return cls(tuple(ipaddress.ip_network(text, strict=False) for text in texts))
        except ValueError as error:
            raise InvalidRequest(
                f"cannot trust a proxy: {error}; give trusted_proxies addresses, or networks such as 10.0.0.0/8"
            ) from error

    def trusts(self, host: str) -> bool:
        """Whether an address is one of theirs."""
        if not self.networks or not host:
            return False
        with suppress(ValueError):
            address = ipaddress.ip_address(host)
            return any(address in network for network in self.networks)
        return False

    def client(self, ask: Ask) -> tuple[bytes, bytes, bytes]:
        """The address and port of whoever asks, and the scheme; by a trusted proxy's word where one asks for them."""
        host, port, scheme = ask.peer.host, ask.peer.port, "http"
        if self.trusts(host):
            scheme = "https" if ask.header(b"x-forwarded-proto").rpartition(",")[2].strip() == "https" else "http"
            for one in reversed(ask.header(b"x-forwarded-for").split(",")):
                if not one.strip():
                    break
                host, port = one.strip(), 0
                if not self.trusts(host):
                    break
        return host.encode("latin-1", "replace"), b"%d" % port, scheme.encode()


class Sites:
    """Answers for users' apps."""

    def __init__(self, platform: Platform, hosts: Hosts, proxies: Proxies) -> None:
        self._platform = platform
        self._hosts = hosts
        self._proxies = proxies
        self._places: dict[bytes, Place] = {}

    def find(self, ask: Ask) -> Place | None:
        """Where a request leads; None when that is to this server's own API.  Raises NotFound, or a problem."""
        raw = ask.head.raw_path
        if ask.peer.uid is None and ask.peer.principal is None:
            host = ask.header(b"host").lower().rpartition("@")[2].partition(":")[0]
            if host.endswith(SUFFIX):
                return self._labelled(host.removesuffix(SUFFIX))
            if raw.startswith(b"/w/") and not self._hosts.take(ask.header(b"host")):
                raise HttpProblem(
                    421,
                    Forbidden(
                        f"cannot answer for host {host[:100]!r}: it is not a name of this server; see `allowed_hosts`"
                    ),
                )
        return self._of_path(raw) if raw.startswith(b"/w/") else None

    def _labelled(self, label: str) -> Place:
        found = self._platform.web.labelled(label)
        if found is None:
            raise NotFound(f"cannot find {label[:70]!r}: nothing that is deployed answers there; see `relight apps`")
        return Place(*found, root=b"")

    def _of_path(self, raw: bytes) -> Place:
        words = raw.split(b"/", 4)  # "", w, app, name, the rest
        if len(words) < 4 or not words[2] or not words[3]:
            raise NotFound(
                "cannot find this path: it names no function; write /w/APP/FUNCTION/…, or /w/APP@ENVIRONMENT/FUNCTION/…"
            )
        root = b"/w/%b/%b" % (words[2], words[3])
        known = self._places.get(root)
        if known is None:
            app, _, environment = unquote(words[2].decode("latin-1")).partition("@")
            known = Place(app, environment or "main", unquote(words[3].decode("latin-1")), root)
            if len(self._places) < 10_000:
                self._places[root] = known
        return known

    async def answer(self, ask: Ask, place: Place) -> Answer | RawAnswer:
        """Have an app answer; where it is being written, a page says what is wrong with it.  Raises ClientGone."""
        if not place.environment.startswith(tracebacks.RUN) or not tracebacks.wants_page(ask):
            return await self._answer(ask, place)
        fault = self._platform.runs.fault(WORKSPACE, place.environment)
        if fault:
            return tracebacks.page_of(f"{place.app} does not load", fault)
        try:
            return await self._answer(ask, place)
        except (RelightError, HttpProblem) as error:
            if error.status < 500:
                raise
            return tracebacks.page_of_error(place.app, error)

    async def _answer(self, ask: Ask, place: Place) -> Answer | RawAnswer:
        target = await self._platform.web.target(WORKSPACE, place.app, place.environment, place.name)
        origin = ask.header(b"origin") if target.web.cors else ""
        allowed = _allowed(origin, target.web.cors)
        if allowed and ask.head.method == "OPTIONS" and ask.header(b"access-control-request-method"):
            return _preflight(ask, allowed)
        rest = ask.head.raw_path[len(place.root) :]
        try:
            self._check(ask, target)
        except HttpProblem as refused:
            if "text/html" in ask.header(b"accept") and (gate := pages.gate(target, rest, refused)) is not None:
                return gate
            raise
        if target.web.kind == "endpoint" and rest not in (b"", b"/"):
            made = pages.answer(target, rest, place.root)
            if made is None:
                raise NotFound(
                    f"cannot find {ask.head.path[:200]!r}: there is nothing below the endpoint; ask for {place.root.decode('latin-1')}/"
                )
            return made
        answer = await self._pass(ask, target, place)
        return answer if not allowed else _with_origin(answer, allowed)

    def _check(self, ask: Ask, target: Target) -> None:
        """Whether they may.  Raises a problem."""
        if not target.web.needs_token:
            return
        principal = authenticate(ask, self._platform.tokens)
        if not principal.scope.includes(Scope.CALL):
            raise Forbidden(f"cannot open {target.name}: it needs a token of scope 'call'; show such a one")
        app, environment = target.version.app, target.version.environment
        if principal.app not in ("", app) or principal.environment not in ("", environment):
            raise Forbidden(
                f"cannot open {target.name}: the token is for another app; use one for this app, or for all"
            )

    async def _pass(self, ask: Ask, target: Target, place: Place) -> RawAnswer:
        head, is_upgrade = ask.head, ask.is_upgrade
        packed = pack_request(self._head(ask, place, hides_token=target.web.needs_token))
        body = None if is_upgrade else ask.whole_body()
        if body is None and not is_upgrade:
            _check_announced(ask)
        exchange = self._platform.web.open(
            target, packed, body, is_idempotent=head.method in _IDEMPOTENT, is_tunnel=is_upgrade
        )
        ask.may_wait = is_upgrade
        pumping = None
        if body is None:
            pumping = asyncio.ensure_future(_pump(ask, exchange))
        try:
            answered = exchange.answered
            result = answered.result() if answered.done() else await ask.unless_gone(answered)
        except RelightError as error:
            if pumping is not None:
                pumping.cancel()
            raise _as_problem(error) from None
        except BaseException:
            exchange.hang_up()
            if pumping is not None:
                pumping.cancel()
            raise
        fields = _without_cookies(result.head.headers) if place.root else result.head.headers
        if result.body is not None:
            return RawAnswer(status=result.head.status, fields=fields, body=result.body)
        return RawAnswer(status=result.head.status, fields=fields, parts=_parts(exchange, pumping))

    def _head(self, ask: Ask, place: Place, *, hides_token: bool) -> RequestHead:
        head = ask.head
        dropped = _DROPPED[bool(place.root), ask.is_upgrade]
        if hides_token:
            dropped = dropped | {b"authorization"}
        client, client_port, scheme = self._proxies.client(ask)
        host, _, port = ask.header(b"host").rpartition(":")
        if not port.isdecimal():
            host, port = ask.header(b"host"), "443" if scheme == b"https" else "80"
        raw = head.raw_path
        return RequestHead(
            method=head.method.encode(),
            raw_path=raw if raw != place.root else raw + b"/",
            query_string=head.query_string,
            root_path=place.root,
            scheme=scheme,
            host=(host or "localhost").encode("latin-1"),
            port=port.encode(),
            client=client,
            client_port=client_port,
            version=b"1.0" if head.is_old else b"1.1",
            headers=[pair for pair in head.headers if pair[0] not in dropped],
        )


async def _pump(ask: Ask, exchange: Exchange) -> None:
    """Pass a body, or what follows a request for a WebSocket, on as it comes and is taken."""
    try:
        async for part in ask.tunnel() if ask.is_upgrade else ask.stream(ask.limits.blob_bytes):
            await exchange.send(part)
        exchange.finish()
    except ClientGone:
        exchange.hang_up()
    except HttpProblem as problem:
        exchange.fail(problem.error)


async def _parts(exchange: Exchange, pumping: asyncio.Task[None] | None) -> AsyncIterator[bytes]:
    try:
        async for part in exchange.parts():
            yield part
    finally:
        exchange.hang_up()
        if pumping is not None:
            pumping.cancel()


def _check_announced(ask: Ask) -> None:
    announced = ask.header(b"content-length")
    if announced.isdecimal() and int(announced) > ask.limits.blob_bytes:
        raise HttpProblem.too_large(int(announced), ask.limits.blob_bytes)


def _as_problem(error: RelightError) -> RelightError | HttpProblem:
    if isinstance(error, Unavailable):
        return HttpProblem(503, error, (("retry-after", str(RETRY_SECONDS)),))
    if isinstance(error, TooLarge):
        return HttpProblem(413, error)
    return error


def _without_cookies(fields: Fields) -> Fields:
    if any(name == b"set-cookie" for name, _ in fields):
        return [pair for pair in fields if pair[0] != b"set-cookie"]
    return fields


def _allowed(origin: str, cors: tuple[str, ...]) -> bytes:
    """What is said of who may read the answer; nothing where whoever asks may not, or no page does."""
    if not origin or not cors:
        return b""
    if "*" in cors:
        return b"*"
    return origin.encode("latin-1") if origin in cors else b""


def _with_origin(answer: RawAnswer, allowed: bytes) -> RawAnswer:
    if any(name == b"access-control-allow-origin" for name, _ in answer.fields):
        return answer
    more = ((b"access-control-allow-origin", allowed), (b"vary", b"Origin"))
    return RawAnswer(status=answer.status, fields=(*answer.fields, *more), body=answer.body, parts=answer.parts)


def _preflight(ask: Ask, allowed: bytes) -> RawAnswer:
    asked = ask.header(b"access-control-request-headers").encode("latin-1")
    fields: list[tuple[bytes, bytes]] = [
        (b"access-control-allow-origin", allowed),
        (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        (b"access-control-max-age", b"600"),
        (b"vary", b"Origin"),
    ]
    if asked:
        fields.append((b"access-control-allow-headers", asked))
    return RawAnswer(status=204, fields=fields, body=b"")
