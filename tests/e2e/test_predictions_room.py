"""Room of a model's containers: what outputs leave in /tmp, and what a full one means."""

import pytest
from api import Api
from conftest import wait_until
from test_predictions import PATIENCE_S, ended, fetch, predict, write

MODEL = """
from cog import *
import os

class Runner(BaseRunner):
    def run(self, do: str) -> Path:
        if do == "fill":
            with open("/tmp/huge", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, 1 << 50)
        with open(f"/tmp/{do}.txt", "w") as file:
            file.write(" ".join(sorted(os.listdir("/tmp"))))
        open("/tmp/mark", "w").close()
        return Path(f"/tmp/{do}.txt")
"""


FAST = """
from cog import *
from typing import Iterator

class Runner(BaseRunner):
    def run(self, count: int, size: int) -> Iterator[Path]:
        for at in range(count):
            with open(f"/tmp/{at}", "wb") as file:
                file.write(b"%9d" % at + b"x" * (size - 9))
            yield Path(f"/tmp/{at}")
"""


SLOW = """
from cog import *
import time

class Runner(BaseRunner):
    def run(self) -> str:
        time.sleep(600)
"""


@pytest.fixture(scope="module")
def api(home, tmp_path_factory):
    for name, source in (("room", MODEL), ("fast", FAST)):
        home.ok("push", write(tmp_path_factory.mktemp("room") / "m", source), f"core/{name}", "--quiet")
    api = Api(home)
    yield api
    api.close()


def said(api, prediction):
    assert prediction["status"] == "succeeded", prediction
    return fetch(prediction["output"])[0].decode()


def test_files_of_outputs_do_not_pile_up(api):
    assert said(api, predict(api, "room", input={"do": "a"})) == "a.txt"
    assert said(api, predict(api, "room", input={"do": "b"})) == "b.txt mark"


def test_a_full_tmp_is_told_and_the_next_prediction_has_an_empty_one(api):
    full = predict(api, "room", input={"do": "fill"})
    assert full["status"] == "failed"
    assert "No space left on device" in full["error"] and "this container is replaced" in full["error"], full
    assert said(api, predict(api, "room", input={"do": "c"})) == "c.txt"


def test_an_iterator_that_is_faster_than_the_disk_waits_for_it(api):
    # More than may wait in memory; each is small enough to come inline.
    done = predict(api, "fast", input={"count": 600, "size": 250_000})
    assert (done["status"], done["error"]) == ("succeeded", None)
    assert len(done["output"]) == 600
    assert fetch(done["output"][599])[0][:9] == b"      599"


def test_what_is_taken_away_under_a_prediction_is_named(home, tmp_path):
    api = Api(home)
    name = "core/gone"
    said = home.ok("push", write(tmp_path / "m", SLOW), name, "--quiet")
    version = said.strip().partition(":")[2]
    running, waiting = [predict(api, "gone", wait_s=0, input={}) for _ in range(2)]
    wait_until("it runs", lambda: api.get(f"/api/predictions/{running['id']}")["status"] == "processing", PATIENCE_S)
    refused = home.run("app", "stop", name)
    assert refused.returncode != 0 and f"serves {name}" in refused.stderr and "model delete" in refused.stderr
    assert api.get(f"/api/predictions/{running['id']}")["status"] == "processing"
    home.ok("model", "delete", f"{name}:{version}", "--yes")
    for prediction in (running, waiting):
        end = ended(api, prediction)
        assert (end["status"], end["error"]) == ("canceled", f"the version {version[:12]} was deleted"), end
    api.close()
