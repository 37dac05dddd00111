"""What the differential test asks both servers: each case is a few requests to one project and what was observed."""

import json
import urllib.parse

from conftest import wait_until

CASES = {}
TEXT_FILE = "data:text/plain;base64,aGVsbG8="
PNG_FILE = "data:image/png;base64,iVBORw0KGgo="
ASYNC = {"Prefer": "respond-async"}
EVENTS = {"Accept": "text/event-stream"}


class Case:
    def __init__(self, function, project, ready, start):
        self.function = function
        self.name = function.__name__
        self.project = project
        self.ready = ready
        self.start = start

    @property
    def key(self):
        """Cases with the same key share their servers."""
        return json.dumps([self.project, self.ready, self.start], sort_keys=True)


def case(project, ready="READY", **start):
    def register(function):
        assert function.__name__ not in CASES, function.__name__
        CASES[function.__name__] = Case(function, project, ready, start)
        return function

    return register


def seen(answer, *headers):
    """What is compared of an answer."""
    kept = {name: answer.headers.get(name) for name in headers}
    kind = answer.headers.get("content-type")
    return {"status": answer.status, "type": kind, "body": answer.shown, **kept}


def asked(side, **body):
    """A prediction, waited for."""
    return seen(side.predict(**body))


def each(side, inputs, **body):
    """The same request with one input after another."""
    return [asked(side, input=one, **body) for one in inputs]


# The root, the schema, routes that are not there.


@case("echo")
def root(side):
    return seen(side.ask("GET", "/"))


@case("echo")
def openapi(side):
    return seen(side.ask("GET", "/openapi.json"))


@case("echo")
def unknown_routes(side):
    paths = ["/nowhere", "/predictions/", "/predictions/a/b/c", "//predictions", "/docs"]
    return [seen(side.ask("GET", path)) for path in paths]


@case("echo")
def wrong_methods(side):
    asked = [("GET", "/predictions"), ("DELETE", "/predictions/a"), ("POST", "/health-check"), ("PUT", "/"),
             ("GET", "/predictions/a/cancel"), ("GET", "/shutdown"), ("PATCH", "/openapi.json")]  # fmt: skip
    return [seen(side.ask(method, path), "allow") for method, path in asked]


@case("echo")
def head_requests(side):
    return [seen(side.ask("HEAD", path)) for path in ("/", "/health-check", "/nowhere")]


@case("echo")
def get_of_an_unknown_prediction(side):
    return seen(side.ask("GET", "/predictions/never-made"), "allow")


# Health.


@case("echo")
def health_ready(side):
    body = side.server.health()
    body["version"] = sorted(body["version"])
    body["setup"]["logs"] = sorted(line for line in body["setup"]["logs"].splitlines() if line == "loading")
    return body


@case("slow")
def health_busy(side):
    gate = side.gate()
    made = side.predict(ASYNC, id="busy-1", input={"until": gate})
    side.wait_until("processing", lambda: side.server.health()["status"] == "BUSY")
    observed = {"made": seen(made), "during": side.server.health()["status"]}
    side.open_gate()
    side.settle()
    return {**observed, "after": side.server.health()["status"]}


@case("setup_fails", ready="SETUP_FAILED")
def setup_that_raises(side):
    body = side.server.health()
    logs = body["setup"].pop("logs")
    body["version"] = sorted(body["version"])
    logged = ["trying" in logs, "no weights here" in logs]
    refused = side.predict(input={})
    return {"health": body, "logged": logged, "status": refused.status, "kind": sorted(refused.json)}


@case("import_fails", ready="SETUP_FAILED")
def module_that_cannot_be_imported(side):
    body = side.server.health()
    logs = body["setup"].pop("logs")
    body["version"] = sorted(body["version"])
    refused = side.predict(input={})
    return {"health": body, "logged": "a_package_that_is_nowhere" in logs, "status": refused.status}


@case("setup_waits", ready="STARTING", gate=True)
def setup_that_has_not_finished(side):
    body = side.server.health()
    body["setup"].pop("logs", None)
    body["version"] = sorted(body["version"])
    refused = seen(side.server.predict(input={}))
    other = [side.ask("GET", "/").status, side.ask("GET", "/openapi.json").status]
    canceled = seen(side.ask("POST", "/predictions/none/cancel"))
    side.open_gate()
    side.server.wait_status("READY")
    served = asked(side, input={"n": 4})
    return {"health": body, "refused": refused, "other": other, "canceled": canceled, "served": served}


