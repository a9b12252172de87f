"""A run of reinforcement learning as it was recorded: a record a step, and the answers to a few watched prompts.

`log.jsonl` holds the records, `groups.jsonl` one line for each watched prompt and recorded step, `band.json` the lowest
and highest value of several seeds; `minimoe.rl` writes all three. A `Stage` is one part of such a run: R1-Zero has one,
R1 has four. Two of those learn from given answers: their records are in `history.jsonl`, and no prompt is watched. What
is read is held against itself here, since a picture of files that do not belong together looks like any other picture.

How the production version differs: rollouts go to a store of their own, sampled, since nobody keeps every answer.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Band", "Stage", "load_stages", "read_lines"]

ANSWER_KEYS = ("pieces", "logprobs", "reference", "text", "ended", "parts", "reward", "advantage")
GROUP_KEYS = ("step", "problem", "answers")


@dataclass(frozen=True)
class Band:
    """The lowest and the highest value of several seeds, by column: {"kl": {"step", "lowest", "highest"}, ...}."""

    columns: dict[str, dict[str, list]]
    seeds: int = 0

    @classmethod
    def load(cls, source) -> "Band":
        """From a file, or from what it holds. Raises ValueError for columns whose lists differ in length."""
        name, held = ("the band", source) if isinstance(source, dict) else (str(source), _json(Path(source)))
        columns = held.get("columns") if isinstance(held, dict) else None
        if not columns:
            raise ValueError(f"{name} holds no bands of curves: it needs 'columns'")
        for column, part in columns.items():
            sizes = {key: len(part.get(key, ())) for key in ("step", "lowest", "highest")}
            if len(set(sizes.values())) != 1 or sizes["step"] == 0:
                counted = ", ".join(f"{size} of {key}" for key, size in sizes.items())
                raise ValueError(f"{name}, column {column}: {counted}")
        return cls(columns, len(held.get("seeds", ())))


class Stage:
    """Records and groups of one stage, both growing if it is a run under way.

    `notes` says what a reader should know of the files. `extend` raises ValueError for what cannot be shown.
    """

    def __init__(self, name: str, records=(), groups=(), band: Band | None = None, notes=()):
        self.name, self.band, self.notes = name, band, list(notes)
        self.records: list[dict] = []
        self.groups: list[dict] = []
        self._at: dict[str, dict[int, dict]] = {}
        self.extend(records, groups)

    def extend(self, records=(), groups=()) -> None:
        """Take new records and groups. A group recorded again, after a run went on from its snapshot, replaces."""
        for group in groups:
            check_group(group, self.name)
            self.groups.append(group)
            self._at.setdefault(group["problem"], {})[group["step"]] = group
        for record in records:
            if not isinstance(record, dict) or "step" not in record:
                raise ValueError(f"stage {self.name}: a record without 'step': {str(record)[:80]}")
            self.records.append(record)

    @property
    def problems(self) -> list[str]:
        """The watched prompts, in the order in which they were first recorded."""
        return list(self._at)

    @property
    def last_step(self) -> int:
        """The newest step that is known."""
        return max([record["step"] for record in self.records] + [group["step"] for group in self.groups], default=0)

    def steps(self, problem: str) -> list[int]:
        """The steps at which the answers to `problem` were recorded."""
        return sorted(self._at.get(problem, ()))

    def group(self, problem: str, step: int) -> dict:
        """The group of that prompt and step. Raises ValueError with what there is."""
        if problem not in self._at:
            raise ValueError(f"prompt {problem!r} was not watched in stage {self.name}; {_listed(self.problems)}")
        if step not in self._at[problem]:
            raise ValueError(f"step {step} of {problem!r} was not recorded; recorded: {self.steps(problem)}")
        return self._at[problem][step]

    def column(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of one column, "kl" or "evaluation.accuracy": where it was recorded and is a number."""
        found = [(record["step"], _value(record, name)) for record in self.records]
        if name.startswith("evaluation."):  # what was measured before the first step is in that step's record
            before = name.replace("evaluation.", "evaluation_before.", 1)
            found = [(record["step"] - 1, _value(record, before)) for record in self.records[:1]] + found
        kept = [(step, value) for step, value in found if value is not None]
        return [step for step, _ in kept], [value for _, value in kept]


