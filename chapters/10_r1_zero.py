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
# # 10 R1-Zero
#
# By the end you have made a model think longer and solve in one attempt what it solved now and then, with a reward and no examples, and you can say what the reward did and what was there before it.
#
# 45 minutes, 60 with all exercises. Prerequisites: chapter 09 (groups, advantages, the policy loss).
#
# You will be able to
# - reproduce R1-Zero's two curves, accuracy and length, on one core, and tell a good run from a broken one
# - separate what reinforcement learning elicits from what it would have to create, with pass@k
# - find the gap in a reward before the model does

# %% tags=["setup"]
import torch
import minimoe
from minimoe_course import *

setup(seed=0)

# %% [markdown] tags=["question"]
# ## 15.6% to 77.9%, and nobody showed it how
#
# DeepSeek took V3's base model, asked it competition mathematics, checked the answers by a rule, and made what was right more likely. There were no worked examples to imitate and no model that judged the answers. After 10,400 such steps, **R1-Zero** solved 77.9% of AIME 2024 in one attempt; the base had solved 15.6%. Its answers had grown from hundreds of tokens to about ten thousand (Nature 645, 2025; the preprint of January 2025 says 71.0%).
#
# Where does a skill come from that nobody taught?

# %% [markdown] tags=["by-hand"]
# ## Four answers by hand
#
# Our problems are **chains**: worked from left to right, each result modulo 10. The answer comes after a thought between `<think>` and `</think>`. A right answer earns 1, a closed thought with an answer behind it earns 0.1. Here are four answers that the course's base model could give to `7 + 3 * 4 - 2`, whose value is 8 (7+3=0, 0*4=0, 0-2=8). What does each earn? And by how much does each beat the group?

# %% tags=["by-hand", "nbval-check-output"]
answers = ["<think></think>2", "<think></think>8", "<think>7+3=0*4=0-2=8</think>8", "2"]
rewards_O = torch.tensor([
    (answer.split("</think>")[-1] == "8") + 0.1 * ("</think>" in answer) for answer in answers
])
advantages_O = (rewards_O - rewards_O.mean()) / rewards_O.std()
for answer, reward, advantage in zip(answers, rewards_O, advantages_O):
    print(f"reward {reward:.1f}   advantage {advantage:+.2f}   {answer}")

# %% [markdown]
# The guess that happened to be right is pushed up exactly as much as the answer that was worked out. The reward cannot tell them apart. Over many problems something else can: in this base a guess is right about once in eight times, a worked chain nine times in ten. That difference in *frequency* is all that reinforcement learning has to go by.

# %% [markdown] tags=["beat"]
# ## The base can, and does not bother
#
# `data/reason` is a model of 564,864 parameters that was trained in two stages (its README has the recipe). First it saw chains with every value written down. Then, briefly, it saw chains answered at once. So it holds a skill, and a habit that hides it. DeepSeek's base had its skills from trillions of tokens of other people's mathematics; ours had to be given one.
#
# Greedy decoding takes the likeliest token each time. How often is it right, on problems that no training set held?

# %%
from minimoe.rl.zero import greedy_evaluation
from minimoe.tokenizer import Tokenizer
from minimoe.training.reasoning import Chain, draw_problems

task = Chain(operations=6)
base = minimoe.load(data_path("reason"), dtype=torch.float32)
tokenizer = Tokenizer.load(data_path("reason"))
problems = draw_problems(task, 128, seed=99, held_out=True)
greedy = greedy_evaluation(tokenizer, task, problems, max_new_tokens=48)
before = greedy(base)
print(f"right {before['accuracy']:.2f}, tokens an answer {before['mean_tokens']:.1f}")

# %% [markdown]
# Hardly more than guessing: a base that can only guess, further down, has 0.20 to 0.23. (That is more than one in ten because a multiplication by an even digit or by 5 leaves fewer values, so some digits are likelier than others. The stored runs below count 256 problems, these are 128.) Now let it answer at temperature 1, sixteen times each, and ask a kinder question: is *any* of the sixteen right?

# %%
from minimoe.rl.zero import sampled_scores

