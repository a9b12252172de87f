# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["promise"]
# # 06 Stretching the context
#
# By the end you can take a model that reads 64 tokens and make it read 512, without training and then with a little of it; and you know which of its numbers had to change, and why.
#
# 40 minutes. Prerequisites: chapter 01 (RoPE), chapter 02 (the rotary key); sine and cosine.
#
# You will be able to
# - say which rotary pairs never finish a turn in training, and why a longer row breaks them
# - compute YaRN's frequencies and its softmax scale, for DeepSeek-V3 and for a model of your own
# - measure what a model still finds in a long row, by depth and length, and say what an extension costs

# %% tags=["setup"]
import math
import torch
import minimoe
from minimoe_course import *
setup(seed=0)

# %% [markdown] tags=["question"]
# ## 4,096 tokens trained, 131,072 tokens read?
#
# DeepSeek-V3 was trained on 14.8 trillion tokens in rows of 4,096. Then came 2,000 more steps, less than one hundredth of the tokens, and it read rows of 131,072: 32 times as long. Nothing in the weights says how long a row may be. So why does a model fail beyond the length it was trained on, and what do so few steps repair?
#
# Our model for this is small enough to see through. It was trained on rows of up to 64 tokens like the one below. A capital letter with a digit behind it is a **record**; `?B` asks for the digit of `B`; small letters are hay.

# %%
from minimoe.inference.retrieval import Needles, retrieval
from minimoe.tokenizer import Tokenizer

folder = data_path("context")
base = minimoe.load(folder / "base", dtype=torch.float32).requires_grad_(False)
tokenizer = Tokenizer.load(folder / "base")
needles = Needles.from_tokenizer(tokenizer)
ids_MT, answers_M = needles.haystacks(rows=1, length=64, depth=0.25)
answer = base(ids_MT).logits_BTV[0, -1].argmax().item()
print(tokenizer.decode(ids_MT[0].tolist()), "->", tokenizer.decode([answer]))

# %% [markdown]
# Four records, one question, and the model's answer. It has two layers, 64 numbers a token, and V3's attention; it has no experts, because they never see a position.

# %% [markdown] tags=["by-hand"]
# ## Two pairs by hand
#
# RoPE turns each pair of numbers of a query or key by its own angle a token. Take two pairs, one that turns 2 radians a token and one that turns 0.05, and a training length of 16 tokens. Which angles has each met? And how far from all of them are the angles that come up to token 64? A full circle is 6.28.

# %% tags=["by-hand", "nbval-check-output"]
circle = 2 * math.pi
for speed in (2.0, 0.05):
    met = [m * speed % circle for m in range(16)]
    new = [m * speed % circle for m in range(16, 64)]
    away = [min(min(abs(a - b), circle - abs(a - b)) for b in met) for a in new]
    print(f"{speed} a token, met: {' '.join(f'{x:.1f}' for x in sorted(met))}")
    print(f"   a new angle is up to {max(away):.1f} away from all of these")

# %% [markdown]
# The fast pair has been round the circle nearly five times; whatever comes later lies close to something it knows. The slow pair has seen an eighth of its circle. Beyond 16 tokens it meets angles that no weight was ever fitted to.

# %% [markdown] tags=["beat"]
# ## Wavelengths
#
# Pair $i$ of $R/2$ turns by $\theta^{-2i/R}$ radians a token, with $\theta = 10{,}000$ and $R = 64$ in V3. So a full turn takes
#
# $$\lambda_i = 2\pi\, \theta^{2i/R} \quad \text{tokens.}$$
#
# That is the **wavelength** of the pair. The first takes 6.28 tokens. How many does V3's last pair, $i = 31$, take?

# %%
guess(
    "06.slowest", "How many tokens does one turn of V3's slowest pair take?", 2 * math.pi * 1e4 ** (62 / 64),
    unit="tokens", tolerance=0.25,
)

# %% [markdown]
# ### Exercise: who finishes a turn?
# ●●○○○ · 5 min · the pairs that do not are the ones that fail in a longer row.
#
# How many of the `width / 2` pairs complete at least one turn within `length` tokens: $\lambda_i \le \text{length}$?
# By hand: `width` 4, `theta` 100, `length` 30: the wavelengths are 6.28 and 62.8, so 1.

# %% tags=["exercise"]
def finished_turns(width, theta, length):
    ...  # your code

finished_turns = check("06.finished_turns", finished_turns)

