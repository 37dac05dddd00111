"""Programs written for another SDK of the same names: they load here, and mean what they say."""

import json

import pytest
from conftest import SDK

PROGRAMS = {
    "map": (
        """
        import clunk as modal

        app = modal.App("fan-out")
        image = modal.Image.debian_slim()

        @app.function(image=image, max_containers=20, timeout=600)
        def f(i):
            return i * i

        @app.local_entrypoint()
        def main(n: int = 20):
            total = 0
            for ret in f.map(range(n), order_outputs=False):
                total += ret
            print(total)
            print(list(f.map([1, 2], return_exceptions=True)))
        """,
        {"f": {"policy": {"max_containers": 20, "timeout_s": 600}}},
        "2470\n[1, 4]\n",
    ),
    "starmap": (
        """
        import clunk as modal

        app = modal.App()

        @app.function(cpu=0.5, memory=(128, 512), ephemeral_disk=1024)
        def my_func(a, b):
            return a + b

        @app.local_entrypoint()
        def main():
            assert list(my_func.starmap([(1, 2), (3, 4)])) == [3, 7]
            call = my_func.spawn(1, b=2)
            print(call.get(timeout=60), modal.FunctionCall.gather(my_func.spawn(1, 1), my_func.spawn(2, 2)))
            my_func.for_each([1], [2])
            my_func.spawn_map([1], [2])
        """,
        {"my_func": {"resources": {"cpu_millis": 500, "memory_mib": 128, "memory_limit_mib": 512, "disk_mib": 1024}}},
        "3 [2, 4]\n",
    ),
    "class": (
        """
        import clunk as modal

        app = modal.App("inference")

        @app.cls(gpu="H100", scaledown_window=300, min_containers=1, buffer_containers=2)
        @modal.concurrent(max_inputs=16, target_inputs=8)
        class Model:
            model_name: str = modal.parameter(default="small")
            revision: int = modal.parameter(default=1)

            @modal.enter(snap=True)
            def download(self):
                self.weights = self.model_name.upper()

            @modal.enter()
            def load(self):
                self.ready = True

            @modal.method()
            def generate(self, prompt: str) -> str:
                return self._decode(prompt)

            def _decode(self, prompt):
                return f"{self.weights}:{prompt}:{self.ready}"

            @modal.exit()
            def shutdown(self):
                print("bye")

        @app.local_entrypoint()
        def main():
            print(Model().generate.remote("a"))
            model = Model(model_name="large")
            print(model.generate.remote("b"), list(model.generate.map(["c", "d"])))
        """,
        {
            "Model": {
                "policy": {
                    "scaledown_window_s": 300,
                    "min_containers": 1,
                    "buffer_containers": 2,
                    "concurrency": {"max_inputs": 16, "target_inputs": 8},
                },
                "resources": {"gpu": ["H100"]},
                "methods": {"generate": {"is_async": False, "is_generator": False}},
            }
        },
        "SMALL:a:True\nLARGE:b:True ['LARGE:c:True', 'LARGE:d:True']\nbye\nbye\n",
    ),
    "retries": (
        """
        import clunk as modal

        app = modal.App()
        attempts = []

        @app.function(retries=modal.Retries(max_retries=3, backoff_coefficient=1.0, initial_delay=0.0), timeout=10)
        def flaky():
            attempts.append(1)
            if len(attempts) < 3:
                raise RuntimeError("again")
            return len(attempts)

        @app.function(retries=5)
        def fixed(): ...

        @app.local_entrypoint()
        def main():
            print(flaky.remote())
        """,
        {
            "flaky": {
                "policy": {
                    "timeout_s": 10,
                    "retries": {
                        "max_retries": 3,
                        "backoff_coefficient": 1.0,
                        "initial_delay_ms": 0,
                        "max_delay_ms": 60000,
                    },
                }
            },
            "fixed": {
                "policy": {
                    "retries": {
                        "max_retries": 5,
                        "backoff_coefficient": 1.0,
                        "initial_delay_ms": 1000,
                        "max_delay_ms": 60000,
                    }
                }
            },
        },
        "3\n",
    ),
    "batched": (
        """
        import clunk as modal

        app = modal.App("batches")

        @app.function()
        @modal.batched(max_batch_size=4, wait_ms=1000)
        async def multiply(xs: list, ys: list) -> list:
            return [x * y for x, y in zip(xs, ys)]

        @app.cls()
        class Embedder:
            @modal.batched(max_batch_size=32, wait_ms=10)
            def embed(self, texts):
                return [len(text) for text in texts]

        @app.local_entrypoint()
        async def main():
            print([x async for x in multiply.map.aio([1, 2], [3, 4])])
            print(await Embedder().embed.remote.aio("abc"))
        """,
        {
            "multiply": {"policy": {"batching": {"max_batch_size": 4, "wait_ms": 1000}}},
            "Embedder": {"policy": {"batching": {"max_batch_size": 32, "wait_ms": 10}}},
        },
        "[3, 8]\n3\n",
    ),
    "streams": (
        """
        import asyncio
        import clunk as modal

        app = modal.App("streams")

        @app.function()
        @modal.concurrent(max_inputs=100)
        async def chat(prompt: str):
            for word in prompt.split():
                yield word
                await asyncio.sleep(0)

        @app.function()
        def steps(n: int):
            for i in range(n):
                yield i

        @app.local_entrypoint()
        async def main():
            print(list(steps.remote_gen(3)))
            async for word in chat.remote_gen.aio("hello there"):
                print(word)
        """,
        {
            "chat": {"policy": {"concurrency": {"max_inputs": 100, "target_inputs": None}}, "is_generator": True},
            "steps": {"is_generator": True},
        },
        "[0, 1, 2]\nhello\nthere\n",
    ),
}
RECORDS = """
import json, sys
import clunk, program
from clunk._resolve import kind
records = {}
for function in program.app._served():
    options = function._options
    records[function.name] = {"policy": options["_policy"], "resources": options["_resources"], **kind(function)}
print(json.dumps(records))
"""


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(project, name):
    text, expected, printed = PROGRAMS[name]
    project.write("program.py", text)
    done = project.python("-c", RECORDS, env={"PYTHONPATH": f"{SDK}:{project.folder}"})
    assert done.returncode == 0, done.stderr
    records = json.loads(done.stdout)
    assert set(records) == set(expected)
    for function, parts in expected.items():
        for part, wanted in parts.items():
            found = records[function][part]
            if part == "resources":
                found = {key: value for key, value in found.items() if value}
            assert found == wanted, (function, part)
    done = project.run("--local", "program.py")
    assert (done.returncode, done.stdout) == (0, printed), done.stderr
