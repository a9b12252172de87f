"""Saying so when no answer teaches anything.

A run in which no answer ever earns more than its siblings does not break. It samples, scores, skips every step, and
draws a flat curve for as long as one lets it. The commonest cause is small: the prompt is in another template than the
model was trained on, a rule reads another form than the model writes, or no answer comes to its end within the tokens
it is given. All of them are seen at a glance in one prompt and one answer, so after a few such steps the run shows
them, beside what the rules gave.

It is a notice and no error: a run that finds nothing can be the point of an experiment, and luck may come later.

How the production version differs: dashboards raise an alarm when the share of groups with equal rewards stays high,
and samplers go on drawing questions until a batch has enough groups that differ (DAPO's dynamic sampling).
"""

from minimoe.rl.rollout import Group
from minimoe.tokenizer import Tokenizer

__all__ = ["PATIENCE", "notice_of", "silence"]

PATIENCE = 3  # skipped steps in a row
SHOWN = 80  # characters of the answer


def silence(
    before: list[dict], record: dict, groups: list[Group], tokenizer: Tokenizer, max_new_tokens: int
) -> str | None:
    """What to say of a skipped step, once in a row of them: at the `PATIENCE`th, unless all its answers were right.

    `before`: the records of the steps before it; `record`, `groups`: its own. Chapter 10.
    """
    skipped = [past["skipped"] for past in before[-PATIENCE:]]
    once = skipped[1 - PATIENCE :] == [True] * (PATIENCE - 1) and skipped != [True] * PATIENCE
    if not once or record["accuracy"] == 1:
        return None
    given = ", ".join(f"{name} {value:g}" for name, value in record["parts"].items())
    prompt, answer = tokenizer.decode(groups[-1].prompt), groups[-1].answers[0].text
    answer = answer if len(answer) <= SHOWN else answer[:SHOWN] + "..."
    return (
        f"{PATIENCE} steps in a row taught nothing: in every group all answers earned the same ({given}; "
        f"{record['ended']:.0%} ended). {_why(record, max_new_tokens)} "
        f"The last prompt was {prompt!r}, an answer to it {answer!r}"
    )


def _why(record: dict, max_new_tokens: int) -> str:
    if any(record["parts"].values()):
        return "The rules do not tell these answers apart."
    if record["ended"] == 0:
        return f"No answer came to its end mark within max_new_tokens={max_new_tokens}."
    return "Rules that give 0 everywhere may read another form than the model writes, or the prompt has another."


def notice_of(records: list[dict]) -> str | None:
    """What `silence` said, if nothing has been learned since: the notice of the skipped steps at the end of a run."""
    for record in reversed(records):
        if not record["skipped"]:
            return None
        if "notice" in record:
            return record["notice"]
    return None
