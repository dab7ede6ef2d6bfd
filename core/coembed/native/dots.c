/* One query against int8 rows, by the products of bytes of AVX-512; and which rows reach a bar.

   The instruction multiplies unsigned with signed bytes: a row's are made unsigned by adding 128, and 128 times the sum
   of the query is taken off in the end. All is exact in int32, which may wrap on the way. The query comes in two parts of
   eight bits: reading the rows is what takes the time, so the second costs nothing. */
#define _GNU_SOURCE
#include "native.h"
#include "team.h"

enum { ROWS = 4, AHEAD = 8, LINES = 16 }; /* rows at once; rows of a list fetched ahead, and lines of 64 bytes of a run */

typedef struct {
    const int8_t *codes, *query; /* [., width]; [2][width filled up to 64] */
    size_t width;
    const int64_t *list; /* NULL: a run of rows */
    size_t n, end;
    int32_t less[2]; /* 128 times the sum of each part */
    float scales[2], slope[2], bar;
    const float *tail, *off;
    const uint8_t *mask;
    size_t size; /* rows of a part */
    int64_t *rows;
    float *products, *bounds;
    size_t *counts;
} work;

/* The sums of four vectors. */
__attribute__((target(AVX512))) static inline __m128i sums(__m512i a, __m512i b, __m512i c, __m512i d) {
    __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

static inline const int8_t *row_at(const work *w, size_t at) {
    at = at < w->end ? at : w->end - 1; /* the last stands in for those after it */
    return w->codes + (w->list ? (size_t)w->list[at] : at) * w->width;
}

/* Products of four rows with the query. */
__attribute__((target(AVX512))) static inline __m128 rough(const work *w, size_t at) {
    const int8_t *row[ROWS];
    __m512i high[ROWS], low[ROWS], flip = _mm512_set1_epi8((char)0x80);
    size_t padded = (w->width + 63) / 64 * 64;
    for (int r = 0; r < ROWS; r++) {
        row[r] = row_at(w, at + (size_t)r);
        high[r] = low[r] = _mm512_setzero_si512();
        if (w->list) {
            const int8_t *later = row_at(w, at + AHEAD + (size_t)r);
            for (size_t col = 0; col < w->width; col += 64) _mm_prefetch(later + col, _MM_HINT_T0);
            _mm_prefetch(later + w->width - 1, _MM_HINT_T0);
        }
    }
    if (!w->list)
        for (size_t col = 0; col < ROWS * w->width; col += 64) _mm_prefetch(row[0] + LINES * 64 + col, _MM_HINT_T0);
    for (size_t col = 0; col < padded; col += 64) {
        __mmask64 mask = w->width - col >= 64 ? ~0ull : (1ull << (w->width - col)) - 1;
        __m512i one = _mm512_loadu_si512(w->query + col), two = _mm512_loadu_si512(w->query + padded + col);
        for (int r = 0; r < ROWS; r++) {
            __m512i bytes = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, row[r] + col), flip);
            high[r] = _mm512_dpbusd_epi32(high[r], bytes, one);
            low[r] = _mm512_dpbusd_epi32(low[r], bytes, two);
        }
    }
    __m128i one = _mm_sub_epi32(sums(high[0], high[1], high[2], high[3]), _mm_set1_epi32(w->less[0]));
    __m128i two = _mm_sub_epi32(sums(low[0], low[1], low[2], low[3]), _mm_set1_epi32(w->less[1]));
    return _mm_add_ps(_mm_mul_ps(_mm_cvtepi32_ps(one), _mm_set1_ps(w->scales[0])),
                      _mm_mul_ps(_mm_cvtepi32_ps(two), _mm_set1_ps(w->scales[1])));
}

/* Numbers of sixteen rows, one after another or as they are listed. */
__attribute__((target(AVX512))) static inline __m512 facts(const float *from, const int64_t *list, size_t at,
                                                          __mmask16 mine) {
    if (!list) return _mm512_maskz_loadu_ps(mine, from + at);
    __m512i low = _mm512_maskz_loadu_epi64((__mmask8)mine, list + at);
    __m512i high = _mm512_maskz_loadu_epi64((__mmask8)(mine >> 8), list + at + 8);
    __m256 zero = _mm256_setzero_ps();
    __m256 first = _mm512_mask_i64gather_ps(zero, (__mmask8)mine, low, from, 4);
    return _mm512_insertf32x8(_mm512_castps256_ps512(first),
                              _mm512_mask_i64gather_ps(zero, (__mmask8)(mine >> 8), high, from, 4), 1);
}

