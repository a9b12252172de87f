"""How many numbers a model has, how many work on one token, and how many bytes they take on disk.

A weight matrix is (outputs, inputs); everything here is a list of such pairs. The attention of a layer, with hidden
size d, H heads of n + r, latents of q and kv, values of v:

    d q + q + q H (n + r)   the query: down, norm, up (without compression: d H (n + r))
    d (kv + r) + kv         the latent and the shared rotary key, and the latent's norm
    kv H (n + v) + H v d    keys and values back up, and the output

A feed-forward block of width f has three matrices, 3 d f. An MoE layer has E routed of them, a shared one and a
router; a token passes through K of the E. That is the whole trick: parameters grow with E, work grows with K.

How the production version differs: checkpoints in FP8 carry one float32 scale for each 128 x 128 block of a matrix and
keep the MTP module with its own copies of embedding and head, so the number a download page shows is none of the
above.
"""

from dataclasses import dataclass
from math import prod

from minimoe.config import ModelConfig

__all__ = ["Activated", "Layer", "Parameters", "Stored", "experts_touched", "parameters", "stored"]

DTYPE_BYTES = {"F8_E4M3": 1, "F16": 2, "BF16": 2, "F32": 4, "F64": 8}
PARTS = ("embedding", "attention", "indexer", "dense", "shared", "routed", "router", "norms", "mtp", "head")

Shape = tuple[int, int]


@dataclass(frozen=True)
class Activated:
    """Parameters that work on one token, under the three conventions in print.

    DeepSeek's 37B and Kimi-K2's 32B are `with_head` (36.6 and 31.7), Moonlight's 2.24B is `with_neither`.
    """

    with_embedding_and_head: int
    with_head: int
    with_neither: int


@dataclass(frozen=True)
class Layer:
    """One decoder layer (or MTP module): `parts` maps a component to its parameters."""

    index: int
    kind: str  # "dense", "moe" or "mtp"
    parts: dict[str, int]
    idle: int  # of parts["routed"], those in experts that a token is not sent to

    @property
    def total(self) -> int:
        """All parameters of the layer."""
        return sum(self.parts.values())

    @property
    def activated(self) -> int:
        """Parameters of the layer that work on one token."""
        return self.total - self.idle


@dataclass(frozen=True)
class Parameters:
    """The count of a config. `total` is the main model; the MTP modules stand apart, without the shared matrices."""

    embedding: int
    head: int  # 0 if it is the embedding (tie_word_embeddings)
    final_norm: int
    layers: tuple[Layer, ...]
    mtp_layers: tuple[Layer, ...]

    @property
    def total(self) -> int:
        """Parameters of the main model: embedding, layers, final norm, head."""
        return self.embedding + self.head + self.final_norm + sum(layer.total for layer in self.layers)

    @property
    def mtp(self) -> int:
        """Parameters that only the MTP modules have."""
        return sum(layer.total for layer in self.mtp_layers)

    @property
    def activated(self) -> Activated:
        """Parameters of the main model that work on one token."""
        neither = self.final_norm + sum(layer.activated for layer in self.layers)
        with_head = neither + (self.head or self.embedding)
        return Activated(neither + self.head + self.embedding, with_head, neither)

    @property
    def parts(self) -> dict[str, int]:
        """Parameters of the main model by component, and of the MTP modules under "mtp"; empty ones left out."""
        sums = {"embedding": self.embedding, "head": self.head, "norms": self.final_norm, "mtp": self.mtp}
        for layer in self.layers:
            for part, count in layer.parts.items():
                sums[part] = sums.get(part, 0) + count
        return {part: sums[part] for part in PARTS if sums.get(part)}

    @property
    def activated_parts(self) -> dict[str, int]:
        """The components of the main model that work on one token, embedding included; they sum to the first
        convention."""
        idle = sum(layer.idle for layer in self.layers)
        return {part: count - idle * (part == "routed") for part, count in self.parts.items() if part != "mtp"}


