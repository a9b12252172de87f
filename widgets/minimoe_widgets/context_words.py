"""The sentences of ContextExplorer: a title that is the message, and a text for those who do not see the picture.

How the production version differs: a model card states one number, the longest context.
"""

from minimoe.inference.retrieval import RetrievalMap
from minimoe.inference.wavelengths import RotaryPairs

__all__ = ["angles_alt", "angles_title", "human_tokens", "retrieval_alt", "retrieval_title"]


def human_tokens(tokens: float) -> str:
    """4096 as 4K, 300 as 300, 12.57 as 12.6."""
    if tokens >= 1024:
        thousands = tokens / 1024
        return f"{thousands:,.0f}K" if thousands >= 10 or thousands == int(thousands) else f"{thousands:.1f}K"
    return f"{tokens:.0f}" if tokens >= 100 or tokens == int(tokens) else f"{tokens:.1f}"


def angles_title(pairs: RotaryPairs) -> str:
    """Which pairs never finish a turn in training, and what YaRN does to each kind."""
    count, trained = len(pairs.ramp), human_tokens(pairs.trained_tokens)
    first = f"{pairs.finished} of {count} pairs finish a turn within the {trained} tokens of training"
    if pairs.read_tokens == pairs.trained_tokens:
        return f"{first}, {count - pairs.finished} never do"
    kept, whole = sum(r == 0 for r in pairs.ramp), sum(r == 1 for r in pairs.ramp)
    partly = f" and {count - kept - whole} by a part of it" if count > kept + whole else ""
    read = human_tokens(pairs.read_tokens)
    return f"{first}; to read {read}, YaRN keeps {kept}, slows {whole} down by the whole factor{partly}"


def angles_alt(pairs: RotaryPairs) -> str:
    """The wavelengths in words."""
    ends = f"from {human_tokens(pairs.plain_tokens[0])} to {human_tokens(pairs.plain_tokens[-1])} tokens a turn"
    now = f"with YaRN from {human_tokens(pairs.now_tokens[0])} to {human_tokens(pairs.now_tokens[-1])}"
    return (
        f"{angles_title(pairs)}. Above, the wavelength of every pair on a logarithmic scale, {ends}, {now}; lines mark "
        "the trained and the extended length. Below, the ramp: 0 for a pair that is kept, 1 for one slowed down by all."
    )


def retrieval_title(name: str, found: RetrievalMap, trained: int) -> str:
    """What is found within the trained length, and at the longest one."""
    shares = found.by_length()
    within = [share for length, share in shares.items() if length <= trained]
    longest = max(shares)
    inside = f"at least {min(within):.0%} of the answers right up to {trained} tokens, " if within else ""
    low, high = found.interval(longest)
    return f"{name}: {inside}{shares[longest]:.0%} at {longest} (95% interval {low:.0%} to {high:.0%})"


def retrieval_alt(name: str, found: RetrievalMap, trained: int) -> str:
    """The map in words, a length at a time."""
    rows = "; ".join(
        f"{length} tokens: " + ", ".join(f"{share:.0%}" for share in row)
        for length, row in zip(found.lengths, found.accuracy, strict=True)
    )
    depths = ", ".join(f"{depth:g}" for depth in found.depths)
    return (
        f"{retrieval_title(name, found, trained)}. Map of right answers by length (rows) and depth of the record "
        f"(columns {depths}), {found.trials} questions a cell. {rows}."
    )
