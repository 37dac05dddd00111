"""Predictions of pushed models: how they end, what their followers hear, and their webhooks."""

import base64
import concurrent.futures
import hashlib
import hmac
import http.server
import json
import queue
import sqlite3
import threading
import urllib.request

import pytest
from api import Api
from conftest import wait_until

# An end comes within this, on a busy machine with a container to start. Seconds.
PATIENCE_S = 60

MODEL = '''
from cog import *
from typing import *
import time

class Out(BaseModel):
    text: str
    file: Path

class Runner(BaseRunner):
    def run(self, mode: str = "text", seconds: float = 0, key: Secret = None) -> Out:
        print("mode", mode, flush=True)
        if mode == "raise":
            raise ValueError("bad thing")
        time.sleep(seconds)
        self.record_metric("tokens", 3, mode="incr")
        self.record_metric("tokens", 4, mode="incr")
        with open("/tmp/out.txt", "w") as file:
            file.write("content of " + mode)
        return Out(text=mode, file=Path("/tmp/out.txt"))
'''

STREAM = '''
from cog import *
import time

class Runner(BaseRunner):
    def run(self, count: int = 3, pause: float = 0) -> ConcatenateIterator[str]:
        for at in range(count):
            print("at", at, flush=True)
            time.sleep(pause)
            yield f"{at} "
'''

TRAINED = '''
from cog import *

class TrainingOutput(BaseModel):
    weights: Path

def train(text: str, times: int = 1) -> TrainingOutput:
    with open("/tmp/weights.txt", "w") as file:
        file.write(text * times)
    return TrainingOutput(weights=Path("/tmp/weights.txt"))

class Runner(BaseRunner):
    def setup(self, weights: Path = None):
        self.weights = open(str(weights)).read() if weights else "untrained"

    def run(self, name: str) -> str:
        return f"{name}: {self.weights}"
'''


def write(folder, source, settings='run: "run.py:Runner"\n'):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cog.yaml").write_text('build:\n  python_version: "3.13"\n' + settings)
    (folder / "run.py").write_text(source)
    return folder


@pytest.fixture(scope="module")
def models(home, tmp_path_factory):
    """A server with models: their names and versions."""
    folder = tmp_path_factory.mktemp("models")
    pushed = {}
    trained = 'run: "run.py:Runner"\ntrain: "run.py:train"\n'
    for name, source, settings in (
        ("plain", MODEL, 'run: "run.py:Runner"\n'),
        ("stream", STREAM, 'run: "run.py:Runner"\n'),
        ("trained", TRAINED, trained),
    ):
        said = home.ok("push", write(folder / name, source, settings), f"core/{name}", "--quiet")
        pushed[name] = said.strip().partition(":")[2]
    return pushed


@pytest.fixture
def api(home, models):
    api = Api(home)
    yield api
    api.close()


def predict(api, name, wait_s=50, **body):
    answer = api.request("POST", f"/api/models/core/{name}/predictions?wait_s={wait_s}", {"input": {}, **body})
    assert answer.status == 201, (answer.status, answer.body[:2000])
    return answer.json


def ended(api, prediction):
    found = api.get(f"/api/predictions/{prediction['id']}?wait_s={PATIENCE_S}")
    assert found["status"] not in ("starting", "processing"), found
    return found


def fetch(url):
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        return answer.read(), answer.headers


def events(home, prediction, last=None):
    """The events of a prediction until its end: `(id, name, data)`."""
    token = (home.path / "token").read_text().strip()
    request = urllib.request.Request(f"{home.server()['url']}/api/predictions/{prediction['id']}/events")
    request.add_header("Authorization", f"Bearer {token}")
    if last is not None:
        request.add_header("Last-Event-ID", last)
    found, event = [], {}
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        for line in answer:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field:
                event[field] = value
            elif event.get("event"):
                found.append((event["id"], event["event"], json.loads(event["data"])))
                event = {}
    return found


def test_a_prediction_has_its_output_logs_metrics_and_file(api, models):
    done = predict(api, "plain", input={"mode": "text", "key": "hunter2"})
    assert (done["status"], done["error"], done["version"]) == ("succeeded", None, models["plain"])
    assert done["logs"] == "mode text\n"
    assert (done["output"]["text"], done["metrics"]["tokens"]) == ("text", 7)
    assert 0 <= done["metrics"]["predict_time"] <= done["metrics"]["total_time"]
    content, headers = fetch(done["output"]["file"])
    assert content == b"content of text"
    assert "sandbox" in headers["Content-Security-Policy"]
    assert "hunter2" not in json.dumps(api.get(f"/api/predictions/{done['id']}"))
    with pytest.raises(urllib.error.HTTPError) as refused:
        fetch(done["output"]["file"].replace("signature=", "signature=0"))
    assert refused.value.code == 401


def test_what_a_model_raises_is_the_error(api, models):
    done = predict(api, "plain", input={"mode": "raise"})
    assert (done["status"], done["error"], done["output"]) == ("failed", "bad thing", None)
    assert "ValueError: bad thing" in done["logs"]


