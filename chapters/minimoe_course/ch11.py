"""Exercises of chapter 11, R1: four stages."""

import re

import torch
import torch.nn.functional as F

from minimoe.rl import exploit, preference, rewards, words
from minimoe_course.exercise import Exercise, Wrong

__all__ = ["EXERCISES"]


# --- the share of the words that are in a language --------------------------------------------------------------------

CHINESE = "[\u4e00-\u9fff]"


def _share_inputs(g: torch.Generator):
    yield {"text": "先有三, buys four.", "language": "zh"}
    yield {"text": "先有三, buys four is seven, 丢二是五。", "language": "en"}
    yield {"text": "先有三，买四是七，丢二是五。", "language": "zh"}
    yield {"text": "先有三，买四是七，丢二是五。", "language": "en"}
    yield {"text": "3 + 4 = 7.", "language": "zh"}
    yield {"text": "", "language": "en"}
    yield {"text": "有3, 买4 buys 4 is 7", "language": "zh"}


def _share(found=rf"[A-Za-z]+|{CHINESE}", empty=0.0, other=False, finish=lambda share: share, total=None):
    """The share with one thing wrong: what is a word, what an empty text earns, which language is counted."""

    def share(text, language):
        tokens = re.findall(found, text)
        chinese = [bool(re.match(CHINESE, token)) for token in tokens]
        mine = sum(is_chinese == ((language == "zh") != other) for is_chinese in chinese)
        everything = len(tokens) if total is None else total(text)
        return finish(mine / everything) if everything else empty

    return share


def _in_pieces(cut):
    """The share of the pieces that are in the language, whatever the pieces are."""

    def share(text, language):
        pieces = cut(text)
        return sum(piece.isascii() == (language == "en") for piece in pieces) / len(pieces) if pieces else 0.0

    return share


LANGUAGE_SHARE = Exercise(
    key="11.language_share",
    reference=words.language_share,
    inputs=_share_inputs,
    tolerance=1e-9,
    because="a quotient of two small whole numbers in float64",
    wrong=(
        Wrong("letters", _share(found=rf"[A-Za-z]|{CHINESE}"), "you count Latin letters; a run of them, such as `four`, is one word."),
        Wrong("runs", _share(found=rf"[A-Za-z]+|{CHINESE}+"), "you count a run of Chinese characters as one word; every character is one."),
        Wrong("digits", _share(found=rf"[A-Za-z]+|{CHINESE}|\d"), "you count digits as words (and as English ones); they belong to neither language."),
        Wrong("split", _in_pieces(str.split), "you cut at spaces, or with `\\w+`: a run of Chinese characters is then one piece, and a digit is one, too. A word is a run of Latin letters or one Chinese character."),
        Wrong("pieces", _share(total=lambda text: len(text.split())), "you divide by the pieces between spaces; Chinese has no spaces."),
        Wrong("vacuous", _share(empty=1.0), "you pay a text without words in full. A policy that stops thinking would earn the whole reward."),
        Wrong("other", _share(other=True), "you return the share of the *other* language."),
        Wrong("deaf", lambda text, language: _share()(text, "zh"), "you return the share of Chinese words whatever is asked for; `language` may be \"en\"."),
        Wrong("pure", _share(finish=lambda share: float(share == 1)), "you pay for a pure text alone; half right in language is worth a half."),
        Wrong("majority", _share(finish=lambda share: float(share > 0.5)), "you pay the majority in full; the reward is the share itself."),
    ),
    hints=(
        "First make a list of the words: two kinds, one expression. `re.findall(\"[A-Za-z]+|[\u4e00-\u9fff]\", text)` gives it. Which of its entries are Chinese?",
        "```text\nwords = all runs of Latin letters, and all single Chinese characters\nif there are none: return 0\n"
        "chinese = how many of them are not made of Latin letters    # word.isascii()\n"
        "return chinese / all for \"zh\", (all - chinese) / all for \"en\"\n```",
    ),
    solution=(
        "import re\n\n\n"
        "def language_share(text, language):\n"
        '    words = re.findall("[A-Za-z]+|[\\u4e00-\\u9fff]", text)\n'
        "    if not words:\n"
        "        return 0.0\n"
        '    chosen = [word for word in words if word.isascii() == (language == "en")]\n'
        "    return len(chosen) / len(words)\n"
    ),
    differs="It also refuses a language that it does not know.",
)  # fmt: skip


# --- which weight the language reward needs ---------------------------------------------------------------------------


def _break_even_inputs(g: torch.Generator):
    yield {"p_own": 0.5, "p_other": 0.875, "share_other": 0.0}
    yield {"p_own": 0.5, "p_other": 0.75, "share_other": 0.5}
    yield {"p_own": 0.9, "p_other": 0.6, "share_other": 0.25}
    yield {"p_own": 0.25, "p_other": 1.0, "share_other": 0.75}
    yield {"p_own": 0.8, "p_other": 0.8, "share_other": 0.5}


