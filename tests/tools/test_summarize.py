"""summarize on hand-made runs whose figures are known, and once on a real one, recomputed from its predictions."""

import io
import re
import shutil
import subprocess
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from experiments.results.statistics import compare, signed_rank_test
from tests.running import train
from tests.tools.made_runs import OURS, RMSE, THEIRS, csv_of, shown, tables, write_run
from tests.tools.recomputed import recomputed
from tools.summarize import main
from utils.errors import UserError

UNION = [{"name": "koniq10k", "root": "a"}, {"name": "bid", "title": "Blur", "root": "b"}]


def test_means_medians_and_published_rows(runs, capsys):
    page = shown(capsys, runs, "--metrics", "srcc,rmse,jsd")
    means, medians = tables(page)
    assert [row["run"] for row in means] == ["ours_full", "theirs", "RichIQA, published", "TReS, published"]
    assert means[0] == {
        **{"run": "ours_full", "database": "koniq10k", "splits": "6"},
        "SRCC ↑": f"**{np.mean(OURS):.4f} ± {np.std(OURS, ddof=1):.4f}**",
        "RMSE ↓": f"**{np.mean(RMSE):.4f} ± {np.std(RMSE, ddof=1):.4f}**",
        "JSD ↓": f"**{np.mean(OURS) / 10:.4f} ± {np.std(OURS, ddof=1) / 10:.4f}**",
    }
    assert means[1]["SRCC ↑"] == f"{np.mean(THEIRS):.4f} ± {np.std(THEIRS, ddof=1):.4f}"
    assert list(means[2].values()) == ["RichIQA, published", "koniq10k", "10", "0.9383", "0.1727", "–"]
    assert list(means[3].values()) == ["TReS, published", "koniq10k", "10", "0.9100", "0.2006", "–"]
    assert "Published: mean of 10 other splits" in page
    assert [row["SRCC ↑"] for row in medians] == [f"{np.median(OURS):.4f}", f"{np.median(THEIRS):.4f}"]
    assert "published" not in shown(capsys, runs, "--metrics", "jsd")
    lines = page.splitlines()
    assert len({len(line) for line in lines[2:8]}) == 1  # padded
    assert re.fullmatch(r"\| -+ \| -+ \| -+: \| -+: \| -+: \| -+: \|", lines[3])


def test_the_numbers_of_bid(tmp_path, capsys):
    run = write_run(tmp_path, "bid", [{"srcc": 0.9, "plcc": 0.91, "rmse": 0.5}], dataset="bid")
    (means,) = tables(shown(capsys, run))  # one split: no medians
    assert means[0]["SRCC ↑"] == "0.9000"
    assert list(means[1].values()) == ["RichIQA, published", "bid", "10", "0.8998", "0.9085", "0.5159"]
    assert list(means[2].values()) == ["HyperIQA, published", "bid", "10", "0.8779", "0.8826", "0.6103"]


def test_csv_has_the_numbers_in_full(runs, capsys):
    table = csv_of(capsys, runs, "--baseline", "theirs")
    assert [*table.columns] == [
        *("selection", "splits", "mean", "std", "median", "t_p", "corrected_p", "wilcoxon_p", "difference"),
        *("published", "paired_splits", "wilcoxon_n"),
    ]
    assert len(table) == 2 * 3
    row = table.loc["ours_full", "koniq10k", "srcc"]
    assert (row["selection"], row["splits"], row["published"]) == ("last", 6, 0.9383)
    assert row["mean"] == pytest.approx(np.mean(OURS), rel=1e-13)
    assert row["std"] == pytest.approx(np.std(OURS, ddof=1), rel=1e-13)
    assert row["median"] == pytest.approx(np.median(OURS), rel=1e-13)
    without = ["t_p", "corrected_p", "wilcoxon_p", "wilcoxon_n", "difference"]
    assert table.loc["theirs"][without].isna().all(axis=None)
    assert np.isnan(table.loc["ours_full", "koniq10k", "jsd"]["published"])


