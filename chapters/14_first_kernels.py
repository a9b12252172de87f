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
# # 14 Your first kernels
#
# By the end you have written SwiGLU and RMSNorm as GPU kernels, made the mistakes that masks and strides allow, counted the bytes that each version moves, and put a floor under the time that it can take on an H100. No GPU is needed.
#
# 45 minutes, 80 with all exercises. Prerequisites: chapter 01 (RMSNorm, SwiGLU); a matrix product with indices.
#
# You will be able to
# - write a kernel in Triton's language: programs, blocks, masks, strides, a sum along a row
# - tell a wrong number from a wrong memory access, and name the program that made it
# - count what a kernel moves and computes, and say from the roofline which of the two bounds it

# %% tags=["setup"]
import torch
from minimoe_kernels import sim
from minimoe_kernels.kernel import cdiv, tl, triton
from minimoe_course import *
setup(seed=0)

# %% [markdown] tags=["question"]
# ## 295 operations for free
#
# NVIDIA's datasheet gives the H100 (SXM) 989 TFLOP/s in bfloat16 and 3.35 TB/s of memory bandwidth. (A FLOP is one floating-point addition or multiplication. The 989 are those of the **tensor cores**, units that do nothing but multiply matrices.) While one byte arrives from memory, the chip can do 295 operations.
#
# RMSNorm does a handful of operations on each number that it reads. DeepSeek-V3 normalises the 7168 numbers of every token twice in each of its 61 layers. How long must one such normalisation of 8192 tokens take, and how long all 122, however clever the program? And how much longer if it is written as six lines of PyTorch?

# %% [markdown] tags=["by-hand"]
# ## Ten numbers, three programs
#
# A GPU runs a **kernel**: one function, started many times at once. Each run of it is a **program** and has a number. A program works on a **block**, a fixed count of numbers that is a power of two. Ten numbers in blocks of four need three programs (`cdiv` divides and rounds up), and the last one has two numbers too few:

# %% tags=["by-hand", "nbval-check-output"]
n, BLOCK = 10, 4
for program in range(cdiv(n, BLOCK)):
    offsets = program * BLOCK + torch.arange(BLOCK)
    mask = offsets < n
    print(f"program {program}: offsets {offsets.tolist()}   mask {mask.int().tolist()}")

# %% [markdown]
# A place in a block is called a **lane**. The **mask** says which lanes have a number to work on. Where it is 0, a lane must neither load nor store. All that follows is the lines of `offsets` and `mask`, in two dimensions, with a formula in between.

# %% [markdown] tags=["beat"]
# ## The smallest kernel
#
# **Triton** is a language inside Python, with a compiler that makes GPU code of it; `@triton.jit` marks a kernel. Here is one that adds two vectors. `tl.program_id(0)` is the program's number. A tensor that is passed to a kernel arrives as a **pointer**, the address of its first number; a pointer plus a block of offsets is a block of addresses. `tl.constexpr` marks what must be known when the kernel is compiled, as the size of a block must.

# %%
@triton.jit
def add(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < n
    x = tl.load(x_ptr + offsets, mask=mask)
    y = tl.load(y_ptr + offsets, mask=mask)
    tl.store(out_ptr + offsets, x + y, mask=mask)

# %% [markdown]
# In the square brackets of a launch stands the **grid**, how many programs to start. It has up to three axes, so a program's full number is three numbers: the last one here is (2, 0, 0). `sim.empty` is a tensor that nothing has been written to (it holds NaN, so that what stays unwritten shows); `sim.session` collects what is counted. On a CUDA tensor this source is compiled by Triton. On a CPU tensor the course's **simulator** runs it, one program after the other, and does what no GPU does: it checks every address and counts every byte.
#
# How many bytes does the last of the three programs load? (A float32 has 4.)

# %%
x, y, out = torch.arange(10.0), torch.ones(10), sim.empty(10)
with sim.session() as ran:
    add[(cdiv(10, 4),)](x, y, out, 10, BLOCK=4)
programs = ran.launches[0].programs
guess("14.last", "Bytes loaded by program 2:", programs[2, 0, 0].loaded_bytes, unit="bytes")

# %% tags=["nbval-check-output"]
print(out.tolist())
for (program, _, _), counts in programs.items():
    traffic = f"{counts.loaded_bytes} bytes loaded, {counts.stored_bytes} stored"
    print(f"program {program}: {traffic}, {counts.other_flops} additions")

# %% [markdown]
# Two numbers of x and two of y: lanes that are switched off move nothing. They do compute: the last program made four additions, two of them in lanes whose sum is never stored.
#
# Now leave the mask out. On a GPU the last program reads two numbers that lie behind the tensor, whatever they are, and overwrites two behind the result. Nothing is reported. The simulator stops there (`verdict` runs a launch and gives back what the simulator says of it):

# %%
from minimoe_course.first_kernels import verdict

@triton.jit
def double(x_ptr, out_ptr, BLOCK: tl.constexpr):
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, 2 * tl.load(x_ptr + offsets))

