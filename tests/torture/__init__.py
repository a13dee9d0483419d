"""Attacks at length: crashes, full disks, hostile files, odd numbers, load. `make torture` runs them all.

A module of this folder holds one kind of attack and offers its `PARTS`, which `tests/torture/__main__.py` lists. Its
`test_*.py` runs the first few attempts of each part among the ordinary tests.
"""
