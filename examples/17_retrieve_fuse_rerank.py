"""Retrieve, fuse, refine: words and vectors find candidates, a slower reader orders them.

BM25 counts shared words, a frozen MiniLM compares meanings, and reciprocal rank fusion takes both lists. Then late
interaction (a vector a token, MaxSim) reads the first fifty again. The report shows recall after every stage: a
reranker can only order what it was given, so its ceiling is what was found before it.

    pip install coembed 'coembed-text[minilm]' coembed-samples coembed-retrieval
"""

import coembed
from coembed import Space, Tower
from coembed_retrieval import BM25, Dense, LateInteraction, Pipeline, Rerank, project_out

# Functions of Python's standard library, their own names hidden: which one does a docstring describe?
source = coembed.load("samples/stdlib", name="hidden")
records = [r for r in source if len(r["code"]) < 400 and len(r["text"]) < 120][::6]
ids, code = [r.id for r in records], [r["code"] for r in records]
payloads = [{"module": r.group, "text": r["code"]} for r in records]

minilm = coembed.load("text/minilm")  # reads text and code alike, and nothing trains here
space = Space({name: Tower(minilm, "identity") for name in ("text", "code")})
tokens = Space({name: Tower(minilm, "identity", pool="none") for name in ("text", "code")})

dense = Dense(space, "text", space.index("code", code, ids=ids, payloads=payloads))
words = BM25(tokenize="code")  # identifiers, and the words that they are made of
words.add(ids, code, payloads)
late = LateInteraction(tokens, "text", tokens.index("code", code, ids=ids))

pipeline = Pipeline([dense, words], fuse="rrf", rerank=[Rerank(late, depth=50)])
queries, right = [r["text"] for r in records[::2]], [{r.id} for r in records[::2]]
print(f"{len(queries)} docstrings, {len(records)} functions\n{pipeline.report(queries, right)}")

query = "number of days in a month"
print(f"\n'{query}' finds")
for hit in pipeline.search([query], k=3)[0]:
    print(f"  {hit.score:6.2f}  {hit.id}")
print("and, of two modules only,")
for hit in pipeline.search([query], k=3, where="module in ['datetime', 'calendar']")[0]:
    print(f"  {hit.score:6.2f}  {hit.id}")

# A negation: what a word spans is taken out of the query's vector (DECOR; measured in recipes/decor.py).
both, without = space.encode("text", ["read a file of a zip archive"]), space.encode("text", ["zip archive"])
for what, row in (("as asked", both), ("without 'zip archive'", project_out(both, without))):
    print(f"\n'read a file of a zip archive', {what}")
    for hit in dense.index.search(row, k=3)[0]:
        print(f"  {hit.score:6.2f}  {hit.id}")
