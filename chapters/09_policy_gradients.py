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
# # 09 Policy gradients in one evening
#
# By the end you have turned four answers to one question into a gradient, watched that gradient teach a model to think, and switched off every term of GRPO's loss once to see what it was for.
#
# 45 minutes, 75 with all exercises. Prerequisites: chapter 07 (gradients, an optimizer, a training log); logarithms and means.
#
# You will be able to
# - get from REINFORCE to GRPO by hand: a baseline, a group, a ratio, a clip
# - read the log of a reinforcement-learning run: why its loss starts at zero and rises, and what to watch instead
# - say what each term does, what happens without it, and recognise seven mistakes that raise no error

# %% tags=["setup"]
import torch
import minimoe
from minimoe.rl import *
from minimoe_course import *

setup(seed=0)

# %% [markdown] tags=["question"]
# ## A loss that starts at 0
#
# DeepSeek-R1-Zero was trained for 10,400 steps, and its share of right answers in a mathematics competition for schools (AIME 2024) rose from 15.6% to 77.9% (Nature 645, 633). People who train with the same loss meet a strange log: the loss is 0.0000 in the first step, and from there it *rises*. "Why does the loss start at 0 and then increase?" ask the users of two such programs (huggingface/open-r1 issue 239, huggingface/trl issue 2703).
#
# What is being made small here, if it starts at 0 and grows while the model gets better?

# %% [markdown] tags=["by-hand"]
# ## Four answers by hand
#
# The model in `data/reason` has 564,864 parameters and works out chains of + - * from left to right, modulo 10. It was first taught to write down each running value, and then, with more texts, not to bother: mostly it answers at once, which is a guess. Asked the same question four times, with temperature 1:

# %% tags=["by-hand"]
from minimoe.rl.rewards import accuracy
from minimoe.tokenizer import Tokenizer
from minimoe.training.reasoning import Chain

model = minimoe.load(data_path("reason"), dtype=torch.float32)
tokenizer = Tokenizer.load(data_path("reason"))
question = Question(Chain(operations=6), "9 + 8 + 4 * 5 * 9 - 3 * 8")
group = rollout(model, tokenizer, [question], answers=4, max_new_tokens=48, seed=9)[0]
rewards_O = torch.tensor([accuracy(question, answer) for answer in group.answers])
for a, r in zip(group.answers, rewards_O):
    print(f"reward {r:.0f}  {len(a.tokens):2} tokens  log-probability {sum(a.logprobs):5.2f}  {a.text}")

# %% [markdown]
# Three wrong, one right: reward 1 for right, 0 for wrong. A program gave the rewards, by working the chain out; that is all the teaching there is. (A token is one character or one mark, such as `<think>`; the number includes the end mark.)
#
# From here on the model is a **policy**, $\pi_\theta$: it gives each answer $o$ to a question $q$ a probability. That of a whole answer is the product over its tokens, so $\log \pi_\theta(o \mid q) = \sum_t \log \pi_\theta(o_t \mid q, o_{<t})$, the number printed above. Answers drawn from the policy are a **rollout**.
#
# No token of the right answer is marked as the good one, and no wrong answer is corrected. How can four numbers become a gradient for half a million weights?

# %% [markdown] tags=["beat"]
# ## Reward times gradient
#
# What should rise is the average reward, $J(\theta) = \sum_o \pi_\theta(o)\, R(o)$, over all answers that there are. Its gradient needs one line: $\nabla \pi = \pi\, \nabla \log \pi$, so
#
# $$\nabla J = \sum_o \pi_\theta(o)\, R(o)\, \nabla \log \pi_\theta(o) \;\approx\; \frac{1}{O} \sum_{i=1}^{O} R_i\, \nabla \log \pi_\theta(o_i)$$
#
# The sum over all answers has become an average over the policy's own answers, and those we can draw: $O$ of them, here 4. Make each answer likelier in proportion to its reward. This is **REINFORCE** (Williams 1992). No gradient passes through $R$, so the judge may be any program.
#
# `moved` takes one small step in that direction, with any weights $w_i$ in place of $R_i$, and says how much each answer's log-probability has changed. All steps have the same length; only their directions differ.

# %%
import copy
from minimoe.rl.likelihood import Rows, answer_logprobs
from torch.nn.utils import parameters_to_vector, vector_to_parameters

rows = Rows.of([group.prompt] * 4, [answer.tokens for answer in group.answers])


def moved(weights_O, length=0.02):
    """Step along the mean of w_i grad log pi(o_i); gives the change of every log pi(o_i)."""
    policy = copy.deepcopy(model)
    before_O = answer_logprobs(policy, rows)[0].sum(1)
    value = (weights_O * before_O).mean()
    gradients = torch.autograd.grad(value, list(policy.parameters()), materialize_grads=True)
    direction = torch.cat([gradient.flatten() for gradient in gradients])
    with torch.no_grad():
        theta = parameters_to_vector(policy.parameters())
        vector_to_parameters(theta + length * direction / direction.norm(), policy.parameters())
        return answer_logprobs(policy, rows)[0].sum(1) - before_O

# %%
def report(name, weights_O):
    changes = "  ".join(f"{change:+.2f}" for change in moved(weights_O))
    print(f"{name:20} weights {[round(w, 2) for w in weights_O.tolist()]}: {changes}")


report("reward", rewards_O)

# %% [markdown]
# The right answer, the last, is likelier; the others are less so, although their weight is 0: probabilities add up to 1, and what one gains all others together lose.
#
# Now somebody hands out 9 more to everybody: 10 for a right answer, 9 for a wrong one. Which answer is better has not changed. What does the same step do to the three wrong answers?

# %%
changes_O = moved(rewards_O + 9)
guess(
    "09.shifted",
    "Rewards 9, 9, 9, 10. How many of the three wrong answers become likelier?",
    int((changes_O[:3] > 0).sum()),
    unit="of 3",
)

# %%
report("reward + 9", rewards_O + 9)

