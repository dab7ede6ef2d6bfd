"""Serve a space: pictures and words indexed, then searched over HTTP, and from a page with a map.

Pictures go to files and their index names them, so that the page can show them: from the folder that `--media` allows,
and from no other. Words and pictures are searched at once; since scores of two modalities do not compare, each index
says how far its best hit stands out among its own. Needs the space that example 1 writes.

    pip install 'coembed-serve[map]'
    python 01_search_pictures_with_text.py && python 18_serve_a_space.py
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import coembed

space = coembed.Space.load("emoji-space")
emoji = coembed.load("samples/emoji")
nature = [r for r in emoji if r.label.startswith(("animal", "drink", "food", "plant"))]
pictures, folder = Path("emoji-pictures"), Path("emoji-space/index")
pictures.mkdir(exist_ok=True)

ids, payloads = [r.id for r in nature], []
for record in nature:
    record["image"].save(pictures / f"{record.id}.png")
    payloads.append({"path": f"emoji-pictures/{record.id}.png", "name": record["text"].partition(":")[0]})
space.index("image", [r["image"] for r in nature], ids=ids, payloads=payloads).save(folder / "image")
words = [{"text": r["text"], "group": r.label} for r in nature]
space.index("text", [r["text"] for r in nature], ids=ids, payloads=words).save(folder / "text")

command = [sys.executable, "-m", "coembed.cli", "serve", "emoji-space", "--media", str(pictures), "--map", "pca"]
server = subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True)
try:
    address = next(found[0] for line in server.stderr if (found := re.search(r"http://\S+", line)))

    def ask(**asked):
        """A search, as any program in any language would send it."""
        request = Request(f"{address}api/search", json.dumps(asked).encode(), {"Content-Type": "application/json"})
        with urlopen(request) as answer:
            return json.load(answer)

    for title, asked in [
        ("'a slice of bread'", {"tower": "text", "text": "a slice of bread"}),
        ("more like the first picture", {"like": {"index": "image", "id": ids[0]}, "to": ["image"]}),
        ("'fish', animals alone", {"tower": "text", "text": "fish", "where": "'animal' in group", "to": ["text"]}),
    ]:
        print(title)
        for part in ask(**asked, k=3)["found"]:
            print(f"  {part['index']} ({part['standout']:.1f} σ): {', '.join(hit['caption'] for hit in part['hits'])}")
    try:
        ask(tower="image", text="a slice of bread")
    except HTTPError as error:
        print("refused:", json.load(error)["detail"])
finally:
    server.terminate()
    server.wait()
