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
# # 15 Grouped GEMM and routing
#
# By the end you have sent tokens to their experts by counting, multiplied all experts in one launch with a kernel of your own, and can say when an unbalanced router costs time and when it does not. (GEMM, general matrix-matrix multiplication, is the libraries' word for a matrix product.) No GPU is needed.
#
# 45 minutes, 80 with all exercises. Prerequisites: chapters 03 (experts), 04 (MaxVio) and 14 (masks, tiles, the roofline).
#
# You will be able to
# - sort assignments by expert with a histogram, a prefix sum and a scatter
# - write a grouped product, in which every tile belongs to one expert, and its two gradients
# - count what padding, small batches and an unbalanced router cost, forward and backward

# %% tags=["setup"]
import torch
import minimoe
from minimoe_kernels.kernel import cdiv, tl, triton
from minimoe_course import *
setup(seed=0)

# %% [markdown] tags=["question"]
# ## 256 products, one after the other?
#
# A layer of DeepSeek-V3 has 256 experts, and 8 of them serve a token. In Python that is a loop: gather an expert's tokens, multiply, add the result back, 256 times. An H100 has 132 multiprocessors. In a batch of 128 tokens an expert has four, on average. One expert's gate and up are 4096 columns, cut into blocks of 128: how many multiprocessors have work while its four tokens are multiplied? And what does it cost if a careless router sends every token to the same expert, among others?

# %% [markdown] tags=["by-hand"]
# ## Five assignments, three experts
#
# That a token is sent to an expert is one **assignment**; with K experts a token, M tokens make M · K of them. Here are five, to the experts 2, 0, 2, 1, 0. Three steps bring those of each expert together, and none of them compares two numbers:

# %% tags=["by-hand", "nbval-check-output"]
chosen_A = torch.tensor([2, 0, 2, 1, 0])
counts_E = torch.bincount(chosen_A, minlength=3)
starts_E = counts_E.cumsum(0) - counts_E
print("histogram:  tokens of each expert", counts_E.tolist())
print("prefix sum: first place of each   ", starts_E.tolist())
order_A, free_E = torch.empty(5, dtype=torch.long), starts_E.clone()
for a, e in enumerate(chosen_A.tolist()):
    order_A[free_E[e]] = a
    free_E[e] += 1
print("scatter:    assignment at a place", order_A.tolist(), "of expert", chosen_A[order_A].tolist())

# %% [markdown]
# Each expert's assignments now stand behind one another, in its **segment**: those of expert 2 on the places 3 and 4. Assignments are numbered token by token, so assignment 7 belongs to token 7 // K.

# %% [markdown] tags=["beat"]
# ## Sorting by counting
#
# Sorting by comparing goes over the numbers many times. If there are only 256 different numbers, two passes over the list are enough: one counts, one places. The **histogram** says how many an expert has. The **prefix sum**, the counts of all experts before it added up, says where its segment begins. In the **scatter** each assignment takes the next free place of its segment. That order is **stable**: within a segment, who came first stands first. So the gradient of an expert's matrix, a sum over its segment, is added in the same order in every run; if the programs raced for places, it would not be.
#
# ### Exercise: places
# ●●○○○ · 8 min · build it: the four smallest kernels of an MoE layer do nothing else.
#
# Give the place of every assignment $a$ with expert $e_a$: a tensor of whole numbers, as long as `chosen_A`. ($\#$ counts.)
#
# $$\mathrm{where}_a = \#\{b : e_b < e_a\} + \#\{b < a : e_b = e_a\}$$
#
# By hand: experts `[2, 0, 2, 1, 0]` of `E = 3` give `[3, 0, 4, 2, 1]`: the first assignment stands at place 3.

# %% tags=["exercise"]
def places(chosen_A, E):
    ...  # your code

places = check("15.places", places)

# %%
hints("15.places")

# %% [markdown]
# **Permute** copies every token's row to its K places. Three tokens with two experts each make six rows. Token 0 goes to the experts 2 and 0, so it stands twice. Which row is which token?

