"""How a command ends that cannot go on."""

import sys

DONE, FAILED, USAGE, NOT_FOUND, NOT_ALLOWED, INTERRUPTED = 0, 1, 2, 3, 4, 130


class Exit(Exception):
    """Ends the command with a code; the message and the hint, when there are any, are shown."""

    def __init__(self, code, message=None, hint=None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


def usage(message, hint=None):
    return Exit(USAGE, message, hint)


def not_found(message, hint=None):
    return Exit(NOT_FOUND, message, hint)


def report(message, hint=None, code=None):
    """`error[code]: message`, then `hint: mend`; the important line is the last. `clunk explain CODE` tells more."""
    from clunk.output import use_colour

    colour = use_colour(sys.stderr)
    red, cyan, plain = ("\x1b[1;31m", "\x1b[36m", "\x1b[0m") if colour else ("", "", "")
    label = f"error[{code}]:" if code else "error:"
    print(f"{red}{label}{plain} {message}", file=sys.stderr)
    if hint:
        print(f"{cyan}hint:{plain} {hint}", file=sys.stderr)


def exit_code(error):
    """The exit code for an exception of ours."""
    from clunk import exception

    if isinstance(error, exception.NotFoundError):
        return NOT_FOUND
    if isinstance(error, (exception.AuthError, exception.PermissionDeniedError)):
        return NOT_ALLOWED
    return FAILED
