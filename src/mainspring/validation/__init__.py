"""Floor 3: a candidate against bars, champion and earlier versions gives a verdict. Pure."""

from mainspring.validation.judge import judge
from mainspring.validation.slice import Scores, Slice
from mainspring.validation.spec import (
    Better,
    CalibrationBar,
    Case,
    FairnessBar,
    Gate,
    NoGroupWorse,
    rows_needed,
)
from mainspring.validation.verdict import Finding, Verdict

__all__ = [
    "Better",
    "CalibrationBar",
    "Case",
    "FairnessBar",
    "Finding",
    "Gate",
    "NoGroupWorse",
    "Scores",
    "Slice",
    "Verdict",
    "judge",
    "rows_needed",
]
