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
# # 12 Distillation
#
# By the end you have taught a small model what reinforcement learning taught a larger one, tried the same reinforcement on the small one, and can say when each of the two wins.
#
# 40 minutes, 60 with all exercises. Prerequisites: chapters 09 and 10.
#
# You will be able to
# - build a distillation corpus from a teacher's answers, and name what its filter lets through
# - compare distillation with reinforcement learning fairly: the same start, the same seconds
# - tell the two directions of the Kullback-Leibler divergence apart, and which of them fine-tuning takes

# %% tags=["setup"]
import torch
import minimoe
from minimoe_course import *

setup(seed=0)

# %% [markdown] tags=["question"]
# ## 72.6 or 47.0
#
# DeepSeek took one base model, Qwen2.5-32B, and two ways to make it reason. The first was R1-Zero's recipe, reinforcement learning for over 10,000 steps: 47.0% on AIME 2024. The second was plain fine-tuning on chapter 11's corpus, about 800,000 samples curated with R1: 72.6%. The report calls it "economical and effective" (arXiv 2501.12948, section 4.1).
#
# Is showing better than trying? Or did the two students not start level?

# %% [markdown] tags=["by-hand"]
# ## Four answers by hand
#
# A teacher is asked for `7 + 3 * 4 - 2`, worked from left to right, modulo 10. The value is 8. Here are four of its answers. A filter keeps those that are right, each text once. Which go into the student's corpus?

# %% tags=["by-hand", "nbval-check-output"]
answers = ["<think></think>8", "<think>7+3=0*4=0-2=8</think>8", "<think>7+3=0*4=0-2=8</think>8", "<think>7+3=1*4=4-2=2</think>2"]
kept = dict.fromkeys(answer for answer in answers if answer.split("</think>")[-1] == "8")
for answer in kept:
    print(answer)

# %% [markdown]
# Two go in. The repeated answer goes in once, the miscalculated one not at all. The lucky guess passes: the filter reads what is said, not how it came about. Keep that in mind; it comes back below.

# %% [markdown] tags=["beat"]
# ## A teacher writes the textbook
#
# The teacher is chapter 10's R1-Zero (`data/zero`): 564,864 parameters, a mixture of experts, reinforced until it worked its chains out. We ask it 800 problems from the training side, twice each, at temperature 1. Greedy, it is always right on the held-out problems. How many of the sampled answers pass?

# %%
from minimoe.rl.distill import Sampling, harvest
from minimoe.tokenizer import Tokenizer
from minimoe.training.reasoning import Chain, draw_problems

task = Chain(operations=6)
tokenizer = Tokenizer.load(data_path("zero"))
teacher = minimoe.load(data_path("zero"), dtype=torch.float32)
sampling = Sampling(problems=800, answers=2, per_problem=1, max_new_tokens=48, seed=7)
found = harvest(teacher, tokenizer, task, sampling, label="the teacher answers")

# %%
guess("12.approved", "1,600 answers of a teacher that is always right when greedy. What percentage passes?",
      100 * found.approved_share, unit="%")

# %%
print(f"{found.approved} of {found.answers} answers are right; {found.unsolved} of 800 problems have none")
print(f"{found.different - len(found.samples)} problems have two different right answers")
for sample in found.samples[:3]:
    print(sample.problem, " ", sample.response)

# %% [markdown]
# This is **rejection sampling**: propose, check, throw away. What is left is a corpus that nobody wrote by hand. The teacher hardly ever says one thing in two ways, so a second answer to a problem adds almost nothing here; R1's answers to a problem of mathematics run to thousands of tokens and differ every time.
#
# ### Exercise: the filter
# ●●○○○ · 8 min · the corpus is what the filter lets through, and nothing repairs it later.
#
# `groups` is a list of `(problem, answers)`, and `answers` a list of `(text, right)`. Give the list of `(problem, text)` to learn from: for each problem the right texts, each once, in the order they came, at most `limit` of them.
# As a set, $\{(q, o) : R(q, o) = 1\}$, without repetitions and cut off. By hand, with a limit of 2: wrong, `A`, `A`, `B` (the last three right) gives `A` and `B`.

