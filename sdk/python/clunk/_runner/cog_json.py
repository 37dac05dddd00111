"""JSON by the C halves of `json`, without the imports of the other half: they would be part of every cold start."""

try:
    from _json import encode_basestring as quote
    from _json import make_encoder, make_scanner
except ImportError:
    make_scanner = None


# Characters from which on a text is long.
LARGE = 1 << 20
_ESCAPES = ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t"))
_RARE = bytes(code for code in range(32) if code not in b"\n\r\t")


class NotPlain(Exception):
    """A value that JSON has no form for as it is."""


def _not_plain(value):
    raise NotPlain


if make_scanner is not None:

    class _Reading:
        strict = True
        object_hook = object_pairs_hook = array_hook = None
        parse_float = float
        parse_int = int
        parse_constant = float
        memo = {}

    _scan = make_scanner(_Reading)
    # Without a record of what it is within, so that threads can share it; a circle is a RecursionError.
    _encode = make_encoder(None, _not_plain, quote, None, ":", ",", False, False, False)

    def _write(value):
        return "".join(_encode(value, 0))

else:
    import json as _json

    _encoder = _json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_not_plain)
    _write = quote = _encoder.encode


def loads(data):
    """The value of bytes of JSON."""
    text = str(data, "utf-8")
    if make_scanner is None:
        return _json.loads(text)
    if text[:1] in " \t\r\n":
        text = text.lstrip(" \t\r\n")
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("this is no JSON") from None
    if end != len(text) and text[end:].strip(" \t\r\n"):
        raise ValueError(f"more follows the JSON value, which ends at character {end}")
    return value


def dumps(value, tell=None):
    """Bytes of JSON of a value of JSON's own types. `tell` is called when a text has half a character.

    Raises NotPlain where another type comes, ValueError where a number is not finite, and RecursionError when the value
    is nested too deep or contains itself.
    """
    if type(value) is str:
        if len(value) >= LARGE:
            data = _quote_large(value)
            if data is not None:
                return data
        text = quote(value)
    else:
        text = _write(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        halves = text.encode("utf-16", "surrogatepass")
        try:
            # Both halves of a pair.
            return halves.decode("utf-16").encode()
        except UnicodeDecodeError:
            # One of them, such as a token of a text that was cut in a character.
            if tell is not None:
                tell()
            return halves.decode("utf-16", "replace").encode()


def _quote_large(text):
    """The JSON of a long text by searches over all of it, which take half the time of a look at each character.

    None where a character needs more than that.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError:
        return None
    if len(data.translate(None, _RARE)) != len(data):
        return None
    for plain, escaped in _ESCAPES:
        if plain in data:
            data = data.replace(plain, escaped)
    return b"".join((b'"', data, b'"'))


def finite(value):
    """`value` with null for the numbers that JSON does not have."""
    kind = type(value)
    if kind is float:
        return value if value - value == 0 else None
    if kind is list:
        return [finite(item) for item in value]
    if kind is dict:
        return {key: finite(item) for key, item in value.items()}
    return value
