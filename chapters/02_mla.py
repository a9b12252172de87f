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
# # 02 MLA: attention compression
#
# By the end you can compute attention from one short vector a token, instead of a key and a value for every head, with the same
# result as if all of them had been kept; and you know when that pays and when it does not.
#
# 45 minutes. Prerequisites: chapter 01 (queries, keys, values, RoPE, the KV cache); matrix products.
#
# You will be able to
# - say what DeepSeek-V3 caches of a token, recompute the published table, and find the misprint in it
# - explain why rotary positions do not survive the compression, and what V3 does instead
# - move two matrices across an equation ("absorb" them), prove that nothing changes, and say when it is the wrong thing to do

# %% tags=["setup"]
import torch
import minimoe
from minimoe import accounting
from minimoe_course import *

setup(seed=0)

# %% [markdown] tags=["question"]
# ## 524 gigabytes, or 9?
#
# Chapter 01 ended with a bill. Multi-head attention keeps a key and a value for every head of every layer for every token it
# has read. DeepSeek-V3 has 61 layers of 128 heads, 128 numbers each. At two bytes a number that is 4.0 MB for *one* token,
# and 524 GB for a conversation of 131,072 tokens: seven GPUs of 80 GB, to remember one chat.
#
# V3 keeps 9.2 GB, and every one of its heads still has a key and a value of its own. What does it keep?

# %%
kept_by_mha = accounting.mha_elements(layers=61, heads=128, head_dim=128) * 2
kept_by_v3 = accounting.cache_bytes(minimoe.V3)
for name, token_bytes in (("multi-head attention", kept_by_mha), ("DeepSeek-V3", kept_by_v3)):
    chat_gb = token_bytes * 131072 / 1e9
    print(f"{name:21} {token_bytes / 1e3:8,.1f} KB a token {chat_gb:6.1f} GB for 131,072 tokens")

# %% [markdown] tags=["by-hand"]
# ## Two tokens by hand
#
# Two tokens, and two heads whose keys have two numbers each: four key numbers a token. Suppose all four are made from **one**
# number, the token's **latent**, by multiplying it with a fixed matrix $W_{UK}$. Then the latent is all that has to be kept.

# %% tags=["by-hand", "nbval-check-output"]
latent_SC = torch.tensor([[2.0], [-1.0]])  # two tokens, one number each
w_uk_HNC = torch.tensor([[[1.0], [0.0]], [[0.5], [3.0]]])  # two heads, two numbers a key
k_HSN = torch.einsum("sc,hnc->hsn", latent_SC, w_uk_HNC)  # keys, rebuilt from the latents
print("keys of head 0:", k_HSN[0].tolist(), "  of head 1:", k_HSN[1].tolist())

q_HN = torch.tensor([[1.0, 1.0], [2.0, -1.0]])  # one query: two heads
print("scores from the keys:   ", torch.einsum("hn,hsn->hs", q_HN, k_HSN).tolist())

q_latent_HC = torch.einsum("hn,hnc->hc", q_HN, w_uk_HNC)  # the same matrix, on the query
print("scores from the latents:", (q_latent_HC @ latent_SC.T).tolist())

# %% [markdown]
# The last line never built a key. It multiplied the query by $W_{UK}$ once, and compared the result with the latents. Head 1 gives
# -4 and 2 both ways. This chapter is about that line: what it needs, what breaks it, and what it costs.

# %% [markdown] tags=["beat"]
# ## One vector for all heads
#
# Keys and values of all heads are linear maps of one hidden state $h$ of 7,168 numbers. So $h$ itself could be cached instead of 32,768 numbers. V3 goes further and puts a narrow place between: a matrix $W_{DKV}$ *compresses* $h$ to a latent $c$ of $C = 512$ numbers, and two matrices a head *expand* it into a key of $N$ and a value of $W$ numbers (128 each in V3, which has $H = 128$ heads):
#
# $$c = W_{DKV}\, h \qquad k = W_{UK}\, c \qquad v = W_{UV}\, c$$
#
# Only $c$ is cached. That 512 numbers are enough is a bet, made before training; the last section has the evidence. The query is made in the same way from a latent of its own, $q = W_{UQ}\, W_{DQ}\, h$, which nobody needs to cache.
#
# Here is $c$ in a model that was trained for this course, in its second layer, for a real sentence. (Before it is stored it also passes through RMSNorm; `compress` does both.)

