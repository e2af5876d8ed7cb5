"""The report's page as headless Chromium renders it."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from attnlstm.inference.report.classification import ClassificationReport
from attnlstm.inference.report.multilabel import MultilabelReport
from attnlstm.inference.report.regression import RegressionReport
from tests.inference.report.rows import NAMES, example, numbers, several, word_spans

pytestmark = pytest.mark.slow


def first_words(text):
    return word_spans(text)[:6]


def write(path, report, rows, title="Predictions"):
    for row in rows:
        report.add(row)
    report.write(path, title=title)
    return path.read_text(encoding="utf-8")


BROWSER = next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None
)
LOOK = """
const frames = Array.from(document.querySelectorAll("iframe"));
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
function colour(...layers) {
  for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); }
  return Array.from(canvas.getImageData(0, 0, 1, 1).data).slice(0, 3);
}
function look(frame) {
  const page = frame.contentDocument, style = (e) => frame.contentWindow.getComputedStyle(e);
  const card = page.querySelector(".card"), behind = style(card).backgroundColor;
  const shown = () => [...page.querySelectorAll(".card")]
    .filter((c) => c.getBoundingClientRect().height > 0)
    .map((c) => c.querySelector("h3").textContent);
  const filtered = (values) => {
    for (const [key, value] of Object.entries(values)) {
      const select = page.getElementById("filter-" + key);
      select.value = value;
      select.dispatchEvent(new Event("change", { bubbles: true }));
    }
    return [shown(), page.getElementById("shown").textContent];
  };
  return {
    width: page.documentElement.scrollWidth,
    requests: frame.contentWindow.performance.getEntriesByType("resource").length,
    card: colour(behind),
    tokens: [...card.querySelectorAll(".token")].map((t) => ({
      weight: Number(t.dataset.weight),
      shade: colour(behind, style(t).backgroundColor),
      text: colour(style(t).color),
    })),
    dimmed: [...card.querySelectorAll(".unread")].map((e) => colour(style(e).color)),
    shades: [...card.querySelectorAll("rect")].map((r) => ({
      weight: Number(r.dataset.weight), shade: colour(behind, style(r).fill),
      left: r.getBoundingClientRect().left, right: r.getBoundingClientRect().right,
    })),
    lines: [...card.querySelectorAll("polyline")].map((l) => style(l).stroke),
    plot: ["left", "right"].map((s) => card.querySelector(".lines")?.getBoundingClientRect()[s]),
    filters: [{}, { predicted: "0" }, { true: "1" }, { predicted: "" }, { result: "right" }]
      .map((values) => page.getElementById("filter-true") ? filtered(values) : null),
    marks: [...page.querySelectorAll(".classes .error, .classes .right")]
      .map((e) => colour(behind, style(e).color)),
    labels: [...page.querySelectorAll(".scatter text")].map((e) => colour(behind, style(e).fill)),
    points: [...page.querySelectorAll("circle")].map((e) => {
      const box = e.getBoundingClientRect();
      return [box.left + box.width / 2, box.top + box.height / 2, box.width];
    }),
    alerts: frame.contentWindow.alerted === true,
  };
}
window.addEventListener("load", () => {
  const found = document.createElement("pre");
  found.id = "found";
  found.textContent = JSON.stringify(frames.map(look));
  frames.forEach((frame) => frame.remove());
  document.body.append(found);
});
"""


@pytest.fixture(scope="module", params=["light", "dark"])
def looks(request, tmp_path_factory):
    """What a browser renders for five pages at two widths, by `(name, width)`."""
    if BROWSER is None:
        pytest.skip("there is no chromium or google-chrome here")
    folder = tmp_path_factory.mktemp("browser")
    text = "of all these words the last were not read, and " + "unread" * 50
    names = ["<script>alerted = true</script>", "a" * 10_000, "third"]
    classes = ClassificationReport(NAMES, first_words, 300)
    hostile = ClassificationReport(names, first_words, 300)
    several_classes = MultilabelReport(NAMES, None, 300)
    two_numbers = RegressionReport(["price", names[0]], None, 300, np.zeros(2), np.ones(2))
    pages = {
        "texts": (classes, [
            example(0, 0, 0.9, NAMES[1], text=text,
                    attention=[0.02, 0.3, 0.06, 0.5, 0.0, 0.12]),
            example(1, 0, 0.8, NAMES[0], text="b"),
            example(2, 1, 0.7, NAMES[1], text="c"),
            example(3, 1, 0.6, NAMES[2], text="d"),
        ]),
        "series": (ClassificationReport(NAMES, None, 300), [
            example(0, series=np.arange(40.0).reshape(5, 8), attention=[0.1, 0.4, 0.2, 0.0, 0.3])
        ]),
        "hostile": (hostile, [
            example(0, 0, 0.5, names[1], names=names, text='"><img src=x onerror=alerted=true>' * 9)
        ]),
        "several": (several_classes, [
            several(0, ("first", "third"), [0.9, 0.1, 0.8], ("first", "second")),
            several(1, ("first",), [0.8, 0.3, 0.1], ("first", "second")),
            several(2, ("second",), [0.2, 0.9, 0.1], ("second",)),
        ]),
        "numbers": (two_numbers, [
            numbers(0, [1e6, 0.0], ("0", "1"), half_width=2),
            numbers(1, [0.0, -1.0], ("1e6", "0"), half_width=2),
        ]),
    }  # fmt: skip
    keys, frames = [], []
    for name, (report, rows) in pages.items():
        title = names[1] if name == "hostile" else "Predictions"
        source = write(folder / f"{name}.html", report, rows, title)
        for width in (360, 1200):
            keys.append((name, width))
            frames.append(
                f'<iframe style="width:{width}px; height:800px; border:0" '
                f'srcdoc="{html.escape(source)}"></iframe>'
            )
    (folder / "look.html").write_text(
        "<!doctype html><meta charset=utf-8><style>:root { color-scheme: light dark }</style>"
        f"<body>{''.join(frames)}<script>{LOOK}</script>",
        encoding="utf-8",
    )
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += [f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=5000"]
    command += [f"--blink-settings=preferredColorScheme={int(request.param == 'light')}"]
    command += ["--window-size=1400,1000", "--dump-dom", (folder / "look.html").as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search('<pre id="found">(.*)</pre>', result.stdout).group(1)
    return request.param, dict(zip(keys, json.loads(html.unescape(found)), strict=True))


def luminance(colour):
    """Return the luminance of sRGB values from 0 to 255, as defined by WCAG 2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
              for c in (part / 255 for part in colour)]  # fmt: skip
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def strength(shade, card):
    return np.linalg.norm(np.subtract(shade, card))


