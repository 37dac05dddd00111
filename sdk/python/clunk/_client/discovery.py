"""Finds the server: what `clunk run` says, else the server of this machine, which is started when it does not run."""

import json
import os
import sys

from clunk import exception

# `clunk up` answers within seconds; a machine under load may take longer.
START_TIMEOUT_S = 60


def connect():
    """`(url, token)` of the server."""
    url = os.environ.get("CLUNK_SERVER_URL")
    if url:
        return url, _given_token()
    state = state_folder()
    found = _running_server(state)
    if found is None:
        _start_server(state)
        found = _running_server(state)
        if found is None:
            raise exception.ConnectionError("the server has not started", hint="clunk up")
    return found, _read_token(os.path.join(state, "token"))


def state_folder():
    """Where this machine's server keeps what it knows."""
    given = os.environ.get("CLUNK_HOME")
    if given:
        return given
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return "/var/lib/clunk"
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "clunk")


def _given_token():
    token = os.environ.get("CLUNK_TOKEN")
    if token:
        return token.strip()
    path = os.environ.get("CLUNK_TOKEN_FILE") or os.path.join(state_folder(), "token")
    return _read_token(path)


def _read_token(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError as error:
        raise exception.AuthError(
            f"cannot read the token in {path}: {error.strerror}",
            hint="set CLUNK_TOKEN, or CLUNK_TOKEN_FILE to a file that you may read",
        ) from None


def local_socket(url):
    """The path of the Unix socket of the server of this machine, when the address is its own: payloads travel faster
    there than through a port."""
    state = state_folder()
    path = os.path.join(state, "clunk.sock")
    try:
        with open(os.path.join(state, "server.json"), "rb") as file:
            own = json.loads(file.read())["url"].rstrip("/") == url
        return path if own and os.access(path, os.W_OK) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _running_server(state):
    """The address that the state folder names, when its process lives."""
    try:
        with open(os.path.join(state, "server.json")) as file:
            record = json.load(file)
        url, pid = record["url"], int(record["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if _is_alive(pid) else None


def _is_alive(pid):
    """Whether a process runs; one that has ended and was not waited for yet does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def find_binary():
    """The `clunk` program; None when it is not installed."""
    given = os.environ.get("CLUNK_BIN")
    if given:
        return given
    beside = os.path.join(os.path.dirname(sys.executable), "clunk")
    folders = os.environ.get("PATH", "").split(os.pathsep)
    for path in [beside, *(os.path.join(folder, "clunk") for folder in folders if folder)]:
        # The script that pip makes for this package is no server.
        if os.access(path, os.X_OK) and os.path.isfile(path) and not _is_script(path):
            return path
    return None


def _is_script(path):
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return True


def _start_server(state):
    binary = find_binary()
    if binary is None:
        raise exception.ConnectionError(
            f"no Clunk server runs here (nothing in {state}), and the `clunk` program is not on PATH",
            hint="install Clunk and run: clunk up, or set CLUNK_SERVER_URL and CLUNK_TOKEN",
        )
    import subprocess

    print(f"clunk: no server runs; starting one with `{binary} up`", file=sys.stderr)
    try:
        done = subprocess.run(
            [binary, "up"], stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), timeout=START_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise exception.ConnectionError(f"`{binary} up` failed: {error}", hint="clunk doctor") from None
    if done.returncode != 0:
        raise exception.ConnectionError(f"`{binary} up` ended with code {done.returncode}", hint="clunk doctor")
