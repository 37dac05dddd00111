"""`clunk prepare FILE[::NAME]`: what `clunk shell` opens; not a command for people.

Builds the image of a function, uploads its files, and prints `{"image": "im-...", "trees": [...]}`.
"""

import sys

from .errors import DONE, Exit, usage
from .refs import find_target, load, parse_ref


def prepare(words):
    if len(words) != 1:
        raise usage("one file at a time", "clunk shell FILE[::NAME]")
    path, name = parse_ref(words[0])
    module = load(path, False, [])
    target = find_target(module, name, path, False)
    function = target.served if target.is_remote else next(iter(target.app._served()), None)
    if function is None:
        raise Exit(2, f"{path} has no function whose image could be opened", "clunk shell")
    from clunk._client.client import Client
    from clunk._client.discovery import connect
    from clunk._resolve import Resolver
    from clunk.output import Output

    client = Client(*connect())
    try:
        record = Resolver(client, Output(words=True)).function_record(function, target.app)
    finally:
        client.close()
    import json

    shell = {name: record[name] for name in ("image", "trees", "block_network") if name in record}
    limit = record.get("resources", {}).get("memory_limit_mib")
    json.dump({**shell, "memory_limit_mib": limit}, sys.stdout)
    return DONE
