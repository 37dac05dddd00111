"""Replicate's HTTP API as it is on the wire: statuses, headers, errors that say what to change."""

import hashlib
import http.client
import json
import random
import urllib.parse

import pytest

from api import Api
from conftest import wait_until
from replicate_support import MODELS, OWNER, push, start

ROOT = "/replicate/v1"
PROBLEM = "application/problem+json"
NOTHING = "0" * 64


@pytest.fixture(scope="module")
def api(home):
    api = start(home)
    yield api
    api.close()


@pytest.fixture(scope="module")
def hello(api, home):
    return push(api, home, "hello", MODELS / "hello")["id"]


@pytest.fixture(scope="module")
def words(api, home):
    return push(api, home, "words", MODELS / "words")["id"]


def ask(api, method, path, body=None, **headers):
    return api.request(method, ROOT + path, body, {name.replace("_", "-"): value for name, value in headers.items()})


def problem(answer, status):
    assert answer.status == status, (answer.status, answer.body[:2000])
    assert answer.headers["content-type"] == PROBLEM, answer.headers["content-type"]
    body = answer.json
    assert body["status"] == status and body["detail"], body
    return body


def ended(api, prediction):
    found = {}

    def over():
        found.update(ask(api, "GET", f"/predictions/{prediction}").json)
        return found["status"] not in ("starting", "processing")

    wait_until(f"prediction {prediction} ends", over, limit_s=60)
    return found


def test_a_plain_creation_answers_at_once(api, hello):
    answer = ask(api, "POST", "/predictions", {"version": hello, "input": {"text": "Ann"}})
    assert answer.status == 201 and "preference-applied" not in answer.headers
    made = answer.json
    assert made["status"] == "starting" and made["output"] is None and made["source"] == "api"
    base = api.home.server()["url"]
    assert made["urls"] == {
        "get": f"{base}{ROOT}/predictions/{made['id']}",
        "cancel": f"{base}{ROOT}/predictions/{made['id']}/cancel",
        "web": f"{base}/predictions/{made['id']}",
    }
    end = ended(api, made["id"])
    assert (end["status"], end["output"], end["logs"]) == ("succeeded", "hello Ann", "greeting Ann\n")
    assert end["metrics"]["predict_time"] <= end["metrics"]["total_time"]


WAITS = [("wait", "wait"), ("wait=20", "wait=20"), ("respond-async, wait=99", "wait=60")]


@pytest.mark.parametrize("prefer, applied", WAITS)
def test_prefer_wait(api, hello, prefer, applied):
    answer = ask(api, "POST", "/predictions", {"version": hello, "input": {"text": "Ben"}}, Prefer=prefer)
    assert answer.status == 201 and answer.headers["preference-applied"] == applied
    assert (answer.json["status"], answer.json["output"]) == ("succeeded", "hello Ben")


def test_a_wait_that_runs_out(api, hello):
    body = {"version": hello, "input": {"text": "Cyd", "seconds": 2.5}}
    answer = ask(api, "POST", "/predictions", body, Prefer="wait=1")
    assert answer.status == 202 and answer.headers["preference-applied"] == "wait=1"
    assert answer.json["status"] == "starting" and answer.json["output"] is None and answer.json["started_at"] is None
    assert ended(api, answer.json["id"])["output"] == "hello Cyd"


def test_three_forms_of_a_version(api, hello):
    for version in (hello, hello.upper(), f"{OWNER}/hello:{hello}", f"{OWNER}/hello"):
        answer = ask(api, "POST", "/predictions", {"version": version, "input": {"text": "Dee"}}, Prefer="wait")
        assert (answer.status, answer.json["output"], answer.json["version"]) == (201, "hello Dee", hello)


def test_a_cancel_with_an_empty_body(api, hello):
    """As the second Python client sends it: JSON by its content type, and nothing in it."""
    made = ask(api, "POST", "/predictions", {"version": hello, "input": {"text": "Eli", "seconds": 100}}).json
    answer = ask(api, "POST", f"/predictions/{made['id']}/cancel", b"", Content_Type="application/json")
    assert answer.status == 200 and answer.json["status"] in ("starting", "processing", "canceled")
    assert ended(api, made["id"])["status"] == "canceled"


def test_cancel_after(api, hello):
    body = {"version": hello, "input": {"text": "Fox", "seconds": 100}}
    answer = ask(api, "POST", "/predictions", body, Cancel_After="1s", Prefer="wait")
    assert answer.status == 201 and answer.json["status"] in ("canceled", "aborted") and answer.json["deadline"]


