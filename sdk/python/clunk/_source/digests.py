"""SHA-256 of files, remembered: an unchanged file is not read again."""

import hashlib
import json
import os
import time

# A file that changed so shortly before it was read may change again within the same tick of its clock. Nanoseconds.
SETTLED_NS = 2_000_000_000
FORMAT = 1
# Projects whose digests are remembered.
PROJECTS_MAX = 50


def cache_folder():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "clunk")


class DigestCache:
    """Digests of the files below one folder. What cannot be read or written is computed and forgotten."""

    def __init__(self, root, folder=None):
        name = hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
        self._path = os.path.join(folder or cache_folder(), "digests", f"{name}.json")
        self._known = self._load()
        self._fresh = {}
        self._changed = False

    def _load(self):
        try:
            with open(self._path, "rb") as file:
                record = json.loads(file.read())
            if record["format"] == FORMAT and isinstance(record["files"], dict):
                return record["files"]
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return {}

    def knows(self, path, stat):
        """Whether the digest of a file needs no reading."""
        known = self._known.get(path)
        if not isinstance(known, list) or len(known) != 5 or not isinstance(known[4], str):
            return False
        return known[:4] == _mark(stat)

    def digest(self, path, stat, tell=None):
        """The digest of a file whose `stat` was just taken; `tell` is told of each piece that is read."""
        if self.knows(path, stat):
            self._fresh[path] = self._known[path]
            return self._known[path][4]
        began = time.time_ns()
        digest = hash_file(path, tell)
        self._changed = True
        if max(stat.st_mtime_ns, stat.st_ctime_ns) < began - SETTLED_NS:
            self._fresh[path] = [*_mark(stat), digest]
        return digest

    def save(self):
        """Keeps what was asked for, in one step, so that two processes do not spoil each other's file."""
        if not self._changed and len(self._fresh) == len(self._known):
            return
        part = f"{self._path}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(self._path), exist_ok=True)
            with open(part, "w") as file:
                json.dump({"format": FORMAT, "files": self._fresh}, file, separators=(",", ":"))
            os.replace(part, self._path)
            forget_old(os.path.dirname(self._path))
        except (OSError, UnicodeError):
            try:
                os.unlink(part)
            except OSError:
                pass


def _mark(stat):
    # The time of the last change of the inode sees what a tool that sets file times hides.
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def forget_old(folder):
    """Keeps the records of the projects that were run last."""
    with os.scandir(folder) as entries:
        found = sorted((entry.stat().st_mtime, entry.path) for entry in entries if entry.name.endswith(".json"))
    for _, path in found[:-PROJECTS_MAX]:
        os.unlink(path)


def hash_file(path, tell=None):
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while True:
            data = file.read(1 << 20)
            if not data:
                return digest.hexdigest()
            digest.update(data)
            if tell is not None:
                tell(len(data))
