"""The dial socket: connections to the server from inside a container."""

import socket
import threading

import pytest


class Dialed:
    """An agent's end: answers each request with a connection that echoes a number."""

    def __init__(self, limit):
        self.here, self.there = socket.socketpair()
        self.limit = limit
        self.given = 0
        self.thread = threading.Thread(target=self._answer)
        self.thread.start()

    def _answer(self):
        while self.here.recv(1):
            if self.given == self.limit:
                self.here.send(b"\0")
                continue
            ours, theirs = socket.socketpair()
            self.given += 1
            ours.sendall(b"%03d" % self.given)
            ours.close()
            socket.send_fds(self.here, [b"\1"], [theirs.fileno()])
            theirs.close()

    def close(self):
        self.here.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.here.close()
        self.there.close()


@pytest.fixture
def dialed():
    made = Dialed(200)
    yield made
    made.close()


CODE = """
    import threading, os
    from clunk._runner import dial
    def one():
        with dial.connect() as connection:
            assert connection.gettimeout() is None and not connection.get_inheritable()
            return int(connection.recv(3))
    def f(count):
        got = []
        threads = [threading.Thread(target=lambda: got.append(one())) for _ in range(count)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        return sorted(got)
"""


@pytest.mark.parametrize("options", [{}, {"concurrency": 2}], ids=["single", "threads"])
def test_connections_up_to_the_limit(start, dialed, options):
    runner = start(CODE, dial=dialed.there, **options)
    assert runner.value(1) == [1]
    assert runner.value(50) == list(range(2, 52))
    assert runner.value(149) == list(range(52, 201))
    runner2 = start(CODE + "    f = one\n", dial=dialed.there)
    number = runner2.begin()
    kind, message = runner2.answers(number)[number]
    assert kind == "clunk.exception.ConnectionError" and "too many connections" in message


def test_without_a_dial_socket(start):
    runner = start(CODE + "    f = one\n")
    number = runner.begin()
    kind, message = runner.answers(number)[number]
    assert kind == "clunk.exception.ConnectionError" and "no way to the server" in message


def test_processes_share_it(start, dialed):
    runner = start(
        CODE
        + """
    from multiprocessing import get_context
    def f(count):
        with get_context("fork").Pool(4) as pool:
            return sorted(number for numbers in pool.map(many, [count] * 4) for number in numbers)
    def many(count): return [one() for _ in range(count)]
""",
        dial=dialed.there,
    )
    assert runner.value(25) == list(range(1, 101))


def test_an_agent_that_is_gone(start, dialed):
    runner = start(CODE + "    f = one\n", dial=dialed.there)
    dialed.here.shutdown(socket.SHUT_RDWR)
    number = runner.begin()
    kind, message = runner.answers(number)[number]
    assert kind == "clunk.exception.ConnectionError" and "agent" in message
