"""`clunk build DIR -t NAME`: an image of a model for any container engine, which serves itself."""

import json
import os
import re

from .errors import DONE, FAILED, Exit, usage
from .options import Grammar

HELP = """\
Write an image of a Cog model that any container engine runs, with no Clunk beside it.

  clunk build . -t hello                 to hello.tar
  clunk build . -t hello:v1 -o out.tar   to a file
  clunk build . -t hello -o layout       to a folder, as an OCI layout
  clunk build . -t hello -o - | podman load

Started, it listens on port 5000 with the HTTP API of Cog's containers.

usage: clunk build DIR -t NAME[:TAG] [-o FILE.tar|DIR|-]

options:
  -t, --tag NAME[:TAG]   name of the image; cog-FOLDER without it
  -o, --output PATH      a file that ends in .tar, a new folder, or - for standard output
  --secret id=ID,src=F   for a command of build.run that mounts the secret ID; env=VARIABLE in the place of src
  --json                 print what was written as JSON
  -q, --quiet            print only what was written
  -h, --help             this text
"""
# The port of Cog's containers.
PORT = 5000
SCHEMA_PATH = "/src/.cog/openapi_schema.json"
# Where the runner lies in the image.
RUNNER_PATH = "/.clunk"
# What the archive holds; nothing else is laid out in a folder.
_ENTRY = re.compile(r"oci-layout|index\.json|manifest\.json|blobs/sha256/[0-9a-f]{64}")
# What engines take: an optional registry, a path of small letters, an optional tag.
_NAME = re.compile(
    r"(?:(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::[0-9]+)?|[A-Za-z0-9-]+:[0-9]+|localhost)/)?"
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
)
_COPY_BYTES = 1 << 20


GRAMMAR = Grammar(
    "build",
    HELP,
    ["folder"],
    {},
    {"-t": "tag", "--tag": "tag", "-o": "output", "--output": "output"},
    {"--secret": "secrets"},
    example="clunk build DIR -t NAME",
)


def build(words):
    options = GRAMMAR.read(words)
    if options.folder is None:
        raise usage("no project to build", GRAMMAR.example)
    from clunk._client.client import Client
    from clunk._client.discovery import connect
    from clunk.output import Output

    from .cog_project import load, prepare

    output = Output(words=not options.quiet)
    project = load(options.folder, output, secrets=options.secrets)
    name = options.tag or default_name(project)
    if not _NAME.fullmatch(name):
        raise usage(f"{name!r} is not the name of an image", "clunk build DIR -t name:tag, in small letters")
    target = Target(options.output or f"{re.sub('[/:]', '-', name)}.tar")
    client = Client(*connect())
    try:
        deployed = prepare(project, client, output)
        output.say("packing the image")
        request = export_request(name, project, deployed.predict)
        digest, size = receive(client, deployed.predict["image"], request, target, output)
    except BaseException:
        target.give_up()
        raise
    finally:
        client.close()
    target.finish()
    tell(name, target, digest, size, options, output)
    return DONE


def default_name(project):
    """As Cog names the image of a project that does not say."""
    given = project.config.get("image") or project.config.get("model")
    if given:
        return given
    folder = re.sub(r"[^a-z0-9]+", "-", os.path.basename(project.root).lower()).strip("-")
    return f"cog-{folder}"[:30].rstrip("-")


def export_request(name, project, predict):
    """What the image has beside its packages: the source, the schema, and what its server is told."""
    from clunk._cog import COG_VERSION

    from .cog_project import SOURCE_ROOT, model_config

    document = json.dumps(project.schema.document, separators=(",", ":"))
    return {
        "name": name,
        "trees": predict["trees"],
        "files": {SCHEMA_PATH: document},
        "env": project.env,
        "labels": {
            "run.cog.version": COG_VERSION,
            "run.cog.config": json.dumps(project.config, separators=(",", ":")),
            "run.cog.openapi_schema": document,
        },
        "ports": [PORT],
        "model": {**model_config(project), "runner": RUNNER_PATH, "source_root": SOURCE_ROOT},
    }


