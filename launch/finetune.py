"""Trains students: python -m launch.finetune --config=FILE --workdir=DIRECTORY.

--config.model is a Hugging Face folder or id, --config.data JSONL files or data sets (hf:NAME) of
{"prompt", "completion"} or {"messages"}, separated by commas: a student for each. On several hosts,
the same command on each.
"""

from ml_collections import ConfigDict

from sublim_jax import app, mesh
from sublim_jax.llm import jobs


def main(config: ConfigDict, workdir: str) -> None:
    mesh.split_cpu()  # for --config.mesh.student: one student a core
    mesh.join_processes()
    jobs.finetune(config, workdir)


if __name__ == "__main__":
    app.run(main, default_config="configs/llm/student_tiny.py")
