"""`clunk train DIR|owner/name`: a training, whose weights become a version of the destination."""

import os

from .errors import DONE, FAILED, Exit, usage
from .predict import TRAINING, grammar, is_prediction, parse_options, read_inputs, resolve, take_up, watch

HELP = """\
Train a Cog model: its train function makes weights, and they make a new version.

  clunk train owner/base -i data=@data.zip --destination owner/mine
  clunk train . -i epochs=3 -o weights.bin           the project in this folder
  clunk train ID                                     one that was left with --detach: its output, as it comes

usage: clunk train DIR|owner/name[:VERSION] [-i NAME=VALUE]... [--destination owner/name] [OPTIONS]
       clunk train ID [OPTIONS]

options:
  --destination NAME      the model that gets the new version; made when it is not there.
                          Of a project: OWNER/FOLDER-trained without it
  -i, --input NAME=VALUE  an input, as for `clunk run`
  -o, --output PATH       where the weights are written; without it they stay on the server
  --json                  print the whole training as JSON
  -d, --detach            print the training's id and do not wait
  --secret id=ID,src=FILE for a command of build.run that mounts the secret ID; env=VARIABLE in the place of src
  -q, --quiet             print only the output
  -h, --help              this text, and what the training takes
"""
# Behind the name of a project, that of the model which gets its weights.
TRAINED = "-trained"
GRAMMAR = grammar("train", HELP, {"--destination": "destination"})


def train(words):
    options = parse_options(words, GRAMMAR)
    from clunk._client.client import Client
    from clunk._client.discovery import connect
    from clunk.output import Output

    from .push import checked_name

    output = Output(words=not options.quiet)
    if options.destination is not None:
        checked_name(options.destination)
    project = _project(options, output) if os.path.exists(options.target) else None
    if project is not None and options.help:
        return _help(project.schema.document)
    client = Client(*connect())
    try:
        if project is not None:
            options.destination = options.destination or default_destination(project, client)
            name, version, document = _push(project, client, output)
        elif is_prediction(options.target) and not options.help:
            return take_up(client, options, output, TRAINING)
        else:
            model, found = resolve(client, options.target)
            name, version, document = f"{model['owner']}/{model['name']}", found["id"], found["openapi_schema"]
            if options.help:
                return _help(document)
        return _train(client, name, version, document, options, output)
    finally:
        client.close()


def default_destination(project, client):
    """A model of the weights' own: what `clunk run DIR` makes is replaced by its next run."""
    from .push import default_name
    from .targets import NAME_MAX

    owner, _, name = default_name(project, client).partition("/")
    return f"{owner}/{name[: NAME_MAX - len(TRAINED)]}{TRAINED}"


def _help(document):
    from .predict import _help as show

    return show(_checked(document), HELP, "TrainingInput")


def _checked(document, name="the model"):
    if "TrainingInput" not in document["components"]["schemas"]:
        raise Exit(FAILED, f"{name} cannot be trained: its cog.yaml names no `train`", 'train: "train.py:train"')
    return document


def _project(options, output):
    from .cog_project import load
    from .predict import parse_inputs

    project = load(options.target, output, needs_predict=False, secrets=options.secrets)
    _checked(project.schema.document, project.root)
    if not project.predict:
        hint = 'add run: "run.py:Runner", which runs with the weights'
        raise Exit(FAILED, f"{project.file} names no predictor, and a version needs one", hint)
    if not options.help:
        # What is wrong with the inputs is told before anything is built.
        parse_inputs(options, project.schema.document, f"clunk train {options.target}", "TrainingInput")
    return project


def _push(project, client, output):
    from .predict import local_name, push_local

    return local_name(project.root), push_local(project, client, output), project.schema.document


def _train(client, name, version, document, options, output):
    from clunk._client.predictions import request

    _checked(document, name)
    inputs = read_inputs(client, options, document, f"clunk train {options.target}", "TrainingInput")
    destination = options.destination
    if destination is None:
        raise usage("a training needs the model that gets its weights", f"--destination {name}-trained")
    _ensure(client, destination, output)
    body = {"destination": destination, "input": inputs}
    training = request(client, "POST", f"/models/{name}/versions/{version}/trainings", body)
    code = watch(client, training, document, options, output, TRAINING)
    if code == DONE and not options.detach:
        output.say(f"{destination} has a new version with these weights")
        output.say(f"run it: clunk run {destination}")
    return code


def _ensure(client, destination, output):
    """Makes the destination when it is not there."""
    from clunk._client.predictions import request
    from clunk.exception import NotFoundError

    try:
        request(client, "GET", f"/models/{destination}")
    except NotFoundError:
        owner, _, name = destination.partition("/")
        body = {"owner": owner, "name": name, "visibility": "private", "hardware": "cpu"}
        request(client, "POST", "/models", body)
        output.say(f"made the model {destination}")