# %% tags=["nbval-check-output"]
three_MK = torch.tensor([[2, 0], [2, 1], [0, 2]])
place_A = places(three_MK.flatten(), 3)
for row, a in enumerate(place_A.argsort().tolist()):
    print(f"row {row}: expert {three_MK.flatten()[a]}, assignment {a}, so token {a // 2}")
print("rows of each token:", place_A.view(3, 2).tolist())

# %% [markdown]
# **Unpermute** goes the way back: it fetches the K results of a token from its rows, here 3 and 0 for token 0, and adds them, weighted with the gates. In between the experts work on segments. Here is the whole routed layer in the library's kernels, run by the simulator on 20 tokens, against chapter 03's loop. (`align` sorts, as your `places` does, and also lists the tiles that the next section is about.)

# %%
from minimoe.model.layers import MLP
from minimoe.model.moe import loop
from minimoe_kernels.align import align
from minimoe_kernels.grouped_gemm import grouped_gemm
from minimoe_kernels.permute import permute, unpermute
from minimoe_kernels import sim
from minimoe_kernels.swiglu import swiglu

E, K, D, F = 6, 2, 32, 48
experts = torch.nn.ModuleList(MLP(D, F) for _ in range(E))
parts = "gate_proj", "up_proj", "down_proj"
gate_EFD, up_EFD, down_EDF = (torch.stack([getattr(e, part).weight for e in experts]) for part in parts)
x_MD, gates_MK = torch.randn(20, D), torch.rand(20, K)
chosen_MK = torch.rand(20, E).topk(K).indices

with torch.no_grad(), sim.session() as ran:
    where = align(chosen_MK, E, tile=16)
    x_AD = permute(x_MD, where)
    h_AF = swiglu(grouped_gemm(x_AD, gate_EFD, where), grouped_gemm(x_AD, up_EFD, where))
    out_MD = unpermute(grouped_gemm(h_AF, down_EDF, where), gates_MK, where)
    error = (out_MD - loop(experts, x_MD, chosen_MK, gates_MK)).abs().max().item()
assert error < 1e-5
guess("15.launches", "Launches for the layer, however many experts it has (sorting takes four):", len(ran.launches), unit="launches")

# %% tags=["nbval-check-output"]
for launch in ran.launches:
    total = launch.total
    print(f"{launch.kernel:15} {total.loaded_bytes:6,} bytes loaded, {total.stored_bytes:5,} stored, {total.dot_flops:7,} FLOPs")
print(f"largest difference from the loop below 0.00001: {error < 1e-5}")

# %% [markdown]
# Ten launches, for 6 experts or for 256. (FLOPs are those of products only.) The loop needs three products for each expert, and what is around them. Moving rows computes next to nothing: permute, which is `gather_kernel`, and unpermute, `sum_kernel`, are bandwidth-bound. Unpermute loads K rows a token and stores one.

# %% [markdown] tags=["beat"]
# ## A tile belongs to one expert
#
# How does one launch multiply with many matrices? A program makes one tile of the result, some rows by some columns. Before it starts it looks two numbers up: which expert is my tile's, and where do its rows begin. That works only if **all rows of a tile have one expert**, since a tile is one product with one matrix.
#
# ### Exercise: a tile that straddles
# ●●○○○ · 7 min · break it: predict what happens if nobody takes care of the borders.
#
# The sorted rows are cut every 4 rows. A tile takes the matrix of its *first* row's expert, and multiplies all its rows. `load_E` says how many rows each expert has. With $e_a$ the expert of row $a$, how many rows are multiplied by a wrong matrix?
#
# $$\#\{a : e_a \ne e_{\lfloor a / 4 \rfloor \cdot 4}\}$$
#
# By hand: loads 3, 0, 2, 3 put the experts `0 0 0 2 | 2 3 3 3` in two tiles. One row is wrong in the first and three in the second: 4.

# %% tags=["exercise"]
def wrong_rows(load_E):
    ...  # your code

wrong_rows = check("15.wrong_rows", wrong_rows)