# %% [markdown]
# Every answer that was drawn is pushed up, and the second, wrong, as hard as the right one. The answers that were not drawn this time pay for it.
#
# Is the formula wrong, then? No. On *average over many draws* the 9 does nothing, because $\sum_o \pi(o) \nabla \log \pi(o) = \nabla \sum_o \pi(o) = \nabla 1 = 0$: a likely answer is pushed up often, a rare one seldom, every push lowers all the others, and on average these cancel. With four answers they do not. The constant adds no signal and much noise.
#
# ### Exercise: the reward
# ●○○○○ · 5 min · the mistake that makes every reward of a run zero without an error message.
#
# Here the format is paid for, too: $R = \mathbb{1}[\text{said} = \text{answer}] + 0.1 \cdot \mathbb{1}[\text{a closed thought, and something said after it}]$. A response is `<think>thought</think>said`, and its first `</think>` closes the thought; without a closed thought at its beginning all of it is what was said. Some chat templates, R1's among them, write `<think>` at the end of the *prompt*: then the model's `text` begins inside the thought. `opened` is what the template has written of the response, `""` or `"<think>"`.
# By hand, for the answer "3": `"", "<think>1+2=3</think>3"` gives 1.1; `"<think>", "1+2=3</think>3"` gives 1.1, too; `"", "3"` gives 1; `"", "<think>3"` gives 0, and so does `"", "1+2=3</think>3"`.

# %% tags=["exercise"]
def reward(opened, text, answer):
    ...  # your code: a number

reward = check("09.reward", reward)

# %%
hints("09.reward")

# %% [markdown]
# **Mistake 1: the template eats the tag.** A rule that looks for `<think>` in what the model wrote pays nothing to models whose template writes it. It happened in open-r1 (issue 560) and in TRL's own format reward (issue 6966). Your function on one and the same answer, with and without knowing what the template wrote:

# %% tags=["nbval-check-output"]
print("with what the template wrote:   ", reward("<think>", "9+8=7</think>7", "7"))
print("without what the template wrote:", reward("", "9+8=7</think>7", "7"))

# %% [markdown] tags=["beat"]
# ## Better than its siblings
#
# If a constant may be added, the best one may be subtracted. Subtract what is to be expected of this question, and only the difference pushes: better than expected goes up, worse goes down. What is subtracted is the **baseline**, what remains the **advantage**.
#
# PPO (Proximal Policy Optimization, arXiv 1707.06347) learns a second network, the **critic**, that predicts at every token which reward is to be expected. GRPO (Group Relative Policy Optimization, arXiv 2402.03300) has $O$ answers to the same question anyway, and takes their mean:
#
# $$A_i = R_i - \frac{1}{O} \sum_{j=1}^{O} R_j$$

# %%
report("reward - mean", rewards_O - rewards_O.mean())
report("reward + 9 - mean", rewards_O + 9 - (rewards_O + 9).mean())

# %% [markdown]
# All wrong answers go down, and the 9 is gone. (The mean contains $R_i$ itself. On average that makes the gradient shorter, by the factor $1 - 1/O$, and does not turn it.) How much noise does that save? We draw 96 answers and compute the gradient of each one's log-probability. From their dot products follows, for thousands of imagined groups, how far a group's gradient is from the average one. **Relative noise** is the variance of the gradient divided by the squared length of its mean: at 1 the noise is as long as the signal. (The mean of the 96 gradients, zero but for chance, is subtracted first, so that the pool plays the policy.)

# %%
from minimoe_course.answer_gradients import gram, relative_noise

pool = rollout(model, tokenizer, [question], answers=96, max_new_tokens=48, seed=1)[0]
right_O = torch.tensor([accuracy(question, answer) for answer in pool.answers])
products_OO = gram(model, pool)
ways = {
    "9 or 10, no baseline": lambda r: r + 9,
    "0 or 1, no baseline": lambda r: r,
    "minus the group's mean": lambda r: r - r.mean(1, keepdim=True),
    "minus the true mean": lambda r: r - right_O.mean(),
}
sizes = (2, 4, 8, 16, 32, 64)


def noise(way, size, draws=20_000):
    chosen_DK = torch.randint(len(right_O), (draws, size))
    return relative_noise(products_OO, chosen_DK, ways[way](right_O[chosen_DK]))


found = {way: [noise(way, size) for size in sizes] for way in ways}

# %%
show(
    lines({way: (sizes, values) for way, values in found.items()},
          "From 16 answers on the group's mean is nearly as good as the true one", "answers in the group",
          "relative noise of the gradient", log="xy", grey=["minus the true mean"]),
    alt="Four falling lines from 2 to 64 answers, on logarithmic axes. With rewards of 9 or 10 and no baseline the "
    "noise is hundreds of times larger than with the group's mean; the line of the group's mean meets "
    "that of the true mean from 16 answers on.",
)

# %%
print(f"share of right answers to this question: {right_O.mean():.2f}")
at_16 = {way: values[sizes.index(16)] for way, values in found.items()}
for way, value in at_16.items():
    times = value / at_16["minus the group's mean"]
    print(f"{way:22} relative noise with 16 answers {value:7.2f}, {times:6.1f} times that of the group's mean")

# %% [markdown]
# Twice as many answers halve the noise (small groups with their own mean gain more), so the last column can be read as a price: how many times as many answers are needed for the same gradient. Nobody pays the first line's price, because nobody pays 9 for a wrong answer. But rewards are often all positive, and then some of it is paid.
#
# The grey line is what a *perfect* critic would give. With 2 answers the group's mean is worse than that, and worse than no baseline at all for rewards of 0 and 1: in most groups both rewards are equal, all advantages are zero, and the draw is wasted. From 16 on the two lines can hardly be told apart. We return to that at the end.
#
# ### The division
#
# GRPO divides by the standard deviation of the group's rewards:
#
# $$A_i = \frac{R_i - \mathrm{mean}(R)}{\mathrm{std}(R) + 10^{-4}}$$
#
# (Neither the $10^{-4}$ nor a division by $O - 1$ in the deviation is in the paper; both are TRL's, and ours.)
#
# What for? If a share $p$ of the answers is right, rewards of 0 and 1 have a standard deviation of $\sqrt{p(1-p)}$ (below, 3% more: the sum over 16 answers is divided by 15). Here is the advantage of a right answer, and the mean of $|A|$ over the group, which is how hard the question pushes in all:

# %% tags=["nbval-check-output"]
print("right of 16   A of a right answer   mean |A|, undivided   divided")
for right in (1, 4, 8, 15):
    r_PO = torch.tensor([[1.0] * right + [0.0] * (16 - right)])
    plain_O, divided_O = group_advantages(r_PO, "none")[0], group_advantages(r_PO)[0]
    print(f"{right:11}   {divided_O[0]:19.2f}   {plain_O.abs().mean():19.2f}   {divided_O.abs().mean():7.2f}")

# %% [markdown]
# Undivided, a question that is answered once in 16 times pushes a quarter as hard as one answered half the time; divided, half as hard. So the division lifts the rare and the nearly certain ones. Dr.GRPO (arXiv 2503.20783) calls this a bias and leaves the division out; so does DeepSeek-V3.2. On our task it makes no visible difference (below).
#
# ### Exercise: the advantages of a group
# ●●○○○ · 6 min · the check knows thirteen ways to get these three operations wrong.
#
# `rewards_PO` has a row for each of $P$ questions and a column for each of $O$ answers. Give $A = (R - \mathrm{mean}) / (\mathrm{std} + 10^{-4})$ with mean and standard deviation of each *row*; the deviation divides by $O - 1$, as torch's does.
# By hand: `[[0, 0, 0, 1]]` has the mean 0.25 and the deviation 0.5, so `[[-0.5, -0.5, -0.5, 1.5]]`, a hair less. A row of equal rewards gives zeros.

# %% tags=["exercise"]
def group_advantages(rewards_PO):
    ...  # your code

group_advantages = check("09.group_advantages", group_advantages)

# %%
hints("09.group_advantages")

# %% [markdown]
# ### Break it: four mistakes with a mean and a deviation
#
# Two questions with four answers each: one that the policy nearly always answers, one that it hardly ever does. And a third, whose answers are all wrong.

# %% tags=["nbval-check-output"]
rewards_PO = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
wrong = {
    "right": group_advantages(rewards_PO),
    "2: mean and std of the batch": (rewards_PO - rewards_PO.mean()) / (rewards_PO.std() + 1e-4),
    "3: no 1e-4": (rewards_PO - rewards_PO.mean(1, keepdim=True)) / rewards_PO.std(1, keepdim=True),
    "4: std divides by O": group_advantages(rewards_PO) * (4 / 3) ** 0.5,
    "5: a group of one": rewards_PO[:, :1] - rewards_PO[:, :1].mean(1, keepdim=True),
}
for name, advantages_PO in wrong.items():
    print(f"{name:30}", [[round(a, 2) for a in row] for row in advantages_PO.tolist()])

# %% [markdown]
# **Mistake 2** rewards all that was right and punishes all that was wrong, whatever the question: the hopeless third question pushes its four answers down, where there is nothing to prefer. (The library can divide by the deviation of the batch alone, `scale="batch"`, as TRL can; the mean stays the group's.) **Mistake 3** is 0 / 0: one such group, and the whole model is NaN after the step. **Mistake 4** multiplies everything by one number, $\sqrt{O/(O-1)}$: 15% with four answers, 3% with 16. With plain gradient descent that is a slightly larger learning rate, and AdamW divides a common factor out again: you would never notice but in a comparison with other code. **Mistake 5** learns nothing at all: an answer alone is its own average. The library refuses it:

# %% tags=["nbval-check-output"]
try:
    minimoe.rl.group_advantages(rewards_PO[:, :1])
except ValueError as error:
    print(error)

# %% [markdown] tags=["beat"]
# ## The loss that starts at zero
#
# Enough to train. Six steps, each with 16 questions and 16 answers to each: sample, judge, compare, one step of AdamW against the gradient of
#
# $$L = -\frac{1}{O} \sum_i \frac{1}{|o_i|} \sum_t r_{i,t}\, A_i \;+\; \beta\, \mathrm{KL} \qquad r_{i,t} = \frac{\pi_\theta(o_{i,t})}{\pi_{\text{old}}(o_{i,t})}$$
#
# The reward is that of the exercise, 1 for being right and 0.1 for the form; $|o_i|$ is the number of tokens of answer $i$, and $L$ is averaged over the questions. $\pi_{\text{old}}$ is the policy that sampled the answers. The **ratio** $r$ is the next section's business: here every rollout is used for one step, so $\pi_\theta = \pi_{\text{old}}$ and $r = 1$. Its *gradient* is not 0 but $\nabla \log \pi$, and that is REINFORCE with a baseline, but for the divisions by the deviation and by $|o_i|$. The KL term (Kullback-Leibler divergence, whose formula comes with the leash below), with $\beta = 0.001$, measures how far the policy has gone from where it started.

# %%
from IPython.display import clear_output
from minimoe.rl.zero import greedy_evaluation
from minimoe.training.reasoning import draw_problems

held_out = draw_problems(question.task, 64, seed=99, held_out=True)
evaluation = greedy_evaluation(tokenizer, question.task, held_out, max_new_tokens=48)
settings = RLSettings(steps=6, prompts=16, answers=16, max_new_tokens=48, evaluate_every=1)
policy = copy.deepcopy(model)
run = reinforce(
    policy, tokenizer, Questions(question.task, seed=0), R1_ZERO, settings,
    label="six steps", watch=[question], evaluation=evaluation,
)
clear_output()

# %%
guess(
    "09.start",
    "Before training, the model answers about a fifth of 64 held-out problems. How many after six steps?",
    100 * run.records[-1]["evaluation"]["accuracy"],
    unit="%",
)

# %%
print(f"before: {run.records[0]['evaluation_before']['accuracy']:.0%} right, held out and greedy")
print("step      loss   0.001 KL   gradient   right, sampled   right, held out   tokens")
for r in run.records:
    print(f"{r['step']:4} {round(r['loss'], 6) + 0.0:9.6f} {0.001 * r['kl']:10.6f} {r['grad_norm']:10.2f} {r['accuracy']:16.0%}", end="")
    print(f" {r['evaluation']['accuracy']:17.0%} {r['mean_tokens']:8.1f}")