# %%
hints("06.finished_turns")

# %% tags=["nbval-check-output"]
for name, width, theta, length in (("DeepSeek-V3", 64, 1e4, 4096), ("our model", 16, 100.0, 64)):
    finished = finished_turns(width, theta, length)
    print(f"{name}: {finished} of {width // 2} pairs finish a turn in {length} tokens")

# %% [markdown]
# 9 of V3's pairs never finish a turn in training, and 3 of ours. We chose our $\theta = 100$ so that, as in V3, most pairs finish and some do not.
#
# ### Exercise: which two numbers are a pair?
# ●●○○○ · 6 min · two layouts are in use, and weights read with the wrong one raise no error.
#
# DeepSeek pairs neighbours: numbers 0 and 1, 2 and 3, and so on ("interleaved"). Turn the pairs $(a, b)$ of each row of `x_TR` by the row's angles in `angles_TP`, one angle a pair: $(a \cos - b \sin,\; a \sin + b \cos)$.
# By hand: `[1, 0, 0, 0]` with angles $\pi/2$ and 0.1 gives `[0, 1, 0, 0]`.

# %% tags=["exercise"]
def turn_pairs(x_TR, angles_TP):
    ...  # your code

turn_pairs = check("06.turn_pairs", turn_pairs)

# %%
hints("06.turn_pairs")

# %% [markdown]
# Break it: the next cell takes the course's language model (chapter 00), and lets it pair number $i$ with $i + R/2$ instead, as LLaMA's weights want it. For scale, it also takes all rotations away. How much loss does each cost, in nats a token?

# %%
from unittest.mock import patch
from minimoe.training import evaluate, load_corpus
from minimoe.training.data import encode_documents, pack
from minimoe_course.ch06 import half_split_rope, no_rope

nano = minimoe.load(data_path("nano"), dtype=torch.float32)
held_out = load_corpus(data_path("wordnet")).validation
text_MT = pack(encode_documents(Tokenizer.load(data_path("nano")), held_out), 128)[:16]
print(f"as trained         {evaluate(nano, text_MT):.2f} nats a token")
for name, mistake in (("the other layout", half_split_rope), ("no rotation at all", no_rope)):
    with patch("minimoe.model.mla.apply_rope", mistake):
        print(f"{name:18} {evaluate(nano, text_MT):.2f}")

# %% [markdown]
# The wrong layout costs 0.56 nats, nearly as much as no positions at all (0.68). No error was raised, since both layouts have the same shapes. This mix-up has been reported of a serving engine (vLLM, issue 26995).

# %% [markdown] tags=["beat"]
# ## Beyond the trained length
#
# Back to our small model, unchanged, in rows longer than 64 tokens. To answer, it looks twice. In the first layer the digit looks at the letter before it and takes its name along; in the second the question looks for the digit that carries the name. The first look needs the position ("one back"), the second the content. Which of them do you expect to fail first? The curves show how much of its attention goes where it should.

# %%
from minimoe_course.ch06 import hops, map_figure

lengths = [32, 64, 128, 256, 512]
first, second = zip(*[hops(base, needles, length) for length in lengths])
show(
    lines(
        {"digit at its letter": (lengths, first), "question at the digit": (lengths, second)},
        "Beyond 64 tokens the second look misses", "tokens in the row", "attention weight", log="x",
    ),
    alt="Two falling curves over the length of the row. The first look falls gently; "
    "the second drops steeply beyond 64 tokens and is near zero at 512.",
)

# %% [markdown]
# The first look grows dim, although letter and digit still stand side by side. The second collapses, and is hit twice: the digits carry only part of a name, and the question has the whole row to search. Two things are new in a longer row:
#
# - **Angles.** The distances to far tokens are angles that the slow pairs never met, and some of them may score high by accident.
# - **The crowd.** In a row of 512, eight times as many tokens share each softmax. A token with a low score still takes a little weight, and there are many.
#
# The next two beats take one each. Then we measure which of the two did the damage.
#
# The usual picture for this is the **retrieval map** or needle test: the share of right answers by length of the row and by **depth**, the place of the asked record from 0 (beginning) to 1 (end). Every cell is 24 questions, in rows made for this test.

# %%
depths = [0.0, 0.25, 0.5, 0.75, 1.0]
before = retrieval(base, needles, lengths, depths, trials=24)
show(map_figure(before, "Trained on 64 tokens: beyond, it finds less and less"))

