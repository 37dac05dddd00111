"""From what the user wrote to what the server knows: images to image ids, functions to function records."""

import hashlib
import os
import sys

from ._image_steps import Deferred, LocalFiles
from ._source.modules import module_path, place_of
from ._source.project import REMOTE_ROOT, LocalFile, Walk, walk_project
from ._source.upload import send_tree
from .exception import InvalidError

# Versions of Python that Debian's releases carry: the default image follows this machine's Python among these.
DEBIAN_PYTHONS = ("3.9", "3.11", "3.13", "3.14")


class Resolver:
    """Resolves the images and functions of one run; each tree is sent and each image asked for once."""

    def __init__(self, client, output):
        self._client = client
        self._output = output
        self._trees = {}
        self._images = {}
        # Image records, which hold all that decides an image, to ids.
        self._built = {}
        # (folder in the container, folder here), for tracebacks.
        self.folders = []

    # Trees

    def _send(self, files, root):
        return send_tree(self._client, files, root, self._output)

    def project_tree(self, root):
        """The tree of a project's source."""
        if root not in self._trees:
            walk = walk_project(root)
            for warning in walk.warnings:
                self._output.say(warning)
            self._trees[root] = self._send(walk.files, root)
            self.folders.append((REMOTE_ROOT, root.rstrip("/")))
        return self._trees[root]

    def local_tree(self, added):
        """The tree of `add_local_*`."""
        if added.modules:
            files, root = self._module_files(added)
        elif os.path.isdir(added.local):
            walk = Walk(added.local, added.remote, ignore=added.ignore, rules=False)
            files, root = walk.files, added.local
            self.folders.append((added.remote, added.local.rstrip("/")))
        else:
            try:
                files = [LocalFile(added.remote, added.local, os.stat(added.local))]
            except OSError as error:
                raise InvalidError(f"cannot read {added.local}: {error.strerror}") from None
            root = os.path.dirname(added.local)
            self.folders.append((os.path.dirname(added.remote), root))
        return self._send(files, root)

    def _module_files(self, added):
        from importlib.util import find_spec

        files = []
        root = os.getcwd()
        for name in added.modules:
            try:
                spec = find_spec(name)
            except (ImportError, ValueError):
                spec = None
            if spec is None or (spec.origin is None and not spec.submodule_search_locations):
                from .exception import ModuleNotMountable

                raise ModuleNotMountable(f"add_local_python_source: there is no local module `{name}`")
            place = f"{REMOTE_ROOT}/{name.replace('.', '/')}"
            for folder in spec.submodule_search_locations or ():
                walk = Walk(folder, place, ignore=added.ignore or _not_python, rules=False)
                files += walk.files
                root = os.path.dirname(folder)
            if not spec.submodule_search_locations:
                files.append(LocalFile(f"{place}.py", spec.origin, os.stat(spec.origin)))
                root = os.path.dirname(spec.origin)
        return files, root

    def context_tree(self, owner, folder, named, ignore):
        """The tree that COPY of a Dockerfile takes from, under /context."""
        files = []
        if folder is not None:
            folder = os.path.abspath(os.path.expanduser(os.fspath(folder)))
            if not os.path.isdir(folder):
                raise InvalidError(f"{owner}: there is no folder {folder}")
            files += Walk(folder, "/context", ignore=ignore, rules=False).files
        for target, local in named.items():
            local = os.path.abspath(os.path.expanduser(os.fspath(local)))
            if not os.path.isfile(local):
                raise InvalidError(f"{owner}: there is no file {local}")
            files.append(LocalFile(f"/context/{target.strip('/')}", local, os.stat(local)))
        return self._send(files, folder or os.getcwd())

    # Images

    def image_id(self, image):
        """The id of an image, built when it is not there yet."""
        if id(image) in self._images:
            return self._images[id(image)][1]
        steps = []
        for step in image._steps:
            if isinstance(step, Deferred):
                steps.append(step.make(self))
            elif isinstance(step, LocalFiles):
                if step.copy:
                    steps.append({"kind": "add_tree", "tree": self.local_tree(step)})
            else:
                steps.append(step)
        recipe = {"base": with_local_python(image._base), "steps": steps}
        key = repr(recipe)
        if key not in self._built or image._force:
            self._built[key] = self._build(recipe, image._force)
        # Keeping the image keeps its id() from being another's.
        self._images[id(image)] = image, self._built[key]
        return self._built[key]

    def _build(self, recipe, force):
        from ._build import build

        return build(self._client, recipe, force, self._output)

    def run_function(self, function, args, kwargs, env, timeout):
        """The record of a step that runs a function while the image is built."""
        from base64 import b64encode

        from ._payload import dump

        owner = f"run_function {function.__qualname__}"
        place = place_of(function, owner)
        arguments = ""
        if args or kwargs:
            try:
                arguments = b64encode(b"".join(dump((args, kwargs)).parts)).decode()
            except Exception as error:
                from .exception import SerializationError

                raise SerializationError(f"the arguments of {owner} have no pickle: {error}") from None
        path = [place.source_root, *module_path(place)]
        if path != [REMOTE_ROOT]:
            env = {**env, "CLUNK_SOURCE_PATH": ":".join(path)}
        return {
            "kind": "run_function",
            "module": place.module,
            "qualname": function.__qualname__,
            "key": function_key(function, arguments),
            "source": self.project_tree(place.root),
            "arguments": arguments,
            "env": env,
            "timeout_s": timeout,
        }

    # Functions

    def function_record(self, function, app):
        """What POST /api/apps takes for one function."""
        raw = function._clunk_function
        options = function._options
        place = place_of(raw, f"function {function.name}")
        image = options.get("image") or app._image or default_image()
        include = options.get("include_source")
        trees = []
        if app._include_source if include is None else include:
            trees.append(self.project_tree(place.root))
        image_id = self.image_id(image)
        for step in image._steps:
            if isinstance(step, LocalFiles) and not step.copy:
                trees.append(self.local_tree(step))
        env = dict(options["_env"])
        path = module_path(place)
        if path and path != [REMOTE_ROOT]:
            env["CLUNK_SOURCE_PATH"] = ":".join(path)
        return {
            "name": function.name,
            "entry": {
                "module": place.module,
                "qualname": raw.__qualname__,
                "source_root": place.source_root,
                **kind(function),
            },
            "image": image_id,
            "trees": trees,
            "env": env,
            "resources": options["_resources"],
            "policy": options["_policy"],
            "block_network": bool(options.get("block_network")),
        }


