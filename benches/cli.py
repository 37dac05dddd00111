"""What a user waits for at the command line, and what the server takes while it does nothing."""

import os
import time

from common import Clunk, Report, arguments, median

# A server gives memory back some time after the work.
IDLE_S = 5


def main():
    options = arguments(__doc__)
    clunk = Clunk(options.clunk)
    clunk.ensure_server()
    rounds = 5 if options.quick else 30
    clunk("run", "examples/hello.py")

    commands = {"help": ("--help",), "status": ("status",), "run": ("run", "examples/hello.py")}
    times = {name: [] for name in (*commands, "floor")}
    for _ in range(rounds):
        for name, words in commands.items():
            times[name].append(clunk.seconds(*words) * 1e3)
        # What any command costs: a new process of the smallest program.
        times["floor"].append(Clunk("/bin/true").seconds() * 1e3)

    report = Report("cli", options.quick)
    report.add("a process that does nothing", median(times["floor"]), "ms")
    report.add("clunk --help", median(times["help"]), "ms", 10)
    report.add("clunk status", median(times["status"]), "ms", 50)
    report.add("second clunk run examples/hello.py", median(times["run"]), "ms", 250)
    time.sleep(IDLE_S)
    report.add("server, idle", clunk.status()["memory_bytes"] / 1e6, "MB", 40)
    report.add("binary", os.path.getsize(options.clunk) / 1e6, "MB", 60)
    report.finish()


if __name__ == "__main__":
    main()
