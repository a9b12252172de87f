"""Mutual information by hand; planted dependence is found, independence is not; each null tests what it says."""

import math

import pytest
import torch

from minimoe.inference.specialisation import (
    SHUFFLES,
    chance_bits,
    count_table,
    expert_information_bits,
    information_bits,
    information_test,
    shuffled,
)

M, K, E, J = 240, 3, 8, 5


def draws(seed=0, tokens=M, chosen=K, experts=E):
    """K different experts a token, at random."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(tokens, experts, generator=generator).topk(chosen).indices, generator


def labels_of(generator, tokens=M, labels=J):
    return torch.randint(labels, (tokens,), generator=generator)


def test_a_table_counts_every_choice_once_under_its_token_s_label():
    chosen = torch.tensor([[0, 2], [2, 1], [0, 1]])
    table = count_table(chosen, torch.tensor([1, 1, 0]), experts=3, labels=2)
    assert table.tolist() == [[1, 1], [1, 1], [0, 2]]


def test_tokens_without_a_label_are_not_counted():
    chosen = torch.tensor([[0, 2], [2, 1], [0, 1]])
    assert count_table(chosen, torch.tensor([1, -1, 0]), 3, 2).sum() == 4


@pytest.mark.parametrize(
    "table, bits",
    [
        ([[5, 0], [0, 5]], 1.0),  # each tells the other
        ([[2, 4], [3, 6]], 0.0),  # proportional columns
        ([[3, 1], [1, 3]], 1 - 2 * (0.375 * math.log2(1 / 0.75) + 0.125 * math.log2(1 / 0.25))),
        ([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], 2.0),
        ([[7, 0], [0, 0]], 0.0),
        ([[0, 0], [0, 0]], 0.0),
    ],
)
def test_information_in_tables_worked_by_hand(table, bits):
    assert information_bits(torch.tensor(table)) == pytest.approx(bits, abs=1e-12)


def test_information_is_the_sum_over_cells_of_the_definition():
    counts = torch.randint(0, 9, (4, 6), generator=torch.Generator().manual_seed(0))
    p = counts.double() / counts.sum()
    terms = p * (p / (p.sum(1, keepdim=True) * p.sum(0, keepdim=True))).log2()
    assert information_bits(counts) == pytest.approx(terms[counts > 0].sum().item(), abs=1e-12)
    assert information_bits(counts) == pytest.approx(information_bits(counts.T), abs=1e-12)


def test_an_expert_s_information_is_that_of_chosen_or_not():
    label = torch.tensor([0] * 6 + [1] * 2)
    chosen = torch.tensor([[0]] * 6 + [[1]] * 2)  # experts 0 and 1 split the labels, 2 is idle
    bits = expert_information_bits(count_table(chosen, label, 3, 2), label.bincount())
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert bits.tolist() == pytest.approx([entropy, entropy, 0])


@pytest.mark.parametrize("chosen", [1, 3])
def test_shuffles_of_independent_data_have_the_mean_that_the_formula_says(chosen):
    choices, generator = draws(tokens=1500, chosen=chosen)
    test = information_test(choices, labels_of(generator, 1500), E, J, shuffles=300)
    # 300 draws of something like a chi-square of (E-1)(J-1) = 28 degrees: relative error sqrt(2/28/300) = 1.5%
    assert test.null_bits.mean().item() == pytest.approx(chance_bits(1500, chosen, E, J), rel=0.06)


def test_the_formula_holds_for_unequal_loads_too():
    generator = torch.Generator().manual_seed(0)
    tilt = torch.tensor([2.0, 1.0, 0.5, 0, 0, 0, -0.5, -1])
    scores = torch.rand(3000, E, generator=generator).log().neg().log().neg() + tilt
    test = information_test(scores.topk(K).indices, labels_of(generator, 3000), E, J, shuffles=300)
    assert test.null_bits.mean().item() == pytest.approx(chance_bits(3000, K, E, J), rel=0.08)


def test_a_planted_dependence_is_found_and_its_size_is_right():
    choices, generator = draws()
    label = (choices[:, 0] % 2).long()  # the label is a property of the first expert
    test = information_test(choices, label, E, 2, shuffles=199)
    assert test.p_value == 1 / 200
    assert test.observed_bits > 1.5 * test.null_bits.max()
    one = information_test(choices[:, :1], label, E, 2, shuffles=19)
    entropy = -sum(p * math.log2(p) for p in (label.double().mean().item(), 1 - label.double().mean().item()))
    assert one.observed_bits == pytest.approx(entropy)  # expert decides label: all of its entropy


def test_independent_data_is_called_dependent_in_a_share_alpha_of_cases():
    rejected = 0
    for seed in range(300):
        choices, generator = draws(seed, tokens=60)
        label = labels_of(generator, 60)
        rejected += information_test(choices, label, E, J, shuffles=39, seed=seed).p_value <= 0.05
    # 300 cases at 5%: 15 expected, standard deviation 3.8
    assert 4 <= rejected <= 27


def in_runs(values, tokens, generator):
    """Each token repeats its left neighbour's value four times out of five."""
    fresh = torch.rand(tokens, generator=generator) < 0.2
    fresh[0] = True
    drawn = torch.randint(values, (tokens,), generator=generator)
    return drawn[fresh][fresh.cumsum(0) - 1]


