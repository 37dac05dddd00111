"""Batches: several inputs given to a function at once, as one list for each parameter."""

from inspect import Parameter, signature

import clunk
from clunk.exception import InvalidError

from .link import CALL, EXCEPTION, RESULT, decode_control


class Batch:
    """Calls that are run as one. Each is answered once: by its value, an exception of all, or when it is canceled."""

    def __init__(self, runner, frames):
        self.runner = runner
        self.frames = frames
        self.first = frames[0][0]
        self.fields = {number: decode_control(control) if control else {} for number, control, _ in frames}
        # Calls without an answer, in order.
        self.open = [number for number, _, _ in frames]
        # Of `arguments`: the calls whose inputs are in the lists.
        self.given = []

    @property
    def call_id(self):
        """What is printed, and asks for the id of its call, is the first call's."""
        return self.fields[self.first].get("id")

    def is_json(self, number):
        return self.fields[number].get("format") == "json"

    def find(self):
        """The function; None when the calls have been answered instead."""
        try:
            target = self.runner.named(self.fields[self.first])
            for number in self.open:
                if target is None or "stream" in self.fields[number]:
                    from .generators import check_manner

                    check_manner(self.runner, target, self.fields[number])
        except Exception as error:
            self.fail(error)
            return None
        return target

    def arguments(self, target):
        """One list for each parameter. A call whose arguments do not fit is answered, and left out."""
        parameters = parameters_of(target)
        lists = {name: [] for name in parameters.parameters}
        for number, _, payload in self.frames:
            if number not in self.open:
                continue
            try:
                args, kwargs = self.runner.decode(payload, self.is_json(number))
                bound = parameters.bind(*args, **kwargs)
            except Exception as error:
                self.fail_one(number, error)
                continue
            bound.apply_defaults()
            for name, value in bound.arguments.items():
                lists[name].append(value)
            self.given.append(number)
        self.frames = ()
        args, kwargs = [], {}
        for name, parameter in parameters.parameters.items():
            if parameter.kind is Parameter.POSITIONAL_ONLY:
                args.append(lists[name])
            else:
                kwargs[name] = lists[name]
        return args, kwargs

    def answer(self, target, values):
        """Gives each call its value."""
        count = len(self.given)
        if not isinstance(values, list):
            kind = type(values).__qualname__
            self.fail(
                InvalidError(
                    f"{target.name} returned a {kind} for a batch of {count} inputs, not a list of {count} results",
                    hint="a batched function returns a list with one result for each input",
                )
            )
            return
        if len(values) != count:
            self.fail(
                InvalidError(
                    f"{target.name} returned {len(values)} results for a batch of {count} inputs",
                    hint="a batched function returns a list with one result for each input",
                )
            )
            return
        self.runner.finish_output(self.first)
        for number, value in zip(self.given, values):
            json = self.is_json(number)
            try:
                pieces, size = self.runner.encode(value, json)
            except Exception as error:
                self.fail_one(number, error)
                continue
            if self._take(number):
                self.runner.link.send(RESULT, number, b"format=json\n" if json else b"", pieces, size)

    def _take(self, number):
        """The right to answer a call; a cancel may come from another thread."""
        try:
            self.open.remove(number)
        except ValueError:
            return False
        return True

    def fail(self, error):
        """The same exception for every call that has no answer."""
        for number in list(self.open):
            self.fail_one(number, error)

    def fail_one(self, number, error):
        if self._take(number):
            self.runner.finish_output(self.first)
            self.runner.send_failure(EXCEPTION, number, error)

    def cancel(self, number):
        """Answers one call as canceled. Whether nobody waits for the batch any more."""
        if number not in self.open:
            return False
        if len(self.open) == 1:
            return True
        from .cancel import canceled

        self.fail_one(number, canceled())
        return False


def parameters_of(target):
    found = signature(target.function)
    for parameter in found.parameters.values():
        if parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            raise InvalidError(
                f"{target.name} takes batches, so it cannot have the parameter {parameter}",
                hint="name each parameter of a batched function",
            )
    return found


def mark_targets(targets):
    """A replica whose calls come in batches: when its code marks no function for them, all are meant."""
    if not any(target.batched for target in targets):
        for target in targets:
            target.batched = not target.is_generator


def receive_batch(runner, control):
    """The calls that follow a BATCH frame, `(number, control, payload)` each, in lists.

    The calls of a list are of one method. With the list comes whether the method takes them together; else it has one.
    """
    together, alone = {}, []
    for _ in range(int(decode_control(control)["count"])):
        kind, number, control, payload = runner.link.receive()
        if kind != CALL:
            raise OSError(f"a frame of kind {kind} stands in a batch")
        target = runner.named(decode_control(control) if control else {})
        if target is not None and target.batched:
            together.setdefault(target.name, []).append((number, control, payload))
        else:
            alone.append(([(number, control, payload)], False))
    return [(frames, True) for frames in together.values()] + alone


def run_batch(runner, frames):
    """Answers a batch on the main thread."""
    batch = Batch(runner, frames)
    runner.batch, runner.call = batch, batch.first
    clunk._set_call_id(batch.call_id)
    try:
        target = batch.find()
        if target is None:
            return
        args, kwargs = batch.arguments(target)
        if batch.given:
            batch.answer(target, call_function(runner, target, args, kwargs))
    except BaseException as error:
        batch.fail(error)
    finally:
        runner.batch, runner.call = None, 0


def call_function(runner, target, args, kwargs):
    value = target.function(*args, **kwargs)
    if hasattr(type(value), "__await__"):
        value = runner.wait_for(value)
    return value
