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
# # 17 FP8
#
# By the end you have read a byte as a number, given every 128 numbers a scale of their own, multiplied and trained with what is left, and found by measurement which numbers may not be kept in a byte. No GPU is needed.
#
# 45 minutes, 100 with all exercises. Prerequisites: chapter 07 (a training run, AdamW); chapter 14 (programs, masks) for one of the six exercises.
#
# You will be able to
# - decode and round e4m3 by hand, and say how large its error is and where it ends
# - quantise by tiles and blocks, and say along which axis a tile must lie in each of a layer's three products
# - tell what V3 keeps in FP8 from what it does not, and show what breaks if you ignore the difference

# %% tags=["setup"]
import math
import torch
import minimoe
from minimoe_course import *
setup(seed=0)

# %% [markdown] tags=["question"]
# ## 253 numbers
#
# A byte has 256 patterns. In the format that DeepSeek-V3 multiplies its matrices in, two of them are no number and two are zero. That leaves 253 different numbers: there is a 16 and an 18, but no 17. Both matrices of nearly every product went through this format, forward and backward, for 14.8 trillion tokens.
#
# The report says that the loss was off by less than 0.25% from the same training in bfloat16 (section 3.3, on two smaller models, over about a trillion tokens). How can that be, if a single number is off by up to 6%?

# %% [markdown] tags=["by-hand"]
# ## Two bytes by hand
#
# **e4m3** cuts a byte into 1 bit of sign, 4 of **exponent**, 3 of **mantissa**. The exponent says between which two powers of two the number lies; it is stored with 7 added, the **bias**. The mantissa says how many eighths of the way up. So 0 1000 100 is $2^{8-7} \cdot (1 + \tfrac48) = 3$. And its neighbour?

# %% tags=["by-hand", "nbval-check-output"]
for byte in (0b0_1000_100, 0b0_1000_101):
    exponent, mantissa = byte // 8 % 16, byte % 8
    print(f"{byte:08b}: exponent {exponent} - 7 = {exponent - 7}, mantissa {mantissa}/8: {2.0 ** (exponent - 7) * (1 + mantissa / 8)}")

# %% [markdown]
# 3 and 3.25: what lies between them must choose. Between 2 and 4 the numbers are a quarter apart, between 4 and 8 a half, between 256 and 448 it is 32. The spacing grows with the number, and that is what makes a *floating* point.

# %% [markdown] tags=["beat"]
# ## One byte
#
# Two exponents are special. With exponent 0000 the leading 1 is dropped and the exponent stays at -6: 7 **subnormal** numbers, $2^{-9}$ apart, and zero. With 1111 and mantissa 111 the byte is NaN; there is no infinity.
#
# $$\mathrm{value} = (-1)^{s} \cdot \begin{cases} 2^{e - 7}\,(1 + m/8) & e > 0 \\ 2^{-6}\, m/8 & e = 0 \end{cases} \qquad \text{NaN if } e = 15,\ m = 7$$
#
# ### Exercise: decode
# ●●○○○ · 8 min · build it: you will look at bytes again when a checkpoint does not load.
#
# `byte` is a whole number from 0 to 255. Return what it is worth, by the formula; $s$, $e$ and $m$ are its 1, 4 and 3 bits from the left. `float("nan")` is NaN. Not by `torch.float8_e4m3fn`.
# By hand: 0b01000100 = 68 gives 3.0, and 0b00000011 = 3 gives $2^{-6} \cdot \tfrac38 = 0.005859375$.

# %% tags=["exercise"]
def decode(byte):
    ...  # your code

decode = check("17.decode", decode)

# %%
hints("17.decode")

# %% tags=["nbval-check-output"]
values = [decode(byte) for byte in range(256)]
theirs = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
assert torch.equal(torch.tensor(values).nan_to_num(nan=-1e9), theirs.nan_to_num(nan=-1e9))
positive = sorted(v for v in values if v > 0)
print("different numbers:", len({v for v in values if not math.isnan(v)}))
print("smallest, smallest normal, largest:", positive[0], positive[7], positive[-1], f"  normal range 1 to {positive[-1] / positive[7]:,.0f}")

# %% [markdown]
# All 256 patterns agree with PyTorch's. (PyTorch calls the type `float8_e4m3fn`: "fn", finite and with NaN.)
#
# Now the other way. A number between two neighbours goes to the nearer one. In the middle it goes to the one with an even mantissa, so that ties do not all go the same way; 17 becomes 16, and 19 becomes 20. What is too large becomes 448. How far off can a number be, in percent of itself? (Not a subnormal one.)

# %%
from minimoe_course.fp8_numbers import step_error
from minimoe_kernels.sim.rounding import E4M3, E5M2

guess("17.error", "The largest error of rounding to e4m3, as a percentage of the number:", round(max(step_error(E4M3)[1][7:]), 1), unit="%")

# %%
show(
    lines(
        {form: step_error(f) for form, f in (("e4m3", E4M3), ("e5m2", E5M2))},
        "One more bit of mantissa halves the error, one of exponent squares the range", "number / largest number of the format", "worst rounding error (%)", log="x",
    ),
    alt="Worst rounding error in percent over the size of the number, which is logarithmic; the largest number of each format is at the right. e4m3 is a sawtooth between 3 and 6 percent down to 0.00004 of its largest number, then rises steeply to 33 percent at 0.000004. e5m2 is a sawtooth between 7 and 11 percent that goes on down to a billionth, and rises there.",
)

# %% [markdown]
# At most half a spacing: 1/16 of the power of two below the number, and 5.9% of the number itself in the worst place, right above a power of two. Below the smallest normal number the spacing stays and the error grows. **e5m2** has one bit less of mantissa and one more of exponent: twice the error, and a normal range of about $2^{30}$ instead of $2^{15}$. Earlier FP8 training took e4m3 for the forward pass and e5m2 for gradients, which need the range. V3 takes e4m3 for everything. The next beat shows why it can.
#
# ### Exercise: the nearest number
# ●●●○○ · 10 min · build it: the tools get this wrong, see below.
#
# Round each of `x_A` (float32) to e4m3 and return the result as float32: with $2^e \le |x| < 2^{e+1}$,
#
# $$\mathrm{spacing} = 2^{\max(e,\, -6) - 3}, \qquad \hat x = \mathrm{spacing} \cdot \mathrm{round}(x / \mathrm{spacing}), \qquad |\hat x| \le 448$$
#
# `torch.round` takes ties to even. Not by `torch.float8_e4m3fn`. By hand: `[1.94, 17, 19, 500]` gives `[2, 16, 20, 448]`.