# %%
steps = [r["step"] for r in run.records]
show(
    lines({"loss times 10,000": (steps, [1e4 * r["loss"] for r in run.records]),
           "right answers, held out": (steps, [r["evaluation"]["accuracy"] for r in run.records])},
          "The loss starts at 0 and rises while the model learns", "step", "share; loss times 10,000"),
    alt=f"Two curves over six steps. The loss, times 10,000, starts at 0 and rises to {1e4 * run.records[-1]['loss']:.1f}; "
    f"the share of right answers rises from {run.records[0]['evaluation']['accuracy']:.0%} after the first step "
    f"to {run.records[-1]['evaluation']['accuracy']:.0%}.",
)

# %% [markdown]
# There is the strange log, and it has no secret left. With $r = 1$ the first part of the loss is minus the mean of the advantages, and each group's advantages add up to 0. What is left is $\beta\,\mathrm{KL}$, which is 0 at the start and grows as the policy moves away. (At step 6 the loss is two and a half times the other column. It averages the KL within each response first, where the one token that has moved may be one of 4; the other column averages over all tokens, most of which are in long answers and have not moved.) The number that you see is the price of having moved; the part that teaches has the value 0 and a gradient that is not.
#
# **Mistake 6: reading the loss.** Beyond the KL nothing about this run can be told from it. Watch the reward, the held-out accuracy, the length of the answers, how many groups have unequal rewards, and the KL.
#
# Does it always start at 0? That depends on the average. The four answers from the beginning, at ratio 1:

# %%
from dataclasses import replace
from minimoe.rl.grpo import CISPO, DAPO, GRPO, GSPO, R1, V3_2

old_BT = rows.place([answer.logprobs for answer in group.answers])
advantages_O = group_advantages(rewards_O[None])[0]
for average in ("response", "token", "constant"):
    objective = replace(R1, average=average, kl_weight=0.0)
    loss, _ = policy_loss(objective, old_BT, old_BT, advantages_O, rows.mask_BS, max_tokens=48)
    print(f"average over {average:8}: loss {loss:+.3f}")

# %% [markdown]
# When every token counts the same (DAPO), the right answer, with 29 tokens against 2 and 4, outweighs its group, and the loss starts far below 0. As right and wrong answers change their lengths it wanders, again without meaning anything. The last section compares the three averages.

# %% [markdown] tags=["beat"]
# ## One rollout, several steps
#
# Sampling is the dear part: R1-Zero sampled 8,192 answers at a time and made 16 steps from them, 512 answers each. After the first step the policy is no longer the one that sampled. The ratio corrects for that: an answer that has become twice as likely since would be drawn twice as often now, so it counts twice. This is **importance sampling**, and $\pi_\theta / \pi_{\text{old}}$ is its weight. For a whole answer that is the product of the ratios of its tokens; PPO and GRPO give each token its own ratio $r$ instead, an approximation that holds while all are near 1.
#
# Where do ratios move? The run above recorded the answers to our question after its last step, and what the model at the *start* thought of the same tokens. (So this is the ratio of six steps together; those of one step are smaller.) The tokens of the first worked-out answer that moved by more than a tenth:

# %%
last = run.groups[-1]["answers"]
thinking = next(a for a in last if len(a["pieces"]) > 20)
now, start = (torch.tensor(thinking[key]).exp() for key in ("logprobs", "reference"))
print(thinking["text"])
for place, (piece, p, q) in enumerate(zip(thinking["pieces"], now, start)):
    if abs((p / q).log()) > 0.1:
        print(f"token {place + 1} of {len(now)}, {piece!r}: from {q:.2f} to {p:.2f}, ratio {p / q:.2f}")

# %% [markdown]
# Of its 29 tokens only one has moved by more than a tenth: the first digit after `<think>`, where the model decides to think instead of closing the thought at once. The others were nearly certain before. Six steps have more than tripled the probability of that one token. Hold on to that picture: *what is learned sits in a few tokens that were unlikely*.
#
# ### The clip
#
# Ratios that run away are dangerous: a single answer with $r = 20$ counts for twenty, and what it says was measured on a policy that is gone. PPO takes, token by token, the smaller of two values:
#
# $$\min\big(r A,\; \mathrm{clip}(r,\, 1 - \varepsilon,\, 1 + \varepsilon)\, A\big)$$
#
# Once a token has moved by $\varepsilon$ in the direction that its advantage asks for, the clipped value is the smaller one, it is constant, and the gradient is gone. If it has moved the *wrong* way, $r A$ is the smaller one and the gradient remains.
#
# ### Exercise: the clipped loss
# ●●●○○ · 12 min · the loss of GRPO, KL aside, in five lines.
#
# With the ratio $r_{i,t} = \exp(\log \pi - \log \pi_{\text{old}})$, give $-\frac{1}{B} \sum_i \frac{1}{|o_i|} \sum_t \min(r_{i,t} A_i,\, \mathrm{clip}(r_{i,t}, 1-\varepsilon, 1+\varepsilon)\, A_i)$: a scalar tensor. There are $B$ responses. `mask_BT` is True on their tokens and False on padding, so $|o_i|$ is the number of True in row $i$; `clip` is $\varepsilon$.
# By hand, two responses, $\varepsilon = 0.2$. The first, $A = 1$, has two tokens with ratios 1.5 and 1: $(1.2 + 1)/2 = 1.1$. The second, $A = -1$, one token with ratio 0.5: $\min(-0.5, -0.8) = -0.8$. The loss is $-(1.1 - 0.8)/2 = -0.15$.

# %% tags=["exercise"]
def clipped_loss(logprobs_BT, old_BT, advantages_B, mask_BT, clip):
    ...  # your code

clipped_loss = check("09.clipped_loss", clipped_loss)

# %%
hints("09.clipped_loss")

