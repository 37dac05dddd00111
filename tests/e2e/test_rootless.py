"""Everything as a user who is not root: one with subordinate ids, one without.

Needs root, to make those users and to remove them. Each command runs in a mount namespace of its own in which
`/dev/net/tun` is open to everyone, as it is on Debian, or closed: the machine's own is not touched.
"""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import textwrap
import time

import pytest

from conftest import SCRATCH, Home, binary, kill_server, wait_until

PROGRAMS = {"useradd": "passwd", "newuidmap": "uidmap", "pasta": "passt", "nft": "nftables", "setpriv": "util-linux"}
EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
# A file of the machine's own is laid over: `$1` is its mode, then the user, then the command.
AS_USER = """set -e
mount -t tmpfs -o mode=755 tun /mnt
mknod -m "$1" /mnt/tun c 10 200
mount --bind /mnt/tun /dev/net/tun
user=$2
shift 2
exec setpriv --reuid "$user" --regid "$user" --init-groups -- "$@"
"""


def missing():
    """Why these tests cannot run here."""
    if os.geteuid() != 0:
        return "only root can make users"
    absent = [f"{program} ({package})" for program, package in PROGRAMS.items() if not shutil.which(program)]
    if absent:
        return "missing: " + ", ".join(absent)
    if not os.path.exists("/dev/net/tun"):
        return "/dev/net/tun is missing: modprobe tun"
    allowed = subprocess.run(["setpriv", "--reuid=54321", "--clear-groups", "unshare", "-Ur", "true"], capture_output=True)
    return "this machine allows user namespaces to root only" if allowed.returncode else None


pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


