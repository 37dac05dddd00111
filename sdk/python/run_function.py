"""Runs a function of the user's source while an image builds: `python run_function.py MODULE QUALNAME SOURCE_ROOT`."""

import sys

from clunk._runner.build import main

sys.exit(main(sys.argv[1:]))