# %% [markdown] tags=["beat"]
# ## Slow down, but not everything
#
# To read $s$ times as far, one could divide every position by $s$: the longest row then ends at the angle where training ended. That is **position interpolation**. Its price is at the other end: neighbours, one token apart, now differ by $1/s$ of the angle they had, and the first look needs exactly that.
#
# **YaRN** treats the pairs by how often they turn in training. A pair that turns more than $\beta_{fast} = 32$ times is left alone. One that turns less than $\beta_{slow} = 1$ times is slowed down by $s$. Between, the pair's own frequency $f_i = \theta^{-2i/R}$ and the slowed one are mixed along a **ramp** $r_i$. The pair that turns $\beta$ times within $L$ tokens has the index
#
# $$i(\beta) = R\, \frac{\ln (L / 2\pi\beta)}{2 \ln \theta}, \qquad r_i = \mathrm{clamp}\Big(\frac{i - \lfloor i(\beta_{fast}) \rfloor}{\lceil i(\beta_{slow}) \rceil - \lfloor i(\beta_{fast}) \rfloor},\, 0,\, 1\Big), \qquad f'_i = (1 - r_i)\, f_i + r_i\, f_i / s .$$

# %% tags=["nbval-check-output"]
def place(beta, R, theta, L):
    return R * math.log(L / (2 * math.pi * beta)) / (2 * math.log(theta))

models = {"V3": (64, 1e4, 4096, 32), "Kimi-K2": (64, 5e4, 4096, 1)}
models |= {"ours, V3's betas": (16, 100.0, 64, 32), "ours": (16, 100.0, 64, 1)}
for name, (R, theta, L, beta_fast) in models.items():
    begin, end = place(beta_fast, R, theta, L), place(1, R, theta, L)
    low, high = max(math.floor(begin), 0), math.ceil(end)
    print(f"{name:16}  betas {beta_fast:2} and 1, {R // 2:2} pairs: ", end="")
    print(f"begins at {begin:6.3f} -> {low:2}, ends at {end:6.3f} -> {high:2}")

# %% [markdown]
# V3 keeps pairs 0 to 10, slows 23 to 31 down by $s = 40$ (its config permits 163,840 tokens, 40 times 4,096), and mixes the twelve between. The betas count *turns*, so they must suit the length. In our 64 tokens no pair turns 32 times, and V3's betas would slow down every pair but the first. Kimi-K2 has both betas at 1: whatever finishes a turn is kept. We do the same, and measure below what V3's would have done.
#
# ### Exercise: YaRN's frequencies
# ●●●○○ · 10 min · five numbers of a config, and every position of the model depends on them.
#
# Return the `width / 2` frequencies $f'_i$ as a tensor (float32); `factor` is $s$, `length` $L$. The lower end of the ramp is at least 0.
# By hand, `width` 8, `theta` 100, `factor` 4, `length` 64, $\beta$ 4 and 1: $i(4) = 0.81$ and $i(1) = 2.02$, so the ramp is 0, 1/3, 2/3, 1, and the frequencies are 1, 0.237, 0.05, 0.0079.

# %% tags=["exercise"]
def yarn_frequencies(width, theta, factor, length, beta_fast, beta_slow):
    ...  # your code

yarn_frequencies = check("06.yarn_frequencies", yarn_frequencies)

# %%
hints("06.yarn_frequencies")

# %% [markdown]
# Stretch the model by 8 with YaRN. No weight changes and nothing is trained: `extend` copies the weights under another config. What do you expect the map to look like now?

# %%
from minimoe.training.context import extend, practice

stretched = extend(base, 8, beta_fast=1)
untrained = retrieval(stretched, needles, lengths, depths, trials=24)
show(map_figure(untrained, "The same weights under YaRN, not trained further"))

# %% [markdown] tags=["beat"]
# ## A flatter softmax, sharpened
#
# More tokens in a row means more places to lose attention to: the softmax spreads. YaRN multiplies queries and keys by a factor that grows slowly with $s$, and V3 writes it into the scale of the scores, where it stands squared:
#
# $$m = 0.1 \cdot \text{mscale} \cdot \ln s + 1, \qquad \text{scale} = \frac{m^2}{\sqrt{N + R}} .$$

