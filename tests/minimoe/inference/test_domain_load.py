"""Loads by domain: planted differences are found, spreads cover the truth, documents are the unit."""

import math

import pytest
import torch

from minimoe.inference.domain_load import domain_load, held_out_bits


def corpus(seed, documents=20, length=12, habit=0.0, tilt=0.0):
    """Two domains, four experts, one choice a token. `habit`: how much a document repeats its favourite; `tilt`: how
    much more often domain 1 takes expert 3."""
    generator = torch.Generator().manual_seed(seed)
    document = torch.arange(documents).repeat_interleave(length)
    domain = document % 2
    random = torch.randint(4, (len(document),), generator=generator)
    favourite = torch.randint(4, (documents,), generator=generator)[document]
    chosen = torch.where(torch.rand(len(document), generator=generator) < habit, favourite, random)
    chosen = torch.where((torch.rand(len(document), generator=generator) < tilt) & (domain == 1), 3, chosen)
    return chosen[:, None], domain, document


def test_shares_are_counts_over_the_domain_s_choices():
    chosen = torch.tensor([[0, 1], [0, 2], [1, 2], [2, 0], [2, 1]])
    load = domain_load(chosen, torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 2, 3]), 3, 2)
    assert load.share_EJ[:, 0].tolist() == pytest.approx([2 / 6, 2 / 6, 2 / 6])
    assert load.share_EJ[:, 1].tolist() == pytest.approx([1 / 4, 1 / 4, 2 / 4])
    assert load.naive_EJ[0, 1].item() == pytest.approx(math.sqrt(0.25 * 0.75 / 4))


def test_documents_that_are_alike_have_no_spread_and_unequal_ones_do():
    chosen = torch.tensor([[0], [1], [0], [1]])
    same = domain_load(chosen, torch.zeros(4, dtype=torch.int64), torch.tensor([0, 0, 1, 1]), 2, 1)
    assert same.spread_EJ.max() == 0
    unlike = domain_load(chosen.sort(0).values, torch.zeros(4, dtype=torch.int64), torch.tensor([0, 0, 1, 1]), 2, 1)
    # one document is all 0, the other all 1: the share is 0, 1/2 or 1, with chances 1/4, 1/2, 1/4
    assert unlike.spread_EJ[0, 0].item() == pytest.approx(math.sqrt(1 / 8), rel=0.05)
    assert (unlike.low_EJ[0, 0].item(), unlike.high_EJ[0, 0].item()) == (0, 1)


def test_the_spread_is_that_of_whole_documents_where_they_have_habits():
    loads = [domain_load(*corpus(seed, habit=0.7), 4, 2, draws=200) for seed in range(60)]
    true = torch.stack([load.share_EJ for load in loads]).std(0).mean().item()
    told = torch.stack([load.spread_EJ for load in loads]).mean().item()
    naive = torch.stack([load.naive_EJ for load in loads]).mean().item()
    assert told == pytest.approx(true, rel=0.15)  # 10 documents: the bootstrap is low by sqrt(9/10)
    assert naive < 0.6 * true


def test_the_intervals_cover_the_truth_about_as_often_as_they_say():
    covered = cases = 0
    for seed in range(40):
        load = domain_load(*corpus(seed, documents=40, habit=0.5), 4, 2, draws=200)
        covered += int(((load.low_EJ <= 0.25) & (load.high_EJ >= 0.25)).sum())
        cases += 8
    assert 0.85 <= covered / cases <= 0.99  # 20 documents a domain: percentile intervals are a little short


def test_a_planted_preference_is_found():
    load = domain_load(*corpus(0, documents=40, tilt=0.4), 4, 2)
    assert load.low_EJ[3, 1] > load.high_EJ[3, 0]
    assert load.share_EJ[3, 1].item() == pytest.approx(0.4 + 0.6 / 4, abs=0.1)


