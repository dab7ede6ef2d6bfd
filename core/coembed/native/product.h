/* Products of float32 or bfloat16 matrices on the tiles, which multiply bfloat16 and add in float32.

   A float32 is exactly the sum of three numbers of eight bits each, x = x1 + x2 + x3, and so is a weight. Of the nine
   products of their parts the six with i + j <= 4 are taken; what is left out is below 2^-24 of the product, so that a
   result is as good as float32's own (Henry, Tang and Heinecke 2019, Leveraging the bfloat16 Artificial Intelligence
   Datatype For Higher-Precision Computations, arXiv:1904.06376, section 2). A bfloat16 is one part, and one product.

   Rows are independent of each other and the order of the sums is fixed: a row has the same bits in any batch. */
#pragma once

#include "native.h"

/* Numbers of a row that a tile holds; bytes of split rows kept in the second cache, and of the other side in the first. */
enum { STEP = 32, PAIR = 2 * TILE_ROWS, FAR = 768 << 10, NEAR = 24 << 10 };

static inline size_t up(size_t value, size_t of) { return (value + of - 1) / of * of; }

/* Bytes of one row, or one column, of k numbers in tiles; of sixteen of them, so from one tile of rows to the next. */
static inline size_t row_bytes(size_t k, int parts) { return up(k, STEP) * 2 * (size_t)parts; }
static inline size_t stripe(size_t k, int parts) { return row_bytes(k, parts) * TILE_ROWS; }

/* The next bfloat16 part of sixteen float32, in the upper halves: by cutting, so that every remainder is exact; if there
   is one part, to the nearest, ties to even. */
__attribute__((target(AMX))) static inline __m512i part_of(__m512 *x, int parts) {
    if (parts == 1) return _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(*x)), 16);
    __m512i bits = _mm512_and_si512(_mm512_castps_si512(*x), _mm512_set1_epi32((int)0xffff0000));
    *x = _mm512_sub_ps(*x, _mm512_castsi512_ps(bits));
    return bits;
}

/* Up to 32 numbers of a row to the rows of `parts` tiles that follow each other. */
__attribute__((target(AMX))) static inline void split_step(__m512 low, __m512 high, int parts, char *to) {
    for (int part = 0; part < parts; part++, to += TILE) {
        __m256i first = _mm512_cvtepi32_epi16(_mm512_srli_epi32(part_of(&low, parts), 16));
        __m256i second = _mm512_cvtepi32_epi16(_mm512_srli_epi32(part_of(&high, parts), 16));
        _mm512_store_si512(to, _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1));
    }
}

/* Rows [n, k] of float32 (or bfloat16: half), `ld` numbers apart, to tiles [rows / 16][k / 32][part]; what is beyond n
   or k is zero. */
__attribute__((target(AMX))) static inline void split(const void *x, int half, size_t ld, size_t n, size_t rows, size_t k,
                                                      int parts, char *out) {
    for (size_t row = 0; row < rows; row++) {
        char *to = out + row / TILE_ROWS * stripe(k, parts) + row % TILE_ROWS * TILE_BYTES;
        for (size_t col = 0; col < k; col += STEP, to += parts * TILE) {
            size_t left = row < n ? (k - col < STEP ? k - col : STEP) : 0;
            __mmask32 mask = left == STEP ? ~0u : (1u << left) - 1;
            if (half) {
                _mm512_store_si512(to, _mm512_maskz_loadu_epi16(mask, (const uint16_t *)x + row * ld + col));
                continue;
            }
            const float *from = (const float *)x + row * ld + col;
            __m512 low = _mm512_maskz_loadu_ps((__mmask16)mask, from);
            split_step(low, _mm512_maskz_loadu_ps((__mmask16)(mask >> 16), from + 16), parts, to);
        }
    }
}

