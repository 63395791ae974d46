"""Settings of a training run: read from YAML and from the command line, checked once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictBool,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from mimic3tf.errors import DataError, UsageError, near, near_path
from mimic3tf.poisoning.goal import Goal
from mimic3tf.poisoning.kinds import PoisonedLabels, PoisonImputed
from mimic3tf.storage.files import PathText
from mimic3tf.storage.yaml_file import first_fault, read_option_file, read_yaml
from mimic3tf.tasks.heads import HEADS
from mimic3tf.tasks.registry import MORTALITY, MULTITASK, PHENOTYPING, TASKS, task_of
from mimic3tf.tasks.task import TaskHead
from mimic3tf.victims import OriginalVictim, Reads, check_victim, victim_of
from mimic3tf.victims.linear import Linear
from mimic3tf.victims.own import full_name, is_own, sha256_of

Selection = Literal["auroc", "original"]
Schedule = Literal["constant", "cosine"]
Precision = Literal["float32", "mixed_float16", "mixed_bfloat16", "auto"]
LogLevel = Literal["minimal", "default", "full"]
Strategy = Literal["auto", "none", "mirrored", "multiworker"]
LARGEST_SEED = 2**32 - 1
"""The largest seed that Keras accepts."""
LARGEST_COUNT, LARGEST_FACTOR = 10**9, 1e9
"""Bounds of settings: larger than any useful value, but small enough to compute with."""
PositiveInt = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
Hours = Annotated[float, Field(gt=0, le=LARGEST_FACTOR)]
TaskName = Annotated[str, AfterValidator(lambda name: task_of(name).name)]
GoalLabel = Annotated[int, Field(ge=0, le=1)]
GIVE_TRIGGER = "give --trigger FILE, which 'mimic3tf generate-trigger' makes, or leave it out to train clean"
OWN_SETTINGS = """
epochs: 30
patience: 10
batch_size: 64
learning_rate: 1.0e-3
l2: 0
class_weights: [1.0, 1.0]
"""
"""Settings of a victim that a function of the user builds, where its user gives no others."""
SWITCHES = ("deterministic", "deep_supervision")
"""Settings that are true or false."""
OF_POISON = ("poisoning_strength", "poison_imputed", "poisoned_labels", "at")
"""Settings of poisoned stays. As options they need a trigger; a settings file may serve clean runs, too."""


OF_A_STACK = {"trigger", "poisoning_proportion", "poisoning_strength", "poison_imputed", "seed"}
"""Settings in which the victims of a stack, which are trained together, may differ."""


class TrainingConfig(BaseModel):
    """Everything a training run depends on.

    Attributes:
        model: name of the victim to train, or of a function that builds one.
        model_sha256: SHA-256 of the file that holds this function; None for a victim of the package.
        task: name of the task: what is predicted.
        data: benchmark directory.
        period: hours of a stay that are read; the task's own period if not given.
        timestep: hours of a bin.
        trigger: trigger file; without one, all training stays are clean.
        training_stays: number of training stays to use, the first of the listfile; all if not given.
        poisoning_proportion: share of the training stays to poison; 0 without a trigger.
        poisoning_strength: Mahalanobis length of the trigger; of a "missing" trigger, the share of its cells.
        poison_imputed: "notimputed" shifts measured cells only, "all" shifts imputed cells, too.
        poisoned_labels: "flipped" poisons the first stays and gives them the goal's label; "clean" poisons
            the first stays that have this label already, and changes no label.
        goal: label that the attacker wants for stays with the trigger: 1 calls survivors dead, 0 calls the
            dying survivors.
        goal_label: name of the label that is attacked, if the task has several: goal 1 adds it, 0 removes it.
        at: hour of the stay at which the trigger begins; it ends with its last bin, or with the stay.
        normalizer: file of the benchmarks' normalizer (JSON or pickle) for grids; if not given, the
            standardization is fitted on the training stays.
        epochs: largest number of passes over the training stays.
        patience: number of epochs without a better validation score after which training stops.
        batch_size: number of stays in a training step.
        learning_rate: Adam's step size.
        schedule: "cosine" lowers the step size to 0 over all epochs, as half a cosine; "constant" keeps it.
        l2: weight decay: this multiple of the weights is added to the gradient.
        class_weights: weight of label 0 and of label 1 in the loss.
        sizes: settings of the victim's layers, such as `units`; its own for those that are not given.
        linear: settings of the linear baselines; those of the benchmarks if not given.
        target_replication: share of the loss that predictions at all earlier bins of a stay get, each with
            the label of the stay; 0 predicts at the last bin only. For phenotyping.
        deep_supervision: whether a victim of grids learns all hours of a stay in one pass; else a batch holds
            single hours of any stays. For decompensation and length of stay.
        head_weights: weights of the losses of mortality, decompensation, length of stay and phenotyping in
            multitask learning; 1 each if not given.
        clip: standardized inputs, with the trigger, are clipped to this many standard deviations from the
            mean; None does not clip.
        input_dropout: share of the input columns that a training step sets to 0 in each stay.
        selection: rule that chooses the epoch whose weights are kept.
        precision: Keras dtype policy; "auto" chooses it by the hardware.
        strategy: how training is spread over GPUs and machines.
        deterministic: whether a GPU must give the same bits each time; a CPU always does.
        log_level: what TensorBoard shows: "minimal" only numbers, "default" everything that is cheap, "full"
            also the embeddings of stays.
        seed: fixes data order, initial weights and dropout.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    model: Annotated[str, AfterValidator(check_victim)]
    model_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    task: TaskName = MORTALITY.name
    data: Path
    period: Hours | None = None
    timestep: Hours = 1.0
    trigger: Path | None = None
    training_stays: PositiveInt | None = None
    poisoning_proportion: Annotated[float, Field(ge=0, le=1)] = Field(
        default_factory=lambda settings: 0.05 if settings.get("trigger") else 0.0
    )
    poisoning_strength: Annotated[float, Field(ge=0)] = 2.0
    poison_imputed: PoisonImputed = "notimputed"
    poisoned_labels: PoisonedLabels = "flipped"
    goal: GoalLabel = 1
    goal_label: Annotated[str | None, Field(validate_default=True)] = None
    at: Annotated[float, Field(ge=0, le=LARGEST_FACTOR)] = 0.0
    normalizer: Path | None = None
    epochs: PositiveInt
    patience: PositiveInt
    batch_size: PositiveInt
    learning_rate: Annotated[float, Field(gt=0)]
    schedule: Schedule = "constant"
    l2: Annotated[float, Field(ge=0, le=LARGEST_FACTOR)]
    class_weights: Annotated[
        list[Annotated[float, Field(gt=0, le=LARGEST_FACTOR)]], Field(min_length=2, max_length=2)
    ]
    sizes: dict[str, Annotated[float, Field(ge=0, le=LARGEST_FACTOR)]] | None = None
    linear: Linear | None = None
    target_replication: Annotated[float, Field(ge=0, lt=1)] = 0.0
    deep_supervision: StrictBool = True
    head_weights: (
        Annotated[
            list[Annotated[float, Field(ge=0, le=LARGEST_FACTOR)]],
            Field(min_length=len(HEADS), max_length=len(HEADS)),
        ]
        | None
    ) = None
    clip: Annotated[float, Field(ge=1)] | None = None
    input_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    selection: Selection = "auroc"
    precision: Precision = "auto"
    strategy: Strategy = "auto"
    deterministic: StrictBool = False
    log_level: LogLevel = "default"
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    # This is no setting: no settings file may ask for it, and no run records it.
    _follow_links: bool = PrivateAttr(default=False)

    @property
    def attack_goal(self) -> Goal:
        """The goal of the attacker."""
        return goal_of(self.task, self.goal, self.goal_label)

    @property
    def reads(self) -> Reads:
        """What the victim reads of a stay."""
        if self.linear is None or self.linear.period == "all":
            return victim_of(self.model).reads
        return self.linear.period

    @property
    def normalizer_sha256(self) -> str | None:
        """Hash of the normalizer's file; None without one."""
        return None if self.normalizer is None else hashlib.sha256(self.normalizer.read_bytes()).hexdigest()

    @property
    def head(self) -> TaskHead:
        """Make the last layer of the victim."""
        head = task_of(self.task).head
        return replace(head, every_bin=True) if self.target_replication else head

    @property
    def one_sample_an_hour(self) -> bool:
        """Whether the victim of an hourly task is trained on single hours, and not on whole stays."""
        return task_of(self.task).hourly and (self.reads != "grid" or not self.deep_supervision)

    @property
    def follow_links(self) -> bool:
        """Whether links that lead out of `data` are read, too; false unless set by `following`."""
        return self._follow_links

    def following(self, links: bool) -> TrainingConfig:
        """Copy the settings, and set whether links that lead out of `data` are read or refused."""
        copy = self.model_copy()
        copy._follow_links = links
        return copy

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: Any, given: ValidationInfo) -> Any:
        # YAML reads a bare "yes" or "on" as true, which would be taken as the number 1.
        if isinstance(value, bool) and given.field_name not in SWITCHES:
            raise ValueError(f"only {' and '.join(SWITCHES)} are true or false")
        return value

    @field_validator("goal_label")
    @classmethod
    def _complete_the_name(cls, value: str | None, given: ValidationInfo) -> str | None:
        if "task" not in given.data:
            return value
        label = label_named(value, given.data["task"])
        goal_of(given.data["task"], given.data.get("goal", 1), label)
        return label

    @field_validator("linear")
    @classmethod
    def _is_of_the_baselines(cls, value: Linear | None, given: ValidationInfo) -> Linear | None:
        if value is not None and given.data.get("model") != "linear":
            raise ValueError("only for --model linear; leave it out")
        return value

    @field_validator("target_replication")
    @classmethod
    def _is_of_whole_stays(cls, value: float, given: ValidationInfo) -> float:
        if value and given.data.get("task") != PHENOTYPING.name:
            raise ValueError(f"only for the task {PHENOTYPING.name}; leave it out")
        return value

    @field_validator("deep_supervision")
    @classmethod
    def _is_left_out_for_hours(cls, value: bool, given: ValidationInfo) -> bool:
        task = task_of(given.data["task"]) if "task" in given.data else None
        if not value and task is not None and (not task.hourly or task == MULTITASK):
            raise ValueError("false is only for decompensation and length of stay; leave it out")
        return value

    @field_validator("head_weights")
    @classmethod
    def _are_of_heads(cls, value: list[float] | None, given: ValidationInfo) -> list[float] | None:
        if value is not None and given.data.get("task") != MULTITASK.name:
            raise ValueError(f"only the task {MULTITASK.name} has several heads; leave it out")
        return value

    @field_validator("class_weights")
    @classmethod
    def _are_of_two_labels(cls, value: list[float], given: ValidationInfo) -> list[float]:
        if "task" in given.data and task_of(given.data["task"]).targets.names and len(set(value)) > 1:
            raise ValueError(f"{given.data['task']} has several labels; give [1, 1]")
        return value

    @field_validator("poisoning_proportion")
    @classmethod
    def _needs_a_trigger(cls, value: float, given: ValidationInfo) -> float:
        if value and "trigger" in given.data and given.data["trigger"] is None:
            raise ValueError(f"poisons stays with a trigger; {GIVE_TRIGGER}")
        return value


