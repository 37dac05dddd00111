"""The model of examples/embeddings.py in this interpreter, for the servers of others."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "examples"), str(ROOT / "sdk" / "python")]

from embeddings import embed_batch  # noqa: E402

__all__ = ["embed_batch"]
