"""The runner alone, driven over a socket pair as the agent drives it."""

import base64
import json
import os
import pickle
import subprocess
import sys
import textwrap

import pytest
import runner_driver
from pythons import PYTHONS


def call(runner, *args, **kwargs):
    returned, payload = runner.call(pickle.dumps((args, kwargs)))
    value = pickle.loads(payload)
    assert returned, value
    return value


def failure(runner, *args, **kwargs):
    returned, payload = runner.call(pickle.dumps((args, kwargs)))
    assert not returned, pickle.loads(payload)
    return pickle.loads(payload)


def test_calls_and_state(start):
    runner = start("seen = []\ndef f(x, *, y=1):\n    seen.append(x)\n    return sum(seen) + y\n")
    assert [call(runner, 1), call(runner, 2, y=10)] == [2, 13]
    assert runner.stop() == 0


def test_ready_tells_versions(start):
    runner = start("def f(): pass", ready=False)
    assert runner.ready() is None
    assert runner.fields["python"].startswith("3.")
    assert runner.fields["sdk"]
    assert int(runner.fields["start_us"]) >= 0


def test_decorated_functions_are_found(start):
    text = """
        import clunk
        app = clunk.App("a", image=clunk.Image.debian_slim().pip_install("x").env({"A": "b"}))
        @app.function(cpu=1, timeout=3)
        def f(): return clunk.is_local(), clunk.current_function_call_id()
        @app.function()
        async def g(x): return x
        class Names:
            @staticmethod
            def h(): return "h"
    """
    assert call(start(text)) == (False, "call-0")
    assert call(start(text, "g"), 4) == 4
    assert call(start(text, "Names.h")) == "h"


def test_async_calls_run_at_once(start):
    runner = start(
        """
        import asyncio, clunk
        gate = None
        async def f(wait):
            global gate
            if gate is None:
                gate = asyncio.Event()
            if wait:
                await gate.wait()
                print("late")
            else:
                gate.set()
            return clunk.current_function_call_id()
        """
    )
    for number, wait in ((1, True), (2, False)):
        text = runner_driver.control(id=f"call-{number}")
        runner.send(runner_driver.CALL, number, text, pickle.dumps(((wait,), {})))
    answers = [runner.receive() for _ in range(2)]
    assert {(kind, number, pickle.loads(payload)) for kind, number, _, payload in answers} == {
        (runner_driver.RESULT, 1, "call-1"),
        (runner_driver.RESULT, 2, "call-2"),
    }
    assert runner.logs == [(1, "stdout", "late\n")]


def test_an_async_call_can_be_canceled(start):
    runner = start("import asyncio\nasync def f():\n    print('in')\n    await asyncio.sleep(60)\n")
    runner.send(runner_driver.CALL, 1, b"", pickle.dumps(((), {})))
    runner.log = lambda *_: runner.send(runner_driver.CANCEL, 1)
    kind, number, fields, _ = runner.receive()
    assert (kind, number) == (runner_driver.EXCEPTION, 1)
    assert "CancelledError" in fields["type"]


def test_a_plain_function_may_return_an_awaitable(start):
    runner = start("async def g(x): return x + 1\ndef f(x): return g(x)\n")
    assert [call(runner, 1), call(runner, 2)] == [2, 3]


def test_output_is_tagged_and_comes_before_the_result(start):
    runner = start(
        """
        import sys
        print("at import")
        def f():
            print("one", 2)
            print("no end", end="")
            sys.stderr.write("wrong\\n")
            print("ü" * 3, file=sys.stderr)
            return sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.fileno()
        """
    )
    assert call(runner) == (False, "utf-8", 1)
    assert runner.logs[0] == (0, "stdout", "at import\n")
    assert {entry[0] for entry in runner.logs[1:]} == {1}
    text = {
        name: "".join(text for _, stream, text in runner.logs[1:] if stream == name) for name in ("stdout", "stderr")
    }
    assert text == {"stdout": "one 2\nno end", "stderr": "wrong\nüüü\n"}


def test_long_text_and_odd_characters(start):
    runner = start("def f(n):\n    print('é' * n)\n    print('\\udcff')\n    for i in range(1000): print(i)\n")
    call(runner, 300_000)
    text = "".join(text for _, _, text in runner.logs)
    assert text == "é" * 300_000 + "\n\\udcff\n" + "".join(f"{i}\n" for i in range(1000))


def test_bytes_written_below_text_go_to_the_pipe(start):
    runner = start(
        "import os, sys\ndef f():\n    os.write(1, b'raw ')\n    sys.stdout.buffer.write(b'buffer')\n    return 1\n"
    )
    assert call(runner) == 1
    assert runner.process.stdout.read(10) == b"raw buffer"
    assert runner.logs == []


