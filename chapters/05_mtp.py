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
# # 05 Predicting two tokens at once
#
# By the end you can build the module with which DeepSeek-V3 guesses one token ahead of itself, prove that using its guesses changes nothing in what the model says, and work out whether they save time on a given machine.
#
# 45 minutes. Prerequisites: chapters 01 (next-token loss, decoding with a cache) and 03 (experts); probabilities of small tables.
#
# You will be able to
# - say which token the module reads, which it predicts, and what each wrong shift leads to
# - keep or replace a drafted token so that the text is distributed exactly as without drafts
# - predict from three measured numbers whether speculative decoding wins or loses

# %% tags=["setup"]
import torch
import minimoe
from minimoe import accounting
from minimoe_course import *

setup(seed=0)

# %% [markdown] tags=["question"]
# ## 1.8 times the tokens, from the same model
#
# A language model gives one token each time all its layers have run. DeepSeek-V3 has 61 layers, and its report says that it gives 1.8 times as many tokens a second as it would in that way, although every token still passes through all 61. The helper behind it is one extra layer. It guesses right 85 to 90 times out of 100 (arXiv 2412.19437, section 5.4.3).
#
# Two things should make you suspicious. How can a wrong guess in every seventh to tenth token leave the model's answers as they were? And if a right guess gives two tokens for one, why 1.8, and not 1.85 to 1.90?

# %% [markdown] tags=["by-hand"]
# ## Five tokens by hand
#
# The usual model, from here on the **trunk**, has read up to token $i$ and holds a state for that place. From it, it predicts token $i+1$. The extra layer is called the **multi-token prediction module**, MTP for short. Here is who reads and who predicts what, in a text of five tokens:

# %% tags=["by-hand", "nbval-check-output"]
tokens = ["the", "cat", "sat", "on", "it"]
print("the trunk's state has read   predicts   the module also reads   predicts")
for i in range(len(tokens)):
    read = " ".join(tokens[: i + 1])
    ahead = tokens[i + 1 :] + ["?", "(no label)"]
    module = (ahead[0], ahead[1]) if i + 1 < len(tokens) else ("", "")
    print(f"{read:28} {ahead[0]:10} {module[0]:23} {module[1]}")

# %% [markdown]
# Look at the first line. The module stands at "the", is told that "cat" follows, and predicts "sat". So it is not guessing two words into the dark: it knows everything that the trunk will know when the trunk predicts "sat". What it lacks is work. The trunk runs all its layers on "cat"; the module has the state of "the", the bare embedding of "cat", and one layer.

# %% [markdown] tags=["beat"]
# ## The module
#
# At place $i$ the module takes the trunk's state $h_i$ and the embedding of token $t_{i+1}$. Each passes through a norm of its own, then one matrix $M$ turns the two halves into one state, and one ordinary decoder layer follows. The trunk's own head makes a prediction of it:
#
# $$h'_i = M\,\big[\,\mathrm{norm}(\mathrm{Emb}(t_{i+1}))\,;\;\mathrm{norm}(h_i)\,\big] \qquad \text{prediction of } t_{i+2} = \mathrm{softmax}\big(W_{\text{head}}\,\mathrm{norm}(\mathrm{layer}(h'))_i\big)$$
#
# Embedding and head are the trunk's; the two norms, $M$ and the layer are new. The cell does this by hand with the course's trained model, on text that it has not seen:

# %%
from minimoe.model.attention import Span
from minimoe.model.loss import next_token_loss
from minimoe.model.rope import rope_turns
from minimoe.tokenizer import Tokenizer
from minimoe.training import load_corpus

model = minimoe.load(data_path("nano"), dtype=torch.float32).requires_grad_(False)
tokenizer = Tokenizer.load(data_path("nano"))
entries = load_corpus(data_path("wordnet")).validation
stream = [t for entry in entries for t in tokenizer.encode(entry, bos=True, eos=True)]
rows_BT = torch.tensor(stream[: 32 * 128]).view(32, 128)
out, module = model(rows_BT), model.mtp_modules[0]