# %% tags=["exercise"]
def round_e4m3(x_A):
    ...  # your code

round_e4m3 = check("17.round_e4m3", round_e4m3)

# %%
hints("17.round_e4m3")

# %% [markdown]
# 1.94 is 15.52 eighths, rounded 16: the mantissa is full, and the **carry** makes the exponent one larger. Triton's own interpreter, with which kernels are often tried on a CPU, loses that carry: 1.94 becomes 1.0 without a word (Triton issue 8322; this course's simulator does its own rounding for that reason). Would you notice?

# %% tags=["nbval-check-output"]
def carry_lost(x_A):
    """1.94 -> 1.0: the mantissa is rounded, its carry dropped."""
    floor_A = torch.exp2(x_A.abs().log2().floor())
    right_A = round_e4m3(x_A)
    return torch.where(right_A.abs() == 2 * floor_A, right_A / 2, right_A)

x_A = torch.randn(100_000)
for name, rounded_A in (("nearest", round_e4m3(x_A)), ("carry lost", carry_lost(x_A))):
    print(f"{name:11} {100 * ((rounded_A - x_A).norm() / x_A.norm()):.1f}% off, {(abs(rounded_A / x_A - 1) > 1 / 16).float().mean():.1%} of the numbers by more than 1/16")

# %% [markdown]
# Only one number in twenty is hit, and by half of its size; the whole is four times as far off. (Numbers that are off by more than 1/16 without the slip are subnormal.) Training would go on, and be worse. Test a conversion on 1.94.

# %% [markdown] tags=["beat"]
# ## A scale, and who pays for it
#
# A tensor's numbers need not lie where the format is good. So they are divided by a **scale** first, such that the largest becomes 448, and multiplied by it afterwards. One float32 for a whole tensor costs nothing. But one **outlier** then decides for all.
#
# V3 gives every **tile** of 128 numbers of a row its own scale, found there and then (`as_fp8` below). An outlier then costs its own tile and nobody else. With one scale for all (`one_scale`), what does it cost?
#
# 16 rows of 1024 numbers, all about 1, and a single one is 1000. With integers (int8, 255 steps of equal size) the others are below half a step: gone. And in e4m3?

# %%
from minimoe_course.fp8_numbers import as_fp8, one_scale

def with_outlier(size):
    x_MD = torch.randn(16, 1024, generator=torch.Generator().manual_seed(0))
    x_MD[3, 77] = size
    return x_MD

def off(rounded_MD, x_MD):
    """Error of the 15 rows without the outlier, in percent of their length."""
    others = torch.arange(16) != 3
    return 100 * ((rounded_MD - x_MD)[others].norm() / x_MD[others].norm()).item()

x_MD = with_outlier(1000.0)
guess("17.outlier", "An outlier of 1000. Error of the other rows in e4m3, one scale for all (without an outlier 2.6%):", round(off(one_scale(x_MD, "e4m3"), x_MD), 1), unit="%")

# %%
sizes = [10 ** (n / 2) for n in range(13)]
tensors = [with_outlier(size) for size in sizes]
curves = {form: (sizes, [off(one_scale(x_MD, form), x_MD) for x_MD in tensors]) for form in ("int8", "e4m3", "e5m2")}
curves["e4m3, tiles"] = (sizes, [off(as_fp8(x_MD), x_MD) for x_MD in tensors])
show(
    lines(curves, "e4m3 bears outliers to 10,000; in tiles, any", "the one outlier; all other numbers are about 1", "error of the other rows (%)", log="xy"),
    alt="Error of the other rows in percent over the size of one outlier from 1 to a million, both logarithmic. int8 starts at 1 percent, passes e4m3 above 10 and reaches 100 percent at 1000. e4m3 with one scale stays at 2.6 percent until 10,000, then climbs to 12 percent at 100,000 and 95 at a million. e5m2 is flat at 5.3, e4m3 in tiles flat at 2.6.",
)

# %% tags=["nbval-check-output"]
for name, (_, errors) in curves.items():
    print(f"{name:12}", "  ".join(f"{s:,.0f}: {e:5.1f}%" for s, e in zip(sizes[::2], errors[::2])))

# %% [markdown]
# The same 2.6%. This is what the exponent buys: a thousand times smaller is only ten exponents down, with the same relative precision. (For tame numbers int8 is the *better* byte, 1%. FP8 is no int8 with another name.) Beyond an outlier of some 10,000 even e4m3's range ends, and the rest becomes subnormal, then zero.
#
# Tiles of 1 x 128 are V3's way for activations and gradients. A weight shares its scale in **blocks** of 128 x 128, with 128 times fewer scales.
#
# Do real tensors need it? Here is NANO after its training, one of its matrices: the input `x` that it multiplies, and the gradient `d_y` of the loss that comes back to its output, a row for each of 1024 tokens. How many times larger is the largest row of the gradient than the smallest?

# %%
from minimoe_course.fp8_numbers import gradients, held_out, row_errors
from minimoe.training.fp8_product import BLOCKS, quantise as library_quantise

model, batch_BT = minimoe.load(data_path("nano"), dtype=torch.float32), held_out(8)
name = "model.layers.2.mlp.shared_experts.down_proj"
x_MD, d_y_MD = gradients(model, batch_BT, name)[name]
largest_M = d_y_MD.abs().amax(1)
largest_M = largest_M[largest_M > 0]  # the last token of a row predicts nothing
guess("17.gradient", "The largest number of the row with the largest gradient, over that of the row with the smallest:", (largest_M.max() / largest_M.min()).item(), unit="times")

# %%
ways = {
    "e4m3, one scale": lambda t_MD: one_scale(t_MD, "e4m3"),
    "e5m2, one scale": lambda t_MD: one_scale(t_MD, "e5m2"),
    "e4m3, 128 x 128": lambda t_MD: library_quantise(t_MD, BLOCKS).dequantise(),
    "e4m3, 1 x 128": as_fp8,
}
for label, t_MD in (("x", x_MD), ("gradient", d_y_MD)):
    for way, rounded in ways.items():
        errors_M = row_errors(rounded(t_MD), t_MD)
        spread = f"median {errors_M.median():.1f}%, worst {errors_M.max():5.1f}%"
        print(f"{label:9} {way:16} error of a token: {spread}, lost (above 50%) {(errors_M > 50).sum():2} of {len(errors_M)}")