@dataclass(frozen=True)
class Stored:
    """What a checkpoint file holds: elements by dtype, MTP modules and their copies of embedding and head included."""

    elements: dict[str, int]
    scales: int  # of the F32 elements, those that are FP8 block scales

    @property
    def total(self) -> int:
        """All stored numbers, scales included: what a download page calls the model's size."""
        return sum(self.elements.values())

    @property
    def bytes(self) -> int:
        """Bytes of all tensors (file headers excluded)."""
        return sum(DTYPE_BYTES[dtype] * count for dtype, count in self.elements.items())


def experts_touched(n_routed_experts: int, num_experts_per_tok: int, tokens: int) -> float:
    """How many of a layer's E experts a batch of tokens needs, on average, if every token draws K of them at random.

        E (1 - (1 - K/E)^tokens)

    The insight: K/E of the experts is what one token needs. A batch soon needs them all, so sparsity saves arithmetic
    at every batch size and memory traffic only at small ones. Real routers are not uniform and touch fewer.

    Raises `ValueError` for K outside 1..E or negative tokens. Chapter 00.
    """
    if not 1 <= num_experts_per_tok <= n_routed_experts:
        raise ValueError(f"num_experts_per_tok={num_experts_per_tok} is not in 1..n_routed_experts={n_routed_experts}")
    if tokens < 0:
        raise ValueError(f"tokens={tokens} must be 0 or more")
    return n_routed_experts * (1 - (1 - num_experts_per_tok / n_routed_experts) ** tokens)


def parameters(config: ModelConfig) -> Parameters:
    """Every parameter of the model, by layer and component, and how many work on one token.

    The insight: total and activated differ in one factor, E against K routed experts. The router's balancing bias is
    counted, as checkpoints do, though torch keeps it as a buffer.

    Source: config.json files; the sums equal the totals published for V2-Lite, V3 and V3.2 to the digit. Chapter 00.
    """
    table = config.vocab_size * config.hidden_size
    last = config.num_hidden_layers
    return Parameters(
        embedding=table,
        head=0 if config.tie_word_embeddings else table,
        final_norm=config.hidden_size,
        layers=tuple(_layer(config, i) for i in range(last)),
        mtp_layers=tuple(_layer(config, i) for i in range(last, last + config.num_nextn_predict_layers)),
    )


