"""Numbers in a text that stand between marks, compared with what the rows say today."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lrpilot.bench.claims.verdict import Verdict

MARKED = re.compile(
    r"<!--\s*claim:(?P<name>[^\s>]+)\s*-->(?P<text>.*?)<!--\s*/claim\s*-->", re.DOTALL
)


def misstated(text: str, verdicts: Sequence[Verdict]) -> list[str]:
    """Each marked number or verdict in ``text`` that is not the recomputed one, in a sentence.

    ``<!-- claim:C1-T1 -->0.42<!-- /claim -->`` states the claim's number: it must be what the
    number is when rounded to as many digits. A word states the verdict. A name after a dot states
    another field of the verdict: ``<!-- claim:C1-T1.low -->0.31<!-- /claim -->``.

    >>> misstated("no <!-- claim:C99 -->1<!-- /claim --> marks of such a name", [])
    ['claim C99 is stated as 1, but there is no such claim']
    """
    by_id = {verdict.id: verdict for verdict in verdicts}
    found: list[str] = []
    for mark in MARKED.finditer(text):
        name, stated = mark["name"], mark["text"].strip()
        claim, _, field = name.partition(".")
        if claim not in by_id:
            found.append(f"claim {name} is stated as {stated}, but there is no such claim")
            continue
        true = _said(by_id[claim], field, stated)
        if true != stated:
            found.append(f"claim {name} is stated as {stated}, but the rows say {true}")
    return found


def _said(verdict: Verdict, field: str, stated: str) -> str:
    """What should stand in the place of ``stated``."""
    as_number = re.fullmatch(r"[-+−]?\d+(?:\.(\d+))?( ?%)?", stated)
    if not field:
        field = "estimate" if as_number else "verdict"
    value: object = getattr(verdict, field, f"no field {field}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "not known" if value is None else str(value)
    digits, percent = (as_number[1], as_number[2]) if as_number else (None, None)
    shown = f"{value * (100 if percent else 1):.{len(digits or '')}f}{percent or ''}"
    return shown.replace("-", "−") if "−" in stated else shown
