"""The console in Chromium: nothing forbidden, nothing cut off, alive, and whole without script."""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.ui.ui_console import HOSTILE, Console

PATIENCE_S = 20.0
Look = Callable[[str], None]


@pytest.fixture(autouse=True)
def calm(browser: Any) -> Iterator[None]:
    """Every test begins with an empty page, empty logs and script switched on."""
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    yield
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    # A page left open would hold its stream while the server drains.
    browser.get("about:blank")


def _wide(browser: Any, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def _pages(console: Console) -> list[str]:
    run = re.search(r"/runs/[0-9a-f]{32}", console.get("/runs")[1])
    trace = re.search(r"/traces/[0-9a-f]{32}:\d+", console.get("/endpoints/failure")[1])
    assert run is not None
    assert trace is not None
    return ["/", "/endpoints/failure", run[0], trace[0], "/runs", "/ledger", "/data",
            "/data/parts", "/traces?id=what"]  # fmt: skip


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.1)


def _asked_for(browser: Any) -> list[str]:
    """Give the addresses that the browser asked the network for."""
    messages = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]


def test_no_page_breaks_its_policy_runs_stored_script_or_asks_elsewhere(
    lived: Console, browser: Any
) -> None:
    for path in _pages(lived):
        browser.get(lived.url + path)

        assert browser.execute_script("return window.stolen") is None, path
        said = [line for line in browser.get_log("browser") if line["level"] != "DEBUG"]
        assert not said, path
    asked = [url for url in _asked_for(browser) if not url.startswith(("about:", "data:"))]
    assert len(asked) > 20
    assert not [url for url in asked if not url.startswith(f"{lived.url}/")]


def test_the_policy_is_strict_enough_to_stop_a_planted_script(lived: Console, browser: Any) -> None:
    browser.get(lived.url + "/")

    browser.execute_script(
        "const s = document.createElement('div');"
        "s.innerHTML = arguments[0]; document.body.append(s);",
        HOSTILE[2:],
    )
    time.sleep(0.5)

    refused = [line for line in browser.get_log("browser") if "Content Security" in line["message"]]
    assert refused
    assert browser.execute_script("return window.stolen") is None
    policy = lived.headers("/")["content-security-policy"]
    assert "unsafe-inline" not in policy
    assert "default-src 'self'" in policy


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_no_page_scrolls_sideways(lived: Console, browser: Any, width: int) -> None:
    _wide(browser, width)
    for path in _pages(lived):
        browser.get(lived.url + path)
        browser.execute_script(
            "for (const one of document.querySelectorAll('details')) one.open = true;"
        )

        reach = browser.execute_script("return document.documentElement.scrollWidth")
        assert reach <= width, path


def test_no_text_is_cut_off_where_it_is_not_meant_to_be(lived: Console, browser: Any) -> None:
    _wide(browser, 360)
    browser.get(lived.url + "/")

    cut = browser.execute_script(
        """
        const meant = '.reason, .unseen, .who, .what, .scroll, .scroll *, svg, svg *, input';
        return [...document.querySelectorAll('main *, header *')].filter(
          (one) => !one.matches(meant) && one.scrollWidth > one.clientWidth + 1
            && getComputedStyle(one).display !== 'inline').map((one) => one.outerHTML.slice(0, 80));
        """
    )

    assert not cut


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(lived: Console, browser: Any, scheme: str) -> None:
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    browser.get(lived.url + "/endpoints/failure")

    faint = browser.execute_script(
        """
        const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255;
          return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
          return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const read = (text) => text.match(/[\\d.]+/g).map(Number);
        const ground = (one) => { for (let at = one; at; at = at.parentElement) {
          const c = read(getComputedStyle(at).backgroundColor);
          if (c.length === 3 || c[3] === 1) return c.slice(0, 3); } return [255, 255, 255]; };
        return [...document.querySelectorAll('main *')].filter((one) => !one.closest('svg')
            && [...one.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())
            && one.getClientRects().length).map((one) => {
          const a = light(read(getComputedStyle(one).color).slice(0, 3)), b = light(ground(one));
          const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          return [ratio, one.outerHTML.slice(0, 90)]; }).filter(([ratio]) => ratio < 4.5);
        """
    )

    assert not faint


