"""Exercises of chapter 04, Balancing without a balancing loss."""

from dataclasses import replace

import torch

from minimoe import NANO
from minimoe.model import router
from minimoe.training.balance import bias_step
from minimoe_course.compare import same
from minimoe_course.exercise import Exercise, Law, Wrong

__all__ = ["EXERCISES"]


def _load_inputs(g: torch.Generator):
    yield {"load_E": torch.tensor([10, 30, 20, 40])}
    yield {"load_E": torch.tensor([8, 8, 8, 8])}
    yield {"load_E": torch.randint(0, 50, (7,), generator=g)}


def max_violation(load_E):
    """`minimoe.model.router.max_violation`: (max - mean) / mean."""
    return router.max_violation(load_E)


def _of_load(formula):
    return lambda load_E: formula(load_E.double()).item()


MAX_VIOLATION = Exercise(
    key="04.max_violation",
    reference=max_violation,
    source=router.max_violation,
    inputs=_load_inputs,
    tolerance=1e-6,
    because="one mean and one division; float32 rounds at 6e-8",
    wrong=(
        Wrong("ratio", _of_load(lambda x: x.max() / x.mean()), "you return max / mean, which is 1 at perfect balance; MaxVio is 0 there."),
        Wrong("spread", _of_load(lambda x: x.std(correction=0) / x.mean()), "you return the standard deviation over the mean; the slowest device is the maximum, and only it counts."),
        Wrong("spread of a sample", _of_load(lambda x: x.std() / x.mean()), "you return the standard deviation over the mean; the slowest device is the maximum, and only it counts."),
        Wrong("least", _of_load(lambda x: (x.mean() - x.min()) / x.mean()), "you measure how far the idlest expert is below the mean; MaxVio asks about the busiest."),
        Wrong("range", _of_load(lambda x: (x.max() - x.min()) / x.mean()), "you subtract the minimum; subtract the mean."),
        Wrong("over the maximum", _of_load(lambda x: (x.max() - x.mean()) / x.max()), "you divide by the maximum; divide by the mean."),
        Wrong("mean deviation", _of_load(lambda x: (x - x.mean()).abs().mean() / x.mean()), "you average the distances from the mean; MaxVio takes the largest excess."),
        Wrong("not relative", _of_load(lambda x: x.max() - x.mean()), "your result is in tokens; divide by the mean, so that batches of any size compare."),
    ),
    hints=(
        "Everybody waits for the busiest. By what fraction is it above the mean?",
        "```text\nmean = average of load_E, as a float\nreturn (largest - mean) / mean\n```",
    ),
    solution="def max_violation(load_E):\n    mean = load_E.float().mean()\n    return ((load_E.max() - mean) / mean).item()\n",
    differs="It also answers 0 when no token was routed at all.",
)  # fmt: skip


def _idle_inputs(g: torch.Generator):
    yield {"load_E": torch.tensor([10, 30, 20, 20]), "devices": 2}
    yield {"load_E": torch.tensor([10, 30, 20, 40]), "devices": 4}
    yield {"load_E": torch.randint(0, 50, (12,), generator=g), "devices": 3}


def idle_share(load_E, devices):
    """The share of all device time spent waiting, v / (1 + v), with v the MaxVio of the devices."""
    v = router.max_violation(load_E.reshape(devices, -1).sum(1))
    return v / (1 + v)


def _waiting(load_P):
    load_P = load_P.double()
    return (1 - load_P.mean() / load_P.max()).item()


IDLE_SHARE = Exercise(
    key="04.idle_share",
    reference=idle_share,
    source=router.max_violation,
    inputs=_idle_inputs,
    tolerance=1e-6,
    because="sums of whole numbers and one division",
    wrong=(
        Wrong("experts", lambda load_E, devices: _waiting(load_E), "you let every expert have a device of its own; add up the experts that share one first."),
        Wrong("dealt out", lambda load_E, devices: _waiting(load_E.reshape(-1, devices).sum(0)), "you deal the experts out like cards; neighbours share a device."),
        Wrong("turned", lambda load_E, devices: _waiting(load_E.reshape(-1, devices).sum(1)), "you put `devices` experts on each device; there are `devices` of them, with E / devices experts each: reshape(devices, -1)."),
        Wrong("MaxVio", lambda load_E, devices: router.max_violation(load_E.reshape(devices, -1).sum(1)), "you return MaxVio, the extra time relative to the mean; the share of the whole time is v / (1 + v)."),
        Wrong("working", lambda load_E, devices: 1 - _waiting(load_E.reshape(devices, -1).sum(1)), "you return the share spent working; subtract it from 1."),
        Wrong("largest wait", lambda load_E, devices: 1 - (lambda x: (x.min() / x.max()).item())(load_E.reshape(devices, -1).sum(1).double()), "you return the wait of the idlest device; take the average over all of them."),
    ),
    hints=(
        "A layer takes as long as its busiest device, and every device is there for that long. How much of it does the average device work?",
        "```text\nload of a device = sum over its E / devices neighbouring experts\nreturn 1 - mean load / largest load\n```",
    ),
    solution=(
        "def idle_share(load_E, devices):\n"
        "    load_P = load_E.reshape(devices, -1).sum(1).float()\n"
        "    return (1 - load_P.mean() / load_P.max()).item()\n"
    ),
    differs="The library has MaxVio alone: apply it to the sums of the devices, `load_E.reshape(devices, -1).sum(1)`; the share is then v / (1 + v), which is 1 - mean / max.",
)  # fmt: skip


