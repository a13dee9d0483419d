"""The tables of a summary of runs: one long table of numbers, and the tables for readers made from it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments.results.lines import SELECTION_NOTES
from experiments.results.published import PUBLISHED, PUBLISHED_SPLITS
from experiments.results.statistics import MOST_TIED, Comparison, compare, describe
from experiments.results.summary.runs import groups, metric_values
from experiments.results.tables import metric_heading
from utils.metrics import BETTER, HIGHER
from utils.tables import DASH, DIGITS, LATEX_NEEDS, captioned_latex, escape_markdown, mean_std, number, to_markdown

OURS = "RichIQA"  # method whose published numbers are shown beside ours
MOS_METRICS = ("srcc", "plcc", "krcc", "rmse", "plcc_raw", "rmse_raw")  # independent of SOS and DOS labels
NUMBERS = ("mean", "std", "median", "t_p", "corrected_p", "wilcoxon_p", "difference", "published")
COUNTS = ("paired_splits", "wilcoxon_n")
COLUMNS = ("run", "database", "selection", "metric", "splits", *NUMBERS, *COUNTS)
FEWEST_FOR_WILCOXON = 6  # 2 / 2^6 is the first p below .05
BOLD_NOTE = "Bold: the best mean on a database, if all runs on it have the same splits and labels."
PUBLISHED_NOTE = (
    "Published: mean of 10 other splits. The code released with RichIQA selects the best epoch on the test "
    "part, as selection release does."
)


class Pair(NamedTuple):
    """The splits that a run shares with the baseline, with the same MOS labels.

    `splits` has the columns of `read_runs`, and those of the baseline with the suffix `_base`; `same_labels` is whether
    the SOS and DOS labels are the same as well.
    """

    splits: pd.DataFrame
    same_labels: bool

    def covers(self, metric: str) -> bool:
        """Return whether both runs have the same labels for a metric."""
        return self.same_labels or metric in MOS_METRICS

    def compare(self, metric: str) -> Comparison:
        """Return the comparison of a metric with that of the baseline; all is NaN if the labels differ."""
        if not self.covers(metric):
            return Comparison()
        test_share = float((self.splits["test"] / self.splits["train"]).to_numpy().mean())
        both = (metric_values(self.splits[column], metric) for column in ("scores", "scores_base"))
        return compare(*both, test_share)


@dataclass(frozen=True)
class Section:
    """A table for readers; the first `text_columns` are text, the others numbers."""

    caption: str
    table: pd.DataFrame
    text_columns: int
    notes: list[str] = field(default_factory=list)


def summary_table(
    splits: pd.DataFrame, metrics: Sequence[str], selection: str, pairs: dict[tuple[str, str], Pair]
) -> pd.DataFrame:
    """Return a row for each run, database and metric, NaN where a number is missing.

    Args:
        splits: Splits of all runs, see `read_runs`.
        metrics: Names of the metrics.
        selection: Selection of the splits.
        pairs: Pairs by run and database.
    """
    lines = []
    for (run, database), rows in groups(splits):
        pair, known = pairs.get((run, database)), PUBLISHED.get(rows["name"].iloc[0], {}).get(OURS, {})
        for metric in metrics:
            compared = Comparison() if pair is None else pair.compare(metric)
            head = {"run": run, "database": database, "selection": selection, "metric": metric}
            counts = {"splits": len(rows), "paired_splits": None if pair is None else len(pair.splits)}
            statistics = {**describe(metric_values(rows["scores"], metric))._asdict(), **compared._asdict()}
            lines.append({**head, **counts, **statistics, "published": known.get(metric)})
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    return table.astype({**dict.fromkeys(NUMBERS, "float64"), **dict.fromkeys(COUNTS, "Int64")})


def make_sections(numbers: pd.DataFrame, splits: pd.DataFrame, baseline: str | None) -> list[Section]:
    """Return the means, the medians if there are several splits, and the differences from the baseline, if any."""
    sections = [means_section(numbers, splits)]
    if (numbers["splits"] > 1).any():
        medians = wide(numbers, [number(median) for median in numbers["median"]])
        sections.append(Section("The same, median over splits.", medians, text_columns=2))
    if baseline is not None and numbers["difference"].notna().any():
        sections.append(differences_section(numbers, baseline))
    return sections


def means_section(numbers: pd.DataFrame, splits: pd.DataFrame) -> Section:
    """Return mean ± standard deviation, the best in bold if runs are comparable, and published means below."""
    best = best_lines(numbers, splits)
    texts = [
        f"**{mean_std(line.mean, line.std)}**" if line.Index in best else mean_std(line.mean, line.std)
        for line in numbers.itertuples()
    ]
    table, published = wide(numbers, texts), published_lines(numbers, splits)
    selection = numbers["selection"].iloc[0]
    which = f"Selection {selection}: {SELECTION_NOTES[selection]}."
    compared = len(groups(splits)) > splits["database"].nunique()
    notes = [*([BOLD_NOTE] if compared else []), *([PUBLISHED_NOTE] if published else [])]
    caption = f"Test metrics, mean ± standard deviation over splits. {which}"
    return Section(caption, pd.DataFrame([*table.to_dict("records"), *published], columns=table.columns), 2, notes)


def wide(numbers: pd.DataFrame, texts: Sequence[str]) -> pd.DataFrame:
    """Return a row for each run and database and a column for each metric, from a text for each row of the numbers."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for line, text in zip(numbers.itertuples(), texts, strict=True):
        head = {"run": line.run, "database": line.database, "splits": str(line.splits)}
        rows.setdefault((line.run, line.database), head)[metric_heading(line.metric)] = text
    return pd.DataFrame(list(rows.values()))