def test_a_new_fact_appears_on_the_open_page_without_a_reload(own: Console, browser: Any) -> None:
    browser.get(own.url + "/")
    browser.execute_script("window.mine = 1")
    _until(lambda: "live" in browser.find_element("id", "line").text)

    fact = own.platform.access("default").grant("newcomer", "viewer", actor="local")

    _until(lambda: bool(browser.find_elements("id", f"f{fact.seq}")))
    assert "newcomer is now viewer" in browser.find_element("id", f"f{fact.seq}").text
    assert browser.execute_script("return window.mine") == 1


def test_a_page_says_that_its_line_is_lost_and_comes_back_by_itself(
    own: Console, browser: Any
) -> None:
    browser.get(own.url + "/")
    browser.execute_script("window.mine = 1")
    _until(lambda: "live" in browser.find_element("id", "line").text)

    own.stop()
    _until(lambda: "connection lost" in browser.find_element("id", "line").text)
    fact = own.platform.access("default").grant("meanwhile", "viewer", actor="local")
    own.start()

    _until(lambda: "live" in browser.find_element("id", "line").text)
    _until(lambda: bool(browser.find_elements("id", f"f{fact.seq}")))
    assert browser.execute_script("return window.mine") == 1


def test_what_a_person_types_survives_a_new_fact(own: Console, browser: Any) -> None:
    browser.get(own.url + "/endpoints/failure")
    _until(lambda: "live" in browser.find_element("id", "line").text)
    browser.find_element("css selector", "#version-1 summary").click()
    comment = browser.find_element("css selector", "#decide textarea")
    comment.send_keys("not quite sure yet")

    own.client.advance("failure", own.client.endpoint("failure").now)  # type: ignore[arg-type]
    own.platform.access("default").grant("newcomer", "viewer", actor="local")
    before = browser.execute_script("return performance.getEntriesByType('resource').length")
    _until(
        lambda: (
            browser.execute_script("return performance.getEntriesByType('resource').length")
            > before
        )
    )
    time.sleep(0.5)

    kept = browser.find_element("css selector", "#decide textarea")
    assert kept.get_attribute("value") == "not quite sure yet"
    opened = browser.find_element("css selector", "#version-1")
    assert opened.get_attribute("open") is not None


def test_a_rollout_is_rolled_back_from_the_page(own: Console, browser: Any) -> None:
    browser.get(own.url + "/endpoints/failure")
    form = browser.find_element("css selector", 'form[action$="/rollback"]')

    form.find_element("tag name", "textarea").send_keys("we saw enough")
    form.find_element("tag name", "button").click()

    _until(lambda: "Done: RolledBack" in browser.find_element("tag name", "h1").text)
    facts = own.client.events(limit=10_000).facts
    assert [f.body["reason"] for f in facts if f.event == "RolledBack"] == ["we saw enough"]


def test_everything_is_there_with_script_switched_off(lived: Console, browser: Any) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})

    browser.get(lived.url + "/endpoints/failure")
    browser.get_log("performance")
    texts = browser.find_element("tag name", "main").text

    assert len(browser.find_elements("css selector", ".chart svg.wide .line")) >= 4
    for heading in ("Quality", "Versions", "Rollouts", "Alarms", "Readings", "Newest predictions"):
        assert heading in texts
    box = browser.find_element("css selector", ".find input")
    box.send_keys("ab" * 16)
    box.submit()
    _until(lambda: "Trace a prediction" in browser.title)


def test_the_keyboard_reaches_everything_and_shows_where_it_is(
    lived: Console, browser: Any
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    browser.get(lived.url + "/")
    reached = []
    for _ in range(14):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.append(
            browser.execute_script(
                "const one = document.activeElement; const s = getComputedStyle(one);"
                "return [one.textContent.trim() || one.getAttribute('aria-label'), s.outlineStyle]"
            )
        )

    names = [name for name, _ in reached]
    assert names[:6] == ["Skip to the content", "Mainspring", "Loop", "Runs", "Data", "Ledger"]
    assert "Trace a prediction by its id" in names
    assert "failure" in names
    assert all(style != "none" for _, style in reached)
