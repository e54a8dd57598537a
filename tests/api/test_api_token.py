"""Commands of a home that has tokens show theirs."""

from pathlib import Path

import pytest

from mainspring.api.local import local_client, open_local
from mainspring.cli import execute
from mainspring.core.clock import SystemClock
from mainspring.core.config import Config
from mainspring.core.errors import NotAuthenticated
from mainspring.platform import Platform


def test_a_command_shows_its_token_and_is_refused_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / ".mainspring"
    with Platform.open(Config(), home, clock=SystemClock()) as platform:
        access = platform.access("default")
        access.grant("ada", "admin", actor="local")
        secret = access.issue("ada", actor="local").secret
        with pytest.raises(NotAuthenticated):
            local_client(platform, Config())

    with open_local(Config(token=secret), home) as client:
        assert client.status().endpoints == ()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MAINSPRING_TOKEN", secret)
    assert execute(["config"]) == 0
    printed = capsys.readouterr().out
    assert secret not in printed
    assert "given" in printed