state_BTD = out.hidden_BTD[:, :-1]  # the trunk's states, all but the last
next_BTD = model.model.embed_tokens(rows_BT)[:, 1:]  # the embeddings, shifted by one
span = Span(rope_turns(model.config, torch.arange(127)[None], torch.float32))
by_hand = model.lm_head(module(state_BTD, next_BTD, span)[0])
print(f"largest difference from the model's own: {(by_hand - out.mtp_logits[0]).abs().max():.1e}")

# %%
trunk_loss = next_token_loss(out.logits, rows_BT, ahead=1).item()
module_loss = next_token_loss(by_hand, rows_BT, ahead=2).item()
guess(
    "05.module_loss",
    f"On this text the trunk predicts the next token with a loss of {trunk_loss:.2f} nats. "
    "What is the module's loss on the token after the next?",
    round(module_loss, 2),
    unit="nats",
    tolerance=0.05,
)

# %% [markdown]
# About the same. A guess two tokens into the dark should be worse. But the module is told token $i+1$, so both predict from the same knowledge, and the module has even one layer more for everything before it. Equal loss does not mean equal guesses: the two may favour different tokens, and below we count how often they do.
#
# Then why not throw the trunk away? Because $h_i$ is the trunk's work. The module is cheap for *one* token only because the trunk has run on all tokens before it.
#
# Now three mistakes. The paper's equation 21 writes the halves as $[h; \mathrm{Emb}]$, but the official weights have the embedding first: whoever follows the paper reads nonsense from them. One may give the module the embedding of $t_i$, which the state contains already. And one may compare its output with the wrong token; a public training recipe did (see Sources).

# %%
def loss_of(embedded_BTD, weight=None, ahead=2):
    own = module.eh_proj.weight.clone()
    if weight is not None:
        module.eh_proj.weight.copy_(weight)
    logits = model.lm_head(module(state_BTD, embedded_BTD, span)[0])
    module.eh_proj.weight.copy_(own)
    return next_token_loss(logits, rows_BT, ahead).item()

first, second = module.eh_proj.weight.chunk(2, dim=1)
show(
    bars(
        {
            "as in the checkpoint": loss_of(next_BTD),
            "halves in the paper's order": loss_of(next_BTD, torch.cat([second, first], dim=1)),
            "embedding of token i": loss_of(model.model.embed_tokens(rows_BT)[:, :-1]),
            "judged by token i + 1": loss_of(next_BTD, ahead=1),
            "every word alike": torch.tensor(model.config.vocab_size).log().item(),
        },
        "Each wrong order, shift or label costs more than 4 nats",
        "loss on held-out text (nats)",
        grey=["every word alike"],
    ),
    alt="Five bars. The right way has by far the lowest loss; swapped halves, the embedding of token i and the label i + 1 are near or above the loss of a model that holds every word equally likely.",
)

# %% [markdown]
# None of the three raises an error. The last one is the most treacherous in *training*: asked for token $i+1$, which it has been given, the module learns to copy. Its loss can fall to almost zero, which looks like a triumph.
#
# ### Exercise: who reads what
# ●●○○○ · 6 min · the shift that several public implementations got wrong.
#
# From a text of $T$ tokens, their states and their embeddings, pick what the module needs for training: states, embeddings and labels, row by row, and only rows that have a label. Row $i$ holds $h_i$, $\mathrm{Emb}(t_{i+1})$ and $t_{i+2}$. Shapes: `[T-2, D]`, `[T-2, D]`, `[T-2]`.
# By hand: five tokens `11 12 13 14 15` with states 1 to 5 and embeddings 10 to 50 give states `1 2 3`, embeddings `20 30 40`, labels `13 14 15`.

# %% tags=["exercise"]
def mtp_inputs(state_TD, embedded_TD, tokens_T):
    ...  # your code: return states, embeddings, labels

mtp_inputs = check("05.mtp_inputs", mtp_inputs)

# %%
hints("05.mtp_inputs")

