"""The numbers that define a model, under the names the official checkpoints use.

A DeepSeek model is fixed by about thirty integers. `ModelConfig` holds them flat, frozen, and named exactly as in the
`config.json` beside the official weights, so a real file needs no translation. Three fields are ours: `mtp_hidden`,
`mtp_loss_weight` and `extra`.

Two models share this one description. DeepSeek-V2 routes with a softmax and picks groups by their best expert; V3
routes with a sigmoid, adds a balancing bias for the choice alone, and picks groups by the sum of their two best. The
fields `scoring_func` and `topk_method` say which. `kv_lora_rank=None` turns latent attention off and leaves the
baseline that chapter 01 builds: MHA, GQA or MQA, by `num_key_value_heads`.

A `config.json` is read in two spellings. DeepSeek writes `rope_theta` beside `rope_scaling` {"type": "yarn", ...};
transformers v5 writes one `rope_parameters` {"rope_type": "yarn", "rope_theta": ..., ...}. We write the first, because
both kinds of reader understand it.

How the production version differs: transformers writes neither `scoring_func` nor `topk_method`, and engines that read
such a file compute a softmax gate without a word. `to_dict` therefore writes DeepSeek's own spelling.
"""

import json
import warnings
from copy import deepcopy
from dataclasses import dataclass, field, fields
from pathlib import Path

from minimoe.config_checks import YARN_DEFAULTS, check
from minimoe.presets import PRESET_VALUES

__all__ = ["KIMI_K2", "MOONLIGHT", "NANO", "PRESETS", "V2", "V2_LITE", "V3", "V3_2", "YARN_DEFAULTS", "ModelConfig"]

# Keys of real config.json files that do not change what the model computes.
BOOKKEEPING_KEYS = frozenset(
    "_name_or_path architectures auto_map chunk_size_feed_forward dtype ep_size id2label "
    "is_encoder_decoder label2id layer_types model_type output_attentions output_hidden_states output_router_logits "
    "pad_token_id pretraining_tp problem_type return_dict torch_dtype transformers_version "
    "use_bidirectional_attention use_cache".split()
)
# Keys that would change it, with the only value that every DeepSeek model has.
FIXED_KEYS = {"attention_dropout": 0, "mlp_bias": False, "rope_interleave": True}
SUPPORTED_TYPES = ("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2")


@dataclass(frozen=True)
class ModelConfig:
    """One DeepSeek-shaped model. The defaults are DeepSeek-V3's; override with `dataclasses.replace(V3, ...)`.

    Raises `ValueError` naming both numbers when two fields contradict each other.
    Source: config.json of DeepSeek-V2-Lite, V2, V3, Moonlight-16B, Kimi-K2; arXiv 2412.19437 section 4.2. Chapter 00.
    """

    vocab_size: int = 129280
    hidden_size: int = 7168
    num_hidden_layers: int = 61
    first_k_dense_replace: int = 3
    intermediate_size: int = 18432
    hidden_act: str = "silu"
    # attention
    num_attention_heads: int = 128
    num_key_value_heads: int | None = None  # None: as many as query heads; only the baseline uses it
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
    mtp_hidden: str = "post_norm"  # MTP reads the trunk after its final norm (as engines do), or "pre_norm"
    # V3.2's sparse-attention indexer: counted by `accounting`, not built by `Transformer`
    index_n_heads: int | None = None
    index_head_dim: int | None = None
    index_topk: int | None = None
    quantization_config: dict | None = field(default=None, hash=False)
    extra: dict = field(default_factory=dict, hash=False)  # keys of a config.json that minimoe does not know

    def __post_init__(self):
        if self.num_key_value_heads is None:
            object.__setattr__(self, "num_key_value_heads", self.num_attention_heads)
        if self.kv_lora_rank is None and self.head_dim is None:
            object.__setattr__(self, "head_dim", _head_width(self.hidden_size, self.num_attention_heads))
        check(self)

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
        """Read a real `config.json`, or a folder's. Unknown keys are kept in `extra` and listed in a warning."""
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
        mean a softmax gate, `deepseek_v3` files a sigmoid gate with a bias, neither says so. A file without a
        `model_type` must at least give the vocabulary, the width and the depth.
        """
        kind = _model_type(values)
        values = _absent_keys(kind) | _nulls_spelled_out(_old_rope_spelling(dict(values)))
        known = {f.name for f in fields(cls)} - {"extra"}
        chosen = {k: v for k, v in values.items() if k in known}
        if chosen.get("kv_lora_rank", cls.kv_lora_rank) is not None:
            chosen.pop("head_dim", None)  # transformers writes the rotary width here
            if chosen.get("q_lora_rank") == 0:
                chosen["q_lora_rank"] = None  # DeepSeek's own code writes 0 for none
        understood = known | BOOKKEEPING_KEYS | FIXED_KEYS.keys() | {"extra", "qk_head_dim", "mlp_layer_types"}
        extra = dict(values.get("extra") or {}) | {k: v for k, v in values.items() if k not in understood}
        if extra:
            said = f"config keys that minimoe does not know and ignores: {', '.join(sorted(extra))}"
            warnings.warn(said, stacklevel=2)
        config = cls(**chosen, extra=extra)
        _check_derived_keys(config, values)
        return config

    def to_dict(self) -> dict:
        """The content of a `config.json` in DeepSeek's own spelling, readable by transformers and by engines."""
        values = {f.name: deepcopy(getattr(self, f.name)) for f in fields(self) if f.name != "extra"}
        for name in ("quantization_config", "index_n_heads", "index_head_dim", "index_topk", "head_dim"):
            if values[name] is None:
                del values[name]
        architecture = {"deepseek_v2": "V2", "deepseek_v3": "V3", "deepseek_v32": "V32"}[self.model_type]
        head = {"architectures": [f"Deepseek{architecture}ForCausalLM"], "model_type": self.model_type}
        return head | values | deepcopy(self.extra)

    def to_json(self, path) -> None:
        """Write `to_dict` to a file (or into a folder as `config.json`)."""
        path = Path(path)
        if path.is_dir():
            path = path / "config.json"
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")


