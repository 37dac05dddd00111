from clunk import exception as exception
from clunk.app import App as App
from clunk.cls import Cls as Cls
from clunk.cls import enter as enter
from clunk.cls import exit as exit
from clunk.cls import method as method
from clunk.cls import parameter as parameter
from clunk.concurrency import batched as batched
from clunk.concurrency import concurrent as concurrent
from clunk.exception import Error as Error
from clunk.file_pattern_matcher import FilePatternMatcher as FilePatternMatcher
from clunk.function import Function as Function
from clunk.function_call import FunctionCall as FunctionCall
from clunk.image import Image as Image
from clunk.output import enable_output as enable_output
from clunk.retries import Retries as Retries

__version__: str
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

def is_local() -> bool:
    """Whether this process is the caller's own, not one in a container."""

def current_function_call_id() -> str | None:
    """The id of the call that is running; None outside a container."""

def current_input_id() -> str | None:
    """The id of the input that is running, which is its call's; None outside a container."""
