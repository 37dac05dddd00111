"""Outputs: any value that a model gives, as JSON with its files beside it.

Values of JSON's own types are encoded at once. Others are first made of such types, by one walk over the value; where a
file stands the JSON gets null, and the file goes ahead of it in a frame of its own.
"""

import os
import sys
import time
from _collections_abc import Mapping
from _collections_abc import Set as AbstractSet
from _stat import S_ISREG

from cog._urls import UNKNOWN_TYPE, clean_name, media_type

from clunk.exception import SerializationError

from .cog_json import NotPlain, dumps
from .link import CONTROL_MAX, FILE, LOG, encode_control

# A file up to this size goes inline: bytes.
INLINE_FILE_MAX = 256 << 10
# And one up to this size is copied into memory, so that the model may write the same file again at once.
MEMORY_FILE_MAX = 64 << 20
# Files of one value; the agent takes no more.
FILES_MAX = 10_000
DEPTH_MAX = 200
# Where containers have memory for files.
TEMPORARY = "/tmp"
# Files there that are remembered as outputs; what was given earlier stays.
REMEMBERED_MAX = 20_000
_COPY_CHUNK = 64 << 20

_PLAIN = frozenset((str, int, float, bool, type(None)))


def clock_ns():
    """Now, as the kernel stamps files."""
    return time.clock_gettime_ns(getattr(time, "CLOCK_REALTIME_COARSE", time.CLOCK_REALTIME))


class OutputError(SerializationError):
    """An output that cannot be sent. The message says where in it the reason lies."""


OutputError.__module__ = "cog"


class Temporary:
    """The files in the temporary folder that were given as outputs. They stay, as a model may give one again; but the
    oldest go when the folder is half full. Only for a container of Clunk's, where that folder is memory of its own.
    """

    def __init__(self):
        self.folder = os.path.realpath(TEMPORARY)
        # What was made earlier, by `setup`, stays.
        self.since = clock_ns()
        # Oldest first: path to device and inode.
        self.given = {}

    def place(self, name, found):
        """The path of a file, of which `found` is known; None of one that lies elsewhere or was made by no call."""
        if found.st_ctime_ns <= self.since:
            return None
        path = os.path.realpath(name)
        return path if os.path.commonpath((self.folder, path)) == self.folder else None

    def add(self, files):
        """A call has ended that gave these."""
        for path, *identity in files:
            self.given.pop(path, None)
            self.given[path] = identity
        while self.given and self._is_half_full():
            path = next(iter(self.given))
            _remove(path, *self.given.pop(path))
        while len(self.given) > REMEMBERED_MAX:
            del self.given[next(iter(self.given))]

    def _is_half_full(self):
        found = os.statvfs(self.folder)
        return found.f_bfree * 2 < found.f_blocks


def _remove(path, device, inode):
    """Removes the file that it was."""
    try:
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == (device, inode):
            os.unlink(path)
    except OSError:
        pass


class Outputs:
    """The outputs of one call."""

    __slots__ = ("call", "count", "keeps", "link", "taken", "temporary", "warned")

    def __init__(self, link, call, keeps=False, temporary=None):
        self.link = link
        # The `Temporary` of the runner, or None; and the files in it that were sent: path, device and inode.
        self.temporary = temporary
        self.taken = []
        self.call = call
        # Nothing will write over the files that come out (a training's): they need no copy.
        self.keeps = keeps
        self.count = 0
        self.warned = False

    def encode(self, value):
        """`(control text, JSON)` of a value. Its files have been sent then."""
        try:
            return b"format=json\n", dumps(value, self.half)
        except (NotPlain, ValueError, TypeError, RecursionError):
            pass
        walk = _Walk(self)
        plain = walk.plain(value, (), 0)
        data = dumps(plain, self.half)
        if not walk.files:
            return b"format=json\n", data
        control = b"format=json\n" + encode_control({"files": dumps(walk.files).decode()})
        if len(control) > CONTROL_MAX:
            raise OutputError("the names around the files of this output are too long, a megabyte together")
        return control, data

    def clean(self):
        """The call is over: nothing else of it names the files that it gave."""
        if self.taken:
            self.temporary.add(self.taken)
            self.taken = []

    def half(self):
        """Says that a text is not what it was."""
        self._warn("the output has half a character (a lone surrogate), which no text has: \ufffd was sent instead\n")

    def warn(self, where, value):
        self._warn(f"{where} is {value!r}, which JSON does not have: null was sent instead\n")

    def _warn(self, text):
        if not self.warned:
            self.warned = True
            data = text.encode()
            self.link.send(LOG, self.call, b"stream=stderr\n", (data,), len(data))


