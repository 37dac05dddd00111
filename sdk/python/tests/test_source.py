"""Projects, trees and the memory of digests."""

import hashlib
import json
import os
import time

import pytest

from clunk import exception
from clunk._source import digests
from clunk._source.digests import DigestCache
from clunk._source.project import Walk, find_root, walk_project
from clunk.file_pattern_matcher import FilePatternMatcher


@pytest.mark.parametrize("marker", ["pyproject.toml", "setup.py", "clunk.toml", ".clunkignore"])
def test_the_root_is_the_nearest_folder_with_a_marker(tmp_path, marker):
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "a" / marker).touch()
    assert find_root(str(deep)) == str(tmp_path / "a")


def test_a_requirements_file_counts_when_nothing_else_does(tmp_path):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "a" / "requirements.txt").touch()
    assert find_root(str(deep)) == str(tmp_path / "a")
    (tmp_path / "pyproject.toml").touch()
    assert find_root(str(deep)) == str(tmp_path)


def test_a_repository_is_a_root(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / "a").mkdir()
    assert find_root(str(tmp_path / "a")) == str(tmp_path)


def test_home_is_never_a_root(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "a").mkdir()
    assert find_root(str(tmp_path / "a")) == str(tmp_path / "a")
    (tmp_path / "script.py").touch()
    (tmp_path / "private.txt").touch()
    (tmp_path / "a" / "b.py").touch()
    assert [file.remote for file in walk_project(str(tmp_path)).files] == ["/root/script.py"]


def test_links_stay_within_the_project(tmp_path):
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / "data/a.txt").write_text("a")
    (tmp_path / "secret").write_text("s")
    os.symlink("data/a.txt", root / "relative")
    os.symlink(root / "data" / "a.txt", root / "absolute")
    os.symlink("data", root / "folder")
    os.symlink("../secret", root / "outside")
    os.symlink("/etc/passwd", root / "far")
    os.symlink("nothing", root / "dangling")
    os.symlink("../data/../../secret", root / "data" / "sly")
    os.symlink(tmp_path, root / "up")
    os.symlink("up/secret", root / "through")
    walk = Walk(str(root), "/root")
    links = {file.remote: file.link for file in walk.files if file.link}
    assert links == {
        "/root/relative": "data/a.txt",
        "/root/absolute": "data/a.txt",
        "/root/folder": "data",
        "/root/dangling": "nothing",
    }
    assert "dangling is a link to nothing, which is not there" in walk.warnings
    assert len(walk.warnings) == 6
    assert {file.remote for file in walk.files if not file.link} == {"/root/data/a.txt"}


def test_executables_and_names_that_are_not_text(tmp_path):
    (tmp_path / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "run.sh").chmod(0o755)
    (tmp_path / "plain").touch()
    with open(os.fsencode(tmp_path) + b"/bad\xff", "w"):
        pass
    walk = Walk(str(tmp_path), "/x")
    assert {(file.remote, file.executable) for file in walk.files} == {("/x/run.sh", True), ("/x/plain", False)}
    assert "has a name that is not text" in walk.warnings[0]


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    walk = Walk(str(tmp_path), "/root")
    assert (walk.files, walk.warnings) == ([], ["pipe is a pipe, a socket or a device; it stays here"])


@pytest.fixture
def settled(monkeypatch):
    monkeypatch.setattr(digests, "SETTLED_NS", -1)


def read_count(monkeypatch):
    reads = []
    real = digests.hash_file
    monkeypatch.setattr(digests, "hash_file", lambda path, tell=None: reads.append(path) or real(path, tell))
    return reads


def test_an_unchanged_file_is_read_once(tmp_path, monkeypatch, settled):
    reads = read_count(monkeypatch)
    path = str(tmp_path / "a")
    for text in ("one", "one", "two!", "two!"):
        if not os.path.exists(path) or open(path).read() != text:
            with open(path, "w") as file:
                file.write(text)
        cache = DigestCache(str(tmp_path), str(tmp_path / "cache"))
        assert cache.digest(path, os.stat(path)) == hashlib.sha256(text.encode()).hexdigest()
        cache.save()
    assert len(reads) == 2


