"""Exercises of chapter 09, Policy gradients in one evening."""

import torch

from minimoe.rl import grpo
from minimoe.rl.grpo import Objective, policy_loss
from minimoe.rl.rewards import well_formed
from minimoe.training.reasoning import split_response
from minimoe_course.compare import same
from minimoe_course.exercise import Exercise, Law, Wrong

__all__ = ["EXERCISES"]

OPEN, CLOSE = "<think>", "</think>"


def _reward_inputs(g: torch.Generator):
    yield {"opened": "", "text": "<think>1+2=3</think>3", "answer": "3"}
    yield {"opened": "", "text": "<think>1+2=3</think>4", "answer": "3"}
    yield {"opened": "", "text": "3", "answer": "3"}
    yield {"opened": "<think>", "text": "1+2=3</think>3", "answer": "3"}
    yield {"opened": "", "text": "<think>1+2=3</think>13", "answer": "3"}
    yield {"opened": "", "text": "<think>3", "answer": "3"}
    yield {"opened": "<think>", "text": "1+2=3</think>", "answer": "3"}
    yield {"opened": "", "text": "1+2=3</think>3", "answer": "3"}
    yield {"opened": "", "text": "so <think>1+2=3</think>3", "answer": "3"}
    yield {"opened": "", "text": "<think>1+2=3</think>4</think>3", "answer": "3"}


def reward(opened, text, answer):
    """1 for a right answer, 0.1 for the form: `split_response` of what the template and the model wrote together."""
    thought, said = split_response(opened + text)
    return float(said == answer) + 0.1 * float(thought is not None and said != "")


def _reward_variant(read=lambda opened, text: opened + text, right=str.__eq__, form=0.1, formed=None):
    def variant(opened, text, answer):
        thought, said = split_response(read(opened, text))
        good = thought is not None and said != "" if formed is None else formed(read(opened, text), thought, said)
        return float(right(said, answer)) + form * float(good)

    return variant


def _only_if_right(opened, text, answer):
    thought, said = split_response(opened + text)
    return float(said == answer) * (1 + 0.1 * (thought is not None))


def _anywhere(opened, text, answer):
    thought, said = split_response(opened + text)
    return float(answer in text) + 0.1 * float(thought is not None and said != "")


def _cut(opening, last=False, form_alone=False):
    """A reward that cuts at a </think>; `opening` says whether the thought was opened, `form_alone` asks so for the form
    only."""

    def variant(opened, text, answer):
        whole = opened + text
        thought = CLOSE in whole and opening(whole)
        cut = CLOSE in whole if form_alone else thought
        said = (whole.rsplit if last else whole.split)(CLOSE, 1)[1] if cut else whole
        return float(said == answer) + 0.1 * float(thought and said != "")

    return variant


def _at_the_beginning(whole):
    return whole.startswith(OPEN)


NO_OPENING = (
    "a `</think>` alone ends no thought: where no `<think>` stands at the beginning, all of it is what was said."
)

