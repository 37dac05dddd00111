"""A real server, real containers, and the binary as a user runs it.

CLUNK_BIN names the binary (else target/debug/clunk). One state folder and one server serve a whole run of the suite, so
that the base image is built once; tests that need to break a server take one of their own by `own_home`.
"""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import textwrap
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Overlayfs cannot write to every file system; this one is on disk.
SCRATCH = "/var/tmp"
# A first image is bootstrapped from packages; everything else is far quicker.
TIMEOUT_S = 300


def binary():
    given = os.environ.get("CLUNK_BIN")
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    path = pathlib.Path(given) if given else target / "debug" / "clunk"
    assert path.exists(), f"{path} is missing; build it first: make test does"
    return str(path)


class Home:
    """A state folder and the commands that use it."""

    def __init__(self, path, port="0"):
        self.path = pathlib.Path(path)
        keep = ("PATH", "HOME", "LANG", "TERM", "VIRTUAL_ENV", "CLUNK_DEBIAN_MIRROR", "CLUNK_CA_BUNDLE", "CARGO_TARGET_DIR")
        passed = {name: value for name, value in os.environ.items() if name in keep or name.endswith(("_proxy", "_PROXY"))}
        certificates = ("SSL_CERT_FILE", "SSL_CERT_DIR", "PIP_CERT", "REQUESTS_CA_BUNDLE", "PIP_INDEX_URL", "UV_INDEX_URL")
        passed.update({name: os.environ[name] for name in certificates if name in os.environ})
        self.env = {
            **passed,
            "CLUNK_HOME": str(self.path),
            "CLUNK_PORT": port,
            "CLUNK_PYTHON": os.environ.get("CLUNK_PYTHON", "/usr/bin/python3"),
            "XDG_CACHE_HOME": str(self.path / "client-cache"),
        }

    def popen(self, *words, cwd=None, env=None, **options):
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        command = [binary(), *map(str, words)]
        return subprocess.Popen(command, cwd=cwd, env={**self.env, **(env or {})}, text=True, **options)

    def run(self, *words, cwd=None, env=None, input=None, timeout=TIMEOUT_S):
        """Runs one command to its end."""
        process = self.popen(*words, cwd=cwd, env=env, stdin=subprocess.PIPE)
        try:
            out, err = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"clunk {words} did not end in {timeout} s\nstdout: {out}\nstderr: {err}")
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def ok(self, *words, **options):
        """Runs one command that must succeed, and returns its standard output."""
        done = self.run(*words, **options)
        assert done.returncode == 0, f"exit code {done.returncode}\nstdout: {done.stdout}\nstderr: {done.stderr}"
        return done.stdout

    def server(self):
        return json.loads((self.path / "server.json").read_text())

    def status(self):
        return json.loads(self.ok("status", "--json"))

    def down(self):
        self.run("down")


def wait_until(what, condition, limit_s=20):
    """Waits for a state, and names it when it does not come."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"{what}: not after {limit_s} s"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def home():
    path = os.environ.get("CLUNK_TEST_HOME") or tempfile.mkdtemp(prefix="clunk-test-", dir=SCRATCH)
    home = Home(path)
    yield home
    home.down()
    if "CLUNK_TEST_HOME" not in os.environ:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def own_home():
    path = tempfile.mkdtemp(prefix="clunk-own-", dir=SCRATCH)
    home = Home(path)
    yield home
    home.run("down", "--force")
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def project(tmp_path):
    """Writes files of a project and returns its folder."""

    def write(**files):
        for name, content in files.items():
            name = name.replace("__", "/").replace("_dot_", ".")
            path = tmp_path / (name if "." in name else name + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(content))
        return tmp_path

    return write


def instance(home):
    """Marks the cgroups and interfaces of one state folder: five hex digits, FNV-1a of the path."""
    number = 0xCBF29CE484222325
    for byte in str(home.path).encode():
        number = ((number ^ byte) * 0x100000001B3) % (1 << 64)
    return f"{number & 0xFFFFF:05x}"


def cgroups(home):
    """The runtime's groups of this state folder, all hierarchies: one for each container and each spare."""
    mark = f"clunk_{instance(home)}/"
    return [path for path, _, _ in os.walk("/sys/fs/cgroup") if mark in path + "/" and not path.endswith(mark[:-1])]


def interfaces(home):
    """The host's ends of the network of containers and spares."""
    return [name for name in os.listdir("/sys/class/net") if name.startswith(f"ck{instance(home)}-")]


def container_processes(home):
    """Programs of containers: processes in a group of this state folder that run Python of an image."""
    mark = f"clunk_{instance(home)}/"
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                inside = mark in (folder / "cgroup").read_text()
                if inside and b"clunk_runner" in (folder / "cmdline").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def leftovers(home):
    """What containers leave on a host when something goes wrong, counted. Spares that wait for the next container
    are part of it: compare with an idle server, or with none."""
    containers = home.path / "containers"
    mounts = [line for line in pathlib.Path("/proc/self/mounts").read_text().splitlines() if str(home.path) in line]
    return {
        "processes": len(container_processes(home)),
        "mounts": len(mounts),
        "cgroups": len(cgroups(home)),
        "interfaces": len(interfaces(home)),
        "scratch": len(list(containers.iterdir())) if containers.exists() else 0,
    }


def kill_server(home):
    os.kill(home.server()["pid"], signal.SIGKILL)
