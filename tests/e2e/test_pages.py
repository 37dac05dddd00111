"""The pages as a person uses them, in Chromium: sign in, fill in, run, watch, cancel, run again, share; and without scripts.

`CLUNK_SHOTS=FOLDER` keeps a picture of every page that a test looks at."""

import base64
import json
import os
import pathlib
import re
import subprocess

import pytest

import browser
from api import Api
from browser import DESK, PHONE
from replicate_support import HERE, OWNER, node_client, push, python_client

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
# Of Replicate, from the registries.
CLIENTS = {"python": "1.0.7", "javascript": "1.4.0"}
# What a first visit loads. Bytes.
MAX_FIRST_VISIT = 30_000

# How much of the window moved by itself, as browsers count it; a tenth is what people do not mind.
MAX_JUMPS = 0.1
WATCH_JUMPS = """window.jumps = 0; new PerformanceObserver(list => list.getEntries().forEach(one => {
    if (!one.hadRecentInput) jumps += one.value;
})).observe({type: 'layout-shift', buffered: true}); 0"""

pytestmark = pytest.mark.skipif(not browser.CHROMIUM, reason="Chromium is not installed; scripts/setup test does")


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


def test_the_address_of_clunk_open_signs_in_and_says_nothing_afterwards(visit, home, talk):
    page = visit(guest=True)
    assert "clunk open" in page.text("main")
    shot(page, "sign-in")
    page.type("#token", "wrong")
    page.click("main button")
    page.until("document.getElementById('problem.token')?.textContent.includes('not the server')")
    page.open(json.loads(home.ok("open", talk, "--json"))["url"])
    assert page.value("location.href") == f"{page.base}/models/{talk}"
    assert page.value("document.cookie") == "", "a script can read the session"
    page.click(".bar button")
    page.until("location.pathname === '/sign-in'")
    page.open(f"{page.base}/models/{talk}")
    assert "Sign in" in page.text("h1")
    page.type("#token", (home.path / "token").read_text().strip())
    page.key("Enter")
    page.until(f"location.pathname === '/models/{talk}' && document.querySelector('#form')")


def test_a_run_is_watched_as_it_happens(visit, talk):
    page = visit(f"/models/{talk}")
    shot(page, "model")
    page.value(WATCH_JUMPS)
    run(page, prompt=LONG, pause=0.2, repeat=3)
    # Something is on the screen at once, and then grows.
    page.until("document.querySelector('#panel .mark.active') && document.querySelector('[data-clock]').textContent")
    page.until("document.querySelector('#panel').dataset.status === 'Running'")
    page.until("document.querySelector('[data-output] .text')?.textContent.length > 0")
    first = output(page)
    page.until(f"document.querySelector('[data-output] .text').textContent.trim().length > {len(first)}")
    assert page.value("document.querySelector('#panel').dataset.status") == "Running"
    assert "round 0" in page.text("[data-logs]")
    shot(page, "streaming")
    ended(page, "Succeeded")
    assert output(page) == " ".join([LONG] * 3)
    assert page.text("[data-logs]").split() == "round 0 round 1 round 2".split()
    assert "predict time" in page.text(".metrics")
    assert page.value("jumps") < MAX_JUMPS
    shot(page, "succeeded")
    # The address is now that of this run.
    before = page.value("location.search")
    assert "prediction=" in before
    page.open(page.base + page.value("location.pathname") + before)
    assert (output(page), page.value("document.getElementById('input.prompt').value")) == (" ".join([LONG] * 3), LONG)


def test_what_it_waits_for_is_said(visit, api, home):
    push(api, home, "slow", HERE / "page_models" / "slow")
    first, second = (visit(f"/models/{OWNER}/slow") for _ in range(2))
    run(first, number=1)
    first.until("document.querySelector('.wait').textContent === 'a container starts'")
    run(second, number=2)
    second.until("document.querySelector('.wait').textContent === '1 before it in the queue'")
    shot(second, "waiting")
    ended(first, "Succeeded")
    ended(second, "Succeeded")
    assert (output(first), output(second)) == ("2", "3")


def test_a_page_that_is_loaded_in_the_middle_goes_on(visit, talk):
    page = visit(f"/models/{talk}")
    run(page, prompt=LONG, pause=0.2, repeat=2)
    page.until("document.querySelector('[data-output] .text')?.textContent.length > 9")
    page.open(page.base + page.value("document.querySelector('#panel .id').getAttribute('href')"))
    ended(page, "Succeeded")
    assert output(page) == " ".join([LONG] * 2)


