"""A folder of Parquet files, on a disk or in an object store, that many workers write into as their rows come."""

import posixpath
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from scoring.output import SAME, require_same
from scoring.ray.remote_files import filesystem_of
from utils.errors import UserError, one_line

SUFFIX = ".parquet"
MAGIC = b"PAR1"  # begins a Parquet file, and ends a whole one


class ParquetFolder:
    """The folder.

    Args:
        place: Path or URI.

    Raises:
        UserError: A store that is not known, or that does not answer.
    """

    def __init__(self, place: str):
        self.place = place
        self.filesystem, self.path = filesystem_of(place.rstrip("/"))
        self.written = self.failed = 0

    def check_overwrite(self, resume: bool, overwrite: bool) -> None:
        """Refuses to lose or to mix what is there, before anything is scored.

        Raises:
            UserError: There are parts and neither is meant, or there is a file by this name.
        """
        if self._info(self.path).type == fs.FileType.File:
            raise UserError(f"--output: {self.place} is a file; name a folder")
        if self.files() and not (resume or overwrite):
            raise UserError(
                f"--output: {self.place} holds {SUFFIX} files already; --resume goes on with them, --overwrite replaces"
                " them"
            )

    def files(self) -> list[str]:
        """The parts that are there, by name."""
        try:
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"--output: {self.place} cannot be read: {one_line(error)}") from error
        return sorted(info.path for info in found if info.type == fs.FileType.File and info.path.endswith(SUFFIX))

    def clear(self) -> None:
        """Removes the parts."""
        for path in self.files():
            self._remove(path)

    def done(self, same: dict[str, Any]) -> Counter[str]:
        """How many records each image has; a part that a kill has cut off is removed, and said.

        Raises:
            UserError: Something else lies there, or results of another network.
        """
        done: Counter[str] = Counter()
        for path in self.files():
            if self._is_cut_off(path):
                print(f"{path} was cut off: removed, and its images are scored again", file=sys.stderr)
                self._remove(path)
                continue
            for batch in self._batches(path, ["path", "error", *SAME]):
                if batch.num_rows:
                    require_same(batch.slice(0, 1).to_pylist()[0], same, path)
                done.update(batch["path"].to_pylist())
        return done

    def count(self) -> tuple[int, int]:
        """How many records are there, and how many of them could not be scored."""
        rows = failed = 0
        for path in self.files():
            for batch in self._batches(path, ["error"]):
                rows += batch.num_rows
                failed += batch.num_rows - batch["error"].null_count
        return rows, failed

    def errors(self, limit: int) -> list[str]:
        """The first errors."""
        found: list[str] = []
        for path in self.files():
            for batch in self._batches(path, ["error"]):
                found += [error for error in batch["error"].to_pylist() if error is not None]
            if len(found) >= limit:
                break
        return found[:limit]

    def _batches(self, path: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
        try:
            with pq.ParquetFile(path, filesystem=self.filesystem) as part:
                missing = [name for name in columns if name not in part.schema_arrow.names]
                if missing:
                    raise UserError(f"--output: {path} is none of our results: no column {', '.join(missing)}")
                yield from part.iter_batches(columns=columns)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"--output: {path} cannot be read as Parquet: {one_line(error)}") from error

    def _is_cut_off(self, path: str) -> bool:
        """Whether a file begins as Parquet, or is empty, and does not end as Parquet."""
        with self.filesystem.open_input_file(path) as file:
            head = file.read(len(MAGIC))
            file.seek(max(file.size() - len(MAGIC), 0))
            return head in (b"", MAGIC) and file.read(len(MAGIC)) != MAGIC

    def _info(self, path: str) -> fs.FileInfo:
        try:
            return self.filesystem.get_file_info(path)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"--output: {self.place} cannot be read: {one_line(error)}") from error

    def _remove(self, path: str) -> None:
        try:
            self.filesystem.delete_file(path)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"--output: {posixpath.basename(path)} cannot be removed: {one_line(error)}") from error
