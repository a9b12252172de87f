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
# # 00 A 671-billion-parameter model on your laptop
#
# By the end you know where each of DeepSeek-V3's parameters sits and which of them work on a word, and you have watched a small model of the same shape, trained in two minutes on one processor core, route your own sentence.
#
# 35 minutes. Prerequisites: Python, and having seen a neural network layer once.
#
# You will be able to
# - say where "671B", "37B" and "685B" come from, and which of them you would have to download
# - tell what of the public story about DeepSeek can be recomputed, and what cannot be known from outside
# - read a routing map: which experts a token was sent to, and with which weights

# %% tags=["setup"]
import torch
import minimoe
from minimoe import accounting
from minimoe_course import *

setup(seed=0)

# %% [markdown] tags=["question"]
# ## 671 billion parameters, 37 billion used. Which 37?
#
# In January 2025 a Chinese laboratory's model moved stock markets. The reports said that it had 671 billion parameters but used 37 billion for each word, had been trained for 5.6 million dollars, and was sold 96% cheaper than its rival.
#
# The sizes can be recomputed from public files, in a minute, without the model; the costs can at least be checked for consistency. Start with the one that sounds like a trick: how can a model have 671 billion numbers and use 37 billion of them?

# %% [markdown] tags=["by-hand"]
# ## Two words, four experts
#
# A layer of DeepSeek-V3 has many small networks, the **experts**, and a **router** that gives each of them a score for each token (a token is a word or a piece of one). Here are two tokens and four experts. Each token may use two. Pick them with your finger before you run the cell.
#
# Names of tables end in capital letters that say what their axes are: `scores_ME` has M rows of tokens and E columns of experts. It is so in the whole course.

# %% tags=["by-hand", "nbval-check-output"]
first_E, second_E = [0.9, 0.8, 0.3, 0.2], [0.1, 0.7, 0.6, 0.2]  # each token's score for each expert
scores_ME = torch.tensor([first_E, second_E])
for token, scores_E in enumerate(scores_ME):
    best, chosen = scores_E.topk(2)
    gates = best / best.sum()
    print(f"token {token}: experts {chosen.tolist()}, gates {gates.numpy().round(3)}")

# %% [markdown]
# Each token was sent to its two best experts. Their outputs are added, weighted by the **gates**, which are the two scores divided by their sum. Expert 3 was stored in memory and did nothing. That is all the trick there is: *stored* and *used* are different numbers.

# %% [markdown] tags=["beat"]
# ## Open the file, count
#
# A model of this family is fixed by about thirty numbers in a file called `config.json`. This is the part of V3's that sets its size.

# %%
c = minimoe.V3
for name in (
    "hidden_size",
    "num_hidden_layers",
    "first_k_dense_replace",
    "moe_intermediate_size",
    "n_routed_experts",
    "n_shared_experts",
    "num_experts_per_tok",
):
    print(f"{name:24} {getattr(c, name):>6,}")

# %% [markdown]
# So: 61 layers. The first 3 are **dense**: they have one large network that serves every token. The other 58 have 256 routed experts, of which a token uses 8, and 1 **shared** expert that serves every token.
#
# One expert is a feed-forward block with three matrices of 7,168 × 2,048. Before you run the next cell, estimate: which share of the 671 billion sits in routed experts?

# %%
count = accounting.parameters(minimoe.V3)
guess(
    "00.share",
    "Which share of V3's parameters sits in routed experts?",
    count.parts["routed"] / count.total * 100,
    unit="%",
)

# %%
billions = {part: n / 1e9 for part, n in count.parts.items() if part != "mtp"}
print(f"all parameters: {count.total:,}")
show(
    bars(billions, "Nearly all of V3 is routed experts", "parameters (billions)"),
    alt="One long bar for the routed experts, 654 billion; attention is 11.4 billion and every "
    "other component is below 3 billion.",
)

