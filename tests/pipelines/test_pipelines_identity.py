"""The identity table: what changes a step's key and what does not."""

import linecache
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from mainspring.core.errors import NotReproducible
from mainspring.core.ids import Digest, digest_bytes
from mainspring.pipelines.encoding import frame_digest, leaf
from mainspring.pipelines.graph import Output
from mainspring.pipelines.identity import step_key
from mainspring.pipelines.sources import Sources, installed_versions
from mainspring.pipelines.step import Step

BASE = '''
import math

import numpy as np

from mainspring.pipelines.step import step

RATE = 0.5
TABLE = {"a": [1, 2], "b": (3.0, None)}


def scaled(x):
    """Scale."""
    return x * RATE


def unrelated(x):
    return x + 1


def made(bound):
    def inner(x):
        return min(x, bound)

    return inner


clip = made(10)


class Model:
    """A model."""

    depth = 3

    def fit(self, x):
        return math.sqrt(scaled(x)) + self.depth


@step
def train(x, depth=6, *, rounds: int = 5):
    """Train a model."""
    # a comment
    return Model().fit(clip(x)) + depth + rounds + len(TABLE)
'''

Load = Callable[..., types.ModuleType]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    names: list[str] = []

    def loaded(text: str, name: str = "project") -> types.ModuleType:
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        linecache.checkcache(str(path))
        module = types.ModuleType(name)
        module.__file__ = str(path)
        sys.modules[name] = module
        names.append(name)
        exec(compile(path.read_text(), str(path), "exec"), vars(module))
        return module

    sys.path.insert(0, str(tmp_path))
    yield loaded
    sys.path.remove(str(tmp_path))
    for name in names:
        sys.modules.pop(name, None)


def key_of(
    module: types.ModuleType,
    versions: Callable[[str], dict[str, str]] = installed_versions,
    /,
    **arguments: object,
) -> Digest:
    train = module.train
    assert isinstance(train, Step)
    sources = Sources(Path(str(module.__file__)).parent, versions=versions)
    return step_key(
        train, arguments, inputs=lambda o: digest_bytes(o.name.encode()), sources=sources
    )


def changed(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(BASE, id="nothing"),
        pytest.param(changed("# a comment", "# another comment"), id="comment"),
        pytest.param(changed('"""Train a model."""', '"""Other words."""'), id="docstring"),
        pytest.param(changed('    """A model."""\n', ""), id="docstring of a class"),
        pytest.param(changed('    """Scale."""\n', ""), id="docstring of a called function"),
        pytest.param(changed("import math\n", "import math\n\n\n\n"), id="moved down"),
        pytest.param(changed("x * RATE", "(x\n        * RATE)"), id="formatting"),
        pytest.param(changed("return x + 1", "return x + 2"), id="unrelated function"),
        pytest.param(BASE + "\nOTHER = object()\n", id="unrelated value without encoding"),
    ],
)
def test_what_does_not_touch_the_step_keeps_its_key(load: Load, text: str) -> None:
    before = key_of(load(BASE), x=3)

    assert key_of(load(text), x=3) == before


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(changed("RATE = 0.5", "RATE = 0.6"), id="constant of a called function"),
        pytest.param(changed("[1, 2]", "[2, 1]"), id="nested constant"),
        pytest.param(changed("3.0, None", "3, None"), id="float becomes int"),
        pytest.param(changed("x * RATE", "x / RATE"), id="called function"),
        pytest.param(changed("depth=6", "depth=7"), id="default argument"),
        pytest.param(changed("rounds: int = 5", "rounds: int = 6"), id="keyword default"),
        pytest.param(changed("made(10)", "made(11)"), id="captured value"),
        pytest.param(changed("min(x, bound)", "max(x, bound)"), id="code of a closure"),
        pytest.param(changed("depth = 3", "depth = 4"), id="class attribute"),
        pytest.param(changed("math.sqrt", "math.exp"), id="method"),
        pytest.param(changed("+ rounds", "- rounds"), id="the step itself"),
        pytest.param(changed("import math\n", "import polars\nimport math\n"), id="new library"),
        pytest.param(changed("@step\n", "@step(outputs=['result'])\n"), id="outputs of the step"),
    ],
)
def test_what_the_step_depends_on_changes_its_key(load: Load, text: str) -> None:
    before = key_of(load(BASE), x=3)

    assert key_of(load(text), x=3) != before


