"""Parity with peft: files both ways, gradients, and whole training runs."""

import dataclasses

import jax
import numpy as np
import pytest

from sublim_jax.llm import Decoder, testing
from sublim_jax.llm.files import peft
from sublim_jax.llm.model import lora, transformer
from sublim_jax.llm.model.lora import Lora
from sublim_jax.llm.training import examples, finetune
from sublim_jax.llm.training.recipe import Recipe
from sublim_jax.llm.training.trained import Trained
from tests.llm.lively import lively

pytestmark = [
    pytest.mark.oracle,
    # transformers and PyTorch on their own affairs.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:Unable to fetch remote file"),
]

_ODD = dataclasses.replace(
    testing.TINY, layers=3, heads=6, kv_heads=2, embed=48, mlp=72, tied=False
)


def _adapter(config, spec, seed=3):
    """An adapter whose b is not zero."""
    draw = np.random.default_rng(seed)
    factors = jax.tree.map(
        lambda f: np.asarray(f) + 0.1 * draw.standard_normal(f.shape, np.float32),
        lora.initialise(spec, config),
    )
    return lora.Adapter(spec, factors)


def _rows(config, n=12, seed=0):
    draw = np.random.default_rng(seed)
    return [
        examples.Example(
            draw.integers(0, config.vocab, draw.integers(3, 20)).tolist(),
            draw.integers(0, config.vocab, draw.integers(1, 12)).tolist(),
        )
        for _ in range(n)
    ]


def _torch_model(folder):
    import torch
    import transformers

    loader = transformers.AutoModelForCausalLM
    return loader.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def _logits(model, tokens, adapter):
    tree = lora.folded(adapter.lora, adapter.factors)
    weights = model.pure()
    x = transformer.forward(model.config, weights, tokens, adapter=tree)
    return np.asarray(transformer.head(model.config, weights, x))


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("config", [testing.TINY, _ODD], ids=["tied", "untied"])
def test_our_file_gives_the_same_logits_in_peft_and_comes_back_from_it(tmp_path, config, rslora):
    import torch
    from peft import PeftModel

    model = lively(config)
    spec = Lora(rank=3, alpha=5.0, targets=("q", "v", "down"), rslora=rslora)
    adapter = _adapter(config, spec)
    model.save_pretrained(tmp_path / "base")
    peft.save(adapter, tmp_path / "ours")
    theirs = PeftModel.from_pretrained(_torch_model(tmp_path / "base"), tmp_path / "ours")
    tokens = np.random.default_rng(1).integers(0, config.vocab, (2, 17))
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
    np.testing.assert_allclose(_logits(model, tokens, adapter), expected, atol=1e-4)
    merged = np.asarray(model.merge(adapter)(tokens))
    np.testing.assert_allclose(merged, expected, atol=1e-4)
    plain = np.asarray(model(tokens))
    assert np.abs(plain - expected).max() > 1e-2

    theirs.save_pretrained(tmp_path / "theirs")
    back = peft.load(tmp_path / "theirs", config)
    assert dataclasses.replace(back.lora, seed=0) == spec
    jax.tree.map(np.testing.assert_array_equal, back.factors, adapter.factors)


@pytest.mark.parametrize("config", [testing.TINY, _ODD], ids=["tied", "untied"])
@pytest.mark.parametrize("remat", ["none", "full"])
def test_gradients_are_those_of_peft(tmp_path, config, remat):
    rows = _rows(config)
    model = lively(config)
    spec = Lora(rank=4, alpha=8.0)
    recipe = Recipe(
        lora=spec,
        optimizer={"name": "sgd"},
        learning_rate=1.0,
        schedule="constant",
        warmup=0,
        clip=0,
        epochs=1,
        batch=len(rows),
        micro_tokens=128,
        remat=remat,
    )
    start = _adapter(config, spec)
    data = examples.collect(rows, config)
    (after,) = finetune.train(model, data, recipe, start=[Trained(start)])
    ours = jax.tree.map(lambda before, now: before - now, start.factors, after.adapter.factors)

    theirs = _their_model(tmp_path, model, start)
    _their_loss(theirs, rows).backward()
    found = _their_factors(theirs, lambda p: p.grad)
    assert set(found) == {(n, i) for n in spec.targets for i in range(config.layers)}
    for (name, layer), pair in found.items():
        for part, wanted in zip("ab", pair, strict=True):
            scale = np.abs(wanted).max()
            assert scale > 1e-4
            # The step is a difference of numbers of about 1: 1e-7 of rounding.
            assert np.abs(ours[name][part][layer] - wanted).max() <= 1e-4 * scale + 3e-7


