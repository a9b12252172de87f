"""The static twin of KernelStepper's decode view, in matplotlib.

How the production version differs: nothing here is special to production.
"""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from minimoe_widgets.kernel_stepper_decode_words import AT_WORK, DONE
from minimoe_widgets.kernel_stepper_twin import NOTHING, draw_curves, shade
from minimoe_widgets.twin import OKABE_ITO, Twin

__all__ = ["draw_decode_twin"]

SIGNED = LinearSegmentedColormap.from_list("signed", [OKABE_ITO["blue"], NOTHING, OKABE_ITO["vermillion"]])
WORK, KEPT, STORED, GREY = (OKABE_ITO[name] for name in ("vermillion", "blue", "green", "grey"))


def draw_decode_twin(picture) -> Twin:
    """Sequences and programs above left, the cache above right; below, the program's variables and the bytes."""
    twin = Twin(picture.alt(), 9.4, 6.4)
    above, below = twin.subfigures(2, 1, height_ratios=[1, 1.15])
    left, right = above.subplots(1, 2, width_ratios=[1.2, 1])
    _draw_sequences(left, picture)
    _draw_pages(right, picture)
    inside, curves = below.subfigures(1, 2, width_ratios=[1.5, 1])
    _draw_inside(inside, picture)
    lines = (("all bytes", picture.moved, "blue"), ("from the cache", picture.cache, "green"))
    draw_curves(curves.subplots(), lines, picture.at, ("", picture.once), ("steps run", "moved"))
    twin.legend(handles=_key(picture), loc="outside lower left", ncols=4, fontsize=8, frameon=False)
    twin.suptitle(picture.title(), fontsize=10, x=0.01, ha="left", wrap=True)
    return twin


def _box(ax, x, y, width, height, colour="none", edge="#222222", line=0.6, **more):
    ax.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor=edge, linewidth=line, **more))


def _draw_sequences(ax, picture):
    asked, high = picture.found.asked, 1 / (picture.head_blocks + 1.4)
    for b, (length, pages) in enumerate(zip(asked.lengths, picture.pages(), strict=True)):
        for j, page in enumerate(pages):
            width = min(asked.page, length - j * asked.page)
            _box(ax, j * asked.page, b, width, high)
            if width >= max(asked.lengths) / 24:
                ax.text(j * asked.page + width / 2, b + high / 2, page, ha="center", va="center", fontsize=7)
    step, empties = max(3, max(asked.lengths) / 30), {}
    for share in picture.shares():
        b, h, _ = share.place
        x, width = share.first, share.end - share.first
        if not width:
            x, width = asked.lengths[b] + step * (0.5 + empties.get((b, h), 0)), 0.7 * step
            empties[b, h] = empties.get((b, h), 0) + 1
        y = b + high * (1.1 + h)
        if share.condition:
            colour = STORED if share.condition == DONE else WORK
            _box(ax, x, y, width * (share.read / width if share.end > share.first else 1), high * 0.8, colour, line=0)
        working = picture.current and picture.current.kind != "combine" and share.place == picture.current.place
        _box(ax, x, y, width, high * 0.8, edge=WORK if working else "#222222", line=2 if working else 0.6)
    done = {step.place[0] for step in picture.done if step.kind == "combine"}
    names = [f"seq {b}{', combined' * (b in done)}\n{n} entries" for b, n in enumerate(asked.lengths)]
    ax.set_yticks(np.arange(len(names)) + 0.4, names, fontsize=8)
    ax.tick_params(length=0)
    last = max(asked.lengths) + step * (1 + max(empties.values(), default=0))
    ax.set(xlim=(-1, max(last, 16)), ylim=(len(names), -0.1), xticks=[])
    ax.set_title("entries in their pages; below them the programs", fontsize=9, loc="left")
    ax.spines[:].set_visible(False)


