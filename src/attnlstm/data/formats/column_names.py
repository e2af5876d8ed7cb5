"""The usual names of the columns of tables, and how the columns of a role are found by name."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from attnlstm.console import enumerate_names, shorten
from attnlstm.data.formats.table import missing_column
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