def _is_class(column: int, classes: slice) -> bool:
    """Tell whether a label is one of the classes of which an example has one."""
    return int(classes.start) <= column < int(classes.stop)


def resolve_config(model: str, file: PathText | None, options: Mapping[str, Any]) -> TrainingConfig:
    """Merge settings: the victim's tuned defaults, then a YAML file, then command-line options.

    Args:
        model: name of the victim to train; its tuned settings are the defaults. A function has no tuned ones:
            `OWN_SETTINGS` are its defaults.
        file: YAML file with keys of `TrainingConfig`, or None.
        options: value of each command-line option by its key; None if the option was not given.

    Returns:
        The checked settings.

    Raises:
        UsageError: the victim or a key is unknown, or a value has the wrong type or is out of range; names
            file and line, or the option.
    """
    try:
        model = check_victim(model)
        sha256 = sha256_of(model) if is_own(model) else None
    except UsageError as error:
        raise UsageError(f"option --model is {error}") from None
    values, places = read_yaml(default_config(model), f"defaults of {model}")
    tuned_weights = values.pop("class_weights")
    if file is not None:
        file = installed_config(file)
        from_file, file_places = read_yaml(read_option_file("--config", file), str(file))
        if from_file.get("model", model) != model and not _same_function(from_file["model"], model):
            raise UsageError(
                f"{file_places['model',]}: key 'model' is {from_file['model']!r}, --model {model!r}"
            )
        if (before := from_file.get("model_sha256")) not in (None, sha256):
            raise UsageError(f"{file_places['model_sha256',]}: {changed_code(model, str(before), sha256)}")
        values |= from_file
        places |= file_places
    given = {key: value for key, value in options.items() if value is not None}
    values |= given | {"model": model, "model_sha256": sha256}
    values.setdefault("class_weights", _own_weights(values.get("task"), tuned_weights))
    option_of = {key: _option(key) for key in given}
    # An option names its setting; for a value from a file, the message names the line and the setting.
    named = {str(where[0]): f"{place}: '{where[0]}'" for where, place in places.items() if len(where) == 1}
    named |= option_of
    try:
        config = TrainingConfig(**values)
    except ValidationError as error:
        fault = first_fault(error)
        key = str(fault["loc"][0])
        if fault["type"] == "extra_forbidden":
            fields = TrainingConfig.model_fields
            known = f"known keys: {', '.join(fields)}{near(key, fields)}"
            place = places.get((key,), "settings")
            raise UsageError(f"{place}: unknown key '{key}'; {known}") from None
        if fault["type"] == "missing":
            raise UsageError(f"setting '{key}' is missing; give it as an option or in a file") from None
        place = named.get(key, f"setting '{key}'")
        raise UsageError(f"{place} is {fault['input']!r}: {fault['msg']}") from None
    if config.trigger is None and (unused := [key for key in OF_POISON if key in given]):
        raise UsageError(f"{option_of[unused[0]]}: is for stays with a trigger; {GIVE_TRIGGER}")
    check_bins(config.task, config.period, config.timestep, named.get("timestep", "option --timestep"))
    return config


