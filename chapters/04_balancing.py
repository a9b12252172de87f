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
# # 04 Balancing without a balancing loss
#
# By the end you have watched a router collapse onto a few experts, balanced it in two ways, and can say what each way costs.
#
# 45 minutes, 75 with all exercises. Prerequisites: chapter 03 (experts, router, gates, top K).
#
# You will be able to
# - measure imbalance with one number, and turn that number into lost time
# - write V3's balancing rule in one line, choose its step, and say why it leaves the loss alone
# - recognise eight mistakes in balancing code, none of which raises an error

# %% tags=["setup"]
import torch
import minimoe
from minimoe_course import *

setup(seed=0)

# %% [markdown] tags=["question"]
# ## 256 experts, and nobody says "take turns"
#
# Every routed layer of DeepSeek-V3 has 256 experts, spread over 64 GPUs in training. A token is served by 8 of them: those whose scores are highest. Nothing in the next-token loss says that all 256 must be used.
#
# What does a router do that is left alone? And if somebody must step in: how, without spoiling what the model learns?

# %% [markdown] tags=["by-hand"]
# ## Two tokens by hand
#
# Two tokens, four experts, two of them serve each token. Both tokens like expert 0 best, and expert 0 is overworked. So we push it down by 0.4: a **bias** of -0.4 is added to its score when the experts are *chosen*. The gates are made as before, from the scores without the bias, divided by their sum.
#
# Which two experts serve each token now, and with which gates? Write it down for both tokens before you read on.

# %% tags=["by-hand", "nbval-check-output"]
scores_ME = torch.tensor([[0.9, 0.8, 0.6, 0.2], [0.9, 0.1, 0.2, 0.3]])
for bias_E in (torch.zeros(4), torch.tensor([-0.4, 0.0, 0.0, 0.0])):
    chosen_MK = (scores_ME + bias_E).topk(2).indices  # the bias takes part here,
    gates_MK = scores_ME.gather(1, chosen_MK)  # and not here
    gates_MK = gates_MK / gates_MK.sum(1, keepdim=True)
    load_E = chosen_MK.flatten().bincount(minlength=4)
    print(f"bias of expert 0: {bias_E[0]:.1f}   tokens per expert: {load_E.tolist()}")
    for token, (experts, gates) in enumerate(zip(chosen_MK.tolist(), gates_MK)):
        print(f"  token {token}: experts {experts}, gates {[round(g.item(), 2) for g in gates]}")

# %% [markdown]
# Token 0 leaves expert 0 for expert 2, where it was nearly as welcome. Token 1 stays: even at 0.9 - 0.4 expert 0 is its best. Each expert now works once. The gates are still made from the true scores: token 1 keeps its 0.75, and token 0's gates are other ones because its experts are.
#
# That is the whole of V3's method but for one thing: who sets the bias? First, what happens without it.

# %% [markdown] tags=["beat"]
# ## Left alone
#
# A small model of the course's kind: 16 experts in three routed layers (layer 3 is the MTP module of chapter 05), 4 serve a token. So an expert serves 25% of all tokens on average. It trains for 60 steps on dictionary entries, with nothing that balances.

# %%
from IPython.display import clear_output
from minimoe.tokenizer import Tokenizer
from minimoe.training import Batches, Settings, load_corpus, train
from minimoe.training.data import encode_documents, pack

small = minimoe.ModelConfig.from_json(data_path("balance") / "none" / "config.json")
tokenizer = Tokenizer.load(data_path("balance") / "none")
corpus = load_corpus(data_path("wordnet"))
documents = encode_documents(tokenizer, corpus.train)


def live(model=None, on_step=None, **settings):
    """60 steps from the same start, on the same batches. The progress line goes when the run is over."""
    model, batches = model or minimoe.Transformer(small, seed=0), Batches(documents, 6, 128, seed=0)
    history = train(model, batches, Settings(steps=60, **settings), on_step=on_step)
    clear_output()
    return history


alone = live(balance="none")

# %%
def busiest_share(history, layer):
    """The share of all tokens that the busiest expert serves, over the last ten steps."""
    load_E = torch.tensor([r["load"][layer] for r in history.records[-10:]]).sum(0)
    return (load_E.max() * small.num_experts_per_tok / load_E.sum()).item()


worst = max(("1", "2", "3"), key=lambda layer: busiest_share(alone, layer))
guess(
    "04.busiest",
    "16 experts, 4 a token. After 60 steps without balancing, "
    "what share of all tokens does the busiest expert serve?",
    busiest_share(alone, worst) * 100,
    unit="%",
)

# %%
def load_over_time(history, layer):
    """Each expert's load in every step, as a multiple of the mean; the busiest at the end stands on top."""
    load_SE = torch.tensor([r["load"][layer] for r in history.records]).float()
    relative_ES = (load_SE / load_SE.mean(1, keepdim=True)).T
    return relative_ES[relative_ES[:, -10:].mean(1).argsort(descending=True)]


show(
    heatmap(load_over_time(alone, worst), "Left alone, one expert soon serves nearly every token",
            "step", "rank (0: busiest at the end)", unit="load / mean load"),
    alt="A heat map of 16 experts over 60 steps. It is even for the first three steps; "
    "from then on the top row is bright and most others are dark.",
)

