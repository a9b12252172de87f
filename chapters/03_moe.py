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
# # 03 DeepSeekMoE: many small experts
#
# By the end you have written the layer that holds 654 of DeepSeek-V3's 671 billion parameters, and you know what such a layer gained and cost against a plain one in 30 training runs: per step, per FLOP and per second.
#
# 45 minutes, 85 with all five exercises. Prerequisites: chapter 00 (experts, router, gates, bias); the feed-forward block of chapter 01.
#
# You will be able to
# - cut a feed-forward block into experts without a change in its arithmetic, and count what a token meets
# - write V3's router (sigmoid, bias, groups, gates) and the layer around it, and name the mistakes that ran unnoticed elsewhere
# - judge from five seeds whether experts pay, in which currency, and what each ingredient adds at this size

# %% tags=["setup"]
import torch
import minimoe
from minimoe_course import *

setup(seed=0)

# %% [markdown] tags=["question"]
# ## 28 teams, or how many?
#
# Mixtral, an open model of 2023, has 8 experts in every layer and sends each token to 2 of them. Call these two the token's **team**. There are $\binom{8}{2} = 28$ teams, so a layer is 28 different networks, and each token gets one.
#
# DeepSeek-V3 has 256 experts in a layer and sends each token to 8. They are narrow: 8 of them cost what one wide expert would. How many teams are there now?

# %%
from math import comb

guess("03.teams", "In how many ways can 8 of 256 experts be chosen?", comb(256, 8))

# %% [markdown]
# Is that an advantage, or only a number?

# %% [markdown] tags=["by-hand"]
# ## Two tokens by hand
#
# Two tokens of one number each: 2 and 3. Four experts, so plain that one can read off who has worked: expert 0 multiplies by 1, expert 1 by 10, expert 2 by 100, expert 3 by 1000. Token 0 is sent to experts 0 and 2 with gates 0.5 and 0.5, token 1 to experts 3 and 2 with gates 0.75 and 0.25. A shared expert, which multiplies by 1, serves both. Work out what comes out before you run the cell.

# %% tags=["by-hand", "nbval-check-output"]
x_M, factor_E = torch.tensor([2.0, 3.0]), torch.tensor([1.0, 10.0, 100.0, 1000.0])
chosen_MK = torch.tensor([[0, 2], [3, 2]])
gates_MK = torch.tensor([[0.5, 0.5], [0.75, 0.25]])

out_M = x_M * 1.0  # the shared expert
for e, factor in enumerate(factor_E):
    tokens, slots = (chosen_MK == e).nonzero(as_tuple=True)  # who was sent here
    print(f"expert {e}: tokens {tokens.tolist()}, gates {gates_MK[tokens, slots].tolist()}")
    out_M = out_M.index_add(0, tokens, gates_MK[tokens, slots] * factor * x_M[tokens])
print("out:", out_M.tolist())

# %% [markdown]
# Token 0: $2 + 0.5 \cdot 2 + 0.5 \cdot 200 = 103$. Token 1: $3 + 0.75 \cdot 3000 + 0.25 \cdot 300 = 2328$. The loop goes expert by expert, not token by token: each expert runs once on all tokens that were sent to it, and expert 1 does not run at all. This is the whole layer; what is left is who decides, and how finely the experts are cut.

# %% [markdown] tags=["beat"]
# ## Cut a sum anywhere
#
# The feed-forward block of chapter 01 has a hidden layer of $F$ units. For each unit $u$ there is a row in $W_{gate}$, a row in $W_{up}$ and a column in $W_{down}$, and the units never look at each other ($W_{gate}$ gates these units; the router's gates are something else):
#
# $$\mathrm{FFN}(x) = \sum_{u=1}^{F} W_{down}[:, u]\; \mathrm{silu}(W_{gate}[u] \cdot x)\; (W_{up}[u] \cdot x)$$
#
# Here is the dense block of the small model's first layer, 256 units wide, cut into 8 blocks of 32. How large will the difference be?

# %%
from torch.nn.functional import silu

model = minimoe.load(data_path("nano"), dtype=torch.float32).requires_grad_(False)
dense = model.model.layers[0].mlp
x_MD = torch.randn(5, model.config.hidden_size)
w_gate, w_up, w_down = dense.gate_proj.weight, dense.up_proj.weight, dense.down_proj.weight
pieces = []
for u in torch.arange(256).split(32):
    hidden = silu(x_MD @ w_gate[u].T) * (x_MD @ w_up[u].T)
    pieces.append(hidden @ w_down[:, u].T)