@pytest.mark.parametrize("frozen_a", [False, True])
def test_training_is_that_of_peft(tmp_path, frozen_a):
    """AdamW with clipping, warmup, a linear schedule, an epoch's last short batch."""
    import torch
    import transformers

    config = _ODD
    rows = _rows(config, 22)
    spec = Lora(rank=4, alpha=16.0, train_a=not frozen_a)
    model = lively(config)
    recipe = Recipe(lora=spec, learning_rate=3e-3, epochs=2, batch=8, micro_tokens=64, warmup=2)
    data = examples.collect(rows, config)
    outcome = finetune.fit(model, data, recipe)

    theirs = _their_model(tmp_path, model, lora.Adapter(spec, lora.initialise(spec, config)))
    if frozen_a:
        for name, p in theirs.named_parameters():
            if "lora_A" in name:
                p.requires_grad = False
    params = [p for p in theirs.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=3e-3, weight_decay=0.0)
    schedule = transformers.get_scheduler("linear", optimizer, 2, 6)
    from sublim_jax.llm.training import batches

    for step in range(6):
        loss = _their_loss(theirs, [rows[i] for i in batches.step_rows(data, 0, 8, step)])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        schedule.step()
    assert outcome.loss[0] == pytest.approx(loss.item(), rel=1e-4)
    for (name, layer), (a, b) in _their_factors(theirs, lambda p: p).items():
        ours = outcome.students[0].adapter.factors[name]
        np.testing.assert_allclose(ours["a"][layer], a, atol=2e-4)
        np.testing.assert_allclose(ours["b"][layer], b, atol=2e-4)
        assert np.abs(b).max() > 3e-3


def _their_model(folder, model, start):
    from peft import PeftModel

    model.save_pretrained(folder / "base")
    peft.save(start, folder / "start")
    base = _torch_model(folder / "base")
    return PeftModel.from_pretrained(base, folder / "start", is_trainable=True)


def _their_loss(model, rows):
    """Mean cross-entropy over the completion tokens of right-padded rows."""
    import torch

    width = max(len(r.prompt) + len(r.completion) for r in rows)
    tokens, labels, mask = (torch.zeros(len(rows), width, dtype=torch.long) for _ in range(3))
    labels -= 100
    for i, row in enumerate(rows):
        n, end = len(row.prompt), len(row.prompt) + len(row.completion)
        tokens[i, :end] = torch.tensor([*row.prompt, *row.completion])
        labels[i, n:end] = tokens[i, n:end]
        mask[i, :end] = 1
    return model(input_ids=tokens, attention_mask=mask, labels=labels).loss


def _their_factors(model, of):
    """{(kernel, layer): (a [in, r], b [r, out])}, of the parameters or of their gradients."""
    found = {}
    for name, p in model.named_parameters():
        if ".lora_" in name:
            parts = name.split(".")
            layer = int(parts[parts.index("layers") + 1])
            kernel = next(x for x in parts if x.endswith("_proj")).removesuffix("_proj")
            value = of(p)
            array = np.zeros(p.shape) if value is None else value.detach().numpy()
            pair = found.setdefault((kernel, layer), [None, None])
            pair["lora_B" in name] = array.T
    return found


def test_first_values_are_distributed_as_peft_s(tmp_path):
    """Uniform in 1 / sqrt(in): same bounds and spread of a, and b zero."""
    from peft import LoraConfig, get_peft_model

    config = dataclasses.replace(testing.TINY, embed=256)
    Decoder.init(config).save_pretrained(tmp_path)
    named = LoraConfig(r=8, target_modules=["q_proj"])
    theirs = _their_factors(get_peft_model(_torch_model(tmp_path), named), lambda p: p)
    ours = lora.initialise(Lora(targets=("q",)), config)["q"]
    a = np.stack([theirs["q", i][0] for i in range(config.layers)])
    assert np.asarray(ours["a"]).shape == a.shape
    for of in (np.std, np.max, np.min):
        assert of(np.asarray(ours["a"])) == pytest.approx(of(a), rel=0.03)
    assert not np.any(ours["b"])
