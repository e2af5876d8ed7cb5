"""What the models of the configuration are built from: the base class, and types of fields."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A section of the configuration. The docstring of a field says what it does.

    Strings that hold numbers count as numbers, since environment variables are strings.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        coerce_numbers_to_str=True,
        use_attribute_docstrings=True,
    )


def _refuse_bool(value: Any) -> Any:
    if isinstance(value, bool):  # to Python, true is 1
        raise ValueError("not a number")
    return value


Number = BeforeValidator(_refuse_bool)
"""Of ints and floats, behind their limits."""

Count = Annotated[int, Field(ge=1), Number]
Natural = Annotated[int, Field(ge=0), Number]
NaturalOrAll = Annotated[int, Field(ge=-1), Number]
Amount = Annotated[float, Field(ge=0), Number]
Positive = Annotated[float, Field(gt=0), Number]
Share = Annotated[float, Field(ge=0, le=1), Number]
ShareBelowOne = Annotated[float, Field(ge=0, lt=1), Number]
ShareAboveZero = Annotated[float, Field(gt=0, le=1), Number]
Fraction = Annotated[float, Field(gt=0, lt=1), Number]

Name = Annotated[str, Field(json_schema_extra={"verbatim": True})]
"""A file or a column, which may hold characters that mean something to Hydra."""

Files = Name | list[Name] | None
"""One file, a glob, or several."""