@case("setup_waits", ready="SETUP_FAILED", gate=True, env={"COG_SETUP_TIMEOUT": "1"})
def setup_that_takes_too_long(side):
    body = side.server.health()
    del body["setup"]["logs"]
    body["version"] = sorted(body["version"])
    return {"health": body, "refused": side.predict(input={}).status}


@case("health", ready=None, gate="well")
def health_check_of_the_user(side):
    def health(word):
        side.write_gate(word)
        body = side.server.health()
        return {"status": body["status"], "error": body.get("user_healthcheck_error")}

    side.server.wait_status("READY")
    observed = [health(word) for word in ("well", "ill", "raise", "well")]
    side.write_gate("ill")
    served = asked(side, input={})
    return [*observed, served]


# Predictions: what comes back.


@case("echo")
def succeeds(side):
    return asked(side, input={"s": "a"})


@case("echo")
def succeeds_with_every_input(side):
    given = {"s": "ü", "count": 60, "scale": -2.5, "flag": True, "mode": "ok", "size": 16, "short": "abcd", "opt": "x"}
    return asked(side, input=given)


@case("echo")
def keeps_the_given_id(side):
    ids = ["mine", "a b", "ü", "x" * 300, "", "../../etc"]
    return [asked(side, id=one, input={"s": "a"}) for one in ids]


@case("echo")
def logs_are_kept(side):
    return asked(side, input={"s": "a", "mode": "print"})


@case("echo")
def failures(side):
    observed = each(side, [{"s": "a", "mode": mode} for mode in ("fail", "empty", "quit")])
    return [*observed, asked(side, input={"s": "works after"})]


@case("echo")
def unknown_inputs_are_dropped(side):
    return each(side, [{"s": "a", "more": 1}, {"s": "a", "S": "b", "": None}])


@case("echo")
def unknown_keys_of_the_request_are_ignored(side):
    return asked(side, input={"s": "a"}, version="x", created_at=5, output_file_prefix="y", stream=True)


@case("echo")
def missing_input(side):
    return [asked(side, input={}), asked(side), asked(side, input=None), asked(side, input={"opt": "x"})]


@case("echo")
def wrong_types(side):
    wrong = [{"s": 1}, {"s": None}, {"s": ["a"]}, {"s": {"a": 1}}, {"s": True}, {"s": "a", "count": "5"},
             {"s": "a", "count": 1.5}, {"s": "a", "count": True}, {"s": "a", "scale": "1"}, {"s": "a", "flag": 1},
             {"s": "a", "flag": "true"}, {"s": "a", "size": "4"}, {"s": "a", "opt": 1}]  # fmt: skip
    return each(side, wrong)


@case("echo")
def numbers_of_the_other_kind(side):
    return each(side, [{"s": "a", "count": 1.0}, {"s": "a", "scale": 1}, {"s": "a", "size": 4.0}])


@case("echo")
def null_for_an_optional_input(side):
    return asked(side, input={"s": "a", "opt": None})


@case("echo")
def constraints(side):
    wrong = [{"s": "a", "mode": "bogus"}, {"s": "a", "count": -1}, {"s": "a", "count": 99}, {"s": "a", "scale": 2.6},
             {"s": "a", "short": "abcdef"}, {"s": "a", "short": ""}, {"s": "a", "short": "bcd"}, {"s": "a", "size": 5},
             {"s": "a", "short": "bcdefgh"}, {"s": "a", "count": 10**30}, {"s": "a", "scale": 1e400}]  # fmt: skip
    return each(side, wrong[:-1])


@case("echo")
def several_violations_at_once(side):
    return asked(side, input={"count": "x", "flag": 3, "mode": "bogus", "short": "bcdefgh"})


@case("echo")
def input_that_is_no_object(side):
    return [asked(side, input=wrong) for wrong in ([], "text", 5, True)]


@case("echo")
def fields_of_the_wrong_type(side):
    wrong = [{"id": 5}, {"id": ["a"]}, {"webhook": 5}, {"webhook_events_filter": "start"}, {"context": [1]},
             {"webhook_events_filter": ["bogus"]}, {"context": {"a": 1}}, {"id": None}, {"webhook": None},
             {"context": None}, {"webhook_events_filter": None}, {"webhook_events_filter": []}]  # fmt: skip
    return [asked(side, input={"s": "a"}, **fields) for fields in wrong]