sampled = sampled_scores(base, tokenizer, task, problems, answers=16, max_new_tokens=48)
guess(
    "10.pass16",
    f"One sampled answer is right with a chance of {sampled['pass']['1']:.2f}. "
    "For how many problems in 100 is at least one of 16 answers right?",
    round(sampled["pass"]["16"] * 100),
    unit="in 100",
)

# %% [markdown]
# This is **pass@k**: the chance that at least one of $k$ answers is right. Its estimator samples $n \ge k$ answers once, finds $c$ of them right, and counts the choices of $k$ that hold a right one:
#
# $$\text{pass@}k = 1 - \binom{n - c}{k} \Big/ \binom{n}{k}$$
#
# The other summary of many answers is the vote, **cons@k** (from *consensus*): is the answer that most of $k$ give the right one? R1-Zero's 77.9% becomes 86.7% with a vote (of 16, says the label of the Nature paper's figure; the preprint says 64). Ours, before any training:

# %%
print(f"pass@1 {sampled['pass']['1']:.2f}   pass@16 {sampled['pass']['16']:.2f}   cons@16 {sampled['cons']:.2f}")

# %% [markdown]
# Careful with pass@16. There are only ten possible answers: sixteen blind guesses of a digit hold the right one with a chance of $1 - 0.9^{16} = 0.81$. Where luck is cheap, a high pass@k proves little. (It proves more where the answer is a number of three digits, as in AIME.) The vote is the better witness: guesses scatter over nine wrong digits, and only answers that were worked out agree with each other. To see them directly, split the base's answers into those with a thought and those without:

# %%
from minimoe.rl import Question, rollout
from minimoe.training.reasoning import split_response

groups = rollout(base, tokenizer, [Question(task, problem) for problem in problems], answers=16, max_new_tokens=48)
kinds = {"worked out": [], "guessed": []}
for group in groups:
    for answer in group.answers:
        thought = split_response(answer.text)[0]
        kinds["worked out" if thought else "guessed"].append(task.is_correct(group.question.problem, answer.text))
for name, right in kinds.items():
    print(f"{name:10} {len(right) / (16 * len(problems)):.2f} of all answers, {sum(right) / len(right):.2f} of them right")

# %% [markdown]
# So this is the model that reinforcement starts from: it works out about one problem in five, and is then right nine times in ten. A guess is right once in eight. The knowledge is there; what is missing is a reason to use it.
#
# ### Exercise: pass@k
# ●●○○○ · 6 min · the number that tells "cannot" from "does not".
#
# Write the formula for whole numbers `right` ($c$), `answers` ($n$) and `k`. By hand: 1 right of 4, $k = 2$. Of the 6 ways to choose two answers, 3 hold none of the right: $1 - 3/6 = 0.5$.

# %% tags=["exercise"]
def pass_at_k(right, answers, k):
    ...  # your code

pass_at_k = check("10.pass_at_k", pass_at_k)

# %%
hints("10.pass_at_k")

# %% [markdown] tags=["beat"]
# ## Reinforce it
#
# The recipe is chapter 09's and no more: 16 questions a step, 16 answers to each, advantages within the group, one optimizer step. Two rules pay. **Accuracy**: 1 if the answer ended and says the chain's value. **Format**: 0.1 if it ended and has a closed thought, empty or not, with something behind it. (DeepSeek give both rules equal weight; our base has the form already.)
#
# Now the run: eight steps of the twenty that the full recipe has (`python data/zero/train.py`, about a minute). Before you start it, write down how long you expect the answers to be at the end. Nothing rewards length.

# %%
from minimoe.rl import Questions, R1_ZERO, RLSettings, reinforce

model = minimoe.load(data_path("reason"), dtype=torch.float32)
settings = RLSettings(steps=8, prompts=16, answers=16, max_new_tokens=48, lr=3e-4, evaluate_every=2)
run = reinforce(
    model, tokenizer, Questions(task, seed=0), R1_ZERO, settings, label="R1-Zero",
    watch=[Question(task, problems[0])], evaluation=greedy,
)

# %%
guess(
    "10.length",
    f"The base's greedy answers to held-out problems had {before['mean_tokens']:.1f} tokens. How many have they after these "
    "eight steps? (The line above counts sampled answers to training problems.)",
    run.records[-1]["evaluation"]["mean_tokens"],
    unit="tokens",
)

