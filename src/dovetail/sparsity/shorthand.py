"""The d-Matrix shorthand of sparsity, read and written.

    DENSE                 every weight
    TOPK{0.5}(U)          the largest of the whole tensor; M masks the scores' gradient, U does not
    BTOPK{4:8,-1}(U)      the largest 4 of each run of 8 along axis -1
    BERN                  each by itself, with its score as the probability

``BTK8_4_LD`` and ``BTK8_4_FD`` name ``BTOPK{4:8,-1}(U)`` and ``BTOPK{4:8,1}(U)``, and so on with 2.
The flag M means learned scores; without it, and without a score, magnitudes decide. The oldest
files leave the flag out.
"""

from __future__ import annotations

import re

from dovetail._reader import Reader
from dovetail.errors import DovetailError
from dovetail.sparsity.chance import Bernoulli
from dovetail.sparsity.pattern import Pattern
from dovetail.sparsity.patterns import Dense, NofM, TopK
from dovetail.sparsity.value import Sparsity

__all__ = ["aliases", "is_shorthand", "parse_shorthand", "to_shorthand"]

_HEADS = ("DENSE", "TOPK", "BTOPK", "BERN")
_HEAD = re.compile(r"\s*(DENSE|TOPK|BTOPK|BERN)\b")


def aliases() -> dict[str, str]:
    """The named aliases and what each stands for.

    >>> aliases()["BTK8_2_FD"]
    'BTOPK{2:8,1}(U)'
    """
    axes = {"LD": -1, "FD": 1}
    return {
        f"BTK8_{keep}_{name}": f"BTOPK{{{keep}:8,{axis}}}(U)"
        for keep in (4, 2)
        for name, axis in axes.items()
    }


def is_shorthand(text: str) -> bool:
    """Whether ``text`` is written in this grammar, well or badly.

    >>> is_shorthand("TOPK{0.5"), is_shorthand("BTK8_4_LD"), is_shorthand("topk(0.5)")
    (True, True, False)
    """
    return bool(_HEAD.match(text)) or text.strip() in aliases()


def parse_shorthand(text: str) -> Sparsity:
    """The sparsity that a shorthand or a named alias spells.

    >>> parse_shorthand("TOPK{0.5}(U)"), parse_shorthand("BTK8_2_LD")
    (topk(0.5), 2:8(axis=-1))
    >>> parse_shorthand("BTOPK{4:8}(U)")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: cannot read 'BTOPK{4:8}(U)': expected ',' at character 10, ...
    """
    named = aliases().get(text.strip())
    return parse_shorthand(named) if named is not None else _Parser(text).whole()


class _Parser(Reader):
    """One pass over the text; ``at`` is the index of the next character to read."""

    def take(self, pattern: str, expected: str) -> str:
        match = re.compile(rf"\s*({pattern})").match(self.text, self.at)
        if match is None:
            self.skip()
            raise self.fail(expected)
        self.at = match.end()
        return match[1]

    def whole(self) -> Sparsity:
        head = self.take("[A-Z]+", "one of " + ", ".join(_HEADS))
        start = self.at
        try:
            found = self.rest(head)
        except DovetailError as error:
            if "cannot read" in str(error):
                raise
            raise self.fail(str(error), start) from None
        self.take(r"\Z", "the end of the text")
        return found

    def rest(self, head: str) -> Sparsity:
        if head == "DENSE":
            return Sparsity(Dense())
        if head == "BERN":
            return Sparsity(Bernoulli())
        self.take(r"\{", "'{'")
        pattern = self.top_k() if head == "TOPK" else self.block_top_k()
        self.take(r"\}", "'}'")
        if not self.text[self.at :].strip():
            return Sparsity(pattern)
        self.take(r"\(", "'('")
        flag = self.take("[UM]", "U or M")
        self.take(r"\)", "')'")
        if flag == "M":
            return Sparsity(pattern, "learned", "joint", kept_scores=True)
        return Sparsity(pattern)

    def top_k(self) -> Pattern:
        return TopK(float(self.take(r"\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+", "a share such as 0.5")))

    def block_top_k(self) -> Pattern:
        keep = int(self.take(r"\d+", "how many are kept"))
        self.take(":", "':'")
        of = int(self.take(r"\d+", "the length of a run"))
        self.take(",", "','")
        return NofM(keep, of, int(self.take(r"[+-]?\d+", "an axis")))


def to_shorthand(value: Sparsity, axis: int = -1) -> str:
    """The d-Matrix spelling of a sparsity, of which the reader makes an equal one.

    ``axis`` is written for ``n:m`` patterns that leave their axis to the operation. What the
    grammar cannot say is refused with the nearest that it can.

    >>> to_shorthand(Sparsity(TopK(0.5))), to_shorthand(Sparsity(NofM(4, 8)), axis=1)
    ('TOPK{0.5}(U)', 'BTOPK{4:8,1}(U)')
    """
    pattern = value.pattern
    if isinstance(pattern, NofM) and pattern.axis is None:
        pattern = NofM(pattern.keep, pattern.of, axis)
    flag = "M" if value.kept_scores else "U"
    if isinstance(pattern, NofM):
        near = f"BTOPK{{{pattern.keep}:{pattern.of},{pattern.axis}}}({flag})"
    elif isinstance(pattern, Bernoulli):
        near = "BERN"
    elif isinstance(pattern, Dense):
        near = "DENSE"
    else:
        near = f"TOPK{{{pattern.density}}}({flag})"
    read = parse_shorthand(near)
    if read != Sparsity(pattern, value.score, value.backward, value.fixed, value.kept_scores):
        raise DovetailError(
            f"'{value}' has no d-Matrix spelling; the nearest is '{near}', which is '{read}'"
        )
    return near