def test_cancel_and_run_again(visit, talk):
    page = visit(f"/models/{talk}")
    run(page, prompt=LONG, pause=1, repeat=500)
    page.until("document.querySelector('[data-output] .text')?.textContent.length > 0")
    page.click("[data-cancel] button")
    ended(page, "Canceled")
    shot(page, "canceled")
    page.click(".actions a[href*='#run']")
    page.until("document.readyState === 'complete' && location.hash === '#run'")
    assert page.value("document.getElementById('input.repeat').value") == "500"
    run(page, pause=0, repeat=1)
    ended(page, "Succeeded")
    assert output(page) == LONG


def test_an_error_is_said_with_its_log(visit, talk):
    page = visit(f"/models/{talk}")
    page.type("#input\\.prompt", "one")
    page.click("#input\\.fail")
    page.key("Enter", control=True)
    ended(page, "Failed")
    assert "asked to fail <b>now</b>" in page.text(".problem.said[role=alert]:not(:empty)")
    assert "ValueError" in page.text("[data-logs]")
    shot(page, "failed")


def test_a_shared_link_opens_for_a_stranger_and_only_that(visit, talk):
    page = visit(f"/models/{talk}")
    page.click(".more summary")
    run(page, prompt="a secret is kept", key="hush-hush")
    ended(page, "Succeeded")
    link = page.value("document.querySelector('[data-share]').href")
    stranger = visit(guest=True)
    stranger.open(link)
    assert output(stranger) == "a secret is kept"
    assert not stranger.has("[data-cancel]") and not stranger.has("[data-share]") and not stranger.has("[data-run]")
    assert "hush-hush" not in stranger.value("document.documentElement.outerHTML")
    assert "**********" in stranger.text(".ask")
    shot(stranger, "shared")
    stranger.open(stranger.value("document.querySelector('.actions a').href"))
    assert "hush-hush" not in stranger.text() and "a secret is kept" in stranger.text()
    for wrong in (link.replace("signature=", "signature=0"), link.split("?")[0], re.sub(r"expiry=\d", "expiry=9", link)):
        stranger.open(wrong)
        assert "Sign in" in stranger.text("h1"), wrong
    assert "hush-hush" not in page.value("document.documentElement.outerHTML")


def test_the_plain_run_works_without_scripts(visit, talk):
    page = visit(f"/models/{talk}", size=PHONE, script=False)
    shot(page, "plain-form")
    assert not wide(page)
    run(page, repeat=7)
    page.until("document.getElementById('problem.prompt')?.textContent")
    assert page.value("document.getElementById('input.repeat').value") == "7"
    shot(page, "plain-problem")
    # One more item of a list, and what is filled in stays.
    page.click(".more summary")
    page.type("[name='input.more']", "plus")
    page.click("[data-add]")
    page.until("document.querySelectorAll(\"[name='input.more']\").length === 2")
    run(page, prompt="no script", pause=0.3)
    page.until("location.pathname.startsWith('/predictions/')")
    shot(page, "plain-running")
    # It loads itself again until the end.
    ended(page, "Succeeded")
    assert output(page) == " ".join(["no script plus"] * 7)
    assert not page.has("meta[http-equiv=refresh]") and not wide(page)
    shot(page, "plain-done")
    page.open(f"{page.base}/models/{talk}")
    run(page, prompt="wait", pause=5, repeat=500)
    page.until("location.pathname.startsWith('/predictions/')")
    page.click("[data-cancel] button")
    ended(page, "Canceled")


def test_a_mistake_is_shown_at_its_field(visit, talk):
    page = visit(f"/models/{talk}")
    run(page, repeat=501)
    page.until("document.getElementById('problem.prompt').textContent && document.activeElement.id === 'input.prompt'")
    assert page.value("document.querySelector('#input\\\\.prompt').getAttribute('aria-invalid')") == "true"
    page.click(".more summary")
    run(page, prompt="x", seed="1.5")
    page.until("document.getElementById('problem.seed').textContent.includes('whole number')")
    assert page.text("#problem\\.prompt") == ""
    shot(page, "problems")
    # A mistake that is folded away is unfolded.
    page.click(".more summary")
    page.click("[data-run]")
    page.until("document.getElementById('input.seed').closest('details').open && document.activeElement.id === 'input.seed'")
    page.type("#input\\.seed", "3")
    page.until("document.getElementById('problem.seed').textContent === ''")
    # What only the schema knows.
    page.click("[data-run]")
    page.until("document.getElementById('problem.repeat').textContent.includes('500')")
    assert "Fill in the form" in page.text("#panel")


