"""Annotations of functions and classes, on every Python."""

import sys


def own_annotations(of):
    """The annotations of a function, or of a class without those of its bases."""
    if sys.version_info < (3, 10) and isinstance(of, type):
        return vars(of).get("__annotations__", {})
    try:
        return getattr(of, "__annotations__", None) or {}
    except NameError:
        # From Python 3.14 on they are evaluated when they are asked for. One of these names what only type checkers
        # know, or what is defined further down.
        import annotationlib

        return annotationlib.get_annotations(of, format=annotationlib.Format.FORWARDREF)