# %% [markdown]
# ### Exercise: the experts of one layer
# ●○○○○ · 5 min · the two numbers whose ratio made the model famous.
#
# One expert has $3\, d f$ parameters ($d$ = `hidden`, $f$ = `width`). A layer stores `routed` + `shared` experts; a token uses `chosen` + `shared`.
# Return both counts. By hand: $d=2$, $f=4$, 3 routed, 1 shared, 2 chosen: $24 \cdot 4 = 96$ and $24 \cdot 3 = 72$.

# %% tags=["exercise"]
def expert_parameters(hidden, width, routed, shared, chosen):
    ...  # your code: return all_parameters, working_parameters

expert_parameters = check("00.expert_parameters", expert_parameters)
stored, used = expert_parameters(7168, 2048, 256, 1, 8)
print(f"a layer of V3: {stored / 1e9:.2f} billion stored, {used / 1e9:.3f} used on a token")

# %%
hints("00.expert_parameters")

# %% [markdown] tags=["beat"]
# ## Which 37?
#
# For one token, keep everything except the 248 experts of each layer that it was not sent to.

# %%
working = {part: n / 1e9 for part, n in count.activated_parts.items() if n > 1e8}
show(
    bars(working, "Of the 37 billion, 20 are chosen anew for every token", "parameters met by one token (billions)"),
    alt="Eight routed experts in each of 58 layers make 20.4 billion; attention 11.4; the other parts are below 3 each.",
)

# %% [markdown]
# So the answer to "which 37?" has two halves. About 16 billion are the same for every token: attention, the shared experts, the dense layers, the tables at both ends. The other 20.4 are the chosen experts, and they are chosen again in every layer and for every token.
#
# Does it sum to 37? That depends on the two tables, 0.93 billion numbers each. The **embedding** turns a token into a vector at the entrance; the **head** turns a vector into a score for each possible next token at the exit.

# %% tags=["nbval-check-output"]
active = count.activated
print(f"with embedding and head: {active.with_embedding_and_head / 1e9:.2f} billion")
print(f"with the head only:      {active.with_head / 1e9:.2f} billion")
print(f"with neither:            {active.with_neither / 1e9:.2f} billion")

# %% [markdown]
# Three honest answers. A token takes one of the embedding's 129,280 rows, so DeepSeek leaves that table out and says 37. Moonlight, a model of the same family, leaves out both. Comparing two models' "active parameters" means asking which of the three was printed.
#
# And the download page says 685B. The files also hold a small module that predicts the token after the next, with its own copies of embedding and head, and one scale for each block of 128 × 128 numbers, because most of the numbers are stored in 8 bits:

# %% tags=["nbval-check-output"]
file = accounting.stored(minimoe.V3)
print(f"main model {count.total:,} + prediction module {count.mtp:,}")
print(f"+ two copied tables {count.embedding + count.head:,} + scales {file.scales:,}")
print(f"= {file.total:,} numbers in {file.bytes / 1e9:.1f} GB")

# %% [markdown]
# That is what you would have to download: 689 GB. The prediction module can be left out; not one of the 671 billion can, because the next token may need it.

# %% [markdown] tags=["beat"]
# ## The story, claim by claim
#
# This is how newspapers told it in February 2025, and what you will be able to check. "Later" marks chapters that are being written.
#
# | as told | what can be checked | where |
# |---|---|---|
# | "a fraction of the cost", $5.6 million | GPU-hours × rental price of the final run; not research, data, staff or failed runs | below |
# | "2,000 GPUs for training" | 2,048 H800; GPU-hours ÷ GPUs = days | below |
# | "96% lower operational costs" | the ratio of two *list prices* for output tokens: $2.19 and $60 a million. A price is not a cost | below |
# | "specialised experts who step in only when needed" | 37 of 671 billion a token: yes. Specialised in what? | here, later |
# | "comparable performance" | the published tables; what one sampled answer and a majority of 64 answers each mean | later |
# | V3 as the *newer* model, after R1 | the order is reversed: V3 is of December 2024, R1 of January 2025 was trained from V3's base | dates of the two papers |
# | "open source" | weights and inference code are open; training data and training code are not | licences |
# | "bigger is no longer better" | loss per FLOP, per second and per byte at our scale, including where it fails | later |
# | energy, sustainability | GPU-hours × power is a range with assumptions; it cannot be verified from outside | cannot |
# | freely modifiable, hence exploitable | R1's own safety evaluation, with and without its risk control | later |
#
# Two of them take one line each; the days are an exercise.

