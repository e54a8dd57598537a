"""The gate as a table: what a candidate shows, and the verdict that follows."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mainspring.core.errors import InvalidInput
from mainspring.validation import (
    Better,
    CalibrationBar,
    Case,
    FairnessBar,
    Finding,
    Gate,
    NoGroupWorse,
    Scores,
    Slice,
    Verdict,
    judge,
)

Floats = NDArray[np.float64]
GATE = Gate({}, Better("log_loss", margin=0.01), min_rows=1000)


class World:
    """Rows in day blocks whose true probability is known, and versions of chosen quality."""

    def __init__(self, rows: int = 6000, blocks: int = 40, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.truth = 1 / (1 + np.exp(-rng.normal(-1, 1.2, rows)))
        self.noise = rng.normal(0, 1, (6, rows))
        self.slice = Slice(
            y=(rng.random(rows) < self.truth).astype(np.int64),
            blocks=np.arange(rows) * blocks // rows,
            groups={"origin": rng.choice(["EWR", "JFK", "LGA"], rows)},
            start="2013-04-01T00:00:00Z",
            end="2013-05-10T00:00:00Z",
        )

    def version(self, name: str, blur: float, *, stream: int = 0) -> Scores:
        """Answer the true logit with an error of this size."""
        logit = np.log(self.truth / (1 - self.truth)) + blur * self.noise[stream]
        return Scores(name, 1 / (1 + np.exp(-logit)))


def verdict(
    world: World,
    candidate: Scores,
    champion: Scores | None = None,
    kept: Sequence[Scores] = (),
    *,
    gate: Gate = GATE,
    answers: Mapping[str, float] | None = None,
) -> Verdict:
    return judge(gate, world.slice, candidate, champion, kept, answers or {}, seed=1)


def finding(found: Verdict, words: str) -> Finding:
    return next(f for f in found.findings if words in f"{f.what} {f.metric}")


@pytest.mark.parametrize(
    ("candidate", "champion", "outcome", "words"),
    [
        (0.2, 0.8, "pass", "all"),
        (0.8, 0.2, "fail", "not worse than champion"),
        (0.30, 0.28, "fail", "not better"),
    ],
)
def test_the_verdict_follows_the_difference_to_the_champion(
    candidate: float, champion: float, outcome: str, words: str
) -> None:
    world = World(rows=20_000)

    found = verdict(world, world.version("2", candidate), world.version("1", champion))

    assert found.outcome == outcome
    assert words in found.reason
    assert (found.candidate, found.champion, found.compared) == ("2", "1", ("1",))


def test_better_in_point_but_unsure_within_the_margin_is_inconclusive() -> None:
    world = World(rows=1500, blocks=30, seed=3)
    gate = Gate({}, Better("log_loss", margin=0.0005), min_rows=1000)

    found = verdict(world, world.version("2", 0.58), world.version("1", 0.6, stream=1), gate=gate)

    gain = finding(found, "not worse than champion 1")
    assert gain.observed is not None
    assert gain.observed > 0
    assert gain.low is not None
    assert gain.low < -0.0005
    assert found.outcome == "inconclusive"
    assert found.margin_supported is not None
    assert found.margin_supported > 0.0005


def test_a_kept_version_that_is_much_better_stops_a_candidate_that_beats_the_champion() -> None:
    """The peers' stack promoted here: it compared with the champion only."""
    world = World(rows=20_000)
    candidate, champion = world.version("3", 0.7), world.version("2", 0.9)

    alone = verdict(world, candidate, champion)
    found = verdict(world, candidate, champion, [world.version("1", 0.1)])

    assert alone.outcome == "pass"
    assert found.outcome == "fail"
    assert "kept 1" in found.reason
    assert found.better_version == "1"
    assert found.compared == ("2", "1")


def test_the_best_kept_version_is_named_even_when_the_candidate_is_broken() -> None:
    world = World(rows=20_000)
    broken = Scores("9", np.full(20_000, np.nan))
    kept = [world.version("1", 0.4), world.version("2", 0.1), world.version("3", 1.2)]

    found = verdict(world, broken, world.version("4", 0.9), kept)

    assert found.outcome == "fail"
    assert found.better_version == "2"
    assert finding(found, "kept 3 against champion").outcome == "noted"


