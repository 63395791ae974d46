"""What the codes of a MEDS data set mean: those of channels, and those that begin and end stays.

A mapping is a file as `codes.py` describes it, with the codes of stays beside the channels::

    stays:
      birth: MEDS_BIRTH
      icu_admission: "ICU_ADMISSION//(?P<unit>.*)"
      icu_discharge: "ICU_DISCHARGE//(?P<unit>.*)"
      hospital_admission: "HOSPITAL_ADMISSION(//.*)?"
      hospital_discharge: "HOSPITAL_DISCHARGE(//.*)?"
      died: "HOSPITAL_DISCHARGE//DIED"
      death: MEDS_DEATH
      sex: "GENDER//(?P<sex>.*)"
      diagnosis: "DIAGNOSIS//ICD//(9//(?P<icd9>.*)|10//(?P<icd10>.*))"
      icu_stay_id: icustay_id       # columns; without them, the order of the events tells
      admission_id: hadm_id
    channels:
      Heart Rate:
        - code: "LAB//220045(//.*)?"
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mimic3tf.channels import MIMIC3, ChannelSet
from mimic3tf.errors import UsageError
from mimic3tf.sources.codes import Code, Mapped, Pattern, codes_of, parse_mapping, shipped_mapping
from mimic3tf.storage.yaml_file import read_option_file

SHIPPED = ("mimic4", "eicu")
"""Mappings that come with the package."""

KINDS = (
    *("birth", "age", "icu_admission", "icu_discharge", "hospital_admission", "hospital_discharge"),
    *("death", "sex"),
)
"""Kinds of events that tell of stays rather than of measurements."""


class Stays(BaseModel):
    """Which codes begin and end the stays of a data set.

    Attributes:
        birth: codes of the birth.
        age: codes that name the age at admission, in a group `years`; wins over the birth.
        icu_admission: codes of admissions to the ICU; a group `unit` names the unit.
        icu_discharge: codes of discharges from the ICU; a group `unit` names the unit.
        hospital_admission: codes of admissions to the hospital.
        hospital_discharge: codes of discharges from the hospital that tell whether the patient survived.
        died: those among them of patients who died.
        death: codes of the death; of patients who died in hospital, they give its time. Without such an
            event, the discharge gives it.
        sex: codes that name the sex, in a group `sex`.
        diagnosis: codes of diagnoses, in a group `icd9` or `icd10`; for phenotypes.
        icu_stay_id: column with the id of the ICU stay that an event belongs to.
        admission_id: column with the id of the admission; it only needs to be unique for a subject.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    birth: Pattern = "MEDS_BIRTH"
    age: Pattern | None = None
    icu_admission: Pattern
    icu_discharge: Pattern
    hospital_admission: Pattern
    hospital_discharge: Pattern
    died: Pattern
    death: Pattern = "MEDS_DEATH"
    sex: Pattern | None = None
    diagnosis: Pattern | None = None
    icu_stay_id: str | None = None
    admission_id: str | None = None


class MedsMapping(Mapped):
    """The content of a mapping's file for MEDS."""

    stays: Stays


@dataclass(frozen=True)
class Landmark:
    """A code that tells of stays.

    Attributes:
        code: the code.
        kind: one of `KINDS`.
        unit: the ICU that the code names, if it does.
        years: the age that the code names, if it does.
        died: whether the code means death in hospital.
        events: number of its events.
        sex: the sex that the code names, if it does.
    """

    code: str
    kind: str
    unit: str | None
    years: int | None
    died: bool
    events: int
    sex: str | None = None


@dataclass(frozen=True)
class Resolved:
    """A mapping, applied to the codes of a data set.

    Attributes:
        name: name of the mapping, or its file.
        stays: its part about stays.
        codes: its codes of measurements.
        measured: code of the data set -> index into `codes`.
        landmarks: the codes of the data set that tell of stays.
        channels: the channels that it maps to.
        diagnoses: code of the data set -> version of ICD (9 or 10) and the diagnosis in it, without a dot.
    """

    name: str
    stays: Stays
    codes: Sequence[Code]
    measured: Mapping[str, int]
    landmarks: Sequence[Landmark]
    channels: ChannelSet
    diagnoses: Mapping[str, tuple[int, str]]

    @property
    def fits(self) -> bool:
        """Whether the data set has ICU admissions and measurements of this mapping."""
        return bool(self.measured) and any(mark.kind == "icu_admission" for mark in self.landmarks)

    @property
    def tells_ages(self) -> bool:
        """Whether a code of the data set tells of a birth or an age."""
        return any(mark.kind in ("birth", "age") for mark in self.landmarks)

    @property
    def missing(self) -> list[str]:
        """The channels that no code of the data set measures."""
        found = {self.codes[index].channel for index in self.measured.values()}
        return [name for position, name in enumerate(self.channels.names) if position not in found]