BREAK_EVEN = Exercise(
    key="11.break_even",
    reference=rewards.break_even,
    inputs=_break_even_inputs,
    tolerance=1e-9,
    because="a difference and a quotient in float64",
    wrong=(
        Wrong("pure", lambda p_own, p_other, share_other: max(0.0, p_other - p_own), "you forget that a mixed thought earns its share of the language reward too: the weight has to be larger."),
        Wrong("negative", lambda p_own, p_other, share_other: (p_other - p_own) / (1 - share_other), "your weight can be negative. Where the own language is surer anyway, no reward is needed: 0."),
        Wrong("absolute", lambda p_own, p_other, share_other: abs(p_other - p_own) / (1 - share_other), "you take the size of the difference. Where the own language is surer anyway, no reward is needed: 0."),
        Wrong("turned", lambda p_own, p_other, share_other: max(0.0, (p_own - p_other) / (1 - share_other)), "your sign is turned: the reward is needed where the *other* language is surer."),
        Wrong("multiplied", lambda p_own, p_other, share_other: max(0.0, (p_other - p_own) * (1 - share_other)), "you multiply by the difference of the shares; divide by it. The nearer the two are in language, the larger the weight."),
        Wrong("share", lambda p_own, p_other, share_other: max(0.0, (p_other - p_own) / (share_other or 1)), "you divide by the share of the mixed thought; what counts is how much more the pure one has, 1 - share."),
        Wrong("ratio", lambda p_own, p_other, share_other: max(0.0, p_other / p_own - 1), "you compare by a quotient; rewards are added, so differences count."),
    ),
    hints=(
        "Write down what each kind of answer earns on average: accuracy counts 1, the language share counts w. Set both equal.",
        "```text\nown:    p_own + w * 1\nothers: p_other + w * share_other\nequal at w = (p_other - p_own) / (1 - share_other); below 0: no reward needed\n```",
    ),
    solution="def break_even(p_own, p_other, share_other):\n    return max(0.0, (p_other - p_own) / (1 - share_other))\n",
    differs="It also refuses a share of 1: such thoughts are in the own language themselves.",
)  # fmt: skip


# --- Bradley-Terry ----------------------------------------------------------------------------------------------------


def _pair_inputs(g: torch.Generator):
    yield {"preferred_B": torch.tensor([1.0]), "rejected_B": torch.tensor([0.0])}
    yield {"preferred_B": torch.tensor([2.0, 0.0]), "rejected_B": torch.tensor([0.0, 1.0])}
    yield {"preferred_B": torch.tensor([-100.0, 5.0, 1.0]), "rejected_B": torch.tensor([100.0, 5.0, -2.0])}
    yield {"preferred_B": torch.randn(7, generator=g), "rejected_B": torch.randn(7, generator=g)}


def _on_difference(loss):
    return lambda preferred_B, rejected_B: loss(preferred_B - rejected_B)


BRADLEY_TERRY_LOSS = Exercise(
    key="11.bradley_terry_loss",
    reference=preference.bradley_terry_loss,
    inputs=_pair_inputs,
    tolerance=1e-5,
    because="float32 rounds at 6e-8, and softplus may be written in several ways",
    wrong=(
        Wrong("turned", _on_difference(lambda d: F.softplus(d).mean()), "your loss falls when the *rejected* answer scores higher: the difference is preferred minus rejected."),
        Wrong("no minus", _on_difference(lambda d: F.logsigmoid(d).mean()), "the minus is missing: the logarithm of a chance is below 0, and descending it would make the right order rarer."),
        Wrong("epsilon", _on_difference(lambda d: -(d.sigmoid() + 1e-8).log().mean()), "you add a small number before the logarithm: a pair that is wrong by 200 then costs 18 instead of 200, and teaches nothing. `F.logsigmoid` needs no such number."),
        Wrong("sum", _on_difference(lambda d: F.softplus(-d).sum()), "you add the pairs up; take their mean, or the step grows with the batch."),
        Wrong("no logarithm", _on_difference(lambda d: (1 - d.sigmoid()).mean()), "you return the chance of the wrong order, without the logarithm. A pair that is badly wrong would hardly be heard: that curve is flat there."),
        Wrong("each alone", lambda preferred_B, rejected_B: (F.softplus(-preferred_B) + F.softplus(rejected_B)).mean(), "you judge each answer alone, as good or bad; only the difference of the two scores is known."),
        Wrong("log of the mean", _on_difference(lambda d: -d.sigmoid().mean().log()), "you take the logarithm of the mean; take the mean of the logarithms, a pair at a time."),
        Wrong("overflow", _on_difference(lambda d: -d.sigmoid().log().mean()), "your loss becomes infinite where the scores are far apart in the wrong order: the sigmoid is rounded to 0 before its logarithm is taken. `F.logsigmoid` does both at once."),
        Wrong("hinge", _on_difference(lambda d: (1 - d).clamp_min(0).mean()), "that is a hinge: it falls silent once the difference is 1. Bradley-Terry is smooth."),
    ),
    hints=(
        "The model says how likely the preferred answer was to be preferred: sigmoid of a difference. The loss is minus the logarithm of that, a pair at a time.",
        "```text\ndifference = preferred - rejected\nlog_chance = F.logsigmoid(difference)\nreturn minus the mean of log_chance\n```",
    ),
    solution="def bradley_terry_loss(preferred_B, rejected_B):\n    return -F.logsigmoid(preferred_B - rejected_B).mean()\n",
    differs="It is yours.",
)  # fmt: skip