def test_a_kept_version_that_only_looks_better_is_no_ground_to_restore() -> None:
    world = World(rows=3000, seed=5)
    champion = world.version("2", 0.5)
    losses = [
        verdict(
            world, world.version("x", 0.5, stream=s), champion, [world.version("1", 0.49, stream=s)]
        )
        for s in range(1, 6)
    ]

    gains = [finding(v, "kept 1 against champion").observed or 0.0 for v in losses]
    assert max(gains) > 0
    assert {v.better_version for v in losses} == {None}


def test_the_best_of_several_kept_versions_must_show_more() -> None:
    world = World()
    candidate, champion = world.version("9", 0.4), world.version("8", 0.6)
    kept = [world.version(str(i), 0.3, stream=i) for i in range(1, 5)]

    alone = finding(verdict(world, candidate, champion, kept[:1]), "kept 1 against")
    among = finding(verdict(world, candidate, champion, kept), "kept 1 against")

    assert alone.observed == among.observed
    assert (among.low or 0.0) < (alone.low or 0.0)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), blur=st.floats(0, 1.5), noise=st.sampled_from([0.0, 1e-9]))
def test_a_copy_of_the_champion_never_passes(seed: int, blur: float, noise: float) -> None:
    world = World(rows=1200, blocks=20, seed=seed)
    champion = world.version("1", blur)
    copied = champion.probability * (1 + noise * world.noise[1])

    found = verdict(world, Scores("2", copied), champion, [champion])

    assert found.outcome == "fail"
    assert "not better" in found.reason
    if noise == 0:
        assert found.planning_sd is None


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), blocks=st.sampled_from([12, 40]))
def test_the_order_of_rows_and_of_kept_versions_does_not_matter(seed: int, blocks: int) -> None:
    world = World(rows=1500, blocks=blocks, seed=seed)
    gate = Gate(
        {"auc": 0.6, "log_loss": 0.7},
        Better("log_loss", 0.01),
        fairness=(FairnessBar("origin"), NoGroupWorse("origin", margin=0.1, loss="error")),
        calibration=CalibrationBar(),
        min_rows=1000,
    )
    versions = [world.version(str(i), 0.2 * i, stream=i) for i in range(1, 5)]
    order = np.random.default_rng(seed).permutation(1500)
    shuffled = [Scores(v.version, v.probability[order]) for v in versions]
    rows = Slice(
        y=world.slice.y[order],
        blocks=world.slice.blocks[order],
        groups={name: values[order] for name, values in world.slice.groups.items()},
        start=world.slice.start,
        end=world.slice.end,
    )

    first = judge(gate, world.slice, versions[0], versions[1], versions[2:], {}, seed=4)
    second = judge(gate, rows, shuffled[0], shuffled[1], shuffled[:1:-1], {}, seed=4)

    assert [(f.what, f.outcome) for f in first.findings] == [
        (f.what, f.outcome) for f in second.findings
    ]
    assert (first.outcome, first.better_version) == (second.outcome, second.better_version)
    for a, b in zip(first.findings, second.findings, strict=True):
        assert a.low == pytest.approx(b.low)
        assert a.observed == pytest.approx(b.observed)


def test_an_equal_call_gives_an_equal_verdict() -> None:
    world = World()

    first = verdict(world, world.version("2", 0.2), world.version("1", 0.5))

    assert first == verdict(world, world.version("2", 0.2), world.version("1", 0.5))


@pytest.mark.parametrize(("rows", "blocks"), [(900, 40), (6000, 9), (0, 1), (1, 1)])
def test_too_few_rows_or_blocks_conclude_nothing(rows: int, blocks: int) -> None:
    world = World(rows=rows, blocks=blocks)
    gate = Gate(
        {"auc": 0.99, "log_loss": 0.01},
        Better("log_loss", 0.01),
        fairness=(FairnessBar("origin"), NoGroupWorse("origin", margin=0.1)),
        calibration=CalibrationBar(),
        min_rows=1000,
    )

    for candidate, champion in ((0.0, 2.0), (2.0, 0.0)):
        kept = [world.version("0", 0.0)]
        found = verdict(
            world, world.version("2", candidate), world.version("1", champion), kept, gate=gate
        )
        assert found.outcome == "inconclusive"
        assert found.better_version is None
        assert (found.rows, found.blocks) == (rows, blocks if rows else 0)


