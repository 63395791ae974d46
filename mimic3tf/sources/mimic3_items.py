"""Item ids of MIMIC-III v1.4 that measure the 17 channels; no other module names them.

Source: the variable map of the MIMIC-III benchmarks (Harutyunyan et al. 2019): the items that it marks as
"ready" for these channels. All of them are in CHARTEVENTS (CareVue up to 8999, MetaVision from 220000) and
LABEVENTS (50000 to 51999); OUTPUTEVENTS holds none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Unit = Literal["lb", "oz", "in"]

ITEMS: Mapping[str, tuple[int, ...]] = {
    "Capillary refill rate": (115, 3348, 8377),
    "Diastolic blood pressure": (
        *(8368, 8440, 8441, 8502, 8503, 8504, 8506, 8507, 8555),
        *(220051, 220180, 224643, 225310),
    ),
    "Fraction inspired oxygen": (189, 727, 3420, 3422, 223835),
    "Glascow coma scale eye opening": (184, 220739),
    "Glascow coma scale motor response": (454, 223901),
    "Glascow coma scale total": (198,),
    "Glascow coma scale verbal response": (723, 223900),
    "Glucose": (
        *(807, 811, 1529, 3745),
        *(50809, 50931, 51478),
        *(220621, 225664, 226537),
    ),
    "Heart Rate": (211, 220045),
    "Height": (1394, 226707, 226730),
    "Mean blood pressure": (
        *(52, 224, 456, 3312, 3314, 3316, 3320, 3322, 6702),
        *(220052, 220181, 224322, 225312),
    ),
    "Oxygen saturation": (646, 834, 8498, 50817, 220227, 220277),
    "Respiratory rate": (614, 615, 618, 651, 3603, 220210, 224422, 224689, 224690),
    "Systolic blood pressure": (
        *(51, 442, 455, 3313, 3315, 3317, 3321, 3323, 6701),
        *(220050, 220179, 224167, 225309, 227243),
    ),
    "Temperature": (676, 677, 678, 679, 3654, 3655, 223761, 223762),
    "Weight": (763, 3580, 3581, 3582, 3693, 224639, 226512, 226531),
    "pH": (780, 860, 1126, 1673, 3839, 4202, 4753, 50820, 50831, 51094, 51491, 220274, 223830),
}
"""Channel -> its item ids."""

UNITS: Mapping[int, Unit] = {1394: "in", 3581: "lb", 3582: "oz", 226531: "lb"}
"""Item -> its unit, if its label names another unit than the channel's; VALUEUOM is mostly empty there."""

NOT_BLOOD = (51478, 51094, 51491, 50831)
"""Items of glucose (51478) and pH that were measured in urine, and of pH in other body fluids (50831)."""