# %%
hints("15.wrong_rows")

# %% [markdown]
# No address is out of bounds and no number is missing, so the simulator has no objection. It is a wrong value, and only a comparison finds it. The way out: cut each segment on its own. The last tile of a segment is then seldom full, and the mask keeps off the rows that belong to the next expert. An expert without rows gets no tile.
#
# ### Exercise: the grouped product
# ●●●●○ · 15 min · build it: the kernel that an MoE layer spends its time in.
#
# $$\mathrm{out}_{af} = \sum_d x_{ad}\, W_{e(a) f d}$$
#
# The grid has a program for each tile (`program_id(0)`) and each block of columns (`program_id(1)`). For each tile `tile_expert_ptr` has its expert and `tile_start_ptr` its first row; for each expert `ends_ptr` has the end of its segment, the first row that is not its own any more. There are more programs than tiles, since nobody knows the loads when the grid is launched: a surplus tile has expert −1 and must do nothing (`if expert >= 0:`). The matrices lie one behind the other, each with F rows of D numbers. D fits in BLOCK_D, but need not fill it. x and W are bfloat16; `tl.dot(x, weight)` sums in float32, and the result is kept in float32. It begins unwritten: what no program stores is NaN in the end.
#
# By hand: rows `[1] [2] [3]`, loads 2 and 1, matrices `[10]` and `[100]` give `[10] [20] [300]`. (TILE is 4, so that you can follow it; a GPU's tensor cores want 16 rows at least.)

# %% tags=["exercise"]
from minimoe_course.grouped_kernels import launched

@launched  # grouped(x_AD, weight_EFD, load_E)
@triton.jit
def grouped(x_ptr, weight_ptr, out_ptr, ends_ptr, tile_expert_ptr, tile_start_ptr, D, F,
            TILE: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_F: tl.constexpr):
    ...  # your code: ten lines or so

grouped = check("15.grouped", grouped)

# %%
hints("15.grouped")

# %% [markdown]
# Four slips in a right solution. Loads are 5, 0, 3 and 8, in tiles of 4. One of the four gives the right numbers when the programs run once, in order. Which?

# %%
from minimoe_course.ch15 import right_in_order, slipped
from minimoe_course.first_kernels import verdict

slips = {
    "the store has no row mask": ("mask=mine & (f < F))", "mask=f < F)"),
    "a tile's number times TILE for its start": ("tl.load(tile_start_ptr + tl.program_id(0))", "tl.program_id(0) * TILE"),
    "the end of the next expert": ("ends_ptr + expert)", "ends_ptr + expert + 1)"),
    "surplus tiles work, too": ("expert >= 0", "expert >= -1"),
}
x_AD, weight_EFD, load_E = torch.randn(16, 8).bfloat16(), torch.randn(4, 20, 8).bfloat16(), torch.tensor([5, 0, 3, 8])
right = [n for n, change in enumerate(slips.values(), 1) if right_in_order(slipped(change), x_AD, weight_EFD, load_E)]
listed = "; ".join(f"({n}) {name}" for n, name in enumerate(slips, 1))
guess("15.slips", f"{listed}. Which one gives the right numbers in order?", ", ".join(map(str, right)))

# %%
for name, change in slips.items():
    print(f"{name}\n    {verdict(lambda: slipped(change)(x_AD, weight_EFD, load_E))}")

# %% [markdown]
# The first: in order it gives the right numbers. A program of expert 0 writes zeros over the three rows of expert 2, one of expert 2 over the first row of expert 3: four rows, 80 numbers. The programs that own them come later and repair it: chapter 14's race. "No complaint" is not the same as right. The second is silent and wrong: starts of 0, 4, 8 instead of 0, 4, 5, so rows 5 to 7 are nobody's and hold NaN, as do 8 to 11 for the same reason. The third takes a neighbour's end, and the last expert has no neighbour. The fourth asks for the end of expert −1.
#
# ### Exercise: what a tile wastes
# ●●○○○ · 6 min · weigh it: a large tile reads less, as chapter 14 showed. What does it cost?
#
# A tile is computed whole, whoever its rows belong to. With loads $n_e$ and tiles of $t$ rows, which share of all computed rows is padding?
#
# $$1 - \frac{\sum_e n_e}{t \sum_e \lceil n_e / t \rceil}$$
#
# By hand: loads 5, 0, 3 in tiles of 4 need 2 + 0 + 1 tiles, 12 rows for 8: one third.