@case("echo")
def bodies_that_are_not_json(side):
    json_type = {"Content-Type": "application/json"}
    raw = [b"not json", b"{", b'{"input": {"s": "a"}} x', b"", b"[]", b"null", b'"text"', b'{"input": {"s": "\xff"}}',
           b'{"input": {"s": "\\ud800"}}', b'{"input": {"s": "a", "scale": NaN}}', b"[" * 200 + b"]" * 200]  # fmt: skip
    return [seen(side.ask("POST", "/predictions", body, json_type)) for body in raw]


@case("echo")
def content_types(side):
    body = b'{"input": {"s": "a"}}'
    kinds = ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8", "APPLICATION/JSON",
             "application/vnd.api+json", "application/jsonx", ""]  # fmt: skip
    return [seen(side.ask("POST", "/predictions", body, {"Content-Type": kind})) for kind in kinds]


@case("anything")
def no_body_and_no_content_type(side):
    return [seen(side.ask("POST", "/predictions")), seen(side.ask("PUT", "/predictions/bare"))]


@case("echo")
def duplicate_keys(side):
    body = b'{"input": {"s": "a"}, "input": {"s": "b"}}'
    inner = b'{"input": {"s": "a", "s": "b"}}'
    return [seen(side.ask("POST", "/predictions", raw, {"Content-Type": "application/json"})) for raw in (body, inner)]


# Outputs.


@case("anything")
def outputs_of_every_kind(side):
    kinds = ["none", "list", "dict", "tuple", "dataclass", "enum", "datetime", "unicode", "big", "float", "keys"]
    return dict(zip(kinds, each(side, [{"kind": kind} for kind in kinds])))


@case("anything")
def outputs_that_cannot_be_written_as_json(side):
    kinds = ["bytes", "object", "nan"]
    found = {kind: side.predict(input={"kind": kind}) for kind in kinds}
    return {kind: {"status": answer.status, "ended": answer.json["status"]} for kind, answer in found.items()}


@case("objects")
def objects(side):
    return each(side, [{}, {"count": 0}, {"picture": True}])


@case("unions")
def union_inputs(side):
    good = [{}, {"either": 7}, {"either": "seven"}, {"number": 1.5}, {"number": 2}, {"words": ["a", "b"]},
            {"table": {"a": [1, None]}}, {"counts": []}]  # fmt: skip
    return each(side, good)


@case("unions")
def union_inputs_of_the_wrong_type(side):
    wrong = [{"either": [1]}, {"either": 1.5}, {"number": "1"}, {"words": "a"}, {"words": [1]}, {"table": []},
             {"counts": ["a"]}, {"counts": [1, 2.5]}]  # fmt: skip
    return each(side, wrong)


@case("iterator")
def iterators_are_lists_in_the_end(side):
    return each(side, [{}, {"count": 0}, {"count": 1}])


# Files.


@case("files")
def files_in(side):
    given = [{"image": PNG_FILE}, {"images": [TEXT_FILE, "data:text/plain,plain%20text"]}, {"raw": TEXT_FILE},
             {"key": "secret!"}, {}]  # fmt: skip
    return each(side, given)


@case("files")
def files_from_urls(side):
    page = f"{side.receiver.url}/nothing-here.png"
    answer = side.predict(input={"image": page})
    return {"status": answer.status, "ended": answer.json["status"], "says": bool(answer.json.get("error"))}


@case("files")
def files_that_are_no_urls(side):
    wrong = ["no url", "ftp://host/file", "data:broken", "/etc/passwd", "file:///etc/passwd", ""]
    answers = [side.predict(input={"image": one}) for one in wrong]
    return [{"status": one.status, "ended": one.json.get("status")} for one in answers]


@case("files")
def files_out(side):
    given = [{"count": 0}, {"count": 1}, {"count": 3}, {"suffix": ".json"}, {"suffix": ".png"}, {"suffix": ""},
             {"suffix": ".unheard-of"}]  # fmt: skip
    return each(side, given)


@case("files")
def files_out_that_are_missing(side):
    answer = side.predict(input={"missing": True})
    return {"status": answer.status, "ended": answer.json["status"], "says": bool(answer.json.get("error"))}


@case("one_file")
def one_file_out(side):
    return each(side, [{}, {"name": "a.webp"}, {"name": "a.txt"}, {"size": 0}])


@case("one_file", upload_url=True)
def uploads(side):
    answer = asked(side, input={"name": "a.png"}, id="upload-1")
    return {"answer": answer, "puts": [uploaded(put) for put in side.receiver.puts]}


@case("files", upload_url=True)
def uploads_of_several_files(side):
    answer = asked(side, input={"count": 3})
    return {"answer": answer, "puts": sorted(put["path"] for put in side.receiver.puts)}


