"""Deploys from Git: a push that is signed is fetched, looked into in a sandbox, and deployed.

    push ─▶ queued ─▶ fetching ─▶ loading ─▶ deployed
                          └───────────┴────▶ failed      (what was deployed before serves on)

What is pushed runs nowhere but in a sandbox: a function of ours, in a run of its own, imports the app's file there and says
what its apps are.  One push of a source is worked on at a time, and of those that wait only the newest.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import platform
import secrets
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Protocol
from urllib.parse import urlsplit

from relight.blobs.store import BlobStore
from relight.clock import Clock, now_ms
from relight.control.calls import Calls
from relight.control.deploys import Deploys
from relight.control.runs import Runs
from relight.forge import Fetched, ForgeError
from relight.protocol.api import MAX_WAIT_SECONDS, Await, Deploy, Submit
from relight.protocol.archive import archive
from relight.protocol.calls import CallRequest, CallState, CallView
from relight.protocol.codec import from_plain
from relight.protocol.errors import DeployFailed, InvalidRequest, NotFound, RelightError, Unauthenticated, Unavailable
from relight.protocol.ids import new_id
from relight.protocol.manifest import CodeBundle, FunctionSpec, HostImage, Json, Manifest
from relight.protocol.payload import JSON, Payload
from relight.protocol.sources import PushState, PushView, SourceRequest, SourceView
from relight.store.sources import SourceRow
from relight.store.store import Store

FOLDER = "/app"
"""Where workers see what was deployed from Git."""

KEPT_DETAIL = 1000
SHOWN_DETAIL = 140
"""How much of why it failed is kept, and how much of that a commit's status may say."""

_SAID = {
    PushState.QUEUED: "waiting",
    PushState.LOADING: "being loaded",
    PushState.DEPLOYED: "deployed",
    PushState.SUPERSEDED: "a later push took its place",
}
_STATUS = {PushState.DEPLOYED: "success", PushState.FAILED: "failure", PushState.SUPERSEDED: "failure"}
"""What a commit's status says of a push, where that is not that it is pending."""

_log = logging.getLogger("relight.control")