# %% tags=["nbval-check-output"]
m = 0.1 * 1.0 * math.log(40) + 1
print(f"V3, s = 40: m = {m:.5f}, squared {m * m:.5f}")
print(f"ours, s = 8: m = {0.1 * math.log(8) + 1:.5f}, squared {(0.1 * math.log(8) + 1) ** 2:.5f}")

# %% [markdown]
# ### Exercise: the scale under YaRN
# ●●○○○ · 5 min · forgetting the square, or all of it, is a common mistake in re-implementations; nothing fails, and long rows suffer.
#
# Return what the scores $q \cdot k$ are multiplied by. `head_width` is $N + R$.
# By hand: width 16, $\ln s = 10$, mscale 1: $m = 2$, so $4 / 4 = 1$.

# %% tags=["exercise"]
def attention_scale(head_width, factor, mscale):
    ...  # your code

attention_scale = check("06.attention_scale", attention_scale)
scaled = attention_scale(192, 40, 1.0)
print(f"V3's scores are multiplied by {scaled:.4f} instead of {192**-0.5:.4f}")

# %%
hints("06.attention_scale")

# %% [markdown]
# So YaRN is two things: slower pairs and a sharper softmax. Which one helps? The study behind this chapter (`python data/context/train.py`) took models of five seeds, stretched each six ways, and asked 180 questions a length (nine depths, 20 each) *before* any further training. **Extrapolation** changes nothing; `yarn` has V3's betas, 32 and 1. Place your bet: slower pairs, or the sharper softmax?

# %%
from minimoe_course.ch06 import recorded, seed_map, share_of_seeds, spread

ways = ["extrapolation", "interpolation", "slower pairs alone", "sharper softmax alone"]
ways += ["yarn", "yarn, betas 1"]

def table(when):
    head = "".join(f"{n:>6}" for n in lengths)
    print(f"{f'{len(recorded())} seeds':23}{head}   at 512: worst, best seed")
    for way in ways:
        found = spread(way, when)
        means = "".join(f"{sum(shares) / len(shares):6.0%}" for shares in found.values())
        print(f"{way:23}{means}{min(found[512]):15.0%} {max(found[512]):5.0%}")

table("before")

# %% [markdown]
# At 512 tokens, extrapolation finds no more than guessing a digit would, 10%. Interpolation answers worse even in rows of the trained length: neighbours have become hard to tell apart. Slower pairs alone help a little at 128 and 256, and not at 512. The sharper softmax alone, one number, brings most of what YaRN brings; the two together bring most of all. The model on this page is seed 0, the worst of the five under YaRN: its map above, from 120 other questions a length, has 58% at 512; the mean of the seeds is 84%.
#
# So was it the crowd? What repairs a thing need not be what broke it. Test the angles without a crowd: rows of 64 tokens, but the question stands 448 positions farther on, so that its distance to every record is new.

# %%
from minimoe.model.rope import rope_turns

def asked_from_afar(config, positions, dtype):
    return rope_turns(config, positions + 448 * (positions >= 62), dtype)

with patch("minimoe.model.transformer.rope_turns", asked_from_afar):
    afar = retrieval(base, needles, [64], depths, trials=24).by_length()[64]
print(f"new angles, no crowd: {afar:.0%} right; in rows of 512, with both: {before.by_length()[512]:.0%}")

# %% [markdown]
# **In this model the crowd did most of the damage, and the angles little.** How can angles matter so little? Two thirds of each query and key carry no position ($N = 32$ of $N + R = 48$; in V3 128 of 192). Take all rotations away and ask again, in rows of 64 tokens:

# %%
with patch("minimoe.model.mla.apply_rope", no_rope):
    without = retrieval(base, needles, [64], depths, trials=24).by_length()[64]
rotated = before.by_length()[64]
print(f"no rotation: {without:.0%} right, with rotations {rotated:.0%}, by chance {needles.chance:.0%}")

# %% [markdown]
# Without any rotation it still finds more than half; picking one of the row's four records blindly would be right in about a third of the rows. YaRN was developed on LLaMA, where the whole head rotates; there the angles have more to spoil. We have not measured one here.

# %% [markdown]
# ## A second phase
#
# What YaRN does not repair, a little training does. DeepSeek-V3 took two phases of 1,000 steps: rows of 32K in batches of 1,920, then rows of 128K in batches of 480. How many tokens is one phase, and what share of the 14.8T before it?

# %%
guess(
    "06.phase", "How many billion tokens is one of V3's two phases?", 1000 * 1920 * 32768 / 1e9,
    unit="billion", tolerance=0.1,
)

