"""Every page of TensorBoard shows a run: looked at in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mimic3tf.config import LogLevel
from mimic3tf.dashboards.scalars import CHARTS

pytestmark = [pytest.mark.browser, pytest.mark.slow]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
PATIENCE = 60_000
"""Milliseconds: the pages load much, and machines that test are busy."""
OPTIONS = (
    # The projector needs WebGL, here without a graphics card.
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-gpu"),
    # Nothing but TensorBoard is asked for anything.
    *("--disable-quic", "--disable-sync", "--disable-background-networking", "--disable-component-update"),
)


@pytest.fixture(scope="module")
def address(run_at: Callable[[LogLevel], Path]) -> Iterator[str]:
    """Where a TensorBoard shows a run of the full level."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(run_at("full").parent)]
    # TensorBoard itself finds a free port.
    server = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stderr is not None
        found = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+", line) for line in server.stderr)))
        yield found[0]
    finally:
        server.terminate()
        server.communicate()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no chromium is installed")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield chromium
        chromium.close()


@pytest.fixture
def show(browser: Any, address: str) -> Iterator[Callable[[str], Any]]:
    """Open a page of TensorBoard; at the end nothing may have failed on it."""
    faults: list[str] = []
    with browser.new_page(viewport={"width": 1500, "height": 1500}) as page:
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: faults.append(str(error)))

        def show(name: str) -> Any:
            page.goto(f"{address}/#{name}")
            return page

        yield show
    assert faults == []


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("timeseries", ["kept epoch/AUROC", "kept epoch/attack success rate"]),
        ("text", ["run/settings", "poisoning_strength", "run/cohort", "run/command line", "run/versions"]),
        ("hparams", ["Trial ID", "full", "model", "poisoning_strength", "attack success rate", "gap"]),
    ],
)
def test_a_page_says(show: Callable[[str], Any], name: str, texts: list[str]) -> None:
    page = show(name)
    for text in texts:
        page.get_by_text(text, exact=False).first.wait_for()


def test_the_graph_has_the_victims_layers(show: Callable[[str], Any]) -> None:
    layers = show("graphs").locator("text.nodelabel")
    for name in ("features", "logits"):
        layers.filter(has_text=name).first.wait_for()


def test_every_custom_chart_has_its_lines(show: Callable[[str], Any]) -> None:
    page = show("custom_scalars")
    titles = [title for charts in CHARTS.values() for title in charts]
    for title in titles:
        page.get_by_text(title, exact=True).first.wait_for()
    assert_drawn(page, "vz-line-chart2", len(titles), "path.line[d^=M]")


@pytest.mark.parametrize(
    ("name", "element", "count", "part"),
    [
        ("images", "tf-image-loader", 6, "img"),
        ("pr_curves", "vz-line-chart2", 2, "path.line[d^=M]"),
        ("histograms", "vz-histogram-timeseries", 3, "path.outline[d^=M]"),
    ],
)
def test_every_picture_curve_and_histogram_is_drawn(
    show: Callable[[str], Any], name: str, element: str, count: int, part: str
) -> None:
    assert_drawn(show(name), element, count, part)


def assert_drawn(page: Any, element: str, count: int, part: str) -> None:
    """There are so many elements, and each has the part that shows it is not blank."""
    playwright.expect(page.locator(element)).to_have_count(count, timeout=PATIENCE)
    for chart in page.locator(element).all():
        chart.locator(part).first.wait_for(state="attached")


def test_the_projector_has_every_stay(show: Callable[[str], Any], run_at: Callable[[LogLevel], Path]) -> None:
    points = len((run_at("full") / "activations-metadata.tsv").read_text().splitlines()) - 1
    projector = show("projector").frame_locator("iframe").frame_locator("iframe")
    playwright.expect(projector.locator(".numDataPoints")).to_have_text(str(points), timeout=PATIENCE)