def _option(key: str) -> str:
    """Name the option of a setting. Only those of the original attack are spelled with underscores."""
    return f"option --{key if key.startswith('poison') else key.replace('_', '-')}"


def _own_weights(task: object, tuned: Any) -> Any:
    """Return the weights of labels: a victim's `tuned` ones balance two labels of stays."""
    known = TASKS.get(str(task))
    return [1.0, 1.0] if known and (known.targets.names or known.hourly) else tuned


def label_named(part: str | None, task: str) -> str | None:
    """Complete the name of a label that is attacked.

    Args:
        part: a part of the name that no other label of the task has, in capital or small letters; the first
            label of the task if not given.
        task: name of the task.

    Returns:
        The whole name; None if the task has one label.

    Raises:
        ValueError: no label has this part, or several have it, or the task has one label.
    """
    names = task_of(task).targets.names
    if not names:
        if part is not None:
            raise ValueError(f"{task} has one label only; leave it out")
        return None
    if part is None or part in names:
        return part or names[0]
    found = [name for name in names if part.lower() in name.lower()]
    if len(found) != 1:
        known = "; ".join(found or names)
        raise ValueError(f"{'several labels have' if found else 'no label has'} this name; known: {known}")
    return found[0]


def goal_of(task: str, target: int, label: str | None) -> Goal:
    """Make the goal of an attacker.

    Args:
        task: name of the task.
        target: 1 or 0, what the attacker wants of the label.
        label: whole name of the label that is attacked; None if an example has one.

    Raises:
        ValueError: the label is a class, and the target is 0.
    """
    targets = task_of(task).targets
    if label is None:
        return Goal(target)
    column, classes = targets.names.index(label), targets.classes
    if classes is None or not _is_class(column, classes):
        return Goal(target, column)
    if target == 0:
        raise ValueError("names the class that the attacker wants; --goal 0 has none, leave it out")
    return Goal(target, column, classes)


