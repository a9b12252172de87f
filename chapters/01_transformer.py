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
# # 01 The transformer you already half know
#
# By the end you have written the parts of a transformer yourself, have seen a whole layer put together from them that equals the library's to rounding, and hold the bill for what it remembers.
#
# 45 minutes, more if you do every exercise. Prerequisites: chapter 00; matrix products. Attention is explained from the beginning.
#
# You will be able to
# - compute attention by hand, and write it with a mask, with positions, and with shared heads
# - say what each part of a layer is for: the norm, the rotation, the gate, the residual stream
# - tell what the KV cache saves, what it costs, and how MHA, GQA and MQA divide the bill

# %% tags=["setup"]
import torch
import minimoe
from minimoe import accounting
from minimoe_course import *
setup(seed=0)

# %% [markdown] tags=["question"]
# ## What does a conversation weigh?
#
# LLaMA-3.1-405B is a plain transformer, of the kind this chapter builds. While it answers you, every token of the conversation leaves 516,096 bytes behind in the memory of the GPUs. After 131,072 tokens, the length of a book, that is 67.6 GB beside the weights: most of an 80 GB GPU, for one conversation. What are these bytes, who reads them, and could there be fewer?

# %% tags=["nbval-check-output"]
token_bytes = accounting.gqa_elements(layers=126, groups=8, head_dim=128) * 2
print(f"{token_bytes:,} bytes a token, {token_bytes * 131_072 / 1e9:.1f} GB for 131,072 tokens")

# %% [markdown] tags=["by-hand"]
# ## Two tokens by hand
#
# Three learned matrices make three vectors from each token: a **query** (what I look for), a **key** (what I offer), a **value** (what I hand over). Here they are given. The second token looks at the first and at itself. Its query is compared with both keys, the two scores become weights that add up to 1 (exponentials divided by their sum: a **softmax**), and the values are mixed with them. That is **attention**.

# %% tags=["by-hand", "nbval-check-output"]
q_N = torch.tensor([1.0, 0.0])                        # the second token's query
k_SN = torch.tensor([[1.0, 0.0], [0.0, 1.0]])         # both tokens' keys
v_SW = torch.tensor([[10.0], [20.0]])                 # both tokens' values
scores_S = k_SN @ q_N
weights_S = scores_S.exp() / scores_S.exp().sum()
print("scores", scores_S.numpy(), "  weights", weights_S.numpy().round(3))
print("mixed value", round((weights_S @ v_SW).item(), 2))

# %% [markdown]
# The query likes the first key (score 1 against 0), so the mixture lies nearer to 10 than to 20. To produce the next token, the model needs the keys and values of all tokens before it again. They are the bytes of the question.
#
# The capitals at the end of a name are its axes, here and in the whole course: T tokens that look, S tokens looked at, D numbers of a token, N of a query or key, W of a value, H heads, G key heads, F the width of a feed-forward block, M rows of any kind.

# %% [markdown] tags=["beat"]
# ## A vector that keeps its length
#
# A token enters as a row of a table, the **embedding**. Then every layer *adds* to that row twice: first what attention found, then what a feed-forward block made of it. The row is called the **residual stream**. Nothing is replaced, only added, so that what an early layer knew is still there for a late one.
#
# Adding has a danger. Suppose each of 60 blocks reads the stream, turns it into a random direction of the *same length*, and adds that. By which factor does the stream grow? Commit to a number.

# %%
def after_blocks(normalise, blocks=60, D=64):
    x_D = torch.randn(D)
    start = x_D.norm()
    for _ in range(blocks):
        read_D = x_D / x_D.pow(2).mean().sqrt() if normalise else x_D
        x_D = x_D + torch.randn(D, D) / D**0.5 @ read_D
    return (x_D.norm() / start).item()


def typical(normalise):
    return torch.tensor([after_blocks(normalise) for _ in range(200)]).median().item()


plain, normed = typical(normalise=False), typical(normalise=True)
guess("01.growth", "By which factor does the length grow?", plain, unit="times", tolerance=0.9)

# %%
print(f"without a norm: {plain:.1e} times longer   with a norm before each block: {normed:.1f} times")

# %% [markdown]
# A random direction stands at a right angle to the stream, so each block makes it $\sqrt{2}$ times longer, and $\sqrt{2}^{60}$ is a thousand million. If each block instead reads a vector scaled to root-mean-square 1, it adds a step of constant size, and 60 steps at right angles give $\sqrt{61} = 7.8$. The scaling is called **RMSNorm**: divide by the root-mean-square, then multiply by a learned gain.
#
# ### Exercise: RMSNorm
# ●○○○○ · 5 min · every layer of DeepSeek-V3 begins with it, twice.
#
# Scale each row of `x_MD` to root-mean-square 1, then by `weight_D`: $y = w\, x / \sqrt{\mathrm{mean}(x^2) + \epsilon}$.
# By hand: `[3, 4]` with a gain of ones and eps 0 gives `[0.8485, 1.1314]`.

