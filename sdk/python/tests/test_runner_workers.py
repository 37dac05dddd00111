"""Workers in the runner: forked processes with links of their own."""

import os
import pickle
import signal

import pytest
from runner_driver import CANCEL, READY, STOP, control

CODE = """
    import os, random, signal, sys, time
    import clunk
    loaded = os.getpid()
    class Cls:
        def __init__(self, plain):
            self._clunk_class, self._clunk_options, self._app = plain, {}, clunk.App("a")
    @Cls
    class C:
        def set_up(self):
            self.weights = [1, 2, 3]
            self.maker = os.getpid()
            print("set up")
        set_up._clunk_enter = {"snap": False}
        def gone(self): print("exit in", os.getpid() == self.maker)
        gone._clunk_exit = True
        def who(self): return os.getpid(), self.maker, self.weights, random.random()
        who._clunk_method = {"is_generator": None}
        def wait(self):
            print("waits", flush=True)
            time.sleep(60)
        wait._clunk_method = {"is_generator": None}
        def hang(self):
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            print("hangs", flush=True)
            time.sleep(60)
        hang._clunk_method = {"is_generator": None}
        def crash(self): os.kill(os.getpid(), signal.SIGKILL)
        crash._clunk_method = {"is_generator": None}
        def leave(self, code): os._exit(code)
        leave._clunk_method = {"is_generator": None}
        def slow(self):
            print("slow", flush=True)
            while not os.path.exists("go"): time.sleep(0.001)
            return "done"
        slow._clunk_method = {"is_generator": None}
"""
ASYNC = """
        async def here(self):
            import asyncio
            await asyncio.sleep(0)
            return os.getpid()
        here._clunk_method = {"is_generator": None}
        async def early(self):
            import asyncio
            await asyncio.sleep(0)
        early._clunk_enter = {"snap": True}
"""


@pytest.fixture
def begin(start):
    links = []

    def begin(text=CODE, workers=3, **options):
        runner = start(text, "C", mode="class", workers=workers, ready=False, **options)
        made = [runner.worker(number) for number in range(workers)]
        for link in made:
            assert link.receive()[0] == READY
        assert runner.ready() is None
        links.extend(made)
        return runner, made

    yield begin
    for link in links:
        link.link.close()


def one(link, method, *args):
    number = link.begin(*args, method=method)
    return link.answers(number)[number]


def test_workers_share_what_was_set_up(begin):
    runner, links = begin()
    answers = [one(link, "who") for link in links]
    pids = {pid for pid, _, _, _ in answers}
    assert len(pids) == 3 and runner.process.pid not in pids
    assert {maker for _, maker, _, _ in answers} == {runner.process.pid}
    assert [weights for _, _, weights, _ in answers] == [[1, 2, 3]] * 3
    assert len({number for _, _, _, number in answers}) == 3
    assert runner.logs == [(0, "stdout", "set up\n")]
    runner.end()
    assert runner.logs[1:] == [(0, "stdout", "exit in True\n")]
    assert runner.stop() == 0
    assert not any(link.logs for link in links)


def test_what_runs_is_finished_first(begin):
    for how in ("first", "own"):
        runner, links = begin()
        if os.path.exists(f"{runner.root}/go"):
            os.unlink(f"{runner.root}/go")
        number = links[1].begin(method="slow")
        links[1].wait_for_log("slow")
        if how == "own":
            for link in links:
                link.send(STOP)
        runner.send(STOP)
        for link in (links[0], links[2]):
            with pytest.raises(EOFError):
                link.receive()
        open(f"{runner.root}/go", "w").close()
        assert links[1].answers(number) == {number: "done"}
        runner.wait_for_log("exit in True")
        assert runner.stop() == 0


def test_a_cancel_reaches_the_worker(begin):
    runner, links = begin()
    number = links[1].begin(method="wait")
    links[1].wait_for_log("waits")
    links[1].send(CANCEL, number)
    runner.send(CANCEL, 0, control(worker=1))
    assert links[1].answers(number)[number][0] == "clunk.exception.InputCancellation"
    pid = one(links[1], "who")[0]
    # The kill reaches one worker, and no other notices.
    links[1].begin(method="hang")
    links[1].wait_for_log("hangs")
    runner.send(CANCEL, 0, control(worker=1, kill=1))
    with pytest.raises((EOFError, ConnectionError)):
        links[1].receive()
    again = runner.worker(1)
    assert again.receive()[0] == READY
    assert one(again, "who")[0] not in (pid, one(links[0], "who")[0], one(links[2], "who")[0])
    again.link.close()
    assert runner.stop() == 0


