"""A needle in a haystack: can the model still find what it read, by depth and by length?

A haystack is a row of filler letters in which a few records stand: a capital letter, the key, and a digit behind it,
its value. The row ends in a question, "?K", and the next token ought to be K's value. All but one record are decoys:
without them it would do to copy the only digit in sight. The number of records is the same at every length, so that a
longer haystack is harder by its length alone.

Two numbers say where the needle lies: the length of the row, and the depth, from 0 (the row begins with it) to 1
(right before the question). The table of accuracies over both is the picture that long-context models are shown with.
Only the most likely next token counts, what greedy decoding would write, so one forward pass answers a whole cell.

How the production version differs: the haystack is essays, the needle a sentence, the judge a second model, and one
cell at 128K tokens costs more than all of ours; RULER and its kind add tasks that need more than one look-up.
"""

import math
import random
from dataclasses import dataclass

import torch

__all__ = ["Needles", "RetrievalMap", "retrieval", "wilson_interval"]

LETTERS, KEYS, VALUES, ASK = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKL", "0123456789", "?"


@dataclass(frozen=True)
class Needles:
    """Which tokens play which part, and the rows made of them.

    `fillers`, `keys`, `values`: token ids; `ask`: the id that opens a question. Raises ValueError if a token plays two
    parts or if there are fewer than 2 keys or values. Chapter 06.
    """

    fillers: tuple[int, ...]
    keys: tuple[int, ...]
    values: tuple[int, ...]
    ask: int

    def __post_init__(self):
        ids = [*self.fillers, *self.keys, *self.values, self.ask]
        if len(set(ids)) != len(ids):
            twice = len(ids) - len(set(ids))
            raise ValueError(f"{twice} of {len(ids)} tokens play two parts: a key must be a key only")
        for name in ("keys", "values"):
            if len(getattr(self, name)) < 2:
                raise ValueError(f"{len(getattr(self, name))} {name}: with fewer than 2 there is nothing to tell apart")
        if not self.fillers:
            raise ValueError("0 fillers: a haystack needs hay")

    @classmethod
    def from_tokenizer(cls, tokenizer) -> "Needles":
        """Small letters, capitals, digits and "?" of a tokenizer that has each as a token of its own.

        Raises ValueError naming the character that is more than one token.
        """

        def only(character):
            ids = tokenizer.encode(character)
            if len(ids) != 1:
                raise ValueError(f"{character!r} is {len(ids)} tokens of this tokenizer, a haystack needs 1")
            return ids[0]

        parts = (tuple(only(c) for c in part) for part in (LETTERS, KEYS, VALUES))
        return cls(*parts, only(ASK))

    @classmethod
    def from_vocabulary(cls, vocab_size: int) -> "Needles":
        """Parts for a model without a tokenizer: the vocabulary's last 49 ids. Raises ValueError if it has fewer."""
        n = [len(LETTERS), len(KEYS), len(VALUES), 1]
        if vocab_size < sum(n):
            raise ValueError(f"vocab_size={vocab_size} is less than the {sum(n)} tokens of a haystack's parts")
        ids = iter(range(vocab_size - sum(n), vocab_size))
        fillers, keys, values, ask = (tuple(next(ids) for _ in range(part)) for part in n)
        return cls(fillers, keys, values, ask[0])

    @property
    def chance(self) -> float:
        """The share that a model gets right which knows the form and guesses the value."""
        return 1 / len(self.values)

    def haystacks(self, rows: int, length: int, depth: float, seed: int = 0, records: int = 4):
        """`rows` haystacks of `length` tokens with the asked record at `depth`, and their answers.

        The record stands at round(depth * (length - 4)); records - 1 decoys with other keys stand at random places that
        do not touch it. Gives ids [rows, length] and answers [rows] (int64); a seed gives the same rows again.
        Raises ValueError for a depth outside 0 to 1, and for a length that does not hold the records and the question.
        """
        if not 0 <= depth <= 1:
            raise ValueError(f"depth={depth} is outside 0 (the first token) to 1 (right before the question)")
        if not 1 <= records <= len(self.keys):
            raise ValueError(f"records={records} is outside 1 to the {len(self.keys)} keys")
        if length < 4 * records + 2:
            raise ValueError(f"length={length} is too short for records={records}: they need {4 * records + 2} tokens")
        place = round(depth * (length - 4))
        draw = random.Random(f"{seed} {length} {place} {records}")
        made = [self._haystack(draw, length, place, records) for _ in range(rows)]
        return torch.tensor([ids for ids, _ in made]), torch.tensor([answer for _, answer in made])

    def _haystack(self, draw: random.Random, length: int, place: int, records: int) -> tuple[list[int], int]:
        ids = draw.choices(self.fillers, k=length)
        keys = draw.sample(self.keys, records)
        places = [place]
        while len(places) < records:
            spot = draw.randrange(length - 3)
            if all(abs(spot - taken) > 1 for taken in places):
                places.append(spot)
        answers = draw.choices(self.values, k=records)
        for spot, key, value in zip(places, keys, answers, strict=True):
            ids[spot : spot + 2] = key, value
        ids[-2:] = self.ask, keys[0]
        return ids, answers[0]


