"""Files in inputs and outputs of `clunk run`, against a fake server."""

import json
import os
import threading

import pytest
from fake_models import cog_project, data_url, pushed


def file_model(clunk, returns="Path"):
    cog_project(
        clunk.folder / "hello", f"def run(image: Path, more: list[Path] = []) -> {returns}: ...", "run: run.py:run\n"
    )
    pushed(clunk)


def test_files_go_in_and_come_out(clunk):
    file_model(clunk)
    (clunk.folder / "in.png").write_bytes(b"\x89PNG small")
    seen = []

    def behave(inputs):
        seen.append(inputs)
        clunk.models.files["f1"] = b"made"
        return [("output", {"index": 0, "output": f"{clunk.server.url}/files/f1/blurred.png?expiry=1&signature=x"})]

    clunk.models.behave = behave
    done = clunk(
        "run",
        "ada/hello",
        "-i",
        "image=@in.png",
        "-i",
        "more=@in.png",
        "-i",
        "more=https://example.com/x",
        "-o",
        "out.png",
    )
    assert (done.returncode, done.stdout) == (0, "out.png\n"), done.stderr
    assert (clunk.folder / "out.png").read_bytes() == b"made"
    assert seen[0]["image"] == data_url(b"\x89PNG small")
    assert seen[0]["more"] == [data_url(b"\x89PNG small"), "https://example.com/x"]
    # Nobody asked for the name of the second one, and it does not overwrite the first.
    for name in ("data.png", "data-1.png"):
        clunk.models.behave = lambda inputs: [
            ("output", {"index": 0, "output": f"{clunk.server.url}/files/f1/data.png"})
        ]
        assert clunk("run", "ada/hello", "-i", "image=@in.png").stdout == f"{name}\n"
    piped = clunk("run", "ada/hello", "-i", "image=@in.png", "-o", "-")
    assert piped.stdout == "made"


def test_a_large_file_is_uploaded_first(clunk):
    file_model(clunk)
    data = bytes(range(256)) * 2000
    (clunk.folder / "in.bin").write_bytes(data)
    seen = []
    clunk.models.behave = lambda inputs: seen.append(inputs) or [("output", {"index": 0, "output": data_url(b"x")})]
    assert clunk("run", "ada/hello", "-i", "image=@in.bin", "-o", "out/").stdout == "out/output.png\n"
    assert seen[0]["image"] == f"{clunk.server.url}/files/file0/data"
    assert clunk.models.files["file0"] == data


def test_several_files_have_names_of_their_own(clunk):
    file_model(clunk, "list[Path]")
    clunk.models.behave = lambda inputs: [("output", {"index": 0, "output": [data_url(b"0"), data_url(b"1")]})]
    done = clunk("run", "ada/hello", "-i", "image=https://example.com/a", "-o", "out.png")
    assert done.stdout == "out.0.png\nout.1.png\n"
    assert [(clunk.folder / f"out.{number}.png").read_bytes() for number in range(2)] == [b"0", b"1"]
    whole = json.loads(clunk("run", "ada/hello", "-i", "image=https://example.com/a", "-o", "j.png", "--json").stdout)
    assert whole["output"] == ["j.0.png", "j.1.png"]


@pytest.mark.parametrize("words", [[], ["--json"], ["-o", "-"]])
@pytest.mark.parametrize("kind", ["text", "file"])
def test_a_full_standard_output_is_one_line(clunk, words, kind):
    file_model(clunk, "Path" if kind == "file" else "str")
    output = data_url(b"x" * 100_000) if kind == "file" else "text"
    clunk.models.behave = lambda inputs: [("output", {"index": 0, "output": output})]
    with open("/dev/full", "w") as full:
        done = clunk("run", "ada/hello", "-i", "image=https://example.com/a", *words, stdout=full)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("hint:")]
    assert len(lines) == 1 and lines[0].startswith("error: cannot write "), done.stderr
    assert lines[0].endswith("No space left on device")