# %% tags=["exercise"]
def rms_norm(x_MD, weight_D, eps):
    ...  # your code

rms_norm = check("01.rms_norm", rms_norm)

# %%
hints("01.rms_norm")

# %% [markdown] tags=["beat"]
# ## Everybody looks back at once
#
# In training all tokens of a text are processed together: $T$ queries against $T$ keys give a table of $T \times T$ scores. A token must not see what comes after it, or it would read the answer it is asked to predict. So the upper half of the table is set to minus infinity before the softmax: the **causal mask**.
#
# $$\text{scores} = q\, k^\top \cdot \text{scale}, \qquad \text{out} = \mathrm{softmax}(\text{scores, masked})\; v$$
#
# The scale is $1/\sqrt{N}$ for keys of $N$ numbers. Why? The product of two random vectors sums $N$ terms of either sign, which makes its typical size $\sqrt{N}$. A softmax of large numbers gives nearly all its weight to one token, and then a small change of the scores changes nothing: there is nothing to learn from. Sixteen tokens, typical of 200 draws; even weights would be 0.0625:

# %%
N = 128
scores = torch.einsum("dsn,dn->ds", torch.randn(200, 16, N), torch.randn(200, N))
for name, scale in (("unscaled", 1.0), ("scaled", N**-0.5)):
    largest = (scores * scale).softmax(-1).max(-1).values.median()
    print(f"{name:9} largest of 16 weights: {largest:.2f}")

# %% [markdown]
# ### Exercise: causal attention
# ●●●○○ · 8 min · the check knows nine mistakes that run without an error.
#
# Queries `q_TN`, keys `k_TN`, values `v_TW` of one head. Token $t$ sees tokens $0 \dots t$: $o_t = \sum_{s \le t} p_{ts} v_s$ with $p_t = \mathrm{softmax}_{s \le t}(q_t \cdot k_s \cdot \text{scale})$.
# By hand: with the two tokens above and the same query for both, the first gets 10, the second 12.69.

# %% tags=["exercise"]
def causal_attention(q_TN, k_TN, v_TW, scale):
    ...  # your code

causal_attention = check("01.causal_attention", causal_attention)

# %%
hints("01.causal_attention")

# %% [markdown]
# **Break it.** Somebody hides the future with a score of 0 instead of minus infinity. The scores of 16 tokens are small and random. How much of its weight does the *first* token give to the fifteen it must not see?

# %%
scores_TS = torch.randn(16, 16) * 0.3
hidden_TS = torch.ones(16, 16, dtype=torch.bool).triu(1)
leak_T = (scores_TS.masked_fill(hidden_TS, 0.0).softmax(-1) * hidden_TS).sum(-1)
guess("01.leak", "Weight of the first of 16 tokens on its future", leak_T[0].item() * 100, unit="%")

# %% [markdown]
# Nearly everything. A model trained so learns to copy its answers from the future, and fails at writing, where there is none.

# %% [markdown] tags=["beat"]
# ## Where am I?
#
# Attention as written does not know order: shuffle the past tokens, and the mixture is the same. DeepSeek tells positions apart with **RoPE**: take the numbers of a query or key in neighbouring pairs, see each pair as an arrow in the plane, and turn it by an angle proportional to the token's position. Pair $i$ of $R/2$ turns by
#
# $$\text{angle}_i(t) = t \cdot \theta^{-2i/R}$$
#
# radians at position $t$; $\theta$ is 10,000. The first pair turns one radian a token, the last almost not at all: like the hands of a clock, the fast ones tell near positions apart, the slow ones far ones. Write it, then see what it is good for.
#
# ### Exercise: turn the pairs
# ●●●●○ · 12 min · pairing other numbers raises no error; the layouts were mixed up in a widely used engine (vLLM issue 26995).
#
# Turn the pairs (0, 1), (2, 3), ... of each row of `x_TR` by the angles of its position: $(a, b) \to (a \cos - b \sin,\; a \sin + b \cos)$. The pairs stay where they are.
# By hand: `[1, 0]` at position 0 stays; at position $\pi/2$ it becomes `[0, 1]`.

# %% tags=["exercise"]
def rotate_pairs(x_TR, positions_T, theta):
    ...  # your code

rotate_pairs = check("01.rotate_pairs", rotate_pairs)

