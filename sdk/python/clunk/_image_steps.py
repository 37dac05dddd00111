"""The steps of an image: checks of what the user wrote, and the records that the server takes.

A step is a dict when it is known at once, and a Deferred when local files must be read or sent first.
"""

import os

from . import _check
from .exception import InvalidError

# Options of the interface that have no meaning here yet.
UNAVAILABLE_OPTIONS = frozenset("env secrets gpu volumes cpu memory cloud region network_file_systems".split())


class Deferred:
    """A step that needs local files: `make(resolver)` gives its record."""

    __slots__ = ("make",)

    def __init__(self, make):
        self.make = make


class LocalFiles:
    """Local files that a container sees: laid over it when it starts, or a step of the image."""

    __slots__ = ("copy", "ignore", "local", "modules", "remote")

    def __init__(self, *, copy, local=None, remote=None, modules=(), ignore=None):
        self.copy = copy
        self.local = local
        self.remote = remote
        self.modules = modules
        self.ignore = ignore


# Bases


def make_base(method, args, options):
    return _BASES[method](*args, **options)


def _debian_slim(python_version):
    if python_version is None:
        # Which Python this machine runs is decided when the image is built.
        return {"kind": "debian_slim", "python": None}
    owner = "Image.debian_slim"
    if not isinstance(python_version, str):
        raise InvalidError(
            f"{owner}: python_version must be text, not {python_version!r}", hint=f'write "{python_version}"'
        )
    parts = python_version.split(".")
    if len(parts) not in (2, 3) or not all(part.isdigit() for part in parts) or parts[0] != "3":
        raise InvalidError(f'{owner}: python_version must look like "3.13", not {python_version!r}')
    return {"kind": "debian_slim", "python": ".".join(parts[:2])}


def _from_registry(tag, secret, *, username=None, password=None, credentials=None, add_python=None, **options):
    owner = "Image.from_registry"
    _check.text(owner, "tag", tag)
    _check.refuse_unavailable(owner, {"secret": secret, "add_python": add_python})
    _refuse_options(owner, options)
    if credentials is not None:
        try:
            username, password = credentials
        except (TypeError, ValueError):
            raise InvalidError(f"{owner}: credentials must be a pair (user name, password)") from None
    if (username is None) != (password is None):
        raise InvalidError(f"{owner}: username and password go together")
    login = None
    if username is not None:
        login = {"username": username, "password": password}
    return {"kind": "registry", "reference": tag, "credentials": login}


# Steps


def make_step(image, method, args, options):
    """The step of one builder call."""
    made = _STEPS[method](*args, **options)
    runs = not (isinstance(made, LocalFiles) and not made.copy)
    if runs and any(_is_overlay(step) for step in image._steps):
        raise InvalidError(
            f"Image.{method} comes after local files that are only added when a container starts",
            hint="put add_local_* last, or pass copy=True to it",
        )
    return made


def _is_overlay(step):
    return isinstance(step, LocalFiles) and not step.copy


def _refuse_options(owner, options):
    known = {key: options.pop(key) for key in list(options) if key in UNAVAILABLE_OPTIONS}
    _check.refuse_unavailable(owner, known)
    if options:
        raise InvalidError(f"{owner} has no parameter `{next(iter(options))}`")


def _apt_install(*packages, **options):
    owner = "Image.apt_install"
    _refuse_options(owner, options)
    return {"kind": "apt_install", "packages": _some(owner, "packages", packages)}


def _some(owner, name, values):
    flat = _check.texts(owner, name, values)
    if not flat:
        raise InvalidError(f"{owner}: nothing to do; pass at least one of {name}")
    return flat


def _pip_install(
    *packages,
    requirements=None,
    find_links=None,
    index_url=None,
    extra_index_url=None,
    pre=False,
    extra_options="",
    uv_version=None,
    **options,
):
    owner = "Image.pip_install"
    _check.refuse_unavailable(owner, {"uv_version": uv_version})
    _refuse_options(owner, options)
    names = _check.texts(owner, "packages", packages)
    files = [requirements] if isinstance(requirements, (str, os.PathLike)) else list(requirements or ())
    if not names and not files:
        raise InvalidError(f"{owner}: nothing to install; pass packages or requirements files")
    record = {
        "kind": "pip_install",
        "packages": names,
        "requirements": [_read_text(owner, os.fspath(path)) for path in files],
        "index_url": index_url,
        "extra_index_url": extra_index_url,
        "find_links": find_links,
        "pre": bool(pre),
        "extra_options": extra_options or "",
    }
    return record


