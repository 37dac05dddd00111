"""URLs of files: their names, their media types, and the content of data URLs. Without `urllib` and `mimetypes`, which
would be part of the first call of every model that takes an image."""

from binascii import Error as Base64Error
from binascii import a2b_base64

# Bytes of a file name, less than what file systems take so that something can be put in front.
NAME_MAX = 200
UNKNOWN_TYPE = "application/octet-stream"
_SPACE = b" \t\n\r\f\v"
_PADDING = b"=" + _SPACE
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/" + _SPACE

_TYPES = {
    ".aac": "audio/aac",
    ".avi": "video/x-msvideo",
    ".avif": "image/avif",
    ".bin": UNKNOWN_TYPE,
    ".bmp": "image/bmp",
    ".ckpt": UNKNOWN_TYPE,
    ".css": "text/css",
    ".csv": "text/csv",
    ".flac": "audio/flac",
    ".gif": "image/gif",
    ".glb": "model/gltf-binary",
    ".gz": "application/gzip",
    ".heic": "image/heic",
    ".htm": "text/html",
    ".html": "text/html",
    ".ico": "image/vnd.microsoft.icon",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".m4a": "audio/mp4",
    ".md": "text/markdown",
    ".mid": "audio/midi",
    ".mkv": "video/x-matroska",
    ".mov": "video/quicktime",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".npy": UNKNOWN_TYPE,
    ".npz": UNKNOWN_TYPE,
    ".obj": "model/obj",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".opus": "audio/opus",
    ".pdf": "application/pdf",
    ".pickle": UNKNOWN_TYPE,
    ".pkl": UNKNOWN_TYPE,
    ".ply": UNKNOWN_TYPE,
    ".png": "image/png",
    ".pt": UNKNOWN_TYPE,
    ".pth": UNKNOWN_TYPE,
    ".py": "text/x-python",
    ".safetensors": UNKNOWN_TYPE,
    ".srt": "application/x-subrip",
    ".stl": "model/stl",
    ".svg": "image/svg+xml",
    ".tar": "application/x-tar",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".vtt": "text/vtt",
    ".wav": "audio/wav",
    ".weba": "audio/webm",
    ".webm": "video/webm",
    ".webp": "image/webp",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zip": "application/zip",
}
_SUFFIXES = {
    "application/gzip": ".gz",
    "application/json": ".json",
    "application/x-gzip": ".gz",
    "application/x-zip-compressed": ".zip",
    "audio/mp3": ".mp3",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/x-wav": ".wav",
    "audio/vnd.wave": ".wav",
    "image/jpeg": ".jpg",
    "image/jpg": ".jpg",
    "image/tiff": ".tiff",
    "text/html": ".html",
    "text/javascript": ".js",
    "application/yaml": ".yaml",
}
for _suffix, _type in _TYPES.items():
    if _type != UNKNOWN_TYPE:
        _SUFFIXES.setdefault(_type, _suffix)


def media_type(name):
    """The media type that a file's name tells."""
    suffix = suffix_of(name).lower()
    if not suffix:
        return UNKNOWN_TYPE
    found = _TYPES.get(suffix)
    if found is None:
        import mimetypes

        found = _TYPES[suffix] = mimetypes.guess_type("x" + suffix)[0] or UNKNOWN_TYPE
    return found


def suffix_for(kind):
    """The end of the name of a file of a media type; empty when the type tells nothing."""
    kind = kind.partition(";")[0].strip().lower()
    if not kind or kind == UNKNOWN_TYPE:
        return ""
    found = _SUFFIXES.get(kind)
    if found is None:
        import mimetypes

        found = _SUFFIXES[kind] = mimetypes.guess_extension(kind) or ""
    return found


def suffix_of(name):
    """`.png` of `image.png`; nothing of `.png`."""
    stem, dot, suffix = name.rpartition(".")
    return dot + suffix if stem.strip(".") and suffix and len(suffix) <= 20 else ""


def file_name(url):
    """The file name at the end of a URL; of a data URL one that fits its media type."""
    if is_data_url(url):
        kind, fields = _data_head(_split_data_url(url)[0])
        named = fields.get("name") or fields.get("filename")
        return clean_name(unquote(named)) if named else "file" + suffix_for(kind)
    rest = url.partition("://")[2].partition("#")[0].partition("?")[0]
    return clean_name(unquote(rest.partition("/")[2].rpartition("/")[2].replace("+", " ")))


def clean_name(name):
    """A name that a file can have: of bounded length, with its suffix, and in no other folder."""
    name = name.replace("\0", "_").replace("/", "_")
    if name in ("", ".", ".."):
        return "file"
    encoded = name.encode("utf-8", "replace")
    if len(encoded) <= NAME_MAX:
        return encoded.decode()
    suffix = suffix_of(name)
    return encoded[: NAME_MAX - len(suffix.encode()) - 1].decode("utf-8", "ignore") + "~" + suffix


def is_data_url(text):
    return text[:5].lower() == "data:"


def read_data_url(url):
    """`(media type, content)` of a data URL."""
    head, data = _split_data_url(url)
    if data is None:
        raise ValueError("a data URL has a comma before its data: data:image/png;base64,iVBORw...")
    kind, fields = _data_head(head)
    content = _percent_decoded(data) if "%" in data else data.encode("utf-8", "replace")
    return kind, _base64_decoded(content) if "base64" in fields else content


def _base64_decoded(data):
    """Python's decoder skips what is no base 64, and gives less than was meant: here only white space is skipped."""
    body = data.rstrip(_PADDING)
    strange = body.translate(None, _BASE64)
    if strange:
        shown = strange[:1].decode("ascii", "replace")
        what = "a = that does not end it" if shown == "=" else f"the character {shown!r}, which base 64 does not have"
        raise ValueError(f"the data of this data URL is not base 64: it has {what}")
    try:
        content = a2b_base64(data)
    except Base64Error as error:
        raise ValueError(f"the data of this data URL is not base 64: {error}") from None
    if data and not content:
        raise ValueError("the data of this data URL is not base 64: it has padding or white space only")
    return content


def _split_data_url(url):
    """What stands before the comma and the data behind it; None where there is no comma. In quotes it is one of a
    parameter."""
    comma = url.find(",")
    quote = url.find('"', 0, max(comma, 0))
    while quote >= 0:
        end = url.find('"', quote + 1)
        if end < 0:
            break
        if end > comma:
            comma = url.find(",", end)
        quote = url.find('"', end + 1, max(comma, 0))
    return (url, None) if comma < 0 else (url[:comma], url[comma + 1 :])


def _data_head(head):
    """Media type and parameters of what stands before the comma."""
    kind, *parts = head[5:].split(";")
    fields = {}
    for part in parts:
        name, _, value = part.strip().partition("=")
        fields[name.lower()] = value.strip('"')
    return kind.strip().lower() or "text/plain", fields


def unquote(text):
    return _percent_decoded(text).decode("utf-8", "replace") if "%" in text else text


def _percent_decoded(text):
    import re

    def run(found):
        return bytes.fromhex(found[0].replace(b"%", b"").decode())

    # A run at a time, of bounded length as the matcher remembers each step in it.
    return re.sub(rb"(?:%[0-9A-Fa-f]{2}){1,4096}", run, text.encode("utf-8", "replace"))
