"""`clunk push DIR [owner/name]`: a version of a model on the server."""

import json
import os
import re

from .errors import DONE, usage
from .options import Grammar
from .targets import NAME_MAX, is_name

HELP = """\
Push a Cog model to the server as a version that never changes.

  clunk push .                      as cog.yaml names it, else as the folder
  clunk push . acme/hello           as acme/hello
  clunk push . acme/hello --public  and everybody who reaches the server may see it

usage: clunk push DIR [owner/name] [OPTIONS]

options:
  --public, --private   who may see it; without, a new model is private and another stays as it is
  --description TEXT    one line about the model
  --secret id=ID,src=F  for a command of build.run that mounts the secret ID; env=VARIABLE in the place of src
  --json                print the version as JSON
  -q, --quiet           print only the version
  -h, --help            this text
"""


GRAMMAR = Grammar(
    "push",
    HELP,
    ["folder", "name"],
    {"--public": "public", "--private": "private"},
    {"--description": "description"},
    {"--secret": "secrets"},
    example="clunk push DIR [owner/name]",
)


def parse_options(words):
    options = GRAMMAR.read(words)
    if options.folder is None:
        raise usage("no project to push", GRAMMAR.example)
    if options.public and options.private:
        raise usage("a model is public or private, not both", "leave one of --public and --private out")
    if options.name is not None:
        options.name = checked_name(options.name)
    options.visibility = "public" if options.public else "private" if options.private else None
    return options


def checked_name(text):
    """`owner/name` as the server takes it."""
    from .predict import LOCAL_OWNER

    owner, slash, name = text.partition("/")
    if not slash or not is_name(owner) or not is_name(name):
        fitting = "/".join(filter(None, (sluggish(owner), sluggish(name) or "model")))
        message = f"{text!r} is no name of a model: owner/name, of lower-case letters, digits, `-`, `_` and `.`"
        raise usage(message, f"clunk push DIR {fitting if slash else 'OWNER/' + sluggish(text)}")
    if owner == LOCAL_OWNER:
        raise usage(f"`{LOCAL_OWNER}/` is for what `clunk run DIR` makes", "push it under another owner")
    return text


def sluggish(text):
    """The nearest text that may be part of a name."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:NAME_MAX]


def push(words):
    options = parse_options(words)
    from clunk._client.client import Client
    from clunk._client.discovery import connect
    from clunk.output import Output

    from .cog_project import load, prepare

    output = Output(words=not options.quiet)
    project = load(options.folder, output, secrets=options.secrets)
    client = Client(*connect())
    try:
        name = options.name or default_name(project, client)
        deployed = prepare(project, client, output)
        answer = send(client, name, project, deployed, options.visibility, options.description)
    finally:
        client.close()
    tell(answer, project, client.url, options, output)
    return DONE


def send(client, name, project, deployed, visibility=None, description=None):
    """Makes the version; what the server says of it."""
    from clunk._client.predictions import request

    body = {"config": project.config, "openapi_schema": project.schema.document, "predict": deployed.predict}
    optional = {"train": deployed.train, "readme": project.readme, "visibility": visibility, "description": description}
    body.update((key, value) for key, value in optional.items() if value is not None)
    return request(client, "POST", f"/api/models/{name}/versions", body)


def tell(answer, project, url, options, output):
    """The version to standard output; what to do next beside it."""
    from .inputs import example_of, input_schema

    name, version = answer["model"], answer["id"]
    page = f"{url}/models/{name}"
    if options.json:
        print(json.dumps({**answer, "url": page}))
        return
    if answer["created"]:
        output.say(f"pushed {name}, version {version[:12]}")
    else:
        output.say(f"nothing has changed: {name} has this version already")
    print(f"{name}:{version}", flush=True)
    properties, required = input_schema(project.schema.document)
    example = "".join(f" -i {key}={example_of(properties[key])}" for key in required)
    output.say(f"its page: {page}")
    output.say(f"run it: clunk run {name}{example}")


def default_name(project, client):
    """The name of a project that the command line does not name: `model` or `image` of cog.yaml, else the folder."""
    given = project.config.get("model") or project.config.get("image") or ""
    parts = re.sub(r"(:[^/]*)?(@.*)?$", "", given).split("/") if given else []
    # What has a dot or a port in front is a registry.
    if len(parts) > 1 and re.search(r"[.:]", parts[0]):
        parts = parts[1:]
    name = sluggish(parts[-1] if parts else os.path.basename(project.root)) or "model"
    owner = sluggish(parts[-2]) if len(parts) > 1 else default_owner(client)
    return f"{owner}/{name}"


def default_owner(client):
    """The account's name on the server."""
    from clunk._client.predictions import request

    return sluggish(request(client, "GET", "/account")["username"]) or "me"