# %% tags=["exercise"]
def padding(load_E, tile):
    ...  # your code

padding = check("15.padding", padding)

# %%
hints("15.padding")

# %% [markdown]
# Now V3's sizes: 256 experts, 8 a token, a router that chooses evenly at random (by chance one expert gets more, one less). In a batch of 128 tokens, which share of the rows that tiles of 128 compute is padding?

# %%
def random_loads(tokens, E=256, K=8):
    chosen_MK = torch.rand(tokens, E, generator=torch.Generator().manual_seed(0)).topk(K).indices
    return chosen_MK.flatten().bincount(minlength=E)


tiles, batches = [16, 32, 64, 128], [128, 1024, 8192]
waste = {batch: [padding(random_loads(batch), tile) for tile in tiles] for batch in batches}
guess("15.padding", "Padding in tiles of 128, batch of 128 tokens:", round(100 * waste[128][-1]), unit="%")

# %%
show(
    lines({f"{batch} tokens": (tiles, [100 * share for share in waste[batch]]) for batch in batches},
          "Small batches fill large tiles with nobody", "rows of a tile", "padding (% of computed rows)", log="x"),
    alt="Three rising curves over tiles of 16, 32, 64 and 128 rows. With 128 tokens padding rises from 75 to 97 percent of the computed rows, with 1024 tokens from 19 to 75, with 8192 tokens from 3 to 20.",
)

# %% tags=["nbval-check-output"]
for batch in batches:
    shares = "   ".join(f"tile {t}: {share:.0%}" for t, share in zip(tiles, waste[batch]))
    print(f"{batch:5} tokens, {batch * 8 / 256:3.0f} an expert: {shares}")

# %% [markdown]
# Padding costs arithmetic and no bytes: masked lanes load nothing. Where the arithmetic is not what bounds the kernel, it costs no time, and we shall see that this is so where the padding is worst.
#
# What does the whole launch move? Each row is read once for every block of columns, each matrix once for every *tile*, and the result is written once. With A rows, $T$ tiles, in bfloat16:
#
# $$\mathrm{bytes} = 2\,\big(A D \lceil F / \mathrm{block} \rceil + T D F + A F\big), \qquad \mathrm{FLOPs} = 2\, T\, t\, D F$$

# %% tags=["nbval-check-output"]
from minimoe_course.grouped_kernels import aligned, grouped_bytes, grouped_flops

load_E = torch.tensor([40, 0, 7, 16, 33])
where = aligned(load_E, tile=16)
x_AD, weight_EFD = torch.randn(96, 64).bfloat16(), torch.randn(5, 256, 64).bfloat16()
with sim.session(sim.ORDERS) as ran:
    grouped_gemm(x_AD, weight_EFD, where)
looked_up = sum(ran.launches[0].tensors[name][0] for name in ("ends_ptr", "tile_expert_ptr", "tile_start_ptr"))
print(f"counted: {ran.total.bytes:,} bytes, of which {looked_up} for looking up; {ran.total.dot_flops:,} FLOPs")
bytes_, flops = grouped_bytes(load_E, 16, 64, 256, block=128), grouped_flops(load_E, 16, 64, 256)
print(f"formula: {bytes_:,} bytes and {flops:,} FLOPs")

# %% [markdown]
# Where D and F are whole blocks, as here, the formula is exact; otherwise columns are padded, too. Looking up is what one launch moves more than the loop, a few bytes a program. Small tiles waste fewer rows, and this is their price: twice as many tiles read twice as many matrices.