/* Writes the chosen ones of sixteen rows, their products and their bounds one after another, without a branch for each:
   which are chosen nobody can foresee. Returns how many. */
__attribute__((target(AVX512))) static inline size_t write(__mmask16 chosen, size_t at, __m512 value, __m512 upper,
                                                          int64_t *rows, float *products, float *bounds) {
    __m512i low = _mm512_add_epi64(_mm512_set1_epi64((long long)at), _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
    __m512i high = _mm512_add_epi64(low, _mm512_set1_epi64(8));
    unsigned count = (unsigned)__builtin_popcount(chosen), first = (unsigned)__builtin_popcount(chosen & 255);
    __mmask16 filled = (__mmask16)((1u << count) - 1);
    _mm512_mask_storeu_ps(products, filled, _mm512_maskz_compress_ps(chosen, value));
    _mm512_mask_storeu_ps(bounds, filled, _mm512_maskz_compress_ps(chosen, upper));
    _mm512_mask_storeu_epi64(rows, (__mmask8)((1u << first) - 1), _mm512_maskz_compress_epi64((__mmask8)chosen, low));
    _mm512_mask_storeu_epi64(rows + first, (__mmask8)((1u << (count - first)) - 1),
                             _mm512_maskz_compress_epi64((__mmask8)(chosen >> 8), high));
    return count;
}

/* Looks through one part of the rows; what it finds is written from where the part begins. */
__attribute__((target(AVX512))) static void search(const void *job, size_t part) {
    work w = *(const work *)job;
    size_t start = part * w.size, count = start;
    w.end = start + w.size < w.n ? start + w.size : w.n;
    for (size_t at = start; at < w.end; at += 4 * ROWS) {
        float values[4 * ROWS] __attribute__((aligned(64)));
        for (size_t r = 0; r < 4 * ROWS; r += ROWS)
            if (at + r < w.end) _mm_store_ps(values + r, rough(&w, at + r));
        __mmask16 mine = leading(w.end - at);
        __m512 value = _mm512_maskz_load_ps(mine, values), upper = value;
        const float *more[2] = {w.tail, w.off};
        for (int i = 0; i < 2; i++)
            if (more[i])
                upper = _mm512_add_ps(upper, _mm512_mul_ps(facts(more[i], w.list, at, mine), _mm512_set1_ps(w.slope[i])));
        mine = _mm512_mask_cmp_ps_mask(mine, upper, _mm512_set1_ps(w.bar), _CMP_NLT_UQ);
        if (w.mask)
            for (size_t r = 0; r < 16 && at + r < w.end; r++)
                mine &= (__mmask16) ~((unsigned)!w.mask[w.list ? (size_t)w.list[at + r] : at + r] << r);
        count += write(mine, at, value, upper, w.rows + count, w.products + count, w.bounds + count);
    }
    w.counts[part] = count - start;
}

/* n rows, of `list` or, where that is NULL, of codes [., width] themselves, in parts of `size`. Those whose product plus
   tail[row] * slope[0] plus off[row] * slope[1] (tail and off may be NULL) reaches `bar`: where they are among the n,
   their products and those bounds, each [n], what a part has found from where it begins; and how many, `counts` [parts].
   `mask` (or NULL) says which rows of codes count. */
EXPORT void ce_dots(const int8_t *codes, size_t width, const int64_t *list, size_t n, size_t size, const int8_t *query,
                    const float *scales, const float *tail, const float *off, const float *slope, float bar,
                    const uint8_t *mask, int64_t *rows, float *products, float *bounds, size_t *counts) {
    work w = {codes, query, width, list, n, n, {0, 0}, {scales[0], scales[1]}, {slope[0], slope[1]}, bar, tail, off, mask,
              size, rows, products, bounds, counts};
    for (int part = 0; part < 2; part++)
        for (size_t col = 0; col < width; col++)
            w.less[part] += 128 * (int32_t)query[(size_t)part * ((width + 63) / 64 * 64) + col];
    together(search, &w, (n + size - 1) / size);
}
