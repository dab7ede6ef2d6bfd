/* y = x W' + b: weights laid out for the tiles once, then products with any rows. */
#include "product.h"

enum { ROWS = 256, COLUMNS = 256 }; /* taken at once */

/* Bytes that `ce_pack` writes for weights [m, k] in so many parts. */
EXPORT size_t ce_packed_size(size_t m, size_t k, int parts) { return up(m, PAIR) * row_bytes(k, parts); }

/* Weights [m, k], row after row, to tiles [m / 16][k / 32][part] of columns. */
__attribute__((target(AMX))) EXPORT void ce_pack(const void *weights, int half, size_t m, size_t k, int parts, char *out) {
    split(weights, half, k, m, up(m, PAIR), k, parts, out);
    for (char *tile = out; tile < out + ce_packed_size(m, k, parts); tile += TILE) turn(tile);
}

/* Sums [n, some rounded up to 32] to columns of y, whose rows are m wide. */
__attribute__((target(AMX))) static void store(const float *sums, int half, size_t n, size_t some, size_t m, char *y) {
    size_t width = half ? 2 : 4;
    for (size_t row = 0; row < n; row++, y += m * width)
        for (size_t col = 0; col < some; col += PAIR, sums += PAIR) {
            __mmask32 mask = some - col >= PAIR ? ~0u : (1u << (some - col)) - 1;
            __m512 low = _mm512_load_ps(sums), high = _mm512_load_ps(sums + 16);
            if (half) {
                _mm512_mask_storeu_epi16(y + col * 2, mask, (__m512i)_mm512_cvtne2ps_pbh(high, low));
            } else {
                _mm512_mask_storeu_ps(y + col * 4, (__mmask16)mask, low);
                _mm512_mask_storeu_ps(y + col * 4 + TILE_BYTES, (__mmask16)(mask >> 16), high);
            }
        }
}

/* x [n, k] times packed weights [m, k] plus bias [m rounded up to 32], to y [n, m]; x and y are both bfloat16 or both
   float32. Weights are read once for some hundred rows, so a long k is taken in pieces of which that many rows stay in
   the cache; where k is one piece, sums stay there too, of some columns at a time. Returns 0 where memory is short. */
__attribute__((target(AMX))) EXPORT int ce_linear(const void *x, int half, size_t n, size_t k, const char *packed, int parts,
                                                  size_t m, const float *bias, void *y) {
    size_t across = stripe(k, parts), width = half ? 2 : 4, most = up(n < ROWS ? n : ROWS, PAIR);
    size_t piece = FAR / (most * 2 * (size_t)parts) / STEP * STEP, block = piece < k ? m : COLUMNS;
    char *rows = scratch(most * (row_bytes(piece < k ? piece : k, parts) + up(block, PAIR) * sizeof(float)));
    if (!rows) return 0;
    float *sums = (float *)(rows + most * row_bytes(piece < k ? piece : k, parts));
    tile_config before;
    tiles_begin(&before);
    for (size_t start = 0; start < n; start += most) {
        size_t here = n - start < most ? n - start : most, padded = up(here, PAIR);
        for (size_t col = 0; col < m; col += block) {
            size_t wide = m - col < block ? m - col : block;
            for (size_t at = 0; at < k; at += piece) {
                size_t some = k - at < piece ? k - at : piece;
                if (col == 0 || piece < k)
                    split((const char *)x + (start * k + at) * width, half, k, here, padded, some, parts, rows);
                multiply(rows, stripe(some, parts), padded,
                         packed + col / TILE_ROWS * across + at / STEP * (size_t)parts * TILE, across, up(wide, PAIR),
                         up(some, STEP) / STEP, parts, at ? NULL : bias + col, sums, up(wide, PAIR));
            }
            store(sums, half, here, wide, m, (char *)y + (start * m + col) * width);
        }
    }
    tiles_end(&before);
    return 1;
}
