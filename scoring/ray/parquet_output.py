"""A folder of Parquet files, on a disk or in an object store, that many workers write to."""

import sys
from collections.abc import Iterator, Sequence

import pyarrow.parquet as pq
from pyarrow import RecordBatch, fs

from scoring.done_images import DoneImages, name_hash
from scoring.output import check_same_run
from scoring.parquet import arrow_errors
from scoring.ray.remote_files import open_filesystem
from scoring.records import RUN_FIELDS, ScoreRow
from utils.errors import UserError

SUFFIX = ".parquet"
MAGIC = b"PAR1"  # first and last bytes of a complete Parquet file


class ParquetFolder:
    """Manage the Parquet files in an output folder.

    Args:
        place: Path or URI.
        columns: Names of the fields of a row.

    Raises:
        UserError: The object store is unknown or does not answer.
    """

    def __init__(self, place: str, columns: Sequence[str]):
        self.place = place
        self.columns = tuple(columns)
        self.filesystem, self.path = open_filesystem(place.rstrip("/"))
        self.failed = 0  # images without scores in the rows of earlier runs

    def check_overwrite(self, resume: bool, overwrite: bool) -> None:
        """Check, before anything is scored, that no results are lost or mixed.

        Raises:
            UserError: The folder contains results without --resume or --overwrite, or it is a file.
        """
        if self.files() and not (resume or overwrite):
            raise UserError(
                f"--output: {self.place} already contains {SUFFIX} files; --resume continues them, --overwrite "
                "replaces them"
            )

    def files(self) -> list[str]:
        """Return the paths of the Parquet files, sorted."""
        with arrow_errors(f"--output: {self.place} cannot be read"):
            if self.filesystem.get_file_info(self.path).type == fs.FileType.File:
                raise UserError(f"--output: {self.place} is a file; name a folder")
            found = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(info.path for info in found if info.type == fs.FileType.File and info.path.endswith(SUFFIX))

    def clear(self) -> None:
        """Remove the Parquet files."""
        for path in self.files():
            self._remove(path)

    def done(self, run_fields: ScoreRow) -> DoneImages:
        """Return the images that have rows; an incomplete file is removed and reported.

        Raises:
            UserError: The folder contains other files, or results of another network.
        """
        hashes = bytearray()
        for path in self.files():
            if self._is_incomplete(path):
                print(f"{path} was incomplete and is removed; its images are scored again", file=sys.stderr)
                self._remove(path)
                continue
            for batch in self._batches(path, ["path", "error", *run_fields]):
                if batch.num_rows:
                    check_same_run(batch.slice(0, 1).to_pylist()[0], run_fields, path)
                hashes += b"".join(map(name_hash, batch["path"].to_pylist()))
                self.failed += batch.num_rows - batch["error"].null_count
        return DoneImages(hashes)

    def kept(self) -> Iterator[ScoreRow]:
        """Yield all rows."""
        for path in self.files():
            for batch in self._batches(path, list(self.columns)):
                yield from batch.to_pylist()

    def count(self) -> tuple[int, list[str]]:
        """Return the number of rows, and the errors in them."""
        rows, errors = 0, []
        for path in self.files():
            for batch in self._batches(path, ["error"]):
                rows += batch.num_rows
                errors += batch["error"].drop_null().to_pylist()
        return rows, errors

    def _batches(self, path: str, columns: list[str]) -> Iterator[RecordBatch]:
        with (
            arrow_errors(f"--output: {path} cannot be read as Parquet"),
            pq.ParquetFile(path, filesystem=self.filesystem) as file,
        ):
            missing = [name for name in ("path", "error", *RUN_FIELDS) if name not in file.schema_arrow.names]
            if missing:
                raise UserError(
                    f"--output: {path} was not written by inference.py: no column {', '.join(missing)}; name another "
                    "folder"
                )
            if tuple(file.schema_arrow.names) != self.columns:
                raise UserError(f"--output: {path} has other columns than those of this run; --overwrite replaces it")
            yield from file.iter_batches(columns=columns)

    def _is_incomplete(self, path: str) -> bool:
        """Return whether a file is empty, or begins as Parquet but does not end as Parquet."""
        with self.filesystem.open_input_file(path) as file:
            head = file.read(len(MAGIC))
            file.seek(max(file.size() - len(MAGIC), 0))
            return head in (b"", MAGIC) and file.read(len(MAGIC)) != MAGIC

    def _remove(self, path: str) -> None:
        with arrow_errors(f"--output: {path} cannot be removed"):
            self.filesystem.delete_file(path)
