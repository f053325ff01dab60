"""A first app.

relight run app.py                     # main below, the function in a worker
relight run app.py --name Ada          # with an argument
relight deploy app.py                  # it stays; then: relight call hello/greet --name Ada
"""

import relight

app = relight.App("hello")


@app.function()
def greet(name: str = "world") -> str:
    print(f"greeting {name}, in a worker")
    return f"hello {name}"


@app.local_entrypoint()
def main(name: str = "world") -> None:
    print(greet.remote(name))