# %% [markdown]
# ### What others do with the ratio
#
# Every descendant of GRPO has its own idea of what a token should still be told at ratio $r$. The derivative of the loss says it: each token's $\nabla \log \pi$ is multiplied by some weight, which is $A$ at $r = 1$ and something else beside it. We let autograd find it, for responses of one token and without the KL term.

# %%
def weight(objective, ratio_R, advantage):
    """What grad log pi of a token with this ratio and advantage is multiplied by."""
    logprobs_RT = ratio_R.log()[:, None].requires_grad_()
    old_RT, mask_RT = torch.zeros_like(logprobs_RT), torch.ones_like(logprobs_RT).bool()
    advantages_R = torch.full_like(ratio_R, advantage)
    objective = replace(objective, kl_weight=0.0)
    loss, _ = policy_loss(objective, logprobs_RT, old_RT, advantages_R, mask_RT, max_tokens=1)
    return -len(ratio_R) * torch.autograd.grad(loss, logprobs_RT)[0][:, 0]


kinds = {"GRPO, clip 0.2": GRPO, "DAPO": DAPO, "R1, clip 10": R1, "V3.2": V3_2, "CISPO": CISPO, "GSPO": GSPO}

# %%
from minimoe_course.panels import panels

ratios_R = torch.logspace(-1.3, 1.3, 600)
gap = torch.tensor([torch.nan])  # two lines in one curve, not joined
bare = (torch.cat([ratios_R, gap, ratios_R]), torch.cat([ratios_R, gap, -ratios_R]))
curves_of = {
    name: {f"A = {a:+}": (ratios_R, weight(kind, ratios_R, float(a))) for a in (1, -1)} | {"no clip": bare}
    for name, kind in kinds.items()
}
show(
    panels(curves_of, "What a token is still told, by how far it has moved", "ratio", "weight of its gradient",
           grey=["no clip"], xticks=[0.1, 0.3, 1, 3, 10], yticks=[-10, -3, -1, 0, 1, 3, 10]),
    alt="Six panels of weight against ratio, one curve for A = +1 and one for A = -1. GRPO: the upper curve falls to zero "
    "at 1.2, the lower one is zero below 0.8. DAPO: the same with 1.28. R1: the upper one falls at 11, the lower one is "
    "never cut. V3.2: 1.2, and zero below 0.9. CISPO: never zero, level beyond 5. GSPO: the upper one falls to zero at 1, the "
    "lower one is zero below 1. Grey and dotted in each: without a clip the weight is the ratio times A.",
)

# %% tags=["nbval-check-output"]
from minimoe_course.tables import Table

places = [0.05, 0.85, 1.0, 1.25, 3.0, 12.0]
table = [
    [name, kind.ratio.replace("sequence", "response"), f"{a:+.0f}", *(f"{w:.2f}".replace("-0.00", "0") for w in weight(kind, torch.tensor(places), a))]
    for name, kind in kinds.items() for a in (1.0, -1.0)
]
print(Table(["", "a ratio for each", "A", *(f"r = {place:g}" for place in places)], table))

# %% [markdown]
# From left to right, the upper row first:
#
# - **GRPO**, as PPO: silence beyond 1.2 for good tokens and below 0.8 for bad ones. (DeepSeekMath does not print its $\varepsilon$; 0.2 is PPO's.)
# - **DAPO** (arXiv 2503.14476): the upper bound is wider, 1.28. An unlikely token of probability 0.01 may rise to 0.012 before GRPO falls silent, one of 0.9 may rise as far as it can: the clip holds down exactly what is rare.
# - **R1** (arXiv 2501.12948, version 2, the first RL stage): a clip of **10**, so no lower bound, and an upper one at 11. DeepSeek's reason: a smaller value truncates the gradients of a large number of tokens and costs performance, a larger one may make training unstable. Think of the token that carries the decision: it has to grow by a factor of 3, and from any one rollout 0.2 lets it grow by 1.2. (The formula printed in R1's paper has one ratio a *response* and no $1/|o|$; DeepSeekMath's and V3.2's have one a token, as here.)
# - **V3.2** (arXiv 2512.02556): a clip, and a response with $A < 0$ is dropped whole if it has, on average over its tokens, become too unlikely since it was sampled. Neither number is published; ours are 0.2 and 0.1 nats a token, so a one-token response falls silent below $e^{-0.1} = 0.905$. Its KL term is multiplied by the ratio, which makes its gradient unbiased.
# - **CISPO** (arXiv 2506.13585): the ratio is cut (here at 5), the gradient never. A bad token with a large ratio cannot push without bound.
# - **GSPO** (arXiv 2507.18071): the reward belongs to the response, so the ratio does too. It is the geometric mean over the tokens, and its bounds are $1 - 0.0003$ and $1 + 0.0004$.
#
# Why so narrow? In a mean over 29 tokens, one that has grown by a factor of 3 nearly disappears:

# %% tags=["nbval-check-output"]
for tokens in (29, 1000):
    print(f"one token of {tokens} has ratio 3: the response's ratio is {3 ** (1 / tokens):.4f}")

# %% [markdown]
# Both are still far outside: with $A > 0$ either response would fall silent as a whole.
#
# ### What does the clip do here?
#
# We draw one rollout of 128 answers and learn from it six times, with R1's clip of 10 and with 0.2. "Clipped" is the share of tokens that have lost their gradient.

# %%
from minimoe.rl.learner import Learner

drawn = rollout(model, tokenizer, Questions(question.task, seed=0).draw(1, 8), 16, max_new_tokens=48, seed=1)
scores_PO = torch.tensor([[R1_ZERO.total(R1_ZERO.score(g.question, a)) for a in g.answers] for g in drawn])
for clip in (10.0, 0.2):
    objective = replace(R1, clip_low=clip, clip_high=clip)
    learner = Learner(copy.deepcopy(model), model, replace(settings, objective=objective))
    found_S = [learner.learn(drawn, group_advantages(scores_PO), lr=3e-4) for _ in range(6)]
    print(f"clip {clip:g}: {evaluation(learner.model)['accuracy']:.0%} right, held out, after six updates")
    print("  clipped in each:", "  ".join(f"{seen['clip_fraction']:5.1%}" for seen in found_S))
    print("  KL before each: ", "  ".join(f"{round(seen['kl'], 3) + 0.0:5.3f}" for seen in found_S))

