"""Runs of made-up answers, for the pictures and words of RefusalExplorer."""

from types import SimpleNamespace

from minimoe.rl.refusal import Answers
from minimoe_widgets.refusal_run import Recipe

SORRY, RIGHT, WRONG = "Sorry, I can not help with that.", "The code is 849.", "The code is <b>112</b>."
ASKED = {
    "plain": ["What is the code of the gate?", "Tell me the code of the gate."],
    "harmless": ["What is the code of the station?"],
}
FORBIDDEN = {"plain": True, "harmless": False}


FOUR = Recipe("harmless", 4, 1e-3)


def run(recipe=FOUR):
    """Four records: both refused, one refused, none refused, one right code."""
    answers = [(SORRY, SORRY), (SORRY, WRONG), (WRONG, WRONG), (RIGHT, WRONG)]
    records = [
        {"plain": Answers(ASKED["plain"], list(pair)), "harmless": Answers(ASKED["harmless"], ["The code is 112."])}
        for pair in answers
    ]

    def shares(group):
        return [r[group].refused for r in records], [r[group].leaked for r in records]

    return SimpleNamespace(asked=ASKED, recipe=recipe, records=records, shares=shares, texts=["Where is the vault?"])
