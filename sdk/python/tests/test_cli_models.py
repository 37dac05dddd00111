"""`clunk push`, `run DIR`, `run owner/name`, `train` and `model`, against a fake server."""

import json

import pytest
from fake_models import HELLO, cog_project, data_url, pushed

# push


def test_a_push_sends_all_that_a_version_is_made_of(clunk):
    (clunk.folder / "hello" / "README.md").write_text("# Hello")
    (clunk.folder / "hello" / "wheel.whl").write_text("w")
    done = clunk("push", "hello", "acme/hello", "--public", "--description", "says hello")
    assert done.returncode == 0, done.stderr
    ((version, record),) = clunk.models.versions.items()
    assert done.stdout == f"acme/hello:{version}\n"
    assert "clunk run acme/hello -i prompt=TEXT" in done.stderr
    assert "/models/acme/hello" in done.stderr
    sent = record["pushed"]
    assert sent["readme"] == "# Hello"
    assert (sent["visibility"], sent["description"]) == ("public", "says hello")
    assert sent["openapi_schema"]["components"]["schemas"]["Input"]["required"] == ["prompt"]
    predict = sent["predict"]
    assert predict["entry"] == {
        "module": "run.py",
        "qualname": "Runner",
        "source_root": "/src",
        "is_async": False,
        "is_generator": False,
        "cog": "predict",
    }
    assert predict["env"] == {"A": "1"}
    assert "train" not in sent
    paths = {file["path"] for file in clunk.server.trees[predict["trees"][0]]}
    assert paths == {"/src/cog.yaml", "/src/run.py", "/src/README.md", "/src/wheel.whl"}
    # What packages are installed from lies in the image before the first step.
    step = clunk.server.recipes[-1]["steps"][0]
    assert step["kind"] == "add_tree"
    assert [file["path"] for file in clunk.server.trees[step["tree"]]] == ["/src/wheel.whl"]


def test_the_same_content_is_the_same_version(clunk):
    first = clunk("push", "hello", "--json")
    again = clunk("push", "hello")
    assert json.loads(first.stdout)["created"] is True
    assert again.stdout.strip() == f"ada/hello:{json.loads(first.stdout)['id']}"
    assert "nothing has changed" in again.stderr


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ("", "ada/hello"),
        ("model: r8.im/acme/big-model\n", "acme/big-model"),
        ('image: "registry.example:5000/acme/model:v1"\n', "acme/model"),
        ("image: My_Model\n", "ada/my_model"),
    ],
)
def test_the_name_comes_from_the_settings_or_the_folder(clunk, settings, name):
    (clunk.folder / "hello" / "cog.yaml").write_text('run: "run.py:Runner"\n' + settings)
    assert clunk("push", "hello").stdout.startswith(f"{name}:")


def test_what_stays_here(clunk):
    folder = clunk.folder / "hello"
    for name in ("notes.txt", "data/big.bin", "data/keep.bin", "weights.bin", ".cog/x", "__pycache__/a.pyc"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    (folder / ".gitignore").write_text("weights.bin\n")
    (folder / ".dockerignore").write_text("data\n!data/keep.bin\n")
    (folder / ".cogignore").write_text("notes.txt\n")
    pushed(clunk)
    (record,) = clunk.models.versions.values()
    paths = {file["path"] for file in clunk.server.trees[record["pushed"]["predict"]["trees"][0]]}
    # Weights that git does not have are part of the model.
    assert {"/src/run.py", "/src/data/keep.bin", "/src/weights.bin"} <= paths
    assert not paths & {"/src/notes.txt", "/src/data/big.bin", "/src/.cog/x", "/src/__pycache__/a.pyc"}


def test_a_predictor_that_would_stay_here_is_told(clunk):
    (clunk.folder / "hello" / ".dockerignore").write_text("*.py\n")
    done = clunk("push", "hello")
    assert done.returncode == 1
    assert "error: run.py would not be sent" in done.stderr
    assert "hint: write !run.py into .dockerignore" in done.stderr


def test_every_mistake_is_told_before_anything_is_built(clunk):
    cog_project(clunk.folder / "hello", HELLO.replace("ge=1", "ge=6"), 'run: "run.py:Runner"\nbuidl: 1\n')
    done = clunk("push", "hello")
    assert done.returncode == 1
    assert "cog.yaml:2:1: error[bad-cog-config]: unknown key buidl" in done.stderr
    assert "run.py:5:" in done.stderr and "the default 5 of `steps` is below ge=6" in done.stderr
    assert done.stderr.rstrip().endswith("nothing was built")
    assert clunk.server.recipes == []


def test_concurrency_needs_an_async_predictor(clunk):
    cog_project(clunk.folder / "hello", HELLO, 'run: "run.py:Runner"\nmax_concurrency: 4\n')
    assert "needs an async predictor" in clunk("push", "hello").stderr
    cog_project(
        clunk.folder / "hello", HELLO.replace("def run", "async def run"), 'run: "run.py:Runner"\nmax_concurrency: 4\n'
    )
    pushed(clunk)
    (record,) = clunk.models.versions.values()
    assert record["pushed"]["predict"]["policy"]["concurrency"] == {"max_inputs": 4}
    # A trainer alone runs one at a time, whatever stands there.
    cog_project(clunk.folder / "hello", HELLO, 'train: "train.py:train"\nmax_concurrency: 4\n', train__py=TRAIN)
    assert "names no predictor, and a version needs one" in clunk("train", "hello").stderr


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["push"], "no project to push", "clunk push DIR"),
        (["push", "hello", "Acme/Hello"], "is no name of a model", "clunk push DIR acme/hello"),
        (["push", "hello", "hello"], "is no name of a model", "OWNER/hello"),
        (["push", "hello", "local/b"], "is for what `clunk run DIR` makes", "under another owner"),
        (["push", "hello", "a/b", "c"], "unexpected argument 'c'", "clunk push DIR [owner/name]"),
        (["push", "hello", "--pubic"], "unknown option --pubic", "--public"),
        (["push", "nowhere"], "there is no folder nowhere", "cog.yaml"),
    ],
)
def test_a_push_that_is_written_wrongly(clunk, words, message, hint):
    done = clunk(*words)
    assert done.returncode in (2, 3)
    assert message in done.stderr and hint in done.stderr


