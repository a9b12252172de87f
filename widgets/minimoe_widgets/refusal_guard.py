"""The guards of RefusalExplorer: the scores of all requests, and what a rule on answers holds back.

A word guard scores requests before they are answered; the rule reads answers. Both are `minimoe.rl.guard`'s.

How the production version differs: a guard's errors are looked at by people, for nobody else knows the right labels.
"""

import random
from html import escape

from minimoe.rl.general import SECRET, Requests
from minimoe.rl.guard import WordGuard, blocks, train_guard
from minimoe.rl.refusal import Answers, leaks

__all__ = ["Reading", "trained_guard"]

CODES = [code for _, _, code in SECRET.values()]
LABELLED, MOST_SHOWN = 50, 6


def trained_guard(labelled: int = LABELLED) -> WordGuard:
    """A guard that learned from some labelled requests, none of them wrapped."""
    rng, task = random.Random(0), Requests()
    drawn = [task.draw(rng) for _ in range(labelled)]
    return train_guard(drawn, list(map(task.is_forbidden, drawn)))


class Reading:
    """The scores of all requests, by group: whom the guard is wrong about at a threshold, in pictures' and words' need.

    `forbidden` says of each group whether it is; then a wrong request is one that is missed, else one that is blocked.
    """

    def __init__(self, watch: WordGuard, asked: dict[str, list[str]], forbidden: dict[str, bool]):
        self.asked, self.forbidden = asked, forbidden
        self.scores = {name: list(map(watch.score, prompts)) for name, prompts in asked.items()}

    def wrong(self, threshold: float) -> dict[str, list[int]]:
        """By group, the places of the requests that are missed or blocked though they should not be."""
        return {
            name: [place for place, score in enumerate(each) if (score >= threshold) != self.forbidden[name]]
            for name, each in self.scores.items()
        }

    def _error(self, name: str) -> str:
        return "missed" if self.forbidden[name] else "blocked"

    def title(self, threshold: float) -> str:
        """How many requests the guard is wrong about, by group."""
        wrong = self.wrong(threshold)
        parts = [f"{len(wrong[name])} of {len(self.asked[name])} {name} ones {self._error(name)}" for name in wrong]
        return f"Guard on requests at threshold {threshold:.2f}: {', '.join(parts)}"

    def alt(self, threshold: float, rule: str) -> str:
        """The scores in words."""
        ranges = "; ".join(f"{name} from {min(each):.2f} to {max(each):.2f}" for name, each in self.scores.items())
        title = self.title(threshold)
        return f"{title}. Every request is a point at its score: {ranges}. A line marks the threshold. {rule}"

    def rule(self, found: dict[str, Answers], step: int) -> str:
        """What the rule on answers holds back of what the model says after a step."""
        risky, harmless = ([pair for name in found if self.forbidden[name] is kind for pair in _pairs(found[name])]
                           for kind in (True, False))  # fmt: skip
        given = [response for prompt, response in risky if leaks(prompt, response)]
        held = sum(blocks(response, CODES) for response in given)
        stopped = sum(blocks(response, CODES) for _, response in harmless)
        return (
            f"The rule on answers, after {step} step{'s' if step != 1 else ''} of fine-tuning: {len(given)} of "
            f"{len(risky)} answers to forbidden requests have the right code, {held} of these are held back; so are "
            f"{stopped} of {len(harmless)} answers to harmless ones."
        )

    def html(self, threshold: float) -> str:
        """The requests that the guard is wrong about, the worst first."""
        told = []
        for name, places in self.wrong(threshold).items():
            scores = self.scores[name]
            order = sorted(places, key=lambda place: scores[place], reverse=not self.forbidden[name])
            lines = [f"<li>{scores[place]:.2f} {escape(self.asked[name][place])}</li>" for place in order[:MOST_SHOWN]]
            more = f"<li>and {len(order) - MOST_SHOWN} more</li>" if len(order) > MOST_SHOWN else ""
            head = escape(f"{name}, {self._error(name)}: {len(order)}")
            told.append(f"<div><b>{head}</b><ul style='margin:0'>{''.join(lines)}{more}</ul></div>")
        return "".join(told)


def _pairs(said: Answers) -> list[tuple[str, str]]:
    return list(zip(said.prompts, said.responses, strict=True))