# --- break the judge --------------------------------------------------------------------------------------------------


class Judge:
    """A judge of lists of words that gives points: for every word ("all"), for every different one ("once"), or for
    the first two, the first of which counts twice ("first")."""

    def __init__(self, counts: str, **points: float):
        self.counts, self.points = counts, points

    def __call__(self, words):
        heard = {"all": list(words), "once": sorted(set(words)), "first": [*words[:1], *words[:2]]}[self.counts]
        return sum(self.points.get(word, 0.0) for word in heard)

    def __repr__(self) -> str:
        return f"points({self.counts}: {', '.join(f'{word} {value:g}' for word, value in self.points.items())})"


def _edit_inputs(g: torch.Generator):
    yield {"words": ["Dear", "Tom", "Best"], "score": Judge("all", Dear=1.0, Tom=-1.0, Best=2.0)}
    yield {"words": ["Dear", "Tom", "Best"], "score": Judge("all", Dear=1.0, Tom=-3.0, Best=2.0)}
    yield {"words": ["Dear", "Best"], "score": Judge("once", Dear=1.0, Best=2.0)}
    yield {"words": ["Dear", "Tom", "Best"], "score": Judge("first", Dear=2.0, Tom=0.5)}
    yield {"words": ["Tom", "Ben", "Dear"], "score": Judge("first", Ben=-0.5, Dear=3.0)}


def _edit(shorter=True, longer="beside", stay=True, choose=max, first=False):
    def edit(words, score):
        found = [words[:i] + words[i + 1 :] for i in range(len(words))] if shorter else []
        if longer == "beside":
            found += [words[: i + 1] + words[i:] for i in range(len(words))]
        if longer == "end":
            found += [[*words, word] for word in words]
        if first:
            return next((list_ for list_ in found if score(list_) > score(words)), words)
        best = choose(found, key=score)
        return best if not stay or score(best) > score(words) else words

    return edit


BEST_EDIT = Exercise(
    key="11.best_edit",
    reference=exploit.best_edit,
    inputs=_edit_inputs,
    tolerance=0.0,
    because="lists of words are equal or they are not",
    wrong=(
        Wrong("only shorter", _edit(longer=""), "you only leave words out; saying a word twice may score higher."),
        Wrong("only longer", _edit(shorter=False), "you only say words twice; leaving one out may score higher."),
        Wrong("at the end", _edit(longer="end"), "you put the repeated word at the end; it stands beside the first."),
        Wrong("always", _edit(stay=False), "you return an edit even where none scores higher: then the search would never stop."),
        Wrong("first", _edit(first=True), "you take the first edit that scores higher; the best one is asked for."),
        Wrong("lowest", _edit(choose=min, stay=False), "you take the edit with the lowest score."),
    ),
    hints=(
        "Make two lists of lists: every `words` with place i left out, every `words` with place i doubled. Then `max(..., key=score)`.",
        "```text\nfor every i:\n    candidate: words[:i] + words[i + 1:]      left out\n    candidate: words[:i + 1] + words[i:]      said twice\n"
        "best = candidate with the highest score\nreturn best if its score is above that of words, else words\n```",
    ),
    solution=(
        "def best_edit(words, score):\n"
        "    candidates = [words[:i] + words[i + 1 :] for i in range(len(words))]\n"
        "    candidates += [words[: i + 1] + words[i:] for i in range(len(words))]\n"
        "    best = max(candidates, key=score)\n"
        "    return best if score(best) > score(words) else words\n"
    ),
    differs="It lets the unchanged words take part in the comparison, so that an empty list needs no care.",
)  # fmt: skip


EXERCISES = (LANGUAGE_SHARE, BREAK_EVEN, BRADLEY_TERRY_LOSS, BEST_EDIT)