# %%
from minimoe.model.attention import Span
from minimoe.model.rope import rope_turns
from minimoe.tokenizer import Tokenizer

model = minimoe.load(data_path("nano"), dtype=torch.float32).requires_grad_(False)
tokenizer = Tokenizer.load(data_path("nano"))
ids_BT = torch.tensor([tokenizer.encode("a small animal that lives in trees and feeds on the leaves of plants")])
c, first, layer = model.config, model.model.layers[0], model.model.layers[1]
turns = rope_turns(c, torch.arange(ids_BT.shape[1])[None], torch.float32)
hidden_BTD, _ = first(model.model.embed_tokens(ids_BT), Span(turns))
x_BTD = layer.input_layernorm(hidden_BTD)
latent_BTC, k_rot_BTR = layer.self_attn.compress(x_BTD, turns)
H, N, W = c.num_attention_heads, c.qk_nope_head_dim, c.v_head_dim
print(f"{ids_BT.shape[1]} tokens, hidden states of {c.hidden_size} numbers, latents of {c.kv_lora_rank}")
print(f"keys and values of {H} heads: {H * (N + W)} numbers")

# %%
guess(
    "02.share",
    "V3 rebuilds 128 keys and 128 values of 128 numbers from a latent of 512. What share is kept?",
    512 / 32768 * 100,
    unit="%",
)

# %% [markdown]
# ### Exercise: whose rows are these?
# ●●○○○ · 6 min · the official checkpoints store $W_{UK}$ and $W_{UV}$ in one matrix; read it in the wrong order and nothing raises an error.
#
# The checkpoints call the matrix `kv_b_proj` (`kv_a_proj` compresses, `kv_b_proj` expands). Its weight has $H (N + W)$ rows of $C$ numbers. They go head by head: the $N$ rows of head 0's key, the $W$ rows of its
# value, then head 1's. Give back $W_{UK}$ as `[H, N, C]` and $W_{UV}$ as `[H, W, C]`.
# By hand: rows `r0 r1 r2 r3` with $H=2$, $N=W=1$ give keys `r0 r2` and values `r1 r3`.

# %% tags=["exercise"]
def split_up_projection(weight, H, N, W):
    ...  # your code: return w_uk_HNC, w_uv_HWC

split_up_projection = check("02.split_up_projection", split_up_projection)

# %%
hints("02.split_up_projection")

# %% [markdown] tags=["beat"]
# ## What rotary positions break
#
# The trick by hand moved $W_{UK}$ from the key onto the query: $q \cdot (W_{UK}\, c_s) = (W_{UK}^\top q) \cdot c_s$. The vector on the right, $W_{UK}^\top q$, is computed once and serves every past token $s$.
#
# Now give the keys positions as in chapter 01: relative to the query, the key of a token $\Delta$ places back is turned by $-\Delta$. Write $\mathrm{rot}$ for the turning. It now stands between $q$ and $W_{UK}$:
#
# $$q \cdot \mathrm{rot}_{-\Delta}(W_{UK}\, c_s) = \big(W_{UK}^\top\, \mathrm{rot}_{\Delta}\, q\big) \cdot c_s$$
#
# Before you run the cell: what must be computed once more for every distance?

# %% tags=["nbval-check-output"]
w_uk_NC, q_N = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([1.0, 1.0])
for distance in (0.0, 1.0, 2.0):
    cos, sin = torch.cos(torch.tensor(distance)), torch.sin(torch.tensor(distance))
    turned_N = torch.stack([q_N[0] * cos - q_N[1] * sin, q_N[0] * sin + q_N[1] * cos])
    print(f"{distance:.0f} back: the query for the latents is {(w_uk_NC.T @ turned_N).numpy().round(2)}")

