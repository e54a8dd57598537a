"""Declarations of a gate: what may be said, and how they travel."""

from collections.abc import Callable

import msgspec
import pytest

from mainspring.core.errors import InvalidDeclaration
from mainspring.validation import (
    Better,
    CalibrationBar,
    Case,
    FairnessBar,
    Gate,
    NoGroupWorse,
    rows_needed,
)

FULL = Gate(
    floors={"auc": 0.68, "log_loss": 0.6},
    better=Better("log_loss", margin=0.005),
    fairness=(FairnessBar("origin"), NoGroupWorse("carrier", margin=0.05, loss="brier")),
    cases=(
        Case("storm", {"origin": "JFK", "wind": 40.5, "gust": None}, at_least=0.5, owner="ops"),
    ),
    calibration=CalibrationBar(),
    deadline="7d",
)


def test_a_gate_survives_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(FULL), type=Gate) == FULL
    assert FULL.group_columns() == ("origin", "carrier")


def test_lists_in_a_project_file_become_tuples() -> None:
    gate = Gate({}, Better("auc", 0.005), fairness=[FairnessBar("sex")])

    assert gate == Gate({}, Better("auc", 0.005), fairness=(FairnessBar("sex"),))


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="sharpness"):
        msgspec.json.decode(
            b'{"floors": {}, "better": {"metric": "auc", "margin": 0.1, "sharpness": 1}}', type=Gate
        )


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        (lambda: Better("f1", 0.1), "found metric 'f1'"),  # type: ignore[arg-type]
        (lambda: Better("auc", 0.0), "found margin 0.0"),
        (lambda: Better("auc", float("nan")), "found margin nan"),
        (lambda: Better("auc", 0.1, sd=-1.0), "found sd -1.0"),
        (lambda: Gate({"acc": 0.5}, Better("auc", 0.1)), "found metric 'acc'"),
        (lambda: Gate({"auc": float("inf")}, Better("auc", 0.1)), "found auc inf"),
        (lambda: Gate({}, Better("auc", 0.1), deadline="soon"), "gate deadline"),
        (lambda: Gate({}, Better("auc", 0.1), min_rows=0), "found min_rows 0"),
        (lambda: Gate({}, Better("auc", 0.1), cases=(FULL.cases[0],) * 2), "storm more than once"),
        (lambda: Case("c", {}), "neither at_least nor at_most"),
        (lambda: Case("c", {}, at_least=0.7, at_most=0.3), "at_least <= at_most"),
        (lambda: Case("c", {"x": [1]}, at_least=0.5), "found x with values"),
        (lambda: Case("c", {"x": float("nan")}, at_least=0.5), "found x with values"),
        (lambda: FairnessBar("sex", bound=1.5), "found bound 1.5"),
        (lambda: FairnessBar("sex", rate="luck"), "found rate 'luck'"),  # type: ignore[arg-type]
        (lambda: FairnessBar("sex", min_rows=0), "found min_rows 0"),
        (lambda: NoGroupWorse("sex", margin=0.0), "found margin 0.0"),
        (lambda: NoGroupWorse("sex", 0.1, loss="x"), "found loss 'x'"),  # type: ignore[arg-type]
        (lambda: CalibrationBar(1.2, 0.8), "found slopes 1.2 to 0.8"),
    ],
)
def test_a_declaration_that_cannot_be_names_what_was_found(
    declare: Callable[[], object], words: str
) -> None:
    with pytest.raises(InvalidDeclaration, match=words):
        declare()


def test_the_holdback_is_as_long_as_the_margin_needs() -> None:
    gate = Gate({}, Better("log_loss", 0.005))

    assert rows_needed(gate, measured_sd=None) == 18_029
    assert rows_needed(gate, measured_sd=0.135) == 4_508
    assert rows_needed(gate, measured_sd=0.001) == 2_000
    assert rows_needed(Gate({}, Better("log_loss", 0.005, sd=0.54)), measured_sd=None) == 72_114
    assert rows_needed(Gate({}, Better("auc", 0.005)), measured_sd=None) > 18_029
