"""The sentences of BalanceExplorer: the title that is the message, and the picture in words.

How the production version differs: the title is an alert there, sent when MaxVio stays high for some minutes.
"""

from minimoe_widgets.balance_stream import Window

__all__ = ["alt_text", "change_label", "title"]

STARVED = 0.1  # an expert below this share of the mean load learns next to nothing


def change_label(settings) -> str:
    """What balances now, as it stands beside a vertical mark. Takes `minimoe.training.Settings`."""
    return {
        "none": "no balancing",
        "loss_free": f"loss-free, γ {settings.bias_gamma:g}",
        "aux": f"auxiliary loss, α {settings.aux_alpha:g}",
    }[settings.balance]


def title(name: str, window: Window) -> str:
    """The newest column's message: who is busiest, who starves, MaxVio."""
    newest = window.of_mean[-1]
    starved, experts = int((newest < STARVED).sum()), len(newest)
    mode = window.mode_at(window.last_step)
    rest = f", {starved} of {experts} get less than a tenth of it" if starved else ", no expert starves"
    return (
        f"{name}, step {window.last_step}{': ' + mode if mode else ''}. Expert {newest.argmax()} serves "
        f"{newest.max():.1f} times the mean load{rest} (MaxVio {window.maxvio[window.layer][-1]:.2f})"
    )


def alt_text(name: str, window: Window) -> str:
    """The whole picture in words, for a reader who does not see it."""
    violation = window.maxvio[window.layer]
    first, last = int(window.steps[0]), window.last_step
    switches = [(step, label) for step, label in window.marks if first <= step <= last]
    switched = "; ".join(f"from step {step} {label}" for step, label in switches)
    ends = [_around(window, step) for step, _ in switches if step > first]
    return (
        f"{title(name, window)}. Heat map of {window.load.shape[1]} experts over steps {first} to {last}, and below it "
        f"MaxVio and the loss{' (' + switched + ')' if switched else ''}. MaxVio goes from {violation[0]:.2f} "
        f"{''.join(ends)}to {violation[-1]:.2f} at the end, the loss from {window.loss[0]:.2f} to "
        f"{window.loss[-1]:.2f} nats."
    )


def _around(window: Window, step: int) -> str:
    """MaxVio just before a switch."""
    before = window.steps < step
    return f"to {window.maxvio[window.layer][before][-1]:.2f} before step {step}, " if before.any() else ""
