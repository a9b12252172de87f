"""KernelStepper's decode view without a browser: what is traced against the simulator's own count, the block table and
attention in float64."""

import numpy as np
import pytest
import torch

from minimoe_kernels import mla_decode as ops
from minimoe_kernels import sim
from minimoe_kernels.kernel import cdiv, load
from minimoe_kernels.sim.state import Counts
from minimoe_widgets import KernelStepper
from minimoe_widgets.kernel_stepper_decode_trace import LATENT, ROTARY, Decode, trace_decode
from minimoe_widgets.kernel_stepper_decode_words import ENTRY, DecodePicture

SCALE = (LATENT + ROTARY) ** -0.5
LAUNCHES = [
    Decode(2, 16, (75, 21, 0), 16), Decode(1, 8, (17,), 8), Decode(3, 128, (40, 128, 1), 32), Decode(8, 32, (0, 9), 16),
]  # fmt: skip
everywhere = pytest.mark.parametrize("asked", LAUNCHES, ids=str)


@pytest.fixture
def stepper():
    return KernelStepper.decode()


def end_of(found):
    return DecodePicture(found, len(found.steps))


def entries_of(found, step):
    """(sequence, first entry, entries) that a block step must read, from the lengths and the kernel's rule alone."""
    b, _, share = step.place
    length = found.asked.lengths[b]
    each = cdiv(cdiv(length, found.asked.splits), found.block_s) * found.block_s
    first = share * each + step.block * found.block_s
    return b, first, min(first + found.block_s, share * each + each, length) - first


@everywhere
def test_the_steps_add_up_to_what_the_simulator_counts_of_an_ordinary_launch(asked):
    found = trace_decode(asked)
    with sim.session() as ran:
        ops.mla_decode(*asked.inputs(), LATENT, SCALE, splits=asked.splits)
    assert end_of(found).counts == ran.total
    assert [launch.grid for launch in found.launches] == [launch.grid for launch in ran.launches]
    for place, counts in ran.launches[0].programs.items():
        assert sum((s.counts for s in found.steps if s.place == place), Counts()) == counts
    for step in found.steps:
        assert sum(step.loaded.values()) == step.counts.loaded_bytes
        assert sum(step.stored.values()) == step.counts.stored_bytes


