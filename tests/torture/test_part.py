"""The harness itself: attempts are made once, also across interruptions, and a defect keeps its folder."""

import pytest

from tests.torture.part import Outcome, Part, read_results, run_part


def test_an_interrupted_part_continues_where_it_stopped(tmp_path):
    made = []

    def attempt(number, folder, prepared):
        assert (prepared / "input").read_text() == "shared"
        assert not list(folder.iterdir())
        (folder / "left").write_text("")
        if number == 2 and number not in made:
            made.append(number)
            raise KeyboardInterrupt
        made.append(number)
        return Outcome(defect="broke" if number == 3 else "", figure=f"figure {number}" if number == 1 else "")

    part = Part("name", "attack", "holds", 5, attempt, lambda folder: (folder / "input").write_text("shared"))
    with pytest.raises(KeyboardInterrupt):
        run_part(part, tmp_path, 5)
    with (tmp_path / "name.jsonl").open("a") as file:
        file.write('\n{"number": 2, "def')  # cut short by a crash
    results = run_part(part, tmp_path, 5)
    assert made == [0, 1, 2, 2, 3, 4]
    assert [(result.number, result.defect, result.figure) for result in results] == [
        *((0, "", ""), (1, "", "figure 1"), (2, "", ""), (3, "broke", ""), (4, "", "")),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["name.jsonl", "name_3"]


def test_an_exception_is_a_defect(tmp_path):
    def attempt(number, folder, prepared):
        raise ValueError(f"no {number}\nmore")

    part = Part("name", "attack", "holds", 1, attempt)
    assert [result.defect for result in run_part(part, tmp_path, 1)] == ["ValueError: no 0"]
    assert "more" in (tmp_path / "name_0" / "traceback.txt").read_text()
    assert len(read_results(part, tmp_path)) == 1