@case("one_file", upload_url=True)
def uploads_with_a_location(side):
    side.receiver.location = True
    return asked(side, input={"name": "a.txt"})


@case("one_file", upload_url=True)
def uploads_that_are_refused(side):
    side.receiver.refusals += [404] * 20
    answer = side.predict(input={"name": "a.txt"})
    return {"status": answer.status, "body": {key: answer.json.get(key) for key in ("status", "output")}}


def uploaded(put):
    return {"path": put["path"], "type": put["headers"].get("Content-Type"), "content": put["content"]}


# Asynchronous, by id, canceled.


@case("slow")
def respond_async(side):
    gate = side.gate()
    made = seen(side.predict(ASYNC, id="async-1", input={"until": gate}))
    side.wait_until("processing", lambda: side.server.health()["status"] == "BUSY")
    again = side.ask("PUT", "/predictions/async-1", {"input": {"until": gate}}, ASYNC)
    side.open_gate()
    side.settle()
    return {"made": made, "again": {"status": again.status, "body": without(again.json, "logs")}}


def without(found, *names):
    return {key: value for key, value in found.items() if key not in names}


@case("slow")
def prefer_variants(side):
    variants = ["wait", "wait=10", "Respond-Async", "respond-async; x=y", "bogus"]
    return [seen(side.predict({"Prefer": one}, input={"seconds": 0})) for one in variants]


@case("echo")
def put_with_an_id(side):
    first = seen(side.ask("PUT", "/predictions/put-1", {"input": {"s": "a"}}))
    same = seen(side.ask("PUT", "/predictions/put-2", {"id": "put-2", "input": {"s": "a"}}))
    other = seen(side.ask("PUT", "/predictions/put-3", {"id": "other", "input": {"s": "a"}}))
    return {"first": first, "same": same, "other": other}


@case("echo")
def put_with_an_odd_id(side):
    ids = ["with space", "ü", "a/b", "%"]
    return [seen(side.ask("PUT", f"/predictions/{urllib.parse.quote(one, safe='')}", {"input": {"s": "a"}})) for one in ids]


@case("echo")
def put_again_after_the_end(side):
    bodies = [{"input": {"s": "a"}}, {"input": {"s": "b"}}]
    return [seen(side.settled("PUT", "/predictions/again", body)) for body in bodies]


@case("echo")
def put_with_wrong_input(side):
    return seen(side.ask("PUT", "/predictions/wrong", {"input": {"s": 1}}))


@case("slow")
def cancel(side):
    side.predict(ASYNC, id="cancel-1", input={}, webhook=f"{side.receiver.url}/hook", webhook_events_filter=["completed"])
    side.wait_until("processing", lambda: side.server.health()["status"] == "BUSY")
    answers = [seen(side.ask("POST", "/predictions/cancel-1/cancel"))]
    hooks = side.receiver.wait_terminal()
    side.settle()
    answers.append(seen(side.ask("POST", "/predictions/cancel-1/cancel")))
    answers.append(seen(side.ask("POST", "/predictions/never-made/cancel")))
    return {"answers": answers, "hooks": hooks}


@case("slow")
def cancel_of_a_waiting_request(side):
    answers = side.together(lambda: side.predict(id="cancel-2", input={}))
    side.wait_until("processing", lambda: side.server.health()["status"] == "BUSY")
    side.wait_until("canceled", lambda: side.ask("POST", "/predictions/cancel-2/cancel").status == 200)
    return seen(answers()[0])


@case("slow")
def client_that_goes_away(side):
    connection = side.server.connect()
    body = json.dumps({"id": "gone", "input": {}, "webhook": f"{side.receiver.url}/hook"})
    connection.request("POST", "/predictions", body, {"Content-Type": "application/json"})
    side.wait_until("processing", lambda: side.server.health()["status"] == "BUSY")
    connection.close()
    hooks = side.receiver.wait_terminal()
    side.settle()
    return hooks[-1]


@case("async_calls")
def concurrent_calls(side):
    people = ["ann", "bob", "cat", "dan"]
    asks = [lambda name=name: side.predict(input={"name": name, "party": "one", "size": 4}) for name in people]
    return [seen(answer) for answer in side.together(*asks)()]


# Webhooks.