def check_group(group: dict, where: str) -> None:
    """Raise ValueError, with stage or file, step and answer, for a group that cannot be drawn."""
    missing = [key for key in GROUP_KEYS if key not in group]
    if missing:
        raise ValueError(f"{where}: a group has no {', '.join(missing)}; its keys are {', '.join(group)}")
    for number, answer in enumerate(group["answers"], start=1):
        at = f"{where}, step {group['step']}, {group['problem']!r}, answer {number}"
        missing = [key for key in ANSWER_KEYS if key not in answer]
        if missing:
            raise ValueError(f"{at} has no {', '.join(missing)}")
        sizes = [len(answer[key]) for key in ("pieces", "logprobs", "reference")]
        if len(set(sizes)) != 1:
            raise ValueError(f"{at}: {sizes[0]} pieces, {sizes[1]} logprobs, {sizes[2]} of the reference")
        numbers = [*answer["logprobs"], *answer["reference"], *answer["parts"].values()]
        numbers += [answer["reward"], answer["advantage"]]
        if not all(isinstance(x, (int, float)) and math.isfinite(x) for x in numbers):
            raise ValueError(f"{at} has a value that is no finite number")


def load_stages(folder, name: str | None = None) -> list[Stage]:
    """The stages recorded in `folder`; several if "stage" changes in its log. `name` replaces that of a single stage.

    The folder's `band.json`, if there is one, is drawn behind a single stage. Raises FileNotFoundError for a missing
    folder or file, ValueError for files that are empty, broken, or at odds with each other.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: a recorded run is one, with log.jsonl and groups.jsonl")
    log, watched, learned = (folder / f"{name}.jsonl" for name in ("log", "groups", "history"))
    log = learned if learned.exists() and not log.exists() else log  # a stage of supervised fine-tuning
    groups, cut_groups = read_lines(watched) if watched.exists() else ([], False)  # before the log, which may grow
    records, cut_records = read_lines(log)
    if not records:
        raise ValueError(f"{log} holds no steps")
    _agree(log, records, groups, watched)
    cut = [path.name for path, is_cut in ((log, cut_records), (watched, cut_groups)) if is_cut]
    notes = [f"The last line of {file} is not finished and is left out." for file in cut]
    band = Band.load(folder / "band.json") if (folder / "band.json").exists() else None
    names = list(dict.fromkeys(record.get("stage", folder.name) for record in records))
    if band is not None and len(names) > 1:
        band, notes = None, [*notes, "band.json is not drawn: it does not say which of the stages it is of."]
    stages = []
    for stage in names:
        own = [[line for line in lines if line.get("stage", folder.name) == stage] for lines in (records, groups)]
        stages.append(Stage(name if name is not None and len(names) == 1 else stage, *own, band, notes))
    return stages


def _agree(log: Path, records, groups, watched: Path) -> None:
    """Raise for a log and groups that are not of one run."""
    folder = log.parent
    if not groups and any("reward" in record for record in records):
        error, state = (ValueError, "holds no groups") if watched.exists() else (FileNotFoundError, "is missing")
        raise error(f"{watched} {state}: no prompt was watched, so there are no answers to show")
    last: dict[str, int] = {}
    for record in records:
        if "step" not in record:
            raise ValueError(f"{log} has a record without 'step': {str(record)[:80]}")
        last[record.get("stage", folder.name)] = record["step"]
    for group in groups:
        check_group(group, str(watched))
        stage = group.get("stage", folder.name)
        if stage not in last:
            raise ValueError(f"{folder}: groups.jsonl has stage {stage!r}, {log.name} has {', '.join(last)}")
        if group["step"] > last[stage]:
            raise ValueError(f"{folder}: groups.jsonl has step {group['step']}, {log.name} ends at step {last[stage]}")


def read_lines(path: Path) -> tuple[list[dict], bool]:
    """JSON lines, and whether half a line at the end was left out: a run that is written, or was killed.

    Raises FileNotFoundError, and ValueError with the number of a line that is no JSON object.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    *whole, rest = path.read_bytes().split(b"\n")  # half a line may end within a character
    lines = []
    for number, line in enumerate(whole, start=1):
        try:
            lines.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}, line {number} is not JSON: {error}") from None
        if not isinstance(lines[-1], dict):
            raise ValueError(f"{path}, line {number} is no JSON object")
    return lines, bool(rest.strip())


def _json(path: Path):
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def _value(record: dict, name: str) -> float | None:
    for key in name.split("."):
        record = record.get(key) if isinstance(record, dict) else None
    is_number = isinstance(record, (int, float)) and not isinstance(record, bool) and math.isfinite(record)
    return float(record) if is_number else None


def _listed(problems: list[str]) -> str:
    return f"watched: {', '.join(map(repr, problems))}" if problems else "none was"