# %% tags=["nbval-check-output"]
for rows, tokens in ((1920, 32768), (480, 131072)):
    phase = 1000 * rows * tokens
    print(f"1,000 steps of {rows:5,} rows of {tokens:7,}: {phase / 1e9:.1f}B, {phase / 14.8e12:.2%} of 14.8T")

# %% [markdown]
# Ours takes 80 steps on rows of 256 tokens and 80 on rows of 512, at half the first phase's rate, with the same `train` as always. It runs now.

# %%
from itertools import chain, islice
from minimoe.training import Settings, train

asked = {"records": 5, "questions": 8}
rows = chain(islice(practice(needles, 4, 256, **asked), 80), practice(needles, 2, 512, **asked))
settings = Settings(steps=160, lr=1e-3, warmup=0.2)
history = train(stretched.requires_grad_(True), rows, settings, label=None)
after = retrieval(stretched, needles, lengths, depths, trials=24)
show(map_figure(after, "YaRN and 160 steps: found at nearly every depth up to 512"))

# %%
print(f"{'tokens':24}" + "".join(f"{n:>8}" for n in lengths))
told = {"trained on 64": before, "YaRN x8, no training": untrained, "YaRN x8, 160 steps": after}
for name, found in told.items():
    print(f"{name:24}" + "".join(f"{share:8.0%}" for share in found.by_length().values()))

# %% [markdown] tags=["play"]
# ## Play
#
# How far can you stretch without training, and does more sharpening help more? The explorer holds wavelengths against the trained length, shows the ramp, and measures our model under whatever the sliders say.
#
# **Try first:** move *Factor* to 1 and look at the three pairs above the trained length. Set it back to 8, open *What is still found*, press *Measure*, and again with *mscale* at 0 and at 2: same angles, a flatter and a sharper softmax.

# %% tags=["play"]
from minimoe_widgets import ContextExplorer

record = recorded()["0"]
maps = {
    "before extension (recorded)": seed_map(record, "base", ""),
    "YaRN, no training (recorded)": seed_map(record, "yarn, betas 1", "before"),
    "YaRN, second phase (recorded)": seed_map(record, "yarn, betas 1", "after"),
}
explorer = ContextExplorer(base, tokenizer, recorded=maps)
explorer.fast.value = 1
show(explorer, alt=explorer.alt_text())

# %% [markdown]
# The recorded maps in full, nine depths and 20 questions a cell: before, and after the second phase.

# %%
show(explorer.static("retrieval"))

# %%
explorer.shown.value = "YaRN, second phase (recorded)"
show(explorer.static("retrieval"))

# %% [markdown]
# ## Tiny and real

# %% tags=["tiny-vs-real", "nbval-check-output"]
from minimoe.inference.wavelengths import rotary_pairs

def facts(config, read, phases, first_phase):
    pairs = rotary_pairs(config)
    share = sum(steps * rows * tokens for steps, rows, tokens in phases) / first_phase
    steps = " + ".join(f"{steps} x {rows} x {tokens}" for steps, rows, tokens in phases)
    kept, slowed = sum(r == 0 for r in pairs.ramp), sum(r == 1 for r in pairs.ramp)
    finished = f"{pairs.finished} of {len(pairs.ramp)}"
    return pairs.trained_tokens, read, finished, f"{kept} and {slowed}", steps, f"{share:.1%}"

ours = facts(stretched.config, 512, [(80, 4, 256), (80, 2, 512)], 1300 * 512)
v3 = facts(minimoe.V3, 131072, [(1000, 1920, 32768), (1000, 480, 131072)], 14.8e12)
what = (
    "tokens a row in training; tokens a row after; pairs that finish a turn; "
    "pairs kept, pairs slowed down whole; second phases: steps x rows x tokens; of the tokens before"
).split("; ")
paper = "arXiv 2412.19437 section 4.3"
sources = [paper, paper, "computed", "computed; config", paper, "computed"]
compare_table(zip(what, ours, v3, sources), ours="ours")

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# Is it YaRN that does the work, or the second phase? The study trained all six ways for the same 160 steps on the same rows and asked along the way, always in rows of 512: 40 questions a seed at five depths, fewer than in the tables, so a point may differ from them by some per cent.

