"""`clunk run`: what a newcomer does first."""

import json
import signal
import subprocess
import time

from conftest import binary, container_processes, wait_until


def test_a_sibling_a_package_and_an_exception(home, project):
    folder = project(
        pyproject_dot_toml="[project]\nname = 'demo'\n",
        shop__prices="""
            class TooDear(Exception):
                def __init__(self, item, price):
                    super().__init__(item, price)
                    self.item, self.price = item, price

            def check(item, price):
                if price > 100:
                    raise TooDear(item, price)
                return price
        """,
        shop__main="""
            import clunk
            from prices import TooDear, check

            app = clunk.App("shop")
            image = clunk.Image.debian_slim().pip_install("cowsay")

            @app.function(image=image)
            def buy(item: str, price: int) -> str:
                import cowsay

                check(item, price)
                return cowsay.get_output_string("cow", f"{item} for {price}")

            @app.local_entrypoint()
            def main():
                print(buy.remote("tea", 3))
                try:
                    buy.remote("yacht", 1000)
                except TooDear as error:
                    print("caught", error.item, error.price)
                buy.remote("castle", 9999)
        """,
    )
    done = home.run("run", "shop/main.py", cwd=folder)
    assert done.returncode == 1
    assert "tea for 3" in done.stdout and "caught yacht 1000" in done.stdout
    lines = done.stderr.splitlines()
    trace = lines[lines.index("Traceback (most recent call last):") :]
    shown = [line.strip() for line in trace]
    for name, line, code in [
        ("main.py", 'buy.remote("castle", 9999)', "main"),
        ("main.py", "check(item, price)", "buy"),
        ("prices.py", "raise TooDear(item, price)", "check"),
    ]:
        path = folder / "shop" / name
        number = [text.strip() for text in path.read_text().splitlines()].index(line) + 1
        at = shown.index(f'File "{path}", line {number}, in {code}')
        assert shown[at + 1] == line
    assert any("TooDear: ('castle', 9999)" in line for line in shown)
    assert not any("/clunk/" in line and "File" in line for line in trace), done.stderr


FLAGS = """
    import datetime
    import typing
    import clunk

    app = clunk.App("flags")

    @app.function()
    def add(a: int, b: float = 0.5) -> float:
        return a + b

    @app.local_entrypoint()
    def main(name: str, count: int = 2, big: bool = False, when: datetime.datetime = None,
             size: typing.Literal["s", "m"] = "s", rate: typing.Optional[float] = None):
        print(repr((name, count, big, when, size, rate)))

    @app.local_entrypoint()
    def rest(*words):
        print(words)
"""


def test_typed_arguments_are_flags(home, project):
    folder = project(flags=FLAGS)
    run = ["run", "flags.py::main", "--name", "ann"]
    assert home.ok(*run, cwd=folder) == "('ann', 2, False, None, 's', None)\n"
    more = ["--count=5", "--big", "--when", "2024-02-29T12:00:00", "--size", "m", "--rate", "0.25"]
    expected = "('ann', 5, True, datetime.datetime(2024, 2, 29, 12, 0), 'm', 0.25)\n"
    assert home.ok(*run, *more, cwd=folder) == expected
    assert "False" in home.ok(*run, "--no-big", cwd=folder)
    assert home.ok("run", "flags.py::rest", "a", "--b", cwd=folder) == "('a', '--b')\n"
    assert home.ok("run", "flags.py::add", "--a", "2", cwd=folder).strip() == "2.5"


def test_bad_arguments_name_the_flag(home, project):
    folder = project(flags=FLAGS)
    cases = [
        (["--count", "many"], ["--count", "many"]),
        ([], ["--name"]),
        (["--name", "a", "--size", "xl"], ["--size", "xl"]),
        (["--name", "a", "--cuont", "3"], ["--cuont", "--count"]),
        (["--name", "a", "--when", "tomorrow"], ["--when", "tomorrow"]),
    ]
    for words, wanted in cases:
        done = home.run("run", "flags.py::main", *words, cwd=folder)
        assert done.returncode == 2, (words, done.stderr)
        assert all(word in done.stderr for word in wanted), (words, done.stderr)
        assert "Traceback" not in done.stderr


def test_user_mistakes_are_shown_as_the_users(home, project):
    folder = project(
        broken="def f(:\n",
        empty="x = 1\n",
        missing="import nowhere_to_be_found\n",
        two="""
            import clunk
            app = clunk.App()
            @app.function()
            def one(): ...
            @app.function()
            def two(): ...
        """,
    )
    done = home.run("run", "broken.py", cwd=folder)
    assert done.returncode != 0 and "broken.py" in done.stderr and "SyntaxError" in done.stderr
    assert "clunk/_cli" not in done.stderr
    done = home.run("run", "nothere.py", cwd=folder)
    assert done.returncode in (2, 3) and "nothere.py" in done.stderr
    done = home.run("run", "empty.py", cwd=folder)
    assert done.returncode != 0 and "empty.py" in done.stderr and "Traceback" not in done.stderr
    done = home.run("run", "missing.py", cwd=folder)
    assert done.returncode != 0 and "nowhere_to_be_found" in done.stderr and "_cli" not in done.stderr
    done = home.run("run", "two.py", cwd=folder)
    assert done.returncode == 2
    assert "clunk run two.py::one" in done.stderr and "clunk run two.py::two" in done.stderr


