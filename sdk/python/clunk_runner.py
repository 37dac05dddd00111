"""Starts the runner. The agent runs this file inside a container: `python /.clunk/clunk_runner.py`.

A script is compiled anew on every start and a module is not, so nothing but the call stands here.
"""

from clunk._runner.main import main

main()