def test_a_forked_child_prints_to_the_pipe(start):
    runner = start(
        """
        import os
        def f():
            pid = os.fork()
            if pid == 0:
                print("child", flush=True)
                os._exit(0)
            os.waitpid(pid, 0)
            print("parent")
            return pid
        """
    )
    assert call(runner) > 0
    assert runner.logs == [(1, "stdout", "parent\n")]
    assert runner.process.stdout.read(6) == b"child\n"


def test_threads_print_and_processes_work(start):
    runner = start(
        """
        import threading
        from multiprocessing import get_context
        def double(x): return 2 * x
        def f():
            threads = [threading.Thread(target=print, args=("x" * 100,)) for _ in range(20)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            with get_context("fork").Pool(2) as pool:
                return pool.map(double, range(4))
        """
    )
    assert call(runner) == [0, 2, 4, 6]
    assert "".join(text for _, _, text in runner.logs) == ("x" * 100 + "\n") * 20


@pytest.mark.parametrize("size", [0, 100, 60_000, 70_000, 4 << 20, (4 << 20) + 1, 30_000_000])
def test_payloads_of_every_size(start, size):
    runner = start("def f(x): return x, len(x)\n")
    data = bytes(range(256)) * (size // 256 + 1)
    assert call(runner, data[:size]) == (data[:size], size)
    assert call(runner, b"after") == (b"after", 5)


def test_large_values_that_are_no_bytes(start):
    runner = start("def f(x): return list(range(x)), bytearray(x), {'k': 'v' * x}\n")
    size = 3_000_000
    assert call(runner, size) == (list(range(size)), bytearray(size), {"k": "v" * size})


def test_json(start):
    runner = start("def f(x, y=2): return {'sum': x + y}\n")
    returned, payload = runner.call(b'{"args":[1],"kwargs":{"y":5}}', format="json")
    assert (returned, json.loads(payload), runner.fields["format"]) == (True, {"sum": 6}, "json")
    returned, payload = runner.call(b'{"args":[1]}', format="json")
    assert json.loads(payload) == {"sum": 3}
    returned, _ = runner.call(b'{"args":["a"]}', format="json")
    assert not returned
    assert runner.fields["type"] == "TypeError"


def test_json_of_what_has_none(start):
    runner = start("def f(): return {1, 2}\n")
    returned, _ = runner.call(b"{}", format="json")
    assert not returned
    assert runner.fields["type"] == "clunk.exception.SerializationError"
    assert "the result of f (a set) has no JSON form" in runner.fields["message"]


def test_exceptions_with_cause_frames_and_attributes(start):
    runner = start(
        """
        class Mine(Exception):
            def __init__(self, code):
                super().__init__(f"code {code}")
                self.code = code
            def __reduce__(self):
                return Mine, (self.code,)
        def inner(): raise Mine(7)
        def f():
            try:
                inner()
            except Mine as error:
                raise ValueError("outer") from error
        """
    )
    package = failure(runner)
    assert (package["type"], package["message"]) == ("ValueError", "outer")
    assert [(line, name) for _, line, name, _ in package["frames"]] == [(13, "f")]
    assert package["frames"][0][3] == 'raise ValueError("outer") from error'
    assert [name for _, _, name, _ in package["cause"]["frames"]] == ["f", "inner"]
    assert package["cause"]["type"] == "app.Mine"
    assert repr(pickle.loads(package["exception"])) == "ValueError('outer')"
    assert "direct cause" in package["traceback"] and "_runner" not in package["traceback"]
    assert runner.fields["traceback"] == package["traceback"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("import sys; sys.exit(3)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("return open('/dev/null')", "clunk.exception.SerializationError"),
        ("return lambda: 1", "clunk.exception.SerializationError"),
        # By way of another function: in 3.13.0 a function called with `*args` recurses into itself without end.
        ("(lambda: f())()", "RecursionError"),
    ],
)
def test_a_call_that_ends_badly_ends_only_itself(start, body, kind):
    runner = start(f"def f(ok=False):\n    if ok: return 'still here'\n    {body}\n")
    assert failure(runner)["type"] == kind
    assert call(runner, True) == "still here"


def test_an_exception_without_a_pickle(start):
    runner = start("import threading\ndef f():\n    e = ValueError('x'); e.lock = threading.Lock(); raise e\n")
    package = failure(runner)
    assert package["exception"] is None
    assert package["type"] == "ValueError"


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("import nothing_like_this\n", "ModuleNotFoundError", "nothing_like_this"),
        ("def f(:\n", "SyntaxError", "def f(:"),
        ("x = 1\n", "clunk.exception.ExecutionError", "app.f does not exist"),
        ("raise SystemExit(2)\n", "SystemExit", "2"),
    ],
)
def test_a_start_that_fails(start, text, kind, words):
    runner = start(text, ready=False)
    package = pickle.loads(runner.ready())
    assert package["type"] == kind
    assert words in package["traceback"]
    assert "_runner" not in package["traceback"] and "importlib" not in package["traceback"]
    assert runner.stop() == 1


