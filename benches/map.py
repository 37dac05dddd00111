"""Many calls by `.map` from one client, beside Ray's tasks and actors and a bare process pool, and beside the ideal."""

import subprocess
import sys

from common import Clunk, Report, arguments, last_line, median
from peers import python_of, script

# Ten milliseconds each, a hundred at a time.
NAP_S = 0.01
AT_ONCE = 100


def peer(python, name, *words):
    done = subprocess.run([python, script(name), *map(str, words)], capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        sys.exit(f"error: {name} ended with {done.returncode}\n{done.stderr}")
    return last_line(done.stdout)


def main():
    options = arguments(__doc__)
    clunk = Clunk(options.clunk)
    clunk.ensure_server()
    rounds, calls, naps = (1, 2000, 200) if options.quick else (3, 10_000, 1000)
    warm_up = calls // 10
    ray = python_of("ray")
    clunk.run_app("map.py", "--calls", 10, "--naps", 0)
    found = []
    for _ in range(rounds):
        measured = clunk.run_app("map.py", "--calls", calls, "--warm-up", warm_up, "--naps", naps)
        measured.update(peer(sys.executable, "pool_calls.py", calls, warm_up, naps))
        if ray:
            measured.update(peer(ray, "ray_calls.py", calls, warm_up))
        found.append(measured)

    def rate(name, count=calls):
        return count / median([measured[name] for measured in found])

    report = Report("map", options.quick)
    report.add(f"{calls} calls by map", rate("map"), "calls/s")
    if ray:
        report.add("Ray tasks", rate("tasks"), "calls/s")
        report.add("Ray actors, two", rate("actors"), "calls/s")
        report.add("map over Ray tasks", rate("map") / rate("tasks"), "x", least=3)
        report.add("map over Ray actors", rate("map") / rate("actors"), "x", least=1.5)
    report.add("ProcessPoolExecutor(2)", rate("pool"), "calls/s")
    report.add("map over the process pool", rate("map") / rate("pool"), "x", least=0.5)
    report.add("client's processor time, each", median([measured["client_us"] for measured in found]), "us")
    ideal = AT_ONCE / NAP_S
    what = f"{naps} calls of 10 ms, {AT_ONCE} at once, of the ideal:"
    report.add(f"{what} {AT_ONCE} containers", rate("containers", naps) / ideal, "x", least=0.9)
    report.add(f"{what} ProcessPoolExecutor({AT_ONCE})", rate("pool_naps", naps) / ideal, "x")
    report.add(f"{what} one container, async", rate("concurrent", naps) / ideal, "x", least=0.9)
    report.finish()


if __name__ == "__main__":
    main()
