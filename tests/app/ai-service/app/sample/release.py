"""Which release this image is. Written into the image by its last build step."""

import json
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
INSTALLED = HERE / "installed"


@dataclass(frozen=True)
class Release:
    """A row of releases.json; `revisions` are those beyond 003."""

    version: str
    revisions: tuple[str, ...]
    switches: dict[str, str]

    def has(self, revision: str) -> bool:
        """Whether the models of that revision belong to this release."""
        return revision in self.revisions


def find(version: str) -> Release:
    """The release of that name; an unknown name is an error of the build."""
    table = json.loads((HERE / "releases.json").read_text())
    if version not in table:
        raise SystemExit(f"no release {version!r}: {', '.join(table)}")
    row = table[version]
    return Release(version, tuple(row["revisions"]), row["switches"])


RELEASE = find(INSTALLED.read_text().strip() if INSTALLED.exists() else "1.0.0")
