"""Deploys from a git server on this machine: signed pushes, what does not load, and what the commit's status says."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from command_line import Cli, beside_a_server

pytestmark = pytest.mark.root
EVENT = Path(__file__).parent / "push_event.json"  # as GitHub sends one; what names people and places is made up
APP = """
import relight
import parts.words

app = relight.App("pushed")

@app.function()
def number() -> int:
    return {number} + parts.words.NOTHING
"""


@dataclass
class Forge:
    """A repository, and an API that hears the statuses of its commits."""

    work: Path
    bare: Path
    api: ThreadingHTTPServer
    told: list[tuple[str, str, dict[str, Any]]]
    news: threading.Condition = field(default_factory=threading.Condition)

    def commit(self, text: str) -> str:
        (self.work / "service" / "parts").mkdir(parents=True, exist_ok=True)
        (self.work / "service" / "app.py").write_text(text)
        (self.work / "service" / "parts" / "words.py").write_text("NOTHING = 0\n")
        self._git("add", "-A")
        self._git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "change")
        self._git("push", "-q", str(self.bare), "HEAD:refs/heads/main")
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *words: str) -> str:
        done = subprocess.run(["git", "-C", str(self.work), *words], check=True, capture_output=True, text=True)
        return done.stdout

    def wait_status(self, commit: str, state: str) -> dict[str, Any]:
        """The status of a commit, once it is this one."""

        def found() -> list[dict[str, Any]]:
            return [said for path, _, said in self.told if path.endswith(commit) and said["state"] == state]

        with self.news:
            assert self.news.wait_for(found, timeout=60), self.told
        return found()[0]


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forge]:
    folder = tmp_path_factory.mktemp("forge")
    (folder / "work").mkdir()
    for words in (["init", "-q", "-b", "main", "work"], ["init", "-q", "--bare", "bare.git"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    api = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    forge = Forge(work=folder / "work", bare=folder / "bare.git", api=api, told=[])

    class Hears(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with forge.news:
                forge.told.append((self.path, self.headers["Authorization"], said))
                forge.news.notify_all()
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    api.RequestHandlerClass = Hears
    threading.Thread(target=api.serve_forever, daemon=True).start()
    yield forge
    api.shutdown()
    api.server_close()


@dataclass
class Hook:
    """A source of the server's, and the forge's way of telling it of pushes."""

    cli: Cli
    id: str
    secret: str
    url: str

    def push(self, commit: str, *, secret: str = "", **more: object) -> tuple[int, Any]:
        event = {**json.loads(EVENT.read_text()), "after": commit, **more}
        body = json.dumps(event).encode()
        signature = hmac.new((secret or self.secret).encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-Hub-Signature-256": f"sha256={signature}",
        }
        request = urllib.request.Request(self.url, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@pytest.fixture(scope="module")
def hook(tmp_path_factory: pytest.TempPathFactory, forge: Forge) -> Iterator[Hook]:
    with beside_a_server(tmp_path_factory.mktemp("git")) as cli:
        api = f"http://127.0.0.1:{forge.api.server_address[1]}/statuses/{{commit}}"
        said = cli.json(
            *("git", "add", f"file://{forge.bare}", "--file", "service/app.py", "--environment", "live"),
            *("--status-url", api),
        )
        url = cli.json("token", "show")["url"] + said["path"]
        yield Hook(cli=cli, id=said["source"]["id"], secret=said["secret"], url=url)


def answer(cli: Cli) -> int:
    return int(cli("call", "pushed/number", "--environment", "live").stdout)


def test_a_signed_push_is_deployed_and_its_commit_is_told_so(hook: Hook, forge: Forge) -> None:
    commit = forge.commit(APP.format(number=1))

    status, said = hook.push(commit)

    assert (status, said["push"]["state"]) == (202, "queued")
    assert forge.wait_status(commit, "pending")["context"] == "relight/live"
    assert forge.wait_status(commit, "success")["description"] == "deployed"
    assert answer(hook.cli) == 1
    (version,) = hook.cli.json("versions", "pushed", "-e", "live")["versions"]
    assert (version["commit"], dict(version["tags"])["branch"]) == (commit, "main")
    (push,) = [one for one in hook.cli.json("git", "pushes", hook.id)["pushes"] if one["commit"] == commit]
    assert (push["state"], push["versions"]) == ("deployed", [version["id"]])


@pytest.mark.parametrize("secret", ["wrong", "x" * 43])
def test_a_push_with_another_signature_is_refused(hook: Hook, secret: str) -> None:
    before = hook.cli.json("git", "pushes", hook.id)

    status, said = hook.push("f" * 40, secret=secret)

    assert (status, said["code"]) == (401, "unauthenticated")
    assert "its signature is not that of a source here" in said["detail"]
    assert hook.cli.json("git", "pushes", hook.id) == before


@pytest.mark.slow
def test_a_push_that_does_not_import_leaves_what_serves_and_says_why(hook: Hook, forge: Forge) -> None:
    hook.push(good := forge.commit(APP.format(number=2)))
    forge.wait_status(good, "success")

    hook.push(bad := forge.commit("import relight\nimport a_module_that_is_not_there\napp = relight.App('pushed')\n"))

    told = forge.wait_status(bad, "failure")
    (push,) = [one for one in hook.cli.json("git", "pushes", hook.id)["pushes"] if one["commit"] == bad]
    assert push["state"] == "failed"
    assert "ModuleNotFoundError: No module named 'a_module_that_is_not_there'" in push["detail"]
    assert told["description"] == push["detail"][:140]
    assert answer(hook.cli) == 2


@pytest.mark.parametrize(
    ("more", "why"),
    [({"ref": "refs/heads/other"}, "what is deployed is main"), ({"after": "0" * 40}, "main was deleted")],
)
def test_what_is_no_push_to_the_branch_is_ignored(hook: Hook, more: dict[str, str], why: str) -> None:
    status, said = hook.push("f" * 40, **more)

    assert status == 200
    assert why in said["ignored"]


@pytest.mark.slow
def test_a_source_is_listed_deployed_again_and_removed(hook: Hook, forge: Forge) -> None:
    cli = hook.cli
    other = cli.json("git", "add", f"file://{forge.bare}", "--file", "no.py", "--branch", "main")["source"]["id"]

    assert [one["id"] for one in cli.json("git", "list")["sources"]] == [hook.id, other]
    assert cli.json("git", "deploy", other)["state"] == "queued"
    assert cli.json("git", "remove", other)["id"] == other
    refused = cli("git", "pushes", other)
    assert (refused.returncode, "there is none of that id" in refused.stderr) == (3, True)
    assert [line.split()[0] for line in cli("git", "list").stdout.splitlines()] == ["SOURCE", hook.id]