# %% [markdown] tags=["beat"]
# ## A second loss
#
# In training the module's cross-entropy is added to the trunk's, with a weight $\lambda$:
#
# $$L = L_{\text{next token}} + \lambda\, L_{\text{MTP}}$$
#
# V3 used $\lambda = 0.3$ for the first 10 of its 14.8 trillion tokens and 0.1 for the rest. The gradient of the second loss flows through $h_i$ into the trunk. This was the first reason for the module: a state from which two tokens can be predicted might be a better state. The report compares two sizes with and without it (table 4). The smaller, trained on 1.33 trillion tokens, has the same loss with it, 0.729 bits a byte on the Pile, and solves 26.8% of HumanEval's programming tasks instead of 20.7%.
#
# Does it help a small trunk? The course's study trained one from five seeds, with the module and without it, 200 steps each. A **seed** fixes initial weights and order of data, so runs are compared seed by seed. And because the module costs time, a third group without it was given as much processor time as the first.

# %%
from minimoe_course import curves

show(
    curves.band(
        {"with the module": "reference", "without, as many steps": "no_mtp", "without, as much time": "no_mtp_long"},
        "next_token",
        "The same time without the module gives more steps, and the lower loss",
        "next-token loss (nats)",
        x="cpu_s",
        bounds=(3.4, 5.0),
    ),
    alt="Three falling bands over CPU-seconds. The two without the module run together and below the band with it; the longest of them ends lowest.",
)

# %%
per_step = curves.paired("reference", "no_mtp", "validation")
per_second = curves.paired("reference", "no_mtp_long", "validation")
total = lambda variant, name: sum(run[name] for run in curves.runs(variant))  # over all seeds
longer = total("reference", "cpu_s") / total("no_mtp", "cpu_s")
more = total("no_mtp_long", "steps") / len(curves.runs("no_mtp_long"))
print(f"validation loss with the module minus without, nats a token, {len(per_step.differences)} seeds")
print("as many steps: ", per_step)
print("as much time:  ", per_second)
print(f"one step with the module takes {longer:.2f} times the processor time")
print(f"steps: {curves.runs('reference')[0]['steps']} with the module, {more:.0f} without in as much time (mean)")

# %% [markdown]
# Two answers, and both are right. Step for step the module lowers the trunk's own loss a little in every seed (the first printed line; it is too small for the picture). Second for second it is a bad deal here: the module is a fourth layer behind three, and the third group made about 308 steps instead of 200 in about the same time. In V3 it is one layer behind 61, so it takes a far smaller share of the time; what it brings there, only table 4 says. Five seeds allow one sentence about this model and this text, and none about larger ones.

# %% [markdown] tags=["beat"]
# ## Draft, check, keep
#
# The second reason for the module is speed. It works like this, with tokens up to $i$ known and the trunk's state $h_{i-1}$ at hand:
#
# 1. The module **drafts** token $i+1$ from $h_{i-1}$ and token $i$.
# 2. The trunk runs on token $i$ and on the draft, *in one call*, and so predicts token $i+1$ and what would follow the draft.
# 3. If the trunk's token $i+1$ is the draft, the second prediction counts too: two tokens from one call. If not, the trunk's own token stands, and what was computed after the draft is forgotten: its cache entries lie past the known length and are overwritten.
#
# This is **speculative decoding**. With the likeliest token taken every time (temperature 0) it cannot change the text: every token that stands is the trunk's choice after a checked beginning. See whether it does:

# %% tags=["nbval-check-output"]
begin = ("forest (noun):", "to walk, move (verb):", "small bird (noun):", "bread (noun):")
prompts = [tokenizer.encode(text) for text in begin]
plain = minimoe.generate(model, prompts, max_new_tokens=60, stop_tokens=[])
fast = minimoe.generate(model, prompts, max_new_tokens=60, stop_tokens=[], speculative=True)
print("the same text:", fast.tokens == plain.tokens)

# %%
print(f"calls of the trunk: {plain.steps} without drafts, {fast.steps} with them")
print(f"drafts: {fast.drafted}, kept: {fast.accepted}, a share of {fast.acceptance:.2f}")

# %% [markdown]
# The share of drafts that are kept is the **acceptance**. V3's is 0.85 to 0.90, or 0.80 to 0.90 in a later paper (arXiv 2505.09343, section 2.3.3). Ours comes from a model of a million parameters. On which tokens do the two disagree? Take the held-out text again and ask, at every place, whether module and trunk have the same favourite. The kinds are read off the token's spelling: a *word start* has a space before it, a *word part* has none; a *mark* begins or ends an entry. (A headword's first piece and the "noun" in brackets have no space either and count as word parts.)

