"""Chromium as a person uses it, over its DevTools protocol on two pipes: nothing but Debian's package is needed."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# How long a page may take to reach a state that a test waits for. Seconds.
PATIENCE_S = 30
DESK, PHONE = (1280, 900), (360, 740)
KEYS = {"Enter": 13, "Tab": 9, "ArrowRight": 39, "ArrowLeft": 37}


class Chromium:
    """One process; every profile in it knows nothing of the others."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="clunk-chromium-")
        ours, theirs = os.pipe(), os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   "--disable-background-networking", "--disable-component-update", "--no-proxy-server",
                   "--remote-debugging-pipe", f"--user-data-dir={self.folder}", "--hide-scrollbars"]

        def descriptors():
            # The protocol wants to read from 3 and to write to 4.
            source, sink = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (ours[0], theirs[1]))
            os.dup2(source, 3)
            os.dup2(sink, 4)

        self.process = subprocess.Popen([CHROMIUM, *options, "about:blank"], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, close_fds=False, preexec_fn=descriptors,
                                        start_new_session=True, env={**os.environ, "HOME": self.folder})
        os.close(ours[0])
        os.close(theirs[1])
        self.write, self.read = ours[1], theirs[0]
        self.number = 0
        self.rest = b""
        self.events = []

    def close(self):
        with contextlib.suppress(OSError, AssertionError):
            self.ask("Browser.close")
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.write)
        os.close(self.read)
        shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + PATIENCE_S
        while True:
            answer = self.next(end)
            assert answer is not None, f"the browser does not answer {method}"
            if answer.get("id") == message["id"]:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def next(self, end):
        while b"\0" not in self.rest:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.read], [], [], left)[0]:
                return None
            chunk = os.read(self.read, 1 << 20)
            assert chunk, "the browser has ended"
            self.rest += chunk
        line, _, self.rest = self.rest.partition(b"\0")
        return json.loads(line)

    def page(self, size=DESK, script=True):
        """A new profile with one page."""
        profile = self.ask("Target.createBrowserContext")["browserContextId"]
        target = self.ask("Target.createTarget", url="about:blank", browserContextId=profile)["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, session, profile, size, script)


    def forget(self, session):
        """Complaints so far were wanted."""
        self.events = [event for event in self.events if event.get("sessionId") != session]


class Page:
    def __init__(self, browser, session, profile, size, script):
        self.browser, self.session, self.profile = browser, session, profile
        for domain in ("Page", "Runtime", "DOM", "Network", "Log"):
            self.ask(f"{domain}.enable")
        self.resize(size)
        if not script:
            self.ask("Emulation.setScriptExecutionDisabled", value=True)

    def ask(self, method, **parameters):
        return self.browser.ask(method, self.session, **parameters)

    def close(self):
        self.browser.ask("Target.disposeBrowserContext", browserContextId=self.profile)

    def resize(self, size, dark=False):
        self.ask("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=size[0] < 600)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", features=scheme)

    def open(self, url):
        self.ask("Page.navigate", url=url)
        self.settle()

    def settle(self):
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression):
        """What an expression gives; it works also where the page's own scripts are off."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, (expression, answer["exceptionDetails"])
        return answer["result"].get("value")

    def until(self, expression, limit_s=PATIENCE_S):
        """Waits until an expression is true. A page that is just being replaced has no values."""
        end = time.monotonic() + limit_s
        found = None
        while time.monotonic() < end:
            with contextlib.suppress(AssertionError):
                found = self.value(expression)
                # An element comes as an empty value.
                if found not in (None, False, "", 0):
                    return found
            select.select([], [], [], 0.02)
        raise AssertionError(f"not after {limit_s} s: {expression} (is {found!r})\n{self.text()[:3000]}")

    def text(self, selector="body"):
        return self.value(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def has(self, selector):
        return self.value(f"!!document.querySelector({json.dumps(selector)})")

    def box(self, selector):
        """The middle of an element that can be seen, scrolled to."""
        return self.until(f"""(() => {{
            const element = document.querySelector({json.dumps(selector)});
            if (!element) return null;
            element.scrollIntoView({{block: 'center', behavior: 'instant'}});
            const box = element.getBoundingClientRect();
            return box.width && box.height ? [box.x + box.width / 2, box.y + box.height / 2] : null;
        }})()""")

    def click(self, selector):
        x, y = self.box(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def type(self, selector, text):
        """Replaces what a field holds, with the keyboard."""
        self.box(selector)
        focused = f"(() => {{ const field = document.querySelector({json.dumps(selector)}); field.focus(); field.select?.(); return document.activeElement === field; }})()"
        assert self.value(focused), f"{selector} takes no focus"
        self.ask("Input.insertText", text=text)

    def key(self, name, control=False):
        code = KEYS[name]
        text = {"text": "\r"} if name == "Enter" else {}
        for kind, more in (("keyDown", text), ("keyUp", {})):
            self.ask("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code,
                     modifiers=2 if control else 0, **more)

    def choose(self, selector, *paths):
        """Puts files into a field for files."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def shot(self, path, whole=True):
        data = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))

    def complaints(self):
        """What the browser found wrong: errors of scripts, and what the page's own policy forbade."""
        self.value("1")
        found = [event for event in self.browser.events if event.get("sessionId") == self.session]
        errors = [event["params"]["exceptionDetails"]["exception"].get("description") for event in found if event["method"] == "Runtime.exceptionThrown"]
        entries = [event["params"]["entry"] for event in found if event["method"] == "Log.entryAdded"]
        return errors + [entry["text"] for entry in entries if entry["source"] in ("security", "javascript") or "Content Security Policy" in entry["text"]]