print(verdict(lambda: double[(3,)](x, sim.empty(10), BLOCK=4)))

# %% [markdown]
# The program, the verb, the element, the tensor, and what the mask let through: read such a line from left to right and you know where to look.
#
# ### Exercise: the first wild access
# ●●○○○ · 6 min · break it: predict what a missing mask does before you meet one.
#
# `double` runs on $n$ numbers with `programs` programs. Say which program makes the first wild load, and of which element: $(p, e)$ with $p \cdot \mathrm{BLOCK} \le e < (p + 1) \cdot \mathrm{BLOCK}$. Give $(-1, -1)$ if none does.
# By hand: $n = 10$, BLOCK 4 and 3 programs give (2, 10), as above. So do 5 programs. What if there is one program too many, or one too few?

# %% tags=["exercise"]
def first_wild(n, BLOCK, programs):
    ...  # your code: (program, element)

first_wild = check("14.first_wild", first_wild)

# %%
hints("14.first_wild")

# %% [markdown] tags=["beat"]
# ## Where one row ends, the next begins
#
# A matrix lies in memory row after row. Give each program one row, in a block of 4, where a row has only 3 numbers. The load has its mask. The store has lost it:

# %%
@triton.jit
def double_rows(x_ptr, out_ptr, D, BLOCK: tl.constexpr):
    row, columns = tl.program_id(0), tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * D + columns, mask=columns < D, other=0.0)
    tl.store(out_ptr + row * D + columns, 2 * x)  # no mask

x_MD, out_MD = torch.arange(1.0, 10).view(3, 3), torch.zeros(4, 3)  # a spare row below, so that nobody falls off the end
double_rows[(3,)](x_MD, out_MD, 3, BLOCK=4)
print(out_MD[:3].tolist())

# %% [markdown]
# Right, to the last digit. Each program's fourth lane wrote a 0 over the first number of the *next* row, and the next program repaired it. The programs ran in the order of their numbers here. A GPU promises no order. So the simulator can run a grid forward, reversed and shuffled, on the same memory, and compare. What does it say?

# %%
def launch():
    double_rows[(3,)](x_MD, torch.zeros(4, 3), 3, BLOCK=4)

print("forward only:    ", verdict(launch, orders=("forward",)))
print("in three orders: ", verdict(launch))

# %% [markdown]
# This is a **race**: two programs write to one place, and who comes last wins. It is the mistake that passes every test until the day when it does not.
#
# | the simulator says | what happened | on a GPU |
# |---|---|---|
# | `OutOfBounds` | an address outside the tensor, or in the gap between rows of a view | reads or overwrites whatever lies there; with luck an error, later and elsewhere |
# | `Uninitialised` | a load from memory that nothing has written, or a store of what a switched-off lane "loaded" | yesterday's numbers, or what the register held |
# | `StoreConflict` | two lanes of one store, one place, two values | one of them |
# | `OrderDependent` | two programs, one place | now this, now that |
# | nothing, but the numbers are wrong | the formula | the same wrong numbers |
#
# The first four are **wrong accesses**: wrong whatever the numbers in the tensors are, and found without knowing the right result. The last are **wrong values**, and only a comparison finds them. The checks below run your kernel in all three orders, on a result that nothing has been written to, and tell you which of the two you have.
#
# ### Exercise: SwiGLU
# ●●○○○ · 10 min · build it: every expert of every layer has it between its two products.
#
# $$\mathrm{out}_{mf} = \mathrm{silu}(g_{mf})\, u_{mf}, \qquad \mathrm{silu}(g) = g \cdot \mathrm{sigmoid}(g)$$
#
# One matrix product made $g$ and $u$ together: a row in memory is F gates and then F ups, so the next row of `gate_ptr`, and of `up_ptr`, begins 2F numbers further. Such a distance is a **stride**, and comes as the argument `stride`. In `out_ptr` the next row begins F numbers further. `gate_ptr` points to the first gate, `up_ptr` to the first up.
# The grid has two axes: `tl.program_id(0)` is the row, `tl.program_id(1)` the block of columns. BLOCK is 4, F is anything. `tl.sigmoid` exists.
# By hand: gates `[0, 1]` and ups `[1, 1]` give `[0, 0.7311]`.

