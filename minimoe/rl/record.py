"""What a run shows of its answers: one line a watched question and recorded step, for people and explorers.

Curves say that something changed; the answers say what. A recorded group holds, for every answer, the text of each
token, its log-probability under the policy that sampled it and under the run's starting model, what every rule gave,
and the advantage. The difference of the two log-probabilities is where training has moved the policy.

How the production version differs: teams keep thousands of rollouts of a run and page through them by hand; it is how
reward hacking is found.
"""

import json
from pathlib import Path

import torch

from minimoe.rl.grpo import group_advantages
from minimoe.rl.likelihood import Rows, answer_logprobs
from minimoe.rl.replay import joined_masks
from minimoe.rl.rollout import Group

__all__ = ["GROUPS_NAME", "describe_group", "read_groups"]

GROUPS_NAME = "groups.jsonl"
DIGITS = 4


@torch.no_grad()
def describe_group(group: Group, rewards, start, tokenizer, settings) -> dict:
    """A group as plain values: the problem, and for every answer its pieces, log-probabilities, rewards, advantage.

    `start` is the model that the run began with; `settings` give the temperature and the scale of the advantages.
    """
    tokens = [answer.tokens for answer in group.answers]
    rows = Rows.of([group.prompt] * len(tokens), tokens, start.device)
    reference_BS, _ = answer_logprobs(start, rows, settings.temperature, joined_masks(group.answers))
    values = [rewards.score(group.question, answer) for answer in group.answers]
    totals = [rewards.total(value) for value in values]
    advantages_PO = group_advantages(torch.tensor([totals]), settings.objective.advantage_scale)
    return {
        "problem": group.question.problem,
        "answers": [
            {
                "pieces": [tokenizer.decode([token]) for token in answer.tokens],
                "logprobs": [round(value, DIGITS) for value in answer.logprobs],
                "reference": [round(value, DIGITS) for value in reference_BS[i][rows.mask_BS[i]].tolist()],
                "text": answer.text,
                "ended": answer.ended,
                "parts": values[i],
                "reward": round(totals[i], DIGITS),
                "advantage": round(advantages_PO[0, i].item(), DIGITS),
            }
            for i, answer in enumerate(group.answers)
        ],
    }


def read_groups(folder, until: int | None = None) -> list[dict]:
    """The recorded groups of a run's folder, up to the step `until`. An unfinished last line is left out."""
    path = Path(folder) / GROUPS_NAME
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    groups = [json.loads(line) for line in lines]
    return [group for group in groups if until is None or group["step"] <= until]
