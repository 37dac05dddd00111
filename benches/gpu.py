"""A real GPU in real containers: a function, a Cog model and what others see of it. Needs a machine with one.

Nothing but the binary and a built `debian_slim` image is used, so it runs without a network too.
"""

import json
import sys

from common import ROOT, Clunk, Report, arguments, last_line

HERE = ROOT / "benches/gpu"


def check_machine(clunk):
    checks = json.loads(clunk("doctor", "--json", check=False).stdout)["checks"]
    gpu = next(check for check in checks if check["name"] == "GPU")
    print(f"clunk doctor: {gpu['detail']}", flush=True)
    if gpu["verdict"] != "ok" or gpu["detail"].startswith("none"):
        sys.exit("error: this machine has no GPU that functions can have")


def main():
    options = arguments(__doc__)
    clunk = Clunk(options.clunk)
    check_machine(clunk)
    clunk.ensure_server()
    print(next(line for line in clunk("status").stdout.splitlines() if line.startswith("GPUs:")), flush=True)
    app = last_line(clunk("run", HERE / "app.py").stdout)
    print(json.dumps(app, indent=1), flush=True)
    model = last_line(clunk("run", HERE).stdout)
    print(json.dumps(model, indent=1), flush=True)

    report = Report("gpu", options.quick)
    without, gpu, seen = app["without"], app["gpu"], app["gpu"]["seen"]
    devices = [node for node in seen["nodes"] if node.removeprefix("nvidia").isdigit()]
    report.add("a kernel's numbers are right: function, class, model", gpu["right"] + app["warm_right"] + model["right"], "of 3", least=3)
    report.add("devices of a container that asked for one", len(devices), "", most=1)
    report.add("devices that CUDA counts in it", gpu["facts"]["devices"], "", most=1)
    report.add("nvidia-smi -L ends with", app["smi"]["code"], "", most=0)
    report.add("nodes of other devices that its root could make", len(app["nodes_made"]), "", most=0)
    others = len(without["nodes"]) + len(without["files"]) + len(without["buses"]) + without["libcuda"]
    report.add("nodes and files that a container without sees", others, "", most=0)
    report.add("container and call, without a GPU", app["start_without_ms"], "ms")
    report.add("container and call, with a GPU", app["start_with_ms"], "ms")
    report.add("CUDA's initialisation in it", gpu["init_ms"], "ms")
    report.add("first kernel, with its copies", gpu["first_ms"], "ms")
    report.add("warm call that runs the kernel", app["warm_ms"], "ms")
    report.add("warm call that does nothing", app["no_op_ms"], "ms")
    report.finish()


if __name__ == "__main__":
    main()