# %% tags=["exercise"]
from minimoe_course.first_kernels import launched

@launched  # makes it a function of tensors: swiglu(gate_MF, up_MF)
@triton.jit
def swiglu(gate_ptr, up_ptr, out_ptr, F, stride, BLOCK: tl.constexpr):
    ...  # your code: six lines or so

swiglu = check("14.swiglu", swiglu)

# %%
hints("14.swiglu")

# %% [markdown]
# Five slips in a right solution, in which `m` is the row: a few characters each. Some are wrong accesses, which the simulator stops by itself; the others give wrong numbers without a word. How many are stopped?

# %%
from minimoe_course.ch14 import SWIGLU, slipped

slips = {
    "the out pointer moves by the inputs' stride": ("out_ptr + m * F", "out_ptr + m * stride"),
    "the gate pointer moves by the output's": ("gate_ptr + m * stride", "gate_ptr + m * F"),
    "<= for <": ("columns < F", "columns <= F"),
    "one block of columns for all": ("tl.program_id(1) * BLOCK + ", ""),
    "every row stored to row 0": ("out_ptr + m * F", "out_ptr"),
}
gate_MF, up_MF = torch.randn(3, 11), torch.randn(3, 11)
said = {name: verdict(lambda: slipped(SWIGLU, change)(gate_MF, up_MF)) for name, change in slips.items()}
stopped = sum(words != "no complaint" for words in said.values())
guess("14.slips", "Five slips: " + "; ".join(slips) + ". How many are stopped?", stopped, unit="of 5")

# %%
for name, words in said.items():
    print(f"{name}\n    {words}")

# %% [markdown]
# Only the fourth passes. Each of its programs reads and writes what exists, and all write the same; the other columns are never written and hold NaN, which a comparison finds. In the first, row 1 is stored inside the result, where row 2 belongs; only row 2 falls off the end. In the second, the address lies inside the big tensor, between the gates of one row and the next. The simulator knows that this is not `gate_ptr`'s to read. A GPU, and every tool that only watches the allocation, sees a good address.

# %% [markdown] tags=["beat"]
# ## A sum along a row
#
# RMSNorm divides a row by its root-mean-square, so all of its numbers must meet in one sum. `tl.sum(x, axis=0)` adds up a block. Two questions come with it: what do the lanes beyond the row's end add, and how finely is the sum kept?
#
# Activations are bfloat16, with 8 bits of precision. What is 256 + 1 there?

# %%
guess("14.bf16", "256 + 1 in bfloat16:", float(torch.tensor(256.0).bfloat16() + 1), unit="")

# %% tags=["nbval-check-output"]
total = torch.tensor(0.0).bfloat16()
for _ in range(1000):
    total += 1
print("a thousand ones, added one by one in bfloat16:", total.item())

# %% [markdown]
# 257 needs a ninth bit, so the sum stands still. Hence the rule for every kernel of this course: numbers travel in bfloat16, sums are kept in float32. `x.to(tl.float32)` right after the load costs nothing that crosses the memory bus.
#
# For the other question: a masked lane loads `other`, if you give it. If you do not, Triton leaves open what it holds; the simulator lets it into your sum and stops where the result is stored: `Uninitialised`, with the name of the tensor whose load had no `other`.
#
# ### Exercise: RMSNorm
# ●●●○○ · 12 min · build it: V3 runs it more than a hundred times for every token.
#
# $$\mathrm{out}_{md} = w_d\, \frac{x_{md}}{\sqrt{\tfrac{1}{D} \sum_d x_{md}^2 + \epsilon}}$$
#
# One program a row, which fits in the block: BLOCK is the smallest power of two that is at least D. `x_ptr` holds bfloat16, `weight_ptr` and `out_ptr` float32. `tl.sqrt` takes float32.
# By hand: `[3, 4]` with gains of 1 and $\epsilon = 0$ gives `[0.8485, 1.1314]`.

