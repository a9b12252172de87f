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
# # 07 Pretraining a small V3
#
# By the end you have trained a model with all of V3's parts on your own processor, stopped it, resumed it, and held its curve against five others; and you can say what separates two minutes on one core from V3's two months.
#
# 45 minutes. Prerequisites: chapter 00; chapters 03 to 05 help (experts, their balance, the second predicted token).
#
# You will be able to
# - turn a text into training rows without wasting a position, and a tenth of it into exercises in filling gaps
# - read V3's published recipe (rate, batch, weights of the losses) as one picture, and write its learning rate down
# - judge a comparison of two optimizers, and price a training run

# %% tags=["setup"]
import torch
import minimoe
from minimoe import accounting
from minimoe_course import *
setup(seed=0)

# %% [markdown] tags=["question"]
# ## Two months, or two minutes?
#
# DeepSeek-V3 read 14.8 trillion tokens, on 2,048 GPUs, for about two months, at a rent of 5.3 million dollars. The model `data/nano`, which the earlier chapters looked into, read 552,960 tokens, on one processor core, in about two minutes.
#
# Between the two lie a factor of 27 million in tokens and one of 73,000 in the arithmetic of a token. What is still the same? Most of the recipe: packed rows, rearranged documents and the clocks below are the paper's. `data/nano` was made by the same code with other settings: Muon for an optimizer, no plateau, a fixed batch and $\lambda$, a faster $\gamma$, no filling of gaps.

# %% [markdown] tags=["by-hand"]
# ## Three documents by hand
#
# A training step wants rows of equal length. Documents have all lengths. Here are three, of 3, 1 and 4 tokens, and rows of 3. What goes into the rows? And how many times is each token *predicted*, if every token of a row but its first is predicted from those before it?

# %% tags=["by-hand", "nbval-check-output"]
documents = [[1, 2, 3], [4], [5, 6, 7, 8]]
stream = [token for document in documents for token in document]
rows = [stream[start : start + 3] for start in (0, 2, 4)]
print("stream:", stream)
print("rows:  ", rows)
print("asked: ", [f"{row[:i]} -> {row[i]}" for row in rows for i in (1, 2)])

# %% [markdown]
# All documents end to end, cut into rows that share one token. Tokens 2 to 7 are predicted once each, none twice; token 1 has nothing before it. Token 8 did not fill a row and is left out this time. Each pass through the text (an **epoch**) lays the documents in another order, so the next one will leave out another. This is called **packing**.

# %% [markdown] tags=["beat"]
# ## Rows without holes
#
# First the real text. The corpus is WordNet's definitions, one entry a line, and its sha256 is checked whenever it is loaded: a loss is only a measurement if the data are known. The **tokenizer** turns text into numbers; ours learned its 2,048 tokens from the same text.

# %%
from minimoe.tokenizer import Tokenizer
from minimoe.training import load_corpus
from minimoe.training.data import encode_documents

corpus = load_corpus(data_path("wordnet"))
tokenizer = Tokenizer.load(data_path("nano"))
documents = encode_documents(tokenizer, corpus.train)
print(corpus.train[4000])
print([tokenizer.decode([token]) for token in documents[4000]])

# %% [markdown]
# Every document begins and ends with a mark of its own. A token is worth about three bytes of text here. What of text that the tokenizer was not made for? The course has a second corpus, novels and speeches (`data/prose`, 3.4 MB), and a third lies on every reader's disk: the source code of Python's standard library. How many bytes is a token worth there?

# %%
from minimoe.training.stdlib_text import read_standard_library

prose = load_corpus(data_path("prose")).train
code = read_standard_library(limit_bytes=100_000).train
texts = {
    "definitions": "\n".join(corpus.train[::40]),
    "novels and speeches": "\n".join(prose[::40]),
    "Python code": "\n".join(code),
}
worth = {name: len(text.encode()) / len(tokenizer.encode(text)) for name, text in texts.items()}
question = f"Definitions: {worth['definitions']:.2f} bytes a token. Python code?"
guess("07.code", question, worth["Python code"], unit="bytes")

# %%
show(
    bars(worth, "A tokenizer is made for a kind of text", "bytes of text in a token", form="{:.2f}"),
    alt="Three bars: a token holds most bytes of definitions, nearly as many of novels and speeches, "
    "little more than half as many of Python code.",
)

# %% [markdown]
# Other English costs hardly more. Code costs about 1.7 times as many tokens, so a row of 128 shows the model little more than half as much of a program. V3's tokenizer has 128,000 tokens, chosen to compress many languages (section 4.1); that is what a large vocabulary buys.
#
# Now the rows. The obvious way is one document a row, filled up with a **padding** token. WordNet's entries have 26 tokens on average, their two marks among them, the longest has 79, and a row has 128.

