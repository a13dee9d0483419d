"""Hashes of the labels of a database, and the units of its images."""

import shutil
from dataclasses import fields, make_dataclass, replace

import pandas as pd
import pytest

from datasets.database import load_databases
from datasets.ratings import Record
from tests.databases import write_database
from tests.running import train
from utils.config import load_config
from utils.errors import UserError


def hash_of(root, *overrides):
    (database,) = load_databases(load_config("configs/kadid10k.yaml", [f"dataset.root={root}", *overrides]))
    return database.hash


def test_hash_of_the_labels(tmp_path):
    made = write_database("kadid10k", tmp_path / "kadid10k")
    before = hash_of(made.root)
    moved = tmp_path / "archive" / "unpacked"
    shutil.copytree(made.root, moved)
    assert hash_of(tmp_path / "archive") == before  # lies elsewhere
    table = pd.read_csv(moved / "dmos.csv")
    table[::-1].to_csv(moved / "dmos.csv", index=False)
    assert hash_of(moved) == before  # another order
    assert hash_of(moved, "dataset.dos=max_entropy") != before
    table.loc[3, "dmos"] += 0.01
    table.to_csv(moved / "dmos.csv", index=False)
    assert hash_of(moved) != before


def test_hash_does_not_depend_on_how_a_record_is_declared(tmp_path):
    """Existing runs are resumed by this hash, so that reordered or new fields must not change it."""
    root = write_database("kadid10k", tmp_path / "kadid10k").root
    (database,) = load_databases(load_config("configs/kadid10k.yaml", [f"dataset.root={root}"]))
    names = [field.name for field in fields(Record)]
    declared_otherwise = make_dataclass("Record", [*reversed(names), "note"])
    records = {
        name: declared_otherwise(**{key: getattr(record, key) for key in names}, note="")
        for name, record in database.records.items()
    }
    assert replace(database, records=records).hash == database.hash
    for key, value in {"sos": 0.5, "reference": "I99", "split": "test", "image_set": "7"}.items():
        changed = {name: replace(record, **{key: value}) for name, record in database.records.items()}
        assert replace(database, records=changed).hash != database.hash


def test_hash_of_the_mos(tmp_path):
    root = write_database("kadid10k", tmp_path / "kadid10k").root

    def mos_hash_of(*overrides):
        (database,) = load_databases(load_config("configs/kadid10k.yaml", [f"dataset.root={root}", *overrides]))
        return database.mos_hash

    before = mos_hash_of()
    assert mos_hash_of("dataset.dos=max_entropy") == before
    assert mos_hash_of("dataset.sos_source=hypothesis") == before
    assert mos_hash_of("scale.low=0") != before
    table = pd.read_csv(root / "dmos.csv")
    table["var"] += 0.01
    table.to_csv(root / "dmos.csv", index=False)
    assert mos_hash_of() == before
    table.loc[3, "dmos"] += 0.01
    table.to_csv(root / "dmos.csv", index=False)
    assert mos_hash_of() != before


def test_units_are_those_of_the_split(tmp_path):
    root = write_database("kadid10k", tmp_path / "kadid10k").root

    def units_of(*overrides):
        (database,) = load_databases(load_config("configs/kadid10k.yaml", [f"dataset.root={root}", *overrides]))
        names = sorted(database.records)
        return names, [database.records[name].reference for name in names], database.units(names)

    names, references, units = units_of()
    assert units == references
    assert len(set(units)) < len(names)
    assert units_of("protocol.unit=image")[2] == names
    with pytest.raises(UserError, match="`image_set`, but the database does not state it"):
        units_of("protocol.unit=image_set")


def test_resume_refuses_changed_labels(quick, koniq_root):
    train(quick, "train.epochs=1")
    path = koniq_root / "koniq10k_scores_and_distributions.csv"
    table = pd.read_csv(path)
    table.loc[0, "SD"] += 0.001
    table.to_csv(path, index=False)
    with pytest.raises(UserError, match="the images or labels have changed since"):
        train(quick, "train.epochs=1", "--resume")


def test_resume_follows_a_moved_split_file(quick, tmp_path):
    train(quick, "train.epochs=1")
    first = tmp_path / "first.json"
    shutil.copy(tmp_path / "runs" / "quick" / "split_01" / "split.json", first)
    by_file = ["run.name=again", "protocol.method=file", "train.epochs=1"]
    train(quick, *by_file, f"dataset.split_file={first}")
    first.rename(tmp_path / "second.json")
    assert train(quick, *by_file, f"dataset.split_file={tmp_path / 'second.json'}", "--resume") == 0
