"""A corpus of broken word vectors and tokenizers: each stops training with one clear message."""

import gzip
import pickle

import pytest

from tests.config.composed import compose
from tests.data.broken import BrokenFiles, cases, check_refusal
from tests.data.formats.contents import (
    DEEP,
    tokenizer,
)

VECTORS: BrokenFiles = {
    "empty.txt": ("", "holds no vectors"),
    "short line.txt": ("fine 1 2 3\nday 1 2\ndull 1 2 3\n", r"line 2 \(2 values instead of 3\)"),
    "word.txt": ("fine 1 2 3\nday 1 x 3\ndull 1 2 3\n", r"line 2 \(a value is not a number\)"),
    "nan.txt": ("fine 1 2 3\nday 1 nan 3\ndull 1 2 3\n", r"line 2 \(a value is not finite\)"),
    "thousands.txt": ("fine 1 2 3\nday 1 1_0 3\ndull 1 2 3\n", "line 2"),
    "announced.txt": ("5 3\nfine 1 2 3\nday 1 2 3\n", r"5 vectors of 3 values announced"),
    "no utf-8.txt": (b"fine 1 2\n\xff 1 2\ndull 1 2\n", r"line 2 \(not UTF-8\)"),
    "binary.bin": (b"3 2\nfine " + bytes(8), "is a binary file"),
    "packed.txt": (gzip.compress(b"fine 1 2\n"), r"is packed \(gzip\)"),
    "other words.txt": ("le 1 2\nla 3 4\n", "has none of the .* tokens"),
    "other size.txt": ("fine 1 2\nday 3 4\n", "set model.embedding.size=2"),
    "wide.txt": ("fine" + " 1" * 40_000 + "\n", "vectors of 40,000 values"),
}

TOKENIZERS: BrokenFiles = {
    "empty.json": ("", "no usable tokenizer"),
    "text.json": ("a b c", "no usable tokenizer"),
    "list.json": ("[]", "no usable tokenizer"),
    "null.json": ("null", "no usable tokenizer"),
    "deep.json": (DEEP, "no usable tokenizer"),
    "vocabulary.json": ('{"fine": 0, "day": 1}', "no usable tokenizer"),
    "no model.json": (tokenizer(model=None), "no usable tokenizer"),
    "no tokens.json": (
        tokenizer(model={"type": "WordLevel", "vocab": {}, "unk_token": "[UNK]"}),
        "it has no tokens",
    ),
    "unknown model.json": (tokenizer(model={"type": "Magic"}), "no usable tokenizer"),
    "without unknown.json": (
        tokenizer(model={"type": "WordLevel", "vocab": {"fine": 0}, "unk_token": "[UNK]"}),
        "no token for what it does not know",
    ),
    "large ids.json": (
        tokenizer(
            model={"type": "WordLevel", "vocab": {"[UNK]": 2_000_000_000}, "unk_token": "[UNK]"}
        ),
        "it has 1 tokens, but ids up to 2000000000",
    ),
    "doubling.json": (
        tokenizer(
            normalizer={
                "type": "Sequence",
                "normalizers": [
                    {"type": "Replace", "pattern": {"String": "t"}, "content": "tt"}
                    for _ in range(40)
                ],
            }
        ),
        "makes texts many times longer",
    ),
    "utf-16.json": (tokenizer().encode("utf-16"), "utf-8"),
    "many normalizers.json": (
        tokenizer(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}] * 2000}),
        "more than 1000 normalizers",
    ),
    "endless search.json": (
        tokenizer(
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": r"(.|.|.|.|.)+[^\w\s.]$"},
                "behavior": "Isolated",
                "invert": False,
            }
        ),
        r"no usable tokenizer .*retry-limit.*choose another tokenizer.json",
    ),
    "endless alternatives.json": (
        tokenizer(
            pre_tokenizer={
                "type": "Split",
                "pattern": {"Regex": "(a|a)*b"},
                "behavior": "Isolated",
                "invert": False,
            }
        ),
        r"no usable tokenizer .*retry-limit.*choose another tokenizer.json",
    ),
    "pickle.json": (pickle.dumps([1]), "utf-8"),
}


@pytest.mark.slow
@cases(VECTORS)
def test_broken_vectors(tmp_path, name, content, said):
    config = compose("data=text_files", "model.embedding.size=3")
    check_refusal(tmp_path, config, name, content, said, "model.embedding.vectors")


@pytest.mark.slow
@cases(TOKENIZERS)
def test_a_broken_tokenizer(tmp_path, name, content, said):
    config = compose("data=text_files")
    check_refusal(tmp_path, config, name, content, said, "data.tokenizer.file")
