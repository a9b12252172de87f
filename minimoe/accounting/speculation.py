"""When guessing ahead pays: tokens a call of the trunk gives, against what the call and the guessing cost.

Speculative decoding trades calls for work. A call of the trunk that checks n drafts costs more than a plain one, and
the drafts themselves cost something. What it gives is one token for certain, a second if the first draft is kept, a
third if the second is kept too. Everything is in units of a plain call, so three numbers decide: the acceptance, the
price of checking, the price of drafting.

How the production version differs: acceptance and prices are measured as the load changes, and drafting is switched
off when a full batch makes checking dear.
"""

__all__ = ["break_even_acceptance", "speculation_speedup", "tokens_a_call"]


def tokens_a_call(acceptance: float, drafts: int = 1) -> float:
    """Tokens that a call of the trunk gives on average, if it checks `drafts` drafts in a row.

        1 + a + a^2 + ... + a^drafts

    The insight: a draft counts only if all before it were kept, so the second draft of 0.8 is worth 0.64.
    Takes the probability a that a draft is kept, the same for all. Raises `ValueError` for an acceptance outside 0..1
    or negative drafts. Source: Leviathan et al., arXiv 2211.17192 equation 1. Chapter 05.
    """
    if not 0 <= acceptance <= 1:
        raise ValueError(f"acceptance={acceptance} is not between 0 and 1")
    if drafts < 0:
        raise ValueError(f"drafts={drafts} must be 0 or more")
    return sum(acceptance**n for n in range(drafts + 1))


def speculation_speedup(acceptance: float, drafts: int, check: float, draft: float) -> float:
    """How many times as fast as plain decoding: (1 + a + ... + a^drafts) / (check + drafts * draft).

    `check`: the trunk's call on drafts + 1 tokens, `draft`: one run of the drafting module with its head, both in
    units of a plain call. Below 1, speculation loses. Raises `ValueError` as `tokens_a_call`, and for a call that
    costs nothing. Source: Leviathan et al., arXiv 2211.17192 theorem 3.8 (there check = 1). Chapter 05.
    """
    cost = check + drafts * draft
    if check <= 0 or draft < 0:
        raise ValueError(f"check={check} must be above 0 and draft={draft} at least 0")
    return tokens_a_call(acceptance, drafts) / cost


def break_even_acceptance(check: float, draft: float) -> float:
    """The acceptance at which one draft a call neither wins nor loses: check + draft - 1.

    Above 1 it cannot win; at 0 or below it cannot lose. Chapter 05.
    """
    return check + draft - 1
