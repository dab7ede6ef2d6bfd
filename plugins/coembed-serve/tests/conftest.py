"""A space of seven untrained towers with an index of each, and ways to ask a server of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient

from coembed import Space, load
from coembed.demo.draw import wav
from coembed_serve.app import make
from coembed_serve.library import Library, open_library
from coembed_serve.settings import Settings

TEXTS = ["a red heart", "a blue circle", "an old tree", "sort a list", "<img src=x onerror=alert(1)>"]
CODE = ["def f(x):\n    return x + 1", "class A:\n    pass", "for i in range(3):\n    print(i)"]
DNA = ["ATGGCATTACGATCG" * 3, "GGGCCCAAATTT" * 4, "ATATATATCGCG" * 5]
PROTEINS = ["MKTAYIAKQRQISFVKSHFSRQ", "MADEEKLPPGWEKRMSRSSG", "GAVLIMFWPSTCYNQDEKRH"]
TREE = {
    "directed": True,
    "graph": {"root": 0},
    "nodes": [{"id": 0, "text": "Module"}, {"id": 1, "text": "Expr"}, {"id": 2, "text": "Name <x>"}],
    "edges": [{"source": 0, "target": 1, "type": "body"}, {"source": 1, "target": 2, "type": "value"}],
}
RING = {"nodes": [{"id": i, "text": f"C{i}"} for i in range(5)], "edges": []}
RING = RING | {"edges": [{"source": i, "target": (i + 1) % 5} for i in range(5)]}


def small_space() -> Space:
    """Seven towers of width 32, untrained: an item finds itself, whatever else it finds."""
    small = {"dim": 32, "layers": 1, "heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        towers = {
            "text": load("text/transformer", **small),
            "image": load("image/vit", **small),
            "code": load("code/transformer", **small),
            "audio": load("audio/mel", **small),
            "dna": load("dna/kmer", k=3, canonical=False),
            "protein": load("protein/kmer", k=1),
            "graph": load("graph/wl", rounds=1, dim=64),
        }
        return Space(towers, dim=32, seed=0)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `space`, its indexes, and `media`: 12 pictures and 3 sounds; `secret.png` lies outside."""
    root = tmp_path_factory.mktemp("shop")
    media, space = root / "media", small_space()
    media.mkdir()
    emoji = list(islice(load("samples/emoji"), 12))
    for record in emoji:
        record["image"].save(media / f"{record.id}.png")
    emoji[0]["image"].save(root / "secret.png")
    sounds = [np.sin(np.arange(8000) * pitch / 8).astype(np.float32) for pitch in (1, 2, 3)]
    for at, sound in enumerate(sounds):
        (media / f"{at}.wav").write_bytes(wav(sound, 16000))
    named = {
        "text": (TEXTS, [{"text": text, "n": at} for at, text in enumerate(TEXTS)]),
        "image": (
            [record["image"] for record in emoji],
            [{"path": f"../media/{record.id}.png", "name": record["text"]} for record in emoji],
        ),
        "code": (CODE, [{"text": code, "name": f"f{at}"} for at, code in enumerate(CODE)]),
        "audio": ([(sound, 16000) for sound in sounds], [{"path": str(media / f"{at}.wav")} for at in range(3)]),
        "dna": (DNA, [{"dna": text} for text in DNA]),
        "protein": (PROTEINS, [{"text": text} for text in PROTEINS]),
        "graph": ([TREE, RING], [{"graph": TREE}, {"graph": RING}]),
    }
    space.save(root / "space")
    for tower, (items, payloads) in named.items():
        index = space.index(tower, items, ids=[f"{tower}/{at}" for at in range(len(items))], payloads=payloads)
        index.save(root / "space" / "index" / tower)
    return root


@pytest.fixture(scope="session")
def library(shop: Path) -> Library:
    """The shop's space and indexes, opened."""
    return open_library(Space.load(shop / "space"), shop / "space", [])


@pytest.fixture
def serve(library: Library, shop: Path) -> Iterator[Callable[..., TestClient]]:
    """serve(**settings): a client of a server in this process."""
    with ExitStack() as stack:

        def started(library: Library = library, **given: Any) -> TestClient:
            settings = Settings(**{"media": (shop / "media",), "layout": "pca", "rate": 0, **given})
            client = TestClient(make(library, settings), base_url="http://127.0.0.1", raise_server_exceptions=False)
            return stack.enter_context(client)

        yield started


@pytest.fixture
def client(serve: Callable[..., TestClient]) -> TestClient:
    """A client of a server with no limit on the rate."""
    return serve()


@pytest.fixture(scope="session")
def running(shop: Path) -> Callable[..., Any]:
    """running(*flags): `coembed serve` in a process of its own, as a block with its address and process."""

    @contextmanager
    def block(*flags: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
        command = [sys.executable, "-m", "coembed.cli", "serve", str(shop / "space"), "--port", "0"]
        command += ["--media", str(shop / "media"), "--device", "cpu", *flags]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        environment.pop("COEMBED_TOKEN", None)
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        try:
            assert process.stderr is not None
            said = ""
            for line in process.stderr:
                said += line
                if found := re.search(r"http://\S+", line):
                    break
            else:
                raise AssertionError(f"it did not start: {said}")
            yield found[0], process
        finally:
            process.terminate()
            process.wait(30)

    return block