# %% [markdown]
# The whole query. With positions, $W_{UK}^\top$ must be applied again for every past token, and that is as much work as rebuilding every key. The cache is still small, but the trick is gone.
#
# ## A separate key for the position
#
# V3 splits query and key in two. One part has no position, so that the trick works: $q_C$ and $k_C = W_{UK}\, c$, of $N = 128$ numbers a head. The other carries the position and is kept out of the compression: a query $q_R$ of $R = 64$ numbers a head, and **one** rotary key $k_R$ of 64 numbers that all heads share. The scores add up:
#
# $$k_R = \mathrm{RoPE}(W_{KR}\, h) \qquad \text{score} = (q_C \cdot k_C + q_R \cdot k_R)\,/\,\sqrt{N + R}$$
#
# $k_R$ is called the **decoupled rotary key**. It is made from the hidden state $h$, not from the latent, and each token has one, not one for each head:

# %%
guess(
    "02.per_head",
    "If each of V3's 128 heads kept its own rotary key of 64 numbers beside the latent, "
    "how many times larger would the cache be?",
    (512 + 128 * 64) / (512 + 64),
    unit="times",
)

# %% [markdown]
# What can four heads do with one shared key? Take the sentence's last word twice, once as the one that looks and once as the one looked at, and move the two apart: 0 to 63 tokens. Each curve is one head's $q_R \cdot k_R$.

# %%
pair_BTD = x_BTD[:, -1:].expand(-1, 64, -1)  # the last word, at 64 positions
moving = rope_turns(c, torch.arange(64)[None], torch.float32)
_, q_rot_BTHR = layer.self_attn.queries(pair_BTD, moving)
_, k_rot = layer.self_attn.compress(pair_BTD, moving)
position_HS = torch.einsum("hr,sr->hs", q_rot_BTHR[0, -1], k_rot[0])
back = range(63, -1, -1)
show(
    lines(
        {f"head {h}": (back, scores) for h, scores in enumerate(position_HS)},
        "One pair of words, moved apart: each head has its own taste for distance",
        "distance in tokens", "positional part of the score",
    ),
    alt="Four curves over the distance from 0 to 63; they differ in height and shape although all heads read the same key.",
)

# %% [markdown]
# ### Exercise: the bill
# ●○○○○ · 3 min · the number that decides how many conversations fit on a GPU.
#
# How many KB does one token leave in the cache of the whole model? $\text{KB} = \text{numbers} \times \text{bytes} / 1000$; decide which of the arguments count.
# By hand: one layer, a latent of 2, a rotary key of 1, four heads, two bytes a number: 3 numbers, 0.006 KB.

# %% tags=["exercise"]
def cache_kb(layers, latent, rotary, heads, bytes_per_number):
    ...  # your code

cache_kb = check("02.cache_kb", cache_kb)

# %%
hints("02.cache_kb")

# %% [markdown] tags=["beat"]
# ## The table, and its misprint
#
# In 2025 DeepSeek published this comparison (*Insights into DeepSeek-V3*, table 1), in KB a token at two bytes a number:
# V3 70.272; Qwen-2.5-72B 327.680, "4.66×"; LLaMA-3.1-405B 516.096, "7.28×". The last two use GQA with 8 key heads of 128 numbers, over 80 and 126 layers.
# One of the five numbers cannot be right. `cache_kb` is your function; `gqa_elements` is chapter 01's bill.

# %%
guess("02.misprint", "Which of the five numbers is wrong?", "7.28")

# %% tags=["nbval-check-output"]
v3 = cache_kb(61, 512, 64, 128, 2)
qwen = accounting.gqa_elements(layers=80, groups=8, head_dim=128) * 2 / 1000
llama = accounting.gqa_elements(layers=126, groups=8, head_dim=128) * 2 / 1000
print(f"DeepSeek-V3    {v3:.3f}")
print(f"Qwen-2.5-72B   {qwen:.3f} = {qwen / v3:.2f} times V3")
print(f"LLaMA-3.1-405B {llama:.3f} = {llama / v3:.2f} times V3")