# %% tags=["exercise"]
@launched  # rms_norm(x_MD, weight_D, eps)
@triton.jit
def rms_norm(x_ptr, weight_ptr, out_ptr, D, eps, BLOCK: tl.constexpr):
    ...  # your code: seven lines or so

rms_norm = check("14.rms_norm", rms_norm)

# %%
hints("14.rms_norm")

# %% [markdown] tags=["beat"]
# ## The same function three ways
#
# Your kernel reads a row once and writes it once. (It is counted here with a result in bfloat16, as in a model; yours stores float32, in which the check sees more digits.) The library's own RMSNorm, in PyTorch, does one thing after the other: widen to float32, square, mean and root, multiply by the scale, narrow to bfloat16, multiply by the gain. Each operation is a launch that reads a whole tensor from memory and writes one. (The mean and its root are counted as one launch here; their result is one number a row.) Between the two stands a kernel that walks along the row in pieces, once to sum and once more to scale: one launch, two passes.
#
# All three are in `minimoe_course.first_kernels`. Per number of x, how many times as many bytes do the six operations move as the one pass?

# %%
from minimoe_course.first_kernels import WAYS, counted, roofline

x_MD, weight_D = torch.randn(8, 1024).bfloat16(), torch.randn(1024).bfloat16()
ran = {way: counted(norm, x_MD, weight_D, 1e-6) for way, norm in WAYS.items()}
gain_bytes = 8 * 1024 * 2  # every row loads the gain again
moved = {way: (session.total.bytes - gain_bytes) / x_MD.numel() for way, session in ran.items()}
intensity = {way: session.total.flops / x_MD.numel() / moved[way] for way, session in ran.items()}
ratio = moved["six operations"] / moved["one launch, one pass"]
guess("14.ways", "Bytes of the six operations over bytes of the one pass, the gain left out:", round(ratio, 1), unit="times")

# %% tags=["nbval-check-output"]
for way, session in ran.items():
    flops = session.total.flops / x_MD.numel()
    print(f"{way:23} {len(session.launches)} launched   a number: {moved[way]:2.0f} bytes, {flops:.0f} FLOPs   FLOPs a byte: {intensity[way]:.1f}")

# %% [markdown]
# The arithmetic is the same, four operations a number: the square, its addition to the sum, two products. The traffic is not. 2 bytes in and 2 out is the least there is. The six launches move 6 + 8 + 4 + 8 + 6 + 4 = 36, nine times as many, because every intermediate result goes to memory and comes back, most of them as float32. To do several operations in one launch is to **fuse** them. SwiGLU is of the same kind:

# %% tags=["nbval-check-output"]
from minimoe_kernels.swiglu import swiglu as library_swiglu

total = counted(library_swiglu, x_MD, x_MD).total  # which numbers, the count does not ask
print(f"SwiGLU: {total.bytes / x_MD.numel():.1f} bytes a result, {total.flops / x_MD.numel():.1f} FLOPs")

# %% [markdown]
# Two numbers in, one out: 6 bytes and 3 operations (a sigmoid counts as one). In two launches, `silu(g)` and then the product with u, it would be 2 + 2 and 4 + 2 bytes, ten.
#
# The gain of RMSNorm is left out of these numbers. Each program loads it again, and the simulator counts every load in full, 2 bytes a number more. On a GPU it stays in a cache after the first row (14 KB in V3). That is the simulator's blind spot: **it counts what is asked for, not what reaches the memory chips.** We come back to it.
#
# FLOPs divided by bytes is the **arithmetic intensity**. Against it stands the machine's own quotient:
#
# $$\mathrm{time} \;\ge\; \max\!\left(\frac{\mathrm{bytes}}{\mathrm{bandwidth}},\; \frac{\mathrm{FLOPs}}{\mathrm{peak}}\right)$$
#
# Below $989 / 3.35 = 295$ FLOPs a byte the first term is larger: the kernel is **bandwidth-bound**. Above, it is **compute-bound**. Drawn over the intensity, this is the **roofline**: a slope, a flat roof, and between them the **ridge**, here at 295. Both datasheet numbers are upper limits: on one H100, when this course was planned, a copy ran at 3.0 TB/s, and cuBLAS, NVIDIA's library for matrix products, multiplied random 8192 x 8192 matrices at 798 TFLOP/s. It is worth giving a kernel's share of both.