# %%
lengths = torch.tensor([len(document) for document in documents])
guess(
    "07.padding",
    "One entry a row of 128 tokens: which share of all positions is padding?",
    (1 - lengths.sum() / (128 * len(lengths))).item() * 100,
    unit="%",
)

# %% [markdown]
# Four fifths of the arithmetic for nothing. And that is the harmless half. A padding token is a token: unless somebody remembers to mask it, it counts in the loss, and in the router's **load**, from which V3 steers its balance (chapter 04).
#
# ### Break it
#
# Pad 64 entries to rows of 128, route them through the trained model, and count the load twice: of the words alone, and of everything. (The words are routed as they would be without padding: it stands behind them, and attention looks back only.) MaxVio says how far the busiest expert lies above the mean, as a share of the mean. What will padding do to it?

# %%
from minimoe.model.router import max_violation

model = minimoe.load(data_path("nano"), dtype=torch.float32).requires_grad_(False)
pad = tokenizer.special_id("<｜▁pad▁｜>")
entries = encode_documents(tokenizer, corpus.validation)[:64]
padded_BT = torch.tensor([(entry + [pad] * 128)[:128] for entry in entries])
real_M = (padded_BT != pad).flatten()
for layer, routing in model(padded_BT, mtp=False).routing.items():
    load_E = torch.bincount(routing.chosen_MK[real_M].flatten(), minlength=16)
    words, everything = max_violation(load_E), max_violation(routing.load_E)
    print(f"layer {layer}: MaxVio {words:.2f} for the words, {everything:.2f} with padding")

# %% [markdown]
# Padding tokens are all alike, so they crowd onto a few experts. (This model was trained on packed rows and has never met one.) The balance that is measured is mostly that of the padding, and the bias would now push *words* away from experts that words do not overload. Several public re-implementations count padding in this way; packing has nothing to count.
#
# A packed row may hold four entries and the beginning of a fifth, and attention is not cut at the borders: the last entry can look at the first. V3 does it so too, and says so (section 4.1); its successor V4 cuts.
#
# ### Exercise: pack
# ●●○○○ · 8 min · every token of every run of this course goes through it.
#
# Lay `documents` (lists of token ids) end to end and cut the stream into rows of `row_tokens` = $T$; row $r$ begins at token $r\,(T-1)$. The incomplete last row is left out. Return an int64 tensor of shape `[rows, T]`.
# By hand: the example above.

# %% tags=["exercise"]
def pack(documents, row_tokens):
    ...  # your code

pack = check("07.pack", pack)

# %%
hints("07.pack")

# %% [markdown] tags=["beat"]
# ## Filling gaps with a model that reads forwards
#
# Your editor completes code in the *middle* of a file. The model behind it predicts the next token and has never seen what comes after. How can it use the text behind the cursor? One could build another architecture. V3 changes nothing but the data: of a tenth of the documents, the middle is cut out and moved to the end.

# %%
from minimoe.training.fim import fill_in_the_middle as fim

(moved,) = fim([documents[4000]], tokenizer, rate=1.0, seed=12)
print(tokenizer.decode(documents[4000]))
print(tokenizer.decode(moved))

# %% [markdown]
# `fim▁begin`, the **prefix**, `fim▁hole`, the **suffix**, `fim▁end`, the **middle**: hence **PSM**, the order of V3. To predict this document's next tokens *is* to fill the gap, with both sides in view. At use, one gives the model everything up to `fim▁end` and lets it write until it says that the document is over.
#
# The cuts fall between characters and not between tokens, because a cursor may stand inside a word. What does the habit cost?

# %%
rearranged = fim(documents, tokenizer, rate=0.1, seed=0)
growth = sum(map(len, rearranged)) / sum(map(len, documents)) - 1
question = "By how much does the corpus grow when a tenth of it is rearranged?"
guess("07.fim_cost", question, growth * 100, unit="%")

# %% [markdown]
# About five tokens more for each rearranged document: three marks, and two for words that are cut in two. A longer document would pay the same five. Does the model pay with its ordinary, left-to-right skill? The study that proposed the method says no, over a wide range of sizes and even with a large share of the documents rearranged (arXiv 2207.14255). We have not repeated that here, and `data/nano` was trained without.
#
# ### Exercise: rearrange a document
# ●●○○○ · 6 min · one token in the wrong place, and the model never learns when to stop.
#
# `document` is a list of ids that begins and ends with its own marks. Cut it before the places `i` and `j` into prefix, middle and suffix, and return the PSM form; `marks` are the ids of begin, hole and end.
#
# $$\text{bos, begin, pre, hole, suf, end, mid, eos}$$
#
# By hand: `[0, 10, 11, 12, 13, 14, 1]` with `i=3`, `j=4` and marks `7, 8, 9` gives `[0, 7, 10, 11, 8, 13, 14, 9, 12, 1]`.

