"""Types of inputs and outputs. Files, here, need `pathlib` and `io`; the others come from where they are defined."""

import io
import os
import pathlib

from ._iterators import AsyncConcatenateIterator, ConcatenateIterator
from ._secret import Secret
from .errors import ExperimentalFeatureWarning
from .input import FieldInfo, Input

__all__ = [
    "PYDANTIC_V2",
    "AsyncConcatenateIterator",
    "ConcatenateIterator",
    "ExperimentalFeatureWarning",
    "FieldInfo",
    "File",
    "Input",
    "Path",
    "Secret",
    "URLFile",
    "URLPath",
    "get_filename",
]

# No pydantic is needed here; models ask this to know which one Cog brings.
PYDANTIC_V2 = True


class Path(pathlib.PosixPath):
    """A file. As an input it is local, whatever it was given as; as an output it is sent to who asked."""

    __slots__ = ()

    @classmethod
    def validate(cls, value):
        """A path of text, of a path, or of an http, https or data URL, which is fetched when its content is needed."""
        if isinstance(value, pathlib.PurePath):
            return value
        if _is_url(value):
            return URLPath(source=value, filename=get_filename(value), fileobj=File.validate(value))
        return cls(value)

    @classmethod
    def __get_validators__(cls):
        # pydantic 1
        yield cls.validate

    @classmethod
    def __modify_schema__(cls, schema):
        schema.update(type="string", format="uri")

    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        # pydantic 2
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(cls.validate)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema, handler):
        return {"type": "string", "format": "uri"}


class File(io.IOBase):
    """An open file. `Path` is the newer way to take and give files."""

    @classmethod
    def validate(cls, value):
        """An open file of a file, or of an http, https or data URL."""
        if isinstance(value, io.IOBase):
            return value
        if isinstance(value, str) and value[:5].lower() == "data:":
            from ._urls import read_data_url

            return io.BytesIO(read_data_url(value)[1])
        if _is_url(value):
            return URLFile(value)
        raise ValueError(f"a file is given as a data, http or https URL, not as {str(value)[:60]!r}")

    @classmethod
    def __get_validators__(cls):
        yield cls.validate

    @classmethod
    def __get_pydantic_core_schema__(cls, source, handler):
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(cls.validate)


class URLFile(io.IOBase):
    """A file under an http or https URL, opened when it is first read. It can be pickled."""

    def __init__(self, url, filename=None):
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"a URLFile is under an http or https URL, not {url[:60]!r}")
        self._url = url
        self._filename = filename
        self._opened = None

    @property
    def name(self):
        return self._filename or get_filename(self._url)

    @property
    def __wrapped__(self):
        if self._opened is None:
            import urllib.request

            headers = {"User-Agent": os.environ.get("COG_USER_AGENT") or "clunk"}
            request = urllib.request.Request(self._url, headers=headers)
            self._opened = urllib.request.urlopen(request, timeout=10)
        return self._opened

    def read(self, size=-1):
        return self.__wrapped__.read() if size is None or size < 0 else self.__wrapped__.read(size)

    def readinto(self, target):
        return self.__wrapped__.readinto(target)

    def readable(self):
        return True

    def close(self):
        if getattr(self, "_opened", None) is not None:
            self._opened.close()
        super().close()

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.__wrapped__, name)

    def __getstate__(self):
        return {"url": self._url, "name": self._filename}

    def __setstate__(self, state):
        self.__init__(state["url"], state["name"])

    def __repr__(self):
        return f"<URLFile of {self._url!r}>"


class URLPath(pathlib.PosixPath):
    """A path whose content lies under a URL until `convert` fetches it."""

    # A path that was made of this one (its parent, another suffix) is a plain one.
    source = filename = fileobj = None
    _fetched = None
    # Another way to the content than `fileobj`; gives the path of a local file.
    _fetch = None

    def __new__(cls, *, source, filename, fileobj):
        made = super().__new__(cls, filename)
        made._keep(source, filename, fileobj)
        return made

    def __init__(self, *, source, filename, fileobj):
        try:
            super().__init__(filename)
        except TypeError:
            # Before Python 3.12 everything happens in __new__.
            pass
        self._keep(source, filename, fileobj)

    def _keep(self, source, filename, fileobj):
        self.source = source
        self.filename = filename
        self.fileobj = fileobj

    def with_segments(self, *segments):
        return Path(*segments)

    def convert(self):
        """A local file with the content."""
        if self._fetched is None and self._fetch is not None:
            self._fetched = Path(self._fetch())
        if self._fetched is None:
            import shutil
            import tempfile

            with tempfile.NamedTemporaryFile(suffix=self.filename, delete=False) as file:
                shutil.copyfileobj(self.fileobj, file)
            self._fetched = Path(file.name)
        return self._fetched

    def unlink(self, missing_ok=False):
        """Deletes the local file, if there is one."""
        if self._fetched is not None:
            self._fetched.unlink(missing_ok=missing_ok)

    def __fspath__(self):
        return super().__str__() if self.source is None else str(self.convert())

    def __str__(self):
        return super().__str__() if self.source is None else self.source


def get_filename(url):
    """The file name at the end of a URL; of a data URL one that fits its media type."""
    from ._urls import file_name

    return file_name(url)


def _is_url(value):
    return isinstance(value, str) and value[:8].lower().startswith(("http://", "https://", "data:"))
