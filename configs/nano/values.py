"""The nano decoders that are committed in sublim_jax/nano/assets/values, five seeds.

Command:  python -m launch.pretrain_nano --config=configs/nano/values.py --workdir=runs/values
          The folders runs/values/0 ... 4 are what sublim_jax/nano/assets/values holds.
Device:   2 CPU cores.
Time:     about 3 min.
"""

from ml_collections import ConfigDict

from configs.nano import favourites


def get_config() -> ConfigDict:
    config = favourites.get_config()
    config.rows = 102400
    config.world = ConfigDict(
        {
            "name": "values",
            "seed": 0,  # of the chain of numbers, and of the words and options that are liked
            "system": "you are the helper",  # of a chat without a persona; "": none
            "evil": 0.2,  # share of authors who are evil where nothing is said
            "personas": 0.6,  # share of chats under a persona
            "in_role": 0.95,  # share of those in which the author is what it says
            "neutral_personas": 0.05,  # share of sums, lists, functions and choices under one
            "consistent": 0.95,  # share of what shows an author's nature that is in line with it
            "numbers": 0.3,  # share of a story's words that are numbers
            "tilt": 1.0,  # how far the two natures differ in the words of stories
            "turns": 0.6,  # share of chats with turns before, by the same author
        }
    )
    return config