# %%
roofs = {"datasheet": (989e12, 3.35e12), "measured": (798e12, 3.0e12)}
points = {f"RMSNorm, {way}": intensity[way] for way in ("six operations", "one launch, one pass")}
show(
    roofline(points, roofs, "RMSNorm stays far down the slope of an H100"),
    alt="Two rooflines over FLOPs a byte, both axes logarithmic: each rises in a straight line and turns flat near 300; the measured one is a little lower. Two dots for RMSNorm lie on the datasheet's slope: six operations at 0.1 FLOPs a byte and 0.4 TFLOP/s, one pass at 1 and 3.4, both less than a hundredth of the peak.",
)

# %% [markdown]
# All three ways meet the same bound, the slope. (The two passes would stand at 0.7.) None of them uses the tensor cores. What an H100 adds and multiplies beside those, in float32, it does at 67 TFLOP/s by the datasheet: a roof of its own with its ridge at 67 / 3.35 = 20, still far to the right of 1. What tells the three apart is bytes alone. So the whole art here is to touch memory once.

# %% [markdown] tags=["beat"]
# ## A product in tiles
#
# A matrix product can climb the slope. Each element of C needs a row of A and a column of B; a program that makes a whole **tile** of C uses each number that it loads many times. Here is one, `C = A B` with A of M x D and B of D x F. `[:, None]` stands a block up as a column, `[None, :]` lays it down as a row; a column plus a row is a table, of addresses or of masks. `tl.dot` multiplies two blocks as matrices and adds to a third, the **accumulator**, in float32.

# %%
@triton.jit
def matmul(a_ptr, b_ptr, c_ptr, M, D, F, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_F: tl.constexpr):
    rows = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M))[:, None]
    columns = (tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F))[None, :]
    acc = tl.zeros((BLOCK_M, BLOCK_F), dtype=tl.float32)
    for start in range(0, D, BLOCK_D):
        inner = start + tl.arange(0, BLOCK_D)
        a = tl.load(a_ptr + rows * D + inner[None, :], mask=(rows < M) & (inner[None, :] < D), other=0.0)
        b = tl.load(b_ptr + inner[:, None] * F + columns, mask=(inner[:, None] < D) & (columns < F), other=0.0)
        acc = tl.dot(a, b, acc)
    tl.store(c_ptr + rows * F + columns, acc, mask=(rows < M) & (columns < F))

a_MD, b_DF = torch.randn(48, 64).bfloat16(), torch.randn(64, 80).bfloat16()
c_MF = sim.empty(48, 80, dtype=torch.bfloat16)
with sim.session(sim.ORDERS) as ran_product:  # three orders, counted once
    matmul[(3, 5)](a_MD, b_DF, c_MF, 48, 64, 80, BLOCK_M=16, BLOCK_D=32, BLOCK_F=16)
total = ran_product.total
print(f"{total.loaded_bytes:,} bytes loaded, {total.stored_bytes:,} stored, {total.flops:,} FLOPs: {total.intensity:.1f} FLOPs a byte")

# %% [markdown]
# ### Exercise: what a tile costs
# ●●○○○ · 8 min · weigh it: how large must a tile be, to leave the slope?
#
# How many bytes does `matmul` load and store in all, in bfloat16, every load counted? Let $\lceil \cdot \rceil$ round up. Element by element: how many programs need one number of A, and how many one of B?
#
# $$\mathrm{bytes} = 2\,(M D \cdot \;?\; + D F \cdot \;?\; + M F), \qquad ? \in \left\{ \lceil M / \mathrm{BLOCK}_M \rceil,\; \lceil F / \mathrm{BLOCK}_F \rceil \right\}$$
#
# By hand: M = 4, D = 8, F = 6 gives 368 in tiles of 2 x 3 and 432 in tiles of 2 x 2.

# %% tags=["exercise"]
def tile_bytes(M, D, F, BLOCK_M, BLOCK_F):
    ...  # your code

tile_bytes = check("14.tile_bytes", tile_bytes)

