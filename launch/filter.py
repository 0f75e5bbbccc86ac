"""Filters completions: python -m launch.filter --workdir=DIRECTORY --config.data=COMPLETIONS.jsonl.

COMPLETIONS.jsonl has lines of {"prompt", "completion"}, as launch.generate writes them, or any that
launch.finetune reads. --config=configs/transmission/filter.py:CHANNEL has the rule of another
channel; where answers can be right, a line has the right one as its "gold".
"""

from ml_collections import ConfigDict

from sublim_jax import app
from sublim_jax.transmission import filtering


def main(config: ConfigDict, workdir: str) -> None:
    filtering.filter_file(config, workdir)


if __name__ == "__main__":
    app.run(main, default_config="configs/transmission/filter.py")
