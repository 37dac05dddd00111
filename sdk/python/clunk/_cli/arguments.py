"""The parameters of a function as flags."""

from .errors import usage

_EMPTY = object()
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


class Flag:
    """One parameter."""

    def __init__(self, name, kind, default, choices=None, by_position=False):
        self.name = name
        # A function from text to the value; `bool` has no value on the command line.
        self.kind = kind
        self.default = default
        self.choices = choices
        self.by_position = by_position

    @property
    def flag(self):
        return "--" + self.name.replace("_", "-")

    @property
    def wanted(self):
        """What the value must be, in words."""
        if self.choices:
            return "one of " + ", ".join(map(str, self.choices))
        return _WORDS.get(self.kind, "text")

    def convert(self, text):
        try:
            value = _CONVERTERS.get(self.kind, str)(text)
        except ValueError:
            value = _EMPTY
        if value is _EMPTY or (self.choices and value not in self.choices):
            raise usage(f"{self.flag} must be {self.wanted}, not {text!r}")
        return value


def _to_int(text):
    return int(text, 0) if text.lower().lstrip("+-").startswith(("0x", "0o", "0b")) else int(text)


def _to_bool(text):
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError


def _to_datetime(text):
    from datetime import datetime

    # Python before 3.11 knows no Z.
    return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)


def _to_path(text):
    from pathlib import Path

    return Path(text)


_CONVERTERS = {
    "int": _to_int,
    "float": float,
    "bool": _to_bool,
    "bytes": str.encode,
    "datetime": _to_datetime,
    "path": _to_path,
}
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "datetime": "a time such as 2026-01-31T12:00:00",
    "path": "a path",
}


class Signature:
    """The flags of one function."""

    def __init__(self, function, command, user_class=None):
        """`user_class`: what `function` is a method of; its parameters are flags too."""
        self.command = command
        self.function = function
        self.flags = []
        # Whether it takes `*args`: words that are no flag; and whether that is all, so that every word is raw.
        self.takes_rest = self.takes_raw = False
        code = function.__code__ if hasattr(function, "__code__") else None
        if user_class is not None:
            self._read_class(user_class)
        # Most entry points take nothing; `inspect` and `typing` are slow to import.
        if code is None or code.co_argcount or code.co_kwonlyargcount or code.co_flags & 0x0C:
            self._read(function, user_class is not None)

    def _read_class(self, user_class):
        import inspect

        from clunk._parameters import MISSING, declared, has_init, kind_of

        if has_init(user_class):
            self._read(user_class.__init__, True)
        for name, given in declared(user_class).items():
            if not given.init:
                continue
            kind = {str: "text", bytes: "bytes"}.get(kind_of(user_class, name)) or kind_of(user_class, name).__name__
            self.flags.append(Flag(name, kind, inspect.Parameter.empty if given.default is MISSING else given.default))
        for flag in self.flags:
            if flag.default is inspect.Parameter.empty:
                flag.default = _EMPTY

    def _read(self, function, is_method=False):
        import inspect
        import typing

        try:
            hints = typing.get_type_hints(function)
        except Exception:
            hints = {}
        # An object comes before what the caller gives.
        for parameter in list(inspect.signature(function).parameters.values())[int(is_method) :]:
            if parameter.kind is parameter.VAR_POSITIONAL:
                self.takes_rest = True
            elif parameter.kind is parameter.VAR_KEYWORD:
                raise usage(f"{function.__name__} takes **{parameter.name}, which no flag can give")
            else:
                default = _EMPTY if parameter.default is parameter.empty else parameter.default
                hint = hints.get(parameter.name, parameter.annotation)
                kind, choices = kind_of(hint, default, parameter, function)
                by_position = parameter.kind is parameter.POSITIONAL_ONLY
                self.flags.append(Flag(parameter.name, kind, default, choices, by_position))
        self.takes_raw = self.takes_rest and not self.flags

    # Reading

    def parse(self, words):
        """`(args, kwargs)` from the words of the command line."""
        if self.takes_raw:
            return list(words), {}
        known = {flag.flag: flag for flag in self.flags}
        values, rest = {}, []
        words = list(words)
        while words:
            word = words.pop(0)
            if word == "--":
                rest += words
                break
            if not word.startswith("--"):
                rest.append(word)
                continue
            self._take(word, words, known, values)
        if rest and not self.takes_rest:
            raise usage(f"unexpected argument {rest[0]!r}", self._as_flag(rest[0], values) or f"{self.command} --help")
        return self._arrange(values, rest)

    def _take(self, word, words, known, values):
        name, equals, text = word.partition("=")
        name = name.replace("_", "-")
        if name in known:
            flag = known[name]
            if flag.kind == "bool" and not equals:
                values[flag.name] = True
                return
            if not equals:
                if not words:
                    raise usage(f"{name} needs a value: {flag.wanted}")
                text = words.pop(0)
            values[flag.name] = flag.convert(text)
            return
        positive = known.get("--" + name[5:]) if name.startswith("--no-") else None
        if positive is not None and positive.kind == "bool" and not equals:
            values[positive.name] = False
            return
        raise usage(f"unknown flag {name}", nearest(name, known) or f"{self.command} --help")

    def _as_flag(self, word, values):
        """A lone value probably belongs to the first flag that has none."""
        for flag in self.flags:
            if flag.name not in values and flag.kind != "bool":
                return f"{self.command} {flag.flag} {word}"
        return None

    def _arrange(self, values, rest):
        missing = [flag for flag in self.flags if flag.name not in values and flag.default is _EMPTY]
        if missing:
            names = ", ".join(flag.flag for flag in missing)
            example = " ".join(f"{flag.flag} {_example(flag)}" for flag in missing)
            raise usage(f"missing {names}", f"{self.command} {example}")
        args = []
        for flag in self.flags:
            # What stands before `*args`, and what has no name for callers, goes by position.
            if flag.by_position or (rest and flag.name not in self._keyword_only()):
                args.append(values.pop(flag.name, flag.default))
        return [*args, *rest], values

    def _keyword_only(self):
        code = self.function.__code__
        start = code.co_argcount
        return code.co_varnames[start : start + code.co_kwonlyargcount]

    # Help

    def help(self):
        lines = []
        text = (self.function.__doc__ or "").strip()
        if text:
            import inspect

            lines += [inspect.cleandoc(text), ""]
        usage_line = f"usage: {self.command}"
        if self.flags:
            usage_line += " [FLAGS]"
        if self.takes_rest:
            usage_line += " [ARGUMENTS]"
        lines.append(usage_line)
        if self.flags:
            rows = [self._row(flag) for flag in self.flags]
            width = max(len(left) for left, _ in rows)
            lines += ["", "flags:", *(f"  {left.ljust(width)}  {right}".rstrip() for left, right in rows)]
        return "\n".join(lines) + "\n"

    def _row(self, flag):
        if flag.kind == "bool":
            left = f"{flag.flag} / --no-{flag.flag[2:]}"
            words = ""
        else:
            left = f"{flag.flag} {flag.name.rpartition('_')[2].upper()}"
            words = flag.wanted
        if flag.default is _EMPTY:
            note = "required"
        elif flag.default is None:
            note = "optional"
        else:
            note = f"default {flag.default}"
        return left, f"{words} ({note})" if words else f"({note})"