def _head_width(hidden_size: int, heads: int) -> int:
    """The usual width of a baseline head, hidden_size / num_attention_heads."""
    if not isinstance(hidden_size, int) or not isinstance(heads, int) or heads <= 0:
        return 2  # whatever is wrong with the two numbers is said by `check`
    if hidden_size % heads:
        raise ValueError(f"hidden_size={hidden_size} is not a multiple of num_attention_heads={heads}; set head_dim")
    return hidden_size // heads


def _model_type(values: dict) -> str:
    needed = ("vocab_size", "hidden_size", "num_hidden_layers")
    if "model_type" not in values and (missing := [k for k in needed if k not in values]):
        keys = ", ".join(list(values)[:6]) or "none"
        raise ValueError(f"not a model's config: no model_type and no {', '.join(missing)} (first keys: {keys})")
    kind = values.get("model_type", "deepseek_v3")
    if kind not in SUPPORTED_TYPES:
        raise ValueError(f"model_type={kind!r} is not one of {', '.join(SUPPORTED_TYPES)}")
    return kind


def _absent_keys(kind: str) -> dict:
    """What a file of this `model_type` means by the keys it does not write."""
    if kind != "deepseek_v2":
        return {}
    return {
        "scoring_func": "softmax",
        "topk_method": "greedy",
        "norm_topk_prob": False,
        "routed_scaling_factor": 1.0,
        "num_nextn_predict_layers": 0,
        "aux_loss_alpha": 0.001,
        "n_group": 1,
        "topk_group": 1,
    }


def _nulls_spelled_out(values: dict) -> dict:
    """`null` as these files use it: no groups is one group, no shared experts is zero."""
    for name, meaning in {"n_group": 1, "topk_group": 1, "n_shared_experts": 0}.items():
        if name in values and values[name] is None:
            values[name] = meaning
    return values


def _old_rope_spelling(values: dict) -> dict:
    """The v5 `rope_parameters` {rope_type, rope_theta, ...} as `rope_theta` and `rope_scaling` {type, ...}."""
    if "num_mtp_layers" in values:
        mtp = values.pop("num_mtp_layers")
        if values.setdefault("num_nextn_predict_layers", mtp) != mtp:
            raise ValueError(f"num_mtp_layers={mtp} but num_nextn_predict_layers={values['num_nextn_predict_layers']}")
    scaling = values.pop("rope_parameters", None) or values.get("rope_scaling")
    if not isinstance(scaling, dict):
        return values
    scaling = {k: v for k, v in scaling.items() if v is not None}
    if "rope_theta" in scaling:
        theta = scaling.pop("rope_theta")
        if values.setdefault("rope_theta", theta) != theta:
            raise ValueError(f"rope_theta={values['rope_theta']} but rope_parameters has rope_theta={theta}")
    old, new = scaling.pop("type", None), scaling.pop("rope_type", None)
    if old and new and old != new:
        raise ValueError(f"rope_scaling says type={old!r} and rope_type={new!r}")
    kind = new or old or "default"
    values["rope_scaling"] = None if kind == "default" else {"type": kind} | scaling
    return values


def _check_derived_keys(config: ModelConfig, values: dict) -> None:
    """Keys of a file that follow from others, or that are the same in every DeepSeek model, must agree with them."""
    for name, fixed in FIXED_KEYS.items():
        if values.get(name, fixed) not in (fixed, None):
            raise ValueError(f"{name}={values[name]!r}: DeepSeek models have {name}={fixed!r}, nothing else is built")
    width = values.get("qk_head_dim")
    if width is not None and config.is_mla and width != config.qk_head_dim:
        raise ValueError(f"qk_head_dim={width} but qk_nope_head_dim + qk_rope_head_dim = {config.qk_head_dim}")
    kinds = values.get("mlp_layer_types")
    if kinds is None:
        return
    expected = ["sparse" if config.layer_is_moe(i) else "dense" for i in range(config.num_hidden_layers)]
    if kinds != expected:
        raise ValueError(
            f"mlp_layer_types has {kinds.count('dense')} dense of {len(kinds)} layers; first_k_dense_replace="
            f"{config.first_k_dense_replace} and num_hidden_layers={config.num_hidden_layers} say otherwise"
        )


PRESETS = {name: ModelConfig(**values) for name, values in PRESET_VALUES.items()}
NANO, V2_LITE, V2, MOONLIGHT = PRESETS["NANO"], PRESETS["V2_LITE"], PRESETS["V2"], PRESETS["MOONLIGHT"]
V3, V3_2, KIMI_K2 = PRESETS["V3"], PRESETS["V3_2"], PRESETS["KIMI_K2"]