def test_an_input_that_does_not_fit_is_refused_with_its_place(api, models):
    answer = api.request("POST", "/api/models/core/plain/predictions", {"input": {"seconds": "long"}})
    assert (answer.status, answer.json["error"]["code"]) == (422, "invalid-input")
    assert "input.seconds" in answer.json["error"]["message"]
    assert api.request("POST", "/api/models/core/nothing/predictions", {"input": {}}).status == 404


def test_a_running_prediction_is_canceled_and_its_container_goes_on(api, models):
    predict(api, "plain")
    running = predict(api, "plain", wait_s=0, input={"seconds": 600})
    started = next(event for event in events_until(api.home, running, "processing"))
    assert started
    canceled = api.request("POST", f"/api/predictions/{running['id']}/cancel").json
    assert canceled["status"] == "canceled"
    again = api.request("POST", f"/api/predictions/{running['id']}/cancel").json
    assert (again["status"], again["completed_ms"]) == ("canceled", canceled["completed_ms"])
    assert predict(api, "plain")["status"] == "succeeded"


def events_until(home, prediction, status):
    """Follows until it has that status."""
    api = Api(home)
    while True:
        found = api.get(f"/api/predictions/{prediction['id']}?wait_s=1")
        if found["status"] == status:
            api.close()
            yield found
            return


def test_a_deadline_cancels_what_runs_and_aborts_what_waits(api, models):
    predict(api, "plain")
    running = predict(api, "plain", wait_s=0, input={"seconds": 600}, cancel_after_s=5)
    next(events_until(api.home, running, "processing"))
    assert ended(api, running)["status"] == "canceled"
    # It has never started when its time is over.
    waiting = predict(api, "plain", wait_s=0, input={"seconds": 600}, cancel_after_s=0)
    assert ended(api, waiting)["status"] in ("aborted", "canceled")


def test_followers_hear_everything_in_order_and_can_come_back(home, api, models):
    made = predict(api, "stream", wait_s=0, input={"count": 5, "pause": 0.05})
    heard = events(home, made)
    outputs = [data for _, name, data in heard if name == "output"]
    assert outputs == [{"index": at, "output": f"{at} "} for at in range(5)]
    logs = "".join(data["text"] for _, name, data in heard if name == "logs")
    assert logs == "".join(f"at {at}\n" for at in range(5))
    assert (heard[-1][1], heard[-1][2]["output"]) == ("done", [f"{at} " for at in range(5)])
    # From the third part on, also when it has ended long ago.
    third = [place for place, name, _ in heard if name == "output"][2]
    rest = [data["index"] for _, name, data in events(home, made, third) if name == "output"]
    assert rest == [3, 4]
    assert [data["index"] for _, name, data in events(home, made) if name == "output"] == [0, 1, 2, 3, 4]


def test_many_at_once_are_all_answered(home, models):
    def one(number):
        api = Api(home)
        try:
            return predict(api, "stream", input={"count": number % 4})["output"]
        finally:
            api.close()

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        found = list(pool.map(one, range(64)))
    assert found == [[f"{at} " for at in range(number % 4)] for number in range(64)]


class Receiver(http.server.ThreadingHTTPServer):
    """Takes webhooks; refuses the first `refuse` ends with a status."""

    daemon_threads = True

    def __init__(self, refuse=0, status=500):
        self.heard = queue.Queue()
        self.refuse = refuse
        self.status = status
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = 200
        if json.loads(body)["status"] == "succeeded" and self.server.refuse:
            self.server.refuse -= 1
            status = self.server.status
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.heard.put((dict(self.headers), body, status))

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    servers = []

    def make(refuse=0, status=500):
        servers.append(Receiver(refuse, status))
        return servers[-1]

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


def check_signature(home, headers, body):
    headers = {name.lower(): value for name, value in headers.items()}
    secret = (home.path / "webhook-secret").read_text().strip()
    key = base64.b64decode(secret.partition("_")[2])
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert f"v1,{expected}" in headers["webhook-signature"].split()
    return headers["webhook-id"]


def test_the_logs_of_a_predictions_call_are_its_own(home, api, models):
    done = predict(api, "plain", input={"mode": "spoken"})
    assert home.ok("call", "logs", f"call-{done['id']}") == done["logs"] == "mode spoken\n"
    silent = predict(api, "trained", input={"name": "x"})
    said = home.run("call", "logs", f"call-{silent['id']}")
    assert (said.returncode, said.stdout) == (0, "") and "has ended and printed nothing" in said.stderr, said


