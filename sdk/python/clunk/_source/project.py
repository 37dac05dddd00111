"""Finds the project that a script belongs to, and the files of it that travel."""

import os

from clunk.exception import InvalidError

from .ignore import FOLDER_MARKS, NEVER_ENDINGS, NEVER_FILES, NEVER_FOLDERS, RULE_FILES, read_rules

# A folder that holds one of these is the root of a project.
MARKERS = frozenset(("pyproject.toml", "setup.py", "setup.cfg", ".git", "clunk.toml", ".clunkignore"))
# Counts when no folder upward has one of those: parts of a larger project have it too.
WEAK_MARKERS = frozenset(("requirements.txt",))
# Files per project, as many as the server takes.
FILES_MAX = 200_000
# Where the project lies in a container.
REMOTE_ROOT = "/root"


class LocalFile:
    """One file that travels."""

    __slots__ = ("executable", "link", "local", "remote", "stat")

    def __init__(self, remote, local, stat, link=None):
        self.remote = remote
        self.local = local
        self.stat = stat
        self.executable = bool(stat.st_mode & 0o100)
        self.link = link


def find_root(folder):
    """The nearest folder upward with a marker; the folder itself when there is none.

    The home folder and the root of the file system are never a project, whatever lies in them.
    """
    start = os.path.realpath(folder)
    home = os.path.realpath(os.path.expanduser("~"))
    at, weak = start, None
    while at != home and os.path.dirname(at) != at:
        try:
            names = os.listdir(at)
        except OSError:
            break
        if not MARKERS.isdisjoint(names):
            return at
        if weak is None and not WEAK_MARKERS.isdisjoint(names):
            weak = at
        at = os.path.dirname(at)
    return weak or start


def is_shared(root):
    """Whether a folder holds much that is no project: a script there takes only its Python neighbours along."""
    shared = ("/", "/tmp", "/var/tmp", os.environ.get("TMPDIR") or "/tmp", os.path.expanduser("~"))
    return root in {os.path.realpath(folder) for folder in shared}


def walk_project(root):
    """The files of a project."""
    if is_shared(root):
        return Walk(root, REMOTE_ROOT, ignore=lambda path: not path.endswith(".py"), flat=True)
    return Walk(root, REMOTE_ROOT)


class Walk:
    """The files below a folder, less what is ignored. `warnings` tells what was left out that may surprise."""

    def __init__(self, root, remote, *, ignore=None, rules=True, flat=False, rule_files=RULE_FILES):
        """`rule_files`: names of files with rules, where others than the usual ones count."""
        self.rule_files = rule_files
        self.root = root.rstrip("/") or "/"
        self.remote = remote.rstrip("/")
        self.warnings = []
        self.files = []
        self._ignore = ignore
        self._flat = flat
        self._use_rules = rules
        stack = self._rules_above() if rules else []
        self._folder(self.root, "", stack)

    def _rules_above(self):
        """Rules of the folders above that belong to the same repository: `[(path of it to here, rules)]`."""
        above = []
        at, below = self.root, ""
        while not os.path.exists(os.path.join(at, ".git")):
            parent = os.path.dirname(at)
            if parent == at:
                return []
            below = os.path.basename(at) + "/" + below
            at = parent
            above.append((at, below))
        found = [(below, read_rules(folder, self.rule_files)) for folder, below in above]
        return [(below, rules) for below, rules in reversed(found) if rules is not None]

    def _folder(self, folder, path, stack):
        try:
            with os.scandir(folder) as entries:
                entries = list(entries)
        except OSError as error:
            self.warnings.append(f"{folder} cannot be read ({error.strerror}); it stays here")
            return
        names = {entry.name for entry in entries}
        if path and self._use_rules and not FOLDER_MARKS.isdisjoint(names):
            return
        if self._use_rules and not names.isdisjoint(self.rule_files):
            rules = read_rules(folder, self.rule_files)
            if rules is not None:
                stack = [*stack, ("", rules)]
        for entry in entries:
            self._entry(entry, path, stack)

    def _entry(self, entry, path, stack):
        name = entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if self._never(name, is_folder):
            return
        relative = path + name
        if stack and _is_ignored(stack, relative, name, is_folder):
            return
        if is_folder:
            if not self._flat:
                deeper = [(below + name + "/", rules) for below, rules in stack]
                self._folder(entry.path, relative + "/", deeper)
            return
        if self._ignore is not None and self._ignore(relative):
            return
        self._add(entry, relative)

    def _never(self, name, is_folder):
        if not self._use_rules:
            return name == "__pycache__" or name.endswith(".pyc")
        if is_folder:
            return name in NEVER_FOLDERS
        return name in NEVER_FILES or name in NEVER_FOLDERS or name.endswith(NEVER_ENDINGS)

    def _add(self, entry, relative):
        remote = f"{self.remote}/{relative}"
        try:
            remote.encode()
            if entry.is_symlink():
                target = self._link_target(entry.path)
                if target is None:
                    self.warnings.append(f"{relative} is a link to outside the project; it stays here")
                    return
                if not os.path.exists(entry.path):
                    self.warnings.append(f"{relative} is a link to {target}, which is not there")
                self._append(LocalFile(remote, entry.path, os.lstat(entry.path), target))
            elif entry.is_file(follow_symlinks=False):
                self._append(LocalFile(remote, entry.path, entry.stat(follow_symlinks=False)))
            else:
                self.warnings.append(f"{relative} is a pipe, a socket or a device; it stays here")
        except UnicodeEncodeError:
            self.warnings.append(f"{relative!r} has a name that is not text; it stays here")
        except OSError:
            # It has gone since the folder was read.
            pass

    def _append(self, file):
        if len(self.files) >= FILES_MAX:
            raise InvalidError(
                f"{self.root} has more than {FILES_MAX} files to send",
                hint="name what to leave out in .clunkignore, or put a pyproject.toml into the project's own folder",
            )
        self.files.append(file)

    def _link_target(self, path):
        """The target of a link, relative, when it stays within the root; None otherwise."""
        target = os.readlink(path)
        here = os.path.dirname(path)
        whole = os.path.normpath(os.path.join(here, target))
        real = os.path.realpath(whole)
        root = os.path.realpath(self.root)
        for candidate, base in ((whole, self.root), (real, root)):
            if candidate != base and not candidate.startswith(base.rstrip("/") + "/"):
                return None
        return os.path.relpath(whole, here) if os.path.isabs(target) else target


def _is_ignored(stack, relative, name, is_folder):
    """The deepest folder whose rules speak of a path decides."""
    for below, rules in reversed(stack):
        # A folder's own rules see the path from that folder: `below` is its part outside the current root.
        verdict = rules.decide(below + name, name, is_folder)
        if verdict is not None:
            return verdict
    return False
