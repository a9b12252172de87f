"""minimoe.accounting.speculation: expected tokens and break-even, against a simulated decoder."""

import random

import pytest

from minimoe.accounting import break_even_acceptance, speculation_speedup, tokens_a_call


def test_one_draft_gives_one_token_and_the_acceptance():
    assert tokens_a_call(0.85) == pytest.approx(1.85)
    assert tokens_a_call(0.8, drafts=3) == pytest.approx(1 + 0.8 + 0.64 + 0.512)
    assert (tokens_a_call(0.7, drafts=0), tokens_a_call(1.0, drafts=4), tokens_a_call(0.0, drafts=4)) == (1, 5, 1)


@pytest.mark.parametrize(("acceptance", "drafts"), [(0.3, 1), (0.7, 2), (0.9, 5)])
def test_a_simulated_decoder_gives_as_many_tokens(acceptance, drafts):
    draw, calls, tokens = random.Random(1), 40_000, 0
    for _ in range(calls):
        kept = 0
        while kept < drafts and draw.random() < acceptance:
            kept += 1
        tokens += kept + 1
    assert tokens / calls == pytest.approx(tokens_a_call(acceptance, drafts), rel=0.02)


def test_the_speed_up_is_tokens_over_cost_and_is_one_at_break_even():
    assert speculation_speedup(0.75, 1, check=1.4, draft=0.35) == pytest.approx(1.0)
    assert break_even_acceptance(1.4, 0.35) == pytest.approx(0.75)
    assert speculation_speedup(0.8, 2, check=1.5, draft=0.1) == pytest.approx(2.44 / 1.7)


def test_v3s_published_pair_leaves_a_few_percent_for_checking_and_drafting():
    """85 to 90% of drafts kept and 1.8 times the tokens a second (arXiv 2412.19437 section 5.4.3)."""
    assert [round((1 + a) / 1.8, 3) for a in (0.85, 0.90)] == [1.028, 1.056]
    assert speculation_speedup(0.85, 1, check=1.0, draft=0.028) == pytest.approx(1.8, abs=0.001)


def test_what_makes_no_sense_is_refused_with_the_number():
    with pytest.raises(ValueError, match="acceptance=1.2"):
        tokens_a_call(1.2)
    with pytest.raises(ValueError, match="drafts=-1"):
        tokens_a_call(0.5, drafts=-1)
    with pytest.raises(ValueError, match="check=0"):
        speculation_speedup(0.5, 1, check=0, draft=0)
