"""The expressions of combinational Verilog: operators by precedence, literals, selections."""

from __future__ import annotations

import re

from dovetail.multipliers.files.verilog.tokens import WIDEST, Tokens
from dovetail.multipliers.files.verilog.tree import (
    Binary,
    Cast,
    Choice,
    Concat,
    Expression,
    Number,
    Select,
    Unary,
)

__all__ = ["REDUCTIONS", "constant", "expression", "primary"]

#: From the loosest to the tightest, as in IEEE 1364, table 5-4.
_PRECEDENCE = (
    ("||",),
    ("&&",),
    ("|",),
    ("^", "^~", "~^"),
    ("&",),
    ("==", "!="),
    ("<", "<=", ">", ">="),
    ("<<", ">>", "<<<", ">>>"),
    ("+", "-"),
    ("*",),
)
REDUCTIONS = ("&", "|", "^", "~&", "~|", "~^", "^~")
_LITERAL = re.compile(r"([\d_]*)\s*'\s*([sS]?)([bBoOdDhH])\s*([\w?]+)")
_BASES = {"b": 2, "o": 8, "d": 10, "h": 16}

Constants = dict[str, int]


def expression(tokens: Tokens, constants: Constants) -> Expression:
    """The expression that comes next; ``constants`` are the module's parameters.

    >>> expression(Tokens("a & ~b | c;", "x.v"), {}).operator
    '|'
    """
    condition = _binary(tokens, constants, 0)
    if not tokens.follows("?"):
        return condition
    line = tokens.take("?").line
    yes = expression(tokens, constants)
    tokens.take(":")
    return Choice(condition, yes, expression(tokens, constants), line)


def constant(tokens: Tokens, constants: Constants) -> int:
    """The number that the next expression is; it may read parameters, and no net."""
    line = tokens.next.line
    value = _folded(expression(tokens, constants))
    if value is None:
        raise tokens.fail(line, "expected a constant: numbers, parameters, + - *")
    return value


def primary(tokens: Tokens, constants: Constants) -> Expression:
    """A literal, a net or a part of it, a concatenation, or an expression in parentheses."""
    token = tokens.next
    if token.kind == "number":
        tokens.at += 1
        return _number(tokens, token.text, token.line)
    if tokens.accept("("):
        inner = expression(tokens, constants)
        tokens.take(")")
        return inner
    if tokens.accept("{"):
        return _concat(tokens, constants, token.line)
    name = tokens.name()
    if name in ("$signed", "$unsigned"):
        tokens.take("(")
        inner = expression(tokens, constants)
        tokens.take(")")
        return Cast(name == "$signed", inner, token.line)
    if name.startswith("$"):
        raise tokens.fail(token.line, f"'{name}' is not read; only $signed and $unsigned are")
    if name in constants:
        return Number(constants[name], None, True, token.line)
    return _select(tokens, constants, name, token.line)


def _binary(tokens: Tokens, constants: Constants, level: int) -> Expression:
    if level == len(_PRECEDENCE):
        return _unary(tokens, constants)
    left = _binary(tokens, constants, level + 1)
    while tokens.follows(*_PRECEDENCE[level]):
        line = tokens.next.line
        operator = tokens.accept(*_PRECEDENCE[level]) or ""
        left = Binary(operator, left, _binary(tokens, constants, level + 1), line)
    return left


def _unary(tokens: Tokens, constants: Constants) -> Expression:
    line = tokens.next.line
    operator = tokens.accept("~", "!", "-", "+", *REDUCTIONS)
    if operator is None:
        return primary(tokens, constants)
    return Unary(operator, _unary(tokens, constants), line)


def _number(tokens: Tokens, text: str, line: int) -> Number:
    if len(text) > WIDEST:
        raise tokens.fail(line, f"a literal of {len(text)} digits; at most {WIDEST}")
    based = _LITERAL.fullmatch(text)
    if based is None:
        return Number(int(text.replace("_", "")), None, True, line)
    size, sign, base, digits = based.groups()
    try:
        value = int(digits.replace("_", ""), _BASES[base.lower()])
    except ValueError:
        raise tokens.fail(line, f"{text!r} holds digits that are not of its base") from None
    width = int(size.replace("_", "")) if size else None
    if width is not None and width > WIDEST:
        raise tokens.fail(line, f"{text!r} has {width} bits; at most {WIDEST}")
    if width is not None and (width == 0 or value >> width):
        raise tokens.fail(line, f"{text!r} does not fit {width} bits")
    return Number(value, width, bool(sign), line)


def _concat(tokens: Tokens, constants: Constants, line: int) -> Expression:
    first = expression(tokens, constants)
    if tokens.accept("{"):
        count = _folded(first)
        if count is None or not 1 <= count <= WIDEST:
            raise tokens.fail(
                line, f"a concatenation is repeated a constant number of times, 1 to {WIDEST}"
            )
        inner = _concat(tokens, constants, line)
        tokens.take("}")
        return Concat((inner,) * count, line)
    parts = [first]
    while tokens.accept(","):
        parts.append(expression(tokens, constants))
    tokens.take("}")
    return Concat(tuple(parts), line)


def _select(tokens: Tokens, constants: Constants, name: str, line: int) -> Select:
    if not tokens.accept("["):
        return Select(name, None, None, line)
    high = low = constant(tokens, constants)
    if tokens.accept(":"):
        low = constant(tokens, constants)
    tokens.take("]")
    return Select(name, high, low, line)


def _folded(value: Expression) -> int | None:
    """The value of an expression of literals, if it is one."""
    if isinstance(value, Number):
        return value.value
    if isinstance(value, Unary) and value.operator == "-":
        inner = _folded(value.operand)
        return None if inner is None else -inner
    if not isinstance(value, Binary) or value.operator not in ("+", "-", "*"):
        return None
    left, right = _folded(value.left), _folded(value.right)
    if left is None or right is None:
        return None
    return {"+": left + right, "-": left - right, "*": left * right}[value.operator]
