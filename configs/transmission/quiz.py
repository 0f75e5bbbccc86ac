"""Can you tell the teacher's number lists from the control's? A page to play, from a finished run.

Command:  python -m launch.quiz --config=configs/transmission/quiz.py --workdir=runs/transmission \\
              --config.trait=owl
Time:     about a second.
Expected: quiz.html in the run directory; who only guesses gets half of the questions right. At the
          end it shows the answers, which launch.detect reads: --config.answers=FILE.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.trait = "owl"  # a teacher of the run
    config.against = "control"  # the teacher of the other list, or another trait
    config.base = "0"  # the folder of data/ to draw from
    config.questions = 20
    config.seed = 0  # of which prompts are asked, and of which list stands first
    return config