# %% [markdown]
# The activations do not need tiles at this size. The gradient does: a million to one between tokens, and with one scale 37 of 1016 tokens lose more than half of theirs. Blocks of 128 tokens do not help, since large and small stand side by side. e5m2 keeps them all, at twice the error. Tiles of one token keep them *and* the third bit. That is why e4m3 can be used everywhere.
#
# Which tokens are these? Before you worry, look:

# %%
import torch.nn.functional as F

with torch.no_grad():
    logits_BTV = model.eval()(batch_BT).logits
loss_M = F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), batch_BT[:, 1:].flatten(), reduction="none")
lost_M = row_errors(one_scale(d_y_MD, "e4m3"), d_y_MD) > 50
print(f"loss of the {lost_M.sum()} tokens whose gradient is lost: {loss_M[lost_M].mean():.6f}")
print(f"loss of the others: {loss_M[~lost_M].mean():.2f}")

# %% [markdown]
# They are predicted with certainty, and nothing is left to learn from them. Here one scale, or blocks, would do no harm. In a large model blocks did: with the gradients in blocks of 128 x 128 a model of 16B, trained for about 300B tokens, diverged (appendix B.2). The report's guess at the reason is what you have measured: gradients differ that much between tokens. At our size you see the mechanism, not the accident.
#
# ### Exercise: quantise in a kernel
# ●●●○○ · 12 min · build it: each of V3's FP8 products begins with it.
#
# Program (m, j) has tile j of row m: TILE numbers of float32, the last tile of a row may have fewer. With $\mathrm{amax}$ the largest magnitude of the tile,
#
# $$\mathrm{scale}_{mj} = \mathrm{amax} / 448 \;\;(1 \text{ if all are } 0), \qquad \mathrm{fp8}_{md} = \mathrm{e4m3}(x_{md} / \mathrm{scale}_{mj})$$
#
# A row of `x_ptr` and of `fp8_ptr` has D numbers; a row of `scale_ptr` has `tl.num_programs(1)`. `.to(tl.float8e4nv)` rounds to e4m3, `tl.abs` and `tl.max(..., axis=0)` give magnitudes and their maximum, `tl.where(a, b, c)` chooses.
# By hand: `[448, -2, 3, 0.3, 7]` in tiles of 4 has the scales `[1, 0.015625]`, and the FP8 numbers `[448, -2, 3, 0.3125, 448]`.

# %% tags=["exercise"]
from minimoe_course.fp8_numbers import launched
from minimoe_kernels.kernel import tl, triton

@launched  # makes it a function of tensors: quantise(x_MD, tile)
@triton.jit
def quantise(x_ptr, fp8_ptr, scale_ptr, D, TILE: tl.constexpr):
    ...  # your code: eight lines or so

quantise = check("17.quantise", quantise)

# %%
hints("17.quantise")

# %% [markdown]
# Four slips in a right solution. Which of them does the simulator stop by itself, and which give wrong numbers without a word?

# %% tags=["nbval-check-output"]
from minimoe_course.ch17 import slipped
from minimoe_course.first_kernels import verdict

slips = {
    "no abs in the maximum": ("tl.abs(x)", "x"),
    "multiplied for divided": ("(x / scale)", "(x * scale)"),
    "one place for a tile's scale in all rows": ("m * tl.num_programs(1) + j", "j"),
    "scales spaced like numbers": ("m * tl.num_programs(1) + j", "m * D + j"),
}
for what, change in slips.items():
    said = verdict(lambda: slipped(change)(torch.tensor([[1.0, -2, 3, -4, 5], [6, 7, -9, 8, 0]]), 4))
    print(f"{what}\n    {said}")

# %% [markdown]
# Two of each. The last two are wrong accesses. The first two are quiet. Without `abs` half of the tiles are right; in the other half, where the largest number is negative, it is cut off at -448.

# %% [markdown] tags=["beat"]
# ## The product, in two levels
#
# In a product, tile j of the summed axis has the scale of its row of x and that of its block of W. Within the tile both are constants, so the FP8 numbers can be multiplied as they are, and only the sum is scaled:
#
# $$\mathrm{out}_{mf} = \sum_j\; x^{\mathrm{scale}}_{mj}\; w^{\mathrm{scale}}_{i(f)\, j} \sum_{d \,\in\, \text{tile } j} x_{md}\, w_{fd}$$
#
# ### Exercise: the scaled product
# ●●●○○ · 10 min · build it: the formula is figure 7 of the report.
#
# The FP8 numbers `x_MD` and `weight_FD` are given as float32. `x_scale_MJ` has a scale for each `tile` numbers of a row of x, `w_scale_IJ` one for each block of `tile` x `tile` of the weight: row f belongs to block row $i(f) = \lfloor f / \mathrm{tile} \rfloor$. The last tile of a row and the last block may be smaller. Return $\mathrm{out}_{mf}$.
# By hand: x = `[[1, 2, 3, 4]]` with scales `[[1, 10]]`, a weight of ones with scales `[[1, 0.5]]`, tiles of 2: $3 \cdot 1 \cdot 1 + 7 \cdot 10 \cdot 0.5 = 38$.

# %% tags=["exercise"]
def scaled_product(x_MD, x_scale_MJ, weight_FD, w_scale_IJ, tile):
    ...  # your code

scaled_product = check("17.scaled_product", scaled_product)

# %%
hints("17.scaled_product")

# %% [markdown]
# Two levels of sums, because of the scales. There is a second reason, and it is why the report fixes 128.
#
# The inner sum is a tensor core's. A Hopper GPU takes 32 products at a time, shifts them all to the exponent of the largest, *cuts off* what is more than 13 bits below, and adds (arXiv 2505.09343 section 3.1.1). `limited_sum` imitates that bit by bit. 64 products: one is 448 x 448, the others are 1/8.

# %% tags=["nbval-check-output"]
from minimoe.training.fp8_product import exact_sum, limited_sum

