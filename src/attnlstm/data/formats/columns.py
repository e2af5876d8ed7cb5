"""Find the columns of a table that hold texts and labels, or the parts of series."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Any

from attnlstm.console import enumerate_names, shorten
from attnlstm.data.formats.labels import RowProblemError
from attnlstm.data.formats.series import refuse_decimal_commas, to_numbers
from attnlstm.data.formats.table import FormatOptions, Table, missing_column
from attnlstm.errors import UserError

UsualNames = Mapping[str, Sequence[str]]
"""By role, the names of columns that are found without being named, in lower case."""

TEXT_TABLE: UsualNames = {
    "text": (
        *("text", "texts", "sentence", "review", "review_text", "content", "document", "article"),
        *("body", "message", "comment", "comment_text", "description", "tweet", "headline"),
        *("question", "utterance"),
    ),
    "label": (
        *("label", "labels", "target", "class", "category", "sentiment", "topic", "intent"),
        "emotion",
    ),
}

LESS_USUAL: UsualNames = {  # where a table of texts has none of the above
    "text": (
        *("title", "headline_text", "news", "news_text", "news_headline", "article_text", "post"),
        *("post_text", "email", "email_text", "sms", "phrase", "statement", "excerpt", "passage"),
        *("tweet_text", "tweet_content", "original_tweet", "clean_text", "cleaned_text", "lyrics"),
        *("review_body", "review_content", "reviews", "comments", "comment_body", "feedback"),
        *("complaint", "consumer_complaint_narrative", "narrative", "abstract", "summary", "story"),
        *("transcription", "transcript", "resume_str", "job_description", "product_description"),
        *("query", "prompt", "question_text", "sentences", "string", "body_text", "full_text"),
    ),
    "label": (
        *("rating", "stars", "score", "overall", "overall_rating", "polarity", "airline_sentiment"),
        *("review_rating", "sentiment_label", "label_text", "label_name", "class_label", "classes"),
        *("category_name", "class_name", "genre", "spam", "is_spam", "is_sarcastic", "toxic"),
        *("toxicity", "is_toxic", "hate", "hate_speech", "stance", "feelings", "mood", "type"),
        *("coarse_label", "topic_label", "intent_label", "emotions", "categories", "subject"),
        *("department", "medical_specialty", "language", "outcome", "gold_label", "verdict"),
    ),
}

SERIES_TABLE: UsualNames = {  # without `y`, which may be a channel
    "id": ("id", "series_id", "series", "sequence_id", "sequence", "case_id", "case"),
    "time": ("time", "timestamp", "datetime", "date", "time_step", "timestep", "step", "t"),
    "label": ("label", "class", "category", "target"),
}

SAMPLE = 100  # records after which a column without any number is refused as a channel


class TableOptions(FormatOptions, total=False):
    """How a long table is read: the settings of `data` with the same names; None finds out."""

    id_column: str | None
    time_column: str | None
    label_column: str | None
    channel_columns: Sequence[str] | None


@dataclass(frozen=True)
class Columns:
    """The columns of a long table by role."""

    id: str
    time: str | None
    label: str | None
    channels: list[str]


def find_text_columns(
    columns: Sequence[str],
    where: str,
    describe: Callable[[], str],
    text_column: str | Sequence[str] | None,
    label_column: str | None,
    needs_labels: bool,
) -> tuple[list[str], str | None]:
    """Return the columns of the texts and of the labels, as named or with a usual name.

    Args:
        where: what messages call the table.
        describe: returns the end of a message, about the columns there are.
        text_column: one column, or several whose texts are joined.
        needs_labels: otherwise the label column may be missing, and is None if it is unclear.

    Raises:
        UserError: a column is missing, or it is not clear which one is meant.
    """
    texts = [text_column] if isinstance(text_column, str) else list(text_column or ())
    named: dict[str, str | Sequence[str] | None] = {"text": texts or None, "label": label_column}
    if not needs_labels and label_column is not None and label_column not in columns:
        del named["label"]
    finder = _Finder(columns, where, describe, TEXT_TABLE, LESS_USUAL)
    candidates = finder.find_candidates(named)
    texts, label = texts or [finder.choose("text", candidates)], None
    if needs_labels or len(candidates.get("label", ())) == 1:
        label = finder.choose("label", candidates)
    return texts, label


def guess_text_columns(table: Table, needs_labels: bool) -> tuple[str, str | None] | None:
    """Return the columns of texts and labels of a table without a header, where they are plain.

    Of two columns, one repeats its values, and the other has longer ones that mostly differ. A
    table without labels may have one column.
    """
    columns = table.column_names()
    if len(columns) == 1 and not needs_labels:
        return columns[0], None
    if len(columns) != 2:
        return None
    records = [record.values for record in islice(table.records(columns), 10 * SAMPLE)]
    values = [[str(record[column]) for record in records if record] for column in columns]
    (label, labels), (text, texts) = sorted(
        zip(columns, values, strict=True), key=lambda column: len(set(column[1]))
    )
    is_plain = len(set(labels)) <= len(labels) / 2 < len(set(texts))
    return (text, label) if is_plain and sum(map(len, labels)) < sum(map(len, texts)) else None


def is_usual(name: str) -> bool:
    """Return whether this is a usual name of some column, of whatever role."""
    return _plain(name) in _all_usual()


@cache
def _all_usual() -> set[str]:
    tables = (TEXT_TABLE, LESS_USUAL, SERIES_TABLE)
    return {_plain(name) for table in tables for names in table.values() for name in names}


def _plain(name: str) -> str:
    """Return a name as it is compared: without spaces, underscores and upper case."""
    return re.sub(r"[\W_]+", "", name).lower()


def find_series_columns(
    table: Table, where: str, needs_labels: bool, options: TableOptions
) -> Columns:
    """Return the columns of a long table, as named or with a usual name.

    Args:
        where: what messages call the table.
        needs_labels: otherwise the label column may be missing, even if it is named.
        options: `channel_columns` of None stands for all other columns.

    Raises:
        UserError: a column is missing, or it is not clear which one is meant.
    """
    columns, channels = table.column_names(), options.get("channel_columns")
    named = {
        "id": options.get("id_column"),
        "time": options.get("time_column"),
        "label": options.get("label_column"),
    }
    if not needs_labels and named["label"] not in columns:
        named["label"] = None
    finder = _Finder(columns, where, table.describe_columns, SERIES_TABLE)
    candidates = finder.find_candidates(named, channels or ())
    found = Columns(
        finder.choose("id", candidates, ", as each record is a step and must say of which series"),
        finder.choose("time", candidates) if candidates["time"] else None,
        finder.choose("label", candidates) if needs_labels or candidates["label"] else None,
        list(channels or ()),
    )
    if channels is None:
        taken = (found.id, found.time, found.label)
        found.channels.extend(column for column in columns if column not in taken)
        _refuse_texts(table, where, found.channels)
    if not found.channels:
        raise UserError(f"{where} has no channels: add columns of numbers")
    return found


@dataclass
class _Finder:
    """The columns of a table, and the messages about them; see `find_text_columns`."""

    columns: Sequence[str]
    where: str
    describe: Callable[[], str]
    usual_names: UsualNames
    less_usual: UsualNames = field(default_factory=dict)

    def find_candidates(
        self, named: Mapping[str, str | Sequence[str] | None], channels: Sequence[str] = ()
    ) -> dict[str, list[str]]:
        """Return for each role the columns that are named, or all others with a usual name.

        Less usual names count if no column has a usual one.
        """
        given = {
            role: [names] if isinstance(names, str) else list(names)
            for role, names in named.items()
            if names is not None
        }
        settings = [(f"data.{role}_column", name) for role in given for name in given[role]]
        settings += [("data.channel_columns", name) for name in channels]
        taken = Counter(name for _, name in settings)
        for setting, name in settings:
            if name not in self.columns:
                raise missing_column(self.where, name, self.columns, self.describe(), setting)
            if taken[name] > 1:
                keys = " and ".join(dict.fromkeys(key for key, other in settings if other == name))
                raise UserError(
                    f"{self.where}: column {name!r} is named twice, by {keys}: name it once"
                )
        left = [column for column in self.columns if column not in taken]
        found = {role: _with_names(left, self.usual_names[role]) for role in named}
        for role, names in self.less_usual.items():
            if role in named and not found[role]:
                found[role] = _with_names(left, names)
        return found | given

    def choose(self, role: str, candidates: Mapping[str, list[str]], reason: str = "") -> str:
        """Return the only candidate, or raise a UserError; `reason` says why there must be one."""
        found = candidates[role]
        if len(found) == 1:
            return found[0]
        if found:
            raise UserError(
                f"{self.where} has several columns that may be the {role} "
                f"({enumerate_names(found)}): choose one, such as data.{role}_column="
                f"{shorten(found[0])}. {self.describe()}"
            )
        raise UserError(
            f"{self.where} has no column with a usual name for the {role} "
            f"({', '.join(self.usual_names[role])}): name one with data.{role}_column{reason}. "
            f"{self.describe()}"
        )


def _with_names(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    known = set(map(_plain, names))
    return [column for column in columns if _plain(column) in known]


def _refuse_texts(table: Table, where: str, channels: Sequence[str]) -> None:
    """Raise a UserError for a column of texts, which would make every series unusable."""
    numberless, has_records = list(channels), False
    for record in islice(table.records(channels), SAMPLE):
        if record.values is not None:
            has_records = True
            refuse_decimal_commas(where, record.values)
            numberless = [name for name in numberless if not _is_number(record.values[name])]
        if not numberless:
            return
    if has_records:
        raise UserError(
            f"{where} has a column {shorten(numberless[0])!r} without numbers: name the channels "
            f"with data.channel_columns. {table.describe_columns()}"
        )


def _is_number(value: Any) -> bool:
    try:
        to_numbers([value])
    except RowProblemError:
        return False
    return True
