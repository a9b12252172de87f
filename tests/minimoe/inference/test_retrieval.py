"""Haystacks hold what they promise, and the count of right answers is a count of right answers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import minimoe
from minimoe.inference.retrieval import Needles, RetrievalMap, retrieval, wilson_interval
from minimoe.tokenizer import Tokenizer

NEEDLES = Needles.from_vocabulary(60)
CONFIG = replace(
    minimoe.NANO, vocab_size=60, hidden_size=16, num_hidden_layers=1, n_routed_experts=None, num_nextn_predict_layers=0
)


@pytest.mark.parametrize("depth", [0, 0.25, 0.5, 1])
@pytest.mark.parametrize("length", [18, 50])
def test_the_asked_record_stands_at_its_depth_and_nowhere_else(length, depth):
    ids_MT, answers_M = NEEDLES.haystacks(7, length, depth)
    place = round(depth * (length - 4))
    for ids, answer in zip(ids_MT.tolist(), answers_M.tolist(), strict=True):
        assert ids[-2] == NEEDLES.ask and ids[place : place + 2] == [ids[-1], answer]
        assert ids[:-1].count(ids[-1]) == 1


def test_every_row_has_the_same_number_of_records_each_whole():
    ids_MT, _ = NEEDLES.haystacks(20, 40, 0.5, records=5)
    for ids in ids_MT.tolist():
        places = [i for i, token in enumerate(ids[:-1]) if token in NEEDLES.keys]
        assert len(places) == 5 and len({ids[i] for i in places}) == 5
        assert all(ids[i + 1] in NEEDLES.values for i in places)
        assert sum(token in NEEDLES.values for token in ids) == 5


def test_a_seed_fixes_the_rows_and_another_seed_changes_them():
    first, again, other = (NEEDLES.haystacks(4, 30, 0.5, seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_answer_cannot_be_told_from_the_depth():
    _, answers_M = NEEDLES.haystacks(400, 20, 0.5)
    assert sorted(set(answers_M.tolist())) == list(NEEDLES.values)
    assert answers_M.bincount().max() < 400 * 2 * NEEDLES.chance  # 40 expected, 80 is 6.7 standard deviations away


def test_a_tokenizer_gives_the_characters_their_parts():
    tokenizer = Tokenizer({i: bytes([i]) for i in range(256)}, [], {})
    needles = Needles.from_tokenizer(tokenizer)
    ids_MT, answers_M = needles.haystacks(1, 30, 0.2)
    text = tokenizer.decode(ids_MT[0].tolist())
    key, value = text[-1], tokenizer.decode(answers_M.tolist())
    assert text[-2] == "?" and text.count(key + value) == 1 and value.isdigit() and key.isupper()


def test_a_tokenizer_that_splits_a_character_is_refused_by_name():
    stub = SimpleNamespace(encode=lambda c: [1, 2] if c == "q" else [ord(c)])
    with pytest.raises(ValueError, match="'q' is 2 tokens"):
        Needles.from_tokenizer(stub)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 1.2}, "depth=1.2 is outside 0"),
        ({"length": 17}, "length=17 is too short for records=4: they need 18"),
        ({"records": 13}, "records=13 is outside 1 to the 12 keys"),
    ],
)
def test_what_makes_no_haystack_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        NEEDLES.haystacks(**({"rows": 1, "length": 40, "depth": 0.5} | changes))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (((1, 2), (2, 3), (4, 5), 6), "1 of 7 tokens play two parts"),
        (((1,), (2,), (4, 5), 6), "1 keys: with fewer than 2"),
        (((), (2, 3), (4, 5), 6), "a haystack needs hay"),
    ],
)
def test_parts_that_overlap_or_are_missing_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        Needles(*parts)


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match="vocab_size=48 is less than the 49"):
        Needles.from_vocabulary(48)


class Reader(torch.nn.Module):
    """Answers right if the key stands within the last `reach` tokens, else with the first value."""

    def __init__(self, reach):
        super().__init__()
        self.reach, self.device = reach, torch.device("cpu")

    def forward(self, ids_BT, mtp=None):
        logits_BTV = torch.zeros(*ids_BT.shape, 60)
        for row, ids in enumerate(ids_BT.tolist()):
            place = ids.index(ids[-1])
            found = len(ids) - place <= self.reach
            logits_BTV[row, -1, ids[place + 1] if found else NEEDLES.fillers[0]] = 1
        return SimpleNamespace(logits_BTV=logits_BTV)


def test_a_reader_of_limited_reach_gives_a_map_with_an_edge():
    found = retrieval(Reader(reach=20), NEEDLES, [20, 40], [0, 0.5, 1], trials=6)
    assert found.accuracy == [[1, 1, 1], [0, 0, 1]]
    assert found.by_length() == {20: 1, 40: pytest.approx(1 / 3)}
    low, high = found.interval(40)
    assert 0.1 < low < 1 / 3 < high < 0.6


def test_long_rows_are_read_a_few_at_a_time_with_the_same_count():
    model, counts = Reader(reach=520), []
    model.register_forward_pre_hook(lambda _, args: counts.append(len(args[0])))
    assert retrieval(model, NEEDLES, [600], [0, 1], trials=20).right == ((0, 20),)
    assert counts == [13, 7, 13, 7]  # 8,192 tokens at once


def test_an_untrained_model_is_measured_and_left_as_it_was():
    model = minimoe.Transformer(CONFIG, seed=0).train()
    seen = []
    found = retrieval(model, NEEDLES, [18], [0, 1], trials=3, on_cell=lambda *cell: seen.append(cell))
    assert model.training and seen == [(0, 0, found.right[0][0]), (0, 1, found.right[0][1])]
    assert len(found.right) == 1 and all(0 <= count <= 3 for count in found.right[0])


def test_a_measurement_that_is_stopped_gives_no_map():
    seen = []

    def stop_at_the_second(row, column, right):
        seen.append((row, column, right))
        return column < 1

    assert retrieval(Reader(99), NEEDLES, [20], [0, 0.5, 1], trials=2, on_cell=stop_at_the_second) is None
    assert seen == [(0, 0, 2), (0, 1, 2)]


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="trials=0, 1 lengths, 1 depths"):
        retrieval(Reader(9), NEEDLES, [20], [0], trials=0)


def test_a_map_survives_its_trip_through_json():
    found = RetrievalMap((20, 40), (0.0, 1.0), ((1, 2), (3, 4)), 4)
    assert RetrievalMap.from_dict(found.to_dict()) == found
    with pytest.raises(ValueError, match=r"shape \(1, 2\) for 2 lengths and 2 depths"):
        RetrievalMap.from_dict(found.to_dict() | {"right": [[1, 2]]})
    with pytest.raises(ValueError, match="outside 0 to trials=3"):
        RetrievalMap.from_dict(found.to_dict() | {"trials": 3})


def test_wilsons_interval_is_the_textbooks():
    # 95% for 8 of 10: 0.490 to 0.943
    assert wilson_interval(8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)
    low, high = wilson_interval(0, 20)
    assert low == 0 and high == pytest.approx(1.96**2 / (20 + 1.96**2))
    with pytest.raises(ValueError, match="5 right of trials=4"):
        wilson_interval(5, 4)