# %%
from minimoe_course import reinforced

show(
    reinforced.against_band(
        data_path("zero"), {"evaluation.accuracy": "right, greedy (held out)", "evaluation.mean_tokens": "tokens an answer"},
        run.records, "Accuracy and length rise together",
    ),
    alt="Two panels over 20 steps, each with a grey band of five seeds. Held-out accuracy rises from about 0.25 to 1 "
    "within eight steps, the length of an answer from 5 tokens to 29; after its start this run lies in both bands.",
)

# %% [markdown]
# The grey bands are five other seeds, each with a base of its own, trained from nothing (`data/zero/results.jsonl`). Ours begins a little above them, with another base. If your run leaves them later on, something differs from the recipe; that is what they are for.
#
# Length rose, and nobody asked for it. Working a chain out takes 29 tokens, guessing takes 4; right answers are long, so making right answers likelier makes answers longer. The curve ends at 29 because a chain of six has nothing more to work out. The end points beside the paper's:

# %% tags=["nbval-check-output"]
nature = "Nature 645 (2025), figure 1 and text"
compare_table([
    ("right before, one answer", "0.29 (sampled)", "0.156", nature),
    ("right after, one answer", "0.92 (sampled)", "0.779", nature),
    ("after, with a vote", "1.00 (of 64)", "0.867", nature),
    ("steps", 20, "10,400", nature),
    ("answers a step", 16 * 16, 512, nature),
], ours="chains, 0.56M parameters", theirs="AIME 2024, R1-Zero", title="Before and after")

# %% [markdown]
# What is printed as *loss* in such a run starts at zero and may rise. Chapter 09 says why that means nothing. Look at accuracy, length, and the share of groups that teach:

# %%
for record in run.records:
    print(f"step {record['step']}: right {record['accuracy']:.2f}, tokens {record['mean_tokens']:4.1f}, "
          f"groups that teach {record['learnable']:2} of {record['groups']}, loss {record['loss']:+.4f}")

# %% [markdown] tags=["beat"]
# ## What it elicited, and what it could not create
#
# Did the model learn to calculate in these steps? Compare what it finds in $k$ answers before and after. These are the stored scores of the shipped run, all twenty steps of it, not of yours. The third curve is a base that was never shown how a chain is worked out; it guesses, and only 16 answers were drawn from it.

# %%
import json

receipt_of_run = json.loads((data_path("zero") / "receipt.json").read_text())
without = reinforced.runs(data_path("zero"), "control")
passes = {"guessing": without[0]["before"], "base": receipt_of_run["before"], "after R1-Zero": receipt_of_run["after"]}
show(
    lines({name: ([int(k) for k in scores["pass"]], list(scores["pass"].values())) for name, scores in passes.items()},
          "One answer is now as good as ten were before", "answers looked at, k", "pass@k", grey=["guessing"], log="x"),
    alt="Three curves of pass@k. Guessing rises from 0.12 at k = 1 to 0.80 at 16. The base rises from 0.29 at k = 1 "
    "to 1.0 at 64. After R1-Zero the curve starts at 0.92 and reaches 1 at k = 4.",
)
print(f"vote: guessing {without[0]['before']['cons']:.2f} (of 16 answers), base {receipt_of_run['before']['cons']:.2f}, "
      f"after R1-Zero {receipt_of_run['after']['cons']:.2f} (of 64)")

# %% [markdown]
# At large $k$ there was nothing to gain: the base already found every answer. What changed is the first answer. Training moved probability from guessing to working, and both were there before. That is **eliciting**. Whether it is all that happens in large models is debated; Yue et al. (arXiv 2504.13837) find that bases of several families overtake their reinforced versions at large $k$.
#
# The other half of the claim needs a base that lacks the skill. Three bases were trained with as many steps, on answers only: they saw the form and never a worked chain. Then came the same twenty steps of reinforcement.

# %%
guess(
    "10.control",
    "Three bases that never saw a chain worked out, twenty steps of R1-Zero each. "
    f"They start at {min(r['before']['pass']['1'] for r in without):.2f} to {max(r['before']['pass']['1'] for r in without):.2f} "
    "right, sampled. Where does the best of them end?",
    round(max(r["after"]["pass"]["1"] for r in without), 2),
)

