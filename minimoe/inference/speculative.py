"""Speculative decoding with the MTP module: two tokens a step, and not one bit of difference in what is said.

The module behind the trunk drafts the token after the next. The trunk then runs on both at once, which costs little
more than one, because decoding is limited by reading weights. If the draft is what the trunk would have said, two
tokens are won; if not, the trunk's own token stands and the draft is forgotten.

"What the trunk would have said" has a meaning for sampling too. Let p be the trunk's distribution at the drafted place
and q the one that the draft d was drawn from. Keep d with probability min(1, p(d)/q(d)); otherwise draw from (p - q)+,
normalised. The token is then distributed as p exactly: min(p, q) comes from kept drafts, (p - q)+ from the rest.

The bookkeeping. Let n tokens be known, the last of them not yet run. The trunk's cache and the MTP module's layer of it
hold slots 0 .. n-2: slot i of the trunk is token i, slot i of the module is (state i, embedding of token i + 1),
rotated as position i. A step runs tokens n-1 and the draft n at slots n-1 and n. With a drafts accepted (0 or 1),
tokens n .. n+a are known, so the module runs at slots n-1 .. n-1+a, and both layers' lengths grow by a + 1. A rejected
draft needs no undoing: its slot lies past the length and is written over by the next step.

Modules of depth 2 and more are not used: a draft of theirs would rest on an unchecked draft.

How the production version differs: engines chain the one module to draft two or three tokens and check a tree of them.
"""

import torch

from minimoe.inference.generate import Decoding
from minimoe.inference.sampling import draw, likeliest, logprob_of

__all__ = ["SpeculativeDecoding", "rule", "verify"]


def rule(p_MV, q_MV, draft_M):
    """With what chance each draft is kept, min(1, p/q), and what its replacement is drawn from, (p - q)+ / sum.

    Takes two distributions a row (float64); q is the one that `draft_M` was drawn from, so q(draft) > 0. Gives the
    chances and the distributions. With p and q on one token each (greedy), a draft is kept if it is p's token.
    Source: Leviathan et al., arXiv 2211.17192 section 2.3 and appendix A.1. Chapter 05.
    """
    p_M, q_M = p_MV.gather(1, draft_M[:, None])[:, 0], q_MV.gather(1, draft_M[:, None])[:, 0]
    chance_M = (p_M / q_M).clamp(max=1)
    rest_MV = (p_MV - q_MV).clamp_min(0)
    # where p = q up to rounding nothing is left over, and nothing but rounding can reject the draft
    rest_MV = torch.where(rest_MV.sum(-1, keepdim=True) > 0, rest_MV, p_MV)
    return chance_M, rest_MV / rest_MV.sum(-1, keepdim=True)


def verify(p_MV, q_MV, draft_M, accept_M, sample_M):
    """Follow `rule` with two uniform numbers a row: the token is then distributed as p, whatever q was.

    Gives the tokens and whether they are the drafts. Source as `rule`. Chapter 05.
    """
    chance_M, rest_MV = rule(p_MV, q_MV, draft_M)
    kept_M = accept_M < chance_M
    return torch.where(kept_M, draft_M, draw(rest_MV, sample_M)), kept_M


class SpeculativeDecoding(Decoding):
    """`Decoding` whose rounds give one or two tokens a row. `draft_B` is each row's proposal for its next token.

    `checked` keeps what the last round did with its drafts, for `trace`.
    """

    checked = None

    def after_prefill(self, ids_BT, lengths_B, read_BTD) -> None:
        """Fill the module's cache layer with the prompt, and draft the second new token."""
        places = torch.arange(len(ids_BT), device=ids_BT.device)
        next_ids_BT = ids_BT.roll(-1, dims=1)
        next_ids_BT[places, lengths_B - 1] = self.last_B
        normed_BTD = self.steps.draft(read_BTD, next_ids_BT)
        self.propose(normed_BTD[places, lengths_B - 1], self.indices(ahead=1))

    def propose(self, normed_BD, indices: list[int]) -> None:
        """Draw every row's draft from the module's distribution, which is kept: `verify` needs it."""
        logits_BV = self.steps.head(normed_BD)
        if self.request.greedy:
            self.draft_B = likeliest(logits_BV)
            return
        self.q_BV = self.probabilities(logits_BV)
        self.draft_B = draw(self.q_BV, self.noise.of("draft", self.rows, indices))

    def round(self) -> list[tuple[int, int]]:
        """Run the last token and the draft, keep one or two tokens, draft the next."""
        normed_BTD, read_BTD = self.steps.trunk(torch.stack([self.last_B, self.draft_B], dim=1))
        self.result.steps += 1
        first_BV, second_BV = (self.steps.head(normed_BTD[:, t]) for t in (0, 1))
        next_B, kept_B = self.check(first_BV)
        bonus_B = self.after(second_BV)
        columns = [(next_B, logprob_of(first_BV, next_B)), (bonus_B, logprob_of(second_BV, bonus_B))]
        counts_B = kept_B + 1
        counts = counts_B.tolist()
        self.result.drafted += len(counts)
        self.result.accepted += sum(counts) - len(counts)
        draft_BTD = self.steps.draft(read_BTD, torch.stack([next_B, bonus_B], dim=1))
        self.last_B = torch.where(kept_B, bonus_B, next_B)
        indices = [index + count for index, count in zip(self.indices(), counts, strict=True)]
        self.propose(draft_BTD[torch.arange(len(counts), device=kept_B.device), counts_B - 1], indices)
        self.steps.advance(counts_B)
        return self.record(columns, counts)

    def check(self, logits_BV):
        """The token that stands where the draft was, and whether it is the draft."""
        if self.request.greedy:
            next_B = likeliest(logits_BV)
            kept_B = next_B == self.draft_B
            self.checked = self.draft_B, kept_B, None, None
            return next_B, kept_B
        accept_B, sample_B = (self.noise.of(kind, self.rows, self.indices()) for kind in ("accept", "sample"))
        p_BV = self.probabilities(logits_BV)
        next_B, kept_B = verify(p_BV, self.q_BV, self.draft_B, accept_B, sample_B)
        self.checked = self.draft_B, kept_B, p_BV, self.q_BV
        return next_B, kept_B

    def verdicts(self) -> tuple[list, list, list]:
        """The last round's drafts, whether they were kept, and their chances min(1, p / q)."""
        if self.checked is None:
            return super().verdicts()
        draft_B, kept_B, p_BV, q_BV = self.checked
        chance_B = kept_B.double() if p_BV is None else rule(p_BV, q_BV, draft_B)[0]
        return draft_B.tolist(), kept_B.tolist(), chance_B.tolist()

    def after(self, logits_BV) -> torch.Tensor:
        """The token after the draft, which counts if the draft does."""
        if self.request.greedy:
            return likeliest(logits_BV)
        return draw(self.probabilities(logits_BV), self.noise.of("sample", self.rows, self.indices(ahead=1)))

    def select(self, order: list[int]) -> None:
        """Bring what is kept a row into the batch's new order."""
        super().select(order)
        self.draft_B = self.draft_B[order]
        if not self.request.greedy:
            self.q_BV = self.q_BV[order]
