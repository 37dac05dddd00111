"""`clunk serve DIR`: a Cog model behind Cog's container API, in a container or in this Python."""

import json
import os
import sys

from .errors import DONE, FAILED, Exit, usage
from .options import Grammar

HELP = """\
Serve a Cog model over HTTP, as its container would.

  clunk serve                    the project in this folder, on port 5000
  clunk serve DIR --port 8000
  clunk serve --local DIR        in this Python: no container, no image, its packages must be there

usage: clunk serve [DIR] [OPTIONS]

options:
  --port N            where it listens; PORT, or 5000
  --host ADDRESS      127.0.0.1; 0.0.0.0 for everybody
  --local             without a container
  --upload-url URL    put output files below this address, instead of into data URLs
  --secret id=ID,src=FILE
                      for a command of build.run that mounts the secret ID; env=VARIABLE in the place of src
  -q, --quiet         print only what the model prints
  -h, --help          this text
"""
DEFAULT_PORT = 5000
PORT_MAX = 65535


GRAMMAR = Grammar(
    "serve",
    HELP,
    ["folder"],
    {"--local": "local"},
    {"--port": "port", "-p": "port", "--host": "host", "--upload-url": "upload_url"},
    {"--secret": "secrets"},
)


def parse_options(words):
    options = GRAMMAR.read(words)
    options.host = options.host or "127.0.0.1"
    options.port = _port(options.port if options.port is not None else os.environ.get("PORT") or str(DEFAULT_PORT))
    return options


def _port(text):
    if not text.isdigit() or int(text) > PORT_MAX:
        raise usage(f"a port is a number up to {PORT_MAX}, not {text!r}", "clunk serve --port 8000")
    return int(text)


def serve(words):
    options = parse_options(words)
    from clunk.output import Output

    from .cog_project import load

    output = Output(words=not options.quiet)
    project = load(options.folder or ".", output, needs_predict=False, secrets=options.secrets)
    return _serve_here(project, options) if options.local else _serve_in_container(project, options, output)


# Without a container


def _serve_here(project, options):
    """Becomes the model server, with this interpreter for the model."""
    from clunk._client.discovery import find_binary

    binary = find_binary()
    words = [binary, "__model-server", "--config", _config_file(local_config(project))]
    words += ["--host", options.host, "--port", str(options.port)]
    words += ["--upload-url", options.upload_url] if options.upload_url else []
    words += [] if project.predict else ["--x-mode", "train"]
    sys.stdout.flush()
    try:
        os.execv(binary, words)
    except OSError as error:
        raise Exit(
            FAILED, f"could not start {binary}: {error.strerror}", "set CLUNK_BIN to the clunk program"
        ) from None


def local_config(project):
    """What the model server is told of a project on this machine."""
    from .cog_project import model_config

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return {
        **model_config(project),
        "python": sys.executable,
        "python_version": sys.version.partition(" ")[0],
        "runner": os.path.dirname(package),
        "source_root": project.root,
        "env": project.env,
    }


def _config_file(config):
    """The path of a file in memory that the program we become still has: there is nothing to clean up."""
    file = os.memfd_create("model.json", 0)
    data = json.dumps(config).encode()
    with os.fdopen(os.dup(file), "wb") as out:
        out.write(data)
    os.set_inheritable(file, True)
    return f"/proc/self/fd/{file}"


# In a container


def _serve_in_container(project, options, output):
    """Builds the image, then has the server serve it for as long as this command runs."""
    from clunk._client.client import Client
    from clunk._client.discovery import connect
    from clunk._cog import COG_VERSION

    from .cog_project import prepare

    client = Client(*connect())
    try:
        deployed = prepare(project, client, output)
        body = {
            "name": os.path.basename(project.root),
            "host": options.host,
            "port": options.port,
            "function": deployed.predict,
            "train": deployed.train,
            "openapi_schema": project.schema.document,
            "cog_version": COG_VERSION,
            "upload_url": options.upload_url,
        }
        return follow(client, {key: value for key, value in body.items() if value is not None}, output)
    except KeyboardInterrupt:
        output.say("stopped")
        return DONE
    finally:
        client.close()


def follow(client, body, output):
    """What the model prints, until it ends or this command does: the open connection is what keeps it."""
    connection, events = client.stream("POST", "/api/serve", body)
    try:
        for event in events:
            kind = event.get("type")
            if kind == "log":
                output.log(event)
            elif kind == "listening":
                output.say(f"listening on {event['url']}")
    finally:
        connection.shut()
        connection.close()
    output.say("the server has stopped serving it")
    return FAILED
