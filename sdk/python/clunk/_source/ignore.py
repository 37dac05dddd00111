"""Which files of a project stay at home: the rules of .gitignore files, and what no project wants to send."""

import os
import re

# Names of files with rules, the later one decides. Both have the syntax of .gitignore.
RULE_FILES = (".gitignore", ".clunkignore")
# Folders that hold what tools can make again, or what a container has its own of.
NEVER_FOLDERS = frozenset(
    ".git .hg .svn .jj __pycache__ .venv venv node_modules .mypy_cache .pytest_cache .ruff_cache .tox .nox .eggs "
    ".ipynb_checkpoints .hypothesis .cache .direnv .terraform __pypackages__ site-packages".split()
)
NEVER_FILES = frozenset((".DS_Store", "Thumbs.db"))
NEVER_ENDINGS = (".pyc", ".pyo", ".swp")
# A folder with one of these is a virtual environment, or says itself that it is a cache.
# The last one marks the state folder of a server.
FOLDER_MARKS = frozenset(("pyvenv.cfg", "CACHEDIR.TAG", "clunk.db"))

_PLAIN = re.compile(r"[^*?\[\\]+\Z").match
_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "\\x21-\\x7e",
    "lower": "a-z",
    "print": "\\x20-\\x7e",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t\\n\\r\\f\\v",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}


class Rules:
    """The rules of one folder, for the paths below it. The last rule that fits decides.

    Most rules are a plain name or an ending, and are looked up; only the others are tried one by one.
    """

    def __init__(self, lines):
        self._names = {}
        self._endings = {}
        self._patterns = []
        for number, line in enumerate(lines):
            rule = parse(line)
            if rule is not None:
                self._add(number, *rule)
        self._patterns.reverse()

    def _add(self, number, pattern, keeps, only_folders, anchored):
        verdict = (number, keeps, only_folders)
        if not anchored and _PLAIN(pattern):
            self._names.setdefault(pattern, []).append(verdict)
        elif not anchored and pattern.startswith("*.") and _PLAIN(pattern[2:]) and "." not in pattern[2:]:
            self._endings.setdefault(pattern[1:], []).append(verdict)
        else:
            self._patterns.append((number, keeps, only_folders, translate(pattern, anchored)))

    def decide(self, path, name, is_folder):
        """True to leave out, False to keep, None when no rule speaks of it. `path` is relative to the folder."""
        best, keeps = -1, False
        verdicts = self._names.get(name)
        ending = name.rfind(".")
        if ending >= 0 and self._endings:
            more = self._endings.get(name[ending:])
            if more:
                verdicts = [*verdicts, *more] if verdicts else more
        for number, keep, only_folders in verdicts or ():
            if number > best and (is_folder or not only_folders):
                best, keeps = number, keep
        for number, keep, only_folders, fits in self._patterns:
            if number < best:
                break
            if (is_folder or not only_folders) and fits(path):
                best, keeps = number, keep
                break
        return None if best < 0 else not keeps


def parse(line):
    """`(pattern, keeps, only_folders, anchored)` of one line of an ignore file; None for none."""
    line = line.rstrip("\r\n")
    while line.endswith(" ") and not line.endswith("\\ "):
        line = line[:-1]
    if not line or line.startswith("#"):
        return None
    keeps = line.startswith("!")
    if keeps:
        line = line[1:]
    only_folders = line.endswith("/")
    if only_folders:
        line = line[:-1]
    anchored = "/" in line
    if line.startswith("/"):
        line = line[1:]
    if not line or _ends_in_backslash(line):
        return None
    return line, keeps, only_folders, anchored


def _ends_in_backslash(line):
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def translate(pattern, anchored):
    """A function that says whether a relative path fits."""
    text = "" if anchored else "(?:.*/)?"
    at, end = 0, len(pattern)
    while at < end:
        letter = pattern[at]
        if letter == "*":
            stars = at
            while at < end and pattern[at] == "*":
                at += 1
            whole = at - stars == 2 and (stars == 0 or pattern[stars - 1] == "/")
            if whole and at == end:
                text += ".+" if stars else ".*"
            elif whole and pattern[at] == "/":
                text += "(?:.*/)?"
                at += 1
            else:
                text += "[^/]*"
            continue
        at += 1
        if letter == "?":
            text += "[^/]"
        elif letter == "[":
            part, at = _character_class(pattern, at)
            text += part
        elif letter == "\\" and at < end:
            text += re.escape(pattern[at])
            at += 1
        else:
            text += re.escape(letter)
    try:
        return re.compile(text + r"\Z", re.DOTALL).match
    except re.error:
        return lambda path: None


def _character_class(pattern, at):
    """The expression for `[...]`, and where it ends. One that does not end fits nothing, as in git."""
    negated = at < len(pattern) and pattern[at] in "!^"
    if negated:
        at += 1
    parts = ""
    first = True
    while at < len(pattern) and (first or pattern[at] != "]"):
        first = False
        if pattern.startswith("[:", at) and ":]" in pattern[at:]:
            close = pattern.index(":]", at)
            parts += _CLASSES.get(pattern[at + 2 : close], "")
            at = close + 2
            continue
        letter = pattern[at]
        if letter == "\\" and at + 1 < len(pattern):
            at += 1
            letter = pattern[at]
            parts += "\\" + letter if not letter.isalnum() else letter
        elif letter == "-":
            parts += "-" if len(parts) > 0 and pattern[at + 1 : at + 2] not in ("]", "") else "\\-"
        else:
            parts += "\\" + letter if letter in "[]^\\&~|" else letter
        at += 1
    if at >= len(pattern):
        return r"(?!)", at
    # A class never fits the separator.
    return (f"(?!/)[^{parts}]" if negated else f"(?!/)[{parts}]"), at + 1


def read_rules(folder, names=RULE_FILES):
    """The rules in a folder's ignore files; None when it has none."""
    lines = []
    for name in names:
        try:
            with open(os.path.join(folder, name), encoding="utf-8", errors="surrogateescape") as file:
                lines += file.read().split("\n")
        except OSError:
            continue
    return Rules(lines) if lines else None