# %% tags=["exercise"]
def fill_in_the_middle(document, i, j, marks):
    ...  # your code

fill_in_the_middle = check("07.fill_in_the_middle", fill_in_the_middle)

# %%
hints("07.fill_in_the_middle")

# %% [markdown] tags=["beat"]
# ## The recipe is a set of clocks
#
# Four things change while V3 trains, and each has its own clock, which counts tokens. The **learning rate** says how far a step goes. The **batch** says how many sequences share one step. $\lambda$ weighs the second predicted token (chapter 05). $\gamma$ moves the experts' biases (chapter 04). `Settings.v3` holds the published numbers as shares of the run.

# %%
question = "After how many of its 14.8 trillion tokens did V3's rate begin to fall?"
guess("07.decay", question, 10, unit="trillion")

# %% tags=["nbval-check-output"]
import math
from minimoe.training import Settings

v3 = Settings.v3(steps=540, sequences=15360, warmup=0.028 / 14.8)
print("10^12 tokens  rate/peak  sequences  lambda  bias moves")
for tokens in (0.01, 0.1, 0.3, 1, 10, 12.15, 14.2, 14.4, 14.7):
    share = tokens / 14.8
    size, weight, gamma = v3.sequences(share, 15360), v3.mtp_weight_at(share, 0.3), v3.gamma_at(share)
    print(f"{tokens:>12}{v3.rate(share):>11.3f}{size:>11,}{weight:>8}  {'yes' if gamma > 0 else 'no'}")

# %% [markdown]
# The warm-up, 2,000 steps in the paper, is over after about 28 billion tokens if the batch grows evenly: while the optimizer's averages are still guesses, steps are kept small. Then the rate is level for two thirds of the run. A **plateau** keeps a run open: it can be continued, or branched, without undoing a decay. A half cosine brings it down to a tenth, and two short tails follow, the last at a thirtieth.
#
# The early batch is small, 3,072 sequences, and grows until 469 billion tokens have been read. The paper gives no reason. The usual one: while everything is still wrong in the same direction, a few sequences already show it.
#
# At 10 trillion, when the rate begins to fall, $\lambda$ drops from 0.3 to 0.1. For the last 500 billion tokens the biases stand still.
#
# `data/nano` has another shape: up for 3% of the run, and down from there.

# %%
ours = Settings(steps=540)
shares = [i / 500 for i in range(500)]
clocks = {"V3": v3, "data/nano": ours}
show(
    lines(
        {name: (shares, [clock.rate(s) for s in shares]) for name, clock in clocks.items()},
        "V3's rate is level for two thirds of its run", "share of the run", "learning rate / peak",
    ),
    alt="V3's rate rises at once, is level to 0.68 of the run, falls along a cosine to a tenth and "
    "ends in two small steps. The rate of data/nano falls along one cosine from the beginning.",
)

# %% [markdown]
# ### Exercise: V3's learning rate
# ●●●○○ · 8 min · a published recipe is a sentence; this is what it says.
#
# "The rate rises linearly from 0 to $2.2 \cdot 10^{-4}$ in the warm-up, is constant until 10T tokens, falls to $2.2 \cdot 10^{-5}$ over 4.3T along a cosine, is constant for 333B and is $7.3 \cdot 10^{-6}$ for the last 167B." Return the rate after `tokens` trillions; `warmup`, also in trillions, is where the warm-up ends (0.028 for V3). `math` is imported. Between 10 and 14.3, with $p$ the share of that stretch that has passed,
#
# $$\text{rate} = \text{low} + (\text{peak} - \text{low})\,\frac{1 + \cos \pi p}{2}$$
#
# By hand: at 12.15, half of the stretch: $(2.2 \cdot 10^{-4} + 2.2 \cdot 10^{-5}) / 2 = 1.21 \cdot 10^{-4}$.

# %% tags=["exercise"]
def learning_rate(tokens, warmup):
    ...  # your code

learning_rate = check("07.learning_rate", learning_rate)

# %%
hints("07.learning_rate")

# %% [markdown] tags=["beat"]
# ## Which way is down?
#
# A gradient says how the loss changes with each number of a weight matrix. V3 steps with **AdamW**, which divides each number's step by the size of that number's own past gradients. It treats a matrix as a bag of numbers. But the gradient of a weight matrix is a matrix too, and its **singular values** are its strength along each of its directions. Here they are for one matrix, from an expert of the small model.

# %%
from minimoe.training.data import Batches
from minimoe.training.optimizer import orthogonalise

