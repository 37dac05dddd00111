"""Ignore rules, compared with git itself."""

import os
import subprocess

import pytest

from clunk._source.project import Walk

PATHS = """
    a.py b.txt notes.md .env secret.key build/x.o build/keep.txt src/build/y.o src/app.py src/data/a.csv src/data/b.json
    logs/a.log logs/deep/b.log docs/index.md docs/api/index.md docs/api/deep/x.md foo/bar/baz.txt x/foo/bar/baz.txt
    abc/one abd/two a[1].txt a1.txt file.tar.gz archive.gz #hash !bang trailing\\ space foobar/x bar/foo
    temp/a/b/c/d.txt temp/b.txt one/two/three/four.txt Test.PY ünï.txt deep/.hidden/x -dash.txt a^b.txt
""".split()

RULES = [
    "*.txt",
    "*.txt\n!b.txt",
    "build/",
    "/build",
    "build",
    "build/*\n!build/keep.txt",
    "build/\n!build/keep.txt",
    "**/build",
    "**/foo/bar",
    "foo/bar",
    "/foo/**",
    "foo/**/baz.txt",
    "x/**/baz.txt",
    "temp/**",
    "temp/**/d.txt",
    "temp/*",
    "temp/*/b",
    "docs/**/*.md\n!docs/api/",
    "*.md\n!docs/**",
    "a?c",
    "ab[cd]",
    "ab[!c]",
    "ab[^c]",
    "ab[a-c]",
    "ab[]c]",
    "a\\[1\\].txt",
    "a[[]1].txt",
    "a[1].txt",
    "[[:alpha:]]*.txt",
    "[[:digit:][:upper:]]*",
    "a[",
    "a[b",
    "\\#hash",
    "#hash",
    "\\!bang",
    "!bang",
    "*\n!*.py",
    "*\n!*/\n!*.py",
    "*\n!src\n!src/app.py",
    "*.gz",
    "*.tar.gz",
    "file.*",
    ".*",
    "logs/**/*.log",
    "logs/*.log",
    "/*.py",
    "src/*.py",
    "**",
    "**/",
    "*/",
    "/**/data",
    "foo**bar",
    "foo*",
    "*oo",
    "**oo",
    "one/**/four.txt",
    "one/**/**/four.txt",
    "one/*/four.txt",
    "b.txt   ",
    "b.txt\\ ",
    "a\\\\",
    "src/\n!src/app.py",
    "src/*\n!src/data\nsrc/data/*\n!src/data/a.csv",
    "test.py",
    "ünï.txt",
    "-dash.txt",
    "a^b.txt",
    "a\\^b.txt",
    "!*.txt\n*.txt",
    "\n\n  \n# comment\n*.md",
    "foo/",
    "foo",
    "*/foo",
    "deep/.hidden/",
    "one/two/*\n!one/two/three/",
    "[a-",
    "ab[-c]",
    "ab[c-]",
    "ab[\\c]",
    "?.py",
    "/a.py/",
]


def write(folder, paths):
    for path in paths:
        target = os.path.join(folder, path.replace("\\ ", " "))
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w") as file:
            file.write("x")


def sent(folder):
    return {file.remote[len("/root/") :] for file in Walk(str(folder), "/root").files}


def git(folder, *words):
    return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)


def kept_by_git(folder):
    words = ("-c", "core.quotePath=off", "ls-files", "-z", "--others", "--exclude-standard")
    return set(filter(None, git(folder, *words).stdout.split("\0")))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    write(folder, PATHS)
    git(folder, "init", "-q")
    return folder


@pytest.mark.parametrize("rules", RULES)
def test_rules_mean_what_they_mean_to_git(tree, rules):
    (tree / ".gitignore").write_text(rules + "\n")
    assert sent(tree) == kept_by_git(tree)


def test_rules_of_folders_below_and_above(tmp_path):
    write(tmp_path, PATHS)
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("*.csv\n/src/app.py\nindex.md\n")
    (tmp_path / "src/data/.gitignore").write_text("!a.csv\n*.json\n")
    (tmp_path / "docs/.gitignore").write_text("/api/index.md\n!index.md\n")
    assert sent(tmp_path) == kept_by_git(tmp_path)
    below = {path[len("src/") :] for path in kept_by_git(tmp_path) if path.startswith("src/")}
    assert sent(tmp_path / "src") == below


def test_clunkignore_has_the_last_word(tmp_path):
    write(tmp_path, ["a.bin", "b.bin", "c.txt"])
    (tmp_path / ".gitignore").write_text("*.bin\n")
    (tmp_path / ".clunkignore").write_text("!a.bin\n*.txt\n")
    assert sent(tmp_path) == {".clunkignore", ".gitignore", "a.bin"}


def test_what_never_travels(tmp_path):
    write(
        tmp_path,
        [
            "app.py",
            ".git/config",
            "__pycache__/app.cpython-311.pyc",
            "lib/__pycache__/x.pyc",
            "old.pyc",
            ".venv/bin/python",
            "env/pyvenv.cfg",
            "env/lib/x.py",
            "target/CACHEDIR.TAG",
            "target/debug/x",
            "web/node_modules/x/index.js",
            ".mypy_cache/x",
            ".DS_Store",
            "data/model.bin",
        ],
    )
    assert sent(tmp_path) == {"app.py", "data/model.bin"}


def test_git_says_the_same_of_every_rule_at_once(tmp_path):
    write(tmp_path, PATHS)
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text("\n".join(RULES[:3] + RULES[40:45]) + "\n")
    assert sent(tmp_path) == kept_by_git(tmp_path)
