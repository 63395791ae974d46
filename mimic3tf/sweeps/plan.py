"""A sweep file, and the trials that follow from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from mimic3tf.config import (
    LARGEST_SEED,
    GoalLabel,
    Hours,
    PositiveInt,
    TaskName,
    TrainingConfig,
    check_bins,
    installed_config,
    resolve_config,
)
from mimic3tf.errors import UsageError, near, near_path
from mimic3tf.poisoning.kinds import PoisonImputed, TriggerKind
from mimic3tf.storage.yaml_file import Location, first_fault, place_of, read_option_file, read_yaml
from mimic3tf.tasks.registry import MORTALITY, check_one_length, task_of
from mimic3tf.victims import check_victim
from mimic3tf.victims.own import folder_name, is_own, sha256_of

Engine = Literal["local", "stacked", "ray"]
Proportion = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
VictimName = Annotated[str, AfterValidator(check_victim)]


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: Any) -> Any:
        # YAML reads a bare "yes" or "on" as true, which would be taken as the number 1.
        if any(isinstance(item, bool) for item in (value if isinstance(value, list) else [value])):
            raise ValueError("no setting is true or false")
        return value


class Grid(_Checked):
    """A grid of a sweep: every combination of the values in its lists.

    Attributes:
        victims: names of the victims to train, or of functions that build them; the path of a file starts at
            the current directory.
        triggers: kinds of trigger.
        poison_imputed: modes: "notimputed", "all".
        proportions: shares of the training stays to poison; 0 trains one clean victim, which is attacked with
            all triggers, modes and strengths of the grid.
        poisoned_stays: numbers of training stays to poison, instead of proportions.
        strengths: Mahalanobis lengths of the trigger. For a "missing" trigger they are shares of its cells;
            give it a grid of its own.
        training_stays: numbers of training stays to use; "all" uses all.
    """

    victims: Annotated[list[VictimName], Field(min_length=1)]
    triggers: Annotated[list[TriggerKind], Field(min_length=1)] = ["temporal"]
    poison_imputed: Annotated[list[PoisonImputed], Field(min_length=1)]
    proportions: list[Proportion] = []
    poisoned_stays: list[PositiveInt] = []
    strengths: Annotated[list[Strength], Field(min_length=1)]
    training_stays: Annotated[list[PositiveInt | Literal["all"]], Field(min_length=1)] = ["all"]

    @model_validator(mode="after")
    def _one_amount(self) -> Grid:
        if bool(self.proportions) == bool(self.poisoned_stays):
            raise ValueError("give either 'proportions' or 'poisoned_stays'")
        return self


class Resources(_Checked):
    """What Ray reserves for one trial.

    Attributes:
        cpus: number of processor cores.
        gpus: number of GPUs; a fraction is a share of one GPU.
    """

    cpus: PositiveInt = 1
    gpus: Annotated[float, Field(ge=0)] = 0


class Sweep(_Checked):
    """The contents of a sweep file.

    Attributes:
        seeds: seeds; for each seed, triggers are drawn and every victim is trained.
        grids: what to train; a victim that several grids name is trained once.
        task: name of the task: what is predicted.
        period: hours of a stay that are read; the task's own period if not given.
        timestep: hours of a bin.
        goal: label that the attacker wants for stays with the trigger.
        configs: victim -> its settings file, whose path starts at the sweep file's folder; or the name of
            installed settings, such as original/mlp.
        resources: what Ray reserves for each trial.
    """

    seeds: Annotated[list[Seed], Field(min_length=1)]
    grids: Annotated[list[Grid], Field(min_length=1)]
    task: TaskName = MORTALITY.name
    period: Hours | None = None
    timestep: Hours = 1.0
    goal: GoalLabel = 1
    configs: dict[VictimName, Path] = {}
    resources: Resources = Resources()

    @property
    def reading(self) -> dict[str, Any]:
        """Arguments of `load_cohort` that say how stays are read."""
        return {"task": self.task, "period": self.period, "timestep": self.timestep}


@dataclass(frozen=True)
class SweepFile:
    """A checked sweep file.

    Attributes:
        name: name of the file, for messages.
        folder: folder from which the paths in the file start.
        sweep: contents of the file.
        places: file and line of each key and list item, for messages.
    """

    name: str
    folder: Path
    sweep: Sweep
    places: Mapping[Location, str]


@dataclass(frozen=True)
class Attack:
    """What the attacked stays carry: kind of trigger, mode and strength."""

    trigger: TriggerKind
    poison_imputed: PoisonImputed
    poisoning_strength: float


@dataclass(frozen=True)
class Trial:
    """One victim to train, and how to attack it.

    Attributes:
        name: name of the trial and of its folder.
        victim: name of the victim to train.
        seed: seed of the training and of the triggers.
        training_stays: number of training stays to use.
        poisoning_proportion: share of the training stays to poison, with the trigger of the first attack.
        attacks: the attacks on the victim; there can be several only if it is trained on clean stays.
    """

    name: str
    victim: str
    seed: int
    training_stays: int
    poisoning_proportion: float
    attacks: tuple[Attack, ...]

    @property
    def stays_poisoned(self) -> int:
        """Number of training stays that are poisoned."""
        return int(self.training_stays * self.poisoning_proportion)


def installed_sweeps() -> dict[str, Path]:
    """List the sweep files that come with mimic3tf, by their names."""
    folder = Path(str(resources.files("mimic3tf.configs") / "sweeps"))
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def read_sweep(name: str) -> SweepFile:
    """Read a sweep file.

    Args:
        name: path of the file, or name of an installed sweep file, such as "paper".

    Raises:
        UsageError: the file cannot be read, or it or a file in `configs` has a wrong setting; names file and
            line.
    """
    installed = installed_sweeps()
    path = installed.get(name, Path(name))
    if not path.exists():
        known, meant = ", ".join(installed), near(name, installed) or near_path(path)
        raise UsageError(f"--config {name}: no such file; installed sweeps: {known}{meant}")
    values, places = read_yaml(read_option_file("--config", path), str(path))
    file = SweepFile(str(path), path.parent, _checked(values, places, path), places)
    sweep = file.sweep
    timestep = f"{places.get(('timestep',), path)}: 'timestep'"
    check_one_length(task_of(sweep.task), f"{places.get(('task',), path)}: 'task'")
    check_bins(sweep.task, sweep.period, sweep.timestep, timestep)
    for position, grid in enumerate(sweep.grids):
        for item, victim in enumerate(grid.victims):
            _check_code(victim, place_of(places, ("grids", position, "victims", item)))
    for victim in sweep.configs:
        # This checks the settings file only, so data and trigger need no real paths.
        resolve_config(victim, _settings_file(file, victim), {"data": Path(), "trigger": Path()})
    return file


def _check_code(victim: str, place: str | None) -> None:
    """Refuse the name of a function whose file does not exist."""
    try:
        if is_own(victim):
            sha256_of(victim)
    except UsageError as error:
        raise UsageError(f"{place}: 'victims' is {error}") from None


def _checked(values: Mapping[str, Any], places: Mapping[Location, str], path: Path) -> Sweep:
    """Check the values of a sweep file, and return the sweep."""
    try:
        return Sweep(**values)
    except ValidationError as error:
        fault = first_fault(error)
        place = place_of(places, fault["loc"]) or str(path)
        key = next((part for part in reversed(fault["loc"]) if part in _KEYS), fault["loc"][-1])
        if fault["type"] in ("extra_forbidden", "missing"):
            problem = "missing" if fault["type"] == "missing" else "unknown"
            wrong = str(fault["loc"][-1])
            meant = near(wrong, sorted(_KEYS)) if problem == "unknown" else ""
            raise UsageError(f"{place}: {problem} key '{wrong}'{meant}") from None
        given = "" if isinstance(fault["input"], dict) else f" is {fault['input']!r}"
        raise UsageError(f"{place}: '{key}'{given}: {fault['msg']}") from None


_KEYS = {key for part in (Sweep, Grid, Resources) for key in part.model_fields}


def trials_of(file: SweepFile, stays: int) -> list[Trial]:
    """List the trials of a sweep: seed by seed, in the order of its grids, each trial once.

    Args:
        file: the sweep.
        stays: number of training stays in the data.

    Raises:
        UsageError: a grid asks for more stays than there are; names file and line.
    """
    _check_sizes(file, stays)
    trials: dict[tuple[Any, ...], Trial] = {}
    for seed, grid in product(file.sweep.seeds, file.sweep.grids):
        for victim, size in product(grid.victims, grid.training_stays):
            for wanted in _of_victim(grid, victim, seed, size, stays):
                # A clean victim's training does not depend on its attacks, so they share one trial.
                poison = wanted.attacks if wanted.poisoning_proportion else ()
                key = (victim, seed, wanted.training_stays, wanted.poisoning_proportion, poison)
                known = trials.setdefault(key, wanted)
                more = tuple(attack for attack in wanted.attacks if attack not in known.attacks)
                trials[key] = replace(known, attacks=known.attacks + more)
    return list(trials.values())


def _of_victim(grid: Grid, victim: str, seed: int, size: int | Literal["all"], stays: int) -> Iterator[Trial]:
    """Yield the trials of a grid for one victim, seed and training set, with one attack each."""
    number = stays if size == "all" else size
    part = "" if size == "all" else f"-n{size}"
    short = folder_name(victim) if is_own(victim) else victim
    attacks = [Attack(*given) for given in product(grid.triggers, grid.poison_imputed, grid.strengths)]
    amounts = [(share, f"p{shortest(share)}") for share in grid.proportions] or [
        (proportion_of(count, number), f"k{count}") for count in grid.poisoned_stays
    ]
    for (proportion, amount), attack in product(amounts, attacks):
        setting = f"{attack.trigger}-{attack.poison_imputed}-{amount}-s{shortest(attack.poisoning_strength)}"
        name = f"{short}-{setting if proportion else 'clean'}{part}-seed{seed}"
        yield Trial(name, victim, seed, number, proportion, (attack,))


def shortest(number: float) -> str:
    """Return the shortest text that is this number and no other, so that other settings get other names."""
    return repr(number).removesuffix(".0")


def proportion_of(count: int, stays: int) -> float:
    """Return the proportion at which `exposures.poison` poisons exactly `count` of `stays` stays."""
    proportion = count / stays
    # If the quotient is rounded down, `int(stays * proportion)` is one stay too few.
    return proportion if int(stays * proportion) == count else math.nextafter(proportion, math.inf)


def _check_sizes(file: SweepFile, stays: int) -> None:
    for position, grid in enumerate(file.sweep.grids):
        sizes = [stays if size == "all" else size for size in grid.training_stays]
        for key, counts, most in (
            ("training_stays", sizes, stays),
            ("poisoned_stays", grid.poisoned_stays, min(sizes)),
        ):
            for item, count in enumerate(counts):
                if count > most:
                    place = place_of(file.places, ("grids", position, key, item))
                    raise UsageError(f"{place}: '{key}' is {count}, but there are {most} training stays")


def settings_of(file: SweepFile, trial: Trial, data: Path, trigger: Path) -> TrainingConfig:
    """Make the settings for the training of a trial.

    Args:
        file: the sweep.
        trial: one of its trials.
        data: benchmark directory.
        trigger: file of the trigger of the trial's first attack.

    Raises:
        UsageError: the victim's file in `configs` is wrong; names file and line.
    """
    poison = trial.attacks[0]
    options = {
        "data": data,
        "trigger": trigger,
        "training_stays": trial.training_stays,
        "poisoning_proportion": trial.poisoning_proportion,
        "poisoning_strength": poison.poisoning_strength,
        "poison_imputed": poison.poison_imputed,
        **file.sweep.reading,
        "goal": file.sweep.goal,
        # The pictures of a run would take a third of the time of a logistic regression.
        "log_level": "minimal",
        "strategy": "auto" if file.sweep.resources.gpus > 1 else "none",
        "seed": trial.seed,
    }
    return resolve_config(trial.victim, _settings_file(file, trial.victim), options)


def _settings_file(file: SweepFile, victim: str) -> Path | None:
    """Return the settings file that a sweep names for a victim; None if it names none.

    Raises:
        UsageError: neither a file nor installed settings have this name; names the line of the sweep file.
    """
    config = file.sweep.configs.get(victim)
    place = place_of(file.places, ("configs", victim)) or file.name
    return config and installed_config(config, f"{place}:", file.folder)