# %% tags=["exercise"]
def keep_verified(groups, limit):
    ...  # your code

keep_verified = check("12.keep_verified", keep_verified)

# %%
hints("12.keep_verified")

# %% [markdown] tags=["beat"]
# ## The student
#
# The student is dense, has two layers and 125,130 parameters, less than a quarter of the teacher's. It was prepared as the teacher's base was (`data/reason`): first chains with every value written out, then the lazy habit of answering at once. Only its first stage was cut short, at 170 steps, so it never learned the skill completely.
#
# A student with a habit may know more than it says. We measure both: what it answers, and what it answers when its response has to begin as a thought, with `<think>` and the first digit.

# %%
from minimoe.inference.generate import generate
from minimoe.rl.zero import greedy_evaluation
from minimoe.training.reasoning import encode_prompt

problems = draw_problems(task, 128, seed=99, held_out=True)
greedy = greedy_evaluation(tokenizer, task, problems, max_new_tokens=48)


def made_to_think(model):
    begun = [f"<think>{problem[0]}" for problem in problems]
    prompts = [encode_prompt(tokenizer, p) + tokenizer.encode(b, special=True) for p, b in zip(problems, begun)]
    result = generate(model, prompts, max_new_tokens=48, stop_tokens=[tokenizer.eos_id])
    texts = [b + tokenizer.decode(tokens) for b, tokens in zip(begun, result.tokens)]
    return sum(map(task.is_correct, problems, texts)) / len(problems)


prepared = minimoe.load(data_path("distill") / "prepared", dtype=torch.float32)
skill = made_to_think(prepared)
print(f"as it answers {greedy(prepared)['accuracy']:.2f}, made to think {skill:.2f}")

# %% [markdown]
# Now fine-tuning on the teacher's texts: next-token loss over the response, 40 steps of 32 samples, a few seconds. What does the student reach?

# %%
from minimoe.checkpoint import load_into
from minimoe.rl.distill import teach
from minimoe.training import Settings
from minimoe.training.responses import ResponseLearner


def fine_tuned(samples, label, steps=40):
    """A fresh copy of the prepared student, taught these samples."""
    student = ResponseLearner(prepared.config)
    load_into(student, data_path("distill") / "prepared")
    settings = Settings(steps=steps, lr=5e-3, balance="none")
    return student, teach(student, tokenizer, samples, settings, label=label)


student, history = fine_tuned(found.samples, "the student learns")

# %%
taught = greedy(student)
guess("12.taught", f"It answered {greedy(prepared)['accuracy']:.2f} right, and {skill:.2f} when made to think. "
      "And after these 40 steps?", taught["accuracy"])

# %%
print(f"right {taught['accuracy']:.2f}, tokens an answer {taught['mean_tokens']:.1f}, "
      f"fine-tuning {history['cpu_s'][-1]:.1f} CPU-seconds")

# %% [markdown]
# It left its habit and went past its own skill. The samples did two things: they showed the student *that* one should work a chain out, and they were hundreds of lessons in *how*.

# %% [markdown] tags=["beat"]
# ## Or let it find out by itself
#
# The same prepared student, and R1-Zero's recipe as in chapter 10: no teacher and no texts, a reward for right answers. Here are six steps.

# %%
from minimoe.rl import Questions, R1_ZERO, RLSettings, reinforce

settings = RLSettings(steps=6, prompts=16, answers=16, max_new_tokens=48, lr=5e-4, evaluate_every=6)
trying = minimoe.load(data_path("distill") / "prepared", dtype=torch.float32)
run = reinforce(trying, tokenizer, Questions(task, seed=0), R1_ZERO, settings, label="R1-Zero on the student", evaluation=greedy)
tried = run.records[-1]["evaluation"]
print(f"right {tried['accuracy']:.2f}, tokens an answer {tried['mean_tokens']:.1f}, "
      f"reinforcement {run.cpu_s:.1f} CPU-seconds")

