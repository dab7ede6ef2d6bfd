"""The page in a real Chromium: by text, by dropped files, by a bad file, the map, keys, a phone, a token."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coembed.index import open_index

CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium, or name one by CHROMIUM"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="no playwright: pip install 'coembed-serve[browser]'"
    ),
]
# What a file manager does when it drops a file; the events are real, the file is made of the bytes given.
DROP = """([name, type, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], name, { type }));
  for (const kind of ["dragenter", "dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def address(running: Any) -> Iterator[str]:
    with running("--map", "pca", "--rate", "0") as (address, _):
        yield address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    # Chromium refuses its sandbox to root, as which many containers run.
    flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, address: str) -> Iterator[Any]:
    """The page, loaded; at the end of a test nothing may have been said on its console or asked of another host."""
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    said = watched(page, address)
    page.goto(address)
    until(page, "document.querySelectorAll('#legend button').length === 7")
    yield page
    assert said == []
    page.close()


def watched(page: Any, address: str) -> list[str]:
    said: list[str] = []
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") and " 4" not in m.text else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith((address, "blob:", "data:")) else said.append(r.url))
    return said


def until(page: Any, expression: str) -> None:
    """Wait for it to hold; asked again and again from here, since the page's policy lets nothing evaluate strings."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"it never came: {expression}")


def ask(page: Any, text: str) -> None:
    page.fill("#text", text)
    page.keyboard.press("Enter")
    page.wait_for_selector(".hit")
    until(page, "document.body.classList.contains('busy') === false")


def place(page: Any) -> list[float]:
    """Where the map's first point is on the screen, while all of the map is shown."""
    script = """async () => {
      const facts = await (await fetch("api/map")).json();
      const points = new Uint16Array((await (await fetch("api/map/points")).arrayBuffer()).slice(0, 4 * facts.count));
      const box = document.getElementById("canvas").getBoundingClientRect();
      const unit = 0.92 * Math.min(box.width, box.height);
      return [box.x + box.width / 2 + (points[0] / 65535 - 0.5) * unit,
              box.y + box.height / 2 + (0.5 - points[1] / 65535) * unit];
    }"""
    found: list[float] = page.evaluate(script)
    return found


def drop(page: Any, name: str, kind: str, data: bytes) -> None:
    page.evaluate(DROP, [name, kind, list(data)])


def first(page: Any, index: str) -> str:
    return str(page.locator(f"section[aria-labelledby='part-{index}'] .hit").first.get_attribute("aria-label"))


def test_a_typed_search_shows_every_kind_as_what_it_is(page: Any) -> None:
    ask(page, "an old tree")
    assert first(page, "text") == "an old tree, text"
    kinds = page.locator(".part h2").all_inner_texts()
    assert {kind.split()[0] for kind in kinds} == {"text", "image", "code", "audio", "dna", "protein", "graph"}
    for selector in (".image .view img", ".code .view pre .k", ".dna .sequence i", ".graph .view svg", ".text .view p"):
        assert page.locator(f".hits{selector}").count() > 0, selector
    page.locator(".hits.audio").scroll_into_view_if_needed()
    page.wait_for_selector(".hits.audio .view audio")
    page.wait_for_selector(".hits.audio svg polygon", state="attached")
    until(page, "[...document.querySelectorAll('.image li:not([hidden]) img')].every(i => i.naturalWidth > 0)")
    assert "results in" in page.inner_text("#status") and "q=an+old+tree" in page.url


def test_what_was_typed_by_others_is_text(page: Any) -> None:
    ask(page, "<img src=x onerror=alert(1)>")
    assert first(page, "text").startswith("<img src=x")
    assert page.locator(".hits.text img").count() == 0


def test_a_dropped_picture_and_sound_are_searched_with(page: Any, shop: Path) -> None:
    picture = sorted((shop / "media").glob("*.png"))[3]
    drop(page, picture.name, "image/png", picture.read_bytes())
    page.wait_for_selector(".hit")
    assert page.input_value("#tower") == "image" and page.is_visible("#preview img")
    assert page.locator(".hits.image .hit .foot span").first.inner_text() == "1.000"
    drop(page, "2.wav", "audio/x-wav", (shop / "media" / "2.wav").read_bytes())
    until(page, "document.querySelector('#tower').value === 'audio'")
    until(page, "document.querySelector('.hits.audio .hit').getAttribute('aria-label') === 'audio/2, audio'")


def test_a_sequence_that_two_towers_could_read_is_asked_about(page: Any) -> None:
    drop(page, "x.fasta", "", b">x\n" + b"GGGCCCAAATTT" * 4)
    page.wait_for_selector("#choose button")
    assert page.locator("#choose button").all_inner_texts() == ["dna", "protein"]
    assert page.evaluate("document.activeElement.textContent") == "dna"
    page.keyboard.press("Enter")
    page.wait_for_selector(".hit")
    assert page.locator(".hits.dna .foot span").first.inner_text() == "1.000"


def test_a_bad_file_is_said_aloud_and_the_next_search_works(page: Any) -> None:
    drop(page, "notes.png", "image/png", b"these are words")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "notes.png" in page.inner_text("#trouble") and page.get_attribute("#trouble", "role") == "alert"
    page.click("#detach")
    assert page.is_hidden("#trouble")
    ask(page, "a red heart")
    assert first(page, "text") == "a red heart, text"


def test_a_bad_filter_and_a_confined_search(page: Any) -> None:
    page.click("#options summary")
    page.fill("#where", "n >")
    page.fill("#text", "a red heart")
    page.keyboard.press("Enter")
    page.wait_for_selector("#trouble:not([hidden])")
    assert "where" in page.inner_text("#trouble")
    page.fill("#where", "n > 2")
    page.click("label.chip:has-text('text')")
    page.click("#ask .go")
    page.wait_for_selector(".hit")
    assert page.locator(".part").count() == 1 and page.locator(".hit").count() == 2


def test_keys_lead_from_the_question_through_the_results_and_back(page: Any) -> None:
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "text"
    ask(page, "an old tree")
    page.keyboard.press("ArrowDown")
    labels = [page.evaluate("document.activeElement.getAttribute('aria-label')")]
    page.keyboard.press("ArrowRight")
    labels.append(page.evaluate("document.activeElement.getAttribute('aria-label')"))
    assert labels[0] != labels[1] and all(labels)
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#status').textContent.startsWith('Like ')")
    assert "like=" in page.url
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "text"
    page.go_back()
    until(page, "!document.querySelector('#status').textContent.startsWith('Like ')")


def test_the_map_is_hovered_zoomed_and_searched_from(page: Any) -> None:
    pixels = "() => document.getElementById('canvas').toDataURL()"
    before = page.evaluate(pixels)
    x, y = place(page)
    page.mouse.move(x, y)
    page.wait_for_selector("#tip:not([hidden])")
    item = page.evaluate("fetch('api/map/items/0').then((answer) => answer.json())")
    assert item["caption"] in page.inner_text("#tip")
    page.mouse.click(x, y)
    until(page, "document.querySelector('#status').textContent.startsWith('Like ')")
    page.mouse.wheel(0, -500)
    page.wait_for_timeout(300)
    assert page.evaluate(pixels) != before
    page.focus("#canvas")
    page.keyboard.press("0")
    page.keyboard.press("n")
    until(page, "/ in view$/.test(document.querySelector('#map-said').textContent)")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#status').textContent.includes('results')")
    legend = page.locator("#legend button").first
    legend.click()
    assert legend.get_attribute("aria-pressed") == "false"


def test_everything_that_can_be_used_has_a_name(page: Any) -> None:
    ask(page, "a red heart")
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, canvas, img, a[href]")].filter((e) => {
          if (e.type === "hidden" || e.closest("[hidden]")) return false;
          if (e.tagName === "IMG" && e.hasAttribute("alt")) return false;
          return !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim());
        }).map((e) => e.outerHTML.slice(0, 90))"""
    )
    assert nameless == []


def test_a_phone_has_no_sideways_scroll_and_a_tap_shows_an_item(chromium: Any, address: str) -> None:
    context = chromium.new_context(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = context.new_page()
    said = watched(page, address)
    page.goto(address)
    until(page, "document.querySelectorAll('#to input').length === 7")
    page.fill("#text", "a red heart")
    page.click("#ask .go")
    page.wait_for_selector(".hit")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.is_hidden("#map")
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, select")].filter((e) => e.offsetHeight && e.offsetHeight < 30)
                 .map((e) => e.outerHTML.slice(0, 60))"""
    )
    assert small == []
    page.click("#show-map")
    page.wait_for_timeout(300)
    page.touchscreen.tap(*place(page))
    page.wait_for_selector("#tip button")
    page.click("#tip button")
    until(page, "document.querySelector('#status').textContent.startsWith('Like ')")
    assert page.is_visible("#results") and page.evaluate("document.documentElement.scrollWidth") <= 360
    assert said == []
    context.close()