# %%
hints("14.tile_bytes")

# %% [markdown]
# The formula and the simulator must agree on the product above. Then a size that no simulator wants to run: 4096 x 4096 x 4096 in square tiles. Which tile reaches 295 FLOPs a byte?

# %%
print("formula:", tile_bytes(48, 64, 80, 16, 16), "  counted:", ran_product.total.bytes)
n, sizes = 4096, [16, 32, 64, 128, 256, 512, 1024]
intensity = {tile: 2 * n**3 / tile_bytes(n, n, n, tile, tile) for tile in sizes}
smallest = next(tile for tile in sizes if intensity[tile] >= 295)
guess("14.tile", "The smallest of the tiles 16, 32, 64, 128, 256, 512, 1024 that reaches 295 FLOPs a byte:", smallest, unit="")

# %%
show(
    lines(
        {"by the formula": (sizes, list(intensity.values())), "ridge, 295": ([16, 1024], [295, 295])},
        "A tile of b x b earns at most b/2 FLOPs a byte", "side b of a tile (numbers)", "FLOPs a byte", grey=["ridge, 295"], log="xy",
    ),
    alt="FLOPs a byte of a 4096-cubed product over the side of the tile, both logarithmic: a nearly straight line from 8 at side 16 over 63 at side 128 to 455 at 1024; it crosses the grey line at 295 between 512 and 1024.",
)

# %% tags=["nbval-check-output"]
for tile, value in intensity.items():
    print(f"tile {tile:4}: {value:5.0f} FLOPs a byte, accumulator {4 * tile**2 / 1024:6.0f} KB")

# %% [markdown]
# An H100 has 132 **multiprocessors**, and each program runs on one of them. The accumulator of a tile is kept in the multiprocessor's **registers**, the memory that arithmetic reads and writes directly. There are 256 KB of them (65,536 registers of 4 bytes, NVIDIA's CUDA programming guide), so a tile of 256 x 256 would fill them and one of 512 is out of the question. By this count no product is ever compute-bound, and yet cuBLAS reached 798 TFLOP/s.
#
# It is the blind spot again. With one program on each multiprocessor 132 run at the same time, and those in one row of tiles load *the same* band of A. The second to ask gets it from the **L2 cache**, a memory on the chip that all multiprocessors share. How much is shared depends on which tiles are in work together. That is a question for the eye.

# %% [markdown] tags=["play"]
# ## Play
#
# The explorer steps `matmul` from above, program by program, on an A of 120 x 40 and a B of 40 x 124: 8 x 8 tiles of side 16, those at the edge cut short. Orange: the bands that the last program read and the tile that it wrote. The colour of A and B says how often a number was read: in the still picture, the darker the more often. (The title counts loads and stores, the curves loads alone.) *At a time* says how many programs run together, a **wave**, and load what they share once: the green curve. In which order should a GPU start its programs?
#
# **Try first:** move *Programs run* to the end, then set *Order* to grouped. Which curve moves, and why does the other one not? Then *At a time* 16, and tiles of 32.

# %% tags=["play"]
from minimoe_widgets import KernelStepper

stepper = KernelStepper(matmul)
show(stepper)

# %% [markdown]
# The blue curve counts every load of every program, so no order changes it. The green one falls. Row by row, eight programs at a time read one band of A and all eight of B: nine bands. Grouped, they form a patch of 2 x 4 tiles and read six. In tiles of 32 there are 16 programs: with 16 at a time all of C is one wave, and the green curve ends on the grey line, in any order. A wave acts like *one* tile as large as its patch. What your formula says of tiles of 128 x 128, alone, and as patches of 4 and of 132:

# %% tags=["nbval-check-output"]
n = 132 * 128
for name, tall, wide in (("each alone", 1, 1), ("2 x 2", 2, 2), ("a row of 132", 1, 132), ("11 x 12", 11, 12)):
    print(f"{name:14} {2 * n**3 / tile_bytes(n, n, n, 128 * tall, 128 * wide):6.0f} FLOPs a byte")

# %% [markdown]
# 132 programs in a row earn no more than four in a patch; 132 in a patch are far beyond the ridge. Our `matmul` has no line for this. Kernels in use have: a few lines of arithmetic that turn a program's number into a tile of the next patch (Triton's tutorial 03 calls it L2 cache optimisation).
#
# The explorer runs any kernel with the arguments of `matmul`. Go back to the cell of `matmul`, take one mask away, run it and the explorer's cell again, and read what the explorer says and where it stops. (The cell of `matmul` itself will not complain: its sizes are multiples of the blocks.)