@everywhere
def test_every_block_reads_the_rows_that_the_block_table_names(asked):
    found = trace_decode(asked)
    table, read = asked.inputs()[2], []
    for step in found.steps:
        if step.kind != "block":
            assert step.rows.size == 0 and "cache" not in step.loaded
            continue
        b, first, count = entries_of(found, step)
        s = np.arange(first, first + count)
        assert step.rows.tolist() == (table[b, s // asked.page].numpy() * asked.page + s % asked.page).tolist()
        assert step.loaded["cache"] == count * ENTRY
        read.append((b, step.place[1], s))
    for b, length in enumerate(asked.lengths):
        for block in range(cdiv(asked.heads, found.block_h)):
            seen = [s for sequence, heads, s in read if (sequence, heads) == (b, block)]
            assert sorted(np.concatenate([*seen, np.zeros(0, int)]).astype(int).tolist()) == list(range(length))


@everywhere
def test_running_variables_are_those_of_attention_over_the_entries_so_far(asked):
    """Maximum, sum and output after each block, in float64, from the entries gathered through the table."""
    found = trace_decode(asked)
    queries, cache, table, _ = asked.inputs()
    for step in found.steps:
        if step.kind != "block":
            continue
        b, first, count = entries_of(found, step)
        s = torch.arange(first - step.block * found.block_s, first + count)
        entries = cache[table[b, s // asked.page].long(), s % asked.page].double()
        low = step.place[1] * found.block_h
        q = queries[b, low : low + found.block_h].double()
        scores, real = q @ entries.t() * SCALE, len(q)
        peak = scores.max(-1).values
        weights = (scores - peak[:, None]).exp()
        # float32 sums of at most 48 products; the weights of `acc` are rounded to bfloat16, by 2^-9 of themselves
        np.testing.assert_allclose(step.state["peak"][:real], peak, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(step.state["total"][:real], weights.sum(-1), rtol=1e-4)
        bound = 2.0**-9 * (weights @ entries[:, :LATENT].abs()) * 1.5 + 1e-4
        assert (np.abs(step.state["acc"][:real] - (weights @ entries[:, :LATENT]).numpy()) <= bound.numpy()).all()


@everywhere
def test_the_combination_weighs_shares_by_their_sums_and_gives_attention(asked):
    found = trace_decode(asked)
    queries, cache, table, lengths = asked.inputs()
    exact = ops.mla_decode_reference(queries.double(), cache.double(), table, lengths, LATENT, SCALE)
    first = len(found.steps) - len(asked.lengths)
    for b, length in enumerate(asked.lengths):
        picture = DecodePicture(found, first + b + 1)
        assert picture.current.kind == "combine" and picture.current.place == (b,)
        # rounded weights, then a result in float32: 2^-9 of the largest value
        assert np.abs(picture.current.state["out"] - exact[b].numpy()).max() <= 2.0**-9 * 5
        shares = picture.weights().sum(-1)
        np.testing.assert_allclose(shares, 1.0 if length else 0.0, atol=1e-6)
    assert found.right and "float64" in found.verdict


def test_more_shares_are_more_programs_of_fewer_blocks_and_more_bytes():
    ends = {n: end_of(trace_decode(Decode(n, 16, (75, 21, 0), 16))) for n in (1, 2, 5)}
    assert [(len(end.found.programs), end.longest) for end in ends.values()] == [(3, 5), (6, 3), (15, 1)]
    assert {end.cache[-1] for end in ends.values()} == {96 * ENTRY}
    assert ends[1].moved[-1] < ends[2].moved[-1] < ends[5].moved[-1]


def test_a_page_is_read_once_for_each_block_of_64_heads():
    for heads, times in ((8, 1), (64, 1), (128, 2)):
        end = end_of(trace_decode(Decode(2, heads, (75, 21, 0), 16)))
        assert end.head_blocks == times
        assert (end.times() == np.where(end.filled(), times, 0)).all()
        assert end.cache[-1] == times * end.once


def test_what_no_sequence_uses_is_nan_and_stays_unread():
    asked = Decode(2, 16, (75, 21, 0), 16)
    cache = asked.inputs()[1]
    end = end_of(trace_decode(asked))
    assert (cache.isnan().all(-1).numpy() == ~end.filled()).all() and (~end.filled()).any()


def test_a_wrong_kernel_is_called_wrong(monkeypatch):
    """The accumulator is not rescaled when the maximum rises."""
    import inspect

    source = inspect.getsource(ops)
    for old, new in (("acc * shrink[:, None]", "acc"), ("* weights[:, None], axis=0)", ", axis=0)")):
        assert source.count(old) == 1
        kernels = load(source.replace(old, new))
        with monkeypatch.context() as patch:
            patch.setattr(ops, "split_kernel", kernels.split_kernel)
            patch.setattr(ops, "combine_kernel", kernels.combine_kernel)
            stepper = KernelStepper.decode()
        assert stepper.verdict.startswith("WRONG") and "font-weight" in stepper.notice.value


def test_it_opens_where_a_maximum_rises_and_says_what_shrinks(stepper):
    picture = stepper.picture
    raised, real = picture.raised()
    assert picture.current.block and 0 < raised < real == 16
    assert f"rises for {raised} of 16 heads" in stepper.state.value and "Try first" in stepper.hint.value
    kept = picture.inside()["kept"]
    assert (kept <= picture.before()["total"]).all()
    assert (kept < picture.before()["total"]).sum() == raised


def test_the_first_block_raises_every_maximum_and_the_end_of_a_share_is_its_log_sum(stepper):
    stepper.step.value = 1
    assert stepper.picture.raised() == (16, 16) and "first maximum" in stepper.state.value
    stepper.step.value = 4
    state = stepper.picture.current.state
    assert stepper.picture.current.kind == "store" and "stores its result" in stepper.state.value
    np.testing.assert_allclose(state["log_sum"], state["peak"] + np.log(state["total"]), rtol=1e-6)


def test_a_share_without_entries_stores_nothing_but_a_sign_of_it(stepper):
    number = next(i for i, s in enumerate(stepper._trace.steps, 1) if s.place == (2, 0, 0))
    stepper.step.value = number
    assert "no entries fall to it" in stepper.state.value
    assert np.isneginf(stepper.picture.current.state["log_sum"]).all()
    stepper.step.value = stepper.step.max
    assert "All are empty" in stepper.state.value


def test_programs_wait_work_and_are_done(stepper):
    stepper.step.value = 0
    assert {share.condition for share in stepper.picture.shares()} == {0} and "No program" in stepper.state.value
    stepper.step.value = 2
    first, *others = stepper.picture.shares()
    assert (first.first, first.end, first.read, first.condition) == (0, 48, 32, 1) and not any(s.read for s in others)
    stepper.step.value = stepper.step.max
    assert [(s.first, s.end, s.read, s.condition) for s in stepper.picture.shares()] == [
        (0, 48, 48, 2), (0, 16, 16, 2), (0, 0, 0, 2), (48, 75, 27, 2), (16, 21, 5, 2), (0, 0, 0, 2),
    ]  # fmt: skip


def test_the_frame_follows_every_control(stepper):
    seen = [dict(stepper.canvas.frame)]
    for control, value in ((stepper.step, 5), (stepper.splits, 3), (stepper.heads, 128), (stepper.page, 8),
                           (stepper.lengths, "3, 100")):  # fmt: skip
        control.value = value
        assert stepper.canvas.frame != seen[-1]
        seen.append(dict(stepper.canvas.frame))
    assert seen[-1]["lengths"] == [3, 100] and seen[-1]["head_blocks"] == 2 and seen[-1]["page"] == 8


def test_every_step_has_words_a_frame_and_most_of_them_a_picture():
    for asked in LAUNCHES:
        found = trace_decode(asked)
        for at in range(len(found.steps) + 1):
            picture = DecodePicture(found, at)
            assert picture.title() and picture.state() and picture.alt() and picture.frame()["at"] == at
    stepper = KernelStepper.decode(splits=8, heads=128, lengths=(40, 0, 128), page=8)
    for at in (0, 1, 2, stepper.step.max - 2, stepper.step.max):
        stepper.step.value = at
        assert stepper.static().png().startswith(b"\x89PNG")


def test_sequences_without_any_entry_can_be_shown():
    stepper = KernelStepper.decode(lengths=(0,))
    assert stepper.step.max == 3 and stepper.static().png() and not stepper.verdict.startswith("WRONG")


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"splits": 0}, "splits=0: 1 to 8"), ({"splits": 9}, "splits=9"), ({"splits": 1.5}, "splits: 1.5 is no whole"),
        ({"heads": 12}, "heads=12: one of 8, 16, 32, 64, 128"), ({"page": 10}, "page=10"), ({"lengths": ()}, "1 to 6"),
        ({"lengths": (1,) * 7}, "1 to 6 sequences"), ({"lengths": (129,)}, "0 to 128"), ({"lengths": 3}, "one a"),
        ({"lengths": (-1,)}, "0 to 128"), ({"lengths": (2.5,)}, "lengths: 2.5 is no"), ({"at": 17}, "has 16 steps"),
        ({"at": -1}, "at=-1"),
    ],
)  # fmt: skip
def test_values_that_are_none_are_refused_by_name(wrong, says):
    with pytest.raises(ValueError, match=says):
        KernelStepper.decode(**wrong)


def test_a_wrong_entry_in_the_field_keeps_the_picture_and_says_so(stepper):
    before = dict(stepper.canvas.frame)
    for typed in ("", "12, x", "500", "1,2,3,4,5,6,7"):
        stepper.lengths.value = typed
        assert "still shows the last launch" in stepper.notice.value and stepper.canvas.frame == before
    stepper.lengths.value = "30"
    assert stepper.canvas.frame["lengths"] == [30] and "float64" in stepper.notice.value


def test_the_twin_has_a_key_and_words(stepper):
    twin = stepper.static()
    (legend,) = twin.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert {"entry read once", "no entry (NaN)", "this step", "added by this block"} <= set(labels)
    assert "pages 2, 6, 8, 0, 9" in twin.alt and stepper.picture.title() in twin.alt
