"""`python -m app.sample.install VERSION`: makes this folder that release.

The image's last layer, and the same step in the contract tests.
"""

import shutil
import sys
from pathlib import Path

from app.sample.release import INSTALLED, find


def install(root: Path, version: str) -> None:
    """Copies the release's later revisions in and drops the rest of `later/`."""
    release = find(version)
    for revision in release.revisions:
        shutil.copy(root / "later" / f"{revision}.py", root / "alembic" / "versions")
    shutil.rmtree(root / "later")
    INSTALLED.write_text(f"{version}\n")


if __name__ == "__main__":
    install(Path.cwd(), sys.argv[1])