# %% [markdown]
# It works: the student thinks, and its answers are better. The stored run of the same student has 40 steps (`python data/distill/train.py`). Where does it end? Draw the curve on paper before you run the cell. Two dashed lines stand for comparison: what the prepared student could do when it was made to think, and what the distilled one does.

# %%
from minimoe.training import History
from minimoe_course.reinforced import column

log = History.load(data_path("distill") / "reinforced" / "log.jsonl").records
curves_of_one = {
    "reinforced": column(log, "evaluation.accuracy"),
    "made to think": ([0, 40], [skill, skill]),
    "distilled": ([0, 40], [taught["accuracy"]] * 2),
}
show(
    lines(curves_of_one, "In 40 steps trying finds what is there, and no more", "step of reinforcement learning", "right, greedy (held out)",
          grey=["made to think", "distilled"]),
    alt=f"Accuracy over 40 steps. It rises from {curves_of_one['reinforced'][1][0]:.2f} to {curves_of_one['reinforced'][1][2]:.2f} "
    f"at step 8 and ends at {curves_of_one['reinforced'][1][-1]:.2f}, near the dashed line of the prepared student made to think, "
    f"{skill:.2f}. The distilled student's line is at {taught['accuracy']:.2f}.",
)

# %% [markdown]
# Reinforcement brought out the skill that was there, in eight steps. Then it stood still: 0.70 at step 8, 0.70 at step 40. Not for want of advantages: in every step 12 or more of the 16 groups hold both right and wrong answers. But what separates right from wrong is now an arithmetic slip in one of six places, and a reward for the whole answer does not say in which. A sample of the teacher shows every token as it should be.

# %% [markdown] tags=["beat"]
# ## The fair comparison, five seeds
#
# One student proves little, and it is fair to ask which student. A prototype of this comparison had one that never saw the stage of full skill. Reinforcement got nowhere, and distillation looked like magic: there had been nothing to bring out.
#
# So here are three preparations, *none*, *middle* and *full*: a first stage of 0, 170 or 250 steps, and the lazy stage after each. Both arms start from the same prepared student, five seeds each, with the rates chosen on another seed before (`data/distill`). Fine-tuning takes 40 steps (200 for *none*), reinforcement 20 (40 for *middle*). The teacher is asked 1,280 problems here.

# %%
from statistics import fmean

from minimoe_course import distilled

show(
    distilled.by_skill("Reinforcement ends near the student's own skill"),
    alt="Fifteen students, each with two marks, over what they could do before when made to think. Ten had a skill, from 0.45 "
    "to 1: their open marks, reinforced, lie along the dashed diagonal, but for one far below it (0.20 over 0.59); their filled "
    "marks, distilled, lie above it or on it, from 0.64 to 1. Five had none: at the left edge the open marks are all at 0.19, the filled "
    "ones between 0.11 and 0.91.",
)

# %%
distilled.table()

# %% [markdown]
# (The last two columns are controls, which have a section of their own below.)
#
# Read the figure along the dashed line, *as much as before*. The reinforced students with a skill (open marks) lie near it. Of the ten that had a stage of skill, nine end within 0.1 of what they could do before, when made to think. The tenth went the other way: seed 24 of the full preparation learned to guess, and afterwards it could not think when made to (0.21 after 0.59). The five without a stage of skill stay where they were, with one and the same guess for everything.
#
# The distilled students (filled) lie on or above the line. They rise furthest above it where reinforcement had little to find; where the skill was nearly complete (0.95 and more) both arms end at 1.00, and the teacher was not needed. The circles on the left are the prototype's unfair comparison: reinforcement looks hopeless, and distillation anything between a wonder and a failure (0.91, and 0.11, which is worse than the guess).
#
# And at equal CPU-seconds? For the distilled student the teacher's sampling counts. For both, evaluations do not.

