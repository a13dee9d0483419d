"""Uploaded files, which are deleted when the session that uploaded them ends.

Gradio gives files of the same content and name the same path, so that several sessions may share a file.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from utils.errors import UserError


class Uploads:
    """Record which session uses which uploaded file.

    Args:
        folder: Folder of all uploads.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).resolve()
        self._paths: dict[object, set[Path]] = {}  # by session
        self._lock = Lock()

    def claim(self, session: object, paths: Iterable[str | Path]) -> None:
        """Keep files until the session ends."""
        with self._lock:
            self._paths.setdefault(session, set()).update(map(Path, paths))

    def release(self, session: object) -> None:
        """Delete the files of a session that no other session uses."""
        with self._lock:
            mine = self._paths.pop(session, set())
            for path in mine.difference(*self._paths.values()):
                if self._contains(path):
                    path.unlink(missing_ok=True)

    @contextmanager
    def claimed(self, paths: Iterable[str | Path]) -> Iterator[list[str]]:
        """Keep files for the length of the block, and check that they are uploads: their names come from a request.

        Raises:
            UserError: A path is not one that the server returned for an upload.
        """
        paths = list(paths)
        for path in paths:
            if not isinstance(path, str) or not self._contains(Path(path)):
                raise UserError(
                    f"{path!r} is not an uploaded file; upload it, and pass the path that the server returns"
                )
        session = object()
        self.claim(session, paths)
        try:
            yield paths
        finally:
            self.release(session)

    def _contains(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.folder)