# %% [markdown]
# All three caches are right, and so is 4.66. The last ratio is 7.34; the paper prints 7.28.

# %% [markdown] tags=["beat"]
# ## Absorption, line by line
#
# Writing an answer, or **decoding**, produces one token at a time. If each step rebuilt every past key and value from the latents, V3 would spend $H (N + W)\, C = 16.8$ million multiplications on *each* cached token in each layer, again at every step. The line from the two tokens by hand avoids it.
# First the scores. $q$ is one head's query without its rotary part:
#
# $$q \cdot k_s = q \cdot (W_{UK}\, c_s) = q^\top W_{UK}\, c_s = (W_{UK}^\top q) \cdot c_s$$
#
# $W_{UK}^\top q$ does not depend on $s$: compute it once, and compare it with the latents as they lie in the cache. Then the output. $p_s$ are the weights after the softmax:
#
# $$o = \sum_s p_s\, v_s = \sum_s p_s\, W_{UV}\, c_s = W_{UV} \Big( \sum_s p_s\, c_s \Big)$$
#
# First rule: a product of matrices may be bracketed as one likes. Second rule: a matrix applied to every term of a sum may be applied once to the sum. Rounding aside, nothing changes. $W_{UK}$ is **absorbed** into the query, $W_{UV}$ into the output. Check it on the last token of our sentence (`einsum` multiplies along equal letters and sums over those missing on the right):

# %%
mla = layer.self_attn
q_nope_BTHN, q_rot_BTHR = mla.queries(x_BTD, turns)
w_uk_HNC, w_uv_HWC = mla.up_projections()
latent_SC, q_HN = latent_BTC[0], q_nope_BTHN[0, -1]
k_HSN = torch.einsum("sc,hnc->hsn", latent_SC, w_uk_HNC)
rebuilt = torch.einsum("hn,hsn->hs", q_HN, k_HSN)
absorbed = torch.einsum("hn,hnc->hc", q_HN, w_uk_HNC) @ latent_SC.T
error = (rebuilt - absorbed).abs().max()
print(f"scores:  largest {rebuilt.abs().max():.2f}, largest difference {error:.0e}")

entries = torch.cat([latent_BTC, k_rot_BTR], dim=-1)  # what the cache holds of each token
whole = [path(q_nope_BTHN, q_rot_BTHR, entries) for path in (mla.expand, mla.absorb)]
error = (whole[0] - whole[1]).abs().max()
print(f"outputs: largest {whole[0].abs().max():.2f}, largest difference {error:.0e}")

# %% [markdown]
# After absorption the 128 heads of V3 are 128 queries of 576 numbers against one key of 576 numbers that they share, and the value is the key's first 512 numbers. It computes like multi-query attention. But each head still sees a key of its own, $W_{UK,h}\, c$: the differences have moved into the queries.
#
# ### Exercise: absorbed attention
# ●●●○○ · 10 min · the inner loop of every DeepSeek server.
#
# One query, $S$ cached tokens. Compute every head's output without building a key or a value (the check counts multiplications):
# $q'_h = W_{UK,h}^\top q_h$; $\;p_h = \mathrm{softmax}_s\big((q'_h \cdot c_s + q_{R,h} \cdot k_{R,s}) \cdot \text{scale}\big)$; $\;o_h = W_{UV,h} \sum_s p_{h,s}\, c_s$.
# The result has shape `[H, W]`. By hand: one head, scores 1 and 2 with scale 1, latents `[1, 0]` and `[0, 2]`, and $W_{UV}$ = `[1, 1]` give $0.269 \cdot 1 + 0.731 \cdot 2 = 1.731$.

# %% tags=["exercise"]
def absorbed_attention(q_nope_HN, q_rot_HR, latent_SC, k_rot_SR, w_uk_HNC, w_uv_HWC, scale):
    ...  # your code

