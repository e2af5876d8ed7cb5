"""A corpus of broken files of whole series: each stops training with one clear message."""

import pickle

import numpy as np
import pytest

from tests.config.composed import compose
from tests.data.broken import BrokenFiles, cases, check_refusal
from tests.data.formats.contents import (
    ARFF,
    HEADER,
    OBJECTS,
    SERIES,
    SPACES,
    WALKS,
    X,
    Y,
    archive,
    npy,
    npz,
    saved,
    sound,
)

BROKEN: BrokenFiles = {
    "empty.ts": ("", "has no @data line"),
    "no data.ts": ("@classLabel true a b\n", "has no @data line"),
    "no rows.ts": (HEADER, "has no usable rows"),
    "endless header.ts": ("@tag\n" * 20_000 + HEADER + SERIES, "no @data line in its first 10,000"),
    "not a ts.ts": (WALKS, "is not a .ts file: line 1 comes before @data"),
    "no labels.ts": ("@classLabel false\n@data\n1,2\n", "has no labels"),
    "no class names.ts": ("@classLabel true\n@data\n1:a\n", "@classLabel line without class names"),
    "no @classLabel.ts": ("@dimensions 1\n@data\n1:a\n", "has no @classLabel line"),
    "dimensions.ts": (HEADER.replace("ions 2", "ions two"), "@dimensions line without a count"),
    "long number.ts": (HEADER.replace("ions 2", "ions " + "2" * 5000), "without a count"),
    "undeclared.ts": (HEADER + SERIES + "1,2:3,4:c\n", "does not declare in .*row 12"),
    "missing dimension.ts": (HEADER + SERIES + "1,2:a\n", "wrong number of channels in .*row 12"),
    "unequal.ts": (HEADER + SERIES + "1,2:3:a\n", "channels of different lengths in .*row 12"),
    "question mark.ts": (HEADER + SERIES + "1,?:3,4:a\n", r"missing values \(NaN\) in .*row 12"),
    "no number.ts": (HEADER + SERIES + "1,x:3,4:a\n", "value that is not a number in .*row 12"),
    "time stamps.ts": ("@timestamps true\n" + HEADER, "has time stamps"),
    "regression.ts": ("@targetlabel true\n@data\n1,2:x\n", "label is not a number in .*row 0"),
    "long line.ts": (HEADER + SERIES + "1," * (1 << 22) + "1:1:a\n", "longer than 8 Mi .* row 12"),
    "long header.ts": ("@classLabel true" + " a" * (1 << 20) + "\n@data\n", "line 1 is longer"),
    "empty.npz": ("", "is broken or not an .npz file"),
    "text.npz": (WALKS, "is broken or not an .npz file"),
    "pickle.npz": (pickle.dumps([1, 2]), "is broken or not an .npz file"),
    "cut.npz": (npz(X=X, y=Y)[:-30], "is broken or not an .npz file"),
    "no X.npz": (npz(x=X, y=Y), "has no array X, only 'x', 'y'"),
    "no y.npz": (npz(X=X), "has no labels: save them as the array y"),
    "objects.npz": (npz(X=OBJECTS, y=Y), "array X of Python objects, which could run code"),
    "object labels.npz": (npz(X=X, y=Y.astype(object)), "array y of Python objects"),
    "negative lengths.npz": (npz(X=X, y=Y, lengths=np.full(12, -1)), "empty series in .*12 rows"),
    "long lengths.npz": (npz(X=X, y=Y, lengths=np.full(12, 5)), "length beyond the padded length"),
    "float lengths.npz": (npz(X=X, y=Y, lengths=np.ones(12)), "lengths of type float64"),
    "nan.npz": (npz(X=np.where(X == 5, np.nan, X), y=Y), r"missing values \(NaN\) in .*row 1"),
    "infinite.npz": (npz(X=np.where(X == 5, np.inf, X), y=Y), "infinite values in .*row 1"),
    "fewer labels.npz": (npz(X=X, y=Y[:5]), r"has y of shape \[5\]: it must be \[12\]"),
    "four dimensions.npz": (npz(X=X[None], y=Y), r"has X of shape \[1, 12, 4, 1\]"),
    "texts.npz": (npz(X=Y[:, None], y=Y), "has X of type <U1: save it as floats"),
    "no characters.npz": (
        npz(X=X, y=np.full(12, 2**31 - 1, np.uint32).view("<U1")),
        "labels y that are neither texts nor numbers",
    ),
    "half a pair.npz": (npz(X=X, y=["\ud800", "b"] * 6), "labels y that are neither texts nor"),
    "fractions as labels.npz": (npz(X=X, y=np.arange(12)), "12 different labels in 12 rows.*task="),
    "header.npz": (archive(X=npy("-" * 5_000 + "1"), y=npy("")), "that numpy cannot read"),
    "nested header.npz": (archive(X=npy("(" * 5_000), y=npy("")), "that numpy cannot read"),
    "long header.npz": (
        archive(X=npy(SPACES * 10_000, version=b"\2\0"), y=npy("")),
        "that numpy cannot read",
    ),
    "true shape.npz": (
        archive(
            X=npy("{'descr': '<f8', 'fortran_order': False, 'shape': (True, 2)}", bytes(16)), y=b""
        ),
        "that numpy cannot read",
    ),
    "endless.npz": (
        archive(X=npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999, 0)}"), y=b""),
        "without values",
    ),
    "another size.npz": (
        archive(X=npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9, 9)}"), y=npy("")),
        "of another size than it says",
    ),
    "bomb.npz": (archive(X=npy("", bytes(10**8))), "would unpack to 100,000,"),
    "many arrays.npz": (
        archive(**{f"array {n}": b"" for n in range(5_000)}),
        "has too many arrays",
    ),
    "either order.npz": (
        npz(X=np.ones((12, 4, 3)), y=Y),
        r"may be \[row, time, channel\].* or \[row, channel, time\].*say data.axes=",
    ),
    "square.npz": (npz(X=np.ones((12, 4, 4)), y=Y, lengths=np.full(12, 4)), "say data.axes="),
    "all padding.npz": (npz(X=np.full((12, 4), np.nan), y=Y), "empty series in .*12 rows: row 0"),
    "gap before padding.npz": (
        npz(X=np.tile([1, np.nan, 2, np.nan], (12, 1)), y=Y),
        r"missing values \(NaN\) in .*data.missing=interpolate or data.missing=mask",
    ),
    "labels of steps.npz": (npz(X=X, y=np.tile(Y, (4, 1)).T), "label for each step.*data.window"),
    "empty.npy": ("", "is not an .npy file: save it with numpy.save"),
    "text.npy": (WALKS, "is not an .npy file: save it with numpy.save"),
    "pickle.npy": (pickle.dumps([1, 2]), "is not an .npy file"),
    "zip.npy": (npz(X=X, y=Y), "is not an .npy file"),
    "objects.npy": (saved(OBJECTS), "is an array of Python objects, which could run code"),
    "cut.npy": (saved(X)[:-8], "has another size than it says"),
    "longer.npy": (saved(X) + b"x", "has another size than it says"),
    "cut header.npy": (saved(X)[:40], "has a header that numpy cannot read"),
    "version.npy": (saved(X)[:6] + b"\x09" + saved(X)[7:], "has a header that numpy cannot read"),
    "negative.npy": (
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-2, -1)}", bytes(16)),
        "has a header that numpy cannot read",
    ),
    "nested header.npy": (npy("(" * 5_000), "has a header that numpy cannot read"),
    "large.npy": (
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9, 10000000000)}"),
        "has another size than it says",
    ),
    "no labels.npy": (saved(X), r"has no label file in its folder .*data.labels"),
    "texts.npy": (saved(Y), "has X of type <U1: save it as floats"),
    "one axis.npy": (saved(X.ravel()), r"has X of shape \[48\].*say data.axes=time,channel"),
    "either order.npy": (saved(np.ones((12, 4, 3))), "may be .*say data.axes="),
    "empty.arff": ("", "has no @data line"),
    "not an arff.arff": (WALKS, "is not an .arff file: line 1 comes before @data"),
    "no data.arff": (ARFF.partition("@data")[0], "has no @data line"),
    "no rows.arff": (ARFF, "has no usable rows"),
    "one number.arff": (ARFF.replace("{a,b}", "numeric") + "1,2,3\n1,3,3\n", "only one value of"),
    "text label.arff": (ARFF.replace("{a,b}", "string") + "1,2,a\n", "declares no classes"),
    "dates.arff": (ARFF.replace("t1 numeric", "t1 date"), "an attribute 't1' that is no number"),
    "undeclared.arff": (ARFF + "1,2,a\n1,3,c\n", "label that the header .*row 1"),
    "missing.arff": (ARFF + "1,2,a\n?,3,b\n", r"missing values \(NaN\) in .*line 6"),
    "wide row.arff": (ARFF + "1,2,3,a\n", "wrong number of values in .*row 0"),
    "sparse.arff": (ARFF + "{0 1, 1 2, 2 a}\n", "value that is not a number in .*row 0"),
    "open quote.arff": (ARFF + "1,2,'a\n", "a quote that is not closed in .*row 0"),
    "quote in a series.arff": (
        ARFF.replace("t0 numeric", "bag relational").replace(
            "t1 numeric\n", "t1 numeric\n@end bag\n"
        )
        + "\\n'0.1\\n1.5',a\n",
        "a quote that is not closed in .*row 0",
    ),
    "quote in a class.arff": (
        ARFF.replace("{a,b}", "{a,'b}") + "1,2,a\n",
        "a quote that is not closed in its attribute",
    ),
    "latin-1.arff": ((ARFF + "1,2,é\n").encode("latin-1"), "not UTF-8 in .*row 0"),
    "long line.arff": (ARFF + "1," * (1 << 22), "longer than 4 Mi .*row 0"),
    "endless header.arff": ("@attribute t numeric\n" * 70_000, "more than 65,536 attributes"),
    "alone.wav": (sound(), r"holds no label.*data.label_from=folder"),
    "text.wav": (WALKS, "is broken, or not a .wav file"),
    "cut header.wav": (sound()[:30], "is broken, or not a .wav file"),
    "floats.wav": (sound()[:20] + b"\3\0" + sound()[22:], "is of floats or compressed"),
    "wide samples.wav": (sound()[:34] + b"\x40\0" + sound()[36:], "has samples of 64 bits"),
    "long.wav": (
        sound()[:40] + b"\xff\xff\xff\x7f" + sound()[44:],
        "more than can be read at once",
    ),
    "unknown ending.mat": (b"MATLAB 5.0", "is not a known kind of file"),
}


@pytest.mark.slow
@cases(BROKEN)
def test_a_broken_file_of_series(tmp_path, name, content, said):
    config = compose("data=series_files")
    check_refusal(tmp_path, config, name, content, said)
