"""The error model: what it forgives, and what it does not."""

import pytest
import torch

from minimoe_kernels.checks.agreement import Disagreement, agree, equal, guarded

GENERATOR = torch.Generator().manual_seed(0)
EXACT = torch.randn(4000, generator=GENERATOR, dtype=torch.float64)
USUAL = EXACT.bfloat16()


def verdict(*compared):
    """What `agree` says, or "" if it agrees."""
    try:
        agree("case", *compared)
    except Disagreement as said:
        return str(said)
    return ""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_rounded_answer_agrees_and_one_that_is_a_few_steps_off_everywhere_does_not(dtype):
    usual = EXACT.to(dtype)
    assert verdict(usual, EXACT, usual) == ""
    bits = usual.view(torch.int32 if dtype == torch.float32 else torch.int16)
    assert verdict((bits + 8).view(dtype), EXACT, usual) != ""  # eight steps away from zero
    assert verdict((bits - 8).view(dtype), EXACT, usual) != ""


def test_nothing_agrees_with_nothing_and_not_with_something():
    none = torch.empty(0, dtype=torch.float64)
    assert verdict(none.float(), none, none.float()) == ""
    assert "shape (1,), want (0,)" in verdict(torch.zeros(1), none, none.float())


def test_an_error_of_two_percent_everywhere_does_not():
    with pytest.raises(Disagreement, match="root mean square"):
        agree("scaled", (EXACT * 1.02).bfloat16(), EXACT, USUAL)


def test_one_wrong_element_of_thousands_does_not():
    wrong = USUAL.clone()
    wrong[1234] += 0.05
    with pytest.raises(Disagreement, match="is right, off by"):
        agree("one", wrong, EXACT, USUAL)


def test_rounding_towards_zero_is_caught_by_its_sign():
    cut = (EXACT.float().view(torch.int32) & ~0xFFFF).view(torch.float32).bfloat16()
    with pytest.raises(Disagreement, match="lean towards zero"):
        agree("cut", cut, EXACT, USUAL)
    agree("cut", cut, EXACT, USUAL, unbiased=False)


def test_zeros_nan_and_another_shape_do_not_agree():
    with pytest.raises(Disagreement):
        agree("zeros", torch.zeros_like(USUAL), EXACT, USUAL)
    nan = USUAL.clone()
    nan[3] = float("nan")
    with pytest.raises(Disagreement, match="1 of 4000 numbers are NaN"):
        agree("nan", nan, EXACT, USUAL)
    with pytest.raises(Disagreement, match="shape"):
        agree("shape", USUAL[:-1], EXACT, USUAL)


def test_small_results_are_judged_by_their_own_size():
    """A fixed tolerance of 1e-2 would pass zeros here."""
    with pytest.raises(Disagreement):
        agree("tiny", torch.zeros(100), EXACT[:100] * 1e-6, (EXACT[:100] * 1e-6).float())


def test_equal_compares_bits_and_names_the_first_difference():
    equal("same", torch.tensor([1.0, float("nan")]), torch.tensor([1.0, float("nan")]))
    with pytest.raises(Disagreement, match="1 of 3 differ, the first at 2: 5, want 3"):
        equal("ids", torch.tensor([1, 2, 5]), torch.tensor([1, 2, 3]))
    with pytest.raises(Disagreement, match="want"):
        equal("type", torch.tensor([1]), torch.tensor([1.0]))
    with pytest.raises(Disagreement):
        equal("sign", torch.tensor([0.0]), torch.tensor([-0.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int32, torch.int64])
def test_a_guarded_copy_lies_between_poison(dtype):
    x = torch.arange(6).to(dtype).view(2, 3)
    copy = guarded(x)
    equal("copy", copy, x)
    whole = torch.empty(0, dtype=dtype).set_(copy.untyped_storage())
    strip = whole[:256].float()
    assert (strip.isnan() if dtype.is_floating_point else strip > 1e8).all() and copy.storage_offset() == 256
