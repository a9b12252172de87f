"""Times or floors as bars in HTML, which wraps on a phone and takes the page's colours.

A measured bar is filled and carries its spread from p20 to p80 as a line; a floor is hollow.

How the production version differs: nothing here is special to production.
"""

import html

from minimoe_widgets.kernel_timings_words import short
from minimoe_widgets.twin import OKABE_ITO

__all__ = ["bars_html", "colour"]

INK = "var(--jp-ui-font-color1, #222222)"


def colour(number: int) -> str:
    """The kernel's own first, its peers in grey."""
    return OKABE_ITO["vermillion" if number == 0 else "grey"]


def bars_html(picture) -> str:
    """A heading, and for each bar its name, its number and its length."""
    bars, measured = picture.bars, picture.record is not None
    longest = max(high or value for value, _, high in bars.values())
    head = "Times: median (p20 to p80)" if measured else "Floors by the datasheet: us at least"
    rows = [f'<div style="font-weight:600">{head}</div>']
    for number, (name, (value, low, high)) in enumerate(bars.items()):
        spread = f" ({short(low)} to {short(high)})" if low and high else ""
        rows.append(f'<div style="margin-top:8px">{html.escape(name)}: <b>{short(value)} us</b>{spread}</div>')
        fill = colour(number) if measured else "transparent"
        rows.append(
            f'<div class="minimoe-bar" style="position:relative;height:14px"><div style="box-sizing:border-box;'
            f'height:100%;width:{100 * value / longest:.2f}%;border:1.5px solid {INK};background:{fill}"></div>'
            f"{_spread(low, high, longest)}</div>"
        )
    return f'<div class="minimoe-bars" style="line-height:1.4">{"".join(rows)}</div>'


def _spread(low, high, longest) -> str:
    if not (low and high):
        return ""
    left, width = 100 * low / longest, 100 * (high - low) / longest
    place = f"position:absolute;top:6px;left:{left:.2f}%;width:{width:.2f}%;height:2px"
    return f'<div class="minimoe-spread" style="{place};background:{INK}"></div>'
