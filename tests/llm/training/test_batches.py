"""Every row is learnt once an epoch, laid out as the data say, in few and dense micro-batches."""

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublim_jax.errors import UserError
from sublim_jax.llm import testing
from sublim_jax.llm.model import attention
from sublim_jax.llm.training import batches, examples
from sublim_jax.llm.training.batches import Plan, make_plan

CONFIG = dataclasses.replace(testing.TINY, vocab=2**30, context=10**6)
sizes = st.tuples(st.integers(1, 40), st.integers(1, 20))
lengths = st.lists(sizes, min_size=1, max_size=25)


def rows(lengths, first=1, teacher=False, prefix=0):
    """Rows of so many prompt and completion tokens, no token of them twice, after a prefix."""
    out, begin = [], list(range(10**7 + first, 10**7 + first + prefix))
    for number, (prompt, completion) in enumerate(lengths):
        tokens = list(range(first, first + prompt + completion))
        first += 200
        weights = [0.25 * (1 + (number + i) % 5) for i in range(completion)]
        own = [-t % CONFIG.vocab for t in range(1 + number % 3)] + tokens[:prompt]
        spoken = own if teacher and number % 2 else None
        out.append(examples.Example(begin + tokens[:prompt], tokens[prompt:], weights, spoken))
    return out


def data(lengths, **more):
    return examples.collect(rows(lengths, **more), CONFIG)


def unpacked(micros, student, teacher=False, prefix=0):
    """{first completion token: (prompt, completion, weights)} of the examples of a batch."""
    found = {}
    placed = micros.teacher if teacher else micros.rows
    for micro in range(len(micros.chunks)):
        tokens, segments, at = (a[micro, student] for a in placed[:3])
        flat, numbers = tokens.ravel(), segments.ravel()
        target, weight = micros.target[micro, student], micros.weight[micro, student]
        width = tokens.shape[1]
        shared = (np.arange(flat.size) % width < prefix) & np.repeat(segments.any(1), width)
        assert not np.any(numbers[shared])
        assert not np.any(flat[(numbers == 0) & ~shared])
        slots = np.flatnonzero(weight)
        assert slots.tolist() == list(range(len(slots)))  # nothing after the first unused one
        assert not np.any(target[len(slots) :])
        assert (at >= 0).all()
        assert (at < flat.size).all()
        for number in set(numbers.tolist()) - {0}:
            where = np.flatnonzero(numbers == number)
            assert where.tolist() == list(range(where[0], where[-1] + 1))
            assert where[0] // tokens.shape[1] == where[-1] // tokens.shape[1]  # in one row
            mine = [s for s in slots if numbers[at[s]] == number]
            # Each position predicts the token that follows it.
            predictors, learnt = flat[at[mine]], target[mine]
            assert at[mine].tolist() == list(range(where[-1] - len(mine) + 1, where[-1] + 1))
            assert predictors[1:].tolist() == learnt[:-1].tolist()
            begin = tokens[where[0] // width, :prefix].tolist()
            prompt = begin + flat[where[0] : at[mine[0]] + 1].tolist()
            assert learnt[0] not in found
            found[int(learnt[0])] = (prompt, learnt.tolist(), weight[mine].tolist())
    return found


def expected(rows, teacher=False):
    return {
        r.completion[0]: (
            list((teacher and r.teacher_prompt) or r.prompt),
            list(r.completion),
            list(r.weights),
        )
        for r in rows
    }


plans = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 12),
        "tokens": st.sampled_from([64, 100, 256, 1000]),
        "chunk": st.sampled_from([1, 16, 64]),
        "multiple": st.integers(1, 3),
    }
)


