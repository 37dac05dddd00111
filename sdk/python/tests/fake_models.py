"""Models on the fake server: pushed, run, trained, deleted, in memory; a prediction does what the test has planned."""

import json
import secrets
import stat
import sys
import textwrap
from base64 import b64encode

HELLO = """
    class Runner(BaseRunner):
        def run(self, prompt: str, steps: int = Input(default=5, ge=1, le=9)) -> str: ...
"""

FAKE_CLUNK = '''\
#!{python}
"""Reads the few keys of cog.yaml that tests write, as the `clunk` program does with all of them."""
import json, os, sys
words = sys.argv[2:]
folder = os.path.realpath(words[0])
file = os.path.join(folder, words[words.index("-f") + 1] if "-f" in words else "cog.yaml")
if not os.path.isfile(file):
    print("error[not-found]: no cog.yaml in " + folder, file=sys.stderr)
    sys.exit(3)
config = {{"build": {{"gpu": False, "python_version": "3.13"}}}}
problems = []
for number, line in enumerate(open(file), 1):
    key, _, value = line.strip().partition(": ")
    value = value.strip('"')
    if key in ("run", "predict"):
        config["predict"] = value
    elif key in ("train", "model", "image"):
        config[key] = value
    elif key == "max_concurrency":
        config["concurrency"] = {{"max": int(value)}}
    elif key:
        problems.append({{"severity": "error", "code": "bad-cog-config", "message": "unknown key " + key,
                         "file": "cog.yaml", "line": number, "column": 1, "hint": "remove it"}})
wheels = {{"/src/wheel.whl": "wheel.whl"}} if os.path.exists(os.path.join(folder, "wheel.whl")) else {{}}
recipe = {{"base": {{"kind": "debian_slim", "python": "3.13"}}, "steps": []}}
json.dump({{"file": file, "root": folder, "config": config, "recipe": recipe,
           "files": wheels, "env": {{"A": "1"}},
           "resources": {{}}, "problems": problems}}, sys.stdout)
'''


