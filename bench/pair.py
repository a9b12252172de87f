"""The two sides of every measurement: one small DeepSeek-V3-shaped config, built by minimoe and by transformers.

The weights are copied from one to the other, so that both do the same work on the same numbers, and every measurement
first asserts that they agree. The config has 8.3 million parameters: one dense layer, three layers of 16 experts.
"""

from dataclasses import replace

import torch

import minimoe

CONFIG = replace(
    minimoe.NANO,
    vocab_size=4096,
    hidden_size=256,
    num_hidden_layers=4,
    first_k_dense_replace=1,
    intermediate_size=512,
    num_attention_heads=8,
    num_key_value_heads=None,
    q_lora_rank=128,
    kv_lora_rank=64,
    qk_nope_head_dim=32,
    qk_rope_head_dim=16,
    v_head_dim=32,
    moe_intermediate_size=128,
    n_routed_experts=16,
    num_experts_per_tok=4,
    n_shared_experts=1,
    n_group=1,
    topk_group=1,
    num_nextn_predict_layers=0,
    aux_loss_alpha=0.0,
    tie_word_embeddings=False,
)
EXPERTS = ("grouped_mm", "eager")  # batched_mm is several times slower than either
SEED = 1


def fused_experts(config, state: dict) -> dict:
    """The official names and shapes in transformers' in-memory form: the experts of a layer stacked in two tensors."""
    fused = {name: value for name, value in state.items() if ".experts." not in name}
    for layer in filter(config.layer_is_moe, range(config.num_hidden_layers)):
        prefix = f"model.layers.{layer}.mlp.experts."
        pick = {
            part: torch.stack([state[f"{prefix}{e}.{part}_proj.weight"] for e in range(config.n_routed_experts)])
            for part in ("gate", "up", "down")
        }
        fused[prefix + "gate_up_proj"] = torch.cat([pick["gate"], pick["up"]], dim=1)
        fused[prefix + "down_proj"] = pick["down"]
    return fused


def ours(config=CONFIG):
    """minimoe's model, weights drawn with `SEED`."""
    return minimoe.Transformer(config, seed=SEED)


def theirs(state: dict, experts: str, config=CONFIG):
    """transformers' model with the same weights, sdpa attention and the named implementation of the experts."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    values = config.to_dict()
    values.pop("architectures", None)
    settings = DeepseekV3Config(**values, attn_implementation="sdpa", experts_implementation=experts)
    model = DeepseekV3ForCausalLM(settings)
    model.load_state_dict(fused_experts(config, state))
    chosen = model.config._attn_implementation, model.config._experts_implementation
    if chosen != ("sdpa", experts):
        raise RuntimeError(f"transformers chose {chosen}, not sdpa attention and {experts} experts")
    return model


def pair(config=CONFIG, experts=EXPERTS) -> dict:
    """Name -> model: minimoe's, and transformers' once for each implementation of the experts; the same weights."""
    model = ours(config)
    return {"minimoe": model} | {f"transformers {e}": theirs(model.state_dict(), e, config) for e in experts}
