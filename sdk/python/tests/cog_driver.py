"""Drives a Cog model in a runner the way the agent does."""

import json
import textwrap

import pytest
import runner_driver
from pythons import PYTHONS
from runner_driver import CREDIT, EXCEPTION, LOG, RESULT, START_FAILED, YIELD, control

METRIC, FILE = 72, 73


class Answer:
    """What one call gave."""

    def __init__(self):
        self.output = None
        self.chunks = []
        # `(name, media type, content)` by JSON pointer; of chunks, one such dict each.
        self.files = {}
        self.chunk_files = []
        self.metrics = []
        self.logs = ""
        self.error = None
        self.traceback = ""
        self.ended = False
        self._parts = {}

    def take(self, kind, fields, payload):
        if kind == LOG:
            self.logs += payload.decode()
        elif kind == METRIC:
            self.metrics.append((fields["name"], fields["mode"], json.loads(payload)))
        elif kind == FILE:
            assert int(fields["index"]) not in self._parts
            self._parts[int(fields["index"])] = (fields["name"], fields["type"], payload)
        elif kind == YIELD:
            self.chunks.append(json.loads(payload))
            self.chunk_files.append(self._files(fields))
        elif kind == EXCEPTION:
            self.error = (fields["type"], fields["message"])
            self.traceback = fields["traceback"]
            self.ended = True
        else:
            assert kind == RESULT, kind
            assert fields["format"] == "json"
            if payload:
                self.output = json.loads(payload)
            self.files = self._files(fields)
            self.ended = True

    def _files(self, fields):
        return {pointer: self._parts[index] for pointer, index in json.loads(fields.get("files", "[]"))}


class Model(runner_driver.Runner):
    """A runner with a model in it."""

    def __init__(self, folder, python, qualname="Predictor", module="predict.py", **options):
        super().__init__(
            module=module, qualname=qualname, source_root=str(folder), python=python, mode="cog", **options
        )
        self.answers_to = {}

    def begin_call(self, inputs=None, context=None, **fields):
        """Sends a call; its number."""
        body = {"input": inputs or {}}
        if context is not None:
            body["context"] = context
        number = self.begin(raw=json.dumps(body).encode(), **fields)
        self.answers_to[number] = Answer()
        return number

    def step(self):
        """Takes the next frame; the number of its call."""
        while True:
            kind, number, fields, payload = self.receive(logs=True)
            if number in self.answers_to:
                self.answers_to[number].take(kind, fields, payload)
                if kind == YIELD:
                    self.send(CREDIT, number, control(count=1))
            return number

    def finish(self, number):
        """The answer to a call."""
        while not self.answers_to[number].ended:
            self.step()
        return self.answers_to[number]

    def predict(self, **inputs):
        return self.finish(self.begin_call(inputs))

    def healthcheck(self):
        number = self.begin(raw=b"", method="healthcheck")
        self.answers_to[number] = Answer()
        return self.finish(number)

    def wait_for_chunks(self, number, count):
        while len(self.answers_to[number].chunks) < count:
            assert not self.answers_to[number].ended
            self.step()

    def wait_for_words(self, number, words):
        while words not in self.answers_to[number].logs:
            assert not self.answers_to[number].ended
            self.step()

    def failure(self):
        """`(type, message, traceback)` of a start that failed."""
        kind, _, fields, _ = self.receive()
        assert kind == START_FAILED, kind
        return fields["type"], fields["message"], fields["traceback"]


def models(params=PYTHONS):
    """A fixture that starts models, on these Pythons."""

    @pytest.fixture(params=params, ids=[name for name, _ in params])
    def model(request, tmp_path):
        started = []
        folder = tmp_path / "src"

        def begin(text, ready=True, module="predict.py", folder=folder, **options):
            path = folder / module
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
            made = Model(folder, request.param[1], module=module, **options)
            started.append(made)
            if ready:
                assert made.ready() is None, made.fields["traceback"]
            return made

        begin.python = request.param[1]
        begin.folder = folder
        yield begin
        for made in started:
            made.stop()

    return model