# %%
from minimoe.inference.token_kinds import KINDS, token_kinds

trunk_says, module_says = out.logits[:, 1:-1].argmax(-1), out.mtp_logits[0][:, :-1].argmax(-1)
same, kind = trunk_says == module_says, token_kinds(tokenizer)[rows_BT[:, 2:]]
by_kind = {k: same[kind == n].double().mean().item() for n, k in enumerate(KINDS) if (kind == n).sum() > 100}
show(
    bars(
        dict(sorted(by_kind.items(), key=lambda pair: -pair[1])) | {"all": same.double().mean().item()},
        "Module and trunk agree least on word parts",
        "share of places where module and trunk agree",
        grey=["all"],
        form="{:.2f}",
    ),
    alt="Bars by kind of token: marks near 1, punctuation and function words around 0.8, word starts lower, word parts lowest.",
)

# %% [markdown]
# Where the text leaves little choice the two agree: punctuation, the end of an entry and the beginning of the next. On word parts they agree least. Disagreeing is not the same as being wrong: over the whole text the module's loss was about the trunk's. It guesses *otherwise*, and the trunk's guess is the one that counts. (The bar "all" is held-out text; when nano continues its own text, fewer drafts are kept.)

# %% [markdown] tags=["beat"]
# ## Sampling: a fair exchange
#
# Most systems do not take the likeliest token, they draw one. Let $p$ be the trunk's distribution for the next token and $q$ the module's. A draft $d$ is drawn from $q$. We want the token that finally stands to be distributed as $p$, exactly, whatever $q$ is. Here are four words:
#
# | | a | b | c | d |
# |---|---|---|---|---|
# | trunk, $p$ | 0.50 | 0.30 | 0.15 | 0.05 |
# | module, $q$ | 0.20 | 0.60 | 0.10 | 0.10 |
#
# The module says "b" twice as often as it should. So keep a "b" half of the time: $0.6 \cdot \tfrac12 = 0.3$, as often as the trunk would say it. Keep "d" half of the time too. "a" and "c" come too rarely, so keep them always. The rule is
#
# $$\text{keep the draft } d \text{ with probability } \min\!\big(1,\; p(d)/q(d)\big)$$

# %%
p_V = torch.tensor([0.50, 0.30, 0.15, 0.05], dtype=torch.float64)
q_V = torch.tensor([0.20, 0.60, 0.10, 0.10], dtype=torch.float64)
kept = torch.minimum(p_V, q_V).sum().item()
guess("05.kept", "With this rule, how often is a draft kept?", kept * 100, unit="%")

# %% [markdown]
# A word $w$ is drafted and kept with probability $q(w) \min(1, p(w)/q(w)) = \min(p(w), q(w))$. Add these up: 0.2 + 0.3 + 0.1 + 0.05.
#
# The other 35% must make up for what is missing: "a" lacks 0.3 and "c" lacks 0.05. So a rejected draft is replaced by a draw from the **residual**, what $p$ has more than $q$:
#
# $$\text{replacement} \sim \frac{(p - q)^+}{\sum_w (p(w) - q(w))^+} \qquad x^+ = \max(x, 0)$$

# %% tags=["nbval-check-output"]
chance_V = (p_V / q_V).clamp(max=1)
rest_V = (p_V - q_V).clamp_min(0)
rest_V = rest_V / rest_V.sum()
rejected = 1 - (q_V * chance_V).sum()
said_V = q_V * chance_V + rejected * rest_V
shares = {"drafted, q": q_V, "and kept": q_V * chance_V, "replaced": rejected * rest_V, "said": said_V, "trunk, p": p_V}
for name, row in shares.items():
    print(f"{name:11}", "  ".join(f"{x:.3f}" for x in row.tolist()))

