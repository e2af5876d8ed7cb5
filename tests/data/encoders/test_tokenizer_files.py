"""Tokenizers from files: nothing of them is added to texts, and broken ones are refused."""

import json

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

from attnlstm.data.encoders import tokenizer as tokenizer_module
from attnlstm.data.encoders.text import TextEncoder
from attnlstm.errors import UserError


def word_tokenizer(vocabulary, **parts):
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return tokenizer


def test_a_file_adds_nothing_to_a_text(tmp_path):
    tokenizer = word_tokenizer({"a": 0, "b": 1, "<unk>": 2})
    tokenizer.add_special_tokens(["[CLS]"])
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A", None, [("[CLS]", 3)])
    tokenizer.enable_padding(length=10)
    tokenizer.enable_truncation(2)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = TextEncoder.from_file(tmp_path / "tokenizer.json", max_length=None, truncation="head")
    for restored in (encoder, TextEncoder.from_dict(encoder.to_dict())):
        encoded = restored.encode(["a b x a b", ""])
        assert [ids.tolist() for ids in encoded.ids] == [[0, 1, 2, 0, 1], [2]]
        assert encoded.full_lengths.tolist() == [5, 1]
        assert restored.spans("a  b") == [(0, 1), (3, 4)]
        assert (restored.vocab_size, restored.unknown_id) == (4, 2)


def test_merge_dropout_of_a_file_is_switched_off(tmp_path):
    vocabulary = {"a": 0, "b": 1, "ab": 2, "abab": 3}
    merges = [("a", "b"), ("ab", "ab")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, dropout=0.5))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoder = TextEncoder.from_file(tmp_path / "tokenizer.json", max_length=None, truncation="head")
    assert [ids.tolist() for ids in encoder.encode(["abab"] * 50).ids] == [[3]] * 50


def test_a_pattern_that_takes_the_cube_of_the_length(monkeypatch):
    tokenizer = word_tokenizer({"a": 0, "<unk>": 1})
    pattern = Regex("[^~]*[^~]*(?<=~)")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, "removed", invert=True)
    encoder = TextEncoder(tokenizer, max_length=None, truncation="head")
    monkeypatch.setattr(tokenizer_module, "LEAST_SECONDS", 0.02)
    with pytest.raises(UserError, match=r"it takes more than 0 s for 500 char.*tokenizer\.file"):
        encoder.encode(["a" * 500])
    with pytest.raises(UserError, match="it takes more than"):
        encoder.spans("a" * 500)


def description(**model):
    state = json.loads(word_tokenizer({"a": 0, "<unk>": 1}).to_str())
    state["model"].update(model)
    return state


def broken():
    state = description()
    yield "not JSON", "{"
    yield "another JSON", "[1, 2]"
    yield "no model", json.dumps({**state, "model": None})
    yield "no tokens", json.dumps(description(vocab={}))
    yield "no unknown token", json.dumps(description(vocab={"a": 0}))
    yield "huge ids", json.dumps(description(vocab={"a": 4_000_000_000, "<unk>": 1}))
    unigram = {"type": "Unigram", "vocab": [["a", 0.0]]}
    yield "unigram without unknown", json.dumps({**state, "model": {**unigram, "unk_id": None}})
    yield "unknown id out of range", json.dumps({**state, "model": {**unigram, "unk_id": 7}})
    pre_tokenizer = {"type": "FixedLength", "length": 0}
    yield "panic when encoding", json.dumps({**state, "pre_tokenizer": pre_tokenizer})
    normalizer = {"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    yield "panic when loading", json.dumps({**state, "normalizer": normalizer})


@pytest.mark.parametrize("content", [pytest.param(text, id=name) for name, text in broken()])
def test_files_without_a_usable_tokenizer(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"data.tokenizer.file=.*tokenizer.json: ") as caught:
        TextEncoder.from_file(path, max_length=None, truncation="head")
    assert "\n" not in str(caught.value)
    state = {"kind": "text", "tokenizer": content, "max_length": None, "truncation": "head"}
    with pytest.raises(ValueError, match="tokenizer"):
        TextEncoder.from_dict(state)


def test_files_that_cannot_be_read(tmp_path):
    options = {"max_length": None, "truncation": "head"}
    with pytest.raises(UserError, match=r"data.tokenizer.file=.*nowhere.json: No such file"):
        TextEncoder.from_file(tmp_path / "nowhere.json", **options)
    with pytest.raises(UserError, match="Is a directory"):
        TextEncoder.from_file(tmp_path, **options)
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="utf-8"):
        TextEncoder.from_file(tmp_path / "binary.json", **options)