# %% [markdown]
# An expert that is chosen gets gradients and becomes useful, so it is chosen more; one that is not chosen learns nothing. This is **routing collapse**. An expert that serves every token is no specialist: it is a shared expert that nobody asked for.
#
# One number for it is **MaxVio**, the *maximal violation* of balance (arXiv 2408.15664):
#
# $$\text{MaxVio} = \frac{\max_i \text{load}_i - \overline{\text{load}}}{\overline{\text{load}}}$$
#
# The **load** of an expert is the number of tokens that it serves, and the bar is the mean over the experts. Perfect balance gives 0. The worst case is an expert that serves all $M$ tokens where the mean is $M K / E$: then MaxVio is $E/K - 1$, here 3, in V3 31.
#
# ### Exercise: MaxVio
# ●○○○○ · 3 min · the one number that every training log of an MoE should have.
#
# Write $(\max - \text{mean}) / \text{mean}$ for a tensor of whole numbers `load_E` (torch takes means of floats only: `load_E.float()`). By hand: loads of 10, 30, 20, 40 have the mean 25, and the busiest is 60% above it: 0.6.

# %% tags=["exercise"]
def max_violation(load_E):
    ...  # your code

max_violation = check("04.max_violation", max_violation)

# %%
hints("04.max_violation")

# %% [markdown]
# ### What imbalance costs
#
# On one processor, hardly anything: the same multiplications are done, for other experts. But large models put the experts of a layer on different devices (**expert parallelism**). Each token travels to its experts, and the layer is finished when the *busiest* device is. All others wait.
#
# ### Exercise: lost time
# ●●○○○ · 6 min · it turns MaxVio into money.
#
# $E$ experts lie on `devices` devices, neighbours together: with 16 experts on 4 devices, experts 0 to 3 on the first. A device works as long as the sum of its experts' loads, the layer takes as long as its busiest device. Which share of all device time is spent waiting? $\;1 - \text{mean} / \max$, over the devices; with one expert a device that is MaxVio / (1 + MaxVio).
# By hand: loads 10, 30, 20, 20 on two devices: 40 and 40, nobody waits. Loads 10, 30, 20, 40 on four devices: the mean is 25, the layer takes 40, and $1 - 25/40 = 0.375$ of the time is lost.

# %% tags=["exercise"]
def idle_share(load_E, devices):
    ...  # your code

idle_share = check("04.idle_share", idle_share)

# %%
hints("04.idle_share")

# %% [markdown] tags=["beat"]
# ## The old cure: an auxiliary loss
#
# Before V3, balance was put into the loss. For one layer and one batch of $M$ tokens,
#
# $$L_{\text{aux}} = \alpha \sum_{i=1}^{E} f_i\, P_i \qquad f_i = \frac{E}{K M}\,\text{load}_i \qquad P_i = \frac{1}{M} \sum_{m} \frac{s_{m,i}}{\sum_j s_{m,j}}$$
#
# $f_i$ is the expert's load, scaled so that balance gives 1. $P_i$ is its share of the scores. Counting has no gradient, so $f_i$ is a constant: the gradient pushes down the scores of an expert in proportion to how busy it is. $\alpha$ says how hard.
#
# The scores are made from hidden states, and these by all layers below. So the push does not stop at the router. It asks attention, embeddings and experts, too, to make tokens such that they spread evenly, which is not what predicts the next word. DeepSeek calls this **interference gradients**. How large are they? We load a model that was trained for 300 steps without balancing (`data/balance`, with two siblings to which we come), take one batch, and compare the two gradients.

# %%
from minimoe.training.balance import batch_balance_loss

modes = ("none", "aux", "loss_free")
trained = {m: minimoe.load(data_path("balance") / m, dtype=torch.float32) for m in modes}
model = trained["none"]
batch_BT = Batches(documents, 8, 128, seed=1).take()


def pull(model):
    """The size of the auxiliary gradient as a share of the language model's, for three alphas."""
    out = model(batch_BT, labels=batch_BT)
    auxiliary = sum(batch_balance_loss(r.scores_ME, r.chosen_MK) for r in out.routing.values())
    routers = [p for name, p in model.named_parameters() if name.endswith("mlp.gate.weight")]
    rest = [p for name, p in model.named_parameters() if not name.endswith("mlp.gate.weight")]
    rows = []
    for what, parameters in (("routers", routers), ("all else", rest)):
        language, balance = gradient(out.losses["next_token"], parameters), gradient(auxiliary, parameters)
        ratio, cosine = balance.norm() / language.norm(), torch.cosine_similarity(language, balance, 0)
        shares = ", ".join(f"{alpha * ratio:.1%} at alpha {alpha}" for alpha in (0.001, 0.01, 0.1))
        rows.append(f"{what:8} {shares}; cosine {cosine:+.2f}")
    return "\n".join(rows)


def gradient(loss, parameters):
    """One long vector."""
    parts = torch.autograd.grad(loss, parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in parts])

# %%
print(pull(trained["none"]))

