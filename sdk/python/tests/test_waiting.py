"""The line that says what a command waits for."""

import io
import sys
import time

import pytest

from clunk import output as _output
from clunk.output import Output, Progress, Waiting


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def watched(monkeypatch):
    """Makes standard error a terminal: inside of the test, because pytest gives each phase streams of its own."""

    def begin():
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        return terminal

    return begin


def until(terminal, text, limit_s=10):
    end = time.monotonic() + limit_s
    while text not in terminal.getvalue():
        assert time.monotonic() < end, terminal.getvalue()
        time.sleep(0.01)


def test_a_long_wait_is_said_and_its_line_goes(watched):
    terminal = watched()
    waiting = Waiting(Output(), "waiting for a container")
    until(terminal, "clunk: waiting for a container (")
    waiting.now("running")
    until(terminal, "clunk: running (")
    waiting.close()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_nothing_is_drawn_into_a_line_of_others(watched):
    terminal = watched()
    waiting = Waiting(Output(), "running")
    waiting.clear(False)
    before = terminal.getvalue()
    # Longer than any pause that is told of.
    assert not waiting._ended.wait(1)
    assert terminal.getvalue() == before
    waiting.clear(True)
    until(terminal, "clunk: running (")
    waiting.close()


def test_words_of_ours_clear_the_line(watched):
    terminal = watched()
    output = Output()
    waiting = Waiting(output, "running")
    until(terminal, "clunk: running (")
    output.say("done")
    assert "\r\x1b[Kclunk: done\n" in terminal.getvalue()
    waiting.close()


def test_what_is_sent_is_counted(watched, monkeypatch):
    terminal = watched()
    now = [100.0]
    monkeypatch.setattr(_output.time, "monotonic", lambda: now[0])
    output = Output()
    with Progress(output, "sending 1 file", 900_000_000) as progress:
        progress.add(1_000_000)
        # What is done soon needs no word.
        assert terminal.getvalue() == ""
        now[0] += 2
        progress.add(119_000_000)
        assert terminal.getvalue() == "\r\x1b[Kclunk: sending 1 file 120 of 900 MB, 60 MB/s, 13 s left"
        output.say("a word")
        assert terminal.getvalue().endswith("left\r\x1b[Kclunk: a word\n")
        now[0] += 2
        progress.add(1)
    assert terminal.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize("words", [True, False])
def test_a_pipe_gets_nothing(monkeypatch, words):
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    waiting = Waiting(Output(words=words), "running")
    assert waiting._thread is None
    waiting.close()
    assert pipe.getvalue() == ""
