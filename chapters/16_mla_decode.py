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
# # 16 MLA decode
#
# By the end you can say of one decoding step of V3's attention what bounds it, and you have split it, paged it, run its softmax block by block and read what the compiler made of it. No GPU is needed.
#
# 45 minutes, 90 with all exercises. Prerequisites: chapters 02 (the absorbed form), 05 (guessed tokens), 14 (programs, masks, roofline).
#
# You will be able to
# - count the FLOPs a byte of decoding for any number of heads, and check a famous claim about 128 of them
# - split a softmax over many programs, run it block by block, put the shares together, and read a cache that is scattered over pages
# - read a compiler's report: registers, spills, shared memory, and which tensor-core instruction

# %% tags=["setup"]
import math
import torch
from minimoe_kernels.kernel import cdiv, tl, triton
from minimoe_course import *
setup(seed=0)

# %% [markdown] tags=["question"]
# ## 3000 GB/s, or 660 TFLOP/s?
#
# FlashMLA is DeepSeek's own kernel for decoding with MLA. Its README gives two speeds on an H800, whose datasheet allows 3350 GB/s and 989 TFLOP/s: **3000 GB/s** where memory is the limit, and **660 TFLOP/s** where arithmetic is. The same kernel, the same cache of 576 numbers a token.
#
# What decides which of the two you get? Many say: 128 heads make it compute-bound. Do they?

# %% [markdown] tags=["by-hand"]
# ## Two tokens by hand
#
# In the absorbed form of chapter 02, a cached **entry** is a latent (here 2 numbers) and a rotary key (1 number). All 3 are the key. The first 2 are also the value.

# %% tags=["by-hand", "nbval-check-output"]
entries_SZ = torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 0.0]])  # Z: the 3 numbers of an entry
q_Z = torch.tensor([0.0, 0.0, 1.0986])  # 1.0986 is ln 3
weights_S = (entries_SZ @ q_Z).exp()
print("exp of the scores:", [round(w, 2) for w in weights_S.tolist()], "  sum:", round(weights_S.sum().item(), 2))
out_C = weights_S @ entries_SZ[:, :2] / weights_S.sum()
print("out:", [round(x, 2) for x in out_C.tolist()])

# %% [markdown]
# 6 numbers were read. Each of them took part in a score, and 4 of them once more in the result: 10 multiplications, each with an addition, 20 FLOPs. (The exponentials and the division are left out, here and in every count below.) A second head would do another 20 on the *same* 6 numbers.

# %% [markdown] tags=["beat"]
# ## One load, two products, all heads
#
# At V3's widths, C = 512 and R = 64, in bfloat16. One sequence has S cached entries and H heads ask:
#
# $$\mathrm{FLOPs} = 2\, S H\, (\underbrace{C + R}_{\text{score}} + \underbrace{C}_{\text{value}}), \qquad \mathrm{bytes} = 2\,\bigl(\underbrace{S\,(C + R)}_{\text{cache}} + H\,(\underbrace{C + R}_{\text{query}} + \underbrace{C}_{\text{result}})\bigr)$$
#
# H multiplies all of the work, and only the small part of the bytes. More heads climb the roofline.

# %% tags=["nbval-check-output"]
C, R, S = 512, 64, 4096

def least(S, H):
    """(FLOPs, bytes), everything moved once."""
    return 2 * S * H * (2 * C + R), 2 * (S * (C + R) + H * (2 * C + R))

for H in (1, 16, 32, 64, 128):
    flops, moved = least(S, H)
    print(f"H = {H:3}: {flops / 1e6:7.1f} MFLOP, {moved / 1e6:.2f} MB: {flops / moved:5.1f} FLOPs a byte")

# %% [markdown]
# That is a formula. Now let the simulator count the library's kernel, at the same S. A program takes up to 64 heads, so 128 heads need two programs. By the formula twice the heads are nearly twice the FLOPs a byte.

# %%
from minimoe_course.mla_decoding import counted_decode

ran = {H: counted_decode(H, S) for H in (1, 16, 32, 64, 128)}
intensity = {H: session.total.dot_flops / session.total.bytes for H, session in ran.items()}
guess("16.twice", f"Counted with 64 heads: {intensity[64]:.0f} FLOPs a byte. Counted with 128 heads:", round(intensity[128]), unit="FLOPs a byte")

# %% tags=["nbval-check-output"]
for H, session in ran.items():
    programs = len(session.launches[0].programs)
    print(f"H = {H:3}: programs: {programs}, {session.total.bytes / 1e6:5.2f} MB, {session.total.dot_flops / 1e6:7.1f} MFLOP: {intensity[H]:5.1f} FLOPs a byte")