def stored(config: ModelConfig, dtype: str = "BF16") -> Stored:
    """Elements and bytes of the official checkpoint; FP8 with block scales if `quantization_config` says so.

    FP8 takes in the matrices of attention and feed-forward blocks. Embedding, head, norms, router and the MTP
    projection stay in `dtype`, the router's bias is float32. One scale stands for a block of (usually) 128 x 128
    weights; blocks at the edge are partial, so 576 rows need 5. V3.2's indexer stores two of its three matrices in
    FP8; for the dtype of the rest of it there is no published source, and `dtype` is assumed.

    Raises `ValueError` for a quantisation that is not block-wise FP8. Source: README_WEIGHTS.md of
    deepseek-ai/DeepSeek-V3 @9b4e9788; totals of the published safetensors files. Chapter 00.
    """
    if dtype not in DTYPE_BYTES or dtype == "F8_E4M3":
        raise ValueError(f"dtype={dtype!r} is not one of F16, BF16, F32, F64")
    count = parameters(config)
    copies = config.num_nextn_predict_layers * (count.embedding + count.head)
    layers = range(config.num_hidden_layers + config.num_nextn_predict_layers)
    bias = sum(config.n_routed_experts for i in layers if config.layer_is_moe(i) and config.uses_bias)
    matrices = [m for i in layers for m in _quantised_matrices(config, i)] if config.quantization_config else []
    scales = 0
    if matrices:
        rows, columns = _block(config)
        scales = sum(n * (-(-o // rows) * -(-i // columns)) for n, (o, i) in matrices)
    quantised = sum(n * prod(shape) for n, shape in matrices)
    elements = dict.fromkeys(("F8_E4M3", dtype, "F32"), 0)
    elements["F8_E4M3"] += quantised
    elements[dtype] += count.total + count.mtp + copies - quantised - bias
    elements["F32"] += bias + scales
    return Stored({name: n for name, n in elements.items() if n}, scales)


def _block(config: ModelConfig) -> Shape:
    said = config.quantization_config
    if said.get("quant_method") != "fp8" or not said.get("weight_block_size"):
        method, block = said.get("quant_method"), said.get("weight_block_size")
        raise ValueError(f"quant_method={method!r}, weight_block_size={block!r}: only block-wise 'fp8' can be counted")
    return tuple(said["weight_block_size"])


def _layer(c: ModelConfig, index: int) -> Layer:
    d = c.hidden_size
    parts = {"attention": _elements(_attention(c)), "norms": 2 * d}
    if c.is_mla:
        parts["attention"] += c.kv_lora_rank + (c.q_lora_rank or 0)
    if c.index_n_heads is not None:
        parts["indexer"] = _elements(_indexer(c)) + c.index_n_heads * d + 2 * c.index_head_dim
    if index >= c.num_hidden_layers:
        parts["mtp"] = 2 * d * d + 3 * d
    if c.layer_is_moe(index):
        parts["routed"] = c.n_routed_experts * _elements(_swiglu(d, c.moe_intermediate_size))
        parts["router"] = c.n_routed_experts * (d + c.uses_bias)
        if c.n_shared_experts:
            parts["shared"] = _elements(_swiglu(d, c.n_shared_experts * c.moe_intermediate_size))
        idle = parts["routed"] // c.n_routed_experts * (c.n_routed_experts - c.num_experts_per_tok)
    else:
        parts["dense"] = _elements(_swiglu(d, c.intermediate_size))
        idle = 0
    kind = "mtp" if index >= c.num_hidden_layers else "moe" if c.layer_is_moe(index) else "dense"
    return Layer(index, kind, parts, idle)


def _quantised_matrices(c: ModelConfig, index: int) -> list[tuple[int, Shape]]:
    """(how many, shape) of a layer's matrices that an FP8 checkpoint quantises."""
    alone = _attention(c) + (_indexer(c) if c.index_n_heads is not None else [])
    if not c.layer_is_moe(index):
        return [(1, m) for m in alone + _swiglu(c.hidden_size, c.intermediate_size)]
    if c.n_shared_experts:
        alone += _swiglu(c.hidden_size, c.n_shared_experts * c.moe_intermediate_size)
    experts = _swiglu(c.hidden_size, c.moe_intermediate_size)
    return [(1, m) for m in alone] + [(c.n_routed_experts, m) for m in experts]


def _elements(matrices: list[Shape]) -> int:
    return sum(prod(shape) for shape in matrices)


def _swiglu(hidden: int, width: int) -> list[Shape]:
    return [(width, hidden), (width, hidden), (hidden, width)]


def _attention(c: ModelConfig) -> list[Shape]:
    d, heads = c.hidden_size, c.num_attention_heads
    if not c.is_mla:
        keys = c.num_key_value_heads * c.head_dim
        return [(heads * c.head_dim, d), (keys, d), (keys, d), (d, heads * c.head_dim)]
    query = [(heads * c.qk_head_dim, d)]
    if c.q_lora_rank is not None:
        query = [(c.q_lora_rank, d), (heads * c.qk_head_dim, c.q_lora_rank)]
    down = (c.kv_lora_rank + c.qk_rope_head_dim, d)
    up = (heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank)
    return [*query, down, up, (d, heads * c.v_head_dim)]


def _indexer(c: ModelConfig) -> list[Shape]:
    """V3.2's indexer: queries from their latent, one key from the hidden state (arXiv 2512.02556 section 2.1)."""
    return [(c.index_n_heads * c.index_head_dim, c.q_lora_rank), (c.index_head_dim, c.hidden_size)]