class ReachesForge(Protocol):
    """The way to where source code is kept, as `forge.Forge` is."""

    async def fetch(self, name: str, url: str, branch: str) -> Fetched:
        """The newest commit of a branch.  Raises ForgeError."""

    async def tell(self, url: str, token: str, said: dict[str, str]) -> None:
        """Say how a commit fares.  Raises ForgeError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What came in about a source: headers in lower case, the body as it was signed."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """What deploys from Git go through."""

    deploys: Deploys
    runs: Runs
    calls: Calls
    blobs: BlobStore


class Sources:
    """Branches whose pushes are deployed."""

    def __init__(self, store: Store, ways: Ways, forge: ReachesForge | None, clock: Clock) -> None:
        self._store = store
        self._ways = ways
        self._forge = forge
        self._clock = clock
        self._waiting: dict[str, PushView] = {}
        self._busy: set[str] = set()
        self._has_work = asyncio.Event()

    # -- sources

    async def create(self, workspace: str, request: SourceRequest, made_by: str) -> tuple[SourceView, str]:
        """A new source, and the secret by which its pushes are to be signed.  Raises InvalidRequest, Unavailable."""
        _check(request)
        view = SourceView(
            id=new_id("source", now_ms()),
            url=request.url,
            branch=request.branch,
            file=request.file,
            environment=request.environment,
            status_url=request.status_url,
            made_by=made_by,
            at=self._clock.now(),
        )
        secret = secrets.token_urlsafe(32)
        row = SourceRow(workspace=workspace, view=view, secret=secret, status_token=request.status_token)
        await self._store.sources.add(row)
        return view, secret

    async def list(self, workspace: str) -> tuple[SourceView, ...]:
        """The sources of a workspace, oldest first."""
        return await self._store.sources.list(workspace)

    async def remove(self, workspace: str, source: str) -> SourceView:
        """Deploy no more of its pushes; what is deployed stays.  Raises NotFound."""
        row = await self._find(workspace, source)
        await self._store.sources.remove(workspace, source)
        self._waiting.pop(source, None)
        return row.view

    async def pushes(self, workspace: str, source: str) -> tuple[PushView, ...]:
        """What became of its pushes, the newest first.  Raises NotFound."""
        await self._find(workspace, source)
        return await self._store.sources.pushes(workspace, source)

    def _reach(self) -> ReachesForge:
        if self._forge is None:
            raise Unavailable(
                "cannot fetch: this server was put together without a way to repositories; use `relight up`"
            )
        return self._forge

    async def _find(self, workspace: str, source: str) -> SourceRow:
        row = await self._store.sources.get(source)
        if row is None or row.workspace != workspace:
            raise NotFound(
                f"cannot find source {source[:60]!r}: there is none of that id; `relight git list` shows them"
            )
        return row

    # -- pushes

    async def receive(self, source: str, delivery: Delivery) -> PushView | str:
        """Take in what a forge sends: the push that will be worked on, or why nothing is to be done.

        Raises Unauthenticated, for a source that is not there too, and InvalidRequest.
        """
        row = await self._store.sources.get(source)
        if row is None or not _is_signed(delivery, row.secret):
            raise Unauthenticated(
                f"cannot take the push to {source[:60]!r}: its signature is not that of a source here; "
                "give the forge the secret that `relight git add` printed"
            )
        try:
            said = json.loads(delivery.body)
        except ValueError as error:
            raise InvalidRequest(f"cannot read the push: {error}; have the forge send JSON") from error
        if not isinstance(said, dict):
            raise InvalidRequest("cannot read the push: it is no JSON object; have the forge send JSON")
        if ignored := _ignored(said, delivery.headers, row.view.branch):
            return ignored
        return await self._queue(row, str(said.get("after", "")))

    async def redeploy(self, workspace: str, source: str) -> PushView:
        """Deploy the newest commit of a source without a push.  Raises NotFound."""
        return await self._queue(await self._find(workspace, source))

    async def _queue(self, row: SourceRow, commit: str = "") -> PushView:
        """Have the newest commit of a source deployed; one that waits already gives way."""
        source = row.view.id
        push = PushView(
            id=new_id("push", now_ms()),
            source=source,
            commit=commit[:64],
            state=PushState.QUEUED,
            at=self._clock.now(),
        )
        await self._store.sources.put(row.workspace, push)
        before = self._waiting.get(source)
        self._waiting[source] = push
        self._has_work.set()
        if before is not None:
            await self._put(row, before, PushState.SUPERSEDED)
        return push

    async def run(self) -> None:
        """Work on pushes, those that a server before this one left too, until cancelled."""
        for push in await self._store.sources.unfinished():
            self._waiting[push.source] = push  # of several the newest: they come in the order of their ids
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._has_work.clear()
                for source in [one for one in self._waiting if one not in self._busy]:
                    self._busy.add(source)
                    tasks.create_task(self._work(source, self._waiting.pop(source)), name=f"control.{source}")
                await self._has_work.wait()

    async def _work(self, source: str, push: PushView) -> None:
        try:
            row = await self._store.sources.get(source)
            if row is not None:
                await self._see_through(row, push)
        except RelightError as error:  # it was removed meanwhile, say, or the disk is full
            _log.warning("push not seen through", extra={"push": push.id, "source": source, "why": str(error)})
        finally:
            self._busy.discard(source)
            self._has_work.set()

    async def _see_through(self, row: SourceRow, push: PushView) -> None:
        """Deploy a push, or say why that cannot be.  Raises RelightError when neither can be kept."""
        try:
            await self._deploy(row, push)
        except (ForgeError, OSError) as error:
            await self._put(row, push, PushState.FAILED, detail=f"cannot fetch {row.view.branch!r}: {error}")
        except RelightError as error:
            await self._put(row, push, PushState.FAILED, detail=str(error))

    async def _deploy(self, row: SourceRow, push: PushView) -> None:
        """Fetch, look into, and deploy.  Raises ForgeError, RelightError."""
        view = row.view
        await self._put(row, push, PushState.FETCHING)
        fetched = await self._reach().fetch(view.id, view.url, view.branch)
        push = replace(push, commit=fetched.commit)
        await self._put(row, push, PushState.LOADING)
        declared = await self._look_into(row, fetched)
        versions = []
        for app in declared:
            code = await self._keep(fetched, str(app["folder"]))
            functions = tuple(from_plain(one, FunctionSpec) for one in _items(app["functions"]))
            manifest = Manifest(app=str(app["app"]), code=code, functions=functions)
            versions.append(await self._lead(row, push, manifest))
        await self._put(row, replace(push, versions=tuple(versions)), PushState.DEPLOYED)

    async def _lead(self, row: SourceRow, push: PushView, manifest: Manifest) -> str:
        """Deploy one app; its version."""
        deploy = Deploy(
            manifest=manifest,
            environment=row.view.environment,
            id=new_id("version", now_ms()),
            is_tried=True,
            tags=(("branch", row.view.branch), ("push", push.id)),
            commit=push.commit,
        )
        while True:
            deployed = await self._ways.deploys.deploy(row.workspace, deploy, made_by=f"git {row.view.id}")
            if deployed.is_live:
                return deployed.version

    async def _look_into(self, row: SourceRow, fetched: Fetched) -> Sequence[dict[str, Json]]:
        """The apps of a source, as a sandboxed function of ours finds them.  Raises DeployFailed saying why it cannot."""
        run = new_id("run", now_ms())
        image = HostImage(
            python=sys.executable,
            prefix=sys.prefix,
            base_prefix=sys.base_prefix,
            version=platform.python_version(),
        )
        looking = FunctionSpec(name="declared", module="relight.sdk.files", qualname="declared", image=image)
        manifest = Manifest(app="git", code=await self._keep(fetched, "."), functions=(looking,))
        await self._ways.deploys.deploy(row.workspace, Deploy(manifest=manifest, environment=run))
        try:
            view = await self._call(row.workspace, run, {"file": row.view.file})
        finally:
            await self._ways.runs.stop(row.workspace, run, cancel=True)
        if view.state is not CallState.SUCCEEDED or view.result is None:
            failure = view.failure
            why = f"{failure.type_name}: {failure.message}" if failure is not None and failure.type_name else ""
            why = why or (failure.message if failure is not None else f"its call {view.state.value}")
            raise DeployFailed(
                f"cannot deploy {row.view.file} of {fetched.commit[:12]}: it cannot be imported: {why}; "
                "mend that and push again, what was deployed before serves on"
            )
        found = json.loads(await self._bytes(view.result))
        return [one for one in _items(found) if isinstance(one, dict)]

    async def _call(self, workspace: str, run: str, arguments: dict[str, Json]) -> CallView:
        data = json.dumps({"args": [], "kwargs": arguments}).encode()
        request = CallRequest(
            id=new_id("call", now_ms()),
            app="git",
            environment=run,
            function="declared",
            payload=Payload(format=JSON, data=data, size=len(data)),
            accept=(JSON,),
        )
        (view,) = (await self._ways.calls.submit(workspace, Submit(calls=(request,)))).calls
        while not view.state.is_final:
            query = Await(ids=(request.id,), wait_seconds=MAX_WAIT_SECONDS)
            (view,) = (await self._ways.calls.wait(workspace, query)).calls
        return view

    async def _bytes(self, payload: Payload) -> bytes:
        if payload.data is not None:
            return payload.data
        return b"".join([part async for part in self._ways.blobs.read(payload.blob)])

    async def _keep(self, fetched: Fetched, folder: str) -> CodeBundle:
        """The files below a folder of it as a bundle of code."""
        data = await asyncio.to_thread(_pack, fetched, folder)
        digest = hashlib.sha256(data).hexdigest()
        await self._ways.blobs.put(_once(data), digest)
        return CodeBundle(digest=digest, size=len(data), folder=FOLDER)

    async def _put(self, row: SourceRow, push: PushView, state: PushState, *, detail: str = "") -> None:
        """A push enters a state; its commit's status follows."""
        ended = self._clock.now() if state.is_final else None
        now = replace(push, state=state, ended_at=ended, detail=detail[:KEPT_DETAIL])
        await self._store.sources.put(row.workspace, now)
        _log.info("push", extra={"push": push.id, "source": push.source, "state": state.value, "why": detail})
        if row.view.status_url and now.commit and state is not PushState.FETCHING:
            said = {
                "state": _STATUS.get(state, "pending"),
                "context": f"relight/{row.view.environment}",
                "description": (detail or _SAID[state])[:SHOWN_DETAIL],
            }
            try:
                await self._reach().tell(row.view.status_url.replace("{commit}", now.commit), row.status_token, said)
            except ForgeError as error:
                _log.warning("status not told", extra={"push": push.id, "url": row.view.status_url, "why": str(error)})


