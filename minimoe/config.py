"""The numbers that define a model, under the names the official checkpoints use.

A DeepSeek model is fixed by about thirty integers. `ModelConfig` holds them flat, frozen, and named exactly as in the
`config.json` beside the official weights, so a real file needs no translation. Three fields are ours: `mtp_hidden`,
`mtp_loss_weight` and `extra`.

Two models share this one description. DeepSeek-V2 routes with a softmax and picks groups by their best expert; V3 routes
with a sigmoid, adds a balancing bias for the choice alone, and picks groups by the sum of their two best. The fields
`scoring_func` and `topk_method` say which. `kv_lora_rank=None` turns latent attention off and leaves the baseline that
chapter 01 builds: MHA, GQA or MQA, by `num_key_value_heads`.

How the production version differs: transformers writes neither `scoring_func` nor `topk_method`, and engines that read
such a file compute a softmax gate without a word. `to_dict` therefore writes DeepSeek's own spelling.
"""

import json
import warnings
from dataclasses import dataclass, field, fields
from pathlib import Path

__all__ = ["KIMI_K2", "MOONLIGHT", "NANO", "PRESETS", "V2", "V2_LITE", "V3", "V3_2", "ModelConfig"]

# Keys of real config.json files that do not change what the model computes.
BOOKKEEPING_KEYS = frozenset(
    "_name_or_path architectures attention_dropout auto_map dtype ep_size head_dim_note id2label is_encoder_decoder "
    "label2id model_type output_attentions output_hidden_states output_router_logits pad_token_id pretraining_tp qk_head_dim "
    "return_dict rope_interleave chunk_size_feed_forward problem_type torch_dtype transformers_version use_cache "
    "use_bidirectional_attention".split()
)
SUPPORTED_TYPES = ("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2")
YARN_DEFAULTS = {"beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0.0}


@dataclass(frozen=True)
class ModelConfig:
    """One DeepSeek-shaped model. The defaults are DeepSeek-V3's; override with `dataclasses.replace(V3, ...)`.

    Raises `ValueError` naming both numbers when two fields contradict each other.
    Source: config.json of DeepSeek-V2-Lite, V2, V3, Moonlight-16B and Kimi-K2; arXiv 2412.19437 section 4.2. Chapter 00.
    """

    vocab_size: int = 129280
    hidden_size: int = 7168
    num_hidden_layers: int = 61
    first_k_dense_replace: int = 3
    intermediate_size: int = 18432
    hidden_act: str = "silu"
    # attention
    num_attention_heads: int = 128
    num_key_value_heads: int | None = None  # None: as many as query heads. Only the baseline (kv_lora_rank=None) uses it.
    q_lora_rank: int | None = 1536
    kv_lora_rank: int | None = 512
    qk_nope_head_dim: int = 128
    qk_rope_head_dim: int = 64
    v_head_dim: int = 128
    head_dim: int | None = None  # baseline attention only: query, key and value width of one head
    attention_bias: bool = False
    # experts
    moe_intermediate_size: int = 2048
    n_routed_experts: int | None = 256
    n_shared_experts: int = 1
    num_experts_per_tok: int = 8
    n_group: int = 8
    topk_group: int = 4
    scoring_func: str = "sigmoid"
    topk_method: str = "noaux_tc"
    norm_topk_prob: bool = True
    routed_scaling_factor: float = 2.5
    moe_layer_freq: int = 1
    aux_loss_alpha: float = 0.0001  # weight of the sequence-wise balance loss (V3 section 4.2)
    seq_aux: bool = True
    # norms, positions, embeddings
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: dict | None = field(default=None, hash=False)
    max_position_embeddings: int = 163840
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = field(default=1, hash=False)
    # multi-token prediction
    num_nextn_predict_layers: int = 1
    mtp_loss_weight: float = 0.3  # the paper's lambda (V3 section 4.2: 0.3, later 0.1)
    mtp_hidden: str = "post_norm"  # what MTP reads: the trunk's state after the final norm (as engines do) or "pre_norm"
    # V3.2's sparse-attention indexer: counted by `accounting`, not built by `Transformer`
    index_n_heads: int | None = None
    index_head_dim: int | None = None
    index_topk: int | None = None
    quantization_config: dict | None = field(default=None, hash=False)
    extra: dict = field(default_factory=dict, hash=False)  # keys of a config.json that minimoe does not know, kept as read

    def __post_init__(self):
        _check_types(self)
        if self.num_key_value_heads is None:
            object.__setattr__(self, "num_key_value_heads", self.num_attention_heads)
        if self.kv_lora_rank is None and self.head_dim is None:
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_attention_heads)
        _check_sizes(self)
        _check_attention(self)
        if self.is_moe:
            _check_experts(self)
        _check_rope(self)

    @property
    def is_moe(self) -> bool:
        """True if at least one layer routes."""
        return self.n_routed_experts is not None and self.first_k_dense_replace < self.num_hidden_layers

    @property
    def is_mla(self) -> bool:
        """True for latent attention, False for the MHA/GQA/MQA baseline."""
        return self.kv_lora_rank is not None

    @property
    def qk_head_dim(self) -> int:
        """Width of one head's query and key: the part without position plus the rotary part."""
        return self.qk_nope_head_dim + self.qk_rope_head_dim if self.is_mla else self.head_dim

    @property
    def uses_bias(self) -> bool:
        """True if the router carries the balancing bias (`e_score_correction_bias`)."""
        return self.topk_method == "noaux_tc"

    @property
    def model_type(self) -> str:
        """The architecture name that transformers and inference engines dispatch on."""
        if self.index_n_heads is not None:
            return "deepseek_v32"
        return "deepseek_v3" if self.uses_bias else "deepseek_v2"

    def layer_is_moe(self, layer: int) -> bool:
        """Whether decoder layer `layer` (0-based; MTP modules follow the trunk) has routed experts."""
        return self.n_routed_experts is not None and layer >= self.first_k_dense_replace

    @classmethod
    def from_json(cls, path) -> "ModelConfig":
        """Read a real `config.json`. Unknown keys are kept in `extra` and listed in a warning."""
        path = Path(path)
        if path.is_dir():
            path = path / "config.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(f"no config.json at {path}") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not valid JSON: {error}") from None
        if not isinstance(values, dict):
            raise ValueError(f"{path} holds a JSON {type(values).__name__}, not an object with config keys")
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: dict) -> "ModelConfig":
        """Read config keys in DeepSeek's spelling or in transformers' v5 spelling (`rope_parameters`).

        Keys that a file leaves out take the meaning its `model_type` gives them: `deepseek_v2` files of transformers
        mean a softmax gate, `deepseek_v3` files a sigmoid gate with a bias, neither says so.
        """
        values = dict(values)
        kind = values.get("model_type", "deepseek_v3")
        if kind not in SUPPORTED_TYPES:
            raise ValueError(f"model_type={kind!r} is not one of {', '.join(SUPPORTED_TYPES)}")
        values = _absent_keys(kind) | _old_rope_spelling(values)
        known = {f.name for f in fields(cls)} - {"extra"}
        extra = dict(values.get("extra") or {})
        extra |= {k: v for k, v in values.items() if k not in known and k not in BOOKKEEPING_KEYS and k != "extra"}
        if extra:
            warnings.warn(f"config keys that minimoe does not know and ignores: {', '.join(sorted(extra))}", stacklevel=2)
        if values.get("rope_interleave") is False:
            raise ValueError("rope_interleave=False: DeepSeek checkpoints rotate adjacent pairs (rope_interleave=True)")
        chosen = {k: v for k, v in values.items() if k in known}
        if values.get("kv_lora_rank") is not None:
            chosen["head_dim"] = None  # transformers writes the rotary width here
            chosen["q_lora_rank"] = chosen.get("q_lora_rank") or None  # DeepSeek's own code writes 0 for none
        return cls(**chosen, extra=extra)

    def to_dict(self) -> dict:
        """The content of a `config.json` in DeepSeek's own spelling, readable by transformers and by engines."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        for name in ("quantization_config", "index_n_heads", "index_head_dim", "index_topk", "head_dim"):
            if values[name] is None:
                del values[name]
        architecture = {"deepseek_v2": "V2", "deepseek_v3": "V3", "deepseek_v32": "V32"}[self.model_type]
        head = {"architectures": [f"Deepseek{architecture}ForCausalLM"], "model_type": self.model_type}
        return head | values | self.extra

    def to_json(self, path) -> None:
        """Write `to_dict` to a file (or into a folder as `config.json`)."""
        path = Path(path)
        if path.is_dir():
            path = path / "config.json"
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


def _absent_keys(kind: str) -> dict:
    """What a file of this `model_type` means by the keys it does not write."""
    if kind == "deepseek_v2":
        return {
            "scoring_func": "softmax",
            "topk_method": "greedy",
            "norm_topk_prob": False,
            "num_nextn_predict_layers": 0,
            "n_group": 1,
            "topk_group": 1,
        }
    return {}


def _old_rope_spelling(values: dict) -> dict:
    """transformers v5's `rope_parameters` {rope_type, rope_theta, ...} as `rope_theta` and `rope_scaling` {type, ...}."""
    new = values.pop("rope_parameters", None)
    scaling = values.get("rope_scaling")
    if new:
        new = dict(new)
        values["rope_theta"] = new.pop("rope_theta", values.get("rope_theta", 10000.0))
        scaling = new
    if scaling:
        scaling = dict(scaling)
        kind = scaling.pop("rope_type", None) or scaling.get("type") or "default"
        values["rope_scaling"] = None if kind == "default" else {"type": kind} | {k: v for k, v in scaling.items() if k != "type"}
    values.pop("num_mtp_layers", None) if "num_nextn_predict_layers" in values else None
    if "num_mtp_layers" in values:
        values["num_nextn_predict_layers"] = values.pop("num_mtp_layers")
    return values


