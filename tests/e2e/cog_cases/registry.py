"""Cases by name, and what they share."""

import json

CASES = {}
TEXT_FILE = "data:text/plain;base64,aGVsbG8="
PNG_FILE = "data:image/png;base64,iVBORw0KGgo="
ASYNC = {"Prefer": "respond-async"}
EVENTS = {"Accept": "text/event-stream"}


class Case:
    def __init__(self, function, project, ready, start):
        self.function = function
        self.name = function.__name__
        self.project = project
        self.ready = ready
        self.start = start

    @property
    def key(self):
        """Cases with the same key share their servers."""
        return json.dumps([self.project, self.ready, self.start], sort_keys=True)


def case(project, ready="READY", **start):
    def register(function):
        assert function.__name__ not in CASES, function.__name__
        CASES[function.__name__] = Case(function, project, ready, start)
        return function

    return register


def seen(answer, *headers):
    """What is compared of an answer."""
    kept = {name: answer.headers.get(name) for name in headers}
    kind = answer.headers.get("content-type")
    return {"status": answer.status, "type": kind, "body": answer.shown, **kept}


def asked(side, **body):
    """A prediction, waited for."""
    return seen(side.predict(**body))


def each(side, inputs, **body):
    """The same request with one input after another."""
    return [asked(side, input=one, **body) for one in inputs]


def without(found, *names):
    return {key: value for key, value in found.items() if key not in names}


def uploaded(put):
    return {"path": put["path"], "type": put["headers"].get("Content-Type"), "content": put["content"]}