def shipped_meds_mapping(name: str) -> MedsMapping:
    """Return a mapping that comes with the package, such as "mimic4"."""
    return parse_mapping(shipped_mapping(name), f"{name}.yaml", MedsMapping)


def resolve_mapping(chosen: str | None, counts: Mapping[str, int], channels: ChannelSet = MIMIC3) -> Resolved:
    """Apply a mapping to the codes of a data set.

    Args:
        chosen: one of `SHIPPED`, or a file; without it, that of `SHIPPED` which fits and maps most events; if
            none fits, any.
        counts: code of the data set -> number of its events.
        channels: the channels that a file maps to; those of `SHIPPED` map to `MIMIC3`.

    Raises:
        UsageError: the file is no mapping, or maps a code twice.
    """
    if chosen is not None and chosen not in SHIPPED:
        text = read_option_file("--mapping", Path(chosen))
        return _resolve(chosen, parse_mapping(text, chosen, MedsMapping), counts, channels)
    names = SHIPPED if chosen is None else (chosen,)
    return max(
        (_resolve(name, shipped_meds_mapping(name), counts, MIMIC3) for name in names),
        key=lambda mapping: (mapping.fits, sum(counts[code] for code in mapping.measured)),
    )


def _resolve(name: str, mapping: MedsMapping, counts: Mapping[str, int], channels: ChannelSet) -> Resolved:
    codes = codes_of(mapping, name, channels)
    measured: dict[str, int] = {}
    for index, entry in enumerate(codes):
        pattern = re.compile(_pattern(entry, name, channels))
        for code in filter(pattern.fullmatch, counts):
            if code in measured:
                first, second = (channels.names[codes[at].channel] for at in (measured[code], index))
                raise UsageError(
                    f"{name}: code '{code}' is mapped twice, to {first} and to {second}; narrow one of the "
                    "regular expressions"
                )
            measured[code] = index
    landmarks, diagnoses = _landmarks(mapping.stays, counts), _diagnoses(mapping.stays, counts)
    return Resolved(name, mapping.stays, codes, measured, landmarks, channels, diagnoses)


def _pattern(entry: Code, name: str, channels: ChannelSet) -> str:
    if entry.code is None:
        raise UsageError(
            f"{name}: '{channels.names[entry.channel]}': 'items' needs 'item_code' at the top of the file, "
            'such as item_code: "LAB//{item}(//.*)?"'
        )
    return entry.code


def _landmarks(stays: Stays, counts: Mapping[str, int]) -> list[Landmark]:
    died = re.compile(stays.died)
    landmarks = []
    for kind in KINDS:
        expression = getattr(stays, kind)
        if expression is None:
            continue
        for match in filter(None, map(re.compile(expression).fullmatch, counts)):
            named, code = match.groupdict(), match.string
            years = named.get("years")
            landmarks.append(
                Landmark(
                    code,
                    kind,
                    named.get("unit"),
                    int(years) if years and years.isdecimal() else None,
                    kind == "hospital_discharge" and died.fullmatch(code) is not None,
                    counts[code],
                    named.get("sex"),
                )
            )
    return landmarks


def _diagnoses(stays: Stays, counts: Mapping[str, int]) -> dict[str, tuple[int, str]]:
    if stays.diagnosis is None:
        return {}
    diagnoses = {}
    for match in filter(None, map(re.compile(stays.diagnosis).fullmatch, counts)):
        named = match.groupdict()
        for version in (9, 10):
            if code := named.get(f"icd{version}"):
                diagnoses[match.string] = version, code.replace(".", "")
    return diagnoses
