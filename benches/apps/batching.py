"""The sentence model of examples/embeddings.py, one sentence at a time and in batches."""

import json
import os
import sys
import time

import clunk

if clunk.is_local():
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples"))

from embeddings import embed_batch, image  # noqa: E402

# As much of the machine as a server outside of a container has. One thread of the math library, for the others as well:
# more of them wait for each other by spinning, which measures what else runs on the machine.
CORES, MATH = 2, {"OPENBLAS_NUM_THREADS": "1"}
app = clunk.App("bench-batching", image=image.add_local_python_source("embeddings"))


@app.function(max_containers=1, timeout=600, cpu=CORES, env=MATH)
def single(sentence: str) -> list:
    return embed_batch([sentence])[0].tolist()


@app.function(max_containers=1, timeout=600, cpu=CORES, env=MATH)
@clunk.batched(max_batch_size=32, wait_ms=10)
def batched(sentences: list) -> list:
    return embed_batch(sentences).tolist()


@app.local_entrypoint()
def main():
    """Takes orders, a line each, until there are no more: `map FUNCTION FILE`."""
    functions = {"single": single, "batched": batched}
    for function in functions.values():
        function.remote("warm")
    print(json.dumps({name: function.object_id for name, function in functions.items()}), flush=True)
    for line in sys.stdin:
        _, name, path = line.split()
        with open(path) as file:
            sentences = json.load(file)
        began = time.perf_counter()
        results = list(functions[name].map(sentences))
        elapsed = time.perf_counter() - began
        assert all(len(vector) == 384 for vector in results)
        print(json.dumps(elapsed), flush=True)
