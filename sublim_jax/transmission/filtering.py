"""A JSONL file of completions through the filter, without a study around it."""

from pathlib import Path

from ml_collections import ConfigDict

from sublim_jax.errors import UserError
from sublim_jax.llm.files import rows
from sublim_jax.report import markdown_table
from sublim_jax.rundir import RunDir
from sublim_jax.transmission import channels


def filter_file(config: ConfigDict, workdir: str) -> None:
    """Writes `data.jsonl`, the lines of `config.data` that are kept, and prints how many are not.

    A line has an answer, as `llm/files/rows.py` says; it is kept as it stands. `filter.json` counts
    them by the reason for which they were rejected.

    Raises:
      UserError: a bad file or line; nothing is written then.
    """
    if not config.data:
        raise UserError("--config.data is missing: name it on the command line")
    source = Path(config.data)
    rule = channels.rule(channels.find(config.channel), config.filter.to_dict())
    given = [
        {"completion": rows.answer(row), "line": row.line}
        for row in rows.read(config.data, config.columns)
    ]
    kept, rejected = channels.filtered(given, rule)
    raw = len(given)
    out = Path(workdir) / "data.jsonl"
    if out.exists() and source.exists() and out.samefile(source):
        raise UserError(f"--workdir={workdir}: its data.jsonl is the file to filter")
    run_dir = RunDir(workdir, "filter", config.to_dict())
    run_dir.write(out.name, "".join(row["line"] for row in kept))
    run_dir.write_json("filter.json", {"raw": raw, "kept": len(kept), "rejected": rejected})
    counts = {"kept": len(kept), **rejected}
    table = [[name, f"{n:,}", f"{n / raw:.1%}"] for name, n in counts.items()]
    print(markdown_table(["", "lines", "share"], table))
    print(out)
