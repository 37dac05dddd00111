"""GPUs of a driver that is files and the null device: who gets which, and what is said where there are none.

What CUDA does with a real one is `benches/gpu.py`.
"""

import json
import os
import stat

import pytest

VERSION = "580.95.05"
MODELS = ["NVIDIA H200", "NVIDIA H200", "Tesla T4"]
NULL = os.makedev(1, 3)


def install_driver(root):
    proc, libraries, nodes = root / "proc/driver/nvidia", root / "usr/lib64", root / "dev"
    for folder in (proc, libraries, nodes):
        folder.mkdir(parents=True)
    (proc / "version").write_text(f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {VERSION}  Thu Oct 19\n")
    for minor, name in enumerate(MODELS):
        folder = proc / "gpus" / f"0000:00:0{minor}.0"
        folder.mkdir(parents=True)
        (folder / "information").write_text(f"Model: \t\t {name}\nDevice Minor: \t {minor}\n")
    (libraries / f"libcuda.so.{VERSION}").write_text("libcuda of the host")
    for name in [*(f"nvidia{minor}" for minor in range(len(MODELS))), "nvidiactl", "nvidia-uvm"]:
        os.mknod(nodes / name, stat.S_IFCHR | 0o666, NULL)


@pytest.fixture
def machine(home, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can make device nodes")
    install_driver(tmp_path / "machine")
    home.down()
    home.env["CLUNK_DRIVER_ROOT"] = str(tmp_path / "machine")
    yield home
    home.down()
    del home.env["CLUNK_DRIVER_ROOT"]


SEEN = """
        import os, clunk
        app = clunk.App()
        def seen():
            nodes = [name for name in sorted(os.listdir("/dev")) if name.startswith("nvidia")]
            paths = os.environ.get("LD_LIBRARY_PATH", "")
            return nodes, open(paths + "/libcuda.so.1").read() if paths else None
"""
ONE = SEEN + """
        @app.function(gpu="any")
        def one(): return seen()
        @app.local_entrypoint()
        def main():
            one.remote()
"""


def test_containers_have_the_gpus_they_were_placed_on(machine, project):
    folder = project(app=SEEN + """
        @app.function(gpu="H200")
        def first(): return seen()
        @app.function(gpu=["A100", "h200"])
        def second(): return seen()
        @app.function(gpu="T4:1")
        def other(): return seen()
        @app.function(gpu="H200:2")
        def both(): return seen()
        @app.function()
        def none(): return seen()
        @app.local_entrypoint()
        def main():
            for function in (first, second, other, both, none):
                print(*function.remote(), sep="; ")
    """)
    common, library = "'nvidia-uvm', ", "; libcuda of the host"
    assert machine.ok("run", "app.py", cwd=folder).splitlines() == [
        f"[{common}'nvidia0', 'nvidiactl']{library}",
        f"[{common}'nvidia1', 'nvidiactl']{library}",
        f"[{common}'nvidia2', 'nvidiactl']{library}",
        # Idle containers made room.
        f"[{common}'nvidia0', 'nvidia1', 'nvidiactl']{library}",
        "[]; None",
    ]


def test_a_cog_model_that_asks_for_a_gpu_gets_one(machine, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "cog.yaml").write_text('build:\n  gpu: true\n  python_version: "3.13"\nrun: "run.py:Runner"\n')
    (folder / "run.py").write_text(
        "import os\nfrom cog import BaseRunner\n"
        "class Runner(BaseRunner):\n    def run(self) -> str:\n"
        '        return " ".join(sorted(name for name in os.listdir("/dev") if name.startswith("nvidia")))\n'
    )
    assert machine.ok("run", folder) == "nvidia-uvm nvidia0 nvidiactl\n"
    assert machine.status()["server"]["gpus"][0] == {"kind": "H200", "total": 2, "used": 1}
    assert f"GPUs: 1 of 2 H200 in use, 0 of 1 T4 in use, NVIDIA driver {VERSION}" in machine.ok("status")


def test_doctor_has_a_line_for_gpus(machine, tmp_path):
    def line():
        checks = json.loads(machine.run("doctor", "--json").stdout)["checks"]
        return next((check["verdict"], check["detail"]) for check in checks if check["name"] == "GPU")

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "cog.yaml").write_text('build:\n  gpu: true\nrun: "run.py:Runner"\n')
    (folder / "run.py").write_text("from cog import *\nclass Runner(BaseRunner):\n    def run(self) -> str: ...\n")
    assert "no GPU" not in machine.ok("doctor", folder)
    listed = f"2 × NVIDIA H200, 1 × Tesla T4, driver {VERSION}"
    assert line() == ("ok", f"{listed}; containers get its 1 libraries")
    (tmp_path / "machine/dev/nvidia-uvm").unlink()
    mend = "as root, `nvidia-modprobe -c 0 -u` loads what is missing and makes its nodes"
    assert line() == ("warning", f"{listed}; functions cannot have them: /dev/nvidia-uvm is missing: {mend}")


def test_half_a_driver_is_told_to_who_calls(machine, project, tmp_path):
    (tmp_path / "machine/usr/lib64" / f"libcuda.so.{VERSION}").unlink()
    folder = project(app=ONE)
    done = machine.run("run", "app.py", cwd=folder)
    assert done.returncode == 1
    assert f"the kernel has driver {VERSION}, but libcuda.so.{VERSION} is in none of" in done.stderr


def test_without_any_gpu_the_message_says_so(home, project):
    if os.path.exists("/proc/driver/nvidia"):
        pytest.skip("this machine has a driver")
    folder = project(app=ONE)
    done = home.run("run", "app.py", cwd=folder)
    assert (done.returncode, "1 GPU" in done.stderr, "no GPU" in done.stderr) == (1, True, True), done.stderr
