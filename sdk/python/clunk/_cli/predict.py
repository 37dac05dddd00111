"""`clunk run DIR` and `clunk run owner/name`: one prediction, its output as it comes."""

import json
import os
import re
import sys

from clunk.output import Waiting

from .errors import DONE, FAILED, INTERRUPTED, NOT_FOUND, Exit, usage
from .options import Grammar
from .targets import VERSION_MAX, parse_reference

HELP = """\
Run a Cog model once.

  clunk run . -i prompt=hello                         the project in this folder, with no server of its own to write
  clunk run owner/name -i image=@in.png -o out.png    a model that was pushed, its newest version
  clunk run owner/name:9f86d081 -i prompt=hello       one version
  clunk predict ID                                    one that was left with --detach: its output, as it comes

usage: clunk run DIR|owner/name[:VERSION] [-i NAME=VALUE]... [OPTIONS]
       clunk predict ID [OPTIONS]

options:
  -i, --input NAME=VALUE  an input; @FILE for a file, @- for standard input, several times for a list;
                          -i @inputs.json for all of them
  -o, --output PATH       where the output goes: a file, a folder with / at its end, - for standard output
  --json                  print the whole prediction as JSON
  -d, --detach            print the prediction's id and do not wait
  --secret id=ID,src=FILE for a command of build.run that mounts the secret ID; env=VARIABLE in the place of src
  -q, --quiet             print only the output
  -h, --help              this text, and what the model takes
"""

# What is waited for, by the state of a prediction.
STATES = {"starting": "waiting for the model to start", "processing": "running"}
# The owner of what `clunk run DIR` makes: one model for each folder, replaced by its next run.
LOCAL_OWNER = "local"
SHOWN_VERSION_LEN = 12
# Letters and digits of the id of a prediction.
ID_LEN = 26
PREDICTION, TRAINING = "prediction", "training"


_SWITCHES = {"-d": "detach", "--detach": "detach", "-h": "help", "--help": "help"}
_VALUES = {"-o": "output", "--output": "output"}
_INPUTS = {"-i": "inputs", "--input": "inputs", "--secret": "secrets"}


def grammar(verb, help_text, values=None):
    """Of a verb that runs a model."""
    return Grammar(verb, help_text, ["target"], _SWITCHES, {**_VALUES, **(values or {})}, _INPUTS)


GRAMMAR = grammar("run", HELP)


def parse_options(words, of=GRAMMAR):
    options = of.read(words)
    if options.target is None:
        if options.help:
            print(of.help, end="")
            raise Exit(DONE)
        raise usage("no model to run", f"clunk {of.verb} DIR, or clunk {of.verb} owner/name")
    return options


def predict(words):
    options = parse_options(words)
    from clunk._client.client import Client
    from clunk._client.discovery import connect
    from clunk.output import Output

    output = Output(words=not options.quiet)
    if options.secrets and not os.path.exists(options.target):
        raise usage("--secret is for what is built, and that is a folder", "leave it out")
    if os.path.exists(options.target):
        return _predict_project(options, output)
    client = Client(*connect())
    try:
        if is_prediction(options.target) and not options.help:
            return take_up(client, options, output)
        version = resolve(client, options.target)[1]
        if options.help:
            return _help(version["openapi_schema"], HELP)
        inputs = read_inputs(client, options, version["openapi_schema"], f"clunk run {options.target}")
        return run_version(client, version["id"], inputs, version["openapi_schema"], options, output)
    finally:
        client.close()


def _help(document, text, name="Input"):
    from .inputs import describe

    print(text, "\ninputs:", "\n".join(["", *describe(document, name)]), sep="")
    return DONE


def _predict_project(options, output):
    from clunk._client.client import Client
    from clunk._client.discovery import connect

    from .cog_project import load

    project = load(options.target, output, secrets=options.secrets)
    if options.help:
        return _help(project.schema.document, HELP)
    # What is wrong with the inputs is told before anything is built.
    parsed = parse_inputs(options, project.schema.document, f"clunk run {options.target}")
    client = Client(*connect())
    try:
        version = push_local(project, client, output)
        inputs = with_files(client, parsed)
        return run_version(client, version, inputs, project.schema.document, options, output)
    finally:
        client.close()


