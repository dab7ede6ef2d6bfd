"""Folder: files that share a stem as the items of one record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from coembed.sources.base import Record, Source
from coembed.sources.columns import SourceError
from coembed.sources.tiny import ROWS


class Folder(Source):
    """Files of a folder and those below it; `cat.png` and `cat.txt` make one record, whose id is `cat`.

    `towers` maps names to suffixes. Files whose suffix is in `text` are read as UTF-8 (without the last line break);
    the others are given as paths, which encoders read. `group="folder"` and `label="folder"` take the name of the
    folder that the file lies in ("" at the top: none), as data sets of one folder a class are laid out. Hidden files
    are left out. Raises ValueError for malformed `towers`, NotADirectoryError, and SourceError for a tower without any
    file, two files for one item, or text that is not UTF-8.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp())
    >>> _ = (path / "cat.txt").write_text("a cat"), (path / "cat.png").write_bytes(b"...")
    >>> record = Folder(path, towers={"image": [".png", ".jpg"], "text": ".txt"})[0]
    >>> record.id, record["text"], record["image"].name
    ('cat', 'a cat', 'cat.png')
    """

    def __init__(
        self,
        path: Path | str,
        towers: Mapping[str, str | Sequence[str]],
        *,
        group: str | None = None,
        label: str | None = None,
        text: Sequence[str] = (".txt", ".md"),
    ) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise NotADirectoryError(f"{self.path}: no such folder")
        if not isinstance(towers, Mapping) or not towers:
            raise ValueError(
                f"{self.path}: a folder needs towers={{'image': ['.png'], 'text': ['.txt']}}, got {towers!r}"
            )
        for name, given in (("group", group), ("label", label)):
            if given not in (None, "folder"):
                raise ValueError(f"{self.path}: {name}={given!r}: of files it can only be 'folder', or None")
        self._towers: dict[str, str] = {}  # suffix to tower
        for tower, suffixes in towers.items():
            for suffix in [suffixes] if isinstance(suffixes, str) else suffixes:
                if not suffix.startswith("."):
                    raise ValueError(f"{self.path}: tower {tower!r}: suffix {suffix!r} must begin with a dot")
                if self._towers.setdefault(suffix.lower(), tower) != tower:
                    other = self._towers[suffix.lower()]
                    raise ValueError(f"{self.path}: suffix {suffix!r} is given to two towers, {other!r} and {tower!r}")
        self._group, self._label = group, label
        self._text = tuple(suffix.lower() for suffix in text)

    @classmethod
    def tiny(cls, folder: Path) -> Self:
        """Texts and code of eight animals, in four folders."""
        for row in ROWS:
            place = folder / "pairs" / row["group"]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{row['id']}.txt").write_text(row["text"], encoding="utf-8")
            (place / f"{row['id']}.py").write_text(row["code"], encoding="utf-8")
        return cls(folder / "pairs", {"text": ".txt", "code": ".py"}, group="folder")

    @property
    def towers(self) -> tuple[str, ...]:
        """The towers that suffixes were given for."""
        return tuple(dict.fromkeys(self._towers.values()))

    def __len__(self) -> int:
        return len(self._stems())

    def __iter__(self) -> Iterator[Record]:
        for stem, paths in sorted(self._stems().items()):
            items = {tower: self._item(paths[tower]) for tower in self.towers if tower in paths}
            parent = stem.rpartition("/")[0] or None
            yield Record(
                {tower: item for tower, item in items.items() if item != ""},
                id=stem,
                group=parent if self._group else None,
                label=parent if self._label else None,
            )

    def _stems(self) -> dict[str, dict[str, Path]]:
        """The file of every tower, by the path without suffix."""
        found: dict[str, dict[str, Path]] = {}
        others: set[str] = set()
        for path in sorted(self.path.rglob("*")):
            inside = path.relative_to(self.path)
            if not path.is_file() or any(part.startswith(".") for part in inside.parts):
                continue
            suffix = max((s for s in self._towers if path.name.lower().endswith(s)), key=len, default=None)
            if suffix is None:
                others.add(path.suffix)
                continue
            tower = self._towers[suffix]
            paths = found.setdefault(inside.as_posix()[: -len(suffix)], {})
            if tower in paths:
                raise SourceError(
                    f"{self.path}: {paths[tower].name} and {path.name} are both the {tower} of one record"
                )
            paths[tower] = path
        for tower in self.towers:
            if not any(tower in paths for paths in found.values()):
                wanted = ", ".join(suffix for suffix, name in self._towers.items() if name == tower)
                have = ", ".join(sorted(others | {p.suffix for ps in found.values() for p in ps.values()})) or "no file"
                raise SourceError(f"{self.path}: no file for tower {tower!r} ({wanted}); the folder has {have}")
        return found

    def _item(self, path: Path) -> str | Path:
        if not path.name.lower().endswith(self._text):
            return path
        try:
            return path.read_text(encoding="utf-8-sig").removesuffix("\n")
        except UnicodeDecodeError as error:
            raise SourceError(f"{path}: UTF-8 text is expected ({error})") from error