def test_sliders_choices_and_lists(visit, talk):
    page = visit(f"/models/{talk}")
    slider = "[data-slider='input.repeat']"
    page.until(f"document.querySelector({json.dumps(slider)}).disabled === false")
    page.value(f"(() => {{ const s = document.querySelector({json.dumps(slider)}); s.value = 2; s.dispatchEvent(new Event('input')); }})()")
    assert page.value("document.getElementById('input.repeat').value") == "2"
    page.value("(() => { const s = document.getElementById('input.voice'); s.value = '1'; s.dispatchEvent(new Event('change', {bubbles: true})); })()")
    page.click(".more summary")
    page.type("[name='input.more']", "and")
    page.click("[data-add]")
    page.until("document.querySelectorAll(\"[name='input.more']\").length === 2 && document.activeElement.getAttribute('aria-label') === 'item 2'")
    page.ask("Input.insertText", text="more")
    page.click("[data-remove]")
    run(page, prompt="loud")
    ended(page, "Succeeded")
    assert output(page) == "LOUD MORE LOUD MORE"


def test_files_go_in_and_come_out_as_what_they_are(visit, paint, tmp_path):
    page = visit(f"/models/{paint}")
    picture = tmp_path / "my cat's \"photo\".png"
    picture.write_bytes(PICTURE)
    page.choose("#input\\.image", picture)
    page.until("document.querySelector('.preview img')?.naturalWidth === 10")
    page.click("[data-run]")
    ended(page, "Succeeded")
    page.until("document.querySelector('[data-output] img')?.naturalWidth === 200")
    page.until("document.querySelector('[data-output] audio').readyState >= 1")
    assert re.search(rf"size\s+{len(PICTURE)}\b", output(page)), output(page)
    shot(page, "media")
    # A page that the model made is no page of ours.
    link = page.value("[...document.querySelectorAll('figcaption a')].find(a => a.download.endsWith('.html')).href")
    found = page.value(f"fetch({json.dumps(link)}).then(a => [a.headers.get('content-security-policy'), a.headers.get('x-content-type-options')])")
    assert "sandbox" in found[0] and found[1] == "nosniff"
    ours = page.value("document.querySelector('#panel .id').href")
    page.open(link)
    page.until("document.readyState === 'complete'")
    assert page.value("document.title") != "ran"
    page.browser.forget(page.session)
    page.open(ours)
    assert page.has(".ask img")
    stranger = visit(guest=True)
    stranger.open(page.value("document.querySelector('[data-share]').href"))
    stranger.until("document.querySelector('[data-output] img')?.naturalWidth === 200")


def test_a_file_reaches_the_model_whatever_the_server_is_called_outside(api, paint):
    """Where the browser is, the server has another name than in a container, where that name may lead nowhere."""
    body = b"".join(b"--edge\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in (
        b'name="input.side"\r\n\r\n20', b'name="input.image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n' + PICTURE)) + b"--edge--\r\n"
    outside = {"Host": "clunk.invalid", "Accept": "application/json", "Content-Type": "multipart/form-data; boundary=edge"}
    sent = api.request("POST", f"/models/{paint}", body, outside)
    assert sent.status == 201, sent.body
    prediction = sent.json["page"].split("/")[-1]
    done = api.request("GET", f"/api/predictions/{prediction}?wait_s=60").json
    assert done["status"] == "succeeded", done
    # Who asked knows the file, and may send it again from a program.
    address = done["input"]["image"]
    assert address.startswith("http://clunk.invalid/files/"), done
    again = {"input": {"image": address, "side": 20}}
    done = api.request("POST", f"/api/models/{paint}/predictions?wait_s=60", again, {"Host": "clunk.invalid"}).json
    assert done["status"] == "succeeded" and done["output"]["size"] == len(PICTURE), done