class _Walk:
    def __init__(self, outputs):
        self.outputs = outputs
        self.files = []
        # The containers that the walk is in.
        self.within = set()

    def plain(self, value, where, depth):
        """`value` made of JSON's own types. `where`: the way to it."""
        kind = type(value)
        if kind is float and (value != value or value in (_INFINITY, -_INFINITY)):
            self.outputs.warn(_shown(where), value)
            return None
        if kind in _PLAIN:
            return value
        if depth > DEPTH_MAX:
            raise OutputError(f"{_shown(where)} is nested deeper than {DEPTH_MAX} levels")
        if id(value) in self.within:
            raise OutputError(f"{_shown(where)} contains itself")
        self.within.add(id(value))
        try:
            return self._made(value, kind, where, depth + 1)
        finally:
            self.within.discard(id(value))

    def _made(self, value, kind, where, depth):
        if isinstance(value, Mapping):
            return self._mapping(value.items(), where, depth)
        if isinstance(value, (list, tuple, range, AbstractSet)) or kind.__name__ in (
            "deque",
            "dict_keys",
            "dict_values",
        ):
            return [self.plain(item, (*where, at), depth) for at, item in enumerate(value)]
        if hasattr(kind, "__fspath__"):
            return self._path(value, where)
        if callable(getattr(value, "read", None)):
            return self._stream(value, where)
        fields = _fields(value, kind)
        if fields is not None:
            return self._mapping(fields.items(), where, depth)
        made = _scalar(value, kind)
        if made is not _NOTHING:
            return self.plain(made, where, depth)
        raise OutputError(f"{_shown(where)} is of type {_name(kind)}, which has no JSON form{_advice(value, kind)}")

    def _mapping(self, items, where, depth):
        made = {}
        for key, item in items:
            made[self._key(key, where)] = self.plain(item, (*where, key), depth)
        return made

    def _key(self, key, where):
        enum = sys.modules.get("enum")
        if enum is not None and isinstance(key, enum.Enum):
            key = key.value
        if isinstance(key, (str, int, float)) or key is None:
            return key
        item = getattr(key, "item", None)
        if callable(item):
            return item()
        raise OutputError(
            f"{_shown(where)} has the key {key!r} (of type {_name(type(key))}): JSON has text as keys only"
        )

    # Files

    def _path(self, path, where):
        name = os.fsdecode(path)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise OutputError(f"{_shown(where)} is the file {name}, which cannot be sent: {error.strerror}") from None
        try:
            found = os.fstat(fd)
            if not S_ISREG(found.st_mode):
                what = "a folder" if os.path.isdir(path) else "no regular file"
                raise OutputError(f"{_shown(where)} is {name}, which is {what}: only a file can be an output")
            # Of what the kernel makes as it is read, such as /proc/cpuinfo, nobody knows the size.
            data = None if found.st_size else _whole(fd, where, name)
            outputs = self.outputs
            self._place(where)
            self._send_file(fd, found.st_size, os.path.basename(name), data)
            path = outputs.temporary.place(name, found) if outputs.temporary is not None else None
            if path is not None:
                outputs.taken.append((path, found.st_dev, found.st_ino))
        finally:
            os.close(fd)

    def _send_file(self, fd, size, name, data):
        outputs = self.outputs
        control = self._control(name, media_type(name))
        if size <= INLINE_FILE_MAX:
            data = os.read(fd, size) if data is None else data
            return outputs.link.send(FILE, outputs.call, control, (data,), len(data))
        copy = None if outputs.keeps else _copy(fd, size)
        try:
            outputs.link.send_file(FILE, outputs.call, control, fd if copy is None else copy, size)
        finally:
            if copy is not None:
                os.close(copy)

    def _stream(self, stream, where):
        """An open file: all of it, wherever it was read or written last."""
        try:
            if not hasattr(stream, "seekable") or stream.seekable():
                stream.seek(0)
            data = stream.read()
        except Exception as error:
            raise OutputError(
                f"{_shown(where)} is a file that cannot be read: {type(error).__name__}: {error}"
            ) from error
        name = getattr(stream, "name", None)
        name = (
            clean_name(os.path.basename(os.fsdecode(name))) if isinstance(name, (str, bytes, os.PathLike)) else "file"
        )
        kind = media_type(name)
        if isinstance(data, str):
            data = data.encode("utf-8", "replace")
            kind = "text/plain" if kind == UNKNOWN_TYPE else kind
        self._place(where)
        self.outputs.link.send(FILE, self.outputs.call, self._control(name, kind), (data,), len(data))

    def _place(self, where):
        if len(self.files) >= FILES_MAX:
            raise OutputError(f"an output has at most {FILES_MAX} files")
        self.files.append([_pointer(where), self.outputs.count])

    def _control(self, name, kind):
        index = self.outputs.count
        self.outputs.count += 1
        return encode_control({"index": index, "name": name, "type": kind})


