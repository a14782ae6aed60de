"""Pages looked at by headless Chromium without a driver: a script says what it sees."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

#: Before anything of the page: what goes wrong in it, and what it may not do.
_WATCH = """<script>
window.wrong = [];
addEventListener("error", (e) => wrong.push("error: " + (e.message || e.target.tagName)), true);
addEventListener("unhandledrejection", (e) => wrong.push("rejected: " + e.reason));
addEventListener("securitypolicyviolation", (e) => wrong.push("refused: " + e.blockedURI));
for (const kind of ["error", "warn"]) console[kind] = (...words) => wrong.push(words.join(" "));
</script>"""


def look(page: str, script: str, folder: Path, widths: tuple[int, ...] = (1280, 390)) -> list[Any]:
    """What ``script`` returns for each width: a function's body, the page's window being ``w``."""
    if CHROMIUM is None:
        pytest.skip("needs chromium")
    watched = page.replace("<head>", "<head>" + _WATCH, 1)
    frames = "".join(
        f'<iframe width="{width}" height="900" srcdoc="{html.escape(watched)}"></iframe>'
        for width in widths
    )
    source = f"""<!doctype html><meta charset="utf-8">{frames}<pre id="seen"></pre><script>
    const see = (w) => {{ {script} }};
    addEventListener("load", () => {{
      const found = [...document.querySelectorAll("iframe")].map((frame) => {{
        try {{ return see(frame.contentWindow); }} catch (error) {{ return String(error); }}
      }});
      document.getElementById("seen").textContent = JSON.stringify(found);
    }});</script>"""
    place = folder / "look.html"
    place.write_text(source, encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={folder / 'profile'}",
            "--dump-dom",
            place.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    seen = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.S)
    assert seen is not None, done.stderr
    found: list[Any] = json.loads(html.unescape(seen[1]))
    return found