def test_under_thirty_blocks_the_finding_names_the_t_form() -> None:
    few, many = World(blocks=29), World(blocks=30)

    methods = [
        finding(verdict(w, w.version("2", 0.2), w.version("1", 0.6)), "not worse").method
        for w in (few, many)
    ]

    assert methods == ["cluster t over 29 blocks", "block bootstrap over 30 blocks"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -0.2, 1.3])
def test_answers_that_are_no_probability_fail_and_are_counted(bad: float) -> None:
    world = World()
    candidate = world.version("2", 0.0)
    candidate.probability[:7] = bad

    found = verdict(world, candidate, world.version("1", 1.0))

    assert found.outcome == "fail"
    assert "answers of 2" in found.reason
    assert finding(found, "answers of 2").observed == 7
    assert found.compared == ()


def test_float32_rounding_is_no_error() -> None:
    world = World()
    candidate = world.version("2", 0.0)
    candidate.probability[0] = 1.0000001

    assert verdict(world, candidate, world.version("1", 1.0)).outcome == "pass"


def test_a_broken_champion_or_kept_version_stands_in_nobodys_way() -> None:
    world = World()
    broken = Scores("1", np.full(6000, np.nan))
    good = world.version("2", 0.1)

    by_champion = verdict(world, good, broken, [world.version("3", 0.5)])
    by_kept = verdict(world, good, world.version("3", 0.9), [broken])

    assert by_champion.outcome == "pass"
    assert by_champion.better_version == "3", "it answers, which the champion does not"
    assert finding(by_champion, "answers of champion 1").outcome == "noted"
    assert by_kept.outcome == "pass"
    assert by_kept.compared == ("3",)
    assert finding(by_kept, "answers of kept 1").outcome == "noted"


@pytest.mark.parametrize(
    ("floors", "outcome"),
    [
        ({"auc": 0.6}, "pass"),
        ({"auc": 0.95}, "fail"),
        ({"log_loss": 0.65}, "pass"),
        ({"log_loss": 0.3}, "fail"),
        ({"brier": 0.25, "auc": 0.6}, "pass"),
        ({"brier": 0.05}, "fail"),
    ],
)
def test_the_first_version_is_judged_by_its_floors(floors: dict[str, float], outcome: str) -> None:
    world = World()

    found = verdict(world, world.version("1", 0.2), gate=Gate(floors, GATE.better, min_rows=1000))

    assert found.outcome == outcome
    assert (found.champion, found.planning_sd, found.margin_supported) == (None, None, None)


def test_a_floor_inside_the_interval_is_inconclusive() -> None:
    world = World()
    first = verdict(world, world.version("1", 0.2), gate=Gate({"auc": 0.5}, GATE.better))
    area = finding(first, "floor").observed
    assert area is not None

    found = verdict(world, world.version("1", 0.2), gate=Gate({"auc": area}, GATE.better))

    assert found.outcome == "inconclusive"


def test_one_class_gives_no_area_but_a_loss() -> None:
    world = World()
    rows = Slice(np.zeros(6000, np.int64), world.slice.blocks)
    gate = Gate({"auc": 0.6, "log_loss": 2.0}, GATE.better)

    found = judge(gate, rows, world.version("1", 0.2), None, (), {}, seed=0)

    assert finding(found, "floor of 1 auc").outcome == "inconclusive"
    assert finding(found, "floor of 1 log_loss").outcome == "pass"
    assert "0 positives in 6000 rows" in found.reason


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (0.7, "pass"),
        (0.6, "pass"),
        (0.59, "fail"),
        (0.95, "fail"),
        (float("nan"), "fail"),
        (None, "fail"),
    ],
)
def test_a_missed_case_fails_whatever_the_rest(answer: float | None, outcome: str) -> None:
    world = World()
    case = Case("storm", {"wind": 40}, at_least=0.6, at_most=0.9, owner="ops")
    gate = Gate({}, GATE.better, cases=(case,), min_rows=1000)

    found = verdict(
        world,
        world.version("2", 0.1),
        world.version("1", 0.9),
        gate=gate,
        answers={} if answer is None else {"storm": answer},
    )

    assert found.outcome == outcome
    assert finding(found, "case storm").outcome == outcome
    assert "owner ops" in finding(found, "case storm").note


