"""Print the first page that the search of the built site finds for each of some words.

The search runs in a headless Chromium, as a reader's does::

    python docs/check_search.py docs/_build/html GPU "early stopping"

Without words, those of ``docs/_ext/search_words.py`` are searched, and the exit status
says whether each finds its page first.
"""

from __future__ import annotations

import argparse
import functools
import html
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from search_words import WORDS

EXPECTED = {word: page for page, words in WORDS.items() for word in words}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that does not print its requests."""

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder, and give its address."""
    handler = functools.partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def hits(browser: str, address: str, word: str) -> list[str]:
    """Return the pages that the search finds, best first, without ``.html``."""
    page = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=20000",
            "--dump-dom",
            f"{address}/search.html?q={quote(word)}",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    _, _, results = page.partition('id="search-results"')
    links = re.findall(r'<li[^>]*><a href="([^"?#]*)', results)
    return [html.unescape(link).removesuffix(".html") for link in links]


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, search and print; return the exit status."""
    parser = argparse.ArgumentParser(description="Search the built site.")
    parser.add_argument("site", type=Path, help="folder of the built HTML")
    parser.add_argument("words", nargs="*")
    args = parser.parse_args(arguments)
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"none of {', '.join(BROWSERS)} is installed", file=sys.stderr)
        return 2
    failed = False
    with served(args.site) as address:
        for word in args.words or EXPECTED:
            found = hits(browser, address, word)
            first = found[0] if found else "nothing"
            expected = EXPECTED.get(word)
            wrong = expected is not None and first != expected
            failed |= wrong
            print(f"{word}: {first}" + (f", not {expected}" if wrong else ""))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
