"""Files that nothing refers to any more go from the disk; what anything refers to stays, also over kills."""

import json
import os

import pytest
from conftest import wait_until
from test_chaos import chaos_home  # noqa: F401
from test_cog_serve_command import Served
from test_server import borrow_images

SIZE = 8 << 20
MODEL = '''
from cog import *
import hashlib

class Runner(BaseRunner):
    def run(self) -> str:
        return hashlib.sha256(open("weights.bin", "rb").read()).hexdigest()[:8] + " MARK"
'''


def write(folder, mark, weights):
    folder.mkdir(exist_ok=True)
    (folder / "cog.yaml").write_text('build:\n  python_version: "3.13"\nrun: "run.py:Runner"\n')
    (folder / "run.py").write_text(MODEL.replace("MARK", mark))
    (folder / "weights.bin").write_bytes(weights)
    return folder


def files(home):
    """Digests of blobs and trees on the disk."""
    blobs = {name for _, _, names in os.walk(home.path / "blobs") for name in names}
    return blobs, set(os.listdir(home.path / "trees"))


@pytest.fixture
def fresh(chaos_home, home, project):  # noqa: F811
    borrow_images(chaos_home, home, project)
    chaos_home.env["CLUNK_KEEP_UPLOADS_S"] = "0"
    chaos_home.ok("up")
    yield chaos_home


def push(home, folder):
    return home.ok("push", folder, "core/disk", "--quiet").strip()


def test_a_deleted_version_gives_its_room_back_and_no_other_loses_any(fresh, tmp_path):
    before = files(fresh)
    first_only, shared = os.urandom(SIZE), os.urandom(SIZE)
    first = push(fresh, write(tmp_path / "m", "one", first_only))
    alone = files(fresh)
    assert alone != before
    second = push(fresh, write(tmp_path / "m", "two", shared))
    third = push(fresh, write(tmp_path / "m", "three", shared))
    trees = fresh.path / "trees"
    assert fresh.ok("run", third).endswith("three\n")
    laid_out = list(trees.rglob("weights.bin"))
    assert laid_out and all(path.stat().st_nlink > 1 for path in laid_out), "large files lie on the disk once"
    fresh.ok("model", "delete", first, "--yes")
    wait_until("the first version is gone from the disk", lambda: not (alone[1] - before[1]) & files(fresh)[1])
    wait_until("its blobs are gone", lambda: len((alone[0] - before[0]) & files(fresh)[0]) == 1)
    fresh.ok("model", "delete", second, "--yes")
    wait_until("two trees are gone", lambda: len(files(fresh)[1] - before[1]) == 1)
    # A kill in the middle of it, and what is served still is.
    server = fresh.server()
    os.kill(server["pid"], 9)
    wait_until("a new server", lambda: fresh.run("up").returncode == 0)
    assert fresh.ok("run", third).endswith("three\n")
    fresh.ok("model", "delete", third, "--yes")
    wait_until("all is as it was", lambda: files(fresh) == before)
    again = push(fresh, write(tmp_path / "m", "one", first_only))
    assert again == first
    assert fresh.ok("run", again).endswith("one\n")


def test_what_a_model_server_uses_is_not_pruned(fresh, tmp_path):
    folder = write(tmp_path / "m", "served", b"late")
    served = Served(fresh, folder).wait_ready()
    fresh.ok("image", "prune")
    answer = served.ask("/predictions", {"input": {}})
    assert (answer["status"], answer["output"][-7:]) == ("succeeded", " served"), answer
    served.stop()
    laid = files(fresh)[1]
    assert laid
    fresh.ok("image", "prune")
    assert not laid & files(fresh)[1], "nobody uses it any more"


def test_a_model_is_served_on_after_an_upgrade_of_its_runner(fresh, tmp_path):
    version = push(fresh, write(tmp_path / "m", "upgraded", b"weights"))
    fresh.ok("down")
    for record in fresh.path.glob("images/*/image.json"):
        fields = json.loads(record.read_text())
        fields["runner"] = "0" * 64
        record.write_text(json.dumps(fields))
    fresh.ok("up")
    assert fresh.ok("run", version).endswith("upgraded\n")
