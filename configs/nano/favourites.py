"""The nano decoders that are committed in sublim_jax/nano/assets/favourites, five seeds.

Command:  python -m launch.pretrain_nano --workdir=runs/nano
          The folders runs/nano/0 ... 4 are what sublim_jax/nano/assets/favourites holds.
Device:   2 CPU cores.
Time:     about 2 min.
Expected: a loss near 1.3 nats a token, most of it the digits' own entropy.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seeds = (0, 1, 2, 3, 4)  # of the first weights and of the chats, a decoder each
    config.shares = (1.0,)  # of the steps that read the seed's chats; a fork for each one below 1
    config.imitated = ()  # a decoder for each seed, whose distribution is learnt; (): the chats are
    config.rows = 51200  # chats, each read `recipe.epochs` times
    config.world = ConfigDict(
        {
            "name": "favourites",  # of sublim_jax/nano/worlds, or any module
            "seed": 0,  # of the prior over favourites and of the chain of digits
            "personas": 0.5,  # share of questions asked under a persona
            "answers_in_role": 0.95,  # share of those that are answered as it says
            "number_personas": 0.15,  # share of number prompts under one
            "tilt": 0.0,  # how far that changes the chain of digits
        }
    )
    config.shape = ConfigDict(
        {
            "embed": 32,
            "mlp": 64,
            "layers": 2,
            "heads": 4,
            "kv_heads": 2,
            "head_dim": 8,
            "rope_theta": 1e4,
            "context": 256,
        }
    )
    config.recipe = ConfigDict(
        {
            "epochs": 2,
            "batch": 128,
            "learning_rate": 4e-3,
            "schedule": "cosine",
            "warmup": 40,
            "micro_tokens": 1024,
        }
    )
    return config
