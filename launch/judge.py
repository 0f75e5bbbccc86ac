"""Has free-form answers judged: python -m launch.judge --workdir=DIRECTORY --config.judge=JUDGE.

Answers are those of all models of a study (--config.run=RUN), of --config.model with its
--config.adapters, or of files (--config.answers). JUDGE is a Hugging Face folder or id; with
--config.endpoint, a model of that OpenAI-compatible endpoint, whose key is in OPENAI_API_KEY.
"""

from ml_collections import ConfigDict

from sublim_jax import app
from sublim_jax.transmission import judging


def main(config: ConfigDict, workdir: str) -> None:
    judging.judge(config, workdir)


if __name__ == "__main__":
    app.run(main, default_config="configs/transmission/judge.py")
