"""Routing that is recorded while sampling and replayed while learning, and sampling masks that are kept."""

from dataclasses import replace

import pytest
import torch

from minimoe import NANO, Transformer
from minimoe.inference.decode import DecodePlan
from minimoe.inference.routing_record import record_routing
from minimoe.rl.likelihood import Rows, answer_logprobs
from minimoe.rl.replay import FREE, RoutingTape, joined_masks, place_routing, replayed_routing, within
from minimoe.rl.rewards import Rewards, accuracy
from minimoe.rl.rollout import Answer, rollout
from minimoe.rl.settings import RLSettings
from minimoe.rl.tasks import Questions
from minimoe.rl.trainer import GRPOTrainer
from minimoe.training.reasoning import Chain, byte_tokenizer

TOKENIZER = byte_tokenizer()
CONFIG = replace(
    NANO, vocab_size=266, hidden_size=32, num_hidden_layers=3, n_routed_experts=8, n_group=4, topk_group=2,
    num_experts_per_tok=3, num_nextn_predict_layers=1, initializer_range=0.2, eos_token_id=1,
)  # fmt: skip
O, NEW = 5, 12  # noqa: E741


def build(config=CONFIG):
    """A model whose answers end now and then, so that rows leave the batch at different steps."""
    model = Transformer(config, seed=0)
    with torch.no_grad():
        strong = [TOKENIZER.eos_id, *range(65, 70)]  # six tokens compete for most of the probability
        model.lm_head.weight *= torch.full((266, 1), 0.3).index_fill_(0, torch.tensor(strong), 5.0)
        for router in model.routers().values():
            if router.e_score_correction_bias is not None:
                router.e_score_correction_bias.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    return model.eval()


def questions():
    """Problems of two lengths: the prompts are padded while they are read."""
    return [question for n in (2, 4) for question in Questions(Chain(n), seed=3).draw(1, 2)]


def sample(model, **options):
    return rollout(model, TOKENIZER, questions(), O, NEW, seed=5, **options)


ROUNDING = 5e-5  # decoding and training add in other orders: some float32 roundings of logits near 20, 2e-6 each


def flat(groups):
    """Prompts and answers, a row each."""
    return [(group.prompt, answer) for group in groups for answer in group.answers]


def training_pass(model, pairs, replay: bool, kept: bool = False):
    """Log-probabilities of the answers' tokens and the experts of every layer, as the learner computes them."""
    rows = Rows.of([prompt for prompt, _ in pairs], [answer.tokens for _, answer in pairs])
    masks = joined_masks([answer for _, answer in pairs]) if kept else None
    if not replay:
        return *answer_logprobs(model, rows, 1.0, masks), rows
    lengths = [len(prompt) + len(answer.tokens) for prompt, answer in pairs]
    chosen = place_routing([answer.routing for _, answer in pairs], lengths, rows.ids_BT.shape[1])
    with replayed_routing(model, chosen):
        return *answer_logprobs(model, rows, 1.0, masks), rows


@pytest.fixture(scope="module")
def model():
    return build().requires_grad_(False)


@pytest.fixture(scope="module")
def groups(model):
    return sample(model, record_routing=True)


# -- recording -----------------------------------------------------------------------------------------------------


def test_the_test_means_something(groups):
    lengths = {len(answer.tokens) for _, answer in flat(groups)}
    assert len(lengths) > 4 and NEW in lengths  # rows leave at different steps, some never
    assert len({len(group.prompt) for group in groups}) == 2  # padding while prompts are read


def test_the_tape_holds_what_a_pass_over_the_whole_text_chooses(model, groups):
    """The oracle: the same model reads prompt and answer at once. Decoding rounds differently; no score ties here."""
    texts = [prompt + answer.tokens[:-1] for prompt, answer in flat(groups)]
    record = record_routing(model, texts)
    for i, (text, (_, answer)) in enumerate(zip(texts, flat(groups), strict=True)):
        expected = torch.stack([record.chosen[layer][record.document_M == i] for layer in (1, 2)])
        assert answer.routing.shape == (2, len(text), 3)
        assert torch.equal(answer.routing, expected)


