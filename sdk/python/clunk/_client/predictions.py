"""Predictions and trainings of models: made, followed as they run, their files fetched."""

import json
import mimetypes
import os
import secrets
import time
from base64 import b64decode, b64encode

from clunk import exception

from .client import server_error
from .patience import Patience, retry_after

API = "/replicate/v1"
# Smaller files travel inside of the input.
INLINE_MAX_BYTES = 256 << 10
# Bytes of one piece of a pipe that is copied.
COPY_BYTES = 1 << 20
# How long a stream of events that broke is taken up again. Seconds.
RECONNECT_MAX_S = 60
# How long a request that is refused for now is offered again. Seconds.
REFUSED_MAX_S = 60
# An event is one chunk of output or one piece of logs: a larger one is not from our server.
EVENT_MAX_BYTES = 128 << 20
# Seconds without a byte of an output file that lies elsewhere.
FOREIGN_SILENCE_S = 60
# Characters of its URL in a message.
SHOWN_URL_LEN = 200


def problem_error(status, body):
    """The exception for an answer of the API of models: problem details, or an error as of the other endpoints."""
    try:
        problem = json.loads(bytes(body))
        detail = problem["detail"]
    except (ValueError, KeyError, TypeError):
        return server_error(status, body)
    if not isinstance(detail, str):
        detail = json.dumps(detail)
    kinds = {
        401: exception.AuthError,
        403: exception.PermissionDeniedError,
        404: exception.NotFoundError,
        409: exception.ConflictError,
        413: exception.RequestSizeError,
        422: exception.InvalidError,
        429: exception.ResourceExhaustedError,
    }
    return kinds.get(status, exception.ServiceError)(detail)


def request(client, method, path, body=None):
    """One request below `/replicate/v1`, or to another path that is given whole; the JSON of its answer."""
    data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()

    def send(connection, head):
        connection.send([head, data])

    return _answer(client, method, path, send, len(data), None if body is None else "application/json")


def _answer(client, method, path, send, size, kind):
    """`send` writes a request to a connection, from its head."""
    whole = path if path.startswith("/api/") else API + path
    head = client.request_head(method, whole, size, kind)
    patience = Patience(REFUSED_MAX_S)
    while True:
        answer_head, answer = client.exchange_by(lambda connection: send(connection, head))
        # Only what says when to come again is refused for now.
        if answer_head.status != 429 or patience.is_spent or answer_head.get(b"retry-after") is None:
            break
        time.sleep(retry_after(answer_head))
    if answer_head.status >= 400:
        raise problem_error(answer_head.status, answer)
    return json.loads(bytes(answer)) if answer.strip() else {}


def pages(client, path):
    """All results of a list, page after page."""
    while path:
        page = request(client, "GET", path)
        yield from page["results"]
        following = page.get("next")
        path = following[following.index(API) + len(API) :] if following else None


# Inputs


def send_file(client, file, name):
    """A URL that stands for an open file in an input: a small one is inside of it, another is sent as it is read."""
    import stat

    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode):
        data = file.read(INLINE_MAX_BYTES + 1)
        if len(data) > INLINE_MAX_BYTES:
            with _spooled(data, file) as copy:
                return _upload(client, copy, copy.tell(), name)
    elif found.st_size > INLINE_MAX_BYTES:
        return _upload(client, file, found.st_size, name)
    else:
        data = file.read()
    return f"data:{_kind(name)};base64,{b64encode(data).decode()}"


def _spooled(data, pipe):
    """What a pipe gives, as a file: how long it is must be known before it is sent."""
    import shutil
    import tempfile

    copy = tempfile.TemporaryFile()
    copy.write(data)
    shutil.copyfileobj(pipe, copy, COPY_BYTES)
    copy.flush()
    return copy


def _upload(client, file, size, name):
    boundary = secrets.token_hex(16)
    quoted = os.path.basename(name).replace('"', "%22").replace("\r", "").replace("\n", "")
    start = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="content"; filename="{quoted}"\r\n'
        f"Content-Type: {_kind(name)}\r\n\r\n"
    ).encode()
    end = f"\r\n--{boundary}--\r\n".encode()

    def send(connection, head):
        connection.send([head, start])
        connection.send_file(file, size)
        connection.send([end])

    kind = f"multipart/form-data; boundary={boundary}"
    try:
        return _answer(client, "POST", "/files", send, len(start) + size + len(end), kind)["urls"]["get"]
    except EOFError:
        raise exception.ExecutionError(f"{name} changed while it was sent", hint="run it again") from None