# %% tags=["nbval-check-output"]
hours = accounting.V3_TRAINING_GPU_HOURS
print(
    "GPU-hours:",
    ", ".join(f"{stage} {h:,}" for stage, h in hours.items()),
    "->",
    f"{sum(hours.values()):,}",
)
print(f"rent at $2 an hour: ${accounting.dollars(sum(hours.values())) / 1e6:.3f} million")
cheaper = accounting.price_reduction(2.19, 60.0)
print(f"$2.19 against $60 a million output tokens: {cheaper:.2%} lower")

# %% [markdown]
# The arithmetic holds. Whether the GPU-hours are true cannot be recomputed, but they can be cross-checked. Training V3 on one token takes about 250 billion multiplications and additions (FLOPs; chapter 02 counts the attention part). Together with 14.8 trillion tokens the GPU-hours imply a speed for each GPU, and an H800 can do at most 989 trillion FLOPs a second in 16-bit arithmetic.

# %% tags=["nbval-check-output"]
flops_per_token = accounting.flops(minimoe.V3, 4096).training
speed = accounting.tokens_per_second_per_gpu(14.8e12, hours["pre-training"])
print(f"{flops_per_token / 1e9:.0f} billion FLOPs a token, {speed:,.0f} tokens a second on each GPU")

# %%
share = accounting.mfu(flops_per_token, speed)
guess("00.mfu", "Which share of the GPU's 989 trillion FLOPs a second is that?", share * 100, unit="%")

# %% [markdown]
# Meta reports 38 to 43% for LLaMA 3 on a similar GPU (arXiv 2407.21783, table 4), so the claim is plausible. 90% would have been a lie, 4% a waste. (V3 did much of this in 8-bit arithmetic, which is twice as fast; measured against that peak the share is half.) R1's own training came on top: 147,000 GPU-hours, $294,000 at the same price.
#
# ### Exercise: the rent
# ●○○○○ · 3 min · so that no headline about training costs catches you unprepared.
#
# `gpus` GPUs share `gpu_hours`. Return how many days they need, and what they cost at `price` dollars a GPU-hour: (days, dollars), with $\text{dollars} = \text{GPU-hours} \times \text{price}$.
# By hand: 48 GPU-hours on 2 GPUs at $3: one day, $144.

# %% tags=["exercise"]
def rent(gpu_hours, gpus, price):
    ...  # your code: return days, dollars

rent = check("00.rent", rent)
for name, hours_used, gpus in (("V3, pre-training", 2_664_000, 2048), ("R1", 147_000, 512)):
    days, dollars = rent(hours_used, gpus, 2.0)
    print(f"{name:16} on {gpus:,} GPUs: {days:.0f} days, ${dollars:,.0f}")

# %%
hints("00.rent")

# %% [markdown] tags=["beat"]
# ## The same model, small
#
# Nobody runs 689 GB on a laptop. But nothing in the architecture needs that size. `data/nano` is a model with all of V3's parts, trained for two minutes on one processor core, on the definitions of a dictionary: a dense first layer, two layers of 16 routed experts and a shared one, the attention of chapter 02, and the module that looks two tokens ahead.

# %%
from minimoe.tokenizer import Tokenizer

model = minimoe.load(data_path("nano"), dtype=torch.float32)
tokenizer = Tokenizer.load(data_path("nano"))
small = accounting.parameters(model.config)
print(f"{small.total:,} parameters, {small.activated.with_head:,} for a token; {small.mtp:,} more look ahead")
prompt = "river (noun):"
result = minimoe.generate(
    model, [tokenizer.encode(prompt)], max_new_tokens=40, temperature=0.6, top_p=0.9, seed=1
)
print(prompt + tokenizer.decode(result.tokens[0], skip_special=True))