DEPLOYED = {"model": "acme/hello", "hardware": "cpu", "min_instances": 0, "max_instances": 1}
WRONG = [
    ("POST", "/predictions", {}, {}, 422, "version is required"),
    ("POST", "/predictions", {"version": NOTHING}, {}, 422, "input is required"),
    ("POST", "/predictions", {"version": NOTHING, "input": {}}, {}, 422, "does not exist"),
    ("POST", "/predictions", {"version": "acme/hello:" + NOTHING, "input": {}}, {}, 422, "does not exist"),
    ("POST", "/predictions", {"version": "acme/nothing", "input": {}}, {}, 422, "does not exist"),
    ("POST", "/predictions", {"version": "latest", "input": {}}, {}, 422, "64 hex digits"),
    ("POST", "/predictions", {"version": "acme/hello", "input": []}, {}, 422, "Expected: object, given: array"),
    ("POST", "/predictions", {"version": "acme/hello", "input": {}}, {}, 422, "text is required"),
    ("POST", "/predictions", {"version": "acme/hello", "input": {"text": 5}}, {}, 422, "input.text"),
    ("POST", "/predictions", {"version": "acme/hello", "input": {"text": "x", "times": 6}}, {}, 422, "maximum"),
    ("POST", "/predictions", {"version": "acme/hello", "prompt": "x"}, {}, 422, "property prompt is not allowed"),
    ("POST", "/predictions", {"version": "acme/hello", "input": {}, "webhok": "x"}, {}, 422, "mean webhook?"),
    ("POST", "/predictions", {"version": "acme/hello", "input": {}, "webhook": "x"}, {}, 422, "https://"),
    ("POST", "/predictions", {"version": "acme/hello", "input": {}, "webhook": "ftp://x/y"}, {}, 422, "https://"),
    (
        "POST",
        "/predictions",
        {"version": "acme/hello", "input": {}, "webhook_events_filter": ["end"]},
        {},
        422,
        '"completed"',
    ),
    ("POST", "/predictions", b"{", {}, 400, "line 1"),
    ("POST", "/predictions", b"", {}, 400, "empty"),
    ("POST", "/predictions", b'{"input": "\xff"}', {}, 400, "not JSON"),
    ("POST", "/predictions", b"[" * 100_000, {}, 400, "recursion"),
    ("POST", "/predictions", {"version": "acme/hello", "input": {}}, {"Prefer": "wait=0"}, 400, "from 1 to 60"),
    ("POST", "/predictions", {"version": "acme/hello", "input": {}}, {"Prefer": "wait=x"}, 400, "from 1 to 60"),
    ("POST", "/predictions", {"version": "acme/hello", "input": {}}, {"Cancel-After": "x"}, 400, "from 1s to 24h"),
    ("GET", "/predictions/nothing", None, {}, 404, "prediction nothing"),
    ("GET", "/predictions/" + "0" * 26, None, {}, 404, "prediction"),
    ("POST", "/predictions/nothing/cancel", None, {}, 404, "prediction nothing"),
    ("GET", "/predictions?created_after=yesterday", None, {}, 400, "ISO 8601"),
    ("GET", "/predictions?source=mail", None, {}, 400, "web or api"),
    ("GET", "/predictions?cursor=a&cursor=b", None, {}, 400, "duplicate"),
    ("GET", "/predictions?cursor=nonsense", None, {}, 400, "cursor"),
    ("PUT", "/predictions", {}, {}, 405, "PUT"),
    ("POST", "/models/acme/nothing/predictions", {"input": {}}, {}, 404, "acme/nothing"),
    ("POST", "/models/acme/hello/predictions", {"input": {}, "version": NOTHING}, {}, 422, "version is not allowed"),
    ("POST", "/deployments/acme/nothing/predictions", {"input": {}}, {}, 404, "acme/nothing"),
    ("GET", "/models?sort_by=name", None, {}, 400, "model_created_at"),
    ("GET", "/models?sort_direction=up", None, {}, 400, "asc or desc"),
    ("POST", "/models", {}, {}, 422, "owner is required"),
    ("POST", "/models", {"owner": "A B", "name": "", "visibility": "x", "hardware": 1}, {}, 422, "owner: must be"),
    (
        "POST",
        "/models",
        {"owner": "acme", "name": "hello", "visibility": "private", "hardware": "cpu"},
        {},
        409,
        "acme/hello",
    ),
    (
        "POST",
        "/models",
        {"owner": "acme", "name": "fast", "visibility": "private", "hardware": "gpu-of-tomorrow"},
        {},
        400,
        "gpu-of-tomorrow",
    ),
    ("GET", "/models/acme/nothing", None, {}, 404, "acme/nothing"),
    ("PATCH", "/models/acme/nothing", {}, {}, 404, "acme/nothing"),
    ("PATCH", "/models/acme/hello", {"github_url": "here"}, {}, 422, "github_url"),
    ("PATCH", "/models/acme/hello", {"run_count": 1}, {}, 422, "run_count is not allowed"),
    ("DELETE", "/models/acme/nothing", None, {}, 404, "acme/nothing"),
    ("DELETE", "/models/acme/hello", None, {}, 409, "version"),
    ("GET", "/models/acme/hello/readme", None, {}, 404, "readme"),
    ("GET", "/models/acme/hello/versions/" + NOTHING, None, {}, 404, "version"),
    ("GET", "/models/acme/hello/versions/new", None, {}, 404, "version new"),
    ("DELETE", "/models/acme/hello/versions/" + NOTHING, None, {}, 404, "version"),
    ("POST", f"/models/acme/hello/versions/{NOTHING}/trainings", {}, {}, 404, "version"),
    ("GET", "/trainings/nothing", None, {}, 404, "training nothing"),
    ("POST", "/trainings/nothing/cancel", None, {}, 404, "training nothing"),
    ("POST", "/deployments", {"name": "a/b"}, {}, 422, "model is required"),
    ("POST", "/deployments", {"name": "front", "version": NOTHING, **DEPLOYED}, {}, 422, "does not exist"),
    ("GET", "/deployments/acme/nothing", None, {}, 404, "acme/nothing"),
    ("PATCH", "/deployments/acme/nothing", {}, {}, 404, "acme/nothing"),
    ("DELETE", "/deployments/acme/nothing", None, {}, 404, "acme/nothing"),
    ("POST", "/files", {"content": "x"}, {}, 415, "form"),
    ("GET", "/files/nothing", None, {}, 404, "file nothing"),
    ("DELETE", "/files/" + "0" * 26, None, {}, 404, "file"),
    ("GET", "/files/nothing/download", None, {}, 400, "signature"),
    ("GET", "/files/nothing/download?expiry=99999999999&owner=clunk&signature=AAAA", None, {}, 403, "signature"),
    ("GET", "/files/nothing/download?expiry=1&owner=clunk&signature=AAAA", None, {}, 403, "over"),
    ("GET", "/collections/nothing", None, {}, 404, "nothing"),
    ("GET", "/search", None, {}, 400, "query"),
    ("GET", "/search?query=x&limit=51", None, {}, 400, "from 1 to 50"),
    ("GET", "/nothing", None, {}, 404, "/replicate/v1/nothing"),
    ("GET", "/models/%ff/x", None, {}, 400, "UTF-8"),
]


