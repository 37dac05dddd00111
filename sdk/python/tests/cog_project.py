"""Cog projects written by tests, and what is read from them."""

import textwrap

from clunk._cog.schema import read

HEADER = """\
from typing import *
from collections.abc import Mapping
import cog
from cog import *
"""


def write(root, **files):
    """Writes files, `predict` for predict.py, `pkg__types` for pkg/types.py."""
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return root


def of(root, source, train=None, **more):
    """The schema of `Predictor` in this source."""
    files = {"predict": HEADER + textwrap.dedent(source), **more}
    if train is not None:
        files["train"] = HEADER + textwrap.dedent(train)
    write(root, **files)
    return read(str(root), "predict.py:Predictor", "train.py:train" if train is not None else None)


def predictor(parameters="s: str", returns="str", body="return None", before="", decorators=""):
    """The source of a predictor with these parameters."""
    indented = textwrap.indent(textwrap.dedent(decorators).strip(), "    ")
    return (
        f"{textwrap.dedent(before)}\nclass Predictor(BasePredictor):\n{indented}\n"
        f"    def predict(self, {parameters}) -> {returns}:\n        {body}\n"
    )


def input_of(root, parameter, before=""):
    """`(property, required, components of enumerations)` of one parameter."""
    schema = of(root, predictor(parameter, before=before))
    assert schema.errors == [], schema.errors
    schemas = schema.document["components"]["schemas"]
    name = parameter.partition(":")[0].strip()
    fixed = {"Input", "Output", "PredictionRequest", "PredictionResponse", "Status"}
    fixed |= {"HTTPValidationError", "ValidationError"}
    enums = {key: value for key, value in schemas.items() if key not in fixed}
    return schemas["Input"]["properties"][name], name in schemas["Input"].get("required", []), enums


def output_of(root, returns, before="", body="return None"):
    """The Output component of a predictor that returns this."""
    schema = of(root, predictor(returns=returns, before=before, body=body))
    assert schema.errors == [], schema.errors
    return schema.document["components"]["schemas"]["Output"]


def one_error(root, source, **more):
    """The only error of a source: `(code, message, line of its text, hint)`."""
    schema = of(root, source, **more)
    assert len(schema.errors) == 1, schema.problems
    problem = schema.errors[0]
    lines = (root / problem["file"]).read_text().splitlines()
    at = lines[problem["line"] - 1][problem["column"] - 1 :] if "line" in problem else ""
    return problem["code"], problem["message"], at, problem.get("hint", "")