def _example(flag):
    if flag.choices:
        return str(flag.choices[0])
    return {"int": "1", "float": "0.5", "bool": "", "datetime": "2026-01-31", "path": "FILE"}.get(flag.kind, "TEXT")


def kind_of(hint, default, parameter, function):
    """`(kind, choices)` of an annotation."""
    import typing
    from datetime import datetime

    if hint is parameter.empty or hint is typing.Any:
        plain = {bool: "bool", int: "int", float: "float"}
        return plain.get(type(default), "text"), None
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        choices = typing.get_args(hint)
        for kind, name in ((str, "text"), (int, "int")):
            if all(type(choice) is kind for choice in choices):
                return name, choices
    if origin is typing.Annotated:
        return kind_of(typing.get_args(hint)[0], default, parameter, function)
    members = typing.get_args(hint)
    if type(None) in members and origin is not None:
        others = [member for member in members if member is not type(None)]
        if len(others) == 1:
            return kind_of(others[0], default, parameter, function)
    names = {str: "text", int: "int", float: "float", bool: "bool", datetime: "datetime"}
    if hint in names:
        return names[hint], None
    if getattr(hint, "__module__", "") in ("pathlib", "pathlib._local") and hint.__name__ in ("Path", "PurePath"):
        return "path", None
    shown = getattr(hint, "__name__", None) or str(hint)
    raise usage(
        f"{function.__name__}: no flag can give parameter `{parameter.name}` a {shown}",
        "use str, int, float, bool, datetime, Optional or Literal of these, or *args",
    )


def nearest(word, known):
    """`did you mean ...?`, when something is near."""
    from difflib import get_close_matches

    found = get_close_matches(word, list(known), 1)
    return f"did you mean {found[0]}?" if found else None