# %% [markdown]
# The two pull in nearly unrelated directions (a cosine of 1 would be agreement, -1 opposition). At $\alpha = 0.1$ the routers of this collapsed model hear the balancing five times louder than the language, all other weights a third as loud. At 0.001 the push is faint, and may be too faint to balance. Is there a number strong enough for balance and weak enough for the loss? That is measured two sections down.
#
# ### Break it: the first two of eight mistakes
#
# **1. Computed and never added.** It happened in minimind (issue 140), whose author noticed halfway through a training run. With `aux_alpha=0` the loss is computed and logged in every step, and times zero. What does MaxVio do in the first 20 steps?

# %%
logged = live(balance="aux", aux_alpha=0.0, on_step=lambda record: record["step"] < 20)
for name in ("aux", "maxvio"):
    print(f"{name:6} in steps 1, 10, 20:", [round(logged[name][i], 2) for i in (0, 9, 19)])
print("MaxVio as without balancing, in all 20 steps:", logged["maxvio"] == alone["maxvio"][:20])

# %% [markdown]
# The loss, logged without $\alpha$, hardly moves while the experts collapse. Three layers give 3 at perfect balance. They also give 3 when a token's scores are all alike: then every $P_i$ is $1/E$ and the sum is the mean of the $f_i$, which is 1 for any load. Do not judge balance by the size of this loss; look at MaxVio.
#
# **2. Wrongly normalised** (minimind issue 797). Leave out $E/K$ in $f$, and the same $\alpha$ means something else in every model:

# %% tags=["nbval-check-output"]
configs = {"the small model": small, "Moonlight": minimoe.MOONLIGHT, "DeepSeek-V3": minimoe.V3}
print("at perfect balance             right   no E/K   E but no K")
for name, config in configs.items():
    E, K = config.n_routed_experts, config.num_experts_per_tok
    print(f"{name:16} {E:3} experts, {K}     1    {K / E:.3f}   {K:6}")

# %% [markdown]
# Without $E/K$, V3's loss would be 32 times weaker than its config says. Without the $K$ it would be 8 times stronger.

# %% [markdown] tags=["beat"]
# ## The bias rule
#
# Now the bias. After every step, look at each expert's load in that step:
#
# $$b_i \leftarrow b_i + \gamma\, \mathrm{sign}\big(\overline{\text{load}} - \text{load}_i\big)$$
#
# Busy experts go down by $\gamma$, idle ones up by $\gamma$, one at exactly the mean stays. There is no gradient: the bias is not a parameter but a **buffer**, a tensor that is stored with the model and that no optimizer touches. In the checkpoints it is called `e_score_correction_bias`.
#
# ### Exercise: a balanced step
# ●●●○○ · 10 min · the line that replaced the auxiliary loss, and the mistake that vLLM and transformers both shipped.
#
# One layer, one step, no groups. Choose the $K$ best of score plus bias; make the gates from the scores of the chosen, divided by their sum (`scores_ME` has a row per token); count the load; return the gates and the *moved* bias: $b + \gamma\, \mathrm{sign}(\text{mean} - \text{load})$. Result: `gates_MK, bias_E`.
# By hand, the two tokens above, but $b = (-0.2, 0, 0, 0)$, with $\gamma = 0.1$: gates (0.53, 0.47) and (0.75, 0.25), in any order; loads 2, 1, 0, 1, mean 1; new bias $(-0.3, 0, 0.1, 0)$.

# %% tags=["exercise"]
def balanced_step(scores_ME, bias_E, top_k, gamma):
    ...  # your code: return gates_MK, bias_E

balanced_step = check("04.balanced_step", balanced_step)

# %%
hints("04.balanced_step")

# %% [markdown]
# The same 60 steps again, from the same weights, on the same batches, with the rule at $\gamma = 0.01$.

# %%
balanced = live(balance="loss_free", bias_gamma=0.01)
steps = range(60)
show(
    lines({"no balancing": (steps, alone["maxvio"]), "bias rule": (steps, balanced["maxvio"])},
          "The bias rule balances within a few dozen steps", "step", "MaxVio of the worst layer",
          grey=["no balancing"]),
    alt="Two curves over 60 steps. Both shoot up at once; without balancing MaxVio stays "
    "between 2 and 3, with the bias rule it falls below 0.5.",
)

# %% [markdown]
# Both curves shoot up: in the first seven steps a bias moves by at most 0.07, too little yet to change many choices.
#
# **3. Never updated.** The grey curve is also what you get when the bias exists and no rule moves it. `topk_method: noaux_tc` in a config balances nothing; training code that was made from inference code had the bias and not the rule (MaxText issue 2494).
#
# ### How large a step?
#
# V3 takes $\gamma = 0.001$; the run above took 0.01. To see why, strip the model away. A crowd of 1,024 fresh tokens comes in every step; their scores are random, but expert 0 is everybody's favourite and expert 15 nobody's, by fixed amounts. The router never learns. Only the bias moves.

# %%
from minimoe.training.balance import bias_step

popular_E = torch.linspace(1.5, -1.5, 16)