a, b = torch.ones(1, 64), torch.full((1, 64), 1 / 8)
a[0, 0] = b[0, 0] = 448
a, b = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn)
print("exact:", exact_sum(a, b).item(), "  tensor core:", limited_sum(a, b).item())

# %% [markdown]
# The 63 eighths have left no trace. The largest product has the exponent 17, so whatever is below $2^{17-13} = 16$ is cut off. The same happens to any product that meets a large sum, and the longer the sum, the larger it gets. V3's remedy: after 128 products the sum leaves the tensor core and is added in float32 elsewhere (**promotion**). What does that save, for a sum of 4096 products?

# %%
from minimoe_course.fp8_numbers import sum_errors

widths = [128, 256, 512, 1024, 2048, 4096]
signed, positive = sum_errors(torch.randn, widths), sum_errors(torch.rand, widths)
guess("17.limited", f"Numbers from 0 to 1, largest error of 64 x 64 sums. Of 128 products: {positive['one level'][0]:.2f}%. Of 4096 products, all on the tensor core:", round(positive["one level"][-1], 1), unit="%")

# %%
show(
    lines(
        {"all positive, one level": (widths, positive["one level"]), "both signs, one level": (widths, signed["one level"]), "all positive, two": (widths, positive["two levels"]), "both signs, two": (widths, signed["two levels"]), "paper: near 2%": ([4096], [2])},
        "Promoted every 128, sums stay within 0.12%", "products in the sum, K", "largest error (% of the outputs' rms)", grey=["paper: near 2%"], log="xy",
    ),
    alt="Largest error of a sum in percent over the number of products from 128 to 4096, both logarithmic. On one level the error grows from 0.1 to 8 percent for positive numbers and from 0.1 to 1.5 percent for numbers of both signs. On two levels it falls from 0.1 to below 0.07 percent for both. A grey mark at 4096 and 2 percent is the paper's.",
)

# %% tags=["nbval-check-output"]
for name, errors in (("both signs", signed), ("all positive", positive)):
    print(f"{name:13} K = 4096: one level {errors['one level'][-1]:.1f}%, two levels {errors['two levels'][-1]:.2f}%")

# %% [markdown]
# The report says "nearly 2%" for two random matrices with K = 4096. It does not say how they were drawn, nor what the 2% is relative to. For normal random numbers we find 1.5%; for numbers of one sign, 8%. One more thing is open: is the sum so far among what is shifted? Here it is. If not (`joint=False`), 1.5% becomes 1.2%. What is not in doubt is the second level: the error is more than 25 times smaller.
#
# The kernel that does it, `minimoe_kernels.fp8_gemm`, is your formula with `tl.dot` for the inner sum. Which tensor-core instruction did the compiler find for it? The report is stored in `kernels/resources.json`:

# %% tags=["nbval-check-output"]
import json
from minimoe_kernels.resources import PATH

reports = [r for launch, r in json.loads(PATH.read_text())["kernels"].items() if launch.startswith("fp8_gemm_kernel(")]
for arch, gpu in (("sm_80", "A100"), ("sm_90", "H100"), ("sm_100", "B200")):
    r = reports[0][arch]
    print(f"{gpu}: {r if isinstance(r, str) else r['tensor_core'][0]}")

# %% [markdown]
# QGMMA is the FP8 sibling of chapter 16's HGMMA, UTCQMMA the B200's. An A100 (sm_80) has nothing of the kind: FP8 begins with sm_89.

# %% [markdown] tags=["beat"]
# ## The recipe, end to end
#
# A linear layer is three products: forward, and the two gradients of chapter 15.
#
# | product | | sums over | its tiles lie along |
# |---|---|---|---|
# | forward | $y_{mf} = \sum_d x_{md} W_{fd}$ | features d | features |
# | dgrad | $\partial x_{md} = \sum_f \partial y_{mf} W_{fd}$ | features f | features |
# | wgrad | $\partial W_{fd} = \sum_m \partial y_{mf}\, x_{md}$ | **tokens** m | **tokens** |
#
# V3 does all three in FP8. The tiles lie along the summed axis: otherwise the scale would not be a constant of the inner sum. There is a second advantage. A number becomes zero only beside one in its tile that is more than 458,752 times larger (448 over half the smallest subnormal, $2^{-10}$), and if both are in the same *sum*, nobody misses it. The 37 tokens from above: in wgrad they are added to a thousand others, so they may be lost in a tile along the tokens. In dgrad each is a row of its own, and there the tiles lie along the features and keep it.
#
# Weights in blocks of 128 x 128 look the same from both sides, so $W$ is quantised once for forward and dgrad. $x$ and $\partial y$ are needed in tiles along features *and* along tokens.
#
# ### Exercise: the weight's gradient
# ●●○○○ · 7 min · build it: a transposition in the wrong place runs without a complaint.
#
# $$\partial W_{fd} = \sum_m \widehat{\partial y}_{mf}\, \hat x_{md}$$
#
# The hats mean FP8 in tiles of 128 tokens. `as_fp8(t)` gives what a matrix is after a stay in FP8 with tiles along its *rows*. `d_y_MF` and `x_MD` have a row for each token. Return the gradient, a row for each output.
# By hand (nothing rounds): d_y = `[[1], [2]]` and x = `[[4, 8], [1, 2]]` give `[[6, 12]]`.

# %% tags=["exercise"]
def weight_gradient(d_y_MF, x_MD):
    ...  # your code

weight_gradient = check("17.weight_gradient", weight_gradient)

# %%
hints("17.weight_gradient")

# %% [markdown]
# x was quantised along features for the forward pass and stored like that: one byte a number is what saves memory. In the backward pass it is turned and quantised again. Does that round twice?

# %% tags=["nbval-check-output"]
from minimoe.training.fp8_product import TILES, e5m6

def turned(x_MD, power_of_two):
    """Once along features, then along tokens: what is stored, and what wgrad multiplies."""
    stored_MD = library_quantise(x_MD, TILES, power_of_two).dequantise()
    return stored_MD, library_quantise(stored_MD.t(), TILES, power_of_two).dequantise().t()

