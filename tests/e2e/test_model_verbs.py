"""`clunk push`, `run`, `train`, `model` and `serve` with real models in real containers."""

import hashlib
import json
import re
import signal
import struct
import subprocess
import urllib.error
import urllib.request
import zlib

import pytest
from conftest import ROOT, wait_until

EXAMPLES = ROOT / "examples" / "cog"


def model(folder, source, settings='run: "run.py:Runner"\n', **files):
    """Writes a Cog project."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cog.yaml").write_text('build:\n  python_version: "3.13"\n' + settings)
    (folder / "run.py").write_text("from cog import *\nfrom typing import *\n" + source)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text("from cog import *\n" + text)
    return folder


def test_the_first_example_is_run_pushed_shown_and_deleted(home):
    assert home.ok("run", EXAMPLES / "hello", "-i", "name=world") == "hello world\n"
    first = home.ok("push", EXAMPLES / "hello", "me/hello").strip()
    assert re.fullmatch(r"me/hello:[0-9a-f]{64}", first)
    again = home.run("push", EXAMPLES / "hello", "me/hello")
    assert (again.stdout.strip(), "nothing has changed" in again.stderr) == (first, True)
    assert home.ok("run", "me/hello", "-i", "name=you", "-i", "times=2") == "hello you, hello you\n"
    assert home.ok("predict", first, "-i", "name=me") == "hello me\n"
    assert "me/hello" in home.ok("model", "list")
    assert "-i name=TEXT" in home.ok("model", "show", "me/hello")
    assert home.ok("model", "versions", "me/hello", "--quiet").strip() == first.partition(":")[2]
    refused = home.run("run", "me/hello", "-i", "name=a", "-i", "times=11")
    assert (refused.returncode, "at most 10" in refused.stderr) == (2, True)
    home.ok("model", "delete", "me/hello", "--yes")
    assert home.run("run", "me/hello", "-i", "name=a").returncode == 3


def test_text_comes_as_it_is_made_and_logs_beside_it(home, tmp_path):
    folder = model(
        tmp_path / "m",
        "class Runner(BaseRunner):\n    def run(self, n: int = 3) -> ConcatenateIterator[str]:\n"
        '        for at in range(n):\n            print("at", at)\n            yield f"{at} "\n',
    )
    done = home.run("run", folder)
    assert (done.stdout, done.returncode) == ("0 1 2 \n", 0)
    assert "at 0\nat 1\nat 2\n" in done.stderr
    whole = json.loads(home.ok("run", folder, "--json"))
    assert (whole["status"], whole["output"]) == ("succeeded", ["0 ", "1 ", "2 "])
    assert whole["metrics"]["predict_time"] >= 0
    # As Replicate's API shows it.
    assert whole["urls"]["get"].endswith(f"/replicate/v1/predictions/{whole['id']}")
    left = home.run("run", folder, "--detach")
    assert f"clunk predict {left.stdout.strip()}" in left.stderr
    assert home.ok("predict", left.stdout.strip()) == "0 1 2 \n"


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_files_go_in_and_come_out_unchanged(home, tmp_path, size):
    folder = model(
        tmp_path / "m",
        "class Runner(BaseRunner):\n    def run(self, file: Path, count: int = 1) -> List[Path]:\n        made = []\n"
        "        for at in range(count):\n            out = Path(f'/tmp/out{at}.bin')\n"
        "            out.write_bytes(file.read_bytes()[::-1])\n            made.append(out)\n        return made\n",
    )
    data = bytes(at * at % 251 for at in range(size))
    (tmp_path / "in.bin").write_bytes(data)
    out = home.ok("run", folder, "-i", "file=@in.bin", "-i", "count=2", "-o", "got/", cwd=tmp_path)
    assert len(out.splitlines()) == 2
    for path in out.splitlines():
        assert (tmp_path / path).read_bytes() == data[::-1]


def test_files_in_an_output_of_any_shape(home, tmp_path):
    folder = model(
        tmp_path / "m",
        "class Runner:\n    def run(self) -> Iterator[Any]:\n        for at in range(2):\n"
        "            out = Path(f'/tmp/größe {at}.txt')\n            out.write_text(str(at))\n"
        "            yield {'file': out, 'at': at}\n",
    )
    home.ok("run", folder, "-o", "got/", cwd=tmp_path)
    assert sorted(path.read_text() for path in (tmp_path / "got").iterdir()) == ["0", "1"]
    assert all(path.name.startswith("größe") for path in (tmp_path / "got").iterdir())


def test_a_model_that_raises_and_one_that_cannot_start(home, tmp_path):
    folder = model(
        tmp_path / "m", "class Runner:\n    def run(self, s: str = 'bad thing') -> str:\n        raise ValueError(s)\n"
    )
    done = home.run("run", folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" in done.stderr
    assert "bad thing" in done.stderr.rpartition("error:")[2]
    folder = model(tmp_path / "n", "import nowhere_at_all\nclass Runner:\n    def run(self) -> str: ...\n")
    done = home.run("run", folder)
    assert done.returncode == 1
    assert 'File "/src/run.py", line 3, in <module>' in done.stderr
    assert "No module named 'nowhere_at_all'" in done.stderr.rpartition("error:")[2]


def test_mistakes_are_told_before_anything_is_built(home, tmp_path):
    folder = model(
        tmp_path / "m", "class Runner:\n    def run(self, n: int = Input(default=0, ge=2)) -> str: ...\n", "rnu: x\n"
    )
    done = home.run("push", folder, "me/m")
    assert done.returncode == 1
    assert "cog.yaml:" in done.stderr
    assert "nothing was built" in done.stderr


def test_a_secret_is_there_for_one_command_of_the_build(home, tmp_path):
    (tmp_path / "token").write_bytes(b"hunter2\n")
    command = "sha256sum < /run/secrets/token > /seen && ls -l /run/secrets >> /seen"
    mount = "{type: secret, id: token, target: /run/secrets/token}"
    folder = model(
        tmp_path / "m",
        "import os\nclass Runner:\n    def run(self) -> dict:\n"
        "        return {'seen': open('/seen').read(), 'left': os.path.exists('/run/secrets/token')}\n",
        f'  run:\n    - command: {command}\n      mounts: [{mount}]\nrun: "run.py:Runner"\n',
    )
    done = home.run("run", folder)
    assert (done.returncode, "the command needs the secret `token`" in done.stderr) == (1, True), done.stderr
    assert "--secret id=token,src=FILE" in done.stderr
    told = json.loads(home.ok("run", folder, "--secret", f"id=token,src={tmp_path / 'token'}"))
    assert told["seen"].startswith(hashlib.sha256(b"hunter2\n").hexdigest())
    assert told["left"] is False
    # The layer is there now: who runs the model needs no secret.
    assert json.loads(home.ok("run", folder)) == told
    wrong = home.run("run", folder, "--secret", "id=tokn,env=HOME")
    assert (wrong.returncode, "they mount token" in wrong.stderr) == (2, True)
    kept = [path for place in ("images", "layers", "clunk.db") for path in [home.path / place] if path.exists()]
    found = subprocess.run(["grep", "-rlE", "hunter2|aHVudGVyMg", *map(str, kept)], capture_output=True, text=True)
    assert found.stdout == ""


def test_ctrl_c_cancels_the_prediction(home, tmp_path):
    folder = model(
        tmp_path / "m",
        "import time\nclass Runner:\n    def run(self) -> str:\n        print('begun', flush=True)\n"
        "        time.sleep(3600)\n",
    )
    running = home.popen("run", folder)
    for line in running.stderr:
        if "begun" in line:
            break
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "canceling" in err


def test_a_training_makes_a_version_that_has_learned(home, tmp_path):
    (tmp_path / "text.txt").write_text("The parrot said hello to the crew.")
    home.ok("push", EXAMPLES / "train", "me/parrot-base")
    assert home.ok("run", "me/parrot-base") == "I know nothing yet.\n"
    words = ("-i", "text=@text.txt", "--destination", "me/parrot", "-o", "weights.json")
    done = home.run("train", "me/parrot-base", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "weights.json").read_text())["The"] == {"parrot": 1}
    assert home.ok("run", "me/parrot", "-i", "start=The").strip() == "The parrot said hello to the crew."
    # Of a project, beside what `clunk run` makes of it; and nothing is written here that nobody asked for.
    before = sorted(tmp_path.iterdir())
    left = home.run("train", EXAMPLES / "train", "-i", "text=@text.txt", "--detach", cwd=tmp_path)
    done = home.run("train", left.stdout.strip(), cwd=tmp_path)
    assert json.loads(done.stdout)["weights"].startswith("http"), done.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert home.ok("run", "clunk/train-trained", "-i", "start=The").strip() == "The parrot said hello to the crew."


def test_the_example_with_pictures(home, tmp_path):
    rows = b"".join(b"\0" + (b"\xff\0\0" * 16 if row < 8 else b"\0\0\xff" * 16) for row in range(16))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
    picture = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "in.png").write_bytes(picture)
    words = ("-i", "image=@in.png", "-i", "radius=4")
    assert home.ok("run", EXAMPLES / "blur", *words, "-o", "out.png", cwd=tmp_path) == "out.png\n"
    made = (tmp_path / "out.png").read_bytes()
    assert made.startswith(b"\x89PNG") and made[16:24] == picture[16:24]
    assert made != picture
    # Without -o it has the name that the model gave it.
    assert home.ok("run", EXAMPLES / "blur", *words, "-i", "format=webp", cwd=tmp_path) == "blurred.webp\n"
    assert (tmp_path / "blurred.webp").read_bytes()[8:12] == b"WEBP"


def test_the_example_that_streams(home):
    said = home.ok(
        "run", EXAMPLES / "stream", "-i", "words=30", "-i", "words_per_second=1000", "-i", "prompt=the value"
    )
    assert len(said.split()) == 30
    assert said == home.ok(
        "run", EXAMPLES / "stream", "-i", "words=30", "-i", "words_per_second=1000", "-i", "prompt=the value"
    )


def test_the_example_with_many_at_once(home):
    home.ok("push", EXAMPLES / "concurrent", "me/concurrent")
    running = [home.popen("run", "me/concurrent", "-i", f"text=a b {number}", "--json") for number in range(6)]
    done = [json.loads(process.communicate(timeout=120)[0]) for process in running]
    assert ["".join(one["output"]) for one in done] == [f"a b {number}" for number in range(6)]
    # One replica has them all: some began while others ran.
    assert max(one["metrics"]["running_at_start"] for one in done) > 1


def test_the_example_with_a_real_model(home):
    texts = ("A cat sleeps on the sofa.", "A kitten naps on the couch.", "Shares fell on Monday.")
    words = [word for text in texts for word in ("-i", f"texts={text}")]
    made = json.loads(home.ok("run", EXAMPLES / "embeddings", *words, timeout=600))
    assert [len(vector) for vector in made["vectors"]] == [384] * 3
    same, near, far = made["likeness"]
    assert same == pytest.approx(1, abs=1e-4)
    assert near > 0.5 > far


def get(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("how", [["--local"], []], ids=["here", "container"])
def test_serving_a_folder(home, how):
    serving = home.popen("serve", EXAMPLES / "hello", "--port", "0", *how)
    try:
        lines = []
        for line in serving.stderr:
            lines.append(line)
            found = re.search(r"listening on (http://\S+)", line)
            if found:
                break
        assert found, "".join(lines)
        wait_until("ready", lambda: get(f"{found[1]}/health-check")[1]["status"] == "READY")
        assert re.fullmatch(r"3\.\d+(\.\d+)?", get(f"{found[1]}/health-check")[1]["version"]["python"])
        status, prediction = get(f"{found[1]}/predictions", {"input": {"name": "you"}})
        assert (status, prediction["status"], prediction["output"]) == (200, "succeeded", "hello you")
        assert get(f"{found[1]}/predictions", {"input": {}})[0] == 422
    finally:
        serving.send_signal(signal.SIGINT)
        serving.communicate(timeout=60)
