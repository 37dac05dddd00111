"""`-i name=value`: the inputs of a model from words of the command line, typed by its schema."""

import json
import math
import os
import stat
import sys
from errno import ENOENT

from .arguments import nearest
from .errors import Exit, usage

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list: JSON, or one -i for each element",
    "object": "a JSON object",
    "string": "text",
}
# A file given as text or JSON: larger ones are something else.
TEXT_MAX_BYTES = 32 << 20


class LocalInput:
    """A file of this machine that an input names; `-` is standard input."""

    def __init__(self, path):
        self.path = path


class Wrong(ValueError):
    """A text is not what an input takes; says what would be."""


def input_schema(document, name="Input"):
    """The properties of the inputs, each with what its references say."""
    schemas = document["components"]["schemas"]
    properties = {key: resolved(schemas, value) for key, value in schemas[name].get("properties", {}).items()}
    return properties, schemas[name].get("required", [])


def resolved(schemas, schema):
    """A schema with its `$ref` and `allOf` in place."""
    made = {}
    for part in schema.get("allOf", ()):
        made.update(resolved(schemas, part))
    if "$ref" in schema:
        made.update(schemas.get(schema["$ref"].rpartition("/")[2], {}))
    made.update({key: value for key, value in schema.items() if key not in ("allOf", "$ref")})
    if "items" in made:
        made["items"] = resolved(schemas, made["items"])
    return made


def parse(pairs, document, name="Input", command="clunk run"):
    """The input object of `-i` words; every mistake in them is told at once."""
    properties, required = input_schema(document, name)
    given, named, mistakes = {}, set(), []
    for pair in pairs:
        key = pair.partition("=")[0]
        try:
            _take(pair, properties, given)
        except Exit as mistake:
            mistakes.append(mistake)
        named.add(key)
    missing = [key for key in required if key not in given and key not in named]
    if missing:
        example = " ".join(f"-i {key}={example_of(properties[key])}" for key in missing)
        plural = "s" * (len(missing) > 1)
        mistakes.append(usage(f"the model needs the input{plural} {', '.join(missing)}", f"{command} {example}"))
    if len(mistakes) > 1:
        lines = [f"  {mistake.message}" + f" ({mistake.hint})" * bool(mistake.hint) for mistake in mistakes]
        raise usage("\n".join([f"{len(mistakes)} mistakes in the inputs:", *lines]), f"{command} --help")
    for mistake in mistakes:
        raise mistake
    return given


def _take(pair, properties, given):
    """Adds the value of one word to those that are given."""
    key, equals, text = pair.partition("=")
    if not equals and key.startswith("@"):
        given.update(_whole(key[1:]))
        return
    if not equals:
        raise usage(f"-i {pair} has no value", f"-i {key}=VALUE")
    if key not in properties:
        raise usage(f"the model has no input `{key}`", _hint(key, properties))
    schema = properties[key]
    try:
        if schema.get("type") == "array":
            more = convert(schema, text) if text.startswith("[") else [convert(schema.get("items", {}), text)]
            given[key] = [*given.get(key, []), *more]
        elif key in given:
            raise usage(f"the input `{key}` is given twice", "only a list takes several values")
        else:
            given[key] = convert(schema, text)
    except Wrong as wrong:
        raise usage(f"the input `{key}` must be {wrong}, not {_short(text)}") from None


def _whole(path):
    """`-i @inputs.json`: all inputs as one object."""
    try:
        made = json.loads(_text(path))
    except ValueError as error:
        raise usage(f"{path} is not JSON: {error}") from None
    if not isinstance(made, dict):
        raise usage(f"{path} must hold one JSON object: the inputs by their names")
    return made


def _hint(key, properties):
    near = nearest(key, properties)
    known = ", ".join(properties)
    return (
        near.replace("did you mean ", "did you mean -i ").replace("?", "=...?")
        if near
        else f"it takes {known or 'none'}"
    )


def convert(schema, text):
    """The value of a text; raises `Wrong`."""
    if schema.get("format") == "uri":
        return _file(text)
    if text.startswith("@@"):
        text = text[1:]
    elif text.startswith("@"):
        text = _text(text[1:])
    if schema.get("nullable") and schema.get("type") != "string" and text == "null":
        return None
    if "anyOf" in schema:
        return _any_of(schema["anyOf"], text)
    if "enum" in schema:
        return _choice(schema, text)
    value = _typed(schema, text)
    for limit, fits in (("minimum", lambda least: value >= least), ("maximum", lambda most: value <= most)):
        if limit in schema and isinstance(value, (int, float)) and not fits(schema[limit]):
            raise Wrong(f"{'at least' if limit == 'minimum' else 'at most'} {schema[limit]}")
    return value