/* Tiles of rows to tiles of columns: the instruction wants pairs of numbers along k below each other. */
__attribute__((target(AMX))) static inline void turn(char *tile) {
    uint32_t *at = (uint32_t *)tile;
    __m512i r[16], t[16];
    for (int i = 0; i < 16; i++) r[i] = _mm512_load_si512(at + i * 16);
    for (int i = 0; i < 16; i += 2) t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]), t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + j + 2]);
            r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + j + 2]);
        }
    /* r[4 i + j] holds, in its l-th quarter, column j + 4 l of rows 4 i to 4 i + 3 */
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            _mm_store_si128((__m128i *)(at + j * 16 + 4 * i), _mm512_extracti32x4_epi32(r[4 * i + j], 0));
            _mm_store_si128((__m128i *)(at + (j + 4) * 16 + 4 * i), _mm512_extracti32x4_epi32(r[4 * i + j], 1));
            _mm_store_si128((__m128i *)(at + (j + 8) * 16 + 4 * i), _mm512_extracti32x4_epi32(r[4 * i + j], 2));
            _mm_store_si128((__m128i *)(at + (j + 12) * 16 + 4 * i), _mm512_extracti32x4_epi32(r[4 * i + j], 3));
        }
}

/* Each tile is loaded right before its first use, so that loading goes on beside multiplying. */
#define LOAD(tile, from, part) _tile_loadd(tile, (from) + (part) * TILE, TILE_BYTES);
#define MUL(sum, left, right) _tile_dpbf16ps(sum, left, right);
#define ROWS(part) LOAD(4, a, part) MUL(0, 4, 6) MUL(1, 4, 7) LOAD(5, a + below, part) MUL(2, 5, 6) MUL(3, 5, 7)
#define COLUMNS(part) LOAD(6, b, part) MUL(0, 4, 6) MUL(2, 5, 6) LOAD(7, b + beside, part) MUL(1, 4, 7) MUL(3, 5, 7)

/* Two tiles of rows times two of columns, over some steps along k, added to what lies at `from`, to `to` [32, 32]; both
   are rows of float32, so many bytes apart. A bias is one row: 0 bytes apart. */
__attribute__((target(AMX))) static inline void product(const char *a, size_t below, const char *b, size_t beside,
                                                        size_t steps, int parts, const float *from, size_t apart,
                                                        float *to, size_t bytes) {
    const char *start = (const char *)from;
    _tile_loadd(0, start, apart);
    _tile_loadd(1, start + TILE_BYTES, apart);
    _tile_loadd(2, start + apart * TILE_ROWS, apart);
    _tile_loadd(3, start + apart * TILE_ROWS + TILE_BYTES, apart);
    for (size_t step = 0; step < steps; step++, a += parts * TILE, b += parts * TILE) {
        LOAD(6, b, 0)
        LOAD(7, b + beside, 0)
        ROWS(0)
        if (parts == 1) continue;
        COLUMNS(2)
        COLUMNS(1)
        ROWS(1)
        COLUMNS(0)
        ROWS(2)
    }
    char *end = (char *)to;
    _tile_stored(0, end, bytes);
    _tile_stored(1, end + TILE_BYTES, bytes);
    _tile_stored(2, end + bytes * TILE_ROWS, bytes);
    _tile_stored(3, end + bytes * TILE_ROWS + TILE_BYTES, bytes);
}
#undef LOAD
#undef MUL
#undef ROWS
#undef COLUMNS

/* Rows in tiles times columns in tiles, both of `steps` steps, to out [rows, cols], `ld` numbers apart; rows and cols are
   multiples of 32. With a bias [cols] sums begin there, without one at what is there. */
__attribute__((target(AMX))) static inline void multiply(const char *a, size_t below, size_t rows, const char *b,
                                                         size_t beside, size_t cols, size_t steps, int parts,
                                                         const float *bias, float *out, size_t ld) {
    size_t chunk = NEAR / (2 * (size_t)parts * TILE);
    for (size_t col = 0; col < cols; col += PAIR)
        for (size_t step = 0; step < steps; step += chunk) {
            size_t some = steps - step < chunk ? steps - step : chunk, at = step * (size_t)parts * TILE;
            for (size_t row = 0; row < rows; row += PAIR) {
                float *to = out + row * ld + col;
                int begin = bias && step == 0;
                product(a + row / TILE_ROWS * below + at, below, b + col / TILE_ROWS * beside + at, beside, some, parts,
                        begin ? bias + col : to, begin ? 0 : ld * sizeof(float), to, ld * sizeof(float));
            }
        }
}

/* Memory of this thread, kept between calls: fresh memory costs as much as a product. NULL where there is none. */
char *scratch(size_t bytes);