x_MD = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
for label, power in (("scale max / 448", False), ("scale 2^n", True)):
    stored_MD, again_MD = turned(x_MD, power)
    first, both = (100 * ((t - x_MD).norm() / x_MD.norm()).item() for t in (stored_MD, again_MD))
    print(f"{label:16} error stored {first:.2f}%, turned {both:.2f}%; numbers changed by turning: {(again_MD != stored_MD).float().mean():.1%}")
print(f"e5m6             error stored {100 * ((e5m6(x_MD) - x_MD).norm() / x_MD.norm()):.2f}%")

# %% [markdown]
# With free scales it does: the new scale puts every number between other neighbours. If scales are **powers of two**, changing one shifts the exponent and leaves the mantissa alone, so nothing is rounded again (unless it falls among the subnormals). The price is 2.66% of error at first instead of 2.57%: the largest number of a tile lands somewhere between 224 and 448, not on 448. V3 rounds scales up to powers of two where a tensor will be turned: what is sent to the experts, and the input of the projection after attention. That one is also needed when attention itself goes backward, which is sensitive; so it is stored in 12 bits, **e5m6**: six bits of mantissa, an eighth of the error.
#
# Where does the scale come from? From the numbers themselves, while they are in the registers (**online**). Others take it from the maxima of the last steps (**delayed**), which spares a pass over the tensor. Then a new outlier meets an old scale:

# %% tags=["nbval-check-output"]
history_max = 4.0  # the largest of the last steps
x = torch.tensor([0.5, -1.5, 3.0, 40.0])
for label, largest in (("delayed", history_max), ("online", x.abs().max())):
    scale = largest / 448
    print(f"{label:8} {[round(v, 2) for v in ((x / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale).tolist()]}")

# %% [markdown]
# The outlier is cut to a tenth. Now the whole recipe, on a model. `use_fp8` replaces the products of attention and of feed-forward blocks and leaves everything else. Ask it what it takes:

# %%
from minimoe_course.fp8_numbers import recipe

recipe(minimoe.Transformer(minimoe.NANO, seed=0))

# %% [markdown]
# Embedding, head, router, norms and the projection that joins an MTP module's inputs stay. So does all inside attention: queries times keys, softmax, and its weights times values. In NANO that is 31% of its numbers, because its vocabulary is large beside its layers.
#
# One start, one order of batches, three runs of 12 steps: float32, FP8, and as a **control** float32 with the experts run one after the other, which changes nothing but the order of additions. By how much will FP8's loss differ, over the 12 steps?

# %%
from minimoe.model.moe import MoE, loop
from minimoe.training import Batches, Settings, train
from minimoe.training.fp8 import use_fp8
from minimoe_course.fp8_numbers import SETTINGS, documents

ids = documents()

def run(kind):
    model = minimoe.Transformer(minimoe.NANO, seed=0)
    if kind == "FP8":
        use_fp8(model)
    for module in model.modules():
        if isinstance(module, MoE) and kind != "float32":
            module.dispatch = loop  # `use_fp8` does it, too
    return train(model, Batches(ids, 4, 128, seed=0), Settings(steps=12, **SETTINGS), label=None)["next_token"]

losses = {kind: run(kind) for kind in ("float32", "FP8", "control")}
apart = {kind: [100 * abs(a - b) / b for a, b in zip(losses[kind], losses["float32"])] for kind in ("FP8", "control")}
guess("17.run", f"Loss {losses['float32'][0]:.2f} at the first step, {losses['float32'][-1]:.2f} at the last. Mean difference of FP8 from float32, step by step:", round(sum(apart["FP8"]) / 12, 2), unit="%")

# %%
for step in (0, 4, 8, 11):
    print(f"step {step + 1:2}: " + "   ".join(f"{kind} {losses[kind][step]:.4f}" for kind in losses))
for kind, steps in apart.items():
    print(f"{kind:8} differs by {sum(steps) / 12:.3f}% on average, {max(steps):.3f}% at most")

# %% [markdown]
# Numbers that are off by several percent, and a loss that is off by a tenth of one. The control is still equal in every digit shown: runs drift apart from any tiny difference, but not in 12 steps. So what you see is FP8.
#
# Where have the percents gone? One guess: rounding errs up as often as down, and in a long sum the errors cancel. Is a sum of 4096 products more exact than one of 64? Try numbers from 0 to 1, and numbers of both signs.

# %% tags=["nbval-check-output"]
from minimoe.training.fp8_product import product