# %%
hints("01.rotate_pairs")

# %% [markdown]
# Now a query at position 7 and a key at position 3 have some score. Move both 100 positions to the right. By how much does the score change? And if only the key moves, from 3 to 2?

# %%
q_TR, k_TR = torch.randn(1, 32), torch.randn(1, 32)


def score(q_position, k_position):
    q = rotate_pairs(q_TR, torch.tensor([float(q_position)]), 10000.0)
    k = rotate_pairs(k_TR, torch.tensor([float(k_position)]), 10000.0)
    return (q * k).sum().item()


print("  ".join(f"{q} and {k}: {score(q, k):.4f}  " for q, k in ((7, 3), (107, 103), (7, 2))))

# %% [markdown]
# Moving both changes nothing; moving one does. Turning the query by 7 and the key by 3 leaves a difference of 4 between them, wherever they stand. The score depends on the *distance*.

# %% [markdown] tags=["beat"]
# ## Think, then add
#
# After attention each token passes through a feed-forward block, alone. DeepSeek uses **SwiGLU**: two projections of the token to a wider space, one of them passed through $\mathrm{SiLU}(z) = z \cdot \mathrm{sigmoid}(z)$, multiplied with each other, and projected back ($\odot$ multiplies number by number):
#
# $$y = W_{down}\,\big(\mathrm{SiLU}(W_{gate}\, x) \odot W_{up}\, x\big)$$
#
# The first factor works as a gate on the second: near zero it shuts the number off. An expert of chapter 00 is exactly this block, only narrow.
#
# ### Exercise: SwiGLU
# ●○○○○ · 4 min · 98% of DeepSeek-V3's parameters sit in blocks of this form.
#
# The weights are stored as torch stores them, outputs by inputs (`w_gate_FD` is applied as `x @ w_gate_FD.T`). Compute $y$ for each row.
# By hand: $x=1$, gate 1, up 3, down 2: $\mathrm{SiLU}(1) = 0.7311$, so $y = 2 \cdot 0.7311 \cdot 3 = 4.386$.

# %% tags=["exercise"]
def feed_forward(x_MD, w_gate_FD, w_up_FD, w_down_DF):
    ...  # your code

feed_forward = check("01.feed_forward", feed_forward)

# %%
hints("01.feed_forward")

# %% [markdown]
# You now hold every part of a layer. One thing is missing: a layer has several **heads**, small attentions side by side, so that a token can look for several things at once. Each has its own query, key and value; their outputs are laid end to end and mixed by one more matrix.
#
# Here is a layer of the library with four heads and random weights (`dense` switches off all that is special about DeepSeek). Put together from the functions above, yours or the library's, it must give the same numbers.

# %%
from dataclasses import replace

dense = dict(kv_lora_rank=None, q_lora_rank=None, num_nextn_predict_layers=0, first_k_dense_replace=3)
config = replace(minimoe.NANO, hidden_size=96, num_hidden_layers=3, head_dim=24, **dense)
model = minimoe.Transformer(config, seed=0).requires_grad_(False)
block, x_TD = model.model.layers[0], torch.randn(10, 96)
attention, positions_T = block.self_attn, torch.arange(10.0)

h_TD = rms_norm(x_TD, block.input_layernorm.weight, 1e-6)
q, k, v = (h_TD @ p.weight.T for p in (attention.q_proj, attention.k_proj, attention.v_proj))
heads = []
for i in range(4):
    columns = slice(24 * i, 24 * (i + 1))
    q_TN, k_TN = (rotate_pairs(z[:, columns], positions_T, 10000.0) for z in (q, k))
    heads.append(causal_attention(q_TN, k_TN, v[:, columns], scale=24**-0.5))
mine_TD = x_TD + torch.cat(heads, -1) @ attention.o_proj.weight.T
h_TD = rms_norm(mine_TD, block.post_attention_layernorm.weight, 1e-6)
mlp = block.mlp
mine_TD = mine_TD + feed_forward(h_TD, mlp.gate_proj.weight, mlp.up_proj.weight, mlp.down_proj.weight)

# %%
from minimoe.model.attention import Span
from minimoe.model.rope import rope_turns

turns = rope_turns(config, torch.arange(10)[None], torch.float32)  # the rotations of 10 positions
library_BTD, _ = block(x_TD[None], Span(turns))  # a Span carries what all layers share
layer_error = (mine_TD - library_BTD[0]).abs().max().item()
print(f"largest number {mine_TD.abs().max():.2f}, largest difference {layer_error:.0e}")

