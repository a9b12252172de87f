"""The sentences of CompressionExplorer: a title that is the message, and a text for those who do not see the picture.

How the production version differs: nobody writes these for a dashboard, which is why dashboards need an expert to read.
"""

from minimoe_widgets.cache_bill import Line, human_bytes, sentence
from minimoe_widgets.model_reading import ModelReading

__all__ = ["attention_alt", "attention_title", "bill_alt", "bill_title", "rank_alt", "rank_title"]


def bill_title(lines: list[Line], batch: int, context: int) -> str:
    """The bill's message: what MLA takes, and how many times less that is than MHA."""
    return sentence(lines, batch, context)


def bill_alt(lines: list[Line], batch: int, context: int) -> str:
    """Every bar of the bill in words."""
    rows = "; ".join(f"{x.name} {human_bytes(x.cache_bytes)} ({human_bytes(x.token_bytes)} a token)" for x in lines)
    return f"{sentence(lines, batch, context)}. Bars on a logarithmic scale: {rows}."


def attention_title(reading: ModelReading, layer: int, head: int) -> str:
    """Where one head looks, in four numbers."""
    habit = reading.habit(layer, head)
    return (
        f"Layer {layer}, head {head} looks {habit.distance:.1f} tokens back on average: {habit.previous:.0%} of its "
        f"weight on the previous token, {habit.itself:.0%} on itself, {habit.first:.0%} on the first"
    )


def attention_alt(reading: ModelReading, layer: int, head: int) -> str:
    """An attention map in words."""
    tokens = len(reading.ids)
    return (
        f"{attention_title(reading, layer, head)}. Attention map of {tokens} tokens: rows are the tokens that look, "
        "columns the tokens looked at; everything above the diagonal is empty, since no token sees the future."
    )


def rank_title(reading: ModelReading, layer: int, rank: int) -> str:
    """What a cut keeps of the latent and what it costs in loss."""
    part, whole = reading.main_part(), reading.ranks[-1]
    loss, full = reading.losses[reading.ranks.index(rank)], reading.losses[-1]
    return (
        f"{rank} of {whole} directions keep {reading.share(layer, rank):.0%} of layer {layer}'s {part}; with only so "
        f"many in every layer the loss is {loss:.2f} nats a token, against {full:.2f}"
    )


def rank_alt(reading: ModelReading, layer: int, rank: int) -> str:
    """The two curves of the rank view in words."""
    parts = "; ".join(
        f"{name}: largest singular value {s[0]:.1f}, smallest {s[-1]:.2f}" for name, s in reading.spectra[layer].items()
    )
    ends = f"the loss falls from {reading.losses[0]:.2f} at rank 0 to {reading.losses[-1]:.2f} uncut"
    return f"{rank_title(reading, layer, rank)}. Singular values of what is cached ({parts}), and below, {ends}."
