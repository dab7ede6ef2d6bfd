"""Under load: 64 clients at once, no error, memory that does not grow; `COEMBED_LOAD_SECONDS` says for how long."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

CLIENTS = 64
WORDS = ("a red heart", "an old tree", "sort a list", "a blue circle")


@pytest.mark.slow
def test_64_clients_get_answers_and_memory_stays(running: Any, shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    psutil, httpx2 = pytest.importorskip("psutil"), pytest.importorskip("httpx2")
    seconds = float(os.environ.get("COEMBED_LOAD_SECONDS", "5"))
    picture = sorted((shop / "media").glob("*.png"))[0].read_bytes()
    times: list[float] = []
    wrong: list[str] = []

    async def one(client: Any, number: int, until: float) -> None:
        count = 0
        while time.monotonic() < until:
            count += 1
            began = time.perf_counter()
            try:
                if (number + count) % 8 == 0:
                    answer = await client.post(
                        "/api/search/file", files={"file": ("x.png", picture)}, data={"tower": "image"}
                    )
                else:
                    text = f"{WORDS[count % 4]} {number} {count}"
                    answer = await client.post("/api/search", json={"tower": "text", "text": text, "k": 5})
            except httpx2.HTTPError as error:
                wrong.append(repr(error))
                continue
            times.append(time.perf_counter() - began)
            if answer.status_code != 200:
                wrong.append(f"{answer.status_code} {answer.text[:200]}")

    async def all_of_them(address: str, span: float) -> None:
        limits = httpx2.Limits(max_connections=CLIENTS)
        async with httpx2.AsyncClient(base_url=address, timeout=30, limits=limits) as client:
            until = time.monotonic() + span
            await asyncio.gather(*(one(client, number, until) for number in range(CLIENTS)))

    with running("--map", "pca", "--rate", "0") as (address, process):
        memory = psutil.Process(process.pid).memory_info
        asyncio.run(all_of_them(address, seconds / 2))  # caches and pools reach their size
        times.clear()
        before = memory().rss
        asyncio.run(all_of_them(address, seconds))
        grown = memory().rss - before
        assert wrong == []
        assert len(times) > CLIENTS
        assert grown < 64 << 20
    times.sort()
    with capsys.disabled():
        at = {share: 1000 * times[int(share / 100 * (len(times) - 1))] for share in (50, 99)}
        print(
            f"\n{len(times) / seconds:.0f} requests/s, p50 {at[50]:.0f} ms, p99 {at[99]:.0f} ms, "
            f"{before >> 20} MB resident, {grown / 2**20:+.1f} MB over {seconds:g} s"
        )