# %% [markdown]
# It has learned what a definition looks like and not much about rivers; two minutes are two minutes. What matters here is that you can look inside. One pass over a sentence gives, for every layer, the scores, the chosen experts and the gates:

# %%
text = "dog (noun): a small animal that lives with people"
ids_BT = torch.tensor([tokenizer.encode(text)])
routing = model(ids_BT).routing[1]  # layer 1, the first that routes
for position in range(4):
    gates, order = routing.gates_MK[position].sort(descending=True)
    experts = routing.chosen_MK[position][order].tolist()
    pairs = ", ".join(f"{e} ({g:.2f})" for e, g in zip(experts, gates.tolist()))
    print(f"{tokenizer.decode([ids_BT[0, position].item()])!r:10} -> experts {pairs}")

# %% [markdown]
# The gates of a token add up to 2.5, not to 1: V3 multiplies them by a constant, `routed_scaling_factor`, and so does this model.
#
# While it writes, the model remembers each past token. V3's attention stores one short vector for all heads instead of a key and a value for each (chapter 02). What a token leaves behind, at two bytes a number:

# %% tags=["nbval-check-output"]
for name, m in (("nano", model.config), ("DeepSeek-V3", minimoe.V3)):
    numbers, size = accounting.cache_elements(m), accounting.cache_bytes(m)
    print(f"{name:12} {numbers:>7,} numbers, {size:>7,} bytes a token")

# %% [markdown] tags=["beat"]
# ## One expert is overworked
#
# Nothing so far stops the router from sending everything to the same few experts. V3's answer is a **bias** for each expert. Four experts again; a token's scores are 0.9, 0.8, 0.3, 0.2, and two may serve it. Expert 0 has been overworked for the last hundred steps, so its bias was pushed down to -0.7; expert 2 has been idle, so its bias was raised to 0.2.
#
# Which two serve the token now? And what are the gates? Write both down before you run the cell.

# %% tags=["nbval-check-output"]
from dataclasses import replace
from minimoe.model.router import choose

one_group = dict(n_group=1, topk_group=1, routed_scaling_factor=1.0)
four = replace(minimoe.NANO, n_routed_experts=4, num_experts_per_tok=2, **one_group)
scores_ME = torch.tensor([[0.9, 0.8, 0.3, 0.2]])
for bias_E in (torch.zeros(4), torch.tensor([-0.7, 0.0, 0.2, 0.0])):
    chosen_MK, gates_MK = choose(scores_ME, bias_E, four)
    gates = [round(g, 3) for g in gates_MK[0].tolist()]
    print(f"bias {bias_E.numpy()}: experts {chosen_MK[0].tolist()}, gates {gates}")

# %% [markdown]
# The choice changed: 1 and 2. The gates are made of the plain scores, 0.8 and 0.3. With the biased ones, 0.8 and 0.5, they would be 0.615 and 0.385: balancing would change what the layer computes, and training would push back. A widely used inference engine shipped exactly that mistake at first.
#
# ### Exercise: choose without cheating
# ●●○○○ · 8 min · the one line of V3's router that is most often written wrong.
#
# Choose the $K$ experts with the largest $s_i + b_i$; return their ids and the gates $g_i = s_i / \sum_{j\,\text{chosen}} s_j$.
# By hand: the two lines above.

# %% tags=["exercise"]
def choose_experts(scores_E, bias_E, K):
    ...  # your code: return chosen_K, gates_K

choose_experts = check("00.choose_experts", choose_experts)

# %%
hints("00.choose_experts")