# %% [markdown]
# The last two lines agree, and the algebra does not depend on the numbers: $\min(p, q) + (p - q)^+ = p$, word by word. A bad module makes drafts useless. It cannot make the text worse.
#
# ### Exercise: keep or replace
# ●●●○○ · 8 min · the two lines on which "lossless" rests.
#
# The trunk has run on the last known token and on the draft, and gives two distributions: row 0 of `p_2V` after the last known token, row 1 after the draft. `q_V` is the module's, from which `draft` (a word's number) was drawn. Give back the chance with which the draft is kept, $\min(1, p/q)$, and the distribution of its replacement, $(p-q)^+/\sum (p-q)^+$, of shape `[V]`.
# By hand: with the table above and the draft "b" (number 1) the chance is 0.5 and the replacement is "a" with 0.857 and "c" with 0.143.

# %% tags=["exercise"]
def accept_rule(p_2V, q_V, draft):
    ...  # your code: return chance, rest_V

accept_rule = check("05.accept_rule", accept_rule)

# %%
hints("05.accept_rule")

# %% [markdown]
# ### Does the real decoder do it?
#
# Four words on paper are not a decoder with a cache, batches and two models in step. So measure. A model with a vocabulary of eight words has $8^3 = 512$ continuations by three tokens. Compute the probability of each one, without cache and without drafts; then draw 20,000 samples each way and count. The **total variation** is the share of samples that would have to move to fit the exact table. It is not zero even for a perfect sampler, because 20,000 draws scatter. So plain sampling is the yardstick.

# %%
from dataclasses import replace
from minimoe_course.sampling_check import count_continuations, exact_continuations, misfit

sizes = dict(vocab_size=8, hidden_size=32, num_hidden_layers=2, initializer_range=0.2)
eight = replace(minimoe.NANO, **sizes)
small, prompt = minimoe.Transformer(eight, seed=0).requires_grad_(False), [5, 3]
exact = exact_continuations(small, prompt, tokens=3)
print("                 total variation   chi-square / degrees of freedom")
for seed, (name, drafts) in enumerate((("plain sampling", False), ("speculative", True))):
    counts = count_continuations(small, prompt, 3, rows=20_000, seed=seed, speculative=drafts)
    variation, chi_square = misfit(counts, exact)
    print(f"{name:16} {variation:13.3f} {chi_square:22.2f}")

# %% [markdown]
# The same distance, and a chi-square near 1. Chi-square adds up the squared misses, each divided by what chance allows; divided by the number of free counts it is 1 on average for a perfect sampler, here give or take 0.06. This count cannot tell the two samplers apart.

# %% [markdown] tags=["beat"]
# ## Break it: three rules that look right
#
# The first is tempting because it is simple; the other two are as quickly written.
#
# - **Threshold**: keep the draft if $p \ge q$, else draw from the residual.
# - **Resample**: keep it with $\min(1, p/q)$, else draw from $p$.
# - **Trust**: keep it always.
#
# Which does the most damage to the table above? And which word gains in each? Decide, then run. All is computed exactly: $q \cdot \text{chance} + \text{rejected} \cdot \text{rest}$.

# %% tags=["nbval-check-output"]
rules = {
    "right": (chance_V, rest_V),
    "threshold": ((p_V >= q_V).double(), rest_V),
    "resample": (chance_V, p_V),
    "trust": (torch.ones(4), rest_V),
}
print("trunk, p   ", "  ".join(f"{x:.3f}" for x in p_V.tolist()), "  total variation")
for name, (chance, rest) in rules.items():
    said = q_V * chance + (1 - (q_V * chance).sum()) * rest
    print(f"{name:11}", "  ".join(f"{x:.3f}" for x in said.tolist()), f"  {(said - p_V).abs().sum() / 2:.3f}")

# %% [markdown]
# Threshold and trust tie at 0.350; "a" and "c" gain under the threshold, "b" and "d" under trust, and "b", "d" and a little "c" under resampling.
#
# The threshold never says "b" or "d", the words that the module overrates. Trust speaks as the module does. Resampling errs least, and is the hardest to notice: "b" comes too often, once as a kept draft and once more as a replacement. None of them raises an error.
#
# Put one of them into the real decoder, and the count that passed above must fail:

# %%
from minimoe.inference import speculative as decoder
from minimoe.inference.sampling import draw