# %% [markdown] tags=["beat"]
# ## Backward: one gradient is the same kernel, the other is not
#
# A product has two gradients, and each is a product.
#
# $$\frac{\partial L}{\partial x_{ad}} = \sum_f \frac{\partial L}{\partial \mathrm{out}_{af}} W_{e(a) f d} \qquad\qquad \frac{\partial L}{\partial W_{efd}} = \sum_{a \in e} \frac{\partial L}{\partial \mathrm{out}_{af}}\, x_{ad}$$
#
# The first, **dgrad**, has a row for each row of x: the same tiles, the same look-up, the matrix read the other way round. The second, **wgrad**, sums over the rows. The literature names the axes of a product M x K by K x N (this M is our A, and this K is neither experts nor tokens; $a \in e$ are the rows of e's segment): K is summed over and vanishes. Forward and dgrad are grouped along M: the segments are rows of the *result*. Wgrad is **grouped along K**: the segments are pieces of the *sum*, and each expert has a result of its own, F x D, however many rows it had.

# %%
x_AD.requires_grad_(), weight_EFD.requires_grad_()
out_AF = grouped_gemm(x_AD, weight_EFD, where)
with sim.session(sim.ORDERS) as ran_backward:
    out_AF.backward(torch.randn_like(out_AF))
dgrad, wgrad = ran_backward.launches
of_expert = {e: max(c.dot_flops for at, c in wgrad.programs.items() if at[2] == e) for e in range(5)}
stored = sum(c.stored_bytes for at, c in wgrad.programs.items() if at[2] == 1)
guess("15.empty", "A matrix is 256 x 64 numbers of 2 bytes. Bytes stored as the gradient of expert 1, which had no rows:", stored, unit="bytes")

# %% tags=["nbval-check-output"]
print(f"dgrad: {dgrad.kernel}, grid {dgrad.grid}, {dgrad.total.dot_flops:,} FLOPs")
print(f"wgrad: {wgrad.kernel}, grid {wgrad.grid}, {wgrad.total.dot_flops:,} FLOPs")
for e, flops in of_expert.items():
    print(f"    expert {e}, {load_E[e]:2} rows: {flops:9,} FLOPs in each of its programs")
assert not weight_EFD.grad[1].any()

# %% [markdown]
# Dgrad runs `rows_kernel`, as forward did. In wgrad the third axis of the grid is the expert, and a program's work grows with its expert's load: its loop runs over rows, 32 at a time. (That is padding again: 7 rows cost as much as 32, and wgrad computes 1.5 times dgrad's FLOPs. Dgrad's grid has 11 programs for 8 tiles: three are surplus.) An expert without rows has programs with nothing to sum, and they must still run: somebody has to write zeros. Memory on a GPU is not zero by itself, and "no tile, no program" would leave yesterday's numbers in the gradient.
#
# So an unbalanced router does something new here. Forward, a busy expert has *more* programs. In wgrad it has *longer* ones.

# %% [markdown] tags=["beat"]
# ## Imbalance on the clock
#
# Two of chapter 04's models, trained alike, one without balancing and one with the bias rule. We route the same 1024 tokens of held-out text through both, and take the layer in which one expert has most to do.

# %%
from minimoe.tokenizer import Tokenizer
from minimoe.training import Batches, load_corpus
from minimoe.training.data import encode_documents
from minimoe_course.grouped_kernels import layer_routing

tokenizer = Tokenizer.load(data_path("balance") / "none")
batch_BT = Batches(encode_documents(tokenizer, load_corpus(data_path("wordnet")).validation), 8, 128, seed=1).take()
names = {"no balancing": "none", "bias rule": "loss_free"}
loads = {}
for name, folder in names.items():
    model = minimoe.load(data_path("balance") / folder, dtype=torch.float32)
    loads[name] = load_E = layer_routing(model, batch_BT).tolist()
    print(f"{name:13} {load_E}")