# %% [markdown] tags=["play"]
# ## Play
#
# Type a sentence of your own and see where its tokens go. Rows are experts, columns are tokens, colours are gates; the bars on the right count each expert's tokens, the busiest in orange.
#
# Two more words for the picture. V3 puts its experts into **groups** (this model: 4 groups of 4, a line between them). A token first picks its best groups (here 2 of 4), and then its experts inside these only; the groups it gave up are hatched. In V3 a group lives on one machine, so a token travels to four machines at most. And **MaxVio** says how far the busiest expert is above the average: 0 would be perfectly even, 1 means twice the average.
#
# **Try first:** stay on layer 1, switch the bias off, and watch MaxVio. Then type a longer text: with a dozen tokens the counts are mostly chance.

# %% tags=["play"]
from minimoe_widgets import RoutingExplorer

explorer = RoutingExplorer(model, tokenizer, text=text)
show(explorer, alt=explorer.alt_text())

# %% [markdown]
# ## Tiny and real
#
# The small model has all the parts, but not the proportions: it uses half of its parameters on a token. Look at the third row.

# %% tags=["tiny-vs-real", "nbval-check-output"]
def facts(m):
    total, used = accounting.parameters(m).total, accounting.parameters(m).activated.with_head
    layers = f"{m.num_hidden_layers}, {m.first_k_dense_replace}"
    experts = f"{m.n_routed_experts}, {m.num_experts_per_tok}"
    groups = f"{m.n_group}, {m.topk_group}"
    return total, used, f"{used / total:.1%}", layers, experts, groups, accounting.cache_bytes(m)


what = (
    "parameters; used on a token, with head; share used; layers, of which dense; "
    "routed experts, chosen; groups, kept; cache, bytes a token"
).split("; ")
paper = ["arXiv 2412.19437 section 4.2"] * 3
source = ["computed", "computed; the paper says 37B", "computed", *paper, "computed"]
compare_table(zip(what, facts(model.config), facts(minimoe.V3), source), ours="nano")

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# A token uses 8 of 256 experts, so its arithmetic is that of a 37-billion model. Memory is another matter. All 671 billion must be *stored*, and what must be *read* for a step depends on how many tokens share it: the next token goes to other experts. If tokens chose at random, how many of the 256 experts of a layer would 64 tokens need?

# %%
guess(
    "00.touched",
    "64 tokens, each sent to 8 of 256 experts at random: how many different experts?",
    accounting.experts_touched(256, 8, 64),
)

# %% [markdown]
# ### Exercise: how many experts does a batch need?
# ●●○○○ · 6 min · it explains why V3 is cheap to serve for thousands of users at once and expensive for one.
#
# Each of `tokens` tokens draws $K$ of $E$ experts at random. Return how many experts are used at least once, on average. One expert is missed by one token with probability $1 - K/E$; go on from there.
# By hand: $E=4$, $K=2$, two tokens: each expert is missed by both with probability 1/4, so 3 are used.

# %% tags=["exercise"]
def touched(E, K, tokens):
    ...  # your code

touched = check("00.touched", touched)

# %%
hints("00.touched")

# %% [markdown]
# Do real routers choose at random? Count it on the small model: 512 tokens of dictionary entries that were held out of its training, in layer 1; for each batch size the mean over 200 random batches.

# %% tags=["when-it-pays"]
from minimoe.training import load_corpus

held_out = "\n".join(load_corpus(data_path("wordnet")).validation[:60])
ids_BT = torch.tensor([tokenizer.encode(held_out)[:512]])
chosen_MK = model(ids_BT).routing[1].chosen_MK


def used_by(n, draws=200):
    batches = [chosen_MK[torch.randperm(len(chosen_MK))[:n]] for _ in range(draws)]
    return sum(len(batch.unique()) for batch in batches) / draws


tokens = [1, 2, 4, 8, 16, 32]
curves = {"nano": [used_by(n) for n in tokens], "at random": [touched(16, 4, n) for n in tokens]}
show(
    lines(
        {name: (tokens, experts) for name, experts in curves.items()},
        "Eight tokens together need most of the 16 experts", "tokens in the batch", "experts needed",
        grey=["at random"], log="x",
    ),
    alt="Both curves rise from 4 experts for one token to nearly 16 for 32 tokens; the model's lies close to chance.",
)