def _step_inputs(g: torch.Generator):
    yield {
        "scores_ME": torch.tensor([[0.9, 0.8, 0.6, 0.2], [0.9, 0.1, 0.2, 0.3]]),
        "bias_E": torch.tensor([-0.2, 0.0, 0.0, 0.0]), "top_k": 2, "gamma": 0.1,
    }  # fmt: skip
    # Only expert 0 is chosen. Counts without minlength have one entry here, which broadcasts instead of raising;
    # in every other case the last expert has a token. So a reader who forgot minlength is told so.
    only = torch.tensor([[0.9, 0.3, 0.2], [0.8, 0.1, 0.4], [0.7, 0.2, 0.1]])
    yield {"scores_ME": only, "bias_E": torch.tensor([0.1, 0.0, 0.0]), "top_k": 1, "gamma": 0.1}
    draw = torch.rand(5, 3, generator=g)
    yield {"scores_ME": draw, "bias_E": torch.tensor([0.3, -0.2, 0.1]), "top_k": 1, "gamma": 0.01}
    scores_ME = torch.rand(12, 8, generator=g)
    yield {"scores_ME": scores_ME, "bias_E": 0.3 * torch.randn(8, generator=g), "top_k": 3, "gamma": 0.001}


def balanced_step(scores_ME, bias_E, top_k, gamma):
    """One step of a layer: `router.choose` without groups, then `bias_step`."""
    E = scores_ME.shape[1]
    one_group = {"n_group": 1, "topk_group": 1, "routed_scaling_factor": 1.0}
    config = replace(NANO, n_routed_experts=E, num_experts_per_tok=top_k, **one_group)
    chosen_MK, gates_MK = router.choose(scores_ME, bias_E, config)
    load_E = chosen_MK.flatten().bincount(minlength=E)
    return gates_MK, bias_E + bias_step(load_E, gamma)


def _step_variant(gates_from="scores", move=None, choose_by="biased", mean_of="assignments", normalise=True):
    def step(scores_ME, bias_E, top_k, gamma):
        E, biased = scores_ME.shape[1], scores_ME + bias_E
        chosen = (biased if choose_by == "biased" else scores_ME).topk(top_k).indices
        gates = (biased if gates_from == "biased" else scores_ME).gather(1, chosen)
        gates = gates / gates.sum(-1, keepdim=True) if normalise else gates
        load_E = chosen.flatten().bincount(minlength=E).float()
        mean = len(scores_ME) / E if mean_of == "tokens" else load_E.mean()
        return gates, bias_E + gamma * (move or torch.sign)(mean - load_E)

    return step


def _first_choice_only(scores_ME, bias_E, top_k, gamma):
    gates, _ = _step_variant()(scores_ME, bias_E, top_k, gamma)
    load_E = (scores_ME + bias_E).argmax(-1).bincount(minlength=scores_ME.shape[1]).float()
    return gates, bias_E + gamma * torch.sign(load_E.mean() - load_E)


def _chosen_only(scores_ME, bias_E, top_k, gamma):
    gates, _ = _step_variant()(scores_ME, bias_E, top_k, gamma)
    load_E = (scores_ME + bias_E).topk(top_k).indices.flatten().bincount().float()
    return gates, bias_E + gamma * torch.sign(load_E.mean() - load_E)


def _fresh_bias(scores_ME, bias_E, top_k, gamma):
    gates, moved = _step_variant()(scores_ME, bias_E, top_k, gamma)
    return gates, moved - bias_E


