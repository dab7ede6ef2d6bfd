/* Attention of one sequence, each token of which sees all others; all its steps on data that stays in the cache. */
#include "layer.h"
#include "product.h"
#include "vector.h"

#include <math.h>

/* Bytes that `attend` wants for a sequence of so many tokens. */
size_t attend_bytes(size_t tokens, size_t width, int parts) {
    size_t rows = up(tokens, PAIR), columns = up(width, PAIR);
    return (PAIR + rows) * row_bytes(width, parts) + (columns + PAIR) * row_bytes(rows, parts) +
           (rows + columns + 1) * PAIR * sizeof(float);
}

/* Values [n, width], `ld` numbers apart, to tiles of columns, where k is the tokens: pairs of tokens side by side. */
__attribute__((target(AMX))) static void pack_values(const float *v, size_t ld, size_t n, size_t width, int parts, char *out) {
    for (size_t col = 0; col < up(width, PAIR); col += 16) {
        __mmask16 mask = leading(width > col ? width - col : 0);
        char *to = out + col / TILE_ROWS * stripe(n, parts);
        for (size_t row = 0; row < up(n, STEP); row += 2) {
            const float *at = v + row * ld + col;
            __m512 even = row < n ? _mm512_maskz_loadu_ps(mask, at) : _mm512_setzero_ps();
            __m512 odd = row + 1 < n ? _mm512_maskz_loadu_ps(mask, at + ld) : _mm512_setzero_ps();
            char *tile = to + row / STEP * (size_t)parts * TILE + row % STEP / 2 * TILE_BYTES;
            for (int part = 0; part < parts; part++, tile += TILE) {
                __m512i low = _mm512_srli_epi32(part_of(&even, parts), 16);
                _mm512_store_si512(tile, _mm512_or_si512(low, part_of(&odd, parts)));
            }
        }
    }
}

/* Scores [n] of a row to 2^(scale (score - highest)), zero behind; gives the reciprocal of their sum. */
__attribute__((target(AMX))) static float weigh(float *scores, size_t n, size_t padded, float scale) {
    __m512 highest = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps(), by = _mm512_set1_ps(scale);
    for (size_t at = 0; at < n; at += 16)
        highest = _mm512_mask_max_ps(highest, leading(n - at), highest, _mm512_load_ps(scores + at));
    highest = _mm512_set1_ps(_mm512_reduce_max_ps(highest));
    for (size_t at = 0; at < padded; at += 16) {
        __mmask16 mask = leading(n > at ? n - at : 0);
        __m512 value = power(_mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(scores + at), highest), by));
        value = _mm512_maskz_mov_ps(mask, value);
        _mm512_store_ps(scores + at, value);
        sum = _mm512_add_ps(sum, value);
    }
    return 1 / _mm512_reduce_add_ps(sum);
}

/* Queries, keys and values of n tokens, side by side in rows of 3 width heads numbers, to mixed values in rows of
   width heads. */
__attribute__((target(AMX))) void attend(const float *qkv, size_t n, size_t heads, size_t width, int parts, float *out,
                                         char *room) {
    static const float zero[PAIR];
    size_t dim = heads * width, rows = up(n, PAIR), columns = up(width, PAIR), ld = 3 * dim;
    size_t across = stripe(width, parts), along = stripe(n, parts);
    char *queries = room, *keys = queries + PAIR * row_bytes(width, parts), *values = keys + rows * row_bytes(width, parts);
    char *weights = values + columns * row_bytes(n, parts);
    float *scores = (float *)(weights + PAIR * row_bytes(n, parts)), *mixed = scores + PAIR * rows;
    float *shares = mixed + PAIR * columns, scale = (float)(1.4426950408889634 / sqrt((double)width));
    for (size_t head = 0; head < heads; head++) {
        const float *q = qkv + head * width, *k = q + dim, *v = k + dim;
        split(k, 0, ld, n, rows, width, parts, keys);
        for (char *tile = keys; tile < values; tile += TILE) turn(tile);
        pack_values(v, ld, n, width, parts, values);
        for (size_t row = 0; row < n; row += PAIR) {
            size_t here = n - row < PAIR ? n - row : PAIR;
            split(q + row * ld, 0, ld, here, PAIR, width, parts, queries);
            for (size_t col = 0; col < rows; col += PAIR)
                product(queries, across, keys + col / TILE_ROWS * across, across, columns / STEP, parts, zero, 0,
                        scores + col, rows * sizeof(float));
            for (size_t r = 0; r < here; r++) shares[r] = weigh(scores + r * rows, n, rows, scale);
            split(scores, 0, rows, here, PAIR, rows, parts, weights);
            for (size_t col = 0; col < columns; col += PAIR)
                product(weights, along, values + col / TILE_ROWS * along, along, rows / STEP, parts, zero, 0, mixed + col,
                        columns * sizeof(float));
            for (size_t r = 0; r < here; r++)
                for (size_t col = 0; col < width; col += 16) {
                    __mmask16 mask = leading(width - col);
                    __m512 value = _mm512_load_ps(mixed + r * columns + col);
                    _mm512_mask_storeu_ps(out + (row + r) * dim + head * width + col, mask,
                                          _mm512_mul_ps(value, _mm512_set1_ps(shares[r])));
                }
        }
    }
}