def _check(request: SourceRequest) -> None:
    def refuse(why: str) -> InvalidRequest:
        return InvalidRequest(f"cannot deploy from {request.url[:200]!r}: {why}")

    if not request.url or request.url.startswith("-") or "::" in request.url:
        raise refuse("it is no address that git can fetch from; give one such as https://host/owner/name.git")
    branch = request.branch
    if not branch or branch.startswith("-") or any(part in branch for part in ("..", " ", "~", "^", ":", "\\")):
        raise refuse(f"{branch[:60]!r} is no name of a branch; give one such as main")
    path = PurePosixPath(request.file)
    if path.is_absolute() or ".." in path.parts or path.suffix != ".py":
        raise refuse(f"{request.file[:100]!r} is no Python file in it; name one relative to its top")
    if request.environment.startswith("run-"):
        raise refuse(f"{request.environment[:60]!r} is the name of a run; choose another environment")
    if request.status_url and urlsplit(request.status_url).scheme not in ("http", "https"):
        raise refuse(
            f"its status cannot be told to {request.status_url[:100]!r}; give an address that begins with https://"
        )


def _is_signed(delivery: Delivery, secret: str) -> bool:
    """By HMAC-SHA256 of the body, as GitHub, Gitea and Forgejo sign; or by the secret itself, as GitLab shows it."""
    told = delivery.headers.get("x-hub-signature-256", "")
    if told:
        right = "sha256=" + hmac.new(secret.encode(), delivery.body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(told.encode(), right.encode())
    return hmac.compare_digest(delivery.headers.get("x-gitlab-token", "").encode(), secret.encode())


def _ignored(said: dict[str, Json], headers: Mapping[str, str], branch: str) -> str:
    """Why nothing is to be done about an event; "" when it is a push to the branch."""
    event = headers.get("x-github-event") or headers.get("x-gitea-event") or headers.get("x-gitlab-event") or "push"
    if event not in ("push", "Push Hook"):
        return f"it is a {event[:40]}, and only pushes are deployed"
    if said.get("ref") != f"refs/heads/{branch}":
        return f"it is a push to {str(said.get('ref'))[:100]}, and what is deployed is {branch}"
    if set(str(said.get("after", ""))) == {"0"}:
        return f"{branch} was deleted; what is deployed stays"
    return ""


def _pack(fetched: Fetched, folder: str) -> bytes:
    """The files below `folder`, as a bundle."""
    top = PurePosixPath(folder)
    return archive(
        (str(PurePosixPath(name).relative_to(top)), data, name in fetched.executable)
        for name, data in sorted(fetched.files.items())
        if PurePosixPath(name).is_relative_to(top)
    )


def _items(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
