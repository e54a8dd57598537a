"""The small project of the story tests, and one whose training step waits."""

from datetime import timedelta
from pathlib import Path

from small_driver import HISTORY, PROJECT_FILE
from small_world import DAY, START, SmallWorld

from mainspring.api.client import Client

END = START + HISTORY * DAY

PAUSING = """
    import os, pathlib, time
    ms_marker = pathlib.Path(os.environ["MLFLOW_RUN_ID"] + ".at-work")
    told = [os.environ[name] for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN")]
    ms_marker.write_text(repr(told))
    print("at work, café", flush=True)
    while not pathlib.Path("go-on").exists():
        time.sleep(0.01)
"""
"""Put into the training step: it says where it is and waits for a file beside the home."""


def fill(client: Client) -> None:
    """Commit the small world's history, as its driver does before it answers."""
    world, since = SmallWorld(), START - timedelta(days=2)
    for name, arrival in (("parts", "known_at"), ("shocks", "told_at"), ("failures", "seen_at")):
        frames = [getattr(world, name)(day) for day in range(HISTORY + 1)]
        rows = frames[0].vstack(frames[1])
        for frame in frames[2:]:
            rows = rows.vstack(frame)
        known = rows.filter((rows[arrival] > since) & (rows[arrival] <= END))
        client.commit(name, known, token="driver:1")


def pausing_project(folder: Path) -> Path:
    """Write the small project with a training step that waits."""
    text = PROJECT_FILE.read_text("utf-8")
    begin = '    known = rows.filter(pl.col("label").is_not_null())'
    assert begin in text
    file = folder / "loop_project.py"
    file.write_text(text.replace(begin, PAUSING + begin, 1), "utf-8")
    return file