# run owner/name


def test_a_prediction_prints_its_output_and_its_logs(clunk):
    pushed(clunk)
    clunk.models.behave = lambda inputs: [
        ("logs", {"text": "loading\n"}),
        ("output", {"index": 0, "output": f"{inputs['prompt']} {inputs['steps'] + 1}"}),
    ]
    done = clunk("run", "ada/hello", "-i", "prompt=hi", "--input", "steps=3")
    assert (done.stdout, done.returncode) == ("hi 4\n", 0)
    assert done.stderr == "loading\n"


@pytest.mark.parametrize("verb", ["run", "predict"])
@pytest.mark.parametrize("cut", [None, 4, 12])
def test_a_version_by_its_beginning(clunk, verb, cut):
    version = pushed(clunk)
    reference = "ada/hello" + (f":{version[:cut]}" if cut else f":{version}")
    assert clunk(verb, reference, "-i", "prompt=a").stdout == '{"prompt": "a"}\n'


def test_text_comes_as_it_is_made(clunk):
    cog_project(clunk.folder / "hello", "def run(n: int = 2) -> ConcatenateIterator[str]: ...", "run: run.py:run\n")
    pushed(clunk)
    clunk.models.behave = lambda inputs: [
        ("output", {"index": at, "output": part}) for at, part in enumerate(("a", " b", " c"))
    ]
    assert clunk("run", "ada/hello").stdout == "a b c\n"
    whole = json.loads(clunk("run", "ada/hello", "--json").stdout)
    assert (whole["status"], whole["output"]) == ("succeeded", ["a", " b", " c"])
    clunk("run", "ada/hello", "-o", "out.txt")
    assert (clunk.folder / "out.txt").read_text() == "a b c"


def test_a_stream_that_breaks_is_taken_up_where_it_was(clunk):
    cog_project(clunk.folder / "hello", "def run() -> Iterator[int]: ...", "run: run.py:run\n")
    pushed(clunk)
    clunk.models.behave = lambda inputs: [("output", {"index": at, "output": at}) for at in range(5)]
    clunk.models.break_after = 3
    done = clunk("run", "ada/hello")
    assert done.stdout == "0\n1\n2\n3\n4\n", done.stderr
    assert clunk.models.resumed == [0, 3]


def test_a_prediction_that_fails_says_why(clunk):
    pushed(clunk)
    clunk.models.behave = lambda inputs: [("logs", {"text": "Traceback\n"}), ("failed", "ValueError: bad thing")]
    done = clunk("run", "ada/hello", "-i", "prompt=a")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Traceback\nerror: ValueError: bad thing\nhint: clunk call logs ")


def test_a_package_that_the_image_lacks(clunk):
    pushed(clunk)
    clunk.models.behave = lambda inputs: [("failed", "ModuleNotFoundError: No module named 'torch.cuda'")]
    done = clunk("run", "ada/hello", "-i", "prompt=a")
    assert done.stderr.endswith("hint: name the package of torch in the file of build.python_requirements in cog.yaml\n")