# %%
for preparation in distilled.PREPARATIONS:
    seconds, ours, theirs = distilled.at_equal_seconds(preparation)
    gap = distilled.difference(ours, theirs)
    print(f"{preparation:6} after {min(seconds):.0f} to {max(seconds):.0f} CPU-seconds: distilled minus reinforced "
          f"{gap.mean:+.2f} (95% interval {gap.low:+.2f} to {gap.high:+.2f})")

# %%
show(
    distilled.over_seconds("middle", "Distillation adds skill; reinforcement hardly any"),
    alt="Accuracy minus what each student could do before when made to think, over CPU-seconds, middle preparation. "
    "Medians of five seeds. Distilled: from below 0.1 to above 0.2 between 5 and 7 seconds. Reinforced: from -0.5 to -0.1 "
    "within 4 seconds, then slowly up, past zero after some 33 seconds and never to 0.1.",
)

# %% [markdown]
# With the middle preparation the interval leaves out zero, and all five seeds agree. With the other two it does not: five seeds that differ as much as these allow no more. Look at the reinforced curve's end, too. The median creeps above zero, late. Does trying add skill? Here are the five students of each arm.
#
# %%
for name in ("distilled", "reinforced"):
    gain = distilled.difference(distilled.arm("middle", name), distilled.prepared("middle", "made_to_think"))
    print(f"{name:10} above the skill before:", "  ".join(f"{each:+.2f}" for each in gain.differences),
          f"  mean {gain.mean:+.2f} (95% interval {gain.low:+.2f} to {gain.high:+.2f})")

# %% [markdown]
# Distillation raised all five. Reinforcement raised three and lowered two, and its interval holds zero: if trying adds skill, 40 steps and five seeds are too few to see it.
#
# ### Two controls
#
# **What do the teacher's errors cost?** The same fine-tuning, on the task's own traces for the same problems, ends at 0.88 like the teacher's samples. Of some 1,180 samples about 35 have a thought that is not the task's (a slip that happened to cancel, a guess). Five seeds see no difference.
#
# **Was it the texts, or only more training?** The same fine-tuning for as many seconds, on more of the *lazy* corpus, leaves the answers at 0.19. But one document in five of that corpus has a thought in it. What became of the skill underneath?

# %%
guess(
    "12.corpus",
    "After more of the lazy corpus the five students answer 0.19 right. And when made to think, on average? (Before: "
    f"{fmean(distilled.prepared('middle', 'made_to_think')):.2f})",
    round(fmean(distilled.arm("middle", "more corpus", "made_to_think")), 2),
)

# %%
print("made to think, before:              ", distilled.spread(distilled.prepared("middle", "made_to_think")))
print("made to think, after more corpus:   ", distilled.spread(distilled.arm("middle", "more corpus", "made_to_think")))
print("answers of the distilled, unprompted:", distilled.spread(distilled.arm("middle", "distilled")))

# %% [markdown]
# About three quarters of the skill that distillation adds is more training, then: the few worked texts in the lazy corpus teach it too, under a habit that hides it. This control is the strongest objection to the comparison above, and it stands. Reinforcement after it would start from 0.83 instead of 0.68; five seeds of that were not run. What the teacher's samples have over the corpus is that every one of them is worked out and right, so that skill and habit are learned at once, and that nobody needs to own a corpus with worked texts.

# %% [markdown] tags=["beat"]
# ## What imitation means, on two words
#
# The student sees one token of the teacher at each place. The teacher had a whole distribution. Say it gave the next token `8` the probability 0.9 and `3` 0.1, and the student gives each 0.5. How far are they apart? There are two answers, because the **Kullback-Leibler divergence** is not symmetric:
#
# $$\text{forward}\quad \mathrm{KL}(p_T \,\|\, p_S) = \sum_v p_T \log\frac{p_T}{p_S} \qquad\qquad \text{reverse}\quad \mathrm{KL}(p_S \,\|\, p_T) = \sum_v p_S \log\frac{p_S}{p_T}$$

# %% tags=["nbval-check-output"]
from minimoe.rl.distill import divergence