def _kind(name):
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


# Events


def follow(client, prediction_id):
    """`(event, data)` of what happens to a prediction, from its start to `done`; a broken stream is taken up again."""
    last = ""
    patience = Patience(RECONNECT_MAX_S)
    while True:
        try:
            for event, data, number in _events(client, prediction_id, last):
                patience = Patience(RECONNECT_MAX_S)
                last = number or last
                yield event, data
                if event == "done":
                    return
        except exception.ConnectionError:
            # A server that starts anew takes its predictions up again, and is back within seconds.
            if patience.is_spent:
                raise
        delay = patience.delay()
        if delay is None:
            raise exception.ConnectionError("the server ended the prediction's events without its end")
        time.sleep(delay)


def _events(client, prediction_id, last):
    headers = "Accept: text/event-stream\r\n" + (f"Last-Event-ID: {last}\r\n" if last else "")
    connection = client.connection()
    try:
        connection.send([client.request_head("GET", f"/api/predictions/{prediction_id}/events", headers=headers)])
        head = connection.receive_head()
        if head.status >= 400:
            raise problem_error(head.status, connection.receive_body(head))
        yield from parse_events(connection.chunks(head))
    finally:
        connection.close()


def parse_events(chunks):
    """`(event, data, id)` of server-sent events whose data is JSON."""
    event, data, number = "message", [], ""
    # The beginning of a line whose end has not come: a large output is one line of many pieces.
    begun, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        if size > EVENT_MAX_BYTES:
            raise exception.ConnectionError("an event of the server is too large")
        if b"\n" not in chunk:
            begun.append(chunk)
            continue
        *lines, rest = b"".join([*begun, chunk]).split(b"\n")
        begun, size = [rest], len(rest)
        for line in lines:
            line = line.rstrip(b"\r")
            if not line:
                if data:
                    yield event, json.loads(b"\n".join(data)), number
                event, data = "message", []
                continue
            field, _, value = line.partition(b":")
            value = value[1:] if value.startswith(b" ") else value
            if field == b"event":
                event = value.decode()
            elif field == b"data":
                data.append(value)
            elif field == b"id":
                number = value.decode()


# Outputs


def fetch(client, url):
    """The content of a file of an output, and its name: `(pieces, name)`."""
    if url.startswith("data:"):
        head, _, text = url[5:].partition(",")
        kind = head.partition(";")[0]
        if head.endswith(";base64"):
            data = b64decode(text)
        else:
            from urllib.parse import unquote_to_bytes

            data = unquote_to_bytes(text)
        return [data], "output" + (mimetypes.guess_extension(kind) or "")
    from urllib.parse import unquote, urlsplit

    try:
        path, name = _path_of(client, url), os.path.basename(unquote(urlsplit(url).path)) or "output"
    except ValueError:
        # Of brackets or a port that are none; whoever fetches it says so.
        path, name = None, "output"
    return (_foreign(url) if path is None else _download(client, path)), name


def _path_of(client, url):
    """The path below our server of a URL; None when it is of another."""
    from urllib.parse import parse_qs, urlsplit

    parts = urlsplit(url)
    own = urlsplit(client.url)
    # Under another name of our server, which this program does not know, a file of it has its signature.
    signed = parts.path.startswith("/files/") and {"expiry", "signature"} <= set(parse_qs(parts.query))
    if (parts.hostname, parts.port) != (own.hostname, own.port) and not signed:
        return None
    return parts.path + (f"?{parts.query}" if parts.query else "")


def _download(client, path):
    connection = client.connection()
    try:
        connection.send([client.request_head("GET", path)])
        head = connection.receive_head()
        if head.status >= 400:
            raise problem_error(head.status, connection.receive_body(head))
        yield from connection.chunks(head)
    finally:
        connection.close()


def _foreign(url):
    """A file that the model left elsewhere."""
    from http.client import HTTPException
    from urllib.request import urlopen

    shown = url.partition("?")[0][:SHOWN_URL_LEN]
    if not url.startswith(("http://", "https://")):
        raise exception.ConnectionError(f"the output {shown!r} should be a file, and is no URL of http or https")
    try:
        with urlopen(url, timeout=FOREIGN_SILENCE_S) as answer:
            while True:
                data = answer.read(1 << 20)
                if not data:
                    return
                yield data
    except (OSError, ValueError, HTTPException) as error:
        raise exception.ConnectionError(f"the output file {shown} cannot be fetched: {error}") from None
