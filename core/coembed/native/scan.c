/* A batch of queries against int8 rows on the matrix tiles of AMX, which multiply bytes and add in int32, exactly; and
   which pairs may be among the best, so that hardly a product is ever written down.

   All is in units of the products. For a row with the remainder `rest` and a query with `norm` (both in those units) a
   score is within `norm * rest` and the query's own error of its product. A heap keeps each query's k best lower
   bounds, product - norm * rest; the least of them, less `gap`, which is twice the query's error, is a bar that an
   upper bound, product + norm * rest, must reach. */
#define _GNU_SOURCE
#include "native.h"
#include "team.h"

#include <math.h>
#include <string.h>

enum { BLOCK = 64, GROUP = 4 * TILE_ROWS, AHEAD = 4 }; /* rows and queries taken at once; tiles fetched before */
#define SLACK 1e-9 /* relative: doubles are better than that */

static inline size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* 16 rows times up to four tiles of 16 queries, to out [4][16][16]. Rows that come later are fetched meanwhile: these
   are read in a pattern that the machine doesn't foresee. */
__attribute__((target(AMX))) static inline void product(const int8_t *a, size_t stride, size_t steps, const int8_t *b,
                                                        size_t tiles, const int8_t *later, int32_t *out) {
    size_t across = steps * TILE;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t step = 0; step < steps; step++, a += TILE_BYTES, b += TILE) {
        if (later)
            for (size_t row = 0; row < TILE_ROWS; row++, later += TILE_BYTES) _mm_prefetch(later, _MM_HINT_T1);
        _tile_loadd(4, a, stride);
        _tile_loadd(5, b, TILE_BYTES);
        _tile_dpbssd(0, 4, 5);
        if (tiles > 1) {
            _tile_loadd(6, b + across, TILE_BYTES);
            _tile_dpbssd(1, 4, 6);
        }
        if (tiles > 2) {
            _tile_loadd(7, b + 2 * across, TILE_BYTES);
            _tile_dpbssd(2, 4, 7);
        }
        if (tiles > 3) {
            _tile_loadd(5, b + 3 * across, TILE_BYTES);
            _tile_dpbssd(3, 4, 5);
        }
    }
    _tile_stored(0, out, TILE_BYTES);
    _tile_stored(1, out + 256, TILE_BYTES);
    _tile_stored(2, out + 512, TILE_BYTES);
    _tile_stored(3, out + 768, TILE_BYTES);
}

/* Where to read 16 rows: where they are, or, of the last, a copy with zeros after it: nothing beyond `end` is read.
   What a tile holds of the next row, where rows are no multiple of 64 wide, meets zeros of the query. */
static const int8_t *tile_at(const int8_t *codes, size_t width, size_t row, size_t end, int8_t *copy, size_t *stride) {
    size_t padded = (width + TILE_BYTES - 1) / TILE_BYTES * TILE_BYTES;
    *stride = width;
    if ((row + TILE_ROWS - 1) * width + padded <= end * width) return codes + row * width;
    memset(copy, 0, TILE_ROWS * padded);
    for (size_t r = 0; r < least(TILE_ROWS, end - row); r++) memcpy(copy + r * padded, codes + (row + r) * width, width);
    *stride = padded;
    return copy;
}

typedef struct {
    const int8_t *codes, *packed;
    size_t width, n, size, queries; /* `size` rows of the n are a part */
    int8_t *copies;                 /* room for 16 filled rows for each part */
    int32_t *out;
} plain;

__attribute__((target(AMX))) static void multiply(const void *job, size_t part) {
    const plain *p = job;
    size_t steps = (p->width + TILE_BYTES - 1) / TILE_BYTES, stride, end = least(p->n, (part + 1) * p->size);
    int32_t sums[4 * 256] __attribute__((aligned(64)));
    tile_config before;
    tiles_begin(&before);
    for (size_t row = part * p->size; row < end; row += TILE_ROWS) {
        const int8_t *a = tile_at(p->codes, p->width, row, end, p->copies + part * steps * TILE, &stride);
        for (size_t query = 0; query < p->queries; query += GROUP) {
            size_t here = least(GROUP, p->queries - query);
            product(a, stride, steps, p->packed + query * steps * TILE_BYTES, (here + 15) / 16, NULL, sums);
            for (size_t r = 0; r < least(TILE_ROWS, end - row); r++)
                for (size_t col = 0; col < here; col += 16) {
                    __mmask16 mask = leading(here - col);
                    int32_t *to = p->out + (row + r) * p->queries + query + col;
                    _mm512_mask_storeu_epi32(to, mask, _mm512_load_si512(sums + col * 16 + r * 16));
                }
        }
    }
    tiles_end(&before);
}