IMPORTS = """
    import clunk
    with_it = clunk.Image.debian_slim().pip_install("numpy")
    without = clunk.Image.debian_slim()
    app = clunk.App(image=with_it)
    with with_it.imports():
        import nothing_like_this
    @app.function()
    def needs(): pass
    @app.function(image=without)
    def does_not(): return "ran"
    @app.function(image=with_it.env({"A": "b"}))
    def derived(): pass
"""


def test_a_missing_import_matters_only_to_functions_of_that_image(start):
    assert call(start(IMPORTS, "does_not")) == "ran"
    for name in ("needs", "derived"):
        package = pickle.loads(start(IMPORTS, name, ready=False).ready())
        assert package["type"] == "ModuleNotFoundError"


def test_the_module_is_main_to_pickles_of_a_started_script(start):
    runner = start("class Point: pass\ndef f(p): return type(p).__module__\n")
    pickled = b"\x80\x04\x95\x1b\x00\x00\x00\x00\x00\x00\x00\x8c\x08__main__\x8c\x05Point\x93)\x81\x85}\x86."
    frame = pickled[11:]
    data = b"\x80\x04\x95" + len(frame).to_bytes(8, "little") + frame
    returned, payload = runner.call(data)
    assert returned, pickle.loads(payload)
    assert pickle.loads(payload) == "app"


def test_no_name_of_ours_hides_a_users(start, tmp_path):
    (tmp_path / "run_function.py").write_text("WHO = 'mine'\n")
    (tmp_path / "clunk_runner.py").write_text("WHO = 'mine'\n")
    runner = start("import run_function, clunk_runner\ndef f(): return run_function.WHO, clunk_runner.WHO\n")
    assert call(runner) == ("mine", "mine")


def test_it_ends_when_the_agent_goes(start):
    runner = start("def f(): pass")
    runner.link.close()
    assert runner.process.wait(10) == 0


def test_exit_handlers_run(start, tmp_path):
    runner = start(
        f"import atexit\natexit.register(lambda: open({str(tmp_path / 'left')!r}, 'w').close())\ndef f(): pass"
    )
    assert runner.stop() == 0
    assert (tmp_path / "left").exists()


def test_this_python_is_among_them():
    assert sys.executable in [path for _, path in PYTHONS]


def build(folder, text, name="f", arguments="", python=sys.executable):
    (folder / "app.py").write_text(textwrap.dedent(text))
    script = os.path.join(runner_driver.SDK, "run_function.py")
    env = {"PATH": os.environ["PATH"], "CLUNK_ARGUMENTS": arguments}
    command = [python, script, "app", name, str(folder)]
    return subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("python", [path for _, path in PYTHONS], ids=[name for name, _ in PYTHONS])
def test_a_function_runs_while_an_image_is_built(tmp_path, python):
    arguments = base64.b64encode(pickle.dumps((("x",), {"y": 2}), 4)).decode()
    done = build(tmp_path, "def f(x, y): print(x * y); open('made', 'w').close()", arguments=arguments, python=python)
    assert (done.returncode, done.stdout, done.stderr) == (0, "xx\n", "")
    assert (tmp_path / "made").exists()
    done = build(tmp_path, "import clunk\nasync def f(): print(clunk.is_local())", python=python)
    assert (done.returncode, done.stdout) == (0, "False\n")
    done = build(tmp_path, "def f():\n    1 / 0\n", python=python)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback") and done.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert "_runner" not in done.stderr
    assert build(tmp_path, "x = 1", python=python).returncode == 1


def test_arguments_that_the_container_cannot_read(start):
    runner = start("def f(x): pass\n")
    returned, payload = runner.call(b"\x80\x04\x8c\x07nowhere\x8c\x01X\x93.")
    assert not returned
    package = pickle.loads(payload)
    assert package["type"] == "clunk.exception.DeserializationError"
    assert "the arguments of f cannot be read in the container: ModuleNotFoundError" in package["message"]


def test_a_crash_leaves_the_python_stack(start):
    runner = start("import os, signal\ndef f(): os.kill(os.getpid(), signal.SIGSEGV)\n")
    with pytest.raises(EOFError, match="Segmentation fault(.|\n)*app.py"):
        runner.call(pickle.dumps(((), {})))


def test_a_value_with_every_attribute_is_a_value(start):
    runner = start(
        """
        class Any:
            def __getattr__(self, name):
                if name.startswith("__reduce") or name in ("__getstate__", "__setstate__"):
                    raise AttributeError(name)
                return 1
            def __reduce__(self): return (str, ("any",))
        def f(): return Any()
        """
    )
    assert call(runner) == "any"