def receive(client, image, request, target, output):
    """Writes the archive as it comes; its digest and its size."""
    from clunk._client.client import server_error
    from clunk.output import Progress

    data = json.dumps(request, separators=(",", ":")).encode()
    head_bytes = client.request_head("POST", f"/api/images/{image}/export", len(data), "application/json")
    connection = client.open()
    try:
        connection.send([head_bytes, data])
        head = connection.receive_head()
        if head.status >= 400:
            raise server_error(head.status, connection.receive_body(head))
        with Progress(output, f"writing {target.path}", head.length) as progress:
            target.write(_told(connection.chunks(head), progress))
        return head.get(b"clunk-image-digest"), head.length
    except BaseException as error:
        client.explain_loss(error)
        raise
    finally:
        connection.close()


def _told(chunks, progress):
    for chunk in chunks:
        yield chunk
        progress.add(len(chunk))


class Target:
    """Where the archive goes. Nothing of the name is there before all of it is."""

    def __init__(self, path):
        self.path = path
        self.is_pipe = path == "-"
        self.is_file = path.endswith(".tar")
        self._part = f"{path.rstrip('/')}.part-{os.getpid()}"
        if self.is_pipe:
            import sys

            if sys.stdout.isatty():
                raise usage("an archive would fill the terminal", "clunk build DIR -o - | podman load")
            return
        if not self.is_file and os.path.isdir(path) and os.listdir(path):
            raise Exit(FAILED, f"the folder {path} is not empty; nothing was written", "name a new one, or FILE.tar")
        if not self.is_file and os.path.lexists(path) and not os.path.isdir(path):
            raise Exit(FAILED, f"{path} is there, and is no folder", "name a file that ends in .tar, or a new folder")
        if self.is_file and os.path.isdir(path):
            raise Exit(FAILED, f"{path} is a folder", "name a file that ends in .tar")
        parent = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(parent):
            raise Exit(FAILED, f"there is no folder {parent}", "make it, or name another")

    def write(self, chunks):
        if self.is_pipe:
            import sys

            for chunk in chunks:
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
        elif self.is_file:
            with open(self._part, "wb") as file:
                for chunk in chunks:
                    file.write(chunk)
        else:
            self._lay_out(chunks)

    def _lay_out(self, chunks):
        import shutil
        import tarfile

        os.makedirs(os.path.join(self._part, "blobs", "sha256"))
        with tarfile.open(fileobj=_Readable(chunks), mode="r|", bufsize=_COPY_BYTES) as archive:
            for entry in archive:
                if not entry.isfile() or not _ENTRY.fullmatch(entry.name):
                    continue
                with open(os.path.join(self._part, *entry.name.split("/")), "wb") as file:
                    shutil.copyfileobj(archive.extractfile(entry), file, _COPY_BYTES)

    def finish(self):
        if self.is_pipe:
            return
        if not self.is_file and os.path.isdir(self.path):
            os.rmdir(self.path)
        os.rename(self._part, self.path)

    def give_up(self):
        import shutil

        if os.path.isdir(self._part):
            shutil.rmtree(self._part, ignore_errors=True)
        elif os.path.exists(self._part):
            os.unlink(self._part)


class _Readable:
    """Chunks as a file that is read from."""

    def __init__(self, chunks):
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size):
        pieces, missing = [self._rest], size - len(self._rest)
        while missing > 0:
            chunk = next(self._chunks, b"")
            if not chunk:
                break
            pieces.append(chunk)
            missing -= len(chunk)
        data = b"".join(pieces)
        self._rest = data[size:]
        return data[:size]


def tell(name, target, digest, size, options, output):
    if options.json:
        record = {"name": name, "path": target.path, "digest": digest, "size_bytes": size}
        if not target.is_pipe:
            print(json.dumps(record))
        return
    if target.is_pipe:
        return
    print(target.path, flush=True)
    output.say(f"wrote {name}, {size / 1e6:.1f} MB, {digest}")
    ports = f"-p {PORT}:{PORT}"
    if target.is_file:
        output.say(f"try: podman load -i {target.path} && podman run --rm {ports} {name}")
    else:
        output.say(f"try: podman run --rm {ports} oci:{target.path}")