def test_a_worker_that_dies_is_made_anew(begin):
    runner, links = begin(workers=2)
    for _ in range(10):
        links[0].begin(method="crash")
        with pytest.raises((EOFError, ConnectionError)):
            links[0].receive()
        links[0].link.close()
        links[0] = runner.worker(0)
        assert runner.worker_ended() == {"worker": "0", "signal": "9"}
        assert links[0].receive()[0] == READY
    links[1].begin(3, method="leave")
    assert runner.worker_ended() == {"worker": "1", "code": "3"}
    links[1].link.close()
    links[1] = runner.worker(1)
    assert links[1].receive()[0] == READY
    pids = [one(link, "who")[0] for link in links]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for number, link in enumerate(links):
        with pytest.raises((EOFError, ConnectionError)):
            link.receive()
        link.link.close()
        links[number] = runner.worker(number)
        assert links[number].receive()[0] == READY
    assert not {one(link, "who")[0] for link in links} & set(pids)
    runner.end()
    assert runner.logs[-1] == (0, "stdout", "exit in True\n")
    assert runner.stop() == 0
    for link in links:
        link.link.close()


@pytest.mark.parametrize("options", [{}, {"concurrency": 3}], ids=["single", "several"])
def test_async_methods_in_workers(begin, options):
    runner, links = begin(CODE + ASYNC, **options)
    pids = {one(link, "here") for link in links}
    assert len(pids) == 3
    # Plain methods of the same class run beside them.
    assert {one(link, "who")[0] for link in links} == pids
    runner.end()
    assert runner.stop() == 0


def test_threads_in_workers(begin):
    runner, links = begin(concurrency=2)
    numbers = [links[0].begin(method="slow") for _ in range(2)]
    while len(links[0].logs) < 2:
        links[0].receive(logs=True)
    open(f"{runner.root}/go", "w").close()
    assert links[0].answers(*numbers) == dict.fromkeys(numbers, "done")
    os.unlink(f"{runner.root}/go")
    # Told to stop by its parent, with a call in a thread.
    number = links[0].begin(method="slow")
    while len(links[0].logs) < 3:
        links[0].receive(logs=True)
    runner.send(STOP)
    open(f"{runner.root}/go", "w").close()
    assert links[0].answers(number) == {number: "done"}
    runner.wait_for_log("exit in True")
    assert runner.stop() == 0


def test_numpy_is_seeded_in_each_worker(begin):
    text = """
        def seeded(self): return sys.modules["numpy.random"].pids
        seeded._clunk_method = {"is_generator": None}
    import types
    stand_in = sys.modules["numpy.random"] = types.ModuleType("numpy.random")
    stand_in.pids = []
    stand_in.seed = lambda: stand_in.pids.append(os.getpid())
"""
    runner, links = begin(CODE + text, workers=2)
    assert [one(link, "seeded") for link in links] == [[one(link, "who")[0]] for link in links]
    assert runner.stop() == 0


def test_a_start_that_fails_forks_nothing(start):
    runner = start("1 / 0", "C", mode="class", workers=2, ready=False)
    link = runner.worker(0)
    assert pickle.loads(runner.ready())["type"] == "ZeroDivisionError"
    assert runner.stop() == 1
    with pytest.raises((EOFError, ConnectionError)):
        link.receive()
    link.link.close()


def test_the_program_ends_with_the_agent(begin):
    runner, links = begin()
    runner.link.close()
    assert runner.process.wait(10) == 0
    for link in links:
        with pytest.raises((EOFError, ConnectionError)):
            link.receive()


def test_a_workers_child_prints_to_the_pipe(start):
    runner = start(
        "import os\ndef f():\n"
        "    if os.fork() == 0:\n        print('child', flush=True)\n        os._exit(0)\n"
        "    os.wait()\n    print('worker')\n",
        workers=1,
        ready=False,
    )
    link = runner.worker(0)
    assert link.receive()[0] == READY
    assert runner.ready() is None
    number = link.begin()
    assert link.answers(number) == {number: None}
    assert runner.process.stdout.read(6) == b"child\n"
    assert link.logs == [(number, "stdout", "worker\n")]
    link.link.close()
    assert runner.stop() == 0