# %%
print("           greedy          pass@1          pass@16         tokens")
for r in without:
    greedy_curve, tokens = (r["curves"][f"evaluation.{name}"]["value"] for name in ("accuracy", "mean_tokens"))
    pairs = [(greedy_curve[0], greedy_curve[-1]), *((r["before"]["pass"][k], r["after"]["pass"][k]) for k in ("1", "16"))]
    print(f"seed {r['seed']}  " + "  ".join(f"{a:.2f} -> {b:.2f}  " for a, b in pairs) + f"  {tokens[0]:.1f} -> {tokens[-1]:.1f}")

# %% [markdown]
# The answers stay short, and greedy accuracy stays where guessing has it. Sampled accuracy creeps up towards it: the policy grows surer of the digit that is likeliest anyway. A base that never saw a worked chain does not write one, so there is nothing to push up but lucky guesses, and luck does not carry over to the next problem. DeepSeek report the same at their scale: a 7B dense model and a 16B mixture of experts did not benefit from pure reinforcement (Nature paper, supplement G.1); they lacked what R1-Zero's base had.
#
# ### Exercise: which questions teach?
# ●●○○○ · 6 min · it tells how hard your problems should be, and how large the group.
#
# A group whose answers all earn the same has only zero advantages (chapter 09). Each of its `answers` ($O$) answers is right with chance $p$. What is the chance that the group teaches, that is, has right *and* wrong answers?
# By hand: $p = 0.5$ and two answers: right-wrong or wrong-right, $0.5$. With $p = 0.1$ and two answers $0.18$.

# %% tags=["exercise"]
def learnable_share(p, answers):
    ...  # your code

learnable_share = check("10.learnable_share", learnable_share)

# %%
hints("10.learnable_share")

# %%
chances = [0.001 * 1.3**i for i in range(25)] + [0.6 + 0.01 * i for i in range(40)] + [0.995, 0.999]
show(
    lines({f"{size} answers": (chances, [learnable_share(p, size) for p in chances]) for size in (4, 16, 64)},
          "A larger group finds use in harder questions", "chance p that one answer is right",
          "chance that the group teaches", log="x"),
    alt="Three curves over p from 0.001 to 0.999, for groups of 4, 16 and 64. The larger the group, the smaller the p at "
    "which its curve rises and the nearer to 1 that at which it falls.",
)

# %% [markdown]
# At $p = 0.001$ a group of 16 teaches once in 60 times, at $p = 0$ the answers teach nothing (the 0.1 for the form still can). That is why difficulty must match the model, and why groups that teach become fewer once most answers are right: in the list above the first of them are missing at the end.

# %% [markdown] tags=["beat"]
# ## "Wait"
#
# The most quoted line of the R1 papers is an answer that interrupts itself: "Wait, wait. Wait. That's an aha moment I can flag here." Does reinforcement invent such a thing?
#
# A second task, where trying again pays: signs on a clock of ten hours. `4 ? 6 ? 3 ? 3 = 8` asks which of + and - make it true modulo 10. A thought tries signs in a fixed order and checks each attempt by taking the target away. `-8=0y` is a hit, and the thought ends. After a miss, `-8=4x`, it says `wait,` and tries the next signs.
#
# The base of this task (`data/clock`) learned chains first, then full searches, then the habit of giving up after the first miss: it answers with signs that it has seen to be wrong. Twelve steps of reinforcement followed. The curve is one run, the band behind it five other seeds:

# %%
from minimoe.training import History

searching = History.load(data_path("clock") / "log.jsonl").records
show(
    reinforced.against_band(
        data_path("clock"), {"evaluation.accuracy": "right, greedy (held out)", "evaluation.waits": "waits an answer"},
        searching, "It waits again, and is right more often",
    ),
    alt="Two panels over 12 steps: held-out accuracy and the number of waits in an answer, both rising from the start.",
)

# %%
from minimoe.rl.record import read_groups