def test_recording_changes_nothing_but_the_time(model, groups):
    plain = sample(model)
    for (_, one), (_, other) in zip(flat(plain), flat(groups), strict=True):
        assert one.tokens == other.tokens and one.ended == other.ended
        assert one.logprobs == pytest.approx(other.logprobs, abs=ROUNDING)
        assert one.routing is None


def test_nothing_of_the_tape_stays_in_the_model(model):
    sample(model, record_routing=True)
    assert not any(router._forward_hooks for router in model.routers().values())
    assert DecodePlan.applies(model)


def test_a_tape_hears_of_every_call_and_of_nothing_else(model):
    tape = RoutingTape(2)
    with tape.running(model):
        with pytest.raises(ValueError, match="not called since the last note"):
            tape.note([[0]])
        model(torch.arange(6)[None], mtp=True)
        assert sorted(tape.call) == [1, 2]  # the MTP module's router is no part of the trunk
        tape.note([[0, 1]], [4])
        with pytest.raises(ValueError, match="not called since the last note"):
            tape.note([[0]])
        model(torch.arange(14).view(2, 7), mtp=False)
        with pytest.raises(ValueError, match="14 routed tokens do not divide into 3 places"):
            tape.note([[0], [1], [1]])
    assert tape.routing(0).shape == tape.routing(1).shape == (2, 4, 3)


def test_a_model_without_routers_has_nothing_to_record():
    dense = Transformer(replace(CONFIG, first_k_dense_replace=3, num_nextn_predict_layers=0), seed=0)
    with pytest.raises(ValueError, match="none of the 3 layers routes"):
        sample(dense, record_routing=True)


# -- replaying -----------------------------------------------------------------------------------------------------


def test_on_unchanged_weights_the_replay_changes_no_bit(model, groups):
    free, _, rows = training_pass(model, flat(groups), replay=False)
    replayed, _, _ = training_pass(model, flat(groups), replay=True)
    assert torch.equal(replayed, free)  # the ratio between the two is exactly 1
    old = rows.place([answer.logprobs for _, answer in flat(groups)])
    assert (replayed - old).abs().max() < ROUNDING  # and beside sampling, which rounds differently, it is 1 to rounding


def test_a_bias_that_moved_changes_the_ratio_without_replay_and_not_with_it(groups):
    """The bias moves the choice and never the gate: on the recorded experts the policy is what it was, to the bit."""
    before, _, _ = training_pass(build(), flat(groups), replay=False)
    moved = build()
    for router in moved.routers().values():
        router.e_score_correction_bias.normal_(std=0.3, generator=torch.Generator().manual_seed(7))
    free, _, rows = training_pass(moved, flat(groups), replay=False)
    replayed, _, _ = training_pass(moved, flat(groups), replay=True)
    assert (free - before)[rows.mask_BS].abs().max() > 0.1
    assert torch.equal(replayed, before)


def test_after_an_update_the_experts_are_the_recorded_ones_and_the_gates_are_new(groups):
    changed = build()
    with torch.no_grad():
        for router in changed.routers().values():
            router.weight += 0.3 * torch.randn(router.weight.shape, generator=torch.Generator().manual_seed(2))
    pairs = flat(groups)
    rows = Rows.of([prompt for prompt, _ in pairs], [answer.tokens for _, answer in pairs])
    lengths = [len(prompt) + len(answer.tokens) for prompt, answer in pairs]
    table = place_routing([answer.routing for _, answer in pairs], lengths, rows.ids_BT.shape[1])
    free = changed(rows.ids_BT, mtp=False).routing
    with replayed_routing(changed, table):
        replayed = changed(rows.ids_BT, mtp=False).routing
    for place, layer in enumerate((1, 2)):
        known = (table[place] != FREE).all(-1).flatten()
        recorded = table[place].flatten(0, 1)[known]
        assert torch.equal(replayed[layer].chosen_MK[known], recorded)
        different = (free[layer].chosen_MK[known].sort(1).values != recorded.sort(1).values).any(1)
        assert different.float().mean() > 0.2  # without replay, other experts
        scores = replayed[layer].scores_ME.gather(1, replayed[layer].chosen_MK)
        expected = CONFIG.routed_scaling_factor * scores / scores.sum(1, keepdim=True)
        torch.testing.assert_close(replayed[layer].gates_MK, expected)
        assert replayed[layer].load_E.tolist() == replayed[layer].chosen_MK.flatten().bincount(minlength=8).tolist()


