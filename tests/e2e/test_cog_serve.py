"""What a model's own server does that Cog's does not: it queues, remembers, recovers, cancels what no Python can
interrupt, streams for many at once, and says in JSON what is wrong."""

import base64
import json
import re
import socket
import threading

import pytest

from cog_servers import ClunkServer, Receiver, events_of, wait_gone
from conftest import wait_until

ASYNC = {"Prefer": "respond-async"}
EVENTS = {"Accept": "text/event-stream"}
ENDED = ("succeeded", "failed", "canceled")
BODY_LIMIT = 100 << 20


@pytest.fixture
def start():
    """Starts servers that end with the test."""
    started = []

    def start(project, status="READY", **options):
        started.append(ClunkServer(project, **options))
        return started[-1].wait_status(status)

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


class Watched:
    """A prediction of `slow` that lasts until it is let go."""

    def __init__(self, server, tmp_path, name="one"):
        self.server, self.name = server, name
        self.until, self.begun = tmp_path / f"{name}-until", tmp_path / f"{name}-begun"
        self.input = {"until": str(self.until), "begun": str(self.begun)}

    def start(self, **body):
        answer = self.server.predict(ASYNC, id=self.name, input=self.input, **body)
        assert answer.status == 202, answer.body
        return self

    def wait_begun(self):
        wait_until(f"{self.name} runs", self.begun.exists)
        return self

    def let_go(self):
        self.until.touch()


def get(server, name):
    return server.ask("GET", f"/predictions/{name}")


def wait_ended(server, name):
    wait_until(f"{name} ended", lambda: get(server, name).json["status"] in ENDED)
    return get(server, name).json