def test_unlabelled_tokens_are_not_counted():
    chosen, domain, document = corpus(0)
    hidden = domain.clone()
    hidden[:12] = -1
    load = domain_load(chosen, hidden, document, 4, 2)
    alone = domain_load(chosen[12:], domain[12:], document[12:], 4, 2)
    assert torch.equal(load.share_EJ, alone.share_EJ)


@pytest.mark.parametrize(
    "document, words",
    [
        ([0, 0, 1, 1], "domain 0 has 1 documents; a spread needs at least 2"),
        ([0, 1, 1, 2], "document 1 has tokens in two domains"),
    ],
)
def test_domains_that_cannot_be_compared_are_refused(document, words):
    with pytest.raises(ValueError, match=words):
        domain_load(torch.zeros(4, 1, dtype=torch.int64), torch.tensor([0, 0, 1, 1]), torch.tensor(document), 2, 2)


def test_a_label_that_tells_nothing_saves_nothing_on_unseen_documents():
    for seed in range(5):
        chosen, _, document = corpus(seed, documents=60)
        noise = torch.randint(10, (len(document),), generator=torch.Generator().manual_seed(100 + seed))
        assert -0.05 < held_out_bits(chosen, noise, document, 4).bits < 0.005


def test_a_label_that_tells_the_expert_saves_nearly_all_bits():
    chosen, _, document = corpus(0, documents=60)
    told = held_out_bits(chosen, chosen[:, 0], document, 4, trust=1.0)
    assert 1.9 < told.bits <= 2.0 and told.low <= told.bits <= told.high


def test_with_one_label_the_guess_is_the_smoothed_table():
    """Counted by hand: train on documents 1.. and ask document 0, for every document."""
    chosen, domain, document = corpus(0, documents=6, tilt=0.5)
    told, by_hand = held_out_bits(chosen, domain, document, 4, folds=6, trust=7.0), 0.0
    for d in range(6):
        known, asked = chosen[document != d, 0], chosen[document == d, 0]
        load = (known.bincount(minlength=4) + 0.25) / (len(known) + 1)
        same = known[domain[document != d] == d % 2].bincount(minlength=4)
        p = (same + 7 * load) / (same.sum() + 7)
        by_hand += (p / load)[asked].double().log2().sum().item()
    assert told.bits == pytest.approx(by_hand / len(document), abs=1e-3)  # the load's own 1/E is counted twice by hand


def tokens_of_two_domains(seed):
    """Tokens 0..5 in one domain and 3..8 in the other."""
    generator = torch.Generator().manual_seed(seed)
    document = torch.arange(80).repeat_interleave(25)
    token = torch.randint(6, (2000,), generator=generator) + 3 * (document % 2)
    return token, document % 2, document, generator


def test_what_the_token_has_told_the_domain_does_not_tell_again():
    token, domain, document, _ = tokens_of_two_domains(0)
    chosen = (token % 4)[:, None]
    assert held_out_bits(chosen, domain, document, 4).low > 0.02
    assert held_out_bits(chosen, token, document, 4).bits > 1.5
    assert abs(held_out_bits(chosen, domain, document, 4, beyond=[token]).bits) < 0.005


def test_a_domain_that_tilts_the_loads_is_found_given_the_token():
    token, domain, document, generator = tokens_of_two_domains(0)
    chosen = torch.where((torch.rand(2000, generator=generator) < 0.5) & (domain == 1), 3, token % 4)[:, None]
    beyond = held_out_bits(chosen, domain, document, 4, beyond=[token])
    assert beyond.low > 0.05
    alone = held_out_bits(chosen, domain, document, 4)
    assert alone.bits > beyond.bits  # part of it is what tokens the domain has


def test_documents_can_not_be_asked_in_more_parts_than_there_are():
    chosen, domain, document = corpus(0)
    for folds in (21, 1):
        with pytest.raises(ValueError, match=f"20 documents cannot be asked in folds={folds}"):
            held_out_bits(chosen, domain, document, 4, folds=folds)