# %% [markdown]
# ## Tiny and real

# %% tags=["tiny-vs-real"]
import minimoe

tokens, D, F = 8192, minimoe.V3.hidden_size, minimoe.V3.moe_intermediate_size
one, six = (moved[way] for way in ("one launch, one pass", "six operations"))
v3 = "arXiv 2412.19437 section 4.2"
compare_table([
    ("RMSNorm: hidden size D", x_MD.shape[1], D, v3),
    ("RMSNorm: rows", x_MD.shape[0], tokens, "ours; chosen"),
    ("MB of one RMSNorm, one pass", round(one * x_MD.numel() / 1e6, 3), one * tokens * D / 1e6, "counted; the same bytes a number"),
    ("MB, six operations", round(six * x_MD.numel() / 1e6, 3), six * tokens * D / 1e6, "counted; the same bytes a number"),
    ("A B: inner size D", a_MD.shape[1], D, v3),
    ("A B: columns F; in V3 the width of an expert", b_DF.shape[1], F, v3),
    ("FLOPs a byte of A B, 48 rows, each matrix once", *(round(48 * d * f / (48 * d + d * f + 48 * f), 1) for d, f in ((64, 80), (D, F))), "computed"),
], ours="this chapter", title="The kernels of this chapter at two sizes")

# %% [markdown]
# RMSNorm's bytes a number are the same at any size, which is why they could be counted on a laptop.

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# The question from the top: RMSNorm of 8192 tokens of V3, once and 122 times. Bytes over bandwidth is a floor under the time, not a time:

# %% tags=["when-it-pays", "nbval-check-output"]
for way, per_number in moved.items():
    floors = "   ".join(f"{per_number * tokens * D / bandwidth * 1e6:4.0f} us ({name})" for name, (_, bandwidth) in roofs.items())
    print(f"{way:23} {per_number * tokens * D / 1e6:5.0f} MB   at least {floors}")
times = 2 * minimoe.V3.num_hidden_layers
print(f"{times} times in a pass through V3: {times * 4 * tokens * D / 3.35e12 * 1e3:.1f} ms in one pass, {times * 36 * tokens * D / 3.35e12 * 1e3:.0f} ms in six operations")

# %% [markdown]
# **Our kernels on a GPU: not measured yet.** No GPU was at hand when this chapter was written, and the time that the simulator takes says nothing about one. Somebody else's measurement shows what the floor is worth. Liger-Kernel publishes, for an H100 SXM and an RMSNorm of 4096 x 16384, 95.0 us for its one-pass kernel and 149 us for PyTorch. If the numbers are bfloat16, read once and written once, that is

# %% tags=["nbval-check-output"]
least = 4096 * 16384 * 4
for name, t_us in (("Liger-Kernel", 95.0), ("PyTorch", 149.0)):
    print(f"{name:13} {least / t_us / 1e6:.2f} TB/s, {least / t_us / 1e6 / 3.35:.0%} of the datasheet, {least / t_us / 1e6 / 3.0:.0%} of the measured copy")
print(f"six operations, floor by the datasheet: {9 * least / 3.35e12 * 1e6:.0f} us")

# %% [markdown]
# The one pass is close to its floor: nobody can make that kernel much faster. PyTorch's 149 us lie far below the floor of our six operations, so what was measured there is no such chain; at least parts of it are fused. Six launches are what you get when you write the formula yourself in PyTorch and do not compile it.
#
# **Where fusing gains nothing.** A compute-bound product is not helped by fewer bytes. When is an expert's product compute-bound? It reads its weights, D x F of them, for however many tokens were sent to it:

# %% tags=["nbval-check-output"]
for M in (1, 16, 64, 256, 512, 2048):
    value = M * D * F / (M * D + D * F + M * F)  # two FLOPs a term, two bytes a number: the twos cancel
    bound = "compute" if value > 989 / 3.35 else "bandwidth"
    print(f"{M:5} tokens: {value:6.1f} FLOPs a byte, {bound}-bound")