# %% [markdown]
# The clock is a model, and a simple one. 132 multiprocessors run one program each and take the next when they are free. A **unit** is the product of one tile of 64 rows with one block of 128 x 128 of a matrix; memory, caches and the start of a launch cost nothing. The loads are the models' own (expert 7 gets 1022 of 1024 tokens without balancing: a quarter of all rows, the most that four experts a token allow); the matrix is invented, since theirs are smaller than one block: 512 x 512, 4 blocks wide and 4 deep. Three ways: a loop over experts, in which a launch begins when the one before has ended; one launch; and wgrad in one launch, 16 programs an expert. All three have the same units to work.
#
# Whom does the missing balance cost time?

# %%
from minimoe_widgets.grouped_schedule import WAYS, schedule

plans = {(way, name): schedule(load_E, 64, 4, 132, way, deep=4) for way in WAYS for name, load_E in loads.items()}
slower = {way: plans[way, "no balancing"].length / plans[way, "bias rule"].length for way in WAYS}
answer = round(slower["weight gradient"], 1)
guess("15.slower", "wgrad: units without balancing over units with the bias rule:", answer, unit="times")

# %% tags=["nbval-check-output"]
for way in WAYS:
    each = "   ".join(f"{name}: {plans[way, name].length:2} units, {plans[way, name].busy:.0%} busy" for name in loads)
    print(f"{way:18} {each}")

# %% [markdown]
# The loop needs 64 units with either: an expert has at most 16 tiles by 4 blocks, 64 programs, so it is one wave of 4 units, busy or idle; sixteen experts one after the other make 64, and most of the GPU waits. One launch puts the programs of all experts into the same waves and does not ask whose they are: 12 units with either. (288 programs, with the bias rule 284, on 132 multiprocessors are three waves, the last of them nearly empty: only 73 and 72% busy.)
#
# Wgrad does ask. It has 16 programs an expert; without balancing some walk along 16 tiles and some along one, and in the end all wait for the long ones. That is with small matrices. V3's are 16 blocks wide and 56 deep:

# %% tags=["nbval-check-output"]
for name, load_E in loads.items():
    wide = {way: schedule(load_E, 64, 16, 132, way, deep=56) for way in WAYS}
    print(f"{name:13}", "   ".join(f"{way}: {plan.length:4} units" for way, plan in wide.items()))
    print(f"              the busiest expert has {max(load_E) / (sum(load_E) / 16):.1f} times the mean load")

# %% [markdown]
# Now wgrad has 896 programs an expert. Whoever drew short ones takes more of them, and of the difference 1% is left. The loop loses time to imbalance here: its four busiest experts need a second wave.
#
# So on one device, in one launch and with matrices of this size, balance is worth next to nothing. Its price is paid **between** devices. If each expert has a device of its own, all wait for the busiest, which has four times the mean without balancing: MaxVio 3, plus 1. No kernel repairs that. Chapter 04's `idle_share` counted it.

# %% [markdown] tags=["play"]
# ## Play
#
# The explorer draws the same clock, small enough to see: 12 multiprocessors, matrices 4 blocks wide and one deep. Above, each expert's rows cut into tiles, with their padding; below, who works when. The loads are those of the two models; you may type your own.
#
# **Try first:** set *Way* to one launch, then *Loads* to the other model. Then the same with weight gradient. Which of the three changes its length with the loads? At last type `1000, 8, 8, 8` and look for the gaps.

# %% tags=["play"]
from minimoe_widgets import GroupedExplorer

explorer = GroupedExplorer(loads, tile=64)
show(explorer)

# %% [markdown]
# The loop's gaps stand at the end of every expert: its last wave is seldom full, and an expert with one tile keeps four of twelve multiprocessors busy. One launch has a single such end. With the other router the loop still takes 32 units and one launch 24. Only the gradient of the weights feels it, 26 units for 30: there the long bars of the busy experts stick out.

# %% [markdown]
# ## Tiny and real

# %% tags=["tiny-vs-real"]
V3 = minimoe.V3
D3, F3, E3, K3 = V3.hidden_size, V3.moe_intermediate_size, V3.n_routed_experts, V3.num_experts_per_tok
small = minimoe.ModelConfig.from_json(data_path("balance") / "none" / "config.json")
v3 = "arXiv 2412.19437 section 4.2"

