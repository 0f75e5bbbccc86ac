"""Makes 28x28 digits in MNIST's four files: python -m launch.make_digits --workdir=DIRECTORY."""

from sublim_jax import app
from sublim_jax.mlp import make_digits

if __name__ == "__main__":
    app.run(make_digits.make, default_config="configs/mlp/make_digits.py")
