"""The smallest app: one function, called three ways.

relight run examples/hello.py                      # main below
relight run examples/hello.py --n 100              # with an argument
relight run examples/hello.py::square --x 7        # one function alone, without main
"""

import relight

app = relight.App()


@app.function()
def square(x: int) -> int:
    return x * x


@app.local_entrypoint()
def main(n: int = 10) -> None:
    print(f"square.local(7) here:      {square.local(7)}")
    print(f"square.remote(7) there:    {square.remote(7)}")
    print(f"square.map(range({n})):     {list(square.map(range(n)))}")

    call = square.spawn(12)  # does not wait: the call is durable once this line is passed
    print(f"square.spawn(12), later:   {call.get()}")
