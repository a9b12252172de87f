"""How to train: every knob of a run in one frozen record, with the shares of the run at which things change.

All times are shares of the run, from 0 to 1, so that a recipe keeps its shape when the run gets longer, and so that it
can be measured in steps or in CPU-seconds. `Settings.v3` is DeepSeek-V3's own recipe in these shares.

How the production version differs: DeepSeek-V3 states its schedule in tokens (14.8T in all) and changes the rate with
the tokens seen, not with the steps made; with a batch that grows the two are different clocks.
"""

from dataclasses import asdict, dataclass, fields, replace

from minimoe.training.schedule import rate_factor

__all__ = ["Settings"]

BALANCE = ("loss_free", "aux", "none")
RULES = ("sign", "error", "centred", "multiplicative")


@dataclass(frozen=True)
class Settings:
    """How to train. At least one of `steps` and `cpu_seconds` must be given.

    Rate: `lr` is the peak (the default suits Muon and a few million parameters), and `table_rate` times it that of
    embedding and head (None: what suits the optimizer, see `build_optimizers`); it warms up until the share `warmup`,
    stays until `hold`, follows a cosine to `floor` times the peak, and then takes the constant factors of `tails`,
    pairs (from which share, factor). Batch: `batch_from` sequences at the start, growing in a straight line to the full
    batch at the share `batch_ramp`. `mtp_weight`: lambda; None for the config's, a number, or pairs (from which share,
    value). Balance: "loss_free" moves the router biases by `bias_rule` and `bias_gamma` until the share `bias_until`
    (V3 freezes them for the last 3%); "aux" adds `aux_alpha` times the batch-wise loss instead; "none" does neither.
    The sequence-wise loss is the config's (`aux_loss_alpha`). `evaluate_every` and `save_every` count steps; 0 means at
    the end alone.

    Raises ValueError naming the setting. Source: arXiv 2412.19437 section 4.2. Chapter 07.
    """

    steps: int | None = None
    cpu_seconds: float | None = None
    optimizer: str = "muon"
    lr: float = 1e-2
    table_rate: float | None = None
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    warmup: float = 0.03
    hold: float = 0.0
    floor: float = 0.02
    tails: tuple[tuple[float, float], ...] = ()
    batch_from: int | None = None
    batch_ramp: float = 0.0
    mtp_weight: float | tuple[tuple[float, float], ...] | None = None
    balance: str = "loss_free"
    bias_rule: str = "sign"
    bias_gamma: float = 0.01
    bias_until: float = 0.97
    aux_alpha: float = 1e-2
    evaluate_every: int = 0
    save_every: int = 50

    def __post_init__(self):
        if self.steps is None and self.cpu_seconds is None:
            raise ValueError("steps=None and cpu_seconds=None: say when to stop")
        for name in ("steps", "cpu_seconds", "lr", "clip_norm", "batch_from", "table_rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}={value} must be greater than 0")
        for name in ("weight_decay", "bias_gamma", "aux_alpha", "evaluate_every", "save_every"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        for name in ("batch_ramp", "bias_until"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is outside 0 to 1")
        for name, allowed in {"balance": BALANCE, "bias_rule": RULES, "optimizer": ("muon", "adamw")}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}")
        self._check_weights()
        self.rate(0.0)

    def _check_weights(self) -> None:
        if not isinstance(self.mtp_weight, tuple):
            return
        shares = [pair[0] for pair in self.mtp_weight]
        if not shares or shares[0] != 0 or shares != sorted(shares):
            raise ValueError(f"mtp_weight={self.mtp_weight}: pairs (share, value) in rising order, the first from 0")

    @classmethod
    def v3(cls, steps: int, sequences: int, **changes) -> "Settings":
        """DeepSeek-V3's recipe, shrunk to `steps` steps of up to `sequences` sequences.

        Of 14.8T tokens: constant rate to 10T, cosine to a tenth over 4.3T, then 333B at a tenth and 167B at 7.3/220;
        lambda 0.3 to 10T, then 0.1; biases move until 14.3T; the batch starts at a fifth (3,072 of 15,360) and is full
        after 469B. AdamW as in the paper. `changes` override; the peak rate must suit the model (V3: 2.2e-4), the
        warm-up is 3% of the run unless changed (V3: 2,000 steps, a smaller share), and gamma is this class's default
        (V3: 0.001, too slow for a short run).
        """
        recipe = {
            "optimizer": "adamw",
            "lr": 3e-3,
            "table_rate": 1.0,
            "hold": 10 / 14.8,
            "floor": 0.1,
            "tails": ((14.3 / 14.8, 0.1), ((14.3 + 0.333) / 14.8, 7.3 / 220)),
            "batch_from": max(1, round(sequences * 3072 / 15360)),
            "batch_ramp": 0.469 / 14.8,
            "mtp_weight": ((0.0, 0.3), (10 / 14.8, 0.1)),
            "bias_until": 14.3 / 14.8,
        }
        return cls(**({"steps": steps} | recipe | changes))

    def progress(self, step: int, cpu_s: float) -> float:
        """How much of the run is over, from 0 to 1 (or more, once it is)."""
        parts = [step / self.steps] if self.steps is not None else []
        parts += [cpu_s / self.cpu_seconds] if self.cpu_seconds is not None else []
        return max(parts)

    def rate(self, progress: float) -> float:
        """The factor on the peak learning rate at this share of the run."""
        return rate_factor(progress, self.warmup, self.hold, self.floor, self.tails)

    def sequences(self, progress: float, full: int) -> int:
        """How many sequences a batch has at this share of the run, `full` at the end of the ramp."""
        if self.batch_from is None or progress >= self.batch_ramp:
            return full
        if self.batch_from > full:
            raise ValueError(f"batch_from={self.batch_from} is more than the full batch of {full} sequences")
        return self.batch_from + int((full - self.batch_from) * progress / self.batch_ramp)

    def mtp_weight_at(self, progress: float, configured: float) -> float:
        """Lambda, the weight of the MTP loss, at this share of the run; `configured` is the config's."""
        if self.mtp_weight is None:
            return configured
        if isinstance(self.mtp_weight, tuple):
            return [value for share, value in self.mtp_weight if share <= progress][-1]
        return float(self.mtp_weight)

    def gamma_at(self, progress: float) -> float:
        """How far the biases move after the step that starts at this share of the run."""
        return self.bias_gamma if self.balance == "loss_free" and progress < self.bias_until else 0.0

    def changed(self, **changes) -> "Settings":
        """The same settings but for `changes`. Raises ValueError for a setting that does not exist."""
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise ValueError(f"no setting is called {name!r}; there are {', '.join(known)}")
        return replace(self, **changes)

    def to_dict(self) -> dict:
        """The settings as plain values."""
        return asdict(self)
