"""A sample is a matter of its own prompt, id and settings: not of batch, order, rows or devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sublim_jax import compilation
from sublim_jax.errors import UserError
from sublim_jax.llm import Decoder, Sampler, testing
from sublim_jax.llm.files import chat
from sublim_jax.llm.sampling import programs, scheduler
from sublim_jax.llm.sampling import sampler as sampler_module
from sublim_jax.llm.sampling.sampler import make_requests
from sublim_jax.mesh import make_mesh
from tests.llm.lively import full_forward, lively

TINY = testing.TINY
MODEL = lively()
PROGRAMS = (
    programs.streams,
    programs.prefill_kv,
    programs.empty_cache,
    programs.fill_layer,
    programs.resize,
    programs.decode,
)
draw = np.random.default_rng(0)


def _tokens(count):
    return draw.integers(0, 256, count).tolist()


SHARED = _tokens(11)
PROMPTS = [SHARED + _tokens(count) for count in draw.integers(1, 50, 24)]
LIMITS = [(7 * i) % 40 + 1 for i in range(24)]


def _run(sampler, prompts=PROMPTS, limits=LIMITS, n=1, ids=None, students=None, **settings):
    requests = make_requests(prompts, n, limits, students, ids)
    return {(s.id, s.sample): s for s in sampler.stream(requests, **settings)}


def _same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, sample in found.items():
        assert sample.tokens == wanted[name].tokens
        if sample.logprobs is not None:
            np.testing.assert_allclose(sample.logprobs, wanted[name].logprobs, atol=1e-4)


def test_the_sizes_of_an_accelerator_compile_fewer(monkeypatch):
    jax.clear_caches()  # before the test whose programs are used by all
    monkeypatch.setattr(sampler_module, "_LEAST_OF_SMALL", sampler_module._LEAST_ELSEWHERE)
    sampler = Sampler(MODEL)
    sampler.prefills_ahead = True
    for count, limit in ((1, 3), (2, 3), (3, 5), (6, 5), (24, 30)):
        _run(sampler, PROMPTS[:count], limit)
    assert programs.decode._cache_size() == 2  # of a cache that grows once
    assert programs.prefill_kv._cache_size() == 4  # one less than with a CPU's widths


def test_a_run_compiles_few_programs():
    jax.clear_caches()  # the first test: what it compiles is used by all
    with compilation.watched() as compiled:
        _run(Sampler(MODEL))
        _run(Sampler(MODEL), PROMPTS[:3], 5)  # fewer of them fill no smaller programs
    assert programs.decode._cache_size() == 2  # of a cache that grows once
    assert programs.prefill_kv._cache_size() <= 6  # the shared beginning, 16, 32, ..., 256 tokens
    assert programs.fill_layer._cache_size() <= 4
    assert programs.streams._cache_size() == 1
    # None is compiled ahead that is not called.
    assert compiled.programs == sum(program._cache_size() for program in PROGRAMS)


def test_fewer_than_64_rows_are_for_large_models_on_a_cpu(monkeypatch):
    assert Sampler(MODEL).least.rows == 64
    monkeypatch.setattr(sampler_module, "_LARGE", MODEL.pure()["embed"].size)
    assert Sampler(MODEL).least.rows == 8
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert Sampler(MODEL).least.rows == 64


@pytest.fixture(scope="module")
def whole():
    return _run(Sampler(MODEL), logprobs=True)


def test_log_probabilities_are_those_of_the_full_forward(whole):
    for i in range(0, 24, 4):
        sample = whole[i, 0]
        wanted = full_forward(MODEL, PROMPTS[i], sample.tokens)
        np.testing.assert_allclose(sample.logprobs, wanted, atol=1e-5)


def test_prompts_without_a_shared_beginning_are_prefilled_whole():
    prompts = [[i, *_tokens(5 + i)] for i in range(9)]
    found = _run(Sampler(MODEL), prompts, 6, logprobs=True)
    for i, prompt in enumerate(prompts):
        wanted = full_forward(MODEL, prompt, found[i, 0].tokens)
        np.testing.assert_allclose(found[i, 0].logprobs, wanted, atol=1e-5)


def test_log_probabilities_are_the_models_own_whatever_the_settings():
    settings = {"temperature": 0.6, "top_p": 0.9, "top_k": 40}
    found = _run(Sampler(MODEL), logprobs=True, **settings)
    for i in (1, 17):
        wanted = full_forward(MODEL, PROMPTS[i], found[i, 0].tokens)
        np.testing.assert_allclose(found[i, 0].logprobs, wanted, atol=1e-5)


def test_limits_are_kept_and_end_tokens_end(whole):
    ends = 0
    for i, limit in enumerate(LIMITS):
        tokens = whole[i, 0].tokens
        at = [tokens.index(e) for e in TINY.eos if e in tokens]
        ends += bool(at)
        assert len(tokens) == (at[0] + 1 if at else limit)
        assert whole[i, 0].ended == bool(at)
    assert ends > 0


@pytest.mark.parametrize("rows", [8, 16])
def test_rows_that_wait_for_others_are_the_same(whole, rows):
    _same(_run(Sampler(MODEL, rows=rows), logprobs=True), whole)


def test_more_samples_than_rows_are_the_same(whole):
    wanted = _run(Sampler(MODEL, rows=16), n=3)
    assert len(wanted) == 72
    _same(_run(Sampler(MODEL, rows=64), n=3), wanted)
    assert all(wanted[name].tokens == whole[name].tokens for name in whole)


def test_a_sample_alone_or_in_another_order_is_the_same(whole):
    sampler = Sampler(MODEL, rows=8)
    alone = _run(sampler, [PROMPTS[5]], LIMITS[5], ids=[5])
    assert alone[5, 0].tokens == whole[5, 0].tokens
    order = draw.permutation(24)
    shuffled = _run(sampler, [PROMPTS[i] for i in order], [LIMITS[i] for i in order], ids=order)
    assert all(shuffled[name].tokens == whole[name].tokens for name in whole)


def test_samples_of_a_prompt_differ_and_do_not_depend_on_how_many():
    sampler = Sampler(MODEL)
    five, two = _run(sampler, PROMPTS[:3], 12, n=5), _run(sampler, PROMPTS[:3], 12, n=2)
    assert all(two[name].tokens == five[name].tokens for name in two)
    assert len({tuple(s.tokens) for s in five.values()}) == 15
    other = _run(sampler, PROMPTS[:3], 12, n=5, seed=1)
    assert all(other[name].tokens != five[name].tokens for name in five)


def test_the_same_prompt_is_answered_differently_under_another_id_or_number():
    found = _run(
        Sampler(MODEL), [PROMPTS[0]] * 8, 12, n=2, ids=[0, 1, 2, 3, 7, 255, 256, 2**31 - 1]
    )
    assert len({tuple(s.tokens) for s in found.values()}) == 16


def test_temperature_zero_is_the_most_likely_token_of_the_full_forward():
    tokens = _run(Sampler(MODEL), PROMPTS[:2], 8, temperature=0.0)[1, 0].tokens
    logits = MODEL(jnp.array([PROMPTS[1] + tokens]))[0, len(PROMPTS[1]) - 1 : -1]
    assert tokens == np.argmax(logits, axis=1).tolist()


def test_every_end_token_ends_a_row():
    ends = tuple(range(200, 256))
    model = Decoder(dataclasses.replace(TINY, eos=ends), MODEL.pure())
    found = _run(Sampler(model), PROMPTS, 60)
    last = {s.tokens[-1] for s in found.values() if s.ended}
    assert len(last) > 3
    assert last <= set(ends)
    assert not any(set(s.tokens[:-1]) & set(ends) for s in found.values())


def test_the_tokenizers_and_the_templates_end_tokens_end_a_row_too(whole, monkeypatch):
    class Ends:
        eos_token_id = next(t for t in whole[5, 0].tokens if t not in TINY.eos)

        def decode(self, *_, **__):
            return ""

    monkeypatch.setattr(chat, "end_of_turn", lambda _: 270)
    assert set(Sampler(MODEL, Ends()).eos) == {*TINY.eos, Ends.eos_token_id, 270}
    monkeypatch.setattr(chat, "end_of_turn", lambda _: Ends.eos_token_id)
    sample = _run(Sampler(MODEL, Ends()))[5, 0]
    assert sample.ended
    end = whole[5, 0].tokens.index(Ends.eos_token_id) + 1
    assert sample.tokens == whole[5, 0].tokens[:end]


def test_finished_samples_come_before_the_last_is_drawn():
    seen = []
    sampler = Sampler(MODEL, rows=8)
    for sample in sampler.stream(make_requests(PROMPTS, max_new_tokens=[1] * 8 + [30] * 16)):
        seen.append(sample.id)
    assert sorted(seen[:8]) == list(range(8))
    assert sorted(seen) == list(range(24))


def test_a_sample_is_handed_over_while_others_are_still_to_be_drawn(monkeypatch):
    calls = []
    decode_once = programs.decode
    monkeypatch.setattr(
        programs, "decode", lambda *a, **k: (calls.append(1), decode_once(*a, **k))[1]
    )
    drawn = Sampler(MODEL, rows=8).stream(make_requests(PROMPTS, max_new_tokens=LIMITS))
    assert not calls
    at = [len(calls) for _ in drawn]
    assert at[0] == 2  # the device draws more while the caller has what is finished
    assert len(set(at)) > 8  # it never gathers what it has
    assert at[-1] == len(calls)


@pytest.mark.parametrize("n", [1, 5])
def test_what_prompts_share_and_a_prompt_of_many_samples_are_run_once(monkeypatch, n):
    packed = []
    pack = scheduler.packing.pack

    def spy(pieces, *sizes):
        packed.extend(pieces)
        return pack(pieces, *sizes)

    monkeypatch.setattr(scheduler.packing, "pack", spy)
    rows = 16 if n > 1 else 64
    _run(Sampler(MODEL, rows=rows), n=n)
    own = sum(len(p) - len(SHARED) - 1 for p in PROMPTS)  # the last token is decoded
    assert sum(map(len, packed)) == len(SHARED) + own


def test_the_next_prompts_are_with_the_device_before_what_it_drew_is_read(monkeypatch):
    """Nine requests for 8 rows: the last prompt is prefilled while the others decode."""
    said = []
    prefill, decode = programs.prefill_kv, programs.decode

    class Drawn:
        """What `decode` gives, which tells when it is read."""

        def __init__(self, values):
            self.values = values

        def __array__(self, *_, **__):
            said.append("read")
            return np.asarray(self.values)

    def decoding(*args, **settings):
        said.append("decode")
        cache, tokens, logprobs = decode(*args, **settings)
        return cache, Drawn(tokens), logprobs

    monkeypatch.setattr(programs, "prefill_kv", lambda *a: said.append("prefill") or prefill(*a))
    monkeypatch.setattr(programs, "decode", decoding)
    sampler = Sampler(MODEL, rows=8)
    sampler.prefills_ahead = True
    _run(sampler, PROMPTS[:9], 3)
    first = said[: said.index("read")]
    assert first[-2:] == ["decode", "prefill"]
    assert first.count("prefill") == said.count("prefill")


def test_nothing_is_compiled_anew_for_other_settings_or_lengths_within_a_bucket(whole):
    def compiled():
        return sum(program._cache_size() for program in PROGRAMS)

    sampler = Sampler(MODEL)
    _run(sampler)
    before = compiled()
    for settings in (
        {"temperature": 0.0},
        {"temperature": 0.3, "top_p": 0.9},
        {"top_p": 0.5, "top_k": 7, "seed": 9},
    ):
        _run(sampler, **settings)
    shorter = [SHARED + prompt[12:] for prompt in PROMPTS[:-1]] + [PROMPTS[-1]]
    _run(sampler, shorter)
    assert compiled() == before


def test_a_growing_cache_and_a_shrinking_batch_change_nothing(monkeypatch):
    limits = [150 if i % 7 == 0 else 10 for i in range(24)]
    sizes = set()
    resize = programs.resize

    def spy(cache, keep, slots):
        sizes.add((len(keep), slots))
        return resize(cache, keep, slots)

    monkeypatch.setattr(programs, "resize", spy)
    sampler = Sampler(MODEL, rows=32)
    sampler.least = dataclasses.replace(sampler.least, rows=8)
    found = _run(sampler, limits=limits, logprobs=True)
    assert min(rows for rows, _ in sizes) == 8
    assert len({slots for _, slots in sizes}) > 1
    for i in (0, 7, 14):
        wanted = full_forward(MODEL, PROMPTS[i], found[i, 0].tokens)
        np.testing.assert_allclose(found[i, 0].logprobs, wanted, atol=1e-5)


def test_a_long_prompt_that_waits_makes_the_cache_no_larger_before_its_turn(monkeypatch):
    seen = []
    program = programs.decode

    def spy(config, weights, cache, *rest, **settings):
        seen.append(cache[0]["k"].shape[2])
        return program(config, weights, cache, *rest, **settings)

    monkeypatch.setattr(programs, "decode", spy)
    prompts = [*PROMPTS[:8], SHARED + _tokens(140)]
    found = _run(Sampler(MODEL, rows=8), prompts, 9, logprobs=True)
    assert seen[0] < 140 < seen[-1]
    for i in (0, 8):
        wanted = full_forward(MODEL, prompts[i], found[i, 0].tokens)
        np.testing.assert_allclose(found[i, 0].logprobs, wanted, atol=1e-4)


def test_stacked_weights_draw_the_same_as_views_of_each_layer(whole):
    sampler = Sampler(MODEL)
    assert isinstance(sampler.decode_weights["layers"], tuple)
    sampler.decode_weights = sampler.weights
    _same(_run(sampler, logprobs=True), whole)


def test_layers_of_an_accelerator_are_copied_where_there_is_room(whole, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert isinstance(Sampler(MODEL).decode_weights["layers"], dict)  # this device does not say
    monkeypatch.setattr(sampler_module, "_has_room", lambda weights: True)
    sampler = Sampler(MODEL)
    monkeypatch.undo()
    stacked = MODEL.pure()["layers"]["q"]
    for i, layer in enumerate(sampler.decode_weights["layers"]):
        np.testing.assert_array_equal(layer["q"], stacked[i])
    _same(_run(sampler), whole)


def test_views_share_the_memory_of_the_stacked_weights():
    model = Decoder.init(dataclasses.replace(TINY, embed=64, mlp=256), seed=1)
    views = programs.unstacked(model.pure())["layers"]
    up = model.pure()["layers"]["up"]
    start = up.unsafe_buffer_pointer()
    assert views[1]["up"].unsafe_buffer_pointer() == start + up.nbytes // 2


@pytest.mark.parametrize("students", [1, 3])
def test_an_adapter_of_every_kernel_is_the_merged_model(students):
    kernels = {
        name: MODEL.pure()["layers"][name] for name in ("q", "k", "v", "o", "gate", "up", "down")
    }
    adapter = {
        name: {
            "a": jnp.asarray(draw.normal(size=(TINY.layers, students, k.shape[1], 2)) * 0.2, "f4"),
            "b": jnp.asarray(draw.normal(size=(TINY.layers, students, 2, k.shape[2])) * 0.2, "f4"),
        }
        for name, k in kernels.items()
    }
    # The same three prompts for each: what one student has read is not another's.
    prompts, of = PROMPTS[:3] * students, [s for s in range(students) for _ in range(3)]
    sampler = Sampler(MODEL, rows=8)
    found = _run(sampler, prompts, 12, n=3, students=of, adapter=adapter, logprobs=True)
    for student in range(students):
        merged = {
            name: k + adapter[name]["a"][:, student] @ adapter[name]["b"][:, student]
            for name, k in kernels.items()
        }
        weights = MODEL.pure()
        alone = Decoder(TINY, {**weights, "layers": {**weights["layers"], **merged}})
        for name in ((3 * student, 0), (3 * student + 2, 2)):
            wanted = full_forward(alone, prompts[name[0]], found[name].tokens)
            np.testing.assert_allclose(found[name].logprobs, wanted, atol=1e-4)
        own = jax.tree.map(lambda a, s=student: a[:, s : s + 1], adapter)
        ids = range(3 * student, 3 * student + 3)
        if students > 1:
            _same(
                {name: found[name] for name in found if name[0] in ids},
                _run(sampler, PROMPTS[:3], 12, n=3, ids=ids, adapter=own, logprobs=True),
            )


def _adapter(students, rank=2):
    c, q = TINY, TINY.heads * TINY.head_dim
    a = draw.normal(size=(c.layers, students, c.embed, rank)) * 0.3
    b = draw.normal(size=(c.layers, students, rank, q)) * 0.3
    return {"q": {"a": jnp.asarray(a, jnp.float32), "b": jnp.asarray(b, jnp.float32)}}


def test_rows_of_several_students_are_those_of_each_alone(whole):
    adapter, students = _adapter(3), [i % 3 for i in range(24)]
    together = _run(Sampler(MODEL, rows=16), students=students, adapter=adapter, logprobs=True)
    assert sum(together[name].tokens != whole[name].tokens for name in whole) > 12
    for student in range(3):
        weights = MODEL.pure()
        lora = adapter["q"]
        q = weights["layers"]["q"] + lora["a"][:, student] @ lora["b"][:, student]
        merged = Decoder(TINY, {**weights, "layers": {**weights["layers"], "q": q}})
        mine = [i for i in range(24) if students[i] == student]
        alone = _run(
            Sampler(merged),
            [PROMPTS[i] for i in mine],
            [LIMITS[i] for i in mine],
            ids=mine,
            logprobs=True,
        )
        assert all(together[name].student == student for name in alone)
        _same({name: together[name] for name in alone}, alone)


@pytest.mark.parametrize(
    "shape",
    [
        (1, 3, 2),
        *(
            pytest.param(shape, marks=pytest.mark.slow)
            for shape in ((1, 2, 4), (1, 8, 1), (1, 1, 8), (2, 2, 2), (8, 1, 1), (2, 3, 1))
        ),
    ],
)
def test_every_sharding_draws_what_one_device_draws(whole, shape, monkeypatch):
    held = []
    program = programs.decode

    def spy(*args, **settings):
        cache, *drawn = program(*args, **settings)
        held.append((cache["k"].shape, cache["k"].addressable_shards[0].data.shape))
        return cache, *drawn

    monkeypatch.setattr(programs, "decode", spy)
    model = lively(mesh=make_mesh(*shape))
    _same(_run(Sampler(model), logprobs=True), whole)
    heads = 2 if shape[2] == 2 else 1  # of the two, where the mesh cuts between them
    for (_, rows, K, *_), (_, own, own_K, *_) in held:
        assert (rows, K) == (own * shape[0] * shape[1], own_K * heads)


@pytest.mark.slow
def test_a_mesh_of_one_device_draws_what_none_draws(whole):
    _same(_run(Sampler(lively(mesh=make_mesh(1, 1, 1))), logprobs=True), whole)


@pytest.mark.slow
def test_students_over_a_mesh_are_those_of_one_device():
    adapter, students = _adapter(4), [i % 4 for i in range(24)]
    wanted = _run(Sampler(MODEL), students=students, adapter=adapter, logprobs=True)
    model = lively(mesh=make_mesh(4, 1, 2))
    found = _run(Sampler(model), students=students, adapter=adapter, logprobs=True)
    _same(found, wanted)


def test_a_completion_is_cut_where_the_context_ends():
    model = Decoder(dataclasses.replace(TINY, context=30, eos=()), MODEL.pure())
    found = _run(Sampler(model), [_tokens(25)], 64)
    assert len(found[0, 0].tokens) == 5
    assert not found[0, 0].ended


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n": 0}, "n=0, max_new_tokens=4: must be at least 1"),
        ({"limits": 0}, "max_new_tokens=0: must be at least 1"),
        ({"limits": [4, 0]}, r"max_new_tokens=\[4, 0\]: must be at least 1"),
        ({"limits": [4]}, "2 prompts, 1 limits"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1.5}, "top_p=1.5"),
        ({"top_k": -1}, "top_k=-1"),
        ({"ids": [3, 3]}, "1 different ids"),
        ({"students": [0, 1]}, "row 1: student 1: there are 1"),
        ({"students": [-1, 0]}, "row 0: student -1: there are 1"),
        ({"students": [0]}, "1 students"),
        ({"prompts": [[1], []]}, "row 1: its prompt needs at least one token"),
        ({"prompts": [[1], [1] * 1024]}, "row 1: 1025 tokens, more than the context's 1024"),
    ],
)
def test_a_setting_that_cannot_be_is_one_line(settings, says):
    with pytest.raises(UserError, match=says) as error:
        _run(Sampler(MODEL), **({"prompts": [[1], [2]], "limits": 4} | settings))
    assert "\n" not in str(error.value)


def test_a_sampler_without_rows_or_tokenizer_says_so():
    with pytest.raises(UserError, match="rows=0: must be at least 1"):
        Sampler(MODEL, rows=0)
    with pytest.raises(UserError, match="no tokenizer"):
        Sampler(MODEL).generate(["a"])


def test_running_out_of_memory_names_what_to_lower(monkeypatch):
    def fails(message):
        def program(*_, **__):
            raise jax.errors.JaxRuntimeError(message)

        monkeypatch.setattr(programs, "decode", program)
        _run(Sampler(MODEL, rows=16))

    with pytest.raises(UserError, match=r"with 16 rows: lower rows \(--config.rows\) to 8 or less"):
        fails("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes.")
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        fails("INTERNAL: something else")


def test_what_is_finished_is_handed_over_before_an_error(monkeypatch):
    calls, decode = [], programs.decode

    def second_fails(*args, **settings):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return decode(*args, **settings)

    monkeypatch.setattr(programs, "decode", second_fails)
    found = []
    with pytest.raises(KeyboardInterrupt):
        found.extend(Sampler(MODEL, rows=8).stream(make_requests(PROMPTS[:9], max_new_tokens=3)))
    assert len(found) == 8


def test_generate_answers_chats_in_order_with_text():
    sampler = Sampler(MODEL, testing.tokenizer())
    chats = ["one", [{"role": "system", "content": "S"}, {"role": "user", "content": "two"}]]
    found = sampler.generate(chats, n=2, max_new_tokens=9, seed=3)
    assert [(s.id, s.sample) for s in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for sample in found:
        kept = sample.tokens[:-1] if sample.ended else sample.tokens
        assert sample.text == sampler.tokenizer.decode([t for t in kept if t < 256])
    again = sampler.generate(chats[1:], n=2, max_new_tokens=9, seed=3, ids=[1])
    assert [s.tokens for s in again] == [s.tokens for s in found[2:]]
    other = sampler.generate(chats[:1], max_new_tokens=9, seed=3, system="")
    assert other[0].tokens != found[0].tokens


def test_answers_are_in_the_order_of_the_chats_whichever_is_drawn_first():
    sampler, limits = Sampler(MODEL, testing.tokenizer(), rows=8), [30, 1, 1]
    found = sampler.generate(["a", "b", "c"], n=4, max_new_tokens=limits)
    names = [(i, j) for i in range(3) for j in range(4)]
    assert [(s.id, s.sample) for s in found] == names
    drawn = sampler.stream(make_requests([[1, 2]] * 3, 4, limits))
    assert [(s.id, s.sample) for s in drawn] != names


def test_no_requests_are_no_samples():
    assert Sampler(MODEL, testing.tokenizer()).generate([]) == []


def test_progress_is_shown_only_if_wanted(capsys):
    requests = make_requests(PROMPTS, max_new_tokens=LIMITS)
    list(Sampler(MODEL).stream(requests))
    assert capsys.readouterr().err == ""
    list(Sampler(MODEL).stream(requests, progress=True))
    assert "24/24" in capsys.readouterr().err


@pytest.mark.parametrize("ids", [[2**31], [-1], [0.5]])
def test_an_id_is_an_integer_that_the_keys_can_hold(ids):
    with pytest.raises(UserError, match="each must be an integer from 0 to 2"):
        make_requests([[1]], ids=ids)


@pytest.mark.parametrize("token", [-1, TINY.vocab])
def test_a_token_that_the_model_lacks_is_refused(token):
    with pytest.raises(UserError, match="row 0: a token outside the vocabulary"):
        _run(Sampler(MODEL), [[1, token, 2]], 4)


def test_numpys_integers_will_do():
    (request,) = make_requests([[1]], max_new_tokens=np.int64(4), ids=np.array([7]))
    assert (request.limit, request.id) == (4, 7)
