"""`clunk model list|show|versions|delete`: what is on the server."""

import json
import os
import sys

from .errors import DONE, FAILED, Exit, usage
from .options import Grammar
from .predict import LOCAL_OWNER, SHOWN_VERSION_LEN

HELP = """\
List, show and delete models.

  clunk model list
  clunk model show owner/name              what it takes, what it gives, its newest version
  clunk model versions owner/name
  clunk model delete owner/name:9f86d081   one version
  clunk model delete owner/name            the model with all its versions

usage: clunk model list|show|versions|delete [owner/name[:VERSION]] [OPTIONS]

options:
  --all        also what `clunk run DIR` has made
  --yes        delete without a question
  --json       print data as JSON
  -q, --quiet  print only names
  -h, --help   this text
"""
# As many as a person reads; --json prints all.
SHOWN_MAX = 200


GRAMMAR = Grammar(
    "model",
    HELP,
    ["verb", "name"],
    {"--yes": "yes", "-y": "yes", "--all": "all"},
    {},
    example="clunk model --help",
)


def model(words):
    options = GRAMMAR.read(words)
    verbs = {"list": (_list, 0), "show": (_show, 1), "versions": (_versions, 1), "delete": (_delete, 1)}
    verb = options.verb
    if verb not in verbs:
        from .arguments import nearest

        raise usage(
            f"unknown command {verb}" if verb else "no command", nearest(verb or "", verbs) or "clunk model list"
        )
    function, count = verbs[verb]
    names = [options.name] if options.name is not None else []
    if len(names) != count:
        raise usage(f"clunk model {verb} takes {'one model' if count else 'no argument'}", "clunk model --help")
    from clunk._client.client import Client
    from clunk._client.discovery import connect

    client = Client(*connect())
    try:
        return function(client, options, *names)
    finally:
        client.close()


def _list(client, options):
    from itertools import islice

    from clunk._client.predictions import pages

    found = (one for one in pages(client, "/models") if options.all or one["owner"] != LOCAL_OWNER)
    found = list(found if options.json else islice(found, SHOWN_MAX))
    if options.json:
        print(json.dumps(found))
        return DONE
    if not found:
        print("clunk: there is no model yet; make one: clunk init cog DIR, then clunk push DIR", file=sys.stderr)
    rows = []
    for one in found:
        name = f"{one['owner']}/{one['name']}"
        if options.quiet:
            print(name)
            continue
        version = one.get("latest_version") or {}
        runs = str(one.get("run_count", 0))
        rows.append(
            (name, version.get("id", "-")[:SHOWN_VERSION_LEN], _when(version), runs, one["visibility"], _line(one))
        )
    if rows:
        table(("MODEL", "VERSION", "PUSHED", "RUNS", "VISIBILITY", "DESCRIPTION"), rows)
    return DONE


def _line(one):
    text = " ".join((one.get("description") or "").split())
    return text if len(text) <= 60 else text[:59] + "…"


def _when(record):
    """A time of the API to the minute."""
    return (record.get("created_at") or "-")[:16].replace("T", " ")


def table(head, rows):
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


def _show(client, options, reference):
    from .inputs import describe
    from .outputs import resolved
    from .predict import resolve

    model, version = resolve(client, reference)
    if options.json:
        print(json.dumps({**model, "latest_version": version}))
        return DONE
    name = f"{model['owner']}/{model['name']}"
    print(name + (f"  {_line(model)}" if model.get("description") else ""))
    print(f"version     {version['id']}")
    print(f"pushed      {_when(version)}")
    print(f"visibility  {model['visibility']}")
    print(f"runs        {model.get('run_count', 0)}")
    print(f"page        {client.url}/models/{name}")
    schemas = version["openapi_schema"]["components"]["schemas"]
    print(f"output      {_output_words(resolved(schemas, schemas.get('Output', {})))}")
    print("\ninputs:", *describe(version["openapi_schema"]), sep="\n")
    return DONE


def _output_words(schema):
    if schema.get("x-cog-array-display") == "concatenate":
        return "text, as it is made"
    if schema.get("x-cog-array-type") == "iterator":
        return _output_words(schema.get("items", {})) + ", one after the other"
    if schema.get("type") == "array":
        return "a list of " + _output_words(schema.get("items", {}))
    words = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false"}
    return "a file" if schema.get("format") == "uri" else words.get(schema.get("type"), "JSON")


def _versions(client, options, reference):
    from itertools import islice

    from clunk._client.predictions import pages

    found = pages(client, f"/models/{reference}/versions")
    found = list(found if options.json else islice(found, SHOWN_MAX))
    if options.json:
        print(json.dumps(found))
    elif options.quiet:
        print("\n".join(one["id"] for one in found))
    else:
        rows = [(one["id"][:SHOWN_VERSION_LEN], _when(one), one.get("cog_version") or "-") for one in found]
        table(("VERSION", "PUSHED", "COG"), rows)
    return DONE


def _delete(client, options, reference):
    from clunk._client.predictions import pages, request

    from .predict import resolve

    name, colon, _ = reference.partition(":")
    if colon:
        version = resolve(client, reference)[1]["id"]
        _ask(f"delete version {version[:SHOWN_VERSION_LEN]} of {name}?", "y", options)
        request(client, "DELETE", f"/models/{name}/versions/{version}")
        print(f"deleted {name}:{version}")
        _say_when(options)
        return DONE
    request(client, "GET", f"/models/{name}")
    versions = [one["id"] for one in pages(client, f"/models/{name}/versions")]
    count = f"{len(versions)} version{'s' * (len(versions) != 1)}"
    _ask(f"delete {name} with {count}? Type its name to confirm:", name, options)
    for version in versions:
        request(client, "DELETE", f"/models/{name}/versions/{version}")
    request(client, "DELETE", f"/models/{name}")
    print(f"deleted {name} with {count}")
    if versions:
        _say_when(options)
    return DONE


def _say_when(options):
    if not (options.quiet or options.json):
        print("clunk: its files leave the disk within the hour", file=sys.stderr)


def _ask(question, wanted, options):
    """Goes on only with the right answer; without a terminal only with --yes."""
    if options.yes:
        return
    if not sys.stdin.isatty() or os.environ.get("CI"):
        raise Exit(FAILED, "deleting needs a yes, and there is no terminal to ask on", "add --yes")
    print(f"{question} ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in (wanted, "yes" if wanted == "y" else wanted):
        raise Exit(FAILED, "nothing was deleted")
