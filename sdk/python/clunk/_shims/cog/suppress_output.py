"""Silence, also of C code and child processes."""

import os
import sys
from contextlib import contextmanager


@contextmanager
def suppress_output():
    """What is written to the standard outputs meanwhile is lost."""
    kept = [(stream.fileno(), os.dup(stream.fileno())) for stream in (sys.stdout, sys.stderr)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for number, _ in kept:
            os.dup2(nowhere, number)
        yield
    finally:
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)
        os.close(nowhere)
