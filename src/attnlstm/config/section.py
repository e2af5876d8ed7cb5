"""The base class of the configuration's models, and the types of their fields."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A section of the configuration; `--help` shows the docstring of each field.

    Numeric strings count as numbers, because environment variables are strings.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        coerce_numbers_to_str=True,
        use_attribute_docstrings=True,
    )


def _refuse_bool(value: Any) -> Any:
    if isinstance(value, bool):  # to pydantic, true is 1
        raise ValueError("not a number")
    return value


Number = BeforeValidator(_refuse_bool)
"""Refuses booleans; goes last in the annotation of an int or a float."""

BILLION = 1_000_000_000  # what no honest use reaches, and a computer can count to

Count = Annotated[int, Field(ge=1, le=BILLION), Number]
Natural = Annotated[int, Field(ge=0, le=BILLION), Number]
NaturalOrAll = Annotated[int, Field(ge=-1, le=BILLION), Number]
BatchSize = Annotated[int, Field(ge=1, le=1_000_000), Number]
FeatureSize = Annotated[int, Field(ge=1, le=65_536), Number]
NumWorkers = Annotated[int, Field(ge=0, le=1024), Number]
Amount = Annotated[float, Field(ge=0), Number]
Positive = Annotated[float, Field(gt=0), Number]
Share = Annotated[float, Field(ge=0, le=1), Number]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1), Number]
ShareAboveZero = Annotated[float, Field(gt=0, le=1), Number]
Fraction = Annotated[float, Field(gt=0, lt=1), Number]

NumThreads = Annotated[
    Annotated[int, Field(ge=1, le=1024), Number] | Literal["auto"],
    BeforeValidator(lambda value: "auto" if value is None else value),  # null in older runs
]

Name = Annotated[str, Field(json_schema_extra={"verbatim": True})]
"""A file or a column, whose name may contain characters that are special to Hydra."""

Files = Name | list[Name] | None
"""One file, a glob, or several."""
