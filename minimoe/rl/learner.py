"""From groups with advantages to a new policy: the half of an RL step that has gradients.

The groups of a rollout are shared out over `updates` optimizer steps. At the first the policy is the one that sampled,
and every ratio is 1; at the later ones it is not, and the clip begins to act. An answer with advantage 0 gives no
gradient of its own: where no KL term asks for it, it is left out of the pass. Averages are still taken over the whole
share, so that leaving it out changes nothing but the time.

How the production version differs: rows are packed to a number of tokens a device, and the backward pass of one part
overlaps with the exchange of the last one's gradients.
"""

from contextlib import nullcontext

import torch

from minimoe.rl.grpo import policy_loss
from minimoe.rl.likelihood import Rows, answer_logprobs
from minimoe.rl.replay import joined_masks, place_routing, replayed_routing
from minimoe.rl.rollout import Group
from minimoe.rl.settings import RLSettings
from minimoe.training.optimizer import build_optimizers

__all__ = ["Learner"]

ROWS = 64  # answers in one pass through the model; sorted by length, so that little of it is padding


class Learner:
    """The optimizers of a policy, and the step that they take. `reference` is the model that the KL term holds on to.

    AdamW with one rate for all parameters.
    """

    def __init__(self, model, reference, settings: RLSettings):
        self.model, self.reference, self.settings = model, reference, settings
        self.optimizers = build_optimizers(model, "adamw", settings.lr, settings.weight_decay, table_rate=1.0)

    def learn(self, groups: list[Group], advantages_PO: torch.Tensor, lr: float, measure_kl: bool = True) -> dict:
        """Take the optimizer steps of one rollout at the rate `lr`; gives the mean of their numbers.

        Keys: loss, grad_norm, entropy, and the metrics of `policy_loss`, over the answers that were not left out; "kl"
        only if it is in the loss or measured. Nothing to learn from: no step, and no numbers.
        Raises ValueError if a gradient is not finite; the weights are then as they were before that update.
        """
        parts = self._parts(groups, advantages_PO)
        with_reference = measure_kl or self.settings.objective.kl_weight > 0
        found: dict[str, float] = {}
        for rows, responses, tokens in parts:
            for name, value in self._update(rows, responses, tokens, lr, with_reference).items():
                found[name] = found.get(name, 0.0) + value / len(parts)
        if not with_reference:
            found.pop("kl", None)
        return found

    def _parts(self, groups, advantages_PO) -> list[tuple]:
        """The groups in `updates` equal shares; of each, what there is to learn from and the size of the whole."""
        pairs, parts = list(zip(groups, advantages_PO.tolist(), strict=True)), []
        every, updates = self.settings.objective.kl_weight > 0, self.settings.updates
        for i in range(updates):
            share = pairs[i * len(pairs) // updates : (i + 1) * len(pairs) // updates]
            rows = [
                (group.prompt, answer, advantage)
                for group, advantages in share
                for answer, advantage in zip(group.answers, advantages, strict=True)
                if every or advantage
            ]
            whole = [answer for group, _ in share for answer in group.answers]
            if rows:
                parts.append((rows, len(whole), sum(len(answer.tokens) for answer in whole)))
        return parts

    def _update(self, rows, responses: int, tokens: int, lr: float, with_reference: bool) -> dict:
        """One optimizer step on these rows; `responses` and `tokens` are what the loss is averaged over."""
        rows = sorted(rows, key=lambda row: len(row[0]) + len(row[1].tokens))
        counted = sum(len(answer.tokens) for _, answer, _ in rows)
        self.model.train()
        self.model.zero_grad(set_to_none=True)  # an update that was interrupted leaves gradients behind
        found: dict[str, float] = {}
        for start in range(0, len(rows), ROWS):
            part = rows[start : start + ROWS]
            for name, value in self._pass(part, responses, tokens, counted, with_reference).items():
                found[name] = found.get(name, 0.0) + value
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm).item()
        if not norm < float("inf"):
            raise ValueError(f"the gradient's norm is {norm}: lower lr={self.settings.lr}")
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.model.eval()
        return found | {"grad_norm": norm}

    def _pass(self, rows, responses: int, tokens: int, counted: int, with_reference: bool) -> dict:
        """Loss and gradients of some rows; gives their share of the numbers, weighted by their tokens."""
        settings, device = self.settings, self.model.device
        batch = Rows.of([prompt for prompt, _, _ in rows], [answer.tokens for _, answer, _ in rows], device)
        old_BS = batch.place([answer.logprobs for _, answer, _ in rows])
        advantages_B = torch.tensor([advantage for _, _, advantage in rows], device=device)
        kept_AV = joined_masks([answer for _, answer, _ in rows])
        with self._as_sampled(rows, batch.ids_BT.shape[1]):
            logprobs_BS, entropy_BS = answer_logprobs(self.model, batch, settings.temperature, kept_AV)
        reference_BS = None
        if with_reference:
            with torch.no_grad():
                reference_BS, _ = answer_logprobs(self.reference, batch, settings.temperature, kept_AV)
        loss, metrics = policy_loss(
            settings.objective, logprobs_BS, old_BS, advantages_B, batch.mask_BS, reference_BS,
            responses=responses, tokens=tokens, max_tokens=settings.max_new_tokens,
        )  # fmt: skip
        loss.backward()
        mine = int(batch.mask_BS.sum())
        metrics["entropy"] = entropy_BS.sum().item() / mine
        return {"loss": loss.item()} | {name: value * mine / counted for name, value in metrics.items()}

    def _as_sampled(self, rows, width: int):
        """The policy on the experts that sampled these answers, where they were recorded (V3.2's Keep Routing)."""
        routings = [answer.routing for _, answer, _ in rows]
        if routings[0] is None:
            return nullcontext()
        lengths = [len(prompt) + len(answer.tokens) for prompt, answer, _ in rows]
        return replayed_routing(self.model, place_routing(routings, lengths, width))