def test_shading_grows_with_the_weight(looks):
    _, pages = looks
    for name, kind, count in (("texts", "tokens", 5), ("series", "shades", 4)):
        look = pages[name, 1200]
        parts = sorted(look[kind], key=lambda part: part["weight"])
        strengths = [strength(part["shade"], look["card"]) for part in parts]
        assert len(parts) == count
        assert strengths == sorted(strengths)
        assert len(set(strengths)) == count
        shares = np.array([part["weight"] for part in parts]) / parts[-1]["weight"]
        assert np.allclose(np.divide(strengths, strengths[-1]), shares, atol=0.03)


def test_texts_are_legible_in_light_and_dark_mode(looks):
    scheme, pages = looks
    look = pages["texts", 1200]
    assert (luminance(look["card"]) > 0.5) == (scheme == "light")
    for token in look["tokens"]:
        assert contrast(token["text"], token["shade"]) >= 4.5
    assert contrast(look["dimmed"][0], look["card"]) >= 4.5
    strongest = max(look["tokens"], key=lambda token: token["weight"])
    assert contrast(strongest["shade"], look["card"]) >= 1.5


def test_filters_combine(looks):
    _, pages = looks
    assert pages["texts", 360]["filters"] == [
        [["row 0", "row 3", "row 2", "row 1"], "4 of 4 shown"],
        [["row 0", "row 1"], "2 of 4 shown"],  # predicted first
        [["row 0"], "1 of 4 shown"],  # and second is true
        [["row 0", "row 2"], "2 of 4 shown"],  # second is true
        [["row 2"], "1 of 4 shown"],  # and right
    ]


def test_a_row_of_several_classes_matches_each_of_them(looks):
    _, pages = looks
    assert pages["several", 360]["filters"] == [
        [["row 0", "row 1", "row 2"], "3 of 3 shown"],
        [["row 0", "row 1"], "2 of 3 shown"],  # predicted first
        [["row 0", "row 1"], "2 of 3 shown"],  # and second is true
        [["row 0", "row 1", "row 2"], "3 of 3 shown"],  # second is true
        [["row 2"], "1 of 3 shown"],  # and right
    ]


def test_marks_and_axes_are_legible_in_light_and_dark_mode(looks):
    _, pages = looks
    for name, kind, count in (("several", "marks", 6), ("numbers", "labels", 26)):
        look = pages[name, 1200]
        assert len(look[kind]) == count
        assert all(contrast(colour, look["card"]) >= 4.5 for colour in look[kind])


def test_scatter_plots_are_square(looks):
    _, pages = looks
    for width in (360, 1200):
        (right, low, _), (left, high, size) = sorted(pages["numbers", width]["points"][:2])[::-1]
        assert right - left == pytest.approx(low - high, abs=2)
        assert right - left > 150
        assert size > 3


def test_series_are_aligned_with_their_attention(looks):
    _, pages = looks
    for width in (360, 1200):
        look = pages["series", width]
        assert len(set(look["lines"])) == 8
        left, right = look["plot"]
        step = (right - left) / 5
        for shade, number in zip(look["shades"], (0, 1, 2, 4), strict=True):
            assert shade["left"] == pytest.approx(left + number * step, abs=2)
            assert shade["right"] == pytest.approx(left + (number + 1) * step, abs=2)


def test_no_page_scrolls_sideways_runs_its_data_or_sends_requests(looks):
    _, pages = looks
    for (_, width), look in pages.items():
        assert look["width"] <= width
        assert look["requests"] == 0
        assert not look["alerts"]
