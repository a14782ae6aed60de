"""The file that declares what operations and memories cost, and the two that ship."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from dovetail.costs.tables import READERS
from dovetail.errors import DovetailError, unknown
from dovetail.recipe import yaml_source
from dovetail.recipe.document import Document, at
from dovetail.recipe.refusals import problem

__all__ = ["CostTable", "Figures", "Memory", "Placement", "Scale", "load_table", "table_names"]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Figures(_Spec):
    """What one operation costs; a number alone is its energy."""

    energy_pj: float | None = Field(None, ge=0)
    area_um2: float | None = Field(None, ge=0)
    delay_ns: float | None = Field(None, ge=0)


def _energy_alone(value: Any) -> Any:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return {"energy_pj": value} if plain else value


Entry = Annotated[Figures, BeforeValidator(_energy_alone)]


class Memory(_Spec):
    """How much a memory holds (left out: everything), what reading or writing a byte takes."""

    bytes: int | None = Field(None, gt=0)
    energy_pj_per_byte: float = Field(ge=0)


class Scale(_Spec):
    """The declared rule from the node of ``based_on`` to this one: factors, and who says so."""

    energy: float = Field(gt=0)
    area: float | None = Field(None, gt=0)
    delay: float | None = Field(None, gt=0)
    source: str = Field(min_length=1)


class Placement(_Spec):
    """In which memory tensors live; left out: the smallest that holds each.

    ``operands`` names where a product's two operands are read from, and its partial sum read and
    written, at every product; left out, that is not counted.
    """

    weights: str | None = None
    activations: str | None = None
    operands: str | None = None


class CostTable(_Spec):
    """Energy in pJ, area in um2, delay in ns of operations, by format; memories; their source.

    ``add`` and ``multiply`` name formats (``int8``, ``fp16``, ``int8 x int4``), ``circuits``
    multipliers and ``adders`` accumulators as a recipe spells them, ``functions`` kinds of
    operation, by output element. ``based_on`` names the table (built in, or a file) that tells what
    this one leaves out, times ``scale``.

    >>> CostTable(**{"dovetail-cost": 1, "name": "x", "source": "me"}).multiply
    {}
    """

    version: Literal[1] = Field(alias="dovetail-cost")
    name: str = Field(min_length=1)
    source: str = Field(min_length=1)
    node: float | None = Field(None, gt=0, description="feature size in nm; None: that of based_on")
    based_on: str | None = None
    scale: Scale | None = None
    add: Mapping[str, Entry] = {}
    multiply: Mapping[str, Entry] = {}
    circuits: Mapping[str, Entry] = {}
    adders: Mapping[str, Entry] = {}
    functions: Mapping[str, Entry] = {}
    memory: Mapping[str, Memory] = {}
    placement: Placement = Placement()

    @model_validator(mode="after")
    def _scaled_from_something(self) -> CostTable:
        if self.scale is not None and self.based_on is None:
            raise ValueError("scale says how the figures of based_on change: name that table")
        return self


def table_names() -> list[str]:
    """The tables that ship with dovetail.

    >>> table_names()
    ['horowitz2014', 'jouppi2021']
    """
    folder = files("dovetail.costs") / "data"
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if ".yaml" in f.name)


def load_table(table: str | Path | CostTable) -> CostTable:
    """A table by its built-in name or the path of a YAML file; checked.

    >>> load_table("horowitz2014").node
    45.0
    >>> load_table("horowitz")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown table of costs 'horowitz'; did you mean 'horo...
    """
    if isinstance(table, CostTable):
        return table
    if isinstance(table, str) and table in table_names():
        text = (files("dovetail.costs") / "data" / f"{table}.yaml").read_text(encoding="utf-8")
        return _checked(yaml_source.parse(text, f"{table}.yaml"))
    if not isinstance(table, (str, Path)):
        raise DovetailError(
            f"a table of costs is a name ({', '.join(table_names())}), the path of a YAML file or "
            f"a CostTable, not {table!r}"
        )
    if Path(table).suffix not in (".yaml", ".yml"):
        raise unknown("table of costs", str(table), table_names())
    return _checked(yaml_source.read(table))


def _checked(document: Document) -> CostTable:
    table = _validated(document)
    for section, reader in READERS.items():
        for text in getattr(table, section):
            with at(document.where((section, text), key=True)):
                reader(text)
    return table


def _validated(document: Document) -> CostTable:
    try:
        return CostTable.model_validate(document.data)
    except ValidationError as error:
        lines = [_sentence(dict(item), document) for item in error.errors()]
        raise DovetailError("\n".join(dict.fromkeys(lines))) from None


_KEYS: dict[str, type[BaseModel]] = {
    "scale": Scale,
    "placement": Placement,
    "memory": Memory,
    **dict.fromkeys(("add", "multiply", "circuits", "adders", "functions"), Figures),
}


def _sentence(item: dict[str, Any], document: Document) -> str:
    loc, kind = item["loc"], item["type"]
    place = document.where(loc, key=kind == "extra_forbidden")
    if kind == "missing":
        return f"{place}: the key '{'.'.join(map(str, loc))}' is missing"
    if kind == "extra_forbidden":
        model = _KEYS[loc[0]] if len(loc) > 1 else CostTable
        known = [field.alias or name for name, field in model.model_fields.items()]
        return f"{place}: {unknown('key', str(loc[-1]), known)}"
    if kind == "model_type" and not loc:
        return f"{place}: a table of costs is a mapping that begins with 'dovetail-cost: 1'"
    shown = ".".join(map(str, loc))
    return f"{place}: {shown}: {problem(item)}" if shown else f"{place}: {problem(item)}"