# %% [markdown] tags=["beat"]
# ## The cache, and sharing heads
#
# After the last layer the row of the *last* token is normed once more and multiplied with a table, the head, which gives a score for every word that could come next: the **logits**. Then one token is added, and everything starts again. Or does it?
#
# Look at a token of the past. Its row after any layer depends on itself and on tokens before it, never on later ones: the mask saw to that. So adding a token changes nothing in the past. Its keys and values can be stored and read again: the **KV cache**. With it, a step feeds one token through the layers instead of all of them:

# %%
from minimoe.inference.cache import Cache

ids_BT = torch.randint(config.vocab_size, (1, 12))
at_once = model(ids_BT).logits
cache = Cache(config, batch=1, capacity=12)
step_by_step = torch.cat([model(ids_BT[:, t : t + 1], cache=cache).logits for t in range(12)], dim=1)
error = (at_once - step_by_step).abs().max()
print(f"largest logit {at_once.abs().max():.2f}, largest difference {error:.0e}")
print(f"stored: {cache.entries[0].shape[-1]} numbers a token and layer = 2 x 4 heads x 24")

# %% [markdown]
# The bill is $2 \cdot \text{heads} \cdot \text{width} \cdot \text{layers}$ numbers a token. The cheapest way to shrink it is to let query heads *share*. With one key and value head for each query head it is **MHA**; with one for all it is **MQA**; between them, groups of neighbouring query heads share one: **GQA**.
#
# ### Exercise: share the keys
# ●●○○○ · 6 min · deal the heads out the wrong way, and a model that was trained the right way talks nonsense.
#
# One query with $H$ heads, `q_HN`, and $G$ key heads over $S$ tokens, `k_GSN`, `v_GSW`. Query head $h$ reads key head $\lfloor h\, G / H \rfloor$: $o_h = \sum_s \mathrm{softmax}_s(q_h \cdot k_{g,s} \cdot \text{scale})\, v_{g,s}$. Every token is visible.
# By hand: 4 query heads of zeros, 2 key heads with values 1, 2 and 3, 4: every head takes a mean, `[[1.5], [1.5], [3.5], [3.5]]`.

# %% tags=["exercise"]
def grouped_attention(q_HN, k_GSN, v_GSW, scale):
    ...  # your code

grouped_attention = check("01.grouped_attention", grouped_attention)

# %%
hints("01.grouped_attention")

# %% [markdown]
# ### Exercise: how long may the conversation get?
# ●○○○○ · 3 min · the question every serving team starts with.
#
# How many whole tokens fit into `memory_gb` (of $10^9$ bytes, the weights being elsewhere)? $\text{tokens} = \lfloor \text{memory} / \text{bytes a token} \rfloor$.
# By hand: 1 GB, one layer, one head, width 1, two bytes: 4 bytes a token, 250,000,000 tokens.

# %% tags=["exercise"]
def tokens_that_fit(memory_gb, layers, kv_heads, head_dim, bytes_per_number):
    ...  # your code

tokens_that_fit = check("01.tokens_that_fit", tokens_that_fit)
print("tokens in 80 GB, at LLaMA-3.1-405B's size:")
for name, kv_heads in (("MHA, 128 key heads", 128), ("GQA, 8 key heads", 8), ("MQA, 1 key head", 1)):
    print(f"{name:18} {tokens_that_fit(80.0, 126, kv_heads, 128, 2):>9,}")

# %%
hints("01.tokens_that_fit")

# %% [markdown] tags=["play"]
# ## Play
#
# What would DeepSeek-V3 remember if it were a plain transformer? The bars compare four ways of attention at V3's size.
# (The axis is logarithmic: each line to the right is ten times more. MLA is the next chapter; the grey bars are three real models.)
#
# **Try first:** move *Context* and find the length from which MHA no longer fits into eight GPUs of 80 GB, 640 GB.

# %% tags=["play"]
from minimoe_widgets import CompressionExplorer

explorer = CompressionExplorer(model, view="bill")
show(explorer, alt=explorer.alt_text())

# %% [markdown]
# ## Tiny and real

# %% tags=["tiny-vs-real", "nbval-check-output"]
what = "layers; query heads; key heads; width of a head; numbers cached a token; KB at two bytes"
ours = (3, 4, 4, 24, accounting.cache_elements(config), accounting.cache_bytes(config) / 1000)
llama = (126, 128, 8, 128, accounting.gqa_elements(126, 8, 128), token_bytes / 1000)
source = [*["arXiv 2407.21783 table 3"] * 3, "16,384 / 128"] + ["computed", "computed; arXiv 2505.09343 table 1"]
compare_table(zip(what.split("; "), ours, llama, source), ours="this chapter", theirs="LLaMA-3.1-405B")

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# The cache trades memory for time. Without it, each new token costs a pass over the whole text. The next cell times one new token both ways on your processor, for texts of 16 to 512 tokens. How many times faster is the cache at 512?

