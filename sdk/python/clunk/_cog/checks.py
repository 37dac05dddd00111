"""Mistakes in what `Input` says: each would be met by the first caller, and is told here instead."""

import re

from .inputs import UNKNOWN, UNSET

_NUMBERS = ("int", "float")
_CODE = "schema-constraint"


def check(fields, problems):
    """Writes down what is wrong with the inputs."""
    for field in fields:
        _Checks(field, problems).run()
    # "Make one when it runs": Cog's rules, which callers of these models know.
    left_out = [field for field in fields if field.default is None and not field.nullable]
    if left_out:
        first = left_out[0]
        names = ", ".join(f"`{field.name}`" for field in left_out)
        verb = "is" if len(left_out) == 1 else "are"
        message = f"{names} {verb} required, by Cog's rules: None is no default of a type without None"
        module, node = first.place("default")
        problems.warning(_CODE, message, module, node, f"write `{first.name}: Optional[{first.shape.shown}] = None`")


class _Checks:
    def __init__(self, field, problems):
        self.field = field
        self.problems = problems
        self.settings = field.settings
        # The shape that limits and choices are about.
        self.kind = field.shape.element.kind

    def error(self, key, message, hint=None):
        module, node = self.field.place(key)
        self.problems.error(_CODE, message, module, node, hint)

    def warning(self, key, message, hint=None):
        module, node = self.field.place(key)
        self.problems.warning(_CODE, message, module, node, hint)

    def run(self):
        self.types()
        self.union()
        self.ranges()
        self.lengths()
        self.regex()
        self.choices()
        self.others()
        if self.field.default not in (UNSET, UNKNOWN, None):
            self.default()

    def drop(self, key):
        self.settings.pop(key, None)

    def types(self):
        """The settings themselves have types."""
        wanted = {
            "description": (str, "text"),
            "regex": (str, "text"),
            "accept": (str, "text such as image/*"),
            "deprecated": (bool, "True or False"),
            "choices": (list, "a list"),
            "ge": ((int, float), "a number"),
            "le": ((int, float), "a number"),
            "min_length": (int, "a whole number"),
            "max_length": (int, "a whole number"),
        }
        for key, (kind, words) in wanted.items():
            value = self.settings.get(key)
            is_flag = isinstance(value, bool) and key != "deprecated"
            if key in self.settings and (is_flag or not isinstance(value, kind)):
                self.error(key, f"{key} of `{self.field.name}` must be {words}, not {value!r}")
                self.drop(key)

    def union(self):
        if self.field.shape.kind != "union":
            return
        for key in ("ge", "le", "min_length", "max_length", "regex", "choices"):
            if key in self.settings:
                message = f"`{self.field.name}` is a union, so {key} has no one type to be about"
                self.error(key, message, f"remove {key}")
                self.drop(key)

    def ranges(self):
        name = self.field.name
        for key in ("ge", "le"):
            if key in self.settings and self.kind not in _NUMBERS:
                hint = "use min_length and max_length" if self.kind == "str" else f"remove {key}"
                self.error(key, f"{key} is about numbers, and `{name}` is {self.field.shape.shown}", hint)
                self.drop(key)
        if "ge" in self.settings and "le" in self.settings and self.settings["ge"] > self.settings["le"]:
            message = f"no number is at least {self.settings['ge']} and at most {self.settings['le']} (`{name}`)"
            self.error("ge", message, "exchange ge and le")

    def lengths(self):
        name = self.field.name
        for key in ("min_length", "max_length"):
            if key not in self.settings:
                continue
            if self.kind not in ("str", "Secret"):
                hint = "use ge and le" if self.kind in _NUMBERS else f"remove {key}"
                self.error(key, f"{key} is about text, and `{name}` is {self.field.shape.shown}", hint)
                self.drop(key)
            elif self.settings[key] < 0:
                self.error(key, f"{key} of `{name}` is below 0", "a length is 0 or more")
                self.drop(key)
        if "min_length" in self.settings and "max_length" in self.settings:
            least, most = self.settings["min_length"], self.settings["max_length"]
            if least > most:
                message = f"no text has at least {least} and at most {most} characters (`{name}`)"
                self.error("min_length", message, "exchange min_length and max_length")

    def regex(self):
        if "regex" not in self.settings:
            return
        name = self.field.name
        if self.kind not in ("str", "Secret"):
            self.error("regex", f"regex is about text, and `{name}` is {self.field.shape.shown}", "remove regex")
            self.drop("regex")
            return
        try:
            re.compile(self.settings["regex"])
        except (re.error, OverflowError, RecursionError) as error:
            self.error("regex", f"regex of `{name}` is not a regular expression: {error}", 'write it as r"..."')
            self.drop("regex")

    def choices(self):
        if "choices" not in self.settings:
            return
        name, choices = self.field.name, self.settings["choices"]
        if self.kind not in ("str", "int", "float", "bool", "enum"):
            hint = "choices are for str, int, float and bool"
            self.error("choices", f"`{name}` is {self.field.shape.shown} and cannot have choices", hint)
            self.drop("choices")
            return
        if not choices:
            self.error("choices", f"choices of `{name}` is empty, so no value is allowed", "name at least two")
            self.drop("choices")
            return
        for choice in choices:
            if not self.fits(choice):
                message = f"the choice {choice!r} of `{name}` is not {self.field.shape.element.shown}"
                self.error("choices", message, "make them all of the input's type")
                return
        if len(choices) == 1:
            self.warning("choices", f"`{name}` has one choice only", "leave the input out, or add others")
        if any(choice in choices[:place] for place, choice in enumerate(choices)):
            self.warning("choices", f"a choice of `{name}` is there twice", "name each once")
            self.settings["choices"] = [choice for place, choice in enumerate(choices) if choice not in choices[:place]]
        for key in ("ge", "le", "min_length", "max_length", "regex"):
            if key in self.settings:
                self.error(
                    key, f"`{name}` has choices, which are all that is allowed; {key} adds nothing", f"remove {key}"
                )
                self.drop(key)

    def others(self):
        name = self.field.name
        if "accept" in self.settings and self.kind != "Path":
            hint = "make it `cog.Path`, or remove accept"
            self.error("accept", f"accept is only valid on Path or File inputs (parameter '{name}')", hint)
            self.drop("accept")
        if "default_factory" in self.field.nodes and "default" in self.field.nodes:
            self.error("default_factory", f"`{name}` has a default and a default_factory", "keep one of them")

    # The default

    def fits(self, value, shape=None):
        """Whether a value is one of the type."""
        shape = shape or self.field.shape.element
        if value is None:
            return shape.nullable
        kind = shape.kind
        if kind in ("str", "Path", "Secret", "datetime", "date", "time", "UUID"):
            return isinstance(value, str)
        if kind == "int":
            return (isinstance(value, int) or (isinstance(value, float) and value.is_integer())) and not isinstance(
                value, bool
            )
        if kind == "float":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        if kind == "bool":
            return isinstance(value, bool)
        if kind == "array":
            return isinstance(value, list) and (
                shape.items is None or all(self.fits(item, shape.items) for item in value)
            )
        if kind == "enum":
            return value in shape.values
        if kind == "union":
            return any(self.fits(value, variant) for variant in shape.variants)
        return kind != "object" or isinstance(value, dict)

    def default(self):
        name, default = self.field.name, self.field.default
        values = default if self.field.shape.kind == "array" and isinstance(default, list) else [default]
        choices = self.field.choices
        if choices is not None:
            for value in values:
                if value not in choices and value is not None:
                    shown = ", ".join(repr(choice) for choice in choices[:12])
                    self.error(
                        "default", f"the default {value!r} of `{name}` is not one of its choices", f"use one of {shown}"
                    )
                    return
        if not self.fits(default, self.field.shape):
            hint = f"write a default of that type, or make it `{_of(default)}`"
            self.error("default", f"the default {default!r} of `{name}` is not {self.field.shape.shown}", hint)
            return
        for value in values:
            self.limits(value)
        if self.field.shape.kind == "Secret":
            message = f"the default of the secret `{name}` can be read by everyone who sees the schema"
            self.warning("default", message, "use `Secret = None`, and read a secret of your own from the environment")

    def limits(self, value):
        name = self.field.name
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            if "ge" in self.settings and value < self.settings["ge"]:
                self.error(
                    "default",
                    f"the default {value} of `{name}` is below ge={self.settings['ge']}",
                    "change one of them",
                )
            if "le" in self.settings and value > self.settings["le"]:
                self.error(
                    "default",
                    f"the default {value} of `{name}` is above le={self.settings['le']}",
                    "change one of them",
                )
        if isinstance(value, str):
            if len(value) < self.settings.get("min_length", 0):
                message = f"the default {value!r} of `{name}` is shorter than min_length={self.settings['min_length']}"
                self.error("default", message, "change one of them")
            if len(value) > self.settings.get("max_length", len(value)):
                message = f"the default {value!r} of `{name}` is longer than max_length={self.settings['max_length']}"
                self.error("default", message, "change one of them")
            if "regex" in self.settings and not re.search(self.settings["regex"], value):
                message = f"the default {value!r} of `{name}` does not match regex={self.settings['regex']!r}"
                self.error("default", message, "change one of them")


def _of(value):
    """The annotation that a value would fit."""
    names = {str: "str", int: "int", float: "float", bool: "bool", dict: "dict"}
    if isinstance(value, list):
        kinds = {type(item) for item in value}
        return f"list[{names.get(kinds.pop(), 'Any')}]" if len(kinds) == 1 else "list"
    return names.get(type(value), "Any")
