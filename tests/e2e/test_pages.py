"""A model's page as a person uses it, in Chromium: fill in, run, watch, cancel, run again, share; and without scripts."""

import json
import os
import re
import subprocess

from browser import PHONE
from page_support import LONG, PICTURE, api, chromium, ended, needs_chromium, output, paint, run, shot, talk, visit, wide
from replicate_support import HERE, OWNER, node_client, push, python_client

__all__ = ["api", "chromium", "paint", "talk", "visit"]  # Fixtures.

pytestmark = needs_chromium

# Of Replicate, from the registries.
CLIENTS = {"python": "1.0.7", "javascript": "1.4.0"}
# How much of the window moved by itself, as browsers count it; a tenth is what people do not mind.
MAX_JUMPS = 0.1
WATCH_JUMPS = """window.jumps = 0; new PerformanceObserver(list => list.getEntries().forEach(one => {
    if (!one.hadRecentInput) jumps += one.value;
})).observe({type: 'layout-shift', buffered: true}); 0"""


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


def test_a_server_that_comes_back_is_followed_again(visit, talk, home):
    page = visit(f"/models/{talk}")
    run(page, prompt=LONG, pause=0.5, repeat=2)
    page.until("document.querySelector('[data-output] .text')?.textContent.length > 9")
    port = home.server()["url"].rsplit(":", 1)[1]
    home.down()
    home.ok("up", "--port", port)
    ended(page, "Succeeded")
    assert output(page) == " ".join([LONG] * 2)
