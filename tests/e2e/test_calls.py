"""What the engine promises: order, cancelling, processes that die, down to nothing, retries, time."""

import json
import pathlib
import threading
import time

import pytest
from api import Api
from calls_app import Running, told
from conftest import wait_until


# One slot, many clients

SLOT = """
SERVED = []

@app.function(max_containers=1)
def slot(name):
    SERVED.append(name)
    return len(SERVED)

@app.function(max_containers=1)
def gate(name):
    if name is None:
        time.sleep(600)
    return name, time.monotonic_ns()
"""


def test_one_slot_refuses_no_client(home, project):
    with Running(home, project, SLOT) as app:
        slot = app.functions["slot"]
        alone = [app.api.call(slot, number) for number in range(100)]
        assert [answer.value for answer in alone] == list(range(1, 101))
        answers, lock = [], threading.Lock()

        def client(number):
            api = Api(home)
            mine = [api.call(slot, (number, turn)) for turn in range(5)]
            api.close()
            with lock:
                answers.extend(mine)

        clients = [threading.Thread(target=client, args=(number,)) for number in range(64)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        assert {answer.status for answer in answers} == {200}
        # Each got a turn of its own, in the one container.
        assert sorted(answer.value for answer in answers) == list(range(101, 101 + 64 * 5))


def held_slot(app):
    """Occupies the one slot; what cancels that."""
    gate = app.functions["gate"]
    (holder,) = app.api.spawn(gate, [(None,)])
    app.wait_state(holder, "running")
    return gate, lambda: app.api.request("POST", f"/api/calls/{holder}/cancel", {})


def test_spawned_calls_run_by_priority_and_then_as_they_came(home, project):
    with Running(home, project, SLOT) as app:
        gate, release = held_slot(app)
        spawned = {}
        for turn in range(30):
            priority = (0, 5, -5)[turn % 3]
            names = [(f"{turn}-{place}",) for place in range(3)]
            calls = app.api.spawn(gate, names, {"clunk-priority": str(priority)})
            spawned.update({call: (-priority, turn, place) for place, call in enumerate(calls)})
        release()
        began = {call: app.api.result(call).value[1] for call in spawned}
        assert sorted(spawned, key=began.get) == sorted(spawned, key=spawned.get)


def test_calls_of_64_clients_run_in_the_order_they_came(home, project):
    with Running(home, project, SLOT) as app:
        gate, release = held_slot(app)
        began, failures = {}, []

        def client(number, priority):
            api = Api(home)
            answer = api.call(gate, number, headers={"clunk-priority": str(priority)})
            api.close()
            if answer.status == 200:
                began[number] = answer.value[1]
            else:
                failures.append((answer.status, answer.body))

        clients, places = [], {}
        for number in range(64):
            priority = 1 if number % 8 == 7 else 0
            places[number] = -priority, number
            clients.append(threading.Thread(target=client, args=(number, priority)))
            clients[-1].start()
            # It has come when it stands in the queue; only then does the next one come.
            wait_until(f"{number} waits", lambda: app.api.function(gate)["queued"] == number + 1, 60)
        release()
        for thread in clients:
            thread.join()
        assert failures == []
        assert sorted(began, key=began.get) == sorted(places, key=places.get)


# Cancelling

STUBBORN = """
@app.function(max_containers=1)
def sleeper(seconds):
    time.sleep(seconds)
    return "slept", os.getpid()

@app.function(max_containers=1)
async def dreamer(seconds):
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        print("woken", flush=True)
        raise
    return "dreamt", os.getpid()

@app.function(max_containers=1)
def native(seconds):
    import ctypes
    # One that returns to it again and again, whatever signal comes.
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            ctypes.CDLL(None).sleep(60)
        except BaseException:
            pass
    return "native", os.getpid()

@app.function(max_containers=1)
@clunk.concurrent(max_inputs=2)
def pair(stubborn, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            time.sleep(0.05)
        except BaseException:
            if not stubborn:
                raise
    return "pair", os.getpid()
"""


@pytest.mark.parametrize("name", ["sleeper", "dreamer", "native"])
def test_cancel_ends_the_call_and_frees_its_slot(home, project, name):
    with Running(home, project, STUBBORN) as app:
        function = app.functions[name]
        assert app.api.call(function, 0).status == 200
        running, waiting = app.api.spawn(function, [(60,), (0,)])
        app.wait_state(running, "running")
        began = time.monotonic()
        answer = app.api.request("POST", f"/api/calls/{running}/cancel", {})
        assert answer.status == 200 and answer.json["state"] in ("canceled", "running")
        # Behind it in the only slot: it answers because the slot is free, long before the sixty seconds are over.
        assert app.api.result(waiting).status == 200
        assert time.monotonic() - began < 30
        record = app.wait_end(running)
        assert record["state"] == "canceled" and record["attempts"] == 1
        answer = app.api.result(running)
        assert answer.headers["clunk-outcome"] == "failure" and answer.json["error"]["code"] == "call-canceled"
        again = app.api.request("POST", f"/api/calls/{running}/cancel", {})
        assert again.status == 200 and again.json["state"] == "canceled"


def test_cancel_of_a_waiting_call_never_starts_it(home, project):
    with Running(home, project, STUBBORN) as app:
        running, waiting = app.api.spawn(app.functions["sleeper"], [(60,), (0,)])
        app.wait_state(running, "running")
        app.api.request("POST", f"/api/calls/{waiting}/cancel", {})
        record = app.wait_end(waiting)
        assert record["state"] == "canceled" and record["attempts"] == 0
        app.api.request("POST", f"/api/calls/{running}/cancel", {})
        assert app.wait_end(running)["state"] == "canceled"


@pytest.mark.parametrize("seconds, attempts", [(1.5, 1), (8, 2)])
def test_what_shares_a_process_with_a_stubborn_call_has_time_and_is_then_moved(home, project, seconds, attempts):
    with Running(home, project, STUBBORN) as app:
        pair = app.functions["pair"]
        stubborn, other = app.api.spawn(pair, [(True, 60), (False, seconds)])
        app.wait_state(stubborn, "running")
        app.wait_state(other, "running")
        app.api.request("POST", f"/api/calls/{stubborn}/cancel", {})
        assert app.wait_end(stubborn)["state"] == "canceled"
        assert app.api.result(other).value[0] == "pair"
        record = app.api.record(other)
        assert record["state"] == "succeeded" and record["attempts"] == attempts


def test_cancel_through_the_sdk(home, project):
    found = told(home, project, """
        @app.function(max_containers=1)
        def nap(seconds):
            time.sleep(seconds)
            return "awake"

        @app.local_entrypoint()
        def main():
            call, batch = nap.spawn(60), nap.spawn_map([60, 60])
            call.cancel()
            batch.cancel()
            kinds = []
            for get in (call.get, batch.get):
                try:
                    get(timeout=30)
                except clunk.exception.CallCanceledError as error:
                    kinds.append(error.code)
            print(json.dumps([kinds, nap.remote(0)]))
    """)
    assert found == [["call-canceled", "call-canceled"], "awake"]


# Processes that die

DYING = """
@app.function(max_containers=1)
def die(code):
    if code is None:
        return os.getpid()
    os._exit(code)

@app.function(max_containers=1, retries=clunk.Retries(max_retries=2, initial_delay=0.0))
def die_again(code):
    print("trying", flush=True)
    os._exit(code)

@app.function(max_containers=1, workers=2)
def worker(code):
    if code is None:
        return os.getpid()
    os._exit(code)
"""


@pytest.mark.parametrize("name, words", [("die", "exit code 3"), ("worker", "worker process")])
def test_a_dead_process_is_reported_and_replaced(home, project, name, words):
    with Running(home, project, DYING) as app:
        function = app.functions[name]
        assert app.api.call(function, None).status == 200
        answer = app.api.call(function, 3)
        assert answer.headers["clunk-outcome"] == "failure"
        assert answer.json["error"]["code"] == "container-crashed" and words in answer.json["error"]["message"]
        assert app.api.call(function, None).status == 200
        dead, alive = app.api.spawn(function, [(3,), (None,)])
        assert app.api.result(alive).status == 200
        record = app.wait_end(dead)
        assert record["state"] == "failed" and words in record["error"] and record["attempts"] == 1


def test_a_dead_process_is_retried_by_the_functions_rules(home, project):
    with Running(home, project, DYING) as app:
        (call,) = app.api.spawn(app.functions["die_again"], [(7,)])
        record = app.wait_end(call)
        assert record["state"] == "failed" and record["attempts"] == 3 and "exit code 7" in record["error"]


# Down to nothing

def cpu_ticks(pid):
    """Ticks of processor time of a process and its threads, in both modes."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_idle_means_no_container_and_no_processor_time(home, project):
    source = """
        @app.function(scaledown_window=2)
        def brief(): return os.environ["CLUNK_REPLICA_ID"]
    """
    with Running(home, project, source) as app:
        brief = app.functions["brief"]
        first = app.api.call(brief).value
        assert app.api.function(brief)["replicas"] == 1
        wait_until("no replica", lambda: app.api.function(brief)["replicas"] == 0, 30)
        pid = home.server()["pid"]

        def still(spans=[None]):
            before = cpu_ticks(pid)
            # Three seconds of nothing: the span that is measured, not a wait for something.
            threading.Event().wait(3)
            return cpu_ticks(pid) == before

        wait_until("three seconds without a tick of processor time", still, 60)
        # A cold start, of another container.
        assert app.api.call(brief).value != first


# Retries and time

def test_retries_timeouts_and_waiting_too_long(home, project):
    found = told(home, project, """
        @app.function(max_containers=1, retries=clunk.Retries(max_retries=3, initial_delay=0.05))
        def flaky(until):
            if time.time() < until:
                raise OSError("not yet")
            return "done"

        @app.function(retries=1)
        def broken(): raise OSError("never")

        @app.function(timeout=1)
        def hang(): time.sleep(600)

        @app.function(max_containers=1, queue_timeout=1)
        def busy(seconds): time.sleep(seconds)

        def kind(call, *args):
            try:
                return call(*args)
            except Exception as error:
                return type(error).__name__

        @app.local_entrypoint()
        def main():
            flaky.remote(0)
            out = [flaky.remote(time.time() + 0.1), kind(broken.remote), kind(hang.remote), kind(hang.spawn().get)]
            holder = busy.spawn(600)
            while busy.get_current_stats().backlog:
                time.sleep(0.01)
            out.append(kind(busy.spawn(0).get))
            holder.cancel()
            print(json.dumps(out))
    """)
    assert found == ["done", "OSError", "FunctionTimeoutError", "FunctionTimeoutError", "CallExpiredError"]


def test_attempts_are_counted_in_the_record(home, project):
    source = """
        @app.function(max_containers=1, retries=clunk.Retries(max_retries=2, initial_delay=0.0))
        def broken(): raise OSError("never")
    """
    with Running(home, project, source) as app:
        (call,) = app.api.spawn(app.functions["broken"], [()])
        record = app.wait_end(call)
        assert record["state"] == "failed" and record["attempts"] == 3 and "never" in record["error"]
        answer = app.api.result(call)
        assert answer.status == 500 and answer.headers["clunk-outcome"] == "exception"


def test_an_idempotency_key_adds_nothing_twice(home, project):
    with Running(home, project, "@app.function()\ndef echo(x): return x\n") as app:
        echo = app.functions["echo"]
        first = app.api.spawn(echo, [(1,), (2,)], {"Idempotency-Key": "once"})
        assert app.api.spawn(echo, [(1,), (2,)], {"Idempotency-Key": "once"}) == first
        assert app.api.spawn(echo, [(1,), (2,)], {"Idempotency-Key": "twice"}) != first
        assert [app.api.result(call).value for call in first] == [1, 2]
        assert len(app.api.all_calls(f"function={echo}")) == 4


def test_every_attempt_ends_at_its_timeout(home, project):
    said = told(home, project, """
        @app.function(timeout=1, retries=1, max_containers=1)
        def slow(seconds):
            time.sleep(seconds)
            return "slept through its timeout"

        @app.local_entrypoint()
        def main():
            said = []
            for call in (lambda: slow.remote(30), lambda: slow.remote(30), lambda: slow.spawn(30).get()):
                try:
                    said.append(call())
                except clunk.exception.FunctionTimeoutError as error:
                    said.append(type(error).__name__)
            print(json.dumps(said))
    """)
    assert said == ["FunctionTimeoutError"] * 3


def test_a_running_spawned_call_does_not_hold_up_the_end_of_its_app(home, project):
    with Running(home, project, SLOT + """
@app.function(max_containers=1)
def sleeper(seconds):
    time.sleep(seconds)
""") as app:
        (call,) = app.api.spawn(app.functions["sleeper"], [(60,)])
        app.wait_state(call, "running")
    record = Api(home).record(call)
    assert (record["state"], record["error"]) == ("canceled", "app-stopped: the app was stopped")


def test_stopping_containers_under_a_load_loses_no_call(home, project):
    with Running(home, project, """
@app.function(max_containers=4)
def work(number):
    return number
""") as app:
        work = app.functions["work"]
        calls = app.api.spawn(work, [(number,) for number in range(10_000)])
        stopper = Api(home)
        left, stopped = 10_000, 0
        while left:
            for container in stopper.get("/api/containers"):
                if container["function"] == "work" and container["state"] == "busy":
                    # It may meet a call on its way to the container.
                    stopper.request("POST", f"/api/containers/{container['replica']}/stop")
                    stopped += 1
                    break
            before = left
            wait_until("some calls end", lambda: app.api.function(work)["queued"] in (0, *range(before - 49)), 30)
            left = app.api.function(work)["queued"]
        stopper.close()
        assert stopped > 10
        wait_until("all have ended", lambda: app.api.function(work)["running"] == 0, 30)
        for call in calls:
            assert app.wait_end(call)["state"] == "succeeded"
