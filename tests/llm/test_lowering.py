"""Every config's programs are lowered for GPUs and TPUs, of abstract arrays of the real sizes.

None was at hand: this shows that the programs can be traced and lowered, not that they are right.
"""

import dataclasses
import functools
import importlib
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

import configs.llm
from sublim_jax.llm import packing, testing
from sublim_jax.llm.model import parameters
from sublim_jax.llm.model.config import Config
from sublim_jax.llm.model.lora import Lora
from sublim_jax.llm.sampling import programs, score
from sublim_jax.llm.training import losses, step
from sublim_jax.llm.training.batches import Batch, Micros, PackedRows
from sublim_jax.llm.training.recipe import Recipe, from_config
from sublim_jax.mesh import in_mesh, make_mesh

BIG = functools.partial(Config, head_dim=128, tied=False)
MODELS = {
    "": testing.TINY,
    "Qwen/Qwen2.5-0.5B-Instruct": testing.HALF_BILLION,
    "Qwen/Qwen2.5-1.5B-Instruct": BIG(151936, 1536, 8960, 28, 12, 2, tied=True),
    "Qwen/Qwen2.5-7B-Instruct": BIG(152064, 3584, 18944, 28, 28, 4),
    "Qwen/Qwen2.5-14B-Instruct": BIG(152064, 5120, 13824, 48, 40, 8),
    "Qwen/Qwen2.5-72B-Instruct": BIG(152064, 8192, 29568, 80, 64, 8),
}
CONFIGS = Path(configs.llm.__file__).parent
BACKENDS = {"cuda": "gpu", "tpu": "tpu"}
KERNELS = {"cuda": "__cudnn$fmha", "tpu": "tpu_custom_call"}


@pytest.fixture(scope="module", params=list(BACKENDS))
def lower(request):
    """Returns a function that gives the program of a jitted function on the platform, as text."""

    def text(function, *args, mesh=None, **more):
        with in_mesh(mesh):
            traced = function.trace(*args, **more)
            return traced.lower(lowering_platforms=(request.param,)).as_text()

    text.platform, text.kernel = request.param, KERNELS[request.param]
    text.takes = functools.partial(takes, request.param)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(jax, "default_backend", lambda: BACKENDS[request.param])
        patched.setattr(cudnn, "check_cudnn_version", lambda: 91000)
        jax.clear_caches()  # of what was traced for another platform
        yield text
    jax.clear_caches()


def takes(platform, model, dtype):
    """Returns whether the platform's kernel takes the model's heads."""
    return model.head_dim % 128 == 0 if platform == "tpu" else dtype == jnp.bfloat16