def test_where_nothing_was_recorded_the_router_chooses(model, groups):
    pairs = flat(groups)
    lengths = [len(prompt) + len(answer.tokens) for prompt, answer in pairs]
    width = max(lengths) + 2
    table = place_routing([answer.routing for _, answer in pairs], lengths, width)
    for row, length in enumerate(lengths):
        assert (table[:, row, : length - 1] >= 0).all() and (table[:, row, length - 1 :] == FREE).all()
    ids = torch.randint(266, (len(pairs), width), generator=torch.Generator().manual_seed(0))
    free = model(ids, mtp=False).logits_BTV
    with replayed_routing(model, torch.full_like(table, FREE)):
        assert torch.equal(model(ids, mtp=False).logits_BTV, free)
    with replayed_routing(model, table):
        assert not torch.equal(model(ids, mtp=False).logits_BTV, free)


def test_gradients_reach_the_router_through_the_replayed_gates(groups):
    model = build()
    training_pass(model, flat(groups), replay=True)[0].sum().backward()
    for layer in (1, 2):
        assert model.routers()[layer].weight.grad.abs().max() > 0


def test_without_normalisation_the_gates_are_the_scores():
    config = replace(
        CONFIG, norm_topk_prob=False, scoring_func="softmax", topk_method="greedy", n_group=1, topk_group=1
    )
    model = build(config).requires_grad_(False)
    groups = sample(model, record_routing=True)
    free, _, _ = training_pass(model, flat(groups), replay=False)
    assert torch.equal(training_pass(model, flat(groups), replay=True)[0], free)


def test_a_replay_that_fails_leaves_nothing_behind(model, groups):
    with pytest.raises(RuntimeError, match="halfway"), replayed_routing(model, torch.zeros(2, 1, 4, 3, dtype=int)):
        raise RuntimeError("halfway")
    assert not any(router._forward_hooks for router in model.routers().values())


def test_routings_that_do_not_fit_are_refused(model, groups):
    routing = groups[0].answers[0].routing
    length = routing.shape[1] + 1
    with pytest.raises(
        ValueError, match=f"row 0 has {length + 1} tokens and the routing of {length - 1}; {length} fit"
    ):
        place_routing([routing], [length + 1], length + 1)
    table = place_routing([routing], [length], length)
    with replayed_routing(model, table), pytest.raises(ValueError, match=f"a batch of 4 tokens.*1 rows of {length}"):
        model(torch.arange(4)[None], mtp=False)
    with pytest.raises(ValueError, match="1 layers and 3 experts.* 2 layers and uses 3"):
        replayed_routing(model, table[:1]).__enter__()
    with pytest.raises(ValueError, match="2 layers and 2 experts"):
        replayed_routing(model, table[..., :2]).__enter__()
    with pytest.raises(ValueError, match="expert 8 does not exist; there are 8"):
        replayed_routing(model, table.clamp(min=8)).__enter__()


# -- sampling masks ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def masked(model):
    return sample(model, top_p=0.7, keep_mask=True)