batches = Batches(documents, sequences=8, row_tokens=128, seed=0)
batch_BT = batches.take()
model.requires_grad_(True)
model(batch_BT, labels=batch_BT).loss.backward()
gradient_FD = model.model.layers[1].mlp.experts[0].up_proj.weight.grad
model.requires_grad_(False)
level_FD = orthogonalise(gradient_FD[None])[0]
found = {"the gradient": gradient_FD, "orthogonalised": level_FD}
strengths = {name: torch.linalg.svdvals(m_FD) for name, m_FD in found.items()}
show(
    lines(
        {name: (range(1, len(s) + 1), s / s[0]) for name, s in strengths.items()},
        "A few directions own the gradient; Muon gives all a say",
        "direction, strongest first", "strength / the strongest", log="y",
    ),
    alt="On a logarithmic axis the gradient's strengths fall to a hundredth over 48 directions; "
    "the orthogonalised ones stay above one half.",
)

# %% [markdown]
# **Muon** takes the averaged gradient of a matrix and replaces it by the matrix with the same directions and all strengths between about 0.7 and 1.2, near enough to 1. The idea: what is rare in the data makes weak directions, and they should learn as fast as what is common. No singular value is ever computed. The matrix is divided by its length (the root of the sum of all its squares), so that no strength is above 1, and then five rounds of
#
# $$X \leftarrow a X + (b\, X X^\top + c\,(X X^\top)^2)\, X$$
#
# do it, since each round maps every strength $s$ to $a s + b s^3 + c s^5$ and leaves the directions alone. (The constants are in `minimoe.training.optimizer`.) Moonlight and Kimi-K2, of V3's family, were trained with it.

# %%
a, b, c = 3.4445, -4.7750, 2.0315
s = torch.tensor([1.0, 0.1, 0.01])
for i in range(5):
    s = a * s + b * s**3 + c * s**5
    print(f"round {i + 1}:", s.numpy().round(2))

# %% [markdown]
# Three strengths a hundredfold apart end side by side. What Muon does not take stays with AdamW: the gains of the norms, which are no matrices, and embedding and head (the two **tables**). Each row of a table belongs to one token, so it is a list of vectors more than a map.
#
# ### A fair comparison
#
# Anyone can show that Muon beats AdamW: tune one, leave the other at its default. So both were searched in the same way (`python data/curves/tuning.py`): learning rates by factors of two, for several rates of the two tables relative to the rest, then warm-up and decay. Each bar is the best learning rate of its row: of four tried in the first two AdamW rows, AdamW × 10 and Muon × 3, of two or three in the others. Before you look: what do you expect to matter most?

# %%
import json

runs = map(json.loads, (data_path("curves") / "tuning.jsonl").read_text().splitlines())
names, best = {"adamw": "AdamW", "muon": "Muon"}, {}
for run in sorted(runs, key=lambda run: run["validation"]):
    if run["steps"] == 100 and (run["warmup"], run["weight_decay"]) == (0.03, 0.1):
        name = f"{names[run['optimizer']]}, tables × {run['table_rate']:g}"
        best.setdefault(name, run["validation"])
show(
    bars(
        dict(sorted(best.items(), key=lambda pair: -pair[1])),
        "The rate of two tables weighs more than the optimizer", "loss after 100 steps (nats)", form="{:.2f}",
    ),
    alt="A bar for each optimizer and table rate. AdamW with one rate for all parameters is far worse than "
    "the rest; with ten times the rate for embedding and head it is close to Muon.",
)

# %% [markdown]
# One run each, so differences of a few hundredths mean nothing. Half a nat does, and that is what the tables' rate is worth to AdamW: with one rate for all, as in V3's recipe, it is far behind; with ten times the rate for the tables, most of Muon's lead is gone. Muon needs it less: its own tables move it by a tenth.
#
# A likely reason, which we have not tested: the 1,024 tokens of our batch are about 400 different ones, so most of the 2,048 rows of the embedding get no gradient in a step, and must go further when their turn comes. A batch of V3 has 63 million tokens and can meet nearly every row.
#
# Now a longer race, 200 steps and five seeds. A longer run may want another rate, so half and double the best one were tried again, and one factor further where the best stood at the edge: 0.01 won for Muon, 0.004 for AdamW, with a longer warm-up that had been a hundredth better. And what is a step worth? Muon's five rounds of products take time. The two are timed in turn, so that other work on the machine slows both alike.

# %%
from minimoe.training.loop import Trainer
from minimoe_course.measure import cpu_us

racers = {
    name: Trainer(minimoe.Transformer(minimoe.NANO), Batches(documents, 8, 128), how).step
    for name, how in {"Muon": Settings(steps=99), "AdamW": Settings(steps=99, optimizer="adamw", lr=4e-3)}.items()
}
step_s = {name: median / 1e6 for name, (_, median, _) in cpu_us(racers, rounds=7).items()}
ratio = step_s["Muon"] / step_s["AdamW"]
print(f"a step of Muon takes {ratio:.2f} times the processor time of one of AdamW")