def resample(p_MV, q_MV, draft_M, accept_M, sample_M):
    kept_M = accept_M < decoder.rule(p_MV, q_MV, draft_M)[0]
    return torch.where(kept_M, draft_M, draw(p_MV, sample_M)), kept_M

right, decoder.verify = decoder.verify, resample
counts = count_continuations(small, prompt, 3, rows=20_000, seed=1, speculative=True)
decoder.verify = right
variation, chi_square = misfit(counts, exact)
print(f"total variation {variation:.3f}, chi-square / degrees of freedom {chi_square:.1f}")

# %% [markdown] tags=["play"]
# ## Play
#
# Fewer calls of the trunk is not yet less time. The explorer lets the trained model continue a prompt twice, plainly and with drafts, and plays both back on one clock, the processor's. In the still picture a box is one token; a blue one, a kept draft, came in the same call as the box after it. A struck-out token is a draft that was not kept.
#
# **Try first:** press *Play* and watch which lane (in the still picture: which staircase) is ahead. Then raise the temperature and look at what is struck out now.

# %% tags=["play"]
from minimoe_widgets import SpeculationExplorer

explorer = SpeculationExplorer(model, tokenizer, text="forest (noun):")
show(explorer, alt=explorer.alt_text())

# %% [markdown]
# On the machine that made this page the lower lane needs fewer calls and more time. The rest of the chapter is about why, and about where this turns round.
#
# ## Tiny and real

# %% tags=["tiny-vs-real", "nbval-check-output"]
ours, v3 = accounting.parameters(model.config), accounting.parameters(minimoe.V3)
share = lambda m: f"{m.mtp / (m.total + m.mtp):.1%}"

def work(config, m):  # of one draft: active weights of a layer, the matrix M, the head
    layer = m.layers[-1]
    active = sum(layer.parts.values()) - layer.idle + 2 * config.hidden_size**2 + m.head
    return f"{active / m.activated.with_head:.1%}"

compare_table([
    ("layers of the trunk", model.config.num_hidden_layers, 61, "config"),
    ("MTP modules", 1, minimoe.V3.num_nextn_predict_layers, "config"),
    ("parameters of the module", ours.mtp, v3.mtp, "computed; embedding and head are the trunk's"),
    ("as a share of all", share(ours), share(v3), "computed"),
    ("work of a draft, as a share of a call", work(model.config, ours), work(minimoe.V3, v3), "computed"),
    ("weight of its loss", "0.3", "0.3, then 0.1", "arXiv 2412.19437 section 4.2"),
    ("acceptance", "0.6 to 0.7 (measured here)", "0.85 to 0.90", "arXiv 2412.19437 section 5.4.3"),
], ours="nano")

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# Measure it first, with 1, 8 and 64 prompts continued together. Processor time, the two ways in turns; the ratio is time without drafts over time with them, so above 1 drafts win.

# %% tags=["when-it-pays"]
from minimoe_course.measure import cpu_us
from minimoe_course.speculation_timing import deepened, step_calls

def run(model, batch, speculative):
    prompts = [tokenizer.encode(entry.split(":")[0] + ":") for entry in entries[:batch]]
    return lambda: minimoe.generate(model, prompts, 24, stop_tokens=[], speculative=speculative)

def ratios(models, rounds):  # {name: (model, batch)}: all runs take turns
    runs = {(name, s): run(*case, s) for name, case in models.items() for s in (False, True)}
    times = {key: median for key, (_, median, _) in cpu_us(runs, rounds).items()}
    return {name: times[name, False] / times[name, True] for name in models}

for batch, ratio in ratios({b: (model, b) for b in (1, 8, 64)}, rounds=5).items():
    result = run(model, batch, True)()
    print(f"{batch:2} prompts: acceptance {result.acceptance:.2f}, ", end="")
    print(f"{result.steps} calls instead of 24, ratio {ratio:.2f}")

# %% [markdown]
# It loses. (Calls are counted until the slowest prompt is done, and the first call only reads the prompts; so 24 / calls is less than $1+a$.) The price list of one step says why. **check** is the trunk's call on two tokens (the last one and the draft) in units of its call on one; **draft** is the module on both, with the head, in the same unit (it needs a cache entry for every token that stands, so after a kept draft it has two to read):

