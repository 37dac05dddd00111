"""Calls that go wrong: each says why, and the next one works."""

import textwrap

import pytest

CASES = {
    "os._exit(3)": ("import os; os._exit(3)", ["exit code 3"]),
    "segfault": ("import ctypes; ctypes.string_at(0)", ["SIGSEGV"]),
    "abort": ("import os; os.abort()", ["SIGABRT"]),
    "memory": ("x = b'x' * (1 << 30); return len(x)", ["out of memory", "256 MiB"]),
    "timeout": ("import time; time.sleep(60)", ["timeout"]),
    "result": ("return lambda: 1", ["pickle"]),
    "raise": ("raise KeyError('gone')", ["KeyError", "gone"]),
    "exit": ("import sys; sys.exit(4)", ["4"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_call_that_fails_says_why_and_the_next_works(home, project, name):
    code, wanted = CASES[name]
    body = textwrap.indent(code.replace("; ", "\n"), " " * 8).strip()
    folder = project(app=f"""
import clunk
app = clunk.App("failing")

@app.function(memory=(64, 256), timeout=2)
def work(fail: bool):
    if fail:
        {body}
    return "fine"

@app.local_entrypoint()
def main():
    print(work.remote(False))
    try:
        work.remote(True)
    except BaseException as error:
        print(type(error).__name__, error)
    print(work.remote(False))
""")
    done = home.run("run", "app.py", cwd=folder)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0] == "fine" and lines[-1] == "fine"
    assert all(word in done.stdout for word in wanted), done.stdout


def test_an_argument_without_a_pickle_is_named(home, project):
    folder = project(app="""
        import clunk
        app = clunk.App()
        @app.function()
        def f(a, callback=None): return a
        @app.local_entrypoint()
        def main(): f.remote(1, callback=lambda: 1)
    """)
    done = home.run("run", "app.py", cwd=folder)
    assert done.returncode == 1 and "callback" in done.stderr


def test_an_import_that_fails_in_the_container_is_the_users(home, project):
    folder = project(app="""
        import clunk
        app = clunk.App()
        if not clunk.is_local():
            import not_in_the_image
        @app.function()
        def f(): return 1
    """)
    done = home.run("run", "app.py", cwd=folder)
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr and "app.py" in done.stderr and "line 5" in done.stderr


def test_an_exception_that_cannot_be_loaded_here(home, project):
    folder = project(app="""
        import clunk
        app = clunk.App()
        image = clunk.Image.debian_slim().pip_install("cowsay")
        @app.function(image=image)
        def f():
            import cowsay
            raise type("Strange", (cowsay.CowsayError,), {})("moo") if hasattr(cowsay, "CowsayError") else make()
        def make():
            class Inner(Exception): ...
            return Inner("moo")
        @app.local_entrypoint()
        def main():
            try:
                f.remote()
            except clunk.exception.RemoteError as error:
                print("remote", "moo" in str(error))
    """)
    assert home.ok("run", "app.py", cwd=folder).strip() == "remote True"


def test_what_can_never_be_placed_is_refused_at_once(home, project):
    folder = project(app="""
        import clunk
        app = clunk.App()
        @app.function(memory=60_000_000)
        def f(): return 1
    """)
    done = home.run("run", "app.py", cwd=folder)
    assert done.returncode != 0 and "58593.8 GiB of memory" in done.stderr and "the largest machine has" in done.stderr