def test_a_list_that_cannot_be_written_is_told(clunk):
    with open("/dev/full", "w") as full:
        done = clunk("model", "list", "--json", stdout=full)
    assert (done.returncode, done.stderr) == (1, "error: cannot write to standard output: No space left on device\n")


@pytest.mark.parametrize("size", [5, 700_000])
def test_a_pipe_is_an_input_too(clunk, size):
    file_model(clunk)
    os.mkfifo(clunk.folder / "pipe")
    writer = threading.Thread(target=lambda: (clunk.folder / "pipe").write_bytes(b"p" * size))
    writer.start()
    seen = []
    clunk.models.behave = lambda inputs: seen.append(inputs) or [("output", {"index": 0, "output": data_url(b"x")})]
    done = clunk("run", "ada/hello", "-i", "image=@pipe", "-o", "out.png")
    writer.join()
    assert done.returncode == 0, done.stderr
    inside = data_url(b"p" * size, "application/octet-stream")
    assert seen[0]["image"] == inside or clunk.models.files["file0"] == b"p" * size


def test_an_index_tells_files_of_one_name_apart_and_no_others(clunk):
    file_model(clunk, "list[Path]")
    words = ["run", "ada/hello", "-i", "image=https://example.com/a"]

    def saved(names, *more):
        clunk.models.files.update(dict.fromkeys(map(str, range(len(names))), b"x"))
        urls = [f"{clunk.server.url}/files/{number}/{name}" for number, name in enumerate(names)]
        clunk.models.behave = lambda inputs: [("output", {"index": 0, "output": urls})]
        return clunk(*words, *more).stdout.split()

    assert saved(["a.png"], "-o", "one.png") == ["one.png"]
    assert saved(["a.png", "b.png"], "-o", "out/") == ["out/a.png", "out/b.png"]
    assert saved(["a.png", "b.png", "a.png"], "-o", "out/") == ["out/a.0.png", "out/b.png", "out/a.2.png"]


def test_a_file_that_cannot_be_fetched_leaves_nothing(clunk):
    file_model(clunk)
    (clunk.folder / "out.png").write_bytes(b"before")

    def told(url):
        clunk.models.behave = lambda inputs: [("output", {"index": 0, "output": url})]
        done = clunk("run", "ada/hello", "-i", "image=https://example.com/a", "-o", "out.png")
        assert (done.returncode != 0, done.stdout) == (True, "")
        assert (clunk.folder / "out.png").read_bytes() == b"before"
        assert [path.name for path in clunk.folder.iterdir() if ".part" in path.name] == []
        return done.stderr

    assert "error: the file is gone" in told(f"{clunk.server.url}/files/gone/a.png?expiry=1&signature=x")
    # Under another name of the server, which nothing here can reach.
    assert "error: the file is gone" in told("http://name.invalid/files/gone/a.png?expiry=1&signature=x")
    closed = "http://127.0.0.1:1/files/a.png"
    assert f"error: the output file {closed} cannot be fetched" in told(f"{closed}?key=secret")
    (clunk.folder / "local.txt").write_text("secret")
    for text in (f"file://{clunk.folder}/local.txt", "photo", "http://[::1/x", "http://host:port/x"):
        said = told(text)
        assert f"{text} cannot be fetched" in said or "is no URL of http or https" in said


def test_what_is_no_file_is_written_to(clunk):
    file_model(clunk)
    clunk.models.behave = lambda inputs: [("output", {"index": 0, "output": data_url(b"x")})]
    (clunk.folder / "null").symlink_to("/dev/null")
    (clunk.folder / "link").symlink_to("real")
    for name in ("null", "link"):
        assert clunk("run", "ada/hello", "-i", "image=https://example.com/a", "-o", name).returncode == 0
        assert (clunk.folder / name).is_symlink()
    assert (clunk.folder / "real").read_bytes() == b"x"