def test_the_same_call_for_programs_is_exact(visit, talk, home):
    page = visit(f"/models/{talk}")
    shown = "document.querySelector('[data-snippet={}] pre').textContent"
    page.type("#input\\.prompt", "it's \"quoted\" \\ $HOME `x` é")
    page.type("#input\\.repeat", "2")
    page.until(f"{shown.format('curl')}.includes('\"repeat\": 2')")
    page.click("[role=tab]:nth-child(2)")
    page.until("!document.querySelector('[data-snippet=python]').hidden && document.querySelector('[data-snippet=curl]').hidden")
    python = page.value(shown.format("python"))
    compile(python, "snippet", "exec")
    token = (home.path / "token").read_text().strip()
    assert token not in page.value("document.documentElement.outerHTML")
    done = subprocess.run(["sh", "-c", page.value(shown.format("curl"))], env={**os.environ, "CLUNK_TOKEN": token},
                          capture_output=True, text=True, timeout=60)
    answer = json.loads(done.stdout)
    assert (answer["status"], "".join(answer["output"])) == ("succeeded", "it's \"quoted\" \\ $HOME `x` é " * 2), done
    page.click("[data-run]")
    ended(page, "Succeeded")
    assert page.value("document.querySelector('[data-output] .text').textContent") == "".join(answer["output"])


