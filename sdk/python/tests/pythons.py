"""The interpreters that the runner is tested with: this one, and what else is installed."""

import glob
import os
import subprocess
import sys

WANTED = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")


def _version(path):
    try:
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        return subprocess.check_output([path, "-S", "-c", code], text=True, stderr=subprocess.DEVNULL).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _find():
    found = {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}
    places = [
        *glob.glob(os.path.expanduser("~/.pyenv/versions/3.*/bin/python")),
        *glob.glob(os.path.expanduser("~/.local/share/uv/python/cpython-3.*/bin/python3")),
        *(f"/usr/bin/python{version}" for version in WANTED),
    ]
    for path in places:
        if os.path.exists(path):
            found.setdefault(_version(path), path)
    return [(version, found[version]) for version in WANTED if version in found]


PYTHONS = _find()
