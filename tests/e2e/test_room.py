"""Who gets room when there is not enough for all."""

import json
import os

import pytest


@pytest.fixture(autouse=True)
def quiet(home):
    """Ends what other tests have left running: here the machine is filled to the last MiB."""
    for state in ("running", "queued"):
        for call in json.loads(home.ok("call", "list", "--state", state, "--json")):
            home.run("call", "cancel", call["id"])


def share_of_this_machine(parts):
    """MiB of which this many fit beside each other, and no more."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(total * 0.9 / (1 << 20) / parts) - 8


def test_a_function_without_a_container_gets_one_from_a_busy_other(home, project):
    folder = project(app=f"""
        import time, clunk
        app = clunk.App()
        @app.function(memory={share_of_this_machine(2)})
        def hog(number):
            time.sleep(0.1)
            return number
        @app.function(memory={share_of_this_machine(2)})
        def small():
            return "done"
        @app.local_entrypoint()
        def main():
            results = hog.map(range(100000), order_outputs=False)
            # Both places are taken, and the queue behind them does not end.
            for _ in range(8):
                next(results)
            print(small.remote(), flush=True)
            results.close()
    """)
    assert home.ok("run", "app.py", cwd=folder) == "done\n"


def test_an_idle_container_makes_room(home, project):
    folder = project(app=f"""
        import clunk
        app = clunk.App()
        @app.function(memory={share_of_this_machine(1)}, scaledown_window=600)
        def one():
            return 1
        @app.function(memory={share_of_this_machine(1)}, scaledown_window=600)
        def other():
            return 2
        @app.local_entrypoint()
        def main():
            print([one.remote(), other.remote(), one.remote()])
    """)
    assert home.ok("run", "app.py", cwd=folder) == "[1, 2, 1]\n"