def test_the_key_depends_on_parameters_and_inputs(load: Load) -> None:
    module = load(BASE)

    keys = [
        key_of(module, x=value)
        for value in (3, 3.0, True, "3", None, [3], (3,), {"x": 3}, Output(0, "a"), Output(0, "b"))
    ]

    assert len(set(keys)) == len(keys)


def test_a_new_version_of_an_imported_library_changes_the_key(load: Load) -> None:
    module = load(BASE)

    def upgraded(name: str) -> dict[str, str]:
        versions = installed_versions(name)
        return {"numpy": "99.0"} if "numpy" in versions else versions

    assert key_of(module, upgraded) != key_of(module)


def test_a_new_version_of_a_library_nobody_imports_keeps_the_key(load: Load) -> None:
    module = load(BASE)

    def upgraded(name: str) -> dict[str, str]:
        versions = installed_versions(name)
        return {"scipy": "99.0"} if "scipy" in versions else versions

    assert key_of(module, upgraded) == key_of(module)


@pytest.mark.parametrize(
    "use",
    [
        "import helper\n\n@step\ndef train(x):\n    return helper.scaled(x)\n",
        "from helper import scaled as s\n\n@step\ndef train(x):\n    return s(x)\n",
        "@step\ndef train(x):\n    from helper import scaled\n    return scaled(x)\n",
        "import helper\n\n@step\ndef train(x):\n    return getattr(helper, 'scaled')(x)\n",
        "import helper\n\n@step\ndef train(x, f=helper.scaled):\n    return f(x)\n",
    ],
)
def test_functions_of_another_project_file_count(load: Load, use: str) -> None:
    head = "from mainspring.pipelines.step import step\n"
    load("def scaled(x):\n    return x * 2\n", "helper")
    before = key_of(load(head + use), x=1)

    load("def scaled(x):\n    return x * 3\n", "helper")

    assert key_of(load(head + use), x=1) != before


def test_a_module_used_by_attribute_counts_only_with_that_attribute(load: Load) -> None:
    text = """
    from mainspring.pipelines.step import step
    import helper

    @step
    def train(x):
        return helper.scaled(x)
    """
    load("def scaled(x):\n    return x * 2\n\ndef other(x):\n    return 1\n", "helper")
    before = key_of(load(text), x=1)

    load("def scaled(x):\n    return x * 2\n\ndef other(x):\n    return 2\n", "helper")

    assert key_of(load(text), x=1) == before


@pytest.mark.parametrize("use", ["part.scaled(x)", "getattr(part, 'scaled')(x)"])
def test_modules_of_a_package_count_however_they_are_imported(
    load: Load, tmp_path: Path, use: str
) -> None:
    text = f"""
    from mainspring.pipelines.step import step

    @step
    def train(x):
        from package import part
        return {use}
    """
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from package import deeper\n")
    (package / "part.py").write_text("def scaled(x):\n    return x * 2\n")
    (package / "deeper.py").write_text("RATE = 1\n")
    seen = {key_of(load(text), x=1)}

    for file, content in [
        ("part.py", "def scaled(x):\n    return x * 33\n"),
        ("deeper.py", "B = 1\n"),
    ]:
        (package / file).write_text(content)
        linecache.clearcache()
        seen.add(key_of(load(text), x=1))

    assert len(seen) == 3


def test_recursion_and_cycles_of_functions_end(load: Load) -> None:
    text = """
    from mainspring.pipelines.step import step

    def even(n):
        return True if n == 0 else odd(n - 1)

    def odd(n):
        return False if n == 0 else even(n - 1)

    @step
    def train(x):
        return even(x)
    """
    before = key_of(load(text), x=1)

    assert key_of(load(text.replace("return False if", "return None if")), x=1) != before


