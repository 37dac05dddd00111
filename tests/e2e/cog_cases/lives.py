"""The life of a prediction: asynchronous, by id, canceled; told by webhooks and events."""

import json
import urllib.parse

from .registry import ASYNC, EVENTS, asked, case, each, seen, without


@case("slow")
def respond_async(side):
    made = seen(side.predict(ASYNC, id="async-1", input=side.watched()))
    side.wait_begun()
    again = side.ask("PUT", "/predictions/async-1", {"input": side.watched()}, ASYNC)
    side.open_gate()
    side.settle()
    return {"made": made, "again": {"status": again.status, "body": without(again.json, "logs")}}


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
    paths = [f"/predictions/{urllib.parse.quote(one, safe='')}" for one in ids]
    return [seen(side.settled("PUT", path, {"input": {"s": "a"}})) for path in paths]


@case("echo")
def put_again_after_the_end(side):
    bodies = [{"input": {"s": "a"}}, {"input": {"s": "b"}}]
    return [seen(side.settled("PUT", "/predictions/again", body)) for body in bodies]


@case("echo")
def put_with_wrong_input(side):
    return seen(side.ask("PUT", "/predictions/wrong", {"input": {"s": 1}}))


@case("slow")
def cancel(side):
    side.predict(ASYNC, id="cancel-1", input=side.watched(), **completed(side))
    side.wait_begun()
    answers = [seen(side.ask("POST", "/predictions/cancel-1/cancel"))]
    hooks = side.receiver.wait_terminal()
    side.settle()
    answers.append(seen(side.ask("POST", "/predictions/cancel-1/cancel")))
    answers.append(seen(side.ask("POST", "/predictions/never-made/cancel")))
    return {"answers": answers, "hooks": hooks}


@case("slow")
def cancel_of_a_waiting_request(side):
    answers = side.together(lambda: side.predict(id="cancel-2", input=side.watched()))
    side.wait_begun()
    side.ask("POST", "/predictions/cancel-2/cancel")
    answer = seen(answers()[0])
    return {**answer, "body": without(answer["body"], "logs")}


@case("slow")
def client_that_goes_away(side):
    connection = side.server.connect()
    body = json.dumps({"id": "gone", "input": side.watched(), **completed(side)})
    connection.request("POST", "/predictions", body, {"Content-Type": "application/json"})
    side.wait_begun()
    connection.close()
    hooks = side.receiver.wait_terminal()
    side.settle()
    return without(hooks[-1], "logs")


@case("async_calls")
def concurrent_calls(side):
    people = ["ann", "bob", "cat", "dan"]
    asks = [lambda name=name: side.predict(input={"name": name, "party": "one", "size": 4}) for name in people]
    return [seen(answer) for answer in side.together(*asks)()]


def completed(side):
    """A webhook for the end alone."""
    return {"webhook": f"{side.receiver.url}/hook", "webhook_events_filter": ["completed"]}


def hooked(side, input=None, **body):
    """The webhooks of one prediction, up to its last."""
    answer = side.predict(input=input or {}, webhook=f"{side.receiver.url}/hook?a=b", **body)
    if answer.status in (200, 202):
        side.receiver.wait_terminal()
    side.settle()
    # Cog sends them at the same time, so that they pass each other, and what is told of an output on its way may come
    # after the end, or not at all.
    told = [post["body"] for post in side.receiver.posts]
    told = [body for body in told if body["status"] != "processing" or "output" not in body]
    hooks = sorted(told, key=lambda body: json.dumps(body, sort_keys=True))
    return {"answer": seen(answer), "hooks": hooks}


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
    filters = [["start"], ["completed"], ["start", "completed"]]
    found = []
    for wanted in filters:
        side.receiver.clear()
        side.predict(input={"s": "a"}, webhook=f"{side.receiver.url}/hook", webhook_events_filter=wanted)
        side.receiver.wait("all of them", lambda kept: len(kept.posts) >= len(wanted))
        side.settle()
        found.append({"filter": wanted, "sent": sorted(post["body"]["status"] for post in side.receiver.posts)})
    return found


@case("echo", env={"WEBHOOK_AUTH_TOKEN": "a-token"})
def webhook_headers(side):
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b"}
    side.predict(trace, input={"s": "a"}, **completed(side))
    side.receiver.wait_terminal()
    headers = {name.lower(): value for name, value in side.receiver.posts[-1]["headers"].items()}
    kept = ("authorization", "content-type", "traceparent", "tracestate")
    return {name: headers.get(name) for name in kept}


@case("echo")
def webhooks_are_tried_again(side):
    side.receiver.refusals += [500, 503, 429]
    side.predict(id="retry", input={"s": "a"}, **completed(side))
    side.receiver.wait("four tries", lambda kept: len(kept.posts) >= 4)
    return [{"answered": post["status"], "sent": post["body"]["status"]} for post in side.receiver.posts]


@case("echo")
def webhooks_that_are_refused_for_good(side):
    side.receiver.refusals += [400]
    side.predict(id="no-retry", input={"s": "a"}, **completed(side))
    side.receiver.wait("one try", lambda kept: kept.posts)
    side.predict(id="other", input={"s": "a"}, **completed(side))
    side.receiver.wait("the other", lambda kept: any(post["body"]["id"] == "other" for post in kept.posts))
    return [post["body"]["id"] for post in side.receiver.posts]


@case("echo")
def webhooks_to_nowhere(side):
    targets = ["http://127.0.0.1:1/hook", "not a url", "", "ftp://127.0.0.1/x"]
    return [asked(side, input={"s": "a"}, webhook=one, webhook_events_filter=["start"]) for one in targets]


@case("stream")
def webhooks_of_a_stream(side):
    found = hooked(side, id="hook-4", input={"prompt": "p"}, webhook_events_filter=["output", "completed"])
    ended = [hook for hook in found["hooks"] if hook["status"] == "succeeded"]
    return {"answer": found["answer"], "ended": ended}


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
