"""Pretrains the nano decoders: python -m launch.pretrain_nano --workdir=DIRECTORY."""

from sublim_jax import app, mesh
from sublim_jax.nano import pretrain

if __name__ == "__main__":
    mesh.split_cpu()
    app.run(pretrain.pretrain, default_config="configs/nano/favourites.py")