def _check_types(c: ModelConfig) -> None:
    optional = {"q_lora_rank", "kv_lora_rank", "num_key_value_heads", "head_dim", "n_routed_experts", "bos_token_id"}
    optional |= {"index_n_heads", "index_head_dim", "index_topk"}
    for f in fields(c):
        value, want = getattr(c, f.name), str(f.type)
        if value is None and f.name in optional:
            continue
        if want.startswith("int") and f.name != "eos_token_id" and (not isinstance(value, int) or isinstance(value, bool)):
            raise ValueError(f"{f.name}={value!r} is a {type(value).__name__}, not a whole number")
        if want == "bool" and not isinstance(value, bool):
            raise ValueError(f"{f.name}={value!r} is a {type(value).__name__}, not true or false")
        if want == "float" and (not isinstance(value, int | float) or isinstance(value, bool) or value != value):
            raise ValueError(f"{f.name}={value!r} is a {type(value).__name__}, not a number")


def _check_sizes(c: ModelConfig) -> None:
    positive = ["vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads"]
    positive += ["num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_theta", "initializer_range"]
    for name in positive:
        if getattr(c, name) <= 0:
            raise ValueError(f"{name}={getattr(c, name)} must be greater than 0")
    for name in ("first_k_dense_replace", "num_nextn_predict_layers", "aux_loss_alpha", "mtp_loss_weight"):
        if getattr(c, name) < 0:
            raise ValueError(f"{name}={getattr(c, name)} must be 0 or more")
    if c.first_k_dense_replace > c.num_hidden_layers:
        raise ValueError(f"first_k_dense_replace={c.first_k_dense_replace} exceeds num_hidden_layers={c.num_hidden_layers}")
    for name, allowed in {
        "hidden_act": ("silu",),
        "scoring_func": ("sigmoid", "softmax"),
        "topk_method": ("noaux_tc", "greedy", "group_limited_greedy"),
        "mtp_hidden": ("post_norm", "pre_norm"),
        "attention_bias": (False,),
        "moe_layer_freq": (1,),
        "seq_aux": (True,),
    }.items():
        if getattr(c, name) not in allowed:
            raise ValueError(f"{name}={getattr(c, name)!r} is not one of {allowed}")
    for name in ("bos_token_id", "eos_token_id"):
        ids = getattr(c, name)
        for i in ids if isinstance(ids, list) else [ids]:
            if i is not None and not (isinstance(i, int) and 0 <= i < c.vocab_size):
                raise ValueError(f"{name}={i!r} is not a token of vocab_size={c.vocab_size}")