/* Products of codes [n, width] with queries packed as tiles [queries / 16][width / 64], to out [n, queries], in parts of
   `size` rows; `copies` has room for 16 rows, filled up to 64, for each part. */
EXPORT void ce_products(const int8_t *codes, size_t width, size_t n, size_t size, const int8_t *packed, size_t queries,
                        int8_t *copies, int32_t *out) {
    plain p = {codes, packed, width, n, size, queries, copies, out};
    together(multiply, &p, (n + size - 1) / size);
}

typedef struct {
    size_t queries, k, count, room;
    const float *rest;
    const double *norm, *gap;
    double *bar, *best;
    int32_t *rows, *which, *values;
} state;

/* Least product that reaches a query's bar, of 64 queries, in rows whose remainder is at most `rest`. Without a bar, and
   where a bound is no number, all do: converting gives the least int32. */
__attribute__((target(AMX))) static void limits(const state *s, size_t query, double rest, int32_t *out) {
    const __m512d worst = _mm512_set1_pd(rest), slack = _mm512_set1_pd(SLACK), one = _mm512_set1_pd(1);
    for (size_t i = query; i < query + GROUP; i += 8, out += 8) {
        __mmask8 mine = i + 8 <= s->queries ? 0xff : i < s->queries ? (__mmask8)((1u << (s->queries - i)) - 1) : 0;
        __m512d bar = _mm512_maskz_loadu_pd(mine, s->bar + i);
        __m512d reach = _mm512_mul_pd(_mm512_maskz_loadu_pd(mine, s->norm + i), worst);
        __m512d off = _mm512_fmadd_pd(_mm512_add_pd(_mm512_abs_pd(bar), reach), slack, one);
        __m512d limit = _mm512_sub_pd(_mm512_sub_pd(bar, reach), off);
        limit = _mm512_min_pd(_mm512_set1_pd(INT32_MAX - 1), limit); /* the second where one is no number */
        limit = _mm512_max_pd(_mm512_set1_pd(INT32_MIN), limit);
        __m256i whole = _mm512_cvttpd_epi32(limit);
        _mm256_store_si256((__m256i *)out, _mm256_mask_mov_epi32(_mm256_set1_epi32(INT32_MAX), mine, whole));
    }
}

/* The largest of some remainders, none of which is below zero. */
__attribute__((target(AMX))) static float largest(const float *rest, size_t n) {
    __m512 most = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mine = leading(n - i);
        most = _mm512_max_ps(most, _mm512_maskz_loadu_ps(mine, rest + i));
    }
    return _mm512_reduce_max_ps(most);
}

/* A lower bound comes among the k best in place of the least, which is on top. */
static void raise_best(double *heap, size_t k, double value) {
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < k; at = child) {
        if (child + 1 < k && heap[child + 1] < heap[child]) child++;
        if (!(heap[child] < value)) break;
        heap[at] = heap[child];
    }
    heap[at] = value;
}

static inline int reaches(const state *s, int32_t row, int32_t query, int32_t value) {
    double reach = s->norm[query] * s->rest[row], bar = s->bar[query];
    return !(value + reach + SLACK * (fabs(bar) + reach) + 1 < bar);
}

/* Forgets pairs that no longer reach their bars; 0 if that does not free half of the room. */
static int freed(state *s) {
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++)
        if (reaches(s, s->rows[i], s->which[i], s->values[i])) {
            s->rows[kept] = s->rows[i], s->which[kept] = s->which[i], s->values[kept] = s->values[i];
            kept++;
        }
    s->count = kept;
    return kept <= s->room / 2;
}

/* Writes a pair down, and raises the query's bar. */
static void take(state *s, int32_t row, int32_t query, int32_t value) {
    if (!reaches(s, row, query, value)) return;
    s->rows[s->count] = row, s->which[s->count] = query, s->values[s->count] = value;
    s->count++;
    if (!s->k) return;
    double *heap = s->best + (size_t)query * s->k, lower = value - s->norm[query] * s->rest[row];
    if (!(lower > heap[0])) return;
    raise_best(heap, s->k, lower);
    if (heap[0] - s->gap[query] > s->bar[query]) s->bar[query] = heap[0] - s->gap[query];
}

