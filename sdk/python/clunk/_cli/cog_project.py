"""A folder with a `cog.yaml`: what it says, what its predictor takes, and what the server is told of both."""

import json
import os

from .errors import FAILED, NOT_FOUND, USAGE, Exit
from .targets import is_project

# Reading two small files; a program that hangs must not hold a push.
CONFIG_TIMEOUT_S = 60
# A prediction, as long as Replicate lets one run; a training.
PREDICT_TIMEOUT_S = 30 * 60
TRAIN_TIMEOUT_S = 24 * 3600
# Imports and `setup`, which may fetch weights.
SETUP_TIMEOUT_S = 60 * 60
SOURCE_ROOT = "/src"
# Names of files with rules on what stays here. A `.gitignore` is not one of them: weights that git does not have are
# part of the model.
RULE_FILES = (".cogignore", ".clunkignore")
DOCKER_RULES = ".dockerignore"
README_FILES = ("README.md", "readme.md", "Readme.md", "README.txt", "README")
README_MAX_BYTES = 1 << 20


class CogProject:
    """One project that was read. `schema` is what its source says."""

    def __init__(self, described, schema):
        self.root = described["root"]
        self.file = described["file"]
        self.config = described["config"] or {}
        self.recipe = described["recipe"]
        self.env = described["env"]
        self.resources = described.get("resources") or {}
        # Files of the project that are part of the image, by their paths in it.
        self.files = described.get("files") or {}
        self.schema = schema

    @property
    def predict(self):
        return self.config.get("predict")

    @property
    def train(self):
        return self.config.get("train")

    @property
    def concurrency(self):
        """How many predictions one replica takes at the same time."""
        asked = (self.config.get("concurrency") or {}).get("max")
        return asked or self.schema.concurrency or 1

    @property
    def readme(self):
        """The text of the project's readme, or None."""
        for name in README_FILES:
            try:
                with open(os.path.join(self.root, name), "rb") as file:
                    return file.read(README_MAX_BYTES).decode("utf-8", "replace")
            except OSError:
                continue
        return None


def load(path, output, needs_predict=True, secrets=()):
    """Reads a project; every problem is shown, and an error ends the command before anything is built.

    `secrets`: the words of `--secret`.
    """
    from clunk._cog.problems import show
    from clunk._cog.schema import read

    described = describe(path)
    config = described["config"] or {}
    problems = list(described["problems"])
    schema = None
    if config.get("predict") or config.get("train"):
        schema = read(described["root"], config.get("predict"), config.get("train"))
        problems += schema.problems
    errors = [problem for problem in problems if problem["severity"] == "error"]
    for problem in problems:
        # Old names of settings work as they are: `clunk doctor` tells of them.
        if problem in errors or (output.words and problem["code"] != "cog-config-deprecated"):
            _tell(show(problem))
    if errors:
        count = len(errors)
        raise Exit(FAILED, f"{count} mistake{'s' * (count > 1)} in {described['root']}; nothing was built")
    if needs_predict and not config.get("predict"):
        raise Exit(FAILED, f"{described['file']} names no predictor", 'add predict: "predict.py:Predictor"')
    if config.get("predict") and (config.get("concurrency") or {}).get("max", 1) > 1 and not schema.is_async:
        hint = "write `async def`, or remove concurrency"
        raise Exit(FAILED, f"{described['file']}: concurrency.max needs an async predictor", hint)
    project = CogProject(described, schema)
    if secrets:
        from .secrets import give

        give(project.recipe, secrets)
    return project


def _tell(text):
    import sys

    print(text, file=sys.stderr)


