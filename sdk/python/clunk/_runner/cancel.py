"""A cancel reaches a function on the main thread: SIGUSR1 raises `InputCancellation` in it.

It is raised in the user's own frames alone. The handler looks at the frames that it interrupted: when the innermost is
of this package (a line is being sent, a result encoded), it lets them finish: they look again before they go back to
the user's code (`resume`), and the signal comes again a moment later. So no frame on the link is ever cut, and a call
that has ended is never hit: the exception is raised only below the function that calls user code, and only while the
call that CANCEL names is the one that runs.

A part of this package that waits for others, such as the download of an input, says so (`runner.interruptible`) and is
interrupted as well.

A function without frames of its own (compiled by other means) is not interrupted; the agent ends its process.
"""

import os
from _signal import SIGUSR1, pthread_kill
from _thread import get_ident, start_new_thread
from time import sleep

from clunk import _runner
from clunk.exception import InputCancellation

from .link import CANCEL, CREDIT, EXCEPTION, INTERRUPTED

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
# Seconds until a cancel that met our own code is tried again.
AGAIN_S = 0.001
# The functions of this package that call user code, by file and name.
_CALLERS = frozenset(
    (os.path.join(_OURS, file), name)
    for file, name in (
        ("main.py", "run_call"),
        ("generators.py", "run"),
        ("batches.py", "call_function"),
        ("cog.py", "run_call"),
        ("cog.py", "iterate"),
    )
)

# The call whose signal is being sent again.
_trying = 0


def canceled():
    return (_runner.cancellation or InputCancellation)("the call was canceled")


def tell(link, call):
    """Says that the code of a call is about to hear of its cancel: the agent gives it time to clean up."""
    if call and link.open:
        link.send(INTERRUPTED, call)


def interrupt(runner, frame):
    """Handles SIGUSR1 on the main thread, which executes `frame`."""
    awaiting = runner.awaiting
    if awaiting is None and not runner.interruptible and not _in_user_code(frame):
        runner.interrupted = runner.call
        _try_again(runner)
        return
    runner.interrupted = 0
    if not _read_cancel(runner):
        return
    if awaiting is None:
        runner.interruptible = False
        tell(runner.link, runner.call)
        raise canceled()
    loop, task = awaiting
    loop.call_soon_threadsafe(_cancel, runner, task)


def _cancel(runner, task):
    tell(runner.link, runner.call)
    task.cancel()


def resume(runner, frame):
    """Our code returns to `frame` after the signal came during it; None: to a caller that takes exceptions."""
    if get_ident() != runner.main_thread or runner.awaiting is not None:
        return
    if runner.interrupted != runner.call:
        runner.interrupted = 0
    elif frame is None or _in_user_code(frame):
        runner.interrupted = 0
        if _read_cancel(runner):
            tell(runner.link, runner.call)
            raise canceled()


def skip(runner):
    """Answers a call whose turn has come and that was canceled before: its code does not begin. Whether it was."""
    call = runner.call
    if not any(kind == CANCEL and number == call for kind, number, _, _ in runner.link.waiting):
        return False
    runner.send_failure(EXCEPTION, call, canceled())
    runner.call = 0
    return True


def _in_user_code(frame):
    """Whether the innermost frames are the user's, called by us to run a call."""
    if frame.f_code.co_filename.startswith(_OURS):
        return False
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_OURS):
            return (code.co_filename, code.co_name) in _CALLERS
        frame = frame.f_back
    return False


def _read_cancel(runner):
    """Reads what has arrived; whether the code that runs is to end."""
    link = runner.link
    # It may have been read while an earlier call ran.
    found = any(kind == CANCEL and number == runner.call for kind, number, _, _ in link.waiting)
    for frame in link.poll():
        kind, number, control, _ = frame
        if kind == CANCEL:
            if runner.batch is not None:
                found = runner.batch.cancel(number) or found
            elif number == runner.call:
                found = True
            else:
                link.waiting.append(frame)
        elif kind == CREDIT:
            if number == runner.call:
                from .generators import credit_of

                runner.credit += credit_of(control)
        else:
            link.waiting.append(frame)
    return found


def _try_again(runner):
    """The signal once more, in a moment, as long as the same call runs."""
    global _trying
    call = runner.call
    if _trying != call:
        _trying = call
        start_new_thread(signal_again, (runner, call))


def signal_again(runner, call):
    """Sends the signal until it was handled: one that comes just before the main thread begins to sleep waits with it."""
    global _trying
    while runner.call == runner.interrupted == call:
        pthread_kill(runner.main_thread, SIGUSR1)
        sleep(AGAIN_S)
    _trying = 0