def local_name(root):
    """The name of the model that a folder is run as."""
    import hashlib

    name = re.sub(r"[^a-z0-9]+", "-", os.path.basename(root).lower()).strip("-")[:40] or "model"
    return f"{LOCAL_OWNER}/{name}-{hashlib.sha256(root.encode()).hexdigest()[:8]}"


def push_local(project, client, output):
    """The version of a folder as it is now; the one that its last run made goes, so that nothing piles up."""
    from clunk._client.predictions import request
    from clunk.exception import Error

    from .cog_project import prepare
    from .push import send

    name = local_name(project.root)
    answer = send(client, name, project, prepare(project, client, output), visibility="private")
    if answer["created"]:
        try:
            for old in request(client, "GET", f"/models/{name}/versions")["results"]:
                if old["id"] != answer["id"]:
                    request(client, "DELETE", f"/models/{name}/versions/{old['id']}")
        except Error:
            # It is in use by another terminal; its next run tries again.
            pass
    return answer["id"]


# What is run


def resolve(client, reference):
    """`(model, version)` of `owner/name[:version]`."""
    from clunk._client.predictions import request
    from clunk.exception import NotFoundError

    parsed = parse_reference(reference)
    if parsed is None:
        raise usage(f"{reference!r} is no model", "owner/name, or owner/name:VERSION")
    name, wanted = parsed
    try:
        model = request(client, "GET", f"/models/{name}")
    except NotFoundError:
        hint = _near_model(client, name) or "clunk model list"
        raise Exit(NOT_FOUND, f"there is no model {name}, and no folder of that name", hint) from None
    if wanted is None:
        if not model.get("latest_version"):
            raise Exit(NOT_FOUND, f"{name} has no version yet", f"clunk push DIR {name}")
        return model, model["latest_version"]
    if len(wanted) == VERSION_MAX:
        return model, request(client, "GET", f"/models/{name}/versions/{wanted}")
    return model, _version_by_start(client, name, wanted)


def _version_by_start(client, name, start):
    from clunk._client.predictions import pages

    every = list(pages(client, f"/models/{name}/versions"))
    found = [version for version in every if version["id"].startswith(start)]
    if len(found) != 1:
        how = "no version" if not found else f"{len(found)} versions"
        newest = ", ".join(version["id"][:12] for version in (found or every)[:3])
        hint = f"an id is 64 hex digits, of which the first are enough; the newest: {newest} (clunk model versions {name})"
        raise Exit(NOT_FOUND, f"{name} has {how} whose id begins with {start}", hint)
    return found[0]


def _near_model(client, name):
    from itertools import islice

    from clunk._client.predictions import pages
    from clunk.exception import Error

    from .arguments import nearest

    try:
        return nearest(name, [f"{one['owner']}/{one['name']}" for one in islice(pages(client, "/models"), 500)])
    except Error:
        return None


def parse_inputs(options, document, command, name="Input"):
    from .inputs import parse

    return parse(options.inputs, document, name, command)


def read_inputs(client, options, document, command, name="Input"):
    return with_files(client, parse_inputs(options, document, command, name))


def with_files(client, parsed):
    """The inputs with a URL for each file of this machine."""
    from clunk._client.predictions import send_file

    from .inputs import LocalInput

    def ready(value):
        if isinstance(value, list):
            return [ready(item) for item in value]
        if not isinstance(value, LocalInput):
            return value
        try:
            if value.path == "-":
                return send_file(client, sys.stdin.buffer, "input")
            with open(value.path, "rb") as file:
                return send_file(client, file, os.path.basename(value.path))
        except OSError as error:
            raise Exit(FAILED, f"cannot read {value.path}: {error.strerror}") from None

    return {key: ready(value) for key, value in parsed.items()}


def run_version(client, version, inputs, document, options, output):
    """One prediction from its start to its end; the exit code."""
    from clunk._client.predictions import request

    prediction = request(client, "POST", "/predictions", {"version": version, "input": inputs})
    return watch(client, prediction, document, options, output)