def fake_clunk(folder):
    """A program that stands for `clunk __cog-config`."""
    path = folder / "fake-clunk"
    path.write_text(FAKE_CLUNK.format(python=sys.executable))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def cog_project(folder, predictor, settings='run: "run.py:Runner"\n', **files):
    """Writes a Cog project."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cog.yaml").write_text(settings)
    header = "from typing import *\nfrom cog import *\n"
    (folder / "run.py").write_text(header + textwrap.dedent(predictor))
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(header + textwrap.dedent(text))
    return folder


def pushed(clunk, name="ada/hello"):
    done = clunk("push", "hello", name)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().partition(":")[2]


def data_url(data, kind="image/png"):
    return f"data:{kind};base64,{b64encode(data).decode()}"


class FakeModels:
    """Answers for /api/models, /api/predictions and /replicate/v1."""

    def __init__(self, url):
        self.url = url
        self.models = {}
        self.versions = {}
        self.predictions = {}
        self.files = {}
        self.canceled = []
        # What a prediction does: from its input to a list of `(event, data)`; the last one is made here.
        self.behave = lambda inputs: [("output", {"index": 0, "output": json.dumps(inputs, sort_keys=True)})]
        # After how many events a stream of events breaks, once.
        self.break_after = None
        # Connections that asked for events, with what they had already.
        self.resumed = []

    def answers(self, method, path, body, headers):
        """`(status, body)`, `(status, bytes, headers)`, a list of events, or None for what is not of models."""
        path = path.partition("?")[0]
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"] and parts[-1] == "versions":
            return 200, self._push("/".join(parts[2:4]), json.loads(body))
        if parts[:2] == ["api", "predictions"]:
            return self._events(parts[2], headers)
        if parts[0] == "files":
            return (200, self.files[parts[1]]) if parts[1] in self.files else problem(404, "the file is gone")
        if parts[:2] == ["replicate", "v1"]:
            return self._replicate(method, parts[2:], body, headers)
        return None

    def _push(self, name, pushed):
        text = json.dumps(pushed, sort_keys=True)
        model = self.models.setdefault(name, {"versions": [], "visibility": "private"})
        model["visibility"] = pushed.get("visibility") or model["visibility"]
        known = [version for version in model["versions"] if self.versions[version]["text"] == text]
        if known:
            return {"id": known[0], "created": False, "model": name}
        version = secrets.token_hex(32)
        model["versions"].insert(0, version)
        self.versions[version] = {"text": text, "pushed": pushed, "model": name}
        return {"id": version, "created": True, "model": name}

    def _version(self, version):
        pushed = self.versions[version]["pushed"]
        more = {"created_at": "2026-01-31T12:34:56.000000Z", "cog_version": "0.23.1"}
        return {"id": version, "openapi_schema": pushed["openapi_schema"], **more}

    def _model(self, name):
        owner, _, short = name.partition("/")
        model = self.models[name]
        latest = self._version(model["versions"][0]) if model["versions"] else None
        more = {"visibility": model["visibility"], "run_count": 3, "description": "one line", "latest_version": latest}
        return {"owner": owner, "name": short, "url": f"{self.url}/models/{name}", **more}

    def _replicate(self, method, parts, body, headers):
        if parts == ["account"]:
            return 200, {"username": "ada", "type": "user"}
        if parts == ["files"]:
            return 201, {"urls": {"get": self._upload(body, headers)}}
        if parts == ["models"] and method == "POST":
            made = json.loads(body)
            self.models[f"{made['owner']}/{made['name']}"] = {"versions": [], "visibility": made["visibility"]}
            return 201, {}
        if parts == ["models"]:
            return 200, {"results": [self._model(name) for name in self.models], "next": None, "previous": None}
        if parts[0] == "models":
            return self._of_model(method, "/".join(parts[1:3]), parts[3:], body)
        if parts in (["predictions"], ["trainings"]):
            made = json.loads(body)
            if made["version"] not in self.versions:
                return problem(422, "there is no such version")
            return 201, self._start(made["input"], "predictions", made["version"])
        if parts[-1] == "cancel":
            self.canceled.append(parts[1])
            return 200, {}
        return 200, self.predictions[parts[1]]

    def _of_model(self, method, name, rest, body):
        if name not in self.models:
            return problem(404, f"there is no model {name}")
        model = self.models[name]
        if rest[-1:] == ["trainings"]:
            training = self._start(json.loads(body)["input"], "trainings", rest[1])
            training["destination"] = json.loads(body)["destination"]
            return 201, training
        if not rest:
            if method == "DELETE":
                if model["versions"]:
                    return problem(409, "it has versions")
                del self.models[name]
                return 204, b""
            return 200, self._model(name)
        if len(rest) == 1:
            return 200, {"results": [self._version(one) for one in model["versions"]], "next": None, "previous": None}
        if rest[1] not in model["versions"]:
            return problem(404, "there is no such version")
        if method == "DELETE":
            model["versions"].remove(rest[1])
            return 202, b""
        return 200, self._version(rest[1])

    def _upload(self, body, headers):
        boundary = headers["content-type"].partition("boundary=")[2].encode()
        part = body.split(b"--" + boundary)[1]
        head, _, content = part.partition(b"\r\n\r\n")
        assert b'name="content"' in head
        name = f"file{len(self.files)}"
        self.files[name] = content[:-2]
        return f"{self.url}/files/{name}/data"

    def _start(self, inputs, kind, version):
        made = secrets.token_hex(13)
        more = {"urls": {"get": f"{self.url}/replicate/v1/{kind}/{made}"}, "version": version}
        more["model"] = self.versions[version]["model"]
        self.predictions[made] = {"id": made, "status": "starting", "input": inputs, "output": None, **more}
        return dict(self.predictions[made])

    def _events(self, prediction_id, headers):
        prediction = self.predictions[prediction_id]
        events = [("status", {"status": "processing"}), *self.behave(prediction["input"])]
        outputs = [data["output"] for event, data in events if event == "output"]
        failed = [data for event, data in events if event == "failed"]
        prediction["status"] = "failed" if failed else "succeeded"
        prediction["error"] = failed[0] if failed else None
        prediction["output"] = outputs if len(outputs) > 1 else outputs[0] if outputs else None
        record = {key: prediction[key] for key in ("id", "status", "error", "output")}
        events = [*(each for each in events if each[0] != "failed"), ("done", record)]
        after = int(headers.get("last-event-id") or 0)
        self.resumed.append(after)
        numbered = list(enumerate(events, 1))[after:]
        if self.break_after is not None:
            numbered, self.break_after = numbered[: self.break_after], None
        return [
            f"id: {number}\nevent: {event}\ndata: {json.dumps(data)}\n\n".encode() for number, (event, data) in numbered
        ]


def problem(status, detail):
    return status, {"title": "no", "detail": detail, "status": status}