def test_the_mask_of_every_token_is_kept_and_its_logprobs_are_those_of_the_truncated_distribution(model, masked):
    pairs = flat(masked)
    free, _, rows = training_pass(model, pairs, replay=False)
    kept, _, _ = training_pass(model, pairs, replay=False, kept=True)
    old = rows.place([answer.logprobs for _, answer in pairs])
    for _, answer in pairs:
        assert answer.kept.shape == (len(answer.tokens), 266) and answer.kept.dtype == torch.bool
        assert answer.kept[range(len(answer.tokens)), answer.tokens].all()
    sizes = torch.cat([answer.kept.sum(1) for _, answer in pairs])
    assert sizes.min() < 20 and sizes.max() < 266 and len(set(sizes.tolist())) > 5
    assert (kept - old).abs().max() < ROUNDING  # ratio 1 to rounding
    ratios = (free - old)[rows.mask_BS].exp()  # without the mask: the probability of what was kept, at least top_p
    assert 0.7 - ROUNDING < ratios.min() and ratios.max() < 1 + ROUNDING and ratios.mean() < 0.9


def test_a_mask_renormalises_over_what_was_kept():
    logits = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], requires_grad=True)
    kept = torch.tensor([[True, False, True], [True, True, True]])
    logprobs = within(logits, kept).log_softmax(-1)
    e = torch.tensor([1.0, 2.0, 3.0]).exp()
    torch.testing.assert_close(logprobs[0].exp(), torch.tensor([e[0], 0.0, e[2]]) / (e[0] + e[2]))
    torch.testing.assert_close(logprobs[1].exp(), e / e.sum())
    entropy = -(logprobs.exp() * logprobs).sum(-1)
    assert entropy.isfinite().all()
    logprobs[0, 0].backward()
    assert logits.grad.isfinite().all() and logits.grad[0, 1] == 0 and logits.grad[0, 2] < 0


def test_everything_kept_changes_nothing():
    logits = torch.randn(4, 7)
    assert within(logits, None) is logits
    assert torch.equal(within(logits, torch.ones(4, 7, dtype=torch.bool)), logits)
    assert joined_masks([Answer([1], [0.0], "", True)]) is None


def test_a_mask_of_another_length_is_refused(model, masked):
    with pytest.raises(ValueError, match=r"mask of shape \(3, 7\) for logits of \(4, 7\)"):
        within(torch.zeros(4, 7), torch.ones(3, 7, dtype=torch.bool))
    pairs = flat(masked)
    rows = Rows.of([prompt for prompt, _ in pairs], [answer.tokens for _, answer in pairs])
    with pytest.raises(ValueError, match="sampling mask"):
        answer_logprobs(model, rows, 1.0, joined_masks([answer for _, answer in pairs[1:]]))


def test_without_top_p_the_mask_keeps_every_token(model):
    (_, answer), *_ = flat(sample(model, keep_mask=True))
    assert answer.kept.all()


# -- in a run ------------------------------------------------------------------------------------------------------


def longest(_question, answer):
    """A reward that there is something to learn from."""
    return float(len(answer.tokens))


def run(**settings):
    """One step; gives its record."""
    made = RLSettings(1, prompts=4, answers=O, max_new_tokens=NEW, lr=0.01, evaluate_every=0, save_every=0, **settings)
    rewards = Rewards({"length": (1.0, longest), "accuracy": (1.0, accuracy)})
    return GRPOTrainer(build(), TOKENIZER, Questions(Chain(2), 3), rewards, made).step()


def test_a_step_of_two_updates_runs_on_recorded_experts_and_kept_tokens():
    plain, replayed = (run(updates=2, keep_routing=keep) for keep in (False, True))
    masked = run(updates=2, keep_routing=True, top_p=0.7)
    assert replayed["mean_tokens"] == plain["mean_tokens"]  # the same answers
    # the second update's ratios differ, as its experts do
    assert replayed["ratio_mean"] != pytest.approx(plain["ratio_mean"], abs=1e-6)
    assert masked["entropy"] < replayed["entropy"] - 0.1


def test_the_first_update_learns_the_same_with_and_without_replay():
    plain, replayed = (run(keep_routing=keep) for keep in (False, True))
    for name in ("reward", "loss", "grad_norm", "ratio_mean"):
        assert plain[name] == pytest.approx(replayed[name], abs=ROUNDING)