for p_teacher, p_student in (([0.9, 0.1], [0.5, 0.5]), ([0.5, 0.5], [0.98, 0.02]), ([0.98, 0.02], [0.5, 0.5])):
    student_MV, teacher_MV = torch.tensor([p_student]).log(), torch.tensor([p_teacher]).log()
    forward, reverse = divergence(student_MV, teacher_MV), divergence(student_MV, teacher_MV, reverse=True)
    print(f"teacher {p_teacher}, student {p_student}: forward {forward:.2f}, reverse {reverse:.2f}")

# %% [markdown]
# In the last two rows the distributions are exchanged, and so are the numbers. In the second row the student is sure of one of two things that the teacher would say, and the forward divergence is the large one: it punishes what the student *leaves out*. In the third the student still spreads over both where the teacher would say one, and the reverse is large: it punishes what the student *says* and the teacher would not.
#
# Fine-tuning on samples takes the forward one. If $y$ is drawn from the teacher, the mean of $-\log p_S(y)$ is $\mathrm{KL}(p_T \| p_S)$ plus the teacher's own entropy, which no student can change. (Filtering bends it a little: the samples come from the teacher *given that it was right*.)
#
# ### Exercise: three losses
# ●●●○○ · 10 min · they say what a student imitates, and a forgotten mask raises no error.
#
# From logits of both models (`student_MV`, `teacher_MV`), the tokens that came (`tokens_M`, already shifted: row $m$ is the prediction of token $m$) and which of them belong to the response (`response_M`): the fine-tuning loss $-\log p_S(\text{token})$, the forward and the reverse divergence, each as a mean over the response.
# By hand: three tokens, the first belongs to the problem. The student gives both words 0.5 everywhere, the teacher (0.9, 0.1) and (0.5, 0.5): fine-tuning 0.6931, forward $(0.3681 + 0)/2 = 0.1840$, reverse $(0.5108 + 0)/2 = 0.2554$.

# %% tags=["exercise"]
def imitation_losses(student_MV, teacher_MV, tokens_M, response_M):
    ...  # your code: return sft, forward, reverse

imitation_losses = check("12.imitation_losses", imitation_losses)

# %%
hints("12.imitation_losses")

# %% [markdown]
# Here are the three on 64 of the teacher's texts, before and after fine-tuning.

# %%
from minimoe.training.reasoning import document, encode_document
from minimoe.training.responses import padded_batches, response_labels

rows = [encode_document(tokenizer, document(s.problem, s.response)) for s in found.samples]
ids_BT = next(padded_batches(rows, 64, seed=0))
labels_M = response_labels(ids_BT)[:, 1:].flatten()


@torch.no_grad()
def logits(model):
    return model(ids_BT).logits[:, :-1].flatten(0, 1)


for name, model in {"prepared": prepared, "distilled": student, "teacher": teacher}.items():
    losses = imitation_losses(logits(model), logits(teacher), labels_M.clamp(min=0), labels_M != -100)
    print(f"{name:9} fine-tuning {losses[0]:.3f}   forward {losses[1]:.3f}   reverse {losses[2]:.3f}   nats a token")

# %% [markdown]
# All three fell, though only the first was trained on. The distilled student's first number is below its second, which the sum above rules out for plain samples. These are filtered, and the last row shows what that does: against itself the teacher is at 0, and its own loss on the texts is nearly 0 as well. The slips that its distribution still counts have been taken out of the texts.
#
# The reverse divergence had been the largest, and some four tenths of it came from one token in 29: after `<think>` the prepared student closes the thought with probability 0.8, the teacher hardly ever.
#
# A student that imitates texts practises on texts it would not have written. Its own slip, in the second value of a chain, leads to a place where no sample has been. **On-policy distillation** turns this round: the student writes, the teacher gives its distribution at every token of what was written, and the loss is the reverse divergence over the whole vocabulary. DeepSeek-V4 was finished that way, with more than ten specialists as teachers (arXiv 2606.19348). It needs the teacher's weights at hand, where R1's students needed a file of texts.
#
# ## Break it: a filter that reads answers only
#
# The base of chapter 10 (`data/reason`) was never reinforced. At temperature 1 it works out one chain in five, nine of ten of these rightly, and guesses the others, of which luck makes one in seven right. What it says can be verified all the same. So who needs R1-Zero? Take the base as the teacher: same problems, same filter.
#
# Work it out for 100 answers, then guess: which share of what passes has a thought in it?