def test_paired_tests(runs, capsys):
    row = csv_of(capsys, runs, "--baseline", runs / "theirs").loc["ours_full", "koniq10k", "srcc"]
    assert row["difference"] == pytest.approx(np.mean(OURS) - np.mean(THEIRS))
    assert row["t_p"] == pytest.approx(ttest_rel(OURS, THEIRS).pvalue, rel=1e-12)
    assert row["corrected_p"] == pytest.approx(compare(np.array(OURS), np.array(THEIRS), 1 / 4).corrected_p, rel=1e-12)
    assert row["wilcoxon_p"] == signed_rank_test(np.array([10, -5, 15, 20, 20, 5]))  # thousandths
    assert row["wilcoxon_n"] == 6
    page = shown(capsys, runs, "--baseline", "theirs", "--metrics", "srcc, rmse,jsd,srcc")
    assert [row["run"] for row in tables(page)[0][:2]] == ["ours_full", "theirs"]
    line = tables(page)[2][0]
    assert (line["metric"], line["run"], line["paired splits"]) == ("SRCC ↑", "ours_full", "6")
    assert line["difference"] == f"{np.mean(OURS) - np.mean(THEIRS):+.4f}"
    assert line["p, t test"] == f"{ttest_rel(OURS, THEIRS).pvalue:.3g}"
    assert line["p, corrected t"] == f"{row['corrected_p']:.3g}"
    assert line["p, Wilcoxon"] == f"{row['wilcoxon_p']:.3g}"
    for words in (
        "test images/training images (Nadeau & Bengio 2003)",
        "2/2^n (0.0625 for n = 5; 0.0312 for n = 6), so fewer than 6 splits cannot reach .05",
        "For random splits, use the corrected p",
        "None is corrected for the number of comparisons (3)",
    ):
        assert words in page


def test_the_footnote_counts_differing_splits(runs, capsys):
    write_run(runs, "near", [{"srcc": s} for s in [*OURS[:5], THEIRS[5]]])
    arguments = (runs / "near", "--baseline", runs / "theirs", "--metrics", "srcc")
    assert "smallest p is 2/2^n (0.0625 for n = 5)" in shown(capsys, *arguments)
    row = csv_of(capsys, *arguments).loc["near", "koniq10k", "srcc"]
    assert (row["paired_splits"], row["wilcoxon_n"]) == (6, 5)


def test_only_the_same_splits_are_paired(runs, capsys):
    write_run(runs, "other", [{"srcc": s} for s in RMSE], hashes={2: "x", 5: "y"}, wanted=7)
    row = csv_of(capsys, runs / "other", "--baseline", runs / "theirs").loc["other", "koniq10k", "srcc"]
    kept = [0, 2, 3, 5]
    ours, theirs = np.array(RMSE)[kept], np.array(THEIRS)[kept]
    assert (row["splits"], row["paired_splits"]) == (6, 4)
    assert row["difference"] == pytest.approx((ours - theirs).mean())
    assert row["t_p"] == pytest.approx(ttest_rel(ours, theirs).pvalue, rel=1e-9)
    page = shown(capsys, runs / "other", "--baseline", runs / "theirs")
    assert "other on koniq10k, splits 2, 5 are not the same as in theirs (hash in split.json)" in page
    assert "**" not in page  # nothing is best over different splits
    elsewhere = write_run(runs, "elsewhere", [{"srcc": 0.5}] * 6, hashes=dict.fromkeys(range(1, 7), "x"))
    with pytest.raises(UserError, match=r"no run shares a split with theirs.*splits 1, 2, 3, 4, 5, 6 are not"):
        main([str(elsewhere), "--baseline", str(runs / "theirs")])