def test_a_webhook_that_is_not_taken_is_sent_again_and_once_more_on_demand(home, api, models, receiver):
    server = receiver(refuse=1)
    made = predict(api, "plain", webhook=server.url, webhook_events=["completed"])
    assert made["status"] == "succeeded"
    taken = []
    for status in (500, 200):
        headers, body, found = server.heard.get(timeout=PATIENCE_S)
        assert (found, json.loads(body)["id"]) == (status, made["id"])
        taken.append(check_signature(home, headers, body))
    assert api.request("POST", f"/api/predictions/{made['id']}/webhook").status == 202
    headers, body, _ = server.heard.get(timeout=PATIENCE_S)
    taken.append(check_signature(home, headers, body))
    assert len(set(taken)) == 1, "a receiver can tell that it is the same"
    assert json.loads(body)["output"]["text"] == "text"
    assert server.heard.empty()


def test_a_webhook_that_is_gone_is_not_sent_again(home, api, models, receiver):
    server = receiver(refuse=1, status=410)
    made = predict(api, "plain", webhook=server.url, webhook_events=["completed"])
    assert server.heard.get(timeout=PATIENCE_S)[2] == 410

    def settled():
        with sqlite3.connect(f"file:{home.path / 'clunk.db'}?mode=ro", uri=True) as database:
            return not database.execute("SELECT count(*) FROM webhooks").fetchone()[0]

    wait_until("nothing is to be sent", settled, PATIENCE_S)
    assert server.heard.empty(), made


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "http://[fe80::1]/", "http://a/" + "x" * 2000])
def test_webhooks_to_nowhere_are_refused(api, models, url):
    answer = api.request("POST", "/api/models/core/plain/predictions", {"input": {}, "webhook": url})
    assert answer.status == 400 and "webhook" in answer.json["error"]["message"], answer.body


def test_webhooks_of_a_run_come_in_order_and_not_too_often(home, api, models, receiver):
    server = receiver()
    asked = ["start", "output", "logs", "completed"]
    made = predict(api, "stream", input={"count": 40, "pause": 0.05}, webhook=server.url, webhook_events=asked)
    heard = []
    while not heard or heard[-1][0] != "completed":
        headers, body, _ = server.heard.get(timeout=PATIENCE_S)
        check_signature(home, headers, body)
        event = {name.lower(): value for name, value in headers.items()}["clunk-event"]
        heard.append((event, json.loads(body)))
    assert heard[0][0] == "start" and heard[-1][1]["output"] == made["output"]
    lengths = [len(body["output"] or []) for event, body in heard if event == "output"]
    assert lengths == sorted(lengths) and 1 <= len(lengths) <= 10
    assert server.heard.empty()


def test_a_training_makes_a_version_with_its_weights(home, api, models):
    assert predict(api, "trained", input={"name": "a"})["output"] == "a: untrained"
    new = {"owner": "core", "name": "tuned", "visibility": "private", "hardware": "cpu"}
    assert api.request("POST", "/replicate/v1/models", new).status in (201, 409)
    path = f"/replicate/v1/models/core/trained/versions/{models['trained']}/trainings"
    asked = {"destination": "core/tuned", "input": {"text": "x", "times": 3}}
    made = api.request("POST", path, asked)
    assert made.status == 201, made.body
    done = ended(api, made.json)
    assert done["status"] == "succeeded", done
    destination, _, version = done["output"]["version"].partition(":")
    assert (destination, version == models["trained"]) == ("core/tuned", False)
    assert fetch(done["output"]["weights"])[0] == b"xxx"
    assert predict(api, "tuned", input={"name": "a"}, version=version)["output"] == "a: xxx"
    # The same weights again are the same version, and the model that was trained is as it was.
    again = ended(api, api.request("POST", path, asked).json)
    assert again["output"]["version"] == done["output"]["version"]
    assert predict(api, "trained", input={"name": "a"})["output"] == "a: untrained"


def test_a_deployment_keeps_its_name_over_releases(api, models):
    api.request("DELETE", "/replicate/v1/deployments/core/live")
    new = {"name": "live", "model": "core/stream", "version": models["stream"], "hardware": "cpu"}
    owner = api.get("/replicate/v1/account")["username"]
    made = api.request("POST", "/replicate/v1/deployments", {**new, "min_instances": 0, "max_instances": 1})
    assert made.status == 201, made.body
    path = f"/replicate/v1/deployments/{owner}/live"
    waiting = [api.request("POST", f"{path}/predictions", {"input": {"count": 2, "pause": 0.1}}).json for _ in range(4)]
    changed = api.request("PATCH", path, {"max_instances": 2}).json
    assert (made.json["current_release"]["number"], changed["current_release"]["number"]) == (1, 2)
    waiting.append(api.request("POST", f"{path}/predictions", {"input": {"count": 2}}).json)
    found = [ended(api, prediction) for prediction in waiting]
    assert [each["output"] for each in found] == [["0 ", "1 "]] * 5
    assert [each["deployment"][1] for each in found] == [1, 1, 1, 1, 2]
    refused = api.request("DELETE", f"/replicate/v1/models/core/stream/versions/{models['stream']}")
    assert refused.status >= 400 and "deployment" in refused.body.decode()
    assert api.request("DELETE", path).status == 204
    assert api.request("POST", f"{path}/predictions", {"input": {}}).status == 404