def hooked(side, count=None, input=None, **body):
    """The webhooks of one prediction, up to its last."""
    answer = side.predict(input=input or {}, webhook=f"{side.receiver.url}/hook?a=b", **body)
    if answer.status in (200, 202):
        side.receiver.wait_terminal()
    side.settle()
    return {"answer": seen(answer), "hooks": [post["body"] for post in side.receiver.posts]}


@case("echo")
def webhooks_of_a_short_prediction(side):
    return hooked(side, id="hook-1", input={"s": "a"})


@case("echo")
def webhooks_of_a_failure(side):
    return hooked(side, id="hook-2", input={"s": "a", "mode": "fail"})


@case("echo")
def webhooks_of_a_refused_input(side):
    return hooked(side, id="hook-3", input={"s": 1})


@case("echo")
def webhook_filters(side):
    filters = [["start"], ["completed"], ["output"], ["start", "completed"], ["logs"]]
    found = []
    for wanted in filters:
        side.receiver.clear()
        side.predict(input={"s": "a"}, webhook=f"{side.receiver.url}/hook", webhook_events_filter=wanted)
        if "completed" in wanted:
            side.receiver.wait_terminal()
        side.settle()
        found.append({"filter": wanted, "ended": [post["body"]["status"] for post in side.receiver.posts][-1:]})
    return found


@case("echo", env={"WEBHOOK_AUTH_TOKEN": "a-token"})
def webhook_headers(side):
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b"}
    side.predict(trace, input={"s": "a"}, webhook=f"{side.receiver.url}/hook", webhook_events_filter=["completed"])
    side.receiver.wait_terminal()
    headers = {name.lower(): value for name, value in side.receiver.posts[-1]["headers"].items()}
    kept = ("authorization", "content-type", "traceparent", "tracestate")
    return {name: headers.get(name) for name in kept}


@case("echo")
def webhooks_are_tried_again(side):
    side.receiver.refusals += [500, 503, 429]
    side.predict(id="retry", input={"s": "a"}, webhook=f"{side.receiver.url}/hook", webhook_events_filter=["completed"])
    side.receiver.wait("four tries", lambda kept: len(kept.posts) >= 4)
    return [{"answered": post["status"], "sent": post["body"]["status"]} for post in side.receiver.posts]


@case("echo")
def webhooks_that_are_refused_for_good(side):
    side.receiver.refusals += [400]
    side.predict(id="no-retry", input={"s": "a"}, webhook=f"{side.receiver.url}/hook", webhook_events_filter=["completed"])
    side.receiver.wait("one try", lambda kept: kept.posts)
    side.predict(id="other", input={"s": "a"}, webhook=f"{side.receiver.url}/hook", webhook_events_filter=["completed"])
    side.receiver.wait("the other", lambda kept: any(post["body"]["id"] == "other" for post in kept.posts))
    return [post["body"]["id"] for post in side.receiver.posts]


@case("echo")
def webhooks_to_nowhere(side):
    targets = ["http://127.0.0.1:1/hook", "not a url", "", "ftp://127.0.0.1/x"]
    return [asked(side, input={"s": "a"}, webhook=one, webhook_events_filter=["start"]) for one in targets]


@case("stream")
def webhooks_of_a_stream(side):
    found = hooked(side, id="hook-4", input={"prompt": "p"}, webhook_events_filter=["output", "completed"])
    return {"answer": found["answer"], "last": found["hooks"][-1], "some": len(found["hooks"]) > 1}


# Server-sent events.


@case("stream")
def events(side):
    return seen(side.predict(EVENTS, id="events-1", input={"prompt": "p"}))


@case("stream")
def events_without_logs(side):
    return seen(side.predict(EVENTS, id="events-2", input={"prompt": "p", "quiet": True, "count": 0}))


@case("stream")
def events_of_a_failure(side):
    return seen(side.predict(EVENTS, id="events-3", input={"prompt": "p", "fail_at": 1, "quiet": True}))


@case("stream")
def events_of_a_refused_input(side):
    return seen(side.predict(EVENTS, input={}))


@case("stream")
def events_of_a_put(side):
    return seen(side.ask("PUT", "/predictions/events-4", {"input": {"prompt": "p", "quiet": True}}, EVENTS))


@case("stream")
def stream_without_events(side):
    return each(side, [{"prompt": "p"}, {"prompt": "p", "fail_at": 2}])


@case("async_stream")
def events_of_an_async_generator(side):
    return seen(side.predict(EVENTS, id="events-5", input={"prompt": "p"}))


@case("iterator")
def events_where_there_are_none(side):
    accepted = ["text/event-stream", "text/event-stream, */*", "application/json, text/event-stream;q=0.5", "*/*"]
    return [seen(side.predict({"Accept": one}, input={})) for one in accepted]


