import io
import struct
import wave

import numpy as np
import pytest
from scipy.io import wavfile

from attnlstm.data.formats.wav_file import WavFile
from attnlstm.errors import UserError

SOUND = np.random.default_rng(0).integers(-(2**31), 2**31, size=(50, 2), dtype=np.int64)


def sound_bytes(width, values=SOUND, rate=8000):
    """A file of the top `8 * width` bits of values with 32 bits."""
    top = values >> (8 * (4 - width))
    if width == 1:
        content = (top + 128).astype(np.uint8).tobytes()
    else:
        whole = top.astype("<i4").reshape(-1, 1).view(np.uint8)
        content = whole[:, :width].tobytes()
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(values.shape[1])
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(content)
    return stream.getvalue()


def extensible(content, subformat=1):
    """The same file with the header that other programs write for 24 bits."""
    channels, rate, bits = (
        struct.unpack_from(form, content, place)[0]
        for form, place in (("<H", 22), ("<L", 24), ("<H", 34))
    )
    guid = struct.pack("<H", subformat) + bytes.fromhex("000000001000800000aa00389b71")
    form = struct.pack(
        "<HHLLHHHHL",
        *(0xFFFE, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits),
        *(22, bits, 3),
    )
    chunks = b"WAVEfmt " + struct.pack("<L", 40) + form + guid + content[36:]
    return b"RIFF" + struct.pack("<L", len(chunks)) + chunks


def open_file(path, content, needs_labels=False):
    path.write_bytes(content)
    return WavFile(path, key="input", name=path.name, needs_labels=needs_labels)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("header", [bytes, extensible])
def test_all_widths(tmp_path, width, header):
    path = tmp_path / "sound.wav"
    (row,) = open_file(path, header(sound_bytes(width)))
    assert row.value.shape == (50, 2)
    expected = (SOUND >> (8 * (4 - width))) / 2 ** (8 * width - 1)
    np.testing.assert_array_equal(row.value, expected)
    assert row.label is None
    rate, values = wavfile.read(path)  # which keeps 24 bits in the upper bits of 32
    assert rate == open_file(path, path.read_bytes()).rate == 8000
    scipys = values.astype(float) - 128 if width == 1 else values / 2.0 ** (values.itemsize * 8 - 1)
    np.testing.assert_array_equal(row.value, scipys / 128 if width == 1 else scipys)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is broken, or not a .wav file (it ends too early)"),
        (b"RIFF\x04\0\0\0AVI ", "not a WAVE file"),
        (b"ID3" + bytes(100), "does not start with RIFF"),
        (sound_bytes(2)[:20], "is broken"),
        (sound_bytes(2)[:20] + b"\3\0" + sound_bytes(2)[22:], "is of floats or compressed"),
        (extensible(sound_bytes(4), subformat=3), "is of floats or compressed"),
        (sound_bytes(2)[:22] + b"\0\0" + sound_bytes(2)[24:], "is broken"),
        (sound_bytes(2)[:34] + b"\x40\0" + sound_bytes(2)[36:], "has samples of 64 bits"),
        (sound_bytes(2)[:40] + b"\xff\xff\xff\x7f" + sound_bytes(2)[44:], "more than can be read"),
    ],
)
def test_files_that_are_refused(tmp_path, content, said):
    path = tmp_path / "sound.wav"
    with pytest.raises(UserError) as caught:
        open_file(path, content)
    assert str(caught.value).startswith(f"input: {path} ")
    assert said in str(caught.value)


def test_a_file_that_is_cut_off_is_a_bad_row(tmp_path):
    (row,) = open_file(tmp_path / "sound.wav", sound_bytes(2)[:-10])
    assert row.problem == "cut off: fewer samples than it says"
    (row,) = open_file(tmp_path / "sound.wav", sound_bytes(2, SOUND[:0]))
    assert row.problem == "empty series"


def test_without_a_label(tmp_path):
    with pytest.raises(UserError, match=r"holds no label: .* data\.label_from=folder"):
        open_file(tmp_path / "sound.wav", sound_bytes(2), needs_labels=True)
