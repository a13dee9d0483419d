"""Files of the Hugging Face hub, from a stand-in for it: what is found, and one clear error for each fault."""

import logging
import re

import huggingface_hub.constants
import pytest

from tests.hub import TOKEN
from utils.errors import MachineError, UserError
from utils.hub import cached_repository, download, is_hub_address, local_file, parse_address

WEIGHTS = {"model.safetensors": b"weights" * 100, "config.json": b"{}"}
ADDRESS = "hf://owner/name"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (ADDRESS, ("owner/name", None)),
        (f"{ADDRESS}@v1.0", ("owner/name", "v1.0")),
        ("hf://owner-2/some_name.v3@refs/pr/1", ("owner-2/some_name.v3", "refs/pr/1")),
    ],
)
def test_addresses(address, expected):
    assert is_hub_address(address)
    assert parse_address(address) == expected


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("hf:owner/name", ADDRESS),
        ("hf:/owner/name@v1", f"{ADDRESS}@v1"),
        ("HF://owner/name", ADDRESS),
        ("huggingface://owner/name", ADDRESS),
        ("https://huggingface.co/owner/name", ADDRESS),
        ("hf.co/owner/name/tree/v1", f"{ADDRESS}@v1"),
        ("https://huggingface.co/owner/name/blob/main/model.safetensors", f"{ADDRESS}@main"),
        ("hf://models/owner/name", ADDRESS),
        ("hf://owner/name/model.safetensors", ADDRESS),
        ("hf://owner/name@", ADDRESS),
        ("hf://name", None),
        ("hf://", None),
        ("hf://own er/name", None),
    ],
)
def test_a_malformed_address_names_the_one_that_was_meant(address, meant):
    hint = re.escape(f" (did you mean '{meant}'?)") if meant else ""
    with pytest.raises(UserError, match=rf"is not an address on the Hugging Face hub{hint}; allowed: hf://owner/name,"):
        local_file(address)


def test_a_file_is_a_file_whatever_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("owner/name", "best.pt", "~/best.pt", "s3://bucket/best.pt", "none", ""):
        assert not is_hub_address(place)
    (tmp_path / "hf:").mkdir()
    (tmp_path / "hf:" / "best.pt").write_bytes(b"")
    assert str(local_file("hf:/best.pt")) == "hf:/best.pt"


def test_a_repository_is_downloaded_once_and_then_found_without_a_network(hub, tmp_path, monkeypatch):
    commit = hub.push("owner/name", WEIGHTS)
    path = local_file(ADDRESS)
    assert path.read_bytes() == WEIGHTS["model.safetensors"]
    assert path == tmp_path / "cache" / "models--owner--name" / "snapshots" / commit / "model.safetensors"
    assert cached_repository(path) == "owner--name"
    assert [method for method, place in hub.requests if place.startswith("/large")] == ["GET"]
    assert local_file(ADDRESS) == path
    assert [method for method, place in hub.requests if place.startswith("/large")] == ["GET"]
    hub.status = 503
    assert local_file(ADDRESS) == path
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert local_file(ADDRESS) == path


def test_revisions(hub):
    commits = [hub.push("owner/name", {"model.safetensors": text}, text.decode()) for text in (b"v1", b"v2")]
    hub.push("owner/name", {"model.safetensors": b"pull request"}, "refs/pr/1")
    hub.commits["owner/name", "main"] = commits[1]
    for revision in ("v1", "v2", "refs/pr/1", commits[0]):
        expected = b"pull request" if "/" in revision else b"v1" if revision in ("v1", commits[0]) else b"v2"
        assert local_file(f"{ADDRESS}@{revision}").read_bytes() == expected
    assert local_file(ADDRESS).read_bytes() == b"v2"
    hub.push("owner/name", {"model.safetensors": b"v3"})
    assert local_file(ADDRESS, prefer_cache=True).read_bytes() == b"v2"
    assert local_file(ADDRESS).read_bytes() == b"v3"


def test_of_several_names_the_first_that_there_is_is_taken(hub):
    hub.push("owner/name", {"pytorch_model.bin": b"old", "a.safetensors": b"new"})
    names = ["model.safetensors", "pytorch_model.bin", "a.safetensors"]
    assert download("owner/name", names).read_bytes() == b"old"
    assert download("owner/name", names, prefer_cache=True).read_bytes() == b"old"
    with pytest.raises(UserError, match=r"^hf://owner/name@main contains no b or c; name a repository with a network"):
        download("owner/name", ["b", "c"], "main")


