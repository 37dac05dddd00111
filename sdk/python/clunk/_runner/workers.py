"""Workers: processes forked after set-up, so that a replica uses several cores with the memory of one.

The parent loads the code and runs the enter hooks; the memory of both is shared with what it forks. It answers no
calls: it forks a worker for each WORKER frame, passes cancels on, says how each worker ended, and ends when all have.
A worker serves a link of its own as a runner without workers does.

The end: on STOP the parent sends SIGTERM to each worker, which finishes what runs; STOP on a worker's own link does the
same. Exit hooks run once, in the parent, when the last worker has ended.
"""

import gc
import os
import sys
from _signal import SIG_DFL, SIGCHLD, SIGKILL, SIGTERM, SIGUSR1, set_wakeup_fd, signal
from select import POLLIN, poll

from .link import CANCEL, STOP, WORKER, WORKER_ENDED, FilePayload, Link, LinkClosed, decode_control, encode_control

# Bytes of the note by which a worker says that it is ready: its number.
_NOTE_SIZE = 4
# Milliseconds until workers are told again to stop: a signal that comes just before a process begins to wait does not
# wake it.
AGAIN_MS = 50


def supervise(runner):
    """The parent: returns when the agent has said stop and every worker has ended."""
    _Parent(runner).run()


class _Parent:
    def __init__(self, runner):
        self.runner = runner
        # Process ids of workers, by number.
        self.workers = {}
        # Links for workers whose predecessors have not ended yet, by number.
        self.waiting = {}
        self.is_ready = False
        self.ready = set()
        self.stopping = False
        self.notes, self.send_note = os.pipe()
        self.ended, self.wakeup = os.pipe()
        for fd in (self.ended, self.wakeup):
            os.set_blocking(fd, False)

    def run(self):
        link = self.runner.link
        # What the workers share is kept out of the collector's reach, which would touch, and so copy, its pages.
        gc.collect()
        gc.freeze()
        # The handler does nothing; that there is one makes the signal write to the pipe.
        signal(SIGCHLD, lambda number, frame: None)
        set_wakeup_fd(self.wakeup, warn_on_full_buffer=False)
        waiter = poll()
        for fd in (link.socket.fileno(), self.notes, self.ended):
            waiter.register(fd, POLLIN)
        try:
            while self.workers or not self.stopping:
                events = waiter.poll(AGAIN_MS if self.stopping else None)
                if not events:
                    self._stop()
                for fd, _ in events:
                    if fd == self.notes:
                        self._take_note()
                    elif fd == self.ended:
                        self._reap()
                    else:
                        self._read(waiter)
        finally:
            set_wakeup_fd(-1)
            signal(SIGCHLD, SIG_DFL)

    def _read(self, waiter):
        link = self.runner.link
        try:
            while True:
                self._take(*link.receive())
                if not link.has_frame():
                    return
        except LinkClosed:
            waiter.unregister(link.socket.fileno())
            self._stop()

    def _take(self, kind, _, control, payload):
        fields = decode_control(control) if control else {}
        if kind == WORKER and isinstance(payload, FilePayload):
            self._fork(int(fields["worker"]), payload.fd)
        elif kind == CANCEL and "worker" in fields:
            pid = self.workers.get(int(fields["worker"]))
            if pid is not None:
                # A process that has ended keeps its id until it is reaped here.
                os.kill(pid, SIGKILL if fields.get("kill") == "1" else SIGUSR1)
        elif kind == STOP:
            self._stop()

    def _stop(self):
        self.stopping = True
        for pid in self.workers.values():
            os.kill(pid, SIGTERM)

    def _fork(self, number, fd):
        if self.stopping:
            os.close(fd)
            return
        old = self.workers.get(number)
        if old is not None:
            # Its link has closed, so it is of no use, if it has not ended; how it ended is told first.
            os.kill(old, SIGKILL)
            self.waiting[number] = fd
            return
        self.runner.finish_output(0)
        pid = os.fork()
        if pid == 0:
            self._become_worker(number, fd)
        os.close(fd)
        self.workers[number] = pid

    def _become_worker(self, number, fd):
        """The child, which never returns."""
        code = 1
        try:
            set_wakeup_fd(-1)
            signal(SIGCHLD, SIG_DFL)
            for other in (self.notes, self.ended, self.wakeup, *self.waiting.values()):
                os.close(other)
            serve(self.runner, Link(fd), lambda: os.write(self.send_note, number.to_bytes(_NOTE_SIZE, "little")))
            code = 0
        except BaseException as error:
            from .failure import text

            sys.stderr.write(text(error))
        finally:
            # Handlers that the user's module registered for the end of the process are the parent's.
            for stream in self.runner.streams:
                try:
                    stream.finish_all()
                except Exception:
                    pass
            os._exit(code)

    def _take_note(self):
        self.ready.add(os.read(self.notes, _NOTE_SIZE))
        if not self.is_ready and len(self.ready) >= self.runner.workers:
            self.is_ready = True
            self.runner.ready()

    def _reap(self):
        try:
            while os.read(self.ended, 512):
                pass
        except BlockingIOError:
            pass
        # One by one: the user's own children are not ours to wait for.
        for number, pid in list(self.workers.items()):
            how = how_it_ended(pid)
            if how is None:
                continue
            del self.workers[number]
            try:
                self.runner.link.send(WORKER_ENDED, 0, encode_control({"worker": number, **how}))
            except LinkClosed:
                pass
            fd = self.waiting.pop(number, None)
            if fd is not None:
                self._fork(number, fd)


def how_it_ended(pid):
    """The exit code or the signal of a child; None when it runs."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        # The user's code has waited for it.
        return {}
    if ended != pid:
        return None
    if os.WIFSIGNALED(status):
        return {"signal": os.WTERMSIG(status)}
    return {"code": os.WEXITSTATUS(status)}


def serve(runner, link, tell_parent):
    """Answers the calls of one link in a forked process."""
    runner.link = link
    for stream in runner.streams:
        stream.move(link)
    renew(runner)
    signal(SIGTERM, lambda number, frame: runner.stop())
    runner.ready()
    tell_parent()
    try:
        runner.run()
    except LinkClosed:
        pass


def renew(runner):
    """What a fork must not share: an event loop, and numbers that are meant to be random.

    The module `random` seeds itself anew in a child.
    """
    tasks = sys.modules.get("clunk._runner.tasks")
    if tasks is not None:
        tasks.leave_loop()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
