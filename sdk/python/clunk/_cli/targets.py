"""What the words of `clunk run` name: a file of functions, or a model. Imports nothing: every run comes through here."""

import os

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_INNER = _PLAIN | frozenset("-_.")
_HEX = frozenset("0123456789abcdef")
NAME_MAX = 64
VERSION_MIN, VERSION_MAX = 4, 64
# Options before FILE or the model that have a value.
_WITH_VALUE = ("--secret", "-i", "--input", "-o", "--output", "-n", "--name", "-w", "--write-result")


def first_target(words):
    """The word of `clunk run ...` that names a model, when one does."""
    words = list(words)
    while words:
        word = words.pop(0)
        if word in _WITH_VALUE:
            words[:1] = []
        elif word in ("-m", "--module"):
            return None
        elif not word.startswith("-"):
            return word if is_model(word) else None
    return None


def is_model(word):
    """Whether a word names a model, not a file of functions."""
    if "::" in word or word.endswith(".py"):
        return False
    return is_project(word) or (parse_reference(word) is not None and not os.path.exists(word))


def is_project(path):
    """Whether a word of the command line is the folder, or the file, of a Cog project."""
    if os.path.isdir(path):
        return os.path.isfile(os.path.join(path, "cog.yaml"))
    return path.endswith((".yaml", ".yml")) and os.path.isfile(path)


def parse_reference(text):
    """`(owner/name, version or None)` of `owner/name[:version]`; None of all else."""
    model, colon, version = text.partition(":")
    owner, _, name = model.partition("/")
    if not is_name(owner) or not is_name(name):
        return None
    if colon and not (VERSION_MIN <= len(version) <= VERSION_MAX and _HEX.issuperset(version)):
        return None
    return model, version or None


def is_name(text):
    """Whether a text may be the owner or the name of a model."""
    return 0 < len(text) <= NAME_MAX and text[0] in _PLAIN and text[-1] in _PLAIN and _INNER.issuperset(text)