# %% [markdown]
# In the first update all ratios are 1, and no clip acts. R1's acts in none of the six: here it is no clip at all. With 0.2 a tenth of all tokens falls silent from the third update on, the policy stays near where it was, and of the other's gain in accuracy, from 20% to 81%, it makes a third. (One run each; three seeds follow where every term is switched off.)
#
# To stay near is what the clip promises. The KL says what the freedom costs: with the wide clip the policy ends several times as far from its start, measured on the drawn answers, more and more of which it would no longer give. That this goes well is owed to the task, which has one skill to be found.
#
# **Mistake 7: the ratio does not start at 1.** The log-probabilities of the rollout and those of the training step must belong to the same distribution. They do not if the answers were sampled at temperature 0.7 and the loss is computed at 1, or the other way round; in large systems it is enough that two programs round differently, or that an expert is chosen differently (V3.2 records the router's choices and replays them). The first thing to check, before any step:

# %%
for temperature in (1.0, 0.7):
    now_BT = answer_logprobs(model, rows, temperature)[0].detach()
    ratios = (now_BT - old_BT).exp()[rows.mask_BS]
    outside = ((ratios < 0.8) | (ratios > 1.2)).float().mean()
    print(f"loss at temperature {temperature}: ratios from {ratios.min():.2f} to {ratios.max():.2f},", end=" ")
    print(f"{outside:.0%} of the tokens outside 0.8 to 1.2")

# %% [markdown] tags=["beat"]
# At 0.7, 2 of the 39 tokens (5%) stand outside 0.8 to 1.2 before anything has been learned, one of them at 0.17.
#
# ## Long answers, short answers, and a leash
#
# A response has one advantage and many tokens. How are they averaged? Three answers are in print; you have seen what each makes of the first loss:
#
# $$\text{response: } \frac{1}{B} \sum_i \frac{1}{|o_i|} \sum_t \qquad \text{token: } \frac{1}{\sum_i |o_i|} \sum_i \sum_t \qquad \text{constant: } \frac{1}{B\, T_{\max}} \sum_i \sum_t$$
#
# The first is GRPO's, the second DAPO's, the third Dr.GRPO's. ($B$ counts the responses of all groups, $T_{\max}$ is the longest that a response may be.)
#
# ### Exercise: weigh the averages
# ●●○○○ · 8 min · the length bias of GRPO, as a number.
#
# At ratio 1, what is the $\nabla \log \pi$ of a token multiplied by (positive: pushed up)? Give one number for each response, the same for all its tokens, under each `average`: "response", "token" or "constant"; `max_tokens` is $T_{\max}$.
# By hand, two wrong answers of 4 and 16 tokens, both with $A = -1$, $T_{\max} = 20$: by response $-1/(2 \cdot 4) = -0.125$ and $-1/(2 \cdot 16) = -0.031$; by token both $-1/20 = -0.05$; by constant both $-1/(2 \cdot 20) = -0.025$.

# %% tags=["exercise"]
def token_weights(lengths_B, advantages_B, average, max_tokens):
    ...  # your code

token_weights = check("09.token_weights", token_weights)

# %%
hints("09.token_weights")

# %% [markdown]
# The four answers from the beginning, with your function: three wrong ones of 4, 2 and 4 tokens, and the right one of 29.

# %%
lengths_O = rows.mask_BS.sum(1)
print(f"tokens  {lengths_O.tolist()}")
for average in ("response", "token", "constant"):
    weights_O = token_weights(lengths_O, advantages_O, average, 48)
    print(f"{average:8} weight of a token {[round(w, 4) for w in weights_O.tolist()]}", end="")
    print(f"   of the response {[round(w, 3) for w in (weights_O * lengths_O).tolist()]}")

# %% [markdown]
# By response, each answer weighs what its advantage says, and its tokens share that. A wrong answer of 29 tokens would be punished 7 times less a token than one of 4: *if you must be wrong, be wrong at length*. Dr.GRPO (arXiv 2503.20783) traces the growth of wrong answers in such training to this. By token or by constant a token weighs the same wherever it stands, and now the one long answer weighs more than all others together.
#
# Which is right? The derivation at the top has no division by the length: $\log \pi$ of an answer is a *sum* over its tokens. That is the constant, up to a factor. So is the average by token within one batch: the last two rows above differ by the factor 4.9. Only from batch to batch does it change, with the lengths. The mean by response is another objective; its reason is that no answer counts for more by being long.
#
# ### The leash
#
# The KL term holds the policy near a **reference**, here the model before RL. With $x = \pi_{\text{ref}} / \pi_\theta$, for each token of the policy's own answers,
#
# $$\mathrm{KL} \approx x - \log x - 1$$
#
# It is never negative, and on average over the policy's answers it is the divergence $\mathbb{E}[\log \pi_\theta - \log \pi_{\text{ref}}]$ (Schulman's "k3"). R1-Zero weighs it with 0.001 and replaces the reference by the current policy every 400 steps, so the leash is long and moves along. DAPO and Dr.GRPO have none.
#
# ## Every term switched off once
#
# Short runs from the same model, with three seeds each; the runs of the last two rows take a minute each, and have one seed and two. A seed fixes questions and sampling. The held-out problems are 256 now, of which the model answers 26% before (of the 64 above, 20%). `python data/terms/study.py` makes the runs again, all but the second seed of the last row, in some 12 CPU-minutes.

# %%
import json

records = [json.loads(line) for line in (data_path("terms") / "results.jsonl").read_text().splitlines()]
order = ["reference", "no std", "no KL", "per token", "constant", "groups of 2", "no baseline"]
order += [f"no baseline, all rewards {more}" for more in ("+ 1", "- 1", "+ 1, per token")] + ["all rewards 1, per token"]
order += sorted({r["variant"] for r in records} - set(order))