# %%
for batch in (1, 8, 64):
    times = cpu_us(step_calls(model, batch), rounds=9)
    one, two, module_us = (times[name][1] for name in ("one", "two", "draft"))
    least = accounting.break_even_acceptance(two / one, module_us / one)
    print(f"{batch:2} prompts: check {two / one:.2f}, draft {module_us / one:.2f}; ", end="")
    print(f"pays from an acceptance of {least:.2f}")

# %% [markdown]
# With acceptance $a$ a call gives $1 + a$ tokens and costs check + draft. So speculation pays if $a > \text{check} + \text{draft} - 1$. Compare the last numbers with the acceptances above them; where one is near 1 or more, no module however good could win. This one is dear: one layer, and a head over 2,048 words, beside a trunk of three layers. For one prompt a second token brings new experts to work; with more prompts most are at work anyway, but their arithmetic doubles. (The price list alone gives $(1+a)/(\text{check}+\text{draft})$; a run differs from it by the prompt, by getting the module ready, and by waiting for the prompt whose drafts fail most.)
#
# ### Exercise: the price of a guess
# ●●○○○ · 6 min · three numbers that you can measure for any pair of models.
#
# Let `drafts` guesses be made in a row, each kept with probability `acceptance` if all before it were kept. The trunk's call that checks them costs `check` and each draft costs `draft`, in units of a plain call. Return how many times as fast as plain decoding this is: $(1 + a + a^2 + \dots + a^{\text{drafts}}) \,/\, (\text{check} + \text{drafts} \cdot \text{draft})$.
# By hand: one draft, kept half of the time, check 1.25, draft 0.25: 1.5 tokens for 1.5 calls, so 1.0.

# %% tags=["exercise"]
def speedup(acceptance, drafts, check, draft):
    ...  # your code

speedup = check("05.speedup", speedup)
free = [speedup(acceptance, 1, 1.0, 0.0) for acceptance in (0.85, 0.90)]
print(f"V3 with free checks and drafts: {free[0]:.2f} to {free[1]:.2f}")

# %%
hints("05.speedup")

# %% [markdown]
# V3's 1.8 is below 1.85 to 1.90 because checks and drafts are not free. Turned round, 1.8 leaves 3 to 6% of a call for both. The work of one draft, by the table above, is 4.4% of a call: too much for the lower end, and at the upper end it leaves 1.2% for the check. So V3's numbers fit together only if acceptance was near 0.90 and checks are almost free, or if a draft takes less of the time than of the work.
#
# ### The same model, deeper
#
# Is depth the whole difference? Put **silent layers** behind nano's last one: layers whose output matrices are zero. They compute like any others and add nothing, so the deeper model says what nano says and keeps the same drafts. Only the price list changes. Where do you expect the ratio to pass 1?

# %%
depths = [3, 8, 24]
deep = {layers: deepened(model, layers) for layers in depths}
found = ratios({(layers, b): (deep[layers], b) for layers in depths for b in (1, 8)}, rounds=3)
by_batch = {f"{b} prompt{'s' * (b > 1)}": (depths, [found[layers, b] for layers in depths]) for b in (1, 8)}
show(
    lines(
        by_batch | {"plain decoding": (depths, [1] * 3)},
        "With a deeper trunk the same drafts lose less, then win a little, sooner with 8 prompts",
        "layers of the trunk (3 real, the rest silent)",
        "plain time / speculative time",
        grey=["plain decoding"],
        log="x",
    ),
    alt="Two curves rise with the number of layers from well below 1 at three layers. With 8 prompts the curve passes 1, with one prompt it comes near 1; neither comes near 1.8.",
)

# %% [markdown]
# In the run shown it turns round with eight prompts, and with one it comes to about even. These are short timings: another run on a busy machine had one prompt ahead at 8 layers and eight prompts ahead only at 24. What all runs showed is a clear loss at 3 layers and about even or a small gain at 24. Both stay far from $1 + a$, so what holds them down? A draft costs the same at every depth, so its share of a call shrinks; the check runs through every layer, so depth does not make it free. V3's argument is that a check is almost free, because a step is limited by *reading weights* from memory, and the weights are read once for both tokens. In a mixture of experts that is only half true. Two tokens rarely want the same experts, so a check for one prompt brings nearly twice the experts to work (for eight prompts most of them are at work anyway: part of the gap between the two curves). How many of a layer's 256 experts must be read for one call, if each token picks 8 at random?

