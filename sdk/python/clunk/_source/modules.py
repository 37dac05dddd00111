"""Where a function lives: its file, its project, and the name that a container imports it by."""

import os
import sys

from clunk.exception import InvalidError

from .project import REMOTE_ROOT, find_root, is_shared


class Place:
    """The module of a function, here and in the container."""

    __slots__ = ("folder", "module", "root")

    def __init__(self, module, folder, root):
        self.module = module
        # The folder that the module is imported from.
        self.folder = folder
        self.root = root

    @property
    def source_root(self):
        return remote_folder(self.root, self.folder)


def remote_folder(root, folder):
    relative = os.path.relpath(folder, root)
    return REMOTE_ROOT if relative == "." else f"{REMOTE_ROOT}/{relative}"


def place_of(function, owner):
    """The Place of a plain function."""
    name = function.__module__
    module = sys.modules.get(name)
    path = getattr(module, "__file__", None)
    if path is None:
        raise InvalidError(
            f"{owner} is defined in {name!r}, which has no source file", hint="write the function into a file"
        )
    path = os.path.realpath(path)
    name = import_name(name, module, path)
    folder = os.path.dirname(path)
    parts = name.split(".")
    if os.path.basename(path) == "__init__.py":
        parts.append("__init__")
    for _ in parts[1:]:
        folder = os.path.dirname(folder)
    if "site-packages" in path.split(os.sep) or "dist-packages" in path.split(os.sep):
        raise InvalidError(
            f"{owner} is defined in the installed package {parts[0]}, which does not travel",
            hint="define the function in your project, and install the package in the image",
        )
    return Place(name, folder, find_root(os.path.dirname(path)))


def import_name(name, module, path):
    """The name that a module has when it is not the one that was started."""
    if name != "__main__":
        return name
    spec = getattr(module, "__spec__", None)
    if spec is not None and spec.name:
        return spec.name
    stem = os.path.splitext(os.path.basename(path))[0]
    if "." in stem:
        raise InvalidError(f"{os.path.basename(path)} cannot be imported: its name has more than one dot")
    return stem


def module_path(place):
    """The folders of the project, other than its root and the module's own, that modules are imported from here."""
    found = []
    # When the project is Clunk itself, this package is not part of what it sends.
    ours = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    for folder in sys.path:
        folder = os.path.realpath(folder or os.getcwd())
        inside = folder.startswith(place.root.rstrip("/") + "/") and "site-packages" not in folder
        if inside and folder not in (place.folder, ours) and not is_shared(place.root) and os.path.isdir(folder):
            remote = remote_folder(place.root, folder)
            if remote not in found:
                found.append(remote)
    return found


def alias_main():
    """Lets pickles of a container, which know the started script by its own name, find it here as `__main__`."""
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if path is None:
        return
    try:
        name = import_name("__main__", main, os.path.realpath(path))
    except InvalidError:
        return
    sys.modules.setdefault(name, main)