# %% [markdown]
# The ratio moves with what else the machine is doing. When the race was set up, repeats gave 1.14 to 1.22. So AdamW ran twice: 200 steps, as Muon, and 228 steps, which by the smallest of these ratios, the least favourable to AdamW, fit into Muon's time. (The seconds inside the stored runs were taken on a busy machine and are not used.) The numbers are losses on held-out text; the figure below them shows the loss in training.

# %%
from minimoe_course import curves

for name in ("adamw", "adamw_long"):
    steps = curves.runs(name)[0]["steps"]
    print(f"AdamW, {steps} steps, minus Muon, 200: {curves.paired(name, 'reference')}")

# %%
def over_time(name, variant):
    found = [run["curves"] for run in curves.runs(variant)]
    return [([step * step_s[name] for step in curve["step"]], curve["next_token"]) for curve in found]


series = {"Muon": over_time("Muon", "reference"), "AdamW": over_time("AdamW", "adamw_long")}
show(
    curves.band_figure(
        series, "In equal time AdamW is a little ahead here", "processor time (s)", "next-token loss (nats)",
        bounds=(3.5, 5.0),
    ),
    alt="Two bands of five runs each, loss over processor time. They lie close together, AdamW's a little below.",
)

# %% [markdown]
# (AdamW's curve ends earlier if a step of Muon cost more than 1.14 steps of AdamW in the cell above.) Step for step the two are level as far as five seeds can tell: the interval barely holds zero. Second for second AdamW is ahead, in all five seeds, by about a twentieth of a nat. Half a nat was at stake in the rate of the tables.
#
# The first time we ran this race we had stopped the search earlier, at 0.002 for AdamW, the winner among the short runs. This is what came out:

# %%
print(f"AdamW at 0.002, 200 steps, minus Muon, 200: {curves.paired('adamw_half', 'reference')}")

# %% [markdown]
# "Muon ahead in five of five seeds": a clear result, and most of it was one factor of two in the other side's rate. Seeds measure the luck of a run. They say nothing about the care that went into either side.
#
# What does not follow: that it is so for large models. Muon's extra products cost the same whatever the size of the batch, so their share of a step shrinks as batches grow; Moonlight reports AdamW's loss for about half the training FLOPs (arXiv 2502.16982). The models of this course are trained with Muon, at 0.01.

# %% [markdown] tags=["beat"]
# ## Your run
#
# Now everything at once: packed rows, Muon, the clocks, a model of 1.35 million parameters. The whole run has 540 steps, and this one will be stopped after 60. It runs in a **thread**, so that the notebook stays free; `folder` is where it keeps its log and its state. Before the first step the model knows nothing:

# %%
question = "What is the loss of guessing evenly among 2,048 tokens?"
guess("07.chance", question, math.log(2048), unit="nats")

# %%
import tempfile
import time
from minimoe.training import BackgroundRun

folder, settings = tempfile.mkdtemp(), Settings(steps=540)


def my_run(weights):
    fresh = minimoe.Transformer(minimoe.NANO, seed=weights)
    return BackgroundRun(fresh, Batches(documents, 8, 128, seed=7), settings, folder=folder)


def watch(run, until):
    while run.running and len(run.records) < until:
        time.sleep(0.2)
    last = run.records[-1]
    print(f"step {last['step']}: loss {last['next_token']:.2f} after {last['tokens']:,} tokens")


run = my_run(weights=7).start()
watch(run, until=1)
watch(run, until=30)

# %% [markdown]
# It falls fast at first: whoever knows only how frequent each token is stands at 5.96 (the first bar below), and after 30 steps the run has left that behind. Now stop it. The next cell makes another model, with other random weights, and points it at the same folder.

# %%
run.stop()
print(f"stopped after step {len(run.records)}")
run = my_run(weights=8)
print(f"the new run stands at step {len(run.records)}")
run.start()
watch(run, until=60)
run.stop()

# %% [markdown]
# The state in the folder won: weights, the optimizer's averages, the place in the data, the clocks. Nothing was learned twice or skipped. Is it *exactly* the run that would have gone through? Try it on a smaller one, and compare without any tolerance:

# %%
from minimoe.training import train


def losses(*parts, where):
    for stop_after in parts:
        rows = Batches(documents, sequences=2, row_tokens=32, seed=0)
        fresh = minimoe.Transformer(minimoe.NANO, seed=0)
        goes_on = lambda record: record["step"] < stop_after
        history = train(fresh, rows, Settings(steps=8), on_step=goes_on, folder=where, label=None)
    return history["loss"]


through, halted = (losses(*parts, where=tempfile.mkdtemp()) for parts in ((8,), (3, 8)))
print("the same to the last bit:", through == halted)

