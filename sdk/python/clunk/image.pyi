from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from typing_extensions import Concatenate, ParamSpec

from clunk.file_pattern_matcher import FilePatternMatcher

P = ParamSpec("P")
R = TypeVar("R")
_Path = str | PathLike[str]
_Ignore = str | Sequence[str] | FilePatternMatcher | Callable[[Path], bool] | None
_Texts = str | Sequence[str]

class Image:
    """A base and the steps on top of it. Each method gives a new image; none changes the one it is called on."""

    @staticmethod
    def debian_slim(python_version: str | None = None, *, force_build: bool = False) -> Image:
        """Debian with Python; the version of this machine's Python when Debian has it."""

    @staticmethod
    def from_registry(
        tag: str,
        secret: Any = None,
        *,
        username: str | None = None,
        password: str | None = None,
        credentials: tuple[str, str] | None = None,
        setup_dockerfile_commands: Sequence[str] = (),
        add_python: str | None = None,
        force_build: bool = False,
    ) -> Image:
        """An image of any OCI registry; it needs a Python on its PATH."""

    def apt_install(self, *packages: _Texts, force_build: bool = False) -> Image:
        """Installs Debian packages."""

    def pip_install(
        self,
        *packages: _Texts,
        requirements: _Path | Sequence[_Path] | None = None,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
    ) -> Image:
        """Installs Python packages; `extra_options` are more arguments for `uv pip install`."""

    def uv_pip_install(
        self,
        *packages: _Texts,
        requirements: _Path | Sequence[_Path] | None = None,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
    ) -> Image:
        """Installs Python packages; every install is done by uv."""

    def pip_install_from_requirements(
        self,
        requirements_txt: _Path,
        *,
        find_links: str | None = None,
        index_url: str | None = None,
        extra_index_url: str | None = None,
        pre: bool = False,
        extra_options: str = "",
        force_build: bool = False,
    ) -> Image:
        """Installs what a local requirements file lists."""

    def run_commands(self, *commands: _Texts, force_build: bool = False) -> Image:
        """Runs shell commands."""

    def env(self, vars: Mapping[str, str]) -> Image:
        """Sets environment variables."""

    def workdir(self, path: _Path) -> Image:
        """Sets the working folder of later steps and of the container."""

    def entrypoint(self, entrypoint_commands: Sequence[str]) -> Image:
        """Replaces the image's entry point."""

    def cmd(self, cmd: Sequence[str]) -> Image:
        """Replaces the image's default command."""

    def dockerfile_commands(
        self,
        *dockerfile_commands: _Texts,
        context_files: Mapping[str, _Path] | None = None,
        context_dir: _Path | None = None,
        ignore: _Ignore = None,
        force_build: bool = False,
    ) -> Image:
        """Runs lines of a Dockerfile; COPY takes from `context_files` and `context_dir`."""

    def run_function(
        self,
        raw_f: Callable[..., Any],
        *,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
        timeout: int = 3600,
        include_source: bool = True,
        force_build: bool = False,
    ) -> Image:
        """Runs a function of your source and keeps what it wrote."""

    def add_local_file(self, local_path: _Path, remote_path: _Path, *, copy: bool = False) -> Image:
        """Adds a file when a container starts, or with `copy=True` to the image itself."""

    def add_local_dir(
        self, local_path: _Path, remote_path: _Path, *, copy: bool = False, ignore: _Ignore = ()
    ) -> Image:
        """Adds a folder when a container starts, or with `copy=True` to the image itself."""

    def add_local_python_source(self, *modules: str, copy: bool = False, ignore: _Ignore = None) -> Image:
        """Adds local modules where the container imports them from."""

    def imports(self) -> AbstractContextManager[None, bool]:
        """A context for imports of packages that only the image has: here a missing one is passed over."""

    def pipe(self, function: Callable[Concatenate[Image, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """`function(image, ...)`, for chains."""