# %% [markdown]
# A trained and balanced router is close to chance here. For V3 the formula says, for one layer, with the experts that must be read *for each token* on the right:

# %% tags=["nbval-check-output"]
for n in (1, 64, 1000):
    experts = touched(256, 8, n)
    print(f"{n:5,} tokens together: {experts:5.1f} of 256 experts read, {experts / n:.2f} a token")

# %% [markdown]
# So the idea pays in three currencies differently. *Arithmetic*: always, a token costs 37 billion parameters' worth. *Reading memory*: a single token reads 8 experts a layer; a thousand together read all 256, but share them, a quarter of an expert each. *Holding memory*: never, all 671 billion must be there. Someone who runs V3 for one user pays for the memory of 671 and uses 37. Someone who serves thousands spreads the experts over many GPUs and keeps all of them busy: DeepSeek's own service produces its answers on 144 GPUs at a time (open-infra-index, day 6).

# %% tags=["nbval-check-output"]
tests = "asserted by tests/minimoe/accounting/test_weights.py"
receipt([
    ("V3, all parameters", count.total, tests),
    ("V3, used on a token (with head)", active.with_head, tests),
    ("rent of the final run, dollars", 5_576_000, "source: arXiv 2412.19437 table 1; recomputed above"),
    ("R1's training, dollars", 294_000, "source: Guo et al., Nature 645 (2025), table 7"),
    ("experts needed by 64 tokens at random", round(touched(256, 8, 64), 1), "computed"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# 1. A colleague says: "37B active, so it fits on a GPU with 80 GB." What is wrong?
#
# <details><summary>Answer</summary>
#
# The 16 billion that every token shares would fit; the other 20 are known only after routing, layer by layer, and may be any of 654.
#
# </details>
#
# 2. If V3 had 512 routed experts and still chose 8, what would happen to 671B and to 37B?
#
# <details><summary>Answer</summary>
#
# The routed experts would double to about 1,308 billion; the parameters used on a token would grow by the router's rows alone (256 × 7,168 for each of 58 layers, 0.1 billion).
#
# </details>
#
# 3. "96% cheaper": cheaper than what, for whom?
#
# <details><summary>Answer</summary>
#
# The list price of a million output tokens, against one competitor's list price, for customers. It says nothing about what either spends.
#
# </details>
#
# 4. Break it: what would you see in the routing map if all biases were set to a large negative number for the experts of one group?
#
# <details><summary>Answer</summary>
#
# No token would choose them; the others would share the work, and MaxVio would rise. The gates of the chosen would still add up to the same constant.
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - V3 stores 671 billion parameters, nearly all in routed experts, and uses 37 billion on a token: 16 of them shared by all tokens, 20 chosen anew in every layer.
# - The public numbers on size, price and time can be recomputed; GPU-hours can only be checked for consistency.
# - Using few experts a token saves arithmetic always, memory to hold never, and memory to read depends on how many tokens share a step.
#
# ## Sources
# DeepSeek-V3, arXiv 2412.19437 (sections 2 and 4.2, table 1); DeepSeek-R1, arXiv 2501.12948 and Nature 645 (2025); Insights into DeepSeek-V3, arXiv 2505.09343; deepseek-ai/open-infra-index, day 6; Moonlight, arXiv 2502.16982; the LLaMA 3 report, arXiv 2407.21783; list prices of January 2025 ($2.19 for R1, $60 for o1, a million output tokens). The bias that leaked into the gates: vllm-project/vllm, pull request 12002.
#
# ## Next
#
# | chapter | | minutes |
# |---|---|---|
# | 00 | A 671-billion-parameter model on your laptop | 35 |
# | 01 | The transformer you already half know | 45 |
# | 02 | MLA: attention compression | 40 |
# | later | the experts, balancing, predicting two tokens, long context, pretraining; then R1: policy gradients, R1-Zero, the four stages, distillation, safety; then the GPU kernels and FP8 | |
