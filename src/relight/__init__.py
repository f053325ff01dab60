"""relight: decorate a function, and it becomes a remote call.

    app = relight.App()

    @app.function(gpu="A100")
    def run_inference(prompt: str) -> str: ...

    with app.run():
        run_inference.remote("Hello world")

Names are imported when first used, so that `import relight` costs nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know it by its name; `typing` itself would be most of the import's cost

if TYPE_CHECKING:
    from relight import exception
    from relight.protocol.calls import CallState
    from relight.protocol.errors import (
        CallCancelled,
        CallExpired,
        Conflict,
        Deadlock,
        DeployFailed,
        Forbidden,
        FunctionFailed,
        FunctionTimeout,
        InvalidInput,
        InvalidRequest,
        KeyReused,
        LimitExceeded,
        NotFound,
        ProtocolError,
        RelightError,
        RemoteError,
        SessionLost,
        StartFailed,
        TooLarge,
        Unauthenticated,
        Unavailable,
        ValueIsPython,
        ValueNotPortable,
        WorkerLost,
    )
    from relight.protocol.manifest import Floor
    from relight.protocol.scaleviews import ScalingView
    from relight.protocol.views import FunctionStats
    from relight.sdk.app import App, enable_output
    from relight.sdk.call import Call, CallGroup, CallNode, current_call, is_local, is_remote
    from relight.sdk.classes import enter, exit, method, with_options  # noqa: A004 - it is `@relight.exit()`
    from relight.sdk.concurrency import batched, concurrent
    from relight.sdk.elsewhere import Retries
    from relight.sdk.file import File
    from relight.sdk.function import Function
    from relight.sdk.image import Image
    from relight.sdk.inputs import Input
    from relight.sdk.named import Cls
    from relight.sdk.parameters import parameter
    from relight.sdk.tokens import report_tokens
    from relight.sdk.web import asgi_app, web_endpoint, web_server, wsgi_app
    from relight.sdk.weights import load_weights

    Error = RelightError
    FunctionCall = Call
    current_function_call_id = current_call
    current_input_id = current_call
    fastapi_endpoint = web_endpoint

__version__ = "0.1.0"

__all__ = [
    "App",
    "Call",
    "CallCancelled",
    "CallExpired",
    "CallGroup",
    "CallNode",
    "CallState",
    "Cls",
    "Conflict",
    "Deadlock",
    "DeployFailed",
    "Error",
    "File",
    "Floor",
    "Forbidden",
    "Function",
    "FunctionCall",
    "FunctionFailed",
    "FunctionStats",
    "FunctionTimeout",
    "Image",
    "Input",
    "InvalidInput",
    "InvalidRequest",
    "KeyReused",
    "LimitExceeded",
    "NotFound",
    "ProtocolError",
    "RelightError",
    "RemoteError",
    "Retries",
    "ScalingView",
    "SessionLost",
    "StartFailed",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "ValueIsPython",
    "ValueNotPortable",
    "WorkerLost",
    "__version__",
    "asgi_app",
    "batched",
    "concurrent",
    "current_call",
    "current_function_call_id",
    "current_input_id",
    "enable_output",
    "enter",
    "exception",
    "exit",
    "fastapi_endpoint",
    "is_local",
    "is_remote",
    "load_weights",
    "method",
    "parameter",
    "report_tokens",
    "web_endpoint",
    "web_server",
    "with_options",
    "wsgi_app",
]

_HOMES = {
    "App": "relight.sdk.app",
    "Call": "relight.sdk.call",
    "CallGroup": "relight.sdk.call",
    "CallNode": "relight.sdk.call",
    "CallState": "relight.protocol.calls",
    "File": "relight.sdk.file",
    "Cls": "relight.sdk.named",
    "Floor": "relight.protocol.manifest",
    "ScalingView": "relight.protocol.scaleviews",
    "Function": "relight.sdk.function",
    "FunctionStats": "relight.protocol.views",
    "Image": "relight.sdk.image",
    "Input": "relight.sdk.inputs",
    "Retries": "relight.sdk.elsewhere",
    "asgi_app": "relight.sdk.web",
    "batched": "relight.sdk.concurrency",
    "concurrent": "relight.sdk.concurrency",
    "current_call": "relight.sdk.call",
    "enable_output": "relight.sdk.app",
    "enter": "relight.sdk.classes",
    "exit": "relight.sdk.classes",
    "is_local": "relight.sdk.call",
    "is_remote": "relight.sdk.call",
    "load_weights": "relight.sdk.weights",
    "method": "relight.sdk.classes",
    "parameter": "relight.sdk.parameters",
    "report_tokens": "relight.sdk.tokens",
    "web_endpoint": "relight.sdk.web",
    "web_server": "relight.sdk.web",
    "with_options": "relight.sdk.classes",
    "wsgi_app": "relight.sdk.web",
}


_OTHER_NAMES = {
    "Error": "RelightError",
    "FunctionCall": "Call",
    "current_function_call_id": "current_call",
    "current_input_id": "current_call",
    "fastapi_endpoint": "web_endpoint",
}
"""What those who come from elsewhere call a thing."""


def __getattr__(name: str) -> object:
    if name.startswith("_"):
        raise AttributeError(f"module 'relight' has no attribute {name!r}")
    from importlib import import_module

    import_module("relight.sdk.uncaught").hide_own_frames_of_uncaught()  # from here on errors of ours may come
    if name not in __all__:
        import_module("relight.sdk.elsewhere").refuse_name(name)
        raise AttributeError(f"module 'relight' has no attribute {name!r}")
    if name == "exception":
        return import_module("relight.exception")
    name = _OTHER_NAMES.get(name, name)
    return getattr(import_module(_HOMES.get(name, "relight.protocol.errors")), name)


def __dir__() -> list[str]:
    return __all__