@case("stream")
def accept_variants(side):
    accepted = ["TEXT/EVENT-STREAM", "application/json", "text/*"]
    given = {"prompt": "p", "count": 1, "quiet": True}
    return [side.predict({"Accept": one}, input=given).headers["content-type"] for one in accepted]


# Metrics and context.


@case("scope")
def metrics(side):
    return each(side, [{"way": way} for way in ("none", "replace", "incr", "append", "method")])


@case("scope")
def names_of_metrics(side):
    names = ["good", "a.b.c", "_x", "x_", "a__b", "1a", "a..b", ".a", "a.b.c.d.e", "predict_time", "cog.x", "x" * 129]
    answers = [side.predict(input={"way": "named", "name": name}) for name in names]
    return [[name, answer.json["status"], sorted(answer.json["metrics"])] for name, answer in zip(names, answers)]


@case("scope")
def a_metric_of_two_types(side):
    answer = side.predict(input={"way": "types"})
    return {"ended": answer.json["status"], "metrics": answer.json["metrics"]}


@case("scope")
def context(side):
    return [asked(side, input={}, context={"user": "ann", "b": "ü"}), asked(side, input={})]


# Trainings.


@case("train", train=True)
def training(side):
    asks = [{"input": {"prefix": "hi"}}, {"input": {"prefix": "hi", "steps": 11}}, {"input": {}}]
    return [seen(side.settled("POST", "/trainings", body)) for body in asks]


@case("train", train=True)
def training_by_put(side):
    return seen(side.ask("PUT", "/trainings/train-1", {"input": {"prefix": "hi", "steps": 1}}))


@case("train", train=True)
def training_canceled_that_is_not_there(side):
    return seen(side.ask("POST", "/trainings/never-made/cancel"))


@case("train", train=True)
def root_with_trainings(side):
    return seen(side.ask("GET", "/"))


@case("train")
def root_of_a_model_that_can_be_trained(side):
    return seen(side.ask("GET", "/"))


@case("train")
def predictions_of_a_model_that_can_be_trained(side):
    return asked(side, input={"text": "you"})


@case("train")
def training_asked_of_a_server_for_predictions(side):
    return seen(side.settled("POST", "/trainings", {"input": {"prefix": "hi", "text": "x"}}))


# A worker that ends.


@case("crash", ready=None)
def a_worker_that_ends(side):
    side.server.wait_status("READY")
    crashed = side.predict(id="crash", input={"how": "exit"})
    ended = {"status": crashed.status, "ended": crashed.json["status"], "says": bool(crashed.json.get("error"))}
    after = side.server.predict(input={})
    return {"crashed": ended, "after": after.status}


@case("echo", ready=None)
def shutdown(side):
    side.server.wait_status("READY")
    answer = seen(side.ask("POST", "/shutdown"))
    return {"answer": answer, "code": side.exit_code()}


@case("echo", ready=None)
def sigterm(side):
    side.server.wait_status("READY")
    side.server.process.terminate()
    return side.exit_code()


@case("slow", ready=None)
def sigterm_while_one_runs(side):
    side.server.wait_status("READY")
    gate = side.gate()
    answers = side.together(lambda: side.predict(input={"until": gate}))
    side.wait_until("processing", lambda: side.server.health()["status"] == "BUSY")
    side.server.process.terminate()
    side.open_gate()
    try:
        served = answers()[0].json["status"]
    except OSError:
        served = "cut off"
    return {"served": served, "code": side.exit_code()}


# The shapes of published models.


@case("shape_llm")
def shape_of_a_language_model(side):
    asks = [{"prompt": "go"}, {"prompt": "go", "max_tokens": 2, "system_prompt": "be"}, {"stop_sequences": "two"}]
    return each(side, asks)


@case("shape_upscaler")
def shape_of_an_upscaler(side):
    asks = [{"image": TEXT_FILE, "seed": 1}, {"image": TEXT_FILE, "factor": "triple", "num_outputs": 2}]
    return each(side, asks)


@case("shape_workflow")
def shape_of_a_workflow(side):
    asked_for = json.dumps({"text": "words"})
    asks = [{}, {"workflow_json": asked_for, "input_file": TEXT_FILE}, {"workflow_json": asked_for, "api_token": "abc"}]
    return each(side, asks)


@case("shape_progress")
def shape_of_a_drawing_model(side):
    return each(side, [{}, {"steps": 1}])