def _typed(schema, text):
    kind = schema.get("type", "string")
    try:
        if kind == "integer":
            return int(text, 0) if text.lower().lstrip("+-").startswith(("0x", "0o", "0b")) else int(text)
        if kind == "number":
            value = float(text)
            if not math.isfinite(value):
                raise ValueError
            return value
        if kind in ("array", "object"):
            value = json.loads(text)
            if not isinstance(value, list if kind == "array" else (dict, list)):
                raise ValueError
            return value
    except ValueError:
        raise Wrong(_WORDS[kind]) from None
    if kind == "boolean":
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise Wrong(_WORDS[kind])
    return text


def _any_of(variants, text):
    """The first variant that the text fits; text itself comes last."""
    for variant in sorted(variants, key=lambda each: each.get("type") == "string"):
        try:
            return convert({key: value for key, value in variant.items() if key != "nullable"}, text)
        except Wrong:
            continue
    raise Wrong(" or ".join(_WORDS.get(each.get("type"), "a value") for each in variants))


def _choice(schema, text):
    for value in schema["enum"]:
        if text == (value if isinstance(value, str) else json.dumps(value)):
            return value
    near = nearest(text, [str(value) for value in schema["enum"]])
    shown = ", ".join(str(value) for value in schema["enum"])
    raise Wrong(f"one of {shown}" + (f" ({near})" if near else ""))


def _file(text):
    if text.startswith("@"):
        path = text[1:]
        if path != "-":
            _check_file(path)
        return LocalInput(path)
    if text.startswith(("http://", "https://", "data:")):
        return text
    if os.path.exists(text):
        raise Wrong(f"a URL, or a file with @ before it (did you mean @{text}?)")
    raise Wrong("a URL, or @FILE for a file of this machine")


def _check_file(path):
    """Refuses what is no file and no pipe, as that of `@<(command)`."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise usage(f"there is no file {path}" if error.errno == ENOENT else f"{path}: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise usage(f"{path} is a folder, and the input takes a file", f"pack it: tar -czf data.tar.gz {path}")
    if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
        raise usage(f"{path} is a {'socket' if stat.S_ISSOCK(mode) else 'device'}, and the input takes a file")


def _text(path):
    """The text of a file; of standard input for `-`."""
    try:
        if path == "-":
            return sys.stdin.read(TEXT_MAX_BYTES)
        with open(path, encoding="utf-8") as file:
            return file.read(TEXT_MAX_BYTES)
    except OSError as error:
        raise usage(f"cannot read {path}: {error.strerror}", "write @@ for a text that begins with @") from None
    except UnicodeDecodeError:
        raise usage(f"{path} is not text", "this input takes text, not a file") from None


def _short(text):
    return repr(text if len(text) <= 60 else text[:57] + "...")


def example_of(schema):
    """A value that an input could be given, as a word of the command line."""
    if "default" in schema:
        return json.dumps(schema["default"])
    if "enum" in schema:
        return str(schema["enum"][0])
    if schema.get("format") == "uri":
        return "@FILE"
    examples = {
        "integer": str(schema.get("minimum", 1)),
        "number": "0.5",
        "boolean": "true",
        "array": "'[]'",
        "object": "'{}'",
    }
    return examples.get(schema.get("type"), "TEXT")


def describe(document, name="Input"):
    """Lines that say what a model takes, for help."""
    properties, required = input_schema(document, name)
    rows = []
    for key, schema in sorted(properties.items(), key=lambda item: item[1].get("x-order", 0)):
        notes = []
        if "enum" in schema:
            kind = "|".join(str(value) for value in schema["enum"])
        elif schema.get("format") == "uri":
            kind = "@FILE"
        else:
            kind = {"string": "TEXT", "array": "LIST", "object": "JSON"}.get(
                schema.get("type"), schema.get("type", "VALUE")
            )
        if "minimum" in schema or "maximum" in schema:
            notes.append(f"{schema.get('minimum', '')}..{schema.get('maximum', '')}")
        if "default" in schema and schema["default"] is not None:
            notes.append(f"default {json.dumps(schema['default'])}")
        notes.append("required" if key in required else "optional")
        words = schema.get("description", "")
        rows.append((f"-i {key}={kind.upper() if kind in _WORDS else kind}", f"{words} ({', '.join(notes)})".strip()))
    width = min(max((len(left) for left, _ in rows), default=0), 40)
    return [f"  {left.ljust(width)}  {right}" for left, right in rows] or ["  (none)"]