# %%
base = minimoe.load(data_path("reason"), dtype=torch.float32)


def has_thought(text):
    return "<think>" in text and "<think></think>" not in text


verified = harvest(base, tokenizer, task, sampling)
thoughtful = sum(has_thought(sample.response) for sample in verified.samples) / len(verified.samples)
guess("12.thoughtful", "What percentage of the samples kept from the base has a thought in it?", round(100 * thoughtful), unit="%")

# %%
from minimoe.rl.rewards import accuracy


def worked_out(question, answer):
    """A stricter rule: right, and with a thought."""
    return accuracy(question, answer) * has_thought(answer.text)


stricter = harvest(base, tokenizer, task, sampling, worked_out)
for rule, kept in {"right": verified, "right, with a thought": stricter, "right, from R1-Zero": found}.items():
    pupil, _ = fine_tuned(kept.samples, label=None, steps=24)
    score = greedy(pupil)
    print(f"{rule}: {100 * kept.approved_share:.0f} of 100 answers pass, {len(kept.samples)} samples; "
          f"taught on them: right {score['accuracy']:.2f}, tokens an answer {score['mean_tokens']:.1f}")

# %% [markdown]
# Of 100 answers 18 or 19 are thoughts that are right and some 11 are lucky guesses. So two lessons in two lines. The filter alone turned a lazy model's answers into a fairly good textbook: thinking pays, so thinking passes. Do this again and again with the student as its own next teacher and you have **expert iteration**, reinforcement learning's oldest relative. But every guess that passed is a lesson in guessing, and one more rule, which reads the thought and not only the answer, mends it.
#
# On chains, then, R1-Zero's advantage as a teacher is mostly a matter of yield: nine in ten of its answers pass, and two in ten of the base's. (Each line is one student after 24 steps, caught on its way; the last two are close.) On problems that a base solves once in a thousand times, that is the difference between a corpus and none.
#
# R1's authors, too, filtered for more than the answer: mixed languages, long paragraphs and blocks of code went out (section 2.3.3).

# %% [markdown] tags=["play"]
# ## Play
#
# What does a plateau look like from inside? The explorer holds the 40 steps of reinforcement on the student: each row is an answer, its reward and its advantage beside it, each token coloured by how much likelier it has become.
#
# **Try first:** show only the wrong answers and move to the last step. At which place in the chain does the first slip happen? Is it the same place in every answer?

# %% tags=["play"]
from minimoe_widgets import RolloutExplorer

explorer = RolloutExplorer(data_path("distill") / "reinforced")
show(explorer)

# %% [markdown]
# At the last step two answers are wrong. One slips in the third value, 5 + 5 = 5, one in the fifth, 3 + 7 = 6. Now show all answers: three of the right ones have the slip 5 + 5 = 5 as well. Then comes the last step, times 8, and 5 * 8 ends in 0 as 0 * 8 does. These three are paid in full for a wrong thought. That is the reward from inside: neither the place nor the fact of a slip is in it.

# %% [markdown]
# ## Tiny and real

# %% tags=["tiny-vs-real"]
r1 = "arXiv 2501.12948, sections 3.2 and 4.1"
appendix = "arXiv 2501.12948v2, appendix F.1"


def mean_of(arm, preparation="middle"):
    return f"{fmean(distilled.arm(preparation, arm)):.3f}"


