"""The pages over a home in which everything has happened, and over one in which nothing has."""

import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from tests.ui.ui_console import HOSTILE, Console

from mainspring.loop import history

PAGES = ("/", "/endpoints/failure", "/endpoints/failure?window=1d", "/runs", "/ledger", "/data",
         "/data/parts", "/data/shocks", "/traces", "/traces?id=nonsense")  # fmt: skip


class Seen(HTMLParser):
    """What a page has: tags, attributes, ids, and whether every tag is closed."""

    VOID = frozenset({"meta", "link", "input", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.open: list[str] = []
        self.loose_tables = 0
        self._scrolled = [False]
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)
            scrolls = ("class", "scroll") in attrs
            self.loose_tables += tag == "table" and not self._scrolled[-1]
            self._scrolled.append(scrolls or self._scrolled[-1])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self._scrolled.pop()
        assert self.open.pop() == tag, f"</{tag}> closes {self.open[-3:]}"

    def values(self, name: str) -> list[str | None]:
        return [value for _, attribute, value in self.attributes if attribute == name]


def _every_page(console: Console) -> list[str]:
    run = re.search(r"/runs/[0-9a-f]{32}", console.get("/runs")[1])
    trace = re.search(r"/traces/[0-9a-f]{32}:\d+", console.get("/endpoints/failure")[1])
    assert run is not None
    assert trace is not None
    return [*PAGES, run[0], trace[0]]


def test_every_page_is_whole_and_holds_no_script_style_or_stored_markup(lived: Console) -> None:
    for path in _every_page(lived):
        status, text = lived.get(path)

        seen = Seen(text)
        ids = seen.values("id")
        assert status == 200, path
        assert not seen.open, path
        assert len(ids) == len(set(ids)), path
        assert seen.tags.count("script") == 1, path
        assert "style" not in seen.tags, path
        assert "img" not in seen.tags, path
        assert not [n for _, n, _ in seen.attributes if n == "style" or n.startswith("on")], path
        assert HOSTILE not in text, path
        assert text.count("<h1") == 1, path
        assert not seen.loose_tables, path


def test_nothing_leads_away_from_the_host(lived: Console) -> None:
    for path in _every_page(lived):
        seen = Seen(lived.get(path)[1])
        for _, name, value in seen.attributes:
            if name in ("href", "src", "action", "formaction", "data-stream"):
                assert value is not None
                assert value.startswith(("/", "#", "?")), (path, value)
                assert not value.startswith("//"), (path, value)


def test_every_link_of_the_first_pages_leads_to_a_page(lived: Console) -> None:
    links = set()
    for path in ("/", "/endpoints/failure", "/runs", "/data"):
        hrefs = Seen(lived.get(path)[1]).values("href")
        links |= {href.partition("#")[0] for href in hrefs if href and href.startswith("/")}

    broken = [link for link in sorted(links) if lived.get(link)[0] != 200]

    assert len(links) > 15
    assert not broken


def test_the_first_page_shows_the_ring_and_says_what_is_waited_for(lived: Console) -> None:
    _, text = lived.get("/")

    stations = re.findall(r'<li class="station (\w+) ', text)
    status = lived.client.status().endpoints[0]
    assert stations == [
        "data", "features", "run", "gate", "rollout", "live", "monitors", "alarm",
    ]  # fmt: skip
    assert text.count('aria-current="step"') == 1
    assert status.waiting[1:40].split("'")[0] in text
    assert f"version {status.live}" in text
    assert "rows in quarantine" in text
    assert "<b>RolloutStarted</b>" in text


def test_the_endpoint_page_has_its_charts_versions_and_evidence(lived: Console) -> None:
    _, text = lived.get("/endpoints/failure?window=1d")

    report = lived.client.endpoint("failure")
    assert text.count('<svg class="wide"') == 4
    assert all(f'id="version-{one.version}"' in text for one in report.versions)
    assert 'class="interval"' in text
    assert 'class="mark promoted"' in text
    assert f"as of fact {report.seen}" in text
    assert 'class="mark alarm"' in text or not report.alarms


def test_a_trace_goes_from_the_answer_back_to_commit_and_rows(lived: Console) -> None:
    found = re.search(r"/traces/[0-9a-f]{32}:\d+", lived.get("/endpoints/failure")[1])
    assert found is not None

    status, text = lived.get(found[0])

    kinds = re.findall(r'<li class="stop at-(\w+)">', text)
    assert status == 200
    assert kinds[:6] == ["prediction", "features", "version", "run", "code", "data"]
    assert "gate" in kinds
    assert kinds[-1] == "rollout"
    assert 'href="/data/parts"' in text
    assert re.search(r'href="/runs/[0-9a-f]{32}"', text)


def test_the_search_box_leads_to_a_trace_or_says_what_an_id_is(lived: Console) -> None:
    status, _ = lived.get("/traces?id=" + "ab" * 16 + ":3")
    wrong, text = lived.get("/traces?id=%3Cscript%3E")
    missing, said = lived.get("/traces/" + "ab" * 16)
    odd, _ = lived.get("/traces/..%2f..%2fetc%2fpasswd")

    assert status == 303
    assert wrong == 200
    assert "is not the id of a prediction" in text
    assert missing == 404
    assert "never answered here" in said
    assert odd in (404, 400)


def test_a_run_shows_its_parameters_and_its_log(lived: Console) -> None:
    run = lived.client.runs().runs[0]

    _, text = lived.get(f"/runs/{run.run}")

    assert "window.stolen" in text
    assert "&lt;script&gt;" in text
    assert '<pre class="log"' in text


def test_an_unknown_name_is_told_as_a_page(lived: Console) -> None:
    for path in ("/endpoints/nothing", "/runs/" + "0" * 32, "/data/nothing"):
        status, text = lived.get(path)

        assert status == 404, path
        assert "Not found" in text
        assert "Back to the loop" in text


@pytest.mark.parametrize(
    "path",
    ["/endpoints/failure?window=2h", "/ledger?before=x", "/ledger?kind=%3Cb%3E",
     "/ledger?kind=run&name=%2e%2e%2f"],
)  # fmt: skip
def test_a_wrong_question_is_refused_with_what_was_expected(lived: Console, path: str) -> None:
    status, text = lived.get(path)

    assert status == 400
    assert "expected" in text or "name" in text
    assert "<b>" not in text


def test_the_ledger_is_read_page_by_page_and_by_subject(lived: Console) -> None:
    _, first = lived.get("/ledger")
    older = re.search(r'href="(\?kind=&amp;name=&amp;before=\d+)"', first)
    assert older is not None
    _, second = lived.get("/ledger" + older[1].replace("&amp;", "&"))
    _, only = lived.get("/ledger?kind=endpoint&name=failure")

    numbers = [[int(n) for n in re.findall(r'id="f(\d+)"', text)] for text in (first, second)]
    assert numbers[0] == sorted(numbers[0], reverse=True)
    assert numbers[1][0] == numbers[0][-1] - 1
    subjects = set(re.findall(r"<p>(default/\w+/[\w-]+)", only))
    assert subjects == {"default/endpoint/failure"}


def test_an_empty_home_says_which_command_comes_next(bare: Console) -> None:
    pages = {path: bare.get(path) for path in ("/", "/runs", "/ledger", "/data")}

    assert {status for status, _ in pages.values()} == {200}
    assert "mainspring apply project.py" in pages["/"][1]
    assert "mainspring run start" in pages["/runs"][1]


def test_a_viewer_may_look_and_nobody_may_not(own: Console) -> None:
    access = own.platform.access("default")
    secrets = {}
    for name, role in (("ada", "admin"), ("vera", "viewer")):
        access.grant(name, role, actor="local")  # type: ignore[arg-type]
        secrets[name] = access.issue(name, actor="local").secret

    nobody, _ = own.get("/")
    viewer, _ = own.get("/", Authorization=f"Bearer {secrets['vera']}")
    decided, _ = own.post(
        "/endpoints/failure/rollback",
        {"comment": "no"},
        Authorization=f"Bearer {secrets['vera']}",
    )
    static, _ = own.get("/static/console.css")

    assert (nobody, viewer, decided, static) == (401, 200, 403, 200)


def test_windows_measure_what_was_served_and_agree_with_the_whole(lived: Console) -> None:
    stages = lived.platform.project("default").stages

    found = history.windows(stages, "failure", "7d")
    again = history.windows(stages, "failure", "7d")
    days = history.windows(stages, "failure", "1d")

    rows = stages.monitoring.counts("failure")
    assert again is found
    assert found.complete
    assert sum(one.rows for one in found.windows) == rows.predictions
    assert sum(one.labelled for one in found.windows) == rows.labelled
    assert sum(one.rows for one in days.windows) == rows.predictions
    first = found.windows[0]
    assert found.frozen == "1"
    assert {part.version for part in first.traffic} == {"1"}
    assert (first.auc, first.log_loss) == (first.frozen_auc, first.frozen_log_loss)
    later = [one for one in days.windows if "1" not in {part.version for part in one.traffic}]
    assert [one for one in later if one.auc != one.frozen_auc and one.auc_error]


def test_measuring_in_small_pieces_gives_the_same(
    own: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages = own.platform.project("default").stages
    whole = history.windows(stages, "failure", "1d")
    stages.measured.found.clear()
    stages.measured.answers.clear()
    monkeypatch.setattr(history, "PIECE_ROWS", 1)

    looks = [history.windows(stages, "failure", "1d", patience_s=0)]
    while not looks[-1].complete:
        looks.append(history.windows(stages, "failure", "1d", patience_s=0))

    measured = [sum(one.log_loss is not None for one in look.windows) for look in looks]
    assert len(looks) > 3
    assert measured == list(range(1, len(looks) + 1))
    assert looks[0].windows[0].auc is None
    assert looks[-1] == whole


def test_a_corrected_label_is_measured_anew(own: Console) -> None:
    from mainspring.monitoring.labels import Label

    stages = own.platform.project("default").stages
    before = history.windows(stages, "failure", "1d")
    window = before.windows[2]
    rows = stages.monitoring.outcomes("failure", window.start, window.end).drop_nulls("value")
    one = rows.row(0, named=True)
    now = stages.monitoring.watermark("failure")
    assert now is not None
    label = Label(
        prediction=f"{one['prediction']}:{one['row']}",
        value=1.0 - one["value"],
        arrival=now + timedelta(hours=1),
    )

    own.client.label("failure", [label], token="corrected:1")
    stages.monitoring.advance("failure", now + timedelta(hours=2))
    after = history.windows(stages, "failure", "1d")

    changed = [a.start for a, b in zip(before.windows, after.windows, strict=True) if a != b]
    assert changed == [window.start]