class UserHome(Home):
    """A state folder of another user, and that user's commands."""

    def __init__(self, folder, user, ranges):
        super().__init__(folder / "state")
        self.folder, self.user, self.ranges, self.tun = folder, user, ranges, "666"
        self.program = folder / "clunk"
        shutil.copy(binary(), self.program)
        self.program.chmod(0o755)
        self.env["HOME"] = str(folder)
        self.env["XDG_CACHE_HOME"] = str(folder / "cache")

    def popen(self, *words, cwd=None, env=None, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        command = ["unshare", "--mount", "sh", "-c", AS_USER, "sh", self.tun, self.user, self.program, *words]
        environment = {**self.env, **(env or {})}
        command = list(map(str, command))
        return subprocess.Popen(command, cwd=cwd or self.folder, env=environment, text=True, **options)

    def write(self, text):
        """A file of the user with this program, in a folder of its own."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix="app-", dir=self.folder))
        folder.chmod(0o755)
        (folder / "app.py").write_text(textwrap.dedent(text))
        return folder / "app.py"

    def processes(self):
        """Of the user and of its subordinate ids: none but ours run as those."""
        uid = int(subprocess.check_output(["id", "-u", self.user], text=True))
        found = []
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                lines = status.read_text().splitlines()
            except OSError:
                continue
            if any(line.startswith("Uid:") and int(line.split()[1]) == uid for line in lines):
                found.append((status.parent.name, lines[0]))
        return found

    def leftovers(self):
        """Scratch folders of containers, and unfinished or removed layers."""
        folders = [self.path / "containers", *(self.path / name for name in ("layers", "trees", "images", "tools"))]
        entries = [entry for folder in folders if folder.exists() for entry in folder.iterdir()]
        return [str(entry) for entry in entries if entry.parent.name == "containers" or entry.name.startswith(".tmp-")]


@pytest.fixture(scope="module", params=["with ranges", "without ranges"])
def user_home(request):
    ranges = request.param == "with ranges"
    folder = pathlib.Path(tempfile.mkdtemp(prefix="clunk-rootless-", dir=SCRATCH))
    user = f"clunk-test-{os.getpid()}{'r' if ranges else 'n'}"
    none = [] if ranges else ["-K", "SUB_UID_COUNT=0", "-K", "SUB_GID_COUNT=0"]
    subprocess.run(["useradd", "--no-create-home", "--home-dir", folder, *none, user], check=True, capture_output=True)
    try:
        folder.chmod(0o755)
        shutil.chown(folder, user, user)
        home = UserHome(folder, user, ranges)
        yield home
        home.run("down", "--force")
        wait_until(f"the end of every process of {user}", lambda: not home.processes())
    finally:
        subprocess.run(["userdel", user], check=True, capture_output=True)
        shutil.rmtree(folder)


def test_hello(user_home):
    shutil.copy(EXAMPLES / "hello.py", user_home.folder)
    assert "Hello world, this is Python 3" in user_home.ok("run", "hello.py")


def test_a_function_without_network(user_home):
    app = user_home.write("""
        import clunk
        app = clunk.App()
        @app.function(block_network=True)
        def f():
            import os
            return os.getuid(), sorted(os.listdir("/sys/class/net"))
    """)
    assert json.loads(user_home.ok("run", "--json", app)) == [0, ["lo"]]


def test_an_image_with_pip_and_apt(user_home):
    app = user_home.write("""
        import clunk
        app = clunk.App()
        image = clunk.Image.debian_slim().apt_install("openssh-client").pip_install("cowsay")
        @app.function(image=image)
        def f():
            import cowsay, os
            return cowsay.__name__, os.stat("/usr/bin/ssh-agent").st_gid > 0
    """)
    # The program belongs to a group of its own where there are groups.
    assert json.loads(user_home.ok("run", "--json", app)) == ["cowsay", user_home.ranges]


def test_doctor_says_what_is_lost(user_home):
    checks = {check["name"]: check for check in json.loads(user_home.ok("doctor", "--json"))["checks"]}
    assert checks["privileges"]["verdict"] == "warning" and "not root" in checks["privileges"]["detail"]
    assert ("/etc/subuid" in checks["privileges"]["detail"]) == (not user_home.ranges)
    assert checks["network"]["verdict"] == "ok" and checks["helper"]["verdict"] == "ok"
    groups = checks["control groups"]
    assert groups["verdict"] == "ok" or "cannot be limited" in groups["detail"] and "systemd-run" in groups["detail"]


def test_a_crash_of_user_code(user_home):
    app = user_home.write("""
        import clunk
        app = clunk.App()
        @app.function()
        def work(how):
            import ctypes, os
            if how == "exit": os._exit(3)
            if how == "fault": ctypes.string_at(0)
            return "fine"
        @app.local_entrypoint()
        def main():
            for how in ("exit", "fault"):
                try: work.remote(how)
                except BaseException as error: print(error)
            print(work.remote(""))
    """)
    lines = user_home.ok("run", app).splitlines()
    assert "exit code 3" in lines[0] and any("SIGSEGV" in line for line in lines) and lines[-1] == "fine"


# Folders that only another user of the container may look into. Without ranges there is none to give them to.
OTHERS = "mkdir -p {0}/in && touch {0}/in/file && chmod 700 {0} {0}/in && (chown -R 1234:1234 {0} || true)"


def test_killed_and_started_again_nothing_is_left(user_home):
    app = user_home.write(f"""
        import clunk
        app = clunk.App()
        @app.function()
        def f():
            import subprocess, time
            subprocess.run("{OTHERS.format('/others')}", shell=True, stderr=subprocess.DEVNULL)
            print("ready", flush=True)
            time.sleep(300)
    """)
    process = user_home.popen("run", app, stdin=subprocess.DEVNULL)
    try:
        assert "ready" in process.stdout.readline()
        scratch = list((user_home.path / "containers").iterdir())
        assert scratch
        kill_server(user_home)
        wait_until("the end of every container", lambda: all("clunk" not in name for _, name in user_home.processes()))
    finally:
        process.kill()
        process.communicate()
    # As if the helper had been killed at the same moment, before it could remove anything.
    left = user_home.path / "containers" / scratch[0].name
    unfinished = user_home.path / "layers" / ".tmp-killed"
    owner = left.parent.stat().st_uid
    other = owner
    if user_home.ranges:
        lines = pathlib.Path("/etc/subuid").read_text().splitlines()
        other = next(int(line.split(":")[1]) for line in lines if line.startswith(user_home.user + ":")) + 1233
    for folder in (left, unfinished):
        (folder / "fs" / "others").mkdir(parents=True)
        (folder / "fs" / "others" / "file").touch()
        for path in (folder, folder / "fs"):
            os.chown(path, owner, owner)
        for path in (folder / "fs" / "others" / "file", folder / "fs" / "others"):
            os.chown(path, other, other)
            path.chmod(0o700)
    user_home.ok("run", "--json", user_home.write("""
        import clunk
        app = clunk.App()
        @app.function()
        def f(): return 1
    """))
    wait_until("the removal of leftovers", lambda: not user_home.leftovers())


def test_layers_with_files_of_other_users_can_be_removed(user_home):
    mark = os.urandom(4).hex()
    app = user_home.write(f"""
        import clunk
        app = clunk.App()
        image = clunk.Image.debian_slim().run_commands("{OTHERS.format('/' + mark)}")
        @app.function(image=image)
        def f():
            import os
            return os.stat("/{mark}").st_uid
    """)
    assert json.loads(user_home.ok("run", "--json", app)) == (1234 if user_home.ranges else 0)
    before = len(list((user_home.path / "layers").iterdir()))
    (image,) = [image for image in json.loads(user_home.ok("image", "list", "--json")) if mark in image["title"]]
    user_home.ok("image", "remove", image["id"])
    wait_until("the removal of the layer", lambda: len(list((user_home.path / "layers").iterdir())) < before)
    wait_until("the removal of its files", lambda: not user_home.leftovers())


def test_down_leaves_nothing(user_home):
    user_home.ok("status")
    user_home.down()
    wait_until("the end of every process", lambda: not user_home.processes())
    assert user_home.leftovers() == []


def test_without_a_way_to_a_network_only_what_needs_one_fails(user_home):
    user_home.down()
    user_home.tun = "600"
    try:
        doctor = user_home.ok("doctor", "--json")
        (network,) = [check for check in json.loads(doctor)["checks"] if check["name"] == "network"]
        assert network["verdict"] == "warning" and "chmod 666 /dev/net/tun" in network["detail"]
        mark = os.urandom(4).hex()
        program = """
            import clunk
            app = clunk.App()
            image = clunk.Image.debian_slim()%s
            @app.function(image=image)
            def f(): return 1
        """
        local = user_home.write(program % f'.run_commands("echo {mark}")')
        done = user_home.run("run", "--json", local)
        assert json.loads(done.stdout) == 1, done.stderr
        for step in (f'.env({{"A": "{mark}"}}).pip_install("cowsay")', f'.env({{"A": "{mark}"}}).apt_install("tree")'):
            since = time.monotonic()
            done = user_home.run("run", user_home.write(program % step))
            assert done.returncode == 1 and time.monotonic() - since < 20
            assert "/dev/net/tun" in done.stderr and "hint: " in done.stderr, done.stderr
    finally:
        user_home.tun = "666"
        user_home.down()
