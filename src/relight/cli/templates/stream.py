"""A generator: what it yields is here before it goes on.

relight run app.py                     # main below
relight run app.py --text "to be or not to be"
"""

import time
from collections.abc import Iterator

import relight

app = relight.App("stream")


@app.function()
def words(text: str) -> Iterator[str]:
    for word in text.split():
        time.sleep(0.1)
        yield word


@app.local_entrypoint()
def main(text: str = "each word comes as it is made") -> None:
    for word in words.remote(text):
        print(word, flush=True)