for label, draw in (("0 to 1", torch.rand), ("both signs", torch.randn)):
    off_by = []
    for K in (64, 256, 1024, 4096):
        x_MD, weight_FD = (draw(64, K, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
        exact_MF = x_MD @ weight_FD.t()
        fp8_MF = product(library_quantise(x_MD), library_quantise(weight_FD, BLOCKS))
        off_by.append(f"K = {K}: {100 * ((fp8_MF - exact_MF).norm() / exact_MF.norm()):.2f}%")
    print(f"{label:10} {'   '.join(off_by)}")

# %% [markdown]
# Errors of numbers of one sign cancel. With both signs, as in a network, the terms of the sum cancel as much as their errors do, and the result is 3.6 to 3.7% off, however many they are. So the errors are there, in every product. To train, a gradient need not be exact: it is that of a batch, and the next batch has another one. How far apart are they?

# %%
from minimoe_course.fp8_numbers import layer_gradient

fresh, batches = minimoe.Transformer(minimoe.NANO, seed=0), Batches(ids, 4, 128, seed=0)
one_BT, other_BT = batches.take(), batches.take()
exact, other = layer_gradient(fresh, one_BT), layer_gradient(fresh, other_BT)
rounded = layer_gradient(use_fp8(fresh), one_BT)
batches_apart, fp8_apart = (100 * ((g - exact).norm() / exact.norm()).item() for g in (other, rounded))
batch = f"Another batch of 512 tokens changes it by {batches_apart:.0f}% of its length"
guess("17.noise", f"Gradient of all layers. {batch}. FP8 on the same batch:", round(fp8_apart, 1), unit="%")

# %% [markdown]
# Two batches disagree more than ten times as much as FP8 and float32 on one. FP8 is a little noise on a gradient that is noisy anyway, and it is drawn anew in every step.
#
# 12 steps of one seed are no evidence. `data/fp8` has the same comparison over 120 steps with three seeds. Means over ten steps, from the lowest seed to the highest, the line is the median:

# %%
from minimoe_course.curves import band_figure
from minimoe_course.fp8_numbers import study

runs = study()

def difference(seed, kind, begin, end):
    mine, base = (runs[seed, k]["next_token"][begin:end] for k in (kind, "float32"))
    return 100 * (sum(mine) / sum(base) - 1)

series = {
    label: [(range(10, 121, 10), [difference(seed, kind, end - 10, end) for end in range(10, 121, 10)]) for seed in (0, 1, 2)]
    for label, kind in (("FP8", "fp8"), ("control: other order of sums", "float32_reordered"))
}
show(
    band_figure(series, "FP8 ends a little above its control", "step", "loss, difference from float32 (%)", grey=["control: other order of sums"]),
    alt="Difference of the training loss from float32 in percent over 120 steps, three seeds each. FP8's band lies between -0.2 and +0.35 percent; its median stays near 0 for 70 steps and then lies between 0.04 and 0.17. The grey band of the control, which only adds in another order, begins at 0, widens to between -0.24 and +0.17 percent, and ends around 0.",
)

# %% tags=["nbval-check-output"]
for seed in (0, 1, 2):
    print(f"seed {seed}, last 20 steps: FP8 {difference(seed, 'fp8', 100, 120):+.2f}%, control {difference(seed, 'float32_reordered', 100, 120):+.2f}%")

# %% [markdown]
# In the last 20 steps three of three seeds are higher in FP8, by 0.05 to 0.21%; the control is off by 0.04% at most. But on the way single stretches of ten steps move the control by up to 0.24%. So FP8's cost is small, and probably there: three seeds do not prove it. Two warnings. NANO's rows have 96 numbers, one tile: here two levels act in wgrad, over tokens, and hardly elsewhere. And these sums are exact (`exact_sum`), not a tensor core's. The report's 0.25% is against bfloat16, on models of 16B and 230B (appendix B.1).

# %% [markdown] tags=["beat"]
# ## What must not be in a byte
#
# The products are in FP8. What the optimizer changes is not: V3 keeps the weights themselves in float32, the **master weights**, and rounds a copy for each step. Why not keep the copy?
#
# Three seeds, 20 steps with AdamW at a rate of 0.0003 (V3's peak is 0.00022). All arithmetic is float32. One thing differs: between the steps the layers' matrices are kept in float32, in bfloat16, or in FP8 with a scale 2^n for each block. In float32, step 11 changes every weight. What share does it change in FP8?

# %%
from minimoe_course.fp8_numbers import masters

kept = {form: [masters(form, ids, seed) for seed in (0, 1, 2)] for form in ("float32", "bfloat16", "e4m3")}
guess("17.moved", "Share of the weights that step 11 changes, if they are kept in FP8, in percent:", round(100 * sum(r["moved"][10] for r in kept["e4m3"]) / 3, 1), unit="%")

# %%
for form, three in kept.items():
    ends = ", ".join(f"{sum(r['loss'][-8:]) / 8:.3f}" for r in three)
    moved = sum(r["moved"][10] for r in three) / 3
    print(f"{form:9} changed by step 11: {moved:6.1%}   loss of the last 8 steps: {ends}")
show(
    band_figure(
        {form: [(range(1, 21), r["loss"]) for r in three] for form, three in kept.items()},
        "Weights kept in FP8 learn less from the same steps", "step", "loss of the next token (nats)", grey=["float32"],
    ),
    alt="Training loss over 20 steps, three seeds each. The bands of weights kept in float32 (grey) and in bfloat16 lie on each other and fall from 7.65 to about 6.2. The band of weights kept in FP8 falls more slowly from the fourth step on and ends about 0.15 higher.",
)

# %% [markdown]
# An update of less than half a spacing is rounded away, all of it. It is not late; it is gone, and the next step begins at the same place. In FP8 about one weight in twenty gets its update. The loss still falls: embedding, head, router and norms go on learning in float32, and the largest updates pass. Over the last 8 steps it is 0.13 to 0.16 higher in the three seeds, more than 2%. FP8 in the *products* cost 0.21% at most.
#
# ### Exercise: the lost update
# ●●●○○ · 8 min · break it: know from two numbers whether a step is lost.
#
# A format with `bits` bits of mantissa holds `value` (positive, exactly). Does it hold the same number after `update` is added and the sum rounded to the nearest, ties to even? Return True or False. With $2^e \le \mathrm{value} + \mathrm{update} < 2^{e+1}$, the numbers there are $2^{e - \mathrm{bits}}$ apart; leave subnormals and overflow aside. Python's `round` takes ties to even, `math.log2` and `math.floor` exist.
# By hand, with 3 bits: 1.5 + 0.05 is lost (the next number is 1.625), 1.5 + 0.07 is not. And 1 - 0.05 is not.

# %% tags=["exercise"]
def lost(value, update, bits):
    ...  # your code

lost = check("17.lost", lost)

# %%
hints("17.lost")

# %% [markdown]
# bfloat16 did no harm in these 20 steps. V3's rate falls to 0.0000073 at the end of its training, and its weights begin with a spread of 0.006. An AdamW step is about as large as the rate. How many of such weights can a step still move in bfloat16?

# %%
weights = (0.006 * torch.randn(2000, generator=torch.Generator().manual_seed(0))).abs().bfloat16().tolist()
rates = (2.2e-4, 2.2e-5, 7.3e-6)
still = {rate: 1 - sum(lost(w, rate, 7) for w in weights if w > 0) / len(weights) for rate in rates}
guess("17.v3", "Weights of spread 0.006 kept in bfloat16, a step of +0.0000073. Share that it moves, in percent:", round(100 * still[7.3e-6]), unit="%")

# %% tags=["nbval-check-output"]
print("moved in bfloat16:", "   ".join(f"rate {rate:.1e}: {share:.0%}" for rate, share in still.items()))

# %% [markdown]
# All at the peak, a quarter at the end. So float32 it is.
#
# **The optimizer's moments** are averages, $v \leftarrow \beta v + (1 - \beta)\, g^2$, and V3 keeps them in bfloat16. Let the gradient be zero for 100 steps: v must fall to $\beta^{100}$ of itself.

# %% tags=["nbval-check-output"]
for beta in (0.95, 0.999):
    left = {}
    for form, dtype in (("bfloat16", torch.bfloat16), ("e4m3", torch.float8_e4m3fn)):
        v = torch.linspace(1, 2, 1000).to(dtype).float()
        before = v.mean()
        for _ in range(100):
            v = (beta * v).to(dtype).float()
        left[form] = (v.mean() / before).item()
    kept_of_it = ", ".join(f"in {form} {share:.3f}" for form, share in left.items())
    print(f"beta {beta}: exactly {beta**100:.3f} of it is left, {kept_of_it}")

# %% [markdown]
# V3 trains with $\beta_2 = 0.95$: each step takes 5% away, much more than bfloat16's spacing of 0.4 to 0.8%, and the average falls as it must. In e4m3, 5% is less than half a spacing for many numbers, and they stand still. With the widespread $\beta_2 = 0.999$ bfloat16 stands still, too. That V3's moments fit into 16 bits is a gift of its $\beta_2$.
#
# **The router** chooses, and a choice has no small errors. NANO after its training, the same tokens, only the router's input and matrix in fewer bits:

# %%
from minimoe_course.fp8_numbers import router_choices

router_choices(model, batch_BT)

# %% [markdown]
# (Layer 3 is the MTP module's, with one token fewer a row.) In FP8 4 to 7% of the tokens get another set of experts, in bfloat16 at most one in 300. What it would be among V3's 256 experts we cannot measure here. The router's matrix is also the smallest of all: in the table above, 0.3%. There is nothing to gain.
#
# That is the rule behind the whole list. FP8 goes where most multiplications are and where an error is noise that is gone after the step: into the factors of products. What adds up small steps (master weights, moments, accumulators), what chooses (router, attention's softmax), and what costs next to nothing (norms, embedding, and in V3 the head: 0.93 of its 37 billion active numbers) stays.

# %% [markdown] tags=["play"]
# ## Play
#
# The explorer has a matrix of 16 x 384 numbers that is made like activations: some channels are large, most are not. (The random numbers above are tamer. And its error is the root mean square of the *relative* errors, in which a small number counts as much as a large one. Its sums are 64 at a time, not 64 x 64, and their largest error is smaller.) One of its values grows, and you see the error of every element under three choices: one scale, blocks, tiles. Choose an element, and its byte is taken apart below, as in the first beat. *Adding up* is the third beat: sums of any length, promoted after any number of products.
#
# **Try first:** move *Outlier times* to 1,048,576. Which map changes least, and which of its elements do change? Then choose *float32, stale* for the scales, the *delayed* ones of above: the error falls. Who pays now? Then *Adding up*: how far apart may promotions be, if a sum of 4,096 is to stay within 0.1%?

# %% tags=["play"]
from minimoe_widgets import FP8Explorer

explorer = FP8Explorer()
show(explorer)

# %% [markdown]
# In tiles only the outlier's own tile pays. With stale scales only the outlier does, cut from 42 million to 40; the mean of 6144 errors hardly shows it. And 512 products apart are near enough for these numbers: V3's 128 leave room. For a real tensor, run `FP8Explorer(d_y_MD[:128], factor=1)`: the gradient of the first 128 tokens from above. Each of its rows is one tile. With one scale five rows are lost; find them.

# %% [markdown]
# ## Tiny and real

# %% tags=["tiny-vs-real"]
import dataclasses
from minimoe.accounting.weights import parameters, stored

nano, v3, paper = minimoe.NANO, minimoe.V3, "arXiv 2412.19437"

def in_fp8(config):
    """Share of the model's numbers, MTP included, that its checkpoint would have in FP8."""
    config, count = dataclasses.replace(config, quantization_config=v3.quantization_config), parameters(config)
    return f"{stored(config).elements['F8_E4M3'] / (count.total + count.mtp):.1%}"

ends = [difference(seed, "fp8", 100, 120) for seed in (0, 1, 2)]
compare_table([
    ("hidden size", nano.hidden_size, v3.hidden_size, f"{paper} section 4.2"),
    ("tiles in a row of activations", -(-nano.hidden_size // 128), v3.hidden_size // 128, "computed"),
    ("share of its numbers in FP8", in_fp8(nano), in_fp8(v3), "computed from the config"),
    ("loss against higher precision", f"+{min(ends):.2f}% to +{max(ends):.2f}%", "< 0.25%", f"data/fp8; {paper} section 3.3"),
    ("the higher precision", "float32", "bfloat16", f"{paper} section 3.3"),
    ("tokens of that comparison", "122,880", "about a trillion", f"data/fp8; {paper} section 3.3"),
    ("moments of the optimizer", "Muon, float32", "AdamW, bfloat16", f"{paper} section 3.3.3"),
], ours="NANO", title="The recipe at two sizes")

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# **Memory.** The checkpoint of V3, with its MTP module, as it is published and as it would be in bfloat16:

# %% tags=["when-it-pays", "nbval-check-output"]
files = {"FP8": stored(v3), "bfloat16": stored(dataclasses.replace(v3, quantization_config=None))}
for form, file in files.items():
    print(f"{form:9} {file.bytes / 1e9:6.0f} GB, of which scales {4 * file.scales / 1e9:.2f} GB")
print(f"sent to an expert for one token: {7168 + 4 * 56:,} bytes in FP8 with 56 scales, {2 * 7168:,} in bfloat16")

# %% [markdown]
# The scales cost one part in four thousand. In training the weights' copies and the activations kept for the backward pass are halved; float32 masters and gradients and the moments stay.
#
# **Time.** The H100's datasheet gives 1979 TFLOP/s in FP8 and 989 in bfloat16. A floor under one product of an expert of V3 (7168 x 2048), as in chapter 14, with the activations quantised in a pass of their own (2 bytes read, 1 written, a scale for each 128):

# %% tags=["when-it-pays", "nbval-check-output"]
D, width = 7168, 2048

def floor_us(M, form):
    """At least so many us by the datasheet: bytes over 3.35 TB/s, or FLOPs over the peak; then the quantising pass."""
    each, peak = {"bfloat16": (2, 989e12), "FP8": (1, 1979e12)}[form]
    moved = each * (M * D + D * width) + 2 * M * width
    passed = M * D * (3 + 4 / 128) / 3.35e6 if form == "FP8" else 0.0
    return max(moved / 3.35e6, 2 * M * D * width / peak * 1e6), passed

for M in (1, 64, 512, 4096):
    wide, (narrow, passed) = floor_us(M, "bfloat16")[0], floor_us(M, "FP8")
    floors = f"bfloat16 {wide:6.1f} us   FP8 {narrow:6.1f} us + quantising {passed:5.1f} us"
    print(f"{M:5} tokens: {floors}   {wide / (narrow + passed):.2f} times faster at most")

# %% [markdown]
# Both floors halve, that of memory and that of arithmetic: FP8 pays for one token, whose time is the weights' bytes, and for 4096. What it can lose is the pass that quantises: it leaves 1.39 of a factor of 2. So this pass should vanish into the kernel before it. Counted in the simulator, for the numbers between an expert's two products:

# %% tags=["when-it-pays", "nbval-check-output"]
from minimoe_course.first_kernels import counted
from minimoe_kernels.fp8_quant import quantise_tiles
from minimoe_kernels.swiglu import swiglu
from minimoe_kernels.swiglu_quant import swiglu_quant

gate_MF, up_MF = torch.randn(16, 256).bfloat16(), torch.randn(16, 256).bfloat16()
apart_ran = counted(lambda: quantise_tiles(swiglu(gate_MF, up_MF)))
fused_ran = counted(lambda: swiglu_quant(gate_MF, up_MF))
for label, session in (("SwiGLU, then quantise", apart_ran), ("in one kernel", fused_ran)):
    print(f"{label:22} {session.total.bytes / gate_MF.numel():.2f} bytes a number")

# %% [markdown]
# 4 bytes a number fewer: the bfloat16 result is neither written nor read again.
#
# **Where it loses.** On an A100 there is no FP8 at all. On your laptop it is an emulation: the study's FP8 runs took 3 to 4 times the processor time of float32. And the second level of the sums is work beside the tensor cores: DeepGEMM, which overlaps it by hand, gave 1265 TFLOP/s on an H800 for 4096 x 4096 x 7168, 64% of the datasheet's 1979.
#
# **Our kernels on a GPU: not measured here.** They have run in the simulator and been compiled; nothing on this page is a time of ours.

# %%
receipt([
    ("loss error below 0.25%", "against bfloat16, about a trillion tokens", "source: arXiv 2412.19437 section 3.3"),
    ("models of the comparison", "16B on 1.33T tokens, 230B on about 0.9T", "source: arXiv 2412.19437 appendix B.1"),
    ("gradients in 128 x 128 blocks diverge", "16B, about 300B tokens", "source: arXiv 2412.19437 appendix B.2"),
    ("V3's head", "129,280 x 7,168 = 0.93 billion", "asserted by tests/course/test_chapter_17.py"),
    ("nearly 2% at K = 4096", "two random matrices", "source: arXiv 2412.19437 section 3.3.2"),
    ("1.2% with joint=False", "0.0123", "asserted by tests/minimoe/training/test_fp8_product.py"),
    ("13 bits are kept when products are aligned", "FP22: 1, 8, 13", "source: arXiv 2505.09343 section 3.1.1"),
    ("a lost carry in Triton's interpreter", "1.94 becomes 1.0", "source: triton-lang/triton issue 8322; minimoe_kernels/interpreter.py"),
    ("FP8, H100 SXM", "1979 TFLOP/s dense, bfloat16 989; 3.35 TB/s", "source: NVIDIA H100 Tensor Core GPU datasheet"),
    ("DeepGEMM on an H800", "1265 TFLOP/s", "source: deepseek-ai/DeepGEMM, table of its README at 8002b76"),
    ("V3's rates, spread of weights, betas", "2.2e-4 to 7.3e-6; 0.006; 0.9 and 0.95", "source: arXiv 2412.19437 section 4.2"),
    ("sums, turned tiles, noise, lost updates and choices of this chapter", "recomputed", "asserted by tests/course/test_chapter_17.py"),
    ("three seeds of 120 steps", "data/fp8", "source: data/fp8/results.jsonl, python data/fp8/train.py"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# 1. A friend uses blocks of 128 x 128 for activations too, "for fewer scales". What goes wrong, and for whom?
#
# <details><summary>Answer</summary>
#
# 128 tokens share a scale. If their sizes differ by more than about 30,000, the small ones become subnormal, and beyond 460,000 zero. Activations hardly notice at our size; gradients differ a million times between tokens, and whole tokens lose theirs.
#
# </details>
#
# 2. Why may x be stored in FP8 for the backward pass, but W not be kept in FP8 between steps?
#
# <details><summary>Answer</summary>
#
# x is used in one step and thrown away: its rounding is a little noise in this step's gradient. W is what updates are added to. Rounded after each step, it loses the updates smaller than half a spacing every time, all of them.
#
# </details>
#
# 3. A GPU arrives whose tensor cores add in full float32. May the 128-wide tiles go?
#
# <details><summary>Answer</summary>
#
# The second reason for two levels is gone, the first is not: as long as each tile has a scale of its own, its sum must be scaled before it meets the others. (Hardware with scales inside the tensor core, as on the B200, does that itself.)
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - e4m3 is off by up to 6% on a single number and by 2.6% on average, down to 1/28,672 of its largest number. A scale for each 128 numbers keeps nearly everything above that line. Eight-bit integers end at 1/254.
# - Tiles lie along the summed axis: along features forward and in dgrad, along tokens in wgrad. Sums leave the tensor core every 128 products, to be scaled and to be exact.
# - A product in FP8 is 3.7% off at any length and moves a gradient by 9%; another batch moves it by 119%. So the loss is 0.05 to 0.21% higher here. Weights *kept* in FP8 lose their updates, averages stand still, routers choose otherwise: a product may be noisy, a memory or a choice may not.
#
# ## Sources
# DeepSeek-V3, arXiv 2412.19437 sections 3.3 and 4.2, appendix B. DeepSeek, Insights into DeepSeek-V3, arXiv 2505.09343 section 3.1. FP8 formats: Micikevicius et al., arXiv 2209.05433. Products by tiles: github.com/deepseek-ai/DeepGEMM. AdamW: Loshchilov and Hutter, arXiv 1711.05101.
#
# ## Next
# You have built V3 and R1 from the token to the byte. The [explorer notebook](explorer.ipynb) has all explorers on one page, on a model of yours.
