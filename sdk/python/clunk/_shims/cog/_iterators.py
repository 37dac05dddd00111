"""Annotations of outputs whose chunks belong together as one text."""

from _collections_abc import AsyncIterator, Iterator


class ConcatenateIterator(Iterator):
    """`ConcatenateIterator[str]`: what is yielded is shown as one text."""

    __slots__ = ()


class AsyncConcatenateIterator(AsyncIterator):
    """`AsyncConcatenateIterator[str]`: the same of an async generator."""

    __slots__ = ()