def over_seeds(name, number, form="{:.0%}"):
    mine = sorted((r for r in records if r["variant"] == name), key=lambda r: r["seed"])
    return "  ".join(form.format(number(r)) for r in mine)


guess(
    "09.nothing",
    "Leave out the baseline: the advantage is the reward itself. All else stays. Of 256 held-out problems the model "
    "answers 26% before. What share after eight steps? (Whole percent, first seed.)",
    round(next(100 * r["after"]["accuracy"] for r in records if r["variant"] == "no baseline" and r["seed"] == 0)),
    unit="%",
)

# %%
Table(
    ["", "right, held out", "tokens an answer, sampled, last step"],
    [[name, over_seeds(name, lambda r: r["after"]["accuracy"]),
      over_seeds(name, lambda r: r["curves"]["mean_tokens"][-1], "{:.0f}")] for name in order],
    title="A number a seed. 8 steps of 16 x 16 answers unless the name says otherwise; 26% right before",
)

# %% [markdown]
# **The deviation, the KL term, the average, the size of the group:** no difference. All round to 100%, as the reference does. That is no proof that they do nothing; it says that this task is done before they matter. The papers' evidence comes from much longer runs.
#
# **The baseline.** With the rewards as they are (0, 0.1, 1 and 1.1, for the form is paid) nothing is learned in any seed, and the answers become *shorter*. A constant in the rewards should cancel on average, as at the top. But the sum that cancelled there has no division by the length. In the mean over a response's tokens, each token of a short answer is pushed 7 times harder than one of a long answer, most answers are short, and so being short is paid. With 1 added to all rewards it is the same. With 1 *subtracted* it learns like the reference: the wrong answers are pushed down, and the tokens of short ones hardest.
#
# Now the row "all rewards + 1, per token". Same missing baseline, and the model learns. No answer is divided by its own length there, so the added 1 cancels on average, as at the top, and costs only noise, which 256 answers a step see through: what remains is that right answers get 1 more. The row below it is the control: *every* answer gets 1, so there is nothing to learn from. It ends at 32%, 23% and 38%. That is what noise alone does to 26% in eight steps, and a reason to trust no difference of ten points in this table. With the mean by response a baseline takes away the pay for being short; with the average by token it saves noise.
#
# **The clip.** On one rollout, used sixteen times, R1's clip of 10 goes nearly all the way, and 0.2 ends between 30% and 48%. (The 10 or 11 tokens of these rows are those of the only rollout, drawn before the first update.) With four rollouts, each used eight times, both arrive, and 0.2 is a little ahead of no clip at all; but that is one seed against two. Here a small clip needs fresh rollouts to get far; a policy without a clip learns from answers that are less and less its own.

# %% [markdown] tags=["play"]
# ## Play
#
# One reward for a whole answer: which tokens does it reach? The explorer has the six-step run from above, and the 16 answers to our question before the first step and after each. Blue tokens (bar above) are likelier than at the start, orange ones (bar below) less likely; a full colour is a factor of $e$.
#
# **Try first:** go from step 0 to step 6 and find the two tokens between which the model decides. Then look at a lucky guess, an answer that is right without a thought. Which sign has its advantage?

# %% tags=["play"]
from minimoe.training import BackgroundRun
from minimoe_widgets import RolloutExplorer

explorer = RolloutExplorer(BackgroundRun.around(run), step=3)
show(explorer)

# %% [markdown]
# After `<think>` comes either a digit or `</think>`, and that is where nearly all of the colour is. The remaining tokens of a worked-out chain were certain before and are certain now: their gradient is close to zero, whatever the advantage.
#
# A lucky guess is paid like a real solution. GRPO cannot tell them apart; nor can a thought with one slip be blamed for the slip alone, for all its tokens get the same advantage. What saves it are numbers. This question is a lucky one for guesses, of which 3 of 6 are right in the figure; over 48 held-out questions fewer than one guess in five is right, and more than four thoughts in five.

# %% [markdown]
# ## Tiny and real

# %% tags=["tiny-vs-real"]
nature = "Nature 645, 633, Methods and supplement"
first, final = run.records[0]["evaluation_before"], run.records[-1]["evaluation"]
compare_table([
    ("parameters", sum(p.numel() for p in model.parameters()), minimoe.accounting.parameters(minimoe.V3).total, "computed"),
    ("questions a step", settings.prompts, 32, nature),
    ("answers a question", settings.answers, 16, nature),
    ("steps", settings.steps, 10_400, nature),
    ("answers a rollout, steps from it", f"{settings.prompts * settings.answers}, 1", "8,192, 16", nature),
    ("learning rate", f"{settings.lr:g}", "3e-06", nature),
    ("KL weight", f"{settings.objective.kl_weight:g}", "0.001", nature),
    ("reference replaced every", "never", "400 steps", nature),
    ("temperature", f"{settings.temperature:g}", "1", nature),
    ("clip", f"{settings.objective.clip_high:g}", "10 (R1, first RL stage)", "arXiv 2501.12948v2, RL of R1"),
    ("longest answer, tokens", settings.max_new_tokens, "32,768; 65,536 from step 8,200 on", nature),
    ("right, before and after", f"{first['accuracy']:.0%}, {final['accuracy']:.0%} (chains)", "15.6%, 77.9% (AIME 2024)", nature),
    ("tokens an answer, before and after", f"{first['mean_tokens']:.0f}, {final['mean_tokens']:.0f}", "not given as numbers", nature),
], ours="this chapter", theirs="R1-Zero", title="The same loss at two sizes")

# %% [markdown]
# A rate a hundred times higher and less than a thousandth of the steps: our model had to find one decision that it had been taught and made to forget. R1-Zero had to find more. Chapter 10 asks what such training can find and what it cannot.

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# A group in place of a critic: what does that save, and what does it cost?
#
# **It saves a second model.** A critic is usually as large as the policy, and is trained with it. For each parameter V3's recipe keeps a weight in FP8, a master weight and a gradient in FP32, and two moments in BF16 (arXiv 2412.19437, section 3.3):

