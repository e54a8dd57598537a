"""The console over a home that has lived, and a browser to look at it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.ui.ui_console import Console, live


@pytest.fixture(scope="session")
def lived_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of some weeks: promotions, alarms, refused rows, and texts that mean harm."""
    home = tmp_path_factory.mktemp("lived") / "home"
    live(home)
    return home


@pytest.fixture(scope="session")
def lived(lived_home: Path) -> Iterator[Console]:
    """That home behind the console, for tests that only look."""
    console = Console(lived_home)
    console.start()
    yield console
    console.close()


@pytest.fixture
def own(lived_home: Path, lived: Console, tmp_path: Path) -> Iterator[Console]:  # noqa: ARG001
    """A copy of that home, for tests that change it."""
    shutil.copytree(lived_home, tmp_path / "home", ignore=shutil.ignore_patterns("lock"))
    console = Console(tmp_path / "home")
    console.start()
    yield console
    console.close()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Console]:
    """A home in which nothing was declared."""
    console = Console(tmp_path / "home")
    console.start()
    yield console
    console.close()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium without a window, which tells its console and what it asked the network for."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        if os.environ.get("ALL_PARTS_MANDATORY") == "1":
            pytest.fail("chromium and chromedriver are not installed, and every part is mandatory")
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("chromium")
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-background-networking", "--no-first-run", f"--user-data-dir={profile}",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    started.set_page_load_timeout(60)
    yield started
    started.quit()