REWARD = Exercise(
    key="09.reward",
    reference=reward,
    source=well_formed,
    inputs=_reward_inputs,
    tolerance=1e-9,
    because="two numbers are added",
    wrong=(
        Wrong("template forgotten", _reward_variant(read=lambda opened, text: text), "where the template has opened the thought already, the response holds no <think>: you give such answers nothing for their form, and nothing for being right. Put `opened` before `text`."),
        Wrong("template's tag ignored in the form", _reward_variant(formed=lambda all_, thought, said: False), "you never pay for the form: 0.1 if there is a closed thought and something said after it."),
        Wrong("anywhere", _anywhere, "you find the answer anywhere in the text; it must be all that stands after the thought. A thought that passes by the number is no answer."),
        Wrong("at the end", _reward_variant(right=str.endswith), "you compare the end of the text only: 13 ends in 3 and is not 3."),
        Wrong("form only if right", _only_if_right, "you pay for the form only if the answer is right; the two are separate, and the first wrong answers should at least learn the form."),
        Wrong("unclosed thought", _reward_variant(formed=lambda all_, thought, said: all_.startswith("<think>") and said != ""), "a thought that is never closed counts as form in your version; it needs its </think>."),
        Wrong("nothing said", _reward_variant(formed=lambda all_, thought, said: thought is not None), "a thought with nothing after it counts as form in your version; something must be said."),
        Wrong("no opening", _cut(lambda whole: True), NO_OPENING),
        Wrong("no opening, last mark", _cut(lambda whole: True, last=True), NO_OPENING),
        Wrong("opening for the form alone", _cut(_at_the_beginning, form_alone=True), NO_OPENING),
        Wrong("opening for the form alone, last mark", _cut(_at_the_beginning, last=True, form_alone=True), NO_OPENING),
        Wrong("opening anywhere", _cut(lambda whole: OPEN in whole), "you look for `<think>` anywhere; a thought stands at the beginning, otherwise all of it is what was said."),
        Wrong("last mark", _cut(_at_the_beginning, last=True), "you cut at the last `</think>`; the first one closes the thought, and all that follows is what was said."),
        Wrong("equal weights", _reward_variant(form=1.0), "your form is worth as much as a right answer; it is worth 0.1."),
        Wrong("right alone is not enough", lambda o, t, a: _only_if_right(o, t, a) if CLOSE in o + t else 0.0, "a right answer without a thought is worth nothing in your version; it is right, and worth 1."),
    ),
    hints=(
        "What did the model and the template write together? Cut that in two at the end of the thought.",
        "```text\nwhole = opened + text\nif it starts with <think> and has a </think>: said = what stands after the first </think>, a thought is there\n"
        "otherwise: said = whole, no thought\nreturn (1 if said is the answer) + (0.1 if a thought is there and said is not empty)\n```",
    ),
    solution=(
        "def reward(opened, text, answer):\n"
        "    whole = opened + text\n"
        '    thought = whole.startswith("<think>") and "</think>" in whole\n'
        '    said = whole.split("</think>", 1)[1] if thought else whole\n'
        "    return float(said == answer) + 0.1 * float(thought and said != \"\")\n"
    ),
    differs="The library has a rule for each part, asks the task whether the answer is right, and pays nothing for a response that was cut off.",
)  # fmt: skip