# %% [markdown]
# Three things to see.
# - **128 heads earn no more than 64.** They are two programs, and each reads the whole cache. On a GPU the second may find it in the L2 cache (chapter 14); the kernel promises nothing.
# - **One head computes as much as 16.** A tensor core multiplies 16 rows at a time at least, so 15 rows of the tile are padding. The intensity looks fine and is waste.
# - **From 16 heads on, counted is a little below the formula.** The program writes its result in float32, and a second kernel reads it and writes it again in bfloat16. The next section says why there are two.

# %%
heads, ridge = [16, 32, 64, 128, 256], 989 / 3.35
by_formula = [least(S, H)[0] / least(S, H)[1] for H in heads]
show(
    lines(
        {"least": (heads, by_formula), "counted": (heads[:4], [intensity[H] for H in heads[:4]]), "H100 ridge": ([16, 256], [ridge, ridge])},
        "128 heads stop short of the ridge", "heads", "FLOPs a byte", grey=["H100 ridge"],
    ),
    alt="FLOPs a byte over heads. The line 'least' rises from 30 at 16 heads over 117 at 64 and 228 at 128 to 432 at 256, and crosses the grey line at 295 between 128 and 256. The line 'counted' follows it to 111 at 64 heads and stays there to 128, where it ends.",
)

# %% [markdown]
# At 16 heads, 30 FLOPs a byte: ten times too few, no doubt about it. At 128 heads, 228: three quarters of the ridge of 295. By the datasheet V3's decoding is *still bandwidth-bound*, by a quarter.
#
# Where does the claim come from, then? FlashMLA's authors calculate with 865 TFLOP/s, to which their H800 slows down under load, and round the count up to 2 FLOPs a byte for each head, as if an entry had no rotary part and queries and results were free: 256 for 128 heads, against 865 / 3.35 = 258. Strictly, 256 is still below 258; they round.
#
# But take the two speeds that FlashMLA *reaches*: 660 / 3.0 = 220, and 228 is beyond. By the datasheet 128 heads are bandwidth-bound, by the speeds reached barely compute-bound: the claim is a matter of which roof.
#
# ### Exercise: from how many heads on?
# ●●●○○ · 10 min · weigh it: heads are what a serving team divides among GPUs.
#
# With the two formulas above, return the least whole number of heads H for which FLOPs / bytes is at least `ridge`, and $-1$ if no number is enough. All arguments are whole numbers. (`least` does not help: its C and R are V3's, not the arguments.)
# By hand: S = 30, C = 4, R = 2 and a ridge of 10. A head does $2 \cdot 30 \cdot 10 = 600$ FLOPs. Nine of them do 5400 and move $2\,(180 + 90) = 540$ bytes, which is 10. Eight do not get there. The answer is 9.

# %% tags=["exercise"]
def heads_needed(S, C, R, ridge):
    ...  # your code

heads_needed = check("16.heads_needed", heads_needed)

# %%
hints("16.heads_needed")

# %% [markdown]
# How many heads do four ridges ask for, at three contexts? (*Measured* is the H100 of chapter 14; the others stand above.)

# %% tags=["nbval-check-output"]
contexts = (512, 4096, 131072)
print(f"{'ridge':20}", *(f"{n:6}" for n in contexts))
for name, value in (("H100 datasheet", 989 / 3.35), ("H100 measured", 798 / 3.0), ("FlashMLA's 865", 865 / 3.35), ("FlashMLA reached", 660 / 3.0)):
    needed = [heads_needed(n, C, R, round(value)) for n in contexts]
    print(f"{round(value)} {name:16}", *(f"{H:6}" for H in needed))

# %% [markdown]
# V3's 128 heads are enough in two of the twelve cases: by the lowest ridge, and only if the context is not short. In a short one, queries and results are a larger part of the bytes, so more heads are needed.

# %% [markdown] tags=["beat"]
# ## Two programs for 132 multiprocessors
#
# One sequence with 128 heads made two programs. An H100 has 132 multiprocessors, and 130 would sleep. More sequences help. When there are few and long ones, the only axis left to cut is the cache: each program takes a **share** of the entries. This is **split-KV**.
#
# But a softmax divides by the sum over *all* entries, and a share knows only its own. The two tokens from above, as two shares of one entry each: the results are `[1, 0]` and `[0, 2]`. Their average is `[0.5, 1]`. Right was `[0.75, 0.5]`.
#
# A share keeps one more number: its **log-sum-exp** $\ell = \ln \sum_s e^{\mathrm{score}_s}$, the logarithm of what it divided by. Here ln 3 and ln 1. Then, over the shares x,
#
# $$\mathrm{out} = \frac{\sum_x e^{\ell_x - m}\, \mathrm{part}_x}{\sum_x e^{\ell_x - m}}, \qquad m = \max_x \ell_x$$

# %% tags=["nbval-check-output"]
parts_XC, log_sums_X = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([3.0, 1.0]).log()
weights_X = (log_sums_X - log_sums_X.max()).exp()
print([round(x, 2) for x in (weights_X @ parts_XC / weights_X.sum()).tolist()])