def blocks(config):
    return cdiv(config.moe_intermediate_size, 128) * cdiv(config.hidden_size, 128)

compare_table([
    ("routed experts E", small.n_routed_experts, E3, v3),
    ("experts a token K", small.num_experts_per_tok, K3, v3),
    ("an expert's matrix, F x D", f"{small.moe_intermediate_size} x {small.hidden_size}", f"{F3} x {D3}", v3),
    ("tokens in the batch", 1024, 8192, "ours; chosen"),
    ("rows of a mean expert", sum(load_E) // len(load_E), 8192 * K3 // E3, "M K / E"),
    ("wgrad programs of an expert, blocks of 128 x 128", blocks(small), blocks(V3), "computed"),
], ours="data/balance", title="Grouped products at two sizes")

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# **One launch against the loop.** V3 with 32 of its experts on a GPU (training and prefill spread the 256 over several), gate and up in one product, so 4096 columns and 7168 deep; every expert has the same load; tiles of 128. A row is one token at one expert. By our clock, which charges the loop nothing for its 31 additional launches (a wave is as many programs as there are multiprocessors):

# %% tags=["when-it-pays", "nbval-check-output"]
for rows in (4, 32, 128, 512, 2048, 8192):
    one, many = (schedule([rows] * 32, 128, 32, 132, way).length for way in ("one launch", "loop over experts"))
    print(f"{rows:5} rows an expert: loop {many:5} waves, one launch {one:5}: {many / one:.2f} times")

# %% [markdown]
# The question from the top: up to 128 rows an expert has one tile of rows and 32 programs, so the loop leaves 100 of 132 multiprocessors idle, in every one of 32 waves. At 512 rows its 128 programs happen to fill them, and nothing is gained. With thousands of rows all that is left are the ends of the loop's waves. One launch pays for many small experts and small batches; DeepSeek's experts are many and small by design.
#
# **But is it arithmetic that we wait for?** Two floors, as in chapter 14: FLOPs over peak, and the weights over bandwidth.

# %% tags=["when-it-pays", "nbval-check-output"]
def floors_us(rows, experts, peak=989e12, bandwidth=3.35e12):
    """Gate and up of one layer: FLOPs over peak, weight bytes over bandwidth, in microseconds."""
    return 2 * rows * D3 * 2 * F3 / peak * 1e6, experts * D3 * 2 * F3 * 2 / bandwidth * 1e6

for name, rows, experts in (("8192 tokens from each of 8 GPUs, the 32 experts of one", 65536, 32), ("128 tokens, all 256 experts", 1024, 256)):
    compute, memory = floors_us(rows, experts)
    print(f"{name}, {rows:,} rows: arithmetic at least {compute:6,.0f} us, weights at least {memory:6,.0f} us")
called = (random_loads(128) > 0).sum().item()
padded_us, _ = floors_us(128 * called, 256)
print(f"128 tokens call {called} of 256 experts: in tiles of 128, padding included, arithmetic at least {padded_us:,.0f} us")

# %% [markdown]
# With 2048 rows an expert, as in training and prefill, the arithmetic is seven times the weights: compute-bound. In decoding it is the other way round, 74 times. 1024 rows call nearly every expert, so 15 GB of gate and up weights are read, and each is used for four tokens. **Decode-sized batches are bandwidth-bound**: both ways of launching read the same weights, so the 4.00 above is no time saved by these floors, and no tile, order or schedule helps, and even 97% padding hides behind the weights. What helps is fewer bytes (chapter 17's FP8) and more tokens for each expert, gathered from many users: V3's paper describes decoding on 320 GPUs together (section 3.4).
#
# **On a GPU: not measured yet.** No GPU was at hand when this chapter was written. What others report, to be read as theirs: PyTorch's blog gives 1.42 to 2.62 times for one Triton launch against a loop, in a 16B DeepSeek model on eight H100s. And Liger-Kernel publishes the time of a whole MoE layer's forward pass, for 32,768 tokens, 8 of 128 experts a token, D = 2048 and width 768 (three products of 2 FLOPs a term make the 6):

# %% tags=["nbval-check-output"]
flops = 6 * 32768 * 8 * 2048 * 768
rate = flops / 7.34e-3
print(f"Liger-Kernel, fused MoE forward on an H100: {rate / 1e12:.0f} TFLOP/s, {rate / 989e12:.0%} of the datasheet's peak")

# %% [markdown]
# A third of the peak, with 2048 rows a mean expert: compute-bound by the floors, and far from them. How far ours is from its floor is not known.

# %%
receipt([
    ("peak and bandwidth of the H100 SXM; multiprocessors", "989 TFLOP/s bfloat16 without sparsity, 3.35 TB/s; 132", "source: NVIDIA H100 datasheet"),
    ("fused MoE forward, 32768 tokens, 128 experts, 8 a token, 2048 x 768", "7.34 ms", "source: linkedin/Liger-Kernel, all_benchmark_data.csv at ead96b61"),
    ("grouped product in one Triton launch against a loop, 16B DeepSeek model, 8 H100", "1.42 to 2.62 times", "source: PyTorch blog on torchtitan's grouped GEMM"),
    ("bytes and FLOPs of the grouped product equal the formulas", "exactly, for whole blocks", "asserted by tests/course/test_chapter_15.py"),
    ("loads of the two models", "printed above", "computed from data/balance; routing of 1024 held-out tokens"),
    ("units of the clock", "counted", "computed by minimoe_widgets.grouped_schedule; a model, no measurement"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# 1. The grid of a grouped product must be given before the loads are known on the CPU. How many tiles can A assignments to E experts need at most, in tiles of t rows, and what do the surplus programs do?
#
# <details><summary>Answer</summary>
#
# At most (A - k) // t + k, with k = min(A, E): each of k experts opens a tile with one row, and every further t rows fill one more. The library launches for the simpler A // t + min(A, E), which is never less. Surplus tiles carry expert −1; their programs load that number and end. Asking the GPU for the loads first would make the CPU wait for it in every layer.
#
# </details>
#
# 2. Somebody pads each segment with zero rows to a whole number of tiles, as some libraries do. Is the mask by the segment's end still needed?
#
# <details><summary>Answer</summary>
#
# No: the rows behind the end are zeros of nobody, and what is written there is never read. It costs memory and traffic for the padding, which the mask does not.
#
# </details>
#
# 3. Which of forward, dgrad and wgrad must do something for an expert without tokens?
#
# <details><summary>Answer</summary>
#
# Wgrad: its gradient exists and is zero, and somebody has to write it. Forward and dgrad have no row of that expert.
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - A histogram, a prefix sum and a scatter sort assignments by expert. Blocks are cut into tiles of one expert each, and a program looks its expert up. A tile that straddles is a wrong value that no address check finds.
# - Forward and dgrad are grouped along the rows of the result, wgrad along the sum. A busy expert has more programs in the first two and longer ones in the third.
# - On one device a single launch hardly feels an unbalanced router, unless the matrices are small and it is wgrad. Devices that wait for the busiest feel it fully, and a batch of decoding waits for the weights whatever the router does.
#
# ## Sources
# Mixture of experts with many small experts: DeepSeekMoE, arXiv 2401.06066. DeepSeek-V3: arXiv 2412.19437. Grouped products: deepseek-ai/DeepGEMM (contiguous layout, grouped along M; for the weights, along K); MegaBlocks, arXiv 2211.15841. Sorting by counting on the GPU: `moe_align_block_size` of vLLM and SGLang. Times of others: PyTorch's blog on torchtitan's grouped GEMM (a kernel since replaced by `torch._grouped_mm`); linkedin/Liger-Kernel.
#
# ## Next
# Chapter 16 turns to attention: decoding with a latent cache, which is bandwidth-bound with 16 heads, and with 128 near the ridge. Many call that compute-bound; you will count.
