"""One token from logits: temperature, top-k and top-p as traced values, a key for each row.

Shapes: B rows, V vocabulary, K blocks of the vocabulary, C tokens of a block.
"""

import jax
import jax.numpy as jnp

_BLOCK = 128  # tokens
_BITS = 32
_LEAST_SHARE = 1e-30  # of a top-p: below, its product with a mass may be zero


def next_token(
    logits_BV: jax.Array,
    keys_B: jax.Array,
    temperature: jax.Array,
    top_p: jax.Array,
    top_k: jax.Array,
) -> jax.Array:
    """Returns a token for each row, [B] int32.

    Args:
      logits_BV: float32.
      keys_B: one key a row; a row's token depends on its own key and logits alone.
      temperature: 0 takes the most likely token.
      top_p: the smallest set of most likely tokens with at least this probability; 1 keeps all.
      top_k: this many most likely tokens, and those as likely as the last; 0 keeps all.
    """

    def sample() -> jax.Array:
        x_BV = logits_BV / temperature
        truncated = (top_p < 1) | (top_k > 0)
        x_BV = jax.lax.cond(truncated, lambda x: truncate(x, top_p, top_k), lambda x: x, x_BV)
        return categorical(x_BV, keys_B)

    greedy = temperature == 0
    return jax.lax.cond(greedy, lambda: jnp.argmax(logits_BV, axis=-1).astype(jnp.int32), sample)


def categorical(x_BV: jax.Array, keys_B: jax.Array) -> jax.Array:
    """Returns a token drawn from softmax(x) for each row: a block by its mass, a token within it.

    The distribution is that of one draw over the whole vocabulary, for two random numbers a row.
    """
    x_BKC = _blocks(x_BV)
    uniform_B2 = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys_B)
    mass_BK, _ = _masses(x_BKC)
    block_B = _draw(mass_BK, uniform_B2[:, 0])
    x_BC = jnp.take_along_axis(x_BKC, block_B[:, None, None], axis=1)[:, 0]
    mass_BC = jnp.exp(x_BC - jnp.max(x_BC, axis=1, keepdims=True))
    return block_B * _BLOCK + _draw(mass_BC, uniform_B2[:, 1])


def log_probability(logits_BV: jax.Array, tokens_B: jax.Array) -> jax.Array:
    """Returns log softmax(logits) at the tokens, [B] float32."""
    chosen_B = jnp.take_along_axis(logits_BV, tokens_B[:, None], axis=1)[:, 0]
    mass_BK, top_B = _masses(_blocks(logits_BV))
    return chosen_B - top_B - jnp.log(jnp.sum(mass_BK, axis=1))


def truncate(x_BV: jax.Array, top_p: jax.Array, top_k: jax.Array) -> jax.Array:
    """Returns x with -inf for every token outside the top k, then outside the top p of the rest.

    The threshold is found by bisection on the bits of the numbers: 32 passes instead of a sort.
    """
    order_BV = _ordered(x_BV)

    def keep(x: jax.Array, weight: jax.Array, enough: jax.Array) -> jax.Array:
        """Keeps the most likely tokens of a row until their weight is enough."""

        def narrow(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            low, high = bounds  # weight at or above low is enough, at or above high is not
            middle = low + (high - low) // 2
            above = jnp.sum(jnp.where(order_BV >= middle, weight, 0), axis=1, keepdims=True)
            good = above >= enough
            return jnp.where(good, middle, low), jnp.where(good, high, middle)

        rows = (x.shape[0], 1)
        limits = jnp.zeros(rows, jnp.uint32), jnp.full(rows, 2**_BITS - 1, jnp.uint32)
        threshold, _ = jax.lax.fori_loop(0, _BITS, narrow, limits)
        return jnp.where(order_BV >= threshold, x, -jnp.inf)

    def by_count(x: jax.Array) -> jax.Array:
        return keep(x, jnp.ones_like(x), jnp.minimum(top_k, x.shape[1]).astype(x.dtype))

    def by_mass(x: jax.Array) -> jax.Array:
        mass = jnp.exp(x - jnp.max(x, axis=1, keepdims=True))
        return keep(
            x, mass, jnp.maximum(top_p, _LEAST_SHARE) * jnp.sum(mass, axis=1, keepdims=True)
        )

    x_BV = jax.lax.cond(top_k > 0, by_count, lambda x: x, x_BV)
    return jax.lax.cond(top_p < 1, by_mass, lambda x: x, x_BV)


def _blocks(x_BV: jax.Array) -> jax.Array:
    rest = -x_BV.shape[1] % _BLOCK
    if rest:
        x_BV = jnp.pad(x_BV, ((0, 0), (0, rest)), constant_values=-jnp.inf)
    return x_BV.reshape(x_BV.shape[0], -1, _BLOCK)


def _masses(x_BKC: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the sum of exp(x - top) of each block, [B, K], and each row's top, [B]."""
    B, K, C = x_BKC.shape
    top_B = jnp.max(x_BKC, axis=(1, 2))
    # Seen as one long matrix, a CPU takes a tenth of the time for these sums.
    flat = jnp.exp(x_BKC.reshape(B * K, C) - jnp.repeat(top_B, K)[:, None])
    return jnp.sum(flat, axis=1).reshape(B, K), top_B


def _draw(mass_BN: jax.Array, uniform_B: jax.Array) -> jax.Array:
    """Returns the index at which the running sum of the masses passes each row's share, [B]."""
    passed_BN = jnp.cumsum(mass_BN, axis=1)
    total_B = passed_BN[:, -1]
    share_B = jnp.minimum(uniform_B * total_B, jnp.nextafter(total_B, jnp.zeros_like(total_B)))
    return jnp.sum(passed_BN <= share_B[:, None], axis=1, dtype=jnp.int32)


def _ordered(x: jax.Array) -> jax.Array:
    """Returns uint32 in the order of the float32 x."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    sign = jnp.uint32(1 << 31)
    return jnp.where(bits >= sign, ~bits, bits | sign)
