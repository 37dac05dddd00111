"""Callers send one sentence each, the model gets lists of them: a matrix product of 32 rows costs less than 32 of one.

    clunk run examples/batching.py
    clunk run examples/batching.py --document README.md

The model is that of embeddings.py, a file of the same project.
"""

import time
from collections import Counter
from pathlib import Path

import clunk
from embeddings import embed_batch, image, split_sentences

app = clunk.App("batching", image=image)


@app.function(max_containers=1, timeout=600)
@clunk.batched(max_batch_size=32, wait_ms=50)
def embed(sentences: list) -> list:
    """For each sentence its vector, and in how large a batch it was."""
    vectors = embed_batch(sentences)
    return [(len(sentences), vector.tolist()) for vector in vectors]


@app.function(max_containers=1, timeout=600)
def embed_one(sentence: str) -> list:
    return embed_batch([sentence])[0].tolist()


def likeness(one: list, other: list) -> float:
    return sum(a * b for a, b in zip(one, other))


@app.local_entrypoint()
def main(document: Path = Path(__file__).parent.parent / "docs" / "runner-protocol.md"):
    sentences = split_sentences(document.read_text())[:64]
    # The weights are loaded by the first call.
    embed.remote("warm"), embed_one.remote("warm")

    times = {}
    for name, function in (("one by one", embed_one), ("in batches", embed)):
        began = time.perf_counter()
        results = list(function.map(sentences))
        times[name] = time.perf_counter() - began
        print(f"{len(sentences)} sentences {name}: {len(sentences) / times[name]:.0f} a second")

    sizes = Counter(size for size, _ in results)
    print(f"batches: {', '.join(f'{count // size} of {size}' for size, count in sorted(sizes.items(), reverse=True))}")
    vectors = [vector for _, vector in results]
    pairs = [(a, b) for a in range(len(vectors)) for b in range(a)]
    score, a, b = max((likeness(vectors[a], vectors[b]), a, b) for a, b in pairs)
    print(f"the two most alike ({score:.2f}):\n  {sentences[b]}\n  {sentences[a]}")
