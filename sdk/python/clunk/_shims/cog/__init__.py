"""The `cog` module as a Cog model sees it in a container: every public name of Cog's own package.

Names whose definition needs more than the interpreter has loaded anyway are imported when they are first asked for.
"""

from ._iterators import AsyncConcatenateIterator, ConcatenateIterator
from ._marks import Opaque, concurrent, streaming
from ._scope import current_scope, emit_metric
from ._secret import Secret
from .errors import CancelationException, ExperimentalFeatureWarning
from .input import FieldInfo, Input
from .predictor import BasePredictor, BaseRunner

# The release of Cog whose interface this is.
__version__ = "0.23.1"

_LATER = {
    "BaseModel": "model",
    "Coder": "coder",
    "File": "types",
    "Path": "types",
    "URLFile": "types",
    "URLPath": "types",
}

__all__ = [
    "AsyncConcatenateIterator",
    "BaseModel",
    "BasePredictor",
    "BaseRunner",
    "CancelationException",
    "Coder",
    "ConcatenateIterator",
    "ExperimentalFeatureWarning",
    "FieldInfo",
    "File",
    "Input",
    "Opaque",
    "Path",
    "Secret",
    "URLFile",
    "URLPath",
    "__version__",
    "concurrent",
    "current_scope",
    "emit_metric",
    "streaming",
]


def __getattr__(name):
    if name not in _LATER:
        raise AttributeError(f"module 'cog' has no attribute {name!r}")
    module = f"{__name__}.{_LATER[name]}"
    __import__(module)
    value = globals()[name] = getattr(__import__("sys").modules[module], name)
    return value


def __dir__():
    return sorted({*globals(), *_LATER})