@pytest.mark.parametrize("method, path, body, headers, status, part", WRONG)
def test_wrong_requests_are_refused_with_what_to_change(api, hello, method, path, body, headers, status, part):
    answer = api.request(method, ROOT + path, body, headers)
    assert part in problem(answer, status)["detail"], answer.json


def test_models_of_folders_are_in_no_list_and_a_wrong_version_is_told_the_newest(api, hello):
    ask(api, "POST", "/models", {"owner": "local", "name": "folder-1", "visibility": "private", "hardware": "cpu"})
    assert ask(api, "GET", "/models/local/folder-1").status == 200
    assert '"local"' not in ask(api, "GET", "/models?sort_by=model_created_at").body.decode()
    wrong = ask(api, "POST", "/predictions", {"version": "acme/hello:zzzz", "input": {}})
    assert hello in problem(wrong, 422)["hint"]


def test_no_token_and_a_wrong_one(api):
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic abc"}):
        url = urllib.parse.urlsplit(api.home.server()["url"])
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
        connection.request("GET", ROOT + "/predictions", headers=header)
        answer = connection.getresponse()
        body = json.loads(answer.read())
        connection.close()
        assert answer.status == 401 and answer.headers["content-type"] == PROBLEM
        assert (body["title"], body["status"]) == ("Unauthenticated", 401)
        assert body["detail"] == "You did not pass a valid authentication token"


def test_every_mistake_of_a_body_is_said(api, hello):
    body = {"input": {"times": "many", "seconds": -1, "fail": "no"}, "version": hello}
    fields = problem(ask(api, "POST", "/predictions", body), 422)["invalid_fields"]
    assert {field["field"] for field in fields} >= {"input", "input.times", "input.seconds", "input.fail"}