@dataclass(frozen=True)
class RetrievalMap:
    """How many of `trials` questions were answered right at each of `lengths` (rows of `right`) and `depths`."""

    lengths: tuple[int, ...]
    depths: tuple[float, ...]
    right: tuple[tuple[int, ...], ...]
    trials: int

    @property
    def accuracy(self) -> list[list[float]]:
        """Shares from 0 to 1, one row a length, one column a depth."""
        return [[right / self.trials for right in row] for row in self.right]

    def by_length(self) -> dict[int, float]:
        """Length -> accuracy over all depths."""
        whole = len(self.depths) * self.trials
        return {length: sum(row) / whole for length, row in zip(self.lengths, self.right, strict=True)}

    def interval(self, length: int) -> tuple[float, float]:
        """Between which shares the accuracy at `length` lies, at 95%, by the binomial spread of its trials."""
        right = self.right[self.lengths.index(length)]
        return wilson_interval(sum(right), self.trials * len(right))

    def to_dict(self) -> dict:
        """Plain lists and numbers, for JSON."""
        return {
            "lengths": list(self.lengths),
            "depths": list(self.depths),
            "right": [list(row) for row in self.right],
            "trials": self.trials,
        }

    @classmethod
    def from_dict(cls, values: dict) -> "RetrievalMap":
        """What `to_dict` gave. Raises ValueError if the counts do not fit lengths, depths and trials."""
        right = tuple(tuple(row) for row in values["right"])
        lengths, depths, trials = tuple(values["lengths"]), tuple(values["depths"]), values["trials"]
        shape = (len(right), len(right[0]) if right else 0)
        if shape != (len(lengths), len(depths)):
            raise ValueError(f"counts of shape {shape} for {len(lengths)} lengths and {len(depths)} depths")
        if any(not 0 <= count <= trials for row in right for count in row):
            raise ValueError(f"a count of right answers is outside 0 to trials={trials}")
        return cls(lengths, depths, right, trials)


def wilson_interval(right: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval for a share: (p + z^2/2n -+ z sqrt(p (1-p)/n + z^2/4n^2)) / (1 + z^2/n).

    Unlike p -+ z sqrt(p (1-p)/n) it does not shrink to nothing at 0 and 1. Raises ValueError for counts that do not
    fit. Source: E. B. Wilson, 1927, JASA 22. Chapter 06.
    """
    if not 0 <= right <= trials or trials < 1:
        raise ValueError(f"{right} right of trials={trials}: expected 0 <= right <= trials, and at least 1 trial")
    p, n = right / trials, trials
    middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


@torch.no_grad()
def retrieval(
    model, needles: Needles, lengths, depths, trials: int = 32, seed: int = 0, records: int = 4, on_cell=None
) -> RetrievalMap | None:
    """Ask `trials` questions at every length and depth, and count the right answers.

    An answer is right if the value is the most likely of all tokens. `on_cell(row, column, right)` is called after
    every cell, and stops the measurement by returning False; the result is then None.
    Raises ValueError for a token outside the model's vocabulary and for what `Needles.haystacks` refuses.
    Source: the test's form is G. Kamradt's "Needle in a haystack", 2023; DeepSeek-V3, arXiv 2412.19437, figure 8.
    Chapter 06.
    """
    lengths, depths = tuple(lengths), tuple(depths)
    if trials < 1 or not lengths or not depths:
        raise ValueError(f"trials={trials}, {len(lengths)} lengths, {len(depths)} depths: expected at least 1 of each")
    counts = [[0] * len(depths) for _ in lengths]
    was_training = model.training
    model.eval()
    try:
        for cell in range(len(lengths) * len(depths)):
            row, column = divmod(cell, len(depths))
            ids_MT, answers_M = needles.haystacks(trials, lengths[row], depths[column], seed, records)
            counts[row][column] = _right(model, ids_MT.to(model.device), answers_M.to(model.device))
            if on_cell is not None and on_cell(row, column, counts[row][column]) is False:
                return None
    finally:
        model.train(was_training)
    return RetrievalMap(lengths, depths, tuple(map(tuple, counts)), trials)


def _right(model, ids_MT, answers_M, tokens_at_once: int = 8192) -> int:
    """How many rows are answered right, a few at a time so that memory stays small."""
    at_once, right = max(1, tokens_at_once // ids_MT.shape[1]), 0
    for part_AT, answer_A in zip(ids_MT.split(at_once), answers_M.split(at_once), strict=True):
        logits_AV = model(part_AT, mtp=False).logits_BTV[:, -1]
        right += int((logits_AV.argmax(-1) == answer_A).sum())
    return right
