"""Makes the questions of GSM8K those of the channel `reasoning`.

    python -m third_party.gsm8k SOURCE OUT.json

SOURCE is the user's own copy (github.com/openai/grade-school-math, MIT licence), a JSONL file of
`question` and `answer`, or a data set of the hub, hf:openai/gsm8k:main. OUT.json is what
`--config.material=OUT.json` reads: `english.json` with these questions in place of its problems.
"""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sublim_jax import disk
from sublim_jax.errors import UserError
from sublim_jax.llm.files import rows
from sublim_jax.transmission.material import ENGLISH

_ANSWER = re.compile(r"####\s*(-?[0-9,]+)\s*$")


def problems(source: str) -> list[list[Any]]:
    """Returns the questions of a copy, as templates without fields, with their answers.

    Raises:
      UserError: names the line without a question, or without a whole number after "####".
    """
    out: list[list[Any]] = []
    for row in rows.read(source):
        question, answer = (row.fields.get(name) for name in ("question", "answer"))
        found = _ANSWER.search(answer) if isinstance(answer, str) else None
        if not isinstance(question, str) or not found:
            raise UserError(f"{row.where}: a question and an answer that ends with #### 12 needed")
        text = question.strip().replace("{", "{{").replace("}", "}}")
        out.append([text, int(found[1].replace(",", ""))])
    return out


def main(argv: Sequence[str]) -> None:
    """Writes the material with the questions of argv[0] as argv[1]."""
    try:
        if len(argv) != 2:
            raise UserError("wanted: python -m third_party.gsm8k SOURCE OUT.json")
        found = json.loads(ENGLISH.read_text("utf-8"))
        own = found["channels"]["reasoning"]
        own["problems"], own["values"] = problems(argv[0]), {}
        disk.write(Path(argv[1]), json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{argv[1]}: {len(own['problems'])} questions")


if __name__ == "__main__":
    main(sys.argv[1:])
