"""Conditions on score rows, such as `mos_01 > .6 and pow < .1`: the expressions of `--keep`.

An expression is parsed by Python, but never run by it: each node of its tree is either of the few kinds known here, or
an error.
"""

import ast
import operator
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from scoring.records import BEST_FIELDS, TEXT_FIELDS, ScoreRow
from utils.errors import UserError, did_you_mean, one_line, shortened

COMPARISONS = {
    **{ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge},
    **{ast.Eq: operator.eq, ast.NotEq: operator.ne},
}
ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
SIGNS = {ast.USub: operator.neg, ast.UAdd: operator.pos}
LONGEST, DEEPEST = 1_000, 50  # characters, levels of the tree: beyond, recursion could exhaust the stack
SHOWN = 60  # characters of a part in messages
ALLOWED = "comparisons, and, or, not, + - * /, parentheses, numbers and fields"
EXAMPLE = "'mos_01 > .6 and pow < .1'"

Part = Callable[[ScoreRow], Any]


class RowFilter:
    """Keep the rows for which an expression holds, and those of images that could not be scored.

    Args:
        text: The expression; None keeps every row.
        columns: Fields of the rows; those that are numbers can be named.

    Raises:
        UserError: The expression is not a condition of the known kind, or names an unknown field.
    """

    def __init__(self, text: str | None, columns: Sequence[str]):
        self.text = text
        self.fields = [name for name in columns if name not in (*TEXT_FIELDS, *BEST_FIELDS)]  # the best is found later
        self.passed = 0  # rows with scores that were kept
        self._holds = self._condition(self._parsed().body, 0) if text is not None else None

    def holds(self, row: ScoreRow) -> bool:
        """Return whether a row is kept; its numbers may be text. A division by 0 gives infinity, or NaN for 0 / 0."""
        if row["error"] is not None or self._holds is None:
            return True
        with np.errstate(all="ignore"):
            return bool(self._holds(row))

    def rows(self, rows: Iterable[ScoreRow]) -> list[ScoreRow]:
        """Return the rows that are kept, and count those with scores."""
        kept = [row for row in rows if self.holds(row)]
        self.passed += sum(row["error"] is None for row in kept)
        return kept

    def check_stored(self, rows: Iterable[ScoreRow], place: str) -> None:
        """Refuse to continue an output that was written with another condition; without one, read nothing.

        Raises:
            UserError: A row is not one of those that are kept, or was edited.
        """
        if self.text is None:
            return
        try:
            other = next((row for row in rows if not self.holds(row)), None)
        except (ValueError, TypeError) as error:
            raise UserError(f"--resume: {place} has a row that is damaged: {one_line(error)}") from error
        if other is not None:
            raise UserError(
                f"--resume: {place} was written with another --keep, since {other['path']} in it does not pass "
                f"{self._shown()}; --overwrite replaces it"
            )

    def _parsed(self) -> ast.Expression:
        if len(self.text) > LONGEST:
            raise UserError(f"--keep: the expression has {len(self.text)} characters; the limit is {LONGEST}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about odd but valid spellings
                return ast.parse(self.text.strip(), mode="eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            reason = error.msg if isinstance(error, SyntaxError) else one_line(error)
            raise UserError(
                f"--keep: {self._shown()} is not an expression ({reason}); write it as {EXAMPLE}"
            ) from error

    def _condition(self, node: ast.expr, depth: int) -> Part:
        """Return a function that tells whether a condition holds for a row."""
        self._require_depth(depth)
        if isinstance(node, ast.BoolOp):
            parts = [self._condition(value, depth + 1) for value in node.values]
            combine = all if isinstance(node.op, ast.And) else any
            return lambda row: combine(part(row) for part in parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            part = self._condition(node.operand, depth + 1)
            return lambda row: not part(row)
        if isinstance(node, ast.Compare) and all(type(op) in COMPARISONS for op in node.ops):
            sides = [self._number(side, depth + 1) for side in (node.left, *node.comparators)]
            tests = [COMPARISONS[type(op)] for op in node.ops]
            return lambda row: all(
                test(left(row), right(row)) for test, left, right in zip(tests, sides, sides[1:], strict=False)
            )
        if isinstance(node, (ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp)):
            self._number(node, depth)  # may have an error of its own
            raise UserError(f"--keep: {self._shown(node)} is a number, not a condition; compare it, as in {EXAMPLE}")
        raise self._not_allowed(node)

    def _number(self, node: ast.expr, depth: int) -> Part:
        """Return a function that computes a number from a row."""
        self._require_depth(depth)
        if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            compute = ARITHMETIC[type(node.op)]
            left, right = (self._number(side, depth + 1) for side in (node.left, node.right))
            return lambda row: compute(left(row), right(row))
        if isinstance(node, ast.UnaryOp) and type(node.op) in SIGNS:
            sign, part = SIGNS[type(node.op)], self._number(node.operand, depth + 1)
            return lambda row: sign(part(row))
        literal = isinstance(node, ast.Constant) and type(node.value) in (int, float)  # bool is not
        if literal and abs(node.value) <= sys.float_info.max:
            value = np.float64(node.value)
            return lambda _: value
        if isinstance(node, ast.Name):
            name = node.id
            if name not in self.fields:
                raise UserError(
                    f"--keep: no field {name!r}{did_you_mean(name, self.fields)}; fields: {', '.join(self.fields)}"
                )
            return lambda row: np.float64(row[name])
        negated = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
        if negated or isinstance(node, (ast.BoolOp, ast.Compare)):
            raise UserError(f"--keep: {self._shown(node)} is a condition where a number is needed")
        raise self._not_allowed(node)

    def _require_depth(self, depth: int) -> None:
        if depth > DEEPEST:
            raise UserError(f"--keep: the expression is nested more than {DEEPEST} times; write it more simply")

    def _not_allowed(self, node: ast.expr) -> UserError:
        return UserError(f"--keep: {self._shown(node)} is not allowed; allowed: {ALLOWED}")

    def _shown(self, node: ast.expr | None = None) -> str:
        part = None if node is None else ast.get_source_segment(self.text.strip(), node)
        return repr(shortened(part or self.text, SHOWN))