def crowd(move, steps=300, join=torch.add, pads=0, count_pads=False):
    """MaxVio of the real tokens in every step, and the last bias. The last `pads` rows are padding, all alike."""
    draw, bias_E, maxvio = torch.Generator().manual_seed(0), torch.zeros(16), []
    for _ in range(steps):
        scores_ME = torch.sigmoid(popular_E + torch.randn(1024, 16, generator=draw))
        scores_ME[1024 - pads :] = torch.sigmoid(popular_E).flip(0)
        chosen_MK = join(scores_ME, bias_E).topk(4).indices
        load_E = chosen_MK[: 1024 - pads].flatten().bincount(minlength=16)
        maxvio.append(max_violation(load_E))
        bias_E = bias_E + move(chosen_MK.flatten().bincount(minlength=16) if count_pads else load_E)
    return maxvio, bias_E

# %%
gammas = (0.0001, 0.001, 0.01, 0.1)
runs = {gamma: crowd(lambda load_E: bias_step(load_E, gamma)) for gamma in gammas}
guess(
    "04.steps",
    f"Without a bias MaxVio is {runs[0.001][0][0]:.2f} in this crowd. Where is it after 100 steps of 0.001?",
    runs[0.001][0][100],
)

# %%
show(
    lines({f"γ = {gamma}": (range(300), run[0]) for gamma, run in runs.items()},
          "Too small arrives late, too large never settles", "step", "MaxVio"),
    alt="Four curves over 300 steps. With 0.0001 MaxVio stays near 1.7; with 0.001 it falls slowly "
    "and arrives at the end; with 0.01 within 50 steps; with 0.1 it falls at once and jitters around 0.8.",
)

# %% [markdown]
# With $\gamma = 0.1$ every expert is thrown past the mean and back at each step: the scores that compete for a token often differ by less than that. With 0.001 the favourite has to go down by about 0.3 and the outsider up by as much, so the curve arrives after some 260 steps; with 0.0001 the run is over before. V3 makes hundreds of thousands of steps and can afford 0.001; a run of a few hundred needs 0.01. And when training ends, the jitter should end, too: V3 sets $\gamma$ to 0 for the last 500 billion of 14.8 trillion tokens.
#
# Even the best curve does not reach 0. With 1,024 tokens an expert expects 256 visits, and chance alone lifts the luckiest of 16 by some 10%. MaxVio on small batches has a floor; compare it only at equal batch size.
#
# ### Variants in print
#
# - **error**: step by $\gamma\, e_i$ with $e_i = \overline{\text{load}} - \text{load}_i$, here divided by the mean load. Small errors, small steps.
# - **multiplicative**: choose by $s_i (1 + b_i)$.
# - **centred** (Moonlight): step by $\gamma\,(\mathrm{sign}(e_i) - \text{mean of the signs})$. The sum of the biases stays 0.
#
# Why care about the sum? With 10 experts a little below the mean and 6 far above, the sign rule lifts 10 and lowers 6: the sum drifts.

# %%
rules = {
    "sign": crowd(lambda load_E: bias_step(load_E, 0.01)),
    "error": crowd(lambda load_E: bias_step(load_E, 0.01, "error")),
    "multiplicative": crowd(lambda load_E: bias_step(load_E, 0.01), join=lambda s, b: s * (1 + b)),
    "centred": crowd(lambda load_E: bias_step(load_E, 0.01, "centred")),
    "sign, γ = 0.1": runs[0.1],
    "sign, wrong way": crowd(lambda load_E: -bias_step(load_E, 0.01)),
}
print("rule              MaxVio, last 50   sum of the biases")
for name, (maxvio, bias_E) in rules.items():
    print(f"{name:17} {sum(maxvio[-50:]) / 50:8.2f}          {bias_E.sum():8.2f}")

# %% [markdown]
# The four rules end at about the same place, as they do in the paper: perplexities from 9.50 to 9.54 for the rules and steps tried there (arXiv 2408.15664, tables 3 and 4). DeepSeek kept the sign. Its sum drifts: a little downwards here, and with $\gamma = 0.1$ up to more than 1 for each expert.
#
# The drift is harmless as long as the bias only chooses: a constant added to all biases changes no order. It explains a puzzle, though. A user who printed the biases of DeepSeek-V3 found values near 5, where no score is above 1, and asked why (ScienceOne-AI/DeepSeek-671B-SFT-Guide issue 16). The course's base model shows the same in small:

# %%
nano = minimoe.load(data_path("nano"), dtype=torch.float32).requires_grad_(False)
for layer, router in nano.routers().items():
    b = router.e_score_correction_bias
    print(f"layer {layer}: biases from {b.min():+.2f} to {b.max():+.2f}, sum {b.sum():+.2f}")

# %% [markdown]
# **4. The sign is flipped:** the last row of the table of rules. Busy experts are made busier, which is worse than no rule at all.

# %% [markdown] tags=["beat"]
# ## What does balance cost? Five seeds
#
# Now the question from the auxiliary loss. The same model (NANO: 16 experts, 4 a token, 200 steps) was trained in five ways, and each way with the same five seeds; a seed fixes the initial weights and the order of the data. These are 25 runs of some 40 CPU-seconds, so they are stored (`data/curves`; one command makes them again). First balance:

# %%
from minimoe_course import curves

ways = {
    "none": "none",
    "auxiliary, 0.001": "aux_weak",
    "auxiliary, 0.01": "aux",
    "auxiliary, 0.1": "aux_strong",
    "bias rule": "reference",
}
show(
    curves.band(ways, "maxvio", "Balance over five seeds: median, lowest, highest",
                "MaxVio of the worst layer", grey=["none"]),
    alt="Five bands over 200 steps. Without balancing MaxVio rises to nearly 3; the larger alpha is, the lower "
    "the auxiliary loss ends; the bias rule ends level with the strongest.",
)

# %% [markdown]
# Now the price, in validation loss. The strongest auxiliary loss balances nearly as well as the bias, and its gradient was the loudest. Does that show in the loss?

# %%
pairs = {label: curves.paired(name, "reference") for label, name in ways.items() if name != "reference"}
guess(
    "04.price",
    "Five seeds, each trained both ways. In how many is the loss worse with the auxiliary loss at 0.1?",
    sum(difference > 0 for difference in pairs["auxiliary, 0.1"].differences),
    unit="of 5",
)

# %%
from minimoe_course.dots import dots

show(
    dots(pairs, "Loss minus that of the bias rule, seed by seed", "nats a token; right of 0 is worse"),
    alt="Four rows of five dots with their intervals. All four intervals cross the grey line at zero, "
    "and in every row there are dots on both sides of it.",
)

# %%
numbers = {"validation loss": "validation", "MaxVio, last 50 steps": "maxvio"}
curves.table(ways, numbers, reference="reference")

# %% [markdown]
# MaxVio differs by more than a factor of ten, and the loss does not notice. All four intervals contain zero, and the seeds disagree about the sign. At this size and length we cannot say that an auxiliary loss costs anything, at any of its three strengths. Nor that balance helps: the collapsed models end level with the balanced ones.
#
# What do five seeds allow? A difference of more than about 0.01 nats would have shown. A smaller one may be there. DeepSeek's own, at 1B parameters and $\alpha = 0.001$, is 0.0063 nats (below). It fits our interval at 0.001, which neither confirms nor refutes it; the intervals of the two stronger losses end below it. Even five of five happens by chance once in 16.
#
# How can a gradient that was five times as loud cost nothing that shows? That was in a collapsed model. The same measurement in the sibling that the bias balanced:

# %%
print(pull(trained["loss_free"]))

# %% [markdown]
# On the routers the push is some 16 times weaker, on all else 50 times. At balance every $f_i$ is 1, the $P_i$ always add up to 1, and the gradient is zero. The loss shouts only until it is heard. So here there is a number strong enough for balance and weak enough for the loss: 0.1.
#
# The siblings (a smaller model, 300 steps, $\alpha$ and $\gamma$ both 0.01) were trained with five seeds as well.

# %%
import json
from statistics import fmean, stdev

siblings = json.loads((data_path("balance") / "band.json").read_text(encoding="utf-8"))["modes"]
for mode, sibling in siblings.items():
    maxvio = sibling["maxvio, mean of the last 50 steps"]
    differences = [a - b for a, b in zip(sibling["validation"], siblings["loss_free"]["validation"])]
    reach = 2.776 * stdev(differences) / 5**0.5  # Student's t for five seeds
    loss = "" if mode == "loss_free" else f"; loss minus that of loss_free {fmean(differences):+.4f} +- {reach:.4f}"
    print(f"{mode:9} MaxVio {min(maxvio):.2f} to {max(maxvio):.2f}{loss}")

# %% [markdown]
# Here the auxiliary loss is *ahead*, by 0.0035 nats, and its interval leaves out zero: against the papers. But this section makes six comparisons, and one in twenty such intervals misses by chance. (At 0.01 it also balances less.)
#
# %% [markdown] tags=["beat"]
# ## A tiny loss after all
#
# The bias balances the *batch*. A single sequence may still be lopsided: a text about chemistry wants its chemistry experts. Here is MaxVio in the three siblings, over 32 rows together and row by row.

# %%
validation = pack(encode_documents(tokenizer, corpus.validation), 128)
for mode, sibling in trained.items():
    with torch.no_grad():
        routing = sibling(validation[:32]).routing[2]
    rows = sorted(
        max_violation(row.flatten().bincount(minlength=16)) for row in routing.chosen_MK.view(32, 128, 4)
    )
    print(f"{mode:9} MaxVio in layer 2: batch {max_violation(routing.load_E):.2f},", end=" ")
    print(f"median row {rows[16]:.2f}, worst row {rows[-1]:.2f}")