BALANCED_STEP = Exercise(
    key="04.balanced_step",
    reference=balanced_step,
    source=bias_step,
    inputs=_step_inputs,
    tolerance=1e-5,
    because="float32 rounds at 6e-8; a gate is one division, a bias one addition",
    wrong=(
        Wrong("bias in the gates", _step_variant(gates_from="biased"), "your gates contain the bias: make them from the scores alone."),
        Wrong("wrong sign", _step_variant(move=lambda e: -torch.sign(e)), "you raise the bias of busy experts: they get busier with every step."),
        Wrong("mean of tokens", _step_variant(mean_of="tokens"), "your mean load is tokens / experts. Every token is served by K experts: the mean is K times that, or load_E.mean()."),
        Wrong("no standing still", _step_variant(move=lambda e: torch.where(e > 0, 1.0, -1.0)), "an expert with exactly the mean load must keep its bias; yours moves."),
        Wrong("no standing still, upwards", _step_variant(move=lambda e: torch.where(e < 0, -1.0, 1.0)), "an expert with exactly the mean load must keep its bias; yours moves."),
        Wrong("error, not sign", _step_variant(move=lambda e: e), "your step grows with the error; the sign rule moves every bias by gamma, up or down."),
        Wrong("bias does not choose", _step_variant(choose_by="scores"), "you choose by the scores alone, so the bias has no effect: choose by score plus bias."),
        Wrong("first choice only", _first_choice_only, "you count each token's first expert only; all K of them do the work."),
        Wrong("no minlength", _chosen_only, "an expert without tokens must still count, with a load of 0: give bincount minlength=E."),
        Wrong("gates do not sum to 1", _step_variant(normalise=False), "your gates do not add up to 1: divide by their sum over the K chosen."),
        Wrong("bias forgotten", _fresh_bias, "you return the change of the bias; add it to the bias that was there."),
        Wrong("bias never moved", lambda s, b, k, g: (_step_variant()(s, b, k, g)[0], b.clone()), "your bias is the one you were given: it is never updated."),
    ),
    hints=(
        "Two questions, two answers: who serves the token (score plus bias), and how much does the answer count (score)?",
        "```text\nchosen_MK = ids of the K largest of scores + bias\ngates_MK  = the scores of the chosen, divided by their sum\n"
        "load_E    = how often each id occurs in chosen_MK (bincount with minlength=E)\nbias_E    = bias + gamma * sign(mean load - load)\n```",
    ),
    solution=(
        "def balanced_step(scores_ME, bias_E, top_k, gamma):\n"
        "    chosen_MK = (scores_ME + bias_E).topk(top_k).indices\n"
        "    gates_MK = scores_ME.gather(1, chosen_MK)\n"
        "    gates_MK = gates_MK / gates_MK.sum(-1, keepdim=True)\n"
        "    load_E = chosen_MK.flatten().bincount(minlength=scores_ME.shape[1]).float()\n"
        "    return gates_MK, bias_E + gamma * (load_E.mean() - load_E).sign()\n"
    ),
    differs="This is the second half of your function, with the published variants of the rule; choice and gates are `minimoe.model.router.choose`.",
    canonical=lambda result: (result[0].sort(-1, descending=True).values, result[1]),
    returns=("gates_MK", "bias_E"),
)  # fmt: skip


def _sequence_inputs(g: torch.Generator):
    yield {"scores_BTE": torch.tensor([[[0.6, 0.2], [0.6, 0.2]]]), "bias_E": torch.tensor([-0.5, 0.5]), "top_k": 1}
    two = torch.tensor([[[0.9, 0.1, 0.2], [0.8, 0.3, 0.1]], [[0.1, 0.7, 0.2], [0.2, 0.8, 0.4]]])
    yield {"scores_BTE": two, "bias_E": torch.tensor([-0.9, 0.1, 0.6]), "top_k": 1}
    draw = torch.rand(2, 6, 8, generator=g)
    yield {"scores_BTE": draw, "bias_E": 0.3 * torch.randn(8, generator=g), "top_k": 3}


def sequence_balance_loss(scores_BTE, bias_E, top_k):
    """`minimoe.model.router.sequence_balance_loss`, which takes no bias because it needs none."""
    return router.sequence_balance_loss(scores_BTE.flatten(0, 1), scores_BTE.shape[0], top_k)


