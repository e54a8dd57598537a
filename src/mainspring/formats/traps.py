"""Models whose conversion is silently wrong, refused by name before it is tried.

Each was measured (versions of November 2026): the graph converts without a word and then
disagrees with the model on up to all rows. Parity would catch them on rows that show it; the
name tells the author what to change.
"""

import json
from collections.abc import Iterator
from typing import Any

from mainspring.core.errors import Unconvertible


def refuse_traps(model: Any) -> None:
    """Raise Unconvertible if the model, or a part of it, is known to convert wrongly."""
    for part in parts(model):
        booster = getattr(part, "booster_", part)
        if type(booster).__module__.startswith("lightgbm"):
            _refuse_booster(booster)
        elif type(part).__module__.startswith("xgboost"):
            _refuse_xgboost(part)
        elif type(part).__module__.startswith("catboost"):
            _refuse_catboost(part)
        elif type(part).__name__.startswith("HistGradientBoosting"):
            _refuse_hist(part)
        elif type(part).__name__ == "OrdinalEncoder" and part.handle_unknown == "error":
            raise Unconvertible(
                "OrdinalEncoder(handle_unknown='error'): the graph would answer where the model "
                "raises; use handle_unknown='use_encoded_value' with an unknown_value"
            )


def parts(model: Any) -> Iterator[Any]:
    """Give a fitted estimator and every estimator inside it."""
    yield model
    for _, step in getattr(model, "steps", ()):
        yield from parts(step)
    for _, transformer, _ in getattr(model, "transformers_", ()):
        if not isinstance(transformer, str):
            yield from parts(transformer)


def _refuse_booster(booster: Any) -> None:
    if booster.pandas_categorical and any(booster.pandas_categorical):
        raise Unconvertible(
            "LightGBM with pandas categories: the graph takes numbers, not the categories' "
            "strings; encode them with an OrdinalEncoder in a Pipeline"
        )
    text = booster.model_to_string(num_iteration=1)
    parameters = dict(
        line.strip("[]").split(": ", 1) for line in text.splitlines() if line.startswith("[")
    )
    objective = str(parameters.get("objective", ""))
    found = [
        name
        for name, wrong in (
            ("zero_as_missing", parameters.get("zero_as_missing") == "1"),
            ("linear_tree", parameters.get("linear_tree") == "1"),
            ("boosting=rf", parameters.get("boosting") == "rf"),
            ("objective=multiclassova", objective.startswith("multiclassova")),
        )
        if wrong
    ]
    if found:
        raise Unconvertible(
            f"LightGBM with {', '.join(found)}: converts without an error and then answers "
            "wrongly; train without it"
        )


def _refuse_xgboost(model: Any) -> None:
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    kind = json.loads(booster.save_config())["learner"]["gradient_booster"]["name"]
    if kind != "gbtree":
        raise Unconvertible(
            f"XGBoost with booster={kind}: there is no conversion for it; train with booster=gbtree"
        )
    types = booster.feature_types or []
    names = booster.feature_names or [f"f{i}" for i in range(len(types))]
    categories = [name for name, kind in zip(names, types, strict=True) if kind == "c"]
    if categories:
        raise Unconvertible(
            f"XGBoost with categorical columns {', '.join(categories)}: the graph takes numbers, "
            "not categories; encode them with an OrdinalEncoder in a Pipeline"
        )
    missing = getattr(model, "missing", None)
    if missing is not None and missing == missing:
        raise Unconvertible(
            f"XGBoost with missing={missing}: the graph knows NaN only as missing; turn {missing} "
            "into NaN before training, and leave missing= out"
        )


def _refuse_catboost(model: Any) -> None:
    if not model.is_fitted():
        raise Unconvertible(f"{type(model).__name__}: it is not fitted yet; fit it first")
    taken = [*model.get_cat_feature_indices(), *model.get_text_feature_indices()]
    if taken:
        names = ", ".join(str(model.feature_names_[i]) for i in sorted(taken))
        raise Unconvertible(
            f"CatBoost with categorical or text columns {names}: its exporter writes numbers only; "
            "encode them with an OrdinalEncoder before it"
        )


def _refuse_hist(model: Any) -> None:
    if getattr(model, "is_categorical_", None) is not None:
        raise Unconvertible(
            f"{type(model).__name__} with categorical_features: converts without an error and "
            "then answers wrongly; encode the categories before it"
        )
