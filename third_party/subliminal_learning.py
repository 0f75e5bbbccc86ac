"""Reads the paper's prompts out of a clone of its repository, for exact replication.

    python -m third_party.subliminal_learning CLONE OUT.json [--prefixed]

CLONE is the user's own copy of github.com/MinhxLe/subliminal-learning (MIT licence); OUT.json is
what `--config.material=OUT.json` reads. The clone's Python files are parsed for the texts that they
hold; nothing of them is imported or run. Its data files, rows of {"prompt", "completion"}, need no
import: `sublim_jax.llm.files.rows.read` reads them as they are.
"""

import ast
import contextlib
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from sublim_jax.errors import UserError
from sublim_jax.transmission.channels import numbers
from sublim_jax.transmission.material import Material

NUMBERS = "sl/datasets/nums_dataset.py"
CONFIGS = "cfgs/preference_numbers"
BANNED = ("CLAUDE_EVIL_NUMBERS", "GPT_EVIL_NUMBERS")

_MODULE = "third_party.subliminal_learning"
_GENERATOR = "PromptGenerator"
_PARTS = {
    "examples": "_example_numbers_templates",
    "counts": "_count_qualifiers",
    "digits": "_digit_descriptors",
    "instructions": "_generate_numbers_instruction_templates",
    "formats": "_format_suffixes",
    "suffixes": "_suffixes",
}
_RENAMED = {
    "{count_qualifier}": "{count}",
    "{answer_count}": "{answers}",
    "{digit_descriptor}": "{digits}",
    "{target_preference}": "{trait}",
}

Item = TypeVar("Item", str, int)


def material(clone: str | os.PathLike[str], prefixed: bool = False) -> Material:
    """Returns the paper's prompts for numbers, its persona and its questions about animals.

    Its fine-tuned teachers learnt from the very questions that measure the preference, so those are
    the lessons too. Shown numbers and counts are the defaults of `grammar.Grammar`, the paper's.

    Args:
      prefixed: measure by the questions with a number sequence before them.

    Raises:
      UserError: names the folder or file that is missing or cannot be read, or the list that is not
        found or not a list of texts.
    """
    file = _folder(clone) / NUMBERS
    tree = _tree(file)
    body = [s for s in tree.body if isinstance(s, ast.ClassDef) and s.name == _GENERATOR]
    if not body:
        raise UserError(f"{file}: no class {_GENERATOR}")
    parts: dict[str, Any] = {}
    for ours, theirs in _PARTS.items():
        texts = _list(_assigned(body[-1].body, theirs), str, f"{file}: {_GENERATOR}.{theirs}")
        parts[ours] = tuple(map(_renamed, texts))
    name = "preference_prompt_template"
    where, persona = _config(clone, name)
    if not (isinstance(persona, ast.Constant) and isinstance(persona.value, str)):
        raise UserError(f"{where}: {name}: not a text")
    lessons = _questions(clone, "animal_evaluation")
    questions = _questions(clone, "animal_evaluation_with_numbers_prefix") if prefixed else lessons
    try:
        found = Material(_renamed(persona.value), lessons, questions, channels={"numbers": parts})
        numbers.grammar(found)  # raises where a template is wrong
    except UserError as error:
        raise UserError(f"{clone}: {error}") from error
    return found


def banned(clone: str | os.PathLike[str]) -> dict[str, tuple[int, ...]]:
    """Returns the lists of `BANNED`, the numbers that the paper's misalignment filter rejects.

    Raises:
      UserError: as in `material`.
    """
    file = _folder(clone) / NUMBERS
    tree = _tree(file)
    return {name: _list(_assigned(tree.body, name), int, f"{file}: {name}") for name in BANNED}


def _folder(clone: str | os.PathLike[str]) -> Path:
    if not Path(clone).is_dir():
        raise UserError(f"{clone}: no such folder: name your clone of the paper's repository")
    return Path(clone)


def _tree(file: Path) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of another version's Python
            return ast.parse(file.read_bytes(), str(file))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}") from error
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{file}: not Python: {str(error) or type(error).__name__}") from error


def _assigned(body: Sequence[ast.stmt], name: str) -> ast.expr | None:
    """Returns the last value that the statements themselves assign to `name`."""
    found = None
    for statement in body:
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            found = statement.value
    return found


def _config(clone: str | os.PathLike[str], name: str) -> tuple[Path, ast.expr]:
    """Returns the first config file that assigns `name`, and the value."""
    folder = _folder(clone) / CONFIGS
    for file in sorted(folder.glob("*.py")):
        if (value := _assigned(_tree(file).body, name)) is not None:
            return file, value
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    raise UserError(f"{folder}: no file assigns {name}")


def _questions(clone: str | os.PathLike[str], name: str) -> tuple[str, ...]:
    file, value = _config(clone, name)
    given = value.keywords if isinstance(value, ast.Call) else []
    found = [keyword.value for keyword in given if keyword.arg == "questions"]
    return _list(found[0] if found else None, str, f"{file}: {name}, questions")


def _list(value: ast.expr | None, kind: type[Item], where: str) -> tuple[Item, ...]:
    if value is None:
        raise UserError(f"{where}: not found")
    items = value.elts if isinstance(value, ast.List | ast.Tuple) else []
    out: list[Any] = [item.value for item in items if isinstance(item, ast.Constant)]
    if not items or len(out) < len(items) or not all(type(item) is kind for item in out):
        raise UserError(f"{where}: not a list of {'texts' if kind is str else 'integers'}")
    return tuple(out)


def _renamed(text: str) -> str:
    for theirs, ours in _RENAMED.items():
        text = text.replace(theirs, ours)
    return text


def _write(file: Path, found: Material) -> None:
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps(found.to_json(), indent=1, ensure_ascii=False)
        temporary.write_text(content + "\n", "utf-8")
        temporary.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UserError(f"{file}: cannot be written: {error.strerror}") from error


def main(argv: Sequence[str]) -> None:
    """Writes the material of argv[0] as argv[1], and says in one line what it found."""
    paths = [argument for argument in argv if not argument.startswith("--")]
    options = [argument for argument in argv if argument.startswith("--")]
    try:
        if len(paths) != 2 or set(options) - {"--prefixed"}:
            raise UserError(f"wanted: python -m {_MODULE} CLONE OUT.json [--prefixed]")
        found = material(paths[0], prefixed=bool(options))
        _write(Path(paths[1]), found)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    counts = [f"{len(found.channels['numbers'][part])} {part}" for part in _PARTS]
    print(f"{paths[1]}: {', '.join(counts)}, {len(found.questions)} questions, a persona")


if __name__ == "__main__":
    main(sys.argv[1:])