def _loss_variant(biased=False, whole_batch=False, factor=True, share="each token", over="mean"):
    def loss(scores_BTE, bias_E, top_k):
        if whole_batch:
            scores_BTE = scores_BTE.flatten(0, 1)[None]
        scores_BTE = scores_BTE + bias_E if biased == "everywhere" else scores_BTE
        T, E = scores_BTE.shape[1:]
        best = (scores_BTE + bias_E if biased is True else scores_BTE).topk(top_k).indices
        counts_BE = torch.zeros_like(scores_BTE).scatter(2, best, 1.0).sum(1)
        f_BE = counts_BE * (E / (top_k * T) if factor is True else 1 / T if factor is False else factor(E, top_k, T))
        shares = {
            "each token": lambda: (scores_BTE / scores_BTE.sum(-1, keepdim=True)).mean(1),
            "scores": lambda: scores_BTE.mean(1),
            "after the mean": lambda: scores_BTE.mean(1) / scores_BTE.mean(1).sum(-1, keepdim=True),
            "softmax": lambda: scores_BTE.softmax(-1).mean(1),
        }
        per_sequence = (f_BE * shares[share]()).sum(-1)
        return per_sequence.sum() if over == "sum" else per_sequence.mean()

    return loss


def _teaches(fn, case):
    """The loss has the gradient of the library's: through P alone. (A wrong number is not this law's business.)"""
    if not same(fn(*case.values()), sequence_balance_loss(**case), 1e-5):
        return True
    gradients = []
    for loss_of in (fn, sequence_balance_loss):
        scores_BTE = case["scores_BTE"].clone().requires_grad_()
        loss = loss_of(scores_BTE, case["bias_E"], case["top_k"])
        if not isinstance(loss, torch.Tensor) or not loss.requires_grad:
            return False
        gradients.append(torch.autograd.grad(loss, scores_BTE)[0])
    return torch.allclose(*gradients, atol=1e-5)


SEQUENCE_LOSS = Exercise(
    key="04.sequence_balance_loss",
    reference=sequence_balance_loss,
    source=router.sequence_balance_loss,
    inputs=_sequence_inputs,
    tolerance=1e-5,
    because="float32 rounds at 6e-8, and the sums have a few dozen terms",
    wrong=(
        Wrong("biased", _loss_variant(biased=True), "you count the K best of score plus bias; f counts by the scores alone. Experts that the bias holds back would look balanced."),
        Wrong("biased everywhere", _loss_variant(biased="everywhere"), "you add the bias to the scores; this loss does without it, in f and in P."),
        Wrong("whole batch", _loss_variant(whole_batch=True), "you average over the whole batch before multiplying; one sequence's excess then hides another's. Take each sequence by itself."),
        Wrong("no E / K", _loss_variant(factor=False), "the factor E / K is missing in f: perfect balance must give 1."),
        Wrong("no K", _loss_variant(factor=lambda E, K, T: E / T), "you divide by T and not by K T: perfect balance would give K instead of 1."),
        Wrong("no T", _loss_variant(factor=lambda E, K, T: E / K), "your f counts tokens; divide by T, or long sequences weigh more."),
        Wrong("scores as they are", _loss_variant(share="scores"), "your P is the mean score; each token's scores must first be divided by their sum, because sigmoids do not add up to 1."),
        Wrong("divided too late", _loss_variant(share="after the mean"), "you divide the mean scores by their sum; divide each token's scores by that token's sum, then take the mean."),
        Wrong("softmax", _loss_variant(share="softmax"), "you take a softmax of the scores; they are probabilities already, divide them by their sum."),
        Wrong("sum over sequences", _loss_variant(over="sum"), "you add up the sequences; take their mean, or a larger batch is punished more."),
    ),
    laws=(Law("the number is right, but its gradient is not the one of f times P: keep P attached to the scores.", _teaches),),
    hints=(
        "Every sequence is judged alone: what share of its choices went to each expert, and what share of its score? Which of the arguments is a trap?",
        "```text\nbest_BTK  = ids of the K largest scores of each token\ncounts_BE = how many tokens of the sequence chose each expert\n"
        "f_BE = counts * E / (K * T)\nP_BE = mean over T of scores / (sum of the token's scores)\nreturn the mean over B of sum over E of f * P\n```",
    ),
    solution=(
        "def sequence_balance_loss(scores_BTE, bias_E, top_k):\n"
        "    T, E = scores_BTE.shape[1:]\n"
        "    best_BTK = scores_BTE.topk(top_k).indices\n"
        "    counts_BE = torch.zeros_like(scores_BTE).scatter(2, best_BTK, 1.0).sum(1)\n"
        "    share_BE = (scores_BTE / scores_BTE.sum(-1, keepdim=True)).mean(1)\n"
        "    return (counts_BE * E / (top_k * T) * share_BE).sum(-1).mean()\n"
    ),
    differs="It takes the rows of all sequences below each other, as the router gives them, and no bias.",
)  # fmt: skip

EXERCISES = (MAX_VIOLATION, IDLE_SHARE, BALANCED_STEP, SEQUENCE_LOSS)