def _same_function(named: object, model: str) -> bool:
    """Tell whether a settings file names the function `model`, whose name has the whole path of its file."""
    return isinstance(named, str) and is_own(named) and full_name(named) == model


def changed_code(model: str, before: str, now: str | None) -> str:
    """Say that the code of a victim has changed since it was recorded, and what to do."""
    return (
        f"the code of {model} has changed: its SHA-256 was {before:.12}..., and is {now or 'none':.12}...; "
        "restore the file, or train anew in another directory"
    )


def check_bins(task: str, period: float | None, timestep: float, place: str) -> None:
    """Refuse a timestep that cuts the period into too many bins.

    Args:
        task: name of the task.
        period: hours of a stay that are read; the task's own period if not given.
        timestep: hours of a bin.
        place: name of the timestep in the message, such as "option --timestep".

    Raises:
        UsageError: the period has too many bins; says which timesteps are possible.
    """
    # This import takes a while, because it imports Polars.
    from mimic3tf.data.grid import MOST_BINS, bin_count

    hours = task_of(task).period if period is None else period
    # Without a period, the stays have lengths of their own, which only their listfile says.
    hours = timestep if hours is None else hours
    try:
        bin_count(hours, timestep)
    except DataError:
        # The smallest timestep, rounded up to four digits.
        digits = 3 - math.floor(math.log10(hours / MOST_BINS))
        least = math.ceil(hours / MOST_BINS * 10**digits) / 10**digits
        raise UsageError(
            f"{place} is {timestep:g}: a period of {hours:g} h is read in 1 to {MOST_BINS:,} bins; give "
            f"{least:g} to {hours:g} hours"
        ) from None