def in_threads(count, run):
    """`run(number)` in so many threads; what each gave."""
    found = [None] * count

    def one(number):
        found[number] = run(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return found


# The queue.


def test_requests_wait_for_their_turn(start):
    server = start("echo")
    answers = in_threads(20, lambda number: server.predict(input={"s": f"n{number}"}))
    assert [answer.status for answer in answers] == [200] * 20
    assert [answer.json["output"].split()[0] for answer in answers] == [f"n{number}" for number in range(20)]


def test_predictions_run_in_the_order_of_their_arrival(start, tmp_path):
    server = start("slow")
    runs = [Watched(server, tmp_path, name).start() for name in ("first", "second", "third")]
    for at, run in enumerate(runs):
        run.wait_begun()
        assert not any(later.begun.exists() for later in runs[at + 1 :])
        assert [get(server, later.name).json["status"] for later in runs[at + 1 :]] == ["starting"] * (2 - at)
        run.let_go()
    assert [wait_ended(server, run.name)["status"] for run in runs] == ["succeeded"] * 3


def test_a_full_queue_is_told_and_takes_more_when_there_is_room(start, tmp_path):
    server = start("slow", env={"CLUNK_QUEUE_MAX": "2"})
    first = Watched(server, tmp_path, "first").start().wait_begun()
    waiting = [Watched(server, tmp_path, name).start() for name in ("second", "third")]
    refused = server.predict(ASYNC, id="fourth", input=first.input)
    assert (refused.status, refused.json["status"]) == (429, "failed")
    assert int(refused.headers["retry-after"]) > 0
    assert "CLUNK_QUEUE_MAX" in refused.json["error"]
    for run in (first, *waiting):
        run.let_go()
    assert [wait_ended(server, run.name)["status"] for run in (first, *waiting)] == ["succeeded"] * 3
    assert server.predict(input={"seconds": 0}).status == 200


def test_a_prediction_that_waits_can_be_canceled(start, tmp_path):
    server = start("slow")
    first = Watched(server, tmp_path, "first").start().wait_begun()
    second = Watched(server, tmp_path, "second").start()
    assert server.ask("POST", "/predictions/second/cancel").status == 200
    assert wait_ended(server, "second")["status"] == "canceled"
    first.let_go()
    assert wait_ended(server, "first")["status"] == "succeeded"
    assert not second.begun.exists()


# What it remembers.


def test_a_prediction_can_be_asked_for(start, tmp_path):
    server = start("slow")
    run = Watched(server, tmp_path).start().wait_begun()
    during = get(server, "one").json
    assert (during["id"], during["status"], during["input"]["until"]) == ("one", "processing", str(run.until))
    run.let_go()
    after = wait_ended(server, "one")
    assert (after["status"], after["output"], after["logs"]) == ("succeeded", "done", "started\nended\n")
    assert after["metrics"]["predict_time"] > 0
    assert after["created_at"] <= after["started_at"] <= after["completed_at"]


def test_a_prediction_that_was_never_made_is_not_found(start):
    answer = get(start("echo"), "never-made")
    assert answer.status == 404
    assert "never-made" in json.dumps(answer.json)


def test_two_requests_with_the_same_id_share_one_prediction(start, tmp_path):
    server = start("slow")
    run = Watched(server, tmp_path)
    answers = []
    waiting = [threading.Thread(target=lambda: answers.append(put(server, run))) for _ in range(2)]
    for thread in waiting:
        thread.start()
    run.wait_begun()
    run.let_go()
    for thread in waiting:
        thread.join(60)
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json["started_at"] == answers[1].json["started_at"]
    assert answers[0].json["output"] == answers[1].json["output"] == "done"


def put(server, run):
    return server.ask("PUT", "/predictions/one", {"input": run.input})


# A worker that ends.


@pytest.mark.parametrize("how, says", [("exit", "3"), ("segfault", "SIGSEGV"), ("kill", "SIGKILL")])
def test_a_worker_that_ends_fails_its_prediction_and_no_other(start, how, says):
    server = start("crash")
    before = server.predict(input={}).json["output"]
    crashed = server.predict(input={"how": how})
    assert (crashed.status, crashed.json["status"]) == (200, "failed")
    assert says in crashed.json["error"]
    after = server.predict(input={"s": "after"})
    assert (after.status, after.json["status"]) == (200, "succeeded")
    assert after.json["output"].split()[0] != before.split()[0], "the same process served again"


def test_what_waits_behind_a_crash_is_served(start):
    server = start("crash")
    ways = ["", "exit", "", "kill", "", "segfault", "", ""]
    answers = in_threads(len(ways), lambda number: server.predict(input={"how": ways[number]}))
    assert [answer.status for answer in answers] == [200] * len(ways)
    assert [answer.json["status"] for answer in answers] == ["failed" if how else "succeeded" for how in ways]


def test_code_that_no_python_can_interrupt_is_canceled(start):
    server = start("crash")
    assert server.predict(ASYNC, id="c", input={"how": "c_sleep"}).status == 202
    wait_until("it runs", lambda: get(server, "c").json["status"] == "processing")
    assert server.ask("POST", "/predictions/c/cancel").status == 200
    assert wait_ended(server, "c")["status"] == "canceled"
    assert server.predict(input={"s": "next"}).json["status"] == "succeeded"


def test_a_client_that_goes_away_takes_its_prediction_with_it(start, tmp_path):
    server = start("slow")
    run = Watched(server, tmp_path)
    connection = server.connect()
    body = json.dumps({"id": "gone", "input": run.input})
    connection.request("POST", "/predictions", body, {"Content-Type": "application/json"})
    run.wait_begun()
    connection.close()
    assert wait_ended(server, "gone")["status"] == "canceled"
    assert server.predict(input={"seconds": 0}).json["status"] == "succeeded"


# Streams.


def first_event(response, name):
    """Reads up to the first event of that name and leaves the rest to come."""
    lines = []
    while True:
        line = response.readline().decode().rstrip("\r\n")
        assert line or lines, "the stream ended"
        if line:
            lines.append(line)
        elif lines[0] == f"event: {name}":
            return json.loads(lines[1].removeprefix("data: "))
        else:
            lines = []


def test_asynchronous_streams_arrive_as_they_yield_and_do_not_wait_for_each_other(start):
    server = start("meeting")
    people, open_streams = [f"p{number}" for number in range(8)], []
    for name in people:
        connection = server.connect()
        body = json.dumps({"input": {"name": name, "size": len(people)}})
        connection.request("POST", "/predictions", body, {"Content-Type": "application/json", **EVENTS})
        response = connection.getresponse()
        # It has yielded once and waits for people who have not been asked yet.
        assert first_event(response, "output") == {"chunk": f"{name} came", "index": 0}
        open_streams.append(response)
    for name, response in zip(people, open_streams):
        assert first_event(response, "completed")["output"] == [f"{name} came", f"{name} left"]


def test_a_second_reader_is_told_everything_from_the_start(start):
    server = start("stream")
    body = {"input": {"prompt": "p", "count": 3, "quiet": True}}
    first = server.ask("PUT", "/predictions/shared", body, EVENTS)
    names = [name for name, _ in events_of(first.body)]
    assert names == ["start", "output", "output", "output", "metric", "completed"]
    snapshot = get(server, "shared").json
    assert snapshot["output"] == ["p-0 ", "p-1 ", "p-2 "]
    assert snapshot["metrics"]["tokens"] == 3


def test_a_reader_that_leaves_ends_the_stream_it_alone_read(start):
    server = start("async_stream")
    connection = server.connect()
    body = json.dumps({"id": "left", "input": {"prompt": "p", "count": 10**6, "pause": 0.01}})
    connection.request("POST", "/predictions", body, {"Content-Type": "application/json", **EVENTS})
    response = connection.getresponse()
    first_event(response, "output")
    response.close()
    connection.close()
    assert wait_ended(server, "left")["status"] == "canceled"


def test_a_long_stream_loses_nothing(start):
    server = start("stream")
    answer = server.predict(EVENTS, input={"prompt": "p", "count": 5000, "quiet": True})
    found = events_of(answer.body)
    chunks = [data["chunk"] for name, data in found if name == "output"]
    assert chunks == [f"p-{number} " for number in range(5000)]
    assert found[-1][0] == "completed"


# What Cog refuses or loses.


def test_null_stands_for_an_optional_input_that_is_left_out(start):
    answer = start("echo").predict(input={"s": "a", "opt": None})
    assert (answer.status, answer.json["output"]) == (200, "a 1 1.0 False 8 ab None")


def test_every_refusal_is_json_that_says_what_to_change(start):
    server = start("echo")
    json_type = {"Content-Type": "application/json"}
    refused = [
        (server.ask("POST", "/predictions", b"{", json_type), 400),
        (server.ask("POST", "/predictions", b'{"input": {"s": "\xff"}}', json_type), 400),
        (server.ask("POST", "/predictions", b'{"id": 5}', json_type), 422),
        (server.ask("POST", "/predictions", b"[]", json_type), 422),
        (server.ask("POST", "/predictions", b"{}", {"Content-Type": "text/plain"}), 415),
        (server.ask("GET", "/nowhere"), 404),
        (server.ask("DELETE", "/predictions/a"), 405),
        (server.ask("POST", "/predictions", {"input": {}}), 422),
    ]
    assert [answer.status for answer, _ in refused] == [status for _, status in refused]
    for answer, _ in refused:
        assert answer.headers["content-type"].startswith("application/json"), answer.body
        assert answer.json, answer.body


def test_every_line_is_in_the_logs_and_webhooks_come_in_order(start, receiver):
    server = start("echo")
    server.predict(id="w", input={"s": "a", "mode": "print"}, webhook=f"{receiver.url}/hook")
    hooks = receiver.wait_terminal()
    assert [hook["status"] for hook in hooks][0] == "processing"
    assert [hook["status"] for hook in hooks][-1] == "succeeded"
    assert hooks[-1]["logs"] == "hello log\nno newline"


def test_logs_are_told_to_the_webhook_while_it_runs(start, receiver, tmp_path):
    server = start("slow")
    run = Watched(server, tmp_path).start(webhook=f"{receiver.url}/hook", webhook_events_filter=["logs"]).wait_begun()
    receiver.wait("the log", lambda kept: any("started" in post["body"]["logs"] for post in kept.posts))
    run.let_go()


def test_chunks_are_told_to_the_webhook_while_the_stream_runs(start, receiver):
    server = start("meeting")
    events = ["output", "completed"]
    webhook = {"webhook": f"{receiver.url}/hook", "webhook_events_filter": events}
    server.predict(ASYNC, id="ann", input={"name": "ann", "size": 2}, **webhook)
    hooks = receiver.wait("the first chunk", lambda kept: kept.posts)
    assert (hooks[0]["status"], hooks[0]["output"]) == ("processing", ["ann came"])
    server.predict(ASYNC, input={"name": "bob", "size": 2})
    hooks = receiver.wait_terminal()
    assert (hooks[-1]["status"], hooks[-1]["output"]) == ("succeeded", ["ann came", "ann left"])


def test_a_receiver_that_never_answers_holds_nothing_up(start):
    server = start("echo")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hook = f"http://127.0.0.1:{silent.getsockname()[1]}/hook"
        answers = [server.predict(input={"s": "a"}, webhook=hook) for _ in range(5)]
    assert [answer.json["status"] for answer in answers] == ["succeeded"] * 5


def test_uploads_keep_their_order_and_a_refused_one_is_told(start, receiver):
    server = start("files", upload_url=f"{receiver.url}/put")
    good = server.predict(input={"count": 5}).json
    assert [url.rpartition("/")[2] for url in good["output"]] == [f"result{number}.txt" for number in range(5)]
    receiver.refusals += [404] * 20
    bad = server.predict(input={}).json
    assert bad["status"] == "failed"
    assert "404" in bad["error"]


def test_large_files_come_as_they_are(start):
    content = "".join(f"line {number}\n" for number in range(100_000))
    url = "data:text/plain;base64," + base64.b64encode(content.encode()).decode()
    server = start("files")
    given = {"image": url.replace("text/plain", "image/png"), "images": [url, "data:,small"], "raw": url}
    made = server.predict(input={**given, "suffix": ".txt"}).json
    told = base64.b64decode(made["output"][0].partition(",")[2]).decode()
    assert told == f"out|.png {len(content)}|{content}|small|{content}"
    assert "input" not in made
    broken = server.predict(input={"image": url + "=AAA"}).json
    assert broken["status"] in ("succeeded", "failed")
    assert server.predict(input={}).json["status"] == "succeeded"


def test_files_that_are_yielded_are_taken_as_they_are_at_that_moment(start):
    found = start("shape_progress").predict(input={"steps": 3}).json["output"]
    assert found == [f"data:text/plain;base64,{text}" for text in ("c3RlcCAw", "c3RlcCAx", "c3RlcCAy")]


# Bad clients.


def test_bodies_that_are_too_large_are_refused_before_they_are_read(start):
    server = start("echo")
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        head = "POST /predictions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {BODY_LIMIT + 1}\r\n\r\n"
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(4096).split(b"\r\n")[0]
    assert server.predict(input={"s": "a"}).status == 200


def test_slow_clients_hold_nobody_up(start):
    server = start("echo")
    head = b"POST /predictions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    slow = [socket.create_connection(("127.0.0.1", server.port), 30) for _ in range(100)]
    try:
        for number, connection in enumerate(slow):
            connection.sendall(head if number % 2 else head[:30])
        answers = in_threads(8, lambda number: server.predict(input={"s": "a"}))
        assert [answer.status for answer in answers] == [200] * 8
    finally:
        for connection in slow:
            connection.close()


def test_what_is_no_http_is_refused_and_harms_nothing(start):
    server = start("echo")
    for junk in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"A" * 200_000 + b"\r\n\r\n", b"\x00" * 1000):
        with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
            try:
                connection.sendall(junk)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(4096)
            except ConnectionError:
                continue
            assert not answer or answer.startswith(b"HTTP/1.1 4"), answer
    assert server.predict(input={"s": "a"}).status == 200


