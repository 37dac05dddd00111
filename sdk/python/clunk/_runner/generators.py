"""Generators: values go to the agent as they are yielded, as many ahead as it has given credit for."""

from clunk.exception import InvalidError

from .link import CANCEL, CREDIT, YIELD, decode_control

# Values that may be sent before the first credit.
WINDOW = 64


def check_manner(runner, target, fields):
    """Raises when a call cannot be for `target` in the way it was made."""
    if target is None:
        from clunk.exception import NotFoundError

        method = fields.get("method")
        known = ", ".join(sorted(runner.methods)) or "none"
        if method is None:
            raise InvalidError(f"the call names no method of {runner.name}", hint=f"its methods: {known}")
        raise NotFoundError(f"{runner.name} has no method {method}", hint=f"its methods: {known}")
    if "stream" not in fields:
        if target.is_generator:
            raise no_stream(target.name)
    elif target.batched or target.is_generator is False:
        raise no_generator(target.name)


def no_stream(name):
    return InvalidError(
        f"{name} is a generator, but was called for one result", hint=f"iterate over {name}.remote_gen(...)"
    )


def no_generator(name):
    return InvalidError(f"{name} is not a generator", hint=f"use {name}.remote(...), which returns its result")


def is_async_iterator(value):
    return hasattr(type(value), "__anext__")


def run(runner, call, iterator, json):
    """Sends what the generator yields; the main thread's. Returns the payload of the result: nothing."""
    if is_async_iterator(iterator):
        from .tasks import iterate

        iterator = iterate(iterator, runner)
    elif not hasattr(type(iterator), "__next__"):
        raise no_generator(runner.name)
    runner.credit = WINDOW
    try:
        # A cancel arrives in the generator's own frames, or in the wait for credit.
        for value in iterator:
            pieces, size = runner.encode(value, json)
            del value
            if runner.credit <= 0:
                wait_for_credit(runner, call)
            runner.credit -= 1
            send_value(runner.link, call, json, pieces, size)
            if runner.interrupted:
                from .cancel import resume

                resume(runner, None)
    except BaseException:
        close(iterator)
        raise
    return (), 0


def send_value(link, call, json, pieces, size):
    link.send(YIELD, call, b"format=json\n" if json else b"", pieces, size)


def wait_for_credit(runner, call):
    link = runner.link
    while runner.credit <= 0:
        frame = link.receive_new()
        kind, number, control, _ = frame
        if kind == CREDIT:
            if number == call:
                runner.credit += credit_of(control)
        elif kind == CANCEL and number == call:
            from .cancel import canceled, tell

            tell(link, call)
            raise canceled()
        else:
            link.waiting.append(frame)


def credit_of(control):
    return int(decode_control(control).get("count", 0))


def close(iterator):
    """Lets a generator clean up. What it raises then is of no interest to who went away."""
    shut = getattr(iterator, "close", None)
    if shut is not None:
        try:
            shut()
        except Exception:
            pass
