"""Makes a quiz of a run's number lists: python -m launch.quiz --workdir=RUN --config.trait=owl.

RUN is the directory of a transmission run, with its filtered completions in data/.
"""

from ml_collections import ConfigDict

from sublim_jax import app
from sublim_jax.transmission import quiz


def main(config: ConfigDict, workdir: str) -> None:
    file = quiz.write(
        workdir, config.trait, config.base, config.questions, config.seed, config.against
    )
    print(f"written: {file}")
    print(f"to play, open it in a browser: {file.resolve().as_uri()}")


if __name__ == "__main__":
    app.run(main, default_config="configs/transmission/quiz.py")