def test_secondary_metrics_are_reported_and_refuse_only_shown_harm() -> None:
    world = World(rows=20_000)
    champion = world.version("1", 0.9)
    # The champion ranks perfectly and is far too sure of itself.
    sure = Scores("1", 1 / (1 + (1 / world.truth - 1) ** 3))

    harmless = verdict(world, world.version("2", 0.3), champion)
    harmed = verdict(world, world.version("2", 0.6), sure)

    noted = [f for f in harmless.findings if "secondary" in f.what]
    assert {(f.metric, f.outcome) for f in noted} == {
        ("auc gain", "noted"),
        ("brier gain", "noted"),
    }
    assert finding(harmed, "not worse than champion").outcome == "pass"
    assert finding(harmed, "secondary auc").outcome == "fail"
    assert harmed.outcome == "fail"


@pytest.mark.parametrize("metric", ["auc", "brier", "log_loss"])
def test_every_metric_can_be_the_one_that_decides(metric: str) -> None:
    world = World(rows=20_000)
    gate = msgspec.convert({"floors": {}, "better": {"metric": metric, "margin": 0.01}}, Gate)
    good, bad = world.version("2", 0.1), world.version("1", 0.9)

    assert verdict(world, good, bad, gate=gate).outcome == "pass"
    assert verdict(world, bad, good, gate=gate).outcome == "fail"


def test_the_measured_sd_plans_the_next_holdback() -> None:
    world = World(rows=20_000)
    candidate, champion = world.version("2", 0.2), world.version("1", 0.6)

    found = verdict(world, candidate, champion)

    y = world.slice.y == 1
    gain = np.log(np.where(y, candidate.probability, 1 - candidate.probability)) - np.log(
        np.where(y, champion.probability, 1 - champion.probability)
    )
    # Rows are independent here, so blocks add nothing but noise.
    assert found.planning_sd == pytest.approx(gain.std(), rel=0.25)
    assert found.margin_supported == pytest.approx(
        2.486 * (found.planning_sd or 0) / 20_000**0.5, rel=1e-3
    )


def test_a_verdict_survives_json_with_infinite_bounds() -> None:
    world = World(rows=1, blocks=1)

    found = verdict(world, world.version("2", 0.1), world.version("1", 0.2))

    assert finding(found, "not worse").low is None
    assert msgspec.json.decode(msgspec.json.encode(found), type=Verdict) == found
    assert all(f.sentence for f in found.findings)


def test_the_gate_refuses_harm_at_its_margin_but_for_a_twentieth() -> None:
    """Wrong passes at the margin; the rule without an interval is the control."""
    gate = Gate({}, Better("brier", margin=0.004), min_rows=1000)
    worlds, wrong, pointed = 120, 0, 0
    for seed in range(worlds):
        world = World(rows=1200, blocks=40, seed=seed)
        y = world.slice.y
        champion = world.version("1", 0.3)
        # Squared errors move up or down at random, and up by exactly the margin in the mean.
        squared = (champion.probability - y) ** 2
        room = np.minimum(squared, np.maximum(1 - squared - 0.004, 0.0))
        worse = np.sqrt(squared + 0.004 + 0.9 * room * np.sign(world.noise[3]))
        candidate = Scores("2", np.clip(np.where(y == 1, 1 - worse, worse), 0, 1))
        found = finding(verdict(world, candidate, champion, gate=gate), "not worse than champion")
        wrong += found.outcome == "pass"
        pointed += (found.observed or 0.0) > -0.004

    assert wrong / worlds <= 0.05 + 3 * (0.05 * 0.95 / worlds) ** 0.5
    assert pointed / worlds > 0.2


@pytest.mark.parametrize(
    ("rows", "version"),
    [(6000, Scores("2", np.zeros(5999))), (6000, Scores("2", np.zeros((6000, 1))))],
)
def test_scores_of_other_rows_are_refused(rows: int, version: Scores) -> None:
    with pytest.raises(InvalidInput, match="scores of 2"):
        verdict(World(rows=rows), version)


def test_labels_and_columns_must_belong_together() -> None:
    with pytest.raises(InvalidInput, match="blocks 2"):
        Slice(np.array([1]), np.array([1, 2]))
    with pytest.raises(InvalidInput, match="found label 2"):
        Slice(np.array([2, 1]), np.array([1, 1]))
