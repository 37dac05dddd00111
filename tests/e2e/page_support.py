"""What tests of the pages share: models, a browser that is signed in, and how a person uses a form.

`CLUNK_SHOTS=FOLDER` keeps a picture of every page that a test looks at."""

import base64
import json
import os
import pathlib

import pytest

import browser
from api import Api
from browser import DESK
from replicate_support import HERE, OWNER, push

needs_chromium = pytest.mark.skipif(not browser.CHROMIUM, reason="Chromium is not installed; scripts/setup test does")

README = """# Talk

Says **what it is told**.

| word | meaning |
|------|---------|
| pause | seconds between words |

<script>document.title = "ran"</script>

[a trap](javascript:document.title='ran') and ![a picture](https://pictures.example/a.png)
"""
LONG = "the quick brown fox jumps over the lazy dog"
PICTURE = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAYAAACNMs+9AAAAFUlEQVR42mNk+M9Qz0AEYBxVSF+FABJADveWkH6oAAAAAElFTkSuQmCC")


@pytest.fixture(scope="module")
def chromium():
    chromium = browser.Chromium()
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def api(home):
    home.run("up")  # or it is up already
    api = Api(home)
    yield api
    api.close()


@pytest.fixture(scope="module")
def talk(api, home):
    push(api, home, "talk", HERE / "page_models" / "talk", readme=README, description="Says what it is told.")
    return f"{OWNER}/talk"


@pytest.fixture(scope="module")
def paint(api, home):
    push(api, home, "paint", HERE / "page_models" / "paint", visibility="public")
    return f"{OWNER}/paint"


@pytest.fixture
def visit(chromium, home):
    """Opens a page of the server, signed in as `clunk open` does it; at the end nothing may have been forbidden."""
    opened = []

    def visit(path="/", size=DESK, script=True, guest=False):
        page = chromium.page(size, script)
        opened.append(page)
        page.base = home.server()["url"]
        if not guest:
            page.open(json.loads(home.ok("open", "--json"))["url"])
        page.open(page.base + path)
        return page

    yield visit
    for page in opened:
        assert page.complaints() == []
        page.close()


def shot(page, name):
    if folder := os.environ.get("CLUNK_SHOTS"):
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        page.shot(f"{folder}/{name}.png")


def run(page, **fields):
    for name, value in fields.items():
        page.type(f"#input\\.{name}", str(value))
    page.click("[data-run]")


def ended(page, state):
    page.until(f"document.querySelector('#panel')?.dataset.status === '{state}'")


def output(page):
    return page.text("[data-output]").strip()


def wide(page):
    """Whether a page is wider than its window."""
    return page.value("document.documentElement.scrollWidth > innerWidth")