def test_rate_limits_are_counted(api):
    first = ask(api, "GET", "/account").headers
    second = ask(api, "GET", "/account").headers
    assert int(second["ratelimit-remaining"]) <= int(first["ratelimit-remaining"])
    assert int(first["ratelimit-reset"]) >= 1


def test_a_rate_limit_that_is_set_refuses(own_home):
    own_home.env["CLUNK_REQUESTS_PER_MINUTE"] = "3"
    own_home.ok("up")
    api = Api(own_home)
    assert [ask(api, "GET", "/account").headers["ratelimit-remaining"] for _ in range(3)] == ["2", "1", "0"]
    answer = ask(api, "GET", "/account")
    body = problem(answer, 429)
    assert "throttled" in body["detail"] and 1 <= int(answer.headers["retry-after"]) <= 20
    # Making predictions is counted apart.
    problem(ask(api, "POST", "/predictions", {}), 422)
    api.close()


def test_addresses_are_those_that_the_client_knows(api, hello):
    headers = {"Host": "clunk.example", "X-Forwarded-Proto": "https"}
    made = ask(api, "POST", "/predictions", {"version": hello, "input": {"text": "Gil"}}, **headers).json
    assert made["urls"]["get"] == f"https://clunk.example{ROOT}/predictions/{made['id']}"
    page = ask(api, "GET", "/predictions?source=api", **headers).json
    assert all(each["urls"]["get"].startswith("https://clunk.example/") for each in page["results"])
    # A host that is none is not repeated.
    strange = ask(api, "GET", f"/predictions/{made['id']}", Host='x"/><script>').json
    assert strange["urls"]["get"].startswith(api.home.server()["url"])


def test_a_public_address_that_the_operator_sets(own_home):
    own_home.env["CLUNK_PUBLIC_URL"] = "https://clunk.example/below/"
    api = start(own_home)
    made = ask(
        api, "POST", "/models", {"owner": "acme", "name": "front", "visibility": "private", "hardware": "cpu"}
    ).json
    assert made["url"] == "https://clunk.example/below/models/acme/front"
    api.close()
    own_home.down()
    own_home.env["CLUNK_PUBLIC_URL"] = "clunk.example"
    refused = own_home.run("up")
    assert refused.returncode == 2 and "CLUNK_PUBLIC_URL must begin with https://" in refused.stderr


def test_pages_there_and_back(api, hello):
    bodies = [{"version": hello, "input": {"text": str(number)}} for number in range(203)]
    made = [ask(api, "POST", "/predictions", body).json["id"] for body in bodies]
    base = api.home.server()["url"]
    pages, path = [], "/predictions?source=api"
    while path and len(pages) < 3:
        pages.append(ask(api, "GET", path).json)
        link = pages[-1]["next"]
        assert link is None or link.startswith(f"{base}{ROOT}/predictions?source=api&cursor=")
        path = link and link.removeprefix(base + ROOT)
    seen = [each["id"] for page in pages for each in page["results"]]
    assert seen[:203] == made[::-1] and len(set(seen)) == len(seen)
    assert [len(page["results"]) for page in pages][:2] == [100, 100] and pages[0]["previous"] is None
    back = ask(api, "GET", pages[2]["previous"].removeprefix(base + ROOT)).json
    assert [each["id"] for each in back["results"]] == seen[100:200]
    back = ask(api, "GET", back["previous"].removeprefix(base + ROOT)).json
    assert [each["id"] for each in back["results"]] == seen[:100] and back["previous"] is None


def events(api, path, **headers):
    """All events of a stream, without a token: `(name, id, data)`."""
    url = urllib.parse.urlsplit(api.home.server()["url"])
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, (answer.status, text)
    assert answer.headers["content-type"] == "text/event-stream"
    found = []
    for block in text.split("\n\n"):
        lines = [line.partition(": ")[::2] for line in block.splitlines() if not line.startswith(":")]
        if lines:
            fields = dict(lines)
            data = "\n".join(value for name, value in lines if name == "data")
            found.append((fields["event"], fields["id"], data))
    return found