def test_one_common_split_and_no_difference(runs, capsys):
    write_run(runs, "same", [{"srcc": s} for s in THEIRS])
    write_run(runs, "short", [{"srcc": 0.95}])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = shown(capsys, runs / "theirs", runs / "same", runs / "short", "--baseline", "theirs")
    same, short = tables(page)[2]
    assert list(same.values()) == ["SRCC ↑", "same", "koniq10k", "6", "+0.0000", "–", "–", "–"]
    assert list(short.values()) == ["SRCC ↑", "short", "koniq10k", "1", "+0.0500", "–", "–", "–"]
    assert "short on koniq10k, splits 2, 3, 4, 5, 6 are not finished in both" in page


def test_other_labels_keep_metrics_of_the_dos_apart(runs, capsys):
    write_run(runs, "gaussian", [{"srcc": s, "jsd": 0.2} for s in OURS], labels="other")
    page = shown(capsys, runs / "gaussian", runs / "theirs", "--baseline", "theirs")
    assert [line["metric"] for line in tables(page)[2]] == ["SRCC ↑"]
    assert "gaussian on koniq10k: trained and tested with other labels than theirs" in page
    gaussian, theirs = tables(page)[0][:2]
    assert "**" in gaussian["SRCC ↑"]
    assert "**" not in gaussian["JSD ↓"] + theirs["JSD ↓"]


def test_other_mos_labels_keep_everything_apart(runs, capsys):
    write_run(runs, "z_scores", [{"srcc": s, "jsd": 0.2} for s in OURS], labels="other", mos="other")
    page = shown(capsys, runs, "--baseline", "theirs", "--metrics", "srcc,jsd")
    assert [line["run"] for line in tables(page)[2]] == ["ours_full", "ours_full"]
    assert "Not compared: z_scores on koniq10k, tested with other MOS labels or on another scale than theirs" in page
    assert "**" not in page
    with pytest.raises(UserError, match=r"no run shares .* the same MOS labels\. Not compared: z_scores"):
        main([str(runs / "z_scores"), "--baseline", str(runs / "theirs")])


def test_sos_labels_of_the_hypothesis_are_marked(runs, capsys):
    write_run(runs, "other", [{"srcc": s, "sos_srcc": s} for s in OURS], sos="hypothesis")
    page = shown(capsys, runs, "--metrics", "srcc,sos_srcc")
    assert "SOS SRCC of other on koniq10k: the SOS labels are a function of the MOS labels" in page
    assert "hypothesis" not in shown(capsys, runs, "--metrics", "srcc")
    assert "hypothesis" not in shown(capsys, runs / "theirs")


def test_no_negative_zero(tmp_path, capsys):
    for name, srcc in (("one", -1e-9), ("other", -2e-9)):
        write_run(tmp_path, name, [{"srcc": srcc}])
    assert "-0.0" not in shown(capsys, tmp_path, "--baseline", "one")


def test_best_as_it_is_shown(tmp_path, capsys):
    values = {"near": (0.90001, 0.5), "best": (0.90004, 0.6), "worse": (0.8, 0.7)}
    for name, (srcc, coverage) in values.items():
        write_run(tmp_path, name, [{"srcc": srcc, "coverage_50": coverage}])
    (means,) = tables(shown(capsys, tmp_path, "--metrics", "srcc,coverage_50"))
    assert [row["SRCC ↑"] for row in means[:3]] == ["**0.9000**", "**0.9000**", "0.8000"]
    assert [row["COVERAGE 50"] for row in means[:3]] == ["0.6000", "0.5000", "0.7000"]


def write_union(runs, name, dataset, off=0.0):
    both = [{"koniq10k": {"srcc": s - off, "rmse": 0.2}, "Blur": {"srcc": s - 0.1, "rmse": 0.6}} for s in OURS]
    return write_run(runs, name, both, dataset=dataset)


