"""Sends trees: the list of files first, then only the contents that the server lacks."""

import os

from clunk.exception import ExecutionError, InvalidError
from clunk.output import Progress

from .digests import DigestCache

# Smaller files are sent together. Bytes.
SMALL_MAX = 64 << 10
BATCH_MAX = 1 << 20
# More than this is worth a word before it is sent. Bytes.
LARGE_UPLOAD = 256 << 20
BLOB_HEAD_SIZE = 40


def send_tree(client, files, root, output):
    """Makes sure that the server has the tree; its digest."""
    records, sources = describe(files, root, output)
    answer = client.json("POST", "/api/trees", {"files": records})
    if answer["missing"]:
        wanted = [sources[digest] for digest in answer["missing"]]
        send_blobs(client, wanted, output)
        answer = client.json("POST", "/api/trees", {"files": records})
        if answer["missing"]:
            raise ExecutionError(
                "files changed while they were sent", hint="run it again when nothing writes to the project"
            )
    return answer["tree"]


def describe(files, root, output):
    """The records of a tree, and `{digest: (path, size, digest)}`."""
    cache = DigestCache(root)
    records, sources = [], {}
    unread = [file for file in files if file.link is None and not cache.knows(file.local, file.stat)]
    with Progress(output, f"reading {_count(unread)}", sum(file.stat.st_size for file in unread)) as progress:
        for file in files:
            if file.link is not None:
                records.append({"path": file.remote, "link": file.link})
                continue
            try:
                digest = cache.digest(file.local, file.stat, progress.add)
            except OSError as error:
                raise InvalidError(f"cannot read {file.local}: {error.strerror}") from None
            size = file.stat.st_size
            records.append({"path": file.remote, "executable": file.executable, "digest": digest, "size": size})
            sources[digest] = (file.local, size, digest)
    cache.save()
    return records, sources


def _count(files):
    return f"{len(files)} file{'s' * (len(files) != 1)}"


def send_blobs(client, blobs, output):
    """One request with all of the contents, one after the other."""
    total = sum(BLOB_HEAD_SIZE + size for _, size, _ in blobs)
    if total > LARGE_UPLOAD:
        output.say(f"sending {_count(blobs)}, {total / 1e6:.0f} MB; .clunkignore names what should stay here")
    head = client.request_head("POST", "/api/blobs", total, "application/octet-stream")
    connection = client.connection()
    try:
        connection.send([head])
        with Progress(output, f"sending {_count(blobs)}", total) as progress:
            _send_contents(connection, blobs, progress.add)
        answer_head = connection.receive_head()
        body = connection.receive_body(answer_head)
    except BaseException as error:
        connection.close()
        client.explain_loss(error)
        raise
    client.give_back(connection, answer_head)
    if answer_head.status >= 400:
        from clunk._client.client import server_error

        raise server_error(answer_head.status, body)


def _send_contents(connection, blobs, tell):
    batch, batch_size = [], 0
    for path, size, digest in blobs:
        blob_head = bytes.fromhex(digest) + size.to_bytes(8, "little")
        try:
            with open(path, "rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != size:
                    raise EOFError
                batch.append(blob_head)
                if size <= SMALL_MAX:
                    data = file.read(size)
                    if len(data) != size:
                        raise EOFError
                    batch.append(data)
                    batch_size += size
                    tell(size)
                else:
                    connection.send(batch)
                    batch, batch_size = [], 0
                    connection.send_file(file, size, tell)
        except EOFError:
            raise ExecutionError(f"{path} changed while it was sent", hint="run it again") from None
        except FileNotFoundError:
            raise ExecutionError(f"{path} was removed while the project was sent", hint="run it again") from None
        if batch_size > BATCH_MAX:
            connection.send(batch)
            batch, batch_size = [], 0
    if batch:
        connection.send(batch)
