"""Wall seconds of the closed loop by phase, its client's CPU seconds, and the peak memory of all.

    python bench/loop.py            # the whole year
    python bench/loop.py --days 3   # about a hundredth, as CI runs it

Prints one JSON object: seconds by phase, rows, requests, peak memory, and whether the claims of
the demo held (a part of the year is not held to them).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> int:
    """Run the demo in a process of its own and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=0, help="days after March; 0 = the year")
    days: int = parser.parse_args().days
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(Path(sys.executable).with_name("mainspring")),
            *("demo", str(Path(folder) / "demo"), "--days", str(days), "--json"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout:
        print(done.stderr, file=sys.stderr)
        return 1
    figures = json.loads(done.stdout)
    figures["wall_s_all"] = round(sum(figures["wall_s"].values()), 1)
    figures["client_cpu_s"] = round(sum(figures.pop("cpu_s").values()), 1)
    shown = {name: value for name, value in figures.items() if name not in ("months", "claims")}
    print(json.dumps(shown, indent=2))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
