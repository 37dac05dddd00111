"""Stands in for the runner's part that calls a function of the user while an image is built."""

import base64
import importlib
import os
import pickle
import sys

module, qualname, source_root = sys.argv[1:]
sys.path.insert(0, source_root)
args, kwargs = pickle.loads(base64.b64decode(os.environ["CLUNK_ARGUMENTS"]))
getattr(importlib.import_module(module), qualname)(*args, **kwargs)