def describe(path):
    """What the `clunk` program reads in `cog.yaml`."""
    import subprocess

    from clunk._client.discovery import find_binary

    binary = find_binary()
    if binary is None:
        raise Exit(USAGE, "reading cog.yaml needs the `clunk` program, which is not on PATH", "set CLUNK_BIN to it")
    folder, more = path, []
    if not os.path.isdir(path):
        folder, more = os.path.dirname(path) or ".", ["-f", os.path.basename(path)]
    if not os.path.isdir(folder) or not (os.path.isdir(path) or is_project(path)):
        raise Exit(NOT_FOUND, f"there is no folder {path}", "name the folder of a model: the one with its cog.yaml")
    try:
        done = subprocess.run([binary, "__cog-config", folder, *more], capture_output=True, timeout=CONFIG_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Exit(FAILED, f"could not run {binary}: {error}", "set CLUNK_BIN to the clunk program") from None
    if done.returncode != 0:
        # It has said why, in the form that we would.
        _tell(done.stderr.decode("utf-8", "replace").rstrip())
        raise Exit(done.returncode)
    return json.loads(done.stdout)


def model_config(project):
    """What the server of one model is told of a project, wherever that lies."""
    from clunk._cog import COG_VERSION

    made = {
        "schema": project.schema.document,
        "concurrency": project.concurrency,
        "is_async": project.schema.is_async,
        "cog_version": COG_VERSION,
    }
    if project.predict:
        made["module"], _, made["qualname"] = project.predict.partition(":")
    if project.train:
        module, _, qualname = project.train.partition(":")
        made["train"] = {"module": module, "qualname": qualname}
    return made


# To the server


class Deployed:
    """The parts of a version, ready to be sent."""

    def __init__(self, predict, train):
        self.predict = predict
        self.train = train


def prepare(project, client, output):
    """Builds the image, sends the source, and makes the functions of a project."""
    from clunk._build import build

    recipe = project.recipe
    if project.files:
        tree = _send(client, _package_files(project), project.root, output)
        recipe = {**recipe, "steps": [{"kind": "add_tree", "tree": tree}, *recipe["steps"]]}
    tree = _send(client, source_files(project, output), project.root, output)
    image = build(client, recipe, False, output)
    schema = project.schema
    predict = train = None
    if project.predict:
        predict = _function(project, image, tree, "predict", schema.is_async, schema.is_generator, PREDICT_TIMEOUT_S)
        predict["policy"]["concurrency"] = {"max_inputs": project.concurrency}
    if project.train:
        asyncs = schema.train_is_async, schema.train_is_generator
        train = _function(project, image, tree, "train", *asyncs, TRAIN_TIMEOUT_S)
    return Deployed(predict, train)


def _function(project, image, tree, task, is_async, is_generator, timeout_s):
    file, _, name = (project.predict if task == "predict" else project.train).partition(":")
    return {
        "name": task,
        "entry": {
            "module": file,
            "qualname": name,
            "source_root": SOURCE_ROOT,
            "is_async": is_async,
            "is_generator": is_generator,
            "cog": task,
        },
        "image": image,
        "trees": [tree],
        "env": project.env,
        "resources": project.resources,
        "policy": {"timeout_s": timeout_s, "startup_timeout_s": SETUP_TIMEOUT_S},
    }


def _send(client, files, root, output):
    from clunk._source.upload import send_tree

    return send_tree(client, files, root, output)


def source_files(project, output):
    """The files of a project as they lie in the container."""
    from clunk._source.project import Walk

    walk = Walk(project.root, SOURCE_ROOT, ignore=_docker_rules(project.root), rule_files=RULE_FILES)
    for warning in walk.warnings:
        output.say(warning)
    there = {file.remote for file in walk.files}
    for reference in filter(None, (project.predict, project.train)):
        file = reference.partition(":")[0]
        if f"{SOURCE_ROOT}/{file}" not in there:
            message = f"{file} would not be sent: an ignore file of the project leaves it out"
            raise Exit(FAILED, message, f"write !{file} into {DOCKER_RULES}")
    return walk.files


def _docker_rules(root):
    """What `.dockerignore` leaves out, as a function of a path."""
    from clunk.file_pattern_matcher import FilePatternMatcher

    try:
        rules = FilePatternMatcher.from_file(os.path.join(root, DOCKER_RULES))
    except (OSError, UnicodeDecodeError):
        rules = None
    # Where Cog's own tools keep what they have made.
    return lambda path: path.startswith(".cog/") or (rules is not None and rules(path))


def _package_files(project):
    from clunk._source.project import LocalFile

    made = []
    for remote, name in sorted(project.files.items()):
        local = os.path.join(project.root, name)
        made.append(LocalFile(remote, local, os.stat(local)))
    return made