def _read_text(owner, path):
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise InvalidError(f"{owner}: cannot read {path}: {error.strerror}") from None


def _run_commands(*commands, **options):
    owner = "Image.run_commands"
    _refuse_options(owner, options)
    return {"kind": "run_commands", "commands": _some(owner, "commands", commands)}


def _env(vars):
    return {"kind": "env", "vars": _check.text_map("Image.env", "vars", vars)}


def _workdir(path):
    return {"kind": "workdir", "path": _check.text("Image.workdir", "path", os.fspath(path))}


def _entrypoint(args):
    return {"kind": "entrypoint", "args": _check.texts("Image.entrypoint", "commands", _as_list(args))}


def _cmd(args):
    return {"kind": "cmd", "args": _check.texts("Image.cmd", "cmd", _as_list(args))}


def _as_list(args):
    if not isinstance(args, (list, tuple)):
        raise InvalidError(f"an entry point and a command are lists of text, not {args!r}")
    return args


def _dockerfile_commands(*commands, context_files=None, context_dir=None, ignore=None, build_args=None, **options):
    owner = "Image.dockerfile_commands"
    _check.refuse_unavailable(owner, {"build_args": build_args})
    _refuse_options(owner, options)
    lines = [line for text in _some(owner, "lines", commands) for line in text.split("\n")]
    if not context_files and context_dir is None:
        return {"kind": "dockerfile", "lines": lines, "context": None}

    def make(resolver):
        tree = resolver.context_tree(owner, context_dir, context_files or {}, matcher(ignore))
        return {"kind": "dockerfile", "lines": lines, "context": tree}

    return Deferred(make)


def _add_local_file(local_path, remote_path, copy):
    owner = "Image.add_local_file"
    local = os.path.abspath(os.path.expanduser(os.fspath(local_path)))
    remote = os.fspath(remote_path)
    target = remote + os.path.basename(local) if remote.endswith("/") else remote
    if not os.path.isfile(local):
        raise InvalidError(f"{owner}: there is no file {local}")
    return LocalFiles(copy=bool(copy), local=local, remote=_check.remote_path(owner, target))


def _add_local_dir(local_path, remote_path, copy, ignore):
    owner = "Image.add_local_dir"
    local = os.path.abspath(os.path.expanduser(os.fspath(local_path)))
    if not os.path.isdir(local):
        raise InvalidError(f"{owner}: there is no folder {local}")
    remote = _check.remote_path(owner, remote_path)
    return LocalFiles(copy=bool(copy), local=local, remote=remote, ignore=matcher(ignore))


def _add_local_python_source(*modules, copy, ignore):
    owner = "Image.add_local_python_source"
    names = _some(owner, "modules", modules)
    return LocalFiles(copy=bool(copy), modules=names, ignore=matcher(ignore))


def matcher(ignore):
    """`ignore` as a function of a relative path: from patterns or from a function of a Path."""
    if ignore is None or (isinstance(ignore, (list, tuple)) and not ignore):
        return None
    from .file_pattern_matcher import FilePatternMatcher

    if callable(ignore) and not isinstance(ignore, FilePatternMatcher):
        from pathlib import Path

        return lambda path: ignore(Path(path))
    if isinstance(ignore, str):
        ignore = [ignore]
    return ignore if isinstance(ignore, FilePatternMatcher) else FilePatternMatcher(*ignore)


def _run_function(function, *, args=(), kwargs=None, env=None, timeout=3600, include_source=True, **options):
    owner = "Image.run_function"
    _refuse_options(owner, options)
    function = getattr(function, "_clunk_function", function)
    if not callable(function) or "<locals>" in getattr(function, "__qualname__", "<locals>"):
        raise InvalidError(f"{owner} takes a function from the top of a file, not {function!r}")
    _check.number(owner, "timeout", timeout, 1, 86_400)
    vars = _check.text_map(owner, "env", env or {})
    return Deferred(lambda resolver: resolver.run_function(function, tuple(args), dict(kwargs or {}), vars, timeout))


_BASES = {"debian_slim": _debian_slim, "from_registry": _from_registry}
_STEPS = {
    "apt_install": _apt_install,
    "pip_install": _pip_install,
    "run_commands": _run_commands,
    "env": _env,
    "workdir": _workdir,
    "entrypoint": _entrypoint,
    "cmd": _cmd,
    "dockerfile_commands": _dockerfile_commands,
    "add_local_file": _add_local_file,
    "add_local_dir": _add_local_dir,
    "add_local_python_source": _add_local_python_source,
    "run_function": _run_function,
}
