"""Write docs/inspect-*.png: screenshots of the page that ``edge-partition inspect --html`` writes.

    python generators/generate_inspect_pages.py

The pictures show MobileNetV3Large and InceptionV3 with seeded weights: on a laptop, InceptionV3's
branches in the dark scheme, and on a phone in both schemes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

_DOCS = Path(__file__).parents[1] / "docs"
_BIN = Path(sys.executable).parent
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
_LAPTOP, _PHONE = (1280, 900), (390, 844)
#: An operator after which four branches of InceptionV3 are open, and the one that joins them.
_IN_BRANCHES, _JOINS = "conv2d_47", "mixed5"


def write_page(model: str, folder: Path) -> str:
    """Run ``edge-partition inspect`` and return the page's URL."""
    path = folder / f"{model}.html"
    words = ["inspect", model, "--weights", "seeded", "--html", str(path)]
    subprocess.run([str(_BIN / "edge-partition"), *words], check=True, stdout=subprocess.DEVNULL)
    return path.as_uri()


@contextmanager
def opened(browser: Any, url: str, size: tuple[int, int], scheme: str) -> Iterator[Any]:
    """Yield the page in a window of ``size`` pixels, in a colour scheme."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(url)
    yield page
    context.close()


def show_parts(page: Any) -> None:
    """Cut into three parts, and read another cut position."""
    page.get_by_role("button", name="Suggested cuts for 3 parts").click()
    chart = page.get_by_role("slider", name="Cut position")
    chart.focus()
    page.keyboard.press("Home")
    for _ in range(6):
        page.keyboard.press("PageUp")
    chart.blur()


def show_operation(page: Any, name: str, match: int) -> None:
    """Search for a wrapped operation and open the details of a match."""
    page.get_by_role("searchbox").fill(name)
    for _ in range(match - 1):
        page.keyboard.press("Enter")
    page.wait_for_timeout(500)


def cut_after(page: Any, layer: str) -> None:
    """Cut after an operator of the graph."""
    page.get_by_role("searchbox").fill(layer)
    page.locator("#graph [data-op]", has_text=layer).first.focus()
    page.keyboard.press("c")


def take_pictures(browser: Any, mobilenet: str, inception: str, folder: Path) -> None:
    """Write the three pictures."""
    with opened(browser, mobilenet, _LAPTOP, "light") as page:
        show_parts(page)
        show_operation(page, "__multiply_1", 2)
        page.screenshot(path=_DOCS / "inspect-laptop.png")
    with opened(browser, inception, _LAPTOP, "dark") as page:
        cut_after(page, _IN_BRANCHES)
        cut_after(page, _JOINS)
        page.get_by_role("searchbox").fill("")
        page.get_by_role("complementary", name="Details").get_by_role("button").first.click()
        page.locator("#graph-card").screenshot(path=_DOCS / "inspect-branches.png")
    phones = []
    for scheme in ("light", "dark"):
        with opened(browser, mobilenet, _PHONE, scheme) as page:
            if scheme == "light":
                show_parts(page)
                page.evaluate("scrollTo(0, 0)")
            else:
                show_operation(page, "__add_1", 1)
                page.evaluate("document.querySelector('#graph-card').scrollIntoView()")
            phones.append(folder / f"{scheme}.png")
            page.screenshot(path=phones[-1])
    write_side_by_side(phones, _DOCS / "inspect-phone.png")


def write_side_by_side(paths: list[Path], path: Path, gap: int = 20) -> None:
    """Write pictures of equal height as one picture."""
    pictures = [Image.open(item).convert("RGB") for item in paths]
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    whole = Image.new("RGB", (width, pictures[0].height), "white")
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width + gap
    whole.save(path, optimize=True)


def main() -> None:
    """Write the pages and their pictures."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        pages = [write_page(model, folder) for model in ("MobileNetV3Large", "InceptionV3")]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
        take_pictures(browser, *pages, folder)
        browser.close()


if __name__ == "__main__":
    main()