_INFINITY = float("inf")
_NOTHING = object()


def _fields(value, kind):
    """The fields of an object by name; None of one that has none."""
    dataclass = kind.__dict__.get("__dataclass_fields__") or getattr(kind, "__dataclass_fields__", None)
    if hasattr(kind, "_cog_fields"):
        return {name: getattr(value, name) for name, _, _ in kind._cog_fields()}
    if callable(getattr(kind, "model_dump", None)):
        # pydantic 2
        return value.model_dump()
    if hasattr(kind, "__fields__") and callable(getattr(kind, "dict", None)):
        # pydantic 1
        return value.dict()
    if dataclass is not None:
        return {name: getattr(value, name) for name in dataclass}
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in kind.__attrs_attrs__}
    return None


def _scalar(value, kind):
    """What stands for a value of another type."""
    for known in (str, int, float):
        if issubclass(kind, known):
            enum = sys.modules.get("enum")
            return value.value if enum is not None and isinstance(value, enum.Enum) else known(value)
    coders = sys.modules.get("cog.coder")
    coder = coders.Coder.lookup(kind) if coders is not None else None
    if coder is not None:
        return coder.encode(value)
    module, name = kind.__module__.split(".")[0], kind.__name__
    enum = sys.modules.get("enum")
    if enum is not None and isinstance(value, enum.Enum):
        return value.value
    if callable(getattr(value, "isoformat", None)):
        return value.isoformat()
    if module == "datetime" and name == "timedelta":
        return value.total_seconds()
    if module == "cog" and name == "Secret":
        return str(value)
    if (module, name) in (("uuid", "UUID"), ("decimal", "Decimal"), ("fractions", "Fraction")):
        return str(value)
    if module == "torch" and callable(getattr(value, "detach", None)):
        value = value.detach().cpu()
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).tolist()
    # numpy and what is like it
    to_list = getattr(value, "tolist", None)
    if callable(to_list):
        return to_list()
    return _NOTHING


def _advice(value, kind):
    if isinstance(value, (bytes, bytearray, memoryview)):
        return ": decode it to text, or write it to a file and return its cog.Path"
    if callable(getattr(value, "save", None)):
        return ": save it to a file and return its cog.Path"
    if hasattr(kind, "__next__") or hasattr(kind, "__anext__"):
        return ": yield its items, or return list(...) of it"
    return ": return text, numbers, lists, dicts, a cog.Path or a cog.BaseModel"


def _name(kind):
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _shown(where):
    return "the output" + "".join(f"[{key!r}]" for key in where)


def _pointer(where):
    return "".join("/" + _token(key) for key in where)


def _token(key):
    enum = sys.modules.get("enum")
    if enum is not None and isinstance(key, enum.Enum):
        key = key.value
    text = key if type(key) is str else dumps({key: 0})[2:-4].decode()
    return text.replace("~", "~0").replace("/", "~1")


def _whole(fd, where, name):
    """All that a file of unknown size gives."""
    pieces, size = [], 0
    while True:
        try:
            piece = os.read(fd, INLINE_FILE_MAX)
        except OSError as error:
            raise OutputError(f"{_shown(where)} is the file {name}, which cannot be read: {error.strerror}") from None
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
        if size > MEMORY_FILE_MAX:
            raise OutputError(f"{_shown(where)} is {name}, which has no end within {MEMORY_FILE_MAX >> 20} MiB")


def _copy(fd, size):
    """A descriptor of the same content that nobody writes to; None where there is no room for one."""
    copy = None
    try:
        if size <= MEMORY_FILE_MAX:
            copy = os.memfd_create("clunk-file", os.MFD_CLOEXEC)
        else:
            folder = os.environ.get("TMPDIR") or "/tmp"
            copy = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        done = 0
        while done < size:
            count = os.sendfile(copy, fd, done, min(size - done, _COPY_CHUNK))
            if not count:
                break
            done += count
        if done == size:
            return copy
    except (OSError, AttributeError):
        pass
    if copy is not None:
        os.close(copy)
    return None
