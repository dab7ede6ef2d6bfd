"""Make coembed_samples/data/sounds from Debian's package sonic-pi-samples.

    apt-get download sonic-pi-samples
    dpkg -x sonic-pi-samples_*.deb debian
    python tools/build_sounds.py debian [--check]

Takes the sounds that the package's copyright file puts under CC0: the first second, channels averaged, at 16 kHz, as
16-bit FLAC. With --check nothing is written; what is carried is compared with what would be. Needs soundfile and
torchaudio.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np
import soundfile
import torch
from torchaudio.functional import resample

RATE = 16_000
TARGET = Path(__file__).parents[1] / "coembed_samples" / "data" / "sounds"


def listed(copyright_file: Path) -> dict[str, dict[str, str]]:
    """Name -> author and source of every sample under CC0, by name."""
    found: dict[str, dict[str, str]] = {}
    for paragraph in copyright_file.read_text("utf-8").split("\n\n"):
        fields = dict(re.findall(r"^([\w-]+):\s*(.*(?:\n\s+.*)*)", paragraph, re.MULTILINE))
        if fields.get("License", "").strip() != "CC0":
            continue
        source = re.search(r"https?://\S+", paragraph)  # one paragraph has lost the name of the field
        for path in fields.get("Files", "").split():
            if path.startswith("etc/samples/"):
                author = re.sub(r"^\d{4}\s+", "", fields["Copyright"].strip())
                author = re.sub(r"\s*<.*>", "", author)
                found[Path(path).stem] = {"author": author, "source": source.group() if source else ""}
    return dict(sorted(found.items()))


def first_second(path: Path) -> np.ndarray:
    """Mono int16 samples at 16 kHz."""
    with soundfile.SoundFile(path) as file:
        rate = file.samplerate
        samples = file.read(frames=rate, dtype="float32", always_2d=True).mean(1)
    wave = resample(torch.from_numpy(samples), rate, RATE).numpy()[:RATE]
    return (np.clip(wave, -1, 1) * 32767).round().astype(np.int16)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("debian", type=Path, help="the package, unpacked")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    index = listed(arguments.debian / "usr/share/doc/sonic-pi-samples/copyright")
    text = json.dumps(index, indent=0, ensure_ascii=False) + "\n"
    folder = arguments.debian / "usr/share/sonic-pi/samples"
    waves = {name: first_second(folder / f"{name}.flac") for name in index}
    if arguments.check:
        wrong = [] if (TARGET / "index.json").read_text("utf-8") == text else ["index.json"]
        for name, wave in waves.items():
            carried, rate = soundfile.read(TARGET / f"{name}.flac", dtype="int16")
            # one step of 16 bits: resamplers of other versions and machines may round otherwise
            same = rate == RATE and carried.shape == wave.shape and np.abs(carried.astype(int) - wave).max() <= 1
            wrong += [] if same else [name]
        wrong += [path.name for path in TARGET.glob("*.flac") if path.stem not in index]
        print(f"{len(index)} sounds, different: {', '.join(wrong) or 'none'}")
        return bool(wrong)
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "index.json").write_text(text, "utf-8")
    for name, wave in waves.items():
        soundfile.write(TARGET / f"{name}.flac", wave, RATE, subtype="PCM_16", compression_level=1.0)
    print(f"{len(index)} sounds, {sum(path.stat().st_size for path in TARGET.iterdir()) / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
