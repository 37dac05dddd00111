"""`clunk run`, end to end against a fake server and real runner processes."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import SDK

HELLO = """
    import clunk

    app = clunk.App("hello")

    @app.function()
    def square(x: int) -> int:
        print("squaring", x)
        return x * x

    @app.local_entrypoint()
    def main(x: int = 3):
        print("local", clunk.is_local(), square.remote(x))
"""

TWO = """
    import clunk

    app = clunk.App()

    @app.function()
    def one(x: int = 1):
        "Returns what it is given."
        return {"x": x}

    @app.function()
    def two():
        return "text"
"""


def test_an_entry_point_calls_a_function_in_a_container(project):
    project.write("hello.py", HELLO)
    done = project.run("hello.py", "--x", "5")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["squaring 5", "local True 25"]
    assert done.stderr == ""


def test_a_function_alone_prints_what_it_returns(project):
    project.write("two.py", TWO)
    done = project.run("two.py::one", "--x", "7")
    assert (done.returncode, done.stdout) == (0, "{'x': 7}\n")
    done = project.run("--json", "two.py::app.one", "--x=7")
    assert json.loads(done.stdout) == {"x": 7}


def test_the_value_comes_after_the_last_line_of_the_container(project):
    project.write("hello.py", HELLO)
    done = project.run("hello.py::square", "--x", "5")
    assert done.stdout == "squaring 5\n25\n"


def test_write_result(project):
    project.write("two.py", TWO)
    done = project.run("-w", "out.txt", "two.py::two")
    assert (done.returncode, done.stdout) == (0, "")
    assert (project.folder / "out.txt").read_text() == "text"
    done = project.run("--write-result=out.txt", "two.py::one")
    assert done.returncode == 1
    assert done.stderr.endswith("hint: add --json to write it as JSON\n")


def test_a_module_by_its_name_and_a_script_in_a_folder(project):
    project.write("pkg/__init__.py", "")
    project.write("pkg/helper.py", "VALUE = 41\n")
    project.write(
        "pkg/job.py",
        """
        import clunk
        from .helper import VALUE
        app = clunk.App()
        @app.function()
        def answer():
            return VALUE + 1, __name__
        """,
    )
    assert project.run("-m", "pkg.job::answer").stdout == "(42, 'pkg.job')\n"
    project.write(
        "scripts/deep.py",
        """
        import clunk
        import neighbour
        app = clunk.App()
        @app.function()
        def answer():
            from pkg.helper import VALUE
            return neighbour.NAME, VALUE, open("data.txt").read()
        """,
    )
    project.write("scripts/neighbour.py", "NAME = 'n'\n")
    project.write("scripts/data.txt", "data")
    done = project.run("scripts/deep.py")
    assert done.stdout == "('n', 41, 'data')\n", done.stderr


def test_local_runs_everything_in_this_process(project):
    project.write("hello.py", HELLO)
    done = project.run("--local", "hello.py", env={"CLUNK_SERVER_URL": "http://127.0.0.1:1"})
    assert done.stdout == "squaring 3\nlocal True 9\n"


def test_local_runs_async_functions(project):
    project.write(
        "a.py",
        """
        import asyncio, clunk
        app = clunk.App()
        @app.function()
        async def double(x): return 2 * x
        @app.local_entrypoint()
        async def main():
            print(await double.remote.aio(1), await asyncio.gather(*[double.remote.aio(i) for i in range(3)]))
        @app.local_entrypoint()
        def plain():
            print(double.remote(4))
        """,
    )
    assert project.run("--local", "a.py::main").stdout == "2 [0, 2, 4]\n"
    assert project.run("--local", "a.py::plain").stdout == "8\n"
    assert project.run("a.py::main").stdout == "2 [0, 2, 4]\n"


def test_python_file_with_app_run(project):
    project.write(
        "script.py",
        """
        import asyncio, clunk
        app = clunk.App()
        class Mine(Exception):
            def __init__(self, code):
                super().__init__(code)
                self.code = code
        class Point:
            def __init__(self, x): self.x = x
        @app.function()
        def move(point):
            if point.x < 0:
                raise Mine(point.x)
            return Point(point.x + 1)
        if __name__ == "__main__":
            with app.run():
                moved = move.remote(Point(1))
                print(type(moved) is Point, moved.x)
                try:
                    move.remote(Point(-5))
                except Mine as error:
                    print("caught", error.code)
            async def later():
                async with app.run():
                    print((await move.remote.aio(Point(2))).x)
            asyncio.run(later())
        """,
    )
    done = project.python("script.py")
    assert done.stdout.splitlines() == ["True 2", "caught -5", "3"], done.stderr


def test_enable_output_shows_what_containers_print(project):
    project.write(
        "script.py",
        """
        import clunk
        app = clunk.App()
        @app.function()
        def f(): print("from the container")
        with clunk.enable_output():
            with app.run():
                f.remote()
        """.replace("        with clunk", "        if clunk.is_local():\n          with clunk")
        .replace("            with app", "              with app")
        .replace("                f.remote()", "                f.remote()"),
    )
    done = project.python("script.py")
    assert done.stdout == "from the container\n", done.stderr


CHOICES = [
    (["gone.py"], "there is no file gone.py"),
    (["hllo.py"], "hint: did you mean hello.py?"),
    (["."], ". is a folder"),
    (["hello.py::nothing"], "hello.py has no function nothing; it has:"),
    (["hello.py::squar"], "hint: did you mean square?"),
    (["hello.py", "--y", "1"], "unknown flag --y\nhint: did you mean --x?"),
    (["hello.py", "--x", "one"], "--x must be a whole number, not 'one'"),
    (["hello.py", "5"], "unexpected argument '5'\nhint: clunk run hello.py::main --x 5"),
    (["hello.py::square"], "missing --x\nhint: clunk run hello.py::square --x 1"),
    (["two.py"], "two.py has 2 functions; name one:\n  clunk run two.py::one\n  clunk run two.py::two"),
    (["none.py"], "none.py has no clunk.App"),
    (["--loca", "hello.py"], "unknown option --loca\nhint: did you mean --local?"),
    ([], "no file to run"),
    (["-m", "no.such"], "there is no module no.such"),
    (["clunk.py"], "clunk.py has the name of the Python module `clunk`"),
    (["a.b.py"], "a.b.py cannot be imported: its name has more than one dot"),
]


@pytest.mark.parametrize(("words", "expected"), CHOICES, ids=[" ".join(words) for words, _ in CHOICES])
def test_usage_errors(project, words, expected):
    project.write("hello.py", HELLO)
    project.write("two.py", TWO)
    project.write("none.py", "")
    project.write("a.b.py", HELLO)
    # Hidden from the interpreter itself, which would import it before it is refused.
    if words == ["clunk.py"]:
        project.write("there/clunk.py", HELLO)
        words = ["there/clunk.py"]
    done = project.run(*words)
    assert expected in done.stderr
    assert done.stderr.startswith("error: ")
    missing = any(
        word in expected
        for word in (
            "there is no file",
            "there is no module",
            "has no function nothing",
            "has no function xyz",
            "mean hello",
            "mean square",
        )
    )
    assert (done.returncode, done.stdout) == (3 if missing else 2, "")
    assert project.server.requests == []


def test_help_of_a_function(project):
    project.write("two.py", TWO)
    done = project.run("two.py::one", "--help")
    assert done.returncode == 0
    assert "Returns what it is given." in done.stdout
    assert "--x X  a whole number (default 1)" in done.stdout


def test_a_syntax_error_shows_the_line(project):
    project.write("bad.py", "import clunk\n\ndef f(:\n    pass\n")
    done = project.run("bad.py")
    assert done.returncode == 1
    assert 'bad.py", line 3' in done.stderr and "def f(:" in done.stderr
    assert "clunk/_cli" not in done.stderr and "importlib" not in done.stderr


def test_an_import_error_shows_only_the_users_frames(project):
    project.write("bad.py", "import clunk\nimport not_installed_anywhere\n")
    done = project.run("bad.py")
    assert done.returncode == 1
    assert 'bad.py", line 2, in <module>' in done.stderr
    assert "_cli" not in done.stderr
    assert "hint: install not_installed_anywhere here too" in done.stderr


def test_an_error_of_ours_at_import_names_the_line(project):
    project.write("bad.py", "import clunk\napp = clunk.App()\n@app.function(timeot=3)\ndef f(): pass\n")
    done = project.run("bad.py")
    # Before 3.10 a decorator that fails is on the line of the function.
    line = 3 if sys.version_info >= (3, 10) else 4
    assert done.stderr == (
        f"error: bad.py:{line}: function f: @app.function() has no parameter `timeot`\nhint: did you mean `timeout`?\n"
    )


def test_an_exception_shows_the_source_on_both_sides(project):
    project.write("lib.py", "def deep(x):\n    return 1 / x\n")
    project.write(
        "bad.py",
        """
        import clunk, lib
        app = clunk.App()
        @app.function()
        def f(x: int): return lib.deep(x)
        @app.local_entrypoint()
        def main(): f.remote(0)
        """,
    )
    done = project.run("bad.py")
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "return 1 / x" in done.stderr and "def main(): f.remote(0)" in done.stderr
    assert str(project.folder / "lib.py") in done.stderr
    assert "clunk/function.py" not in done.stderr and "_runner" not in done.stderr


def test_a_module_that_fails_in_the_container_only(project):
    project.write(
        "bad.py",
        """
        import clunk
        app = clunk.App()
        if not clunk.is_local():
            raise RuntimeError("only there")
        @app.function()
        def f(): pass
        """,
    )
    done = project.run("bad.py")
    assert done.returncode == 1
    assert "RuntimeError: only there" in done.stderr
    assert 'raise RuntimeError("only there")' in done.stderr


def test_a_module_that_only_this_machine_has(project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "helper_elsewhere.py").write_text("")
    project.write(
        "bad.py",
        """
        import clunk
        app = clunk.App()
        @app.function()
        def f():
            import helper_elsewhere
        """,
    )
    done = project.run("bad.py", env={"PYTHONPATH": f"{SDK}:{elsewhere}"})
    assert done.returncode == 1
    assert done.stderr.endswith(
        "ModuleNotFoundError: No module named 'helper_elsewhere'\n"
        "hint: helper_elsewhere is outside the project that was sent: "
        'add .add_local_python_source("helper_elsewhere") to the image\n'
    )


def test_errors_of_the_server(project):
    project.write("two.py", TWO)
    body = b'{"error":{"code":"not-found","message":"no such function","hint":"deploy it"}}'
    project.server.planned["POST", "/api/functions"] = (404, {"clunk-outcome": "failure"}, body)
    done = project.run("two.py::one")
    assert (done.returncode, done.stderr) == (3, "error[not-found]: no such function\nhint: deploy it\n")
    body = b'{"error":{"code":"version-mismatch","message":"client 0.1 does not fit server 0.3","hint":"update"}}'
    project.server.planned["POST", "/api/trees"] = (426, {}, body)
    done = project.run("two.py::one")
    assert (done.returncode, done.stderr) == (
        1,
        "error[version-mismatch]: client 0.1 does not fit server 0.3\nhint: update\n",
    )
    done = project.run("two.py::one", env={"CLUNK_TOKEN": "wrong"})
    assert (done.returncode, done.stderr) == (4, "error[unauthorized]: the token is not right\n")
    done = project.run("two.py::one", env={"CLUNK_SERVER_URL": "http://127.0.0.1:1"})
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot connect to 127.0.0.1:1")


def test_a_full_queue_is_waited_for(project):
    project.write("two.py", TWO)
    body = b'{"error":{"code":"queue-full","message":"full"}}'
    project.server.planned["POST", "/api/functions"] = (429, {"retry-after": "0.01", "clunk-outcome": "failure"}, body)
    done = project.run("two.py::two")
    assert (done.returncode, done.stdout) == (0, "text\n")


def test_a_build_tells_of_steps_that_are_built(project):
    project.write("two.py", TWO)
    project.server.build_events = [
        {"type": "step", "index": 1, "total": 2, "title": "debian_slim", "cached": True},
        {"type": "step", "index": 2, "total": 2, "title": "apt_install git", "cached": False},
        {"type": "log", "text": "unpacking\n"},
        {"type": "done", "image": "im-" + "0" * 32, "python": "3.11", "cached": False, "elapsed_ms": 1500},
    ]
    done = project.run("two.py::two")
    assert done.stderr == "clunk: building 2/2 apt_install git\nclunk: image built in 1.5 s\n"
    assert project.run("-q", "two.py::two").stderr == ""


def test_a_failed_build_shows_its_log(project):
    project.write("two.py", TWO)
    project.server.build_events = [
        {"type": "step", "index": 1, "total": 1, "title": "run_commands false", "cached": False},
        {"type": "log", "text": "the log"},
        {"type": "log", "text": "of the step"},
        {
            "type": "error",
            "error": {"code": "build-failed", "message": "exit code 1", "hint": "read the log"},
            "tail": ["the log"],
            "step": 1,
            "title": "run_commands false",
        },
    ]
    done = project.run("two.py::two")
    assert done.returncode == 1
    assert done.stderr == (
        "clunk: building 1/1 run_commands false\nthe log\nof the step\n"
        "error[build-failed]: step 1 (run_commands false): exit code 1\nhint: read the log\n"
    )


def test_ctrl_c_stops_the_app(project):
    project.write(
        "slow.py",
        """
        import clunk, time
        app = clunk.App()
        @app.function()
        def slow():
            print("started", flush=True)
            time.sleep(60)
        """,
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "clunk", "run", "slow.py"],
        cwd=project.folder,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"started\n"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert time.monotonic() - began < 15
    assert errors == b""
    assert any(path.endswith("/stop") for _, path, _, _ in project.server.requests)


def test_nothing_is_sent_twice(project):
    project.write("two.py", TWO)
    assert project.run("two.py::two").returncode == 0
    sent = [path for _, path, _, _ in project.server.requests]
    assert sent.count("/api/blobs") == 1
    project.server.requests.clear()
    assert project.run("two.py::two").returncode == 0
    assert "/api/blobs" not in [path for _, path, _, _ in project.server.requests]


def test_an_exit_of_user_code_is_kept(project):
    project.write(
        "leave.py",
        """
        import sys, clunk
        app = clunk.App()
        @app.local_entrypoint()
        def main(): sys.exit(7)
        """,
    )
    assert project.run("leave.py").returncode == 7


def test_a_closed_pipe_is_no_error(project):
    project.write("hello.py", HELLO)
    command = f"{sys.executable} -m clunk run --local hello.py | true"
    done = subprocess.run(
        command, shell=True, cwd=project.folder, env=project.environment(), capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    assert os.path.exists(project.folder)
