"""Find the columns of a table that hold texts and labels, or the parts of series."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Literal

from attnlstm.console import enumerate_names, shorten
from attnlstm.data.formats.sample import Sample
from attnlstm.data.formats.series import SeriesOptions
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

WIDER_TEXT_TABLE: UsualNames = {
    "text": (
        *("title", "headline_text", "news", "news_text", "news_headline", "article_text", "post"),
        *("post_text", "email", "email_text", "sms", "phrase", "statement", "excerpt", "passage"),
        *("tweet_text", "tweet_content", "original_tweet", "clean_text", "cleaned_text", "lyrics"),
        *("review_body", "review_content", "reviews", "comments", "comment_body", "feedback"),
        *("complaint", "consumer_complaint_narrative", "narrative", "abstract", "summary", "story"),
        *("transcription", "transcript", "resume_str", "job_description", "product_description"),
        *("query", "prompt", "question_text", "sentences", "string", "body_text", "full_text"),
        *("headlines", "caption", "mail", "mail_text", "message_text", "raw_text", "snippet"),
    ),
    "label": (
        *("rating", "stars", "score", "overall", "overall_rating", "polarity", "airline_sentiment"),
        *("review_rating", "sentiment_label", "label_text", "label_name", "class_label", "classes"),
        *("category_name", "class_name", "genre", "spam", "is_spam", "is_sarcastic", "toxic"),
        *("toxicity", "is_toxic", "hate", "hate_speech", "stance", "feelings", "mood", "type"),
        *("coarse_label", "topic_label", "intent_label", "emotions", "categories", "subject"),
        *("department", "medical_specialty", "language", "outcome", "gold_label", "verdict"),
        *("topics", "section", "classification", "activity"),
    ),
}
"""Names that count only where none of `TEXT_TABLE` is there."""

SERIES_TABLE: UsualNames = {  # without `y`, which may be a channel
    "id": ("id", "series_id", "series", "sequence_id", "sequence", "case_id", "case"),
    "time": ("time", "timestamp", "datetime", "date", "time_step", "timestep", "step", "t"),
    "label": ("label", "class", "category", "target"),
}

WIDER_SERIES_TABLE: UsualNames = {  # where a table of series has none of the above
    "id": (
        *("session", "session_id", "recording", "recording_id", "record_id", "trial", "trial_id"),
        *("segment", "segment_id", "episode", "episode_id", "window_id", "sample_id", "run_id"),
        *("subject", "subject_id", "user", "user_id", "participant", "participant_id"),
        *("person", "person_id", "patient", "patient_id", "track_id", "object_id", "device_id"),
        *("uid", "uuid", "sid", "pid", "filename", "file_name"),
    ),
    "time": (
        *("time_stamp", "date_time", "ts", "unix_time", "unixtime", "epoch_ms", "timestamp_ms"),
        *("timestamp_s", "time_ms", "time_s", "time_sec", "elapsed", "elapsed_time", "seconds"),
        *("secs", "milliseconds", "ms", "frame", "frame_id", "frame_number", "tick"),
        *("sample_number", "step_number", "time_index", "time_point", "timepoint"),
    ),
    "label": (
        *("labels", "classes", "class_label", "class_val", "class_vals", "class_value"),
        *("target_class", "activity", "activity_label", "activity_name", "gesture", "condition"),
        *("diagnosis", "outcome", "event_type", "behavior", "behaviour", "movement"),
    ),
}

WIDER_WIDE_TABLE: UsualNames = {
    **WIDER_SERIES_TABLE,
    "label": (*WIDER_SERIES_TABLE["label"], "y"),  # as the steps are numbered, it is none of them
}

INDEX_NAME = re.compile(r"|unnamed: \d+|__index_level_\d+__")
"""What pandas calls a column that was the index."""

WIDER_INDEX_NAMES = ("index", "level_0", "rownames", "row_id", "rowid", "row_number", "row_index")
"""Names of an index if its numbers differ in all records."""


COUNTS = "counts the rows"

MOST_GUESSED = 1000  # records by which the columns of texts without a header are told


class TableOptions(FormatOptions, total=False):
    """How a table of series is read: the settings of `data` with the same names; None finds out.

    `time_column` is False for the order of the file.
    """

    layout: Literal["long", "wide"] | None
    id_column: str | None
    time_column: str | Literal[False] | None
    time_format: str | None
    label_column: str | None
    channel_columns: Sequence[str] | None


@dataclass(frozen=True)
class Columns:
    """The columns of a long table by role; without `id`, the whole table is one series.

    left_out: by the name of a column that is not read, why not.
    """

    id: str | None
    time: str | None
    label: str | None
    channels: list[str]
    group: str | None = None
    left_out: dict[str, str] = field(default_factory=dict)


def find_text_columns(
    columns: Sequence[str],
    where: str,
    describe: Callable[[], str],
    text_column: str | Sequence[str] | None,
    label_column: str | None,
    needs_labels: bool,
    group_column: str | None = None,
) -> tuple[list[str], str | None]:
    """Return the columns of the texts and of the labels, as named or with a usual name.

    Args:
        where: what messages call the table.
        describe: returns the end of a message, about the columns there are.
        text_column: one column, or several whose texts are joined.
        needs_labels: otherwise the label column may be missing, and is None if it is unclear.
        group_column: must exist, and is neither of the others.

    Raises:
        UserError: a column is missing, or it is not clear which one is meant.
    """
    texts = [text_column] if isinstance(text_column, str) else list(text_column or ())
    named: dict[str, str | Sequence[str] | None] = {"text": texts or None, "label": label_column}
    if not needs_labels and label_column is not None and label_column not in columns:
        del named["label"]
    named["group"] = group_column
    finder = Finder(columns, where, describe, TEXT_TABLE, WIDER_TEXT_TABLE)
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
    records = [record.values for record in islice(table.records(columns), MOST_GUESSED)]
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
    tables = (TEXT_TABLE, WIDER_TEXT_TABLE, SERIES_TABLE, WIDER_SERIES_TABLE)
    return {_plain(name) for table in tables for names in table.values() for name in names}


def _plain(name: str) -> str:
    """Return a name as it is compared: without spaces, underscores and upper case."""
    return re.sub(r"[\W_]+", "", name).lower()


def find_series_columns(
    table: Table,
    where: str,
    needs_labels: bool,
    options: TableOptions,
    sample: Sample,
    series: SeriesOptions,
) -> Columns:
    """Return the columns of a long table, as named or with a usual name.

    Args:
        where: what messages call the table.
        needs_labels: otherwise the label column may be missing, even if it is named.
        options: `channel_columns` of None stands for all other columns that can be channels.
        sample: tells which columns are an index.
        series: with `axes` of "time,channel", a table without an id is one series.

    Raises:
        UserError: a column is missing, or it is not clear which one is meant.
    """
    channels = options.get("channel_columns")
    finder = series_finder(table, where)
    named = name_roles(table, needs_labels, options, series)
    candidates = finder.find_candidates(named, channels or ())
    group = find_group(table, series)
    is_file_order = options.get("time_column") is False
    needs_label = needs_labels and not series.is_labelled
    found = Columns(
        _find_id(finder, candidates, group, series),
        finder.choose("time", candidates) if candidates["time"] and not is_file_order else None,
        finder.choose("label", candidates) if needs_label or candidates["label"] else None,
        list(channels or ()),
        group,
    )
    taken = {found.id, found.time, found.label, found.group, *found.channels}
    rest = [column for column in sample.columns if column not in taken]
    if channels is not None:
        others = dict.fromkeys(rest, "not in data.channel_columns")
        found.left_out.update(others | find_indices(rest, sample))
    else:
        found.left_out.update(find_left_out(rest, sample, candidates["time"] * is_file_order))
        found.channels.extend(column for column in rest if column not in found.left_out)
        _refuse_texts(table, where, found.channels, sample)
    if not found.channels:
        counting = [column for column, why in found.left_out.items() if why == COUNTS]
        hint = f" ({shorten(counting[0])!r} counts the rows)" if counting else ""
        raise UserError(
            f"{where} has no channels: add columns of numbers{hint}, or name the channels with "
            "data.channel_columns"
        )
    return found


def _find_id(
    finder: "Finder",
    candidates: Mapping[str, list[str]],
    group: str | None,
    series: SeriesOptions,
) -> str | None:
    """Return the id column; None if the whole table is one series."""
    if not candidates["id"] and series.has_windows and group is not None:
        return group  # each user's or session's steps are one stream
    if not candidates["id"] and series.axes == "time,channel":
        return None
    reason = (
        ", as each record is a step and must say of which series; or, if each record is a whole "
        "series, say data.layout=wide; or, if the file is one series, data.axes=time,channel"
    )
    return finder.choose("id", candidates, reason)


def series_finder(table: Table, where: str) -> "Finder":
    """Return the finder of the roles of a table of series."""
    return Finder(
        table.column_names(), where, table.describe_columns, SERIES_TABLE, WIDER_SERIES_TABLE
    )


def name_roles(
    table: Table, needs_labels: bool, options: TableOptions, series: SeriesOptions
) -> dict[str, str | None]:
    """Return the columns that the user names, by role."""
    named = {
        "id": options.get("id_column"),
        "time": options.get("time_column") or None,
        "label": options.get("label_column"),
        "group": find_group(table, series),
    }
    if not needs_labels and named["label"] not in table.column_names():
        named["label"] = None
    if named["group"] == named["id"]:
        del named["group"]
    return named


def find_group(table: Table, series: SeriesOptions) -> str | None:
    """Return the column of the groups, which other files than those for training may lack."""
    group = series.group_column
    return group if series.needs_groups or group in table.column_names() else None


def find_left_out(
    columns: Sequence[str], sample: Sample, times: Sequence[str] = ()
) -> dict[str, str]:
    """Return which columns are no data, and why.

    A column that counts the rows is an index if it is the only one that does.
    """
    counters = [column for column in columns if column in sample.counters]
    left_out = find_indices(columns, sample) | dict.fromkeys(
        times, "time, and the order of the file counts"
    )
    if len(counters) == 1:
        left_out.setdefault(counters[0], COUNTS)
    return left_out


def find_indices(columns: Sequence[str], sample: Sample) -> dict[str, str]:
    """Return which columns are no data by their names, and why."""
    left_out = {}
    for column in columns:
        name = column.strip().lower()
        if INDEX_NAME.fullmatch(name) or (
            name in WIDER_INDEX_NAMES and sample.are_distinct(column)
        ):
            left_out[column] = "an index"
        elif name in WIDER_SERIES_TABLE["id"]:
            left_out[column] = "another id"
        elif name in WIDER_SERIES_TABLE["time"]:
            left_out[column] = "another time"
    return left_out


@dataclass
class Finder:
    """The columns of a table by role, and the messages about them; see `find_text_columns`.

    less_usual: names that count for a role if no column has one of its `usual_names`.
    """

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
        found = {
            role: _with_names(left, self.usual_names.get(role, ()))
            or _with_names(left, self.less_usual.get(role, ()))
            for role in named
        }
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


def _refuse_texts(table: Table, where: str, channels: Sequence[str], sample: Sample) -> None:
    """Raise a UserError for a column of texts, which would make every series unusable."""
    for name in channels if sample.records else ():
        if not sample.has_number(name):
            raise UserError(
                f"{where} has a column {shorten(name)!r} without numbers: name the channels "
                f"with data.channel_columns. {table.describe_columns()}"
            )