typedef struct {
    const int8_t *codes, *packed;
    size_t width, n, size;
    const uint8_t *mask;
    int8_t *copies;
    state all; /* with what belongs to all parts, one after another */
    int64_t *counts;
} scanning;

/* Pairs of 16 rows and 64 queries whose products reach a limit; 0 where they are too many. */
__attribute__((target(AMX))) static int select_from(state *s, const int32_t *sums, const int32_t *limit, size_t tiles,
                                                    size_t row, size_t rows, size_t query, const uint8_t *mask) {
    for (size_t r = 0; r < rows; r++) {
        uint64_t over = 0;
        for (size_t tile = 0; tile < tiles; tile++)
            over |= (uint64_t)_mm512_cmpge_epi32_mask(_mm512_load_si512(sums + tile * 256 + r * 16),
                                                      _mm512_load_si512(limit + tile * 16))
                    << (tile * 16);
        if (!over || (mask && !mask[row + r])) continue;
        if (s->count + GROUP > s->room && !freed(s)) return 0;
        for (; over; over &= over - 1) {
            size_t i = (size_t)__builtin_ctzll(over);
            take(s, (int32_t)(row + r), (int32_t)(query + i), sums[i / 16 * 256 + r * 16 + i % 16]);
        }
    }
    return 1;
}

__attribute__((target(AMX))) static void scan(const void *job, size_t part) {
    const scanning *j = job;
    state s = j->all;
    s.bar += part * s.queries, s.best += part * s.queries * s.k;
    s.rows += part * 3 * s.room, s.which = s.rows + s.room, s.values = s.which + s.room;
    size_t steps = (j->width + TILE_BYTES - 1) / TILE_BYTES, stride, end = least(j->n, (part + 1) * j->size);
    int32_t sums[4 * 256] __attribute__((aligned(64))), limit[GROUP] __attribute__((aligned(64)));
    int fits = s.room >= 2 * GROUP;
    tile_config before;
    tiles_begin(&before);
    for (size_t block = part * j->size; block < end && fits; block += BLOCK) {
        size_t stop = least(block + BLOCK, end);
        float worst = largest(s.rest + block, stop - block);
        for (size_t query = 0; query < s.queries && fits; query += GROUP) {
            limits(&s, query, worst, limit);
            size_t tiles = (least(GROUP, s.queries - query) + 15) / 16;
            for (size_t row = block; row < stop && fits; row += TILE_ROWS) {
                const int8_t *a = tile_at(j->codes, j->width, row, end, j->copies + part * steps * TILE, &stride);
                int far = query || row + (AHEAD + 1) * TILE_ROWS > end;
                const int8_t *later = far ? NULL : j->codes + (row + AHEAD * TILE_ROWS) * j->width;
                product(a, stride, steps, j->packed + query * steps * TILE_BYTES, tiles, later, sums);
                fits = select_from(&s, sums, limit, tiles, row, least(TILE_ROWS, stop - row), query, j->mask);
            }
        }
    }
    tiles_end(&before);
    j->counts[part] = fits ? (int64_t)s.count : -1;
}

/* Pairs of n rows and queries that may be among the k best, found by parts of `size` rows: of each part rows, queries and
   products [parts, 3, room], and how many they are, or -1 where they are too many, `counts` [parts]. `bar`
   [parts, queries] says what to reach and is raised, `best` [parts, queries, k] are heaps of -inf at first; k = 0 leaves
   the bars where they are. `mask` [n] (or NULL) says which rows count; `copies` is as for `ce_products`. */
EXPORT void ce_scan(const int8_t *codes, size_t width, size_t n, size_t size, const int8_t *packed, size_t queries,
                    size_t k, const float *rest, const uint8_t *mask, const double *norm, const double *gap, double *bar,
                    double *best, int8_t *copies, size_t room, int32_t *pairs, int64_t *counts) {
    state all = {queries, k, 0, room, rest, norm, gap, bar, best, pairs, NULL, NULL};
    scanning j = {codes, packed, width, n, size, mask, copies, all, counts};
    together(scan, &j, (n + size - 1) / size);
}