FAULTS = {
    "gated": r"the repository is gated; ask for access on http\S+/owner/name, then log in with `hf auth .* HF_TOKEN",
    "private": r"no such repository, or a private one; check the name, or log in with `hf auth login`, or set HF_TOKEN",
    "short": r"the download failed \(Consistency check failed.*; try again",
    "cut": r"the download failed \(.*\); try again",
    "changed": r"the content of \S+/blobs/[0-9a-f]{64} does not match its hash: expected [0-9a-f]{64}, got .*; delete",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_the_hub(fault, hub, tmp_path, capfd):
    hub.push("owner/name", WEIGHTS)
    if fault in ("gated", "private"):
        getattr(hub, fault).add("owner/name")
    else:
        hub.fault = fault
    logging.getLogger("huggingface_hub").addHandler(handler := logging.StreamHandler())  # as the package's own
    with pytest.raises(UserError, match=f"^{ADDRESS}: {FAULTS[fault]}") as error:
        local_file(ADDRESS)
    logging.getLogger("huggingface_hub").removeHandler(handler)
    assert "\n" not in str(error.value)
    assert "Trying to resume" not in capfd.readouterr().err
    if fault == "changed":
        blob = re.search(r"content of (\S+) does", str(error.value))[1]
        with pytest.raises(UserError, match="does not match its hash"):  # from the cache
            local_file(ADDRESS)
        (tmp_path / blob).unlink()
    hub.gated, hub.private, hub.fault = set(), set(), None
    assert local_file(ADDRESS).read_bytes() == WEIGHTS["model.safetensors"]


def test_a_small_file_has_the_hash_of_git(hub):
    hub.push("owner/name", WEIGHTS)
    assert download("owner/name", ["config.json"]).read_bytes() == b"{}"
    hub.push("owner/name", {"config.json": b"[1]"})
    hub.fault = "changed"
    with pytest.raises(UserError, match=r"blobs/[0-9a-f]{40} does not match its hash"):
        download("owner/name", ["config.json"])


def test_a_token_opens_a_private_repository_and_a_wrong_one_none(hub, monkeypatch):
    hub.push("owner/name", WEIGHTS)
    hub.private.add("owner/name")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UserError, match=r"^hf://owner/name: the hub refuses access \(.*\); log in with `hf auth"):
        local_file(ADDRESS)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert local_file(ADDRESS).read_bytes() == WEIGHTS["model.safetensors"]


def test_what_there_is_not(hub):
    hub.push("owner/name", {"config.json": b"{}"}, "v1")
    for address, message in {
        "hf://owner/other": "hf://owner/other: no such repository, or a private one; check the name",
        f"{ADDRESS}@v2": r"hf://owner/name@v2: no revision 'v2'; http\S+/owner/name lists branches, tags and commits",
        f"{ADDRESS}@v1": "hf://owner/name@v1 contains no model.safetensors; name a repository with a network",
        "hf://owner/a--b": r"hf://owner/a--b: not a name of a repository \(Cannot have -- or \.\.",
    }.items():
        with pytest.raises(UserError, match=f"^{message}"):
            local_file(address)


def test_no_network_and_an_empty_cache(hub, tmp_path, monkeypatch):
    hub.push("owner/name", WEIGHTS)
    hub.status = 503
    cache = re.escape(str(tmp_path / "cache"))
    with pytest.raises(UserError, match=rf"no connection \(.*503.*\), and the cache {cache} does not contain it; with"):
        local_file(ADDRESS)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=rf"HF_HUB_OFFLINE is set, and the cache {cache} does .*`hf download owner/name"
    ):
        local_file(ADDRESS)


def test_a_full_disk_is_a_problem_of_the_machine(hub, monkeypatch):
    hub.push("owner/name", WEIGHTS)
    full = OSError(28, "No space left on device")
    monkeypatch.setattr("huggingface_hub.file_download.http_get", lambda *_, **__: (_ for _ in ()).throw(full))
    with pytest.raises(MachineError, match="cache cannot be written: No space left on device"):
        local_file(ADDRESS)


def test_other_files_belong_to_no_repository(tmp_path):
    for name in ("best.pt", "models--owner--name/best.pt", "snapshots/abc/best.pt"):
        assert cached_repository(tmp_path / name) is None