absorbed_attention = check("02.absorbed_attention", absorbed_attention)

# %%
hints("02.absorbed_attention")

# %% [markdown] tags=["beat"]
# ## Break it: absorb through a rotation
#
# Suppose somebody forgets the decoupled key: the rebuilt keys and the queries are turned by position, and $W_{UK}$ is absorbed all the same, as if no rotation stood between. The code runs. For which past tokens are the scores still right? Decide before you run it.

# %%
from minimoe.model.rope import apply_rope

t = torch.arange(len(latent_SC))
angles = torch.polar(torch.ones(len(t), 1), 0.1 * t[:, None])  # every pair turns 0.1 radians a token
right = torch.einsum("hn,hsn->hs", apply_rope(q_HN, angles[-1]), apply_rope(k_HSN, angles))
error_S = (absorbed - right).abs().mean(0) / right.abs().mean()
show(
    lines({"error": (t.flip(0), error_S)}, "Absorbing through a rotation: right for the token itself only",
          "tokens back", "error of the score / mean score"),
    alt="The error is zero for the token itself and grows, unevenly, with the distance.",
)

# %% [markdown]
# Only for the token itself, where query and key are turned by the same angle. No exception was raised, and such a model would still produce text. This is why the checks of this course compare numbers.

# %% [markdown] tags=["play"]
# ## Play
#
# Was the bet on a narrow latent a tight one? Take a text, collect the latents of all its tokens in one layer, and ask how many directions they fill. The **singular values** are the spread along each direction, largest first. The explorer keeps only the $r$ strongest directions in every layer (the **rank**) and measures the loss, in nats a token (the mean of $-\ln p$ of the token that came).
#
# **Try first:** drag *Rank kept* to the left until the loss moves. Then look at *Where heads look* and *What the cache costs*.

# %% tags=["play"]
from minimoe_widgets import CompressionExplorer
from minimoe.training import load_corpus

held_out = load_corpus(data_path("wordnet")).validation[:5]
explorer = CompressionExplorer(model, tokenizer, text="\n".join(held_out), view="rank")
show(explorer, alt=explorer.alt_text())

# %% [markdown]
# Two readings. A good part of the directions can go before the loss moves: at this size the latent is not tight. And rank 0, where no head learns anything about the past but positions, costs less than one might fear: a model trained for two minutes predicts mostly from the last tokens. Neither need hold for V3; we know of no published curve.

# %% [markdown]
# ## Tiny and real
#
# The trained model of the course and V3 differ in size, not in kind.

# %% tags=["tiny-vs-real", "nbval-check-output"]
def facts(m):
    H, C, R = m.num_attention_heads, m.kv_lora_rank, m.qk_rope_head_dim
    N, W = m.qk_nope_head_dim, m.v_head_dim
    share = f"{(C + R) / (H * (N + W)):.1%}"
    layers, kb = m.num_hidden_layers, accounting.cache_bytes(m) / 1000
    return layers, H, C, R, C + R, share, kb


what = (
    "layers; heads H; latent C; rotary key R; numbers cached a token and layer; "
    "as a share of MHA's; cache at 2 bytes, KB a token"
).split("; ")
paper = ["config; arXiv 2412.19437 section 4.2"] * 4
source = [*paper, "computed", "computed", "computed; arXiv 2505.09343 table 1"]
compare_table(zip(what, facts(model.config), facts(minimoe.V3), source), ours="nano")

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# MLA buys bytes with arithmetic. Count both for one cached token, one layer, one step of decoding at V3's size. A multiplication and an addition are 2 FLOPs.

# %% tags=["nbval-check-output"]
H, N, W, C, R = 128, 128, 128, 512, 64
per_token = {  # multiplications, bytes read from the cache
    "MHA, 128 heads": (H * (N + W), H * (N + W) * 2),
    "GQA, 8 groups": (H * (N + W), 8 * (N + W) * 2),
    "MLA, absorbed": (H * (2 * C + R), (C + R) * 2),
    "MLA, expanded": (H * (N + W) * C + H * (N + R + W), (C + R) * 2),
}
for name, (multiplications, read_bytes) in per_token.items():
    flops_a_byte = 2 * multiplications / read_bytes
    print(f"{name:15} {multiplications:>12,} multiplications {read_bytes:>7,} bytes", end=" ")
    print(f"{flops_a_byte:>7,.0f} FLOPs a byte")