def is_prediction(word):
    """Whether a word is the id of a prediction or training."""
    return len(word) == ID_LEN and word.isascii() and word.isalnum()


def take_up(client, options, output, kind=PREDICTION):
    """Follows one that another command has made; Ctrl-C leaves it as it is."""
    from clunk._client.predictions import request
    from clunk.exception import NotFoundError

    if options.inputs:
        raise usage(f"the {kind} {options.target} has its inputs already", "leave -i out")
    prediction = request(client, "GET", f"/{kind}s/{options.target}")
    document = {"components": {"schemas": {}}}
    try:
        version = f"/models/{prediction['model']}/versions/{prediction['version']}"
        document = request(client, "GET", version)["openapi_schema"]
    except NotFoundError:
        # The version has been deleted: its output is told as it looks.
        pass
    return watch(client, prediction, document, options, output, kind, cancels=False)


def watch(client, prediction, document, options, output, kind=PREDICTION, cancels=True):
    """Follows a prediction or training; Ctrl-C cancels it when it is ours."""
    from clunk._client.predictions import request

    from .outputs import Show
    from .run import second_interrupt_ends

    verb = "train" if kind == TRAINING else "predict"
    if options.detach:
        print(json.dumps(prediction) if options.json else prediction["id"])
        output.say(f"it goes on without this command; its output: clunk {verb} {prediction['id']}")
        return DONE
    second_interrupt_ends()
    show = Show(client, document, options, kind)
    waiting = Waiting(output, STATES["starting"])
    try:
        ended = _follow(client, prediction["id"], show, output, waiting)
        if options.json:
            ended = request(client, "GET", f"/{kind}s/{prediction['id']}")
    except KeyboardInterrupt:
        waiting.clear()
        if cancels:
            _cancel(client, prediction["id"], output, kind)
        else:
            output.say(f"it goes on without this command; its output: clunk {verb} {prediction['id']}")
        return INTERRUPTED
    finally:
        waiting.close()
    show.end(ended)
    if ended["status"] == "succeeded":
        return DONE
    error = ended.get("error") or f"the {kind} was {ended['status']}"
    hint = f"clunk call logs {prediction['id']}" if ended["status"] == "failed" else None
    raise Exit(FAILED, error, missing_package(error) or hint)


def missing_package(error):
    """The hint for a package that the image lacks."""
    name = re.search(r"No module named '(\w+)", error)
    return name and f"name the package of {name[1]} in the file of build.python_requirements in cog.yaml"


def _follow(client, prediction_id, show, output, waiting):
    """Prints what comes; the prediction as it ended."""
    from clunk._client.predictions import follow

    ends_line = True
    for event, data in follow(client, prediction_id):
        if event == "status":
            waiting.now(STATES.get(data["status"], STATES["processing"]))
        elif event == "logs":
            text = data["text"]
            if output.words and text:
                waiting.clear(show.ends_line and text.endswith("\n"))
                # On a terminal a log does not begin in the middle of an output's line.
                begins = "" if show.ends_line or not sys.stdout.isatty() else "\n"
                sys.stderr.write(begins + text)
                sys.stderr.flush()
                ends_line = text.endswith("\n")
                show.ends_line = show.ends_line or bool(begins)
        elif event == "output":
            waiting.clear(False)
            show.take(data["output"])
            waiting.clear(show.ends_line and ends_line)
        elif event == "done":
            ended = data
    if not show.chunks and ended.get("output") is not None and ended["status"] == "succeeded":
        values = ended["output"] if show.is_iterator else [ended["output"]]
        for value in values:
            show.take(value)
    return ended


def _cancel(client, prediction_id, output, kind):
    from clunk._client.predictions import request
    from clunk.exception import Error

    output.say("canceling; Ctrl-C again leaves it to the server")
    try:
        request(client, "POST", f"/{kind}s/{prediction_id}/cancel")
    except Error as error:
        output.say(f"it could not be canceled: {error.message}")