# %% [markdown]
# Runs die: V3's authors count it among their results that theirs did not have to be rolled back once (abstract). With this, a killed run costs the steps since the last save and nothing else.
#
# ### Is my loss supposed to look like that?
#
# The command that made `data/nano` was run with five seeds and every curve kept. The band is the range of the five, its line their median, every point the mean of ten steps; yours is the sixth. How often will it leave the band by chance alone?

# %%
guess(
    "07.sixth",
    "Of six curves of the same kind, how often is the sixth the highest or the lowest at a given step?",
    2 / 6 * 100,
    unit="%",
)

# %%
band = json.loads((data_path("nano") / "band.json").read_text())
mine = run.history["next_token"]
tens = list(range(10, len(mine) + 1, 10))
five = [(tens, other["next_token"][: len(tens)]) for other in band["runs"].values()]
show(
    curves.band_figure(
        {"five seeds": five}, "Your first 60 steps among five others", "step", "next-token loss (nats)",
        grey=["five seeds"], bounds=(4.3, 5.3),
        single={"yours": (tens, [sum(mine[i - 10 : i]) / 10 for i in tens])},
    ),
    alt="A narrow grey band falls from 5.1 nats after 20 steps to 4.5 after 60; the black curve of this run "
    "lies in it or near its edge.",
)

# %% [markdown]
# (The first point, at 6.8, is above the picture.) If yours is far outside, something is wrong: another text, another tokenizer, another rate. If it lies a hair above the band at one point, nothing is.
#
# ### Where 540 steps lead
#
# A number of nats says little without a bar to clear. These are losses on entries that were held out of training. The **n-gram** models only count: how frequent a token is, which follows which, which follows a pair.

# %%
receipt_nano = json.loads((data_path("nano") / "receipt.json").read_text())
measured = receipt_nano["loss_nats_per_token"]
counted = {"frequencies (1-gram)": "1-gram", "neighbours (2-gram)": "2-gram", "pairs (3-gram)": "3-gram"}
bar = {name: measured[f"validation, {key}"] for name, key in counted.items()}
trained = {f"data/nano, {receipt_nano['steps']} steps": measured["validation, as stored"]}
show(
    bars(
        bar | trained, "Two minutes take the model past three kinds of counting",
        "loss on held-out entries (nats a token)", grey=list(bar),
    ),
    alt="Four bars: 5.96 for frequencies, 3.82 for neighbours, 3.50 for pairs, about 3.4 for the trained model.",
)

# %% [markdown]
# The trained model does a little better than the best counter (and so does each of the five: `band["runs"]` has their losses). It has read a dictionary of 427,053 tokens 1.3 times; do not expect knowledge. What it has learned shows when it writes. At each step it has a probability for every token. The **temperature** divides the logits (the scores before the softmax): at 0 the likeliest token is always taken, at 1 the probabilities are taken as they are. Which would you use?

# %%
prompt = "river (noun):"
for temperature in (0.0, 0.5, 0.8, 1.0, 1.5):
    ids, options = tokenizer.encode(prompt, bos=True), dict(seed=3, stop_tokens=[tokenizer.eos_id])
    result = minimoe.generate(model, [ids], max_new_tokens=30, temperature=temperature, **options)
    print(f"{temperature}: {prompt}{tokenizer.decode(result.tokens[0], skip_special=True)}")

# %% [markdown]
# At 0 it falls back on its commonest words; above 1 it picks tokens that it knows to be unlikely. Between them it writes entries with the form of the dictionary and much of its grammar, if not always its words. This is one sample each; another `seed` gives others.
#
# To train the whole thing yourself, in a terminal: `python data/nano/train.py --out my_nano` repeats `data/nano` in about two minutes, and `minimoe train --out my_model --text my.txt --steps 540` trains on a text of yours, one document a line.

# %% [markdown] tags=["play"]
# ## Play
#
# Your model has had 60 steps, the shipped one 540. Both send every token to 4 of 16 experts. When a word comes back in a sentence, does it go to the same experts again? And is that something that training has taught?
#
# **Try first:** compare the columns of "of" in both maps. Then put in a sentence of your own that repeats a word.

# %% tags=["play"]
from minimoe_widgets import RoutingExplorer

young = run.trainer.model.eval()
text = "a kind of tree that has a kind of leaf that is part of a kind of plant"
names = ("60 steps", "540 steps")
explorer = RoutingExplorer(young, tokenizer, text=text, other=(model, tokenizer), names=names, layer=1)
show(explorer, alt=explorer.alt_text())

# %% [markdown]
# Look before you run the next cell. It takes thirty held-out entries, in which "of" occurs twenty times, and counts how many of their 4 experts two tokens share on average. By chance it would be 1. The third model has not been trained at all.

