"""Which command, and how every end of it is told."""

import errno
import os
import sys

from .errors import DONE, FAILED, INTERRUPTED, USAGE, Exit, exit_code, report

# What writing raises where there is no room. Files of outputs have their own words for it.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

HELP = """\
Runs Python functions in containers.

  clunk run hello.py                  run the file's entry point
  clunk run hello.py::square --x 3    run one function
  clunk run --help                    every option
  clunk run DIR -i prompt=hello       run a Cog model
  clunk push DIR owner/name           make it a version on the server

usage: clunk run [OPTIONS] FILE[::NAME] [ARGUMENTS]
"""


def main(arguments):
    """Runs one command; its exit code."""
    try:
        code = dispatch(arguments)
        sys.stdout.flush()
        return code
    except Exit as end:
        if end.message:
            report(end.message, end.hint)
        _drop_output()
        return end.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Who read our output has gone; nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        from clunk.exception import Error

        if not isinstance(error, Error):
            if not isinstance(error, OSError) or error.errno not in FULL:
                raise
            _drop_output()
            report(f"cannot write to standard output: {error.strerror}")
            return FAILED
        report(error.message, error.hint, error.code)
        return exit_code(error)


def _drop_output():
    """What standard output does not take, as a full disk, Python does not try to write again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def dispatch(arguments):
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return DONE if arguments else USAGE
    command, *rest = arguments
    if command in ("-V", "--version"):
        import clunk

        print(f"clunk {clunk.__version__}")
        return DONE
    if command == "prepare":
        from .prepare import prepare

        return prepare(rest)
    if command == "run":
        return run(rest)
    if command == "predict":
        from .predict import predict

        return predict(rest)
    if command == "push":
        from .push import push

        return push(rest)
    if command == "build":
        from .build import build

        return build(rest)
    if command == "train":
        from .train import train

        return train(rest)
    if command == "serve":
        from .serve import serve

        return serve(rest)
    if command == "model":
        from .models import model

        return model(rest)
    return hand_over(arguments)


def run(words):
    """A file of functions, or a model: its folder or its name."""
    from .targets import first_target

    if first_target(words) is not None:
        from .predict import predict

        return predict(words)
    from .run import run

    return run(words)


def hand_over(arguments):
    """Every other command is one of the `clunk` program."""
    from clunk._client.discovery import find_binary

    binary = find_binary()
    if binary is None:
        raise Exit(
            USAGE, f"the command `{arguments[0]}` needs the `clunk` program, which is not on PATH", "clunk run FILE"
        )
    sys.stdout.flush()
    os.execv(binary, [binary, *arguments])


def entry():
    """The console script."""
    sys.exit(main(sys.argv[1:]))
