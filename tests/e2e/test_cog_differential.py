"""Cog's published server and ours answer the same requests side by side.

Ids, times and addresses are masked, and every difference that is left stands in cog_differences.json with its reason. A
difference that is not listed fails, and so does a listed one that no longer occurs.
"""

import fnmatch
import json
import os
import pathlib
import re
import tempfile
import threading

import pytest

from cog_cases import CASES
from cog_servers import ClunkBesideCog, CogServer, Receiver, wait_gone
from conftest import wait_until

LISTED = json.loads((pathlib.Path(__file__).parent / "cog_differences.json").read_text())
ABSENT = "<absent>"
MASKS = (
    (re.compile(r"^(pred|train)_[0-9a-f]{12,}$"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), "<time>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
    (re.compile(r"/tmp/[^\s\"']*"), "<path>"),
)
SIDES = (CogServer, ClunkBesideCog)


class Side:
    """One server during one case."""

    def __init__(self, kind, case):
        self.receiver = Receiver()
        self.folder = tempfile.TemporaryDirectory()
        start = dict(case.start)
        env = dict(start.pop("env", {}))
        self.gated = start.pop("gate", None)
        if gate := self.gated:
            env["GATE"] = self.gate()
            if gate is not True:
                self.write_gate(gate)
        if start.pop("upload_url", False):
            start["upload_url"] = f"{self.receiver.url}/put"
        self.server = kind(case.project, env=env, **start)
        try:
            if case.ready:
                self.server.wait_status(case.ready)
        except BaseException:
            self.close()
            raise

    def gate(self):
        """The path of a file that opens what a prediction waits for."""
        return os.path.join(self.folder.name, "gate")

    def write_gate(self, text):
        pathlib.Path(self.gate()).write_text(text)

    def open_gate(self):
        self.write_gate("open")

    def watched(self):
        """The input of a prediction of `slow` that lasts until the gate opens and says when it has begun."""
        return {"until": self.gate(), "begun": self.gate() + "-begun"}

    def wait_begun(self):
        wait_until("the prediction runs", lambda: os.path.exists(self.gate() + "-begun"))

    def settle(self):
        """Cog refuses a request that comes right after an answer: its place is given back later."""
        self.server.wait_status("READY", "UNHEALTHY", "SETUP_FAILED", "STARTING", "UNKNOWN")

    def ask(self, *words, **options):
        return self.server.ask(*words, **options)

    def settled(self, *words, **options):
        self.settle()
        return self.ask(*words, **options)

    def predict(self, *words, **body):
        self.settle()
        return self.server.predict(*words, **body)

    def together(self, *asks):
        """Starts requests at once; the answers come when they are asked for."""
        found = [None] * len(asks)

        def run(at):
            try:
                found[at] = asks[at]()
            except Exception as error:
                found[at] = error

        threads = [threading.Thread(target=run, args=(at,)) for at in range(len(asks))]
        for thread in threads:
            thread.start()

        def answers():
            for thread in threads:
                thread.join(60)
            for one in found:
                if isinstance(one, Exception):
                    raise one
            return found

        return answers

    def exit_code(self):
        return wait_gone(self.server.process)

    def reset(self):
        self.receiver.clear()
        if not self.gated:
            for end in ("", "-begun"):
                pathlib.Path(self.gate() + end).unlink(missing_ok=True)

    def close(self):
        self.server.stop()
        self.receiver.close()
        self.folder.cleanup()


class Pairs:
    """The two servers of the cases that run now."""

    def __init__(self):
        self.key, self.sides = None, ()

    def of(self, case):
        if self.key != case.key or not case.ready or "gate" in case.start:
            self.close()
            self.sides = []
            for kind in SIDES:
                self.sides.append(Side(kind, case))
            self.key = case.key
        for side in self.sides:
            side.reset()
        return self.sides

    def close(self):
        for side in self.sides:
            side.close()
        self.key, self.sides = None, ()


@pytest.fixture(scope="module")
def pairs():
    found = Pairs()
    yield found
    found.close()


@pytest.fixture(scope="module")
def occurred():
    """The listed differences that were seen, and the cases that ran."""
    return {"listed": set(), "cases": set()}


def masked(value, key=None):
    if isinstance(value, dict):
        return {name: masked(one, name) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked(one) for one in value]
    if key in ("predict_time", "total_time") and isinstance(value, (int, float)):
        return "<seconds>"
    if isinstance(value, str):
        for pattern, mark in MASKS:
            value = pattern.sub(mark, value)
    return value


def differences(cog, clunk, at="$"):
    """Where two observations differ: `(place, Cog's, ours)`."""
    if isinstance(cog, dict) and isinstance(clunk, dict):
        names = sorted(cog.keys() | clunk.keys())
        pairs = [(f"{at}.{name}", cog.get(name, ABSENT), clunk.get(name, ABSENT)) for name in names]
    elif isinstance(cog, list) and isinstance(clunk, list):
        most = max(len(cog), len(clunk))
        longer = [values + [ABSENT] * (most - len(values)) for values in (cog, clunk)]
        pairs = [(f"{at}[{number}]", *both) for number, both in enumerate(zip(*longer))]
    elif cog == clunk and type(cog) is type(clunk):
        return []
    else:
        return [(at, cog, clunk)]
    return [found for place, left, right in pairs for found in differences(left, right, place)]


def fits(wanted, value):
    """A text of the list is a pattern, anything else the value itself."""
    if isinstance(wanted, str) and isinstance(value, str):
        return fnmatch.fnmatchcase(value, wanted.replace("[", "[[]"))
    if wanted == "*":
        return True
    return wanted == value and type(wanted) is type(value)


def listed(case, place, cog, clunk):
    """The numbers of the listed differences that this one is."""
    return [
        number
        for number, entry in enumerate(LISTED)
        if any(fnmatch.fnmatchcase(case, one) for one in entry["case"].split("|"))
        and any(fnmatch.fnmatchcase(place, one.replace("[", "[[]")) for one in entry["at"].split("|"))
        and fits(entry["cog"], cog)
        and fits(entry["clunk"], clunk)
    ]


IN_TURN = sorted(CASES.values(), key=lambda case: case.key)


@pytest.mark.parametrize("case", IN_TURN, ids=[case.name for case in IN_TURN])
def test_the_answers_are_the_same_or_the_difference_is_listed(case, pairs, occurred):
    sides = pairs.of(case)
    cog, clunk = [masked(case.function(side)) for side in sides]
    unlisted = []
    for place, left, right in differences(cog, clunk):
        found = listed(case.name, place, left, right)
        occurred["listed"].update(found)
        if not found:
            unlisted.append(f"{place}\n    cog:   {json.dumps(left)}\n    clunk: {json.dumps(right)}")
    occurred["cases"].add(case.name)
    assert not unlisted, "differences that are not listed:\n" + "\n".join(unlisted)


def test_every_listed_difference_still_occurs(occurred):
    if missing := CASES.keys() - occurred["cases"]:
        pytest.skip(f"{len(missing)} cases did not run or failed, so nothing can be said")
    stale = [entry for number, entry in enumerate(LISTED) if number not in occurred["listed"]]
    assert not stale, "these are no difference any more:\n" + json.dumps(stale, indent=2)


def test_every_listed_difference_has_a_reason():
    for entry in LISTED:
        assert set(entry) == {"case", "at", "cog", "clunk", "reason"}, entry
        assert len(entry["reason"].split()) > 3, entry


def test_the_comparison_sees_every_kind_of_difference():
    cog = {"a": 1, "b": [1, {"c": "x"}], "d": True, "e": None}
    clunk = {"a": 1.0, "b": [1, {"c": "y"}, 2], "d": 1, "f": 0}
    found = {place: (left, right) for place, left, right in differences(cog, clunk)}
    assert found == {
        "$.a": (1, 1.0),
        "$.b[1].c": ("x", "y"),
        "$.b[2]": (ABSENT, 2),
        "$.d": (True, 1),
        "$.e": (None, ABSENT),
        "$.f": (ABSENT, 0),
    }
    assert differences(cog, json.loads(json.dumps(cog))) == []
    assert listed("succeeds", "$.body.output", "a", "b") == []
