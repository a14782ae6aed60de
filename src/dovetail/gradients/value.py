"""`Gradient`: how a product is differentiated, and how a cast passes a gradient on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dovetail._numbers import is_whole
from dovetail._spelling import parse_call, spell_call
from dovetail.errors import DovetailError, unknown

__all__ = ["CASTS", "PRODUCTS", "Gradient", "gradient"]

#: How a product is differentiated, and what that is.
PRODUCTS = {
    "ste": "as the exact product; the multiplier's error is invisible to it",
    "lut1d": "the slope of the line nearest to f(., w), a function of w",
    "lut2d": "the slope of f smoothed over the codes at most window= away",
    "poly": "the derivative of the multiplier's polynomial model",
    "noise": "as ste, and training sees noise of the multiplier's error instead of it",
    "approx": "as ste, but the backward products are the multiplier's, too",
}
#: How a cast passes its gradient on.
CASTS = {
    "clip": "where it did not clip",
    "unclipped": "everywhere",
    "lsq": "as clip, and the scales of input and weight are learned (LSQ)",
    "pact": "as clip, and the clipping range of the input is learned (PACT)",
}


@dataclass(frozen=True, repr=False)
class Gradient:
    """What the backward pass uses for ``y = sum_k f(a_k, w_k)`` of cast operands.

    ``product`` says how ``f`` is differentiated (`dovetail.gradients.slopes` has the formulas):

    * ``ste``: as the exact product ``a w`` (Bengio et al., arXiv 1308.3432); the multiplier's error
      is invisible to it.
    * ``lut1d``: ``df/da`` is the slope of the line nearest to ``f(., w)``, a function of ``w``.
    * ``lut2d``: ``df/da`` is the slope of ``f(., w)`` smoothed over the codes at most ``window``
      away, a function of both (both: Meng et al., arXiv 2509.10519).
    * ``poly``: ``df/da`` is the derivative of the multiplier's polynomial model.
    * ``noise``: as ``ste``, and while its module trains an operation computes the exact product of
      the cast operands plus a normal error of the multiplier's mean and variance, drawn for each
      sum (the noise of Trommer et al., arXiv 2208.07265); evaluation is bit exact as ever.
    * ``approx``: as ``ste``, but the backward products themselves, of the gradient's codes with the
      weight's and the input's, are the multiplier's (as in ApproxTrain, arXiv 2209.04161);
      `dovetail.kernels.approximate_backward` has the formulas.

    ``cast`` says how a cast passes its gradient: ``clip`` where it did not clip, ``unclipped``
    everywhere; ``lsq`` and ``pact`` as ``clip``, and the scale is learned, with the gradients that
    `dovetail.kernels.learned_steps` states. ``window`` is the half-window of ``lut2d`` in codes;
    ``None`` chooses it by the multiplier, see `dovetail.gradients.windows`.

    >>> Gradient("lut2d", window=4), Gradient(cast="unclipped"), Gradient() == gradient("ste(clip)")
    (lut2d(window=4), ste(unclipped), True)
    """

    product: str = "ste"
    cast: str = "clip"
    window: int | None = None

    def __post_init__(self) -> None:
        if self.product not in PRODUCTS:
            raise unknown("gradient", str(self.product), PRODUCTS)
        if self.cast not in CASTS:
            raise unknown("gradient of a cast", str(self.cast), CASTS)
        if self.window is None:
            return
        if self.product != "lut2d":
            raise DovetailError(
                f"window={self.window}: {self.product} smooths nothing; 'lut2d' has a window"
            )
        if not is_whole(self.window) or self.window < 0:
            raise DovetailError(f"window={self.window!r}: give a whole number of codes, 0 or more")

    def __repr__(self) -> str:
        words = [] if self.cast == "clip" else [self.cast]
        options = {} if self.window is None else {"window": self.window}
        return spell_call(self.product, *words, **options)

    @property
    def clips(self) -> bool:
        """Whether what a cast clips gets no gradient."""
        return self.cast != "unclipped"

    @property
    def learned(self) -> tuple[str, ...]:
        """The operands of a product whose scales are parameters.

        >>> gradient("ste(lsq)").learned, gradient("ste(pact)").learned
        (('input', 'weight'), ('input',))
        """
        return {"lsq": ("input", "weight"), "pact": ("input",)}.get(self.cast, ())

    @property
    def is_straight_through(self) -> bool:
        """Whether products are differentiated as exact ones."""
        return self.product in ("ste", "noise")

    @property
    def is_approximate(self) -> bool:
        """Whether backward products, too, are the multiplier's."""
        return self.product == "approx"

    @property
    def is_noisy(self) -> bool:
        """Whether training sees noise in the multiplier's place."""
        return self.product == "noise"


@lru_cache(maxsize=256)
def gradient(spec: str | Gradient) -> Gradient:
    """The gradient that ``spec`` spells: ``product(cast, window=n)``, all but the product optional.

    >>> gradient("lut2d(window=4, cast=unclipped)")
    lut2d(unclipped, window=4)
    >>> gradient("lut3d")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown gradient 'lut3d'; did you mean 'lut2d'? ...
    """
    if isinstance(spec, Gradient):
        return spec
    if not isinstance(spec, str):
        raise DovetailError(f"a gradient is a text such as 'lut2d(window=4)', not {spec!r}")
    name, args, kwargs = parse_call(spec)
    if name not in PRODUCTS:
        raise unknown("gradient", name, PRODUCTS)
    try:
        return Gradient(name, **_options(args, kwargs))
    except DovetailError as error:
        raise DovetailError(f"gradient '{spec}': {error}") from None


def _options(args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    if len(args) + ("cast" in kwargs) > 1:
        raise DovetailError(f"name one gradient of the cast, of {', '.join(CASTS)}")
    for key in kwargs:
        if key not in ("cast", "window"):
            raise unknown("argument", key, ("cast", "window"))
    options = {"cast": args[0]} if args else {}
    options |= {k: v for k, v in kwargs.items() if (k, v) != ("window", "auto")}
    return options