def test_several_databases(runs, capsys):
    union = write_union(runs, "union", UNION)
    page = shown(capsys, union, runs / "ours_full", runs / "theirs", "--baseline", "theirs", "--metrics", "srcc,rmse")
    means, _, differences = tables(page)
    assert [(row["run"], row["database"]) for row in means] == [
        *(("union", "koniq10k"), ("ours_full", "koniq10k"), ("theirs", "koniq10k")),
        *(("union", "Blur"), ("union", "mean"), ("RichIQA, published", "koniq10k"), ("TReS, published", "koniq10k")),
        *(("RichIQA, published", "Blur"), ("HyperIQA, published", "Blur")),
    ]
    values = {(row["run"], row["database"]): row for row in means}
    assert values["union", "koniq10k"]["SRCC ↑"].startswith(f"**{np.mean(OURS):.4f}")
    assert values["union", "Blur"]["SRCC ↑"].startswith(f"{np.mean(OURS) - 0.1:.4f}")
    assert values["union", "mean"]["SRCC ↑"].startswith(f"{np.mean(OURS) - 0.05:.4f}")
    assert values["union", "mean"]["RMSE ↓"] == "–"
    assert values["RichIQA, published", "Blur"]["RMSE ↓"] == "0.5159"
    assert [(line["metric"], line["run"], line["database"]) for line in differences] == [
        (metric, run, "koniq10k") for metric in ("SRCC ↑", "RMSE ↓") for run in ("union", "ours_full")
    ]
    assert differences[0]["difference"] == f"{np.mean(OURS) - np.mean(THEIRS):+.4f}"
    assert "union on Blur, on which theirs was not tested" in page
    assert "on mean" not in page


def test_means_over_databases_are_compared_whatever_their_order(runs, capsys):
    union, turned = write_union(runs, "union", UNION), write_union(runs, "turned", UNION[::-1], off=0.02)
    differences = csv_of(capsys, union, turned, "--baseline", "union", "--metrics", "srcc")["difference"]["turned"]
    assert differences.to_dict() == pytest.approx(
        {("koniq10k", "srcc"): -0.02, ("Blur", "srcc"): 0, ("mean", "srcc"): -0.01}
    )


def test_release_is_marked_as_optimistic(runs, capsys):
    for form in ("markdown", "latex"):
        page = shown(capsys, runs, "--selection", "release", "--format", form)
        assert "Selection release: each metric at its best epoch on the test part: optimistic" in page
        assert f"{np.mean(OURS) * 1.1:.4f}" in page
        assert "optimistic" not in shown(capsys, runs, "--format", form).replace("p values are too optimistic", "")
    assert main([str(runs), "--selection", "release", "--format", "csv"]) == 0
    captured = capsys.readouterr()
    assert "optimistic" in captured.err
    assert set(pd.read_csv(io.StringIO(captured.out))["selection"]) == {"release"}


def test_latex(runs, capsys):
    page = shown(capsys, runs, "--baseline", "theirs", "--format", "latex")
    assert r"ours\_full & koniq10k & 6 & \textbf{0.9200 $\pm$ 0.0145} & " in page
    assert r"\begin{tabular}{llrrrr}" in page
    assert r"run & database & splits & SRCC $\uparrow$ & RMSE $\downarrow$ & JSD $\downarrow$ \\" in page
    assert r"JSD $\downarrow$ & ours\_full & koniq10k & 6 & $-$0.0080 &" in page
    assert r"Nadeau \& Bengio" in page
    for rule in ("toprule", "midrule", "bottomrule", "end{tabular}", "end{table*}"):
        assert page.count(f"\\{rule}") == 3
    lines = [line for line in page.splitlines() if not line.startswith("%")]
    for line in lines:
        assert not re.search(r"(?<!\\)[_#^~]|(?<![\\{])%|[±↑↓–]|\*\*", line), line
    bare = "\n".join(lines).replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize("options", ["", "twocolumn"])