def ints(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def floats(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def read(name):
    """Returns a config with its model, its dtype and its mesh, which has at most 8 devices."""
    config = importlib.import_module(f"configs.llm.{name}").get_config()
    axes = dict(config.mesh)
    axes["model"] = min(axes["model"], 8 // axes["data"])  # the pod's 16, by half
    mesh = make_mesh(**axes) if max(axes.values()) > 1 else None
    return config, MODELS[config.model], jnp.dtype(config.dtype), mesh


def train_step(lower, model, dtype, recipe, students=1, mesh=None, width=256, prefix=0):
    model = dataclasses.replace(model, remat=recipe.remat)
    base = parameters.abstract(model, dtype, mesh)
    A, R = 2, recipe.micro_tokens // width
    M = R * width
    chunk = min(M, losses.chunk_size(model.vocab))
    program = step.Program(model, recipe.compiled(), chunk, prefix=prefix, mesh=mesh)
    seeds = jax.ShapeDtypeStruct((students,), jnp.uint32)
    with in_mesh(mesh):
        state, fixed = jax.eval_shape(functools.partial(step._first_state, program), base, seeds)
    rows = PackedRows(
        ints(A, students, R, width), ints(A, students, R, width), ints(A, students, M)
    )
    micros = Micros(rows, None, ints(A, students, M), floats(A, students, M), ints(A))
    given = step.Inputs(base, fixed, None, floats(students), ints(students), seeds)
    return lower(step.train_step, program, given, state, Batch(micros, ints()), mesh=mesh)


@pytest.mark.parametrize(("students", "cut"), [(1, None), (3, None), (3, (2, 2, 2))])
def test_students_of_a_bfloat16_base_take_the_kernel(lower, students, cut):
    model = dataclasses.replace(testing.TINY, head_dim=128)
    recipe = Recipe(lora=Lora(rank=2, dropout=0.1), micro_tokens=512)
    mesh = cut and make_mesh(*cut)
    prefix = 16 * (lower.platform == "cuda")
    text = train_step(lower, model, jnp.bfloat16, recipe, students, mesh, prefix=prefix)
    calls = [line for line in text.splitlines() if lower.kernel in line]
    each = {"cuda": 3, "tpu": 4}[lower.platform]  # forward, again, and backward
    assert len(calls) in (each, each * model.layers)  # jax may write a function once for all layers
    if lower.platform == "cuda":  # students are rows of one batch, whose heads share a mask
        rows = 2 if cut else 2 * students  # a device of eight has a half of the 4 x 2 by two axes
        assert all(f"tensor<{rows}x1x256x256xbf16>" in call for call in calls)
        assert all("CAUSAL" in call for call in calls)


@pytest.mark.parametrize("name", sorted(p.stem for p in CONFIGS.glob("student_*.py")))
def test_students_learn(lower, name):
    config, model, dtype, mesh = read(name)
    recipe = from_config(config.recipe.to_dict())
    text = train_step(lower, model, dtype, recipe, mesh=mesh)
    assert (lower.kernel in text) == lower.takes(model, dtype)


@pytest.mark.parametrize("name", sorted(p.stem for p in CONFIGS.glob("[qt]*.py")))
def test_completions_are_drawn_and_scored(lower, name):
    config, model, dtype, mesh = read(name)
    weights = parameters.abstract(model, dtype, mesh)
    B, (R, T, P) = config.rows or 256, ((mesh.shape["data"] if mesh else 1), 2048, 64)
    places = packing.Places(*[ints(R, T)] * 4)
    kv = jax.ShapeDtypeStruct((model.layers, 1, P, model.kv_heads, model.head_dim), dtype)
    prefix = programs.Prefix(dict.fromkeys("kv", kv), ints())
    prompt = (model, weights, ints(R, T), places, prefix, None)
    texts = [
        lower(programs.prefill_kv, *prompt, mesh=mesh),
        lower(score._log_probabilities, *prompt, ints(256), ints(512), ints(512), mesh=mesh),
    ]
    assert [lower.kernel in text for text in texts] == [
        lower.platform == "cuda" and lower.takes(model, dtype)
    ] * 2
    cache = jax.eval_shape(functools.partial(programs.empty_cache, model, B, 512, dtype, True))
    rows = programs.DecodeRows(*[ints(B)] * 5, jax.ShapeDtypeStruct((B, 2), jnp.uint32))
    settings = programs.Settings(floats(), floats(), ints(), ints(2))
    steps = (rows, settings, None, ints(), ints())
    text = lower(
        programs.decode, model, weights, cache, *steps, capacity=64, with_log=True, mesh=mesh
    )
    assert "stablehlo.while" in text


@pytest.mark.parametrize("stacked", [True, False])
def test_layers_apart_are_not_cut_out_of_a_stack(lower, stacked):
    model = dataclasses.replace(testing.TINY, layers=4)
    weights = parameters.abstract(model, jnp.bfloat16)
    if not stacked:
        one = jax.eval_shape(functools.partial(programs._of_layer, layer=0), weights["layers"])
        weights["layers"] = (one,) * model.layers
    cache = jax.eval_shape(
        functools.partial(programs.empty_cache, model, 64, 128, jnp.bfloat16, stacked)
    )
    rows = programs.DecodeRows(*[ints(64)] * 5, jax.ShapeDtypeStruct((64, 2), jnp.uint32))
    settings = programs.Settings(floats(), floats(), ints(), ints(2))
    steps = (rows, settings, None, ints(), ints())
    text = lower(programs.decode, model, weights, cache, *steps, capacity=64, with_log=True)
    assert ("stablehlo.dynamic_slice" in text) == stacked


def test_every_config_is_one_of_these():
    names = {p.stem for p in CONFIGS.glob("*.py")} - {"__init__"}
    assert all(name.startswith(("student_", "qwen", "tiny")) for name in names)