def _advantage_inputs(g: torch.Generator):
    yield {"rewards_PO": torch.tensor([[0.0, 0.0, 0.0, 1.0]])}
    yield {"rewards_PO": torch.tensor([[0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])}
    yield {"rewards_PO": torch.tensor([[0.0, 0.0, 1.0, 1.0, 1.0], [0.1, 5.0, 0.1, 3.0, 2.0]])}
    scale = torch.tensor([[0.1], [1.0], [10.0]])
    yield {"rewards_PO": scale * torch.rand(3, 7, generator=g)}


def group_advantages(rewards_PO):
    """`minimoe.rl.group_advantages` with its default scale, the standard deviation of the group."""
    return grpo.group_advantages(rewards_PO)


def _centred(r, dim=1):
    return r - r.mean(dim, keepdim=True)


def _variant(scale):
    return lambda rewards_PO: _centred(rewards_PO) / scale(rewards_PO)


def _span(r):
    return r.amax(1, keepdim=True) - r.amin(1, keepdim=True) + 1e-4


def _without_itself(r):
    O = r.shape[1]  # noqa: E741
    return (r - (r.sum(1, keepdim=True) - r) / (O - 1)) / (r.std(1, keepdim=True) + 1e-4)


ADVANTAGES = Exercise(
    key="09.group_advantages",
    reference=group_advantages,
    source=grpo.group_advantages,
    inputs=_advantage_inputs,
    tolerance=1e-5,
    because="float32 rounds at 6e-8; a mean, a deviation and a division over a few answers",
    wrong=(
        Wrong("ddof 0", _variant(lambda r: r.std(1, keepdim=True, correction=0) + 1e-4), "your deviation divides by O; divide by O - 1, as torch's std does when left alone and as TRL does. In groups of 4 yours is 13% too small."),
        Wrong("std of the batch", _variant(lambda r: r.std() + 1e-4), "you divide by the deviation of all rewards: one question's spread then scales another's. Take each row's own."),
        Wrong("mean and std of the batch", lambda r: (r - r.mean()) / (r.std() + 1e-4), "you compare with the whole batch: all answers to one question look good, all to another bad. Compare each answer with its own row."),
        Wrong("mean of the batch", lambda r: (r - r.mean()) / (r.std(1, keepdim=True) + 1e-4), "you subtract the mean of the batch; subtract that of the row."),
        Wrong("columns", lambda r: _centred(r, 0) / (r.std(0, keepdim=True, correction=1 if len(r) > 1 else 0) + 1e-4), "you compare answers to different questions: the groups are the rows."),
        Wrong("0 / 0", _variant(lambda r: r.std(1, keepdim=True)), "where all rewards of a group are equal you divide 0 by 0, and one NaN in the loss destroys the model. Add 1e-4 to the deviation."),
        Wrong("less than 1e-4", _variant(lambda r: r.std(1, keepdim=True) + 1e-8), "you add less than 1e-4 to the deviation, or nothing where it is not 0; add 1e-4 everywhere."),
        Wrong("under the root", _variant(lambda r: (r.var(1, keepdim=True) + 1e-4).sqrt()), "you add 1e-4 to the variance; add it to the deviation, outside the root."),
        Wrong("variance", _variant(lambda r: r.var(1, keepdim=True) + 1e-4), "you divide by the variance; divide by its root."),
        Wrong("not scaled", lambda r: _centred(r), "you do not divide by the deviation. That is Dr.GRPO's and V3.2's advantage; here the division is asked for."),
        Wrong("range", _variant(_span), "you divide by the range; divide by the standard deviation."),
        Wrong("leave one out", _without_itself, "you leave each answer out of its own mean. That is RLOO; GRPO's mean is over all O answers."),
        Wrong("nothing subtracted", lambda r: r / (r.std(1, keepdim=True) + 1e-4), "you do not subtract the mean: every rewarded answer is pushed up."),
    ),
    hints=(
        "A row is a question. How much better than the average of its row was each answer, in units of the row's spread?",
        "```text\nmean = mean of each row, kept as a column\nstd = standard deviation of each row (O - 1), kept as a column\nreturn (rewards - mean) / (std + 0.0001)\n```",
    ),
    solution=(
        "def group_advantages(rewards_PO):\n"
        "    mean_P1 = rewards_PO.mean(1, keepdim=True)\n"
        "    std_P1 = rewards_PO.std(1, keepdim=True)\n"
        "    return (rewards_PO - mean_P1) / (std_P1 + 1e-4)\n"
    ),
    differs="It also refuses groups of one, sets groups of equal rewards to exactly 0 (their mean can be one rounding beside them), and can leave the division out or take the batch's deviation.",
)  # fmt: skip


def _loss_inputs(g: torch.Generator):
    yield {
        "logprobs_BT": torch.tensor([[0.6, 0.5], [0.2, 0.3]]).log(),
        "old_BT": torch.tensor([[0.4, 0.5], [0.4, 0.3]]).log(),
        "advantages_B": torch.tensor([1.0, -1.0]),
        "mask_BT": torch.tensor([[True, True], [True, False]]),
        "clip": 0.2,
    }
    # Every corner: ratios below, inside and above the clip, with either sign, and rows of different lengths.
    ratio_BT = torch.tensor([[0.5, 1.0, 1.5], [0.5, 1.0, 1.5], [1.1, 3.0, 0.9], [0.4, 2.0, 1.0]])
    old_BT = torch.tensor([[0.2, 0.5, 0.3], [0.3, 0.6, 0.1], [0.5, 0.2, 0.4], [0.1, 0.3, 0.7]]).log()
    lengths_B = torch.tensor([3, 3, 2, 1])
    yield {
        "logprobs_BT": old_BT + ratio_BT.log(),
        "old_BT": old_BT,
        "advantages_B": torch.tensor([1.5, -0.5, -1.0, 0.5]),
        "mask_BT": torch.arange(3) < lengths_B[:, None],
        "clip": 0.2,
    }
    old_BT = -3 * torch.rand(5, 7, generator=g) - 0.1
    yield {
        "logprobs_BT": old_BT + 0.4 * torch.randn(5, 7, generator=g),
        "old_BT": old_BT,
        "advantages_B": torch.randn(5, generator=g),
        "mask_BT": torch.arange(7) < torch.tensor([7, 2, 5, 1, 4])[:, None],
        "clip": 0.1,
    }


def clipped_loss(logprobs_BT, old_BT, advantages_B, mask_BT, clip):
    """`minimoe.rl.policy_loss` for GRPO without a KL term."""
    objective = Objective(clip_low=clip, clip_high=clip)
    return policy_loss(objective, logprobs_BT, old_BT, advantages_B, mask_BT)[0]


def _plain(r, c, A, clip):
    return torch.minimum(r * A, c * A)


def _per_response(x, mask):
    return ((x * mask).sum(1) / mask.sum(1)).mean()


def _loss_variant(token=_plain, average=_per_response, ratio=None, sign=-1.0):
    def loss(logprobs_BT, old_BT, advantages_B, mask_BT, clip):
        log_r, A = logprobs_BT - old_BT, advantages_B[:, None]
        r = log_r.exp() if ratio is None else ratio(log_r, mask_BT)
        return sign * average(token(r, r.clamp(1 - clip, 1 + clip), A, clip), mask_BT)

    return loss


def _of_the_response(log_r, mask):
    return ((log_r * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)).exp().expand_as(log_r)


def _teaches(fn, case):
    """The gradient is the library's. (A wrong number is not this law's business.)"""
    if not same(fn(*case.values()), clipped_loss(*case.values()), 1e-5):
        return True
    gradients = []
    for loss_of in (fn, clipped_loss):
        logprobs_BT = case["logprobs_BT"].clone().requires_grad_()
        loss = loss_of(logprobs_BT, *list(case.values())[1:])
        if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
            return False
        gradients.append(torch.autograd.grad(loss, logprobs_BT)[0])
    return torch.allclose(*gradients, atol=1e-5)


CLIPPED_LOSS = Exercise(
    key="09.clipped_loss",
    reference=clipped_loss,
    source=policy_loss,
    inputs=_loss_inputs,
    tolerance=1e-5,
    because="float32 rounds at 6e-8; an exponential and two short means",
    wrong=(
        Wrong("no clip", _loss_variant(lambda r, c, A, clip: r * A), "you do not clip: a token that has moved far keeps being pushed."),
        Wrong("clip alone", _loss_variant(lambda r, c, A, clip: c * A), "you take the clipped ratio always. Where a token has moved the wrong way (below 1 - clip with A > 0, above 1 + clip with A < 0) its gradient is gone when it is needed most: take the smaller of r A and clip(r) A."),
        Wrong("larger", _loss_variant(lambda r, c, A, clip: torch.maximum(r * A, c * A)), "you take the larger of the two; the smaller is the cautious one."),
        Wrong("A afterwards", _loss_variant(lambda r, c, A, clip: torch.minimum(r, c) * A), "you take the smaller ratio and multiply by A afterwards (or cut the ratio above only); with A < 0 the smaller product has the larger ratio. Multiply both by A first."),
        Wrong("clip of the product", _loss_variant(lambda r, c, A, clip: torch.minimum(r * A, (r * A).clamp(1 - clip, 1 + clip))), "you clip r A; clip the ratio, then multiply by A."),
        Wrong("turned round", _loss_variant(ratio=lambda log_r, mask: (-log_r).exp()), "your ratio is pi_old / pi; it is pi / pi_old."),
        Wrong("no exponential", _loss_variant(ratio=lambda log_r, mask: log_r), "your ratio is a difference of logarithms; take exp of it. At equal policies it must be 1."),
        Wrong("quotient of logarithms", lambda new, old, A, m, c: _loss_variant(ratio=lambda log_r, mask: new / old)(new, old, A, m, c), "you divide log-probabilities; the ratio is exp of their difference."),
        Wrong("one ratio a response", _loss_variant(ratio=_of_the_response), "you use one ratio for the response, as GSPO does; here each token has its own."),
        Wrong("product of the ratios", _loss_variant(ratio=lambda log_r, m: (log_r * m).sum(1, keepdim=True).exp().expand_as(log_r)), "you multiply the ratios of a response's tokens; here each token has its own, and its own clip."),
        Wrong("all tokens alike", _loss_variant(average=lambda x, m: (x * m).sum() / m.sum()), "you average over all tokens at once, as DAPO does; here first over each response's tokens, then over responses."),
        Wrong("padding counted", _loss_variant(average=lambda x, m: (x * m).mean()), "you divide by the padded length: the shorter a response, the less it counts."),
        Wrong("padding learned from", _loss_variant(average=lambda x, m: x.mean()), "you average over padding too; the mask says which tokens are real."),
        Wrong("sum over tokens", _loss_variant(average=lambda x, m: (x * m).sum(1).mean()), "you sum over a response's tokens; take their mean."),
        Wrong("sum over responses", _loss_variant(average=lambda x, m: ((x * m).sum(1) / m.sum(1)).sum()), "you sum over responses; take their mean."),
        Wrong("uphill", _loss_variant(sign=1.0), "your sign is turned: an optimizer makes a loss small, and this one must make good answers likelier."),
    ),
    laws=(Law("the number is right, but its gradient is not: keep `logprobs_BT` attached.", _teaches),),
    hints=(
        "Three questions in a row: how far has each token moved; what is it worth, cautiously; how is that averaged?",
        "```text\nratio = exp(log pi - log pi_old), token by token\nvalue = the smaller of ratio * A and clamp(ratio, 1 - clip, 1 + clip) * A\n"
        "of each response: the sum of value over its real tokens / their number\nreturn minus the mean over responses\n```",
    ),
    solution=(
        "def clipped_loss(logprobs_BT, old_BT, advantages_B, mask_BT, clip):\n"
        "    ratio_BT = (logprobs_BT - old_BT).exp()\n"
        "    A_B1 = advantages_B[:, None]\n"
        "    value_BT = torch.minimum(ratio_BT * A_B1, ratio_BT.clamp(1 - clip, 1 + clip) * A_B1)\n"
        "    return -((value_BT * mask_BT).sum(1) / mask_BT.sum(1)).mean()\n"
    ),
    differs="It has every option of this chapter, adds the KL term, and never reads what stands in the padding.",
)  # fmt: skip


def _weight_inputs(g: torch.Generator):
    for average in ("response", "token", "constant"):
        yield {
            "lengths_B": torch.tensor([4, 16]),
            "advantages_B": torch.tensor([-1.0, -1.0]),
            "average": average,
            "max_tokens": 20,
        }
    for average in ("response", "token", "constant"):
        lengths_B, advantages_B = torch.tensor([3, 29, 7, 12, 1]), torch.randn(5, generator=g)
        yield {"lengths_B": lengths_B, "advantages_B": advantages_B, "average": average, "max_tokens": 48}


def token_weights(lengths_B, advantages_B, average, max_tokens):
    """What `minimoe.rl.policy_loss` pulls each token's log-probability up by, at ratio 1: minus its gradient."""
    mask_BT = torch.arange(int(lengths_B.max())) < lengths_B[:, None]
    with torch.enable_grad():
        logprobs_BT = torch.zeros(mask_BT.shape, requires_grad=True)
        old_BT = torch.zeros_like(logprobs_BT)
        loss, _ = policy_loss(
            Objective(average=average), logprobs_BT, old_BT, advantages_B, mask_BT, max_tokens=max_tokens
        )
        (gradient_BT,) = torch.autograd.grad(loss, logprobs_BT)
    return -gradient_BT[:, 0]


def _weights_by(**replaced):
    """The right denominators but for the replaced ones."""
    right = {
        "response": lambda n, B, most: B * n,
        "token": lambda n, B, most: n.sum().expand_as(n),
        "constant": lambda n, B, most: torch.full_like(n, B * most),
    } | replaced

    def weights(lengths_B, advantages_B, average, max_tokens):
        return advantages_B / right[average](lengths_B, len(lengths_B), max_tokens)

    return weights


TOKEN_WEIGHTS = Exercise(
    key="09.token_weights",
    reference=token_weights,
    source=policy_loss,
    inputs=_weight_inputs,
    tolerance=1e-6,
    because="one division of float32",
    wrong=(
        Wrong("responses not averaged", _weights_by(response=lambda n, B, most: n), 'with "response" you divide by the length alone; the mean over the B responses divides by B as well.'),
        Wrong("token by responses", _weights_by(token=lambda n, B, most: B * n), 'with "token" all tokens of the batch are averaged at once: divide by their number.'),
        Wrong("token by mean length", _weights_by(token=lambda n, B, most: n.float().mean().expand_as(n.float())), 'with "token" you divide by the mean length; divide by the number of all tokens, B times as many.'),
        Wrong("token by B as well", _weights_by(token=lambda n, B, most: (B * n.sum()).expand_as(n)), 'with "token" you divide by B as well; the number of all tokens is enough.'),
        Wrong("exchanged", _weights_by(response=lambda n, B, most: n.sum().expand_as(n), token=lambda n, B, most: B * n), '"response" and "token" are exchanged: by response each answer\'s tokens share its weight.'),
        Wrong("constant without B", _weights_by(constant=lambda n, B, most: torch.full_like(n, most)), 'with "constant" you divide by max_tokens alone; the mean over the B responses divides by B as well.'),
        Wrong("constant by the longest", _weights_by(constant=lambda n, B, most: (B * n.max()).expand_as(n)), 'with "constant" you divide by the longest response of the batch; the constant is max_tokens, whatever came out.'),
        Wrong("whole response", lambda n, A, average, most: _weights_by()(n, A, average, most) * n, "your weights are those of whole responses, too large by their length; asked is the weight of one token."),
        Wrong("advantage forgotten", lambda n, A, average, most: _weights_by()(n, torch.ones_like(A), average, most), "your weights do not contain the advantage: multiply by it, sign included."),
        Wrong("downhill", lambda n, A, average, most: -_weights_by()(n, A, average, most), "your sign is that of the loss's gradient; a token of a good answer is pushed up."),
        Wrong("always by response", _weights_by(token=lambda n, B, most: B * n, constant=lambda n, B, most: B * n), "you give one answer for all three averages."),
    ),
    hints=(
        "Write the three averages as one sum over all tokens. What stands before each of them?",
        "```text\nresponse: A / (B * its length)\ntoken:    A / (the number of tokens of all responses)\nconstant: A / (B * max_tokens)\n```",
    ),
    solution=(
        "def token_weights(lengths_B, advantages_B, average, max_tokens):\n"
        "    B = len(lengths_B)\n"
        '    if average == "response":\n'
        "        return advantages_B / (B * lengths_B)\n"
        '    if average == "token":\n'
        "        return advantages_B / lengths_B.sum()\n"
        "    return advantages_B / (B * max_tokens)\n"
    ),
    differs="The library writes the averages down and leaves the weights to autograd.",
)  # fmt: skip

EXERCISES = (REWARD, ADVANTAGES, CLIPPED_LOSS, TOKEN_WEIGHTS)
