"""`--secret id=ID,src=FILE`: what a command of a build may read, and its layer does not have."""

import os
from base64 import b64encode

from .errors import usage

EXAMPLE = "--secret id=ID,src=FILE, or --secret id=ID,env=VARIABLE"
# A token or a settings file; more is no secret. Bytes.
SECRET_MAX = 1 << 20


def give(recipe, words):
    """Puts the contents that `--secret` names into the commands of a recipe that mount them."""
    given = dict(map(_read, words))
    mounts = [mount for step in recipe["steps"] for mount in step.get("secrets", ())]
    for mount in mounts:
        if mount["id"] in given:
            mount["content"] = given[mount["id"]]
    for name in given:
        if all(mount["id"] != name for mount in mounts):
            known = ", ".join(mount["id"] for mount in mounts)
            raise usage(f"no command of build.run mounts the secret {name}", f"they mount {known or 'none'}")


def _read(word):
    """`(id, content in base 64)` of one option."""
    parts = dict(part.partition("=")[::2] for part in word.split(","))
    name, path, variable = parts.get("id"), parts.get("src") or parts.get("source"), parts.get("env")
    if not name or set(parts) - {"type", "id", "src", "source", "env"} or bool(path) == bool(variable):
        raise usage(f"--secret {word} does not say where the secret is", EXAMPLE)
    if variable:
        if variable not in os.environ:
            raise usage(f"the secret {name}: the environment has no {variable}", EXAMPLE)
        data = os.fsencode(os.environ[variable])
    else:
        try:
            with open(path, "rb") as file:
                data = file.read(SECRET_MAX + 1)
        except OSError as error:
            raise usage(f"the secret {name}: cannot read {path}: {error.strerror}", EXAMPLE) from None
    if len(data) > SECRET_MAX:
        raise usage(f"the secret {name} has more than {SECRET_MAX >> 20} MiB", "send large files with the project")
    return name, b64encode(data).decode()
