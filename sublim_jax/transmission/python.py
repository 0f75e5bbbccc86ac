"""Python functions that models write: the code of an answer, what of it is let in, and its verdict.

Code is compiled here and run nowhere but in a `sandbox`. What it may consist of is listed: neither
import, class nor generator, no attributes but the methods of texts and containers below, no names
of built-in functions but those of `sandboxed`.
"""

import ast
import builtins
import re
import warnings
from typing import Any

from sublim_jax.errors import UserError
from sublim_jax.transmission.sandbox import SANDBOX
from sublim_jax.transmission.sandboxed import BUILTINS

_FENCED = re.compile(r"```\w*[ \t]*\n((?:(?!```).)*\n)```", re.DOTALL)
_SYNTAX = (
    ast.Module, ast.FunctionDef, ast.arguments, ast.arg, ast.Return, ast.Assign, ast.AugAssign,
    ast.AnnAssign, ast.Delete, ast.For, ast.While, ast.If, ast.Expr, ast.Pass, ast.Break,
    ast.Continue, ast.Try, ast.ExceptHandler, ast.Raise, ast.Assert, ast.Nonlocal, ast.BoolOp,
    ast.NamedExpr, ast.BinOp, ast.UnaryOp, ast.Lambda, ast.IfExp, ast.Dict, ast.Set, ast.ListComp,
    ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Compare, ast.Call, ast.FormattedValue,
    ast.JoinedStr, ast.Constant, ast.Attribute, ast.Subscript, ast.Starred, ast.Name, ast.List,
    ast.Tuple, ast.Slice, ast.comprehension, ast.keyword, ast.expr_context, ast.boolop,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
# `format` is not among them: its templates read attributes.
_METHODS = frozenset(
    """
    add append capitalize center clear copy count difference discard endswith extend find
    fromkeys get index insert intersection isalnum isalpha isascii isdecimal isdigit isdisjoint
    islower isnumeric isspace issubset issuperset istitle isupper items join keys ljust lower lstrip
    partition pop popitem remove removeprefix removesuffix replace reverse rfind rindex rjust
    rpartition rsplit rstrip setdefault sort split splitlines startswith strip swapcase
    symmetric_difference title union update upper values zfill
    """.split()  # noqa: SIM905
)
_REFUSED = frozenset(dir(builtins)) - set(BUILTINS)


def rejection(text: str, gold: Any, seconds: float) -> str | None:
    """Returns why an answer is not the function that was asked for; None: it is.

    Args:
      gold: an object of the function's `name` and its `cases`, pairs of arguments and the result;
        None: the function is not run.
      seconds: of time on a CPU, for all cases.

    Raises:
      UserError: the gold is of another form.
    """
    code = extracted(text)
    if code is None:
        return "no code"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
            compile(code, "<function>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "does not parse"
    if not any(isinstance(statement, ast.FunctionDef) for statement in tree.body):
        return "no code"
    if not all(map(_let_in, ast.walk(tree))):
        return "forbidden"
    return None if gold is None else SANDBOX.run(code, *_asked(gold), seconds)


def extracted(text: str) -> str | None:
    """Returns the code that a text consists of, plain or as one fenced block; None: there is more.

    Words before and after it are no code: they would be another channel.
    """
    text = text.strip()
    found = _FENCED.fullmatch(text)
    if found:
        return found[1]
    return None if "```" in text or not text else text


def _let_in(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return isinstance(node.ctx, ast.Load) and node.attr in _METHODS
    names = [getattr(node, field, None) for field in ("id", "name", "arg")]
    hidden = any(isinstance(name, str) and name.startswith("__") for name in names)
    refused = isinstance(node, ast.Name) and node.id in _REFUSED
    return isinstance(node, _SYNTAX) and not hidden and not refused


def _asked(gold: Any) -> tuple[str, list[Any]]:
    match gold:
        case {"name": str(name), "cases": [*cases]} if cases and all(map(_is_case, cases)):
            return name, cases
    raise UserError(
        f"gold {str(gold)[:40]!r}: an object is needed, of the function's name and its cases, "
        "lists of the arguments, a list, and the result"
    )


def _is_case(case: Any) -> bool:
    return isinstance(case, list) and len(case) == 2 and isinstance(case[0], list)
