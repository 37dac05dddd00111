"""Reads a Cog project's predictor into its OpenAPI document, without importing it.

python3 -m clunk._cog.schema ROOT --predict predict.py:Predictor [--train train.py:train] [--json]
"""

import json
import os
import sys

from . import COG_VERSION, interpreters
from . import document as _document
from . import predictor as _predictor
from .problems import Problems, Stop, show
from .project import Project

# A schema file of the user's own: larger ones are something else.
MAX_SCHEMA_BYTES = 16 << 20
_OVERRIDE = "COG_OPENAPI_SCHEMA"


class Schema:
    """What is known of a model before it runs. `document` is None when nothing could be read."""

    FACTS = (
        "is_generator",
        "is_async",
        "streaming",
        "concurrency",
        "has_setup",
        "train_is_async",
        "train_is_generator",
    )

    def __init__(self):
        self.document = None
        self.is_generator = False
        self.is_async = False
        self.streaming = False
        # What the source asks for by `@cog.concurrent`; None when it does not.
        self.concurrency = None
        self.has_setup = False
        self.train_is_async = self.train_is_generator = False
        self.problems = []

    @property
    def errors(self):
        return [problem for problem in self.problems if problem["severity"] == "error"]

    def as_dict(self):
        facts = {name: getattr(self, name) for name in self.FACTS}
        return {"document": self.document, **facts, "problems": self.problems}


def read(root, predict_ref, train_ref=None, cog_version=COG_VERSION):
    """Reads `predict.py:Predictor` below `root`, and the trainer when there is one."""
    problems = Problems()
    project = Project(root, problems)
    schema = Schema()
    targets = []
    for reference, mode in ((predict_ref, _predictor.PREDICT), (train_ref, _predictor.TRAIN)):
        if not reference:
            continue
        try:
            targets.append(_predictor.read(project, problems, reference, mode))
        except Stop:
            continue
    if project.syntax_error is not None:
        better = interpreters.ask(project.root, predict_ref, train_ref, cog_version)
        if better is not None:
            return _from_dict(better)
    if not predict_ref and not train_ref:
        problems.error("predictor-not-found", "nothing names a predictor", hint="predict: predict.py:Predictor")
    if targets:
        schema.document = _document.document(targets, cog_version)
    for target in targets:
        _take(schema, target)
    _override(schema, problems)
    schema.problems = problems.in_order()
    return schema


def _take(schema, target):
    if target.mode == _predictor.TRAIN:
        schema.train_is_async = target.is_async
        schema.train_is_generator = target.output.is_iterator
        return
    schema.is_generator = target.output.is_iterator
    schema.is_async = target.is_async
    schema.streaming = target.streaming
    schema.concurrency = target.concurrency
    schema.has_setup = target.has_setup


def _override(schema, problems):
    """`COG_OPENAPI_SCHEMA`: a document of the user's own, in place of what was read."""
    path = os.environ.get(_OVERRIDE)
    if not path:
        return
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_SCHEMA_BYTES + 1)
        if len(data) > MAX_SCHEMA_BYTES:
            raise ValueError(f"it has more than {MAX_SCHEMA_BYTES >> 20} MiB")
        made = json.loads(data)
        output = made["components"]["schemas"]["Output"]
        if not isinstance(made["components"]["schemas"]["Input"], dict) or not isinstance(output, dict):
            raise ValueError("Input and Output in it are not objects")
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else error
        hint = "give it the path of an OpenAPI document in JSON, with components.schemas.Input and Output, or unset it"
        problems.error("schema-type", f"{_OVERRIDE}={path}: {what}", hint=hint)
        return
    # What the source could not tell is told by the file.
    problems.found = [each for each in problems.found if not each["code"].startswith("schema-")]
    schema.document = made
    schema.is_generator = output.get("x-cog-array-type") == "iterator"
    schema.streaming = bool(made.get("paths", {}).get("/predictions", {}).get("post", {}).get("x-cog-streaming"))


def _from_dict(read_by_other):
    schema = Schema()
    schema.document = read_by_other["document"]
    for name in Schema.FACTS:
        setattr(schema, name, read_by_other[name])
    schema.problems = read_by_other["problems"]
    return schema


def _options(words):
    import argparse

    parser = argparse.ArgumentParser(prog="python3 -m clunk._cog.schema", description=__doc__.partition("\n")[0])
    parser.add_argument("root", metavar="ROOT", help="folder of the project")
    parser.add_argument("--predict", metavar="FILE.py:NAME")
    parser.add_argument("--train", metavar="FILE.py:NAME")
    parser.add_argument("--json", action="store_true", help="everything that is known, problems too, as JSON")
    parser.add_argument("--cog-version", default=COG_VERSION, help="the release named in the document")
    return parser.parse_args(words)


def main(words):
    """Prints the document, problems to standard error; 1 when there are errors."""
    options = _options(words)
    schema = read(options.root, options.predict, options.train, options.cog_version)
    if options.json:
        print(json.dumps(schema.as_dict()))
    elif schema.document is not None and not schema.errors:
        print(json.dumps(schema.document))
    if not options.json:
        for problem in schema.problems:
            print(show(problem), file=sys.stderr)
    return 1 if schema.errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
