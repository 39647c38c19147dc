"""A headless Chromium, where there is one: what it makes of a page."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
# Shown in a frame of the wanted width: a window of the browser itself is never narrower than 500 pixels.
_FRAME = """<!doctype html><meta name="color-scheme" content="{scheme}"><body style="margin:0">
<iframe id="page" src="{url}" style="width:{width}px;height:2000px;border:0;color-scheme:{scheme}"></iframe><pre id="seen"></pre><script>
addEventListener("load", () => {{
  const frame = document.getElementById("page"), page = frame.contentDocument, view = frame.contentWindow;
  for (const details of page.querySelectorAll("details")) details.open = true;
  document.getElementById("seen").textContent = JSON.stringify({{
    overflow: page.documentElement.scrollWidth - frame.clientWidth,
    shown: page.getElementById("shown")?.textContent ?? "",
    background: view.getComputedStyle(page.body).backgroundColor,
    title: page.title,
  }});
}});
</script>"""


# Runs axe-core (https://github.com/dequelabs/axe-core) over a copy of the page without its content security policy.
_AXE = """<script>{axe}</script><pre id="seen"></pre><script>
for (const details of document.querySelectorAll("details")) details.open = true;
axe.run(document, {{runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}}).then(found => {{
  document.getElementById("seen").textContent = JSON.stringify(found.violations.map(
    each => [each.impact, each.id, each.nodes.slice(0, 3).map(node => node.html)]));
}});
</script></body>"""


def chromium() -> str | None:
    """Give the browser's path, if there is one."""
    return shutil.which("chromium") or shutil.which("google-chrome")


def computed(page: Path, scratch: Path, *, width: int, dark: bool) -> dict[str, Any]:
    """Show a page `width` pixels wide; gives overflow, background, title, the filter's words and what the console said."""
    frame = scratch / "frame.html"
    frame.write_text(_FRAME.format(url=page.as_uri(), width=width, scheme="dark" if dark else "light"))
    # Files may read each other here, so that the frame can look into the page.
    own = (f"--user-data-dir={scratch / 'profile'}", "--allow-file-access-from-files", "--enable-logging=stderr", "--v=0")
    command = [str(chromium()), *_FLAGS, *own, "--window-size=1400,2100", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout + done.stderr
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return {**json.loads(unescape(found[1])), "complaints": complaints}


def axe() -> Path | None:
    """Give the path of axe-core's script, when WEIGHBRIDGE_AXE names one (`npm install axe-core`: node_modules/axe-core/axe.min.js)."""
    named = os.environ.get("WEIGHBRIDGE_AXE", "")
    return Path(named) if named else None


def violations(page: Path, scratch: Path, script: Path, *, dark: bool) -> list[tuple[str, str, list[str]]]:
    """Give what axe-core has against a page: impact, rule, examples."""
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    copy = scratch / f"axe-{'dark' if dark else 'light'}.html"
    copy.write_text(text.replace("</body>", _AXE.format(axe=script.read_text())))
    own = (f"--user-data-dir={scratch / 'profile-axe'}", "--virtual-time-budget=20000", "--window-size=1280,2000")
    scheme = ("--blink-settings=preferredColorScheme=0",) if dark else ("--blink-settings=preferredColorScheme=1",)
    command = [str(chromium()), *_FLAGS, *own, *scheme, "--dump-dom", copy.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=180)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    assert found[1], "axe-core did not end"
    return [(impact, rule, nodes) for impact, rule, nodes in json.loads(unescape(found[1]))]