# %% [markdown]
# The collapsed model has an expert that serves every token of every row. The bias evens out the batch, and single rows stay less even: of their MaxVio some 0.3 is chance (128 tokens give an expert 32 visits, and the luckiest of 16 gets more), the rest is what they are about.
#
# When one long prompt is read by itself, its own balance is what counts. So V3 keeps a small loss beside the bias, computed for each sequence of $T$ tokens alone and averaged over sequences, with $\alpha = 0.0001$:
#
# $$L_{\text{seq}} = \alpha \sum_i f_i P_i \qquad f_i = \frac{E}{K T} \sum_{t} \mathbb{1}\big[s_{t,i} \in \text{top } K \text{ of } s_t\big] \qquad P_i = \frac{1}{T} \sum_t \frac{s_{t,i}}{\sum_j s_{t,j}}$$
#
# ($\mathbb{1}[\ ]$ is 1 where the bracket is true, else 0.) It looks like the old loss, with one trap: $f_i$ counts the $K$ best of the scores *without* bias. If it counted the chosen ones, experts held down by the bias would look fine.
#
# ### Exercise: the sequence-wise loss
# ●●●○○ · 10 min · the check knows ten ways to get it wrong, none of which raises an error.
#
# `scores_BTE` are sigmoid scores of $B$ sequences. Give the mean over the sequences of $\sum_i f_i P_i$, without $\alpha$. One of the arguments is not needed.
# By hand: one sequence of two tokens, each with the scores (0.6, 0.2), $K = 1$: $f = (2, 0)$, $P = (0.75, 0.25)$, so 1.5.

# %% tags=["exercise"]
def sequence_balance_loss(scores_BTE, bias_E, top_k):
    ...  # your code: a scalar tensor

sequence_balance_loss = check("04.sequence_balance_loss", sequence_balance_loss)

# %%
hints("04.sequence_balance_loss")

# %% [markdown]
# DeepSeek measured what the strictness costs. At 1B parameters the validation loss is 2.258 when a strong loss balances every *sequence*, and 2.253 both with the bias and with a loss that balances the *batch* (V3, section 4.5.3). So the harm lies less in having a loss than in demanding balance where the text has none.
#
# ## Break it: the other four mistakes
#
# **5. The bias leaks into the gates.** vLLM shipped V3 with it (pull request 12002); nine months later it appeared in transformers (pull request 41647). Below, the gates of the base model are made from biased scores. Then 5 is added to all biases, as drift would. Which gates change?

# %%
from minimoe.model import router as router_module
from minimoe.training import evaluate

nano_tokenizer = Tokenizer.load(data_path("nano"))
held_out = pack(encode_documents(nano_tokenizer, corpus.validation[:200]), 128)
right = router_module.choose


def leaky(scores_ME, bias_E, *more):
    chosen_MK, gates_MK = right(scores_ME, bias_E, *more)
    leaked_MK = (scores_ME + bias_E).gather(1, chosen_MK)
    return chosen_MK, leaked_MK / leaked_MK.sum(1, keepdim=True) * gates_MK.sum(1, keepdim=True)


def shift_biases(by):
    for router in nano.routers().values():
        router.e_score_correction_bias += by


for drift, code in ((0, right), (0, leaky), (5, right), (5, leaky)):
    shift_biases(drift)
    router_module.choose = code
    gates_K = nano(held_out[:1]).routing[1].gates_MK[20] / nano.config.routed_scaling_factor
    gates = ", ".join(f"{gate:.3f}" for gate in gates_K)
    print(f"biases + {drift}, {'leaky' if code is leaky else 'right'} code: gates of one token {gates};", end=" ")
    print(f"loss {evaluate(nano, held_out):.4f}")
    shift_biases(-drift)
router_module.choose = right

# %% [markdown]
# The right code does not notice the drift. The leaky code loses what the router had to say: with biases near 5 all gates are nearly 1/4. Yet the loss of this small model moves in the third decimal. No loss curve shows such a mistake; a test of the gates finds it at once.
#
# **6. Padding is counted.** All padding tokens are alike, so they all choose the same experts. Here half of each batch is padding. The bias evens out the load *with* padding:

# %%
for counted in (False, True):
    maxvio, _ = crowd(lambda load_E: bias_step(load_E, 0.01), pads=512, count_pads=counted)
    end = sum(maxvio[-50:]) / 50
    print(f"padding counted: {counted!s:5}  MaxVio of the real tokens, last 50 steps: {end:.2f}")

# %% [markdown]
# **7. The MTP module is left out.** V3 has one more routed layer behind the trunk, the module that predicts the token after the next. Code that updates the biases of the trunk's layers only is quickly written. We imitate it: after every step the bias of layer 3, the module, is set back to zero.

# %%
def forget_module(record):
    forgetful.routers()[3].e_score_correction_bias.zero_()


forgetful = minimoe.Transformer(small, seed=0)
left_out = live(forgetful, on_step=forget_module)
for name, history in {"all layers": balanced, "module left out": left_out}.items():
    last_ten = [record["maxvio_by_layer"] for record in history.records[-10:]]
    ends = [sum(by_layer[layer] for by_layer in last_ten) / 10 for layer in ("1", "2", "3")]
    print(f"{name:16} MaxVio of layers 1, 2, 3: {ends[0]:.2f}, {ends[1]:.2f}, {ends[2]:.2f}")

# %% [markdown]
# The module stays unbalanced, and nobody who logs the trunk alone sees it. (What layer 1 does differs from seed to seed.)
#
# **8. The config carries no alpha.** The released `config.json` of V3 has no `aux_loss_alpha`: inference does not need it. A training framework that took it from there, with a default of 0, lost the sequence-wise loss without a word (NVIDIA-NeMo/Megatron-Bridge pull request 5165). So ask, for each number of the recipe, what happens when the file does not mention it:

