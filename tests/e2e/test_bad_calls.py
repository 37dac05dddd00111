"""Wrong calls, each with its own error; and results that are gone."""

import json
import sqlite3
import textwrap

import pytest
from api import FRAMES, Api, frames
from calls_app import HEAD, Running
from conftest import wait_until
from test_server import borrow_images


# What is wrong is named

BAD = {
    "a generator is not called with remote": ("numbers.remote(1)", "InvalidError", "remote_gen"),
    "a generator is not mapped": ("list(numbers.map([1]))", "InvalidError", "remote_gen"),
    "a generator is not spawned": ("numbers.spawn(1)", "InvalidError", "remote_gen"),
    "a plain function has no stream": ("list(plain.remote_gen(1))", "InvalidError", "no generator"),
    "a batch of the wrong length": ("short.remote(1)", None, "1"),
    "a batch that is no list": ("no_list.remote(1)", None, "list"),
    "an exception without a pickle": ("unpicklable.remote()", "RemoteError", "not to be pickled"),
    "too many retries": ("clunk.Retries(max_retries=11)", "InvalidError", "max_retries"),
    "a shrinking back-off": ("clunk.Retries(max_retries=1, backoff_coefficient=0.5)", "InvalidError", "backoff"),
    "a delay out of range": ("clunk.Retries(max_retries=1, initial_delay=61)", "InvalidError", "initial_delay"),
    "an enter that raises": ("Broken().ask.remote()", "ZeroDivisionError", "division"),
    "a parameter of the wrong type": ("Sized(size='big').ask.remote()", "InvalidError", "size"),
    "a parameter that is missing": ("Sized().ask.remote()", "InvalidError", "size"),
    "an unknown call": ("clunk.FunctionCall.from_id('call-' + '0' * 26).get()", "NotFoundError", "call-"),
    "an unknown batch": ("clunk.FunctionCall.from_id('batch-' + '0' * 26).get()", "NotFoundError", "batch-"),
    "what is no id": ("clunk.FunctionCall.from_id('fc-1')", "InvalidError", "fc-1"),
    "an index that is not there": ("plain.spawn_map([1]).get(index=5)", "InvalidError", "5"),
    "more than the machine has": ("large.remote(1)", "InvalidError", "GiB"),
}

BAD_APP = """
@app.function()
def plain(x): return 1

@app.function()
def numbers(n): yield from range(n)

@app.function()
@clunk.batched(max_batch_size=2, wait_ms=0)
def short(xs): return []

@app.function()
@clunk.batched(max_batch_size=2, wait_ms=0)
def no_list(xs): return 7

class Odd(Exception):
    def __reduce__(self): raise TypeError("no pickle of this")

@app.function()
def unpicklable(): raise Odd("not to be pickled")

@app.cls()
class Broken:
    @clunk.enter()
    def load(self): 1 / 0
    @clunk.method()
    def ask(self): return 1

@app.cls()
class Sized:
    size: int = clunk.parameter()
    @clunk.method()
    def ask(self): return self.size

@app.local_entrypoint()
def main():
    out = {}
    for name, code in CASES.items():
        try:
            eval(code)
            out[name] = ["nothing", ""]
        except Exception as error:
            out[name] = [type(error).__name__, str(error)]
    print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def bad(home, tmp_path_factory):
    """What each of the wrong calls raised; all in one run of one app."""
    cases = {name: code for name, (code, _, _) in BAD.items() if not code.startswith("large")}
    folder = tmp_path_factory.mktemp("bad")
    (folder / "calls.py").write_text(f"{HEAD}\nCASES = {cases!r}\n{BAD_APP}")
    found = json.loads(home.ok("run", "calls.py", cwd=folder).strip().splitlines()[-1])
    # An app with a function that can never run is refused as a whole.
    large = "\n@app.function(memory=60_000_000)\ndef large(x): return x\n"
    (folder / "calls.py").write_text(f"{HEAD}{large}\nCASES = {{'large': 'large.remote(1)'}}\n{BAD_APP}")
    done = home.run("run", "calls.py", cwd=folder)
    if done.returncode == 0:
        found["more than the machine has"] = json.loads(done.stdout.strip().splitlines()[-1])["large"]
    else:
        found["more than the machine has"] = ["InvalidError", done.stderr]
    return found


@pytest.mark.parametrize("name", BAD)
def test_bad_input(bad, name):
    _, kind, words = BAD[name]
    found, message = bad[name]
    assert found == kind or kind is None and found != "nothing", (found, message)
    assert words in message, (found, message)


def test_unknown_ids_and_bad_requests_over_http(home, project):
    nothing = "0" * 26
    with Running(home, project, "@app.function()\ndef plain(x): return x\n") as app:
        plain = app.functions["plain"]
        for method, path in (
            ("GET", f"/api/calls/call-{nothing}"),
            ("GET", f"/api/calls/call-{nothing}/result"),
            ("POST", f"/api/calls/call-{nothing}/cancel"),
            ("GET", f"/api/batches/batch-{nothing}"),
            ("GET", f"/api/functions/fn-{nothing}"),
            ("POST", f"/api/functions/fn-{nothing}/spawn"),
            ("POST", f"/api/containers/rep-{nothing}/stop"),
        ):
            answer = app.api.request(method, path, b"{}" if path.endswith("/cancel") else b"")
            assert answer.status == 404 and answer.json["error"]["code"] == "not-found", (path, answer.body)
        for headers in ({"clunk-priority": "101"}, {"clunk-priority": "high"}, {"clunk-expires-ms": "-1"}):
            answer = app.api.call(plain, 1, headers=headers)
            assert answer.status == 400 and next(iter(headers)) in answer.json["error"]["message"], answer.body
        # Frames that end in the middle.
        answer = app.api.request("POST", f"/api/functions/{plain}/spawn", b"\0" * 20, {"Content-Type": FRAMES})
        assert answer.status == 400, answer.body
        # One input may be as large as a call's; many in one request share a limit.
        large = frames([(bytes(40 << 20),)] * 2)
        answer = app.api.request("POST", f"/api/functions/{plain}/spawn", large, {"Content-Type": FRAMES})
        assert answer.status == 413 and "64 MiB" in answer.json["error"]["message"], answer.body
        assert app.api.all_calls(f"function={plain}") == []


def test_a_result_is_gone_after_its_time(own_home, home, project):
    borrow_images(own_home, home, project)
    source = "@app.function()\ndef plain(x): return x\n"
    with Running(own_home, project, source) as app:
        (call,) = app.api.spawn(app.functions["plain"], [(1,)])
        assert app.api.result(call).value == 1
    own_home.ok("down")
    # Eight days later.
    with sqlite3.connect(own_home.path / "clunk.db") as database:
        for table in ("calls", "results"):
            database.execute(f"UPDATE {table} SET ended_ms = ended_ms - 8 * 86400000 WHERE ended_ms IS NOT NULL")
    own_home.ok("up")
    api = Api(own_home)
    try:
        wait_until("the result is gone", lambda: api.result(call, 0).status in (404, 410), 30)
        answer = api.result(call, 0)
        assert answer.status == 410 and answer.json["error"]["code"] == "result-expired"
    finally:
        api.close()
    folder = project(late=HEAD + textwrap.dedent(f"""
        @app.function()
        def plain(x): return x
        @app.local_entrypoint()
        def main():
            try:
                clunk.FunctionCall.from_id({call!r}).get()
            except clunk.exception.OutputExpiredError as error:
                print(error.code)
    """))
    assert own_home.ok("run", "late.py", cwd=folder) == "result-expired\n"
