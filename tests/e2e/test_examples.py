"""Every example runs, and the small verbs that a newcomer meets."""

import json
import shutil
import subprocess

import pytest
from conftest import ROOT

EXPECTED = {
    "hello.py": ["Hello world, this is Python 3."],
    "squares.py": ["sum 328350"],
    "thumbnails.py": ["12 pictures", "contact-sheet.png"],
    "embeddings.py": ["nearest to", "The runner ends when it reads STOP"],
    "fanout.py": [
        "49 primes among 1000 numbers from 1000000000, the last is 1000000993",
        "  71 x 839 x 1471 x 6857\n",
        "  12 = 2 x 2 x 3\n  1: ValueError('1 has no prime factors')\n  15 = 3 x 5\n",
    ],
    "classes.py": [
        "model of 1 letters loaded",
        "model of 3 letters loaded",
        "1 letters: 'Wo ist der Bahnhof?' is English",
        "3 letters: 'Wo ist der Bahnhof?' is German",
        "3 letters: 'Où est la gare ?' is French",
    ],
    "batching.py": [" one by one: ", " in batches: ", " of 32", "the two most alike (0."],
    "retries.py": [
        "  the service is down for 0.",
        "tried again: 42 after ",
        "given up: ConnectionError: the service is down\n",
        "cut off and tried again: at last\n",
        "cut off twice: FunctionTimeoutError\n",
    ],
    "generators.py": [
        "3.14159265358979323846264338327950288419716939937510582097494\n",
        "what it yields is here at once. \n",
        "the first word came after",
    ],
    "sweep.py": ["20 runs started, the first is call-", "best of 20: rate 0.1, momentum 0.5, loss 4.4e-120\n"],
    "background.py": ["call-", "below 300000, 230631 takes the most steps to 1: 443 "],
}


def test_every_example_is_here():
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_an_example_runs(home, tmp_path, name):
    for folder in ("examples", "docs"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shown = home.ok("run", f"examples/{name}", cwd=tmp_path)
    assert all(words in shown for words in EXPECTED[name]), shown


def test_a_call_outlives_the_command_that_started_it(home, tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    started = home.ok("run", "--detach", "examples/background.py", "--no-stay", cwd=tmp_path).split()[-1]
    shown = home.ok("run", "examples/background.py", "--call", started, cwd=tmp_path)
    assert shown == "230631 takes the most steps to 1: 443\n"


def test_the_starter_runs_and_is_not_overwritten(home, tmp_path):
    home.ok("init", cwd=tmp_path)
    assert "Hello, ann!" in home.ok("run", "hello.py", "--name", "ann", cwd=tmp_path)
    (tmp_path / "hello.py").write_text("mine")
    again = home.run("init", cwd=tmp_path)
    assert again.returncode == 2 and (tmp_path / "hello.py").read_text() == "mine"


def test_words_about_itself(home):
    assert home.ok("version").startswith("clunk ")
    assert json.loads(home.ok("version", "--json"))["version"] == home.ok("version").split()[1]
    assert "out-of-memory" in home.ok("explain")
    assert "memory" in home.ok("explain", "out-of-memory")
    assert home.run("explain", "no-such-code").returncode == 3
    for shell in ("bash", "zsh", "fish"):
        script = home.ok("completions", shell)
        assert "clunk" in script and "doctor" in script
    check = subprocess.run(["bash", "-n"], input=home.ok("completions", "bash"), text=True)
    assert check.returncode == 0


def test_doctor_finds_a_machine_that_runs_containers(home):
    report = json.loads(home.ok("doctor", "--json"))
    assert report["ok"] and {"overlayfs", "helper", "python"} <= {check["name"] for check in report["checks"]}


def test_a_shell_runs_in_an_image_and_in_a_functions(home, tmp_path):
    (tmp_path / "app.py").write_text("import clunk\napp = clunk.App()\n@app.function()\ndef f(): return 1\n")
    assert "app.py" in home.ok("shell", "app.py::f", "--", "ls", "/root", cwd=tmp_path)
    done = home.run("shell", "--", "sh", "-c", "exit 7")
    assert done.returncode == 7
    assert "uid=0" in home.run("shell", input="id\n").stdout