def test_latex_is_set_within_the_page(runs, tmp_path, options, capsys):
    write_run(runs, "größe+1.0_x", [{f"metric_{k}": 0.5 for k in range(20)} | {"srcc": 0.9}])
    metrics = ",".join(["srcc", *(f"metric_{k}" for k in range(20))])
    page = shown(capsys, runs, "--baseline", "theirs", "--metrics", metrics, "--format", "latex")
    packages = r"\usepackage{booktabs,graphicx}"
    document = rf"\documentclass[{options}]{{article}}{packages}\begin{{document}}{page}\end{{document}}"
    (tmp_path / "page.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_metrics_that_are_not_defined(tmp_path, capsys):
    run = write_run(tmp_path, "odd", [{"srcc": 0.9, "jsd": 0.1}, {"srcc": float("nan"), "jsd": 0.3}])
    other = write_run(tmp_path, "even", [{"srcc": 0.8, "jsd": 0.1}, {"srcc": 0.7, "jsd": 0.2}])
    page = shown(capsys, run, other, "--baseline", "even")
    means, medians, differences = tables(page)
    assert (means[0]["SRCC ↑"], means[0]["JSD ↓"]) == ("–", f"0.2000 ± {0.1 * 2**0.5:.4f}")
    assert medians[0]["SRCC ↑"] == "–"
    assert [line["metric"] for line in differences] == ["JSD ↓"]
    assert "odd on koniq10k: SRCC of split 2 is not defined" in page


@pytest.mark.parametrize(
    ("of_run", "labels", "reason"),
    [
        ({"srcc": None, "jsd": 0.1}, "other", r"JSD \(against other labels\) and SRCC \(missing or not defined in"),
        ({"srcc": None}, "l", r"SRCC, JSD \(missing or not defined in a split of either run\)"),
    ],
)
def test_where_nothing_can_be_compared_there_is_no_table_of_it(of_run, labels, reason, tmp_path, capsys):
    write_run(tmp_path, "base", [{"srcc": 0.8, "jsd": 0.1}] * 2)
    write_run(tmp_path, "run", [of_run] * 2, labels=labels)
    page = shown(capsys, tmp_path, "--baseline", "base", "--metrics", "srcc,jsd")
    assert re.search(rf"- No differences from base: none of the metrics can be compared, {reason}", page)
    assert len(tables(page)) == 2
    assert "Wilcoxon" not in page
    assert csv_of(capsys, tmp_path, "--baseline", "base")["difference"].isna().all()
    assert "No difference" not in shown(capsys, tmp_path, "--metrics", "srcc,jsd")


def test_output_takes_its_form_from_the_suffix(runs, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    for suffix, form in ((".md", "markdown"), (".tex", "latex"), (".csv", "csv")):
        path = tmp_path / "out" / f"table{suffix}"
        assert "written to" in shown(capsys, runs, "--output", path)
        assert path.read_text(encoding="utf-8") == shown(capsys, runs, "--format", form)
    shown(capsys, runs, "--output", tmp_path / "out" / "table.txt", "--format", "csv")
    assert (tmp_path / "out" / "table.txt").read_text().startswith("run,database,")
    assert not list((tmp_path / "out").glob(".*"))
    with pytest.raises(UserError, match=r"table\.doc should end with \.md, \.tex, \.csv"):
        main([str(runs), "--output", "table.doc"])


def test_a_real_run_recomputed_from_its_predictions(quick, tmp_path, capsys):
    arguments = ("protocol.splits=3", "train.epochs=1", "protocol.train_fraction=0.5", "optim.lr=1e-3")
    assert train(quick, *arguments) == 0
    capsys.readouterr()
    expected = pd.DataFrame(
        [recomputed(path) for path in sorted((tmp_path / "runs" / "quick").glob("split_*/predictions.csv"))]
    )
    assert len(expected) == 3
    assert expected["srcc"].nunique() == 3
    table = csv_of(capsys, tmp_path / "runs" / "quick").loc["quick", "koniq10k"]
    for name in expected:
        assert table["mean"][name] == pytest.approx(expected[name].mean(), rel=1e-6), name
        assert table["std"][name] == pytest.approx(expected[name].std(ddof=1), rel=1e-5), name
        assert table["median"][name] == pytest.approx(expected[name].median(), rel=1e-6), name
    means, _ = tables(shown(capsys, tmp_path / "runs"))
    assert means[0]["EMD ↓"] == f"{expected['emd'].mean():.4f} ± {expected['emd'].std(ddof=1):.4f}"
    assert len(means) == 3
