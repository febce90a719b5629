# SPDX-License-Identifier: Apache-2.0
"""Take a picture of a report's button, and of the page that it opens.

Run after `make demo`, where Chromium is installed:

python docs/figures/view.py docs/images/view.png --run demo
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from pathlib import Path

from PIL import Image

from monai_ext.apps.view import ViewServer, find_viewed
from tests.browser import Browser

SIZE = (1300, 900)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--run", required=True, type=Path, help="folder of an evaluation")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ViewServer(find_viewed([args.run])) as server:
        folder = Path(name)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Browser(folder, SIZE) as browser:
            browser.open(f"{server.url}report/0")
            browser.run("document.querySelector('.button').scrollIntoView({block: 'center'})")
            browser.picture(folder / "report.png")
            browser.click(".button")
            browser.wait("return document.body.dataset.state === 'ready' && state.layer")
            time.sleep(2)  # until it is drawn
            browser.picture(folder / "page.png")
        server.shutdown()
        report, page = (Image.open(folder / f"{part}.png").convert("RGB") for part in ("report", "page"))
        middle = report.height // 2
        strip = report.crop((0, middle - 40, report.width, middle + 200))
        both = Image.new("RGB", (page.width, strip.height + page.height + 8), "#3b6ea8")
        both.paste(strip, (0, 0))
        both.paste(page, (0, strip.height + 8))
        both.resize((both.width * 4 // 5, both.height * 4 // 5), Image.Resampling.LANCZOS).save(
            args.output, optimize=True
        )


if __name__ == "__main__":
    main()
