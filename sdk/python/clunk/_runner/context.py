"""Which call the running code belongs to, when several run at once."""

from contextvars import ContextVar

import clunk

# `(number, id)` of the call.
current = ContextVar("clunk-call", default=(0, None))


def take_over(runner, calls):
    """Output and ids are those of the call whose context the code runs in. `calls`: what runs, by number."""

    def current_call():
        number = current.get()[0]
        if not number and len(calls) == 1:
            # A thread that a call started, and there is only one.
            number = next(iter(calls.copy()), 0)
        return number

    runner.current_call = current_call
    clunk._set_call_id(lambda: current.get()[1])
