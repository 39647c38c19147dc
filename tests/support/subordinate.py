"""An ordinary user with subordinate ids, who exists in a mount namespace only: no file of the machine is changed for them.

Their lines of /etc/passwd, group, subuid and subgid lie in copies that are mounted over the machine's for the processes started here.
newuidmap, which is setuid root, reads those like everybody else in the namespace.
"""

import os
import pwd
import shutil
import subprocess
from pathlib import Path

from accounts import Account

NAME = "wbsub"
_ID = 61_234
_FIRST, _COUNT = 20_000_000, 65_536
_FILES = ("passwd", "group", "subuid", "subgid")
# setpriv still has root's capabilities when it looks up the program, so it gets one that is for everybody.
_SCRIPT = 'for f in {files}; do mount --bind "$0/$f" "/etc/$f" || exit; done; exec setpriv --reuid={id} --regid={id} --init-groups env "$@"'


def why_not() -> str:
    """Say why there can be no such user here, or ""."""
    if os.geteuid() != 0:
        return "only root can make a user with subordinate ids"
    missing = [p for p in ("newuidmap", "newgidmap", "setpriv", "unshare") if shutil.which(p) is None]
    if missing:
        return f"no {', '.join(missing)} here (packages uidmap and util-linux)"
    absent = [name for name in _FILES if not Path("/etc", name).exists()]
    if absent:
        return f"no /etc/{absent[0]} to mount another one over"
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return f"no mount namespace: {done.stderr.strip()}" if done.returncode else ""


def account(home: Path, python: str) -> Account:
    """Make the user; their files lie beside the home, which must not exist yet."""
    etc = home.with_name(f"{home.name}-etc")
    etc.mkdir()
    lines = {"passwd": f"{NAME}:x:{_ID}:{_ID}::{home}:/bin/sh", "group": f"{NAME}:x:{_ID}:"}
    for name in _FILES:
        machine = Path("/etc", name).read_text() if name in lines else ""
        (etc / name).write_text(machine + lines.get(name, f"{NAME}:{_FIRST}:{_COUNT}") + "\n")
    script = _SCRIPT.format(files=" ".join(_FILES), id=_ID)
    entry = pwd.struct_passwd((NAME, "x", _ID, _ID, "", str(home), "/bin/sh"))
    return Account(NAME, home, python, entry, ("unshare", "--mount", "sh", "-c", script, str(etc)))