# %% tags=["when-it-pays"]
from minimoe_course.measure import cpu_us

def one_more_token(ids_BT, cache):
    model(ids_BT[:, -1:], cache=cache)
    cache.lengths_B -= 1  # take it back, so that the next call does the same


lengths = [16, 64, 256, 512]
curves = {"everything again": ([], []), "one token, with cache": ([], [])}
for S in lengths:
    ids_BT, cache = torch.randint(config.vocab_size, (1, S)), Cache(config, batch=1, capacity=S)
    model(ids_BT[:, :-1], cache=cache)
    calls = [lambda: model(ids_BT), lambda: one_more_token(ids_BT, cache)]
    for name, (_, median_us, _) in cpu_us(dict(zip(curves, calls)), rounds=7).items():
        curves[name][0].append(S)
        curves[name][1].append(median_us / 1000)
title = "With a cache, the past hardly slows a new token down"
show(
    lines(curves, title, "tokens in the text", "processor time of one new token (ms)", log="xy"),
    alt="Recomputing everything rises with the length; one token with the cache rises little.",
)

# %%
again, cached = (curves[name][1] for name in curves)
saved = "   ".join(f"{S} tokens: {a / c:.1f}" for S, a, c in zip(lengths, again, cached))
print(f"times faster with the cache:   {saved}")

# %% [markdown]
# At 16 tokens the gain is small, because most of a small model's step is fixed cost: starting dozens of little operations. At 512 it is several times, and it goes on growing with the length. So everybody caches, and everybody pays with memory.
#
# Sharing heads is another matter. It shrinks the cache by the same factor at every length, and it has a price that no timing shows: quality. In DeepSeek's own comparison at 7B parameters (arXiv 2405.04434, table 8), MQA, GQA with 8 groups and MHA reached 37.9, 41.2 and 45.2 on MMLU, an exam of questions with four choices. So the choice was between a large memory and a weaker model. Chapter 02 is about the third way.

# %% tags=["nbval-check-output"]
receipt([
    ("LLaMA-3.1-405B, bytes a token", token_bytes, "computed; 516.096 KB in arXiv 2505.09343"),
    ("a layer from these pieces, largest difference", layer_error < 1e-6 and "below 1e-6", "computed"),
    ("step by step equals all at once", "to rounding", "asserted by tests/minimoe/model/test_transformer.py"),
    ("MMLU of MQA, GQA, MHA", "37.9, 41.2, 45.2", "source: arXiv 2405.04434 table 8"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# 1. Why are keys and values cached, but not queries?
#
# <details><summary>Answer</summary>
#
# A query is used once, when its token looks back. Keys and values are read again by every later token.
#
# </details>
#
# 2. Three tokens are added to a cache of five at once. Which of the eight may the first of the three see?
#
# <details><summary>Answer</summary>
#
# The five and itself: six. Some implementations align the triangle of the mask with the top left corner of the 3 × 8 table instead of the bottom right, and let it see one.
#
# </details>
#
# 3. RoPE turns queries and keys. Why not values?
#
# <details><summary>Answer</summary>
#
# Positions should decide who is listened to. If values were turned, what is handed over would depend on where its token stood, and the next layer would have to undo it.
#
# </details>
#
# 4. A model has 32 query heads and 8 key heads. By which factor is its cache smaller than MHA's?
#
# <details><summary>Answer</summary>
#
# 4: MHA would store 32 key heads, this model stores 8. The number of query heads alone says nothing.
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - A layer adds to the residual stream twice: what attention found in the past, and what SwiGLU made of it; RMSNorm keeps the sizes in hand.
# - RoPE turns pairs of numbers by position, so that a score depends on distance.
# - The cache makes a step cheap and fills the memory; sharing heads shrinks it and costs quality.
#
# ## Sources
# Vaswani et al., arXiv 1706.03762; Su et al. (RoPE), arXiv 2104.09864; Zhang and Sennrich (RMSNorm), arXiv 1910.07467; Shazeer (SwiGLU), arXiv 2002.05202, and (MQA), arXiv 1911.02150; Ainslie et al. (GQA), arXiv 2305.13245; the LLaMA 3 report, arXiv 2407.21783; DeepSeek-V2, arXiv 2405.04434.
#
# ## Next
# Chapter 02, MLA. At DeepSeek-V3's size (61 layers, 128 heads of 128) MHA would leave 4.0 MB for every token, 524 GB for the conversation this chapter began with. V3 leaves 9.2.