compare_table([
    ("teacher", "R1-Zero on chains, 0.56M", "DeepSeek-R1, 671B", r1),
    ("student", "dense, 0.13M", "Qwen2.5-32B, dense", r1),
    ("samples", "about 1,180 (in the study)", "800,000", r1),
    ("student, made to think, before", f"{fmean(distilled.prepared('middle', 'made_to_think')):.3f}", "not known", ""),
    ("student, distilled", mean_of("distilled"), "0.726", r1),
    ("student, reinforced", mean_of("reinforced"), "0.470", r1),
    ("students of 1.5B, 7B, 14B, distilled", "", "0.289, 0.555, 0.697", r1),
    ("7B, reinforced (its instruct model: 0.079)", "", "0.223 (Qwen2-Math-7B)", appendix),
    ("both arms start from", "the same prepared student", "the same base model", r1),
    ("test", "256 held-out chains, 5 seeds", "AIME 2024, 30 problems", r1),
], ours="chains (middle preparation)", theirs="R1", title="Distilled and reinforced, ours and theirs")

# %% [markdown]
# Three things differ. Nobody measured what their base model could have done when made to think; ours had a skill that we set. Their teacher is far from perfect on the test; ours is perfect on its task when greedy, so a student can reach it and never pass it. And their students learned to reason about problems that differ from one another, where ours learned one procedure.
#
# What a small model gains from reinforcement alone depends on the small model, in the paper, too. In appendix G.1 a 7B dense model and a 16B mixture of experts did not benefit. In appendix F.1 a 7B model trained on mathematics, Qwen2-Math-7B, went to 22.3% (its instruct sibling has 7.9%). DeepSeek's reading is that the base has to be strong enough. On chains that sentence has a number: the accuracy when made to think. Kim and colleagues find the same division of labour in small language models: reinforcement raises the accuracy and not the range of what a model can solve; distillation widens the range, if it brings new knowledge (arXiv 2505.14216).

# %% [markdown] tags=["when-it-pays"]
# ## When does it pay?
#
# A teacher has to exist. Ours took the base's training and R1-Zero's, and R1 took 147,000 GPU-hours (R1-Zero 101,000, data 5,000, R1 41,000; Nature 645, supplement). One student alone may be cheaper to reinforce, if it has the skill. But a teacher serves many students.
#
# ### Exercise: how many students?
# ●●○○○ · 6 min · it decides whether a teacher is worth making.
#
# A teacher costs `once_s` (its training and its samples), each student taught costs `each_s`, each student that learns alone costs `alone_s`. From how many students $n$ on is the teacher strictly cheaper, $\text{once} + n \cdot \text{each} < n \cdot \text{alone}$? Give `float("inf")` if never.
# By hand: 100, 5 and 30 seconds: each student saves 25. Four save 100, which is a tie; so 5.

# %% tags=["exercise"]
def students_to_pay(once_s, each_s, alone_s):
    ...  # your code

students_to_pay = check("12.students_to_pay", students_to_pay)

# %%
hints("12.students_to_pay")

# %% tags=["when-it-pays"]
import json

base_s = json.loads((data_path("reason") / "receipt.json").read_text())["cpu_seconds"]
zero_s = History.load(data_path("zero") / "log.jsonl")["cpu_s"][-1]
sampling_s = fmean(distilled.arm("middle", "distilled", "sampling_cpu_seconds"))
each_s = fmean(distilled.arm("middle", "distilled", "cpu_seconds")) - sampling_s
alone_s = [seconds for *_, seconds in distilled.seconds_to(0.95, skill=0.9)]
once_s = base_s + zero_s + sampling_s
print(f"teacher: base {base_s:.0f} + R1-Zero {zero_s:.0f} + samples {sampling_s:.0f} CPU-seconds, once; a student {each_s:.1f}")
print("students with a skill above 0.9, reinforced until 0.95 right:", ", ".join(f"{s:.0f}" for s in alone_s), "CPU-seconds")
for seconds in (min(alone_s), fmean(alone_s), max(alone_s)):
    print(f"at {seconds:.0f} seconds alone, the teacher pays from {students_to_pay(once_s, each_s, seconds)} students on")