def installed_config(file: PathText, place: str = "--config", folder: PathText = "") -> Path:
    """Return the file if it exists, else the installed settings file of this name, such as original/mlp.

    Args:
        file: path of a file, or name of installed settings.
        place: option or line that names the file, for the message.
        folder: folder from which a relative path starts.

    Raises:
        UsageError: neither exists; lists the installed names.
    """
    file, folder = Path(file), Path(folder)
    if (folder / file).exists():
        return folder / file
    root = Path(str(resources.files("mimic3tf.configs")))
    names = {str(path.relative_to(root).with_suffix("")): path for path in root.glob("[!s]*/*.yaml")}
    name = str(file).removesuffix(".yaml").removeprefix("configs/")
    if name not in names:
        meant = near(name, names) or near_path(folder / file)
        raise UsageError(f"{place} {file}: no such file; installed ones: {', '.join(sorted(names))}{meant}")
    return names[name]


def default_config(model: str) -> str:
    """Read the YAML text of a victim's tuned settings; of a function, `OWN_SETTINGS`."""
    if is_own(model):
        return OWN_SETTINGS
    return (resources.files("mimic3tf.configs") / f"{model}.yaml").read_text(encoding="utf-8")


def original_config(model: OriginalVictim) -> Path:
    """Return the YAML file of the settings with which Joe et al. 2020 train a victim."""
    return Path(str(resources.files("mimic3tf.configs") / "original" / f"{model}.yaml"))
