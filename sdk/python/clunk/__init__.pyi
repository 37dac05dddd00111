from clunk import exception as exception
from clunk.app import App as App
from clunk.exception import Error as Error
from clunk.file_pattern_matcher import FilePatternMatcher as FilePatternMatcher
from clunk.function import Function as Function
from clunk.image import Image as Image
from clunk.output import enable_output as enable_output

__version__: str
__all__ = [
    "App",
    "Error",
    "FilePatternMatcher",
    "Function",
    "Image",
    "current_function_call_id",
    "current_input_id",
    "enable_output",
    "exception",
    "is_local",
]

def is_local() -> bool:
    """Whether this process is the caller's own, not one in a container."""

def current_function_call_id() -> str | None:
    """The id of the call that is running; None outside a container."""

def current_input_id() -> str | None:
    """The id of the input that is running, which is its call's; None outside a container."""