def test_a_stream_needs_no_token_and_is_read_again(api, words):
    made = ask(api, "POST", "/predictions", {"version": words, "input": {"text": "one two three"}}).json
    path = made["urls"]["stream"].removeprefix(api.home.server()["url"])
    live = events(api, path)
    assert "".join(data for name, _, data in live if name == "output") == "one two three"
    assert live[-1][0] == "done" and json.loads(live[-1][2]) == {}
    assert "".join(data for name, _, data in events(api, path) if name == "output") == "one two three"
    forged = path.replace(made["id"], made["id"][:-1] + ("0" if made["id"][-1] != "0" else "1"))
    url = urllib.parse.urlsplit(api.home.server()["url"])
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    connection.request("GET", forged)
    answer = connection.getresponse()
    assert answer.status == 401 and answer.headers["content-type"] == PROBLEM
    connection.close()


def test_a_reader_of_a_stream_that_comes_back(api, words):
    body = {"version": words, "input": {"text": "a b c", "pause": 1}}
    made = ask(api, "POST", "/predictions", body).json
    path = made["urls"]["stream"].removeprefix(api.home.server()["url"])
    url = urllib.parse.urlsplit(api.home.server()["url"])
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    connection.request("GET", path)
    answer, last = connection.getresponse(), None
    while True:
        line = answer.readline().decode().rstrip("\n")
        if line.startswith("id: "):
            last = line[4:]
        if line == "data: a":
            break
    connection.close()
    rest = [data for name, _, data in events(api, path, **{"Last-Event-ID": last}) if name == "output"]
    assert rest == [" b", " c"]


def test_a_canceled_stream_says_so(api, words):
    made = ask(api, "POST", "/predictions", {"version": words, "input": {"text": "a b", "pause": 50}}).json
    ask(api, "POST", f"/predictions/{made['id']}/cancel")
    path = made["urls"]["stream"].removeprefix(api.home.server()["url"])
    assert json.loads(events(api, path)[-1][2]) == {"reason": "canceled"}


def form(**parts):
    """A multipart body: `name=(content, filename, type)` or `name=text`."""
    body = b""
    for name, value in parts.items():
        content, filename, media = value if isinstance(value, tuple) else (value, None, None)
        head = f'--edge\r\nContent-Disposition: form-data; name="{name}"'
        head += f'; filename="{filename}"' if filename else ""
        head += f"\r\nContent-Type: {media}" if media else ""
        body += head.encode() + b"\r\n\r\n" + content + b"\r\n"
    return body + b"--edge--\r\n"


FORM = "multipart/form-data; boundary=edge"


def upload(api, body):
    return ask(api, "POST", "/files", body, Content_Type=FORM)


def test_uploads(api):
    content = random.Random(4).randbytes(3 << 20)
    answer = upload(api, form(content=(content, "noise.bin", "application/x-noise"), metadata=b'{"a": [1]}'))
    assert answer.status == 201
    file = answer.json
    assert (file["name"], file["content_type"], file["size"]) == ("noise.bin", "application/x-noise", len(content))
    assert file["checksums"] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "md5": hashlib.md5(content).hexdigest(),
    }
    assert file["etag"] == file["checksums"]["md5"] and file["metadata"] == {"a": [1]}
    path = file["urls"]["download"].removeprefix(api.home.server()["url"])
    url = urllib.parse.urlsplit(api.home.server()["url"])
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    connection.request("GET", path)
    fetched = connection.getresponse()
    assert fetched.read() == content and fetched.headers["content-type"] == "application/x-noise"
    assert fetched.headers["content-security-policy"].startswith("sandbox")
    connection.close()
    assert file["id"] in [each["id"] for each in ask(api, "GET", "/files").json["results"]]
    assert ask(api, "DELETE", f"/files/{file['id']}").status == 204
    problem(ask(api, "GET", f"/files/{file['id']}"), 404)


@pytest.mark.parametrize(
    "body, status, part",
    [
        (form(metadata=b"{}"), 422, "content"),
        (form(content=(b"x", "a", None), metadata=b"{"), 422, "metadata is not JSON"),
        (form(content=(b"x", "a", None), metadata=b"[]"), 422, "JSON object"),
        (form(content=(b"x", "a" * 256, None)), 422, "255 bytes"),
        (form(content=(b"x", "a", None), extra=b"?"), 422, "extra"),
        (form(content=(b"x", "a", None), metadata=b"x" * 100_000), 413, "metadata"),
        (form(content=(b"x", "a", None))[:-20], 400, "form"),
        (b"no form at all", 400, "form"),
    ],
)
def test_wrong_uploads(api, body, status, part):
    assert part in problem(upload(api, body), status)["detail"]


