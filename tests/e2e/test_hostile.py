"""What hostile code in a function's container can see and do."""

import json

PROBE = """
import os
import clunk
app = clunk.App("probe")

def attempt(action):
    try:
        return repr(action())
    except BaseException as error:
        return type(error).__name__

@app.function(memory=(64, 256))
def look(host_home: str, url: str):
    import ctypes, socket
    libc = ctypes.CDLL(None, use_errno=True)
    host, port = url.rsplit("/", 1)[1].split(":")
    gateway = [line.split()[2] for line in open("/proc/net/route").read().splitlines()[1:] if line.split()[1] == "00000000"]
    gateway = [".".join(str(int(word[i:i+2], 16)) for i in (6, 4, 2, 0)) for word in gateway]
    reach = lambda address: attempt(lambda: bool(socket.create_connection((address, int(port)), 1)))
    return {
        "token": attempt(lambda: open(host_home + "/token").read()),
        "host_home": os.path.exists(host_home),
        "processes": [int(name) for name in os.listdir("/proc") if name.isdigit()],
        "server": reach(host),
        "server_by_gateway": [reach(address) for address in gateway],
        "metadata": attempt(lambda: bool(socket.create_connection(("169.254.169.254", 80), 1))),
        "mount": libc.mount(b"none", b"/mnt", b"tmpfs", 0, None),
        "unshare": libc.unshare(0x10000000),
        "setns": libc.setns(os.open("/proc/self/ns/net", os.O_RDONLY), 0),
        "chroot_out": libc.syscall(165, b"none", b"/mnt", b"proc", 0, None),
        "runner": attempt(lambda: open("/.clunk/owned", "w")),
        "sysrq": attempt(lambda: open("/proc/sysrq-trigger", "w")),
        "kcore": attempt(lambda: open("/proc/kcore", "rb").read(1)),
        "init": attempt(lambda: open("/proc/1/mem", "rb")),
        "init_exe": attempt(lambda: open("/proc/1/exe", "rb")),
        "devices": sorted(os.listdir("/dev")),
        "secrets": [name for name in os.environ if "TOKEN" in name or "SECRET" in name],
        "uid_map": open("/proc/self/uid_map").read().split(),
        "caps": [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")][0],
        "no_new_privs": [line.split()[1] for line in open("/proc/self/status") if line.startswith("NoNewPrivs")][0],
        "seccomp": [line.split()[1] for line in open("/proc/self/status") if line.startswith("Seccomp:")][0],
    }

@app.function(memory=(64, 256))
def bomb():
    children = []
    try:
        while len(children) < 20_000:
            pid = os.fork()
            if pid == 0:
                import time
                time.sleep(60)
                os._exit(0)
            children.append(pid)
    except OSError as error:
        return len(children), error.errno
    return len(children), 0

@app.local_entrypoint()
def main(host_home: str, url: str):
    import json
    print(json.dumps(look.remote(host_home, url)))
    try:
        print(json.dumps(bomb.remote()))
    except clunk.exception.Error as error:
        print(json.dumps(["ended", type(error).__name__]))
    print(json.dumps("alive" if look.remote(host_home, url) else ""))
"""


def test_what_a_tenant_sees(home, project):
    folder = project(probe=PROBE)
    home.run("up")
    url = home.server()["url"]
    out = home.ok("run", "probe.py", "--host-home", str(home.path), "--url", url, cwd=folder)
    seen, bombed, alive = map(json.loads, out.splitlines()[-3:])
    assert seen["token"] == "FileNotFoundError" and not seen["host_home"]
    assert max(seen["processes"]) < 50 and 1 in seen["processes"]
    assert seen["server"] != "True" and all(reached != "True" for reached in seen["server_by_gateway"])
    assert seen["metadata"] != "True"
    assert seen["mount"] == seen["unshare"] == seen["setns"] == seen["chroot_out"] == -1
    assert seen["runner"] == "OSError" and seen["sysrq"] in ("OSError", "PermissionError", "FileNotFoundError")
    assert seen["init"] == "PermissionError" and seen["init_exe"] == "PermissionError"
    assert seen["kcore"] in ("PermissionError", "OSError", "b''", "FileNotFoundError")
    assert set(seen["devices"]) <= {
        "null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "shm", "mqueue", "fd", "stdin", "stdout", "stderr", "console",
    }
    assert seen["secrets"] == [] and seen["uid_map"][1] != "0"
    assert seen["no_new_privs"] == "1" and seen["seccomp"] == "2"
    assert int(seen["caps"], 16) & (1 << 21 | 1 << 12 | 1 << 19 | 1 << 16) == 0, "SYS_ADMIN, NET_ADMIN, SYS_PTRACE or SYS_MODULE"
    # Either fork was refused, or the memory limit came first.
    assert bombed[0] == "ended" or (bombed[0] < 20_000 and bombed[1] == 11)
    assert alive == "alive"