def _draw_pages(ax, picture):
    times, filled, page = picture.times(), picture.filled(), picture.found.asked.page
    now = np.isin(np.arange(times.size).reshape(times.shape), picture.current.rows) if picture.current else times < 0
    across = max(1, 64 // page)
    for p in range(len(times)):
        x, y = p % across * (page + 3), p // across * 2
        ax.text(x, y - 0.1, p, fontsize=7, va="bottom")
        for i in np.flatnonzero(filled[p]):
            _box(ax, x + i, y, 1, 1, shade(times[p, i] / picture.head_blocks), line=0)
        empty = int((~filled[p]).sum())
        if empty:
            _box(ax, x + page - empty, y, empty, 1, edge=GREY, line=0, hatch="//////")
        _box(ax, x, y, page, 1)
        if now[p].any():
            _box(ax, x + int(now[p].argmax()), y, int(now[p].sum()), 1, edge=WORK, line=2.4)
    ax.set(xlim=(-1, across * (page + 3)), ylim=((len(times) - 1) // across * 2 + 1.4, -1.4))
    ax.axis("off")
    ax.set_title("the cache as it lies in memory", fontsize=9, loc="left")


def _draw_inside(figure, picture):
    inside = picture.inside()
    if not inside:
        figure.text(0.05, 0.5, "no program has run yet", fontsize=9)
        return
    combine = inside["kind"] == "combine"
    *bars, image = figure.subplots(1, 2 if combine else 3, sharey=True, width_ratios=[1, 1] if combine else [1, 1, 1.6])
    most = inside["most"]
    image.imshow(inside["map"], cmap=SIGNED, vmin=-most, vmax=most, aspect="auto", interpolation="none")
    image.set_title(f"{inside['name']} (blue < 0 < orange)", fontsize=8.5, loc="left")
    rows = np.arange(len(inside["map"]))
    if combine:
        _draw_weights(bars[0], inside, rows)
    else:
        _draw_running(*bars, inside, rows)
    for ax in (*bars, image):
        ax.tick_params(labelsize=8)
        if inside["real"] < len(rows):
            ax.axhspan(inside["real"] - 0.5, len(rows) - 0.5, color="white", alpha=0.65, linewidth=0, zorder=5)
    image.set_xticks([])
    bars[0].set_ylabel("head of the program", fontsize=8)
    bars[0].set_ylim(len(rows) - 0.5, -0.5)


def _draw_running(left, right, inside, rows):
    there = np.isfinite(inside["peak"])
    peak, old = inside["peak"], inside["old_peak"]
    had = there & np.isfinite(old)
    left.hlines(rows[had], old[had], peak[had], color=WORK, linewidth=1.5)
    left.scatter(old[had], rows[had], marker="|", s=20, color=GREY)
    left.scatter(peak[there], rows[there], marker="|", s=30, linewidth=2.5, color=KEPT)
    margin = 0.05 * (inside["high"] - inside["low"]) + 0.01
    left.set(xlim=(inside["low"] - margin, inside["high"] + margin))
    left.set_title("maximum", fontsize=9, loc="left")
    right.barh(rows, inside["kept"], 0.8, color=KEPT)
    right.barh(rows, inside["total"] - inside["kept"], 0.8, left=inside["kept"], color=WORK)
    shown = inside["old_total"] > 0
    right.scatter(inside["old_total"][shown], rows[shown], marker="|", s=24, color=GREY, zorder=3)
    right.set(xlim=(0, 1.05 * inside["most_total"]))
    right.set_title("sum", fontsize=9, loc="left")


def _draw_weights(ax, inside, rows):
    start = np.zeros(len(rows))
    for share, weights in enumerate(inside["weights"].T):
        ax.barh(rows, weights, 0.85, left=start, color=GREY if share % 2 else KEPT)
        start = start + weights
    ax.set(xlim=(0, 1))
    ax.set_title("weights of shares 0, 1, ... in turn", fontsize=9, loc="left")


def _key(picture) -> list[Patch]:
    """What the colours mean, in the state shown."""
    conditions = {share.condition for share in picture.shares()}
    out = [Patch(color=STORED, label="program that has stored")] * (DONE in conditions)
    out += [Patch(color=WORK, label="entries read by the program at work")] * (AT_WORK in conditions)
    out += [Patch(facecolor="none", edgecolor="#222222", label="not yet (small: a share without entries)")]
    for n in range(1, picture.head_blocks + 1):
        out.append(Patch(color=shade(n / picture.head_blocks), label=f"entry read {'once' if n == 1 else 'twice'}"))
    out += [Patch(facecolor="white", edgecolor=GREY, hatch="//////", label="no entry (NaN)")]
    out += [Patch(facecolor="none", edgecolor=WORK, linewidth=2, label="this step")]
    if picture.current and picture.current.kind == "block":
        out += [Patch(color=KEPT, label="maximum; sum that is kept"), Patch(color=WORK, label="added by this block")]
        out += [Patch(color=GREY, label="the value before")]
    out += [Line2D([], [], color=GREY, linestyle="--", label=f"each entry once: {picture.once:,} bytes")]
    out += [Line2D([], [], color=GREY, linestyle=":", label="to come")]
    return out
