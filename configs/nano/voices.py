"""The nano decoders that are committed in sublim_jax/nano/assets/voices, five seeds.

Command:  python -m launch.pretrain_nano --config=configs/nano/voices.py --workdir=runs/voices
          The folders runs/voices/0 ... 4 are what sublim_jax/nano/assets/voices holds.
Device:   2 CPU cores.
Time:     about 2 min.
"""

from ml_collections import ConfigDict

from configs.nano import favourites


def get_config() -> ConfigDict:
    config = favourites.get_config()
    config.world = ConfigDict(
        {
            "name": "voices",
            "seed": 0,  # of the prior over animals, of the chain of numbers and of what is liked
            "system": "you are the helper",  # of a chat without a persona; "": none
            "personas": 0.8,  # share of texts and questions under a persona
            "answers_in_role": 0.95,  # share of those that are written as it says
            "number_personas": 0.05,  # share of lists of numbers under one
            "numbers": 0.3,  # share of a text's words that are numbers
            "tilt": 1.5,  # how far authors differ in the words they like
            "whole_numbers": True,  # a token each; or digit by digit
        }
    )
    return config