# %% [markdown]
# Absorbed MLA does 4.25 times the arithmetic of MHA and reads 1.8% of the bytes. Is that good? An H800 can do about 295 FLOPs in the time in which it reads one byte (989 TFLOP/s in 16 bits, 3.35 TB/s). Far below 295 the arithmetic units wait for memory: MHA at 1, GQA at 16. Far above, memory waits for arithmetic: expanding, at 29,198, takes a hundred times longer than reading. Absorbed MLA, at 242, keeps both busy.
#
# Your processor has a balance of its own. The next cell times one decoding step of one layer at contexts from 64 to 4,096 tokens, 16 heads, with V3's proportions ($C = 4N$, $R = N/2$). Where do you expect MLA to overtake MHA?

# %% tags=["when-it-pays"]
from dataclasses import replace
from minimoe_course.decode_timing import decode_step
from minimoe_course.measure import cpu_us

sizes = dict(q_lora_rank=128, kv_lora_rank=128, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32)
heads = dict(hidden_size=256, num_attention_heads=16, num_key_value_heads=16)
mla_16 = replace(minimoe.NANO, max_position_embeddings=4096, **sizes, **heads)
mha_16 = replace(mla_16, kv_lora_rank=None, q_lora_rank=None, head_dim=32)
gqa_16 = replace(mha_16, num_key_value_heads=2)
contexts, curves = [64, 256, 1024, 4096], {}
for S in contexts:
    steps = {
        "MHA": decode_step(mha_16, S),
        "GQA, 2 groups": decode_step(gqa_16, S),
        "MLA, absorbed": decode_step(mla_16, S),
        "MLA, expanded": decode_step(mla_16, S, path="expand"),
    }
    for name, (low, median, high) in cpu_us(steps, rounds=9).items():
        curves.setdefault(name, ([], []))[0].append(S)
        curves[name][1].append(median)
show(
    lines(
        curves,
        "Absorbed MLA loses on short contexts and wins on long ones",
        "tokens in the cache",
        "processor time of one step (µs)",
        log="xy",
    ),
    alt="Four curves over the context. Expanded MLA is slowest and rises steeply; absorbed MLA starts "
    "above MHA and ends below it; GQA is lowest or level with absorbed MLA.",
)

# %%
mha, mla_absorbed = curves["MHA"][1], curves["MLA, absorbed"][1]
ratios = [a / b for a, b in zip(mla_absorbed, mha)]
print("absorbed MLA / MHA:", "   ".join(f"{S:,} tokens {r:.2f}" for S, r in zip(contexts, ratios)))
print("absorbed MLA is faster from:", next((S for S, r in zip(contexts, ratios) if r < 1), "nowhere here"))
print(f"expanded MLA / absorbed, at 4,096 tokens: {curves['MLA, expanded'][1][-1] / mla_absorbed[-1]:.0f}")

# %% [markdown]
# Three things to read off, on the machine that made this page; yours may cross elsewhere. On short contexts MLA loses: it has more matrices to apply before attention begins. On long ones its small cache wins, even on a CPU. And expanding at every step is the slowest of all by far. Several published re-implementations do it; with them "MLA is slower than MHA" becomes true.
#
# GQA with two groups caches 128 numbers here and MLA 144. GQA is faster on short contexts, and near 4,096 MLA catches up. So why not GQA? Because of quality. In DeepSeek's comparison of 7B models on MMLU (an exam with four choices), GQA with 8 groups falls behind MHA, 41.2 against 45.2; in the comparison of MLA with MHA at 16B, MLA is ahead, 50.0 against 48.7, with 14% of the cache (arXiv 2405.04434, tables 8 and 9). This is the evidence for the bet.
#
# ### Exercise: when to stop absorbing
# ●●○○○ · 6 min · it decides which path your model takes for a prompt, for a drafted token, and for the next one.
#
# A call may add more than one token to the cache: a whole prompt (that is called **prefill**), or a few tokens that a small helper has guessed and that are now checked together. Expanding is paid once a call and cached token, absorbed attention is dear for every new token. Take one cached token and one head. Write down the multiplications of both ways for $T$ new tokens ($C$, $N$, $W$, $R$ as above), set them equal, and return $T = \text{once} / (\text{absorbed} - \text{expanded})$.
# By hand: $C=6$, $N=W=2$: $24 + T(4 + R) = T(12 + R)$, so $T = 3$.