def _check_attention(c: ModelConfig) -> None:
    if c.is_mla:
        for name in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
            if getattr(c, name) <= 0:
                raise ValueError(f"{name}={getattr(c, name)} must be greater than 0")
        if c.q_lora_rank is not None and c.q_lora_rank <= 0:
            raise ValueError(f"q_lora_rank={c.q_lora_rank} must be greater than 0, or None for no query compression")
        if c.num_key_value_heads != c.num_attention_heads:
            raise ValueError(
                f"num_key_value_heads={c.num_key_value_heads} differs from num_attention_heads={c.num_attention_heads}: "
                "latent attention rebuilds every head's key; only the baseline (kv_lora_rank=None) shares heads"
            )
    elif c.num_attention_heads % c.num_key_value_heads:
        raise ValueError(
            f"num_attention_heads={c.num_attention_heads} is not a multiple of num_key_value_heads={c.num_key_value_heads}"
        )
    name, rotary = ("qk_rope_head_dim", c.qk_rope_head_dim) if c.is_mla else ("head_dim", c.head_dim)
    if rotary % 2 or rotary <= 0:
        raise ValueError(f"{name}={rotary} must be even and greater than 0: rotary positions turn pairs of 2 numbers")


def _check_experts(c: ModelConfig) -> None:
    for name in ("n_routed_experts", "moe_intermediate_size", "num_experts_per_tok", "n_group", "topk_group"):
        if getattr(c, name) <= 0:
            raise ValueError(f"{name}={getattr(c, name)} must be greater than 0")
    if c.n_shared_experts < 0:
        raise ValueError(f"n_shared_experts={c.n_shared_experts} must be 0 or more")
    if c.n_routed_experts % c.n_group:
        raise ValueError(f"n_routed_experts={c.n_routed_experts} is not a multiple of n_group={c.n_group}")
    if c.topk_group > c.n_group:
        raise ValueError(f"topk_group={c.topk_group} exceeds n_group={c.n_group}")
    reachable = c.n_routed_experts
    if c.topk_method != "greedy":
        reachable = c.topk_group * (c.n_routed_experts // c.n_group)
    if c.num_experts_per_tok > reachable:
        raise ValueError(
            f"num_experts_per_tok={c.num_experts_per_tok} exceeds the {reachable} experts that a token can reach "
            f"(topk_group={c.topk_group} of n_group={c.n_group}, n_routed_experts={c.n_routed_experts})"
        )


def _check_rope(c: ModelConfig) -> None:
    scaling = c.rope_scaling
    if scaling is None:
        return
    if not isinstance(scaling, dict) or "type" not in scaling:
        raise ValueError(f'rope_scaling={scaling!r} must be None or a dict with a "type"')
    if scaling["type"] != "yarn":
        raise ValueError(f"rope_scaling type={scaling['type']!r} is not supported; DeepSeek models use 'yarn'")
    for name in ("factor", "original_max_position_embeddings"):
        value = scaling.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise ValueError(f"rope_scaling {name}={value!r} must be a number greater than 0")
    if scaling["factor"] < 1:
        raise ValueError(f"rope_scaling factor={scaling['factor']} must be 1 or more: YaRN stretches, it does not shrink")
    unknown = set(scaling) - {"type", "factor", "original_max_position_embeddings", *YARN_DEFAULTS}
    if unknown:
        raise ValueError(f"rope_scaling has keys that minimoe does not know: {', '.join(sorted(unknown))}")
    merged = YARN_DEFAULTS | scaling
    if merged["beta_fast"] < merged["beta_slow"]:
        raise ValueError(f"rope_scaling beta_fast={merged['beta_fast']} is below beta_slow={merged['beta_slow']}")


def _yarn(factor: float, mscale: float, beta_fast: int = 32) -> dict:
    return {
        "type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": 4096,
        "beta_fast": beta_fast,
        "beta_slow": 1,
        "mscale": mscale,
        "mscale_all_dim": mscale,
    }


_V2_ROUTING = {"scoring_func": "softmax", "norm_topk_prob": False, "num_nextn_predict_layers": 0, "aux_loss_alpha": 0.001}

V3 = ModelConfig(
    rope_scaling=_yarn(40, 1.0),
    quantization_config={
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
    },
)
V3_2 = ModelConfig(
    rope_scaling=_yarn(40, 1.0),
    index_n_heads=64,
    index_head_dim=128,
    index_topk=2048,
    quantization_config=V3.quantization_config,
)
V2_LITE = ModelConfig(
    vocab_size=102400,
    hidden_size=2048,
    num_hidden_layers=27,
    first_k_dense_replace=1,
    intermediate_size=10944,
    num_attention_heads=16,
    q_lora_rank=None,
    moe_intermediate_size=1408,
    n_routed_experts=64,
    n_shared_experts=2,
    num_experts_per_tok=6,
    n_group=1,
    topk_group=1,
    topk_method="greedy",
    routed_scaling_factor=1.0,
    rope_scaling=_yarn(40, 0.707),
    bos_token_id=100000,
    eos_token_id=100001,
    **_V2_ROUTING,
)
V2 = ModelConfig(
    vocab_size=102400,
    hidden_size=5120,
    num_hidden_layers=60,
    first_k_dense_replace=1,
    intermediate_size=12288,
    moe_intermediate_size=1536,
    n_routed_experts=160,
    n_shared_experts=2,
    num_experts_per_tok=6,
    n_group=8,
    topk_group=3,
    topk_method="group_limited_greedy",
    routed_scaling_factor=16.0,
    rope_scaling=_yarn(40, 0.707),
    bos_token_id=100000,
    eos_token_id=100001,
    **_V2_ROUTING,
)
MOONLIGHT = ModelConfig(
    vocab_size=163840,
    hidden_size=2048,
    num_hidden_layers=27,
    first_k_dense_replace=1,
    intermediate_size=11264,
    num_attention_heads=16,
    q_lora_rank=None,
    moe_intermediate_size=1408,
    n_routed_experts=64,
    n_shared_experts=2,
    num_experts_per_tok=6,
    n_group=1,
    topk_group=1,
    routed_scaling_factor=2.446,
    rms_norm_eps=1e-5,
    rope_theta=50000.0,
    max_position_embeddings=8192,
    num_nextn_predict_layers=0,
    aux_loss_alpha=0.001,
    bos_token_id=163584,
    eos_token_id=163585,
)
KIMI_K2 = ModelConfig(
    vocab_size=163840,
    num_attention_heads=64,
    first_k_dense_replace=1,
    n_routed_experts=384,
    n_group=1,
    topk_group=1,
    routed_scaling_factor=2.827,
    rope_theta=50000.0,
    rope_scaling=_yarn(32, 1.0, beta_fast=1),
    max_position_embeddings=131072,
    num_nextn_predict_layers=0,
    bos_token_id=163584,
    eos_token_id=163585,
    quantization_config=V3.quantization_config,
)
NANO = ModelConfig(
    vocab_size=2048,
    hidden_size=128,
    num_hidden_layers=4,
    first_k_dense_replace=1,
    intermediate_size=320,
    num_attention_heads=4,
    q_lora_rank=64,
    kv_lora_rank=32,
    qk_nope_head_dim=16,
    qk_rope_head_dim=16,
    v_head_dim=32,
    moe_intermediate_size=48,
    n_routed_experts=16,
    num_experts_per_tok=4,
    n_group=4,
    topk_group=2,
    max_position_embeddings=512,
)
PRESETS = {
    "NANO": NANO,
    "V2_LITE": V2_LITE,
    "V2": V2,
    "V3": V3,
    "V3_2": V3_2,
    "MOONLIGHT": MOONLIGHT,
    "KIMI_K2": KIMI_K2,
}
