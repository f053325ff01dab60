"""A class: each worker makes one object of it and keeps it, as it would keep a model in memory.

relight run app.py                     # main below
relight run app.py::Speller.correct --word hapy
"""

import difflib

import relight

app = relight.App("class")


@app.cls(max_workers=1)
class Speller:
    @relight.enter()
    def load(self) -> None:
        """Runs once in each worker, before its first call."""
        print("loading the dictionary")
        self.words = ["happy", "sad", "angry", "calm"]

    @relight.method()
    def correct(self, word: str) -> str:
        return next(iter(difflib.get_close_matches(word, self.words, n=1)), word)


@app.local_entrypoint()
def main() -> None:
    speller = Speller()
    for word in ("hapy", "angri", "table"):
        print(f"{word} -> {speller.correct.remote(word)}")