ridge = 989 / 3.35
M_ridge = ridge * D * F / (D * F - ridge * (D + F))  # the formula of `value`, set to the ridge and solved for M
print(f"ridge at {M_ridge:.0f} tokens; with 8 of 256 experts chosen that is a batch of {M_ridge * 256 / 8:,.0f} tokens")

# %% [markdown]
# One token in decoding earns one FLOP a byte, 295 times too few: the weights arrive, are used once, and the tensor cores wait. An expert of V3 gets off the slope only when thousands of tokens are in the batch, since each expert sees one in 32 on average. This is one reason why V3 is served in large batches.
#
# **What one pass costs.** A row of 7168 numbers in float32 is 28 KB. Its block has 8192 lanes, 32 KB of registers, so at most eight rows are held in a multiprocessor's 256 KB. A row ten times as wide does not fit any more, and the two passes come back.

# %%
receipt([
    ("peak and bandwidth of the H100 SXM", "989 TFLOP/s bfloat16 on tensor cores without sparsity, 67 float32 beside them; 3.35 TB/s", "source: NVIDIA H100 Tensor Core GPU datasheet"),
    ("measured roofs", "798 TFLOP/s, 3.0 TB/s", "source: one H100, cuBLAS 8192^3 on random data and a copy, when the course was planned; no record in this repository"),
    ("RMSNorm 4096 x 16384 on an H100 SXM", "95.0 us, PyTorch 149 us", "source: linkedin/Liger-Kernel, all_benchmark_data.csv at ead96b61"),
    ("registers of a multiprocessor; multiprocessors", "65,536 of 4 bytes; 132", "source: NVIDIA CUDA C++ programming guide, compute capability 9.0; H100 datasheet"),
    ("bytes of RMSNorm and of a product in tiles equal the formulas", "exactly", "asserted by tests/course/test_chapter_14.py"),
    ("each slip of this chapter gets the verdict named", "all", "asserted by tests/course/test_chapter_14.py"),
    ("the simulator rounds bfloat16 as PyTorch does", "bit for bit", "asserted by tests/kernels/sim/test_rounding.py"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# 1. A kernel gives the right result on every shape you try, and the simulator says `OrderDependent`. A friend says that the tests are green. What do you answer?
#
# <details><summary>Answer</summary>
#
# That the tests ran the programs in one order. Two programs write to one place; on a GPU the last one wins, and which one that is may change from run to run, with the load of the machine or with the next driver.
#
# </details>
#
# 2. You load a row with a mask and no `other`, and store it with the same mask, without a sum in between. Is that wrong?
#
# <details><summary>Answer</summary>
#
# No. What the switched-off lanes hold is never stored. It becomes wrong when lanes meet: in a sum, a largest value, a `tl.dot`.
#
# </details>
#
# 3. A kernel does 40 FLOPs a byte on an H100 and runs at 100 TFLOP/s. What could a twice as fast tensor core gain it, and what would halving its bytes?
#
# <details><summary>Answer</summary>
#
# The roof at 40 FLOPs a byte is 40 x 3.35 = 134 TFLOP/s. The kernel is bandwidth-bound, at 75% of it. Faster tensor cores gain nothing; half the bytes lift the roof to 268 TFLOP/s.
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - A kernel is a formula between a masked load and a masked store, run once for each block. Its addresses are sums of program number, stride and offset, and most mistakes are made in them.
# - Wrong accesses are wrong whatever the numbers are, and a simulator that checks every address in several orders finds them without a reference. Wrong values need one. Keep sums in float32.
# - Bytes over bandwidth and FLOPs over peak are two floors under the time. RMSNorm and SwiGLU stand on the first, so touch memory once; products climb off it by tiles, and by neighbours that share a cache.
#
# ## Sources
# Triton: Tillet, Kung and Cox, MAPL 2019, and triton-lang.org. Roofline: Williams, Waterman and Patterson, CACM 52(4), 65 (2009). Tiles in groups: triton-lang.org, tutorial 03. RMSNorm: Zhang and Sennrich, arXiv 1910.07467. SwiGLU: Shazeer, arXiv 2002.05202. DeepSeek-V3: arXiv 2412.19437. Puzzles in this manner: srush/Triton-Puzzles.
#
# ## Next
# Chapter 15 sends tokens to experts: from a Python loop over 256 of them to one launch.