def runs(seed, documents=8, length=40):
    """Documents in which both labels and experts come in runs, independently of each other."""
    generator = torch.Generator().manual_seed(seed)
    tokens = documents * length
    chosen, label = in_runs(4, tokens, generator)[:, None], in_runs(3, tokens, generator)
    return chosen, label, torch.arange(documents).repeat_interleave(length)


def rejections(make, how, cases=80, **sizes):
    count = 0
    for seed in range(cases):
        chosen, label, document = make(seed)
        test = information_test(chosen, label, how=how, document_M=document, shuffles=39, seed=seed, **sizes)
        count += test.p_value <= 0.05
    return count


def test_runs_fool_the_free_shuffle_and_not_the_rotation():
    assert rejections(runs, "free", experts=4, labels=3) > 40
    assert rejections(runs, "rotated", experts=4, labels=3) <= 12  # 4 expected, standard deviation 2


def document_habits(seed, documents=16, length=15):
    """Each document prefers an expert of its own, and has one label, which has nothing to do with it."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.randint(4, (documents,), generator=generator).repeat_interleave(length)
    noise = torch.randint(4, (documents * length,), generator=generator)
    follows = torch.rand(documents * length, generator=generator) < 0.6
    label = (torch.arange(documents) % 2).repeat_interleave(length)
    return torch.where(follows, own, noise)[:, None], label, torch.arange(documents).repeat_interleave(length)


def test_habits_of_documents_fool_the_free_shuffle_and_not_the_swap_of_whole_documents():
    assert rejections(document_habits, "free", experts=4, labels=2) > 40
    assert rejections(document_habits, "whole documents", experts=4, labels=2) <= 12


def test_shuffling_within_documents_keeps_what_the_document_explains():
    chosen, label, document = document_habits(0)
    test = information_test(chosen, label, 4, 2, "within documents", document, shuffles=19)
    assert torch.allclose(test.null_bits, torch.tensor(test.observed_bits, dtype=torch.float64))
    assert test.p_value == 1 and test.above_chance_bits == pytest.approx(0, abs=1e-12)


def test_shuffling_within_positions_keeps_what_the_place_explains():
    position = torch.arange(10).repeat(20)
    chosen, label = (position % 4)[:, None], (position % 3)
    assert information_test(chosen, label, 4, 3, shuffles=19).p_value == 0.05
    kept = information_test(chosen, label, 4, 3, "within positions", position_M=position, shuffles=19)
    assert kept.p_value == 1


@pytest.mark.parametrize("how", SHUFFLES)
def test_a_shuffle_keeps_what_it_promises(how):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([7, 1, 12, 5, 12])
    document = torch.arange(5).repeat_interleave(lengths)
    position = torch.cat([torch.arange(n) for n in lengths.tolist()])
    label = (document * 2 % 5) if how == "whole documents" else torch.randint(4, (37,), generator=generator)
    mixed = shuffled(label, how, generator, document, position)
    assert not torch.equal(mixed, label)
    if how != "whole documents":
        assert torch.equal(mixed.bincount(minlength=4), label.bincount(minlength=4))
    for kept, stratum in (("within documents", document), ("within positions", position), ("rotated", document)):
        if how == kept:
            for s in stratum.unique():
                assert sorted(mixed[stratum == s].tolist()) == sorted(label[stratum == s].tolist())
    if how == "rotated":
        for d in range(5):
            old, new = label[document == d].tolist(), mixed[document == d].tolist()
            assert any(old[i:] + old[:i] == new for i in range(len(old)))
    if how == "whole documents":
        assert sorted(int(mixed[document == d].unique()) for d in range(5)) == [0, 1, 2, 3, 4]


def test_every_order_of_a_free_shuffle_is_equally_likely():
    generator = torch.Generator().manual_seed(0)
    label = torch.tensor([0, 1, 2])
    seen = [tuple(shuffled(label, "free", generator).tolist()) for _ in range(1200)]
    assert len(set(seen)) == 6
    assert all(150 <= seen.count(order) <= 250 for order in set(seen))  # 200 expected, standard deviation 13


def test_p_counts_the_data_as_one_of_the_orders_and_can_not_be_zero():
    choices, _ = draws()
    label = (choices[:, 0] % 2).long()
    assert information_test(choices, label, E, 2, shuffles=9).p_value == 0.1
    constant = torch.zeros(M, dtype=torch.int64)
    assert information_test(choices, constant, E, 1, shuffles=9).p_value == 1.0


def test_renaming_experts_or_labels_changes_no_bits():
    choices, generator = draws()
    label = labels_of(generator)
    table = count_table(choices, label, E, J)
    mixed = table[torch.randperm(E, generator=generator)][:, torch.randperm(J, generator=generator)]
    assert information_bits(mixed) == pytest.approx(information_bits(table), abs=1e-12)


def test_unlabelled_tokens_change_neither_the_observed_bits_nor_the_null():
    choices, generator = draws()
    label = labels_of(generator)
    label[::3] = -1
    document = torch.arange(M) // 20
    whole = information_test(choices, label, E, J, "within documents", document, shuffles=9)
    known = label >= 0
    cut = information_test(choices[known], label[known], E, J, "within documents", document[known], shuffles=9)
    assert whole.observed_bits == cut.observed_bits and torch.equal(whole.null_bits, cut.null_bits)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda c, y: count_table(c, y[:-1], E, J), "240 tokens were routed and 239"),
        (lambda c, y: count_table(c, y, 4, J), "expert ids run from 0 to 7; there are 4"),
        (lambda c, y: count_table(c, y, E, 2), "label ids run from 0 to 4; there are 2"),
        (lambda c, y: information_test(c, y, E, J, shuffles=0), "shuffles=0"),
        (lambda c, y: information_test(c, y, E, J, how="at random"), "'at random' is not one of free"),
        (lambda c, y: information_test(c, y, E, J, how="rotated"), "needs document_M, which is None"),
        (lambda c, y: information_test(c, y, E, J, how="within positions"), "needs position_M, which is None"),
        (lambda c, y: information_test(c, y, E, J, "whole documents", torch.zeros(M)), "documents cannot swap"),
        (lambda c, y: chance_bits(0, 1, E, J), "tokens=0"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_numbers(call, words):
    choices, generator = draws()
    with pytest.raises(ValueError, match=words):
        call(choices, labels_of(generator))