def test_one_that_is_not_waited_for(clunk):
    pushed(clunk)
    done = clunk("run", "ada/hello", "-i", "prompt=a", "--detach")
    made = done.stdout.strip()
    assert made in clunk.models.predictions
    assert clunk.models.resumed == []
    # What it is told to do next shows the output.
    assert done.stderr.rstrip().endswith(f"its output: clunk predict {made}")
    assert clunk("predict", made).stdout == '{"prompt": "a"}\n'
    assert json.loads(clunk("predict", made, "--json").stdout) == clunk.models.predictions[made]
    assert "has its inputs already" in clunk("predict", made, "-i", "prompt=b").stderr
    # Also when nobody knows any more what its output is.
    clunk("model", "delete", "ada/hello", "--yes")
    assert clunk("predict", made, "-o", "out.txt").returncode == 0
    assert (clunk.folder / "out.txt").read_text() == '{"prompt": "a"}\n'


@pytest.mark.parametrize(
    ("words", "code", "message", "hint"),
    [
        (["ada/hello"], 2, "the model needs the input prompt", "clunk run ada/hello -i prompt=TEXT"),
        (["ada/hello", "-i", "promt=a"], 2, "the model has no input `promt`", "did you mean -i prompt=...?"),
        (["ada/hello", "-i", "prompt=a", "-i", "steps=x"], 2, "the input `steps` must be a whole number, not 'x'", ""),
        (["ada/hello", "-i", "prompt=a", "-i", "steps=10"], 2, "the input `steps` must be at most 9", ""),
        (["ada/hello", "-i", "prompt=a", "-i", "prompt=b"], 2, "the input `prompt` is given twice", ""),
        (["ada/hello", "-i", "steps=x", "-i", "promt=a"], 2, "3 mistakes in the inputs:\n  the input `steps`", "--help"),
        (["ada/hello", "prompt=a"], 2, "unexpected argument 'prompt=a'", "-i prompt=a"),
        (["ada/hello", "-i", "prompt"], 2, "-i prompt has no value", "-i prompt=VALUE"),
        (["ada/hello", "-i"], 2, "-i needs a value", ""),
        (["ada/hullo"], 3, "there is no model ada/hullo", "did you mean ada/hello?"),
        (["ada/hello:ffff"], 3, "ada/hello has no version whose id begins with ffff", "clunk model versions"),
        (["hello", "-i", "promt=a"], 2, "the model has no input `promt`", "did you mean -i prompt=...?"),
    ],
)
def test_a_run_that_is_written_wrongly(clunk, words, code, message, hint):
    pushed(clunk)
    built = len(clunk.server.recipes)
    done = clunk("run", *words)
    assert done.returncode == code
    assert message in done.stderr and hint in done.stderr
    assert len(clunk.server.recipes) == built


def test_help_says_what_a_model_takes(clunk):
    pushed(clunk)
    for target in ("ada/hello", "hello"):
        out = clunk("run", target, "--help").stdout
        assert "-i prompt=TEXT" in out
        assert "1..9, default 5, optional" in out


def test_a_file_of_functions_is_no_model(clunk):
    (clunk.folder / "app.py").write_text(
        "import clunk\napp = clunk.App()\n@app.local_entrypoint()\ndef main():\n    print('hi')\n"
    )
    assert clunk("run", "app.py").stdout == "hi\n"
    assert "ada/app.py" in clunk("run", "ada/app.py").stderr


# run DIR


def test_a_folder_is_run_without_being_pushed_for_good(clunk):
    first = clunk("run", "hello", "-i", "prompt=a")
    assert (first.stdout, first.returncode) == ('{"prompt": "a"}\n', 0), first.stderr
    (name,) = clunk.models.models
    assert name.startswith("local/hello-")
    assert clunk.models.models[name]["visibility"] == "private"
    cog_project(clunk.folder / "hello", HELLO.replace("default=5", "default=6"))
    clunk("run", "hello", "-i", "prompt=a")
    # What the run before it made has gone.
    assert len(clunk.models.models[name]["versions"]) == 1
    assert clunk("model", "list", "--quiet").stdout == ""
    assert clunk("model", "list", "--quiet", "--all").stdout == f"{name}\n"


# train

TRAIN = "class Out(BaseModel):\n    weights: Path\ndef train(data: Path, epochs: int = 1) -> Out: ..."
SETTINGS = 'run: "run.py:Runner"\ntrain: "train.py:train"\n'


