"""The Python half of the command line: `python -m clunk run FILE[::NAME] [arguments]`."""

import sys

from clunk._cli.main import main

sys.exit(main(sys.argv[1:]))