# %%
def shared(m, word=None):
    ids = tokenizer.encode("\n".join(corpus.validation[:30]))
    teams = [set(team) for team in m(torch.tensor([ids]), mtp=False).routing[1].chosen_MK.tolist()]
    words = [tokenizer.decode([token]) for token in ids]
    common = [
        len(teams[i] & teams[j])
        for i in range(len(ids)) for j in range(i)
        if (words[i] == words[j] == word if word else words[i] != words[j])
    ]
    return sum(common) / len(common)


untrained = minimoe.Transformer(minimoe.NANO, seed=7)
for name, m in {"untrained": untrained, "60 steps": young, "540 steps": model}.items():
    same, different = shared(m, " of"), shared(m)
    print(f"{name:10} two times 'of': {same:.1f} of 4 experts   two different words: {different:.1f}")

# %% [markdown]
# A word goes to the experts it went to before, in the model that has learned nothing as well. Equal tokens enter with equal vectors, so a random router already sorts words. "Expert 3 likes prepositions" is therefore no evidence that training made it so. Chapter 08 asks what is.

# %% [markdown]
# ## Tiny and real
#
# The two runs side by side. FLOPs are counted as in chapter 00, forward and backward, without the module that predicts the second token.

# %% tags=["tiny-vs-real", "nbval-check-output"]
hours = accounting.V3_TRAINING_GPU_HOURS
nano_flops = accounting.flops(minimoe.NANO, 128).training
v3_flops = accounting.flops(minimoe.V3, 4096).training
nano_used, v3_used = (accounting.parameters(m).activated.with_head for m in (minimoe.NANO, minimoe.V3))
nano_tokens, v3_tokens = receipt_nano["tokens"], 14.8e12
compare_table([
    ("parameters used on a token", nano_used, v3_used, "computed"),
    ("tokens", nano_tokens, int(v3_tokens), "data/nano/receipt.json; arXiv 2412.19437 section 4.1"),
    ("tokens for each of these parameters", nano_tokens / nano_used, v3_tokens / v3_used, "computed"),
    ("FLOPs a token", nano_flops, v3_flops, "computed"),
    ("FLOPs of the run", nano_flops * nano_tokens, v3_flops * v3_tokens, "computed"),
    ("tokens in a batch", 8 * 128, 15360 * 4096, "arXiv 2412.19437 section 4.2"),
    ("steps (V3: if all batches were full)", receipt_nano["steps"], round(14.8e12 / 15360 / 4096), "computed"),
    ("optimizer", "Muon", "AdamW", "section 4.2"),
], ours="data/nano")

# %% [markdown]
# The third row is the one to remember. V3 saw 404 tokens for every parameter that works on a token, the small model one. It is not only small, it is underfed.

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# How well does your processor do? **MFU**, the model FLOPs utilisation, is the share of the hardware's peak that goes into the FLOPs counted above. What is the peak of a processor core? Take what it reaches on one large product of matrices.

# %% tags=["when-it-pays"]
x_MD = torch.randn(1024, 1024)
_, median_us, _ = cpu_us({"product": lambda: x_MD @ x_MD}, rounds=5)["product"]
peak = 2 * 1024**3 / (median_us / 1e6)
speed = run.records[-1]["tokens"] / run.records[-1]["cpu_s"]
print(f"this core: {peak / 1e9:.0f} billion FLOPs a second; your run made {speed:,.0f} tokens a second")
print(f"MFU of your run {accounting.mfu(nano_flops, speed, peak):.0%}")
v3_speed = accounting.tokens_per_second_per_gpu(v3_tokens, hours["pre-training"])
print(f"MFU of V3 {accounting.mfu(v3_flops, v3_speed):.0%}, {v3_speed:,.0f} tokens a second on each GPU")

# %%
years = v3_flops * v3_tokens / (nano_flops * speed) / 3600 / 24 / 365
question = "At that rate of arithmetic, how many years would V3 take on this core?"
guess("07.years", question, years, unit="years")

# %% [markdown]
# V3's peak is that of an H800 in 16-bit arithmetic, 989 trillion FLOPs a second; the published figure is 38.9% (arXiv 2505.09343, table 4).
#
# Where does the rest of your core go? To Muon's five rounds, as measured above; to choosing experts, gathering their rows and starting thousands of small operations, which we have not timed one by one; and to the module that predicts the second token, whose FLOPs are not in the count. Large products are cheaper by the FLOP. That is one reason why a batch of V3 holds 63 million tokens, on 2,048 GPUs, and ours 1,024.
#
# Now the bill. Pre-training took 2.664 million GPU-hours for 14.8 trillion tokens: at $2 an hour the 5.3 million dollars from above. The long-context phase and post-training add a little.

# %% tags=["nbval-check-output"]
total = sum(hours.values())
print(f"{hours['pre-training'] / 14.8:,.0f} GPU-hours a trillion tokens")
print(f"{accounting.days(hours['pre-training'] / 14.8, 2048):.1f} days a trillion on 2,048 GPUs")
print(f"{total:,} GPU-hours, ${accounting.dollars(total) / 1e6:.3f} million")

