"""Clunk: your Python functions in containers, on machines that you own.

A name is loaded when it is first used, because this module is imported at the start of every container.
"""

import os

__version__ = "0.1.0"

# Where each public name is defined.
_HOMES = {
    "App": "clunk.app",
    "Cls": "clunk.cls",
    "Error": "clunk.exception",
    "FilePatternMatcher": "clunk.file_pattern_matcher",
    "Function": "clunk.function",
    "FunctionCall": "clunk.function_call",
    "Image": "clunk.image",
    "Retries": "clunk.retries",
    "batched": "clunk.concurrency",
    "concurrent": "clunk.concurrency",
    "enable_output": "clunk.output",
    "enter": "clunk.cls",
    "exception": "clunk.exception",
    "exit": "clunk.cls",
    "method": "clunk.cls",
    "parameter": "clunk.cls",
}
# Names of the interface that this release lacks, so that their use says so.
_COMING = frozenset(
    "Cron Dict Period Probe Proxy Queue Sandbox Secret Tunnel Volume CloudBucketMount NetworkFileSystem asgi_app "
    "fastapi_endpoint forward interact web_endpoint web_server wsgi_app experimental".split()
)

__all__ = [
    "App",
    "Cls",
    "Error",
    "FilePatternMatcher",
    "Function",
    "FunctionCall",
    "Image",
    "Retries",
    "batched",
    "concurrent",
    "current_function_call_id",
    "current_input_id",
    "enable_output",
    "enter",
    "exception",
    "exit",
    "is_local",
    "method",
    "parameter",
]

_call_id = None


def is_local():
    """Whether this process is the caller's own, not one in a container."""
    return os.environ.get("CLUNK_IS_REMOTE") != "1"


def current_function_call_id():
    """The id of the call that is running; None outside a container."""
    return _call_id() if callable(_call_id) else _call_id


def current_input_id():
    """The id of the input that is running, which is its call's; None outside a container."""
    return current_function_call_id()


def _set_call_id(call_id):
    global _call_id
    _call_id = call_id


def __getattr__(name):
    home = _HOMES.get(name)
    if home is None:
        if name in _COMING:
            from clunk.exception import UnimplementedError

            raise UnimplementedError(f"clunk.{name} is not available yet in Clunk {__version__}")
        raise AttributeError(f"module 'clunk' has no attribute {name!r}")
    module = __import__(home, None, None, [name])
    value = module if name == "exception" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