# %% tags=["nbval-check-output"]
for batch in (1, 8, 64, 256):
    plain, checked = (accounting.experts_touched(256, 8, n) for n in (batch, 2 * batch))
    print(f"{batch:3} conversations: {plain:5.1f} experts for one token each, ", end="")
    print(f"{checked:5.1f} for two: {checked / plain:.2f} times")

# %% [markdown]
# With one conversation a check reads nearly twice the experts. With 64 it reads hardly more, since nearly all are needed anyway. With many hundreds the arithmetic, and no longer the reading, sets the pace, and then two tokens should cost about two. Between these two ends is where speculation can pay; the 1.8 was measured in V3's own service, and holds for such a load. The best we measured on this processor is the highest point of the curves, well below 1.8.

# %% tags=["nbval-check-output"]
receipt([
    ("V3's acceptance", "0.85 to 0.90", "source: arXiv 2412.19437 section 5.4.3"),
    ("the same, later", "0.80 to 0.90", "source: arXiv 2505.09343 section 2.3.3"),
    ("tokens a call at 0.85 and 0.90", "1.85, 1.90", "computed"),
    ("left for check and draft at 1.8", "1.028 to 1.056 calls", "asserted by tests/minimoe/accounting/test_speculation.py"),
    ("greedy drafts change nothing", "token for token", "asserted by tests/minimoe/inference/test_speculative.py"),
    ("sampled drafts change nothing", "in distribution", "asserted by tests/minimoe/inference/test_speculative.py"),
    ("embedding before state", "in the checkpoint", "asserted by tests/minimoe/model/test_mtp.py"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# 1. The module's training loss falls to 0.02 within a hundred steps while the trunk's is at 4. What is wrong?
#
# <details><summary>Answer</summary>
#
# Its label is the token that it reads, token $i+1$ instead of $i+2$. It copies.
#
# </details>
#
# 2. Somebody replaces the module by one that always drafts the word "the". What happens to the text, and to the time?
#
# <details><summary>Answer</summary>
#
# To the text nothing: $q$ is 1 for one word, and the rule is exact for any $q$. The acceptance becomes the probability of "the", and nearly every check is wasted.
#
# </details>
#
# 3. At temperature 1 acceptance can be higher than at temperature 0. How can a draw be guessed better than a certainty?
#
# <details><summary>Answer</summary>
#
# At temperature 0 the favourites must be the same word; a near tie of two words is a coin toss. At temperature 1 a draft is kept with probability $\sum \min(p, q)$, and two distributions can overlap well although their favourites differ.
#
# </details>
#
# 4. Why does a rejected draft leave no trace in the cache?
#
# <details><summary>Answer</summary>
#
# Its entry lies one place past what counts as known, and the next call writes its own token there.
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - The MTP module reads the trunk's state at token $i$ and the embedding of token $i+1$, and predicts token $i+2$; in training it is a second loss, in decoding it drafts.
# - Keep a draft with probability $\min(1, p/q)$, else draw from $(p-q)^+$: the text is distributed as without drafts, whatever the module says.
# - A call gives $1 + a$ tokens for the price check + draft. Beside our small trunk the draft and the check cost more than they bring; a deeper trunk and several prompts turn it round here, and DeepSeek reports 1.8 for V3.
#
# ## Sources
# DeepSeek-V3, arXiv 2412.19437 (section 2.2, equations 21-25, table 4, section 5.4.3); Insights into DeepSeek-V3, arXiv 2505.09343 (section 2.3.3); Leviathan, Kalman and Matias, arXiv 2211.17192 (the rule, its proof, the expected speed-up); Chen et al., arXiv 2302.01318; the order of the halves: `MtpLayer` in transformers 5.23. A module trained on the wrong shift: FlagAI-Open/OpenSeek issue 52.
#
# ## Next
# Chapter 06 takes the trained model to texts eight times as long as any it has seen.
