"""How much memory a process takes, as the kernel counts it."""

from pathlib import Path


def memory_mib(pid: int) -> float | None:
    """Give a process's memory in MiB: its fair share of shared pages where the kernel tells.

    None when the process is gone or the kernel does not say.
    """
    for file, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            text = Path("/proc", str(pid), file).read_text("ascii", "replace")
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    return None
