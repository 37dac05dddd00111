"""Kills at random moments: every accepted prediction ends once, with its output, and its webhook arrives.

CLUNK_CHAOS is the number of kills (200 is the full form), CLUNK_CHAOS_SEED the seed of the moments and the targets.
"""

import collections
import hashlib
import http.client
import json
import os
import random
import sqlite3
import threading

from api import Api
from conftest import leftovers, wait_until
from test_chaos import END_LIMIT_S, SEED, START_LIMIT_S, chaos_home, strike  # noqa: F401
from test_predictions import Receiver, write
from test_server import NOTHING, borrow_images

KILLS = int(os.environ.get("CLUNK_CHAOS", "8"))
SUBMITTERS = 4
# Of a prediction. Milliseconds.
LONGEST_MS = 200
# Predictions that are accepted between two kills, at least: some wait then, and some run.
BETWEEN_KILLS = 12

MODEL = '''
from cog import *
import hashlib
import time

class Runner(BaseRunner):
    def run(self, number: int, milliseconds: int) -> str:
        print("number", number, flush=True)
        time.sleep(milliseconds / 1000)
        return hashlib.sha256(str(number).encode()).hexdigest()
'''


class Submitter(threading.Thread):
    """Asks for predictions until it is told to stop. Of one that was not answered nobody knows whether it was accepted."""

    def __init__(self, home, number, webhook):
        super().__init__(daemon=True)
        self.api = Api(home)
        self.chance = random.Random(SEED + number)
        self.numbers = iter(range(number, 1 << 30, SUBMITTERS))
        self.webhook = webhook
        # Id to its input.
        self.accepted = {}
        self.unanswered = 0
        self.stopping = threading.Event()
        self.error = None

    def run(self):
        try:
            while not self.stopping.is_set():
                self._one(next(self.numbers))
                # No faster than they are run, on the whole.
                self.stopping.wait(LONGEST_MS / 1000 * self.chance.random())
        except BaseException as error:
            self.error = error

    def _one(self, number):
        body = {"input": {"number": number, "milliseconds": self.chance.randrange(LONGEST_MS)}}
        body.update(webhook=self.webhook, webhook_events=["completed"])
        try:
            answer = self.api.request("POST", "/api/models/core/chaos/predictions", body)
        except (OSError, http.client.HTTPException, ValueError):
            # The server is away, or is being started again.
            self.unanswered += 1
            return
        # Only a server that is stopping or starting may refuse.
        assert answer.status in (201, 503), (answer.status, answer.body[:500])
        if answer.status == 201:
            assert answer.json["id"] not in self.accepted
            self.accepted[answer.json["id"]] = number


def expected(number):
    return hashlib.sha256(str(number).encode()).hexdigest()


def unfinished(home):
    """Predictions without an end, on disk."""
    with sqlite3.connect(f"file:{home.path / 'clunk.db'}?mode=ro", uri=True) as database:
        return database.execute("SELECT count(*) FROM predictions WHERE completed_ms IS NULL").fetchone()[0]


def heard(receiver, ends):
    """Notes the webhooks that have come: id to how it ended. One that comes again says the same."""
    while not receiver.heard.empty():
        _, body, _ = receiver.heard.get()
        told = json.loads(body)
        end = told["status"], told["output"], told["completed_at"] if "completed_at" in told else told["completed_ms"]
        assert ends.setdefault(told["id"], end) == end, f"{told['id']} ended twice"


def test_kills_lose_no_prediction_and_end_none_twice(chaos_home, home, project, tmp_path):  # noqa: F811
    borrow_images(chaos_home, home, project)
    chance = random.Random(SEED)
    chaos_home.ok("up")
    chaos_home.ok("push", write(tmp_path / "chaos", MODEL), "core/chaos", "--quiet")
    receiver = Receiver()
    submitters = [Submitter(chaos_home, number, receiver.url) for number in range(SUBMITTERS)]
    for submitter in submitters:
        submitter.start()
    api, ends, kinds = Api(chaos_home), {}, collections.Counter()

    def accepted():
        assert all(submitter.error is None for submitter in submitters), [each.error for each in submitters]
        return sum(len(submitter.accepted) for submitter in submitters)

    try:
        for _ in range(KILLS):
            goal = accepted() + BETWEEN_KILLS
            wait_until("more predictions", lambda: accepted() >= goal, START_LIMIT_S)
            kind = chance.choice(("server", "container", "everything"))
            kinds[kind] += 1
            if strike(chaos_home, kind, chance, api):
                wait_until("a new server", lambda: chaos_home.run("up").returncode == 0, START_LIMIT_S)
                api.close()
        for submitter in submitters:
            submitter.stopping.set()
            submitter.join(START_LIMIT_S)
        total = accepted()
        wait_until("all ended", lambda: unfinished(chaos_home) == 0, END_LIMIT_S)
        for submitter in submitters:
            for prediction, number in submitter.accepted.items():
                found = api.get(f"/api/predictions/{prediction}")
                assert (found["status"], found["output"]) == ("succeeded", expected(number)), found
                # Whichever run it was that ended, its logs are of that one.
                assert found["logs"] == f"number {number}\n", found

        def all_heard():
            heard(receiver, ends)
            return all(prediction in ends for submitter in submitters for prediction in submitter.accepted)

        wait_until("all webhooks", all_heard, END_LIMIT_S)
    finally:
        for submitter in submitters:
            submitter.stopping.set()
        receiver.shutdown()
        receiver.server_close()
    unanswered = sum(submitter.unanswered for submitter in submitters)
    print(f"seed {SEED}: {dict(kinds)}, {total} accepted, {unanswered} requests unanswered, {len(ends)} webhooks")
    chaos_home.ok("down")
    wait_until("nothing left", lambda: leftovers(chaos_home) == NOTHING)


def test_what_runs_when_the_server_is_stopped_ends_under_the_next(chaos_home, home, project, tmp_path):  # noqa: F811
    borrow_images(chaos_home, home, project)
    chaos_home.ok("up")
    chaos_home.ok("push", write(tmp_path / "chaos", MODEL), "core/chaos", "--quiet")
    receiver, api = Receiver(), Api(chaos_home)
    body = {"input": {"number": 7, "milliseconds": 3000}, "webhook": receiver.url, "webhook_events": ["completed"]}
    made = api.request("POST", "/api/models/core/chaos/predictions", body).json

    def status():
        return api.get(f"/api/predictions/{made['id']}")["status"]

    wait_until("it runs", lambda: status() == "processing", START_LIMIT_S)
    chaos_home.ok("down")
    assert unfinished(chaos_home) == 1
    # Its data is removed as soon as it has ended.
    chaos_home.env["CLUNK_KEEP_PREDICTIONS_S"] = "0"
    chaos_home.ok("up")
    api.close()
    _, sent, _ = receiver.heard.get(timeout=END_LIMIT_S)
    told = json.loads(sent)
    assert (told["id"], told["status"], told["output"]) == (made["id"], "succeeded", expected(7))
    # The sweep of the next start finds it old enough.
    chaos_home.ok("down")
    chaos_home.ok("up")
    api.close()
    found = {}

    def removed():
        found.update(api.get(f"/api/predictions/{made['id']}"))
        return found["data_removed"]

    wait_until("its data is removed", removed)
    assert (found["status"], found["output"], found["logs"], found["input"]) == ("succeeded", None, "", None)
    receiver.shutdown()
    receiver.server_close()
