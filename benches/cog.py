"""A model's own server beside Cog's, mosec and FastAPI with uvicorn: the same echo, the same load, in turn in one run.

The load comes from wrk (Debian's package); its share of a processor is told, so that one sees that it is no bottleneck.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import cog_files
import cog_lives
import cog_streams
from common import Clunk, Report, arguments, median
from model_servers import Cog, FastApi, Mosec, Ours, OursInContainer

CONNECTIONS = (1, 8, 64)
BODY = json.dumps({"input": {"text": "hello"}})
# wrk's script: what to send, and numbers instead of a table.
SCRIPT = """
wrk.method = "POST"
wrk.body = '%s'
wrk.headers["Content-Type"] = "application/json"
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('{"requests":%%d,"us":%%d,"refused":%%d,"broken":%%d,"p50":%%d,"p99":%%d}\\n',
    summary.requests, summary.duration, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


class Load:
    """wrk, with a POST of a small JSON body."""

    def __init__(self):
        self.program = shutil.which("wrk")
        if not self.program:
            sys.exit("error: there is no wrk to make the load with\nhint: apt-get install wrk")
        self.script = tempfile.NamedTemporaryFile("w", suffix=".lua")
        self.script.write(SCRIPT % BODY)
        self.script.flush()

    def run(self, server, connections, seconds):
        url = f"http://127.0.0.1:{server.port}{server.path}"
        words = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", self.script.name, url]
        command = [self.program, *words]
        spent, before, began = server.processor_s(), os.times(), time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True)
        took, after = time.perf_counter() - began, os.times()
        if done.returncode != 0:
            server.fail(f"was not measured: {done.stdout}{done.stderr}")
        found = json.loads(done.stdout.strip().splitlines()[-1])
        used = after.children_user + after.children_system - before.children_user - before.children_system
        good = found["requests"] - found["refused"]
        return {
            "rate": good / (found["us"] / 1e6),
            "p50": found["p50"] / 1000,
            "p99": found["p99"] / 1000,
            "bad": found["refused"] + found["broken"],
            "all": found["requests"],
            "load": used / took,
            "us": (server.processor_s() - spent) / max(found["requests"], 1) * 1e6,
        }


def measure_load(kinds, rounds, seconds):
    """`found[name][connections]`: one dict of medians each; and the memory of each after the load."""
    load, found, memory = Load(), {}, {}
    for _ in range(rounds):
        for kind in kinds:
            server = kind("cog_echo")
            server.start()
            load.run(server, 8, 1)
            for connections in CONNECTIONS:
                runs = found.setdefault(kind.name, {}).setdefault(connections, [])
                runs.append(load.run(server, connections, seconds))
            memory.setdefault(kind.name, []).append(server.memory_mb())
            server.stop()
    for by_connections in found.values():
        for connections, runs in by_connections.items():
            middle = {key: median([run[key] for run in runs]) for key in ("rate", "p50", "p99", "load", "us")}
            total = {key: sum(run[key] for run in runs) for key in ("bad", "all")}
            by_connections[connections] = {**middle, **total}
    return found, {name: median(values) for name, values in memory.items()}


def report_load(report, found, memory):
    ours = found["clunk"]
    for connections in CONNECTIONS:
        for name, by_connections in found.items():
            run, where = by_connections[connections], f"{connections} connections"
            report.add(f"{name}, {where}", run["rate"], "answers/s")
            report.add(f"{name}, {where}, p50", run["p50"], "ms")
            report.add(f"{name}, {where}, p99", run["p99"], "ms")
            most = 0 if name.startswith("clunk") else None
            report.add(f"{name}, {where}, not 2xx", run["bad"] / run["all"] * 100, "%", most)
            report.add(f"{name}, {where}, the load's share of a processor", run["load"], "")
            if run["us"] == run["us"]:
                report.add(f"{name}, {where}, processor time per answer", run["us"], "us")
        for peer, least in (("mosec", 2), ("fastapi", 2), ("cog", 10)):
            if peer in found:
                ratio = ours[connections]["rate"] / found[peer][connections]["rate"]
                report.add(f"clunk over {peer}, {connections} connections", ratio, "x", least=least)
    if "mosec" in found:
        report.add("p50 at one connection over mosec's", ours[1]["p50"] / found["mosec"][1]["p50"], "x", most=1)
    for name, value in memory.items():
        if value == value:
            most = memory["cog"] if name == "clunk" and "cog" in memory else None
            report.add(f"{name}, memory after the load", value, "MB", most)


def measure_starts(kinds, rounds):
    found = {}
    for _ in range(rounds):
        for kind in kinds:
            server = kind("cog_echo")
            found.setdefault(kind.name, []).append(server.start() * 1000)
            server.stop()
    return {name: median(times) for name, times in found.items()}


def report_starts(report, starts):
    for name, value in starts.items():
        report.add(f"{name}, process start to ready", value, "ms")
    if "cog" in starts:
        report.add("cog's start over ours", starts["cog"] / starts["clunk"], "x", least=3)
        inside = starts.get("clunk in a container")
        if inside:
            report.add("cog's start over ours in a container", starts["cog"] / inside, "x", least=2)


def main():
    options = arguments(__doc__)
    Ours.clunk = Clunk(options.clunk)
    Ours.clunk.ensure_server()
    kinds = (Ours, OursInContainer, Mosec, FastApi, Cog)
    rounds, seconds, starts = (1, 1, 3) if options.quick else (3, 4, 15)
    report = Report("cog", options.quick)
    found, memory = measure_load(kinds, rounds, seconds)
    report_load(report, found, memory)
    report_starts(report, measure_starts(kinds, starts))
    cog_streams.measure(report, (Ours, Cog), options.quick)
    cog_files.measure(report, (Ours, Cog), options.quick)
    cog_lives.measure(report, Ours, options.quick)
    report.finish()


if __name__ == "__main__":
    main()