# %% tags=["nbval-check-output"]
released = minimoe.V3.to_dict()
del released["aux_loss_alpha"]
read = minimoe.ModelConfig.from_dict(released)
print("minimoe, when the file is silent: aux_loss_alpha =", read.aux_loss_alpha)

# %% [markdown] tags=["play"]
# ## Play
#
# How fast does a collapsed model recover? Are its starved experts lost? The explorer trains a model in the background while you look, and you switch the balancing as it runs. Each column of the heat map is a step, each row an expert; here *dark* is busy. Grey curves are the other layers, the dashed line is MaxVio when one expert serves every token. What you see at first was recorded: 80 steps without balancing, 80 with the bias rule.
#
# **Try first:** press *Start*, wait until MaxVio is above 2, then choose *loss-free*. Then try $\gamma = 0.1$, and at last switch to *none* again: does the balance last?

# %% tags=["play"]
from minimoe_widgets import BalanceExplorer

explorer = BalanceExplorer(documents, model=small, recording=data_path("balance") / "switched.jsonl")
show(explorer, alt=explorer.alt_text())

# %% [markdown]
# In the recording, experts that had less than a tenth of the mean load get tokens again within seven steps. A starved expert is not dead: the router still scores it, and the bias lifts the score until tokens come. MaxVio takes longer, some thirty steps to 0.5, because a bias travels 0.01 a step.
#
# And afterwards? The biases stay, the router goes on learning. The 60 steps again, with $\gamma = 0$ from step 31 on:

# %%
frozen = live(balance="loss_free", bias_gamma=0.01, bias_until=0.5)
for first in (25, 30, 55):
    five = [r["maxvio_by_layer"] for r in frozen.records[first : first + 5]]
    means = ", ".join(f"{sum(r[layer] for r in five) / 5:.2f}" for layer in ("1", "2", "3"))
    print(f"MaxVio of layers 1, 2, 3 in steps {first + 1} to {first + 5}: {means}")

# %% [markdown]
# Balance slips within a few steps, though not back to collapse. V3 stops its biases only at the end, when the learning rate has fallen, too.
#
# ## Tiny and real

# %% tags=["tiny-vs-real"]
from statistics import median

lossfree = "arXiv 2408.15664 table 2 (1B; 64 experts, 6 chosen)"
v3 = "arXiv 2412.19437 section 4.2"
ours = {
    name: f"{median(curves.value(r, 'maxvio') for r in curves.runs(name)):.2f}" for name in ways.values()
}
last_part = f"{1 - Settings(steps=200).bias_until:.1%}"
compare_table([
    ("experts E, chosen K", "16, 4", "256, 8", v3),
    ("step of the bias, gamma", 0.01, 0.001, v3),
    ("last part of training with gamma 0", last_part, f"{0.5 / 14.8:.1%}", v3),
    ("alpha of the sequence-wise loss", minimoe.NANO.aux_loss_alpha, minimoe.V3.aux_loss_alpha, v3),
    ("tokens in a batch", f"{8 * 128:,}", f"{15360 * 4096:,}", v3),
    ("MaxVio, no balancing", ours["none"], "not given", "ours: computed"),
    ("MaxVio, auxiliary loss at 0.001", ours["aux_weak"], "0.72", lossfree),
    ("MaxVio, bias rule", ours["reference"], "0.04", lossfree),
], ours="NANO", theirs="DeepSeek", title="MaxVio: ours a batch of 1,024 tokens, theirs a validation set")

# %% [markdown]
# At 0.001 their auxiliary loss had 40,000 steps to act (the paper's settings for 1B) and ours 200: a faint push needs time. Their gain in quality is small: a perplexity of 9.50 with the bias rule against 9.56 with the auxiliary loss at 1B, 7.92 against 7.97 at 3B. In nats a token that is

# %% tags=["nbval-check-output"]
from math import log

for size, auxiliary_ppl, free_ppl in (("1B", 9.56, 9.50), ("3B", 7.97, 7.92)):
    print(f"{size}: {log(auxiliary_ppl) - log(free_ppl):.4f} nats")

# %% [markdown]
# from one run each, without a spread. V3's ablation (its table 5) compares nine benchmarks at two sizes, again one run each: 15 of the 18 favour the bias, two do not (MBPP at the small size, MMLU at the large), one is a tie.

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# On one processor balance should be worth nothing: 4 of 16 experts serve a token, whichever they are. Measured, on the experts of one layer, with the choices of the collapsed sibling and of the balanced one:

# %% tags=["when-it-pays"]
from minimoe.model.moe import grouped
from minimoe_course.measure import cpu_us

moe = trained["loss_free"].model.layers[2].mlp
x_MD = torch.randn(32 * 128, small.hidden_size)
calls = {}
for mode in ("none", "loss_free"):
    with torch.no_grad():
        r = trained[mode](validation[:32]).routing[2]
    calls[mode] = lambda r=r: grouped(moe.experts, x_MD, r.chosen_MK, r.gates_MK.detach())