# %% tags=["when-it-pays"]
show(
    lines(
        {way: share_of_seeds(way) for way in ways if "alone" not in way},
        "YaRN starts high, and every way arrives",
        "steps of the second phase", "right at 512 tokens, median of seeds",
        grey=["extrapolation"],
    ),
    alt="Four curves over the steps of the second phase. The two of YaRN start high, dip near step 60 and end high; "
    "extrapolation starts at zero and passes them by step 60; interpolation rises last.",
)

# %%
table("after")

# %% [markdown]
# Three things to read off.
#
# - **The right end.** Every way arrives, extrapolation included, which answers at 512 after 80 steps on rows of 256 alone: this small model gets used to a longer row quickly. Interpolation still errs in short rows. V3's betas end lower than betas of 1; we think because they slow down the pairs that tell neighbours apart.
# - **The left end.** This is what YaRN buys: most of it is found before the first step. Where a step is 63 million tokens, that is worth having; where it is a thousand, it is not.
# - **The dip.** Between steps 20 and 60, in rows of 256, what YaRN finds at 512 falls, by a tenth or more in two of the five seeds with betas of 1 and in three with V3's. The median rises again from step 60, before the first row of 512 comes at step 81. Training at one length can cost another, for a while; why it turns so early we have not found out.
#
# And three caveats. The hay is random letters, and nothing in it resembles a record; real text has more to confuse. One question takes one look-up: a model can pass this test and still fail to reason over what it read. And six ways, five seeds and one size are an observation, not a law.
#
# One more fork between codes: DeepSeek's own inference code switches YaRN on only if it is asked for more than 4,096 tokens; `transformers` applies it at every length, and so does `minimoe`. The two give different numbers for a short prompt, since YaRN changes the scale and all but the fastest pairs everywhere. The weights were trained with YaRN on in both phases.

# %% tags=["nbval-check-output"]
receipt([
    ("V3's ramp: first and last pair", "10 and 23", "asserted by tests/minimoe/inference/test_wavelengths.py"),
    ("V3's m squared", round((0.1 * math.log(40) + 1) ** 2, 5), "computed"),
    ("tokens of each of V3's two phases", "62.9B", "computed from arXiv 2412.19437 section 4.3"),
    ("retrieval, all seeds and lengths", "data/context/retrieval.json", "source: python data/context/train.py"),
    ("a part of it measured again", "stored models", "asserted by tests/data/test_context.py"),
    ("what is said of seeds, dip and far questions", "see the text", "asserted by tests/course/test_chapter_06.py"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# 1. Why does YaRN leave the fast pairs alone? Their angles beyond the trained length are new too.
#
# <details><summary>Answer</summary>
#
# Not on the circle. A pair that turned many times has met angles close to every one; a new position is an old angle, or nearly. And these pairs are what tells one token back from two.
#
# </details>
#
# 2. MLA has a part without position. Should YaRN slow it down as well?
#
# <details><summary>Answer</summary>
#
# There is nothing to slow down: $q_C$ and $k_C$ are not rotated. Only the $R$ rotary numbers are. The scale, though, multiplies the whole score, so mscale sharpens both parts.
#
# </details>
#
# 3. A model was extended from 4K to 32K. Can it be extended again by 4, on top?
#
# <details><summary>Answer</summary>
#
# Not by stacking: the ramp is defined by the length of the first training, 4K. V3 uses the factor 40 from the start, for both phases. `extend` refuses a model that is extended already and says which factor was meant.
#
# </details>
#
# 4. Does the cache per token grow with the context?
#
# <details><summary>Answer</summary>
#
# No, but there are more tokens. 131,072 of them are 9.2 GB in V3 (chapter 02).
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - A longer row brings angles that slow pairs never met, and more tokens that share each softmax.
# - YaRN slows those pairs down, keeps the fast ones, and sharpens the softmax by a squared factor.
# - It helps before any training, here mostly by the softmax; a second phase of few steps does the rest.
#
# ## Sources
# RoPE: Su et al., arXiv 2104.09864. Position interpolation: Chen et al., arXiv 2306.15595. YaRN: Peng et al., arXiv 2309.00071. DeepSeek-V3, arXiv 2412.19437, section 4.3 and figure 8; its inference code (`precompute_freqs_cis`). Interleaved and half-split layouts mixed up: vllm-project/vllm issue 26995. Intervals: E. B. Wilson, JASA 22, 1927.
#
# ## Next
# All parts are built: attention, experts, balance, a second prediction, a long context. Chapter 07 trains them together on text.