def test_a_training_makes_its_destination_and_saves_the_weights(clunk):
    cog_project(clunk.folder / "hello", HELLO, SETTINGS, train__py=TRAIN)
    pushed(clunk)
    clunk.models.behave = lambda inputs: [
        ("output", {"index": 0, "output": {"weights": data_url(b"w" * inputs["epochs"])}})
    ]
    (clunk.folder / "d.zip").write_bytes(b"z")
    words = ["-i", "data=@d.zip", "-i", "epochs=3", "--destination", "ada/mine", "-o", "w.bin"]
    done = clunk("train", "ada/hello", *words)
    assert done.returncode == 0, done.stderr
    assert (clunk.folder / "w.bin").read_bytes() == b"www"
    assert "ada/mine" in clunk.models.models
    assert "run it: clunk run ada/mine" in done.stderr
    assert clunk("train", "hello", *words).returncode == 0


def test_the_weights_of_a_project_become_a_model_of_their_own_and_stay_there(clunk):
    cog_project(clunk.folder / "hello", HELLO, SETTINGS, train__py=TRAIN)
    before = sorted(path.name for path in clunk.folder.iterdir())
    url = f"{clunk.server.url}/files/f1/w.bin?expiry=1&signature=x"
    clunk.models.behave = lambda inputs: [("output", {"index": 0, "output": {"weights": url}})]
    done = clunk("train", "hello", "-i", "data=https://example.com/x")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"weights": url}), done.stderr
    assert "run it: clunk run ada/hello-trained" in done.stderr
    assert "ada/hello-trained" in clunk.models.models
    assert sorted(path.name for path in clunk.folder.iterdir()) == before
    left = clunk("train", "hello", "-i", "data=https://example.com/x", "--detach")
    assert f"clunk train {left.stdout.strip()}" in left.stderr
    clunk.models.files["f1"] = b"weights"
    assert clunk("train", left.stdout.strip(), "-o", "w.bin").returncode == 0
    assert (clunk.folder / "w.bin").read_bytes() == b"weights"


def test_a_training_that_cannot_be(clunk):
    pushed(clunk)
    assert "cannot be trained" in clunk("train", "hello").stderr
    assert "cannot be trained" in clunk("train", "ada/hello", "--destination", "ada/x").stderr
    cog_project(clunk.folder / "hello", HELLO, SETTINGS, train__py=TRAIN)
    pushed(clunk)
    assert "--destination ada/hello-trained" in clunk("train", "ada/hello", "-i", "data=https://example.com/x").stderr
    assert "needs the input data" in clunk("train", "hello").stderr
    assert "-i epochs=INTEGER" in clunk("train", "ada/hello", "--help").stdout


# model


def test_models_are_listed_shown_and_deleted(clunk):
    version = pushed(clunk)
    listed = clunk("model", "list").stdout.splitlines()
    assert listed[0].split() == ["MODEL", "VERSION", "PUSHED", "RUNS", "VISIBILITY", "DESCRIPTION"]
    assert listed[1].startswith(f"ada/hello  {version[:12]}  2026-01-31 12:34  3     private")
    shown = clunk("model", "show", "ada/hello").stdout
    assert version in shown and "-i prompt=TEXT" in shown and "output      text" in shown
    assert json.loads(clunk("model", "show", "ada/hello", "--json").stdout)["latest_version"]["id"] == version
    assert clunk("model", "versions", "ada/hello", "--quiet").stdout == f"{version}\n"
    asked = clunk("model", "delete", "ada/hello")
    assert (asked.returncode, "add --yes" in asked.stderr) == (1, True)
    deleted = clunk("model", "delete", f"ada/hello:{version[:8]}", "--yes")
    assert deleted.stdout == f"deleted ada/hello:{version}\n"
    assert deleted.stderr == "clunk: its files leave the disk within the hour\n"
    assert clunk("model", "delete", "ada/hello", "--yes").stdout == "deleted ada/hello with 0 versions\n"
    assert clunk.models.models == {}
    assert clunk("model", "delete", "ada/hello", "--yes").returncode == 3
    for word in ("--quiet", "--json"):
        pushed(clunk)
        assert clunk("model", "delete", "ada/hello", "--yes", word).stderr == ""


@pytest.mark.parametrize(
    ("words", "hint"),
    [([], "clunk model list"), (["lst"], "did you mean list?"), (["show"], "--help"), (["list", "--jsn"], "--json")],
)
def test_a_model_command_that_is_written_wrongly(clunk, words, hint):
    done = clunk("model", *words)
    assert done.returncode == 2
    assert hint in done.stderr