PRINTS = """
    import sys
    import subprocess
    import clunk

    app = clunk.App("prints")

    @app.function()
    def speak(n: int):
        for i in range(n):
            print("out", i)
        print("err", file=sys.stderr)
        subprocess.run(["echo", "from a child"], check=True)
        print("no newline", end="")
        return n
"""


def test_output_goes_where_it_belongs(home, project):
    folder = project(prints=PRINTS)
    done = home.run("run", "prints.py::speak", "--n", "2000", cwd=folder)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("out ")] == [f"out {i}" for i in range(2000)]
    assert "from a child" in done.stdout and "no newline" in done.stdout
    assert "err" in done.stderr.splitlines() and "out 1" not in done.stderr
    logs = home.ok("logs", "--json")
    events = [json.loads(line) for line in logs.splitlines()]
    calls = {event["call"] for event in events if event["type"] == "log"}
    assert len(calls) == 1 and None not in calls
    (call,) = calls
    assert home.ok("logs", call).count("out ") == 2000
    assert len(home.ok("logs", "--tail", "1", "--json").splitlines()) == 1


def test_json_and_quiet(home, project):
    folder = project(prints=PRINTS)
    done = home.run("run", "--json", "--quiet", "prints.py::speak", "--n", "1", cwd=folder)
    assert done.returncode == 0 and done.stdout.rstrip().endswith("1"), done.stdout


def test_local_mode_needs_no_server(project, own_home):
    folder = project(
        flags=FLAGS,
        where="""
            import os
            import clunk
            app = clunk.App()
            @app.function()
            def pid(): return os.getpid()
            @app.local_entrypoint()
            def main():
                print(pid.remote() == os.getpid(), clunk.is_local())
        """,
    )
    assert own_home.ok("run", "--local", "where.py", cwd=folder) == "True True\n"
    assert not (own_home.path / "server.json").exists()


def test_python_file_py(home, project):
    folder = project(
        script="""
            import clunk
            app = clunk.App("script")
            class Odd(Exception): ...

            @app.function()
            def half(x: int) -> int:
                if x % 2:
                    raise Odd(x)
                return x // 2

            if __name__ == "__main__":
                with app.run():
                    print(half.remote(8))
                    try:
                        half.remote(7)
                    except Odd as error:
                        print("odd", error)
        """,
    )
    sdk = next((home.path / "runner").glob("sdk-*"))
    env = {**home.env, "PYTHONPATH": str(sdk), "CLUNK_BIN": binary()}
    done = subprocess.run([env["CLUNK_PYTHON"], "script.py"], cwd=folder, env=env, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("4\nodd 7\n", 0), done.stderr


SLEEPS = """
    import time
    import clunk
    app = clunk.App("sleeps")

    @app.function()
    def nap():
        print("asleep", flush=True)
        time.sleep(600)

    @app.local_entrypoint()
    def main():
        nap.remote()
"""


def begin_sleeping(home, folder):
    process = home.popen("run", "sleeps.py", cwd=folder)
    assert process.stdout.readline() == "asleep\n"
    assert container_processes(home)
    return process


def test_ctrl_c_stops_the_work_at_once(home, project):
    process = begin_sleeping(home, project(sleeps=SLEEPS))
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130
    assert time.monotonic() - begun < 5
    wait_until("no container", lambda: not container_processes(home))


def test_a_killed_client_leaves_nothing(home, project):
    # Models of other tests are served until somebody deletes them.
    before = home.status()["server"]["apps_running"]
    process = begin_sleeping(home, project(sleeps=SLEEPS))
    process.kill()
    process.communicate(timeout=10)
    wait_until("no container", lambda: not container_processes(home))
    wait_until("no more app", lambda: home.status()["server"]["apps_running"] == before)


def test_an_edit_builds_nothing(home, project):
    folder = project(app="import clunk\napp = clunk.App()\n@app.function()\ndef f(): return 'one'\n")
    assert home.ok("run", "app.py", cwd=folder).strip() == "one"
    (folder / "app.py").write_text("import clunk\napp = clunk.App()\n@app.function()\ndef f(): return 'two'\n")
    done = home.run("run", "app.py", cwd=folder)
    assert done.stdout.strip() == "two"
    assert "build" not in done.stderr


def test_ignored_files_stay_at_home(home, project):
    folder = project(
        pyproject_dot_toml="",
        _dot_gitignore="*.secret\n",
        app="""
            import os
            import clunk
            app = clunk.App()
            @app.function()
            def files(): return sorted(name for name in os.listdir("/root") if "." in name and name[0] != ".")
        """,
    )
    (folder / "key.secret").write_text("hunter2")
    (folder / "data.bin").write_bytes(bytes(range(256)))
    (folder / ".venv").mkdir()
    (folder / ".venv" / "big.bin").write_text("x")
    shown = home.ok("run", "app.py", cwd=folder)
    assert "data.bin" in shown and "app.py" in shown
    assert "key.secret" not in shown and "big.bin" not in shown


def test_calls_are_recorded(home, project):
    folder = project(app="import clunk\napp = clunk.App()\n@app.function()\ndef f(): return 1\n")
    home.ok("run", "app.py", cwd=folder)
    status = home.status()["server"]
    assert status["calls_ended"] >= 1 and status["replicas"] == 0