# %% [markdown]
# $m$ cancels. It is there because $e^{89}$ does not fit into a float32.
#
# ### Exercise: combine
# ●●●○○ · 10 min · build it: every decoding kernel that splits ends in these lines.
#
# `parts_XHC` are the results of X shares for H heads, `log_sums_XH` their log-sum-exps. Return `out_HC` by the formula, with an $m$ for each head by itself. A share without entries has $\ell = -\infty$ and counts for nothing; if all shares of a head are empty, the result is zeros.
# By hand: parts `[1, 0]` and `[0, 1]` with log-sums ln 3 and ln 1 give `[0.75, 0.25]`.

# %% tags=["exercise"]
def combine(parts_XHC, log_sums_XH):
    ...  # your code

combine = check("16.combine", combine)

# %%
hints("16.combine")

# %% [markdown]
# Shares are not free. Each writes C float32 numbers a head, and `combine` reads them again. For one sequence of 4096 entries and 128 heads, how many shares are there when this detour moves as many bytes as the cache itself holds?

# %%
cache_bytes, detour_bytes = 2 * S * (C + R), 128 * C * 4 * 2
guess("16.shares", "Shares whose results, written and read, are as many bytes as the cache:", cache_bytes / detour_bytes, unit="shares")

# %% tags=["nbval-check-output"]
print(f"cache {cache_bytes / 1e6:.1f} MB, a share {detour_bytes / 1e6:.2f} MB: {cache_bytes / detour_bytes:.0f} shares")

# %% [markdown]
# Nine. With 16 heads instead of 128 a share is an eighth of that. Let the simulator count, for 1024 entries. What do eight shares move, against one?

# %%
by_shares = {shares: counted_decode(16, 1024, shares).total.bytes for shares in (1, 2, 4, 8)}
guess("16.moved", f"16 heads, 1024 entries, one share: {by_shares[1] / 1e6:.2f} MB. With eight shares:", round(by_shares[8] / 1e6, 2), unit="MB")

# %% tags=["nbval-check-output"]
for shares, moved in by_shares.items():
    print(f"shares: {shares}, {moved / 1e6:.2f} MB")

# %% [markdown]
# Each further share adds 0.08 MB: 0.07 for its results, written and read, and the queries, which it reads again. So who would take more than one? The library's `plan` says how many heads a program has, how many entries it takes at a time, and how many shares it cuts a sequence into. For 128 heads and 4096 entries:

# %% tags=["nbval-check-output"]
from minimoe_kernels.mla_decode import plan

for sequences in (1, 8, 128):
    heads_each, _, shares = plan(sequences, 128, S, C)
    detour = shares * detour_bytes / cache_bytes
    print(f"sequences: {sequences:3}, shares: {shares:2}, programs: {sequences * cdiv(128, heads_each) * shares}, detour / cache: {detour:.1f}")

# %% [markdown]
# For one sequence, 64 shares, and a detour of seven times the cache. Does that pay? Without it 2 of 132 multiprocessors draw on the memory, with it 128: 64 times as many, for less than 8 times the bytes. It should, but only a time would tell, and none has been measured here. Once the chip is full, more shares only add bytes. So `plan` aims at 132 programs, with at most 64 shares, and takes one share if there are sequences enough.

# %% [markdown] tags=["beat"]
# ## A cache in pages
#
# Sequences grow by one entry a step, at different lengths, and end when they like. So a server keeps the cache in **pages** of, say, 64 entries, hands out the next free one when a sequence needs it, and writes down in a **page table** which ones it has: entry s stands in page `table[s // PAGE]`, in place `s % PAGE`. Here with pages of 4, and entries of a single number:

# %%
@triton.jit
def read_paged(cache_ptr, table_ptr, out_ptr, length, PAGE: tl.constexpr, BLOCK: tl.constexpr):
    s = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = s < length
    page = tl.load(table_ptr + s // PAGE, mask=inside, other=0)
    entry = tl.load(cache_ptr + page * PAGE + s % PAGE, mask=inside)
    tl.store(out_ptr + s, entry, mask=inside)

cache = torch.tensor([70.0, 71, 72, 73, 4, 5, 78, 79, 0, 1, 2, 3])  # pages 0, 1, 2; the 70s are another sequence's, or left over
table, length, PAGE = torch.tensor([2, 1, 2**20, 2**20], dtype=torch.int32), 6, 4  # two pages in use, two empty slots
out = torch.full((16,), -1.0)
read_paged[(1,)](cache, table, out, length, PAGE, 8)
print(out[:8].tolist())

# %% [markdown]
# Six entries in order, from page 2 and then page 1. Nothing was read for the last two lanes, though the block is 8 wide. An empty slot of a table may hold any number; here it is 2^20, a page that does not exist. Now three slips. What does the simulator say to each?

# %% tags=["nbval-check-output"]
from minimoe_course.first_kernels import verdict

def read(table, length, BLOCK):
    got = torch.full((16,), -1.0)
    said = verdict(lambda: read_paged[(1,)](cache, table, got, length, PAGE, BLOCK))
    return f"{got[:8].int().tolist()}\n    {said}"

print("pages taken in order:", read(torch.arange(4, dtype=torch.int32), 6, 8))
print("length forgotten, block of 8:", read(table, 8, 8))
print("length forgotten, block of 16:", read(table, 16, 16))

# %% [markdown]
# The first reads somebody else's entries, the second reads two that were left over (78 and 79). All of these exist in the cache, and no tool complains: **wrong values**, which only a comparison finds. For that the library's tests fill every unused entry with NaN. The third leaves its pages, uses 2^20 as a page number, and is stopped: a **wrong access**. On a GPU it reads 4 million entries further on, if that memory is mapped; if not, the launch dies with an illegal memory access.
#
# ### Exercise: the length is forgotten
# ●●○○○ · 8 min · break it: know which mistake is silent before it is yours.
#
# A sequence of `length` entries has exactly the pages that it needs; the slots behind them hold 2^20. A kernel reads whole blocks of BLOCK entries until the length is covered, and has no mask. An entry is *wild* if its slot of the table holds 2^20. Return two numbers: how many entries beyond the length are read *in silence*, before the first wild one, and the index s of that entry, from 0 ($-1$ if there is none). (`cdiv` of the setup divides and rounds up.)
# By hand: length 6, pages of 4, blocks of 8 give (2, -1), as above. With blocks of 16: (2, 8).

# %% tags=["exercise"]
def forgotten(length, PAGE, BLOCK):
    ...  # your code: (silent, wild)

forgotten = check("16.forgotten", forgotten)

# %%
hints("16.forgotten")

# %% [markdown]
# With PAGE and BLOCK both 64 a block never leaves its page, and this slip is *always* silent:

# %% tags=["nbval-check-output"]
print("lengths of 1 to 100 with a wild read:", sum(forgotten(n, 64, 64)[1] >= 0 for n in range(1, 101)))

# %% [markdown] tags=["beat"]
# ## A softmax that has not seen the end
#
# How does a program work through its share? A share of 2048 entries is 2.4 MB, ten times what a multiprocessor holds, so it takes a block of 32 entries, then the next: 64 **steps**. But a softmax wants the largest score subtracted before anything is summed, and the largest may come last.
#
# The way out: subtract the largest score *so far*, the **peak**, and repair the sums when a larger one comes. Three entries, one a step, with the scores 0, ln 4, ln 2 and the values 10, 30, 20. After the first step the peak is 0. `total`, the sum of the weights, is 1, and `acc`, the sum of weight times value, is 10. The second score is the new peak. By what must the old `total` and `acc` be multiplied, to be what they would be had this peak been subtracted from the start?

# %%
guess("16.shrink", "Factor for the old sums when the peak rises from 0 to ln 4:", math.exp(0 - math.log(4)), unit="")

# %% tags=["nbval-check-output"]
peak, total, acc = -math.inf, 0.0, 0.0
for score, value in ((0.0, 10), (math.log(4), 30), (math.log(2), 20)):
    new_peak = max(peak, score)
    shrink = math.exp(peak - new_peak)
    weight = math.exp(score - new_peak)
    total, acc, peak = total * shrink + weight, acc * shrink + weight * value, new_peak
    print(f"score {score:.2f}: peak {peak:.2f}, shrink {shrink:.2f}, weight {weight:.2f}, total {total:.2f}, acc {acc:5.2f}")
print(f"acc / total = {acc / total:.2f}, peak + ln(total) = {peak + math.log(total):.2f}")

# %% [markdown]
# All at once the weights are 1, 4 and 2, the result is (10 + 120 + 40) / 7 = 24.29, and the log-sum ln 7 = 1.95. The same.
#
# The old weight was $e^{0 - 0}$ and should have been $e^{0 - \ln 4}$: a quarter. The factor $e^{\mathrm{old} - \mathrm{new}}$ is called `shrink`, and since it is the same for everything that was summed, two multiplications repair all earlier entries. In the third step the score lies below the peak: shrink is 1. In the first there is nothing to repair: the old peak is $-\infty$, and shrink 0. At the end `total` is 7 / 4, the sum in units of $e^{\mathrm{peak}}$, so the log-sum is peak + ln(total). This is the **running softmax**, the heart of FlashAttention and of every kernel like it.
#
# ### Exercise: the running softmax
# ●●●●○ · 15 min · build it: forget one shrink, and the result is wrong only where a later score is larger.
#
# One program for each head. `scores_ptr` holds S scores a head, one head after the other; `values_ptr` C numbers an entry, which all heads share. Walk along the entries, a block of BLOCK in each step. With the scores $x_s$ and values $v_s$ of a block, and $m' = \max(m, \max_s x_s)$:
#
# $$\mathrm{total}' = \mathrm{total}\; e^{m - m'} + \sum_s e^{x_s - m'}, \qquad \mathrm{acc}'_c = \mathrm{acc}_c\; e^{m - m'} + \sum_s e^{x_s - m'}\, v_{sc}$$
#
# Store acc / total to `out_ptr` (heads x C) and $m + \ln \mathrm{total}$ to `log_sum_ptr` (a number a head). S is at least 1 and need not fill the last block; C is a power of two. You need `tl.maximum` of two numbers, `tl.max` and `tl.sum` over an axis, `tl.exp` and `tl.log`; no `tl.dot`, since `weights[:, None] * values` can be summed over its axis 0. Minus infinity is `float("-inf")`.
#
# Two rules of Triton's compiler: inside a kernel stands `tl.exp`, not `math.exp`; and what lives from step to step keeps its type, so `total` begins at 0.0 (0 is an integer) and `acc` as C zeros of float32.
#
# By hand: scores `[0, ln 2, ln 4]` and values `[10] [20] [30]` in blocks of 2. After the first block the peak is ln 2, total 1.5, acc 25; after the second ln 4, 1.75 and 42.5. So the result is 24.29, and the log-sum 1.95.

# %% tags=["exercise"]
from minimoe_course.running_softmax import launched

@launched  # running(scores_HS, values_SC), gives out_HC and log_sum_H
@triton.jit
def running(scores_ptr, values_ptr, out_ptr, log_sum_ptr, S, C: tl.constexpr, BLOCK: tl.constexpr):
    ...  # your code: fifteen lines or so

running = check("16.running", running)

# %%
hints("16.running")

# %% [markdown]
# With `combine` from above this is split-KV. Twelve entries, as shares of 5 and 7:

# %% tags=["nbval-check-output"]
scores_HS, values_SC = 3 * torch.randn(2, 12), torch.randn(12, 4)
shares = [running(scores_HS[:, s], values_SC[s]) for s in (slice(0, 5), slice(5, 12))]
out_HC = combine(torch.stack([out for out, _ in shares]), torch.stack([log_sum for _, log_sum in shares]))
error = (out_HC - scores_HS.softmax(1) @ values_SC).abs().max().item()
print(f"largest difference from one softmax over all twelve below 0.00001: {error < 1e-5}")

# %% [markdown]
# ### The library's kernel, part by part
#
# You now know every piece of `split_kernel`. A program has three numbers: its sequence, its block of heads, its share. First it fetches its queries, once, and finds out which entries are its own.

# %% tags=["nbval-check-output"]
from minimoe_course.mla_decoding import source_part
from minimoe_kernels.mla_decode import split_kernel

print(source_part(split_kernel, "sequence, share", "acc ="))

# %% [markdown]
# `real` keeps off the rows of the tile that have no head, as with 3 heads in a tile of 16. `.to(tl.int64)` makes room for large offsets: a large cache has more numbers than 32 bits count. `each` is the length divided by the number of shares (SPLITS), rounded up to whole steps; a share at the end may get fewer entries, or none. A head has its own peak and its own total, and C = 512 numbers of acc. Then, for every step:

# %% tags=["nbval-check-output"]
print(source_part(split_kernel, "for start", "scores = tl.where"))

# %% [markdown]
# Here is the page table again, with the mask that nobody may forget. `values` are the latents of the step, entries x 512. They are loaded once and serve twice: turned by `tl.trans` they are the keys of the first product, and below they are the values. The rotary keys are loaded turned already, 64 x entries, and the second `tl.dot` adds their part to the same scores. `scale` is attention's usual factor; PRECISION matters only for float32.
#
# An entry behind the end gets the score $-\infty$, and so the weight 0. It also needs `other=0.0`: a page may hold NaN there, and 0 times NaN is NaN. And since a step begins before the end, it has at least one real entry: its peak is never $-\infty$, so the NaN that threatened `combine`, from $-\infty - (-\infty)$, cannot arise here.

# %% tags=["nbval-check-output"]
print(source_part(split_kernel, "new_peak", "peak = new_peak"))

# %% [markdown]
# Your exercise, for a whole block of heads. The sum over entries is a product of matrices, heads x entries by entries x 512, so it goes to the tensor core; for that the weights become bfloat16 like the values. The last argument of `tl.dot` is what it adds to: the old output, shrunk.

# %% tags=["nbval-check-output"]
print(source_part(split_kernel, "share_at", "tl.store(log_sum_ptr"))

# %% [markdown]
# So a share stores two things for each head: its own finished attention, 512 numbers, and one log-sum. For a share without entries these are zeros and $-\infty$. `combine_kernel` does the rest.
#
# Here it runs, block by block, on three sequences of 75, 21 and 0 entries, with 16 heads and two shares for each sequence. (It calls the peak *maximum*, `total` *sum*, and acc the *unfinished output*.) *Steps run* counts the blocks of each program and one step for what it stores; at the end, one for each sequence that is combined. The picture opens at 2, where some peaks rise. The grey mark is a head's old sum, the blue bar what the shrink left of it, orange what this block adds.
#
# **Try first:** move *Steps run* back to 1 and again to 2. The rows are the heads, from 0 at the top. Heads 3 and 13 lose most of their sum. Why these two, and head 0 nothing? Then set *Shares* to 1 and to 5: how many blocks has the longest program, and what do the additional bytes consist of?

# %%
from minimoe_widgets import KernelStepper

show(KernelStepper.decode())

# %% [markdown]
# Their peak rises by most, and $e^{\mathrm{old} - \mathrm{new}}$ is all that is left of the old sum. Head 0 keeps its peak: shrink is 1. One share walks along five blocks, five shares along one each, at the same time if there are multiprocessors. The green curve, bytes of the cache, ends where it did. What is added are queries, read again by every share, and parts, written and read.

# %% [markdown] tags=["beat"]
# ## What the compiler made of it
#
# A GPU's time cannot be measured here. But Triton compiles without a GPU, and the machine code can be read. What you see is the stored report of Triton 3.7.1 (`kernels/resources.json`). A program is carried out by **threads**, 256 here, each with its part of the tile's numbers; 32 of them form a **warp**. Four entries are worth knowing:
#
# | what | meaning | limit |
# |---|---|---|
# | **registers** | where a thread keeps the numbers it works on | 255 a thread; 65,536 a multiprocessor |
# | **spills** | instructions that park a register's content in slow memory (the *stack*, counted in bytes), and fetch it | better 0 |
# | **shared memory** | where a program's tiles wait | 166,912 bytes (A100), 232,448 (H100, B200) |
# | **tensor core** | which instruction multiplies | HMMA (all three), HGMMA (H100), UTCHMMA (B200) |
#
# `acc`, the running output of a program, is a float32 tile of heads x 512. With 64 heads and 8 warps on an H100, how many registers of each thread hold nothing but that?

# %%
guess("16.registers", "Registers a thread for an output of 64 x 512, with 256 threads:", 64 * 512 // 256, unit="registers")

# %% tags=["nbval-check-output"]
from minimoe_course.mla_decoding import STEPS, compiled

for arch, gpu in (("sm_80", "A100"), ("sm_90", "H100"), ("sm_100", "B200")):
    for block in ("BLOCK_H=16", "BLOCK_H=64"):
        r = compiled(arch, block)
        instruction, output = r["tensor_core"][0], int(block[8:]) * 512 // (32 * r["warps"])
        where = "output in tensor memory" if instruction == "UTCHMMA" else f"{output:3} of them output"
        print(f"{gpu} {block[8:]} heads: {instruction:7} {r['registers']} registers, {where}, {r['spills']:2} spills, {r['shared_bytes']:7,} bytes shared")

# %% [markdown]
# Read it column by column. **Registers:** with 64 heads, half of what a thread may have is output. A tile's side is a power of two, so the next size is 128, and there the output alone would be 256 registers of each thread, or with twice as many threads all 65,536 of the multiprocessor. 64 are the most that fit. This is why V3's 128 heads are two programs and the cache is read twice.
#
# **Tensor memory:** the B200's UTCHMMA does not leave its result in registers. It has a memory of its own beside them, 128 rows of 512 numbers in float32, 256 KB a multiprocessor. Why does the program still take 228 registers? Because of the shrink: the tensor core only adds, so in every step the threads fetch all of acc from there, 128 numbers each, multiply, and put it back. And the output of 128 heads would fill tensor memory to the last number, with no place left for the scores.
#
# **Tensor core:** on the H100, 64 heads compile to HGMMA, 16 heads to HMMA. HGMMA (`wgmma` in NVIDIA's manuals) is the instruction that came with this GPU: four warps multiply 64 rows together, straight from shared memory. FlashMLA is built on it. HMMA is the older one, for a single warp. Several well-known Triton kernels for MLA decoding take 16 heads a program, vLLM's and SGLang's among them. At 16 heads, where memory is the limit, this costs little. At 128 it reads the cache 8 times and multiplies with the older instruction.
#
# **Spills:** the A100 has 13. Where do they come from, and how do they go away? Besides output and queries, the entries of one step need room, in shared memory and on their way to the tensor core in registers. Here a step has 32 of them. STEPS holds what the compiler says to 64, 32 and 16.

# %% tags=["nbval-check-output"]
for arch, gpu in (("sm_80", "A100"), ("sm_90", "H100"), ("sm_100", "B200")):
    for step, by_arch in STEPS.items():
        registers, spills, shared_bytes = by_arch[arch]
        print(f"{gpu}, steps of {step}: {registers} registers, {spills:2} spills, {shared_bytes:7,} bytes shared")

# %% [markdown]
# Steps of 64 spill on the A100 and on the B200, and ask the B200 for 352,816 bytes of shared memory. It has 232,448: the code compiles and can never be launched. Steps of 32 cure the B200 and leave the A100 13; steps of 16 cure that too, and take twice as many steps. The H100 spills at none of the three with this compiler. With another it did: when the course was planned, a first draft of this kernel with steps of 64 had 0 bytes of spilled stack under Triton 3.6.0 and 200 under 3.9.0. So the numbers belong to a compiler, and the repository keeps them for one version and fails when they grow.

# %% [markdown] tags=["play"]
# ## Play
#
# The explorer puts a kernel under its roofs. A filled point is a measured time; a hollow one a bound (every number moved once) or a count of the simulator: at small sizes, and *yours* from this chapter. In Jupyter the compiler's report of the kernel that is shown stands below the picture.
#
# **Try first:** change *Shape* from 128 heads to 16, and watch the two floors at the right. Then choose `mla_prefill`: the same layer, in chapter 02's expanded form, is in another world. Why?

# %% tags=["play"]
from minimoe_widgets import KernelTimings

timings = KernelTimings("mla_decode", "128 heads", counted={"ours, 16 heads": intensity[16], "ours, 128": intensity[128]})
show(timings)

# %% [markdown]
# In prefill each key and value of a head meets thousands of queries; in decoding an entry meets one for each head. And no time is shown, since none has been measured: the floors come from a datasheet.

# %% [markdown]
# ## Tiny and real

# %% tags=["tiny-vs-real"]
import minimoe

v3, paper = minimoe.V3, "arXiv 2412.19437 section 4.2"
compare_table([
    ("latent C", 2, v3.kv_lora_rank, paper),
    ("rotary key R", 1, v3.qk_rope_head_dim, paper),
    ("heads", 1, v3.num_attention_heads, paper),
    ("entries", 2, S, "ours; chosen"),
    ("bytes of an entry", 2 * 3, 2 * (v3.kv_lora_rank + v3.qk_rope_head_dim), "computed, bfloat16"),
    ("FLOPs on an entry, all heads", 10, 2 * v3.num_attention_heads * (2 * v3.kv_lora_rank + v3.qk_rope_head_dim), "computed"),
    ("FLOPs a byte of cache", 10 / 6, v3.num_attention_heads * (2 * v3.kv_lora_rank + v3.qk_rope_head_dim) / (v3.kv_lora_rank + v3.qk_rope_head_dim), "computed"),
], ours="two tokens", title="One step of decoding at two sizes")

# %% [markdown]
# 242 FLOPs a byte of cache, 228 with queries and results at 4096 entries.

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# 128 sequences of 4096 entries, one layer, on one H100, by the datasheet: two floors under the time.

# %% tags=["when-it-pays", "nbval-check-output"]
def floors(H, queries=1, read=1):
    """us at least, of memory and of arithmetic; `queries` new tokens a step, the cache read `read` times."""
    flops = 128 * queries * least(S, H)[0]
    moved = 128 * 2 * (read * S * (C + R) + queries * H * (2 * C + R))
    return moved / 3.35e6, flops / 989e6

rows = {"16 heads": (16,), "64 heads": (64,), "128 heads": (128,), "128 heads, cache read twice": (128, 1, 2), "128 heads, two new tokens": (128, 2)}
for name, sizes in rows.items():
    memory, work = floors(*sizes)
    print(f"{name:28} memory {memory:4.0f} us, arithmetic {work:4.0f} us: {'bandwidth' if memory > work else 'compute'}-bound")

# %% [markdown]
# **Dividing heads among GPUs saves little.** 16 heads take 182 us at least, 128 heads 191: one eighth of the heads for 95% of the time, since every GPU reads the whole cache. The V3 report divides the heads of decoding by 4 (section 3.4.2, TP4); the service that was built, FlashMLA's authors write, does not divide them at all.
#
# **Guessed tokens are what makes it compute-bound.** With MTP (chapter 05) two tokens are checked in a step: 256 rows of queries on each entry. Memory costs 11 us more for queries and results, arithmetic doubles and takes over.
#
# **Where our kernel loses.** Two programs of 64 heads each ask for the cache. If the L2 cache does not help, the floor rises from 191 to 371 us. FlashMLA, too, has 64 heads on a multiprocessor. It overlaps the products of one tile with the softmax and the loads of its neighbour, on two groups of warps; ours leaves that to the compiler.

# %% tags=["nbval-check-output"]
print(f"FlashMLA's 660 TFLOP/s are {660 / 989:.0%} of the datasheet's 989 TFLOP/s, {660 / 865:.0%} of 865; its 3000 GB/s are {3000 / 3350:.0%} of 3350")

# %% [markdown]
# Of the memory's roof a tenth is missing. Of the arithmetic's, a quarter, even by the slower clock: that roof is the harder one to reach.
#
# **Our kernel on a GPU: not measured yet.** It has run in the simulator and been compiled; nothing on this page is a time of ours.

# %%
receipt([
    ("peak and bandwidth of the H100 SXM", "989 TFLOP/s bfloat16 dense, 3.35 TB/s", "source: NVIDIA H100 Tensor Core GPU datasheet"),
    ("measured roofs", "798 TFLOP/s, 3.0 TB/s", "source: one H100, cuBLAS 8192^3 on random data and a copy, when the course was planned; no record in this repository"),
    ("FlashMLA on an H800 SXM5", "3000 GB/s, 660 TFLOP/s", "source: deepseek-ai/FlashMLA README at 9241ae3"),
    ("865 TFLOP/s; 2 FLOPs a byte and head; no divided heads", "their estimate for 128 heads", "source: deepseek-ai/FlashMLA, docs/20250422-new-kernel-deep-dive.md at 12cfd32b"),
    ("FlashMLA: an output of 64 x 512 on a multiprocessor, two warp groups that take turns", "they call it seesaw scheduling", "source: the same file, High-Level Design of the New Kernel"),
    ("FlashMLA multiplies with WGMMA", "HGMMA in machine code", "source: the same file"),
    ("16 heads a program in vLLM", "BLOCK_H = 16", "source: vllm-project/vllm, vllm/v1/attention/ops/triton_decode_attention.py at 0155494b"),
    ("16 heads a program in SGLang", "BLOCK_H = 16", "source: sgl-project/sglang, python/sglang/srt/layers/attention/triton_ops/decode_attention.py at 03cd2ec4"),
    ("registers, spills, shared memory", "Triton 3.7.1", "source: kernels/resources.json; steps: python -m minimoe_course.mla_decoding"),
    ("the whole output out of tensor memory and back", "128 numbers a thread", "asserted by tests/course/test_chapter_16.py, which reads the B200's machine code"),
    ("size of tensor memory", "128 x 512 cells of 32 bits", "source: NVIDIA PTX ISA, Tensor Memory"),
    ("limits of shared memory, registers a thread", "166,912 and 232,448 bytes; 255", "source: NVIDIA CUDA C++ programming guide; minimoe_kernels.resources"),
    ("0 and 200 bytes of spilled stack", "Triton 3.6.0, 3.9.0", "source: a draft of the kernel compiled when the course was planned; no record in this repository"),
    ("TP4 in decoding", "section 3.4.2", "source: arXiv 2412.19437"),
    ("counted bytes of a step equal their formula", "exactly", "asserted by tests/course/test_chapter_16.py"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# 1. A friend serves V3 with its 128 heads divided over 8 GPUs and wonders why decoding is not 8 times as fast. What do you say?
#
# <details><summary>Answer</summary>
#
# Each GPU has 16 heads and reads the whole cache for them, 30 FLOPs a byte. The time is that of the bytes, and these did not get fewer: 182 us at least instead of 191. Divide the sequences instead.
#
# </details>
#
# 2. Two shares have log-sums 10 and 10 and the same number of entries. May you average them? And if one of them has twice as many entries, and the log-sums are still equal?
#
# <details><summary>Answer</summary>
#
# Yes, both times. Only the log-sums weigh; the number of entries is already in them.
#
# </details>
#
# 3. A kernel forgets to shrink its output. Its test has scores that fall from entry to entry. Does the test fail?
#
# <details><summary>Answer</summary>
#
# No. The first block sets the peak and none after it raises it, so every later shrink is 1. Rising scores would have found it, or scores at random in more than one block.
#
# </details>
#
# 4. After an update of the compiler, your kernel has the same results, and 200 bytes of stack. What do you look at first?
#
# <details><summary>Answer</summary>
#
# The registers: they will be at 255. The tile is too large by a little. A smaller step, or more warps to share the output, takes the pressure away. Values do not show a spill, time does.
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - An entry of MLA's cache is loaded once and used by every head, twice. FLOPs a byte grow with the heads: 30 at 16, 228 at 128, where the ridge is 295. At 128 heads both floors are near each other; two tokens a step cross over.
# - A share keeps a peak and two sums measured against it, and shrinks both when the peak rises. Shares are put together by their log-sum-exps. Pages let sequences grow, and a forgotten length is mostly silent.
# - The compiler's report says what time will show: 64 heads a program for HGMMA, half the registers for the output, and a step small enough not to spill.
#
# ## Sources
# MLA: DeepSeek-V2, arXiv 2405.04434; DeepSeek-V3, arXiv 2412.19437. FlashMLA: github.com/deepseek-ai/FlashMLA, README and docs. Split-KV: Dao et al., Flash-Decoding (2023). The running softmax: Milakov and Gimelshein, arXiv 1805.02867. Pages: Kwon et al., arXiv 2309.06180. Roofline: Williams, Waterman and Patterson, CACM 52(4), 65 (2009).
#
# ## Next
# Chapter 17 halves the bytes of weights and activations: FP8.