def kind(function):
    """What the entry of a record says of how the code is called."""
    raw = function._clunk_function
    if not isinstance(raw, type):
        return {"is_async": is_async(raw), "is_generator": function._is_generator}
    from ._parameters import default_values, encode
    from .cls import generates, methods

    found = {
        name: {"is_async": is_async(method), "is_generator": generates(method)} for name, method in methods(raw).items()
    }
    values = default_values(raw)
    return {"methods": found, "parameters": encode(function.name, values) if values else None}


def is_async(function):
    code = getattr(function, "__code__", None)
    # CO_COROUTINE and CO_ASYNC_GENERATOR.
    return code is not None and bool(code.co_flags & 0x280)


def _not_python(path):
    return not path.endswith((".py", ".pyi"))


def with_local_python(base):
    """A base whose Python was left open takes this machine's version when Debian has it."""
    if base.get("kind") != "debian_slim" or base["python"] is not None:
        return base
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return {**base, "python": version if version in DEBIAN_PYTHONS else None}


_default = None


def default_image():
    global _default
    if _default is None:
        from .image import Image

        _default = Image.debian_slim()
    return _default


def function_key(function, arguments):
    """Digest of a function's own text and arguments: an edit elsewhere does not run it again."""
    import inspect

    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        text = repr(function.__code__.co_code)
    return hashlib.sha256(f"{text}\0{arguments}".encode()).hexdigest()
