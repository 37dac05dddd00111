"""Many containers, in parallel and in sequence: none may fail, and nothing of them may stay behind."""

import os
import re
import time
from pathlib import Path

from common import Clunk, Report, arguments

# Cleaning goes on for a moment after the last call.
SETTLE_S = 30
WORKING_FOLDERS = ("containers", "points", "attach", "tmp")


def processes():
    """`{pid: parent}` of this machine."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in brackets may hold anything.
            found[int(entry.parent.name)] = int(entry.read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            pass
    return found


def family(pid):
    """A process and all that come from it."""
    parents = processes()
    found = {pid}
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


def entries(folder):
    return sum(len(folders) + len(files) for _, folders, files in os.walk(folder))


def links(pids, path):
    """What a link of `/proc/PID` leads to, for each process; every target once."""
    found = set()
    for pid in pids:
        try:
            found.add(os.readlink(f"/proc/{pid}/{path}"))
        except OSError:
            pass
    return found


def instance(pids):
    """The name by which the kernel's objects of this server are told from those of others."""
    for pid in pids:
        try:
            found = re.search(r"/clunk_([0-9a-f]+)/", Path(f"/proc/{pid}/cgroup").read_text())
        except OSError:
            continue
        if found:
            return found.group(1)
    return "none"


def descriptors(pids):
    count = 0
    for pid in pids:
        try:
            count += len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            pass
    return count


def mounts(pids):
    """Mounts in every mount namespace that the server's processes are in."""
    lines = {}
    for pid in pids:
        for space in links([pid], "ns/mnt"):
            try:
                lines[space] = len(Path(f"/proc/{pid}/mountinfo").read_text().splitlines())
            except OSError:
                pass
    return sum(lines.values())


def count(server):
    """What there is now of everything that a container could leave behind."""
    pids = family(server["pid"])
    name = instance(pids)
    groups = sum(f"clunk_{name}" in path for path, _, _ in os.walk("/sys/fs/cgroup"))
    interfaces = sum(interface.startswith(f"ck{name}-") for interface in os.listdir("/sys/class/net"))
    files = sum(entries(Path(server["state_dir"], name)) for name in WORKING_FOLDERS)
    return {
        "mounts": mounts(pids),
        "cgroups": groups,
        "network interfaces": interfaces,
        "network namespaces": len(links(pids, "ns/net")),
        "processes": len(pids),
        "open files": descriptors(pids),
        "working files": files,
    }


def settled(server):
    """The counts once they have stopped changing."""
    deadline = time.monotonic() + SETTLE_S
    before, since = count(server), time.monotonic()
    while time.monotonic() < deadline and time.monotonic() - since < 3:
        time.sleep(0.5)
        now = count(server)
        if now != before:
            before, since = now, time.monotonic()
    return before


def main():
    options = arguments(__doc__)
    clunk = Clunk(options.clunk)
    clunk.ensure_server()
    parallel, sequential = (20, 50) if options.quick else (50, 1000)
    # The first containers let the server prepare what it keeps for all.
    clunk.run_app("many.py", "--parallel", parallel, "--sequential", 5)
    before = settled(clunk.status())
    done = clunk.run_app("many.py", "--parallel", parallel, "--sequential", sequential, timeout=1800)
    after = settled(clunk.status())

    report = Report("many", options.quick)
    report.add(f"{parallel} at once, failed", len(done["parallel_wrong"]), "calls", 0)
    report.add(f"{parallel} at once, all ended after", done["parallel_s"], "s")
    report.add(f"{sequential} in sequence, failed", len(done["sequential_wrong"]), "calls", 0)
    report.add("in sequence, each", done["sequential_s"] / sequential * 1e3, "ms")
    for what, there in after.items():
        report.add(f"left behind: {what}", there - before[what], "more", 0)
    for wrong in (done["parallel_wrong"] + done["sequential_wrong"])[:5]:
        print(wrong)
    report.finish()


if __name__ == "__main__":
    main()
