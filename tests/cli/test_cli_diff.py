"""What two runs differ in, said by name."""

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.conftest import Shell


def test_a_run_is_the_same_as_itself(live: "Shell") -> None:
    (run,) = live.json("run", "list")

    said = live("run", "diff", run["run"], run["run"])

    assert (said.code, said.out.strip()) == (0, "all that is recorded of them is the same")


def test_another_parameter_shows_with_what_it_changed(live: "Shell") -> None:
    live.done("run", "start", "stop", "-p", "strength=0.01")
    first, second = sorted(run["run"] for run in live.json("run", "list"))

    said = live("run", "diff", first, second, "--json")
    found = {(one["part"], one["name"]): one for one in json.loads(said.out)}

    assert said.code == 1
    strength = found["parameter", "strength"]
    assert (strength["first"], strength["second"]) == ("1.0", "0.01")
    assert ("artifact", "model/model.onnx") in found
    assert ("run", "trigger") in found
    assert not [name for part, name in found if part in ("code", "environment")]
    assert "not_found" in live("run", "diff", first, "0" * 32).err