def test_programs_run_as_they_are_shown(visit, talk, paint, home, tmp_path):
    token = (home.path / "token").read_text().strip()
    env = {**os.environ, "CLUNK_TOKEN": token, "KEY": "hush"}
    (tmp_path / "a picture.png").write_bytes(PICTURE)
    node, folder = node_client(CLIENTS["javascript"])
    programs = {"python": [*python_client(CLIENTS["python"]), "-"], "javascript": [*node, "--input-type=module", "-"]}
    (tmp_path / "node_modules").symlink_to(folder / "node_modules")

    def outputs(page):
        for name, command in programs.items():
            text = page.value(f"document.querySelector('[data-snippet={name}] pre').textContent")
            done = subprocess.run(command, input=text, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, (text, done.stderr)
            yield name, done.stdout

    page = visit(f"/models/{talk}")
    page.click(".more summary")
    page.type("#input\\.prompt", "it's a \"test\"\nof \\ lines, \u00e9")
    page.type("#input\\.key", "something")
    page.until("document.querySelector('[data-snippet=python] pre').textContent.includes('os.environ[\"KEY\"]')")
    for name, said in outputs(page):
        assert said.strip() == "it's a \"test\" of \\ lines, \u00e9", name
    page = visit(f"/models/{paint}")
    page.choose("#input\\.image", tmp_path / "a picture.png")
    page.until("document.querySelector('[data-snippet=python] pre').textContent.includes('open(\"a picture.png\", \"rb\")')")
    for name, said in outputs(page):
        assert re.search(rf"size'?: {len(PICTURE)}\b", said), (name, said)


def test_a_readme_is_words_and_links(visit, talk):
    page = visit(f"/models/{talk}")
    assert page.value("document.title").startswith(talk)
    assert page.has("#readme table") and page.text("#readme strong") == "what it is told"
    assert not page.has("#readme script") and not page.has("#readme img")
    assert page.value("[...document.querySelectorAll('#readme a')].map(a => a.getAttribute('href'))") == ["#", "https://pictures.example/a.png"]


def test_a_guest_sees_a_public_model_and_nothing_else(visit, paint, talk, home):
    page = visit(f"/models/{paint}", guest=True)
    assert page.text("h1") == paint and not page.has("#form") and not page.has("[data-run]")
    assert "as a guest" in page.text(".guest") and page.value("document.getElementById('input.side').matches(':disabled')")
    assert "Recent predictions" not in page.text()
    shot(page, "guest")
    page.resize(PHONE)
    assert not wide(page)
    shot(page, "guest-phone")
    page.click(".guest a")
    page.type("#token", (home.path / "token").read_text().strip())
    page.key("Enter")
    page.until(f"location.pathname === '/models/{paint}' && document.querySelector('[data-run]')")
    page.click(".bar button")
    page.until("location.pathname === '/sign-in'")
    for path in (f"/models/{talk}", "/models", "/", "/models/acme/nothing"):
        page.open(page.base + path)
        assert "Sign in" in page.text("h1"), path


def test_nothing_is_wider_than_a_phone_and_a_first_visit_is_small(visit, talk, api):
    page = visit(f"/models/{talk}", size=PHONE)
    run(page, prompt="small " * 30)
    ended(page, "Succeeded")
    prediction = page.value("document.querySelector('#panel .id').getAttribute('href')")
    for size, dark in ((PHONE, False), (PHONE, True), (DESK, False), (DESK, True)):
        page.resize(size, dark)
        for path in ("/", "/models", f"/models/{talk}{page.value('location.search')}", prediction, "/predictions/nothing"):
            page.open(page.base + path)
            page.value("document.querySelectorAll('details').forEach(one => one.open = true)")
            assert not wide(page), (size, path)
            shot(page, f"{size[0]}-{'dark' if dark else 'light'}-{path.split('?')[0].strip('/').replace('/', '-') or 'index'}")
    first = visit(f"/models/{talk}", size=PHONE)
    loaded = first.value("performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation')).map(one => [one.name, one.encodedBodySize])")
    assets = {name: size for name, size in loaded if "/snippets" not in name}
    assert len(assets) >= 5 and 0 < sum(assets.values()) < MAX_FIRST_VISIT, assets


def test_the_start_page_shows_what_runs_and_what_it_took(visit, talk):
    page = visit(f"/models/{talk}")
    run(page, prompt=LONG, pause=0.5, repeat=20)
    page.until("document.querySelector('#panel')?.dataset.status === 'Running'")
    busy = page.value("location.href")
    page.click(".brand")
    page.until("location.pathname === '/' && document.readyState === 'complete'")
    row = page.value(f"[...document.querySelectorAll('#running tbody tr')].map(row => row.innerText.split(/\\s+/)).find(row => row[0] === '{talk}')")
    assert row[0] == talk and int(row[1]) >= 1 and row[2] == "1", row
    assert page.text("#predictions tbody tr:first-child .mark") == "Running"
    assert talk in page.text("#usage tbody")
    for size in (PHONE, DESK):
        page.resize(size)
        assert not wide(page)
        shot(page, f"start-{size[0]}")
    page.click("#models li a")
    page.until("location.pathname.startsWith('/models/')")
    page.open(busy)
    page.click("[data-cancel] button")
    ended(page, "Canceled")


COUNT_FETCHES = """(() => { const real = fetch; window.sent = []; window.fetch = (address, ...rest) => {
    sent.push(String(address)); return real(address, ...rest); }; })(); 0"""
# The first answer comes when it is let go.
HOLD_FIRST = """(() => { const real = fetch; let first; window.asked = 0; window.late = false; window.letGo = null;
    window.fetch = async (...all) => { const turn = ++asked; const answer = await real(...all); if (turn > 1) return answer;
        const text = answer.text.bind(answer);
        answer.text = () => text().finally(() => setTimeout(() => late = true));
        return new Promise(done => letGo = () => done(answer)); }; })(); 0"""


def test_a_run_that_is_refused_leaves_one_cancel(visit, talk):
    page = visit(f"/models/{talk}")
    run(page, prompt=LONG, pause=0.5, repeat=20)
    page.until("document.querySelector('#panel')?.dataset.status === 'Running'")
    page.value(COUNT_FETCHES)
    run(page, repeat=9999)
    page.until("document.getElementById('problem.repeat').textContent")
    page.click("[data-cancel] button")
    ended(page, "Canceled")
    assert page.value("sent.filter(address => address.endsWith('/cancel')).length") == 1


def test_programs_are_those_of_the_last_change(visit, talk):
    page = visit(f"/models/{talk}")
    page.until("document.querySelector('#snippets pre')")
    page.value(HOLD_FIRST)
    page.type("#input\\.prompt", "first")
    page.until("letGo !== null")
    page.type("#input\\.prompt", "second")
    page.until("document.querySelector('#snippets pre').textContent.includes('second')")
    page.value("letGo(); 0")
    page.until("late")
    assert "second" in page.text("#snippets pre")


def test_every_control_has_a_name(visit, talk, paint):
    for model in (talk, paint):
        page = visit(f"/models/{model}")
        nameless = page.value("""[...document.querySelectorAll('input, select, textarea, button, a')].filter(one => {
            if (one.type === 'hidden' || one.getAttribute('aria-hidden')) return false;
            const words = one.labels?.length ? one.labels[0].textContent : one.textContent;
            return !(one.getAttribute('aria-label') || words.trim());
        }).map(one => one.outerHTML)""")
        assert nameless == []
        assert page.value("document.querySelectorAll('h1').length") == 1
        ids = page.value("[...document.querySelectorAll('[id]')].map(one => one.id)")
        assert len(ids) == len(set(ids)), "an id is given twice"


def test_a_server_that_comes_back_is_followed_again(visit, talk, home):
    page = visit(f"/models/{talk}")
    run(page, prompt=LONG, pause=0.5, repeat=2)
    page.until("document.querySelector('[data-output] .text')?.textContent.length > 9")
    port = home.server()["url"].rsplit(":", 1)[1]
    home.down()
    home.ok("up", "--port", port)
    ended(page, "Succeeded")
    assert output(page) == " ".join([LONG] * 2)