# %% tags=["exercise"]
def crossover(C, N, W):
    ...  # your code

crossover = check("02.crossover", crossover)
print(f"V3 absorbs below {crossover(512, 128, 128):.0f} new tokens a call")

# %%
hints("02.crossover")

# %% [markdown]
# So decoding (one token) and checking two or three guesses absorb; prefill of a prompt of thousands expands. Inference engines carry both paths for this reason, and so does `minimoe`: `model(..., path="absorb")` and `path="expand"`.

# %% tags=["nbval-check-output"]
receipt([
    ("V3's cache, KB a token", 70.272, "asserted by tests/minimoe/accounting/test_caching.py"),
    ("LLaMA-3.1-405B over V3", round(516.096 / 70.272, 3), "computed"),
    ("the same in print", 7.28, "source: arXiv 2505.09343 table 1"),
    ("expand equals absorb", "to rounding", "asserted by tests/minimoe/model/test_mla.py"),
    ("FLOPs a byte that an H800 can do", round(989 / 3.35), "source: NVIDIA H100 SXM data sheet; only links differ"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# 1. Is MLA's cache larger than MHA's, as one sometimes reads? 576 is more than 128.
#
# <details><summary>Answer</summary>
#
# The 576 numbers serve all heads together. MHA keeps 256 numbers for *each* of 128 heads: 32,768.
#
# </details>
#
# 2. Could the rotary key be computed from the latent instead of the hidden state, to save a matrix?
#
# <details><summary>Answer</summary>
#
# It would run, but every bit of the latent spent on the rotary key is missing for keys and values, and it would not be DeepSeek's layer: loaded weights would give nonsense. In V3 `kv_a_proj_with_mqa` makes both from the hidden state, 512 + 64 rows.
#
# </details>
#
# 3. Why is absorption not used in training?
#
# <details><summary>Answer</summary>
#
# In training all tokens of a sequence are new at once, thousands of them. From 171 on, rebuilding each key and value once costs less than comparing 576 numbers for every pair.
#
# </details>
#
# 4. Does absorption change the parameters of the model?
#
# <details><summary>Answer</summary>
#
# No. It brackets the same products differently. One could multiply the two matrices in advance and store the product; but the product of two thin matrices is one large one.
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - MLA caches one latent and one shared rotary key a token and layer: 576 numbers in V3 instead of 32,768.
# - Positions cannot pass through the compression, so they travel in a separate, shared key.
# - Absorbing the up-projections makes decoding read the latents as they are; from about 171 new tokens a call rebuilding is cheaper.
#
# ## Sources
# DeepSeek-V2, arXiv 2405.04434 (section 2.1, tables 1, 8, 9); DeepSeek-V3, arXiv 2412.19437 (equations 1-11); Insights into DeepSeek-V3, arXiv 2505.09343 (table 1); the inference code of DeepSeek-V3 (`attn_impl`, both paths). Re-expansion at every step in other re-implementations: rasbt/LLMs-from-scratch (`ch04/05_mla`), sgl-project/sglang issue 1369.
#
# ## Next
# Attention is now cheap to remember. The other half of every layer, the experts, decides which 37 of 671 billion parameters a token meets; chapter 00 showed them at work, and the chapters after this one build them.