# %% [markdown]
# A student that has the skill needs nobody. Of the fifteen, four could do more than 0.9 when made to think, and reinforced alone they came to 0.95 within 3 to 35 CPU-seconds. Teaching one takes 3.3. At the low end no number of students repays the teacher, at the mean of the four ten of them do. The other eleven never came to 0.95 alone, in 20 or 40 steps: for them there is nothing to weigh. (Distilled, two of the eleven did.)
#
# Not measured here: a second round, in which the distilled student is reinforced. DeepSeek say that it gives significant further gains and left it to others (arXiv 2501.12948v1, section 3.2). Ours has no room above 1.

# %%
receipt([
    ("distilled and reinforced, 32B, on AIME 2024", "72.6%, 47.0%", "source: arXiv 2501.12948 section 4.1"),
    ("students of 1.5B, 7B, 14B, distilled", "28.9%, 55.5%, 69.7%", "source: arXiv 2501.12948 section 3.2"),
    ("7B, reinforced alone; its instruct model", "22.3%, 7.9%", "source: arXiv 2501.12948v2 appendix F.1"),
    ("GPU-hours of R1-Zero, data, R1", "101K, 5K, 41K", "source: Nature 645 (2025), supplement, table 7"),
    ("what is said about the fifteen students", "five seeds each", "asserted by tests/course/test_chapter_12.py"),
    ("what the base's samples hold", f"{thoughtful:.0%} with a thought", "computed"),
    ("slips at the last step of the run", "2 wrong, 3 paid", "asserted by tests/course/test_chapter_12.py"),
    ("both divergences are the sums written above", "to 1e-12", "asserted by tests/minimoe/rl/test_distill.py"),
])

# %% [markdown] tags=["check-yourself"]
# ## Check yourself
#
# **1.** A student, reinforced, ends at 0.7. Its sibling, distilled, ends at 0.99. Does that show that distillation is the better algorithm?
#
# <details><summary>Answer</summary>
#
# Not without a third number: what the student could do before, when made to think. If that was 0.7, reinforcement did all that eliciting can do. With a student of full skill both end level.
#
# </details>
#
# **2.** All answers of a corpus are verified. Name two things that can still be wrong with it.
#
# <details><summary>Answer</summary>
#
# Right answers that were guessed, which teach guessing. Right answers with a wrong thought. Repeats of what the teacher is sure of. Problems that the teacher cannot solve are missing altogether.
#
# </details>
#
# **3.** Which divergence forbids a student to say what the teacher would never say?
#
# <details><summary>Answer</summary>
#
# The reverse one, $\mathrm{KL}(p_S \| p_T)$: where $p_T$ is near 0 and $p_S$ is not, it is large. Fine-tuning on samples takes the forward one, which asks that nothing be left out.
#
# </details>

# %% [markdown] tags=["summary", "sources", "next"]
# ## Summary
# - Distillation is fine-tuning on a teacher's verified answers; what the filter does not read, the student learns as well.
# - Reinforcement brings out the skill that a student has, and adds little to it in our runs; fine-tuning on worked texts adds skill in seconds, and a teacher is where such texts come from.
# - A fair comparison prepares both students alike, counts the seconds of both, and shows what the student could do before.
#
# ## Sources
# DeepSeek-AI, DeepSeek-R1, arXiv 2501.12948 (v1 of January 2025: sections 2.3.3, 2.4, 3.2, 4.1; v2 of January 2026: appendices F.1 and G.1) and Nature 645 (2025). DeepSeek-AI, DeepSeek-V4, arXiv 2606.19348. Hinton, Vinyals and Dean, *Distilling the knowledge in a neural network*, arXiv 1503.02531. Kim and Rush, *Sequence-level knowledge distillation*, arXiv 1606.07947. Kim et al., *Reinforcement learning vs. distillation*, arXiv 2505.14216.
#
# ## Next
# Chapter 13 asks what open weights mean for safety: what R1's own evaluation measured, and how few steps undo a refusal.
