"""What surrounds the run of a model, in Chromium: sign-in, the start page, guests, sizes, names of controls."""

import json

from browser import DESK, PHONE
from page_support import LONG, api, chromium, ended, needs_chromium, paint, run, shot, talk, visit, wide

__all__ = ["api", "chromium", "paint", "talk", "visit"]  # Fixtures.

pytestmark = needs_chromium

# What a first visit loads. Bytes.
MAX_FIRST_VISIT = 30_000


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
    used = page.value("[...document.querySelectorAll('#usage tbody tr')].map(row => row.cells[0].innerText)")
    # It lists the ten that used most.
    assert talk in used or len(used) == 10, used
    for size in (PHONE, DESK):
        page.resize(size)
        assert not wide(page)
        shot(page, f"start-{size[0]}")
    page.click("#models li a")
    page.until("location.pathname.startsWith('/models/')")
    page.open(busy)
    page.click("[data-cancel] button")
    ended(page, "Canceled")


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