def test_a_change_that_keeps_size_and_time_is_seen(tmp_path, monkeypatch, settled):
    path = str(tmp_path / "a")
    for text in ("one", "two"):
        with open(path, "w") as file:
            file.write(text)
        os.utime(path, ns=(10**18, 10**18))
        cache = DigestCache(str(tmp_path), str(tmp_path / "cache"))
        assert cache.digest(path, os.stat(path)) == hashlib.sha256(text.encode()).hexdigest()
        cache.save()


def test_a_file_that_just_changed_is_not_remembered(tmp_path, monkeypatch):
    reads = read_count(monkeypatch)
    path = str(tmp_path / "a")
    with open(path, "w") as file:
        file.write("x")
    for _ in range(2):
        cache = DigestCache(str(tmp_path), str(tmp_path / "cache"))
        cache.digest(path, os.stat(path))
        cache.save()
    assert len(reads) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format":1}', '{"format":9,"files":{}}', '{"format":1,"files":[1]}'])
def test_a_spoiled_cache_is_forgotten(tmp_path, text, settled):
    folder = tmp_path / "cache"
    path = str(tmp_path / "a")
    with open(path, "w") as file:
        file.write("x")
    cache = DigestCache(str(tmp_path), str(folder))
    right = cache.digest(path, os.stat(path))
    cache.save()
    folder_of_digests = folder / "digests"
    (name,) = os.listdir(folder_of_digests)
    (folder_of_digests / name).write_text(text)
    assert DigestCache(str(tmp_path), str(folder)).digest(path, os.stat(path)) == right
    record = {"format": 1, "files": {path: ["odd"]}}
    (folder_of_digests / name).write_text(json.dumps(record))
    assert DigestCache(str(tmp_path), str(folder)).digest(path, os.stat(path)) == right


def test_a_cache_folder_that_cannot_be_written_is_no_error(tmp_path, settled):
    (tmp_path / "cache").write_text("a file")
    path = str(tmp_path / "a")
    with open(path, "w") as file:
        file.write("x")
    cache = DigestCache(str(tmp_path), str(tmp_path / "cache"))
    cache.digest(path, os.stat(path))
    cache.save()


def test_an_unchanged_project_takes_little_time(tmp_path, settled):
    for number in range(500):
        (tmp_path / f"m{number}.py").write_text("x = 1\n")
    for _ in range(2):
        began = time.perf_counter()
        cache = DigestCache(str(tmp_path), str(tmp_path / "cache"))
        for file in Walk(str(tmp_path), "/root").files:
            cache.digest(file.local, file.stat)
        cache.save()
        took = time.perf_counter() - began
    # Generous: the promise is milliseconds, a busy machine must not fail the test.
    assert took < 1.0


@pytest.mark.parametrize(
    ("patterns", "fits", "not_fits"),
    [
        (["*.pyc"], ["a.pyc"], ["a.py", "d/a.pyc"]),
        (["**/*.pyc"], ["a.pyc", "d/a.pyc", "d/e/a.pyc"], ["a.py"]),
        (["data"], ["data", "data/x", "data/y/z"], ["other/data"]),
        (["data/*", "!data/keep"], ["data/x"], ["data/keep", "data"]),
        (["a?b", "[xy].txt"], ["acb", "x.txt"], ["a/b", "z.txt"]),
        (["# no", "", " x "], ["x"], ["# no"]),
        (["./x/", "/y"], ["x", "x/z", "y"], ["z/x"]),
    ],
)
def test_file_patterns(patterns, fits, not_fits):
    matcher = FilePatternMatcher(*patterns)
    assert [path for path in fits if not matcher(path)] == []
    assert [path for path in not_fits if matcher(path)] == []
    assert [path for path in fits if (~matcher)(path)] == []


def test_too_many_files(tmp_path, monkeypatch):
    monkeypatch.setattr("clunk._source.project.FILES_MAX", 3)
    for number in range(4):
        (tmp_path / str(number)).touch()
    with pytest.raises(exception.InvalidError, match="more than 3 files"):
        Walk(str(tmp_path), "/root")