# %% [markdown]
# ### Exercise: how far does the money go?
# ●●○○○ · 5 min · the question with which every training run begins.
#
# `dollars` buy GPU-hours at `price` each. A GPU reaches the share `utilisation` of its `peak_flops` a second, and a token costs `flops_per_token`, forward and backward. How many tokens can you train on?
#
# $$\text{tokens} = \frac{\text{dollars}}{\text{price}} \cdot 3600 \cdot \frac{\text{peak} \cdot \text{utilisation}}{\text{FLOPs a token}}$$
#
# By hand: 6 dollars at 2 an hour, a peak of 100 half used, 36 FLOPs a token: 15,000 tokens.

# %% tags=["exercise"]
def tokens_for(dollars, price, flops_per_token, peak_flops, utilisation):
    ...  # your code

tokens_for = check("07.tokens_for", tokens_for)
for name, config in (("V3", minimoe.V3), ("V2-Lite", minimoe.V2_LITE)):
    cost = accounting.flops(config, 4096).training
    n = tokens_for(1000, 2.0, cost, accounting.H800_BF16_FLOPS, 0.39)
    print(f"$1,000 train {name} on {n / 1e9:,.1f} billion tokens")

# %%
hints("07.tokens_for")

# %% [markdown]
# So a thousand dollars train a model of V3's size on 0.02% of its corpus, or V2-Lite, fifteen times cheaper by the token, on less than 1% of its own 5.7 trillion, if it reached V3's 39%. And that is the price of a run that succeeds the first time, with the recipe known: research, failed runs, data and people are not in it (the paper says so itself, section 1).

# %% tags=["nbval-check-output"]
receipt([
    ("V3's tokens", "14.8 trillion", "source: arXiv 2412.19437 section 4.1"),
    ("V3's GPU-hours", total, "source: arXiv 2412.19437 table 1"),
    ("V3's recipe as shares of the run", "Settings.v3", "asserted by tests/minimoe/training/test_settings.py"),
    ("a killed run goes on bit-identically", "yes", "asserted by tests/minimoe/training/test_snapshot.py"),
    ("filling in the middle loses no character", "yes", "asserted by tests/minimoe/training/test_fim.py"),
    ("level by the step, AdamW ahead by the second", "5 seeds", "asserted by tests/course/test_chapter_07.py"),
    ("an untrained router sorts words", "3 of 4 and more", "asserted by tests/course/test_chapter_07.py"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# 1. A friend masks padding out of the loss and still sees unbalanced experts. What was forgotten?
#
# <details><summary>Answer</summary>
#
# The router's load. The loss ignores the padding; the counts that move the biases do not, until they are masked too.
#
# </details>
#
# 2. In the PSM form, why must the end mark of the document follow the middle and not the suffix?
#
# <details><summary>Answer</summary>
#
# It is what the model writes when the gap is filled. After the suffix it would teach the model to stop before it has begun, and nothing would end the middle.
#
# </details>
#
# 3. Halfway through V3's schedule you decide to train on 20T tokens instead of 14.8T. What must be done again? And with the schedule of `data/nano`?
#
# <details><summary>Answer</summary>
#
# Nothing: at 7.4T the rate is still on its plateau, which is lengthened. A cosine over the whole run has already lowered the rate for an end at 14.8T; all steps since the warm-up were made at the wrong rate.
#
# </details>
#
# 4. "Our optimizer needs half the steps of AdamW." Which three questions do you ask?
#
# <details><summary>Answer</summary>
#
# How was AdamW tuned, and was the rate of its embedding and head among what was tuned? Half the steps, but how much time? How many seeds?
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - Packed rows hold no padding, and a rearranged tenth of the documents teaches a forward-reading model to fill gaps.
# - The recipe is a handful of clocks: rate, batch, lambda, gamma; V3's plateau keeps a run open, a short run decays from the start.
# - The runs of `data/nano` and V3 differ by a factor of about 2 × 10¹² in arithmetic, and of nearly 400 in tokens a parameter.
#
# ## Sources
# DeepSeek-V3, arXiv 2412.19437 (abstract, sections 1, 4.1, 4.2, table 1); DeepSeek-V2, arXiv 2405.04434 (V2-Lite's tokens); Insights into DeepSeek-V3, arXiv 2505.09343 (tables 2, 4); DeepSeek-V4, arXiv 2606.19348 (attention cut at document borders); filling in the middle: Bavarian et al., arXiv 2207.14255; Muon: K. Jordan et al., 2024 (kellerjordan.github.io/posts/muon), and Moonlight, arXiv 2502.16982 (its form for large models). Padding in load or loss: found in several public re-implementations.
#
# ## Next
# Chapter 08 asks what the experts of a trained model have learned, and how one would know.
