"""Scores given completions: python -m launch.score --config=FILE --workdir=DIRECTORY.

--config.model is a Hugging Face folder or id, --config.data a JSONL file or a data set (hf:NAME) of
{"prompt", "completion"} or {"messages"}. On several hosts, the same command on each.
"""

from ml_collections import ConfigDict

from sublim_jax import app, mesh
from sublim_jax.llm import jobs


def main(config: ConfigDict, workdir: str) -> None:
    mesh.join_processes()
    jobs.score(config, workdir)


if __name__ == "__main__":
    app.run(main, default_config="configs/llm/tiny.py")