error = (dense(x_MD) - sum(pieces)).abs().max()
largest = dense(x_MD).abs().max()
print(f"{len(pieces)} pieces; largest output {largest:.2f}, largest difference {error:.0e}")

# %% [markdown]
# Rounding. So a wide block *is* a team of narrow ones that always work together. A mixture of experts stores more pieces than it uses and lets each token choose. And one may cut as finely as one likes: half the width, twice the experts, twice as many chosen, and neither the parameters that are stored nor those that a token meets have changed. (From here on $F$ is the width of one expert.) DeepSeek calls this **fine-grained segmentation**. What changes is the number of teams. Here is V3's layer, cut more coarsely and more finely:

# %% tags=["nbval-check-output"]
F, E, K = 2048, 256, 8
cuts = {k: (F * K // k, E * k // K) for k in (1, 2, 4, 8, 16)}
for k, (width, experts) in cuts.items():
    print(f"{experts:4} experts of width {width:6,}, {k:2} a token: {comb(experts, k):,} teams")

# %% [markdown]
# All five rows store the same parameters and cost the same arithmetic, but for the router. The router has one vector for each expert, called its **centroid**, as long as the hidden state ($D$ numbers), and compares a token with all of them: finer cutting makes it larger. A fair dense opponent must be given that, too.
#
# ### Exercise: the dense twin
# ●○○○○ · 5 min · without it no comparison of dense and MoE means anything.
#
# How wide is a dense block with as many parameters as a token meets in an MoE layer? The token meets $K$ routed and `shared` shared experts of width $F$ and the router's $E$ centroids (its bias does not count). A block of width $F$ has $3 D F$ parameters, so
# $3 D \cdot \text{width} = 3 D F\,(K + \text{shared}) + D E$. Return the width as it comes, without rounding.
# By hand: $F=6$, $E=3$, $K=2$, one shared: $6 \cdot 3 + 1 = 19$.

# %% tags=["exercise"]
def dense_width(F, E, K, shared):
    ...  # your code

dense_width = check("03.dense_width", dense_width)
print(f"V3's layer is as dear as a dense one of width {dense_width(2048, 256, 8, 1):,.0f}")

# %%
hints("03.dense_width")

# %% [markdown]
# V3's first three layers are dense, and their width is 18,432: nine times 2,048. DeepSeek gave them their MoE layers' cost, but for the router's 85.
#
# More teams are an argument, not a result. DeepSeek's result, with models of 2 billion parameters: 16 experts of which 2 serve a token reach a loss of 1.867. Cut each in four: 64, of which one serves every token and 7 of the other 63 are chosen. They reach 1.808 with the same arithmetic. A dense model with blocks twice as wide as what a token meets there reaches 1.908 (arXiv 2401.06066, table 1; the dense model in appendix B). Ours comes at the end.

# %% [markdown] tags=["beat"]
# ## Scores that do not compete
#
# A token's logit for an expert is the product of its hidden state with the expert's centroid. V2 turned the logits into scores with a softmax. V3 takes the sigmoid of each one. Four experts with logits 2, 1, -1, -2; then the last logit rises to 2, because that expert learned something. Which scores change, under either?

# %% tags=["nbval-check-output"]
for last in (-2.0, 2.0):
    logits_E = torch.tensor([2.0, 1.0, -1.0, last])
    softmax, sigmoid = logits_E.softmax(-1), logits_E.sigmoid()
    print("softmax", softmax.numpy().round(2), "  sigmoid", sigmoid.numpy().round(2))

# %% [markdown]
# Under a softmax all of them: one expert can only rise if others fall, and with 256 experts the average score is 1/256. Under the sigmoid the others stay. Every score is a judgement on its own scale from 0 to 1, and that suits the balancing bias of chapter 00: a step of 0.001, V3's, means the same for all tokens and experts.
#
# But sigmoid scores add up to anything. So V3 divides the chosen ones by their sum and multiplies by a constant, `routed_scaling_factor`, 2.5 in V3 (the paper does not say why). With $e_i$ for the centroid of expert $i$:
#
# $$g_i = 2.5 \cdot \frac{s_i}{\sum_{j\ \text{chosen}} s_j} \qquad s_i = \sigma(x \cdot e_i) \qquad \text{chosen} = \text{the } K \text{ largest } s_i + b_i$$
#
# ### Exercise: from logits to gates
# ●●○○○ · 7 min · chapter 00's function, complete: many tokens, sigmoid, scale.
#
# Return the chosen experts' ids and their gates, both `[M, K]`, by the formula above with `scale` for 2.5. The order within a row is free.
# By hand: one token with scores 0.9, 0.8, 0.3, 0.2, no bias, $K = 2$, scale 2.5: experts 0 and 1, gates $2.5 \cdot 0.9 / 1.7 = 1.32$ and $1.18$.

# %% tags=["exercise"]
def gates(logits_ME, bias_E, K, scale):
    ...  # your code: return chosen_MK, gates_MK

gates = check("03.gates", gates)

# %%
hints("03.gates")

# %% [markdown] tags=["beat"]
# ## Groups: a limit for the network
#
# V3 was trained with its experts spread over 8 machines, 32 of each layer's experts on each. A token's hidden state must travel to every machine on which one of its experts lives, and the cables between machines are the slowest part. Suppose the 8 experts fall anywhere:

# %%
team = torch.rand(20000, 256).topk(8).indices  # 20,000 random teams
machines_M = torch.tensor([len(set(row)) for row in (team // 32).tolist()])
guess(
    "03.machines",
    "How many of the 8 machines does a random team of 8 experts reach, on average?",
    machines_M.float().mean().item(),
    unit="machines",
)

# %% [markdown]
# (The last exercise computes this number.) V3 allows 4 machines. The 32 experts of one machine are a **group**; a token first picks 4 of the 8 groups and then its 8 experts inside these. Groups are picked by the same biased scores: a group's score is the **sum of its two best** experts' (two, because 8 experts over 4 groups are two a group).
#
# $$\text{score}_g = \text{the sum of the two largest } s_i + b_i \text{ in group } g$$
#
# V2 took the best expert alone. Take two groups of two experts, scores 0.9 and 0.1 in the first, 0.6 and 0.5 in the second; one group may be kept, and $K = 2$. V2's rule keeps the first group for its star, and the token gets 0.9 and 0.1. V3's keeps the second: 0.6 and 0.5.
#
# The limit costs teams. How many are left?

# %%
guess(
    "03.inside",
    "Which share of all teams of 8 reaches no more than four machines?",
    (machines_M <= 4).float().mean().item() * 100,
    unit="%",
    tolerance=0.15,
)

# %% [markdown]
# Few, and still plenty: of $4 \cdot 10^{14}$ teams $7 \cdot 10^{13}$ are left.
#
# ### Exercise: choose inside the best groups
# ●●●○○ · 10 min · two wrong versions of this function have been released, and one of them works until biased scores turn negative.
#
# `biased_ME` holds scores plus bias. Group $g$ is the $g$-th run of $E/\text{groups}$ neighbouring experts. Keep the `keep` groups whose two best experts have the largest sum, exclude all other experts, and return the ids of the $K$ best that are left, `[M, K]`. Formula: $\text{score}_g$ above.
# By hand: `[0.9, 0.1, 0.6, 0.5]` in 2 groups, keep 1, $K=2$: experts 2 and 3.

# %% tags=["exercise"]
def choose_in_groups(biased_ME, groups, keep, K):
    ...  # your code: return chosen_MK

choose_in_groups = check("03.choose_in_groups", choose_in_groups)

# %%
hints("03.choose_in_groups")

# %% [markdown]
# ### Break it: a mask of zeros
#
# How does one exclude an expert? An older version of `transformers`' DeepSeek-V3 set its score to 0.0. Scores are sigmoids, above 0, so that seemed low enough. But what is masked are the *biased* scores, and nothing keeps those above 0. Here are the biases of the small model's layer 1:

# %%
from minimoe.model.router import allowed_experts
from minimoe.tokenizer import Tokenizer
from minimoe.training import evaluate, load_corpus
from minimoe.training.data import encode_documents, pack

tokenizer = Tokenizer.load(data_path("nano"))
entries = load_corpus(data_path("wordnet")).validation
rows_BT = pack(encode_documents(tokenizer, entries), 128)[:32]  # held-out dictionary entries
routing = model(rows_BT, mtp=False).routing[1]
print("lowest bias {:.2f}, highest {:.2f}".format(*routing.bias_E.aminmax()))
print("lowest biased score", round((routing.scores_ME + routing.bias_E).min().item(), 2))

# %% [markdown]
# All 16 have drifted upwards together. Nothing holds their sum: when a few busy experts stand against many idle ones, most biases rise; the other way round, most fall. Lower all of them by the same amount, which changes no order and so must change no choice. With a mask of zeros, which share of the choices falls on an excluded expert once all are lowered by 1?

# %%
biased_ME = routing.scores_ME + routing.bias_E
allowed_ME = allowed_experts(biased_ME, model.config)


def outside(lowered, mask):
    chosen_MK = (biased_ME - lowered).masked_fill(~allowed_ME, mask).topk(4, dim=-1).indices
    return (~allowed_ME.gather(1, chosen_MK)).float().mean().item() * 100


guess(
    "03.zeros",
    "Masked with zeros, all biases lowered by 1: which share of the choices is outside the kept groups?",
    outside(1.0, 0.0),
    unit="%",
)

# %%
lowered = [i / 20 for i in range(29)]
masks = {"0.0": 0.0, "-inf": float("-inf")}
curves_of = {name: (lowered, [outside(by, mask) for by in lowered]) for name, mask in masks.items()}
show(
    lines(
        curves_of, "A mask of 0.0 works until biased scores fall below 0",
        "all biases lowered by", "choices outside (%)",
    ),
    alt="Masked with -inf the share is zero everywhere. Masked with 0.0 it is zero up to 0.45, "
    "then rises steeply to 100 percent.",
)

# %% [markdown]
# No exception. Lowered by 0.35 every bias is negative, and nothing happens: the scores still carry the sums above 0. The mistake shows when enough of a token's *biased scores* are below 0, which is why the exercise's check has such a token.

# %% [markdown] tags=["beat"]
# ## An expert that serves everybody
#
# Every token needs some of the same: that a comma follows, that the sentence goes on. If only routed experts exist, each of them has to learn it. DeepSeekMoE takes one expert (V2: two) out of the competition: it serves every token, without a gate. The hope is that the **shared expert** keeps what is common, so that the routed ones may differ.
#
# How much is it missed? DeepSeek removed it from a trained model and let each token have one more routed expert instead, so that the cost stayed the same. Loss: 1.808 before, 2.414 after (arXiv 2401.06066, section 4.5). Do the same to both MoE layers of the small model. And compare: what does it lose without routed expert 0 in both layers, or 1, or any other, or without all?

# %%
from copy import deepcopy
from dataclasses import replace


def loss_after(change):
    changed = deepcopy(model)
    for layer in changed.model.layers[1:3]:
        change(layer.mlp)
    return evaluate(changed, rows_BT)


def no_shared(moe):
    moe.shared_experts.down_proj.weight.zero_()


def fifth_instead(moe):
    no_shared(moe)
    moe.gate.config = replace(model.config, num_experts_per_tok=5)  # `gate` is the router, as in DeepSeek's code


def without(*experts):
    return lambda moe: [moe.experts[e].down_proj.weight.zero_() for e in experts]


# %%
before = evaluate(model, rows_BT)
lost = {
    "the shared expert": loss_after(no_shared) - before,
    "the shared one, a 5th instead": loss_after(fifth_instead) - before,
    "one routed expert (mean of 16)": sum(loss_after(without(e)) for e in range(16)) / 16 - before,
    "all routed experts": loss_after(without(*range(16))) - before,
}
print(f"loss before: {before:.3f} nats a token")
show(
    bars(
        lost, "The shared expert serves four times the tokens of a routed one and is missed about tenfold",
        "loss added by removing it (nats a token)", form="{:.3f}",
    ),
    alt="Four bars: all routed experts about 0.18; the shared one about 0.03, slightly more with a "
    "fifth routed one in its place; one routed expert about 0.003.",
)

# %% [markdown]
# A fifth routed expert does not make up for the shared one: that agrees with the paper. The size does not: 0.04 here, 0.61 there. Without all its routed experts the small model loses far more than sixteen times what one of them is worth, so they stand in for each other.
#
# Being missed is not yet keeping what is common: whether it does that stays open here. So does what a model trained without it would have done; that comes below.

# %% [markdown] tags=["beat"]
# ## Dispatch
#
# The loop by hand asked for each expert "who was sent here?" and looked through all **assignments** (a token and one of its experts) to find out. With 256 experts that is 256 searches. The faster way sorts the assignments by expert, once; afterwards each expert's tokens lie side by side, and `ends` says where each expert's stretch ends. Our two tokens:

# %% tags=["nbval-check-output"]
chosen_MK = torch.tensor([[0, 2], [3, 2]])
order_A = chosen_MK.flatten().argsort(stable=True)  # assignments, sorted by expert
print("experts:", chosen_MK.flatten()[order_A].tolist())
print("tokens: ", (order_A // chosen_MK.shape[1]).tolist())
print("ends:   ", chosen_MK.flatten().bincount(minlength=4).cumsum(0).tolist())

# %% [markdown]
# Expert 0 gets token 0, expert 1 the empty stretch from 1 to 1, expert 2 the tokens 0 and 1, expert 3 token 1. `minimoe` calls the two ways `loop` (the definition) and `grouped` (sorted; the router's groups have no part in it), and a test holds them to be equal. On GPUs the sorted rows travel between machines: **dispatch**, and **combine** on the way back.
#
# ### Exercise: the layer
# ●●●○○ · 10 min · with it you have written all of DeepSeekMoE.
#
# $\text{out}_m = \text{shared}(x_m) + \sum_k g_{mk}\, \text{expert}_{\,\text{chosen}[m,k]}(x_m)$, of shape `[M, D]`. `experts` is a list of functions on rows, `shared` one such function. Run each expert only on the tokens that were sent to it; the check counts.
# By hand: experts $x^2$, $10x^2$, $100x^2$, shared $5x^2$; $x = 1$ sent to experts 0 and 2 with gates 0.5 and 1.5 gives $5 + 0.5 + 150 = 155.5$.

# %% tags=["exercise"]
def moe_layer(x_MD, experts, shared, chosen_MK, gates_MK):
    ...  # your code

moe_layer = check("03.moe_layer", moe_layer)

# %%
hints("03.moe_layer")

# %% [markdown]
# Put your three functions together, with the trained model's weights, against the library's layer. `gates` knows no groups, so it is shown the four chosen logits alone.

# %%
moe = model.model.layers[1].mlp
x_MD = torch.randn(50, model.config.hidden_size)
right_BTD, _ = moe(x_MD[None])
logits_ME = x_MD @ moe.gate.weight.T
chosen_MK = choose_in_groups(logits_ME.sigmoid() + moe.gate.e_score_correction_bias, 4, 2, 4)
order_MK, gates_MK = gates(logits_ME.gather(1, chosen_MK), torch.zeros(4), 4, 2.5)
mine_MD = moe_layer(x_MD, moe.experts, moe.shared_experts, chosen_MK.gather(1, order_MK), gates_MK)
error = (right_BTD[0] - mine_MD).abs().max()
print(f"largest output {right_BTD.abs().max():.2f}, largest difference {error:.0e}")

# %% [markdown] tags=["play"]
# ## Play
#
# What picks the team, the word or the sentence around it? The text below says "animal" and "that" three times each. Compare the columns of one word: do their coloured squares stand in the same rows? (The title and the bars are about load: chapter 04.)
#
# **Try first:** stay on layer 1, then move to layer 2. Then write a word of your own five times.

# %% tags=["play"]
from minimoe_widgets import RoutingExplorer

text = "a small animal that eats a large animal that eats a plant that grows on an animal"
explorer = RoutingExplorer(model, tokenizer, text=text, layer=1)
show(explorer, alt=explorer.alt_text())

# %% [markdown]
# In layer 1 "that" has the same four experts all three times. "animal" has the same four twice, and after "an" none of them. Count it on the held-out entries: of a token's four experts, how many does the same token have at another place, and how many does a different token have? Two teams drawn at random share $4 \cdot 4 / 16 = 1$.

# %%
out = model(rows_BT, mtp=False)
ids_M = rows_BT.flatten()
one, two = torch.randint(len(ids_M), (2, 1_000_000))  # random pairs of places
same = (ids_M[one] == ids_M[two]) & (one != two)
rare = same & (ids_M.bincount()[ids_M[one]] < 30)  # tokens that occur less than 30 times
frequent = ids_M.bincount().topk(6).indices.tolist()
for layer in (1, 2):
    chosen_MK = out.routing[layer].chosen_MK
    common = (chosen_MK[one][:, :, None] == chosen_MK[two][:, None]).sum((1, 2)).float()
    kinds = {"same token": same, "the rarer ones": rare, "different tokens": ~same}
    kinds |= {repr(tokenizer.decode([i])): same & (ids_M[one] == i) for i in frequent}
    print(f"layer {layer}:", ", ".join(f"{name} {common[k].mean():.1f}" for name, k in kinds.items()))
print(f"the {len(frequent)} most frequent: {sum((same & (ids_M[one] == i)).sum() for i in frequent) / same.sum():.0%} of the pairs")

# %% [markdown]
# The token decides most of it in both layers. Most of the pairs are tokens that frame every entry (its first and last, "noun", brackets, the full stop): they keep 2.9 to 4.0 of their four. The rarer tokens keep fewer. Different tokens share no more than chance gives them. What the teams *mean* is the question of chapter 08.
#
# ## Tiny and real

# %% tags=["tiny-vs-real", "nbval-check-output"]
def facts(m):
    E, K, F = m.n_routed_experts, m.num_experts_per_tok, m.moe_intermediate_size
    both = f"{E} + {m.n_shared_experts}"
    widths = f"{m.intermediate_size:,} / {(K + m.n_shared_experts) * F:,}"
    groups = f"{m.n_group}, {m.topk_group}"
    return both, K, F, widths, groups, m.routed_scaling_factor, comb(E, K), f"{K / E:.1%}"


what = (
    "routed + shared experts; chosen; width of one; dense layer's width / width that a token meets; "
    "groups, kept; scaling factor; teams without the group limit; share of routed experts used"
).split("; ")
paper = "arXiv 2412.19437 section 4.2"
source = [paper, paper, paper, "config; computed", paper, paper, "computed", "computed"]
compare_table(zip(what, facts(model.config), facts(minimoe.V3), source), ours="nano")

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# Thirty runs (`data/curves/study.py`): six variants of the small model, five seeds each, 1,024 tokens of the same dictionary a step; 200 steps in 25 runs, 242 in five. A seed fixes the initial weights and the order of the data, so two variants are compared seed by seed. The dense opponent's blocks are 240 wide, five times 48. Of its parameters stored, parameters met by a token, and FLOPs, which will equal the MoE's?

# %% tags=["when-it-pays"]
from minimoe.accounting import parameters

for label, variant in (("MoE", "reference"), ("dense", "dense")):
    r = curves.runs(variant)[0]
    stored = parameters(replace(minimoe.NANO, **r["changes"])).total
    flops = r["train_flops_per_token"] / 1e6
    print(f"{label:5} {stored:>9,} parameters stored, {r['activated']:,} met by a token, {flops:.2f} MFLOPs a token")

# %% [markdown]
# What a token meets is equal to 1.5% (the routers, and a first layer of 256 where the dense model has 240), and so are the FLOPs. (The dense model meets all that it stores but the embedding table, of which a token reads one row.) A comparison per step is one per FLOP. In seconds it is another matter: a dense step took 0.83 of the MoE's processor time when both were timed in turns (`data/curves`). The dense model may spend what it has saved: 242 steps, with the schedule stretched to fit. (All runs also train chapter 05's MTP module. The counts above leave it out; the seconds include it.)
#
# Write down two guesses: who is ahead after equal steps, and who after equal time? The table gives the median of five seeds (lowest to highest); then the mean difference from the MoE, seed by seed, with its [95% interval].

# %% tags=["when-it-pays"]
curves.table(
    {"MoE, 200 steps": "reference", "dense, 200 steps": "dense", "dense, 242 steps": "dense_long"},
    {"held-out loss": "validation"},
    reference="reference",
)

# %%
show(
    curves.band(
        {"MoE, 16 + 1 experts": "reference", "dense, equal cost": "dense"},
        "next_token", "Per step and per FLOP: no difference to be seen",
        "training loss (nats a token)", bounds=(3.6, 4.6),
    ),
    alt="Two bands over 200 steps; they fall from above 4.6 to about 3.68 and overlap nearly everywhere.",
)

# %%
show(
    curves.band(
        {"MoE, 200 steps": "reference", "dense, 242 steps": "dense_long"},
        "next_token", "Per second: the dense model is ahead",
        "training loss (nats a token)", x="cpu_s", bounds=(3.5, 4.6),
    ),
    alt="Two bands over about 38 CPU-seconds; the dense one lies lower all the way and ends about 0.1 lower.",
)

# %% [markdown]
# After equal steps nothing separates the two. The MoE stores 48% more parameters, and these have bought nothing that five seeds can show. After equal time the dense model is ahead in every seed, by 0.065 nats on held-out text: its 242 steps have read 21% more. (The axis's seconds were taken on a shared machine and scatter by a tenth, so the curves end apart; "equal" rests on the ratio 0.83.) So here the experts lose.
#
# DeepSeek measured the opposite, 1.808 against 1.908 for a dense model of twice the width, with models more than a thousand times larger. At least three things differ: our runs read half of a small dictionary once, and leave little to remember; our MoE stores twice what a token meets, V3 eighteen times; and where every expert gets thousands of tokens, the many matrix products are large ones. We have not separated the three. (All variants used the same learning rate.)
#
# ### One ingredient at a time
#
# Every row changes one thing of the row above it, and a token meets the same in all, to 1.5%. Differences are from the last row. (Row 2 changes a little more: its first layer is 256 wide, as in every MoE here, its gates add up to 2.5, and its layers store 840 units, the rows below 816. From row 4 on the shared expert adds 1 to these 2.5.)

# %% tags=["when-it-pays"]
ladder = {
    "dense, 240 wide": "dense",
    "7 wide experts, 2 a token": "coarse",
    "17 narrow, 5 a token": "no_shared",
    "16 + 1 shared, 4 + 1 a token": "no_groups",
    "the same, 2 of 4 groups": "reference",
}
curves.table(ladder, {"held-out loss": "validation"}, reference="reference")

# %%
from minimoe_course.dots import dots

steps = {
    "experts: 7 wide for 1 dense": ("coarse", "dense"),
    "finer: 17 narrow for 7 wide": ("no_shared", "coarse"),
    "one of them shared": ("no_groups", "no_shared"),
    "a limit of 2 groups": ("reference", "no_groups"),
}
added = {name: curves.paired(new, old) for name, (new, old) in steps.items()}
show(
    dots(
        added, "Seven wide experts are 0.01 nats behind both of their neighbours",
        "difference in nats a token (left: better)",
    ),
    alt="Four rows, each with a dot for every seed and an interval. Wide experts over dense: all dots "
    "right of zero, mean 0.011. Narrow over wide: all left of zero, mean -0.012. The other two lie around zero.",
)

# %% [markdown]
# Two intervals leave out zero, and both rest on the same five runs, those with seven wide experts: they are behind the dense block and behind 17 narrow experts, by about 0.01 nats and in every seed. In both MoEs an expert sees 29% of the tokens; what differs is the number of teams, 21 and 6,188. So many teams beat few, as this chapter's opening argued, but in one pair of variants. The 17 narrow experts and the dense block cannot be told apart.
#
# (If nothing mattered, nearly one such picture in five would still have an interval of 95% that leaves out zero.)
#
# A shared expert and a group limit change nothing that these runs can show. For the limit that is good news: the network is spared.
#
# ### What do more experts cost?
#
# The FLOPs of an MoE layer do not depend on how many experts it stores, except in the router. Does the time? Take one layer of the small model, 1,024 tokens forward and backward, 8 to 128 experts, 4 a token and one shared. The dense twin has the width that your function gives.

# %% tags=["when-it-pays"]
from minimoe.model.layers import MLP
from minimoe.model.moe import MoE, loop
from minimoe_course.measure import cpu_us

x_BTD = torch.randn(1, 1024, 96)


def training_pass(layer):
    def step():
        out = layer(x_BTD)
        (out[0] if isinstance(layer, MoE) else out).sum().backward()

    return step


def moe_of(experts, dispatch):
    layer = MoE(replace(minimoe.NANO, n_routed_experts=experts))
    torch.nn.init.normal_(layer.gate.weight, std=0.1)
    layer.dispatch = dispatch
    return layer


# %% tags=["when-it-pays"]
sizes, calls, times = [8, 16, 32, 64, 128], {}, {}
for E in sizes:
    calls["dense twin", E] = training_pass(MLP(96, round(dense_width(48, E, 4, 1))))
    calls["grouped", E] = training_pass(moe_of(E, moe.dispatch))
    calls["loop", E] = training_pass(moe_of(E, loop))
for (name, _), (_, typical, _) in cpu_us(calls, rounds=7).items():
    times.setdefault(name, []).append(typical / 1000)
show(
    lines(
        {name: (sizes, t) for name, t in times.items()}, "Equal arithmetic, more experts, more time",
        "routed experts, 4 chosen", "processor time of one pass (ms)", grey=["dense twin"], log="x",
    ),
    alt="Three lines over 8 to 128 experts. The dense twin is lowest and nearly flat; grouped lies above "
    "it and rises; the loop lies highest and rises most.",
)

# %%
for name in ("grouped", "loop"):
    ratios = zip(sizes, times[name], times["dense twin"])
    print(f"{name:7} over the dense twin:", "  ".join(f"{E}: {t / d:.1f}" for E, t, d in ratios))

# %% [markdown]
# With 8 experts each still gets 512 tokens, and the layer takes about twice its twin's time: nine small blocks in place of one, and the choosing, sorting and copying of rows, which no FLOP counts. With 128 each gets 32 tokens, and a matrix product of 32 rows is a poor use of a processor. V3's steps had up to 15,360 sequences of 4,096 tokens: two million tokens for every expert, over all GPUs together. (A whole model's step grows less than this layer: `bench/results/experts.md`.)
#
# ### Exercise: how many machines?
# ●●○○○ · 7 min · it says what the group limit saves, and when it is not worth having.
#
# A team of $K$ different experts is drawn at random from $E$, which stand in `groups` groups of equal size. Return how many groups it reaches on average. One group is missed by $\binom{E - E/\text{groups}}{K}$ of the $\binom{E}{K}$ teams; go on from there.
# By hand: $E=4$, $K=2$, 2 groups: of the 6 teams one misses a given group, so $2 \cdot (1 - 1/6) = 5/3$.

# %% tags=["exercise"]
def groups_visited(E, K, groups):
    ...  # your code (`comb` is imported above)

groups_visited = check("03.groups_visited", groups_visited)
for name, m in (("V3", minimoe.V3), ("V2", minimoe.V2), ("nano", model.config)):
    free = groups_visited(m.n_routed_experts, m.num_experts_per_tok, m.n_group)
    print(f"{name:4} without a limit {free:.2f} of {m.n_group} groups; allowed {m.topk_group}")

# %%
hints("03.groups_visited")

# %% [markdown]
# So V3's limit saves about a quarter of the trips between machines, and it makes the worst case, 8 machines, impossible. On one processor there is no network, and a limit can only take choices away. The small model has one because V3 has; Moonlight and Kimi-K2 have a single group.

# %% tags=["nbval-check-output"]
receipt([
    ("teams of 8 out of 256", comb(256, 8), "computed"),
    ("teams: 2 of 7, and 5 of 17", f"{comb(7, 2)}, {comb(17, 5):,}", "computed"),
    ("grouped equals loop", "to rounding", "asserted by tests/minimoe/model/test_moe.py"),
    ("a mask of zeros picks excluded experts", "yes", "asserted by tests/minimoe/model/test_router.py"),
    ("V3's tokens an expert and step", 15360 * 4096 * 8 // 256, "computed; sizes from arXiv 2412.19437 section 4.2"),
    ("shared expert removed after training: loss", "1.808 to 2.414", "source: arXiv 2401.06066 section 4.5"),
    ("dense minus MoE at equal steps, nats (mean)", round(curves.paired("dense", "reference").mean, 3), "computed"),
    ("dense minus MoE at equal seconds, nats (mean)", round(curves.paired("dense_long", "reference").mean, 3), "computed"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# 1. A colleague replaces 256 experts of width 2,048 by 64 of width 8,192 and still sends each token to 8. Same arithmetic?
#
# <details><summary>Answer</summary>
#
# The same parameters are stored, but a token meets four times as many. With equal arithmetic it would be sent to 2: 2,016 teams instead of $4 \cdot 10^{14}$.
#
# </details>
#
# 2. Why does V3 make the gates from the unbiased scores, although it chooses by the biased ones?
#
# <details><summary>Answer</summary>
#
# The bias says how busy an expert is, not how well it suits the token. In the gates it would change what the layer computes, and the next step's change of the bias would change it again.
#
# </details>
#
# 3. A router's group limit is switched off in a trained model. Does anything break?
#
# <details><summary>Answer</summary>
#
# No. Every token gets its $K$ best experts of all, and the gates still add up to the same constant. It costs trips between machines. The loss may move a little either way.
#
# </details>
#
# 4. Could the gate be multiplied onto the expert's input instead of its output?
#
# <details><summary>Answer</summary>
#
# It would be another layer: an expert is not linear, so $\mathrm{expert}(g x) \ne g\, \mathrm{expert}(x)$. Loaded weights would give wrong results without an error.
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - A feed-forward block is a sum over its units, so it may be cut into experts; finer cutting gives more teams with the same arithmetic, but more time.
# - V3's router: sigmoid scores, a bias and a group limit for the choice, and gates from the plain scores, divided by their sum, times 2.5.
# - At this size the experts gain nothing over a dense model per step or FLOP and lose per second. Seventeen narrow experts beat seven wide ones, by 0.01 nats. DeepSeek, a thousand times larger, measured a clear gain over dense.
#
# ## Sources
# DeepSeekMoE, arXiv 2401.06066 (sections 3 and 4.5, table 1, appendix B); DeepSeek-V2, arXiv 2405.04434 (section 2.2); DeepSeek-V3, arXiv 2412.19437 (sections 2.1.2, 3.2 and 4.2); Mixtral, arXiv 2401.04088. Masking with zeros, and the best expert in place of the sum of two, have both been in released implementations of this router.
#
# ## Next
# The biases have stood in every formula of this chapter, and nobody has said how they move. Chapter 04 trains with them, without them, and with the loss that they replace.