def test_many_requests_on_one_connection_without_waiting_are_answered_in_order(start):
    server = start("echo")
    bodies = [json.dumps({"input": {"s": f"n{number}"}}).encode() for number in range(20)]
    head = "POST /predictions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(b"".join(head.format(len(body)).encode() + body for body in bodies))
        seen = b""
        while seen.count(b'"succeeded"') < len(bodies):
            data = connection.recv(65536)
            assert data, seen[-500:]
            seen += data
    outputs = re.findall(rb'"output":\s*"n(\d+) ', seen)
    assert [int(number) for number in outputs] == list(range(20))


# Its own figures, its end.


def test_figures_for_prometheus(start):
    server = start("echo")
    server.predict(input={"s": "a"})
    server.predict(input={"s": "a", "mode": "fail"})
    answer = server.ask("GET", "/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain")
    samples = dict(re.findall(r"^([a-z_]+(?:\{[^}]*\})?) ([0-9.e+-]+)$", answer.body.decode(), re.MULTILINE))
    counts = {name: float(value) for name, value in samples.items() if "prediction" in name}
    assert any("succeeded" in name and value == 1 for name, value in counts.items()), counts
    assert any("failed" in name and value == 1 for name, value in counts.items()), counts


def test_what_runs_is_finished_before_the_server_ends(start, tmp_path):
    server = start("slow")
    run = Watched(server, tmp_path)
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(server.predict(input=run.input)))
    waiting.start()
    run.wait_begun()
    server.process.terminate()
    run.let_go()
    waiting.join(60)
    assert answers[0].json["status"] == "succeeded"
    assert wait_gone(server.process) == 0


def test_a_port_that_is_taken_is_told(start):
    server = start("echo")
    other = ClunkServer("echo", env={"PORT": str(server.port)})
    try:
        assert wait_gone(other.process) != 0
        assert str(server.port) in other.output()
    finally:
        other.stop()


@pytest.mark.parametrize(
    "options, says",
    [
        ({"upload_url": "bucket/put"}, "bucket/put"),
        ({"env": {"COG_MAX_CONCURRENCY": "0"}}, "COG_MAX_CONCURRENCY"),
        ({"env": {"COG_MAX_CONCURRENCY": "2"}}, "async def"),
    ],
)
def test_what_cannot_be_served_is_told_before_anything_listens(options, says):
    with ClunkServer("echo", **options) as server:
        assert wait_gone(server.process) != 0
        assert says in server.output() and "listening" not in server.output()


def test_files_of_the_same_name_are_uploaded_beside_each_other(start, receiver):
    server = start("shape_progress", upload_url=f"{receiver.url}/put?key=1")
    output = server.predict(input={"steps": 3}).json["output"]
    assert [url.rpartition("/")[2] for url in output] == ["progress.txt", "progress-1.txt", "progress-2.txt"]
