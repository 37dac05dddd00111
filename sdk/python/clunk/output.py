"""What a run shows: container output where it belongs, words of ours to stderr."""

import os
import sys
import time

_enabled = 0
# Lines of a build's log that a failure repeats.
TAIL_LINES = 200
# Least time between two redraws of the live line. Seconds.
REDRAW_S = 0.08
# A pause that is shorter needs no word, seconds; and how often the seconds of a longer one are counted.
QUIET_S = 0.3
COUNT_S = 0.25


class enable_output:
    """A context in which `app.run()` prints what containers write and how images are built."""

    def __init__(self, show_progress=True):
        pass

    def __enter__(self):
        global _enabled
        _enabled += 1
        return self

    def __exit__(self, *_):
        global _enabled
        _enabled -= 1


def is_enabled():
    return _enabled > 0


def use_colour(stream):
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return _is_terminal(stream)


def _is_terminal(stream):
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


class Output:
    """One run's words. `logs`: print what containers write. `words`: print ours."""

    def __init__(self, *, logs=True, words=True):
        self.logs = logs
        self.words = words
        self._live = None

    def say(self, text):
        """One line of ours."""
        if not self.words:
            return
        if self._live:
            self._live.clear()
        print(f"clunk: {text}", file=sys.stderr, flush=True)

    def log(self, event):
        """A piece of what a container wrote."""
        if not self.logs:
            return
        stream = sys.stderr if event.get("stream") == "stderr" else sys.stdout
        try:
            stream.write(event.get("text", ""))
            stream.flush()
        except UnicodeEncodeError:
            text = event.get("text", "").encode(stream.encoding, "backslashreplace").decode(stream.encoding)
            stream.write(text)
        except (OSError, ValueError):
            pass

    def build(self):
        if not self.words:
            return _SilentBuild()
        if _is_terminal(sys.stderr):
            self._live = _LiveBuild(self)
            return self._live
        return _PlainBuild(self)


class Progress:
    """How far something of known size is, on a line of a terminal that goes when it is done."""

    def __init__(self, output, title, total):
        self._output = output
        self._title = title
        self._total = total
        self._done = 0
        self._began = self._drawn = time.monotonic()
        self._visible = False
        self._shown = output.words and _is_terminal(sys.stderr)
        if self._shown:
            output._live = self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.clear()
        if self._shown:
            self._output._live = None

    def add(self, count):
        """So many bytes more are done."""
        self._done += count
        moment = time.monotonic()
        took = moment - self._began
        if not self._shown or took < QUIET_S or moment - self._drawn < REDRAW_S:
            return
        self._drawn = moment
        text = _short(f"clunk: {self._title} {self.text(took)}", _width() - 1)
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
        self._visible = True

    def text(self, took_s):
        """`120 of 900 MB, 95 MB/s, 8 s left`"""
        rate = self._done / took_s
        left = (self._total - self._done) / rate if rate else 0
        size = f"{self._done / 1e6:.0f} of {self._total / 1e6:.0f} MB"
        soon = f"{left:.0f} s" if left < 60 else _duration(left * 1000)
        return f"{size}, {rate / 1e6:.0f} MB/s, {soon} left"

    def clear(self):
        if self._visible:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._visible = False


class Waiting:
    """Says what is waited for, on a line of a terminal that goes when something else is printed."""

    def __init__(self, output, title):
        import threading

        self._output = output
        self._title = title
        self._began = self._touched = time.monotonic()
        self._visible = False
        # False while another text stands in the line.
        self._free = True
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = None
        if output.words and _is_terminal(sys.stderr):
            output._live = self
            self._thread = threading.Thread(target=self._draw, daemon=True)
            self._thread.start()

    def now(self, title):
        """What is waited for has changed."""
        with self._lock:
            self._title = title

    def clear(self, free=True):
        """Something else is about to be printed; `free`: it will end its line."""
        with self._lock:
            self._touched = time.monotonic()
            self._free = free
            if self._visible:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()
                self._visible = False

    def close(self):
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._output._live = None
        self.clear()

    def _draw(self):
        while not self._ended.wait(COUNT_S):
            with self._lock:
                moment = time.monotonic()
                if not self._free or moment - self._touched < QUIET_S:
                    continue
                text = _short(f"clunk: {self._title} ({moment - self._began:.0f} s)", _width() - 1)
                sys.stderr.write(f"\r\x1b[K{text}")
                sys.stderr.flush()
                self._visible = True


class _SilentBuild:
    """A build that nobody watches; a failure still carries its log."""

    def __init__(self, output=None):
        self.output = output
        self.lines = []
        # Whether any step was not there already.
        self.builds = False

    def step(self, event):
        # The log of a failure is the log of the step that failed.
        self.lines = []
        self.builds = self.builds or not event.get("cached")

    def log(self, text):
        self.lines.append(text if text.endswith("\n") else text + "\n")
        del self.lines[:-TAIL_LINES]

    def waiting(self, title):
        pass

    def done(self, event):
        pass

    def failed(self, event):
        text = "".join(self.lines) or "\n".join(event.get("tail") or ())
        if text:
            sys.stderr.write(text if text.endswith("\n") else text + "\n")

    def close(self):
        pass


class _PlainBuild(_SilentBuild):
    """A line for each step that is really built, for files and pipes."""

    def step(self, event):
        super().step(event)
        if not event.get("cached"):
            self.output.say(f"building {event['index']}/{event['total']} {_short(event['title'], 100)}")

    def waiting(self, title):
        self.output.say(f"waiting for {title}")

    def done(self, event):
        if self.builds:
            self.output.say(f"image built in {_duration(event.get('elapsed_ms', 0))}")


class _LiveBuild(_SilentBuild):
    """One line that is drawn over itself and goes when the build is done."""

    def __init__(self, output):
        super().__init__(output)
        self.began = time.monotonic()
        self.drawn = 0.0
        self.title = ""
        self.visible = False
        self.colour = use_colour(sys.stderr)

    def step(self, event):
        super().step(event)
        if not event.get("cached"):
            self.title = f"{event['index']}/{event['total']} {event['title']}"
            self._draw("", now=True)

    def log(self, text):
        super().log(text)
        lines = text.rstrip().rsplit("\n", 1)
        self._draw(lines[-1].rsplit("\r", 1)[-1])

    def waiting(self, title):
        self.title = f"waiting for {title}"
        self._draw("", now=True)

    def _draw(self, detail, now=False):
        moment = time.monotonic()
        if not self.title or (not now and moment - self.drawn < REDRAW_S):
            return
        self.drawn = moment
        width = _width() - 1
        # A third of the line is for what the step says.
        title = _short(self.title, max(width * 2 // 3 - len("clunk: building  (99 s)"), 10))
        head = _short(f"clunk: building {title} ({moment - self.began:.0f} s)", width)
        rest = _short(detail, width - len(head) - 1)
        if rest:
            rest = f" \x1b[2m{rest}\x1b[0m" if self.colour else f" {rest}"
        sys.stderr.write(f"\r\x1b[K{head}{rest}")
        sys.stderr.flush()
        self.visible = True

    def clear(self):
        if self.visible:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self.visible = False

    def done(self, event):
        self.clear()
        if self.builds:
            self.output.say(f"image built in {_duration(event.get('elapsed_ms', 0))}")

    def failed(self, event):
        self.clear()
        super().failed(event)

    def close(self):
        self.clear()
        self.output._live = None


def _width():
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _short(text, width):
    text = " ".join(text.split())
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def _duration(milliseconds):
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