def best_lines(numbers: pd.DataFrame, splits: pd.DataFrame) -> set[int]:
    """Return the index of each best mean, rounded as shown, if all runs have the same splits and labels."""
    best = set()
    for (database, metric), group in numbers.groupby(["database", "metric"], sort=False):
        means = group["mean"].round(DIGITS).dropna()
        if metric in BETTER and len(means) > 1 and comparable(splits[splits["database"] == database], metric):
            extreme = means.max() if BETTER[metric] == HIGHER else means.min()
            best |= set(means.index[means == extreme])
    return best


def comparable(splits: pd.DataFrame, metric: str) -> bool:
    """Return whether a metric of all runs on a database is on the same splits and labels."""
    for labels in ("labels", "mos") if metric in MOS_METRICS else ("labels",):
        tested = splits.groupby("run")[["split", "images", labels]]
        if len({tuple(rows.itertuples(index=False, name=None)) for _, rows in tested}) == 1:
            return True
    return False


def published_lines(numbers: pd.DataFrame, splits: pd.DataFrame) -> list[dict[str, str]]:
    """Return rows of published means for each known database, if they include one of the metrics."""
    metrics = list(dict.fromkeys(numbers["metric"]))
    lines = []
    for title, name in splits[["database", "name"]].drop_duplicates().itertuples(index=False):
        for method, values in PUBLISHED.get(name, {}).items():
            shown = {metric_heading(metric): number(values.get(metric, np.nan)) for metric in metrics}
            if any(metric in values for metric in metrics):
                head = {"run": f"{method}, published", "database": title, "splits": str(PUBLISHED_SPLITS)}
                lines.append({**head, **shown})
    return lines


def differences_section(numbers: pd.DataFrame, baseline: str) -> Section:
    """Return a row for each metric, run and database that were compared."""
    compared = numbers[numbers["paired_splits"].notna() & numbers["difference"].notna()]
    metrics = list(dict.fromkeys(numbers["metric"]))
    lines = [
        {
            "metric": metric_heading(line.metric),
            "run": line.run,
            "database": line.database,
            "paired splits": str(line.paired_splits),
            "difference": number(line.difference, sign="+"),
            "p, t test": p_value(line.t_p),
            "p, corrected t": p_value(line.corrected_p),
            "p, Wilcoxon": p_value(line.wilcoxon_p),
        }
        for line in sorted(compared.itertuples(), key=lambda line: metrics.index(line.metric))
    ]
    caption = f"Difference from {baseline}: run minus baseline, mean over the splits that are the same in both."
    return Section(caption, pd.DataFrame(lines), 3, notes_on_tests(compared))


def notes_on_tests(compared: pd.DataFrame) -> list[str]:
    """Return notes that explain the p values of these rows."""
    counts = sorted(set(compared["wilcoxon_n"].dropna()) - {0})
    smallest = "; ".join(f"{p_value(min(1, 2 / 2**count))} for n = {count}" for count in counts)
    return [
        "p: two-sided, over the paired splits; undefined for a single one. t test: paired; undefined if all "
        "differences are equal. Corrected t: the same, with the variance times 1/splits + test images/training images "
        "(Nadeau & Bengio 2003), since splits of the same images share training images. Wilcoxon: signed-rank test, "
        f"exact unless more than {MOST_TIED} differences have ties, over the n splits whose difference is not 0.",
        f"Wilcoxon's smallest p is 2/2^n{f' ({smallest})' if smallest else ''}, so fewer than "
        f"{FEWEST_FOR_WILCOXON} splits cannot reach .05.",
        "For random splits, use the corrected p: the others assume independent splits and are too small. None is "
        f"corrected for the number of comparisons ({len(compared)}).",
    ]


def p_value(p: float) -> str:
    return DASH if np.isnan(p) else f"{p:.3g}"


def markdown_page(sections: Sequence[Section], notes: Sequence[str]) -> str:
    """Return sections and notes as Markdown."""
    parts = []
    for section in sections:
        table = to_markdown(section.table, section.text_columns, aligned=True)
        parts += [escape_markdown(section.caption), table, *section.notes]
    return "\n\n".join([*parts, *(["\n".join(f"- {escape_markdown(note)}" for note in notes)] if notes else [])]) + "\n"


def latex_page(sections: Sequence[Section], notes: Sequence[str]) -> str:
    """Return sections as LaTeX tables, their notes in the captions and general notes as comments."""
    parts = [LATEX_NEEDS]
    for section in sections:
        caption = " ".join([section.caption, *section.notes])
        parts.append(captioned_latex(section.table, caption, section.text_columns))
    return "\n".join([*parts, *(f"% {note}" for note in notes)]).rstrip("\n") + "\n"