# %% tags=["when-it-pays", "nbval-check-output"]
parameters = minimoe.accounting.parameters(minimoe.V3)
bytes_each = 1 + 4 + 4 + 2 + 2
critic_bytes = parameters.total * bytes_each
print(f"a critic as large as V3: {parameters.total / 1e9:.0f}B parameters, {critic_bytes / 1e12:.1f} TB while it trains,")
print(f"the memory of {critic_bytes / 80e9:.0f} GPUs of 80 GB, activations not counted;")
print(f"and {6 * parameters.activated.with_head / 1e9:.0f} GFLOPs of training a token, as many as the policy's own")

# %% [markdown]
# R1-Zero was trained on 512 GPUs (Nature 645, 633, supplement). Sampling costs the same either way.
#
# **It costs some noise.** A perfect critic knows the true mean; the group's mean is off by chance. What that chance adds to the noise is $c / (O - 1)$ of it. If rewards had nothing to do with the lengths of the gradients and the signal were small, $c$ would be 1. Measured above, against the true mean:

# %% tags=["when-it-pays"]
for size, mine, perfect in zip(sizes[:5], found["minus the group's mean"], found["minus the true mean"]):
    more = mine / perfect - 1
    print(f"{size:2} answers: {more:4.0%} more noise than with a perfect critic, c = {more * (size - 1):.1f}")

# %% [markdown]
# With 16 answers a critic that knew the true mean would save a tenth of them, and no real one knows it. (One that also judged every token could save more.)
#
# **It costs dead groups.** If a share $p$ of the answers is right, all $O$ are alike with probability $p^O + (1-p)^O$, and the group teaches nothing:

# %% tags=["nbval-check-output"]
print("share of groups that teach, by the share p of right answers")
for size in (2, 4, 16, 64):
    shares = "   ".join(f"p = {p:g}: {1 - p**size - (1 - p) ** size:4.0%}" for p in (0.01, 0.1, 0.3, 0.5, 0.95))
    print(f"{size:2} answers   {shares}")

# %% [markdown]
# For the same number of answers one may ask many questions a few times or few questions many times. On our task, where $p$ starts at a quarter, that made no difference: 128 questions with 2 answers ended where 16 with 16 did (the table of switched-off terms). Nor does it for hard questions, as far as groups that teach are counted: at $p = 0.01$ even 16 answers are alike in 85% of all groups, and 256 answers give 2.5 mixed pairs on average or 2.4 mixed groups of 16.
#
# So a group pays when answers are cheap to repeat and only the end is judged: mathematics, programs. A critic earns its place where an episode is long and cannot be repeated from the same start, or where blame must fall on single tokens, which no group mean can do.

# %%
receipt([
    ("R1-Zero on AIME 2024", "15.6% to 77.9%", "source: Nature 645, 633"),
    ("R1's clip, and its reason", "10", "source: arXiv 2501.12948v2, training of the first RL stage"),
    ("loss and gradient of every variant equal TRL 1.16's", "to 1e-6", "asserted by tests/minimoe/rl/test_grpo.py"),
    ("equal rewards give zeros, a group of one an error", "exactly", "asserted by tests/minimoe/rl/test_grpo.py"),
    ("what is said about the switched-off terms", "three seeds; the rows of four rollouts one and two", "asserted by tests/course/test_chapter_09.py"),
    ("bytes a trained parameter of V3", 13, "source: arXiv 2412.19437 section 3.3"),
    ("GPUs that trained R1-Zero", 512, "source: Nature 645, 633, supplement"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# 1. A run logs `loss 0.0000, grad_norm 0.0000, reward 0.00` for fifty steps. Another logs `loss 0.0000, grad_norm 0.41, reward 0.33`. Which of the two is broken, and where do you look first?
#
# <details><summary>Answer</summary>
#
# The first. All rewards are equal, so all advantages are zero. Print one prompt, one response and its reward: the usual cause is a rule that does not recognise the format (mistake 1), or questions that are too hard for any of the answers. The second run is healthy.
#
# </details>
#
# 2. You use each rollout for exactly one update. A friend recommends a clip of 0.28 in place of 0.2. What changes?
#
# <details><summary>Answer</summary>
#
# Nothing. At the only update every ratio is 1, which no clip touches. The clip is for the second update and later ones, or for rollouts that were made by an older policy.
#
# </details>
#
# 3. All 16 answers to a question are right. What does this question teach, and what would you do about such questions late in a run?
#
# <details><summary>Answer</summary>
#
# Nothing: the advantages are exactly zero. Late in a run most questions are like that, and the step works with what is left. DAPO samples on until enough groups are mixed ("dynamic sampling"); harder questions are the other cure.
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - Reward times $\nabla \log \pi$, averaged over the policy's own answers, is the gradient of the average reward. A baseline takes noise out of it; GRPO's is the mean of a group of answers to the same question.
# - With one update a rollout and the mean by response the loss is $\beta\,\mathrm{KL}$: it starts at 0 and rises, and beyond the KL says nothing. Watch reward, held-out accuracy, length, mixed groups and KL.
# - The clip acts from the second update on, and first on the few unlikely tokens that carry the decision. R1 opened it to 10; the descendants differ in what they still tell such a token, and in how they average over tokens.
#
# ## Sources
# Williams, Machine Learning 8, 229 (1992), REINFORCE; PPO, arXiv 1707.06347; DeepSeekMath, arXiv 2402.03300 (equation 3, section 4.1); DeepSeek-R1, Nature 645, 633 and arXiv 2501.12948v2; DeepSeek-V3.2, arXiv 2512.02556 (equations 5-9); Dr.GRPO, arXiv 2503.20783; DAPO, arXiv 2503.14476; GSPO, arXiv 2507.18071; CISPO, arXiv 2506.13585, and its bound of 5, arXiv 2510.13786; the KL estimator, joschu.net/blog/kl-approx.html. Mistakes: huggingface/open-r1 issues 239 and 560; huggingface/trl issues 2703, 3452 and 6966.
#
# ## Next
# Chapter 10 lets this loss run until it has found everything that the base model can do, and shows what it cannot create.
