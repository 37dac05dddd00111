"""The HTTP API as a program without the SDK uses it: what docs/api.md says, and nothing that hides a refusal."""

import http.client
import json
import pickle
import struct
import urllib.parse

PICKLE = "application/x-python-pickle"
FRAMES = "application/x-clunk-frames"
# A call waits for its answer for so long. Seconds.
ANSWER_S = 120


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def value(self):
        assert self.status == 200, (self.status, self.body[:2000])
        return pickle.loads(self.body)


def frames(inputs):
    """The body of `spawn` or `map`: each input is a tuple of arguments."""
    packed = [pickle.dumps((tuple(args), {})) for args in inputs]
    return b"".join(struct.pack("<QQ", index, len(data)) + data for index, data in enumerate(packed))


def results(body):
    """Takes frames of an answer apart: `(kind, index, content)`."""
    at, found = 0, []
    while at < len(body):
        kind, index, length = struct.unpack_from("<B7xQQ", body, at)
        found.append((kind, index, body[at + 24 : at + 24 + length]))
        at += 24 + length
    return found


class Api:
    """Requests to the server of a state folder; one connection, opened anew when the server is another."""

    def __init__(self, home):
        self.home = home
        self.connection = None

    def _open(self):
        url = urllib.parse.urlsplit(self.home.server()["url"])
        token = (self.home.path / "token").read_text().strip()
        self.head = {"Authorization": f"Bearer {token}"}
        self.connection = http.client.HTTPConnection(url.hostname, url.port, timeout=ANSWER_S)

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def request(self, method, path, body=None, headers=None):
        """One request; OSError or HTTPException when the server went away."""
        if self.connection is None:
            self._open()
        headers = dict(headers or {})
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        try:
            self.connection.request(method, path, body=body, headers={**self.head, **headers})
            answer = self.connection.getresponse()
            answer = Answer(answer.status, answer.headers, answer.read())
            if answer.status >= 400:
                # A request that was refused before its end leaves a connection of no further use.
                self.close()
            return answer
        except (OSError, http.client.HTTPException):
            self.close()
            raise

    def get(self, path):
        answer = self.request("GET", path)
        assert answer.status == 200, (path, answer.status, answer.body[:2000])
        return answer.json

    def call(self, function, *args, headers=None):
        body = pickle.dumps((args, {}))
        headers = {"Content-Type": PICKLE, **(headers or {})}
        return self.request("POST", f"/api/functions/{function}/call", body, headers)

    def spawn(self, function, inputs, headers=None):
        """Accepts calls, one for each tuple of arguments; their ids."""
        headers = {"Content-Type": FRAMES, **(headers or {})}
        answer = self.request("POST", f"/api/functions/{function}/spawn", frames(inputs), headers)
        assert answer.status == 202, (answer.status, answer.body[:2000])
        return answer.json["calls"]

    def record(self, call):
        return self.get(f"/api/calls/{call}")

    def result(self, call, wait_s=50):
        return self.request("GET", f"/api/calls/{call}/result?wait_s={wait_s}")

    def function(self, function):
        return self.get(f"/api/functions/{function}")

    def all_calls(self, query, limit=500):
        """Every record, the newest first."""
        found, before = [], ""
        while True:
            page = self.get(f"/api/calls?{query}&limit={limit}{before}")
            if not page:
                return found
            found += page
            before = f"&before={page[-1]['id']}"
