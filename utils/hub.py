"""Files of repositories on the Hugging Face hub, `hf://owner/name[@revision]`, which are downloaded into its cache."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from utils.errors import UserError, errors_only, one_line
from utils.files import file_hash, not_written

WEIGHTS = "model.safetensors"
SITES = r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/"
MEANT = re.compile(rf"hf:|huggingface:|{SITES}", re.IGNORECASE)
ADDRESS = re.compile(r"hf://(\w[\w.-]*/\w[\w.-]*)(?:@([\w./+-]+))?", re.ASCII)
NEARLY = re.compile(
    rf"(?:hf:/*|huggingface:/*|{SITES})(?:models/)?(\w[\w.-]*/\w[\w.-]*)(?:(?:@|/(?:tree|blob|resolve)/)([\w.+-]+))?",
    re.IGNORECASE | re.ASCII,
)
CACHED = re.compile(r"models--(.+)")  # name of the folder of a repository in the cache
SHA256_DIGITS, SHA1_DIGITS = 64, 40
NO_ACCESS = (401, 403)  # statuses of HTTP


def is_hub_address(place: str | Path) -> bool:
    """Return whether a place is meant to be an address on the hub, which may be malformed, rather than a path."""
    return MEANT.match(str(place)) is not None and not os.path.lexists(place)


def local_file(place: str | Path, prefer_cache: bool = False) -> Path:
    """Return a path as it is; for an address on the hub, that of its weights in the local cache, see `download`."""
    if not is_hub_address(place):
        return Path(place)
    repository, revision = parse_address(str(place))
    return download(repository, [WEIGHTS], revision, prefer_cache)


def parse_address(address: str) -> tuple[str, str | None]:
    """Return repository and revision of an address; the revision is None if it has none.

    Raises:
        UserError: The address is malformed.
    """
    match = ADDRESS.fullmatch(address)
    if match is not None:
        return match[1], match[2]
    near = NEARLY.match(address)
    hint = f" (did you mean '{_to_address(*near.groups())}'?)" if near is not None else ""
    raise UserError(
        f"{address!r} is not an address on the Hugging Face hub{hint}; allowed: hf://owner/name, or "
        "hf://owner/name@revision with a branch, tag or commit"
    )


def download(repository: str, names: Sequence[str], revision: str | None = None, prefer_cache: bool = False) -> Path:
    """Return the path, in the hub's local cache, of the first of some files that a repository contains.

    Without a network, files that were downloaded before are found in the cache. Folder of the cache, offline mode and
    tokens are set as for the package huggingface_hub: HF_HOME, HF_HUB_OFFLINE, HF_TOKEN.

    Args:
        repository: Its name, `owner/name`.
        names: Names of the files.
        revision: Branch, tag or commit; None for the newest.
        prefer_cache: Whether a file in the cache is used without asking whether the hub has a newer one.

    Raises:
        MachineError: The disk is full or broken.
        UserError: The repository, revision or file does not exist or cannot be read, or the file is damaged.
    """
    from huggingface_hub import hf_hub_download  # noqa: PLC0415, a slow import that most commands do not need
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError  # noqa: PLC0415

    address = _to_address(repository, revision)
    for local in (True, False) if prefer_cache else (False,):
        for name in names:
            try:
                with errors_only("huggingface_hub"):  # it remarks on each attempt
                    path = Path(hf_hub_download(repository, name, revision=revision, local_files_only=local))
            except LocalEntryNotFoundError as error:
                if not local:
                    raise UserError(f"{address}: {_problem(error, repository, revision)}") from error
            except EntryNotFoundError:
                continue
            except Exception as error:  # of many types, those of the HTTP client among them
                raise UserError(f"{address}: {_problem(error, repository, revision)}") from error
            else:
                _require_hash(path, address)
                return path
    raise UserError(
        f"{address} contains no {' or '.join(names)}; name a repository with a network of this project, whose files "
        "`tools/export.py --format hub` writes"
    )


def cached_repository(path: Path) -> str | None:
    """Return the repository of a file in the hub's cache as `owner--name`, or None for another file."""
    folders = path.absolute().parents
    if len(folders) < 3 or folders[1].name != "snapshots":
        return None
    match = CACHED.fullmatch(folders[2].name)
    return match[1] if match is not None else None


def _to_address(repository: str, revision: str | None) -> str:
    return f"hf://{repository}" + (f"@{revision}" if revision else "")


def _problem(error: Exception, repository: str, revision: str | None) -> str:
    """Return what went wrong and what to do, by the error of huggingface_hub.

    Raises:
        UserError: A file cannot be written; MachineError if the disk is full or broken.
    """
    from huggingface_hub import constants, errors  # noqa: PLC0415, as above

    page, cache = f"{constants.ENDPOINT}/{repository}", constants.HF_HUB_CACHE
    log_in = "log in with `hf auth login`, or set HF_TOKEN to a token that may read it"
    answers = {  # the first is also of the kind of the second
        errors.GatedRepoError: f"the repository is gated; ask for access on {page}, then {log_in}",
        errors.RepositoryNotFoundError: f"no such repository, or a private one; check the name, or {log_in}",
        errors.RevisionNotFoundError: f"no revision {revision!r}; {page} lists branches, tags and commits",
        errors.HFValidationError: f"not a name of a repository ({one_line(error)}); check the name",
    }
    for kind, text in answers.items():
        if isinstance(error, kind):
            return text
    unreachable = isinstance(error, errors.LocalEntryNotFoundError)
    cause = (error.__cause__ or error) if unreachable else error
    if getattr(getattr(cause, "response", None), "status_code", None) in NO_ACCESS:
        return f"the hub refuses access ({one_line(cause)}); {log_in}"
    if unreachable:
        reason = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"no connection ({one_line(cause)})"
        return (
            f"{reason}, and the cache {cache} does not contain it; with network access, `hf download {repository}` "
            "fills a cache that can be copied"
        )
    if isinstance(error, OSError) and error.errno:
        raise not_written(cache, error) from error
    return f"the download failed ({one_line(error)}); try again"


def _require_hash(path: Path, address: str) -> None:
    """Check the content of a file in the cache, whose name there is the hash that the hub stated.

    Raises:
        UserError: The content has another hash.
    """
    if not path.is_symlink():  # on systems without links, the cache does not record the hash
        return
    blob = Path(os.path.normpath(path.parent / path.readlink()))
    if len(blob.name) == SHA256_DIGITS:
        found = file_hash(blob)
    elif len(blob.name) == SHA1_DIGITS:  # a small file, which git itself stores
        found = file_hash(blob, hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False))
    else:
        return
    if found != blob.name:
        raise UserError(
            f"{address}: the content of {blob} does not match its hash: expected {blob.name}, got {found}; delete this "
            "file, and the next call downloads it again"
        )
