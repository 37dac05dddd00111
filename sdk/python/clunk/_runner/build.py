"""Runs one function of the user's source while an image is built."""

import os
import sys

from .main import load_function, set_module_path


def main(arguments):
    module, qualname, source_root = arguments
    os.environ["CLUNK_IS_REMOTE"] = "1"
    set_module_path(source_root)
    try:
        import base64

        from clunk._payload import load

        encoded = os.environ.pop("CLUNK_ARGUMENTS", "")
        function = load_function(module, qualname)
        args, kwargs = load(base64.b64decode(encoded)) if encoded else ((), {})
        value = function(*args, **kwargs)
        if hasattr(type(value), "__await__"):
            from .tasks import run_to_end

            run_to_end(value)
    except BaseException as error:
        from .failure import strip, text

        sys.stdout.flush()
        sys.stderr.write(text(strip(error)))
        return 1
    return 0
