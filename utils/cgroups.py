"""Control groups: the limits that containers and cluster jobs set on Linux. Imports nothing heavy."""

from collections.abc import Iterator
from pathlib import Path

GROUP_FILE = Path("/proc/self/cgroup")  # lists the groups of this process
ROOT = Path("/sys/fs/cgroup")


def control_groups(controller: str, group_file: Path = GROUP_FILE, root: Path = ROOT) -> Iterator[Path]:
    """Yield the folders of the control groups of this process, from its own up to the root.

    Args:
        controller: Name of a controller, such as `memory` or `cpu`. Version 2 has one hierarchy for all controllers.
        group_file: File that lists the groups.
        root: Folder of the groups.
    """
    lines = group_file.read_text().splitlines() if group_file.exists() else []
    for controllers, path in (line.split(":", 2)[1:] for line in lines):
        if controllers == "" or controller in controllers.split(","):
            top = root / controllers
            folder = top / path.lstrip("/")
            yield from (group for group in (folder, *folder.parents) if group.is_relative_to(top))
