"""Patterns for the files of `add_local_dir`, with the syntax of .dockerignore."""

import os
import re


class FilePatternMatcher:
    """Says whether a path fits: `FilePatternMatcher("*.pyc", "!keep.pyc")`. The last pattern that fits decides.

    A pattern without a slash fits at the top only; with `**/` in front, at any depth. `~matcher` is the opposite.
    """

    def __init__(self, *patterns):
        self._rules = []
        self._inverted = False
        for pattern in patterns:
            pattern = pattern.strip()
            if not pattern or pattern.startswith("#"):
                continue
            keeps = pattern.startswith("!")
            if keeps:
                pattern = pattern[1:].strip()
            pattern = os.path.normpath(pattern).strip("/")
            self._rules.append((not keeps, _compile(pattern)))

    @classmethod
    def from_file(cls, file_path):
        """The patterns of a file, one a line."""
        with open(file_path, encoding="utf-8") as file:
            return cls(*file.read().splitlines())

    def __call__(self, path):
        text = os.path.normpath(os.fspath(path)).replace(os.sep, "/").lstrip("/")
        parts = text.split("/")
        found = False
        for verdict, fits in self._rules:
            # A pattern that fits a folder fits what is in it.
            if verdict != found and any(fits("/".join(parts[:end])) for end in range(1, len(parts) + 1)):
                found = verdict
        return found != self._inverted

    def __invert__(self):
        other = FilePatternMatcher()
        other._rules = self._rules
        other._inverted = not self._inverted
        return other

    def __repr__(self):
        return f"<clunk.FilePatternMatcher of {len(self._rules)} patterns>"


def _compile(pattern):
    from ._source.ignore import _character_class

    text = ""
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        if pattern.startswith("**/", at):
            text += "(?:.*/)?"
            at += 3
            continue
        if pattern.startswith("**", at):
            text += ".*"
            at += 2
            continue
        at += 1
        if letter == "*":
            text += "[^/]*"
        elif letter == "?":
            text += "[^/]"
        elif letter == "[":
            part, at = _character_class(pattern, at)
            text += part
        elif letter == "\\" and at < len(pattern):
            text += re.escape(pattern[at])
            at += 1
        else:
            text += re.escape(letter)
    return re.compile(text + r"\Z", re.DOTALL).match