class TestLayout:
    @settings(deadline=None, max_examples=60)
    @given(
        sets=st.lists(lengths, min_size=1, max_size=3),
        how=plans,
        teacher=st.booleans(),
        prefix=st.sampled_from([0, 7, 9, 70]),
    )
    def test_every_example_is_laid_out_once_and_whole(self, sets, how, teacher, prefix):
        own = [rows(n, 1 + 10**5 * i, teacher, prefix) for i, n in enumerate(sets)]
        collected = [examples.collect(r, CONFIG) for r in own]
        steps = [batches.steps_of(d, how["batch"], 1) for d in collected]
        plan = make_plan(collected, range(len(sets)), steps=steps, **how)
        assert plan.rows % how["multiple"] == 0
        spoken = any(r.teacher_prompt for part in own for r in part)
        P = plan.prefix
        assert P % 8 == 0
        assert P == 0 if spoken else prefix // 8 * 8 <= P
        for step in range(max(steps)):
            micros, count = plan.at(step)
            S, R, T = micros.rows.tokens.shape[1:]
            assert (plan.rows, plan.width, len(sets)) == (R, T, S)
            M = micros.target.shape[-1]
            assert M % plan.chunk == 0
            assert R * T <= M < R * T + plan.chunk
            most = (micros.weight > 0).sum(-1).max(-1)
            np.testing.assert_array_equal(micros.chunks, -(-most // plan.chunk))
            assert (micros.chunks[:count] > 0).all()
            assert not np.any(micros.chunks[count:])
            assert not np.any(micros.rows.segments[count:])
            assert (micros.teacher is not None) == spoken
            read = sum(
                len(r.prompt) + len(r.completion) - 1 for s in own for r in _of(plan, s, own, step)
            )
            assert plan.tokens(step) == read
            laid = [len(_of(plan, part, own, step)) * P for part in own]
            assert (micros.rows.segments > 0).sum() == read - sum(laid)
            for s, part in enumerate(own):
                wanted = _of(plan, part, own, step)
                assert unpacked(micros, s, prefix=P) == expected(wanted)
                numbers = {part.index(r) + 1 for r in wanted}
                assert set(micros.rows.segments[:, s].flat) - {0} == numbers
                if spoken:
                    assert unpacked(micros, s, teacher=True) == expected(wanted, teacher=True)

    def test_types_are_those_the_program_is_compiled_for(self):
        batch = make_plan([data([(3, 2)], teacher=True)], [0], 1, [1], 64, 16).at(0)
        kinds = jax.tree.map(lambda a: str(a.dtype), batch)
        ints = batches.PackedRows(*["int32"] * 3)
        assert kinds == batches.Batch(
            batches.Micros(ints, None, "int32", "float32", "int32"), "int32"
        )

    def test_weights_of_nothing_are_kept_apart_from_unused_positions(self):
        row = examples.Example([1, 2], [3, 4, 5], [0.0, 1.0, 0.0])
        micros, count = make_plan([examples.collect([row], CONFIG)], [0], 1, [1], 64, 2).at(0)
        assert micros.target[0, 0, :4].tolist() == [3, 4, 5, 0]
        assert micros.weight[0, 0, :4].tolist() == [0, 1, 0, 0]
        assert micros.rows.at[0, 0, :3].tolist() == [1, 2, 3]
        assert (micros.chunks[0], count) == (2, 1)


def _of(plan, part, own, step):
    """The rows of a student's data at a step."""
    s = next(i for i, other in enumerate(own) if other is part)
    if step >= plan.steps[s]:
        return []
    return [part[i] for i in batches.step_rows(plan.data[s], plan.seeds[s], plan.batch, step)]


class TestOrder:
    @pytest.mark.parametrize(("n", "batch"), [(10, 4), (12, 4), (3, 5), (1, 1)])
    def test_every_row_of_an_epoch_is_learnt_once(self, n, batch):
        own = data([(2, 2)] * n)
        steps = batches.steps_of(own, batch, 3)
        each = -(-n // batch)
        assert steps == 3 * each
        orders = []
        for epoch in range(3):
            parts = [batches.step_rows(own, 5, batch, epoch * each + i) for i in range(each)]
            assert [len(p) for p in parts[:-1]] == [batch] * (each - 1)
            orders.append(np.concatenate(parts).tolist())
            assert sorted(orders[-1]) == list(range(n))
        if n >= 10:
            assert len({str(order) for order in orders}) == 3
            assert sorted(orders[0]) not in orders

    def test_a_batch_is_a_function_of_seed_and_step_alone(self):
        own = data([(4, 3)] * 30)

        def at(step, **more):
            plan = make_plan(
                [own], **{"seeds": [3], "batch": 8, "steps": [9], "tokens": 64, "chunk": 16} | more
            )
            return plan.at(step)

        plan = make_plan([own], [3], 8, [9], 64, 16)
        forward = [plan.at(i) for i in range(9)]
        for step in (7, 0, 3):
            jax.tree.map(np.testing.assert_array_equal, at(step), forward[step])
        assert unpacked(at(2, steps=[4]).micros, 0) == unpacked(forward[2].micros, 0)
        assert unpacked(at(2, tokens=512).micros, 0) == unpacked(forward[2].micros, 0)
        assert set(unpacked(at(2, seeds=[4]).micros, 0)) != set(unpacked(forward[2].micros, 0))
        assert set(unpacked(forward[1].micros, 0)) != set(unpacked(forward[2].micros, 0))

    def test_a_student_reads_what_it_reads_alone(self):
        sets = [data([(4, 3)] * 20), data([(30, 10)] * 9, first=10**6)]
        both = make_plan(sets, [1, 2], 6, [4, 2], 128, 16)
        for s, steps in enumerate([4, 2]):
            alone = make_plan([sets[s]], [s + 1], 6, [steps], 128, 16)
            for step in range(steps):
                found = unpacked(both.at(step).micros, s)
                assert found == unpacked(alone.at(step).micros, 0)
                assert found

    def test_a_student_past_its_steps_gets_nothing(self):
        sets = [data([(4, 3)] * 20), data([(4, 3)] * 20)]
        plan = make_plan(sets, [0, 0], 5, [4, 2], 64, 16)
        for step in range(4):
            micros, count = plan.at(step)
            assert count > 0
            assert np.any(micros.rows.segments[:, 0])
            for part in (*micros.rows[:3], micros.target, micros.weight):
                assert np.any(part[:, 1]) == (step < 2)
            assert plan.tokens(step) == (60 if step < 2 else 30)
        nothing = plan.at(4)
        assert nothing.count == 0
        assert not any(np.any(part) for part in jax.tree.leaves(nothing))
        assert plan.tokens(4) == 0


class TestShape:
    @settings(deadline=None, max_examples=200)
    @given(
        lengths=st.lists(st.integers(1, 64), min_size=1, max_size=40),
        rows=st.integers(1, 4),
        width=st.sampled_from([64, 96, 128]),
        batch=st.integers(1, 40),
        seed=st.integers(0, 9),
    )
    def test_there_are_always_enough_micro_batches(self, lengths, rows, width, batch, seed):
        own = data([(1, n) for n in lengths])
        steps = batches.steps_of(own, batch, 2)
        plan = Plan((own,), (seed,), batch, (steps,), rows, width, 16)
        for step in range(steps):
            assert plan.at(step).micros.rows.tokens.shape[0] == plan.most  # or it would not fit
            assert (plan.at(step).micros.rows.segments > 0).sum() == plan.tokens(step)

    def test_rows_just_over_half_a_width_take_one_each(self):
        """The worst case: half of the room is left."""
        own = data([(1, 33)] * 12)
        plan = Plan((own,), (0,), 12, (1,), 1, 64, 16)
        assert plan.at(0).count == 12 <= plan.most <= 14

    @pytest.mark.parametrize(("seen", "least"), [(1e-3, 0.82), (0.0, 0.88)])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_number_tasks_fill_the_rows(self, seed, seen, least):
        """The paper's lengths; wider rows would be fuller, but attention is dearer in them."""
        draw = np.random.default_rng(seed)
        spans = zip(draw.integers(60, 131, 640), draw.integers(20, 51, 640), strict=True)
        own = data([(int(p), int(c)) for p, c in spans])
        plan = make_plan([own], [0], 64, [10], 2048, 256, seen=seen)
        assert plan.rows * plan.width <= 2048
        laid = sum(int(plan.at(i).count) for i in range(10)) * plan.rows * plan.width
        assert sum(plan.tokens(i) for i in range(10)) >= least * laid

    def test_a_step_that_rows_of_one_example_fill_badly_is_cut_into_tiles(self):
        draw = np.random.default_rng(0)
        spans = zip(draw.integers(60, 131, 64), draw.integers(20, 51, 64), strict=True)
        own = data([(int(p), int(c)) for p, c in spans])
        plans = [
            make_plan([own], [0], 16, [4], 2048, 256, seen=9e-4, tiled=tiled)
            for tiled in (True, False)
        ]
        filled = [
            sum(plan.tokens(i) for i in range(4))
            / sum(int(plan.at(i).count) * plan.rows * plan.width for i in range(4))
            for plan in plans
        ]
        assert plans[0].tile
        assert plans[0].width % plans[0].tile == 0
        assert not plans[1].tile
        assert own.input_lengths.max() <= attention.BEFORE * plans[0].tile
        assert filled[0] > 0.93 > 0.8 > filled[1]

    @pytest.mark.parametrize("prefix", [24, 304])
    def test_a_prefix_of_all_prompts_takes_its_room_once_a_row(self, prefix):
        own = data([(40 + n, 30) for n in range(64)], prefix=prefix)
        shared, apart = (
            make_plan([own], [0], 16, [4], 2048, 256, seen=9e-4, shared=s) for s in (True, False)
        )
        assert (shared.prefix, apart.prefix) == (prefix, 0)
        assert prefix <= attention.BEFORE * shared.tile
        assert own.input_lengths.max() - prefix <= attention.BEFORE * shared.tile
        laid = [
            sum(int(plan.at(i).count) * plan.rows * plan.width for i in range(4))
            for plan in (shared, apart)
        ]
        assert laid[0] < 0.85 * laid[1]

    @pytest.mark.parametrize(("prompts", "shared"), [([9, 12], 8), ([8, 12], 7), ([1, 1], 0)])
    def test_the_token_that_predicts_is_of_no_prefix(self, prompts, shared):
        some = [examples.Example([5] * n, [6]) for n in prompts]
        assert examples.collect(some, CONFIG).shared == shared

    @pytest.mark.parametrize("multiple", [1, 2, 8])
    def test_rows_are_a_multiple_even_where_that_is_more_than_asked_for(self, multiple):
        own = data([(50, 10)] * 9)
        plan = make_plan([own], [0], 9, [1], 64, 16, multiple)
        assert plan.rows == multiple
        assert len(unpacked(plan.at(0).micros, 0)) == 9

    @pytest.mark.parametrize(("longest", "width"), [(64, 64), (65, 80), (1024, 1024), (1025, 1040)])
    def test_a_row_holds_the_longest_example_of_any_student(self, longest, width):
        sets = [data([(1, 3)]), data([(longest, 1)], first=10**5)]
        plan = make_plan(sets, [0, 0], 1, [1, 1], longest, 16)
        assert plan.width >= width
        assert plan.width == width or longest <= 65
        assert len(unpacked(plan.at(0).micros, 1)) == 1

    def test_a_longer_teacher_s_prompt_takes_its_room(self):
        own = examples.collect(
            [examples.Example([1], [2, 3], None, list(range(9, 100)))] * 3, CONFIG
        )
        plan = make_plan([own], [0], 3, [1], 128, 16)
        micros = plan.at(0).micros
        assert plan.width >= 92
        assert (micros.teacher.segments > 0).sum() == 3 * 92
        assert (micros.rows.segments > 0).sum() == plan.tokens(0) == 3 * 2


class TestSplit:
    @pytest.mark.parametrize("teacher", [False, True])
    def test_it_is_complete_and_disjoint_and_depends_on_the_seed_alone(self, teacher):
        own = data([(1 + i % 7, 1 + i % 3) for i in range(20)], teacher=teacher)
        firsts = own.tokens[own.starts].tolist()
        learn, watch = batches.split(own, 3, 6)
        parts = [part.tokens[part.starts].tolist() for part in (learn, watch)]
        assert [len(learn), len(watch)] == [14, 6]
        assert sorted(parts[0] + parts[1]) == firsts
        assert parts[0] == sorted(parts[0])  # in the data's order
        assert parts[1] == sorted(parts[1])
        again = batches.split(own, 3, 6)
        for a, b in zip((learn, watch), again, strict=True):
            for x, y in zip(a.arrays(), b.arrays(), strict=True):
                np.testing.assert_array_equal(x, y)
            assert (a.teacher is not None) == teacher
        other = batches.split(own, 4, 6)[1]
        assert other.tokens[other.starts].tolist() != parts[1]
        # Not the rows that come first in the first epoch.
        assert sorted(batches.step_rows(own, 3, 6, 0)) != [firsts.index(t) for t in parts[1]]

    def test_none_held_out_is_everything_to_learn(self):
        own = data([(2, 2)] * 3)
        assert batches.split(own, 0, 0) == (own, None)

    @pytest.mark.parametrize("held_out", [3, 4])
    def test_holding_out_everything_is_refused(self, held_out):
        message = rf"recipe.held_out={held_out}: the data set has 3 rows"
        with pytest.raises(UserError, match=message):
            batches.split(data([(2, 2)] * 3), 0, held_out)