def test_a_token_in_the_address_opens_the_page_and_does_not_stay_there(
    chromium: Any, running: Any, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a-long-enough-token")
    with running("--map", "pca", "--token-file", str(tmp_path / "token")) as (address, _):
        page = chromium.new_page()
        page.goto(address)
        page.wait_for_selector("#to input", state="attached")
        assert "token" not in page.url
        ask(page, "a red heart")
        until(page, "[...document.querySelectorAll('.image li:not([hidden]) img')].every(i => i.naturalWidth > 0)")
        page.close()
        other = chromium.new_context()  # without the cookie
        page = other.new_page()
        page.goto(address.partition("#")[0])
        page.wait_for_selector("#login[open]")
        page.fill("#token", "wrong-token")
        page.keyboard.press("Enter")
        until(page, "document.querySelector('#login-trouble').textContent.length > 0")
        page.fill("#token", "a-long-enough-token")
        page.keyboard.press("Enter")
        page.wait_for_selector("#to input", state="attached")
        other.close()


def test_what_another_process_deletes_leaves_results_and_map(
    chromium: Any, running: Any, shop: Path, tmp_path: Path
) -> None:
    folder = shop / "space" / "index" / "text"
    shutil.copytree(folder, tmp_path / "text")
    with running("--map", "pca", "--rate", "0") as (address, _):
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        said = watched(page, address)
        page.goto(address)
        until(page, "document.querySelectorAll('#legend button').length === 7")
        ask(page, "an old tree")
        assert first(page, "text").startswith("an old tree")
        try:
            index = open_index(folder)
            index.delete(["text/2"])
            index.save(folder)
            ask(page, "an old tree, once more")
            assert not first(page, "text").startswith("an old tree")
            until(page, "fetch('api/map').then((answer) => answer.json()).then((facts) => facts.edition === 2)")
            ask(page, "an old tree")  # from which the page learns that the map was drawn anew
            until(page, "document.querySelector('#legend button small').textContent === '4'")
            page.mouse.move(*place(page))
            page.wait_for_selector("#tip:not([hidden])")
        finally:
            shutil.rmtree(folder)
            shutil.copytree(tmp_path / "text", folder)
        assert said == []
        page.close()