def test_decorated_functions_count_with_their_decorator(load: Load) -> None:
    text = """
    import functools

    from mainspring.pipelines.step import step

    def twice(f):
        @functools.wraps(f)
        def wrapper(x):
            return f(f(x))

        return wrapper

    @twice
    def first(x):
        return x + 1

    @functools.lru_cache(maxsize=4)
    def second(x):
        return x + 2

    @step
    def train(x):
        return first(x) + second(x)
    """
    before = key_of(load(text), x=1)

    assert key_of(load(text.replace("f(f(x))", "f(f(f(x)))")), x=1) != before
    assert key_of(load(text.replace("x + 1", "x + 3")), x=1) != before
    assert key_of(load(text.replace("x + 2", "x + 3")), x=1) != before


def test_objects_of_project_classes_count_with_class_and_state(load: Load) -> None:
    text = """
    from dataclasses import dataclass
    from enum import Enum

    from mainspring.pipelines.step import step

    class Kind(Enum):
        A = 1
        B = 2

    @dataclass(frozen=True)
    class Plan:
        kind: Kind
        rate: float

    class Scaler:
        def __init__(self, by):
            self.by = by

    PLAN = Plan(Kind.A, 0.5)
    SCALER = Scaler(3)
    KINDS = {Kind.A, Kind.B}

    @step
    def train(x):
        return PLAN, SCALER, KINDS, x
    """
    before = key_of(load(text), x=1)

    assert key_of(load(text), x=1) == before
    for old, new in [
        ("Kind.A, 0.5", "Kind.B, 0.5"),
        ("Scaler(3)", "Scaler(4)"),
        ("{Kind.A, ", "{"),
    ]:
        assert key_of(load(text.replace(old, new)), x=1) != before


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("CLIENT = object()", "'CLIENT'"),
        ("CLIENT = {'deep': [open]}; CLIENT['deep'][0] = iter([])", "'CLIENT'.*'deep'"),
        ("import threading; CLIENT = threading.Lock()", "'CLIENT'"),
        ("CLIENT = []; CLIENT.append(CLIENT)", "contains itself"),
    ],
)
def test_a_value_without_encoding_is_an_error_that_names_it(
    load: Load, line: str, name: str
) -> None:
    text = f"""
    from mainspring.pipelines.step import step

    {line}

    @step
    def train(x):
        return CLIENT, x
    """
    with pytest.raises(NotReproducible, match=name) as caught:
        key_of(load(text), x=1)

    assert "step 'train'" in str(caught.value)


def test_a_captured_value_without_encoding_is_named(load: Load) -> None:
    text = """
    from mainspring.pipelines.step import step

    def made(thing):
        @step
        def train(x):
            return thing, x
        return train

    train = made(object())
    """
    with pytest.raises(NotReproducible, match="'thing' captured by made"):
        key_of(load(text), x=1)


def test_code_that_is_no_longer_in_its_file_is_refused(load: Load) -> None:
    module = load(BASE)
    path = Path(str(module.__file__))

    path.write_text(changed("x * RATE", "x + RATE"))
    linecache.clearcache()

    with pytest.raises(NotReproducible, match="load the project again"):
        key_of(module, x=1)


def test_equal_frames_of_different_layout_encode_equally() -> None:
    whole = pl.DataFrame(
        {
            "a": [1, 2, 3, None],
            "b": ["x", "y", None, "z"],
            "c": [[1.0], [], None, [2.0, None]],
            "d": [{"e": True}, {"e": None}, None, {"e": False}],
            "f": [date(2013, 1, 1), None, date(2013, 1, 2), date(2013, 1, 3)],
            "g": [b"a", b"", None, b"b"],
        }
    )
    parts = pl.concat([whole[:2], whole[2:]], rechunk=False)

    assert frame_digest(whole) == frame_digest(parts)
    assert frame_digest(whole) == frame_digest(whole.filter(pl.lit(True)))
    assert frame_digest(whole) != frame_digest(whole.reverse())
    assert frame_digest(whole) != frame_digest(whole.rename({"a": "z"}))


def test_arrays_encode_with_type_and_shape() -> None:
    values = np.arange(6.0)

    encodings = [values, values.astype("f4"), values.reshape(2, 3), values[::-1], values[0]]

    assert len({str(leaf(value)) for value in encodings}) == 5
    assert leaf(values.reshape(2, 3)) == leaf(np.asfortranarray(values.reshape(2, 3)))
