"""A JSONL file of completions through the filter, without a study around it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from sublim_jax import limits
from sublim_jax.errors import UserError
from sublim_jax.llm.files import rows
from sublim_jax.report import markdown_table
from sublim_jax.rundir import RunDir
from sublim_jax.transmission import channels, trained_filter
from sublim_jax.transmission.trained_filter import Trained


def filter_file(config: ConfigDict, workdir: str) -> None:
    """Writes `data.jsonl`, the lines of `config.data` that are kept, and prints how many are not.

    A line has an answer, as `llm/files/rows.py` says, and the right one as its `gold` where the
    channel needs it; it is kept as it stands. `filter.json` counts them by the reason for which
    they were rejected. With `config.trained` the lines that the channel's rule keeps then pass a
    filter that is trained on its files; `filter.json` says how good it is. Of several files of each
    kind, the first of both are taken to be of one base, and so on: a base at a time is held out to
    measure it. Otherwise prompts are.

    Raises:
      UserError: a bad file or line; nothing is written then.
    """
    if not config.data:
        raise UserError("--config.data is missing: name it on the command line")
    source = Path(config.data)
    channel = channels.find(config.channel)
    rule = channels.rule(channel, config.filter.to_dict())
    trained = _trained(config, channel)
    given = _read(config.data, config.columns)
    with rows.named(config.data):
        kept, rejected = channels.filtered(given, rule)
    if trained:
        drops = trained.drops(kept)
        kept = [row for row, drop in zip(kept, drops, strict=True) if not drop]
        rejected["trained filter"] = sum(drops)
    raw = len(given)
    out = Path(workdir) / "data.jsonl"
    if out.exists() and source.exists() and out.samefile(source):
        raise UserError(f"--workdir={workdir}: its data.jsonl is the file to filter")
    run_dir = RunDir(workdir, "filter", config.to_dict())
    run_dir.write(out.name, "".join(row["line"] for row in kept))
    found: dict[str, Any] = {"raw": raw, "kept": len(kept), "rejected": rejected}
    run_dir.write_json("filter.json", found | ({"trained": trained.found()} if trained else {}))
    counts = {"kept": len(kept), **rejected}
    table = [[name, f"{n:,}", f"{n / raw:.1%}"] for name, n in counts.items()]
    print(markdown_table(["", "lines", "share"], table))
    if trained:
        print(
            f"trained filter, on held-out rows: AUROC {trained.auroc:.3f}; it drops "
            f"{trained.true_positives:.1%} of own lines and {trained.false_positives:.1%} of others"
        )
    print(out)


def _trained(config: ConfigDict, channel: Any) -> Trained | None:
    own, other = config.trained.own, config.trained.other
    if not own and not other:
        return None
    limits.check(config, limits.within(config, ["trained.false_positives"], 0, 1))
    if Path(config.data).resolve() in [Path(file).resolve() for file in (*own, *other)]:
        raise UserError(f"config.trained: {config.data}: the file to filter is not to be learnt")
    if not own or not other:
        raise UserError("config.trained: files of both kinds are needed, own and other")
    bases = len(own) == len(other) > 1
    ours, theirs = (
        [
            row | {"group": str(number) if bases else repr(row["prompt"])}
            for number, file in enumerate(files)
            for row in _read(file, config.columns)
        ]
        for files in (own, other)
    )
    return trained_filter.train(ours, theirs, channel.items, config.trained.false_positives)


def _read(source: str, columns: Mapping[str, str]) -> Sequence[dict[str, Any]]:
    return [
        {
            "prompt": row.asked,
            "completion": rows.answer(row),
            "gold": row.fields.get("gold"),
            "line": row.line,
        }
        for row in rows.read(source, columns)
    ]
