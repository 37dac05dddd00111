"""Run by `benches/gpu.py`: prints one line of JSON."""

import json
import os
import subprocess
import time

import cuda

import clunk

app = clunk.App("gpu-check", image=clunk.Image.debian_slim("3.13"))
ROUNDS = 20
STARTS = 7
# Until a container that served one call is gone, and its GPU free again.
PAUSE_S = 0.5


@app.function()
def without():
    return cuda.seen()


@app.function(gpu="any")
def first_kernel():
    device, init_ms = cuda.timed(cuda.Cuda)
    right, first_ms = cuda.timed(device.compute)
    return {"facts": device.facts(), "right": right, "init_ms": init_ms, "first_ms": first_ms, "seen": cuda.seen()}


@app.function(gpu="any")
def nvidia_smi():
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return {"code": done.returncode, "text": (done.stdout + done.stderr).strip()}


@app.function(gpu="any")
def nodes_made():
    """Nodes of devices that were not granted: not even the container's root can make and open them."""
    made = []
    for minor in range(16):
        path = f"/tmp/nvidia{minor}"
        try:
            os.mknod(path, 0o20666, os.makedev(195, minor))
            os.close(os.open(path, os.O_RDWR))
            made.append(minor)
        except OSError:
            pass
    return made


@app.function(single_use_containers=True)
def fresh_without():
    return None


@app.function(single_use_containers=True, gpu="any")
def fresh_with():
    return None


@app.cls(gpu="any")
class Warm:
    @clunk.enter()
    def load(self):
        self.device = cuda.Cuda()

    @clunk.method()
    def compute(self):
        return self.device.compute()

    @clunk.method()
    def nothing(self):
        return None


def middle(call, rounds, pause_s=0.0):
    """Milliseconds of the middle one."""
    times = []
    for _ in range(rounds):
        time.sleep(pause_s)
        times.append(cuda.timed(call)[1])
    return sorted(times)[rounds // 2]


@app.local_entrypoint()
def main():
    found = {"without": without.remote(), "gpu": first_kernel.remote()}
    found["smi"] = nvidia_smi.remote()
    found["nodes_made"] = nodes_made.remote()
    warm = Warm()
    found["warm_right"] = warm.compute.remote()
    found["warm_ms"] = middle(warm.compute.remote, ROUNDS)
    found["no_op_ms"] = middle(warm.nothing.remote, ROUNDS)
    found["start_without_ms"] = middle(fresh_without.remote, STARTS, PAUSE_S)
    fresh_with.remote()  # An idle container of `Warm` has made room for it.
    found["start_with_ms"] = middle(fresh_with.remote, STARTS, PAUSE_S)
    print(json.dumps(found))
