"""Handlers of the page's tabs: from the paths of uploaded files to HTML, or to rows for the HTTP API."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any
from urllib.parse import quote

import numpy as np
from PIL import Image

from datasets.scale import RatingScale
from scoring.command import default_batch
from scoring.formats import ROW_FORMATS
from scoring.gallery.charts import histogram
from scoring.gallery.page import FailedImage, ScoredImage, digits_of, image_from_row
from scoring.maps import colour_shares, covered, quality_map
from scoring.opinions import compare
from scoring.pictures import Encoded
from scoring.predictor import Prediction, Predictor, Prepared
from scoring.records import RowBuilder, ScoreRow
from utils.errors import UserError
from utils.html import Thumbnail, page_environment, thumbnail

MOST_PICTURES, MOST_FILES = 12, 500  # on the tabs Score and Folder
PREVIEW_SIDE = 800  # pixels, of the pictures on the tabs Score and Compare
WORKERS = 2  # threads that read and decode, per visitor
GRADES = ("bad", "poor", "fair", "good", "excellent")  # of absolute category rating, ITU-T P.800
CLOSE = 0.6  # below this probability that a panel prefers it, no picture wins
SURE = 0.95  # from this one, it surely does


@dataclass(frozen=True)
class Card:
    """One picture of the page: its scores, or why there are none; what is shown of it; its quality map."""

    image: ScoredImage | FailedImage
    row: ScoreRow
    picture: Thumbnail
    prediction: Prediction | None = None
    map: Thumbnail | None = None

    @property
    def scored(self) -> bool:
        """Whether there are scores."""
        return self.prediction is not None


class Handlers:
    """What the tabs of the page show.

    Args:
        predictor: Scores the pictures; several threads may use it at the same time. Its `preview_side` is set.
    """

    def __init__(self, predictor: Predictor):
        predictor.preview_side = PREVIEW_SIDE
        self.predictor = predictor
        self.row_builder = RowBuilder(predictor)
        self.batch_size = default_batch(predictor)
        environment = page_environment(Path(__file__).parent)
        scale = predictor.scale
        environment.globals.update(
            **{"scale": scale, "digits": digits_of(scale), "grades": _grades(scale), "share": scale.normalised},
            standing=predictor.standing,
        )
        self.templates = environment

    def score(self, paths: Sequence[str], maps: bool = False) -> str:
        """Return the scores of a few pictures; `maps` adds their quality maps."""
        return self._answer(lambda: self._scores(paths, maps))

    def compare(self, first: str | None, second: str | None) -> str:
        """Return which of two pictures people would prefer; nothing while one is missing."""
        if first is None or second is None:
            return ""
        return self._answer(lambda: self._comparison(first, second))

    def folder(self, paths: Sequence[str]) -> Iterator[tuple[str, bool]]:
        """Yield the progress of scoring many files, then their scores as a gallery, a table and a CSV file.

        Each is followed by whether more will come.
        """
        if len(paths) > MOST_FILES:
            yield (
                self._problem(f"{len(paths)} files are too many; up to {MOST_FILES} can be scored here at once."),
                False,
            )
            return
        cards: list[Card] = []
        try:
            for batch in self._cards(paths, small=True):
                cards += batch
                yield self._render("progress", done=len(cards), total=len(paths)), True
            yield self._folder(cards) if cards else "", False
        except UserError as error:
            yield self._problem(str(error)), False

    def rows(self, paths: Sequence[str]) -> list[ScoreRow]:
        """Return the row of each file, with the fields of the other output formats.

        Raises:
            UserError: There are too many files.
        """
        if len(paths) > MOST_FILES:
            raise UserError(f"{len(paths)} files are too many; send up to {MOST_FILES}")
        return [card.row for batch in self._cards(paths, small=True) for card in batch]

    def comparison(self, first: str, second: str) -> dict[str, Any]:
        """Return the comparison of two pictures as numbers, and the row of each.

        Raises:
            UserError: One of them cannot be scored.
        """
        cards = self._pair(first, second)
        return {**asdict(compare(*(card.prediction for card in cards))), "rows": [card.row for card in cards]}

    def _scores(self, paths: Sequence[str], maps: bool) -> str:
        cards = [card for batch in self._cards(paths[:MOST_PICTURES], maps) for card in batch]
        return self._render("score", cards=cards, left_out=len(paths) - len(cards), most=MOST_PICTURES)

    def _comparison(self, first: str, second: str) -> str:
        cards = self._pair(first, second)
        comparison = compare(*(card.prediction for card in cards))
        sign = 1 if self.predictor.scale.higher_is_better else -1
        ahead = 1 if comparison.probability >= 1 / 2 else -1  # the first or the second picture
        error = max(comparison.standard_error, 1e-12)
        panel = NormalDist().cdf(ahead * sign * comparison.difference / error)
        return self._render(
            "compare",
            cards=cards,
            probability=comparison.probability,
            people=comparison.panel,
            panel=panel,
            winner=None if panel < CLOSE else ("A" if ahead == 1 else "B"),
            surely=panel >= SURE,
        )

    def _folder(self, cards: Sequence[Card]) -> str:
        scored = sorted((card for card in cards if card.scored), key=lambda card: -card.image.mos_01)
        csv = ROW_FORMATS["csv"](self.row_builder.columns, str(self.predictor.checkpoint))
        mos = np.array([card.image.mos for card in scored])
        return self._render(
            "folder",
            scored=scored,
            failed=[card for card in cards if not card.scored],
            histogram=histogram(mos, self.predictor.scale)[0] if scored else "",
            mean=float(mos.mean()) if scored else None,
            csv=quote(csv.head + "".join(csv.row(card.row) for card in cards)),
        )

    def _pair(self, first: str, second: str) -> list[Card]:
        cards = [card for batch in self._cards([first, second]) for card in batch]
        failed = [card.image.error for card in cards if not card.scored]
        if failed:
            raise UserError("; ".join(failed))
        return cards

    def _cards(self, paths: Iterable[str], maps: bool = False, small: bool = False) -> Iterator[list[Card]]:
        """Score files batch by batch; `small` makes thumbnails as in the gallery."""
        files = (Encoded(Path(path).name, partial(_content, Path(path))) for path in paths)
        for batch in self.predictor.scored_batches(files, self.batch_size, WORKERS):
            yield [self._card(file.name, prepared, prediction, maps, small) for file, prepared, prediction in batch]

    def _card(
        self, name: str, prepared: Prepared | UserError, prediction: Prediction | None, maps: bool, small: bool
    ) -> Card:
        if prediction is None:
            row = self.row_builder.failed(name, str(prepared))
            return Card(image_from_row(row, name), row, Thumbnail())
        row = self.row_builder.scored(name, prediction, prepared)
        drawn = self._map(prepared) if maps else None
        picture = thumbnail(prepared.preview) if small else thumbnail(prepared.preview, PREVIEW_SIDE)
        return Card(image_from_row(row, name), row, picture, prediction, drawn)

    def _map(self, prepared: Prepared) -> Thumbnail:
        box, values = quality_map(self.predictor, prepared)
        share, _ = colour_shares(values, self.predictor.scale.higher_is_better)
        coloured, _ = covered(prepared.preview, box, share)
        return thumbnail(Image.fromarray(coloured), PREVIEW_SIDE)

    def _answer(self, answer: Callable[[], str]) -> str:
        try:
            return answer()
        except UserError as error:
            return self._problem(str(error))

    def _problem(self, sentence: str) -> str:
        return self._render("problem", sentence=sentence)

    def _render(self, name: str, **values: Any) -> str:
        return self.templates.get_template(f"{name}.html.j2").render(values)


def _grades(scale: RatingScale) -> tuple[str, ...] | None:
    """Return the name of each bin, lowest score first; None unless there are five."""
    if scale.num_bins != len(GRADES):
        return None
    return GRADES if scale.higher_is_better else GRADES[::-1]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path.name} is no longer on the server; choose it again") from error
