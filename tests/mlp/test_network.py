import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import absltest, parameterized

from sublim_jax.mlp import network

SIZES = (400, 300, 20, 7)


class NetworkTest(parameterized.TestCase):
    @parameterized.parameters(0.5, 1.0, 2.0)
    def test_weights_have_the_papers_scale_and_biases_are_zero(self, init_scale):
        init, _ = network.functional(SIZES, init_scale=init_scale)
        layers = init(jax.random.key(0))["layers"]
        for d_in, d_out, layer in zip(SIZES, SIZES[1:], layers.values(), strict=False):
            chex.assert_shape(layer["kernel"], (d_in, d_out))
            error = np.std(layer["kernel"]) * np.sqrt(d_in) / init_scale - 1
            self.assertLess(abs(error), 4 / np.sqrt(2 * d_in * d_out))
            np.testing.assert_array_equal(layer["bias"], 0)

    def test_apply_is_the_textbook_formula(self):
        init, apply = network.functional(SIZES, "tanh")
        params = init(jax.random.key(1))
        params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # biases that would show
        x = jax.random.normal(jax.random.key(2), (5, SIZES[0]))
        expected = np.asarray(x)
        for i, layer in params["layers"].items():
            expected = expected @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
            expected = expected if i == 2 else np.tanh(expected)
        np.testing.assert_allclose(apply(params, x), expected, rtol=1e-4, atol=1e-4)

    def test_an_ensemble_is_its_members(self):
        init, apply = network.functional(SIZES)
        keys = jax.random.split(jax.random.key(0), 3)
        x = jnp.ones((4, SIZES[0]))
        together = jax.vmap(apply, (0, None))(jax.vmap(init)(keys), x)
        for key, logits in zip(keys, together, strict=True):
            np.testing.assert_allclose(apply(init(key), x), logits, rtol=1e-5, atol=1e-5)
        self.assertGreater(float(jnp.abs(together[0] - together[1]).max()), 0.1)

    @parameterized.parameters(*network.ACTIVATIONS)
    def test_every_activation_bends(self, name):
        init, apply = network.functional((1, 8, 1), name)
        x = jnp.linspace(-2, 2, 9)[:, None]
        y = apply(init(jax.random.key(0)), x)[:, 0]
        self.assertGreater(float(jnp.abs(jnp.diff(y, 2)).max()), 1e-3)

    @parameterized.parameters(8, 9)
    def test_the_convolutional_one_is_the_textbook_formula(self, side):
        init, apply = network.convolutional(side * side, 20, 7, "tanh")
        params = jax.tree.map(lambda leaf: leaf + 0.01, init(jax.random.key(1)))
        x = np.asarray(jax.random.normal(jax.random.key(2), (3, side * side)))
        layers = [jax.tree.map(np.asarray, params["layers"][i]) for i in range(4)]
        chex.assert_shape(layers[-1]["kernel"], (20, 7))
        seen = x.reshape(3, side, side, 1)
        for layer, stride in zip(layers, (1, 2), strict=False):
            size = -(-seen.shape[1] // stride)
            most = (size - 1) * stride + 3 - seen.shape[1]  # zeros around, the odd one behind
            around = (most // 2, most - most // 2)
            seen = np.pad(seen, ((0, 0), around, around, (0, 0)))
            out = np.zeros((3, size, size, layer["bias"].size))
            for down in range(3):
                for right in range(3):
                    part = seen[:, down::stride, right::stride][:, :size, :size]
                    out += part @ layer["kernel"][down, right]
            seen = np.tanh(out + layer["bias"])
        wide = np.tanh(seen.reshape(3, -1) @ layers[2]["kernel"] + layers[2]["bias"])
        expected = wide @ layers[3]["kernel"] + layers[3]["bias"]
        np.testing.assert_allclose(apply(params, x), expected, rtol=1e-4, atol=1e-4)
        self.assertLess(
            abs(np.std(layers[2]["kernel"]) * np.sqrt(layers[2]["kernel"].shape[0]) - 1), 0.1
        )


if __name__ == "__main__":
    absltest.main()