shown = read_groups(data_path("clock"))
last = max(group["step"] for group in shown)
for step in (0, last):
    group = next(group for group in shown if group["step"] == step and group["problem"] == shown[1]["problem"])
    tried = sum(answer["text"].count("wait") for answer in group["answers"]) / len(group["answers"])
    right = sum(answer["parts"]["accuracy"] for answer in group["answers"])
    print(f"step {step:2}, {group['problem']}: {right:.0f} of {len(group['answers'])} sampled answers right, {tried:.1f} waits an answer, for example")
    print("   ", max(group["answers"], key=lambda answer: answer["reward"])["text"])

# %% [markdown]
# And the same with bases whose corpus held no second attempt: all of their searches gave up after the first. What do you expect of twelve steps there?

# %%
print("                          right             waits an answer")
for kind, name in (("fresh", "saw retries"), ("control", "never saw one")):
    for r in reinforced.runs(data_path("clock"), kind):
        before, after = r["before"], r["after"]
        print(f"{name:14} seed {r['seed']}   {before['accuracy']:.2f} -> {after['accuracy']:.2f}   {before['waits']:9.2f} -> {after['waits']:.2f}")

# %% [markdown]
# Waiting returned because the corpus had it. It was **seeded** there, unlearned by habit, and **amplified** by the reward, because whoever tries again finds more. Where no text ever tried twice, no answer of any group did, and the reward had nothing to amplify. Nothing here shows that reinforcement invents waiting, and nothing in the published runs excludes that it was in the base's trillions of tokens too: bases of other families say "wait" and check themselves before any reinforcement (Liu et al., arXiv 2503.20783).
#
# Seed 11 falls behind, and its base tells why. Before it learned to give up it had not learned to search: in the check it took away its own value instead of the target, `=6-6=0y`, so that every first attempt looked like a hit. It was right for 0.32 of the problems at that time, the other bases for 0.98 or more. Reinforcement can do little with a check that always says yes. Measure the skill before you pay for the reinforcement.

# %% [markdown] tags=["beat"]
# ## A reward that can be earned in another way
#
# Suppose there were no verifier. You cannot check the answers, but you know what good ones look like: they work the chain out. So pay for the look: a sixth for every `=` in the answer, up to six, and 0.1 for the form. What would you expect from a base whose worked answers are right and whose guesses are not? This was run for thirty steps (`python data/zero/train.py --weak`; at a rate three times higher, 0.001, because what comes is slow).

# %%
weak = reinforced.runs(data_path("zero"), "weak: workings")[0]
accuracy = weak["curves"]["evaluation.accuracy"]
at = {step: value for step, value in zip(accuracy["step"], accuracy["value"])}
guess(
    "10.hacked",
    f"Held-out accuracy of greedy answers: {at[0]:.2f} before. Paid for the look of working, thirty steps. Where is it at the end?",
    accuracy["value"][-1],
)

# %%
paid = weak["curves"]["reward"]
show(
    lines({"reward, of 1.1": (paid["step"], paid["value"]),
           "right, greedy (held out)": (accuracy["step"], accuracy["value"])},
          "The reward stays at its top while the goal decays", "step", "reward; share right", grey=["reward, of 1.1"]),
    alt="Two curves over 30 steps. The reward rises to 1.1 within five steps and stays. Accuracy rises from 0.26 to 0.97 "
    "by step 3 and then falls, evaluation by evaluation, to 0.63.",
)
problem = draw_problems(task, 256, seed=99, held_out=True)[0]
print("a problem:           ", problem, "  worked out:", task.think(problem))
print("an answer at the end:", weak["last answers"][0])

# %% [markdown]
# Two things happened. First the weak reward *worked*: whoever is paid for working works, and this base works correctly, so accuracy rose to 0.97 within three steps. Rewards that have little to do with being right can raise accuracy where the skill is present (a reward for length alone does it here too, from 0.26 to 0.99, `data/zero/README.md`; random rewards did it for some published bases: Shao et al., arXiv 2506.10947). A rising accuracy does not prove a good reward.
#
# Then nothing held the values in their place. The answer above has six tidy steps and earns full marks, and its numbers are not those of the problem. The policy drifts, no reward objects, and it keeps the form and loses the content. Finding a way to be paid that is not the goal is **reward hacking**. The reward curve alone shows nothing of it.
#
# Or is the high rate to blame? The control is the same thirty steps at the same rate with the true rules:

# %%
true_rules = reinforced.runs(data_path("zero"), "true rules")[0]["curves"]["evaluation.accuracy"]
print("step      ", "  ".join(f"{step:4}" for step in accuracy["step"]))
for name, curve in (("weak rule", accuracy), ("true rules", true_rules)):
    print(f"{name:10}", "  ".join(f"{value:4.2f}" for value in curve["value"]))

# %% [markdown]
# The rate alone does no harm: where wrong values cost something, they are held.
#
# ### Exercise: sound the alarm
# ●●●○○ · 10 min · the check that belongs beside every reward curve.
#
# `rewards` and `accuracies` are two lists with one entry for each evaluation; `accuracies` are of held-out problems with a true verifier. Return the first index $i$ at which the accuracy is at least `drop` below the *best so far* while the reward is no lower than it was *at that best place* (of equals the first); -1 if there is none. Where both fall, the run has broken, and that is another alarm.
# By hand: rewards 0.2, 0.9, 1, 1 and accuracies 0.25, 0.5, 0.75, 0.5 with `drop` 0.125: at index 3 the accuracy is 0.25 below its best, the reward as high as there. The answer is 3.

# %% tags=["exercise"]
def first_hacked(rewards, accuracies, drop):
    ...  # your code

first_hacked = check("10.first_hacked", first_hacked)

# %%
hints("10.first_hacked")

# %%
rewards_there = [paid["value"][max(step - 1, 0)] for step in accuracy["step"]]
i = first_hacked(rewards_there, accuracy["value"], 0.05)
print(f"alarm at step {accuracy['step'][i]} of {accuracy['step'][-1]}, at an accuracy of {accuracy['value'][i]:.2f}")

# %% [markdown]
# The repair is the true rule. The decayed model was reinforced with R1-Zero's two rules for twelve more steps:

# %%
repaired = reinforced.runs(data_path("zero"), "repaired: workings")[0]["curves"]["evaluation.accuracy"]
print("step      ", "  ".join(f"{step:4}" for step in repaired["step"]))
print("accuracy  ", "  ".join(f"{value:4.2f}" for value in repaired["value"]))

# %% [markdown] tags=["play"]
# ## Play
#
# When does a token become likelier: before the answers are right, or after? The explorer shows the shipped run: for one problem, sixteen answers at every recorded step. Each token's colour says how much its probability has changed since the start: blue is likelier, orange less likely. Above are the curves, with the five seeds behind them.
#
# **Try first:** move *Step* from 0 to 6 and watch the first token after `<think>`. Then choose *only the wrong ones* at step 20: where do the last errors sit?

# %% tags=["play"]
from minimoe_widgets import RolloutExplorer

explorer = RolloutExplorer(data_path("zero"))
show(explorer, alt=explorer.alt_text())

# %% [markdown]
# One decision carries the run: whether the thought is closed at once or begun. Begun thoughts and right answers rise together, because a begun thought is mostly a right answer. The digits inside a thought hardly change colour: the arithmetic was there. Three of the last 64 answers are wrong: a slip inside the working, a thought that broke off, and a right thought with another digit behind it.
#
# ## Tiny and real

# %% tags=["tiny-vs-real", "nbval-check-output"]
supplement = "Nature 645 (2025), Methods"
shipped = History.load(data_path("zero") / "log.jsonl").records
compare_table([
    ("parameters, activated", "0.56M, 0.32M", "671B, 37B", "arXiv 2412.19437"),
    ("questions a step, answers to each", "16, 16", "32, 16", supplement),
    ("steps", 20, "10,400", supplement),
    ("longest answer (tokens)", 48, "32,768, later 65,536", supplement),
    ("learning rate", "3e-4", "3e-6", supplement),
    ("KL weight, reference replaced every", "0.001, never", "0.001, 400 steps", supplement),
    ("cost of the reinforcement", f"{shipped[-1]['cpu_s']:.0f} CPU-seconds", "101,000 H800 hours", "Nature 645 (2025), supplement, table 7"),
], ours="chains", theirs="R1-Zero", title="The same groups; model, steps and cost differ by orders of magnitude")

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# Suppose someone has written worked solutions for these problems. Then fine-tuning on them is the obvious alternative. Ten steps of 32 worked chains, on the same base, in this kernel:

# %% tags=["when-it-pays"]
import time
from minimoe.training import Settings, train
from minimoe.training.reasoning import draw_documents, encode_document
from minimoe.training.responses import ResponseLearner, padded_batches

taught = ResponseLearner(base.config)
taught.load_state_dict(base.state_dict())
rows = [encode_document(tokenizer, text) for text in draw_documents(task, 320, seed=7)]
start_s = time.process_time()
train(taught, padded_batches(rows, 32, seed=0), Settings(steps=10, lr=5e-3, balance="none"), label=None)
spent_s = time.process_time() - start_s
after = greedy(taught)
print(f"taught: right {after['accuracy']:.2f} after {spent_s:.1f} CPU-seconds")
to_95 = next(r for r in run.records if r.get("evaluation", {}).get("accuracy", 0) > 0.95)
print(f"reinforced: right {to_95['evaluation']['accuracy']:.2f} after {to_95['cpu_s']:.1f} CPU-seconds, "
      f"{to_95['cpu_s'] / spent_s:.0f} times as many")

# %% [markdown]
# With worked solutions at hand, imitation is several times cheaper. (On the base without the skill it is how the skill is taught: the first stage of every base here is that.) Reinforcement needs no solutions, only a verifier; it pays where checking is cheap and writing is dear. And it needs a base that is right now and then. R1 itself uses both, in turns: that is chapter 11. An imitated token costs one pass through the model; a reinforced one is sampled, then read by the policy and, with a KL term, by the reference, and more answers are needed.

# %% tags=["nbval-check-output"]
receipt([
    ("five fresh seeds: below 0.25 before, above 0.95 after", "all five", "asserted by tests/data/test_zero.py"),
    ("bases without the skill end within 0.05 of where they began", "all three", "asserted by tests/data/test_zero.py"),
    ("searches: above 0.8 after, waits grow", "at least four of five seeds", "asserted by tests/data/test_clock.py"),
    ("sixteen blind guesses hold the right digit", f"{1 - 0.9**16:.2f}", "computed"),
    ("AIME 2024, R1-Zero, before and after, with a vote", "15.6, 77.9, 86.7", "source: Nature 645 (2025), figure 1"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# 1. Your run's accuracy rises and its length does not. Is something wrong?
#
# <details><summary>Answer</summary>
#
# Not necessarily. Length rises where right answers are longer than what the base usually says. A base that already works everything out has no reason to grow longer.
#
# </details>
#
# 2. All rewards of a run are 0 from the first step on. Name two causes that look alike in the log, and how you tell them apart.
#
# <details><summary>Answer</summary>
#
# The base never solves a problem (make them easier, or sample more answers), or the reward never matches what the model writes: a template that eats `<think>`, an answer in another form. Read one answer and its rewards by hand before anything else.
#
# </details>
#
# 3. pass@1 went from 0.3 to 0.9 and pass@64 from 1.0 to 0.98. What happened?
#
# <details><summary>Answer</summary>
#
# Probability moved onto the ways that work most often, and a few rare right ways became rarer. The model is better at one attempt and slightly worse as a source of many different ones.
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - Two rules and no examples take a base that can and does not bother from a fifth to nearly all of its held-out problems, in twenty steps, with answers that grow from 5 tokens to 29.
# - It elicits: a base without the skill stays where it was, and waiting comes back only where it was seeded.
# - A reward is paid for what it says, not for what you meant. Put a held-out measure of the goal beside it.
#
# ## Sources
# DeepSeek-AI, DeepSeek-R1, Nature 645 (2025) 633 and its supplement; arXiv 2501.12948. Chen et al., arXiv 2107.03374 (pass@k). Wang et al., arXiv 2203.11171 (voting). Yue et al., arXiv 2504.13837; Shao et al., arXiv 2506.10947; Liu et al., arXiv 2503.20783.
#
# ## Next
# Chapter 11 gives the model back a language a person can read, and the rest of its manners.