def test_a_name_of_a_file_is_no_path(api):
    assert upload(api, form(content=(b"x", "../../etc/passwd", None))).json["name"] == "passwd"


def test_models_that_are_public_stay(api, home):
    push(api, home, "open", MODELS / "hello", visibility="public", readme="# Open", description="Greets in public")
    shown = ask(api, "GET", "/models/acme/open").json
    assert (shown["visibility"], shown["description"]) == ("public", "Greets in public")
    readme = ask(api, "GET", "/models/acme/open/readme")
    assert readme.body == b"# Open" and readme.headers["content-type"].startswith("text/plain")
    slug = ask(api, "GET", "/collections").json["results"][0]["slug"]
    assert "open" in [model["name"] for model in ask(api, "GET", f"/collections/{slug}").json["models"]]
    version = shown["latest_version"]["id"]
    assert "public" in problem(ask(api, "DELETE", f"/models/acme/open/versions/{version}"), 403)["detail"]
    problem(ask(api, "DELETE", "/models/acme/open"), 403)
    assert ask(api, "PATCH", "/models/acme/open", {"visibility": "private"}).json["visibility"] == "private"
    assert ask(api, "DELETE", f"/models/acme/open/versions/{version}").status == 202
    assert ask(api, "DELETE", "/models/acme/open").status == 204


def test_a_search_that_is_bare_or_quoted(api, hello):
    for query in (b"hello", b'"hello"'):
        found = ask(api, "QUERY", "/models", query, Content_Type="text/plain").json["results"]
        assert "hello" in [model["name"] for model in found]
    found = ask(api, "GET", "/search?query=hello&limit=3").json
    assert found["query"] == "hello" and found["collections"] == [] and found["pages"] == []
    assert "hello" in [entry["model"]["name"] for entry in found["models"]]
    assert all(0 <= entry["metadata"]["score"] <= 1 for entry in found["models"])


def test_a_client_that_is_not_official_gets_addresses(api, home):
    push(api, home, "shout", MODELS / "shout")
    uploaded = upload(api, form(content=(b"near", "a.txt", "text/plain"))).json
    body = {"version": "acme/shout", "input": {"document": uploaded["urls"]["get"]}}
    plain = ask(api, "POST", "/predictions", body, Prefer="wait").json
    assert plain["output"].startswith("http://") and plain["input"] == body["input"]
    official = ask(api, "GET", f"/predictions/{plain['id']}", User_Agent="replicate-python/1.0.7").json
    assert official["output"].startswith("data:text/plain;base64,")
    headers = {"X_Forwarded_Proto": "https", "User_Agent": "replicate-python/1.0.7"}
    secure = ask(api, "GET", f"/predictions/{plain['id']}", **headers).json
    assert secure["output"].startswith("https://")


def test_files_under_an_address_that_only_clients_know(api, home):
    push(api, home, "shout", MODELS / "shout")
    outside = {"Host": "clunk.example", "X-Forwarded-Proto": "https"}
    uploaded = ask(api, "POST", "/files", form(content=(b"far", "a.txt", None)), **outside, Content_Type=FORM).json
    for address in (uploaded["urls"]["get"], uploaded["urls"]["download"]):
        assert address.startswith("https://clunk.example/")
        body = {"version": "acme/shout", "input": {"document": address}}
        made = ask(api, "POST", "/predictions", body, Prefer="wait", **outside).json
        assert made["status"] == "succeeded" and made["input"] == body["input"], made
        # And what came out goes in again.
        again = {**body, "input": {"document": made["output"]}}
        assert ask(api, "POST", "/predictions", again, Prefer="wait", **outside).json["status"] == "succeeded"


def test_bodies_of_chance(api, hello):
    """Whatever comes, the answer is one of the API's, and the server lives."""
    chance = random.Random(19)
    good = json.dumps({"version": hello, "input": {"text": "x"}, "webhook": "http://127.0.0.1:9/", "stream": True})
    paths = ("/predictions", "/models", "/deployments", "/models/acme/hello/predictions")
    for _ in range(300):
        body = bytearray(good.encode())
        for _ in range(chance.randrange(1, 8)):
            at = chance.randrange(len(body) + 1)
            body[at:at] = chance.randbytes(chance.randrange(3))
            del body[chance.randrange(len(body) + 1) :][:2]
        answer = ask(api, "POST", chance.choice(paths), bytes(body), Content_Type="application/json")
        assert answer.status in (201, 400, 409, 422), (answer.status, bytes(body), answer.body)
    assert ask(api, "GET", "/account").status == 200