with torch.no_grad():
    times_us = {mode: median_us for mode, (_, median_us, _) in cpu_us(calls, rounds=9).items()}
ratio = times_us["none"] / times_us["loss_free"]
print(f"processor time of the collapsed choice / the balanced one: {ratio:.2f}")

# %% [markdown]
# Near 1, or a little below: collapsed experts work on longer blocks of tokens, which a processor likes. The same loads on several devices, with your `idle_share`:

# %%
with torch.no_grad():
    loads = {mode: sum(model(rows).routing[2].load_E for rows in validation.split(32)) for mode, model in trained.items()}
names = {"none": "no balancing", "aux": "auxiliary loss", "loss_free": "bias rule"}
devices = (1, 2, 4, 8, 16)
show(
    lines({names[m]: (devices, [100 * idle_share(loads[m], n) for n in devices]) for m in modes},
          f"Collapse costs nothing on 1 device, {idle_share(loads['none'], 16):.0%} of the time on 16",
          "devices for the 16 experts of one layer", "device time spent waiting (%)",
          grey=["no balancing"], log="x"),
    alt="Three curves from 1 to 16 devices, all zero at one device. Without balancing half the "
    "time is lost from 2 devices on, three quarters on 16; with the bias rule the waiting stays lowest.",
)

# %% [markdown]
# On several devices, busy and idle experts that share one average each other out. The collapsed layer loses half the time on two devices even so: a token's experts come from two groups of four neighbours, and the busy groups lie on the same device. With one expert a device, MaxVio is felt in full. V3 trains with four experts a device (256 on 64), and in the paper's decoding set-up each device has one (V3, section 3.4.2).
#
# So the answer depends on where you are. In training on one machine, as here, balance buys no time, and in 200 steps no loss that we could measure. On many devices it decides how much of them you use. There an auxiliary loss at 0.1 did as well as the bias in our runs; the bias needed no search for $\alpha$, and sends no gradient into the weights. Whether that improves the loss takes longer runs than ours. DeepSeek's say yes, by little.

# %% tags=["nbval-check-output"]
receipt([
    ("MaxVio at worst, V3", 256 // 8 - 1, "computed"),
    ("MaxVio, auxiliary loss and bias rule, 1B", "0.72 and 0.04", "source: arXiv 2408.15664 table 2"),
    ("perplexity of all rules and steps", "9.50 to 9.54", "source: arXiv 2408.15664 tables 3 and 4"),
    ("validation loss, sequence / batch / bias", "2.258 / 2.253 / 2.253", "source: arXiv 2412.19437 section 4.5.3"),
    ("the bias moves the choice, never the gate", "exactly", "asserted by tests/minimoe/model/test_router.py"),
    ("losses and MaxVio of the three siblings", "as stored", "asserted by tests/data/test_balance.py"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# 1. Why does the language-model loss not push back against the bias, as it pushes back against an auxiliary loss?
#
# <details><summary>Answer</summary>
#
# The bias enters only into which experts are chosen, and a choice has no gradient. The gates, which have one, do not contain the bias. (The loss may still *notice*: other experts answer. But no gradient asks the weights for balance.)
#
# </details>
#
# 2. Our MaxVio ends near 0.2. You measure the same weights on batches of 128 tokens. What do you expect, and why?
#
# <details><summary>Answer</summary>
#
# More. On a small batch chance alone makes some expert busier than the mean (0.1 at 1,024 tokens, 0.3 at 128). A device that serves small batches feels exactly that number.
#
# </details>
#
# 3. You double the number of experts from 256 to 512 and keep 8 a token. What is the largest possible MaxVio, and does the same $\alpha$ of the sequence-wise loss still mean the same?
#
# <details><summary>Answer</summary>
#
# $512/8 - 1 = 63$. Yes: with the factor $E/K$ perfect balance still gives 1. Without it the loss would have halved.
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - A router left alone collapses; MaxVio says how far, and on many devices MaxVio is lost time.
# - V3 moves a bias by $\gamma$ against each expert's load after every step. It chooses experts and never enters a gate or a gradient. In our five seeds neither the way of balancing nor collapse moved the loss measurably; at V3's size the time alone is worth it.
# - None of the mistakes raises an error, and few show in the loss. Log MaxVio for every layer.
#
# ## Sources
# Wang et al., Auxiliary-Loss-Free Load Balancing, arXiv 2408.15664 (equation 4, algorithm 1, tables 2-4); DeepSeek-V3, arXiv 2412.19437 (sections 2.1.2, 4.2, 4.5.3); DeepSeek-V2, arXiv 2405.04434 (equations 23-31); Switch Transformer, arXiv 2101.03961 (section 2.2); Moonlight, arXiv 2502.16982 (section 2.2), MoonshotAI/Moonlight issue 21. Mistakes: jingyaogong/minimind issues 140 and 797; AI-Hypercomputer/maxtext issue 2494; vllm-project/vllm pull request 12002; huggingface/transformers pull requests 28517 (padding) and 41647; NVIDIA-NeMo/Megatron-Bridge pull request 5165.
#
# ## Next
# Chapter 05 asks the model for two tokens at once.
